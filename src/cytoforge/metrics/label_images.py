"""Tell label images, in which each cell has its own number, from binary masks, maps of classes and other pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage
from skimage.measure import label

Labels = NDArray[np.integer[Any]]
Kind = Literal["binary", "classes", "background", "interpolated", "wrapped", "picture"]

SPECK = 0.05  # a region below this share of the largest region of its id is a stray piece, not a cell
CLASSES = 10  # pixel classifiers are seldom given more classes than this
CAP = 8  # largest number of pieces counted per id, so that one fragmented cell does not make all ids classes
SPREAD = 4  # mean pieces per id from which ids are taken for classes; the masks named below have 1.2 at most
SET = 3  # least number of images that are judged as a set
FAR = 0.25  # gap between two pieces, in diameters of the largest one; pieces of a torn cell lie closer
WHITE = (255, 65535)  # values that programs usually give to the foreground, or to the background
RARE = 0.05  # share of the pixels, or of the edge pixels, below which 0 is not a background
# Share of border pixels whose id lies strictly between those of two opposite neighbours: below 0.012 in hand-drawn and
# silver masks (usiigaci, dsb256, u373, hela), above 0.24 in the same masks resized with any interpolation.
INTERPOLATED = 0.1
ENOUGH = 100  # least number of cell pixels for which that share is used: cells one pixel wide look like ramps too


class Verdict(NamedTuple):
    """Why an image is not a label image, and what to do about it."""

    kind: Kind
    what: str
    remedy: str


@dataclass(frozen=True)
class Regions:
    """The cells of a mask: ids in ascending order, the area in pixels of each id, and the sizes of all regions."""

    ids: NDArray[Any]
    areas: NDArray[Any]
    pieces: NDArray[Any]
    """number of separate regions of each id, stray pieces included"""
    sizes: NDArray[Any]
    """pixels of every region"""


@dataclass(frozen=True)
class Traits:
    """The measures of one image from which `judge` derives its verdict."""

    regions: Regions
    spread: float
    """mean number of pieces per id, without stray pieces and at most CAP for each id; 0 without ids"""
    apart: float
    """the same mean, where pieces close enough to belong to one torn cell count as one"""
    apart_ids: int
    """number of ids with pieces too far apart for a torn cell; all pieces cut by the image's edge count as one"""
    zero: float
    """share of the pixels that are 0"""
    background: int | None
    """id of the region that serves as a background in place of 0; None if there is none"""
    interpolated: float
    """result of `interpolated_share`"""
    stored: np.dtype[Any]
    """type of the file's values"""


def _regions(labels: Labels) -> tuple[NDArray[np.intp], Regions, NDArray[np.intp]]:
    """Return the map (H, W) of regions, 0 where labels are 0, their measures, and the index of each region's id."""
    regions: NDArray[np.intp] = label(labels, connectivity=2, background=0)
    sizes = np.bincount(regions.ravel())
    owner = np.zeros(sizes.size, labels.dtype)
    owner[regions.ravel()] = labels.ravel()  # all pixels of a region write the same id
    ids, where = np.unique(owner[1:], return_inverse=True)
    areas, pieces = np.bincount(where, sizes[1:], ids.size), np.bincount(where, minlength=ids.size)
    return regions, Regions(ids, areas, pieces, sizes[1:]), where


def traits(labels: Labels, stored: DTypeLike = np.int32) -> Traits:
    """Measure labels (H, W) for `judge`; `stored` is the type of the file's values."""
    regions, cells, where = _regions(labels)
    zero = 1 - cells.sizes.sum() / labels.size
    if not cells.ids.size:
        return Traits(cells, 0.0, 0.0, 0, zero, None, 0.0, np.dtype(stored))
    largest = np.zeros(cells.ids.size, cells.sizes.dtype)
    np.maximum.at(largest, where, cells.sizes)
    whole = cells.sizes > SPECK * largest[where]  # not a stray piece
    pieces = np.minimum(np.bincount(where[whole], minlength=cells.ids.size), CAP)
    clusters = np.ones((cells.ids.size, 2), int)
    if cells.ids.size <= CLASSES:
        for k in np.flatnonzero(pieces > 1):
            clusters[k] = _clusters(regions, 1 + np.flatnonzero(whole & (where == k)))
    return Traits(
        cells,
        float(pieces.mean()),
        float(clusters[:, 0].mean()),
        int(np.count_nonzero(clusters[:, 1] > 1)),
        zero,
        _background(regions, cells, where, zero),
        interpolated_share(labels),
        np.dtype(stored),
    )


def _clusters(regions: NDArray[np.intp], numbers: NDArray[np.intp]) -> tuple[int, int]:
    """Count the clusters of the given regions, where close regions form one cluster; at most CAP.

    The second count treats all clusters that the image's edge cuts as one.
    """
    if numbers.size >= CAP:
        return CAP, CAP
    own = np.isin(regions, numbers)
    reach = FAR * 2 * np.sqrt(np.bincount(regions[own]).max() / np.pi)
    joined: NDArray[np.intp] = label(ndimage.distance_transform_edt(~own) <= max(reach / 2, 1), connectivity=2)
    clusters = [int(joined[regions == number][0]) for number in numbers]
    at_edge = {cluster for cluster, cut in zip(clusters, np.isin(numbers, _edge(regions)), strict=True) if cut}
    return len(set(clusters)), len(set(clusters) - at_edge) + bool(at_edge)


def _edge(array: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([array[0], array[-1], array[1:-1, 0], array[1:-1, -1]])


def _background(regions: NDArray[np.intp], cells: Regions, where: NDArray[np.intp], zero: float) -> int | None:
    """Find the id of the region that serves as a background: it covers most of the edge, and few pixels are 0."""
    edge = np.bincount(_edge(regions), minlength=cells.sizes.size + 1) / _edge(regions).size
    number = int(np.argmax(edge[1:]))
    value, size, lining = int(cells.ids[where[number]]), cells.sizes[number], edge[number + 1]
    if cells.ids.size == 1:  # a single cell may fill the image and have holes
        return value if value in WHITE and lining > 0.5 and size < regions.size else None
    large = size > regions.size / 2 or size > 10 * np.median(np.delete(cells.sizes, number))
    return value if max(zero, edge[0]) < RARE and lining > 0.5 and large else None


def judge(images: Sequence[Traits]) -> tuple[Verdict | None, ...]:
    """Return for each image of a set why it is not a label image, or None if it is one.

    An image whose few ids have few pieces each may hold torn cells, so it is judged by the whole set. Images without
    ids get None.
    """
    together = _classes_together(images)
    return tuple(_verdict(image, together) for image in images)


def _classes_together(images: Sequence[Traits]) -> bool:
    """Return whether a set of images has the same few ids with several distant pieces each, on average."""
    filled = [image for image in images if image.regions.ids.size]
    if len(filled) < SET or np.unique(np.concatenate([image.regions.ids for image in filled])).size > CLASSES:
        return False
    return bool(np.mean([image.spread for image in filled]) >= 2 and np.mean([image.apart for image in filled]) >= 1.5)


def _verdict(image: Traits, together: bool) -> Verdict | None:
    cells, count = image.regions, image.regions.ids.size
    if count == 1:
        return _of_one_value(image, together)
    if count == 0:
        return None
    several = image.apart_ids >= 2 and image.apart_ids >= count / 2
    if count <= CLASSES and (image.spread >= SPREAD or several or (together and image.spread > 1)):
        return _classes(image)
    if image.background is not None:
        others = cells.pieces[cells.ids != image.background]
        if count == 2 and others[0] > 1:
            return _classes(image)
        return Verdict(
            "background",
            f"the value {image.background} takes the place of the background, which is 0 in a label image",
            f"set the background to 0: mask[mask == {image.background}] = 0",
        )
    ramps = image.interpolated > INTERPOLATED and cells.sizes.sum() >= ENOUGH
    numbered = "give the label image, in which every cell has a number of its own and the background is 0"
    if image.zero < RARE and (image.spread >= SPREAD or ramps):
        return Verdict("picture", "has no background", f"is it an image? {numbered}")
    if ramps:
        return Verdict(
            "interpolated",
            f"ids run in ramps along {image.interpolated:.0%} of the cells' borders: it was resized or smoothed with "
            "interpolation",
            "export the mask anew, resizing by nearest neighbour only",
        )
    if image.stored == np.uint8 and count == 255 and cells.pieces.max() > 1:
        return Verdict(
            "wrapped",
            "uses all 255 ids of 8 bits, some for several regions: ids beyond 255 have wrapped round",
            "export the labels with 16 bits",
        )
    if image.spread >= SPREAD:
        what = f"{count} values, most of them in many separate regions: a picture, not numbered cells"
        return Verdict("picture", what, numbered)
    return None


def _of_one_value(image: Traits, together: bool) -> Verdict | None:
    cells = image.regions
    value = int(cells.ids[0])
    if image.background is not None:
        return Verdict(
            "background",
            f"the background has the value {value} and the cells have 0: an inverted binary mask",
            "number the cells 1, 2, 3 ...: skimage.measure.label(mask == 0) does it where cells do not touch",
        )
    if image.spread >= SPREAD or image.apart_ids or (image.spread > 1 and (together or value in WHITE)):
        return Verdict(
            "binary",
            f"one value ({value}) for {cells.sizes.size} separate regions: a binary mask",
            "number the cells 1, 2, 3 ...: skimage.measure.label does it where cells do not touch",
        )
    return None


def _classes(image: Traits) -> Verdict:
    """Return the verdict on a map of classes: its values, and how to number the cells of one class."""
    ids = [int(number) for number in image.regions.ids if number != image.background]
    shown = ", ".join(str(number) for number in image.regions.ids)
    return Verdict(
        "classes",
        f"its only values ({shown}) stand for {image.regions.sizes.size} separate regions: a map of classes, such as "
        "ilastik's Simple Segmentation",
        f"number the cells 1, 2, 3 ...: skimage.measure.label(mask == {ids[0]}) if {ids[0]} is their class, or export "
        "Object Identities from ilastik's Object Classification",
    )


def interpolated_share(labels: Labels) -> float:
    """Return the share of the cells' border pixels whose id lies strictly between those of two opposite neighbours.

    Interpolation turns the step between two ids into a ramp; in a label image such pixels occur only in cells that are
    one pixel wide.
    """
    ramp, border = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for ids, ramps, borders in ((labels, ramp, border), (labels.T, ramp.T, border.T)):
        before, here, after = ids[:, :-2], ids[:, 1:-1], ids[:, 2:]
        ramps[:, 1:-1] |= ((before < here) & (here < after)) | ((before > here) & (here > after))
        borders[:, 1:-1] |= (before != here) | (here != after)
    cells = labels > 0
    return float((ramp & cells).sum() / max((border & cells).sum(), 1))
