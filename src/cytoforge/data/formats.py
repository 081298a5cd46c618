"""PNG, TIFF and zarr files: where they lie, what a file says of itself, the pixels of any range of its rows."""

import contextlib
import io
import json
import logging
import threading
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import imagecodecs
import numpy as np
import tifffile
from PIL.PngImagePlugin import PngImageFile

from cytoforge.errors import UserError

SUFFIXES = (".png", ".tif", ".tiff", ".zarr")
MAX_BYTES = 4 * 2**30  # decoded bytes read at once: ten 10,000 x 10,000 channels of 32 bits, and no accident
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXT = b"tEXt"
MARK = "cytoforge"  # under this word a file says where it comes from: a text of a PNG, an entry in a TIFF's description
PNG_COLOURS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # colour type -> channels without alpha
# tifffile reports a damaged file in its log and fills the gap with zeros or drops pages
DAMAGE = ("invalid page offset", "corrupt", "missing", "Missing", "failed to read", "TiffTag 270")  # 270: description


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder, hidden ones left out; none when there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


def by_stem(files: list[Path]) -> dict[str, Path]:
    """Map names without endings to files; raises UserError when two files have one name.

    Letters with marks are composed (Unicode NFC), as systems differ in how they store them: names that look alike are
    one name.
    """
    found: dict[str, Path] = {}
    for file in files:
        stem = unicodedata.normalize("NFC", file.stem.removesuffix(".ome"))
        if stem in found:
            raise UserError(f"{file}: {found[stem].name} has the same name; remove or rename one")
        found[stem] = file
    return found


class Pixels:
    """Pixels of one file, seen as (T, C, H, W) in the file's own type; a context manager.

    `axes` and `stored` are the file's own order of axes (letters as in OME: T, Z, C, Y, X; S samples, Q or I pages)
    and sizes. Raises UserError when more than one axis counts frames or channels.
    """

    def __init__(self, path: Path, axes: str, stored: tuple[int, ...], dtype: Any, chunk_rows: int) -> None:
        """`chunk_rows`: rows that the file decodes at once."""
        self.path, self.axes, self.stored = path, axes, stored
        self.dtype = np.dtype(np.uint8) if np.dtype(dtype) == bool else np.dtype(dtype).newbyteorder("=")
        size = dict(zip(axes, stored, strict=True))
        long = [axis for axis in axes if size[axis] > 1 and axis not in "YX"]
        frames, channels = [a for a in long if a not in "CS"], [a for a in long if a in "CS"]
        if not {"Y", "X"} <= size.keys() or 0 in stored or len(frames) > 1 or len(channels) > 1:
            raise UserError(
                f"{path}: its axes are {axes} {stored}, but an image has rows and columns, one axis of channels and at "
                "most one of frames; save single planes or a projection"
            )
        if self.dtype.kind not in "uif":
            raise UserError(f"{path}: holds {self.dtype} values; save integers or real numbers")
        order = [axis for axis in axes if size[axis] == 1 and axis not in "YX"] + frames + channels + ["Y", "X"]
        self._order = [axes.index(axis) for axis in order]
        self._alpha = 0
        self.frames = size[frames[0]] if frames else 1
        self.channels = size[channels[0]] if channels else 1
        self.height, self.width = size["Y"], size["X"]
        self.chunk_rows = min(chunk_rows, self.height)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Frames, channels without alpha, height, width."""
        return self.frames, self.channels - self._alpha, self.height, self.width

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return rows start..stop as (T, C, stop - start, W) in the file's own type.

        Raises UserError when the file is damaged or what must be decoded is larger than MAX_BYTES.
        """
        stop = self.height if stop is None else stop
        if not 0 <= start < stop <= self.height:
            raise ValueError(f"rows {start}..{stop} are not in an image of {self.height} rows")
        size = self.frames * self.channels * max(stop - start, self.chunk_rows) * self.width * self.dtype.itemsize
        if size > MAX_BYTES:
            raise UserError(
                f"{self.path}: {self.stored} pixels of {self.dtype} make {size / 2**30:.1f} GiB at once, more than "
                f"{MAX_BYTES / 2**30:.0f} GiB; crop it, or save it as a tiled TIFF"
            )
        with reading(self.path):
            array = self._load(start, stop).transpose(self._order)
        array = array.reshape(self.frames, self.channels, stop - start, self.width)
        return np.ascontiguousarray(array[:, : self.shape[1]], dtype=self.dtype)

    def _load(self, start: int, stop: int) -> np.ndarray:
        """Return the rows in the file's order of axes."""
        raise TypeError("use open_pixels")

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_pixels(path: Path, *, indices: bool = False) -> Pixels:
    """Open a PNG, TIFF, zarr array or OME-Zarr image (level 0) without decoding its pixels.

    `indices`: take the numbers of an indexed-colour PNG as they are (label images) instead of the colours they stand
    for. An indexed TIFF always gives its numbers: in microscopy its colours are a display setting.
    Raises UserError when the file is missing, of another type, damaged, or has axes that no image has.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: {suffix or 'a file without ending'} is not supported; convert it to PNG or TIFF")
    if suffix != ".zarr" and path.is_dir():
        raise UserError(f"{path}: is a folder, not an image; move it elsewhere")
    with reading(path):
        if suffix != ".zarr" and path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty; export it again")
        if suffix == ".png":
            return _Png(path, indices)
        return _Zarr(path) if suffix == ".zarr" else _Tiff(path)


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
    """A PNG: decoded whole; alpha dropped; 1, 2 and 4-bit grey values kept as stored."""

    def __init__(self, path: Path, indices: bool) -> None:
        width, height, self._depth, colour, self._palette = _png_header(path)
        self._indexed = colour == 3
        flat = self._indexed and (indices or self._palette.ndim == 1)
        if indices:
            self._palette = np.arange(256, dtype=np.uint8)
        dtype = np.uint16 if self._depth == 16 else np.uint8
        super().__init__(path, "YXS", (height, width, 1 if flat else PNG_COLOURS[colour]), dtype, height)

    def _load(self, start: int, stop: int) -> np.ndarray:
        content = self.path.read_bytes()
        if self._indexed:
            with PngImageFile(io.BytesIO(content)) as image:
                array: np.ndarray = self._palette[np.asarray(image)]
        else:
            array = imagecodecs.png_decode(content)
            if self._depth < 8:
                array //= 255 // (2**self._depth - 1)
        return array.reshape(self.height, self.width, -1)[start:stop, :, : self.channels]


def _png_header(path: Path) -> tuple[int, int, int, int, np.ndarray]:
    """Return width, height, bit depth, colour type, and the palette: uint8 (256, 3), or (256,) when it is grey."""
    palette = np.zeros((256, 3), np.uint8)
    chunks = _png_chunks(path)
    kind, head = next(chunks, (b"", b""))
    if len(head) < 13 or kind != b"IHDR" or head[9] not in PNG_COLOURS:
        raise ValueError("the PNG header is damaged")
    width, height = (int.from_bytes(head[i : i + 4], "big") for i in (0, 4))
    if head[9] == 3:
        content = next((content for kind, content in chunks if kind == b"PLTE"), None)
        if content is None:
            raise ValueError("the palette is missing")
        palette.reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
    if (palette == palette[:, :1]).all():
        palette = palette[:, 0]
    return width, height, head[8], head[9], palette


def _png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks before the pixels."""
    with path.open("rb") as file:
        if file.read(8) != PNG_SIGNATURE:
            raise ValueError("not a PNG")
        while len(chunk := file.read(8)) == 8 and chunk[4:] != b"IDAT":
            yield chunk[4:], file.read(int.from_bytes(chunk[:4], "big"))
            file.seek(4, 1)  # checksum


def with_png_text(content: bytes | bytearray, keyword: str, text: str) -> bytes:
    """Put a text (ASCII) into the bytes of a PNG, after its header."""
    chunk = PNG_TEXT + f"{keyword}\0{text}".encode("ascii")
    framed = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    header = len(PNG_SIGNATURE) + 25
    return bytes(content[:header] + framed + content[header:])


def read_mark(path: Path) -> dict[str, Any]:
    """Return what a PNG or TIFF that cytoforge wrote says of its origin, empty if nothing; raises as open_pixels."""
    suffix = path.suffix.lower()
    with reading(path):
        if suffix == ".png":
            start = MARK.encode() + b"\0"
            texts = (text for kind, text in _png_chunks(path) if kind == PNG_TEXT and text.startswith(start))
            return dict(json.loads(next(texts, start + b"{}")[len(start) :]))
        if suffix in (".tif", ".tiff"):
            with _listening(), tifffile.TiffFile(path) as file:
                described = file.shaped_metadata or ({},)
                return dict(described[0].get(MARK, {}))
    return {}


class _Tiff(Pixels):
    """The first image of a TIFF: rows of uncompressed files are mapped, tiles and strips decoded as needed."""

    def __init__(self, path: Path) -> None:
        with _listening() as said:
            self._file = tifffile.TiffFile(path)
            try:
                if not self._file.series or self._file.series[0].dtype is None:
                    raise ValueError("it holds no image")
                self._series = series = self._file.series[0]
                _refuse_damage(said)
                page = series.keyframe
                mapped, tiled = series.dataoffset is not None, page.is_tiled
                rows = 1 if mapped else page.tilelength if tiled else page.rowsperstrip
                super().__init__(path, series.axes, series.shape, series.dtype, rows)
                # samples beyond grey or RGB that the file declares as transparency
                beyond = self.channels - (3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1)
                self._alpha = int("S" in series.axes and beyond == 1 and bool({1, 2} & set(page.extrasamples)))
            except BaseException:
                self._file.close()
                raise

    def _load(self, start: int, stop: int) -> np.ndarray:
        rows = (slice(None),) * self.axes.index("Y") + (slice(start, stop),)
        series = self._series
        with _listening() as said:
            if stop - start == self.height:
                array = series.asarray()
            elif series.dataoffset is not None:
                # mapped anew for each part, so that the pages already used do not stay in memory
                dtype = np.dtype(series.dtype).newbyteorder(self._file.byteorder)
                array = np.array(np.memmap(self.path, dtype, "r", series.dataoffset, self.stored)[rows])
            else:
                import zarr  # takes half a second

                with series.aszarr(level=0) as store:
                    array = np.asarray(zarr.open_array(store, mode="r")[rows])
            _refuse_damage(said)
        return np.asarray(array)

    def close(self) -> None:
        self._file.close()


class _Complaints(logging.Handler):
    """Keeps what is logged by the thread that made it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._mine = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._mine:
            self.said.append(record.getMessage())


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    handler, logger = _Complaints(), logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield handler.said
    finally:
        logger.removeHandler(handler)


def _refuse_damage(said: list[str]) -> None:
    for line in said:
        if any(word in line for word in DAMAGE):
            raise ValueError(line)


class _Zarr(Pixels):
    """A zarr array (axes by its dimension names, else YX or CYX), or level 0 of an OME-Zarr image."""

    def __init__(self, path: Path) -> None:
        import zarr  # takes half a second

        self._array, axes = _image_of(path, zarr.open(str(path), mode="r"))
        stored = self._array.shape
        if len(axes) != len(stored):
            raise UserError(f"{path}: the axes of {stored} are not named; give the array dimension names (t, c, y, x)")
        super().__init__(
            path, axes, stored, self._array.dtype, dict(zip(axes, self._array.chunks, strict=True)).get("Y", 1)
        )

    def _load(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self._array[(slice(None),) * self.axes.index("Y") + (slice(start, stop),)])


def _image_of(path: Path, node: Any) -> tuple[Any, str]:
    """Return the full-resolution array of a zarr node and the letters of its axes, if it names them."""
    if hasattr(node, "ndim"):
        names = getattr(node.metadata, "dimension_names", None) or ("c", "y", "x")[-node.ndim :]
        return node, "".join(name[0].upper() for name in names)
    attributes = node.attrs.asdict()
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        raise UserError(f"{path}: a zarr group without OME-Zarr multiscales; give the array inside it")
    names = [axis if isinstance(axis, str) else axis["name"] for axis in images[0]["axes"]]
    return node[images[0]["datasets"][0]["path"]], "".join(name[0].upper() for name in names)
