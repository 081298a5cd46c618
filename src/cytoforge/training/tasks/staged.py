"""Trainings made of several tasks: the two-stage segmenter, and both stages of tGAN.

Runs and datasets that come before the last stage lie in folders of RUN/stages: generator/, first-segmenter/, masks/ and
synthetic/ of the two-stage segmenter, low-resolution/ of movies.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from lightning_fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray

from cytoforge.cells.instances import CONDITIONS, TARGETS
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import read_json
from cytoforge.data.images import before_enlarging
from cytoforge.data.lock import held
from cytoforge.data.resume import differences, refuse_finished, refuse_other
from cytoforge.data.run import STAGES, Run
from cytoforge.data.writer import INFO, DatasetWriter, read_info
from cytoforge.errors import UserError
from cytoforge.inference.curation import IOU
from cytoforge.inference.generate import Keeping, generate_images
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.load import load_network
from cytoforge.inference.segmenter import Segmenter, segment_array
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.places import SCRATCH
from cytoforge.progress import say
from cytoforge.simulation.masks import shapes_of, simulate_labels
from cytoforge.training.data import Masks, open_data
from cytoforge.training.hyperparameters import Generator, Hyperparameters, Movie, Segmentation, SuperResolution
from cytoforge.training.samplers.simulated import denser
from cytoforge.training.specification import Data, Output, SyntheticData, Training
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.movie import MovieTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.super_resolution import SuperResolutionTask
from cytoforge.training.tasks.task import Trained, described, run_task

Given = ParamSpec("Given")
First = TypeVar("First")
Second = TypeVar("Second")
GENERATOR, FIRST_SEGMENTER = 0.45, 0.15  # shares of the budget; the last segmenter gets the rest
LOW_RESOLUTION = 0.6  # share of the first stage of movies, which has more to learn: motion, and how cells look
VARIANTS = 2  # images painted on each simulated mask
FIRST_STAGE = "low-resolution"  # the stage of movies that paints
KEPT = 0.75  # share of the painted images in which the first segmenter finds most of the cells
TRUSTED = 0.5  # painted images are used if its recall on them is at least this share of that on real ones
LONGEST = 512  # px, side of a simulated mask
RECORD = f"{STAGES}/settings.json"
NAMES = ("generator", "first-segmenter", "masks", "synthetic")  # of the stages of the two-stage segmenter, in order


def holding(
    train: Callable[Concatenate[First, Second, Training, Given], Trained],
) -> Callable[Concatenate[First, Second, Training, Given], Trained]:
    """Let a training in stages hold its run folder, in the first of the processes that train together."""

    @functools.wraps(train)
    def run(first: First, second: Second, training: Training, /, *args: Given.args, **kwargs: Given.kwargs) -> Trained:
        with contextlib.nullcontext() if getattr(rank_zero_only, "rank", 0) else held(training.output.path):
            return train(first, second, training, *args, **kwargs)

    return run


@holding
def train_two_stage(
    parameters: Segmentation, generator: Generator, training: Training, images: int, start: Path = SCRATCH
) -> Trained:
    """Train a generator, simulate and paint cells, and train a segmenter on real images and so many painted ones.

    Both segmenters start from that of the run `start`, or from random weights (SCRATCH). A call that was interrupted
    goes on when it is repeated. Raises UserError and Interrupted as `run_task`.
    """
    out = training.output.path
    begun = None if start == SCRATCH else str(start)
    open_stages(training, (parameters, generator), synthetic_images=images, start=begun)
    painter, first, masks, synthetic = (Run.stage(out, name) for name in NAMES)
    if not finished(painter):
        say(["1 of 5: the generator"])
        run_task(GeneratorTask(generator), part(training, GENERATOR, painter))
    if not finished(first):
        say(["2 of 5: a first segmenter, to look at the generator's images"])
        run_task(SegmentationTask(parameters, start), part(training, FIRST_SEGMENTER, first))
    if not finished(masks):
        say(["3 of 5: simulated cells"])
        simulate(training, masks, math.ceil(images / KEPT / VARIANTS))
    if not finished(synthetic):
        say(["4 of 5: painting, and dropping images whose cells the first segmenter does not find"])
        paint(training, generator, synthetic.parent, images)
    say(["5 of 5: the segmenter"])
    painted, real = recognised(synthetic), recall(training, first)
    last = part(training, 1 - GENERATOR - FIRST_SEGMENTER, out)
    if real > 0 and painted >= TRUSTED * real:
        data = replace(last.data, synthetic=SyntheticData(path=synthetic))
        return run_task(SegmentationTask(parameters, start, rivals=(first,)), replace(last, data=data))
    reason = (
        f"the first segmenter finds {painted:.0%} of the painted cells and {real:.0%} of the real ones of validation: "
        "the painted images were left out; give more minutes"
    )
    say([reason])
    trained = run_task(SegmentationTask(parameters, start=first), last)
    trained.run.note(reason)
    return trained


@holding
def train_both_stages(
    parameters: Movie, enlarging: SuperResolution, training: Training, start: tuple[Path, ...] = ()
) -> Trained:
    """Train a movie generator on reduced masks, and a super-resolution generator that enlarges its frames.

    They share the time or the steps; epochs are those of each. Each stage starts from those of the runs `start` that
    hold a network of it. A call that was interrupted goes on when it is repeated. Raises UserError and Interrupted as
    `run_task`.
    """
    starts = starts_of_stages(start, parameters)
    open_stages(training, (parameters, enlarging), start=list(map(str, start)) or None)
    first = Run.stage(training.output.path, FIRST_STAGE)
    if not finished(first):
        say(["1 of 2: the low-resolution generator"])
        small = part(training, LOW_RESOLUTION if training.budget.epochs is None else 1.0, first)
        small = replace(small, data=reduced(training.data, enlarging.factor))
        run_task(MovieTask(parameters, enlarged=enlarging.factor, start=starts[0]), small)
    say(["2 of 2: the super-resolution generator"])
    last = part(training, 1 - LOW_RESOLUTION if training.budget.epochs is None else 1.0, training.output.path)
    return run_task(SuperResolutionTask(enlarging, first, starts[1]), last)


def reduced(data: Data, factor: int) -> Data:
    """Return the data of a first stage, whose frames a second one enlarges."""
    small = before_enlarging(data.scaling, factor)
    return replace(data, resize=small) if isinstance(small, tuple) else replace(data, scale=small)


def starts_of_stages(runs: tuple[Path, ...], parameters: Movie) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the runs with networks of the first stage, and those with networks of the second.

    The discriminator of the first stage has more channels: those of masks and frames in a row. Raises UserError for a
    run of neither.
    """
    stages: tuple[list[Path], list[Path]] = ([], [])
    for path in runs:
        held = Run.open(path).settings.networks
        channels = held["discriminator"].in_channels or 1 if "discriminator" in held else 0
        movies = channels >= parameters.window * (CONDITIONS[parameters.condition] + 1)
        if movies or held.keys() & {"low-resolution", "flow"}:
            stages[0].append(path)
        if "super-resolution" in held or (channels and not movies):
            stages[1].append(path)
        if path not in (*stages[0], *stages[1]):
            raise UserError(f"{path}: --start needs a network of either stage, and this run has none; leave it out")
    return tuple(stages[0]), tuple(stages[1])


def part(training: Training, share: float, out: Path) -> Training:
    """Return the training of a stage: a share of the budget, and a run folder of its own."""
    return replace(training, budget=training.budget.share(share), output=Output(path=out))


def open_stages(training: Training, parameters: tuple[Hyperparameters, ...], **further: Any) -> None:
    """Make the folder of the stages, or go on with those that the same training has begun.

    Raises UserError when the folder holds another run or a finished one (unless told to overwrite), or files that are
    no part of a run. `further` settings, too, must be the same for work to go on.
    """
    out, overwrite = training.output.path, training.output.overwrite
    record, folder = out / RECORD, Run(out).folder
    settings = described(training) | {type(p).__name__: asdict(p) for p in parameters} | further
    if record.parent.exists() and not record.exists() and not folder.known:
        raise UserError(f"{record.parent}: was there before; choose another --out")
    if overwrite or not record.exists():
        Run.clear(out, overwrite=overwrite, stages=True)
        folder.write_json(RECORD, settings)
    folder.require()
    refuse_other(out, "a run", differences(read_json(record), settings))
    refuse_finished(out, "this run", finished(out))


def finished(path: Path) -> bool:
    """Tell whether a stage, a run or a dataset, is done."""
    if (path / "config.json").is_file():
        return Run.open(path).finished
    return (path / INFO).is_file() and bool(read_info(path).get("complete"))


def simulate(training: Training, out: Path, count: int) -> None:
    """Write masks of simulated cells, shaped like those of the training images, and as dense or denser.

    Shapes have the resolution of the images on disk, or of all images if they are resized to one size, which the masks
    have then, too. Mask k depends on the seed and k only. Cells of validation images
    are not used. Raises UserError when no cell has a usable shape.
    """
    seed, scale = training.seed, training.data.scale
    annotated = annotations(training)
    shapes = [shape for labels in annotated for shape in shapes_of(labels)]
    if not shapes:
        path = training.data.path
        raise UserError(f"{path}: every cell is cut by the edge of its image, or tiny; give larger images")
    info: dict[str, Any] = {"by": "cytoforge train segmentation --method two-stage", "seed": seed}
    writer = DatasetWriter(out, {"synthetic": info, "scale": scale})
    for number in range(count):
        if (name := f"simulated{number:04d}") in writer.done:
            continue
        draw = np.random.default_rng([seed, number])
        like = annotated[draw.integers(len(annotated))]
        size = training.data.resize or [min(round(side * scale), LONGEST) for side in like.shape]
        density = denser(np.count_nonzero(like) / like.size, draw)
        simulated = simulate_labels(shapes, (size[0], size[1]), draw, density=density, magnification=scale)
        writer.add(name, labels=simulated.labels)
    writer.finish()


def annotations(training: Training) -> list[NDArray[np.int32]]:
    """Return the labels (H, W) of the images to train on, at the resolution of the images on disk."""
    data = open_data(replace(training.data, scale=1.0), training.seed, masks=Masks(binary=True))
    return [labels for _, labels in map(data.read, range(len(data.names)))]


def paint(training: Training, generator: Generator, stages: Path, images: int) -> None:
    """Paint the simulated masks, and keep so many images: those in which the first segmenter finds most cells."""
    compute = training.compute
    painter = ImageGenerator.load(stages / "generator", device=compute.device, threads=compute.threads)
    segmenter = Segmenter.load(stages / "first-segmenter", device=compute.device, threads=compute.threads)
    masks = Dataset.open(stages / "masks", holds="masks").masks()
    generate_images(
        painter,
        masks,
        stages / "synthetic",
        seed=training.seed,
        variants=VARIANTS,
        style_mixing=generator.style_mixing,
        keeping=Keeping(images / (VARIANTS * len(masks.items)), segmenter),
    )


def recognised(synthetic: Path) -> float:
    """Return the share of its mask's cells that was found in a kept image, mean over these; 0 without any.

    Raises UserError when dataset.json does not tell.
    """
    curation = read_info(synthetic).get("curation", {})
    try:
        kept = [s for name, s in curation["faithfulness"].items() if name not in curation["dropped"]]
        shares = [float(s) for s in kept if s is not None]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{synthetic / INFO}: its curation cannot be read; remove the folder {synthetic} and repeat the command"
        ) from error
    return float(np.mean(shares)) if shares else 0.0


def recall(training: Training, segmenter: Path) -> float:
    """Return the share of the cells of a validation image that a run's segmenter finds, mean over these images."""
    run, network = Run.open(segmenter), load_network(segmenter)
    target, tile = TARGETS[run.settings.target], run.settings.tile
    found = [
        segmentation_scores(labels, segment_array(network, image, target, tile), (IOU,), target.protocol)
        for _, image, labels in open_data(training.data, training.seed, masks=Masks(binary=True)).validation
    ]
    recalls = [scores.recall[0] for scores in found if scores.truth_cells]
    return float(np.mean(recalls)) if recalls else 0.0
