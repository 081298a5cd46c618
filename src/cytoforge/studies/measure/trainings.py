"""The trainings of studies, each done once, and segmenting with their runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from cytoforge.data.dataset import Dataset
from cytoforge.data.run import Run
from cytoforge.inference.segment import segment_dataset
from cytoforge.inference.segmenter import Segmenter
from cytoforge.metrics.morphology import SEGMENTED_DIAMETER
from cytoforge.places import SCRATCH
from cytoforge.progress import say
from cytoforge.studies.specification import MovieMethod, SegmenterNetwork, SequenceStudy, Study
from cytoforge.training import hyperparameters
from cytoforge.training.data import with_scale
from cytoforge.training.hyperparameters import Condition, LinkedMovies, suited
from cytoforge.training.specification import Budget, Compute, Data, Output, SyntheticData, Training
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.linker import LinkerTask
from cytoforge.training.tasks.movie import MovieTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.staged import finished, train_both_stages, train_two_stage
from cytoforge.training.tasks.task import Task, Trained, run_task
from cytoforge.training.tasks.tracker import TrackerTask

Kind = TypeVar("Kind", hyperparameters.Segmentation, hyperparameters.CycleGAN)
Windowed = TypeVar("Windowed", hyperparameters.Segmentation, hyperparameters.CycleGAN, hyperparameters.Generator)
Annealed = TypeVar("Annealed", bound=hyperparameters.Segmentation | hyperparameters.Adversarial)
Method = Callable[[Training], Run]
"""Trains a segmenter, or goes on with a training, or opens a finished one."""


def training_of(
    study: Study,
    data: Path,
    out: Path,
    seed: int,
    *,
    images: int | None = None,
    scale: float | None = None,
    synthetic: Path | None = None,
    unlabelled: Path | None = None,
) -> Training:
    """Return the specification of a training: budget and computer are the study's, and so is the scale if not given."""
    return Training(
        data=Data(
            path=data,
            limit=images,
            scale=study.scale if scale is None else scale,
            resize=study.resize,
            synthetic=None if synthetic is None else SyntheticData(path=synthetic),
            unlabelled=unlabelled,
        ),
        output=Output(path=out),
        budget=study.budget,
        compute=study.compute,
        seed=seed,
    )


def on_terms(parameters: Kind, study: Study, network: SegmenterNetwork | None = None) -> Kind:
    """Return hyperparameters of a segmenter with a study's target, augmentation, network and size of images."""
    return replace(
        windows_on_terms(parameters, study),
        network=network or study.network,
        target=study.target,
        augmentation=study.augmentation,
    )


def windows_on_terms(parameters: Windowed, study: Study) -> Windowed:
    """Return hyperparameters suited to the size that a study gives to images, and to its end."""
    return suited(parameters, study.preset, study.resize, until_converged=study.budget.until_converged)


def steady(parameters: Annealed, study: Study) -> Annealed:
    """Return hyperparameters suited to the end of a study's trainings, at windows of their own."""
    return suited(parameters, study.preset, None, until_converged=study.budget.until_converged)


def conventional(study: Study, network: SegmenterNetwork | None = None, *, start: Path = SCRATCH) -> Method:
    """Return conventional training of a segmenter, of the study's network if none is named."""
    parameters = on_terms(hyperparameters.SEGMENTATION[study.preset], study, network)
    return lambda training: trained(SegmentationTask(parameters, start), training)


def with_teacher(study: Study, network: SegmenterNetwork, *, start: Path = SCRATCH) -> Method:
    """Return training of a segmenter with a mean teacher, on images without masks, too."""
    parameters = on_terms(hyperparameters.MEAN_TEACHER[study.preset], study, network)
    return lambda training: trained(SegmentationTask(parameters, start), training)


def in_cycle(
    study: Study,
    network: SegmenterNetwork,
    *,
    warm_start: bool,
    masks: Literal["own", "simulated"] = "own",
    start: Path = SCRATCH,
) -> Method:
    """Return training of a segmenter in cGAN-Seg's cycle."""
    parameters = on_terms(hyperparameters.CYCLE_GAN[study.preset], study, network)
    parameters = replace(parameters, warm_start=hyperparameters.WARM_START if warm_start else 0.0, masks=masks)
    return lambda training: trained(SegmentationTask(parameters, start), training)


def in_stages(study: Study, condition: Condition | None, images: int, *, start: Path = SCRATCH) -> Method:
    """Return two-stage training of a segmenter: on real images, and on paintings of a generator trained first."""
    painting = windows_on_terms(hyperparameters.GENERATOR[study.preset], study)
    generator = replace(painting, condition=condition or "instances")
    segmenter = on_terms(hyperparameters.SEGMENTATION[study.preset], study)

    return lambda training: once(training, lambda: train_two_stage(segmenter, generator, training, images, start))


def at_fitting_scale(method: Method) -> Method:
    """Return a training at the scale that brings the cells of its own images to the size that suits segmenters."""
    return lambda training: method(
        replace(training, data=with_scale(training.data, SEGMENTED_DIAMETER, training.seed)[0])
    )


def trained(task: Task, training: Training) -> Run:
    """Train, go on with an interrupted training, or open a finished one; raises as `run_task`."""
    return once(training, lambda: run_task(task, training))


def once(training: Training, train: Callable[[], Trained]) -> Run:
    """Return the run of a training: opened if it is finished, else trained."""
    out = training.output.path
    return Run.open(out) if finished(out) else train().run


def reference_segmenter(study: Study, training: Training) -> Run:
    """Train the reference segmenter, once; the cells that it finds in paintings measure their faithfulness."""
    say([f"the reference segmenter, seed {training.seed}"])
    return conventional(study)(training)


def image_generator(parameters: hyperparameters.Generator, training: Training) -> Run:
    """Train an image generator on pairs, once."""
    return trained(GeneratorTask(parameters), training)


def generator_in_cycle(study: Study, parameters: hyperparameters.Generator, training: Training) -> Run:
    """Train an image generator in cGAN-Seg's cycle, once, with a segmenter on the study's terms."""
    cycle = replace(
        on_terms(hyperparameters.CYCLE_GAN[study.preset], study),
        generator=parameters.network,
        perceptual=parameters.perceptual,
        condition=parameters.condition,
    )
    return trained(SegmentationTask(cycle), training)


def movie_generator(study: SequenceStudy, method: MovieMethod, training: Training) -> Run:
    """Train a movie generator, once."""
    parameters = hyperparameters.VID2VID[study.preset] if method == "vid2vid" else _tgan(study)
    return trained(MovieTask(parameters), training)


def both_stages(study: SequenceStudy, training: Training) -> Run:
    """Train tGAN's two stages, once: a generator of frames of half the size, and one that enlarges them."""
    enlarging = steady(hyperparameters.SUPER_RESOLUTION[study.preset], study)
    return once(training, lambda: train_both_stages(_tgan(study), enlarging, training))


def _tgan(study: SequenceStudy) -> hyperparameters.Movie:
    parameters = steady(hyperparameters.MOVIE[study.preset], study)
    return replace(parameters, condition=study.condition or parameters.condition)


def until_converged(training: Training, max_steps: int) -> Training:
    """Return a training that ends when its validation has not risen for a quarter of `max_steps`, or with the last."""
    budget = Budget(steps=max_steps)
    return replace(training, budget=replace(budget, patience=budget.validations // 4))


def tracker(preset: str, training: Training) -> Run:
    """Train the DeepSea tracker, once."""
    return trained(TrackerTask(hyperparameters.TRACKER[preset]), training)


def linker(preset: str, movies: LinkedMovies, training: Training) -> Run:
    """Train the linker of whole movies, once, on real frames, movies simulated after them, or both."""
    return trained(LinkerTask(replace(hyperparameters.LINKER[preset], movies=movies)), training)


def segmented(run: Run, images: Path, out: Path, compute: Compute) -> Path:
    """Segment images with the segmenter of a run; what was segmented before is kept. Returns `out`."""
    segmenter = Segmenter.load(run.path, device=compute.device, threads=compute.threads)
    segment_dataset(segmenter, Dataset.open(images).images(), out)
    return out
