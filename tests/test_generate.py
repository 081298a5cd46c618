"""Generation: tiles without seams, one seed per image, files that say they are synthetic, curation, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import squares
from cytoforge.cells.instances import condition
from cytoforge.cli import main
from cytoforge.commands.generate import generate
from cytoforge.commands.score import score_segmentation
from cytoforge.commands.segment import segment
from cytoforge.commands.simulate import simulate_masks
from cytoforge.data.dataset import Dataset
from cytoforge.data.formats import read_mark
from cytoforge.data.images import Normalisation, read_header, read_image, read_labels, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.inference import curation, painting, tiling
from cytoforge.inference.curation import to_drop
from cytoforge.inference.image_generator import item_draw
from cytoforge.inference.load import load_network
from cytoforge.inference.painting import paint
from cytoforge.inference.tiling import smallest_tile
from cytoforge.networks.layers import initialise
from cytoforge.networks.segmentation import UNet
from cytoforge.networks.style_unet import StyleUNet, draw_styles
from cytoforge.settings import GenerateImages, ScoreSegmentation, Segment, SimulateMasks
from cytoforge.training.data import open_data
from cytoforge.training.specification import Data


def random_generator(seed: int = 0, **options: Any) -> StyleUNet:
    """A generator whose output depends visibly on mask, style and noise, in eval mode."""
    network = StyleUNet(**{"width": 4, "depth": 2, **options})
    draw = torch.Generator().manual_seed(seed)
    initialise(network, draw)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "to_noise" in name:
                parameter.copy_(torch.rand(parameter.shape, generator=draw) - 0.5)
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=draw))
        network.eval()
        sample = network(
            torch.ones(1, options.get("in_channels", 1), 32, 32),
            torch.ones(1, network.depth, 128),
            torch.rand((1, 1, 32, 32), generator=draw),
        )
        network.outputs.weight.div_(2 * sample.abs().max())  # paintings vary, but within [-1, 1]: clipping would hide
    return network.eval().requires_grad_(False)


def cells(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Labels of bricks, many of which touch."""
    grid = tuple(-(-side // brick) for side, brick in zip(shape, (11, 13), strict=True))
    ids = np.arange(1, grid[0] * grid[1] + 1, dtype=np.int32).reshape(grid)
    ids *= np.random.default_rng(seed).random(grid) < 0.5
    return np.ascontiguousarray(np.kron(ids, np.ones((11, 13), np.int32))[: shape[0], : shape[1]])


def one_pass(network: StyleUNet, labels: np.ndarray, kind: str, draw: torch.Generator) -> np.ndarray:
    """The published way: one call with a single noise map."""
    styles = draw_styles(1, network.depth, draw)
    noise = torch.rand((1, 1, *labels.shape), generator=draw)
    return network(condition(torch.from_numpy(labels)[None], kind), styles, noise)[0].clamp(-1, 1).numpy()


# ---- painting


@pytest.mark.parametrize(("kind", "channels"), [("mask", 1), ("instances", 3)])
@pytest.mark.parametrize("shape", [(200, 203), (331, 97), (61, 260), (1, 1), (7, 150)])
def test_tiles_equal_one_pass(
    kind: str, channels: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, labels = random_generator(in_channels=channels), cells(shape)
    whole = one_pass(network, labels, kind, item_draw(0, "a", 1))
    np.testing.assert_allclose(paint(network, labels, kind, item_draw(0, "a", 1)), whole, atol=1e-6)
    monkeypatch.setattr(tiling, "EXACT_TILE", smallest_tile(network) + 40)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    tiled = paint(network, labels, kind, item_draw(0, "a", 1), tile=32)
    assert (len(calls) > 1) == (max(shape) > smallest_tile(network) + 40)
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    assert max(shape) < 50 or np.ptp(whole) > 0.1


@given(shape=st.tuples(st.integers(1, 220), st.integers(1, 220)), depth=st.integers(1, 3), extra=st.integers(20, 60))
@settings(max_examples=12)
def test_tiles_of_any_size_equal_one_pass(shape: tuple[int, int], depth: int, extra: int) -> None:
    network, labels = random_generator(depth=depth), cells(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "EXACT_TILE", smallest_tile(network) + extra)
        tiled = paint(network, labels, "mask", item_draw(0, "a", 1), tile=32)
    np.testing.assert_allclose(tiled, one_pass(network, labels, "mask", item_draw(0, "a", 1)), atol=2e-6)


def test_cells_are_added_to_a_window_of_a_background(monkeypatch: pytest.MonkeyPatch) -> None:
    network, labels = random_generator(in_channels=2, residual=True), cells((150, 203))
    bank = [np.random.default_rng(seed).uniform(-0.4, 0.4, (1, 170, 90)).astype(np.float32) for seed in range(3)]
    whole = paint(network, labels, "mask", item_draw(0, "a", 1), bank=bank)
    monkeypatch.setattr(tiling, "EXACT_TILE", smallest_tile(network) + 40)
    tiled = paint(network, labels, "mask", item_draw(0, "a", 1), bank=bank, tile=32)
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    network.outputs.weight.zero_()
    network.outputs.bias.zero_()
    seen = [paint(network, labels, "mask", item_draw(0, "a", k), bank=bank) for k in range(12)]
    for image in seen:  # every row is one of a background, turned or not, and goes on mirrored beyond its edge
        row = image[0, 0]
        assert any(np.isin(row, one).all() for one in bank)
    assert len({image.tobytes() for image in seen}) == 12
    assert {next(k for k, one in enumerate(bank) if np.isin(image, one).all()) for image in seen} == {0, 1, 2}
    with pytest.raises(ValueError, match="adds cells to a background, and there is none"):
        paint(network, labels, "mask", item_draw(0, "a", 1))


def test_noise_cut_from_elsewhere_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, labels = random_generator(), cells((200, 200))
    whole = one_pass(network, labels, "mask", item_draw(0, "a", 1))
    cut = painting.noise_maps
    monkeypatch.setattr(tiling, "EXACT_TILE", smallest_tile(network) + 40)
    monkeypatch.setattr(
        painting, "noise_maps", lambda b, s, noise, shape, corners: cut(b, s, noise, shape, [(0, 0)] * len(corners))
    )
    assert np.abs(paint(network, labels, "mask", item_draw(0, "a", 1), tile=32) - whole).max() > 0.05


def test_group_norm_tiles_fade_into_each_other() -> None:
    network, labels = random_generator(norm="group"), cells((150, 200))
    whole = one_pass(network, labels, "mask", item_draw(0, "a", 1))
    tiled = paint(network, labels, "mask", item_draw(0, "a", 1), tile=96)
    assert tiled.shape == whole.shape
    assert 0 < np.abs(tiled - whole).mean() < 0.5 * whole.std()
    for axis in (1, 2):  # no line of the tiles' grid stands out from the picture's own steps
        steps, own = (np.abs(np.diff(image, axis=axis)).mean(axis=(0, 3 - axis)) for image in (tiled, whole))
        assert steps.max() < 1.5 * own.max()
    np.testing.assert_allclose(paint(network, labels, "mask", item_draw(0, "a", 1), tile=200), whole, atol=1e-6)


def test_only_a_generator_in_eval_mode_paints() -> None:
    with pytest.raises(ValueError, match="an image generator paints, not a UNet"):
        paint(UNet(width=4, depth=2), cells((40, 40)), "mask", item_draw(0, "a", 1))
    with pytest.raises(ValueError, match="training mode"):
        paint(random_generator().train(), cells((40, 40)), "mask", item_draw(0, "a", 1))


# ---- the command


def write_run(path: Path, segmenter: bool = False, scale: float = 1.0, kind: str | None = None, **options: Any) -> Path:
    """A run folder with a random generator, as a training or an import leaves it."""
    described: dict[str, Any] = {"width": 4, "depth": 2, **options}
    networks = {"generator": {"network": "style-unet", **described}}
    config: dict[str, Any] = {"scale": scale, "normalisation": Normalisation().to_json(), "networks": networks}
    if kind is not None:
        config["condition"] = kind
    if segmenter:
        networks["segmenter"] = {"network": "unet", "in_channels": 1, "classes": 2, "width": 4, "depth": 2}
        config |= {"target": "semantic", "tile": 256}
    run = Run.create(path, config)
    run.save_weights("generator", random_generator(**described).state_dict())
    if segmenter:
        run.save_weights("segmenter", UNet(1, 2, 4, 2).state_dict())
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", segmenter=True)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A folder of three masks of different sizes and formats, ids with gaps."""
    for name, shape in {"a.png": (60, 70), "b.png": (64, 48), "c.tif": (41, 55)}.items():
        write_labels(tmp_path / "masks" / name, 3 * cells(shape, len(name) + shape[0]))
    return tmp_path / "masks"


def info_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "dataset.json").read_text()))


def images_of(out: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_image(path) for path in sorted((out / "images").iterdir())}


def settings_of(run: Path, masks: Path, out: Path, **options: Any) -> GenerateImages:
    return GenerateImages(run=run, masks=masks, out=out, threads=1, **options)


def test_a_dataset_with_its_origin_is_written(
    run: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert generate(settings_of(run, masks, out, variants=2, seed=5)) == out
    assert "6 images painted on 3 masks" in capsys.readouterr().out
    dataset = Dataset.open(out).pairs()
    assert [item.name for item in dataset.items] == [f"{name}-v{v}" for name in "abc" for v in (1, 2)]
    info = info_of(out)
    assert info["complete"]
    assert info["scale"] == 1.0
    assert info["synthetic"]["seed"] == 5
    assert info["synthetic"]["fingerprint"] == Run.open(run).fingerprint("generator", ("condition", "scale", "resize"))
    for item in dataset.items:
        assert item.image and item.mask
        source = next(masks.glob(f"{item.name[0]}.*"))
        labels = read_labels(source)
        assert np.array_equal(read_labels(item.mask) > 0, labels > 0)
        assert read_labels(item.mask).max() == np.unique(labels).size - 1
        assert read_header(item.image) == ((1, *labels.shape), np.dtype(np.uint16))
        expected = paint(random_generator(), labels, "mask", item_draw(5, item.name[0], int(item.name[-1])))
        shown = read_image(item.image) / 65535 * 2 - 1
        np.testing.assert_allclose(dataset.read_image(item), shown, atol=1e-6)  # not stretched to percentiles
        np.testing.assert_allclose(shown, expected, atol=2e-5)
        for path in (item.image, item.mask):
            mark = read_mark(path)
            assert mark["synthetic"] is True
            assert mark == {"synthetic": True, **info["synthetic"], **info["files"][item.name]}
        assert info["files"][item.name]["mask"] == item.name[0]


def test_an_image_depends_on_its_own_seed_name_and_variant_only(run: Path, masks: Path, tmp_path: Path) -> None:
    generate(settings_of(run, masks, tmp_path / "all", variants=2))
    generate(settings_of(run, masks / "b.png", tmp_path / "alone", variants=3))
    generate(settings_of(run, masks, tmp_path / "once"))
    generate(settings_of(run, masks, tmp_path / "other", seed=1))
    every, alone = images_of(tmp_path / "all"), images_of(tmp_path / "alone")
    once, other = images_of(tmp_path / "once"), images_of(tmp_path / "other")
    assert np.array_equal(every["b-v1"], alone["b-v1"])
    assert np.array_equal(every["b-v2"], alone["b-v2"])
    assert np.array_equal(every["c-v1"], once["c"])
    pictures = [alone["b-v1"], alone["b-v2"], alone["b-v3"], other["b"]]
    different = [(p != q).mean() for i, p in enumerate(pictures) for q in pictures[:i]]
    assert min(different) > 0.9


@pytest.mark.parametrize(("stated", "factor"), [(None, 0.5), (0.5, 1.0), (0.25, 2.0)])
def test_masks_come_to_the_scale_of_the_run(stated: float | None, factor: float, masks: Path, tmp_path: Path) -> None:
    run, labels = write_run(tmp_path / "run", scale=0.5), read_labels(masks / "a.png")
    write_labels(tmp_path / "data" / "masks" / "a.png", labels)
    if stated is not None:
        (tmp_path / "data" / "dataset.json").write_text(json.dumps({"scale": stated}))
    generate(settings_of(run, tmp_path / "data", tmp_path / "out"))
    written = read_labels(tmp_path / "out" / "masks" / "a.png")
    assert written.shape == tuple(round(side * factor) for side in labels.shape)
    assert read_header(tmp_path / "out" / "images" / "a.png")[0][1:] == written.shape
    assert Dataset.open(tmp_path / "out").scale == 0.5
    (tmp_path / "data" / "dataset.json").write_text('{"scale": 0}')
    with pytest.raises(UserError, match="scale must be a number above 0, not 0"):
        generate(settings_of(run, tmp_path / "data", tmp_path / "again"))


def test_who_reads_at_the_scale_of_the_run_reads_paintings_as_they_are(
    masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", scale=0.5, segmenter=True)
    generate(settings_of(run, masks, tmp_path / "out"))
    data = open_data(Data(path=tmp_path / "out", scale=0.5), seed=0)
    image, labels = data.read(0)
    written = read_labels(tmp_path / "out" / "masks" / f"{data.names[0]}.png")
    assert np.array_equal(labels, written)
    assert image.shape[1:] == written.shape
    shapes = []

    def recorded(network: Any, rows: Any, shape: tuple[int, int], *options: int) -> Any:
        shapes.append(shape)
        return tiling.probability_rows(network, rows, shape, *options)

    monkeypatch.setattr("cytoforge.inference.segmenter.probability_rows", recorded)
    segment(Segment(run, tmp_path / "out", tmp_path / "found", threads=1))
    assert shapes == [read_labels(path).shape for path in sorted((tmp_path / "out" / "masks").iterdir())]


def test_images_beside_the_masks_are_not_looked_at(run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    write_image(tiny_dataset / "images" / "cell_0.png", np.zeros((1, 10, 20), np.uint8))
    generate(settings_of(run, tiny_dataset, tmp_path / "out"))
    assert read_header(tmp_path / "out" / "images" / "cell_0.png")[0] == (1, 64, 64)


def test_generators_of_instances_and_of_other_channels(masks: Path, tmp_path: Path) -> None:
    colour = write_run(tmp_path / "colour", kind="instances", in_channels=3, out_channels=3)
    generate(settings_of(colour, masks, tmp_path / "rgb"))
    assert read_header(tmp_path / "rgb" / "images" / "a.png")[0] == (3, 60, 70)
    two = write_run(tmp_path / "two", out_channels=2)
    generate(settings_of(two, masks, tmp_path / "pair"))
    path = tmp_path / "pair" / "images" / "a.tif"
    assert read_header(path)[0] == (2, 60, 70)
    assert read_mark(path)["mask"] == "a"
    wrong = write_run(tmp_path / "wrong", kind="instances", in_channels=1)
    with pytest.raises(UserError, match="its generator takes 1 channel, which is no condition 'instances'"):
        generate(settings_of(wrong, masks, tmp_path / "no"))


def test_an_interrupted_command_goes_on(
    run: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_of(run, masks, tmp_path / "out")
    generate(settings_of(run, masks, tmp_path / "whole"))
    add = DatasetWriter.add

    def stop_at_b(writer: DatasetWriter, name: str, *content: Any) -> None:
        if name == "b":
            raise KeyboardInterrupt
        add(writer, name, *content)

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "add", stop_at_b)
        with pytest.raises(KeyboardInterrupt):
            generate(config)
    assert not info_of(tmp_path / "out")["complete"]
    first = (tmp_path / "out" / "images" / "a.png").stat()
    for flags, what in (({"seed": 1}, "seed"), ({"keep": 0.5}, "keep or segmenter"), ({"variants": 2}, ".* variants")):
        with pytest.raises(
            UserError, match=f"unfinished work with another {what}; repeat its command to go on with it"
        ):
            generate(settings_of(run, masks, tmp_path / "out", **flags))
    generate(config)
    assert "1 of them made before" in capsys.readouterr().out
    state = (tmp_path / "out" / "images" / "a.png").stat()
    assert (state.st_ino, state.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert info_of(tmp_path / "out") == info_of(tmp_path / "whole")
    for name, image in images_of(tmp_path / "whole").items():
        assert np.array_equal(images_of(tmp_path / "out")[name], image)
    with pytest.raises(UserError, match="holds results already"):
        generate(config)
    generate(settings_of(run, masks, tmp_path / "out", seed=1, overwrite=True))
    assert info_of(tmp_path / "out")["synthetic"]["seed"] == 1


def test_what_does_not_serve_is_refused(run: Path, masks: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = {"scale": 1.0, "normalisation": Normalisation().to_json(), "target": "semantic", "tile": 64}
    plain = Run.create(tmp_path / "plain", {**common, "networks": {"segmenter": {"network": "unet"}}}).path
    with pytest.raises(UserError, match=r"config.json: holds no generator, only segmenter; give a run"):
        generate(settings_of(plain, masks, out))
    with pytest.raises(UserError, match="is no run folder"):
        generate(settings_of(masks, masks, out))
    with pytest.raises(UserError, match=r"nowhere: does not exist"):
        generate(settings_of(run, tmp_path / "nowhere", out))
    write_image(tmp_path / "bare" / "images" / "a.png", np.zeros((1, 40, 40), np.uint8))
    with pytest.raises(UserError, match=r"bare: holds no masks; put them into"):
        generate(settings_of(run, tmp_path / "bare", out))
    with pytest.raises(UserError, match=r"run: holds only .json, .safetensors files; put PNG"):
        generate(settings_of(run, run, out))
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds the masks to paint on; give another --out"):
            generate(settings_of(run, tiny_dataset, tiny_dataset, overwrite=overwrite))
        with pytest.raises(UserError, match="holds images or masks that cytoforge did not write"):
            generate(settings_of(run, masks, tiny_dataset, overwrite=overwrite))
    simulated = simulate_masks(SimulateMasks(out=tmp_path / "simulated", count=1, size="64x64"))
    before = {path: path.stat() for path in sorted(simulated.rglob("*"))}
    with pytest.raises(UserError, match="dataset of another kind, by cytoforge simulate masks; choose another folder"):
        generate(settings_of(run, masks, simulated, overwrite=True))
    assert {path: path.stat() for path in sorted(simulated.rglob("*"))} == before
    with pytest.raises(UserError, match="--segmenter belongs to --keep"):
        settings_of(run, masks, out, segmenter=run)
    assert not out.exists()


# ---- synthetic files are no ground truth


def test_synthetic_files_are_no_truth_wherever_they_are(run: Path, masks: Path, tmp_path: Path) -> None:
    out = generate(settings_of(run, masks, tmp_path / "out"))
    moved = tmp_path / "elsewhere" / "masks"
    moved.parent.mkdir()
    (out / "masks").rename(moved)
    for name in "abc":
        write_labels(tmp_path / "found" / "masks" / f"{name}.png", read_labels(moved / f"{name}.png"))
    for truth in (moved.parent, moved, moved / "b.png"):
        with pytest.raises(UserError, match=r"elsewhere/masks/\w.png: says that these images are synthetic"):
            score_segmentation(ScoreSegmentation(tmp_path / "found", truth))
        found = tmp_path / "found" if truth.is_dir() else tmp_path / "found" / "masks" / "b.png"
        scores = score_segmentation(ScoreSegmentation(found, truth, allow_synthetic=True))
        assert scores.mean["f_score"][0].value == 1
    # the mask it was painted on is annotation as ever
    score_segmentation(ScoreSegmentation(tmp_path / "found", masks))


def test_marks_survive_and_change_no_pixel(tmp_path: Path) -> None:
    mark = {"synthetic": True, "mask": 'a "ü" \\ b', "seed": 7}
    labels = squares()
    for suffix in (".png", ".tif"):
        for image in (np.arange(1200, dtype=np.uint16).reshape(1, 30, 40), np.full((3, 9, 7), 200, np.uint8)):
            write_image(tmp_path / f"marked{suffix}", image, mark)
            write_image(tmp_path / f"plain{suffix}", image)
            assert np.array_equal(read_image(tmp_path / f"marked{suffix}"), image)
            assert read_mark(tmp_path / f"marked{suffix}") == mark
            assert read_mark(tmp_path / f"plain{suffix}") == {}
        write_labels(tmp_path / f"labels{suffix}", labels, mark)
        assert np.array_equal(read_labels(tmp_path / f"labels{suffix}"), labels)
        assert read_mark(tmp_path / f"labels{suffix}") == mark
        (tmp_path / f"damaged{suffix}").write_bytes(b"no image at all")
        with pytest.raises(UserError, match="cannot be read"):
            read_mark(tmp_path / f"damaged{suffix}")
    assert read_mark(tmp_path / "folder.zarr") == {}


def test_a_marked_png_is_read_by_others(tmp_path: Path) -> None:
    from PIL import Image

    write_image(tmp_path / "a.png", np.full((1, 5, 6), 40000, np.uint16), {"synthetic": True})
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["cytoforge"]) == {"synthetic": True}  # type: ignore[attr-defined]
        assert np.asarray(image).tolist() == [[40000] * 6] * 5


# ---- curation


def test_what_is_dropped_first() -> None:
    faithfulness = {"a": 0.9, "b": 0.2, "c": None, "d": 0.5, "e": 0.9}
    order = ["e", "b", "d", "a", "c"]  # e resembles a; c has no cells to miss
    for keep, count in ((1.0, 0), (0.9, 1), (0.8, 1), (0.6, 2), (0.4, 3), (0.01, 4)):
        assert to_drop(faithfulness, {"e": "a"}, keep) == order[:count]


class Seer(torch.nn.Module):
    """A segmenter that sees a cell wherever the image is bright."""

    receptive_radius, stride = 0, 1

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([-10 * image, 10 * image], dim=1)


def test_the_faithful_and_different_images_are_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = squares((64, 64))
    for name in ("a", "b", "c", "d"):
        write_labels(tmp_path / "masks" / f"{name}.png", labels)

    def painted(network: Any, cells: np.ndarray, kind: str, draw: torch.Generator, **options: Any) -> np.ndarray:
        """Bright cells, of which a share is missing, on a ground with a few patches or none, and a little noise."""
        patches = np.kron(torch.rand((4, 4), generator=draw).numpy(), np.ones((16, 16))) * next(patchy)
        noise = 0.1 * torch.rand(cells.shape, generator=draw).numpy()
        return np.where((cells > 0) & (cells <= next(shares)), 0.8, -0.8 + patches + noise).astype(np.float32)[None]

    def inputs() -> tuple[Any, Any]:
        #     a-v1 a-v2 b-v1 b-v2 c-v1 c-v2 d-v1 d-v2
        return iter([16, 16, 12, 16, 16, 16, 4, 15]), iter([0.4, 0.4, 0.4, 0.4, 0, 0, 0.4, 0.4])

    monkeypatch.setattr("cytoforge.inference.image_generator.paint", painted)
    networks = {"segmenter": Seer().eval(), "generator": load_network(run, "generator")}
    monkeypatch.setattr("cytoforge.inference.load.load_network", lambda run, name, device: networks[name])
    results = []
    for out in (tmp_path / "one", tmp_path / "two"):
        shares, patchy = inputs()
        generate(settings_of(run, tmp_path / "masks", out, variants=2, keep=0.625))
        results.append((info_of(out), sorted(images_of(out))))
    assert "8 images painted on 4 masks, 3 of them dropped" in capsys.readouterr().out
    info, left = results[0]
    assert results[1] == results[0]
    assert info["curation"]["near_duplicates"] == {"c-v2": "c-v1"}
    assert info["curation"]["dropped"] == ["c-v2", "d-v1", "b-v1"]
    shares_found = info["curation"]["faithfulness"]
    assert shares_found == {
        "a-v1": 1, "a-v2": 1, "b-v1": 12 / 16, "b-v2": 1, "c-v1": 1, "c-v2": 1, "d-v1": 4 / 16, "d-v2": 15 / 16
    }  # fmt: skip
    assert left == ["a-v1", "a-v2", "b-v2", "c-v1", "d-v2"]
    assert [item.name for item in Dataset.open(tmp_path / "one").pairs().items] == left


def test_curation_needs_a_segmenter_that_suits(run: Path, masks: Path, tmp_path: Path) -> None:
    blind = write_run(tmp_path / "blind", out_channels=3)
    with pytest.raises(UserError, match="blind: holds no segmenter to look at the images; give one with --segmenter"):
        generate(settings_of(blind, masks, tmp_path / "out", keep=0.9))
    with pytest.raises(UserError, match="its images have 3 channels, the segmenter was trained on 1"):
        generate(settings_of(blind, masks, tmp_path / "out", keep=0.9, segmenter=run))
    generate(settings_of(run, masks, tmp_path / "measured", keep=1.0))  # the run's own, at random
    assert len(info_of(tmp_path / "measured")["curation"]["faithfulness"]) == 3
    assert info_of(tmp_path / "measured")["curation"]["dropped"] == []


def test_faithfulness_is_the_share_of_connected_cells_and_none_without_any(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((60, 70), np.int32)
    labels[5:20, 5:15], labels[5:20, 15:25], labels[40:50, 40:60] = 1, 2, 3  # the first two touch
    write_labels(tmp_path / "masks" / "cells.png", labels)
    write_labels(tmp_path / "masks" / "empty.png", np.zeros((60, 70), np.int32))
    monkeypatch.setattr(curation, "segment_array", lambda *_: np.where(labels < 3, labels, 0))
    generate(settings_of(run, tmp_path / "masks", tmp_path / "out", keep=1.0))  # whose target is semantic
    assert info_of(tmp_path / "out")["curation"]["faithfulness"] == {"cells": 0.5, "empty": None}


def test_curation_looks_at_the_scale_of_the_segmenter(masks: Path, tmp_path: Path, monkeypatch: Any) -> None:
    fine = write_run(tmp_path / "fine", scale=1.0, segmenter=True)
    coarse = write_run(tmp_path / "coarse", scale=0.5)
    seen = []
    monkeypatch.setattr(
        curation,
        "segment_array",
        lambda n, image, *_: seen.append(image.shape[1:]) or np.zeros(image.shape[1:], np.int32),
    )
    generate(settings_of(coarse, masks / "a.png", tmp_path / "out", keep=1.0, segmenter=fine))
    assert read_header(tmp_path / "out" / "images" / "a.png")[0] == (1, 30, 35)
    assert seen == [(60, 70)]


# ---- from end to end


def test_from_training_to_synthetic_data_on_the_command_line(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    train = ["train", "segmentation", str(tiny_dataset), "--out", run, "--method", "cyclegan", "--preset", "tiny"]
    assert main([*train, "--steps", "2", "--threads", "1"]) == 0
    words = ["generate", "images", run, str(tiny_dataset), "--out", out, "--threads", "1"]
    assert main([*words, "--variants", "2", "--keep", "0.5"]) == 0
    assert f"{out}: 12 images painted on 6 masks, 6 of them dropped" in capsys.readouterr().out
    assert main(words) == 2
    assert "holds results already" in capsys.readouterr().err
    segment(Segment(tmp_path / "run", tmp_path / "out", tmp_path / "found", threads=1))
    assert main(["score", "segmentation", str(tmp_path / "found"), out]) == 2
    assert "synthetic" in capsys.readouterr().err


@pytest.mark.slow
def test_published_weights_paint(masks: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(StyleUNet().state_dict(), tmp_path / "Gen.pth")
    assert main(["import", str(tmp_path / "Gen.pth"), "--network", "style-unet", "--out", str(tmp_path / "gen")]) == 0
    assert generate(settings_of(tmp_path / "gen", masks / "a.png", tmp_path / "out"))
    assert read_header(tmp_path / "out" / "images" / "a.png") == (
        (1, 512, 768),
        np.dtype(np.uint16),
    )  # the size of the published training


def test_binary_masks_are_painted_on_where_cells_are_not_told_apart(tmp_path: Path) -> None:
    numbered = squares()
    write_labels(tmp_path / "masks" / "a.png", np.minimum(numbered, 1))
    generate(settings_of(write_run(tmp_path / "run", kind="mask"), tmp_path / "masks", tmp_path / "out"))
    telling = write_run(tmp_path / "telling", kind="instances", in_channels=3)
    with pytest.raises(UserError, match=r"a\.png: one value \(1\) for .* regions: a binary mask; number the cells"):
        generate(settings_of(telling, tmp_path / "masks", tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    write_labels(tmp_path / "masks" / "a.png", np.where(numbered, 1, 2))
    with pytest.raises(UserError, match="a map of classes"):
        generate(settings_of(tmp_path / "run", tmp_path / "masks", tmp_path / "other"))


def test_masks_without_background_are_refused(run: Path, tmp_path: Path) -> None:
    write_labels(tmp_path / "photographs" / "a.png", np.arange(1, 1025).reshape(32, 32))
    with pytest.raises(UserError, match=r"a\.png: has no background; is it an image"):
        generate(settings_of(run, tmp_path / "photographs", tmp_path / "out"))


def test_variants_of_names_as_long_as_can_be(run: Path, tmp_path: Path) -> None:
    name, out = "a" * 251, tmp_path / "out"
    write_labels(tmp_path / "masks" / f"{name}.png", cells((40, 40)))
    with pytest.raises(UserError, match=r"its name is too long to add -v1 to it; shorten it"):
        generate(settings_of(run, tmp_path / "masks", out, variants=2))
    assert not out.exists()
    generate(settings_of(run, tmp_path / "masks", out))
    assert list(images_of(out)) == [name]
