"""A segmenter from annotated images: alone (conventional), or with a generator in cGAN-Seg's cycle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning_fabric import Fabric

from cytoforge.cells.instances import TARGETS
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.load import load_network
from cytoforge.inference.painting import paint
from cytoforge.inference.segmenter import segment_array
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.report import outcome_overlay, overlay, to_rgb
from cytoforge.training.data import Masks, TrainingData, open_data, open_synthetic
from cytoforge.training.hyperparameters import SEGMENTATION, CycleGAN, Segmentation
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes import cycle_gan
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.networks import Described, describe_generator, describe_segmenter
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.samplers.items import item_generator
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Data, Training, resizing
from cytoforge.training.tasks.task import (
    PICTURE,
    REPORTED,
    Plan,
    Task,
    drawing_of,
    feature_network,
    perceptual_notes,
    side_by_side,
    stored_tile,
)


@dataclass(frozen=True)
class SegmentationTask(Task):
    """Train a segmenter; with hyperparameters of the cycle also a generator."""

    name: ClassVar[str] = "train segmentation"
    parameters: Segmentation | CycleGAN
    start: Path | None = None
    """run whose segmenter the training starts from"""

    def open(self, training: Training) -> TrainingData:
        """Open annotated images."""
        return open_data(training.data, training.seed, masks=self._masks)

    @property
    def _masks(self) -> Masks:
        """Masks to learn from: binary ones, too, where touching cells need not be told apart."""
        semantic = self.parameters.target == "semantic"
        if isinstance(self.parameters, CycleGAN):
            return Masks(binary=semantic and self.parameters.condition == "mask")
        return Masks(binary=semantic, otherwise="give --target semantic, for which cells that touch are one")

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build the networks and say how windows are drawn and the segmenter is validated."""
        parameters, target = self.parameters, TARGETS[self.parameters.target]
        synthetic, fingerprint = open_synthetic(training.data, data.channels, masks=self._masks)
        networks = {"segmenter": describe_segmenter(parameters, data.channels)}
        recipe: Recipe
        notes: list[str] = []
        if isinstance(parameters, CycleGAN):
            networks["generator"] = describe_generator(parameters, data.channels)
            vgg = feature_network(parameters, training.compute.weights_dir)
            recipe = cycle_gan.CycleGAN.build(parameters, networks, training.seed, vgg)
            notes = perceptual_notes(parameters, recipe, training.compute.weights_dir)
        else:
            recipe = Conventional.build(parameters, networks["segmenter"], training.seed)
        started = None if self.start is None else self._load_start(self.start, networks["segmenter"], recipe)
        rescaled = _rescaled(self.start, training.data)
        drawing = drawing_of(parameters, parameters.crop, training, fabric)
        tile = stored_tile(parameters.crop)

        def segmented(networks: Networks, image: np.ndarray) -> np.ndarray:
            return segment_array(networks["segmenter"], image, target, tile)

        def score(averages: Networks) -> float:
            """Return F by the protocol of the target, mean over IoU 0.5 to 0.9 and over the validation images."""
            scores = [
                np.mean(segmentation_scores(labels, segmented(averages, image), protocol=target.protocol).f_score)
                for _, image, labels in data.validation
            ]
            return float(np.nan_to_num(np.nanmean(scores))) if np.isfinite(scores).any() else 0.0

        def picture(averages: Networks) -> np.ndarray:
            """Return a validation image, its true and predicted outlines, and in the cycle a painting on its mask."""
            _, image, labels = data.validation[0]
            image, labels = image[:, :PICTURE, :PICTURE], labels[:PICTURE, :PICTURE]
            found = segmented(averages, image)
            panels = [to_rgb(image), overlay(image, labels), outcome_overlay(image, labels, found)]
            if isinstance(parameters, CycleGAN):
                draw = item_generator(training.seed, 0, 0, "picture")
                panels.append(to_rgb(paint(averages["generator"], labels, parameters.condition, draw, tile=tile)))
            return side_by_side(panels)

        def shown(networks: Networks) -> dict[str, Any]:
            examples = data.validation[:REPORTED]
            return {"samples": [(n, image, labels, segmented(networks, image)) for n, image, labels in examples]}

        keep_last = synthetic is not None
        kept = "with synthetic images the weights of the end are kept, not those that were best on validation"
        return Plan(
            networks=networks,
            recipe=recipe,
            sampler=Windows(data.names, data.read, drawing, synthetic),
            validation=Validation(score, picture, at_start=started is not None, keep_last=keep_last),
            shown=shown,
            stored={
                "method": "cyclegan" if isinstance(parameters, CycleGAN) else "conventional",
                "target": parameters.target,
                "tile": tile,
                "start": None if self.start is None else str(self.start),
                **({"condition": parameters.condition} if isinstance(parameters, CycleGAN) else {}),
            },
            provenance={"synthetic_data": fingerprint, "started_from": started},
            notes=[*notes, *rescaled],
            remarks=[*rescaled, *([kept] if keep_last else [])],
        )

    def _load_start(self, start: Path, segmenter: Described, recipe: Recipe) -> str:
        """Give the segmenter the weights of the run to start from; return that run's fingerprint.

        Raises UserError when the run holds no segmenter, or one of another network or target.
        """
        run = Run.open(start)
        former, target = run.settings.networks.get("segmenter"), run.settings.target
        if former is None:
            raise UserError(f"{start}: --start needs a segmenter, and this run has none; name one that segments")
        wanted = {**segmenter, "target": self.parameters.target}
        if different := start_differences({**former.model_dump(exclude_unset=True), "target": target}, wanted):
            raise UserError(f"{start}: --start needs a segmenter of the same kind; {'; '.join(different)}")
        recipe.networks["segmenter"].load_state_dict(load_network(run, "segmenter").state_dict())
        return run.fingerprint("segmenter", ("target", "scale", "resize", "normalisation"))


def start_differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Name the settings in which two segmenters differ, each with the flag that makes `here` like `there`."""
    preset = next((name for name, preset in SEGMENTATION.items() if preset.width == there.get("width")), None)
    remedies = {
        "network": f"use --network {there.get('network')}",
        "target": f"use --target {there.get('target')}",
        "width": f"use --preset {preset}" if preset else "no preset has that, train another one to start from",
        "norm": f"use --norm {there.get('norm')}",
        "in_channels": "convert the images",
    }
    wrong = [name for name in remedies if there.get(name) != here[name]]
    if not wrong:  # number of classes and depth follow from target, network and preset
        remedies = dict.fromkeys(here, "no flag changes that, train another one to start from")
        wrong = [name for name in here if there.get(name) != here[name]]
    words = {"in_channels": "channels of images"}
    return [f"{words.get(name, name)} {there.get(name)} there, {here[name]} here: {remedies[name]}" for name in wrong]


def _rescaled(start: Path | None, data: Data) -> list[str]:
    """Return a note if a segmenter goes on at another scale than that at which it was trained."""
    former = data.scaling if start is None else Run.open(start).settings.scaling
    if former == data.scaling:
        return []
    there, here = map(resizing, (former, data.scaling))
    return [f"{start}: was trained at {there}, and goes on at {here}: cells had another size in pixels there"]
