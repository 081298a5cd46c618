"""How far the texture of painted images is from that of real ones, without any pretrained network."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.floating[Any]]

SIDE = 7
"""px of a patch, at every resolution"""
LEVELS = 4
"""resolutions, each half of the one before"""
PATCHES = 4096
DIRECTIONS = 128


def texture_distance(real: Sequence[Image], painted: Sequence[Image], generator: np.random.Generator) -> float:
    """Sliced Wasserstein distance between the patches of real and painted images, mean over resolutions.

    After Karras et al. 2018 (Progressive growing of GANs, arXiv:1710.10196, section 5): patches of 7 x 7 px from each
    band of a pyramid, projected on random directions; the sorted projections of both sides are compared. Here the unit
    is the standard deviation of the real projections, so that grey, flat or shifted paintings are as far away as they
    are from real contrast: 0 for equal images, about 0.8 where the painting is one grey value. Which patch lies where
    does not count, so a painting need not repeat the real image, but patches of a pair are taken at the same places.

    Images (C,H,W), painted ones of the same shapes as real ones. Raises ValueError when they differ or are smaller
    than a patch.
    """
    if len(real) != len(painted) or any(a.shape != b.shape for a, b in zip(real, painted, strict=True)):
        raise ValueError("real and painted images must be pairs of equal shape")
    if not real or min(min(image.shape[1:]) for image in real) < SIDE:
        raise ValueError(f"images must be at least {SIDE} px high and wide")
    distances = []
    for true, other in zip(
        zip(*map(_bands, real), strict=False), zip(*map(_bands, painted), strict=False), strict=True
    ):
        places = generator.random((len(true), max(PATCHES // len(true), 1), 2))
        a, b = (np.concatenate([_patches(*one) for one in zip(side, places, strict=True)]) for side in (true, other))
        directions = generator.standard_normal((a.shape[1], DIRECTIONS))
        a, b = np.sort(a @ directions, axis=0), np.sort(b @ directions, axis=0)
        distances.append((np.abs(a - b).mean(axis=0) / (a.std(axis=0) + 1e-6)).mean())
    return float(np.mean(distances))


def _bands(image: Image) -> Iterator[Image]:
    """Yield what each resolution has of detail, finest first, and last what is left."""
    for level in range(LEVELS):
        smooth = ndimage.gaussian_filter(image, (0, 1, 1), mode="reflect")
        coarser = smooth[:, ::2, ::2]
        if level == LEVELS - 1 or min(coarser.shape[1:]) < SIDE:
            yield image
            return
        yield image - smooth
        image = coarser


def _patches(image: Image, places: NDArray[np.float64]) -> Image:
    """Patches (N, C * SIDE * SIDE) of an image (C,H,W) at places (N,2), shares of the room for their corners."""
    windows = sliding_window_view(image, (SIDE, SIDE), axis=(1, 2))
    y, x = (places * windows.shape[1:3]).astype(int).T
    return windows[:, y, x].swapaxes(0, 1).reshape(len(places), -1)
