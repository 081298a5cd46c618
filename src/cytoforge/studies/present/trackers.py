"""Tables and figures of the study `tracking` (tGAN, Tables 2 and 3)."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from cytoforge.metrics.estimates import Estimate
from cytoforge.progress import counted
from cytoforge.report import Report
from cytoforge.studies.measurements import MeasuredTracking, TrackingScores
from cytoforge.studies.present.presentation import Cell, Presentation, over_seeds, written
from cytoforge.studies.specification import SIMULATED_SEQUENCES

PUBLISHED = {  # title: score of Tables 2 and 3
    "MOTA": "mota",
    "MT": "mostly_tracked",
    "ML": "mostly_lost",
    "precision": "precision",
    "recall": "recall",
}
SCRIPT = {"script's MOTA": "script_mota"}  # as the program published with the paper computes it
OF_LINKS = {  # scores of tracks whose masks are the true ones
    "MOTA": "mota",
    "IDF1": "idf1",
    "HOTA": "hota",
    "switches": "switches",
    "LNK": "lnk",
    "divisions": "division_f_1",
}


def present_tracking(measured: MeasuredTracking) -> Presentation:
    """Show trackers on real and painted movies of the same masks, and trackers trained on real and painted frames."""
    study = measured.study
    told = f"{counted(len(study.seeds), 'seed')}, trained for {study.budget.told} each"
    presentation = Presentation(Report("Tracking", told))
    if study.tune:
        _add_distances(presentation, measured)
    _add_comparison(presentation, measured)
    _add_trainings(presentation, measured)
    return presentation


def _add_distances(presentation: Presentation, measured: MeasuredTracking) -> None:
    """Add how well trackers with a distance link the true masks of the frames for training."""
    rows = []
    for tried in measured.tried:
        presentation.row(
            tracker=tried.tracker, movie="for training", frames="all", distance=tried.distance, IDF1=tried.idf1
        )
        rows.append([tried.tracker, f"{tried.distance:.1f}", f"{tried.idf1:.3f}", "x" if tried.best else ""])
    caption = "The frames for training, their true masks linked with several distances. The best one is taken below."
    presentation.report.table(["tracker", "distance in pixels", "IDF1", "taken"], rows, caption=caption)


def _add_comparison(presentation: Presentation, measured: MeasuredTracking) -> None:
    """Add Tables 2 and 3: each tracker on the real movie and on those that are painted on its masks."""
    rows = []
    for (tracker, movie), found in measured.compared.items():
        beside = measured.compared[tracker, "real"]
        apart = [_differences(one, other) for one, other in zip(found, beside, strict=True)]
        means = _means(found, PUBLISHED | SCRIPT)
        row: dict[str, Cell] = {"tracker": tracker, "movie": movie, "frames": "all"}
        for title, mean in means.items():
            row[title] = mean
            if movie != "real":
                row[f"|{title} - real|"] = over_seeds(one.get(title) for one in apart)
        presentation.row(**row)
        published = [[one[title] for title in PUBLISHED if title in one] for one in apart]
        overall = over_seeds(sum(one) / len(one) for one in published if one)
        rows.append([tracker, movie, *map(written, means.values()), "-" if movie == "real" else written(overall)])
    caption = (
        "Frames segmented by a segmenter trained on the real ones, then tracked; truth: the masks that were painted "
        "on. Difference: mean distance of the five scores, without the script's, from those on the real movie. The "
        "script matches centroids and counts too few misses. Means over seeds; intervals resample seeds only."
    )
    for tracker, reason in measured.absent.items():
        presentation.row(tracker=tracker, movie=reason, frames="none")
        rows.append([tracker, reason, *["-"] * (len(PUBLISHED | SCRIPT) + 1)])
    presentation.report.table(["tracker", "movie", *PUBLISHED, *SCRIPT, "difference"], rows, caption=caption)


def _means(found: Sequence[TrackingScores], scores: Mapping[str, str]) -> dict[str, Estimate | None]:
    return {title: over_seeds(getattr(one, score) for one in found) for title, score in scores.items()}


def _differences(one: TrackingScores, other: TrackingScores) -> dict[str, float]:
    """Return the differences between the published scores that both have."""
    pairs = {title: (getattr(one, score), getattr(other, score)) for title, score in (PUBLISHED | SCRIPT).items()}
    return {title: abs(a - b) for title, (a, b) in pairs.items() if a is not None and b is not None}


def _add_trainings(presentation: Presentation, measured: MeasuredTracking) -> None:
    """Add scores of trackers trained on few real frames, on movies simulated after these, or on both, and untrained."""
    rows: list[list[str]] = []
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for taught, found in measured.trained.items():
        means = _means(found, OF_LINKS)
        name = f"{taught.tracker}, trained on {taught.source}"
        presentation.row(tracker=name, movie="real", frames=taught.frames, masks=taught.masks, **means)
        rows.append([taught.tracker, taught.source, str(taught.frames), taught.masks, *map(written, means.values())])
        if (idf1 := means["IDF1"]) is not None:
            points = curves.setdefault(taught.masks, {}).setdefault(f"{taught.tracker}, {taught.source}", [])
            points.append((taught.frames, idf1.value))
    caption = (
        "Trackers link the true masks of the test movie, and masks in which cells are missed (3 %), invented (2 %), "
        "merged (5 % of those that touch) and split (2 %) on purpose. global: the linker of whole movies, which goes "
        "on from base and simulates movies after the real frames. deepsea: the DeepSea tracker; painted are "
        f"{SIMULATED_SEQUENCES} movies of simulated cells like those of the real frames, by a generator trained on the "
        "same frames, whose training comes on top. Means over seeds; intervals resample seeds only."
    )
    titles = ["tracker", "trained on", "real frames", "masks", *OF_LINKS]
    presentation.report.table(titles, rows, caption=caption)
    for masks, lines in curves.items():
        presentation.report.figure(_curves(lines), f"IDF1 by the number of real frames, {masks} masks.")


def _curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        counts, values = zip(*points, strict=True)
        if counts == (0,):  # learned from nothing
            axes.axhline(values[0], linestyle="--", color=f"C{number}", label=name)
        else:
            axes.plot(counts, values, marker="o", color=f"C{number}", label=name)
    axes.set(xlabel="real frames", ylabel="IDF1", xscale="log")
    learned = sorted({count for points in curves.values() for count, _ in points if count})
    axes.set_xticks(learned, labels=map(str, learned))
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    return figure
