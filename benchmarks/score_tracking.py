"""How much CPU time it takes to score the tracks of 100 frames with 500 cells each, on one thread, and in what steps.

    python benchmarks/score_tracking.py

The prediction is the truth moved by three pixels, each cell missed in every seventeenth frame; masks are in memory.
Writes score_tracking.json beside this file.
"""

import os
import statistics
import sys
import time
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"  # before numpy is loaded

import numpy as np  # noqa: E402

from cytoforge.data.movie import tracks_of  # noqa: E402
from cytoforge.metrics.comparison import compare  # noqa: E402
from cytoforge.metrics.ctc import ctc_measures, graph_counts, segmentation_counts  # noqa: E402
from cytoforge.metrics.deepsea import places, script_counts, script_measures  # noqa: E402
from cytoforge.metrics.motion import Row  # noqa: E402
from cytoforge.metrics.segmentation import overlap  # noqa: E402
from cytoforge.metrics.tracking import tracking_counts, tracking_measures  # noqa: E402
from matching import Labels, discs  # noqa: E402
from measuring import keep, provenance  # noqa: E402

SIZE, FRAMES, CELLS, REPEATS = (1024, 1024), 100, 500, 3
GOAL_S = 5.0
GENERATION = 20  # frames from one division of all cells to the next, half of which are lost


def movie() -> tuple[list[Labels], list[Row]]:
    """Cells that tremble in their places; every twenty frames half of them die and the others divide."""
    frames, rows, labels = [], [], np.arange(1, CELLS + 1)
    parents = np.zeros(CELLS, np.int64)
    for t in range(FRAMES):
        if t and t % GENERATION == 0:
            rows += [(int(c), t - GENERATION, t - 1, int(p)) for c, p in zip(labels, parents, strict=True)]
            parents = np.repeat(labels[: CELLS // 2], 2)
            labels = labels.max() + np.arange(1, CELLS + 1)
        picture = discs(*SIZE, CELLS, 2.0, np.random.default_rng(t))
        frames.append(np.concatenate([[0], labels]).astype(np.int32)[picture])
    rows += [(int(c), FRAMES - GENERATION, FRAMES - 1, int(p)) for c, p in zip(labels, parents, strict=True)]
    return frames, rows


def predicted(frames: list[Labels]) -> tuple[list[Labels], list[Row]]:
    """The same cells, moved, each missed in every seventeenth frame."""
    found = []
    for t, frame in enumerate(frames):
        moved = np.roll(frame, 3, axis=1)
        found.append(np.where(moved % 17 == t % 17, 0, moved))
    rows, renamed = tracks_of({t: np.unique(frame[frame > 0]).tolist() for t, frame in enumerate(found)})
    for t, frame in enumerate(found):
        table = np.arange(frame.max() + 1, dtype=np.int32)
        for (when, cell), label in renamed.items():
            if when == t:
                table[cell] = label
        found[t] = table[frame]
    return found, [tuple(row) for row in rows]


def measure() -> dict[str, Any]:
    (truth, true_rows), (found, rows) = (sides := movie()), predicted(sides[0])
    spent: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        clock = [time.process_time()]
        tables = {t: overlap(a, b) for t, (a, b) in enumerate(zip(truth, found, strict=True))}
        comparison = compare(tables, true_rows, rows)
        clock.append(time.process_time())
        tracking_measures(tracking_counts(comparison))
        clock.append(time.process_time())
        ctc_measures({**graph_counts(comparison), **segmentation_counts(tables.values())})
        clock.append(time.process_time())
        script_measures(script_counts(((places(a), places(b)) for a, b in zip(truth, found, strict=True)), SIZE))
        clock.append(time.process_time())
        for name, seconds in zip(("overlap", "tracking", "ctc", "deepsea_script"), np.diff(clock), strict=True):
            spent.setdefault(name, []).append(float(seconds))
        spent.setdefault("all", []).append(clock[-1] - clock[0])
    whole = statistics.median(spent["all"])
    return {
        "cells": comparison.truth.size,
        "true_tracks": len(true_rows),
        "predicted_tracks": len(rows),
        "repeats": REPEATS,
        "median_cpu_s": {name: round(statistics.median(values), 3) for name, values in spent.items()},
        "goal_s": GOAL_S,
        "goal_met": whole <= GOAL_S,
    }


def main() -> int:
    result = measure()
    told = provenance(
        "python benchmarks/score_tracking.py",
        (
            "numpy",
            "scipy",
        ),
        height_width_frames_cells=[*SIZE, FRAMES, CELLS],
    )
    keep(__file__, {"provenance": told, "results": result})
    return 0 if result["goal_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
