"""The folder of a study: what was measured stays, so that the same command goes on where it stopped."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytoforge.data.dataset import INFO, Dataset, Item
from cytoforge.data.files import read_json
from cytoforge.data.images import encode_image
from cytoforge.data.ownership import MANIFEST, OutputFolder
from cytoforge.errors import UserError
from cytoforge.metrics.estimates import Estimate, mean_estimate, nested_estimate, resample, to_json
from cytoforge.progress import counted
from cytoforge.report import Report, mosaic
from cytoforge.settings import StudySegmenters

RECORD = "study.json"
OWNER = "study"  # name under which studies list what they write
PARTS = ("results", "runs", "data", "work", "pictures")
FILES = (RECORD, "results.json", "report.html")
LOOSE = ("out", "overwrite", "threads", "device", "weights_dir")  # settings that may differ when a study goes on
SIDE = 192  # px of a picture
LAYOUTS: tuple[Literal["scattered", "colony"], ...] = ("scattered", "colony")  # of what is simulated denser than seen
Values = Sequence[Mapping[str, float | None]]
"""A score by image (None where undefined), for each seed."""


@dataclass
class Study:
    """One study in its folder: `results/NAME.json` per measurement, all else beside it."""

    kind: str
    out: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """the table so far"""

    @classmethod
    def open(cls, kind: str, config: StudySegmenters) -> "Study":
        """Make the folder of a study, or go on with the same study in it; `overwrite` replaces a former one.

        Raises UserError when it holds another study (unless told to overwrite), or anything else.
        """
        out, record = config.out, config.out / RECORD
        settings = {key: _plain(value) for key, value in asdict(config).items() if key not in LOOSE}
        folder = OutputFolder(out, OWNER)
        found = {entry.name for entry in out.iterdir() if entry.suffix != ".part"} if out.is_dir() else set()
        found -= {MANIFEST}
        if found - {*PARTS, *FILES} or (found and RECORD not in found and not folder.known):
            raise UserError(f"{out}: holds something else than a study; give another --out")
        if found:
            folder.require()
        folder.refuse_foreign(FILES)
        if config.overwrite:
            folder.clear(folder.survey())
        former = read_json(record) if record.exists() else {"study": kind, "settings": settings}
        if different := _differences(former, kind, settings):
            raise UserError(
                f"{out}: holds a study with another {different}; repeat its command to go on with it, "
                "give another --out, or --overwrite"
            )
        folder.write_json(RECORD, {"study": kind, "settings": settings, "cytoforge": version("cytoforge")})
        return cls(kind, out, settings)

    @cached_property
    def folder(self) -> OutputFolder:
        """The folder as it is written to, which knows what of it is the study's own."""
        return OutputFolder(self.out, OWNER)

    def place(self, *parts: str) -> Path:
        """Return a folder of the study for a run, a dataset or the like, which belongs to the study."""
        return self.folder.inside("/".join(parts))

    def once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what results/NAME.json holds, after measuring it if it is not there yet."""
        path = self.out / "results" / f"{name}.json"
        if not path.exists():
            self.folder.write_json(f"results/{name}.json", measure())
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
        self.folder.write_json("results.json", {**content, **(facts or {})})
        path = report.write(self.folder)
        print("\n".join(self.table()))
        print(f"{path}: tables, figures and pictures")
        return path

    def table(self) -> list[str]:
        """Return the rows as lines of text under a header, in columns."""
        header = list(dict.fromkeys(key for row in self.rows for key in row))
        lines = [header, *([shown(row.get(key)) for key in header] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]

    def picture(self, name: str, rows: Sequence[Sequence[np.ndarray]]) -> None:
        """Write pictures/NAME.png: rows of pictures uint8 (H, W, 3) above each other."""
        file = f"pictures/{name}.png"
        self.folder.write(file, encode_image(Path(file), mosaic(rows).transpose(2, 0, 1)))


def shown(cell: Any) -> str:
    """Write a cell of a table: an estimate with its interval, a number with three digits, a dash for nothing."""
    if cell is None or (isinstance(cell, Estimate) and np.isnan(cell.value)):
        return "-"
    if isinstance(cell, Estimate):
        interval = "" if np.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
        return f"{cell.value:.3f}{interval}"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def middle(array: np.ndarray) -> np.ndarray:
    """Cut at most SIDE x SIDE pixels out of the middle of (..., H, W)."""
    top, left = ((n - min(n, SIDE)) // 2 for n in array.shape[-2:])
    return array[..., top : top + SIDE, left : left + SIDE]


def estimate(values: Values, seed: int = 0) -> Estimate:
    """Mean over seeds and images with a 95 % interval that resamples both; undefined values are left out."""
    return nested_estimate(_matrix(values, _images(values)), np.random.default_rng(seed))


def difference(values: Values, others: Values, seed: int = 0) -> Estimate:
    """Mean of values minus others, image by image and seed by seed, with its interval.

    Raises ValueError when these are not of as many seeds.
    """
    if len(values) != len(others):
        raise ValueError(f"a difference is taken seed by seed, got {len(values)} and {len(others)} seeds")
    images = _images([*values, *others])
    return nested_estimate(_matrix(values, images) - _matrix(others, images), np.random.default_rng(seed))


def over_seeds(records: Sequence[Mapping[str, Any]], score: str) -> Estimate | None:
    """Mean of a score over records, one per seed, with an interval that resamples these; None where none has it."""
    return mean_over_seeds([record.get(score) for record in records])


def mean_over_seeds(values: Sequence[float | None]) -> Estimate | None:
    """Mean of values, one per seed, with an interval that resamples these; None where none is defined."""
    found = [value for value in values if value is not None]
    return mean_estimate(found, resample(len(found), np.random.default_rng(0))) if found else None


def _images(values: Values) -> list[str]:
    return sorted({image for scores in values for image in scores})


def _matrix(values: Values, images: Sequence[str]) -> np.ndarray:
    """Return values as (seeds, images), nan where undefined or where a seed did not score the image."""
    return np.array([[scores.get(image) for image in images] for scores in values], dtype=np.float64)


def open_data(data: Path, config: StudySegmenters) -> Dataset:
    """Open annotated images of a study, and look at what is wrong with them, and with those of --test, before any work.

    Raises UserError when there are no pairs, some are synthetic, a mask of --test lacks its image or an image of it is
    one of DATA's, or DATA is a movie without --test: its frames resemble each other.
    """
    dataset = Dataset.open(data).pairs()
    if config.test is None:
        if any(item.frame is not None for item in dataset.items):
            raise UserError(f"{data}: is a movie, whose frames are too alike to test on some; give --test MOVIE")
        tests = dataset
    else:
        tests = Dataset.open(config.test).masks()
        for item in tests.items:
            if item.image is None:
                raise UserError(f"{item.mask}: has no image to test on; add it, or take the mask away")
        if same := dataset.common_image(tests):
            raise UserError(f"{same[1]}: is in {data}, too; test on images that nothing is trained on")
    for one in {dataset.path: dataset, tests.path: tests}.values():
        one.check_labels()
        print("".join(f"{note}\n" for note in one.left_out), end="")
    if witness := dataset.synthetic() or tests.synthetic():
        raise UserError(f"{witness}: says that these images are synthetic; a study wants annotated real ones")
    return dataset


def data_names(config: StudySegmenters) -> dict[Path, str]:
    """Name each DATA by its folder, with the folder above where several would be called alike: `cells-train`."""
    paths = {path: path.resolve() for path in config.data}
    alike = Counter(path.name for path in paths.values())
    return {
        path: full.name if alike[full.name] == 1 else f"{full.parent.name}-{full.name}" for path, full in paths.items()
    }


def open_all(config: StudySegmenters) -> dict[str, Dataset]:
    """Open every DATA of a study, by its name in results; raises as open_data."""
    return {name: open_data(path, config) for path, name in data_names(config).items()}


def subset(
    study: Study, dataset: Dataset, config: StudySegmenters, seed: int, least: int | None = None
) -> tuple[Path, Path]:
    """Return the images to train on and those to test on, as folders: DATA and --test, or what the seed draws of DATA.

    Raises UserError when fewer than `least` are left to train on.
    """
    pool, test = (dataset.items, ()) if config.test else split_test(dataset, config.test_share, seed)
    if len(pool) < (least or 1):
        raise UserError(
            f"{dataset.path}: leaves {counted(len(pool), 'image')} to train on, {least} are needed; ask for fewer"
        )
    if config.test is not None:
        return dataset.path, config.test
    name = f"{data_names(config)[dataset.path]}-{seed}"
    return (
        copy_items(dataset, pool, study.place("data", name, "train")),
        copy_items(dataset, test, study.place("data", name, "test")),
    )


def copy_items(dataset: Dataset, items: Sequence[Item], path: Path) -> Path:
    """Copy the files of some items of a dataset to a dataset folder of their own; what is complete stays."""
    if not (path / "study-items.json").exists():
        folder = OutputFolder(path, OWNER)
        for item in items:
            for part, file in (("images", item.image), ("masks", item.mask)):
                if file is not None:
                    _copy(file, folder, f"{part}/{item.name}{file.suffix}")
        kept = {key: dataset.info[key] for key in ("scale", "groups") if key in dataset.info}
        if kept:
            folder.write_json(INFO, kept)
        folder.write_json("study-items.json", {"from": dataset.path.name, "items": [item.name for item in items]})
    return path


def _copy(file: Path, folder: OutputFolder, name: str) -> None:
    parts = [part for part in sorted(file.rglob("*")) if part.is_file()] if file.is_dir() else [file]  # zarr
    for part in parts:
        with folder.writing((Path(name) / part.relative_to(file)).as_posix()) as temporary:
            shutil.copyfile(part, temporary)


def split_test(dataset: Dataset, share: float, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Draw a share of the items, at least one and never all, for the test; return (the others, those).

    Raises UserError when there is but one item.
    """
    if len(dataset.items) < 2:
        raise UserError(f"{dataset.path}: holds one image; a study needs others to test on, give --test DATA")
    order = np.random.default_rng([seed, 0x7E57]).permutation(len(dataset.items))
    held = set(order[: min(max(1, round(share * len(order))), len(order) - 1)].tolist())
    return (
        tuple(item for i, item in enumerate(dataset.items) if i not in held),
        tuple(item for i, item in enumerate(dataset.items) if i in held),
    )


def _differences(former: Mapping[str, Any], kind: str, settings: Mapping[str, Any]) -> str:
    """Name what a former study's record has otherwise, nothing if it is the same study."""
    if former.get("study") != kind:
        return f"question ({former.get('study')})"
    old = former.get("settings", {})
    return ", ".join(sorted(key for key in old.keys() | settings.keys() if old.get(key) != settings.get(key)))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
