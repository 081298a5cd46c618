"""How fast `cytoforge segment` goes through an OME-Zarr image of any size, and how much memory that takes.

    python benchmarks/gigapixel.py [--side 8000] [--run base] [--diameter 18] [--views 4] [--threads 1]

A mosaic of phantom cells is written chunk by chunk and segmented by a child process, whose largest resident set is read
from the system. The bare network is timed on one tile of those that the image is cut into, and counted for all. Wall
times depend on what else the machine does, so the share of the bare network is that of processor time. Writes
gigapixel.json beside this file, one entry per side, run and scale.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from cytoforge.data.images import scaled_shape
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import axis_tiles, probabilities
from measuring import keep_beside, peak_of, provenance
from segment_large import BLOCK, CELLS, quick_run, stained

CHUNK = 1024  # side of a chunk of the image
LIMIT_GIB = 4.0
TIMED = 4  # tiles that the bare network is timed on


def write_mosaic(path: Path, side: int) -> None:
    """An OME-Zarr 0.4 image of side x side pixels: the block and its mirror images side by side."""
    block, _ = stained(2, (BLOCK, BLOCK), CELLS)
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    array = group.create_array("0", shape=(side, side), chunks=(CHUNK, CHUNK), dtype=block.dtype)
    place = np.arange(side) % (2 * BLOCK)
    place = np.where(place < BLOCK, place, 2 * BLOCK - 1 - place)
    for top in range(0, side, CHUNK):
        for left in range(0, side, CHUNK):
            there = slice(top, top + CHUNK), slice(left, left + CHUNK)
            array[there] = block[np.ix_(place[there[0]], place[there[1]])]


def bare_network(run: str, diameter: float | None, views: int, side: int, threads: int) -> dict[str, float]:
    """Processor seconds that the network alone takes for all tiles of an image, and its Mpx/s of the image's pixels."""
    segmenter = Segmenter.load(run, threads=threads, views=views)
    if diameter is not None:
        segmenter = segmenter.for_cells(diameter)
    scaled, _ = scaled_shape((side, side), segmenter.scaling)
    tiles = len(axis_tiles(segmenter.network, scaled, segmenter.tile)) ** 2
    length = min(segmenter.tile, scaled)
    image = np.random.default_rng(0).uniform(-1, 1, (1, length, length)).astype(np.float32)
    spent = []
    for repeat in range(TIMED + 1):  # the first is not counted
        begin = time.process_time()
        probabilities(segmenter.network, image, segmenter.tile, segmenter.views)
        if repeat:
            spent.append(time.process_time() - begin)
    seconds = tiles * float(np.median(spent))
    return {"cpu_s": round(seconds, 1), "mpx_per_s": round(side**2 / 1e6 / seconds, 3)}


def measured(side: int, *command: str) -> dict[str, float]:
    """Peak memory, time and rate of a command that goes through the image once."""
    peak, wall, cpu = peak_of(sys.executable, "-m", "cytoforge", *command)
    rate = side**2 / 1e6 / cpu
    return {
        "peak_gib": round(peak, 3),
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "mpx_per_cpu_s": round(rate, 3),
    }


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    image, out = folder / f"mosaic{asked.side}.zarr", folder / "out"
    if not image.exists():
        write_mosaic(folder / "part.zarr", asked.side)
        (folder / "part.zarr").rename(image)
    run = asked.run if asked.run == "base" else str(quick_run(folder / "run", width=asked.width, depth=3, steps=150))
    command = ["segment", run, str(image), "--out", str(out), "--threads", str(asked.threads)]
    command += ["--views", str(asked.views), *(["--diameter", str(asked.diameter)] if asked.diameter else [])]
    shutil.rmtree(out, ignore_errors=True)
    segmented = measured(asked.side, *command)
    record = json.loads((out / "segment.json").read_text())
    mask = next((out / "masks").iterdir())
    size = sum(part.stat().st_size for part in [mask, *mask.rglob("*")] if part.is_file())
    network = bare_network(run, asked.diameter, asked.views, asked.side, asked.threads)
    return {
        "side": asked.side,
        "run": asked.run,
        "scale": record["scale"],
        "views": asked.views,
        "threads": asked.threads,
        "cells": record["masks"][image.stem]["cells"],
        "segment": segmented,
        "bare_network": network,
        "times_bare_network": round(segmented["cpu_s"] / network["cpu_s"], 3),
        "masks_mib": round(size / 2**20, 1),
        "limit_gib": LIMIT_GIB,
        "goal_met": segmented["peak_gib"] < LIMIT_GIB,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8000, help="pixels")
    parser.add_argument("--run", choices=("base", "unet"), default="base", help="base, or a U-Net of --width")
    parser.add_argument("--width", type=int, default=8, help="of the U-Net")
    parser.add_argument("--diameter", type=float, help="base: of the cells; 18 is the size that it knows")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the image and masks, which are kept; else a temporary one")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.folder is None:
        with tempfile.TemporaryDirectory() as name:
            result = measure(asked, Path(name))
    else:
        asked.folder.mkdir(parents=True, exist_ok=True)
        result = measure(asked, asked.folder)
    command = "python benchmarks/gigapixel.py --side SIDE --run RUN --diameter DIAMETER"
    keep_beside(__file__, provenance(command), result, ("side", "run", "scale", "threads", "views"))
    return 0 if result["goal_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
