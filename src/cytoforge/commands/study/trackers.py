"""The study `tracking`: trackers on real and painted movies (tGAN, Tables 2 and 3), and trained on either."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cytoforge.commands.score_tracking import score_tracking
from cytoforge.commands.simulate import simulate_movie
from cytoforge.commands.study.folder import Study, mean_over_seeds, over_seeds, shown
from cytoforge.commands.study.frames import Part, copy_movie, split_movies
from cytoforge.commands.study.movies import copies, generator_run, judging_run, painted, settings_of
from cytoforge.commands.study.segmenters import alike, trained
from cytoforge.commands.track import open_tracker, track
from cytoforge.commands.train import train_tracker
from cytoforge.data.files import read_json
from cytoforge.data.movie import read_sequences
from cytoforge.data.run import Run
from cytoforge.progress import counted, say
from cytoforge.report import Report
from cytoforge.settings import ScoreTracking, SimulateMovie, StudyTracking, Track, TrainTracker
from cytoforge.training.tasks.staged import finished

TABLES = {"MOTA": "mota", "MT": "mostly_tracked", "ML": "mostly_lost", "precision": "precision", "recall": "recall"}
LINKS = {
    "MOTA": "mota",
    "IDF1": "idf1",
    "HOTA": "hota",
    "switches": "switches",
    "LNK": "lnk",
    "divisions": "division_f_1",
}
SEQUENCES = 2  # of painted movies that a tracker is trained on
REACHES = (0.5, 0.7, 1.0, 1.4, 2.0)  # distances that are tried, by the one that a tracker takes of itself


def study_tracking(config: StudyTracking) -> Path:
    """Compare trackers on real and painted movies of the same masks, then trackers trained on real and painted frames.

    Raises UserError as training, painting, tracking and scoring do.
    """
    parts = split_movies(config)
    for name in config.trackers:
        if name != "deepsea":  # one that is not installed is missed before any training
            open_tracker(Track(name, config.data[0], config.out))
    study = Study.open("tracking", config)
    real, test = copies(study, config, parts)
    report = Report("Tracking", f"{counted(config.seeds, 'seed')}, trained for {config.minutes:g} min each")
    reach = _add_tuning(study, report, config, real) if config.tune else {}
    _add_comparison(study, report, config, real, test, reach)
    _add_training(study, report, config, real, test)
    return study.finish(report)


def _add_tuning(study: Study, report: Report, config: StudyTracking, real: Path) -> dict[str, float]:
    """Add how well trackers with a distance link the true masks of the frames for training; return the best ones."""
    best: dict[str, float] = {}
    rows = []
    for name in ("laptrack", "btrack"):
        if name not in config.trackers:
            continue
        own = f"{name}-tuning-1"
        _tracked(study, config, own, name, real, None)
        sequences = read_json(_tracks(study, own) / "dataset.json")["sequences"].values()
        reach = max(sequence["settings"]["largest distance in pixels"] for sequence in sequences)
        scores: dict[float, float] = {}
        for by in REACHES:  # of 1 it is done: what was measured once is read again
            measured = _tracked(study, config, f"{name}-tuning-{by:g}", name, real, None, by * reach)
            scores[by] = measured["idf1"] or 0.0
        chosen = max(REACHES, key=lambda by: (scores[by], -abs(math.log(by))))
        best[name] = chosen * reach
        for by in REACHES:
            study.row(tracker=name, movie="for training", frames="all", distance=by * reach, IDF1=scores[by])
            rows.append([name, f"{by * reach:.1f}", f"{scores[by]:.3f}", "x" if by == chosen else ""])
    caption = "The frames for training, their true masks linked with several distances. The best one is taken below."
    report.table(["tracker", "distance in pixels", "IDF1", "taken"], rows, caption=caption)
    return best


def _add_comparison(
    study: Study, report: Report, config: StudyTracking, real: Path, test: Path, reach: Mapping[str, float]
) -> None:
    """Add Tables 2 and 3: each tracker on the real movie and on those that are painted on its masks."""
    records: dict[tuple[str, str], list[dict[str, Any]]] = {}  # by tracker and movie
    for seed in range(config.seed, config.seed + config.seeds):
        judge = judging_run(study, config, real, seed)
        movies = {"real": test}
        for method in config.methods:
            movies[method] = painted(
                study, config, f"{method}-{seed}", generator_run(study, config, method, real, seed), test
            )
        for name in config.trackers:
            linker = str(_tracker(study, config, f"real-{real.name}", real, seed).path) if name == "deepsea" else name
            for kind, movie in movies.items():
                record = _tracked(study, config, f"{name}-{kind}-{seed}", linker, movie, judge, reach.get(name))
                records.setdefault((name, kind), []).append(record)
    rows = []
    for (linked, kind), found in records.items():
        beside = records[linked, "real"]
        off = [
            {title: abs(one[key] - other[key]) for title, key in TABLES.items() if _both(one, other, key)}
            for one, other in zip(found, beside, strict=True)
        ]
        row: dict[str, Any] = {"tracker": linked, "movie": kind, "frames": "all"}
        for title, key in TABLES.items():
            row[title] = over_seeds(found, key)
            if kind != "real":
                row[f"|{title} - real|"] = over_seeds(off, title)
        study.row(**row)
        beyond = "-" if kind == "real" else _mean(off)
        rows.append([linked, kind, *(shown(over_seeds(found, key)) for key in TABLES.values()), beyond])
    caption = (
        "Frames segmented by a segmenter trained on the real ones, then tracked; truth: the masks that were painted "
        "on. Difference: mean distance of the five scores from those on the real movie. Means over seeds; intervals "
        "resample seeds only."
    )
    report.table(["tracker", "movie", *TABLES, "difference"], rows, caption=caption)


def _both(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    return one.get(key) is not None and other.get(key) is not None


def _mean(differences: Sequence[Mapping[str, float]]) -> str:
    return shown(mean_over_seeds([sum(found.values()) / len(found) for found in differences if found]))


def _add_training(study: Study, report: Report, config: StudyTracking, real: Path, test: Path) -> None:
    """Add what a tracker is worth that has learned from a few real frames, from movies painted after these, or both."""
    first, *others = read_sequences(real)
    total = len(first.frames)
    rows: list[list[str]] = []
    curves: dict[str, list[tuple[int, float]]] = {}
    for count in [*sorted(n for n in config.frames if n < total), total]:
        records: dict[str, list[dict[str, Any]]] = {}
        for seed in range(config.seed, config.seed + config.seeds):
            few = real  # whose generator and tracker the first part has trained
            if others or count < total:
                few = copy_movie(Part(real, [first.name], (0.0, count / total)), study.place("data", f"real-{count}"))
            films = _painted_films(study, config, few, count, seed)
            for arm, data, more in (("real", few, None), ("painted", films, None), ("both", few, films)):
                run = _tracker(study, config, f"{arm}-{few.name}", data, seed, more)
                name = f"trained-{arm}-{count}-{seed}"
                records.setdefault(arm, []).append(_tracked(study, config, name, str(run.path), test, None))
        for arm, found in records.items():
            row = {title: over_seeds(found, key) for title, key in LINKS.items()}
            study.row(tracker=f"deepsea, trained on {arm}", movie="real", frames=count, **row)
            rows.append([arm, str(count), *map(shown, row.values())])
            if (scored := row["IDF1"]) is not None:
                curves.setdefault(arm, []).append((count, scored.value))
    caption = (
        f"The DeepSea tracker links the true masks of the test movie. Painted: {SEQUENCES} movies of simulated cells "
        "like those of the real frames, painted by a generator trained on the same frames; its training comes on top. "
        "Means over seeds; intervals resample seeds only."
    )
    report.table(["trained on", "real frames", *LINKS], rows, caption=caption)
    report.figure(_figure(curves), "IDF1 by the number of real frames.")


def _figure(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for arm, points in curves.items():
        axes.plot([count for count, _ in points], [value for _, value in points], marker="o", label=arm)
    axes.set(xlabel="real frames", ylabel="IDF1", xscale="log", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _painted_films(study: Study, config: StudyTracking, few: Path, count: int, seed: int) -> Path:
    """Paint movies of simulated cells like those of a few real frames, by a generator trained on these."""
    masks = study.place("data", f"simulated-{count}-{seed}")
    if not finished(masks):
        simulate_movie(SimulateMovie(masks, few, count=SEQUENCES, frames=max(count, 10), seed=seed))
    run = generator_run(study, config, config.methods[0], few, seed)
    return painted(study, config, f"films-{count}-{seed}", run, masks)


def _tracker(study: Study, config: StudyTracking, name: str, data: Path, seed: int, more: Path | None = None) -> Run:
    """Train the DeepSea tracker, once; `more` are painted movies beside the real one."""
    say([f"{study.kind}: a tracker trained on {name}, seed {seed}"])
    shared = settings_of(config, data, seed)
    out = study.place("runs", f"tracker-{name}-{seed}")
    return trained(alike(TrainTracker, shared, synthetic=more, out=out), train_tracker)


def _tracks(study: Study, name: str) -> Path:
    return study.place("work", f"tracks-{name}")


def _tracked(
    study: Study,
    config: StudyTracking,
    name: str,
    linker: str,
    movie: Path,
    judge: Run | None,
    distance: float | None = None,
) -> dict[str, Any]:
    """Track a movie, segmented by `judge` or by its own masks, and score the tracks, once."""

    def measure() -> dict[str, Any]:
        out = _tracks(study, name)
        if not finished(out):
            segment = judge.path if judge else None
            settings = Track(
                linker,
                movie,
                out,
                segment=segment,
                distance=distance,
                device=config.device,
                threads=config.threads,
            )
            track(settings)
        results = score_tracking(ScoreTracking(out, movie, allow_synthetic=True))
        scores = {key: score.value for block in ("ctc", "tracking") for key, score in results.pooled[block].items()}
        return {key: None if value != value else value for key, value in scores.items()}

    return study.once(name, measure)
