"""zarr folders: finding the image in arrays, OME-Zarr images, and layouts that hold several of these."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from cytoforge.errors import UserError

MARKERS = ("zarr.json", ".zarray", ".zgroup")
OLD_AXES = "tczyx"  # axes of OME-Zarr 0.1 and 0.2, which do not name them
POSITIONS = ("scene", "series", "site", "stage")  # axes of positions; their first letter, S, means samples
DEPTH = 4  # greatest depth of groups above an image: a plate has rows, columns and fields
NAMED = 3


def is_zarr(path: Path) -> bool:
    """Tell whether a path is a zarr array or group, or has the suffix .zarr."""
    return path.suffix.lower() == ".zarr" or _is_node(path)


def _is_node(path: Path) -> bool:
    return any((path / marker).is_file() for marker in MARKERS)


def find_image(path: Path) -> tuple[Any, str]:
    """Return the full-resolution array of the one image at `path`, and the letters of its axes in order.

    Raises UserError where there are several images, naming their paths, or none.
    """
    found = list(islice(_images(path, DEPTH), NAMED + 1))
    if not found:
        raise UserError(f"{path}: a zarr group without OME-Zarr multiscales and without arrays; choose another")
    if len(found) > 1:
        names = ", ".join(str(where) for where, _ in found[:NAMED]) + (" ..." if len(found) > NAMED else "")
        raise UserError(f"{path}: holds several images; give one of them: {names}")
    where, image = found[0]
    if not hasattr(image, "ndim"):
        multiscale = _multiscales(image)[0]
        array = image[multiscale["datasets"][0]["path"]]
        return array, _letters(multiscale, array.ndim)
    return image, _named(image) or _axes_by_parent(where, image) or "CYX"[-image.ndim :]


def zarr_format(path: Path) -> Literal[2, 3]:
    """Return the version of zarr in which the one image at `path` is stored; raises UserError as `find_image`."""
    array, _ = find_image(path)
    return 3 if array.metadata.zarr_format == 3 else 2


def is_multiscale(path: Path) -> bool:
    """Tell whether `path` itself, and not a folder in it or around it, is an OME-Zarr image."""
    import zarr

    node = zarr.open(str(path), mode="r") if _is_node(path) else None
    return node is not None and not hasattr(node, "ndim") and len(_multiscales(node)) == 1


def find_described(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return what OME-Zarr says of the one image at `path`, and which of its levels `path` is (None: the image itself).

    Empty where there are several images, and for arrays that belong to no OME-Zarr image.
    """
    found = list(islice(_images(path, DEPTH), 2))
    if len(found) != 1:
        return {}, None
    where, image = found[0]
    return (_described(image), None) if not hasattr(image, "ndim") else _by_parent(where)


def _images(path: Path, depth: int) -> Iterator[tuple[Path, Any]]:
    """Yield the images at or below a folder as (path, array or group), without an image's levels and labels.

    The folders themselves are searched, as zarr 2 does not list groups that have no metadata file.
    """
    import zarr  # takes half a second

    node = zarr.open(str(path), mode="r") if _is_node(path) else None
    images = [] if node is None or hasattr(node, "ndim") else _multiscales(node)
    if len(images) == 1 or hasattr(node, "ndim"):
        yield path, node
        return
    for image in images:
        level = path / image["datasets"][0]["path"]
        yield level, zarr.open(str(level), mode="r")
    if not images and depth:
        for folder in sorted(folder for folder in path.iterdir() if folder.is_dir()):
            yield from _images(folder, depth - 1)


def _described(group: Any) -> dict[str, Any]:
    attributes = group.attrs.asdict()
    return dict(attributes.get("ome", attributes))


def _multiscales(group: Any) -> list[Any]:
    return list(_described(group).get("multiscales") or [])


def _letters(multiscale: dict[str, Any], ndim: int) -> str:
    axes = multiscale.get("axes") or OLD_AXES[-ndim:]
    return "".join(_letter(axis if isinstance(axis, str) else axis["name"]) for axis in axes)


def _letter(name: str) -> str:
    return "R" if name.lower() in POSITIONS else name[:1].upper() or "?"


def _named(array: Any) -> str:
    """Return the letters of the axes that an array names, as zarr 3 or xarray store them; empty if it names none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.asdict().get("_ARRAY_DIMENSIONS") or ()
    return "".join(_letter(str(name)) for name in names)


def _axes_by_parent(path: Path, array: Any) -> str:
    """Return the axes of the OME-Zarr image of which an array is a level, as letters; empty if it is none."""
    described, _ = _by_parent(path)
    return _letters(described["multiscales"][0], array.ndim) if described else ""


def _by_parent(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return what the image says of which an array is a level, that image alone, and the level; empty if it is none."""
    import zarr

    for folder in path.parents[:2]:
        group = zarr.open(str(folder), mode="r") if _is_node(folder) else None
        for multiscale in [] if group is None or hasattr(group, "ndim") else _multiscales(group):
            for level in multiscale["datasets"]:
                if folder / level["path"] == path:
                    return {**_described(group), "multiscales": [multiscale]}, level["path"]
    return {}, None
