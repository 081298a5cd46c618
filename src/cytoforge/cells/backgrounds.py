"""Backgrounds for generators: what lies behind the cells of a movie or of one image, at any size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

MARGIN = 4
"""px around each cell that count as cell, because they hold its halo"""
PERCENTILE = 50.0
SEEN = 8
"""a pixel is used if no cell is near it in at least one in SEEN frames, as single frames may be lit differently"""
LIGHT = 8.0
"""px, standard deviation of the filter that separates light (uneven illumination) from grain"""
BLOCKS = (24, 12, 6)
"""px, sides of the blocks of grain that are laid over cells: the largest that find room between the cells"""
ORDINARY = 4.0
"""times the median of the mean squares of blocks; blocks with more show a clump or a well's edge and are not used"""


def background_reference(
    frames: Floats, labels: NDArray[np.integer[Any]], margin: int = MARGIN, percentile: float = PERCENTILE
) -> Floats:
    """Return the percentile over time of each pixel, in those frames in which no cell is near it: (C, H, W).

    Frames (T, C, H, W), labels (T, H, W). `margin` px around cells count as cell. Pixels that are cell in all or nearly
    all frames are filled as in `without_cells`; if all pixels are, everything is the percentile of all values. In any
    other case the result holds no grey value of a cell, nor its outline. Raises ValueError where shapes differ or there
    are no frames.
    """
    if len(frames) == 0 or labels.shape != (len(frames), *frames.shape[2:]):
        raise ValueError(f"frames (T,C,H,W) and labels (T,H,W) must fit, got {frames.shape} and {labels.shape}")
    side = 2 * margin + 1
    covered = ndimage.maximum_filter(labels > 0, size=(1, side, side), mode="constant")
    seen = (~covered).sum(axis=0)
    seen = np.where(seen < len(frames) // SEEN, 0, seen)
    if not seen.any():
        values = np.percentile(frames, percentile, axis=(0, 2, 3)).astype(np.float32)
        return np.broadcast_to(values[:, None, None], frames.shape[1:]).copy()
    ordered = np.sort(np.where(covered[:, None], np.float32(np.inf), frames), axis=0)
    place = (np.maximum(seen - 1, 0) * (percentile / 100)).astype(np.intp)
    reference = np.take_along_axis(ordered, np.broadcast_to(place, frames.shape[1:])[None], axis=0)[0]
    reference = np.where(seen == 0, np.float32(0), reference)
    return _filled(reference, seen == 0, np.random.default_rng(0))


def without_cells(
    image: Floats, labels: NDArray[np.integer[Any]], generator: np.random.Generator, margin: int = MARGIN
) -> Floats:
    """Return an image (C, H, W) in which cells, and `margin` px around them, are replaced by background.

    Raises ValueError where image and labels (H, W) differ in size.
    """
    if image.shape[1:] != labels.shape:
        raise ValueError(f"image (C,H,W) and labels (H,W) must fit, got {image.shape} and {labels.shape}")
    return _filled(image, ndimage.maximum_filter(labels > 0, size=2 * margin + 1, mode="constant"), generator)


def _filled(image: Floats, covered: NDArray[np.bool_], generator: np.random.Generator) -> Floats:
    """Return an image (C, H, W) with background where it is covered (H, W).

    There the light is that of the surroundings. To it grain from elsewhere in the image is added: blocks from random
    places that are not covered, dirt included, which fade into each other without loss of contrast. Without room for a
    block no grain is added.
    """
    if not covered.any():
        return image.copy()
    light = _light(image, covered)
    grain = _grain(np.where(covered, np.float32(0), image - light), covered, generator)
    return np.where(covered, light + grain, image).astype(np.float32)


def _light(image: Floats, covered: NDArray[np.bool_]) -> Floats:
    """Smooth what is not covered, and continue it under what is."""
    if covered.all():
        return np.broadcast_to(np.median(image, axis=(1, 2), keepdims=True), image.shape).astype(np.float32)
    nearest = ndimage.distance_transform_edt(covered, return_distances=False, return_indices=True)
    smooth = ndimage.gaussian_filter(np.where(covered, np.float32(0), image), (0, LIGHT, LIGHT))
    share = ndimage.gaussian_filter((~covered).astype(np.float32), LIGHT)
    known = smooth / np.maximum(share, 1e-6)
    # light near the outline of a cell comes from its surroundings and is continued inside
    known = np.where(covered, known[:, *nearest], known)
    return np.asarray(ndimage.gaussian_filter(known, (0, LIGHT, LIGHT)), np.float32)


def _grain(grain: Floats, covered: NDArray[np.bool_], generator: np.random.Generator) -> Floats:
    """Lay blocks of uncovered grain (C, H, W) over all that is covered: half a block apart, with sine weights."""
    _, height, width = grain.shape
    for side in BLOCKS:
        corners = np.s_[: max(height - side + 1, 0), : max(width - side + 1, 0)]

        def mean(values: NDArray[Any], side: int = side, corners: Any = corners) -> Floats:
            means = ndimage.uniform_filter(values.astype(np.float32), side, origin=-(side // 2))
            return np.asarray(means[corners], np.float32)

        free = mean(covered) < 0.5 / side**2
        if free.any():
            power = mean((grain**2).sum(axis=0))
            tops, lefts = np.nonzero(free & (power <= ORDINARY * np.median(power[free])))
            break
    else:
        return np.zeros_like(grain)
    ramp = np.sin((np.arange(side) + 0.5) * (np.pi / side)).astype(np.float32)
    weight = np.outer(ramp, ramp)
    laid = np.zeros((len(grain), height + 2 * side, width + 2 * side), np.float32)
    norm = np.zeros(laid.shape[1:], np.float32)
    padded = np.pad(covered, side)
    for top in range(side // 2, height + side, side // 2):
        for left in range(side // 2, width + side, side // 2):
            place = slice(top, top + side), slice(left, left + side)
            if padded[place].any():
                pick = generator.integers(len(tops))
                source = slice(tops[pick], tops[pick] + side), slice(lefts[pick], lefts[pick] + side)
                laid[:, *place] += weight * grain[:, *source]
                norm[place] += weight**2
    # the root of the squared weights: means of independent blocks would be paler than each
    laid /= np.sqrt(np.maximum(norm, 1e-6))
    return laid[:, side:-side, side:-side]


def fitted(reference: Floats, size: tuple[int, int], generator: np.random.Generator) -> Floats:
    """Cut a random window of `size` (h, w) out of a reference (C, H, W), continued by reflection where it is smaller.

    Returns (C, h, w). Nothing is stretched, so that grain and dirt keep their size.
    """
    _, height, width = reference.shape
    spread = [(0, max(wanted - found, 0)) for wanted, found in zip(size, (height, width), strict=True)]
    wide = np.pad(reference, [(0, 0), *spread], mode="symmetric")
    top, left = (int(generator.integers(have - want + 1)) for have, want in zip(wide.shape[1:], size, strict=True))
    return wide[:, top : top + size[0], left : left + size[1]]
