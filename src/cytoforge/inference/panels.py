"""Label images too large for memory: rows on disk, and panels of columns that are decoded one after another.

A wide image is cut into panels side by side, so that memory does not grow with its width. Neighbours have decoded the
columns around their border both, and pieces of one cell are joined there as between strips (`inference.strips`).
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from cytoforge.errors import UserError
from cytoforge.inference.strips import MARGIN, STRIP_PIXELS, Floats, Labels, Pieces, restored_rows, same_cells

PANEL = 8192  # px at the run's scale: wider images are cut into panels of at most this width


class RowFile:
    """Rows of one width on disk, compressed: appended from top to bottom, read by ranges; a context manager."""

    def __init__(self, path: Path, width: int, dtype: Any) -> None:
        self.path, self.width, self.dtype, self.height = path, width, np.dtype(dtype), 0
        self._file = path.open("w+b")
        self._blocks: list[tuple[int, int, int]] = []  # first row, place in the file, bytes
        self._held: dict[int, NDArray[Any]] = {}  # the blocks read last, by number

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (h, width) below the others; raises UserError when the disk is full."""
        content = imagecodecs.zstd_encode(np.ascontiguousarray(rows, self.dtype).tobytes(), level=1)
        place = sum(self._blocks[-1][1:]) if self._blocks else 0
        try:
            self._file.seek(place)
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); make room, or give another --out"
            ) from error
        self._blocks.append((self.height, place, len(content)))
        self.height += rows.shape[0]

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Return rows top..bottom as (bottom - top, width)."""
        first, last = (bisect_right(self._blocks, (row, np.inf)) - 1 for row in (top, bottom - 1))
        parts = []
        for number in range(first, last + 1):
            start = self._blocks[number][0]
            parts.append(self._block(number)[max(top - start, 0) : bottom - start])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _block(self, number: int) -> NDArray[Any]:
        if number not in self._held:
            _, place, size = self._blocks[number]
            self._file.seek(place)
            block = np.frombuffer(imagecodecs.zstd_decode(self._file.read(size)), self.dtype).reshape(-1, self.width)
            self._held = {**dict(list(self._held.items())[-1:]), number: block}
        return self._held[number]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
        self._held = {}


class Panel(NamedTuple):
    """Columns of an image: those that a panel decides, decodes, and shows to the network, each with more around."""

    decided: tuple[int, int]
    decoded: tuple[int, int]
    seen: tuple[int, int]


def panels(width: int, edge: int, stride: int, margin: int = MARGIN) -> list[Panel]:
    """Cut `width` columns into panels of equal width, no wider than PANEL.

    `margin` columns beyond each border are decoded, too. The network sees `edge` columns more, beginning at a multiple
    of its `stride`, so that what it says of the decoded ones is what it says of them in the whole image.
    """
    count = -(-width // PANEL)
    found = []
    for start, stop in pairwise(width * k // count for k in range(count + 1)):
        left, right = max(start - margin, 0), min(stop + margin, width)
        found.append(
            Panel((start, stop), (left, right), (max(left - edge, 0) // stride * stride, min(right + edge, width)))
        )
    return found


@dataclass(frozen=True)
class Decoded:
    """The decoded columns of one panel, on disk."""

    panel: Panel
    labels: RowFile
    """provisional ids int32"""
    cell: RowFile | None
    """foreground probability float32, where it is needed"""
    table: Labels
    """from provisional ids to one id per cell of the panel"""


class JoinedPanels:
    """All panels of an image, from left to right, as one label image with one id per cell; ids are not consecutive."""

    def __init__(self, parts: Sequence[Decoded]) -> None:
        self.parts = parts
        self.shape = parts[0].labels.height, parts[-1].panel.decided[1]

    @cached_property
    def tables(self) -> list[Labels]:
        """Tables of the panels, from their provisional ids to ids of the whole image."""
        before = [0, *accumulate(part.table.size - 1 for part in self.parts)]
        own = [np.where(p.table > 0, p.table + np.int32(n), 0) for p, n in zip(self.parts, before[:-1], strict=True)]
        pieces = Pieces(before[-1])
        for k in range(len(self.parts) - 1):
            seam = self.parts[k + 1].panel.decoded[0], self.parts[k].panel.decoded[1]
            sides = (_columns(self.parts[side], seam, own[side]).T for side in (k, k + 1))
            for pair in same_cells(*sides):
                pieces.join(*pair)
        table = pieces.table()
        return [table[mine] for mine in own]

    def rows(self, top: int, bottom: int) -> tuple[Labels, Floats | None]:
        """Return rows top..bottom of the labels int32, and of the foreground probability."""
        labels, cells = [], []
        for part, table in zip(self.parts, self.tables, strict=True):
            place = slice(*(column - part.panel.decoded[0] for column in part.panel.decided))
            labels.append(table[part.labels.rows(top, bottom)[:, place]])
            if part.cell is not None:
                cells.append(part.cell.rows(top, bottom)[:, place])
        return np.concatenate(labels, axis=1), np.concatenate(cells, axis=1) if cells else None


def _columns(part: Decoded, columns: tuple[int, int], table: Labels) -> Labels:
    """Return columns of a panel in all rows (H, w)."""
    place, file = slice(*(column - part.panel.decoded[0] for column in columns)), part.labels
    step = max(STRIP_PIXELS // file.width, 1)
    return np.concatenate(
        [table[file.rows(y, min(y + step, file.height))[:, place]] for y in range(0, file.height, step)]
    )


def numbered(
    found: JoinedPanels, shape: tuple[int, int], path: Path, announce: Callable[[float], None] = lambda share: None
) -> tuple[RowFile, int]:
    """Bring labels to `shape` (H, W) and number the cells 1..N in the order in which rows of pixels meet them.

    Returns rows of uint16, or of uint32 if the ids need it, in the file `path`, and N. `announce` is called with the
    share done.
    """
    ids = np.unique(np.concatenate(found.tables)).size - 1
    number = np.zeros(max(int(table.max()) for table in found.tables) + 1, np.int32)
    first = np.zeros(number.size, np.int64)  # where in the rows in work an id occurs first
    count, step = 0, max(STRIP_PIXELS // shape[1], 1)

    def read(top: int, bottom: int) -> tuple[Labels, Floats]:
        labels, cell = found.rows(top, bottom)
        assert cell is not None
        return labels, cell

    result = RowFile(path, shape[1], np.uint32 if ids > np.iinfo(np.uint16).max else np.uint16)
    for top in range(0, shape[0], step):
        rows = (top, min(top + step, shape[0]))
        part = found.rows(*rows)[0] if found.shape == shape else restored_rows(read, found.shape, shape, rows)
        seen = np.zeros(number.size, bool)
        seen[part] = True
        (new,) = np.nonzero(seen & (number == 0))
        new = new[new > 0]
        if new.size:
            backwards = part.ravel()[::-1]
            first[backwards] = np.arange(backwards.size)[::-1]  # of equal ids the last one assigned stays
            number[new[np.argsort(first[new])]] = np.arange(count + 1, count + 1 + new.size)
            count += new.size
        result.append(number[part])
        announce(rows[1] / shape[0])
    return result, count
