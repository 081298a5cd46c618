"""How tracked cells move, grow, change their shape and divide."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import boxes
from cytoforge.metrics.morphology import quantiles, typical_diameter
from cytoforge.tracking.lineage import divisions

Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Row = tuple[int, int, int, int]
"""A track: label, first frame, last frame, mother's label or 0 (L B E P of the Cell Tracking Challenge)."""

STATISTICS = ("speed", "turning", "growth", "deformation", "sister_distance")
FEWEST_STEPS = 5
"""Least number of steps of a track for which its own speed is reported."""


@dataclass(frozen=True)
class Motion:
    """Measures of one movie; a step leads from a frame to the next, for a cell that touches the edge in neither."""

    speed: Floats
    """pixels between the centroids, for each step"""
    turning: Floats
    """angle in radians, from 0 (straight on) to pi (back), for each two successive steps longer than 0"""
    growth: Floats
    """difference of the logarithm of the area, for each step"""
    deformation: Floats
    """1 minus the intersection over union of the two masks with their centroids aligned, for each step"""
    sister_distance: Floats
    """pixels between the centroids of the two daughters in their first frame, for each division into two that begin in
    one frame and do not touch the edge there"""
    diameter: float
    """diameter in pixels of a circle with the median area of the cells that do not touch the edge; nan if none"""
    pace: Floats
    """root mean square speed in pixels and number of steps (K, 2), for each track of at least FEWEST_STEPS"""
    cells: int
    """masks of cells in all frames but the last one: those that could divide or die"""
    divisions: int
    """mothers with two or more daughters"""
    deaths: int
    """tracks that end without a successor, before the last frame and at least a diameter from the edge. An end is left
    out if a track without a mother begins later, at least as far from the edge: these are one track torn in two"""

    @property
    def division_rate(self) -> float:
        """Divisions per cell and frame; nan without cells."""
        return self.divisions / self.cells if self.cells else float("nan")

    @property
    def death_rate(self) -> float:
        """Deaths per cell and frame; nan without cells."""
        return self.deaths / self.cells if self.cells else float("nan")


@dataclass(frozen=True)
class _Seen:
    """A cell in a frame."""

    mask: NDArray[np.bool_]
    corner: tuple[int, int]
    centroid: Floats
    area: int
    margin: int
    """pixels from its bounding box to the nearest edge of the image"""


def motion(frames: Iterable[tuple[int, Labels]], tracks: Sequence[Row]) -> Motion:
    """Measure a movie.

    Args:
        frames: number and labels (H, W) of each frame, in ascending order; only one is held at a time.
        tracks: rows L B E P. Cells without a row count as tracks without a mother.

    Raises:
        ValueError: if labels are not two-dimensional, or numbers do not ascend.
    """
    past: dict[int, dict[int, _Seen]] = {}
    places: dict[tuple[int, int], tuple[Floats, int, int]] = {}
    steps: dict[int, list[tuple[int, Floats]]] = {}
    growth, deformation = [], []
    numbers: list[int] = []
    for number, labels in frames:
        if labels.ndim != 2 or (numbers and number <= numbers[-1]):
            raise ValueError(f"frames are labels (H, W) with ascending numbers, got {labels.shape} as {number}")
        seen = _look(labels)
        for label, cell in seen.items():
            places[label, number] = (cell.centroid, cell.area, cell.margin)
            before = past.get(number - 1, {}).get(label)
            if before and before.margin > 0 and cell.margin > 0:
                steps.setdefault(label, []).append((number, cell.centroid - before.centroid))
                growth.append(np.log(cell.area / before.area))
                deformation.append(_deformation(before, cell))
        past = {number: seen}
        numbers.append(number)
    areas = [area for _, area, margin in places.values() if margin > 0]
    diameter = typical_diameter(areas) if areas else float("nan")
    paces = [
        (np.sqrt(np.mean([float(step @ step) for _, step in walk])), len(walk))
        for walk in steps.values()
        if len(walk) >= FEWEST_STEPS
    ]
    kin = _kin(tracks)
    return Motion(
        speed=np.array([np.hypot(*step) for walk in steps.values() for _, step in walk]),
        turning=np.array([turn for walk in steps.values() for turn in _turns(walk)]),
        growth=np.array(growth),
        deformation=np.array(deformation),
        sister_distance=_sister_distances(kin, places),
        diameter=diameter,
        pace=np.array(paces).reshape(-1, 2),
        cells=sum(number != numbers[-1] for _, number in places),
        divisions=divisions(tracks),
        deaths=_deaths(kin, tracks, places, numbers, diameter),
    )


def _look(labels: Labels) -> dict[int, _Seen]:
    seen = {}
    for label, box in boxes(labels).items():
        mask = labels[box] == label
        y, x = np.nonzero(mask)
        corner = (box[0].start, box[1].start)
        margin = min(*corner, *(length - part.stop for length, part in zip(labels.shape, box, strict=True)))
        seen[label] = _Seen(mask, corner, np.array([y.mean(), x.mean()]) + corner, y.size, margin)
    return seen


def _deformation(before: _Seen, after: _Seen) -> float:
    """Return 1 minus the intersection over union, with `before` shifted by whole pixels to align the centroids."""
    shift = np.rint(after.centroid - before.centroid).astype(int)
    offset = np.array(before.corner) + shift - after.corner
    low = np.maximum(offset, 0)
    high = np.minimum(offset + before.mask.shape, after.mask.shape)
    if (low >= high).any():
        return 1.0
    here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    there = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, offset, strict=True))
    shared = int(np.count_nonzero(after.mask[here] & before.mask[there]))
    return 1 - shared / (before.area + after.area - shared)


def _turns(walk: list[tuple[int, Floats]]) -> list[float]:
    found = []
    for (number, one), (following, two) in pairwise(walk):
        if following == number + 1 and one.any() and two.any():
            found.append(float(np.arctan2(abs(one[0] * two[1] - one[1] * two[0]), one @ two)))
    return found


def _kin(tracks: Sequence[Row]) -> dict[int, list[Row]]:
    """Return the successors of each predecessor: two or more are daughters, one is the same cell after a gap."""
    kin: dict[int, list[Row]] = {}
    for row in tracks:
        if row[3]:
            kin.setdefault(row[3], []).append(row)
    return kin


def _sister_distances(kin: dict[int, list[Row]], places: dict[tuple[int, int], tuple[Floats, int, int]]) -> Floats:
    """Return the distances of two daughters that begin in the same frame and do not touch the image's edge there."""
    found = []
    for daughters in kin.values():
        firsts = [places.get((label, begin)) for label, begin, _, _ in daughters]
        if len(daughters) == 2 and daughters[0][1] == daughters[1][1] and all(f and f[2] > 0 for f in firsts):
            one, two = (f[0] for f in firsts if f)
            found.append(float(np.hypot(*(one - two))))
    return np.array(found)


def _deaths(
    kin: dict[int, list[Row]],
    tracks: Sequence[Row],
    places: dict[tuple[int, int], tuple[Floats, int, int]],
    numbers: Sequence[int],
    diameter: float,
) -> int:
    """Count track ends inside image and movie, minus those that pair with one later beginning of another track.

    Tracks that both begin and end inside image and movie are left out.
    """

    def amid(label: int, frame: int) -> bool:
        return (label, frame) in places and places[label, frame][2] >= diameter

    ends, beginnings = [], []
    for label, begin, end, mother in tracks:
        ended = label not in kin and amid(label, end) and end != numbers[-1]
        begun = not mother and amid(label, begin) and begin != numbers[0]
        if ended and not begun:
            ends.append(end)
        if begun and not ended:
            beginnings.append(begin)
    torn = 0
    for begin in sorted(beginnings):
        torn += sum(end < begin for end in ends) > torn
    return len(ends) - torn


def pooled(movies: Iterable[Motion], statistic: str) -> Floats:
    """Collect a statistic of STATISTICS over all movies."""
    values: Floats = np.concatenate([np.empty(0), *(getattr(movie, statistic) for movie in movies)])
    return values


def motion_summary(movies: Iterable[Motion]) -> dict[str, dict[str, float | int | None]]:
    """Return number of values, median and quartiles of each statistic, and events, cells and value of each rate.

    Undefined values are None.
    """
    movies = list(movies)
    result = {statistic: quantiles(pooled(movies, statistic)) for statistic in STATISTICS}
    cells = sum(movie.cells for movie in movies)
    for name, events in (
        ("division_rate", sum(movie.divisions for movie in movies)),
        ("death_rate", sum(movie.deaths for movie in movies)),
    ):
        result[name] = {"events": events, "cells": cells, "value": events / cells if cells else None}
    return result
