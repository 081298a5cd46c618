"""Whether generated images are copies of training images.

Features (n, d) are the outputs of a pretrained network for each image, as `metrics.generation.extract_features`
returns them. The distance of two images is the Euclidean distance of their features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.metrics.estimates import Floats

BLOCK = 1024  # rows of a matrix over pairs of images that are held at once


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


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the symmetric distances (n, m) between features (n, d) and (m, d); equal rows have exactly 0."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_distances(features: Tensor, others: Tensor | None = None) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distance (n,) of each row of features (n, d) to the nearest of `others` (m, d), and its index (n,).

    Without `others`, each row is compared with all other rows of `features`. Raises ValueError if there are no
    features, or no other row to compare with.
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
    """Look for copies of training images among generated ones, by features (m, d) and (n, d) of the named network.

    As in Meehan et al. 2020, the distance of each generated image to its nearest training image is compared with the
    same distance among the training images. Raises ValueError if a side is empty.
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
