"""Presentation of a study: rows for results.json and the terminal, a page, and pictures; formats of table cells."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cytoforge.metrics.efficiency import Labels, labels_worth
from cytoforge.metrics.estimates import Estimate, mean_estimate, nested_estimate, resample, to_json
from cytoforge.report import Pixels, Report

PICTURE_SIDE = 192  # longest side of a picture in pixels
Cell = str | int | float | Estimate | Labels | None
ScoresByImage = Sequence[Mapping[str, float | None]]
"""A score by image (None where undefined), for each seed."""


@dataclass
class Presentation:
    """What a study shows."""

    report: Report
    rows: list[dict[str, Cell]] = field(default_factory=list)
    """the table of results.json and of the terminal"""
    pictures: dict[str, Sequence[Sequence[Pixels]]] = field(default_factory=dict)
    """by file name: rows of pictures, one above the other"""
    facts: dict[str, Any] = field(default_factory=dict)
    """further content of results.json"""

    def row(self, **cells: Cell) -> None:
        """Add a row to the table."""
        self.rows.append(cells)

    def table(self, rows: Sequence[dict[str, Cell]], caption: str = "") -> None:
        """Add rows to the table, and as a table of their own to the page."""
        self.rows += rows
        self.columns(rows, [*rows[-1]], caption)

    def columns(self, rows: Sequence[dict[str, Cell]], names: Sequence[str], caption: str) -> None:
        """Add some columns of rows as a table to the page alone."""
        self.report.table(names, [[written(row[name]) for name in names] for row in rows], caption=caption)

    def picture(self, name: str, rows: Sequence[Sequence[Pixels]]) -> None:
        """Add a picture file: rows of pictures uint8 (H, W, 3)."""
        self.pictures[name] = rows

    def plain_rows(self) -> list[dict[str, Any]]:
        """Return the rows as results.json holds them."""
        return [{key: _plain(cell) for key, cell in row.items()} for row in self.rows]

    def lines(self) -> list[str]:
        """Return the rows as lines of text under a header, in columns."""
        header = list(dict.fromkeys(key for row in self.rows for key in row))
        lines = [header, *([written(row.get(key)) for key in header] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Labels):
        return cell.to_json()
    return to_json(cell) if isinstance(cell, Estimate) else cell


def written(cell: Cell) -> str:
    """Write a cell of a table: an estimate with its interval, a number with three digits, None as a dash."""
    if isinstance(cell, Labels):
        value, low, high = (_few_digits(cell.bounded(number)) for number in (cell.value, cell.low, cell.high))
        return value if low in ("-", high) else f"{value} [{low}, {high}]"
    if cell is None or (isinstance(cell, Estimate) and np.isnan(cell.value)):
        return "-"
    if isinstance(cell, Estimate):
        interval = "" if np.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
        return f"{cell.value:.3f}{interval}"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _few_digits(number: float | str | None) -> str:
    return "-" if number is None else number if isinstance(number, str) else f"{number:.3g}"


def middle(array: np.ndarray) -> np.ndarray:
    """Cut at most PICTURE_SIDE x PICTURE_SIDE pixels out of the middle of (..., H, W)."""
    top, left = ((n - min(n, PICTURE_SIDE)) // 2 for n in array.shape[-2:])
    return array[..., top : top + PICTURE_SIDE, left : left + PICTURE_SIDE]


def estimate(values: ScoresByImage, seed: int = 0) -> Estimate:
    """Return the mean over seeds and images with a 95 % interval that resamples both; undefined values are left out."""
    return nested_estimate(_matrix(values, _images(values)), np.random.default_rng(seed))


def labels_needed(
    labels: Sequence[float], reference: Sequence[ScoresByImage], other: ScoresByImage, seed: int = 0
) -> Labels:
    """Return the labels that a reference, known at so many, needs for the score of another training.

    The 95 % interval resamples seeds and images. Raises ValueError as `metrics.efficiency.labels_worth`.
    """
    images = _images([*other, *(scores for point in reference for scores in point)])
    curve = np.stack([_matrix(point, images) for point in reference])
    return labels_worth(labels, curve, _matrix(other, images), np.random.default_rng(seed))


def difference(values: ScoresByImage, others: ScoresByImage, seed: int = 0) -> Estimate:
    """Return the mean of values minus others, image by image and seed by seed, with its 95 % interval.

    Raises ValueError when the numbers of seeds differ.
    """
    if len(values) != len(others):
        raise ValueError(f"a difference is taken seed by seed, got {len(values)} and {len(others)} seeds")
    images = _images([*values, *others])
    return nested_estimate(_matrix(values, images) - _matrix(others, images), np.random.default_rng(seed))


def over_seeds(values: Iterable[float | None]) -> Estimate | None:
    """Return the mean of values, one per seed, with a 95 % interval that resamples these; None if none is defined."""
    found = [value for value in values if value is not None]
    return mean_estimate(found, resample(len(found), np.random.default_rng(0))) if found else None


def _images(values: ScoresByImage) -> list[str]:
    return sorted({image for scores in values for image in scores})


def _matrix(values: ScoresByImage, images: Sequence[str]) -> np.ndarray:
    """Return values as (seeds, images), nan where undefined or where a seed did not score the image."""
    return np.array([[scores.get(image) for image in images] for scores in values], dtype=np.float64)
