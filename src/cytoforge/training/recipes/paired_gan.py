"""The recipe of an image generator alone: it learns from annotated pairs, against a discriminator."""

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.cells.augment import apply_diff_augment, draw_diff_augment
from cytoforge.cells.instances import condition
from cytoforge.losses import discriminator_loss
from cytoforge.networks.features import VGG19Features
from cytoforge.training.hyperparameters import Generator
from cytoforge.training.recipes.networks import Described, build_discriminator, build_generator, scale_noise
from cytoforge.training.recipes.painting import Comparison, Painting, comparison, score_fakes
from cytoforge.training.recipes.recipe import Update, annealed
from cytoforge.training.samplers.items import Batch


class PairedGAN:
    """Generator G (condition to image) and an image discriminator.

    Of cGAN-Seg's losses it has the adversarial one (Eq. 6, 12 and 14) and the comparison with the real image that
    belongs to the mask (Eq. 10).
    """

    averaged: tuple[str, ...] = ("generator",)

    def __init__(self, paint: Painting, discriminator: nn.Module, compare: Comparison, parameters: Generator) -> None:
        self.paint, self.discriminator, self.compare = paint, discriminator, compare
        self.weights, self.p_diff, self.perceptual = parameters.weights, parameters.p_diff, compare.name
        self.course = annealed(parameters.anneal)
        self.networks: dict[str, nn.Module] = {"generator": paint.generator, "image_discriminator": discriminator}
        rate, discriminator_rate = parameters.generator_rate, parameters.discriminator_rate
        self.optimisers: dict[str, Optimizer] = {
            "generator": Adam(paint.generator.parameters(), lr=rate, fused=True),
            "image discriminator": Adam(discriminator.parameters(), lr=discriminator_rate, fused=True),
        }

    @classmethod
    def build(
        cls, parameters: Generator, described: Described, seed: int, vgg: VGG19Features | None = None
    ) -> "PairedGAN":
        """Build generator and discriminator, and the recipe that trains them."""
        generator = build_generator(described, seed)
        scale_noise(generator, parameters.noise_gain)
        discriminator = build_discriminator(parameters, seed, "image discriminator", described["out_channels"])
        return cls(
            Painting(generator, parameters.condition, parameters.style_mixing),
            discriminator,
            comparison(parameters.perceptual, discriminator, vgg),
            parameters,
        )

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update generator and discriminator once from images (B, C, h, w) in [-1, 1] and labels (B, h, w).

        Where the generator adds cells to backgrounds, the images have the channels of these behind their own.
        """
        w, channels = self.weights, self.paint.generator.outputs.out_channels
        image, background = batch.images[:, :channels], batch.images[:, channels:]
        given = torch.cat([condition(batch.labels, self.paint.condition), background], dim=1)
        painted = self.paint(given, batch, "forward")
        shift = draw_diff_augment(batch.generators("diff"), image.shape, self.p_diff)
        shown = apply_diff_augment(painted, shift)
        adversarial, pull, scores = score_fakes(self.discriminator, shown)
        losses = {"adversarial_image": adversarial, "identity_image": self.compare(image)(painted)}
        update("generator", w.identity_image * losses["identity_image"], given=((shown, w.adversarial * pull),))
        real_scores = self.discriminator(apply_diff_augment(image, shift))
        losses["discriminator_image"] = discriminator_loss(real_scores, scores)
        update("image discriminator", losses["discriminator_image"])
        return losses
