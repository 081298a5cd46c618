"""The vid2vid recipe: the baseline of movie generators (Wang et al. 2018, Video-to-Video Synthesis), compact."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.cells.instances import CONDITIONS, condition
from cytoforge.losses import (
    adversarial,
    confidence,
    confident_difference,
    discriminator_loss,
    mean_difference,
    perceptual,
    temporal_loss,
    vid2vid_loss,
)
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.flow import reference_flow, warp
from cytoforge.networks.patchgan import MultiscalePatchGAN
from cytoforge.networks.vid2vid import LONGEST_FLOW, Sketch, Vid2Vid, compose
from cytoforge.training import hyperparameters
from cytoforge.training.recipes.networks import Described, build
from cytoforge.training.recipes.painting import VGG
from cytoforge.training.recipes.recipe import Course, Update, falling
from cytoforge.training.samplers.clips import ClipBatch
from cytoforge.training.samplers.items import Batch, item_generator

WINDOW = 3  # frames whose masks the generator sees, and which a temporal discriminator judges
LEAD = WINDOW - 1  # frames before the first to paint
WEIGHTS = 0.02  # standard deviation of the weights at the start
TIME_STEPS = (1, 3)  # frames between those that each temporal discriminator judges

Maps = list[list[Tensor]]


class Vid2VidGAN:
    """Generator of sketches, discriminator of frames with their masks, and one of three frames for each time step.

    Each frame of a clip is sketched from the masks of three frames and the two frames before it, real ones at first and
    painted ones then, through which no gradient goes; all networks are updated after each. A clip that begins as a
    painted movie does (`ClipBatch.cold`) has no frames before it: they are zeros, and nothing is moved into its first
    frame. Flows of real pairs come from `reference(previous, current)`, each pair once. Learning rates fall in the
    second half of the training.

    The features of the discriminators are always compared; with `vgg` those of VGG-19 are, too.
    """

    averaged: tuple[str, ...] = ("low-resolution",)

    def __init__(
        self,
        generator: Vid2Vid,
        discriminators: Sequence[MultiscalePatchGAN],
        parameters: hyperparameters.Vid2Vid,
        vgg: VGG19Features | None = None,
        reference: Callable[[Tensor, Tensor], Tensor] = reference_flow,
    ) -> None:
        """`discriminators` of frames, and of three frames for each of TIME_STEPS."""
        image_discriminator, *temporal = discriminators
        temporal_discriminators = nn.ModuleList(temporal)
        self.generator, self.image_discriminator = generator, image_discriminator
        self.temporal_discriminators = temporal_discriminators
        self.parameters, self.reference = parameters, reference
        self.vgg = vgg
        self.course: Course = falling
        self.perceptual: str | None = "features of the discriminators" if vgg is None else VGG
        self.networks: dict[str, nn.Module] = {
            "low-resolution": generator,
            "image_discriminator": image_discriminator,
            "temporal_discriminators": temporal_discriminators,
        }
        named = {name.replace("_", " "): network for name, network in self.networks.items() if network is not generator}
        self.optimisers: dict[str, Optimizer] = {
            name: Adam(network.parameters(), lr=parameters.rate, betas=(0.5, 0.999), fused=True)
            for name, network in {"generator": generator, **named}.items()
        }

    @classmethod
    def build(
        cls, parameters: hyperparameters.Vid2Vid, described: Described, seed: int, vgg: VGG19Features | None = None
    ) -> "Vid2VidGAN":
        """Build the networks, and the recipe that trains them."""
        channels = described["out_channels"]
        generator: Vid2Vid = build(Vid2Vid, seed, "generator", described)
        _draw(generator, seed, "generator")
        nn.init.zeros_(generator.motion.weight)  # nothing moves at first, and half of it is painted anew
        options = {"width": parameters.discriminator_width, "heads": 0, "norm": parameters.norm}
        inputs = (
            CONDITIONS[parameters.condition] + channels,
            *[WINDOW * channels + 2 * (WINDOW - 1)] * len(TIME_STEPS),
        )
        discriminators = []
        for number, count in enumerate(inputs):
            purpose = f"discriminator {number}"
            discriminators.append(build(MultiscalePatchGAN, seed, purpose, {"in_channels": count, **options}))
            _draw(discriminators[-1], seed, purpose)
        last: list[Any] = [patchgan.model for network in discriminators for patchgan in network.scales]
        for model in last:
            nn.init.zeros_(model[-1].weight)  # as drawn, scores are far from 0 and 1, and would outweigh all else
        return cls(generator, discriminators, parameters, vgg)

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Paint the frames of a ClipBatch one after the other, with updates after each; losses are means over them."""
        if not isinstance(batch, ClipBatch):
            raise TypeError("movies are trained on clips")
        frames, lead = batch.images, batch.lead
        conditions = torch.stack([condition(labels, self.parameters.condition) for labels in batch.labels])
        flow = cache(lambda earlier, later: self.reference(frames[:, earlier], frames[:, later]))
        shown: list[Tensor | None] = [None if batch.cold else frames[:, t] for t in range(lead)]
        found: dict[str, list[Tensor]] = {}
        for t in range(lead, frames.shape[1]):
            past = [
                torch.zeros_like(frames[:, t]) if frame is None else frame for frame in shown[-self.generator.past :]
            ]
            sketch: Sketch = self.generator(conditions[:, t + 1 - WINDOW : t + 1].flatten(1, 2), torch.cat(past, dim=1))
            before = shown[-1]
            painted = sketch.raw if before is None else compose(sketch, before)
            losses = self._update(update, frames, conditions[:, t], sketch, painted, shown, flow)
            for name, loss in losses.items():
                found.setdefault(name, []).append(loss.detach())
            shown.append(painted.detach())
        return {name: torch.stack(each).mean() for name, each in found.items()}

    def _update(
        self,
        update: Update,
        frames: Tensor,
        mask: Tensor,
        sketch: Sketch,
        painted: Tensor,
        shown: list[Tensor | None],
        flow: Callable[[int, int], Tensor],
    ) -> dict[str, Tensor]:
        """Update all networks for one painted frame, that which follows those `shown`."""
        t = len(shown)
        real, before = frames[:, t], shown[-1]
        fakes = [painted] if before is None else [painted, sketch.raw]
        scored = [
            Fakes(self.image_discriminator, torch.cat([mask, real], 1), [torch.cat([mask, fake], 1) for fake in fakes])
        ]
        for discriminator, step in zip(self.temporal_discriminators, TIME_STEPS, strict=True):
            times = (t - 2 * step, t - step)
            past = [shown[time] for time in times if time >= 0]
            if len(past) == 2 and past[0] is not None and past[1] is not None:
                flows = torch.cat([flow(*times), flow(times[1], t)], 1) / LONGEST_FLOW
                wanted = torch.cat([*(frames[:, time] for time in times), real, flows], 1)
                scored.append(Fakes(discriminator, wanted, [torch.cat([past[0], past[1], painted, flows], 1)]))
        w, terms = self.parameters.weights, self._comparisons(real, fakes)
        if before is not None:
            terms |= _motion_terms(sketch, painted, before, real, frames[:, t - 1], flow(t - 1, t))
        pulls = [each.pulls(w.adversarial, w.matching) for each in scored]
        given = tuple(pair for pairs in pulls for pair in pairs)
        update("generator", vid2vid_loss(terms, w), given=given)
        losses = {
            **terms,
            "adversarial": torch.stack([each.adversarial for each in scored]).sum(),
            "matching": torch.stack([each.matching for each in scored]).sum(),
            "discriminator": scored[0].loss(),
        }
        update("image discriminator", losses["discriminator"])
        if scored[1:]:
            losses["temporal_discriminator"] = torch.stack([each.loss() for each in scored[1:]]).sum()
            update("temporal discriminators", losses["temporal_discriminator"])
        return losses

    def _comparisons(self, real: Tensor, fakes: list[Tensor]) -> dict[str, Tensor]:
        """Return the differences of the painted frames and the real one."""
        terms = {"pixels": torch.stack([mean_difference(fake, real) for fake in fakes]).sum()}
        if self.vgg is not None:
            with torch.no_grad():
                target = self.vgg(real)
            found = [perceptual(self.vgg(fake), target, self.vgg.weights) for fake in fakes]
            terms["perceptual"] = torch.stack(found).sum()
        return terms


class Fakes:
    """Painted and real frames that one discriminator is shown once, for the generator's step and for its own."""

    def __init__(self, discriminator: nn.Module, real: Tensor, fakes: list[Tensor]) -> None:
        self.fakes = fakes
        self.leaves = [fake.detach().requires_grad_() for fake in fakes]
        self.real: Maps = discriminator(real)
        # views: tools that count operations hook into what a module is given
        self.found: list[Maps] = [discriminator(leaf.view_as(leaf)) for leaf in self.leaves]
        self.adversarial = torch.stack([adversarial(maps[-1], 1.0) for scales in self.found for maps in scales]).sum()
        self.matching = torch.stack([_matching(scales, self.real) for scales in self.found]).sum()

    def pulls(self, adversarial: float, matching: float) -> list[tuple[Tensor, Tensor]]:
        """Return each painting with the gradient of the generator's weighted losses; the graphs stay for `loss`."""
        gradients = torch.autograd.grad(
            adversarial * self.adversarial + matching * self.matching, self.leaves, retain_graph=True
        )
        return list(zip(self.fakes, gradients, strict=True))

    def loss(self) -> Tensor:
        """Return the discriminator's loss, summed over its scales and the paintings."""
        pairs = [(real[-1], fake[-1]) for scales in self.found for real, fake in zip(self.real, scales, strict=True)]
        return torch.stack([discriminator_loss(real, fake) for real, fake in pairs]).sum()


def _matching(found: Maps, wanted: Maps) -> Tensor:
    """Mean over scales of the summed differences of hidden maps."""
    terms = [perceptual(f[:-1], w[:-1], (1.0,) * (len(f) - 1)) for f, w in zip(found, wanted, strict=True)]
    return torch.stack(terms).mean()


def _motion_terms(
    sketch: Sketch, painted: Tensor, before: Tensor, real: Tensor, real_before: Tensor, flow: Tensor
) -> dict[str, Tensor]:
    """Return the losses of flow and mask; `flow` is the reference, relied on where it explains the real frame."""
    sure = confidence(real, real_before, flow)
    return {
        "flow": confident_difference(sketch.flow, flow, sure),
        "warp": temporal_loss(real, real_before, sketch.flow),
        "consistency": confident_difference(painted, warp(before, flow), sure),
        "mask": confident_difference(sketch.mask, torch.zeros_like(sure), sure),
    }


def _draw(network: nn.Module, seed: int, purpose: str) -> None:
    """Draw the weights of all convolutions from N(0, WEIGHTS), with biases of 0.

    So are those of pix2pix drawn (Isola et al. 2017, section 6.2), from which vid2vid descends. With Kaiming's rule,
    which draws them larger, steps of Adam turn them more slowly.
    """
    generator = item_generator(seed, 0, 0, f"{purpose}, drawn small")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=WEIGHTS, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def describe(parameters: hyperparameters.Vid2Vid, channels: int) -> Described:
    """Return kind and options of the generator of frames with so many channels."""
    return {
        "network": "vid2vid",
        "in_channels": WINDOW * CONDITIONS[parameters.condition],
        "out_channels": channels,
        "width": parameters.width,
        "depth": parameters.depth,
        "blocks": parameters.blocks,
        "norm": parameters.norm,
        "upsampling": parameters.upsampling,
    }
