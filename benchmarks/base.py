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

from cytoforge.training.hyperparameters import SEGMENTATION
from cytoforge.training.specification import Budget, Compute, Data, Output, Training
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import run_task

PARAMETERS = replace(SEGMENTATION["small"], target="depth", augmentation="wide", batch=8, average=0.999)
STEPS = 14000


def train(pool: Path, out: Path, steps: int, start: Path | None) -> None:
    run_task(
        SegmentationTask(PARAMETERS, start),
        Training(
            data=Data(path=pool / "train", validation=pool / "val"),
            output=Output(path=out),
            budget=Budget(steps=steps),
            compute=Compute(device="auto", threads=1),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("pool", type=Path)
    training.add_argument("run", type=Path)
    training.add_argument("--steps", type=int, default=STEPS)
    training.add_argument("--start", type=Path, help="run to go on from")
    given = parser.parse_args()
    train(given.pool, given.run, given.steps, given.start)


if __name__ == "__main__":
    main()
