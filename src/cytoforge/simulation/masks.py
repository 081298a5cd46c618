"""Label images of simulated cells, composed from the shapes of real cells or from a parametric model.

A shape is the signed distance to a cell's smoothed outline, so that it can be rotated, stretched and bent by any amount
and keeps a smooth edge. Cells are placed one by one where pixels are free. A sample of a cell's pixels represents it
while many places are compared, and the chosen place is tested on all of its pixels. A cell that is to lie against
others, or for which no place is free, loses the part that others cover, as touching cells have a common border.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import boxes
from cytoforge.simulation.phantom import STEPS, draw_outline, fill_outline, largest_piece

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Points = NDArray[np.intp]
Layout = Literal["scattered", "colony", "mixed"]

STRETCH = (0.75, 1.25)
"""Range of the scale of each axis at a variation of 1."""
BEND = 0.06
"""Standard deviation of the amplitude of the smooth deformation, relative to half the length of the cell; likewise."""
VARIATION = 2.0
"""Greatest factor on how much shapes are stretched and bent."""
SMOOTH = 1.0
"""Standard deviation in pixels of the filter that smooths the pixel steps of an outline."""
SMALLEST = 15
"""Smallest number of pixels of a cell whose shape is taken."""
LEAST = 0.75
"""A cell is placed only where at least this share of its pixels in the frame is free."""
CORE = 0.4
"""Depth, as a share of a cell's greatest depth, beyond which others cannot cover it: no cell lies inside another."""
CONTACT = 0.08
"""Largest share of a cell that others may cover at places compared for a cell that joins them."""
SAMPLE = 40
"""Largest number of pixels that represent a cell while places are compared."""
PLACES = 128
"""Places compared for a cell that lies by itself."""
RAYS = 8
"""Directions compared for a cell that joins others."""
STRIDE = 3
"""Pixels between the places compared along each of these directions."""
ATTEMPTS = 40
"""Number of successive cells without room after which the image counts as full."""
MODEL_DIAMETER = 48.0
"""Median diameter of the shapes of the parametric model, in pixels."""


@dataclass(frozen=True)
class Shape:
    """A cell's shape: `field` float32 (h, w), the distance in pixels to its smoothed outline, positive inside."""

    field: NDArray[np.float32]

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """Take the shape of a mask (h, w) of one cell; the smoothed outline encloses the same area."""
        padded = np.pad(mask, 4)
        (box,) = ndimage.find_objects(padded.view(np.int8))
        around = tuple(slice(part.start - 1, part.stop + 1) for part in box)  # nothing beyond is nearer to a cell
        distance = -ndimage.distance_transform_edt(~padded)
        distance[around] += ndimage.distance_transform_edt(padded[around])
        field = ndimage.gaussian_filter(distance, SMOOTH)
        outside = field.size - np.count_nonzero(mask)
        level = np.partition(field, [outside - 1, outside], axis=None)[outside - 1 : outside + 1].mean()
        return cls((field - level).astype(np.float32))

    def reach(self) -> float:
        """Half the diagonal of the field, in pixels."""
        return float(np.hypot(*self.field.shape)) / 2

    def draw(self, magnification: float, generator: np.random.Generator, variation: float = 1.0) -> NDArray[np.float32]:
        """Draw the shape magnified, turned, flipped, stretched by STRETCH along two axes and bent by BEND.

        `variation`, 0 to VARIATION, is a factor on how much it is stretched and bent.
        Returns the depth below the outline (h, w), in pixels of the original shape, cropped to its positive part.
        At a small magnification a thin part may become disconnected, or nothing may be left: (0, 0).
        """
        low, high = (1 + variation * (limit - 1) for limit in STRETCH)
        scale = magnification * generator.uniform(low, high, 2)
        scale[0] *= 1 - 2 * generator.integers(2)
        first, second = map(_rotation, generator.uniform(0, 2 * np.pi, 2))
        back = (first.T / scale) @ second.T
        half = np.array(self.field.shape) / 2
        extent = np.abs((second * scale) @ first) @ half
        wave, phase = generator.uniform(1, 2, 2) * extent.max(), generator.uniform(0, 2 * np.pi, 2)
        push = variation * BEND * extent.max() * np.clip(generator.standard_normal(2), -2, 2)
        reach = np.ceil(extent + np.abs(push)).astype(int)
        y, x = (np.arange(-n, n + 1) - shift for n, shift in zip(reach, generator.uniform(-0.5, 0.5, 2), strict=True))
        # each axis is moved along a sine wave of the other: invertible and nearly without change of area
        bent_y = y[:, None] + push[0] * np.sin(2 * np.pi * x / wave[0] + phase[0])
        bent_x = x + push[1] * np.sin(2 * np.pi * y / wave[1] + phase[1])[:, None]
        places = [a * bent_y + b * bent_x + middle for (a, b), middle in zip(back, half - 0.5, strict=True)]
        depth: NDArray[np.float32] = ndimage.map_coordinates(self.field, places, order=1, mode="constant", cval=-1.0)
        rows, columns = (np.flatnonzero((depth > 0).any(axis)) for axis in (1, 0))
        return depth[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else depth[:0, :0]


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def shapes_of(labels: NDArray[np.integer[Any]]) -> tuple[Shape, ...]:
    """Take the shapes of the cells of a label image (H, W) off its edge that have at least SMALLEST pixels.

    Only the largest connected piece of a cell is taken. Holes are filled.
    """
    shapes = []
    for cell, window in boxes(labels).items():
        if any(part.start == 0 or part.stop == length for part, length in zip(window, labels.shape, strict=True)):
            continue
        mask = ndimage.binary_fill_holes(largest_piece(labels[window] == cell))
        if np.count_nonzero(mask) >= SMALLEST:
            shapes.append(Shape.of(mask))
    return tuple(shapes)


def parametric_shapes(generator: np.random.Generator, count: int = 64) -> tuple[Shape, ...]:
    """Draw `count` shapes without data: ellipses, spread, elongated and star-like cells in turn.

    Their median diameter is MODEL_DIAMETER.
    """
    turn = np.arange(STEPS) * (2 * np.pi / STEPS)
    order = np.arange(2, 8)[:, None]
    shapes = []
    for number in range(count):
        # roughness of the outline and range of the stretch; the length is stretch squared times the width
        roughness, stretch = ((0.0, (1.0, 1.25)), (0.14, (1.0, 1.3)), (0.06, (1.4, 1.9)), (0.0, (0, 0)))[number % 4]
        if number % 4 == 3:
            mask = draw_outline(MODEL_DIAMETER, generator)
        else:
            strength = generator.normal(0, roughness, order.shape) / order**0.7
            wave = np.cos(order * turn + generator.uniform(0, 2 * np.pi, order.shape))
            radius = np.maximum(1 + (strength * wave).sum(axis=0), 0.25)
            radius *= MODEL_DIAMETER / 2 * np.exp(generator.normal(0, 0.2)) / np.sqrt(np.mean(radius**2))
            mask = fill_outline(radius, generator.uniform(*stretch), 0.0, 0.0, np.zeros(2))
        shapes.append(Shape.of(largest_piece(mask)))
    return tuple(shapes)


@dataclass(frozen=True)
class Simulation:
    """A simulated label image and its density."""

    labels: Labels
    """(H, W), 0 background, 1..N cells, each connected by pixel sides"""
    cells: int
    """number of cells"""
    coverage: float
    """share of the pixels that are cell"""


def lacks(density: float, cells: int, coverage: float) -> bool:
    """Return whether one more cell of mean size would come nearer to a density (coverage if below 1, else cells)."""
    if density >= 1:
        return cells < density
    return coverage * (1 + 0.5 / max(cells, 1)) < density


def simulate_labels(
    shapes: Sequence[Shape],
    size: tuple[int, int],
    generator: np.random.Generator,
    *,
    density: float,
    layout: Layout = "mixed",
    gap: int = 0,
    magnification: float = 1.0,
    touching: float = 0.5,
    variation: float = 1.0,
) -> Simulation:
    """Simulate a label image.

    Args:
        shapes: the shapes to draw from, at least one.
        size: height and width in pixels.
        generator: source of all random numbers.
        density: at least 0: the coverage (share of the pixels that are cell) if below 1, else the number of cells.
        layout: scattered: cells lie by themselves as long as there is room; colony: up to four packed colonies; mixed:
            groups and single cells, denser in some regions than in others.
        gap: smallest number of background pixels between two cells, along rows, columns and diagonals, at least 0; at
            0 cells may touch.
        magnification: ratio of lengths in the image to lengths in the shape, above 0.
        touching: share of the cells, 0 to 1, that touch others, or lie `gap` from them, where the layout is mixed.
        variation: how much shapes are stretched and bent, 0 to VARIATION; at 0 they are only turned and flipped.

    Returns:
        The labels and their density. It stays below the requested one if ATTEMPTS successive cells find no room.

    Raises:
        ValueError: for no shapes or a value outside the ranges above.
    """
    if not shapes or len(size) != 2 or min(size) < 1:
        raise ValueError(f"at least one shape and a size of two positive lengths are needed, got {len(shapes)}, {size}")
    if density < 0 or gap < 0 or magnification <= 0 or not 0 <= touching <= 1 or not 0 <= variation <= VARIATION:
        raise ValueError(f"out of range: {density=}, {gap=}, {magnification=}, {touching=}, {variation=}")
    enlarged = magnification * (1 + variation * (STRETCH[1] - 1)) * (1 + 2 * variation * BEND)
    margin = int(enlarged * max(shape.reach() for shape in shapes)) + gap + 3
    canvas = _Canvas(size, margin, gap, layout, touching, generator)
    while canvas.misses < ATTEMPTS and lacks(density, canvas.count, canvas.coverage()):
        shape = shapes[int(generator.integers(len(shapes)))]
        canvas.place(_Cell.of(shape.draw(magnification, generator, variation), canvas.owner.shape[1]))
    labels = np.ascontiguousarray(canvas.labels[canvas.frame])
    return Simulation(labels, canvas.count, canvas.coverage())


@dataclass(frozen=True)
class _Cell:
    """A cell to be placed: its mask (h, w) and its core, which is never covered."""

    mask: Mask
    core: Mask
    pixels: Points
    """offsets of its pixels from its centre in the flat image"""
    sample: Points
    """at most SAMPLE of them"""

    @classmethod
    def of(cls, depth: NDArray[np.float32], stride: int) -> Self:
        mask = depth > 0
        y, x = np.nonzero(mask)
        pixels = (y - depth.shape[0] // 2) * stride + x - depth.shape[1] // 2
        return cls(mask, depth > CORE * depth.max(initial=0), pixels, pixels[:: -(-pixels.size // SAMPLE) or 1])

    def reach(self) -> float:
        return float(np.hypot(*self.mask.shape)) / 2


class _Canvas:
    """The image with a margin on all sides, to which cells are added. Places are (y, x) of cell centres in the frame.

    `owner` is 0 where a pixel is free, -1 beyond the frame, and else the id of the cell that lies there or within the
    gap. `taken` is true where `owner` is the id of a cell.
    """

    def __init__(
        self,
        size: tuple[int, int],
        margin: int,
        gap: int,
        layout: Layout,
        touching: float,
        generator: np.random.Generator,
    ) -> None:
        self.size, self.margin, self.gap, self.layout, self.generator = size, margin, gap, layout, generator
        self.touching = {"scattered": 0.0, "colony": 1.0, "mixed": touching}[layout]
        self.frame = tuple(slice(margin, margin + length) for length in size)
        self.owner: Labels = np.full([length + 2 * margin for length in size], -1, np.int32)
        self.owner[self.frame] = 0
        self.taken: Mask = np.zeros(self.owner.shape, bool)
        self.labels: Labels = np.zeros_like(self.owner)
        self.count = self.pixels = self.misses = 0
        self.centres: list[Points] = []
        self.grouped: set[int] = set()
        """ids of the cells that lie against others"""
        self.regions = generator.random((generator.integers(1, 5), 2)) * size
        self.colonies: list[list[int]] = [[] for _ in self.regions]
        """ids of the cells of each colony, its first cell in front"""
        self.weights = generator.dirichlet(np.full(len(self.regions), 3.0))

    def coverage(self) -> float:
        return self.pixels / (self.size[0] * self.size[1])

    def place(self, cell: _Cell) -> None:
        """Place a cell as the layout requires; count a miss if there is no room."""
        colony = self.colonies[np.searchsorted(self.weights.cumsum()[:-1], self.generator.random())]
        members = colony if self.layout == "colony" else range(1, self.count + 1)
        joins = self.layout == "colony" or len(self.grouped) < self.touching * self.count
        if not cell.pixels.size:
            placed = False
        elif joins and members and self.misses < ATTEMPTS // 2:
            placed = self._join(cell, members)
        else:
            placed = self._put_apart(cell)
        self.misses = 0 if placed else self.misses + 1
        if placed:
            colony.append(self.count)

    def _put_apart(self, cell: _Cell) -> bool:
        """Place a cell by itself, or where the others cover least of it; return whether it was placed."""
        places = self._anywhere()
        best = places[np.argsort(self._covered(cell.sample, places), kind="stable")[:4]]
        return any(self._put(cell, place, most) for most in (0.0, 1 - LEAST) for place in best)

    def _anywhere(self) -> Points:
        """Draw up to PLACES places (K, 2): from the free pixels at a coverage above 0.4, else from the whole frame.

        In the mixed layout about half of the latter lie near the regions.
        """
        if self.coverage() > 0.4:
            free = np.flatnonzero(self.owner[self.frame] == 0)
            return np.stack(np.unravel_index(self.generator.choice(free, min(PLACES, free.size)), self.size), axis=1)
        places = self.generator.random((PLACES, 2)) * self.size
        if self.layout == "mixed":
            near = self.regions[self.generator.choice(len(self.weights), PLACES // 2, p=self.weights)]
            near = near + self.generator.normal(0, 0.15 * max(self.size), near.shape)
            inside = ((near >= 0) & (near < self.size)).all(axis=1)
            places[: PLACES // 2][inside] = near[inside]
            places = self.generator.permutation(places)
        return places.astype(np.intp)

    def _covered(self, pixels: Points, places: Points) -> NDArray[np.float64]:
        """Return the share of a cell's pixels that others cover at each of (K, 2) places: (K,), 1 outside the frame."""
        covered = np.ones(len(places))
        y, x = places.T
        inside = np.flatnonzero((y >= 0) & (x >= 0) & (y < self.size[0]) & (x < self.size[1]))
        flat = (y[inside] + self.margin) * self.taken.shape[1] + x[inside] + self.margin
        covered[inside] = np.count_nonzero(self.taken.ravel().take(flat[:, None] + pixels), axis=1) / pixels.size
        return covered

    def _join(self, cell: _Cell, members: Sequence[int]) -> bool:
        """Place a cell against others, near the first cell of a colony or any member of a group."""
        colony = self.layout == "colony"
        centre = self.centres[members[0 if colony else int(self.generator.integers(len(members)))] - 1]
        far = 3 * cell.reach()
        if colony:
            far += float(np.abs(np.array([self.centres[member - 1] for member in members]) - centre).max())
        angles = self.generator.uniform(0, 2 * np.pi, RAYS)
        ways = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        places = np.rint(centre + ways[:, None] * np.arange(0, far, STRIDE)[:, None]).astype(np.intp)
        fits = self._covered(cell.sample, places.reshape(-1, 2)).reshape(places.shape[:2]) <= CONTACT
        first = np.where(fits.any(axis=1), fits.argmax(axis=1), fits.shape[1])
        nearest = np.argsort(first, kind="stable")[: RAYS // 2]
        return any(
            self._slide(cell, centre, ways[ray], STRIDE * first[ray]) for ray in nearest if first[ray] < fits.shape[1]
        )

    def _slide(self, cell: _Cell, centre: Points, way: NDArray[np.float64], distance: int) -> bool:
        """Move a cell inwards along a ray, pixel by pixel, until others cover part of it, and place it there."""
        places = np.rint(centre + way * np.arange(distance + STRIDE, distance - STRIDE, -1)[:, None]).astype(np.intp)
        covered = self._covered(cell.pixels, places)
        meets = (covered > 0) & (covered <= 1 - LEAST)
        return bool(meets.any()) and self._put(cell, places[meets.argmax()], 1 - LEAST)

    def _put(self, cell: _Cell, place: Points, most: float) -> bool:
        """Place a cell if the others cover at most the share `most` of it, and nothing of its core."""
        top, left = place + self.margin - np.array(cell.mask.shape) // 2
        height, width = cell.mask.shape
        owner = self.owner[top : top + height, left : left + width]
        free = cell.mask & (owner == 0)
        seen = np.count_nonzero(cell.mask & (owner >= 0))
        covered = seen - np.count_nonzero(free)
        if covered > most * seen or (covered and (owner[cell.core] > 0).any()):
            return False
        kept = largest_piece(free)
        pixels = int(np.count_nonzero(kept))
        if pixels < LEAST * seen or not pixels:
            return False
        self.count += 1
        self.pixels += pixels
        self.centres.append(place)
        near, grown = self._around(kept, top, left, 1)
        others = near[grown & (near > 0)]
        if others.size:
            self.grouped.update([self.count, *others.tolist()])
        near, grown = self._around(kept, top, left, self.gap)
        near[grown & (near == 0)] = self.count
        gap = self.gap
        self.taken[top - gap : top + height + gap, left - gap : left + width + gap] = near > 0
        self.labels[top : top + height, left : left + width][kept] = self.count
        return True

    def _around(self, kept: Mask, top: int, left: int, by: int) -> tuple[Labels, Mask]:
        """Return the owners in a window enlarged by `by` pixels on all sides, and the cell grown by as many."""
        window = self.owner[top - by : top + kept.shape[0] + by, left - by : left + kept.shape[1] + by]
        return window, _grown(kept, by)


def _grown(mask: Mask, by: int) -> Mask:
    """Grow a mask (h, w) by a square of 2 * by + 1 pixels: (h + 2 * by, w + 2 * by)."""
    height, width = mask.shape
    tall = np.zeros((height + 2 * by, width), bool)
    wide = np.zeros((height + 2 * by, width + 2 * by), bool)
    for shift in range(2 * by + 1):  # faster than a scipy filter for a few pixels
        tall[shift : shift + height] |= mask
    for shift in range(2 * by + 1):
        wide[:, shift : shift + width] |= tall
    return wide
