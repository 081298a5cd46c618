"""Corrections of label images, by cases drawn by hand and by what must hold for all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.cells.edits import Change, delete, draw, erase, fill_holes, merge, replace, split, stroke, touched_cells
from cytoforge.cells.outlines import Region, fill


def labels(text: str) -> np.ndarray:
    """Label image of a drawing: a digit for each cell, a dot for background."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in text.split()], np.int32)


def after(drawing: str, change: Change | None) -> np.ndarray:
    found = labels(drawing)
    assert change is not None
    change.apply(found)
    return found


def dot(y: int, x: int) -> Region:
    return Region(y, x, np.ones((1, 1), bool))


TWO = """
    .......
    .11.22.
    .11.22.
    ......."""
BAR = """
    .......
    .11111.
    .11111.
    ......."""


def test_a_stroke_is_what_lies_near_its_line() -> None:
    found = stroke([(1.5, 1.5), (1.5, 4.5)], 1.0, (4, 7))
    assert (found.top, found.left) == (0, 0)
    expected = labels(
        """
        .1111.
        111111
        .1111."""
    )
    assert np.array_equal(found.mask, expected == 1)


def test_a_stroke_has_the_pixel_under_it_and_stays_in_the_image() -> None:
    found = stroke([(2.01, 3.01)], 0.1, (4, 7))
    assert (found.top, found.left, found.mask.tolist()) == (2, 3, [[True]])
    assert stroke([(-9, -9)], 2, (4, 7)).mask.size == 0
    assert stroke([(0, 0), (900, 900)], 1, (4, 7)).mask.shape == (4, 5)


@pytest.mark.parametrize(("points", "radius"), [([], 1.0), ([(np.nan, 0)], 1.0), ([(0, 0)], 0.0), ([(0, 0)], np.inf)])
def test_a_stroke_without_place_or_width_is_refused(points: list[tuple[float, float]], radius: float) -> None:
    with pytest.raises(ValueError, match="finite points"):
        stroke(points, radius, (4, 7))


def test_drawing_spares_other_cells() -> None:
    region = Region(1, 0, np.ones((1, 7), bool))
    expected = labels(".......\n1111221\n.11.22.\n.......")
    assert np.array_equal(after(TWO, draw(labels(TWO), region, 1)), expected)
    assert draw(labels(TWO), dot(1, 4), 1) is None


def test_what_the_eraser_cuts_off_is_a_cell_and_specks_go() -> None:
    column = Region(0, 3, np.ones((4, 1), bool))
    assert np.array_equal(after(BAR, erase(labels(BAR), column)), labels(".......\n.11.22.\n.11.22.\n......."))
    column = Region(0, 4, np.ones((4, 1), bool))  # leaves 2 px on the right
    assert np.array_equal(after(BAR, erase(labels(BAR), column)), labels(".......\n.111...\n.111...\n......."))
    assert erase(labels(BAR), dot(0, 0)) is None


def test_delete_takes_whole_cells() -> None:
    assert np.array_equal(after(TWO, delete(labels(TWO), dot(1, 1))), labels(TWO) * (labels(TWO) == 2))
    assert delete(labels(TWO), dot(0, 0)) is None


def test_merge_joins_cells_and_the_way_between_them() -> None:
    line = [(1.5, 0.5), (1.5, 2.5), (1.5, 4.5), (1.5, 6.5)]
    expected = labels(".......\n.11111.\n.11.11.\n.......")
    assert np.array_equal(after(TWO, merge(labels(TWO), line, 0.5)), expected)
    assert merge(labels(TWO), [(1.5, 1.5), (1.5, 2.5)], 0.5) is None


def test_split_cuts_along_a_line_and_loses_no_pixel() -> None:
    found = after(BAR, split(labels(BAR), [(-1.0, 3.5), (5.0, 3.5)]))
    assert np.array_equal(found > 0, labels(BAR) > 0)
    assert np.unique(found).tolist() == [0, 1, 2]
    assert set(found[1:3, 1:3].ravel()) | set(found[1:3, 4:6].ravel()) == {1, 2}
    assert split(labels(BAR), [(1.5, 0.5), (1.5, 3.5)]) is None  # ends inside


def test_new_cells_get_free_numbers_also_where_the_largest_is_taken() -> None:
    last = 2**31 - 1
    bar = np.where(labels(BAR) == 1, np.int32(last), np.int32(0))
    cut = split(bar, [(-1, 3), (5, 3)])
    assert cut is not None and np.unique(cut.after).tolist() == [1]
    bar[0, 0], bar[0, 6] = 1, 3
    cut = erase(bar, Region(1, 3, np.ones((2, 1), bool)))
    assert cut is not None
    cut.apply(bar)
    assert np.unique(bar).tolist() == [0, 1, 2, 3, last]


def test_fill_closes_what_a_cell_encloses() -> None:
    ring = "11111\n1...1\n1.2.1\n1...1\n11111"
    expected = labels("11111\n11111\n11211\n11111\n11111")
    assert np.array_equal(after(ring, fill_holes(labels(ring), dot(0, 0))), expected)
    assert fill_holes(labels(TWO), dot(1, 1)) is None


def test_replace_keeps_the_box_that_differs() -> None:
    wanted = labels(TWO)
    wanted[1, 4] = 7
    change = replace(labels(TWO), wanted)
    assert change is not None and change.after.tolist() == [[7]]
    assert replace(labels(TWO), labels(TWO)) is None


def test_a_cell_far_larger_than_what_is_touched_is_seen_whole() -> None:
    large = np.zeros((700, 900), np.int32)
    large[300:320, 5:895] = 3
    change = delete(large, dot(310, 450))
    assert change is not None and change.before.shape == (20, 890)


points = st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=1, max_size=5)


@settings(max_examples=60)
@given(
    points, st.floats(0.3, 6), st.sampled_from(["draw", "erase", "delete", "merge", "split", "fill"]), st.integers(0, 9)
)
def test_every_edit_can_be_taken_back_and_leaves_others_alone(
    line: list[tuple[float, float]], radius: float, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 4, (5, 5)), np.ones((4, 4), int)).astype(np.int32)
    former = image.copy()
    region = stroke(line, radius, image.shape)
    edits = {
        "draw": lambda: draw(image, region, 9),
        "erase": lambda: erase(image, region),
        "delete": lambda: delete(image, region),
        "merge": lambda: merge(image, line, radius),
        "split": lambda: split(image, line),
        "fill": lambda: fill_holes(image, region),
    }
    change = edits[kind]()
    assert np.array_equal(image, former)
    if change is None:
        return
    untouched = ~np.isin(former, touched_cells(former, stroke(line, max(radius, 1.5), image.shape))) & (former > 0)
    change.apply(image)
    assert not np.array_equal(image, former)
    assert np.array_equal(image[untouched], former[untouched])
    change.inverse.apply(image)
    assert np.array_equal(image, former)


def test_an_outline_is_drawn_as_what_it_encloses() -> None:
    region = fill([[(1, 1), (1, 3), (3, 3), (3, 1)]], (4, 7))
    assert np.array_equal(
        after("......." * 1 + "\n.......\n.......\n.......", draw(np.zeros((4, 7), np.int32), region, 1)),
        labels(TWO) * (labels(TWO) == 1),
    )
