"""Tables, figures and pictures of the study `movie` (tGAN, Table 1 and Figures 3 to 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cytoforge.data.movie import read_sequences
from cytoforge.progress import counted
from cytoforge.report import Pixels, Report, colour_labels, to_rgb
from cytoforge.studies.frames import read_frames
from cytoforge.studies.measurements import MeasuredMovies, SegmenterScores, SideScores
from cytoforge.studies.present.presentation import Cell, Presentation, middle, over_seeds, written
from cytoforge.studies.present.segmenters import by_image
from cytoforge.studies.specification import CONVERGED, SHORT_MOVIE

PICTURED_FRAMES = 4  # number of frames shown of the test movie
SHORT_FRAMES = (0, SHORT_MOVIE // 2, SHORT_MOVIE - 1)  # indices of the frames shown of a short movie
AGAINST_REAL = {"SSIM": "ssim", "PSNR": "psnr", "LPIPS": "lpips", "frames": "frames", "clips": "clips"}  # title: score
OF_ITSELF = {"warping error": "warping_error", "flicker": "flicker", "faithfulness": "faithfulness"}
Drift = Mapping[str, Sequence[float | None]]
"""Drift of grey values and of textures, by number of frames."""


def present_movies(measured: MeasuredMovies) -> Presentation:
    """Show movies of several methods beside the real one, and how they depend on length, density and background."""
    told = f"{counted(len(measured.study.seeds), 'seed')}, trained for {measured.study.budget.told} each"
    presentation = Presentation(Report("Movies: tGAN against vid2vid", told))
    _add_scores(presentation, measured)
    _add_strip(presentation, measured)
    _add_clip_lengths(presentation, measured)
    _add_lengths(presentation, measured)
    _add_densities(presentation, measured)
    _add_segmenters(presentation, measured)
    if measured.backgrounds:
        _add_backgrounds(presentation, measured)
    return presentation


def _add_scores(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add Table 1: a row per method, and one of the real movie to compare with."""
    every = [scores for found in measured.scores.values() for scores in found]
    groups: dict[str, Sequence[SideScores]] = {**measured.scores, "real movie": [scores.real for scores in every[:1]]}
    columns = {
        title: score
        for title, score in {**AGAINST_REAL, **OF_ITSELF}.items()
        if any(getattr(one, score) is not None for one in every)
    }
    rows: list[dict[str, Cell]] = [
        {
            "movie": name,
            **{kind: _spent(found, kind) for kind in ("steps", "seconds")},
            **{title: over_seeds(getattr(one, score) for one in found) for title, score in columns.items()},
        }
        for name, found in groups.items()
    ]
    networks = {name for one in every for name in (one.lpips_network, one.frames_network, one.clips_network) if name}
    presentation.table(
        rows,
        f"{_told(measured)}Means over seeds; intervals resample seeds only. "
        + (f"Networks: {', '.join(sorted(networks))}. " if networks else "")
        + "Of the real movie: each frame against the next, and its earlier against its later half; read "
        "coherence beside its values.",
    )


def _told(measured: MeasuredMovies) -> str:
    """Say how long generators were trained."""
    told, study = f"Trained for {measured.study.budget.told} each. ", measured.study
    if study.max_steps is not None:
        told += (
            f"Those called {CONVERGED}: until validation had not risen for {study.max_steps // 4} steps, or for "
            f"{counted(study.max_steps, 'step')}, after which it may still rise; kept is what validation found best. "
        )
    if study.stage == "both":
        told += (
            "Super-resolution: both stages of tgan in that time, the first at half of the size; interpolated: the "
            "first one's frames enlarged linearly. "
        )
    return told


def _spent(found: Sequence[SideScores], kind: str) -> Cell:
    """Return the steps or seconds of a training, whole mean over seeds; None for the real movie."""
    known = [value for one in found if (value := getattr(one, kind, None)) is not None]
    return round(sum(known) / len(known)) if known else None


def _add_strip(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add a picture: masks, the real movie, and what each method painted, over time."""
    sequence = read_sequences(measured.test)[0]
    places = [round(place) for place in np.linspace(0, len(sequence.frames) - 1, PICTURED_FRAMES)]
    masks = [colour_labels(middle(sequence.read_tracked(place))) for place in places]
    movies = (measured.test, *measured.painted.values())
    grid = [masks, *(_film(path, sequence.name, places) for path in movies)]
    titles = ["masks", "real", *measured.painted]
    columns = [f"frame {place}" for place in places]
    presentation.report.image_grid(grid, columns, titles, "Frames that no generator has seen.")
    presentation.picture("movie", grid)


def _add_clip_lengths(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add Figure 4: the Frechet distance of clips on the test's masks, by their length, above that of real halves."""
    movies: dict[str, Sequence[Mapping[str, float | None]]] = {
        name: [one.by_length for one in found] for name, found in measured.scores.items()
    }
    movies["real halves"] = [one.real.by_length for found in measured.scores.values() for one in found][:1]
    curves = {name: _by_length(found) for name, found in movies.items()}
    rows: list[dict[str, Cell]] = [
        {"movie": name, "frames of a clip": length, "distance of clips": distance}
        for name, curve in curves.items()
        for length, distance in curve.items()
    ]
    if not rows:  # the test movie holds no two clips
        return
    caption = (
        "Frechet distance of clips by their number of frames; real halves: the earlier half of the test movie against "
        "the later one, which is what time alone makes. Longer clips are fewer, which makes all distances larger."
    )
    presentation.table(rows, caption)
    presentation.report.figure(clip_figure(curves), caption)


def _by_length(found: Sequence[Mapping[str, float | None]]) -> dict[int, Cell]:
    lengths = sorted({int(length) for one in found for length in one})
    return {length: over_seeds(one.get(str(length)) for one in found) for length in lengths}


def clip_figure(curves: Mapping[str, Mapping[int, Cell]]) -> Figure:
    """Draw the distance of clips by their number of frames, of several movies."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), [getattr(cell, "value", np.nan) for cell in curve.values()], marker="o", label=name)
    axes.set(xlabel="frames of a clip", ylabel="Frechet distance", xscale="log", yscale="log")
    axes.set_xticks(sorted({length for curve in curves.values() for length in curve}), minor=False)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def _add_lengths(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add how far painted frames drift from real ones, by length of the movie."""
    drifts: dict[str, list[Drift]] = {method: [one.drift for one in found] for method, found in measured.long.items()}
    (real, *_) = (one.real.drift for found in measured.long.values() for one in found)
    if real:  # The lengths are the same for all movies; a short movie reaches none.
        drifts["real movie"] = [real]
    rows: list[dict[str, Cell]] = [
        {
            "movie": name,
            "frames": length,
            **{f"drift of {kind}": _mean_drift(found, length, place) for place, kind in enumerate(("grey", "texture"))},
        }
        for name, found in drifts.items()
        for length in _lengths(found)
    ]
    caption = "Distance of the last frames before a length from the mean of the real ones, on masks of simulated cells."
    if rows:
        presentation.table(rows, caption)
    presentation.report.figure(drift_figure(drifts), caption)


def _lengths(drifts: Sequence[Drift]) -> list[int]:
    return sorted({int(length) for drift in drifts for length in drift})


def _mean_drift(drifts: Sequence[Drift], length: int, place: int) -> Cell:
    return over_seeds(drift[str(length)][place] for drift in drifts if str(length) in drift)


def drift_figure(drifts: Mapping[str, Sequence[Drift]]) -> Figure:
    """Draw the drift of grey values and of textures by length, of several movies."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for place, (axes, title) in enumerate(zip(figure.subplots(1, 2), ("grey", "texture"), strict=True)):
        for name, found in drifts.items():
            lengths = _lengths(found)
            means = [_mean_drift(found, length, place) for length in lengths]
            axes.plot(lengths, [getattr(mean, "value", np.nan) for mean in means], marker="o", label=name)
        axes.set(xlabel="frames", ylabel=f"drift of {title}", xscale="log")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def _add_densities(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add Figure 5: movies denser than those trained on, of single cells and of colonies, by the first method."""
    method, report, rows = measured.study.methods[0], presentation.report, []
    for layout in dict.fromkeys(layout for layout, _ in measured.dense):
        films = []
        for density in measured.study.densities:
            dense = measured.dense[layout, density]
            means = {
                title: over_seeds(getattr(one, score) for one in dense.scores) for title, score in OF_ITSELF.items()
            }
            presentation.row(movie=method, layout=layout, **{"share of cell": density}, **means)
            rows.append([layout, f"{density:g}", *map(written, means.values())])
            films.append(_film(dense.painted, "01", SHORT_FRAMES))
        pictures = [[film[place] for film in films] for place in range(len(SHORT_FRAMES))]
        titles = [f"{density:.0%} cell" for density in measured.study.densities]
        names = [f"frame {place}" for place in SHORT_FRAMES]
        report.image_grid(pictures, titles, names, f"Simulated movies, {layout}, painted by {method}.")
        presentation.picture(f"dense-{layout}", pictures)
    header = ["layout", "share of cell", *OF_ITSELF]
    report.table(header, rows, caption=f"Movies of {SHORT_MOVIE} frames, painted by {method}.")


def _add_segmenters(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add scores on real frames of segmenters trained with movies of simulated cells, painted by the first method."""
    rows: list[dict[str, Cell]] = [
        {"segmenter trained on": arm, "F at IoU 0.5": _mean_f(found, 0), "F at IoU 0.7": _mean_f(found, 2)}
        for arm, found in measured.segmenters.items()
    ]
    presentation.table(
        rows,
        f"Segmenters trained for {measured.study.budget.told} each on the real frames, on a movie of simulated cells "
        f"that {measured.study.methods[0]} painted, or on both, and tested on real frames. The painter has seen the "
        "real ones, too.",
    )


def _mean_f(found: Sequence[SegmenterScores], threshold: int) -> Cell:
    """Return the mean over seeds of the mean over the frames in which F is defined."""
    means = []
    for scores in by_image(found, "f_score", threshold):
        known = [score for score in scores.values() if score is not None]
        means.append(sum(known) / len(known) if known else None)
    return over_seeds(means)


def _add_backgrounds(presentation: Presentation, measured: MeasuredMovies) -> None:
    """Add Figure 3: tGAN's paintings of the same masks on other backgrounds, and how much these vary over time."""
    grid, rows = [], []
    for shown in measured.backgrounds:
        (sequence,) = read_sequences(shown.painted)
        grid.append(_film(shown.painted, sequence.name, SHORT_FRAMES))
        presentation.row(movie="tgan", background=shown.title, **{"deviation over time": shown.deviation})
        rows.append([shown.title, "-" if shown.deviation is None else f"{shown.deviation:.4f}"])
    columns, titles = [f"frame {place}" for place in SHORT_FRAMES], [shown.title for shown in measured.backgrounds]
    presentation.report.image_grid(grid, columns, titles, "One movie of masks, painted by tgan.")
    presentation.picture("backgrounds", grid)
    caption = "Deviation of a pixel over time, where no cell ever is; grey values from -1 to 1."
    presentation.report.table(["background", "deviation over time"], rows, caption=caption)


def _film(path: Path, sequence: str, places: Sequence[int]) -> list[Pixels]:
    """Return some frames as pictures (H, W, 3) of their middle; the last one where there are fewer."""
    return [to_rgb(middle(frame)) for frame in read_frames(path, sequence, places)]
