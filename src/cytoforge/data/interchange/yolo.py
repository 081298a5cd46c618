"""YOLO segments: a text file for each image, with a line `class x y x y ...` per cell, from 0 to 1."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cytoforge.cells.outlines import NOTHING, Region
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
