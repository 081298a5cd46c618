"""Measures of the Cell Tracking Challenge (CTC): SEG, DET, TRA, LNK, and how many divisions are found.

A true cell is found by the predicted one that covers more than half of its pixels; a predicted cell may cover several
true ones. DET, TRA and LNK are 1 minus the cost of turning the predicted lineage graph into the true one, divided by
the cost of drawing the true one from nothing (Matula et al. 2015, Cell Tracking Accuracy Measurement Based on
Comparison of Acyclic Oriented Graphs). Counts of several sequences may be added, as in `metrics.tracking`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.metrics.comparison import Comparison, Side
from cytoforge.metrics.estimates import Floats, Ints, ratio
from cytoforge.metrics.segmentation import Overlap

TOLERANCES = (0, 1, 2)
"""frames by which a division may be early or late"""
WEIGHTS = {
    "splits": 5.0,
    "misses": 10.0,
    "inventions": 1.0,
    "extra_links": 1.0,
    "missing_links": 1.5,
    "wrong_links": 1.0,
}
"""cost of each operation in DET (the first three), LNK (the others) and TRA (all)"""


def segmentation_counts(tables: Iterable[Overlap]) -> dict[str, Floats]:
    """Return the counts for SEG: the true cells of the frames, and the sum of IoU with the cells that find them."""
    cells, total = 0, 0.0
    for table in tables:
        found = 2 * table.intersection > table.truth_areas[table.pair_truth]
        cells += table.truth_ids.size
        total += float(table.iou()[found].sum())
    return {"seg_cells": np.asarray(cells, np.float64), "seg_iou": np.asarray(total)}


def graph_counts(comparison: Comparison) -> dict[str, Floats]:
    """Count the operations that correct a prediction, and the divisions of both sides.

    `divisions_found` is (3,), with one entry for each of TOLERANCES; all other counts are single numbers. The true
    cells are the markers of the tracks. Link operations are counted between predicted cells that each find exactly
    one true cell.
    """
    pairs = np.flatnonzero(comparison.covered > 0.5)
    truth, prediction = comparison.truth, comparison.prediction
    finds = np.bincount(comparison.pair_prediction[pairs], minlength=prediction.size)
    pairs = pairs[finds[comparison.pair_prediction[pairs]] == 1]
    true_one = np.full(prediction.size, -1, np.int64)
    true_one[comparison.pair_prediction[pairs]] = comparison.pair_truth[pairs]
    numbers = {
        "vertices": truth.size,
        "splits": int((finds - 1)[finds > 1].sum()),
        "misses": truth.size - int(finds.sum()),
        "inventions": int((finds == 0).sum()),
        **_links(truth, prediction, true_one),
    }
    return {
        **{name: np.asarray(number, np.float64) for name, number in numbers.items()},
        **_divisions(truth, prediction, true_one),
    }


def ctc_measures(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return scores in [0, 1] from counts, which may have any leading axes; 0/0 is nan."""
    cost = {name: weight * counts[name] for name, weight in WEIGHTS.items()}
    cells = cost["splits"] + cost["misses"] + cost["inventions"]
    links = cost["extra_links"] + cost["missing_links"] + cost["wrong_links"]
    all_cells, all_links = WEIGHTS["misses"] * counts["vertices"], WEIGHTS["missing_links"] * counts["links"]
    divisions = counts["true_divisions"] + counts["predicted_divisions"]
    f_score = ratio(2 * counts["divisions_found"], divisions[..., None])
    return {
        "seg": ratio(counts["seg_iou"], counts["seg_cells"]),
        "det": _less_cost(cells, all_cells),
        "tra": _less_cost(cells + links, all_cells + all_links),
        "lnk": _less_cost(links, all_links),
        **{f"division_f_{frames}": f_score[..., k] for k, frames in enumerate(TOLERANCES)},
    }


def _less_cost(cost: Floats, whole: Floats) -> Floats:
    return 1 - ratio(np.minimum(cost, whole), whole)


def _links(truth: Side, prediction: Side, true_one: Ints) -> dict[str, int]:
    """Count operations on links; `true_one` is the only true mask that each predicted mask finds, else -1."""
    ours, ours_kind = _graph(truth)
    theirs, their_kind = _graph(prediction)
    ends = true_one[theirs]
    known = (ends >= 0).all(axis=1)
    code, their_code = (edges[:, 0] * truth.size + edges[:, 1] for edges in (ours, ends[known]))
    _, our_place, their_place = np.intersect1d(code, their_code, assume_unique=True, return_indices=True)
    return {
        "links": code.size,
        "extra_links": their_code.size - their_place.size,
        "missing_links": code.size - our_place.size,
        "wrong_links": int((ours_kind[our_place] != their_kind[known][their_place]).sum()),
    }


def _graph(side: Side) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the links (E, 2) between masks of a side, as positions, and which of them (E,) go from parent to child.

    Masks of one label are linked from each frame to the next. The last mask of a parent is linked to the first mask
    of its child.
    """
    order = np.lexsort((side.frame, side.label))
    same = (np.diff(side.label[order]) == 0) & (np.diff(side.frame[order]) == 1)
    within = np.stack([order[:-1][same], order[1:][same]], axis=1)
    ends = _ends(side)
    between = [
        (ends[parent][1], ends[row[0]][0])
        for parent, kin in side.offspring().items()
        for row in kin
        if parent in ends and row[0] in ends
    ]
    links = np.concatenate([within, np.array(between, np.int64).reshape(-1, 2)])
    return links, np.arange(len(links)) >= len(within)


def _ends(side: Side) -> dict[int, tuple[int, int]]:
    """Positions of the first and the last mask of each label."""
    order = np.lexsort((side.frame, side.label))
    labels, first, number = np.unique(side.label[order], return_index=True, return_counts=True)
    last = first + number - 1
    return dict(zip(labels.tolist(), zip(order[first].tolist(), order[last].tolist(), strict=True), strict=True))


class _Division(NamedTuple):
    """A mother and her daughters, by their cells, with her last frame and their first ones."""

    mother: int
    end: int
    daughters: tuple[tuple[int, int], ...]


def _division_list(side: Side, of_mask: Ints) -> list[_Division]:
    """List the tracks with two or more children; a division is left out if the parent or a child has no mask."""
    ends = _ends(side)
    cell, frame = of_mask.tolist(), side.frame.tolist()
    return [
        _Division(
            cell[ends[parent][1]],
            frame[ends[parent][1]],
            tuple((cell[ends[row[0]][0]], frame[ends[row[0]][0]]) for row in kin),
        )
        for parent, kin in side.offspring().items()
        if len(kin) > 1 and parent in ends and all(row[0] in ends for row in kin)
    ]


def _divisions(truth: Side, prediction: Side, true_one: Ints) -> dict[str, Floats]:
    """Divisions of both sides, and those found within each of TOLERANCES."""
    ours, theirs = truth.cells().of_mask, prediction.cells().of_mask
    place = np.flatnonzero(true_one >= 0)
    keys = zip(ours[true_one[place]].tolist(), prediction.frame[place].tolist(), strict=True)
    partner = dict(zip(keys, theirs[place].tolist(), strict=True))
    expected, found = _division_list(truth, ours), _division_list(prediction, theirs)
    hits = [_found(expected, found, partner, tolerance) for tolerance in TOLERANCES]
    return {
        "true_divisions": np.asarray(len(expected), np.float64),
        "predicted_divisions": np.asarray(len(found), np.float64),
        "divisions_found": np.array(hits, np.float64),
    }


def _found(
    expected: list[_Division], found: list[_Division], partner: Mapping[tuple[int, int], int], tolerance: int
) -> int:
    """Return the number of true divisions that are matched one to one with a predicted division.

    `partner` maps a true cell and a frame to the predicted cell that finds this true cell alone. The mothers must be
    partners in the last frame of the mother that ends first, and each pair of daughters in the first frame of the
    daughter that begins last.
    """
    by_mother = {division.mother: division for division in found}
    free, count = set(by_mother), 0
    for ours in expected:
        for frame in range(ours.end, ours.end - tolerance - 1, -1):
            theirs = by_mother.get(partner.get((ours.mother, frame), -1))
            if theirs is None or theirs.mother not in free or min(ours.end, theirs.end) != frame:
                continue
            if abs(ours.end - theirs.end) <= tolerance and _same_daughters(ours, theirs, partner, tolerance):
                free.remove(theirs.mother)
                count += 1
                break
    return count


def _same_daughters(ours: _Division, theirs: _Division, partner: Mapping[tuple[int, int], int], tolerance: int) -> bool:
    return len(ours.daughters) == len(theirs.daughters) and all(
        any(
            abs(begin - start) <= tolerance and partner.get((cell, max(begin, start))) == other
            for other, start in theirs.daughters
        )
        for cell, begin in ours.daughters
    )
