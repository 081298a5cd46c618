"""The cyclegan recipe: segmenter and image generator train each other (cGAN-Seg, Figure 1A, Eq. 1 and 6-17)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from cytoforge.augment import apply_diff_augment, draw_diff_augment
from cytoforge.instances import Target, condition
from cytoforge.losses import (
    CycleWeights,
    cross_entropy_dice,
    discriminator_loss,
    straight_through_mask,
    total_generator_loss,
)
from cytoforge.networks.style_unet import ImageGenerator
from cytoforge.training.batches import Batch
from cytoforge.training.fit import Update
from cytoforge.training.paired import Features, PairedGAN, frozen_statistics, judge

GENERATOR_RESTS = (
    3  # of so many steps of a warm start one trains the generator, whose pass costs several of the segmenter
)


class CycleGAN(PairedGAN):
    """Generator G (condition to image), segmenter S (image to mask) and a discriminator for each domain.

    The generator's side is that of PairedGAN. Until `warm` (a share of the training) G and S learn from the pairs
    alone. What differs from the published code, and why, is in docs/decisions.md.
    """

    averaged: tuple[str, ...] = ("segmenter", "generator")

    def __init__(
        self,
        generator: ImageGenerator,
        segmenter: nn.Module,
        image_discriminator: nn.Module,
        mask_discriminator: nn.Module,
        target: Target,
        *,
        weights: CycleWeights,
        rate: float,
        generator_rate: float,
        discriminator_rate: float,
        kind: str = "mask",
        features: Features | None = None,
        feature_weights: tuple[float, ...] = (),
        p_diff: float = 0.2,
        mixing: float = 0.9,
        warm: float = 0.0,
    ) -> None:
        super().__init__(
            generator,
            image_discriminator,
            weights=weights,
            generator_rate=generator_rate,
            discriminator_rate=discriminator_rate,
            kind=kind,
            features=features,
            feature_weights=feature_weights,
            p_diff=p_diff,
            mixing=mixing,
        )
        self.segmenter, self.mask_discriminator = segmenter, mask_discriminator
        self.target, self.warm = target, warm
        self.networks = {
            "generator": generator,
            "segmenter": segmenter,
            "image_discriminator": image_discriminator,
            "mask_discriminator": mask_discriminator,
        }
        both = [
            {"params": list(generator.parameters()), "lr": generator_rate},
            {"params": list(segmenter.parameters()), "lr": rate},
        ]
        self.optimisers = {
            "generator and segmenter": Adam(both, fused=True),
            "image discriminator": self.optimisers["image discriminator"],
            "mask discriminator": Adam(mask_discriminator.parameters(), lr=discriminator_rate, fused=True),
        }

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update all networks once from images (B, C, h, w) in [-1, 1] and labels (B, h, w)."""
        if progress < self.warm:
            return self._pairs(batch, update)
        image, target = batch.images, self.target.encode(batch.labels)
        told = condition(batch.labels, self.kind)
        mask = told[:, :1]
        fake_image = self._generate(told, batch, "forward")
        logits = self.segmenter(image)
        fake_mask = straight_through_mask(logits)
        with frozen_statistics(self.segmenter, self.generator):  # they shall describe real images and masks alone
            fake_logits = self.segmenter(fake_image)
            cycle_image = self._generate(self._told(fake_mask, logits), batch, "backward")

        shift = draw_diff_augment(batch.generators("diff"), image.shape, self.p_diff)
        seen = apply_diff_augment(fake_image, shift)
        image_adversarial, image_pull, image_scores = judge(self.image_discriminator, seen)
        mask_adversarial, mask_pull, mask_scores = judge(self.mask_discriminator, fake_mask)
        compare = self._comparison(image)
        terms = {
            "adversarial_image": image_adversarial,  # Eq. 6
            "adversarial_mask": mask_adversarial,  # Eq. 7
            "cycle_image": compare(cycle_image),  # Eq. 8
            "cycle_mask": cross_entropy_dice(fake_logits, target),  # Eq. 9
            "identity_image": compare(fake_image),  # Eq. 10
            "identity_mask": cross_entropy_dice(logits, target),  # Eq. 11
        }
        w = self.weights
        total = total_generator_loss(**terms, weights=w)
        given = ((seen, w.adversarial * image_pull), (fake_mask, w.adversarial * mask_pull))
        update("generator and segmenter", total, given=given)

        losses = dict(terms)
        real_scores = self.image_discriminator(apply_diff_augment(image, shift))
        losses["discriminator_image"] = discriminator_loss(real_scores, image_scores)  # Eq. 12, 14
        update("image discriminator", losses["discriminator_image"])
        losses["discriminator_mask"] = discriminator_loss(self.mask_discriminator(mask), mask_scores)  # Eq. 13, 15
        update("mask discriminator", losses["discriminator_mask"])
        return losses

    def _pairs(self, batch: Batch, update: Update) -> dict[str, Tensor]:
        """Let generator and segmenter learn from the annotated pairs alone (the identity terms, Eq. 10 and 11)."""
        losses = {"identity_mask": cross_entropy_dice(self.segmenter(batch.images), self.target.encode(batch.labels))}
        total = self.weights.identity_mask * losses["identity_mask"]
        if batch.step % GENERATOR_RESTS == 0:
            painted = self._generate(condition(batch.labels, self.kind), batch, "forward")
            losses["identity_image"] = self._comparison(batch.images)(painted)
            total = total + self.weights.identity_image * losses["identity_image"]
        update("generator and segmenter", total)
        return losses

    def _told(self, fake_mask: Tensor, logits: Tensor) -> Tensor:
        """Return what the generator is told of the predicted cells: the condition with `fake_mask` as its mask.

        Gradients reach the segmenter through the mask alone; the rest is made of the cells that the target decodes.
        """
        if self.kind == "mask":
            return fake_mask
        probabilities = logits.detach().float().softmax(dim=1).cpu().numpy()
        labels = torch.from_numpy(np.stack([self.target.decode(one) for one in probabilities]))
        return torch.cat([fake_mask, condition(labels, self.kind)[:, 1:].to(fake_mask.device)], dim=1)
