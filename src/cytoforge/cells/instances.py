"""Cells as label images, and the class maps that a network learns in their place.

A target turns labels into classes (`encode`, for training) and class probabilities back into labels (`decode`).
`Boundary` separates touching cells by a border class; `Depth`, the default of `train segmentation`, also tells how deep
inside its cell a pixel lies; `Semantic` knows cell and background only, as in cGAN-Seg. `condition` turns labels into
the input of an image generator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn import functional as F

from cytoforge.cells.labels import dense

Labels = NDArray[np.int32]

FOUR_CONNECTED = ndimage.generate_binary_structure(2, 1)
EIGHT_CONNECTED = ndimage.generate_binary_structure(2, 2)


class Target(Protocol):
    """What a segmentation network is trained to predict; `classes` counts its outputs, class 0 is background."""

    @property
    def name(self) -> str:
        """Key in `TARGETS`."""

    @property
    def classes(self) -> int:
        """Number of classes, background included."""

    @property
    def protocol(self) -> Literal["instances", "paper"]:
        """How its cells are scored: each by itself, or, where touching cells are one, connected components."""

    @property
    def minimum_area(self) -> int:
        """Pixels below which a cell is dropped as a speck."""

    def encode(self, labels: Tensor) -> Tensor:
        """Labels (B,H,W), any integers with 0 for background -> classes (B,H,W) int64."""

    def decode(self, probabilities: NDArray[np.floating[Any]]) -> Labels:
        """Probabilities (classes,H,W) in [0, 1] -> labels (H,W) int32, cells 1..N."""


@dataclass(frozen=True)
class Boundary:
    """Background 0, interior 1, border 2: keeps touching cells apart.

    The border lies inside the cell, so the cell's mask is interior and border together and nothing is lost in size.
    A label image is recovered exactly when the interior of every cell is connected and touches all of its border:
    any cell that a 3 x 3 brush could have painted with overlapping strokes, touching others or the image's edge or not.
    """

    name: str = field(default="boundary", init=False)
    classes: int = field(default=3, init=False)
    protocol: Literal["instances", "paper"] = field(default="instances", init=False)
    minimum_area: int = 15
    """Cells of fewer pixels are dropped as specks (px; cGAN-Seg drops objects below 15 px)."""
    minimum_marker: float = 2.0
    """Interiors below this size do not start a cell (px, each weighted by the probability of interior minus that of
    border). A doubtful speck of interior would otherwise split a cell; a sure one of two pixels is a small cell."""

    def encode(self, labels: Tensor) -> Tensor:
        """Labels (B,H,W), any integers -> classes (B,H,W) int64. ValueError if not (B,H,W).

        Where erosion would break a cell apart, the thread of pixels that holds its interior together stays interior,
        unless another cell is next to it. A cell too thin to have an interior keeps its innermost pixels (those with
        most of the cell in their 3 x 3 neighbourhood) as one.
        """
        _check_batch(labels)
        cell = labels != 0
        core = cell & ~inner_border(labels)
        core |= _innermost_of_thin_cells(labels, core)
        free = cell & ~_meets(labels, _are_two_cells)
        interior = _peel(core | free, free & ~core)
        return torch.where(cell & ~interior, 2, cell.long())

    def decode(self, probabilities: NDArray[np.floating[Any]]) -> Labels:
        """Probabilities (3,H,W) -> labels (H,W) int32, cells 1..N.

        Foreground is where interior and border together exceed one half. Connected interiors are markers, from which
        the cells grow through the foreground, least border first. A patch of foreground without a marker is one cell:
        a network that has seen a thin cell as all border has still seen a cell. ValueError on another shape.
        """
        _check_probabilities(probabilities, self.classes)
        _, interior, border = probabilities
        foreground = interior + border > 0.5
        markers, count = ndimage.label(foreground & (interior > border), structure=EIGHT_CONNECTED)
        size = np.bincount(markers.ravel(), weights=(interior - border).ravel(), minlength=count + 1)
        markers = _keep(markers, size >= self.minimum_marker)
        cells = watershed(border - interior, markers, connectivity=2, mask=foreground)
        return _completed(cells, foreground, self.minimum_area)


@dataclass(frozen=True)
class Semantic:
    """Background 0, cell 1 (cGAN-Seg); cells that touch become one, as connected components are the instances."""

    name: str = field(default="semantic", init=False)
    classes: int = field(default=2, init=False)
    protocol: Literal["instances", "paper"] = field(default="paper", init=False)
    minimum_area: int = 15
    """Components of fewer pixels are dropped as specks (px; cGAN-Seg drops objects below 15 px)."""

    def encode(self, labels: Tensor) -> Tensor:
        """Labels (B,H,W), any integers -> classes (B,H,W) int64. ValueError if not (B,H,W)."""
        _check_batch(labels)
        return (labels != 0).long()

    def decode(self, probabilities: NDArray[np.floating[Any]]) -> Labels:
        """Probabilities (2,H,W) -> labels (H,W) int32 of the 4-connected components above one half, 1..N.

        Components of fewer than `minimum_area` pixels are dropped. ValueError on another shape.
        """
        _check_probabilities(probabilities, self.classes)
        components, _ = ndimage.label(probabilities[1] > 0.5, structure=FOUR_CONNECTED)
        return _keep(components, np.bincount(components.ravel()) >= self.minimum_area)


@dataclass(frozen=True)
class Depth:
    """Background 0, border 1, then three depths inside the cell, 2 to 4: cells grow from their deepest pixels.

    Depth is the square root of the cell's `potential`, in which a cell of any form has one summit where its distance to
    the edge has several. Expected depth, the mean of HEIGHTS by the probabilities, is the relief that is flooded. Where
    a network is unsure its relief is low and has several summits in a cell, so these are one cell unless the saddle
    between them is low in proportion to the lower one.
    """

    name: str = field(default="depth", init=False)
    classes: int = field(default=5, init=False)
    protocol: Literal["instances", "paper"] = field(default="instances", init=False)
    cuts: tuple[float, float] = (0.5, 0.8)
    """Depths between the three classes of the inside."""
    summit: float = 0.6
    """A cell begins where expected depth is locally largest and above this."""
    saddle: float = 0.55
    """Two summits are one cell if depth stays at or above this share of the lower one on a way between them."""
    minimum_area: int = 15
    """Cells of fewer pixels are dropped as specks (px; cGAN-Seg drops objects below 15 px)."""

    def encode(self, labels: Tensor) -> Tensor:
        """Labels (B,H,W), any integers -> classes (B,H,W) int64; the border as in `Boundary`. ValueError if not 3-D."""
        classes, depth = TARGETS["boundary"].encode(labels), potential(labels).sqrt()
        inside = 2 + (depth > self.cuts[0]).long() + (depth > self.cuts[1]).long()
        return torch.where(classes == 1, inside, (classes == 2).long())

    def decode(self, probabilities: NDArray[np.floating[Any]]) -> Labels:
        """Probabilities (5,H,W) -> labels (H,W) int32, cells 1..N; a patch of foreground without a summit is one cell.

        Foreground is where background is below one half. ValueError on another shape.
        """
        _check_probabilities(probabilities, self.classes)
        foreground = probabilities[0] < 0.5
        depth = np.tensordot(np.asarray(HEIGHTS, probabilities.dtype), probabilities, 1)
        summits = foreground & (depth > self.summit) & (depth == ndimage.maximum_filter(depth, 3))
        basins = watershed(-depth, ndimage.label(summits, EIGHT_CONNECTED)[0], connectivity=2, mask=foreground)
        return _completed(_joined(basins, depth, self.saddle), foreground, self.minimum_area)


HEIGHTS = (0, 0, 1 / 3, 2 / 3, 1)
"""Depth that each class of `Depth` stands for."""
RELAXATIONS, RELAXATION, MOMENTUM = 48, 1.4, 0.6
"""Steps towards the potential, and the share of a step and of the step before it that each takes (second-order
Richardson); from the distance to the edge, they suffice for cells of up to some 50 px."""


def potential(labels: Tensor) -> Tensor:
    """Solve Poisson's equation inside each cell: labels (B,H,W), any integers -> (B,H,W) float32 in [0, 1].

    Its Laplacian is constant inside the cell, its value 0 outside, and it is divided by its maximum in the cell. The
    image's edge is no edge of a cell. ValueError if not (B,H,W).
    """
    _check_batch(labels)
    height, width = labels.shape[1:]
    push = RELAXATION / 4 * (labels != 0)  # relaxed values are a quarter of the neighbours' in the cell, and of one
    distance = _distance_to_edge(labels)
    around = ((0, 1), (2, 1), (1, 0), (1, 2))
    padded = _repeated(labels)
    same = [(padded[:, y : y + height, x : x + width] == labels) * push for y, x in around]
    level = former = distance * distance.clamp(max=DEEPEST / 2)
    for _ in range(RELAXATIONS):
        padded = _repeated(level)
        following = torch.add(push, level, alpha=1 - RELAXATION + MOMENTUM).sub_(former, alpha=MOMENTUM)
        for (y, x), own in zip(around, same, strict=True):
            following.addcmul_(padded[:, y : y + height, x : x + width], own)
        level, former = following, level
    items = torch.arange(len(labels), device=labels.device)[:, None, None]
    _, owner = torch.unique(labels.long() + (items << 33), return_inverse=True)
    summit = torch.zeros(int(owner.max()) + 1, device=labels.device).scatter_reduce(
        0, owner.flatten(), level.flatten(), "amax"
    )
    return level / summit[owner].clamp(min=1e-6)


def _repeated(values: Tensor) -> Tensor:
    """Values (B,H,W) with a border of one pixel, which repeats the outermost."""
    values = torch.cat([values[:, :1], values, values[:, -1:]], dim=1)
    return torch.cat([values[:, :, :1], values, values[:, :, -1:]], dim=2)


TARGETS: Mapping[str, Target] = MappingProxyType({"boundary": Boundary(), "depth": Depth(), "semantic": Semantic()})


DEEPEST = 16
"""px from a cell's edge at which the distance in a condition is cut off"""
CONDITIONS: Mapping[str, int] = MappingProxyType({"mask": 1, "instances": 3})
"""Kinds of `condition` and their channels."""


def condition(labels: Tensor, kind: str) -> Tensor:
    """Return a generator's input: labels (B,H,W), any integers with 0 for background -> (B,C,H,W) float32 in [0, 1].

    `mask` is cell or background, as in cGAN-Seg (C = 1). `instances` (C = 3) is the same mask, the pixels next to
    another cell, and the distance to the cell's edge (chessboard, 1 px at the edge itself, divided by DEEPEST and cut
    off there), so that touching cells can stay apart in the picture. The image's edge is no edge of a cell.
    ValueError for another kind or shape.
    """
    _check_batch(labels)
    if kind not in CONDITIONS:
        raise ValueError(f"a condition is one of {', '.join(CONDITIONS)}, got {kind!r}")
    mask = (labels != 0).float()
    if kind == "mask":
        return mask[:, None]
    distance = _distance_to_edge(labels) / DEEPEST
    return torch.stack([mask, _meets(labels, _are_two_cells).float(), distance], dim=1)


def _distance_to_edge(labels: Tensor) -> Tensor:
    """Chessboard distance (px) to the edge of each pixel's cell, 1 at the edge itself, up to DEEPEST: (B,H,W) float."""
    reached = (labels == 0) | inner_border(labels)  # a cell's own edge is nearer than all that lies outside
    distance = torch.zeros(labels.shape, device=labels.device)
    for _ in range(DEEPEST - 1):
        distance += ~reached
        reached = _dilated(_dilated(reached, 1), 2)
    return distance + (labels != 0)


def _dilated(pixels: Tensor, axis: int) -> Tensor:
    """Pixels (B,H,W) bool, and those next to them along an axis."""
    length, dilated = pixels.shape[axis] - 1, pixels.clone()
    dilated.narrow(axis, 1, length).logical_or_(pixels.narrow(axis, 0, length))
    dilated.narrow(axis, 0, length).logical_or_(pixels.narrow(axis, 1, length))
    return dilated


def inner_border(labels: Tensor) -> Tensor:
    """Cell pixels whose 3 x 3 neighbourhood holds another label, background or cell: (..., H, W) -> bool likewise.

    Of two touching cells both get a border; the image's edge is not a border. Labels are compared, never computed
    with, so any integer ids will do.
    """
    return (labels != 0) & _meets(labels, torch.ne)


def outer_contour(labels: Tensor) -> Tensor:
    """Pixels on both sides of where cells end and background begins: (..., H, W) -> bool likewise.

    One pixel of the cell and one of the background (8-neighbours). Where two cells touch there is none.
    """
    return _meets(labels, lambda one, other: (one != 0) != (other != 0))


def relabel(labels: NDArray[np.integer[Any]]) -> Labels:
    """Ids of an integer label array of any shape -> 1..N in ascending order of the old ids; 0 stays background."""
    return dense(labels)[1]


def cell_diameters(labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Diameter (px) of the circle of equal area for each cell of a label array, in ascending order of the ids: (N,)."""
    _, areas = np.unique(labels[labels != 0], return_counts=True)
    return 2 * np.sqrt(areas / np.pi)


def _meets(labels: Tensor, pair: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Pixels with an 8-neighbour of which the symmetric relation `pair(label, label)` holds: (..., H, W) -> bool."""
    met = torch.zeros_like(labels, dtype=torch.bool)
    height, width = labels.shape[-2:]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (..., slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (..., slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        holds = pair(labels[here], labels[there])
        met[here] |= holds
        met[there] |= holds
    return met


def _are_two_cells(one: Tensor, other: Tensor) -> Tensor:
    return (one != other) & (one != 0) & (other != 0)


def _peel(pixels: Tensor, removable: Tensor) -> Tensor:
    """Pixels (B,H,W) bool without the removable ones, but for those without which the rest would fall apart.

    A pixel goes when the pixels around it stay 8-connected without it and no hole opens or closes: when its Yokoi
    number is 1 (Yokoi, Toriwaki and Fukumura 1975). Pixels of equal parity in y and x are never neighbours, so each of
    the four classes of parity may go at once.
    """
    padded = F.pad(pixels, (1, 1, 1, 1))
    flat, row = padded.view(-1), padded.shape[2]
    anticlockwise = torch.tensor([1, 1 - row, -row, -1 - row, -1, row - 1, row, row + 1], device=pixels.device)
    item, y, x = torch.nonzero(removable, as_tuple=True)
    index = (item * padded.shape[1] + y + 1) * row + x + 1
    parity = y % 2 * 2 + x % 2
    pending = [index[parity == group] for group in range(4)]
    left, before = index.numel(), -1
    while left != before:
        for group, indices in enumerate(pending):
            absent = ~flat[indices[:, None] + anticlockwise]
            corner = absent & absent.roll(-1, 1) & absent.roll(-2, 1)
            simple = (absent & ~corner)[:, ::2].sum(1) == 1
            flat[indices[simple]] = False
            pending[group] = indices[~simple]
        left, before = sum(indices.numel() for indices in pending), left
    return padded[:, 1:-1, 1:-1]


def _innermost_of_thin_cells(labels: Tensor, interior: Tensor) -> Tensor:
    """Innermost pixels of the cells that have no `interior`: labels (B,H,W), bool (B,H,W) -> bool (B,H,W)."""
    where = torch.nonzero(labels, as_tuple=True)
    innermost = torch.zeros_like(interior)
    if where[0].numel() == 0:
        return innermost
    _, cell = torch.unique(labels[where].long() + (where[0] << 33), return_inverse=True)
    has_interior = torch.zeros(int(cell.max()) + 1, dtype=torch.bool, device=labels.device)
    has_interior[cell[interior[where]]] = True
    thin = ~has_interior[cell]
    where, cell = tuple(index[thin] for index in where), cell[thin]
    own = _own_neighbours(labels, where)
    most = torch.zeros_like(has_interior, dtype=own.dtype).scatter_reduce(0, cell, own, "amax")
    innermost[where] = own == most[cell]
    return innermost


def _own_neighbours(labels: Tensor, where: tuple[Tensor, ...]) -> Tensor:
    """For each of the K pixels `where` (item, y, x), how many of the 3 x 3 around it carry its label: (K,) int64."""
    item, y, x = where
    offsets = torch.tensor([-1, 0, 1], device=labels.device)
    rows, columns = y[:, None, None] + offsets[:, None], x[:, None, None] + offsets
    inside = (rows >= 0) & (rows < labels.shape[1]) & (columns >= 0) & (columns < labels.shape[2])
    around = labels[item[:, None, None], rows.clamp(0, labels.shape[1] - 1), columns.clamp(0, labels.shape[2] - 1)]
    return ((around == labels[where][:, None, None]) & inside).sum(dim=(1, 2))


def _joined(basins: Labels, depth: NDArray[np.floating[Any]], share: float) -> Labels:
    """Join basins (H,W) whose saddle is at least a share of the lower summit, the highest saddles first."""
    height, width = basins.shape
    pairs, passes = [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        one, other = basins[here], basins[there]
        meet = (one != other) & (one > 0) & (other > 0)
        one, other = one[meet].astype(np.int64), other[meet].astype(np.int64)
        pairs.append(np.minimum(one, other) << 32 | np.maximum(one, other))
        passes.append(np.minimum(depth[here], depth[there])[meet])
    between, which = np.unique(np.concatenate(pairs), return_inverse=True)
    saddles = np.zeros(len(between), depth.dtype)
    np.maximum.at(saddles, which, np.concatenate(passes))
    highest = np.zeros(basins.max(initial=0) + 1, depth.dtype)
    np.maximum.at(highest, basins, depth)
    summits, cell = (share * highest).tolist(), list(range(len(highest)))  # lists, as there may be many

    def of(basin: int) -> int:
        while cell[basin] != basin:
            cell[basin] = basin = cell[cell[basin]]
        return basin

    order = np.argsort(-saddles, kind="stable")
    for saddle, pair in zip(saddles[order].tolist(), between[order].tolist(), strict=True):
        low, high = of(pair >> 32), of(pair & 0xFFFFFFFF)
        if summits[low] > summits[high]:
            low, high = high, low
        if saddle >= summits[low]:
            cell[low] = high
    return np.array([of(basin) for basin in range(len(cell))], np.int32)[basins]


def _completed(cells: Labels, foreground: NDArray[np.bool_], minimum_area: int) -> Labels:
    """Make each patch of foreground (H,W) without a cell one, drop small cells, and number those that stay 1..N."""
    patches, _ = ndimage.label(foreground & (cells == 0), structure=EIGHT_CONNECTED)
    cells = np.where(patches > 0, patches + cells.max(initial=0), cells)
    return _keep(cells, np.bincount(cells.ravel()) >= minimum_area)


def _keep(labels: NDArray[np.integer[Any]], keep: NDArray[np.bool_]) -> Labels:
    """Labels (H,W) whose entry in `keep` is true, renumbered 1..N in order; the rest becomes background."""
    keep[0] = False
    table = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    kept: Labels = table[labels]
    return kept


def _check_batch(labels: Tensor) -> None:
    if labels.ndim != 3:
        raise ValueError(f"labels must have axes (batch, y, x), got shape {tuple(labels.shape)}")


def _check_probabilities(probabilities: NDArray[np.floating[Any]], classes: int) -> None:
    if probabilities.ndim != 3 or probabilities.shape[0] != classes:
        raise ValueError(f"probabilities must have axes ({classes} classes, y, x), got shape {probabilities.shape}")
