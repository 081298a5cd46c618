"""Cells of one frame linked with those of later ones: what makes tracks and lineages of masks.

A linker looks at the frames of a movie once, in the order of time, and returns links between cells. `assemble` turns
links into tracks that agree with the rules of the Cell Tracking Challenge. Cells are numbered 1..N by `numbered`, by
where they lie, so that nothing depends on the ids that a segmentation happened to give.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Labels = NDArray[np.int32]


class Frame(NamedTuple):
    """What a linker sees of a moment."""

    labels: Labels
    """(H, W), 0 background, cells 1..N as of `numbered`"""
    image: NDArray[np.float32] | None = None
    """(C, H, W) in [-1, 1]; None unless the linker wants images"""


@dataclass(frozen=True)
class Links:
    """Which cell goes on as which: K links of a movie of T frames."""

    cells: Ints
    """(T,) number of cells in each frame"""
    pairs: Ints
    """(K, 4) frame, cell, later frame, cell there; frames from 0, cells from 1. Every cell has at most one predecessor;
    one with several successors divides"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """what the linker went by, in pixels and frames, for people to read"""


class Linker(Protocol):
    """A way of tracking."""

    wants_images: bool
    """whether it looks at images besides the labels"""

    def __call__(self, frames: Iterator[Frame]) -> Links:
        """Link the cells of a movie; takes one frame after the other and holds no more of them than it needs."""


@dataclass(frozen=True)
class Tracking:
    """Tracks by the rules of the Cell Tracking Challenge, numbered from 1 by first frame and place."""

    tracks: Ints
    """(M, 4) rows L B E P: label, first and last frame, parent (0: none). No gaps; a parent ends before its daughters"""
    ids: tuple[Ints, ...]
    """for each frame (N + 1,): the track of each cell, and 0 for background"""

    def relabelled(self, frame: int, labels: Labels) -> Labels:
        """Give each cell of labels (H, W), numbered 1..N, the label of its track."""
        result: Labels = self.ids[frame].astype(np.int32)[labels]
        return result


def numbered(labels: NDArray[np.integer[Any]]) -> Labels:
    """Number the cells of labels (H, W) 1..N in the order in which a reader of the rows meets them; 0 stays 0.

    Raises ValueError where there are not two axes, or an id is negative.
    """
    if labels.ndim != 2 or labels.min(initial=0) < 0:
        raise ValueError(f"labels must be (H, W) without negative ids, got {labels.shape} from {labels.min(initial=0)}")
    flat = labels.ravel()
    pixels = np.flatnonzero(flat)
    first = np.full(int(flat.max(initial=0)) + 1, -1, np.int64)
    first[flat[pixels[::-1]]] = pixels[::-1]  # of several values for a place the last one stays: the first pixel
    present = np.flatnonzero(first >= 0)
    number = np.zeros(first.size, np.int32)
    number[present[np.argsort(first[present])]] = np.arange(1, present.size + 1)
    result: Labels = number[labels]
    return result


def assemble(links: Links) -> Tracking:
    """Make tracks of links.

    A track goes on where a cell has one successor and that in the next frame. Else its successors begin tracks of their
    own, whose parent it is: daughters after a division, the same cell after a gap. Raises ValueError for a link that
    does not go forward in time or names no cell, and for a cell with two predecessors.
    """
    offsets = np.concatenate([[0], np.cumsum(links.cells)])
    pairs = links.pairs.reshape(-1, 4)
    frame, cell, later, successor = pairs.T
    if len(pairs) and not (
        (0 <= frame).all()
        and (frame < later).all()
        and (later < links.cells.size).all()
        and (np.minimum(cell, successor) > 0).all()
        and (cell <= links.cells[frame]).all()
        and (successor <= links.cells[later]).all()
    ):
        raise ValueError("a link must go from a cell to one of a later frame")
    before, after = offsets[frame] + cell - 1, offsets[later] + successor - 1
    if np.unique(after).size < after.size:
        raise ValueError("a cell has two predecessors")
    predecessor = np.full(offsets[-1], -1)
    predecessor[after] = before
    goes_on = np.zeros(offsets[-1], bool)
    goes_on[after] = (np.bincount(before, minlength=offsets[-1])[before] == 1) & (later == frame + 1)
    label = np.where(goes_on, 0, np.cumsum(~goes_on))
    for start, stop in zip(offsets[1:-1], offsets[2:], strict=True):
        on = start + np.flatnonzero(goes_on[start:stop])
        label[on] = label[predecessor[on]]
    starts = np.flatnonzero(~goes_on)
    time = np.repeat(np.arange(links.cells.size), links.cells)
    end = np.zeros(starts.size + 1, np.int64)
    np.maximum.at(end, label, time)
    parent = np.where(predecessor[starts] >= 0, label[predecessor[starts]], 0)
    tracks = np.stack([label[starts], time[starts], end[1:], parent], axis=1)
    ids = tuple(np.concatenate([[0], label[a:b]]) for a, b in zip(offsets[:-1], offsets[1:], strict=True))
    return Tracking(tracks.astype(np.int64), ids)
