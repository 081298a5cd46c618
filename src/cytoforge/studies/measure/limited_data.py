"""Learning curves: trainings on one crop, one image, two, five ... images, measured on test images (`limited-data`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from cytoforge.data.dataset import Dataset
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import SEGMENTED_DIAMETER
from cytoforge.progress import counted, say
from cytoforge.simulation.masks import shapes_of
from cytoforge.studies.datasets import subset, write_crops
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measure.segmenters import scored, segmenter_scores, shares_touching
from cytoforge.studies.measure.trainings import (
    Method,
    at_fitting_scale,
    conventional,
    in_cycle,
    in_stages,
    on_terms,
    segmented,
    training_of,
    with_teacher,
)
from cytoforge.studies.measurements import Amount, MeasuredLimitedData, SegmenterScores
from cytoforge.studies.specification import LabelMethod, LimitedDataStudy
from cytoforge.training import hyperparameters
from cytoforge.training.data import with_scale
from cytoforge.training.recipes.networks import build_segmenter, describe_segmenter
from cytoforge.training.specification import Data, Training
from cytoforge.training.tasks.staged import annotations
from cytoforge.training.tasks.start import Wanted, unlike

BASE = Path("base")
TWO_STAGE: tuple[LabelMethod, ...] = ("two-stage", "base-two-stage")
UNLABELLED: tuple[LabelMethod, ...] = ("base-cyclegan-unlabelled", "base-mean-teacher")


@dataclass(frozen=True)
class Labelled:
    """A number of labelled crops or whole images."""

    count: int
    kind: Literal["crop", "image"]

    @property
    def name(self) -> str:
        """Its name in tables."""
        return counted(self.count, self.kind)


@dataclass(frozen=True)
class Drawn:
    """What a seed drew: the images to learn from and to test on, and its crops by their number."""

    pool: Path
    test: Path
    crops: Mapping[int, Path]
    cells: Mapping[str, int]
    """annotated cells of each image of the pool"""


def measure_limited_data(
    study: LimitedDataStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> MeasuredLimitedData:
    """Measure several trainings on more and more labels, each with the same budget, and the base model without any.

    With equal seeds a smaller number of images, or of crops, is part of a larger one. What some method cannot learn
    from with every seed is left out and said. Raises UserError before any training when the base model does not suit
    the study, when there are fewer images than crops or than all numbers asked for, and when an unlabelled image is one
    to test on; later as training does.
    """
    plan = _planned(study, datasets, folder)
    say(plan.left_out)
    draws = plan.draws
    curves: dict[str, dict[LabelMethod, list[SegmenterScores]]] = {labelled.name: {} for labelled in plan.amounts}
    zero: dict[Path, SegmenterScores] = {}
    touching: dict[str, float] = {}
    for seed, drawn in draws.items():
        if drawn.test not in zero:
            zero[drawn.test] = _zero_labels(folder, study, drawn.test, seed)
            touching |= shares_touching(drawn.test)
        for labelled, method in plan.trainings:
            scores = _measure(study, folder, method, labelled, drawn, seed)
            curves[labelled.name].setdefault(method, []).append(scores)
    measured = {labelled.name: _amount(labelled, list(draws.values()), study) for labelled in plan.amounts}
    ordered = sorted(measured, key=lambda name: measured[name].images)
    return MeasuredLimitedData(
        study=study,
        curves={name: curves[name] for name in ordered},
        amounts={name: measured[name] for name in ordered},
        zero=[zero[drawn.test] for drawn in draws.values()],
        touching=touching,
        left_out=plan.left_out,
    )


def limited_data_measurements(
    study: LimitedDataStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what `measure_limited_data` measures, each by itself, by name of its result; raises as that."""
    plan = _planned(study, datasets, folder)
    found: dict[str, Callable[[], object]] = {}
    tests: set[Path] = set()
    for seed, drawn in plan.draws.items():
        if drawn.test not in tests:
            found[_zero_name(seed)] = partial(_zero_labels, folder, study, drawn.test, seed)
            tests.add(drawn.test)
        for labelled, method in plan.trainings:
            name = _training(study, folder, method, labelled, drawn, seed).output.path.name
            found[name] = partial(_measure, study, folder, method, labelled, drawn, seed)
    return found


@dataclass(frozen=True)
class _Planned:
    """What there is to measure: by seed what it drew, the amounts of labels, what is trained on which, and notes."""

    draws: Mapping[int, Drawn]
    amounts: Sequence[Labelled]
    trainings: Sequence[tuple[Labelled, LabelMethod]]
    left_out: Sequence[str]


def _planned(study: LimitedDataStudy, datasets: Mapping[str, Dataset], folder: StudyFolder) -> _Planned:
    """Draw for all seeds, and tell what can be measured with all of them; raises as `measure_limited_data`."""
    ((data, dataset),) = datasets.items()
    _require_base(study, dataset)
    draws = {seed: _draw(study, folder, data, dataset, seed) for seed in study.seeds}
    size = min(len(drawn.cells) for drawn in draws.values())
    amounts, left_out = _amounts(study, size)
    trainings: list[tuple[Labelled, LabelMethod]] = []
    for labelled in amounts:
        for method in study.methods:
            if reason := _unfit(study, folder, method, labelled, draws):
                left_out.append(f"{method}: not measured with {labelled.name}, as {reason}")
            else:
                trainings.append((labelled, method))
    return _Planned(draws, amounts, trainings, left_out)


def _measure(
    study: LimitedDataStudy, folder: StudyFolder, method: LabelMethod, labelled: Labelled, drawn: Drawn, seed: int
) -> SegmenterScores:
    training = _training(study, folder, method, labelled, drawn, seed)
    train = at_fitting_scale(_method(study, method)) if study.fitted else _method(study, method)
    return segmenter_scores(folder, study, train, training, drawn.test)


def _require_base(study: LimitedDataStudy, dataset: Dataset) -> None:
    """Raise UserError when trainings are to start from the base model, and it is of another kind than the study's."""
    if not any(method.startswith("base") for method in study.methods):
        return
    described = describe_segmenter(on_terms(hyperparameters.SEGMENTATION[study.preset], study), dataset.channels())
    wanted = Wanted("segmenter", described, build_segmenter(described, 0), {"target": study.target})
    if different := unlike(Run.open(BASE), wanted):
        raise UserError(
            f"--methods: the base model is of another kind ({'; '.join(different)}), "
            "or leave out the methods that start from it"
        )


def _draw(study: LimitedDataStudy, folder: StudyFolder, data: str, dataset: Dataset, seed: int) -> Drawn:
    """Draw what a seed learns from and is tested on; crops are written."""
    pool, test = subset(folder, study, data, dataset, seed, max(study.crops, default=1))
    images = Dataset.open(pool).pairs()
    if study.unlabelled is not None:
        others = Dataset.open(study.unlabelled).images()
        if same := others.common_image(Dataset.open(test).images()):
            raise UserError(f"{same[0]}: is an image to test on; take it out of the unlabelled ones")
    scale = study.scale
    if study.fitted:
        scale = with_scale(Data(path=pool, resize=study.resize), SEGMENTED_DIAMETER, seed)[0].scale
    side = round(study.crop * dataset.scale / scale)
    with folder.making_data():
        crops = {
            count: write_crops(images, folder.place("data", f"crops-{count}-{seed}"), count, side, seed)
            for count in study.crops
        }
    return Drawn(pool, test, crops, _cells(images))


def _cells(dataset: Dataset) -> dict[str, int]:
    dataset = dataset.numbered(binary=True)
    return {item.name: int(np.count_nonzero(np.unique(dataset.read_labels(item)))) for item in dataset.items}


def _amounts(study: LimitedDataStudy, size: int) -> tuple[list[Labelled], list[str]]:
    """Return the numbers of crops and images to learn from, and a note on those that `size` images do not allow."""
    few = [count for count in study.counts if count <= size]
    if not few and not study.crops:
        raise UserError(f"{study.data[0]}: leaves {counted(size, 'image')} to train on; ask for fewer --images")
    more = [
        f"{counted(count, 'image')}: left out, as there are {size} to train on"
        for count in study.counts
        if count > size
    ]
    return [*(Labelled(n, "crop") for n in study.crops), *(Labelled(n, "image") for n in few)], more


def _amount(labelled: Labelled, draws: Sequence[Drawn], study: LimitedDataStudy) -> Amount:
    """Return how many annotated cells there are, and how many images hold as many."""
    if labelled.kind == "image":
        cells = [
            sum(drawn.cells[item.name] for item in Dataset.open(drawn.pool).pairs().limited(labelled.count, seed).items)
            for seed, drawn in zip(study.seeds, draws, strict=True)
        ]
        return Amount(images=float(labelled.count), cells=float(np.mean(cells)))
    cells = [sum(_cells(Dataset.open(drawn.crops[labelled.count]).pairs()).values()) for drawn in draws]
    images = [n / np.mean(list(drawn.cells.values())) for n, drawn in zip(cells, draws, strict=True)]
    return Amount(images=float(np.mean(images)), cells=float(np.mean(cells)))


def _unfit(
    study: LimitedDataStudy, folder: StudyFolder, method: LabelMethod, labelled: Labelled, draws: Mapping[int, Drawn]
) -> str | None:
    """Say why a method cannot learn from some labels with every seed; None if it can."""
    every = labelled.kind == "image" and any(labelled.count >= len(drawn.cells) for drawn in draws.values())
    if method in UNLABELLED and study.unlabelled is None and every:
        return "no other image is left over; give --unlabelled"
    if method in TWO_STAGE:
        for seed, drawn in draws.items():
            annotated = annotations(_training(study, folder, method, labelled, drawn, seed))
            if not any(shapes_of(labels) for labels in annotated):
                return "every cell is cut by the edge of its image, or tiny"
    return None


def _training(
    study: LimitedDataStudy, folder: StudyFolder, method: LabelMethod, labelled: Labelled, drawn: Drawn, seed: int
) -> Training:
    """Return the specification of a training by a method on some labels."""
    crops = labelled.kind == "crop"
    return training_of(
        study,
        drawn.crops[labelled.count] if crops else drawn.pool,
        folder.place("runs", f"{method}-{labelled.name.replace(' ', '-')}-{seed}"),
        seed,
        images=None if crops else labelled.count,
        unlabelled=study.unlabelled or drawn.pool if method in UNLABELLED else None,
    )


def _method(study: LimitedDataStudy, method: LabelMethod) -> Method:
    match method:
        case "paper":
            return conventional(replace(study, target="semantic", augmentation="paper"))
        case "scratch":
            return conventional(study)
        case "base":
            return conventional(study, start=BASE)
        case "two-stage":
            return in_stages(study, study.condition, study.synthetic_images)
        case "base-two-stage":
            return in_stages(study, study.condition, study.synthetic_images, start=BASE)
        case "base-mean-teacher":
            return with_teacher(study, study.network, start=BASE)
        case "base-cyclegan" | "base-cyclegan-unlabelled":
            return in_cycle(study, study.network, warm_start=True, start=BASE)


def _zero_name(seed: int) -> str:
    return f"zero-labels-{seed}"


def _zero_labels(folder: StudyFolder, study: LimitedDataStudy, test: Path, seed: int) -> SegmenterScores:
    """Score the base model as it is; it estimates the size of the cells itself."""
    name = _zero_name(seed)

    def measure() -> SegmenterScores:
        say([f"{folder.kind}: {name}"])
        found = segmented(Run.open(BASE), test, folder.place("work", name), study.compute)
        return SegmenterScores(steps=0, **scored(found, test, study.protocols))

    return folder.once(name, SegmenterScores, measure)
