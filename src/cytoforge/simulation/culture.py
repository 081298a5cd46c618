"""Culture of simulated cells that move, push, grow, divide and die on a field larger than the frame.

The cells of the first frame are taken from a simulated label image. From then on the cells follow a persistent random
walk, push each other apart, grow, change their form, round up and divide, and die. Cells leave and enter the frame
across its edge, because the field extends beyond the frame. The walls of the field reflect cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from cytoforge.simulation.bodies import DISC, PAD, RADIUS, Body, Form, Pose, pushes, share_pixels
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.masks import Layout, Shape, lacks, simulate_labels

Labels = NDArray[np.int32]
Point = NDArray[np.float64]

RAYLEIGH = float(np.sqrt(2 * np.log(2)))
"""Median length of a vector whose two components are normal with standard deviation 1."""
FORMS = 96
"""Number of forms that are drawn for a movie; cells change from one of them to another."""
BORDER = 2.0
"""Width by which the field extends beyond the frame on each side, in median diameters."""
BREATH = 0.8
"""Share of a fluctuation of the area that remains in the next frame."""
SWELL = float(np.sqrt((1 + BREATH) / 2))
"""Standard deviation of the random term added to the fluctuation each frame, relative to `Dynamics.fluctuation`."""
ROUNDING, SPREADING, DYING = 3, 4, 4
"""Frames in which a cell rounds up to divide, a daughter spreads again, and a dying cell shrinks."""
CONDENSED = 0.6
"""Ratio of the area of a rounded cell to that of the same cell spread out."""
CLEAVAGE = 1.25
"""Ratio of length to width of a round mother in her last frame; its square root is the stretch along the long axis."""
DIVERGENCE, FADING = 0.15, 0.8
"""Distance by which sisters drift apart in their first frame, in their diameters; share of it kept each frame."""
SISTERS = 0.12
"""Standard deviation of the logarithm of the distance between new sisters."""
REGULARITY = 0.12
"""Standard deviation of the logarithm of the time between divisions."""
SPIN = 0.06
"""Standard deviation of a cell's rotation per frame, in radians."""
ROUNDS, YIELD = 6, 0.35
"""Rounds per frame in which cells push each other apart, and the share of the push applied in each round."""
PUSH = 0.12
"""Largest distance that a cell is pushed in a round, in median diameters."""
SOFT, APART = 0.9, 1.0
"""Size of the bodies used for pushing. The semi-axes of cohesive cells are multiplied by SOFT, so that these cells lie
against each other. APART pixels are added to those of other cells, so that background remains between them."""
COHESION = 0.8
"""Speed of cohesive cells towards their neighbours, relative to their median speed."""
HOLD = 1.6
"""Distance up to which a cohesive cell is pulled towards a neighbour, in median diameters."""
CROWDED, CRUSHED = 0.85, 0.35
"""Share of a cell's pixels not covered by others: at CROWDED or less it does not grow, below CRUSHED it dies."""
FULL = 0.7
"""Coverage of the field above which no further cell begins to divide."""
SEEN = 0.05
"""Smallest share of a cell that must lie in the frame for the cell to be labelled."""
TRIES, NEAR = 8, 0.1
"""Most first frames drawn, and the difference of log density from the requested one below which drawing stops.

Several are drawn because the density of a frame with few cells varies much by chance."""


@dataclass(eq=False)
class Cell:
    """A cell on the field; positions are (row, column) in pixels of the frame."""

    pose: Pose
    velocity: Point
    pace: float
    """standard deviation of each component of the velocity, in pixels per frame"""
    form: Form
    target: Form
    cohesive: bool
    area: float
    """when spread out, in pixels"""
    most: float
    """area at which growth ends, in pixels"""
    due: float
    """frames until the cell divides"""
    mixture: float = 0.0
    roundness: float = 0.0
    condensed: float = 0.0
    """0 for the area when spread out, 1 for the area when rounded"""
    drift: Point = field(default_factory=lambda: np.zeros(2))
    """velocity away from its sister, in pixels per frame"""
    swelling: float = 0.0
    """logarithm of the ratio of its fluctuating area to `area`"""
    crowding: float = 1.0
    """share of its pixels that other cells do not cover"""
    dying: int = 0
    """number of frames for which it has been dying"""
    label: int = 0
    """label in the current frame, 0 when the cell is not labelled there"""
    former: int = 0
    """label in the previous frame, if the cell is no longer labelled; else 0"""
    mother: "Cell | None" = None
    """mother of a new daughter, until the daughter's first frame is recorded"""

    def body(self) -> Body:
        """Return the body to draw."""
        return Body(self.form, self.target, self.mixture, self.roundness, self.pose)

    def shown_area(self) -> float:
        """Return the current area in pixels, with fluctuation, rounding and dying taken into account."""
        left = max(1 - self.dying / (DYING + 1), 0.05)
        return self.area * float(np.exp(self.swelling)) * left * (1 - (1 - CONDENSED) * self.condensed)


class Culture:
    """The cells on the field, advanced frame by frame."""

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
        inset: int,
    ) -> None:
        self.frame, self.generator, self.dynamics, self.layout = size, generator, dynamics, layout
        self.inset = inset
        areas = [np.count_nonzero(shape.field > 0) for shape in shapes]
        self.diameter = 2 * RADIUS * magnification * float(np.sqrt(np.median(areas))) if areas else 1.0
        self.border = int(np.ceil(BORDER * self.diameter))
        self.size = (size[0] + 2 * self.border, size[1] + 2 * self.border)
        drawn = [shapes[int(generator.integers(len(shapes)))].draw(magnification, generator) for _ in range(FORMS)]
        self.forms = [Form.of(depth)[0] for depth in drawn if (depth > 0).any()] or [DISC]
        # the first image extends beyond the field by a rim, so that cells with their centres on the field are whole
        rim = int(np.ceil(self.diameter))
        whole = (self.size[0] + 2 * rim, self.size[1] + 2 * rim)
        wanted = self._wanted(density, whole)
        best = np.inf
        nearest: list[Cell] = []
        for _ in range(TRIES):
            start = simulate_labels(
                shapes,
                whole,
                generator,
                density=wanted,
                layout=layout,
                gap=2 if layout == "scattered" else 0,
                magnification=magnification,
                touching=touching,
            )
            self.cells, self.lacking = self._settle(start.labels, rim), lacks(wanted, start.cells, start.coverage)
            off = abs(np.log(max(self._shown(density), 1e-9) / density)) if density else 0.0
            if off < best:
                best, nearest = off, self.cells
            if best < NEAR or self.lacking:
                break
        self.cells = nearest

    def _wanted(self, density: float, whole: tuple[int, int]) -> float:
        """Return the density for an image of size `whole` that gives `density` of labelled cells in the frame."""
        # labelled cells have their centres up to half a diameter beyond the inset
        height, width = (side - 2 * self.inset + self.diameter for side in self.frame)
        if density >= 1:
            return density * whole[0] * whole[1] / (height * width)
        height, width = min(height, self.frame[0]), min(width, self.frame[1])
        return min(density * self.frame[0] * self.frame[1] / (height * width), 0.999)

    def _shown(self, density: float) -> float:
        """Return the number of labelled cells in the frame where density is 1 or more, else their coverage of it."""
        numbers, _, seen = self.draw()
        return int(seen.sum()) if density >= 1 else float(np.append(False, seen)[numbers].mean())

    def draw(self) -> tuple[Labels, NDArray[np.intp], NDArray[np.bool_]]:
        """Return cell numbers (H, W) and counts (N, 2), as `share_pixels` does, and which cells are labelled (N,)."""
        numbers, counts = share_pixels([cell.body() for cell in self.cells], self.frame)
        within = tuple(slice(self.inset, side - self.inset) for side in self.frame)
        reaches = np.bincount(numbers[within].ravel(), minlength=len(self.cells) + 1)[1:] > 0
        least = SEEN * np.array([cell.shown_area() for cell in self.cells])
        return numbers, counts, reaches & (counts[:, 0] >= least)

    def _settle(self, labels: Labels, rim: int) -> list[Cell]:
        """Take the cells on the field from the first label image; larger cells are nearer to their division."""
        found = [self._taken(labels, number, box, rim) for number, box in enumerate(ndimage.find_objects(labels), 1)]
        low, high = self._walls()
        found = [one for one in found if ((one[1].centre >= low) & (one[1].centre <= high)).all()]
        phases = np.empty(len(found))
        phases[np.argsort([pose.length for _, pose, _ in found])] = np.sort([self._phase() for _ in found])
        cells = []
        for (form, pose, alone), phase in zip(found, phases.tolist(), strict=True):
            area, pace = pose.length**2, self._pace()
            cells.append(
                Cell(
                    pose=pose,
                    velocity=pace * self.generator.standard_normal(2),
                    pace=pace,
                    form=form,
                    target=self._form(),
                    cohesive=self.layout == "colony" or (self.layout == "mixed" and not alone),
                    area=area,
                    most=area * 2 ** (1 - phase),
                    due=self._cycle() * (1 - phase) + 1,
                )
            )
        return cells

    def _taken(self, labels: Labels, number: int, box: tuple[slice, ...], rim: int) -> tuple[Form, Pose, bool]:
        """Return the form and pose of a cell of the first label image, and whether it touches no other cell."""
        form, pose = Form.of(Shape.of(labels[box] == number).field)
        corner = np.array([part.start for part in box]) - PAD
        around = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
        alone = bool(np.isin(labels[around], (0, number)).all())
        return form, replace(pose, centre=pose.centre + corner - self.border - rim), alone

    def _walls(self) -> tuple[float, Point]:
        """Return the lowest and highest positions that the centres of cells can take."""
        return -float(self.border), np.array(self.frame, float) + self.border - 1

    def _phase(self) -> float:
        """Draw a cell's phase, 0 to 1, in a steadily growing population, which has more young cells than old.

        The phase is the time since the last division over the time between two divisions. Its density is
        proportional to 2 ** -phase (Powell, J. Gen. Microbiol. 15, 1956).
        """
        return float(1 - np.log2(1 + self.generator.random()))

    def _pace(self) -> float:
        speed = self.dynamics.speed * np.exp(self.dynamics.spread * self.generator.standard_normal())
        return float(speed * self.diameter / RAYLEIGH)

    def _cycle(self) -> float:
        """Draw the number of frames between two divisions.

        The log size of a population that divides every T frames grows by ln 2 / T per frame.
        """
        if not self.dynamics.division_rate:
            return np.inf
        factor = np.exp(REGULARITY * self.generator.standard_normal())
        return float(max(np.log(2) / self.dynamics.division_rate * factor, ROUNDING + SPREADING))

    def _form(self) -> Form:
        return self.forms[int(self.generator.integers(len(self.forms)))]

    def step(self) -> None:
        """Advance by one frame."""
        full = sum(cell.area for cell in self.cells) > FULL * self.size[0] * self.size[1]
        pulls = self._pulls()
        after: list[Cell] = []
        for cell, pull in zip(self.cells, pulls, strict=True):
            if cell.due <= 0 and not cell.dying:
                after += self._divide(cell)
            elif cell.dying < DYING:
                self._live(cell, pull, full)
                after.append(cell)
        self.cells = after
        self._push_apart()

    def _live(self, cell: Cell, pull: Point, full: bool) -> None:
        """Advance a cell by one frame: move, rotate and grow it, and change its form."""
        random, dynamics = self.generator.standard_normal(4), self.dynamics
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
        cell.swelling = BREATH * cell.swelling + SWELL * dynamics.fluctuation * random[3]
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
        """Mix in the target form by the deformation per frame; once the target is reached, draw another."""
        apart = max(cell.form.apart(cell.target), 0.05)
        cell.mixture += min(self.dynamics.deformation / apart, 0.5)
        if cell.mixture >= 1:
            cell.form, cell.target, cell.mixture = cell.target, self._form(), 0.0

    def _divide(self, mother: Cell) -> list[Cell]:
        """Return two daughters on opposite sides along the long axis of the mother, moving apart."""
        dynamics = self.dynamics
        along = mother.pose.matrix[:, 1] / np.linalg.norm(mother.pose.matrix[:, 1])
        shown = 2 * RADIUS * np.sqrt(CONDENSED * mother.area / 2)
        apart = dynamics.sister_distance * self.diameter * np.exp(SISTERS * self.generator.standard_normal())
        half = 0.5 * max(apart, 1.05 * shown)
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
        """Return for each cell the mean offset to its neighbours, of length at most 1; zero for cells not cohesive."""
        pulls = [np.zeros(2) for _ in self.cells]
        if not any(cell.cohesive for cell in self.cells):
            return pulls
        centres = np.array([cell.pose.centre for cell in self.cells])
        tree = KDTree(centres)
        for index, near in enumerate(tree.query_ball_point(centres, HOLD * self.diameter)):
            if self.cells[index].cohesive and len(near) > 1:
                offset = (centres[near] - centres[index]).sum(axis=0) / (len(near) - 1) / self.diameter
                pulls[index] = offset / max(1.0, float(np.linalg.norm(offset)))
        return pulls

    def _push_apart(self) -> None:
        """Move and rotate cells, each taken as a row of five discs, so that they overlap less; walls reflect cells."""
        cells = self.cells
        centres = np.array([cell.pose.centre for cell in cells]).reshape(-1, 2)
        angles = np.array([cell.pose.angle for cell in cells])
        axes = np.array([cell.body().axes for cell in cells]).reshape(-1, 2)
        soft = np.array([[cell.cohesive] for cell in cells]).reshape(-1, 1)
        axes = np.where(soft, SOFT * axes, axes + APART)
        arms = np.linspace(-1, 1, 5)[:, None] * np.maximum(axes[:, 0] - axes[:, 1], 0)
        low, high = self._walls()
        for _ in range(ROUNDS if cells else 0):
            offsets = arms[..., None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)  # (5, N, 2)
            moves, turns = (YIELD * part for part in pushes(centres, offsets, axes[:, 1]))
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
