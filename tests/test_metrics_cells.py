"""Features of cells, each computed by hand."""

import numpy as np
import pytest

from cells import FAMILY, FAMILY_TRACKS, draw
from cytoforge.cells.labels import label_at
from cytoforge.metrics.cells import Descent, descent, follow, gathered, measure, outline


def test_shape_and_grey_values_of_a_rectangle() -> None:
    """2 x 4 pixels: the moments along the sides are (4 - 1) / 12 and (16 - 1) / 12; an axis is 4 of their roots."""
    image = np.stack([np.tile(np.arange(10.0), (6, 1)), np.full((6, 10), 7.0)])
    cells = measure(FAMILY[0], image)
    assert cells["label"].tolist() == [1, 3]
    assert cells["y"].tolist() == [1.5, 4.5] and cells["x"].tolist() == [2.5, 6.5]
    assert cells["area"].tolist() == [8, 4]
    assert cells["perimeter"].tolist() == [8, 4]  # 2 (2 - 1 + 4 - 1) and 2 (2 - 1 + 2 - 1)
    assert cells["major_axis"] == pytest.approx([4 * np.sqrt(15 / 12), 2])
    assert cells["minor_axis"] == pytest.approx([2, 2])
    assert cells["eccentricity"] == pytest.approx([np.sqrt(1 - 3 / 15), 0])
    assert cells["solidity"].tolist() == [1, 1]
    assert cells["mean_1"].tolist() == [2.5, 6.5] and cells["mean_2"].tolist() == [7, 7]
    assert cells["sd_1"] == pytest.approx([np.sqrt(15 / 12), 0.5]) and cells["sd_2"].tolist() == [0, 0]


def test_a_point_of_a_hollow_cell_lies_in_it() -> None:
    """The centroid of U is at y 8/7, x 1, in the gap; of its pixels (2, 1) is nearest. The hull has 9 pixels."""
    cells = measure(draw("U.U U.U UUU"))
    assert (cells["y"][0], cells["x"][0]) == pytest.approx((8 / 7, 1))
    assert (cells["point_y"][0], cells["point_x"][0]) == (2, 1)
    assert cells["solidity"][0] == pytest.approx(7 / 9)


def test_cells_of_a_pixel_and_no_cells() -> None:
    cells = measure(draw("..A ... B.."))
    assert cells["area"].tolist() == [1, 1] and cells["solidity"].tolist() == [1, 1]
    assert cells["perimeter"].tolist() == [0, 0] and cells["eccentricity"].tolist() == [0, 0]
    nothing = measure(np.zeros((4, 5), np.int32), np.zeros((1, 4, 5)))
    assert all(column.shape == (0,) for column in nothing.values()) and "mean_1" in nothing


def test_label_at() -> None:
    labels = draw("A.B CDE")
    points = np.array([[0, 0], [0.49, 0.5], [0.5, 1.2], [0.4999999999, 2], [-0.5, -0.5], [1.5, 0], [-0.6, 0], [0, 9]])
    assert label_at(labels, points).tolist() == [1, 0, 4, 5, 1, -1, -1, -1]


def test_outlines() -> None:
    """A pixel's outline is the diamond through the middles of its sides; of two pieces the longer one counts."""
    diamond = outline(np.ones((1, 1), bool))
    assert {tuple(point) for point in diamond.tolist()} == {(-0.5, 0), (0, 0.5), (0.5, 0), (0, -0.5)}
    pieces = draw("A..... ...AAA ...A.A ...AAA") > 0
    around = outline(pieces)
    assert around.min(axis=0).tolist() == [0.5, 2.5] and around.max(axis=0).tolist() == [3.5, 5.5]


def test_descent_through_divisions_and_gaps() -> None:
    tracks = [*FAMILY_TRACKS, (6, 4, 5, 5), (7, 6, 6, 6), (8, 6, 6, 6), (9, 7, 7, 8), (10, 3, 3, 99)]
    family = descent(tracks)
    assert family[1] == Descent(1, 0, 1, 0, 0)
    assert family[2] == Descent(2, 1, 1, 1, 2) and family[4] == Descent(4, 1, 1, 1, 2)
    assert family[5] == Descent(3, 3, 3, 0, 0) and family[6] == Descent(3, 5, 3, 0, 0)
    assert family[7] == Descent(7, 6, 3, 1, 6)
    assert family[9] == Descent(8, 8, 3, 1, 6)
    assert family[10] == Descent(10, 0, 10, 0, 3)


def test_motion_and_links_of_a_movie() -> None:
    cells = gathered(table for _, _, table in follow(((t, f, None) for t, f in enumerate(FAMILY)), FAMILY_TRACKS))
    assert cells["frame"].tolist() == [0, 0, 1, 2, 2, 2, 3, 3]
    assert cells["label"].tolist() == [1, 3, 1, 2, 4, 5, 2, 5]
    assert cells["spot"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert cells["before"].tolist() == [-1, -1, 0, 2, 2, 1, 3, 5]
    assert cells["age"].tolist() == [0, 0, 1, 0, 0, 2, 1, 3]
    nan = float("nan")
    # E: 1 px in two frames, then its upper half is hidden by B: the centroid moves by half a pixel
    assert cells["speed"].tolist() == pytest.approx([nan, nan, 1, nan, nan, 0.5, 5, 0.5], nan_ok=True)
    assert gathered([]) == {}
    with pytest.raises(KeyError):
        next(follow([(0, draw("Z"), None)], FAMILY_TRACKS))
