"""Outlines of cells to label images and back: which pixels lie inside, who owns a pixel that several cells share.

Coordinates are y, x in pixels with (0, 0) at the outer corner of the first pixel, so that its centre is at (0.5, 0.5).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cytoforge.cells.labels import Labels, boxes

MAX_CROSSINGS = 2**27  # of an outline with rows of pixels; an outline around the largest slides has a million
FARTHEST = 1e30  # px, of a coordinate: slopes between farther ones are no numbers
CIRCLE = 360  # corners of a polygon that stands for an ellipse: at a radius of 1000 px it is 0.04 px off


class Region(NamedTuple):
    """The pixels of a cell: bool (h, w), and the row and column of its first pixel."""

    top: int
    left: int
    mask: NDArray[np.bool_]


class Painted(NamedTuple):
    """Cells drawn into one image."""

    labels: NDArray[np.int32]
    """(H, W): 0 background, 1..N the cells of which a pixel is seen, in the order given"""
    lost: int
    """number of regions of which no pixel is seen: empty, outside of the image, or beneath others"""
    shared: int
    """number of pixels that belong to several regions"""


class Piece(NamedTuple):
    """The outline of pixels that are connected by their sides, along the edges of pixels."""

    shell: NDArray[np.int64]
    """ring of corners (K, 2), y and x, the first not repeated; x to y turns to the right, as on a clock, on a screen"""
    holes: tuple[NDArray[np.int64], ...]
    """rings of the holes, which turn the other way round"""


NOTHING = Region(0, 0, np.zeros((0, 0), np.bool_))


def fill(rings: Sequence[ArrayLike], shape: tuple[int, int]) -> Region:
    """Return the pixels of an image (H, W) whose centres lie inside an odd number of closed rings, so holes stay open.

    A centre exactly on a side belongs to what lies below it or to its right: of two cells with a common side, each
    pixel belongs to exactly one. Parts outside of the image are cut off.

    Args:
        rings: arrays (K, 2) of y, x; the last corner is joined to the first. Fewer than 3 corners hold nothing.
        shape: height and width.

    Raises:
        ValueError: when coordinates are not finite or beyond FARTHEST, or rings cross more than MAX_CROSSINGS rows
            together.
    """
    corners = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]
    corners = [ring for ring in corners if len(ring) > 2]
    if not corners:
        return NOTHING
    start = np.concatenate(corners)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in corners])
    if not np.isfinite(start).all():
        raise ValueError("a coordinate of an outline is no finite number")
    if (farthest := np.abs(start).max()) > FARTHEST:
        raise ValueError(f"a coordinate of an outline is {farthest:g} pixels away, far beyond any image")
    # a side meets the centres r + 0.5 of the rows with least y <= r + 0.5 < greatest y
    rows = np.clip(np.ceil(np.stack([start[:, 0], stop[:, 0]]) - 0.5), 0, shape[0]).astype(np.int64)
    first, count = rows.min(axis=0), np.ptp(rows, axis=0)
    if count.sum() > MAX_CROSSINGS:
        raise ValueError(f"an outline crosses {count.sum()} rows of pixels")
    side = np.repeat(np.arange(len(start)), count)
    if not side.size:
        return NOTHING
    row = np.arange(side.size) - np.repeat(np.cumsum(count) - count, count) + first[side]
    slope = (stop[side, 1] - start[side, 1]) / (stop[side, 0] - start[side, 0])
    x = start[side, 1] + (row + 0.5 - start[side, 0]) * slope
    column = np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(np.int64)
    top, left = int(row.min()), int(column.min())
    crossings = np.zeros((int(row.max()) + 1 - top, int(column.max()) + 1 - left), np.int32)
    np.add.at(crossings, (row - top, column - left), 1)
    return Region(top, left, np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1)


def ellipse(centre: ArrayLike, radii: ArrayLike) -> NDArray[np.float64]:
    """Return a ring (CIRCLE, 2) around a centre y, x with the radii along y and x in pixels."""
    angle = 2 * np.pi * np.arange(CIRCLE) / CIRCLE
    ring: NDArray[np.float64] = np.array(centre) + np.array(radii) * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return ring


def cropped(mask: NDArray[Any]) -> Region:
    """Return the pixels of a mask (H, W) that are not 0 as a region no larger than them."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return NOTHING
    top, left = int(rows[0]), int(columns[0])
    return Region(top, left, mask[top : rows[-1] + 1, left : columns[-1] + 1] != 0)


def united(regions: Sequence[Region]) -> Region:
    """Return the pixels that lie in any of the regions: a cell in several parts."""
    if len(regions) == 1:
        return regions[0]
    parts = [region for region in regions if region.mask.size]
    if not parts:
        return NOTHING
    top, left = min(part.top for part in parts), min(part.left for part in parts)
    bottom = max(part.top + part.mask.shape[0] for part in parts)
    right = max(part.left + part.mask.shape[1] for part in parts)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for part in parts:
        y, x = part.top - top, part.left - left
        mask[y : y + part.mask.shape[0], x : x + part.mask.shape[1]] |= part.mask
    return Region(top, left, mask)


def paint(regions: Iterable[Region], shape: tuple[int, int]) -> Painted:
    """Draw regions, which lie inside of an image (H, W), as labels; of cells that share a pixel the smallest has it.

    Size is the number of pixels of the whole region; of equal ones the first has the pixel. Regions are drawn one at a
    time, so none but the current one need be in memory.
    """
    labels = np.zeros(shape, np.int32)
    size = np.full(shape, np.iinfo(np.int64).max)  # of the region that has the pixel
    shared = np.zeros(shape, np.bool_)
    number = 0
    for number, (top, left, mask) in enumerate(regions, 1):
        box = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        area = np.count_nonzero(mask)
        shared[box] |= mask & (labels[box] > 0)
        taken = mask & (area < size[box])
        labels[box][taken] = number
        size[box][taken] = area
    seen = np.unique(labels[labels > 0])
    new = np.zeros(number + 1, np.int32)
    new[seen] = np.arange(1, seen.size + 1)
    return Painted(new[labels], number - seen.size, int(shared.sum()))


def pieces(mask: NDArray[np.bool_]) -> list[Piece]:
    """Return the outlines of a mask (H, W): of all pixels that are connected by sides one piece, in order of rows.

    `fill` with all rings gives exactly the mask. No ring meets itself: where a piece touches itself at a corner, the
    bay between is a hole that touches the shell. So the rings are valid as polygons of OGC's Simple Features.
    """
    numbers, _ = ndimage.label(mask)
    found = []
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        corner = np.array([part.start for part in box])
        loops = [loop + corner for loop in _loops(numbers[box] == number)]
        (shell,) = (loop for loop in loops if _area(loop) > 0)
        found.append(Piece(shell, tuple(loop for loop in loops if _area(loop) < 0)))
    return found


def outlined(labels: Labels) -> Iterator[tuple[int, list[Piece]]]:
    """Yield the id of each cell of labels (H, W), in ascending order, and its `pieces`."""
    for number, box in boxes(labels).items():
        corner = np.array([part.start for part in box])
        yield (
            number,
            [
                Piece(piece.shell + corner, tuple(hole + corner for hole in piece.holes))
                for piece in pieces(labels[box] == number)
            ],
        )


def _area(ring: NDArray[np.int64]) -> int:
    """Return twice the pixels inside a ring (K, 2), negative for that of a hole."""
    (y, x), (below, right) = ring.T, np.roll(ring, -1, axis=0).T
    return int((x * below - right * y).sum())


def _loops(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Yield the corners (K, 2) of the borders of pixels connected by sides, which lie to the right of each border."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    outside = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])  # above, right, below, left
    leaving = np.zeros((height + 1, width + 1), np.uint8)  # bits of the directions in which borders leave a corner
    for heading, (neighbour, (y, x)) in enumerate(zip(outside, ((0, 0), (0, 1), (1, 1), (1, 0)), strict=True)):
        leaving[y : y + height, x : x + width] |= (mask & ~neighbour).astype(np.uint8) << heading
    step = (1, width + 1, -1, -width - 1)  # right, down, left, up
    left = leaving.ravel().tolist()
    twofold = {corner for corner in np.flatnonzero(leaving) if left[corner].bit_count() == 2}
    for first in np.flatnonzero(leaving).tolist():
        while left[first]:
            corner, before, corners = first, -1, []
            heading = (left[first] & -left[first]).bit_length() - 1
            while left[corner] >> heading & 1:
                if heading != before:
                    corners.append(corner)
                left[corner] ^= 1 << heading
                corner += step[heading]
                before = heading
                # where two pixels touch at a corner only, the border turns right, along its own pixel
                heading = (heading + 1) % 4 if corner in twofold else left[corner].bit_length() - 1
                if heading < 0:
                    break
            for loop in _simple(corners):
                yield np.stack(np.divmod(np.array(loop), width + 1), axis=1)


def _simple(corners: Sequence[int]) -> Iterator[list[int]]:
    """Cut a closed loop into loops that come to no corner twice."""
    open_: list[int] = []
    place: dict[int, int] = {}
    for corner in corners:
        if corner in place:
            yield open_[place[corner] :]
            for other in open_[place[corner] + 1 :]:
                del place[other]
            del open_[place[corner] + 1 :]
        else:
            place[corner] = len(open_)
            open_.append(corner)
    yield open_
