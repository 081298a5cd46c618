"""Checks whether unfinished work can be continued, which requires the settings with which it was begun.

Runs, stages, datasets, movies and studies use them; each records itself when it is finished. What is written in one go,
such as files for other programs, has a record for as long as it is not finished.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cytoforge.data.files import read_json
from cytoforge.data.ownership import Found, OutputFolder
from cytoforge.errors import UserError

BEGUN = ".begun.json"


def differences(former: Any, wanted: Any, words: Mapping[str, str] | None = None, name: str = "") -> list[str]:
    """Return the innermost names of the settings that differ between two JSON structures, in alphabetical order.

    Entries that are keys of `words` are compared as a whole, and named by the values there. `name` is the name of the
    structures themselves.
    """
    words = words or {}
    if isinstance(former, Mapping) and isinstance(wanted, Mapping) and name not in words:
        keys = former.keys() | wanted.keys()
        return sorted({found for k in keys for found in differences(former.get(k), wanted.get(k), words, str(k))})
    plain = [list(value) if isinstance(value, tuple) else value for value in (former, wanted)]
    return [] if plain[0] == plain[1] else [words.get(name, name)]


def refuse_other(path: Path, holds: str, different: Iterable[str]) -> None:
    """Raise UserError where a folder holds work (`holds`: a run, a study ...) that was begun with other settings."""
    if named := ", ".join(sorted(different)):
        raise UserError(
            f"{path}: holds {holds} with another {named}; repeat its command to go on with it, choose another folder, "
            "or give --overwrite"
        )


def refuse_finished(path: Path, holds: str, finished: bool) -> None:
    """Raise UserError where a folder holds work that is finished."""
    if finished:
        raise UserError(f"{path}: holds {holds}, finished; choose another folder or give --overwrite")


def refuse_taken(folder: OutputFolder, settings: Mapping[str, Any], *, overwrite: bool) -> Found:
    """Raise UserError where a folder holds files of others, or this command's, unless told to overwrite.

    What the same work, by its `settings`, left when it was killed in `written_anew` may be replaced. Returns what there
    is.
    """
    found = folder.survey()
    bare = folder.known and all(BEGUN in name for name in found.own)
    same = folder.owns(BEGUN) and read_json(folder.path / BEGUN) == _plain(settings)
    folder.refuse_taken(overwrite or bare or same)
    return found


@contextlib.contextmanager
def written_anew(folder: OutputFolder, settings: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
    """Make room for all that the block writes to a folder.

    Raises UserError as `refuse_taken`, and, before anything is removed, where a file was changed since it was written.
    """
    found = refuse_taken(folder, settings, overwrite=overwrite)
    folder.refuse_foreign(found.changed)
    folder.write_json(BEGUN, _plain(settings))
    folder.clear(dataclasses.replace(found, own=tuple(name for name in found.own if name != BEGUN)))
    yield
    folder.remove(BEGUN)


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(settings), default=str))
