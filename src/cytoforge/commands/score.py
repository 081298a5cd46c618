"""`cytoforge score`: predicted against true masks, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isnan
from typing import Any

import numpy as np

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import write_json
from cytoforge.errors import UserError
from cytoforge.metrics.estimates import Estimate
from cytoforge.metrics.segmentation import (
    ImageScores,
    Labels,
    SegmentationResults,
    segmentation_scores,
    summarise,
)
from cytoforge.places import ABSENT
from cytoforge.progress import counted
from cytoforge.settings import ScoreSegmentation

COLUMNS = {"F": "f_score", "precision": "precision", "recall": "recall", "AP": "average_precision"}


@dataclass(frozen=True)
class _Inputs:
    """The masks of both sides, item k of one belonging to item k of the other, and what to say about them."""

    prediction: Dataset
    truth: Dataset
    notes: tuple[str, ...]


def score_command(config: ScoreSegmentation) -> None:
    """Score and print the table."""
    inputs = _open(config)
    results = _score(inputs, config)
    print("\n".join([*inputs.notes, *_remarks(results), table(results)]))


def score_segmentation(config: ScoreSegmentation) -> SegmentationResults:
    """Score every true mask against the predicted one of the same name; write `config.json` if asked to.

    Raises:
        UserError: a path holds no masks, a true mask has no prediction, sizes differ, the truth is synthetic and
            that is not allowed, a file is truth and prediction at once, or the JSON file exists already.
    """
    return _score(_open(config), config)


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


def _open(config: ScoreSegmentation) -> _Inputs:
    if config.json is not None:
        ABSENT.check(config.json, overwrite=config.overwrite)
    prediction = Dataset.open(config.prediction, holds="masks").masks()
    truth = Dataset.open(config.truth, holds="masks").masks()
    if not config.allow_synthetic and (witness := truth.synthetic()):
        raise UserError(
            f"{witness}: says that these images are synthetic, which is no ground truth; "
            "score on annotated images, or give --allow-synthetic"
        )
    notes = [f"{side}: {note}" for side, data in (("truth", truth), ("prediction", prediction)) for note in data.notes]
    predicted = _predictions_for(truth, prediction)
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
            binary=config.protocol == "paper", otherwise="--protocol paper, which scores connected components"
        )
    # Without its image an item stands for the mask alone, in reading and in the fingerprint.
    return _Inputs(_of_masks(prediction, predicted), _of_masks(truth, truth.items), tuple(notes))


def _predictions_for(truth: Dataset, prediction: Dataset) -> tuple[Item, ...]:
    """Find the prediction of each true mask by its name; of two single files, whatever they are called."""
    if prediction.path.is_file() and truth.path.is_file():
        return prediction.items
    named = {item.name: item for item in prediction.items}
    missing = [item.name for item in truth.items if item.name not in named]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError(
            f"{prediction.path}: has no prediction for {len(missing)} of {counted(len(truth.items), 'true mask')} "
            f"({shown}); segment these images too, or take their masks out of {truth.path}"
        )
    return tuple(named[item.name] for item in truth.items)


def _of_masks(dataset: Dataset, items: Sequence[Item]) -> Dataset:
    return replace(dataset, items=tuple(replace(item, image=None) for item in items))


def _score(inputs: _Inputs, config: ScoreSegmentation) -> SegmentationResults:
    images = {
        true.name: _scored(inputs.truth.read_labels(true), inputs.prediction.read_labels(found), true, found, config)
        for true, found in zip(inputs.truth.items, inputs.prediction.items, strict=True)
    }
    results = summarise(images, np.random.default_rng(config.seed))
    if config.json is not None:
        write_json(config.json, _record(inputs, config, results))
    return results


def _scored(truth: Labels, prediction: Labels, true: Item, found: Item, config: ScoreSegmentation) -> ImageScores:
    if truth.shape != prediction.shape:
        raise UserError(
            f"{found.mask}: is {prediction.shape[0]} x {prediction.shape[1]} pixels, the true mask {true.mask} "
            f"{truth.shape[0]} x {truth.shape[1]}; bring the prediction to the size of the original image"
        )
    return segmentation_scores(truth, prediction, protocol=config.protocol)


def _record(inputs: _Inputs, config: ScoreSegmentation, results: SegmentationResults) -> dict[str, Any]:
    """What the JSON file holds: where the numbers come from, then the numbers."""
    return {
        "format": 1,
        "command": "score segmentation",
        "version": version("cytoforge"),
        "seed": config.seed,
        "prediction": inputs.prediction.fingerprint(),
        "truth": inputs.truth.fingerprint(),
        "notes": [*inputs.notes, *_remarks(results)],
        **results.to_json(),
    }


def _remarks(results: SegmentationResults) -> list[str]:
    """What looks like a mistake: masks that tell foreground from background only, scored as one cell each."""
    scores = results.images.values()
    most = {"truth": max(s.truth_cells for s in scores), "prediction": max(s.predicted_cells for s in scores)}
    if results.protocol != "instances" or min(most.values()) != 1 or max(most.values()) == 1:
        return []
    side = min(most, key=lambda name: most[name])
    return [f"{side}: no mask holds more than one cell; are they binary? --protocol paper scores connected components"]


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
