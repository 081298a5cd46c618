"""What to label next: cells that depend on the turn of an image, windows around them, crops on disk."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from conftest import content
from cytoforge.cells.instances import TARGETS
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import Normalisation, read_image, read_labels, write_image, write_labels
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.inference import segmenter as segmenter_module
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.suggest import CELLS, EMPTY, LEAST, SIDES, Window, in_turn, suggest_crops, windows_of
from cytoforge.inference.turns import ORIENTATIONS, TurnDisagreement, turn_disagreement, turned, turned_back
from cytoforge.simulation.phantom import phantom

BRIGHT, DIM = 255, 140
PITCH, SIDE = 20, 11


class Lopsided(nn.Module):
    """Finds bright cells where they are, and dim ones `shift` pixels to the right of where they are."""

    receptive_radius, stride = 8, 1

    def __init__(self, shift: int = 5) -> None:
        super().__init__()
        self.shift, self.calls = shift, 0
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        dim = ((image > -0.5) & (image < 0.5)).float()
        dim = nn.functional.pad(dim, (self.shift, 0))[..., : image.shape[-1]]
        cell = 40 * torch.maximum((image >= 0.5).float(), dim) - 20
        return torch.cat([-cell, cell], dim=1)


def lopsided(folder: Path, **changes: object) -> Segmenter:
    made = Segmenter(
        run=folder / "run",
        network=Lopsided(),
        target=TARGETS["semantic"],
        normalisation=Normalisation("min-max"),
        scaling=1.0,
        tile=512,
        channels=1,
        fingerprint="lopsided",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def dish(dim: set[tuple[int, int]], shape: tuple[int, int] = (320, 360), scale: int = 1) -> np.ndarray:
    """An image (1, H, W) uint8 of square cells in rows and columns, of which those in `dim` are dim."""
    image = np.zeros((1, *shape), np.uint8)
    for row in range((shape[0] - 4) // PITCH):
        for column in range((shape[1] - 4) // PITCH):
            y, x = 4 + row * PITCH, 4 + column * PITCH
            image[0, y : y + SIDE, x : x + SIDE] = DIM if (row, column) in dim else BRIGHT
    return image.repeat(scale, axis=1).repeat(scale, axis=2)


ODD = {(row, column) for row in (11, 12, 13) for column in (2, 3, 4)}  # rows 224 to 280, columns 44 to 100


@pytest.fixture
def dishes(tmp_path: Path) -> Path:
    """Three images without a mask: one of bright cells, one with a dim cell, one with a dim corner."""
    folder = tmp_path / "dishes"
    for name, dim in (("a", set()), ("b", {(0, 0)}), ("c", ODD)):
        write_image(folder / f"{name}.png", dish(dim))
    return folder


# ---- turns


def test_eight_orientations_differ_and_are_undone() -> None:
    array = np.arange(12).reshape(1, 3, 4)
    seen = [turned(array, orientation) for orientation in range(ORIENTATIONS)]
    assert len({(part.shape, part.tobytes()) for part in seen}) == 8
    for orientation, part in enumerate(seen):
        np.testing.assert_array_equal(turned_back(part, orientation), array)


def left_half(image: np.ndarray) -> np.ndarray:
    labels = np.zeros(image.shape[1:], np.int32)
    labels[:, : image.shape[2] // 2] = 1
    return labels


def test_disagreement_by_hand() -> None:
    # turned back, the left half is once more the left half, twice the right (IoU 0), four times top or bottom (1/3)
    found = turn_disagreement(np.zeros((1, 4, 4), np.float32), left_half)
    assert found.cells == 1
    assert found.disagreement[found.own] == pytest.approx([(2 + 4 * 2 / 3) / 7])
    assert sorted(found.disagreement[~found.own]) == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 1, 1])
    assert found.mean == pytest.approx(2 / 3)
    assert (found.y[found.own], found.x[found.own]) == (1.5, 0.5)
    assert found.diameter[found.own] == pytest.approx(2 * np.sqrt(8 / np.pi))
    assert found.weight.sum() == pytest.approx(1)


def test_a_cell_that_only_one_turn_finds_counts_and_so_does_one_that_only_one_misses() -> None:
    def in_tall(image: np.ndarray) -> np.ndarray:
        return left_half(image) * np.int32(image.shape[1] > image.shape[2])

    missed = turn_disagreement(np.zeros((1, 4, 6), np.float32), in_tall)  # found in the four upright orientations
    assert (missed.cells, len(missed.y), missed.mean) == (0, 4, 1)
    seen = turn_disagreement(np.zeros((1, 6, 4), np.float32), in_tall)
    assert seen.cells == 1
    assert seen.disagreement[seen.own][0] > 4 / 7


def test_what_does_not_depend_on_the_turn_has_no_disagreement(tmp_path: Path) -> None:
    segmenter = lopsided(tmp_path)
    sure, odd = (segmenter.disagreement(dish(dim)[0]) for dim in (set(), ODD))
    assert (sure.mean, sure.cells) == (0, 15 * 17)
    assert odd.mean > 0.01
    doubted = odd.own & (odd.disagreement > 0.1)
    assert doubted.sum() == len(ODD)
    assert 224 <= odd.y[doubted].min() <= odd.y[doubted].max() < 280
    assert 44 <= odd.x[doubted].min() <= odd.x[doubted].max() < 105
    blank = segmenter.disagreement(np.full((40, 40), 7, np.uint8))
    assert (blank.mean, blank.cells, len(blank.y)) == (0, 0, 0)


def test_places_and_diameters_are_those_of_the_image_not_of_the_scale(tmp_path: Path) -> None:
    odd = lopsided(tmp_path).disagreement(dish(ODD)[0])
    large = lopsided(tmp_path, scaling=0.5).disagreement(dish(ODD, scale=2)[0])
    np.testing.assert_allclose(large.y, 2 * odd.y + 0.5)
    np.testing.assert_allclose(large.x, 2 * odd.x + 0.5)
    np.testing.assert_allclose(large.diameter, 2 * odd.diameter)


def test_large_images_are_turned_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, segmenter = dish(ODD, (4 + 16 * PITCH, 4 + 18 * PITCH))[:, 2:-2, 2:-2], lopsided(tmp_path)
    whole = segmenter.disagreement(image[0])
    before = segmenter.network.calls
    monkeypatch.setattr(segmenter_module, "BLOCK", 9 * PITCH)  # cuts between cells
    parts = segmenter.disagreement(image[0])
    assert segmenter.network.calls - before == 4 * ORIENTATIONS
    assert parts.mean == pytest.approx(whole.mean)
    order, other = (np.lexsort((found.own, found.x, found.y)) for found in (parts, whole))
    for name in ("y", "x", "disagreement", "own"):
        np.testing.assert_allclose(getattr(parts, name)[order], getattr(whole, name)[other])


# ---- windows


def cells_at(y: np.ndarray, x: np.ndarray, disagreement: np.ndarray, diameter: float = 10) -> TurnDisagreement:
    """Own cells at these places, and as many in each other orientation."""
    own = np.repeat([True, *[False] * (ORIENTATIONS - 1)], len(y))
    many = [np.tile(values, ORIENTATIONS).astype(float) for values in (y, x, np.full(len(y), diameter), disagreement)]
    return TurnDisagreement(*many, own)


@given(
    shape=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    cells=st.integers(0, 60),
    diameter=st.floats(1, 80),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_lie_in_the_image_and_do_not_overlap(
    shape: tuple[int, int], cells: int, diameter: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    place = [rng.uniform(0, n - 1, cells) if n > 1 else np.zeros(cells) for n in shape]
    windows = windows_of(cells_at(*place, rng.uniform(0, 1, cells), diameter), shape, 5)
    assert len(windows) <= 5
    covered = np.zeros(shape, int)
    for window in windows:
        assert 0 <= window.disagreement <= 1
        part = covered[window.y : window.y + window.height, window.x : window.x + window.width]
        assert part.shape == (window.height, window.width)
        part += 1
    assert covered.max() <= 1
    assert [w.disagreement for w in windows] == sorted((w.disagreement for w in windows), reverse=True)


def test_a_window_has_the_size_of_some_25_cells_within_bounds() -> None:
    y, x = (axis.ravel() * 20.0 + 10 for axis in np.mgrid[:40, :40])
    (dense, *_) = windows_of(cells_at(y, x, np.ones(1600), 12), (800, 800), 3)
    assert (dense.height, dense.width, dense.cells, dense.disagreement) == (100, 100, CELLS, 1)
    (packed,) = windows_of(cells_at(y, x, np.ones(1600), 20), (800, 800), 1)
    assert packed.height == SIDES[0] * 20
    (sparse,) = windows_of(cells_at(y[:4], x[:4], np.ones(4), 12), (800, 800), 1)
    assert sparse.height == SIDES[1] * 12
    none = np.zeros(0)
    assert windows_of(cells_at(none, none, none), (800, 200), 3) == [Window(0, 0, EMPTY, 200, 0, 0)]
    (sure,) = windows_of(cells_at(y, x, np.zeros(1600), 12), (800, 800), 3)
    assert (sure.height, sure.disagreement, sure.cells) == (100, 0, CELLS)
    (small,) = windows_of(cells_at(y[:1], x[:1], np.ones(1), 12), (30, 50), 1)
    assert (small.y, small.x, small.height, small.width) == (0, 0, 30, 50)


def test_a_window_of_one_doubtful_cell_is_not_preferred_to_one_of_many() -> None:
    y, x = (axis.ravel() * 20.0 + 10 for axis in np.mgrid[:5, :20])
    # 25 cells at the left, in a window of 16 diameters with 15 others; one alone, far from all others, is all doubt
    doubt = np.where(x < 100, 0.5, 0.0)
    windows = windows_of(cells_at([*y, 590], [*x, 390], np.array([*doubt, 1.0])), (600, 400), 2)
    assert [window.disagreement for window in windows] == pytest.approx([12.5 / 40, 1 / LEAST], abs=1e-3)
    assert windows[0].y < 100
    assert windows[0].x < 100


def test_each_image_has_its_first_crop_before_any_has_a_second() -> None:
    first, second, third = (Item(name) for name in "abc")
    windows = {
        first: [Window(0, 0, 9, 9, 0.9, 5), Window(0, 9, 9, 9, 0.8, 5), Window(0, 18, 9, 9, 0.7, 5)],
        second: [Window(0, 0, 9, 9, 0.2, 5)],
        third: [Window(0, 0, 9, 9, 0.3, 5), Window(9, 0, 9, 9, 0.1, 5)],
    }
    assert [s.name for s in in_turn(windows, 5)] == ["a-y0-x0", "c-y0-x0", "b-y0-x0", "a-y0-x9", "c-y9-x0"]
    assert len(in_turn(windows, 99)) == 6
    assert in_turn({first: []}, 3) == []


# ---- crops


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "suggestions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_odd_region_comes_first_and_its_crop_is_that_of_the_file(dishes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = suggest_crops(lopsided(tmp_path), Dataset.open(dishes), out, count=2)
    rows = rows_of(out)
    assert [row["image"] for row in rows] == ["c", "b"]
    assert (done.images, done.kept, len(done.suggestions)) == (3, 0, 2)
    y, x, height, width = (int(rows[0][key]) for key in ("y", "x", "height", "width"))
    assert y <= 224 < 280 <= y + height
    assert x <= 44 < 100 <= x + width
    assert float(rows[0]["disagreement"]) > float(rows[1]["disagreement"]) > 0
    assert rows[0]["name"] == f"c-y{y}-x{x}"
    crop = read_image(out / "images" / f"c-y{y}-x{x}.png")
    np.testing.assert_array_equal(crop, dish(ODD)[:, y : y + height, x : x + width])
    labels = read_labels(out / "masks" / f"c-y{y}-x{x}.png")
    assert labels.shape == (height, width)
    assert labels.max() == np.unique(labels).size - 1 >= int(rows[0]["cells"]) >= CELLS
    info = Dataset.open(out).info
    assert info["groups"] == {row["name"]: row["image"] for row in rows}
    assert info["complete"]
    page = (out / "report.html").read_text()
    assert all(row["name"] in page for row in rows)


def test_crops_keep_the_type_of_the_file(tmp_path: Path) -> None:
    image = (dish(ODD).astype(np.float32) - 60) / 3
    write_image(tmp_path / "images" / "a.tif", image)
    suggest_crops(lopsided(tmp_path), Dataset.open(tmp_path / "images"), tmp_path / "out", count=1)
    (row,) = rows_of(tmp_path / "out")
    y, x = int(row["y"]), int(row["x"])
    crop = read_image(tmp_path / "out" / "images" / f"{row['name']}.tif")
    assert crop.dtype == np.float32
    np.testing.assert_array_equal(crop, image[:, y : y + crop.shape[1], x : x + crop.shape[2]])


def test_images_with_masks_are_passed_over(dishes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(dishes, data / "images")
    write_labels(data / "masks" / "c.png", (dish(set())[0] > 0).astype(np.int32))
    done = suggest_crops(lopsided(tmp_path), Dataset.open(data), tmp_path / "out")
    assert [suggestion.item.name for suggestion in done.suggestions] == ["b", "a"]
    assert done.images == 2
    for name in "ab":
        write_labels(data / "masks" / f"{name}.png", (dish(set())[0] > 0).astype(np.int32))
    with pytest.raises(UserError, match=r"data: all images have masks already; give images that are not labelled"):
        suggest_crops(lopsided(tmp_path), Dataset.open(data), tmp_path / "other")


def test_interrupted_work_goes_on_and_keeps_a_mask_that_was_corrected(
    dishes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, segmenter = Dataset.open(dishes), lopsided(tmp_path)
    suggest_crops(segmenter, images, tmp_path / "whole", count=2)
    out, add, added = tmp_path / "out", DatasetWriter.add, []

    def interrupted(self: DatasetWriter, name: str, *arrays: np.ndarray) -> None:
        if added:
            raise KeyboardInterrupt
        added.append(name)
        add(self, name, *arrays)

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            suggest_crops(segmenter, images, out, count=2)
    mask = out / "masks" / f"{added[0]}.png"
    corrected = read_labels(mask) * 3
    write_labels(mask, corrected)
    with pytest.raises(UserError, match="another count"):
        suggest_crops(segmenter, images, out, count=3)
    before = segmenter.network.calls
    assert suggest_crops(segmenter, images, out, count=2).kept == 1
    assert segmenter.network.calls - before == 2  # one pass for the cells of each crop, no turns
    np.testing.assert_array_equal(read_labels(mask), corrected)
    first, second = content(tmp_path / "whole"), content(out)
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {f"masks/{added[0]}.png"}


def test_nothing_handmade_is_lost(dishes: Path, tmp_path: Path) -> None:
    images, segmenter, out = Dataset.open(dishes), lopsided(tmp_path), tmp_path / "out"
    suggest_crops(segmenter, images, out, count=2)
    before = content(out)
    with pytest.raises(UserError, match="holds results already; choose another folder or give --overwrite"):
        suggest_crops(segmenter, images, out, count=2)
    suggest_crops(segmenter, images, out, count=1, overwrite=True)
    assert len(rows_of(out)) == 1
    suggest_crops(segmenter, images, out, count=2, overwrite=True)
    assert content(out) == before
    mask = next((out / "masks").iterdir())
    write_labels(mask, read_labels(mask) * 3)
    edited = content(out)
    with pytest.raises(UserError, match=rf"{mask.name}: has been changed since this command wrote it"):
        suggest_crops(segmenter, images, out, count=1, overwrite=True)
    assert content(out) == edited
    with pytest.raises(UserError, match="holds images or masks that cytoforge did not write"):
        suggest_crops(segmenter, images, _own(tmp_path / "own"), count=1, overwrite=True)


def _own(folder: Path) -> Path:
    write_labels(folder / "masks" / "mine.png", np.ones((9, 9), np.int32))
    return folder


def test_what_cannot_be_ranked_is_said(dishes: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "colour" / "a.png", np.concatenate([dish(ODD), dish(ODD) // 2, dish(ODD)]))
    with pytest.raises(UserError, match=r"a\.png: has 3 channels, the run was trained on 1; choose by --channel, or"):
        suggest_crops(lopsided(tmp_path), Dataset.open(tmp_path / "colour"), tmp_path / "out2")
    name = "x" * 240
    write_image(tmp_path / "long" / f"{name}.png", dish(ODD))
    with pytest.raises(UserError, match=r"x\.png: its name is too long to add the place of a crop to it; shorten it"):
        suggest_crops(lopsided(tmp_path), Dataset.open(tmp_path / "long"), tmp_path / "out3")


def test_the_command_on_phantoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        image, labels = phantom(number, (96, 112), 12)
        part = tmp_path / ("data" if number < 2 else "new")
        write_image(part / "images" / f"dish{number}.png", image[None])
        if number < 2:
            write_labels(part / "masks" / f"dish{number}.png", labels)
    run, out = tmp_path / "run", tmp_path / "next"
    training = ["train", "segmentation", str(tmp_path / "data"), "--out", str(run), "--preset", "tiny", "--steps", "60"]
    assert main([*training, "--threads", "1"]) == 0
    capsys.readouterr()
    command = ["suggest", str(run), str(tmp_path / "new"), "--out", str(out), "--count", "2", "--threads", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    rows = rows_of(out)
    assert len(rows) == 2
    assert all(row["name"] in printed for row in rows)
    assert f"{out}: 2 crops of 3 images; correct the cells in {out / 'masks'}" in printed
    pairs = Dataset.open(out).pairs()
    assert {item.name for item in pairs.items} == {row["name"] for row in rows}
    assert main(command) == 2
    assert "holds results already" in capsys.readouterr().err
    assert main(["suggest", str(run), str(tmp_path / "data"), "--out", str(tmp_path / "no")]) == 2
    assert "all images have masks already" in capsys.readouterr().err
