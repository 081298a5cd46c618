"""`cytoforge train generator`: from annotated images to a run folder with an image generator in it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cytoforge.backgrounds import without_cells
from cytoforge.config import PainterTraining, TrainGenerator
from cytoforge.data.run import BACKGROUNDS, Run
from cytoforge.data.weights import lacking, load_features
from cytoforge.errors import UserError
from cytoforge.inference.generate import paint
from cytoforge.inference.load import load_network
from cytoforge.instances import CONDITIONS
from cytoforge.losses import CycleWeights
from cytoforge.metrics.texture import texture_distance
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.registry import NETWORKS
from cytoforge.networks.style_unet import ImageGenerator
from cytoforge.report import colour_labels, to_rgb
from cytoforge.training.batches import item_generator
from cytoforge.training.fit import trained_in, verdict
from cytoforge.training.paired import PairedGAN
from cytoforge.training.prepare import (
    Data,
    build,
    cut_batches,
    launch,
    open_data,
    open_run,
    prefers_vgg,
    report_training,
    sizes,
    train_recipe,
)

# for trainings of minutes; docs/decisions.md says how they were found
QUICK = CycleWeights(adversarial=5.0, cycle_image=0.0, cycle_mask=0.0, identity_image=25.0, identity_mask=0.0)
QUICK_JUDGE = 2e-3  # learning rate of the discriminator then; at the presets' own it never tells flat from real
QUIET = 0.3  # of the noise that is drawn for the generator at the start then: cells take shape before they get grain
BANK = 12  # backgrounds that a run keeps to paint on, those with the fewest cells
SHOWN = 3  # paintings of one mask in pictures and validation, each in a style of its own


def train(config: TrainGenerator) -> Run:
    """Train an image generator and write its run folder; go on with it if an earlier call was interrupted.

    Raises UserError on unusable data or settings and Interrupted after a signal, with everything saved.
    """
    fabric = launch(config)
    data = open_data(config)
    if data.channels not in (1, 3):
        note = f"{config.data}: images have {data.channels} channels; score generation takes only grey or RGB images"
        data = replace(data, notes=(*data.notes, note))
    described = describe_generator(config, data.channels, config.network)
    bank: list[np.ndarray] = []
    if config.on_real:
        described |= {"in_channels": described["in_channels"] + data.channels, "residual": True}
        bank = backgrounds(data, config.seed)
        data = replace(data, read=on_background(data, config.seed))
    recipe = build_recipe(config, described)
    content = {"command": "train generator", "networks": {"generator": described}, "perceptual": recipe.perceptual}
    run = open_run(config, fabric, data, content)
    if bank and fabric.global_rank == 0:
        run.save_weights(BACKGROUNDS, {f"{i:02d}": torch.from_numpy(image) for i, image in enumerate(bank)})
    batches = cut_batches(config, fabric, data, sizes(config).cycle_batch)

    def painted(generator: nn.Module, labels: np.ndarray, style: int) -> np.ndarray:
        """Paint with draws that are the same at each step of a training."""
        return paint(generator, labels, config.told, item_generator(style, 0, 0, "picture"), bank=bank)

    def validate(averages: dict[str, nn.Module]) -> float:
        """One less the distance between the textures of validation images and of what is painted on their masks."""
        pairs = [pair for pair in data.validation for _ in range(SHOWN)]
        fakes = [painted(averages["generator"], labels, i) for i, (_, _, labels) in enumerate(pairs)]
        real = [image for _, image, _ in pairs]
        return max(1 - texture_distance(real, fakes, np.random.default_rng(config.seed)), 0.0)

    state = train_recipe(
        config,
        fabric,
        recipe,
        data,
        batches,
        run,
        words="train generator",
        validate=validate,
        picture=lambda averages, step: write_picture(run, averages["generator"], data, step, painted),
    )
    if fabric.global_rank == 0:
        write_report(run, data, verdict(state), painted)
        steps, proceed = trained_in(state), f"cytoforge generate images {config.out} MASKS --out OUT"
        print(f"{config.out}: generator trained in {steps}; {proceed}")
    return run


def on_background(data: Data, seed: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return what reads image and labels of source i, with the image's background as further channels (2 C, H, W)."""

    def read(i: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = data.read(i)
        return np.concatenate([image, without_cells(image, labels, np.random.default_rng([seed, i]))]), labels

    return read


def backgrounds(data: Data, seed: int) -> list[np.ndarray]:
    """Return the backgrounds (C, H, W) of those BANK training images of which cells cover least."""
    emptiest, read = np.argsort(data.coverage, kind="stable")[:BANK], on_background(data, seed)
    return [read(int(i))[0][data.channels :] for i in emptiest]


def describe_generator(config: PainterTraining, channels: int, network: str = "style-unet") -> dict[str, Any]:
    """Return the keyword arguments of the generator of a training, as config.json stores them."""
    preset = sizes(config)
    described = {
        "network": f"{network}-generator" if network == "unet" else network,
        "in_channels": CONDITIONS[config.told],
        "out_channels": channels,
        "width": preset.width,
        "depth": preset.depth,
        "norm": config.norm,
    }
    return described if network == "unet" else {**described, "upsampling": preset.upsampling}


def build_recipe(config: TrainGenerator, described: dict[str, Any]) -> PairedGAN:
    """Build generator and discriminator, initialised from the seed, and the recipe that trains them."""
    preset, pixels_only = sizes(config), config.loss == "l1"
    seen = {} if pixels_only else perceptual_network(config)
    generator = build_generator(config, described)
    if not preset.paper_weights:
        quieten(generator)
    return PairedGAN(
        generator,
        build_discriminator(config, "image discriminator", described["out_channels"]),
        weights=CycleWeights() if preset.paper_weights else QUICK,
        generator_rate=preset.generator_rate,
        discriminator_rate=preset.discriminator_rate if preset.paper_weights else QUICK_JUDGE,
        pixels_only=pixels_only,
        textures=not (pixels_only or seen or preset.paper_weights or config.on_real),
        **seen,
        **image_options(config),
    )


def quieten(generator: nn.Module) -> None:
    """Bring the noise of a generator with styles to QUIET of what was drawn."""
    for name, parameter in generator.named_parameters():
        if name.endswith(("to_noise1.weight", "to_noise2.weight")):
            parameter.detach().mul_(QUIET)


def build_generator(config: PainterTraining, described: dict[str, Any]) -> ImageGenerator:
    """Build a generator as described for config.json."""
    generator: ImageGenerator = build(NETWORKS[described["network"]].load(), config.seed, "generator", described)
    return generator


def build_discriminator(config: PainterTraining, purpose: str, channels: int) -> PatchGAN:
    """Build a discriminator of images or masks with so many channels."""
    preset = sizes(config)
    options = {
        "in_channels": channels,
        "width": preset.discriminator_width,
        "heads": preset.heads if config.attention else 0,
        "head_width": preset.head_width,
        "norm": config.norm,
    }
    discriminator: PatchGAN = build(PatchGAN, config.seed, purpose, options)
    last = discriminator.model[-1].weight
    if not preset.paper_weights and isinstance(last, Tensor):
        nn.init.zeros_(last)  # scores start at 0: as drawn they are far from 0 and 1, and would outweigh all else
    return discriminator


def perceptual_network(config: PainterTraining) -> dict[str, Any]:
    """Return the arguments `features` and `feature_weights` of the recipes: VGG-19, or nothing for feature matching.

    Raises UserError when VGG-19 is asked for and its weights are missing.
    """
    vgg = load_features("vgg19", config.weights_dir) if prefers_vgg(config) else None
    if vgg is None:
        if config.perceptual == "vgg":
            raise UserError(f"--perceptual vgg: {lacking(config.weights_dir, 'vgg19')}")
        return {}
    features = VGG19Features(vgg)
    return {"features": features, "feature_weights": features.weights}


def image_options(config: PainterTraining) -> dict[str, Any]:
    """Return the arguments of the recipes that settle how images are painted and shown to the discriminator."""
    return {"kind": config.told, "p_diff": config.p_diff, "mixing": config.style_mixing}


Painted = Callable[[nn.Module, np.ndarray, int], np.ndarray]
"""generator, labels (H, W) and number of the style to a painting (C, H, W)"""


def write_picture(run: Run, generator: nn.Module, data: Data, step: int, paint: Painted, side: int = 256) -> None:
    """Write samples/step-N.png, side by side: a validation image, its cells, paintings of them in several styles."""
    _, image, labels = data.validation[0]
    panels = _panels(generator, image[:, :side, :side], labels[:side, :side], paint)
    run.save_sample(step, np.concatenate(panels, axis=1))


def write_report(run: Run, data: Data, sentence: str, paint: Painted) -> None:
    """Write report.html: the verdict, the curves, and paintings of the validation masks beside the real images."""
    generator = load_network(run, "generator")
    report_training(
        run,
        sentence,
        paintings=[(name, _panels(generator, image, labels, paint)) for name, image, labels in data.validation[:4]],
    )


def _panels(generator: nn.Module, image: np.ndarray, labels: np.ndarray, paint: Painted) -> list[np.ndarray]:
    painted = [to_rgb(paint(generator, labels, style)) for style in range(SHOWN)]
    return [to_rgb(image), colour_labels(labels), *painted]
