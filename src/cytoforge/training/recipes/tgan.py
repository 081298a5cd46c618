"""The tgan recipe: a movie generator learns to paint the next frame of clips (tGAN, Figure 1B, Eq. 1 and 3)."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Adam, Optimizer, RMSprop

from cytoforge.cells.augment import PLACES, DiffAugment, apply_diff_augment, draw_diff_augment, only
from cytoforge.cells.instances import CONDITIONS, condition
from cytoforge.losses import (
    discriminator_loss,
    flow_loss,
    mean_difference,
    movie_generator_loss,
    perceptual,
    temporal_loss,
)
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.flow import FlowNet
from cytoforge.networks.movie import MovieGenerator, discriminator_input
from cytoforge.networks.style_unet import draw_styles
from cytoforge.training.hyperparameters import Movie, Stage
from cytoforge.training.recipes.networks import Described, build, build_discriminator, scale_noise, start_grey
from cytoforge.training.recipes.painting import VGG, discriminator_features, frozen_statistics, score_fakes
from cytoforge.training.recipes.recipe import Course, Update, annealed, one_cycle
from cytoforge.training.samplers.clips import ClipBatch
from cytoforge.training.samplers.items import Batch

MEMORY_NOISE = 0.1  # largest standard deviation of the noise on an earlier frame, which keeps errors from piling up
PATCH = 32  # px of a window between the points where an error of contrast is drawn


def build_painter(
    kind: Callable[..., nn.Module], seed: int, purpose: str, described: Described, parameters: Stage
) -> Any:
    """Build the generator of a stage; one that is drawn by Kaiming's rule begins with nearly grey paintings."""
    generator = build(kind, seed, purpose, described, parameters.initial)
    scale_noise(generator, parameters.noise_gain)
    if parameters.initial == "kaiming":
        start_grey(generator.outputs)
    return generator


def judged_channels(parameters: Movie, channels: int) -> int:
    """Return how many channels the discriminator is shown: of frames with so many each, and of their masks."""
    return parameters.window * (CONDITIONS[parameters.condition] + channels)


def describe_flow(parameters: Movie, channels: int) -> Described:
    """Return kind and options of the flow network of frames with so many channels."""
    return {
        "network": "flow",
        "channels": channels,
        "width": parameters.width,
        "norm": parameters.norm,
        "half_resolution": parameters.half_resolution,
    }


def optimiser(parameters: Stage, network: nn.Module, rate: float) -> Optimizer:
    """Return the optimiser of a network: Adam, or RMSprop with the published momentum and weight decay.

    Only the learning rate follows a schedule. torch's OneCycleLR would also replace the momentum, which the published
    program then never uses.
    """
    if parameters.optimiser == "adam":
        return Adam(network.parameters(), lr=rate, fused=True)
    return RMSprop(network.parameters(), lr=rate, alpha=0.99, eps=1e-8, momentum=0.9, weight_decay=1e-8)


class StageGAN:
    """What both stages of tGAN have: generator, discriminator, and how painted frames are compared with real ones.

    `vgg`: VGG-19 compares; without it the discriminator's activations are matched.
    """

    averaged: tuple[str, ...]

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        parameters: Stage,
        vgg: VGG19Features | None = None,
    ) -> None:
        self.discriminator, self.vgg = discriminator, vgg
        self.perceptual: str | None = "features of the discriminator" if vgg is None else VGG
        self.course: Course = one_cycle if parameters.one_cycle else annealed(parameters.anneal)
        self.networks: dict[str, nn.Module] = {self.averaged[0]: generator, "discriminator": discriminator}
        rate, discriminator_rate = parameters.generator_rate, parameters.discriminator_rate
        self.optimisers: dict[str, Optimizer] = {
            "generator": optimiser(parameters, generator, rate),
            "discriminator": optimiser(parameters, discriminator, discriminator_rate),
        }

    def comparison(self, real: Tensor, painted: Tensor, judged: tuple[Tensor, Tensor]) -> Tensor:
        """Return the distance of frames (B, C, h, w) in the features of VGG-19, or else of the discriminator.

        `judged` is what the discriminator is shown of the real and of the painted frames.
        """
        features: Callable[[Tensor], list[Tensor]] = discriminator_features(self.discriminator)
        weights: tuple[float, ...] = (1.0,) * 3
        pair = judged
        if self.vgg is not None:
            features, weights, pair = self.vgg, self.vgg.weights, (real, painted)
        with torch.no_grad():
            wanted = features(pair[0])
        return perceptual(features(pair[1]), wanted, weights)


class MovieGAN(StageGAN):
    """Movie generator, discriminator of the last frames and flow network, trained on clips (tGAN, Eq. 1 and 3).

    Each frame of a clip is painted from its masks, an earlier frame, the background, and the clip's style and noise;
    then the generator, the discriminator and the flow network are updated. For the first frames of a clip the earlier
    frame is a real one, or the background where the clip begins as a painted movie does (`ClipBatch.cold`); after that
    it is a painted one. It has noise on it, and no gradient goes through it. The discriminator judges `window` frames
    with their masks. The flow network learns by `temporal_loss` on real frames; the flow of a real pair is computed
    once.

    In quick trainings only the last frame of a clip is learned from (`learn_last`), and those before it are painted as
    `generate movie` paints them. From `in_use_from` on the last one, too, is normalised by running statistics. So every
    step sees other cells, and errors that grow from frame to frame grow as in use. The earlier frame gets a wrong
    contrast to its background (`contrast_error`), all over and in patches, so that the generator learns to bring cells
    back to their contrast. The generator's gradient is clipped to `max_gradient`.
    """

    averaged: tuple[str, ...] = ("low-resolution",)

    def __init__(
        self,
        generator: MovieGenerator,
        discriminator: nn.Module,
        flow: FlowNet,
        parameters: Movie,
        vgg: VGG19Features | None = None,
    ) -> None:
        super().__init__(generator, discriminator, parameters, vgg)
        self.generator, self.flow, self.parameters = generator, flow, parameters
        self.networks["flow"] = flow
        self.optimisers["flow"] = optimiser(parameters, flow, parameters.generator_rate)

    @classmethod
    def build(cls, parameters: Movie, described: Described, seed: int, vgg: VGG19Features | None = None) -> "MovieGAN":
        """Build the networks, and the recipe that trains them."""
        channels = described["out_channels"]
        generator = build_painter(MovieGenerator, seed, "generator", described, parameters)
        judged = judged_channels(parameters, channels)
        discriminator = build_discriminator(parameters, seed, "movie discriminator", judged, parameters.initial)
        flow = build(FlowNet, seed, "flow", describe_flow(parameters, channels), parameters.initial)
        return cls(generator, discriminator, flow, parameters, vgg)

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Paint the frames of a ClipBatch one after the other, with updates after each; losses are means over these."""
        if not isinstance(batch, ClipBatch):
            raise TypeError("movies are trained on clips")
        frames, lead, p = batch.images, batch.lead, self.parameters
        conditions = p.mask_value * torch.stack([condition(labels, p.condition) for labels in batch.labels])
        generators = batch.generators("paint")  # they go on from styles and noise to errors of the earlier frames
        styles = torch.cat([draw_styles(1, self.generator.blocks, g, mixing=p.style_mixing) for g in generators])
        noise = torch.stack([torch.rand((1, *frames.shape[3:]), generator=g) for g in generators])
        shift = draw_diff_augment(batch.generators("diff"), frames.shape, p.p_diff)
        given = [batch.backgrounds if batch.cold else frames[:, t] for t in range(lead)]
        shown: list[Tensor | None] = [None if batch.cold else frames[:, t] for t in range(lead)]
        learned = range(frames.shape[1] - 1 if p.learn_last else lead, frames.shape[1])
        self.generator.train(progress < p.in_use_from)
        sums: dict[str, Tensor] = {}
        for t in range(lead, frames.shape[1]):
            earlier = _imperfect(given[t - p.lag], batch.backgrounds, generators, p.contrast_error)
            masks = conditions[:, t + 1 - p.window : t + 1]
            with contextlib.nullcontext() if t in learned else _in_use(self.generator):
                painted: Tensor = self.generator(
                    masks.flatten(1, 2), earlier, batch.backgrounds, styles.to(frames.device), noise.to(frames.device)
                )
            if t in learned:
                real = frames[:, t + 1 - p.window : t + 1]
                for name, loss in self._update(update, masks, real, painted, shown, shift, batch, t).items():
                    sums[name] = loss.detach() + sums.get(name, 0.0)
            given.append(painted.detach())
            shown.append(painted.detach())
        return {name: total / len(learned) for name, total in sums.items()}

    def _update(
        self,
        update: Update,
        masks: Tensor,
        real: Tensor,
        painted: Tensor,
        shown: list[Tensor | None],
        shift: tuple[DiffAugment, ...],
        batch: ClipBatch,
        t: int,
    ) -> dict[str, Tensor]:
        """Update all three networks for one painted frame; `real` are the frames (B, window, C, h, w) of its masks."""
        current, before, p = batch.images[:, t], batch.images[:, t - 1], self.parameters
        past = [painted if frame is None else frame for frame in shown[t + 1 - p.window : t]]
        fake = torch.stack([*past, painted], dim=1)
        judged = _shown(masks, fake, shift)
        adversarial, pull, scores = score_fakes(self.discriminator, judged)
        both = discriminator_input(masks, real), discriminator_input(masks, fake)
        zero = adversarial.new_zeros(())
        losses = {
            "adversarial": adversarial,
            "pixels": mean_difference(painted, current),
            "perceptual": self.comparison(current, painted, both),
            "flow": zero,
            "temporal": zero,
        }
        painted_before = shown[t - 1]
        network_loss = None
        if painted_before is not None:  # the first frame of a cold clip has none to move from
            real_flow = self.flow(before, current)
            with frozen_statistics(self.flow):
                losses["flow"] = flow_loss(self.flow(before, painted), real_flow)
            losses["temporal"] = temporal_loss(painted, painted_before, real_flow.detach())
            network_loss = temporal_loss(current, before, real_flow)
        flow, pixels, likeness, temporal = (losses[name] for name in ("flow", "pixels", "perceptual", "temporal"))
        total = movie_generator_loss(zero, flow, pixels, likeness, temporal, p.weights)
        pulled = ((judged, p.weights.adversarial * pull),)
        update("generator", total, given=pulled, max_norm=p.max_gradient)
        losses["discriminator"] = discriminator_loss(self.discriminator(_shown(masks, real, shift)), scores)
        update("discriminator", losses["discriminator"])
        if network_loss is not None:
            losses["flow_network"] = network_loss
            update("flow", network_loss)
        return losses


@contextlib.contextmanager
def _in_use(network: nn.Module) -> Iterator[None]:
    """Run a network as a trained one is used: without gradient, normalised by its running statistics."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def _imperfect(frame: Tensor, background: Tensor, generators: list[torch.Generator], contrast: float) -> Tensor:
    """Put errors into frames (B, C, h, w), each from its own random generator: of contrast, and white noise."""
    noise = [MEMORY_NOISE * torch.rand((), generator=g) * torch.randn(frame.shape[1:], generator=g) for g in generators]
    if contrast:
        drawn = torch.stack([contrast * _patches(frame.shape[1:], g) for g in generators]).exp().to(frame.device)
        frame = (background + (frame - background) * drawn).clamp(-1, 1)
    return frame + torch.stack(noise).to(frame.device)


def _patches(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw a field (C, h, w): a number of variance 1, plus one that is drawn anew every PATCH px and interpolated."""
    channels, height, width = shape
    points = torch.randn(1, channels, *(math.ceil(side / PATCH) + 1 for side in (height, width)), generator=generator)
    field: Tensor = interpolate(points, (height, width), mode="bilinear", align_corners=True)[0]
    return field + torch.randn((), generator=generator)


def _shown(masks: Tensor, frames: Tensor, shift: tuple[DiffAugment, ...]) -> Tensor:
    """Return what the discriminator is shown of masks and frames (B, n, C, h, w), augmented by one draw for all."""
    moved = [apply_diff_augment(mask, only(shift, PLACES)) for mask in masks.unbind(1)]
    varied = [apply_diff_augment(frame, shift) for frame in frames.unbind(1)]
    return discriminator_input(torch.stack(moved, dim=1), torch.stack(varied, dim=1))
