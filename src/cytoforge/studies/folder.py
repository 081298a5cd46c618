"""The folder of a study: it keeps every measurement, so that the same command continues where it stopped."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cytoforge.data.files import locked, read_json
from cytoforge.data.images import encode_image
from cytoforge.data.manifest import MANIFEST
from cytoforge.data.ownership import WRITERS, OutputFolder
from cytoforge.data.resume import differences
from cytoforge.data.run_config import Settings, parse
from cytoforge.errors import UserError
from cytoforge.report import mosaic
from cytoforge.studies.measurements import Scores
from cytoforge.studies.present.presentation import Presentation

RECORD = "study.json"
OWNER = "study"  # name under which studies list what they write
PARTS = ("results", "runs", "data", "work", "pictures")
FILES = (RECORD, "results.json", "report.html")


class Record(Settings):
    """What study.json says, to tell whether a folder holds the same study."""

    study: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class StudyFolder:
    """One study in its folder: `results/NAME.json` per measurement, all else beside it."""

    kind: str
    out: Path
    settings: Mapping[str, Any]
    """settings that determine the results, as plain values"""
    writer: str | None = None
    """name of the process among those that measure at the same time; None where it is alone"""

    @classmethod
    def open(cls, kind: str, out: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> "StudyFolder":
        """Make the folder of a study, or continue the same study in it; `overwrite` replaces an earlier one.

        Raises UserError when it holds another study (unless told to overwrite), or anything else.
        """
        record, folder = out / RECORD, OutputFolder(out, OWNER)
        found = {entry.name for entry in out.iterdir() if entry.suffix != ".part"} if out.is_dir() else set()
        found -= {MANIFEST, WRITERS}
        if found - {*PARTS, *FILES} or (found and RECORD not in found and not folder.known):
            raise UserError(f"{out}: holds something else than a study; give another --out")
        if found:
            folder.require()
        folder.refuse_foreign(FILES)
        if overwrite:
            folder.clear(folder.survey())
        if record.exists() and (unknown := _unknown(record, kind, settings)):
            raise UserError(
                f"{out}: holds a study by an earlier version, which knew no {unknown}; its results can still be read, "
                "but not gone on with: give another --out, or --overwrite"
            )
        if record.exists() and (different := _different(record, kind, settings)):
            raise UserError(
                f"{out}: holds a study with another {different}; repeat its command to go on with it, "
                "give another --out, or --overwrite"
            )
        folder.write_json(RECORD, {"study": kind, "settings": dict(settings), "cytoforge": version("cytoforge")})
        return cls(kind, out, settings)

    @cached_property
    def folder(self) -> OutputFolder:
        """The folder as an OutputFolder, which knows the files that belong to the study."""
        return OutputFolder(self.out, OWNER, self.writer)

    @contextlib.contextmanager
    def making_data(self) -> Iterator[None]:
        """Wait until no other process makes data that measurements share, and keep others waiting meanwhile."""
        with locked(self.out / WRITERS / "data") if self.writer else contextlib.nullcontext():
            yield

    def place(self, *parts: str) -> Path:
        """Return a folder of the study for a run, a dataset or the like, which belongs to the study."""
        return self.folder.inside("/".join(parts))

    def holds(self, name: str) -> bool:
        """Tell whether results/NAME.json is there."""
        return self._result(name).exists()

    def _result(self, name: str) -> Path:
        return self.out / "results" / f"{name}.json"

    def once(self, name: str, kind: type[Scores], measure: Callable[[], Scores]) -> Scores:
        """Return the scores in results/NAME.json; measure and write them first if the file does not exist.

        Raises UserError when the file does not hold such scores.
        """
        path = self._result(name)
        if not path.exists():
            self.folder.write_json(f"results/{name}.json", measure().to_json())
        return parse(kind, read_json(path), path, "restore the file, or remove it to measure again")

    def write(self, presentation: Presentation) -> Path:
        """Write results.json, report.html and pictures; return the report's path."""
        content = {"study": self.kind, "settings": dict(self.settings), "cytoforge": version("cytoforge")}
        self.folder.write_json(
            "results.json", {**content, "rows": presentation.plain_rows(), **dict(presentation.facts)}
        )
        for name, rows in presentation.pictures.items():
            file = f"pictures/{name}.png"
            self.folder.write(file, encode_image(Path(file), mosaic(rows).transpose(2, 0, 1)))
        return presentation.report.write(self.folder)


def _unknown(record: Path, kind: str, settings: Mapping[str, Any]) -> str:
    """Name the settings that are given and that an earlier study of the same kind did not have; "" without any."""
    former = parse(Record, read_json(record), record, "restore the file, or give --overwrite")
    given = {name for name, value in settings.items() if value is not None}
    return ", ".join(sorted(given - former.settings.keys())) if former.study == kind else ""


def _different(record: Path, kind: str, settings: Mapping[str, Any]) -> str:
    """Name the settings in which an earlier study differs; return "" if it is the same study."""
    former = parse(Record, read_json(record), record, "restore the file, or give --overwrite")
    if former.study != kind:
        return f"question ({former.study})"
    # settings that this version does not know are not compared
    return ", ".join(differences({name: former.settings.get(name) for name in settings}, settings))
