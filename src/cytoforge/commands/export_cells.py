"""`cytoforge export` of a dataset, or of the frames of a movie: images and their cells as other programs take them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.dataset import PARTS, Dataset, Item
from cytoforge.data.interchange import cellpose, imagej, qupath, yolo
from cytoforge.data.interchange.coco import CocoFile
from cytoforge.data.lock import alone
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.resume import written_anew
from cytoforge.data.writer import copied_name, copy_image
from cytoforge.errors import UserError
from cytoforge.progress import Progress, counted
from cytoforge.settings import Export

Labels = NDArray[np.int32]
OWNER = "export"


class Layout(NamedTuple):
    """Where a program looks for images, and for what belongs to them."""

    program: str
    images: str
    """folder of the images in OUT, "" for OUT itself"""
    file: str
    """file of the cells of an image NAME, or of all images"""


LAYOUTS = {
    "roi": Layout("ImageJ regions", "", "NAME_RoiSet.zip"),
    "geojson": Layout("QuPath GeoJSON", "", "NAME.geojson"),
    "coco": Layout("COCO JSON", "images/", "annotations.json"),
    "yolo": Layout("YOLO segments", "images/", "labels/NAME.txt"),
    "seg-npy": Layout("Cellpose's _seg.npy", "", "NAME_seg.npy"),
}


@alone
def export_cells(config: Export) -> Path:
    """Write a copy of the images and the cells of each to OUT; print what is left out or not exact; return OUT.

    Raises UserError when there are no masks, masks do not number the cells or differ from their images in size, and
    when OUT holds anything that `export` did not write, or an export already, unless told to overwrite.
    """
    data = Dataset.open(config.data, config.sequence, holds="masks").masks()
    data = data.numbered(binary=False, otherwise=f"let cytoforge check {config.data} --fix COPY do so")
    layout, folder = LAYOUTS[config.format], _opened(config, data)
    coco = CocoFile()
    cells = joined = 0
    progress = Progress(config.format)
    with written_anew(folder, _settings(config), overwrite=config.overwrite):
        for done, item in enumerate(data.items, 1):
            labels, image = data.read_labels(item), _image_name(item)
            cells += np.unique(labels[labels > 0]).size
            if item.image:
                copy_image(item.image, folder, layout.images + item.name)
            if config.format == "coco":
                coco.add(image, labels)
            elif config.format == "yolo":
                lines = yolo.segments(labels)
                joined += lines.joined
                folder.write(layout.file.replace("NAME", item.name), lines.lines)
            else:
                folder.write(layout.file.replace("NAME", item.name), _encoded(config.format, labels, image))
            progress(done / len(data.items))
        if config.format == "coco":
            folder.write(layout.file, coco.content())
        elif config.format == "yolo":
            folder.write("data.yaml", yolo.DESCRIPTION)
    print("".join(f"{note}\n" for note in (*data.notes, *_told(data, layout, joined))), end="")
    print(f"{config.out}: {counted(len(data.items), 'image')}, {counted(cells, 'cell')}, as {layout.program}")
    return config.out


def _encoded(title: str, labels: Labels, image: str) -> bytes:
    if title == "roi":
        return imagej.region_set(labels, image)
    if title == "geojson":
        return qupath.features(labels, image)
    from cytoforge.report import label_colours  # loads matplotlib

    return cellpose.segmentation(labels, image, label_colours(np.unique(labels[labels > 0]).size)[1:])


def _opened(config: Export, data: Dataset) -> OutputFolder:
    """Return OUT; raises UserError where it lies in the data to export."""
    out = config.out.resolve()
    if out == config.data.resolve() or any(out.is_relative_to((data.path / part).resolve()) for part in PARTS):
        raise UserError(f"{config.out}: lies in the data to export; choose a folder outside of it")
    return OutputFolder(config.out, OWNER)


def _settings(config: Export) -> dict[str, Any]:
    """Return what the result follows from."""
    return {name: value for name, value in asdict(config).items() if name not in ("out", "overwrite")}


def _image_name(item: Item) -> str:
    """Return the name of the image's copy, or the one that an image of this mask probably has."""
    file = item.image or item.mask
    return copied_name(item.name, file) if file else item.name


def _told(data: Dataset, layout: Layout, joined: int) -> list[str]:
    alone = [item.name for item in data.items if item.image is None]
    notes = []
    if alone:
        notes.append(
            f"{counted(len(alone), 'mask')} without image: cells alone are written; their images belong beside them "
            f"({layout.images}{alone[0]} ...)"
        )
    if joined:
        notes.append(
            f"{counted(joined, 'cell')} with holes or in pieces: YOLO has one outline a cell, so lines without width "
            "join the parts, which some programs draw"
        )
    return notes
