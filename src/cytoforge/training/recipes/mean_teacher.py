"""The mean-teacher recipe: a segmenter learns from masks, and to be consistent on images without (semi-supervised).

Tarvainen and Valpola (2017), Mean teachers are better role models, arXiv:1703.01780: the baseline of what images
without masks are worth to cGAN-Seg's backward cycle.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cytoforge.cells.augment import NOT_MOVING, apply_diff_augment, draw_diff_augment, only
from cytoforge.cells.instances import TARGETS, Target
from cytoforge.losses import cross_entropy_dice
from cytoforge.training import hyperparameters
from cytoforge.training.recipes.conventional import classes
from cytoforge.training.recipes.networks import Described, build_segmenter
from cytoforge.training.recipes.recipe import Update, annealed
from cytoforge.training.samplers.items import Batch

NOISE = 0.05  # standard deviation of the student's noise, of images in [-1, 1]


class MeanTeacher:
    """A segmenter S, and a teacher whose weights are the moving average of those of S.

    S learns from masks as in conventional training, and from the teacher on unlabelled windows: S sees them with other
    brightness and contrast, with a part cut out and with noise.
    """

    averaged: tuple[str, ...] = ("segmenter",)
    perceptual: str | None = None

    def __init__(self, segmenter: nn.Module, target: Target, parameters: hyperparameters.MeanTeacher) -> None:
        self.segmenter, self.target, self.course = segmenter, target, annealed(parameters.anneal)
        self.teacher = copy.deepcopy(segmenter).requires_grad_(False)
        self.weight, self.ramp, self.decay = parameters.consistency, parameters.ramp, parameters.teacher_decay
        self.networks: dict[str, nn.Module] = {"segmenter": segmenter, "teacher": self.teacher}
        self.optimisers: dict[str, Optimizer] = {
            "segmenter": Adam(segmenter.parameters(), lr=parameters.rate, fused=True)
        }

    @classmethod
    def build(cls, parameters: hyperparameters.MeanTeacher, described: Described, seed: int) -> "MeanTeacher":
        """Build the segmenter that config.json describes, and the recipe that trains it."""
        return cls(build_segmenter(described, seed), TARGETS[parameters.target], parameters)

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update S and its teacher from images (B, C, h, w) in [-1, 1], labels (B, h, w) and unlabelled windows.

        Raises ValueError for a batch without unlabelled windows.
        """
        if batch.unlabelled is None:
            raise ValueError("a mean teacher needs unlabelled windows")
        supervised = cross_entropy_dice(self.segmenter(batch.images), classes(batch, self.target), total=batch.total)
        consistency = self._consistency(batch.unlabelled)
        update("segmenter", supervised + self.weight * risen(batch.step / self.ramp) * consistency)
        self._follow(min(self.decay, (1 + batch.step) / (10 + batch.step)))
        return {"segmentation": supervised, "consistency": consistency}

    def _consistency(self, more: Batch) -> Tensor:
        """Return the mean squared difference of the probabilities of student and teacher."""
        with torch.no_grad():
            expected = self.teacher(more.images).float().softmax(dim=1)
        draws = only(draw_diff_augment(more.generators("student"), more.images.shape, 1.0), NOT_MOVING)
        noise = torch.stack([torch.randn(more.images.shape[1:], generator=g) for g in more.generators("noise")])
        seen = apply_diff_augment(more.images, draws) + NOISE * noise.to(more.images.device)
        difference: Tensor = self.segmenter(seen).float().softmax(dim=1) - expected
        return difference.square().mean()

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        get_ema_multi_avg_fn(decay)([*self.teacher.parameters()], [*self.segmenter.parameters()], None)


def risen(share: float) -> float:
    """Return the factor on the weight of consistency after a share of its ramp: exp(-5 (1 - share)^2), at most 1."""
    return math.exp(-5 * (1 - min(share, 1.0)) ** 2)
