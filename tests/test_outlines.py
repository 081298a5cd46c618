"""Filling of outlines, by hand and against shapely, and who owns a pixel of several cells."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.cells import outlines
from cytoforge.cells.outlines import Region, cropped, ellipse, fill, paint, united


def placed(region: Region, shape: tuple[int, int]) -> np.ndarray:
    whole = np.zeros(shape, bool)
    height, width = region.mask.shape
    whole[region.top : region.top + height, region.left : region.left + width] = region.mask
    return whole


def box(top: float, left: float, bottom: float, right: float) -> list[tuple[float, float]]:
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def test_a_square_with_a_hole_by_hand() -> None:
    filled = placed(fill([box(1, 1, 5, 6), box(2, 3, 4, 5)], (6, 7)), (6, 7))
    expected = ["0000000", "0111110", "0110010", "0110010", "0111110", "0000000"]
    assert ["".join(map(str, row.astype(int))) for row in filled] == expected


def test_a_pixel_belongs_to_what_holds_its_centre() -> None:
    assert placed(fill([box(0.4, 0.6, 1.6, 2.6)], (3, 4)), (3, 4)).astype(int).tolist() == [
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]
    assert fill([box(0.6, 0.6, 1.4, 1.4)], (3, 3)).mask.sum() == 0  # between centres
    assert fill([[(0, 0), (3, 3)], []], (3, 3)).mask.sum() == 0


def test_cells_with_a_common_side_share_no_pixel_and_leave_none() -> None:
    """A fan of triangles whose sides run through centres of pixels covers the square exactly once."""
    corners = [(0.5, 0.5), (0.5, 4.5), (0.5, 8.5), (8.5, 8.5), (8.5, 0.5)]
    around = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    covered = sum(placed(fill([[(4.5, 4.5), *side]], (9, 9)), (9, 9)).astype(int) for side in around)
    expected = np.zeros((9, 9), int)
    expected[:8, :8] = 1
    np.testing.assert_array_equal(covered, expected)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_any_simple_polygon_with_a_hole_is_filled_as_shapely_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(5, 30))
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.9, count)) / count
    spokes = np.stack([np.sin(angles), np.cos(angles)], axis=1) * rng.uniform(4, 16, (len(angles), 1))
    ring = rng.uniform(-4, 28, 2) + spokes  # a star, partly outside of the image
    hole = ring.mean(axis=0) + 0.2 * (ring - ring.mean(axis=0))
    y, x = np.mgrid[:24, :31] + 0.5
    outer, inner = (shapely.contains_xy(shapely.Polygon(one[:, ::-1]), x, y) for one in (ring, hole))
    expected = outer ^ inner
    np.testing.assert_array_equal(placed(fill([ring, hole], (24, 31)), (24, 31)), expected)


def test_an_ellipse_has_its_area() -> None:
    region = fill([ellipse((20, 30), (10, 15))], (60, 60))
    y, x = np.mgrid[:60, :60] + 0.5
    inside = ((y - 20) / 10) ** 2 + ((x - 30) / 15) ** 2 < 1
    assert (placed(region, (60, 60)) != inside).sum() <= 2


def test_the_smallest_cell_has_the_pixel() -> None:
    large = Region(0, 0, np.ones((3, 3), bool))
    small, twin = Region(1, 1, np.ones((2, 2), bool)), Region(1, 2, np.ones((2, 2), bool))
    nothing, hidden = Region(0, 0, np.zeros((0, 0), bool)), Region(0, 0, np.ones((3, 3), bool))
    painted = paint([small, nothing, large, twin, hidden], (3, 4))
    assert painted.labels.tolist() == [[2, 2, 2, 0], [2, 1, 1, 3], [2, 1, 1, 3]]
    assert painted.lost == 2  # nothing, and what lies wholly beneath its equal
    assert painted.shared == 9
    assert paint([], (2, 2)) == (pytest.approx(np.zeros((2, 2))), 0, 0)


def test_parts_of_a_cell_are_put_together() -> None:
    parts = [Region(0, 3, np.ones((1, 1), bool)), Region(2, 0, np.ones((1, 2), bool)), outlines.NOTHING]
    joined = united(parts)
    assert (joined.top, joined.left, joined.mask.tolist()) == (
        *(0, 0),
        [[False, False, False, True], [False] * 4, [True, True, False, False]],
    )
    whole = placed(joined, (4, 5))
    again = cropped(whole.astype(np.uint8) * 7)
    np.testing.assert_array_equal(placed(again, (4, 5)), whole)
    assert cropped(np.zeros((3, 3))).mask.size == 0 == united([]).mask.size


def test_what_cannot_be_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        fill([[(0, 0), (0, np.nan), (2, 2)]], (3, 3))
    for far in (1e308, -1e308, 2e30):
        with pytest.raises(ValueError, match=r"is (1e\+308|2e\+30) pixels away, far beyond any image"):
            fill([[(0, 0), (far, 3), (2, -far)]], (3, 3))
    monkeypatch.setattr(outlines, "MAX_CROSSINGS", 10)
    with pytest.raises(ValueError, match="crosses 12 rows"):
        fill([box(0, 0, 6, 2)], (9, 9))
    large = fill([box(-1e30, -1e30, 1e30, 1e30)], (2, 2))
    assert large.mask.all() and large.mask.shape == (2, 2)
