"""How much CPU time it takes to simulate one 512 x 768 mask of 150 cells, on one thread.

    python benchmarks/simulate_masks.py [MASKS]

MASKS, a dataset or a folder of label images such as Usiigaci's (1024 x 1024 pixels), is where shapes come from, at half
their resolution; without it phantoms of a like size serve. Writes simulate_masks.json beside this file.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, get_args

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"  # before numpy is loaded

import numpy as np  # noqa: E402

from cytoforge.data.dataset import Dataset  # noqa: E402
from cytoforge.simulation.masks import Layout, Shape, shapes_of, simulate_labels  # noqa: E402
from cytoforge.simulation.phantom import phantom_labels  # noqa: E402
from measuring import keep, provenance  # noqa: E402

SIZE, CELLS, REPEATS = (512, 768), 150, 21
GOAL_S = 0.15


def bank(arguments: list[str]) -> tuple[tuple[Shape, ...], float, str]:
    """Shapes, their magnification, and where they come from."""
    if arguments:
        masks = Dataset.open(Path(arguments[0]), holds="masks").masks()
        shapes = [shape for item in masks.items[:8] for shape in shapes_of(masks.read_labels(item))]
        return tuple(shapes), 0.5, f"{Path(arguments[0]).parent.name}/{Path(arguments[0]).name}"
    generator = np.random.default_rng(0)
    return shapes_of(phantom_labels((1024, 1024), 100, generator, diameter=44)), 0.5, "phantoms"


def measure(shapes: tuple[Shape, ...], magnification: float, layout: Layout) -> dict[str, Any]:
    """CPU time of masks with the seeds 0, 1, ..., the first one dropped."""
    spent, simulations = [], []
    for seed in range(REPEATS + 1):
        begin = time.process_time()
        simulation = simulate_labels(
            shapes, SIZE, np.random.default_rng(seed), density=CELLS, layout=layout, magnification=magnification
        )
        spent.append(time.process_time() - begin)
        simulations.append(simulation)
    return {
        "layout": layout,
        "cells": min(simulation.cells for simulation in simulations),
        "median_coverage": round(statistics.median(simulation.coverage for simulation in simulations), 3),
        "repeats": REPEATS,
        "median_cpu_s": round(statistics.median(spent[1:]), 4),
        "best_cpu_s": round(min(spent[1:]), 4),
        "goal_s": GOAL_S,
        "goal_met": statistics.median(spent[1:]) <= GOAL_S,
    }


def main() -> int:
    shapes, magnification, origin = bank(sys.argv[1:])
    results = [measure(shapes, magnification, layout) for layout in get_args(Layout)]
    told = provenance(
        "python benchmarks/simulate_masks.py" + (" MASKS" if sys.argv[1:] else ""),
        (
            "numpy",
            "scipy",
        ),
        shapes=f"{len(shapes)} of {origin}",
        height_width_cells=[*SIZE, CELLS],
    )
    keep(__file__, {"provenance": told, "results": results})
    return 0 if all(result["goal_met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
