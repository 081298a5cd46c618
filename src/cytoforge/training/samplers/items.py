"""Items of batches: the generator of an item's draws, a batch of windows, sources that are read once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cytoforge.cells.augment import Policy, augment
from cytoforge.training.samplers.shares import everywhere

MEMORY = 2**32  # bytes of decoded images kept between steps
Pair = tuple[np.ndarray, np.ndarray]
"""image float32 (C, H, W) and labels int32 (H, W)"""


def item_generator(seed: int, step: int, item: int, purpose: str) -> torch.Generator:
    """Return the random generator of an item, its place in the step's whole batch; each purpose has its own draws."""
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
    """whether each window is of a synthetic image; if empty, none is"""
    simulated: Tensor | None = None
    """labels (B, h, w) of simulated cells, if a recipe paints on these, too"""
    unlabelled: "Batch | None" = None
    """as many windows of images without masks, if the training has any; their labels are 0"""
    processes: int = 1
    """processes that share the step's whole batch, each with as many of its items"""

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return one generator per window for draws of the named purpose."""
        return [item_generator(self.seed, self.step, item, purpose) for item in self.items]

    def total(self, sums: Tensor) -> Tensor:
        """Return sums over the whole batch, of which these are sums over the items here; gradients pass."""
        return sums if self.processes == 1 else everywhere(sums).sum(dim=0)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; the draws stay on the CPU, so that they are the same everywhere."""
        more = None if self.unlabelled is None else self.unlabelled.to(device)
        simulated = None if self.simulated is None else self.simulated.to(device)
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, simulated=simulated, unlabelled=more)

    def together(self) -> "Batch":
        """Return the batch with its unlabelled windows behind the others, each with draws of its own."""
        if (more := self.unlabelled) is None:
            return self
        return replace(
            self,
            images=torch.cat([self.images, more.images]),
            labels=torch.cat([self.labels, more.labels]),
            items=self.items + more.items,
            names=self.names + more.names,
            unlabelled=None,
        )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the items of a batch are drawn from their sources."""

    size: tuple[int, int]
    """height and width of a window in pixels"""
    count: int
    """items of a step's whole batch, of which every process draws as many; a multiple of the number of processes"""
    policy: Policy
    """their augmentation"""
    p_vanilla: float = 0.2
    """with policy paper, probability that an item is augmented"""
    seed: int
    ranks: tuple[int, int] = (0, 1)
    """this process, and the number of processes that share a step's items"""
    first: int = 0
    """place of the first item in the step's whole batch; above 0 where other items come before these"""

    @property
    def places(self) -> tuple[int, ...]:
        """Places of this process's items in the step's whole batch."""
        rank, world = self.ranks
        return tuple(range(self.first + rank, self.first + self.count, world))

    @property
    def following(self) -> "Drawing":
        """The drawing of as many further items, with draws of their own."""
        return replace(self, first=self.first + self.count)

    def augment(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cut a window out of an image (C, H, W) with labels (H, W), and vary it."""
        return augment(image, labels, self.size, self.policy, generator, self.p_vanilla)

    def generator(self, step: int, place: int, purpose: str) -> torch.Generator:
        """Return the generator of an item's draws for a purpose."""
        return item_generator(self.seed, step, place, purpose)


class Sampler(ABC):
    """Gives the batch of each step: first its plan, which is quickly drawn, then the batch itself.

    So a batch can be made ahead of its step, and be used if the step's plan turns out to be the same (`Prefetched`).
    """

    @abstractmethod
    def plan(self, step: int, progress: float) -> Hashable:
        """Return what the batch of a step depends on besides the step, at `progress` (0 to 1) of the training."""

    @abstractmethod
    def cut(self, step: int, plan: Any) -> Batch:
        """Return this process's share of the batch of a step."""

    def __call__(self, step: int, progress: float = 0.0) -> Batch:
        """Return this process's share of the batch of a step, at `progress` (0 to 1) of the training."""
        return self.cut(step, self.plan(step, progress))


def cached(read: Callable[[int], Pair]) -> Callable[[int], Pair]:
    """Return `read` with a memory: what it has read is kept, up to MEMORY; one thread reads at a time."""
    bytes_each = max(read(0)[0].nbytes * 2, 1)
    kept, reading = lru_cache(maxsize=max(MEMORY // bytes_each, 1))(read), Lock()

    def alone(i: int) -> Pair:
        with reading:  # around the memory, so that threads that want the same do not read it one after the other
            return kept(i)

    return alone
