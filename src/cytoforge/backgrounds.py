"""References of the background for generators of movies: what lies behind the cells, at any size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

MARGIN = 4
"""px about each cell that are left out, too: halos belong to cells"""
PERCENTILE = 50.0


def background_reference(
    frames: Floats, labels: NDArray[np.integer[Any]], margin: int = MARGIN, percentile: float = PERCENTILE
) -> Floats:
    """Return the percentile over time of each pixel, in those frames in which no cell is near it: (C, H, W).

    Frames (T, C, H, W), labels (T, H, W). `margin` px about the cells count as cell. A pixel that is cell in all frames
    gets the value of the nearest one that is not; where there is none at all, everything is the percentile of all
    values. So no grey value of a cell, nor its outline, is in the result. Raises ValueError where shapes differ.
    """
    if len(frames) == 0 or labels.shape != (len(frames), *frames.shape[2:]):
        raise ValueError(f"frames (T,C,H,W) and labels (T,H,W) must fit, got {frames.shape} and {labels.shape}")
    side = 2 * margin + 1
    covered = ndimage.maximum_filter(labels > 0, size=(1, side, side), mode="constant")
    seen = (~covered).sum(axis=0)
    if not seen.any():
        values = np.percentile(frames, percentile, axis=(0, 2, 3)).astype(np.float32)
        return np.broadcast_to(values[:, None, None], frames.shape[1:]).copy()
    ordered = np.sort(np.where(covered[:, None], np.float32(np.inf), frames), axis=0)
    place = (np.maximum(seen - 1, 0) * (percentile / 100)).astype(np.intp)
    reference = np.take_along_axis(ordered, np.broadcast_to(place, frames.shape[1:])[None], axis=0)[0]
    if not seen.all():
        nearest = ndimage.distance_transform_edt(seen == 0, return_distances=False, return_indices=True)
        reference = reference[:, *nearest]
    return np.asarray(reference, np.float32)


def fitted(reference: Floats, size: tuple[int, int], generator: np.random.Generator) -> Floats:
    """Cut a random window of `size` (h, w) out of a reference (C, H, W), continued by reflection where it is smaller.

    Nothing is stretched, so that grain and dirt keep their size.
    """
    _, height, width = reference.shape
    spread = [(0, max(wanted - found, 0)) for wanted, found in zip(size, (height, width), strict=True)]
    wide = np.pad(reference, [(0, 0), *spread], mode="symmetric")
    top, left = (int(generator.integers(have - want + 1)) for have, want in zip(wide.shape[1:], size, strict=True))
    return wide[:, top : top + size[0], left : left + size[1]]
