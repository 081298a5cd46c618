"""Datasets to label images on disk: what is segmented already is kept, and no annotation is ever replaced."""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import digest, make_folder, read_json
from cytoforge.data.formats import SUFFIXES
from cytoforge.data.images import RowReader, encode_labels, is_blank
from cytoforge.data.label_files import write_label_tiff, write_label_zarr
from cytoforge.data.metadata import read_metadata
from cytoforge.data.ngff import is_multiscale, is_zarr, zarr_format
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.run_config import Settings, parse
from cytoforge.data.tracks import calibration_of
from cytoforge.errors import UserError
from cytoforge.inference.panels import RowFile
from cytoforge.inference.segmenter import RowSource, Segmenter
from cytoforge.inference.tiling import Disagreement, Floats
from cytoforge.progress import Progress

FORMAT = 1  # of segment.json
RECORD = "segment.json"
SAME = ("fingerprint", "tile", "views", "precision", "limits", "scale", "channels", "project")
"""entries in which masks of one record agree"""
OWNER = "segment"  # name under which masks are listed
UNFINISHED = ".unfinished"  # folder of the rows of the image in work; after a kill the next call removes it
ROWS = ("labels-*", "cell-*", "mask")  # the files there
ZARR = "mask.zarr"  # and the folder
LARGE = 2**27  # px from which a TIFF is written by rows
EXAMINED, EXAMINED_SIDE = 4, 2048  # images from which the size of the cells is estimated, and px of their middles
LABELS = {*SUFFIXES, ".npy", ".npz", ".jpg", ".jpeg", ".bmp", ".gif", ".h5", ".hdf5", ".mat"}  # that hold annotations
One = TypeVar("One")


@dataclass(frozen=True)
class Segmented:
    """How many images there are, how many had their masks already, and how many cells all masks hold."""

    images: int
    kept: int
    cells: int
    diameter: float | None = None
    """pixels across that cells were taken to have, by the base model"""


def fitted(segmenter: Segmenter, images: Dataset, diameter: float | None = None) -> Segmenter:
    """Return a segmenter for images whose cells are `diameter` pixels across; without it that is estimated.

    The estimate is one for all images, from the middles of a few of them. A segmenter that resizes all images alike
    does so less what dataset.json says was done already; cells are measured as they are. Raises UserError for a
    diameter out of range, or that such a segmenter has no use for.
    """
    if segmenter.diameter is None and diameter is None:
        return segmenter.at(images.scale)
    segmenter = segmenter.for_channels(images.channels())
    if diameter is None:
        diameter = estimated(segmenter, images.items, lambda item: _middle(segmenter, images, item))
    return segmenter.for_cells(diameter)


def estimated(segmenter: Segmenter, images: Sequence[One], middle_of: Callable[[One], Floats]) -> float:
    """Estimate the diameter in pixels of the cells of images, from the middles of a few that are spread over all.

    `middle_of` gives the middle of one of `images`, as the function `middle` does.
    """
    chosen = images[:: max(len(images) // EXAMINED, 1)][:EXAMINED]
    return segmenter.estimate_diameter([middle_of(image) for image in chosen])


def middle(segmenter: Segmenter, source: RowSource, limits: NDArray[np.float64]) -> Floats:
    """Return the middle of an image (C, H, W) in [-1, 1], no longer than EXAMINED_SIDE pixels."""
    (top, bottom), (left, right) = (
        (max((n - EXAMINED_SIDE) // 2, 0), (n + EXAMINED_SIDE) // 2) for n in source.shape[1:]
    )
    return segmenter.normalisation.apply(source.rows(top, min(bottom, source.shape[1]))[:, :, left:right], limits)


def _middle(segmenter: Segmenter, images: Dataset, item: Item) -> Floats:
    with images.reader(item) as reader:
        segmenter.check_channels(image_of(item), reader.shape[0])
        return middle(segmenter, reader, images.limits_of(segmenter.normalisation.measure(reader)))


def segment_dataset(
    segmenter: Segmenter, images: Dataset, out: Path, *, overwrite: bool = False, diameter: float | None = None
) -> Segmented:
    """Write OUT/masks/NAME.tif (.png for a PNG) for every image, and OUT/segment.json, which says what made them.

    The base model brings images to the size that it knows, from the `diameter` of their cells in pixels or, without it,
    an estimate (`fitted`).

    Masks that the same segmenter made of the same images are kept, so interrupted work goes on. Raises UserError when
    images do not suit the segmenter, or masks of another origin would be replaced.
    """
    images = images.images().alike(segmenter.fixed_channels)
    items, known = images.items, segmenter.diameter
    segmenter = fitted(segmenter, images, diameter)
    cells_across = None if known is None else known / segmenter.scale
    record = Record.open(out, images, segmenter, overwrite)
    waiting = record.waiting(items, overwrite)
    record.save()
    progress = Progress("segment")
    try:
        for position, item in enumerate(waiting):

            def announce(share: float, done: int = position, name: str = item.name) -> None:
                progress((done + share) / len(waiting), name)

            started = monotonic()
            with images.reader(item) as reader:
                segmenter.check_channels(image_of(item), reader.shape[0])
                limits = limits_of(segmenter, images, reader)
                make_folder(out / UNFINISHED)
                labels, cells = segmenter.segment_rows(
                    reader, limits, out / UNFINISHED, announce, record.note_disagreement
                )
                record.add(item, labels, cells, monotonic() - started)
            announce(1.0)
    finally:
        _sweep(out / UNFINISHED)
    record.finish()
    cells = sum(record.masks[item.name]["cells"] for item in items)
    return Segmented(len(items), len(items) - len(waiting), cells, cells_across)


def limits_of(segmenter: Segmenter, images: Dataset, reader: RowReader) -> NDArray[np.float64]:
    """Return the grey values (C, 2) of -1 and 1 in an image; of a blank one its own, whatever dataset.json says."""
    measured = segmenter.normalisation.measure(reader)
    return measured if is_blank(measured) else images.limits_of(measured)


def image_of(item: Item) -> Path:
    """Return the image file of an item; raises ValueError where it has none."""
    if item.image is None:
        raise ValueError(f"{item.name} has no image")
    return item.image


def _sweep(folder: Path) -> None:
    """Remove the folder of the image in work, but for files of the user's."""
    for file in [file for name in ROWS for file in folder.glob(name)]:
        file.unlink(missing_ok=True)
    shutil.rmtree(folder / ZARR, ignore_errors=True)
    with contextlib.suppress(OSError):  # absent, or the user has something there
        folder.rmdir()


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
    """whether OUT holds masks of another run, or of a finished call, that are to be replaced"""

    @classmethod
    def open(cls, out: Path, images: Dataset, segmenter: Segmenter, overwrite: bool) -> Self:
        """Go on with the record in OUT, or begin one.

        Raises UserError when OUT holds masks of another run, tile or limits, unless told to overwrite.
        """
        if out.is_file():
            raise UserError(f"{out}: is a file; give a folder to write masks/ into")
        for part in ("images", "masks"):
            if out.resolve().is_relative_to((images.path / part).resolve()):
                raise UserError(f"{out}: lies among the {part} of {images.path}; give another --out")
        path = out / RECORD
        head: dict[str, Any] = {"run": str(segmenter.run), "fingerprint": segmenter.fingerprint, "tile": segmenter.tile}
        head |= {"views": segmenter.views, "precision": segmenter.precision}
        head |= {"channels": list(images.view.channels), "project": images.view.project}
        head["limits"] = None if images.limits is None else images.limits.tolist()
        head["scale"] = list(segmenter.scaling) if isinstance(segmenter.scaling, tuple) else segmenter.scaling
        files = [item.image for item in images.items if item.image]
        head["pixel_size"] = calibration_of(images.path, images.info, files).pixel_size
        folder = OutputFolder(out, OWNER)
        if not path.exists():
            return cls(out, head)
        stored = read_json(path)
        if stored.get("format") != FORMAT or not {"fingerprint", "tile", "finished", "masks"} <= stored.keys():
            raise UserError(f"{path}: is not a record of this version of segment; give another --out")
        parse(Stored, stored, path, "restore the file, or give another --out")
        folder.require()
        folder.refuse_foreign([RECORD])
        # what former versions did not note
        earlier = {"scale": head["scale"], "views": 1, "precision": "float32", "channels": [], "project": None}
        stored = {**earlier, **stored}
        same = all(stored.get(key) == head[key] for key in SAME)
        if overwrite and (stored["finished"] or not same):
            return cls(out, head, anew=True)
        if not same:
            raise UserError(
                f"{path}: another run, other flags or other limits of dataset.json made these masks; give another "
                "--out, or --overwrite"
            )
        return cls(out, head, stored["masks"], stored.get("tile_disagreement"))

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
            elif mask["image"] != digest(image_of(item)):
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
            among = image_of(item).parent.resolve() in images  # the masks in OUT are those of these images
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

    def add(self, item: Item, labels: RowFile, cells: int, seconds: float) -> None:
        """List a mask and then write it, in this order, so that a kill in between leaves no file that is not listed.

        A mask is a zarr of the same version where the image is one, a PNG where that is one and can hold the ids, else
        a TIFF.
        """
        folder, image, suffix = self.folder, image_of(item), ".tif"
        if is_zarr(image):
            suffix = ".zarr"
        elif image.suffix.lower() == ".png" and cells <= np.iinfo(np.uint16).max:
            suffix = ".png"
        name = f"{item.name}{suffix}"
        former = self.masks.get(item.name, {}).get("file", name)
        if former != name and (self.out / "masks" / former).exists():
            folder.remove(f"masks/{former}")
        folder.refuse_foreign([f"masks/{name}"])
        self.masks[item.name] = {
            "file": name,
            "image": digest(image_of(item)),
            "cells": cells,
            "seconds": round(seconds, 3),
        }
        self.save()
        with labels:
            self._write(f"masks/{name}", labels, item)

    def _write(self, name: str, labels: RowFile, item: Item) -> None:
        height, width = labels.shape
        if name.endswith(".zarr"):
            image = image_of(item)
            with self.folder.writing_folder(name, self.out / UNFINISHED / ZARR) as part:
                write_label_zarr(
                    part,
                    labels,
                    zarr_format=zarr_format(image),
                    pixel_size=read_metadata(image).pixel_size,
                    image=Path(os.path.relpath(image, self.out / name)).as_posix() if is_multiscale(image) else None,
                    name=item.name,
                )
        elif name.endswith(".tif") and height * width > LARGE:
            with self.folder.writing(name) as file:
                write_label_tiff(file, labels)
        else:
            self.folder.write(name, encode_labels(Path(name), labels.rows(0, height)))

    @property
    def note_disagreement(self) -> Callable[[Disagreement], None] | None:
        """A function that notes what tiling changes; None once that is known, as one image is enough."""
        if self.disagreement is not None:
            return None

        def note(disagreement: Disagreement) -> None:
            self.disagreement = disagreement._asdict()

        return note

    def finish(self) -> None:
        """Note that all images have been done."""
        self.finished = True
        self.save()

    def save(self) -> None:
        """Write segment.json."""
        content = {"format": FORMAT, "command": "segment", "version": version("cytoforge"), **self.head}
        content |= {"tile_disagreement": self.disagreement, "finished": self.finished, "masks": self.masks}
        self.folder.write_json(RECORD, content)
