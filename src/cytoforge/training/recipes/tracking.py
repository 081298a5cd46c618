"""The recipe of the tracker: it learns where a cell has gone in the next frame (DeepSea)."""

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.losses import cross_entropy_dice
from cytoforge.training.recipes.recipe import Course, Update, one_cycle
from cytoforge.training.samplers.items import Batch


class Tracking:
    """Cross entropy and Dice of both classes on drawn moves, with torch's one cycle of the learning rate (DeepSea)."""

    averaged: tuple[str, ...] = ("tracker",)
    perceptual: str | None = None

    def __init__(self, tracker: nn.Module, rate: float) -> None:
        self.tracker = tracker
        self.course: Course = one_cycle
        self.networks: dict[str, nn.Module] = {"tracker": tracker}
        self.optimisers: dict[str, Optimizer] = {"tracker": Adam(tracker.parameters(), lr=rate, fused=True)}

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update the tracker from crops (B, 2 C, h, w), of the cell and of the next frame, and 0 or 1 (B, h, w)."""
        logits = self.tracker(*batch.images.chunk(2, dim=1))
        loss = cross_entropy_dice(logits, batch.labels, background=True, total=batch.total)
        update("tracker", loss)
        return {"tracking": loss}
