"""Who may write into an output folder: one process for all of the work, or one for each part of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cytoforge.data.files import locked
from cytoforge.data.lock import refuse_moved, watched
from cytoforge.data.ownership import WRITERS
from cytoforge.engine import Part
from cytoforge.errors import UserError

ENDING = ".lock"
WHOLE = f"whole{ENDING}"
TURN = "turn"  # lock of the process whose turn it is to begin or to end the work


@contextlib.contextmanager
def at_work(out: Path, part: Part | None) -> Iterator[None]:
    """Hold a folder for this process: for all of the work, or for a part of it.

    Raises UserError where another process is at it, for a file, and as `locked` and `watched`. Leaves nothing but what
    was written.
    """
    if out.is_file():
        raise UserError(f"{out}: is a file; give a folder to write into")
    made, place = not out.exists(), out / WRITERS
    mine = place / (WHOLE if part is None else f"{part}{ENDING}")
    try:
        with contextlib.ExitStack() as held:
            with in_turn(out):
                for other in sorted(place.glob(f"*{ENDING}")):
                    if part is None or other.name in (WHOLE, mine.name):
                        _refuse_held(out, other)
                held.enter_context(locked(mine, wait=False))
                held.enter_context(watched(out, out.stat()))
            yield
    finally:
        for folder in (place, *([out] if made else [])):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


@contextlib.contextmanager
def in_turn(out: Path) -> Iterator[None]:
    """Wait until no other process begins or ends its work in a folder, and keep others waiting meanwhile."""
    refuse_moved(out)
    with locked(out / WRITERS / TURN):
        yield


def _refuse_held(out: Path, lock: Path) -> None:
    try:
        with locked(lock, wait=False):
            pass
    except BlockingIOError as error:
        who = "another process" if lock.name == WHOLE else f"the process of part {lock.stem.replace('-of-', '/')}"
        raise UserError(f"{out}: {who} is at work there; wait for it, or choose another folder") from error
