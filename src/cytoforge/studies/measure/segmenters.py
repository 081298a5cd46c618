"""Trainings of segmenters, measured on test images: the studies `training`, `dense` and `limited-data`."""

from collections.abc import Mapping
from dataclasses import replace
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
from cytoforge.studies.datasets import subset, write_crops
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
    MeasuredLimitedData,
    MeasuredTraining,
    SegmenterScores,
)
from cytoforge.studies.specification import (
    DenseStudy,
    LimitedDataStudy,
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
        went_on = facts.get("started_from") is not None
        before = Run.open(first).metrics()[-1]["step"] if went_on and first.is_dir() else 0
        return SegmenterScores(
            steps=int(before + rows[-1]["step"]),
            seconds=rows[-1]["seconds"],
            verdict=facts["verdict"],
            trained_on=run.settings.training_images + run.settings.validation_images,
            **{PROTOCOLS[protocol]: _scored(found, test, protocol) for protocol in study.protocols},
        )

    return folder.once(name, SegmenterScores, measure)


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
    for data, dataset in datasets.items():
        for seed in study.seeds:
            pool, test = subset(folder, study, data, dataset, seed, study.images + 1)
            for network in study.networks:
                for way in study.ways:
                    arm, method = WAYS[way], _method(study, network, way)
                    arm += ", all images" if way == "all" else f", {study.images} images"
                    name = f"{data}-{network}-{arm}-{seed}".replace(", ", "-").replace(" ", "-")
                    training = training_of(
                        study,
                        pool,
                        folder.place("runs", name),
                        seed,
                        images=None if way == "all" else study.images,
                        unlabelled=pool if way in UNLABELLED else None,
                    )
                    scores = segmenter_scores(folder, study, method, training, test)
                    found.setdefault(data, {}).setdefault((network, arm), []).append(scores)
    return MeasuredTraining(study=study, datasets=found)


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
    ((data, dataset),) = datasets.items()
    arms: dict[str, list[SegmenterScores]] = {}
    touching: dict[str, float] = {}
    for seed in study.seeds:
        pool, test = subset(folder, study, data, dataset, seed, study.images)
        stages = in_stages(study, study.condition, study.synthetic_images)
        for arm, scores in _three_ways(folder, study, stages, pool, test, f"{seed}", seed, study.images).items():
            arms.setdefault(arm, []).append(scores)
        held = Dataset.open(test).pairs()
        shares = {item.name: morphology(held.read_labels(item)).touching for item in held.items}
        touching |= {name: float(np.nan_to_num(share)) for name, share in shares.items()}
    return MeasuredDense(study=study, arms=arms, touching=touching)


def measure_limited_data(
    study: LimitedDataStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> MeasuredLimitedData:
    """Measure conventional and two-stage training on 1, 2, 4 ... labelled crops, in equal time.

    A seed's smaller sets of crops are parts of its larger ones. Raises UserError as training does, and when there are
    fewer images than crops.
    """
    ((data, dataset),) = datasets.items()
    tests, crops = {}, {}
    for seed in study.seeds:
        pool, tests[seed] = subset(folder, study, data, dataset, seed, max(study.crops))
        side = round(study.crop * dataset.scale / study.scale)
        for count in study.crops:  # Write all crops before the first training, as there may be too few images.
            place = folder.place("data", f"crops-{count}-{seed}")
            crops[count, seed] = write_crops(Dataset.open(pool).pairs(), place, count, side, seed)
    found: dict[int, dict[str, list[SegmenterScores]]] = {}
    for count in study.crops:
        for seed, test in tests.items():
            stages = in_stages(study, study.condition, study.synthetic_images)
            ways = _three_ways(folder, study, stages, crops[count, seed], test, f"{count}-{seed}", seed, None)
            for arm, scores in ways.items():
                found.setdefault(count, {}).setdefault(arm, []).append(scores)
    return MeasuredLimitedData(study=study, crops=found)


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
