"""The distance between the textures of painted and real images, without any pretrained network."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import boxes

Image = NDArray[np.floating[Any]]

SIDE = 7
"""px of a patch, at every resolution"""
LEVELS = 4
"""resolutions, each half of the one before"""
FINE = 1.5
"""px, standard deviation of the blur without which only fine grain is left"""
LEAST = 12
"""px of the middle of a cell, below which it has no grain"""
LAPLACE = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]) / 6
"""what is left of straight edges and slopes by this is nothing, and of white noise its whole variance"""
PATCHES = 4096
DIRECTIONS = 128


def texture_distance(real: Sequence[Image], painted: Sequence[Image], generator: np.random.Generator) -> float:
    """Return the sliced Wasserstein distance between patches of real and painted images, averaged over resolutions.

    As in Karras et al. 2018 (Progressive growing of GANs, arXiv:1710.10196, section 5), patches of 7 x 7 px from each
    band of a pyramid are projected on random directions, and the sorted projections of both sides are compared. Here
    the unit is the standard deviation of the real projections: the distance is 0 for equal images and about 0.8 if the
    painting is one grey value. The places of patches do not affect the comparison, so a painting need not repeat the
    real image, but the patches of a pair are taken at the same places.

    Images are (C, H, W), painted ones of the same shapes as real ones. Raises ValueError if the shapes differ, if an
    image is smaller than a patch, or if there are no images.
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
    """Yield the detail of each resolution, finest first, and at the end the remaining coarse image."""
    for level in range(LEVELS):
        smooth = ndimage.gaussian_filter(image, (0, 1, 1), mode="reflect")
        coarser = smooth[:, ::2, ::2]
        if level == LEVELS - 1 or min(coarser.shape[1:]) < SIDE:
            yield image
            return
        yield image - smooth
        image = coarser


def _patches(image: Image, places: NDArray[np.float64]) -> Image:
    """Return patches (N, C * SIDE * SIDE) of an image (C, H, W) at places (N, 2).

    A place is the top left corner y, x as a share in [0, 1) of all possible corners.
    """
    windows = sliding_window_view(image, (SIDE, SIDE), axis=(1, 2))
    y, x = (places * windows.shape[1:3]).astype(int).T
    return windows[:, y, x].swapaxes(0, 1).reshape(len(places), -1)


def laplacian(channel: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return a channel (H, W) filtered by LAPLACE, without the outermost pixels: (H - 2, W - 2)."""
    return np.asarray(ndimage.convolve(channel.astype(np.float64), LAPLACE)[1:-1, 1:-1])


def noise_power(image: Image) -> float:
    """Return the variance of the finest grain of an image (C, H, W), mean over its channels: that of white noise.

    This is the square of Immerkaer 1996 ("Fast noise variance estimation", Computer Vision and Image Understanding 64).
    Noise that is alike in neighbouring pixels counts for less, sharp edges and fine texture count for some. Raises
    ValueError for an image of less than 3 px.
    """
    if min(image.shape[1:]) < 3:
        raise ValueError(f"images must be at least 3 px high and wide, got {image.shape}")
    return float(np.mean([np.pi / 2 * np.abs(laplacian(channel)).mean() ** 2 for channel in image]))


def grain(image: Image, labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return how much grey values vary in the middle of each cell (N, 2): their standard deviation, and that of fine
    grain alone; nan for cells that are too small to tell.

    The image is (C, H, W), labels are (H, W); cells are in ascending order of their ids. The middle is what lies at
    least half as deep in the cell as its deepest pixel, so that halos and outlines do not count.
    """
    grey = image.mean(axis=0)
    fine = grey - ndimage.gaussian_filter(grey, FINE)
    found = []
    for cell, box in boxes(labels).items():
        depth = ndimage.distance_transform_edt(np.pad(labels[box] == cell, 1))[1:-1, 1:-1]
        middle = depth >= max(depth.max() / 2, 2)
        enough = np.count_nonzero(middle) >= LEAST
        found.append((grey[box][middle].std(), fine[box][middle].std()) if enough else (np.nan, np.nan))
    return np.array(found, np.float64).reshape(-1, 2)


def contrast(image: Image, labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return by how much each cell is brighter than the background (N,): its mean grey value less the median of all
    pixels without cell; nan where there is no such pixel.

    The image is (C, H, W), labels are (H, W); cells are in ascending order of their ids.
    """
    grey, cells = image.mean(axis=0), boxes(labels)
    if not cells or not (labels == 0).any():
        return np.full(len(cells), np.nan)
    background = np.median(grey[labels == 0])
    return np.array([grey[box][labels[box] == cell].mean() - background for cell, box in cells.items()], np.float64)
