"""What a recipe is, and the schedules of learning rates."""

import math
from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from cytoforge.training.samplers.items import Batch

Course = Callable[[float], float]
"""A schedule of learning rates: the factor on them at a progress (0 to 1) of the training."""


class Update(Protocol):
    """What a recipe calls to step an optimiser; see `loop.Trainer.update`."""

    def __call__(
        self, name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = (), max_norm: float | None = None
    ) -> None:
        """Step the named optimiser."""


class Recipe(Protocol):
    """What the loop trains: networks, optimisers and one step."""

    networks: dict[str, nn.Module]
    optimisers: dict[str, Optimizer]
    averaged: tuple[str, ...]
    """networks whose moving average is validated and saved"""
    perceptual: str | None
    """by what, besides pixels, paintings are compared with real images; None without either"""
    course: Course
    """schedule of the learning rates of all optimisers"""

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update the networks from one batch; return the losses by name. `progress` runs from 0 to 1."""


def constant(progress: float) -> float:
    """Keep the learning rates (the papers)."""
    return 1.0


def cosine(progress: float) -> float:
    """Let the learning rates rise in the first 2 % of the training, then fall along a cosine to a hundredth."""
    warm = min(progress / 0.02, 1.0)
    return max(warm, 0.05) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def annealed(anneal: bool) -> Course:
    """Return `cosine`, or `constant` without annealing."""
    return cosine if anneal else constant


def falling(progress: float) -> float:
    """Keep the learning rates for half of the training, then let them fall to 0 (vid2vid)."""
    return min(2 * (1 - progress), 1.0)


WARM_UP, START, END = 0.3, 1 / 25, 1 / 25e4  # of torch's OneCycleLR


def one_cycle(progress: float) -> float:
    """Let the learning rates rise along a cosine in the first WARM_UP of the training, then fall to nothing."""
    if progress < WARM_UP:
        return _between(START, 1.0, progress / WARM_UP)
    return _between(1.0, END, (progress - WARM_UP) / (1 - WARM_UP))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
