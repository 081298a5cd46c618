"""Faults of segmentation and unsteady places, put into label images on purpose, so that linking learns to bear them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.metrics.morphology import contacts, typical_diameter

TAILS = 3
"""degrees of freedom of the distribution of displacements: many small ones, few that are large"""
PIECE = 20
"""pixels of a cell, at least, that falls in two"""

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Faults:
    """How often masks are wrong, as shares of the cells of a frame."""

    missed: float = 0.03
    invented: float = 0.02
    merged: float = 0.05
    """of pairs of cells that touch"""
    split: float = 0.02

    def __call__(self, labels: NDArray[np.integer[Any]], generator: np.random.Generator) -> Labels:
        """Return labels (H, W) with faults: cells missed, merged with a neighbour or split, and discs for cells.

        Of merged cells one id remains; the larger piece of a split cell keeps its id; new ids follow the largest.
        """
        found = labels.astype(np.int32)
        area = np.bincount(found.ravel())
        area[0] = 0
        cells = np.flatnonzero(area)
        if not cells.size:
            return found
        radius = typical_diameter(area[cells]) / 2
        gone = np.zeros(area.size, bool)
        gone[cells[generator.random(cells.size) < self.missed]] = True
        found[gone[found]] = 0
        becomes = np.arange(area.size, dtype=np.int32)
        for one, other in contacts(found).tolist():
            if generator.random() < self.merged:
                becomes[other] = becomes[one]
        found = becomes[found]
        new = area.size
        for cell in cells[generator.random(cells.size) < self.split]:
            y, x = np.nonzero(found == cell)
            if y.size < PIECE:
                continue
            angle = generator.uniform(0, np.pi)
            along = (y - y.mean()) * np.sin(angle) + (x - x.mean()) * np.cos(angle)
            part = along > generator.uniform(0, 0.4) * radius
            found[y[part], x[part]] = new
            new += 1
        for _ in range(int(generator.binomial(cells.size, self.invented))):
            middle = generator.uniform((0, 0), found.shape)
            size = radius * generator.uniform(0.4, 1)
            low = np.maximum(np.floor(middle - size), 0).astype(int)
            high = np.ceil(middle + size).astype(int) + 1
            window = found[low[0] : high[0], low[1] : high[1]]
            rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
            disc = (rows + low[0] - middle[0]) ** 2 + (columns + low[1] - middle[1]) ** 2 < size**2
            window[disc & (window == 0)] = new
            new += 1
        return found


def unsteady(labels: NDArray[np.integer[Any]], amount: float, generator: np.random.Generator) -> Labels:
    """Return labels (H, W) with each cell shifted by a draw of its own, of a scale of `amount` median diameters.

    Draws are of Student's t distribution, at most a diameter in each direction; what leaves the frame is lost.
    """
    cells = labels.astype(np.int32)
    area = np.bincount(cells.ravel())
    area[0] = 0
    if not area.any():
        return cells
    diameter = typical_diameter(area[area > 0])
    drawn = generator.standard_t(TAILS, (area.size, 2)) * amount
    shift = np.rint(np.clip(drawn, -1, 1) * diameter).astype(int)
    y, x = np.nonzero(cells)
    cell = cells[y, x]
    y, x = y + shift[cell, 0], x + shift[cell, 1]
    inside = (y >= 0) & (y < cells.shape[0]) & (x >= 0) & (x < cells.shape[1])
    moved = np.zeros_like(cells)
    moved[y[inside], x[inside]] = cell[inside]
    return moved


def shrunk(
    labels: NDArray[np.integer[Any]], cell: int, share: float, axis: NDArray[np.floating[Any]] | None = None
) -> Labels:
    """Return labels (H, W) in which a cell keeps this share of its pixels, those in the middle of its ellipse.

    With an `axis` (y, x) it becomes thin along that, as chromosomes are that part: those in the middle of it are kept.
    """
    found = labels.astype(np.int32)
    y, x = np.nonzero(found == cell)
    if y.size < PIECE:
        return found
    offset = np.stack([y - y.mean(), x - x.mean()])
    if axis is None:
        spread = np.linalg.inv(offset @ offset.T / y.size + np.eye(2) / 12)
        distance = np.einsum("in,ij,jn->n", offset, spread, offset)
    else:
        distance = np.abs(axis @ offset)
    outside = distance > np.quantile(distance, min(share, 1.0))
    found[y[outside], x[outside]] = 0
    return found
