"""How fast `cytoforge generate movie` is beside its network alone, and that its memory does not grow with the movie.

    python benchmarks/generate_movie.py

Rate: tGAN's generator of the paper's width on masks of 256 x 384 pixels, with one thread; CPU times, since wall times
depend on what else the machine does. The command does everything, from reading the masks to writing frames, less what
it takes to load the network. Its goal is 0.8 times the frames that the forward passes alone make in the same time.
Memory: the largest resident set of the command on short and on long movies, for both methods. Writes
generate_movie.json beside this file.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytoforge.commands.generate import generate_movie
from cytoforge.data.images import Normalisation, write_labels
from cytoforge.data.run import BACKGROUNDS, Run
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.networks import movie as networks
from cytoforge.networks.layers import initialise
from cytoforge.networks.style_unet import draw_styles
from cytoforge.networks.vid2vid import Vid2Vid
from cytoforge.settings import GenerateMovie
from cytoforge.simulation.phantom import phantom_labels
from measuring import by_turns, peak_of, provenance

SHAPE, CELLS, FRAMES, REPEATS, FEW, MANY = (256, 384), 60, 4, 3, 20, 100
GOAL, GROWTH = 0.8, 1.05


def random_run(path: Path, method: str, width: int) -> Path:
    """A run folder with a generator that has learned nothing: it paints as fast as any."""
    network = networks.MovieGenerator(width=width) if method == "movie" else Vid2Vid(width=width)
    initialise(network, torch.Generator().manual_seed(0))
    described = {"network": method, "in_channels": 2 if method == "movie" else 3, "width": width}
    config = {"networks": {"low-resolution": described}, "scale": 1.0, "normalisation": Normalisation().to_json()}
    run = Run.create(path, config)
    run.save_weights("low-resolution", network.state_dict())
    run.save_weights(BACKGROUNDS, {"01": torch.zeros(1, *SHAPE)})
    return path


def write_masks(folder: Path, count: int) -> Path:
    labels = phantom_labels(SHAPE, CELLS, np.random.default_rng(0))
    for t in range(count):
        write_labels(folder / "01_ST" / "SEG" / f"man_seg{t:03d}.tif", np.roll(labels, 2 * t, axis=1))
    return folder


def rate(folder: Path) -> dict[str, Any]:
    """CPU seconds a frame of the network alone and of the whole command, by turns in one process."""
    run, masks = random_run(folder / "wide", "movie", 64), write_masks(folder / "masks", FRAMES)
    config = GenerateMovie(run=run, masks=masks, out=folder / "out", threads=1, overwrite=True)

    def load() -> MovieGenerator:
        return MovieGenerator.load(run, threads=1)

    network = load().network
    given = torch.zeros(1, 2, *SHAPE), *torch.zeros(2, 1, 1, *SHAPE)
    styles, noise = draw_styles(1, 4, torch.Generator().manual_seed(0)), torch.rand(1, 1, *SHAPE)

    @torch.inference_mode()
    def forward() -> None:
        for _ in range(FRAMES):
            network(*given, styles, noise)

    work = {"network": forward, "open": load, "generate": lambda: generate_movie(config)}
    alone, opening, whole = by_turns(work, REPEATS).values()
    return {
        "shape": SHAPE,
        "width": 64,
        "frames": FRAMES,
        "threads": 1,
        "network_cpu_s": round(alone / FRAMES, 3),
        "generate_cpu_s": round((whole - opening) / FRAMES, 3),
        "rate_of_network_alone": round(alone / (whole - opening), 3),
    }


def memory(folder: Path, method: str, frames: int) -> dict[str, Any]:
    """Peak memory of the command on a movie of so many frames."""
    run, masks = folder / f"run-{method}", folder / f"masks-{frames}"
    if not run.exists():
        random_run(run, method, 8)
    if not masks.exists():
        write_masks(masks, frames)
    command = [sys.executable, "-m", "cytoforge", "generate", "movie", str(run), str(masks)]
    peak, _, cpu = peak_of(*command, "--out", str(folder / f"out-{method}-{frames}"), "--threads", "1")
    return {"method": method, "width": 8, "frames": frames, "peak_gib": round(peak, 3), "cpu_s": round(cpu, 1)}


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # memory first: a child's peak counts what this process holds when it starts it
        sizes = [memory(folder, method, frames) for method in ("movie", "vid2vid") for frames in (FEW, MANY)]
        speed = rate(folder)
    pairs = zip(sizes[::2], sizes[1::2], strict=True)
    met = speed["rate_of_network_alone"] >= GOAL
    met = met and all(many["peak_gib"] < GROWTH * few["peak_gib"] for few, many in pairs)
    result = {
        "provenance": provenance("python benchmarks/generate_movie.py"),
        "rate": speed,
        "goal": GOAL,
        "memory": sizes,
        "goals_met": met,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
