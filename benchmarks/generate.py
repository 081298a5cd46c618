"""How long `cytoforge generate images` takes beside its network alone, and what its memory grows with.

    python benchmarks/generate.py

Time: a generator of the paper's width on masks of 512 x 768 pixels, with one thread; CPU times, since wall times depend
on what else the machine does. `generate` does everything, from reading the masks to writing images, less what it takes
to load the network. Its goal is 1.3 times the forward passes. Memory: the largest resident set of the command on few
and on many masks, and on one of 4096 x 4096 pixels. Writes generate.json beside this file.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoforge.cells.instances import condition
from cytoforge.commands.generate import generate
from cytoforge.data.images import Normalisation, read_labels, write_labels
from cytoforge.data.run import Run
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.networks.layers import initialise
from cytoforge.networks.style_unet import StyleUNet, draw_styles
from cytoforge.settings import GenerateImages
from cytoforge.simulation.phantom import phantom_labels
from measuring import by_turns, peak_of, provenance

SHAPE, BLOCK, CELLS, REPEATS = (512, 768), 256, 60, 3  # masks are made of square blocks of so many px and cells
GOAL, GOAL_GIB = 1.3, 4.0


def random_run(path: Path, width: int) -> Path:
    """A run folder with a generator that has learned nothing: it paints as fast as any."""
    network = StyleUNet(width=width)
    initialise(network, torch.Generator().manual_seed(0))
    described = {"network": "style-unet", "in_channels": 1, "out_channels": 1, "width": width, "depth": network.depth}
    config = {"networks": {"generator": described}, "scale": 1.0, "normalisation": Normalisation().to_json()}
    Run.create(path, config).save_weights("generator", network.state_dict())
    return path


def write_masks(folder: Path, count: int, shape: tuple[int, int]) -> Path:
    blocks = shape[0] // BLOCK, shape[1] // BLOCK
    before = np.arange(np.prod(blocks)).reshape(blocks).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    for i in range(count):
        block = phantom_labels((BLOCK, BLOCK), CELLS, np.random.default_rng(i))
        labels = np.tile(block, blocks)
        write_labels(folder / f"m{i:03d}.png", np.where(labels > 0, labels + block.max() * before, 0))
    return folder


def times(folder: Path) -> dict[str, Any]:
    """CPU seconds an image of the network alone and of the whole command, by turns in one process."""
    run, masks = random_run(folder / "wide", 64), write_masks(folder / "masks", 1, SHAPE)
    config = GenerateImages(run=run, masks=masks, out=folder / "out", threads=1, overwrite=True)

    def load() -> ImageGenerator:
        return ImageGenerator.load(run, threads=1)

    network = load().network
    cells = condition(torch.from_numpy(read_labels(masks / "m000.png"))[None], "mask")
    styles, noise = draw_styles(1, 4, torch.Generator().manual_seed(0)), torch.rand(1, 1, *SHAPE)

    @torch.inference_mode()
    def forward() -> None:
        network(cells, styles, noise)

    work = {"network": forward, "open": load, "generate": lambda: generate(config)}
    alone, opening, whole = by_turns(work, REPEATS).values()
    return {
        "shape": SHAPE,
        "width": 64,
        "threads": 1,
        "network_cpu_s": round(alone, 2),
        "load_network_cpu_s": round(opening, 2),
        "generate_cpu_s": round(whole, 2),
        "times_network_alone": round((whole - opening) / alone, 3),
    }


def memory(folder: Path, width: int, count: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Peak memory of the command on so many masks."""
    name = f"{width}-{count}-{shape[0]}"
    run, masks = random_run(folder / f"run-{name}", width), write_masks(folder / f"masks-{name}", count, shape)
    command = [sys.executable, "-m", "cytoforge", "generate", "images", str(run), str(masks)]
    peak, _, cpu = peak_of(*command, "--out", str(folder / f"out-{name}"), "--threads", "1")
    return {"width": width, "images": count, "shape": shape, "peak_gib": round(peak, 3), "cpu_s": round(cpu, 1)}


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # memory first: a child's peak counts what this process holds when it starts it
        sizes = [memory(folder, 16, count, (512, 512)) for count in (2, 12)]
        sizes += [memory(folder, 64, 1, (1024, 1024)), memory(folder, 8, 1, (4096, 4096))]
        speed = times(folder)
    few, many = sizes[0]["peak_gib"], sizes[1]["peak_gib"]
    met = speed["times_network_alone"] <= GOAL and many < 1.05 * few and max(s["peak_gib"] for s in sizes) <= GOAL_GIB
    result = {
        "provenance": provenance("python benchmarks/generate.py"),
        "time": speed,
        "goal": GOAL,
        "memory": sizes,
        "goal_gib": GOAL_GIB,
        "goals_met": met,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
