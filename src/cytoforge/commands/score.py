"""`cytoforge score`: compare predicted with true masks; print a table and write JSON."""

from collections.abc import Sequence
from importlib.metadata import version
from math import isnan
from typing import Any

from cytoforge.commands.divided_score import scored, still_to_come
from cytoforge.commands.narrowed import narrowed
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import MaskComparison
from cytoforge.evaluation.segmentation import MaskPairs, open_masks, remarks, scoring_of
from cytoforge.metrics.estimates import Estimate
from cytoforge.metrics.segmentation import (
    SegmentationResults,
)
from cytoforge.progress import counted
from cytoforge.settings import ScoreSegmentation

COLUMNS = {"F": "f_score", "precision": "precision", "recall": "recall", "AP": "average_precision"}


def score_command(settings: ScoreSegmentation) -> None:
    """Score and print the table, or how much of the work other parts have to do yet."""
    pairs, results = _scored(settings)
    if isinstance(results, int):
        print("\n".join([*pairs.notes, still_to_come(settings, results, "mask")]))
    else:
        print("\n".join([*pairs.notes, *remarks(results), table(results)]))


def score_segmentation(settings: ScoreSegmentation) -> SegmentationResults:
    """Score every true mask against the predicted one of the same name; write JSON if asked to.

    Raises:
        UserError: a path holds no masks, a true mask has no prediction, sizes differ, the truth is synthetic and
            that is not allowed, a file is truth and prediction at once, the JSON file exists already, or other parts
            have not scored their masks yet.
    """
    results = _scored(settings)[1]
    if isinstance(results, int):
        raise UserError(still_to_come(settings, results, "mask"))
    return results


def _scored(settings: ScoreSegmentation) -> tuple[MaskPairs, SegmentationResults | int]:
    comparison = narrowed(MaskComparison, settings)
    pairs = open_masks(comparison)

    def content(results: SegmentationResults) -> dict[str, Any]:
        return {"notes": [*pairs.notes, *remarks(results)], **results.to_json()}

    return pairs, scored(settings, scoring_of(comparison, pairs), lambda: _head(pairs, settings), content)


def table(results: SegmentationResults) -> str:
    """Return the scores as text: mean over the images and pooled over all cells, with 95 % intervals."""
    cells = f"{results.truth_cells} true and {counted(results.predicted_cells, 'predicted cell')}"
    return "\n".join(
        [
            f"protocol {results.protocol}; [95 % interval, images resampled]; - where undefined",
            "",
            f"mean over {counted(len(results.images), 'image')}",
            *_block(results.thresholds, results.mean),
            "",
            f"pooled over {cells}",
            *_block(results.thresholds, results.pooled),
            "",
            f"Dice of the foreground, mean over images: {_shown(results.dice)}",
        ]
    )


def _head(pairs: MaskPairs, settings: ScoreSegmentation) -> dict[str, Any]:
    """Return the beginning of the JSON file: what the scores depend on."""
    return {
        "format": 1,
        "command": "score segmentation",
        "version": version("cytoforge"),
        "seed": settings.seed,
        "protocol": settings.protocol,
        "prediction": pairs.prediction.fingerprint(),
        "truth": pairs.truth.fingerprint(),
    }


def _block(thresholds: Sequence[float], scores: dict[str, tuple[Estimate, ...]]) -> list[str]:
    lines = ["  IoU  " + "".join(f"{title:<18}" for title in COLUMNS)]
    for k, threshold in enumerate(thresholds):
        values = "".join(f"{_shown(scores[name][k]):<18}" for name in COLUMNS.values())
        lines.append(f"  {threshold:<5g}{values}")
    return [line.rstrip() for line in lines]


def _shown(estimate: Estimate) -> str:
    if isnan(estimate.value):
        return "-"
    if isnan(estimate.low):
        return f"{estimate.value:.3f}"
    low, high = (f"{bound:.2f}".removeprefix("0") for bound in (estimate.low, estimate.high))
    return f"{estimate.value:.3f} [{low} {high}]"
