"""Inference: loading networks, tiles without borders, strips without seams, and the command with its files."""

import json
import shutil
import tempfile
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

import cytoforge
from cells import draw
from cytoforge.cells.instances import TARGETS
from cytoforge.cells.labels import pieces_apart
from cytoforge.commands.segment import segment
from cytoforge.data.images import (
    Normalisation,
    encode_labels,
    read_labels,
    resize_image,
    resize_labels,
    write_image,
    write_labels,
)
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference import numbering, standalone, strips
from cytoforge.inference import segment_work as module
from cytoforge.inference.load import InBfloat16, choose_precision, load_network
from cytoforge.inference.numbering import numbered
from cytoforge.inference.row_files import RowFile
from cytoforge.inference.segmenter import Segmenter, segment_array
from cytoforge.inference.strips import Decode, StripDecoder, restored_rows, same_cells
from cytoforge.inference.tiling import axis_tiles, margin, probability_rows, smallest_tile, tile_disagreement
from cytoforge.networks.registry import NETWORKS, SEGMENTERS
from cytoforge.networks.segmentation import UNet
from cytoforge.networks.style_unet import StyleUNet
from cytoforge.settings import Segment

BOUNDARY = TARGETS["boundary"]
HALF = choose_precision("auto", "cpu") == "bfloat16"


class Toy(nn.Module):
    """Reads the classes off the pixels: -1 background, 0 border, 1 interior, averaged over 2 reach + 1 pixels."""

    def __init__(self, reach: int = 0, stride: int = 1, claims: int | None = -1) -> None:
        super().__init__()
        self.reach, self.stride, self.calls = reach, stride, 0
        self.receptive_radius = reach if claims == -1 else claims
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        mean = nn.functional.avg_pool2d(image, 2 * self.reach + 1, 1, self.reach)
        return torch.cat([-12 * (mean - place) ** 2 for place in (-1, 1, 0)], dim=1)


def painted(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """The image (1, H, W) that `Toy` reads labels from, with a little noise: no two pixels tie."""
    classes = BOUNDARY.encode(torch.from_numpy(labels)[None])[0].numpy()
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, labels.shape)
    return (np.array([-1.0, 1.0, 0.0])[classes] + noise).astype(np.float32)[None]


def discs(shape: tuple[int, int], blobs: list[tuple[float, float, float]]) -> np.ndarray:
    """Labels of discs (y, x, radius; y and x as shares of the image), later ones in front; they touch and overlap."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for i, (cy, cx, radius) in enumerate(blobs, 1):
        labels[(y - cy * shape[0]) ** 2 + (x - cx * shape[1]) ** 2 < radius**2] = i
    return labels


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label images are equal but for the numbers of the cells."""
    if ((a > 0) != (b > 0)).any():
        return False
    pairs = np.unique(np.stack([a[a > 0], b[b > 0]]), axis=1)
    return np.unique(pairs[0]).size == pairs.shape[1] == np.unique(pairs[1]).size


def decode_in_strips(
    probabilities: np.ndarray, height: int, edge: int, blocks: list[int], decode: Decode = BOUNDARY.decode
) -> np.ndarray:
    decoder = StripDecoder(decode, height, edge)
    cuts = [cut for cut in accumulate(blocks) if cut < probabilities.shape[1]]
    parts = [strip.labels for strip in decoder.rows(np.split(probabilities, cuts, axis=1))]
    return decoder.table()[np.concatenate(parts)]


def probabilities_of(network: nn.Module, image: np.ndarray, side: int, views: int = 1) -> np.ndarray:
    shape = image.shape[1:]
    return np.concatenate(list(probability_rows(network, lambda a, b: image[:, a:b], shape, side, views)), axis=1)


def random_image(shape: tuple[int, int], channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (channels, *shape)).astype(np.float32)


def random_unet(seed: int = 0, **options: Any) -> UNet:
    torch.manual_seed(seed)
    network = UNet(**{"classes": 3, "width": 4, "depth": 2, **options})
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 2)
    return network.eval()


# ---- tiles


@given(
    length=st.integers(1, 400), side=st.integers(40, 90), reach=st.integers(0, 15), stride=st.sampled_from([1, 2, 4, 8])
)
def test_tiles_cover_every_pixel_once(length: int, side: int, reach: int, stride: int) -> None:
    for network in (Toy(reach, stride), Toy(reach, stride, claims=None)):
        tiles = axis_tiles(network, length, max(side, smallest_tile(network)))
        total = np.zeros(length)
        for tile in tiles:
            total[tile.start : tile.stop] += tile.weight
        np.testing.assert_allclose(total, 1, atol=1e-6)
        if network.receptive_radius is not None:
            assert all((tile.weight[: margin(network)] == 0).all() for tile in tiles[1:])
        else:
            assert len({tile.stop - tile.start for tile in tiles[:-1]}) <= 1
        assert all(tile.start % stride == 0 for tile in tiles)


@pytest.mark.parametrize("reach", [0, 3, 8])
def test_tiles_give_what_one_pass_gives(reach: int) -> None:
    image = np.abs(random_image((150, 97)))
    whole = probabilities_of(Toy(reach, 4), image, 150)
    for side in (40, 64):
        np.testing.assert_allclose(probabilities_of(Toy(reach, 4), image, side), whole, atol=1e-6)
    if reach:  # a network that claims less reach than it has shows its tiles
        assert np.abs(probabilities_of(Toy(reach, 4, claims=0), image, 40) - whole).max() > 0.01


@pytest.mark.parametrize(("shape", "views"), [((200, 203), 1), ((331, 97), 4), ((61, 260), 2)])
def test_batch_norm_unet_does_not_depend_on_the_tile(shape: tuple[int, int], views: int) -> None:
    network, image = random_unet(), random_image(shape)
    least = smallest_tile(network)
    one, other, whole = (
        np.log(probabilities_of(network, image, side, views)) for side in (least + 40, least + 67, max(shape))
    )
    assert network.receptive_radius is not None
    assert least + 67 < max(shape)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(one, whole, atol=1e-5)
    assert tile_disagreement(network, image, least + 40).changed == 0


@pytest.mark.parametrize("kind", sorted(SEGMENTERS))
def test_networks_of_unknown_reach_are_blended_and_measured(kind: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[kind].load()(classes=3, width=4, depth=2, norm="group").eval()
    image = random_image((100, 130))
    assert margin(network) is None
    tiled = probabilities_of(network, image, 64)
    np.testing.assert_allclose(tiled.sum(axis=0), 1, atol=1e-5)
    found = tile_disagreement(network, image, 64)
    whole = probabilities_of(network, image, 130)
    assert found.probability == pytest.approx(np.abs(tiled[0] - whole[0]).mean(), abs=1e-7)
    assert found.probability > 0
    assert 0 <= found.changed <= 1
    assert tile_disagreement(network, image, 130) == (0, 0)  # one tile is one pass


def test_views_are_the_mean_of_mirror_images() -> None:
    network, image = random_unet(), random_image((48, 64))

    def mirrored(axes: tuple[int, ...]) -> np.ndarray:
        return np.flip(probabilities_of(network, np.flip(image, axes).copy(), 64), axes)

    one, across, both, down = (mirrored(axes) for axes in ((), (2,), (1, 2), (1,)))
    assert np.abs(one - across).max() > 1e-3
    np.testing.assert_allclose(probabilities_of(network, image, 64, 2), (one + across) / 2, atol=1e-6)
    four = probabilities_of(network, image, 64, 4)
    np.testing.assert_allclose(four, (one + across + both + down) / 4, atol=1e-6)
    turned = probabilities_of(network, image[:, ::-1].copy(), 64, 4)[:, ::-1]  # an image and its mirror image agree
    np.testing.assert_allclose(turned, four, atol=1e-6)
    with pytest.raises(ValueError, match="1, 2 or 4 views, got 3"):
        probabilities_of(network, image, 64, 3)


def test_bfloat16_is_close_and_exact_in_tiles() -> None:
    network, image = random_unet(), random_image((131, 160))
    half = InBfloat16(network)
    assert (margin(half), smallest_tile(half)) == (margin(network), smallest_tile(network))
    whole = probabilities_of(half, image, 160)
    assert whole.dtype == np.float32
    difference = np.abs(whole - probabilities_of(network, image, 160)).max()
    assert 1e-6 < difference < 0.02
    np.testing.assert_allclose(probabilities_of(half, image, smallest_tile(half) + 32), whole, atol=1e-6)
    with pytest.raises(UserError, match="precision='half': takes auto, float32, bfloat16"):
        Segmenter.load("base", precision="half")


def test_small_images_take_one_pass() -> None:
    network = Toy(2, 4, claims=None)
    segment_array(network, painted(discs((90, 70), [(0.5, 0.5, 20)])), BOUNDARY, 96)
    assert network.calls == 1
    exact = Toy(2, 4)  # its tile may grow, as that changes nothing
    segment_array(exact, painted(discs((90, 70), [(0.5, 0.5, 20)])), BOUNDARY, 32)
    assert exact.calls == 1


def test_wrong_use_of_tiles_is_refused() -> None:
    with pytest.raises(ValueError, match="training mode"):
        segment_array(Toy().train(), random_image((8, 8)), BOUNDARY, 64)
    with pytest.raises(ValueError, match="tiles of 20 px are too small: this network needs 28 px"):
        axis_tiles(Toy(9, 4), 200, 20)


# ---- strips


@given(
    shape=st.tuples(st.integers(20, 160), st.integers(10, 60)),
    blobs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(2, 45)), min_size=1, max_size=25),
    reach=st.integers(0, 1),
    edge=st.sampled_from([16, 20]),
    height=st.integers(20, 70),
    blocks=st.lists(st.integers(1, 60), min_size=1, max_size=12),
)
@settings(max_examples=60)
def test_strips_give_what_the_whole_image_gives(
    shape: tuple[int, int],
    blobs: list[tuple[float, float, float]],
    reach: int,
    edge: int,
    height: int,
    blocks: list[int],
) -> None:
    image = painted(discs(shape, blobs))
    probabilities = probabilities_of(Toy(reach), image, 200)
    assert same_partition(decode_in_strips(probabilities, height, edge, blocks), BOUNDARY.decode(probabilities))


@given(
    shape=st.tuples(st.integers(20, 160), st.integers(10, 60)),
    blobs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(2, 45)), min_size=1, max_size=25),
    height=st.integers(20, 70),
    blocks=st.lists(st.integers(1, 60), min_size=1, max_size=12),
)
@settings(max_examples=40)
def test_strips_of_depths_give_what_the_whole_image_gives(
    shape: tuple[int, int], blobs: list[tuple[float, float, float]], height: int, blocks: list[int]
) -> None:
    depth = TARGETS["depth"]
    classes = depth.encode(torch.from_numpy(discs(shape, blobs))[None])[0].numpy()
    noise = np.random.default_rng(0).uniform(0, 0.1, (5, *shape))
    probabilities = np.eye(5)[classes].transpose(2, 0, 1) + noise
    probabilities = (probabilities / probabilities.sum(axis=0)).astype(np.float32)
    in_strips = decode_in_strips(probabilities, height, 16, blocks, depth.decode)
    assert same_partition(in_strips, depth.decode(probabilities))


def test_a_cell_larger_than_many_strips_stays_one() -> None:
    probabilities = probabilities_of(Toy(), painted(discs((300, 60), [(0.02, 0.1, 9), (0.5, 0.5, 140)])), 400)
    labels = decode_in_strips(probabilities, 20, 16, [7] * 50)
    assert same_partition(labels, BOUNDARY.decode(probabilities))
    assert np.unique(labels).size == 3  # background and two cells


@pytest.mark.parametrize("joined", ["top", "bottom"])
def test_arms_that_meet_beyond_many_strips_are_one_cell(joined: str) -> None:
    labels = np.zeros((240, 70), np.int32)
    for left in (2, 16, 30):  # a comb of three teeth, close to a cell of its own
        labels[10:230, left : left + 11] = 1
    labels[slice(10, 24) if joined == "top" else slice(216, 230), 2:41] = 1
    labels[40:200, 41:60] = 2
    probabilities = probabilities_of(Toy(), painted(labels), 300)
    assert same_partition(BOUNDARY.decode(probabilities), labels)
    assert same_partition(decode_in_strips(probabilities, 24, 16, [11] * 30), labels)


SEEN_ABOVE_AND_BELOW = {
    # what the strips above and below made of the same eight rows, and which pieces are one cell
    "one cell": ("AAAA.... " * 8, "CCCC.... " * 8, {("A", "C")}),
    "two touching cells": ("AAAABBBB " * 8, "CCCCDDDD " * 8, {("A", "C"), ("B", "D")}),
    "a contact seen one pixel apart": ("AAAABBBB " * 8, "CCCDDDDD " * 8, {("A", "C"), ("B", "D")}),
    "arms that meet below": ("AAA..BBB " * 8, "CCC..CCC " * 6 + "CCCCCCCC " * 2, {("A", "C"), ("B", "C")}),
    "arms that meet above": ("AAAAAAAA " * 2 + "AAA..AAA " * 6, "CCC..DDD " * 8, {("A", "C"), ("A", "D")}),
    "a cell above, of which only border is in sight below": (
        "AAAAAAAA " * 2 + "BBBBBBBB " * 6,
        "CCCCCCCC " * 8,
        {("B", "C")},
    ),
    "the same with a thin arm": ("AAAAAAAA " * 2 + "AABBBBBB " * 2 + "BBBBBBBB " * 4, "CCCCCCCC " * 8, {("B", "C")}),
    "seen by one strip only": ("AAAA.... " * 8, "........ " * 8, set()),
    "a corner in common": ("AAAAA... " * 8, "....DDDD " * 8, set()),
    "nothing": ("........ " * 8, "........ " * 8, set()),
}


@pytest.mark.parametrize("case", SEEN_ABOVE_AND_BELOW)
def test_pieces_of_one_cell_are_recognised(case: str) -> None:
    above, below, expected = SEEN_ABOVE_AND_BELOW[case]
    found = {("ABCD"[i - 1], "ABCD"[j - 1]) for i, j in same_cells(draw(above), draw(below))}
    assert found == expected


def test_strips_lower_than_their_margin_are_refused() -> None:
    with pytest.raises(ValueError, match="strips of 10 rows cannot have a margin of 16"):
        StripDecoder(BOUNDARY.decode, 10, 16)


# ---- back to the size of the image


def pair(labels: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and foreground probability of a smaller size, as a network would see the cells there."""
    foreground = resize_image((labels > 0).astype(np.float32)[None], shape)[0]
    small = resize_labels(labels, shape)
    return np.where(foreground > 0.5, small, 0), foreground


def restore(small: np.ndarray, foreground: np.ndarray, shape: tuple[int, int], cuts: list[int]) -> np.ndarray:
    ends = [0, *sorted({cut for cut in cuts if 0 < cut < shape[0]}), shape[0]]

    def read(top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        return small[top:bottom], foreground[top:bottom]

    return np.concatenate([restored_rows(read, small.shape, shape, rows) for rows in pairwise(ends)])


@given(cuts=st.lists(st.integers(1, 149), max_size=6), scale=st.floats(0.2, 2.5))
@settings(max_examples=25)
def test_restored_rows_do_not_depend_on_the_strip(cuts: list[int], scale: float) -> None:
    labels = discs((150, 91), [(0.3, 0.3, 20), (0.5, 0.6, 25), (0.9, 0.2, 15)])
    small, foreground = pair(labels, (round(150 * scale), round(91 * scale)))
    whole = restore(small, foreground, labels.shape, [])
    np.testing.assert_array_equal(restore(small, foreground, labels.shape, cuts), whole)
    assert set(np.unique(whole)) == {0, 1, 2, 3}


def test_restored_outlines_are_smooth_and_touching_cells_stay_apart() -> None:
    labels = discs((180, 180), [(0.35, 0.4, 40), (0.6, 0.55, 42)])
    small, foreground = pair(labels, (60, 60))
    restored = restore(small, foreground, labels.shape, [])
    blocky = small.repeat(3, axis=0).repeat(3, axis=1)

    def iou(found: np.ndarray, cell: int) -> float:
        return float(((found == cell) & (labels == cell)).sum() / ((found == cell) | (labels == cell)).sum())

    for cell in (1, 2):
        assert iou(restored, cell) > 0.985 > 0.975 > iou(blocky, cell)


PIECES = draw("""
    AAA..BB.
    AA.....B
    ..AA.B..
    C.......
    ..CCC.AA
    ......AA
    D.D.D.AA
    """)
IN_ONE_PIECE = draw("""
    AAA..BB.
    AA.....B
    ..AA....
    ........
    ..CCC.DD
    ......DD
    E.....DD
    """)


@pytest.mark.parametrize("strip", [1, 2, 3, 7])
def test_cells_in_pieces_become_one_or_several(strip: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corners join. Of cell 1 the second piece is large enough to be a cell; of others, and of equal ones, the first
    largest stays, however small."""
    monkeypatch.setattr(numbering, "STRIP_PIXELS", strip * PIECES.shape[1])
    found, count = numbered(lambda top, bottom: PIECES[top:bottom], PIECES.shape, 4, tmp_path)
    with found:
        np.testing.assert_array_equal(found.rows(0, found.height), IN_ONE_PIECE)
    assert count == 5


@given(seed=st.integers(0, 2**32 - 1), strip=st.integers(1, 41), least=st.floats(0, 30), ids=st.integers(1, 20))
@settings(max_examples=60)
def test_pieces_do_not_depend_on_the_strip(seed: int, strip: int, least: float, ids: int) -> None:
    """The same as by whole cells, one after another."""
    rng = np.random.default_rng(seed)
    near = ndimage.gaussian_filter(rng.random((40, 33)), rng.choice([0, 1, 2]))
    torn = (rng.permutation(ids + 1)[(near.argsort(axis=None).argsort() * (ids + 1) // near.size)]).reshape(near.shape)
    torn = torn.astype(np.int32)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbering, "STRIP_PIXELS", strip * torn.shape[1])
        rows, count = numbered(lambda top, bottom: torn[top:bottom], torn.shape, least, Path(folder))
        with rows:
            found = rows.rows(0, rows.height)
        np.testing.assert_array_equal(found, standalone.in_one_piece(torn, least))
        assert count == found.max()
        assert not any(pieces_apart(found, 0)[1:])


# ---- networks of a run


def write_run(path: Path, network: nn.Module | None = None, name: str = "segmenter", **changes: Any) -> Path:
    """A run folder with a random network, as a training leaves it."""
    config = {
        "command": "train segmentation",
        "networks": {name: {"network": "unet", "in_channels": 1, "classes": 3, "width": 4, "depth": 2}},
        "target": "boundary",
        "scale": 1.0,
        "normalisation": Normalisation("min-max").to_json(),
        "tile": 64,
    }
    run = Run.create(path, config | changes)
    run.save_weights(name, (network or random_unet()).state_dict())
    return path


def test_networks_come_back_as_they_were_saved(tmp_path: Path) -> None:
    network, image = random_unet(seed=3), torch.from_numpy(random_image((40, 50)))[None]
    loaded = load_network(write_run(tmp_path / "run", network))
    assert not loaded.training
    torch.testing.assert_close(loaded(image), network(image), rtol=0, atol=0)
    assert load_network(str(tmp_path / "run"), "segmenter").state_dict().keys() == network.state_dict().keys()
    described = {"generator": {"network": "style-unet", "width": 4, "depth": 2}}
    generator = StyleUNet(width=4, depth=2)
    run = write_run(tmp_path / "other", generator, "generator", networks=described)
    assert isinstance(load_network(run), StyleUNet)


def test_networks_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"config.json: holds no generator, only segmenter"):
        load_network(run, "generator")
    with pytest.raises(UserError, match="is no run folder"):
        load_network(tmp_path)

    def changed(**options: Any) -> Path:
        shutil.rmtree(tmp_path / "run")
        described = {"network": "unet", "classes": 3, "width": 4, "depth": 2, **options}
        return write_run(tmp_path / "run", networks={"segmenter": described})

    with pytest.raises(UserError, match="the weights of the segmenter do not fit"):
        load_network(changed(width=8))
    with pytest.raises(UserError, match="unknown kind 'resnet'"):
        load_network(changed(network="resnet"))
    with pytest.raises(UserError, match="describes no valid segmenter"):
        load_network(changed(colour=3))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UserError, match="neither segmenter nor generator, only judge"):
        load_network(write_run(tmp_path / "run", name="judge"))


def test_public_names() -> None:
    # that importing cytoforge alone brings no torch is tested with the architecture
    assert cytoforge.load_network is load_network
    assert cytoforge.Segmenter is Segmenter
    models = {"Segmenter", "ImageGenerator", "MovieGenerator", "Tracker"}
    assert set(cytoforge.__all__) >= {"load_network", *models}
    assert all(callable(getattr(cytoforge, name).load) for name in models)
    assert all(hasattr(cytoforge, name) for name in cytoforge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = cytoforge.magic


# ---- the command


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Lets every run's segmenter be one `Toy`, whose masks are known."""
    network = Toy()
    monkeypatch.setattr("cytoforge.inference.load.load_network", lambda run, name, device: network)
    return network


CELLS = discs((90, 75), [(0.2, 0.3, 14), (0.45, 0.45, 13), (0.8, 0.7, 17)])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images of the same cells: 8-bit PNG, 16-bit PNG, float TIFF with a NaN-free background."""
    grey = painted(CELLS)
    write_image(tmp_path / "images" / "a.png", (grey * 100 + 120).astype(np.uint8))
    write_image(tmp_path / "images" / "b.png", (grey * 10000 + 12000).astype(np.uint16))
    write_image(tmp_path / "images" / "c.tif", grey)
    return tmp_path / "images"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def record_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "segment.json").read_text())


def test_limits_of_a_dataset_hold_for_its_masks(toy: Toy, run: Path, tmp_path: Path) -> None:
    """Grey values 0 to 240 of cells at 20 to 220: with the image's own limits interiors are what `Toy` wants."""
    grey = painted(CELLS)[:, :, :40]
    write_image(tmp_path / "data" / "images" / "a.png", np.clip(grey * 50 + 120, 60, 180).astype(np.uint8))
    write_image(tmp_path / "data" / "images" / "flat.png", np.full((1, 40, 40), 200, np.uint8))
    found = {}
    for name, limits in (("own", None), ("wide", [60, 10000]), ("same", [60, 180])):
        (tmp_path / "data" / "dataset.json").write_text(json.dumps({"limits": limits} if limits else {}))
        segment(Segment(run, tmp_path / "data", tmp_path / name, threads=1))
        found[name] = read_labels(tmp_path / name / "masks" / "a.png")
        assert record_of(tmp_path / name)["limits"] == limits
        assert not read_labels(tmp_path / name / "masks" / "flat.png").any()
    assert same_partition(found["own"], CELLS[:, :40])
    np.testing.assert_array_equal(found["same"], found["own"])
    assert not found["wide"].any()  # all but black between such limits
    with pytest.raises(UserError, match=r"other limits of dataset\.json made these masks"):
        segment(Segment(run, tmp_path / "data", tmp_path / "own", threads=1))


def test_what_is_not_segmented_is_said(
    toy: Toy, run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("d.gif", "e.gif", "Thumbs.db"):
        (images / name).write_bytes(b"x")
    segment(Segment(run, images, tmp_path / "out", threads=1))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{images}: left out 2 .gif files (d.gif, e.gif); convert them to PNG or TIFF"
    assert said[1].endswith("3 masks with 9 cells")
    assert len(said) == 2


def test_masks_have_the_names_and_sizes_of_the_images(
    toy: Toy, run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(Segment(run, images, tmp_path / "out", threads=1)) == tmp_path / "out"
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "b.png", "c.tif"]
    for path in (tmp_path / "out" / "masks").iterdir():
        labels = read_labels(path)
        assert same_partition(labels, CELLS)
        assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert "3 masks with 9 cells" in capsys.readouterr().out
    record = record_of(tmp_path / "out")
    assert record["finished"]
    assert record["tile_disagreement"] is None
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_strips_and_tiles_of_the_command_leave_no_seam(
    toy: Toy, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    labels = discs((700, 120), [(*rng.uniform(0, 1, 2), rng.uniform(4, 40)) for _ in range(80)])
    write_image(tmp_path / "tall.tif", painted(labels))
    assert segment(Segment(run, tmp_path / "tall.tif", tmp_path / "whole", threads=1))
    whole, calls = read_labels(tmp_path / "whole" / "masks" / "tall.tif"), toy.calls
    monkeypatch.setattr(strips, "STRIP_PIXELS", 1)
    monkeypatch.setattr(strips, "LEAST_STRIP", 90)
    segment(Segment(run, tmp_path / "tall.tif", tmp_path / "strips", tile=64, threads=1))
    assert toy.calls > 2 * calls
    found = read_labels(tmp_path / "strips" / "masks" / "tall.tif")
    assert same_partition(found, whole)
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1))


@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_masks_come_back_at_the_size_of_the_image(
    scale: float, toy: Toy, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "STRIP_PIXELS", 1)
    monkeypatch.setattr(strips, "LEAST_STRIP", 64)
    run = write_run(tmp_path / "scaled", scale=scale)
    segment(Segment(run, images / "c.tif", tmp_path / "out", threads=1))
    labels = read_labels(tmp_path / "out" / "masks" / "c.tif")
    assert labels.shape == CELLS.shape
    assert labels.max() == 3
    assert ((labels > 0) == (CELLS > 0)).mean() > 0.97


def test_a_black_image_has_no_cells(run: Path, tmp_path: Path) -> None:
    for name, image in {
        "zero": np.zeros((1, 50, 70), np.uint16),
        "flat": np.full((1, 50, 70), 7.5, np.float32),
    }.items():
        write_image(tmp_path / "dark" / f"{name}.tif", image)
    segment(Segment(run, tmp_path / "dark", tmp_path / "out", threads=1))
    for name in ("zero", "flat"):
        labels = read_labels(tmp_path / "out" / "masks" / f"{name}.tif")
        assert labels.shape == (50, 70)
        assert labels.max() == 0


def test_an_interrupted_command_goes_on(
    toy: Toy, run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Segment(run, images, tmp_path / "out", threads=1, views=1)

    def stop_at_b(path: Path, labels: np.ndarray) -> bytes:
        if path.stem == "b":
            raise KeyboardInterrupt
        return encode_labels(path, labels)

    with monkeypatch.context() as patch:
        patch.setattr(module, "encode_labels", stop_at_b)
        with pytest.raises(KeyboardInterrupt):
            segment(config)
    assert not record_of(tmp_path / "out")["finished"]
    assert not (tmp_path / "out" / ".unfinished").exists()
    first = (tmp_path / "out" / "masks" / "a.png").stat().st_mtime_ns
    before = toy.calls
    segment(config)
    assert toy.calls == before + 2  # b and c
    assert (tmp_path / "out" / "masks" / "a.png").stat().st_mtime_ns == first
    segment(config)
    assert toy.calls == before + 2
    (tmp_path / "out" / "masks" / "c.tif").unlink()
    segment(config)
    assert toy.calls == before + 3
    # told to overwrite: from the start, unless that very work was interrupted
    anew = Segment(run, images, tmp_path / "out", threads=1, views=1, overwrite=True)
    segment(anew)
    assert toy.calls == before + 6
    with monkeypatch.context() as patch:
        patch.setattr(module, "encode_labels", stop_at_b)
        with pytest.raises(KeyboardInterrupt):
            segment(anew)
    assert toy.calls == before + 8
    (tmp_path / "out" / ".unfinished").mkdir()  # as a kill leaves it
    segment(anew)
    assert toy.calls == before + 10
    assert not (tmp_path / "out" / ".unfinished").exists()


@pytest.mark.parametrize(("target", "views"), [("boundary", 4), ("depth", 4), ("semantic", 1)])
def test_four_views_are_the_default_where_cells_are_told_apart(
    tmp_path: Path, images: Path, target: str, views: int
) -> None:
    run = write_run(
        tmp_path / "run",
        random_unet(classes=(classes := TARGETS[target].classes)),
        target=target,
        networks={"segmenter": {"network": "unet", "classes": classes, "width": 4, "depth": 2}},
    )
    segment(Segment(run, images / "c.tif", tmp_path / "out", threads=1))
    assert record_of(tmp_path / "out")["views"] == views
    assert Segmenter.load("base", threads=1).views == 4


def test_masks_of_another_origin_are_not_replaced(toy: Toy, run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_labels(out / "masks" / "a.tif", CELLS)
    with pytest.raises(UserError, match=r"a.tif: exists already; give another --out"):
        segment(Segment(run, images, out, threads=1))
    with pytest.raises(UserError, match=r"a.tif: exists already; give another --out"):
        segment(Segment(run, images, out, threads=1, overwrite=True))
    assert toy.calls == 0 and np.array_equal(read_labels(out / "masks" / "a.tif"), CELLS)
    (out / "masks" / "a.tif").unlink()
    segment(Segment(run, images, out, threads=1, overwrite=True))
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a.png", "b.png", "c.tif"]
    for flags in ({"tile": 640}, {"views": 2}, {"precision": "float32" if HALF else "bfloat16"}):
        with pytest.raises(UserError, match=r"segment.json: another run, other flags"):
            segment(Segment(run, images, out, **flags, threads=1))
    other = write_run(tmp_path / "other", random_unet(seed=1))
    with pytest.raises(UserError, match=r"segment.json: another run"):
        segment(Segment(other, images, out, threads=1))
    segment(Segment(other, images / "c.tif", out, threads=1, overwrite=True))
    assert [path.name for path in (out / "masks").iterdir()] == ["c.tif"]


def test_a_changed_image_is_not_taken_for_done(toy: Toy, run: Path, images: Path, tmp_path: Path) -> None:
    config = Segment(run, images, tmp_path / "out", threads=1)
    segment(config)
    write_image(images / "c.tif", painted(np.roll(CELLS, 3, axis=0)))
    with pytest.raises(UserError, match=r"c.tif: has changed since its mask was made"):
        segment(config)


def test_annotations_are_never_replaced(toy: Toy, run: Path, tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"cell_0.png: is the annotation of .*; give another --out"):
        segment(Segment(run, tiny_dataset, tiny_dataset, threads=1, overwrite=True))
    shutil.rmtree(tiny_dataset / "masks")
    for _ in range(2):  # one's own results are no annotations
        segment(Segment(run, tiny_dataset, tiny_dataset, threads=1))
    assert len(list((tiny_dataset / "masks").iterdir())) == 6


def test_a_foreign_record_is_refused(toy: Toy, run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "segment.json").write_text('{"format": 0}')
    with pytest.raises(UserError, match=r"segment.json: is not a record of this version"):
        segment(Segment(run, images, tmp_path / "out", threads=1))


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, place: int) -> None:
            assert place

        def write(self, content: object) -> None:
            raise OSError(28, "No space left on device")

    rows = RowFile(tmp_path / "rows", 5, np.int32)
    rows.append(np.arange(10).reshape(2, 5))
    assert rows.height == 2
    assert rows.rows(1, 2).tolist() == [[5, 6, 7, 8, 9]]
    rows._file.close()
    monkeypatch.setattr(rows, "_file", Full())
    with pytest.raises(UserError, match=r"rows: cannot be written \(No space left on device\); make room"):
        rows.append(np.zeros((1, 5)))


def test_frames_of_a_movie_are_segmented(toy: Toy, run: Path, tiny_movie: Path, tmp_path: Path) -> None:
    segment(Segment(run, tiny_movie, tmp_path / "out", sequence=("02",), threads=1))
    names = [path.name for path in sorted((tmp_path / "out" / "masks").iterdir())]
    assert names == [f"02_t{t:03d}.tif" for t in range(5)]


def test_images_and_settings_that_do_not_suit_the_run_are_refused(run: Path, images: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "colour.png", np.arange(3, dtype=np.uint8)[:, None, None].repeat(40, 1).repeat(40, 2))
    with pytest.raises(UserError, match=r"colour.png: has 3 channels, the run was trained on 1"):
        segment(Segment(run, tmp_path / "colour.png", tmp_path / "out", threads=1))
    with pytest.raises(UserError, match=r"--tile 32: this network needs \d+ px or more"):
        segment(Segment(run, images, tmp_path / "out", tile=32, threads=1))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: there is no usable GPU"):
            segment(Segment(run, images, tmp_path / "out", device="cuda", threads=1))


def test_a_random_network_segments_any_size_and_says_what_its_tiles_change(tmp_path: Path) -> None:
    network = {"network": "unet", "classes": 3, "width": 4, "depth": 2, "norm": "group"}
    torch.manual_seed(0)
    run = write_run(tmp_path / "run", UNet(1, 3, 4, 2, "group"), networks={"segmenter": {"in_channels": 1, **network}})
    for shape in ((1, 1), (3, 200), (131, 77)):
        write_image(
            tmp_path / "images" / f"{shape[0]}x{shape[1]}.png", (random_image(shape) * 50 + 90).astype(np.uint8)
        )
    segment(Segment(run, tmp_path / "images", tmp_path / "out", threads=1))
    for shape in ((1, 1), (3, 200), (131, 77)):
        assert read_labels(tmp_path / "out" / "masks" / f"{shape[0]}x{shape[1]}.png").shape == shape
    changed = record_of(tmp_path / "out")["tile_disagreement"]
    assert changed["probability"] > 0
    assert 0 <= changed["changed"] <= 1


# ---- what was edited or exchanged


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    run = Run.open(write_run(tmp_path / "run"))
    whole = run.load_weights("segmenter")
    name = "outputs.weight"
    for change, problem in (
        ({name: whole[name].double()}, f"{name} holds float64, not float32"),
        ({name: whole[name].to(torch.float8_e4m3fn)}, f"{name} holds float8_e4m3fn, not float32"),
        ({name: torch.zeros(2, 2)}, rf"{name} has shape \[2, 2\], not \[3, 4, 1, 1\]"),
        ({"extra": torch.zeros(1)}, "extra is not part of it"),
    ):
        run.save_weights("segmenter", whole | change)
        with pytest.raises(UserError, match=rf"the weights of the segmenter do not fit config.json \({problem}\)"):
            load_network(run)


def test_a_target_that_is_not_that_of_the_weights(images: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", target="semantic")
    with pytest.raises(UserError, match=r"config\.json: target semantic wants 2 classes, but the segmenter tells 3"):
        segment(Segment(run, images, tmp_path / "out"))


def test_a_run_without_its_provenance_serves(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    (run / "provenance.json").unlink()
    segment(Segment(run, images, tmp_path / "out"))
    assert "run: has no provenance.json, so its weights are not compared with their checksum" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"masks": []},
        {"masks": {"a": 3}},
        {"masks": {"a": {"file": 7, "image": "x", "cells": 1}}},
        {"masks": {"a": {"image": "x", "cells": 1}}},
        {"masks": {"a": {"file": "a.png", "image": "x", "cells": -1}}},
        {"finished": "yes"},
        {"tile_disagreement": 3},
    ],
)
def test_a_record_edited_wrongly_is_refused(change: dict[str, Any], images: Path, tmp_path: Path) -> None:
    config = Segment(write_run(tmp_path / "run"), images, tmp_path / "out")
    segment(config)
    path = tmp_path / "out" / "segment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"segment\.json: .*; restore the file, or give another --out"):
        segment(config)
