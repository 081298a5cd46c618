"""Simulated cells for the forward cycle, shaped like those of the training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cytoforge.simulation.masks import Shape, shapes_of, simulate_labels

DENSER, DENSEST = 2.0, 0.6  # at most so many times an annotated image's coverage, and at most this


@dataclass(frozen=True)
class SimulatedMasks:
    """Draws label images of simulated cells, as dense as those of the training images or denser."""

    shapes: Sequence[Shape]
    coverage: Sequence[float]
    """share of each training image that is cell"""

    @classmethod
    def like(cls, labels: Sequence[np.ndarray]) -> "SimulatedMasks | None":
        """Take shapes and coverages of label images (H, W); None where no cell lies wholly inside its image."""
        shapes = [shape for one in labels for shape in shapes_of(one)]
        return cls(shapes, [np.count_nonzero(one) / one.size for one in labels]) if shapes else None

    def draw(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw labels int64 (h, w), 0 background."""
        draw = np.random.default_rng(generator.initial_seed())
        coverage = self.coverage[int(draw.integers(len(self.coverage)))]
        density = denser(coverage, draw)
        return torch.from_numpy(simulate_labels(self.shapes, size, draw, density=density).labels).long()


def denser(coverage: float, draw: np.random.Generator) -> float:
    """Draw a coverage between that of an annotated image and DENSER times it, at most DENSEST or that of the image."""
    return float(min(coverage * draw.uniform(1, DENSER), max(coverage, DENSEST)))
