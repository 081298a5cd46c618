"""Crops around cells, from which the DeepSea tracker links cells between frames (Zargari et al. 2023).

The window of a cell is a square about its centroid, six times as wide as the cell, and the same in the next frame. It
is brought to 128 x 128 px, so cells are seen at one size whatever that of the images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cytoforge.cells.labels import boxes

SIDE = 128
"""px of a crop"""
REACH = 6
"""ratio of the side of a window to the longer extent of its cell"""
BACKGROUND = -1.0
"""value of a crop outside cells and beyond the edges of the image"""
DARKEST = 0.0
"""value of a crop where a cell is darkest; the step from BACKGROUND shows cells as dark as what is around them.

The published program has no such step: its cells begin at BACKGROUND.
"""
Labels = NDArray[np.integer[Any]]
Windows = NDArray[np.int64]


def windows_around(labels: Labels, cells: Sequence[int] | NDArray[np.integer[Any]]) -> Windows:
    """Return the windows (N, 3) of cells in labels (H, W): first row, first column, side, in pixels of the frame.

    Windows may reach beyond the frame. The extent of a cell is measured between the centres of its outermost pixels and
    is at least 1 px. Raises ValueError for a cell that is not there.
    """
    present = boxes(labels)
    found = [box for cell in cells if (box := present.get(int(cell))) is not None]
    if len(found) < len(cells):
        raise ValueError(f"not all of the cells {list(cells)} are there")
    extent = [max(1, *(side.stop - side.start - 1 for side in box)) for box in found]
    side = REACH * np.array(extent, np.int64).reshape(-1)
    centres = np.reshape(ndimage.center_of_mass(labels > 0, labels, cells) if len(found) else [], (-1, 2))
    corners = np.floor(centres - (side[:, None] - 1) / 2 + 0.5).astype(np.int64)
    return np.concatenate([corners, side[:, None]], axis=1)


def crop_labels(labels: Labels, windows: Windows) -> Labels:
    """Cut windows (N, 3) out of labels (H, W), by the nearest pixel: (N, SIDE, SIDE), 0 beyond the edges."""
    top, left, side = (part[:, None] for part in windows.T)
    steps = ((np.arange(SIDE) + 0.5) * side / SIDE).astype(np.int64)
    y, x = (top + steps)[:, :, None], (left + steps)[:, None, :]
    height, width = labels.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    cut: Labels = labels[y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.where(inside, cut, 0)


def crop_images(
    image: NDArray[np.float32],
    labels: Labels,
    windows: Windows,
    cells: Sequence[int] | Labels | None = None,
    darkest: float = DARKEST,
) -> Tensor:
    """Cut windows (N, 3) out of an image (C, H, W) in [-1, 1]: (N, C, SIDE, SIDE) float32, BACKGROUND outside cells.

    Cells have values between `darkest` and 1. Window n shows only cell `cells[n]` of labels (H, W), or all cells
    without `cells`. Interpolation is bilinear, with averaging where windows shrink.
    """
    shown = np.zeros((len(windows), image.shape[0], SIDE, SIDE), np.float32)
    crops = torch.from_numpy(shown)
    for number, (top, left, side) in enumerate(windows.tolist()):  # windows differ in size
        rows = slice(max(top, 0), max(min(top + side, image.shape[1]), 0))
        columns = slice(max(left, 0), max(min(left + side, image.shape[2]), 0))
        part = labels[rows, columns]
        kept = part > 0 if cells is None else part == cells[number]
        window = torch.zeros(1, image.shape[0], side, side)
        inside = window[:, :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        bright = (image[:, rows, columns] + 1) / 2 * (1 - darkest) + darkest
        inside += torch.from_numpy((bright - BACKGROUND) * kept)
        crops[number] = F.interpolate(window, (SIDE, SIDE), mode="bilinear", antialias=True)[0]
    return crops + BACKGROUND
