"""Whole folders of images and masks measured: which belong together, in which units, and in which groups."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import channels_first, label_array
from cytoforge.data.interchange.tables import feature_columns
from cytoforge.data.metadata import stated
from cytoforge.data.movie import some
from cytoforge.data.pairing import paired
from cytoforge.data.tracks import Calibration, calibration_of
from cytoforge.errors import UserError
from cytoforge.metrics.cells import Cells
from cytoforge.metrics.morphology import median_diameter
from cytoforge.metrics.stills import REACH, measure_still
from cytoforge.progress import Progress, counted

IMAGE = "image"
"""Column of the names of the images"""
SUMMARY = ("images", "cells", "mean", "sd", "low_quartile", "median", "high_quartile", "sd_of_image_medians")
"""Columns of the summary, after those of the groups and the name of the measure"""
LONGEST = 2.0  # seconds that a regular expression may take for a name


@dataclass(frozen=True)
class Measured:
    """The cells of one image, in pixels and grey values."""

    name: str
    groups: dict[str, str]
    """texts by column, from the name of the image"""
    cells: Cells
    shape: tuple[int, int]
    """height and width of the image"""
    coverage: float
    """share of the pixels that belong to cells"""
    calibration: Calibration
    """size of a pixel, where it is known of all images that are measured together"""

    @cached_property
    def columns(self) -> Cells:
        """The measures by the names that they have in tables, in the units of these."""
        return in_units(self.cells, self.calibration)


@dataclass(frozen=True)
class Measurement:
    """All images that were measured together."""

    images: tuple[Measured, ...]
    radius: float
    """how far neighbours are, in `unit`"""
    unit: str
    """of lengths: um or px"""
    channels: tuple[str, ...]
    """names of the channels, as far as the files state them"""
    notes: tuple[str, ...]
    """what the user should know, a sentence each"""

    @property
    def count(self) -> int:
        """Number of cells."""
        return sum(len(one.cells["label"]) for one in self.images)


def measure(
    image: NDArray[Any] | None,
    labels: NDArray[Any],
    *,
    axes: str | None = None,
    pixel_size: float | None = None,
    radius: float | None = None,
) -> Cells:
    """Measure the cells of an image: arrays (N,) by the names of the columns that `cytoforge measure` writes.

    `image` is (H, W), (H, W, C) or (C, H, W), as `axes` says (such as YXC), or None for size, shape and neighbours
    alone; `labels` (H, W), 0 for background and a number for each cell. `pixel_size` is in micrometers; lengths are in
    pixels without it. `radius`, in the same unit, is how far neighbours are; five median diameters without it. The
    result is ready for `pandas.DataFrame`. Raises UserError where image and labels do not belong together, and for
    numbers that are not from 1e-6 to 1e6.
    """
    for name, value in (("pixel_size", pixel_size), ("radius", radius)):
        if value is not None and not 1e-6 <= value <= 1e6:
            raise UserError(f"{name}={value!r}: takes a number from 1e-6 to 1e6 or none")
    cells = label_array(labels)
    pixels = None if image is None else channels_first(np.asarray(image), axes, size=cells.shape)
    calibration = Calibration(pixel_size)
    return in_units(
        measure_still(cells, pixels, None if radius is None else radius / calibration.length[0]), calibration
    )


def in_units(cells: Cells, calibration: Calibration) -> Cells:
    """Return the measures of cells by the names of their columns, in the units that these state."""
    columns = feature_columns(cells, calibration)
    return {column: cells[name] if by == 1 else cells[name] * by for name, (column, by) in columns.items()}


def open_stills(images: Dataset, masks: Dataset) -> Dataset:
    """Return images with their masks, found by name; a single image and a single mask belong together anyway.

    Raises UserError when none belong together, or masks do not number the cells.
    """
    if len(images.items) == len(masks.items) == 1 and images.path.is_file() and masks.path.is_file():
        items = [replace(images.items[0], mask=masks.items[0].mask)]
    else:
        items = list(_paired(images, masks))
    both = [item for item in items if item.image and item.mask]
    if not both:
        one, other = images.items[0].name, masks.items[0].name
        raise UserError(
            f"{masks.path}: no mask has the name of an image of {images.path} ({other} against {one}); rename the "
            "masks like their images"
        )
    notes = [
        f"{data.path}: {counted(len(data.items) - len(both), kind)} without {lacking}, left out"
        for data, kind, lacking in ((images, "image", "mask"), (masks, "mask", "image"))
        if len(data.items) > len(both)
    ]
    dataset = replace(images, items=tuple(both), notes=(*images.left_out, *masks.left_out, *notes)).alike()
    dataset.channels()
    dataset.check_labels()
    return dataset


def _paired(images: Dataset, masks: Dataset) -> Iterator[Item]:
    known = {item.name: item for item in images.items}
    found = {item.name: item.mask for item in masks.items if item.mask}
    files = {name: item.image for name, item in known.items() if item.image}
    for item in paired(files, found):
        yield replace(known[item.name], mask=item.mask) if item.name in known else item


def measure_stills(
    dataset: Dataset, pixel_size: float | None = None, groups: str | None = None, radius: float | None = None
) -> Measurement:
    """Measure the cells of all images of a dataset with masks.

    `pixel_size` is in micrometers; without it each image has that of dataset.json, else that which it states, and
    all lengths are in pixels unless it is known of all. `groups` is a regular expression with named groups, which is
    looked for in the name of each image. `radius` is in the unit of the result. Raises UserError for names without a
    match, columns that occur twice, and as reading does.
    """
    texts = _groups(dataset, groups)
    sizes = [calibration_of(dataset.path, dataset.info, _file(item), pixel_size).pixel_size for item in dataset.items]
    known, notes = all(size is not None for size in sizes), list(dataset.notes)
    if not known and any(sizes):
        which = counted(sum(size is None for size in sizes), "image")
        notes.append(f"{dataset.path}: {which} state no pixel size, so lengths are in pixels; give --pixel-size")
    calibrations = [Calibration(size if known else None) for size in sizes]
    if radius is None:
        radius = _usual_radius(dataset, calibrations)
    measured, progress = [], Progress("measure")
    for done, (item, text, calibration) in enumerate(zip(dataset.items, texts, calibrations, strict=True), 1):
        labels = dataset.read_labels(item)
        cells = measure_still(labels, dataset.pixels(item), radius / calibration.length[0])
        if taken := [name for name in text if name in (IMAGE, "measure", *SUMMARY, *in_units(cells, calibration))]:
            raise UserError(f"--groups: {taken[0]} is a column already; give the group another name")
        shape = (labels.shape[0], labels.shape[1])
        covered = np.count_nonzero(labels) / labels.size
        measured.append(Measured(item.name, text, cells, shape, covered, calibration))
        progress(done / len(dataset.items), item.name)
    names = dataset.view.channels or stated(file for item in dataset.items for file in _file(item)).channels
    return Measurement(tuple(measured), radius, calibrations[0].length[1], names, tuple(notes))


def _file(item: Item) -> Sequence[Path]:
    return [item.image] if item.image else []


def _groups(dataset: Dataset, pattern: str | None) -> list[dict[str, str]]:
    """Return the group columns of each image: named groups found in its name, else its group in dataset.json."""
    if pattern is None:
        grouped = any(item.group is not None for item in dataset.items)
        return [{"group": item.group or ""} if grouped else {} for item in dataset.items]
    matches = []
    for item in dataset.items:
        with _limited(pattern, item.name):
            matches.append(re.search(pattern, item.name))
    if lacking := [item.name for item, match in zip(dataset.items, matches, strict=True) if match is None]:
        raise UserError(
            f"{dataset.path}: {some('image', lacking)} without a match for --groups {pattern} in the name; change it"
        )
    return [{name: text or "" for name, text in match.groupdict().items()} for match in matches if match]


@contextlib.contextmanager
def _limited(pattern: str, name: str) -> Iterator[None]:
    """Raise UserError after LONGEST seconds, where the system has a timer and this is the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise UserError(f"--groups {pattern}: takes too long on {name}; repeat no group that itself repeats")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _usual_radius(dataset: Dataset, calibrations: Sequence[Calibration]) -> float:
    """Return REACH median diameters of all cells, in the unit of the calibrations; REACH of these without cells."""
    areas = []
    for item, calibration in zip(dataset.items, calibrations, strict=True):
        ids, sizes = np.unique(dataset.read_labels(item), return_counts=True)
        areas.append(sizes[ids > 0] * calibration.length[0] ** 2)
    every = np.concatenate(areas)
    return float(f"{REACH * median_diameter(every):.3g}") if every.size else REACH
