"""What labels are worth from the base model on: none, one crop, one, five ... images; from scratch beside it.

    python benchmarks/labels.py usiigaci
    python benchmarks/labels.py dsb256
    python benchmarks/results.py          # writes docs/results.md from the JSON

Every measurement is kept in benchmarks/labels/DATASET.json as soon as it ends, so that an interrupted call goes on;
`--only` shares the work. Seconds are those of one core, validation and all included. Each seed draws its own images
from the training part; all of them are learned from, with a strip of each for validation. The test part is segmented
once for each training, and its masks are scored at their own size. Data are found through CYTOFORGE_DATA (default
../shared/data).
"""

import argparse
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.commands.segment import segment
from cytoforge.commands.train import train_segmentation
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest, read_json, write_json
from cytoforge.places import BASE
from cytoforge.settings import Segment, TrainSegmentation
from cytoforge.studies.datasets import write_crops
from few_labels import commit, scored

HERE = Path(__file__).parent
DATA = Path(os.environ.get("CYTOFORGE_DATA", HERE.parent.parent / "shared" / "data")).resolve()
THIRD = 0.333  # of usiigaci's resolution, at which the peers were given its images


@dataclass(frozen=True)
class Arm:
    """A way to a segmenter."""

    start: str
    """base, scratch, or weak for the paper's conventional training from scratch"""
    images: float
    """annotated images of a seed; below 1 for one crop, 0 for none"""
    seconds: int = 0
    """of one core"""
    scale: float | None = None
    """of the images; found from the masks if None"""

    def name(self, seed: int) -> str:
        """Return the key of its measurement with a seed."""
        amount = "one crop" if self.images < 1 else "1 image" if self.images == 1 else f"{self.images:g} images"
        what = f"{amount}, {self.seconds} s" if self.images else "zero labels"
        return f"{self.start}, {what}{'' if self.scale is None else f', scale {self.scale:g}'}, seed {seed}"


CROP = 176 / 341  # of the side of an image: some 25 cells of usiigaci
ARMS: dict[str, tuple[Arm, ...]] = {
    "usiigaci": (
        Arm("base", 0),
        Arm("base", 5, 60),
        Arm("base", 5, 360),
        Arm("scratch", 5, 360),
        Arm("base", 5, 360, THIRD),
        Arm("base", CROP, 120),
        Arm("scratch", CROP, 120),
        Arm("base", 1, 120),
        Arm("base", 1, 360),
        Arm("scratch", 1, 360),
        Arm("weak", 1, 360),
        Arm("weak", 5, 360),
        Arm("base", 25, 360),
        Arm("scratch", 25, 360),
        Arm("weak", 25, 360),
        Arm("scratch", 5, 60),
    ),
    "dsb256": (Arm("base", 0), Arm("base", 5, 60), Arm("scratch", 5, 60), Arm("scratch", 5, 360)),
}


def measured(arm: Arm, data: Path, seed: int) -> dict[str, Any]:
    """Train, segment the test images and score them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, record = Path("base"), {}
        if arm.images:
            run = folder / "run"
            trained = train_segmentation(settings(arm, data / "train", folder, seed))
            rows, facts = trained.metrics(), trained.provenance
            record = {"steps": rows[-1]["step"], "seconds": rows[-1]["seconds"], "verdict": facts["verdict"]}
            record |= {"scale": trained.settings.scale, "images": trained.settings.training_images}
        started = time.process_time()
        out = segment(Segment(run=run, images=data / "test", out=folder / "out", threads=1))
        record["segmenting_seconds"] = round(time.process_time() - started, 1)
        record["segment_scale"] = read_json(out / "segment.json")["scale"]
        return {**record, "test": scored(out, data / "test")}


def settings(arm: Arm, data: Path, folder: Path, seed: int) -> TrainSegmentation:
    """Return the settings of an arm's training."""
    images = int(arm.images)
    if not images:
        data, images = cropped(arm, data, folder / "crops", seed), 1
    weak = {"target": "semantic", "augmentation": "paper"} if arm.start == "weak" else {}
    return TrainSegmentation(
        data=data,
        out=folder / "run",
        limit=images,
        minutes=arm.seconds / 60,
        clock="processor",
        seed=seed,
        scale=arm.scale or "auto",
        threads=1,
        start=None if arm.start == "base" else Path("scratch"),
        **weak,
    )


def cropped(arm: Arm, data: Path, out: Path, seed: int) -> Path:
    """Write one crop about a cell of one image, and return its folder."""
    dataset = Dataset.open(data).pairs()
    side = round(arm.images * dataset.read_labels(dataset.items[0]).shape[0])
    return write_crops(dataset, out, 1, side, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", type=int, nargs="+", help="numbers of arms, from 0")
    given = parser.parse_args()
    path = HERE / "labels" / f"{given.dataset}.json"
    arms = ARMS[given.dataset]
    for number in given.only or range(len(arms)):
        for seed in given.seeds if arms[number].images else (0,):
            key = arms[number].name(seed)
            if key in (read_json(path)["measured"] if path.exists() else {}):
                continue
            record = measured(arms[number], DATA / given.dataset, seed)
            record |= {
                "cytoforge": version("cytoforge"),
                "commit": commit(),
                "base": digest(BASE / "weights" / "segmenter.safetensors"),
                "processor": platform.processor() or platform.machine(),
            }
            known = read_json(path)["measured"] if path.exists() else {}  # another call may have added to it meanwhile
            command = f"python benchmarks/labels.py {given.dataset}"
            write_json(path, {"command": command, "measured": {**known, key: record}})
            print(
                key, [round(float(np.mean([one["f_score"][k] for one in record["test"].values()])), 3) for k in (0, 2)]
            )


if __name__ == "__main__":
    main()
