"""Label efficiency: labels that a reference needs for a score, by hand and against independent code."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from cytoforge.metrics.efficiency import Labels, labels_needed, labels_worth, monotone

FOUR = [1, 2, 4, 8]
NAN = float("nan")
score = st.floats(0, 1)


@pytest.mark.parametrize(
    ("scores", "wanted", "needed"),
    [
        ([0.2, 0.4, 0.6, 0.8], 0.5, 8**0.5),  # half way from 2 to 4, in logarithms
        ([0.2, 0.4, 0.6, 0.8], 0.7, 32**0.5),
        ([0.2, 0.4, 0.6, 0.8], 0.45, 2 * 2**0.25),
        ([0.2, 0.4, 0.6, 0.8], 0.2, 1),  # the ends belong to the curve
        ([0.2, 0.4, 0.6, 0.8], 0.8, 8),
        ([0.2, 0.4, 0.6, 0.8], 0.81, np.inf),  # nothing found with the most labels, and ...
        ([0.2, 0.4, 0.6, 0.8], 0.19, 0),  # ... everything with the fewest: no extrapolation
        ([0.2, 0.6, 0.4, 0.8], 0.5, 2),  # it falls from 2 to 4: .5 at both
        ([0.2, 0.6, 0.4, 0.8], 0.65, 32**0.5),
        ([0.75, 0.5, 0.5, 0.25], 0.5, 1),  # flat at its mean
        ([0.75, 0.5, 0.5, 0.25], 0.6, np.inf),
        ([0.5, 0.5, 0.5, 0.9], 0.5, 1),  # the fewest labels with a score
        ([0.2, 0.4, 0.6, 0.8], NAN, NAN),
        ([0.2, NAN, 0.6, 0.8], 0.5, NAN),
    ],
)
def test_labels_are_read_off_the_monotone_curve(scores: list[float], wanted: float, needed: float) -> None:
    found = labels_needed(FOUR, scores, wanted)
    np.testing.assert_allclose(found, needed, rtol=1e-12)
    np.testing.assert_allclose(labels_needed(FOUR, [scores, scores], [wanted, wanted]), [needed] * 2, rtol=1e-12)


def test_a_curve_of_one_point_and_labels_that_do_not_rise() -> None:
    assert [float(labels_needed([5], [0.5], f)) for f in (0.4, 0.5, 0.6)] == [0, 5, np.inf]
    for labels in ([1, 1], [2, 1], [0, 1], [[1, 2]]):
        with pytest.raises(ValueError, match="are above 0 and rise, got"):
            labels_needed(labels, [0.1, 0.2], 0.1)


@given(st.lists(st.lists(score, min_size=5, max_size=5), min_size=1, max_size=4))
def test_monotone_curves_are_isotonic_regressions(scores: list[list[float]]) -> None:
    for curve, fitted in zip(scores, monotone(scores), strict=True):
        np.testing.assert_allclose(fitted, isotonic_regression(curve).x, atol=1e-12)


@given(st.lists(score, min_size=1, max_size=8, unique=True))
def test_a_rising_curve_needs_its_own_labels_for_its_own_scores(scores: list[float]) -> None:
    labels = 3.0 ** np.arange(len(scores))
    rising = np.sort(scores)
    np.testing.assert_array_equal(labels_needed(labels, np.tile(rising, (len(scores), 1)), rising), labels)


def test_an_interval_by_hand() -> None:
    """Of two images the ends are those of either image alone: so few have the widest interval."""
    reference = [[[0.0, 0.0]], [[0.8, 0.4]]]  # 1 and 4 labels, one seed, images a and b
    found = labels_worth([1, 4], reference, [[0.4, 0.4]], np.random.default_rng(0))
    assert found.value == pytest.approx(4 ** (2 / 3))  # .4 of .6
    assert (found.low, found.high) == (pytest.approx(2), 4)  # a: .4 of .8, b: .4 of .4
    assert (found.fewest, found.most, found.images) == (1, 4, 2)
    half = found.per(2)
    assert half == Labels(found.value / 2, found.low / 2, 2, 0.5, 2, 2)
    more = labels_worth([1, 4], [[[0.0, 0.0]], [[0.8, 0.3]]], [[0.4, 0.4]], np.random.default_rng(0))
    assert (more.value, more.high) == (pytest.approx(4 ** (0.4 / 0.55)), np.inf)
    assert more.to_json() == {"value": more.value, "low": pytest.approx(2), "high": "> 4", "images": 2}
    assert more.per(5).to_json()["high"] == "> 0.8"
    fewer = labels_worth([1, 4], [[[0.5, 0.0]], [[0.8, 0.4]]], [[0.4, 0.4]], np.random.default_rng(0)).per(0.5)
    assert fewer.to_json()["low"] == "< 2" and fewer.high == 8


def test_seeds_and_images_are_drawn_for_all_trainings_at_once() -> None:
    generator = np.random.default_rng(1)
    hard, seeds = generator.normal(0, 0.2, 12), generator.normal(0, 0.1, (3, 1))
    curve = [level + hard + seeds for level in (0.2, 0.4, 0.6)]  # images and seeds differ much, curves rise alike
    found = labels_worth([1, 5, 25], curve, curve[1], generator)
    assert (found.value, found.low, found.high, found.images) == (5, 5, 5, 12)
    apart = labels_worth([1, 5, 25], curve, 0.4 + hard[::-1] + seeds[::-1], generator)
    assert apart.value == pytest.approx(5) and apart.low < 4 < 6 < apart.high


def test_what_is_undefined() -> None:
    generator = np.random.default_rng(0)
    single = labels_worth([1, 4], [[[0.0]], [[0.8]]], [[0.4]], generator)
    assert single.value == pytest.approx(2) and single.to_json() == {
        "value": single.value, "low": None, "high": None, "images": 1}  # fmt: skip
    nothing = labels_worth([1, 4], np.full((2, 2, 3), NAN), np.full((2, 3), NAN), generator)
    assert nothing.to_json() == {"value": None, "low": None, "high": None, "images": 0}
    partly = labels_worth([1, 4], [[[0.0, NAN, 0.0]], [[0.8, NAN, 0.4]]], [[0.4, NAN, 0.4]], generator)
    assert partly.value == pytest.approx(4 ** (2 / 3)) and partly.images == 2
    assert (partly.low, partly.high) == (pytest.approx(2), 4)  # draws of the undefined image alone are left out
    json.dumps(partly.to_json(), allow_nan=False)
    for shape in ((3, 2, 5), (2, 2, 4)):
        with pytest.raises(ValueError, match=r"\(points, seeds, images\) and \(seeds, images\), got"):
            labels_worth([1, 4], np.zeros(shape), np.zeros((2, 5)), generator)
