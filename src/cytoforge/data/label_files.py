"""Label images that are too large for memory, written by rows: OME-Zarr with smaller copies, and TIFF in tiles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

TILE = 512  # px, side of a tile of a TIFF
CHUNK = 1024  # px, side of a chunk of a zarr; larger images get copies of half their size until one is no larger
BLOSC: dict[int, dict[str, Any]] = {
    2: {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0},
    3: {
        "name": "blosc",
        "configuration": {"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
    },
}
"""How chunks are compressed, as each version of zarr describes it"""
CLASSIC = 2**32 - 2**25  # bytes of pixels that a TIFF holds which is no BigTIFF


class LabelRows(Protocol):
    """A label image that is read by ranges of rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the ids, an unsigned integer."""

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Return rows top..bottom as (bottom - top, W)."""


def write_label_tiff(path: Path, labels: LabelRows) -> None:
    """Write a TIFF in compressed tiles, a BigTIFF where it may be larger than 4 GiB; raises OSError."""
    (height, width), dtype = labels.shape, labels.dtype

    def tiles() -> Iterator[NDArray[Any]]:
        for top in range(0, height, TILE):
            rows = labels.rows(top, min(top + TILE, height))
            rows = np.pad(rows, ((0, TILE - rows.shape[0]), (0, -width % TILE)))
            for left in range(0, width, TILE):
                yield np.ascontiguousarray(rows[:, left : left + TILE])

    tifffile.imwrite(
        path,
        tiles(),
        shape=labels.shape,
        dtype=dtype,
        tile=(TILE, TILE),
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": "YX"},
        bigtiff=height * width * dtype.itemsize > CLASSIC,
    )


def write_label_zarr(
    path: Path,
    labels: LabelRows,
    *,
    zarr_format: Literal[2, 3] = 2,
    pixel_size: float | None = None,
    image: str | None = None,
    name: str = "",
) -> None:
    """Write an OME-Zarr label image, version 0.4 in zarr 2 or 0.5 in zarr 3, into an empty folder; raises OSError.

    Ids are uint32. Each smaller copy has every second pixel of every second row of the one before, so that no id is
    made up. `pixel_size` is in micrometers; `image` is the path, relative to `path`, of the image that the labels
    belong to.
    """
    import zarr  # takes half a second

    group: Any = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    level = _array(group, 0, labels.shape, zarr_format)
    for top in range(0, labels.shape[0], CHUNK):
        level[top : top + CHUNK] = labels.rows(top, min(top + CHUNK, labels.shape[0]))
    levels = 1
    while max(level.shape) > CHUNK:
        finer, level = level, _array(group, levels, tuple(-(-side // 2) for side in level.shape), zarr_format)
        for top in range(0, level.shape[0], CHUNK):
            for left in range(0, level.shape[1], CHUNK):  # a chunk at a time
                part = finer[2 * top : 2 * (top + CHUNK), 2 * left : 2 * (left + CHUNK)]
                level[top : top + CHUNK, left : left + CHUNK] = part[::2, ::2]
        levels += 1
    described = _described(levels, pixel_size, image, name)
    if zarr_format == 2:
        described["multiscales"][0]["version"] = described["image-label"]["version"] = "0.4"
        group.attrs.update(described)
    else:
        group.attrs["ome"] = {"version": "0.5", **described}


def _array(group: Any, level: int, shape: tuple[int, ...], zarr_format: int) -> Any:
    return group.create_array(
        str(level),
        shape=shape,
        chunks=tuple(min(CHUNK, side) for side in shape),
        dtype=np.uint32,
        fill_value=0,
        compressors=BLOSC[zarr_format],
        chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": "/"},
        **({} if zarr_format == 2 else {"dimension_names": ("y", "x")}),
    )


def _described(levels: int, pixel_size: float | None, image: str | None, name: str) -> dict[str, Any]:
    """Return the metadata of OME-Zarr, without its version."""
    unit = {} if pixel_size is None else {"unit": "micrometer"}
    sides = [(pixel_size or 1.0) * 2**level for level in range(levels)]
    return {
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": [
                    {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [side, side]}]}
                    for level, side in enumerate(sides)
                ],
                "type": "nearest",
            }
        ],
        "image-label": {} if image is None else {"source": {"image": image}},
    }
