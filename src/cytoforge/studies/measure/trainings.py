"""The trainings of studies, each done once, and segmenting with their runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cytoforge.data.dataset import Dataset
from cytoforge.data.run import Run
from cytoforge.inference.segment import segment_dataset
from cytoforge.inference.segmenter import Segmenter
from cytoforge.progress import say
from cytoforge.studies.specification import MovieMethod, Study
from cytoforge.training import hyperparameters
from cytoforge.training.hyperparameters import Condition
from cytoforge.training.loop import VALIDATIONS
from cytoforge.training.specification import Budget, Compute, Data, Output, SyntheticData, Training
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.movie import MovieTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.staged import finished, train_both_stages, train_two_stage
from cytoforge.training.tasks.task import Task, run_task
from cytoforge.training.tasks.tracker import TrackerTask

Method = Callable[[Training], Run]
"""Trains a segmenter, or goes on with a training, or opens a finished one."""


def training_of(
    study: Study,
    data: Path,
    out: Path,
    seed: int,
    *,
    limit: int | None = None,
    scale: float | None = None,
    synthetic: Path | None = None,
) -> Training:
    """Return the specification of a training: budget and computer are the study's, and so is the scale if not given."""
    return Training(
        data=Data(
            path=data,
            limit=limit,
            scale=study.scale if scale is None else scale,
            synthetic=None if synthetic is None else SyntheticData(path=synthetic),
        ),
        output=Output(path=out),
        budget=study.budget,
        compute=study.compute,
        seed=seed,
    )


def conventional(preset: str, network: str = "unet") -> Method:
    """Return conventional training of a segmenter."""
    parameters = hyperparameters.altered(hyperparameters.SEGMENTATION[preset], {"network": network})
    return lambda training: trained(SegmentationTask(parameters), training)


def in_cycle(preset: str, network: str, *, warm_start: bool) -> Method:
    """Return training of a segmenter in cGAN-Seg's cycle."""
    values = {"network": network, "warm_start": hyperparameters.WARM_START if warm_start else 0.0}
    parameters = hyperparameters.altered(hyperparameters.CYCLE_GAN[preset], values)
    return lambda training: trained(SegmentationTask(parameters), training)


def in_stages(preset: str, condition: Condition | None) -> Method:
    """Return two-stage training of a segmenter: on real images, and on paintings of a generator trained first."""
    generator = replace(hyperparameters.GENERATOR[preset], condition=condition or "instances")

    def train(training: Training) -> Run:
        out = training.output.path
        if finished(out):
            return Run.open(out)
        return train_two_stage(hyperparameters.SEGMENTATION[preset], generator, training).run

    return train


def trained(task: Task, training: Training) -> Run:
    """Train, go on with an interrupted training, or open a finished one; raises as `run_task`."""
    out = training.output.path
    return Run.open(out) if finished(out) else run_task(task, training).run


def reference_segmenter(preset: str, training: Training) -> Run:
    """Train the reference segmenter, once; the cells that it finds in paintings measure their faithfulness."""
    say([f"the reference segmenter, seed {training.seed}"])
    return conventional(preset)(training)


def image_generator(parameters: hyperparameters.Generator, training: Training) -> Run:
    """Train an image generator, once."""
    return trained(GeneratorTask(parameters), training)


def movie_generator(preset: str, method: MovieMethod, condition: Condition | None, training: Training) -> Run:
    """Train a movie generator, once; `condition` is for tGAN."""
    parameters = hyperparameters.VID2VID[preset] if method == "vid2vid" else _tgan(preset, condition)
    return trained(MovieTask(parameters), training)


def both_stages(preset: str, condition: Condition | None, training: Training) -> Run:
    """Train tGAN's two stages, once: a generator of frames of half the size, and one that enlarges them."""
    out = training.output.path
    if finished(out):
        return Run.open(out)
    return train_both_stages(_tgan(preset, condition), hyperparameters.SUPER_RESOLUTION[preset], training).run


def _tgan(preset: str, condition: Condition | None) -> hyperparameters.Movie:
    parameters = hyperparameters.MOVIE[preset]
    return replace(parameters, condition=condition or parameters.condition)


def until_converged(training: Training, max_steps: int) -> Training:
    """Return a training that ends when its validation has not risen for a quarter of `max_steps`, or with the last."""
    return replace(training, budget=Budget(steps=max_steps, patience=VALIDATIONS // 4))


def tracker(preset: str, training: Training) -> Run:
    """Train the DeepSea tracker, once."""
    return trained(TrackerTask(hyperparameters.TRACKER[preset]), training)


def segmented(run: Run, images: Path, out: Path, compute: Compute) -> Path:
    """Segment images with the segmenter of a run; what was segmented before is kept. Returns `out`."""
    segmenter = Segmenter.load(run.path, device=compute.device, threads=compute.threads)
    segment_dataset(segmenter, Dataset.open(images).images(), out)
    return out
