"""StarDist from scratch, in its own environment: called by benchmarks/peers.py, imports nothing of cytoforge.

train_stardist.py FOLDER CORE_SECONDS SEED: reads task.npz in FOLDER, writes found.npz and found.json there.

StarDist needs images for validation, so it trains on one image less, as cytoforge does. Training ends with the epoch in
which the time is spent; the thresholds are then tuned on the validation image, as StarDist's documentation does, and
that time is counted. Windows are flipped, turned, and their grey values stretched, shifted and made noisy.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow as tf
from csbdeep.utils import normalize
from stardist import fill_label_holes
from stardist.models import Config2D, StarDist2D

RAYS, GRID, WINDOW, BATCH, STEPS = 32, (2, 2), 128, 4, 20


class UntilSpent(tf.keras.callbacks.Callback):
    """End the training with the epoch in which the core-seconds are spent; count its steps."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end, self.steps = end, 0

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.steps = STEPS * (epoch + 1)
        self.model.stop_training = time.process_time() >= self.end


def varied(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    turns, mirrored = rng.integers(4), rng.random() < 0.5
    image, labels = (np.rot90(one, turns) for one in (image, labels))
    if mirrored:
        image, labels = image[::-1], labels[::-1]
    image = image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2)
    return image + 0.02 * rng.random() * rng.normal(size=image.shape), labels


def main() -> None:
    folder, budget, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    task = np.load(folder / "task.npz")
    images = [normalize(image, 1, 99.8, axis=(0, 1)) for image in task["images"]]
    labels = [fill_label_holes(one.astype(np.int32)) for one in task["labels"]]
    split = len(images) - int(task["held"])
    held = (images[split:], labels[split:])
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    started = time.process_time()
    config = Config2D(
        n_rays=RAYS,
        grid=GRID,
        n_channel_in=1,
        train_patch_size=(WINDOW, WINDOW),
        train_batch_size=BATCH,
        train_tensorboard=False,
    )
    model = StarDist2D(config, name="stardist", basedir=str(folder))
    model.prepare_for_training()
    until = UntilSpent(started + budget)
    model.callbacks.append(until)
    model.train(
        images[:split],
        labels[:split],
        validation_data=held,
        augmenter=lambda image, labels: varied(image, labels, rng),
        seed=seed,
        epochs=10_000,
        steps_per_epoch=STEPS,
    )
    model.optimize_thresholds(*held)
    trained = time.process_time() - started
    tests = [normalize(image, 1, 99.8, axis=(0, 1)) for image in task["test"]]
    model.predict_instances(images[0])  # compiles
    started = time.process_time()
    found = [model.predict_instances(image)[0] for image in tests]
    each = (time.process_time() - started) / len(found)
    np.savez(folder / "found.npz", masks=np.stack(found).astype(np.int32))
    record = {
        "steps": until.steps,
        "training_core_seconds": round(trained, 1),
        "inference_core_seconds": round(each, 3),
        "images_trained_on": split,
        "settings": {"rays": RAYS, "grid": GRID[0], "batch": BATCH, "window": WINDOW},
        "packages": {name: version(name) for name in ("stardist", "tensorflow-cpu", "numpy")},
    }
    (folder / "found.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
