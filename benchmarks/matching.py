"""How long scoring one label image takes, against a Python loop over its pixels measured in the same run.

    python benchmarks/matching.py

Writes matching.json beside this file.
"""

import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.metrics.segmentation import overlap, segmentation_scores
from measuring import keep, provenance

Labels = NDArray[np.int32]
# height, width, cells, repeats, goals: milliseconds and times faster than the loop (None: the loop is not run)
CASES = ((512, 768, 100, 51, 5.0, 20.0), (4096, 4096, 10_000, 7, 1000.0, None))


def discs(height: int, width: int, cells: int, jitter: float, generator: np.random.Generator) -> Labels:
    """Labels (H, W) of discs on a grid, nearly touching, each moved by normal `jitter` in pixels."""
    rows = round(np.sqrt(cells * height / width))
    columns = -(-cells // rows)
    labels = np.zeros((height, width), np.int32)
    radius = 0.45 * min(height / rows, width / columns)
    for cell in range(cells):
        row, column = divmod(cell, columns)
        y = (row + 0.5) * height / rows + jitter * generator.normal()
        x = (column + 0.5) * width / columns + jitter * generator.normal()
        top, left = max(int(y - radius), 0), max(int(x - radius), 0)
        window = labels[top : int(y + radius) + 2, left : int(x + radius) + 2]
        near_y, near_x = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
        window[(near_y - y) ** 2 + (near_x - x) ** 2 <= radius**2] = cell + 1
    return labels


def loop(truth: Labels, prediction: Labels) -> NDArray[np.int64]:
    """Overlap table by a loop over the pixels, as the published evaluation does it."""
    table = np.zeros((truth.max() + 1, prediction.max() + 1), np.int64)
    left, right = truth.ravel(), prediction.ravel()
    for i in range(len(left)):
        table[left[i], right[i]] += 1
    return table


def milliseconds(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median and best wall time of calls, the first one dropped."""
    spent = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - begin))
    return {"median_ms": round(statistics.median(spent[1:]), 3), "best_ms": round(min(spent[1:]), 3)}


def peak_mebibytes(work: Callable[[], Any]) -> float:
    """Most memory that a call holds at once beyond its arguments."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 2**20, 1)


def measure(
    height: int, width: int, cells: int, repeats: int, goal_ms: float, goal_ratio: float | None
) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    truth = discs(height, width, cells, 0, generator)
    prediction = discs(height, width, cells, 2, generator)
    scores = segmentation_scores(truth, prediction)
    result: dict[str, Any] = {
        "height": height,
        "width": width,
        "cells": [scores.truth_cells, scores.predicted_cells],
        "true_positives": scores.true_positives,
        "repeats": repeats,
        "overlap": milliseconds(lambda: overlap(truth, prediction), repeats),
        "scores": milliseconds(lambda: segmentation_scores(truth, prediction), repeats),
        "peak_mib": peak_mebibytes(lambda: segmentation_scores(truth, prediction)),
        "image_mib": round(truth.nbytes / 2**20, 1),
        "goal_ms": goal_ms,
    }
    met = result["scores"]["median_ms"] <= goal_ms
    if goal_ratio is not None:
        table, ours = loop(truth, prediction), overlap(truth, prediction)
        assert (table[1:, 1:][ours.pair_truth, ours.pair_prediction] == ours.intersection).all()
        result["loop"] = milliseconds(lambda: loop(truth, prediction), 5)
        result["times_faster"] = round(result["loop"]["median_ms"] / result["scores"]["median_ms"], 1)
        result["goal_times_faster"] = goal_ratio
        met = met and result["times_faster"] >= goal_ratio
    return {**result, "goals_met": met}


def main() -> int:
    results = [measure(*case) for case in CASES]
    told = provenance(
        "python benchmarks/matching.py",
        (
            "numpy",
            "scipy",
        ),
    )
    keep(__file__, {"provenance": told, "results": results})
    return 0 if all(result["goals_met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
