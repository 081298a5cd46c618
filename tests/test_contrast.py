"""Contrasts of cells: measured by hand, given to cells, and what stays as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import draw
from cytoforge.simulation.contrast import FACTORS, LEAST, QUANTILES, contrasts, quantiles, rebalanced

LABELS = draw("""
    ............
    .AAA....BBB.
    .AAA....BBB.
    .AAA....BBB.
    ............
    """)
GROUND = np.full((1, 5, 12), -0.5)
IMAGE = GROUND + np.where(LABELS == 1, 0.4, np.where(LABELS == 2, -0.2, 0))


def wide() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, background and labels of two cells 40 px apart, each with a halo of 2 px."""
    labels = np.zeros((60, 100), int)
    labels[25:35, 20:30], labels[25:35, 70:80] = 3, 2_000_000_000
    halo = np.zeros(labels.shape)
    halo[23:37, 18:32], halo[23:37, 68:82] = -0.1, -0.1
    ground = np.random.default_rng(0).normal(-0.6, 0.01, (2, *labels.shape))
    return ground + np.where(labels > 0, 0.3, halo), ground, labels


def test_contrasts_by_hand() -> None:
    assert contrasts(IMAGE, GROUND, LABELS) == pytest.approx({1: 0.4, 2: 0.2})
    two = np.concatenate([IMAGE, GROUND])  # nothing is seen in the second channel
    assert contrasts(two, np.concatenate([GROUND, GROUND]), LABELS)[1] == pytest.approx(0.4 / np.sqrt(2))
    assert contrasts(GROUND, GROUND, LABELS) == {1: LEAST, 2: LEAST}
    assert contrasts(IMAGE, GROUND, 0 * LABELS) == {}


def test_quantiles_of_cells() -> None:
    assert quantiles([]) == []
    assert quantiles([0.3]) == [0.3] * len(QUANTILES)
    assert quantiles(np.linspace(0.1, 0.5, 101).tolist())[::5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@settings(max_examples=20)
@given(st.floats(0.05, 0.44), st.floats(0.05, 0.44))
def test_cells_get_the_contrasts_that_are_wanted(one: float, other: float) -> None:
    image, ground, labels = wide()
    found = rebalanced(image, ground, labels, {3: one, 2_000_000_000: other})
    inside = labels.copy()
    inside[26:34, 21:29] *= -1
    inside[26:34, 71:79] *= -1  # off the edge, where nothing is blurred
    assert contrasts(found, ground, -np.minimum(inside, 0)) == pytest.approx({3: one, 2_000_000_000: other}, rel=0.05)


def test_a_halo_follows_its_cell_and_the_ground_stays() -> None:
    image, ground, labels = wide()
    found = rebalanced(image, ground, labels, {3: 0.45})
    near, far = found - ground, image - ground
    assert near[0, 24, 25] == pytest.approx(1.5 * far[0, 24, 25], rel=0.1)
    assert np.allclose(found[:, :, 50:], image[:, :, 50:], atol=1e-4)  # the other cell, too
    assert rebalanced(image, ground, labels, {}).tolist() == image.astype(np.float32).tolist()
    assert np.array_equal(rebalanced(image, ground, 0 * labels, {}), image.astype(np.float32))


def test_what_is_hardly_painted_is_not_made_up() -> None:
    image, ground, labels = wide()
    faint = rebalanced(ground + (image - ground) / 100, ground, labels, {3: 0.6})
    bright = rebalanced(image, ground, labels, {3: 0.001})
    assert (faint - ground)[:, 30, 25] == pytest.approx(FACTORS[1] * 0.003, rel=1e-3)
    assert (bright - ground)[:, 30, 25] == pytest.approx(FACTORS[0] * 0.3, rel=1e-3)


def test_sizes_that_do_not_fit_are_refused() -> None:
    for image, ground, labels in ((IMAGE[:, 1:], GROUND, LABELS), (IMAGE, GROUND, LABELS[1:])):
        with pytest.raises(ValueError, match="must fit"):
            rebalanced(image, ground, labels, {})
