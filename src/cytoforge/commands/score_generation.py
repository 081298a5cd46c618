"""`cytoforge score generation`: generated against real images, as a table and as JSON."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import write_json
from cytoforge.data.images import (
    Normalisation,
    is_constant,
    read_header,
    read_image,
    scaled_shape,
    units_agree,
    widened,
)
from cytoforge.data.weights import FeatureNetwork, lacking, load_inception, load_lpips, used_weights
from cytoforge.errors import UserError
from cytoforge.inference.load import choose_device
from cytoforge.metrics.copying import Copying, copying
from cytoforge.metrics.estimates import Estimate, mean_estimate, resample, to_json
from cytoforge.metrics.generation import (
    PairScores,
    SetScores,
    StyleScores,
    diversity,
    extract_features,
    pair_scores,
    set_scores,
)
from cytoforge.networks.features import LPIPS, SQUEEZENET_SMALLEST, InceptionFeatures
from cytoforge.places import ABSENT
from cytoforge.progress import Progress, counted
from cytoforge.settings import ScoreGeneration

MAPPINGS = {
    "set": "all images between the limits of the real ones together",
    "image": "each real image between its own limits, paintings as painted: brightness is hardly compared",
}


@dataclass(frozen=True)
class GenerationResults:
    """What could be scored (the rest is None), and what to say about it."""

    sets: SetScores | None
    pairs: PairScores | None
    copying: Copying | None
    styles: StyleScores | None
    normalisation: str
    """how grey values were mapped, a key of MAPPINGS"""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Side:
    """Images of one side, and how they are read."""

    path: Path
    data: Dataset
    scale: float
    limits: np.ndarray | None  # (C, 2), of all images; None: each has its own

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Size (height, width) by name, as the images are read."""
        return {
            item.name: scaled_shape(read_header(item.image)[0], self.scale) for item in self.data.items if item.image
        }

    def read(self, item: Item, device: str) -> Tensor:
        return torch.from_numpy(self.data.read_image(item, self.scale, limits=self.limits)).to(device)

    def images(self, device: str, progress: Progress) -> Iterator[Tensor]:
        for done, item in enumerate(self.data.items, 1):
            yield self.read(item, device)
            progress(done / len(self.data.items), item.name)


@dataclass(frozen=True)
class _Inputs:
    generated: _Side
    real: _Side
    training: _Side | None
    normalisation: str
    notes: tuple[str, ...]
    incomparable: str | None
    """why grey values of pairs cannot be compared"""


def score_generation_command(config: ScoreGeneration) -> None:
    """Score and print the table."""
    results = score_generation(config)
    print("\n".join([*results.notes, *_table(results, config)]))


def score_generation(config: ScoreGeneration) -> GenerationResults:
    """Score generated against real images in all ways that images and weights at hand allow; write `config.json`.

    Raises:
        UserError: a path holds no images, images are neither grey nor RGB or differ in that, the truth is synthetic
            and that is not allowed, weights are damaged, nothing can be scored, or the JSON file exists already.
    """
    device = choose_device(config.device)
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    inputs = _open(config)
    pairs, unpaired = _pairs(inputs)
    inception, lpips = load_inception(config.weights_dir), load_lpips(config.weights_dir)
    notes = [*inputs.notes, *unpaired]
    notes += (
        []
        if inception
        else [f"no KID, FID, precision, recall, density, coverage, copying: {lacking(config.weights_dir, 'inception')}"]
    )
    notes += [f"no LPIPS: {lacking(config.weights_dir, 'squeezenet', 'lpips')}"] if pairs and not lpips else []
    if not inception and not pairs:
        raise UserError("; ".join(["nothing can be scored", *unpaired, notes[-1]]))
    generator = np.random.default_rng(config.seed)
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
        paired = pair_scores(read, generator, lpips.to(device) if lpips else None)
    varied = _diversity(inputs.generated, lpips, device, generator) if lpips else None
    results = GenerationResults(sets, paired, copies, varied, inputs.normalisation, tuple(notes))
    if config.json is not None:
        write_json(config.json, _record(inputs, config, results))
    return results


def _open(config: ScoreGeneration) -> _Inputs:
    if config.json is not None:
        ABSENT.check(config.json, overwrite=config.overwrite)
    truth = Dataset.open(config.truth).images()
    if not config.allow_synthetic and (witness := truth.synthetic()):
        raise UserError(
            f"{witness}: says that these images are synthetic, which is no ground truth; "
            "score against real images, or give --allow-synthetic"
        )
    generated = Dataset.open(config.prediction).images()
    training = Dataset.open(config.training).images() if config.training else None
    for data in (truth, generated, training):
        if data is not None:
            data.check_looks(truth)
    # what cytoforge painted is in the units of images that are each between their own limits
    normalisation = config.normalisation or ("set" if generated.limits is None else "image")
    limits, incomparable, notes = None, None, list[str]()
    if normalisation == "set":
        ours, theirs = _limits(generated), _limits(truth)
        limits, incomparable = widened(theirs, ours), unlike_constants(ours, theirs)
        notes = [*_unit_remarks(config, ours, theirs), *constant_remarks(config.truth, theirs)]
    notes += [note for data in (truth, generated, training) if data is not None for note in data.left_out]
    return _Inputs(
        _Side(config.prediction, generated, 1.0, limits),
        _Side(config.truth, truth, config.scale, limits),
        _Side(config.training, training, config.scale, limits) if config.training and training else None,
        normalisation,
        tuple(notes),
        incomparable,
    )


def _limits(data: Dataset) -> np.ndarray:
    """Limits (C, 2) that hold the percentiles 0.1 and 99.9 of every image of a set."""
    measured = np.stack([Normalisation().measure(read_image(item.image)) for item in data.items if item.image])
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
    """Say that a channel is constant on both sides at different grey values, which no range tells how far apart."""
    channels = np.flatnonzero(is_constant(ours) & is_constant(real) & (ours[:, 0] != real[:, 0]))
    if not channels.size:
        return None
    first = channels[0]
    return f"channel {first + 1} is {ours[first, 0]:g} in all generated images and {real[first, 0]:g} in all real ones"


def _unit_remarks(config: ScoreGeneration, ours: np.ndarray, real: np.ndarray) -> list[str]:
    """What looks like a mistake: ranges of grey values that have less than half in common."""
    if units_agree(ours, real):
        return []
    (low, high), (real_low, real_high) = (f"{side.min():g} {side.max():g}".split() for side in (ours, real))
    return [
        f"grey values run from {low} to {high} in {config.prediction} and from {real_low} to {real_high} in "
        f"{config.truth}: if these are other units, not other brightness, give --normalisation image"
    ]


def _size_remarks(inputs: _Inputs, sets: SetScores, width: int) -> list[str]:
    """What makes scores of sets hard to read: few images, and images of other sizes."""
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
            "cut both sides to one size, or give --scale"
        )
    return notes


def _pairs(inputs: _Inputs) -> tuple[list[tuple[Item, Item]], list[str]]:
    """The generated and real images that belong together, all or none, and why none."""
    generated, real = inputs.generated, inputs.real
    if inputs.incomparable:
        return [], [f"no LPIPS, SSIM, PSNR: {inputs.incomparable}"]
    if generated.path.is_file() and real.path.is_file():  # whatever they are called
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
                "give the --scale at which images were generated"
            ]
        if min(size) < SQUEEZENET_SMALLEST:
            return [], [f"no LPIPS, SSIM, PSNR: {a.image} is {_size(size)} px, {SQUEEZENET_SMALLEST} are needed"]
    return pairs, []


def _features(network: InceptionFeatures, side: _Side, device: str) -> Tensor:
    return extract_features(network, side.images(device, Progress(f"features of {side.path}")))


def _diversity(generated: _Side, lpips: LPIPS, device: str, generator: np.random.Generator) -> StyleScores | None:
    """How much styles change, where dataset.json says that several images were painted on one mask."""
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


def _record(inputs: _Inputs, config: ScoreGeneration, results: GenerationResults) -> dict[str, Any]:
    """What the JSON file holds: where the numbers come from, then the numbers that were computed."""
    looked = results.styles is not None or (results.pairs is not None and results.pairs.lpips is not None)
    used: list[FeatureNetwork] = ["inception"] if results.sets is not None else []
    used += ["squeezenet", "lpips"] if looked else []
    scores = {
        "sets": results.sets and to_json(results.sets),
        "pairs": results.pairs and _present(to_json(results.pairs)),
        "copying": results.copying and _named(results.copying, inputs),
        "styles": results.styles and to_json(results.styles),
    }
    return {
        "format": 1,
        "command": "score generation",
        "version": version("cytoforge"),
        "seed": config.seed,
        "scale": config.scale,
        "normalisation": inputs.normalisation,
        "limits": None if inputs.real.limits is None else inputs.real.limits.tolist(),
        "prediction": inputs.generated.data.fingerprint(),
        "truth": inputs.real.data.fingerprint(),
        **({"training": inputs.training.data.fingerprint()} if inputs.training else {}),
        "networks": used_weights(used, config.weights_dir),
        "notes": list(results.notes),
        **_present(scores),
    }


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _named(copies: Copying, inputs: _Inputs) -> dict[str, Any]:
    """The copying check with the names of the images instead of their places."""
    assert inputs.training is not None
    theirs = [inputs.training.data.items[place].name for place in copies.nearest]
    names = [item.name for item in inputs.generated.data.items]
    nearest = {
        name: {"training": other, "distance": distance}
        for name, other, distance in zip(names, theirs, copies.distance, strict=True)
    }
    values = to_json(copies)
    del values["distance"]
    return {**values, "nearest": nearest}


def _table(results: GenerationResults, config: ScoreGeneration) -> Iterator[str]:
    yield f"grey values: {MAPPINGS[results.normalisation]}"
    yield "[95 % interval, images resampled]; - where undefined"
    if sets := results.sets:
        yield from (
            "",
            f"sets: {sets.generated} generated, {counted(sets.real, 'real image')}, features {sets.network}",
        )
        kid = sets.kid
        yield _row("KID x 1000", Estimate(1000 * kid.value, 1000 * kid.low, 1000 * kid.high, kid.images))
        for title in ("FID", "precision", "recall", "density", "coverage"):
            yield _row(title, getattr(sets, title.lower()))
    if pairs := results.pairs:
        yield from ("", f"pairs: {pairs.pairs}")
        if pairs.lpips:
            yield f"{_row('LPIPS', pairs.lpips)}  {pairs.lpips_network}"
        yield _row("SSIM", pairs.ssim)
        yield _row("PSNR", pairs.psnr, unit=" dB", digits=1)
    if styles := results.styles:
        yield from ("", f"styles: {counted(styles.masks, 'mask')} with several images")
        yield f"{_row('diversity', styles.lpips)}  {styles.lpips_network}"
    if copies := results.copying:
        yield from ("", f"copying: nearest of {counted(copies.training, 'training image')}, features {copies.network}")
        yield _row("distance", copies.median) + "  (median)"
        yield _row("theirs", copies.training_median) + "  (median, from training image to training image)"
        yield _row("closer", copies.closer) + "  (0.5: as training images to each other; towards 1: copies)"


def _row(title: str, value: Estimate | float, unit: str = "", digits: int = 3) -> str:
    shown = partial("{:.{}f}".format)
    estimate = value if isinstance(value, Estimate) else Estimate(value, float("nan"), float("nan"), 0)
    if isnan(estimate.value):
        return f"  {title:<11}-"
    text = f"  {title:<11}{shown(estimate.value, digits)}{unit}"
    if isnan(estimate.low):
        return text
    return f"{text} [{shown(estimate.low, digits)} {shown(estimate.high, digits)}]"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
