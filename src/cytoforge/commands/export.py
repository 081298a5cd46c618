"""`cytoforge export`: the tracks of a movie, features of its cells, and the cells of a dataset, for other tools."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import boxes
from cytoforge.commands.export_cells import export_cells
from cytoforge.data.formats import read_mark
from cytoforge.data.images import read_image
from cytoforge.data.interchange.hyperstack import fits, write_hyperstack
from cytoforge.data.interchange.tables import write_features, write_napari
from cytoforge.data.interchange.trackmate import write_trackmate
from cytoforge.data.lock import held
from cytoforge.data.movie import MovieWriter, left_out, no_movie, read_sequences, some
from cytoforge.data.tracks import Calibration, TrackedMovie, movie_info, open_tracked, read_calibration
from cytoforge.errors import UserError
from cytoforge.extras import require
from cytoforge.metrics.cells import Cells, Labels, follow, gathered, outline
from cytoforge.progress import Progress, counted
from cytoforge.settings import ANNOTATIONS, Export

Measured = Iterator[tuple[int, Labels, Cells]]


def export(config: Export) -> Path:
    """Write the file or folder, print what it holds and in which units, and return its path.

    Raises UserError when the movie has no tracks, when several sequences would go into one file, when there is
    something at OUT already, and as reading and writing do.
    """
    if config.format in ANNOTATIONS:
        return export_cells(config)
    sequences = read_sequences(config.data, config.sequence)
    if not sequences:
        raise no_movie(
            config.data,
            "01/t000.tif, 01_GT, 01_RES ...",
            f"give one with tracks, or for a dataset --format {', '.join(ANNOTATIONS)}",
        )
    calibration = read_calibration(config.data, config.pixel_size, config.frame_interval)
    if config.format != "ctc":
        if len(sequences) > 1:
            names = ", ".join(sequence.name for sequence in sequences)
            raise UserError(f"{config.data}: has the sequences {names}, a file holds one; pick it by --sequence")
        if config.format == "geff":
            require("--format geff", "geff", otherwise="take trackmate or napari")
        if config.out.exists() and not config.overwrite:
            raise UserError(f"{config.out}: exists already; choose another name or give --overwrite")
    for sequence in sequences:
        sequence.check_labels()
    movies = [open_tracked(sequence) for sequence in sequences]
    print("".join(f"{note}\n" for note in left_out(config.data, config.sequence)), end="")
    for movie in movies:
        print("".join(f"sequence {movie.sequence.name}: {note}\n" for note in movie.notes), end="")
        if config.format in ("ctc", "features") and (note := _without_frames(movie, config.format)):
            print(f"sequence {movie.sequence.name}: {note}")
    if config.format == "ctc":
        with held(config.out):
            _write_ctc(config, movies, calibration)
    else:
        _write(config, movies[0], calibration)
    print(f"{config.out}: {_contents(movies)}; {_units(config.format, calibration)}")
    return config.out


def _without_frames(movie: TrackedMovie, title: str) -> str | None:
    """Say what the result lacks if frames are missing; return None if none is missing."""
    lacking = [number for number in movie.numbers if number not in movie.sequence.frames]
    if not lacking:
        return None
    what = "there are no frames" if len(lacking) == len(movie.numbers) else f"{some('frame', lacking)} missing"
    lost = "no grey values are written" if title == "features" else "OUT holds masks without them"
    return f"{what}, so {lost}; put them beside the masks (01/t000.tif ...)"


def _write(config: Export, movie: TrackedMovie, calibration: Calibration) -> None:
    """Write one sequence to a file or a GEFF."""
    cells = _shown(follow(movie.read(), movie.tracks), len(movie.numbers), config.format)
    if config.format == "features":
        write_features(config.out, (table for _, _, table in cells), calibration)
    elif config.format == "napari":
        write_napari(config.out, gathered(table for _, _, table in cells), movie.tracks)
    elif config.format == "geff":
        from cytoforge.data.interchange.geff import write_geff  # takes a second

        write_geff(config.out, cells, _extent(movie), calibration)
    else:
        stack = _write_frames(config, movie, calibration)
        write_trackmate(config.out, _outlined(cells), movie.spots, _extent(movie), calibration, stack)


def _extent(movie: TrackedMovie) -> tuple[int, int, int]:
    """Return the number of frames, up to the last, and their height and width."""
    height, width = movie.sequence.read_tracked(movie.numbers[0]).shape
    return movie.numbers[-1] + 1, height, width


def _write_frames(config: Export, movie: TrackedMovie, calibration: Calibration) -> str:
    """Write the frames as a stack beside OUT, for TrackMate to show, and return its name; "" where there is none."""
    path, frames = config.out.with_suffix(".tif"), movie.sequence.frames
    if not frames or not fits(frames):
        why = "its frames are too large for one" if frames else "it has no frames"
        print(f"no stack beside {config.out.name}, as {why}: TrackMate shows the tracks on black")
        return ""
    write_hyperstack(path, frames, calibration, overwrite=config.overwrite)
    print(f"{path}: the frames as a stack, which TrackMate opens with {config.out.name}")
    return path.name


def _shown(frames: Measured, count: int, title: str) -> Measured:
    progress = Progress(title)
    for done, frame in enumerate(frames, 1):
        yield frame
        progress(done / count)


def _outlined(frames: Measured) -> Iterator[tuple[Cells, dict[int, NDArray[np.float64]]]]:
    """Yield the cells of each frame and their outlines, in pixels of the frame."""
    for _, labels, cells in frames:
        outlines = {
            label: outline(labels[box] == label) + [part.start for part in box] for label, box in boxes(labels).items()
        }
        yield cells, outlines


def _write_ctc(config: Export, movies: Sequence[TrackedMovie], calibration: Calibration) -> None:
    """Write frames, tracks, and masks in which whole cells have the ids of their tracks."""
    if config.out.resolve() == config.data.resolve():
        raise UserError(f"{config.out}: is the movie itself; choose another folder")
    told = {
        movie.sequence.name: {"frames": len(movie.numbers), "cells": movie.spots, "tracks": len(movie.tracks)}
        for movie in movies
    }
    info = movie_info(config.data, calibration) | {"source": config.data.name, "sequences": told}
    sources = [
        (movie.sequence.name, source) for movie in movies for source in ("frames", movie.sequence.track_source or "")
    ]
    writer = MovieWriter(config.out, info, overwrite=config.overwrite, sources=sources)
    for movie in movies:
        name, source = movie.sequence.name, movie.sequence.track_source or ""
        if short := writer.announce(name, [track.label for track in movie.tracks]):
            print(short)
        files = movie.sequence.masks[movie.sequence.source or source]
        for number, file in movie.sequence.frames.items():
            writer.add_frame(name, number, read_image(file), read_mark(file) or None)
        progress = Progress(f"ctc {name}")
        for done, (number, labels, _) in enumerate(movie.read(), 1):
            writer.add_masks(name, source, number, labels, read_mark(files[number]) or None)
            progress(done / len(movie.numbers))
        writer.add_tracks(name, source, movie.tracks)
    writer.finish()


def _contents(movies: Iterable[TrackedMovie]) -> str:
    tracks = [track for movie in movies for track in movie.tracks]
    daughters = Counter((movie.sequence.name, track.parent) for movie in movies for track in movie.tracks)
    divisions = sum(count > 1 for (_, parent), count in daughters.items() if parent)
    cells, frames = sum(movie.spots for movie in movies), sum(len(movie.numbers) for movie in movies)
    return (
        f"{counted(cells, 'cell')} in {counted(frames, 'frame')}, {counted(len(tracks), 'track')} with "
        f"{counted(divisions, 'division')}"
    )


def _units(kind: str, calibration: Calibration) -> str:
    """Say which units were written, and how to get others."""
    if kind == "napari":
        return "in pixels and frames"
    pixel, frame = calibration.pixel_size, calibration.frame_interval
    if kind in ("geff", "ctc"):
        length = "pixels (--pixel-size for their size)" if pixel is None else f"pixels of {pixel:g} micrometers"
        time = "frames (--frame-interval for their distance)" if frame is None else f"frames {frame:g} minutes apart"
        return f"in {length} and {time}"
    length = "pixels (--pixel-size for micrometers)" if pixel is None else "micrometers"
    time = "frames (--frame-interval for minutes)" if frame is None else "minutes"
    return f"lengths in {length}, times in {time}"
