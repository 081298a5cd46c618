"""Linking as in DeepSea (Zargari et al. 2023).

For every cell, a network predicts where it lies in the next frame. A cell of the next frame in this region is its
successor; two such cells are its daughters.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cytoforge.cells.crops import DARKEST, SIDE, crop_images, crop_labels, windows_around
from cytoforge.tracking.assignment import maximum_weight

COVERAGE = 0.5
"""share of a cell's pixels in the window that must be exceeded for it to be a candidate successor"""
SMALLEST = 20
"""px of a crop; smaller regions of a prediction are ignored"""
REFRACTORY = 5
"""frames after a division before a daughter may divide"""
TIE = 0.01
"""weight of distance against coverage: it decides between cells with equal coverage"""

Ints = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]
Predict = Callable[[Tensor, Tensor], NDArray[np.bool_]]
"""crops (N, C, SIDE, SIDE) of cells and of the next frame -> where each cell lies in the latter, (N, SIDE, SIDE)"""


def link_movie(
    frames: Iterable[tuple[Labels, NDArray[np.float32]]],
    predict: Predict,
    *,
    coverage: float = COVERAGE,
    refractory: int = REFRACTORY,
    divisions: bool = True,
    darkest: float = DARKEST,
) -> tuple[Ints, Ints]:
    """Link the cells of a movie, given as labels (H, W), numbered 1..N, and image (C, H, W) in [-1, 1] of each frame.

    Returns the number of cells in each frame (T,), and links (K, 4): frame, cell, next frame, cell there. A cell with
    two successors divides; without `divisions` no cell does. No cell has two predecessors, and no link skips a frame.
    After a division, its daughters do not divide for `refractory` frames. Crops are cut as `darkest` says
    (`cells.crops.crop_images`). Two frames are held at a time.
    """
    counts: list[int] = []
    links = [np.empty((0, 4), np.int64)]
    before: tuple[Labels, NDArray[np.float32]] | None = None
    born = np.empty(0)  # frame of the division from which each cell comes, -inf without
    for time, (labels, image) in enumerate(frames):
        counts.append(int(labels.max(initial=0)))
        now = np.full(counts[-1], -np.inf)
        if before is not None and counts[-2] and counts[-1]:
            may_divide = divisions & (time - born >= refractory)
            pairs = _link(*before, labels, image, predict, coverage, may_divide, darkest)
            mother = np.bincount(pairs[:, 0], minlength=born.size) > 1
            now[pairs[:, 1]] = np.where(mother[pairs[:, 0]], time, born[pairs[:, 0]])
            moment = np.full(len(pairs), time)
            links.append(np.stack([moment - 1, pairs[:, 0] + 1, moment, pairs[:, 1] + 1], axis=1))
        before, born = (labels, image), now
    return np.array(counts, np.int64), np.concatenate(links)


def _link(
    labels: Labels,
    image: NDArray[np.float32],
    next_labels: Labels,
    next_image: NDArray[np.float32],
    predict: Predict,
    coverage: float,
    may_divide: NDArray[np.bool_],
    darkest: float,
) -> Ints:
    cells = np.arange(1, int(labels.max()) + 1)
    windows = windows_around(labels, cells)
    previous = crop_images(image, labels, windows, cells, darkest)
    predicted = predict(previous, crop_images(next_image, next_labels, windows, darkest=darkest))
    candidates = crop_labels(next_labels, windows)
    return choose(*claims(without_spots(predicted), candidates, int(next_labels.max())), may_divide, coverage)


def without_spots(predicted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return predictions (N, H, W) without regions (pixels that share a side) of fewer than SMALLEST pixels."""
    beside = ndimage.generate_binary_structure(3, 1)
    beside[[0, 2]] = False  # regions do not extend from one prediction to the next
    pieces, count = ndimage.label(predicted, beside)
    large = np.bincount(pieces.ravel(), minlength=count + 1) >= SMALLEST
    large[0] = False
    kept: NDArray[np.bool_] = large[pieces]
    return kept


def claims(
    predicted: NDArray[np.bool_], candidates: Labels, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare predictions (N, SIDE, SIDE) with crops of labels 0..M of the next frame, M = `count`.

    Returns two arrays (N, M). The first is the share of each cell's pixels in the window that is predicted, 0 for cells
    outside it. The second is the distance from the centroid of these pixels to the middle of the window, the earlier
    position of the cell, in window sides.
    """
    number = len(predicted) * (count + 1)
    place = (np.arange(len(predicted))[:, None, None] * (count + 1) + candidates).ravel()

    def sums(weights: NDArray[Any]) -> NDArray[np.float64]:
        table = np.bincount(place, weights=np.broadcast_to(weights, candidates.shape).ravel(), minlength=number)
        return table.astype(np.float64).reshape(-1, count + 1)[:, 1:]

    area = np.maximum(sums(np.ones(1)), 1)
    offset = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    return sums(predicted) / area, np.hypot(sums(offset[:, None]) / area, sums(offset) / area)


def choose(
    covered: NDArray[np.float64], distance: NDArray[np.float64], may_divide: NDArray[np.bool_], coverage: float
) -> Ints:
    """Choose links (K, 2), rows and columns from 0, of N cells with M cells of the next frame.

    `covered` and `distance` (N, M) are those of `claims`. Cells covered by more than `coverage` are candidates. First
    each cell gets at most one candidate, so that the sum of coverages is largest; of equal ones the nearer is taken.
    Then linked cells that `may_divide` (N,) may get a second one of the remaining candidates.
    """
    score = np.where(covered > coverage, covered - TIE * distance, 0.0)
    first = _assigned(score)
    mothers = np.zeros(len(score), bool)
    mothers[first[:, 0]] = may_divide[first[:, 0]]
    left = np.ones(score.shape[1], bool)
    left[first[:, 1]] = False
    return np.concatenate([first, _assigned(np.where(mothers[:, None] & left, score, 0.0))])


def _assigned(score: NDArray[np.float64]) -> Ints:
    """Return the places (K, 2) of values above 0 with the largest sum, at most one in each row and column."""
    row, column = np.nonzero(score > 0)
    pairs: Ints = np.stack([row, column], axis=1)[maximum_weight(row, column, score[row, column])]
    return pairs
