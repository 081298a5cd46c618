"""When a training window is of a synthetic image instead of a real one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from cytoforge.data.dataset import Item
from cytoforge.training.samplers.items import Pair

REAL_AT_THE_END = 0.3  # share of a training whose windows are all real


@dataclass(frozen=True)
class Synthetic:
    """Synthetic images, and when windows are cut from them; `read(i)` gives image (C, H, W) and labels (H, W).

    In the first 70 % of the training `share` of the windows are synthetic: with `mix` each has this probability, with
    `pretrain` they come first and real ones after them. In the last 30 % all windows are real.
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
