"""The recipe of tGAN's second stage: a generator learns to enlarge frames (tGAN, Figure 1C, Eq. 2 and 3)."""

import torch
from torch import Tensor, nn

from cytoforge.cells.augment import apply_diff_augment, draw_diff_augment
from cytoforge.losses import discriminator_loss, mean_difference, super_resolution_loss
from cytoforge.networks import movie
from cytoforge.networks.features import VGG19Features
from cytoforge.training.hyperparameters import SuperResolution
from cytoforge.training.recipes.networks import Described, build_discriminator
from cytoforge.training.recipes.painting import draw_painting, score_fakes
from cytoforge.training.recipes.recipe import Update
from cytoforge.training.recipes.tgan import StageGAN, build_painter
from cytoforge.training.samplers.items import Batch
from cytoforge.training.samplers.pairs import PairBatch


class SuperResolutionGAN(StageGAN):
    """Super-resolution generator and discriminator of single frames (tGAN, Eq. 2 and 3).

    Real frames that were reduced are enlarged and compared with the originals pixel by pixel. A painted frame has no
    original: enlarged and reduced again, it is compared with itself, so that motion and brightness stay those of the
    first stage. The perceptual loss (`comparison`) and the discriminator compare both with the real frame.
    """

    averaged: tuple[str, ...] = ("super-resolution",)

    def __init__(
        self,
        generator: movie.SuperResolution,
        discriminator: nn.Module,
        parameters: SuperResolution,
        vgg: VGG19Features | None = None,
    ) -> None:
        super().__init__(generator, discriminator, parameters, vgg)
        self.generator, self.parameters = generator, parameters

    @classmethod
    def build(
        cls, parameters: SuperResolution, described: Described, seed: int, vgg: VGG19Features | None = None
    ) -> "SuperResolutionGAN":
        """Build generator and discriminator, and the recipe that trains them."""
        generator = build_painter(movie.SuperResolution, seed, "super-resolution", described, parameters)
        channels = described["out_channels"]
        discriminator = build_discriminator(
            parameters, seed, "super-resolution discriminator", channels, parameters.initial
        )
        return cls(generator, discriminator, parameters, vgg)

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Enlarge the small windows of a PairBatch and update generator and discriminator once."""
        if not isinstance(batch, PairBatch):
            raise TypeError("super-resolution is trained on pairs")
        real, p = batch.images, self.parameters
        styles, noise = draw_painting(batch, "enlarge", self.generator.blocks, p.style_mixing, real.shape[2:])
        enlarged: Tensor = self.generator(batch.small, styles.to(real.device), noise.to(real.device))
        shift = draw_diff_augment(batch.generators("diff"), real.shape, p.p_diff)
        judged = apply_diff_augment(enlarged, shift)
        adversarial, pull, scores = score_fakes(self.discriminator, judged)
        losses = {
            "adversarial": adversarial,
            "pixels": self._pixels(batch, enlarged),
            "perceptual": self.comparison(real, enlarged, (real, enlarged)),
        }
        total = super_resolution_loss(adversarial.new_zeros(()), losses["pixels"], losses["perceptual"], p.weights)
        update("generator", total, given=((judged, p.weights.adversarial * pull),))
        losses["discriminator"] = discriminator_loss(self.discriminator(apply_diff_augment(real, shift)), scores)
        update("discriminator", losses["discriminator"])
        return losses

    def _pixels(self, batch: PairBatch, enlarged: Tensor) -> Tensor:
        again = movie.shrink(enlarged.float(), self.generator.factor)
        return torch.stack(
            [
                mean_difference(again[k], batch.small[k]) if painted else mean_difference(enlarged[k], batch.images[k])
                for k, painted in enumerate(batch.synthetic)
            ]
        ).mean()
