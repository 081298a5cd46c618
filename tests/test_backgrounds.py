"""Cells are taken out of images: what is left is as it was, and what lay under them looks like the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoforge.cells.backgrounds import MARGIN, without_cells

SHAPE = (120, 150)


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cells() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int32)
    labels[20:50, 30:70], labels[50:60, 40:60], labels[90:119, 100:149] = 1, 2, 3
    return labels


def image(ground: np.ndarray | float, seed: int = 1) -> np.ndarray:
    noise = 0.05 * np.random.default_rng(seed).standard_normal(SHAPE)
    return np.where(cells() > 0, 0.9, ground + noise).astype(np.float32)[None]


def covered() -> np.ndarray:
    near = np.zeros(SHAPE, bool)
    for y, x in np.argwhere(cells()):
        near[max(y - MARGIN, 0) : y + MARGIN + 1, max(x - MARGIN, 0) : x + MARGIN + 1] = True
    return near


def test_cells_go_and_the_rest_stays() -> None:
    before = image(-0.5)
    after = without_cells(before, cells(), draw())
    np.testing.assert_array_equal(after[:, ~covered()], before[:, ~covered()])
    assert after[:, covered()].max() < 0  # a cell is 0.9, the ground -0.5 and its noise 0.05


def test_light_goes_on_and_grain_is_as_strong_as_elsewhere() -> None:
    ramp = np.linspace(-0.6, -0.2, SHAPE[1])[None].repeat(SHAPE[0], 0)
    residue = without_cells(image(ramp), cells(), draw())[0] - ramp
    inside, outside = residue[covered()], residue[~covered()]
    assert abs(inside.mean()) < 0.03
    assert inside.std() == pytest.approx(outside.std(), rel=0.2)
    smooth = without_cells(np.where(cells() > 0, 0.9, ramp).astype(np.float32)[None], cells(), draw())[0] - ramp
    assert np.abs(smooth[:80]).max() < 0.04  # the third cell lies in the corner, where no light is known beyond it


def test_the_edge_of_a_well_is_not_laid_over_cells() -> None:
    ground = np.full(SHAPE, -0.5)
    ground[:, :20] += np.random.default_rng(2).standard_normal((SHAPE[0], 20))
    after = without_cells(image(ground), cells(), draw())
    assert np.abs(after[0, 90:119, 100:149] + 0.5).max() < 0.4


def test_without_room_between_cells_there_is_light_alone() -> None:
    labels = np.ones(SHAPE, np.int32)
    labels[::12] = 0  # lines of one pixel
    before = np.where(labels > 0, 0.9, -0.5).astype(np.float32)[None]
    np.testing.assert_allclose(without_cells(before, labels, draw(), margin=0), -0.5, atol=1e-5)
    everything = without_cells(before, np.ones_like(labels), draw())
    np.testing.assert_array_equal(everything, np.full_like(before, np.median(before)))


def test_without_cells_nothing_changes() -> None:
    before = image(-0.5)
    np.testing.assert_array_equal(without_cells(before, np.zeros(SHAPE, np.int32), draw()), before)


def test_the_draw_decides() -> None:
    one, same, other = (without_cells(image(-0.5), cells(), draw(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@given(height=st.integers(1, 40), width=st.integers(1, 40), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_size_works(height: int, width: int, channels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    before = generator.uniform(-1, 1, (channels, height, width)).astype(np.float32)
    labels = generator.integers(0, 2, (height, width)) * generator.integers(0, 2)
    after = without_cells(before, labels, generator, margin=int(generator.integers(3)))
    assert after.shape == before.shape and after.dtype == np.float32 and np.isfinite(after).all()


def test_image_and_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="must fit"):
        without_cells(image(0.0), cells()[:-1], draw())
