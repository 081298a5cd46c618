"""How much memory `cytoforge segment` takes for a large image, and whether its strips leave traces.

    python benchmarks/segment_large.py [--side 10000] [--width 8] [--depth 3]

A mosaic of phantom cells is written to disk tile by tile and segmented by a child process, whose largest resident set
is read from the system. Writes segment_large.json beside this file, one entry per side and network.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.instances import TARGETS, inner_border
from cytoforge.data.images import Normalisation, write_image
from cytoforge.data.run import Run
from cytoforge.losses import cross_entropy_dice
from cytoforge.networks.segmentation import UNet
from cytoforge.simulation.phantom import phantom_labels
from measuring import keep_beside, peak_of, provenance

BLOCK, CELLS, TILE = 500, 290, 256  # side and cells of one phantom, tile side of the TIFF
LIMIT_GIB = 4.0


def stained(seed: int, shape: tuple[int, int], cells: int) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """A picture of phantom cells that is easy to learn, brighter towards their middle, and their labels."""
    draw = np.random.default_rng(seed)
    labels = phantom_labels(shape, cells, draw)
    border = inner_border(torch.from_numpy(labels)).numpy()
    bright = np.minimum(ndimage.distance_transform_edt((labels > 0) & ~border), 4)
    return (300 + 250 * bright + 200 * (labels > 0) + draw.normal(0, 60, shape)).clip(0).astype(np.uint16), labels


def quick_run(folder: Path, width: int, depth: int, steps: int) -> Path:
    """A run folder with a U-Net that has learned stained phantoms for `steps` steps: enough to find the cells."""
    torch.manual_seed(0)
    image, labels = stained(1, (BLOCK, BLOCK), CELLS)
    normalisation, target = Normalisation(), TARGETS["boundary"]
    pixels = torch.from_numpy(normalisation.apply(image[None], normalisation.measure(image[None])))[None]
    classes = target.encode(torch.from_numpy(labels)[None])
    network = UNet(1, target.classes, width, depth)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    draw = np.random.default_rng(0)
    for _ in range(steps):
        y, x = draw.integers(0, BLOCK - 128, 2)
        loss = cross_entropy_dice(network(pixels[..., y : y + 128, x : x + 128]), classes[:, y : y + 128, x : x + 128])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    described = {"network": "unet", "in_channels": 1, "classes": target.classes, "width": width, "depth": depth}
    config = {
        "networks": {"segmenter": described},
        "target": target.name,
        "scale": 1.0,
        "normalisation": normalisation.to_json(),
        "tile": 256,
    }
    run = Run.create(folder, config)
    run.save_weights("segmenter", network.state_dict())
    return folder


def mosaic_tiles(block: NDArray[np.uint16], side: int) -> Iterator[NDArray[np.uint16]]:
    """Tiles, row by row, of the block and its mirror images side by side."""

    def mirrored(start: int) -> NDArray[np.int64]:
        place = np.arange(start, start + TILE) % (2 * BLOCK)
        return np.where(place < BLOCK, place, 2 * BLOCK - 1 - place)

    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            yield block[np.ix_(mirrored(top), mirrored(left))]


def segmented(run: Path, image: Path, out: Path, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "cytoforge", "segment", str(run), str(image), "--out", str(out)]
    peak, wall, cpu = peak_of(*command, "--threads", str(threads))
    cells = json.loads((out / "segment.json").read_text())["masks"][image.stem]["cells"]
    return {"cells": cells, "peak_gib": round(peak, 3), "wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}


def measure(side: int, width: int, depth: int, steps: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = quick_run(folder / "run", width, depth, steps)
        block, labels = stained(2, (BLOCK, BLOCK), CELLS)
        write_image(folder / "block.tif", block[None])
        stored = {"shape": (side, side), "dtype": block.dtype, "tile": (TILE, TILE), "compression": "zlib"}
        tifffile.imwrite(folder / "mosaic.tif", mosaic_tiles(block, side), **stored)
        small = segmented(run, folder / "block.tif", folder / "small", threads)
        large = segmented(run, folder / "mosaic.tif", folder / "large", threads)
    blocks = (side / BLOCK) ** 2
    return {
        "side": side,
        "width": width,
        "depth": depth,
        "threads": threads,
        "painted_cells_per_block": int(labels.max()),
        "one_block": small,
        "mosaic": large,
        "cells_per_block_ratio": round(large["cells"] / blocks / small["cells"], 3),
        "limit_gib": LIMIT_GIB,
        "goal_met": large["peak_gib"] < LIMIT_GIB,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000, help="pixels")
    parser.add_argument("--width", type=int, default=8, help="of the U-Net")
    parser.add_argument("--depth", type=int, default=3, help="of the U-Net")
    parser.add_argument("--steps", type=int, default=150, help="of its training")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    result = measure(asked.side, asked.width, asked.depth, asked.steps, asked.threads)
    command = "python benchmarks/segment_large.py --side SIDE --width WIDTH --depth DEPTH"
    keep_beside(__file__, provenance(command), result, ("side", "width", "depth"))
    return 0 if result["goal_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
