"""What five annotated images are worth from scratch: four ways to a segmenter, equal time, several seeds.

    python benchmarks/few_labels.py usiigaci --scale 0.333
    python benchmarks/few_labels.py dsb256
    python benchmarks/results.py          # writes docs/results.md from the JSON

Data are found through CYTOFORGE_DATA (default ../shared/data). Each seed draws its own five images from the training
part, holds one of them out for validation, and is scored once on the untouched test part. Every run is kept in the
JSON file as soon as it ends, so that an interrupted study goes on; `--only` and `--seeds` share the work. Minutes are
those of one thread's CPU time, not of the clock on the wall: the machine has other work, and all ways shall get equally
much.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cytoforge.commands.score import score_segmentation
from cytoforge.commands.segment import segment
from cytoforge.commands.train import specified, train_segmentation
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import resize_labels, write_labels
from cytoforge.inference.baseline import otsu_watershed
from cytoforge.places import SCRATCH
from cytoforge.settings import ScoreSegmentation, Segment, TrainSegmentation
from cytoforge.training.data import open_data

HERE = Path(__file__).parent
DATA = Path(os.environ.get("CYTOFORGE_DATA", HERE.parent.parent / "shared" / "data"))
WAYS = ("otsu", "paper-conventional", "conventional", "cyclegan")


def settings(way: str, data: Path, out: Path, arguments: argparse.Namespace, seed: int) -> TrainSegmentation:
    plain = TrainSegmentation(
        data=data / "train",
        out=out,
        limit=arguments.limit,
        minutes=arguments.minutes,
        seed=seed,
        scale=arguments.scale,
        threads=arguments.threads,
        clock="processor",
        start=SCRATCH,
        target="boundary",
        split_by="image",
    )
    if way == "paper-conventional":
        return replace(plain, augmentation="paper", target="semantic")
    if way == "cyclegan":
        return replace(plain, method="cyclegan", warm_start=True)
    return plain


def otsu(data: Path, out: Path, scale: float) -> None:
    """Segment the test images by threshold and watershed at the scale of the trainings."""
    dataset = Dataset.open(data / "test")
    for item in dataset.items:
        labels = otsu_watershed(dataset.read_image(item, scale))
        shape = dataset.read_labels(item).shape
        write_labels(out / "masks" / f"{item.name}.tif", resize_labels(labels, shape))


def scored(out: Path, truth: Path) -> dict[str, dict[str, object]]:
    """Score predicted masks by cell, each image apart."""
    scores = score_segmentation(ScoreSegmentation(prediction=out, truth=truth))
    return {
        name: {
            "f_score": image.f_score,
            "average_precision": image.average_precision,
            "dice": image.dice,
            "counts": [image.true_positives, image.false_positives, image.false_negatives],
        }
        for name, image in scores.images.items()
    }


def one(way: str, data: Path, arguments: argparse.Namespace, seed: int) -> dict[str, object]:
    """Train, segment the test images, score them; return everything that is worth keeping."""
    with tempfile.TemporaryDirectory() as folder:
        run_path, out = Path(folder) / "run", Path(folder) / "out"
        config = settings(way, data, run_path, arguments, seed)
        record: dict[str, object] = {"way": way, "seed": seed}
        started = time.process_time()
        if way == "otsu":
            otsu(data, out, arguments.scale)
        else:
            run = train_segmentation(config)
            rows = run.metrics()
            record |= {
                "steps": rows[-1]["step"],
                "seconds": rows[-1]["seconds"],
                "validation": max(row["validation"] for row in rows),
                "curve": [[row["step"], row["validation"]] for row in rows],
                "verdict": run.provenance["verdict"],
                "images": run.config["training_images"] + run.config["validation_images"],
                "cells": open_data(specified(config).data, seed).cells,
            }
            if arguments.pictures:
                target = arguments.pictures / f"{arguments.dataset}-{way}-{seed}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(sorted(run.samples.glob("*.png"))[-1].read_bytes())
            segment(Segment(run=run_path, images=data / "test", out=out, threads=arguments.threads))
        record["cpu_seconds"] = round(time.process_time() - started, 1)
        record["test"] = scored(out, data / "test")
        return record


def without_pictures(words: list[str]) -> list[str]:
    """Leave out --pictures FOLDER: it changes nothing about the results."""
    if "--pictures" not in words:
        return words
    place = words.index("--pictures")
    return words[:place] + words[place + 2 :]


def commit() -> str:
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--pictures", type=Path, help="folder for the last sample picture of every run")
    arguments = parser.parse_args()
    data = DATA / arguments.dataset
    if not data.is_dir():
        print(f"{data}: is missing; set CYTOFORGE_DATA", file=sys.stderr)
        return 2
    for way in arguments.only:
        for seed in arguments.seeds[:1] if way == "otsu" else arguments.seeds:
            path = HERE / "few_labels" / f"{arguments.dataset}-{way}-{seed}.json"
            if path.exists():
                continue
            record = one(way, data, arguments, seed)
            provenance = {
                "command": " ".join(["python", "benchmarks/few_labels.py", *without_pictures(sys.argv[1:])]),
                "cytoforge": version("cytoforge"),
                "commit": commit(),
                "torch": version("torch"),
                "processor": platform.processor() or platform.machine(),
                "threads": arguments.threads,
                "minutes": arguments.minutes,
                "scale": arguments.scale,
                "limit": arguments.limit,
            }
            write_json(path, {"dataset": arguments.dataset, **record, "provenance": provenance})
            print(way, seed, np.mean([image["f_score"][0] for image in record["test"].values()]))  # type: ignore[index]
    return 0


if __name__ == "__main__":
    sys.exit(main())
