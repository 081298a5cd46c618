"""Movie folders in the layout of the Cell Tracking Challenge (CTC): reading and writing frames, masks, tracks.

    01/t000.tif  01_GT/SEG/man_seg000.tif  01_GT/TRA/man_track000.tif  01_GT/TRA/man_track.txt
    01_ST/SEG/man_seg000.tif  01_RES/mask000.tif  01_RES/res_track.txt

Frame numbers have three digits or more, and masks and frames may differ in this. Reading is tolerant; cytoforge
itself writes 16-bit labels, and tracks that agree with the masks.
"""

import io
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from cytoforge.cells.labels import dense, renumbered, unused
from cytoforge.data.formats import image_files
from cytoforge.data.images import Mark, encode_image, encode_labels, read_labels
from cytoforge.data.label_check import check_label_files
from cytoforge.data.left_out import left_out as left_out_of
from cytoforge.data.writer import INFO, ReplacingWriter, check_target, goes_on, made_by, output_folder, read_info
from cytoforge.errors import UserError
from cytoforge.metrics.segmentation import overlap
from cytoforge.progress import counted
from cytoforge.tracking.assignment import first_come
from cytoforge.tracking.lineage import Track as Track

NAMED = 3  # number of items that a message names
GREATEST = np.iinfo(np.uint16).max  # greatest label in a movie folder that cytoforge writes
# most trusted first: (name, folder suffix after the sequence, file stem, track file)
SOURCES = (
    ("GT/SEG", "_GT/SEG", "man_seg", None),
    ("ST/SEG", "_ST/SEG", "man_seg", None),
    ("GT/TRA", "_GT/TRA", "man_track", "man_track.txt"),
    ("RES", "_RES", "mask", "res_track.txt"),
)
FRAMES = ("frames", "", "t", None)
# low-resolution frames of a first stage, which a second stage enlarged; CTC programs ignore this folder
FIRST_STAGE = ("first stage", "_LOW", "t", None)
WRITTEN = (FRAMES, FIRST_STAGE, *SOURCES)


@dataclass(frozen=True)
class Sequence:
    """One sequence of a movie folder; frames are mapped from frame number to file, in the order of time."""

    name: str
    frames: Mapping[int, Path]
    masks: Mapping[str, Mapping[int, Path]]
    """masks by frame number, for every source with files, by its name in SOURCES; most trusted first"""
    tracks: Mapping[str, Path]
    """track files, by the name of their source"""

    @property
    def source(self) -> str | None:
        """The most trusted source whose masks cover every frame (without frames: every mask number), or None."""
        wanted = set(self.frames) or {number for masks in self.masks.values() for number in masks}
        return next((name for name, masks in self.masks.items() if wanted <= masks.keys()), None)

    @property
    def track_source(self) -> str | None:
        """The most trusted source with a track file, or None."""
        return next((name for name, *_ in SOURCES if name in self.tracks), None)

    def tracked(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield frame number and labels int32 (H, W), with the ids of the track file, in the order of time.

        Raises UserError without tracks or masks, and as read_labels.
        """
        for number in self.tracked_frames():
            yield number, self.read_tracked(number)

    def tracked_frames(self) -> tuple[int, ...]:
        """Return the numbers of the frames whose cells have track ids; raises UserError without tracks or masks."""
        if self.track_source is None:
            raise UserError(f"sequence {self.name}: has no man_track.txt or res_track.txt; track its cells first")
        markers = self.masks.get(self.track_source)
        masks = self.masks[self.source] if self.source else markers
        if masks is None:
            raise UserError(f"sequence {self.name}: has tracks but no masks; add them")
        return tuple(number for number in masks if markers is None or number in markers)

    def check_labels(self, *, binary: bool = False) -> None:
        """Raise UserError when the masks in use, or the markers, are not label images; see check_label_files."""
        for source in dict.fromkeys(name for name in (self.source, self.track_source) if name in self.masks):
            check_label_files(list(self.masks[str(source)].values()), binary=binary)

    def read_tracked(self, number: int) -> np.ndarray:
        """Read the labels int32 (H, W) of one of `tracked_frames`.

        If the masks in use are not those of the tracks, each cell gets the id of the marker in it (`relabelled`).
        Raises UserError where masks and markers differ in size, and as read_labels.
        """
        sources = dict.fromkeys(name for name in (self.source, self.track_source) if name and name in self.masks)
        file, *marked = [self.masks[name][number] for name in sources]
        labels = read_labels(file)
        if not marked:
            return labels
        markers = read_labels(marked[0])
        if markers.shape != labels.shape:
            raise UserError(f"{marked[0]}: has another size than {file}; export both at the size of the frame")
        return relabelled(labels, markers)


def is_movie(path: Path) -> bool:
    """Tell whether a folder holds sequences in CTC layout."""
    return bool(_sequence_names(path))


def movie_of(path: Path) -> Path | None:
    """Return the movie folder that contains `path` as part of a sequence, such as 01_GT; None if there is none."""
    part = re.fullmatch(r"\d+(_(GT|ST|RES))?", path.name)
    return path.parent if part and not is_movie(path) and is_movie(path.parent) else None


def no_movie(
    path: Path, like: str = "01/t000.tif, 01_ST/SEG/man_seg000.tif ...", remedy: str = "give one"
) -> UserError:
    """Return the error for a path that is no movie folder; for a part of one it names the whole movie."""
    if whole := movie_of(path):
        return UserError(f"{path}: is a part of the movie {whole}; give that folder")
    if path.is_file() or image_files(path):
        what = "a file" if path.is_file() else "a folder of images"
        makes = f"cytoforge import movie {path} --out MOVIE makes one of its frames"
        return UserError(f"{path}: is no movie folder ({like}) but {what}; {makes}, give that")
    return UserError(f"{path}: is no movie folder ({like}); {remedy}")


def read_sequences(path: Path, names: Iterable[str] = ()) -> tuple[Sequence, ...]:
    """Return the sequences of a movie folder, or only those in `names`, in order; opens no image.

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


def left_out(path: Path, names: Iterable[str] = ()) -> list[str]:
    """Return one sentence for each kind of file in a movie folder, or in the sequences `names`, that is not read."""
    notes = []
    for sequence in read_sequences(path, names):
        for kind, folder, stem, track_file in (FRAMES, *SOURCES):
            files = sequence.frames if kind == FRAMES[0] else sequence.masks.get(kind, {})
            place = path / f"{sequence.name}{folder}"
            notes += left_out_of(place, {*files.values(), place / (track_file or stem)}, named=f"{stem}000.tif ...")
        truth = [path / f"{sequence.name}{folder}" for _, folder, *_ in SOURCES]
        for owner in dict.fromkeys(one.parent for one in truth if one.parent != path):
            notes += left_out_of(owner, truth, parts=True, named="SEG/man_seg000.tif or TRA/man_track000.tif ...")
    known = [folder for folder in path.iterdir() if re.fullmatch(r"\d{2,}((_GT|_ST|_RES|_LOW)?|\.gif)", folder.name)]
    return notes + left_out_of(path, known, parts=True, named="01/t000.tif, 01_ST/SEG/man_seg000.tif ...")


def read_tracks(path: Path) -> tuple[Track, ...]:
    """Read a track file: each line has the whole numbers L B E P, separated by tabs or spaces; empty lines are skipped.

    Raises UserError, naming the line, for anything else, for L < 1, B < 0, P < 0 or E < B, and for a repeated label.
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
        if track.label < 1 or track.begin < 0 or track.parent < 0:
            raise UserError(
                f"{path}, line {number}: {line.strip()!r} has a label below 1, or a frame or parent below 0; mend it"
            )
        if track.end < track.begin:
            raise UserError(f"{path}, line {number}: track {track.label} ends before it begins; mend it")
        if track.label in tracks:
            raise UserError(f"{path}, line {number}: track {track.label} is given twice; mend it")
        tracks[track.label] = track
    return tuple(tracks.values())


def relabelled(labels: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Give each cell of labels (H, W) the id of the marker in it; both are int32, 0 background.

    If a cell contains several markers, the marker that shares most pixels with it counts. If several cells share a
    marker, the cell with the largest part of it gets the id, and the others are left out, as are cells without a
    marker. A marker without a cell is itself used as a cell. Raises ValueError when the sizes differ.
    """
    table = overlap(markers, labels)
    order = np.argsort(-table.intersection, kind="stable")
    cell, marker = table.pair_prediction[order], table.pair_truth[order]
    chosen = first_come(cell, marker)
    new = np.zeros(table.prediction_ids.size + 1, np.int32)
    new[1 + cell[chosen]] = table.truth_ids[marker[chosen]]
    result: np.ndarray = new[dense(labels)[1]]
    lone = np.delete(table.truth_ids, marker[chosen])
    return np.where(np.isin(markers, lone) & (result == 0), markers, result) if lone.size else result


def tracks_of(cells: Mapping[int, Collection[int]]) -> tuple[tuple[Track, ...], dict[tuple[int, int], int]]:
    """Return the tracks of cell ids given by frame, and, by (frame, id), the track labels that differ from the ids.

    A track goes from the first frame of an id to its last. After a gap, a new track begins, whose parent is the track
    before the gap.
    """
    frames: dict[int, list[int]] = {}
    for frame in sorted(cells):
        for cell in cells[frame]:
            frames.setdefault(int(cell), []).append(frame)
    tracks: list[Track] = []
    renamed: dict[tuple[int, int], int] = {}
    free = unused(frames)
    for cell, seen in sorted(frames.items()):
        tracks.append(Track(cell, seen[0], seen[0], 0))
        for frame in seen[1:]:
            if frame > tracks[-1].end + 1:
                tracks.append(Track(next(free), frame, frame, tracks[-1].label))
            tracks[-1] = tracks[-1]._replace(end=frame)
            if tracks[-1].label != cell:
                renamed[frame, cell] = tracks[-1].label
    return tuple(tracks), renamed


class Inconsistency(NamedTuple):
    """A contradiction within tracks, or between tracks and masks, and its remedy."""

    severity: Literal["error", "warning"]
    what: str
    remedy: str


def inconsistencies(tracks: Iterable[Track], cells: Mapping[int, Collection[int]]) -> list[Inconsistency]:
    """Return the contradictions between tracks and the ids in the masks of each frame, and among the tracks."""
    known = {track.label: track for track in tracks}
    seen: dict[int, list[int]] = {label: [] for label in known}
    untold: list[tuple[int, int]] = []
    for frame in sorted(cells):
        for cell in {int(cell) for cell in cells[frame]}:
            track = known.get(cell)
            if track and track.begin <= frame <= track.end:
                seen[cell].append(frame)
            else:
                untold.append((cell, frame))
    inside, outside = [], list[tuple[int, range]]()  # ranges, not sets of frames: a mistyped end may be huge
    for label, track in sorted(known.items()):
        frames = seen[label] or [track.end + 1]
        inside += [(label, frame) for frame in gaps(frames)]
        outside += [(label, range(track.begin, frames[0])), (label, range(frames[-1] + 1, track.end + 1))]
    places = ((label, frame) for label, span in outside for frame in span)
    found = []
    for missing, count, what, remedy in (
        (
            inside,
            len(inside),
            "missing inside a track",
            "draw the cell there, or go on after the gap with a new track of that parent",
        ),
        (
            list(itertools.islice(places, NAMED)),
            sum(len(span) for _, span in outside),
            "in the track file without a mask",
            "draw the cell there, or cut the track",
        ),
        (sorted(untold), len(untold), "in the masks without a track", "add the track, or remove the cell"),
    ):
        if missing:
            where = [f"{cell} in frame {frame}" for cell, frame in missing[:NAMED]]
            found.append(Inconsistency("error", f"{some('cell', where, count)} {what}", remedy))
    return found + _unlikely_parents(known)


def _unlikely_parents(known: Mapping[int, Track]) -> list[Inconsistency]:
    kin: dict[int, list[Track]] = {}
    for track in known.values():
        if track.parent:
            kin.setdefault(track.parent, []).append(track)
    orphans = [f"{track.label} of {parent}" for parent, kids in kin.items() if parent not in known for track in kids]
    early = [
        f"{track.label} of {parent}"
        for parent, kids in kin.items()
        for track in kids
        if parent in known and track.begin <= known[parent].end
    ]
    litters = [str(parent) for parent, kids in kin.items() if len(kids) > 2]
    late = [
        str(parent)
        for parent, kids in kin.items()
        if len(kids) > 1 and parent in known and any(track.begin > known[parent].end + 1 for track in kids)
    ]
    found: list[Inconsistency] = []
    if orphans:
        what = f"{some('track', orphans)} whose parent has no track"
        found.append(Inconsistency("error", what, "add the parent's track, or give 0 as parent"))
    if early:
        what = f"{some('track', early)} that do not begin after their parent's end"
        found.append(Inconsistency("error", what, "end the parent in the frame before its daughters begin"))
    if litters:
        what = f"{some('track', litters)} with more than two daughters"
        found.append(Inconsistency("warning", what, "right only if a cell divided into several; else mend the parents"))
    if late:
        what = f"{some('mother', late)} whose daughters begin later than in the next frame"
        found.append(Inconsistency("warning", what, "right only if they were out of sight; else let both begin there"))
    return found


def gaps(numbers: Collection[int]) -> list[int]:
    """Return the numbers missing between the least and the greatest of `numbers`, in order."""
    return sorted(set(range(min(numbers, default=0), max(numbers, default=0))) - set(numbers))


def some(noun: str, things: Series[Any], count: int | None = None) -> str:
    """Count and name things: 12 frames (3, 4, 5 ...); `count` is their number if `things` are only the first ones."""
    count = len(things) if count is None else count
    names = ", ".join(map(str, things[:NAMED])) + (" ..." if count > NAMED else "")
    return f"{counted(count, noun)} ({names})"


class MovieWriter(ReplacingWriter):
    """Writer of a movie folder, frame by frame; an interrupted run with the same content is continued.

    `info` is written to dataset.json, as in DatasetWriter. `overwrite` replaces only files that the same command wrote,
    which are listed in `folder`; `whole` leaves them until `replacing` has all new ones. Raises UserError as
    DatasetWriter, before anything is removed.
    """

    def __init__(
        self,
        path: Path,
        info: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        whole: bool = False,
        sources: Iterable[tuple[str, str]] = (),
        beside: Collection[str] = (),
    ) -> None:
        """Announce what will be written, as far as known: `sources` (sequence, source) and other files, `beside`."""
        self.path = path
        self._info = json.loads(json.dumps({"written_by": "cytoforge", **(info or {})}))
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._cells: dict[tuple[str, str], dict[int, np.ndarray]] = {}
        self._short: dict[str, dict[int, int]] = {}
        self.folder = output_folder(path, self._info)
        sequences = {*_sequence_names(path), *(folder.name[: -len("_LOW")] for folder in path.glob("*_LOW"))}
        former = read_info(path)
        if sequences and former.get("written_by") != "cytoforge" and (former or not self.folder.known):
            raise UserError(f"{path}: holds a movie that cytoforge did not write; choose another folder")
        check_target(path, made_by(self._info), overwrite=overwrite)
        wanted = {**self._info, "complete": False}
        goes = goes_on(path, former, wanted, begun=bool(sequences), overwrite=overwrite)
        self.folder.refuse_unlisted([INFO, *beside, *(name for source in sources for name in self._present(*source))])
        self._begin(whole=whole, goes=goes)

    def _present(self, sequence: str, source: str) -> list[str]:
        """Return the names of files that are read as frames, masks or tracks of a source."""
        _, folder, stem, track_file = _layout(source)
        names = [file.name for file in _numbered(self.path / f"{sequence}{folder}", stem).values()]
        return [f"{sequence}{folder}/{name}" for name in (*names, *([track_file] if track_file else []))]

    def has(self, sequence: str, source: str, number: int) -> bool:
        """Tell whether the frame or mask exists already, from an interrupted run."""
        return self.file(sequence, source, number).exists()

    def has_tracks(self, sequence: str, source: str) -> bool:
        """Tell whether the track file exists; it is written last, so the source is then complete."""
        return self._track_file(sequence, source).exists()

    def add_frame(
        self, sequence: str, number: int, image: np.ndarray, mark: Mark | None = None, source: str = FRAMES[0]
    ) -> None:
        """Write an image (C, H, W) of the movie or of FIRST_STAGE; raises ValueError unless all have the same size."""
        self._agree(f"{sequence}{_layout(source)[1]}", image.shape[1:])
        file = self.file(sequence, source, number)
        self.folder.write(self._name(file), encode_image(file, image, mark))

    def remove_frame(self, sequence: str, number: int, source: str) -> None:
        """Delete an image that this command wrote."""
        self.folder.remove(self._name(self.file(sequence, source, number)))

    def file(self, sequence: str, source: str, number: int) -> Path:
        """Return the path of the frame or mask, whether it exists or not."""
        _, folder, stem, _ = _layout(source)
        return self.path / f"{sequence}{folder}" / f"{stem}{number:03d}.tif"

    def announce(self, sequence: str, labels: Collection[int]) -> str | None:
        """Announce all labels and parents of a sequence before its masks are added, as some may exceed 16 bits.

        In that case masks and tracks are written with labels renumbered to 1..N in the same order, and a sentence that
        says so is returned, else None. Raises UserError when there are more labels than 16 bits allow.
        """
        known = sorted(set(labels) - {0})
        if not known or known[-1] <= GREATEST:
            return None
        where = f"{self.path}: sequence {sequence}"
        if len(known) > GREATEST:
            raise UserError(f"{where}: has {len(known)} cells or tracks, a movie holds {GREATEST}; cut it in parts")
        self._short[sequence] = {label: number for number, label in enumerate(known, 1)}
        return f"{where}: ids reach {known[-1]} and 16 bits hold {GREATEST}, so they become 1 to {len(known)} in order"

    def add_masks(self, sequence: str, source: str, number: int, labels: np.ndarray, mark: Mark | None = None) -> None:
        """Write labels (H, W) of one of SOURCES; raises ValueError as add_frame, UserError for ids above 65535."""
        self._agree(sequence, labels.shape)
        file = self.file(sequence, source, number)
        labels = renumbered(labels, self._short.get(sequence, {}), keep=True)
        if labels.max(initial=0) > GREATEST:
            raise UserError(f"{file}: a movie holds ids up to {GREATEST}, these reach {labels.max()}; cut it in parts")
        self.folder.write(self._name(file), encode_labels(file, labels, mark))
        self._cells.setdefault((sequence, source), {})[number] = np.setdiff1d(labels, [0])

    def add_tracks(self, sequence: str, source: str, tracks: Iterable[Track]) -> None:
        """Write the track file of GT/TRA or RES, after all masks.

        Raises ValueError when the tracks contradict the masks or each other, or for another source.
        """
        file, short = self._track_file(sequence, source), self._short.get(sequence, {})
        rows = sorted(
            row._replace(label=short.get(row.label, row.label), parent=short.get(row.parent, row.parent))
            for row in tracks
        )
        cells = self._cells.setdefault((sequence, source), {})
        for number, mask in _numbered(self.folder.path / self._name(file.parent), _layout(source)[2]).items():
            if number not in cells:
                cells[number] = np.setdiff1d(read_labels(mask), [0])
        wrong = [problem.what for problem in inconsistencies(rows, cells) if problem.severity == "error"]
        if wrong or len({row.label for row in rows}) < len(rows):
            raise ValueError(
                f"{file}: tracks contradict the masks or each other: {'; '.join(wrong) or 'a label twice'}"
            )
        text = "".join(f"{row.label} {row.begin} {row.end} {row.parent}\n" for row in rows)
        self.folder.write(self._name(file), text.encode())

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _agree(self, sequence: str, size: tuple[int, ...]) -> None:
        if self._sizes.setdefault(sequence, size) != size:
            raise ValueError(f"sequence {sequence} has frames of {self._sizes[sequence]} pixels, got {size}")

    def _track_file(self, sequence: str, source: str) -> Path:
        _, folder, _, name = _layout(source)
        if name is None:
            raise ValueError(f"tracks belong to GT/TRA or RES, not to {source}")
        return self.path / f"{sequence}{folder}" / name


def _layout(source: str) -> tuple[str, str, str, str | None]:
    return next(layout for layout in WRITTEN if layout[0] == source)


def first_stage(path: Path, sequence: str) -> dict[int, Path]:
    """Return the frames of a sequence before they were enlarged, by number; none where it was painted in one stage."""
    _, folder, stem, _ = FIRST_STAGE
    return _numbered(path / f"{sequence}{folder}", stem)


def film(path: Path, sequence: str) -> Path:
    """Return the path of the film of a sequence, which is for viewing only."""
    return path / f"{sequence}.mp4"


def encode_gif(frames: Iterable[np.ndarray], colours: np.ndarray, milliseconds: int = 100) -> bytes:
    """Return frames uint8 (H, W), indices into colours uint8 (256, 3), as the bytes of a looping GIF for viewing."""
    pictures = []
    for frame in frames:
        pictures.append(Image.fromarray(frame, "P"))
        pictures[-1].putpalette(colours.tobytes())
    content = io.BytesIO()
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0)
    return content.getvalue()
