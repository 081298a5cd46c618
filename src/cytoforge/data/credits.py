"""Where data come from and under which licence: sentences that travel from datasets to weights, and on to what is made.

dataset.json may name a `licence`, and a `source`; `learned_from` there and in provenance.json lists those of all that
a dataset or a run was made of.
"""

from collections.abc import Iterable
from pathlib import Path

from cytoforge.data.run import Run
from cytoforge.data.writer import INFO, read_info

KEY = "learned_from"


def credits_of(data: Path) -> list[str]:
    """Return the credits of a dataset or movie, or of a folder or file in one: its own, then those of what made it.

    Data without a licence have none of their own. Raises UserError where dataset.json is damaged.
    """
    folder = next((place for place in (data, *data.parents[:2]) if (place / INFO).is_file()), data)
    info = read_info(folder)
    licence = info.get("licence")
    source = info.get("source")
    name = source if isinstance(source, str) else folder.resolve().name
    own = [f"{name} ({licence})"] if licence else []
    return merged(own, info.get(KEY, []))


def credits_of_run(run: Path) -> list[str]:
    """Return the credits of what a run was learned from; raises UserError as `Run.open`."""
    return list(Run.open(run).provenance.get(KEY, []))


def merged(*lists: Iterable[str]) -> list[str]:
    """Return several lists of credits as one, each only once, in the order of their first appearance."""
    return list(dict.fromkeys(credit for one in lists for credit in one))


def stored(found: Iterable[str]) -> dict[str, list[str]]:
    """Return the entry of dataset.json or provenance.json for credits; nothing without any."""
    return {KEY: listed} if (listed := list(found)) else {}
