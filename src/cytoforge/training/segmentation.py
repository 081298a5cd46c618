"""`cytoforge train segmentation`: from annotated images to a run folder with a segmenter in it."""

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.config import TrainSegmentation
from cytoforge.data.images import write_image
from cytoforge.data.run import Run
from cytoforge.data.weights import load_features
from cytoforge.inference.generate import paint
from cytoforge.inference.load import load_network
from cytoforge.inference.segment import segment_array
from cytoforge.instances import TARGETS, Target
from cytoforge.losses import CycleWeights, cross_entropy_dice
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.layers import initialise
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.segmentation import SEGMENTERS
from cytoforge.networks.style_unet import StyleUNet
from cytoforge.progress import Progress
from cytoforge.report import outcome_overlay, overlay, run_report, to_rgb
from cytoforge.training.batches import Batch, Batches, item_generator
from cytoforge.training.cyclegan import CycleGAN
from cytoforge.training.fit import Budget, Recipe, State, Trainer, Update, fit, verdict
from cytoforge.training.prepare import Data, launch, open_data, open_run, say, sizes

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
        loss = cross_entropy_dice(self.segmenter(batch.images), self.target.encode(batch.labels))
        update("segmenter", loss)
        return {"segmentation": loss}


def train(config: TrainSegmentation) -> Run:
    """Train a segmenter and write its run folder; go on with it if an earlier call was interrupted.

    Raises UserError on unusable data or settings and Interrupted after a signal, with everything saved.
    """
    fabric = launch(config)
    data = open_data(config)
    preset, target = sizes(config), TARGETS[config.target]
    networks = describe_networks(config, data.channels)
    recipe = build_recipe(config, networks, target)
    run = open_run(config, fabric, data, networks, recipe.perceptual)
    trainer = Trainer(recipe, fabric, decay=preset.average, anneal=preset.anneal)
    batches = Batches(
        data.names,
        data.read,
        size=preset.crop,
        count=preset.batch if config.method == "conventional" else preset.cycle_batch,
        policy=config.augmentation,
        seed=config.seed,
        ranks=(fabric.global_rank, fabric.world_size),
    )
    if fabric.global_rank == 0:
        counts = f"{len(data.names)} images to train on, {len(data.validation)} for validation, {data.cells} cells"
        say([*data.notes, *notices(recipe), counts])
    progress = Progress(f"train {config.method}")
    tile = run.config["tile"]

    def validate(averages: dict[str, nn.Module]) -> float:
        """Mean F over IoU 0.5 to 0.9 and over the validation images, with the averaged weights."""
        scores = [
            np.mean(segmentation_scores(labels, segment_array(averages["segmenter"], image, target, tile)).f_score)
            for _, image, labels in data.validation
        ]
        return float(np.nan_to_num(np.nanmean(scores))) if np.isfinite(scores).any() else 0.0

    state = fit(
        trainer,
        batches,
        validate,
        run,
        _budget(config),
        seed=config.seed,
        patience=config.patience,
        announce=lambda share, state: progress(share, f"step {state.step}") if fabric.global_rank == 0 else None,
        picture=lambda averages, step: write_picture(run, averages, data, target, step, config.seed),
    )
    if fabric.global_rank == 0:
        run.finish({"steps": state.step, "seconds": state.seconds, "verdict": verdict(state)})
        write_report(run, data, target, state)
        say([verdict(state)])
        print(f"{config.out}: segmenter trained in {state.step} steps; cytoforge segment {config.out} IMAGES --out OUT")
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
    if config.method == "conventional":
        return {"segmenter": segmenter}
    shape = {"width": preset.width, "depth": preset.depth, "norm": config.norm}
    generator = {"network": "style-unet", "in_channels": 1, "out_channels": channels, **shape}
    return {"segmenter": segmenter, "generator": generator}


def build_recipe(config: TrainSegmentation, networks: dict[str, dict[str, Any]], target: Target) -> Recipe:
    """Build the networks, initialised from the seed, and the recipe that trains them."""

    def build(kind: Any, purpose: str, **options: Any) -> Any:
        network = kind(**{key: value for key, value in options.items() if key != "network"})
        initialise(network, item_generator(config.seed, 0, 0, purpose))
        return network

    preset = sizes(config)
    segmenter = build(SEGMENTERS[config.network], "segmenter", **networks["segmenter"])
    if config.method == "conventional":
        return Conventional(segmenter, target, preset.rate)
    judges = {
        "width": preset.discriminator_width,
        "heads": preset.heads if config.attention else 0,
        "head_width": preset.head_width,
        "norm": config.norm,
    }
    channels = networks["generator"]["out_channels"]
    discriminators = (
        build(PatchGAN, "image discriminator", in_channels=channels, **judges),
        build(PatchGAN, "mask discriminator", in_channels=1, **judges),
    )
    if not preset.paper_weights:  # scores start at 0: as drawn they are far from 0 and 1, and would outweigh all else
        for discriminator in discriminators:
            nn.init.zeros_(discriminator.model[-1].weight)
    vgg = load_features("vgg19", config.weights_dir)
    features = None if vgg is None else VGG19Features(vgg)
    return CycleGAN(
        build(StyleUNet, "generator", **networks["generator"]),
        segmenter,
        *discriminators,
        target,
        weights=CycleWeights() if preset.paper_weights else QUICK,
        rate=preset.rate,
        generator_rate=preset.generator_rate,
        discriminator_rate=preset.discriminator_rate,
        features=features,
        feature_weights=() if features is None else features.weights,
        p_diff=config.p_diff,
        mixing=config.style_mixing,
        warm=WARM if config.warm_start else 0.0,
    )


def notices(recipe: Recipe) -> list[str]:
    """Return what the user should know of a recipe before it starts."""
    if isinstance(recipe, CycleGAN) and recipe.features is None:
        return [
            "no VGG-19 weights (--weights-dir or CYTOFORGE_WEIGHTS): "
            "the perceptual loss falls back to matching the discriminator's features"
        ]
    return []


def _budget(config: TrainSegmentation) -> Budget:
    if config.steps is not None:
        return Budget(steps=config.steps)
    return Budget(seconds=60 * (10.0 if config.minutes is None else config.minutes))


def write_picture(
    run: Run, averages: dict[str, nn.Module], data: Data, target: Target, step: int, seed: int, side: int = 256
) -> None:
    """Write samples/step-N.png, side by side: a validation image, the true outlines, the predicted ones, a painting.

    Predicted outlines are coloured as in the report: found blue, missed orange, false magenta.
    """
    _, image, labels = data.validation[0]
    image, labels = image[:, :side, :side], labels[:side, :side]
    predicted = segment_array(averages["segmenter"], image, target, run.config["tile"])
    panels = [to_rgb(image), overlay(image, labels), outcome_overlay(image, labels, predicted)]
    if "generator" in averages:
        painted = paint(averages["generator"], labels, "mask", item_generator(seed, 0, 0, "picture"))
        panels.append(to_rgb(painted))
    write_image(run.samples / f"step-{step:06d}.png", np.concatenate(panels, axis=1).transpose(2, 0, 1))


def write_report(run: Run, data: Data, target: Target, state: State) -> None:
    """Write report.html: the verdict, the curves, and the validation images with true and predicted outlines."""
    segmenter = load_network(run)
    samples = [
        (name, image, labels, segment_array(segmenter, image, target, run.config["tile"]))
        for name, image, labels in data.validation[:4]
    ]
    run_report(
        run.path / "report.html",
        title=f"Training of {run.path.name}",
        config=run.config["config"],
        provenance=run.provenance,
        metrics=run.metrics(),
        samples=samples,
        verdict=verdict(state),
    )
