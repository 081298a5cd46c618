"""Train the base tracker, which is shipped with the package beside the base model, on simulated cells alone.

    python benchmarks/base_tracker.py

Movies of cells of all kinds of shape, pace, density and division are simulated; frames are left out, cells tremble and
masks get faults, as in `train tracker`. It takes some minutes of one core, and writes weights/tracker.safetensors,
config.json and provenance.json of the package's base model.
"""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from cytoforge.data.files import digest, read_json, write_json
from cytoforge.networks.linker import LinkScorer
from cytoforge.places import BASE
from cytoforge.progress import Progress
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.faults import shrunk
from cytoforge.simulation.lineage import simulate_lineage
from cytoforge.simulation.masks import MODEL_DIAMETER, parametric_shapes
from cytoforge.training.recipes.linking import Linking
from cytoforge.training.recipes.networks import build
from cytoforge.training.samplers.items import Drawing
from cytoforge.training.samplers.lineages import LineageSampler, Tracked
from cytoforge.training.tasks.linker import scale

MOVIES, FRAMES, STEPS, BATCH, RATE, WIDTH = 150, 12, 800, 8, 1e-2, 24
CONDENSED = (0.3, 0.9)
"""share of its area that a cell has about its division"""
LAYOUTS = ("scattered", "colony", "mixed")


def movie(number: int) -> Tracked:
    """Simulate a movie of cells as they come in many cultures; lengths in median diameters, times in frames."""
    draw = np.random.default_rng([77, number])

    def between(low: float, high: float) -> float:
        return float(np.exp(draw.uniform(np.log(low), np.log(high))))

    dynamics = Dynamics(
        speed=between(0.03, 0.5),
        spread=draw.uniform(0.2, 0.8),
        persistence=draw.uniform(0, 0.9),
        growth=between(0.003, 0.03),
        fluctuation=between(0.02, 0.1),
        division_rate=between(0.003, 0.04),
        death_rate=between(0.0005, 0.01),
        sister_distance=draw.uniform(0.8, 1.8),
        deformation=between(0.04, 0.3),
    )
    side = int(draw.integers(256, 400))
    lineage = simulate_lineage(
        parametric_shapes(draw),
        (side, side + int(draw.integers(0, 100))),
        FRAMES,
        draw,
        density=between(0.06, 0.5),
        dynamics=dynamics,
        layout=LAYOUTS[number % len(LAYOUTS)],  # type: ignore[arg-type]
        magnification=between(18, 36) / MODEL_DIAMETER,
        touching=draw.uniform(0, 0.9),
    )
    return condensed(Tracked(tuple(lineage.labels), lineage.tracks), draw)


def condensed(movie: Tracked, draw: np.random.Generator) -> Tracked:
    """Let cells be small and thin about their division, as nuclei are, in most of the movies."""
    share, thin = draw.uniform(*CONDENSED), draw.random() < 0.7
    if draw.random() < 0.3:
        return movie
    labels = [frame.copy() for frame in movie.labels]
    rows = {row[0]: row for row in movie.tracks}
    kin: dict[int, list[int]] = {}
    for label, _, _, parent in movie.tracks:
        if parent in rows:
            kin.setdefault(parent, []).append(label)
    for mother, (one, two) in kin.items():
        begin, end = rows[one][1], rows[mother][2]
        first = [np.argwhere(movie.labels[begin] == label).mean(axis=0) for label in (one, two)]
        axis = (first[0] - first[1]) if thin else None
        stages = [(end, mother, draw.uniform(1.0, 1.6))]
        stages += [
            (min(begin + later, rows[label][2]), label, 1 + 0.3 * later) for label in (one, two) for later in (0, 1)
        ]
        for time, cell, by in stages:
            labels[time] = shrunk(labels[time], cell, share * by * draw.uniform(0.8, 1.2), axis)
    return replace(movie, labels=tuple(labels))


def train(movies: list[Tracked], steps: int) -> LinkScorer:
    """Train the network on movies."""
    drawing = Drawing(size=(1, 1), count=BATCH, policy="flip", seed=0)
    sampler = LineageSampler(movies, (), drawing)
    scorer: LinkScorer = build(LinkScorer, 0, "tracker", {"width": WIDTH}, "torch")
    scale(scorer, sampler)
    recipe = Linking(scorer, RATE)
    optimiser = recipe.optimisers["tracker"]

    def update(name: str, loss: Tensor, **more: Any) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    progress = Progress("train the base tracker")
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * recipe.course(step / steps)
        loss = recipe.step(sampler(step), step / steps, update)["surprise"]
        progress((step + 1) / steps, f"step {step}, surprise {float(loss.detach()):.3f}")
    return scorer


def ship(scorer: LinkScorer) -> None:
    """Write the network into the package's base model."""
    path = BASE / "weights" / "tracker.safetensors"
    save_file(scorer.state_dict(), path)
    config = read_json(BASE / "config.json")
    config["networks"]["tracker"] = {"network": "link-scorer", "width": WIDTH}
    write_json(BASE / "config.json", config)
    provenance = read_json(BASE / "provenance.json")
    provenance["weights"]["tracker"] = digest(path)
    write_json(BASE / "provenance.json", provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    progress = Progress("simulate movies")
    movies = []
    for number in range(MOVIES):
        movies.append(movie(number))
        progress((number + 1) / MOVIES)
    ship(train(movies, STEPS))


if __name__ == "__main__":
    main()
