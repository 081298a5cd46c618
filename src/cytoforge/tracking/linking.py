"""Links between the cells of one frame and of later ones, from which tracks and lineages are made.

A linker reads the frames of a movie once, in the order of time, and returns links between cells. `assemble` turns
links into tracks that agree with the rules of the Cell Tracking Challenge. `numbered` numbers cells 1..N by position,
so that the result does not depend on the ids of the segmentation.
"""

import importlib
import logging
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cytoforge.cells.labels import compact
from cytoforge.metrics.morphology import typical_diameter
from cytoforge.metrics.segmentation import overlap
from cytoforge.tracking.assignment import first_come, maximum_weight

Ints = NDArray[np.int64]
Labels = NDArray[np.int32]
Cells = NDArray[np.integer[Any]]


Announce = Callable[[float, str], None]
"""Told the share done, 0 to 1, of what is left when all frames are read, and what goes on"""


def silent(share: float, what: str) -> None:
    """Announce nothing."""


class Frame(NamedTuple):
    """One frame of a movie, as a linker receives it."""

    labels: Labels
    """(H, W), 0 background, cells 1..N as from `numbered`"""
    image: NDArray[np.float32] | None = None
    """(C, H, W) in [-1, 1]; None unless the linker wants images"""


@dataclass(frozen=True)
class Links:
    """Which cell becomes which: K links of a movie of T frames."""

    cells: Ints
    """(T,) number of cells in each frame"""
    pairs: Ints
    """(K, 4) frame, cell, later frame, cell there; frames from 0, cells from 1. Every cell has at most one predecessor;
    one with several successors divides"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """settings of the linker, in pixels and frames, for people to read"""


class Linker(Protocol):
    """A tracking method."""

    wants_images: ClassVar[bool]
    """whether the linker uses images besides the labels"""

    def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
        """Link the cells of a movie; take one frame after the other and hold no more of them than needed."""


@dataclass(frozen=True)
class Tracking:
    """Tracks by the rules of the Cell Tracking Challenge, numbered from 1 by first frame and place."""

    tracks: Ints
    """(M, 4) rows L B E P: label, first and last frame, parent (0: none). No gaps; a parent ends before its children"""
    ids: tuple[Ints, ...]
    """for each frame (N + 1,): 0 for the background, then the track of each cell"""

    def relabelled(self, frame: int, labels: Labels) -> Labels:
        """Give each cell of labels (H, W), numbered 1..N, the label of its track."""
        result: Labels = self.ids[frame].astype(np.int32)[labels]
        return result


def numbered(labels: NDArray[np.integer[Any]]) -> Labels:
    """Number the cells of labels (H, W) 1..N by their first pixel in row-major order; 0 stays 0.

    Raises ValueError if labels are not two-dimensional or an id is negative.
    """
    if labels.ndim != 2 or labels.min(initial=0) < 0:
        raise ValueError(f"labels must be (H, W) without negative ids, got {labels.shape} from {labels.min(initial=0)}")
    pixels, lengths, cells = _runs(labels)
    ids, place = compact(cells)
    first = np.empty(ids.size, np.int64)
    first[place[::-1]] = pixels[::-1]  # of several values for a place the last one stays: the first pixel
    number = np.empty(ids.size, np.int32)
    number[np.argsort(first)] = np.arange(1, ids.size + 1)
    result = np.zeros(labels.shape, np.int32)
    result[labels > 0] = np.repeat(number[place], lengths)
    return result


def _runs(labels: NDArray[np.integer[Any]]) -> tuple[Ints, Ints, Cells]:
    """Return first pixel (as flat index), length and cell of each run of a cell's pixels in a row of labels (H, W).

    There are about twenty times fewer runs than pixels.
    """
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    cell = labels.ravel()[first]
    length = np.diff(first, append=labels.size)
    on = cell > 0
    return first[on], length[on], cell[on]


def assemble(links: Links) -> Tracking:
    """Make tracks of links.

    A track continues if its cell has exactly one successor and this lies in the next frame. Otherwise each successor
    begins a new track with the old one as parent: daughters after a division, the same cell after a gap. Raises
    ValueError for a link that does not go forward in time or names no cell, and for a cell with two predecessors.
    """
    offsets = np.concatenate([[0], np.cumsum(links.cells)])
    pairs = links.pairs.reshape(-1, 4)
    frame, cell, later, successor = pairs.T
    if len(pairs) and not (
        (frame >= 0).all()
        and (frame < later).all()
        and (later < links.cells.size).all()
        and (np.minimum(cell, successor) > 0).all()
        and (cell <= links.cells[frame]).all()
        and (successor <= links.cells[later]).all()
    ):
        raise ValueError("a link must go from a cell to one of a later frame")
    before, after = offsets[frame] + cell - 1, offsets[later] + successor - 1
    if np.unique(after).size < after.size:
        raise ValueError("a cell has two predecessors")
    predecessor = np.full(offsets[-1], -1)
    predecessor[after] = before
    goes_on = np.zeros(offsets[-1], bool)
    goes_on[after] = (np.bincount(before, minlength=offsets[-1])[before] == 1) & (later == frame + 1)
    label = np.where(goes_on, 0, np.cumsum(~goes_on))
    for start, stop in pairwise(offsets):
        on = start + np.flatnonzero(goes_on[start:stop])
        label[on] = label[predecessor[on]]
    starts = np.flatnonzero(~goes_on)
    time = np.repeat(np.arange(links.cells.size), links.cells)
    end = np.zeros(starts.size + 1, np.int64)
    np.maximum.at(end, label, time)
    parent = np.where(predecessor[starts] >= 0, label[predecessor[starts]], 0)
    tracks = np.stack([label[starts], time[starts], end[1:], parent], axis=1)
    ids = tuple(np.concatenate([[0], label[a:b]]) for a, b in pairwise(offsets))
    return Tracking(tracks.astype(np.int64), ids)


@dataclass(frozen=True)
class OverlapLinker:
    """Links by overlap, with the largest sum of IoU; the linker holds the labels of `gap` + 2 frames.

    A cell divides if two cells of the next frame, both clearly smaller, overlap it with a part of their pixels. A cell
    that disappears is searched at the same place in the `gap` frames after the next one.
    """

    gap: int = 1
    """frames that a cell may be missing"""
    least: float = 0.02
    """least IoU of a link, except to a second daughter"""
    daughter: float = 0.05
    """least share of each daughter's pixels that overlaps the mother"""
    size: float = 0.8
    """upper limit of the area of each daughter as a share of the mother's, itself excluded"""
    wants_images: ClassVar[bool] = False

    def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
        """Link the cells of a movie; raises ValueError if frames that are compared differ in size."""
        cells: list[int] = []
        pairs = [np.zeros((0, 4), np.int64)]
        earlier: deque[tuple[int, Labels]] = deque(maxlen=self.gap + 1)  # newest first, unlinked cells only
        for time, frame in enumerate(frames):
            cells.append(int(frame.labels.max(initial=0)))
            unlinked = frame.labels
            for place, (then, lost) in enumerate(earlier):
                if not (lost.any() and unlinked.any()):
                    continue
                found = self._link(lost, unlinked, divisions=then == time - 1)
                earlier[place] = (then, _without(lost, found[:, 0]))
                unlinked = _without(unlinked, found[:, 1])
                moments = np.broadcast_to([then, time], found.shape)
                pairs.append(np.stack([moments[:, 0], found[:, 0], moments[:, 1], found[:, 1]], axis=1))
            earlier.appendleft((time, frame.labels))
        settings = {
            "least IoU": self.least,
            "least share of a daughter on its mother": self.daughter,
            "largest area of a daughter by its mother's": self.size,
            "gap in frames": self.gap,
        }
        return Links(np.array(cells, np.int64), np.concatenate(pairs), settings)

    def _link(self, before: Labels, after: Labels, *, divisions: bool) -> Ints:
        """Return the linked cells (K, 2) of two frames, as their numbers in each."""
        table = overlap(before, after)
        left, right = table.truth_ids[table.pair_truth], table.prediction_ids[table.pair_prediction]
        iou = table.iou()
        (close,) = np.nonzero(iou >= self.least)
        linked = np.zeros(iou.size, bool)
        linked[close] = maximum_weight(table.pair_truth[close], table.pair_prediction[close], iou[close])
        if divisions:
            area = table.prediction_areas[table.pair_prediction]
            share = table.intersection / area
            daughter = (share >= self.daughter) & (area < self.size * table.truth_areas[table.pair_truth])
            (second,) = np.nonzero(daughter & ~np.isin(right, right[linked]) & np.isin(left, left[linked & daughter]))
            second = second[np.argsort(-share[second], kind="stable")]
            linked[second[first_come(left[second], right[second])]] = True
        return np.stack([left[linked], right[linked]], axis=1).astype(np.int64)


def _without(labels: Labels, cells: Ints) -> Labels:
    keep = np.arange(int(labels.max(initial=0)) + 1, dtype=np.int32)
    keep[cells] = 0
    result: Labels = keep[labels]
    return result


def _places(frames: Iterator[Frame]) -> tuple[list[NDArray[np.float64]], float, tuple[int, int]]:
    """Return the centroids (N, 2) in each frame, y and x in px, the median diameter in px (1 if no cells), and (H, W).

    H and W are the largest of all frames. The diameter is that of a circle with the median area.
    """
    middles: list[NDArray[np.float64]] = []
    areas: list[Ints] = [np.zeros(0, np.int64)]
    size = (1, 1)
    for labels, _ in frames:
        first, length, cell = _runs(labels)
        y, x = np.divmod(first, labels.shape[1])
        area, *sums = (np.bincount(cell, one * length)[1:] for one in (np.ones(1), y, x + (length - 1) / 2))
        middles.append(np.stack(sums, axis=1) / area[:, None])
        areas.append(area.astype(np.int64))
        size = (max(size[0], labels.shape[0]), max(size[1], labels.shape[1]))
    every = np.concatenate(areas)
    return middles, typical_diameter(every) if every.size else 1.0, size


def _settings(diameter: float, reach: float, gap: int) -> dict[str, Any]:
    distances = {"median diameter in pixels": round(diameter, 1), "largest distance in pixels": round(reach, 1)}
    return {**distances, "gap in frames": gap}


@dataclass(frozen=True)
class LapTrackLinker:
    """The package laptrack (Fukai and Kawaguchi 2023): centroids linked by linear assignment, then gaps and divisions.

    The method is that of Jaqaman et al. 2008. The linker holds the centroids of all cells. Distances scale with the
    diameter of a disc that has the median area of the cells.
    """

    gap: int = 1
    """frames that a cell may be missing"""
    distance: float | None = None
    """pixels that a cell may move from frame to frame; without it REACH diameters"""
    wants_images: ClassVar[bool] = False
    REACH: ClassVar[float] = 1.0
    """diameters that a cell may move from frame to frame"""
    BLOCK: ClassVar[int] = 50
    """frames that are linked between two reports"""

    def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
        """Link the cells of a movie."""
        middles, diameter, _ = _places(frames)
        reach = self.distance or self.REACH * diameter
        cells = np.array([len(one) for one in middles], np.int64)
        steps = np.zeros((0, 4), np.int64)
        for first in range(0, len(middles) - 1, self.BLOCK):  # each pair of frames is linked by itself
            block = middles[first : first + self.BLOCK + 1]
            announce(0.6 * first / len(middles), f"linking frame {first} of {len(middles)} to the next")
            found = _laptrack_pairs(block, cutoff=reach**2, gap_closing_cutoff=False)
            found[:, [0, 2]] += first
            steps = np.concatenate([steps, found])
        announce(0.6, "closing gaps and looking for divisions")
        later = self._gaps_and_divisions(middles, Links(cells, steps), reach)
        return Links(cells, np.concatenate([steps, later]), _settings(diameter, reach, self.gap))

    def _gaps_and_divisions(self, middles: list[NDArray[np.float64]], steps: Links, reach: float) -> Ints:
        """Return links (K, 4) from earlier cells to tracks that begin after frame 0, given the links between frames.

        laptrack needs milliseconds for each track here, even for those that are not candidates. It is therefore given
        only the ends of tracks and the cells near a beginning; costs and best choice remain those of the whole movie.
        """
        tracking = assemble(steps)
        begin, end = tracking.tracks[:, 1:3].T
        if not begin.any():
            return np.zeros((0, 4), np.int64)
        track = [ids[1:] - 1 for ids in tracking.ids]
        near = [np.zeros(len(own), bool) for own in track]
        for time in np.unique(begin[begin > 0]):
            starts = middles[time][begin[track[time]] == time]
            near[time - 1] = (cdist(starts, middles[time - 1], "sqeuclidean") < reach**2).any(axis=0)
        counts = (begin > 0) | (end < len(middles) - 1)
        counts[np.concatenate(track)[np.concatenate(near)]] = True
        kept: list[Ints] = []
        last: dict[int, tuple[int, int]] = {}
        known = []
        for time, (own, close) in enumerate(zip(track, near, strict=True)):
            kept.append(np.flatnonzero(close | (counts[own] & ((begin[own] == time) | (end[own] == time)))))
            for place, one in enumerate(own[kept[time]].tolist()):
                if one in last:
                    known.append((last[one], (time, place)))
                last[one] = time, place
        found = _laptrack_pairs(
            [one[cells] for one, cells in zip(middles, kept, strict=True)],
            known,
            cutoff=0,  # no more steps
            gap_closing_cutoff=reach**2 if self.gap else False,
            gap_closing_max_frame_count=self.gap + 1,
            splitting_cutoff=reach**2,
        )
        for column in (0, 2):
            found[:, column + 1] = [kept[time][cell - 1] + 1 for time, cell in found[:, column : column + 2]]
        return found


def _laptrack_pairs(
    places: list[NDArray[np.float64]], known: Sequence[tuple[tuple[int, int], tuple[int, int]]] = (), **options: Any
) -> Ints:
    """Return links (K, 4) as in `Links` that laptrack finds in addition to the known ones.

    A known link is (frame, cell), (later frame, cell), with cells numbered from 0.
    """
    from laptrack import LapTrack  # imported here because it loads pandas, which takes seconds

    if not any(map(len, places)):
        return np.zeros((0, 4), np.int64)
    edges = LapTrack(**options).predict(places, known).edges()
    new = edges - set(known) if known else edges
    found = [(then, one + 1, now, two + 1) for (then, one), (now, two) in new]
    return np.array(found, np.int64).reshape(-1, 4)


@dataclass(frozen=True)
class BTrackLinker:
    """The package btrack (Ulicna et al. 2021): a Kalman filter for each cell, then gaps and divisions by optimisation.

    The linker holds the centroids of all cells. The models of btrack are in pixels, so centroids are scaled to give
    the cells the median diameter DIAMETER.
    """

    gap: int = 1
    """frames that a cell may be missing"""
    distance: float | None = None
    """pixels that a cell may move from frame to frame; without it REACH diameters"""
    wants_images: ClassVar[bool] = False
    REACH: ClassVar[float] = 1.5
    """diameters that a cell may move from frame to frame"""
    DIAMETER: ClassVar[float] = 30.0
    """median diameter in pixels at which btrack sees the cells"""

    def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
        """Link the cells of a movie; raises RuntimeError if the optimisation finds no solution within a minute."""
        middles, diameter, size = _places(frames)
        announce(0.5, "following the cells, then closing gaps and looking for divisions")
        reach = self.distance or self.REACH * diameter
        cells = np.array([len(one) for one in middles], np.int64)
        time = np.repeat(np.arange(len(middles)), cells)
        cell = np.concatenate([np.arange(1, n + 1) for n in cells] or [time])
        pairs: list[tuple[int, int]] = []
        if np.count_nonzero(cells) > 1:
            unit = self.DIAMETER / diameter
            places = np.column_stack([time, unit * np.concatenate(middles)[:, ::-1], np.zeros(len(time))])
            configuration = {**_btrack_models(self.gap), "max_search_radius": unit * reach}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it is written for an older pydantic
                pairs = _btrack_pairs(places, (unit * size[0], unit * size[1]), configuration)
            pairs = [(one, two) for one, two in pairs if time[two] - time[one] <= self.gap + 1]
        one, two = np.array(pairs, np.int64).reshape(-1, 2).T
        links = np.stack([time[one], cell[one], time[two], cell[two]], axis=1).astype(np.int64)
        return Links(cells, links, _settings(diameter, reach, self.gap))


def btrack_engine() -> Any:
    """Start a tracker of btrack; raises ImportError if it is not installed or its engine cannot be loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is written for an older pydantic
        package = importlib.import_module("btrack")
        logging.getLogger("btrack").setLevel(logging.CRITICAL)
        try:
            return package.BayesianTracker()
        except Exception as error:  # a bare Exception where the shared library cannot be loaded
            raise ImportError("the engine of btrack cannot be loaded", name="btrack.libs") from error


def _btrack_pairs(
    places: NDArray[np.float64], size: tuple[float, float], configuration: dict[str, Any]
) -> list[tuple[int, int]]:
    """Return pairs of successive cells, as positions in places (N, 4): frame, x, y, z; `size` is height, width."""
    with btrack_engine() as tracker:
        tracker.configure(configuration)
        tracker.append(places)
        tracker.volume = ((0, size[1]), (0, size[0]))
        tracker.track()
        if tracker.hypotheses() and not tracker.optimise():
            raise RuntimeError("btrack found no best set of tracks within a minute")
        seen = {track.ID: [cell for cell in track.refs if cell >= 0] for track in tracker.tracks}  # < 0: filled in
        parents = {track.ID: track.parent for track in tracker.tracks if track.parent != track.ID}
    mothers = {track: seen.get(parents.get(track), []) for track in seen}
    return [pair for track, cells in seen.items() for pair in pairwise([*mothers[track][-1:], *cells])]


def _btrack_models(gap: int) -> dict[str, Any]:
    """Return the motion model (constant velocity) and the hypothesis model of btrack's published cell configuration.

    The length scales of links, branches and border are larger than published, and tracks may begin and end anywhere,
    because tracks of real movies break with smaller ones.
    """
    motion = {
        "measurements": 3,
        "states": 6,
        "accuracy": 7.5,
        "prob_not_assign": 0.1,
        "max_lost": max(gap, 1),  # the engine divides by it
        "A": np.eye(6) + np.eye(6, k=3),
        "H": np.eye(3, 6),
        "P": np.diag([0.1, 0.1, 0.1, 1, 1, 1]) * 150,
        "G": np.array([0.5, 0.5, 0.5, 1, 1, 1]) * 15,
        "R": np.eye(3) * 5,
    }
    hypotheses = {
        "hypotheses": ["P_FP", "P_init", "P_term", "P_link", "P_branch", "P_dead"],
        "lambda_time": 5.0,
        "lambda_dist": 5.0,
        "lambda_link": 20.0,
        "lambda_branch": 20.0,
        "eta": 1e-10,
        "theta_dist": 20.0,
        "theta_time": 5.0,
        "dist_thresh": 40.0,
        "time_thresh": gap + 1.0,
        "apop_thresh": 2,
        "segmentation_miss_rate": 0.1,
        "apoptosis_rate": 0.1,
        "relax": True,
    }
    quiet = {"msg_lev": "GLP_MSG_OFF", "tm_lim": 60_000}
    return {"motion_model": motion, "hypothesis_model": hypotheses, "optimizer_options": quiet}
