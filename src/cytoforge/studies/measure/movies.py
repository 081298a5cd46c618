"""Trainings of movie generators, whose movies are scored: the study `movie`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.data.images import encode_image
from cytoforge.data.movie import read_sequences
from cytoforge.data.run import BACKGROUNDS, STAGES, Run
from cytoforge.evaluation.comparison import MovieComparison
from cytoforge.evaluation.movie import MovieResults, distances_by_length, score_sides
from cytoforge.evaluation.movie_sides import Sides
from cytoforge.inference.generate_movie import Look, film_masks, maskful
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.metrics.movie import MovieDistance
from cytoforge.progress import say
from cytoforge.simulated.movie import simulate_movie
from cytoforge.simulated.specification import MovieSimulation
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.frames import Part, copy_movie, interpolate_movie, read_frames
from cytoforge.studies.measure.segmenters import segmenter_scores
from cytoforge.studies.measure.trainings import (
    both_stages,
    conventional,
    movie_generator,
    reference_segmenter,
    training_of,
    until_converged,
)
from cytoforge.studies.measurements import DenseMovie, MeasuredMovies, MovieScores, OnBackground, SegmenterScores
from cytoforge.studies.specification import (
    CLIP_LENGTHS,
    CONVERGED,
    LAYOUTS,
    SHORT_MOVIE,
    MovieMethod,
    MovieStudy,
    SequenceStudy,
)
from cytoforge.training.specification import Training
from cytoforge.training.tasks.staged import FIRST_STAGE, finished


@dataclass(frozen=True)
class _OfSeed:
    """What is measured with one seed."""

    runs: Mapping[MovieMethod, Run]
    scores: Mapping[str, MovieScores]
    painted: Mapping[str, Path]
    long: Mapping[str, MovieScores]
    dense: Mapping[tuple[str, float], tuple[MovieScores, Path]]
    segmenters: Mapping[str, SegmenterScores]


def movie_measurements(
    study: MovieStudy, parts: tuple[Part, Part], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what the study measures with each seed, by the name of the result that is written last."""
    return {f"segmenter-both-{seed}": partial(_measure_seed, study, parts, folder, seed) for seed in study.seeds}


def measure_movies(study: MovieStudy, parts: tuple[Part, Part], folder: StudyFolder) -> MeasuredMovies:
    """Measure generators of movies trained on the same frames, on masks of a movie that they were not trained on.

    Raises UserError as training, simulating, generating and scoring do.
    """
    _, test = copies(folder, study, parts)
    found = [_measure_seed(study, parts, folder, seed) for seed in study.seeds]
    first = found[0]
    return MeasuredMovies(
        study=study,
        test=test,
        scores={arm: [one.scores[arm] for one in found] for arm in first.scores},
        painted=first.painted,
        long={method: [one.long[method] for one in found] for method in first.long},
        dense={
            how: DenseMovie([one.dense[how][0] for one in found], painted) for how, (_, painted) in first.dense.items()
        },
        segmenters={arm: [one.segmenters[arm] for one in found] for arm in first.segmenters},
        backgrounds=_measure_backgrounds(folder, study, first.runs["tgan"], test) if "tgan" in first.runs else [],
    )


def _measure_seed(study: MovieStudy, parts: tuple[Part, Part], folder: StudyFolder, seed: int) -> _OfSeed:
    real, test = copies(folder, study, parts)
    runs = {method: generator_run(folder, study, method, real, seed) for method in study.methods}
    reference = reference_run(folder, study, real, seed)
    scores: dict[str, MovieScores] = {}
    shown: dict[str, Path] = {}
    for arm, run, movie in _arms(folder, study, runs, real, test, seed):
        scores[arm] = movie_scores(folder, study, movie.name, run, movie, test, reference, CLIP_LENGTHS)
        shown[arm] = movie
    masks = _simulated(folder, study, "long", real, frames=study.frames)
    long = {method: painted(folder, study, f"long-{method}-{seed}", run, masks) for method, run in runs.items()}
    return _OfSeed(
        runs=runs,
        scores=scores,
        painted=shown,
        long={
            method: movie_scores(folder, study, movie.name, runs[method], movie, test, None)
            for method, movie in long.items()
        },
        dense=_measure_densities(folder, study, runs, reference, real, test, seed),
        segmenters=_measure_segmenters(folder, study, long[study.methods[0]], real, test, seed),
    )


def copies(folder: StudyFolder, study: SequenceStudy, parts: tuple[Part, Part]) -> tuple[Path, Path]:
    """Copy the frames to train on and to test on into the study, resized; return both folders."""
    train_part, test_part = parts
    with folder.making_data():
        return (
            copy_movie(train_part, folder.place("data", "train"), study.scale),
            copy_movie(test_part, folder.place("data", "test"), study.scale),
        )


def frame_training(
    folder: StudyFolder, study: SequenceStudy, name: str, data: Path, seed: int, synthetic: Path | None = None
) -> Training:
    """Return a training on frames, which are resized already."""
    return training_of(study, data, folder.place("runs", name), seed, scale=1.0, synthetic=synthetic)


def generator_run(folder: StudyFolder, study: SequenceStudy, method: MovieMethod, data: Path, seed: int) -> Run:
    """Train a movie generator on a movie folder, once."""
    say([f"{folder.kind}: {method} on {data.name}, seed {seed}"])
    training = frame_training(folder, study, f"{method}-{data.name}-{seed}", data, seed)
    return movie_generator(study, method, training)


def _arms(
    folder: StudyFolder,
    study: MovieStudy,
    runs: Mapping[MovieMethod, Run],
    real: Path,
    test: Path,
    seed: int,
) -> Iterator[tuple[str, Run, Path]]:
    """Yield each way to paint the test movie, by name, with its run and the movie that it paints.

    After those of equal time come the same trainings until they have converged, then tGAN's two stages, whose first
    one's frames are enlarged by the second one, and by interpolation.
    """
    for method in study.methods:
        yield method, runs[method], painted(folder, study, f"{method}-{seed}", runs[method], test)
    if study.max_steps is not None:
        for method in study.methods:
            say([f"{folder.kind}: {method} until it has converged, seed {seed}"])
            training = frame_training(folder, study, f"{method}-converged-{seed}", real, seed)
            long = until_converged(training, study.max_steps)
            run = movie_generator(study, method, long)
            yield f"{method}, {CONVERGED}", run, painted(folder, study, f"{method}-converged-{seed}", run, test)
    if study.stage == "both":
        say([f"{folder.kind}: tgan in two stages, seed {seed}"])
        run = both_stages(study, frame_training(folder, study, f"stages-{seed}", real, seed))
        enlarged = painted(folder, study, f"super-resolution-{seed}", run, test)
        yield "tgan, super-resolution", run, enlarged
        recorder = MovieGenerator.load(run.path, device=study.compute.device).recorder(0, noise=True, contrast=False)
        interpolated = interpolate_movie(enlarged, folder.place("work", f"interpolated-{seed}"), recorder)
        yield "tgan, interpolated", Run.open(Run.stage(run.path, FIRST_STAGE)), interpolated


def reference_run(folder: StudyFolder, study: SequenceStudy, data: Path, seed: int) -> Run:
    """Train the reference segmenter on the same frames, once."""
    return reference_segmenter(study, _reference_training(folder, study, data, seed))


def _reference_training(folder: StudyFolder, study: SequenceStudy, data: Path, seed: int) -> Training:
    return frame_training(folder, study, f"reference-segmenter-{seed}", data, seed)


def painted(
    folder: StudyFolder,
    study: SequenceStudy,
    name: str,
    run: Run,
    masks: Path,
    background: Path | None = None,
    *,
    noise: bool = True,
) -> Path:
    """Paint all sequences of a movie of masks, once; returns the movie folder."""
    out = folder.place("work", name)
    if not finished(out):
        generator = MovieGenerator.load(run.path, device=study.compute.device, threads=study.compute.threads)
        film_masks(generator, masks, maskful(masks, (), out), out, Look(background, noise=noise))
    return out


def movie_scores(
    folder: StudyFolder,
    study: MovieStudy,
    name: str,
    run: Run,
    movie: Path,
    test: Path,
    reference: Run | None,
    lengths: Sequence[int] = (),
) -> MovieScores:
    """Score a movie that a run painted against the real one, once; `lengths` of clips as of `distances_by_length`."""

    def measure() -> MovieScores:
        comparison = MovieComparison(
            prediction=movie,
            truth=test,
            segmenter=reference.path if reference else None,
            weights_dir=study.compute.weights_dir,
            device=study.compute.device,
            threads=study.compute.threads,
        )
        sides = Sides.open(comparison)
        found = scores_of(score_sides(comparison, sides), distances_by_length(sides, lengths))
        return found.model_copy(update=_spent(run))

    return folder.once(name, MovieScores, measure)


def _spent(run: Run) -> dict[str, int | float]:
    """Return steps and seconds of a training, of both stages where it has two."""
    runs = [run]
    if (run.path / STAGES / FIRST_STAGE).is_dir():
        runs.append(Run.open(Run.stage(run.path, FIRST_STAGE)))
    return {kind: sum(one.provenance[kind] for one in runs) for kind in ("steps", "seconds")}


def scores_of(results: MovieResults, by_length: Mapping[int, MovieDistance]) -> MovieScores:
    """Return the scores of a movie, None where undefined, and those of the real movie under `real`."""
    found: dict[str, Any] = {"notes": list(results.notes), "real": {}}
    found["by_length"] = {str(length): distance.distance for length, distance in by_length.items()}
    found["real"]["by_length"] = {str(length): distance.halves for length, distance in by_length.items()}
    for scores, pairs in ((found, results.pairs), (found["real"], results.neighbours)):
        if pairs is not None:
            scores |= {"SSIM": pairs.ssim, "PSNR": pairs.psnr}
            scores |= {"LPIPS": pairs.lpips, "lpips_network": pairs.lpips_network} if pairs.lpips else {}
    for kind in ("frames", "clips"):
        distance = getattr(results, kind)
        if distance is not None:
            found |= {kind: distance.distance, f"{kind}_network": distance.network}
            found["real"][kind] = distance.halves
    for scores, side in ((found, results.generated), (found["real"], results.real)):
        scores |= {"warping error": side.coherence.warping_error, "flicker": side.coherence.flicker}
        scores["drift"] = {str(length): [drift.grey, drift.texture] for length, drift in side.drift.items()}
        scores["faithfulness"] = side.faithfulness.mean if side.faithfulness else None
    return MovieScores.model_validate(plain(found))


def plain(value: Any) -> Any:
    """Turn estimates into their values and nan into None, also inside lists and mappings."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    value = getattr(value, "value", value)
    return None if isinstance(value, float) and np.isnan(value) else value


def _measure_densities(
    folder: StudyFolder,
    study: MovieStudy,
    runs: Mapping[MovieMethod, Run],
    reference: Run,
    real: Path,
    test: Path,
    seed: int,
) -> dict[tuple[str, float], tuple[MovieScores, Path]]:
    """Measure movies denser than those trained on, of single cells and of colonies, by the first method."""
    method = study.methods[0]
    dense: dict[tuple[str, float], tuple[MovieScores, Path]] = {}
    for layout, density in product(LAYOUTS, study.densities):
        name = f"{layout}-{density:g}"
        masks = _simulated(folder, study, name, real, frames=SHORT_MOVIE, layout=layout, density=density)
        movie = painted(folder, study, f"{name}-{method}-{seed}", runs[method], masks)
        found = movie_scores(folder, study, movie.name, runs[method], movie, test, reference)
        dense[layout, density] = found, movie
    return dense


def _measure_segmenters(
    folder: StudyFolder, study: MovieStudy, films: Path, real: Path, test: Path, seed: int
) -> dict[str, SegmenterScores]:
    """Score segmenters trained with painted movies of simulated cells on real frames."""
    trainings = {
        "real": _reference_training(folder, study, real, seed),
        "painted": frame_training(folder, study, f"segmenter-painted-{seed}", films, seed),
        "both": frame_training(folder, study, f"segmenter-both-{seed}", real, seed, synthetic=films),
    }
    return {
        arm: segmenter_scores(folder, study, conventional(study), training, test) for arm, training in trainings.items()
    }


def _measure_backgrounds(folder: StudyFolder, study: MovieStudy, run: Run, test: Path) -> list[OnBackground]:
    """Measure how much each background varies over time in movies without noise that tGAN painted on the same masks."""
    sequence = read_sequences(test)[0]
    total = len(sequence.frames)
    part = Part(test, [sequence.name], (0.0, min(SHORT_MOVIE, total) / total))
    masks = copy_movie(part, folder.place("data", "short"))
    given = [(path.stem, path) for path in study.backgrounds] or [("its own, mirrored", _mirrored(folder, run))]
    found = []
    for number, (title, file) in enumerate([("its own", None), *given]):
        work = painted(folder, study, f"background-{number}", run, masks, file, noise=False)
        (sequence,) = read_sequences(work)
        ground = ~np.any([labels > 0 for _, labels in sequence.tracked()], axis=0)
        frames = np.stack(list(read_frames(work, sequence.name)))
        deviation = float(frames.std(axis=0)[:, ground].mean()) if ground.any() else None
        found.append(OnBackground(title, work, deviation))
    return found


def _mirrored(folder: StudyFolder, run: Run) -> Path:
    """Write the run's first background, mirrored left to right, as an image; return the file."""
    file = folder.out / "work" / "mirrored.tif"
    if not file.exists():
        bank = run.load_weights(BACKGROUNDS)
        background = bank[sorted(bank)[0]].numpy()[..., ::-1]
        limits = np.asarray(next(iter(run.settings.limits.values())))  # (C, 2), lower and upper grey value per channel
        low, high = limits.T[..., None, None]
        image = ((background + 1) / 2 * (high - low) + low).astype(np.float32)
        folder.folder.write("work/mirrored.tif", encode_image(file, image))
    return file


def _simulated(folder: StudyFolder, study: MovieStudy, name: str, real: Path, **how: Any) -> Path:
    """Simulate a movie of masks, once for all seeds; returns its folder."""
    out = folder.place("data", name)
    with folder.making_data():
        if not finished(out):
            say(simulate_movie(MovieSimulation(out=out, like=real, seed=study.seeds[0], **how)))
    return out
