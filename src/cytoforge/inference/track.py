"""Movie folders to tracks in the layout of the Cell Tracking Challenge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.data import movie
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest
from cytoforge.data.images import Normalisation, read_header, read_image, read_labels
from cytoforge.data.label_check import check_label_files
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.data.tracks import read_calibration
from cytoforge.data.view import ALL, View
from cytoforge.data.writer import check_target
from cytoforge.engine import ALONE, Announce, Engine, Seat
from cytoforge.errors import UserError
from cytoforge.inference.segment import segment_dataset
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.track_report import write_report
from cytoforge.inference.tracker import Tracker
from cytoforge.places import BASE
from cytoforge.progress import counted
from cytoforge.report import PAGE
from cytoforge.tracking.lineage import divisions
from cytoforge.tracking.linking import Frame, Labels, Linker, assemble, numbered
from cytoforge.tracking.plausibility import implausible

BY = "cytoforge track"
READ, LINKED = 0.4, 0.7  # share of the work when all frames are read, and when their cells are linked
SEGMENTATION = "segmentation"  # masks of a segmenter before they are tracked; goes when all is done


@dataclass(frozen=True)
class Masks:
    """The masks of a sequence by frame number, and where they come from."""

    name: str
    source: str
    files: Mapping[int, Path]
    frames: Mapping[int, Path]
    movie: Dataset
    diameter: float | None = None
    """pixels across that cells were taken to have, where the base model found them"""

    def read(self) -> Iterator[tuple[int, Labels]]:
        """Read number and labels of each frame, cells 1..N by place; raises UserError where sizes differ."""
        size: tuple[int, ...] | None = None
        for number, file in self.files.items():
            labels = numbered(read_labels(file))
            others = [(file, size)] if size is not None else []
            if number in self.frames:
                others.append((self.frames[number], read_header(self.frames[number])[0][1:]))
            for other, wanted in others:
                if labels.shape != wanted:
                    one, two = (f"{height} x {width} pixels" for height, width in (labels.shape, wanted))
                    raise UserError(
                        f"{file}: is of {one}, {'the masks before it' if other is file else other} of {two}; "
                        "export them alike"
                    )
            size = labels.shape
            yield number, labels


@dataclass(frozen=True)
class Result:
    """What tracking wrote and found."""

    page: Path | None
    """None as long as sequences are missing"""
    found: dict[str, str]
    """by sequence, a line with what was found, and one with the tracker and its settings"""
    notes: list[str] = field(default_factory=list)
    """what the user should know, a sentence each"""
    missing: int = 0
    """sequences of other parts that are not tracked yet"""


def check_movie(path: Path, out: Path, *, overwrite: bool) -> None:
    """Raise UserError when a path is no movie folder, or OUT may not be written to."""
    if not movie.is_movie(path):
        raise movie.no_movie(path)
    if out.resolve() == path.resolve():
        raise UserError(f"{out}: holds the movie to track; give another --out")
    check_target(out, BY, overwrite=overwrite)


def track_movie(
    tracker: Tracker,
    path: Path,
    out: Path,
    *,
    sequences: Sequence[str] = (),
    segmenter: Segmenter | None = None,
    diameter: float | None = None,
    view: View = ALL,
    overwrite: bool = False,
    engine: Engine = ALONE,
) -> Result:
    """Write OUT/NN_RES/mask000.tif ..., OUT/NN_RES/res_track.txt for every sequence, and OUT/report.html with
    a film OUT/NN.mp4 of the frames, if there are some.

    With a segmenter frames are segmented first, with the base model for cells of a `diameter` in pixels, or else an
    estimate; `view` chooses channels of the frames. Every mask is read twice: to
    link its cells, and to give them the ids of their tracks; no more frames are in memory than the tracker holds.
    Interrupted work goes on: frames that are segmented or written are not done again. `engine` says which part of the
    sequences is tracked, and where; the last part writes the page. Raises UserError when the movie has no masks for all
    frames, or OUT holds anything but an unfinished result of the same work.
    """
    check_movie(path, out, overwrite=overwrite)
    chosen = movie.read_sequences(path, sequences)
    dataset = Dataset.open(path, tuple(sequences), view=view)
    dataset = dataset.alike() if tracker.linker.wants_images else dataset
    notes = list(dataset.left_out)
    given = [None if segmenter else _given(dataset, sequence) for sequence in chosen]
    for masks, sequence in zip(given, chosen, strict=True):
        if masks and (note := _passed_over(masks, sequence)):
            notes.append(f"{path}: {note}")
    jobs = list(zip(chosen, given, strict=True))
    with at_work(out, engine.part):
        with in_turn(out):
            writer = movie.MovieWriter(
                out,
                _info(tracker, segmenter, diameter, chosen, given) | view.told,
                overwrite=overwrite,
                sources=[(sequence.name, "RES") for sequence in chosen],
                beside=[PAGE, *(movie.film(out, sequence.name).name for sequence in chosen)],
            )
        work = Tracking(tracker, segmenter, diameter, replace(dataset, items=()), writer)
        mine = [job[0].name for job in engine.share(jobs)]
        for _ in engine.run(work, engine.share(jobs), "track", lambda job: job[0].name):
            pass
        with in_turn(out):
            if writer.complete:
                return Result(out / PAGE, {}, notes)
            noted = writer.noted()
            missing = [sequence.name for sequence in chosen if sequence.name not in noted]
            facts = {sequence.name: noted[sequence.name] for sequence in chosen if sequence.name in noted}
            found = {name: one.pop("found") for name, one in facts.items()}
            for name in (name for name in facts if name in mine or not missing):
                if diameter is None and (across := facts[name].get("diameter")) is not None:
                    seem = f"cells seem to be {across:.0f} px across"
                    notes.append(f"{path}: sequence {name}: {seem}; if not, give --diameter")
                if not facts[name]["cells"]:
                    notes.append(f"{path}: no mask of sequence {name} holds a cell, so there is nothing to track")
                notes += [f"{path}: sequence {name}: {warning}" for warning in facts[name]["warnings"]]
            if missing:
                return Result(None, {name: found[name] for name in mine}, notes, len(missing))
            texts = {name: text.replace("\n", "; ") for name, text in found.items()}
            page = write_report(writer.folder, path, texts, {name: facts[name]["warnings"] for name in texts})
            for sequence in chosen:
                writer.folder.discard(f"{SEGMENTATION}/{sequence.name}")
            writer.finish({"sequences": facts, **read_calibration(path, None, None).info})
    return Result(page, found, notes)


@dataclass(frozen=True)
class Tracking:
    """Tracks a sequence, the frames of which are segmented first unless there are masks, and writes it."""

    tracker: Tracker
    segmenter: Segmenter | None
    diameter: float | None
    """of cells in pixels, for the base model"""
    dataset: Dataset
    """the movie as it is read, without its items"""
    writer: movie.MovieWriter

    def start(self, seat: Seat) -> Callable[[tuple[movie.Sequence, Masks | None], Announce], None]:
        """Return the function that tracks a sequence, by its masks if there are any."""
        tracker, writer = self.tracker.seated(seat), self.writer.seated(seat.writer)
        segmenter = None if self.segmenter is None else self.segmenter.seated(seat)

        def track(job: tuple[movie.Sequence, Masks | None], announce: Announce) -> None:
            sequence, given = job
            masks = given or _segmented(segmenter, self.diameter, self.dataset, sequence, writer)
            facts = _track_sequence(masks, tracker.linker, writer, announce)
            writer.folder.note(sequence.name, facts | {"found": "\n".join(_said(tracker, masks, facts))})

        return track


def _given(dataset: Dataset, sequence: movie.Sequence) -> Masks:
    """Masks that the movie has; raises UserError where some are missing or do not number cells."""
    path = dataset.path
    remedy = "add masks, segment the frames with --segment base, or choose others with --sequence"
    if not sequence.masks:
        raise UserError(f"{path}: sequence {sequence.name} has no masks; {remedy}")
    source = sequence.source
    if source is None:
        best = max(sequence.masks, key=lambda name: len(sequence.masks[name].keys() & sequence.frames.keys()))
        every = set(sequence.frames) or {number for masks in sequence.masks.values() for number in masks}
        lost = sorted(every - sequence.masks[best].keys())
        raise UserError(
            f"{path}: sequence {sequence.name} has no mask of {movie.some('frame', lost)} in {best}; {remedy}"
        )
    files = sequence.masks[source]
    check_label_files(list(files.values()))
    return Masks(sequence.name, source, _unbroken(path, sequence, files), sequence.frames, replace(dataset, items=()))


def _passed_over(masks: Masks, sequence: movie.Sequence) -> str | None:
    """Return a note if a more trusted source is not used because it lacks masks of a few frames."""
    for source, files in sequence.masks.items():
        if source == masks.source:
            break
        lost = sorted(masks.files.keys() - files.keys())
        if 0 < len(lost) <= len(masks.files) / 2:  # GT/SEG is meant to hold a few frames only
            return (
                f"sequence {masks.name} has no mask of {movie.some('frame', lost)} in {source}, so masks of "
                f"{masks.source} are tracked"
                + (", perhaps small markers" if masks.source == "GT/TRA" else "")
                + "; add them"
            )
    return None


def _unbroken(path: Path, sequence: movie.Sequence, files: Mapping[int, Path]) -> Mapping[int, Path]:
    lost = sorted(set(range(min(files), max(files) + 1)) - files.keys())
    if lost:
        raise UserError(
            f"{path}: sequence {sequence.name} lacks {movie.some('frame', lost)}; number frames without gaps"
        )
    return files


def _segmented(
    segmenter: Segmenter | None,
    diameter: float | None,
    dataset: Dataset,
    sequence: movie.Sequence,
    writer: movie.MovieWriter,
) -> Masks:
    """Segment the frames of a sequence in OUT/segmentation, or what is missing there."""
    assert segmenter is not None
    if not sequence.frames:
        raise UserError(f"{dataset.path}: sequence {sequence.name} has no frames for --segment; leave the flag out")
    _unbroken(dataset.path, sequence, sequence.frames)
    out = writer.folder.inside(f"{SEGMENTATION}/{sequence.name}")
    frames = Dataset.open(dataset.path, (sequence.name,), view=dataset.view)
    done = segment_dataset(segmenter, frames, out, diameter=diameter, one_size=True)
    files = {number: out / "masks" / f"{sequence.name}_{file.stem}.tif" for number, file in sequence.frames.items()}
    source = "the base model" if segmenter.run == BASE else f"{segmenter.run}"
    return Masks(sequence.name, source, files, sequence.frames, replace(dataset, items=()), done.diameter)


def _info(
    tracker: Tracker,
    segmenter: Segmenter | None,
    diameter: float | None,
    sequences: Sequence[movie.Sequence],
    given: Sequence[Masks | None],
) -> dict[str, Any]:
    """Return what the result depends on; a folder that was begun with something else is not gone on with."""
    files = {
        sequence.name: list((masks.files if masks else sequence.frames).values())
        for masks, sequence in zip(given, sequences, strict=True)
    }
    return {
        "by": BY,
        "version": version("cytoforge"),
        **tracker.origin,
        "segmenter": None if segmenter is None else segmenter.fingerprint,
        **({} if diameter is None else {"diameter": diameter}),
        "masks": {name: [digest(file) for file in one] for name, one in files.items()},
    }


def _track_sequence(masks: Masks, linker: Linker, writer: movie.MovieWriter, announce: Announce) -> dict[str, Any]:
    """Link the cells of a sequence and write its masks and tracks; returns what dataset.json says of it."""
    total = len(masks.files)

    def frames() -> Iterator[Frame]:
        for done, (number, labels) in enumerate(masks.read()):
            yield Frame(labels, _image(masks, number) if linker.wants_images else None)
            announce(READ * (done + 1) / total)

    def linking(share: float, what: str) -> None:
        announce(READ + (LINKED - READ) * share)

    links = linker(frames(), linking)
    tracking, first = assemble(links), min(masks.files)
    writer.announce(masks.name, tracking.tracks[:, 0].tolist())  # fails at once if there are too many
    for index, (number, labels) in enumerate(masks.read()):
        if not writer.has(masks.name, "RES", number):
            writer.add_masks(masks.name, "RES", number, tracking.relabelled(index, labels))
        announce(LINKED + (1 - LINKED) * (index + 1) / total)
    rows = [movie.Track(label, begin + first, end + first, parent) for label, begin, end, parent in tracking.tracks]
    writer.add_tracks(masks.name, "RES", rows)
    return {
        "source": masks.source,
        **({} if masks.diameter is None else {"diameter": masks.diameter}),
        "frames": len(masks.files),
        "cells": int(links.cells.sum()),
        "tracks": len(rows),
        "divisions": divisions(rows),
        "gaps": int(np.count_nonzero(links.pairs[:, 2] > links.pairs[:, 0] + 1)),
        "settings": dict(links.settings),
        "warnings": implausible(tracking.tracks, links.cells, first),
    }


def _image(masks: Masks, number: int) -> np.ndarray:
    if number not in masks.frames:
        raise UserError(f"{masks.files[number]}: has no frame, which this tracker looks at; add it")
    image, normalisation = read_image(masks.frames[number], masks.movie.view), Normalisation()
    return normalisation.apply(image, masks.movie.limits_of(normalisation.measure(image)))


def _said(tracker: Tracker, masks: Masks, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield two lines: what was found in a sequence, and by which tracker and settings."""
    found = ", ".join(counted(facts[f"{noun}s"], noun) for noun in ("cell", "track", "division", "gap"))
    yield f"{counted(facts['frames'], 'frame')} with masks from {masks.source}: {found}"
    settings = ", ".join(f"{name} = {value}" for name, value in facts["settings"].items())
    yield f"linked by {tracker.name}" + (f": {settings}" if settings else "")
