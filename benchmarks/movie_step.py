"""The training step of movies against that of the published code: FLOPs and CPU time of one painted frame.

    python benchmarks/movie_step.py --steps 3

Paper's widths, frames of 256 x 384, batch 1, one thread, VGG-19 to relu5_1 with drawn weights: updates of generator,
discriminator and flow network for one frame that has an earlier one. FLOPs are two for each multiply-add of
convolutions and matrix products. The published step's were counted in the same way (its flow network runs twice at full
resolution, and backward, though it is never trained). CPU time is of our step alone: processors differ too much for a
ratio to one that was timed elsewhere. Writes movie_step.json beside this file.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cytoforge.networks.features import VGG_CONVS, VGG19Features
from cytoforge.training.hyperparameters import MOVIE
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.tgan import MovieGAN
from cytoforge.training.samplers.clips import ClipBatch
from cytoforge.training.tasks.movie import describe
from measuring import provenance

SHAPE, SMALLER = (256, 384), (128, 192)
PUBLISHED_GFLOP = {SHAPE: 2008.0, SMALLER: 501.0}
GOAL = 0.75
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512)  # of the convolutions up to conv5_1


def drawn_vgg() -> VGG19Features:
    """VGG-19 of the usual size with weights that mean nothing."""
    state = {}
    for index, before, after in zip(VGG_CONVS, (3, *VGG_WIDTHS), VGG_WIDTHS, strict=False):
        weight = nn.init.kaiming_normal_(
            torch.empty(after, before, 3, 3), generator=torch.Generator().manual_seed(index)
        )
        state |= {f"features.{index}.weight": weight, f"features.{index}.bias": torch.zeros(after)}
    return VGG19Features(state)


def build() -> MovieGAN:
    return MovieGAN.build(MOVIE["paper"], describe(MOVIE["paper"], 1), seed=0, vgg=drawn_vgg())


def clip(shape: tuple[int, int]) -> ClipBatch:
    """One real frame and one to paint, of noise."""
    generator = torch.Generator().manual_seed(0)
    frames, background = (torch.rand(1, n, 1, *shape, generator=generator) * 2 - 1 for n in (2, 1))
    labels = (torch.rand(1, 2, *shape, generator=generator) > 0.7).long()
    return ClipBatch(frames, labels, 0, 0, (0,), ("noise",), backgrounds=background[:, 0], lead=1, cold=False)


def gflop(trainer: Trainer, batch: ClipBatch) -> float:
    with FlopCounterMode(display=False) as counter:
        trainer.step(batch, 0.0)
    return counter.get_total_flops() / 1e9


def measure(trainer: Trainer, shape: tuple[int, int], steps: int) -> dict[str, Any]:
    batch, spent = clip(shape), []
    counted = gflop(trainer, batch)
    for _ in range(steps):
        begin = time.process_time()
        trainer.step(batch, 0.0)
        spent.append(time.process_time() - begin)
    return {
        "shape": shape,
        "gflop": round(counted, 1),
        "published_gflop": PUBLISHED_GFLOP[shape],
        "ratio_of_flops": round(counted / PUBLISHED_GFLOP[shape], 3),
        "cpu_s": round(statistics.median(spent), 2),
        "all_cpu_s": [round(s, 2) for s in spent],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    trainer = Trainer(build(), Fabric(accelerator="cpu", devices=1), decay=0.999)
    results = [measure(trainer, shape, steps) for shape in (SMALLER, SHAPE)]
    met = all(result["ratio_of_flops"] <= GOAL for result in results)
    command = f"python benchmarks/movie_step.py --steps {steps}"
    result = {"provenance": provenance(command), "results": results, "goal": GOAL, "goal_met": met}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
