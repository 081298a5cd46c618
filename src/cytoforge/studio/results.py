"""What came of work: the table of cells, sorted and by parts, files for other programs, and how good trainings are."""

import csv
import math
import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.files import atomic
from cytoforge.data.interchange.tables import in_words
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.studio.workspace import natural

TABLE, SUMMARY, CHART, REPORT, PACKED = "cells.csv", "cells-summary.csv", "cells-summary.png", "cells.html", "cells.zip"
CELL_FILES = {"roi": "*_RoiSet.zip", "geojson": "*.geojson", "coco": "annotations.json"}
"""Formats of `cytoforge export`, and the files that hold their cells"""
IMAGE, CELL = "image", "label"


@dataclass(frozen=True)
class Table:
    """The table that `cytoforge measure` writes: a row for each cell."""

    names: tuple[str, ...]
    columns: tuple[tuple[str, ...] | NDArray[np.float64], ...]
    """texts up to the number of the cell, which is the first number"""

    def rows(self, sort: str, first: int, count: int, *, down: bool) -> dict[str, Any]:
        """Return `count` rows from `first` on, ordered by a column ("": as they are), with names and units.

        Cells without a number stand at the end. Raises ValueError when there is no such column.
        """
        if sort and sort not in self.names:
            raise ValueError(f"there is no column {sort!r:.40}")
        order = _order(self.columns[self.names.index(sort)], down) if sort else np.arange(len(self.columns[0]))
        chosen = order[max(first, 0) : max(first, 0) + count]
        shown = [
            [column[k] for k in chosen] if isinstance(column, tuple) else [plain(value) for value in column[chosen]]
            for column in self.columns
        ]
        titles = [(name, *in_words(name)) for name in self.names]
        return {
            "columns": [{"name": name, "title": title, "unit": unit} for name, title, unit in titles],
            "rows": list(zip(*shown, strict=True)),
            "total": len(self.columns[0]),
        }


def read_table(path: Path) -> Table:
    """Read a table that `cytoforge measure` has written; the last ones stay in memory."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    texts = names.index(CELL)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    numbers = [np.array([float(value or "nan") for value in column], np.float64) for column in columns[texts:]]
    return Table(tuple(names), (*columns[:texts], *numbers))


def told_of_table(path: Path) -> str:
    """Return a sentence on how many cells a table holds."""
    table = read_table(path)
    images = table.columns[table.names.index(IMAGE)]
    return f"{counted(len(images), 'cell')} measured in {counted(len(set(images)), 'image')}."


def pack(folder: Path, kind: str) -> str:
    """Put what `cytoforge export` wrote to FOLDER/out, without its copies of the images, into one zip file.

    Returns a sentence for the user. Raises UserError when it wrote nothing.
    """
    files = sorted((folder / "out").glob(CELL_FILES[kind]))
    if not files:
        raise UserError("no cells were written; look at the masks")
    with atomic(folder / PACKED) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return f"{counted(len(files), 'file')} for {counted(_images(folder), 'image')}."


def plain(value: float) -> float | None:
    """Return a number as JSON knows it: NaN becomes None."""
    return None if math.isnan(value) else float(value)


def _images(folder: Path) -> int:
    return sum(1 for _ in (folder / "in" / "masks").iterdir())


def _order(column: tuple[str, ...] | NDArray[np.float64], down: bool) -> NDArray[np.intp]:
    if isinstance(column, tuple):
        return np.array(sorted(range(len(column)), key=lambda k: natural(column[k]), reverse=down), np.intp)
    return np.argsort(-column if down else column, kind="stable")


def told_of_training(run: Run) -> str:
    """Say how good a training came out, why, and what to do; remedies name no flags, as the page has none."""
    if (judgement := run.judgement) is None:
        return str(run.provenance.get("verdict", "Trained."))
    told = " ".join([judgement.scores, *judgement.advice])
    return re.sub(r" \((--|cytoforge )[^)]*\)", "", f"{told[0].upper()}{told[1:]}")
