"""Compare folders of generated and real images: read them, find pairs, and compute scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import (
    Normalisation,
    Scaling,
    is_constant,
    read_header,
    scaled_shape,
    units_agree,
    widened,
)
from cytoforge.data.weights import lacking, load_inception, load_lpips, load_lpips_vgg
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import ImageComparison
from cytoforge.inference.load import choose_device
from cytoforge.metrics.copying import Copying, copying
from cytoforge.metrics.estimates import mean_estimate, resample
from cytoforge.metrics.generation import (
    PairScores,
    SetScores,
    StyleScores,
    diversity,
    extract_features,
    pair_scores,
    set_scores,
)
from cytoforge.metrics.two_sample import FEWEST, TwoSample, compare
from cytoforge.networks.features import LPIPS, SQUEEZENET_SMALLEST, InceptionFeatures
from cytoforge.processors import usable_threads
from cytoforge.progress import Progress, counted


@dataclass(frozen=True)
class GenerationResults:
    """Scores, None where they could not be computed, and notes for the user."""

    sets: SetScores | None
    pairs: PairScores | None
    copying: Copying | None
    styles: StyleScores | None
    classifier: TwoSample | None
    """None unless asked for"""
    normalisation: str
    """limits by which grey values were mapped to [-1, 1]: set (common to all images) or image (of each image)"""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    """Images of one side, and how they are read."""

    path: Path
    data: Dataset
    scaling: Scaling
    limits: np.ndarray | None  # (C, 2), common to all images; None: each image has its own

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Size (height, width) by name, as the images are read."""
        return {
            item.name: scaled_shape(read_header(item.image)[0], self.scaling) for item in self.data.items if item.image
        }

    def read(self, item: Item, device: str) -> Tensor:
        return torch.from_numpy(self.data.read_image(item, self.scaling, limits=self.limits)).to(device)

    def images(self, device: str, progress: Progress) -> Iterator[Tensor]:
        for done, item in enumerate(self.data.items, 1):
            yield self.read(item, device)
            progress(done / len(self.data.items), item.name)


@dataclass(frozen=True)
class ImageSides:
    """Generated and real images, training images if given, and notes for the user."""

    generated: _Side
    real: _Side
    training: _Side | None
    normalisation: str
    notes: tuple[str, ...]
    incomparable: str | None
    """reason why grey values of pairs cannot be compared"""


def score_images(comparison: ImageComparison, inputs: ImageSides) -> GenerationResults:
    """Compute all scores of generated images that the images and the available weights allow.

    Raises UserError when weights are damaged, or nothing can be scored.
    """
    device = choose_device(comparison.device)
    torch.set_num_threads(comparison.threads or usable_threads())
    pairs, unpaired = _pairs(inputs)
    where = comparison.weights_dir
    inception, lpips, vgg = load_inception(where), load_lpips(where), load_lpips_vgg(where)
    notes = [*inputs.notes, *unpaired]
    if not inception:
        lost = lacking(where, "inception")
        notes.append(f"no KID, FID, precision, recall, density, coverage, copying: {lost}")
    notes += [f"no LPIPS: {lacking(where, 'squeezenet', 'lpips')}"] if pairs and not (lpips or vgg) else []
    telling = _telling(inputs, comparison.seed) if comparison.classifier else None
    notes += (
        [f"no classifier: one side has fewer than {FEWEST} images"] if comparison.classifier and not telling else []
    )
    if not inception and not pairs and not telling:
        raise UserError("; ".join(["nothing can be scored", *unpaired, notes[-1]]))
    generator = np.random.default_rng(comparison.seed)
    sets = copies = None
    if inception:
        network = inception.to(device)
        ours, real = (_features(network, side, device) for side in (inputs.generated, inputs.real))
        sets = set_scores(ours, real, network.name, generator)
        if inputs.training:
            copies = copying(ours, _features(network, inputs.training, device), network.name)
        notes += _size_remarks(inputs, sets, network.num_features)
    paired = None
    if pairs:
        read = ((inputs.generated.read(a, device), inputs.real.read(b, device)) for a, b in pairs)
        paired = pair_scores(read, generator, lpips.to(device) if lpips else None, vgg.to(device) if vgg else None)
    varied = _diversity(inputs.generated, lpips, device, generator) if lpips else None
    return GenerationResults(sets, paired, copies, varied, telling, inputs.normalisation, tuple(notes))


def open_images(comparison: ImageComparison) -> ImageSides:
    """Find the images of both sides, and how their grey values are mapped.

    Raises UserError when a path holds no images, images are neither grey nor RGB or differ in that, or the truth is
    synthetic and that is not allowed.
    """
    truth = Dataset.open(comparison.truth).images().alike()
    if not comparison.allow_synthetic and (witness := truth.synthetic()):
        raise UserError(
            f"{witness}: says that these images are synthetic, which is no ground truth; "
            "score against real images, or give --allow-synthetic"
        )
    generated = Dataset.open(comparison.prediction).images().alike()
    training = Dataset.open(comparison.training).images().alike() if comparison.training else None
    for data in (truth, generated, training):
        if data is not None:
            data.check_looks(truth)
    # cytoforge paints images in the grey values of images that are normalised one by one.
    normalisation = comparison.normalisation or ("set" if generated.limits is None else "image")
    limits, incomparable, notes = None, None, list[str]()
    if normalisation == "set":
        ours, theirs = _limits(generated), _limits(truth)
        limits, incomparable = widened(theirs, ours), unlike_constants(ours, theirs)
        notes = [*_unit_remarks(comparison, ours, theirs), *constant_remarks(comparison.truth, theirs)]
    notes += [note for data in (truth, generated, training) if data is not None for note in data.left_out]
    return ImageSides(
        _Side(comparison.prediction, generated, 1.0, limits),
        _Side(comparison.truth, truth, comparison.scaling, limits),
        _Side(comparison.training, training, comparison.scaling, limits) if comparison.training and training else None,
        normalisation,
        tuple(notes),
        incomparable,
    )


def _limits(data: Dataset) -> np.ndarray:
    """Return limits (C, 2) that enclose the percentiles 0.1 and 99.9 of every image of a set."""
    measured = np.stack([Normalisation().measure(data.pixels(item)) for item in data.items if item.image])
    return np.stack([measured[:, :, 0].min(axis=0), measured[:, :, 1].max(axis=0)], axis=1)


def constant_remarks(truth: Path, limits: np.ndarray) -> list[str]:
    """Say which channels are constant in all real images, by their limits (C, 2), and how they are compared then."""
    if not (constant := is_constant(limits)).any():
        return []
    channels = ", ".join(map(str, np.flatnonzero(constant) + 1))
    return [
        f"channel {channels} of {truth} has one grey value in all images, so that grey values there are compared "
        "between it and the extremes of the generated ones"
    ]


def unlike_constants(ours: np.ndarray, real: np.ndarray) -> str | None:
    """Return a note if a channel is constant on both sides at different grey values: no range scales them."""
    channels = np.flatnonzero(is_constant(ours) & is_constant(real) & (ours[:, 0] != real[:, 0]))
    if not channels.size:
        return None
    first = channels[0]
    return f"channel {first + 1} is {ours[first, 0]:g} in all generated images and {real[first, 0]:g} in all real ones"


def _unit_remarks(comparison: ImageComparison, ours: np.ndarray, real: np.ndarray) -> list[str]:
    """Return a warning if the ranges of grey values overlap by less than half."""
    if units_agree(ours, real):
        return []
    (low, high), (real_low, real_high) = (f"{side.min():g} {side.max():g}".split() for side in (ours, real))
    return [
        f"grey values run from {low} to {high} in {comparison.prediction} and from {real_low} to {real_high} in "
        f"{comparison.truth}: if these are other units, not other brightness, give --normalisation image"
    ]


def _size_remarks(inputs: ImageSides, sets: SetScores, width: int) -> list[str]:
    """Return notes on what makes scores of sets hard to interpret: few images, and images of other sizes."""
    notes = []
    fewest = min(sets.generated, sets.real)
    if fewest < width:
        notes.append(
            f"FID of {counted(fewest, 'image')} is too high, as {width} features want {width} images or more a side: "
            "compare it between sets of these sizes only, and look at KID first"
        )
    ours, real = (set(side.shapes.values()) for side in (inputs.generated, inputs.real))
    if ours != real:
        shown = " against ".join(_size(min(shapes)) for shapes in (ours, real))
        notes.append(
            f"sizes differ ({shown} px, for one) and features are taken at 299 x 299 px: cells differ in size then; "
            "cut both sides to one size, or give --scale or --resize"
        )
    return notes


def _pairs(inputs: ImageSides) -> tuple[list[tuple[Item, Item]], list[str]]:
    """Return the pairs of generated and real images, all or none, and if none a note that says why."""
    generated, real = inputs.generated, inputs.real
    if inputs.incomparable:
        return [], [f"no LPIPS, SSIM, PSNR: {inputs.incomparable}"]
    if generated.path.is_file() and real.path.is_file():  # Their names do not matter.
        pairs = [(generated.data.items[0], real.data.items[0])]
    else:
        named = {item.name: item for item in real.data.items}
        pairs = [(item, named[item.name]) for item in generated.data.items if item.name in named]
        missing = [item.name for item in generated.data.items if item.name not in named]
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            share = f"{len(missing)} of {len(generated.data.items)}"
            return [], [f"no LPIPS, SSIM, PSNR: {share} generated images have no real one of their name ({shown})"]
    ours, theirs = generated.shapes, real.shapes
    for a, b in pairs:
        size, other = ours[a.name], theirs[b.name]
        if size != other:
            return [], [
                f"no LPIPS, SSIM, PSNR: {a.image} is {_size(size)} px and its real image {_size(other)}; "
                "give the --scale or --resize at which images were generated"
            ]
        if min(size) < SQUEEZENET_SMALLEST:
            return [], [f"no LPIPS, SSIM, PSNR: {a.image} is {_size(size)} px, {SQUEEZENET_SMALLEST} are needed"]
    return pairs, []


def _features(network: InceptionFeatures, side: _Side, device: str) -> Tensor:
    return extract_features(network, side.images(device, Progress(f"features of {side.path}")))


def _telling(inputs: ImageSides, seed: int) -> TwoSample | None:
    """Train a classifier to tell generated from real images; None where a side has too few."""
    sides = (inputs.real, inputs.generated)
    shortest = min(length for side in sides for length in map(min, side.shapes.values()))
    real, generated = ([partial(_read, side, item) for item in side.data.items] for side in sides)
    return compare(real, generated, shortest, seed)


def _read(side: _Side, item: Item) -> tuple[np.ndarray, None]:
    return side.read(item, "cpu").numpy(), None


def _diversity(generated: _Side, lpips: LPIPS, device: str, generator: np.random.Generator) -> StyleScores | None:
    """Score how much styles vary images, if dataset.json says that several were painted on one mask."""
    groups: dict[str, list[Item]] = {}
    for item in generated.data.items:
        if mask := generated.data.info.get("files", {}).get(item.name, {}).get("mask"):
            groups.setdefault(mask, []).append(item)
    network = lpips.to(device)
    stacks = (torch.stack([generated.read(item, device) for item in g]) for g in groups.values() if len(g) > 1)
    values = [diversity(stack, network) for stack in stacks]
    if not values:
        return None
    return StyleScores(len(values), mean_estimate(values, resample(len(values), generator)), network.name)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
