"""A segmenter from annotated images: alone (conventional), or with a generator in cGAN-Seg's cycle."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from cytoforge.cells.instances import TARGETS, Target, cell_diameters
from cytoforge.errors import UserError
from cytoforge.inference.baseline import otsu_watershed
from cytoforge.inference.load import load_network
from cytoforge.inference.painting import paint
from cytoforge.inference.segmenter import segment_array
from cytoforge.metrics.morphology import SEGMENTED_DIAMETER
from cytoforge.metrics.sampling import evenly
from cytoforge.metrics.segmentation import ImageScores, segmentation_scores
from cytoforge.places import BASE, SCRATCH, run_folder
from cytoforge.report import outcome_overlay, overlay, to_rgb
from cytoforge.training.course import State, course
from cytoforge.training.data import Masks, TrainingData, open_data, open_synthetic, open_unlabelled
from cytoforge.training.hyperparameters import CycleGAN, MeanTeacher, Segmentation
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes import cycle_gan, mean_teacher
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.networks import Described, describe_generator, describe_segmenter
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.samplers.items import item_generator
from cytoforge.training.samplers.simulated import SimulatedMasks
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Training
from cytoforge.training.tasks.judging import Segmented, judge_segmenter
from cytoforge.training.tasks.start import Wanted, base_if_fitting, called, load_start, rescaled
from cytoforge.training.tasks.task import (
    PICTURE,
    Outcome,
    Plan,
    Task,
    drawing_of,
    feature_network,
    perceptual_notes,
    side_by_side,
    stored_tile,
)

RANKS = ("Best, ", "Median, ", "Worst, ")  # of the validation images in the report
FEW_CELLS, FEW_STEPS = 50, 300
"""Labelled cells below which a training from the base model ends after so many steps, and its last weights are kept:
more steps learn the cells by heart, and the few of a strip cannot tell which weights are best."""
JUDGED = 8  # training images at most that the result is tried on

OTHERWISE = "let cytoforge check DATA --fix COPY do so, or give --target semantic, for which cells that touch are one"
"""what to do with masks that have one value for all cells"""


@dataclass(frozen=True)
class SegmentationTask(Task):
    """Train a segmenter; with hyperparameters of the cycle also a generator."""

    name: ClassVar[str] = "train segmentation"
    parameters: Segmentation | CycleGAN
    start: Path | None = SCRATCH
    """run whose segmenter the training starts from, or SCRATCH; None for the base model where it fits"""
    rivals: tuple[Path, ...] = ()
    """runs with segmenters of the same data and scale, with which the result is compared"""

    def open(self, training: Training) -> TrainingData:
        """Open annotated images."""
        return open_data(training.data, training.seed, masks=self._masks, fitting=SEGMENTED_DIAMETER)

    @property
    def method(self) -> str:
        """The method as flags name it."""
        if isinstance(self.parameters, CycleGAN):
            return "cyclegan"
        return "mean-teacher" if isinstance(self.parameters, MeanTeacher) else "conventional"

    @property
    def _masks(self) -> Masks:
        """Masks to learn from: binary ones, too, where touching cells need not be told apart."""
        semantic = self.parameters.target == "semantic"
        if isinstance(self.parameters, CycleGAN):
            return Masks(binary=semantic and self.parameters.condition == "mask")
        return Masks(binary=semantic, otherwise=OTHERWISE)

    def _simulated(self, training: Training, data: TrainingData) -> SimulatedMasks | None:
        """Return what draws masks for the forward cycle, or None where it paints on those of the images."""
        if not isinstance(self.parameters, CycleGAN) or self.parameters.masks == "own":
            return None
        simulated = SimulatedMasks.like([data.read(i)[1] for i in range(len(data.names))])
        if simulated is None:
            path = training.data.path
            raise UserError(f"{path}: every cell is cut by the edge of its image, or tiny; use --masks own")
        return simulated

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build the networks and say how windows are drawn and the segmenter is validated."""
        parameters = self.parameters
        synthetic, fingerprint = open_synthetic(training.data, data.channels, masks=self._masks)
        unlabelled = open_unlabelled(training.data, data)
        networks, recipe, notes = self._networks(training, data)
        segmenter = Wanted(
            "segmenter", networks["segmenter"], recipe.networks["segmenter"], {"target": parameters.target}
        )
        start: tuple[Path, ...] = () if self.start in (None, SCRATCH) else (self.start,)
        if self.start is None:
            start, note = base_if_fitting(segmenter)
            notes = [*notes, note]
        started, changes = load_start(start, [segmenter]), rescaled(start, training.data)
        began = {f"{called(start[0])} as it is": copy.deepcopy(segmenter.network).eval()} if started else {}
        drawing = drawing_of(parameters, parameters.crop, training, fabric)
        more = Windows(unlabelled.names, unlabelled.read, drawing.following) if unlabelled else None
        from_base = self.method == "conventional" and synthetic is None and any(run_folder(p) == BASE for p in start)
        few = from_base and data.cells < FEW_CELLS and training.budget.timed
        if few:
            notes = [*notes, f"few cells are labelled: training ends after {FEW_STEPS} steps; --steps gives it more"]
        keep_last = synthetic is not None or few
        kept = "with synthetic images the weights of the end are kept, not those that were best on validation"
        on_validation = _OnValidation(parameters, training, data, fabric, began, self.rivals)
        return Plan(
            networks=networks,
            recipe=recipe,
            sampler=Windows(data.names, data.read, drawing, synthetic, more, self._simulated(training, data)),
            validation=Validation(
                on_validation.score,
                on_validation.picture,
                at_start=started is not None and not few,
                keep_last=keep_last,
            ),
            most_steps=FEW_STEPS if few else None,
            outcome=on_validation.outcome,
            stored={
                "method": self.method,
                "target": parameters.target,
                "tile": on_validation.tile,
                "start": str(start[0]) if start else None,
                **({} if unlabelled is None else {"unlabelled_images": list(unlabelled.names)}),
                **({"condition": parameters.condition} if isinstance(parameters, CycleGAN) else {}),
            },
            provenance={
                "synthetic_data": fingerprint,
                "unlabelled_data": unlabelled and unlabelled.fingerprint,
                "started_from": started,
            },
            notes=[*notes, *(unlabelled.notes if unlabelled else ()), *changes],
            remarks=[*changes, *([kept] if synthetic is not None else [])],
        )

    def _networks(self, training: Training, data: TrainingData) -> tuple[dict[str, Described], Recipe, list[str]]:
        """Return the networks as `config.json` describes them, the recipe that trains them, and what is to be said."""
        parameters = self.parameters
        networks = {"segmenter": describe_segmenter(parameters, data.channels)}
        if isinstance(parameters, CycleGAN):
            networks["generator"] = describe_generator(parameters, data.channels)
            vgg = feature_network(parameters, training.compute.weights_dir)
            cycle = cycle_gan.CycleGAN.build(parameters, networks, training.seed, vgg)
            return networks, cycle, perceptual_notes(parameters, cycle, training.compute.weights_dir)
        if isinstance(parameters, MeanTeacher):
            teacher = mean_teacher.MeanTeacher.build(parameters, networks["segmenter"], training.seed)
            return networks, teacher, []
        return networks, Conventional.build(parameters, networks["segmenter"], training.seed), []


@dataclass(frozen=True)
class _OnValidation:
    """How a segmenter does on the validation images: during the training, and at its end beside others."""

    parameters: Segmentation | CycleGAN
    training: Training
    data: TrainingData
    fabric: Fabric
    began: Mapping[str, nn.Module]
    """the segmenter that the training started from, by name, if there is one"""
    rivals: tuple[Path, ...]

    @property
    def target(self) -> Target:
        """What is learned."""
        return TARGETS[self.parameters.target]

    @property
    def tile(self) -> int:
        """Side in pixels of the tiles that images are segmented by."""
        return stored_tile(self.parameters.crop)

    def segmented(self, networks: Networks, image: np.ndarray) -> np.ndarray:
        """Return the cells (H, W) of an image."""
        return segment_array(networks["segmenter"], image, self.target, self.tile)

    def scored(self, truth: np.ndarray, found: np.ndarray) -> ImageScores:
        """Score cells by the protocol of the target."""
        return segmentation_scores(truth, found, protocol=self.target.protocol)

    def score(self, averages: Networks) -> float:
        """Return F by the protocol of the target, mean over IoU 0.5 to 0.9 and over the validation images."""
        found = [
            np.mean(self.scored(labels, self.segmented(averages, image)).f_score)
            for _, image, labels in self.data.validation
        ]
        return float(np.nan_to_num(np.nanmean(found))) if np.isfinite(found).any() else 0.0

    def picture(self, averages: Networks) -> np.ndarray:
        """Return a validation image, its true and predicted outlines, and in the cycle a painting on its mask."""
        _, image, labels = self.data.validation[0]
        image, labels = image[:, :PICTURE, :PICTURE], labels[:PICTURE, :PICTURE]
        found = self.segmented(averages, image)
        panels = [to_rgb(image), overlay(image, labels), outcome_overlay(image, labels, found)]
        if isinstance(self.parameters, CycleGAN):
            draw, condition = item_generator(self.training.seed, 0, 0, "picture"), self.parameters.condition
            panels.append(to_rgb(paint(averages["generator"], labels, condition, draw, tile=self.tile)))
        return side_by_side(panels)

    def outcome(self, networks: Networks, state: State) -> Outcome:
        """Judge the kept segmenter, and show those validation images in which it does best, middling and worst."""
        how = course(state)
        network_of = {"": networks["segmenter"]}
        network_of |= {str(path): load_network(path, "segmenter", self.fabric.device) for path in self.rivals}
        if how.kind != "start kept":
            network_of |= {name: network.to(self.fabric.device) for name, network in self.began.items()}
        cells = {name: partial(self.segmented, {"segmenter": network}) for name, network in network_of.items()}
        found, labels = look(self.data, cells, self.scored)
        if self.training.data.resize is not None:  # sizes in images of other shapes say nothing of the scale
            found = replace(found, diameters=())
        chosen = spread([one.f_score[0] for one in found.validation], len(RANKS))
        ranks = RANKS if len(chosen) == len(RANKS) else ("",) * len(chosen)
        samples = [
            (f"{rank}{name}", image, true, labels[i])
            for rank, i in zip(ranks, chosen, strict=True)
            for name, image, true in [self.data.validation[i]]
        ]
        return Outcome(shown={"samples": samples}, judgement=judge_segmenter(found, how, state))


def look(
    data: TrainingData,
    segmented: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    scored: Callable[[np.ndarray, np.ndarray], ImageScores],
) -> tuple[Segmented, list[np.ndarray]]:
    """Score a segmenter, by the name "", and its rivals on validation, and it on at most JUDGED training images, too.

    Return also what it finds in each validation image: labels (H, W).
    """
    _, images, truth = zip(*data.validation, strict=True)
    labels = [segmented[""](image) for image in images]
    learned = [data.read(i) for i in spread(range(len(data.names)), JUDGED)]
    sizes = [cell_diameters(own) for own in [*truth, *(own for _, own in learned)]]
    found = Segmented(
        names=[name for name, _, _ in data.validation],
        validation=list(map(scored, truth, labels)),
        baseline=list(map(scored, truth, map(otsu_watershed, images))),
        training=[scored(own, segmented[""](image)) for image, own in learned],
        rivals={name: list(map(scored, truth, map(find, images))) for name, find in segmented.items() if name},
        diameters=[float(np.median(one)) for one in sizes if one.size],
    )
    return found, labels


def spread(values: Sequence[float], number: int) -> list[int]:
    """Return the positions of the largest value, the smallest and others evenly between, in descending order.

    Undefined values are left out unless there are no others.
    """
    known = [i for i, value in enumerate(values) if not np.isnan(value)]
    order = sorted(known, key=lambda i: -values[i]) or list(range(len(values)))
    return [order[place] for place in evenly(len(order), number)]
