"""Images and label images: reading, writing, resizing, and the normalisation of grey values to [-1, 1].

In memory an image is (C, H, W), labels are int32 (H, W) with 0 for background and positive cell ids.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import imagecodecs
import numpy as np
import tifffile
from scipy import sparse

from cytoforge.data.files import write_bytes
from cytoforge.data.formats import MARK, Pixels, open_pixels, with_png_text
from cytoforge.data.view import ALL, View, is_grey
from cytoforge.errors import UserError
from cytoforge.progress import counted

SAMPLE = 2**22  # approximate number of pixels per channel on which percentiles are measured
STRIP_BYTES = 2**25  # decoded bytes held while an image is measured


def _single(pixels: Pixels) -> Pixels:
    if pixels.frames > 1:
        raise UserError(
            f"{pixels.path}: holds {pixels.frames} pages (axes {pixels.axes}) where one image is expected; "
            "save each page as a file, make a movie of them with import movie, or store the axis as channels (C); of a "
            "stack in depth --project max makes one plane"
        )
    return pixels


def read_header(path: Path, view: View = ALL) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Return (C, H, W) and the type of an image's values, without decoding it; raises as read_image."""
    with open_pixels(path, view=view) as pixels:
        return _single(pixels).shape[1:], pixels.dtype


def read_image(path: Path | str, view: View = ALL) -> np.ndarray:
    """Read one image as (C, H, W) in the file's own type: grey C = 1, RGB C = 3, alpha dropped.

    `view` chooses channels, and makes one plane of a stack in depth. Raises UserError when the file is missing, of
    another type, damaged, too large, or a stack.
    """
    with open_pixels(Path(path), view=view) as pixels:
        return np.asarray(_single(pixels).read()[0])


def read_labels(path: Path | str) -> np.ndarray:
    """Read a label image as int32 (H, W) with the ids exactly as stored, also in a binary mask.

    Raises UserError for colour images, fractions, and ids below 0 or above 2**31 - 1, and as read_image.
    """
    with open_pixels(Path(path), labels=True) as pixels:
        return frame_labels(_single(pixels), 0)


def frame_labels(pixels: Pixels, frame: int) -> np.ndarray:
    """Read one frame of an open file of label images as int32 (H, W); raises as read_labels."""
    _check_count(pixels)
    return _ids(pixels.path, pixels.read(frame=frame)[0])


def _check_count(pixels: Pixels) -> None:
    """Raise UserError where a file has so many channels that it cannot hold labels, before they are read."""
    if pixels.shape[1] not in (1, 3):
        _ids(pixels.path, np.empty((pixels.shape[1], 1, 1)))


def _ids(path: Path, channels: np.ndarray) -> np.ndarray:
    """Return channels (C, h, W) of a label image as int32 (h, W); raises as read_labels."""
    if not is_grey(channels):
        raise UserError(
            f"{path}: a mask has one channel of cell ids, this has {len(channels)} (a colour picture of the "
            "labels?); save the label image itself, as 16-bit grey"
        )
    labels: np.ndarray = channels[0]
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise UserError(f"{path}: holds fractions or NaN, not cell ids (resized or smoothed?); save the integer labels")
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise UserError(f"{path}: cell ids run from {low} to {high}; number the cells 1, 2, 3 ...")
    return labels.astype(np.int32, copy=False)


class RowReader:
    """A reader of ranges of rows of an image in bounded memory; a context manager.

    Only the requested rows, and one row of tiles or strips during decoding, are in memory. PNG files, and files stored
    as a single block, are decoded once and kept in memory as a whole. Raises as read_image.
    """

    def __init__(self, path: Path, view: View = ALL, *, labels: bool = False) -> None:
        self.path, self._pixels = path, _single(open_pixels(path, labels=labels, view=view))
        self.shape = self._pixels.shape[1:]
        self.dtype = self._pixels.dtype
        self._held: np.ndarray | None = None

    def rows(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> np.ndarray:
        """Return rows start..stop, or their columns (left, right), as (C, stop - start, W) in the file's own type."""
        if self._pixels.chunk_rows < self.shape[1]:
            return np.asarray(self._pixels.read(start, stop, columns=columns)[0])
        if self._held is None:
            self._held = self._pixels.read()[0]
        held: np.ndarray = self._held[:, start:stop, slice(*columns or (None,))]
        return held

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pixels.close()
        self._held = None


class LabelReader(RowReader):
    """A reader of ranges of rows of a label image in bounded memory, as `RowReader`; raises as read_labels."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, labels=True)
        try:
            _check_count(self._pixels)
        except UserError:
            self._pixels.close()
            raise

    def labels(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> np.ndarray:
        """Return rows start..stop, or their columns (left, right), as int32 (h, W)."""
        return _ids(self.path, self.rows(start, stop, columns))


Mark = Mapping[str, Any]
"""Record of a file's origin, stored beside its pixels; must be JSON-serialisable"""


def write_image(path: Path, image: np.ndarray, mark: Mark | None = None) -> None:
    """Write (C, H, W) atomically; raises as encode_image, and UserError when the disk is full."""
    write_bytes(path, encode_image(path, image, mark))


def write_labels(path: Path, labels: np.ndarray, mark: Mark | None = None) -> None:
    """Write labels (H, W) atomically; raises as encode_labels, and UserError when the disk is full."""
    write_bytes(path, encode_labels(path, labels, mark))


def encode_image(path: Path, image: np.ndarray, mark: Mark | None = None) -> bytes:
    """Return the bytes of a file for (C, H, W): .png for uint8 and uint16 with 1 or 3 channels, .tif for any real type.

    A `mark` is stored in the file (see `formats.read_mark`). Raises ValueError when the format cannot hold the array.
    """
    if image.ndim != 3 or image.size == 0:
        raise ValueError(f"an image is (C, H, W), got {image.shape}")
    colour = image.shape[0] == 3 and image.dtype in (np.uint8, np.uint16)
    interleaved = np.ascontiguousarray(image.transpose(1, 2, 0))
    suffix = path.suffix.lower()
    if suffix == ".png":
        if image.dtype not in (np.uint8, np.uint16) or image.shape[0] not in (1, 3):
            raise ValueError(f"PNG holds 8 or 16 bits of 1 or 3 channels, got {image.dtype} {image.shape}: use .tif")
        return _png(interleaved if colour else image[0], mark)
    if suffix not in (".tif", ".tiff"):
        raise ValueError(f"images are written as .png or .tif, not {path.name}")
    if colour:
        return _tiff(interleaved, "YXS", "rgb", mark)
    return _tiff(np.ascontiguousarray(image), "CYX", "minisblack", mark)


def encode_labels(path: Path, labels: np.ndarray, mark: Mark | None = None) -> bytes:
    """Return the bytes of a file for labels (H, W): uint16, or uint32 (.tif only) if ids exceed 65535.

    A `mark` is stored in the file (see `formats.read_mark`). Raises ValueError for another suffix and for anything but
    non-negative integers (H, W), UserError for ids above 65535 in a PNG.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0 or labels.min() < 0:
        raise ValueError(f"labels are (H, W) integers from 0, got {labels.dtype} {labels.shape}")
    large = int(labels.max()) > np.iinfo(np.uint16).max
    if path.suffix.lower() == ".png":
        if large:
            raise UserError(f"{path}: PNG holds ids up to 65535, these reach {labels.max()}; name the file .tif")
        return _png(labels.astype(np.uint16), mark)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"labels are written as .png or .tif, not {path.name}")
    return _tiff(labels.astype(np.uint32 if large else np.uint16), "YX", "minisblack", mark)


def _png(array: np.ndarray, mark: Mark | None) -> bytes:
    content = bytes(imagecodecs.png_encode(np.ascontiguousarray(array), level=3))
    return content if mark is None else with_png_text(content, MARK, json.dumps(mark))


def _tiff(array: np.ndarray, axes: str, photometric: str, mark: Mark | None) -> bytes:
    # encoded in memory, because numpy's tofile does not report a full disk
    content = io.BytesIO()
    metadata = {"axes": axes} if mark is None else {"axes": axes, MARK: mark}
    tifffile.imwrite(content, array, photometric=photometric, compression="zlib", metadata=metadata)
    return content.getvalue()


def channels_first(
    image: np.ndarray, axes: str | None = None, *, channels: int | None = None, size: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return an array as an image (C, H, W); it may be (H, W), (H, W, C) or (C, H, W), and (H, W) is grey.

    `axes` has a letter for each axis: Y, X and C. Without it, the order is the one that agrees with the number of
    `channels` and the `size` (H, W), where these are given; three equal channels are one where one is wanted. Raises
    UserError when the order is ambiguous or the array is no such image.
    """
    image = np.asarray(image)
    if image.dtype == bool:
        image = image.astype(np.uint8)
    if image.dtype.kind not in "uif" or image.size == 0:
        raise UserError(f"an image holds integers or real numbers, this is {image.dtype} {image.shape}")
    if image.dtype.kind == "f" and image.dtype.itemsize > 8:
        image = image.astype(np.float64)  # no image file holds more than 64 bits
    if axes is None and image.ndim == 3:
        counts = (1, 3) if channels == 1 else (channels,)
        planes = {order: image.transpose(_order(order)) for order in ("CYX", "YXC")}
        fitting = next((f for c in counts if (f := [o for o, p in planes.items() if _fits(p, c, size)])), [])
        if len(fitting) > 1:
            raise UserError(f"an array {image.shape} may be CYX or YXC; name the axes, such as axes='YXC'")
        axes = (*fitting, "CYX")[0]
    axes = (axes or "YX").upper()
    if sorted(axes) not in (["X", "Y"], ["C", "X", "Y"]) or len(axes) != image.ndim:
        raise UserError(f"an array {image.shape} has no axes {axes}; they are YX, YXC or CYX")
    pixels = image.transpose(_order(axes)) if "C" in axes else image.transpose([axes.index("Y"), axes.index("X")])[None]
    if channels == 1 and _fits(pixels, 3, size) and is_grey(pixels):
        return np.ascontiguousarray(pixels[:1])
    if not _fits(pixels, channels, size):
        known = [counted(channels, "channel")] if channels else []
        known += [f"{size[0]} x {size[1]} pixels"] if size else []
        raise UserError(f"an array {image.shape} is no image of {' and '.join(known)}; convert it")
    return np.ascontiguousarray(pixels)


def _order(axes: str) -> list[int]:
    return [axes.index(letter) for letter in "CYX"]


def _fits(pixels: np.ndarray, channels: int | None, size: tuple[int, ...] | None) -> bool:
    return channels in (None, pixels.shape[0]) and size in (None, pixels.shape[1:])


def label_array(labels: Any, what: str = "labels") -> np.ndarray:
    """Return an array of labels as int32 (H, W) with unchanged ids; raises UserError, naming `what`, if it is none."""
    array = np.asarray(labels)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise UserError(f"{what}: must be whole numbers (H, W), 0 for background, not {array.dtype} {array.shape}")
    if array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        raise UserError(f"{what}: holds fractions or NaN, not cell ids; give the integer labels")
    low, high = array.min(), array.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise UserError(f"{what}: cell ids run from {low} to {high}; number the cells 1, 2, 3 ...")
    return array.astype(np.int32, copy=False)


def is_blank(array: np.ndarray) -> bool:
    """Tell whether every channel (first axis) holds at most one distinct finite value, so that nothing is visible.

    The array is an image (C, H, W) or the limits (C, 2) that Normalisation.measure returns.
    """
    for channel in array.reshape(array.shape[0], -1):
        low, high = _extremes(channel)
        if high > low:
            return False
    return True


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Return the least and greatest finite value; (inf, -inf) when there is none."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (math.inf, -math.inf)


@dataclass(frozen=True)
class Normalisation:
    """A linear map of grey values to [-1, 1], for each channel between two limits measured on the whole image.

    For the kind percentile, the limits are the percentiles `low` and `high` (0..100) of an evenly strided subsample of
    about SAMPLE pixels, so they do not depend on how an image is tiled or streamed. If the two percentiles are equal
    (as with a few bright cells on a black background), and for the kind min-max, the limits are the extremes. NaN and
    infinite pixels are ignored in the measurement. A constant channel has equal limits and becomes -1 everywhere; NaN
    pixels become -1, too. Raises ValueError for another kind and unless 0 <= low < high <= 100.
    """

    kind: Literal["percentile", "min-max"] = "percentile"
    low: float = 0.1
    high: float = 99.9

    def __post_init__(self) -> None:
        if self.kind not in ("percentile", "min-max") or not 0 <= self.low < self.high <= 100:
            raise ValueError(f"normalisation is percentile or min-max with 0 <= low < high <= 100, got {self}")

    def measure(self, source: np.ndarray | RowReader) -> np.ndarray:
        """Return the limits float64 (C, 2) of an image (C, H, W) or of an open reader."""
        channels, height, width = source.shape
        stride = max(1, math.ceil(math.sqrt(height * width / SAMPLE)))
        sample: list[np.ndarray] = []
        extremes = np.array([[math.inf, -math.inf]] * channels)
        for start, rows in strips(source):
            if self.kind == "percentile":
                sample.append(rows[:, -start % stride :: stride, ::stride].copy())  # a view would hold the strip
            for channel, limits in zip(rows, extremes, strict=True):
                low, high = _extremes(channel)
                limits[:] = min(limits[0], low), max(limits[1], high)
        for channel in range(channels):
            if not np.isfinite(extremes[channel]).all():
                extremes[channel] = 0
            elif self.kind == "percentile":
                values = np.concatenate([part[channel].ravel() for part in sample])
                values = values[np.isfinite(values)]
                if values.size:
                    low, high = np.percentile(values, (self.low, self.high))
                    if high > low:
                        extremes[channel] = low, high
        return extremes

    def apply(self, array: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Map (C, H, W) between limits (C, 2) to float32 in [-1, 1]; values beyond the limits are clipped."""
        # float32 represents 16-bit integers exactly, but not all larger ones
        exact = array.dtype.itemsize <= 2 or array.dtype == np.float32
        result = np.empty(array.shape, np.float32)
        for channel, (low, high), out in zip(array, limits, result, strict=True):
            if not high > low:
                out[...] = -1
                continue
            values = channel.astype(np.float32 if exact else np.float64)
            values -= low
            values *= 2 / (high - low)
            values -= 1
            np.clip(values, -1, 1, out=out)
            if array.dtype.kind == "f":
                out[np.isnan(out)] = -1
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the settings as stored in config.json of a run."""
        return asdict(self)


def is_constant(limits: np.ndarray) -> np.ndarray:
    """Tell for each channel, bool (C,), whether its limits (C, 2) are equal, so that no range can be mapped."""
    constant: np.ndarray = ~(limits[:, 1] > limits[:, 0])
    return constant


def widened(limits: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return limits (C, 2), extended in constant channels to include those of `others`, so that differences remain."""
    joint = np.stack([np.minimum(limits[:, 0], others[:, 0]), np.maximum(limits[:, 1], others[:, 1])], axis=1)
    return np.where(is_constant(limits)[:, None], joint, limits)


def units_agree(limits: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether limits (C, 2) of two sets of images share at least half of their joint range in every channel.

    Channels that are constant on either side are ignored.
    """
    varied = ~(is_constant(limits) | is_constant(others))
    limits, others = limits[varied], others[varied]
    common = np.minimum(limits[:, 1], others[:, 1]) - np.maximum(limits[:, 0], others[:, 0])
    joint = np.maximum(limits[:, 1], others[:, 1]) - np.minimum(limits[:, 0], others[:, 0])
    return bool((2 * common >= joint).all())


def strips(source: np.ndarray | RowReader) -> Iterator[tuple[int, np.ndarray]]:
    """Yield all rows in strips of bounded memory, each as first row and pixels (C, h, W)."""
    channels, height, width = source.shape
    step = max(1, STRIP_BYTES // max(channels * width * source.dtype.itemsize, 1))
    for start in range(0, height, step):
        stop = min(start + step, height)
        yield start, source.rows(start, stop) if isinstance(source, RowReader) else source[:, start:stop]


Scaling = float | tuple[int, int]
"""How images are resized: a factor, or the height and width in pixels that all get."""


def factor_of(scaling: Scaling) -> float:
    """Return the factor of a scaling; 1 where all images get one size."""
    return 1.0 if isinstance(scaling, tuple) else scaling


def remaining(scaling: Scaling, done: float) -> Scaling:
    """Return the scaling that is left for files which were resized by a factor already."""
    return scaling if isinstance(scaling, tuple) else scaling / done


def before_enlarging(scaling: Scaling, factor: int) -> Scaling:
    """Return the scaling of images that are to be enlarged by `factor` afterwards."""
    return reduced_size(scaling, factor) if isinstance(scaling, tuple) else scaling / factor


def reduced_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return the height and width of images that are to be enlarged to a size by `factor`, rounded up."""
    return -(-size[0] // factor), -(-size[1] // factor)


def scaled_shape(shape: tuple[int, ...], scaling: Scaling, whole: tuple[int, ...] | None = None) -> tuple[int, int]:
    """Return the (height, width) that the last two entries of `shape` have after resizing.

    `whole` is the shape of the image of which `shape` is a strip; without it `shape` is that of the image.
    """
    if isinstance(scaling, tuple):
        (height, width), (down, across) = (whole or shape)[-2:], scaling
        factors = down / height, across / width
    else:
        factors = scaling, scaling
    return max(1, round(shape[-2] * factors[0])), max(1, round(shape[-1] * factors[1]))


def resize_image(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize float32 (C, H, W) to (C, *shape): linear interpolation, with averaging where the image shrinks."""

    def read(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        return image[:, slice(*rows), slice(*columns)]

    return resize_part(read, image.shape[-2:], shape, (0, shape[0]), (0, shape[1]))


def resize_part(
    read: Callable[[tuple[int, int], tuple[int, int]], np.ndarray],
    source: tuple[int, int],
    shape: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> np.ndarray:
    """Return a part of an image resized to `shape`, exactly as resize_image does, reading only a part of it.

    `read((y0, y1), (x0, x1))` returns float32 (C, y1 - y0, x1 - x0) of the source, whose (height, width) is `source`;
    only what is needed is asked for. The kernel is a triangle of half-width max(1, source / target) pixels, cut and
    renormalised at the borders, as Pillow's BILINEAR.
    """
    if source == shape:
        return read(rows, columns)
    down, reach = _part(source[0], shape[0], rows)
    across, width = _part(source[1], shape[1], columns)
    image = read(reach, width)
    result = np.empty((image.shape[0], rows[1] - rows[0], columns[1] - columns[0]), np.float32)
    for channel, out in zip(image, result, strict=True):
        out[...] = (across @ (down @ channel).T).T
    return result


def _part(source: int, target: int, places: tuple[int, int]) -> tuple[sparse.csr_matrix, tuple[int, int]]:
    """Return the rows of `_weights` for some places of an axis, and the range of the source that they weigh."""
    weights = _weights(source, target)[slice(*places)]
    start, stop = int(weights.indices.min()), int(weights.indices.max()) + 1
    return weights[:, start:stop], (start, stop)


@lru_cache(maxsize=16)
def _weights(source: int, target: int) -> sparse.csr_matrix:
    """Return the (target, source) matrix that resizes one axis."""
    scale = source / target
    reach = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    columns = np.floor(centre - reach)[:, None] + np.arange(math.ceil(2 * reach) + 2)
    weights = np.maximum(0, 1 - np.abs(columns + 0.5 - centre[:, None]) / reach)
    weights[(columns < 0) | (columns >= source)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows, places = np.nonzero(weights)
    entries = weights[rows, places].astype(np.float32)
    return sparse.csr_matrix((entries, (rows, columns[rows, places].astype(int))), shape=(target, source))


def resize_labels(labels: np.ndarray, shape: tuple[int, int], rows: tuple[int, int] | None = None) -> np.ndarray:
    """Resize labels (H, W) to `shape` (H, W) by nearest neighbour; `rows` (start, stop) selects rows of the result."""
    if labels.shape == shape and rows is None:
        return labels
    down, across = (
        np.minimum(((np.arange(target) + 0.5) * source / target).astype(int), source - 1)
        for source, target in zip(labels.shape, shape, strict=True)
    )
    start, stop = rows or (0, shape[0])
    resized: np.ndarray = labels[down[start:stop]][:, across]
    return resized
