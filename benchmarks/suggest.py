"""Whether disagreement between the turns of an image tells where a segmenter errs: rank correlation with 1 - F.

    python benchmarks/suggest.py RUN DATA

DATA is a dataset with masks that RUN has not learned from. Prints Spearman's correlation over images and over the
windows of all images, F at IoU 0.5 and 0.7, with 95 % intervals that resample the images.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cytoforge.cells.instances import relabel
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_image, read_labels
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.suggest import windows_of
from cytoforge.metrics.segmentation import segmentation_scores

THRESHOLDS = (0.5, 0.7)
ALL = 1000  # windows of an image, more than fit

Row = tuple[float, ...]


def errors(truth: NDArray[np.int32], found: NDArray[np.int32]) -> Row:
    """1 - F of each threshold; nan where there is no cell."""
    return tuple(1 - f for f in segmentation_scores(relabel(truth), relabel(found), THRESHOLDS).f_score)


def correlation(groups: list[list[Row]], column: int) -> float:
    """Spearman's correlation of the first entry of all rows with another; rows without a value are left out."""
    rows = np.array([row for group in groups for row in group])
    rows = rows[~np.isnan(rows[:, column])]
    return float(spearmanr(rows[:, 0], rows[:, column]).statistic)


def told(what: str, groups: list[list[Row]]) -> None:
    """Print the correlations of rows (disagreement, errors), grouped by image."""
    rng = np.random.default_rng(0)
    for column, threshold in enumerate(THRESHOLDS, 1):
        draws = rng.integers(len(groups), size=(1000, len(groups)))
        low, high = np.percentile([correlation([groups[i] for i in draw], column) for draw in draws], (2.5, 97.5))
        mean = np.nanmean([row[column] for group in groups for row in group])
        print(
            f"{what}, n = {sum(map(len, groups))}: correlation with 1 - F at IoU {threshold} (mean {mean:.2f}): "
            f"{correlation(groups, column):.2f} [{low:.2f}, {high:.2f}]"
        )


def main() -> None:
    segmenter, data = Segmenter.load(sys.argv[1], threads=1), Dataset.open(Path(sys.argv[2])).pairs()
    images: list[list[Row]] = []
    windows: list[list[Row]] = []
    for item in data.items:
        assert item.image is not None
        assert item.mask is not None
        image, truth = read_image(item.image), read_labels(item.mask)
        found, labels = segmenter.disagreement(image), segmenter.segment(image)
        images.append([(found.mean, *errors(truth, labels))])
        windows.append([])
        for window in windows_of(found, truth.shape, ALL):
            part = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
            windows[-1].append((window.disagreement, *errors(truth[part], labels[part])))
    told("images", images)
    told("windows", [group for group in windows if group])


if __name__ == "__main__":
    main()
