"""Contrast of cells to the background: measured in real frames, and given to painted cells, each its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import boxes, dense

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

QUANTILES = tuple(np.linspace(0, 1, 21).tolist())
LEAST = 0.02  # contrast of a cell that can hardly be seen; less is taken for this
FACTORS = (0.1, 1.5)  # by which a painted cell's contrast is changed at most; by 3, flat cells become black blots
REACH = 6.0  # px around a cell, by and by fewer, that change with it: its halo
SOFT = 1.0  # px, standard deviation of the blur between cells that change differently


def contrasts(image: Image, background: Image, labels: Labels) -> dict[int, float]:
    """Return each cell's contrast, the root mean square of its difference from the background, at least LEAST.

    Image and background are (C, H, W), labels (H, W). Raises ValueError where they differ in size.
    """
    if image.shape != background.shape or image.shape[1:] != labels.shape:
        raise ValueError(f"image, background and labels must fit: {image.shape}, {background.shape}, {labels.shape}")
    square = np.square(image - background, dtype=np.float64).mean(axis=0)
    return {
        cell: max(float(np.sqrt(square[box][labels[box] == cell].mean())), LEAST) for cell, box in boxes(labels).items()
    }


def quantiles(values: Sequence[float]) -> list[float]:
    """Return the QUANTILES of contrasts of cells; nothing without any."""
    return [round(float(q), 4) for q in np.quantile(values, QUANTILES)] if len(values) else []


def rebalanced(image: Image, background: Image, labels: Labels, wanted: Mapping[int, float]) -> NDArray[np.float32]:
    """Return an image (C, H, W) whose cells have the contrasts `wanted`, by id, as far as FACTORS allow.

    What a cell differs from the background (C, H, W) is multiplied, and what lies within REACH of it with it. Cells
    that are not named stay as they are. Raises ValueError as `contrasts`.
    """
    found = contrasts(image, background, labels)
    if not found:
        return np.asarray(image, np.float32)
    ids, numbers = dense(labels)
    change = [wanted.get(cell, found[cell]) / found[cell] for cell in ids[1:].tolist()]
    factors = np.array([1.0, *np.clip(change, *FACTORS)])
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    smooth = ndimage.gaussian_filter(factors[numbers[tuple(nearest)]], SOFT)
    field = 1 + np.exp(-np.square(distance / REACH)) * (smooth - 1)
    return np.asarray(background + (image - background) * field, np.float32)
