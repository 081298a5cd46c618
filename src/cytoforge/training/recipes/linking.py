"""The recipe of the linker of whole movies: it learns what cells become from the choices that each has."""

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from cytoforge.networks.linker import LinkScorer
from cytoforge.tracking.likelihood import surprise
from cytoforge.training.recipes.recipe import Course, Update, one_cycle
from cytoforge.training.samplers.items import Batch
from cytoforge.training.samplers.lineages import ExampleBatch

DECAY = 1e-2
"""of weights, by AdamW"""


class Linking:
    """The surprise at what cells become, mean over stretches of movies, with torch's one cycle of the learning rate."""

    averaged: tuple[str, ...] = ("tracker",)
    perceptual: str | None = None

    def __init__(self, tracker: LinkScorer, rate: float) -> None:
        self.tracker = tracker
        self.course: Course = one_cycle
        self.networks: dict[str, nn.Module] = {"tracker": tracker}
        self.optimisers: dict[str, Optimizer] = {"tracker": AdamW(tracker.parameters(), lr=rate, weight_decay=DECAY)}

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update the network from the examples of a batch."""
        assert isinstance(batch, ExampleBatch)
        device = next(self.tracker.parameters()).device.type
        with torch.autocast(device, enabled=False):  # scores of candidates differ by less than bfloat16 can tell
            losses = [surprise(one.found, self.tracker.scores(one.found), one.truth) for one in batch.examples]
            loss = torch.stack(losses).mean()
        update("tracker", loss)
        return {"surprise": loss}
