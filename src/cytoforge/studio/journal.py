"""Journals of masks and tracks in work: a line of JSON for each change, on disk before the change is confirmed."""

import contextlib
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cytoforge.data.files import check_readable, explained, utf8
from cytoforge.errors import UserError
from cytoforge.progress import counted

DAMAGED = ".damaged"  # ending of a copy of a journal of which lines could not be read
WAIT = 0.8  # s without a change after which what the changes belong to is written
AGAIN = 10.0  # s after which what could not be written is tried again


class Outdated(Exception):
    """A change was made on a state that somebody else has changed since; nothing is changed by it."""


class Soon:
    """Calls a function that writes in a thread, WAIT seconds after the last `start`, unless `stop` comes before.

    A call that fails is repeated every AGAIN seconds; until one succeeds, `trouble` says what could not be written.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.timer: threading.Timer | None = None
        self.trouble: str | None = None

    def start(self, wait: float = WAIT) -> None:
        """Call the function a moment later, and not before."""
        self.stop()
        self.timer = threading.Timer(wait, self._call)
        self.timer.daemon = True
        self.timer.start()

    def now(self) -> None:
        """Call the function; raises UserError and OSError as it does, and then calls it again later."""
        self.stop()
        try:
            self.function()
        except (UserError, OSError) as error:
            self.trouble = str(error)
            self.start(AGAIN)
            raise
        self.trouble = None

    def _call(self) -> None:
        with contextlib.suppress(UserError, OSError):
            self.now()

    def stop(self) -> None:
        """Do not call it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def call_all(functions: Iterable[Callable[[], object]]) -> None:
    """Call functions that write, each even if one before fails; raises the first of their UserErrors and OSErrors."""
    errors: list[UserError | OSError] = []
    for function in functions:
        try:
            function()
        except (UserError, OSError) as error:
            errors.append(error)
    if errors:
        raise errors[0]


def append_line(journal: Path, line: dict[str, Any]) -> None:
    """Add a line of JSON to a journal and synchronise it to disk; what fails leaves the journal as it was.

    A last line without an end, which was never confirmed, is cut off first. Raises UserError when the disk is full or
    the folder may not be written to.
    """
    left = memoryview(utf8(json.dumps(line) + "\n"))
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a+b", buffering=0) as file:
            size = _whole(file)
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise explained(journal, error) or error from error


def _whole(file: io.FileIO) -> int:
    """Cut a line without an end off a file; return the number of bytes that are left."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        size = file.read().rfind(b"\n") + 1
        file.truncate(size)
    return size


def read_lines(journal: Path) -> list[bytes]:
    """Return the lines of a journal, none where there is no journal; a last line that a kill cut off does not count.

    Raises UserError when it may not be read.
    """
    if not journal.exists():
        return []
    check_readable(journal, "move it elsewhere")
    return journal.read_bytes().split(b"\n")[:-1]


def put_aside(journal: Path, bad: int, remedy: str) -> str:
    """Keep a copy of a journal with `bad` lines that are no changes; return a sentence about it with what to do."""
    kept = journal.with_name(journal.name + DAMAGED)
    try:
        shutil.copyfile(journal, kept)
    except OSError as error:
        raise explained(kept, error) or error from error
    return f"{journal}: {counted(bad, 'line')} could not be read; {remedy} ({kept.name} holds all lines)"
