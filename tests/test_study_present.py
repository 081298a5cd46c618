"""Tables, figures and pictures of studies, from measurements written by hand: nothing is trained here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import picture, write_movie
from cytoforge.commands.study import open_folder
from cytoforge.data.images import read_image, write_image, write_labels
from cytoforge.errors import UserError
from cytoforge.metrics.efficiency import Labels
from cytoforge.metrics.estimates import Estimate
from cytoforge.report import Report
from cytoforge.settings import StudyDense
from cytoforge.studies.measurements import (
    Amount,
    DenseMovie,
    DensePaintings,
    ImageScores,
    MeasuredAblation,
    MeasuredDense,
    MeasuredExtrapolation,
    MeasuredLimitedData,
    MeasuredMovies,
    MeasuredTracking,
    MeasuredTraining,
    MeasuredVersatility,
    MovieScores,
    OnBackground,
    Paintings,
    PaintingScores,
    SegmenterScores,
    Taught,
    TrackingScores,
    TriedDistance,
)
from cytoforge.studies.present import limited_data, segmenters
from cytoforge.studies.present.generators import present_ablation, present_extrapolation, present_versatility
from cytoforge.studies.present.limited_data import present_limited_data
from cytoforge.studies.present.movies import present_movies
from cytoforge.studies.present.presentation import Presentation, difference, estimate, written
from cytoforge.studies.present.segmenters import present_dense, present_training
from cytoforge.studies.present.trackers import present_tracking
from cytoforge.studies.specification import (
    AblationStudy,
    DenseStudy,
    ExtrapolationStudy,
    GeneratorStudy,
    LimitedDataStudy,
    MovieStudy,
    TrackingStudy,
    TrainingStudy,
)
from cytoforge.training.specification import Budget
from test_architecture import import_graph

DATA = (Path("cells"),)
TWO_MINUTES = Budget(seconds=120.0)


def segmenter(steps: int, **f: float | None) -> SegmenterScores:
    """A training of so many steps; F of each test image at IoU 0.5, half of it at 0.6, a quarter at 0.7 ...

    By the paper's protocol F and Dice are half as high.
    """

    def scored(factor: float) -> dict[str, ImageScores]:
        return {
            name: ImageScores(
                f_score=[None if value is None else factor * value / 2**k for k in range(5)],
                precision=[0.75] * 5,
                recall=[0.25] * 5,
                dice=0.5 * factor,
            )
            for name, value in f.items()
        }

    return SegmenterScores(steps=steps, images=scored(1.0), paper=scored(0.5))


def values(rows: list[dict[str, Any]], column: str) -> list[float | None]:
    return [cell.value if isinstance(cell := row[column], Estimate) else cell for row in rows]


@pytest.fixture
def datasets(tmp_path: Path) -> tuple[Path, Path]:
    """Two test images of 200 x 64 px, and paintings on their masks, which are darker."""
    labels = np.zeros((200, 64), np.int32)
    labels[90:110, 20:40] = 1
    for number in range(2):
        for folder, dim in (("test", 1), ("painted", 2)):
            write_image(tmp_path / folder / "images" / f"p{number}.png", picture(labels, seed=number) // dim)
            write_labels(tmp_path / folder / "masks" / f"p{number}.png", labels)
    return tmp_path / "test", tmp_path / "painted"


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A movie of twelve frames of 32 x 48 px with one cell."""
    masks = {}
    for number in range(12):
        masks[number] = np.zeros((32, 48), np.int32)
        masks[number][10:20, 5 + number : 15 + number] = 1
    return write_movie(tmp_path / "movie", masks, ((1, 0, 11, 0),))


def test_means_and_differences_by_hand() -> None:
    values = [{"a": 1.0, "b": 0.5}, {"b": 0.25, "c": None}]
    others = [{"b": 0.0, "a": 0.5}, {"b": 0.5, "c": 1.0}]
    mean, gain = estimate(values), difference(values, others)
    assert (mean.value, mean.images) == (pytest.approx((1 + 0.5 + 0.25) / 3), 2)
    assert (gain.value, gain.images) == (pytest.approx((0.5 + 0.5 - 0.25) / 3), 2)
    assert mean.low == 0.25 and mean.high == 1.0
    backwards = [dict(reversed(scores.items())) for scores in values]
    assert estimate(backwards) == mean and difference(backwards, others) == gain
    same = difference(values, values)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert np.isnan(estimate([{"a": None}]).value)
    with pytest.raises(ValueError, match="got 2 and 1 seeds"):
        difference(values, others[:1])


def test_rows_are_columns_on_the_terminal_and_plain_in_the_file(tmp_path: Path) -> None:
    shown = Presentation(Report("a"), facts={"touching": {}})
    shown.row(training="conventional", F=Estimate(0.5, 0.25, 0.75, 3), gain=None)
    shown.row(training="two-stage", F=Estimate(0.625, float("nan"), float("nan"), 1), steps=12)
    assert shown.lines() == [
        "training      F                     gain  steps",
        "conventional  0.500 [0.250, 0.750]  -     -",
        "two-stage     0.625                 -     12",
    ]
    shown.picture("two", [[np.zeros((4, 6, 3), np.uint8)], [np.full((2, 6, 3), 255, np.uint8)]])
    folder = open_folder("dense", StudyDense(DATA, tmp_path / "out"))
    assert folder.write(shown) == tmp_path / "out" / "report.html"
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["rows"][1] == {
        "training": "two-stage",
        "F": {"value": 0.625, "low": None, "high": None, "images": 1},
        "steps": 12,
    }
    assert (stored["study"], stored["touching"], stored["settings"]["data"]) == ("dense", {}, ["cells"])
    written_picture = read_image(tmp_path / "out" / "pictures" / "two.png")
    assert written_picture.shape == (3, 6, 6) and written_picture.mean() == pytest.approx(255 / 3)
    assert written(Estimate(float("nan"), float("nan"), float("nan"), 0)) == "-"
    assert written(0.12345) == "0.123" and written("a") == "a"


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (SegmenterScores, {"steps": 1.5, "images": {}}, "steps is 1.5, but should be a valid integer"),
        (SegmenterScores, {"images": {}}, "steps is missing"),
        (SegmenterScores, {"steps": 1, "images": {"a": 1}}, "images.a is 1, but should be a valid dictionary; restore"),
        (PaintingScores, {"faithfulness": "high"}, "faithfulness is 'high', but should be a valid number"),
        (PaintingScores, {"KID": [], "faithfulness": 1.0}, "KID is [], but should be a valid number"),
        (MovieScores, {"real": {"warping error": "x"}}, "real.warping error is 'x', but should be a valid number"),
        (MovieScores, {"real": {}, "drift": {"10": [0.5]}}, "drift.10 is [0.5], but list should have at least 2 items"),
        (TrackingScores, {"mota": True}, "mota is True, but should be a valid number"),
    ],
)
def test_an_edited_measurement_is_refused(kind: Any, value: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = open_folder("dense", StudyDense(DATA, tmp_path))
    path = folder.folder.write_json("results/a.json", value)
    with pytest.raises(UserError) as error:
        folder.once("a", kind, lambda: pytest.fail("is there already"))
    assert str(error.value).startswith(f"{path}: ") and sentence in str(error.value)
    assert str(error.value).endswith("; restore the file, or remove it to measure again")


def test_a_measurement_is_read_as_it_was_written_and_scores_of_no_table_are_kept(tmp_path: Path) -> None:
    folder = open_folder("dense", StudyDense(DATA, tmp_path))
    film, tracks = movie_scores(0.25, **{"10": [0.5, None]}), tracking(chota=0.125)
    for name, scores in (("segmenter", segmenter(3, a=0.5, b=None)), ("movie", film), ("tracks", tracks)):
        assert folder.once(name, type(scores), lambda scores=scores: scores) == scores
        assert folder.once(name, type(scores), lambda: pytest.fail("is there already")) == scores
    stored = json.loads((tmp_path / "results" / "movie.json").read_text())
    assert stored["SSIM"] == 0.25 and stored["warping error"] is None and "LPIPS" not in stored
    assert json.loads((tmp_path / "results" / "tracks.json").read_text())["chota"] == 0.125


def test_trainings_are_rows_by_data_network_and_way() -> None:
    few, every = [segmenter(4, a=0.5, b=0.25), segmenter(7, a=0.25, b=None)], [segmenter(8, a=1.0, b=1.0)] * 2
    trainings = {("unet", "conventional, 2 images"): few, ("unet", "conventional, all images"): every}
    wanted = TrainingStudy(data=DATA, images=2, networks=("unet",), seeds=(0, 1), protocols=("instances",))
    shown = present_training(MeasuredTraining(study=wanted, datasets={"cells": trainings}))
    assert values(shown.rows, "training") == ["conventional, 2 images", "conventional, all images"]
    assert values(shown.rows, "F") == [pytest.approx(1 / 3), 1]
    assert values(shown.rows, "P") == [0.75, 0.75] and values(shown.rows, "R") == [0.25, 0.25]
    assert values(shown.rows, "F at IoU 0.7") == [pytest.approx(1 / 12), 0.25]
    assert values(shown.rows, "F at IoU 0.9") == [pytest.approx(1 / 48), 1 / 16]
    assert values(shown.rows, "steps") == [6, 8]  # 5.5 rounded to even
    page = shown.report.html()
    assert "2 annotated images against all, 2 random subsets" in page and "cells, unet: F on the test images" in page


def test_hard_images_touch_more_and_gains_are_against_conventional() -> None:
    touching = {"a": 0.5, "b": 0.0, "c": 0.25}
    arms = {
        "conventional": [segmenter(4, a=0.25, b=0.75, c=0.5)],
        "two-stage": [segmenter(2, a=0.75, b=0.5, c=0.5)],
    }
    study = DenseStudy(data=DATA, images=5, protocols=("instances",))
    shown = present_dense(MeasuredDense(study=study, arms=arms, touching=touching))
    assert [(row["test images"], row["images"]) for row in shown.rows[::2]] == [("all", 3), ("easy", 1), ("hard", 2)]
    assert values(shown.rows, "F at IoU 0.5") == [0.5, pytest.approx(1.75 / 3), 0.75, 0.5, 0.375, 0.625]
    gains = values(shown.rows, "against conventional at 0.5")
    assert gains == [None, pytest.approx(0.25 / 3), None, -0.25, None, 0.25]
    assert shown.facts == {"touching": touching}
    assert "touching cells (25% or more)" in shown.report.html()


@pytest.mark.parametrize("protocols", [("instances", "paper"), ("paper", "instances"), ("paper",)])
def test_both_protocols_are_rows_and_charts_are_of_the_first(
    protocols: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[float]] = []
    curves = segmenters._curves

    def record(found: dict[str, list[tuple[float, Estimate]]], label: str) -> Any:
        drawn.append([points[0][1].value for points in found.values()])  # at IoU 0.5
        return curves(found, label)

    monkeypatch.setattr(segmenters, "_curves", record)
    factor = {"instances": 1.0, "paper": 0.5}
    few, every = [segmenter(4, a=0.5, b=0.25)], [segmenter(8, a=1.0, b=0.5)]
    wanted = TrainingStudy(data=DATA, images=2, networks=("unet",), protocols=protocols)
    arms = {("unet", "conventional, 2 images"): few, ("unet", "conventional, all images"): every}
    shown = present_training(MeasuredTraining(study=wanted, datasets={"cells": arms}))
    assert [row["protocol"] for row in shown.rows] == [one for one in protocols for _ in range(2)]
    assert values(shown.rows, "F") == [factor[one] * f for one in protocols for f in (0.375, 0.75)]
    assert values(shown.rows, "Dice") == [0.5 * factor[one] for one in protocols for _ in range(2)]
    assert drawn == [[factor[protocols[0]] * f for f in (0.375, 0.75)]]

    both = {"conventional": few, "two-stage": every}
    study = DenseStudy(data=DATA, protocols=protocols, network="deepsea", target="semantic", augmentation="paper")
    dense = present_dense(MeasuredDense(study=study, arms=both, touching={"a": 0.5, "b": 0.0}))
    rows = [row for row in dense.rows if row["test images"] == "all"]
    assert [(row["protocol"], row["training"]) for row in rows] == [(one, arm) for one in protocols for arm in both]
    gains = values(rows, "against conventional at 0.5")
    assert gains == [gain for one in protocols for gain in (None, factor[one] * 0.375)]  # each by its own protocol
    page = dense.report.html()
    assert "deepsea, target semantic, augmentation paper, preset small" in page
    assert drawn[1:] == drawn[:1]


def curves(**further: Any) -> MeasuredLimitedData:
    """Two seeds and images a (easy) and b (hard): `scratch` climbs by .1 from 1 to 4 images, where `base` starts.

    A crop is worth a quarter of an image.
    """

    def both(a: float, b: float) -> list[SegmenterScores]:
        return [segmenter(3, a=a, b=b)] * 2

    return MeasuredLimitedData(
        study=LimitedDataStudy(
            data=DATA, seeds=(0, 1), crops=(1,), crop=80, counts=(1, 4), methods=("scratch", "base"), **further
        ),
        curves={
            "1 crop": {"scratch": both(0.25, 0.0), "base": both(0.5, 0.25)},
            "1 image": {"scratch": both(0.5, 0.25), "base": both(0.75, 0.375)},
            "4 images": {"scratch": both(0.75, 0.5), "base": both(1.0, 0.5)},
        },
        amounts={"1 crop": Amount(0.25, 4.0), "1 image": Amount(1.0, 16.0), "4 images": Amount(4.0, 64.0)},
        zero=both(0.25, 0.125),
        touching={"a": 0.0, "b": 0.5},
        left_out=["base-two-stage: not measured with 1 crop, as so"],
    )


def test_label_efficiency_is_read_off_the_curve_of_training_from_scratch() -> None:
    shown = present_limited_data(curves(protocols=("instances",)))
    parts = {group: [row for row in shown.rows if row["test images"] == group] for group in ("all", "easy", "hard")}
    assert sum(map(len, parts.values())) == len(shown.rows) == 3 * 7
    rows = parts["all"]
    assert [(row["labels"], row["cells"], row["training"]) for row in rows[:4]] == [
        ("none", 0, "base"),
        ("1 crop", 4, "scratch"),
        ("1 crop", 4, "base"),
        ("1 image", 16, "scratch"),
    ]
    assert values(rows, "F at IoU 0.5") == [0.1875, 0.125, 0.375, 0.375, 0.5625, 0.625, 0.75]
    assert values(rows, "F at IoU 0.7") == [0.25 * f for f in values(rows, "F at IoU 0.5")]
    assert values(rows, "against scratch") == [None, None, 0.25, None, 0.1875, None, 0.125]
    needed, efficiency = (
        [cell if cell is None else cell.to_json() for cell in (row[column] for row in rows)]
        for column in ("needed by scratch", "efficiency against scratch")
    )
    # .125, .375, .625 with 1/4, 1, 4 images: .1875 is a quarter of the way, .5625 three quarters
    assert [cell and cell["value"] for cell in needed] == [
        pytest.approx(0.25 * 4**0.25), None, pytest.approx(1.0), None, pytest.approx(4**0.75), None, "> 4"]  # fmt: skip
    assert [cell and cell["value"] for cell in efficiency] == [
        None, None, pytest.approx(4.0), None, pytest.approx(4**0.75), None, "> 1"]  # fmt: skip
    # of two images the interval is from either alone: a alone needs 4 for .75, b alone 2 for .375
    assert (efficiency[4]["low"], efficiency[4]["high"]) == (pytest.approx(2), pytest.approx(4))
    assert [row["efficiency against scratch"].to_json()["value"] for row in (parts["easy"][4], parts["hard"][4])] == [
        pytest.approx(4), pytest.approx(2)]  # fmt: skip
    assert shown.facts["left_out"] == ["base-two-stage: not measured with 1 crop, as so"]
    page = shown.report.html()
    assert "not measured with 1 crop, as so." in page and "2 seeds, 10 min each" in page
    assert "All test images (2)" not in page and "F of all test images (2), protocol instances" in page
    assert "Labels needed, hard test images (1), protocol instances" in page
    (lines,) = [line for line in shown.lines() if line.startswith("all") and "4 images" in line and " base " in line]
    assert "> 4" in lines and "> 1" in lines


def test_curves_by_the_first_protocol_without_a_reference_and_over_an_image() -> None:
    shown = present_limited_data(curves(protocols=("paper", "instances")))
    assert [(row["test images"], row["protocol"]) for row in shown.rows[::7]] == [
        ("all", "paper"), ("all", "instances"), ("easy", "paper"), ("hard", "paper")]  # fmt: skip
    assert values(shown.rows[:7], "F at IoU 0.5") == [f / 2 for f in values(shown.rows[7:14], "F at IoU 0.5")]
    measured = curves(protocols=("instances",))
    alone = {labels: {"base": arms["base"]} for labels, arms in measured.curves.items()}
    study = replace(measured.study, methods=("base",))
    shown = present_limited_data(replace(measured, study=study, curves=alone, touching={"b": 0.5}))
    assert {row["test images"] for row in shown.rows} == {"all", "hard"}  # a single test image is hard
    assert not [name for name in shown.rows[0] if "scratch" in name or "paper" in name]
    assert "Label efficiency" not in shown.report.html()
    same = replace(measured, amounts={**measured.amounts, "1 crop": Amount(1.0, 16.0)})  # as many as one image
    needed = present_limited_data(same).rows[0]["needed by scratch"]
    assert isinstance(needed, Labels) and (needed.value, needed.fewest) == (0, 1)


def test_the_figure_has_a_point_for_each_amount_and_training_on_a_logarithmic_axis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Any] = []
    figure = limited_data._figure
    monkeypatch.setattr(limited_data, "_figure", lambda *given: drawn.append(figure(*given)) or drawn[-1])
    present_limited_data(curves(protocols=("instances",)))
    assert [[axes.get_title() for axes in one.axes] for one in drawn] == [
        ["F at IoU 0.5", "F at IoU 0.7"], ["easy images", "hard images"]]  # fmt: skip
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log" and [*axes.get_xticks()] == [0.25, 1, 4]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\ncrop", "1", "4"]
    scratch, base = (container.lines[0] for container in axes.containers)
    np.testing.assert_allclose(scratch.get_ydata(orig=False), [0.125, 0.375, 0.625])
    np.testing.assert_allclose(base.get_ydata(orig=False), [0.375, 0.5625, 0.75])
    np.testing.assert_allclose(base.get_xdata(orig=False) / scratch.get_xdata(orig=False), limited_data.APART)


def test_generators_have_the_columns_that_were_computed(datasets: tuple[Path, Path]) -> None:
    test, painted = datasets
    generators = {
        "U-Net, L1": [PaintingScores(ssim=0.25, faithfulness=None), PaintingScores(ssim=0.75, faithfulness=0.5)],
        "StyleUNet, L1": [PaintingScores(ssim=None, fid=8.0, network="inception", faithfulness=None)] * 2,
    }
    shown = present_ablation(
        MeasuredAblation(
            study=AblationStudy(data=DATA, images=5, seeds=(0, 1)),
            generators=generators,
            left_out={"StyleUNet, L1 + VGG-19": "it needs weights"},
            paintings=Paintings("ablation", test, {"U-Net, L1": painted, "StyleUNet, L1": painted}),
        )
    )
    *trained, left_out = shown.rows
    assert [list(row) for row in trained] == [["generator", "FID", "SSIM", "faithfulness"]] * 2
    assert (values(trained, "SSIM"), values(trained, "FID")) == ([0.5, None], [None, 8.0])
    assert values(trained, "faithfulness") == [0.5, None]
    assert left_out == {"generator": "StyleUNet, L1 + VGG-19", "note": "not trained: it needs weights"}
    page = shown.report.html()
    assert "StyleUNet, L1 + VGG-19: not trained; it needs weights." in page
    assert "5 annotated images, 2 seeds" in page and "Networks: inception." in page
    grid = shown.pictures["ablation"]
    assert [[one.shape for one in row] for row in grid] == [[(192, 64, 3)] * 4] * 2  # of 200 px the middle
    assert grid[0][0][96, 30].any() and not grid[0][0][10, 10].any()  # a coloured cell


def test_data_sets_have_a_row_and_a_picture_each(datasets: tuple[Path, Path]) -> None:
    test, painted = datasets
    shown = present_versatility(
        MeasuredVersatility(
            study=GeneratorStudy(data=DATA),
            datasets={name: [PaintingScores(faithfulness=share)] for name, share in (("one", 0.25), ("two", 1.0))},
            paintings=[Paintings(name, test, {"synthetic": painted}) for name in ("one", "two")],
        )
    )
    assert (values(shown.rows, "data"), values(shown.rows, "faithfulness")) == (["one", "two"], [0.25, 1])
    assert list(shown.pictures) == ["one", "two"] and len(shown.pictures["one"][0]) == 3
    assert "all annotated images each" in shown.report.html()


def test_densities_are_rows_by_layout(datasets: tuple[Path, Path]) -> None:
    densities = {
        (layout, density): DensePaintings([PaintingScores(faithfulness=1 - density)], density - 0.01, datasets[1])
        for layout in ("scattered", "colony")
        for density in (0.25, 0.5)
    }
    wanted = ExtrapolationStudy(data=DATA, densities=(0.25, 0.5), count=2)
    shown = present_extrapolation(MeasuredExtrapolation(study=wanted, densities=densities))
    assert [(row["layout"], row["share of cell"], row["reached"]) for row in shown.rows] == [
        (layout, density, density - 0.01) for layout, density in densities
    ]
    assert values(shown.rows, "faithfulness") == [0.75, 0.5] * 2
    assert {name: len(rows[0]) for name, rows in shown.pictures.items()} == {"scattered": 2, "colony": 2}
    assert "2 masks per density, 1 seed" in shown.report.html()


def movie_scores(ssim: float, **drift: list[float | None]) -> MovieScores:
    real = {"SSIM": 1.0, "flicker": 0.125, "drift": {"10": [0.0, 0.25]}, "by_length": {"2": 0.0625, "4": 0.125}}
    found = {"SSIM": ssim, "flicker": 0.5, "warping error": None, "drift": drift, "clips_network": "flow", "real": real}
    spent = {"steps": 30, "seconds": 60.0, "by_length": {"2": 0.5, "4": ssim}}
    return MovieScores.model_validate({**found, **spent, "faithfulness": 0.75})


@pytest.mark.parametrize("tgan", [True, False])
def test_movies_are_compared_by_method_length_density_and_background(tgan: bool, movie: Path) -> None:
    methods = ("tgan", "vid2vid") if tgan else ("vid2vid",)
    wanted = MovieStudy(data=DATA, frames=10, densities=(0.25,), methods=methods, budget=TWO_MINUTES)  # type: ignore[arg-type]
    backgrounds = [OnBackground("its own", movie, 0.0625), OnBackground("empty", movie, None)]
    shown = present_movies(
        MeasuredMovies(
            study=wanted,
            test=movie,
            scores={method: [movie_scores(0.25)] for method in methods},
            painted=dict.fromkeys(methods, movie),
            long={method: [movie_scores(0.5, **{"10": [0.5, None], "50": [1.0, 0.75]})] for method in methods},
            dense={(layout, 0.25): DenseMovie([movie_scores(0.5)], movie) for layout in ("scattered", "colony")},
            segmenters={"real": [segmenter(1, a=0.5, b=None)], "painted": [segmenter(1, a=0.25, b=0.75)]},
            backgrounds=backgrounds if tgan else [],
        )
    )
    scores = [row for row in shown.rows if "SSIM" in row]
    assert values(scores, "movie") == [*methods, "real movie"] and values(scores, "SSIM")[-2:] == [0.25, 1]
    assert list(scores[0]) == ["movie", "steps", "seconds", "SSIM", "flicker", "faithfulness"]
    assert values(scores, "steps") == [30] * len(methods) + [None]
    clips = [row for row in shown.rows if "frames of a clip" in row]
    assert [(row["movie"], row["frames of a clip"], row["distance of clips"].value) for row in clips] == [
        *((method, n, value) for method in methods for n, value in ((2, 0.5), (4, 0.25))),
        ("real halves", 2, 0.0625),
        ("real halves", 4, 0.125),
    ]
    drifts = [(row["movie"], row["frames"], row["drift of grey"].value) for row in shown.rows if "drift of grey" in row]
    assert drifts == [
        *((method, n, value) for method in methods for n, value in ((10, 0.5), (50, 1.0))),
        ("real movie", 10, 0.0),
    ]
    assert next(row["drift of texture"] for row in shown.rows if row.get("frames") == 10) is None
    dense = [row for row in shown.rows if "layout" in row]
    assert [(row["movie"], row["layout"], row["share of cell"]) for row in dense] == [
        (methods[0], "scattered", 0.25),
        (methods[0], "colony", 0.25),
    ]
    segmenters = [row for row in shown.rows if "segmenter trained on" in row]
    assert values(segmenters, "F at IoU 0.5") == [0.5, 0.5] and values(segmenters, "F at IoU 0.7") == [0.125, 0.125]
    still = [row["deviation over time"] for row in shown.rows if "background" in row]
    assert still == ([0.0625, None] if tgan else [])
    sizes = {name: (len(rows), len(rows[0])) for name, rows in shown.pictures.items()}
    assert sizes == {"movie": (2 + len(methods), 4), "dense-scattered": (3, 1), "dense-colony": (3, 1)} | (
        {"backgrounds": (2, 3)} if tgan else {}
    )
    page = shown.report.html()
    assert "1 seed, trained for 2 min each" in page and "Networks: flow." in page
    assert ("0.0625" in page) == tgan


def tracking(**given: float | None) -> TrackingScores:
    return TrackingScores.model_validate({**dict.fromkeys(TrackingScores.model_fields, 0.5), **given})


def test_trackers_are_compared_with_the_real_movie_and_by_what_they_have_learned() -> None:
    wanted = TrackingStudy(
        data=DATA,
        trackers=("laptrack",),
        learners=("global",),
        frames=(5,),
        tune=True,
        seeds=(0, 1),
        budget=TWO_MINUTES,
    )
    compared = {
        ("laptrack", "real"): [tracking(mota=0.75), tracking(mota=None)],
        ("laptrack", "tgan"): [tracking(mota=0.25, script_mota=0.875), tracking(mota=1.0, recall=0.0)],
    }
    trained = {
        Taught("laptrack", 0, "nothing", "wrong"): [tracking(idf1=0.125)],
        Taught("global", 5, "real", "true"): [tracking(idf1=0.25)] * 2,
        Taught("deepsea", 5, "both", "wrong"): [tracking(idf1=None)] * 2,
    }
    tried = [TriedDistance("laptrack", 8.0, 0.5, False), TriedDistance("laptrack", 16.0, 0.875, True)]
    absent = {"btrack": "btrack: is not installed"}
    shown = present_tracking(
        MeasuredTracking(study=wanted, absent=absent, tried=tried, compared=compared, trained=trained)
    )
    assert [(row["distance"], row["IDF1"]) for row in shown.rows[:2]] == [(8.0, 0.5), (16.0, 0.875)]
    real, painted = shown.rows[2:4]
    assert "|MOTA - real|" not in real and values([painted], "|MOTA - real|") == [0.5]
    assert values([painted], "|recall - real|") == [0.25] and values([real, painted], "MOTA") == [0.75, 0.625]
    assert values([painted], "|script's MOTA - real|") == [0.1875]
    assert shown.rows.pop(4) == {"tracker": "btrack", "movie": "btrack: is not installed", "frames": "none"}
    assert [(row["tracker"], row["frames"], row["masks"]) for row in shown.rows[4:]] == [
        ("laptrack, trained on nothing", 0, "wrong"),
        ("global, trained on real", 5, "true"),
        ("deepsea, trained on both", 5, "wrong"),
    ]
    assert values(shown.rows[4:], "IDF1") == [0.125, 0.25, None]
    page = shown.report.html()
    assert page.count("IDF1 by the number of real frames, ") == 2  # true masks, and wrong ones
    # seed 0: 0.5 over five scores; seed 1: 0.5 over the four that both have
    assert f"{(0.5 / 5 + 0.5 / 4) / 2:.3f}" in page
    assert "2 seeds, trained for 2 min each" in page and "painted are 2 movies of simulated" in page
    quiet = TrackingStudy(data=DATA, trackers=("laptrack",), learners=("global",), frames=(5,))
    undefined = {Taught("global", 5, "real", "true"): [tracking(idf1=None)]}
    measured = MeasuredTracking(study=quiet, absent={}, tried=[], compared=compared, trained=undefined)
    page = present_tracking(measured).report.html()
    assert "distance in pixels" not in page and "IDF1 by the number of real frames" not in page


def test_measuring_shows_nothing_and_showing_measures_nothing() -> None:
    graph = import_graph()
    measuring = {one: others for one, others in graph.items() if one.startswith("cytoforge.studies.measure.")}
    showing = {one: others for one, others in graph.items() if one.startswith("cytoforge.studies.present.")}
    assert len(measuring) >= 5 and len(showing) >= 5
    for others in measuring.values():
        assert not {other for other in others if other.startswith(("cytoforge.studies.present", "cytoforge.report"))}
    rooms = ("cytoforge.studies.measure.", "cytoforge.training", "cytoforge.inference", "cytoforge.evaluation")
    for others in showing.values():
        assert not {other for other in others if other.startswith((*rooms, "cytoforge.simulated"))}
    studies = {one: others for one, others in graph.items() if one.startswith("cytoforge.studies")}
    for others in studies.values():
        assert not {other for other in others if other.startswith(("cytoforge.settings", "cytoforge.commands"))}
