"""Linking as DeepSea: drawn movies, for which a stand-in of the network says where each cell has gone."""

from collections.abc import Mapping

import numpy as np
import pytest
from torch import Tensor

from cells import draw
from cytoforge.cells.crops import SIDE, crop_labels, windows_around
from cytoforge.tracking.deepsea import REFRACTORY, SMALLEST, choose, claims, link_movie, without_spots

ONE = draw("""
    ........
    .AAA....
    .AAA....
    ........
    """)
MOVED = draw("""
    ........
    ..AAA...
    ..AAA...
    ........
    """)
TWO = draw("""
    ........
    .A..BB..
    .A..BB..
    ........
    """)
TOUCHING = draw("""
    ........
    .AABB...
    .AABB...
    ........
    """)
EMPTY = np.zeros_like(ONE)


def link(movie: list[np.ndarray], gone: Mapping[tuple[int, int], tuple[int, ...]], **options) -> list[tuple[int, ...]]:
    """Links of a movie in which cell c of frame t is said to be, in t + 1, where cells gone[t, c] are."""
    times = iter(t for t in range(len(movie) - 1) if movie[t].any() and movie[t + 1].any())

    def predict(previous: Tensor, current: Tensor) -> np.ndarray:
        time = next(times)
        cells = range(1, int(movie[time].max()) + 1)
        assert len(previous) == len(current) == len(cells)  # all cells of a frame at once
        cut = crop_labels(movie[time + 1], windows_around(movie[time], list(cells)))
        return np.stack(
            [np.isin(crop, gone.get((time, c), ())) & (crop > 0) for crop, c in zip(cut, cells, strict=True)]
        )

    frames = [(labels, np.where(labels > 0, 0.5, -1.0).astype(np.float32)[None]) for labels in movie]
    counts, pairs = link_movie(iter(frames), predict, **options)
    assert counts.tolist() == [labels.max() for labels in movie] and pairs.dtype == np.int64
    return sorted(map(tuple, pairs.tolist()))


def test_one_kept_goes_on() -> None:
    assert link([ONE, MOVED, ONE], {(0, 1): (1,), (1, 1): (1,)}) == [(0, 1, 1, 1), (1, 1, 2, 1)]


def test_two_kept_are_a_division() -> None:
    assert link([ONE, TWO], {(0, 1): (1, 2)}) == [(0, 1, 1, 1), (0, 1, 1, 2)]
    assert link([ONE, TWO], {(0, 1): (1, 2)}, divisions=False) == [(0, 1, 1, 1)]


def test_none_kept_ends_and_what_nobody_claims_begins() -> None:
    assert link([ONE, MOVED], {}) == []
    assert link([ONE, TWO], {(0, 1): (2,)}) == [(0, 1, 1, 2)]


def test_touching_cells_are_told_apart() -> None:
    assert link([TOUCHING, TOUCHING], {(0, 1): (1,), (0, 2): (2,)}) == [(0, 1, 1, 1), (0, 2, 1, 2)]
    assert link([ONE, TOUCHING], {(0, 1): (1, 2)}) == [(0, 1, 1, 1), (0, 1, 1, 2)]


@pytest.mark.parametrize("movie", [[ONE], [EMPTY], [ONE, EMPTY], [EMPTY, ONE], [ONE, EMPTY, ONE], []])
def test_one_frame_and_empty_frames_have_no_links(movie: list[np.ndarray]) -> None:
    assert link(movie, {}) == []


def test_a_cell_claimed_twice_goes_to_one() -> None:
    pairs = link([TWO, TWO], {(0, 1): (1, 2), (0, 2): (2,)})
    assert pairs == [(0, 1, 1, 1), (0, 2, 1, 2)]  # rather than a division of 1 and the end of 2
    pairs = link([TWO, MOVED], {(0, 1): (1,), (0, 2): (1,)})
    assert len(pairs) == 1 and pairs[0][2:] == (1, 1)


@pytest.mark.parametrize("wait", [1, REFRACTORY - 1, REFRACTORY, REFRACTORY + 1])
def test_a_daughter_may_not_divide_at_once(wait: int) -> None:
    movie = [ONE, *[TWO] * wait, TWO]  # A divides into A and B of frame 1; `wait` frames later A into A and B
    gone = {(0, 1): (1, 2), **{(t, c): (c,) for t in range(1, wait) for c in (1, 2)}, (wait, 1): (1, 2)}
    last = [pair for pair in link(movie, gone) if pair[0] == wait]
    assert last == [(wait, 1, wait + 1, 1), (wait, 1, wait + 1, 2)][: 2 if wait >= REFRACTORY else 1]
    assert len([pair for pair in link(movie, gone, refractory=1) if pair[0] == wait]) == 2


def test_who_enters_may_divide_at_once() -> None:
    assert len(link([EMPTY, ONE, TWO], {(1, 1): (1, 2)})) == 2


def test_coverage_is_a_share_of_the_cell_as_far_as_it_is_seen() -> None:
    candidates, predicted = np.zeros((2, SIDE, SIDE), np.int32), np.zeros((2, SIDE, SIDE), bool)
    candidates[0, :, :64], candidates[0, 10:20, 100:] = 1, 3
    predicted[0, :32] = True
    candidates[1] = 2
    covered, distance = claims(predicted, candidates, 3)
    np.testing.assert_allclose(covered, [[0.25, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(distance[0], [0.25, 0, np.hypot(15 / SIDE - 0.5, 114 / SIDE - 0.5)])
    assert distance[1, 1] == pytest.approx(0)


def test_half_a_cell_is_no_claim() -> None:
    far, may = np.zeros((1, 1)), np.array([True])
    assert choose(np.array([[0.5]]), far, may, 0.5).tolist() == []
    assert choose(np.array([[0.51]]), far, may, 0.5).tolist() == [[0, 0]]
    assert choose(np.array([[0.51]]), far, may, 0.6).tolist() == []


def test_the_two_best_are_daughters_and_the_nearer_goes_on() -> None:
    covered, distance = np.array([[0.7, 0.9, 0.8]]), np.array([[0.0, 0.1, 0.1]])
    assert sorted(choose(covered, distance, np.array([True]), 0.5)[:, 1]) == [1, 2]
    assert choose(np.ones((1, 3)), np.array([[0.3, 0.1, 0.2]]), np.array([False]), 0.5).tolist() == [[0, 1]]


def test_going_on_comes_before_dividing_and_each_cell_has_one_mother() -> None:
    may = np.array([True, True])
    far = np.zeros((2, 2))
    assert sorted(choose(np.array([[0.9, 0.9], [0.0, 0.6]]), far, may, 0.5).tolist()) == [[0, 0], [1, 1]]
    # best pair first would leave 1 without a cell
    assert sorted(choose(np.array([[0.9, 0.8], [0.95, 0.0]]), far, may, 0.5).tolist()) == [[0, 1], [1, 0]]
    # both would have the third as a second daughter; the better covered one is
    thirds = np.array([[0.9, 0, 0.6], [0, 0.9, 0.7]])
    assert sorted(choose(thirds, np.zeros((2, 3)), may, 0.5).tolist()) == [[0, 0], [1, 1], [1, 2]]


def test_spots_do_not_count() -> None:
    predicted = np.zeros((2, 10, 10), bool)
    predicted[0, :4, :5] = True  # 20 px
    predicted[0, 4:9, 5:] = True  # 25 px, which touch the others at a corner only
    predicted[0, 9, 0] = True
    predicted[1, :1, :5] = predicted[1, 2:5, :5] = True  # 5 and 15 px, 20 together; behind them lie others
    kept = without_spots(predicted)
    assert SMALLEST == 20 and kept.sum() == 45 and not kept[1].any() and not kept[0, 9, 0]
    assert without_spots(np.zeros((0, 4, 4), bool)).shape == (0, 4, 4)
