"""Networks: described as config.json stores them, built with weights from the seed, and how generators begin."""

from collections.abc import Callable
from typing import Any

from torch import nn

from cytoforge.cells.instances import CONDITIONS, TARGETS
from cytoforge.networks.layers import Start, initialise
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.registry import NETWORKS
from cytoforge.networks.style_unet import ImageGenerator
from cytoforge.training.hyperparameters import Adversarial, CycleGAN, Generator, Segmentation, Stage
from cytoforge.training.samplers.items import item_generator

GREY_START = 0.1  # standard deviation of outputs at the start, before tanh, on maps of 1: paintings start as grey
Described = dict[str, Any]
"""kind (`network`) and options of a network, as config.json stores them"""


def build(
    kind: Callable[..., nn.Module], seed: int, purpose: str, described: Described, start: Start = "kaiming"
) -> Any:
    """Build a network of a kind from its description; `seed`, `purpose` and `start` alone decide its weights."""
    network = kind(**{key: value for key, value in described.items() if key != "network"})
    initialise(network, item_generator(seed, 0, 0, purpose), start)
    return network


def describe_segmenter(parameters: Segmentation | CycleGAN, channels: int) -> Described:
    """Return kind and options of a segmenter of images with so many channels."""
    return {
        "network": parameters.network,
        "in_channels": channels,
        "classes": TARGETS[parameters.target].classes,
        "width": parameters.width,
        "depth": parameters.depth if parameters.network == "unet" else min(parameters.depth, 3),
        "norm": parameters.norm,
    }


def build_segmenter(described: Described, seed: int) -> nn.Module:
    """Build the segmenter of a description, its weights drawn from the seed."""
    segmenter: nn.Module = build(NETWORKS[described["network"]].load(), seed, "segmenter", described)
    return segmenter


def describe_generator(parameters: CycleGAN | Generator, channels: int) -> Described:
    """Return kind and options of an image generator of images with so many channels."""
    network = parameters.network if isinstance(parameters, Generator) else parameters.generator
    described: Described = {
        "network": "unet-generator" if network == "unet" else network,
        "in_channels": CONDITIONS[parameters.condition],
        "out_channels": channels,
        "width": parameters.width,
        "depth": parameters.depth,
        "norm": parameters.norm,
    }
    if network != "unet":
        described["upsampling"] = parameters.upsampling
    if isinstance(parameters, Generator) and parameters.background == "real":
        described |= {"in_channels": described["in_channels"] + channels, "residual": True}
    return described


def build_generator(described: Described, seed: int) -> ImageGenerator:
    """Build the image generator of a description, its weights drawn from the seed."""
    generator: ImageGenerator = build(NETWORKS[described["network"]].load(), seed, "generator", described)
    return generator


def describe_discriminator(parameters: Adversarial, channels: int) -> Described:
    """Return kind and options of a discriminator of images, masks or frames with so many channels."""
    return {
        "network": "patchgan",
        "in_channels": channels,
        "width": parameters.discriminator_width,
        "heads": parameters.heads,
        "head_width": parameters.head_width,
        "norm": parameters.norm,
        "dropout": parameters.dropout if isinstance(parameters, Stage) else 0.0,
    }


def build_discriminator(
    parameters: Adversarial, seed: int, purpose: str, channels: int, start: Start = "kaiming"
) -> PatchGAN:
    """Build a discriminator of images, masks or frames with so many channels; seed and purpose decide its weights."""
    described = describe_discriminator(parameters, channels)
    discriminator: PatchGAN = build(PatchGAN, seed, purpose, described, start)
    if parameters.zero_scores:
        for parameter in discriminator.model[-1].parameters():
            nn.init.zeros_(parameter)
    return discriminator


def scale_noise(generator: nn.Module, gain: float) -> None:
    """Multiply the weights of the noise of a generator with styles by `gain`."""
    for name, parameter in generator.named_parameters():
        if gain != 1 and name.endswith(("to_noise1.weight", "to_noise2.weight")):
            parameter.detach().mul_(gain)


def start_grey(outputs: nn.Conv2d) -> None:
    """Let a generator whose last convolution is followed by tanh begin with nearly grey paintings.

    Kaiming's rule for many outputs gives a single one values at which tanh has hardly a gradient; it would stay there.
    """
    outputs.weight.detach().mul_(outputs.in_channels**-0.5 * GREY_START)
