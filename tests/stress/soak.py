"""Train, kill, go on, paint, simulate, segment and track in turn for an hour, in one process that lives on.

    python tests/stress/soak.py --minutes 60 --json benchmarks/faults/soak.json

A training is killed in a process of its own; everything else runs in this one, as in a notebook or the studio. Every
round must give the bytes of the first one, and leave no more memory, open files, threads or temporary files behind than
the rounds before it: the medians of the last quarter of rounds are compared with those of the second, as packages are
imported and caches filled in the first.
"""

import argparse
import contextlib
import gc
import io
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from commands import COMMANDS, anew, cytoforge, differing, ended, facts, keep, prepared

TURN = ("train segmentation", "generate images", "segment", "simulate masks", "generate movie", "track")
GROWTH = 0.02  # of memory, which is not counted as growth: it goes up and down from round to round


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    drawn = random.Random(0)
    left: list[dict[str, int]] = []
    different: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["TMPDIR"] = tempfile.tempdir = str(Path(name) / "temporary")
        anew(Path(tempfile.tempdir))
        places = prepared(Path(name))
        expected: dict[str, str] = {}
        began = time.monotonic()
        while time.monotonic() - began < 60 * given.minutes:
            found = round_of(places, Path(name) / "work", drawn)
            expected = expected or found
            for file in differing(found, expected):
                different[file] = different.get(file, 0) + 1
            left.append(remaining(Path(tempfile.tempdir)))
            print(f"round {len(left)}: {left[-1]}", flush=True)
            counts = counted(left, different, time.monotonic() - began)
            keep(given.json, counts)
    return int(bool(different) or bool(counts["grown"]))


def round_of(places: dict[str, Path], work: Path, drawn: random.Random) -> dict[str, str]:
    """Run every command of the turn once, and return what it wrote; the training is killed, and goes on."""
    anew(work)
    for command in TURN:
        line = [*COMMANDS[command].format(**places).split(), "--out", str(work / command.replace(" ", "-"))]
        if command.startswith("train") and ended(line, after=drawn.uniform(0.5, 4)) == 0:
            continue  # it was done before
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = cytoforge(line)
        if status:
            raise SystemExit(f"{' '.join(line)} ended with status {status}: {said.getvalue()}")
    return facts(work)


def remaining(temporary: Path) -> dict[str, int]:
    """Return what a round has left: MiB of memory, open files, threads, and temporary files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "MiB": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20),
        "open files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "temporary files": sum(1 for _ in temporary.rglob("*")),
    }


def counted(left: list[dict[str, int]], different: dict[str, int], seconds: float) -> dict[str, Any]:
    """Return rounds, what is left in the middle of the second and the last quarter of them, and what has grown."""
    quarter = len(left) // 4
    second, last = (
        {name: statistics.median(each[name] for each in part) for name in left[0]}
        for part in (left[quarter : 2 * quarter + 1], left[-quarter - 1 :])
    )
    return {
        "minutes": round(seconds / 60),
        "rounds": len(left),
        "second quarter": second,
        "last quarter": last,
        "grown": [name for name in last if last[name] > second[name] * (1 + GROWTH * (name == "MiB"))],
        "different": different,
    }


if __name__ == "__main__":
    sys.exit(main())
