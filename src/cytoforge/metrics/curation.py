"""Which generated images to trust and to keep: faithful to their mask, no copies of training images, not there twice.

Features (n, d) are those that a pretrained network sees in each image, as `metrics.generation.extract_features` gives
them; nearness of images is the Euclidean distance of these.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cytoforge.metrics.estimates import Floats, ratio
from cytoforge.metrics.segmentation import Labels, match

BLOCK = 1024  # rows of a matrix over pairs of images that are held at once


@dataclass(frozen=True)
class Faithfulness:
    """Agreement between a mask and what a segmenter sees in the image painted on it.

    `share` is matched / cells, nan for an empty mask; `matched_iou` the mean IoU of the matched cells, nan without any.
    """

    cells: int  # in the mask
    matched: int
    invented: int  # cells seen that match none of the mask
    share: float
    matched_iou: float
    cell_iou: Floats  # (cells,) in the order of their ids, 0 where not matched


@dataclass(frozen=True)
class Copying:
    """Whether generated images lie closer to the training images than those lie to each other.

    `closer` is the probability that a generated image is nearer to a training image than a training image is to
    another one: about 0.5 for new images of the same kind, towards 1 for copies, towards 0 for images of another kind;
    nan for a single training image.
    """

    network: str
    training: int  # images
    median: float  # distance of a generated image to its nearest training image
    training_median: float  # the same among training images
    closer: float
    distance: tuple[float, ...]  # by generated image
    nearest: tuple[int, ...]  # place of that training image


def faithfulness(condition: Labels, seen: Labels, threshold: float = 0.5) -> Faithfulness:
    """Compare the labels that an image was painted on with those that a segmenter finds in it.

    Args:
        condition: integer labels (H, W).
        seen: integer labels (H, W) predicted on the painted image.
        threshold: least IoU of a matched pair, in (0, 1].

    Raises:
        ValueError: as `metrics.segmentation.match`.
    """
    pairs = match(condition, seen, threshold)
    ids = np.unique(condition[condition > 0])
    cell_iou = np.zeros(len(ids))
    cell_iou[np.searchsorted(ids, pairs.truth_ids)] = pairs.iou
    matched = len(pairs.iou)
    return Faithfulness(
        cells=len(ids),
        matched=matched,
        invented=len(np.unique(seen[seen > 0])) - matched,
        share=float(ratio(matched, len(ids))),
        matched_iou=float(ratio(pairs.iou.sum(), matched)),
        cell_iou=cell_iou,
    )


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Distances (n, m) of features (n, d) and (m, d): exactly 0 for equal rows, the same from either side."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_distances(features: Tensor, others: Tensor | None = None) -> tuple[Floats, NDArray[np.int64]]:
    """Distance (n,) of each row of features (n, d) to the nearest row of `others` (m, d), and the place of that (n,).

    Without `others` they are the features themselves, each row leaving itself out. Raises ValueError when there is
    nothing to be near to.
    """
    pool = features if others is None else others
    if not len(features) or len(pool) < (2 if others is None else 1):
        raise ValueError(f"need images and others to be near to, got {len(features)} and {len(pool)}")
    distance = np.empty(len(features))
    index = np.empty(len(features), np.int64)
    for start in range(0, len(features), BLOCK):
        rows = slice(start, start + BLOCK)
        block = distances(features[rows], pool)
        if others is None:
            block[:, rows].fill_diagonal_(torch.inf)
        found = block.min(dim=1)
        distance[rows], index[rows] = found.values.numpy(), found.indices.numpy()
    return distance, index


def copying(generated: Tensor, training: Tensor, network: str) -> Copying:
    """Look for copies of training images (m, d) among generated ones (n, d), in the features of the network named.

    The distance to the nearest neighbour, as in Meehan et al. 2020, against the same among the training images.
    Raises ValueError when a side is empty.
    """
    distance, nearest = nearest_distances(generated, training)
    own = np.sort(nearest_distances(training)[0]) if len(training) > 1 else np.array([np.nan])
    below, upto = (np.searchsorted(own, distance, side) / len(own) for side in ("left", "right"))
    return Copying(
        network=network,
        training=len(training),
        median=float(np.median(distance)),
        training_median=float(np.median(own)),
        closer=float(1 - np.mean((below + upto) / 2)) if len(training) > 1 else float("nan"),
        distance=tuple(distance.tolist()),
        nearest=tuple(nearest.tolist()),
    )


def near_duplicates(features: Tensor, distance: float) -> NDArray[np.bool_]:
    """Which rows of features (n, d) lie within `distance` of an earlier row that is itself no duplicate: (n,).

    Features have no scale of their own. Half the median distance to the nearest neighbour among real images is a
    measure of "the same image again": it holds for shifted and mirrored copies, not for copies with other noise.
    """
    duplicate = np.zeros(len(features), bool)
    for start in range(0, len(features), BLOCK):
        near = (distances(features[start : start + BLOCK], features) <= distance).numpy()
        for i, row in enumerate(near, start):
            duplicate[i] = (row[:i] & ~duplicate[:i]).any()
    return duplicate


def curate(faithful: ArrayLike, duplicate: ArrayLike, keep: float) -> NDArray[np.bool_]:
    """Which images to keep (n,): the share `keep` of them, dropping duplicates first, then the least faithful.

    Args:
        faithful: a faithfulness (n,) such as `Faithfulness.share`, higher is better; nan (an empty mask) is taken as 1.
        duplicate: bool (n,), as `near_duplicates` gives it.
        keep: share to keep, in (0, 1]; rounded up to whole images. Duplicates are kept only to fill it.

    Raises:
        ValueError: `keep` outside (0, 1], or lengths that differ.
    """
    score, twice = np.asarray(faithful, np.float64), np.asarray(duplicate, bool)
    if not 0 < keep <= 1 or score.shape != twice.shape:
        raise ValueError(f"keep lies in (0, 1] and lengths are equal, got {keep}, {score.shape} and {twice.shape}")
    best = np.lexsort([-np.where(np.isnan(score), 1, score), twice])  # stable: of equals the earlier
    kept = np.zeros(len(score), bool)
    kept[best[: int(np.ceil(keep * len(score) - 1e-9))]] = True
    return kept
