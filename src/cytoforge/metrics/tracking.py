"""Scores of tracking: CLEAR-MOT, IDF1, HOTA and CHOTA, from cells matched by the overlap of their masks.

Each score is computed from counts. `tracking_counts` counts one sequence; the counts of several sequences may be
added. `tracking_measures` computes scores from the counts of one sequence, of a sum, or of many draws at once.

A cell keeps its identity after a gap if its new track is the only child of the old one; a mother and her two daughters
are three cells. Only CHOTA uses the descent of cells.

- CLEAR-MOT: Bernardin, Stiefelhagen 2008, Evaluating Multiple Object Tracking Performance, with MT, ML and
  fragmentations as Milan et al. 2016, MOT16, defines them.
- IDF1: Ristani et al. 2016, Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking.
- HOTA: Luiten et al. 2021, HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking.
- CHOTA: Kaiser, Ulman, Rosenhahn 2024, CHOTA: A Higher Order Accuracy Metric for Cell Tracking.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from scipy import sparse

from cytoforge.metrics.comparison import Cells, Comparison
from cytoforge.metrics.estimates import Floats, Ints, ratio
from cytoforge.tracking.assignment import maximum_weight

Counts = dict[str, Floats]

IOU = 0.5
ALPHAS = np.arange(1, 20) / 20
"""least IoU of a match; HOTA is the mean over these thresholds"""
HALF = int(np.flatnonzero(ALPHAS == IOU)[0])


def pooled(counts: Iterable[Counts]) -> Counts:
    """Add the counts of sequences; raises ValueError if there are none."""
    parts = list(counts)
    if not parts:
        raise ValueError("need the counts of at least one sequence, got none")
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def tracking_counts(comparison: Comparison) -> Counts:
    """Return the counts for the scores of a sequence: numbers, and arrays (19,) with one entry for each of ALPHAS.

    Masks of truth and prediction may overlap in any way; masks of one side do not overlap each other.
    """
    truth, prediction = comparison.truth.cells(), comparison.prediction.cells()
    numbers = {
        "true_cells": comparison.truth.size,
        "predicted_cells": comparison.prediction.size,
        **_clear(comparison, truth, prediction),
        "identity_matches": _identity_matches(comparison, truth, prediction),
    }
    counts = {name: np.asarray(number, np.float64) for name, number in numbers.items()}
    return {**counts, **_hota(comparison, truth, prediction)}


def tracking_measures(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return scores from counts, which may have any leading axes, such as one for bootstrap draws; 0/0 is nan.

    MOTA is at most 1; switches and fragmentations are numbers of events; all others lie in [0, 1]. `mostly_tracked` and
    `mostly_lost` are shares of the true cells, each counted once over all its frames.
    """
    truth, prediction, matched = counts["true_cells"], counts["predicted_cells"], counts["matches"]
    missed, invented = truth - matched, prediction - matched
    union = truth[..., None] + prediction[..., None] - counts["hota_matches"]
    return {
        "mota": 1 - ratio(missed + invented + counts["switches"], np.where(truth > 0, truth, np.nan)),
        "precision": ratio(matched, prediction),
        "recall": ratio(matched, truth),
        "switches": counts["switches"],
        "fragmentations": counts["fragmentations"],
        "mostly_tracked": ratio(counts["mostly_tracked"], counts["true_tracks"]),
        "mostly_lost": ratio(counts["mostly_lost"], counts["true_tracks"]),
        "idf1": ratio(2 * counts["identity_matches"], truth + prediction),
        "hota": np.sqrt(ratio(counts["hota_association"], union)).mean(axis=-1),
        "hota_50": np.sqrt(ratio(counts["hota_association"], union))[..., HALF],
        "detection_accuracy": ratio(counts["hota_matches"], union).mean(axis=-1),
        "chota": np.sqrt(ratio(counts["chota_association"], union[..., HALF])),
    }


def _clear(comparison: Comparison, truth: Cells, prediction: Cells) -> dict[str, int]:
    """Count matches, switches, fragmentations and coverage of cells by CLEAR-MOT at IOU."""
    pairs = _carried_over(comparison, truth, prediction)
    tracked = np.zeros(truth.of_mask.size, bool)
    tracked[comparison.pair_truth[pairs]] = True
    found = np.full(truth.of_mask.size, -1, np.int64)
    found[comparison.pair_truth[pairs]] = prediction.of_mask[comparison.pair_prediction[pairs]]
    order = np.argsort(truth.of_mask, kind="stable")  # the masks of a cell one after the other, in the order of time
    cell, tracked, found = truth.of_mask[order], tracked[order], found[order]
    # A match is compared with the previous match of its cell, even after many frames.
    former, latter = cell[tracked][:-1], cell[tracked][1:]
    switches = (former == latter) & (found[tracked][:-1] != found[tracked][1:])
    goes_on = np.zeros(cell.size, bool)
    goes_on[1:] = tracked[:-1] & (cell[1:] == cell[:-1])
    length = truth.lengths()
    hits = np.bincount(cell[tracked], minlength=length.size)
    return {
        "matches": pairs.size,
        "switches": int(switches.sum()),
        "fragmentations": int((tracked & ~goes_on).sum() - np.count_nonzero(hits)),
        "true_tracks": int(np.count_nonzero(length)),
        "mostly_tracked": int(((5 * hits >= 4 * length) & (length > 0)).sum()),
        "mostly_lost": int((5 * hits < length).sum()),
    }


def _carried_over(comparison: Comparison, truth: Cells, prediction: Cells) -> Ints:
    """Return positions of the matched pairs: first those kept from the previous frame, then as many as possible."""
    candidates = np.flatnonzero(comparison.iou >= IOU)
    code = _codes(comparison, truth, prediction)
    taken = [np.empty(0, np.int64)]
    before, last = np.empty(0, np.int64), -1
    for pairs in comparison.by_frame(candidates):
        frame = int(comparison.frame(pairs[:1])[0])
        held = pairs[np.isin(code[pairs], before)] if frame == last + 1 else pairs[:0]
        free = ~np.isin(comparison.pair_truth[pairs], comparison.pair_truth[held])
        free &= ~np.isin(comparison.pair_prediction[pairs], comparison.pair_prediction[held])
        others = pairs[free]
        matched = np.concatenate([held, comparison.one_to_one(others, comparison.iou[others])])
        taken.append(matched)
        before, last = code[matched], frame
    return np.concatenate(taken)


def _codes(comparison: Comparison, truth: Cells, prediction: Cells) -> Ints:
    """Return one number (K,) for each pair that identifies its true and its predicted cell."""
    return (
        truth.of_mask[comparison.pair_truth] * prediction.mother.size + prediction.of_mask[comparison.pair_prediction]
    )


def _identity_matches(comparison: Comparison, truth: Cells, prediction: Cells) -> int:
    """Return IDTP: the largest number of matched masks if each true cell has one predicted cell for the whole movie."""
    candidates = np.flatnonzero(comparison.iou >= IOU)
    code, frames = np.unique(_codes(comparison, truth, prediction)[candidates], return_counts=True)
    rows, columns = np.divmod(code, max(prediction.mother.size, 1))
    return int(frames[maximum_weight(rows, columns, frames.astype(np.float64))].sum())


def _hota(comparison: Comparison, truth: Cells, prediction: Cells) -> Counts:
    """Count matches and sum their association at each of ALPHAS, and sum the association of lineages at IOU."""
    codes, code = np.unique(_codes(comparison, truth, prediction), return_inverse=True)
    rows, columns = np.divmod(codes, max(prediction.mother.size, 1))
    either = truth.lengths()[rows] + prediction.lengths()[columns]
    matches, associations = np.zeros(ALPHAS.size), np.zeros(ALPHAS.size)
    together = np.zeros(codes.size, np.int64)
    lineages = 0.0
    for k, alpha in enumerate(ALPHAS):
        candidates = np.flatnonzero(comparison.iou >= alpha)
        together = np.bincount(code[candidates], minlength=codes.size)
        alignment = (together / (either - together))[code[candidates]]
        # The most pairs are chosen; ties go to cells that match in most frames, then to the largest IoU (Luiten, 5.1).
        preference = 0.999 * alignment + 0.001 * comparison.iou[candidates]
        pairs = comparison.one_to_one(candidates, preference)
        together = np.bincount(code[pairs], minlength=codes.size)
        matches[k] = pairs.size
        associations[k] = (together * together / (either - together)).sum()
        if alpha == IOU:
            lineages = _lineage_association(together, rows, columns, truth, prediction)
    return {
        "hota_matches": matches,
        "hota_association": associations,
        "chota_association": np.asarray(lineages, np.float64),
    }


def _lineage_association(together: Ints, rows: Ints, columns: Ints, truth: Cells, prediction: Cells) -> float:
    """Return the sum over all matches of the association of their lineages.

    A lineage is a cell with all its ancestors and descendants. `together` counts the matches of true cell `rows` and
    predicted cell `columns`.
    """
    shape = (truth.mother.size, prediction.mother.size)
    matches = sparse.csr_array((together.astype(np.float64), (rows, columns)), shape=shape)
    ours, theirs = _lines(truth), _lines(prediction)
    shared = (ours @ matches @ theirs.T).tocsr()
    common = np.asarray(shared[rows, columns]).ravel()
    either = (ours @ truth.lengths())[rows] + (theirs @ prediction.lengths())[columns] - common
    met = together > 0
    return float((together[met] * common[met] / either[met]).sum())


def _lines(cells: Cells) -> sparse.csr_array:
    """Return the matrix (C, C) that is 1 where a cell is the other, its ancestor or its descendant, else 0."""
    ancestors, descendants = [np.arange(cells.mother.size)], [np.arange(cells.mother.size)]
    while descendants[-1].size:
        mother = cells.mother[ancestors[-1]]
        ancestors.append(mother[mother >= 0])
        descendants.append(descendants[-1][mother >= 0])
    old, young = np.concatenate(ancestors), np.concatenate(descendants)
    own = cells.mother.size
    rows, columns = np.concatenate([old, young[own:]]), np.concatenate([young, old[own:]])
    return sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=(own, own))
