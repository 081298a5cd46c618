"""The cyclegan recipe: segmenter and image generator train each other (cGAN-Seg, Figure 1A, Eq. 1 and 6-17)."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, Optimizer

from cytoforge.augment import apply_diff_augment, draw_diff_augment
from cytoforge.instances import Target
from cytoforge.losses import (
    CycleWeights,
    adversarial,
    cross_entropy_dice,
    discriminator_loss,
    image_loss,
    perceptual,
    straight_through_mask,
    total_generator_loss,
)
from cytoforge.networks.style_unet import StyleUNet, draw_styles
from cytoforge.training.batches import Batch
from cytoforge.training.fit import Update

Features = Callable[[Tensor], list[Tensor]]
GENERATOR_RESTS = (
    3  # of so many steps of a warm start one trains the generator, whose pass costs several of the segmenter
)


class CycleGAN:
    """Generator G (mask to image), segmenter S (image to mask) and a discriminator for each domain.

    `features(images) -> list of maps` with `feature_weights` is the perceptual network (VGG-19 in the paper); without
    it the image discriminator's own activations are matched. Until `warm` (a share of the training) G and S learn
    from the pairs alone. What differs from the published code, and why, is in docs/decisions.md.
    """

    averaged: tuple[str, ...] = ("segmenter", "generator")

    def __init__(
        self,
        generator: StyleUNet,
        segmenter: nn.Module,
        image_discriminator: nn.Module,
        mask_discriminator: nn.Module,
        target: Target,
        *,
        weights: CycleWeights,
        rate: float,
        generator_rate: float,
        discriminator_rate: float,
        features: Features | None = None,
        feature_weights: tuple[float, ...] = (),
        p_diff: float = 0.2,
        mixing: float = 0.9,
        warm: float = 0.0,
    ) -> None:
        self.generator, self.segmenter = generator, segmenter
        self.image_discriminator, self.mask_discriminator = image_discriminator, mask_discriminator
        self.target, self.weights, self.p_diff, self.mixing, self.warm = target, weights, p_diff, mixing, warm
        self.features, self.feature_weights = features, feature_weights
        self.perceptual: str | None = "features of the image discriminator" if features is None else "VGG-19"
        self.networks: dict[str, nn.Module] = {
            "generator": generator,
            "segmenter": segmenter,
            "image_discriminator": image_discriminator,
            "mask_discriminator": mask_discriminator,
        }
        both = [
            {"params": list(generator.parameters()), "lr": generator_rate},
            {"params": list(segmenter.parameters()), "lr": rate},
        ]
        self.optimisers: dict[str, Optimizer] = {
            "generator and segmenter": Adam(both, fused=True),
            "image discriminator": Adam(image_discriminator.parameters(), lr=discriminator_rate, fused=True),
            "mask discriminator": Adam(mask_discriminator.parameters(), lr=discriminator_rate, fused=True),
        }

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update all networks once from images (B, C, h, w) in [-1, 1] and labels (B, h, w)."""
        if progress < self.warm:
            return self._pairs(batch, update)
        image, target = batch.images, self.target.encode(batch.labels)
        mask = (batch.labels > 0).unsqueeze(1).to(image.dtype)
        fake_image = self._generate(mask, batch, "forward")
        logits = self.segmenter(image)
        fake_mask = straight_through_mask(logits)
        with frozen_statistics(self.segmenter, self.generator):  # they shall describe real images and masks alone
            fake_logits = self.segmenter(fake_image)
            cycle_image = self._generate(fake_mask, batch, "backward")

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
            mask = (batch.labels > 0).unsqueeze(1).to(batch.images.dtype)
            losses["identity_image"] = self._comparison(batch.images)(self._generate(mask, batch, "forward"))
            total = total + self.weights.identity_image * losses["identity_image"]
        update("generator and segmenter", total)
        return losses

    def _generate(self, mask: Tensor, batch: Batch, purpose: str) -> Tensor:
        """Draw styles and noise of every window from its own generator and paint the masks (B, 1, h, w)."""
        generators = batch.generators(purpose)
        styles = torch.cat([draw_styles(1, self.generator.depth, g, mixing=self.mixing) for g in generators])
        noise = torch.stack([torch.rand((1, *mask.shape[2:]), generator=g) for g in generators])
        painted: Tensor = self.generator(mask, styles.to(mask.device), noise.to(mask.device))
        return painted

    def _comparison(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """Return L1 plus perceptual distance to the real images, whose features are computed once."""
        features, weights = self.features, self.feature_weights
        if features is None:
            features, weights = self._matched, (1.0,) * 3
        with torch.no_grad():
            real = features(image)

        def compare(painted: Tensor) -> Tensor:
            return image_loss(painted, image, perceptual(features(painted), real, weights))

        return compare

    def _matched(self, image: Tensor) -> list[Tensor]:
        """Return the image discriminator's activations at 1/2, 1/4 and 1/8 of the size (feature matching)."""
        with frozen_statistics(self.image_discriminator):
            return self.image_discriminator.activations(image)[:3]  # type: ignore[operator, no-any-return]


def judge(discriminator: nn.Module, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Show fakes to a discriminator once, for both sides of the game.

    Returns the adversarial loss (Eq. 6, 7), its gradient with respect to `fake`, and the scores with a graph that
    ends at `fake`: the discriminator's own loss goes on from them, as its weights have not changed in between.
    """
    leaf = fake.detach().requires_grad_()
    scores = discriminator(leaf.view_as(leaf))  # a view: tools that count operations hook into what a module is given
    loss = adversarial(scores, 1.0)
    (pull,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    return loss.detach(), pull, scores


@contextlib.contextmanager
def frozen_statistics(*networks: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm layers as they are, while the layers normalise as in training."""
    layers = [m for network in networks for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
