"""How much longer a step of the conventional recipe takes than its bare network and optimiser, sampling included.

    python benchmarks/training_step.py

The windows are cut from phantom images of 512 x 512 pixels and varied as in `train segmentation`. The bare step has the
same network, optimiser and precision, always the same windows, and plain cross entropy: it does what no training can do
without. Steps of both alternate, so that a change of the machine's speed hits both; times are CPU times of one thread.
`parts_s` tells what sampling takes, and the loss with its classes. Writes training_step.json beside this file.
"""

import argparse
import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from cytoforge.losses import cross_entropy_dice
from cytoforge.training.hyperparameters import SEGMENTATION
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.networks import describe_segmenter
from cytoforge.training.samplers.items import Drawing
from cytoforge.training.samplers.windows import Windows
from measuring import by_turns, keep, provenance
from segment_large import stained

IMAGES, SIDE, REPEATS, GOAL = 5, 512, 20, 1.15
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def pair(number: int) -> tuple[np.ndarray, np.ndarray]:
    image, labels = stained(number, (SIDE, SIDE), SIDE * SIDE // 860)
    return (image[None] / 1000 - 1).clip(-1, 1).astype(np.float32), labels


def measure(preset: str, precision: str, repeats: int) -> dict[str, Any]:
    parameters = SEGMENTATION[preset]
    recipe = Conventional.build(parameters, describe_segmenter(parameters, 1), 0)
    fabric = Fabric(accelerator="cpu", devices=1, precision=PRECISIONS[precision])
    trainer = Trainer(recipe, fabric, decay=parameters.average)
    drawing = Drawing(size=parameters.crop, count=parameters.batch, policy=parameters.augmentation, seed=0)
    windows = Windows([str(number) for number in range(IMAGES)], pair, drawing)
    steps = iter(range(10**9))
    batch, *_ = [windows(next(steps)) for _ in range(IMAGES)]  # all images are in memory now
    classes = recipe.target.encode(batch.labels)
    network = copy.deepcopy(recipe.segmenter).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=parameters.rate, fused=True)

    def bare() -> None:
        with fabric.autocast():
            loss = F.cross_entropy(network(batch.images), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def whole() -> None:
        trainer.step(windows(next(steps)), 0.5)

    logits = torch.randn(*classes.shape[:1], recipe.target.classes, *classes.shape[1:], requires_grad=True)
    times = by_turns(
        {
            "bare": bare,
            "step": whole,
            "sampling": lambda: windows(next(steps)),
            "loss": lambda: cross_entropy_dice(logits, recipe.target.encode(batch.labels)).backward(),
        },
        repeats,
    )
    with FlopCounterMode(display=False) as counted:
        bare()
    return {
        "preset": preset,
        "precision": precision,
        "batch": [parameters.batch, *parameters.crop],
        **{f"{name}_s": round(times[name], 4) for name in ("bare", "step")},
        "parts_s": {name: round(times[name], 4) for name in ("sampling", "loss")},
        "ratio": round(times["step"] / times["bare"], 3),
        "gflop": round(counted.get_total_flops() / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    found = [measure(preset, precision, repeats) for preset in ("small", "tiny") for precision in PRECISIONS]
    result = {
        "provenance": provenance("python benchmarks/training_step.py"),
        "results": found,
        "goal_ratio": GOAL,
        "goal_met": all(one["ratio"] <= GOAL for one in found),
    }
    keep(__file__, result)


if __name__ == "__main__":
    main()
