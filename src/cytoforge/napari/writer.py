"""Layers as folders of cytoforge: datasets, and movies in the layout of the Cell Tracking Challenge."""

import re
import warnings
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import Ints, label_at, renumbered
from cytoforge.data.files import is_number
from cytoforge.data.movie import MovieWriter, Track
from cytoforge.data.tracks import Spots, mended, place
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.napari.layers import (
    OWN,
    Labels,
    LayerData,
    Planes,
    frames_of,
    full_size,
    label_planes,
    rows_of,
    spots_of,
)
from cytoforge.progress import counted

DATASET, MOVIE = "napari dataset", "napari movie"
"""How dataset.json tells what saved a folder, of which each replaces only its own"""
SEQUENCE, SOURCE = "01", "RES"


def write_dataset(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write labels layers, with the images that they belong to, to images/ and masks/ of a folder; return its path.

    Every plane becomes a file. One labels layer belongs to all image layers, which are its channels; of several ones
    each belongs to the image layer at the same place among the images. Planes without any label have not been
    annotated: their images get no mask. A folder that this function has written is replaced, if nobody has changed it,
    once all is written. Raises UserError where layers do not belong together, and as DatasetWriter.
    """
    images, labelled = _of_type(layers, "image"), _of_type(layers, "labels")
    if len(labelled) == 1:
        pairs = [(images, labelled[0])]
    elif len(images) in (0, len(labelled)):
        pairs = [(images[k : k + 1], one) for k, one in enumerate(labelled)]
    else:
        raise UserError(
            f"{path}: {counted(len(images), 'image layer')} and {counted(len(labelled), 'labels layer')} cannot be "
            "paired; select one labels layer with its images, or as many of either kind"
        )
    items: dict[str, tuple[NDArray[Any] | None, Labels | None]] = {}
    for shown, (data, attributes, _) in pairs:
        masks = label_planes(data, str(attributes.get("name", "labels")))
        pictures = list(_planes(shown, tuple(data.shape))) if shown else [None] * len(masks)
        for name, image, mask in zip(_names(attributes, shown, len(masks), items), pictures, masks, strict=True):
            if name in items:
                raise UserError(f"{path}: two planes have the name {name}; rename one of the layers")
            items[name] = image, mask if mask.any() else None
    if all(mask is None for _, mask in items.values()):
        raise UserError(f"{path}: the labels layers are empty; draw some cells first")
    info = _info(layers, DATASET)
    with DatasetWriter(Path(path), info, overwrite=True, whole=True, suffix=".tif", names=items).replacing() as dataset:
        for name, (image, labels) in items.items():
            dataset.add(name, image, labels)
        dataset.finish()
    return [path]


def write_movie(path: str, layers: Sequence[LayerData]) -> list[str]:
    """Write a labels layer (T, H, W), and images and tracks if they are there, to a movie folder; return its path.

    Where a Tracks layer has the ids of the labels, the labels say which cells there are and the layer which parents
    they have; otherwise each of its points gives its id to the cell in which it lies, and cells without a point are
    left out. Without tracks a cell is tracked by its id. A folder that this function has written is replaced, if
    nobody has changed it, once all is written. Warns where ids above 65535 had to change. Raises UserError where layers
    do not belong together, and as MovieWriter.
    """
    (data, attributes, _), images = _of_type(layers, "labels")[0], _of_type(layers, "image")
    frames = frames_of(data, str(attributes.get("name", "labels")))
    pictures = _planes(images, tuple(data.shape)) if images else None
    spots = None
    for points, how, _ in _of_type(layers, "tracks"):
        spots = spots_of(points, how.get("graph") or {}, str(how.get("name", "tracks")))
    tracks, masks = _tracked(frames, spots, Path(path))
    sources = [(SEQUENCE, source) for source in ("frames", SOURCE)]
    info = _info(layers, MOVIE)
    with MovieWriter(Path(path), info, overwrite=True, whole=True, sources=sources).replacing() as movie:
        note = movie.announce(SEQUENCE, [track.label for track in tracks])
        for number, image in enumerate(pictures or ()):
            movie.add_frame(SEQUENCE, number, image)
        for number, labels in enumerate(masks):
            movie.add_masks(SEQUENCE, SOURCE, number, labels)
        movie.add_tracks(SEQUENCE, SOURCE, tracks)
        movie.finish()
    if note:
        warnings.warn(note, stacklevel=2)  # napari shows it as a notification
    return [path]


def _tracked(frames: list[Labels], spots: Spots | None, path: Path) -> tuple[tuple[Track, ...], list[Ints]]:
    """Return tracks, and frames whose cells have the ids of these."""
    if spots is not None and not _same_ids(frames, spots):
        placed = place(spots, enumerate(frames), path)
        return placed.tracks, [renumbered(one, placed.labels.get(t, {}), keep=False) for t, one in enumerate(frames)]
    cells = {time: np.setdiff1d(labels, [0]) for time, labels in enumerate(frames)}
    tracks, renamed = mended(rows_of(spots) if spots is not None else (), cells)
    return tracks, [renumbered(one, renamed.get(time, {}), keep=True) for time, one in enumerate(frames)]


def _same_ids(frames: Sequence[Labels], spots: Spots) -> bool:
    """Tell whether most points of tracks that lie on a cell lie on one with the id of the track, and none is 0."""
    assert spots.track is not None  # `spots_of` knows all
    if not spots.track.all():
        return False
    there = [np.flatnonzero(spots.frame == time) for time in range(len(frames))]
    found = np.concatenate([label_at(labels, spots.position[k]) for labels, k in zip(frames, there, strict=True)])
    own = spots.track[np.concatenate(there)]
    return bool(2 * np.count_nonzero((found == own) & (found > 0)) > np.count_nonzero(found > 0))


def _of_type(layers: Sequence[LayerData], kind: str) -> list[LayerData]:
    """Return the layers of a type, pyramids by their full size."""
    return [
        (full_size(data, bool(attributes.get("multiscale"))), attributes, type_)
        for data, attributes, type_ in layers
        if type_ == kind
    ]


def _planes(images: Sequence[LayerData], shape: tuple[int, ...]) -> Planes:
    """Return the planes of image layers; raises UserError unless labels of this shape belong to them."""
    for data, attributes, _ in images:
        if data.dtype.kind not in "buif" or data.dtype.itemsize > 8:
            name = attributes.get("name", "image")
            raise UserError(
                f"{name}: an image holds integers or numbers of up to 64 bits, not {data.dtype}; convert it"
            )
    planes = Planes.of([(data, bool(attributes.get("rgb"))) for data, attributes, _ in images])
    if planes.shape != shape:
        raise UserError(f"labels of {shape} do not belong to images of {planes.shape}; select layers of one shape")
    return planes


def _own(attributes: Mapping[str, Any], entry: str) -> Any:
    """Return an entry of what the reader told of a layer, None where it comes from elsewhere."""
    metadata = attributes.get("metadata")
    own = metadata.get(OWN) if isinstance(metadata, Mapping) else None
    return own.get(entry) if isinstance(own, Mapping) else None


def _names(attributes: Mapping[str, Any], images: Sequence[LayerData], count: int, taken: Container[str]) -> list[str]:
    """Return names for the files of the planes: those that they were read from, or else the layer's with a number.

    Where another layer has `taken` one of those that they were read from, the layer's name is put before them.
    """
    layer = images[0][1] if images else attributes
    base = _clean(str(layer.get("name", "image")), r"[^\w. -]+") or "image"
    for known in (attributes, *(how for _, how, _ in images)):
        told = _own(known, "names")
        names = [_clean(str(name), r"[/\\:\0]+") for name in told] if isinstance(told, list | tuple) else []
        if len(names) == len(set(names)) == count and all(names):
            return [f"{base} {name}" for name in names] if any(name in taken for name in names) else names
    return [base] if count == 1 else [f"{base} {number:04d}" for number in range(count)]


def _clean(name: str, unwanted: str) -> str:
    """Return a name for a file, without what is `unwanted` in it, a regular expression; may be empty."""
    return re.sub(unwanted, "-", name).strip(". ")


def _info(layers: Sequence[LayerData], by: str) -> dict[str, Any]:
    """Return the dataset.json of layers: what their own said, with `by` as what wrote the folder."""
    info: dict[str, Any] = {}
    for _, attributes, _ in reversed(layers):
        told = _own(attributes, "info")
        info |= told if isinstance(told, Mapping) else {}
    info = {name: value for name, value in info.items() if _is_right(name, value)}
    return info | ({"synthetic": {**info["synthetic"], "by": by}} if "synthetic" in info else {"by": by})


def _is_right(name: str, value: Any) -> bool:
    """Tell whether dataset.json may have this entry, so that what is saved can be read."""
    if name == "synthetic":
        return isinstance(value, dict)
    if name == "limits":
        return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1]
    return name in ("scale", "pixel_size", "frame_interval") and is_number(value) and 1e-6 <= value <= 1e6
