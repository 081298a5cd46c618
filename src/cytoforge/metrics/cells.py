"""Measures of the cells of a tracked movie, frame by frame: size, shape, grey values, motion and descent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours, regionprops_table

from cytoforge.cells.labels import dense, label_at
from cytoforge.metrics.motion import Row

Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Cells = dict[str, NDArray[Any]]
"""Measures of the cells of a frame by name, each (N,), in the order of the labels"""

SHAPE = {  # names in scikit-image
    "label": "label",
    "centroid-0": "y",
    "centroid-1": "x",
    "area": "area",
    "perimeter": "perimeter",
    "axis_major_length": "major_axis",
    "axis_minor_length": "minor_axis",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
}
GREY = {"intensity_mean": "mean", "intensity_std": "sd"}


class Descent(NamedTuple):
    """Where a track stands in its family."""

    cell: int
    """first track of the same cell: the track's own label, unless the cell was seen before a gap"""
    parent: int
    """track of the mother, or of the same cell before a gap; 0 if there is none"""
    root: int
    """first track of the family"""
    generation: int
    """divisions between the root and this track"""
    born: int
    """first frame of the cell"""


def descent(tracks: Iterable[Row]) -> dict[int, Descent]:
    """Return where each track L B E P stands in its family; mothers must begin before their daughters.

    A track that is the only child of its parent is the same cell, seen again after a gap. A parent without a row is
    treated as no parent.
    """
    rows = sorted(tracks, key=lambda row: row[1])
    children: dict[int, int] = {}
    for _, _, _, parent in rows:
        children[parent] = children.get(parent, 0) + 1
    found: dict[int, Descent] = {}
    for label, begin, _, parent in rows:
        mother = found.get(parent)
        if mother is None:
            found[label] = Descent(label, 0, label, 0, begin)
        elif children[parent] == 1:
            found[label] = mother._replace(parent=parent)
        else:
            found[label] = Descent(label, parent, mother.root, mother.generation + 1, begin)
    return found


def measure(labels: Labels, image: NDArray[Any] | None = None) -> Cells:
    """Measure each cell of labels (H, W), in pixels and grey values, with the definitions of scikit-image.

    Args:
        labels: 0 background; ids need not be consecutive.
        image: (C, H, W), for the mean and the standard deviation of the grey values of a cell in each channel.

    Returns:
        `label`; centroid `y`, `x`, 0 in the middle of the first pixel; `area`; `perimeter` along the middle of the
        cell's outer pixels; `major_axis`, `minor_axis` and `eccentricity` of the ellipse with the same second moments;
        `solidity`, the area divided by that of the convex hull; `mean_1`, `sd_1` and so on for each channel;
        `point_y`, `point_x`: the centroid or, where it lies outside the cell, the nearest pixel of the cell.
    """
    grey = None if image is None else np.moveaxis(image, 0, -1)
    wanted = [*dict.fromkeys(name.split("-")[0] for name in SHAPE), *(GREY if image is not None else ())]
    ids, numbers = dense(labels)
    table = regionprops_table(numbers, grey, properties=wanted)
    cells = {name: np.asarray(table[theirs]) for theirs, name in SHAPE.items()}
    cells["label"] = ids[cells["label"]].astype(np.int64)
    for channel in range(0 if image is None else image.shape[0]):
        cells |= {f"{name}_{channel + 1}": np.asarray(table[f"{theirs}-{channel}"]) for theirs, name in GREY.items()}
    points = _inside(labels, cells["label"], np.stack([cells["y"], cells["x"]], axis=1))
    return cells | {"point_y": points[:, 0], "point_x": points[:, 1]}


def points(labels: Labels) -> tuple[NDArray[np.int64], Floats]:
    """Return the label (N,) of each cell of labels (H, W), and `point_y`, `point_x` of `measure` (N, 2), in px."""
    ids, numbers = dense(labels)
    table = regionprops_table(numbers, properties=["label", "centroid"])
    found = ids[table["label"]].astype(np.int64)
    return found, _inside(labels, found, np.stack([table["centroid-0"], table["centroid-1"]], axis=1))


def _inside(labels: Labels, ids: NDArray[np.int64], centroids: Floats) -> Floats:
    """Return the centroids (N, 2) of cells or, where one lies outside its cell, the nearest pixel of the cell."""
    places = centroids.copy()
    for k in np.flatnonzero(label_at(labels, places) != ids):
        own = np.argwhere(labels == ids[k])
        places[k] = own[np.argmin(((own - places[k]) ** 2).sum(axis=1))]
    return places


def outline(cell: NDArray[np.bool_]) -> Floats:
    """Return the polygon y, x (K, 2) around a cell's mask (H, W), halfway to the pixels outside.

    The first point is not repeated at the end. Holes are left out, and so are all pieces except the one with the
    longest outline.
    """
    contours = find_contours(np.pad(cell, 1).astype(np.float64), 0.5)
    longest: Floats = max(contours, key=len)[:-1] - 1
    return longest


def follow(
    frames: Iterable[tuple[int, Labels, NDArray[Any] | None]], tracks: Sequence[Row]
) -> Iterator[tuple[int, Labels, Cells]]:
    """Measure a tracked movie frame by frame and yield the number, the labels and the cells of each frame.

    The cells have the measures of `measure`, and in addition `frame` and, from the tracks L B E P: `cell`, `parent`,
    `root`, `generation` as in `Descent`; `age`, frames since the first frame of the cell; `speed`, pixels per frame
    since the cell was last seen, nan in its first frame; `spot`, the number of this mask in the order of all frames,
    from 0; and `before`, the last earlier spot of the same cell or of its mother, -1 if there is none. Only one frame
    is held at a time. Raises KeyError for labels without a row.
    """
    family = descent(tracks)
    last: dict[int, tuple[int, int, float, float]] = {}
    spots = 0
    for number, labels, image in frames:
        cells = measure(labels, image)
        kin = [family[int(label)] for label in cells["label"]]
        speed, before = np.full(len(kin), np.nan), np.full(len(kin), -1)
        seen: dict[int, tuple[int, int, float, float]] = {}
        for k, (label, y, x) in enumerate(zip(cells["label"].tolist(), cells["y"], cells["x"], strict=True)):
            origin = last.get(label) or last.get(kin[k].parent)
            if origin is not None:
                before[k], frame, *place = origin
                if kin[k].born < number:
                    speed[k] = np.hypot(y - place[0], x - place[1]) / (number - frame)
            seen[label] = (spots + k, number, float(y), float(x))
        last |= seen
        kinship = {name: np.array([getattr(own, name) for own in kin], np.int64) for name in Descent._fields}
        age = number - kinship.pop("born")
        links = {"spot": spots + np.arange(len(kin)), "before": before}
        where = {"frame": np.full(len(kin), number), "label": cells["label"]}
        yield number, labels, {**where, **kinship, "age": age, **cells, "speed": speed, **links}
        spots += len(kin)


def gathered(parts: Iterable[Mapping[str, NDArray[Any]]]) -> Cells:
    """Concatenate the cells of all frames; empty if there are no frames."""
    tables = list(parts)
    return {name: np.concatenate([table[name] for table in tables]) for name in (tables[0] if tables else ())}
