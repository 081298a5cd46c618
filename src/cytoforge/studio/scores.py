"""How what a model finds agrees with the finished masks, image by image, the worst first."""

from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.data.files import read_json, write_json
from cytoforge.data.formats import image_files, image_name
from cytoforge.evaluation.comparison import MaskComparison
from cytoforge.evaluation.segmentation import open_masks, score_masks
from cytoforge.metrics.segmentation import ImageScores, summarise
from cytoforge.progress import counted
from cytoforge.studio.results import plain
from cytoforge.studio.workspace import Workspace

SCORES = "scores.json"


def write_scores(workspace: Workspace, folder: Path, learned: list[str]) -> str:
    """Compare FOLDER/out, what a model found, with FOLDER/in, the masks, as `cytoforge score segmentation` does.

    Writes FOLDER/scores.json: the images, the worst first, and the mean over those that the model has `learned` from
    and over the others, with 95 % intervals. Returns a sentence or two for the user.
    """
    comparison = MaskComparison(prediction=folder / "out", truth=folder / "in", allow_synthetic=True)
    results = score_masks(comparison, open_masks(comparison))
    known = set(learned)
    masks = {image_name(file): file for file in image_files(folder / "in" / "masks")}
    images = [
        {
            "name": name,
            "f_score": plain(one.f_score[0]),
            "true": one.truth_cells,
            "found": one.predicted_cells,
            "missed": one.false_negatives[0],
            "wrong": one.false_positives[0],
            "learned": name in known,
            "as_found": workspace.is_as_found(name, masks[name]),
        }
        for name, one in results.images.items()
    ]
    images.sort(key=lambda image: (image["f_score"] is None, image["f_score"]))
    parts = {
        part: _mean({name: one for name, one in results.images.items() if (name in known) is (part == "learned")})
        for part in ("new", "learned")
    }
    write_json(folder / SCORES, {"threshold": results.thresholds[0], "images": images, **parts})
    part = "new" if parts["new"] else "learned"
    mean = parts[part] or {"images": 0, "value": None}
    value = "no value" if mean["value"] is None else f"{mean['value']:.2f}"
    whose = " it learned from" if part == "learned" else ""
    return f"F is {value} on {counted(mean['images'], 'image')}{whose}.{_flattered(images)}"


def read_scores(folder: Path) -> dict[str, Any]:
    """Return what `write_scores` wrote."""
    return read_json(folder / SCORES)


def _flattered(images: list[dict[str, Any]]) -> str:
    """Return what to say where masks are just as a model found them."""
    repeated = sum(image["as_found"] for image in images)
    if not repeated:
        return ""
    is_are = "is" if repeated == 1 else "are"
    return (
        f" {repeated} of {counted(len(images), 'mask')} {is_are} just as a model found them, which flatters the model."
    )


def _mean(images: dict[str, ImageScores]) -> dict[str, Any] | None:
    """Return the mean F at the first threshold over some images, with its interval; None without images."""
    if not images:
        return None
    estimate = summarise(images, np.random.default_rng(0)).mean["f_score"][0]
    interval = {"value": plain(estimate.value), "low": plain(estimate.low), "high": plain(estimate.high)}
    return {"images": len(images), **interval}
