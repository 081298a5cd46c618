"""TIFF files: finding the pages of the image or stack and their order, and reading any range of rows."""

import contextlib
import logging
import math
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from cytoforge.errors import UserError
from cytoforge.progress import tell_once

# tifffile reports a damaged file in its log and fills the gap with zeros or drops pages; 270: description
DAMAGE = ("invalid page offset", "corrupt", "missing", "Missing", "failed to read", "TiffTag 270", "out of range")
ZEROED = "Missing data are zeroed"
# kinds of description that may tell of fewer pages than there are
DESCRIBED = ("ome", "imagej", "shaped")
STACKED = ("imagej", "shaped", "generic")  # kinds whose series are consecutive pages, not positions
COMPARED: dict[str, Any] = {"is_uniform": False}  # else tifffile compares three pages only
PLAIN: dict[str, Any] = {**COMPARED, **{f"is_{kind}": False for kind in DESCRIBED}}
ORIENTATION = 274


class Plane(NamedTuple):
    """A page, and the offset in bytes of its pixels in the file if they are uncompressed and contiguous."""

    page: Any
    offset: int | None


class TiffPages:
    """The image or stack of a TIFF: all its pages in the order of the file, without smaller copies (previews).

    `axes` are its axes as letters (T, Z, C, Y, X; S samples, Q or I pages), `stored` their sizes, `dtype` the type of
    its values. `alpha` tells whether the last sample is transparency, `chunk_rows` is the number of rows decoded at
    once, `chunk_bytes` the decoded size of a tile in bytes. Of an OME-TIFF in several files, this file's own pages are
    read, or, with `movie`, all pages of the image if all files exist. The pages of label images may have different
    integer types. Raises UserError for pages that are not one image or stack, ValueError for damage.
    """

    def __init__(self, path: Path, *, movie: bool = False, labels: bool = False) -> None:
        self.path = path
        with listening() as said:
            self._open(movie)
            try:
                _refuse_circles(self._file)
                self._choose(self._series(), labels)
                refuse_damage(said if not self._others else [line for line in said if ZEROED not in line])
            except BaseException:
                self.close()
                raise

    def _open(self, movie: bool) -> None:
        """Open the file; of an OME-TIFF in several files, use only the description of its own pages where needed."""
        self._file = tifffile.TiffFile(self.path, **COMPARED)
        self._others: list[str] = []
        if not self._file.is_ome:
            return
        own, self._others = _own_part(self.path, self._file.ome_metadata or "")
        missing = [name for name in self._others if not (self.path.parent / name).is_file()]
        if missing:
            named = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            tell_once(
                f"{self.path}: belongs to an OME-TIFF of {len(self._others) + 1} files, of which {named} "
                f"{'is' if len(missing) == 1 else 'are'} missing; the pages of this file are read"
            )
        if self._others and (missing or not movie):
            self._file.close()
            self._file = tifffile.TiffFile(self.path, omexml=own, **COMPARED)
        elif self._others:
            self._others = []

    def _series(self) -> list[Any]:
        """Return the series of pages; a description that omits pages is ignored. Raises ValueError without an image."""
        series = list(self._file.series)
        if self._file.is_ome and not self._others:
            series = [one for one in series if any(page and page.parent is self._file for page in one.pages)]
        if len(series) == 1 and series[0].kind in DESCRIBED:
            held = len(self._file.pages)
            described = len(_planes(series[0])) + sum(len(level) for level in series[0].levels[1:])
            if held > described and not any(page and page.subifds for page in series[0].pages):
                tell_once(
                    f"{self.path}: holds {held} pages, its description tells of {described}; all are read in order"
                )
                return self._plain_series()
        if not series or any(one.dtype is None for one in series):
            raise ValueError("it holds no image")
        return series

    def _plain_series(self) -> list[Any]:
        self._file.close()
        self._file = tifffile.TiffFile(self.path, **PLAIN)
        return list(self._file.series)

    def _choose(self, series: list[Any], labels: bool) -> None:
        series = self._without_previews(series)
        first = series[0]
        if len(series) == 1:
            self._planes = _planes(first)
            self.axes, self.stored = first.axes, tuple(first.shape)
            if self._others:
                self._keep_own()
        else:
            self._join(series, labels)
        self._planes = [self._whole(plane, first.keyframe) for plane in self._planes]
        page = first.keyframe
        self.dtype = np.dtype(np.result_type(*{one.dtype for one in series}))
        self._inner = _inner_axes(self.axes, self.stored, len(self._planes))
        blocks = [plane.page.keyframe for plane in self._planes if plane.page is not None and plane.offset is None]
        self.chunk_rows = max((p.tilelength if p.is_tiled else p.rowsperstrip for p in blocks), default=1)
        self.chunk_bytes = max((math.prod(p.chunks) * p.dtype.itemsize for p in blocks if p.is_tiled), default=0)
        # number of samples beyond grey or RGB; one that the file declares as transparency is alpha
        sizes = dict(zip(self.axes, self.stored, strict=True))
        beyond = sizes.get("S", 1) - (3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1)
        self.alpha = beyond == 1 and bool({1, 2} & set(page.extrasamples))
        turned = page.tags.get(ORIENTATION)
        if turned is not None and turned.value != 1:
            tell_once(f"{self.path}: is marked as turned or mirrored (orientation {int(turned.value)}); read as stored")

    def _without_previews(self, series: list[Any]) -> list[Any]:
        """Leave out series that are smaller copies: flagged, or with sides at most half those of the full image."""
        full = [one for one in series if not one.keyframe.is_reduced] or series
        largest = max(full, key=lambda one: one.keyframe.imagelength * one.keyframe.imagewidth)
        height, width = _size(largest)
        rest = [one for one in full if one is not largest]
        small = all(2 * _size(one)[0] <= height and 2 * _size(one)[1] <= width for one in rest)
        if rest and small and (len(_planes(largest)) == 1 or largest.kind == "ome"):
            full = [largest]
        left = [one for one in series if one not in full]
        left += [level for one in full for level in one.levels[1:] if not level.keyframe.is_reduced]
        left = [one for one in left if not one.keyframe.is_subifd]
        if left:
            sizes = ", ".join(sorted({" x ".join(map(str, _size(one))) for one in left}))
            tell_once(f"{self.path}: the image of {height} x {width} pixels is read, its preview of {sizes} is not")
        return full

    def _join(self, series: list[Any], labels: bool) -> None:
        """Join several series into one stack, in the order of the file; raises UserError when that is impossible."""
        first = series[0]
        for one in series:
            self._compare(one.keyframe, first.keyframe, labels)
        if first.kind not in STACKED:
            raise UserError(
                f"{self.path}: holds {len(series)} images (positions or scenes), and no order in time is known of "
                "them; save each as a file of its own (in Fiji: Bio-Formats Importer, open all series)"
            )
        lead = [axis for axis, size in zip(first.axes, first.shape, strict=True) if size > 1 and axis not in "YXS"]
        if "C" in lead:  # images of several channels, one after another
            if any(one.axes != first.axes or one.shape != first.shape for one in series):
                raise UserError(f"{self.path}: holds images with different axes; save each as a file of its own")
            self._planes = [plane for one in series for plane in _planes(one)]
            self.axes, self.stored = "I" + first.axes, (len(series), *first.shape)
        else:
            together = [(plane.page.index, k, plane) for one in series for k, plane in enumerate(_planes(one))]
            self._planes = [plane for *_, plane in sorted(together, key=lambda entry: entry[:2])]
            self.axes = "I" + first.keyframe.axes
            self.stored = (len(self._planes), *first.keyframe.shape)

    def _compare(self, page: Any, first: Any, labels: bool = False) -> None:
        """Raise UserError when two pages differ in shape or type, so that they cannot be in one stack."""
        if page.shape != first.shape:
            sizes = [" x ".join(map(str, each.shape)) for each in (page, first)]
            raise UserError(
                f"{self.path}: page {page.index + 1} has {sizes[0]} pixels, page {first.index + 1} has {sizes[1]}; "
                "save pages of each size as a file of their own"
            )
        if page.dtype != first.dtype and not (labels and page.dtype.kind in "iub" and first.dtype.kind in "iub"):
            raise UserError(
                f"{self.path}: page {page.index + 1} holds {page.dtype} values, page {first.index + 1} {first.dtype}, "
                "which cannot be compared; export all pages alike"
            )

    def _whole(self, plane: Plane, first: Any) -> Plane:
        """Read the page's own tags, where tifffile assumed that it is like the first page of its series."""
        if not isinstance(plane.page, tifffile.TiffFrame):
            return plane
        file = plane.page.parent.filehandle
        closed = file.closed
        if closed:
            file.open()
        page = plane.page.aspage()
        if closed:
            file.close()
        if page.hash == first.hash:
            return plane
        self._compare(page, first)
        return Plane(page, page.dataoffsets[0] if page.is_final else None)

    def _keep_own(self) -> None:
        """Keep only the pages in this file, of an image in several files."""
        inner = _inner_axes(self.axes, self.stored, len(self._planes))
        own = [number for number, plane in enumerate(self._planes) if plane.page is not None]
        places = np.unravel_index(own, self.stored[:inner]) if inner else ()
        sizes = tuple(len(np.unique(place)) for place in places)
        if math.prod(sizes) == len(own):
            self.stored = (*sizes, *self.stored[inner:])
        else:
            self.axes, self.stored = "I" + self.axes[inner:], (len(own), *self.stored[inner:])
        self._planes = [self._planes[number] for number in own]

    def load(self, start: int, stop: int, picks: Mapping[int, slice]) -> np.ndarray:
        """Return rows start..stop in the order of `axes`, along axes in `picks` only the entries given there.

        Raises ValueError for damage.
        """
        lead, inner = self.stored[: self._inner], self.stored[self._inner :]
        wanted = {**picks, self.axes.index("Y"): slice(start, stop)}
        places = [wanted.get(axis, slice(0, size)) for axis, size in enumerate(self.stored)]
        numbers = np.arange(len(self._planes)).reshape(lead)[tuple(places[: self._inner])]
        part = tuple(places[self._inner :])
        shape = tuple(place.stop - place.start for place in part)
        result = np.empty((numbers.size, *shape), self.dtype)
        with listening() as said:
            for number, out in zip(numbers.ravel(), result, strict=True):
                out[...] = self._plane(self._planes[number], part, shape == inner)
            refuse_damage(said)
        return result.reshape(*numbers.shape, *shape)

    def _plane(self, plane: Plane, part: tuple[slice, ...], whole: bool) -> np.ndarray:
        shape = self.stored[self._inner :]
        page = plane.page
        if page is None:
            raise ValueError("a page is missing")
        if plane.offset is not None:
            # mapped again for each part, so that pixels already used do not stay in memory
            dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
            mapped = np.memmap(page.parent.filehandle.path, dtype, "r", plane.offset, shape)
            return np.asarray(mapped[part])
        if whole:
            return np.asarray(page.asarray()).reshape(shape)
        import zarr  # takes half a second

        with page.aszarr() as store:
            array = zarr.open_array(store, mode="r")
            return np.asarray(array[part]) if array.shape == shape else np.asarray(array).reshape(shape)[part]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _own_part(path: Path, xml: str) -> tuple[str, list[str]]:
    """Return the part of an OME description about the pages in this file, and the names of the other files."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return "", []  # tifffile ignores an invalid description, too
    identity, others = root.get("UUID"), set()
    for image in [child for child in root if child.tag.endswith("Image")]:
        for pixels in [child for child in image if child.tag.endswith("Pixels")]:
            for data in [child for child in pixels if child.tag.endswith("TiffData")]:
                where = next((child for child in data if child.tag.endswith("UUID")), None)
                name = "" if where is None else where.get("FileName", "")
                if where is not None and where.text != identity and name.lower() != path.name.lower():
                    others.add(name or str(where.text))
                    pixels.remove(data)
            if not any(child.tag.endswith("TiffData") for child in pixels):
                root.remove(image)
                break
    return ElementTree.tostring(root, "unicode"), sorted(others)


def _planes(series: Any) -> list[Plane]:
    """Return the pages of a series in its order; a file may describe only the first of contiguous pages."""
    first = series.keyframe
    if series.dataoffset is not None:
        count = series.size // first.size
        pages = series.pages if len(series.pages) == count else [first] * count
        return [Plane(page or first, series.dataoffset + k * first.nbytes) for k, page in enumerate(pages)]
    return [
        Plane(p, p.dataoffsets[0] if p is not None and p.is_final and p.dataoffsets else None) for p in series.pages
    ]


def _inner_axes(axes: str, stored: tuple[int, ...], pages: int) -> int:
    """Return how many leading axes count pages; the others are the axes of a page. Raises ValueError if none fit."""
    for inner in range(len(stored) + 1):
        if math.prod(stored[:inner]) == pages and {"Y", "X"} <= set(axes[inner:]):
            return inner
    raise ValueError(f"{pages} pages do not make axes {axes} {stored}")


def _size(series: Any) -> tuple[int, int]:
    return series.keyframe.imagelength, series.keyframe.imagewidth


class _Complaints(logging.Handler):
    """Log handler that keeps the messages of the thread that created it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._mine = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._mine:
            self.said.append(record.getMessage())


def _refuse_circles(file: tifffile.TiffFile) -> None:
    """Raise ValueError where a page says that an earlier one follows, around which tifffile may go for ever."""
    form, stream, seen = file.tiff, file.filehandle, set()
    place = file.pages.first.offset
    while place:
        if place in seen:
            raise ValueError("the last of its pages leads back to an earlier one")
        seen.add(place)
        stream.seek(place)
        (tags,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize).ljust(form.tagnosize, b"\0"))
        stream.seek(place + form.tagnosize + tags * form.tagsize)
        (place,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize).ljust(form.offsetsize, b"\0"))


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Collect the messages that tifffile logs in this thread."""
    handler, logger = _Complaints(), logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield handler.said
    finally:
        logger.removeHandler(handler)


def refuse_damage(said: list[str]) -> None:
    """Raise ValueError if a message of tifffile reports lost pixels."""
    for line in said:
        if any(word in line for word in DAMAGE):
            raise ValueError(line)
