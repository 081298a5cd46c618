"""Texture of cells: cut from real frames, and given to painted cells, to each that of one real cell through its life.

Generators that learn for minutes paint plain cells. A real cell is laid along a painted one, stretched to its length
and width, and then in each direction to its outline; so it brings grain, rim and halo with it, and its changes from
frame to frame.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import Box, boxes

Image = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float32]
Known = NDArray[np.bool_]
Angles = NDArray[np.floating[Any]]

RIM = 4.0  # px around a cell that belong to its texture, fading out over the last two
AROUND = 12  # px around a cell by which the level is measured from which its texture differs
LEAST, LARGEST = 20, 40  # px that a cell with a texture has, and in any direction from its middle
FRAMES = 16  # in a row for which a cell is kept
ANGLES = 64  # directions in which an outline is measured
STEP = 0.25  # px, of that measurement
BLUR = (1.0, 1.5)  # standard deviations of the blur of a mask in px, and of its outline in directions
LONGEST = 5.0  # ratio of length and width from which cells are brought to a circle, at most
MIRRORED = ((1, 1), (-1, -1), (-1, 1), (1, -1))  # signs of places across and along: how a cell may lie along another
LIKE, CHOICES = 20, 5  # real cells of the most fitting shape; those of them most like the mother, of which one is drawn
CELLS = 300  # of a stretch of frames after which no further ones are looked at


class Body(NamedTuple):
    """How a cell lies: its second moments, by which it is brought to a circle of its area, and its outline there."""

    middle: tuple[int, int]
    """y, x"""
    matrix: Floats
    """(2, 2), from offsets y, x in px to places across and along the cell"""
    outline: Floats
    """(ANGLES,), distances of the outline there from the middle, at least 1"""


class Life(NamedTuple):
    """What is known of a cell before it is painted."""

    begin: int
    end: int
    """its first and its last frame"""
    mother: int
    """the cell that it comes from; 0 for none"""
    divides: bool
    body: Body
    """in its first frame"""


class Worn(NamedTuple):
    """Whose texture a painted cell has."""

    track: int
    """row of `Textures.tracks`"""
    begin: int
    """frame of the painted movie at which that cell begins"""
    mirrored: int
    """in which of the MIRRORED ways it lies"""


class Stretch(NamedTuple):
    """Frames in a row: images (C, H, W) with labels (H, W), in which a cell has one id; and what is known of them."""

    frames: Iterable[tuple[Image, Labels]]
    background: Image
    """(C, H, W)"""
    mothers: Mapping[int, int]
    """the cells that cells come from"""


class _Seen(NamedTuple):
    """A cell in a frame, of which its patch (C, h, w) begins at `origin` from its middle."""

    frame: int
    body: Body
    origin: tuple[int, int]
    patch: NDArray[np.float16]
    known: Known
    contrast: float

    @property
    def reach(self) -> int:
        """Half the side of the smallest window about the middle that holds the patch."""
        return max(int(max(-start, start + size)) for start, size in zip(self.origin, self.known.shape, strict=True))

    def placed(self, half: int) -> tuple[slice, slice]:
        """Where the patch lies in a window of twice `half` about the middle."""
        top, left = (half + start for start in self.origin)
        return slice(top, top + self.known.shape[0]), slice(left, left + self.known.shape[1])


@dataclass(frozen=True, eq=False)
class Textures:
    """Real cells, each through frames in a row."""

    patches: NDArray[np.float16]
    """(N, C, side, side), differences from what lies around, about the middle of a cell; 0 where they are not known"""
    known: Known
    """(N, side, side), what is the cell's or within its rim"""
    matrices: Floats
    """(N, 2, 2), `Body.matrix`"""
    outlines: Floats
    """(N, ANGLES), `Body.outline`"""
    contrasts: Floats
    """(N,), root mean squares of the differences in the cell"""
    tracks: NDArray[np.int64]
    """(K, 4): the first patch, their number, the row of the mother or -1, and whether the cell divides at the end"""

    @classmethod
    def cut(cls, stretches: Iterable[Stretch], most: int) -> Self:
        """Cut cells from stretches of movies, but for those at the edge and those of unusual size.

        A cell is kept for FRAMES, the last ones before a division, else the first ones. Of more than `most` pixels
        those cells are left out that are seen for the shortest time.
        """
        seen: dict[tuple[int, int], list[_Seen]] = {}
        mothers: dict[tuple[int, int], tuple[int, int]] = {}
        dividing = set[tuple[int, int]]()
        channels = 1
        for number, stretch in enumerate(stretches):
            channels, last = len(stretch.background), dict[int, int]()
            rows, divide = dict[int, list[_Seen]](), set(stretch.mothers.values())
            for frame, (image, labels) in enumerate(stretch.frames):
                places = boxes(labels)
                last |= dict.fromkeys(places, frame)
                full = len(rows) >= CELLS
                wanted = {
                    cell: box
                    for cell, box in places.items()
                    if (_goes_on(rows[cell], frame, cell in divide) if cell in rows else not full)
                }
                for cell, one in _cells(frame, image - stretch.background, labels, wanted):
                    rows[cell] = [*rows.get(cell, ()), one][-FRAMES:]
            seen |= {(number, cell): row for cell, row in rows.items()}
            for cell, mother in stretch.mothers.items():
                mothers[number, cell] = (number, mother)
                if (number, mother) in seen and seen[number, mother][-1].frame == last[mother]:
                    dividing.add((number, mother))
        reach = max((one.reach for row in seen.values() for one in row), default=1)
        fit = max(most // (2 * reach) ** 2, 1)
        keys, count = list[tuple[int, int]](), 0
        for key in sorted(seen, key=lambda key: (-len(seen[key]), key)):
            count += len(seen[key])
            if count > fit and keys:
                break
            keys.append(key)
        numbers = {key: number for number, key in enumerate(sorted(keys))}
        tracks, cells = list[tuple[int, int, int, bool]](), list[_Seen]()
        for key in numbers:
            mother = numbers.get(mothers[key], -1) if key in mothers else -1
            tracks.append((len(cells), len(seen[key]), mother, key in dividing))
            cells += seen[key]
        patches = np.zeros((len(cells), channels, 2 * reach, 2 * reach), np.float16)
        known = np.zeros((len(cells), 2 * reach, 2 * reach), np.bool_)
        for number, one in enumerate(cells):
            patches[number, :, *one.placed(reach)], known[number, *one.placed(reach)] = one.patch, one.known
        return cls(
            patches,
            known,
            np.array([one.body.matrix for one in cells], np.float32).reshape(-1, 2, 2),
            np.array([one.body.outline for one in cells], np.float32).reshape(-1, ANGLES),
            np.array([one.contrast for one in cells], np.float32),
            np.array(tracks, np.int64).reshape(-1, 4),
        )

    @classmethod
    def of(cls, stored: Mapping[str, NDArray[Any]], channels: int) -> Self:
        """Return textures of so many channels from what `stored` returned; raises ValueError if they are none."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in stored]:
            raise ValueError(f"without {', '.join(missing)}")
        count, side = len(stored["known"]), stored["known"].shape[-1]
        shapes = [(count, channels, side, side), (count, side, side), (count, 2, 2), (count, ANGLES), (count,)]
        tracks = stored["tracks"]
        whole = tracks.ndim == 2 and tracks.shape[1] == 4 and side % 2 == 0
        if not whole or any(stored[name].shape != shape for name, shape in zip(names, shapes, strict=False)):
            raise ValueError(f"{names} have the shapes {[list(stored[name].shape) for name in names]}")
        first, counts, mothers = tracks[:, 0], tracks[:, 1], tracks[:, 2]
        fit = (first >= 0) & (counts >= 1) & (first + counts <= count) & (mothers >= -1) & (mothers < len(tracks))
        if not fit.all() or (np.abs(np.linalg.det(stored["matrices"])) < 1e-3).any():
            raise ValueError("tracks or matrices that cannot be")
        kinds = [np.float16, np.bool_, np.float32, np.float32, np.float32, np.int64]
        return cls(*(stored[name].astype(kind) for name, kind in zip(names, kinds, strict=True)))

    def stored(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def worn(self, lives: Mapping[int, Life], draw: tuple[int, ...]) -> dict[int, Worn]:
        """Draw whose texture each cell has.

        A daughter has that of a daughter of the cell whose texture her mother has, where there is one. Others have that
        of a cell with about their shape in their first frame and about their mother's contrast, which divides if they
        do and comes from a division if they do, as far as there are such. A draw is from the integers `draw` and the
        number of the cell.
        """
        found: dict[int, Worn] = {}
        if not len(self.tracks):
            return found
        taken = set[tuple[int, int]]()
        for cell, life in sorted(lives.items(), key=lambda one: (one[1].begin, one[0])):
            mother = found.get(life.mother)
            born = [] if mother is None else np.flatnonzero(self.tracks[:, 2] == mother.track).tolist()
            sisters = [row for row in born if (life.mother, row) not in taken]
            if sisters:
                taken.add((life.mother, sisters[0]))
                found[cell] = self._laid(np.array(sisters[:1]), life, None, 0.0)
                continue
            rows = np.arange(len(self.tracks))
            for alike in (self.tracks[:, 3] == life.divides, (self.tracks[:, 2] >= 0) == (life.mother > 0)):
                rows = rows[alike[rows]] if alike[rows].any() else rows
            like = None if mother is None else float(self.contrasts[self.place(mother, life.begin)])
            found[cell] = self._laid(rows, life, like, np.random.default_rng([*draw, cell]).random())
        return found

    def _laid(self, rows: NDArray[np.int64], life: Life, contrast: float | None, drawn: float) -> Worn:
        """Return the one of some tracks whose cell fits, by a number `drawn` in [0, 1) where several do."""
        counts, divides = self.tracks[rows, 1], self.tracks[rows, 3] > 0
        begins = np.where(divides & life.divides, life.end - counts + 1, life.begin).tolist()
        starts = [Worn(row, begin, 0) for row, begin in zip(rows.tolist(), begins, strict=True)]
        places = [self.place(start, life.begin) for start in starts]
        misfit = self._misfit(places, life.body)
        order = np.argsort(misfit.min(axis=1), kind="stable")[:LIKE]
        if contrast is not None:
            order = order[np.argsort(np.abs(self.contrasts[places] - contrast)[order], kind="stable")]
        chosen = int(order[int(drawn * min(CHOICES, len(order)))])
        return starts[chosen]._replace(mirrored=int(misfit[chosen].argmin()))

    def _misfit(self, places: list[int], body: Body) -> NDArray[np.float64]:
        """Return how far the shapes of patches (n) in each of the MIRRORED ways are from that of a body: (n, 4)."""
        size = np.sqrt(np.square(body.outline).mean())
        lengths = np.log(np.linalg.norm(self.matrices[places], axis=(1, 2)) / np.linalg.norm(body.matrix))
        found = []
        for signs in MIRRORED:
            turned = np.rint(_turned(_directions(), signs) * (ANGLES / (2 * np.pi))).astype(int) % ANGLES
            away = np.square((self.outlines[places][:, turned] - body.outline) / size).mean(axis=1)
            found.append(away + np.square(lengths))
        return np.stack(found, axis=1)

    def place(self, worn: Worn, frame: int) -> int:
        """Return the patch of a frame; before its beginning and after its end, a cell goes back and forth."""
        first, count = (int(value) for value in self.tracks[worn.track, :2])
        turn = (frame - worn.begin) % max(2 * count - 2, 1)
        return first + min(turn, max(2 * count - 2 - turn, 0))

    def dressed(self, image: Image, ground: Image, labels: Labels, worn: Mapping[int, Worn], frame: int) -> Floats:
        """Return an image (C, H, W) whose cells, labels (H, W), have their textures on the ground (C, H, W).

        What is not known of a texture, and cells that have none, stay as they are.
        """
        dressed = np.array(image, np.float32)
        owners, distance = _owners(labels)
        shares = np.clip((RIM + 0.5 - distance) / 2, 0, 1)
        difference, half = image - ground, self.known.shape[-1] // 2
        for cell, box in boxes(labels).items():
            if cell not in worn:
                continue
            place, body = self.place(worn[cell], frame), lying(labels, cell, box)
            around = _around(box, int(RIM))
            y, x = np.nonzero(owners[around] == cell)
            y, x = y + around[0].start, x + around[1].start
            across, along = body.matrix @ np.stack([y - body.middle[0], x - body.middle[1]])
            here, radius = np.arctan2(across, along), np.hypot(across, along)
            there = _turned(here, MIRRORED[worn[cell].mirrored])
            ends = _along(body.outline, here), _along(self.outlines[place], there)
            radius = np.where(radius <= ends[0], radius * ends[1] / ends[0], radius - ends[0] + ends[1])
            source = half + np.linalg.inv(self.matrices[place]) @ (radius * np.stack([np.sin(there), np.cos(there)]))
            known = ndimage.map_coordinates(self.known[place].astype(np.float32), source, order=1) > 0.999
            share = np.where(known, shares[y, x], 0)
            below = ground[:, y, x] + _level(difference, distance, box)
            for channel, patch in enumerate(self.patches[place].astype(np.float32)):
                value = below[channel] + ndimage.map_coordinates(patch, source, order=1)
                dressed[channel, y, x] += share * (value - dressed[channel, y, x])
        return dressed


def lives_of(frames: Iterable[tuple[int, Labels]], mothers: Mapping[int, int]) -> dict[int, Life]:
    """Return the lives of all cells in frames (number, labels (H, W)); `mothers` names those that cells come from."""
    dividing = set(mothers.values())
    found: dict[int, Life] = {}
    for number, labels in frames:
        for cell, box in boxes(labels).items():
            if cell in found:
                found[cell] = found[cell]._replace(end=number)
            else:
                body = lying(labels, cell, box)
                found[cell] = Life(number, number, mothers.get(cell, 0), cell in dividing, body)
    return found


def lying(labels: Labels, cell: int, box: Box) -> Body:
    """Return how a cell lies that fills a box of labels (H, W)."""
    inside = labels[box] == cell
    points = np.argwhere(inside)
    y, x = (round(float(value)) for value in points.mean(axis=0))
    wide, axes = np.linalg.eigh(np.cov(points.T, bias=True) + np.eye(2) / 12)  # that of a pixel, so that none is flat
    wide = wide.clip(wide[1] / LONGEST**2)
    axes = axes * np.where(axes[0] + 1e-6 * axes[1] < 0, -1, 1)  # an axis has no sign of its own
    matrix = np.diag(wide.prod() ** 0.25 / np.sqrt(wide)) @ axes.T
    radii = np.arange(0, np.linalg.norm(matrix, 2) * (np.hypot(*inside.shape) + 3), STEP)
    back = np.linalg.inv(matrix) @ np.stack([np.sin(_directions()), np.cos(_directions())])
    where = [start + 3 + side[:, None] * radii for start, side in zip((y, x), back, strict=True)]
    soft = ndimage.gaussian_filter(np.pad(inside, 3).astype(np.float32), BLUR[0])
    reached = ndimage.map_coordinates(soft, where, order=1) > 0.5
    outline = ndimage.gaussian_filter1d(np.where(reached, radii, 0).max(axis=1), BLUR[1], mode="wrap")
    middle = y + box[0].start, x + box[1].start
    return Body(middle, matrix.astype(np.float32), np.maximum(outline, 1).astype(np.float32))


def _goes_on(row: list[_Seen], frame: int, divides: bool) -> bool:
    """Tell whether a frame is of use for a cell that was seen so far in a row of frames."""
    return row[-1].frame == frame - 1 and (divides or len(row) < FRAMES)


def _cells(frame: int, difference: Image, labels: Labels, places: Mapping[int, Box]) -> Iterator[tuple[int, _Seen]]:
    """Yield those of some cells of a frame that can lend a texture."""
    owners, distance = _owners(labels)
    for cell, box in places.items():
        inside = labels[box] == cell
        at_edge = any(side.start == 0 or side.stop == size for side, size in zip(box, labels.shape, strict=True))
        if at_edge or np.count_nonzero(inside) < LEAST:
            continue
        body = lying(labels, cell, box)
        offsets = np.argwhere(inside) + [side.start - at for side, at in zip(box, body.middle, strict=True)]
        if np.abs(offsets).max() > LARGEST:
            continue
        around, level = _around(box, int(RIM)), _level(difference, distance, box)
        known = owners[around] == cell
        patch = np.where(known, difference[:, *around] - level[..., None], 0)
        contrast = float(np.sqrt(np.square(difference[:, *box][:, inside] - level, dtype=np.float64).mean()))
        origin = (around[0].start - body.middle[0], around[1].start - body.middle[1])
        yield cell, _Seen(frame, body, origin, patch.astype(np.float16), known, contrast)


def _owners(labels: Labels) -> tuple[Labels, NDArray[np.float64]]:
    """Return of each pixel the cell in whose rim it lies, or which it is part of, or 0; and how far the nearest is."""
    if not labels.any():
        return labels, np.full(labels.shape, np.inf)
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return np.where(distance <= RIM, labels[tuple(nearest)], 0), distance


def _level(difference: Image, distance: NDArray[np.float64], box: Box) -> Floats:
    """Return the median difference (C, 1) of what lies around a cell and belongs to none; 0 where there is none."""
    around = _around(box, AROUND)
    free = distance[around] > RIM
    if np.count_nonzero(free) < LEAST:
        return np.zeros((len(difference), 1), np.float32)
    return np.median(difference[:, *around][:, free], axis=1, keepdims=True).astype(np.float32)


def _around(box: Box, px: int) -> Box:
    """Return a box that is so many pixels wider on each side, as far as the image goes."""
    return tuple(slice(max(side.start - px, 0), side.stop + px) for side in box)


def _directions() -> Angles:
    return np.arange(ANGLES) * (2 * np.pi / ANGLES)


def _turned(angle: Angles, signs: tuple[int, int]) -> Angles:
    """Return the directions of another cell along which those of a cell lie, in one of the MIRRORED ways."""
    turned: Angles = np.arctan2(signs[0] * np.sin(angle), signs[1] * np.cos(angle))
    return turned


def _along(outline: Floats, angle: Angles) -> Angles:
    """Return an outline in any directions, linear between those that were measured."""
    place = angle * (ANGLES / (2 * np.pi)) % ANGLES
    first = np.floor(place).astype(int)
    share = place - first
    found: Angles = outline[first % ANGLES] * (1 - share) + outline[(first + 1) % ANGLES] * share
    return found
