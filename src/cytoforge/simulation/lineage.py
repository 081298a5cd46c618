"""Movies of simulated cells: label images, tracks, divisions and the displacement of every pixel.

The first frame is put together as single masks are, on a field larger than the frame. From then on cells walk (a
persistent random walk), push each other apart, grow, change their form, round up and divide, and die. Those that cross
the edge of the frame leave and enter by themselves, as the field goes on beyond it; its walls reflect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cytoforge.simulation.bodies import DISC, RADIUS, Body, Form, Pose, displacement, share_pixels
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.masks import Layout, Shape, lacks, simulate_labels

Labels = NDArray[np.int32]
Point = NDArray[np.float64]
Row = tuple[int, int, int, int]

RAYLEIGH = float(np.sqrt(2 * np.log(2)))
"""Median length of a vector whose two components are normal with standard deviation 1."""
FORMS = 96
"""Forms drawn for a movie, between which cells change."""
BORDER = 2.0
"""Median diameters that the field goes on beyond the frame on each side."""
ROUNDING, SPREADING, DYING = 3, 4, 4
"""Frames in which a cell rounds up to divide, a daughter spreads again, and a dying cell shrinks."""
CONDENSED = 0.6
"""Area of a rounded cell by that of the same cell spread out."""
CLEAVAGE = 1.25
"""Stretch of a mother in her last frame, along the axis of her division."""
DIVERGENCE, FADING = 0.15, 0.8
"""What sisters drift apart by in their first frame, in shown diameters, and what of it is left with each frame."""
REGULARITY = 0.12
"""Standard deviation of the logarithm of the time between divisions."""
SPIN = 0.06
"""Standard deviation of a cell's turn a frame, radians."""
ROUNDS, YIELD = 6, 0.35
"""Rounds in which cells push each other apart a frame, and the share of an overlap that goes with each."""
PUSH = 0.12
"""Most that a cell is pushed in a round, in median diameters."""
SOFT = 0.9
"""Size of the bodies that push by those drawn, where cells may touch: they lie against each other, and give way."""
COHESION = 0.8
"""Pull towards neighbours that cells of a colony walk with, by their speed."""
CROWDED, CRUSHED = 0.85, 0.35
"""A cell with less than this share of its pixels left by others does not grow; dies."""
FULL = 0.7
"""Coverage of the field from which no cell divides."""
SEEN = 0.05
"""Least share of a cell that must be in the frame to be labelled."""


@dataclass(frozen=True)
class Lineage:
    """A simulated movie."""

    labels: Labels
    """(T, H, W), 0 background; a cell has one label as long as it is seen without a break"""
    tracks: tuple[Row, ...]
    """label, first frame, last frame, mother's label or 0; both daughters begin the frame after the mother's last"""
    poses: tuple[Mapping[int, Pose], ...]
    """by frame and label, where the cell lies; of tracks that have ended just now, too"""
    lacking: bool
    """whether there was no room for the density asked for"""
    coverage: float
    """of the first frame"""
    field: tuple[int, int] = field(default=(0, 0))
    """height and width on which the cells live; the frame is its middle"""

    def divisions(self) -> dict[int, tuple[int, int]]:
        """Daughters by mother."""
        kin: dict[int, list[int]] = {}
        for label, _, _, parent in self.tracks:
            if parent:
                kin.setdefault(parent, []).append(label)
        return {mother: (one, two) for mother, (one, two) in kin.items()}

    def flow(self, frame: int) -> NDArray[np.float32]:
        """Displacement (2, H, W) of every pixel from a frame to the next, see `bodies.displacement`.

        Raises ValueError for the last frame.
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
) -> Lineage:
    """Simulate a movie.

    Args:
        shapes: the shapes to draw from, at least one.
        size: height and width in pixels.
        frames: number of frames, at least 1.
        generator: source of all random numbers.
        density: of the first frame: below 1 the coverage, from 1 on the number of cells.
        dynamics: how cells move, grow and divide.
        layout: scattered: cells keep apart; colony: they lie in packed colonies and hold together; mixed: those that
            begin in groups hold together.
        magnification: length in the movie by length in the shapes.
        touching: share of the cells, 0 to 1, that begin in groups where the layout is mixed.

    Raises:
        ValueError: for fewer than one frame, or as `simulate_labels`.
    """
    if frames < 1:
        raise ValueError(f"a movie has at least one frame, got {frames}")
    dish = Dish(shapes, size, generator, density, dynamics or Dynamics(), layout, magnification, touching)
    labels = np.zeros((frames, *size), np.int32)
    book = _Book()
    poses = []
    for frame in range(frames):
        if frame:
            dish.step()
        numbers, counts = share_pixels([cell.body() for cell in dish.cells], size)
        labels[frame] = book.enter(frame, dish, counts)[numbers]
        poses.append({cell.label or cell.former: cell.pose for cell in dish.cells if cell.label or cell.former})
    coverage = float(np.count_nonzero(labels[0])) / labels[0].size
    return Lineage(labels, book.rows(), tuple(poses), dish.lacking, coverage, dish.size)


@dataclass(eq=False)
class Cell:
    """A cell on the field; places are (row, column) of the frame."""

    pose: Pose
    velocity: Point
    pace: float
    """standard deviation of either component of the velocity, pixels a frame"""
    form: Form
    target: Form
    cohesive: bool
    area: float
    """when spread out, pixels"""
    most: float
    """area at which growth ends"""
    due: float
    """frames until it divides"""
    mixture: float = 0.0
    roundness: float = 0.0
    condensed: float = 0.0
    """0 spread out, 1 as small as when rounded"""
    drift: Point = field(default_factory=lambda: np.zeros(2))
    """what parts it from its sister, pixels a frame"""
    crowding: float = 1.0
    """share of its pixels that others left it"""
    dying: int = 0
    """frames that it has been dying for"""
    label: int = 0
    """in the frame at hand, 0 where it is not seen"""
    former: int = 0
    """label in the frame before, if it is not seen any more"""
    mother: "Cell | None" = None
    """until its first frame"""

    def body(self) -> Body:
        """What is drawn."""
        return Body(self.form, self.target, self.mixture, self.roundness, self.pose)

    def shown_area(self) -> float:
        """Area in pixels as it is now, rounded up or dying."""
        left = max(1 - self.dying / (DYING + 1), 0.05)
        return self.area * left * (1 - (1 - CONDENSED) * self.condensed)


class Dish:
    """The field while time goes on."""

    def __init__(
        self,
        shapes: Sequence[Shape],
        size: tuple[int, int],
        generator: np.random.Generator,
        density: float,
        dynamics: Dynamics,
        layout: Layout,
        magnification: float,
        touching: float,
    ) -> None:
        self.frame, self.generator, self.dynamics, self.layout = size, generator, dynamics, layout
        areas = [np.count_nonzero(shape.field > 0) for shape in shapes]
        self.diameter = 2 * RADIUS * magnification * float(np.sqrt(np.median(areas))) if areas else 1.0
        self.border = int(np.ceil(BORDER * self.diameter))
        self.size = (size[0] + 2 * self.border, size[1] + 2 * self.border)
        gap = 2 if layout == "scattered" else 0
        wanted = density if density < 1 else density * self.size[0] * self.size[1] / (size[0] * size[1])
        start = simulate_labels(
            shapes,
            self.size,
            generator,
            density=wanted,
            layout=layout,
            gap=gap,
            magnification=magnification,
            touching=touching,
        )
        self.lacking = lacks(wanted, start.cells, start.coverage)
        drawn = [shapes[int(generator.integers(len(shapes)))].draw(magnification, generator) for _ in range(FORMS)]
        self.forms = [Form.of(depth)[0] for depth in drawn if (depth > 0).any()] or [DISC]
        self.reach = SOFT if gap == 0 else 1.0
        self.gap = float(gap)
        self.cells = self._settle(start.labels)

    def _settle(self, labels: Labels) -> list[Cell]:
        """Take the cells of the first label image of the field, each at a random time between two divisions."""
        cells = []
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            form, pose = Form.of(Shape.of(labels[box] == number).field)
            window = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
            alone = np.isin(labels[window], (0, number)).all()
            corner = np.array([part.start for part in box]) - 4  # Shape.of adds four pixels
            pose = replace(pose, centre=pose.centre + corner - self.border)
            area, phase = pose.length**2, self._phase()
            cells.append(
                Cell(
                    pose=pose,
                    velocity=np.zeros(2),
                    pace=self._pace(),
                    form=form,
                    target=self._form(),
                    cohesive=self.layout == "colony" or (self.layout == "mixed" and not alone),
                    area=area,
                    most=area * 2 ** (1 - phase),
                    due=self._cycle() * (1 - phase) + 1,
                )
            )
            cells[-1].velocity = cells[-1].pace * self.generator.standard_normal(2)
        return cells

    def _phase(self) -> float:
        """Time since the last division by that between two, in a population that grows steadily: more young than old.

        The density is proportional to 2 ** -phase (Powell, J. Gen. Microbiol. 15, 1956).
        """
        return float(1 - np.log2(1 + self.generator.random()))

    def _pace(self) -> float:
        speed = self.dynamics.speed * np.exp(self.dynamics.spread * self.generator.standard_normal())
        return float(speed * self.diameter / RAYLEIGH)

    def _cycle(self) -> float:
        """Frames between two divisions: with one every T frames a population grows by ln 2 / T a frame."""
        if not self.dynamics.division_rate:
            return np.inf
        factor = np.exp(REGULARITY * self.generator.standard_normal())
        return float(max(np.log(2) / self.dynamics.division_rate * factor, ROUNDING + SPREADING))

    def _form(self) -> Form:
        return self.forms[int(self.generator.integers(len(self.forms)))]

    def step(self) -> None:
        """Go on by a frame."""
        full = sum(cell.area for cell in self.cells) > FULL * self.size[0] * self.size[1]
        pulls = self._pulls()
        after: list[Cell] = []
        for cell, pull in zip(self.cells, pulls, strict=True):
            if cell.due <= 0 and not cell.dying:
                after += self._divide(cell)
            elif cell.dying <= DYING:
                self._live(cell, pull, full)
                after.append(cell)
        self.cells = after
        self._push_apart()

    def _live(self, cell: Cell, pull: Point, full: bool) -> None:
        """Let a cell age by a frame: move, turn, grow, change its form."""
        random, dynamics = self.generator.standard_normal(3), self.dynamics
        if cell.dying or cell.crowding < CRUSHED or self.generator.random() < dynamics.death_rate:
            cell.dying += 1
        if not (full and 0 < cell.due <= ROUNDING + 1) and not cell.dying:
            cell.due -= 1
        if cell.crowding > CROWDED:
            cell.area = min(cell.area * np.exp(dynamics.growth), max(cell.most, cell.area))
        if cell.due < ROUNDING or cell.dying:
            cell.roundness = min(cell.roundness + 1 / ROUNDING, 1.0)
            cell.condensed = cell.roundness
        else:
            cell.roundness = max(cell.roundness - 1 / SPREADING, 0.0)
            cell.condensed = max(cell.condensed - 1 / SPREADING, 0.0)
        self._change_form(cell)
        keep = dynamics.persistence
        cell.velocity = keep * cell.velocity + np.sqrt(1 - keep**2) * cell.pace * random[:2]
        move = (cell.velocity + COHESION * cell.pace * RAYLEIGH * pull) * (1 - cell.roundness) + cell.drift
        cell.drift = cell.drift * FADING
        stretch = 1 + (np.sqrt(CLEAVAGE) - 1) * (cell.due <= 0)
        cell.pose = Pose(
            cell.pose.centre + move, cell.pose.angle + SPIN * random[2], float(np.sqrt(cell.shown_area())), stretch
        )

    def _change_form(self, cell: Cell) -> None:
        """Go on towards the target by what changes the outline by the deformation asked for; then to another."""
        apart = max(cell.form.apart(cell.target), 0.05)
        cell.mixture += min(self.dynamics.deformation / apart, 0.5)
        if cell.mixture >= 1:
            cell.form, cell.target, cell.mixture = cell.target, self._form(), 0.0

    def _divide(self, mother: Cell) -> list[Cell]:
        """Two daughters on opposite sides along the long axis of the mother, moving apart."""
        dynamics = self.dynamics
        along = mother.pose.matrix[:, 1] / np.linalg.norm(mother.pose.matrix[:, 1])
        shown = 2 * RADIUS * np.sqrt(CONDENSED * mother.area / 2)
        half = 0.5 * max(dynamics.sister_distance * self.diameter, 1.05 * shown)
        share = 0.5 + 0.03 * float(np.clip(self.generator.standard_normal(), -2, 2))
        daughters = []
        for way, part in ((along, share), (-along, 1 - share)):
            area = mother.area * part
            pose = Pose(mother.pose.centre + half * way, mother.pose.angle, float(np.sqrt(CONDENSED * area)))
            daughters.append(
                replace(
                    mother,
                    pose=pose,
                    velocity=mother.pace * np.abs(self.generator.standard_normal()) * way,
                    pace=self._pace(),
                    form=self._form(),
                    target=self._form(),
                    mixture=0.0,
                    area=area,
                    most=2 * area,
                    due=self._cycle(),
                    roundness=1.0,
                    condensed=1.0,
                    drift=DIVERGENCE / 2 * shown * way,
                    crowding=1.0,
                    label=0,
                    former=0,
                    mother=mother,
                )
            )
        return daughters

    def _pulls(self) -> list[Point]:
        """For each cell that holds together with others the mean direction towards its neighbours, at most 1 long."""
        pulls = [np.zeros(2) for _ in self.cells]
        if not any(cell.cohesive for cell in self.cells):
            return pulls
        centres = np.array([cell.pose.centre for cell in self.cells])
        tree = KDTree(centres)
        for index, near in enumerate(tree.query_ball_point(centres, 2.5 * self.diameter)):
            if self.cells[index].cohesive and len(near) > 1:
                offset = (centres[near] - centres[index]).sum(axis=0) / (len(near) - 1) / self.diameter
                pulls[index] = offset / max(1.0, float(np.linalg.norm(offset)))
        return pulls

    def _push_apart(self) -> None:
        """Move and turn cells so that they overlap less; each is a row of five discs. Walls turn cells back."""
        cells = self.cells
        centres = np.array([cell.pose.centre for cell in cells]).reshape(-1, 2)
        angles = np.array([cell.pose.angle for cell in cells])
        axes = np.array([cell.body().axes for cell in cells]).reshape(-1, 2) * self.reach
        arms = np.linspace(-1, 1, 5)[:, None] * np.maximum(axes[:, 0] - axes[:, 1], 0)
        low, high = -float(self.border), np.array(self.frame, float) + self.border - 1
        for _ in range(ROUNDS if cells else 0):
            offsets = arms[..., None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)  # (5, N, 2)
            moves, turns = _pushes(centres, offsets, axes[:, 1], self.gap)
            if not moves.any():
                break
            moves *= np.minimum(1, PUSH * self.diameter / np.maximum(np.hypot(*moves.T), 1e-9))[:, None]
            centres = centres + moves
            angles = angles + np.clip(turns / np.maximum(axes.max(axis=1) ** 2, 1), -0.1, 0.1)
        for cell, centre, angle in zip(cells, centres, angles, strict=True):
            bounce = (centre < low) | (centre > high)
            if bounce.any():
                cell.velocity = np.where(bounce, -cell.velocity, cell.velocity)
            cell.pose = replace(cell.pose, centre=np.clip(centre, low, high), angle=float(angle))


def _pushes(centres: Point, offsets: Point, radius: Point, gap: float) -> tuple[Point, Point]:
    """What each of N cells is pushed by, (N, 2), and the torque on it, from the overlaps of its discs with others'.

    `offsets` (K, N, 2) are those of the discs from the centres (N, 2), `radius` (N,) theirs.
    """
    count = len(centres)
    points, arms = (centres + offsets).reshape(-1, 2), offsets.reshape(-1, 2)
    one, two = KDTree(points).query_pairs(2 * float(radius.max()) + gap, output_type="ndarray").T
    others = one % count != two % count
    one, two = one[others], two[others]
    apart = points[two] - points[one]
    distance = np.maximum(np.hypot(*apart.T), 1e-6)
    overlap = radius[one % count] + radius[two % count] + gap - distance
    meets = overlap > 0
    push = (apart * (overlap / distance)[:, None])[meets]
    disc = np.concatenate([one[meets], two[meets]])
    push = np.concatenate([-push, push])
    cell = disc % count
    moves = np.stack([np.bincount(cell, part, count) for part in push.T], axis=1)
    turns = np.bincount(cell, arms[disc, 1] * push[:, 0] - arms[disc, 0] * push[:, 1], count)
    hits = np.maximum(np.bincount(cell, minlength=count), 1)
    return YIELD * moves / np.sqrt(hits)[:, None], YIELD * turns / hits


class _Book:
    """Gives labels to the cells that are seen, and keeps the tracks."""

    def __init__(self) -> None:
        self.tracks: dict[int, list[int]] = {}

    def enter(self, frame: int, dish: Dish, counts: NDArray[np.intp]) -> Labels:
        """Label the cells of a frame, from the pixels that each would have and has; returns labels by number."""
        seen = [
            bool(has) and alone >= SEEN * cell.shown_area()
            for cell, (alone, has) in zip(dish.cells, counts.tolist(), strict=True)
        ]
        mothers: dict[int, list[Cell]] = {}
        for cell, visible in zip(dish.cells, seen, strict=True):
            if visible and cell.mother is not None and cell.mother.label:
                mothers.setdefault(cell.mother.label, []).append(cell)
        numbers = np.zeros(len(dish.cells) + 1, np.int32)
        for number, (cell, visible, (alone, has)) in enumerate(zip(dish.cells, seen, counts.tolist(), strict=True), 1):
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
        """The tracks."""
        return tuple((label, begin, end, parent) for label, (begin, end, parent) in self.tracks.items())
