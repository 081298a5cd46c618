"""`cytoforge study ...`: the papers' comparisons on the user's data, resumable, with intervals."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from cytoforge import settings
from cytoforge.commands.narrowed import narrowed, size
from cytoforge.studies.datasets import open_all
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.frames import split_movies
from cytoforge.studies.measure.generators import measure_ablation, measure_extrapolation, measure_versatility
from cytoforge.studies.measure.limited_data import measure_limited_data
from cytoforge.studies.measure.movies import measure_movies
from cytoforge.studies.measure.segmenters import measure_dense, measure_training
from cytoforge.studies.measure.trackers import absent_trackers, measure_tracking
from cytoforge.studies.present.generators import present_ablation, present_extrapolation, present_versatility
from cytoforge.studies.present.limited_data import present_limited_data
from cytoforge.studies.present.movies import present_movies
from cytoforge.studies.present.presentation import Presentation
from cytoforge.studies.present.segmenters import present_dense, present_training
from cytoforge.studies.present.trackers import present_tracking
from cytoforge.studies.specification import (
    AblationStudy,
    DenseStudy,
    ExtrapolationStudy,
    GeneratorStudy,
    LimitedDataStudy,
    MovieStudy,
    Study,
    TrackingStudy,
    TrainingStudy,
)
from cytoforge.training.specification import Budget, Compute

LOOSE = {"out", "overwrite", "threads", "device", "weights_dir"}  # settings that may differ when a study is continued
Specification = TypeVar("Specification", bound=Study)


def study_training(given: settings.StudyTraining) -> Path:
    """Compare trainings on few images, conventional and cyclegan, with conventional training on all of them."""
    study = specified(TrainingStudy, given)
    datasets = open_all(study)
    folder = open_folder("training", given)
    return _shown(folder, present_training(measure_training(study, datasets, folder)))


def study_dense(given: settings.StudyDense) -> Path:
    """Compare training on real images with training on them and on dense synthetic ones, in equal time."""
    study = specified(DenseStudy, given)
    datasets = open_all(study)
    folder = open_folder("dense", given)
    return _shown(folder, present_dense(measure_dense(study, datasets, folder)))


def study_limited_data(given: settings.StudyLimitedData) -> Path:
    """Measure scores by number of labels, from scratch and from the base model, in equal time, and label efficiency."""
    fitted = given.scale == "auto"
    scale = 1.0 if fitted else given.scale
    study = specified(LimitedDataStudy, given, images=None, counts=given.images, scale=scale, fitted=fitted)
    datasets = open_all(study)
    folder = open_folder("limited-data", given)
    return _shown(folder, present_limited_data(measure_limited_data(study, datasets, folder)))


def study_ablation(given: settings.StudyAblation) -> Path:
    """Compare generators with and without styles, perceptual loss and instances (cGAN-Seg, Figure 3)."""
    study = specified(AblationStudy, given)
    datasets = open_all(study)
    folder = open_folder("ablation", given)
    return _shown(folder, present_ablation(measure_ablation(study, datasets, folder)))


def study_versatility(given: settings.StudyVersatility) -> Path:
    """Train a generator on each data set and score what it paints on the masks of its test images (Figure 4)."""
    study = specified(GeneratorStudy, given)
    datasets = open_all(study)
    folder = open_folder("versatility", given)
    return _shown(folder, present_versatility(measure_versatility(study, datasets, folder)))


def study_extrapolation(given: settings.StudyExtrapolation) -> Path:
    """Let one generator paint on masks from sparse to denser than any it was trained on (Figure 5)."""
    study = specified(ExtrapolationStudy, given)
    datasets = open_all(study)
    folder = open_folder("extrapolation", given)
    return _shown(folder, present_extrapolation(measure_extrapolation(study, datasets, folder)))


def study_movie(given: settings.StudyMovie) -> Path:
    """Compare movie generators trained on the same frames, on masks of a movie that they were not trained on."""
    study = specified(MovieStudy, given)
    parts = split_movies(study)
    folder = open_folder("movie", given)
    return _shown(folder, present_movies(measure_movies(study, parts, folder)))


def study_tracking(given: settings.StudyTracking) -> Path:
    """Compare trackers on real and painted movies of the same masks, and trackers trained on frames of either."""
    study = specified(TrackingStudy, given)
    parts = split_movies(study)
    absent_trackers(study)  # refused before any training
    folder = open_folder("tracking", given)
    return _shown(folder, present_tracking(measure_tracking(study, parts, folder)))


def specified(kind: type[Specification], given: settings.Study, **own: Any) -> Specification:
    """Return the specification of a study as the flags give it; fields in `own` take these values."""
    return narrowed(
        kind,
        given,
        seeds=tuple(range(given.seed, given.seed + given.seeds)),
        budget=Budget(
            steps=given.steps,
            epochs=given.epochs,
            seconds=60 * given.minutes if given.steps is None and given.epochs is None else None,
            clock=given.clock,
            until_converged=given.until_converged,
        ),
        resize=size(given.resize),
        protocols=given.protocol,
        compute=Compute(device=given.device, threads=given.threads, weights_dir=given.weights_dir),
        **own,
    )


def open_folder(kind: str, given: settings.Study) -> StudyFolder:
    """Make the folder of a study, or continue the same study in it; raises as `StudyFolder.open`."""
    followed = to_jsonable_python({name: value for name, value in vars(given).items() if name not in LOOSE})
    return StudyFolder.open(kind, given.out, followed, overwrite=given.overwrite)


def _shown(folder: StudyFolder, presentation: Presentation) -> Path:
    """Write the results and the report, print the table, and return the report's path."""
    path = folder.write(presentation)
    print("\n".join(presentation.lines()))
    print(f"{path}: tables, figures and pictures")
    return path
