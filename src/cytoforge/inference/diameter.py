"""How large the cells of images are, found by a segmenter that knows cells of one size best.

The image is looked at in a pyramid of scales. At each the network finds cells; at the right one they are as large as
those that it knows, and it is surest of them.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cytoforge.cells.instances import Target, cell_diameters
from cytoforge.data.images import resize_image
from cytoforge.inference.tiling import Floats, default_tile, probabilities

SMALLEST, LARGEST, STEP = 6.0, 160.0, 1.5
"""px across: cells that are looked for, and the ratio of neighbouring sizes"""
LOOK = 320
"""px at the network's scale: side of the middle of an image that is looked at"""
OWN = 1.5
"""how many times larger or smaller the cells of one image may be than those of all"""
FEWEST = 3
"""cells without which a scale says nothing"""


def estimate_diameter(
    network: nn.Module, target: Target, images: Sequence[Floats], known: float, tile: int
) -> float | None:
    """Estimate the diameter (px, of the circle of equal area) of the cells of images (C, H, W) in [-1, 1].

    It is that of the cells found at the best scale, and then of those found at the scale that follows from it.
    `known` is the diameter that the network knows best, in pixels. None where too few cells are found at any scale. The
    images are taken as of one microscope: the estimate is one for all. Half of the cells' area lies in larger cells;
    the median of the cells themselves would follow the specks that a network finds at a wrong scale.
    """
    sizes = [SMALLEST * STEP**n for n in range(math.floor(math.log(LARGEST / SMALLEST, STEP)) + 1)]
    looks = {size: _look(network, target, images, known / size, tile) for size in sizes}
    seen = {size: look for size, look in looks.items() if look[0].size >= FEWEST}
    if not seen:
        return None
    size = max(seen, key=lambda size: _evidence(*seen[size], known))
    size *= _typical(seen[size][0]) / known
    found, _ = _look(network, target, images, known / size, tile)
    return size * _typical(found) / known if found.size >= FEWEST else size


def own_size(network: nn.Module, target: Target, image: Floats, scale: float, known: float, tile: int) -> float:
    """How many times larger the cells of an image are than `known`, in pixels at a scale that suits those of all.

    It is measured on the cells found there, and bounded by OWN; 1 where too few are found.
    """
    found, _ = _look(network, target, [image], scale, tile)
    return min(max(_typical(found) / known, 1 / OWN), OWN) if found.size >= FEWEST else 1.0


def _evidence(found: NDArray[np.float64], sureness: float, known: float) -> float:
    """Return how much speaks for a scale: sureness, less where the cells found differ from the size that is known."""
    return sureness - abs(math.log(_typical(found) / known))


def _typical(diameters: NDArray[np.float64]) -> float:
    """Return the diameter of the cell that, in ascending order, holds the middle of the area of all."""
    ascending = np.sort(diameters)
    area = np.cumsum(ascending**2)
    return float(ascending[np.searchsorted(area, area[-1] / 2)])


def _look(
    network: nn.Module, target: Target, images: Sequence[Floats], scale: float, tile: int
) -> tuple[NDArray[np.float64], float]:
    """Return the diameters of the cells found at a scale, in pixels there, and how sure the network is of them."""
    diameters, sure, pixels = [np.empty(0)], 0.0, 0
    for image in images:
        side = round(LOOK / scale)
        middle = image[:, *(slice(max((n - side) // 2, 0), (n + side) // 2) for n in image.shape[1:])]
        height, width = (max(round(n * scale), 16) for n in middle.shape[1:])
        scaled = resize_image(middle, (height, width)).astype(np.float32)
        classes = probabilities(network, scaled, default_tile(network, tile))
        labels = target.decode(classes)
        inside = labels > 0
        diameters.append(cell_diameters(labels))
        sure += float((2 * np.abs(classes[0][inside] - 0.5)).sum())
        pixels += int(inside.sum())
    return np.concatenate(diameters), sure / max(pixels, 1)
