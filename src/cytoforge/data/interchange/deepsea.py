"""DeepSea's folders: images/NAME.png, binary masks/NAME_cell_area_masked.png, and labels of the cells of a movie.

labels/NAME_cell_pos_labels.txt has a line with titles and then a line `label x y` per cell. A cell keeps its label from
frame to frame; the daughters of L are L_1 and L_2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.cells.labels import connected
from cytoforge.data.files import is_number
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    composed,
    read_picture,
    stem,
    subfolder,
    told,
)
from cytoforge.data.stack import natural
from cytoforge.data.tracks import Placed, linked, place
from cytoforge.errors import UserError
from cytoforge.tracking.lineage import divisions

MASK = "_cell_area_masked"
LABELS = "_cell_pos_labels.txt"
NEAR = 5  # px, greatest distance of a label beside a cell from the cell's centroid (DeepSea's own)


class Point(NamedTuple):
    """A label of a cell and where it stands, y and x in pixels with (0, 0) at the centre of the first."""

    label: str
    y: float
    x: float


@dataclass(frozen=True)
class Recording:
    """A folder of DeepSea whose cells have labels: the frames of a movie."""

    name: str
    """path below the folder that was given, "." for itself"""
    images: tuple[Path, ...]
    """all frames, in the order of time"""
    masks: Mapping[int, Path]
    """by number of the frame"""
    labels: Mapping[int, Path]
    """by number of the frame"""


def _folders(source: Source) -> list[Path]:
    masks = [image for image in source.images if image.parent.name == "masks" and stem(image.name).endswith(MASK)]
    return list(dict.fromkeys(mask.parent.parent for mask in masks))


def _paired(source: Source, folder: Path) -> tuple[list[tuple[Path, Path]], list[Path], list[Path]]:
    """Return the images of a folder with their masks, the images that have none, and the masks that have none."""
    masks = {stem(file.name).removesuffix(MASK): file for file in source.images_in(folder / "masks")}
    images = sorted(source.images_in(folder / "images"), key=lambda image: natural(stem(image.name)))
    pairs = [(image, masks.pop(stem(image.name))) for image in images if stem(image.name) in masks]
    return pairs, [image for image in images if image not in dict(pairs)], list(masks.values())


def _open(source: Source) -> Found:
    """Find the images with masks; labels, if there are any, are not looked at."""
    items, lone, lacking = [], [], []
    for folder in _folders(source):
        pairs, images, masks = _paired(source, folder)
        lone += [source.relative(image) for image in images]
        lacking += [source.relative(mask) for mask in masks]
        for image, mask in pairs:
            group = subfolder(source, image, "images")
            items.append(Annotated(source.relative(image.with_suffix("")), partial(_draw, mask), image, group))
    notes = [*told("image", lone, "without a mask, left out"), *told("mask", lacking, "without image, left out")]
    return Found(tuple(items), tuple(notes))


def _draw(mask: Path, size: Size | None) -> Drawn:
    labels = components(mask)
    agreed(mask, "this mask", (labels.shape[0], labels.shape[1]), size)
    return Drawn(labels, components=True)


def components(mask: Path) -> NDArray[np.int32]:
    """Number the regions of a binary mask, connected by sides, as labels (H, W); raises UserError as read_picture."""
    return connected(np.any(read_picture(mask), axis=0))


def recordings(source: Source) -> tuple[list[Recording], list[str]]:
    """Return the folders whose cells have labels, and what is left out of them; empty where no folder has labels.

    Raises UserError when some folders have labels and others none.
    """
    texts: dict[Path, dict[str, Path]] = {}
    for file in source.having(LABELS):
        if file.parent.name == "labels":
            name = composed(file.name)[: -len(LABELS)]
            texts.setdefault(file.parent.parent, {})[name] = file
    folders = _folders(source)
    found = [folder for folder in folders if folder in texts]
    if found and len(found) < len(folders):
        other = next(folder for folder in folders if folder not in texts)
        raise UserError(f"{other}: has no labels, {found[0].name} has some; import the two by themselves")
    result, notes = [], list[str]()
    for folder in found:
        pairs, images, masks = _paired(source, folder)
        own = texts[folder]
        frames = sorted([image for image, _ in pairs] + images, key=lambda image: natural(stem(image.name)))
        number = {image: k for k, image in enumerate(frames)}
        labels = {k: own.pop(stem(image.name)) for image, k in number.items() if stem(image.name) in own}
        result.append(
            Recording(source.relative(folder), tuple(frames), {number[image]: mask for image, mask in pairs}, labels)
        )
        notes += told("image", [source.relative(image) for image in images], "without a mask, left out")
        notes += told("mask", [source.relative(mask) for mask in masks], "without image, left out")
        notes += told("file of labels", [source.relative(text) for text in own.values()], "without image, left out")
    return result, notes


def tracked(recording: Recording) -> tuple[Placed, int]:
    """Give the components of each mask the labels that stand in them; return tracks, and the number of divisions.

    A label beside all cells belongs to the cell whose centroid is nearest, if it is less than NEAR away. A track with
    the label L_1 or L_2 descends from the track L. The rest is as `tracks.place`: a label on no cell, or on one that
    has a label, is left out and counted, and so are cells without a label.
    Raises UserError when a file of labels cannot be read or gives a label twice, and when no label lies on a cell.
    """
    frame: list[int] = []
    position: list[tuple[float, float]] = []
    links: list[tuple[int, int]] = []
    track: list[int] = []
    numbers: dict[str, int] = {}
    last: dict[str, int] = {}
    for number in sorted(recording.masks.keys() & recording.labels.keys()):
        points = read_points(recording.labels[number])
        cells = components(recording.masks[number])
        before = dict(last)
        for point, settled in zip(points, _settled(points, cells), strict=True):
            spot = len(frame)
            ancestor = point.label if point.label in before else point.label.rpartition("_")[0]
            if ancestor in before:
                links.append((before[ancestor], spot))
            last[point.label] = spot
            frame.append(number)
            position.append(settled)
            track.append(numbers.setdefault(point.label, len(numbers)))
    where = recording.images[0].parent.parent / "labels"
    spots = linked(
        where,
        np.array(frame, np.int64),
        np.array(position, np.float64).reshape(-1, 2),
        np.array(links, np.int64).reshape(-1, 2),
        np.array(track, np.int64),
    )
    placed = place(spots, _masks(recording), where)
    return placed, divisions(placed.tracks)


def _masks(recording: Recording) -> Iterator[tuple[int, NDArray[np.int32]]]:
    for number, mask in sorted(recording.masks.items()):
        yield number, components(mask)


def _settled(points: list[Point], cells: NDArray[np.int32]) -> Iterator[tuple[float, float]]:
    """Yield for each label a place in its cell, or its own place if it has none."""
    ids = np.arange(1, cells.max(initial=0) + 1)
    centroids = np.array(ndimage.center_of_mass(cells > 0, cells, ids)).reshape(-1, 2)
    for _, y, x in points:
        inside = np.clip((y, x), 0, np.array(cells.shape) - 1)
        row, column = np.floor(inside + 0.5).astype(int)
        if cells[row, column] == 0 and len(centroids):
            distance = np.hypot(*(centroids - (y, x)).T)
            if distance.min() < NEAR:
                row, column = np.argwhere(cells == ids[distance.argmin()])[0]
        yield float(row), float(column)


def _is_point(words: list[str]) -> bool:
    try:
        return len(words) > 2 and bool(np.isfinite([float(words[1]), float(words[2])]).all())
    except ValueError:
        return False


def read_points(path: Path) -> list[Point]:
    """Read a file of labels; raises UserError, naming the line, when it is damaged or gives a label twice."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore the file") from error
    points: dict[str, Point] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or (number == 1 and not _is_point(words)):  # the first line holds titles
            continue
        try:
            label, x, y = words[0], float(words[1]), float(words[2])
        except (ValueError, IndexError):
            raise UserError(f"{path}, line {number}: {line.strip()!r:.60} is not `label x y`; mend it") from None
        if not (is_number(x) and is_number(y)) or label in points:
            raise UserError(f"{path}, line {number}: {line.strip()!r:.60} is no place, or a label twice; mend it")
        points[label] = Point(label, y, x)
    return list(points.values())


DEEPSEA = Format("DeepSea", lambda source: bool(_folders(source)), _open)
