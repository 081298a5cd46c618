"""Specifications of comparisons: frozen dataclasses that say what is compared, and how."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cytoforge.data.images import Scaling


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Specification that all scores share."""

    prediction: Path
    truth: Path
    seed: int = 0
    """seed of the bootstrap"""
    allow_synthetic: bool = False
    """whether the truth may be synthetic"""


@dataclass(frozen=True, kw_only=True)
class MaskComparison(Comparison):
    """Predicted and true masks."""

    protocol: Literal["instances", "paper"] = "instances"
    allow_missing: bool = False
    """whether true masks without a prediction may be left out"""


@dataclass(frozen=True, kw_only=True)
class TrackComparison(Comparison):
    """Movie folders with predicted and with true tracks."""

    sequence: tuple[str, ...] = ()
    """sequences to score; all of the truth if empty"""


@dataclass(frozen=True, kw_only=True)
class PaintingComparison(Comparison):
    """Painted and real images or movies, and the weights and device for their scores."""

    weights_dir: Path | None = None
    """folder with pretrained feature networks; without it that of CYTOFORGE_WEIGHTS"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    classifier: bool = False
    """whether a classifier is trained to tell painted from real crops"""


@dataclass(frozen=True, kw_only=True)
class ImageComparison(PaintingComparison):
    """Painted and real images."""

    training: Path | None = None
    """images that the generator was trained on, to look for copies of them"""
    scale: float = 1.0
    """factor by which real images are resized on reading"""
    resize: tuple[int, int] | None = None
    """height and width in pixels to which every real image is resized instead"""
    normalisation: Literal["set", "image"] | None = None
    """set: real images between the same grey values; image: each between its own; None: image if cytoforge painted"""

    @property
    def scaling(self) -> Scaling:
        """How real images are resized on reading."""
        return self.resize or self.scale


@dataclass(frozen=True, kw_only=True)
class MovieComparison(PaintingComparison):
    """A painted and a real movie, with tracks."""

    sequence: tuple[str, ...] = ()
    """sequences to compare; all if empty"""
    scale: float | None = None
    """factor by which real frames are resized on reading; None: that in dataset.json of the painted movie"""
    segmenter: Path | None = None
    """run of the reference segmenter, which segments all frames"""
