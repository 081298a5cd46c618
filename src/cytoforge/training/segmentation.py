"""`cytoforge train segmentation`: from annotated images to a run folder with a segmenter in it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.config import PRESETS, TrainSegmentation
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.generate import paint
from cytoforge.inference.load import load_network
from cytoforge.inference.segment import segment_array
from cytoforge.instances import TARGETS, Target, outer_contour
from cytoforge.losses import IGNORED, CycleWeights, cross_entropy_dice
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.networks.registry import NETWORKS
from cytoforge.progress import say
from cytoforge.report import outcome_overlay, overlay, to_rgb
from cytoforge.training.batches import Batch, item_generator
from cytoforge.training.cyclegan import CycleGAN
from cytoforge.training.fit import Recipe, State, Update, trained_in, verdict
from cytoforge.training.generator import (
    build_discriminator,
    build_generator,
    describe_generator,
    image_options,
    perceptual_network,
)
from cytoforge.training.prepare import (
    Data,
    build,
    cut_batches,
    launch,
    open_data,
    open_run,
    open_synthetic,
    report_training,
    sizes,
    train_recipe,
)

WARM = 0.7  # share of a warm-started cyclegan training that is spent on the pairs alone
# for trainings of minutes; docs/decisions.md says how they were found
QUICK = CycleWeights(adversarial=2.5, cycle_image=12.5, cycle_mask=25.0, identity_image=12.5, identity_mask=50.0)


class Conventional:
    """The conventional recipe: a segmenter learns from images and masks (cGAN-Seg, Figure 1B and C)."""

    averaged: tuple[str, ...] = ("segmenter",)
    perceptual: str | None = None

    def __init__(self, segmenter: nn.Module, target: Target, rate: float) -> None:
        self.segmenter, self.target = segmenter, target
        self.networks: dict[str, nn.Module] = {"segmenter": segmenter}
        self.optimisers: dict[str, Optimizer] = {"segmenter": Adam(segmenter.parameters(), lr=rate, fused=True)}

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update the segmenter from images (B, C, h, w) in [-1, 1] and labels (B, h, w)."""
        loss = cross_entropy_dice(self.segmenter(batch.images), classes(batch, self.target))
        update("segmenter", loss)
        return {"segmentation": loss}


def classes(batch: Batch, target: Target) -> Tensor:
    """Return the classes (B, h, w) of a batch, IGNORED where a synthetic cell ends and background begins.

    There the generator may have painted a pixel beside the mask. Where cells touch, the classes count.
    """
    encoded = target.encode(batch.labels)
    if not any(batch.synthetic):
        return encoded
    synthetic = torch.tensor(batch.synthetic, device=encoded.device)[:, None, None]
    return encoded.masked_fill(synthetic & outer_contour(batch.labels), IGNORED)


def train(config: TrainSegmentation) -> Run:
    """Train a segmenter and write its run folder; go on with it if an earlier call was interrupted.

    Raises UserError on unusable data or settings and Interrupted after a signal, with everything saved.
    """
    if config.method == "two-stage":
        from cytoforge.training.two_stage import train_two_stage  # it trains segmenters with this very function

        return train_two_stage(config, train)
    fabric = launch(config)
    data = open_data(config)
    synthetic, fingerprint = open_synthetic(config, data.channels)
    preset, target = sizes(config), TARGETS[config.target]
    networks = describe_networks(config, data.channels)
    recipe = build_recipe(config, networks, target)
    started = load_start(config, networks["segmenter"], recipe)
    content = {
        "command": "train segmentation",
        "networks": networks,
        "perceptual": recipe.perceptual,
        "target": config.target,
    }
    run = open_run(config, fabric, data, content, synthetic_data=fingerprint, started_from=started)
    if fabric.global_rank == 0:
        note_start(config, run)
    count = preset.batch if config.method == "conventional" else preset.cycle_batch
    batches = cut_batches(config, fabric, data, count, synthetic)
    tile = run.settings.tile

    def validate(averages: dict[str, nn.Module]) -> float:
        """Mean F over IoU 0.5 to 0.9 and over the validation images, with the averaged weights."""
        scores = [
            np.mean(segmentation_scores(labels, segment_array(averages["segmenter"], image, target, tile)).f_score)
            for _, image, labels in data.validation
        ]
        return float(np.nan_to_num(np.nanmean(scores))) if np.isfinite(scores).any() else 0.0

    state = train_recipe(
        config,
        fabric,
        recipe,
        data,
        batches,
        run,
        words=f"train {config.method}",
        validate=validate,
        picture=lambda averages, step: write_picture(run, averages, data, target, step, config),
        validate_start=started is not None,
        keep_last=synthetic is not None,
    )
    if fabric.global_rank == 0:
        if synthetic is not None:
            run.note("with synthetic images the weights of the end are kept, not those that were best on validation")
        write_report(run, data, target, state)
        steps, proceed = trained_in(state), f"cytoforge segment {config.out} IMAGES --out OUT"
        print(f"{config.out}: segmenter trained in {steps}; {proceed}")
    return run


def describe_networks(config: TrainSegmentation, channels: int) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments of every network of a training, as config.json stores them."""
    preset = sizes(config)
    depth = preset.depth if config.network == "unet" else min(preset.depth, 3)
    segmenter = {
        "network": config.network,
        "in_channels": channels,
        "classes": TARGETS[config.target].classes,
        "width": preset.width,
        "depth": depth,
        "norm": config.norm,
    }
    if config.method != "cyclegan":
        return {"segmenter": segmenter}
    return {"segmenter": segmenter, "generator": describe_generator(config, channels)}


def build_recipe(config: TrainSegmentation, networks: dict[str, dict[str, Any]], target: Target) -> Recipe:
    """Build the networks, initialised from the seed, and the recipe that trains them."""
    preset = sizes(config)
    segmenter = build(NETWORKS[config.network].load(), config.seed, "segmenter", networks["segmenter"])
    if config.method != "cyclegan":
        return Conventional(segmenter, target, preset.rate)
    return CycleGAN(
        build_generator(config, networks["generator"]),
        segmenter,
        build_discriminator(config, "image discriminator", networks["generator"]["out_channels"]),
        build_discriminator(config, "mask discriminator", 1),
        target,
        weights=CycleWeights() if preset.paper_weights else QUICK,
        rate=preset.rate,
        generator_rate=preset.generator_rate,
        discriminator_rate=preset.discriminator_rate,
        warm=WARM if config.warm_start else 0.0,
        **perceptual_network(config),
        **image_options(config),
    )


def load_start(config: TrainSegmentation, described: dict[str, Any], recipe: Recipe) -> str | None:
    """Give the segmenter the weights of the run that a configuration starts from; return that run's fingerprint.

    Raises UserError when the run holds no segmenter, or another network or target.
    """
    if config.start is None:
        return None
    run = Run.open(config.start)
    former, target = run.settings.networks.get("segmenter"), run.settings.target
    if former is None:
        raise UserError(f"{config.start}: --start needs a segmenter, and this run has none; name one that segments")
    there = former.model_dump(exclude_unset=True)
    different = _start_differences({**there, "target": target}, {**described, "target": config.target})
    if different:
        raise UserError(f"{config.start}: --start needs a segmenter of the same kind; {'; '.join(different)}")
    recipe.networks["segmenter"].load_state_dict(load_network(run, "segmenter").state_dict())
    return run.fingerprint("segmenter", ("target", "scale", "normalisation"))


def _start_differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Say in which settings two segmenters differ, and which flag makes this one like the other."""
    preset = next((name for name, preset in PRESETS.items() if preset.width == there.get("width")), None)
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


def note_start(config: TrainSegmentation, run: Run) -> None:
    """Say and note that a segmenter goes on at another scale than it was trained at, if it does."""
    scale = config.scale if config.start is None else Run.open(config.start).settings.scale
    if scale == config.scale:
        return
    note = (
        f"{config.start}: was trained at --scale {scale:g}, and goes on at --scale {config.scale:g}: "
        "cells of the same images had another size in pixels there"
    )
    say([note])
    if not run.has_state:  # a run that goes on has noted it
        run.note(note)


def write_picture(
    run: Run,
    averages: dict[str, nn.Module],
    data: Data,
    target: Target,
    step: int,
    config: TrainSegmentation,
    side: int = 256,
) -> None:
    """Write samples/step-N.png, side by side: a validation image, the true outlines, the predicted ones, a painting.

    Predicted outlines are coloured as in the report: found blue, missed orange, false magenta.
    """
    _, image, labels = data.validation[0]
    image, labels = image[:, :side, :side], labels[:side, :side]
    predicted = segment_array(averages["segmenter"], image, target, run.settings.tile)
    panels = [to_rgb(image), overlay(image, labels), outcome_overlay(image, labels, predicted)]
    if "generator" in averages:
        draw = item_generator(config.seed, 0, 0, "picture")
        painted = paint(averages["generator"], labels, config.told, draw, tile=run.settings.tile)
        panels.append(to_rgb(painted))
    run.save_sample(step, np.concatenate(panels, axis=1))


def write_report(run: Run, data: Data, target: Target, state: State) -> None:
    """Write report.html: the verdict, the curves, and the validation images with true and predicted outlines."""
    segmenter = load_network(run)
    samples = [
        (name, image, labels, segment_array(segmenter, image, target, run.settings.tile))
        for name, image, labels in data.validation[:4]
    ]
    report_training(
        run,
        verdict(state),
        samples=samples,
    )
