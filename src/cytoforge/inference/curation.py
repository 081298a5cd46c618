"""Which synthetic images to keep: those that show the cells of their masks and are no near-duplicates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import resize_image, scaled_shape
from cytoforge.errors import UserError
from cytoforge.inference.segment import fitted
from cytoforge.inference.segmenter import Segmenter, segment_array
from cytoforge.inference.tiling import Floats
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.progress import Progress, counted

IOU = 0.5  # from which a cell of the mask counts as found
BLUR = 16  # px that are averaged before images are compared, so that noise alone makes no difference
NEAR = 0.01  # mean absolute difference, in [-1, 1], below which two blurred images of one mask are near-duplicates


@dataclass(frozen=True)
class Curation:
    """What was found in the images of a dataset, by their names, and which of them to drop."""

    faithfulness: dict[str, float | None]
    """share of the mask's cells that the segmenter finds, matched one to one at IoU 0.5; None where there are none"""
    near_duplicates: dict[str, str]
    """by image, another one of the same mask from which it hardly differs"""
    dropped: list[str]


def curate(dataset: Dataset, segmenter: Segmenter, keep: float) -> Curation:
    """Choose the share `keep` of a synthetic dataset, whose dataset.json says on which mask each image was painted.

    Nothing is deleted. Raises UserError when the segmenter was trained on another number of channels.
    """
    if (channels := dataset.channels()) != segmenter.channels:
        raise UserError(
            f"{dataset.path}: its images have {counted(channels, 'channel')}, the segmenter was trained on "
            f"{segmenter.channels}; give another --segmenter"
        )
    segmenter = fitted(segmenter, dataset)
    siblings: dict[str, list[Item]] = {}
    for item in dataset.items:
        siblings.setdefault(dataset.info["files"][item.name]["mask"], []).append(item)
    faithfulness: dict[str, float | None] = {}
    near: dict[str, str] = {}
    progress = Progress("curate")
    for items in siblings.values():
        different: dict[str, Floats] = {}
        for item in items:
            image, faithfulness[item.name] = look(dataset, item, segmenter)
            blurred = resize_image(image, scaled_shape(image.shape, 1 / BLUR))
            twin = next((name for name, other in different.items() if np.abs(blurred - other).mean() < NEAR), None)
            if twin is None:
                different[item.name] = blurred
            else:
                near[item.name] = twin
            progress(len(faithfulness) / len(dataset.items), item.name)
    return Curation(faithfulness, near, to_drop(faithfulness, near, keep))


def look(dataset: Dataset, item: Item, segmenter: Segmenter) -> tuple[Floats, float | None]:
    """Return an image (C, H, W) in [-1, 1] at the segmenter's scale, and the share of its cells that this finds."""
    image = dataset.read_image(item, segmenter.scaling, segmenter.normalisation)
    labels = dataset.read_labels(item, segmenter.scaling)
    found = segment_array(segmenter.network, image, segmenter.target, segmenter.tile)
    scores = segmentation_scores(labels, found, (IOU,), segmenter.target.protocol)
    return image, scores.true_positives[0] / scores.truth_cells if scores.truth_cells else None


def to_drop(faithfulness: Mapping[str, float | None], near: Mapping[str, str], keep: float) -> list[str]:
    """Return the names of the images to drop, in this order, so that a share `keep` of them (at least one) stays.

    Near-duplicates go before all others, less faithful images before more faithful ones, images without cells last.
    """

    def rank(name: str) -> tuple[bool, float, str]:
        share = faithfulness[name]
        return name not in near, 1.0 if share is None else share, name

    count = len(faithfulness) - max(round(keep * len(faithfulness)), 1)
    return sorted(faithfulness, key=rank)[:count]
