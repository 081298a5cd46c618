"""Parameters of how simulated cells move, grow and divide, and their estimation from tracked movies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import hyp2f1, polygamma

from cytoforge.metrics.motion import Motion, pooled

FEWEST = 10
"""Smallest number of values from which a parameter is estimated; with fewer it keeps its default."""
FASTEST, SPREAD, PERSISTENCE, GROWTH, DIVISION, DEATH, DEFORMATION = 2.0, 1.0, 0.98, 0.1, 0.2, 0.02, 0.5
"""Upper limits of the estimated parameters; larger values are taken as tracking errors."""
LEAP = 0.5
"""Largest change of the logarithm of an area per frame; larger ones come from merged, cut or lost masks."""
PIXELS = 1.0
"""Apparent deformation of a rigid cell that moves by fractions of a pixel, times its diameter in pixels."""


@dataclass(frozen=True)
class Dynamics:
    """How cells move, grow and divide; lengths are in median cell diameters, times in frames.

    The defaults are those of adherent cells that are filmed every 10 to 20 minutes and divide once a day.
    """

    speed: float = 0.12
    """median displacement per frame"""
    spread: float = 0.4
    """standard deviation, between cells, of the logarithm of the speed"""
    persistence: float = 0.5
    """correlation of successive displacements, 0 to below 1"""
    growth: float = 0.01
    """increase of the logarithm of the area per frame"""
    fluctuation: float = 0.03
    """standard deviation of that increase"""
    division_rate: float = 0.01
    """divisions per cell and frame"""
    death_rate: float = 0.001
    """deaths per cell and frame"""
    sister_distance: float = 1.1
    """distance between the centres of daughters in their first frame"""
    deformation: float = 0.08
    """1 minus the intersection over union of a cell's masks in two successive frames, laid on each other; below 1"""

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of range.

        All values but growth must be at least 0, persistence and deformation below 1, and sister_distance above 0.
        """
        if min(self.speed, self.spread, self.division_rate, self.death_rate, self.fluctuation, self.deformation) < 0:
            raise ValueError(f"speed, spread, rates and deformation are at least 0, got {self}")
        if not 0 <= self.persistence < 1 or not self.sister_distance > 0 or self.deformation >= 1:
            raise ValueError(f"persistence and deformation are below 1, sister_distance above 0, got {self}")

    @classmethod
    def like(cls, movies: Sequence[Motion]) -> Self:
        """Estimate the parameters from tracked movies; a statistic of fewer than FEWEST values keeps its default.

        Speed, deformation and sister distance are medians, because tracks contain errors. The persistence is that of a
        random walk with the mean cosine of the cells' turning angles. The spread of the tracks' speeds is reduced by
        the spread that so few steps have by chance. One division is enough for the sister distance. Movies without a
        division give cells that do not divide.
        """
        cells = sum(movie.cells for movie in movies)
        diameters = [movie.diameter for movie in movies if np.isfinite(movie.diameter)]
        if cells < FEWEST or not diameters:
            return cls()
        diameter = float(np.median(diameters))
        known = {name: pooled(movies, name) for name in ("speed", "turning", "growth", "deformation")}
        values: dict[str, float] = {
            "division_rate": min(sum(movie.divisions for movie in movies) / cells, DIVISION),
            "death_rate": min(sum(movie.deaths for movie in movies) / cells, DEATH),
        }
        if known["speed"].size >= FEWEST:
            values["speed"] = min(float(np.median(known["speed"])) / diameter, FASTEST)
            # growth is not below 0, because cells would shrink for good: masks that leave the frame get smaller
            # mean, not median: crawling cells spread slowly and retract fast, so the median is above the true growth
            values["growth"] = float(np.clip(np.clip(known["growth"], -LEAP, LEAP).mean(), 0, GROWTH))
            low, high = np.quantile(known["growth"], (0.25, 0.75))
            values["fluctuation"] = min(float(high - low) / 1.349, LEAP)
            values["deformation"] = _beyond_pixels(float(np.median(known["deformation"])), diameter)
        if known["turning"].size >= FEWEST:
            values["persistence"] = persistence(float(np.cos(known["turning"]).mean()))
        paces = np.concatenate([movie.pace for movie in movies])
        if len(paces) >= FEWEST:
            values["spread"] = _spread(paces, values.get("persistence", cls.persistence))
        sisters = pooled(movies, "sister_distance")
        if sisters.size:
            values["sister_distance"] = float(np.median(sisters)) / diameter
        return cls(**values)


def persistence(straightness: float) -> float:
    """Return the correlation, 0 to PERSISTENCE, of successive displacements whose turning angles have this mean cosine.

    For two normal displacements in the plane with correlation r, the mean cosine of the angle between them is
    pi r / 4 F(1/2, 1/2; 2; r^2), with the hypergeometric function F, the expectation of the phase factor of two complex
    normal numbers.
    """
    known = np.linspace(0, PERSISTENCE, 200)
    return float(np.interp(straightness, np.pi / 4 * known * hyp2f1(0.5, 0.5, 2, known**2), known))


def _spread(paces: NDArray[np.float64], correlation: float) -> float:
    """Return the standard deviation, between cells, of the logarithm of the speed, with chance variation removed.

    paces: (K, 2), the root mean square speed and the number of steps of each track.
    """
    speeds, steps = paces[paces[:, 0] > 0].T
    if speeds.size < FEWEST:
        return 0.0
    independent = np.maximum(steps * (1 - correlation**2) / (1 + correlation**2), 1)
    by_chance = float(np.mean(polygamma(1, independent))) / 4  # variance of the logarithm of a chi variable
    low, high = np.quantile(np.log(speeds), (0.25, 0.75))
    return float(np.sqrt(np.clip(((high - low) / 1.349) ** 2 - by_chance, 0, SPREAD**2)))


def _beyond_pixels(deformation: float, diameter: float) -> float:
    """Return a deformation minus that of a rigid cell, which comes from the pixel grid; 0 to DEFORMATION."""
    return float(np.clip(deformation - PIXELS / diameter, 0, DEFORMATION))
