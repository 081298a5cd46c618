"""The base model that comes with cytoforge: cells found without any annotation, and trainings that start from it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from conftest import squares
from cytoforge.cells.instances import TARGETS, cell_diameters
from cytoforge.cli import main
from cytoforge.commands import train as command
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import read_json, write_json
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.baseline import otsu_watershed
from cytoforge.inference.curation import curate, look
from cytoforge.inference.diameter import OWN, _typical, estimate_diameter
from cytoforge.inference.load import load_network, over_channels
from cytoforge.inference.segment import fitted
from cytoforge.inference.segmenter import Segmenter
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.networks.segmentation import UNet
from cytoforge.places import BASE, RUN, SCRATCH, START, run_folder
from cytoforge.settings import TrainSegmentation
from cytoforge.simulation.forms import draw_cells
from cytoforge.simulation.microscopy import draw_image
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.tasks import segmentation as task
from cytoforge.training.tasks import staged

pytestmark = pytest.mark.usefixtures("short_trainings")

LARGEST_FILE = 8e6
SMALL = ("--preset", "small", "--threads", "1", "--steps", "1", "--set", "batch=1")
"""the shortest training of the network that the base model has"""


def scene(diameter: float, number: int, side: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei in fluorescence that nobody has learned from: image float32 (H, W), labels int32 (H, W)."""
    generator = np.random.default_rng([0xBA5E, number])
    labels = draw_cells("nuclei", (side, side), diameter, generator)
    return draw_image(labels, "nuclear fluorescence", diameter, generator), labels


@pytest.fixture(scope="module")
def base() -> Segmenter:
    return Segmenter.load("base", threads=1)


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three images of nuclei, 18 px across, of different sizes."""
    folder = tmp_path_factory.mktemp("nuclei")
    for number, side in enumerate((192, 192, 150)):
        image, labels = scene(18, number, side)
        write_image(folder / "images" / f"n{number}.tif", image[None])
        write_labels(folder / "masks" / f"n{number}.tif", labels)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of another kind than the base model: it knows no diameter."""
    described = {"network": "unet", "in_channels": 1, "classes": 3, "width": 4, "depth": 2}
    reading = {"scale": 1.0, "tile": 64, "normalisation": {"kind": "percentile", "low": 0.1, "high": 99.9}}
    made = Run.create(tmp_path / "run", {"networks": {"segmenter": described}, "target": "boundary", **reading})
    torch.manual_seed(0)
    made.save_weights("segmenter", UNet(classes=3, width=4, depth=2).state_dict())
    return made.path


def record_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "segment.json").read_text()))


# ---- what is shipped


def test_the_model_is_small_and_says_how_it_is_used() -> None:
    weights = BASE / "weights" / "segmenter.safetensors"
    assert weights.stat().st_size <= LARGEST_FILE
    shipped = Run.open(Path("base"))
    assert shipped.path == BASE and shipped.settings.diameter is not None
    assert {value.dtype for value in shipped.load_weights("segmenter").values()} <= {torch.float16, torch.int64}
    described = shipped.settings.networks["segmenter"]
    assert (described.in_channels, described.classes) == (1, TARGETS[shipped.settings.target].classes)
    assert shipped.provenance["weights"].keys() == {"segmenter", "tracker"} and shipped.provenance["learned_from"]


def test_half_precision_is_widened_on_loading(run: Path) -> None:
    made = Run.open(run)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in made.load_weights("segmenter").items()}
    made.save_weights("segmenter", halves)
    network = load_network(made)
    for name, value in network.state_dict().items():
        assert value.dtype == (torch.float32 if halves[name].is_floating_point() else torch.int64)
        assert torch.equal(value, halves[name].to(value.dtype)), name
    assert network(torch.zeros(1, 1, 32, 32)).dtype == torch.float32
    assert all(value.dtype in (torch.float32, torch.int64) for value in load_network("base").state_dict().values())


def test_a_run_folder_of_the_name_goes_before_the_model(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()  # a folder that is no run
    assert run_folder(Path("base")) == BASE and Segmenter.load("base", threads=1).run == BASE
    (tmp_path / "base").rmdir()
    shutil.copytree(run, tmp_path / "base")
    assert run_folder(Path("base")) == Path("base")
    mine = Segmenter.load("base", threads=1)
    assert mine.diameter is None and mine.fingerprint == Segmenter.load(run, threads=1).fingerprint
    assert run_folder(Path("other/base")) == Path("other/base")


def test_names_stand_for_runs_only_where_they_may(tmp_path: Path) -> None:
    RUN.check(Path("base"))
    START.check(Path("base"))
    START.check(SCRATCH)
    with pytest.raises(UserError, match=r"scratch: is no run .*; give the folder that a training wrote, or base"):
        RUN.check(SCRATCH)
    with pytest.raises(UserError, match=r"is no run .*; give base, scratch, or the folder that a training wrote"):
        START.check(tmp_path)


# ---- cells without annotation


@pytest.mark.parametrize("diameter", [12.0, 18.0, 30.0])
def test_the_diameter_is_estimated_and_most_cells_are_found(base: Segmenter, diameter: float) -> None:
    true, scores, thresholded, looks = [], [], [], []
    for number in range(2):
        image, labels = scene(diameter, 100 + number)
        looks.append(base.normalisation.apply(image[None], base.normalisation.measure(image[None])))
        true.append(cell_diameters(labels))
        scores.append(segmentation_scores(labels, base.segment(image)).f_score[0])
        thresholded.append(segmentation_scores(labels, otsu_watershed(looks[-1])).f_score[0])
    found = base.estimate_diameter(looks)
    assert 0.75 < found / np.median(np.concatenate(true)) < 1.25
    assert np.mean(scores) > 0.5
    assert np.mean(scores) > np.mean(thresholded) - 0.1  # no method for all images loses much to one for such images


def test_cells_of_real_phase_contrast_are_found(base: Segmenter, real_data: Path) -> None:
    """Of a kind that the model has not learned from; a threshold sees halos and shadows there."""
    data = Dataset.open(real_data / "usiigaci" / "val").pairs()
    found, thresholded = [], []
    for item in data.items[:2]:
        labels = data.read_labels(item)
        found.append(segmentation_scores(labels, base.segment(read_image(item.image))).f_score[0])
        thresholded.append(segmentation_scores(labels, otsu_watershed(data.read_image(item))).f_score[0])
    assert np.mean(found) > np.mean(thresholded)


def test_the_command_finds_cells_and_says_how_large_they_are(
    base: Segmenter, nuclei: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["segment", "base", str(nuclei), "--out", str(out), "--threads", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    (sentence,) = (line for line in said if "px across" in line)
    across, least, most = map(int, re.findall(r"\d+", sentence.removeprefix(f"{nuclei}: cells seem to be ")))
    said_so = f"{nuclei}: cells seem to be {across} (by image {least} to {most}) px across; if not, give --diameter"
    assert sentence == said_so and across / 1.5 <= least <= most <= 1.5 * across
    assert said[-1].startswith(f"{out / 'masks'}: 3 masks with ")
    record = record_of(out)
    assert record["scale"] == pytest.approx(base.diameter / across) and record["run"] == str(BASE)
    scores = []
    for number, side in enumerate((192, 192, 150)):
        labels, true = (read_labels(folder / "masks" / f"n{number}.tif") for folder in (out, nuclei))
        assert labels.shape == (side, side) and labels.max() == record["masks"][f"n{number}"]["cells"]
        scores.append(segmentation_scores(true, labels).f_score[0])
    assert np.mean(scores) > 0.5

    again = tmp_path / "again"  # the diameter that was said is that of all
    line = ["segment", "base", str(nuclei), "--threads", "1", "--diameter"]
    assert main([*line, str(across), "--out", str(again)]) == 0
    assert "px across" not in capsys.readouterr().out
    assert record_of(again)["scale"] == record["scale"]
    assert record["own_sizes"] and not record_of(again)["own_sizes"]
    assert all("scale" in mask for mask in record["masks"].values())
    assert not any("scale" in mask for mask in record_of(again)["masks"].values())
    assert main([*line, str(2 * across), "--out", str(out)]) == 2
    assert "another run, other flags or other limits of dataset.json made these masks" in capsys.readouterr().err
    assert main([*line, str(2 * across), "--out", str(tmp_path / "coarse")]) == 0
    assert record_of(tmp_path / "coarse")["scale"] == pytest.approx(base.diameter / across / 2)


def test_each_image_is_brought_to_the_size_of_its_own_cells(base: Segmenter, tmp_path: Path) -> None:
    diameters = (13.0, 18.0, 25.0)
    true = {}
    for diameter in diameters:
        image, true[diameter] = scene(diameter, 100, side=round(14 * diameter))
        write_image(tmp_path / "images" / f"{diameter:g}.tif", image[None])
    line = ["segment", "base", str(tmp_path / "images"), "--threads", "1", "--out"]
    assert main([*line, str(tmp_path / "own")]) == 0
    record = record_of(tmp_path / "own")
    for diameter, labels in true.items():
        own = base.diameter / record["masks"][f"{diameter:g}"]["scale"]
        assert 0.8 < own / _typical(cell_diameters(labels)) < 1.25
    alike = str(round(base.diameter / record["scale"]))
    assert main([*line, str(tmp_path / "alike"), "--diameter", alike]) == 0
    own, together = (
        np.mean(
            [
                segmentation_scores(labels, read_labels(tmp_path / out / "masks" / f"{diameter:g}.tif")).f_score[0]
                for diameter, labels in true.items()
            ]
        )
        for out in ("own", "alike")
    )
    assert own > together


def test_an_image_is_no_more_than_half_larger_or_smaller_than_all(base: Segmenter) -> None:
    image, _ = scene(40.0, 41)
    look = base.normalisation.apply(image[None], base.normalisation.measure(image[None]))
    all_of_them = base.for_cells(16)
    assert all_of_them.for_own_cells(look, base.diameter).scale == pytest.approx(all_of_them.scale / OWN)
    nothing = np.zeros_like(look)
    assert all_of_them.for_own_cells(nothing, base.diameter).scale == all_of_them.scale


def test_other_runs_take_no_diameter(
    run: Path, nuclei: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["segment", str(run), str(nuclei), "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main([*line, "--diameter", "20"]) == 2
    (said,) = capsys.readouterr().err.splitlines()[-1:]
    assert said == f"cytoforge: {run}: its images are all resized alike, as in its training; leave --diameter out"
    assert main(line) == 0
    assert "px across" not in capsys.readouterr().out
    with pytest.raises(UserError, match="resized alike"):
        Segmenter.load(run, threads=1).segment(np.zeros((32, 32)), diameter=20)
    with pytest.raises(ValueError, match="resizes all images alike"):
        Segmenter.load(run, threads=1).estimate_diameter([])


@pytest.mark.parametrize("diameter", [0.0, 1.0, 1e5])
def test_a_diameter_out_of_range_is_refused(base: Segmenter, diameter: float) -> None:
    with pytest.raises(UserError, match=rf"--diameter {diameter:g}: cells are 3 to 8000 px across"):
        base.segment(np.zeros((32, 32)), diameter=diameter)


def test_arrays_are_segmented_as_files_are(base: Segmenter, nuclei: Path, tmp_path: Path) -> None:
    one = nuclei / "images" / "n0.tif"
    assert main(["segment", "base", str(one), "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    array = base.segment(read_image(one)[0])
    np.testing.assert_array_equal(array, read_labels(tmp_path / "out" / "masks" / "n0.tif"))
    assert array.dtype == np.int32 and array.max() > 5


def test_several_channels_are_seen_as_their_mean() -> None:
    base, (image, _) = Segmenter.load("base", precision="float32"), scene(18, 3)
    grey = base.segment(image, diameter=18)
    for channels in (2, 3):
        np.testing.assert_array_equal(base.segment(np.stack([image] * channels, axis=-1), diameter=18) > 0, grey > 0)
    network = over_channels(base.network, 3)
    colours = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(colours), base.network(colours.mean(1, keepdim=True)), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="takes 3 channels itself"):
        over_channels(network, 2)


def test_cells_of_resized_files_are_measured_as_they_are(base: Segmenter, nuclei: Path, tmp_path: Path) -> None:
    """`scale` of dataset.json says how files were resized, and changes nothing of what is in them."""
    halved = shutil.copytree(nuclei, tmp_path / "halved")
    write_json(halved / "dataset.json", {"scale": 0.5})
    for data in (nuclei, halved):
        assert fitted(base, Dataset.open(data).images(), 20).scaling == pytest.approx(base.diameter / 20)
        made = fitted(base, Dataset.open(data).images())
        assert 0.75 < base.diameter / made.scale / 18 < 1.25


def test_a_resized_run_undoes_what_was_done_to_the_files(run: Path, nuclei: Path, tmp_path: Path) -> None:
    halved = shutil.copytree(nuclei, tmp_path / "halved")
    write_json(halved / "dataset.json", {"scale": 0.5})
    segmenter = Segmenter.load(run, threads=1)
    assert fitted(segmenter, Dataset.open(nuclei).images()).scaling == 1
    assert fitted(segmenter, Dataset.open(halved).images()).scaling == 2


def test_the_model_judges_painted_images_at_the_size_of_their_cells(
    base: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = scene(40, 7, 320)
    write_image(tmp_path / "images" / "a.tif", image[None])
    write_labels(tmp_path / "masks" / "a.tif", labels)
    write_json(tmp_path / "dataset.json", {"files": {"a": {"mask": "a"}}})
    scales: list[float] = []

    def watched(dataset: Dataset, item: Item, segmenter: Segmenter) -> tuple[np.ndarray, float | None]:
        scales.append(segmenter.scale)
        return look(dataset, item, segmenter)

    monkeypatch.setattr("cytoforge.inference.curation.look", watched)
    found = curate(Dataset.open(tmp_path), base, 1.0).faithfulness["a"]
    assert found is not None and found > 0.5
    assert 0.75 < base.diameter / scales[0] / np.median(cell_diameters(labels)) < 1.25


def test_images_without_cells_have_none(nuclei: Path, tmp_path: Path) -> None:
    images = shutil.copytree(nuclei / "images", tmp_path / "images")
    write_image(images / "a-black.tif", np.zeros((1, 60, 70), np.uint16))
    assert main(["segment", "base", str(images), "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    assert not read_labels(tmp_path / "out" / "masks" / "a-black.tif").any()
    assert read_labels(tmp_path / "out" / "masks" / "n0.tif").any()
    shutil.rmtree(tmp_path / "out")
    assert main(["segment", "base", str(images / "a-black.tif"), "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    assert record_of(tmp_path / "out")["scale"] == 1  # nothing says how large cells are


# ---- how large cells are


class Sizes(torch.nn.Module):
    """Finds as cells what is brighter than background, and is surest of cells 22 px across."""

    stride, receptive_radius = 1, 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        cell = (image[:, 0] > 0).float()
        labels = TARGETS["boundary"].encode(cell.int())
        sizes = cell_diameters(ndimage.label(cell[0].numpy())[0])
        sure = 4.0 if sizes.size and abs(np.median(sizes) / 22 - 1) < 0.3 else 1.0
        return sure * torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("side", [8, 12, 20, 44])
def test_the_scale_is_found_at_which_cells_are_as_the_network_knows_them(side: int) -> None:
    labels = squares((8 * side, 9 * side), side, 2 * side, side // 2)
    image = np.where(labels > 0, 1, -1).astype(np.float32)[None]
    found = estimate_diameter(Sizes().eval(), TARGETS["boundary"], [image], 22.0, 256)
    assert found == pytest.approx(2 * side / np.sqrt(np.pi), rel=0.15)


def test_too_few_cells_say_nothing() -> None:
    empty = -np.ones((1, 64, 64), np.float32)
    assert estimate_diameter(Sizes().eval(), TARGETS["boundary"], [empty], 22.0, 256) is None
    assert estimate_diameter(Sizes().eval(), TARGETS["boundary"], [], 22.0, 256) is None


def test_the_typical_cell_holds_the_middle_of_the_area() -> None:
    assert _typical(np.array([2.0] * 30 + [20.0] * 3)) == 20  # 120 and 1,200: specks are many, and small
    assert _typical(np.array([10.0, 11.0, 12.0])) == 11
    assert _typical(np.array([7.0])) == 7


# ---- trainings that start from it


def train(data: Path, out: Path, *flags: str) -> int:
    return main(["train", "segmentation", str(data), "--out", str(out), *SMALL, *flags])


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Filled with the weights of each training's segmenter before its first step."""
    found: list[dict[str, torch.Tensor]] = []
    build = Conventional.step

    def watched(self: Conventional, batch: Any, progress: float, update: Any) -> Any:
        found.append({key: value.clone() for key, value in self.segmenter.state_dict().items()})
        return build(self, batch, progress, update)

    monkeypatch.setattr(Conventional, "step", watched)
    return found


def begins_with(weights: dict[str, torch.Tensor], run: str | Path) -> bool:
    network = load_network(run, "segmenter").state_dict()
    return all(torch.equal(weights[name], value) for name, value in network.items())


def test_trainings_start_from_the_base_model_unless_told(
    nuclei: Path, tmp_path: Path, first: list[dict[str, torch.Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, flags in enumerate(((), ("--start", "base"), ("--start", "scratch"), ("--start", str(tmp_path / "2")))):
        assert train(nuclei, tmp_path / f"{number}", *flags) == 0
        said = capsys.readouterr().err
        assert ("starts from the base model\n" in said) == (not flags)
        assert "starts from random weights" not in said and "was trained at" not in said
    assert [begins_with(weights, "base") for weights in first] == [True, True, False, False]
    assert begins_with(first[3], tmp_path / "2")
    stored = [Run.open(tmp_path / f"{number}") for number in range(4)]
    assert [run.config["start"] for run in stored] == ["base", "base", None, str(tmp_path / "2")]
    assert stored[0].provenance["started_from"] == stored[1].provenance["started_from"] is not None
    assert stored[2].provenance["started_from"] is None
    assert stored[0].metrics()[0]["step"] == 0 and stored[2].metrics()[0]["step"] == 1  # the start is validated
    assert stored[0].settings.diameter is None  # as every run it resizes all images alike


def test_few_cells_are_learned_from_in_few_steps_and_the_last_weights_are_kept(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(task, "FEW_STEPS", 2)
    seen: list[dict[str, torch.Tensor]] = []

    def falling(self: Any, averages: dict[str, torch.nn.Module]) -> float:
        seen.append({name: tensor.clone() for name, tensor in averages["segmenter"].state_dict().items()})
        return 1 / len(seen)

    monkeypatch.setattr(task._OnValidation, "score", falling)

    def trained(name: str, *flags: str) -> Run:
        words = ["train", "segmentation", str(nuclei), "--out", str(tmp_path / name), "--threads", "1"]
        assert main([*words, "--set", "batch=1", *flags]) == 0
        return Run.open(tmp_path / name)

    note = "few cells are labelled: training ends after 2 steps; --steps gives it more"
    monkeypatch.setattr(task, "FEW_CELLS", 1000)
    run = trained("few", "--minutes", "1")
    assert note in capsys.readouterr().err
    assert [row["step"] for row in run.metrics()] == [1, 2]  # the start is no rival
    assert run.provenance["verdict"].startswith("Ended after 2 steps: more would learn so few cells by heart")
    assert all(torch.equal(tensor, seen[-1][name]) for name, tensor in run.load_weights("segmenter").items())
    for name, flags in {
        "asked": ("--steps", "5"),
        "alone": ("--start", "scratch", "--minutes", "0.008"),
        "open": ("--until-converged", "--minutes", "0.008"),
    }.items():
        verdict = trained(name, *flags).provenance["verdict"]
        assert note not in capsys.readouterr().err and "by heart" not in verdict
    monkeypatch.setattr(task, "FEW_CELLS", 50)  # there are more
    trained("enough", "--minutes", "0.008")
    assert note not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--preset", "tiny"), "width 16 there, 8 here: use --preset small"),
        (("--norm", "group"), "norm batch there, group here: use --norm batch"),
        (("--target", "boundary"), "target depth there, boundary here: use --target depth"),
        (("--network", "deepsea"), "network unet there, deepsea here: use --network unet"),
    ],
)
def test_where_the_base_model_does_not_fit_the_reason_is_said(
    flags: tuple[str, ...],
    why: str,
    nuclei: Path,
    tmp_path: Path,
    first: list[dict[str, torch.Tensor]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(nuclei, tmp_path / "run", *flags) == 0
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("starts from"))
    assert said == f"starts from random weights, as the base model is another ({why})"
    assert Run.open(tmp_path / "run").config["start"] is None
    assert train(nuclei, tmp_path / "other", *flags, "--start", "base") == 2
    assert f"base: --start needs a segmenter of the same kind; {why}" in capsys.readouterr().err


def test_images_of_several_channels_start_from_it_too(
    nuclei: Path, tmp_path: Path, first: list[dict[str, torch.Tensor]]
) -> None:
    for number in range(3):
        image = read_image(nuclei / "images" / f"n{number}.tif")
        write_image(tmp_path / "data" / "images" / f"n{number}.tif", np.concatenate([image, image / 2, 0 * image]))
        shutil.copytree(nuclei / "masks", tmp_path / "data" / "masks", dirs_exist_ok=True)
    assert train(tmp_path / "data", tmp_path / "run") == 0
    grey = load_network("base").state_dict()
    for name, value in first[0].items():
        if value.shape != grey[name].shape:
            torch.testing.assert_close(value, grey[name].repeat(1, 3, 1, 1) / 3)
        else:
            assert torch.equal(value, grey[name])


def test_a_local_run_named_base_is_started_from(
    run: Path,
    nuclei: Path,
    tmp_path: Path,
    first: list[dict[str, torch.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(nuclei, tmp_path / "base", "--start", "scratch") == 0
    capsys.readouterr()
    assert train(nuclei, tmp_path / "out") == 0
    assert "starts from the run in the folder base\n" in capsys.readouterr().err
    assert begins_with(first[1], tmp_path / "base") and not begins_with(first[1], BASE)
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(run, tmp_path / "base")
    assert train(nuclei, tmp_path / "next", "--start", "base") == 2
    assert (
        "base: --start needs a segmenter of the same kind; target boundary there, depth here" in capsys.readouterr().err
    )


def test_a_local_run_without_a_segmenter_is_no_start(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Run.create(tmp_path / "base", {"scale": 1.0, "networks": {"generator": {"network": "style-unet"}}})
    assert train(nuclei, tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "starts from random weights, as the run in the folder base holds no segmenter\n" in said


def test_both_segmenters_of_two_stages_start_from_the_base_model_if_told_to(
    nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "recognised", lambda *_: 1.0)
    flags = ("--method", "two-stage", "--synthetic-images", "1", "--scale", "0.5", "--limit", "1")
    assert train(nuclei, tmp_path / "run", *flags, "--start", "base") == 0
    run = tmp_path / "run"
    for path in (run, run / "stages" / "first-segmenter"):
        assert Run.open(path).config["start"] == "base" and Run.open(path).provenance["started_from"]
    assert read_json(run / "stages" / "settings.json")["start"] == "base"

    def record(*given: Any) -> None:
        raise UserError(str(given[-1]))

    monkeypatch.setattr(command, "train_two_stage", record)
    with pytest.raises(UserError, match=r"^scratch$"):  # what two stages from the base model are worth is not measured
        command.train_segmentation(TrainSegmentation(data=nuclei, out=tmp_path / "other", method="two-stage"))
