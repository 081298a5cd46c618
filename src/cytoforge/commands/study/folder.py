"""The folder of a study: what was measured stays, so that the same command goes on where it stopped."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import read_json, write_json
from cytoforge.data.images import write_image
from cytoforge.errors import UserError
from cytoforge.metrics.estimates import Estimate, nested_estimate, to_json
from cytoforge.report import Report

PARTS = ("results", "runs", "data", "work", "pictures")
FILES = ("study.json", "results.json", "report.html")
Values = Sequence[Mapping[str, float | None]]
"""A score by image (None where undefined), for each seed."""


class Settings(Protocol):
    """What all studies are told."""

    out: Path
    overwrite: bool


@dataclass
class Study:
    """One study in its folder: `results/NAME.json` per measurement, all else beside it."""

    kind: str
    out: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """the table so far"""

    @classmethod
    def open(cls, kind: str, config: Any) -> "Study":
        """Make the folder of a study, or go on with the same study in it.

        Raises UserError when it holds another study (unless told to overwrite), or anything else.
        """
        out: Path = config.out
        loose = ("out", "overwrite", "threads", "device", "weights_dir")
        settings = {key: _plain(value) for key, value in asdict(config).items() if key not in loose}
        record = out / "study.json"
        found = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
        if found - {*PARTS, *FILES} or (found and "study.json" not in found):
            raise UserError(f"{out}: holds something else than a study; give another --out")
        if record.exists() and config.overwrite:
            for name in found:
                shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
        wanted = {"study": kind, "settings": settings}
        if record.exists():
            former = read_json(record)
            if {key: former.get(key) for key in wanted} != wanted:
                raise UserError(f"{out}: holds a study with other settings; give another --out, or --overwrite")
        write_json(record, {**wanted, "cytoforge": version("cytoforge")})
        return cls(kind, out, settings)

    def once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what results/NAME.json holds, after measuring it if it is not there yet."""
        path = self.out / "results" / f"{name}.json"
        if not path.exists():
            write_json(path, measure())
        return read_json(path)

    def row(self, **cells: Any) -> None:
        """Add a row to the table."""
        self.rows.append(cells)

    def finish(self, report: Report, facts: Mapping[str, Any] | None = None) -> Path:
        """Write results.json and report.html, print the table; return the report's path."""
        rows = [
            {key: to_json(cell) if isinstance(cell, Estimate) else cell for key, cell in row.items()}
            for row in self.rows
        ]
        content = {"study": self.kind, "settings": self.settings, "cytoforge": version("cytoforge"), "rows": rows}
        write_json(self.out / "results.json", {**content, **(facts or {})})
        path = self.out / "report.html"
        report.write(path)
        header = list(self.rows[0])
        for line in [header, *([shown(row.get(key)) for key in header] for row in self.rows)]:
            print("  ".join(line))
        print(f"{path}: tables, figures and pictures")
        return path

    def picture(self, name: str, pixels: np.ndarray) -> None:
        """Write pictures/NAME.png from pixels uint8 (H, W, 3)."""
        write_image(self.out / "pictures" / f"{name}.png", pixels.transpose(2, 0, 1))


def shown(cell: Any) -> str:
    """Write a cell of a table: an estimate with its interval, a number with three digits, a dash for nothing."""
    if isinstance(cell, Estimate):
        interval = "" if np.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
        return f"{cell.value:.3f}{interval}"
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def estimate(values: Values, seed: int = 0) -> Estimate:
    """Mean over seeds and images with a 95 % interval that resamples both; undefined values are left out."""
    return nested_estimate([_floats(scores.values()) for scores in values], np.random.default_rng(seed))


def difference(values: Values, others: Values, seed: int = 0) -> Estimate:
    """Mean of values minus others, image by image and seed by seed, with its interval."""
    pairs = zip(values, others, strict=True)
    gains = [_floats(one.values()) - _floats(other[name] for name in one) for one, other in pairs]
    return nested_estimate(gains, np.random.default_rng(seed))


def _floats(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def copy_items(dataset: Dataset, items: Sequence[Item], folder: Path) -> Path:
    """Copy the files of some items of a dataset to a dataset folder of their own; what is complete stays."""
    if not (folder / "study-items.json").exists():
        for item in items:
            for part, file in (("images", item.image), ("masks", item.mask)):
                if file is not None:
                    target = folder / part / f"{item.name}{file.suffix}"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copytree(file, target, dirs_exist_ok=True) if file.is_dir() else shutil.copy2(file, target)
        write_json(folder / "study-items.json", {"from": dataset.path.name, "items": [item.name for item in items]})
    return folder


def split_test(dataset: Dataset, share: float, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Draw a share of the items (at least one) for the test; return (the others, those). Raises UserError for one."""
    if len(dataset.items) < 2:
        raise UserError(f"{dataset.path}: holds one image; a study needs others to test on, give --test DATA")
    order = np.random.default_rng([seed, 0x7E57]).permutation(len(dataset.items))
    held = set(order[: max(1, round(share * len(order)))].tolist())
    return (
        tuple(item for i, item in enumerate(dataset.items) if i not in held),
        tuple(item for i, item in enumerate(dataset.items) if i in held),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
