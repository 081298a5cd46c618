"""A folder for each image and in it a mask for each cell: ID/images/ID.png and ID/masks/*.png, as of DSB 2018."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cytoforge.cells.outlines import Region, cropped
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    drawn,
    picture_size,
    read_picture,
    stem,
    told,
)


def _images(source: Source) -> list[Path]:
    """Return the images ID/images/ID.*."""
    return [
        image
        for image in source.images
        if image.parent.name == "images" and image.parent.parent.name == stem(image.name)
    ]


def _masks(source: Source, image: Path) -> list[Path]:
    return source.images_in(image.parent.parent / "masks")


def _open(source: Source) -> Found:
    """Find the images that have masks."""
    images = _images(source)
    items, lone = [], []
    for image in images:
        files = _masks(source, image)
        folder = source.relative(image.parent.parent)
        if files:
            name = stem(image.name) if folder == "." else folder
            items.append(Annotated(name, partial(_draw, files), image))
        else:
            lone.append(source.relative(image))
    read = {image.parent.parent for image in images}
    others = sorted({mask.parent.parent for mask in source.images if mask.parent.name == "masks"} - read)
    notes = [
        *told("image", lone, "without a mask, left out"),
        *told("folder of masks", [source.relative(folder) for folder in others], "without image, left out"),
    ]
    return Found(tuple(items), tuple(notes))


def _draw(files: list[Path], size: Size | None) -> Drawn:
    size = agreed(files[0], "this mask", picture_size(files[0]), size)
    return drawn(_cells(files, size), size)


def _cells(files: list[Path], size: Size) -> Iterator[Region]:
    for file in files:
        mask = read_picture(file)
        agreed(file, "this mask", (mask.shape[1], mask.shape[2]), size)
        yield cropped(np.any(mask, axis=0, keepdims=True)[0])


CELL_FILES = Format(
    "a mask file for each cell",
    lambda source: any(_masks(source, image) for image in _images(source)),
    _open,
)
