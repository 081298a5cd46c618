"""Batches whose every item depends on its own seed only: not on batch size, workers, devices or what came before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cytoforge.augment import Policy, augment
from cytoforge.data.dataset import Item

MEMORY = 2**32  # bytes of decoded images kept between steps


def item_generator(seed: int, step: int, item: int, purpose: str) -> torch.Generator:
    """Return the generator of one item's draws; `purpose` keeps styles, noise and augmentation independent."""
    words = np.random.SeedSequence([seed, step, item, crc32(purpose.encode())]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


@dataclass(frozen=True)
class Batch:
    """Windows of one training step: images float32 (B, C, h, w) in [-1, 1], labels int64 (B, h, w)."""

    images: Tensor
    labels: Tensor
    seed: int
    step: int
    items: tuple[int, ...]
    """place of each window in the step's whole batch, over all devices"""
    names: tuple[str, ...]
    """source image of each window"""
    synthetic: tuple[bool, ...] = ()
    """whether each window is of a synthetic image; none is if this is empty"""

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return one generator per window for draws of the named purpose."""
        return [item_generator(self.seed, self.step, item, purpose) for item in self.items]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; the draws stay on the CPU, so that they are the same everywhere."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


Pair = tuple[np.ndarray, np.ndarray]
REAL_AT_THE_END = 0.3  # share of a training whose windows are all real


@dataclass(frozen=True)
class Synthetic:
    """Synthetic images to cut windows from, `read(i)` of item i as in Batches, and when.

    In the first 70 % of the training `share` of the windows are synthetic: with `mix` each with this probability, with
    `pretrain` all up to this share of these 70 % and none after it. The last 30 % are real.
    """

    items: Sequence[Item]
    read: Callable[[int], Pair]
    share: float
    schedule: Literal["mix", "pretrain"]

    def due(self, progress: float, generator: torch.Generator) -> bool:
        """Tell whether a window at `progress` (0 to 1) of the training shall be synthetic."""
        place = progress / (1 - REAL_AT_THE_END)
        chance = self.share if self.schedule == "mix" else float(place < self.share)
        return place < 1 and float(torch.rand((), generator=generator)) < chance

    def draw(self, progress: float, generator: torch.Generator) -> int | None:
        """Return the source of one window at `progress` (0 to 1) of the training, or None if it shall be real."""
        if not self.due(progress, generator):
            return None
        return int(torch.randint(len(self.items), (), generator=generator))


class Batches:
    """Cuts and augments windows of annotated images, and of synthetic ones where there are some.

    `read(i)` gives image float32 (C, H, W) and labels int32 (H, W) of source i; every pass visits all sources once,
    in an order of its own, but for places that a synthetic window takes. `ranks` = (this process, number of processes)
    shares a step's windows between devices.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Pair],
        *,
        size: tuple[int, int],
        count: int,
        policy: Policy,
        seed: int,
        ranks: tuple[int, int] = (0, 1),
        synthetic: Synthetic | None = None,
    ) -> None:
        if not names:
            raise ValueError("no images to train on")
        self.names, self.size, self.count, self.policy, self.seed, self.ranks = names, size, count, policy, seed, ranks
        self._read = cached(read)
        self.synthetic = None if synthetic is None else replace(synthetic, read=cached(synthetic.read))

    def __call__(self, step: int, progress: float = 0.0) -> Batch:
        """Return this process's share of the batch of a step, at `progress` (0 to 1) of the training."""
        rank, world = self.ranks
        items = tuple(range(rank, self.count * world, world))
        windows, names, synthetic = [], [], []
        for item in items:
            drawn = None
            if self.synthetic is not None:
                drawn = self.synthetic.draw(progress, item_generator(self.seed, step, item, "synthetic"))
            if self.synthetic is not None and drawn is not None:
                pair, name = self.synthetic.read(drawn), self.synthetic.items[drawn].name
            else:
                source = self._source(step * self.count * world + item)
                pair, name = self._read(source), self.names[source]
            image, labels = map(torch.from_numpy, pair)
            generator = item_generator(self.seed, step, item, "augment")
            windows.append(augment(image, labels, self.size, self.policy, generator))
            names.append(name)
            synthetic.append(drawn is not None)
        images, labels_ = (torch.stack(part) for part in zip(*windows, strict=True))
        return Batch(images, labels_.long(), self.seed, step, items, tuple(names), tuple(synthetic))

    def _source(self, position: int) -> int:
        epoch, place = divmod(position, len(self.names))
        return int(np.random.default_rng([self.seed, epoch, crc32(b"order")]).permutation(len(self.names))[place])


def cached(read: Callable[[int], Pair]) -> Callable[[int], Pair]:
    """Keep what was read, up to MEMORY."""
    bytes_each = max(read(0)[0].nbytes * 2, 1)
    return lru_cache(maxsize=max(MEMORY // bytes_each, 1))(read)
