"""Paintings on the masks of validation, looked at beside the real images."""

from collections.abc import Sequence

import numpy as np
import torch

from cytoforge.cells.instances import cell_diameters
from cytoforge.data.judgement import Judgement
from cytoforge.inference.segmenter import Segmenter
from cytoforge.metrics.sampling import evenly
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.metrics.texture import contrast, grain
from cytoforge.training.course import Course
from cytoforge.training.tasks.judging import Painted, judge_painter

LOOKED_AT = 8  # images at most in which the base model looks for cells


def judge_paintings(
    real: Sequence[np.ndarray], painted: Sequence[np.ndarray], labels: Sequence[np.ndarray], course: Course
) -> Judgement:
    """Judge paintings (C, H, W) on labels (H, W) beside the real images (C, H, W), all in [-1, 1]."""
    base = Segmenter.load("base", threads=torch.get_num_threads())
    chosen = evenly(len(labels), LOOKED_AT)
    sizes = np.concatenate([cell_diameters(mask) for mask in labels])
    diameter = float(np.median(sizes)) if sizes.size else None

    def found(images: Sequence[np.ndarray]) -> float:
        """Return the share of the cells that the base model finds; nan without cells."""
        scores = [
            segmentation_scores(labels[i], base.segment(images[i].mean(axis=0), diameter=diameter), (0.5,))
            for i in chosen
        ]
        cells = sum(one.truth_cells for one in scores)
        return sum(one.true_positives[0] for one in scores) / cells if cells else float("nan")

    inside, painted_inside = (np.concatenate(list(map(grain, images, labels))) for images in (real, painted))
    steps, painted_steps = (np.concatenate(list(map(contrast, images, labels))) for images in (real, painted))
    seen = Painted(
        real=inside,
        painted=painted_inside,
        contrast=steps,
        contrast_painted=painted_steps,
        found=found(real),
        found_painted=found(painted),
    )
    return judge_painter(seen, course)
