"""Label images as microscopes show them: phase contrast, DIC, brightfield, dark field and fluorescence.

A `_Scene` holds what the labels say about each pixel (its cell, its distance from the outline, its place in the
nucleus). From this a specimen is drawn: delays of light in radians, absorption, or the density of a dye. Cells have
bodies with a nucleus, granules, vacuoles, fibres and ruffles; between them lie debris, scratches and objects out of
focus. Optics and camera (`simulation.optics`) make the image. Conditions differ widely between images, and cells within
one, but every cell begins at its outline.

All lengths follow the diameter of the cells, by factors that are drawn: the same cell is seen with high and low
resolution.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import next_fast_len

from cytoforge.cells.labels import dense
from cytoforge.simulation.optics import (
    Field,
    brightfield,
    dark_field,
    illumination,
    interference_contrast,
    noise,
    phase_contrast,
    smooth,
)

Labels = NDArray[np.int32]
Modality = Literal[
    "phase contrast",
    "dic",
    "brightfield",
    "dark field",
    "nuclear fluorescence",
    "cytoplasm fluorescence",
    "membrane fluorescence",
]

DIAMETERS = (4.0, 120.0)
"""Least and greatest diameter of cells, in pixels, that can be drawn."""
COMPACT = 0.88
"""Ratio of inscribed to equal-area radius above which a cell among others is taken as rounded up."""
OVAL = 0.77
"""This ratio of the median cell above which all cells are taken as round ones."""
LONG = 1.7
"""Ratio of the axes above which straight even cells are taken as rods."""


def draw_image(
    labels: Labels, modality: Modality, diameter: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Draw an image of labelled cells as a microscope would show them.

    Args:
        labels: integers (H, W), 0 background. In nuclear fluorescence the labels are nuclei.
        modality: the kind of microscope; all other conditions are drawn.
        diameter: median diameter of the cells in pixels, 4 to 120; textures, halos and debris are sized by it.
        generator: source of all random numbers.

    Returns:
        Counts of a camera, float32 (H, W), finite and at least 0, on a scale of their own in each image.

    Raises:
        ValueError: if labels are empty or not two-dimensional integers of at least 0, the modality is none of
            `Modality`, or the diameter is out of range.
    """
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"labels must be integers (H, W) from 0 on, got {labels.dtype} {labels.shape}")
    if modality not in get_args(Modality):
        raise ValueError(f"modality must be one of {', '.join(get_args(Modality))}, got {modality!r}")
    if not DIAMETERS[0] <= diameter <= DIAMETERS[1]:
        raise ValueError(f"diameter must be {DIAMETERS[0]:g} to {DIAMETERS[1]:g} px, got {diameter}")
    scene = _Scene(labels, diameter, _Dice(generator))
    record, form = _IMAGES[modality]
    counts = record(scene, form(scene))
    return counts.astype(np.float32)


class _Dice:
    """Draws of conditions from one generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def chance(self, share: float) -> bool:
        """Return True in this share of the draws."""
        return bool(self.generator.random() < share)

    def between(self, low: float, high: float) -> float:
        """Draw from `low` to `high` evenly."""
        return float(self.generator.uniform(low, high))

    def ratio(self, low: float, high: float) -> float:
        """Draw from `low` to `high` evenly on a logarithmic scale."""
        return float(np.exp(self.generator.uniform(np.log(low), np.log(high))))

    def some(self, share: float, low: float, high: float) -> float:
        """Draw the strength of something that only a share of the images shows; 0 in the others."""
        return self.between(low, high) if self.chance(share) else 0.0


class _Scene:
    """What label images say about each pixel of a frame with a margin, and the maps from which specimens are made.

    Maps are (H, W). Tables have a row for each cell and row 0 for the ground; `table[scene.numbers]` is a map.

    Attributes:
        frame: the slices of the map that the image shows.
        numbers: the cell of each pixel, 1..N, 0 for the ground.
        distance: from the nearest outline, in pixels, inside cells and outside; 0.5 at pixels that have one.
        inner, area, radius: tables of the inscribed radius, the area, and the radius of the circle of this area.
        along, across: coordinates of each pixel in its cell, from its centre, along the longer and shorter axis.
        compactness: table of the ratio of inscribed to equal-area radius.
        aspect: table of the ratio of the axes.
        even: table of the ratio of the inscribed radius to half the width, about 0.9 for rods and 1 for discs.
    """

    def __init__(self, labels: Labels, diameter: float, dice: _Dice) -> None:
        low = int(np.clip(diameter / 2, 8, 32))
        pad = [(low, next_fast_len(n + 2 * low, real=True) - n - low) for n in labels.shape]
        self.frame = tuple(slice(low, low + n) for n in labels.shape)
        self.numbers = dense(np.pad(labels, pad, mode="symmetric"))[1]
        self.shape = self.numbers.shape
        self.diameter, self.dice, self.generator = diameter, dice, dice.generator
        self.cells = self.numbers > 0
        count = int(self.numbers.max()) + 1
        row = self.numbers.ravel()

        outline = np.zeros(self.shape, bool)
        for axis in (0, 1):
            differ = np.diff(self.numbers, axis=axis) != 0
            before, after = np.moveaxis(outline, axis, 0)[:-1], np.moveaxis(outline, axis, 0)[1:]
            before |= np.moveaxis(differ, axis, 0)
            after |= np.moveaxis(differ, axis, 0)
        far = np.full(self.shape, float(max(self.shape)))
        self.distance: Field = ndimage.distance_transform_edt(~outline) + 0.5 if outline.any() else far

        def mean(values: Field) -> Field:
            total: Field = np.bincount(row, (weight * values).ravel(), count) / weights
            return total

        self.inner = np.zeros(count)
        np.maximum.at(self.inner, row, self.distance.ravel())
        self.area = np.bincount(row, minlength=count).astype(float)
        self.radius = np.sqrt(self.area / np.pi) + 1e-9
        weight = self.distance
        weights = np.bincount(row, weight.ravel(), count) + 1e-9
        y, x = (axis.astype(float) for axis in np.indices(self.shape))
        y, x = y - mean(y)[self.numbers], x - mean(x)[self.numbers]
        weight = np.ones(self.shape)
        weights = self.area + 1e-9
        yy, xx, xy = mean(y * y), mean(x * x), mean(x * y)
        spread = np.hypot((xx - yy) / 2, xy)
        longer, shorter = (np.sqrt(np.maximum((xx + yy) / 2 + sign * spread, 0.1)) for sign in (1, -1))
        self.aspect, self.even = longer / shorter, self.inner / (2 * shorter)
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        cos, sin = np.cos(angle)[self.numbers], np.sin(angle)[self.numbers]
        self.along, self.across = cos * x + sin * y, cos * y - sin * x
        self.compactness = self.inner / self.radius

    def length(self, low: float, high: float, least: float = 0.5) -> float:
        """Draw a length in pixels between two shares of the diameter, at least `least`."""
        return max(self.dice.ratio(low, high) * self.diameter, least)

    def blur(self) -> float:
        """Draw the point spread: from sharp for the pixels to a twentieth of the cell."""
        return float(np.hypot(self.dice.between(0.4, 0.8), self.dice.between(0, 0.04) * self.diameter))

    def each(self, spread: float) -> Field:
        """Draw a factor for each cell, a table of median 1, with a logarithmic spread."""
        factors: Field = np.exp(self.generator.normal(0, spread, len(self.area)))
        factors[0] = 1
        return factors

    def texture(self, low: float, high: float) -> Field:
        """Draw noise of standard deviation 1 whose grain is between two shares of the diameter."""
        return noise(self.shape, self.length(low, high), self.generator)

    def height(self, reach: float, floor: float) -> Field:
        """Return the height of the cells, 0 outside and up to 1 inside.

        It is `floor` at the outline and rises like a circle to 1 at `reach`, given in inscribed radii.
        """
        inner = np.maximum(reach * self.inner, 0.5)[self.numbers]
        slope = np.clip(self.distance / inner, 0, 1)
        height: Field = (floor + (1 - floor) * np.sqrt(slope * (2 - slope))) * self.cells
        return height

    def nucleus(self, size: float, soft: float) -> Field:
        """Return the nuclei, 1 inside and 0 outside: ellipses of about `size` cell radii with an edge of `soft` px."""
        long = size * self.radius * self.each(0.12)
        short = np.minimum(long, 0.8 * self.inner)
        long = np.minimum(long, short * np.minimum(self.aspect, 1.6))
        off = self.generator.normal(0, 0.12, (2, len(long))) * self.inner
        apart = np.hypot(
            (self.along - off[0][self.numbers]) / (long[self.numbers] + 1e-9),
            (self.across - off[1][self.numbers]) / (short[self.numbers] + 1e-9),
        )
        edge = np.clip(0.5 + (1 - apart) * short[self.numbers] / soft, 0, 1)
        nucleus: Field = edge * np.clip(self.distance, 0, 1) * self.cells
        return nucleus

    def spots(self, rate: NDArray[np.floating] | float, size: float) -> Field:
        """Return spots of `size` px (standard deviation), about 1 high, of which `rate` per pixel are expected."""
        hits = self.generator.random(self.shape) < rate
        points = np.zeros(self.shape)
        points[hits] = self.generator.gamma(4, 0.25, int(np.count_nonzero(hits)))
        return smooth(points, size) * (2 * np.pi * size**2)

    def bubbles(self, per_cell: float, size: float, within: Field | NDArray[np.bool_]) -> Field:
        """Return discs, 0 to 1, of about `size` px radius, about `per_cell` in each cell, where `within` is 1."""
        rate = within * (per_cell / np.maximum(np.bincount(self.numbers.ravel(), within.ravel()), 1))[self.numbers]
        discs: Field = np.clip(2.5 * self.spots(rate, max(0.7 * size, 0.5)) - 0.5, 0, 1)
        return discs

    def strokes(self, starts: NDArray[np.intp], angles: Field, lengths: Field, width: float) -> Field:
        """Return bent lines of `width` px (standard deviation), about 1 high, from points (N, 2) in directions."""
        points = np.zeros(self.shape)
        if len(starts):
            step = np.arange(int(lengths.max()) + 1)
            heading = angles[:, None] + self.generator.normal(0, 0.6, (len(starts), 1)) * step / lengths[:, None]
            y = np.rint(starts[:, :1] + np.cumsum(np.sin(heading), 1)).astype(int) % self.shape[0]
            x = np.rint(starts[:, 1:] + np.cumsum(np.cos(heading), 1)).astype(int) % self.shape[1]
            drawn = step <= lengths[:, None]
            points[y[drawn], x[drawn]] = 1
        lines: Field = smooth(points, width) * (np.sqrt(2 * np.pi) * width)
        return lines

    def fibres(self) -> Field:
        """Return bundles of fibres along the cells, 0 to 1."""
        period = self.length(0.1, 0.3, 3)
        waves = 0.5 + 0.5 * np.sin(2 * np.pi * self.across / period + 4 * self.texture(0.15, 0.4))
        fibres: Field = waves**3 * np.clip(0.5 + self.texture(0.2, 0.5), 0, 1) * self.cells
        return fibres

    def nucleoli(self, nucleus: Field) -> Field:
        """Return nucleoli, 0 to 1: a few discs inside nuclei."""
        return self.bubbles(self.dice.between(1, 4), self.length(0.03, 0.07), nucleus * (nucleus > 0.9))


def _phase(scene: _Scene) -> Field:
    """Draw how cells delay the light, in radians: rods, yeast, rounded or adherent cells, as the outlines suggest."""
    return smooth(_bodies(scene), 0.5) if scene.cells.any() else np.zeros(scene.shape)


def _bodies(scene: _Scene) -> Field:
    """Draw the delays with the outlines' steps from pixel to pixel."""
    dice, cells = scene.dice, slice(1, None)
    rods = np.median(scene.aspect[cells]) > LONG and np.median(scene.even[cells]) > 0.75
    oval = np.median(scene.compactness[cells]) > OVAL
    if rods and dice.chance(0.75):
        return _rods(scene)
    if oval and dice.chance(0.65):
        return _yeast(scene) if dice.chance(0.6) else _rounded(scene)
    return _adherent(scene)


def _rods(scene: _Scene) -> Field:
    """Draw bacteria: even rods without visible contents."""
    delay = scene.dice.ratio(0.25, 1.2) * scene.each(0.12)
    body = scene.height(scene.dice.between(0.4, 1), scene.dice.between(0.1, 0.5))
    phase: Field = body * delay[scene.numbers] * (1 + scene.dice.between(0, 0.15) * scene.texture(0.05, 0.2))
    return phase


def _yeast(scene: _Scene) -> Field:
    """Draw yeast: thick cells with a wall, often a vacuole, and a few granules."""
    dice = scene.dice
    delay = np.minimum(dice.ratio(0.6, 3) * scene.each(0.15), 0.7 * scene.inner)
    body = scene.height(dice.between(0.6, 1), dice.between(0, 0.3))
    wall = np.exp(-(((scene.distance - 0.5) / scene.length(0.04, 0.09, 0.8)) ** 2)) * scene.cells
    vacuole = scene.nucleus(dice.between(0.3, 0.6), 1.5) * (scene.generator.random(len(delay)) < 0.6)[scene.numbers]
    granules = scene.spots(dice.ratio(1, 8) / scene.diameter**2 * scene.cells, scene.length(0.02, 0.05))
    inside = body * (1 + dice.between(0, 0.12) * scene.texture(0.05, 0.15)) + dice.between(0, 0.5) * wall
    phase: Field = delay[scene.numbers] * (inside - dice.between(0.1, 0.5) * vacuole + 0.3 * granules * scene.cells)
    return phase


def _rounded(scene: _Scene) -> Field:
    """Draw floating or dividing cells: spheres that bend the light."""
    dice = scene.dice
    delay = np.minimum(dice.ratio(1.2, 6) * scene.each(0.2), 0.7 * scene.inner)
    body = scene.height(1, dice.between(0, 0.2)) * (1 + dice.between(0, 0.1) * scene.texture(0.04, 0.15))
    phase: Field = body * delay[scene.numbers] * (1 + 0.2 * scene.bubbles(1, scene.length(0.05, 0.15), body))
    return phase


def _adherent(scene: _Scene) -> Field:
    """Draw cells that lie flat on the dish, some of them rounded up."""
    dice, generator, numbers = scene.dice, scene.generator, scene.numbers
    delay = np.minimum(dice.ratio(0.12, 1.0) * scene.each(dice.between(0.05, 0.35)), 0.5 * scene.inner)
    body = scene.height(dice.ratio(0.2, 1), dice.between(0.2, 0.8))
    centre = np.exp(-(((1 - scene.distance / (scene.inner[numbers] + 1e-9)) / dice.between(0.3, 0.6)) ** 2))
    thick = dice.between(1.2, 4) if dice.chance(0.2) else dice.some(0.7, 0.1, 1.2)
    body += thick * centre * scene.cells
    nucleus = scene.nucleus(dice.between(0.35, 0.65), scene.length(0.03, 0.1, 1))
    near = np.clip(centre - dice.between(0.5, 1) * nucleus, 0, 1) * scene.cells  # where organelles crowd
    coarse = scene.texture(0.06, 0.2)
    inside = body * (1 + dice.between(0, 0.25) * scene.texture(0.02, 0.06) + dice.between(0, 0.35) * coarse)
    rim = np.exp(-((scene.distance / scene.length(0.02, 0.05, 0.7)) ** 2))
    if shown := dice.some(0.7, -0.4, 0.5):
        inside += shown * nucleus + 0.4 * abs(shown) * nucleus * (nucleus < 0.9)
        inside += dice.between(0.2, 1) * scene.nucleoli(nucleus)
    if dice.chance(0.75):
        strength = dice.ratio(0.15, 2.5)
        rate = dice.ratio(10, 120) / scene.diameter**2 * (near + 0.1 * scene.cells) * scene.each(0.6)[numbers]
        size = scene.length(0.015, 0.045, 0.45)
        inside += strength * scene.spots(rate, size)
        inside -= dice.some(0.6, 0.2, 1) * strength * scene.spots(rate, size)
    if strength := dice.some(0.3, 0.3, 1.0):
        some = scene.cells * (generator.random(len(delay)) < dice.between(0.1, 0.6))[numbers]
        where = some * (scene.distance > 0.15 * scene.diameter)
        inside -= strength * scene.bubbles(dice.between(1, 6), scene.length(0.03, 0.08), where)
    if strength := dice.some(0.35, 0.1, 0.6):
        inside += strength * body * scene.fibres()
    if strength := dice.some(0.5, 0.3, 2.0):  # ruffles: the edge thickens here and there
        band = np.exp(-((scene.distance / scene.length(0.04, 0.1, 1.2)) ** 2)) * scene.cells
        inside += strength * band * np.clip(coarse + dice.between(-1, 0.5), 0, 1.5)
    inside += dice.some(0.5, -0.3, 0.5) * rim * scene.cells
    phase = inside * delay[numbers]
    up = (scene.compactness > COMPACT) & (scene.radius < 0.65 * scene.diameter) & (generator.random(len(delay)) < 0.8)
    if up[1:].any() and np.median(scene.compactness[1:]) < OVAL:
        ball = np.minimum(dice.between(2, 6), 0.8 * scene.inner) * up
        phase = np.where(up[numbers], scene.height(1, 0.1) * (1 + 0.08 * coarse) * ball[numbers], phase)
    if dice.chance(0.35):
        phase += dice.between(0.2, 0.8) * float(np.median(delay)) * _retraction(scene)
    return np.asarray(phase, float)


def _retraction(scene: _Scene) -> Field:
    """Draw thin fibres that cells have left behind: lines outwards from their outlines, 0 to 1."""
    edge = np.argwhere(scene.cells & (scene.distance < 1))
    count = scene.generator.poisson(1.5 * len(scene.area)) if len(edge) else 0
    starts = edge[scene.generator.integers(0, max(len(edge), 1), count)]
    y, x = starts.T
    angles = scene.generator.normal(0, 0.4, len(starts)) + np.arctan2(*_outwards(scene, y, x))
    lengths = np.maximum(scene.generator.gamma(2, 0.25 * scene.diameter, len(starts)), 2)
    return scene.strokes(starts, angles, lengths, scene.length(0.01, 0.03, 0.5)) * ~scene.cells


def _outwards(scene: _Scene, y: NDArray[np.intp], x: NDArray[np.intp]) -> tuple[Field, Field]:
    """Return the direction (y, x) from the middle of its cell to each of the pixels."""
    middles = ndimage.center_of_mass(scene.cells, scene.numbers, range(1, len(scene.area)))
    table = np.array([(0.0, 0.0), *middles])[scene.numbers[y, x]]
    return y - table[:, 0], x - table[:, 1]


def _specimen(scene: _Scene) -> tuple[Field, Field]:
    """Draw the delays of cells and all else, in radians, and how much of the amplitude dirt takes, as exponent.

    All else is the uneven medium, specks, dashes and scratches.
    """
    dice, generator, area = scene.dice, scene.generator, scene.numbers.size
    per_cell = 1 / scene.diameter**2
    delay = _phase(scene)
    deep = min(float(np.mean(np.abs(delay[scene.cells]))) if scene.cells.any() else 0.3, 0.5)
    delay += deep * dice.some(0.8, 0.005, 0.15) * scene.texture(0.03, 0.2)
    delay += deep * dice.between(0, 0.25) * scene.texture(0.7, 3)
    dust = np.zeros(scene.shape)
    uneven = np.clip(0.3 + scene.texture(0.03, 0.1), 0, 2)
    if dice.chance(0.6):
        rate = dice.ratio(0.02, 4) * per_cell
        delay += dice.ratio(0.1, 1) * scene.spots(rate, scene.length(0.015, 0.05)) * uneven
    if dice.chance(0.35):
        specks = scene.spots(dice.ratio(0.02, 0.3) * per_cell, scene.length(0.04, 0.1, 0.7)) * uneven
        delay += dice.ratio(0.5, 3) * specks
        dust += dice.some(0.5, 0.2, 1.5) * specks
    if dice.chance(0.25):
        count = generator.poisson(dice.ratio(0.02, 1) * per_cell * area)
        starts = np.stack([generator.integers(0, n, count) for n in scene.shape], 1)
        angles, lengths = generator.uniform(0, 2 * np.pi, count), generator.uniform(0.05, 0.25, count) * scene.diameter
        delay += dice.ratio(0.1, 0.8) * scene.strokes(starts, angles, lengths + 1, scene.length(0.02, 0.04))
    if dice.chance(0.1):
        count = int(generator.integers(1, 4))
        starts = np.stack([generator.integers(0, n, count) for n in scene.shape], 1)
        angles, lengths = generator.uniform(0, 2 * np.pi, count), generator.uniform(0.3, 1.2, count) * max(scene.shape)
        delay += dice.between(-0.5, 0.5) * scene.strokes(starts, angles, lengths, scene.length(0.01, 0.04, 0.6))
    return delay, dust


def _floating(scene: _Scene, light: Field) -> Field:
    """Add to the light what dead cells and dirt far from focus cast on it: faint discs and rings."""
    dice = scene.dice
    if not dice.chance(0.35):
        return light
    balls = scene.spots(dice.ratio(0.01, 0.12) / scene.diameter**2, scene.length(0.12, 0.4, 2))
    balls *= np.clip(0.7 + 0.4 * scene.texture(0.15, 0.4), 0.1, None)
    wave = np.exp(dice.between(0.2, 1) * (dice.between(-0.3, 0) + 1j) * balls)
    cast = brightfield(wave, dice.ratio(0.06, 0.45) * scene.diameter**2, scene.length(0.05, 0.15, 1)) - 1
    strongest = dice.between(0.2, 1) * light.std()  # no image of dirt
    shadowed: Field = light * np.clip(1 + cast * min(1.0, strongest / max(float(cast.std()), 1e-9)), 0, None)
    return shadowed


def _phase_contrast(scene: _Scene) -> Field:
    """Form a phase contrast image."""
    dice = scene.dice
    delay, dust = _specimen(scene)
    wave = np.exp(1j * delay - dust)
    light = phase_contrast(
        wave,
        ring=dice.between(0.3, 0.75) * (-1 if dice.chance(0.12) else 1),
        halo=scene.length(0.06, 0.5, 1.2),
        defocus=scene.generator.normal(0, 0.3) * float(np.clip((scene.diameter / 20) ** 2, 0.4, 3)),
        blur=scene.blur(),
    )
    return _floating(scene, light)


def _interference(scene: _Scene) -> Field:
    """Form an image by differential interference contrast."""
    dice = scene.dice
    delay, _ = _specimen(scene)
    angle, size = dice.between(0, 2 * np.pi), scene.length(0.02, 0.08, 0.5)
    bias = dice.between(0.4, 1.5)
    shear = (size * np.sin(angle), size * np.cos(angle))
    light = interference_contrast(delay, shear, bias, scene.blur())
    return _floating(scene, light)


def _bright(scene: _Scene) -> Field:
    """Form a brightfield image: of clear cells out of focus, or of stained ones."""
    dice = scene.dice
    delay, dust = _specimen(scene)
    stain = np.zeros(scene.shape)
    strength = 1.0
    if dice.chance(0.4):
        strength = dice.between(0.1, 0.6)
        level = dice.ratio(0.15, 1.5) * scene.each(dice.between(0.1, 0.5))
        texture = np.clip(1 + dice.between(0.05, 0.5) * scene.texture(0.04, 0.15), 0.1, None)
        stain += scene.height(dice.ratio(0.1, 0.8), dice.between(0.4, 0.9)) * level[scene.numbers] * texture
        if dice.chance(0.5):
            stain += dice.ratio(0.3, 2) * level[scene.numbers] * scene.nucleus(dice.between(0.2, 0.55), 1.5)
        if dice.chance(0.4):  # tissue between the cells takes some of the stain
            stain += dice.ratio(0.05, 0.6) * level[0] * np.clip(0.7 + 0.5 * scene.texture(0.3, 1.5), 0, 2)
    wave = np.exp(1j * strength * delay - stain / 2 - dust)
    width = scene.length(0.03, 0.14, 0.8)
    light = brightfield(wave, width**2 * (-1 if dice.chance(0.5) else 1), scene.blur())
    return _floating(scene, smooth(light, 0.35 * width))


def _dark(scene: _Scene) -> Field:
    """Form a dark field image: edges and granules scatter light."""
    delay, dust = _specimen(scene)
    light = dark_field(np.exp(1j * delay - dust), scene.length(0.03, 0.08, 1), scene.blur())
    return _exposed(scene, light)


def _nuclei(scene: _Scene) -> Field:
    """Draw the dye of stained nuclei, about 1 where a nucleus is."""
    dice, generator, numbers = scene.dice, scene.generator, scene.numbers
    level = np.clip(scene.each(dice.between(0.05, 0.8)), 0.2, 4)
    dividing = generator.random(len(level)) < dice.some(0.5, 0.01, 0.08)
    level = np.where(dividing, level * dice.between(1.5, 4), level)
    chromatin = dice.between(0.05, 0.45) * scene.each(0.4)[numbers] * scene.texture(0.03, 0.12)
    density = scene.height(dice.ratio(0.15, 1), dice.between(0.3, 0.8)) * np.clip(1 + chromatin, 0.2, 3)
    if strength := dice.some(0.6, 0.3, 0.9):
        density *= 1 - strength * scene.bubbles(dice.between(1, 5), scene.length(0.05, 0.11), scene.distance > 1.5)
    if strength := dice.some(0.3, 0.5, 2):  # bright centres of chromatin
        density += strength * scene.spots(dice.ratio(4, 15) / scene.diameter**2 * scene.cells, scene.length(0.03, 0.06))
    density *= level[numbers] * scene.cells
    if strength := dice.some(0.35, 0.02, 0.2):  # the cells around the nuclei
        around = np.clip(smooth(density, 0.6 * scene.diameter) * (1 + 0.4 * scene.texture(0.1, 0.4)), 0, None)
        density += strength * around
    return density


def _cytoplasm(scene: _Scene) -> Field:
    """Draw the dye or protein that fills cells, about 1 inside."""
    dice, numbers = scene.dice, scene.numbers
    level = np.clip(scene.each(dice.between(0.1, 0.8)), 0.15, 5)
    centre = np.clip(scene.distance / (scene.inner[numbers] + 1e-9), 0, 1)
    nucleus = scene.nucleus(dice.between(0.35, 0.65), scene.length(0.03, 0.12, 1))
    density = scene.height(dice.ratio(0.15, 1), dice.between(0.35, 0.8)) + dice.some(0.6, 0.2, 1) * centre**2
    density *= np.clip(1 + dice.between(0, 0.3) * scene.texture(0.02, 0.08) + 0.2 * scene.texture(0.1, 0.3), 0.2, 3)
    if strength := dice.some(0.5, 0.3, 2):
        density += strength * scene.fibres()
    if strength := dice.some(0.75, -0.9, 1.5):
        density *= 1 + strength * nucleus
        density *= 1 - 0.6 * scene.nucleoli(nucleus) if strength > 0 else 1
    if strength := dice.some(0.4, 0.5, 4):
        rate = dice.ratio(8, 80) / scene.diameter**2 * (0.2 + centre) * scene.each(0.6)[numbers]
        density += strength * scene.spots(rate * scene.cells, scene.length(0.015, 0.04))
    if strength := dice.some(0.25, 0.3, 0.9):
        density *= 1 - strength * scene.bubbles(dice.between(1, 5), scene.length(0.04, 0.1), scene.distance > 2)
    density *= level[numbers] * scene.cells
    return np.asarray(density, float)


def _membranes(scene: _Scene) -> Field:
    """Draw dye in membranes or walls, about 1 on outlines."""
    dice, numbers = scene.dice, scene.numbers
    level = np.clip(scene.each(dice.between(0, 0.4)), 0.3, 3)
    level[0] = 1
    width = scene.length(0.02, 0.07, 0.7)
    ring = np.exp(-0.5 * ((scene.distance - 0.5) / width) ** 2)
    uneven = 1 + dice.between(0, 0.6) * scene.texture(0.15, 0.6) + dice.between(0, 0.3) * scene.texture(0.03, 0.1)
    gaps = dice.some(0.5, 0.3, 1) * np.clip(2 * scene.texture(0.2, 0.6) - dice.between(1, 3), 0, 1)
    density = ring * np.clip(uneven, 0.25, 3) * (1 - 0.9 * gaps)
    inside = dice.some(0.7, 0.02, 0.5) * scene.height(0.3, 0.5) * np.clip(1 + 0.3 * scene.texture(0.04, 0.2), 0, 3)
    if dice.chance(0.5):
        inside *= 1 - dice.between(-0.5, 0.9) * scene.nucleus(dice.between(0.35, 0.6), 1.5)
    density = np.maximum(density, inside) + 0.3 * inside
    if strength := dice.some(0.4, 0.2, 1.5):
        rate = dice.ratio(2, 30) / scene.diameter**2 * scene.cells
        density += strength * scene.spots(rate, scene.length(0.015, 0.04))
    return np.asarray(density * smooth(level[numbers], 1), float)


def _exposed(scene: _Scene, light: Field) -> Field:
    """Return light divided by what a bright part of the median cell gets; what is far brighter saturates."""
    if scene.cells.any():
        means = np.bincount(scene.numbers.ravel(), light.ravel())[1:] / scene.area[1:]
        light = np.minimum(light / max(2 * float(np.median(means)), 1e-9), scene.dice.between(1.5, 5))
    return light


def _transmitted(scene: _Scene, light: Field) -> Field:
    """Record light about 1: uneven lamp, photons and electronics. Shade and noise are measured by the contrast."""
    dice, generator = scene.dice, scene.generator
    light = np.clip(light[scene.frame], 0, None)  # a narrow blur rings, below 0 beside a bright edge
    contrast = float(np.clip(light.std(), 0.01, 0.3))
    shade = min(dice.ratio(0.1, 4) * contrast, 0.4)
    light = light * np.clip(illumination(light.shape, shade, generator), 0.2, None)
    photons = min(1 / (contrast * dice.ratio(0.03, 0.8)) ** 2, 1e6)
    read = dice.between(0, 0.3) * np.sqrt(photons)
    electrons = generator.poisson(light * photons) + generator.normal(0, read, light.shape)
    counts = electrons * (dice.ratio(200, 3000) / photons) + dice.between(0, 200)
    return np.clip(counts, 0, None)


def _emitted(scene: _Scene, density: Field) -> Field:
    """Record a specimen that glows, about 1 where it is bright: blur, haze, background, photons and electronics."""
    dice, generator, shape = scene.dice, scene.generator, scene.shape
    light = smooth(density, scene.blur())
    if share := dice.some(0.6, 0.02, 0.5):
        haze = smooth(density, scene.length(0.15, 0.8, 2))
        if dice.chance(0.4):  # cells above and below
            haze += np.roll(haze, generator.integers(0, shape, 2), (0, 1))
        light = (1 - share) * light + share * haze
    ground = dice.ratio(0.003, 0.3)
    light += ground * np.clip(1 + dice.some(0.5, 0.05, 0.5) * scene.texture(0.5, 3), 0, None)
    if strength := dice.some(0.3, 0.3, 3):
        light += strength * scene.spots(dice.ratio(0.02, 0.3) / scene.diameter**2, scene.length(0.02, 0.06, 0.6))
    light = np.clip(light[scene.frame], 0, None)
    light = light * np.clip(illumination(light.shape, dice.ratio(0.01, 0.6), generator), 0.1, None)
    photons = dice.ratio(8, 5000)
    electrons = generator.poisson(light * photons) + generator.normal(
        0, dice.ratio(0.02, 0.5) * np.sqrt(photons), light.shape
    )
    if hot := dice.some(0.15, 1e-5, 1e-3):
        electrons[generator.random(light.shape) < hot] += dice.ratio(0.3, 3) * photons
    if dice.chance(0.15):
        electrons = np.minimum(electrons, dice.between(0.3, 0.9) * electrons.max())
    return np.clip(electrons * (dice.ratio(50, 3000) / photons) + dice.between(0, 200), 0, None)


_IMAGES: dict[Modality, tuple[Callable[[_Scene, Field], Field], Callable[[_Scene], Field]]] = {
    "phase contrast": (_transmitted, _phase_contrast),
    "dic": (_transmitted, _interference),
    "brightfield": (_transmitted, _bright),
    "dark field": (_emitted, _dark),
    "nuclear fluorescence": (_emitted, _nuclei),
    "cytoplasm fluorescence": (_emitted, _cytoplasm),
    "membrane fluorescence": (_emitted, _membranes),
}
"""By modality, what records light and what forms it."""
