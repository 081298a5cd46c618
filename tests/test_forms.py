"""Forms of cells: what their labels promise, their sizes and shapes, and the guards."""

from functools import cache
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from cytoforge.simulation.forms import SMALLEST, Form, _Plane, draw_cells

FORMS: tuple[Form, ...] = get_args(Form)
TOLERANCE = 0.1
"""Largest deviation of the median diameter over many scenes from the one asked for, relative to it."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def inner_cells(labels: NDArray[np.int32]) -> list[int]:
    """Ids of the cells that the frame does not cut."""
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return sorted(set(range(1, int(labels.max()) + 1)) - set(edge.tolist()))


@cache
def scenes(form: Form, diameter: float) -> list[NDArray[np.int32]]:
    """Thirty scenes with room for equally many cells of any diameter."""
    side = round(diameter * 256 / 24)
    return [draw_cells(form, (side, side), diameter, rng(seed)) for seed in range(30)]


@settings(max_examples=40)
@given(
    form=st.sampled_from(FORMS),
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    diameter=st.floats(8, 60),
    seed=st.integers(0, 2**32),
)
def test_cells_are_connected_numbered_and_not_tiny(
    form: Form, height: int, width: int, diameter: float, seed: int
) -> None:
    labels = draw_cells(form, (height, width), diameter, rng(seed))
    assert labels.shape == (height, width)
    assert labels.dtype == np.int32
    areas = np.bincount(labels.ravel())
    assert (areas[1:] > 0).all()
    for cell in range(1, len(areas)):
        assert ndimage.label(labels == cell)[1] == 1
    for cell in inner_cells(labels):
        assert areas[cell] >= SMALLEST


def test_a_cell_whose_other_piece_the_frame_cuts_is_not_cut() -> None:
    labels = draw_cells("elongated", (14, 19), 8.0, rng(1))  # a piece of 9 px in the middle was left of one cell
    assert all(np.count_nonzero(labels == cell) >= SMALLEST for cell in inner_cells(labels))


@pytest.mark.parametrize("form", FORMS)
def test_same_seed_same_cells_and_another_seed_others(form: Form) -> None:
    first, again, other = (draw_cells(form, (128, 96), 15.0, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("diameter", [10.0, 24.0])
def test_median_diameter_is_near_the_one_asked_for(form: Form, diameter: float) -> None:
    areas = [np.bincount(labels.ravel())[inner_cells(labels)] for labels in scenes(form, diameter)]
    median = np.median([np.sqrt(4 / np.pi * np.median(scene)) for scene in areas if len(scene) > 5])
    assert median == pytest.approx(diameter, rel=TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
def test_scenes_are_sparse_and_dense_and_cells_cross_the_frame(form: Form) -> None:
    drawn = scenes(form, 24.0)
    coverage = [(labels > 0).mean() for labels in drawn]
    assert min(coverage) < (0.6 if form == "epithelium" else 0.1)
    assert max(coverage) > 0.5
    assert sum(labels.max() - len(inner_cells(labels)) for labels in drawn) > 100


def aspects(form: Form) -> NDArray[np.float64]:
    """Ratios of the axes of the cells of some scenes."""
    ratios = []
    for labels in scenes(form, 24.0)[:15]:
        inside = set(inner_cells(labels))
        ratios += [
            region.axis_major_length / region.axis_minor_length
            for region in regionprops(labels)
            if region.label in inside and region.area > 100
        ]
    return np.array(ratios)


def test_rods_and_spindles_are_long_and_round_cells_are_not() -> None:
    assert np.median(aspects("round")) < 1.25
    assert np.percentile(aspects("round"), 95) < 1.6
    for form in ("bacteria", "elongated"):
        assert np.median(aspects(form)) > 2
        assert np.percentile(aspects(form), 90) > 3.5


def test_confluent_epithelium_covers_the_frame_but_for_its_borders() -> None:
    coverage = np.array([(labels > 0).mean() for labels in scenes("epithelium", 24.0)])
    assert np.median(coverage) > 0.8
    assert (coverage > 0.97).any()
    assert (coverage < 0.7).any()


def test_buds_are_smaller_than_their_mothers_and_touch_them() -> None:
    touching, small = 0, 0
    for labels in scenes("yeast", 24.0)[:15]:
        areas = np.bincount(labels.ravel())
        for cell in inner_cells(labels):
            if areas[cell] < 0.4 * np.pi * 12**2:
                small += 1
                ring = ndimage.binary_dilation(labels == cell)
                touching += bool(np.setdiff1d(labels[ring], [0, cell]).size)
    assert small > 20
    assert touching > 0.8 * small


def test_border_of_cells_is_midway_and_does_not_depend_on_their_order() -> None:
    y, x = np.mgrid[-6:7, -6:7]
    disc = (y**2 + x**2) / 36
    left, right = np.array([13.0 + 10, 13.0 + 8]), np.array([13.0 + 10, 13.0 + 14])
    for first, second in ((left, right), (right, left)):
        plane = _Plane((20, 24), 8.0, rng())
        assert plane.margin == 13
        plane.paint(first, disc)
        plane.paint(second, disc)
        row = plane.labels_in_frame()[10]
        # column 11 is as far from one centre as from the other and goes to the cell that came first
        border = 12 if first is left else 11
        assert row[2] == row[border - 1] != row[border] == row[20]
        assert row[1] == row[21] == 0


def test_a_cell_that_others_hide_is_left_out() -> None:
    y, x = np.mgrid[-6:7, -6:7]
    disc = (y**2 + x**2) / 36
    for level, cells in ((0.5 * disc, 1), (2.0 + disc, 1), (disc, 1)):
        plane = _Plane((20, 20), 8.0, rng())
        plane.paint(np.array([23.0, 23.0]), disc)
        plane.paint(np.array([23.0, 23.0]), level)
        assert plane.labels_in_frame().max() == cells
    plane.paint(np.array([23.0, 23.0]), 0.25 * disc, free=0.5)
    assert len(plane.areas) == 3


def test_gaps_between_cells_are_as_wide_as_asked_and_lie_nowhere_else() -> None:
    for gap in range(3):
        plane = _Plane((8, 8), 8.0, rng())
        plane.labels[14:20, 13:17], plane.labels[14:20, 17:21] = 1, 2
        plane.separate(gap)
        row = plane.labels[16, 13:21]
        assert np.count_nonzero(row == 0) == gap
        assert row[0] == 1 and row[-1] == 2
        assert np.count_nonzero(plane.labels) == 6 * (8 - gap)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"form must be one of adherent.*got 'square'"):
        draw_cells("square", (64, 64), 20.0, rng())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two positive lengths"):
        draw_cells("round", (0, 64), 20.0, rng())
    for diameter in (7.9, 60.1, float("nan")):
        with pytest.raises(ValueError, match="diameter must be 8 to 60 px"):
            draw_cells("round", (64, 64), diameter, rng())
