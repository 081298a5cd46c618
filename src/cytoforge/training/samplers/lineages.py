"""Stretches of tracked movies as what their cells may become and what is true of it, to learn linking from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.data.dataset import Item
from cytoforge.data.movie import read_tracks
from cytoforge.metrics.morphology import morphology, typical_diameter
from cytoforge.metrics.motion import Row, motion
from cytoforge.metrics.segmentation import overlap
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.faults import Faults, unsteady
from cytoforge.simulation.lineage import simulate_lineage
from cytoforge.simulation.masks import shapes_of
from cytoforge.tracking.candidates import GAP, Candidates, candidates
from cytoforge.tracking.likelihood import Truth, truth_of
from cytoforge.tracking.linking import numbered
from cytoforge.training.samplers.clips import stretches
from cytoforge.training.samplers.items import Batch, Drawing, Pair, Sampler

LONGEST = 8
"""frames of a drawn stretch"""
WIDE = 16
"""side of their window in median diameters"""
LEAPS = (1, 1, 2, 3)
"""of how many frames one is taken, each as likely"""
UNSTEADY, AMOUNTS = 0.6, (0.03, 0.25)
"""share of the stretches whose cells are shifted, and by how many diameters"""
FAULTY = 0.5
"""share of the stretches whose masks are wrong on purpose"""
SIMULATED, FRAMES, DENSEST = 4, 12, 0.6
"""movies that are simulated after those to learn from, their frames, and their largest coverage"""
SAME = 0.5
"""IoU above which a mask with faults is still the same cell"""
NONE = torch.zeros(0)

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Tracked:
    """Frames of a movie that follow each other: labels (H, W) with the ids of their tracks, rows L B E P from 0 on."""

    labels: tuple[Labels, ...]
    tracks: tuple[Row, ...]

    @classmethod
    def of(cls, labels: Sequence[Labels], parents: dict[int, int]) -> "Tracked":
        """Take frames in which tracks may begin, end or be absent; a parent that is not seen gives way to its own."""
        seen: dict[int, list[int]] = {}
        for time, frame in enumerate(labels):
            for label in np.unique(frame[frame > 0]).tolist():
                seen.setdefault(label, [time, time])[1] = time

        def parent(label: int) -> int:
            found = parents.get(label, 0)
            while found and found not in seen:
                found = parents.get(found, 0)
            return found if found and seen[found][1] < seen[label][0] else 0

        rows = tuple((label, begin, end, parent(label)) for label, (begin, end) in sorted(seen.items()))
        return cls(tuple(labels), rows)

    @cached_property
    def diameter(self) -> float:
        """Median diameter of the cells in pixels, of all frames; 1 without cells."""
        areas = [np.unique(labels[labels > 0], return_counts=True)[1] for labels in self.labels]
        every = np.concatenate(areas)
        return typical_diameter(every) if every.size else 1.0

    def part(self, first: int, length: int, leap: int, window: tuple[slice, slice]) -> "Tracked":
        """Return a window of every `leap`-th of the frames from the first one on, so many at most."""
        parents = {row[0]: row[3] for row in self.tracks}
        return self.of([labels[window] for labels in self.labels[first::leap][:length]], parents)

    def example(self, masks: Sequence[Labels] | None = None) -> "Example":
        """Return what the cells may become, and what is true of it; `masks` with faults are of the same frames."""
        frames = [numbered(labels) for labels in masks or self.labels]
        found = candidates(frames, GAP)
        offset = np.concatenate([[0], np.cumsum(found.counts)])
        false = np.ones(offset[-1], bool)
        seen: dict[int, list[tuple[int, int]]] = {}  # frame and cell of a track
        for time, (frame, truth) in enumerate(zip(frames, self.labels, strict=True)):
            table = overlap(truth, frame)
            same = table.iou() > SAME
            cells = offset[time] + table.prediction_ids[table.pair_prediction[same]] - 1
            false[cells] = False
            for label, cell in zip(table.truth_ids[table.pair_truth[same]].tolist(), cells.tolist(), strict=True):
                seen.setdefault(label, []).append((time, cell))
        return Example(found, truth_of(found, self._successors(seen), false))

    def _successors(self, seen: dict[int, list[tuple[int, int]]]) -> dict[int, tuple[int, ...]]:
        after: dict[int, tuple[int, ...]] = {}
        for places in seen.values():
            for (_, cell), (_, later) in pairwise(places):
                after[cell] = (later,)
        kin: dict[int, list[tuple[int, int]]] = {}
        for label, _, _, parent in self.tracks:
            if label in seen and parent in seen:
                kin.setdefault(parent, []).append(seen[label][0])
        for mother, children in kin.items():
            time, cell = seen[mother][-1]
            # daughters that are not both in the next frame are no candidates, so that nothing is asked of them
            if daughters := tuple(child for when, child in sorted(children) if when > time):
                after[cell] = daughters
        return after


@dataclass(frozen=True)
class Example:
    """What cells may become, and what is true of it."""

    found: Candidates
    truth: Truth


@dataclass(frozen=True)
class ExampleBatch(Batch):
    """Examples of one step, instead of windows."""

    examples: tuple[Example, ...] = ()

    def to(self, device: torch.device) -> "ExampleBatch":
        """Return the batch as it is: it stays on the CPU, as small networks are quicker there."""
        return self


def tracked(items: Sequence[Item], read: Callable[[int], Pair]) -> list[Tracked]:
    """Return the stretches of two frames or more among items, whose labels hold the ids of tracks."""
    found = []
    for stretch in stretches(items):
        file = items[stretch.start].tracks
        parents = {row.label: row.parent for row in read_tracks(file)} if file else {}
        found.append(Tracked.of([read(place)[1] for place in stretch], parents))
    return [one for one in found if len(one.labels) > 1]


def simulated_like(movies: Sequence[Tracked], generator: np.random.Generator) -> list[Tracked]:
    """Simulate movies whose cells look, move and divide like those of others; none where no cell lies whole."""
    shapes = [shape for one in movies for shape in shapes_of(one.labels[0]) + shapes_of(one.labels[-1])]
    if not shapes:
        return []
    dynamics = Dynamics.like([motion(enumerate(one.labels), one.tracks) for one in movies])
    if not dynamics.division_rate:  # few frames without a division do not tell that there are none
        dynamics = replace(dynamics, division_rate=Dynamics.division_rate)
    found = []
    for number in range(SIMULATED):
        first = movies[number % len(movies)].labels[0]
        lineage = simulate_lineage(
            shapes,
            first.shape,
            FRAMES,
            generator,
            density=min(np.count_nonzero(first) / first.size, DENSEST),
            dynamics=dynamics,
            touching=float(np.nan_to_num(morphology(first).touching)),
        )
        found.append(Tracked(tuple(lineage.labels), lineage.tracks))
    return found


@dataclass(frozen=True)
class LineageSampler(Sampler):
    """Batches of stretches of movies, real and simulated ones in turn; each is drawn and varied from its own seed.

    Frames are left out, so that cells go farther; cells are shifted, so that they tremble; masks get faults.
    """

    movies: Sequence[Tracked]
    simulated: Sequence[Tracked]
    drawing: Drawing

    def plan(self, step: int, progress: float) -> None:
        """Every step is of one kind."""

    def cut(self, step: int, plan: None) -> ExampleBatch:
        """Return this process's share of the stretches of a step."""
        drawing = self.drawing
        examples = tuple(self._draw(step, place) for place in drawing.places)
        names = tuple(f"step {step}, stretch {place}" for place in drawing.places)
        return ExampleBatch(NONE, NONE, drawing.seed, step, drawing.places, names, examples=examples)

    def _draw(self, step: int, place: int) -> Example:
        draw = np.random.default_rng(self.drawing.generator(step, place, "stretch").initial_seed())
        movies = self.simulated if self.simulated and place % 2 else self.movies
        movie = movies[int(draw.integers(len(movies)))]
        frames = len(movie.labels)
        leap = min(int(draw.choice(LEAPS)), frames - 1)
        length = min(LONGEST, (frames - 1) // leap + 1)
        first = int(draw.integers(frames - (length - 1) * leap))
        side = math.ceil(WIDE * movie.diameter)
        corner = [int(draw.integers(max(full - side, 0) + 1)) for full in movie.labels[0].shape]
        part = movie.part(first, length, leap, (slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side)))
        if draw.random() < UNSTEADY:
            amount = float(np.exp(draw.uniform(*np.log(AMOUNTS))))
            parents = {row[0]: row[3] for row in part.tracks}
            part = Tracked.of([unsteady(labels, amount, draw) for labels in part.labels], parents)
        faults = Faults()
        return part.example([faults(labels, draw) for labels in part.labels] if draw.random() < FAULTY else None)
