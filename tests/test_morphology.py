"""Morphology of label images: by hand on drawn cells, and against scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import ks_2samp
from skimage.measure import regionprops_table

from cells import NOTHING, THREE_CELLS, TOUCHING, TOUCHING_AS_ONE, draw
from cytoforge.metrics.morphology import distances, morphology, pooled, summary


def test_three_cells_by_hand() -> None:
    measure = morphology(THREE_CELLS)
    np.testing.assert_array_equal(measure.area, [12, 8, 8])
    # centroids (1, 1.5), (0.5, 9.5), (3.5, 5.5)
    a_c, b_c = np.hypot(2.5, 4), 5.0
    np.testing.assert_allclose(measure.neighbour_distance, [a_c, b_c, a_c])
    # n pixels in a row have the second moment (n^2 - 1) / 12
    np.testing.assert_allclose(measure.eccentricity, np.sqrt([1 - 8 / 15, 1 - 3 / 15, 1 - 3 / 15]))
    np.testing.assert_array_equal(morphology(draw("A..BBB")).eccentricity, [0, 1])
    assert (measure.count, measure.coverage, measure.touching) == (3, 28 / 60, 0.0)


def test_touching_needs_a_side_in_common_and_two_cells() -> None:
    assert morphology(TOUCHING).touching == 1.0
    assert morphology(TOUCHING_AS_ONE).touching == 0.0
    assert morphology(draw("AA.. ..BB")).touching == 0.0
    assert morphology(draw("AABB ...C D...")).touching == 3 / 4


def test_a_single_cell_has_no_neighbour_and_nothing_has_nothing() -> None:
    assert np.isnan(morphology(TOUCHING_AS_ONE).neighbour_distance).all()
    empty = morphology(NOTHING)
    assert (empty.count, empty.coverage, empty.area.size, empty.neighbour_distance.size) == (0, 0.0, 0, 0)
    assert np.isnan(empty.touching)


def test_ids_may_have_gaps_and_be_large() -> None:
    large = np.where(THREE_CELLS > 0, THREE_CELLS.astype(np.int64) * 700_000_000, 0)
    np.testing.assert_array_equal(morphology(large).area, [12, 8, 8])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), height=st.integers(2, 40), width=st.integers(2, 40))
def test_agrees_with_scikit_image(seed: int, height: int, width: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 1.5)
    labels = ndimage.label(noise > 0)[0]
    measure = morphology(labels)
    expected = regionprops_table(labels, properties=("area", "eccentricity", "centroid"))
    np.testing.assert_array_equal(measure.area, expected["area"])
    np.testing.assert_allclose(measure.eccentricity, expected["eccentricity"], atol=1e-6)
    centres = np.stack([expected["centroid-0"], expected["centroid-1"]], axis=1)
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    np.fill_diagonal(apart, np.inf)
    if len(centres) > 1:
        np.testing.assert_allclose(measure.neighbour_distance, apart.min(axis=1))


def test_sets_are_pooled_over_cells_or_images() -> None:
    images = [morphology(THREE_CELLS), morphology(TOUCHING), morphology(NOTHING)]
    np.testing.assert_array_equal(pooled(images, "area"), [12, 8, 8, 16, 16])
    np.testing.assert_array_equal(pooled(images, "count"), [3, 2, 0])
    np.testing.assert_array_equal(pooled(images, "touching"), [0, 1])  # undefined without cells
    found = summary(images)
    assert found["area"] == {"values": 5, "low": 8, "median": 12, "high": 16}
    assert found["count"] == {"values": 3, "low": 1, "median": 2, "high": 2.5}


def test_distance_is_the_greatest_difference_of_the_distributions() -> None:
    three, two = morphology(THREE_CELLS), morphology(TOUCHING)
    same = distances([three], [three])
    assert set(same.values()) == {0.0}
    apart = distances([three], [two])
    assert apart["area"] == 1.0  # 8, 8, 12 against 16, 16
    assert distances([three], [three, two])["area"] == pytest.approx(2 / 5)  # at 12: all of one, 3 of 5 of the other


@given(seed=st.integers(0, 2**32))
def test_distance_agrees_with_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = (
        [morphology(generator.integers(0, 4, (6, 7))) for _ in range(generator.integers(2, 6))] for _ in range(2)
    )
    found = distances(first, second)
    for name in ("area", "coverage"):
        one, other = pooled(first, name), pooled(second, name)
        # repeated: the same distributions, of samples large enough for scipy's p-value, which is not used
        expected = ks_2samp(one.repeat(9), other.repeat(9), method="asymp").statistic
        assert found[name] == pytest.approx(expected)


def test_what_no_image_has_is_absent() -> None:
    nothing = [morphology(NOTHING)]
    assert summary(nothing)["area"] == {"values": 0, "low": None, "median": None, "high": None}
    found = distances(nothing, [morphology(THREE_CELLS)])
    assert found["area"] is found["touching"] is None
    assert found["count"] == 1.0
    assert distances([], nothing)["count"] is None


def test_labels_have_two_axes() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\), got \(1, 5, 12\)"):
        morphology(NOTHING[None])
