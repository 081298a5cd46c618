"""Conversion of tracks between movie folders and other tools: made consistent for export, placed on masks on import.

Positions are y, x in pixels, with (0, 0) at the centre of the first pixel, and times are frame numbers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import label_at, renumbered, unused
from cytoforge.data.files import is_number
from cytoforge.data.images import read_header, read_image, read_labels
from cytoforge.data.metadata import MICROMETERS, MINUTES, stated
from cytoforge.data.movie import Sequence, Track, inconsistencies, read_sequences, read_tracks, tracks_of
from cytoforge.data.writer import INFO, read_info
from cytoforge.errors import UserError
from cytoforge.progress import counted

PIXELS = {None, "", "pixel", "pixels", "px"}
FRAMES = {None, "", "frame", "frames"}
OWN = {"written_by", "complete", "sequences", "source"}
"""Entries of dataset.json that are not copied to another movie"""


@dataclass(frozen=True)
class Calibration:
    """Pixel size and frame interval, None where unknown."""

    pixel_size: float | None = None
    """side of a pixel in micrometers"""
    frame_interval: float | None = None
    """minutes from one frame to the next"""

    @property
    def length(self) -> tuple[float, str]:
        """Factor from pixels to a unit of length, and that unit: um or px."""
        return (1.0, "px") if self.pixel_size is None else (self.pixel_size, "um")

    @property
    def time(self) -> tuple[float, str]:
        """Factor from frames to a unit of time, and that unit: min or frame."""
        return (1.0, "frame") if self.frame_interval is None else (self.frame_interval, "min")

    @property
    def info(self) -> dict[str, float]:
        """The entries of dataset.json: what is known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def said(self) -> str:
        """What is known, in words; empty if nothing is."""
        pixel = [] if self.pixel_size is None else [f"pixels of {self.pixel_size:g} micrometers"]
        frame = [] if self.frame_interval is None else [f"frames {self.frame_interval:g} minutes apart"]
        return ", ".join(pixel + frame)

    def pixel_in(self, unit: str | None, path: Path) -> float:
        """Return the size of a pixel in the unit of a file; raises UserError when the unit or the size is unknown."""
        return self._told(unit, PIXELS, MICROMETERS, self.pixel_size, path, "--pixel-size, in micrometers")

    def frame_in(self, unit: str | None, path: Path) -> float:
        """Return the time between frames in the unit of a file; raises UserError when the unit or time is unknown."""
        return self._told(unit, FRAMES, MINUTES, self.frame_interval, path, "--frame-interval, in minutes")

    @staticmethod
    def _told(
        unit: str | None, ours: set[str | None], known: Mapping[str, float], size: float | None, path: Path, flag: str
    ) -> float:
        if unit in ours:
            return 1.0
        if unit not in known:
            raise UserError(f"{path}: is in {unit}, a unit that is not known here; save it in pixels and frames")
        if size is None:
            raise UserError(f"{path}: is in {unit}; give {flag}")
        return size / known[str(unit)]


def read_calibration(folder: Path, pixel_size: float | None, frame_interval: float | None) -> Calibration:
    """Return the given values (um, min), else those of a movie's dataset.json, else those that its frames state.

    Raises UserError where dataset.json has others than numbers from 1e-6 to 1e6.
    """
    frames = [file for sequence in read_sequences(folder) for file in sequence.frames.values()]
    return calibration_of(folder, read_info(folder), frames, pixel_size, frame_interval)


def calibration_of(
    folder: Path,
    info: Mapping[str, Any],
    images: Iterable[Path],
    pixel_size: float | None = None,
    frame_interval: float | None = None,
) -> Calibration:
    """Return the given values (um, min), else those of dataset.json `info`, else those that the images state.

    Raises UserError where dataset.json has others than numbers from 1e-6 to 1e6.
    """
    values: dict[str, float | None] = {}
    for name, given in (("pixel_size", pixel_size), ("frame_interval", frame_interval)):
        value = info.get(name) if given is None else given
        if value is not None and (not is_number(value) or not 1e-6 <= value <= 1e6):
            raise UserError(f"{folder / INFO}: {name} is {value!r:.60} and must be a number from 1e-6 to 1e6; mend it")
        values[name] = value
    if None in values.values():
        found = stated(images)
        values = {name: getattr(found, name) if value is None else value for name, value in values.items()}
    return Calibration(**values)


def movie_info(movie: Path, calibration: Calibration) -> dict[str, Any]:
    """Return the dataset.json of a copy of a movie: the entries of the movie except OWN, and the calibration."""
    return {name: value for name, value in read_info(movie).items() if name not in OWN} | calibration.info


@dataclass(frozen=True)
class TrackedMovie:
    """A sequence for export: every cell of every mask has a track, and every track has a mask in each of its frames."""

    sequence: Sequence
    tracks: tuple[Track, ...]
    numbers: tuple[int, ...]
    """numbers of the frames with masks"""
    spots: int
    """number of cells in all frames"""
    notes: tuple[str, ...]
    """contradictions that were corrected, one sentence each"""
    renamed: Mapping[int, Mapping[int, int]]
    """by frame, the new id of each cell whose id has changed"""

    def read(self) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """Yield number, labels int32 (H, W) and image (C, H, W) of each frame; all images are None if one is missing.

        Raises as read_image and read_labels.
        """
        files = self.sequence.frames
        seen = set(self.numbers) <= files.keys()
        for number in self.numbers:
            labels = renumbered(self.sequence.read_tracked(number), self.renamed.get(number, {}), keep=True)
            yield number, labels, read_image(files[number]) if seen else None


def read_masks(sequence: Sequence) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frame number and unchanged labels int32 (H, W) of the masks that cover all frames of a sequence.

    Raises UserError without such masks, where sizes differ from each other or from those of the frames, and as
    read_labels.
    """
    if sequence.source is None:
        raise UserError(f"sequence {sequence.name}: has no masks for every frame; segment it first")
    check_sizes(sequence)
    for number, file in sequence.masks[sequence.source].items():
        yield number, read_labels(file)


def check_sizes(sequence: Sequence) -> None:
    """Raise UserError when frames differ in size or channels, or the masks in use differ from them in size."""
    used = [masks for name, masks in sequence.masks.items() if name in (sequence.source, sequence.track_source)]
    frames = list(sequence.frames.values())
    for kind, start in ((frames, 0), (frames + [file for masks in used for file in masks.values()], 1)):
        first: tuple[int, ...] | None = None
        for file in kind:
            shape = read_header(file)[0][start:]
            first = first or shape
            if shape != first:
                one, other = (" x ".join(map(str, size)) for size in (shape, first))
                raise UserError(
                    f"{file}: is of {one} pixels, others are of {other}; bring frames and masks to one size"
                )


def open_tracked(sequence: Sequence) -> TrackedMovie:
    """Read the masks of a sequence with tracks, and correct contradictions between tracks and masks.

    A gap ends a track; after it a new track begins, whose parent is the track before the gap. Cells without a row in
    the track file get one, rows without cells are dropped, and so is a parent that does not end before its daughters.
    Raises UserError without tracks, masks or cells, and
    where sizes differ.
    """
    numbers = sequence.tracked_frames()
    check_sizes(sequence)
    cells = {number: np.setdiff1d(labels, [0]) for number, labels in sequence.tracked()}
    source = sequence.track_source
    if not source or not any(ids.size for ids in cells.values()):
        raise UserError(f"sequence {sequence.name}: its masks hold no cells with tracks; is this the right movie?")
    given = read_tracks(sequence.tracks[source])
    wrong = [problem.what for problem in inconsistencies(given, cells) if problem.severity == "error"]
    tracks, renamed = mended(given, cells)
    spots = sum(ids.size for ids in cells.values())
    return TrackedMovie(sequence, tracks, numbers, spots, tuple(f"mended: {what}" for what in wrong), renamed)


def mended(
    tracks: Iterable[Track], cells: Mapping[int, NDArray[Any]]
) -> tuple[tuple[Track, ...], dict[int, dict[int, int]]]:
    """Return tracks that agree with the cells of each frame, and by frame the new ids of cells that need one."""
    parents = {track.label: track.parent for track in tracks}
    pieces, names = tracks_of(cells)
    renamed: dict[int, dict[int, int]] = {}
    origin = {track.label: track.label for track in pieces}
    for (frame, cell), label in names.items():
        renamed.setdefault(frame, {})[cell] = label
        origin[label] = cell
    family: dict[int, list[Track]] = {}
    for piece in pieces:
        family.setdefault(origin[piece.label], []).append(piece)
    found = []
    for piece in pieces:
        before = [one for one in family.get(parents.get(piece.label, 0), []) if one.end < piece.begin]
        found.append(piece if piece.parent or not before else piece._replace(parent=before[-1].label))
    return tuple(found), renamed


@dataclass(frozen=True)
class Spots:
    """Tracks as N positions (spots), each linked to at most one earlier position. Built by `linked`."""

    frame: NDArray[np.int64]
    """frame number (N,)"""
    position: NDArray[np.float64]
    """y, x in pixels (N, 2)"""
    before: NDArray[np.int64]
    """index of the preceding spot of each spot (N,), -1 without one"""
    track: NDArray[np.int64] | None = None
    """label of the track (N,), -1 where unknown; None if the file has no track labels"""
    notes: tuple[str, ...] = ()
    """what the user should know about the file, one sentence each"""


def linked(
    path: Path,
    frame: NDArray[np.int64],
    position: NDArray[np.float64],
    links: NDArray[np.int64],
    track: NDArray[np.int64] | None = None,
) -> Spots:
    """Build spots from links (L, 2) between their indices, from the earlier one to the later one.

    Raises UserError, naming the file, when there are no spots, a position is not a finite number, a link does not lead
    forward in time (as in a cycle), or two links lead to one spot (where cells merge).
    """
    if not len(frame):
        raise UserError(f"{path}: holds no spots; save the tracks anew")
    if not np.isfinite(position).all():
        raise UserError(f"{path}: a position in frame {frame[~np.isfinite(position).all(axis=1)][0]} is no number")
    before = np.full(len(frame), -1, np.int64)
    for first, second in links.tolist():
        if frame[first] >= frame[second]:
            raise UserError(
                f"{path}: a link leads from frame {frame[first]} to frame {frame[second]}, but time goes forward (is "
                "there a cycle?); remove the link"
            )
        if before[second] not in (-1, first):
            y, x = position[second]
            raise UserError(
                f"{path}: two tracks merge in frame {frame[second]} at y {y:.1f}, x {x:.1f} px, but cells divide and "
                "never merge here; remove one of the links"
            )
        before[second] = first
    return Spots(frame, position, before, track)


@dataclass(frozen=True)
class Placed:
    """Spots assigned to the cells of masks: tracks, and by frame the track label of each cell that has a spot."""

    tracks: tuple[Track, ...]
    labels: Mapping[int, Mapping[int, int]]
    notes: tuple[str, ...]


def place(spots: Spots, masks: Iterable[tuple[int, np.ndarray]], path: Path) -> Placed:
    """Assign each spot to the cell in which it lies, and give each track the id of its first cell if that is free.

    A track ends at a division, a gap and, where the file has track labels, a change of label. A spot outside all cells,
    or in a cell that already has a spot, is left out, and its track continues as after a gap.

    Args:
        spots: from the file `path`.
        masks: frame number and labels (H, W) of each frame.

    Raises:
        UserError: for spots outside of the images or in frames without a mask, and when no spot lies in a cell.
    """
    cell = np.full(len(spots.frame), -2, np.int64)
    count = 0
    for number, labels in masks:
        there = np.flatnonzero(spots.frame == number)
        cell[there] = label_at(labels, spots.position[there])
        count += np.unique(labels[labels > 0]).size
        if (out := there[cell[there] == -1]).size:
            y, x = spots.position[out[0]]
            raise UserError(
                f"{path}: {counted(out.size, 'spot')} of frame {number} lie outside of its {labels.shape[0]} x "
                f"{labels.shape[1]} pixels (y {y:.1f}, x {x:.1f}); are pixel size and movie the right ones?"
            )
    if (lost := spots.frame[cell == -2]).size:
        raise UserError(f"{path}: has spots in frame {lost[0]}, of which the movie has no mask; is it the right movie?")
    notes = list(spots.notes)
    if nowhere := int((cell == 0).sum()):
        notes.append(f"{counted(nowhere, 'spot')} on no cell of their frame, left out")
    taken: set[tuple[int, int]] = set()
    for k in np.flatnonzero(cell > 0).tolist():
        key = int(spots.frame[k]), int(cell[k])
        if key in taken:
            cell[k] = -1
        taken.add(key)
    if twice := int((cell == -1).sum()):
        notes.append(f"{counted(twice, 'spot')} on a cell that has one already, left out")
    if not taken:
        raise UserError(f"{path}: none of its spots lies on a cell of the masks; are pixel size and movie right?")
    if count > len(taken):
        notes.append(f"{counted(count - len(taken), 'cell')} without a spot, left out")
    tracks, placed = _numbered(spots, cell)
    return Placed(tracks, placed, tuple(notes))


def _numbered(spots: Spots, cell: NDArray[np.int64]) -> tuple[tuple[Track, ...], dict[int, dict[int, int]]]:
    """Divide the spots that have a cell into tracks; return these, and by frame the track label of each cell."""
    order = np.argsort(spots.frame, kind="stable").tolist()
    before = spots.before.copy()
    for k in order:  # skip spots without a cell, back to the last spot with one
        if before[k] >= 0 and cell[before[k]] <= 0:
            before[k] = before[before[k]]
    kept = [k for k in order if cell[k] > 0]
    following = np.bincount(before[kept][before[kept] >= 0], minlength=len(cell))
    heads = [k for k in kept if not _goes_on(spots, k, int(before[k]), following)]
    own: dict[int, int] = {}
    for k in heads:
        own.setdefault(int(cell[k]), k)
    free = unused(set(cell.tolist()))
    numbers = {k: int(cell[k]) if own[int(cell[k])] == k else next(free) for k in heads}
    of: dict[int, int] = {}
    tracks: dict[int, Track] = {}
    labels: dict[int, dict[int, int]] = {}
    for k in kept:
        frame, last = int(spots.frame[k]), of.get(int(before[k]), 0)
        of[k] = numbers.get(k, last)
        if k in numbers:
            tracks[of[k]] = Track(of[k], frame, frame, last)
        else:
            tracks[of[k]] = tracks[of[k]]._replace(end=frame)
        labels.setdefault(frame, {})[int(cell[k])] = of[k]
    return tuple(sorted(tracks.values())), labels


def _goes_on(spots: Spots, k: int, last: int, following: NDArray[np.int64]) -> bool:
    """Tell whether spot k continues the track of the preceding spot `last`; `following` counts successors by spot."""
    if last < 0 or following[last] > 1 or spots.frame[k] > spots.frame[last] + 1:
        return False
    return spots.track is None or spots.track[k] == spots.track[last] or -1 in spots.track[[k, last]]
