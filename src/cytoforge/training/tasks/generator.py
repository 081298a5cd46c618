"""An image generator from annotated images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from cytoforge.cells.backgrounds import without_cells
from cytoforge.data.run import BACKGROUNDS
from cytoforge.inference.painting import paint
from cytoforge.metrics.texture import texture_distance
from cytoforge.report import colour_labels, to_rgb
from cytoforge.training.course import State, course
from cytoforge.training.data import Masks, TrainingData, open_data
from cytoforge.training.hyperparameters import Generator
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes.networks import describe_discriminator, describe_generator
from cytoforge.training.recipes.paired_gan import PairedGAN
from cytoforge.training.samplers.items import item_generator
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Training
from cytoforge.training.tasks.painted import judge_paintings
from cytoforge.training.tasks.start import Wanted, load_start, rescaled
from cytoforge.training.tasks.task import (
    PICTURE,
    REPORTED,
    Outcome,
    Plan,
    Task,
    drawing_of,
    feature_network,
    perceptual_notes,
    side_by_side,
    stored_tile,
)

KEPT_BACKGROUNDS = 12  # backgrounds that a run keeps to paint on, of the images with the lowest coverage
STYLES = 3  # paintings of one mask in pictures and validation, each in a style of its own


@dataclass(frozen=True)
class GeneratorTask(Task):
    """Train an image generator."""

    name: ClassVar[str] = "train generator"
    parameters: Generator
    start: tuple[Path, ...] = ()
    """runs whose generator and image discriminator the training starts from"""

    def open(self, training: Training) -> TrainingData:
        """Open annotated images."""
        return open_data(training.data, training.seed, masks=Masks(binary=self.parameters.condition == "mask"))

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build the networks and say how windows are drawn and paintings are validated."""
        parameters, seed = self.parameters, training.seed
        described = describe_generator(parameters, data.channels)
        vgg = feature_network(parameters, training.compute.weights_dir)
        recipe = PairedGAN.build(parameters, described, seed, vgg)
        judging = describe_discriminator(parameters, data.channels)
        wanted = [
            Wanted("generator", described, recipe.networks["generator"], {"condition": parameters.condition}),
            Wanted("discriminator", judging, recipe.networks["image_discriminator"]),
        ]
        started, changes = load_start(self.start, wanted), rescaled(self.start, training.data)
        read, bank = data.read, list[np.ndarray]()
        if parameters.background == "real":
            read, bank = on_background(data, seed), backgrounds(data, seed)
        notes = perceptual_notes(parameters, recipe, training.compute.weights_dir)
        if data.channels not in (1, 3):
            channels = f"images have {data.channels} channels; score generation takes only grey or RGB images"
            notes.insert(0, f"{training.data.path}: {channels}")

        def painted(generator: nn.Module, labels: np.ndarray, style: int) -> np.ndarray:
            """Paint in a style, the same at every step of the training."""
            return paint(generator, labels, parameters.condition, item_generator(style, 0, 0, "picture"), bank=bank)

        def panels(generator: nn.Module, image: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
            """Return pictures of a real image, of its cells, and of paintings on these in several styles."""
            paintings = [to_rgb(painted(generator, labels, style)) for style in range(STYLES)]
            return [to_rgb(image), colour_labels(labels), *paintings]

        def score(averages: Networks) -> float:
            """Return 1 less the distance between the textures of validation images and of paintings on their masks."""
            pairs = [pair for pair in data.validation for _ in range(STYLES)]
            fakes = [painted(averages["generator"], labels, i) for i, (_, _, labels) in enumerate(pairs)]
            real = [image for _, image, _ in pairs]
            return max(1 - texture_distance(real, fakes, np.random.default_rng(seed)), 0.0)

        def picture(averages: Networks) -> np.ndarray:
            _, image, labels = data.validation[0]
            return side_by_side(panels(averages["generator"], image[:, :PICTURE, :PICTURE], labels[:PICTURE, :PICTURE]))

        def outcome(networks: Networks, state: State) -> Outcome:
            examples = data.validation[:REPORTED]
            rows = [(n, panels(networks["generator"], image, labels)) for n, image, labels in examples]
            _, real, masks = zip(*data.validation, strict=True)
            paintings = [painted(networks["generator"], labels, 0) for labels in masks]
            return Outcome(shown={"paintings": rows}, judgement=judge_paintings(real, paintings, masks, course(state)))

        drawing = drawing_of(parameters, parameters.crop, training, fabric)
        kept = {f"{i:02d}": torch.from_numpy(image) for i, image in enumerate(bank)}
        return Plan(
            networks={"generator": described},
            recipe=recipe,
            sampler=Windows(data.names, read, drawing),
            validation=Validation(score, picture, at_start="generator" in (started or {})),
            outcome=outcome,
            stored={
                "condition": parameters.condition,
                "tile": stored_tile(parameters.crop),
                "start": list(map(str, self.start)) or None,
            },
            provenance={"started_from": started},
            weights={BACKGROUNDS: kept} if kept else {},
            notes=[*notes, *changes],
            remarks=changes,
        )


def on_background(data: TrainingData, seed: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return a function that reads source i: image and its background as channels (2 C, H, W), and labels (H, W)."""

    def read(i: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = data.read(i)
        return np.concatenate([image, without_cells(image, labels, np.random.default_rng([seed, i]))]), labels

    return read


def backgrounds(data: TrainingData, seed: int) -> list[np.ndarray]:
    """Return the backgrounds (C, H, W) of the KEPT_BACKGROUNDS training images with the lowest coverage."""
    emptiest, read = np.argsort(data.coverage, kind="stable")[:KEPT_BACKGROUNDS], on_background(data, seed)
    return [read(int(i))[0][data.channels :] for i in emptiest]
