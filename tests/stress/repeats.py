"""Run every long command again, in another process with another order of sets, and with more threads; compare bytes.

    python tests/stress/repeats.py --json benchmarks/faults/repeats.json
    python tests/stress/repeats.py segment "train tracker"

What counts is what `commands.facts` counts, but for the number of threads, which config.json tells.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import commands
from commands import facts, prepared

WAYS = {  # name: what is changed: hash seed of Python, --threads
    "again": ("1", 1),
    "another order of sets": ("2", 1),
    "2 threads": ("1", 2),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--json", type=Path, help="file for what differs")
    given = parser.parse_args()
    commands.TIMES = re.compile(commands.TIMES.pattern + "|threads")
    found: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as name:
        places = prepared(Path(name))
        for command, line in commands.named(given.commands).items():
            words = line.format(**places)
            first = ran(words, Path(name) / "first", "1", 1)
            found[command] = {}
            for way, (seed, threads) in WAYS.items():
                if threads == 1 or "--threads" in words:
                    other = ran(words, Path(name) / way.replace(" ", "-"), seed, threads)
                    found[command][way] = commands.differing(other, first)
            print(f"{command}: {found[command]}", flush=True)
            commands.keep(given.json, found)
    return int(any(each[way] for each in found.values() for way in ("again", "another order of sets")))


def ran(line: str, work: Path, seed: str, threads: int) -> dict[str, str]:
    """Run a command in an interpreter of its own, always in a folder of the same name; return what it wrote."""
    place = work.with_name("work")
    place.mkdir()
    words = line.replace("--threads 1", f"--threads {threads}").split()
    environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(threads)}
    told = [sys.executable, "-m", "cytoforge", *words, "--out", str(place / "out")]
    subprocess.run(told, check=True, env=environment, capture_output=True)
    found = facts(place)
    place.rename(work.with_name(f"{work.name}-{len(list(work.parent.iterdir()))}"))
    return found


if __name__ == "__main__":
    sys.exit(main())
