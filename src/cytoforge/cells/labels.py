"""Label images by their cells: ids of any size as numbers 1..N and back, and where each cell lies.

Ids may have gaps and reach the greatest integer. Tables are as long as the number of cells or pixels, never
as the greatest id.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.integer[Any]] | NDArray[np.bool_]
Ints = NDArray[np.integer[Any]]
Box = tuple[slice, ...]


def compact(values: Ints) -> tuple[Ints, NDArray[np.int64]]:
    """Return the distinct values in ascending order and the place of each value among them, as np.unique does.

    Takes linear time where a table of the values from 0 on is no longer than a few times their number.
    """
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 4 * values.size + 1024:
        distinct, place = np.unique(values, return_inverse=True)
        return distinct, place
    seen = np.zeros(high + 1, dtype=bool)
    seen[values] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[values]


def flat(labels: Labels) -> Ints:
    """Return labels of any shape as one row of integers."""
    integers: Ints = labels.view(np.uint8) if labels.dtype == bool else labels  # type: ignore[assignment]
    return np.ascontiguousarray(integers).reshape(-1)


def dense(labels: Labels) -> tuple[Ints, NDArray[np.int32]]:
    """Number the cells of labels, of any shape, 1..N in ascending order of their ids; 0 stays 0.

    Returns ids (N + 1,), of which the first is 0, and numbers of the shape of labels: ids[numbers] are the labels.
    """
    row = flat(labels)
    begins = np.ones(row.size, bool)
    np.not_equal(row[1:], row[:-1], out=begins[1:])
    first = np.flatnonzero(begins)  # ids are constant along stretches, of which there are far fewer than pixels
    values = row[first]
    ids, place = compact(values[values != 0])
    number = np.zeros(values.size, np.int32)
    number[values != 0] = place + 1
    numbers = np.repeat(number, np.diff(first, append=row.size)).reshape(labels.shape)
    return np.append(np.zeros(1, ids.dtype), ids), numbers


def connected(labels: Labels) -> NDArray[np.int32]:
    """Number the 4-connected components of labels (H, W) that are not 0, whatever their ids: int32 (H, W), 1..N."""
    components: NDArray[np.int32] = ndimage.label(labels != 0, output=np.int32)[0]
    return components


def boxes(labels: Labels) -> dict[int, Box]:
    """Return the slices that hold each cell of labels, of any shape, by its id in ascending order."""
    ids, numbers = dense(labels)
    found: list[Box] = ndimage.find_objects(numbers, len(ids) - 1) if len(ids) > 1 else []
    return dict(zip(ids[1:].tolist(), found, strict=True))


def label_at(labels: Ints, points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the label (N,) of the pixel in which each point y, x (N, 2) lies; -1 outside the image.

    Pixel (0, 0) extends from -0.5 to 0.5. Points are rounded to a millionth of a pixel, so that a point that was
    written in micrometers and read back lies in the same pixel.
    """
    pixels = np.floor(np.round(points, 6) + 0.5).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < labels.shape)).all(axis=1)
    found = np.full(len(points), -1, np.int64)
    found[inside] = labels[pixels[inside, 0], pixels[inside, 1]]
    return found


def renumbered(labels: Ints, names: Mapping[int, int], *, keep: bool) -> Ints:
    """Give cells of labels, of any shape, the ids in `names`, up to 2**31 - 1; others keep theirs, or become 0."""
    if keep and not names:
        return labels
    ids, numbers = dense(labels)
    new = np.array([0, *(names.get(old, old if keep else 0) for old in ids[1:].tolist())], np.int32)
    result: NDArray[np.int32] = new[numbers]
    return result


def unused(labels: Collection[int]) -> Iterator[int]:
    """Yield labels not in `labels`: first those above the greatest, then, when int32 is used up, the smallest free."""
    greatest = np.iinfo(np.int32).max
    after = range(max(labels, default=0) + 1, greatest + 1)
    return itertools.chain(after, (label for label in itertools.count(1) if label not in labels))


class Apart(NamedTuple):
    """Labels in which every cell is in one piece."""

    labels: NDArray[np.int32]
    split: int
    """number of ids that stood for several pieces of some size"""
    added: int
    """number of pieces that got ids of their own"""
    strays: int
    """number of small pieces that became background"""


def pieces_apart(labels: Ints, stray: float) -> Apart:
    """Give the pieces of each id of labels (H, W) ids of their own; the largest, or first of equal ones, keeps its id.

    A piece is a region whose pixels touch by sides or corners. One with fewer pixels than the share `stray` of the
    largest of its id becomes background.
    """
    result = np.array(labels, np.int32)
    places = boxes(labels)
    free = unused(places.keys())
    split = added = strays = 0
    for number, box in places.items():
        regions, count = ndimage.label(labels[box] == number, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        largest = int(sizes.argmax())
        small = sizes < stray * sizes[largest]
        for piece in np.flatnonzero(np.arange(count) != largest):
            result[box][regions == piece + 1] = 0 if small[piece] else next(free)
        own = count - 1 - int(small.sum())
        split, added, strays = split + (own > 0), added + own, strays + int(small.sum())
    return Apart(result, split, added, strays)
