"""Run every long command again, in another process with another order of sets, and with more threads; compare bytes.

    python tests/stress/repeats.py --json benchmarks/faults/repeats.json
    python tests/stress/repeats.py segment "train tracker"

What counts is what `commands.facts` counts, but for the number of threads, which config.json tells.
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import commands
from commands import anew, differing, ended, facts, preload, prepared

WAYS = {  # name: hash seed of Python, --threads
    "first": ("1", 1),
    "again": ("1", 1),
    "another order of sets": ("2", 1),
    "2 threads": ("1", 2),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--json", type=Path, help="file for what differs")
    given = parser.parse_args()
    found: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        places = prepared(Path(name))
        interpreters = {way: stack.enter_context(interpreter(*change)) for way, change in WAYS.items()}
        for command, line in commands.named(given.commands).items():
            words = line.format(**places)
            wrote = {
                way: interpreters[way].submit(ran, words, Path(name) / "work", threads).result()
                for way, (_, threads) in WAYS.items()
                if threads == 1 or "--threads" in words
            }
            first = wrote.pop("first")
            found[command] = {way: differing(files, first) for way, files in wrote.items()}
            print(f"{command}: {found[command]}", flush=True)
            commands.keep(given.json, found)
    return int(any(each[way] for each in found.values() for way in ("again", "another order of sets")))


def interpreter(seed: str, threads: int) -> ProcessPoolExecutor:
    """Start an interpreter with a hash seed."""
    os.environ |= {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(threads)}
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    pool.submit(preload).result()
    return pool


def ran(words: str, work: Path, threads: int) -> dict[str, str]:
    """Run a command in a folder that is always of the same name; return what it wrote, but for the threads."""
    commands.TIMES = re.compile("seconds|started|finished|threads")
    anew(work)
    if ended([*words.replace("--threads 1", f"--threads {threads}").split(), "--out", str(work / "out")]) != 0:
        raise SystemExit(f"{words} failed")
    return facts(work)


if __name__ == "__main__":
    sys.exit(main())
