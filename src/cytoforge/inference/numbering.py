"""Labels that come by rows to cells numbered 1..N from the top, each in one piece, on disk."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from skimage.measure import label

from cytoforge.inference.row_files import RowFile
from cytoforge.inference.strips import STRIP_PIXELS, Labels, Pieces


def numbered(
    read: Callable[[int, int], Labels],
    shape: tuple[int, int],
    least: float,
    folder: Path,
    announce: Callable[[float], None] = lambda share: None,
) -> tuple[RowFile, int]:
    """Number the cells of labels of size `shape` (H, W) 1..N in the order in which rows of pixels meet them.

    Returns rows of uint16, or of uint32 if the ids need it, on disk in `folder`, and N. `read(top, bottom)` gives rows
    of the labels, with any ids. Resizing and seams leave some cells in pieces, whose pixels touch neither by sides nor
    by corners. The largest piece of a cell (the first of equal ones) is the cell; another is a cell of its own if it
    has at least `least` pixels, and else background. `announce` is called with the share done. Raises UserError when
    the disk is full.
    """
    height, width = shape
    step = max(STRIP_PIXELS // width, 1)
    strips = [(top, min(top + step, height)) for top in range(0, height, step)]
    found = _Parts()
    # rows are written to files: on a full disk a memory map would end the program instead of raising an error
    with RowFile(folder / "pieces", width, np.int32) as pieces, ExitStack() as failing:
        for top, bottom in strips:
            pieces.append(found.add(read(top, bottom)))
            announce(0.8 * bottom / height)
        number = found.numbers(least)
        count = int(number.max())
        dtype = np.uint32 if count > np.iinfo(np.uint16).max else np.uint16
        result = failing.enter_context(RowFile(folder / "mask", width, dtype))
        for top, bottom in strips:
            result.append(number[pieces.rows(top, bottom)])
            announce(0.8 + 0.2 * bottom / height)
        failing.pop_all()  # the caller closes it
    return result, count


class _Parts:
    """The connected pieces of the cells of an image, found strip by strip."""

    def __init__(self) -> None:
        self._pieces = Pieces()
        self._areas, self._cells = [np.zeros(1, np.int64)], [np.zeros(1, np.int32)]
        self._last: tuple[Labels, Labels] | None = None

    def add(self, labels: Labels) -> Labels:
        """Take the next rows (h, W); return the numbers of their pieces, in the order of their first pixels."""
        pieces: Labels = label(labels, connectivity=2, background=0).astype(np.int32)
        areas = np.bincount(pieces.ravel())
        cells = np.zeros(areas.size, np.int32)
        cells[pieces.ravel()] = labels.ravel()  # all pixels of a piece write the same id
        self._areas.append(areas[1:])
        self._cells.append(cells[1:])
        pieces[pieces > 0] += np.int32(self._pieces.add(areas.size - 1))
        if self._last is not None:
            self._join(*self._last, labels[0], pieces[0])
        self._last = labels[-1].copy(), pieces[-1].copy()
        return pieces

    def numbers(self, least: float) -> Labels:
        """Return the table from pieces to cells 1..N, in the order of their first pixels, or to 0."""
        first = self._pieces.table()
        area = np.bincount(first, np.concatenate(self._areas))
        (whole,) = np.nonzero(area)  # pieces that are no part of an earlier one
        cell = np.concatenate(self._cells)[whole]
        order = np.lexsort((whole, -area[whole], cell))
        _, largest = np.unique(cell[order], return_index=True)
        keep = (area > 0) & (area >= least)
        keep[whole[order[largest]]] = True
        table: Labels = np.where(keep, np.cumsum(keep), 0).astype(np.int32)[first]
        return table

    def _join(self, above: Labels, pieces_above: Labels, below: Labels, pieces_below: Labels) -> None:
        """Make pieces one that touch across a seam, given the rows (W,) on both sides of it."""
        width = above.size
        for shift in (-1, 0, 1):
            here = slice(max(0, -shift), width - max(0, shift))
            there = slice(max(0, shift), width - max(0, -shift))
            same = (above[here] == below[there]) & (above[here] > 0)
            pairs = np.stack([pieces_above[here][same], pieces_below[there][same]], axis=1)
            changed = np.ones(len(pairs), bool)
            changed[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
            for pair in set(map(tuple, pairs[changed].tolist())):
                self._pieces.join(*pair)
