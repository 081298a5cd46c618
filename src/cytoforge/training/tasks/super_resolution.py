"""tGAN's second stage: a generator that enlarges the frames of a first one (tGAN, Figure 1C)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from cytoforge.cells.backgrounds import fitted
from cytoforge.data.dataset import Item
from cytoforge.data.images import Scaling
from cytoforge.data.run import BACKGROUNDS, Run
from cytoforge.errors import UserError
from cytoforge.inference.enlarge import Enlarger, padded
from cytoforge.inference.frames import reduced
from cytoforge.inference.load import load_network
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.inference.painting import from_grey
from cytoforge.metrics.texture import texture_distance
from cytoforge.networks import movie
from cytoforge.progress import counted
from cytoforge.report import colour_labels, mosaic, to_rgb
from cytoforge.training.course import State, course
from cytoforge.training.data import TrainingData
from cytoforge.training.hyperparameters import SuperResolution
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes.networks import Described, describe_discriminator
from cytoforge.training.recipes.super_resolution import SuperResolutionGAN
from cytoforge.training.samplers.clips import sequence_backgrounds, stretches
from cytoforge.training.samplers.items import item_generator
from cytoforge.training.samplers.pairs import Frame, Pairs
from cytoforge.training.specification import Training, resizing
from cytoforge.training.tasks.movie import PICTURED, VALIDATED, open_movie, recorded
from cytoforge.training.tasks.painted import judge_paintings
from cytoforge.training.tasks.start import Wanted, load_start, rescaled
from cytoforge.training.tasks.task import (
    Outcome,
    Plan,
    Task,
    drawing_of,
    feature_network,
    perceptual_notes,
    stored_tile,
)

STYLES = 2  # movies painted on the training masks, each in a style of its own
COLUMNS = (
    ["Image", "Annotated cells", "Painted", "Enlarged"],
    "Each row: a real frame, its annotated cells, what the first stage painted on them, and that enlarged.",
)


@dataclass(frozen=True)
class SuperResolutionTask(Task):
    """Train a super-resolution generator for the frames of a finished run; the new run holds both generators."""

    name: ClassVar[str] = "train movie"
    parameters: SuperResolution
    first: Path
    """run of the low-resolution stage"""
    start: tuple[Path, ...] = ()
    """runs whose super-resolution generator and discriminator the training starts from"""

    def open(self, training: Training) -> TrainingData:
        """Open annotated movies; raises UserError where the first stage is not finished or of another scale."""
        run, factor = Run.open(self.first), self.parameters.factor
        if not run.finished:
            raise UserError(f"{run.path}: is not finished; repeat its command to go on with it")
        there, here = run.settings.scaling, training.data.scaling
        enlarged: Scaling = (there[0] * factor, there[1] * factor) if isinstance(there, tuple) else there * factor
        if np.shape(enlarged) != np.shape(here) or not np.allclose(enlarged, here, rtol=1e-6):
            raise UserError(
                f"{run.path}: was trained at {resizing(there)}; enlarged {factor} times its frames have "
                f"{resizing(enlarged)}, not {resizing(here)}: give that, or another --factor"
            )
        return open_movie(training, run.settings.condition)

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build the networks, paint movies to enlarge, and say how windows are drawn and validated."""
        parameters, first, factor = self.parameters, Run.open(self.first), self.parameters.factor
        painting = load_network(first, "low-resolution", fabric.device)
        if not isinstance(painting, movie.MovieGenerator) or painting.outputs.out_channels != data.channels:
            channels = counted(data.channels, "channel")
            raise UserError(f"{first.path}: paints no frames of {channels}, as {training.data.path} has")
        described = describe(parameters, data.channels)
        vgg = feature_network(parameters, training.compute.weights_dir)
        recipe = SuperResolutionGAN.build(parameters, described, training.seed, vgg)
        judging = describe_discriminator(parameters, data.channels)
        wanted = [
            Wanted("super-resolution", described, recipe.networks["super-resolution"]),
            Wanted("discriminator", judging, recipe.networks["discriminator"]),
        ]
        started, changes = load_start(self.start, wanted), rescaled(self.start, training.data)
        grounds = sequence_backgrounds(data.items, data.read)
        kept: dict[str, Any] = {key: first.config[key] for key in ("lag", "mask_value") if key in first.config}
        stored = {
            "condition": first.settings.condition,
            "first_stage": first.fingerprint("low-resolution", ("condition", "scale", "resize", *kept)),
            **recorded(data, grounds),
            "tile": stored_tile(parameters.crop),
            "start": list(map(str, self.start)) or None,
            **kept,
        }
        bank = {name: _small(image, factor) for name, image in grounds.items()}
        painter = MovieGenerator(first.path, painting, None, first.settings, bank, None, "")
        drawing = drawing_of(parameters, parameters.crop, training, fabric)

        def paint(items: Sequence[Item], labels: Callable[[int], np.ndarray], styles: int) -> list[list[Frame]]:
            return _paint(painter, items, labels, parameters, styles, training.seed)

        painted = paint(data.items, lambda i: data.read(i)[1], STYLES)
        held = _held(data, paint(data.held, lambda i: data.validation[i][2], 1), parameters)

        def score(averages: Networks) -> float:
            """Return 1 less the distance between textures of validation frames and of paintings of both stages."""
            enlarged = [frame for stretch in held for frame in stretch.enlarged(averages["super-resolution"])]
            real = [image for stretch in held for image in stretch.images]
            return max(1 - texture_distance(real, enlarged, np.random.default_rng(training.seed)), 0.0)

        def outcome(networks: Networks, state: State) -> Outcome:
            masks, real, small, enlarged = held[0].panels(networks["super-resolution"])
            rows = zip(data.validation, real, masks, small, enlarged, strict=False)
            shown = {"paintings": [(name, row) for (name, _, _), *row in rows], "columns": COLUMNS}
            images = [image for stretch in held for image in stretch.images]
            labels = [mask for stretch in held for mask in stretch.labels]
            frames = [frame for stretch in held for frame in stretch.enlarged(networks["super-resolution"])]
            return Outcome(shown=shown, judgement=judge_paintings(images, frames, labels, course(state)))

        return Plan(
            networks={"low-resolution": first.config["networks"]["low-resolution"], "super-resolution": described},
            recipe=recipe,
            sampler=Pairs(data.names, data.read, painted, factor, drawing),
            validation=Validation(
                score,
                lambda averages: mosaic(held[0].panels(averages["super-resolution"])[1:]),
                at_start="super-resolution" in (started or {}),
            ),
            outcome=outcome,
            stored=stored,
            provenance={"started_from": started},
            weights={
                BACKGROUNDS: {name: torch.from_numpy(image) for name, image in bank.items()},
                "low-resolution": first.load_weights("low-resolution"),
            },
            notes=[*perceptual_notes(parameters, recipe, training.compute.weights_dir), *changes],
            remarks=changes,
        )


def describe(parameters: SuperResolution, channels: int) -> Described:
    """Return kind and options of the super-resolution generator of frames with so many channels."""
    return {
        "network": "super-resolution",
        "in_channels": channels,
        "out_channels": channels,
        "width": parameters.width,
        "depth": parameters.depth,
        "norm": parameters.norm,
        "upsampling": parameters.upsampling,
        "factor": parameters.factor,
        "residual": parameters.residual,
    }


def _small(image: np.ndarray, factor: int) -> np.ndarray:
    """Reduce an image (C, H, W) to the size at which the first stage paints."""
    return movie.shrink(torch.from_numpy(padded(image, factor))[None], factor)[0].numpy()


def _paint(
    first: MovieGenerator,
    items: Sequence[Item],
    labels: Callable[[int], np.ndarray],
    parameters: SuperResolution,
    styles: int,
    seed: int,
) -> list[list[Frame]]:
    """Paint each stretch of frames as `generate movie` does; return each item's paintings (C, h, w), one per style."""
    painted: list[list[Frame]] = [[] for _ in items]
    for style in range(styles):
        for number, stretch in enumerate(stretches(items)):
            group, draw = str(items[stretch.start].group), np.random.default_rng([style, number])
            reference = first.backgrounds.get(group, first.backgrounds[min(first.backgrounds)])
            painter = None
            for i in stretch:
                small = reduced(labels(i), parameters.factor)
                if painter is None:
                    background = fitted(reference, (small.shape[0], small.shape[1]), draw)
                    seeded = item_generator(seed, style, number, "first stage")
                    painter = first.painter(background, seeded, parameters.style_mixing)
                painted[i].append(painter.paint(small))
    return painted


@dataclass(frozen=True)
class HeldOut:
    """The first frames of a stretch of validation frames: real images, labels, and paintings of the first stage."""

    images: list[np.ndarray]
    labels: list[np.ndarray]
    painted: list[Frame]
    parameters: SuperResolution

    def enlarged(self, network: nn.Module) -> list[np.ndarray]:
        """Return the paintings enlarged (C, H, W) in [-1, 1], as `generate movie` enlarges them."""
        assert isinstance(network, movie.SuperResolution)
        height, width = self.labels[0].shape
        draw = item_generator(0, 0, 0, "picture")
        enlarger = Enlarger(network, (height, width), draw, mixing=self.parameters.style_mixing)
        return [from_grey(enlarger.enlarge(from_grey(frame))) for frame in self.painted]

    def panels(self, network: nn.Module) -> list[list[np.ndarray]]:
        """Return pictures of masks, real, painted and enlarged frames, all of one size."""
        few, factor = replace(self, painted=self.painted[:PICTURED]), self.parameters.factor
        larger = [np.kron(from_grey(frame), np.ones((factor, factor), np.float32)) for frame in few.painted]
        height, width = self.labels[0].shape
        return [
            [colour_labels(mask) for mask in self.labels[:PICTURED]],
            [to_rgb(image) for image in self.images[:PICTURED]],
            [to_rgb(frame[:, :height, :width]) for frame in larger],
            [to_rgb(frame) for frame in few.enlarged(network)],
        ]


def _held(data: TrainingData, painted: list[list[Frame]], parameters: SuperResolution) -> list[HeldOut]:
    found = []
    for stretch in stretches(data.held):
        first = stretch[:VALIDATED]
        _, images, labels = (list(part) for part in zip(*(data.validation[i] for i in first), strict=True))
        found.append(HeldOut(images, labels, [painted[i][0] for i in first], parameters))
    return found
