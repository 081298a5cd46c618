"""Simulate label images of cells that resemble the user's own, and compare the two."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytoforge.cells.labels import dense
from cytoforge.data.credits import credits_of, stored
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import resize_labels, scaled_shape
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.data.writer import DatasetWriter, check_target
from cytoforge.engine import ALONE, Announce, Engine, Seat
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import FITTING_DIAMETER, PER_CELL, Morphology, distances, morphology, pooled, summary
from cytoforge.progress import Progress, counted
from cytoforge.report import PAGE, Pixels, Report, colour_labels
from cytoforge.simulated.specification import MaskSimulation, Simulation
from cytoforge.simulation.masks import MODEL_DIAMETER, Shape, lacks, parametric_shapes, shapes_of, simulate_labels

BY = "cytoforge simulate masks"
STATISTICS = "statistics.json"
FORMAT = 1  # of statistics.json
FEWEST = 10  # whole cells of an image; with fewer, cells of the next images are used too
SIZE, DENSITY, TOUCHING = (256, 256), 0.2, 0.5  # without data
REPORTED_MASKS, WINDOW = 4, 384  # masks in the report, and the longest side shown of them
TITLES = {
    "area": "area of a cell (px)",
    "eccentricity": "eccentricity of a cell",
    "neighbour_distance": "distance to the nearest cell (px)",
    "count": "cells an image",
    "coverage": "coverage of an image",
    "touching": "share of cells that touch",
}


@dataclass(frozen=True)
class Model:
    """Properties that one simulated mask reproduces.

    `size` is (height, width) in pixels; `touching` is a share of the cells.
    """

    name: str | None
    """name of the annotated mask or sequence; None without data"""
    shapes: tuple[Shape, ...]
    magnification: float
    """ratio of simulated lengths to lengths in the shapes"""
    size: tuple[int, int]
    density: float
    touching: float


class Annotated:
    """The masks of --like: their cells' shapes at full resolution, and their measures at --scale."""

    def __init__(self, path: Path, sequences: tuple[str, ...], scale: float) -> None:
        """Raises UserError when there are no masks, no cells in them, or cells do not have an id each."""
        found = Dataset.open(path, sequences, holds="masks").masks()
        # an item without its image represents the mask alone, for reading and for the fingerprint
        self.dataset = replace(found, items=tuple(replace(item, image=None) for item in found.items))
        self.dataset.check_labels()
        self.scale = scale
        measures: list[Morphology] = []
        self.sizes: list[tuple[int, int]] = []
        progress = Progress("measure")
        for number, item in enumerate(self.dataset.items, 1):
            labels = self.labels(number - 1)
            measures.append(morphology(labels))
            self.sizes.append(labels.shape)
            progress(number / len(self.dataset.items), item.name)
        self.measures = tuple(measures)
        self.populated = [number for number, measure in enumerate(measures) if measure.count]
        if not self.populated:
            raise UserError(f"{path}: the masks hold no cells; annotate some, or leave out --like")
        self._read: dict[int, tuple[Shape, ...]] = {}  # shapes, by mask

    def labels(self, number: int) -> NDArray[Any]:
        """Read mask `number`, from 0, and resize it by the scale: (H, W)."""
        labels = self.dataset.read_labels(self.dataset.items[number])
        return resize_labels(labels, scaled_shape(labels.shape, self.scale))

    def shapes(self, number: int) -> tuple[Shape, ...]:
        """Return the shapes of mask `number`, from 0, at full resolution, which are read once."""
        if number not in self._read:
            self._read[number] = shapes_of(self.dataset.read_labels(self.dataset.items[number]))
        return self._read[number]

    def model(self, generator: np.random.Generator) -> Model:
        """Draw an annotated mask as a model, with the shapes of at least FEWEST cells if there are so many.

        Raises UserError when no cell of any mask has a usable shape.
        """
        place = int(generator.integers(len(self.populated)))
        shapes: tuple[Shape, ...] = ()
        for number in self.populated[place:] + self.populated[:place]:
            shapes += self.shapes(number)
            if len(shapes) >= FEWEST:
                break
        if not shapes:
            raise UserError(
                f"{self.dataset.path}: every cell is cut by the edge of its image, or tiny; give larger images"
            )
        number = self.populated[place]
        measure = self.measures[number]
        name = self.dataset.items[number].name
        return Model(name, shapes, self.scale, self.sizes[number], measure.coverage, measure.touching)


def _parametric(diameter: float, generator: np.random.Generator) -> Model:
    shapes = parametric_shapes(generator)
    return Model(None, shapes, diameter / MODEL_DIAMETER, SIZE, DENSITY, TOUCHING)


def simulate_masks(wanted: MaskSimulation, engine: Engine = ALONE) -> list[str]:
    """Write OUT/masks, OUT/dataset.json, OUT/statistics.json and OUT/report.html; return summary lines.

    An interrupted run is continued. `engine` says which part of the masks is made, and where; the last part writes
    statistics and report. Raises UserError when --like holds no cells with a usable shape, or OUT lies in
    --like or holds anything that an unfinished run of the same command has not written.
    """
    keep_apart(wanted)
    check_target(wanted.out, BY, overwrite=wanted.overwrite)  # before much is read
    data = Annotated(wanted.like, wanted.sequence, wanted.scale) if wanted.like else None
    source = data.dataset.fingerprint() if data else None
    info = {"by": BY, "version": version("cytoforge"), "settings": settings_of(wanted)}
    content = {"synthetic": {**info, "source": source}, "scale": wanted.scale}
    content |= stored(credits_of(wanted.like) if wanted.like else [])
    names = [mask_name(index) for index in range(wanted.count)]
    notes = list(data.dataset.notes) if data else []
    with at_work(wanted.out, engine.part):
        with in_turn(wanted.out):
            writer = DatasetWriter(
                wanted.out,
                content,
                overwrite=wanted.overwrite,
                names=names,
                parts=("masks",),
                beside=(STATISTICS, PAGE),
            )
        work = Simulate(wanted, data, writer)
        every = dict(engine.run(work, engine.share(range(wanted.count)), "simulate", mask_name))
        with in_turn(wanted.out):
            missing = {*names} - writer.made(("masks",))
            if missing:
                made = counted(wanted.count - len(missing), "mask")
                return [f"{wanted.out / 'masks'}: {made}; {len(missing)} of other parts still to come"]
            others = [index for index in range(wanted.count) if index not in every]
            every |= engine.run(work, others, "measure", mask_name)
            measures: list[Morphology] = []
            files: dict[str, dict[str, Any]] = {}
            for index, name in enumerate(names):
                measure, model, density = every[index]
                measures.append(measure)
                files[name] = {"seed": [wanted.seed, index], "model": model, "density": density}
                files[name] |= {"cells": measure.count, "coverage": measure.coverage}
                if lacks(density, measure.count, measure.coverage):
                    notes.append(f"{name}: no more room; {_reached(density, measure.count, measure.coverage)}")
            real = list(data.measures) if data else []
            writer.folder.write_json(STATISTICS, _statistics(wanted, measures, real))
            _write_report(writer, wanted, data, measures, files, notes)
            writer.finish({"files": files})
    cells = sum(measure.count for measure in measures)
    return [*notes, f"{wanted.out / 'masks'}: {counted(wanted.count, 'mask')} with {counted(cells, 'cell')}"]


class Simulated(NamedTuple):
    """A mask that was simulated: its measures, the name of its model, and the density that was wanted."""

    measures: Morphology
    model: str | None
    density: float


@dataclass(frozen=True)
class Simulate:
    """Simulates a mask, unless it is there, and measures it."""

    wanted: MaskSimulation
    data: Annotated | None
    writer: DatasetWriter

    def start(self, seat: Seat) -> Callable[[int, Announce], Simulated]:
        """Return the function that makes and measures mask number k, from 0."""
        writer = self.writer.seated(seat.writer)

        def simulate(index: int, announce: Announce) -> Simulated:
            model, generator = _plan(self.wanted, self.data, index)
            name = mask_name(index)
            if not (writer.path / "masks" / f"{name}.png").exists():
                writer.add(name, labels=_simulated(self.wanted, model, generator))
            return Simulated(morphology(_written(writer.path, name)), model.name, model.density)

        return simulate


def mask_name(index: int) -> str:
    """Return the name of a simulated mask."""
    return f"simulated{index:04d}"


def keep_apart(wanted: Simulation) -> None:
    """Raise UserError when OUT lies in the folder of --like."""
    if wanted.like is not None and wanted.out.resolve().is_relative_to(wanted.like.resolve()):
        raise UserError(f"{wanted.out}: lies in {wanted.like}, which --like takes as a model; give another --out")


def settings_of(wanted: Simulation) -> dict[str, Any]:
    """Return the settings by name, without those that do not change the result (`out` and `overwrite`)."""
    settings = asdict(wanted)
    for loose in ("out", "overwrite"):
        settings.pop(loose)
    return settings | {"like": None if wanted.like is None else str(wanted.like)}


def _plan(wanted: MaskSimulation, data: Annotated | None, index: int) -> tuple[Model, np.random.Generator]:
    """Return the model of mask `index`, with size and density of the command line if given, and its generator."""
    generator = np.random.default_rng([wanted.seed, index])
    model = data.model(generator) if data else _parametric(wanted.diameter or FITTING_DIAMETER, generator)
    height, width = map(int, wanted.size.split("x")) if wanted.size else model.size
    touching = model.touching if wanted.touching is None else wanted.touching
    density = wanted.density or model.density
    return replace(model, size=(height, width), density=density, touching=touching), generator


def simulated_mask(wanted: MaskSimulation, data: Annotated | None, index: int) -> NDArray[np.int32]:
    """Return mask `index` of a simulation, (H, W), 0 background and cells 1..N, as `simulate_masks` writes it."""
    return _simulated(wanted, *_plan(wanted, data, index))


def _simulated(wanted: MaskSimulation, model: Model, generator: np.random.Generator) -> NDArray[np.int32]:
    return simulate_labels(
        model.shapes,
        model.size,
        generator,
        density=model.density,
        layout=wanted.layout,
        gap=wanted.gap,
        magnification=wanted.magnification * model.magnification,
        touching=model.touching,
        variation=wanted.variation,
    ).labels


def _written(out: Path, name: str) -> NDArray[Any]:
    written = Dataset.open(out / "masks" / f"{name}.png", holds="masks")
    return written.read_labels(written.items[0])


def _reached(density: float, count: int, coverage: float) -> str:
    return (
        f"{count} of {counted(round(density), 'cell')}" if density >= 1 else f"coverage {coverage:.3f} of {density:.3f}"
    )


def _statistics(wanted: MaskSimulation, simulated: Sequence[Morphology], real: Sequence[Morphology]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "command": "simulate masks",
        "version": version("cytoforge"),
        "settings": settings_of(wanted),
        "simulated": summary(simulated),
        "real": summary(real) if real else None,
        "distance": distances(simulated, real) if real else None,
    }


def _write_report(
    writer: DatasetWriter,
    wanted: MaskSimulation,
    data: Annotated | None,
    simulated: Sequence[Morphology],
    files: Mapping[str, dict[str, Any]],
    notes: Sequence[str],
) -> None:
    real = data.measures if data else ()
    cells = sum(measure.count for measure in simulated)
    report = Report("Simulated masks", f"{counted(len(simulated), 'mask')} with {counted(cells, 'cell')}")
    apart = distances(simulated, real) if data else None
    if apart:
        told = f"the {counted(len(real), 'mask')} of {wanted.like}, simulated masks"
        report.verdict(verdict(told, TITLES, apart))
    for note in notes:
        report.text(note)
    report.heading("Statistics")
    table = comparison_table(TITLES, summary(simulated), summary(real) if data else None, apart)
    report.table(*table, caption="Median [quartiles] over all cells, or over all images.")
    values, known = ({name: pooled(measures, name) for name in TITLES} for measures in (simulated, real))
    figure = comparison_figure(TITLES, values, known, PER_CELL)
    report.figure(figure, "How often each value occurs; the area below each line is 1.")
    report.heading("Masks")
    names = list(files)[:REPORTED_MASKS]
    rows = [[_picture(_written(wanted.out, name))] for name in names]
    if data:
        number = {item.name: number for number, item in enumerate(data.dataset.items)}
        for name, row in zip(names, rows, strict=True):
            row.append(_picture(data.labels(number[files[name]["model"]])))
    caption = f"A colour per cell. Of masks longer than {WINDOW} px the middle is shown."
    report.image_grid(rows, ["simulated", *(["real, its model"] if data else [])], names, caption)
    settings = [[name, "none" if value is None else str(value)] for name, value in settings_of(wanted).items()]
    report.heading("Settings")
    report.table(["name", "value"], settings)
    report.write(writer.folder)


def verdict(subject: str, titles: Mapping[str, str], apart: Mapping[str, float | None]) -> str:
    """Name the statistic in which simulated data differ most; `subject` is "the real ones, simulated ones"."""
    known = {name: value for name, value in apart.items() if value is not None}
    worst = max(known, key=lambda name: known[name])
    return (
        f"Compared with {subject} differ most in the {titles[worst]}: "
        f"Kolmogorov-Smirnov distance {known[worst]:.2f}, where 0 is no difference and 1 no overlap."
    )


def comparison_table(
    titles: Mapping[str, str],
    simulated: Mapping[str, Mapping[str, float | None]],
    real: Mapping[str, Mapping[str, float | None]] | None,
    apart: Mapping[str, float | None] | None,
) -> tuple[list[str], list[list[str | float | None]]]:
    """Return header and rows of a table of medians and quartiles, with distances if there are real data."""
    columns = [simulated, *([real] if real else [])]
    rows: list[list[str | float | None]] = []
    for name, title in titles.items():
        cells: list[str | float | None] = []
        for column in columns:
            low, median, high = (column[name][key] for key in ("low", "median", "high"))
            cells.append(None if median is None else f"{median:.3g} [{low:.3g}, {high:.3g}]")
        rows.append([title, *cells, *([apart[name]] if apart else [])])
    return ["statistic", "simulated", *(["real", "distance"] if real else [])], rows


def comparison_figure(
    titles: Mapping[str, str],
    simulated: Mapping[str, NDArray[np.float64]],
    real: Mapping[str, NDArray[np.float64]],
    fine: Collection[str],
) -> Figure:
    """Draw a histogram per statistic, both sets in the same bins.

    The statistics in `fine` get more bins, which leave out the ends of long tails.
    """
    height = -(-len(titles) // 3)
    figure = Figure(figsize=(9.2, 2.7 * height), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(height, 3).flat, titles.items(), strict=False):
        sets = {"simulated": simulated[name], "real": real[name]}
        values = np.concatenate(list(sets.values()))
        if values.size:
            low, high = np.quantile(values, (0.005, 0.995)) if name in fine else (values.min(), values.max())
            low = float(values.min()) if values.min() >= 0 else float(low)
            bins = np.linspace(low, max(float(high), low + 1e-6), 31 if name in fine else 13)
            for (kind, numbers), colour in zip(sets.items(), ("#d95f02", "#1f6fb5"), strict=True):
                if numbers.size and ((numbers >= bins[0]) & (numbers <= bins[-1])).any():
                    axes.hist(numbers, bins, density=True, histtype="step", linewidth=1.6, color=colour, label=kind)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelsize=8)
    for axes in figure.axes[len(titles) :]:
        axes.remove()
    if drawn := next((axes for axes in figure.axes if axes.get_legend_handles_labels()[0]), None):
        drawn.legend(frameon=False, fontsize=8)
    return figure


def _picture(labels: NDArray[Any]) -> Pixels:
    """Return the colours of the middle of a mask; ids are renumbered, because they may be large."""
    middle = tuple(slice(max(0, (n - WINDOW) // 2), max(0, (n - WINDOW) // 2) + WINDOW) for n in labels.shape)
    return colour_labels(dense(labels[middle])[1])
