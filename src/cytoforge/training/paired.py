"""The image generator's side of training, and the recipe that has no other: a generator learns from annotated pairs."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, Optimizer

from cytoforge.augment import apply_diff_augment, draw_diff_augment
from cytoforge.instances import condition
from cytoforge.losses import CycleWeights, adversarial, discriminator_loss, image_loss, perceptual, texture_loss
from cytoforge.networks.style_unet import ImageGenerator, draw_styles
from cytoforge.training.batches import Batch
from cytoforge.training.fit import Update

Features = Callable[[Tensor], list[Tensor]]
TEXTURE_WINDOWS = (6, 4, 4, 4)  # elements: of the image, and of activations at 1/2, 1/4 and 1/8 of its size


class PairedGAN:
    """Generator G (condition to image) and an image discriminator; G learns from the pairs alone.

    Of cGAN-Seg's losses these are the adversarial one (Eq. 6, 12 and 14) and the comparison with the real image of the
    mask (Eq. 10); it is also what CycleGAN adds segmenter, mask discriminator and cycles to. `kind` is what G is told
    of the cells, a key of `instances.CONDITIONS`.

    `features(images) -> list of maps` with `feature_weights` is the perceptual network (VGG-19 in the paper); without
    it the image discriminator's own activations are matched. `pixels_only`: L1 alone, no perceptual term.
    `textures`: local statistics of pixels and activations are matched instead, so that paintings are not drawn to grey.
    """

    averaged: tuple[str, ...] = ("generator",)

    def __init__(
        self,
        generator: ImageGenerator,
        image_discriminator: nn.Module,
        *,
        weights: CycleWeights,
        generator_rate: float,
        discriminator_rate: float,
        kind: str = "mask",
        features: Features | None = None,
        feature_weights: tuple[float, ...] = (),
        pixels_only: bool = False,
        textures: bool = False,
        p_diff: float = 0.2,
        mixing: float = 0.9,
    ) -> None:
        self.generator, self.image_discriminator = generator, image_discriminator
        self.weights, self.kind, self.p_diff, self.mixing = weights, kind, p_diff, mixing
        self.features, self.feature_weights = features, feature_weights
        self.pixels_only, self.textures = pixels_only, textures
        self.perceptual: str | None = "features of the image discriminator" if features is None else "VGG-19"
        if pixels_only:
            self.perceptual = None
        elif textures:
            self.perceptual = "local statistics of the image discriminator's features"
        self.networks: dict[str, nn.Module] = {"generator": generator, "image_discriminator": image_discriminator}
        self.optimisers: dict[str, Optimizer] = {
            "generator": Adam(generator.parameters(), lr=generator_rate, fused=True),
            "image discriminator": Adam(image_discriminator.parameters(), lr=discriminator_rate, fused=True),
        }

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update generator and discriminator once from images (B, C, h, w) in [-1, 1] and labels (B, h, w).

        Behind the images' own channels are those of their backgrounds, where the generator adds cells to these.
        """
        w, channels = self.weights, self.generator.outputs.out_channels
        image, background = batch.images[:, :channels], batch.images[:, channels:]
        painted = self._generate(torch.cat([condition(batch.labels, self.kind), background], dim=1), batch, "forward")
        shift = draw_diff_augment(batch.generators("diff"), image.shape, self.p_diff)
        seen = apply_diff_augment(painted, shift)
        image_adversarial, pull, scores = judge(self.image_discriminator, seen)
        losses = {"adversarial_image": image_adversarial, "identity_image": self._comparison(image)(painted)}
        update("generator", w.identity_image * losses["identity_image"], given=((seen, w.adversarial * pull),))
        real_scores = self.image_discriminator(apply_diff_augment(image, shift))
        losses["discriminator_image"] = discriminator_loss(real_scores, scores)
        update("image discriminator", losses["discriminator_image"])
        return losses

    def _generate(self, told: Tensor, batch: Batch, purpose: str) -> Tensor:
        """Draw styles and noise of every window from its own generator and paint from conditions (B, C, h, w)."""
        generators = batch.generators(purpose)
        styles = torch.cat([draw_styles(1, self.generator.depth, g, mixing=self.mixing) for g in generators])
        noise = torch.stack([torch.rand((1, *told.shape[2:]), generator=g) for g in generators])
        painted: Tensor = self.generator(told, styles.to(told.device), noise.to(told.device))
        return painted

    def _comparison(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the comparison with the real images, whose features are computed once."""
        if self.pixels_only:
            return lambda painted: image_loss(painted, image, image.new_zeros(()))
        if self.textures:
            with torch.no_grad():
                target = [image, *self._matched(image)]
            return lambda painted: texture_loss([painted, *self._matched(painted)], target, TEXTURE_WINDOWS)
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
