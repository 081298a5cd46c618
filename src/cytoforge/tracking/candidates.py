"""What the cells of a movie may become: links and divisions that come into question, each described by numbers.

Lengths are in median diameters of the movie's cells, so that the descriptions do not depend on the size of cells or
pixels. They look at masks alone: places, areas, forms and overlaps, what else lies near, and how the cells around move.
Places and overlaps are those in a field that stands still: what moves all cells at once is taken out first.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cytoforge.metrics.morphology import typical_diameter
from cytoforge.metrics.segmentation import overlap
from cytoforge.tracking.registration import field_step

GAP = 1
"""frames that a cell may be missing"""
NEAR = 5
"""cells of a later frame, at most, that a cell may become by being near"""
REACH = 2.5
"""diameters within which they lie"""
APART, AWAY = 3.0, 1.5
"""diameters, at most, between two daughters, and from their middle to where their mother would be"""
AROUND = 8
"""cells around, the median of whose steps is the drift of a cell"""
STEADY, FEWEST = 1.5, 4
"""diameters of a step, at most, that tells of drift, and the fewest of such steps in a frame"""
FAR = 3.0
"""diameters beyond which differences of distance do not count"""
PIXEL = 1 / 12
"""variance of a pixel's own extent along an axis"""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

CELL = ("edge", "at the edge", "area", "area squared", "elongation")
LINK = (
    "distance",
    "distance beyond drift",
    "its square",
    "IoU",
    "nearer successors",
    "nearer predecessors",
    "lead on other successors",
    "lead on other predecessors",
    "difference of areas",
    "growth",
    "difference of elongations",
    "turn",
    "frames missed",
    "edge",
)
DIVISION = (
    "distance from mother to middle",
    "distance of daughters",
    "its square",
    "growth",
    "difference to the mother's area",
    "difference of the daughters' areas",
    "mother's area",
    "daughters' area",
    "mother's elongation",
    "daughters' elongation",
    "daughters across their axis",
    "mother across their axis",
    "lesser IoU",
    "greater IoU",
    "lesser distance",
    "greater distance",
    "fewer nearer predecessors",
    "more nearer predecessors",
    "lesser lead on other predecessors",
    "greater lead on other predecessors",
    "edge",
)
"""what the columns of the descriptions tell, areas as logarithms"""


@dataclass(frozen=True)
class Candidates:
    """The N cells of a movie, numbered from 0 through all frames, and what each may become."""

    counts: Ints
    """(T,) cells of each frame"""
    links: Ints
    """(K, 2) cell, and cell of a later frame that it may be"""
    divisions: Ints
    """(M, 3) mother, and two cells of the next frame that may be her daughters"""
    of_cells: Floats
    """(N, len(CELL))"""
    of_links: Floats
    """(K, len(LINK))"""
    of_divisions: Floats
    """(M, len(DIVISION))"""

    @property
    def frame(self) -> Ints:
        """(N,) frame of each cell."""
        return np.repeat(np.arange(self.counts.size), self.counts)

    def pairs(self, links: Ints, divisions: Ints) -> Ints:
        """Return links and divisions, given by their positions, as rows of `linking.Links`."""
        mother, one, two = self.divisions[divisions].T
        before = np.concatenate([self.links[links, 0], mother, mother])
        after = np.concatenate([self.links[links, 1], one, two])
        frame, first = self.frame, np.cumsum(self.counts) - self.counts
        columns = [part for cell in (before, after) for part in (frame[cell], cell - first[frame[cell]] + 1)]
        return np.stack(columns, axis=1)


class _Cells(NamedTuple):
    """Cells as ellipses."""

    place: Floats  # (N, 2) y, x in pixels
    area: Floats  # (N,) pixels
    elongation: Floats  # (N,) logarithm of the ratio of the axes
    angle: Floats  # (N,) of the long axis to the x axis
    edge: Floats  # (N,) pixels from the centroid to the edge of the frame


def candidates(frames: Iterable[Labels], gap: int) -> Candidates:
    """Find what cells of labels (H, W), numbered 1..N in each frame, may become; `gap` + 2 frames are held.

    A cell may be missing in `gap` frames. Raises ValueError if frames differ in size.
    """
    described: list[_Cells] = []
    offsets: list[Ints] = []  # of the field since the first frame
    overlaps: dict[tuple[int, int], tuple[Ints, Floats]] = {}
    earlier: deque[Labels] = deque(maxlen=gap + 1)
    seen = none = _ellipses(np.zeros((1, 1), np.int32))
    for time, labels in enumerate(frames):
        cells = _ellipses(labels)
        offsets.append((offsets[-1] if offsets else np.zeros(2, np.int64)) + _step(seen, cells))
        for back, before in enumerate(reversed(earlier), 1):
            overlaps[time - back, time] = _shared(before, labels, offsets[time] - offsets[time - back])
        earlier.append(labels)
        described.append(cells)
        seen = cells if cells.area.size else seen
    counts = np.array([one.area.size for one in described], np.int64)
    cells = _Cells(*(np.concatenate(part) for part in zip(none, *described, strict=True)))
    diameter = typical_diameter(cells.area) if cells.area.size else 1.0
    offset = np.repeat(np.reshape(offsets, (-1, 2)), counts, axis=0)
    place, edge = (cells.place - offset) / diameter, np.clip(cells.edge / diameter, 0, FAR)
    size = np.log(cells.area / np.median(cells.area)) if cells.area.size else cells.area
    links, steps, beyond, iou, drift = _near(place, counts, overlaps)
    described_links = _describe_links(cells, size, place, edge, links, steps, beyond, iou)
    divisions, parts = _pairs_of_daughters(links, steps, beyond, place, drift)
    return Candidates(
        counts=counts,
        links=links,
        divisions=divisions,
        of_cells=np.stack([edge, edge < 0.5, size, size**2, cells.elongation], axis=1),
        of_links=described_links,
        of_divisions=_describe_divisions(cells, size, place, edge, drift, divisions, described_links[parts]),
    )


def _ellipses(labels: Labels) -> _Cells:
    count = int(labels.max(initial=0))
    y, x = np.nonzero(labels)
    cell = labels[y, x]
    area = np.bincount(cell, minlength=count + 1)[1:].astype(np.float64)

    def mean(values: NDArray[Any]) -> Floats:
        means: Floats = np.bincount(cell, weights=values, minlength=count + 1)[1:] / area
        return means

    middle_y, middle_x = mean(y), mean(x)
    along_y = mean(y * y) - middle_y**2 + PIXEL
    along_x = mean(x * x) - middle_x**2 + PIXEL
    across = mean(x * y) - middle_x * middle_y
    half = np.hypot((along_y - along_x) / 2, across)
    middle = (along_y + along_x) / 2
    return _Cells(
        place=np.stack([middle_y, middle_x], axis=1),
        area=area,
        elongation=np.log((middle + half) / np.maximum(middle - half, PIXEL)) / 2,
        angle=np.arctan2(2 * across, along_x - along_y) / 2,
        edge=np.minimum.reduce([middle_y, middle_x, labels.shape[0] - 1 - middle_y, labels.shape[1] - 1 - middle_x]),
    )


def _step(before: _Cells, after: _Cells) -> Ints:
    area = np.concatenate([before.area, after.area])
    return field_step(before.place, after.place, typical_diameter(area) if area.size else 1.0)


def _shared(before: Labels, after: Labels, step: Ints) -> tuple[Ints, Floats]:
    """Return the cells (K, 2), from 0, of two frames that share pixels, and their IoU (K,), where both frames see.

    `step` (y, x) is that of the field between them, in pixels.
    """
    if before.shape != after.shape:
        raise ValueError(f"frames are of one size, got {before.shape} and {after.shape}")
    if (np.abs(step) >= before.shape).any():
        return np.zeros((0, 2), np.int64), np.zeros(0)
    now, then = (
        tuple(slice(max(way, 0), size + min(way, 0)) for way, size in zip(ways.tolist(), before.shape, strict=True))
        for ways in (-step, step)
    )
    table = overlap(before[now], after[then])
    pairs = np.stack([table.truth_ids[table.pair_truth], table.prediction_ids[table.pair_prediction]], axis=1)
    return pairs.astype(np.int64) - 1, table.iou()


class _Near(NamedTuple):
    """Cells that lie near where another should be, or overlap it."""

    links: Ints  # (K, 2)
    steps: Ints  # (K,) frames that each takes
    beyond: Floats  # (K,) distance from where the cell would be by the drift around it
    iou: Floats  # (K,)
    drift: Floats  # (N, 2) of cells to the next frame


def _near(place: Floats, counts: Ints, overlaps: dict[tuple[int, int], tuple[Ints, Floats]]) -> _Near:
    stop = np.cumsum(counts)
    spans = [slice(int(b - n), int(b)) for b, n in zip(stop, counts, strict=True)]
    trees = [KDTree(place[span]) for span in spans]
    fields = [_Drift.of(now, then) for now, then in pairwise(trees)]
    drift = np.zeros_like(place)
    parts = [(np.zeros((0, 2), np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for (time, later), (shared, values) in sorted(overlaps.items()):
        now, then = spans[time], spans[later]
        if now.start == now.stop or then.start == then.stop:
            continue
        expected = place[now]
        for field in fields[time:later]:
            expected = expected + field.at(expected)
        if later == time + 1:
            drift[now] = expected - place[now]
        near = min(NEAR, then.stop - then.start)
        found = trees[later].query(expected, near, distance_upper_bound=REACH)
        distance, cell = (part.reshape(-1, near) for part in found)
        one, rank = np.nonzero(np.isfinite(distance))
        width = then.stop - then.start
        code = one * width + cell[one, rank]
        overlapping = shared[:, 0] * width + shared[:, 1]
        code = np.union1d(code, overlapping) if later == time + 1 else np.sort(code)
        value = np.zeros(code.size)
        _, ours, theirs = np.intersect1d(code, overlapping, assume_unique=True, return_indices=True)
        value[ours] = values[theirs]
        links = np.stack([now.start + code // width, then.start + code % width], axis=1)
        beyond = np.hypot(*(place[links[:, 1]] - expected[code // width]).T)
        parts.append((links, np.full(code.size, later - time), beyond, value))
    every, steps, distances, iou = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Near(every, steps, distances, iou, drift)


class _Drift(NamedTuple):
    """How cells of a frame go to the next, as told by those that are each other's nearest."""

    place: Floats  # (S, 2)
    step: Floats  # (S, 2)

    @classmethod
    def of(cls, now: KDTree, then: KDTree) -> "_Drift":
        """Take the steps between the cells of two frames; none where fewer than FEWEST tell of drift."""
        if now.n and then.n:
            distance, after = then.query(now.data)
            _, before = now.query(then.data)
            (steady,) = np.nonzero((before[after] == np.arange(now.n)) & (distance < STEADY))
            if steady.size >= FEWEST:
                return cls(now.data[steady], then.data[after[steady]] - now.data[steady])
        return cls(np.zeros((0, 2)), np.zeros((0, 2)))

    def at(self, place: Floats) -> Floats:
        """Return the median step (N, 2) of the cells around each place, without the cell at that place; 0 without."""
        if not len(self.place):
            return np.zeros_like(place)
        distance, around = KDTree(self.place).query(place, min(AROUND + 1, len(self.place)))
        steps = np.where(distance[..., None] == 0, np.nan, self.step[around])
        drift: Floats = np.nanmedian(steps, axis=1)
        return drift


def _ranked(group: Ints, value: Floats) -> tuple[Ints, Floats]:
    """Return the place of each value in its group, from 0, and the least value of the others, FAR without others."""
    order = np.lexsort((value, group))
    ordered = value[order]
    begins = np.ones(group.size, bool)
    begins[1:] = group[order][1:] != group[order][:-1]
    first = np.maximum.accumulate(np.where(begins, np.arange(group.size), 0))
    second = np.full(group.size, FAR)
    (followed,) = np.nonzero(~begins[1:])
    second[followed] = ordered[followed + 1]
    rank, others = np.empty(group.size, np.int64), np.empty(group.size)
    rank[order] = np.arange(group.size) - first
    others[order] = np.where(begins, second, ordered[first])
    return rank, others


def _describe_links(
    cells: _Cells, size: Floats, place: Floats, edge: Floats, links: Ints, steps: Ints, beyond: Floats, iou: Floats
) -> Floats:
    before, after = links.T
    group = steps.max(initial=1) + 1
    later_rank, later_other = _ranked(before * group + steps, beyond)
    earlier_rank, earlier_other = _ranked(after * group + steps, beyond)
    elongation, angle = cells.elongation, cells.angle
    columns = [
        np.hypot(*(place[after] - place[before]).T),
        beyond,
        beyond**2,
        iou,
        np.minimum(later_rank, 3),
        np.minimum(earlier_rank, 3),
        np.clip(beyond - later_other, -FAR, FAR),
        np.clip(beyond - earlier_other, -FAR, FAR),
        np.abs(size[after] - size[before]),
        size[after] - size[before],
        np.abs(elongation[after] - elongation[before]),
        np.abs(np.sin(angle[before] - angle[after])) * np.minimum(elongation[before], elongation[after]),
        steps - 1,
        np.minimum(edge[before], edge[after]),
    ]
    return np.stack(columns, axis=1)


def _pairs_of_daughters(links: Ints, steps: Ints, beyond: Floats, place: Floats, drift: Floats) -> tuple[Ints, Ints]:
    """Return divisions (M, 3), and the positions (M, 2) of the links to both daughters."""
    (single,) = np.nonzero(steps == 1)
    order = single[np.lexsort((beyond[single], links[single, 0]))]
    mother = links[order, 0]
    begins = np.flatnonzero(np.append(True, mother[1:] != mother[:-1])) if mother.size else np.zeros(0, np.int64)
    number = np.minimum(np.diff(begins, append=mother.size), NEAR)
    parts = [np.zeros((0, 2), np.int64)]
    for one, two in combinations(range(NEAR), 2):
        at = begins[number > two]
        parts.append(np.stack([order[at + one], order[at + two]], axis=1))
    both = np.concatenate(parts)
    divisions = np.column_stack([links[both[:, 0], 0], links[both[:, 0], 1], links[both[:, 1], 1]])
    mothers, ones, twos = divisions.T
    apart = np.hypot(*(place[ones] - place[twos]).T)
    away = np.hypot(*((place[ones] + place[twos]) / 2 - place[mothers] - drift[mothers]).T)
    kept = (apart < APART) & (away < AWAY)
    return divisions[kept], both[kept]


def _describe_divisions(
    cells: _Cells, size: Floats, place: Floats, edge: Floats, drift: Floats, divisions: Ints, parts: Floats
) -> Floats:
    """Describe divisions; `parts` (M, 2, len(LINK)) are the descriptions of the links to both daughters."""
    mother, one, two = divisions.T
    apart = place[one] - place[two]
    distance = np.hypot(*apart.T)
    axis = np.arctan2(*apart.T)
    growth = np.log((cells.area[one] + cells.area[two]) / cells.area[mother])
    elongation = cells.elongation

    def across(cell: Ints) -> Floats:
        tilted: Floats = np.abs(np.sin(cells.angle[cell] - axis)) * elongation[cell]
        return tilted

    columns = [
        np.hypot(*((place[one] + place[two]) / 2 - place[mother] - drift[mother]).T),
        distance,
        distance**2,
        growth,
        np.abs(growth),
        np.abs(size[one] - size[two]),
        size[mother],
        (size[one] + size[two]) / 2,
        elongation[mother],
        (elongation[one] + elongation[two]) / 2,
        across(one) + across(two),
        across(mother),
    ]
    for name in ("IoU", "distance beyond drift", "nearer predecessors", "lead on other predecessors"):
        both = parts[:, :, LINK.index(name)]
        columns += [both.min(axis=1), both.max(axis=1)]
    return np.stack([*columns, edge[mother]], axis=1)
