"""The interface for arrays: train, use, score and simulate; the commands do the same with folders.

Images are numpy arrays of any number type, grey (H, W), or with channels (H, W, C) or (C, H, W); masks are label images
(H, W) with 0 for background and a number for each cell. Movies are sequences of these.
"""

import contextlib
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cytoforge.data.images import channels_first, label_array
from cytoforge.data.label_check import check_label_arrays
from cytoforge.data.movie import MovieWriter, Track, tracks_of
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import Interrupted, UserError
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.load import Loaded
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tracker import Tracker
from cytoforge.metrics.morphology import FITTING_DIAMETER, SEGMENTED_DIAMETER
from cytoforge.metrics.segmentation import Protocol, SegmentationResults, segmentation_scores, summarise
from cytoforge.places import PRESENT, START
from cytoforge.progress import counted
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.lineage import Lineage, simulate_lineage
from cytoforge.simulation.masks import MODEL_DIAMETER, Layout, Shape, parametric_shapes, shapes_of, simulate_labels
from cytoforge.training import hyperparameters
from cytoforge.training.data import with_scale
from cytoforge.training.hyperparameters import Count, Hyperparameters, Positive, altered, checked, suited
from cytoforge.training.specification import DEFAULT_MINUTES, Budget, Compute, Data, Output, SyntheticData, Training
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.linker import LINKER_STEPS, LinkerTask
from cytoforge.training.tasks.movie import MovieTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import Task, run_task
from cytoforge.training.tasks.tracker import TrackerTask

Image = NDArray[Any]
Masks = NDArray[np.integer[Any]]
Rows = NDArray[np.integer[Any]] | Sequence[Sequence[int]]
Preset = Literal["tiny", "small", "paper"]
Method = Literal["conventional", "cyclegan", "mean-teacher"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Folder = Path | str
FOLDERS = ("validation", "synthetic", "unlabelled")  # options that name one
Progress = Callable[[float, str], None]
Model = TypeVar("Model", bound=Loaded)
Chosen = TypeVar("Chosen", bound=Hyperparameters)
Seed = Annotated[int, Field(ge=0)]
DIAMETER = 16.0  # px, of simulated cells where no masks are given
DENSITY = 0.2  # coverage of simulated masks where no masks are given


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train, for every task. Raises UserError for values out of range or that contradict each other."""

    minutes: Positive | None = None
    """training time in minutes; 10 if neither this nor steps nor epochs are given"""
    steps: Count | None = None
    """number of training steps, instead of a time"""
    epochs: Count | None = None
    """number of passes over the training images, instead of a time"""
    until_converged: bool = False
    """stop when the validation score has not risen for a quarter of the steps so far, at the latest after the budget"""
    patience: Count | None = None
    """stop after this many validations (of about 20 in a run) without improvement"""
    preset: Preset = "small"
    """size of networks, windows and batches: tiny, small or paper"""
    scale: Annotated[float, Field(gt=0, le=8)] | Literal["auto"] | None = None
    """factor by which images are resized for the network, or auto, so that the annotated cells suit it; without it auto
    for segmenters and 1 for others. What the model returns has the size of the image"""
    resize: tuple[Count, Count] | None = None
    """height and width to which all images are resized instead, whatever their aspect"""
    validation: Folder | None = None
    """folder of annotated images for choosing the best weights, or else a fifth of those given, drawn by the seed"""
    limit: Count | None = None
    """use only this many annotated images, training and validation together"""
    synthetic: Folder | None = None
    """folder of synthetic annotated images to learn from, too; never validated on"""
    unlabelled: Folder | None = None
    """folder of images without masks to learn from, too"""
    seed: Seed = 0
    """seed of everything random"""
    out: Path | str | None = None
    """run folder to keep; a call that was interrupted goes on with it when it is repeated. Without it the run is
    removed with the model, whose `save` copies it"""
    overwrite: bool = False
    """replace an existing run in `out`"""
    device: Device = "auto"
    """where to compute: auto, cpu, cuda or mps"""
    threads: Count | None = None
    """threads of the CPU; if None OMP_NUM_THREADS, or all cores that this process may use"""
    progress: Progress | None = None
    """called with the share done, 0 to 1, and a short note; without it a bar is shown on the standard error stream. It
    may raise Interrupted to stop the training after this step, with everything saved in `out`"""

    def __post_init__(self) -> None:
        for name in FOLDERS:
            if (folder := getattr(self, name)) is not None:
                if not isinstance(folder, (str, Path)):
                    raise UserError(f"{name}: takes the path of a folder (docs/formats.md), no arrays; save them first")
                PRESENT.check(Path(folder))
        for name, hint in get_type_hints(Options, include_extras=True).items():
            object.__setattr__(self, name, checked(hint, value := getattr(self, name), f"{name}={value!r}"))
        if sum(budget is not None for budget in (self.minutes, self.steps, self.epochs)) > 1:
            raise UserError("give one of minutes, steps and epochs")
        if self.until_converged and self.patience is not None:
            raise UserError("give patience or until_converged, not both")
        if self.resize is not None and self.scale not in (None, "auto", 1):
            raise UserError("give scale or resize, not both")
        if self.limit == 1 and self.validation is not None:
            raise UserError("limit=1 with validation leaves no image to train on")

    @property
    def budget(self) -> Budget:
        """The budget of the training: steps, epochs or seconds."""
        minutes = self.minutes
        if minutes is None and self.steps is None and self.epochs is None:
            minutes = DEFAULT_MINUTES
        return Budget(
            steps=self.steps,
            epochs=self.epochs,
            seconds=None if minutes is None else 60 * minutes,
            patience=self.patience,
            until_converged=self.until_converged,
        )

    def data(self, path: Path, digest: str | None) -> Data:
        """Return what is learned from: a folder, or one of arrays with this SHA-256, and the other images."""
        validation, synthetic, unlabelled = (
            None if folder is None else Path(folder) for folder in (self.validation, self.synthetic, self.unlabelled)
        )
        return Data(
            path=path,
            arrays=digest,
            validation=validation,
            limit=self.limit,
            scale=self.scale if isinstance(self.scale, float) else 1.0,
            resize=self.resize,
            synthetic=None if synthetic is None else SyntheticData(path=synthetic),
            unlabelled=unlabelled,
        )


DEFAULTS = Options()
SEGMENTERS: dict[Method, Mapping[str, hyperparameters.Segmentation | hyperparameters.CycleGAN]] = {
    "conventional": hyperparameters.SEGMENTATION,
    "cyclegan": hyperparameters.CYCLE_GAN,
    "mean-teacher": hyperparameters.MEAN_TEACHER,
}


def train_segmenter(
    images: Sequence[Image] | Image | Path | str,
    masks: Sequence[Masks] | Masks | None = None,
    *,
    method: Method = "conventional",
    start: Path | str | None = None,
    options: Options = DEFAULTS,
    **values: Any,
) -> Segmenter:
    """Train a segmenter on annotated images: arrays with a mask for each, or a dataset or movie folder.

    `method` is that of `cytoforge train segmentation`. `start` is base, scratch, or a run to go on from; without it
    training starts from the base model where that fits. `values` are further `Options`, such as minutes=5, or
    hyperparameters of `hyperparameters.Segmentation`, `CycleGAN` or `MeanTeacher` by method, such as target="semantic"
    or rate=1e-3. Of these options `synthetic` belongs to the conventional method, and `unlabelled` to the two others.
    Raises UserError on unusable data or values, and Interrupted after a signal.
    """
    method = checked(Method, method, f"method={method!r}")
    without = "unlabelled" if method == "conventional" else "synthetic"
    options, parameters = _settled(SEGMENTERS[method], options, values, without)
    if method == "mean-teacher" and options.unlabelled is None:
        raise UserError("method='mean-teacher' needs unlabelled, a folder of images")
    start = None if start is None else Path(start)
    if start is not None:
        START.check(start)
    if options.scale is None:
        options = replace(options, scale="auto")
    return _trained(
        SegmentationTask(parameters, start), _dataset(images, masks), options, Segmenter.load, SEGMENTED_DIAMETER
    )


def train_image_generator(
    images: Sequence[Image] | Image | Path | str,
    masks: Sequence[Masks] | Masks | None = None,
    *,
    options: Options = DEFAULTS,
    **values: Any,
) -> ImageGenerator:
    """Train an image generator on annotated images.

    Arguments and errors as of train_segmenter, with the hyperparameters of `hyperparameters.Generator`. It learns from
    neither `synthetic` nor `unlabelled` images.
    """
    options, parameters = _settled(hyperparameters.GENERATOR, options, values, "synthetic", "unlabelled")
    return _trained(GeneratorTask(parameters), _dataset(images, masks), options, ImageGenerator.load)


def train_movie_generator(
    frames: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None = None,
    *,
    options: Options = DEFAULTS,
    **values: Any,
) -> MovieGenerator:
    """Train a movie generator on an annotated movie, whose cells keep their numbers from frame to frame.

    Arguments and errors as of train_segmenter, with the hyperparameters of `hyperparameters.Movie`. It takes no `limit`
    and learns from neither `synthetic` nor `unlabelled` images.
    """
    options, parameters = _settled(hyperparameters.MOVIE, options, values, "limit", "synthetic", "unlabelled")
    return _trained(MovieTask(parameters), _movie(frames, masks, None), options, MovieGenerator.load)


def train_tracker(
    frames: Sequence[Image] | Path | str,
    masks: Sequence[Masks] | None = None,
    tracks: Rows | None = None,
    *,
    method: Literal["global", "deepsea"] = "global",
    start: Path | str | None = None,
    options: Options = DEFAULTS,
    **values: Any,
) -> Tracker:
    """Train a tracker on a movie whose cells have the numbers of their tracks.

    `tracks` (N, 4) are label, first frame, last frame and label of the parent or 0; without them no cell divides.
    `method` and `start` are those of `cytoforge train tracker`; without minutes, steps or epochs global takes about a
    minute. Other arguments and errors as of train_segmenter, with the hyperparameters of `hyperparameters.Linker` or,
    by method deepsea, `Tracker`. All cells are seen at one size, so `scale` has no effect; `resize` and `unlabelled`
    images are not taken, nor are `synthetic` ones by global.
    """
    method = checked(Literal["global", "deepsea"], method, f"method={method!r}")
    movie = _movie(frames, masks, tracks)
    if method == "deepsea":
        options, tracker = _settled(hyperparameters.TRACKER, options, values, "resize", "unlabelled")
        return _trained(TrackerTask(tracker), movie, options, Tracker.load)
    options, linker = _settled(hyperparameters.LINKER, options, values, "resize", "unlabelled", "synthetic")
    start = Path("base") if start is None else Path(start)
    START.check(start)
    if options.minutes is None and options.steps is None and options.epochs is None:
        options = replace(options, steps=LINKER_STEPS)
    return _trained(LinkerTask(linker, start), movie, options, Tracker.load)


def score_segmentation(
    predicted: Masks | Sequence[Masks],
    true: Masks | Sequence[Masks],
    *,
    protocol: Protocol = "instances",
    seed: int = 0,
) -> SegmentationResults:
    """Score predicted against true label images (H, W), one or several, at IoU 0.5 to 0.9 (docs/metrics.md).

    Protocol "instances" scores cells by their numbers, "paper" connected components, as of masks with one value for all
    cells. Intervals come from resampling images, by `seed`. Raises UserError where numbers or sizes of images differ,
    and where masks do not number the cells as the protocol needs it.
    """
    protocol = checked(Protocol, protocol, f"protocol={protocol!r}")
    seed = checked(Seed, seed, f"seed={seed!r}")
    found, truth = _several(predicted), _several(true)
    if len(found) != len(truth) or not found:
        raise UserError(f"{len(found)} predicted and {len(truth)} true masks: give one for each")
    true_cells, found_cells = (
        [label_array(labels, f"{side} mask {number}") for number, labels in enumerate(masks)]
        for side, masks in zip(SIDES, (truth, found), strict=True)
    )
    for side, cells in zip(SIDES, (true_cells, found_cells), strict=True):
        check_label_arrays(
            f"{side} mask",
            cells,
            binary=protocol == "paper",
            otherwise='protocol="paper", which scores connected components',
            segmented=side == "predicted",
        )
    scores = {}
    for number, (one, other) in enumerate(zip(true_cells, found_cells, strict=True)):
        if one.shape != other.shape:
            raise UserError(f"mask {number}: is predicted {other.shape} and truly {one.shape}; give masks of one size")
        scores[f"{number:04d}"] = segmentation_scores(one, other, protocol=protocol)
    return summarise(scores, np.random.default_rng(seed))


def simulate_masks(
    like: Sequence[Masks] | Masks | None = None,
    count: int = 1,
    *,
    size: tuple[int, int] = (256, 256),
    density: float | None = None,
    layout: Layout = "mixed",
    diameter: float = DIAMETER,
    seed: int = 0,
) -> list[NDArray[np.int32]]:
    """Simulate `count` label images int32 (H, W) of cells shaped like those of `like`, or `diameter` pixels across.

    `size` is (H, W). `density` is the coverage if below 1, and else the number of cells; without it it is that of
    `like`. Image k depends on the seed and k only. Raises UserError where no cell of `like` lies wholly inside its
    image, and for values out of range.
    """
    _check(size=size, density=density, layout=layout, diameter=diameter, seed=seed)
    count = checked(Annotated[int, Field(ge=0)], count, f"count={count!r}")
    masks = None if like is None else _several(like)
    found = []
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        with _values():
            shapes, magnification, usual = _model(masks, diameter, generator)
            wanted = usual if density is None else density
            simulated = simulate_labels(
                shapes, size, generator, density=wanted, layout=layout, magnification=magnification
            )
        found.append(simulated.labels)
    return found


def simulate_movie(
    like: Sequence[Masks] | Masks | None = None,
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

    `frames` is T; other arguments and errors as of simulate_masks. `dynamics` says how cells behave.
    """
    _check(size=size, density=density, layout=layout, diameter=diameter, seed=seed)
    frames = checked(int, frames, f"frames={frames!r}")
    generator = np.random.default_rng([seed, 0])
    with _values():
        shapes, magnification, usual = _model(like, diameter, generator)
        return simulate_lineage(
            shapes,
            size,
            frames,
            generator,
            density=usual if density is None else density,
            dynamics=dynamics,
            layout=layout,
            magnification=magnification,
        )


SIDES = ("true", "predicted")


def _several(masks: Masks | Sequence[Masks]) -> list[Masks]:
    """Return a list of label images, also for a single one."""
    return [masks] if isinstance(masks, np.ndarray) and masks.ndim == 2 else list(masks)


def _check(**values: Any) -> None:
    """Raise UserError for values that no simulation takes."""
    for name, hint in (
        ("size", tuple[Count, Count]),
        ("density", Positive | None),
        ("layout", Layout),
        ("diameter", Positive),
        ("seed", Seed),
    ):
        checked(hint, values[name], f"{name}={values[name]!r}")


@contextlib.contextmanager
def _values() -> Iterator[None]:
    """Turn the ValueError of a simulation into a UserError."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def _model(
    like: Sequence[Masks] | Masks | None, diameter: float, generator: np.random.Generator
) -> tuple[Sequence[Shape], float, float]:
    """Return shapes to draw from, their magnification and the usual coverage."""
    if like is None:
        return parametric_shapes(generator), diameter / MODEL_DIAMETER, DENSITY
    masks = [label_array(labels, f"mask {number}") for number, labels in enumerate(_several(like))]
    shapes = [shape for labels in masks for shape in shapes_of(labels)]
    if not shapes:
        raise UserError("every cell of the masks is cut by the edge of its image, or tiny; give larger images")
    coverage = float(np.mean([np.count_nonzero(labels) / np.size(labels) for labels in masks]))
    return shapes, 1.0, coverage


def _settled(
    presets: Mapping[str, Chosen], options: Options, values: dict[str, Any], *without: str
) -> tuple[Options, Chosen]:
    """Return options and the preset's hyperparameters, both changed by `values`.

    Raises UserError for unknown names, and for options `without` which this training is.
    """
    names = {entry.name for entry in fields(Options)}
    options = replace(options, **{name: value for name, value in values.items() if name in names})
    own = {name: value for name, value in values.items() if name not in names}
    for name in without:
        if getattr(options, name) is not None:
            raise UserError(f"{name}: this training has no such option; leave it out")
    parameters = suited(
        presets[options.preset], options.preset, options.resize, until_converged=options.until_converged
    )
    if unknown := sorted(own.keys() - {entry.name for entry in fields(parameters)}):
        there = ", ".join([*sorted(names), *(entry.name for entry in fields(parameters))])
        raise UserError(f"{', '.join(unknown)}: there is no such option or hyperparameter; there are {there}")
    return options, altered(parameters, own)


@dataclass(frozen=True)
class _Folder:
    """A folder that stays where it is, or arrays to be written to one."""

    path: Path | None = None
    write: Callable[[Path], None] = lambda path: None
    digest: str | None = None
    """SHA-256 of arrays"""


def _dataset(images: Sequence[Image] | Image | Path | str, masks: Sequence[Masks] | Masks | None) -> _Folder:
    if isinstance(images, (str, Path)):
        return _named(images, masks)
    several: list[Image] = [np.asarray(images)] if isinstance(masks, np.ndarray) and masks.ndim == 2 else list(images)
    pairs = _pairs(several, None if masks is None else _several(masks), "image")

    def write(path: Path) -> None:
        writer = DatasetWriter(path, suffix=".tif")
        for number, (image, labels) in enumerate(pairs):
            writer.add(f"{number:04d}", image, labels)
        writer.finish()

    return _Folder(write=write, digest=_digest(pairs))


def _movie(frames: Sequence[Image] | Path | str, masks: Sequence[Masks] | None, tracks: Rows | None) -> _Folder:
    if isinstance(frames, (str, Path)):
        return _named(frames, masks if masks is not None else tracks)
    pairs = _pairs(list(frames), None if masks is None else list(masks), "frame")
    sizes = {image.shape for image, _ in pairs}
    if len(sizes) > 1:
        raise UserError(f"the frames are of {' and '.join(map(str, sorted(sizes)))}; give frames of one size")
    cells = {number: np.setdiff1d(labels, [0]) for number, (_, labels) in enumerate(pairs)}
    rows, renamed = tracks_of(cells) if tracks is None else (_rows(tracks), {})

    def write(path: Path) -> None:
        writer = MovieWriter(path)
        writer.announce("01", [row.label for row in rows])
        for number, (image, labels) in enumerate(pairs):
            writer.add_frame("01", number, image)
            named = labels.copy()
            for (when, cell), label in renamed.items():
                if when == number:
                    named[labels == cell] = label
            writer.add_masks("01", "GT/TRA", number, named)
        try:
            writer.add_tracks("01", "GT/TRA", rows)
        except ValueError as error:
            raise UserError(str(error).partition(": ")[2]) from error
        writer.finish()

    return _Folder(write=write, digest=_digest([*pairs, np.array(rows)]))


def _rows(tracks: Rows) -> tuple[Track, ...]:
    rows = np.asarray(tracks)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iu":
        raise UserError(f"tracks: are whole numbers (N, 4), label, first and last frame, parent or 0, not {rows.shape}")
    return tuple(Track(*map(int, row)) for row in rows)


def _named(folder: Path | str, others: object) -> _Folder:
    if others is not None:
        raise UserError(f"{folder}: a folder has its own masks and tracks; give no others with it")
    if not Path(folder).exists():
        raise UserError(f"{folder}: does not exist; check the name")
    return _Folder(Path(folder))


def _pairs(images: list[Image], masks: list[Masks] | None, noun: str) -> list[tuple[Image, NDArray[np.int32]]]:
    """Return images as (C, H, W) with their labels (H, W); the axis of channels is the one that the mask lacks."""
    if masks is None:
        raise UserError(f"arrays of {noun}s need their masks; give both, or a folder")
    if len(images) != len(masks) or not images:
        raise UserError(
            f"{counted(len(images), noun)} and {counted(len(masks), 'mask')}: give at least one, and a mask for each"
        )
    pairs = []
    for number, (image, labels) in enumerate(zip(images, masks, strict=True)):
        cells = label_array(labels, f"mask {number}")
        try:
            pairs.append((channels_first(image, size=cells.shape), cells))
        except UserError as error:
            raise UserError(f"{noun} {number}: {error}") from error
    return pairs


def _digest(arrays: Sequence[Any]) -> str:
    """Return the SHA-256 of arrays: types, shapes and contents."""
    found = sha256()
    for array in (part for entry in arrays for part in (entry if isinstance(entry, tuple) else (entry,))):
        found.update(f"{array.dtype.str} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _trained(
    task: Task,
    folder: _Folder,
    options: Options,
    load: Callable[..., Model],
    diameter: float = FITTING_DIAMETER,
) -> Model:
    """Train a task on a folder, or on arrays written to one; return the model.

    With scale "auto" the median annotated cell gets `diameter` pixels.
    Without `out` the run lies in a temporary folder, which is removed with the model, or when training fails.
    """
    with contextlib.ExitStack() as places:
        out = Path(places.enter_context(_temporary()), "run") if options.out is None else Path(options.out)
        with _temporary() as name:
            data = folder.path or Path(name, "arrays")
            training = Training(
                data=options.data(data, folder.digest),
                output=Output(path=out, overwrite=options.overwrite),
                budget=options.budget,
                compute=Compute(device=options.device, threads=options.threads),
                seed=options.seed,
            )
            try:
                folder.write(data)
                if options.scale == "auto":
                    training = replace(training, data=with_scale(training.data, diameter, options.seed)[0])
                run_task(task, training, options.progress)
            except UserError as error:
                raise UserError(training.data.told(str(error))) from error
            except Interrupted as error:
                if options.out is None:
                    raise Interrupted("stopped, nothing is kept; give out= a folder to go on another time") from error
                raise
        model = load(out, device=options.device, threads=options.threads)
        weakref.finalize(model, places.pop_all().close)
        return model


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cytoforge-")
