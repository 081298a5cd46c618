"""`cytoforge train movie`: from an annotated movie to a run folder with a movie generator in it (tGAN, Figure 1B).

The second stage is that of `super_resolution`.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Adam, Optimizer

from cytoforge.augment import DiffAugment, apply_diff_augment, draw_diff_augment, places_only
from cytoforge.backgrounds import fitted
from cytoforge.config import TrainMovie
from cytoforge.data.dataset import Dataset
from cytoforge.data.movie import no_movie
from cytoforge.data.run import BACKGROUNDS, Run
from cytoforge.inference.generate_movie import FramePainter, SequencePainter, Vid2VidPainter, seen
from cytoforge.inference.load import load_network
from cytoforge.instances import CONDITIONS, condition
from cytoforge.losses import (
    MOVIE_WEIGHTS,
    MovieWeights,
    discriminator_loss,
    flow_loss,
    mean_difference,
    movie_generator_loss,
    perceptual,
    temporal_loss,
)
from cytoforge.metrics.texture import texture_distance
from cytoforge.networks.flow import FlowNet
from cytoforge.networks.movie import MovieGenerator, discriminator_input
from cytoforge.networks.style_unet import StyleGenerator, draw_styles
from cytoforge.networks.vid2vid import Vid2Vid
from cytoforge.report import colour_labels, mosaic, to_rgb
from cytoforge.training import vid2vid
from cytoforge.training.batches import Batch, item_generator
from cytoforge.training.clips import ClipBatch, Clips, sequence_backgrounds, takes
from cytoforge.training.fit import Recipe, Update, trained_in, verdict
from cytoforge.training.generator import QUICK_JUDGE, build_discriminator, perceptual_network, quieten
from cytoforge.training.paired import Features, frozen_statistics, judge
from cytoforge.training.prepare import Data, build, launch, open_data, open_run, report_training, sizes, train_recipe

# for trainings of minutes, where the discriminator's features take the place of VGG-19; docs/decisions.md
QUICK = MovieWeights(adversarial=5.0, flow=2.0, pixels=25.0, perceptual=25.0, temporal=5.0)
BLUR_OF_MEMORY = 0.1  # most noise on an earlier frame (standard deviation), so that errors do not pile up
CONTRAST_OF_MEMORY = 0.4  # by how much its contrast is wrong (standard deviation of the logarithm), likewise
PATCH = 32  # px of a window between the points where that is drawn
MAX_GRADIENT_NORM = 20.0  # of the generator in quick trainings: its spikes reach a hundred times that
IN_USE_FROM = 0.5  # share of a quick training after which the generator normalises as in use
SMALL = 0.1  # standard deviation of paintings at the start, before tanh, on maps of 1: they start as grey
SHOWN = 4  # frames of a picture
VALIDATED = 8  # frames painted in a row for the validation score
VALIDATION_WINDOW = 256  # px of their sides at most: whole frames take a laptop too long


class StageGAN:
    """What both stages have in common: generator, discriminator, and how painted frames are compared with real ones.

    `features`: VGG-19; without it the discriminator's activations are matched.
    """

    averaged: tuple[str, ...]

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_rate: float,
        discriminator_rate: float,
        features: Features | None = None,
        feature_weights: tuple[float, ...] = (),
        p_diff: float = 0.2,
        mixing: float = 0.9,
    ) -> None:
        self.discriminator, self.p_diff, self.mixing = discriminator, p_diff, mixing
        self.features, self.feature_weights = features, feature_weights
        self.perceptual: str | None = "features of the discriminator" if features is None else "VGG-19"
        self.networks: dict[str, nn.Module] = {self.averaged[0]: generator, "discriminator": discriminator}
        self.optimisers: dict[str, Optimizer] = {
            "generator": Adam(generator.parameters(), lr=generator_rate, fused=True),
            "discriminator": Adam(discriminator.parameters(), lr=discriminator_rate, fused=True),
        }

    def comparison(self, real: Tensor, painted: Tensor, judged: tuple[Tensor, Tensor]) -> Tensor:
        """Compare frames (B, C, h, w) as VGG-19 sees both, or else the discriminator.

        `judged` is what the discriminator is shown of the real and of the painted frames.
        """
        if self.features is not None:
            with torch.no_grad():
                target = self.features(real)
            return perceptual(self.features(painted), target, self.feature_weights)
        activations: Any = self.discriminator.activations
        with frozen_statistics(self.discriminator):
            with torch.no_grad():
                wanted = activations(judged[0])[:3]
            return perceptual(activations(judged[1])[:3], wanted, (1.0,) * 3)


class MovieGAN(StageGAN):
    """Movie generator, discriminator of the last frames and flow network, trained on clips (tGAN, Eq. 1 and 3).

    Each frame of a clip is painted from its masks, an earlier frame, the background, and the clip's style and noise;
    the generator, the discriminator and the flow network are then updated. The earlier frame is real for the first
    frames of a clip (or the background, where the clip begins cold) and a painted one after that, with noise on it; no
    gradient goes through it. `window` frames are judged, with their masks. Of flow network and real frames
    `temporal_loss` is the loss; what it makes of a real pair is computed once. Other options are those of `StageGAN`.

    `quick`: of a clip only the last frame is learned from, those before it are painted as `generate movie` does; from
    IN_USE_FROM on so is the last, by running statistics. So every step sees other cells, and errors that grow from
    frame to frame are those of use. The earlier frame departs from its background more or less than it should, all over
    and in patches, so that cells are brought back to their contrast instead of fading or glaring. The generator's
    gradient is clipped.
    """

    averaged: tuple[str, ...] = ("low-resolution",)

    def __init__(
        self,
        generator: MovieGenerator,
        discriminator: nn.Module,
        flow: FlowNet,
        *,
        weights: MovieWeights,
        generator_rate: float,
        kind: str = "mask",
        window: int = 2,
        lag: int = 1,
        quick: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(generator, discriminator, generator_rate=generator_rate, **options)
        self.generator, self.flow = generator, flow
        self.weights, self.kind, self.window, self.lag, self.quick = weights, kind, window, lag, quick
        self.networks["flow"] = flow
        self.optimisers["flow"] = Adam(flow.parameters(), lr=generator_rate, fused=True)

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Paint the frames of a ClipBatch one after the other, with updates after each; losses are means over these."""
        if not isinstance(batch, ClipBatch):
            raise TypeError("movies are trained on clips")
        frames, lead = batch.images, batch.lead
        told = torch.stack([condition(labels, self.kind) for labels in batch.labels])
        generators = batch.generators("paint")
        styles = torch.cat([draw_styles(1, self.generator.blocks, g, mixing=self.mixing) for g in generators])
        noise = torch.stack([torch.rand((1, *frames.shape[3:]), generator=g) for g in generators])
        shift = draw_diff_augment(batch.generators("diff"), frames.shape, self.p_diff)
        given = [batch.backgrounds if batch.cold else frames[:, t] for t in range(lead)]
        shown: list[Tensor | None] = [None if batch.cold else frames[:, t] for t in range(lead)]
        learned = range(frames.shape[1] - 1 if self.quick else lead, frames.shape[1])
        contrast = CONTRAST_OF_MEMORY if self.quick else 0.0
        self.generator.train(not self.quick or progress < IN_USE_FROM)
        sums: dict[str, Tensor] = {}
        for t in range(lead, frames.shape[1]):
            earlier = _remembered(given[t - self.lag], batch.backgrounds, generators, contrast)
            masks = told[:, t + 1 - self.window : t + 1]
            with contextlib.nullcontext() if t in learned else _in_use(self.generator):
                painted: Tensor = self.generator(
                    masks.flatten(1, 2), earlier, batch.backgrounds, styles.to(frames.device), noise.to(frames.device)
                )
            if t in learned:
                real = frames[:, t + 1 - self.window : t + 1]
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
        current, before, w = batch.images[:, t], batch.images[:, t - 1], self.weights
        past = [painted if frame is None else frame for frame in shown[t + 1 - self.window : t]]
        fake = torch.stack([*past, painted], dim=1)
        judged = _shown(masks, fake, shift)
        adversarial, pull, scores = judge(self.discriminator, judged)
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
        flow_net = None
        if painted_before is not None:  # a cold clip's first frame moves from nowhere
            real_flow = self.flow(before, current)
            with frozen_statistics(self.flow):
                losses["flow"] = flow_loss(self.flow(before, painted), real_flow)
            losses["temporal"] = temporal_loss(painted, painted_before, real_flow.detach())
            flow_net = temporal_loss(current, before, real_flow)
        flow, pixels, likeness, temporal = (losses[name] for name in ("flow", "pixels", "perceptual", "temporal"))
        total = movie_generator_loss(zero, flow, pixels, likeness, temporal, w)
        max_norm = MAX_GRADIENT_NORM if self.quick else None
        update("generator", total, given=((judged, w.adversarial * pull),), max_norm=max_norm)
        losses["discriminator"] = discriminator_loss(self.discriminator(_shown(masks, real, shift)), scores)
        update("discriminator", losses["discriminator"])
        if flow_net is not None:
            losses["flow_network"] = flow_net
            update("flow", flow_net)
        return losses


@contextlib.contextmanager
def _in_use(network: nn.Module) -> Iterator[None]:
    """Let a network do as in use: without gradient, normalised by its running statistics."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def _remembered(frame: Tensor, background: Tensor, generators: list[torch.Generator], contrast: float) -> Tensor:
    """Err on frames (B, C, h, w), each by its own generator: in contrast to the background, and by white noise."""
    blur = [
        BLUR_OF_MEMORY * torch.rand((), generator=g) * torch.randn(frame.shape[1:], generator=g) for g in generators
    ]
    if contrast:
        drawn = torch.stack([contrast * _patches(frame.shape[1:], g) for g in generators]).exp().to(frame.device)
        frame = (background + (frame - background) * drawn).clamp(-1, 1)
    return frame + torch.stack(blur).to(frame.device)


def _patches(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw a field (C, h, w): a number of variance 1, and another one that changes from point to point, every PATCH."""
    channels, height, width = shape
    points = torch.randn(1, channels, *(math.ceil(side / PATCH) + 1 for side in (height, width)), generator=generator)
    field: Tensor = interpolate(points, (height, width), mode="bilinear", align_corners=True)[0]
    return field + torch.randn((), generator=generator)


def _shown(masks: Tensor, frames: Tensor, shift: tuple[DiffAugment, ...]) -> Tensor:
    """Return what the discriminator is shown of masks and frames (B, n, C, h, w), augmented by one draw for all."""
    moved = [apply_diff_augment(mask, places_only(shift)) for mask in masks.unbind(1)]
    varied = [apply_diff_augment(frame, shift) for frame in frames.unbind(1)]
    return discriminator_input(torch.stack(moved, dim=1), torch.stack(varied, dim=1))


def train(config: TrainMovie) -> Run:
    """Train the stages asked for and write their run folder; go on with it if an earlier call was interrupted.

    Raises UserError on unusable data or settings and Interrupted after a signal, with everything saved.
    """
    if config.stage != "low-resolution":
        from cytoforge.training.super_resolution import train_stages  # it trains first stages with this very function

        return train_stages(config, train)
    fabric = launch(config)
    data = open_movie(config)
    clips = cut_clips(config, data, (fabric.global_rank, fabric.world_size))
    tgan = config.method == "tgan"
    described = (describe if tgan else vid2vid.describe)(config, data.channels)
    recipe: Recipe = (build_recipe if tgan else vid2vid.build_recipe)(config, described)
    content = {
        "command": "train movie",
        "networks": {"low-resolution": described},
        "perceptual": recipe.perceptual,
        "lag": config.lag,
        "limits": data.limits,
    }
    run = open_run(config, fabric, data, content)
    bank = sequence_backgrounds(data.items, data.read)
    if tgan and fabric.global_rank == 0:
        run.save_weights(BACKGROUNDS, {name: torch.from_numpy(reference) for name, reference in bank.items()})
    held = _held(data, bank)

    def validate(averages: dict[str, nn.Module]) -> float:
        """One less the distance between the textures of held-out frames and of what is painted on their masks."""
        painted = [frame for take in held for frame in _roll(config, averages, *take[1:])]
        real = [image for take in held for image in take[0]]
        return max(1 - texture_distance(real, painted, np.random.default_rng(config.seed)), 0.0)

    def picture(averages: dict[str, nn.Module], step: int) -> None:
        """Write samples/step-N.png: above each other masks, real and painted frames in a row."""
        strip = mosaic(_panels(config, averages, held[0]))
        run.save_sample(step, strip)

    state = train_recipe(
        config, fabric, recipe, data, clips, run, words="train movie", validate=validate, picture=picture
    )
    if fabric.global_rank == 0:
        networks = {"low-resolution": load_network(run, "low-resolution")}
        masks, real, painted = _panels(config, networks, held[0])
        names = [name for name, _, _ in data.validation]
        report_training(
            run,
            verdict(state),
            paintings=[(n, [r, m, p]) for n, r, m, p in zip(names, real, masks, painted, strict=False)],
        )
        steps, proceed = trained_in(state), f"cytoforge generate movie {config.out} MASKS --out OUT"
        print(f"{config.out}: movie generator trained in {steps}; {proceed}")
    return run


def open_movie(config: TrainMovie) -> Data:
    """Read and split the movie that a configuration names; raises UserError when it is none, besides `open_data`."""
    if any(item.frame is None for item in Dataset.open(config.data, config.sequence).items):
        raise no_movie(config.data)
    return open_data(config, movie=True)


def cut_clips(config: TrainMovie, data: Data, ranks: tuple[int, int]) -> Clips:
    """Return the share of clips of a process (its number, number of processes), cut as a configuration says."""
    preset = sizes(config)
    options: dict[str, Any] = {
        "size": preset.movie_crop,
        "count": preset.cycle_batch,
        "policy": config.augmentation,
        "seed": config.seed,
        "ranks": ranks,
    }
    if config.method == "vid2vid":
        return vid2vid.Sequences(data.items, data.read, first=preset.clip, **options)
    lead, drawn = max(config.window - 1, config.lag), not preset.paper_weights
    return Clips(data.items, data.read, lead=lead, longest=preset.clip, drawn=drawn, **options)


Held = tuple[list[np.ndarray], list[np.ndarray], np.ndarray]


def _held(data: Data, bank: dict[str, np.ndarray]) -> list[Held]:
    """Return images, labels and a background, of training frames, for each stretch of validation frames.

    Of larger frames it is the window of VALIDATION_WINDOW px with the most cells.
    """
    found = []
    for number, take in enumerate(takes(data.held)):
        shown = [data.validation[i] for i in take][:VALIDATED]
        group = str(data.held[take.start].group)
        reference = bank[group if group in bank else sorted(bank)[0]]
        size = shown[0][2].shape
        background = fitted(reference, (size[0], size[1]), np.random.default_rng(number))
        cells = np.any([mask > 0 for _, _, mask in shown], axis=0)
        around = ndimage.uniform_filter(cells.astype(np.float32), VALIDATION_WINDOW, mode="constant")
        middle = np.unravel_index(np.argmax(around), size)
        view = (..., _window(int(middle[0]), size[0]), _window(int(middle[1]), size[1]))
        found.append(([image[view] for _, image, _ in shown], [mask[view] for _, _, mask in shown], background[view]))
    return found


def _window(middle: int, side: int) -> slice:
    """Return the part of VALIDATION_WINDOW px of a side about a place, moved inwards at an end."""
    start = max(min(middle - VALIDATION_WINDOW // 2, side - VALIDATION_WINDOW), 0)
    return slice(start, start + VALIDATION_WINDOW)


def _roll(
    config: TrainMovie,
    networks: dict[str, nn.Module],
    labels: list[np.ndarray],
    background: np.ndarray,
) -> list[np.ndarray]:
    """Paint the first frames of a movie (C, H, W) in [-1, 1], as `generate movie` does."""
    generator = networks["low-resolution"]
    if isinstance(generator, Vid2Vid):
        painter: SequencePainter = Vid2VidPainter(generator, labels[0].shape, kind=config.told, window=vid2vid.WINDOW)
    else:
        assert isinstance(generator, MovieGenerator)
        draw, mixing = item_generator(0, 0, 0, "picture"), config.style_mixing
        painter = FramePainter(
            generator, background, draw, kind=config.told, window=config.window, lag=config.lag, mixing=mixing
        )
    return [seen(painter.paint(mask)) for mask in labels]


def _panels(config: TrainMovie, networks: dict[str, nn.Module], held: Held) -> list[list[np.ndarray]]:
    images, labels, background = held
    painted = _roll(config, networks, labels[:SHOWN], background)
    return [
        [colour_labels(mask) for mask in labels[:SHOWN]],
        [to_rgb(image) for image in images[:SHOWN]],
        [to_rgb(image) for image in painted],
    ]


def describe(config: TrainMovie, channels: int) -> dict[str, Any]:
    """Return the keyword arguments of the movie generator of a training, as config.json stores them."""
    preset = sizes(config)
    return {
        "network": "movie",
        "in_channels": config.window * CONDITIONS[config.told],
        "out_channels": channels,
        "width": preset.width,
        "depth": preset.depth,
        "norm": config.norm,
        "upsampling": preset.upsampling,
        "residual": not preset.paper_weights,
    }


def build_recipe(config: TrainMovie, described: dict[str, Any]) -> MovieGAN:
    """Build the networks, initialised from the seed, and the recipe that trains them."""
    preset, channels = sizes(config), described["out_channels"]
    generator = build(MovieGenerator, config.seed, "generator", described)
    if not preset.paper_weights:
        quieten(generator)
    start_grey(generator)
    flow = {"channels": channels, "width": preset.width, "norm": config.norm, "half_resolution": True}
    judged = config.window * (CONDITIONS[config.told] + channels)
    return MovieGAN(
        generator,
        build_discriminator(config, "movie discriminator", judged),
        build(FlowNet, config.seed, "flow", flow),
        weights=MOVIE_WEIGHTS if preset.paper_weights else QUICK,
        generator_rate=preset.generator_rate,
        discriminator_rate=preset.discriminator_rate if preset.paper_weights else QUICK_JUDGE,
        kind=config.told,
        window=config.window,
        lag=config.lag,
        quick=not preset.paper_weights,
        p_diff=config.p_diff,
        mixing=config.style_mixing,
        **perceptual_network(config),
    )


def start_grey(generator: StyleGenerator) -> None:
    """Let a generator with tanh at its end begin with nearly grey paintings.

    As drawn for many outputs, one output would start far beyond where tanh has a gradient, and stay there.
    """
    generator.outputs.weight.detach().mul_(generator.outputs.in_channels**-0.5 * SMALL)
