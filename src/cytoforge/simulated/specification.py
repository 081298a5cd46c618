"""Settings of a simulation; dataset.json and statistics.json record them as `settings`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Settings that all simulations of cells have in common."""

    out: Path
    """folder to write"""
    like: Path | None = None
    """annotated masks, of a movie with tracks, whose cells are taken as a model"""
    density: float | None = None
    """coverage if below 1, else number of cells, of an image or first frame; None: as in `like`, or 0.2"""
    layout: Literal["scattered", "colony", "mixed"] = "mixed"
    magnification: float = 1.0
    """factor on the size of the cells, not of the image"""
    size: str | None = None
    """height x width in pixels, such as 512x768; None: as in `like` at `scale`, or 256x256"""
    scale: float = 1.0
    """factor by which masks of `like` are resized on reading"""
    diameter: float | None = None
    """median diameter of the cells in pixels, used without `like`; None: the default"""
    sequence: tuple[str, ...] = ()
    """names of the sequences of a movie folder to use; empty for all"""
    seed: int = 0
    """seed of the random numbers; mask or sequence k depends on the seed, k and the other settings only"""
    overwrite: bool = False
    """whether to replace an earlier simulation"""


@dataclass(frozen=True, kw_only=True)
class MaskSimulation(Simulation):
    """Settings of a simulation of masks."""

    count: int = 10
    """number of masks"""
    gap: int = 0
    """smallest number of background pixels between cells"""
    touching: float | None = None
    """share of the cells that touch others, 0 to 1, where the layout is mixed; None: as in `like`, or 0.5"""
    variation: float = 1.0
    """factor on how much shapes are stretched and bent, 0 to 2"""


@dataclass(frozen=True, kw_only=True)
class MovieSimulation(Simulation):
    """Settings of a simulation of movies of cells that move and divide."""

    count: int = 1
    """number of sequences"""
    frames: int | None = None
    """frames of a sequence; None: as many as in `like`, or 50"""
    division_rate: float | None = None
    """divisions per cell and frame; None: as in `like`, or 0.01"""
