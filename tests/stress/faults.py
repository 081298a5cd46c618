"""Disturb every long command by faults of the system, go on with it, and compare it with an undisturbed run.

    python tests/stress/faults.py --json benchmarks/faults/faults.json    # every fault, 6 times each command
    python tests/stress/faults.py "full disk" --commands segment track --tries 20

A disturbed command ends well, or with exit status 2 and one sentence that names a file; when the fault is over, the
same command makes what an undisturbed one does. It needs Linux and root, as disks are made of memory (tmpfs).
"""

import argparse
import contextlib
import ctypes
import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
from commands import COMMANDS, anew, differing, ended, facts, keep, named, prepared, started

DISK = 256 * 2**20  # bytes
PAGE = 4096  # bytes
DAY = 24 * 3600  # s
SENTENCE = re.compile(r"cytoforge: [^\n]*/[^\n]*")
"""what a command says that has failed"""


@dataclass(frozen=True)
class Trial:
    """A command and where it works."""

    line: list[str]
    work: Path
    said: Path
    """a file on another disk, for what the command prints"""
    lasted: float
    """s, undisturbed"""
    needed: int
    """bytes that it left, undisturbed"""
    rng: np.random.Generator

    @property
    def out(self) -> Path:
        return self.work / "out"

    def run(self, **how: Any) -> int:
        return ended([*self.line, "--out", str(self.out)], said=self.said, **how)

    def moment(self) -> float:
        """Return a random moment of the work in s."""
        return float(self.rng.uniform(0, self.lasted))


def full_disk(trial: Trial) -> list[int]:
    """The disk has room for a random part of what is to be written."""
    ballast = trial.work.with_name("ballast")
    disk = os.statvfs(trial.work)
    room = int(trial.rng.integers(0, trial.needed // PAGE + 2)) * PAGE
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(disk.f_bavail * disk.f_bsize - room, 1))
    status = trial.run()
    ballast.unlink()
    return [status]


def kept_from_writing(trial: Trial) -> list[int]:
    """A folder of the output cannot be written any more from a random moment on."""

    process = started([*trial.line, "--out", str(trial.out)], trial.said, without_privileges)
    _begun(process, trial)
    folders = [trial.work, *(path for path in trial.work.rglob("*") if path.is_dir())]
    chosen = folders[int(trial.rng.integers(len(folders)))]
    with contextlib.suppress(OSError):
        chosen.chmod(0o555)
    process.join()
    with contextlib.suppress(OSError):
        chosen.chmod(0o755)
    return [int(process.exitcode or 0)]


def without_privileges() -> None:
    """Let permissions count for this process, though it is root's: give up CAP_DAC_OVERRIDE and its likes."""
    libc = ctypes.CDLL(None)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    for number in range(3):
        sets[number] &= ~0b1110
    libc.capset(head, sets)


def _begun(process: ForkProcess, trial: Trial) -> None:
    """Wait until a command has begun to write, and for a random part of its time."""
    while process.is_alive() and not trial.out.exists():
        process.join(0.001)
    process.join(trial.moment() / 2)


def vanishing(trial: Trial) -> list[int]:
    """The output is moved away at a random moment, and brought back."""
    process = started([*trial.line, "--out", str(trial.out)], trial.said)
    _begun(process, trial)
    away = trial.work.with_name("away")
    with contextlib.suppress(OSError):
        trial.out.rename(away)
    process.join()
    if away.exists():
        shutil.rmtree(trial.out, ignore_errors=True)
        away.rename(trial.out)
    return [int(process.exitcode or 0)]


def clock_back(trial: Trial) -> list[int]:
    """The clock goes back and forth by days during the work and, with the times of files, between two kills."""

    def jumping() -> None:
        true, jumps = time.time, np.random.default_rng(0)

        class Jumping(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
                return datetime.datetime.fromtimestamp(time.time(), tz)

        time.time = lambda: true() + DAY * int(jumps.integers(-3, 2))
        from cytoforge.data import run

        run.datetime = Jumping

    for _ in range(2):
        status = trial.run(after=trial.moment(), first=jumping)
        days = int(trial.rng.choice([-2, -1, 1]))
        for path in trial.work.rglob("*"):
            os.utime(path, (time.time() + days * DAY,) * 2, follow_symlinks=False)
    again = trial.rng.integers(2) and status == -signal.SIGKILL  # what is finished would say so
    return [trial.run(first=jumping)] if again else []


def twice(trial: Trial) -> list[int]:
    """The same command is started again while it runs."""
    line = [*trial.line, "--out", str(trial.out)]
    first = started(line)
    first.join(trial.moment())
    status = trial.run()
    first.join()
    return [status, int(first.exitcode or 0)]


FAULTS: dict[str, Callable[[Trial], list[int]]] = {
    "full disk": full_disk,
    "folder not writable": kept_from_writing,
    "folder moved away": vanishing,
    "clock goes back": clock_back,
    "two processes": twice,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--commands", nargs="*", default=[""], help="beginnings of names; all without them")
    parser.add_argument("--tries", type=int, default=6, help="of each command and fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    chosen = [name for name in FAULTS if name.startswith(tuple(given.faults or [""]))]
    counts: dict[str, dict[str, Any]] = {fault: {} for fault in chosen}
    with disk() as folder, tempfile.NamedTemporaryFile() as said:
        places = prepared(folder)
        for number, (command, line) in enumerate(COMMANDS.items()):  # draws are the same, whichever are chosen
            if command not in named(given.commands):
                continue
            expected, trial = undisturbed(line.format(**places).split(), folder / "work", Path(said.name))
            for fault in chosen:
                rng = np.random.default_rng([given.seed, number, *fault.encode()])
                tried = Trial(*trial, rng)
                counts[fault][command] = disturbed(FAULTS[fault], tried, expected, given.tries)
                print(f"{fault}: {command}: {counts[fault][command]}", flush=True)
                keep(given.json, counts)
    return int(any(each["differences"] for by_command in counts.values() for each in by_command.values()))


@contextlib.contextmanager
def disk() -> Iterator[Path]:
    """Mount a small disk; everybody may go through it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def undisturbed(
    line: list[str], work: Path, said: Path
) -> tuple[dict[str, str], tuple[list[str], Path, Path, float, int]]:
    """Run a command; return what it wrote, and what a trial needs."""
    anew(work)
    before, began = used(work), time.monotonic()
    if ended([*line, "--out", str(work / "out")]) != 0:
        raise SystemExit(f"{' '.join(line)} failed")
    lasted, needed = time.monotonic() - began, used(work) - before
    return facts(work), (line, work, said, lasted, needed)


def disturbed(
    fault: Callable[[Trial], list[int]], trial: Trial, expected: dict[str, str], tries: int
) -> dict[str, Any]:
    """Try a fault so many times; return how often the command was ended by it, and what went wrong."""
    counts: Counter[str] = Counter()
    differences: list[dict[str, Any]] = []
    for _ in range(tries):
        anew(trial.work)
        trial.said.write_text("")
        statuses = fault(trial)
        said = trial.said.read_text().strip()
        counts["ended"] += sum(status not in (0, -signal.SIGKILL) for status in statuses)
        wrong = [f"status {status}: {said[-400:]}" for status in statuses if status not in (0, 2, -signal.SIGKILL)]
        last = said.splitlines()[-1] if said else ""
        if statuses and statuses[0] == 2 and not SENTENCE.fullmatch(last):
            wrong.append(f"no sentence: {said[-400:]}")
        if facts(trial.work) != expected:
            if statuses and not any(statuses):
                names = differing(facts(trial.work), expected)
                wrong.append(f"ended well, but for {', '.join(names[:5])}")
            status = trial.run()
            names = differing(facts(trial.work), expected)
            if status or names:
                told = trial.said.read_text().strip()[-400:]
                wrong.append(f"going on: status {status}, {', '.join(names[:5])}: {told}")
        place = f"{trial.work}/"  # of no interest to others
        short = [sentence.replace(place, "") for sentence in wrong]
        differences += [{"wrong": short, "said": last.replace(place, "")}] if wrong else []
    return {"tries": tries, "ended": counts["ended"], "differences": differences}


def used(folder: Path) -> int:
    """Return the bytes that are taken on the disk of a folder."""
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_bsize


if __name__ == "__main__":
    sys.exit(main())
