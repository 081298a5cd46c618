"""ImageJ's regions of interest: NAME.roi, or a RoiSet.zip of these, beside the image."""

import io
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import Labels
from cytoforge.cells.outlines import NOTHING, Piece, Region, ellipse, outlined
from cytoforge.data.formats import MAX_BYTES, reading
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    drawn,
    filled,
    stem,
    told,
)
from cytoforge.errors import UserError

ENDINGS = ("_roiset", "-roiset", "_rois", "-rois", "_roi", "-roi")
"""What may follow the image's name in that of its regions"""
LARGEST = 2**26  # bytes of one region
START = b"Iout"
FARTHEST = 60_535  # px: coordinates have 16 bits and begin at -5000
LONGEST = 2**16 - 1  # corners of an outline that is kept as whole numbers
MOVE, LINE, CLOSE = 0, 1, 4  # steps of a composite outline
EPOCH = (1980, 1, 1, 0, 0, 0)  # of the entries, so that equal regions make equal files


def _files(source: Source) -> list[Path]:
    return [file for file in source.having(".roi", ".zip") if _holds_regions(file, empty=True)]


def _holds_regions(file: Path, *, empty: bool = False) -> bool:
    """Tell whether a file holds regions; an `empty` set of them is known by its name."""
    try:
        if file.suffix.lower() == ".roi":
            with file.open("rb") as content:
                return content.read(len(START)) == START
        with zipfile.ZipFile(file) as packed:
            names = packed.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # also of a later version of zip
        return False
    none = empty and not names and file.stem.lower().endswith(ENDINGS)
    return none or any(name.lower().endswith(".roi") for name in names)


def _image_of(source: Source, file: Path) -> Path | None:
    """Return the image of that name, of the name before an ending of ENDINGS, or the only one of the folder."""
    ending = next((ending for ending in ENDINGS if file.stem.lower().endswith(ending)), "")
    name = file.stem[: len(file.stem) - len(ending)]
    only = source.images_in(file.parent)
    return source.beside(file, file.stem, stem(file.stem), name, stem(name)) or (only[0] if len(only) == 1 else None)


def _open(source: Source) -> Found:
    """Find the image of each file; several files of one image are put together."""
    files: dict[Path, list[Path]] = {}
    lone = []
    read = _files(source)
    for file in read:
        image = _image_of(source, file)
        if image:
            files.setdefault(image, []).append(file)
        else:
            lone.append(source.relative(file))
    items = [
        Annotated(source.relative(image.with_suffix("")), partial(_draw, tuple(own)), image)
        for image, own in files.items()
    ]
    notes = [
        *told("file", lone, "of regions without an image of that name, left out"),
        *source.unannotated(files),
        *source.unread(read, ".roi", ".zip"),
    ]
    return Found(tuple(items), tuple(notes))


def _draw(files: tuple[Path, ...], size: Size | None) -> Drawn:
    size = agreed(files[0], "it", None, size)
    regions: list[Region] = []
    slices: set[int] = set()
    for file in files:
        for content in _contents(file):
            region, slice_ = _region(file, content, size)
            regions.append(region)
            slices |= {slice_} - {0}
    if len(slices) > 1:
        raise UserError(f"{files[0]}: has regions of {len(slices)} slices, the image has one; save those of one slice")
    return drawn(regions, size)


def _contents(file: Path) -> Iterator[bytes]:
    """Yield the bytes of each region of a file; nothing is unpacked to the disk."""
    with reading(file):
        if file.suffix.lower() == ".roi":
            yield _limited(file, file.stat().st_size, file.read_bytes)
            return
        with zipfile.ZipFile(file) as packed:
            entries = [entry for entry in packed.infolist() if entry.filename.lower().endswith(".roi")]
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise UserError(f"{file}: unpacks to more than {MAX_BYTES / 2**30:.0f} GiB; save fewer regions")
            for entry in entries:
                yield _limited(file, entry.file_size, partial(packed.read, entry))


def _limited(file: Path, size: int, read: Callable[[], bytes]) -> bytes:
    if size > LARGEST:
        raise UserError(f"{file}: a region has {size / 2**20:.0f} MiB, which none has; save it anew in ImageJ")
    return read()


def _region(file: Path, content: bytes, size: Size) -> tuple[Region, int]:
    """Return the pixels of a region and the slice it lies in, 0 for none; lines and points have no pixels."""
    from roifile import ROI_TYPE, ImagejRoi

    with reading(file):
        roi = ImagejRoi.frombytes(content)
        slice_ = max(roi.position, roi.t_position, roi.z_position, 0)
        rings: list[NDArray[np.float64]] = []
        if roi.composite:
            rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
        elif roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
            corner, sides = np.array([roi.top, roi.left]), np.array([roi.bottom - roi.top, roi.right - roi.left])
            if roi.subpixelrect:
                corner, sides = np.array([roi.yd, roi.xd]), np.array([roi.heightd, roi.widthd])
            ring = corner + sides * [(0, 0), (0, 1), (1, 1), (1, 0)]
            if roi.roitype == ROI_TYPE.OVAL:
                ring = ellipse(corner + sides / 2, sides / 2)
            return filled([ring], size, file), slice_
        elif roi.roitype in (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED):
            rings = [np.asarray(roi.coordinates(), np.float64)]
        return filled([ring[:, ::-1] for ring in rings], size, file) if rings else NOTHING, slice_


def _recognised(source: Source) -> bool:
    return any(_holds_regions(file) for file in source.having(".roi", ".zip"))


IMAGEJ = Format("ImageJ regions", _recognised, _open)


def region_set(labels: Labels, name: str = "") -> bytes:
    """Return the cells of labels (H, W) as a RoiSet.zip, which the ROI manager opens: a region for each, by its id.

    Outlines run along the edges of pixels, so a filled region has exactly the pixels of the cell; one of several pieces
    or with holes is a composite. Raises UserError, with the `name` of the image, when ImageJ cannot hold its size.
    """
    if max(labels.shape) > FARTHEST:
        raise UserError(f"{name}: ImageJ's regions end at {FARTHEST} pixels; cut the image into parts")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for number, pieces in outlined(labels):
            entry = zipfile.ZipInfo(f"{number:05d}.roi", EPOCH)
            packed.writestr(entry, _encoded(str(number), pieces), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _encoded(name: str, pieces: list[Piece]) -> bytes:
    from roifile import ROI_TYPE, ImagejRoi

    rings = [ring[:, ::-1] for piece in pieces for ring in (piece.shell, *piece.holes)]
    corners = np.concatenate(rings)
    low, high = corners.min(axis=0), corners.max(axis=0)
    region = ImagejRoi(name=name)
    (region.left, region.top), (region.right, region.bottom) = low.tolist(), high.tolist()
    if len(rings) == 1 and len(corners) <= LONGEST:
        region.roitype, region.n_coordinates = ROI_TYPE.TRACED, len(corners)
        region.integer_coordinates = (corners - low).astype(np.int32)
    else:
        region.roitype, region.multi_coordinates = ROI_TYPE.RECT, np.concatenate([_path(ring) for ring in rings])
        region.shape_roi_size = len(region.multi_coordinates)
    return region.tobytes()


def _path(ring: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a ring (K, 2) of x, y as steps of a composite outline."""
    steps = np.column_stack([np.where(np.arange(len(ring)) == 0, MOVE, LINE), ring])
    return np.append(steps.ravel(), CLOSE).astype(np.float32)
