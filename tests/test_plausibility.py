"""Warnings about tracks that are hardly so; every rule is made to fire, and kept silent by an ordinary movie."""

import numpy as np
import pytest

from cytoforge.tracking.plausibility import implausible


def tracks(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, 4)


def dividing(count: int, at: int, end: int) -> np.ndarray:
    """`count` cells that each divide into two, `at` their last frame."""
    mothers = [(n, 0, at, 0) for n in range(1, count + 1)]
    daughters = [(count + 2 * n + k, at + 1, end, n) for n in range(1, count + 1) for k in (0, 1)]
    return tracks(*mothers, *daughters)


def test_an_ordinary_movie_is_not_doubted() -> None:
    cells = np.concatenate([np.full(20, 40), np.full(10, 44)])
    still = [(n, 0, 29, 0) for n in range(100, 136)]
    assert implausible(np.concatenate([dividing(4, 19, 29), tracks(*still)]), cells) == []
    assert implausible(tracks(), np.zeros(5, np.int64)) == []
    assert implausible(tracks((1, 0, 0, 0)), np.array([1])) == []


def test_many_divisions_in_few_frames_that_leave_no_more_cells() -> None:
    (often, vanished) = implausible(dividing(36, 5, 11), np.full(12, 50))
    assert often.startswith("36 divisions in 12 frames: a cell would divide every 15 frames")
    assert vanished.startswith("36 divisions, but 50 cells in the first third of the movie and 50 in the last")


def test_many_divisions_that_do_leave_more_cells_are_only_frequent() -> None:
    (often,) = implausible(dividing(36, 5, 11), np.array([36] * 4 + [46, 56, 62, 67] + [72] * 4))
    assert often.startswith("36 divisions in 12 frames: a cell would divide every 16 frames")


@pytest.mark.parametrize(("brief", "told"), [(2, False), (3, True)])
def test_tracks_of_a_single_frame(brief: int, told: bool) -> None:
    whole, short = [(n, 0, 9, 0) for n in range(1, 6)], [(20 + n, 4, 4, 0) for n in range(brief)]
    edge = [(30, 0, 0, 0), (31, 9, 9, 0)]  # cut off by the ends of the movie, which says nothing
    found = implausible(tracks(*whole, *short, *edge), np.full(10, 6))
    assert found == (
        ["3 of 10 tracks last a single frame; masks may flicker, or cells move too far between frames"] * told
    )


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([10, 10, 4, 10], "jumps from 10 to 4 at frame 7, and at 1 more; look"),
        ([10, 10, 10, 20], "jumps from 10 to 20 at frame 8; look"),
        ([10, 8, 10, 12], None),
        ([2, 6, 2, 2], None),  # too few cells
    ],
)
def test_jumps_of_the_number_of_cells(cells: list[int], words: str | None) -> None:
    found = implausible(tracks((1, 0, 3, 0)), np.array(cells), first=5)
    assert (words is None and not found) or (words is not None and words in found[0])
