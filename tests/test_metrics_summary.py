"""Scores of sets of segmented images: means, pooling, bootstrap intervals."""

import json
from math import isnan

import numpy as np
import pytest

from cells import NOTHING, ONE_MISSED_ONE_INVENTED, SPLIT, THREE_CELLS, TOUCHING
from cytoforge.metrics.estimates import Estimate, mean_estimate, nested_estimate, resample
from cytoforge.metrics.segmentation import ImageScores, segmentation_scores, summarise


def four_images() -> dict[str, ImageScores]:
    return {
        "some": segmentation_scores(THREE_CELLS, ONE_MISSED_ONE_INVENTED),  # TP 2, FP 1, FN 1
        "all": segmentation_scores(TOUCHING, TOUCHING),  # TP 2
        "empty": segmentation_scores(NOTHING, NOTHING),
        "none": segmentation_scores(THREE_CELLS, NOTHING),  # FN 3
    }


def test_mean_leaves_undefined_images_out_and_pooling_counts_cells() -> None:
    results = summarise(four_images(), np.random.default_rng(0))
    mean, pooled = results.mean, results.pooled
    assert mean["f_score"][0].value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert mean["f_score"][0].images == 3
    assert mean["precision"][0].value == pytest.approx((2 / 3 + 1) / 2)
    assert mean["precision"][0].images == 2
    assert mean["recall"][0].value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert pooled["precision"][0].value == pytest.approx(4 / 5)
    assert pooled["recall"][0].value == pytest.approx(4 / 8)
    assert pooled["f_score"][0].value == pytest.approx(2 * 4 / (2 * 4 + 1 + 4))
    assert pooled["average_precision"][0].value == pytest.approx(4 / 9)
    assert pooled["matched_iou"][0].value == pytest.approx(1.0)
    assert (results.true_positives[0], results.false_positives[0], results.false_negatives[0]) == (4, 1, 4)
    assert (results.truth_cells, results.predicted_cells) == (8, 5)
    assert results.dice.value == pytest.approx((40 / 52 + 1 + 0) / 3)
    for estimates in (*mean.values(), *pooled.values()):
        assert all(e.low <= e.value <= e.high for e in estimates)


def test_a_set_of_empty_images_is_undefined_throughout() -> None:
    empty = segmentation_scores(NOTHING, NOTHING)
    results = summarise({"a": empty, "b": empty}, np.random.default_rng(0))
    for estimate in (results.mean["f_score"][0], results.pooled["f_score"][0], results.dice):
        assert isnan(estimate.value)
        assert isnan(estimate.low)
    assert results.mean["f_score"][0].images == 0


def test_one_image_has_no_interval() -> None:
    results = summarise({"a": segmentation_scores(THREE_CELLS, SPLIT)}, np.random.default_rng(0))
    assert results.mean["f_score"][0].value == pytest.approx(6 / 7)
    assert isnan(results.mean["f_score"][0].low)
    assert isnan(results.pooled["f_score"][0].high)


def test_results_are_json_without_nan_and_repeat_with_the_seed() -> None:
    text, again = (
        json.dumps(summarise(four_images(), np.random.default_rng(5)).to_json(), allow_nan=False) for _ in range(2)
    )
    assert text == again
    stored = json.loads(text)
    assert stored["images"]["empty"]["f_score"] == [None] * 5
    assert stored["images"]["some"]["true_positives"] == [2] * 5
    assert stored["mean"]["f_score"][0]["images"] == 3
    assert segmentation_scores(NOTHING, NOTHING).to_json()["dice"] is None


def test_draws_are_made_with_replacement() -> None:
    draws = resample(7, np.random.default_rng(0), resamples=500)
    assert (draws == resample(7, np.random.default_rng(0), resamples=500)).all()
    assert (draws != resample(7, np.random.default_rng(1), resamples=500)).any()
    assert draws.shape == (500, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert draws.min() == 0
    assert draws.max() > 1
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.15)  # 3 standard errors


@pytest.mark.parametrize("images", [8, 15, 40])
def test_intervals_cover_the_truth_as_often_as_they_say(images: int) -> None:
    """Normal values with mean 0: of 600 intervals 95 % should hold 0, give or take 3.5 standard errors of 0.9 %."""
    generator = np.random.default_rng(images)
    estimates = [
        mean_estimate(generator.normal(size=images), resample(images, generator, resamples=500)) for _ in range(600)
    ]
    covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
    assert covered == pytest.approx(0.95, abs=0.031)


def test_sets_must_be_alike_and_not_empty() -> None:
    with pytest.raises(ValueError, match="got 0 images"):
        summarise({}, np.random.default_rng(0))
    mixed = {p: segmentation_scores(THREE_CELLS, SPLIT, protocol=p) for p in ("instances", "paper")}  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one protocol and thresholds; got 2 images"):
        summarise(mixed, np.random.default_rng(0))


def nested(values: list[list[float]]) -> Estimate:
    return nested_estimate(values, np.random.default_rng(0))


def test_a_mean_over_repetitions_and_images_leaves_out_what_was_not_scored() -> None:
    found = nested([[1, 0, float("nan"), float("nan")], [0.5, float("nan"), 0.5, float("nan")]])
    assert found.value == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    assert found.images == 3
    assert found.low <= found.value <= found.high
    nothing = nested([[float("nan")] * 2] * 2)
    assert isnan(nothing.value) and isnan(nothing.low) and nothing.images == 0
    alone = nested([[0.25], [0.75]])
    assert alone.value == 0.5 and isnan(alone.low) and alone.images == 1


def test_repetitions_and_images_are_both_resampled() -> None:
    """Where only one of the two varies, draws of two are both of one, both of the other, or one of each."""
    assert nested([[0, 0, 0], [1, 1, 1]]) == Estimate(0.5, 0.0, 1.0, 3)
    assert nested([[0, 1], [0, 1]]) == Estimate(0.5, 0.0, 1.0, 2)  # an image is drawn in all repetitions at once
    assert nested([[0, 1]]) == Estimate(0.5, 0.0, 1.0, 2)


def test_one_repetition_is_a_set_of_images() -> None:
    scores = np.random.default_rng(1).normal(size=40)
    found = nested_estimate([scores], np.random.default_rng(0))
    plain = mean_estimate(scores, resample(40, np.random.default_rng(0)))
    assert (found.value, found.images) == (pytest.approx(plain.value), 40)
    assert (found.low, found.high) == (pytest.approx(plain.low, abs=0.05), pytest.approx(plain.high, abs=0.05))


def test_the_order_of_repetitions_and_images_says_nothing() -> None:
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(4, 30)) + generator.normal(size=(4, 1))
    scores[1, :5] = np.nan
    found = nested_estimate(scores, generator)
    mixed = nested_estimate(scores[::-1][:, generator.permutation(30)], generator)
    assert mixed.value == pytest.approx(found.value)
    width = found.high - found.low
    assert (mixed.low, mixed.high) == (
        pytest.approx(found.low, abs=width / 10),
        pytest.approx(found.high, abs=width / 10),
    )


@pytest.mark.parametrize(("repetitions", "spread", "least"), [(3, 0.3, 0.91), (5, 0.3, 0.92), (3, 3.0, 0.70)])
def test_intervals_over_repetitions_cover_as_often_as_documented(repetitions: int, spread: float, least: float) -> None:
    """15 images that vary by 1, repetitions by `spread`: with three that differ a lot only some 75 % hold the truth."""
    generator = np.random.default_rng(repetitions)
    held = []
    for _ in range(300):
        scores = spread * generator.normal(size=(repetitions, 1)) + generator.normal(size=15)
        found = nested_estimate(scores + 0.5 * generator.normal(size=scores.shape), generator, resamples=300)
        held.append(found.low <= 0 <= found.high)
    assert least <= np.mean(held) <= (0.99 if spread < 1 else 0.85)
