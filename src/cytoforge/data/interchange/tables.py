"""Tables of cells as CSV: features with their units, and tracks for the tracks layer of napari."""

import contextlib
import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.files import atomic
from cytoforge.data.formats import MAX_BYTES
from cytoforge.data.movie import Track
from cytoforge.data.tracks import Calibration, Spots, linked
from cytoforge.errors import UserError
from cytoforge.metrics.cells import Cells

LENGTHS = {"y": 1, "x": 1, "area": 2, "diameter": 1, "perimeter": 1, "major_axis": 1, "minor_axis": 1, "nearest": 1}
"""Features measured in pixels, and the power of the pixel size in their unit"""
INNER = {"point_y", "point_x", "spot", "before"}
"""Columns of `metrics.cells.follow` that only other formats use"""
NAPARI = ("track_id", "t", "y", "x")
PARENT = "parent_track_id"
DEPTH = "z"
WRITTEN = {"um": "µm", "um2": "µm²", "mm2": "mm²", "px": "px", "px2": "px²", "megapixel": "megapixel"}
"""Units as people write them"""
ENDING = re.compile(rf"_((?:per_)?(?:{'|'.join(WRITTEN)}|degrees))$")
OTHER_NAMES = {"track_id": ("trackid", "track", "id"), "t": ("frame", "time"), PARENT: ("parent",)}
"""Names of these columns in other programs, in lower case"""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First letters by which a spreadsheet takes a text for a formula, and runs it"""


def feature_columns(cells: Iterable[str], calibration: Calibration) -> dict[str, tuple[str, float]]:
    """Return for each feature its column name, which ends in the unit if there is one, and its factor to that unit.

    The labels of cells that have a frame, too, are those of their tracks.
    """
    cells = tuple(cells)
    label = "track" if "frame" in cells else "label"
    size, length = calibration.length
    interval, time = calibration.time
    columns = {}
    for name in cells:
        if name in LENGTHS:
            power = LENGTHS[name]
            columns[name] = (f"{name}_{length}{power if power > 1 else ''}", size**power)
        elif name == "density":
            area = "mm2" if length == "um" else "megapixel"
            columns[name] = (f"density_per_{area}", 1e6 / size**2)
        elif name == "orientation":
            columns[name] = ("orientation_degrees", 1.0)
        elif name == "speed":
            columns[name] = (f"speed_{length}_per_{time}", size / interval)
        elif name == "age":
            columns[name] = (f"age_{time}{'s' if time == 'frame' else ''}", interval)
        elif name == "frame" and calibration.frame_interval is not None:
            columns[name] = ("frame", 1.0)
            columns["time"] = (f"time_{time}", interval)
        elif name not in INNER:
            columns[name] = (label if name == "label" else name, 1.0)
    return columns


def in_words(column: str) -> tuple[str, str]:
    """Return what a column is called, and its unit as people write it; "" where it has none."""
    found = ENDING.search(column)
    if found is None:
        return column.replace("_", " "), ""
    words = found[1].split("_")
    return column[: found.start()].replace("_", " "), " ".join(WRITTEN.get(word, word) for word in words)


def write_features(path: Path, frames: Iterable[Cells], calibration: Calibration) -> int:
    """Write one row per cell and frame, frame by frame in the order of time; return the number of rows.

    Numbers that are not ids or counts have six significant digits; nan becomes an empty field. Raises
    UserError when the file cannot be written.
    """
    return write_cells(path, (({}, cells, calibration) for cells in frames))


def write_cells(path: Path, tables: Iterable[tuple[Mapping[str, str], Cells, Calibration]]) -> int:
    """Write the cells of several images or frames as one table, each with texts by column and its own calibration.

    Columns are those of the first table, which may hold no cell. Numbers are written as write_features does, texts so
    that no spreadsheet takes them for formulas. Returns the number of rows; raises UserError when the file cannot be
    written.
    """
    rows = 0
    with (
        atomic(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        for number, (texts, cells, calibration) in enumerate(tables):
            columns, count = feature_columns(cells, calibration), len(cells["label"])
            if number == 0:
                writer.writerow([*map(harmless, texts), *(name for name, _ in columns.values())])
            values = [_texts(cells["frame" if name == "time" else name], by) for name, (_, by) in columns.items()]
            writer.writerows(zip(*([harmless(text)] * count for text in texts.values()), *values, strict=True))
            rows += count
    return rows


@contextlib.contextmanager
def _table(path: Path) -> Iterator[Any]:
    """Open a CSV that gets its name when it is complete; letters that UTF-8 lacks are written as \\udc80."""
    with atomic(path) as temporary, temporary.open("w", -1, "utf-8", "backslashreplace", "") as file:
        yield csv.writer(file, lineterminator="\n")


def write_rows(path: Path, rows: Sequence[Mapping[str, str | int | float]]) -> None:
    """Write rows that have the same columns as a table; numbers and texts as write_cells does."""
    with (
        atomic(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(harmless, rows[0] if rows else ()))
        for row in rows:
            writer.writerow(harmless(v) if isinstance(v, str) else _texts(np.array([v]), 1)[0] for v in row.values())


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe before it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _texts(values: NDArray[Any], factor: float) -> list[str]:
    if values.dtype.kind in "iu" and factor == 1:
        return [str(value) for value in values.tolist()]
    return ["" if np.isnan(value) else f"{value * factor:.6g}" for value in values.tolist()]


def write_napari(path: Path, cells: Cells, tracks: Sequence[Track]) -> None:
    """Write `track_id,t,y,x,parent_track_id`, sorted by track and frame, in pixels and frames; 0: no parent."""
    parents = {track.label: track.parent for track in tracks}
    order = np.lexsort((cells["frame"], cells["label"]))
    with _table(path) as writer:
        writer.writerow((*NAPARI, PARENT))
        for k in order.tolist():
            label = int(cells["label"][k])
            place = float(cells["point_y"][k]), float(cells["point_x"][k])
            writer.writerow((label, int(cells["frame"][k]), *place, parents[label]))


def read_napari(path: Path) -> Spots:
    """Read a table with the columns `track_id`, `t`, `y`, `x` and, if there, `parent_track_id`, in any order.

    Column names may be in upper case or be those in OTHER_NAMES. Further columns are ignored, except that `z` must not
    vary. An empty parent, one below 0 or one equal to the track means no parent; so does 0, unless a track 0 exists
    that can be the parent.

    Raises:
        UserError: for a missing column or number, several depths, a track that is twice in a frame or has two parents
            (with the line where possible), when 0 may mean a parent or none, and as `tracks.linked`.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is larger than {MAX_BYTES / 2**30:.0f} GiB; cut the tracks in parts")
    rows: dict[tuple[int, int], tuple[float, float]] = {}
    parents: dict[int, int] = {}
    empty = False  # whether some track marks a missing parent by another value than 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, (track, frame, y, x, parent) in _rows(path, file):
                if (track, frame) in rows:
                    raise UserError(f"{path}, line {line}: track {track} is in frame {frame} twice; remove one")
                rows[track, frame] = y, x
                if parent is None or parent < 0 or parent == track:
                    empty |= parent != 0
                elif parents.setdefault(track, parent) != parent:
                    raise UserError(
                        f"{path}, line {line}: track {track} has parents {parents[track]} and {parent}, but cells "
                        "never merge here; keep one"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); save the table anew") from error
    return _spots(path, rows, _without_zeros(path, rows, parents, empty))


def _without_zeros(
    path: Path, rows: Iterable[tuple[int, int]], parents: Mapping[int, int], empty: bool
) -> dict[int, int]:
    """Remove parents of 0 that mean none: all, unless another value means none (`empty`) and a track 0 exists."""
    last = max((frame for track, frame in rows if track == 0), default=None)
    daughters = {track for track, parent in parents.items() if parent == 0}
    if last is not None and daughters:
        if empty:
            return dict(parents)
        if min(frame for track, frame in rows if track in daughters) > last:  # else track 0 cannot be their mother
            raise UserError(
                f"{path}: parent 0 may be track 0 or none; leave the parent empty where there is none, or number "
                "tracks from 1"
            )
    return {track: parent for track, parent in parents.items() if parent != 0}


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, tuple[int, int, float, float, int | None]]]:
    reader = csv.DictReader(file)
    names = [(name or "").strip().lower() for name in reader.fieldnames or []]
    for name, others in OTHER_NAMES.items():
        found = next((names.index(other) for other in others if other in names), None)
        if name not in names and found is not None:
            names[found] = name
    missing = [name for name in NAPARI if name not in names]
    if missing and {"frame", "track", "generation"} <= {(name or "").lower() for name in reader.fieldnames or []}:
        raise UserError(
            f"{path}: is a table of features, which tells no tracks to import; give what cytoforge export MOVIE "
            "--format napari, trackmate or geff writes"
        )
    if missing and {"spot_source_id", "track_index", "position_x"} & set(names):
        raise UserError(
            f"{path}: is a table of TrackMate, which does not tell where cells divide; give the .xml that TrackMate's "
            "Save button writes"
        )
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; tracks for napari have {', '.join(NAPARI)}")
    unclear = [name for name in names if name.startswith("parent") and PARENT not in names]
    if unclear:
        raise UserError(f"{path}: has a column {unclear[0]}; call it {PARENT} if it holds tracks, else remove it")
    reader.fieldnames = names
    depth: float | None = None
    for row in reader:
        try:
            track, frame, parent = (_whole(row.get(name)) for name in ("track_id", "t", PARENT))
            if track is None or frame is None or frame < 0:
                raise ValueError
            z = float(row.get(DEPTH) or "nan")
            spot = track, frame, float(row["y"]), float(row["x"]), parent
        except (ValueError, TypeError, OverflowError):
            raise UserError(
                f"{path}, line {reader.line_num}: needs whole numbers as track_id and t, numbers as y and x; mend it"
            ) from None
        if z == z:  # not nan
            depth = z if depth is None else depth
            if z != depth:
                raise UserError(
                    f"{path}, line {reader.line_num}: lies at depth {z:g}, spots before it at {depth:g}, but masks are "
                    "flat; give the tracks of one plane, or of a projection with one z"
                )
        yield reader.line_num, spot


def _whole(text: str | None) -> int | None:
    """Parse a whole number, which may be written as 3.0; None if empty or nan; raises ValueError for anything else."""
    if text is None or not text.strip() or text.strip().lower() == "nan":
        return None
    number = int(text) if text.strip().lstrip("+-").isdigit() else float(text)
    if number != int(number) or abs(number) >= 2**62:
        raise ValueError(text)
    return int(number)


def _spots(path: Path, rows: Mapping[tuple[int, int], tuple[float, float]], parents: Mapping[int, int]) -> Spots:
    places = sorted(rows)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    links = []
    for k, (track, _) in enumerate(places):
        first.setdefault(track, k)
        last[track] = k
    links += [(k, k + 1) for k, (one, other) in enumerate(pairwise(places)) if one[0] == other[0]]
    for track, parent in parents.items():
        if parent not in last:
            raise UserError(f"{path}: the parent {parent} of track {track} is not in the table; add it or give 0")
        links.append((last[parent], first[track]))
    return linked(
        path,
        np.array([frame for _, frame in places], np.int64),
        np.array([rows[place] for place in places], np.float64).reshape(-1, 2),
        np.array(links, np.int64).reshape(-1, 2),
        np.array([track for track, _ in places], np.int64),
    )
