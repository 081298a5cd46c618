"""Movies of simulated cells: label images, tracks, divisions and the displacement of every pixel.

The behaviour of cells is in `culture.py`. This module records what is seen of them in the frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytoforge.simulation.bodies import Pose, displacement
from cytoforge.simulation.culture import Cell, Culture
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.masks import Layout, Shape

Labels = NDArray[np.int32]
Row = tuple[int, int, int, int]


@dataclass(frozen=True)
class Lineage:
    """A simulated movie."""

    labels: Labels
    """(T, H, W), 0 background; a cell keeps its label as long as it is seen in every frame"""
    tracks: tuple[Row, ...]
    """label, first frame, last frame, mother's label or 0; both daughters begin in the frame after the mother's last"""
    poses: tuple[Mapping[int, Pose], ...]
    """pose of each cell by frame and label; includes cells whose track ended in the previous frame"""
    lacking: bool
    """whether there was no room for the requested density"""
    coverage: float
    """share of the first frame's pixels that are cell"""
    field: tuple[int, int]
    """height and width in pixels of the area on which the cells live; the frame is its middle"""

    def divisions(self) -> dict[int, tuple[int, int]]:
        """Return the labels of the two daughters by the label of their mother."""
        kin: dict[int, list[int]] = {}
        for label, _, _, parent in self.tracks:
            if parent:
                kin.setdefault(parent, []).append(label)
        return {mother: (one, two) for mother, (one, two) in kin.items()}

    def flow(self, frame: int) -> NDArray[np.float32]:
        """Return the displacement (2, H, W) in pixels of every pixel to the next frame, see `bodies.displacement`.

        Raises ValueError for the last frame or a frame that is not in the movie.
        """
        if not 0 <= frame < len(self.labels) - 1:
            raise ValueError(f"frames 0 to {len(self.labels) - 2} have a next one, got {frame}")
        begins = {label: begin for label, begin, _, _ in self.tracks}
        daughters = {mother: kin for mother, kin in self.divisions().items() if begins[kin[0]] == frame + 1}
        return displacement(
            self.labels[frame], self.labels[frame + 1], self.poses[frame], self.poses[frame + 1], daughters
        )


def simulate_lineage(
    shapes: Sequence[Shape],
    size: tuple[int, int],
    frames: int,
    generator: np.random.Generator,
    *,
    density: float,
    dynamics: Dynamics | None = None,
    layout: Layout = "mixed",
    magnification: float = 1.0,
    touching: float = 0.5,
    inset: int = 0,
) -> Lineage:
    """Simulate a movie.

    Args:
        shapes: the shapes to draw from, at least one.
        size: height and width in pixels.
        frames: number of frames, at least 1.
        generator: source of all random numbers.
        density: of the first frame, at least 0: the coverage if below 1, else the number of cells.
        dynamics: how cells move, grow and divide.
        layout: scattered: cells keep apart; colony: they lie in packed colonies and hold together; mixed: those that
            begin in groups hold together.
        magnification: ratio of lengths in the movie to lengths in the shapes, above 0.
        touching: share of the cells, 0 to 1, that touch others in the first frame where the layout is mixed.
        inset: width in pixels of a band along the edge of the frame. Cells that lie wholly in it are not labelled,
            as in movies with a field of interest.

    Raises:
        ValueError: for fewer than one frame, no shapes, an inset below 0 or of half the frame or more, or a value that
            `simulate_labels` rejects.
    """
    if frames < 1:
        raise ValueError(f"a movie has at least one frame, got {frames}")
    if not shapes:
        raise ValueError("at least one shape is needed, got none")
    if not 0 <= 2 * inset < min(size):
        raise ValueError(f"an inset leaves something of the frame of {size}, got {inset}")
    culture = Culture(shapes, size, generator, density, dynamics or Dynamics(), layout, magnification, touching, inset)
    labels = np.zeros((frames, *size), np.int32)
    book = _Book()
    poses = []
    for frame in range(frames):
        if frame:
            culture.step()
        numbers, counts, seen = culture.draw()
        labels[frame] = book.enter(frame, culture.cells, counts, seen)[numbers]
        poses.append({cell.label or cell.former: cell.pose for cell in culture.cells if cell.label or cell.former})
    coverage = float(np.count_nonzero(labels[0])) / labels[0].size
    return Lineage(labels, book.rows(), tuple(poses), culture.lacking, coverage, culture.size)


class _Book:
    """Assign labels to the cells that are seen, and records the tracks."""

    def __init__(self) -> None:
        self.tracks: dict[int, list[int]] = {}

    def enter(self, frame: int, cells: Sequence[Cell], counts: NDArray[np.intp], seen: NDArray[np.bool_]) -> Labels:
        """Label the cells seen in a frame, and return the label of each cell number (N + 1,), 0 where not seen.

        counts: (N, 2), as `share_pixels` returns them. Sets the labels and the crowding of the cells.
        """
        mothers: dict[int, list[Cell]] = {}
        for cell, visible in zip(cells, seen, strict=True):
            if visible and cell.mother is not None and cell.mother.label:
                mothers.setdefault(cell.mother.label, []).append(cell)
        numbers = np.zeros(len(cells) + 1, np.int32)
        for number, (cell, visible, (alone, has)) in enumerate(zip(cells, seen, counts.tolist(), strict=True), 1):
            cell.former = 0 if visible else cell.label
            if not visible:
                cell.label = 0
            elif not cell.label:
                cell.label = len(self.tracks) + 1
                label = cell.mother.label if cell.mother is not None else 0
                self.tracks[cell.label] = [frame, frame, label if len(mothers.get(label, ())) == 2 else 0]
            self.tracks.get(cell.label, [0, 0])[1] = frame
            cell.crowding = has / alone if alone else 1.0
            cell.mother = None
            numbers[number] = cell.label
        return numbers

    def rows(self) -> tuple[Row, ...]:
        """Return the tracks."""
        return tuple((label, begin, end, parent) for label, (begin, end, parent) in self.tracks.items())
