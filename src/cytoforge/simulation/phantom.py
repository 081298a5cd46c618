"""Phantom cells as a phase contrast microscope shows them: label images, and images made from label images.

Outlines are random Fourier curves with pointed arms (compact, star-shaped, spindle-shaped, round). They are placed
pixel by pixel, some of them in clusters that touch.

An image is formed as in the microscope: cells, granules and dirt delay the
light (a phase map in radians), the pupil with its phase ring acts on the wave (Zernike, Physica 9, 1942; Goodman,
Introduction to Fourier Optics), and a camera counts photons. Halo, shade-off and the brightness of rounded cells follow
from this model and are not added separately. Focus, light, contrast and dirt differ between images.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import boxes
from cytoforge.simulation.optics import illumination, phase_contrast

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Field = NDArray[np.float64]
Image = NDArray[np.uint16]
Point = tuple[int, int]

STEPS = 360
"""Number of angles at which the radius of an outline is given."""
ATTEMPTS = 60
"""Places tried for an outline before a smaller one is drawn."""
SIZES = (1.0, 0.8, 0.65)
"""Factors of the requested diameter, tried in turn where there is no room."""
LEAST = 0.75
"""Smallest share of a cell's area that must lie inside the frame and not under other cells."""
GAP = 2
"""Smallest number of background pixels between cells that are not meant to touch."""
WHITE = 4095
"""Highest count of the 12-bit camera."""
ROUND = 0.9
"""Ratio of inscribed to equal-area radius above which a cell is taken as rounded."""
SIDES = ndimage.generate_binary_structure(2, 1)
"""Connectivity of pixels by their sides."""
MARGIN = 16
"""Pixels simulated beyond the frame, so that its edges look like the rest."""


def draw_outline(diameter: float, generator: np.random.Generator, rounded: bool = False) -> Mask:
    """Draw the outline of one cell and fill it.

    Args:
        diameter: median diameter of the circle of equal area, in pixels.
        generator: source of all random numbers.
        rounded: a nearly circular, smaller cell, as in mitosis; otherwise an adherent one.

    Returns:
        Mask (S, S), S odd: the cell about the centre pixel, and at least GAP pixels of background around it.
    """
    return fill_outline(*random_outline(diameter, generator, rounded))


def random_outline(
    diameter: float, generator: np.random.Generator, rounded: bool = False
) -> tuple[Field, float, float, float, Field]:
    """Draw the outline of one cell as the arguments of `fill_outline`; the arguments are those of `draw_outline`."""
    turn = np.arange(STEPS) * (2 * np.pi / STEPS)
    order = np.arange(2, 4 if rounded else 8)[:, None]
    strength = generator.normal(0, 0.03 if rounded else 0.16, order.shape) / order**0.7
    radius = 1 + (strength * np.cos(order * turn + generator.uniform(0, 2 * np.pi, order.shape))).sum(axis=0)
    arms = 0 if rounded else int(generator.choice(6, p=[0.15, 0, 0.3, 0.25, 0.2, 0.1]))
    towards = generator.uniform(0, 2 * np.pi) + np.arange(arms) * 2 * np.pi / max(arms, 1)
    for direction in towards + generator.normal(0, 0.35, arms):
        apart = np.abs((turn - direction + np.pi) % (2 * np.pi) - np.pi)
        radius += generator.uniform(0.8, 3.5) * np.exp(-generator.uniform(3, 8) * apart)
    radius = np.maximum(radius, 0.25)
    size = diameter * (0.72 if rounded else np.exp(generator.normal(0, 0.2)))
    radius *= size / 2 / np.sqrt(np.mean(radius**2))
    stretch = 1.0 if rounded else float(np.clip(np.exp(generator.normal(0.25, 0.2)), 0.8, 1.9))
    bend = 0.0 if rounded else generator.normal(0, 0.25) / size
    return radius, stretch, bend, generator.uniform(0, 2 * np.pi), generator.uniform(-0.5, 0.5, 2)


def fill_outline(radius: Field, stretch: float, bend: float, angle: float, shift: Field) -> Mask:
    """Fill the curve `radius` (STEPS angles, px), stretched along x at constant area, bent, turned, and shifted (y, x).

    Returns a mask (S, S), S odd, as `draw_outline` does.
    """
    inside: Mask = outline_level(radius, stretch, bend, angle, shift) <= 1
    return inside


def outline_level(radius: Field, stretch: float, bend: float, angle: float, shift: Field) -> Field:
    """Return how far the pixels lie from the centre of a cell, in shares of the way to its outline, squared: (S, S).

    The arguments are those of `fill_outline`. The level is 0 at the centre and 1 on the outline.
    """
    turn = np.arange(STEPS) * (2 * np.pi / STEPS)
    along, across = radius * np.cos(turn), radius * np.sin(turn)
    extent = np.hypot(along * stretch, (across + bend * along**2) / stretch).max()
    reach = int(np.ceil(extent + 0.5)) + GAP
    grid = np.arange(-reach, reach + 1)
    y, x = grid[:, None] - shift[0], grid - shift[1]
    along = (np.cos(angle) * x + np.sin(angle) * y) / stretch
    across = (np.cos(angle) * y - np.sin(angle) * x) * stretch - bend * along**2
    nearest = np.rint(np.arctan2(across, along) * (STEPS / (2 * np.pi))).astype(np.intp) % STEPS
    level: Field = (along**2 + across**2) / radius[nearest] ** 2
    return level


class _Canvas:
    """The scene to which cells are added: `labels`, and the cluster that each pixel belongs to (0: none)."""

    def __init__(self, shape: tuple[int, int], generator: np.random.Generator) -> None:
        self.labels: Labels = np.zeros(shape, np.int32)
        self.cluster: Labels = np.zeros(shape, np.int32)
        self.centres: dict[int, list[Point]] = {}
        self.count = 0
        self.generator = generator

    def place(self, diameter: float, rounded: float, cluster: int) -> None:
        """Place a cell beside the members of `cluster`, the first one apart from all cells, if there is room."""
        for size in SIZES:
            cell = draw_outline(diameter * size, self.generator, self.generator.random() < rounded)
            around = ndimage.binary_dilation(cell, np.ones((3, 3), bool), iterations=GAP)
            for _ in range(ATTEMPTS):
                if self._try(cell, around, cluster):
                    return

    def _try(self, cell: Mask, around: Mask, cluster: int) -> bool:
        """Try one random place, moving outwards from members until the cell fits; return whether it was placed."""
        members = self.centres.get(cluster, [])
        least = LEAST * np.count_nonzero(cell)
        for y, x in self._slide(members, len(cell)) if members else [self._anywhere()]:
            frame, part = crop_patch((y, x), cell.shape, self.labels.shape)
            owner = self.cluster[frame]
            kept = cell[part] & (owner == 0)
            if np.count_nonzero(kept) < least:
                continue
            kept = largest_piece(kept)
            crowded = around[part] & (owner > 0) & (owner != cluster)
            if np.count_nonzero(kept) < least or crowded.any():
                return False
            if members and not (ndimage.binary_dilation(kept) & (owner == cluster)).any():
                return False
            self.count += 1
            self.labels[frame][kept], owner[kept] = self.count, cluster
            self.centres.setdefault(cluster, []).append((y, x))
            return True
        return False

    def _anywhere(self) -> Point:
        height, width = self.labels.shape
        return int(self.generator.integers(height)), int(self.generator.integers(width))

    def _slide(self, members: list[Point], reach: int) -> Iterator[Point]:
        """Yield the points of the frame on a random ray from a random member's centre."""
        start = members[self.generator.integers(len(members))]
        angle = self.generator.uniform(0, 2 * np.pi)
        for distance in range(4, reach, 2):
            y, x = round(start[0] + distance * np.sin(angle)), round(start[1] + distance * np.cos(angle))
            if 0 <= y < self.labels.shape[0] and 0 <= x < self.labels.shape[1]:
                yield y, x


def largest_piece(mask: Mask) -> Mask:
    """Keep the largest connected piece (by pixel sides) of a mask (H, W)."""
    pieces, count = ndimage.label(mask, SIDES)
    return mask if count < 2 else pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def crop_patch(
    centre: Point, size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the slices of the frame that a patch of odd `size` about `centre` covers, and those of the patch there."""
    frame: list[slice] = []
    part: list[slice] = []
    for middle, length, limit in zip(centre, size, shape, strict=True):
        first = middle - length // 2
        low, high = max(first, 0), min(first + length, limit)
        frame.append(slice(low, high))
        part.append(slice(low - first, high - first))
    return tuple(frame), tuple(part)


def phantom_labels(
    shape: tuple[int, int],
    cells: int,
    generator: np.random.Generator,
    *,
    diameter: float = 18.0,
    touching: float = 0.6,
    rounded: float = 0.08,
) -> Labels:
    """Draw a label image of adherent cells.

    Args:
        shape: height and width in pixels.
        cells: number of cells, at least 0. If there is no room for all, a `UserWarning` tells how many were placed.
        generator: source of all random numbers.
        diameter: median diameter of the circle of equal area, in pixels, at least 6.
        touching: share of the cells, 0 to 1, that have a border with another; they lie in clusters of 2 to 6.
        rounded: share of the cells, 0 to 1, that are round as in mitosis.

    Returns:
        Labels int32 (H, W): 0 background, 1..N cells, each connected.

    Raises:
        ValueError: for a value outside the ranges above.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be two positive lengths in pixels, got {shape}")
    if cells < 0 or diameter < 6:
        raise ValueError(f"cells must be at least 0 and diameter at least 6 px, got {cells} and {diameter}")
    if not (0 <= touching <= 1 and 0 <= rounded <= 1):
        raise ValueError(f"touching and rounded are shares from 0 to 1, got {touching} and {rounded}")
    canvas = _Canvas(shape, generator)
    for cluster in _clusters(cells, round(touching * cells), generator):
        canvas.place(diameter, rounded, cluster)
    if canvas.count < cells:
        warnings.warn(f"room for {canvas.count} of {cells} cells in {shape[0]}x{shape[1]} px", stacklevel=2)
    return canvas.labels


def _clusters(cells: int, touching: int, generator: np.random.Generator) -> list[int]:
    """Return the cluster number, from 1, of each cell: `touching` cells in clusters of 2 to 6, the others alone."""
    sizes: list[int] = []
    left = touching if touching > 1 else 0
    while left > 0:
        sizes.append(left if left < 4 else int(generator.integers(2, min(6, left - 2) + 1)))
        left -= sizes[-1]
    sizes += [1] * (cells - sum(sizes))
    return [cluster for cluster, size in enumerate(sizes, 1) for _ in range(size)]


@dataclass(frozen=True)
class Microscope:
    """Imaging conditions of one image; lengths in pixels, phase delays in radians.

    Attributes:
        phase: median delay of the light in an adherent cell.
        ring: amplitude transmission of the phase ring; lower values give more contrast.
        halo: standard deviation of the blur that separates the background light, which the ring acts on.
        defocus: distance from focus, in units in which 1 is one wave at half the sampling frequency.
        blur: standard deviation of the point spread function.
        shade: relative unevenness of the light.
        photons: photons that a pixel collects from the background.
        exposure: camera count of the background.
        dirt: relative amount of debris and of objects out of focus, 1 for the usual amount.
    """

    phase: float = 0.3
    ring: float = 0.5
    halo: float = 2.6
    defocus: float = 0.0
    blur: float = 0.6
    shade: float = 0.1
    photons: float = 2000.0
    exposure: float = 1500.0
    dirt: float = 1.0

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Self:
        """Draw the conditions of one image at random."""
        return cls(
            phase=0.3 * np.exp(generator.normal(0, 0.25)),
            ring=generator.uniform(0.4, 0.55),
            halo=generator.uniform(2.0, 3.2),
            defocus=generator.normal(0, 0.35),
            blur=generator.uniform(0.4, 0.8),
            shade=generator.uniform(0.02, 0.3),
            photons=np.exp(generator.uniform(np.log(600), np.log(10000))),
            exposure=generator.uniform(900, 2000),
            dirt=np.exp(generator.normal(0, 0.5)),
        )

    def intensity(self, phase: Field) -> Field:
        """Return the image (H, W) of a phase map (H, W) in radians; its value is 1 where nothing delays the light."""
        return phase_contrast(np.exp(1j * phase), self.ring, self.halo, self.defocus, self.blur)


def phantom_image(labels: Labels, generator: np.random.Generator, microscope: Microscope | None = None) -> Image:
    """Simulate a phase contrast image of labelled cells.

    Args:
        labels: integers (H, W), 0 background. Compact cells are shown rounded up and bright, the others adherent.
        generator: source of all random numbers.
        microscope: the imaging conditions; None draws them at random.

    Returns:
        Counts of a 12-bit camera, uint16 (H, W).

    Raises:
        ValueError: if labels are empty or not two-dimensional integers of at least 0.
    """
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"labels must be integers (H, W) from 0 on, got {labels.dtype} {labels.shape}")
    microscope = microscope or Microscope.draw(generator)
    scene = np.pad(labels, MARGIN, mode="symmetric")
    phase = _cell_phase(scene, microscope.phase, generator) + _dirt_phase(scene.shape, microscope.dirt, generator)
    light = microscope.intensity(phase)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    light = light * illumination(labels.shape, microscope.shade, generator)
    electrons = generator.poisson(light * microscope.photons) + generator.normal(0, 4, labels.shape)
    counts = electrons * (microscope.exposure / microscope.photons)
    return np.clip(np.rint(counts), 0, WHITE).astype(np.uint16)


def _cell_phase(labels: Labels, delay: float, generator: np.random.Generator) -> Field:
    """Return the phase map of cells: bodies with a steep edge, texture, nucleus and granules; spheres if rounded."""
    phase = np.zeros(labels.shape)
    texture = _noise(labels.shape, 1.3, generator)
    granules = np.zeros(labels.shape)
    for number, window in boxes(labels).items():
        mask = labels[window] == number
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        inner, area = depth.max(), mask.sum()
        roundness = inner / np.sqrt(area / np.pi)
        thick = delay * np.exp(generator.normal(0, 0.25)) * 0.62 / roundness
        if roundness > ROUND:
            # a sphere of 13 to 19 um, refractive index 0.03 above the medium, at 550 nm
            body = generator.uniform(4.5, 6.5) * np.sqrt(np.clip(2 * inner * depth - depth**2, 0, None)) / inner
        else:
            body = thick * np.minimum(1, 0.65 + depth / 6) * (1 + generator.uniform(0.1, 0.35) * texture[window])
            body += thick * generator.uniform(0.1, 0.7) * np.exp(-(((inner - depth) / (0.35 * inner)) ** 2))
            spots = generator.choice(np.flatnonzero(mask), generator.poisson(area * generator.uniform(0, 0.06)))
            strength = 4 * thick * generator.gamma(2, 0.5, len(spots)) * generator.choice([1, -0.6], len(spots))
            np.add.at(granules[window], np.unravel_index(spots, mask.shape), strength)
        phase[window][mask] = body[mask]
    smooth: Field = ndimage.gaussian_filter(phase, 0.4) + ndimage.gaussian_filter(granules, 0.6)
    return smooth


def _dirt_phase(shape: tuple[int, ...], dirt: float, generator: np.random.Generator) -> Field:
    """Return the phase map of all but the cells: rough medium, specks, bright cell debris, objects out of focus."""
    phase: Field = 0.012 * _noise(shape, 1, generator) + 0.05 * _noise(shape, 14, generator)
    area = phase.size
    for density, size, strength in ((1 / 400, 0.6, 0.6), (1 / 25000, 1.6, 70.0)):
        spots = np.zeros(shape)
        count = generator.poisson(dirt * density * area)
        places = generator.integers(0, area, count)
        np.add.at(spots.reshape(-1), places, strength * generator.gamma(3, 1 / 3, count))
        phase += ndimage.gaussian_filter(spots, size)
    far = np.zeros(shape)
    count = generator.poisson(dirt * area / 12000)
    np.add.at(far.reshape(-1), generator.integers(0, area, count), generator.normal(0, 25, count))
    phase += ndimage.gaussian_filter(far, 5) - ndimage.gaussian_filter(far, 7)
    return phase


def _noise(shape: tuple[int, ...], sigma: float, generator: np.random.Generator) -> Field:
    """Return smooth noise of mean 0 and standard deviation about 1 on an infinite plane."""
    smooth: Field = ndimage.gaussian_filter(generator.standard_normal(shape), sigma, mode="wrap")
    smooth *= 2 * np.sqrt(np.pi) * sigma
    return smooth


def phantom(
    seed: int | np.random.SeedSequence, shape: tuple[int, int] = (160, 160), cells: int = 30
) -> tuple[Image, Labels]:
    """Return one phantom, fixed by the arguments: image uint16 (H, W) in camera counts and labels int32 (H, W)."""
    generator = np.random.default_rng(seed)
    labels = phantom_labels(shape, cells, generator)
    return phantom_image(labels, generator), labels
