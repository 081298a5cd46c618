"""The baseline that every trained model must beat: a threshold and a watershed, without learning."""

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

SMALLEST = 15  # pixels, as in cGAN-Seg's scoring


def otsu_watershed(image: np.ndarray, smoothing: float = 1.0) -> np.ndarray:
    """Return labels int32 (H, W) of an image float32 (C, H, W): Otsu's threshold, split by a distance watershed.

    The rarer side of the threshold is taken for cells, so that it serves dark and bright ones. Source: Otsu, IEEE
    Trans. Syst. Man Cybern. 9 (1979); the watershed starts from the maxima of the smoothed distance to background.
    """
    grey = gaussian(image.mean(axis=0), smoothing)
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.int32)
    cells = grey > threshold_otsu(grey)
    if cells.mean() > 0.5:
        cells = ~cells
    cells = ndimage.binary_fill_holes(cells)
    components, _ = ndimage.label(cells)
    cells &= np.bincount(components.ravel())[components] >= SMALLEST
    distance = gaussian(ndimage.distance_transform_edt(cells), smoothing)
    seeds = np.zeros(grey.shape, np.int32)
    peaks = peak_local_max(distance, min_distance=4, labels=cells.astype(np.int32), exclude_border=False)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-distance, seeds, mask=cells), dtype=np.int32)
