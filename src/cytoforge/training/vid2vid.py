"""The vid2vid recipe: the baseline of movie generators (Wang et al. 2018, Video-to-Video Synthesis), compact."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.config import TrainMovie
from cytoforge.instances import CONDITIONS, condition
from cytoforge.losses import (
    VID2VID_WEIGHTS,
    Vid2VidWeights,
    adversarial,
    confidence,
    confident_difference,
    discriminator_loss,
    perceptual,
    temporal_loss,
    vid2vid_loss,
)
from cytoforge.networks.flow import reference_flow, warp
from cytoforge.networks.patchgan import MultiscalePatchGAN
from cytoforge.networks.vid2vid import LONGEST_FLOW, Sketch, Vid2Vid, compose
from cytoforge.training.batches import Batch
from cytoforge.training.clips import ClipBatch, Clips
from cytoforge.training.fit import Update
from cytoforge.training.generator import perceptual_network
from cytoforge.training.paired import Features
from cytoforge.training.prepare import build, sizes

WINDOW = 3  # frames whose masks the generator sees, and which a temporal discriminator judges
LEAD = WINDOW - 1  # frames before the first to paint
TIME_STEPS = (1, 3)  # frames between those that each temporal discriminator judges
LONGEST = 128  # most frames painted in a row
DOUBLINGS = 4  # lengths of sequences: every quarter of the training (five of twenty epochs) doubles them
RATE, QUICK_RATE = 2e-4, 1e-3  # learning rates: published, and for trainings of minutes
SMALL = 0.1  # standard deviation of paintings at the start, before tanh, on maps of 1: they start as grey

Maps = list[list[Tensor]]


class Sequences(Clips):
    """Clips that are as long as `first` frames to begin with, and double every quarter of the training."""

    def __init__(self, *args: Any, first: int, **options: Any) -> None:
        super().__init__(*args, lead=LEAD, longest=LONGEST, **options)
        self.first = first

    def length(self, progress: float) -> int:
        """Return how many frames of a clip are to paint at `progress` (0 to 1) of the training."""
        return min(self.first << min(int(DOUBLINGS * progress), DOUBLINGS - 1), self.longest)


class Vid2VidGAN:
    """Generator of sketches, discriminator of frames with their masks, and one of three frames for each time step.

    Each frame of a clip is sketched from the masks of three frames and the two frames before it, real ones at first and
    painted ones then, through which no gradient goes; all networks are updated after each. A clip that begins cold has
    no frames before it: they are zeros, and its first frame is what is painted anew alone. Flows of real pairs come
    from `reference(previous, current)`, each pair once. Learning rates fall in the second half of the training.

    `features`: VGG-19; without it the discriminators' features, which are always compared, stand alone.
    """

    averaged: tuple[str, ...] = ("low-resolution",)

    def __init__(
        self,
        generator: Vid2Vid,
        image_discriminator: MultiscalePatchGAN,
        temporal_discriminators: nn.ModuleList,
        *,
        rate: float = RATE,
        weights: Vid2VidWeights = VID2VID_WEIGHTS,
        kind: str = "mask",
        features: Features | None = None,
        feature_weights: tuple[float, ...] = (),
        reference: Callable[[Tensor, Tensor], Tensor] = reference_flow,
    ) -> None:
        self.generator, self.image_discriminator = generator, image_discriminator
        self.temporal_discriminators = temporal_discriminators
        self.rate, self.weights, self.kind, self.reference = rate, weights, kind, reference
        self.features, self.feature_weights = features, feature_weights
        self.perceptual: str | None = "features of the discriminators" if features is None else "VGG-19"
        self.networks: dict[str, nn.Module] = {
            "low-resolution": generator,
            "image_discriminator": image_discriminator,
            "temporal_discriminators": temporal_discriminators,
        }
        named = {name.replace("_", " "): network for name, network in self.networks.items() if network is not generator}
        self.optimisers: dict[str, Optimizer] = {
            name: Adam(network.parameters(), lr=rate, betas=(0.5, 0.999), fused=True)
            for name, network in {"generator": generator, **named}.items()
        }

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Paint the frames of a ClipBatch one after the other, with updates after each; losses are means over them."""
        if not isinstance(batch, ClipBatch):
            raise TypeError("movies are trained on clips")
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = self.rate * min(2 * (1 - progress), 1.0)
        frames, lead = batch.images, batch.lead
        told = torch.stack([condition(labels, self.kind) for labels in batch.labels])
        flow = cache(lambda earlier, later: self.reference(frames[:, earlier], frames[:, later]))
        shown: list[Tensor | None] = [None if batch.cold else frames[:, t] for t in range(lead)]
        found: dict[str, list[Tensor]] = {}
        for t in range(lead, frames.shape[1]):
            past = [
                torch.zeros_like(frames[:, t]) if frame is None else frame for frame in shown[-self.generator.past :]
            ]
            sketch: Sketch = self.generator(told[:, t + 1 - WINDOW : t + 1].flatten(1, 2), torch.cat(past, dim=1))
            before = shown[-1]
            painted = sketch.raw if before is None else compose(sketch, before)
            losses = self._update(update, frames, told[:, t], sketch, painted, shown, flow)
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
        games = [
            Game(self.image_discriminator, torch.cat([mask, real], 1), [torch.cat([mask, fake], 1) for fake in fakes])
        ]
        for discriminator, step in zip(self.temporal_discriminators, TIME_STEPS, strict=True):
            times = (t - 2 * step, t - step)
            past = [shown[time] for time in times if time >= 0]
            if len(past) == 2 and past[0] is not None and past[1] is not None:
                flows = torch.cat([flow(*times), flow(times[1], t)], 1) / LONGEST_FLOW
                wanted = torch.cat([*(frames[:, time] for time in times), real, flows], 1)
                games.append(Game(discriminator, wanted, [torch.cat([past[0], past[1], painted, flows], 1)]))
        w, terms = self.weights, self._comparisons(real, fakes)
        if before is not None:
            terms |= _motion_terms(sketch, painted, before, real, frames[:, t - 1], flow(t - 1, t))
        pulls = [game.pull(w.adversarial, w.matching) for game in games]
        total = vid2vid_loss(terms, w) if terms else painted.new_zeros((), requires_grad=True)  # the pulls are all then
        update("generator", total, given=tuple(pair for pairs in pulls for pair in pairs))
        losses = {
            **terms,
            "adversarial": torch.stack([game.adversarial for game in games]).sum(),
            "matching": torch.stack([game.matching for game in games]).sum(),
            "discriminator": games[0].loss(),
        }
        update("image discriminator", losses["discriminator"])
        if games[1:]:
            losses["temporal_discriminator"] = torch.stack([game.loss() for game in games[1:]]).sum()
            update("temporal discriminators", losses["temporal_discriminator"])
        return losses

    def _comparisons(self, real: Tensor, fakes: list[Tensor]) -> dict[str, Tensor]:
        if self.features is None:
            return {}
        with torch.no_grad():
            target = self.features(real)
        found = [perceptual(self.features(fake), target, self.feature_weights) for fake in fakes]
        return {"perceptual": torch.stack(found).sum()}


class Game:
    """One discriminator, what is real to it, and fakes, each shown to it once for both sides."""

    def __init__(self, discriminator: nn.Module, real: Tensor, fakes: list[Tensor]) -> None:
        self.fakes = fakes
        self.leaves = [fake.detach().requires_grad_() for fake in fakes]
        self.real: Maps = discriminator(real)
        # views: tools that count operations hook into what a module is given
        self.found: list[Maps] = [discriminator(leaf.view_as(leaf)) for leaf in self.leaves]
        self.adversarial = torch.stack([adversarial(maps[-1], 1.0) for scales in self.found for maps in scales]).sum()
        self.matching = torch.stack([_matching(scales, self.real) for scales in self.found]).sum()

    def pull(self, adversarial: float, matching: float) -> list[tuple[Tensor, Tensor]]:
        """Return each fake with the gradient of the generator's weighted losses; the graphs stay for `loss`."""
        gradients = torch.autograd.grad(
            adversarial * self.adversarial + matching * self.matching, self.leaves, retain_graph=True
        )
        return list(zip(self.fakes, gradients, strict=True))

    def loss(self) -> Tensor:
        """Return the discriminator's loss, summed over its scales and the fakes."""
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


def describe(config: TrainMovie, channels: int) -> dict[str, Any]:
    """Return the keyword arguments of the generator of a training, as config.json stores them."""
    return {
        "network": "vid2vid",
        "in_channels": WINDOW * CONDITIONS[config.told],
        "out_channels": channels,
        "width": 2 * sizes(config).width,
        "norm": config.norm,
    }


def build_recipe(config: TrainMovie, described: dict[str, Any]) -> Vid2VidGAN:
    """Build the networks, initialised from the seed, and the recipe that trains them."""
    preset, channels = sizes(config), described["out_channels"]
    generator: Vid2Vid = build(Vid2Vid, config.seed, "generator", described)
    # as drawn for many outputs, one output would start far beyond where tanh has a gradient, and stay there
    generator.outputs.weight.detach().mul_(described["width"] ** -0.5 * SMALL)
    nn.init.zeros_(generator.motion.weight)  # nothing moves at first, and half of it is painted anew
    judge = {"width": preset.discriminator_width, "heads": 0, "norm": config.norm}
    judged = CONDITIONS[config.told] + channels, *[WINDOW * channels + 2 * (WINDOW - 1)] * len(TIME_STEPS)
    image, *temporal = (
        build(MultiscalePatchGAN, config.seed, f"discriminator {number}", {"in_channels": count, **judge})
        for number, count in enumerate(judged)
    )
    last: list[Any] = [patchgan.model for network in (image, *temporal) for patchgan in network.scales]
    for model in last:
        nn.init.zeros_(model[-1].weight)  # as drawn, scores are far from 0 and 1, and would outweigh all else
    return Vid2VidGAN(
        generator,
        image,
        nn.ModuleList(temporal),
        rate=RATE if preset.paper_weights else QUICK_RATE,
        kind=config.told,
        **perceptual_network(config),
    )
