"""Folders that one process writes into: a second one is turned away before it writes anything."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from cytoforge.data.files import make_folder
from cytoforge.errors import UserError


class Settings(Protocol):
    """The settings of a command that writes into a folder."""

    @property
    def out(self) -> Path:
        """The folder."""


_watched: dict[Path, os.stat_result] = {}
"""the folders that this process writes into, by absolute path, as they were when it began"""

Given = TypeVar("Given", bound=Settings)
Result = TypeVar("Result")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; a missing one is made, and is gone afterwards where nothing was written.

    It may be held more than once, and the system releases it with the process, however that ends. On Windows, and on
    disks that know no such locks, it is not held. Raises UserError where another process holds it, where it cannot be
    made, and at the end where it is no longer there.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    made = not os.path.lexists(folder)
    if made:
        make_folder(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # the command says what is wrong with it
        yield
        return
    state = os.fstat(descriptor)
    again = any(os.path.samestat(state, other) for other in _watched.values())
    try:
        if not again:
            with contextlib.suppress(OSError):  # a disk without locks
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise UserError(
                        f"{folder}: another process writes into it; wait until that has ended, or choose another folder"
                    ) from error
        with watched(folder, state):
            yield
    finally:
        if made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
        os.close(descriptor)


@contextlib.contextmanager
def watched(folder: Path, state: os.stat_result) -> Iterator[None]:
    """Let `refuse_moved` know the state that a folder is in now; raises as that at the end."""
    place = folder.absolute()
    again = place in _watched
    _watched.setdefault(place, state)
    try:
        yield
        refuse_moved(folder)
    finally:
        if not again:
            _watched.pop(place, None)


def refuse_moved(folder: Path) -> None:
    """Raise UserError where a folder that this process writes into is no longer where it was."""
    state = _watched.get(folder.absolute())
    if state is None:
        return
    try:
        there = os.path.samestat(folder.stat(), state)
    except OSError:
        there = False
    if not there:
        what = "was moved or removed while it was written to"
        raise UserError(f"{folder}: {what}; put it back, and repeat the command, which goes on")


def alone(command: Callable[[Given], Result]) -> Callable[[Given], Result]:
    """Let a command hold its OUT while it runs; it raises UserError as `held`."""

    @functools.wraps(command)
    def run(settings: Given) -> Result:
        with held(settings.out):
            return command(settings)

    return run
