"""Progress bars and messages for people, and durations and counts in words.

Everything is printed to the standard error stream, so that standard output holds results only.
"""

import os
import sys
import time
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 0.2
"""seconds between two drawings of a bar"""
WIDTH = 24
"""columns of a bar"""
Verdict = Literal["poor", "usable", "good"]
COLOURS: dict[Verdict, str] = {"poor": "1;31", "usable": "1;33", "good": "1;32"}
"""bold red, yellow and green, as terminals are told"""


def clock(seconds: float) -> str:
    """Return a duration in words: 45 s, 3:20 min, 2:05 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: 1 image, 2 images."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(lines: Iterable[str], verdict: Verdict | None = None) -> None:
    """Print lines; an unfinished progress bar stays above them.

    On a terminal a verdict has its colour, unless the variable NO_COLOR is set.
    """
    plain = verdict is None or not sys.stderr.isatty() or os.environ.get("NO_COLOR")
    for line in lines:
        shown = line if plain or verdict is None else f"\x1b[{COLOURS[verdict]}m{line}\x1b[0m"
        print(*[""] * Progress.unfinished, shown, sep="\n", file=sys.stderr, flush=True)
        Progress.unfinished = False


class Progress:
    """Shows how far work has come, with the time left: a bar in a terminal, elsewhere a line for each tenth.

    Log files, pipes and notebooks keep what a terminal overwrites, so they get lines without control characters.
    """

    unfinished: ClassVar[bool] = False
    """whether the cursor of the terminal stands behind a bar"""

    def __init__(self, title: str) -> None:
        self.title, self.terminal = title, _terminal()
        self.began: tuple[float, float] | None = None  # time and share of the first report
        self.shown, self.drawn = 0.0, time.monotonic() - EVERY

    def __call__(self, share: float, note: str = "") -> None:
        """Report the share done, 0 to 1, with a short note; reports after a share of 1 are not shown."""
        now = time.monotonic()
        if self.began is None:
            self.began = now, share
            self.shown = min(share, 0.999)
        elif self.shown >= 1:
            return
        tenth = int(share * 10) > int(self.shown * 10)
        if not (share >= 1 or (tenth if self.terminal is None else now - self.drawn >= EVERY)):
            return
        self.shown, self.drawn = share, now
        spent, done = now - self.began[0], share - self.began[1]
        left = f", {clock(spent / done * (1 - share))} left" if done > 0 and share < 1 else ""
        text = f"{min(share, 1):4.0%}{left}{'  ' + note if note else ''}"
        if self.terminal is None:
            print(f"{self.title} {text}", file=sys.stderr, flush=True)
        else:
            _draw(self.terminal, self.title, share, text)
            Progress.unfinished = share < 1


def _terminal() -> "Console | None":
    """Return the terminal behind the standard error stream; None where there is none, or one that cannot overwrite."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console  # This import takes 30 ms, which would delay --help.

    console = Console(stderr=True)
    return console if console.is_interactive else None


def _draw(terminal: "Console", title: str, share: float, text: str) -> None:
    """Overwrite the line at the cursor with title, bar and text, cut to the width of the terminal."""
    from rich.control import Control
    from rich.progress_bar import ProgressBar
    from rich.segment import ControlType, Segment, Segments
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(3):
        line.add_column(no_wrap=True, overflow="ellipsis")
    line.add_row(Text(title), ProgressBar(completed=100 * min(share, 1), width=WIDTH), Text(text))
    options = terminal.options.update(max_width=terminal.width - 1)  # a full line would wrap
    segments = terminal.render_lines(line, options, pad=False)[0]
    with terminal:  # Write everything at once.
        terminal.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
        terminal.print(Segments([*segments, Segment.line()] if share >= 1 else segments), end="")


@cache
def tell_once(sentence: str) -> None:
    """Print a sentence, but only the first time this is called with it."""
    say([sentence])
