"""Features of movie clips from fixed filters: edges of several sizes and directions, and how they change in time.

The filters need no network and no weights. They are derivatives of Gaussians in space (Koenderink and van Doorn 1987,
"Representation of local geometry in the visual system") combined with differences in time, as in spatio-temporal
energy models of motion (Adelson and Bergen 1985). Their responses are pooled over tiles.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Frame = TypeVar("Frame")

NAME = "clip bank 1 (52 derivatives in space and time, 8 frames x 64 px, not I3D)"
"""name of the extractor; its version number changes whenever a feature changes"""
FRAMES = 8
TILE = 64  # px, about: an image is cut into tiles of nearly equal size
LEVELS = 3  # resolutions, each half of the one before
FILTERS = 5  # derivatives in space at each level
FLOOR = 0.01  # added to a response before its logarithm is taken: about one grey level of 8 bits


def clip_features(frames: Iterable[Image], length: int = FRAMES) -> Floats:
    """Return features (T, tiles, 52) of the T clips of a movie: `length` successive frames, in tiles of about TILE px.

    Frames are (C, H, W) in [-1, 1]; their channels are averaged, and at most `length` are held at a time. Clips do not
    overlap. Remaining frames that do not fill a clip are left out; for a movie shorter than one clip the shape is
    (0, 1, 52). The first feature is the mean grey value; the others are logarithms of mean absolute responses at three
    resolutions. The responses are derivatives along four directions and the Laplacian, of a Gaussian of 1 px, each of
    the frames and of their first and second differences in time; and these differences of the smoothed frames alone.
    Clips of two frames have no second differences, and so 34 features. Raises ValueError for a length below 2.
    """
    if length < 2:
        raise ValueError(f"a clip has 2 frames or more, got {length}")
    grey = (frame.mean(axis=0, dtype=np.float64) for frame in frames)
    rows = [_clip(np.stack(clip)) for clip in clips(grey, length)]
    orders = len(_orders(length))
    return np.stack(rows) if rows else np.empty((0, 1, 1 + LEVELS * (FILTERS + orders * (FILTERS + 1))))


def _orders(length: int) -> tuple[int, ...]:
    """Return the orders of the differences in time that a clip of so many frames has."""
    return (1, 2) if length > 2 else (1,)


def texture_features(frame: Image) -> Floats:
    """Return the 15 spatial features (15,) of `clip_features` for the edges of one frame (C, H, W), over all of it."""
    grey = frame.mean(axis=0, dtype=np.float64)[None]
    return np.log(FLOOR + np.array([np.abs(r).mean() for level in _levels(grey) for r in _edges(level)]))


def clips(frames: Iterable[Frame], length: int) -> Iterator[list[Frame]]:
    """Yield clips of `length` successive frames, which do not overlap; frames that do not fill a clip are left out."""
    clip: list[Frame] = []
    for frame in frames:
        clip.append(frame)
        if len(clip) == length:
            yield clip
            clip = []


def _clip(clip: Floats) -> Floats:
    """Features (tiles, d) of one clip (T, H, W)."""
    grid = tuple(max(1, round(side / TILE)) for side in clip.shape[1:])
    columns, orders = [_pooled(clip, grid)], _orders(len(clip))
    for level in _levels(clip):
        smooth = ndimage.gaussian_filter(level, (0, 1, 1))
        responses = [np.diff(smooth, order, axis=0) for order in orders]
        responses += [np.diff(edges, order, axis=0) for edges in _edges(level) for order in (0, *orders)]
        columns += [np.log(FLOOR + _pooled(np.abs(response), grid)) for response in responses]
    return np.stack(columns, axis=1)


def _levels(movie: Floats) -> Iterator[Floats]:
    """Yield a movie (T, H, W) at each resolution, finest first."""
    for level in range(LEVELS):
        if level:
            movie = ndimage.gaussian_filter(movie, (0, 1, 1))[:, ::2, ::2]
        yield movie


def _edges(movie: Floats) -> Iterator[Floats]:
    """Yield the derivatives of a movie (T, H, W) down, across and along both diagonals, and its Laplacian."""
    down, across = (ndimage.gaussian_filter(movie, (0, 1, 1), (0, *order)) for order in ((1, 0), (0, 1)))
    yield from (down, across, (down + across) / np.sqrt(2), (down - across) / np.sqrt(2))
    smooth = ndimage.gaussian_filter(movie, (0, 1, 1))
    # Differences are used because the sampled second derivative of a Gaussian does not sum to 0: it responds to grey.
    yield sum(ndimage.correlate1d(smooth, [1.0, -2.0, 1.0], axis) for axis in (1, 2))


def _pooled(values: Floats, grid: tuple[int, ...]) -> Floats:
    """Means (tiles,) of values (T, H, W) over time and over each tile of a grid."""
    mean = values.mean(axis=0)
    parts = (strip for rows in np.array_split(mean, grid[0], axis=0) for strip in np.array_split(rows, grid[1], axis=1))
    return np.array([part.mean() for part in parts])
