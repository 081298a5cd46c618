"""What layers of napari hold, as arrays of cytoforge and back; napari itself is not needed for this.

The last two axes of a layer are y and x, before a third one of colours in RGB images. All axes before them count
planes: images of a dataset, frames of a movie.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.images import label_array
from cytoforge.data.movie import Track
from cytoforge.data.tracks import Spots, linked
from cytoforge.errors import UserError
from cytoforge.metrics.cells import points
from cytoforge.metrics.motion import Row

LayerData = tuple[Any, dict[str, Any], str]
"""Data of a layer, its attributes, and its type, such as labels: what readers return and writers take"""
Labels = NDArray[np.int32]
Graph = Mapping[int, Any]
"""By the label of a track that of its parent, or a list with it, as in a Tracks layer"""
OWN = "cytoforge"
"""Entry of a layer's metadata with names of its planes and what dataset.json says of them"""


@dataclass(frozen=True)
class Planes:
    """The planes of layers that show the same pixels, one layer for each channel; a plane is read when it is asked for.

    Iterating yields images (C, H, W).
    """

    channels: tuple[Any, ...]
    """arrays (..., H, W), or one (..., H, W, 3 or 4)"""
    rgb: bool = False

    @classmethod
    def of(cls, layers: Sequence[tuple[Any, bool]]) -> "Planes":
        """Take data and `rgb` of image layers; raises UserError where they are none, or differ in shape."""
        if not layers:
            raise UserError("image: choose an image layer")
        shapes = sorted({tuple(data.shape) for data, _ in layers})
        if len(shapes) > 1:
            raise UserError(
                f"image layers of {' and '.join(map(str, shapes))} are no channels of one image; choose layers of one "
                "shape"
            )
        if len(layers) > 1 and any(rgb for _, rgb in layers):
            raise UserError("an RGB image has all its channels in one layer; choose that alone")
        planes = cls(tuple(data for data, _ in layers), layers[0][1])
        if len(planes.size) < 2:
            raise UserError(f"an image layer of shape {shapes[0]} shows no image; choose one with height and width")
        return planes

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of labels for these planes, (..., H, W)."""
        shape = tuple(self.channels[0].shape)
        return shape[:-1] if self.rgb else shape

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes that count planes, none of a single image."""
        return self.shape[:-2]

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width."""
        return self.shape[-2:]

    def __len__(self) -> int:
        return int(np.prod(self.lead, dtype=np.int64))

    def __getitem__(self, place: tuple[int, ...]) -> NDArray[Any]:
        if self.rgb:
            return np.moveaxis(np.asarray(self.channels[0][place])[..., :3], -1, 0)
        return np.stack([np.asarray(channel[place]) for channel in self.channels])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[place] for place in np.ndindex(*self.lead))


def full_size(data: Any, multiscale: bool) -> Any:
    """Return the array of a layer, the largest one of a pyramid."""
    return data[0] if multiscale else data


def label_planes(data: Any, name: str = "labels") -> list[Labels]:
    """Return the planes int32 (H, W) of the data of a labels layer; raises UserError, naming it, if it holds none."""
    array = np.asarray(data)
    if array.ndim < 2:
        raise UserError(f"{name}: has the shape {array.shape}; choose labels with height and width")
    return [label_array(array[place], name) for place in np.ndindex(*array.shape[:-2])]


def frames_of(data: Any, name: str = "labels") -> list[Labels]:
    """Return the frames int32 (H, W) of a labels layer with the axes time, y and x; raises UserError for other ones."""
    if len(data.shape) != 3:
        raise UserError(f"{name}: has {len(data.shape)} axes; choose labels with three: time, height, width")
    return label_planes(data, name)


def tracks_layer(frames: Iterable[tuple[int, Labels]], tracks: Iterable[Row]) -> tuple[NDArray[np.float64], Graph]:
    """Return data (N, 4) and graph of a Tracks layer, from (time, labels (H, W)) of frames and L B E P of tracks.

    A row is track, time, y, x, in pixels and frames; the graph tells the parent of each track that has one.
    """
    rows = [np.empty((0, 4))]
    for time, labels in frames:
        ids, places = points(labels)
        rows.append(np.column_stack([ids, np.full(len(ids), time), places]))
    data = np.concatenate(rows)
    graph = {label: [parent] for label, _, _, parent in tracks if parent}
    return data[np.lexsort((data[:, 1], data[:, 0]))], graph


def spots_of(data: NDArray[Any], graph: Graph, name: str = "tracks") -> Spots:
    """Return the linked positions of a Tracks layer of planes: rows track, time, y, x, and parents by track.

    Raises UserError for tracks in depth, without points, that merge, or whose parents are not there, and for ids and
    times that are no whole numbers from 0.
    """
    data = np.asarray(data, np.float64)
    if data.ndim != 2 or data.shape[1] != 4:
        raise UserError(f"{name}: has the shape {data.shape}; give tracks of planes: track, time, y, x")
    told = data[:, :2]
    wrong = ~np.all(np.isfinite(told) & (told >= 0) & (told == np.floor(told)), axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{name}: row {row} has the track {told[row, 0]:g} and the time {told[row, 1]:g}, which must be whole "
            "numbers from 0; mend the layer"
        )
    data = data[np.lexsort((data[:, 1], data[:, 0]))]
    track, frame = data[:, 0].astype(np.int64), data[:, 1].astype(np.int64)
    same = np.flatnonzero(track[1:] == track[:-1])
    links = [(int(k), int(k) + 1) for k in same]
    first = {int(label): k for k, label in reversed(list(enumerate(track)))}
    last = {int(label): k for k, label in enumerate(track)}
    for label, parents in graph.items():
        for parent in np.atleast_1d(parents).tolist():
            if label not in first or parent not in last:
                raise UserError(f"{name}: the graph names track {label} of {parent}, of which one has no points")
            links.append((last[parent], first[label]))
    return linked(Path(name), frame, data[:, 2:], np.array(links, np.int64).reshape(-1, 2), track)


def rows_of(spots: Spots) -> list[Track]:
    """Return the tracks of spots with the labels that they have: label, first and last frame, parent or 0."""
    assert spots.track is not None  # `spots_of` knows all
    found = []
    for label in np.unique(spots.track).tolist():
        own = np.flatnonzero(spots.track == label)
        begin = own[np.argmin(spots.frame[own])]
        before = spots.before[begin]
        parent = 0 if before < 0 else int(spots.track[before])
        found.append(Track(label, int(spots.frame[begin]), int(spots.frame[own].max()), parent))
    return found
