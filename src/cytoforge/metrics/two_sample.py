"""Whether painted images can be told from real ones: the classifier two-sample test.

As in Lopez-Paz and Oquab 2017 ("Revisiting classifier two-sample tests", ICLR): a classifier learns to tell samples of
two sets apart, and its accuracy on samples that it has not seen measures how far the sets differ. 0.5 is chance: nobody
who looks as hard as the classifier can tell. It stands for an expert who is shown two images and says which is real.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, pad

from cytoforge.metrics.estimates import Estimate, bootstrap_estimate, resample
from cytoforge.metrics.sampling import evenly
from cytoforge.networks.layers import initialise

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Read = Callable[[], tuple[Image, Labels | None]]
"""reads an image (C, H, W) in [-1, 1], with labels (H, W) if it is to be cut at cells"""

SIDE = 64  # px of a crop, or less where an image is smaller
CROPS = 12  # of each image
IMAGES = 64  # of a side that are looked at, at most, spread evenly
FOLDS = 2
FEWEST = 2 * FOLDS  # images of a side
BATCH = 32  # half of them real
STEPS = 150
RATE = 2e-3
WIDTHS = (16, 32, 48)
TINY = 1e-6


@dataclass(frozen=True)
class TwoSample:
    """How well a classifier tells painted from real crops."""

    accuracy: Estimate
    """share of held-out crops that it tells rightly, mean of both sides; its interval resamples images"""
    real: float
    """share of the real crops that it takes to be real"""
    painted: float
    """share of the painted crops that it takes to be painted"""
    side: int
    """px of a crop"""
    crops: tuple[int, int]
    """number of real and of painted crops, each held out once"""


def cut_crops(
    images: Iterable[tuple[Image, Labels | None]], generator: np.random.Generator, side: int = SIDE
) -> NDArray[np.float32]:
    """Cut CROPS of `side` px from each image (C, H, W) in [-1, 1]: (images, CROPS, C, side, side).

    Where labels (H, W) are given and hold cells, the middle of a crop is a pixel of a cell, as far as the edges of the
    image allow. One image is held at a time. Raises ValueError if an image is smaller than a crop or of another size
    than its labels, or there is none.
    """
    found = []
    for image, labels in images:
        height, width = image.shape[1:]
        if min(height, width) < side or (labels is not None and labels.shape != (height, width)):
            raise ValueError(f"crops of {side} px need images (C, H, W) as large, with labels (H, W): {image.shape}")
        cells = np.argwhere(labels > 0) if labels is not None else np.empty((0, 2), int)
        middles = generator.integers((height, width), size=(CROPS, 2))
        if len(cells):
            middles = cells[generator.integers(len(cells), size=CROPS)]
        corners = np.clip(middles - side // 2, 0, (height - side, width - side))
        found.append([image[:, y : y + side, x : x + side].clip(-1, 1) for y, x in corners])
    if not found:
        raise ValueError("need at least one image to cut crops from, got none")
    return np.asarray(found, np.float32)


def compare(real: Sequence[Read], painted: Sequence[Read], shortest: int, seed: int) -> TwoSample | None:
    """Tell real from painted images apart as `tell_apart`; None where a side has fewer than FEWEST.

    Images are read one at a time, IMAGES of each side at most, spread evenly; `shortest` is the shortest of their sides
    in pixels.
    """
    if min(len(real), len(painted)) < FEWEST:
        return None
    generator, side = np.random.default_rng([seed, SIDE]), min(SIDE, shortest)
    one, other = (
        cut_crops((images[place]() for place in evenly(len(images), IMAGES)), generator, side)
        for images in (real, painted)
    )
    return tell_apart(one, other, generator)


def tell_apart(real: NDArray[np.float32], painted: NDArray[np.float32], generator: np.random.Generator) -> TwoSample:
    """Train a small convolutional classifier to tell real from painted crops, and score it on held-out images.

    Both sides are (images, crops, C, side, side) as `cut_crops` gives them, in the order of time. Each is cut into
    FOLDS blocks of images in a row; each block is held out once, and a classifier learns from the others. So no image
    lends crops to both, and neighbours in time hardly do. Everything random comes from `generator`. Raises ValueError
    when sizes differ or a side has fewer than FEWEST images.
    """
    if real.shape[2:] != painted.shape[2:] or real.ndim != 5:
        raise ValueError(f"crops of both sides must be of one size, got {real.shape} and {painted.shape}")
    if min(len(real), len(painted)) < FEWEST:
        raise ValueError(f"need {FEWEST} images a side, got {len(real)} and {len(painted)}")
    right = [np.empty(len(side)) for side in (real, painted)]
    blocks = [np.arange(len(side)) * FOLDS // len(side) for side in (real, painted)]
    for fold in range(FOLDS):
        seed = torch.Generator().manual_seed(int(generator.integers(2**62)))
        learned = [
            torch.from_numpy(side[block != fold]).flatten(0, 1)
            for side, block in zip((real, painted), blocks, strict=True)
        ]
        says = _classifier(learned, seed)
        for truth, (side, block) in enumerate(zip((real, painted), blocks, strict=True)):
            held = torch.from_numpy(side[block == fold])
            told = says(held.flatten(0, 1)).reshape(held.shape[:2])
            right[truth][block == fold] = ((told > 0) == bool(truth)).double().mean(dim=1).numpy()
    draws = [resample(len(side), generator) / len(side) for side in right]
    spread = (draws[0] @ right[0] + draws[1] @ right[1]) / 2
    shares = [float(side.mean()) for side in right]
    return TwoSample(
        bootstrap_estimate(sum(shares) / 2, spread, min(map(len, right))),
        shares[0],
        shares[1],
        real.shape[-1],
        (real.shape[0] * real.shape[1], painted.shape[0] * painted.shape[1]),
    )


def _classifier(learned: list[Tensor], draw: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Train on real and on painted crops (n, C, side, side); return a function of crops that is above 0 for painted.

    It is shown each crop and, as channels of their own, its detail, so that it need not learn to look for noise.
    """
    both = torch.cat(learned)
    mean, deviation, fineness = both.mean(), both.std() + TINY, _detail(both).std() + TINY
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(zip((2 * both.shape[1], *WIDTHS), WIDTHS, strict=False)):
        layers += [nn.Conv2d(before, after, 3, stride=2 if number else 1, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))
    initialise(network, draw)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    truth = torch.cat([torch.zeros(BATCH // 2), torch.ones(BATCH // 2)])

    def shown(crops: Tensor) -> Tensor:
        return torch.cat([(crops - mean) / deviation, _detail(crops) / fineness], dim=1)

    with torch.enable_grad():
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1 + cos(pi * step / STEPS)) / 2
            drawn = [side[torch.randint(len(side), (BATCH // 2,), generator=draw)] for side in learned]
            turns, mirrored = torch.randint(4, (), generator=draw), torch.randint(2, (), generator=draw)
            batch = torch.rot90(torch.cat(drawn), int(turns), (2, 3))
            batch = batch.flip(3) if mirrored else batch
            loss = binary_cross_entropy_with_logits(network(shown(batch))[:, 0], truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    @torch.no_grad()
    def says(crops: Tensor) -> Tensor:
        return torch.cat([network(shown(part))[:, 0] for part in crops.split(BATCH)])

    return says


def _detail(crops: Tensor) -> Tensor:
    """Return how crops (n, C, side, side) differ from the mean of 3 x 3 px."""
    return crops - avg_pool2d(pad(crops, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
