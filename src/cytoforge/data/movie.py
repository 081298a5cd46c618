"""Movie folders in the layout of the Cell Tracking Challenge (CTC): frames, masks, tracks; read tolerantly.

    01/t000.tif  01_GT/SEG/man_seg000.tif  01_GT/TRA/man_track000.tif  01_GT/TRA/man_track.txt
    01_ST/SEG/man_seg000.tif  01_RES/mask000.tif  01_RES/res_track.txt

Numbers have three digits or more, in masks and frames independently.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cytoforge.errors import UserError

# in the order in which they are trusted: (name, folder after the sequence, file stem, track file)
SOURCES = (
    ("GT/SEG", "_GT/SEG", "man_seg", None),
    ("ST/SEG", "_ST/SEG", "man_seg", None),
    ("GT/TRA", "_GT/TRA", "man_track", "man_track.txt"),
    ("RES", "_RES", "mask", "res_track.txt"),
)


@dataclass(frozen=True)
class Track:
    """One row of man_track.txt or res_track.txt: label L lives from frame B to frame E, descending from P (0: none)."""

    label: int
    begin: int
    end: int
    parent: int


@dataclass(frozen=True)
class Sequence:
    """One sequence of a movie folder; all mappings go from frame number to file, in the order of time."""

    name: str
    frames: Mapping[int, Path]
    masks: Mapping[str, Mapping[int, Path]]
    """every source of masks that has files, by its name in SOURCES, most trusted first"""
    tracks: Mapping[str, Path]
    """track files, by the name of their source"""

    @property
    def source(self) -> str | None:
        """The most trusted source whose masks cover every frame (of the others, if there are no frames), or None."""
        wanted = set(self.frames) or {number for masks in self.masks.values() for number in masks}
        return next((name for name, masks in self.masks.items() if wanted <= masks.keys()), None)


def is_movie(path: Path) -> bool:
    """Tell whether a folder holds sequences in CTC layout."""
    return bool(_sequence_names(path))


def read_sequences(path: Path, names: Iterable[str] = ()) -> tuple[Sequence, ...]:
    """List the sequences of a movie folder, or those named, in order; opens no image.

    Raises UserError for a sequence that is not there, or two files for one frame.
    """
    present = _sequence_names(path)
    missing = [name for name in names if name not in present]
    if missing:
        raise UserError(f"{path}: has no sequence {', '.join(missing)}; there is {', '.join(present) or 'none'}")
    return tuple(_read_sequence(path, name) for name in sorted(set(names)) or present)


def _sequence_names(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    names = set()
    for folder in path.iterdir():
        match = re.fullmatch(r"(\d{2,})(_GT|_ST|_RES)?", folder.name)
        if match and folder.is_dir() and (match[2] or _numbered(folder, "t")):
            names.add(match[1])
    return sorted(names)


def _read_sequence(path: Path, name: str) -> Sequence:
    masks, tracks = {}, {}
    for source, folder, stem, track_file in SOURCES:
        files = _numbered(path / f"{name}{folder}", stem)
        if files:
            masks[source] = files
        if track_file and (path / f"{name}{folder}" / track_file).is_file():
            tracks[source] = path / f"{name}{folder}" / track_file
    return Sequence(name, _numbered(path / name, "t"), masks, tracks)


def _numbered(folder: Path, stem: str) -> dict[int, Path]:
    """Map frame numbers to the files STEMnnn.tif of a folder, in order; empty when there is no such folder."""
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return found
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(stem + r"(\d{3,})\.tiff?", file.name, re.IGNORECASE)
        if match:
            if int(match[1]) in found:
                raise UserError(f"{file}: frame {int(match[1])} is also in {found[int(match[1])].name}; remove one")
            found[int(match[1])] = file
    return dict(sorted(found.items()))


def read_tracks(path: Path) -> tuple[Track, ...]:
    """Read a track file: whole numbers L B E P, one track a line, between tabs or spaces; empty lines are skipped.

    Raises UserError, naming the line, for anything else, for E < B, and for a label given twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore the file") from error
    tracks: dict[int, Track] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            track = Track(*map(int, line.split()))
        except (ValueError, TypeError):
            raise UserError(
                f"{path}, line {number}: {line.strip()!r} is not four whole numbers L B E P; mend it"
            ) from None
        if track.end < track.begin:
            raise UserError(f"{path}, line {number}: track {track.label} ends before it begins; mend it")
        if track.label in tracks:
            raise UserError(f"{path}, line {number}: track {track.label} is given twice; mend it")
        tracks[track.label] = track
    return tuple(tracks.values())
