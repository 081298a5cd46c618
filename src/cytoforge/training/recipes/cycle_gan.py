"""The cyclegan recipe: segmenter and image generator train each other (cGAN-Seg, Figure 1A, Eq. 1 and 6-17)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.cells.augment import apply_diff_augment, draw_diff_augment
from cytoforge.cells.instances import TARGETS, Target, condition
from cytoforge.losses import (
    cross_entropy_dice,
    discriminator_loss,
    straight_through_mask,
    total_generator_loss,
)
from cytoforge.networks.features import VGG19Features
from cytoforge.training import hyperparameters
from cytoforge.training.recipes.networks import (
    Described,
    build_discriminator,
    build_generator,
    build_segmenter,
    scale_noise,
)
from cytoforge.training.recipes.painting import Comparison, Painting, comparison, frozen_statistics, score_fakes
from cytoforge.training.recipes.recipe import Update, annealed
from cytoforge.training.samplers.items import Batch

GENERATOR_EVERY = 3  # steps of a warm start for one that trains the generator, whose pass costs several of S's


class CycleGAN:
    """Generator G (condition to image), segmenter S (image to mask) and a discriminator for each domain.

    Until `warm_start` (a share of the training) G and S learn from the annotated pairs alone. docs/decisions.md tells
    what differs from the published code, and why.
    """

    averaged: tuple[str, ...] = ("segmenter", "generator")

    def __init__(
        self,
        paint: Painting,
        segmenter: nn.Module,
        discriminators: tuple[nn.Module, nn.Module],
        target: Target,
        compare: Comparison,
        parameters: hyperparameters.CycleGAN,
    ) -> None:
        """`discriminators` of images and of masks."""
        self.paint, self.segmenter, self.target, self.compare = paint, segmenter, target, compare
        self.image_discriminator, self.mask_discriminator = discriminators
        self.weights, self.p_diff, self.perceptual = parameters.weights, parameters.p_diff, compare.name
        self.warm_start, self.course = parameters.warm_start, annealed(parameters.anneal)
        self.networks: dict[str, nn.Module] = {
            "generator": paint.generator,
            "segmenter": segmenter,
            "image_discriminator": self.image_discriminator,
            "mask_discriminator": self.mask_discriminator,
        }
        both = [
            {"params": list(paint.generator.parameters()), "lr": parameters.generator_rate},
            {"params": list(segmenter.parameters()), "lr": parameters.rate},
        ]
        rate = parameters.discriminator_rate
        self.optimisers: dict[str, Optimizer] = {
            "generator and segmenter": Adam(both, fused=True),
            "image discriminator": Adam(self.image_discriminator.parameters(), lr=rate, fused=True),
            "mask discriminator": Adam(self.mask_discriminator.parameters(), lr=rate, fused=True),
        }

    @classmethod
    def build(
        cls,
        parameters: hyperparameters.CycleGAN,
        described: dict[str, Described],
        seed: int,
        vgg: VGG19Features | None = None,
    ) -> "CycleGAN":
        """Build all networks, and the recipe that trains them; `described` are segmenter and generator."""
        image, mask = (
            build_discriminator(parameters, seed, f"{name} discriminator", channels)
            for name, channels in (("image", described["generator"]["out_channels"]), ("mask", 1))
        )
        generator = build_generator(described["generator"], seed)
        scale_noise(generator, parameters.noise_gain)
        return cls(
            Painting(generator, parameters.condition, parameters.style_mixing),
            build_segmenter(described["segmenter"], seed),
            (image, mask),
            TARGETS[parameters.target],
            comparison(parameters.perceptual, image, vgg),
            parameters,
        )

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update all networks once from images (B, C, h, w) in [-1, 1] and labels (B, h, w).

        Unlabelled windows of the batch take part where no mask is needed: in the backward cycle (Eq. 7 and 8), and as
        real images before the image discriminator.
        """
        if progress < self.warm_start:
            return self._pairs(batch, update)
        whole = batch.together()
        image, target = batch.images, self.target.encode(batch.labels)
        given = condition(batch.labels, self.paint.condition)
        mask = given[:, :1]
        own_image = self.paint(given, batch, "forward")
        fake_image, fake_target = own_image, target
        if batch.simulated is not None:  # the forward cycle needs no image of its mask, the identity terms do
            fake_image = self.paint(condition(batch.simulated, self.paint.condition), batch, "simulated")
            fake_target = self.target.encode(batch.simulated)
        logits = self.segmenter(whole.images)
        fake_mask = straight_through_mask(logits)
        with frozen_statistics(self.segmenter, self.paint.generator):  # these describe real images and masks alone
            fake_logits = self.segmenter(fake_image)
            cycle_image = self.paint(self._predicted_condition(fake_mask, logits), whole, "backward")

        shift = draw_diff_augment(whole.generators("diff"), image.shape, self.p_diff)
        shown = apply_diff_augment(fake_image, shift[: len(image)])
        image_adversarial, image_pull, image_scores = score_fakes(self.image_discriminator, shown)
        mask_adversarial, mask_pull, mask_scores = score_fakes(self.mask_discriminator, fake_mask)
        compare = self.compare(image)
        compare_whole = compare if whole is batch else self.compare(whole.images)
        terms = {
            "adversarial_image": image_adversarial,  # Eq. 6
            "adversarial_mask": mask_adversarial,  # Eq. 7
            "cycle_image": compare_whole(cycle_image),  # Eq. 8
            "cycle_mask": cross_entropy_dice(fake_logits, fake_target, total=batch.total),  # Eq. 9
            "identity_image": compare(own_image),  # Eq. 10
            "identity_mask": cross_entropy_dice(logits[: len(image)], target, total=batch.total),  # Eq. 11
        }
        w = self.weights
        total = total_generator_loss(**terms, weights=w)
        pulls = ((shown, w.adversarial * image_pull), (fake_mask, w.adversarial * mask_pull))
        update("generator and segmenter", total, given=pulls)

        losses = dict(terms)
        real_scores = self.image_discriminator(apply_diff_augment(whole.images, shift))
        losses["discriminator_image"] = discriminator_loss(real_scores, image_scores)  # Eq. 12, 14
        update("image discriminator", losses["discriminator_image"])
        losses["discriminator_mask"] = discriminator_loss(self.mask_discriminator(mask), mask_scores)  # Eq. 13, 15
        update("mask discriminator", losses["discriminator_mask"])
        return losses

    def _pairs(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Let generator and segmenter learn from the annotated pairs alone (the identity terms, Eq. 10 and 11)."""
        logits, target = self.segmenter(batch.images), self.target.encode(batch.labels)
        losses = {"identity_mask": cross_entropy_dice(logits, target, total=batch.total)}
        total = self.weights.identity_mask * losses["identity_mask"]
        if batch.step % GENERATOR_EVERY == 0:
            painted = self.paint(condition(batch.labels, self.paint.condition), batch, "forward")
            losses["identity_image"] = self.compare(batch.images)(painted)
            total = total + self.weights.identity_image * losses["identity_image"]
        update("generator and segmenter", total)
        return losses

    def _predicted_condition(self, fake_mask: Tensor, logits: Tensor) -> Tensor:
        """Return the condition (B, K, h, w) of the predicted cells, with `fake_mask` (B, 1, h, w) as its mask.

        Gradients reach the segmenter through the mask alone; the other channels are of the cells that the target
        decodes from the logits (B, classes, h, w).
        """
        if self.paint.condition == "mask":
            return fake_mask
        probabilities = logits.detach().float().softmax(dim=1).cpu().numpy()
        labels = torch.from_numpy(np.stack([self.target.decode(one) for one in probabilities]))
        return torch.cat([fake_mask, condition(labels, self.paint.condition)[:, 1:].to(fake_mask.device)], dim=1)
