"""What trainings of generators share: paintings, how they are compared with real images, and discriminators."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cytoforge.losses import adversarial, image_loss, perceptual, texture_loss
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.style_unet import ImageGenerator, draw_styles
from cytoforge.training.hyperparameters import Perceptual
from cytoforge.training.samplers.items import Batch

TEXTURE_WINDOWS = (6, 4, 4, 4)  # elements: of the image, and of activations at 1/2, 1/4 and 1/8 of its size
VGG = "VGG-19"


@dataclass(frozen=True)
class Painting:
    """An image generator, its condition (a name in `instances.CONDITIONS`), and the probability of mixed styles."""

    generator: ImageGenerator
    condition: str = "mask"
    mixing: float = 0.9

    def __call__(self, given: Tensor, batch: Batch, purpose: str) -> Tensor:
        """Paint images (B, C, h, w) on conditions (B, K, h, w); each window has its own draws of styles and noise."""
        styles, noise = draw_painting(batch, purpose, self.generator.depth, self.mixing, given.shape[2:])
        painted: Tensor = self.generator(given, styles.to(given.device), noise.to(given.device))
        return painted


def draw_painting(
    batch: Batch, purpose: str, blocks: int, mixing: float, size: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Draw styles (B, blocks, 128) and noise (B, 1, *size) of a batch, each item from its own random generator."""
    generators = batch.generators(purpose)
    styles = torch.cat([draw_styles(1, blocks, g, mixing=mixing) for g in generators])
    return styles, torch.stack([torch.rand((1, *size), generator=g) for g in generators])


class Comparison(ABC):
    """Compares paintings with real images (the terms L1 + VGG of cGAN-Seg, Eq. 8 and 10)."""

    name: str | None
    """by what, besides pixels, images are compared; None for pixels alone"""

    @abstractmethod
    def __call__(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the loss of paintings (B, C, h, w) of these real images, whose features are computed once."""


class PixelComparison(Comparison):
    """L1 alone."""

    name = None

    def __call__(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the mean absolute difference."""
        return lambda painted: image_loss(painted, image, image.new_zeros(()))


class FeatureComparison(Comparison):
    """L1, and features: of VGG-19, or of the image discriminator at 1/2, 1/4 and 1/8 of the size."""

    def __init__(self, features: Callable[[Tensor], list[Tensor]], weights: tuple[float, ...], name: str) -> None:
        self.features, self.weights, self.name = features, weights, name

    def __call__(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """Return L1 plus the distance of the features."""
        with torch.no_grad():
            real = self.features(image)
        return lambda painted: image_loss(painted, image, perceptual(self.features(painted), real, self.weights))


class TextureComparison(Comparison):
    """Local statistics of pixels and of the discriminator's features, which do not pull paintings towards grey."""

    name = "local statistics of the image discriminator's features"

    def __init__(self, discriminator: nn.Module) -> None:
        self.features = discriminator_features(discriminator)

    def __call__(self, image: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the distance between the local statistics."""
        with torch.no_grad():
            target = [image, *self.features(image)]
        return lambda painted: texture_loss([painted, *self.features(painted)], target, TEXTURE_WINDOWS)


def comparison(kind: Perceptual, discriminator: nn.Module, vgg: VGG19Features | None) -> Comparison:
    """Return the comparison that hyperparameters name; with `vgg` its features replace the discriminator's."""
    if kind == "none":
        return PixelComparison()
    if vgg is not None:
        return FeatureComparison(vgg, vgg.weights, VGG)
    if kind == "statistics":
        return TextureComparison(discriminator)
    return FeatureComparison(discriminator_features(discriminator), (1.0,) * 3, "features of the image discriminator")


def discriminator_features(discriminator: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """Return the function from images to a discriminator's activations at 1/2, 1/4 and 1/8 of their size."""

    def features(images: Tensor) -> list[Tensor]:
        with frozen_statistics(discriminator):
            return list(cast(Any, discriminator).activations(images)[:3])

    return features


def score_fakes(discriminator: nn.Module, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Show fakes to a discriminator once, for the generator's step and for its own.

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
