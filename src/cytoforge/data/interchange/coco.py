"""COCO JSON, as of LIVECell: images, and outlines of cells as polygons or run lengths."""

import contextlib
import json
import mmap
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import Labels
from cytoforge.cells.outlines import NOTHING, Piece, Region, cropped, outlined, united
from cytoforge.data.files import load_json, utf8
from cytoforge.data.formats import MAX_BYTES
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    checked_size,
    drawn,
    filled,
    some,
    told,
)
from cytoforge.errors import UserError
from cytoforge.progress import counted

BITS = 5  # of a run length in each letter of a compressed mask
LONGEST = 60  # bits of a run length
SEGMENTED = rb'"segmentation"|"annotations"\s*:\s*(\[\s*\]|\{\s*\})'  # or nothing annotated
Ring = NDArray[np.float64]


def mentions(path: Path, *words: bytes) -> bool:
    """Tell whether a file that can be read has all the words (regular expressions), without parsing it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(re.search(word, content) for word in words)
    except (OSError, ValueError):  # ValueError: the file is empty
        return False


def _files(source: Source) -> list[Path]:
    return [file for file in source.having(".json") if mentions(file, b'"images"', b'"annotations"', SEGMENTED)]


def _open(source: Source) -> Found:
    """Find the images of all COCO files; each of several files, such as train and val, is a group.

    Where no image is there, the masks are drawn at the sizes that the files state. Raises UserError for damaged files,
    when none of them holds an annotation, and when two entries or files annotate the same image.
    """
    files = _files(source)
    items: list[Annotated] = []
    seen: dict[Path | str, Path] = {}
    notes: list[str] = []
    annotations = 0
    for file in files:
        found, remarks, count = _read(file)
        notes += remarks
        annotations += count
        for name, size, segments in found:
            image = source.image(name)
            key: Path | str = image or name
            if key in seen:
                both = f"twice in {file.name}" if seen[key] == file else f"in {seen[key].name} and in {file.name}"
                raise UserError(f"{file}: {name} is annotated {both}; keep one, or give one of the files itself")
            seen[key] = file
            group = file.stem if len(files) > 1 else None
            place = source.relative(image) if image else name
            draw = partial(_draw, file, name, size, segments)
            items.append(Annotated(str(Path(place).with_suffix("")), draw, image, group))
    if not annotations:
        raise UserError(
            f"{files[0]}: holds no annotations of its {counted(len(items), 'image')}; outline cells and export it again"
        )
    if any(item.image for item in items):
        lost = [item.name for item in items if item.image is None]
        items = [item for item in items if item.image is not None]
        notes += told("annotated image", lost, "left out, as no such image is there")
        notes += source.unannotated(seen)
    elif items:
        notes.append(
            f"none of its images is there, so OUT holds masks alone ({items[0].name} ...); --images names their folder"
        )
    if len(files) > 1:
        names = ", ".join(file.stem for file in files)
        notes.append(f"{len(files)} files of annotations became the groups of dataset.json: {names}")
    notes += source.unread(files, ".json")
    return Found(tuple(items), tuple(notes))


def _read(file: Path) -> tuple[list[tuple[str, Size | None, list[Any]]], list[str], int]:
    """Return name, size and outlines of each image of a file, what the user should know, and the number of outlines."""
    content = load_json(file, MAX_BYTES, _shrunk)
    if not isinstance(content, dict):
        raise UserError(f"{file}: must hold a JSON object with images and annotations; mend the file")
    images = {_key(entry, "id", file): entry for entry in _entries(content, "images", file)}
    if len(images) < len(_entries(content, "images", file)):
        raise UserError(f"{file}: two images have the same id; mend the file")
    segments: dict[int | str, list[Any]] = {key: [] for key in images}
    annotations = _entries(content, "annotations", file)
    # programs that write single cells as run lengths set iscrowd for all of them
    crowds = [bool(entry.get("iscrowd")) for entry in annotations]
    crowds = [False] * len(crowds) if all(crowds) else crowds
    strays = 0
    for entry, crowd in zip(annotations, crowds, strict=True):
        of = _key(entry, "image_id", file)
        strays += of not in images
        if of in images and not crowd:
            segments[of].append(entry.get("segmentation"))
    names = [str(entry.get("name")) for entry in _entries(content, "categories", file)]
    notes = [f"{file.name}: {counted(sum(crowds), 'crowd')} of cells (iscrowd), left out"] * any(crowds)
    notes += [f"{file.name}: {counted(strays, 'annotation')} of no image of the file, left out"] * bool(strays)
    notes += [f"{file.name}: its {len(names)} categories are all taken for cells ({some(names)})"] * (len(names) > 1)
    found = []
    for key, entry in images.items():
        name = entry.get("file_name")
        if not isinstance(name, str) or not name.strip("./\\"):
            raise UserError(f"{file}: image {key!r:.40} has no file_name; mend the file")
        stated = "height" in entry and "width" in entry
        size = checked_size(file, entry["height"], entry["width"]) if stated else None
        found.append((name, size, segments[key]))
    return found, notes, len(annotations)


def _shrunk(entry: dict[str, Any]) -> dict[str, Any]:
    """Turn the polygons of an annotation into arrays as soon as they are read: a tenth of the memory."""
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and polygons and isinstance(polygons[0], list):
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # refused when it is drawn, by name
            entry["segmentation"] = [np.array(polygon, np.float64) for polygon in polygons]
    return entry


def _entries(content: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    """Return a list of objects; LIVECell has annotations as an object whose values they are."""
    entries = content.get(name, [])
    entries = list(entries.values()) if isinstance(entries, dict) else entries
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{file}: {name} must be a list of objects; mend the file")
    return entries


def _key(entry: dict[str, Any], name: str, file: Path) -> int | str:
    key = entry.get(name)
    if type(key) not in (int, str):
        raise UserError(f"{file}: {name} is {key!r:.40}, no number or name; mend the file")
    return key  # type: ignore[return-value]


def _draw(file: Path, name: str, own: Size | None, segments: Iterable[Any], size: Size | None) -> Drawn:
    size = agreed(file, name, own, size)
    return drawn(_regions(file, name, segments, size), size)


def _regions(file: Path, name: str, segments: Iterable[Any], size: Size) -> Iterator[Region]:
    for segment in segments:
        if isinstance(segment, dict):
            yield cropped(decoded(segment, size, f"{file}: a mask of {name}"))
        elif isinstance(segment, list):
            yield united([filled([_ring(file, name, polygon)], size, file) for polygon in segment] or [NOTHING])
        else:
            yield NOTHING


def _ring(file: Path, name: str, polygon: object) -> Ring:
    if not isinstance(polygon, np.ndarray) or polygon.ndim != 1 or polygon.size % 2:
        raise UserError(f"{file}: a polygon of {name} is no list of x, y, x, y ...; mend the file")
    return polygon.reshape(-1, 2)[:, ::-1]


def decoded(mask: dict[str, Any], size: Size, what: str) -> NDArray[np.bool_]:
    """Return a run-length mask, {"size": [H, W], "counts": [...] or compressed text}, as bool (H, W).

    Runs of background and cell follow each other along the columns. Raises UserError, beginning with `what`, unless
    they fill exactly the `size` of the image.
    """
    counts = mask.get("counts")
    if mask.get("size") != list(size):
        raise UserError(f"{what} has {mask.get('size')!r:.40} pixels, the image {list(size)}; mend the file")
    runs = decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise UserError(f"{what} has no valid run lengths; mend the file")
    if sum(runs) != size[0] * size[1]:
        raise UserError(f"{what} has runs of {sum(runs)} pixels, the image has {size[0] * size[1]}; mend the file")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[1], size[0]).T


def decompressed(text: str) -> list[int] | None:
    """Return the run lengths of COCO's compressed text, None if it is no such text.

    Each letter from "0" holds 5 bits, lowest first, and a sixth that says whether more follow; the highest of a number
    is its sign. From the fourth run on, the difference to the run before the last is written.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        digit = ord(letter) - 48
        if not 0 <= digit < 64 or shift > LONGEST:
            return None
        value |= (digit & 31) << shift
        shift += BITS
        if digit & 32:
            continue
        value -= (1 << shift) if digit & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs


COCO = Format("COCO JSON", lambda source: bool(_files(source)), _open)


class CocoFile:
    """A COCO file that is filled image by image; cells are numbered through, and `instance` is the id in the mask."""

    def __init__(self) -> None:
        self._images: list[str] = []
        self._cells: list[str] = []

    def add(self, image: str, labels: Labels) -> None:
        """Add an image by its file name, and its cells from labels (H, W).

        A cell without holes is polygons along the edges of pixels, which pycocotools fills with exactly its pixels;
        COCO's polygons have no holes, so a cell with some is run lengths.
        """
        height, width = labels.shape
        entry = {"id": len(self._images) + 1, "file_name": image, "height": height, "width": width}
        self._images.append(json.dumps(entry))
        for number, pieces in outlined(labels):
            corners = np.concatenate([piece.shell for piece in pieces])
            (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            cell = labels[top:bottom, left:right] == number
            holes = any(piece.holes for piece in pieces)
            annotation = {
                "id": len(self._cells) + 1,
                "image_id": entry["id"],
                "category_id": 1,
                "instance": number,
                "iscrowd": 0,
                "area": int(np.count_nonzero(cell)),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": encoded(Region(top, left, cell), (height, width)) if holes else _polygons(pieces),
            }
            self._cells.append(json.dumps(annotation))

    def content(self) -> bytes:
        """Return the bytes of the file."""
        images, cells = (",\n".join(entries) for entries in (self._images, self._cells))
        categories = json.dumps([{"id": 1, "name": "cell"}])
        return utf8(f'{{"images": [\n{images}\n],\n"annotations": [\n{cells}\n],\n"categories": {categories}}}\n')


def _polygons(pieces: list[Piece]) -> list[list[int]]:
    return [piece.shell[:, ::-1].ravel().tolist() for piece in pieces]


def encoded(region: Region, size: Size) -> dict[str, Any]:
    """Return a region of an image of a size (height, width) as a run-length mask, of which `decoded` is the inverse."""
    columns = np.zeros((region.mask.shape[1], size[0]), np.bool_)  # left and right of them is no cell
    columns[:, region.top : region.top + region.mask.shape[0]] = region.mask.T
    borders = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + region.left * size[0]
    return {"size": list(size), "counts": np.diff([0, *borders, size[0] * size[1]]).tolist()}
