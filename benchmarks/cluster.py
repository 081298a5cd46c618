"""How well work is divided: the same work alone, by one and by two workers; and what a million images cost.

    python benchmarks/cluster.py [--images 60] [--json FILE]

Segments phantoms of the size of usiigaci's images with the base model, and paints images on masks with a generator of
the paper's width that has learned nothing (it paints as fast as any). Each worker is a process with one thread. By
turns, all in one run: alone without dask, with one worker, with two. Times are wall times of the whole work but for
the start of workers, so the machine has to be quiet. Writes cluster.json beside this file.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
from distributed import LocalCluster

from cytoforge.commands.generate import generate
from cytoforge.commands.segment import segment
from cytoforge.commands.simulate import simulate_masks
from cytoforge.data.images import write_image
from cytoforge.engine import ALLOCATION
from cytoforge.settings import GenerateImages, Segment, SimulateMasks
from generate import random_run, write_masks
from measuring import provenance
from segment_large import stained

SHAPE, CELLS, DIAMETER = (1022, 1024), 64, 60
PAINTED, WIDTH = (256, 256), 64
GOAL, REPEATS, MILLION = 0.85, 3, 1_000_000


def measured(make: Callable[[Path, str | None], object], folder: Path, images: int, repeats: int) -> dict[str, Any]:
    """Seconds of `make(out, cluster)` alone, with one worker and with two; the first round is not counted."""
    spent: dict[str, list[float]] = {"alone": [], "one": [], "two": []}
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(ALLOCATION),  # as local:N does
        LocalCluster(n_workers=1, **options) as one,
        LocalCluster(n_workers=2, **options) as two,
    ):
        clusters = {"alone": None, "one": one.scheduler_address, "two": two.scheduler_address}
        for repeat in range(repeats + 1):
            for name, cluster in clusters.items():
                begin = time.perf_counter()
                make(folder / f"{name}-{repeat}", cluster)
                spent[name].append(time.perf_counter() - begin)
    alone, single, double = (statistics.median(times[1:]) for times in spent.values())
    written = [file.stat().st_size for file in (folder / "two-0").rglob("*") if file.suffix in (".png", ".tif")]
    return {
        "images": images,
        "seconds": {name: [round(value, 2) for value in times[1:]] for name, times in spent.items()},
        "efficiency": round(single / (2 * double), 3),
        "overhead": round(single / alone, 3),
        "million": {
            "core_hours": round(alone / images * MILLION / 3600, 1),
            "gigabytes": round(sum(written) / images * MILLION / 1e9, 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(given.images):
            write_image(folder / "images" / f"i{number:03d}.tif", stained(number, SHAPE, CELLS)[0][None])
        run = random_run(folder / "run", WIDTH)
        masks = write_masks(folder / "masks", given.images, PAINTED)

        def segmenting(out: Path, cluster: str | None) -> object:
            return segment(Segment(Path("base"), folder / "images", out, diameter=DIAMETER, threads=1, cluster=cluster))

        def painting(out: Path, cluster: str | None) -> object:
            return generate(GenerateImages(run, masks, out, threads=1, cluster=cluster))

        def simulating(out: Path, cluster: str | None) -> object:
            return simulate_masks(SimulateMasks(out, count=given.images, size="512x512", cluster=cluster))

        work = {"segment": segmenting, "generate_images": painting, "simulate_masks": simulating}
        results = {name: measured(make, folder / name, given.images, given.repeats) for name, make in work.items()}
    about = {**provenance("python benchmarks/cluster.py"), "load_average": round(load, 1)}
    sizes = {"segment": SHAPE, "generate_images": PAINTED, "simulate_masks": (512, 512)}
    content = {"provenance": about, "sizes": sizes, "goal": GOAL, "results": results}
    given.json.write_text(json.dumps(content, indent=2) + "\n")
    for name, result in results.items():
        print(f"{name}: efficiency {result['efficiency']} (goal {GOAL}), overhead {result['overhead']}")


if __name__ == "__main__":
    main()
