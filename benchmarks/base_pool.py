"""The windows that the base model learns from: real annotated images under free licences, and simulated ones.

    python benchmarks/base_pool.py POOL

Writes the datasets POOL/train and POOL/val: windows of SIDE px whose cells are about DIAMETER px across, some smaller,
some larger. Sets count by their weights below, not by their number of images; a fifth of each set's images, and
simulated scenes of their own, are for validation. Every window follows from its seed alone, so that an interrupted call
goes on. Data are found through CYTOFORGE_DATA (default ../shared/data).
"""

import argparse
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import expand_labels

from cytoforge.cells.instances import cell_diameters, inner_border
from cytoforge.cells.labels import dense
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import Normalisation, resize_image, resize_labels, write_image, write_labels
from cytoforge.simulation.forms import Form, draw_cells
from cytoforge.simulation.microscopy import Modality, draw_image

DATA = Path(os.environ.get("CYTOFORGE_DATA", Path(__file__).parent.parent.parent / "shared" / "data")).resolve()
SIDE, DIAMETER = 192, 18.0
SIZES = (0.8, 1.25)
"""factors of DIAMETER between which the median diameter of a window's cells is drawn; augmentation widens it"""
FLAT = ("adherent", "spread", "elongated")
TRANSMITTED = ("phase contrast", "dic", "brightfield")
GENEROUS = 0.06
"""People outline flat cells in transmitted light outside of what they see, by about this share of the diameter."""
CELLS_IN_VIEW = 0.9
"""share of windows of real images that are drawn about a pixel of a cell"""
VISIBLE, STEEPER, ATTEMPTS = 0.8, 1.3, 10
"""least share of simulated cells whose edge is so many times steeper than the ground, and scenes drawn for it"""
REAL: dict[str, float] = {  # folder and share of the windows
    "pretrain/dsb2018_fluo": 6,
    "dsb256/train": 6,
    "pretrain/mnfinder_nuclei_fluo": 5,
    "pretrain/dsb2018_histo": 4,
    "pretrain/dsb2018_brightfield": 4,
    "pretrain/yeastvision_phc_movie": 4,
    "pretrain/trackastra_ecoli_phc_movie": 2,
    "pretrain/omnipose_bact_phc": 2,
    "pretrain/plantseg_ovule_membrane": 1,
    "pretrain/maize_clsm": 0.5,
}
SIMULATED: dict[tuple[Form, Modality], float] = {
    ("adherent", "phase contrast"): 12,
    ("spread", "phase contrast"): 9,
    ("elongated", "phase contrast"): 6,
    ("round", "phase contrast"): 4,
    ("epithelium", "phase contrast"): 3,
    ("yeast", "phase contrast"): 1,
    ("bacteria", "phase contrast"): 2,
    ("adherent", "dic"): 2,
    ("spread", "dic"): 3,
    ("elongated", "dic"): 1,
    ("round", "dic"): 1,
    ("yeast", "dic"): 1,
    ("adherent", "brightfield"): 2,
    ("spread", "brightfield"): 2,
    ("round", "brightfield"): 2,
    ("yeast", "brightfield"): 2,
    ("bacteria", "brightfield"): 1,
    ("adherent", "dark field"): 1,
    ("round", "dark field"): 0.5,
    ("nuclei", "nuclear fluorescence"): 5,
    ("adherent", "cytoplasm fluorescence"): 2,
    ("spread", "cytoplasm fluorescence"): 3,
    ("elongated", "cytoplasm fluorescence"): 2,
    ("round", "cytoplasm fluorescence"): 1,
    ("bacteria", "cytoplasm fluorescence"): 1,
    ("epithelium", "cytoplasm fluorescence"): 1,
    ("epithelium", "membrane fluorescence"): 3,
    ("spread", "membrane fluorescence"): 1,
}
Window = tuple[NDArray[np.float32], NDArray[np.int32]]
"""image (1, SIDE, SIDE) in [-1, 1] and labels (SIDE, SIDE)"""


@cache
def opened(folder: str, held: bool) -> tuple[tuple[NDArray[np.float32], NDArray[np.int32], float], ...]:
    """Return images (1, H, W) in [-1, 1], labels and median diameters of a set's part for training or validation."""
    dataset = Dataset.open(DATA / folder).pairs()
    learned, validation = dataset.split(0)
    part = validation if held else learned
    read = []
    for item in part.items:
        image, labels = dataset.read_image(item), dataset.read_labels(item)
        grey = image.mean(axis=0, keepdims=True).astype(np.float32)
        sizes = cell_diameters(labels)
        if sizes.size:
            read.append((grey, labels, float(np.median(sizes))))
    return tuple(read)


def real(folder: str, held: bool, generator: np.random.Generator) -> Window:
    """Cut a window out of a set of real images, at a random place and scale."""
    images = opened(folder, held)
    image, labels, diameter = images[generator.integers(len(images))]
    factor = wanted(generator) / diameter
    extent = round(SIDE / factor)
    short = [max(extent - length, 0) for length in labels.shape]
    padding = [(half, lack - half) for lack in short for half in (lack // 2,)]
    image = np.pad(image, [(0, 0), *padding], mode="symmetric")
    labels = np.pad(labels, padding, mode="symmetric")
    top, left = (int(generator.integers(length - extent + 1)) for length in labels.shape)
    if generator.random() < CELLS_IN_VIEW:
        centre = np.argwhere(labels)[generator.integers(np.count_nonzero(labels))]
        top, left = (
            int(np.clip(place - generator.integers(extent), 0, length - extent))
            for place, length in zip(centre, labels.shape, strict=True)
        )
    part = (slice(top, top + extent), slice(left, left + extent))
    resized = resize_image(image[(slice(None), *part)], (SIDE, SIDE)).astype(np.float32)
    small = resize_labels(np.ascontiguousarray(labels[part]), (SIDE, SIDE))
    return resized, label(small, connectivity=1).astype(np.int32)  # a cell and its mirror image are two


def simulated(form: Form, modality: Modality, generator: np.random.Generator) -> Window:
    """Draw cells, and their image; anew where hardly anybody would see the cells."""
    normalisation = Normalisation()
    for _ in range(ATTEMPTS):
        diameter = wanted(generator)
        labels = draw_cells(form, (SIDE, SIDE), diameter, generator)
        image = draw_image(labels, modality, diameter, generator)[None]
        image = normalisation.apply(image, normalisation.measure(image))
        if visible(image[0], labels) >= VISIBLE:
            break
    if form in FLAT and modality in TRANSMITTED:
        labels = expand_labels(labels, GENEROUS * diameter)
    return image, labels


def visible(image: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Return the share of the cells whose edge is steeper than the image is where there is no cell; 1 without cells."""
    steepness = ndimage.gaussian_gradient_magnitude(image.astype(np.float64), 1.0)
    edge = inner_border(torch.from_numpy(labels)[None])[0].numpy()
    ground = ndimage.minimum_filter(labels == 0, 7)
    usual = np.median(steepness[ground]) if ground.mean() > 0.05 else np.percentile(steepness, 20)
    ids = np.unique(labels[edge])
    if ids.size == 0:
        return 1.0
    return float(np.mean(ndimage.mean(steepness, np.where(edge, labels, 0), ids) > STEEPER * usual))


def wanted(generator: np.random.Generator) -> float:
    """Draw the median diameter of a window's cells in px."""
    return DIAMETER * float(np.exp(generator.uniform(*np.log(SIZES))))


def write(folder: Path, number: int, seed: int, held: bool) -> None:
    """Write window `number` of a seed, unless it exists."""
    generator = np.random.default_rng([seed, held, number])
    weights = np.array([*REAL.values(), *SIMULATED.values()])
    source = [*REAL, *SIMULATED][generator.choice(len(weights), p=weights / weights.sum())]
    name = source.rpartition("/")[2] if isinstance(source, str) else " ".join(source)
    if source == "dsb256/train":
        name = "dsb256"
    stem = f"{number:05d}-{name.replace(' ', '-')}"
    mask = folder / "masks" / f"{stem}.png"
    if mask.exists():
        return
    image, labels = real(source, held, generator) if isinstance(source, str) else simulated(*source, generator)
    write_image(folder / "images" / f"{stem}.png", np.rint(127.5 * (image + 1)).clip(0, 255).astype(np.uint8))
    write_labels(mask, dense(labels)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--windows", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for part, count in (("val", given.windows // 25), ("train", given.windows)):
        for kind in ("images", "masks"):
            (given.pool / part / kind).mkdir(parents=True, exist_ok=True)
        write_json(given.pool / part / "dataset.json", {"limits": [0, 255]})
        for number in range(count):
            write(given.pool / part, number, given.seed, part == "val")


if __name__ == "__main__":
    main()
