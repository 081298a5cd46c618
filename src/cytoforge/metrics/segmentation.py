"""Scores of a segmentation: cells matched by overlap, then precision, recall, F, average precision and Dice.

A label image holds 0 for background and one positive id per cell. Cells of truth and prediction are compared through
their sparse overlap table, matched one to one, and counted. There are two protocols:

`instances`
    The labels are used as they are. An undefined score (0/0, as for two empty images) is nan and left out of means, a
    perfect score is exactly 1, and an IoU of exactly the threshold counts as a match.
`paper`
    The published evaluation of cGAN-Seg: ids are dropped, cells are the 4-connected components of the foreground with
    at least 15 pixels, every denominator has 1e-6 added, and an empty image scores 0 (its Dice 1). Truth is not eroded
    here, as it was for the published numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import compact, flat
from cytoforge.metrics.estimates import (
    RESAMPLES,
    Estimate,
    Floats,
    Ints,
    bootstrap_estimate,
    from_json,
    mean_estimate,
    ratio,
    resample,
    to_json,
)
from cytoforge.tracking.assignment import maximum_cardinality

Protocol = Literal["instances", "paper"]
Labels = NDArray[np.integer[Any]] | NDArray[np.bool_]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
METRICS = ("precision", "recall", "f_score", "average_precision", "matched_iou")
MINIMUM_PIXELS = 15
SEVERAL = 4
"""images from which on they are resampled for an interval; of fewer, the cells of each"""
_SMOOTHING = {"instances": 0.0, "paper": 1e-6}


@dataclass(frozen=True)
class Overlap:
    """Which cells share pixels: T true cells, P predicted cells, K pairs with at least one pixel in common.

    Ids ascend and leave out the background; areas and intersections are in pixels; pair k joins true cell
    `pair_truth[k]` and predicted cell `pair_prediction[k]`, both positions in the id arrays.
    """

    truth_ids: NDArray[np.integer[Any]]  # (T,)
    prediction_ids: NDArray[np.integer[Any]]  # (P,)
    truth_areas: Ints  # (T,)
    prediction_areas: Ints  # (P,)
    pair_truth: Ints  # (K,)
    pair_prediction: Ints  # (K,)
    intersection: Ints  # (K,)

    def iou(self, smoothing: float = 0.0) -> Floats:
        """Return intersection over union of each pair (K,), in (0, 1]; `smoothing` pixels are added to the union."""
        union = self.truth_areas[self.pair_truth] + self.prediction_areas[self.pair_prediction] - self.intersection
        return self.intersection / (union + smoothing)

    def dice(self, smoothing: float = 0.0) -> float:
        """Return Dice of the foregrounds in [0, 1], 2|A and B| / (|A| + |B|) in pixels; nan if both are empty.

        `smoothing` pixels are added to numerator and denominator; above 0, two empty foregrounds score 1. Of two label
        images, only pixels in both foregrounds count as shared, whatever their ids.
        """
        total = self.truth_areas.sum() + self.prediction_areas.sum()
        return float(ratio(2 * self.intersection.sum() + smoothing, total + smoothing))


@dataclass(frozen=True)
class Matches:
    """M matched pairs of cells: their ids and IoU."""

    truth_ids: NDArray[np.integer[Any]]  # (M,)
    prediction_ids: NDArray[np.integer[Any]]  # (M,)
    iou: Floats  # (M,)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image; each tuple has one entry per IoU threshold. An undefined score is nan.

    `matched_iou` is the mean IoU of the matched pairs, `average_precision` TP / (TP + FP + FN).
    """

    protocol: Protocol
    thresholds: tuple[float, ...]
    truth_cells: int
    predicted_cells: int
    true_positives: tuple[int, ...]
    false_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f_score: tuple[float, ...]
    average_precision: tuple[float, ...]
    matched_iou: tuple[float, ...]
    dice: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        return to_json(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the scores of which these are the plain values."""
        return cls(**from_json(values))


@dataclass(frozen=True)
class SegmentationResults:
    """Scores of a set of images: for each image, as the mean over the images, and pooled over all cells.

    `mean` and `pooled` map each name of `METRICS` to one estimate per threshold; `dice` is the mean over the images.
    """

    protocol: Protocol
    thresholds: tuple[float, ...]
    truth_cells: int
    predicted_cells: int
    true_positives: tuple[int, ...]
    false_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]
    mean: dict[str, tuple[Estimate, ...]]
    pooled: dict[str, tuple[Estimate, ...]]
    dice: Estimate
    images: dict[str, ImageScores]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        return to_json(self)


def overlap(truth: Labels, prediction: Labels) -> Overlap:
    """Return the overlap table of two label images.

    Labels are constant along runs of pixels, so one pass over the pixels finds the runs and the table is computed from
    these. Memory grows with the number of pixels and overlapping pairs, never with T * P.

    Args:
        truth: integer or bool labels, (H, W) or any other shape; ids may be large and need not be consecutive.
        prediction: the same shape.

    Raises:
        ValueError: shapes differ, labels are not integers, or an id is negative.
    """
    _check(truth, prediction)
    left, right = flat(truth), flat(prediction)
    changed = np.ones(left.size, dtype=bool)
    np.not_equal(left[1:], left[:-1], out=changed[1:])
    changed[1:] |= right[1:] != right[:-1]
    starts = np.flatnonzero(changed)
    # A first run of no pixels makes the background index 0 on both sides, whether it is present or not.
    lengths = np.diff(starts, prepend=0, append=left.size) if starts.size else np.zeros(1, np.int64)
    truth_ids, row = compact(np.concatenate([np.zeros(1, left.dtype), left[starts]]))
    prediction_ids, column = compact(np.concatenate([np.zeros(1, right.dtype), right[starts]]))
    both = np.flatnonzero((row > 0) & (column > 0))
    codes, pair = compact((row[both] - 1) * (len(prediction_ids) - 1) + column[both] - 1)
    pair_truth, pair_prediction = np.divmod(codes, max(len(prediction_ids) - 1, 1))
    return Overlap(
        truth_ids=truth_ids[1:],
        prediction_ids=prediction_ids[1:],
        truth_areas=_sums(row, lengths, len(truth_ids))[1:],
        prediction_areas=_sums(column, lengths, len(prediction_ids))[1:],
        pair_truth=pair_truth,
        pair_prediction=pair_prediction,
        intersection=_sums(pair, lengths[both], len(codes)),
    )


def merged(tables: Iterable[Overlap]) -> Overlap:
    """Return the overlap table of label images whose parts, such as ranges of rows, have the given tables.

    An id stands for one cell in all parts. Raises ValueError without a table.
    """
    parts = list(tables)
    if not parts:
        raise ValueError("there are no tables to merge")
    truth_ids, truth_place = compact(np.concatenate([part.truth_ids for part in parts]))
    prediction_ids, prediction_place = compact(np.concatenate([part.prediction_ids for part in parts]))
    row = np.concatenate([np.searchsorted(truth_ids, part.truth_ids[part.pair_truth]) for part in parts])
    column = np.concatenate(
        [np.searchsorted(prediction_ids, part.prediction_ids[part.pair_prediction]) for part in parts]
    )
    codes, pair = np.unique(row * max(len(prediction_ids), 1) + column, return_inverse=True)
    pair_truth, pair_prediction = np.divmod(codes, max(len(prediction_ids), 1))
    return Overlap(
        truth_ids=truth_ids,
        prediction_ids=prediction_ids,
        truth_areas=_sums(truth_place, np.concatenate([part.truth_areas for part in parts]), len(truth_ids)),
        prediction_areas=_sums(
            prediction_place, np.concatenate([part.prediction_areas for part in parts]), len(prediction_ids)
        ),
        pair_truth=pair_truth,
        pair_prediction=pair_prediction,
        intersection=_sums(pair, np.concatenate([part.intersection for part in parts]), len(codes)),
    )


def match(truth: Labels, prediction: Labels, threshold: float = 0.5) -> Matches:
    """Match true and predicted cells one to one: the most pairs of IoU >= threshold, then the largest sum of IoU.

    Args:
        truth: integer labels (H, W).
        prediction: integer labels (H, W).
        threshold: least IoU of a pair, in (0, 1].

    Raises:
        ValueError: as in `overlap`; or a threshold outside (0, 1].
    """
    _check_thresholds((threshold,))
    table = overlap(truth, prediction)
    iou = table.iou()
    pairs = _matched_pairs(table, iou, threshold)
    return Matches(
        table.truth_ids[table.pair_truth[pairs]], table.prediction_ids[table.pair_prediction[pairs]], iou[pairs]
    )


def paper_components(labels: Labels) -> NDArray[np.int32]:
    """Return the cells of the published evaluation: 4-connected components of labels > 0 with at least 15 pixels.

    Returns labels (H, W) whose ids ascend but may have gaps. Ids of the input are lost: touching cells become one.
    """
    components: NDArray[np.int32] = ndimage.label(labels > 0)[0]
    keep = np.bincount(components.ravel()) >= MINIMUM_PIXELS
    keep[:1] = False
    return np.where(keep[components], components, 0)


def segmentation_scores(
    truth: Labels,
    prediction: Labels,
    thresholds: Sequence[float] = THRESHOLDS,
    protocol: Protocol = "instances",
) -> ImageScores:
    """Score one predicted label image against the truth.

    Args:
        truth: integer labels (H, W), 0 background.
        prediction: integer labels (H, W).
        thresholds: IoU from which a pair of cells is a match, each in (0, 1].
        protocol: `instances` or `paper`, see the module.

    Raises:
        ValueError: as in `overlap`; an unknown protocol; a threshold outside (0, 1].
    """
    _check_thresholds(thresholds)
    if protocol not in _SMOOTHING:
        raise ValueError(f"protocol must be one of {', '.join(_SMOOTHING)}, got {protocol!r}")
    if protocol == "instances":
        table = overlap(truth, prediction)
        return score_overlap(table, thresholds, protocol, dice=table.dice())
    _check(truth, prediction)
    dice = overlap(truth > 0, prediction > 0).dice(_SMOOTHING[protocol])
    return score_overlap(overlap(paper_components(truth), paper_components(prediction)), thresholds, protocol, dice)


def score_overlap(table: Overlap, thresholds: Sequence[float], protocol: Protocol, dice: float) -> ImageScores:
    """Return scores from an overlap table with the arithmetic of a protocol; the table's cells are used as they are."""
    smoothing = _SMOOTHING[protocol]
    iou = table.iou(smoothing)
    matched = [iou[_matched_pairs(table, iou, threshold)] for threshold in thresholds]
    true_positives = np.array([len(pairs) for pairs in matched], dtype=np.int64)
    false_positives = len(table.prediction_ids) - true_positives
    false_negatives = len(table.truth_ids) - true_positives
    total_iou = np.array([pairs.sum() for pairs in matched], dtype=np.float64)
    rates = _rates(np.stack([true_positives, false_positives, false_negatives, total_iou]), smoothing)
    return ImageScores(
        protocol=protocol,
        thresholds=tuple(map(float, thresholds)),
        truth_cells=len(table.truth_ids),
        predicted_cells=len(table.prediction_ids),
        true_positives=tuple(true_positives.tolist()),
        false_positives=tuple(false_positives.tolist()),
        false_negatives=tuple(false_negatives.tolist()),
        **{name: tuple(values.tolist()) for name, values in rates.items()},
        dice=dice,
    )


def summarise(
    images: Mapping[str, ImageScores], generator: np.random.Generator, resamples: int = RESAMPLES
) -> SegmentationResults:
    """Combine the scores of named images, with intervals from resampling the images.

    Raises:
        ValueError: no image, or images scored by different protocols or thresholds.
    """
    scores = list(images.values())
    if len({(image.protocol, image.thresholds) for image in scores}) != 1:
        raise ValueError(f"need at least one image, all of one protocol and thresholds; got {len(scores)} images")
    protocol, thresholds = scores[0].protocol, scores[0].thresholds
    draws = resample(len(scores), generator, resamples)
    counts = np.array([[s.true_positives, s.false_positives, s.false_negatives] for s in scores], dtype=np.float64)
    total_iou = np.nan_to_num([s.matched_iou for s in scores]) * counts[:, 0]
    parts = np.concatenate([counts, total_iou[:, None]], axis=1)
    pooled = _rates(parts.sum(axis=0), _SMOOTHING[protocol])
    spread = _rates(np.tensordot(draws, parts, axes=1), _SMOOTHING[protocol])
    columns = range(len(thresholds))
    values = {name: np.array([getattr(s, name) for s in scores], dtype=np.float64) for name in METRICS}
    return SegmentationResults(
        protocol=protocol,
        thresholds=thresholds,
        truth_cells=sum(s.truth_cells for s in scores),
        predicted_cells=sum(s.predicted_cells for s in scores),
        true_positives=_total(s.true_positives for s in scores),
        false_positives=_total(s.false_positives for s in scores),
        false_negatives=_total(s.false_negatives for s in scores),
        mean={name: tuple(mean_estimate(values[name][:, k], draws) for k in columns) for name in METRICS},
        pooled={
            name: tuple(bootstrap_estimate(pooled[name][k], spread[name][:, k], len(scores)) for k in columns)
            for name in METRICS
        },
        dice=mean_estimate([s.dice for s in scores], draws),
        images=dict(images),
    )


def f_replicates(
    scores: Sequence[ImageScores], generator: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[Floats, Floats, int]:
    """Return F (thresholds,), mean over the images, its bootstrap replicates (resamples, thresholds), and over how many
    images or cells these are drawn.

    From SEVERAL images on these are resampled. Of fewer, the cells of each image are: pairs by the thresholds that
    they reach, false cells and missed ones. Such an interval tells how sure F is on these images, and not how it would
    be on others. Images without cells on either side have no F, and are left out. Everything is nan without any image.
    """
    defined = [one for one in scores if one.truth_cells + one.predicted_cells]
    if not defined:
        nothing = np.full(len(scores[0].thresholds) if scores else 0, np.nan)
        return nothing, np.tile(nothing, (resamples, 1)), 0
    values = np.array([one.f_score for one in defined], dtype=np.float64)
    if len(defined) >= SEVERAL:
        draws = resample(len(defined), generator, resamples)
        return values.mean(axis=0), draws @ values / len(defined), len(defined)
    inside = np.mean([_f_of_drawn_cells(one, generator, resamples) for one in defined], axis=0)
    cells = sum(one.true_positives[0] + one.false_positives[0] + one.false_negatives[0] for one in defined)
    return values.mean(axis=0), inside, cells


def _f_of_drawn_cells(scores: ImageScores, generator: np.random.Generator, resamples: int) -> Floats:
    """Return F (resamples, thresholds) of one image whose pairs, false and missed cells are drawn with replacement."""
    reached = np.array(scores.true_positives)
    alone = [scores.false_positives[0], scores.false_negatives[0]]
    counts = np.array([*(reached - np.append(reached[1:], 0)), *alone])
    drawn = generator.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    pairs = drawn[:, : len(reached)]
    beyond = pairs[:, ::-1].cumsum(axis=1)[:, ::-1]  # pairs that reach each threshold
    return ratio(2 * beyond, (2 * pairs.sum(axis=1) + drawn[:, len(reached) :].sum(axis=1))[:, None])


def _matched_pairs(table: Overlap, iou: Floats, threshold: float) -> Ints:
    """Return positions of the matched pairs: the most pairs of IoU >= threshold, then the largest sum of IoU."""
    pairs = np.flatnonzero(iou >= threshold)
    return pairs[maximum_cardinality(table.pair_truth[pairs], table.pair_prediction[pairs], iou[pairs])]


def _rates(parts: Floats, smoothing: float) -> dict[str, Floats]:
    """Return each of `METRICS` (..., thresholds) from parts (..., 4, thresholds): TP, FP, FN, IoU sum; 0/0 is nan."""
    tp, fp, fn, total_iou = np.moveaxis(parts, -2, 0)
    precision = ratio(tp, tp + fp + smoothing)
    recall = ratio(tp, tp + fn + smoothing)
    if smoothing:
        f_score = ratio(2 * precision * recall, precision + recall + smoothing)
    else:  # the same value, but 0 instead of nan if only one side is empty
        f_score = ratio(2 * tp, 2 * tp + fp + fn)
    average_precision = ratio(tp, tp + fp + fn + smoothing)
    matched_iou = ratio(total_iou, tp + smoothing)
    return dict(zip(METRICS, (precision, recall, f_score, average_precision, matched_iou), strict=True))


def _sums(index: Ints, weights: Ints, size: int) -> Ints:
    return np.bincount(index, weights=weights, minlength=size).astype(np.int64)


def _total(counts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*counts, strict=True)))


def _check(truth: Labels, prediction: Labels) -> None:
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.dtype.kind not in "iub":
            raise ValueError(f"{name} must hold integer labels, got {labels.dtype}")
        if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
            raise ValueError(f"{name} must hold labels >= 0, got {labels.min()}")
    if truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction must have one shape, got {truth.shape} and {prediction.shape}")


def _check_thresholds(thresholds: Sequence[float]) -> None:
    if not len(thresholds) or not all(0 < threshold <= 1 for threshold in thresholds):
        raise ValueError(f"IoU thresholds must lie in (0, 1], got {tuple(thresholds)}")
