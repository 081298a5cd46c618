"""The study of learning curves: what each training learns from and starts from, and what is left out or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import read_json
from cytoforge.data.images import read_labels
from cytoforge.metrics.morphology import SEGMENTED_DIAMETER
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measure import limited_data
from cytoforge.training.data import with_scale
from cytoforge.training.specification import Data
from test_study import configs, names, write_phantoms

pytestmark = pytest.mark.usefixtures("short_trainings")

LINE = "--preset small --steps 2 --threads 1 --seeds 1 --crop 32 --synthetic-images 1"
METHODS = ("paper", "scratch", "base", "base-two-stage", "base-mean-teacher")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `train` of three phantoms and `test` of two others."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder / "test", range(20, 22))
    return write_phantoms(folder / "train", range(3))


def study(data: Path, out: Path, *flags: str) -> int:
    line = ["study", "limited-data", str(data), "--test", str(data.with_name("test")), "--out", str(out)]
    return main([*line, *LINE.split(), *flags])


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of one crop, one image and all three; a fourth is not there."""
    folder = tmp_path_factory.mktemp("limited") / "study"
    assert study(data, folder, "--images", "1", "3", "4", "--methods", *METHODS) == 0
    return folder


def test_every_method_starts_from_what_it_says_and_learns_on_its_own_terms(out: Path) -> None:
    found = {place: config for place, config in configs(out).items() if "/" not in place}
    planned = {f"{method}-{labels}-0" for method in METHODS for labels in ("1-crop", "1-image", "3-images")}
    planned.remove("base-two-stage-1-crop-0")  # a crop of 32 px has no whole cell
    planned.remove("base-mean-teacher-3-images-0")  # no image is left without a mask
    assert found.keys() == planned
    for place, config in found.items():
        weak, start = place.startswith("paper"), str(config["start"])
        assert (config["target"], config["parameters"]["augmentation"]) == (
            ("semantic", "paper") if weak else ("depth", "strong")
        )
        if place.startswith("base-two-stage"):
            assert start == "base" or Path(start).name == "first-segmenter"
            assert configs(out)[f"{place}/stages/first-segmenter"]["start"] == "base"
        else:
            assert start == ("base" if place.startswith("base") else "None")
        assert ("unlabelled_images" in config) == place.startswith("base-mean-teacher")


def test_labels_are_what_the_amount_says_and_the_scale_follows_from_them(out: Path, data: Path) -> None:
    found = configs(out)
    fitting = with_scale(Data(path=data, limit=1), SEGMENTED_DIAMETER, 0)[0].scale
    for method in ("paper", "scratch", "base"):
        crop, one, every = (found[f"{method}-{labels}-0"] for labels in ("1-crop", "1-image", "3-images"))
        (name,) = {*one["training_images"], *one["validation_images"]}
        assert name in names(data) and {*crop["training_images"]} == names(out / "data" / "crops-1-0")
        assert {*every["training_images"], *every["validation_images"]} == names(data)
        assert one["scale"] == fitting != 1
    whole = with_scale(Data(path=data), SEGMENTED_DIAMETER, 0)[0].scale
    (mask,) = (out / "data" / "crops-1-0" / "masks").iterdir()
    assert read_labels(mask).shape == (round(32 / whole),) * 2


def test_the_table_has_a_row_for_each_amount_and_training(out: Path, data: Path) -> None:
    results = read_json(out / "results.json")
    assert results["left_out"] == [
        "4 images: left out, as there are 3 to train on",
        "base-two-stage: not measured with 1 crop, as every cell is cut by the edge of its image, or tiny",
        "base-mean-teacher: not measured with 3 images, as no other image is left over; give --unlabelled",
    ]
    rows = [row for row in results["rows"] if (row["test images"], row["protocol"]) == ("all", "instances")]
    assert [(row["labels"], row["training"]) for row in rows] == [
        ("none", "base"),
        *(("1 crop", method) for method in METHODS if method != "base-two-stage"),
        *(("1 image", method) for method in METHODS),
        *(("3 images", method) for method in METHODS[:-1]),
    ]
    parts = {(row["test images"], row["protocol"]) for row in results["rows"]}
    assert parts == {("all", "instances"), ("all", "paper"), ("easy", "instances"), ("hard", "instances")}
    cells = [sum(len(np.unique(read_labels(item.mask))) - 1 for item in Dataset.open(data).items)]
    assert [row["cells"] for row in rows if row["labels"] == "3 images"] == 4 * cells
    zero, start = (read_json(out / "results" / f"{name}.json") for name in ("zero-labels-0", "base-1-image-0"))
    assert zero["steps"] == 0 and zero["images"].keys() == start["images"].keys() == names(data.with_name("test"))
    first = np.mean([image["f_score"][0] for image in zero["images"].values()])
    assert rows[0]["F at IoU 0.5"]["value"] == pytest.approx(first) and first > 0.3  # nuclei as it knows them
    assert rows[0]["efficiency against scratch"] is None and rows[0]["needed by scratch"]["images"] == 2
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "left out, as there are 3 to train on" in page


def test_a_finished_study_measures_nothing_again(
    out: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("this was measured before")

    before = (out / "results.json").read_bytes()
    monkeypatch.setattr(limited_data, "segmented", refuse)
    monkeypatch.setattr("cytoforge.studies.measure.segmenters.segmented", refuse)
    assert study(data, out, "--images", "1", "3", "4", "--methods", *METHODS) == 0
    assert (out / "results.json").read_bytes() == before
    settings = read_json(out / "study.json")["settings"]
    former = tmp_path / "former"
    StudyFolder.open("limited-data", former, {k: v for k, v in settings.items() if k not in ("methods", "unlabelled")})
    capsys.readouterr()
    assert study(data, former, "--images", "1", "3", "4", "--methods", *METHODS) == 2
    assert capsys.readouterr().err == (
        f"cytoforge: {former}: holds a study by an earlier version, which knew no methods; its results can still be "
        "read, but not gone on with: give another --out, or --overwrite\n"
    )


def test_unlabelled_images_reach_the_methods_that_learn_from_them_but_none_to_test_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = write_phantoms(tmp_path / "more", range(30, 32))
    asked: list[Any] = []

    def record(folder: Any, study: Any, method: Any, training: Any, test: Path) -> None:
        asked.append(training)
        if len(asked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(limited_data, "segmenter_scores", record)
    flags = ("--crops", "--images", "3", "--methods", "base-cyclegan", "base-cyclegan-unlabelled", "--unlabelled")
    assert study(data, tmp_path / "out", *flags, str(more)) == 130
    assert [training.data.unlabelled for training in asked] == [None, more]
    assert [training.output.path.name for training in asked] == [
        f"{method}-3-images-0" for method in ("base-cyclegan", "base-cyclegan-unlabelled")
    ]
    assert study(data, tmp_path / "other", *flags, str(data.with_name("test"))) == 2
    assert "p20.png: is an image to test on; take it out of the unlabelled ones" in capsys.readouterr().err
