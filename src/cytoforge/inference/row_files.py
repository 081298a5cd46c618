"""Rows of an image on disk, and the decoded strips of a panel, from which a killed segmentation goes on."""

import json
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from cytoforge.data.files import locked, write_bytes
from cytoforge.errors import UserError
from cytoforge.inference.strips import Labels, Strip

MARK = "work"  # name of the file that says what the strips in a folder are of
LASTING = (MARK, "labels-*", "cell-*", "overlap-*", "strips-*")
"""files from which an image goes on"""


class Block(NamedTuple):
    """Rows that were appended at once."""

    top: int
    """first row"""
    height: int
    place: int
    """in the file"""
    size: int
    """bytes there"""
    checksum: int


class RowFile:
    """Rows of one width on disk, compressed: appended from top to bottom, read by ranges; a context manager."""

    def __init__(self, path: Path, width: int, dtype: Any, *, keep: bool = False) -> None:
        """`keep`: leave what the file holds there, for `take`."""
        self.path, self.width, self.dtype, self.height = path, width, np.dtype(dtype), 0
        self._file = path.open("r+b" if keep and path.exists() else "w+b")
        self._blocks: list[Block] = []
        self._held: dict[int, NDArray[Any]] = {}  # the blocks read last, by number

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def append(self, rows: NDArray[Any]) -> Block:
        """Add rows (h, width) below the others, and say where; raises UserError when the disk is full."""
        content = imagecodecs.zstd_encode(np.ascontiguousarray(rows, self.dtype).tobytes(), level=1)
        place = self._blocks[-1].place + self._blocks[-1].size if self._blocks else 0
        self._file.seek(place)
        _write(self._file, self.path, content)
        block = Block(self.height, rows.shape[0], place, len(content), zlib.crc32(content))
        self.take(block)
        return block

    def holds(self, block: Block) -> bool:
        """Tell whether rows that were appended below the others, by whatever process, are what they were."""
        self._file.seek(block.place)
        return block.top == self.height and zlib.crc32(self._file.read(block.size)) == block.checksum

    def take(self, block: Block) -> None:
        """Add rows that the file holds already below the others."""
        self._blocks.append(block)
        self.height += block.height

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Return rows top..bottom as (bottom - top, width)."""
        first, last = (bisect_right(self._blocks, row, key=lambda block: block.top) - 1 for row in (top, bottom - 1))
        parts = []
        for number in range(first, last + 1):
            start = self._blocks[number].top
            parts.append(self._block(number)[max(top - start, 0) : bottom - start])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _block(self, number: int) -> NDArray[Any]:
        if number not in self._held:
            block = self._blocks[number]
            self._file.seek(block.place)
            content = imagecodecs.zstd_decode(self._file.read(block.size))
            rows = np.frombuffer(content, self.dtype).reshape(-1, self.width)
            self._held = {**dict(list(self._held.items())[-1:]), number: rows}
        return self._held[number]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
        self._held = {}


class StripFiles:
    """The decoded strips of a panel on disk: a context manager.

    Where they are `lasting`, a line of `strips-NUMBER` follows the rows of each strip: their checksums, and which of
    its pieces are one cell. So another process can go on below the last strip that is whole.
    """

    def __init__(self, folder: Path, number: int, width: int, *, foreground: bool, lasting: bool) -> None:
        """`width` is that of the decoded columns; `foreground`: also keep the probability to be cell."""
        self._opened = ExitStack()

        def rows(name: str, dtype: Any) -> RowFile:
            return self._opened.enter_context(RowFile(folder / f"{name}-{number}", width, dtype, keep=lasting))

        self.labels = rows("labels", np.int32)
        self.cell = rows("cell", np.float32) if foreground else None
        self._overlaps = rows("overlap", np.int32) if lasting else None
        self._list = folder / f"strips-{number}"

    def append(self, strip: Strip) -> None:
        """Add the next strip; raises UserError when the disk is full."""
        blocks = [self.labels.append(strip.labels)]
        if self.cell is not None:
            blocks.append(self.cell.append(strip.foreground))
        if self._overlaps is not None:
            blocks.append(self._overlaps.append(strip.overlap))
            line = json.dumps({"rows": blocks, "pieces": strip.pieces, "joined": strip.joined}).encode()
            with self._list.open("ab") as file:
                _write(file, self._list, b"%08x %b\n" % (zlib.crc32(line), line))

    def restore(self, join: Callable[[int, Sequence[tuple[int, int]]], object]) -> Labels | None:
        """Take the strips that are there, and forget whatever follows the last whole one.

        `join` is called with the number of pieces of each strip, and those that are one cell. Returns the last rows
        (h, width) that were decoded for the last one; None without any.
        """
        files = [file for file in (self.labels, self.cell, self._overlaps) if file is not None]
        overlap: Labels | None = None
        if self._overlaps is None or not self._list.exists():
            return overlap
        with self._list.open("r+b") as lines:
            end = 0
            for line in lines:
                checksum, _, content = line.removesuffix(b"\n").partition(b" ")
                if checksum != b"%08x" % zlib.crc32(content):
                    break
                strip = json.loads(content)
                blocks = [Block(*block) for block in strip["rows"]]
                if not all(file.holds(block) for file, block in zip(files, blocks, strict=True)):
                    break
                for file, block in zip(files, blocks, strict=True):
                    file.take(block)
                join(strip["pieces"], strip["joined"])
                end += len(line)
            lines.truncate(end)
        last = self._overlaps.height
        return self._overlaps.rows(last - blocks[-1].height, last) if last else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._opened.close()


def begin(folder: Path, work: str) -> None:
    """Make a folder ready for the strips of `work`: what is there of any other is removed."""
    mark = folder / MARK
    with locked(folder / "begin"):
        if not mark.is_file() or mark.read_bytes() != work.encode():
            sweep(folder, LASTING)
            write_bytes(mark, work.encode())


def sweep(folder: Path, names: Sequence[str]) -> None:
    """Remove the files of a folder that have such names, which may hold wildcards."""
    for file in [file for name in names for file in folder.glob(name)]:
        file.unlink(missing_ok=True)


def _write(file: BinaryIO, path: Path, content: bytes | bytearray) -> None:
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room, or give another --out") from error
