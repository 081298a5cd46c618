"""The conventional recipe: a segmenter learns from images and masks (cGAN-Seg, Figure 1B and C)."""

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.cells.instances import TARGETS, Target, outer_contour
from cytoforge.losses import IGNORED, cross_entropy_dice
from cytoforge.training.hyperparameters import Segmentation
from cytoforge.training.recipes.networks import Described, build_segmenter
from cytoforge.training.recipes.recipe import Update, annealed
from cytoforge.training.samplers.items import Batch


class Conventional:
    """A segmenter S (image to classes), trained with cross entropy and Dice."""

    averaged: tuple[str, ...] = ("segmenter",)
    perceptual: str | None = None

    def __init__(self, segmenter: nn.Module, target: Target, rate: float, anneal: bool = True) -> None:
        self.segmenter, self.target, self.course = segmenter, target, annealed(anneal)
        self.networks: dict[str, nn.Module] = {"segmenter": segmenter}
        self.optimisers: dict[str, Optimizer] = {"segmenter": Adam(segmenter.parameters(), lr=rate, fused=True)}

    @classmethod
    def build(cls, parameters: Segmentation, described: Described, seed: int) -> "Conventional":
        """Build the segmenter that config.json describes, and the recipe that trains it."""
        segmenter = build_segmenter(described, seed)
        return cls(segmenter, TARGETS[parameters.target], parameters.rate, parameters.anneal)

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update the segmenter from images (B, C, h, w) in [-1, 1] and labels (B, h, w)."""
        loss = cross_entropy_dice(self.segmenter(batch.images), classes(batch, self.target), total=batch.total)
        update("segmenter", loss)
        return {"segmentation": loss}


def classes(batch: Batch, target: Target) -> Tensor:
    """Return the classes (B, h, w) of a batch, IGNORED where a synthetic cell ends and background begins.

    There the generator may have painted a pixel beside the mask. Where cells touch, no pixel is ignored.
    """
    encoded = target.encode(batch.labels)
    if not any(batch.synthetic):
        return encoded
    synthetic = torch.tensor(batch.synthetic, device=encoded.device)[:, None, None]
    return encoded.masked_fill(synthetic & outer_contour(batch.labels), IGNORED)
