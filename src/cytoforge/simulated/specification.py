"""What is to be simulated: small and frozen; dataset.json and statistics.json hold it as `settings`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What every simulation of cells is given."""

    out: Path
    """folder to write"""
    like: Path | None = None
    """annotated masks, of a movie with tracks, whose cells are taken as a model"""
    density: float | None = None
    """below 1 coverage, from 1 on cells an image (first frame); None: as `like`'s, or 0.2"""
    layout: Literal["scattered", "colony", "mixed"] = "mixed"
    magnification: float = 1.0
    """factor on the size of the cells, not of the image"""
    size: str | None = None
    """height x width in pixels, such as 512x768; None: as `like`'s at `scale`, or 256x256"""
    scale: float = 1.0
    """factor by which masks of `like` are resized on reading"""
    diameter: float | None = None
    """median diameter in pixels of cells without `like`"""
    sequence: tuple[str, ...] = ()
    """sequences of a movie folder; all without any"""
    seed: int = 0
    """mask or sequence k depends on the seed and k only"""
    overwrite: bool = False
    """replace what was simulated before"""


@dataclass(frozen=True, kw_only=True)
class MaskSimulation(Simulation):
    """Masks of cells."""

    count: int = 10
    """number of masks"""
    gap: int = 0
    """background pixels, at least, between cells"""


@dataclass(frozen=True, kw_only=True)
class MovieSimulation(Simulation):
    """Movies of cells that move and divide."""

    count: int = 1
    """number of sequences"""
    frames: int | None = None
    """frames of a sequence; None: as many as `like`'s, or 50"""
    division_rate: float | None = None
    """divisions by cell and frame; None: as `like`'s"""
