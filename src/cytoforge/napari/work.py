"""What the panels do, as functions of arrays: segment, train, simulate and track, with a report of their progress."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.api import simulate_masks, train_segmenter
from cytoforge.errors import Interrupted, UserError, explain
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.segment import estimated
from cytoforge.inference.segmenter import InMemory, Segmenter
from cytoforge.inference.tracker import Tracker
from cytoforge.napari.layers import Graph, Labels, Planes, frames_of, label_planes, tracks_layer
from cytoforge.tracking.lineage import divisions

Report = Callable[[float, str], None]
"""Called with the share done, 0 to 1, and a note; it raises Interrupted where the work is to stop"""


def quiet(share: float, note: str) -> None:
    """Report to nobody."""


class Job:
    """Work that a thread does and the window watches: how far it is, and whether it is to stop."""

    def __init__(self) -> None:
        self.share, self.note = 0.0, ""
        self._stopped = False

    def stop(self) -> None:
        """Let the work stop at its next report."""
        self._stopped = True

    def __call__(self, share: float, note: str = "") -> None:
        """Report progress; raises Interrupted after `stop`."""
        self.share, self.note = share, note
        if self._stopped:
            raise Interrupted("stopped")

    def do(self, work: Callable[[Report], Any]) -> Any:
        """Return what the work returns; what the user or the computer is to blame for is raised as UserError."""
        try:
            return work(self)
        except (OSError, MemoryError, RuntimeError) as error:
            if sentence := explain(error):
                raise UserError(sentence) from error
            raise


@dataclass(frozen=True)
class Segmented:
    """Labels of all planes, and what is said of them."""

    labels: Labels
    """(..., H, W), the cells of each plane numbered from 1"""
    cells: int
    diameter: float | None
    """pixels across that the base model took cells to have"""


def segment(
    planes: Planes, run: Path | str = "base", diameter: float | None = None, report: Report = quiet
) -> Segmented:
    """Segment each plane for itself, with the base model or the segmenter of a run folder.

    `diameter` is that of the median cell in pixels, for the base model, which without it estimates one for all planes.
    Raises UserError as Segmenter does.
    """
    report(0.0, "loads the model")
    segmenter = Segmenter.load(run)
    places = list(np.ndindex(*planes.lead))
    if diameter is None and segmenter.diameter is not None:
        seen = segmenter.for_channels(len(planes[places[0]]))
        diameter = estimated(seen, places, lambda place: _middle(seen, planes[place]))
    labels, cells = np.zeros(planes.shape, np.int32), 0
    for done, place in enumerate(places):
        report(done / len(places), f"plane {done + 1} of {len(places)}")
        labels[place] = segmenter.segment(planes[place], "CYX", diameter=diameter)
        cells += int(labels[place].max())
    return Segmented(labels, cells, diameter)


def _middle(segmenter: Segmenter, image: NDArray[Any]) -> NDArray[np.float32]:
    return segmenter.middle(InMemory(image), segmenter.normalisation.measure(image))


def train(planes: Planes, labels: Any, out: Path, minutes: float, report: Report = quiet, **options: Any) -> Segmenter:
    """Train a segmenter on the planes that have labels, and keep the run in the folder `out`.

    The same call goes on with a training that was stopped. `options` are further ones of `train_segmenter`. Raises
    UserError where labels and planes do not belong together or no plane is annotated, and Interrupted when `report`
    does, with everything saved.
    """
    if tuple(np.shape(labels)) != planes.shape:
        raise UserError(f"labels of {np.shape(labels)} do not belong to images of {planes.shape}; choose others")
    masks = dict(zip(np.ndindex(*planes.lead), label_planes(labels), strict=True))
    annotated = [place for place, mask in masks.items() if mask.any()]
    if not annotated:
        raise UserError("the labels layer is empty; draw the cells of one image first")
    report(0.0, "prepares the training")
    images = [planes[place] for place in annotated]
    return train_segmenter(
        images, [masks[place] for place in annotated], minutes=minutes, out=out, progress=report, **options
    )


@dataclass(frozen=True)
class Simulated:
    """Simulated masks, and images painted on them."""

    labels: Labels
    """(N, H, W)"""
    images: NDArray[np.uint16] | None = None
    """(N, C, H, W), if a generator was given"""

    @property
    def cells(self) -> int:
        """How many cells all masks hold."""
        return sum(int(np.unique(plane[plane > 0]).size) for plane in self.labels)

    @property
    def coverage(self) -> float:
        """Share of all pixels that are cells."""
        return np.count_nonzero(self.labels) / self.labels.size


def simulate(
    like: Any | None,
    count: int,
    *,
    size: tuple[int, int],
    density: float | None = None,
    generator: Path | None = None,
    seed: int = 0,
    report: Report = quiet,
) -> Simulated:
    """Simulate `count` masks of a size (H, W), with the shapes of the cells in the planes of `like` if given.

    `density` is the coverage below 1, or the number of cells; without it it is that of the planes with cells. Plane k
    follows from seed + k. With `generator`, a run folder, each is painted. Raises UserError as `simulate_masks` and
    ImageGenerator do.
    """
    known = None if like is None else [labels for labels in label_planes(like) if labels.any()]
    if known is not None and not known:
        raise UserError("the labels layer is empty; choose one with cells, or none")
    painter = None if generator is None else ImageGenerator.load(generator)
    masks, images = [], []
    for k in range(count):
        report(k / count, f"mask {k + 1} of {count}")
        masks += simulate_masks(known, size=size, density=density, seed=seed + k)
        images += [] if painter is None else [painter.paint(masks[-1], seed=seed + k)[0]]
    return Simulated(np.stack(masks), np.stack(images) if images else None)


@dataclass(frozen=True)
class Followed:
    """A tracked movie as layers hold it."""

    labels: Labels
    """(T, H, W), each cell with the id of its track"""
    tracks: NDArray[np.float64]
    """(N, 4): track, time, y, x"""
    graph: Graph
    divisions: int


def track(planes: Planes | None, labels: Any, tracker: Path | str = "base", report: Report = quiet) -> Followed:
    """Track the cells of labels (T, H, W), by base, overlap, laptrack, btrack or the tracker of a run folder.

    `planes` are the frames, which a trained tracker needs. Raises UserError where the axes are others, and as Tracker.
    """
    frames = frames_of(labels)
    if planes is not None and planes.shape != np.shape(labels):
        raise UserError(f"labels of {np.shape(labels)} do not belong to images of {planes.shape}; choose others")
    report(0.0, "loads the tracker")
    found = Tracker.load(tracker).track(_reported(frames, report), planes)
    rows = found.tracks.tolist()
    return Followed(found.labels, *tracks_layer(enumerate(found.labels), rows), divisions(rows))


def _reported(frames: Sequence[Labels], report: Report) -> Iterator[Labels]:
    for number, frame in enumerate(frames):
        report(number / len(frames), f"frame {number + 1} of {len(frames)}")
        yield frame
