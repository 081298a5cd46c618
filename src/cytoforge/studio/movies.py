"""The tracks of movies in work: every correction of a link is on disk before it is confirmed, and can be taken back.

.studio/movies/01/0007/  mask000.tif ...     the cells as they were followed, with the labels of their tracks then
                         tracks.txt          these tracks
                         places.json         the middle of each cell
                         source.json         the sum of the files that they were taken from
                         corrections.jsonl   what was corrected since, one line each, undone corrections too
.studio/movies/01/       shown.json          which one of 0007, the number of a piece of work that followed, is shown
                         written.json        up to which correction the movie folder `tracked` has these tracks
tracked/                 01/  01_RES/        a movie folder with the corrected tracks, for all other commands
The one that was taken last is shown.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import boxes, renumbered
from cytoforge.data.files import check_readable, digest, make_folder, read_json, utf8, write_bytes, write_json
from cytoforge.data.images import read_labels, write_labels
from cytoforge.data.movie import Sequence, Track, is_movie, read_sequences, read_tracks
from cytoforge.data.tracks import calibration_of, open_tracked
from cytoforge.data.writer import read_info
from cytoforge.errors import UserError
from cytoforge.metrics.cells import outline
from cytoforge.metrics.deepsea import places
from cytoforge.studio.frames import SEQUENCE, chosen_frames, frames_among, keep_frames
from cytoforge.studio.journal import Outdated, Soon, append_line, call_all, put_aside, read_lines
from cytoforge.studio.tracked import TABLE as RESULTS
from cytoforge.studio.tracked import Tracked
from cytoforge.studio.workspace import Workspace, safe_name
from cytoforge.tracking import lineage
from cytoforge.tracking.lineage import Cell, Correction, Renamed

TRACKED = "tracked"
TABLE, PLACES, SOURCE, JOURNAL = "tracks.txt", "places.json", "source.json", "corrections.jsonl"
SHOWN, WRITTEN = "shown.json", "written.json"
MASK = re.compile(r"mask\d{3,}\.tif")
GIVEN = 0  # number of the tracks that a movie had when it was opened


class Movie:
    """The tracks of one sequence. Thread-safe.

    A correction names cells by their labels at that time. It is appended to a journal and synchronised to disk; masks
    and track file in `out` follow a moment after the last one. Opening repeats the journal on the tracks as they were
    followed, so a kill loses nothing, and corrections of before can still be taken back. While masks are written, the
    folder has no track file, so that nobody reads tracks that do not fit them.
    """

    def __init__(self, folder: Path, out: Tracked, sequence: Sequence) -> None:
        """`folder`: of the movies of a studio; `out`: the movie folder to write; `sequence`: for its frames.

        Raises UserError when what is there cannot be read.
        """
        self.name, self.frames = sequence.name, dict(sequence.frames)
        self.folder, self.results = folder / sequence.name, out.results(sequence.name)
        self._out = out
        self.lock = threading.RLock()
        self.notes: list[str] = []
        self._soon = Soon(self._save)
        make_folder(self.folder)
        self._open()

    def _open(self) -> None:
        """Read the tracks that were taken last and repeat their corrections."""
        self.revision = time.time_ns() // 10**6
        """another one at each opening, so that no page of before corrects what it has not seen"""
        self.tracks: dict[int, Track] = {}
        self._names: dict[int, dict[int, int]] = {}  # by frame, of each label now the one in the masks
        self._done: list[_Step] = []
        self._undone: list[dict[str, Any]] = []
        self._journal = hashlib.sha256()  # of the corrections that are done
        self._stale: set[int] = set()
        numbers = [int(path.parent.name) for path in self.folder.glob(f"*/{TABLE}") if path.parent.name.isdecimal()]
        shown = (_stored(self.folder / SHOWN) or {}).get("number")
        self.number = shown if shown in numbers else max(numbers, default=None)
        if self.number is None:
            return
        self._check_files()
        self.tracks = lineage.table(read_tracks(self.version / TABLE))
        for track in self.tracks.values():
            for frame in range(track.begin, track.end + 1):
                self._names.setdefault(frame, {})[track.label] = track.label
        self._repeat()
        if self._written() != self._state:
            self._stale = set(self._masks())
        self._soon.start()

    def _check_files(self) -> None:
        """Make the places of the cells anew where they cannot be read; raises UserError where a mask is missing."""
        masks = self._masks()
        places = _stored(self.places())
        if masks and not (places and all(frame.isdecimal() for frame in places)):
            found = {frame: _middles(read_labels(mask)) for frame, mask in masks.items()}
            write_bytes(self.places(), utf8(json.dumps(found)))
        elif lacking := sorted(set(places or "0") - {str(frame) for frame in masks}):
            raise UserError(
                f"{self.version}: has no mask of frame {lacking[0]} any more; restore it, or move {self.folder} away "
                "and follow the cells anew"
            )

    @property
    def version(self) -> Path:
        """Folder of the tracks that are shown; raises KeyError when there are none."""
        if self.number is None:
            raise KeyError(self.name)
        return self.folder / f"{self.number:04d}"

    @property
    def undoable(self) -> tuple[bool, bool]:
        """Whether there is a correction to take back, and one to repeat."""
        return bool(self._done), bool(self._undone)

    @property
    def corrections(self) -> int:
        """Number of corrections that hold."""
        return len(self._done)

    @property
    def trouble(self) -> str | None:
        """What could not be written for other commands, and why, until it is."""
        return self._soon.trouble

    def renamed(self) -> dict[int, dict[int, int]]:
        """Return by frame the labels of cells that have another one in the masks as they were followed, by that one."""
        with self.lock:
            found = {
                frame: {old: label for label, old in names.items() if old != label}
                for frame, names in self._names.items()
            }
        return {frame: names for frame, names in sorted(found.items()) if names}

    def places(self) -> Path:
        """Return the file with the middle x, y of each cell, by frame and its label in the masks; raises KeyError."""
        return self.version / PLACES

    def outlines(self, frame: int) -> list[tuple[int, list[float]]]:
        """Return the cells of a frame by their label in the masks, each with the corners x, y, x, y ... of its outline.

        Corners are in pixels from the top left corner of the image. Raises KeyError where there is no such mask.
        """
        labels = read_labels(self._masks()[frame])
        found = []
        for label, box in boxes(labels).items():
            corners = outline(labels[box] == label) + [part.start + 0.5 for part in box]
            found.append((label, np.round(corners[:, ::-1], 1).ravel().tolist()))
        return found

    def written(self) -> list[Path]:
        """Return the files of masks and tracks that `save` writes; raises KeyError when there are no tracks."""
        return [*(self.results / path.name for path in self._masks().values()), self._table_file]

    def take(self, sequence: Sequence, number: int) -> tuple[str, ...]:
        """Show the tracks of another folder from now on; they are known as `number`, and taken only once.

        Returns what was mended in them. Raises UserError as `open_tracked`.
        """
        folder = self.folder / f"{number:04d}"
        notes: tuple[str, ...] = ()
        if not (folder / TABLE).exists():
            followed = open_tracked(sequence)
            notes = followed.notes
            places = {}
            for frame in followed.numbers:
                labels = sequence.read_tracked(frame)
                labels = renumbered(labels, followed.renamed.get(frame, {}), keep=True)
                write_labels(folder / f"mask{frame:03d}.tif", labels)
                places[frame] = _middles(labels)
            write_bytes(folder / PLACES, utf8(json.dumps(places)))
            write_json(folder / SOURCE, {"sha256": _sum(sequence)})
            write_bytes(folder / TABLE, _text(lineage.table(followed.tracks)))
        with self.lock:
            write_json(self.folder / SHOWN, {"number": number})
            self._open()
        return notes

    def is_from(self, sequence: Sequence) -> bool:
        """Tell whether the files of tracks are still as they were when they were taken; raises UserError."""
        taken = _stored(self.version / SOURCE)
        return taken is None or taken.get("sha256") == _sum(sequence)

    # corrections

    def correct(self, wanted: dict[str, Any], revision: int) -> None:
        """Make a correction, as the page describes it: {"tool": NAME, "cells": [[label, frame], ...], "gap": bool}.

        The tools are join, before and after (cut what leads to a cell, or on from it), divide, swap, undo and redo.
        Raises Outdated when the tracks have another revision, ValueError for what is no correction or impossible, and
        KeyError where there are no tracks.
        """
        with self.lock:
            if revision != self.revision:
                raise Outdated(f"the tracks have changed since (revision {self.revision}, not {revision})")
            line: dict[str, Any] = {key: wanted[key] for key in ("tool", "cells", "gap") if key in wanted}
            correction = self._correction(line)
            append_line(self.version / JOURNAL, line)
            self._make(line, correction)
            self.revision += 1
            self._soon.start()

    def _correction(self, line: dict[str, Any]) -> Correction:
        """Return what a line of the journal changes; raises ValueError where it is none, or impossible."""
        if line.get("tool") == "undo":
            if not self._done:
                raise ValueError("there is nothing to take back")
            return self._done[-1].back
        if line.get("tool") == "redo":
            if not self._undone:
                raise ValueError("there is nothing to repeat")
            return corrected(self.tracks, self._undone[-1])
        return corrected(self.tracks, line)

    def _make(self, line: dict[str, Any], correction: Correction) -> None:
        """Make the correction of a line."""
        back = Correction(
            self.tracks, tuple(Renamed(one.new, one.begin, one.end, one.label) for one in correction.renamed)
        )
        if line["tool"] == "undo":
            self._undone.append(self._done.pop().line)
        elif line["tool"] == "redo":
            self._done.append(_Step(self._undone.pop(), back))
        else:
            self._done.append(_Step(line, back))
            self._undone.clear()
        moved = [
            (frame, one.new, self._names[frame].pop(one.label))
            for one in correction.renamed
            for frame in range(one.begin, one.end + 1)
        ]
        for frame, label, old in moved:
            self._names[frame][label] = old
            self._stale.add(frame)
        self.tracks = correction.tracks
        self._journal.update(utf8(json.dumps(line) + "\n"))

    def _repeat(self) -> None:
        """Make the corrections of the journal; from one that cannot be made on, the rest is put aside."""
        journal = self.version / JOURNAL
        lines = read_lines(journal)
        for place, text in enumerate(lines):
            try:
                line = json.loads(text)
                self._make(line, self._correction(line))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                self.notes.append(put_aside(journal, len(lines) - place, "look at the tracks"))
                write_bytes(journal, b"".join(line + b"\n" for line in lines[:place]))
                return

    # what is written for other commands

    def save(self) -> None:
        """Write the masks and tracks that corrections have changed, and those that are missing.

        Raises UserError, and tries again later, where that fails or a file is in the way (`Tracked.write`).
        """
        with self.lock:
            self._soon.now()

    def _save(self) -> None:
        with self.lock:
            if self.number is None:
                return
            masks = self._masks()
            whole = os.path.lexists(self._table_file)
            missing = {frame for frame, mask in masks.items() if not os.path.lexists(self.results / mask.name)}
            stale = self._stale & masks.keys() | missing if whole else set(masks)
            if not stale and self._written() == self._state:
                return
            frames = {mask.name: frame for frame, mask in masks.items()}
            changed = [masks[frame].name for frame in sorted(stale)]

            def labels(name: str) -> NDArray[np.integer[Any]]:
                names = {old: label for label, old in self._names.get(frames[name], {}).items()}
                return renumbered(read_labels(masks[frames[name]]), names, keep=True)

            self._out.write(self.name, frames, changed, labels, _text(self.tracks))
            write_json(self.folder / WRITTEN, self._state)
            self._stale.clear()

    @property
    def _state(self) -> dict[str, Any]:
        """What tells these tracks from all others."""
        return {"number": self.number, "journal": self._journal.hexdigest()}

    def _written(self) -> dict[str, Any] | None:
        """Return the state of the tracks that other commands find."""
        return _stored(self.folder / WRITTEN) if self._table_file.exists() else None

    @property
    def _table_file(self) -> Path:
        return self.results / RESULTS

    def _masks(self) -> dict[int, Path]:
        """Return the masks as they were followed, by frame."""
        files = sorted(self.version.glob("mask*.tif"))
        return {int(file.stem[4:]): file for file in files if MASK.fullmatch(file.name)}


class _Step(NamedTuple):
    """A correction that was made: its line in the journal, and what takes it back."""

    line: dict[str, Any]
    back: Correction


class Movies:
    """The movies of a studio: the sequences of the movie folder that it was opened on, or its images. Thread-safe.

    Their frames are linked to `tracked`, a movie folder into which the tracks are written; where that is impossible,
    `notes` says so as soon as there are tracks.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.path = workspace.path / TRACKED
        self._lock = threading.Lock()
        self._movies: dict[str, Movie] = {}
        source = workspace.source
        given = source if source != workspace.path and is_movie(source) else None
        self._tracked, frames = Tracked(self.path, given), self.path
        try:
            self._tracked.prepare()
        except UserError:
            frames = given or self.path
        self._frames = frames
        self._look()

    def _look(self) -> None:
        self.chosen = chosen_frames(self.workspace)
        self.sequences = {sequence.name: sequence for sequence in read_sequences(self._frames) if sequence.frames}

    def offered(self) -> list[str]:
        """Return the names of the images that can be opened as a movie, or from which the one of before goes on."""
        names = frames_among(self.workspace) if self.chosen or not self.sequences else []
        return names if len(names) > len(self.chosen) and names[: len(self.chosen)] == self.chosen else []

    def open_images(self) -> None:
        """Make the images that are offered a movie; raises UserError when there are none, and as `Tracked.prepare`."""
        with self._lock:
            names = self.offered()
            if not names:
                raise UserError(f"{self.workspace.path}: its images are not of one size and numbered one after another")
            self.save()
            files = [self.workspace.picture(name).path for name in names]
            self._tracked.add_frames(SEQUENCE, files, calibration_of(self.path, read_info(self.workspace.path), files))
            keep_frames(self.workspace, names)
            self._movies.clear()
            self._look()

    @property
    def notes(self) -> list[str]:
        """What could not be written, one sentence each, until it is."""
        return list(dict.fromkeys(movie.trouble for movie in list(self._movies.values()) if movie.trouble))

    def listed(self) -> list[dict[str, Any]]:
        """Return name and number of frames of each movie, and the revision of its tracks, None before it is opened."""
        opened = self._movies
        return [
            {
                "name": name,
                "frames": len(sequence.frames),
                "revision": opened[name].revision if name in opened else None,
            }
            for name, sequence in self.sequences.items()
        ]

    def movie(self, name: str) -> Movie:
        """Return a movie; at first with the tracks that it has, if any. Raises KeyError, and UserError."""
        with self._lock:
            sequence = self.sequences[name]
            if name not in self._movies:
                movie = Movie(self.workspace.hidden / "movies", self._tracked, sequence)
                if movie.number in (None, GIVEN):
                    self._take_given(movie)
                self.workspace.notes += movie.notes
                self._movies[name] = movie
            return self._movies[name]

    def _take_given(self, movie: Movie) -> None:
        source = self.workspace.source
        if not is_movie(source) or movie.name not in (given := {one.name: one for one in read_sequences(source)}):
            return
        sequence = given[movie.name]
        if sequence.track_source is None:
            return
        table = sequence.tracks[sequence.track_source]
        try:
            if movie.number is None:
                self.workspace.notes += [f"{table}: {note}" for note in movie.take(sequence, GIVEN)]
            elif not movie.is_from(sequence):
                self.workspace.notes.append(
                    f"{table}: these tracks or their masks have changed since they were taken, and the studio goes on "
                    f"with those of then; close it and move {movie.folder} away to begin with the new ones"
                )
        except UserError as error:
            without = " (the movie is here without its tracks)" if movie.number is None else ""
            self.workspace.notes.append(f"{error}{without}")

    def picture(self, name: str, frame: int) -> str:
        """Return the name of the image of a frame in the workspace."""
        return self.chosen[frame] if self.chosen else safe_name(f"{name}_{self.sequences[name].frames[frame].stem}")

    def save(self) -> None:
        """Write what corrections have changed; raises UserError as `Movie.save`, after all others are written."""
        call_all([movie.save for movie in list(self._movies.values())])


def corrected(tracks: Mapping[int, Track], wanted: dict[str, Any]) -> Correction:
    """Return the correction that a line of a journal describes (`Movie.correct`); raises ValueError if it is none."""
    tool, given = wanted.get("tool"), wanted.get("cells")
    if not isinstance(given, list) or not 0 < len(given) <= 3:
        raise ValueError("a correction names one to three cells")
    cells = []
    for cell in given:
        if not isinstance(cell, list) or len(cell) != 2 or not all(type(number) is int for number in cell):
            raise ValueError("a cell is named by its label and its frame")
        cells.append(Cell(*cell))
    if tool in ("before", "after") and len(cells) == 1:
        return lineage.cut(tracks, cells[0], before=tool == "before")
    if tool == "join" and len(cells) == 2:
        return lineage.join(tracks, cells[0], cells[1], gap=wanted.get("gap") is True)
    if tool == "swap" and len(cells) == 2:
        return lineage.swap(tracks, cells[0], cells[1])
    if tool == "divide" and len(cells) == 3:
        return lineage.divide(tracks, cells[0], (cells[1], cells[2]))
    raise ValueError(f"there is no correction {tool!r:.40} of {len(cells)} cells")


def _stored(file: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where it is missing or cannot be read."""
    with contextlib.suppress(UserError):
        return read_json(file)
    return None


def _sum(sequence: Sequence) -> str:
    """Return a sum of the files of the tracks of a sequence; raises UserError where one cannot be read."""
    used = dict.fromkeys(name for name in (sequence.track_source, sequence.source) if name)
    files = [file for name in used for file in (*sequence.masks.get(name, {}).values(), sequence.tracks.get(name))]
    sums = []
    for file in files:
        if file is not None:
            check_readable(file, "restore it")
            sums.append(digest(file))
    return hashlib.sha256(" ".join(sums).encode()).hexdigest()


def _text(tracks: Mapping[int, Track]) -> bytes:
    return "".join(f"{row.label} {row.begin} {row.end} {row.parent}\n" for row in tracks.values()).encode()


def _middles(labels: NDArray[np.integer[Any]]) -> dict[int, list[float]]:
    """Return the middle x, y of each cell of labels (H, W), in pixels from the top left corner of the image."""
    ids, centroids = places(labels)
    return dict(zip(ids.tolist(), np.round(centroids[:, ::-1] + 0.5, 1).tolist(), strict=True))
