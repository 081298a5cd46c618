"""Checks whether unfinished work can be continued, which requires the settings with which it was begun.

Runs, stages, datasets, movies and studies use them; each records itself when it is finished.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cytoforge.errors import UserError


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
