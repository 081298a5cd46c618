"""How far a segmenter contradicts itself: cells of an image against cells of the same image turned and mirrored.

An image has eight orientations: quarter turns, and these mirrored. A segmenter that is sure of a cell outlines it alike
in all of them, and what it finds in some only is what it has not learned yet. Disagreement is that of cells, 1 - IoU,
because it follows the true error more evenly than the spread of the foreground probability: Spearman's correlation with
1 - F at IoU 0.5 was .63, .73 (usiigaci, 28 images each) and .47 (dsb256, 58 images) after a minute of training on two
images, that of the standard deviation .39, .46 and .44 (`benchmarks/suggest.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cytoforge.inference.tiling import Floats
from cytoforge.metrics.segmentation import overlap

ORIENTATIONS = 8

Labels = NDArray[np.int32]
Numbers = NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, eq=False)
class TurnDisagreement:
    """Cells found in an image as it is (`own`) and in its seven other orientations, each (K,).

    An own cell weighs a half, one of another orientation a fourteenth: all weigh as much as there are cells.
    """

    y: Numbers
    """centre of the cell in pixels, 0 in the middle of the first"""
    x: Numbers
    diameter: Numbers
    """pixels of the circle of equal area"""
    disagreement: Numbers
    """in [0, 1]: 1 - IoU with the cell that overlaps it best, of own cells the mean over the other orientations, of
    others that with the own cells"""
    own: NDArray[np.bool_]

    @property
    def weight(self) -> Numbers:
        """How much each cell counts in a mean or sum (K,)."""
        return np.where(self.own, 0.5, 0.5 / (ORIENTATIONS - 1))

    @property
    def mean(self) -> float:
        """Disagreement of the image, in [0, 1]: the weighted mean over its cells; 0 where none is found."""
        total = self.weight.sum()
        return float((self.weight * self.disagreement).sum() / total) if total else 0.0

    @property
    def cells(self) -> int:
        """Number of cells found in the image as it is."""
        return int(self.own.sum())


def turned(array: NDArray[Kind], orientation: int) -> NDArray[Kind]:
    """Bring the last two axes into an orientation 0 to 7: quarter turns, from 4 on mirrored afterwards."""
    quarters = np.rot90(array, orientation % 4, axes=(-2, -1))
    return np.ascontiguousarray(quarters[..., ::-1] if orientation >= 4 else quarters)


def turned_back(array: NDArray[Kind], orientation: int) -> NDArray[Kind]:
    """Undo `turned`."""
    straight = array[..., ::-1] if orientation >= 4 else array
    return np.ascontiguousarray(np.rot90(straight, -(orientation % 4), axes=(-2, -1)))


def turn_disagreement(image: Floats, segment: Callable[[Floats], Labels]) -> TurnDisagreement:
    """Compare the cells that `segment` finds in an image (C, H, W) with those in its seven other orientations.

    `segment` turns float32 (C, H, W) into labels (H, W); it is called eight times, and sees H and W swapped.
    """
    own = segment(image)
    found, doubts = [], []
    for orientation in range(1, ORIENTATIONS):
        other = turned_back(segment(turned(image, orientation)), orientation)
        doubts.append(_unlike(own, other))
        found.append(_table(other, _unlike(other, own), own=False))
    return joined([_table(own, np.mean(doubts, axis=0), own=True), *found])


def joined(parts: list[TurnDisagreement]) -> TurnDisagreement:
    """Return the cells of several parts of an image, at least one, together."""
    return TurnDisagreement(
        y=np.concatenate([part.y for part in parts]),
        x=np.concatenate([part.x for part in parts]),
        diameter=np.concatenate([part.diameter for part in parts]),
        disagreement=np.concatenate([part.disagreement for part in parts]),
        own=np.concatenate([part.own for part in parts]),
    )


def no_cells() -> TurnDisagreement:
    """Return what a blank image has."""
    none = np.zeros(0)
    return TurnDisagreement(none, none, none, none, none.astype(bool))


def _unlike(cells: Labels, others: Labels) -> Numbers:
    """Return 1 - IoU of each cell with the one of `others` that overlaps it best, 1 where none does: (N,)."""
    table = overlap(cells, others)
    best = np.zeros(len(table.truth_ids))
    np.maximum.at(best, table.pair_truth, table.iou())
    return 1 - best


def _table(labels: Labels, disagreement: Numbers, *, own: bool) -> TurnDisagreement:
    y, x = np.nonzero(labels)
    _, number = np.unique(labels[y, x], return_inverse=True)
    area = np.bincount(number, minlength=len(disagreement))
    down, across = (np.bincount(number, axis, minlength=len(disagreement)) / area for axis in (y, x))
    return TurnDisagreement(down, across, 2 * np.sqrt(area / np.pi), disagreement, np.full(len(disagreement), own))
