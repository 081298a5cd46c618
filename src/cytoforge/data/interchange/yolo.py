"""YOLO segments: a text file for each image, with a line `class x y x y ...` per cell, from 0 to 1."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import Labels
from cytoforge.cells.outlines import NOTHING, Piece, Region, outlined
from cytoforge.data.files import is_number
from cytoforge.data.formats import MAX_BYTES
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    drawn,
    filled,
    subfolder,
    told,
)
from cytoforge.errors import UserError

BOX = 5  # numbers of a line that has a box: class, centre, width and height
LOOKED_AT = 2000  # letters of a file that recognition reads
DESCRIPTION = b"""train: images
val: images  # the same: put images that are not to be trained on into a folder of their own
names:
  0: cell
"""
"""data.yaml, from which Ultralytics trains"""


def _image_of(source: Source, file: Path) -> Path | None:
    """Return the image beside a file, or in images/ where the file is in labels/."""
    parts = list(file.parts)
    if "labels" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("labels")
        there = source.beside(Path(*parts[:place], "images", *parts[place + 1 :]), file.stem)
        if there:
            return there
    return source.beside(file, file.stem)


def _looks_alike(file: Path) -> bool:
    try:
        with file.open(encoding="ascii") as content:
            text = content.read(LOOKED_AT)
        values = [float(word) for word in text.partition("\n")[0].split()]
    except (OSError, ValueError):
        return False
    return len(values) >= BOX and values[0].is_integer() and all(0 <= value <= 1 for value in values[1:-1])


def _recognised(source: Source) -> bool:
    return any(_looks_alike(file) and _image_of(source, file) for file in source.having(".txt"))


def _open(source: Source) -> Found:
    """Find the image of each file; folders such as train and val are groups. Files that are no annotations are left."""
    files = [file for file in source.having(".txt") if _looks_alike(file) or (_image_of(source, file) and _empty(file))]
    items, lone = [], []
    seen: set[Path] = set()
    for file in files:
        image = _image_of(source, file)
        if image is None:
            lone.append(source.relative(file))
            continue
        seen.add(image)
        group = subfolder(source, image, "images")
        items.append(Annotated(source.relative(image.with_suffix("")), partial(_draw, file), image, group))
    notes = [
        *told("annotation", lone, "without image, left out"),
        *source.unannotated(seen),
        *source.unread(files, ".txt"),
    ]
    return Found(tuple(items), tuple(notes))


def _empty(file: Path) -> bool:
    return file.stat().st_size < LOOKED_AT and not file.read_bytes().strip()


def _draw(file: Path, size: Size | None) -> Drawn:
    size = agreed(file, "it", None, size)
    lines = [(number, words) for number, line in enumerate(_lines(file), 1) if (words := line.split())]
    if lines and all(len(words) == BOX for _, words in lines):
        raise UserError(f"{file}: holds boxes, no outlines; export the segments")
    return drawn(_cells(file, lines, size), size)


def _lines(file: Path) -> list[str]:
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"{file}: is larger than {MAX_BYTES / 2**30:.0f} GiB; give the annotations of one image")
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); restore the file") from error


def _cells(file: Path, lines: list[tuple[int, list[str]]], size: Size) -> Iterator[Region]:
    for number, words in lines:
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) % 2 == 0 or not all(map(is_number, values)):
            raise UserError(f"{file}, line {number}: is no class followed by pairs of numbers x y; mend it")
        if len(values) == BOX:
            yield NOTHING
            continue
        ring = np.array(values[1:]).reshape(-1, 2)[:, ::-1] * size
        yield filled([ring], size, file)


YOLO = Format("YOLO segments", _recognised, _open)


class Segments(NamedTuple):
    """The file of an image."""

    lines: bytes
    joined: int
    """number of cells with holes or several pieces"""


def segments(labels: Labels) -> Segments:
    """Return the cells of labels (H, W) as lines of YOLO, along the edges of pixels.

    A line has one outline. Holes and further pieces are joined to it by lines without width, there and back: programs
    that fill by the even-odd rule find exactly the cell, others also draw these lines.
    """
    lines, joined = [], 0
    for _, pieces in outlined(labels):
        joined += len(pieces) > 1 or bool(pieces[0].holes)
        places = _joined(pieces) / labels.shape
        lines.append(" ".join(["0", *(f"{value:.9g}" for value in places[:, ::-1].ravel())]) + "\n")
    return Segments("".join(lines).encode(), joined)


def _joined(pieces: list[Piece]) -> NDArray[np.int64]:
    """Return all rings of a cell as one (K, 2) of y, x; the lines between run along rows and columns."""
    first, *others = [ring for piece in pieces for ring in (piece.shell, *piece.holes)]
    start = first[:1]
    parts = [first]
    for ring in others:
        bend = np.array([[ring[0, 0], start[0, 1]]])
        parts += [start, bend, ring, ring[:1], bend]
    return np.concatenate([*parts, start] if others else parts)
