"""Work for a cluster, in a module that its workers import quickly."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytoforge.engine import Announce, Seat
from cytoforge.errors import UserError

PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers; a worker is killed by its first item, unless one was before."""

    killed: Path | None = None
    wrong: int | None = None

    def start(self, seat: Seat) -> Callable[[int, Announce], int]:
        def double(number: int, announce: Announce) -> int:
            if self.killed is not None and number == 3 and not self.killed.exists():
                self.killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.wrong:
                raise UserError(f"{number}: is wrong")
            announce(0.5)
            return 2 * number

        return double


@dataclass(frozen=True)
class Meeting:
    """Items that wait for each other, so that each needs a worker of its own."""

    place: Path
    count: int

    def start(self, seat: Seat) -> Callable[[int, Announce], int]:
        def meet(number: int, announce: Announce) -> int:
            (self.place / f"{number}").touch()
            end = time.monotonic() + PATIENCE
            while len(list(self.place.iterdir())) < self.count:
                if time.monotonic() > end:
                    raise UserError(f"{number}: waits for the others in vain")
                time.sleep(0.02)
            return os.getpid()

        return meet


@dataclass(frozen=True)
class Telling:
    """Tells what a worker was started with."""

    def start(self, seat: Seat) -> Callable[[str, Announce], str | None]:
        return lambda name, announce: os.environ.get(name)
