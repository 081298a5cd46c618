"""Tables and figures of the studies `training` and `dense`, and what other studies of segmenters share with them.

cGAN-Seg's Figure 2, Table 1 and Tables S1 to S3 (training); Table 2 (dense).
"""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure

from cytoforge.metrics.estimates import Estimate
from cytoforge.report import Report
from cytoforge.studies.measurements import (
    THRESHOLDS,
    Arms,
    MeasuredDense,
    MeasuredTraining,
    SegmenterScores,
)
from cytoforge.studies.present.presentation import Cell, Presentation, ScoresByImage, difference, estimate
from cytoforge.studies.specification import Protocol, Study, TrainingStudy

PROTOCOLS = "Protocol instances scores numbered cells, paper the connected components of the masks."
TITLES = {"F": "f_score", "P": "precision", "R": "recall"}


def present_training(measured: MeasuredTraining) -> Presentation:
    """Show trainings on few images, conventional and cyclegan, beside conventional training on all of them."""
    study = measured.study
    report = Report(
        "Training study",
        f"{study.images} annotated images against all, {len(study.seeds)} random subsets; {terms(study)}",
    )
    presentation = Presentation(report)
    for data, trainings in measured.datasets.items():
        report.heading(data)
        rows: list[dict[str, Cell]] = [
            {
                "data": data,
                "network": network,
                "training": arm,
                "protocol": protocol,
                **{title: estimate(by_image(found, score, protocol=protocol)) for title, score in TITLES.items()},
                "Dice": estimate(by_image(found, "dice", protocol=protocol)),
                "F at IoU 0.7": estimate(by_image(found, "f_score", 2, protocol)),
                "F at IoU 0.9": estimate(by_image(found, "f_score", 4, protocol)),
                **_gain(trainings, network, arm, protocol),
                "steps": mean_steps(found),
            }
            for protocol in study.protocols
            for (network, arm), found in trainings.items()
        ]
        presentation.table(rows, f"F, precision P and recall R at IoU 0.5, with 95 % intervals. {PROTOCOLS}")
        for network in dict.fromkeys(network for network, _ in trainings):
            arms = {arm: found for (other, arm), found in trainings.items() if other == network}
            _add_curves(report, arms, study.protocols[0], f"{data}, {network}: ")
    return presentation


def _gain(
    trainings: Mapping[tuple[str, str], Sequence[SegmenterScores]], network: str, arm: str, protocol: Protocol
) -> dict[str, Cell]:
    """Return the difference of F to the first way of training, image by image and seed by seed."""
    first = next(way for other, way in trainings if other == network)
    one, other = (by_image(trainings[network, way], "f_score", protocol=protocol) for way in (arm, first))
    return {"F against the first": None if arm == first else difference(one, other)}


def present_dense(measured: MeasuredDense) -> Presentation:
    """Show trainings with and without dense synthetic images, on easy and on hard test images.

    Test images are split at the median share of touching cells.
    """
    study, touching = measured.study, measured.touching
    groups = by_difficulty(touching)
    report = Report(
        "Dense study",
        f"{study.images or 'all'} annotated and {study.synthetic_images} synthetic images, {len(study.seeds)} seeds, "
        f"equal budgets; {terms(study)}",
    )
    report.text(
        f"{hard_images(touching)}; cGAN-Seg's Table 2 sorted them by eye. The control is "
        "the plain training with as many steps as the two-stage segmenter."
    )
    presentation = Presentation(report, facts={"touching": dict(touching)})
    for group, names in groups.items():
        lead: dict[str, Cell] = {"test images": group, "images": len(names)}
        _add_arms(presentation, measured.arms, lead, names, study.protocols)
    _add_curves(report, measured.arms, study.protocols[0])
    return presentation


def by_difficulty(touching: Mapping[str, float]) -> dict[str, set[str]]:
    """Return the names of `all` test images, and of the `easy` and the `hard` half, by their share of touching cells.

    The middle one of an odd number is hard; a single one is hard, and then none is easy.
    """
    ranked = sorted(touching, key=lambda name: (touching[name], name))
    easy, hard = set(ranked[: len(ranked) // 2]), set(ranked[len(ranked) // 2 :])
    return {"all": easy | hard, **({"easy": easy} if easy else {}), "hard": hard}


def hard_images(touching: Mapping[str, float]) -> str:
    """Say which test images are hard."""
    least = min(touching[name] for name in by_difficulty(touching)["hard"])
    return f"Hard test images are the half with the larger share of touching cells ({least:.0%} or more)"


def of_images(values: ScoresByImage, names: Collection[str]) -> ScoresByImage:
    """Return the scores of the test images of these names."""
    return [{image: score for image, score in scores.items() if image in names} for scores in values]


def terms(study: Study) -> str:
    """Say on which terms the segmenters of a study are trained."""
    network = "" if isinstance(study, TrainingStudy) else f"{study.network}, "
    until = ", until converged" if study.budget.until_converged else ""
    return f"{network}target {study.target}, augmentation {study.augmentation}, preset {study.preset}{until}"


def by_image(
    found: Sequence[SegmenterScores], score: str, threshold: int = 0, protocol: Protocol = "instances"
) -> ScoresByImage:
    """Return a score of every test image, for each seed; `threshold` is an index: 0 is IoU 0.5, 1 is IoU 0.6."""

    def of(values: list[float | None] | float | None) -> float | None:
        return values[threshold] if isinstance(values, list) else values

    images = [one.images if protocol == "instances" else one.paper for one in found]
    return [{image: of(getattr(scores, score)) for image, scores in one.items()} for one in images]


def mean_steps(found: Sequence[SegmenterScores]) -> int:
    """Return the mean number of steps over seeds, rounded."""
    return round(sum(one.steps for one in found) / len(found))


def _add_arms(
    presentation: Presentation,
    arms: Arms,
    lead: Mapping[str, Cell],
    names: Collection[str],
    protocols: Sequence[Protocol],
) -> None:
    """Add a table of ways of training, on some of the test images, with their differences to the first way."""

    def part(found: Sequence[SegmenterScores], threshold: int, protocol: Protocol) -> ScoresByImage:
        return of_images(by_image(found, "f_score", threshold, protocol), names)

    plain = next(iter(arms))
    rows: list[dict[str, Cell]] = [
        {
            **lead,
            "training": arm,
            "protocol": protocol,
            "F at IoU 0.5": estimate(part(found, 0, protocol)),
            "F at IoU 0.7": estimate(part(found, 2, protocol)),
            f"against {plain} at 0.5": None
            if arm == plain
            else difference(part(found, 0, protocol), part(arms[plain], 0, protocol)),
            "steps": mean_steps(found),
        }
        for protocol in protocols
        for arm, found in arms.items()
    ]
    presentation.table(rows)


def _add_curves(report: Report, arms: Arms, protocol: Protocol, title: str = "") -> None:
    curves = {
        arm: [(0.5 + 0.1 * k, estimate(by_image(found, "f_score", k, protocol))) for k in range(THRESHOLDS)]
        for arm, found in arms.items()
    }
    report.figure(_curves(curves, "IoU threshold"), f"{title}F on the test images over IoU, with 95 % intervals.")


def _curves(curves: Mapping[str, Sequence[tuple[float, Estimate]]], label: str) -> Figure:
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
