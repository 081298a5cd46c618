"""What a person with arrays needs: train, use, score and simulate; the commands do the same with folders.

Images are numpy arrays of any number type, grey (H, W), or with channels (H, W, C) or (C, H, W); masks are label images
(H, W), 0 background, a number for each cell. Movies are sequences of these.
"""

import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.images import channels_first
from cytoforge.data.movie import MovieWriter, Track, tracks_of
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.load import Loaded
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tracker import Tracker
from cytoforge.metrics.segmentation import SegmentationResults, segmentation_scores, summarise
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.lineage import Lineage, simulate_lineage
from cytoforge.simulation.masks import MODEL_DIAMETER, Layout, Shape, parametric_shapes, shapes_of, simulate_labels
from cytoforge.training import hyperparameters
from cytoforge.training.hyperparameters import altered
from cytoforge.training.specification import DEFAULT_MINUTES, Budget, Compute, Data, Output, Training
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.movie import MovieTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import Task, run_task
from cytoforge.training.tasks.tracker import TrackerTask

Image = NDArray[Any]
Masks = NDArray[np.integer[Any]]
Preset = Literal["tiny", "small", "paper"]
Progress = Callable[[float, str], None]
Model = TypeVar("Model", bound=Loaded)
DIAMETER = 16.0  # px, of simulated cells where no masks are given
DENSITY = 0.2  # coverage of simulated masks where no masks are given


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train, whatever the task."""

    minutes: float = DEFAULT_MINUTES
    steps: int | None = None
    """number of training steps, instead of a time"""
    preset: Preset = "small"
    """size of networks, windows and batches"""
    scale: float = 1.0
    """factor by which images are resized for the network; what it returns has the size of the image"""
    seed: int = 0
    out: Path | str | None = None
    """run folder to keep; without it the run lives as long as the model, whose `save` copies it"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    progress: Progress | None = None
    """is told the share done, 0 to 1, and a short note; without it a bar is shown on the standard error stream"""


DEFAULTS = Options()


def train_segmenter(
    images: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None = None,
    *,
    options: Options = DEFAULTS,
    minutes: float | None = None,
    **values: Any,
) -> Segmenter:
    """Train a segmenter on annotated images: arrays, or a dataset or movie folder.

    `minutes` stands for `options.minutes`; `values` are further `Options` or hyperparameters of
    `hyperparameters.Segmentation`, such as target="semantic" or rate=1e-3. Raises UserError on unusable data or values.
    """
    options, values = _settled(options, minutes, values)
    parameters = altered(hyperparameters.SEGMENTATION[options.preset], values)
    return _trained(SegmentationTask(parameters), images, masks, options, Segmenter.load)


def train_image_generator(
    images: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None = None,
    *,
    options: Options = DEFAULTS,
    minutes: float | None = None,
    **values: Any,
) -> ImageGenerator:
    """Train an image generator on annotated images; arguments as of train_segmenter, `hyperparameters.Generator`."""
    options, values = _settled(options, minutes, values)
    parameters = altered(hyperparameters.GENERATOR[options.preset], values)
    return _trained(GeneratorTask(parameters), images, masks, options, ImageGenerator.load)


def train_movie_generator(
    frames: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None = None,
    *,
    options: Options = DEFAULTS,
    minutes: float | None = None,
    **values: Any,
) -> MovieGenerator:
    """Train a movie generator on an annotated movie, whose cells keep their numbers from frame to frame.

    Arguments as of train_segmenter, with those of `hyperparameters.Movie`.
    """
    options, values = _settled(options, minutes, values)
    parameters = altered(hyperparameters.MOVIE[options.preset], values)
    return _trained(MovieTask(parameters), frames, masks, options, MovieGenerator.load, movie=True)


def train_tracker(
    frames: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None = None,
    tracks: NDArray[np.integer[Any]] | None = None,
    *,
    options: Options = DEFAULTS,
    minutes: float | None = None,
    **values: Any,
) -> Tracker:
    """Train a tracker on a movie whose cells have the numbers of their tracks.

    `tracks` (N, 4) are label, first frame, last frame and label of the parent or 0; without them no cell divides. Other
    arguments as of train_segmenter, with those of `hyperparameters.Tracker`.
    """
    options, values = _settled(options, minutes, values)
    parameters = altered(hyperparameters.TRACKER[options.preset], values)
    return _trained(TrackerTask(parameters), frames, masks, options, Tracker.load, movie=True, tracks=tracks)


def score_segmentation(
    predicted: Masks | Sequence[Masks], true: Masks | Sequence[Masks], *, seed: int = 0
) -> SegmentationResults:
    """Score predicted against true label images (H, W), one or several, by IoU 0.5 to 0.9 (docs/metrics.md).

    Intervals are bootstrapped over images. Raises ValueError where numbers or sizes of images differ.
    """
    sides = [[side] if isinstance(side, np.ndarray) and side.ndim == 2 else list(side) for side in (predicted, true)]
    scores = {
        f"{number:04d}": segmentation_scores(np.asarray(truth), np.asarray(found))
        for number, (found, truth) in enumerate(zip(*sides, strict=True))
    }
    return summarise(scores, np.random.default_rng(seed))


def simulate_masks(
    like: Sequence[Masks] | None = None,
    count: int = 1,
    *,
    size: tuple[int, int] = (256, 256),
    density: float | None = None,
    layout: Layout = "mixed",
    diameter: float = DIAMETER,
    seed: int = 0,
) -> list[NDArray[np.int32]]:
    """Simulate label images (H, W) of cells shaped like those of masks, or of a model of `diameter` pixels.

    `density` below 1 is coverage, from 1 on the number of cells; without it as in `like`. Image k depends on the seed
    and k only. Raises UserError where no cell of `like` lies wholly inside its image.
    """
    found = []
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        shapes, magnification, usual = _model(like, diameter, generator)
        simulated = simulate_labels(
            shapes, size, generator, density=density or usual, layout=layout, magnification=magnification
        )
        found.append(simulated.labels)
    return found


def simulate_movie(
    like: Sequence[Masks] | None = None,
    frames: int = 50,
    *,
    size: tuple[int, int] = (256, 256),
    density: float | None = None,
    layout: Layout = "mixed",
    diameter: float = DIAMETER,
    dynamics: Dynamics | None = None,
    seed: int = 0,
) -> Lineage:
    """Simulate a movie of cells that move, grow and divide: labels (T, H, W), tracks, divisions, displacements.

    Shapes and density as of simulate_masks; `dynamics` says how cells behave.
    """
    generator = np.random.default_rng([seed, 0])
    shapes, magnification, usual = _model(like, diameter, generator)
    return simulate_lineage(
        shapes,
        size,
        frames,
        generator,
        density=density or usual,
        dynamics=dynamics,
        layout=layout,
        magnification=magnification,
    )


def _model(
    like: Sequence[Masks] | None, diameter: float, generator: np.random.Generator
) -> tuple[Sequence[Shape], float, float]:
    """Return shapes to draw from, their magnification and the usual coverage."""
    if like is None:
        return parametric_shapes(generator), diameter / MODEL_DIAMETER, DENSITY
    masks = [like] if isinstance(like, np.ndarray) and like.ndim == 2 else list(like)
    shapes = [shape for labels in masks for shape in shapes_of(np.asarray(labels))]
    if not shapes:
        raise UserError("every cell of the masks is cut by the edge of its image, or tiny; give larger images")
    coverage = float(np.mean([np.count_nonzero(labels) / np.size(labels) for labels in masks]))
    return shapes, 1.0, coverage


def _settled(options: Options, minutes: float | None, values: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Take what of further values are options out of them."""
    own = {name: values.pop(name) for name in list(values) if name in Options.__dataclass_fields__}
    if minutes is not None:
        own["minutes"] = minutes
    return replace(options, **own), values


def _trained(
    task: Task,
    images: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None,
    options: Options,
    load: Callable[..., Model],
    *,
    movie: bool = False,
    tracks: NDArray[np.integer[Any]] | None = None,
) -> Model:
    """Train a task on a folder, or on arrays written to one; return the model."""
    work = tempfile.TemporaryDirectory(prefix="cytoforge-")  # the model may need it
    out = Path(work.name, "run") if options.out is None else Path(options.out)
    if isinstance(images, (str, Path)):
        data = Path(images)
    elif masks is None:
        raise UserError("arrays of images need their masks; give both, or a folder")
    else:
        data = Path(work.name, "data")
        _write_movie(data, images, masks, tracks) if movie else _write_dataset(data, images, masks)
    seconds = None if options.steps is not None else 60 * options.minutes
    training = Training(
        data=Data(path=data, scale=options.scale),
        output=Output(path=out),
        budget=Budget(steps=options.steps, seconds=seconds),
        compute=Compute(device=options.device, threads=options.threads),
        seed=options.seed,
    )
    run_task(task, training, options.progress)
    model = load(out, device=options.device, threads=options.threads)
    weakref.finalize(model, work.cleanup)
    return model


def _write_dataset(path: Path, images: Sequence[Image], masks: Sequence[Masks]) -> None:
    if len(images) != len(masks):
        raise UserError(f"{len(images)} images and {len(masks)} masks: give one mask for each image")
    writer = DatasetWriter(path, suffix=".tif")
    for number, (image, labels) in enumerate(zip(images, masks, strict=True)):
        writer.add(f"{number:04d}", _pixels(image, labels), np.asarray(labels))
    writer.finish()


def _write_movie(
    path: Path, frames: Sequence[Image], masks: Sequence[Masks], tracks: NDArray[np.integer[Any]] | None
) -> None:
    if len(frames) != len(masks):
        raise UserError(f"{len(frames)} frames and {len(masks)} masks: give one mask for each frame")
    cells = {number: np.setdiff1d(labels, [0]) for number, labels in enumerate(masks)}
    rows, renamed = tracks_of(cells) if tracks is None else ([Track(*map(int, row)) for row in tracks], {})
    writer = MovieWriter(path)
    writer.announce("01", [row.label for row in rows])
    for number, (frame, labels) in enumerate(zip(frames, masks, strict=True)):
        writer.add_frame("01", number, _pixels(frame, labels))
        named = np.array(labels, np.int64)
        for (when, cell), label in renamed.items():
            if when == number:
                named[np.asarray(labels) == cell] = label
        writer.add_masks("01", "GT/TRA", number, named)
    writer.add_tracks("01", "GT/TRA", rows)
    writer.finish()


def _pixels(image: Image, labels: Masks) -> Image:
    """Return an image as (C, H, W); of three axes that one is of channels which its mask does not have."""
    image = np.asarray(image)
    if image.ndim == 3:
        fitting = [
            axes for axes, sides in (("CYX", image.shape[1:]), ("YXC", image.shape[:2])) if sides == labels.shape
        ]
        if len(fitting) != 1:
            raise UserError(f"an image {image.shape} and its mask {np.shape(labels)} must have one height and width")
        return channels_first(image, fitting[0])
    return channels_first(image)
