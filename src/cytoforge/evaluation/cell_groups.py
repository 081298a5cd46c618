"""Measured cells by group: a table of medians and spread, and figures with every image as a point."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.data.interchange.tables import feature_columns, in_words
from cytoforge.evaluation.measurement import SUMMARY, Measured, Measurement
from cytoforge.progress import counted
from cytoforge.report import INK, Report

Floats = NDArray[np.float64]
Group = tuple[str, ...]
"""Texts of the group columns of some images, in their order"""

IMAGE_MEASURES = ("cells_per_image", "coverage")
NO_MEASURES = ("label", "y", "x", "orientation", "at_edge")
"""Measures whose median says nothing of a group"""
SHOWN = {"diameter": "diameter", "eccentricity": "eccentricity", "density": "local density"}
"""Measures of cells that have a panel of their own, and its title"""
CHANNELS = 2  # greatest number of channels with a panel
GROUPS = 12  # greatest number of groups in a figure
POINTS = 300  # greatest number of cells drawn of a group


@dataclass(frozen=True)
class Values:
    """One measure of one group."""

    cells: Floats
    """of every cell, or of every image where images have the measure; nan is left out"""
    images: Floats
    """median of each image that has any"""


def by_group(measurement: Measurement) -> dict[Group, list[Measured]]:
    """Return the images of each group, in the order of the groups' texts."""
    found: dict[Group, list[Measured]] = {}
    for one in measurement.images:
        found.setdefault(tuple(one.groups.values()), []).append(one)
    return dict(sorted(found.items()))


def values(images: Sequence[Measured], measure: str) -> Values:
    """Return a measure, by its column in tables or a name of IMAGE_MEASURES, of some images."""
    if measure in IMAGE_MEASURES:
        every = [len(one.cells["label"]) if measure == "cells_per_image" else one.coverage for one in images]
        return Values(np.array(every, np.float64), np.array(every, np.float64))
    parts = [np.asarray(one.columns[measure], np.float64) for one in images]
    parts = [part[np.isfinite(part)] for part in parts]
    medians = [float(np.median(part)) for part in parts if part.size]
    return Values(np.concatenate([*parts, np.empty(0)]), np.array(medians, np.float64))


def measures(measurement: Measurement) -> list[str]:
    """Return the names of all measures of a summary."""
    first = measurement.images[0]
    columns = feature_columns(first.cells, first.calibration)
    return [*IMAGE_MEASURES, *(column for name, (column, _) in columns.items() if name not in NO_MEASURES)]


def summary(measurement: Measurement) -> Iterator[dict[str, str | int | float]]:
    """Yield a row for each group and measure: the group's texts, the name of the measure, and SUMMARY.

    Quartiles, mean and sd are over all cells of a group; `sd_of_image_medians` tells how far its images differ. Of the
    measures of whole images the cells are the images. Undefined numbers are nan.
    """
    groups, names = by_group(measurement), measures(measurement)
    for images in groups.values():
        for name in names:
            found = values(images, name)
            low, median, high = (
                float(np.quantile(found.cells, share)) if found.cells.size else np.nan for share in (0.25, 0.5, 0.75)
            )
            numbers = (
                len(images),
                found.cells.size,
                float(found.cells.mean()) if found.cells.size else np.nan,
                float(found.cells.std(ddof=1)) if found.cells.size > 1 else np.nan,
                *(low, median, high),
                float(found.images.std(ddof=1)) if found.images.size > 1 else np.nan,
            )
            yield {**images[0].groups, "measure": name, **dict(zip(SUMMARY, numbers, strict=True))}


def figure(measurement: Measurement, generator: np.random.Generator) -> Figure:
    """Chart a few measures by group: every image as a point, cells behind them, and the median of the cells as a bar.

    `generator` scatters the points sideways, and draws POINTS cells where a group has more.
    """
    groups = dict(list(by_group(measurement).items())[:GROUPS])
    panels = _panels(measurement)
    across = min(len(panels), 3)
    width = max(3.6, 1.1 + 0.85 * len(groups))
    chart = Figure(figsize=(width * across, 3.5 * -(-len(panels) // across)), layout="constrained")
    axes = chart.subplots(-(-len(panels) // across), across, squeeze=False).ravel()
    for place, (measure, title) in zip(axes, panels.items(), strict=False):
        _draw(place, title, groups, measure, generator)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    axes[0].set_ylim(bottom=0)
    chart.supxlabel(
        "blue: images (medians of their cells); grey: cells; bars: medians of a group", fontsize=8, color=INK
    )
    return chart


def _panels(measurement: Measurement) -> dict[str, str]:
    """Return the measures that are charted, and their titles."""
    first = measurement.images[0]
    columns = {name: column for name, (column, _) in feature_columns(first.cells, first.calibration).items()}
    found = {"cells_per_image": "cells an image"}
    for name, title in SHOWN.items():
        found[columns[name]] = title + _unit(columns[name])
    for channel in range(1, 1 + CHANNELS):
        if (name := f"corrected_{channel}") in columns:
            names = measurement.channels
            called = names[channel - 1] if len(names) >= channel and names[channel - 1] else f"channel {channel}"
            found[columns[name]] = f"mean less background, {called}"
    return found


def _unit(column: str) -> str:
    unit = in_words(column)[1]
    return f" ({unit})" if unit else ""


def _draw(
    axes: Axes, title: str, groups: Mapping[Group, Sequence[Measured]], measure: str, generator: np.random.Generator
) -> None:
    labels = []
    for place, (group, images) in enumerate(groups.items()):
        found = values(images, measure)
        whole = measure in IMAGE_MEASURES
        if not whole:
            cells = found.cells
            drawn = cells if cells.size <= POINTS else generator.choice(cells, POINTS, replace=False)
            aside = place + generator.uniform(-0.32, 0.32, drawn.size)
            axes.plot(aside, drawn, ".", color="#8f9aa3", alpha=0.6, markersize=4, markeredgewidth=0, zorder=1)
        aside = place + generator.uniform(-0.15, 0.15, found.images.size)
        axes.plot(aside, found.images, "o", color="#1f6fb5", markersize=6, markeredgecolor="white", zorder=3)
        if found.cells.size:
            axes.hlines(
                float(np.median(found.cells)), place - 0.36, place + 0.36, color="#d95f02", linewidth=2, zorder=2
            )
        count = "" if whole else f"\n{counted(found.cells.size, 'cell')}"
        labels.append(f"{' '.join(filter(None, group)) or 'all'}\n{counted(len(images), 'image')}{count}")
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xticks(range(len(labels)), labels, fontsize=8, color=INK)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", colors=INK, labelsize=9)
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.7)


def png(chart: Figure) -> bytes:
    """Return a chart as the bytes of a PNG."""
    content = io.BytesIO()
    chart.savefig(content, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return content.getvalue()


def page(measurement: Measurement, chart: Figure, table: str) -> Report:
    """Return the page of a measurement: the chart, medians by group, and what the numbers mean."""
    groups = by_group(measurement)
    length = "micrometers" if measurement.unit == "um" else "pixels"
    report = Report("Measured cells", f"{table}: a row for each cell")
    told = f"{counted(measurement.count, 'cell')} in {counted(len(measurement.images), 'image')}"
    report.verdict(
        told + (f" of {counted(len(groups), 'group')}" if len(groups) > 1 else "") + f"; lengths in {length}."
    )
    caption = (
        "Blue points are images (the median of their cells), grey points cells, and bars the median of all cells of a "
        "group; of cells an image, points are the numbers of images, and bars the medians of these. Images are "
        "independent of each other; the cells of one image are not, so compare groups by their images."
    )
    if len(groups) > GROUPS:
        caption += f" The first {GROUPS} of {len(groups)} groups are shown."
    report.figure(chart, caption)
    panels = _panels(measurement)
    header = [*measurement.images[0].groups, "images", "cells", *panels.values()]
    rows: list[list[str | int]] = []
    for group, images in groups.items():
        medians = [_spread(values(images, name).cells) for name in panels]
        rows.append([*group, len(images), sum(len(one.cells["label"]) for one in images), *medians])
    report.table(header, rows, caption="Medians, and quartiles in brackets.")
    report.text(
        f"Neighbours are counted, and the local density is taken, within {measurement.radius:g} {length} of the middle "
        "of a cell. Background is the median of all pixels of an image outside of cells. Cells at the edge of an image "
        "(at_edge) are cut; leave them out where size and shape matter."
    )
    if measurement.channels:
        named = ", ".join(f"{number} {name}" for number, name in enumerate(measurement.channels, 1))
        report.text(f"Channels: {named}.")
    for note in measurement.notes:
        report.text(note)
    return report


def _spread(cells: Floats) -> str:
    if not cells.size:
        return "–"
    low, median, high = np.quantile(cells, (0.25, 0.5, 0.75))
    short, lowest, highest = (f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}" for x in (median, low, high))
    return f"{short} [{lowest} to {highest}]".replace("-", "−")
