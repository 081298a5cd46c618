"""Ids of any size are numbered and found again, and what is told of cells does not depend on the size of their ids."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cells import draw
from cytoforge.cells.crops import windows_around
from cytoforge.cells.labels import boxes, compact, connected, dense, pieces_apart, renumbered
from cytoforge.commands.export import _outlined
from cytoforge.data.movie import relabelled
from cytoforge.data.tracks import mended
from cytoforge.metrics.cells import measure
from cytoforge.metrics.motion import motion
from cytoforge.metrics.movie import coherence
from cytoforge.report import colour_labels, id_colours, label_colours, outcome_overlay, overlay
from cytoforge.simulated.movie import least_reach
from cytoforge.simulation.masks import shapes_of
from cytoforge.tracking.linking import numbered

GREATEST = 2**31 - 1
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
SMALL = arrays.arrays(np.int32, SHAPES, elements=st.integers(0, 6))
HUGE = st.lists(st.integers(1, GREATEST), min_size=6, max_size=6, unique=True)


def test_connected_pixels_are_one_cell_and_touching_corners_two() -> None:
    painted = draw("""
        AA..B
        AA..B
        ..AAB
        C....
        """)
    expected = draw("""
        AA..B
        AA..B
        ..BBB
        C....
        """)  # whatever the ids: A below touches A by a corner alone, and B by a side
    for labels in (painted, 255 * (painted > 0), painted > 0):
        found = connected(labels)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    assert connected(np.zeros((3, 4), np.uint8)).max() == 0


def test_numbers_by_hand() -> None:
    labels = np.array([[0, 70, 70], [GREATEST, 0, 3]])
    ids, numbers = dense(labels)
    assert ids.tolist() == [0, 3, 70, GREATEST]
    assert numbers.tolist() == [[0, 2, 2], [3, 0, 1]]
    assert boxes(labels) == {
        3: (slice(1, 2), slice(2, 3)),
        70: (slice(0, 1), slice(1, 3)),
        GREATEST: (slice(1, 2), slice(0, 1)),
    }
    assert renumbered(labels, {70: 5}, keep=True).tolist() == [[0, 5, 5], [GREATEST, 0, 3]]
    assert renumbered(labels, {70: 5}, keep=False).tolist() == [[0, 5, 5], [0, 0, 0]]
    assert renumbered(labels, {}, keep=True) is labels


@pytest.mark.parametrize("labels", [np.zeros((0, 3), int), np.zeros((2, 2), np.uint8), np.ones((1, 1), bool)])
def test_nothing_and_everything(labels: np.ndarray) -> None:
    ids, numbers = dense(labels)
    assert ids.tolist() == ([0, 1] if labels.any() else [0])
    assert np.array_equal(numbers, labels) and numbers.shape == labels.shape
    assert len(boxes(labels)) == labels.any()


@given(st.one_of(SMALL, arrays.arrays(np.int64, SHAPES, elements=st.integers(-3, 2**40))))
def test_numbers_lead_back_to_ids(values: np.ndarray) -> None:
    distinct, place = compact(values.ravel())
    expected, inverse = np.unique(values, return_inverse=True)
    assert np.array_equal(distinct, expected) and np.array_equal(place, inverse.ravel())
    ids, numbers = dense(values)
    assert ids[0] == 0 and np.array_equal(ids[1:], expected[expected != 0])
    assert np.array_equal(ids[numbers], values) and numbers.dtype == np.int32
    if values.max(initial=0) < 10 and values.min(initial=0) >= 0:
        found = {k: box for k, box in enumerate(ndimage.find_objects(values), 1) if box is not None}
        assert boxes(values) == found


def told(labels: np.ndarray, markers: np.ndarray, later: np.ndarray) -> dict[str, Any]:
    """All that is computed of labels with a place for each cell, but for what has an id: that comes first, by id."""
    image = np.random.default_rng(0).normal(size=(2, *labels.shape)).astype(np.float32)
    cells = measure(labels, image)
    present = np.unique(labels[labels > 0])
    moved = coherence([[(image, labels), (image, later)]])
    rows = [(int(cell), 0, 1, 0) for cell in np.unique(np.append(present, later[later > 0]))]
    walk = motion([(0, labels), (1, later)], rows)
    (_, outlines), *_ = _outlined(iter([(0, labels, cells)]))
    return {
        "ids": [cells["label"], present, np.array(list(outlines), int), relabelled(markers, labels)],
        "numbered": numbered(labels),
        "measured": [values for name, values in cells.items() if name != "label"],
        "windows": windows_around(labels, present),
        "reach": [least_reach(labels)],
        "coherence": np.array([moved.warping_error, moved.cell_steps, moved.flicker]),
        "motion": [walk.speed, walk.growth, walk.deformation, walk.cells, walk.deaths],
        "outlines": list(outlines.values()),
        "shapes": [shape.field for shape in shapes_of(labels)],
        "outcomes": outcome_overlay(image[:1], labels, later),
        "edges": (overlay(image[:1] * 0, labels) != overlay(image[:1] * 0, labels * 0)).any(axis=2),
    }


@settings(max_examples=15)
@given(SMALL, st.integers(0, 2**32), HUGE)
def test_the_size_of_ids_changes_nothing(labels: np.ndarray, seed: int, ids: list[int]) -> None:
    """What is said of cells 1..6 and of the same under any other ids, in the same order, is equal bit for bit."""
    later, markers = np.random.default_rng(seed).permutation(labels.ravel()).reshape(labels.shape), np.roll(labels, 1)
    names = np.array([0, *sorted(ids)], np.int32)
    small, huge = told(labels, markers, later), told(names[labels], names[markers], names[later])
    for one, other in zip(small.pop("ids"), huge.pop("ids"), strict=True):
        assert np.array_equal(names[one], other)
    for name, values in small.items():
        for one, other in zip(values, huge[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_colours_belong_to_ids() -> None:
    labels = np.array([[0, 2], [GREATEST, 0]])
    picture = colour_labels(labels)
    assert picture[0, 0].tolist() == picture[1, 1].tolist() == [0, 0, 0]
    assert np.array_equal(picture[0, 1], label_colours(2)[2])
    assert np.array_equal(picture[1, 0], id_colours(np.array([GREATEST]))[0]) and picture[1, 0].max() > 100


def test_a_family_under_huge_ids() -> None:
    """A movie in which ids are the greatest that there are: what follows a gap gets the least free label."""
    frames = {0: [GREATEST], 1: [], 2: [GREATEST, 1]}
    rows, renamed = mended([], {frame: np.array(ids) for frame, ids in frames.items()})
    assert [tuple(row) for row in rows] == [(1, 2, 2, 0), (GREATEST, 0, 0, 0), (2, 2, 2, GREATEST)]
    assert renamed == {2: {GREATEST: 2}}


def test_pieces_get_ids_of_their_own() -> None:
    """A is whole, as its parts touch at a corner; of B the larger part keeps the id; one pixel of C is a stray."""
    labels = draw("""
        AA....BB.BB
        AA.......BB
        ..A.CCCCC..
        ....CCCCC.C
        """)
    found = pieces_apart(labels, 0.2)
    expected = labels.copy()
    expected[0, 6:8], expected[3, 10] = 4, 0
    assert (found.split, found.added, found.strays) == (1, 1, 1) and np.array_equal(found.labels, expected)
    assert labels[3, 10] == 3  # the given ones stay
    huge = np.where(labels == 3, 2**31 - 1, labels)
    expected[expected == 3], expected[0, 6:8] = 2**31 - 1, 3
    assert np.array_equal(pieces_apart(huge, 0.2).labels, expected)
    assert pieces_apart(labels, 0).added == 2
