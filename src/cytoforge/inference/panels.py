"""Label images too wide for memory: panels of columns that are decoded one after another, and joined.

A wide image is cut into panels side by side, so that memory does not grow with its width. Neighbours have decoded the
columns around their border both, and pieces of one cell are joined there as between strips (`inference.strips`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from cytoforge.inference.row_files import RowFile
from cytoforge.inference.strips import MARGIN, STRIP_PIXELS, Floats, Labels, Pieces, restored_rows, same_cells

PANEL = 8192  # px at the run's scale: wider images are cut into panels of at most this width


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

    @property
    def place(self) -> slice:
        """The decided columns among the decoded ones."""
        return slice(*(column - self.panel.decoded[0] for column in self.panel.decided))


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

    def labels(self, top: int, bottom: int) -> Labels:
        """Return rows top..bottom (h, W)."""
        found = (
            table[part.labels.rows(top, bottom)[:, part.place]]
            for part, table in zip(self.parts, self.tables, strict=True)
        )
        return np.concatenate(list(found), axis=1)

    def foreground(self, top: int, bottom: int) -> Floats:
        """Return rows top..bottom (h, W) of the probability to be cell; raises ValueError where it was not kept."""
        found = (part.cell.rows(top, bottom)[:, part.place] for part in self.parts if part.cell is not None)
        return np.concatenate(list(found), axis=1)

    def restored(self, shape: tuple[int, int], rows: tuple[int, int]) -> Labels:
        """Return rows[0]..rows[1] of the labels at size `shape` (H, W)."""
        if self.shape == shape:
            return self.labels(*rows)
        return restored_rows(lambda *part: (self.labels(*part), self.foreground(*part)), self.shape, shape, rows)


def _columns(part: Decoded, columns: tuple[int, int], table: Labels) -> Labels:
    """Return columns of a panel in all rows (H, w)."""
    place, file = slice(*(column - part.panel.decoded[0] for column in columns)), part.labels
    step = max(STRIP_PIXELS // file.width, 1)
    return np.concatenate(
        [table[file.rows(y, min(y + step, file.height))[:, place]] for y in range(0, file.height, step)]
    )
