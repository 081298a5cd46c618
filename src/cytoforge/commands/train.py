"""`cytoforge train ...`: turn flags into hyperparameters and specifications, train, and print the result."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from cytoforge.commands.narrowed import size, view_of
from cytoforge.data.images import reduced_size
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import FITTING_DIAMETER, SEGMENTED_DIAMETER
from cytoforge.places import SCRATCH
from cytoforge.progress import say
from cytoforge.settings import (
    Limited,
    PainterTraining,
    Scaled,
    TrainGenerator,
    Training,
    TrainMovie,
    TrainSegmentation,
    TrainTracker,
    WithSynthetic,
)
from cytoforge.training import hyperparameters, specification
from cytoforge.training.course import trained_in
from cytoforge.training.data import with_scale
from cytoforge.training.hyperparameters import (
    Adversarial,
    CycleGAN,
    Hyperparameters,
    Vid2Vid,
    changed,
    described,
    spoken,
    suited,
    written,
)
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.linker import LINKER_STEPS, LinkerTask
from cytoforge.training.tasks.movie import MovieTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.staged import train_both_stages, train_two_stage
from cytoforge.training.tasks.super_resolution import SuperResolutionTask
from cytoforge.training.tasks.task import Task, Trained, run_task
from cytoforge.training.tasks.tracker import TrackerTask

Painter = TypeVar("Painter", bound=Adversarial)
Plain = TypeVar("Plain", bound=hyperparameters.Segmentation)
Windowed = TypeVar(
    "Windowed",
    bound=hyperparameters.Segmentation
    | CycleGAN
    | hyperparameters.Generator
    | hyperparameters.Movie
    | hyperparameters.SuperResolution
    | Vid2Vid,
)
Compared = TypeVar("Compared", bound=str)


def train_segmentation(settings: TrainSegmentation) -> Run:
    """Train a segmenter and print its run folder; raises UserError and Interrupted as `tasks.task.run_task`."""
    if settings.method == "two-stage":
        parameters, generator = segmentation_parameters(settings), stage_generator(settings)
        start = settings.start or SCRATCH
        trained = train_two_stage(parameters, generator, specified(settings), settings.synthetic_images, start)
    else:
        chosen = PARAMETERS.get(settings.method, segmentation_parameters)(settings)
        trained = run_task(SegmentationTask(chosen, settings.start), specified(settings))
    return _told(trained, "segmenter", "segment {} IMAGES")


def train_generator(settings: TrainGenerator) -> Run:
    """Train an image generator and print its run folder; raises as `tasks.task.run_task`."""
    trained = run_task(GeneratorTask(generator_parameters(settings), settings.start), specified(settings))
    return _told(trained, "generator", "generate images {} MASKS")


def train_movie(settings: TrainMovie) -> Run:
    """Train a movie generator, or its second stage, and print its run folder; raises as `tasks.task.run_task`."""
    if settings.stage == "low-resolution":
        trained = run_task(MovieTask(movie_parameters(settings), start=settings.start), specified(settings))
        return _told(trained, "movie generator", "generate movie {} MASKS")
    enlarging = enlarging_parameters(settings)
    if settings.stage == "both":
        parameters = movie_parameters(settings)
        assert not isinstance(parameters, Vid2Vid)
        trained = train_both_stages(parameters, enlarging, specified(settings), settings.start)
    else:
        first, others = first_stage(settings)
        trained = run_task(SuperResolutionTask(enlarging, first, others), specified(settings))
    return _told(trained, "super-resolution generator", "generate movie {} MASKS")


def first_stage(settings: TrainMovie) -> tuple[Path, tuple[Path, ...]]:
    """Return the run of the first stage that --start names, and the other runs to start from.

    Raises UserError where several of them hold a movie generator.
    """
    filming = [path for path in settings.start if "low-resolution" in Run.open(path).settings.networks]
    if len(filming) > 1:
        raise UserError(f"{filming[1]}: holds a movie generator, as {filming[0]} does; give only one of them")
    first = filming[0] if filming else settings.start[0]
    return first, tuple(path for path in settings.start if path != first)


def train_tracker(settings: TrainTracker) -> Run:
    """Train a tracker and print its run folder; raises as `tasks.task.run_task`."""
    if settings.method == "global":
        task: Task = LinkerTask(linker_parameters(settings), settings.start or Path("base"))
    else:
        task = TrackerTask(tracker_parameters(settings))
    return _told(run_task(task, specified(settings)), "tracker", "track {} MOVIE")


def tell_settings(settings: Training) -> None:
    """Print the hyperparameters that --set changes: name, value, permitted values and meaning.

    Raises UserError as `hyperparameters.changed`.
    """
    parameters, note = _chosen(settings)
    print(f"--set NAME=VALUE changes these hyperparameters{note}:\n")
    for entry in described(parameters):
        print(f"{entry.name}={written(entry.value)}  ({spoken(entry.type)})\n    {entry.meaning}")


def _chosen(settings: Training) -> tuple[Hyperparameters, str]:
    """Return the hyperparameters that --set changes, and a note that names their stages if there are several."""
    if isinstance(settings, TrainSegmentation):
        if settings.method in PARAMETERS:
            return PARAMETERS[settings.method](settings), ""
        note = ", of both segmenters and not of the generator" if settings.method == "two-stage" else ""
        return segmentation_parameters(settings), note
    if isinstance(settings, TrainGenerator):
        return generator_parameters(settings), ""
    if isinstance(settings, TrainMovie):
        if settings.stage == "super-resolution":
            return enlarging_parameters(settings), ""
        note = ", of the low-resolution stage and not of super-resolution" if settings.stage == "both" else ""
        return movie_parameters(settings), note
    assert isinstance(settings, TrainTracker)
    return (linker_parameters if settings.method == "global" else tracker_parameters)(settings), ""


def _told(trained: Trained, what: str, proceed: str) -> Run:
    path = trained.run.path
    if trained.main:
        print(f"{path}: {what} trained in {trained_in(trained.state)}; cytoforge {proceed.format(path)} --out OUT")
    return trained.run


def specified(settings: Training) -> specification.Training:
    """Return the data, device, budget and output folder that the flags give.

    With --scale auto the masks are read, and the scale is said. Raises UserError as `with_scale`.
    """
    synthetic = None
    if isinstance(settings, WithSynthetic) and settings.synthetic is not None:
        synthetic = specification.SyntheticData(
            path=settings.synthetic, schedule=settings.schedule, share=settings.synthetic_share
        )
    part, parts = map(int, settings.fold.split("/")) if settings.fold else (0, 0)
    scale = settings.scale if isinstance(settings, Scaled) else 1.0
    data = specification.Data(
        path=settings.data,
        sequences=settings.sequence,
        validation=settings.validation,
        limit=settings.limit if isinstance(settings, Limited) else None,
        split_by=settings.split_by,
        fold=(part, parts) if settings.fold else None,
        scale=1.0 if scale == "auto" else scale,
        resize=resize_of(settings),
        synthetic=synthetic,
        unlabelled=getattr(settings, "unlabelled", None),
        channels=view_of(settings).channels,
        project=settings.project,
    )
    if scale == "auto":
        data, notes = with_scale(data, _suitable_diameter(settings), settings.seed)
        say(notes)
    return specification.Training(
        data=data,
        output=specification.Output(path=settings.out, overwrite=settings.overwrite),
        budget=budget_of(settings),
        compute=specification.Compute(
            device=settings.device,
            devices=settings.devices,
            nodes=settings.nodes,
            accumulate=settings.accumulate,
            precision=settings.precision,
            threads=settings.threads,
            weights_dir=getattr(settings, "weights_dir", None),
        ),
        seed=settings.seed,
    )


def _suitable_diameter(settings: Training) -> float:
    """Return the diameter in pixels to which --scale auto brings cells."""
    if isinstance(settings, TrainSegmentation):
        return SEGMENTED_DIAMETER
    if isinstance(settings, TrainMovie) and settings.stage != "low-resolution":
        return FITTING_DIAMETER * settings.factor
    return FITTING_DIAMETER


def budget_of(settings: Training) -> specification.Budget:
    """Return the budget that the flags give: steps, epochs or minutes, or the default."""
    steps, epochs, minutes = settings.steps, settings.epochs, settings.minutes
    if steps is None and epochs is None and minutes is None:
        if isinstance(settings, TrainTracker) and settings.method == "global":
            steps = LINKER_STEPS
        else:
            minutes = specification.DEFAULT_MINUTES
    return specification.Budget(
        steps=steps,
        epochs=epochs,
        seconds=None if minutes is None else 60 * minutes,
        clock=settings.clock,
        patience=settings.patience,
        until_converged=settings.until_converged,
    )


def resize_of(settings: Training) -> tuple[int, int] | None:
    """Return the height and width that all images get, or None where they have a scale."""
    return size(settings.resize) if isinstance(settings, Scaled) else None


def segmentation_parameters(settings: TrainSegmentation) -> hyperparameters.Segmentation:
    """Return the hyperparameters of conventional training."""
    return _segmentation(hyperparameters.SEGMENTATION[settings.preset], settings)


def _segmentation(preset: Plain, settings: TrainSegmentation) -> Plain:
    parameters = replace(
        _windows(preset, settings),
        network=settings.network,
        target=settings.target,
        augmentation=settings.augmentation,
        p_vanilla=settings.p_vanilla,
        norm=settings.norm,
    )
    return changed(parameters, settings.set)


def cycle_parameters(settings: TrainSegmentation) -> CycleGAN:
    """Return the hyperparameters of cGAN-Seg's cycle training (--method cyclegan)."""
    parameters = replace(
        _windows(_painting(hyperparameters.CYCLE_GAN[settings.preset], settings), settings),
        network=settings.network,
        generator=settings.generator,
        target=settings.target,
        augmentation=settings.augmentation,
        p_vanilla=settings.p_vanilla,
        condition=settings.condition or "mask",
        masks=settings.masks,
        warm_start=hyperparameters.WARM_START if settings.warm_start else 0.0,
    )
    return changed(parameters, settings.set)


def teacher_parameters(settings: TrainSegmentation) -> hyperparameters.MeanTeacher:
    """Return the hyperparameters of training with a mean teacher."""
    return _segmentation(hyperparameters.MEAN_TEACHER[settings.preset], settings)


PARAMETERS: dict[str, Callable[[TrainSegmentation], CycleGAN | hyperparameters.Segmentation]] = {
    "cyclegan": cycle_parameters,
    "mean-teacher": teacher_parameters,
}


def stage_generator(settings: TrainSegmentation) -> hyperparameters.Generator:
    """Return the hyperparameters of the generator of the two-stage method."""
    parameters = _windows(_painting(hyperparameters.GENERATOR[settings.preset], settings), settings)
    return replace(parameters, condition=settings.condition or "instances")


def generator_parameters(settings: TrainGenerator) -> hyperparameters.Generator:
    """Return the hyperparameters of `train generator`."""
    preset = hyperparameters.GENERATOR[settings.preset]
    background = settings.background
    if background == "auto":
        able = settings.network == "style-unet" and settings.augmentation == "flip"
        background = preset.background if able else "painted"
    parameters = replace(
        _windows(_painting(preset, settings), settings),
        network=settings.network,
        augmentation=settings.augmentation,
        p_vanilla=settings.p_vanilla,
        condition=settings.condition or "mask",
        background=background,
    )
    if settings.loss == "l1":
        parameters = replace(parameters, perceptual="none")
    elif parameters.perceptual == "features" and background == "painted":
        parameters = replace(parameters, perceptual=hyperparameters.TEXTURES[settings.preset])
    return changed(parameters, settings.set)


def movie_parameters(settings: TrainMovie) -> hyperparameters.Movie | Vid2Vid:
    """Return the hyperparameters of the low-resolution stage of tGAN, or of vid2vid."""
    if settings.method == "vid2vid":
        preset = hyperparameters.VID2VID[settings.preset]
        return changed(
            replace(
                _windows(preset, settings),
                norm=settings.norm if settings.given("norm") else preset.norm,
                augmentation=settings.augmentation or preset.augmentation,
                p_vanilla=settings.p_vanilla,
                condition=settings.condition or preset.condition,
                perceptual=_perceptual(settings, preset.perceptual),
            ),
            settings.set,
        )
    tgan = hyperparameters.MOVIE[settings.preset]
    parameters = replace(
        _windows(_painting(tgan, settings), settings, settings.factor if settings.stage == "both" else 1),
        augmentation=settings.augmentation or tgan.augmentation,
        p_vanilla=settings.p_vanilla,
        condition=settings.condition or tgan.condition,
        window=settings.window,
        lag=settings.lag,
    )
    return changed(parameters, settings.set)


def enlarging_parameters(settings: TrainMovie) -> hyperparameters.SuperResolution:
    """Return the hyperparameters of the super-resolution stage of tGAN."""
    preset = hyperparameters.SUPER_RESOLUTION[settings.preset]
    parameters = replace(
        _windows(_painting(preset, settings), settings, settings.factor),
        augmentation=settings.augmentation or preset.augmentation,
        p_vanilla=settings.p_vanilla,
        factor=settings.factor,
    )
    return changed(parameters, settings.set if settings.stage == "super-resolution" else ())


def tracker_parameters(settings: TrainTracker) -> hyperparameters.Tracker:
    """Return the hyperparameters of `train tracker`."""
    preset = hyperparameters.TRACKER[settings.preset]
    return changed(
        replace(preset, norm=settings.norm, augmentation=settings.augmentation, p_vanilla=settings.p_vanilla),
        settings.set,
    )


def linker_parameters(settings: TrainTracker) -> hyperparameters.Linker:
    """Return the hyperparameters of `train tracker --method global`."""
    return changed(hyperparameters.LINKER[settings.preset], settings.set)


def _windows(parameters: Windowed, settings: Scaled, factor: int = 1) -> Windowed:
    """Return hyperparameters suited to the size of the images, which a second stage enlarges by `factor`."""
    size = resize_of(settings)
    small = None if size is None else reduced_size(size, factor)
    return suited(parameters, settings.preset, small, until_converged=settings.until_converged)


def _painting(parameters: Painter, settings: PainterTraining) -> Painter:
    """Return hyperparameters changed by the flags that all trainings of generators have."""
    values: dict[str, Any] = {
        "norm": settings.norm,
        "perceptual": _perceptual(settings, parameters.perceptual),
        "style_mixing": settings.style_mixing,
        "p_diff": settings.p_diff,
    }
    return replace(parameters, **values, heads=parameters.heads if settings.attention else 0)


def _perceptual(settings: PainterTraining, preset: Compared) -> Compared | Literal["vgg", "features"]:
    return preset if settings.perceptual == "auto" else settings.perceptual
