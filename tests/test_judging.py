"""The verdicts on trained models: hand-made scores, each rule made to fire."""

import dataclasses
import io
import math
from collections.abc import Sequence

import numpy as np
import pytest

from cytoforge import progress
from cytoforge.data.judgement import Judgement, Measured, Winner
from cytoforge.metrics.segmentation import ImageScores, f_replicates, segmentation_scores
from cytoforge.metrics.texture import contrast, grain
from cytoforge.training.course import Course, State
from cytoforge.training.tasks.judging import (
    Followed,
    Painted,
    Segmented,
    judge_painter,
    judge_segmenter,
    judge_tracker,
)
from cytoforge.training.tasks.segmentation import spread

CONVERGED, RISING = Course("converged", "Converged."), Course("rising", "Not converged yet.")
STATE = State(step=100, best=0.6, best_step=50, history=[[0.5, 0.6], [1.0, 0.6]])


def image(hits: int, false: int, missed: int) -> ImageScores:
    """Scores of an image in which so many cells are found exactly, so many are false and so many are missed."""
    truth, found = np.zeros((2, 1, 3 * (hits + false + missed) + 1), np.int32)
    for k in range(hits + false + missed):
        truth[0, 3 * k : 3 * k + 2] = (k + 1) * (k < hits or k >= hits + false)
        found[0, 3 * k : 3 * k + 2] = (k + 1) * (k < hits + false)
    return segmentation_scores(truth, found)


def judged(
    validation: Sequence[ImageScores],
    baseline: Sequence[ImageScores] | None = None,
    training: Sequence[ImageScores] | None = None,
    course: Course = CONVERGED,
    diameters: Sequence[float] = (),
    rivals: dict[str, Sequence[ImageScores]] | None = None,
) -> Judgement:
    found = Segmented(
        names=[f"p{k}" for k in range(len(validation))],
        validation=validation,
        baseline=baseline or [image(0, 1, 9)] * len(validation),
        training=training or validation,
        rivals=rivals or {},
        diameters=diameters,
    )
    return judge_segmenter(found, course, STATE)


def test_f_of_hand_made_images_and_its_replicates() -> None:
    one, other = image(4, 2, 0), image(1, 0, 3)  # F 8/10 and 2/5
    assert (one.f_score[0], other.f_score[0]) == (0.8, 0.4)
    values, replicates, cells = f_replicates([one, other], np.random.default_rng(0))
    assert values.tolist() == pytest.approx([0.6] * 5) and cells == 10 and replicates.shape == (2000, 5)
    assert np.median(replicates[:, 0]) == pytest.approx(0.6, abs=0.03) and replicates.std() > 0.05
    values, replicates, images = f_replicates([one, one, other, other], np.random.default_rng(0))
    assert images == 4 and set(np.round(np.unique(replicates), 6)) == {0.4, 0.5, 0.6, 0.7, 0.8}


def test_replicates_of_cells_keep_the_thresholds_that_pairs_reach() -> None:
    """Two pairs of IoU 1/2 and 1: at 0.5 both count, at 0.6 one does."""
    truth, found = np.zeros((2, 1, 12), np.int32)
    truth[0, :4], found[0, :2] = 1, 1
    truth[0, 6:10], found[0, 6:10] = 2, 2
    values, replicates, cells = f_replicates([segmentation_scores(truth, found)], np.random.default_rng(0))
    assert values.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5] and cells == 2
    assert (replicates[:, 0] == 1).all() and set(np.unique(replicates[:, 1])) == {0.0, 0.5, 1.0}


def test_images_without_cells_have_no_f() -> None:
    empty = image(0, 0, 0)
    values, replicates, number = f_replicates([empty], np.random.default_rng(0))
    assert number == 0 and np.isnan(values).all() and np.isnan(replicates).all()
    values, _, number = f_replicates([empty, image(3, 0, 0)], np.random.default_rng(0))
    assert number == 3 and values.tolist() == [1.0] * 5
    nothing = judged([empty])
    assert nothing.verdict == "poor" and nothing.score is None
    assert nothing.remedies == ["keep images with cells for validation (--validation)"]
    assert nothing.headline.startswith("Poor: nothing to score on validation (no cells)")


def test_a_useless_model_is_poor_and_told_why() -> None:
    judgement = judged([image(1, 13, 14)] * 6, [image(6, 2, 9)] * 6)
    assert judgement.verdict == "poor" and judgement.score is not None and judgement.baseline is not None
    assert judgement.score.value == pytest.approx(2 / 29) and judgement.baseline.value == pytest.approx(12 / 23)
    assert judgement.reasons == [
        "it finds 6 of 90 cells, and 78 of the 84 that it finds match none",
        "it does not find the cells either that it learned from (underfitting)",
        "a threshold, which learns nothing, does better",
    ]
    assert judgement.remedies == ["look whether the masks are right and complete (cytoforge check)"]
    assert judged([image(1, 13, 14)] * 6, course=RISING).remedies == ["train longer (--minutes)"]
    assert judged([image(0, 0, 9)] * 6).reasons[0] == "it finds none of 54 cells"
    assert "none that is not there" in judged([image(2, 0, 9)] * 6).reasons[0]


@pytest.mark.parametrize(
    ("validation", "baseline", "verdict"),
    [
        ([image(9, 1, 1)] * 5, [image(5, 5, 5)] * 5, "good"),
        ([image(9, 1, 1)] * 5, [image(10, 0, 0)] * 5, "usable"),  # a threshold does better, but this is good enough
        ([image(6, 4, 4)] * 5, [image(5, 5, 5)] * 5, "usable"),
        ([image(6, 4, 4)] * 5, [image(7, 3, 3)] * 5, "poor"),  # a threshold does better
        ([image(4, 6, 6)] * 5, [image(1, 9, 9)] * 5, "poor"),
        ([image(4, 0, 1)], [image(2, 2, 2)], "usable"),  # five cells of one image tell little
        ([image(90, 9, 9)], [image(50, 50, 50)], "good"),
        ([image(10, 0, 0)] * 4 + [image(2, 8, 8)], [image(5, 5, 5)] * 5, "usable"),  # the interval is wide
    ],
)
def test_verdicts(validation: list[ImageScores], baseline: list[ImageScores], verdict: str) -> None:
    judgement = judged(validation, baseline)
    assert judgement.verdict == verdict
    assert bool(judgement.reasons) == bool(judgement.remedies) == (verdict != "good")
    assert judgement.headline.startswith(verdict.capitalize())


def test_where_nothing_is_amiss_but_the_score_more_labels_are_the_remedy() -> None:
    judgement = judged([image(14, 5, 5)] * 6, training=[image(14, 5, 5)] * 3)
    assert judgement.verdict == "usable" and len(judgement.reasons) == 1
    assert judgement.remedies == ["label more images (cytoforge suggest says which)"]


def test_overfitting_uneven_mixed_and_few_images_are_named() -> None:
    validation = [image(8, 2, 2), image(8, 2, 2), image(8, 2, 2), image(2, 8, 8)]
    judgement = judged(validation, training=[image(10, 0, 0)] * 3, diameters=[8.0, 24.0, 16.0])
    assert "it does well only on what it learned from (overfitting)" in judgement.reasons
    assert "it does worst on p3 (F 0.20)" in judgement.reasons
    assert "cells are 3.0 times as large in one image as in another" in judgement.reasons
    assert "there is too little validation to tell (its interval is wide)" in judgement.reasons
    assert judgement.remedies == [
        "label more images (cytoforge suggest says which)",
        "label more images, or keep some for validation (--validation)",
        "label more images like p3",
        "train on images of one kind at a time, or label several of each",
    ]
    assert "it was still learning" in judged([image(7, 3, 3)] * 5, course=RISING).reasons
    short = judged([image(7, 3, 3)] * 5, course=Course("too short", "Too few validations to tell."))
    assert "training was too short to tell whether it was still learning" in short.reasons
    assert "it was still learning" not in short.reasons and "train longer (--minutes)" in short.remedies
    small = judged([image(1, 9, 9)] * 5, diameters=[5.0])
    assert "leave --scale out, or give --scale auto" in small.remedies


def test_the_winner_is_named_with_its_interval() -> None:
    better = judged([image(9, 1, 1)] * 6, rivals={"the base model as it is": [image(5, 5, 5)] * 6})
    (winner,) = better.winners
    assert winner.name == "the trained segmenter" and winner.sure and winner.difference.value == pytest.approx(0.4)
    assert str(winner) == (
        "the trained segmenter did better than the base model as it is "
        "(validation score 0.900 against 0.500, difference 0.40 [0.40, 0.40])"
    )
    worse = judged([image(5, 5, 5)] * 6, rivals={"the base model as it is": [image(9, 1, 1)] * 6})
    assert worse.winners[0].name == "the base model as it is" and worse.winners[0].sure
    assert worse.reasons[0] == "the base model as it is does better" and worse.remedies[0] == "use that one"
    chance = judged([image(9, 1, 1)], rivals={"base": [image(8, 2, 2)]})
    assert not chance.winners[0].sure and "which may be chance" in str(chance)
    none = judged([image(0, 0, 3)], rivals={"base": [image(0, 0, 3)]}).winners[0]
    assert (none.score, none.other_score, none.sure) == (0.0, 0.0, False)
    empty = judged([image(0, 0, 0)], rivals={"base": [image(0, 0, 0)]}).winners[0]
    assert (empty.score, empty.difference.value) == (0.0, 0.0)


def test_a_start_that_was_kept_is_the_winner() -> None:
    state = State(step=100, best=0.6, best_step=0, history=[[0.0, 0.6], [0.5, 0.3], [1.0, 0.4]])
    found = Segmented(names=["a"], validation=[image(9, 1, 1)], baseline=[image(1, 1, 1)], training=[image(9, 1, 1)])
    (winner,) = judge_segmenter(found, Course("start kept", "Kept."), state).winners
    assert (winner.score, winner.other_score) == (0.6, 0.4) and winner.difference.value == pytest.approx(0.2)
    assert "started from, which was kept," in winner.name


def seen_as(
    real: np.ndarray, painted: np.ndarray, found: float = 0.8, found_painted: float = 0.8, contrast: float = 0.6
) -> Painted:
    """What a painter made of bright cells: their grain, how many are found, and how bright they are (real ones 0.6)."""
    return Painted(
        real=real,
        painted=painted,
        contrast=np.full(len(real), 0.6),
        contrast_painted=np.full(len(painted), contrast),
        found=found,
        found_painted=found_painted,
    )


def textured(spread: float, number: int = 6) -> np.ndarray:
    """Grain of so many cells whose grey values vary so much."""
    return np.linspace(0.9, 1.1, number)[:, None] * np.array([[spread, spread / 2]])


@pytest.mark.parametrize(
    ("ratio", "found", "verdict", "reason"),
    [
        (1.0, 0.8, "good", None),
        (0.5, 0.8, "usable", "insides of painted cells are flat: grey values vary 0.50 times as much as in real ones"),
        (0.3, 0.8, "poor", "insides of painted cells are flat: grey values vary 0.30 times as much as in real ones"),
        (3.0, 0.8, "poor", "insides of painted cells are too grainy: grey values vary 3.00 times as much as in real"),
        (1.0, 0.2, "poor", "painted cells are not where their masks say, or look like none"),
    ],
)
def test_generators_by_grain_and_by_cells(ratio: float, found: float, verdict: str, reason: str | None) -> None:
    judgement = judge_painter(seen_as(textured(0.2), textured(0.2 * ratio), found_painted=found), CONVERGED)
    assert judgement.verdict == verdict and judgement.over == "6 cells"
    assert " ".join(judgement.reasons).startswith(reason or "") and bool(judgement.reasons) == bool(reason)
    assert judgement.score is not None and judgement.score.value == pytest.approx(min(ratio, 1 / ratio))
    assert judgement.further["in real ones"].value == 0.8


def test_dots_show_in_the_fine_grain_alone() -> None:
    dotted = textured(0.2)
    dotted[:, 1] *= 4
    judgement = judge_painter(seen_as(textured(0.2), dotted), RISING)
    assert judgement.verdict == "poor" and "too grainy: fine grain varies 4.00 times" in judgement.reasons[0]
    assert judgement.remedies[0] == "train longer (--minutes)"


@pytest.mark.parametrize(("contrast", "verdict"), [(0.5, "good"), (0.28, "poor"), (1.0, "poor"), (-0.6, "poor")])
def test_cells_of_another_brightness_are_poor_even_where_their_grain_is_right(contrast: float, verdict: str) -> None:
    judgement = judge_painter(seen_as(textured(0.2), textured(0.2), contrast=contrast), CONVERGED)
    assert judgement.verdict == verdict
    painted = f"painted cells differ from the background by {contrast / 2:+.2f} of the range of grey values"
    reason = f"{painted}, real ones by +0.30"
    assert judgement.reasons == ([reason] if verdict == "poor" else [])


def test_pale_cells_may_be_painted_somewhat_paler() -> None:
    pale = dataclasses.replace(
        seen_as(textured(0.2), textured(0.2)), contrast=np.full(6, -0.1), contrast_painted=np.full(6, 0.05)
    )
    assert (
        judge_painter(pale, CONVERGED).verdict == "good"
    )  # phase contrast: cells are hardly darker than the background


def test_what_cannot_be_compared_is_not_good() -> None:
    nothing = np.full((2, 2), np.nan)
    judgement = judge_painter(seen_as(nothing, nothing, math.nan, math.nan), CONVERGED)
    assert judgement.verdict == "poor" and judgement.score is None and judgement.further == {}
    assert judgement.reasons == ["no cell of validation is large enough to compare its inside"]


def test_grain_is_that_of_the_middle_of_a_cell() -> None:
    labels, picture = np.zeros((40, 40), np.int32), np.zeros((1, 40, 40))
    labels[4:24, 4:24], labels[30:33, 30:33] = 1, 2
    picture[0, 4:24, 4:24] = 1  # a bright edge of the cell is not its inside
    flat = grain(picture, labels)
    assert flat.shape == (2, 2) and flat[0, 0] == 0 and np.isnan(flat[1]).all()
    picture[0, ::2, ::2] += 0.5
    checked = grain(picture, labels)
    assert checked[0, 0] == pytest.approx(0.5 * math.sqrt(3) / 4, rel=0.02) and checked[0, 1] > 0.15
    assert grain(picture, labels * 0).shape == (0, 2)


HIT, MISS = image(1, 0, 0), image(0, 0, 1)


@pytest.mark.parametrize(
    ("single", "divisions", "staying", "verdict", "reasons"),
    [
        ([HIT] * 20, [HIT] * 4, [HIT] * 10 + [MISS] * 10, "good", []),
        ([HIT] * 20, [], [MISS] * 20, "good", ["no division is among the validation frames"]),
        (
            [HIT] * 20,
            [MISS] * 4,
            [MISS] * 20,
            "usable",
            ["it misses divisions, or sees some where there are none"],
        ),
        (
            [HIT] * 16 + [MISS] * 4,
            [HIT] * 4,
            [HIT] * 18 + [MISS] * 2,
            "poor",
            ["it loses cells from one frame to the next", "taking each cell to stay where it is does better"],
        ),
        ([HIT, MISS] * 8, [HIT] * 4, [MISS] * 16, "poor", ["it loses cells from one frame to the next"]),
        ([], [HIT] * 4, [], "poor", ["no cell is seen in two frames in a row that does not divide"]),
    ],
)
def test_trackers(
    single: list[ImageScores],
    divisions: list[ImageScores],
    staying: list[ImageScores],
    verdict: str,
    reasons: list[str],
) -> None:
    found = Followed(single=single, divisions=divisions, staying=staying, training=single, over=f"{len(single)} moves")
    judgement = judge_tracker(found, CONVERGED)
    assert (judgement.verdict, judgement.reasons) == (verdict, reasons)


def test_a_judgement_survives_json_and_refuses_what_it_is_not() -> None:
    judgement = judged([image(9, 1, 1)] * 6, rivals={"base": [image(5, 5, 5)] * 6})
    assert Judgement.model_validate(judgement.to_json()) == judgement
    assert isinstance(judgement.winners[0], Winner) and isinstance(judgement.score, Measured)
    with pytest.raises(ValueError, match="verdict"):
        Judgement.model_validate({**judgement.to_json(), "verdict": "splendid"})


@pytest.mark.parametrize(
    ("terminal", "variable", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_a_verdict_has_its_colour_on_a_terminal(
    terminal: bool, variable: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("NO_COLOR", variable)
    progress.say(["Poor: it is."], "poor")
    progress.say(["Plain."])
    assert screen.getvalue() == ("\x1b[1;31mPoor: it is.\x1b[0m\nPlain.\n" if coloured else "Poor: it is.\nPlain.\n")


def test_best_median_and_worst() -> None:
    assert spread([0.1, 0.9, 0.5, math.nan, 0.7], 3) == [1, 2, 0]
    assert spread([math.nan, 0.2, math.nan], 3) == [1] and spread([math.nan] * 2, 3) == [0, 1]
    assert spread([0.2], 3) == [0] and spread(range(4), 8) == [3, 2, 1, 0]


def test_contrast_is_the_mean_of_a_cell_less_the_median_of_the_background() -> None:
    labels, picture = np.zeros((4, 6), np.int32), np.full((2, 4, 6), -0.5)
    labels[0, :2], labels[2:, 4:] = 7, 3
    picture[:, 0, :2], picture[:, 2:, 4:], picture[:, 3, 0] = [0.5, 0.1], -0.9, 1
    assert contrast(picture, labels) == pytest.approx(
        [-0.4, 0.8]
    )  # of cell 3, then 7; one bright pixel changes no median
    assert np.isnan(contrast(picture, np.ones((4, 6), np.int32))).all() and contrast(picture, labels * 0).shape == (0,)
