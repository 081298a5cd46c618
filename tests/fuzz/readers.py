"""Everything that cytoforge reads, as readers of a folder in which one file is damaged.

A reader has valid contents of that file, and perhaps a second library to agree with. What a damaged file may give is an
answer, which must be that of the second library where it has one too, or one sentence that names the file.
"""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import safetensors.numpy
import safetensors.torch
import tifffile
import torch
import zarr
from PIL import Image

from conftest import write_movie
from cytoforge.commands.check import check
from cytoforge.commands.export import export
from cytoforge.commands.import_checkpoint import read_checkpoint
from cytoforge.commands.import_dataset import import_dataset
from cytoforge.data.dataset import Dataset
from cytoforge.data.film import Film, write_film
from cytoforge.data.images import read_image, write_image, write_labels
from cytoforge.data.interchange.geff import read_geff
from cytoforge.data.interchange.tables import read_napari
from cytoforge.data.interchange.trackmate import read_trackmate
from cytoforge.data.metadata import read_metadata
from cytoforge.data.movie import read_sequences, read_tracks
from cytoforge.data.run import Run
from cytoforge.data.tracks import Calibration, open_tracked
from cytoforge.data.weights import read_safetensors
from cytoforge.errors import UserError, explain
from cytoforge.inference.segmenter import Segmenter
from cytoforge.networks.segmentation import UNet
from cytoforge.settings import Check, Export, ImportDataset
from test_import_dataset import WRITERS, blobs


@dataclass(frozen=True)
class Reader:
    """A way to read a folder, of which one file is damaged."""

    file: str
    """the file, relative to the folder"""
    contents: Callable[[Path], Sequence[bytes]]
    """writes what lies around the file into an empty folder, and returns valid contents of the file"""
    read: Callable[[Path], object]
    """of the folder"""
    other: Callable[[Path], object] | None = None
    """a second library's answer for the file; any exception says that it has none"""


class Fault(Exception):
    """What a reader must not do."""


def tried(reader: Reader, folder: Path, content: bytes) -> str:
    """Read a folder whose file has this content: "read" or "refused"; raises Fault for any other outcome."""
    path = folder / reader.file
    path.write_bytes(content)
    before = names(folder.parent)
    refused = False
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            answer = reader.read(folder)
    except Exception as error:
        said, refused = str(error) if isinstance(error, UserError) else explain(error), True
        if said is None:
            raise Fault(f"{type(error).__name__} is no sentence: {error!s:.300}") from error
        if "not enough memory" in said:
            raise Fault(f"{len(content)} bytes took all memory: {said:.300}") from error
        if "\n" in said.strip() or not (path.name in said or str(folder) in said):
            raise Fault(f"not one sentence with the file: {said:.300}") from error
    finally:
        shutil.rmtree(folder.parent / "out", ignore_errors=True)
    if names(folder.parent) != before:
        raise Fault("files were written outside of the output")
    if refused:
        return "refused"
    other = second(reader.other, path) if reader.other else None
    if other is not None and not agree(answer, other):
        raise Fault("a second library reads something else")
    return "read"


def second(read: Callable[[Path], object], path: Path) -> object:
    """Return a second library's answer, None where it has none."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return read(path)
    except Exception:
        return None


def names(folder: Path) -> set[str]:
    """Return the names of all that lies in a folder, itself read at the time."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


def agree(answer: object, other: object) -> bool:
    """Tell whether two answers hold equal values: arrays or dicts of arrays, axes of length one aside."""
    if isinstance(answer, dict) and isinstance(other, dict):
        return answer.keys() == other.keys() and all(agree(answer[name], other[name]) for name in answer)
    one, two = np.squeeze(np.asarray(answer)), np.squeeze(np.asarray(other))
    return one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def channels_first(image: np.ndarray) -> np.ndarray:
    """(H, W, C) to (C, H, W)."""
    return np.moveaxis(image, -1, 0) if image.ndim == 3 else image


def colours_last(array: np.ndarray) -> np.ndarray:
    """Take the last axis of a plain array for that of channels where only it is short enough."""
    return channels_first(array) if array.shape[-1] <= 4 < array.shape[0] else array


PIXELS = np.random.default_rng(0).integers(0, 60_000, (9, 13), np.uint16)
COLOURS = np.random.default_rng(1).integers(0, 255, (9, 13, 3), np.uint8)
GREY = (PIXELS // 256).astype(np.uint8)
CELLS = blobs(1, (30, 40))


def tiffs(folder: Path) -> list[bytes]:
    """TIFF files of several kinds."""
    kinds: list[tuple[np.ndarray, dict[str, Any]]] = [
        (GREY, {}),
        (PIXELS, {"compression": "zlib", "predictor": True}),
        (COLOURS, {"photometric": "rgb", "compression": "lzw"}),
        (np.stack([PIXELS] * 3), {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um", "finterval": 3}}),
        (np.stack([PIXELS] * 2), {"ome": True, "metadata": {"axes": "CYX", "PhysicalSizeX": 0.5}}),
        (np.pad(GREY, 20), {"tile": (16, 16), "compression": "jpeg"}),
    ]
    found = []
    for pixels, options in kinds:
        tifffile.imwrite(folder / "made.tif", pixels, **options)
        found.append((folder / "made.tif").read_bytes())
    (folder / "made.tif").unlink()
    return found


def pillow(*modes: str, **options: Any) -> Callable[[Path], list[bytes]]:
    """Images of some modes in a format of Pillow."""

    def write(folder: Path) -> list[bytes]:
        found = []
        for mode in modes:
            stream = io.BytesIO()
            pixels = Image.fromarray(PIXELS if mode == "I;16" else COLOURS)
            (pixels if mode == "I;16" else pixels.convert(mode)).save(stream, **options)
            found.append(stream.getvalue())
        return found

    return write


def image(file: str) -> Callable[[Path], object]:
    """Read the image and what it says of its size."""

    def read(folder: Path) -> np.ndarray:
        read_metadata(folder / file)
        return read_image(folder / file)

    return read


def arrays(folder: Path) -> list[bytes]:
    """Files of numpy."""
    found = []
    for pixels in (PIXELS, COLOURS, GREY.astype(np.float32)):
        stream = io.BytesIO()
        np.save(stream, pixels)
        found.append(stream.getvalue())
    return found


def zarrs(member: str, version: int) -> Callable[[Path], list[bytes]]:
    """An OME-Zarr image, of which one file is damaged."""

    def write(folder: Path) -> list[bytes]:
        root = zarr.open_group(folder / "cells.zarr", mode="w", zarr_format=version)
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        scales = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}]
        described = {"multiscales": [{"version": "0.4" if version == 2 else "0.5", "axes": axes, "datasets": scales}]}
        root.attrs.update(described if version == 2 else {"ome": {"version": "0.5", **described}})
        root.create_array("0", data=PIXELS, chunks=(5, 7))
        return [(folder / "cells.zarr" / member).read_bytes()]

    return write


def text(*contents: str) -> Callable[[Path], list[bytes]]:
    """Contents as text."""
    return lambda folder: [content.encode() for content in contents]


def napari(folder: Path) -> list[bytes]:
    """A table of tracks."""
    return [b"track_id,t,y,x,parent_track_id\n1,0,2.5,3,\n1,1,2.5,4,\n2,2,1,4,1\n3,2,4,4,1\n"]


def exported(form: str, file: str) -> Callable[[Path], list[bytes]]:
    """Tracks of a movie as another program's file."""

    def write(folder: Path) -> list[bytes]:
        movie = movie_in(folder.parent / "movie")
        with contextlib.redirect_stdout(io.StringIO()):
            export(Export(data=movie, format=form, out=folder / file.split("/")[0]))  # type: ignore[arg-type]
        shutil.rmtree(movie)
        return [(folder / file).read_bytes()]

    return write


def movie_in(folder: Path) -> Path:
    """A movie of two cells, of which one divides."""
    cells = np.zeros((3, 12, 16), np.int32)
    cells[:, 2:6, 2:6] = 1
    cells[:2, 7:11, 8:12] = 2
    cells[2, 7:9, 8:12], cells[2, 10:12, 8:12] = 3, 4
    return write_movie(folder, dict(enumerate(cells)), ((1, 0, 2, 0), (2, 0, 1, 0), (3, 2, 2, 2), (4, 2, 2, 2)))


def movie_file(file: str) -> Callable[[Path], list[bytes]]:
    """A movie folder, of which one file is damaged."""
    return lambda folder: [(movie_in(folder) / file).read_bytes()]


def read_movie(folder: Path) -> None:
    """Read all masks and tracks of a movie."""
    for sequence in read_sequences(folder):
        list(open_tracked(sequence).read())


def dataset(file: str, content: bytes = b"") -> Callable[[Path], list[bytes]]:
    """A dataset, of which one file is damaged."""

    def write(folder: Path) -> list[bytes]:
        write_image(folder / "images" / "a.png", PIXELS[None])
        write_labels(folder / "masks" / "a.png", (GREY > 128).astype(np.int32))
        return [content or (folder / file).read_bytes()]

    return write


def checked(folder: Path) -> None:
    """Check a dataset; an error that is found counts as a refusal."""
    for finding in check(Check(data=folder)):
        if finding.severity == "error":
            raise UserError(f"{finding.file}: {finding.what}; {finding.remedy}")


INFO = {"synthetic": True, "pixel_size": 0.5, "limits": {"images/a.png": [[0, 100]]}, "classes": {"a": 1}, "seed": 3}


def foreign(kind: str, file: str) -> Callable[[Path], list[bytes]]:
    """Annotations of another program, of which one file is damaged."""

    def write(folder: Path) -> list[bytes]:
        WRITERS[kind][1](folder, {"a": CELLS})
        return [(folder / file).read_bytes()]

    return write


def imported(folder: Path) -> None:
    """Import what another program has annotated."""
    import_dataset(ImportDataset(data=folder, out=folder.parent / "out"))


@cache
def run_files() -> dict[str, bytes]:
    """The files of the smallest segmentation run."""
    with tempfile.TemporaryDirectory() as name:
        described = {"network": "unet", "in_channels": 1, "classes": 3, "width": 4, "depth": 2}
        reading = {"scale": 1.0, "tile": 64, "normalisation": {"kind": "percentile", "low": 0.1, "high": 99.9}}
        run = Run.create(Path(name) / "run", {"networks": {"segmenter": described}, "target": "boundary", **reading})
        run.save_weights("segmenter", UNet(classes=3, width=4, depth=2).state_dict())
        run.finish({})
        return {
            file.relative_to(run.path).as_posix(): file.read_bytes() for file in run.path.rglob("*") if file.is_file()
        }


def run_file(file: str) -> Callable[[Path], list[bytes]]:
    """A run folder, of which one file is damaged."""

    def write(folder: Path) -> list[bytes]:
        for name, content in run_files().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return [run_files()[file]]

    return write


def checkpoints(folder: Path) -> list[bytes]:
    """Files of torch.save."""
    found = []
    for old in (True, False):
        stream = io.BytesIO()
        state = {"module.a.weight": torch.ones(2, 3), "module.a.bias": torch.arange(3)}
        torch.save(state, stream, _use_new_zipfile_serialization=not old)
        found.append(stream.getvalue())
    return found


def films(folder: Path) -> list[bytes]:
    """Films of three frames."""
    found = []
    for name in ("made.mp4", "made.avi"):
        write_film(folder / name, [np.pad(GREY, ((0, 7), (0, 3)))[None]] * 3)
        found.append((folder / name).read_bytes())
        (folder / name).unlink()
    return found


READERS: dict[str, Reader] = {
    "tiff": Reader("cells.tif", tiffs, image("cells.tif")),
    "png": Reader(
        "cells.png",
        pillow("L", "I;16", "RGB", format="png"),
        image("cells.png"),
        lambda path: channels_first(imagecodecs.png_decode(path.read_bytes())),
    ),
    "jpeg": Reader("cells.jpg", pillow("L", "RGB", format="jpeg"), image("cells.jpg")),
    "bmp": Reader("cells.bmp", pillow("L", "RGB", format="bmp"), image("cells.bmp")),
    "webp": Reader("cells.webp", pillow("RGB", format="webp", lossless=True), image("cells.webp")),
    "npy": Reader("cells.npy", arrays, image("cells.npy"), lambda path: colours_last(np.load(path))),
    "zarr 2, group": Reader("cells.zarr/.zattrs", zarrs(".zattrs", 2), image("cells.zarr")),
    "zarr 2, array": Reader("cells.zarr/0/.zarray", zarrs("0/.zarray", 2), image("cells.zarr")),
    "zarr 3, group": Reader("cells.zarr/zarr.json", zarrs("zarr.json", 3), image("cells.zarr")),
    "zarr 3, array": Reader("cells.zarr/0/zarr.json", zarrs("0/zarr.json", 3), image("cells.zarr")),
    "zarr 3, chunk": Reader("cells.zarr/0/c/0/0", zarrs("0/c/0/0", 3), image("cells.zarr")),
    "film": Reader("cells.mp4", films, lambda folder: [*Film(folder / "cells.mp4")]),
    "CTC text": Reader(
        "01_GT/TRA/man_track.txt",
        movie_file("01_GT/TRA/man_track.txt"),
        lambda folder: read_tracks(folder / "01_GT/TRA/man_track.txt"),
    ),
    "CTC text in a movie": Reader("01_GT/TRA/man_track.txt", movie_file("01_GT/TRA/man_track.txt"), read_movie),
    "CTC mask": Reader("01_GT/TRA/man_track001.tif", movie_file("01_GT/TRA/man_track001.tif"), read_movie),
    "TrackMate": Reader(
        "tracks.xml",
        exported("trackmate", "tracks.xml"),
        lambda folder: read_trackmate(folder / "tracks.xml", Calibration()),
    ),
    "GEFF": Reader(
        "tracks.geff/.zattrs",
        exported("geff", "tracks.geff/.zattrs"),
        lambda folder: read_geff(folder / "tracks.geff", Calibration()),
    ),
    "napari": Reader("tracks.csv", napari, lambda folder: read_napari(folder / "tracks.csv")),
    "dataset.json": Reader("dataset.json", dataset("dataset.json", json.dumps(INFO).encode()), checked),
    "mask": Reader("masks/a.png", dataset("masks/a.png"), checked),
    "mask to train on": Reader(
        "masks/a.png", dataset("masks/a.png"), lambda folder: Dataset.open(folder).pairs().numbered(binary=True)
    ),
    "config.json": Reader("config.json", run_file("config.json"), lambda folder: Segmenter.load(folder, device="cpu")),
    "provenance.json": Reader(
        "provenance.json", run_file("provenance.json"), lambda folder: Segmenter.load(folder, device="cpu")
    ),
    "weights of a run": Reader(
        "weights/segmenter.safetensors",
        run_file("weights/segmenter.safetensors"),
        lambda folder: Segmenter.load(folder, device="cpu"),
    ),
    "safetensors": Reader(
        "w.safetensors",
        lambda folder: [safetensors.torch.save({"a": torch.ones(2, 3), "b": torch.arange(4)})],
        lambda folder: {name: tensor.numpy() for name, tensor in read_safetensors(folder / "w.safetensors").items()},
        lambda path: safetensors.numpy.load(path.read_bytes()),
    ),
    "checkpoint": Reader("w.pth", checkpoints, lambda folder: read_checkpoint(folder / "w.pth")),
    "COCO polygons": Reader("annotations.json", foreign("coco", "annotations.json"), imported),
    "COCO runs": Reader("annotations.json", foreign("rle", "annotations.json"), imported),
    "ImageJ regions": Reader("a_RoiSet.zip", foreign("imagej", "a_RoiSet.zip"), imported),
    "QuPath": Reader("a.geojson", foreign("qupath", "a.geojson"), imported),
    "LabelMe": Reader("json/a.json", foreign("labelme", "json/a.json"), imported),
    "YOLO": Reader("labels/train/a.txt", foreign("yolo", "labels/train/a.txt"), imported),
    "Cellpose": Reader("a_seg.npy", foreign("seg", "a_seg.npy"), imported),
}
