"""One line of progress with the time left, for long work in a terminal or a log file; times and counts in words."""

import sys
import time
from functools import cache


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


class Progress:
    """Shows how far work has come: a line that is rewritten in a terminal, every tenth in a log file (stderr)."""

    def __init__(self, title: str) -> None:
        self.title, self.started, self.shown = title, time.monotonic(), -1.0
        self.first: float | None = None
        self.live = sys.stderr.isatty()

    def __call__(self, share: float, note: str = "") -> None:
        """Report the share done, 0 to 1, with a short note."""
        now = time.monotonic()
        if self.first is None:
            self.first = min(share, 0.999)
        if self.live:
            due = now - self.shown > 0.2 or share >= 1
        else:
            due = int(share * 10) > int(max(self.shown, self.first) * 10) or share >= 1 > self.shown
        if not due:
            return
        self.shown = now if self.live else share
        spent, done = now - self.started, share - self.first
        left = f", {clock(spent / done * (1 - share))} left" if done > 0 and share < 1 else ""
        line = f"{self.title} {share:4.0%}{left}{'  ' + note if note else ''}"
        if self.live:
            print(f"\r\x1b[2K{line}", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


@cache
def tell_once(sentence: str) -> None:
    """Say a sentence (stderr), once however often what it is about is read."""
    print(sentence, file=sys.stderr, flush=True)
