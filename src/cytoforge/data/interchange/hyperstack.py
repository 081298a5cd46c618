"""ImageJ's hyperstack: all frames of a movie in one TIFF, with the size of a pixel and the time between frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytoforge.data.files import atomic, digest
from cytoforge.data.formats import reading
from cytoforge.data.images import read_header, read_image
from cytoforge.data.tracks import Calibration
from cytoforge.errors import UserError

LARGEST = 2**32 - 2**25  # bytes of a file whose places have 32 bits
NOTE = "Written by cytoforge export"
KEPT = (np.uint8, np.uint16, np.float32)  # types of pixels in ImageJ; others become the last


def fits(frames: Mapping[int, Path]) -> bool:
    """Tell whether a stack up to the last of the frames, by their numbers, is small enough for ImageJ's TIFF."""
    shape, kind = read_header(frames[max(frames)])
    return int(np.prod(shape, dtype=np.int64)) * (max(frames) + 1) * _kind(kind).itemsize <= LARGEST


def write_hyperstack(path: Path, frames: Mapping[int, Path], calibration: Calibration, *, overwrite: bool) -> None:
    """Write images of one size and type as (T, C, H, W), each at the place of its number; missing ones are 0.

    Only one frame is in memory. Raises UserError when a file is there which this function did not write, or one that
    differs and it is not told to `overwrite`, and as read_image.
    """
    taken = UserError(f"{path}: is there already, and the frames would be written to it; choose another --out")
    if path.exists() and not _own(path):
        raise taken
    shape, stored = read_header(frames[max(frames)])
    kind = _kind(stored)

    def page(number: int) -> NDArray[np.generic]:
        image = read_image(frames[number]) if number in frames else np.zeros(shape, kind)
        if image.shape != shape:
            raise UserError(f"{frames[number]}: has another size or other channels than the last frame; convert it")
        return image.astype(kind)

    size, interval = calibration.pixel_size, calibration.frame_interval
    metadata: dict[str, Any] = {"axes": "TCYX", "Info": NOTE, "unit": "micron" if size else "pixel"}
    if interval:
        metadata |= {"finterval": interval * 60, "tunit": "sec"}
    with atomic(path) as temporary:
        tifffile.imwrite(
            temporary,
            (channel for number in range(max(frames) + 1) for channel in page(number)),
            shape=(max(frames) + 1, *shape),
            dtype=kind,
            imagej=True,
            resolution=(1 / size, 1 / size) if size else None,
            metadata=metadata,
        )
        if path.exists() and not overwrite and digest(path) != digest(temporary):  # equal after a kill
            raise taken


def _kind(stored: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return stored.newbyteorder("=") if stored in KEPT else np.dtype(KEPT[-1])


def _own(path: Path) -> bool:
    with reading(path), tifffile.TiffFile(path) as file:
        return (file.imagej_metadata or {}).get("Info") == NOTE
