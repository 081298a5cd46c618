"""Trackers on real and painted movies, and trained on either: the study `tracking`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from pydantic import Field

from cytoforge.data.movie import read_sequences
from cytoforge.data.run import Run
from cytoforge.data.run_config import Settings, parse
from cytoforge.data.writer import INFO, read_info
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import TrackComparison
from cytoforge.evaluation.tracking import open_tracks, score_tracks
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.track import track_movie
from cytoforge.inference.tracker import Tracker
from cytoforge.progress import say
from cytoforge.simulated.movie import simulate_movie
from cytoforge.simulated.specification import MovieSimulation
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.frames import Part, copy_movie, spoil_movie
from cytoforge.studies.measure.movies import copies, frame_training, generator_run, painted, plain, reference_run
from cytoforge.studies.measure.trainings import linker, tracker
from cytoforge.studies.measurements import MeasuredTracking, Taught, TrackingScores, TriedDistance
from cytoforge.studies.specification import SIMULATED_SEQUENCES, TrackingStudy
from cytoforge.training.hyperparameters import LinkedMovies
from cytoforge.training.tasks.staged import finished

TRIED_FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)  # distances that are tried, as multiples of the tracker's default


class Linking(Settings):
    """What dataset.json of a tracked movie says of how its cells were linked."""

    distance: float = Field(alias="largest distance in pixels")


class TrackedSequence(Settings):
    """What dataset.json says of a tracked sequence."""

    settings: Linking


class TrackedMovie(Settings):
    """The part of a tracked movie's dataset.json that is read."""

    sequences: dict[str, TrackedSequence] = Field(min_length=1)


def absent_trackers(study: TrackingStudy) -> dict[str, str]:
    """Return the trackers that are not installed, with the reason; raises UserError when none is left."""
    absent: dict[str, str] = {}
    for name in study.trackers:
        try:
            if name != "deepsea":  # the study trains it
                Tracker.load(name)
        except UserError as error:
            absent[name] = str(error)
    if len(absent) == len(study.trackers):
        raise UserError("; ".join(absent.values()))
    return absent


def tracking_measurements(
    study: TrackingStudy, parts: tuple[Part, Part], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what the study measures with each seed, by the name of the result that is written last."""
    learner = "deepsea" if "deepsea" in study.learners else "global"
    _, numbers = min(parts[0].frames(), key=lambda found: found[0].name)  # the sequence that trainings get frames of
    last = f"wrong-{learner}-both-{len(numbers)}"
    study = _without(study, absent_trackers(study))
    return {f"{last}-{seed}": partial(_measure_seed, study, parts, folder, seed) for seed in study.seeds}


def measure_tracking(study: TrackingStudy, parts: tuple[Part, Part], folder: StudyFolder) -> MeasuredTracking:
    """Measure trackers on real and painted movies of the same masks, then trackers trained on real and painted frames.

    Trackers that are not installed are left out, and named with the reason. Raises UserError when none is left, and as
    training, painting, tracking and scoring do.
    """
    absent = absent_trackers(study)
    study = _without(study, absent)
    tried = _distances(study, parts, folder)
    found = [_measure_seed(study, parts, folder, seed) for seed in study.seeds]
    compared, trained = found[0]
    return MeasuredTracking(
        study=study,
        absent=absent,
        tried=tried,
        compared={kind: [one[kind] for one, _ in found] for kind in compared},
        trained={taught: [one[taught] for _, one in found] for taught in trained},
    )


def _without(study: TrackingStudy, absent: Mapping[str, str]) -> TrackingStudy:
    return replace(study, trackers=tuple(name for name in study.trackers if name not in absent))


def _distances(study: TrackingStudy, parts: tuple[Part, Part], folder: StudyFolder) -> list[TriedDistance]:
    """Measure the distances that are tried, once for all seeds; none unless told to tune them."""
    real, _ = copies(folder, study, parts)
    with folder.making_data():
        return measure_distances(folder, study, real) if study.tune else []


def _measure_seed(
    study: TrackingStudy, parts: tuple[Part, Part], folder: StudyFolder, seed: int
) -> tuple[dict[tuple[str, str], TrackingScores], dict[Taught, TrackingScores]]:
    best = {one.tracker: one.distance for one in _distances(study, parts, folder) if one.best}
    real, test = copies(folder, study, parts)
    compared = measure_trackers(folder, study, real, test, best, seed)
    return compared, measure_trainings(folder, study, real, test, seed)


def measure_distances(folder: StudyFolder, study: TrackingStudy, real: Path) -> list[TriedDistance]:
    """Measure how well trackers that take a distance link the true masks of the frames for training, by distance."""
    tried = []
    for name in ("laptrack", "btrack"):
        if name not in study.trackers:
            continue
        own = f"{name}-tuning-1"
        tracking_scores(folder, study, own, name, real, None)
        out = _tracks(folder, own)
        info = parse(TrackedMovie, read_info(out), out / INFO, f"remove the folder {out} and repeat the command")
        reach = max(sequence.settings.distance for sequence in info.sequences.values())
        idf1: dict[float, float] = {}
        for by in TRIED_FACTORS:  # Factor 1 was measured above; its scores are read again.
            found = tracking_scores(folder, study, f"{name}-tuning-{by:g}", name, real, None, by * reach)
            idf1[by] = found.idf1 or 0.0
        best = max(TRIED_FACTORS, key=lambda by: (idf1[by], -abs(math.log(by))))
        tried += [TriedDistance(name, by * reach, idf1[by], by == best) for by in TRIED_FACTORS]
    return tried


def measure_trackers(
    folder: StudyFolder, study: TrackingStudy, real: Path, test: Path, distances: Mapping[str, float], seed: int
) -> dict[tuple[str, str], TrackingScores]:
    """Measure each tracker on the real movie and on those that are painted on its masks."""
    found: dict[tuple[str, str], TrackingScores] = {}
    reference = reference_run(folder, study, real, seed)
    movies = {"real": test}
    for method in study.methods:
        run = generator_run(folder, study, method, real, seed)
        movies[method] = painted(folder, study, f"{method}-{seed}", run, test)
    for name in study.trackers:
        linker: str = name
        if name == "deepsea":
            linker = str(tracker_run(folder, study, f"real-{real.name}", real, seed).path)
        for kind, movie in movies.items():
            own, distance = f"{name}-{kind}-{seed}", distances.get(name)
            found[name, kind] = tracking_scores(folder, study, own, linker, movie, reference, distance)
    return found


def measure_trainings(
    folder: StudyFolder, study: TrackingStudy, real: Path, test: Path, seed: int
) -> dict[Taught, TrackingScores]:
    """Measure trackers trained on a few real frames, on movies simulated after these, or on both, and untrained ones.

    All link the true masks of the test movie, and masks that are wrong on purpose. The DeepSea tracker, which looks at
    images, gets the simulated movies painted.
    """
    wrong = spoil_movie(test, folder.place("data", f"wrong-{seed}"), seed)
    found: dict[Taught, TrackingScores] = {}

    def measure(name: str, count: int, source: str, opened: str) -> None:
        for masks, movie in (("true", test), ("wrong", wrong)):
            own = f"{masks}-{name}-{source}-{count}-{seed}"
            scores = tracking_scores(folder, study, own, opened, movie, None, truth=test)
            found[Taught(name, count, source, masks)] = scores

    for name in study.trackers:
        if name != "deepsea":
            measure(name, 0, "nothing", name)
    first, *others = read_sequences(real)
    total = len(first.frames)
    for count in [*sorted(n for n in study.frames if n < total), total]:
        few = real
        if others or count < total:
            with folder.making_data():
                few = copy_movie(Part(real, [first.name], (0.0, count / total)), folder.place("data", f"real-{count}"))
        if "global" in study.learners:
            for movies in get_args(LinkedMovies):
                run = linker_run(folder, study, movies, few, seed)
                measure("global", count, movies, str(run.path))
        if "deepsea" in study.learners:
            films = painted_films(folder, study, few, count, seed)
            for source, data, more in (("real", few, None), ("painted", films, None), ("both", few, films)):
                run = tracker_run(folder, study, f"{source}-{few.name}", data, seed, more)
                measure("deepsea", count, source, str(run.path))
    return found


def painted_films(folder: StudyFolder, study: TrackingStudy, few: Path, count: int, seed: int) -> Path:
    """Paint movies of simulated cells like those of a few real frames, by a generator trained on these."""
    masks = folder.place("data", f"simulated-{count}-{seed}")
    if not finished(masks):
        frames = max(count, 10)
        say(simulate_movie(MovieSimulation(out=masks, like=few, count=SIMULATED_SEQUENCES, frames=frames, seed=seed)))
    run = generator_run(folder, study, study.methods[0], few, seed)
    return painted(folder, study, f"films-{count}-{seed}", run, masks)


def linker_run(folder: StudyFolder, study: TrackingStudy, movies: LinkedMovies, few: Path, seed: int) -> Run:
    """Train the linker of whole movies on a few frames, on movies that are simulated after them, or on both, once."""
    say([f"{folder.kind}: a linker trained on {few.name}, {movies}, seed {seed}"])
    return linker(study.preset, movies, frame_training(folder, study, f"linker-{movies}-{few.name}-{seed}", few, seed))


def tracker_run(
    folder: StudyFolder, study: TrackingStudy, name: str, data: Path, seed: int, more: Path | None = None
) -> Run:
    """Train the DeepSea tracker, once; `more` are painted movies beside the real one."""
    say([f"{folder.kind}: a tracker trained on {name}, seed {seed}"])
    return tracker(study.preset, frame_training(folder, study, f"tracker-{name}-{seed}", data, seed, synthetic=more))


def _tracks(folder: StudyFolder, name: str) -> Path:
    return folder.place("work", f"tracks-{name}")


def tracking_scores(
    folder: StudyFolder,
    study: TrackingStudy,
    name: str,
    linker: str,
    movie: Path,
    reference: Run | None,
    distance: float | None = None,
    truth: Path | None = None,
) -> TrackingScores:
    """Track a movie, segmented by the reference segmenter or by its own masks, and score the tracks, once.

    The true tracks are those of the movie, unless another is given for them.
    """

    def measure() -> TrackingScores:
        out, device, threads = _tracks(folder, name), study.compute.device, study.compute.threads
        if not finished(out):
            chosen = Tracker.load(linker, distance=distance, device=device, threads=threads)
            segmenter = Segmenter.load(reference.path, device=device, threads=threads) if reference else None
            track_movie(chosen, movie, out, segmenter=segmenter)
        comparison = TrackComparison(prediction=out, truth=truth or movie, allow_synthetic=True)
        results = score_tracks(comparison, *open_tracks(comparison))
        scores = {key: score for block in ("ctc", "tracking") for key, score in results.pooled[block].items()}
        scores["script_mota"] = results.pooled["deepsea_script"]["mota"]
        return TrackingScores.model_validate(plain(scores))

    return folder.once(name, TrackingScores, measure)
