"""What is done to an image of which a mask is made, and to a panel of one that is large."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import digest, locked, utf8
from cytoforge.data.images import RowReader, encode_labels, is_blank
from cytoforge.data.label_files import write_label_tiff, write_label_zarr
from cytoforge.data.metadata import read_metadata
from cytoforge.data.ngff import is_multiscale, is_zarr, zarr_format
from cytoforge.data.ownership import UNFINISHED, WRITERS, OutputFolder
from cytoforge.engine import Announce, Seat
from cytoforge.inference.row_files import LASTING, MARK, RowFile, sweep
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import Disagreement

OWNER = "segment"  # name under which masks are listed
PASSING = ("pieces", "mask")  # the files that are there besides the LASTING ones
ZARR = "mask.zarr"  # and the folder
HEAVY = 2**22  # bytes of a file from which an image may be so large that its panels are divided
LARGE = 2**27  # px from which a TIFF is written by rows


@dataclass(frozen=True)
class Segmenting:
    """Segments an image and writes its mask."""

    segmenter: Segmenter
    images: Dataset
    """as it is read, without its items"""
    out: Path
    tiled: str | None
    """name of the image of which it is measured what tiling changes"""
    own: float | None
    """px across that the cells of each image are brought to; None where one scale is for all"""

    def start(self, seat: Seat) -> Callable[[Item, Announce], dict[str, Any]]:
        """Return the function that makes the mask of an image, and gives what segment.json says of it."""
        segmenter, folder = self.segmenter.seated(seat), OutputFolder(self.out, OWNER, seat.writer)

        def segment(item: Item, announce: Announce) -> dict[str, Any]:
            told: dict[str, Any] = {}
            done, place = False, folder.scratch

            def note(disagreement: Disagreement) -> None:
                told["tile_disagreement"] = disagreement._asdict()

            with self.images.reader(item) as reader, _alone(self.out, segmenter, reader, item) as large:
                if large and (known := _made(folder, item)) is not None:
                    return known
                try:
                    place = folder.make_scratch(_key(item) if large else None)
                    segmenter.check_channels(image_of(item), reader.shape[0])
                    limits, image = limits_of(segmenter, self.images, reader), digest(image_of(item))
                    measured = note if item.name == self.tiled else None
                    suited = segmenter
                    if self.own is not None and not large and not is_blank(limits):
                        suited = segmenter.for_own_cells(segmenter.middle(reader, limits), self.own)
                        told["scale"] = suited.scale
                    labels, cells = suited.segment_rows(
                        reader, limits, place, announce, measured, f"{image} {self.images.view}"
                    )
                    with labels:
                        name = _mask_name(item, cells)
                        _write_mask(folder, f"masks/{name}", labels, item)
                    done = True
                finally:
                    _sweep(place, going_on=not done)
                    _sweep(folder.scratch)
                facts = {"file": name, "image": image, "cells": cells, **told}
                folder.note(item.name, facts)
                return facts

        return segment


@dataclass(frozen=True)
class PanelOf:
    """One of the panels of a large image."""

    item: Item
    place: int
    """of the image among all"""
    number: int

    @property
    def name(self) -> str:
        """What it is called in messages and notes."""
        return f"panel {self.number + 1} of {self.item.name}"


@dataclass(frozen=True)
class DecodingPanels:
    """Decodes a panel of a large image, to where `Segmenting` finds it."""

    segmenter: Segmenter
    images: Dataset
    """as it is read, without its items"""
    out: Path

    def start(self, seat: Seat) -> Callable[[PanelOf, Announce], None]:
        """Return the function that decodes a panel."""
        segmenter, folder = self.segmenter.seated(seat), OutputFolder(self.out, OWNER, seat.writer)
        known: dict[str, tuple[NDArray[np.float64], str]] = {}  # by image, for which all of it has to be read

        def decode(panel: PanelOf, announce: Announce) -> None:
            file, place = image_of(panel.item), folder.make_scratch(_key(panel.item))
            with locked(self.out / WRITERS / f"{place.name}-{panel.number}"), self.images.reader(panel.item) as reader:
                if panel.item.name not in known:
                    segmenter.check_channels(file, reader.shape[0])
                    limits = limits_of(segmenter, self.images, reader)
                    known[panel.item.name] = limits, f"{digest(file)} {self.images.view}"
                limits, image = known[panel.item.name]
                if not is_blank(limits):
                    with segmenter.panel(reader, limits, place, panel.number, announce, image):
                        pass  # what it has decoded stays in its files
            folder.note(panel.name, True)

        return decode


def panels_among(segmenter: Segmenter, images: Dataset, todo: Set[str]) -> dict[str, list[PanelOf]]:
    """Return the panels of those of the images `todo` that are large, by the names of these."""
    found = {}
    for place, item in enumerate(images.items):
        file = image_of(item)
        if item.name not in todo or not (is_zarr(file) or file.stat().st_size >= HEAVY):
            continue
        if count := segmenter.panels_of(images.shape(item)):
            found[item.name] = [PanelOf(item, place, number) for number in range(count)]
    return found


def _key(item: Item) -> str:
    """Return the name of the folder in which a large image is in work."""
    return hashlib.sha256(utf8(item.name)).hexdigest()[:16]


@contextlib.contextmanager
def _alone(out: Path, segmenter: Segmenter, reader: RowReader, item: Item) -> Iterator[bool]:
    """Tell whether an image is large, and if so wait until no other process joins its panels."""
    large = segmenter.panels_of(reader.shape) > 0
    with locked(out / WRITERS / _key(item)) if large else contextlib.nullcontext():
        yield large


def _made(folder: OutputFolder, item: Item) -> dict[str, Any] | None:
    """Return what another process has noted of a mask that is there."""
    folder.reread()
    facts = folder.notes.get(item.name)
    return facts if isinstance(facts, dict) and (folder.path / "masks" / str(facts.get("file"))).exists() else None


def _mask_name(item: Item, cells: int) -> str:
    """Return the name of a mask: a zarr where the image is one, a PNG where that is one and can hold the ids."""
    image, suffix = image_of(item), ".tif"
    if is_zarr(image):
        suffix = ".zarr"
    elif image.suffix.lower() == ".png" and cells <= np.iinfo(np.uint16).max:
        suffix = ".png"
    return f"{item.name}{suffix}"


def _write_mask(folder: OutputFolder, name: str, labels: RowFile, item: Item) -> None:
    """Write a mask, by rows where it may be large; a zarr is of the same version as the image."""
    (height, width), image = labels.shape, image_of(item)
    if name.endswith(".zarr"):
        with folder.writing_folder(name, folder.scratch / ZARR) as part:
            write_label_zarr(
                part,
                labels,
                zarr_format=zarr_format(image),
                pixel_size=read_metadata(image).pixel_size,
                image=Path(os.path.relpath(image, folder.path / name)).as_posix() if is_multiscale(image) else None,
                name=item.name,
            )
    elif name.endswith(".tif") and height * width > LARGE:
        with folder.writing(name) as file:
            write_label_tiff(file, labels)
    else:
        folder.write(name, encode_labels(Path(name), labels.rows(0, height)))


def limits_of(segmenter: Segmenter, images: Dataset, reader: RowReader) -> NDArray[np.float64]:
    """Return the grey values (C, 2) of -1 and 1 in an image; of a blank one its own, whatever dataset.json says."""
    measured = segmenter.normalisation.measure(reader)
    return measured if is_blank(measured) else images.limits_of(measured)


def image_of(item: Item) -> Path:
    """Return the image file of an item; raises ValueError where it has none."""
    if item.image is None:
        raise ValueError(f"{item.name} has no image")
    return item.image


def _sweep(folder: Path, going_on: bool = False) -> None:
    """Remove what an image in work has left, but for files of the user's, and those from which it goes on."""
    if folder.is_symlink():
        return
    sweep(folder, PASSING if going_on and (folder / MARK).exists() else (*PASSING, *LASTING))
    shutil.rmtree(folder / ZARR, ignore_errors=True)
    with contextlib.suppress(OSError):  # absent, or the user has something there
        folder.rmdir()


def sweep_all(out: Path) -> None:
    """Remove what all images in work have left, as `_sweep`."""
    if not (out / UNFINISHED).is_symlink():
        for mark in sorted((out / UNFINISHED).glob(f"*/{MARK}")):
            _sweep(mark.parent)
    _sweep(out / UNFINISHED)
