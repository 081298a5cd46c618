"""Trainings of segmenters, measured on test images, and the studies `training` and `dense` of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytoforge.data.dataset import Dataset
from cytoforge.data.run import STAGES, Run
from cytoforge.evaluation.comparison import MaskComparison
from cytoforge.evaluation.segmentation import open_masks, score_masks
from cytoforge.metrics.morphology import morphology
from cytoforge.metrics.segmentation import ImageScores as Scored
from cytoforge.progress import say
from cytoforge.studies.datasets import subset
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measure.trainings import (
    Method,
    conventional,
    in_cycle,
    in_stages,
    segmented,
    training_of,
    with_teacher,
)
from cytoforge.studies.measurements import (
    ImageScores,
    MeasuredDense,
    MeasuredTraining,
    SegmenterScores,
)
from cytoforge.studies.specification import (
    DenseStudy,
    Protocol,
    SegmenterNetwork,
    Study,
    TrainingStudy,
    Way,
)
from cytoforge.training.specification import Budget, Training

PROTOCOLS: dict[Protocol, str] = {"instances": "images", "paper": "paper"}  # fields of SegmenterScores
WAYS: dict[Way, str] = {  # of training, as tables call them
    "conventional": "conventional",
    "cyclegan": "cyclegan",
    "cyclegan-simulated": "cyclegan on simulated masks",
    "cyclegan-unlabelled": "cyclegan with unlabelled images",
    "mean-teacher": "mean teacher with unlabelled images",
    "all": "conventional",
}
UNLABELLED = ("cyclegan-unlabelled", "mean-teacher")
CONVENTIONAL, TWO_STAGE, CONTROL = "conventional", "two-stage", "conventional, as many segmenter steps"


def segmenter_scores(
    folder: StudyFolder, study: Study, method: Method, training: Training, test: Path
) -> SegmenterScores:
    """Train a segmenter, segment the test images and score them, once; results are named after the run folder."""
    name = training.output.path.name

    def measure() -> SegmenterScores:
        say([f"{folder.kind}: {name}"])
        run = method(training)
        found = segmented(run, test, folder.place("work", name), training.compute)
        rows, facts = run.metrics(), run.provenance
        first = run.path / STAGES / "first-segmenter"  # the last segmenter starts from it if paintings are left out
        went_on = Path(str(run.config.get("start"))).parts[-2:] == first.parts[-2:]
        before = Run.open(first).metrics()[-1]["step"] if went_on else 0
        return SegmenterScores(
            steps=int(before + rows[-1]["step"]),
            seconds=rows[-1]["seconds"],
            verdict=facts["verdict"],
            trained_on=run.settings.training_images + run.settings.validation_images,
            **scored(found, test, study.protocols),
        )

    return folder.once(name, SegmenterScores, measure)


def scored(found: Path, test: Path, protocols: Sequence[Protocol]) -> dict[str, Any]:
    """Return the scores of masks on test images, by the field of SegmenterScores that holds those of a protocol."""
    return {PROTOCOLS[protocol]: _scored(found, test, protocol) for protocol in protocols}


def _scored(found: Path, test: Path, protocol: Protocol) -> dict[str, ImageScores]:
    comparison = MaskComparison(prediction=found, truth=test, protocol=protocol)
    results = score_masks(comparison, open_masks(comparison))
    return {image: _image_scores(scores) for image, scores in results.images.items()}


def _image_scores(scores: Scored) -> ImageScores:
    def plain(values: Any) -> list[float | None]:
        return [None if np.isnan(value) else float(value) for value in values]

    (dice,) = plain([scores.dice])
    return ImageScores(
        f_score=plain(scores.f_score), precision=plain(scores.precision), recall=plain(scores.recall), dice=dice
    )


def measure_training(study: TrainingStudy, datasets: Mapping[str, Dataset], folder: StudyFolder) -> MeasuredTraining:
    """Measure trainings on few images, conventional and cyclegan, and conventional training on all of them.

    Each seed draws its own test images (`test_share`; none if `test` is given) and its own few. Raises UserError as
    training, segmenting and scoring do.
    """
    found: dict[str, dict[tuple[str, str], list[SegmenterScores]]] = {}
    for one in _trainings(study, datasets):
        scores = _measure(study, datasets, folder, one)
        found.setdefault(one.data, {}).setdefault((one.network, one.arm), []).append(scores)
    return MeasuredTraining(study=study, datasets=found)


def training_measurements(
    study: TrainingStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what `measure_training` measures, each training by itself, by name of its result."""
    return {one.name: partial(_measure, study, datasets, folder, one) for one in _trainings(study, datasets)}


@dataclass(frozen=True)
class _Training:
    """One training of `study training`."""

    data: str
    seed: int
    network: SegmenterNetwork
    way: Way
    arm: str

    @property
    def name(self) -> str:
        return f"{self.data}-{self.network}-{self.arm}-{self.seed}".replace(", ", "-").replace(" ", "-")


def _trainings(study: TrainingStudy, datasets: Mapping[str, Dataset]) -> Iterator[_Training]:
    for data, seed, network, way in product(datasets, study.seeds, study.networks, study.ways):
        images = "all images" if way == "all" else f"{study.images} images"
        yield _Training(data, seed, network, way, f"{WAYS[way]}, {images}")


def _measure(
    study: TrainingStudy, datasets: Mapping[str, Dataset], folder: StudyFolder, one: _Training
) -> SegmenterScores:
    pool, test = subset(folder, study, one.data, datasets[one.data], one.seed, study.images + 1)
    training = training_of(
        study,
        pool,
        folder.place("runs", one.name),
        one.seed,
        images=None if one.way == "all" else study.images,
        unlabelled=pool if one.way in UNLABELLED else None,
    )
    return segmenter_scores(folder, study, _method(study, one.network, one.way), training, test)


def _method(study: TrainingStudy, network: SegmenterNetwork, way: Way) -> Method:
    if way in ("conventional", "all"):
        return conventional(study, network)
    if way == "mean-teacher":
        return with_teacher(study, network)
    masks: Literal["own", "simulated"] = "simulated" if way == "cyclegan-simulated" else "own"
    return in_cycle(study, network, warm_start=study.warm_start, masks=masks)


def measure_dense(study: DenseStudy, datasets: Mapping[str, Dataset], folder: StudyFolder) -> MeasuredDense:
    """Measure training on real images, and on them and on dense synthetic ones, in equal time.

    All trainings take equal time; simulating and painting come on top. Raises UserError as training does.
    """
    arms: dict[str, list[SegmenterScores]] = {}
    touching: dict[str, float] = {}
    for seed in study.seeds:
        test, ways = _measure_seed(study, datasets, folder, seed)
        for arm, scores in ways.items():
            arms.setdefault(arm, []).append(scores)
        touching |= shares_touching(test)
    return MeasuredDense(study=study, arms=arms, touching=touching)


def dense_measurements(
    study: DenseStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what `measure_dense` measures, each seed by itself, by name of its last result."""
    return {f"control-{seed}": partial(_measure_seed, study, datasets, folder, seed) for seed in study.seeds}


def _measure_seed(
    study: DenseStudy, datasets: Mapping[str, Dataset], folder: StudyFolder, seed: int
) -> tuple[Path, dict[str, SegmenterScores]]:
    ((data, dataset),) = datasets.items()
    pool, test = subset(folder, study, data, dataset, seed, study.images)
    stages = in_stages(study, study.condition, study.synthetic_images)
    return test, _three_ways(folder, study, stages, pool, test, f"{seed}", seed, study.images)


def shares_touching(test: Path) -> dict[str, float]:
    """Return by name of a test image the share of its cells that touch others, 0 without cells."""
    held = Dataset.open(test).pairs()
    shares = {item.name: morphology(held.read_labels(item)).touching for item in held.items}
    return {name: float(np.nan_to_num(share)) for name, share in shares.items()}


def _three_ways(
    folder: StudyFolder,
    study: Study,
    stages: Method,
    data: Path,
    test: Path,
    name: str,
    seed: int,
    images: int | None,
) -> dict[str, SegmenterScores]:
    """Measure conventional and two-stage training in equal time, then conventional training of as many steps."""
    plain = conventional(study)

    def training(way: str) -> Training:
        return training_of(study, data, folder.place("runs", f"{way}-{name}"), seed, images=images)

    alone = segmenter_scores(folder, study, plain, training("conventional"), test)
    two = segmenter_scores(folder, study, stages, training("two-stage"), test)
    fewer = replace(training("control"), budget=Budget(steps=two.steps, clock=study.budget.clock))
    control = segmenter_scores(folder, study, plain, fewer, test)
    return {CONVENTIONAL: alone, TWO_STAGE: two, CONTROL: control}
