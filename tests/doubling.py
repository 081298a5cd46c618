"""Work for a cluster, in a module that its workers import quickly."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cytoforge.engine import Announce, Seat
from cytoforge.errors import UserError


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
