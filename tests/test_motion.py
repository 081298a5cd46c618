"""Motion of tracked cells, on movies made by hand."""

import numpy as np
import pytest

from cytoforge.metrics.morphology import kolmogorov_smirnov
from cytoforge.metrics.motion import STATISTICS, Row, motion, motion_summary, pooled


def squares(*cells: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Labels int32 with squares (label, y, x, side)."""
    labels = np.zeros(size, np.int32)
    for label, y, x, side in cells:
        labels[y : y + side, x : x + side] = label
    return labels


def test_speed_turning_and_growth_by_hand() -> None:
    """Three right, four down (a right angle), then back up."""
    places = [(10, 10), (10, 13), (14, 13), (10, 13)]
    movie = motion(((t, squares((5, y, x, 6 if t < 3 else 12))) for t, (y, x) in enumerate(places)), [(5, 0, 3, 0)])
    assert movie.speed == pytest.approx([3, 4, np.hypot(-4 + 3, 3)])  # the large square's centre is 3 px further
    assert movie.turning == pytest.approx([np.pi / 2, np.arccos(-1 / np.hypot(1, 3))])
    assert movie.growth == pytest.approx([0, 0, np.log(4)])
    assert movie.deformation == pytest.approx([0, 0, 0.75])
    assert movie.diameter == pytest.approx(2 * np.sqrt(36 / np.pi))
    assert (movie.cells, movie.divisions, movie.deaths) == (3, 0, 0)


def test_cells_at_the_edge_and_still_cells_have_no_steps() -> None:
    frames = [(t, squares((1, 0, 10 + t, 8), (2, 30, 30, 8))) for t in range(3)]
    movie = motion(frames, [(1, 0, 2, 0), (2, 0, 2, 0)])
    assert movie.speed.tolist() == [0, 0]
    assert movie.turning.size == 0
    assert movie.pace.shape == (0, 2)


def test_gaps_make_no_steps() -> None:
    frames = [(0, squares((1, 10, 10, 8))), (2, squares((1, 10, 14, 8))), (3, squares((1, 10, 16, 8)))]
    assert motion(frames, []).speed == pytest.approx([2])


def divided() -> tuple[list[tuple[int, np.ndarray]], list[Row]]:
    frames = [
        (0, squares((1, 20, 20, 10), (4, 20, 50, 8))),
        (1, squares((1, 20, 20, 10), (4, 20, 50, 8))),
        (2, squares((2, 20, 14, 7), (3, 20, 26, 7))),
        (3, squares((2, 20, 12, 7), (3, 20, 29, 7))),
    ]
    return frames, [(1, 0, 1, 0), (2, 2, 3, 1), (3, 2, 3, 1), (4, 0, 1, 0)]


def test_divisions_sisters_and_deaths() -> None:
    frames, tracks = divided()
    movie = motion(frames, tracks)
    assert (movie.divisions, movie.deaths, movie.cells) == (1, 1, 6)
    assert movie.division_rate == movie.death_rate == pytest.approx(1 / 6)
    assert movie.sister_distance == pytest.approx([12])


def test_a_single_child_is_a_gap_and_an_end_at_the_edge_is_no_death() -> None:
    frames = [(0, squares((1, 20, 20, 10), (4, 2, 50, 8))), (1, squares((2, 20, 20, 10)))]
    movie = motion(frames, [(1, 0, 0, 0), (2, 1, 1, 1), (4, 0, 0, 0)])
    assert (movie.divisions, movie.deaths) == (0, 0)


def test_a_track_torn_in_two_is_no_death() -> None:
    before = squares((1, 20, 20, 10), (4, 20, 50, 8))
    ends = [(1, 0, 0, 0), (4, 0, 0, 0)]
    assert motion([(0, before), (1, squares())], ends).deaths == 2
    assert motion([(0, before), (1, squares((2, 20, 20, 10)))], [*ends, (2, 1, 1, 0)]).deaths == 1
    assert (
        motion([(0, before), (1, squares((2, 20, 20, 10), (3, 20, 50, 8)))], [*ends, (2, 1, 1, 0), (3, 1, 1, 0)]).deaths
        == 0
    )
    assert motion([(0, before), (1, squares((2, 2, 20, 10)))], [*ends, (2, 1, 1, 0)]).deaths == 2  # 2 came from outside
    found = squares((2, 20, 20, 10), (3, 40, 20, 10), (5, 40, 50, 8))
    assert motion([(0, before), (1, found)], [*ends, *((new, 1, 1, 0) for new in (2, 3, 5))]).deaths == 0
    late = [(0, squares((1, 20, 20, 10))), (1, squares((1, 20, 20, 10), (2, 40, 50, 8))), (2, squares((2, 40, 50, 8)))]
    assert motion(late, [(1, 0, 1, 0), (2, 1, 2, 0)]).deaths == 1  # 2 was there before 1 ended
    short = [(0, before), (1, squares((2, 40, 20, 8))), (2, squares())]
    assert motion(short, [*ends, (2, 1, 1, 0)]).deaths == 2  # 2 was nothing, and went on from nothing


def test_the_pace_of_a_track() -> None:
    frames = [(t, squares((1, 20, 5 + 3 * t, 6), (2, 40, 10, 6))) for t in range(7)]
    assert motion(frames, []).pace.tolist() == [[3, 6], [0, 6]]


def test_an_empty_movie() -> None:
    assert motion([], [(1, 0, 3, 0)]).deaths == 0  # tracks without masks
    movie = motion([(0, squares()), (1, squares())], [])
    assert np.isnan([movie.diameter, movie.division_rate, movie.death_rate]).all()
    summary = motion_summary([movie])
    assert summary["speed"] == {"values": 0, "low": None, "median": None, "high": None}
    assert summary["division_rate"] == {"events": 0, "cells": 0, "value": None}
    assert {kolmogorov_smirnov(pooled([movie], name), pooled([movie], name)) for name in STATISTICS} == {None}


def test_several_movies_are_pooled_and_compared() -> None:
    movie = motion(*divided())
    assert pooled([movie, movie], "sister_distance") == pytest.approx([12, 12])
    summary = motion_summary([movie, movie])
    assert summary["division_rate"] == {"events": 2, "cells": 12, "value": pytest.approx(1 / 6)}
    speeds = pooled([movie], "speed")
    assert kolmogorov_smirnov(speeds, speeds) == 0
    fast = motion(((t, squares((1, 20, 5 + 9 * t, 6))) for t in range(5)), [])
    assert kolmogorov_smirnov(speeds, pooled([fast], "speed")) == 1


def test_guards() -> None:
    with pytest.raises(ValueError, match="ascending numbers"):
        motion([(1, squares()), (1, squares())], [])
    with pytest.raises(ValueError, match=r"labels \(H, W\)"):
        motion([(0, np.zeros((2, 3, 3), np.int32))], [])
