"""Shape, size and spacing of the cells of label images, and how far two sets of images differ in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

PER_CELL = ("area", "eccentricity", "neighbour_distance")
PER_IMAGE = ("count", "coverage", "touching")
QUANTILES = {"low": 0.25, "median": 0.5, "high": 0.75}


@dataclass(frozen=True)
class Morphology:
    """Measures of one label image; arrays have an entry per cell, in the order of the ids."""

    area: Floats
    """pixels"""
    eccentricity: Floats
    """eccentricity of the ellipse with the cell's second moments: 0 for a disc, close to 1 for a rod"""
    neighbour_distance: Floats
    """pixels from each centroid to the nearest other one; nan if there is only one cell"""
    count: int
    """number of cells"""
    coverage: float
    """share of the pixels that belong to cells"""
    touching: float
    """share of the cells that share a pixel side with another cell; nan without cells"""


def morphology(labels: Labels) -> Morphology:
    """Measure the cells of labels (H, W), 0 background; ids need not be consecutive.

    Eccentricity is defined as in scikit-image; that of a single pixel is 0. Raises ValueError if labels are not
    two-dimensional.
    """
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), got {labels.shape}")
    y, x = np.nonzero(labels)
    ids, number = np.unique(labels[y, x], return_inverse=True)
    area = np.bincount(number, minlength=ids.size).astype(float)

    def mean(values: NDArray[Any]) -> Floats:
        return np.asarray(np.bincount(number, values, minlength=ids.size) / area)

    centre_y, centre_x = mean(y), mean(x)
    dy, dx = y - centre_y[number], x - centre_x[number]
    yy, xx, yx = mean(dy * dy), mean(dx * dx), mean(dy * dx)
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)  # the moments along the axes are middle +- half
    return Morphology(
        area=area,
        eccentricity=np.sqrt(2 * half / np.where(middle > 0, middle + half, 1)),
        neighbour_distance=nearest_distance(np.stack([centre_y, centre_x], axis=1)),
        count=ids.size,
        coverage=y.size / labels.size if labels.size else 0.0,
        touching=np.unique(contacts(labels)).size / ids.size if ids.size else float("nan"),
    )


def nearest_distance(points: Floats) -> Floats:
    """Return the distance (N,) from each point (N, 2) to the nearest other one; nan if there is only one."""
    if len(points) < 2:
        return np.full(len(points), np.nan)
    distances: Floats = KDTree(points).query(points, k=2)[0][:, 1]
    return distances


def contacts(labels: Labels) -> NDArray[np.integer[Any]]:
    """Return the pairs of ids (N, 2), in ascending order, of cells that have a pixel side in common."""
    pairs = []
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        border = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.sort(np.stack([one[border], other[border]], axis=1), axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def pooled(images: Iterable[Morphology], statistic: str) -> Floats:
    """Collect a statistic of PER_CELL over all cells, or one of PER_IMAGE over all images, without nan."""
    values: Floats = np.concatenate([np.empty(0), *(np.atleast_1d(getattr(image, statistic)) for image in images)])
    return values[~np.isnan(values)]


def summary(images: Iterable[Morphology]) -> dict[str, dict[str, float | int | None]]:
    """Return number of values, median and quartiles (`low`, `high`) of every statistic; None without values."""
    images = list(images)
    return {statistic: quantiles(pooled(images, statistic)) for statistic in (*PER_CELL, *PER_IMAGE)}


def quantiles(values: Floats) -> dict[str, float | int | None]:
    """Return number of `values`, `median` and quartiles `low` and `high`; None without values."""
    result: dict[str, float | int | None] = {"values": values.size}
    for name, share in QUANTILES.items():
        result[name] = float(np.quantile(values, share)) if values.size else None
    return result


def distances(first: Iterable[Morphology], second: Iterable[Morphology]) -> dict[str, float | None]:
    """Return the Kolmogorov-Smirnov distance of two sets of images for every statistic."""
    first, second = list(first), list(second)
    return {name: kolmogorov_smirnov(pooled(first, name), pooled(second, name)) for name in (*PER_CELL, *PER_IMAGE)}


def kolmogorov_smirnov(one: Floats, other: Floats) -> float | None:
    """Return the greatest difference of the cumulative distributions of two sets of values.

    It is 0 where they agree, 1 where they do not overlap, and None where a set has no value.
    """
    if not one.size or not other.size:
        return None
    values = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(part), values, side="right") / part.size for part in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


SEGMENTED_DIAMETER = 22.0
"""px across that cells have for segmenters whose scale is found from the masks"""
FITTING_DIAMETER = 16.0  # px: a window of the small preset holds about twenty cells of this size


def median_diameter(areas: NDArray[Any]) -> float:
    """Return the median diameter of circles of the given areas, in pixels."""
    return float(np.median(2 * np.sqrt(areas / np.pi)))


def typical_diameter(areas: NDArray[Any] | Sequence[int]) -> float:
    """Return the diameter of a disc with the median of areas (N,), at least one, in pixels."""
    return float(2 * np.sqrt(np.median(areas) / np.pi))


def fitting_scale(diameter: float, fitting: float = FITTING_DIAMETER) -> float | None:
    """Return the --scale that brings cells of `diameter` px to `fitting` px; None if within a factor of 1.4."""
    ratio = fitting / diameter
    return None if 1 / 1.4 < ratio < 1.4 else float(f"{ratio:.2g}")
