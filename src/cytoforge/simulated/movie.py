"""Simulate movies of cells that move, grow and divide like the user's own, and compare the two."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import dense
from cytoforge.data import movie
from cytoforge.data.credits import credits_of, stored
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest
from cytoforge.data.images import resize_labels, scaled_shape
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.data.tracks import check_sizes
from cytoforge.data.writer import check_target
from cytoforge.engine import ALONE, Announce, Engine, Seat
from cytoforge.errors import UserError
from cytoforge.metrics import morphology, motion
from cytoforge.metrics.morphology import FITTING_DIAMETER, Morphology
from cytoforge.metrics.motion import Motion
from cytoforge.progress import Progress, counted
from cytoforge.report import PAGE, Pixels, Report, label_colours
from cytoforge.simulated.masks import (
    STATISTICS,
    Model,
    comparison_figure,
    comparison_table,
    keep_apart,
    settings_of,
    verdict,
)
from cytoforge.simulated.specification import MovieSimulation
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.lineage import simulate_lineage
from cytoforge.simulation.masks import MODEL_DIAMETER, Shape, lacks, parametric_shapes, shapes_of

BY = "cytoforge simulate movie"
FORMAT = 1  # of statistics.json
SIZE, FRAMES, DENSITY, TOUCHING = (256, 256), 50, 0.2, 0.5  # without data
FEWEST = 10  # shapes of a sequence; with fewer, those of all sequences are used
SAMPLED = 12  # frames of a sequence that shapes are taken of, as a cell changes little from one to the next
OPENING = 5  # first frames of a sequence, whose coverage is that of the simulated first one
REACHED = 0.85  # share of the density asked for that the first frame has, unless there was no room
REPORTED_SEQUENCES, MOMENTS, WINDOW = 3, 4, 384  # sequences in the report, frames of each, longest side shown
FILM = 512  # longest side of a film in pixels
TITLES = {
    "speed": "speed (px a frame)",
    "turning": "turning angle (rad)",
    "growth": "growth of ln(area) a frame",
    "deformation": "deformation a frame",
    "sister_distance": "distance of new sisters (px)",
    "area": "area of a cell (px)",
    "eccentricity": "eccentricity of a cell",
    "neighbour_distance": "distance to the nearest cell (px)",
    "count": "cells a frame",
    "coverage": "coverage of a frame",
    "touching": "share of cells that touch",
}
PER_STEP = {"speed", "turning", "growth", "deformation", *morphology.PER_CELL}
RATES = {"division_rate": "divisions by cell and frame", "death_rate": "deaths by cell and frame"}


@dataclass(frozen=True)
class Measures:
    """Motion and morphology measured in one sequence."""

    motion: Motion
    frames: tuple[Morphology, ...]


@dataclass(frozen=True)
class MovieModel(Model):
    """Properties that one simulated sequence reproduces; all but `frames` describe a single frame."""

    frames: int
    inset: int = 0
    """width in pixels of a band along the edge; cells that lie wholly in it have no label"""


class Filmed:
    """The movie of --like: shapes of its cells at full resolution, measures at --scale, and how its cells behave."""

    def __init__(self, path: Path, names: tuple[str, ...], scale: float) -> None:
        """Raises UserError when it is no movie, no sequence has tracks, or no cell lies whole in its frame."""
        if not movie.is_movie(path):
            raise movie.no_movie(path, "01/t000.tif, 01_GT/TRA/man_track.txt ...", "simulate masks has none")
        self.path, self.scale = path, scale
        sequences = movie.read_sequences(path, names)
        self.sequences = [sequence for sequence in sequences if sequence.track_source]
        self.notes = movie.left_out(path, names)
        self.notes += [f"sequence {one.name}: has no tracks, left out" for one in sequences if not one.track_source]
        if not self.sequences:
            raise UserError(
                f"{path}: has no man_track.txt or res_track.txt to learn motion from; track its cells first"
            )
        for one in self.sequences:
            one.check_labels()
        self.tracks = [movie.read_tracks(one.tracks[one.track_source or ""]) for one in self.sequences]
        self.shapes: list[tuple[Shape, ...]] = []
        self.sizes: list[tuple[int, int]] = []
        self.reach: list[float] = []
        """for each sequence, the least distance in pixels that any cell reaches into the frame"""
        self.measures: list[Measures] = []
        progress = Progress("measure")
        for number, (sequence, tracks) in enumerate(zip(self.sequences, self.tracks, strict=True)):
            self.shapes.append(())
            self.sizes.append((0, 0))
            self.reach.append(np.inf)
            self.measures.append(measure(self._watch(number, sequence), tracks))
            progress((number + 1) / len(self.sequences), sequence.name)
        if not any(self.shapes):
            raise UserError(f"{path}: no cell lies whole in its frame; give another movie")
        motions = [one.motion for one in self.measures]
        self.dynamics = Dynamics.like(motions)
        self.notes += [
            f"sequence {one.name}: lacks {movie.some('frame', lost)}; motion across the gap does not count"
            for one in self.sequences
            if (lost := movie.gaps(one.tracked_frames()))
        ]
        if not any(motion.speed.size for motion in motions):
            self.notes.append("no cell is there in two frames in a row; speed and growth are those of the model")

    def _watch(self, number: int, sequence: movie.Sequence) -> Iterator[tuple[int, NDArray[Any]]]:
        """Go through the frames at scale, and keep the shapes of some."""
        every = max(1, len(sequence.tracked_frames()) // SAMPLED)
        check_sizes(sequence)
        for index, (frame, labels) in enumerate(sequence.tracked()):
            if index % every == 0:
                self.shapes[number] += shapes_of(labels)
            self.sizes[number] = scaled_shape(labels.shape, self.scale)
            resized = resize_labels(labels, self.sizes[number])
            self.reach[number] = min(self.reach[number], least_reach(resized))
            yield frame, resized

    def model(self, generator: np.random.Generator) -> MovieModel:
        """Draw a sequence that has cells as a model."""
        usable = [number for number, one in enumerate(self.measures) if any(frame.count for frame in one.frames)]
        number = usable[int(generator.integers(len(usable)))]
        shapes = self.shapes[number]
        if len(shapes) < FEWEST:
            shapes = tuple(shape for some in self.shapes for shape in some)
        frames = self.measures[number].frames
        populated = [frame.coverage for frame in frames if frame.count]
        touching = morphology.pooled(frames, "touching")
        diameter = morphology.typical_diameter(morphology.pooled(frames, "area"))
        most = min(diameter, min(self.sizes[number]) / 4)  # few cells may lie far from the edge by chance
        return MovieModel(
            name=self.sequences[number].name,
            shapes=shapes,
            magnification=self.scale,
            size=self.sizes[number],
            frames=len(frames),
            density=float(np.median(populated[:OPENING])),
            touching=float(np.median(touching)),
            inset=int(min(self.reach[number] - 1, most)),
        )

    def source(self) -> dict[str, Any]:
        """Return the record of the movie for dataset.json: path, frames, hashes of its masks and track files."""
        masks = Dataset.open(self.path, tuple(one.name for one in self.sequences), holds="masks").masks()
        alone = replace(masks, items=tuple(replace(item, image=None) for item in masks.items))
        files = {one.name: digest(one.tracks[one.track_source or ""]) for one in self.sequences}
        return {**alone.fingerprint(), "tracks": files}


def least_reach(labels: NDArray[Any]) -> float:
    """Return the least distance in pixels that any cell of labels (H, W) reaches into the frame; 1 at its edge.

    Without cells it is infinite.

    Many movies are annotated in a field of interest only: the Cell Tracking Challenge leaves cells out that lie wholly
    within some 25 or 50 pixels of the edge.
    """
    rows, columns = (np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) for side in labels.shape)
    ids, numbers = dense(labels)
    reach = np.zeros(ids.size, np.intp)
    np.maximum.at(reach, numbers, np.minimum(rows[:, None], columns))
    return float(reach[1:].min()) if ids.size > 1 else np.inf


def measure(frames: Iterator[tuple[int, NDArray[Any]]], tracks: Sequence[movie.Track]) -> Measures:
    """Measure motion and morphology in one pass over the frames (number, labels)."""
    shapes: list[Morphology] = []

    def watched() -> Iterator[tuple[int, NDArray[Any]]]:
        for number, labels in frames:
            shapes.append(morphology.morphology(labels))
            yield number, labels

    return Measures(motion.motion(watched(), tracks), tuple(shapes))


def simulate_movie(wanted: MovieSimulation, engine: Engine = ALONE) -> list[str]:
    """Write OUT/NN_GT, OUT/dataset.json, OUT/statistics.json, OUT/report.html and films; return summary lines.

    An interrupted run is continued by whole sequences. `engine` says which part of the sequences is made, and where;
    the last part writes statistics and report. Raises UserError when --like is no movie with tracks, or OUT lies in
    --like or holds anything that an unfinished run of the same command has not written.
    """
    keep_apart(wanted)
    check_target(wanted.out, BY, overwrite=wanted.overwrite)  # before much is read
    data = Filmed(wanted.like, wanted.sequence, wanted.scale) if wanted.like else None
    dynamics = data.dynamics if data else Dynamics()
    if wanted.division_rate is not None:
        dynamics = replace(dynamics, division_rate=wanted.division_rate)
    info = {"by": BY, "version": version("cytoforge"), "settings": settings_of(wanted)}
    content = {"synthetic": {**info, "source": data.source() if data else None}, "scale": wanted.scale}
    content |= stored(credits_of(wanted.like) if wanted.like else [])
    names = [sequence_name(index) for index in range(wanted.count)]
    notes = list(data.notes) if data else []
    with at_work(wanted.out, engine.part):
        with in_turn(wanted.out):
            writer = movie.MovieWriter(
                wanted.out,
                content,
                overwrite=wanted.overwrite,
                sources=[(name, source) for name in names for source in ("GT/SEG", "GT/TRA")],
                beside=(*(f"{name}.gif" for name in names), STATISTICS, PAGE),
            )
        work = Simulate(wanted, data, dynamics, writer)
        every = dict(engine.run(work, engine.share(range(wanted.count)), "simulate", sequence_name))
        with in_turn(wanted.out):
            missing = writer.awaited(names)
            if missing:
                made = counted(wanted.count - missing, "sequence")
                return [f"{wanted.out}: {made}; {missing} of other parts still to come"]
            others = [index for index in range(wanted.count) if index not in every]
            every |= engine.run(work, others, "measure", sequence_name)
            sequences: dict[str, dict[str, Any]] = {}
            for index, name in enumerate(names):
                sequences[name] = every[index].facts
                density, count, coverage = (sequences[name][key] for key in ("density", "cells", "coverage"))
                if lacks(REACHED * density, count, coverage):
                    reached = f"{count} cells, coverage {coverage:.3f}"
                    notes.append(f"{name}: its first frame has only {reached}; asked for was {density:.3g}")
            measures = [every[index].measures for index in range(wanted.count)]
            statistics = _statistics(wanted, dynamics, measures, data.measures if data else ())
            writer.folder.write_json(STATISTICS, statistics)
            _write_report(writer, wanted, data, dynamics, measures, sequences, notes)
            writer.finish({"sequences": sequences})
    tracks, divisions = (sum(one[key] for one in sequences.values()) for key in ("tracks", "divisions"))
    said = f"{counted(wanted.count, 'sequence')} with {counted(tracks, 'track')} and {counted(divisions, 'division')}"
    return [*notes, f"{wanted.out}: {said}"]


def sequence_name(index: int) -> str:
    """Return the name of a simulated sequence."""
    return f"{index + 1:02d}"


class Simulated(NamedTuple):
    """A sequence that was simulated: what dataset.json says of it, and its measures."""

    facts: dict[str, Any]
    measures: Measures


@dataclass(frozen=True)
class Simulate:
    """Simulates a sequence, unless it is there, measures it and writes its film."""

    wanted: MovieSimulation
    data: Filmed | None
    dynamics: Dynamics
    writer: movie.MovieWriter

    def start(self, seat: Seat) -> Callable[[int, Announce], Simulated]:
        """Return the function that makes and measures sequence number k, from 0."""
        writer = self.writer.seated(seat.writer)

        def simulate(index: int, announce: Announce) -> Simulated:
            name = sequence_name(index)
            model, generator = _plan(self.wanted, self.data, index)
            if not writer.has_tracks(name, "GT/TRA"):
                _write(writer, name, model, self.dynamics, self.wanted, generator)
            measures = _measured(writer.path, name)
            first, rows = measures.frames[0], movie.read_tracks(_read(writer.path, name).tracks["GT/TRA"])
            facts = {"seed": [self.wanted.seed, index], "model": model.name, "density": model.density}
            facts |= {"frames": len(measures.frames), "cells": first.count, "coverage": first.coverage}
            facts |= {"tracks": len(rows), "divisions": measures.motion.divisions}
            if not (writer.path / f"{name}.gif").exists():
                writer.folder.write(f"{name}.gif", _film(writer.path, name))
            writer.folder.note(name, facts)
            return Simulated(facts, measures)

        return simulate


def _plan(wanted: MovieSimulation, data: Filmed | None, index: int) -> tuple[MovieModel, np.random.Generator]:
    """Return the model of sequence `index`, with what the command line sets, and its generator."""
    generator = np.random.default_rng([wanted.seed, index])
    if data:
        model = data.model(generator)
    else:
        magnification = (wanted.diameter or FITTING_DIAMETER) / MODEL_DIAMETER
        model = MovieModel(None, parametric_shapes(generator), magnification, SIZE, DENSITY, TOUCHING, FRAMES)
    height, width = map(int, wanted.size.split("x")) if wanted.size else model.size
    density, frames = wanted.density or model.density, wanted.frames or model.frames
    return replace(model, size=(height, width), density=density, frames=frames), generator


def _write(
    writer: movie.MovieWriter,
    name: str,
    model: MovieModel,
    dynamics: Dynamics,
    wanted: MovieSimulation,
    generator: np.random.Generator,
) -> None:
    lineage = simulate_lineage(
        model.shapes,
        model.size,
        model.frames,
        generator,
        density=model.density,
        dynamics=dynamics,
        layout=wanted.layout,
        magnification=wanted.magnification * model.magnification,
        touching=model.touching,
        inset=min(model.inset, (min(model.size) - 1) // 4),
    )
    mark = {"synthetic": True, "by": "cytoforge simulate movie"}
    for frame, labels in enumerate(lineage.labels):
        for source in ("GT/SEG", "GT/TRA"):
            writer.add_masks(name, source, frame, labels, mark)
    writer.add_tracks(name, "GT/TRA", [movie.Track(*row) for row in lineage.tracks])


def _read(path: Path, name: str) -> movie.Sequence:
    return movie.read_sequences(path, (name,))[0]


def _measured(out: Path, name: str) -> Measures:
    sequence = _read(out, name)
    return measure(sequence.tracked(), movie.read_tracks(sequence.tracks["GT/TRA"]))


def _film(out: Path, name: str) -> bytes:
    """Return the sequence NAME of OUT as a GIF film; tracks have 255 colours in turn."""
    frames = []
    for _, labels in _read(out, name).tracked():
        every = -(-max(labels.shape) // FILM)
        frames.append(_colours(labels[::every, ::every]))
    return movie.encode_gif(frames, label_colours(255))


def _values(measures: Sequence[Measures]) -> dict[str, NDArray[np.float64]]:
    frames = [frame for one in measures for frame in one.frames]
    values = {name: motion.pooled([one.motion for one in measures], name) for name in motion.STATISTICS}
    return values | {name: morphology.pooled(frames, name) for name in TITLES if name not in values}


def _summary(measures: Sequence[Measures]) -> dict[str, dict[str, float | int | None]]:
    frames = [frame for one in measures for frame in one.frames]
    return motion.motion_summary([one.motion for one in measures]) | morphology.summary(frames)


def _distances(simulated: Sequence[Measures], real: Sequence[Measures]) -> dict[str, float | None]:
    one, other = _values(simulated), _values(real)
    return {name: morphology.kolmogorov_smirnov(one[name], other[name]) for name in TITLES}


def _statistics(
    wanted: MovieSimulation, dynamics: Dynamics, simulated: Sequence[Measures], real: Sequence[Measures]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "command": "simulate movie",
        "version": version("cytoforge"),
        "settings": settings_of(wanted),
        "dynamics": asdict(dynamics),
        "simulated": _summary(simulated),
        "real": _summary(real) if real else None,
        "distance": _distances(simulated, real) if real else None,
    }


def _write_report(
    writer: movie.MovieWriter,
    wanted: MovieSimulation,
    data: Filmed | None,
    dynamics: Dynamics,
    simulated: Sequence[Measures],
    sequences: Mapping[str, dict[str, Any]],
    notes: Sequence[str],
) -> None:
    real = data.measures if data else []
    frames = sum(len(one.frames) for one in simulated)
    report = Report("Simulated movies", f"{counted(len(simulated), 'sequence')} of {frames} frames in all")
    apart = _distances(simulated, real) if real else None
    if apart:
        report.verdict(verdict(f"{counted(len(real), 'sequence')} of {wanted.like}, simulated ones", TITLES, apart))
    for note in notes:
        report.text(note)
    report.heading("Statistics")
    columns = [_summary(simulated), *([_summary(real)] if real else [])]
    header, rows = comparison_table(TITLES, columns[0], columns[1] if real else None, apart)
    rows += [
        [title, *(column[name]["value"] for column in columns), *([None] if real else [])]
        for name, title in RATES.items()
    ]
    report.table(header, rows, caption="Median [quartiles] over all cells, steps or frames, and rates.")
    figure = comparison_figure(TITLES, _values(simulated), _values(real), PER_STEP)
    report.figure(figure, "How often each value occurs; the area below each line is 1.")
    report.heading("Frames")
    grid, names = [], []
    for name, record in list(sequences.items())[:REPORTED_SEQUENCES]:
        grid.append(_moments(_read(wanted.out, name), 1.0))
        names.append(f"simulated {name}")
        if data:
            number = [one.name for one in data.sequences].index(record["model"])
            grid.append(_moments(data.sequences[number], wanted.scale))
            names.append(f"real {record['model']}, its model")
    columns_shown = ["first frame", *[""] * (MOMENTS - 2), "last frame"]
    report.image_grid(grid, columns_shown, names, f"A colour per track. Of frames longer than {WINDOW} px the middle.")
    report.heading("Settings")
    settings = {**settings_of(wanted), **{f"dynamics: {name}": value for name, value in asdict(dynamics).items()}}
    report.table(
        ["name", "value"], [[name, "none" if value is None else str(value)] for name, value in settings.items()]
    )
    report.write(writer.folder)


def _moments(sequence: movie.Sequence, scale: float) -> list[Pixels]:
    """Return colours of the middle of MOMENTS frames at equal intervals of time."""
    frames = sequence.tracked_frames()
    shown = []
    for index in np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int):
        labels = sequence.read_tracked(frames[index])
        labels = resize_labels(labels, scaled_shape(labels.shape, scale))
        middle = tuple(slice(max(0, (n - WINDOW) // 2), max(0, (n - WINDOW) // 2) + WINDOW) for n in labels.shape)
        shown.append(label_colours(255)[_colours(labels[middle])])
    return shown


def _colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colour number of each pixel of labels: 0 for background, 1 to 255 by track."""
    return np.where(labels > 0, 1 + (labels - 1) % 255, 0).astype(np.uint8)
