"""Folders of cytoforge as layers: datasets, movies in the layout of the Cell Tracking Challenge, masks of `segment`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import read_image
from cytoforge.data.metadata import stated
from cytoforge.data.movie import Sequence as MovieSequence
from cytoforge.data.movie import Track, is_movie, read_sequences
from cytoforge.data.pairing import is_dataset
from cytoforge.data.tracks import Calibration, calibration_of, open_tracked, read_calibration, read_masks
from cytoforge.data.writer import read_info
from cytoforge.napari.layers import OWN, Labels, LayerData, tracks_layer

KEPT = ("scale", "limits", "synthetic")
"""Entries of dataset.json that go with its layers, and back when they are saved"""


def reader_of(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return the function that reads a folder of cytoforge, None for anything else, as napari asks of a plugin."""
    folder = Path(path if isinstance(path, str) else path[0])
    single = isinstance(path, str) or len(path) == 1
    return read_folder if single and (is_movie(folder) or is_dataset(folder)) else None


def read_folder(path: str | Sequence[str]) -> list[LayerData]:
    """Read a dataset or movie folder into memory.

    The images of a dataset become planes of one layer, in the order of their names, and so do their masks; images of
    another size get layers of their own. Each channel is a layer, except of RGB images. A sequence of a movie becomes
    images, labels with the ids of tracks, and tracks with a graph of parents. Raises UserError as reading does.
    """
    folder = Path(path if isinstance(path, str) else path[0])
    return _read_movie(folder) if is_movie(folder) else _read_dataset(folder)


def _read_dataset(path: Path) -> list[LayerData]:
    dataset = Dataset.open(path).alike()
    files = [item.image for item in dataset.items if item.image]
    groups: dict[tuple[int, ...], list[tuple[Item, NDArray[Any] | None, Labels | None]]] = {}
    for item in dataset.items:
        image = dataset.pixels(item) if item.image else None
        labels = dataset.read_labels(item) if item.mask else None
        size = image.shape if image is not None else (0, *labels.shape) if labels is not None else ()
        groups.setdefault(size, []).append((item, image, labels))
    layers: list[LayerData] = []
    calibration = calibration_of(path, dataset.info, files)
    for size, members in groups.items():
        own = _told([item.name for item, *_ in members], dataset.info, calibration)
        name = path.name if len(groups) == 1 else f"{path.name} {size[1]} x {size[2]}"
        images = [image for _, image, _ in members if image is not None]
        masks = [np.zeros(size[1:], np.int32) if labels is None else labels for *_, labels in members]
        layers += _image_layers(np.stack(images), name, own, files) if images else []
        if any(item.mask for item, *_ in members):
            layers.append((np.stack(masks), {**own, "name": f"{name} masks"}, "labels"))
    return layers


def _read_movie(path: Path) -> list[LayerData]:
    layers: list[LayerData] = []
    calibration, info = read_calibration(path, None, None), read_info(path)
    for sequence in read_sequences(path):
        own = _told([str(number) for number in sequence.frames], info, calibration)
        name = f"{path.name} {sequence.name}"
        if files := list(sequence.frames.values()):
            layers += _image_layers(np.stack([read_image(file) for file in files]), name, own, files)
        times, frames, tracks = _labelled(sequence)
        if frames:
            stack = np.zeros((max(times) + 1, *frames[0].shape), np.int32)
            for time, labels in zip(times, frames, strict=True):
                stack[time] = labels
            layers.append((stack, {**own, "name": f"{name} cells"}, "labels"))
        if tracks:
            data, graph = tracks_layer(zip(times, frames, strict=True), tracks)
            layers.append((data, {**own, "name": f"{name} tracks", "graph": graph}, "tracks"))
    return layers


def _labelled(sequence: MovieSequence) -> tuple[list[int], list[Labels], tuple[Track, ...]]:
    """Return the places on the time axis of the frames with labels, these labels, and the tracks, as far as known."""
    tracks: tuple[Track, ...] = ()
    if sequence.track_source:
        movie = open_tracked(sequence)
        found, tracks = [(number, labels) for number, labels, _ in movie.read()], movie.tracks
    else:
        found = list(read_masks(sequence)) if sequence.source else []
    numbers = list(sequence.frames) or [number for number, _ in found]
    place = {number: time for time, number in enumerate(numbers)}
    found = [(place[number], labels) for number, labels in found if number in place]
    return [time for time, _ in found], [labels for _, labels in found], tracks


def _told(names: list[str], info: Mapping[str, Any], calibration: Calibration) -> dict[str, Any]:
    """Return attributes of layers: the size of a pixel, names of the planes and what is to be kept of dataset.json."""
    kept = {name: info[name] for name in KEPT if name in info} | calibration.info
    pixel = calibration.pixel_size or 1.0
    return {"scale": (1.0, pixel, pixel), "metadata": {OWN: {"names": names, "info": kept}}}


def _image_layers(stack: NDArray[Any], name: str, own: Mapping[str, Any], files: Sequence[Path]) -> list[LayerData]:
    """Return layers of a stack (P, C, H, W): one if it is grey or RGB, else one for each channel."""
    count = stack.shape[1]
    if count == 1:
        return [(stack[:, 0], {**own, "name": name}, "image")]
    if count == 3 and stack.dtype == np.uint8:
        return [(np.moveaxis(stack, 1, -1), {**own, "name": name, "rgb": True}, "image")]
    told = stated(files).channels
    names = told if len(told) == count else tuple(f"channel {number}" for number in range(1, count + 1))
    colours = ("cyan", "magenta", "yellow", "green", "red", "blue")
    return [
        (
            stack[:, number],
            {
                **own,
                "name": f"{name} {names[number]}",
                "colormap": colours[number % len(colours)],
                "blending": "additive",
            },
            "image",
        )
        for number in range(count)
    ]
