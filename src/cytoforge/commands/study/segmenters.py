"""Trainings of segmenters as studies measure them, and the studies `training`, `dense` and `limited-data`.

cGAN-Seg's Figure 2, Table 1 and Tables S1 to S3 (training); Table 2 (dense); what each labelled crop is worth
(limited-data).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from cytoforge.commands.score import score_segmentation
from cytoforge.commands.segment import segment
from cytoforge.commands.study.folder import Study, Values, difference, estimate, open_all, open_data, shown, subset
from cytoforge.commands.train import train_segmentation
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_image, read_labels
from cytoforge.data.run import STAGES, Run
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import morphology
from cytoforge.progress import say
from cytoforge.report import Report
from cytoforge.settings import (
    ScoreSegmentation,
    Segment,
    StudyDense,
    StudyLimitedData,
    StudySegmenters,
    StudyTraining,
    Training,
    TrainSegmentation,
)
from cytoforge.training.tasks.staged import finished

SettingsT = TypeVar("SettingsT", bound=Training)
SCORES = ("f_score", "precision", "recall")
CONVENTIONAL, TWO_STAGE, CONTROL = "conventional", "two-stage", "conventional, as many segmenter steps"


def base_settings(config: StudySegmenters, data: Path, seed: int) -> TrainSegmentation:
    """Return what all trainings of a study have in common."""
    return TrainSegmentation(
        data=data,
        out=config.out,  # replaced for each training
        preset=config.preset,
        minutes=config.minutes,
        clock=config.clock,
        scale=config.scale,
        seed=seed,
        weights_dir=config.weights_dir,
        device=config.device,
        threads=config.threads,
    )


def alike(kind: type[SettingsT], shared: TrainSegmentation, **own: Any) -> SettingsT:
    """Return settings of another training: what both kinds have is as in `shared`, but for `own`."""
    common = {name: getattr(shared, name) for name in kind.__dataclass_fields__ if hasattr(shared, name)}
    return kind(**{**common, **own})


def measure(study: Study, name: str, settings: TrainSegmentation, test: Path) -> dict[str, Any]:
    """Train a segmenter, segment and score the test images, once; return steps, seconds, verdict and scores."""

    def run_and_score() -> dict[str, Any]:
        say([f"{study.kind}: {name}"])
        run = trained(replace(settings, out=study.place("runs", name)), train_segmentation)
        found = segment(
            Segment(run.path, test, study.place("work", name), device=settings.device, threads=settings.threads)
        )
        scored = score_segmentation(ScoreSegmentation(found, test))
        rows, facts = run.metrics(), run.provenance
        first = run.path / STAGES / "first-segmenter"  # the last one goes on from it if paintings are left out
        went_on = facts.get("started_from") is not None
        before = Run.open(first).metrics()[-1]["step"] if went_on and first.is_dir() else 0
        images = {
            image: {**{score: list(getattr(scores, score)) for score in SCORES}, "dice": scores.dice}
            for image, scores in scored.images.items()
        }
        return {
            "steps": before + rows[-1]["step"],
            "seconds": rows[-1]["seconds"],
            "verdict": facts["verdict"],
            "trained_on": run.settings.training_images + run.settings.validation_images,
            "images": {image: _without_nan(scores) for image, scores in images.items()},
        }

    return study.once(name, run_and_score)


def trained(settings: SettingsT, train: Callable[[SettingsT], Run]) -> Run:
    """Train, or go on with a training, or open a finished one."""
    return Run.open(settings.out) if finished(settings.out) else train(settings)


def values(records: Sequence[dict[str, Any]], score: str, threshold: int = 0) -> Values:
    """Return a score of every test image, for each record; `threshold` counts from IoU 0.5 in steps of 0.1."""

    def of(scores: dict[str, Any]) -> float | None:
        found: Any = scores[score]
        value: float | None = found[threshold] if isinstance(found, list) else found
        return value

    return [{image: of(scores) for image, scores in record["images"].items()} for record in records]


def study_training(config: StudyTraining) -> Path:
    """Compare trainings on few images, conventional and cyclegan, with conventional training on all of them.

    Each seed draws its own test images (`test_share`; none if `test` is given) and its own few. Raises UserError as
    training, segmenting and scoring do.
    """
    datasets = open_all(config)
    study = Study.open("training", config)
    report = Report("Training study", f"{config.few} annotated images against all, {config.seeds} random subsets")
    for data, dataset in datasets.items():
        records: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for seed in range(config.seed, config.seed + config.seeds):
            pool, test = subset(study, dataset, config, seed, config.few + 1)
            plain = base_settings(config, pool, seed)
            few = replace(plain, limit=config.few)
            for network in config.networks:
                arms = {
                    f"conventional, {config.few} images": few,
                    f"cyclegan, {config.few} images": replace(few, method="cyclegan", warm_start=config.warm_start),
                    "conventional, all images": plain,
                }
                for arm, settings in arms.items():
                    name = f"{data}-{network}-{arm}-{seed}".replace(", ", "-").replace(" ", "-")
                    record = measure(study, name, replace(settings, network=network), test)
                    records.setdefault((network, arm), []).append(record)
        _add_training(study, report, data, records)
    return study.finish(report)


def study_dense(config: StudyDense) -> Path:
    """Compare training on real images with training on them and on dense synthetic ones, in equal time.

    Test images are split at the median share of touching cells. Equal is the time of training; simulating and painting
    come on top. Raises UserError as training does.
    """
    (data,) = config.data
    dataset = open_data(data, config)
    study = Study.open("dense", config)
    arms: dict[str, list[dict[str, Any]]] = {}
    touching: dict[str, float] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        pool, test = subset(study, dataset, config, seed, config.few)
        settings = replace(base_settings(config, pool, seed), limit=config.few)
        _three_ways(study, f"{seed}", settings, config, test, arms)
        held = Dataset.open(test).pairs()
        shares = {item.name: morphology(held.read_labels(item)).touching for item in held.items}
        touching |= {name: float(np.nan_to_num(share)) for name, share in shares.items()}
    ranked = sorted(touching, key=lambda name: (touching[name], name))
    hard = set(ranked[len(ranked) // 2 :])
    groups = {"all": set(ranked), "easy": set(ranked) - hard, "hard": hard}
    report = Report(
        "Dense study", f"{config.few or 'all'} annotated images, {config.seeds} seeds, equal time of training"
    )
    report.text(
        "Hard test images are the half with the larger share of touching cells "
        f"({touching[ranked[len(ranked) // 2]]:.0%} or more); cGAN-Seg's Table 2 sorted them by eye. The control is "
        "the plain training with as many steps as the two-stage segmenter."
    )
    for group, names in groups.items():
        if names:  # a single test image is hard, and none is easy
            _add_arms(study, report, arms, {"test images": group, "images": len(names)}, names)
    _add_figure(report, study, arms)
    return study.finish(report, {"touching": touching})


def study_limited_data(config: StudyLimitedData) -> Path:
    """Measure what 1, 2, 4 ... labelled crops are worth to conventional and to two-stage training, in equal time.

    Crops of one seed are nested. Raises UserError as training does, and when there are fewer images than crops.
    """
    (data,) = config.data
    dataset = open_data(data, config)
    study = Study.open("limited-data", config)
    report = Report("Limited data", f"crops of {config.crop} px, {config.seeds} seeds, equal time of training")
    tests, crops = {}, {}
    for seed in range(config.seed, config.seed + config.seeds):
        pool, tests[seed] = subset(study, dataset, config, seed, max(config.crops))
        for count in config.crops:  # all of them before the first training: there may be too few images
            folder = study.place("data", f"crops-{count}-{seed}")
            crops[count, seed] = write_crops(Dataset.open(pool).pairs(), folder, count, config, seed)
    curves: dict[str, list[tuple[int, Any]]] = {}
    for count in config.crops:
        arms: dict[str, list[dict[str, Any]]] = {}
        for seed, test in tests.items():
            settings = base_settings(config, crops[count, seed], seed)
            _three_ways(study, f"{count}-{seed}", settings, config, test, arms)
        _add_arms(study, report, arms, {"crops": count}, None)
        for arm, records in arms.items():
            curves.setdefault(arm, []).append((count, estimate(values(records, "f_score"))))
    report.figure(_curves(curves, "labelled crops"), "F at IoU 0.5 on the test images, with 95 % intervals.")
    return study.finish(report)


def write_crops(dataset: Dataset, folder: Path, count: int, config: StudyLimitedData, seed: int) -> Path:
    """Cut a window with cells out of each of `count` images and write them as a dataset; smaller sets are nested.

    Images without cells are passed over. Raises UserError when there are fewer others.
    """
    if finished(folder):
        return folder
    scale = {} if dataset.scale == 1 else {"scale": dataset.scale}
    writer = DatasetWriter(folder, {"crops_of": dataset.path.name, "seed": seed, **scale}, suffix=".tif")
    side = round(config.crop * dataset.scale / config.scale)
    written = 0
    for place in np.random.default_rng([seed, 0xC809]).permutation(len(dataset.items)):
        item = dataset.items[place]
        if written == count or item.image is None or item.mask is None:
            continue
        if item.name not in writer.done:
            labels = read_labels(item.mask)
            if not labels.any():
                continue
            window = _window(labels, side, np.random.default_rng([seed, int(place)]))
            writer.add(item.name, read_image(item.image)[:, *window], labels[window])
        written += 1
    if written < count:
        raise UserError(f"{dataset.path}: holds {written} images with cells, --crops asks for {count}")
    writer.finish()
    return folder


def _window(labels: np.ndarray, side: int, draw: np.random.Generator) -> tuple[slice, slice]:
    """Return rows and columns of a square around a cell that is drawn, moved to where it fits into the image."""
    centres = ndimage.center_of_mass(labels > 0, labels, np.unique(labels[labels > 0]))
    middle = centres[draw.integers(len(centres))]
    top, left = (int(np.clip(m - side / 2, 0, max(n - side, 0))) for m, n in zip(middle, labels.shape, strict=True))
    return slice(top, top + side), slice(left, left + side)


def _three_ways(
    study: Study,
    name: str,
    settings: TrainSegmentation,
    config: StudySegmenters,
    test: Path,
    arms: dict[str, list[dict[str, Any]]],
) -> None:
    """Measure conventional and two-stage training in equal time, and a conventional one of as many segmenter steps."""
    two = replace(settings, method="two-stage", condition=config.condition)
    records = {
        CONVENTIONAL: measure(study, f"conventional-{name}", settings, test),
        TWO_STAGE: measure(study, f"two-stage-{name}", two, test),
    }
    fewer = replace(settings, minutes=None, steps=int(records[TWO_STAGE]["steps"]))
    records[CONTROL] = measure(study, f"control-{name}", fewer, test)
    for arm, record in records.items():
        arms.setdefault(arm, []).append(record)


def _add_arms(
    study: Study,
    report: Report,
    arms: dict[str, list[dict[str, Any]]],
    lead: dict[str, Any],
    names: set[str] | None,
) -> None:
    """Add a table of the three ways, on some of the test images, with their differences to the conventional way."""

    def part(records: list[dict[str, Any]], threshold: int) -> Values:
        found = values(records, "f_score", threshold)
        return [{k: v for k, v in scores.items() if names is None or k in names} for scores in found]

    rows = []
    for arm, records in arms.items():
        gain = None if arm == CONVENTIONAL else difference(part(records, 0), part(arms[CONVENTIONAL], 0))
        row = {
            **lead,
            "training": arm,
            "F at IoU 0.5": estimate(part(records, 0)),
            "F at IoU 0.7": estimate(part(records, 2)),
            "against conventional at 0.5": gain,
            "steps": round(float(np.mean([record["steps"] for record in records]))),
        }
        study.row(**row)
        rows.append([shown(cell) for cell in row.values()])
    report.table(list(study.rows[-1]), rows)


def _add_training(
    study: Study, report: Report, data: str, records: dict[tuple[str, str], list[dict[str, Any]]]
) -> None:
    """Add a table and the curves over IoU of one data set."""
    report.heading(data)
    rows = []
    for (network, arm), found in records.items():
        row = {
            "data": data,
            "network": network,
            "training": arm,
            **{title: estimate(values(found, score)) for score, title in zip(SCORES, ("F", "P", "R"), strict=True)},
            "Dice": estimate(values(found, "dice")),
            "F at IoU 0.7": estimate(values(found, "f_score", 2)),
            "F at IoU 0.9": estimate(values(found, "f_score", 4)),
            "steps": round(float(np.mean([record["steps"] for record in found]))),
        }
        study.row(**row)
        rows.append([shown(cell) for cell in row.values()])
    report.table(list(study.rows[-1]), rows, caption="F, precision P and recall R at IoU 0.5, with 95 % intervals.")
    for network in dict.fromkeys(network for network, _ in records):
        arms = {arm: found for (other, arm), found in records.items() if other == network}
        _add_figure(report, study, arms, f"{data}, {network}: ")


def _add_figure(report: Report, study: Study, arms: dict[str, list[dict[str, Any]]], title: str = "") -> None:
    curves = {
        arm: [(0.5 + 0.1 * k, estimate(values(records, "f_score", k))) for k in range(5)]
        for arm, records in arms.items()
    }
    report.figure(_curves(curves, "IoU threshold"), f"{title}F on the test images over IoU, with 95 % intervals.")


def _curves(curves: dict[str, list[tuple[Any, Any]]], label: str) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for arm, points in curves.items():
        x, y = [p for p, _ in points], [e.value for _, e in points]
        (line,) = axes.plot(x, y, marker="o", label=arm)
        low, high = [e.low for _, e in points], [e.high for _, e in points]
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15)
    axes.set(xlabel=label, ylabel="F", ylim=(0, 1))
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure


def _without_nan(scores: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        return None if np.isnan(value) else float(value)

    return {key: plain(value) for key, value in scores.items()}
