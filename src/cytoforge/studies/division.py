"""Studies whose measurements are divided into parts, or among the workers of a cluster."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from cytoforge.engine import Announce, Engine, Seat
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.specification import Study

Asked = TypeVar("Asked", bound=Study)
Opened = TypeVar("Opened")
"""What a study is made on: its datasets, or the parts of its movies"""
Measurements = Mapping[str, Callable[[], object]]
"""What is measured independently of each other, by the name of the result that is written last"""
Open = Callable[[Asked], Opened]
Plan = Callable[[Asked, Opened, StudyFolder], Measurements]


@dataclass(frozen=True)
class Measuring(Generic[Asked, Opened]):
    """Makes measurements of a study, by their names; `open_data` and `plan` are functions of modules."""

    open_data: Open[Asked, Opened]
    plan: Plan[Asked, Opened]
    study: Asked
    folder: StudyFolder

    def start(self, seat: Seat) -> Callable[[str, Announce], None]:
        """Return the function that makes a measurement; a worker does so in silence, as many share a terminal."""
        with _silence(seat.away):
            study = replace(self.study, compute=replace(self.study.compute, threads=seat.threads))
            planned = self.plan(study, self.open_data(study), replace(self.folder, writer=seat.writer))

        def measure(name: str, announce: Announce) -> None:
            with _silence(seat.away):
                planned[name]()

        return measure


def measure_share(measuring: Measuring[Asked, Opened], opened: Opened, engine: Engine) -> tuple[int, int]:
    """Make the measurements of a part, or all on a cluster; returns how many of all there are by now, and are not.

    Raises UserError as the study does.
    """
    study, folder = measuring.study, measuring.folder
    names = list(measuring.plan(study, opened, folder))
    todo = [name for name in engine.share(names) if not folder.holds(name)]
    for _ in engine.run(measuring, todo, "study"):
        pass
    missing = sum(not folder.holds(name) for name in names)
    return len(names) - missing, missing


@contextlib.contextmanager
def _silence(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
