"""Compare folders of predicted and true masks: match the masks and compute scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import LabelReader
from cytoforge.engine import Announce, Seat
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import MaskComparison
from cytoforge.evaluation.division import Row, Scoring
from cytoforge.metrics.segmentation import (
    THRESHOLDS,
    ImageScores,
    Protocol,
    SegmentationResults,
    merged,
    overlap,
    score_overlap,
    segmentation_scores,
    summarise,
)
from cytoforge.progress import counted

STRIP = 2**24  # px of a mask that are compared at a time


@dataclass(frozen=True)
class MaskPairs:
    """Predicted and true masks, matched by index, and notes for the user."""

    prediction: Dataset
    truth: Dataset
    notes: tuple[str, ...]

    def without_items(self) -> "MaskPairs":
        """Return how both sides are read."""
        return replace(self, prediction=replace(self.prediction, items=()), truth=replace(self.truth, items=()))


def open_masks(comparison: MaskComparison) -> MaskPairs:
    """Find the predicted mask of every true one, by its name.

    Raises UserError when a path holds no masks, a true mask has no prediction or the truth is synthetic and that is not
    allowed, or a file is truth and prediction at once.
    """
    prediction = Dataset.open(comparison.prediction, holds="masks").masks()
    truth = Dataset.open(comparison.truth, holds="masks").masks()
    if not comparison.allow_synthetic and (witness := truth.synthetic()):
        raise UserError(
            f"{witness}: says that these images are synthetic, which is no ground truth; "
            "score on annotated images, or give --allow-synthetic"
        )
    notes = [f"{side}: {note}" for side, data in (("truth", truth), ("prediction", prediction)) for note in data.notes]
    scored, predicted = _pairs(truth, prediction, comparison)
    if len(scored) < len(truth.items):
        names = {item.name for item in scored}
        lost = [item.name for item in truth.items if item.name not in names]
        notes.append(f"truth: {counted(len(lost), 'mask')} without a prediction ({_some(lost)}), not scored")
    truth = replace(truth, items=scored)
    if len(predicted) < len(prediction.items):
        extra = len(prediction.items) - len(predicted)
        notes.append(f"prediction: {counted(extra, 'mask')} without a true mask, not scored")
    for found, true in zip(predicted, truth.items, strict=True):
        if found.mask and true.mask and found.mask.samefile(true.mask):
            raise UserError(
                f"{true.mask}: would be truth and prediction at once; keep predictions in a folder of their own"
            )
    for side in (truth, replace(prediction, items=predicted)):
        side.check_labels(
            binary=comparison.protocol == "paper", otherwise="--protocol paper, which scores connected components"
        )
    # Without its image an item stands for the mask alone, in reading and in the fingerprint.
    return MaskPairs(_of_masks(prediction, predicted), _of_masks(truth, truth.items), tuple(notes))


def _pairs(
    truth: Dataset, prediction: Dataset, comparison: MaskComparison
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return the true masks that are scored, and the prediction of each, which has its name.

    Two single files are matched regardless of their names.
    """
    if prediction.path.is_file() and truth.path.is_file():
        return truth.items, prediction.items
    named = {item.name: item for item in prediction.items}
    scored = tuple(item for item in truth.items if item.name in named)
    missing = [item.name for item in truth.items if item.name not in named]
    if missing and not scored:
        raise UserError(
            f"{prediction.path}: has no mask with the name of a true one ({_some(missing)} in {truth.path}); name "
            "predictions as the true masks are"
        )
    if missing and not comparison.allow_missing:
        raise UserError(
            f"{prediction.path}: has no prediction for {len(missing)} of {counted(len(truth.items), 'true mask')} "
            f"({_some(missing)}); segment these images too, or give --allow-missing to score the others"
        )
    return scored, tuple(named[item.name] for item in scored)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _of_masks(dataset: Dataset, items: Sequence[Item]) -> Dataset:
    return replace(dataset, items=tuple(replace(item, image=None) for item in items))


def score_masks(comparison: MaskComparison, pairs: MaskPairs) -> SegmentationResults:
    """Score every true mask against the predicted one; raises UserError when their sizes differ."""
    images = {
        true.name: _scored(pairs, true, found, comparison.protocol)
        for true, found in zip(pairs.truth.items, pairs.prediction.items, strict=True)
    }
    return summarise(images, np.random.default_rng(comparison.seed))


Pair = tuple[Item, Item]
"""a true and a predicted mask"""


def scoring_of(comparison: MaskComparison, pairs: MaskPairs) -> Scoring[Pair, SegmentationResults]:
    """Return what `score_masks` does as work that can be divided."""

    def results(rows: Mapping[str, Row]) -> SegmentationResults:
        images = {name: ImageScores.from_json(row) for name, row in rows.items()}
        return summarise(images, np.random.default_rng(comparison.seed))

    items = tuple(zip(pairs.truth.items, pairs.prediction.items, strict=True))
    work = ScoringMasks(pairs.without_items(), comparison.protocol)
    return Scoring(work, items, lambda pair: pair[0].name, "images", results)


@dataclass(frozen=True)
class ScoringMasks:
    """Scores a pair of masks."""

    pairs: MaskPairs
    """without their items"""
    protocol: Protocol

    def start(self, seat: Seat) -> Callable[[Pair, Announce], Row]:
        """Return the function that scores a pair."""
        return lambda pair, announce: _scored(self.pairs, *pair, self.protocol).to_json()


def _scored(pairs: MaskPairs, true: Item, found: Item, protocol: Protocol) -> ImageScores:
    """Score one mask, by ranges of rows where its cells are scored as they are numbered."""
    assert true.mask and found.mask
    with LabelReader(true.mask) as truth, LabelReader(found.mask) as prediction:
        (_, height, width), (_, *other) = truth.shape, prediction.shape
        if [height, width] != other:
            raise UserError(
                f"{found.mask}: is {other[0]} x {other[1]} pixels, the true mask {true.mask} "
                f"{height} x {width}; bring the prediction to the size of the original image"
            )
        if protocol == "paper":
            return segmentation_scores(
                pairs.truth.read_labels(true), pairs.prediction.read_labels(found), protocol=protocol
            )
        step = max(STRIP // width, 1)
        rows = ((top, min(top + step, height)) for top in range(0, height, step))
        table = merged(overlap(truth.labels(*part), prediction.labels(*part)) for part in rows)
    return score_overlap(table, THRESHOLDS, protocol, dice=table.dice())


def remarks(results: SegmentationResults) -> list[str]:
    """Return a warning if masks look binary and would be scored as one cell each."""
    scores = results.images.values()
    most = {"truth": max(s.truth_cells for s in scores), "prediction": max(s.predicted_cells for s in scores)}
    if results.protocol != "instances" or min(most.values()) != 1 or max(most.values()) == 1:
        return []
    side = min(most, key=lambda name: most[name])
    return [f"{side}: no mask holds more than one cell; are they binary? --protocol paper scores connected components"]
