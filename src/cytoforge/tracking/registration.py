"""How far all that is seen has moved from frame to frame: drift and jumps of the stage, by the places of cells."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

FARTHEST = 3.0
"""diameters that a field moves in a frame, at most"""
BIN = 0.2
"""diameters; steps of a field agree within one and a half of these in either direction"""
AGREEING = 0.5
"""share of the cells of the emptier frame, at least, whose steps agree"""
FEWEST = 6
"""cells, at least, of each frame"""
STILL = 0.1
"""diameters; a smaller step is what is left of the steps of the cells themselves"""

Floats = NDArray[np.float64]


def field_step(before: Floats, after: Floats, diameter: float) -> NDArray[np.int64]:
    """Return the step (y, x) in pixels of the whole field between frames with cells at (N, 2) and (M, 2) y, x.

    It is the step that most pairs of cells agree on, whichever cell becomes which; 0 where too few do, or it is small.
    """
    none = np.zeros(2, np.int64)
    if min(len(before), len(after)) < FEWEST:
        return none
    pairs = KDTree(before).sparse_distance_matrix(KDTree(after), FARTHEST * diameter, output_type="ndarray")
    steps = (after[pairs["j"]] - before[pairs["i"]]) / diameter
    side = round(FARTHEST / BIN)
    bins = np.rint(steps / BIN).astype(np.int64) + side
    counts = np.bincount(bins @ (2 * side + 1, 1), minlength=(2 * side + 1) ** 2).reshape(2 * side + 1, -1)
    around = ndimage.convolve(counts, np.ones((3, 3), np.int64), mode="constant")
    most = np.array(np.unravel_index(int(np.argmax(around)), around.shape))
    agree = (np.abs(bins - most) <= 1).all(axis=1)
    if np.unique(pairs["i"][agree]).size < AGREEING * min(len(before), len(after)):
        return none
    step = np.median(steps[agree], axis=0)
    return np.rint(step * diameter).astype(np.int64) if np.hypot(*step) > STILL else none
