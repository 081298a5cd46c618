"""Scores of sets of segmented images: means, pooling, bootstrap intervals."""

import json
from math import isnan

import numpy as np
import pytest

from cells import NOTHING, ONE_MISSED_ONE_INVENTED, SPLIT, THREE_CELLS, TOUCHING
from cytoforge.metrics.estimates import mean_estimate, resample
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
