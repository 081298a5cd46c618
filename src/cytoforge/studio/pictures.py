"""Tiles of images and label images of any size: grey values to colours, cells to outlines and fills."""

import io
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytoforge.cells.labels import dense
from cytoforge.data.images import Normalisation, RowReader
from cytoforge.report import id_colours

TILE = 512  # px, side of a tile
HELD = 2**26  # bytes of an array that is kept in memory; a larger one lies in a temporary file
ROWS = 512  # read at once while the levels are made
COLOURS = {  # of channels, for images with more than one
    "grey": (255, 255, 255),
    "red": (255, 60, 60),
    "green": (60, 230, 90),
    "blue": (90, 140, 255),
    "magenta": (255, 70, 255),
    "cyan": (40, 230, 230),
    "yellow": (255, 225, 60),
}
RGB = ("red", "green", "blue")


def room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array of zeros: in memory, or if it is large in a temporary file that goes with it."""
    if math.prod(shape) * dtype.itemsize <= HELD:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="cytoforge-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)


@dataclass(frozen=True)
class Channel:
    """How a channel is shown: the grey values of black and of full colour, and the colour."""

    number: int
    low: float
    high: float
    colour: str


class Pyramid:
    """An image at its own size and at halves, quarters ... of it, as arrays (C, h, w) in the file's own type.

    Level 0 is the smallest one, at most TILE on a side, as viewers count. Raises UserError as `RowReader`.
    """

    def __init__(self, path: Path) -> None:
        with RowReader(path) as reader:
            whole = room(reader.shape, reader.dtype)
            for top in range(0, reader.shape[1], ROWS):
                bottom = min(top + ROWS, reader.shape[1])
                whole[:, top:bottom] = reader.rows(top, bottom)
        self.levels = [whole]
        while max(self.levels[0].shape[1:]) > TILE:
            self.levels.insert(0, _halved(self.levels[0]))
        limits = Normalisation().measure(whole)
        self.limits: list[tuple[float, float]] = [(float(low), float(high)) for low, high in limits]
        self.extremes = [_extremes(channel) for channel in whole]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width at full size."""
        channels, height, width = self.levels[-1].shape
        return channels, height, width

    def defaults(self) -> list[Channel]:
        """Return how the channels are shown at first: three as red, green and blue in one range, others apart."""
        count = self.shape[0]
        if count == 1:
            return [Channel(0, *self.limits[0], "grey")]
        if count == 3 and self.levels[-1].dtype == np.uint8:
            return [Channel(k, 0.0, 255.0, RGB[k]) for k in range(3)]
        names = [name for name in COLOURS if name != "grey"]
        return [Channel(k, *limits, names[(k + 1) % len(names)]) for k, limits in enumerate(self.limits)]

    def layout(self) -> dict[str, Any]:
        """Return how the image is laid out in tiles, and its channels, as the page takes it."""
        channels, height, width = self.shape
        return {
            "width": width,
            "height": height,
            "tile": TILE,
            "levels": len(self.levels),
            "channels": [asdict(channel) for channel in self.defaults()],
            "extremes": self.extremes[:channels],
            "colours": list(COLOURS),
        }

    def tile(self, level: int, column: int, row: int, channels: Sequence[Channel]) -> bytes:
        """Return a tile as a JPEG file; raises IndexError where there is none."""
        part = self.levels[_checked(level, len(self.levels))][:, *_place(self.levels[level].shape[1:], column, row)]
        exact = len(channels) == 3 and tuple(channel.colour for channel in channels) == RGB
        mixed = np.zeros((*part.shape[1:], 3), np.float32)
        for channel in channels:
            values = part[_checked(channel.number, len(part))].astype(np.float32)
            shown = np.clip(np.nan_to_num((values - channel.low) / max(channel.high - channel.low, 1e-9)), 0, 1)
            if exact:
                mixed[..., channel.number] += 255 * shown
            else:
                mixed += shown[..., None] * np.array(COLOURS[channel.colour], np.float32)
        file = io.BytesIO()
        Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=92, subsampling=0)
        return file.getvalue()


def label_tile(labels: NDArray[np.int32], levels: int, level: int, column: int, row: int, *, filled: bool) -> bytes:
    """Return a tile of the cells as a PNG file with transparency: their fills, or their outlines.

    `levels` is the number of levels of the image. Raises IndexError where there is no such tile.
    """
    step = 2 ** (levels - 1 - _checked(level, levels))
    small = labels[::step, ::step]
    rows, columns = _place(small.shape, column, row)
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    part = np.asarray(small[top : rows.stop + 1, left : columns.stop + 1])
    shown = part > 0 if filled else (part > 0) & _edges(part)
    inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    part, shown = part[inside], shown[inside]
    ids, numbers = dense(part)
    colours = np.zeros((*part.shape, 4), np.uint8)
    colours[..., :3] = id_colours(ids)[numbers]
    colours[..., 3] = np.where(shown, 255, 0)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the pixels that have a neighbour of another number."""
    edges: NDArray[np.bool_] = ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3)
    return edges


def _place(shape: tuple[int, ...], column: int, row: int) -> tuple[slice, slice]:
    """Return rows and columns of a tile in a level of size (h, w)."""
    top, left = row * TILE, column * TILE
    if not (0 <= top < shape[0] and 0 <= left < shape[1]):
        raise IndexError(f"no tile {column}, {row} in {shape}")
    return slice(top, min(top + TILE, shape[0])), slice(left, min(left + TILE, shape[1]))


def _checked(number: int, count: int) -> int:
    if not 0 <= number < count:
        raise IndexError(f"no number {number} of {count}")
    return number


def _halved(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image (C, H, W) at half its size, rounded up: the mean of two by two pixels."""
    channels, height, width = image.shape
    half = room((channels, -(-height // 2), -(-width // 2)), image.dtype)
    for top in range(0, height, 2 * ROWS):
        part = image[:, top : top + 2 * ROWS].astype(np.float32)
        part = np.pad(part, ((0, 0), (0, part.shape[1] % 2), (0, width % 2)), mode="edge")
        mean = (part[:, ::2, ::2] + part[:, 1::2, ::2] + part[:, ::2, 1::2] + part[:, 1::2, 1::2]) / 4
        half[:, top // 2 : top // 2 + mean.shape[1]] = mean.astype(image.dtype)
    return half


def _extremes(channel: NDArray[Any]) -> tuple[float, float]:
    """Return the least and greatest finite value of a channel (H, W)."""
    finite = channel[np.isfinite(channel)] if channel.dtype.kind == "f" else channel
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
