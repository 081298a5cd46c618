"""Noise of a camera and flicker of its lamp: measured in a movie, and drawn anew for each frame of another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from cytoforge.metrics.texture import laplacian
from cytoforge.simulation import optics

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

MARGIN = 4  # px around cells that are no background: halos, and cells that come
CLIPPED = 3.0  # standard deviations beyond which a difference is no noise, but something that moved
ROUNDS = 12
BLOCK = 8  # px, side of the blocks in which noise is measured by brightness
BINS = 16  # of brightness, from -1 to 1
FEWEST = 30  # blocks in a bin that counts
QUIET = 0.25  # share of the blocks of a bin that are calm enough: others hold edges and moving texture
SAMPLED = 20_000  # px of the background, at most, that are kept of a step from a frame to the next
LEAST_BLUR = 0.3  # px; less is none


@dataclass(frozen=True)
class Noise:
    """Noise of one channel, whose grey values run from -1 to 1: at s it has the variance `read + gain * (s + 1)`."""

    read: float
    """variance where it is darkest, from reading out"""
    gain: float
    """variance for a brightness of 1, from the number of photons"""
    blur: float
    """px, standard deviation of a Gaussian that makes neighbouring pixels alike, as resizing does; 0 for none"""
    flicker: float
    """standard deviation of what is added to a whole frame, as the lamp flickers"""

    def variance(self, grey: Any) -> Any:
        """Return the variance at grey values in [-1, 1], of any shape; values beyond count as the nearest of these."""
        return self.read + self.gain * (np.clip(grey, -1, 1) + 1)


def noisy(image: Image, noise: Sequence[Noise], generator: np.random.Generator) -> NDArray[np.float32]:
    """Return an image (C, H, W) in [-1, 1] with the noise of each channel drawn anew; it may go beyond -1 and 1.

    Raises ValueError unless there is a noise for each channel.
    """
    if len(image) != len(noise):
        raise ValueError(f"an image of {len(image)} channels needs as many noises, got {len(noise)}")
    found = np.empty(image.shape, np.float32)
    for channel, one, out in zip(image, noise, found, strict=True):
        white = one.blur < LEAST_BLUR
        field = generator.standard_normal(channel.shape) if white else optics.noise(channel.shape, one.blur, generator)
        out[...] = channel + np.sqrt(one.variance(channel)) * field + one.flicker * generator.standard_normal()
    return found


def measure_noise(movies: Iterable[Iterable[tuple[Image, Labels]]]) -> tuple[Noise, ...]:
    """Measure the noise of each channel of movies: frames (C, H, W) in [-1, 1] in a row, with labels (H, W).

    The difference of two frames in a row has twice the variance of the noise where nothing moves: in the background,
    at least MARGIN px from cells. What moves there all the same is cut off beyond CLIPPED standard deviations, again
    and again. Noise that grows with brightness is looked for everywhere, by the Laplacian of Immerkaer 1996 ("Fast
    noise variance estimation", Computer Vision and Image Understanding 64), applied to these differences: in blocks by
    their brightness, of which the quiet ones count as in Liu et al. 2008 ("Automatic estimation and removal of noise
    from a single image", IEEE TPAMI 30), against those of the background. Variance that grows linearly with brightness
    is the model of Foi et al. 2008 ("Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data", IEEE TIP 17). The blur follows from how alike neighbouring pixels are. A lamp that flickers changes the
    mean of the background up and then down; a drift, which goes on in one direction, is none.

    Two frames are held at a time. A channel without background in two frames in a row has no noise. Raises ValueError
    if frames and labels differ in size, or there is no frame.
    """
    channels: list[_Seen] = []
    for movie in movies:
        before: tuple[Image, Labels] | None = None
        for image, labels in movie:
            if image.ndim != 3 or image.shape[1:] != labels.shape or (before and before[0].shape != image.shape):
                raise ValueError(f"frames are (C, H, W) of one size with labels (H, W), got {image.shape} and more")
            channels = channels or [_Seen([], [], [], [], []) for _ in image]
            if before is not None:
                ground = (labels == 0) & (before[1] == 0)
                ground = ndimage.minimum_filter(ground, 2 * MARGIN + 1, mode="nearest")
                for seen, earlier, later in zip(channels, before[0], image, strict=True):
                    seen.take(earlier.astype(np.float64), later.astype(np.float64), ground)
            before = image, labels
        for seen in channels:
            seen.jumps.append(float("nan"))  # a movie ends
    if not channels:
        raise ValueError("need at least one frame, got none")
    return tuple(seen.noise() for seen in channels)


@dataclass
class _Seen:
    """What was seen of a channel in steps from a frame to the next."""

    jumps: list[float]
    differences: list[Floats]  # (n,) of background pixels
    neighbours: list[Floats]  # (2, n) of background pixels side by side
    blocks: list[Floats]  # (n, 2): brightness and half the mean square of the Laplacian of the difference
    ground: list[Floats]  # (n, 2): the same, of blocks of background alone

    def take(self, earlier: Floats, later: Floats, ground: NDArray[np.bool_]) -> None:
        """Take in a step from a frame (H, W) to the next."""
        inside = (np.abs(earlier) < 1) & (np.abs(later) < 1)  # others were cut off at the limits of grey values
        ground = ground & inside
        if not ground.any():
            self.jumps.append(float("nan"))
            return
        difference = later - earlier
        jump = _calm(difference[ground]).mean()
        difference -= jump
        self.jumps.append(float(jump))
        kept = difference[ground]
        self.differences.append(kept[:: -(-kept.size // SAMPLED)])
        pairs = ground[:, :-1] & ground[:, 1:]
        beside = np.stack([difference[:, :-1][pairs], difference[:, 1:][pairs]])
        self.neighbours.append(beside[:, :: max(-(-beside.shape[1] // SAMPLED), 1)])
        level, square = (earlier + later)[1:-1, 1:-1] / 2, laplacian(difference) ** 2 / 2
        found = np.stack([_blocks(level), _blocks(square)], axis=1)
        self.blocks.append(found[_blocks(inside[1:-1, 1:-1]) == 1])
        self.ground.append(found[_blocks(ground[1:-1, 1:-1]) == 1])

    def noise(self) -> Noise:
        """Return the noise of all that was seen."""
        if not self.differences:
            return Noise(0.0, 0.0, 0.0, 0.0)
        power = float(np.var(_calm(np.concatenate(self.differences))) / 2)
        one, other = np.concatenate(self.neighbours, axis=1)
        alike, unlike = (float(np.var(_calm(both))) if both.size else 1.0 for both in (one + other, one - other))
        likeness = (alike - unlike) / (alike + unlike) if alike + unlike > 0 else 0.0
        # two pixels side by side of white noise blurred by a Gaussian of s px are correlated by exp(-1 / 4s^2)
        blur = 0.5 / sqrt(-log(likeness)) if exp(-0.25 / LEAST_BLUR**2) < likeness < 1 else 0.0
        jumps = np.array(self.jumps)
        up_and_down = jumps[1:] * jumps[:-1]
        flicker = sqrt(max(-np.mean(up_and_down[np.isfinite(up_and_down)]), 0)) if np.isfinite(up_and_down).any() else 0
        read, gain = _by_brightness(np.concatenate(self.blocks), np.concatenate(self.ground), power)
        return Noise(read, gain, blur, float(flicker))


def _calm(values: Floats) -> Floats:
    """Return values (n,) without those beyond CLIPPED standard deviations, which are measured anew each time."""
    for _ in range(ROUNDS):
        kept = values[np.abs(values - values.mean()) <= CLIPPED * values.std()]
        if kept.size == values.size:
            break
        values = kept
    return values


def _blocks(values: NDArray[Any]) -> Floats:
    """Return the means (n,) of the whole blocks of an array (H, W)."""
    height, width = (side // BLOCK for side in values.shape)
    parts = values[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK)
    return np.asarray(parts.mean(axis=(1, 3), dtype=np.float64).ravel())


def _by_brightness(blocks: Floats, ground: Floats, power: float) -> tuple[float, float]:
    """Return `read` and `gain` of blocks (n, 2), those of the background of which have the variance `power`."""
    calm = float(np.quantile(ground[:, 1], QUIET)) if len(ground) >= FEWEST else 0.0
    if calm <= 0 or power <= 0:
        return power, 0.0
    number = np.clip(((blocks[:, 0] + 1) / 2 * BINS).astype(int), 0, BINS - 1)
    rows = []
    for each in np.unique(number):
        own = blocks[number == each]
        variance = float(np.quantile(own[:, 1], QUIET)) / calm * power
        if len(own) >= FEWEST and variance > 0:
            weight = sqrt(len(own)) / variance  # an estimate errs in proportion to what it estimates
            rows.append((weight, weight * (own[:, 0].mean() + 1), weight * variance))
    if not rows:
        return power, 0.0
    table = np.array(rows)
    (read, gain), _ = optimize.nnls(table[:, :2], table[:, 2])
    return float(read), float(gain)
