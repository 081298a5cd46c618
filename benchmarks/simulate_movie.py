"""How much CPU time it takes to simulate a movie of 100 frames, 512 x 768 pixels and 200 cells, on one thread.

    python benchmarks/simulate_movie.py

Shapes are those of the model; cells move, change their form and are replaced, so that there are some 200 in the frame
from the first frame to the last. Writes simulate_movie.json beside this file.
"""

import os
import statistics
import sys
import time
from typing import Any, get_args

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"  # before numpy is loaded

import numpy as np  # noqa: E402

from cytoforge.simulation.dynamics import Dynamics  # noqa: E402
from cytoforge.simulation.lineage import simulate_lineage  # noqa: E402
from cytoforge.simulation.masks import MODEL_DIAMETER, Layout, parametric_shapes  # noqa: E402
from measuring import keep, provenance  # noqa: E402

SIZE, FRAMES, CELLS, DIAMETER, REPEATS = (512, 768), 100, 200, 24, 3
GOAL_S = 20.0
DYNAMICS = Dynamics(division_rate=0.005, death_rate=0.005)


def measure(layout: Layout) -> dict[str, Any]:
    """CPU time of movies with the seeds 0, 1, ..., and of the displacement of a frame."""
    spent, counts, flows = [], [], []
    for seed in range(REPEATS):
        generator = np.random.default_rng(seed)
        shapes = parametric_shapes(generator)
        begin = time.process_time()
        lineage = simulate_lineage(
            shapes,
            SIZE,
            FRAMES,
            generator,
            density=CELLS,
            dynamics=DYNAMICS,
            layout=layout,
            magnification=DIAMETER / MODEL_DIAMETER,
        )
        spent.append(time.process_time() - begin)
        counts.append(statistics.mean(np.unique(frame).size - 1 for frame in lineage.labels))
        begin = time.process_time()
        lineage.flow(FRAMES // 2)
        flows.append(time.process_time() - begin)
    return {
        "layout": layout,
        "mean_cells_a_frame": round(statistics.mean(counts), 1),
        "repeats": REPEATS,
        "median_cpu_s": round(statistics.median(spent), 2),
        "median_cpu_ms_a_cell_and_frame": round(1000 * statistics.median(spent) / statistics.mean(counts) / FRAMES, 3),
        "median_flow_cpu_s_a_frame": round(statistics.median(flows), 3),
        "goal_s": GOAL_S,
        "goal_met": statistics.median(spent) <= GOAL_S,
    }


def main() -> int:
    results = [measure(layout) for layout in get_args(Layout)]
    told = provenance(
        "python benchmarks/simulate_movie.py",
        (
            "numpy",
            "scipy",
        ),
        height_width_frames_cells=[*SIZE, FRAMES, CELLS],
    )
    keep(__file__, {"provenance": told, "results": results})
    return 0 if all(result["goal_met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
