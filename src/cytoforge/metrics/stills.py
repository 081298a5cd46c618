"""Measures of the cells of a still image: size, shape, grey values in each channel, neighbours and density."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cytoforge.cells.labels import dense
from cytoforge.metrics.cells import SHAPE, Cells, Floats, Labels, measure
from cytoforge.metrics.morphology import contacts, nearest_distance

REACH = 5.0  # median diameters of the cells: radius of the disc in which neighbours are counted, where none is given
STRIPS = 256  # in which the part of a disc inside an image is measured


def measure_still(labels: Labels, image: NDArray[np.generic] | None = None, radius: float | None = None) -> Cells:
    """Measure each cell of labels (H, W), in pixels and grey values.

    Args:
        labels: 0 background; ids need not be consecutive.
        image: (C, H, W), for the grey values.
        radius: pixels from a cell's centroid to which others count as neighbours; REACH median diameters without it.

    Returns:
        The measures of `metrics.cells.measure` but for `point_y` and `point_x`, and
        `diameter` of the circle of the same area; `orientation`, degrees from 0 to 180 of the major axis, counted from
        the x axis against the clock as one sees the image, nan for cells without one; `at_edge`, 1 for cells that the
        edge of the image cuts or touches; `touching`, the number of cells with which it has a pixel side in common;
        `nearest`, the distance of the nearest other centroid, nan without one; `neighbours`,
        the number of other centroids within the radius; `density`, these and the cell itself per square pixel of the
        disc's part inside the image; and for each channel `min_1`, `max_1`, `total_1` (their sum), `background_1` (the
        median of all pixels outside of cells, nan without one), `corrected_1` (mean less background) and
        `corrected_total_1` (total less background in each pixel), and so on.
    """
    found = measure(labels, image)
    ids, numbers = dense(labels)
    count = len(ids) - 1
    points = np.stack([found["y"], found["x"]], axis=1).astype(np.float64)
    diameter = np.sqrt(4 / np.pi * found["area"])
    if radius is None:
        radius = REACH * float(np.median(diameter)) if count else 1.0
    near = np.zeros(0, np.int64)
    if count:
        near = np.asarray(KDTree(points).query_ball_point(points, radius, return_length=True), np.int64) - 1
    cells: Cells = {}
    for name in SHAPE.values():
        cells |= {name: found[name]} | ({"diameter": diameter} if name == "area" else {})
    cells |= {"orientation": _orientation(numbers, points), "at_edge": _at_edge(numbers, count)}
    cells["touching"] = np.bincount(contacts(numbers).ravel(), minlength=count + 1)[1:]
    cells |= {"neighbours": near, "nearest": nearest_distance(points)}
    cells["density"] = (near + 1) / _disc_inside(points, radius, labels.shape)
    for channel, pixels in enumerate(() if image is None else image, 1):
        cells |= _grey(found, channel, pixels, numbers, count)
    return cells


def _grey(
    found: Cells, channel: int, pixels: NDArray[np.generic], numbers: NDArray[np.int32], count: int
) -> dict[str, Floats]:
    """Return the grey values of the cells in one channel (H, W), by the names of their columns."""
    index, values = np.arange(1, count + 1), pixels.astype(np.float64)
    outside = values[numbers == 0]
    background = float(np.median(outside)) if outside.size else np.nan
    lowest, highest, total = (
        np.asarray(function(values, numbers, index) if count else np.zeros(0), np.float64)
        for function in (ndimage.minimum, ndimage.maximum, ndimage.sum_labels)
    )
    mean = found[f"mean_{channel}"]
    columns = {
        "mean": mean,
        "sd": found[f"sd_{channel}"],
        "min": lowest,
        "max": highest,
        "total": total,
        "background": np.full(count, background),
        "corrected": mean - background,
        "corrected_total": total - background * found["area"],
    }
    return {f"{name}_{channel}": column for name, column in columns.items()}


def _orientation(numbers: NDArray[np.int32], points: Floats) -> Floats:
    """Return the direction in degrees of the axis with the largest second moment; nan where all are equal."""
    y, x = np.nonzero(numbers)
    cell = numbers[y, x] - 1
    up, right = points[cell, 0] - y, x - points[cell, 1]
    area = np.bincount(cell, minlength=len(points))
    xx, yy, xy = (np.bincount(cell, v, minlength=len(points)) / area for v in (right * right, up * up, right * up))
    degrees = np.rad2deg(np.arctan2(2 * xy, xx - yy) / 2) % 180
    round_ = np.hypot(xx - yy, 2 * xy) <= 1e-9 * (xx + yy)
    return np.asarray(np.where(round_, np.nan, degrees))


def _at_edge(numbers: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    found = np.zeros(count + 1, np.int64)
    for edge in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        found[edge] = 1
    return found[1:]


def _disc_inside(points: Floats, radius: float, shape: tuple[int, ...]) -> Floats:
    """Return the area of the part inside an image (H, W) of discs around points y, x (N, 2), summed in strips."""
    (height, width), (y, x) = shape, points.T[:, :, None]
    top, bottom = np.maximum(y - radius, -0.5), np.minimum(y + radius, height - 0.5)
    thick = (bottom - top) / STRIPS
    middle = top + thick * (np.arange(STRIPS) + 0.5)
    half = np.sqrt(np.maximum(radius**2 - (middle - y) ** 2, 0))
    chord = np.minimum(x + half, width - 0.5) - np.maximum(x - half, -0.5)
    return np.asarray((thick * chord).sum(axis=1))
