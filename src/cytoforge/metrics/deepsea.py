"""The variant of CLEAR-MOT that the published evaluation of DeepSea and tGAN computes, for comparison with its numbers.

It matches centroids instead of masks and counts too few misses; `docs/metrics.md` names each departure from the
definitions. These scores are reported beside those of `metrics.tracking` and do not replace them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.metrics.estimates import Floats, Ints, ratio
from cytoforge.tracking.assignment import maximum_cardinality

FRAME = (383, 512)
"""rows and columns to which all frames are scaled"""
DISTANCE = 6.0
BORDER = (80.0, 432.0)
"""range of rows and of columns, in scaled pixels, outside which cells are left out; chosen for 512 columns, and used
for the 383 rows as well"""


class Places(NamedTuple):
    """Labels (n,) of the cells of a frame and their centroids (n, 2), y and x in pixels."""

    labels: Ints
    centroids: Floats


def places(labels: NDArray[np.integer[Any]]) -> Places:
    """Return the cells of labels (H, W), 0 background, with their centroids, from runs of equal labels in each row."""
    flat = np.ascontiguousarray(labels).reshape(-1)
    changed = np.ones(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=changed[1:])
    changed[:: labels.shape[1]] = True
    starts = np.flatnonzero(changed)
    lengths = np.diff(starts, append=flat.size)
    inside = flat[starts] > 0
    starts, lengths = starts[inside], lengths[inside]
    ids, cell = np.unique(flat[starts], return_inverse=True)
    y, x = np.divmod(starts, labels.shape[1])
    area = np.bincount(cell, lengths, ids.size)
    sums = [np.bincount(cell, lengths * middle, ids.size) for middle in (y, x + (lengths - 1) / 2)]
    return Places(ids.astype(np.int64), np.stack(sums, axis=1) / area[:, None])


def script_counts(frames: Iterable[tuple[Places, Places]], size: Sequence[int]) -> dict[str, Floats]:
    """Return the counts for the script's measures, from truth and prediction of frames of `size` (H, W) in pixels.

    Where several matchings are equally good and the script would choose among them arbitrarily, the nearest cells are
    matched.
    """
    scale = np.array(FRAME) / size
    counts = dict.fromkeys(("true_cells", "matches", "inventions", "misses"), 0)
    label, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for sides in frames:
        (ours, here), (theirs, there) = (_inside(side, scale) for side in sides)
        distance = np.linalg.norm(here[:, None] - there[None], axis=2)
        row, column = np.nonzero(distance < DISTANCE)
        taken = maximum_cardinality(row, column, 1 - distance[row, column] / DISTANCE)
        row, column = row[taken], column[taken]
        counts["true_cells"] += ours.size
        counts["matches"] += row.size
        counts["inventions"] += theirs.size - row.size
        # The script's assignment also pairs cells that are too far apart, and it does not count them as missed.
        counts["misses"] += ours.size - min(ours.size, theirs.size)
        label.append(ours)
        found.append(np.full(ours.size, -1, np.int64))
        found[-1][row] = theirs[column]
    return {
        **{name: np.asarray(number, np.float64) for name, number in counts.items()},
        **_trajectories(np.concatenate(label), np.concatenate(found)),
    }


def _inside(side: Places, scale: Floats) -> tuple[Ints, Floats]:
    centroids = side.centroids * scale
    kept = ((centroids >= BORDER[0]) & (centroids <= BORDER[1])).all(axis=1)
    return side.labels[kept], centroids[kept]


def _trajectories(label: Ints, found: Ints) -> dict[str, Floats]:
    """Count switches and coverage of tracks, from the true labels (n,) in the order of time and their matches.

    `found` (n,) is the predicted label matched with each true one, or -1.
    """
    order = np.argsort(label, kind="stable")
    labels, own = np.unique(label[order], return_inverse=True)
    found = found[order]
    # Only matches of two successive masks are compared: a switch over a gap does not count.
    same = (own[1:] == own[:-1]) & (found[1:] >= 0) & (found[:-1] >= 0)
    share = np.bincount(own, found >= 0, labels.size) / np.bincount(own, minlength=labels.size)
    numbers = {
        "switches": int((same & (found[1:] != found[:-1])).sum()),
        "true_tracks": labels.size,
        "mostly_tracked": int((share > 0.8).sum()),
        "mostly_lost": int((share < 0.2).sum()),
    }
    return {name: np.asarray(number, np.float64) for name, number in numbers.items()}


def script_measures(counts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the script's scores from counts, which may have any leading axes; 0/0 is nan."""
    truth, matched = counts["true_cells"], counts["matches"]
    wrong = counts["inventions"] + counts["misses"] + counts["switches"]
    return {
        "mota": 1 - ratio(wrong, np.where(truth > 0, truth, np.nan)),
        "precision": ratio(matched, matched + counts["inventions"]),
        "recall": ratio(matched, matched + counts["misses"]),
        "switches": counts["switches"],
        "mostly_tracked": ratio(counts["mostly_tracked"], counts["true_tracks"]),
        "mostly_lost": ratio(counts["mostly_lost"], counts["true_tracks"]),
    }
