"""Requirements on paths. They are checked first, before libraries and data are loaded."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from cytoforge.errors import UserError

BASE = Path(__file__).parent / "base"
"""the run folder of the base model, which is shipped with the package"""

SCRATCH = Path("scratch")
"""what stands for random weights where a run to start from can be given"""


def run_folder(path: Path) -> Path:
    """Return the folder of a run; `base` is the base model, unless a run folder of that name is at hand."""
    return BASE if path == Path("base") and not _is_run(path) else path


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file()


@dataclasses.dataclass(frozen=True)
class Place:
    """A requirement on a path."""

    fits: Callable[[Path], bool]
    wrong: str
    """the message for a path that does not fit: what is wrong, and the remedy"""
    written: bool = False
    """whether the path is written to; if so, --overwrite accepts any path"""

    def check(self, path: Path, *, overwrite: bool = False) -> None:
        """Raise UserError when the path does not fit."""
        if not (self.written and overwrite) and not self.fits(path):
            raise UserError(f"{path}: {self.wrong}")


def _unfinished(folder: Path) -> bool:
    for file, mark in (("provenance.json", "finished"), ("dataset.json", "complete")):
        try:
            stored = json.loads((folder / file).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # The code that reads the path gives a more precise message.
        if isinstance(stored, dict) and stored.get(mark):
            return False
    return True


PRESENT = Place(Path.exists, "does not exist; check the name")
RUN = Place(
    lambda path: _is_run(run_folder(path)),
    "is no run folder (config.json is missing); give the folder that a training wrote, or base",
)
START = Place(
    lambda path: path == SCRATCH or RUN.fits(path),
    "is no run folder (config.json is missing); give base, scratch, or the folder that a training wrote",
)
UNFINISHED = Place(_unfinished, "holds results already; choose another folder or give --overwrite", written=True)
ABSENT = Place(
    lambda path: not path.exists(), "exists already; choose another --json file or give --overwrite", written=True
)
