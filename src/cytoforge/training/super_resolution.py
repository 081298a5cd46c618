"""The second stage of `cytoforge train movie`: a generator that enlarges frames (tGAN, Figure 1C).

With --stage both the run of the first stage lies in RUN/stages/low-resolution. Either way RUN holds both networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cytoforge.augment import apply_diff_augment, draw_diff_augment
from cytoforge.backgrounds import fitted
from cytoforge.config import TrainMovie
from cytoforge.data.dataset import Item
from cytoforge.data.run import BACKGROUNDS, STAGES, Run
from cytoforge.errors import UserError
from cytoforge.inference.enlarge import Enlarger, padded
from cytoforge.inference.generate_movie import Studio, reduced, seen
from cytoforge.inference.load import load_network
from cytoforge.losses import (
    SUPER_RESOLUTION_WEIGHTS,
    SuperResolutionWeights,
    discriminator_loss,
    mean_difference,
    super_resolution_loss,
)
from cytoforge.metrics.texture import texture_distance
from cytoforge.networks.movie import MovieGenerator, SuperResolution
from cytoforge.networks.style_unet import draw_styles
from cytoforge.progress import counted, say
from cytoforge.report import colour_labels, mosaic, to_rgb
from cytoforge.training.batches import Batch, Pair, cached, item_generator
from cytoforge.training.clips import sequence_backgrounds, takes
from cytoforge.training.fit import Update, trained_in, verdict
from cytoforge.training.generator import QUICK_JUDGE, build_discriminator, perceptual_network, quieten
from cytoforge.training.movie import SHOWN, VALIDATED, StageGAN, open_movie, start_grey
from cytoforge.training.paired import judge
from cytoforge.training.prepare import Data, build, launch, open_run, report_training, sizes, train_recipe
from cytoforge.training.two_stage import finished, open_stages, share_of

FIRST = 0.6  # share of the budget for the first stage, which has more to learn: motion, and cells out of masks
PAINTED = 0.5  # share of the windows that the first stage painted; the others are real frames, reduced
STYLES = 2  # movies painted on the training masks, each in a style of its own
# for trainings of minutes, where the discriminator's features take the place of VGG-19; docs/decisions.md
QUICK = SuperResolutionWeights(adversarial=5.0, pixels=25.0, perceptual=25.0)
Frame = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Windows (B, C, f h, f w) of one step beside what is to be enlarged to them; `synthetic` if that was painted."""

    small: Tensor
    """(B, C, h, w) in [-1, 1]"""

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device; the draws stay on the CPU."""
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, small=self.small.to(device))


class Pairs:
    """Cuts windows out of frames and out of the same frames, small: reduced, or painted on the same masks.

    `read(i)` gives image (C, H, W) and labels (H, W) of frame i, `painted[i]` its paintings (C, h, w) as grey values,
    h and w a `factor`-th of H and W, rounded up. `size` is that of the small windows; smaller frames are continued by
    reflection. Windows are only flipped, and turned by quarters where they are square: whatever resamples a frame
    softens the detail that is to be learned.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Pair],
        painted: Sequence[Sequence[Frame]],
        *,
        factor: int,
        size: tuple[int, int],
        count: int,
        seed: int,
        ranks: tuple[int, int] = (0, 1),
    ) -> None:
        self.names, self.painted, self.factor, self.size = names, painted, factor, size
        self.count, self.seed, self.ranks = count, seed, ranks

        def whole(i: int) -> Pair:
            image, labels = read(i)
            return padded(image, factor), padded(labels, factor)

        self._read = cached(whole)

    def __call__(self, step: int, progress: float = 0.0) -> PairBatch:
        """Return this process's share of the windows of a step."""
        rank, world = self.ranks
        places = tuple(range(rank, self.count * world, world))
        images, labels, small, names, painted = zip(*(self._window(step, place) for place in places), strict=True)
        stacked = torch.from_numpy(np.stack(labels)).long()
        return PairBatch(
            torch.stack(images), stacked, self.seed, step, places, names, painted, small=torch.stack(small)
        )

    def _window(self, step: int, place: int) -> tuple[Tensor, np.ndarray, Tensor, str, bool]:
        draw = np.random.default_rng(item_generator(self.seed, step, place, "window").initial_seed())
        i, factor = int(draw.integers(len(self.names))), self.factor
        image, labels = self._read(i)
        painted, style = bool(draw.random() < PAINTED), int(draw.integers(len(self.painted[i])))
        room = [max(have // factor - want, 0) for have, want in zip(labels.shape, self.size, strict=True)]
        top, left = (int(draw.integers(most + 1)) for most in room)
        turns = draw.random(3) < 0.5

        def cut(array: np.ndarray, factor: int) -> np.ndarray:
            """Cut the window, continue it by reflection where the frame is smaller, and turn it."""
            height, width = (factor * side for side in self.size)
            window = array[..., factor * top : factor * top + height, factor * left : factor * left + width]
            lacking = [(0, height - window.shape[-2]), (0, width - window.shape[-1])]
            window = np.pad(window, [(0, 0)] * (window.ndim - 2) + lacking, mode="symmetric")
            window = window[..., :: 1 - 2 * int(turns[0]), :: 1 - 2 * int(turns[1])]
            turned = window.swapaxes(-1, -2) if turns[2] and height == width else window
            return np.ascontiguousarray(turned)

        whole = torch.from_numpy(cut(image, factor))
        small = torch.from_numpy(cut(seen(self.painted[i][style]), 1)) if painted else shrink(whole[None], factor)[0]
        return whole, cut(labels, factor), small, self.names[i], painted


def shrink(images: Tensor, factor: int) -> Tensor:
    """Reduce images (B, C, H, W) to (B, C, H / factor, W / factor), by the kernel of `data.images.resize_image`."""
    return F.interpolate(images, scale_factor=1 / factor, mode="bilinear", antialias=True)


class SuperResolutionGAN(StageGAN):
    """Super-resolution generator and discriminator of single frames (tGAN, Eq. 2 and 3).

    Real frames, reduced, are compared with themselves pixel by pixel. A painted frame has no such counterpart: enlarged
    and reduced again, it shall be what it was, so that motion and brightness stay those of the first stage. In look
    (`comparison`) and to the discriminator both shall be like the real frame. Options are those of `StageGAN`.
    """

    averaged: tuple[str, ...] = ("super-resolution",)

    def __init__(
        self,
        generator: SuperResolution,
        discriminator: nn.Module,
        *,
        weights: SuperResolutionWeights,
        **options: Any,
    ) -> None:
        super().__init__(generator, discriminator, **options)
        self.generator, self.weights = generator, weights

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Enlarge the small windows of a PairBatch and update generator and discriminator once."""
        if not isinstance(batch, PairBatch):
            raise TypeError("super-resolution is trained on pairs")
        real, w, generators = batch.images, self.weights, batch.generators("enlarge")
        styles = torch.cat([draw_styles(1, self.generator.blocks, g, mixing=self.mixing) for g in generators])
        noise = torch.stack([torch.rand((1, *real.shape[2:]), generator=g) for g in generators])
        enlarged: Tensor = self.generator(batch.small, styles.to(real.device), noise.to(real.device))
        shift = draw_diff_augment(batch.generators("diff"), real.shape, self.p_diff)
        judged = apply_diff_augment(enlarged, shift)
        adversarial, pull, scores = judge(self.discriminator, judged)
        losses = {
            "adversarial": adversarial,
            "pixels": self._pixels(batch, enlarged),
            "perceptual": self.comparison(real, enlarged, (real, enlarged)),
        }
        total = super_resolution_loss(adversarial.new_zeros(()), losses["pixels"], losses["perceptual"], w)
        update("generator", total, given=((judged, w.adversarial * pull),))
        losses["discriminator"] = discriminator_loss(self.discriminator(apply_diff_augment(real, shift)), scores)
        update("discriminator", losses["discriminator"])
        return losses

    def _pixels(self, batch: PairBatch, enlarged: Tensor) -> Tensor:
        again = shrink(enlarged.float(), self.generator.factor)
        return torch.stack(
            [
                mean_difference(again[k], batch.small[k]) if painted else mean_difference(enlarged[k], batch.images[k])
                for k, painted in enumerate(batch.synthetic)
            ]
        ).mean()


def train_stages(config: TrainMovie, train: Callable[[TrainMovie], Run]) -> Run:
    """Train the second stage or, with `train` for the first, both; go on where an earlier call was interrupted.

    Raises UserError and Interrupted as all training does.
    """
    if config.stage == "super-resolution":
        return _train(config)
    stages = config.out / STAGES
    open_stages(config, stages)
    first = Run.stage(config.out, "low-resolution")
    if not finished(first):
        say(["1 of 2: the low-resolution generator"])
        small = replace(config, out=first, stage="low-resolution", scale=config.scale / config.factor, overwrite=False)
        train(replace(small, **share_of(config, FIRST)))
    say(["2 of 2: the super-resolution generator"])
    share = share_of(config, 1 - FIRST)
    return _train(replace(config, stage="super-resolution", start=first, overwrite=False, **share))


def _train(config: TrainMovie) -> Run:
    """Train a generator that enlarges the frames of the run `config.start`, and write a run with both in it."""
    first = _open_first(config)
    config = replace(config, condition=first.settings.condition)
    fabric = launch(config)
    data = open_movie(config)
    painting, factor = load_network(first, "low-resolution", fabric.device), config.factor
    if not isinstance(painting, MovieGenerator) or painting.outputs.out_channels != data.channels:
        raise UserError(f"{first.path}: paints no frames of {counted(data.channels, 'channel')}, as {config.data} has")
    described = describe(config, data.channels)
    recipe = build_recipe(config, described)
    kept: dict[str, Any] = {key: first.config[key] for key in ("lag", "mask_value") if key in first.config}
    content: dict[str, Any] = {
        "command": "train movie",
        "networks": {
            "low-resolution": first.config["networks"]["low-resolution"],
            "super-resolution": described,
        },
        "first_stage": first.fingerprint("low-resolution", ("condition", "scale", *kept)),
        "perceptual": recipe.perceptual,
        "limits": data.limits,
        **kept,
    }
    run = open_run(config, fabric, data, content)
    bank = {name: _small(image, factor) for name, image in sequence_backgrounds(data.items, data.read).items()}
    if fabric.global_rank == 0:
        run.save_weights(BACKGROUNDS, {name: torch.from_numpy(image) for name, image in bank.items()})
        run.save_weights("low-resolution", first.load_weights("low-resolution"))
    studio = Studio(painting, None, first.settings, bank, "")
    pairs = Pairs(
        data.names,
        data.read,
        _paint(studio, data.items, lambda i: data.read(i)[1], config, STYLES),
        factor=factor,
        size=sizes(config).movie_crop,
        count=sizes(config).cycle_batch,
        seed=config.seed,
        ranks=(fabric.global_rank, fabric.world_size),
    )
    held = _held(studio, data, config)

    def validate(averages: Mapping[str, nn.Module]) -> float:
        """One less the distance between the textures of held-out frames and of what both stages make of their masks."""
        enlarged = [frame for take in held for frame in take.enlarged(averages["super-resolution"], config)]
        real = [image for take in held for image in take.images]
        return max(1 - texture_distance(real, enlarged, np.random.default_rng(config.seed)), 0.0)

    def picture(averages: Mapping[str, nn.Module], step: int) -> None:
        """Write samples/step-N.png: above each other real, painted and enlarged frames in a row."""
        _, *rows = held[0].panels(averages["super-resolution"], config)
        run.save_sample(step, mosaic(rows))

    state = train_recipe(
        config, fabric, recipe, data, pairs, run, words="train movie", validate=validate, picture=picture
    )
    if fabric.global_rank == 0:
        masks, real, small, enlarged = held[0].panels(load_network(run, "super-resolution"), config)
        report_training(
            run,
            verdict(state),
            paintings=[
                (name, row) for (name, _, _), *row in zip(data.validation, real, masks, small, enlarged, strict=False)
            ],
            columns=(
                ["Image", "Annotated cells", "Painted", "Enlarged"],
                "Each row: a real frame, its annotated cells, what the first stage painted on them, and that enlarged.",
            ),
        )
        steps, proceed = trained_in(state), f"cytoforge generate movie {config.out} MASKS --out OUT"
        print(f"{config.out}: super-resolution generator trained in {steps}; {proceed}")
    return run


def _open_first(config: TrainMovie) -> Run:
    """Return the run of the first stage; raises UserError when it is not finished or of another scale."""
    assert config.start is not None
    run = Run.open(config.start)
    if not run.finished:
        raise UserError(f"{run.path}: is not finished; repeat its command to go on with it")
    scale = run.settings.scale * config.factor
    if not np.isclose(scale, config.scale, rtol=1e-6):
        raise UserError(
            f"{run.path}: was trained at --scale {scale / config.factor:g}; enlarged {config.factor} times its frames "
            f"have --scale {scale:g}, not {config.scale:g}: give that, or another --factor"
        )
    return run


def _small(image: np.ndarray, factor: int) -> np.ndarray:
    """Reduce an image (C, H, W) to the size at which the first stage paints."""
    return shrink(torch.from_numpy(padded(image, factor))[None], factor)[0].numpy()


def _paint(
    studio: Studio, items: Sequence[Item], labels: Callable[[int], np.ndarray], config: TrainMovie, styles: int
) -> list[list[Frame]]:
    """Paint each stretch of frames in so many styles as `generate movie` does: paintings (C, h, w) of each item."""
    painted: list[list[Frame]] = [[] for _ in items]
    for style in range(styles):
        for number, take in enumerate(takes(items)):
            group, draw = str(items[take.start].group), np.random.default_rng([style, number])
            reference = studio.backgrounds.get(group, studio.backgrounds[min(studio.backgrounds)])
            painter = None
            for i in take:
                told = reduced(labels(i), config.factor)
                if painter is None:
                    background = fitted(reference, (told.shape[0], told.shape[1]), draw)
                    seeded = item_generator(config.seed, style, number, "first stage")
                    painter = studio.painter(background, seeded, config.style_mixing)
                painted[i].append(painter.paint(told))
    return painted


@dataclass(frozen=True)
class Held:
    """The first frames of a stretch of validation frames: real images, labels, and paintings of the first stage."""

    images: list[np.ndarray]
    labels: list[np.ndarray]
    painted: list[Frame]

    def enlarged(self, network: nn.Module, config: TrainMovie) -> list[np.ndarray]:
        """Return the paintings enlarged (C, H, W) in [-1, 1], as `generate movie` enlarges them."""
        assert isinstance(network, SuperResolution)
        height, width = self.labels[0].shape
        draw = item_generator(0, 0, 0, "picture")
        enlarger = Enlarger(network, (height, width), draw, mixing=config.style_mixing)
        return [seen(enlarger.enlarge(seen(frame))) for frame in self.painted]

    def panels(self, network: nn.Module, config: TrainMovie) -> list[list[np.ndarray]]:
        """Return pictures of masks, real, painted and enlarged frames, all of one size."""
        few = replace(self, painted=self.painted[:SHOWN])
        larger = [np.kron(seen(frame), np.ones((config.factor, config.factor), np.float32)) for frame in few.painted]
        height, width = self.labels[0].shape
        return [
            [colour_labels(mask) for mask in self.labels[:SHOWN]],
            [to_rgb(image) for image in self.images[:SHOWN]],
            [to_rgb(frame[:, :height, :width]) for frame in larger],
            [to_rgb(frame) for frame in few.enlarged(network, config)],
        ]


def _held(studio: Studio, data: Data, config: TrainMovie) -> list[Held]:
    painted = _paint(studio, data.held, lambda i: data.validation[i][2], config, 1)
    found = []
    for take in takes(data.held):
        shown = take[:VALIDATED]
        _, images, labels = (list(part) for part in zip(*(data.validation[i] for i in shown), strict=True))
        found.append(Held(images, labels, [painted[i][0] for i in shown]))
    return found


def describe(config: TrainMovie, channels: int) -> dict[str, Any]:
    """Return the keyword arguments of the super-resolution generator of a training, as config.json stores them."""
    preset = sizes(config)
    return {
        "network": "super-resolution",
        "in_channels": channels,
        "out_channels": channels,
        "width": preset.width,
        "depth": preset.depth,
        "norm": config.norm,
        "upsampling": preset.upsampling,
        "factor": config.factor,
        "residual": not preset.paper_weights,
    }


def build_recipe(config: TrainMovie, described: dict[str, Any]) -> SuperResolutionGAN:
    """Build generator and discriminator, initialised from the seed, and the recipe that trains them."""
    preset = sizes(config)
    generator = build(SuperResolution, config.seed, "super-resolution", described)
    if not preset.paper_weights:
        quieten(generator)
    start_grey(generator)
    return SuperResolutionGAN(
        generator,
        build_discriminator(config, "super-resolution discriminator", described["out_channels"]),
        weights=SUPER_RESOLUTION_WEIGHTS if preset.paper_weights else QUICK,
        generator_rate=preset.generator_rate,
        discriminator_rate=preset.discriminator_rate if preset.paper_weights else QUICK_JUDGE,
        p_diff=config.p_diff,
        mixing=config.style_mixing,
        **perceptual_network(config),
    )
