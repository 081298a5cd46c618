"""What the JSON files in benchmarks/ hold, as rows and words: read by results.py and papers.py, which write pages."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.metrics.estimates import nested_estimate

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
WAYS = {
    "otsu": "Otsu + watershed, no training",
    "paper-conventional": "conventional, the paper's augmentation, two classes",
    "conventional": "conventional, cytoforge's defaults",
    "cyclegan": "cyclegan, warm start",
}
TOOLS = {"cellpose": "Cellpose", "stardist": "StarDist", "instanseg": "InstanSeg"}
THRESHOLDS = {"0.5": 0, "0.7": 2, "0.9": 4}  # IoU: place among the scores of an image
FIRST = 7  # test images of usiigaci, by name, that are easier than the others


def load(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(HERE.glob(pattern))]


def per_image(records: list[dict[str, Any]], threshold: int = 0) -> np.ndarray:
    """F of every test image, (seeds, images); `threshold` as in THRESHOLDS."""
    return np.array([[image["f_score"][threshold] for image in one["test"].values()] for one in records], dtype=float)


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean over seeds and images with its 95 % interval, which resamples both; `values` is (seeds, images)."""
    mean = nested_estimate(values, np.random.default_rng(0))
    return {"value": mean.value, "low": mean.low, "high": mean.high}


def shown(cell: Any) -> str:
    """A value with its interval, a number or a word, as it stands in a table."""
    if isinstance(cell, dict):
        value, low, high = (shown(cell[name]) for name in ("value", "low", "high"))
        beyond = low == high and low.startswith((">", "<"))  # of labels, more or fewer than were measured
        return value if low == "-" or beyond else f"{value} [{low}, {high}]"
    return "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    header = [cell.replace("|", "\\|") for cell in header]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def ways(dataset: str) -> dict[str, list[dict[str, Any]]]:
    """The few-label trainings on a dataset, by way: one record per seed."""
    records = load(f"few_labels/{dataset}-*.json")
    return {way: own for way in WAYS if (own := [one for one in records if one["way"] == way])}


def tools(dataset: str) -> dict[str, list[dict[str, Any]]]:
    """The trainings of other tools on the same images, by name and version: one record per seed."""
    found = {}
    for tool, name in TOOLS.items():
        if own := load(f"peers/{dataset}-{tool}-*.json"):
            found[f"{name} {own[0]['provenance']['packages'][tool]}"] = own
    return found


def budget(settings: dict[str, Any]) -> str:
    """How long each training of a study took, in words."""
    if settings.get("steps"):
        told = f"{settings['steps']} steps"
    elif settings.get("epochs"):
        told = f"{settings['epochs']} epochs"
    else:
        told = f"{settings['minutes']:g} min of one thread's processor time"
    return f"{told} or until converged" if settings.get("until_converged") else told


def number_of_seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
