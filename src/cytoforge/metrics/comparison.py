"""Two sides of a tracked movie, truth and prediction: their cells in all frames, and which of them share pixels.

All tracking scores start from this comparison. Tracks are rows L B E P of the Cell Tracking Challenge: label, first
frame, last frame, and parent or 0. Labels without a row are treated as tracks without a parent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.metrics.estimates import Floats, Ints
from cytoforge.metrics.motion import Row
from cytoforge.metrics.segmentation import Overlap
from cytoforge.tracking.assignment import maximum_cardinality


@dataclass(frozen=True)
class Side:
    """The N masks of cells of one side, in the order of time, and the tracks that they belong to."""

    frame: Ints  # (N,)
    label: Ints  # (N,)
    tracks: tuple[Row, ...]

    @property
    def size(self) -> int:
        """Number of masks N."""
        return self.label.size

    def offspring(self) -> dict[int, list[Row]]:
        """Return, for each parent, the rows of its child tracks; a single child is the same cell after a gap."""
        kin: dict[int, list[Row]] = {}
        known = {*self.label.tolist(), *(row[0] for row in self.tracks)}
        for row in sorted(self.tracks):
            if row[3] in known:
                kin.setdefault(row[3], []).append(row)
        return kin

    def cells(self) -> "Cells":
        """Join tracks into cells: a track that is the only child of its parent continues the parent's cell."""
        first: dict[int, int] = {}  # label -> label under which its cell began
        mothers: dict[int, int] = {}  # that label -> label under which the mother's cell began
        single = {kin[0][0]: parent for parent, kin in self.offspring().items() if len(kin) == 1}
        shared = {row[0]: parent for parent, kin in self.offspring().items() if len(kin) > 1 for row in kin}
        rows = {row[0]: row for row in self.tracks}
        labels = {*self.label.tolist(), *rows}
        for label in sorted(labels, key=lambda label: (rows[label][1] if label in rows else 0, label)):
            before = single.get(label, label)
            first[label] = first.get(before, before)
        for label, mother in shared.items():
            mothers[first[label]] = first[mother]
        numbers = {label: number for number, label in enumerate(sorted(set(first.values())))}
        mother_of = np.full(len(numbers), -1, np.int64)
        for label, mother in mothers.items():
            mother_of[numbers[label]] = numbers[mother]
        of_label = {label: numbers[began] for label, began in first.items()}
        return Cells(np.array([of_label[label] for label in self.label.tolist()], np.int64), mother_of)


class Cells(NamedTuple):
    """Which cell each mask of a side shows, from the cell's first mask to its death, division or the movie's end."""

    of_mask: Ints
    """number of the cell (N,), from 0 on"""
    mother: Ints
    """number of the mother (C,), -1 without one"""

    def lengths(self) -> Ints:
        """Number of masks of each cell (C,)."""
        return np.bincount(self.of_mask, minlength=self.mother.size)


@dataclass(frozen=True)
class Comparison:
    """All cells of truth and prediction, and the K pairs of the same frame that share a pixel.

    Pair k joins the masks `pair_truth[k]` and `pair_prediction[k]`, positions in the two sides, in the order of time.
    """

    truth: Side
    prediction: Side
    pair_truth: Ints  # (K,)
    pair_prediction: Ints  # (K,)
    iou: Floats  # (K,), in (0, 1]
    covered: Floats  # (K,), share of the true cell's pixels that the pair shares, in (0, 1]

    def frame(self, pairs: Ints) -> Ints:
        """Return the frames of pairs, which are given by their positions."""
        frames: Ints = self.truth.frame[self.pair_truth[pairs]]
        return frames

    def by_frame(self, pairs: Ints) -> list[Ints]:
        """Split ascending positions of pairs by frame; frames without pairs are left out."""
        return np.split(pairs, np.flatnonzero(np.diff(self.frame(pairs))) + 1) if pairs.size else []

    def one_to_one(self, pairs: Ints, preference: Floats) -> Ints:
        """Choose as many candidate pairs as possible and, of those choices, the one with the largest preference sum.

        `pairs` holds the ascending positions of the candidates, `preference` one value in [0, 1] for each. Each mask is
        in at most one chosen pair. Returns the positions of the chosen pairs.
        """
        truth, prediction = self.pair_truth[pairs], self.pair_prediction[pairs]
        taken = (np.bincount(truth)[truth] == 1) & (np.bincount(prediction)[prediction] == 1)
        weight = np.zeros(self.iou.size)
        weight[pairs] = preference
        for rivals in self.by_frame(pairs[~taken]):
            best = rivals[maximum_cardinality(self.pair_truth[rivals], self.pair_prediction[rivals], weight[rivals])]
            taken |= np.isin(pairs, best)
        chosen: Ints = pairs[taken]
        return chosen


def compare(tables: Mapping[int, Overlap], truth: Sequence[Row], prediction: Sequence[Row]) -> Comparison:
    """Combine the overlap tables of the frames, by frame number, with the tracks of both sides.

    The ids in `tables` are labels of tracks; `metrics.segmentation.overlap` makes a table. Raises ValueError if a
    track does not begin after its parent's end.
    """
    for rows in (truth, prediction):
        ends = {row[0]: row[2] for row in rows}
        if early := [row for row in rows if row[1] <= ends.get(row[3], -1)]:
            raise ValueError(f"tracks begin after their parent's end, got {early[0]}")
    frames = sorted(tables)
    ordered = [tables[frame] for frame in frames]
    sides = []
    starts = []
    for ids, tracks in (
        ([table.truth_ids for table in ordered], truth),
        ([table.prediction_ids for table in ordered], prediction),
    ):
        counts = [part.size for part in ids]
        starts.append(np.cumsum([0, *counts])[:-1])
        sides.append(Side(np.repeat(np.array(frames, np.int64), counts), _joined(ids), tuple(tracks)))
    covered = [table.intersection / table.truth_areas[table.pair_truth] for table in ordered]
    return Comparison(
        truth=sides[0],
        prediction=sides[1],
        pair_truth=_joined([table.pair_truth + start for table, start in zip(ordered, starts[0], strict=True)]),
        pair_prediction=_joined(
            [table.pair_prediction + start for table, start in zip(ordered, starts[1], strict=True)]
        ),
        iou=np.concatenate([np.empty(0), *(table.iou() for table in ordered)]),
        covered=np.concatenate([np.empty(0), *covered]),
    )


def _joined(parts: Sequence[NDArray[np.integer[Any]]]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *(part.astype(np.int64) for part in parts)])
