"""Cellpose, StarDist and InstanSeg from scratch on the images of benchmarks/few_labels.py, scored in the same way.

    python benchmarks/peers.py usiigaci --scale 0.333
    python benchmarks/results.py          # writes docs/results.md from the JSON

Each peer has an environment of its own in scratch/peers, which is made here with pip; nothing of it is a dependency of
cytoforge. Nothing pretrained is used. A seed draws the same five images as there. Peers get them at the scale given,
their masks are brought back to the size of the test images and scored there. Seconds are those of one core, without
imports. Each (peer, seed) is kept in a JSON file as soon as it ends, and is not made again. StarDist's TensorFlow needs
Python 3.11 or older.

InstanSeg takes some .7 s of a core for a step (three windows of 128 px, 3.8 million weights). A trial of 60 s made 85
steps and found no cell; after 65 steps of another its seeds hardly differed from the background.

Cellpose 4 (4.2.1.1) is left out: its network, SAM's ViT-L, has 304,628,930 weights, and one pass of a window of
256 x 256 px takes 11 s of one core. A step on one window takes about three times that, so that 360 s are ten windows,
too few for a network whose published weights, which are not given here, are what it is for.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.data.dataset import Dataset
from cytoforge.data.files import read_json, write_json
from cytoforge.data.images import resize_labels, write_labels
from cytoforge.training.data import open_data
from cytoforge.training.specification import Data
from few_labels import DATA, commit, scored

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / "scratch" / "peers"
TORCH = next(line for line in (HERE.parent / "constraints.txt").read_text().split() if line.startswith("torch=="))
PEERS = {
    "cellpose": ("cellpose==3.1.1.2", TORCH),
    "stardist": ("stardist==0.9.1", "tensorflow-cpu==2.15.1", "numpy<2"),
    "instanseg": ("instanseg-torch==0.1.2", "monai==1.6.1", "edt==3.1.2", "pandas==3.1.1", "seaborn==0.13.2", TORCH),
}
LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMBA")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES}


def environment(peer: str) -> Path:
    """Return the Python of a peer's environment, which is made if it is not there or holds something else."""
    folder, wanted = ENVIRONMENTS / peer, "\n".join(PEERS[peer])
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[peer]], check=True)
        ready.write_text(wanted)
    return python


def task(data: Path, limit: int, scale: float, seed: int) -> dict[str, Any]:
    """Read the images that few_labels.py draws, validation last, and those to be tested, (N, H, W) each."""
    training = open_data(Data(path=data / "train", limit=limit, scale=scale, split_by="image"), seed)
    pairs = [training.read(i) for i in range(len(training.names))]
    pairs += [(image, labels) for _, image, labels in training.validation]
    tests = Dataset.open(data / "test")
    return {
        "images": np.stack([image[0] for image, _ in pairs]),
        "labels": np.stack([labels for _, labels in pairs]),
        "held": len(training.validation),
        "test": np.stack([tests.read_image(item, scale)[0] for item in tests.items]),
        "names": [*training.names, *(name for name, _, _ in training.validation)],
    }


def one(peer: str, data: Path, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train a peer, segment the test images, score them; return everything that is worth keeping."""
    python = environment(peer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = task(data, arguments.limit, arguments.scale, seed)
        np.savez(folder / "task.npz", **given)
        script = HERE / "peers" / f"train_{peer}.py"
        words = [python, script, folder, str(arguments.core_seconds), str(seed)]
        own = {"CELLPOSE_LOCAL_MODELS_PATH": name, "TF_CPP_MIN_LOG_LEVEL": "2", **ONE_THREAD}
        outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run(words, check=True, cwd=folder, env={**outside, **own}, stdout=subprocess.DEVNULL)
        tests = Dataset.open(data / "test")
        for item, labels in zip(tests.items, np.load(folder / "found.npz")["masks"], strict=True):
            shape = tests.read_labels(item).shape
            write_labels(folder / "out" / "masks" / f"{item.name}.tif", resize_labels(labels, shape))
        return {
            **read_json(folder / "found.json"),
            "images": given["names"],
            "test": scored(folder / "out", data / "test"),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--core-seconds", type=float, default=360.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    data = DATA / arguments.dataset
    if not data.is_dir():
        print(f"{data}: is missing; set CYTOFORGE_DATA", file=sys.stderr)
        return 2
    for seed in arguments.seeds:
        for peer in arguments.only:
            path = HERE / "peers" / f"{arguments.dataset}-{peer}-{seed}.json"
            if path.exists():
                continue
            record = one(peer, data, arguments, seed)
            provenance = {
                "command": " ".join(["python", "benchmarks/peers.py", *sys.argv[1:]]),
                "cytoforge": version("cytoforge"),
                "commit": commit(),
                "packages": record.pop("packages"),
                "processor": platform.processor() or platform.machine(),
                "threads": 1,
                "core_seconds": arguments.core_seconds,
                "scale": arguments.scale,
                "limit": arguments.limit,
            }
            start = {"dataset": arguments.dataset, "way": peer, "seed": seed}
            write_json(path, {**start, **record, "provenance": provenance})
            print(peer, seed, np.mean([image["f_score"][0] for image in record["test"].values()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
