"""Corrections of label images by hand: brush, eraser, outline, cut, merge, delete, fill, each as a change of a box.

Coordinates are y, x in pixels with (0, 0) at the outer corner of the first pixel, as in `cells.outlines`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cytoforge.cells.labels import connected
from cytoforge.cells.outlines import NOTHING, Region, cropped

Labels = NDArray[np.int32]
SPECK = 4  # px: pieces that the eraser cuts off and that are smaller become background
FIRST_MARGIN = 64  # px around what is touched in which its cells are looked for first
LARGEST = 2**31 - 1  # number of a cell
LINE = 0.75  # px, half of the width of a cut: no 4-connected path crosses it


@dataclass(frozen=True)
class Change:
    """New labels for a box of a label image: `before` and `after` int32 (h, w), their first pixel at top, left."""

    top: int
    left: int
    before: Labels
    after: Labels

    @property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns that change."""
        height, width = self.after.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def inverse(self) -> "Change":
        """The change that takes this one back."""
        return Change(self.top, self.left, self.after, self.before)

    def apply(self, labels: Labels) -> None:
        """Write the new labels into a label image (H, W)."""
        labels[self.box] = self.after


def stroke(points: ArrayLike, radius: float, shape: tuple[int, int]) -> Region:
    """Return the pixels of an image (H, W) whose centres lie within `radius` px of a line through `points` (K, 2).

    The pixel under a point belongs to it whatever the radius. Raises ValueError unless there is a point, all are finite
    and the radius is positive.
    """
    line = np.array(points, np.float64).reshape(-1, 2)
    if not line.size or not np.isfinite(line).all() or not 0 < radius < np.inf:
        raise ValueError(f"a stroke has finite points and a positive radius, got {len(line)} points, radius {radius}")
    low = np.clip(np.floor(line.min(axis=0) - radius), 0, shape).astype(int)
    high = np.clip(np.ceil(line.max(axis=0) + radius) + 1, 0, shape).astype(int)
    if (high <= low).any():
        return NOTHING
    mask = np.zeros(high - low, bool)
    line -= low
    for start, stop in zip(line, np.concatenate([line[1:], line[-1:]]), strict=True):
        first = np.clip(np.floor(np.minimum(start, stop) - radius), 0, mask.shape).astype(int)
        last = np.clip(np.ceil(np.maximum(start, stop) + radius) + 1, 0, mask.shape).astype(int)
        part = mask[first[0] : last[0], first[1] : last[1]]
        y, x = np.ogrid[first[0] : last[0], first[1] : last[1]]
        part |= _distance(y + 0.5, x + 0.5, start, stop) <= radius
    under = np.floor(line).astype(int)
    under = under[((under >= 0) & (under < mask.shape)).all(axis=1)]
    mask[under[:, 0], under[:, 1]] = True
    found = cropped(mask)
    return Region(found.top + int(low[0]), found.left + int(low[1]), found.mask)


def _distance(y: NDArray[Any], x: NDArray[Any], start: NDArray[Any], stop: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of places y, x from the segment between two points."""
    along = stop - start
    length = float(along @ along)
    share = ((y - start[0]) * along[0] + (x - start[1]) * along[1]) / length if length else 0.0
    share = np.clip(share, 0, 1)
    distance: NDArray[np.float64] = np.hypot(y - start[0] - share * along[0], x - start[1] - share * along[1])
    return distance


def draw(labels: Labels, region: Region, cell: int) -> Change | None:
    """Give the background in a region to a cell; other cells keep their pixels. None where nothing changes."""
    before = _part(labels, region)
    return _change(region.top, region.left, before, np.where(region.mask & (before == 0), np.int32(cell), before))


def erase(labels: Labels, region: Region) -> Change | None:
    """Make a region background; what it cuts off a cell becomes a cell of its own, unless it is a speck."""
    touched = touched_cells(labels, region)
    if not touched:
        return None
    top, left, before = _around(labels, touched, region)
    after = np.where(_within(region, top, left, before.shape), 0, before)
    free = free_numbers(labels)
    for cell in touched:
        for number, piece in enumerate(_pieces(after == cell)):
            if number:
                after[piece] = 0 if np.count_nonzero(piece) < SPECK else next(free)
    return _change(top, left, before, after)


def delete(labels: Labels, region: Region) -> Change | None:
    """Make all cells that a region touches background; None where it touches none."""
    touched = touched_cells(labels, region)
    if not touched:
        return None
    top, left, before = _around(labels, touched, region)
    return _change(top, left, before, np.where(np.isin(before, touched), 0, before))


def merge(labels: Labels, points: ArrayLike, radius: float) -> Change | None:
    """Join all cells that a stroke touches, and the background that it crosses between them, to the first of them.

    None where it touches fewer than two. Raises ValueError as `stroke`.
    """
    line = np.asarray(points, np.float64).reshape(-1, 2)
    region = stroke(line, radius, labels.shape)
    touched = touched_cells(labels, region)
    if len(touched) < 2:
        return None
    bridge = stroke(_between_cells(labels, line), radius, labels.shape)
    top, left, before = _around(labels, touched, region)
    joined = np.isin(before, touched) | (_within(bridge, top, left, before.shape) & (before == 0))
    after = np.where(joined, np.int32(touched[0]), before)
    return _change(top, left, before, after)


def _between_cells(labels: Labels, line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of a line from its first point in a cell to its last one; the whole line where there is none."""
    pixels = np.clip(np.floor(line).astype(int), 0, np.array(labels.shape) - 1)
    inside = np.flatnonzero(labels[pixels[:, 0], pixels[:, 1]])
    return line[inside[0] : inside[-1] + 1] if inside.size else line


def split(labels: Labels, points: ArrayLike) -> Change | None:
    """Cut cells along a line through `points` (K, 2): pieces other than the largest get new numbers.

    The pixels of the line go to the nearest piece. None where the line cuts no cell through. Raises ValueError as
    `stroke`.
    """
    region = stroke(points, LINE, labels.shape)
    touched = touched_cells(labels, region)
    if not touched:
        return None
    top, left, before = _around(labels, touched, region)
    line = _within(region, top, left, before.shape)
    after, free = before.copy(), free_numbers(labels)
    for cell in touched:
        whole = before == cell
        pieces = _pieces(whole & ~line)
        if len(pieces) < 2:
            continue
        number = np.zeros(before.shape, np.int32)
        for place, piece in enumerate(pieces):
            number[piece] = next(free) if place else cell
        nearest = ndimage.distance_transform_edt(number == 0, return_distances=False, return_indices=True)
        after[whole] = number[tuple(nearest)][whole]
    return _change(top, left, before, after)


def fill_holes(labels: Labels, region: Region) -> Change | None:
    """Give the background that a cell encloses to it, of all cells that a region touches; None where there is none."""
    touched = touched_cells(labels, region)
    if not touched:
        return None
    top, left, before = _around(labels, touched, region)
    after = before.copy()
    for cell in touched:
        after[ndimage.binary_fill_holes(before == cell) & (after == 0)] = cell
    return _change(top, left, before, after)


def replace(labels: Labels, wanted: Labels) -> Change | None:
    """Put other labels of the same size in the place of all."""
    return _change(0, 0, labels.copy(), wanted)


def touched_cells(labels: Labels, region: Region) -> list[int]:
    """Return the numbers of the cells that have a pixel in a region, in ascending order."""
    found = np.unique(_part(labels, region)[region.mask])
    return [int(cell) for cell in found if cell]


def free_numbers(labels: Labels) -> Iterator[int]:
    """Yield numbers that no cell has: those above all cells, and then those between them."""
    yield from range(int(labels.max()) + 1, LARGEST + 1)
    used = set(np.unique(labels).tolist())
    yield from (number for number in count(1) if number not in used)


def _part(labels: Labels, region: Region) -> Labels:
    height, width = region.mask.shape
    return labels[region.top : region.top + height, region.left : region.left + width]


def _around(labels: Labels, cells: list[int], region: Region) -> tuple[int, int, Labels]:
    """Return top, left and a copy of the labels of a box that holds a region and all of the cells that it touches.

    The box grows until no cell reaches beyond it, so that time follows from the cells, not from the image.
    """
    height, width = region.mask.shape
    margin = FIRST_MARGIN
    while True:
        top, left = max(region.top - margin, 0), max(region.left - margin, 0)
        bottom, right = (
            min(region.top + height + margin, labels.shape[0]),
            min(region.left + width + margin, labels.shape[1]),
        )
        box = labels[top:bottom, left:right]
        sides = (
            (top > 0, box[:1]),
            (bottom < labels.shape[0], box[-1:]),
            (left > 0, box[:, :1]),
            (right < labels.shape[1], box[:, -1:]),
        )
        if not any(inside and np.isin(side, cells).any() for inside, side in sides):
            return top, left, box.copy()
        margin *= 2


def _within(region: Region, top: int, left: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels of a region as bool of this shape, a box whose first pixel is at top, left."""
    rows, columns = region.mask.nonzero()
    found = np.zeros(shape, bool)
    found[rows + region.top - top, columns + region.left - left] = True
    return found


def _pieces(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the 4-connected pieces of a mask, the largest first."""
    numbers = connected(mask)
    sizes = np.bincount(numbers.ravel())[1:]
    return [numbers == 1 + place for place in np.argsort(-sizes, kind="stable")]


def _change(top: int, left: int, before: Labels, after: Labels) -> Change | None:
    """Return a change cut to the pixels that differ, or None where there are none."""
    differs = cropped(before != after)
    if not differs.mask.size:
        return None
    height, width = differs.mask.shape
    box = slice(differs.top, differs.top + height), slice(differs.left, differs.left + width)
    return Change(top + differs.top, left + differs.left, before[box].copy(), after[box].astype(np.int32))
