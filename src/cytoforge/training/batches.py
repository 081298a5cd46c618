"""Batches whose every item depends on its own seed only: not on batch size, workers, devices or what came before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cytoforge.augment import Policy, augment

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

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return one generator per window for draws of the named purpose."""
        return [item_generator(self.seed, self.step, item, purpose) for item in self.items]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; the draws stay on the CPU, so that they are the same everywhere."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


Pair = tuple[np.ndarray, np.ndarray]


class Batches:
    """Cuts and augments windows of annotated images.

    `read(i)` gives image float32 (C, H, W) and labels int32 (H, W) of source i; every pass visits all sources once,
    in an order of its own. `ranks` = (this process, number of processes) shares a step's windows between devices.
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
    ) -> None:
        if not names:
            raise ValueError("no images to train on")
        self.names, self.size, self.count, self.policy, self.seed, self.ranks = names, size, count, policy, seed, ranks
        bytes_each = max(read(0)[0].nbytes * 2, 1)
        self._read = lru_cache(maxsize=max(MEMORY // bytes_each, 1))(read)

    def __call__(self, step: int) -> Batch:
        """Return this process's share of the batch of a step."""
        rank, world = self.ranks
        items = tuple(range(rank, self.count * world, world))
        windows, names = [], []
        for item in items:
            source = self._source(step * self.count * world + item)
            image, labels = (torch.from_numpy(array) for array in self._read(source))
            generator = item_generator(self.seed, step, item, "augment")
            windows.append(augment(image, labels, self.size, self.policy, generator))
            names.append(self.names[source])
        images, labels_ = (torch.stack(part) for part in zip(*windows, strict=True))
        return Batch(images, labels_.long(), self.seed, step, items, tuple(names))

    def _source(self, position: int) -> int:
        epoch, place = divmod(position, len(self.names))
        return int(np.random.default_rng([self.seed, epoch, crc32(b"order")]).permutation(len(self.names))[place])
