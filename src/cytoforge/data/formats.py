"""Image files: finding them, and reading their headers and the pixels of any range of rows."""

import contextlib
import io
import json
import math
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from cytoforge.data.metadata import read_metadata
from cytoforge.data.microscopes import READERS, open_microscope
from cytoforge.data.ngff import find_image, is_zarr
from cytoforge.data.tiff import TiffPages, listening
from cytoforge.data.view import ALL, COLOURS, View
from cytoforge.errors import UserError
from cytoforge.progress import tell_once

PRIMARY = (".png", ".tif", ".tiff", ".zarr")  # where a folder holds these, others of the same name are copies
PICTURES = (".jpg", ".jpeg", ".bmp", ".webp")
ARRAYS = (".npy",)
SUFFIXES = (*PRIMARY, *PICTURES, *ARRAYS, *READERS)
LOSSY = (".jpg", ".jpeg", ".webp")
MAX_BYTES = 4 * 2**30  # decoded bytes read at once: enough for ten 10,000 x 10,000 channels of 32 bits
MAX_PIXELS = 2**36  # of one plane, even if it is read in parts: 260,000 x 260,000, larger than any slide
MAX_SIDE = 2**20  # pixels of one side
# axes that are not time, depth or a sequence of pages, by their letters in OME, LSM, FluoView and NDTiff
NO_FRAMES = {
    "A": "angles",
    "E": "wavelengths",
    "H": "lifetimes",
    "J": "columns of a grid",
    "K": "rows of a grid",
    "L": "exposures",
    "M": "tiles",
    "P": "positions or phases",
    "R": "positions or tiles",
}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXT = b"tEXt"
MARK = "cytoforge"  # key of the record of a file's origin: in a text chunk of a PNG, or in the description of a TIFF
TURNED = 0x0112  # EXIF tag of the orientation
PNG_COLOURS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # colour type -> channels without alpha


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder by name, without hidden ones; the list is empty when there is no such folder.

    JPEG, BMP and WebP are left out where a PNG, TIFF or zarr has the same name; arrays and files of microscopes are
    listed where there is nothing else.
    """
    if not folder.is_dir():
        return []
    there = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    primary = {image_name(file) for file in there if file.suffix.lower() in PRIMARY}
    images = [
        file
        for file in there
        if file.suffix.lower() in PRIMARY or (file.suffix.lower() in PICTURES and image_name(file) not in primary)
    ]
    rest = [file for file in there if not file.name.lower().endswith("_seg.npy")]
    return images or [file for file in rest if file.suffix.lower() in (*ARRAYS, *READERS)]


def image_name(file: Path) -> str:
    """Return the name of a file without its ending, as Unicode composes it; .ome.tif counts as one ending."""
    return unicodedata.normalize("NFC", file.stem.removesuffix(".ome"))


def by_stem(files: list[Path]) -> dict[str, Path]:
    """Map file names without suffix to files; raises UserError when two files have the same name.

    Accented letters are composed (Unicode NFC), as systems store them differently; names that differ only in this are
    the same name.
    """
    found: dict[str, Path] = {}
    for file in files:
        stem = image_name(file)
        if stem in found:
            raise UserError(f"{file}: {found[stem].name} has the same name; remove or rename one")
        found[stem] = file
    return found


class Pixels:
    """Pixels of one file, seen as (T, C, H, W) in the file's own type; a context manager.

    `axes` is the file's own order of axes (letters as in OME: T, Z, C, Y, X; S for samples, Q or I for pages) and
    `stored` their sizes. With `movie`, depth or channels of a file without time are taken for frames, which is told.
    `view` chooses channels, and how depth becomes one plane; pages of a file without axis of depth may be depth, too.
    Raises UserError when more than one axis counts frames or channels, an axis has no order in time, the image is
    empty, its values are not integers or real numbers, or its chunks are larger than MAX_BYTES.
    """

    def __init__(
        self,
        path: Path,
        axes: str,
        stored: tuple[int, ...],
        dtype: Any,
        chunk_rows: int,
        chunk_bytes: int = 0,
        movie: bool = False,
        view: View = ALL,
    ) -> None:
        """`chunk_rows`: number of rows decoded at once; `chunk_bytes`: decoded size of a tile or chunk in bytes."""
        self.path, self.axes, self.stored, self._view = path, axes, stored, view
        self.dtype = np.dtype(np.uint8) if np.dtype(dtype) == bool else np.dtype(dtype).newbyteorder("=")
        size = dict(zip(axes, stored, strict=True))
        long = [axis for axis in axes if size[axis] > 1 and axis not in "YX"]
        frames, channels = [a for a in long if a not in "CS"], [a for a in long if a in "CS"]
        deep = next((a for a in ("Z", *(() if movie else "IQ")) if view.project and a in frames), None)
        frames = [axis for axis in frames if axis != deep]
        if 0 in stored:
            raise UserError(f"{path}: holds no pixels (axes {axes} {stored}); export it again")
        if not {"Y", "X"} <= size.keys() or len(size) < len(axes) or len(frames) > 1 or len(channels) > 1:
            raise UserError(
                f"{path}: its axes are {axes} {stored}, but an image has rows and columns, one axis of channels and at "
                f"most one of frames; save single planes or a projection{_over_depth(frames)}"
            )
        if frames and frames[0] in NO_FRAMES:
            raise UserError(
                f"{path}: holds {size[frames[0]]} {NO_FRAMES[frames[0]]} (axes {axes} {stored}), and no order "
                "in time is known of them; save each as a file of its own"
            )
        if self.dtype.kind not in "uif":
            raise UserError(f"{path}: holds {self.dtype} values; save integers or real numbers")
        if chunk_bytes > MAX_BYTES:
            raise UserError(
                f"{path}: its tiles or chunks hold {chunk_bytes / 2**30:.1f} GiB each, more than "
                f"{MAX_BYTES / 2**30:.0f} GiB; save it with smaller ones"
            )
        if movie and not frames and channels == ["C"] and not view.channels:
            frames, channels = channels, frames
            tell_once(f"{path}: has no axis of time; its {size['C']} channels are taken for frames")
        elif movie and frames == ["Z"]:
            tell_once(f"{path}: has no axis of time; its {size['Z']} slices in depth are taken for frames")
        order = [axis for axis in axes if axis not in (*frames, *channels, "Y", "X")] + frames + channels + ["Y", "X"]
        self._order = [axes.index(axis) for axis in order]
        self._along, self._across, self._deep = (
            axes.index(kind) if kind else None for kind in (next(iter(frames), ""), next(iter(channels), ""), deep)
        )
        self._alpha = 0
        self._slice = view.slice_of(path, size[deep] if deep else 1)
        self.frames = size[frames[0]] if frames else 1
        self.channels = size[channels[0]] if channels else 1
        self.height, self.width = size["Y"], size["X"]
        self.chunk_rows = min(chunk_rows, self.height)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W): frames, chosen channels (never alpha), height, width."""
        chosen = self.channels - self._alpha if self._chosen is None else len(self._chosen)
        return self.frames, self._view.count or chosen, self.height, self.width

    @property
    def _projected(self) -> bool:
        """Whether the planes of an axis of depth become one by their max or mean."""
        return self._deep is not None and self._view.reduces

    @cached_property
    def _chosen(self) -> list[int] | None:
        """Indices of the channels of the view, None for all; raises UserError where it names others."""
        if not self._view.channels:
            return None
        colours = self._across is not None and self.axes[self._across] == "S" and self.channels - self._alpha == 3
        names = COLOURS if colours else self._names()
        return self._view.places(self.path, names, self.channels - self._alpha)

    def _names(self) -> tuple[str, ...]:
        """Return the names of the channels, as far as the file states them."""
        return read_metadata(self.path).channels

    def read(
        self,
        start: int = 0,
        stop: int | None = None,
        frame: int | None = None,
        columns: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Return rows start..stop of all frames, or of one, as (T, C, stop - start, W) in the file's own type.

        `columns` (left, right) makes them shorter, and chunks beside these are not decoded. Raises UserError when the
        file is damaged, the decoded data would exceed MAX_BYTES, a plane is larger than MAX_PIXELS or a side longer
        than MAX_SIDE; ValueError when the rows or columns are not in the image.
        """
        stop = self.height if stop is None else stop
        left, right = columns or (0, self.width)
        for name, first, last, length in (("rows", start, stop, self.height), ("columns", left, right, self.width)):
            if not 0 <= first < last <= length:
                raise ValueError(f"{name} {first}..{last} are not in an image of {length} {name}")
        frames = self.frames if frame is None else 1
        planes = frames * self.channels * (self.stored[self._deep or 0] if self._projected else 1)
        size = planes * max(stop - start, self.chunk_rows) * self.width * self.dtype.itemsize
        if size > MAX_BYTES:
            by_rows = stop - start == self.height and self.chunk_rows < self.height
            raise UserError(
                f"{self.path}: {self.stored} pixels of {self.dtype} make {size / 2**30:.1f} GiB at once, more than "
                f"{MAX_BYTES / 2**30:.0f} GiB; crop it into parts"
                + (
                    "; segment and score segmentation read it as it is"
                    if by_rows
                    else ", or for segment save it as a tiled TIFF"
                )
            )
        if self.height * self.width > MAX_PIXELS or max(self.height, self.width) > MAX_SIDE:
            raise UserError(
                f"{self.path}: {self.height} x {self.width} pixels are more than any image has; look whether its axes "
                "and sizes are right"
            )
        picks = {self.axes.index("X"): slice(left, right)} if right - left < self.width else {}
        for axis, place in ((self._along, frame), (self._deep, self._slice)):
            if axis is not None and place is not None:
                picks[axis] = slice(place, place + 1)
        with reading(self.path):
            array = self._load(start, stop, picks)
        if self._projected:
            array = self._view.projected(array, self._deep or 0)
        array = array.transpose(self._order).reshape(frames, self.channels, stop - start, right - left)
        array = array[:, : self.channels - self._alpha] if self._chosen is None else array[:, self._chosen]
        return np.ascontiguousarray(self._view.counted(array, 1), dtype=self.dtype)

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        """Return the rows in the file's order of axes, along those in `picks` only the entries given there."""
        raise TypeError("use open_pixels")

    def _slices(self, start: int, stop: int, picks: Mapping[int, slice]) -> tuple[slice, ...]:
        """Return the index of rows, and of the entries along the axes in `picks`."""
        wanted = {**picks, self.axes.index("Y"): slice(start, stop)}
        return tuple(wanted.get(axis, slice(None)) for axis in range(len(self.axes)))

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _over_depth(frames: list[str]) -> str:
    over = " over Z (in ImageJ: Image > Stacks > Z Project), or give --project max"
    return over if len(frames) > 1 and "Z" in frames else ""


def open_pixels(path: Path, *, labels: bool = False, movie: bool = False, view: View = ALL) -> Pixels:
    """Open a PNG, TIFF, JPEG, BMP, WebP, NPY, zarr array or OME-Zarr image (level 0) without decoding its pixels.

    `labels`: read an indexed-colour PNG as a label image. An indexed TIFF always gives its stored numbers, as in
    microscopy its colours are a display setting. `movie`: read all files of an OME-TIFF that consists of several, and
    take channels for frames where there are no frames. Raises UserError when the file is missing, of another type or
    damaged, and as `Pixels`.
    """
    suffix = path.suffix.lower()
    folder = path.is_dir() or suffix == ".zarr"
    if folder and not is_zarr(path):
        raise UserError(f"{path}: is a folder, not an image; move it elsewhere")
    if not folder and suffix not in SUFFIXES:
        raise UserError(f"{path}: {suffix or 'a file without ending'} is not supported; convert it to PNG or TIFF")
    with reading(path):
        if folder:
            return _Zarr(path, movie, view)
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty; export it again")
        if suffix == ".png":
            return _Png(path, labels, view)
        if suffix in PICTURES:
            return _Picture(path, labels, view)
        if suffix in ARRAYS:
            return _Array(path, movie, view)
        return _Microscope(path, movie, view) if suffix in READERS else _Tiff(path, labels, movie, view)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: {'a part of it' if path.exists() else 'it'} does not exist; check the name"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: may not be read; change its permissions") from error
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into memory; crop it") from error
    except Exception as error:  # decoders raise RuntimeError, ValueError, struct.error, KeyError ... on damaged bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"{path}: cannot be read ({reason}); the file is damaged or is not what its name says: export it again"
        ) from error


class _Png(Pixels):
    """A PNG file, decoded as a whole; alpha is dropped, and 1, 2 and 4-bit grey values are kept as stored.

    In an indexed-colour label image the ids are the grey values if all colours used are grey and distinct, else the
    palette indices.
    """

    def __init__(self, path: Path, labels: bool, view: View) -> None:
        width, height, self._depth, colour, self._palette = _png_header(path)
        self._indexed, self._labels = colour == 3, labels
        flat = self._indexed and (labels or self._palette.ndim == 1)
        dtype = np.uint16 if self._depth == 16 else np.uint8
        shape = (height, width, 1 if flat else PNG_COLOURS[colour])
        super().__init__(path, "YXS", shape, dtype, height, view=view)

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        content = self.path.read_bytes()
        if self._indexed:
            with PngImageFile(io.BytesIO(content)) as image:
                array = self._coloured(np.asarray(image))
        else:
            array = imagecodecs.png_decode(content)
            if self._depth < 8:
                array //= 255 // (2**self._depth - 1)
        return array.reshape(self.height, self.width, -1)[*self._slices(start, stop, picks)[:2], : self.channels]

    def _coloured(self, indices: np.ndarray) -> np.ndarray:
        """Return the colours of palette indices, or the ids if this is a label image."""
        if self._labels:
            used, counts = np.unique(indices, return_counts=True)
            if self._palette.ndim > 1 or len(np.unique(self._palette[used])) < len(used):
                self._refuse_background(int(used[counts.argmax()]), counts.max() / indices.size)
                return indices
        coloured: np.ndarray = self._palette[indices]
        return coloured

    def _refuse_background(self, most: int, share: float) -> None:
        """Raise UserError if the most frequent index `most`, a `share` of all pixels, is the background but not 0."""
        palette = self._palette.reshape(256, -1)
        black_or_white = palette[most].min() == palette[most].max() and palette[most, 0] in (0, 255)
        if most and palette[0].any() and (black_or_white or share > 0.5):
            raise UserError(
                f"{self.path}: its background is colour {most} of its palette, not 0 (a picture of the labels, sorted "
                "by a program?); save the label image itself, as 16-bit grey"
            )


def _png_header(path: Path) -> tuple[int, int, int, int, np.ndarray]:
    """Return width, height, bit depth, colour type, and the palette: uint8 (256, 3), or (256,) when it is grey."""
    palette = np.zeros((256, 3), np.uint8)
    chunks = list(_png_chunks(path))
    kind, head = chunks[0] if chunks else (b"", b"")
    if len(head) < 13 or kind != b"IHDR" or head[9] not in PNG_COLOURS:
        raise ValueError("the PNG header is damaged")
    width, height = (int.from_bytes(head[i : i + 4], "big") for i in (0, 4))
    animated = dict(chunks).get(b"acTL", b"")
    if int.from_bytes(animated[:4], "big") > 1:
        raise UserError(
            f"{path}: is an animation of {int.from_bytes(animated[:4], 'big')} frames; save each frame as a file, or "
            "all as a TIFF stack"
        )
    if head[9] == 3:
        content = dict(chunks).get(b"PLTE")
        if content is None:
            raise ValueError("the palette is missing")
        palette.reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
    if (palette == palette[:, :1]).all():
        palette = palette[:, 0]
    return width, height, head[8], head[9], palette


def _png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the chunks before the pixels; raises ValueError when the file is no PNG."""
    with path.open("rb") as file:
        if file.read(8) != PNG_SIGNATURE:
            raise ValueError("not a PNG")
        while len(chunk := file.read(8)) == 8 and chunk[4:] != b"IDAT":
            yield chunk[4:], file.read(int.from_bytes(chunk[:4], "big"))
            file.seek(4, 1)  # checksum


def with_png_text(content: bytes | bytearray, keyword: str, text: str) -> bytes:
    """Insert a text chunk (ASCII) into the bytes of a PNG, after its header."""
    chunk = PNG_TEXT + f"{keyword}\0{text}".encode("ascii")
    framed = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    header = len(PNG_SIGNATURE) + 25
    return bytes(content[:header] + framed + content[header:])


def read_mark(path: Path) -> dict[str, Any]:
    """Return the origin that cytoforge recorded in a PNG or TIFF, empty if there is none; raises as open_pixels."""
    suffix = path.suffix.lower()
    with reading(path):
        if suffix == ".png":
            start = MARK.encode() + b"\0"
            texts = (text for kind, text in _png_chunks(path) if kind == PNG_TEXT and text.startswith(start))
            return dict(json.loads(next(texts, start + b"{}")[len(start) :]))
        if suffix in (".tif", ".tiff"):
            with listening(), tifffile.TiffFile(path) as file:
                described = file.shaped_metadata or ({},)
                return dict(described[0].get(MARK, {}))
    return {}


class _Tiff(Pixels):
    """A TIFF file: uncompressed contiguous pages are memory-mapped, tiles and strips are decoded as needed."""

    def __init__(self, path: Path, labels: bool, movie: bool, view: View) -> None:
        self._pages = pages = TiffPages(path, movie=movie, labels=labels)
        try:
            decoded = pages.chunk_rows, pages.chunk_bytes
            super().__init__(path, pages.axes, pages.stored, pages.dtype, *decoded, movie, view)
            self._alpha = int(pages.alpha)
        except BaseException:
            pages.close()
            raise

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        return self._pages.load(start, stop, picks)

    def close(self) -> None:
        self._pages.close()


class _Zarr(Pixels):
    """A zarr array (axes from its dimension names, else YX or CYX), or level 0 of an OME-Zarr image."""

    def __init__(self, path: Path, movie: bool, view: View) -> None:
        self._array, axes = find_image(path)
        stored, chunks = self._array.shape, self._array.chunks
        if len(axes) != len(stored):
            raise UserError(f"{path}: the axes of {stored} are not named; give the array dimension names (t, c, y, x)")
        chunk_bytes = math.prod(chunks) * self._array.dtype.itemsize
        rows = dict(zip(axes, chunks, strict=True)).get("Y", 1)
        super().__init__(path, axes, stored, self._array.dtype, rows, chunk_bytes, movie, view)

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        return np.asarray(self._array[self._slices(start, stop, picks)])


class _Picture(Pixels):
    """A JPEG, BMP or WebP, decoded as a whole; alpha is dropped, and other colours than RGB are converted."""

    def __init__(self, path: Path, labels: bool, view: View) -> None:
        if labels and path.suffix.lower() in LOSSY:
            raise UserError(f"{path}: JPEG and WebP change values, so they hold no cell ids; save masks as PNG or TIFF")
        with Image.open(path, formats=("JPEG", "BMP", "WEBP")) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{path}: is an animation; save each frame as a file, or all as a TIFF stack")
            if image.getexif().get(TURNED, 1) != 1:
                tell_once(f"{path}: is marked as turned or mirrored; read as stored")
            flat = image.mode in ("1", "L") or (labels and image.mode == "P")
            self._mode = image.mode if flat else "RGB"
            shape = (image.height, image.width, 1 if flat else 3)
        super().__init__(path, "YXS", shape, np.uint8, shape[0], view=view)

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        with Image.open(self.path, formats=("JPEG", "BMP", "WEBP")) as image:
            array = np.asarray(image if image.mode == self._mode else image.convert(self._mode))
        return array.reshape(self.height, self.width, -1)[self._slices(start, stop, picks)]


class _Array(Pixels):
    """An array of numbers in a .npy file, mapped into memory: y x, y x c, c y x, or t before these.

    The last axis is that of channels if it has at most FEW entries and the first one has more. Of three axes the first
    is that of channels if it has at most MANY entries, and else counts pages.
    """

    FEW, MANY = 4, 10

    def __init__(self, path: Path, movie: bool, view: View) -> None:
        self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, count = self._array.shape, self._array.ndim
        if not 2 <= count <= 4:
            raise UserError(f"{path}: its array is {shape}, no image (y, x) with channels or frames; save one image")
        last = count > 2 and shape[-1] <= self.FEW < shape[-3]
        axes = "YXC" if last else "CYX"[-count:] if count < 3 or shape[-3] <= self.MANY else "IYX"
        super().__init__(path, axes if count < 4 else f"T{axes}", shape, self._array.dtype, 1, movie=movie, view=view)

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        return np.asarray(self._array[self._slices(start, stop, picks)])


class _Microscope(Pixels):
    """A file of a microscope, of which bioio reads planes."""

    def __init__(self, path: Path, movie: bool, view: View) -> None:
        self._image = image = open_microscope(path)
        super().__init__(path, image.dims.order, tuple(image.shape), image.dtype, image.dims.Y, movie=movie, view=view)

    def _names(self) -> tuple[str, ...]:
        return tuple(map(str, self._image.channel_names or ()))

    def _load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        return np.asarray(self._image.dask_data[self._slices(start, stop, picks)])
