"""Shapes and positions of simulated cells that move: forms, poses, rasterisation to labels, and pixel displacement.

A form is a cell's signed distance field, turned so that its long axis is horizontal, and scaled to area 1. Any two
forms can therefore be mixed, and a cell changes smoothly from one to another. A body is a form that is placed, rotated,
scaled and stretched. Where bodies overlap, a pixel belongs to the body in which it lies deeper below the outline. No
pixel has two owners, and the border between two cells moves as smoothly as the cells do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cytoforge.cells.labels import boxes
from cytoforge.simulation.masks import Shape
from cytoforge.simulation.phantom import largest_piece

Labels = NDArray[np.int32]
Field = NDArray[np.float32]
Point = NDArray[np.float64]
Window = tuple[slice, slice]

UNIT = 24
"""Grid points of a form per unit of length; the unit is the square root of the form's area."""
REACH = 2.5
"""Distance from the centre of a form to the end of its grid, in units of length; longer parts are cut off."""
PAD = 4
"""Grid points that `Shape.of` adds on each side."""
HALF = int(UNIT * REACH) + PAD
"""Grid points from the centre of a form to each edge of its field."""
RADIUS = 1 / np.sqrt(np.pi)
"""Radius of a disc of area 1."""


@dataclass(frozen=True)
class Form:
    """A shape of area 1 with its long axis along the columns; the unit of length is the square root of its area."""

    field: Field
    """(2 HALF + 1, 2 HALF + 1), UNIT grid points per unit of length: depth below the outline, negative outside"""

    @classmethod
    def of(cls, depth: NDArray[np.floating]) -> tuple[Self, "Pose"]:
        """Return the form of the largest connected piece of the positive pixels of (h, w), and its pose there.

        Raises ValueError when nothing is positive.
        """
        inside = largest_piece(depth > 0)
        points = np.argwhere(inside)
        if not points.size:
            raise ValueError("a form needs at least one positive pixel")
        centre, area = points.mean(axis=0), len(points)
        dy, dx = (points - centre).T
        angle = 0.5 * float(np.arctan2(2 * np.mean(dy * dx), np.mean(dx * dx) - np.mean(dy * dy)))
        pose = Pose(centre, angle, float(np.sqrt(area)))
        reach = HALF - PAD
        grid = np.arange(-reach, reach + 1) / UNIT
        places = pose.place(np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1))
        alone = np.where(inside | (depth <= 0), depth, -1.0)
        drawn = ndimage.map_coordinates(alone, np.moveaxis(places, -1, 0), order=1, mode="constant", cval=-1.0) > 0
        if not drawn.any():  # thinner than the grid
            drawn[reach, reach] = True
        return cls(Shape.of(largest_piece(drawn)).field / np.float32(UNIT)), pose

    @cached_property
    def axes(self) -> tuple[float, float]:
        """Semi-axes, along and across, of the ellipse of equal second moments."""
        y, x = np.nonzero(self.field > 0)
        return 2 * float(x.std()) / UNIT, 2 * float(y.std()) / UNIT

    def apart(self, other: "Form") -> float:
        """Return 1 minus the intersection over union of two forms that are laid on each other."""
        one, two = self.field > 0, other.field > 0
        return 1 - float(np.count_nonzero(one & two)) / max(int(np.count_nonzero(one | two)), 1)


def disc() -> Form:
    """Return the form of a disc."""
    grid = np.arange(-HALF, HALF + 1) / UNIT
    return Form((RADIUS - np.hypot(grid[:, None], grid)).astype(np.float32))


@dataclass(frozen=True)
class Pose:
    """Where a form lies in an image: a map from its coordinates to pixels. Both are (row, column)."""

    centre: Point
    angle: float
    """of the long axis, in radians, from the direction of increasing column towards that of increasing row"""
    length: float
    """square root of the area, in pixels"""
    stretch: float = 1.0
    """factor along the long axis, at constant area"""

    @property
    def matrix(self) -> Point:
        """Matrix (2, 2) from the coordinates of the form to pixels."""
        sine, cosine = np.sin(self.angle), np.cos(self.angle)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        return turn * (self.length * np.array([1 / self.stretch, self.stretch]))

    def place(self, points: Point) -> Point:
        """Map points (..., 2) of the form to pixels."""
        placed: Point = points @ self.matrix.T + self.centre
        return placed

    def back(self, pixels: Point) -> Point:
        """Map pixels (..., 2) to points of the form."""
        points: Point = (pixels - self.centre) @ np.linalg.inv(self.matrix).T
        return points


@dataclass(frozen=True)
class Body:
    """A mixture of two forms, partly rounded, at a pose."""

    form: Form
    target: Form
    mixture: float
    """0 for `form`, 1 for `target`"""
    roundness: float
    """0 for the mixture as it is, 1 for a disc"""
    pose: Pose

    @property
    def axes(self) -> tuple[float, float]:
        """Semi-axes along and across the long axis, in pixels."""
        one, two = (1 - self.roundness) * (1 - self.mixture), (1 - self.roundness) * self.mixture
        along, across = (
            one * first + two * second + self.roundness * RADIUS
            for first, second in zip(self.form.axes, self.target.axes, strict=True)
        )
        return along * self.pose.length * self.pose.stretch, across * self.pose.length / self.pose.stretch

    def depth(self, size: tuple[int, int]) -> tuple[Window, Field] | None:
        """Return the window of an image (H, W) that holds the body, and the depth below its outline there, in pixels.

        Returns None when the body lies outside the image.
        """
        field = self._field()
        extent = [np.abs(np.flatnonzero((field > 0).any(axis)) - HALF).max(initial=0) + 1 for axis in (1, 0)]
        matrix = self.pose.matrix
        reach = np.abs(matrix) @ extent / UNIT
        low = np.clip(np.floor(self.pose.centre - reach).astype(int), 0, size)
        high = np.clip(np.ceil(self.pose.centre + reach).astype(int) + 1, 0, size)
        if (low >= high).any():
            return None
        back = np.linalg.inv(matrix) * UNIT
        y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, self.pose.centre, strict=True))
        places = [m * y[:, None] + n * x + HALF for m, n in back]
        values: Field = ndimage.map_coordinates(field, places, order=1, mode="constant", cval=-REACH)
        return (slice(low[0], high[0]), slice(low[1], high[1])), values * np.float32(self.pose.length)

    def _field(self) -> Field:
        mixed = self.form.field
        if self.mixture > 0:
            mixed = mixed + np.float32(self.mixture) * (self.target.field - mixed)
        if self.roundness > 0:
            mixed = mixed + np.float32(self.roundness) * (DISC.field - mixed)
        if mixed is self.form.field:
            return mixed
        # mixing removes arms that only one of the forms has, so the outline moves outwards until the area is 1 again
        level: Field = mixed - np.partition(mixed, -(UNIT**2), axis=None)[-(UNIT**2)]
        return level


DISC = disc()


def share_pixels(bodies: Sequence[Body], size: tuple[int, int]) -> tuple[Labels, NDArray[np.intp]]:
    """Draw bodies into an image.

    Returns labels int32 (H, W), 1..N in the order of the bodies, each connected by pixel sides; and counts (N, 2):
    the number of pixels that each body would have alone, and the number that it has. A body outside the image has none.
    """
    depth, labels = np.zeros(size, np.float32), np.zeros(size, np.int32)
    counts = np.zeros((len(bodies), 2), np.intp)
    windows: dict[int, Window] = {}
    for index, body in enumerate(bodies):
        found = body.depth(size)
        if found is None:
            continue
        window, values = found
        windows[index] = window
        counts[index, 0] = np.count_nonzero(values > 0)
        wins = values > depth[window]
        depth[window][wins] = values[wins]
        labels[window][wins] = index + 1
    for index, window in windows.items():
        mine = labels[window] == index + 1
        kept = largest_piece(mine)
        labels[window][mine & ~kept] = 0
        counts[index, 1] = np.count_nonzero(kept)
    return labels, counts


def pushes(centres: Point, offsets: Point, radius: Point) -> tuple[Point, Point]:
    """Return the push (N, 2) and the torque (N,) on each of N cells, from the overlaps of its discs with other cells'.

    The summed push is divided by the square root of the number of overlaps, and the summed torque by that number, so
    that many overlaps do not cause a large jump.

    Args:
        centres: (N, 2), row and column of the cells in pixels.
        offsets: (K, N, 2), offsets in pixels of the K discs of each cell from its centre.
        radius: (N,), radius in pixels of the discs of each cell.
    """
    count = len(centres)
    points, arms = (centres + offsets).reshape(-1, 2), offsets.reshape(-1, 2)
    one, two = KDTree(points).query_pairs(2 * float(radius.max()), output_type="ndarray").T
    others = one % count != two % count
    one, two = one[others], two[others]
    apart = points[two] - points[one]
    distance = np.maximum(np.hypot(*apart.T), 1e-6)
    overlap = radius[one % count] + radius[two % count] - distance
    meets = overlap > 0
    push = (apart * (overlap / distance)[:, None])[meets]
    disc = np.concatenate([one[meets], two[meets]])
    push = np.concatenate([-push, push])
    cell = disc % count
    moves = np.stack([np.bincount(cell, part, count) for part in push.T], axis=1)
    turns = np.bincount(cell, arms[disc, 1] * push[:, 0] - arms[disc, 0] * push[:, 1], count)
    hits = np.maximum(np.bincount(cell, minlength=count), 1)
    return moves / np.sqrt(hits)[:, None], turns / hits


def displacement(
    labels: Labels,
    after: Labels,
    poses: Mapping[int, Pose],
    poses_after: Mapping[int, Pose],
    daughters: Mapping[int, tuple[int, int]],
) -> NDArray[np.float32]:
    """Return the displacement of each pixel of each cell to the next frame.

    A pixel moves with the pose of its cell. Where that would take it out of the cell's next mask, because the outline
    changed or another cell covers it, it moves to the nearest pixel of that mask. A place outside the frame stays as it
    is. The two halves of a mother move to her daughters.

    Args:
        labels: (H, W), 0 background.
        after: (H, W), the next frame.
        poses: pose of each cell in this frame, by label.
        poses_after: pose of each cell in the next frame, by label.
        daughters: labels of the two daughters that begin in the next frame, by label of the mother.

    Returns:
        float32 (2, H, W), rows and columns, in pixels: 0 outside cells, nan where the cell has no next mask.
    """
    flow = np.zeros((2, *labels.shape), np.float32)
    boxes_after = boxes(after)
    for label, box in boxes(labels).items():
        corner = [part.start for part in box]
        pixels = np.argwhere(labels[box] == label) + corner
        moved = np.full(pixels.shape, np.nan)
        for kin, part in _heirs(pixels, label, poses, poses_after, daughters):
            if kin in boxes_after:
                window = boxes_after[kin]
                mask = np.argwhere(after[window] == kin) + [side.start for side in window]
                carried = _carried(pixels[part], label, kin, poses, poses_after)
                # round to float32 as on return: halfway between two pixels, the last digits decide which one is hit
                carried = pixels[part] + (carried - pixels[part]).astype(np.float32)
                moved[part] = _into(mask, carried, after, kin)
        flow[:, pixels[:, 0], pixels[:, 1]] = (moved - pixels).T
    return flow


def _heirs(
    pixels: NDArray[np.intp],
    label: int,
    poses: Mapping[int, Pose],
    poses_after: Mapping[int, Pose],
    daughters: Mapping[int, tuple[int, int]],
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return labels of the next frame, each with the cell's pixels that go to it."""
    if label not in daughters:
        return [(label, np.ones(len(pixels), bool))]
    one, two = daughters[label]
    towards = poses_after[one].centre - poses_after[two].centre
    side = (pixels - poses[label].centre) @ towards > 0
    return [(one, side), (two, ~side)]


def _carried(
    pixels: NDArray[np.intp], label: int, kin: int, poses: Mapping[int, Pose], poses_after: Mapping[int, Pose]
) -> Point:
    if kin == label:
        return poses_after[kin].place(poses[label].back(pixels.astype(float)))
    moved: Point = pixels - pixels.mean(axis=0) + poses_after[kin].centre if len(pixels) else pixels.astype(float)
    return moved


def _into(mask: NDArray[np.intp], places: Point, after: Labels, label: int) -> Point:
    """Move places (M, 2) in the frame but outside a mask, given by its pixels (N, 2), to its nearest pixel."""
    nearest = np.rint(places).astype(np.intp)
    inside: NDArray[np.bool_] = np.all((nearest >= 0) & (nearest < after.shape), axis=1)
    strays = inside.copy()
    strays[inside] = after[tuple(nearest[inside].T)] != label
    if strays.any():
        places = places.copy()
        places[strays] = mask[KDTree(mask).query(places[strays])[1]]
    return places
