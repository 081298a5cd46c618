"""Few annotated images: the scale is found from their masks, and a strip of each is held out instead of an image."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import picture, squares
from cytoforge.cli import main
from cytoforge.commands.train import specified
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import read_image, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import FITTING_DIAMETER, SEGMENTED_DIAMETER
from cytoforge.settings import TrainGenerator, TrainMovie, TrainSegmentation
from cytoforge.training import data as module
from cytoforge.training.data import FEW_IMAGES, LARGEST_SCALE, LEAST_STRIP, open_data, with_scale
from cytoforge.training.specification import Data

TINY = ("--preset", "tiny", "--threads", "1", "--steps", "1")


def write(folder: Path, sides: list[int], *, height: int = 64, value: int | None = None) -> Path:
    """Annotated images of square cells, of one side in each image; `value` is that of all cells of a binary mask."""
    for number, side in enumerate(sides):
        labels = squares((height, 200), side, side + 4)
        write_image(folder / "images" / f"i{number:02d}.png", picture(labels, number))
        write_labels(folder / "masks" / f"i{number:02d}.png", labels if value is None else value * (labels > 0))
    return folder


def across(side: int) -> float:
    """Diameter of the circle of the area of a square."""
    return float(2 * side / np.sqrt(np.pi))


# ---- the scale


@pytest.mark.parametrize(
    ("side", "scale"),
    [
        (10, 1.9),  # 11.28 px: 22 / 11.28 = 1.950, of which two digits stay
        (15, 1.3),  # 16.93 px: 1.300
        (18, 1.0),  # 20.31 px: 1.083 is as good as 1
        (19, 1.0),  # 21.44 px
        (21, 1.0),  # 23.70 px: 0.928
        (22, 0.89),  # 24.83 px: 0.886
        (40, 0.49),  # 45.14 px: 0.487
    ],
)
def test_the_scale_brings_the_median_cell_to_the_diameter(side: int, scale: float, tmp_path: Path) -> None:
    data = Data(path=write(tmp_path / "data", [side]))
    found, notes = with_scale(data, 22.0, 0)
    assert found == replace(data, scale=scale)
    said = f"cells are {across(side):.0f} px across (median): images are resized by {scale:g}"
    assert notes == ([said] if scale != 1 else [])


def test_the_largest_scale_is_one_that_can_be_given(tmp_path: Path) -> None:
    assert with_scale(Data(path=write(tmp_path / "data", [10])), 1000.0, 0)[0].scale == LARGEST_SCALE == 8


def test_only_the_images_that_are_used_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(path=write(tmp_path / "data", [10, 40, 10, 40]), limit=1)
    dataset = Dataset.open(data.path)
    for seed in range(6):
        (item,) = dataset.limited(1, seed).items
        assert with_scale(data, 22.0, seed)[0].scale == {"0": 1.9, "2": 1.9, "1": 0.49, "3": 0.49}[item.name[-1]]
    read: list[str] = []
    look = Dataset.read_labels
    monkeypatch.setattr(Dataset, "read_labels", lambda self, item: read.append(item.name) or look(self, item))
    monkeypatch.setattr(module, "MEASURED", 2)
    assert with_scale(replace(data, limit=None), 22.0, 0)[0].scale == 1.9
    assert read == ["i00", "i02"]  # some of many, from all over the folder


def test_binary_masks_are_measured_by_connected_components(tmp_path: Path) -> None:
    data = Data(path=write(tmp_path / "data", [15, 15], value=255))
    assert with_scale(data, 22.0, 0)[0].scale == 1.3


def test_files_that_were_resized_count_as_what_they_are_of(tmp_path: Path) -> None:
    """Images of `scale` 0.5 and cells of 11 px: they are enlarged 1.9 times, which is 0.95 of the originals."""
    data = Data(path=write(tmp_path / "data", [10]))
    write_json(data.path / "dataset.json", {"scale": 0.5})
    found = with_scale(data, 22.0, 0)[0]
    assert found.scale == pytest.approx(0.95)
    opened = open_data(found, 0, fitting=22.0)
    assert opened.read(0)[0].shape[2] == 380 and not any("--scale" in note for note in opened.notes)


def test_nothing_is_changed_where_nothing_can_be(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [10])
    fixed = Data(path=path, resize=(48, 64))
    assert with_scale(fixed, 22.0, 0) == (fixed, [])
    write_labels(path / "masks" / "i00.png", np.zeros((64, 200), np.int32))
    empty = Data(path=path)
    assert with_scale(empty, 22.0, 0) == (empty, [])
    with pytest.raises(UserError, match="the masks hold no cells"):
        open_data(empty, 0)
    with pytest.raises(UserError, match="nowhere: does not exist"):
        with_scale(Data(path=tmp_path / "nowhere"), 22.0, 0)


def test_every_training_that_resizes_takes_auto(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "data", [40])
    given = {"data": path, "out": tmp_path / "run"}
    for settings, diameter in (
        (TrainSegmentation(**given), SEGMENTED_DIAMETER),
        (TrainSegmentation(**given, scale="auto"), SEGMENTED_DIAMETER),
        (TrainGenerator(**given, scale="auto"), FITTING_DIAMETER),
        (TrainMovie(**given, scale="auto"), FITTING_DIAMETER),
        (TrainMovie(**given, scale="auto", stage="both", factor=2), 2 * FITTING_DIAMETER),
    ):
        assert specified(settings).data.scale == float(f"{diameter / across(40):.2g}")
        assert "cells are 45 px across (median): images are resized by" in capsys.readouterr().err
    for plain in (TrainGenerator(**given), TrainMovie(**given), TrainSegmentation(**given, scale=1.0)):
        assert specified(plain).data.scale == 1
    assert specified(TrainSegmentation(**given, resize="48x64")).data.scaling == (48, 64)
    assert capsys.readouterr().err == ""


def test_the_scale_that_was_found_is_that_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = write(tmp_path / "data", [40, 40, 40]), tmp_path / "run"
    assert main(["train", "segmentation", str(data), "--out", str(run), *TINY]) == 0
    said = capsys.readouterr().err
    assert "cells are 45 px across (median): images are resized by 0.49\n" in said
    assert "would bring them to" not in said  # no other scale is proposed
    assert Run.open(run).settings.scale == 0.49
    assert main(["segment", str(run), str(data), "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    assert json.loads((tmp_path / "out" / "segment.json").read_text())["scale"] == 0.49


def test_no_scale_is_proposed_beside_the_one_that_was_found(tmp_path: Path) -> None:
    """Cells of 20 to 24 px keep their size, as it suits segmenters; generators are better off with smaller ones."""
    data = Data(path=write(tmp_path / "data", [21, 21]))
    assert with_scale(data, SEGMENTED_DIAMETER, 0)[0].scale == 1
    assert not any("--scale" in note for note in open_data(data, 0, fitting=SEGMENTED_DIAMETER).notes)
    assert any("would bring them to 16 px" in note for note in open_data(data, 0).notes)


# ---- the strips


def heights(path: Path, **choices: object) -> tuple[list[int], list[int]]:
    """Heights in pixels of the images for training and for validation."""
    opened = open_data(Data(path=path, **choices), 0)
    return [opened.read(i)[0].shape[1] for i in range(len(opened.names))], [v[1].shape[1] for v in opened.validation]


def test_few_images_lose_a_strip_and_many_whole_images(tmp_path: Path) -> None:
    few = write(tmp_path / "few", [12] * FEW_IMAGES, height=160)
    many = write(tmp_path / "many", [12] * (FEW_IMAGES + 1), height=160)
    assert heights(few) == ([128] * 10, [32] * 10)
    assert heights(many) == ([160] * 9, [160] * 2)
    assert heights(many, limit=5) == ([128] * 5, [32] * 5)
    assert heights(few, split_by="image") == ([160] * 8, [160] * 2)
    assert heights(many, split_by="strip") == ([128] * 11, [32] * 11)
    assert heights(few, fold=(1, 5)) == ([160] * 8, [160] * 2)
    for file in (few / "images").iterdir():
        write_image(file, read_image(file) // 2)  # none of those of validation
    assert heights(few, validation=many, limit=5) == ([160] * 4, [160])


def test_strips_too_low_to_hold_cells_are_no_strips(tmp_path: Path) -> None:
    """A strip is a fifth of the height, and is measured as the network sees it."""
    for height, scale, by_strip in ((160, 1.0, True), (159, 1.0, False), (80, 2.0, True), (320, 0.49, False)):
        path = write(tmp_path / f"{height} {scale}", [12] * 3, height=height)
        assert (height * scale * 0.2 >= LEAST_STRIP) == by_strip
        assert len(heights(path, scale=scale)[1]) == (3 if by_strip else 1)
    path = write(tmp_path / "one size", [12] * 3, height=320)
    assert [len(heights(path, resize=size)[1]) for size in ((160, 96), (128, 200))] == [3, 1]
    mixed = write(tmp_path / "mixed", [12] * 3, height=160)
    low = squares((60, 200), 12)
    write_image(mixed / "images" / "low.png", picture(low))
    write_labels(mixed / "masks" / "low.png", low)
    assert len(heights(mixed)[1]) == 1


def test_files_that_were_resized_are_low_as_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [12] * 3, height=160)
    write_json(path / "dataset.json", {"scale": 0.5})
    assert len(heights(path, scale=0.5)[1]) == 3  # read at the size of the files
    assert len(heights(path, scale=0.4)[1]) == 1
    write_json(path / "dataset.json", {"scale": 2.0})
    assert len(heights(path, scale=1.0)[1]) == 1  # read at half their size


def test_movies_are_split_by_frames(tiny_movie: Path) -> None:
    opened = open_data(Data(path=tiny_movie, sequences=("02",), scale=4.0), 0)
    assert len(opened.names) == 4 and len(opened.validation) == 1


def test_what_is_held_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = write(tmp_path / "few", [20] * 3, height=160)
    one = write(tmp_path / "one", [20], height=160)
    for path, words in ((few, "few images, of each of which"), (one, "a single image, of which")):
        assert main(["train", "segmentation", str(path), "--out", str(tmp_path / path.name / "run"), *TINY]) == 0
        said = capsys.readouterr().err
        assert f"{path}: holds {words} a strip is for validation, and the rest for training\n" in said
    config = Run.open(few / "run").config
    assert config["training_images"] == config["validation_images"] == ["i00", "i01", "i02"]
    assert config["training"]["data"]["split_by"] == "auto"
    assert main(["train", "segmentation", str(few), "--out", str(tmp_path / "run"), *TINY, "--split-by", "image"]) == 0
    assert "2 images to train on, 1 for validation" in capsys.readouterr().err
