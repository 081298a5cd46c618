"""The mask of one image in work: every edit is on disk before it is confirmed, and can be taken back."""

import base64
import json
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells import edits
from cytoforge.cells.edits import Change
from cytoforge.cells.labels import dense
from cytoforge.cells.outlines import fill
from cytoforge.data.images import read_labels, write_labels
from cytoforge.errors import UserError
from cytoforge.studio.journal import Outdated, Soon, append_line, put_aside, read_lines
from cytoforge.studio.pictures import room

KEPT = 2**28  # bytes of edits that can be taken back; the oldest ones are forgotten first
LARGEST_IN_PNG = 2**16 - 1  # number of a cell
MAX_POINTS = 20_000  # of a stroke
MAX_RADIUS = 500  # px of a brush


class Draft:
    """Labels int32 (H, W) of an image, with a revision number that grows with each edit.

    An edit is first appended to a journal beside the mask file and synchronised to disk; the file is written a moment
    after the last edit, and the journal then emptied. Opening reads the file and repeats what the journal holds, so
    that a kill loses nothing. Repeating edits that the file holds already changes nothing, as each gives the values of
    a box. `path` is the mask file (.png or .tif), which need not exist yet; a PNG becomes a TIFF when a number is too
    large for it. Thread-safe.
    """

    def __init__(self, path: Path, journal: Path, shape: tuple[int, int]) -> None:
        """`shape`: height and width of the image; raises UserError when the mask or its journal does not fit."""
        self.path, self.journal = path, journal
        self.lock = threading.RLock()
        self.labels = room(shape, np.dtype(np.int32))
        self.revision = time.time_ns() // 10**6
        """another one at each opening, so that no page of before edits what it has not seen"""
        self._undo: list[Change] = []
        self._redo: list[Change] = []
        self._soon = Soon(self._save)
        self._closed = False
        if path.exists():
            stored = read_labels(path)
            if stored.shape != shape:
                raise UserError(
                    f"{path}: is {stored.shape[0]} x {stored.shape[1]} pixels, its image {shape[0]} x {shape[1]}"
                )
            self.labels[...] = stored
        changes, bad = _read(journal, shape)
        for change in changes:
            change.apply(self.labels)
        self.note = put_aside(journal, bad, "look at the mask") if bad else None
        """one sentence on edits that could not be read"""
        if journal.exists():
            self._write()
        self._areas: Counter[int] = Counter()  # of each cell, in pixels
        self._count(self.labels, 1)

    @property
    def cells(self) -> int:
        """Number of cells."""
        with self.lock:
            return sum(area > 0 for cell, area in self._areas.items() if cell)

    @property
    def trouble(self) -> str | None:
        """Why the mask file could not be written, until it is."""
        return self._soon.trouble

    @property
    def undoable(self) -> tuple[bool, bool]:
        """Whether there is an edit to take back, and one to repeat."""
        return bool(self._undo), bool(self._redo)

    def edit(self, wanted: dict[str, Any], revision: int) -> Change | None:
        """Make an edit, as the page describes it, on the state of this revision; return what has changed.

        Raises Outdated when the mask has another revision, and ValueError for an edit that is none.
        """
        with self.lock:
            self._expect(revision)
            return self._done(edited(self.labels, wanted))

    def undo(self, revision: int) -> Change | None:
        """Take the last edit back; raises Outdated as `edit`."""
        return self._step(self._undo, self._redo, revision)

    def redo(self, revision: int) -> Change | None:
        """Repeat the edit that was taken back last; raises Outdated as `edit`."""
        return self._step(self._redo, self._undo, revision)

    def replace(self, labels: NDArray[np.integer[Any]]) -> Change | None:
        """Put other labels in the place of all, as an edit that can be taken back."""
        with self.lock:
            return self._done(edits.replace(self.labels, labels.astype(np.int32)))

    def _done(self, change: Change | None) -> Change | None:
        """Make an edit, unless it changes nothing, so that it can be taken back; return it."""
        if change is not None:
            self._commit(change)
            self._undo.append(change)
            self._redo.clear()
            self._forget()
        return change

    def save(self) -> None:
        """Write the mask file if edits are not in it yet, and empty the journal.

        Raises UserError, and tries again later, where that fails.
        """
        with self.lock:
            self._soon.now()

    def _save(self) -> None:
        with self.lock:
            if self.journal.exists() and not self._closed:
                self._write()

    def close(self) -> None:
        """Write the mask file and take no more edits: whoever still has this draft opens the mask anew."""
        with self.lock:
            try:
                self.save()
            finally:  # the journal has what could not be written
                self._closed = True
                self._soon.stop()

    def move(self, path: Path) -> None:
        """Keep the mask in another file from now on."""
        with self.lock:
            former, self.path = self.path, path
            self._write()
            if former != path:
                former.unlink(missing_ok=True)

    def _write(self) -> None:
        if self.path.suffix == ".png" and self.labels.max() > LARGEST_IN_PNG:
            self.path = self.path.with_suffix(".tif")
        write_labels(self.path, self.labels)
        if self.path.suffix == ".tif":
            self.path.with_suffix(".png").unlink(missing_ok=True)  # of before its numbers had grown
        self.journal.unlink(missing_ok=True)

    def _expect(self, revision: int) -> None:
        if self._closed or revision != self.revision:
            raise Outdated(f"the mask has changed since (revision {self.revision}, not {revision})")

    def _step(self, taken: list[Change], kept: list[Change], revision: int) -> Change | None:
        with self.lock:
            self._expect(revision)
            if not taken:
                return None
            change = taken[-1].inverse
            self._commit(change)
            taken.pop()
            kept.append(change)
            return change

    def _commit(self, change: Change) -> None:
        """Write a change to the journal, make it, and have the file written soon."""
        append_line(self.journal, _line(change))
        change.apply(self.labels)
        self._count(change.before, -1)
        self._count(change.after, 1)
        self.revision += 1
        self._soon.start()

    def _count(self, labels: NDArray[np.int32], sign: int) -> None:
        """Add the areas of the cells of some labels to those known, or subtract them."""
        cells, numbers = dense(labels)
        counts = np.bincount(numbers.ravel(), minlength=len(cells))
        for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
            self._areas[cell] += sign * count

    def _forget(self) -> None:
        while len(self._undo) > 1 and sum(2 * change.after.nbytes for change in self._undo) > KEPT:
            self._undo.pop(0)


def edited(labels: NDArray[np.int32], wanted: dict[str, Any]) -> Change | None:
    """Return what an edit of the page changes: {"tool": NAME, "points": [[x, y], ...], "radius": r}.

    x and y are in pixels from the top left corner of the image. The brush goes on with the cell in which it begins, and
    an outline is always a new cell. Raises ValueError for what is no such edit.
    """
    tool, radius = wanted.get("tool"), wanted.get("radius", 1.5)
    given = wanted.get("points")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_POINTS:
        raise ValueError(f"an edit has 1 to {MAX_POINTS} points")
    try:
        points = np.array(given, np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError("the points of an edit are numbers") from error
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all() or np.abs(points).max() > 1e7:
        raise ValueError("the points of an edit are pairs of numbers within reach")
    if not isinstance(radius, int | float) or not 0 < radius <= MAX_RADIUS:
        raise ValueError(f"the radius of a brush is above 0 and at most {MAX_RADIUS}")
    line, shape = points[:, ::-1], (labels.shape[0], labels.shape[1])
    if tool == "merge":
        return edits.merge(labels, line, radius)
    if tool == "split":
        return edits.split(labels, line)
    region = fill([line], shape) if tool == "outline" else edits.stroke(line, radius, shape)
    if not region.mask.size:
        return None
    if tool in ("brush", "outline"):
        begun = 0 if tool == "outline" else _at(labels, line[0])
        return edits.draw(labels, region, begun or next(edits.free_numbers(labels)))
    others = {"eraser": edits.erase, "delete": edits.delete, "fill": edits.fill_holes}
    if not isinstance(tool, str) or tool not in others:
        raise ValueError(f"there is no tool {tool!r:.40}")
    return others[tool](labels, region)


def _at(labels: NDArray[np.int32], point: NDArray[np.float64]) -> int:
    """Return the number of the cell at a point y, x; 0 outside of the image."""
    y, x = np.floor(point).astype(int)
    return int(labels[y, x]) if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1] else 0


def _line(change: Change) -> dict[str, Any]:
    """Return a change as a line of a journal holds it."""
    content = base64.b64encode(zlib.compress(np.ascontiguousarray(change.after, "<i4").tobytes(), 1)).decode()
    return {"top": change.top, "left": change.left, "shape": change.after.shape, "labels": content}


def _read(journal: Path, shape: tuple[int, int]) -> tuple[list[Change], int]:
    """Return the changes of a journal, and how many lines hold none."""
    changes, bad = [], 0
    for line in read_lines(journal):
        try:
            changes.append(_change(json.loads(line), shape))
        except (ValueError, LookupError, TypeError, RecursionError, zlib.error):
            bad += 1
    return changes, bad


def _change(stored: dict[str, Any], shape: tuple[int, int]) -> Change:
    """Return the change that a line of a journal holds, for an image of this shape; raises as Python where it is none.

    That is ValueError, LookupError, TypeError or zlib.error.
    """
    top, left, (height, width) = stored["top"], stored["left"], stored["shape"]
    if not all(type(number) is int for number in (top, left, height, width)):
        raise TypeError("places are whole numbers")
    if min(top, left, height - 1, width - 1) < 0 or top + height > shape[0] or left + width > shape[1]:
        raise ValueError("the change is not in the image")
    after = np.frombuffer(zlib.decompress(base64.b64decode(stored["labels"])), "<i4").reshape(height, width)
    if after.min() < 0:
        raise ValueError("no cell has a negative number")
    return Change(top, left, after, after.astype(np.int32))
