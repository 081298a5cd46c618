"""InstanSeg from scratch, in its own environment: called by benchmarks/peers.py, imports nothing of cytoforge.

train_instanseg.py FOLDER CORE_SECONDS SEED: reads task.npz in FOLDER, writes found.npz and found.json there.

Network, losses and the reading of cells from the network's maps are those of the package, with its default settings.
Its own training script counts epochs and wants torchvision, so the loop stands here and ends with the time: batches of
three windows, Adam, clipped gradients; first the quick losses with which InstanSeg starts (binary cross entropy and
Dice), for a fifth of the time, then its own (distance and Lovasz hinge). Windows are flipped and turned by quarters, as
its minimal augmentation does. It learns from all images; the weights of the end are used. An image is segmented with
its sides padded to whole multiples of 32 pixels. Windows, and those about each cell, suit cells that are 16 px across.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from instanseg.utils.loss.instanseg_loss import InstanSeg
from instanseg.utils.models.InstanSeg_UNet import InstanSeg_UNet

WINDOW, ABOUT_CELL, BATCH, RATE, CLIP = 128, 64, 3, 1e-3, 20.0
LAYERS = (256, 128, 64, 32)
START = 0.2  # share of the time with the quick losses
MULTIPLE = 32  # px


def normalised(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, [0.1, 99.9])
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def window(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    top, left = (rng.integers(max(side - WINDOW, 0) + 1) for side in labels.shape)
    turns, mirrored = rng.integers(4), rng.random() < 0.5
    cut = [np.rot90(one[top : top + WINDOW, left : left + WINDOW], turns) for one in (image, labels)]
    image, labels = (np.ascontiguousarray(one[::-1] if mirrored else one) for one in cut)
    return image, labels


def segment(network: torch.nn.Module, method: InstanSeg, image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    padded = np.pad(image, [(0, -height % MULTIPLE), (0, -width % MULTIPLE)], mode="reflect")
    with torch.no_grad():
        maps = network(torch.from_numpy(padded)[None, None])[0]
        found = method.postprocessing(maps, window_size=ABOUT_CELL)
    return found[0, :height, :width].numpy().astype(np.int32)


def main() -> None:
    folder, budget, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    task = np.load(folder / "task.npz")
    images = [normalised(image) for image in task["images"]]
    labels = [one.astype(np.int32) for one in task["labels"]]
    started = time.process_time()
    method = InstanSeg(
        n_sigma=2,
        device="cpu",
        binary_loss_fn_str="dice_loss",
        seed_loss_fn="binary_xloss",
        window_size=ABOUT_CELL,
    )
    network = InstanSeg_UNet(in_channels=1, out_channels=[[2, 2, 1]], layers=np.array(LAYERS))
    network = method.initialize_pixel_classifier(network, MLP_width=5)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    network.train()
    steps, quick = 0, True
    while (spent := time.process_time() - started) < budget:
        if quick and spent >= START * budget:
            method.update_seed_loss("l1_distance")
            method.update_binary_loss("lovasz_hinge")
            quick = False
        drawn = [window(images[i], labels[i], rng) for i in rng.integers(len(images), size=BATCH)]
        batch = torch.from_numpy(np.stack([image for image, _ in drawn]))[:, None]
        truth = torch.from_numpy(np.stack([one for _, one in drawn]))[:, None]
        loss = method(network(batch), truth).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        steps += 1
    trained = time.process_time() - started
    network.eval()
    started = time.process_time()
    found = [segment(network, method, normalised(image)) for image in task["test"]]
    each = (time.process_time() - started) / len(found)
    np.savez(folder / "found.npz", masks=np.stack(found))
    record = {
        "steps": steps,
        "training_core_seconds": round(trained, 1),
        "inference_core_seconds": round(each, 3),
        "images_trained_on": len(images),
        "settings": {"batch": BATCH, "window": WINDOW, "about_cell": ABOUT_CELL, "rate": RATE},
        "packages": {
            "instanseg": version("instanseg-torch"),
            **{name: version(name) for name in ("torch", "monai", "edt", "numpy")},
        },
    }
    (folder / "found.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
