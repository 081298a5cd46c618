"""`cytoforge segment`: images of any size to label images of the same size, in bounded memory."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from cytoforge.config import Segment
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import digest, make_folder, read_json
from cytoforge.data.formats import SUFFIXES
from cytoforge.data.images import Normalisation, RowReader, encode_labels, is_blank, resize_rows, scaled_shape
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.run_config import Settings, parse
from cytoforge.errors import UserError
from cytoforge.inference.load import open_network
from cytoforge.inference.strips import StripDecoder, restored_rows, strip_height
from cytoforge.inference.tiling import (
    Disagreement,
    Floats,
    Rows,
    default_tile,
    margin,
    probability_rows,
    smallest_tile,
    tile_disagreement,
)
from cytoforge.instances import TARGETS, Target
from cytoforge.progress import Progress, counted

FORMAT = 1  # of segment.json
RECORD = "segment.json"
OWNER = "segment"  # name under which masks are listed
UNFINISHED = ".unfinished"  # rows of the image in work; after a kill the next call sweeps them away
ROWS = ("labels", "cell", "mask")  # the files there
LABELS = {*SUFFIXES, ".npy", ".npz", ".jpg", ".jpeg", ".bmp", ".gif", ".h5", ".hdf5", ".mat"}  # that hold annotations


def segment_array(network: nn.Module, image: Floats, target: Target, tile: int) -> NDArray[np.int32]:
    """Segment an image float32 (C, H, W) in [-1, 1] that is in memory: labels int32 (H, W), cells 1..N.

    In one pass if it fits one tile. `tile` is the side in pixels stored with the run; a larger one is used where that
    changes nothing. Raises ValueError when the network is not in eval mode.
    """
    shape = (image.shape[1], image.shape[2])
    blocks = probability_rows(network, lambda top, bottom: image[:, top:bottom], shape, default_tile(network, tile))
    return target.decode(np.concatenate(list(blocks), axis=1))


def segment(config: Segment, *, silent: bool = False) -> Path:
    """Write OUT/masks/NAME.tif (.png for a PNG) for every image, and OUT/segment.json, which says what made them.

    Masks that the same run made of the same images are kept, so an interrupted command goes on. Returns OUT, and prints
    what was made unless `silent`. Raises UserError when images do not suit the run, or masks of another origin would
    be replaced.
    """
    model = Model.open(config)
    images = Dataset.open(config.images, config.sequence).images()
    items, model = images.items, replace(model, scale=model.scale / images.scale)
    record = Record.open(config, model, images.limits)
    waiting = record.waiting(items, config.overwrite)
    record.save()
    progress = Progress("segment")
    try:
        for position, item in enumerate(waiting):

            def announce(share: float, done: int = position, name: str = item.name) -> None:
                progress((done + share) / len(waiting), name)

            started = monotonic()
            labels, cells = _segment_item(model, images, item, record, announce)
            record.add(item, labels, cells, monotonic() - started)
            announce(1.0)
    finally:
        _sweep(config.out / UNFINISHED)
    record.finish()
    kept = f", {len(items) - len(waiting)} of them made before" if len(waiting) < len(items) else ""
    cells = sum(record.masks[item.name]["cells"] for item in items)
    if not silent:
        print("".join(f"{note}\n" for note in images.left_out), end="")
        print(f"{config.out / 'masks'}: {counted(len(items), 'mask')} with {counted(cells, 'cell')}{kept}")
    return config.out


def _image(item: Item) -> Path:
    if item.image is None:
        raise ValueError(f"{item.name} has no image")
    return item.image


@dataclass(frozen=True)
class Model:
    """A run's segmenter and how it wants its images."""

    network: nn.Module
    target: Target
    normalisation: Normalisation
    scale: float
    tile: int
    channels: int
    fingerprint: str
    """SHA-256 over weights and settings: the same masks come from the same fingerprint and tile"""

    @classmethod
    def open(cls, config: Segment) -> Self:
        """Load what the configuration names; raises UserError when run, device or tile do not serve."""
        run, network = open_network(config, "segmenter")
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster
        stored = run.settings
        assert stored.normalisation is not None  # of a segmenter it is never missing
        target, described = TARGETS[stored.target], stored.networks["segmenter"]
        if described.classes not in (None, target.classes):
            raise UserError(
                f"{run.path / 'config.json'}: target {target.name} wants {target.classes} classes, but the segmenter "
                f"tells {described.classes} apart; restore the file from a copy, or train again"
            )
        tile = config.tile or default_tile(network, stored.tile)
        if tile < smallest_tile(network):
            least = smallest_tile(network)
            raise UserError(f"--tile {tile}: this network needs {least} px or more; leave the flag out for a good size")
        return cls(
            network,
            target,
            Normalisation(**stored.normalisation.model_dump()),
            stored.scale,
            tile,
            described.in_channels or 1,
            run.fingerprint("segmenter", ("target", "scale", "normalisation")),
        )

    def rows(self, reader: RowReader, limits: NDArray[np.float64]) -> tuple[Rows, tuple[int, int]]:
        """Return the image as the network wants it, by ranges of rows, and its (height, width) at the run's scale."""
        height, width = reader.shape[1:]
        shape = scaled_shape(reader.shape, self.scale)

        def read(top: int, bottom: int) -> Floats:
            return self.normalisation.apply(reader.rows(top, bottom), limits)

        return lambda top, bottom: resize_rows(read, (height, width), shape, (top, bottom)), shape


def _segment_item(
    model: Model, images: Dataset, item: Item, record: "Record", announce: Callable[[float], None]
) -> tuple[NDArray[np.integer[Any]], int]:
    """Return the labels of an image at its own size, on disk if they are large, and the number of cells."""
    path = _image(item)
    with RowReader(path) as reader:
        if reader.shape[0] != model.channels:
            raise UserError(
                f"{path}: has {counted(reader.shape[0], 'channel')}, the run was trained on {model.channels}; "
                "convert the image"
            )
        limits = model.normalisation.measure(reader)
        if is_blank(limits):
            return np.zeros(reader.shape[1:], np.uint16), 0
        rows, scaled = model.rows(reader, images.limits_of(limits))
        if record.disagreement is None and margin(model.network) is None and max(scaled) > model.tile:
            record.disagreement = _central_disagreement(model, rows, scaled)._asdict()
        folder = record.out / UNFINISHED
        make_folder(folder)
        decoder = StripDecoder(model.target.decode, strip_height(scaled[1]))
        with (
            RowFile(folder / "labels", scaled[1], np.int32) as labels,
            RowFile(folder / "cell", scaled[1], np.float32) as cell,
        ):
            for part, probability in decoder.rows(probability_rows(model.network, rows, scaled, model.tile)):
                labels.append(part)
                if scaled != reader.shape[1:]:
                    cell.append(probability)
                announce(0.9 * labels.height / scaled[0])
            return _number(labels, cell, decoder.table(), scaled, reader.shape[1:])


def _sweep(folder: Path) -> None:
    """Remove the rows of the image in work."""
    for name in ROWS:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # absent, or the user has something there
        folder.rmdir()


class RowFile:
    """Rows of one width on disk: appended from top to bottom, read by ranges; a context manager."""

    def __init__(self, path: Path, width: int, dtype: type[np.generic]) -> None:
        self.path, self.width, self.dtype, self.height = path, width, np.dtype(dtype), 0
        self._file = path.open("w+b")

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (h, width) below the others; raises UserError when the disk is full."""
        try:
            self._file.write(np.ascontiguousarray(rows, self.dtype).data)
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); make room, or give another --out"
            ) from error
        self.height += rows.shape[0]

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Return rows top..bottom as (bottom - top, width)."""
        self._file.seek(top * self.width * self.dtype.itemsize)
        count = (bottom - top) * self.width
        return np.frombuffer(self._file.read(count * self.dtype.itemsize), self.dtype).reshape(-1, self.width)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()


def _number(
    labels: RowFile, cell: RowFile, table: NDArray[np.int32], scaled: tuple[int, int], shape: tuple[int, int]
) -> tuple[NDArray[np.integer[Any]], int]:
    """Bring provisional labels to `shape` and number the cells 1..N from the top; return labels (on disk) and N."""
    number = np.zeros(table.size, np.int32)
    count = 0
    dtype = np.uint32 if np.unique(table).size - 1 > np.iinfo(np.uint16).max else np.uint16
    path = labels.path.with_name("mask")
    step = strip_height(shape[1])
    # not written through a map: that would end the program, not the call, when the disk is full
    with RowFile(path, shape[1], dtype) as result:
        for top in range(0, shape[0], step):
            rows = (top, min(top + step, shape[0]))
            if scaled == shape:
                part = table[labels.rows(*rows)]
            else:
                part = restored_rows(lambda a, b: (table[labels.rows(a, b)], cell.rows(a, b)), scaled, shape, rows)
            seen = np.zeros(table.size, bool)
            seen[part] = True
            (new,) = np.nonzero(seen & (number == 0))
            new = new[new > 0]
            number[new] = np.arange(count + 1, count + 1 + new.size)
            count += new.size
            result.append(number[part])
    return np.memmap(path, dtype, "r", shape=shape), count


def _central_disagreement(model: Model, rows: Rows, shape: tuple[int, int]) -> Disagreement:
    """Measure on two by two tiles in the middle of an image what the tiles change."""
    (top, bottom), (left, right) = (
        ((n - min(n, 2 * model.tile)) // 2, (n + min(n, 2 * model.tile)) // 2) for n in shape
    )
    return tile_disagreement(model.network, rows(top, bottom)[:, :, left:right], model.tile)


class Listed(Settings):
    """What segment.json says of a mask."""

    file: Annotated[str, Field(min_length=1)]
    image: str
    cells: Annotated[int, Field(ge=0)]
    seconds: float = 0.0


class Stored(Settings):
    """What segment.json says, to check it by."""

    fingerprint: str
    tile: int
    finished: bool
    masks: dict[str, Listed]
    tile_disagreement: dict[str, float] | None = None


@dataclass
class Record:
    """OUT/segment.json: which run made which mask of which image."""

    out: Path
    head: dict[str, Any]
    """what made the masks: run, its fingerprint, tile, limits of dataset.json"""
    masks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by image name: file, SHA-256 of the image, cells, seconds"""
    disagreement: dict[str, float] | None = None
    finished: bool = False
    anew: bool = False
    """whether masks of another run, or of a finished work, are there to be replaced"""

    @classmethod
    def open(cls, config: Segment, model: Model, limits: NDArray[np.float64] | None) -> Self:
        """Go on with the record in OUT, or begin one; `limits` are those that dataset.json gives all images.

        Raises UserError when OUT holds masks of another run, tile or limits, unless told to overwrite.
        """
        if config.out.is_file():
            raise UserError(f"{config.out}: is a file; give a folder to write masks/ into")
        for part in ("images", "masks"):
            if config.out.resolve().is_relative_to((config.images / part).resolve()):
                raise UserError(f"{config.out}: lies among the {part} of {config.images}; give another --out")
        path = config.out / RECORD
        head = {"run": str(config.run), "fingerprint": model.fingerprint, "tile": model.tile}
        head["limits"] = None if limits is None else limits.tolist()
        folder = OutputFolder(config.out, OWNER)
        if not path.exists():
            return cls(config.out, head)
        stored = read_json(path)
        if stored.get("format") != FORMAT or not {"fingerprint", "tile", "finished", "masks"} <= stored.keys():
            raise UserError(f"{path}: is not a record of this version of segment; give another --out")
        parse(Stored, stored, path, "restore the file, or give another --out")
        folder.require()
        folder.refuse_foreign([RECORD])
        same = all(stored.get(key) == head[key] for key in ("fingerprint", "tile", "limits"))
        if config.overwrite and (stored["finished"] or not same):
            return cls(config.out, head, anew=True)
        if not same:
            raise UserError(
                f"{path}: another run or --tile made these masks, or other limits of dataset.json; give another "
                "--out, or --overwrite"
            )
        return cls(config.out, head, stored["masks"], stored.get("tile_disagreement"))

    @cached_property
    def folder(self) -> OutputFolder:
        """OUT as it is written to, which knows what of it is this command's own."""
        return OutputFolder(self.out, OWNER)

    def waiting(self, items: Sequence[Item], overwrite: bool) -> list[Item]:
        """Return the images that have no mask of this run yet; masks of another run go, if told to overwrite.

        Raises UserError, before anything is removed, when an image is not the one that its mask was made of, or a mask
        is in the way that this command did not write or that was changed since: such annotations are never replaced.
        """
        todo = []
        for item in items:
            mask = self.masks.get(item.name)
            if mask is None or not (self.out / "masks" / mask["file"]).exists():
                todo.append(item)
            elif mask["image"] != digest(_image(item)):
                if not overwrite:
                    raise UserError(f"{item.image}: has changed since its mask was made; give --overwrite")
                todo.append(item)
        self._spare_annotations(todo)
        if self.anew:
            self.folder.clear(self.folder.survey())
        return todo

    def _spare_annotations(self, todo: Sequence[Item]) -> None:
        place, folder = self.out / "masks", self.folder
        there = sorted(file for file in place.iterdir() if file.name[0] != ".") if todo and place.is_dir() else []
        foreign = [file for file in there if not folder.lists(f"masks/{file.name}")]
        images = {image.resolve() for image in (self.out, self.out / "images")}
        by_name: dict[str, list[Path]] = {}
        for file in there:
            if file in foreign or not folder.owns(f"masks/{file.name}"):
                by_name.setdefault(file.stem.removesuffix(".ome"), []).append(file)
                by_name.setdefault(file.name, []).append(file)
        for item in todo:
            among = _image(item).parent.resolve() in images  # the masks in OUT are those of these images
            others = [file for file in foreign if among and file.suffix.lower() in LABELS]
            for file in (*by_name.get(item.name, ()), *others[:1]):
                if file not in foreign:
                    what = "has been changed since segment wrote it, and is not replaced"
                elif item.mask is not None and file.resolve() == item.mask.resolve():
                    what = f"is the annotation of {item.image}, not a result"
                else:
                    what = "exists already; give another --out, as segment replaces no mask that it did not write"
                    raise UserError(f"{file}: {what}")
                raise UserError(f"{file}: {what}; give another --out")

    def add(self, item: Item, labels: NDArray[np.integer[Any]], cells: int, seconds: float) -> None:
        """Write a mask and list it; first listed, then written, so that a kill between leaves nothing unexplained."""
        folder, small = self.folder, cells <= np.iinfo(np.uint16).max
        name = f"{item.name}.png" if _image(item).suffix.lower() == ".png" and small else f"{item.name}.tif"
        content = encode_labels(Path(name), labels)
        former = self.masks.get(item.name, {}).get("file", name)
        if former != name and (self.out / "masks" / former).exists():
            folder.remove(f"masks/{former}")
        folder.refuse_foreign([f"masks/{name}"])
        self.masks[item.name] = {
            "file": name,
            "image": digest(_image(item)),
            "cells": cells,
            "seconds": round(seconds, 3),
        }
        self.save()
        folder.write(f"masks/{name}", content)

    def finish(self) -> None:
        """Note that all images have been done."""
        self.finished = True
        self.save()

    def save(self) -> None:
        """Write segment.json."""
        content = {"format": FORMAT, "command": "segment", "version": version("cytoforge"), **self.head}
        content |= {"tile_disagreement": self.disagreement, "finished": self.finished, "masks": self.masks}
        self.folder.write_json(RECORD, content)
