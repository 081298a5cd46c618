"""Reports as one HTML file that holds all it shows: text, tables, curves, and images with outlined cells.

The file needs no network and no other file, reads well on a phone, on paper, and in light and dark surroundings. All
text is escaped. Pictures open at the size of the window on a click, and outlines can be switched off.
"""

import base64
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytoforge.cells.labels import dense
from cytoforge.data.files import utf8
from cytoforge.data.judgement import Judgement
from cytoforge.data.ownership import OutputFolder
from cytoforge.metrics.segmentation import match
from cytoforge.progress import Verdict

Pixels = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]
Cell = str | int | float | None
Sample = tuple[str, NDArray[np.float32], Labels, Labels]
"""Name, image (C, H, W) in [-1, 1], true labels (H, W), predicted labels (H, W)."""

PAGE = "report.html"
PANEL = 480
"""Approximate width in pixels to which small images are enlarged."""
WINDOW = 768
"""Longest side in pixels of a sample; larger images are cropped to their middle."""
BAR = 0.25
"""Longest scale bar, as a share of the width of its picture."""
FOUND, MISSED, FALSE = (0, 170, 255), (255, 165, 0), (255, 60, 200)
"""Outline colours (red, green, blue) that colour-blind readers can tell apart, and that stand out on grey."""
INK = "#33383d"
INTERVAL = re.compile(r"\[[^\]]*\]")
NUMBER = re.compile(r"[<>~≈]?\s*[+−-]?\.?\d")


class Panel(NamedTuple):
    """A picture, and outlines that lie over it and can be switched off."""

    picture: Pixels
    """(H, W) or (H, W, 3)"""
    outlines: Pixels
    """red, green, blue and opacity (h, w, 4), of the same aspect"""


_templates = jinja2.Environment(loader=jinja2.PackageLoader("cytoforge"), autoescape=True)


class Report:
    """An HTML page. Methods such as `heading` and `table` append a block; each may be called any number of times."""

    def __init__(self, title: str, subtitle: str = "", lines: str = "Outlines") -> None:
        """`lines` says beside the switch what lies over the pictures."""
        self.title, self.subtitle, self.lines = title, subtitle, lines
        self._blocks: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        """Start a section."""
        self._add("heading", text=text)

    def folded(self, title: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table that opens when its title is clicked; raises ValueError as `table`."""
        self.table(header, rows)
        self._blocks[-1]["folded"] = title

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add("text", text=text)

    def verdict(self, text: str, grade: Verdict | None = None, details: Sequence[str] = ()) -> None:
        """Add the main result as one highlighted sentence, in the colour of its grade, and what else is to be known."""
        self._add("verdict", text=text, grade=grade or "", details=list(details))

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[Cell]], best: int | None = None, caption: str = ""
    ) -> None:
        """Add a table. Columns of numbers, except the first, are right-aligned; None and nan are shown as a dash.

        Args:
            header: one title per column.
            rows: one cell per column.
            best: index of the row to highlight.
            caption: what the table says; tables with a caption are numbered.

        Raises:
            ValueError: for a row of another length than the header, or no such row as `best`.
        """
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"a row has {len(row)} cells, the header {len(header)}: {list(row)}")
        if best is not None and not 0 <= best < len(rows):
            raise ValueError(f"best must be the index of one of {len(rows)} rows, got {best}")
        columns = [_column(title, [row[i] for row in rows], i == 0) for i, title in enumerate(header)]
        number = self._number("table") if caption else 0
        self._add("table", columns=columns, length=len(rows), best=best, caption=caption, number=number)

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a chart; on dark pages it stands on a white card."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
        self._add(
            "figure",
            source=_data_uri(buffer.getvalue()),
            caption=caption,
            number=self._number("figure", "grid", "film"),
        )

    def film(self, mp4: bytes, caption: str) -> None:
        """Add a film, the bytes of an mp4 file, with a button that plays it."""
        source = "data:video/mp4;base64," + base64.b64encode(mp4).decode()
        self._add("film", source=source, caption=caption, number=self._number("figure", "grid", "film"))

    def image_grid(
        self,
        rows: Sequence[Sequence[Pixels | Panel]],
        column_titles: Sequence[str],
        row_titles: Sequence[str],
        caption: str,
        widths: Sequence[float | None] = (),
    ) -> None:
        """Add images side by side, small ones enlarged by a whole number so that pixels stay sharp.

        Args:
            rows: for each row one uint8 image (H, W) or (H, W, 3), or panel, per column.
            column_titles: one per column.
            row_titles: one per row; an empty one is left out.
            caption: what the images show.
            widths: for each row the width of its images in micrometres, for a scale bar; None where it is not known.

        Raises:
            ValueError: where titles and images do not agree in number, or an image is no uint8 picture.
        """
        if len(row_titles) != len(rows) or any(len(row) != len(column_titles) for row in rows):
            raise ValueError(
                f"titles for {len(row_titles)} rows and {len(column_titles)} columns, "
                f"but rows of {[len(row) for row in rows]} images"
            )
        bars = [_bar(width) for width in widths] or [None] * len(rows)
        titled = list(zip(row_titles, [list(map(_shown, row)) for row in rows], bars, strict=True))
        outlined = any(isinstance(image, Panel) for row in rows for image in row)
        number = self._number("figure", "grid", "film")
        self._add("grid", rows=titled, columns=list(column_titles), caption=caption, number=number, outlined=outlined)

    def html(self) -> str:
        """Return the page."""
        page = _templates.get_template("report.html")
        return page.render(title=self.title, subtitle=self.subtitle, lines=self.lines, blocks=self._blocks)

    def write(self, folder: OutputFolder) -> Path:
        """Write the page as report.html, whole or not at all, and return its path; raises as OutputFolder.writing."""
        return folder.write(PAGE, utf8(self.html()))

    def _add(self, kind: str, **content: Any) -> None:
        self._blocks.append({"kind": kind, **content})

    def _number(self, *kinds: str) -> int:
        return 1 + len([block for block in self._blocks if block["kind"] in kinds and block["number"]])


def _column(title: str, cells: Sequence[Cell], first: bool) -> dict[str, Any]:
    numeric = not first and all(cell is None or not isinstance(cell, str) or NUMBER.match(cell) for cell in cells)
    largest = max((abs(cell) for cell in cells if isinstance(cell, float) and math.isfinite(cell)), default=0.0)
    order = math.floor(math.log10(largest)) if largest > 0 else 0
    decimals = max(0, 3 - order if order >= 0 else 2 - order)  # 0.812, 23.40, 0.00030
    return {"title": title, "numeric": numeric, "cells": [_written(cell, decimals) for cell in cells]}


def _written(cell: Cell, decimals: int) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, float):
        return f"{cell:.{decimals}f}".replace("-", "−")
    return INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), str(cell))  # no line break inside


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _shown(image: Pixels | Panel) -> dict[str, Any]:
    """Return what the template shows of an image: addresses of picture and outlines, width in pixels, aspect."""
    picture, outlines = image if isinstance(image, Panel) else (image, None)
    large = _enlarge(picture, round(PANEL / picture.shape[1]))
    return {
        "source": _data_uri(_png(large)),
        "outlines": None if outlines is None else _data_uri(_png(outlines, 4)),
        "aspect": f"{picture.shape[1] / picture.shape[0]:.4f}",
    }


def _bar(width: float | None) -> dict[str, str] | None:
    """Return the share in percent and the words of a scale bar of 1, 2 or 5 times a power of ten micrometres."""
    if width is None or not 0 < width < math.inf:
        return None
    power = 10.0 ** math.floor(math.log10(BAR * width))
    length = max(step * power for step in (1, 2, 5) if step * power <= BAR * width)
    return {"share": f"{100 * length / width:.3f}", "words": f"{length:g} µm"}


def _png(image: Pixels, channels: int = 3) -> bytes:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (channels,)):
        raise ValueError(f"an image must be uint8 (H, W) or (H, W, 3), got {image.dtype} {image.shape}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _enlarge(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat the pixels of the first two axes."""
    return image if factor <= 1 else image.repeat(factor, axis=0).repeat(factor, axis=1)


def to_rgb(image: NDArray[np.floating[Any]]) -> Pixels:
    """Return a picture uint8 (H, W, 3) of an image (C, H, W) in [-1, 1].

    One channel is shown in grey, two in magenta and green; of three or more, the first three in red, green and blue.

    Raises:
        ValueError: if the image does not have three axes.
    """
    if image.ndim != 3 or image.shape[0] == 0:
        raise ValueError(f"an image must be (C, H, W), got {image.shape}")
    shown = {1: (0, 0, 0), 2: (0, 1, 0)}.get(image.shape[0], (0, 1, 2))
    bytes_ = np.rint(np.clip(np.nan_to_num(image) * 127.5 + 127.5, 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(bytes_[list(shown)].transpose(1, 2, 0))


def mosaic(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Return a picture uint8 (H, W, 3) with the pictures of a row side by side and the rows above each other."""
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def label_colours(count: int) -> Pixels:
    """Return colours uint8 (count + 1, 3) of the ids 0 to `count`, as `id_colours`."""
    return id_colours(np.arange(count + 1))


def id_colours(ids: Labels) -> Pixels:
    """Return colours uint8 (N, 3) of ids (N,): black for the background, 0; light, distinct ones for successive ids."""
    number = ids.astype(np.int64) - 1
    hue = (0.55 + number * 0.61803399) % 1  # the golden ratio spreads any run of ids evenly
    saturation = np.where(number % 2, 0.6, 1.0)
    colours = 0.2 + 0.8 * hsv_to_rgb(np.stack([hue, saturation, np.ones(ids.size)], axis=-1))  # no dark blue
    return np.where(ids[:, None] == 0, 0, np.rint(255 * colours)).astype(np.uint8)


def colour_labels(labels: Labels) -> Pixels:
    """Return a picture uint8 (H, W, 3) of labels (H, W), each cell filled with its colour."""
    ids, numbers = dense(labels)
    return id_colours(ids)[numbers]


def overlay(image: NDArray[np.floating[Any]], labels: Labels, scale: int = 1) -> Pixels:
    """Return a picture uint8 (scale * H, scale * W, 3) of an image with the cells outlined in distinct colours.

    Args:
        image: (C, H, W) in [-1, 1].
        labels: integers (H, W), 0 background. Outlines lie just inside their cells, so that touching cells have two.
        scale: whole enlargement; outlines are then drawn finer than an image pixel.

    Raises:
        ValueError: if labels and image differ in height or width.
    """
    ids, numbers = dense(labels)
    return _outlined(image, scale, (numbers, id_colours(ids)))


def panel(image: NDArray[np.floating[Any]], labels: Labels) -> Panel:
    """Return an image (C, H, W) in [-1, 1] with the cells of labels (H, W) outlined as `overlay` does."""
    ids, numbers = dense(labels)
    return _panel(image, (numbers, id_colours(ids)))


def _panel(image: NDArray[np.floating[Any]], *layers: tuple[Labels, Pixels]) -> Panel:
    picture = to_rgb(image)
    scale = max(1, round(PANEL / picture.shape[1]))
    return Panel(picture[..., 0] if image.shape[0] == 1 else picture, _outlines(image.shape[1:], scale, *layers))


def outcome_overlay(image: NDArray[np.floating[Any]], truth: Labels, prediction: Labels, scale: int = 1) -> Pixels:
    """Return a picture as `overlay` does: correct predicted cells (IoU 0.5) are outlined in blue, false ones in
    magenta, missed true cells in orange.
    """
    return _outlined(image, scale, *_outcomes(truth, prediction))


def _outcomes(truth: Labels, prediction: Labels) -> list[tuple[Labels, Pixels]]:
    """Return labels 0..N and N + 1 colours for what `outcome_overlay` outlines: predicted cells, then missed cells."""
    pairs = match(truth, prediction)
    ids, predicted = dense(prediction)
    right = np.isin(ids, pairs.prediction_ids)
    missing, missed = dense(np.where(np.isin(truth, pairs.truth_ids), 0, truth))
    orange = np.full((missing.size, 3), MISSED, np.uint8)
    return [(predicted, np.where(right[:, None], FOUND, FALSE).astype(np.uint8)), (missed, orange)]


def _outlined(image: NDArray[np.floating[Any]], scale: int, *layers: tuple[Labels, Pixels]) -> Pixels:
    canvas: Pixels = _enlarge(to_rgb(image), scale).copy()
    lines = _outlines(image.shape[1:], scale, *layers)
    drawn = lines[..., 3] > 0
    canvas[drawn] = lines[drawn, :3]
    return canvas


def _outlines(shape: tuple[int, ...], scale: int, *layers: tuple[Labels, Pixels]) -> Pixels:
    """Return the outlines (scale * H, scale * W, 4) of layers, opaque on nothing; later ones lie above."""
    canvas = np.zeros((shape[0] * scale, shape[1] * scale, 4), np.uint8)
    width = 2 * max(1, round(scale / 2)) + 1
    for labels, colours in layers:
        if labels.shape != shape:
            raise ValueError(f"labels {labels.shape} and image {shape} differ in size")
        large = _enlarge(labels, scale)
        edge = ndimage.maximum_filter(large, width) != ndimage.minimum_filter(large, width)
        edge &= large > 0
        canvas[edge, :3] = colours[large[edge]]
        canvas[edge, 3] = 255
    return canvas


def training_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Chart the rows of metrics.csv: the losses, and the validation score with its best value marked.

    Args:
        rows: mappings with `step`, `validation` where there is one, `seconds`, and any losses by name; numbers or
            their text, empty where absent.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("no rows to chart")
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "seconds")]
    curves = {name: curve for name in names if len((curve := _curve(rows, name))[0])}
    validation = curves.pop("validation", None)
    panels = (validation is not None) + bool(curves)
    figure = Figure(figsize=(4.6 * max(panels, 1), 3.3), layout="constrained")
    free = iter(figure.subplots(1, max(panels, 1), squeeze=False)[0])
    if validation is not None:
        _draw_validation(_dressed(next(free), "validation score"), *validation)
    if curves:
        _draw_losses(_dressed(next(free), "loss"), curves)
    return figure


def _curve(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return the steps and finite values of a column."""
    points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
    finite = [point for point in points if math.isfinite(point[1])]
    return [step for step, _ in finite], [value for _, value in finite]


def _dressed(axes: Axes, title: str) -> Axes:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel("step", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return axes


def _draw_validation(axes: Axes, steps: list[float], scores: list[float]) -> None:
    best = int(np.argmax(scores))
    axes.plot(steps, scores, color="#1f6fb5", linewidth=1.8, marker="o", markersize=2.5)
    axes.plot(steps[best], scores[best], "o", markersize=8, color="#d95f02", markeredgecolor="white", zorder=3)
    on_right = steps[best] > (min(steps) + max(steps)) / 2
    axes.annotate(
        f"best {scores[best]:.3f} at step {steps[best]:.0f}",
        (steps[best], scores[best]),
        xytext=(-9 if on_right else 9, 9),
        textcoords="offset points",
        ha="right" if on_right else "left",
        fontsize=9,
        color="#a84a00",
    )
    axes.margins(y=0.15)


def _draw_losses(axes: Axes, curves: Mapping[str, tuple[list[float], list[float]]]) -> None:
    values = [value for _, column in curves.values() for value in column]
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    for number, (name, (steps, column)) in enumerate(curves.items()):
        axes.plot(
            steps, column, color=f"C{number % 10}", linestyle="-" if number < 10 else "--", linewidth=1.5, label=name
        )
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=1 + (len(curves) > 5))


def run_report(
    *,
    title: str,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    verdict: str,
    judgement: Judgement | None = None,
    samples: Sequence[Sample] = (),
    paintings: Sequence[tuple[str, Sequence[Pixels]]] = (),
    columns: tuple[Sequence[str], str] | None = None,
    micrometres: float | None = None,
) -> Report:
    """Return the page of a run: verdict, outlined samples, paintings, curves, and folded away settings and provenance.

    Args:
        title: heading of the page.
        settings: settings of the run; nested mappings are shown with dotted names.
        provenance: what the run was made from and with, shown likewise.
        metrics: rows of metrics.csv, as `training_curves` takes them; may be empty.
        samples: name, image (C, H, W) in [-1, 1], truth (H, W), prediction (H, W); of large ones the middle is shown.
        verdict: one sentence on how the training went.
        judgement: what it came to, if that is measured.
        paintings: name, and pictures uint8 (H, W, 3) of a real image, its cells and what was painted on them.
        columns: column titles and caption of the paintings, if they show something else.
        micrometres: of a pixel of samples and paintings, for scale bars; None where it is not known.
    """
    report = Report(title)
    if judgement is None:
        report.verdict(verdict)
    else:
        report.verdict(judgement.headline, judgement.verdict, [*judgement.details, verdict])
    if samples:
        report.heading("Cells found")
        _add_samples(report, samples, micrometres)
    if paintings:
        report.heading("Painted images")
        painted = len(paintings[0][1]) - 2
        headers: Sequence[str] = ["Generated"] if painted == 1 else [f"Style {k}" for k in range(1, painted + 1)]
        headers = ["Image", "Annotated cells", *headers]
        several = " in several styles" if painted > 1 else ""
        caption = f"Each row: a real image, its annotated cells, and what was painted on these cells{several}."
        headers, caption = columns or (headers, caption)
        widths = [micrometres and micrometres * row[0].shape[1] for _, row in paintings]
        report.image_grid([row for _, row in paintings], headers, [name for name, _ in paintings], caption, widths)
    if metrics:
        report.heading("Training")
        report.figure(training_curves(metrics), "Validation score and losses over the steps of training.")
    if settings or provenance:
        report.heading("Details")
    for title, values in (("Settings that are not the defaults", settings), ("Provenance", provenance)):
        if values:
            report.folded(title, ["name", "value"], [[name, _plain(value)] for name, value in _flat(values)])
    return report


def _add_samples(report: Report, samples: Sequence[Sample], micrometres: float | None) -> None:
    rows, titles, widths = [], [], []
    for name, image, truth, prediction in samples:
        found = len(match(truth, prediction).iou)
        true, predicted = (np.count_nonzero(np.unique(labels)) for labels in (truth, prediction))
        counts = f"{found} of {true} cells found, {true - found} missed, {predicted - found} false"
        titles.append(
            f"{name}: F {2 * found / (true + predicted):.2f}, {counts}" if true + predicted else f"{name}: {counts}"
        )
        middle = tuple(slice(max(0, (n - WINDOW) // 2), max(0, (n - WINDOW) // 2) + WINDOW) for n in truth.shape)
        layers = [(labels[middle], colours) for labels, colours in _outcomes(truth, prediction)]
        image = image[:, *middle]
        rows.append([panel(image, truth[middle]), _panel(image, *layers)])
        widths.append(micrometres and micrometres * image.shape[2])
    report.image_grid(
        rows,
        ["Annotated cells", "Found cells"],
        titles,
        "Annotated cells are outlined in distinct colours. Found cells are blue where they are right (intersection "
        "over union with an annotated cell of at least 0.5) and magenta where not; missed cells are orange. Counts are "
        f"of whole images; of images longer than {WINDOW} px the middle is shown.",
        widths,
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
