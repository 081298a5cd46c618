"""The study `movie`: tGAN against vid2vid, other backgrounds, length, density (tGAN, Table 1 and Figures 3 to 5)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from cytoforge.commands.generate import generate_movie
from cytoforge.commands.score_movie import score_movie
from cytoforge.commands.simulate import simulate_movie
from cytoforge.commands.study.folder import LAYOUTS, Study, mean_over_seeds, middle, over_seeds, shown
from cytoforge.commands.study.frames import Part, copy_movie, split_movies
from cytoforge.commands.study.segmenters import alike, base_settings, measure, trained, values
from cytoforge.commands.train import train_movie, train_segmentation
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import encode_image
from cytoforge.data.movie import read_sequences
from cytoforge.data.run import BACKGROUNDS, Run
from cytoforge.evaluation.movie import MovieResults
from cytoforge.progress import counted, say
from cytoforge.report import Report, colour_labels, to_rgb
from cytoforge.settings import (
    GenerateMovie,
    ScoreMovie,
    SimulateMovie,
    StudyMovie,
    StudyMovies,
    TrainMovie,
    TrainSegmentation,
)
from cytoforge.training.tasks.staged import finished

SHORT = 10  # frames of a dense movie, and of one before another background
THREE = (0, SHORT // 2, SHORT - 1)
SHOWN = 4
ALONE = ("SSIM", "PSNR", "LPIPS", "frames", "clips")  # scores of a movie against the real one
ALIKE = ("warping error", "flicker", "faithfulness")  # scores of a movie by itself


def study_movie(config: StudyMovie) -> Path:
    """Compare generators of movies trained on the same frames, on masks of a movie that they have not seen.

    Raises UserError as training, simulating, generating and scoring do.
    """
    parts = split_movies(config)
    study = Study.open("movie", config)
    real, test = copies(study, config, parts)
    runs: dict[tuple[str, int], Run] = {}
    records: dict[str, list[dict[str, Any]]] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        judge = judging_run(study, config, real, seed)
        for method in config.methods:
            run = runs[method, seed] = generator_run(study, config, method, real, seed)
            records.setdefault(method, []).append(_scored(study, config, f"{method}-{seed}", run, test, test, judge))
    title = f"{counted(config.seeds, 'seed')}, trained for {config.minutes:g} min each"
    report = Report("Movies: tGAN against vid2vid", title)
    _add_table(study, report, records)
    _add_strip(study, report, config, test)
    _add_lengths(study, report, config, runs, real, test)
    _add_densities(study, report, config, runs, real, test)
    _add_segmentation(study, report, config, real, test)
    if "tgan" in config.methods:
        _add_backgrounds(study, report, config, runs["tgan", config.seed], test)
    return study.finish(report)


def copies(study: Study, config: StudyMovies, parts: tuple[Part, Part]) -> tuple[Path, Path]:
    """Copy what is trained on and what is tested on into the study, resized."""
    train_part, test_part = parts
    return (
        copy_movie(train_part, study.place("data", "train"), config.scale),
        copy_movie(test_part, study.place("data", "test"), config.scale),
    )


def settings_of(config: StudyMovies, data: Path, seed: int) -> TrainSegmentation:
    """Return what all trainings have in common; the frames are resized already."""
    return replace(base_settings(config, data, seed), scale=1.0)


def generator_run(study: Study, config: StudyMovies, method: Literal["tgan", "vid2vid"], data: Path, seed: int) -> Run:
    """Train a movie generator on a movie folder, once."""
    say([f"{study.kind}: {method} on {data.name}, seed {seed}"])
    shared = settings_of(config, data, seed)
    told, out = config.condition if method == "tgan" else None, study.place("runs", f"{method}-{data.name}-{seed}")
    settings = alike(TrainMovie, shared, condition=told, augmentation="flip", method=method, out=out)
    return trained(settings, train_movie)


def judging_run(study: Study, config: StudyMovies, data: Path, seed: int) -> Run:
    """Train a segmenter on the same frames, once: what it finds in a painted one tells how faithful that is."""
    say([f"{study.kind}: the segmenter that judges, seed {seed}"])
    out = study.place("runs", f"judge-{seed}")
    return trained(replace(settings_of(config, data, seed), out=out), train_segmentation)


def painted(
    study: Study, config: StudyMovies, name: str, run: Run, masks: Path, background: Path | None = None
) -> Path:
    """Paint all sequences of a movie of masks, once; returns the movie folder."""
    out = study.place("work", name)
    if not finished(out):
        generate_movie(
            GenerateMovie(run.path, masks, out, background=background, device=config.device, threads=config.threads)
        )
    return out


def _scored(
    study: Study, config: StudyMovie, name: str, run: Run, masks: Path, test: Path, judge: Run | None
) -> dict[str, Any]:
    """Paint a movie and score it against the real one, once."""

    def measure() -> dict[str, Any]:
        out = painted(study, config, name, run, masks)
        return movie_scores(
            score_movie(
                ScoreMovie(
                    out,
                    test,
                    segmenter=judge.path if judge else None,
                    weights_dir=config.weights_dir,
                    device=config.device,
                    threads=config.threads,
                )
            )
        )

    return study.once(name, measure)


def movie_scores(results: MovieResults) -> dict[str, Any]:
    """Return what `score movie` found by name, None where undefined; those of the real movie under `real`."""
    found: dict[str, Any] = {"notes": list(results.notes), "real": {}}
    for scores, pairs in ((found, results.pairs), (found["real"], results.neighbours)):
        if pairs is not None:
            scores |= {"SSIM": pairs.ssim.value, "PSNR": pairs.psnr.value}
            scores |= {"LPIPS": pairs.lpips.value, "lpips_network": pairs.lpips_network} if pairs.lpips else {}
    for kind in ("frames", "clips"):
        distance = getattr(results, kind)
        if distance is not None:
            found |= {kind: distance.distance, f"{kind}_network": distance.network}
            found["real"][kind] = distance.halves
    for scores, side in ((found, results.generated), (found["real"], results.real)):
        scores |= {"warping error": side.coherence.warping_error, "flicker": side.coherence.flicker}
        scores["drift"] = {str(length): [drift.grey, drift.texture] for length, drift in side.drift.items()}
        scores["faithfulness"] = side.faithfulness.mean if side.faithfulness else None
    return _plain(found)


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    """Turn estimates into their values and nan into None."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return _plain(value)
        if isinstance(value, list):
            return [plain(one) for one in value]
        value = getattr(value, "value", value)
        return None if isinstance(value, float) and np.isnan(value) else value

    return {name: plain(value) for name, value in scores.items()}


def _add_table(study: Study, report: Report, records: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Add Table 1: a row per method, and one of the real movie, by which the others are to be read."""
    every = [record for found in records.values() for record in found]
    groups = {**records, "real movie": [record["real"] for record in every[:1]]}
    columns = [name for name in (*ALONE, *ALIKE) if any(record.get(name) is not None for record in every)]
    rows = []
    for title, found in groups.items():
        row = {"movie": title, **{column: over_seeds(found, column) for column in columns}}
        study.row(**row)
        rows.append([shown(cell) for cell in row.values()])
    names = {record[key] for record in every for key in record if key.endswith("_network") and record[key]}
    caption = (
        "Means over seeds; intervals resample seeds only. "
        + (f"Networks: {', '.join(sorted(names))}. " if names else "")
        + "Of the real movie: each frame against the next, and its earlier against its later half; read "
        "coherence beside its values."
    )
    report.table(["movie", *columns], rows, caption=caption)


def _add_strip(study: Study, report: Report, config: StudyMovie, test: Path) -> None:
    """Add a picture: masks, the real movie, and what each method painted, over time."""
    works = [study.place("work", f"{method}-{config.seed}") for method in config.methods]
    sequence = read_sequences(test)[0]
    places = [round(place) for place in np.linspace(0, len(sequence.frames) - 1, SHOWN)]
    masks = [colour_labels(middle(sequence.read_tracked(place))) for place in places]
    grid = [masks, *(_film(work, sequence.name, places) for work in (test, *works))]
    titles = ["masks", "real", *config.methods]
    report.image_grid(grid, [f"frame {place}" for place in places], titles, "Frames that no generator has seen.")
    study.picture("movie", grid)


def _add_lengths(
    study: Study,
    report: Report,
    config: StudyMovie,
    runs: Mapping[tuple[str, int], Run],
    real: Path,
    test: Path,
) -> None:
    """Add Figure 4: how far painted frames drift from real ones, by length of the movie."""
    masks = _simulated(study, config, "long", real, frames=config.frames)
    drifts: dict[str, list[dict[str, Any]]] = {}
    for (method, seed), run in runs.items():
        record = _scored(study, config, f"long-{method}-{seed}", run, masks, test, None)
        drifts.setdefault(method, []).append(record["drift"])
    if record["real"]["drift"]:  # the same for all; a short movie reaches no length
        drifts["real movie"] = [record["real"]["drift"]]
    rows = []
    for title, found in drifts.items():
        for length in sorted({int(length) for drift in found for length in drift}):
            values = [drift[str(length)] for drift in found if str(length) in drift]
            kinds = {"drift of grey": 0, "drift of texture": 1}
            row = {name: mean_over_seeds([value[place] for value in values]) for name, place in kinds.items()}
            study.row(movie=title, frames=length, **row)
            rows.append([title, str(length), *(shown(cell) for cell in row.values())])
    caption = "Distance of the last frames before a length from the mean of the real ones, on masks of simulated cells."
    report.table(["movie", "frames", "drift of grey", "drift of texture"], rows, caption=caption)
    report.figure(_length_figure(drifts), caption)


def _length_figure(drifts: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for place, (axes, title) in enumerate(zip(figure.subplots(1, 2), ("grey", "texture"), strict=True)):
        for name, found in drifts.items():
            lengths = sorted({int(length) for drift in found for length in drift})
            means = [mean_over_seeds([d[str(n)][place] for d in found if str(n) in d]) for n in lengths]
            axes.plot(lengths, [mean.value if mean else np.nan for mean in means], marker="o", label=name)
        axes.set(xlabel="frames", ylabel=f"drift of {title}", xscale="log")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def _add_densities(
    study: Study,
    report: Report,
    config: StudyMovie,
    runs: Mapping[tuple[str, int], Run],
    real: Path,
    test: Path,
) -> None:
    """Add Figure 5: movies denser than any seen, of single cells and of colonies, by the first method."""
    method, rows = config.methods[0], []
    for layout in LAYOUTS:
        films = []
        for density in config.densities:
            name = f"{layout}-{density:g}"
            masks = _simulated(study, config, name, real, frames=SHORT, layout=layout, density=density)
            found = []
            for (other, seed), run in runs.items():
                if other == method:
                    judge = Run.open(study.place("runs", f"judge-{seed}"))
                    found.append(_scored(study, config, f"{name}-{method}-{seed}", run, masks, test, judge))
            row = {column: over_seeds(found, column) for column in ("warping error", "flicker", "faithfulness")}
            study.row(movie=method, layout=layout, **{"share of cell": density}, **row)
            rows.append([layout, f"{density:g}", *(shown(cell) for cell in row.values())])
            work = study.place("work", f"{name}-{method}-{config.seed}")
            films.append(_film(work, "01", THREE))
        pictures = [[film[place] for film in films] for place in range(3)]
        titles = [f"{density:.0%} cell" for density in config.densities]
        names = [f"frame {place}" for place in THREE]
        report.image_grid(pictures, titles, names, f"Simulated movies, {layout}, painted by {method}.")
        study.picture(f"dense-{layout}", pictures)
    header = ["layout", "share of cell", "warping error", "flicker", "faithfulness"]
    report.table(header, rows, caption=f"Movies of {SHORT} frames, painted by {method}.")


def _add_segmentation(study: Study, report: Report, config: StudyMovie, real: Path, test: Path) -> None:
    """Add what movies of simulated cells, painted by the first method, are worth to a segmenter of real frames."""
    records: dict[str, list[dict[str, Any]]] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        films = study.place("work", f"long-{config.methods[0]}-{seed}")
        settings = settings_of(config, real, seed)
        arms = {  # the one that judges has learned from the real frames
            "real": measure(study, f"judge-{seed}", settings, test),
            "painted": measure(study, f"segmenter-painted-{seed}", replace(settings, data=films), test),
            "both": measure(study, f"segmenter-both-{seed}", replace(settings, synthetic=films), test),
        }
        for arm, record in arms.items():
            records.setdefault(arm, []).append(record)
    rows = []
    for arm, found in records.items():
        row: dict[str, Any] = {"segmenter trained on": arm}
        for title, threshold in (("F at IoU 0.5", 0), ("F at IoU 0.7", 2)):
            row[title] = mean_over_seeds([_mean_score(scores) for scores in values(found, "f_score", threshold)])
        study.row(**row)
        rows.append([shown(cell) for cell in row.values()])
    caption = (
        f"Segmenters trained for {config.minutes:g} min each on the real frames, on a movie of simulated cells that "
        f"{config.methods[0]} painted, or on both, and tested on real frames. The painter has seen the real ones, too."
    )
    report.table(list(study.rows[-1]), rows, caption=caption)


def _mean_score(scores: Mapping[str, float | None]) -> float | None:
    """Return the mean over the frames in which a score is defined."""
    known = [score for score in scores.values() if score is not None]
    return sum(known) / len(known) if known else None


def _add_backgrounds(study: Study, report: Report, config: StudyMovie, run: Run, test: Path) -> None:
    """Add Figure 3: the same masks before other backgrounds, and how still these are behind the cells; of tGAN."""
    part = Part(test, [read_sequences(test)[0].name], _first(test, SHORT))
    masks = copy_movie(part, study.place("data", "short"))
    given = [(path.stem, path) for path in config.backgrounds] or [("its own, mirrored", _mirrored(study, run))]
    grid, titles, rows = [], [], []
    for number, (title, file) in enumerate([("its own", None), *given]):
        work = painted(study, config, f"background-{number}", run, masks, file)
        (sequence,) = read_sequences(work)
        grid.append(_film(work, sequence.name, THREE))
        titles.append(title)
        ground = ~np.any([labels > 0 for _, labels in sequence.tracked()], axis=0)
        frames = np.stack(list(_frames(work, sequence.name)))
        deviation = float(frames.std(axis=0)[:, ground].mean()) if ground.any() else None
        study.row(movie="tgan", background=title, **{"deviation over time": deviation})
        rows.append([title, "-" if deviation is None else f"{deviation:.4f}"])
    report.image_grid(grid, [f"frame {n}" for n in THREE], titles, "One movie of masks, painted by tgan.")
    study.picture("backgrounds", grid)
    caption = "Deviation of a pixel over time, where no cell ever is; grey values from -1 to 1."
    report.table(["background", "deviation over time"], rows, caption=caption)


def _first(path: Path, frames: int) -> tuple[float, float]:
    total = len(read_sequences(path)[0].frames)
    return 0.0, min(frames, total) / total


def _mirrored(study: Study, run: Run) -> Path:
    """Write the run's first background, left and right exchanged, as an image."""
    file = study.out / "work" / "mirrored.tif"
    if not file.exists():
        bank = run.load_weights(BACKGROUNDS)
        background = bank[sorted(bank)[0]].numpy()[..., ::-1]
        limits = np.asarray(next(iter(run.settings.limits.values())))  # (C, 2)
        low, high = limits.T[..., None, None]
        image = ((background + 1) / 2 * (high - low) + low).astype(np.float32)
        study.folder.write("work/mirrored.tif", encode_image(file, image))
    return file


def _simulated(study: Study, config: StudyMovie, name: str, real: Path, **how: Any) -> Path:
    out = study.place("data", name)
    if not finished(out):
        simulate_movie(SimulateMovie(out, real, seed=config.seed, **how))
    return out


def _frames(path: Path, sequence: str, places: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Read all or some frames of a sequence (C, H, W), all between the same limits of grey values."""
    data = Dataset.open(path, (sequence,))
    limits, last = data.common_limits() if data.limits is None else None, len(data.items) - 1
    wanted = range(last + 1) if places is None else [min(place, last) for place in places]
    return (data.read_image(data.items[place], limits=limits) for place in wanted)


def _film(path: Path, sequence: str, places: Sequence[int]) -> list[np.ndarray]:
    """Return some frames as pictures (H, W, 3) of their middle; the last one where there are fewer."""
    return [to_rgb(middle(frame)) for frame in _frames(path, sequence, places)]
