"""The segmenter of a run: images of any size to label images of the same size, in bounded memory."""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytoforge.cells.instances import TARGETS, Target
from cytoforge.data.images import (
    Normalisation,
    Scaling,
    channels_first,
    factor_of,
    is_blank,
    remaining,
    resize_part,
    scaled_shape,
)
from cytoforge.errors import UserError
from cytoforge.inference.diameter import LARGEST, SMALLEST, estimate_diameter, own_size
from cytoforge.inference.load import InBfloat16, Loaded, choose_device, choose_precision, open_network, over_channels
from cytoforge.inference.numbering import numbered
from cytoforge.inference.panels import PANEL, Decoded, JoinedPanels, Panel, panels
from cytoforge.inference.row_files import RowFile, StripFiles, begin
from cytoforge.inference.strips import MARGIN, StripDecoder, strip_height
from cytoforge.inference.tiling import (
    Disagreement,
    Floats,
    default_tile,
    margin,
    probabilities,
    probability_rows,
    smallest_tile,
    tile_disagreement,
)
from cytoforge.inference.turns import TurnDisagreement, joined, no_cells, turn_disagreement
from cytoforge.networks.layers import fold_norms
from cytoforge.progress import counted

VIEWS = 4
"""mirror images of which a run's cells are the mean. A minute of training from five images of phase contrast gains 0.06
in F at IoU 0.5 by it, and 2 views half as much (`benchmarks/few_labels/trials.md`)"""
DECODERS = 4  # most threads that decode beside the network, each in some 0.5 GiB
READ = 2**25  # px of the image's own that are read at a time
LONG = 2**25  # px at the run's scale from which an image goes on: some two minutes of one core with the base model
EMPTY = 256  # rows of background written at a time
BLOCK = 2048  # px at the run's scale: larger images are turned in parts of at most this side

Reader = Callable[[tuple[int, int], tuple[int, int]], Floats]
"""`read((top, bottom), (left, right))` gives this part of an image as float32 (C, h, w) in [-1, 1]"""

EXAMINED_SIDE = 2048  # px of the middle of an image by which the size of its cells is estimated


class RowSource(Protocol):
    """An image that is read by ranges of rows, such as `data.images.RowReader`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height, width."""

    def rows(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> NDArray[Any]:
        """Return rows start..stop as (C, stop - start, W), or `columns` (left, right) of them."""


@dataclass(frozen=True)
class InMemory:
    """An image (C, H, W) that is in memory."""

    pixels: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return self.pixels.shape

    def rows(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> NDArray[Any]:
        """Return rows start..stop, or `columns` of them."""
        return self.pixels[:, start:stop, slice(*columns or (None,))]


def segment_array(network: nn.Module, image: Floats, target: Target, tile: int) -> NDArray[np.int32]:
    """Segment an image float32 (C, H, W) in [-1, 1] that is in memory: labels int32 (H, W), cells 1..N.

    An image that fits into a tile takes one pass. `tile` is the side in pixels stored with the run; a larger one is
    used where the result does not depend on it. Raises ValueError when the network is not in eval mode.
    """
    return target.decode(probabilities(network, image, default_tile(network, tile)))


@dataclass(frozen=True, eq=False, repr=False)
class Segmenter(Loaded):
    """A trained segmenter, and how its images are read: channels, scale, normalisation, tiles."""

    run: Path
    network: nn.Module
    target: Target
    normalisation: Normalisation
    scaling: Scaling
    """how images are resized for the network"""
    tile: int
    channels: int
    fingerprint: str
    """SHA-256 over weights and settings: the same masks come from the same fingerprint and tile"""
    diameter: float | None = None
    """pixels across that the median cell is to have for the network, as for the base model, to which images of any
    resolution are brought; None where all images are resized alike"""
    views: int = 1
    """mirror images of each image over which probabilities are averaged: 1, 2 or 4"""
    precision: str = "float32"
    """of the network's products: float32 or bfloat16"""

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        device: str = "auto",
        threads: int | None = None,
        tile: int | None = None,
        views: int | None = None,
        precision: str = "auto",
    ) -> Self:
        """Load the segmenter of a run folder, or the base model by the name `base`.

        `device` is auto, cpu, cuda or mps; `threads` is the number of CPU threads, all usable ones if None; `tile` is
        the side in pixels of tiles at the run's scale; `views` is the number of mirror images to average over, 1, 2 or
        4, without it 4, but 1 where cells are connected components, as in cGAN-Seg; `precision` is float32 or bfloat16,
        which auto chooses where the processor has it. Raises UserError when run, device, tile or precision do not
        serve.
        """
        opened, network = open_network(Path(run), "segmenter", device, threads)
        fold_norms(network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster
        stored = opened.settings
        assert stored.normalisation is not None  # of a segmenter it is never missing
        target, described = TARGETS[stored.target], stored.networks["segmenter"]
        if described.classes not in (None, target.classes):
            raise UserError(
                f"{opened.path / 'config.json'}: target {target.name} wants {target.classes} classes, but the "
                f"segmenter tells {described.classes} apart; restore the file from a copy, or train again"
            )
        read = ("target", "scale", "resize", "normalisation", *(("diameter",) if stored.diameter else ()))
        side = tile or default_tile(network, stored.tile)
        if side < (least := smallest_tile(network)):
            raise UserError(f"--tile {side}: this network needs {least} px or more; leave the flag out for a good size")
        precision = choose_precision(precision, choose_device(device))
        return cls(
            opened.path,
            network if precision == "float32" else InBfloat16(network),
            target,
            Normalisation(**stored.normalisation.model_dump()),
            stored.scaling,
            side,
            described.in_channels or 1,
            opened.fingerprint("segmenter", read),
            stored.diameter,
            views or (VIEWS if target.protocol == "instances" else 1),
            precision,
        )

    @property
    def scale(self) -> float:
        """Factor by which images are resized for the network; 1 where all are resized to one size."""
        return factor_of(self.scaling)

    def segment(
        self, image: NDArray[Any], axes: str | None = None, *, diameter: float | None = None
    ) -> NDArray[np.int32]:
        """Segment an image in memory: labels int32 (H, W), 0 background, cells 1..N, as `cytoforge segment` does.

        `image` is (H, W), (H, W, C) or (C, H, W) of any number type, its grey values as they come from the microscope.
        `axes` names the axes, such as YXC or CYX; it is needed where both the first and the last have as many entries
        as the run has channels. `diameter` is that of the median cell in pixels, for the base model, which estimates it
        without. Raises UserError where the image has other channels, or axes that no image has, and for a diameter that
        the run has no use for.
        """
        pixels, limits, segmenter = self._fitted(image, axes, diameter)
        with tempfile.TemporaryDirectory(prefix="cytoforge-") as folder:
            labels, _ = segmenter.segment_rows(InMemory(pixels), limits, Path(folder))
            with labels:
                return np.array(labels.rows(0, labels.height), np.int32)

    def estimate_diameter(self, images: Sequence[Floats]) -> float:
        """Estimate the median diameter in pixels of the cells of images float32 (C, H, W) in [-1, 1].

        Rounded to whole pixels, so that the number that is told gives the same masks again. Where hardly a cell is
        found it is the one that the network knows. Raises ValueError for a run whose images are all resized alike.
        """
        if self.diameter is None:
            raise ValueError("the run resizes all images alike")
        found = estimate_diameter(self.network, self.target, images, self.diameter, self.tile)
        return float(max(round(self.diameter if found is None else found), 1))

    def for_cells(self, diameter: float) -> Self:
        """Return this segmenter for images whose cells are `diameter` pixels across.

        Raises UserError for a diameter out of range, and for a run whose images are all resized alike.
        """
        if self.diameter is None:
            raise UserError(f"{self.run}: its images are all resized alike, as in its training; leave --diameter out")
        if not SMALLEST / 2 <= diameter <= 50 * LARGEST:
            raise UserError(f"--diameter {diameter:g}: cells are {SMALLEST / 2:g} to {50 * LARGEST:g} px across")
        return replace(self, scaling=self.diameter / diameter, diameter=None)

    def middle(self, source: RowSource, limits: NDArray[np.float64]) -> Floats:
        """Return the middle of an image (C, H, W) in [-1, 1], no longer than EXAMINED_SIDE pixels."""
        (top, bottom), (left, right) = (
            (max((n - EXAMINED_SIDE) // 2, 0), (n + EXAMINED_SIDE) // 2) for n in source.shape[1:]
        )
        part = source.rows(top, min(bottom, source.shape[1]), (left, min(right, source.shape[2])))
        return self.normalisation.apply(part, limits)

    def for_own_cells(self, image: Floats, known: float) -> Self:
        """Return this segmenter at the scale that brings the cells of one image to `known` pixels across.

        `image` (C, H, W) in [-1, 1] is the image or its middle, whose cells are found at the present scale, a number.
        """
        larger = own_size(self.network, self.target, image, self.scale, known, self.tile)
        return replace(self, scaling=self.scale / larger)

    def disagreement(self, image: NDArray[Any], axes: str | None = None) -> TurnDisagreement:
        """Compare the cells found in an image with those found in it turned and mirrored: what it might learn there.

        `image` and `axes` are as in `segment`, which takes an eighth of the time. `mean` of the result is the
        disagreement of the image, in [0, 1], and its entries that of each cell. Raises UserError as `segment`.
        """
        pixels, limits, segmenter = self._fitted(image, axes)
        return segmenter.disagreement_rows(InMemory(pixels), limits)

    def _fitted(
        self, image: NDArray[Any], axes: str | None, diameter: float | None = None
    ) -> tuple[NDArray[Any], NDArray[np.float64], Self]:
        """Return an image as (C, H, W), the grey values of -1 and 1, and this segmenter for its channels and cells."""
        fewest = min(np.shape(image)[0], np.shape(image)[-1]) if np.ndim(image) == 3 else 1
        pixels = channels_first(image, axes, channels=self.channels if self.diameter is None else fewest)
        limits, segmenter = self.normalisation.measure(pixels), self.for_channels(len(pixels))
        if diameter is None and segmenter.diameter is not None:
            diameter = segmenter.estimate_diameter([self.normalisation.apply(pixels, limits)])
        return pixels, limits, segmenter if diameter is None else segmenter.for_cells(diameter)

    @property
    def fixed_channels(self) -> int | None:
        """How many channels images must have; None for the base model, which takes any."""
        return self.channels if self.diameter is None else None

    def at(self, scale: float) -> Self:
        """Return this segmenter for images that were resized by `scale` already."""
        return replace(self, scaling=remaining(self.scaling, scale))

    def for_channels(self, channels: int) -> Self:
        """Return this segmenter for images of so many channels: the base model sees the mean of all."""
        if self.diameter is None or channels == self.channels:
            return self
        return replace(self, network=over_channels(self.network, channels), channels=channels)

    def check_channels(self, what: Path | str, channels: int) -> None:
        """Raise UserError unless an image has as many channels as those that the segmenter was trained on."""
        if channels != self.channels:
            have = counted(channels, "channel")
            raise UserError(
                f"{what}: has {have}, the run was trained on {self.channels}; choose by --channel, or convert the image"
            )

    def segment_rows(
        self,
        source: RowSource,
        limits: NDArray[np.float64],
        folder: Path,
        announce: Callable[[float], None] = lambda share: None,
        disagreement: Callable[[Disagreement], None] | None = None,
        image: str | None = None,
    ) -> tuple[RowFile, int]:
        """Return the labels of an image at its own size, rows on disk in `folder` to be closed, and how many cells.

        Cells are numbered 1..N in the order in which rows of pixels, from top to bottom, meet them. `limits` (C, 2) are
        the grey values of -1 and 1. `announce` is called with the share done, and `disagreement` with what tiling
        changes, if the network's tiles are not exact. Memory does not grow with the size of the image, but for some
        100 bytes a cell. Where `image` tells the image from all others, such as by its checksum, and it has LONG pixels
        or more, strips that were decoded in `folder` before are taken from there, and the result is the same to the
        byte. Raises UserError when the disk is full.
        """
        shape = (source.shape[1], source.shape[2])
        if is_blank(limits):
            return _background(folder / "mask", shape), 0
        read, scaled = self._reader(source, limits)
        if disagreement is not None and margin(self.network) is None and max(scaled) > self.tile:
            disagreement(self._central_disagreement(read, scaled))
        count = len(panels(scaled[1], *self._surroundings))
        with ExitStack() as files:
            parts = []
            for number in range(count):

                def decoded(share: float, before: int = number) -> None:
                    announce(0.9 * (before + share) / count)

                parts.append(files.enter_context(self.panel(source, limits, folder, number, decoded, image)))
            found = JoinedPanels(parts)
            least = self.target.minimum_area * math.prod(shape) / math.prod(scaled)
            return numbered(
                lambda top, bottom: found.restored(shape, (top, bottom)),
                shape,
                least,
                folder,
                lambda share: announce(0.9 + 0.1 * share),
            )

    def panels_of(self, shape: tuple[int, ...]) -> int:
        """Return how many panels an image of `shape` (C, H, W) has that goes on; 0 where it has too few pixels."""
        scaled = scaled_shape(shape, self.scaling)
        return len(panels(scaled[1], *self._surroundings)) if math.prod(scaled) >= LONG else 0

    @contextmanager
    def panel(
        self,
        source: RowSource,
        limits: NDArray[np.float64],
        folder: Path,
        number: int,
        announce: Callable[[float], None],
        image: str | None,
    ) -> Iterator[Decoded]:
        """Decode the strips of a panel that are not in its files in `folder` yet, where `segment_rows` finds them.

        Arguments are as there; the limits must differ. Gives what was decoded. Raises UserError when the disk is full.
        """
        shape = (source.shape[1], source.shape[2])
        read, scaled = self._reader(source, limits)
        cut = panels(scaled[1], *self._surroundings)
        panel, height = cut[number], scaled[0]
        lasting = image is not None and self.panels_of(source.shape) > 0
        if lasting:
            begin(folder, repr((version("cytoforge"), image, limits.tolist(), shape, scaled, cut, self._decides)))
        width = panel.decoded[1] - panel.decoded[0]
        with StripFiles(folder, number, width, foreground=scaled != shape, lasting=lasting) as strips:
            threads = torch.get_num_threads()
            spare = min(threads, DECODERS) if threads > 1 else 0
            decoder = StripDecoder(self.target.decode, strip_height(width), threads=spare)
            overlap = strips.restore(decoder.count)
            done = strips.labels.height
            if done < height:
                announce(done / height)
                blocks = self._blocks(read, height, panel, max(done - decoder.margin, 0))
                for strip in decoder.rows(blocks, overlap):
                    strips.append(strip)
                    announce(strips.labels.height / height)
            yield Decoded(panel, strips.labels, strips.cell, decoder.table())

    @property
    def _decides(self) -> tuple[Any, ...]:
        """All that the labels of an image follow from besides its pixels."""
        strips = strip_height(PANEL), MARGIN
        return self.fingerprint, self.tile, self.views, self.precision, self.scaling, self.channels, strips

    @property
    def _surroundings(self) -> tuple[int, int]:
        """How many columns beside those that are decoded the network is to see, and what they are multiples of."""
        edge = margin(self.network)
        return self.tile // 4 if edge is None else edge, self.network.stride  # type: ignore[return-value]

    def _blocks(self, read: Reader, height: int, panel: Panel, top: int) -> Iterator[Floats]:
        """Yield the probabilities (classes, h, w) of the columns of a panel that are decoded, from row `top` down."""
        (left, right), (first, last) = panel.decoded, panel.seen

        def rows(top: int, bottom: int) -> Floats:
            return read((top, bottom), panel.seen)

        def decoded(block: Floats) -> Floats:
            return block[:, :, left - first : right - first]

        return map(decoded, probability_rows(self.network, rows, (height, last - first), self.tile, self.views, top))

    def disagreement_rows(self, source: RowSource, limits: NDArray[np.float64]) -> TurnDisagreement:
        """Return the cells of an image that is read by rows, places and diameters in its own pixels.

        `limits` (C, 2) are the grey values of -1 and 1. Images of more than BLOCK pixels at the run's scale are turned
        in parts, so that memory grows with the width only; cells that their borders cut count as two.
        """
        if is_blank(limits):
            return no_cells()
        read, scaled = self._reader(source, limits)
        down, across = (size / n for size, n in zip(source.shape[1:], scaled, strict=True))
        parts = []
        for top, bottom in pairwise(_cuts(scaled[0])):
            band = read((top, bottom), (0, scaled[1]))
            for left, right in pairwise(_cuts(scaled[1])):
                part = turn_disagreement(
                    np.ascontiguousarray(band[:, :, left:right]),
                    lambda image: segment_array(self.network, image, self.target, self.tile),
                )
                place = ((part.y + top + 0.5) * down - 0.5, (part.x + left + 0.5) * across - 0.5)
                diameter = part.diameter * np.sqrt(down * across)
                parts.append(TurnDisagreement(*place, diameter, part.disagreement, part.own))
        return joined(parts)

    def _reader(self, source: RowSource, limits: NDArray[np.float64]) -> tuple[Reader, tuple[int, int]]:
        """Return a function that reads parts of the image as the network takes them, and its size for that."""
        height, width = source.shape[1:]
        shape = scaled_shape(source.shape, self.scaling)

        def read(rows: tuple[int, int], columns: tuple[int, int]) -> Floats:
            return self.normalisation.apply(source.rows(*rows, columns), limits)

        def resized(rows: tuple[int, int], columns: tuple[int, int]) -> Floats:
            pixels = source.shape[0] * (columns[1] - columns[0]) * (height / shape[0]) * (width / shape[1])  # of a row
            step = max(int(READ / pixels), 1)
            cuts = [*range(rows[0], rows[1], step), rows[1]]
            parts = [resize_part(read, (height, width), shape, part, columns) for part in pairwise(cuts)]
            return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

        return resized, shape

    def _central_disagreement(self, read: Reader, shape: tuple[int, int]) -> Disagreement:
        """Measure what tiling changes, in the middle of an image of size (H, W), on two by two tiles."""
        rows, columns = (((n - min(n, 2 * self.tile)) // 2, (n + min(n, 2 * self.tile)) // 2) for n in shape)
        return tile_disagreement(self.network, read(rows, columns), self.tile)


def _cuts(length: int) -> list[int]:
    """Return the borders of the parts, of equal length, in which an axis is turned."""
    count = -(-length // BLOCK)
    return [length * k // count for k in range(count + 1)]


def _background(path: Path, shape: tuple[int, int]) -> RowFile:
    """Return rows of `shape` (H, W) without a cell."""
    rows = RowFile(path, shape[1], np.uint16)
    for top in range(0, shape[0], EMPTY):
        rows.append(np.zeros((min(EMPTY, shape[0] - top), shape[1]), np.uint16))
    return rows
