"""Scores whose items are divided into parts, or among the workers of a cluster, and the folder in which parts meet."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cytoforge.data.files import load_json, utf8
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.resume import differences, refuse_other
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.engine import Engine, Part, Work

RECORD = "scores.json"
ROWS = "rows"  # folder of what parts have scored, until all have
LARGEST = 2**40  # bytes of a file of rows, which has some thousand for each item
WORDS = {"version": "version of cytoforge", "prediction": "prediction", "truth": "truth"}  # compared as a whole
Item = TypeVar("Item")
Results = TypeVar("Results")
Row = Mapping[str, Any]
"""scores of an item, as plain values"""


@dataclass(frozen=True)
class Scoring(Generic[Item, Results]):
    """Items that are scored independently of each other, and what is made of their rows."""

    work: Work[Item, Row]
    items: Sequence[Item]
    named: Callable[[Item], str]
    place: str
    """entry of the JSON of the results that has the rows by name"""
    results: Callable[[Mapping[str, Row]], Results]
    """of the row of each item, in their order"""

    def rows(self, items: Sequence[Item], engine: Engine) -> dict[str, Row]:
        """Score some of the items, here or on a cluster."""
        return {self.named(item): row for item, row in engine.run(self.work, items, "score", self.named)}

    def joined(self, rows: Mapping[str, Row]) -> Results:
        """Return what is made of all rows, in whatever order they were scored."""
        return self.results({name: rows[name] for name in map(self.named, self.items)})


class ScoreFolder:
    """OUT of a score: scores.json, and as long as that is not complete, the rows of each part that has ended."""

    def __init__(self, out: Path, head: Mapping[str, Any], *, overwrite: bool) -> None:
        """`head`: what the rows depend on, at the beginning of scores.json."""
        self.out, self.head, self.overwrite = out, head, overwrite
        self.folder = OutputFolder(out, head["command"])

    def begin(self) -> None:
        """Make OUT ready for these scores, or go on with them.

        Raises UserError where it holds other scores, unless told to overwrite, or a file of another command or user.
        """
        self.folder.reread()
        self.folder.refuse_foreign([RECORD])
        if (self.out / RECORD).exists():
            former = self._read(RECORD)
            different = differences({key: former.get(key) for key in self.head}, self.head, WORDS)
            if not (self.overwrite and (former["finished"] or different)):
                refuse_other(self.out, "scores", different)
                return
        if self.folder.known:
            self.folder.clear(self.folder.survey())
        self.folder.write_json(RECORD, {**self.head, "finished": False})

    def rows(self, place: str) -> dict[str, Row]:
        """Return the rows of all items, at their `place` in scores.json, or as yet those of the parts that have ended.

        Raises UserError where a file is not as it was written.
        """
        content = self._read(RECORD)
        if content["finished"]:
            return dict(content[place])
        return {name: row for file in self._files() for name, row in self._read(file).items()}

    def add(self, part: Part, rows: Mapping[str, Row]) -> None:
        """Write the rows of a part."""
        writer = OutputFolder(self.out, self.folder.by, str(part))
        writer.write(f"{ROWS}/{part}.json", utf8(json.dumps(rows)))

    def finish(self, content: Mapping[str, Any]) -> None:
        """Complete scores.json, which takes the place of all rows."""
        self.folder.refuse_unsettled()
        self.folder.write_json(RECORD, {**self.head, **content, "finished": True})
        for name in self._files():
            self.folder.remove(name)
        self.folder.settle()

    def _files(self) -> list[str]:
        self.folder.reread()
        names = sorted(f"{ROWS}/{file.name}" for file in (self.out / ROWS).glob("*.json"))
        self.folder.refuse_foreign(names)
        return names

    def _read(self, name: str) -> dict[str, Any]:
        return dict(load_json(self.out / name, LARGEST))


def scored_into(
    folder: ScoreFolder,
    scoring: Scoring[Item, Results],
    engine: Engine,
    content: Callable[[Results], Mapping[str, Any]],
) -> Results | int:
    """Score all items, or those of a part, into a folder; whoever finds that all are scored completes it.

    Returns the results, the `content` of which is in scores.json then, or how many items no part has scored yet.
    """
    with at_work(folder.out, engine.part):
        with in_turn(folder.out):
            folder.begin()
            known = folder.rows(scoring.place)
        made = scoring.rows([item for item in engine.share(scoring.items) if scoring.named(item) not in known], engine)
        with in_turn(folder.out):
            if engine.part is not None and made:
                folder.add(engine.part, made)
            rows = folder.rows(scoring.place) | made
            if missing := sum(scoring.named(item) not in rows for item in scoring.items):
                return missing
            results = scoring.joined(rows)
            folder.finish(content(results))
            return results
