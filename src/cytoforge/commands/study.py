"""`cytoforge study ...`: the papers' comparisons on the user's data, resumable, with intervals."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from cytoforge import settings
from cytoforge.commands.narrowed import engine_of, narrowed, size
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.progress import counted
from cytoforge.studies.datasets import open_all
from cytoforge.studies.division import Measuring, Open, Plan, measure_share
from cytoforge.studies.folder import OWNER, StudyFolder
from cytoforge.studies.frames import split_movies
from cytoforge.studies.measure.generators import (
    ablation_measurements,
    extrapolation_measurements,
    measure_ablation,
    measure_extrapolation,
    measure_versatility,
    versatility_measurements,
)
from cytoforge.studies.measure.limited_data import limited_data_measurements, measure_limited_data
from cytoforge.studies.measure.movies import measure_movies, movie_measurements
from cytoforge.studies.measure.segmenters import (
    dense_measurements,
    measure_dense,
    measure_training,
    training_measurements,
)
from cytoforge.studies.measure.trackers import absent_trackers, measure_tracking, tracking_measurements
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

LOOSE = {"out", "overwrite", "threads", "device", "weights_dir", "part", "cluster"}
"""settings that may differ when a study is continued"""
Specification = TypeVar("Specification", bound=Study)
Opened = TypeVar("Opened")
Measured = TypeVar("Measured")


def study_training(given: settings.StudyTraining) -> Path:
    """Compare trainings on few images, conventional and cyclegan, with conventional training on all of them."""
    study = specified(TrainingStudy, given)
    return _divided("training", given, study, open_all, training_measurements, measure_training, present_training)


def study_dense(given: settings.StudyDense) -> Path:
    """Compare training on real images with training on them and on dense synthetic ones, in equal time."""
    study = specified(DenseStudy, given)
    return _divided("dense", given, study, open_all, dense_measurements, measure_dense, present_dense)


def study_limited_data(given: settings.StudyLimitedData) -> Path:
    """Measure scores by number of labels, from scratch and from the base model, in equal time, and label efficiency."""
    fitted = given.scale == "auto"
    scale = 1.0 if fitted else given.scale
    study = specified(LimitedDataStudy, given, images=None, counts=given.images, scale=scale, fitted=fitted)
    measurements, measure = limited_data_measurements, measure_limited_data
    return _divided("limited-data", given, study, open_all, measurements, measure, present_limited_data)


def study_ablation(given: settings.StudyAblation) -> Path:
    """Compare generators with and without styles, perceptual loss and instances (cGAN-Seg, Figure 3)."""
    study = specified(AblationStudy, given)
    return _divided("ablation", given, study, open_all, ablation_measurements, measure_ablation, present_ablation)


def study_versatility(given: settings.StudyVersatility) -> Path:
    """Train a generator on each data set and score what it paints on the masks of its test images (Figure 4)."""
    study = specified(GeneratorStudy, given)
    measurements, measure = versatility_measurements, measure_versatility
    return _divided("versatility", given, study, open_all, measurements, measure, present_versatility)


def study_extrapolation(given: settings.StudyExtrapolation) -> Path:
    """Let one generator paint on masks from sparse to denser than any it was trained on (Figure 5)."""
    study = specified(ExtrapolationStudy, given)
    measurements, measure = extrapolation_measurements, measure_extrapolation
    return _divided("extrapolation", given, study, open_all, measurements, measure, present_extrapolation)


def study_movie(given: settings.StudyMovie) -> Path:
    """Compare movie generators trained on the same frames, on masks of a movie that they were not trained on."""
    study = specified(MovieStudy, given)
    return _divided("movie", given, study, split_movies, movie_measurements, measure_movies, present_movies)


def study_tracking(given: settings.StudyTracking) -> Path:
    """Compare trackers on real and painted movies of the same masks, and trackers trained on frames of either."""
    study = specified(TrackingStudy, given)
    absent_trackers(study)  # refused before any training
    return _divided("tracking", given, study, split_movies, tracking_measurements, measure_tracking, present_tracking)


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


def _divided(
    kind: str,
    given: settings.DividedStudy,
    study: Specification,
    open_data: Open[Specification, Opened],
    plan: Plan[Specification, Opened],
    measure: Callable[[Specification, Opened, StudyFolder], Measured],
    present: Callable[[Measured], Presentation],
) -> Path:
    """Measure a study, or a part of it; whoever finds that all is measured presents it. Returns report or folder."""
    opened, engine = open_data(study), engine_of(given)
    with at_work(given.out, engine.part):
        with in_turn(given.out):
            folder = open_folder(kind, given)
        if engine.part is not None:
            folder = replace(folder, writer=str(engine.part))
        if engine.part is not None or engine.cluster is not None:
            done, missing = measure_share(Measuring(open_data, plan, study, folder), opened, engine)
            if missing:
                print(f"{given.out}: {counted(done, 'measurement')}; {missing} of other parts still to come")
                return given.out
        with in_turn(given.out) if engine.part is not None else nullcontext():  # two parts may end at once
            page = _shown(folder, present(measure(study, opened, folder)))
            OutputFolder(given.out, OWNER).settle()
    return page


def _shown(folder: StudyFolder, presentation: Presentation) -> Path:
    """Write the results and the report, print the table, and return the report's path."""
    path = folder.write(presentation)
    print("\n".join(presentation.lines()))
    print(f"{path}: tables, figures and pictures")
    return path
