"""Trails: the trajectories of tracked cells, as lines over a frame of their movie."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cytoforge.data.movie import Track
from cytoforge.metrics.deepsea import places
from cytoforge.report import id_colours

SIDE = 640  # pixels of a picture's longer side, in which lines, dots and numbers have the sizes below, in points
WIDTH, RIM, DOT, NUMBER = 1.1, 0.6, 18, 5.5
NAMED = 200  # cells in a frame, with more of which their numbers would cover it

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Trails:
    """Where each track is in each of its frames."""

    points: Mapping[int, NDArray[np.float64]]
    """by label (n, 3): frame, y and x of the centroid in pixels, by time; first the last place of the track from which
    it descends"""
    begins: Mapping[int, int]
    """by label, the first frame of the track itself"""
    shape: tuple[int, int]
    """height and width of the frames in pixels"""

    def drawn(self, size: tuple[int, int], frame: int, tail: int | None = None, *, named: bool = False) -> np.ndarray:
        """Return lines uint8 (height, width, 4), red, green, blue and opacity, to lie over a picture of a frame.

        Args:
            size: height and width of the picture in pixels, of the aspect of the frames.
            frame: number of the frame. A dot shows where a cell is in it.
            tail: how many frames back the lines reach, at most; without it they reach back to the first frame.
            named: whether the number of each track stands at its dot; it does not where there are more than NAMED.
        """
        dots = 100 * max(size) / SIDE  # per inch
        height, width = ((side + 0.01) / dots for side in size)  # matplotlib cuts what is no whole pixel
        figure = Figure(figsize=(width, height), dpi=dots, facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(-0.5, self.shape[1] - 0.5), ylim=(self.shape[0] - 0.5, -0.5))
        since = -np.inf if tail is None else frame - tail
        begun = {label: points for label, points in self.points.items() if self.begins[label] <= frame}
        lines = [points[(points[:, 0] >= since) & (points[:, 0] <= frame)] for points in begun.values()]
        ways, colours = [line[:, :0:-1] for line in lines], id_colours(np.array(list(begun), int)) / 255
        for thick, colour in ((WIDTH + 2 * RIM, "black"), (WIDTH, colours)):  # a rim makes them stand out on any grey
            drawing = LineCollection(ways, colors=colour, linewidths=thick, capstyle="round")
            axes.add_collection(drawing, autolim=False)
        seen = [(label, line[-1, 1:]) for label, line in zip(begun, lines, strict=True) if frame in line[-1:, 0]]
        if seen:
            numbers, spots = [label for label, _ in seen], np.array([place for _, place in seen])
            shown = id_colours(np.array(numbers)) / 255
            axes.scatter(spots[:, 1], spots[:, 0], s=DOT, color=shown, edgecolors="black", linewidths=RIM, zorder=3)
            for number, (y, x) in zip(numbers, spots, strict=True) if named and len(seen) <= NAMED else ():
                text = axes.annotate(str(number), (x, y), xytext=(2, 2), textcoords="offset points", fontsize=NUMBER)
                text.set(color="white", path_effects=[withStroke(linewidth=2 * RIM, foreground="black")])
        drawn = io.BytesIO()
        figure.savefig(drawn, format="rgba", dpi=dots)
        return np.frombuffer(drawn.getvalue(), np.uint8).reshape(*size, 4)


def trails(masks: Iterable[tuple[int, Labels]], tracks: Sequence[Track]) -> Trails:
    """Follow the tracks through masks: pairs of a frame's number and its labels (H, W) with the numbers of tracks.

    Raises ValueError without a mask.
    """
    found: dict[int, list[tuple[float, float, float]]] = {}
    shape: tuple[int, ...] | None = None
    for number, labels in masks:
        shape = labels.shape
        cells = places(labels)
        for label, (y, x) in zip(cells.labels.tolist(), cells.centroids.tolist(), strict=True):
            found.setdefault(label, []).append((number, y, x))
    if shape is None:
        raise ValueError("trails need a mask")
    ends = {label: way[-1:] for label, way in found.items()}
    parents = {track.label: track.parent for track in tracks}
    points = {label: np.array([*ends.get(parents.get(label, 0), []), *way]) for label, way in sorted(found.items())}
    return Trails(points, {label: int(way[0][0]) for label, way in found.items()}, (shape[0], shape[1]))
