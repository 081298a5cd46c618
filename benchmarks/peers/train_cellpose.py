"""Cellpose from scratch, in its own environment: called by benchmarks/peers.py, imports nothing of cytoforge.

train_cellpose.py FOLDER CORE_SECONDS SEED: reads task.npz in FOLDER, writes found.npz and found.json there.

Cellpose counts epochs, so a few are timed on a network that is thrown away, and as many are asked for as fit into the
time. Each shows eight windows in two batches of four. Everything else is Cellpose's default, but for the mean diameter
of cells and the size of windows, which suit images in which a cell is 16 px across. The seed is that of the first
weights; Cellpose draws windows by the number of the epoch.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from cellpose.models import CellposeModel
from cellpose.train import train_seg

DIAMETER, WINDOW, BATCH, WINDOWS = 15.0, 112, 4, 8
TIMED = 8  # epochs


def train(folder: Path, images: list[np.ndarray], labels: list[np.ndarray], epochs: int, seed: int) -> CellposeModel:
    torch.manual_seed(seed)
    model = CellposeModel(gpu=False, pretrained_model=False, diam_mean=DIAMETER)
    train_seg(
        model.net,
        train_data=images,
        train_labels=labels,
        channels=[0, 0],
        n_epochs=epochs,
        batch_size=BATCH,
        nimg_per_epoch=WINDOWS,
        bsize=WINDOW,
        save_path=folder,
    )
    return model


def seconds(folder: Path, images: list[np.ndarray], labels: list[np.ndarray], epochs: int, seed: int) -> float:
    started = time.process_time()
    train(folder, images, labels, epochs, seed)
    return time.process_time() - started


def main() -> None:
    folder, budget, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    task = np.load(folder / "task.npz")
    images, labels = list(task["images"]), list(task["labels"].astype(np.int32))
    seconds(folder, images, labels, 1, seed)  # compiles
    few, more = (seconds(folder, images, labels, epochs, seed) for epochs in (1, 1 + TIMED))
    epochs = max(round((budget - few) / ((more - few) / TIMED)) + 1, 1)
    started = time.process_time()
    model = train(folder, images, labels, epochs, seed)
    trained = time.process_time() - started
    diameter = float(model.net.diam_labels)
    model.eval(images[0], diameter=diameter, channels=[0, 0])  # compiles
    started = time.process_time()
    found = [model.eval(image, diameter=diameter, channels=[0, 0])[0] for image in task["test"]]
    each = (time.process_time() - started) / len(found)
    np.savez(folder / "found.npz", masks=np.stack(found).astype(np.int32))
    record = {
        "steps": epochs * -(-WINDOWS // BATCH),
        "training_core_seconds": round(trained, 1),
        "inference_core_seconds": round(each, 3),
        "images_trained_on": len(images),
        "settings": {"epochs": epochs, "batch": BATCH, "window": WINDOW, "diameter_mean": DIAMETER},
        "packages": {name: version(name) for name in ("cellpose", "torch", "numpy")},
    }
    (folder / "found.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
