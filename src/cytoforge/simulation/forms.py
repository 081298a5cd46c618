"""Label images of many kinds of cells, drawn without data: adherent, spread, elongated, round, nuclei, yeast, bacteria,
epithelium.

A cell is a level: a field that is 0 at its centre and 1 on its outline. Cells are laid out on a plane that is larger
than the frame, pushed apart until they overlap no more than their kind does, and painted. A pixel that several cells
cover belongs to the one whose level is lowest there, so cells that press on one another share a smooth border.
"""

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from cytoforge.cells.labels import boxes
from cytoforge.simulation.phantom import (
    GAP,
    STEPS,
    Field,
    Labels,
    crop_patch,
    largest_piece,
    outline_level,
    random_outline,
)

Form = Literal["adherent", "spread", "elongated", "round", "nuclei", "yeast", "bacteria", "epithelium"]
Rod = tuple[Field, float, float, float]
"""Centre (y, x) of a long cell in px, its direction in radians, its length relative to the usual one, and its bend:
half the curvature of its axis, per px."""

DIAMETERS = (8.0, 60.0)
"""Range of the median diameter, in pixels."""
SMALLEST = 15
"""Smallest number of pixels of a cell that the frame does not cut."""
MARGIN = 1.6
"""Width of the plane beyond the frame, in diameters: cells reach in from outside."""
PUSHES = 25
"""Steps in which cells are pushed apart."""
HIDDEN = 0.45
"""A cell of which others leave less than this share is left out."""
TURN = np.arange(STEPS) * (2 * np.pi / STEPS)


def draw_cells(form: Form, shape: tuple[int, int], diameter: float, generator: np.random.Generator) -> Labels:
    """Draw a label image of one kind of cells.

    Density, clustering, spread of sizes and gaps between neighbours are drawn anew at each call, widely: a scene may
    hold no cell at all or be full.

    Args:
        form: the kind of cells.
        shape: height and width in pixels.
        diameter: median diameter of the circle of equal area, in pixels, 8 to 60. It holds over many scenes; the median
            of a single scene varies.
        generator: source of all random numbers.

    Returns:
        Labels int32 (H, W): 0 background, 1..N cells, each connected by pixel sides. Cells that the frame cuts may be
        as small as a pixel, others have at least SMALLEST pixels.

    Raises:
        ValueError: for a value outside the ranges above.
    """
    if form not in _PAINTERS:
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be two positive lengths in pixels, got {shape}")
    if not DIAMETERS[0] <= diameter <= DIAMETERS[1]:
        raise ValueError(f"diameter must be {DIAMETERS[0]:g} to {DIAMETERS[1]:g} px, got {diameter}")
    plane = _Plane(shape, diameter, generator)
    _PAINTERS[form](plane)
    return plane.labels_in_frame()


class _Plane:
    """The frame and a margin about it, on which cells are laid out and painted."""

    def __init__(self, frame: tuple[int, int], diameter: float, generator: np.random.Generator) -> None:
        self.frame, self.diameter, self.generator = frame, diameter, generator
        self.margin = int(np.ceil(MARGIN * diameter))
        self.shape = (frame[0] + 2 * self.margin, frame[1] + 2 * self.margin)
        self.labels: Labels = np.zeros(self.shape, np.int32)
        self.level: Field = np.full(self.shape, np.inf)
        self.areas = [0]

    def paint(self, centre: Field, level: Field, free: float = 0.0, always: bool = False) -> None:
        """Paint the cell `level` (S, S), S odd, about a centre (y, x), if the share `free` of it lies on background.

        Unless it is to stay `always`, it is left out in the end where others cover too much of it.
        """
        frame, part = crop_patch((round(centre[0]), round(centre[1])), level.shape, self.shape)
        if any(span.start >= span.stop for span in frame):
            return
        level = level[part]
        inside = level <= 1
        covered = int(np.count_nonzero(inside))
        if free and np.count_nonzero(inside & (self.labels[frame] == 0)) < free * covered:
            return
        won = inside & (level < self.level[frame])
        self.labels[frame][won] = len(self.areas)
        self.level[frame][won] = level[won]
        self.areas.append(0 if always else covered)

    def labels_in_frame(self) -> Labels:
        """Return the labels (H, W) of the frame, without hidden cells, torn-off pieces, and cells below SMALLEST."""
        areas = np.bincount(self.labels.ravel(), minlength=len(self.areas))
        hidden = areas < HIDDEN * np.array(self.areas)
        inner = tuple(slice(self.margin, self.margin + length) for length in self.frame)
        labels = np.where(hidden[self.labels[inner]], 0, self.labels[inner])
        found: Labels = np.zeros(self.frame, np.int32)
        count = 0
        for number, window in boxes(labels).items():
            cell = largest_piece(labels[window] == number)
            cut = any(
                (s.start == 0 and cell.take(0, axis).any()) or (s.stop == n and cell.take(-1, axis).any())
                for axis, (s, n) in enumerate(zip(window, self.frame, strict=True))
            )
            if cut or np.count_nonzero(cell) >= SMALLEST:
                count += 1
                found[window][cell] = count
        return found

    def separate(self, gap: int) -> None:
        """Clear the pixels between cells that touch: a border 0, 1 or 2 px wide."""
        if gap == 0:
            return
        size = 2 if gap == 1 else 3
        highest = ndimage.maximum_filter(self.labels, size)
        lowest = ndimage.minimum_filter(np.where(self.labels > 0, self.labels, np.iinfo(np.int32).max), size)
        self.labels[(self.labels > 0) & (highest != lowest)] = 0

    def scatter(self, *, spread: float, room: float, densest: float) -> Iterator[tuple[Field, float]]:
        """Lay out cells in a random pattern; yield the centre (y, x) and the radius of each, in pixels.

        `spread` is the standard deviation of the logarithm of the radius, `room` the distance of neighbours relative to
        the sum of their radii, `densest` the highest local share of the plane that is cell.
        """
        density = self.density(densest)
        count = self.generator.poisson(density.sum() / self.mean_area(spread))
        places = self.generator.choice(density.size, count, p=(density / density.sum()).ravel())
        points = np.stack(np.unravel_index(places, self.shape), axis=1) + self.generator.uniform(-0.5, 0.5, (count, 2))
        radii = self.radii(count, spread)
        yield from zip(_push_apart(points, room * radii, PUSHES), radii.tolist(), strict=True)

    def radii(self, count: int, spread: float) -> Field:
        """Draw radii (count,) in pixels, the logarithm of which has the standard deviation `spread`."""
        return self.diameter / 2 * np.exp(spread * np.clip(self.generator.standard_normal(count), -2.2, 2.2))

    def mean_area(self, spread: float) -> float:
        """Return the mean area of discs of such radii, in pixels."""
        return float(np.pi / 4 * self.diameter**2 * np.exp(2 * spread**2))

    def density(self, densest: float) -> Field:
        """Draw the local share of the plane (H, W) that is cell: even or patchy, sparse or dense, at most `densest`."""
        generator = self.generator
        kind = generator.random()
        if kind < 0.2:
            mean = np.exp(generator.uniform(np.log(0.01), np.log(0.1)))
        else:
            mean = generator.uniform(0.1, densest) if kind < 0.8 else densest
        contrast = generator.choice([0.0, 1.0, 3.0])
        weight = np.exp(contrast * self.smooth(self.diameter * generator.uniform(0.8, 4)))
        density: Field = np.clip(mean * weight / weight.mean(), 1e-6, densest)
        return density

    def smooth(self, scale: float) -> Field:
        """Draw smooth noise (H, W) of mean 0 and standard deviation 1 that varies over `scale` pixels."""
        step = max(1, int(scale / 3))
        coarse = self.generator.standard_normal([length // step + 5 for length in self.shape])
        coarse = ndimage.gaussian_filter(coarse, scale / step) * (2 * np.sqrt(np.pi) * scale / step)
        fine: Field = ndimage.zoom(coarse, step, order=1)[: self.shape[0], : self.shape[1]] if step > 1 else coarse
        return fine[: self.shape[0], : self.shape[1]]


def _push_apart(points: Field, radii: Field, steps: int) -> Field:
    """Move discs (N, 2) of given radii (N,) away from those that they overlap."""
    if len(points) < 2:
        return points
    for _ in range(steps):
        pairs = cKDTree(points).query_pairs(2 * radii.max(), output_type="ndarray")
        one, other = pairs[:, 0], pairs[:, 1]
        apart = points[one] - points[other]
        distance = np.hypot(apart[:, 0], apart[:, 1]) + 1e-6
        overlap = radii[one] + radii[other] - distance
        near = overlap > 0
        move = 0.5 * (overlap / distance)[near, None] * apart[near]
        push = [
            np.bincount(one[near], move[:, axis], len(points)) - np.bincount(other[near], move[:, axis], len(points))
            for axis in (0, 1)
        ]
        points = points + 0.7 * np.stack(push, axis=1)
    return points


def _blob(
    radius: float, generator: np.random.Generator, *, rough: float = 0.0, stretch: float = 1.0, bend: float = 0.0
) -> Field:
    """Return the level of a smooth cell of a given equal-area radius: an ellipse, wavy by `rough`, bent by `bend`."""
    order = np.arange(2, 6)[:, None]
    strength = generator.normal(0, rough, order.shape) / order**0.8
    wave = 1 + (strength * np.cos(order * TURN + generator.uniform(0, 2 * np.pi, order.shape))).sum(axis=0)
    return _level(wave, radius, generator, stretch, bend / (2 * radius))


def _level(
    curve: Field,
    radius: float,
    generator: np.random.Generator,
    stretch: float = 1.0,
    bend: float = 0.0,
    angle: float | None = None,
) -> Field:
    """Return the level of a curve (STEPS,) brought to a given equal-area radius, turned and shifted at random."""
    curve = np.maximum(curve, 0.2)
    curve = curve * (radius / np.sqrt(np.mean(curve**2)))
    angle = generator.uniform(0, 2 * np.pi) if angle is None else angle
    return outline_level(curve, stretch, bend, angle, generator.uniform(-0.5, 0.5, 2))


def _on_top(level: Field) -> Field:
    """Return the level of a cell that loses hardly a pixel to others, as rounded cells lie on top of flat ones."""
    return np.where(level <= 1, level / 9, level)


def _polygon(generator: np.random.Generator, ruffle: float) -> Field:
    """Return the radius (STEPS,) of a spread cell: corners joined by concave or bulging edges, some ruffled."""
    corners = int(generator.integers(3, 8))
    at = np.sort((np.arange(corners) + generator.uniform(0, 0.66, corners)) / corners) * STEPS
    far = np.exp(generator.normal(0, 0.25, corners))
    edge = np.searchsorted(at, np.arange(STEPS)) % corners
    first, last = at[edge - 1], at[edge]
    span = (last - first) % STEPS * (2 * np.pi / STEPS)
    ahead = (np.arange(STEPS) - first) % STEPS * (2 * np.pi / STEPS)
    angle = np.minimum(span, 2.6)
    ahead = ahead * angle / span
    line = np.sin(angle) / (np.sin(angle - ahead) / far[edge - 1] + np.sin(ahead) / far[edge])
    bulge = generator.choice([-0.25, 0.0, 0.25, 0.6], corners) * generator.uniform(0.3, 1, corners)
    arc = line * (1 + bulge[edge] * np.maximum(np.sin(np.pi * ahead / angle), 0) ** 0.7)
    order = np.arange(8, 40)[:, None]
    wave = np.cos(order * TURN + generator.uniform(0, 2 * np.pi, order.shape))
    ruffled = (generator.random(corners) < 0.5)[edge]
    smooth = ndimage.gaussian_filter1d(arc, generator.uniform(3, 10), mode="wrap")
    strength = ndimage.gaussian_filter1d(ruffled * ruffle, 6, mode="wrap")
    curve: Field = smooth * (1 + strength * (generator.normal(0, 1, order.shape) / order**0.5 * wave).sum(axis=0))
    return curve


def _adherent(plane: _Plane) -> None:
    generator = plane.generator
    mitotic = generator.choice([0.0, 0.05, 0.2])
    compact = generator.uniform(0, 0.7)
    room, swell = generator.uniform(0.85, 1.2), generator.uniform(1, 1.15)
    for centre, radius in plane.scatter(spread=generator.uniform(0, 0.2), room=room, densest=0.8):
        rounded = generator.random() < mitotic
        curve, stretch, bend, angle, shift = random_outline(2 * radius * (1 if rounded else swell), generator, rounded)
        mean = np.sqrt(np.mean(curve**2))
        level = outline_level(mean * (curve / mean) ** (1 - compact), stretch, bend, angle, shift)
        plane.paint(centre, _on_top(level) if rounded else level)


def _spread(plane: _Plane) -> None:
    generator = plane.generator
    mitotic, ruffle = generator.choice([0.0, 0.05, 0.15]), generator.uniform(0, 0.03)
    room, swell = generator.uniform(0.8, 1.1), generator.uniform(1, 1.4)
    for centre, radius in plane.scatter(spread=generator.uniform(0.1, 0.45), room=room, densest=1.0):
        if generator.random() < mitotic:
            plane.paint(centre, _on_top(_blob(0.3 * plane.diameter, generator, rough=0.02)))
        else:
            stretch = np.exp(abs(generator.normal(0, 0.15)))
            plane.paint(centre, _level(_polygon(generator, ruffle), swell * radius, generator, stretch))


def _round(plane: _Plane) -> None:
    generator = plane.generator
    rough, oval = generator.uniform(0, 0.04), generator.uniform(0, 0.08)
    room = generator.uniform(0.92, 1.15)
    for centre, radius in plane.scatter(spread=generator.uniform(0.03, 0.25), room=room, densest=0.85):
        plane.paint(centre, _blob(radius, generator, rough=rough, stretch=1 + abs(generator.normal(0, oval))))


def _nuclei(plane: _Plane) -> None:
    generator = plane.generator
    rough, oval = generator.uniform(0, 0.12), generator.uniform(0.05, 0.3)
    bent, lobed, small = generator.uniform(0, 0.5), generator.choice([0, 0, 0.15]), generator.choice([0, 0, 0.25])
    room = generator.uniform(0.8, 1.25)
    for centre, radius in plane.scatter(spread=generator.uniform(0.05, 0.3), room=room, densest=0.9):
        if generator.random() < 0.02:
            for _ in range(generator.integers(3, 9)):
                away = generator.normal(0, 0.5 * radius, 2)
                plane.paint(centre + away, _blob(radius * generator.uniform(0.15, 0.35), generator, rough=0.05))
            continue
        size = radius * (0.6 if generator.random() < small else 1)
        wavy = 0.3 if generator.random() < lobed else rough
        stretch = np.exp(abs(generator.normal(0, oval)))
        plane.paint(centre, _blob(size, generator, rough=wavy, stretch=stretch, bend=generator.normal(0, bent)))


def _yeast(plane: _Plane) -> None:
    generator = plane.generator
    budding, oval = generator.uniform(0.05, 0.6), generator.uniform(0.02, 0.25)
    room = generator.uniform(0.92, 1.1)
    for centre, radius in plane.scatter(spread=generator.uniform(0.05, 0.2), room=room, densest=0.85):
        stretch = np.exp(abs(generator.normal(0, oval)) / 2)
        angle = generator.uniform(0, 2 * np.pi)
        plane.paint(centre, _level(np.ones(STEPS), radius, generator, stretch, angle=angle))
        if generator.random() < budding:
            bud = radius * generator.uniform(0.3, 0.85)
            away = (stretch * radius + 0.93 * bud) * np.array([np.sin(angle), np.cos(angle)])
            plane.paint(centre + away, _blob(bud, generator, stretch=1.06), free=0.75)


def _rod(length: float, width: float, bend: float, wave: float, angle: float, generator: np.random.Generator) -> Field:
    """Return the level of a rod with round caps, of full length and width in pixels, bent and wavy.

    `bend` is the rise of the ends and `wave` that of a wave along the rod, both relative to half the length.
    """
    half = length / 2
    reach = int(np.ceil(half * np.hypot(1, abs(bend) + abs(wave)) + width)) + GAP
    along, across = _axes(reach, angle, generator)
    number, phase = 2 * np.pi / (length * generator.uniform(1, 2.5)), generator.uniform(0, 2 * np.pi)
    across = across - bend * along**2 / half - wave * half * np.sin(number * along + phase)
    slope = 2 * bend * along / half + wave * half * number * np.cos(number * along + phase)
    beyond = np.maximum(np.abs(along) - (half - width / 2), 0)
    level: Field = (across**2 / (1 + slope**2) + beyond**2) / (width / 2) ** 2
    return level


def _axes(reach: int, angle: float, generator: np.random.Generator) -> tuple[Field, Field]:
    """Return the coordinates (S, S) of pixels along and across a direction, from a centre shifted at random."""
    grid = np.arange(-reach, reach + 1)
    shift = generator.uniform(-0.5, 0.5, 2)
    y, x = grid[:, None] - shift[0], grid - shift[1]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _sheaf(cells: int, length: float, width: float, loose: float, generator: np.random.Generator) -> Iterator[Rod]:
    """Lay long cells side by side in bent rows about the origin; yield each, from the middle of the sheaf outwards."""
    across = min(max(1, round(np.sqrt(cells * length / width) * generator.uniform(0.4, 1.2))), cells)
    angle, bend = generator.uniform(0, np.pi), generator.normal(0, 0.5)
    reach = 0.5 * cells / across * length * 1.27
    height = max(0.5 * across, 0.5)
    axis, normal = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    rods: list[tuple[float, float, float]] = []
    for row in range(across):
        v = row - (across - 1) / 2
        half = max(reach * np.sqrt(max(1 - (v / height) ** 2, 0)), 0.5 * length)
        sizes = generator.uniform(0.65, 1.35, int(2 * half / length) + 3) * length
        ends = np.cumsum(sizes + loose * width * generator.random(len(sizes))) - half - generator.random() * length
        rods += [
            (end - size / 2, v * width * (1 + 0.3 * loose), size / length)
            for end, size in zip(ends, sizes, strict=True)
            if abs(end - size / 2) <= half
        ]
    curve = bend / max(reach, width * height, 3 * length)
    for u, v, size in sorted(rods, key=lambda rod: rod[0] ** 2 + rod[1] ** 2)[:cells]:
        turned = np.arctan(2 * curve * u) + generator.normal(0, 0.04 + 0.15 * loose)
        u, v = u - v * 2 * curve * u / np.hypot(1, 2 * curve * u), v + curve * u**2
        yield u * axis + v * normal, angle + turned, size, curve


def _sheaves(plane: _Plane, length: float, width: float, loose: float) -> Iterator[Rod]:
    """Lay out long cells in sheaves of random size, alone, in chains or packed; yield each until there is no room."""
    generator = plane.generator
    density = plane.density(0.95)
    usual = generator.choice([1, 4, 20, 80, 300])
    wanted = density.sum()
    sheaves = int(np.ceil(3 * wanted / (usual * length * width)))
    for place in generator.choice(density.size, sheaves, p=(density / density.sum()).ravel()):
        centre = np.unravel_index(place, plane.shape)
        if sum(plane.areas) >= wanted:
            return
        if plane.labels[centre] == 0:
            cells = max(1, int(generator.exponential(usual)))
            for away, angle, size, bend in _sheaf(cells, length, width, loose, generator):
                yield np.array(centre) + away, angle, size, bend


def _bacteria(plane: _Plane) -> None:
    generator = plane.generator
    aspect = generator.uniform(2.3, 7.0)
    width = plane.diameter * np.sqrt(np.pi / 4 / (aspect - 1 + np.pi / 4))
    bent, wavy = generator.choice([0, 0.03, 0.15]), generator.choice([0, 0, 0, 0.12])
    loose = generator.choice([0.0, 0.0, 0.1, 0.4])
    for centre, angle, size, bend in _sheaves(plane, aspect * width, width, loose):
        length = size * aspect * width
        rise, wave = bend * length / 2 + generator.normal(0, bent), wavy * generator.normal(0, 1)
        plane.paint(centre, _rod(length, width, rise, wave, angle, generator), free=0.8)


def _elongated(plane: _Plane) -> None:
    generator = plane.generator
    if generator.random() < 0.25:
        room = generator.uniform(1.1, 1.6)
        for centre, radius in plane.scatter(spread=generator.uniform(0.05, 0.25), room=room, densest=0.5):
            plane.paint(centre, _neuron(radius, generator))
        return
    aspect = np.exp(generator.uniform(np.log(2), np.log(8)))
    width = plane.diameter / np.sqrt(aspect)
    bent, spread = generator.uniform(0.05, 0.3), generator.uniform(0.1, 0.35)
    free, loose = generator.uniform(0.5, 0.8), generator.uniform(0, 1.5)
    for centre, angle, size, _ in _sheaves(plane, aspect * width, width, loose):
        area = np.pi / 4 * plane.diameter**2 * np.exp(2 * spread * generator.standard_normal())
        length = max(size * aspect * width * generator.uniform(0.8, 1.25), 1.5 * np.sqrt(area))
        plane.paint(centre, _spindle(length, area, generator.normal(0, bent), angle, generator), free=free)


def _neuron(radius: float, generator: np.random.Generator) -> Field:
    """Return the level of a soma with one to four thin processes that wind outwards, of a given equal-area radius."""
    soma = _blob(0.87 * radius, generator, rough=0.08, stretch=np.exp(abs(generator.normal(0, 0.25))))
    reach = max(int(np.ceil(6 * radius)) + GAP, len(soma) // 2)
    level = np.pad(soma, reach - len(soma) // 2, constant_values=np.inf)
    for _ in range(generator.integers(1, 5)):
        steps = int(radius * generator.uniform(1.8, 5))
        heading = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, 0.5 / np.sqrt(radius), steps))
        y, x = (reach + np.rint(np.cumsum(part(heading))).astype(int) for part in (np.sin, np.cos))
        thick = int(1.6 * radius)
        for row, column, until in ((0, 0, steps), (0, 1, steps), (1, 0, steps), (1, 1, steps), (-1, 0, thick)):
            trace = y[:until] + row, x[:until] + column
            level[trace] = np.minimum(level[trace], 0.5)
    return level


def _spindle(length: float, area: float, bend: float, angle: float, generator: np.random.Generator) -> Field:
    """Return the level of a spindle of given length and area in pixels, with one bulge and thin, wavy processes."""
    half = length / 2
    place = np.linspace(-1, 1, 65)
    narrow, middle = generator.uniform(1.2, 5, (2, 1)), generator.uniform(-0.5, 0.5, (2, 1))
    bulges = np.exp(-narrow * np.abs(place - middle) ** 2.2)
    ends = 1 - np.abs(place) ** generator.uniform(2, 8)
    # half widths on either side of the axis
    sides = ends * (generator.uniform(0.05, 0.5) + generator.uniform(0.5, 1, (2, 1)) * bulges)
    sides = np.maximum(sides * (area / 2 / (length * sides.mean())), 0.8)
    wave, phase = np.pi * generator.uniform(1, 2), generator.uniform(0, 2 * np.pi)
    rise = bend * (place**2 - 1 / 3) + generator.normal(0, 0.05) * np.sin(wave * place + phase)
    reach = int(np.ceil(half * np.hypot(1, np.abs(rise).max()) + sides.max())) + GAP
    along, across = _axes(reach, angle, generator)
    across = across - np.interp(along, half * place, half * rise)
    upper, lower = (np.interp(along, half * place, side * np.hypot(1, np.gradient(rise, place))) for side in sides)
    level: Field = (across / np.where(across > 0, upper, lower)) ** 2
    level[np.abs(along) > half] = np.inf
    return level


def _epithelium(plane: _Plane) -> None:
    generator = plane.generator
    islands = generator.random() < 0.3
    spread = generator.uniform(0.05, 0.5)
    count = int(np.ceil(plane.labels.size / plane.mean_area(spread)))
    angle, stretch = generator.uniform(0, np.pi), np.exp(abs(generator.normal(0, 0.2)))
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    metric = axes.T @ np.diag([stretch, 1 / stretch]) @ axes
    points = generator.uniform(0, 1, (count, 2)) * plane.shape
    radii = plane.radii(count, spread)
    points = _push_apart(points @ metric, 0.97 * radii, int(generator.integers(8, PUSHES))) @ np.linalg.inv(metric)
    if islands:
        field = plane.smooth(plane.diameter * generator.uniform(1.5, 4)) - generator.normal(0, 0.7)
        y, x = (np.clip(np.rint(p).astype(int), 0, n - 1) for p, n in zip(points.T, plane.shape, strict=True))
        kept = field[y, x] > 0
        points, radii = points[kept], radii[kept]
    wobble = plane.diameter * generator.uniform(0, 0.1)
    warp = np.stack([wobble * plane.smooth(plane.diameter * generator.uniform(0.3, 0.8)) for _ in range(2)])
    reach = 1.12 if islands else 2.2
    limit = (reach * radii.max(initial=1.0)) ** 2
    for point, radius in zip(points, radii, strict=True):
        side = int(np.ceil(reach * radius * stretch + 2 * wobble)) + GAP
        centre = round(point[0]), round(point[1])
        frame, part = crop_patch(centre, (2 * side + 1, 2 * side + 1), plane.shape)
        if any(span.start >= span.stop for span in frame):
            continue
        y = np.arange(frame[0].start, frame[0].stop)[:, None] + warp[0][frame] - point[0]
        x = np.arange(frame[1].start, frame[1].stop) + warp[1][frame] - point[1]
        level = np.full((2 * side + 1, 2 * side + 1), np.inf)
        # power distance: borders are straight before the plane is warped
        power = (metric[0, 0] * y + metric[0, 1] * x) ** 2 + (metric[1, 0] * y + metric[1, 1] * x) ** 2 - radius**2
        level[part] = np.where(power <= (reach**2 - 1) * radius**2, power / limit, np.inf)
        plane.paint(point, level, always=True)
    plane.separate(int(generator.integers(3 if plane.diameter >= 16 else 2)))


_PAINTERS: dict[str, Callable[[_Plane], None]] = {
    "adherent": _adherent,
    "spread": _spread,
    "elongated": _elongated,
    "round": _round,
    "nuclei": _nuclei,
    "yeast": _yeast,
    "bacteria": _bacteria,
    "epithelium": _epithelium,
}
