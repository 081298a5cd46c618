"""Which parts of unlabelled images to label next, as a dataset: crops with the segmenter's own cells to correct."""

import csv
import hashlib
import io
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.instances import relabel
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import digest, is_too_long, read_json, utf8
from cytoforge.data.interchange.tables import harmless
from cytoforge.data.tracks import calibration_of
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.inference.segment import fitted
from cytoforge.inference.segment_work import image_of, limits_of
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.turns import TurnDisagreement
from cytoforge.progress import Progress
from cytoforge.report import PAGE, Pixels, Report, overlay, to_rgb

BY = "cytoforge suggest"
TABLE = "suggestions.csv"
RECORD = "suggest.json"  # the windows of every image, so that interrupted work need not look at images again
CELLS = 25  # that a crop should hold
LEAST = 5  # cells: a crop with fewer counts as if cells without disagreement made up the rest
EMPTY = 256  # px, side of a crop where no cell is found
SIDES = (6, 16)  # least and greatest side of a crop in median diameters of the cells
STEPS = 8  # places of a window per side: a window begins at multiples of an eighth of its side
SHOWN = 10  # crops in the report


@dataclass(frozen=True)
class Window:
    """A part of an image: its top left pixel and size, and what the segmenter's turns say about it."""

    y: int
    x: int
    height: int
    width: int
    disagreement: float
    """mean over its cells, in [0, 1], or over LEAST where they are fewer"""
    cells: int
    """found in it"""


@dataclass(frozen=True)
class Suggestion:
    """A window of an image to label."""

    item: Item
    window: Window

    @property
    def name(self) -> str:
        """Name of the crop, which no other crop has."""
        return f"{self.item.name}-y{self.window.y}-x{self.window.x}"


@dataclass(frozen=True)
class Suggested:
    """The crops in the order of their ranks, how many were written before, and how many images were looked at."""

    suggestions: tuple[Suggestion, ...]
    kept: int
    images: int


def suggest_crops(
    segmenter: Segmenter, images: Dataset, out: Path, *, count: int = 10, overwrite: bool = False
) -> Suggested:
    """Write the dataset OUT: `count` crops of images without a mask, those that a label would teach most first.

    OUT/images has crops with the grey values of the files, OUT/masks the cells that the segmenter finds there, to be
    corrected, OUT/suggestions.csv their places and OUT/report.html their pictures. Interrupted work goes on, and a mask
    that was corrected meanwhile stays. Raises UserError when no image lacks a mask, images do not suit the segmenter,
    or OUT holds anything but an unfinished result of the same work.
    """
    items = _unlabelled(images)
    images = replace(images, items=tuple(items)).alike(segmenter.fixed_channels)
    segmenter = fitted(segmenter, images)
    suffix = ".png" if all(image_of(item).suffix.lower() == ".png" for item in items) else ".tif"
    info = _info(segmenter, images, items, count)
    writer = DatasetWriter(out, info, overwrite=overwrite, corrected=True, suffix=suffix, beside=(TABLE, RECORD, PAGE))
    windows = _all_windows(segmenter, images, items, count, writer)
    chosen = tuple(in_turn({item: windows[item.name] for item in items}, count))
    pictures = _write_crops(segmenter, images, chosen, writer)
    writer.folder.write(TABLE, _table(chosen))
    _report(chosen, pictures, segmenter.run).write(writer.folder)
    writer.finish({"groups": {suggestion.name: suggestion.item.name for suggestion in chosen}})
    kept = len({suggestion.name for suggestion in chosen} & writer.done)
    return Suggested(chosen, kept, len(items))


def windows_of(found: TurnDisagreement, shape: tuple[int, int], count: int) -> list[Window]:
    """Choose up to `count` windows of an image of size (H, W) that do not overlap, most disagreement first.

    All are of one size, of some CELLS cells where these lie as close as in the image on average. An image without any
    disagreement has one.
    """
    if not found.cells:
        side = float(EMPTY)
    else:
        diameter = float(np.median(found.diameter[found.own]))
        wanted = math.sqrt(CELLS / found.cells * shape[0] * shape[1])
        side = min(max(wanted, SIDES[0] * diameter), SIDES[1] * diameter)
    size = min(math.ceil(side), shape[0]), min(math.ceil(side), shape[1])
    parts = [max(min(STEPS * n // s, n), STEPS) for n, s in zip(shape, size, strict=True)]
    bounds = [(0, n) for n in shape]
    weight, doubt = (
        _sums(np.histogram2d(found.y + 0.5, found.x + 0.5, parts, bounds, weights=values)[0])
        for values in (found.weight, found.weight * found.disagreement)
    )
    score = doubt / np.maximum(weight, LEAST)
    chosen: list[Window] = []
    while len(chosen) < count and (score.max() > 0 or not chosen):
        row, column = np.unravel_index(score.argmax(), score.shape)
        corner = int(row * shape[0] // parts[0]), int(column * shape[1] // parts[1])
        chosen.append(_window(found, corner, size))
        score[max(row - STEPS + 1, 0) : row + STEPS, max(column - STEPS + 1, 0) : column + STEPS] = 0
    return sorted(chosen, key=lambda window: -window.disagreement)


def in_turn(windows: Mapping[Item, Sequence[Window]], count: int) -> list[Suggestion]:
    """Choose up to `count` windows: first the best one of each image, then the second ones, and so on.

    Windows of one image are doubted for the same reason more often than those of two.
    """
    rounds = [
        sorted(
            (Suggestion(item, own[place]) for item, own in windows.items() if place < len(own)),
            key=lambda suggestion: -suggestion.window.disagreement,
        )
        for place in range(max(map(len, windows.values()), default=0))
    ]
    return [suggestion for suggestions in rounds for suggestion in suggestions][:count]


def _sums(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over each square of STEPS x STEPS bins."""
    squares: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(bins, (STEPS, STEPS)).sum(axis=(2, 3))
    return squares


def _window(found: TurnDisagreement, corner: tuple[int, int], size: tuple[int, int]) -> Window:
    inside = np.ones(len(found.y), bool)
    for place, start, length in zip((found.y, found.x), corner, size, strict=True):
        inside &= (place + 0.5 >= start) & (place + 0.5 < start + length)
    weight = found.weight[inside]
    disagreement = (weight * found.disagreement[inside]).sum() / max(weight.sum(), LEAST)
    return Window(*corner, *size, round(float(disagreement), 4), int(found.own[inside].sum()))


def _unlabelled(images: Dataset) -> list[Item]:
    items = [item for item in images.images().items if item.mask is None]
    if not items:
        raise UserError(f"{images.path}: all images have masks already; give images that are not labelled yet")
    if long := next((item for item in items if is_too_long(f"{item.name}-y999999-x999999.png")), None):
        raise UserError(f"{long.image}: its name is too long to add the place of a crop to it; shorten it")
    return items


def _info(segmenter: Segmenter, images: Dataset, items: Sequence[Item], count: int) -> dict[str, Any]:
    """Return what dataset.json says of the crops; equal for equal work."""
    listing = "".join(f"{item.name} {digest(image_of(item))}\n" for item in items)
    return {
        "by": BY,
        "version": version("cytoforge"),
        "run": segmenter.run.resolve().name,
        "fingerprint": segmenter.fingerprint,
        "count": count,
        **images.view.told,
        "source_images": hashlib.sha256(utf8(listing)).hexdigest(),
        **{key: images.info[key] for key in ("limits", "scale") if key in images.info},
        **calibration_of(images.path, images.info, [image_of(item) for item in items]).info,
    }


def _all_windows(
    segmenter: Segmenter, images: Dataset, items: Sequence[Item], count: int, writer: DatasetWriter
) -> dict[str, list[Window]]:
    """Return the windows of each image by its name, and list them in RECORD, image by image."""
    known = read_json(writer.path / RECORD)["images"] if writer.folder.owns(RECORD) else {}
    progress = Progress("suggest")
    for position, item in enumerate(items, 1):
        if item.name not in known:
            with images.reader(item) as reader:
                segmenter.check_channels(image_of(item), reader.shape[0])
                found = segmenter.disagreement_rows(reader, limits_of(segmenter, images, reader))
                windows = windows_of(found, (reader.shape[1], reader.shape[2]), count)
            known[item.name] = {
                "disagreement": round(found.mean, 4),
                "cells": found.cells,
                "windows": [asdict(window) for window in windows],
            }
            writer.folder.write_json(RECORD, {"images": known})
        progress(position / len(items), item.name)
    return {name: [Window(**window) for window in entry["windows"]] for name, entry in known.items()}


def _write_crops(
    segmenter: Segmenter, images: Dataset, chosen: Sequence[Suggestion], writer: DatasetWriter
) -> dict[str, list[Pixels]]:
    """Write crops that are not there yet, and return pictures by name: each crop, and with its cells outlined."""
    pictures: dict[str, list[Pixels]] = {}
    for item in dict.fromkeys(suggestion.item for suggestion in chosen):
        with images.reader(item) as reader, tempfile.TemporaryDirectory(prefix="cytoforge-") as folder:
            limits = limits_of(segmenter, images, reader)
            labels, _ = segmenter.segment_rows(reader, limits, Path(folder))
            with labels:
                for suggestion in (other for other in chosen if other.item == item):
                    window = suggestion.window
                    rows, columns = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
                    image = np.ascontiguousarray(reader.rows(rows.start, rows.stop, (columns.start, columns.stop)))
                    cells = relabel(labels.rows(rows.start, rows.stop)[:, columns])
                    if suggestion.name not in writer.done:
                        writer.add(suggestion.name, image, cells)
                    shown = segmenter.normalisation.apply(image, limits)
                    pictures[suggestion.name] = [to_rgb(shown), overlay(shown, cells)]
    return pictures


def _rows(chosen: Iterable[Suggestion]) -> Iterator[dict[str, Any]]:
    for rank, suggestion in enumerate(chosen, 1):
        yield {"rank": rank, "name": suggestion.name, "image": suggestion.item.name, **asdict(suggestion.window)}


def _table(chosen: Sequence[Suggestion]) -> bytes:
    rows, text = list(_rows(chosen)), io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(
        {key: harmless(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows
    )
    return utf8(text.getvalue())


def _report(chosen: Sequence[Suggestion], pictures: Mapping[str, list[Pixels]], run: Path) -> Report:
    report = Report(f"What to label next for {run.resolve().name}")
    report.verdict(
        "Correct the cells of these crops in masks/, the first ones first, then train on them together with what is "
        "labelled already."
    )
    rows = list(_rows(chosen))
    report.table(list(rows[0]), [list(row.values()) for row in rows], caption="Crops in the order of their ranks.")
    first = rows[:SHOWN]
    report.image_grid(
        [pictures[row["name"]] for row in first],
        ["Crop", "Cells that the segmenter finds"],
        [f"{row['rank']}: {row['name']}, disagreement {row['disagreement']:.2f}" for row in first],
        "Outlined are the cells of masks/, which are proposals and no annotations yet.",
    )
    return report
