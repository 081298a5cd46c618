"""Kill every long command at random moments, go on with it, and compare what it wrote with an undisturbed run.

    python tests/stress/kills.py --kills 200 --json benchmarks/faults/kills.json
    python tests/stress/kills.py segment "train movie" --kills 20

Each command is ended by SIGKILL at a moment drawn from the time that it takes undisturbed; the same command then goes
on, and may be killed again.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from commands import anew, differing, ended, facts, keep, named, prepared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    chosen = named(given.commands)
    counts = {}
    with tempfile.TemporaryDirectory() as name:
        places = prepared(Path(name))
        for number, command in enumerate(chosen):
            share = given.kills * (number + 1) // len(chosen) - given.kills * number // len(chosen)
            rng = np.random.default_rng([given.seed, number])
            counts[command] = stressed(chosen[command].format(**places).split(), Path(name) / "work", share, rng)
            print(f"{command}: {counts[command]}", flush=True)
            keep(given.json, counts)
    return int(any(each["differences"] for each in counts.values()))


def stressed(line: list[str], work: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a command so many times in all, each result until it is whole, and compare it; return counts."""
    out = work / "out"
    anew(work)
    began = time.monotonic()
    if ended([*line, "--out", str(out)]) != 0:
        raise SystemExit(f"{' '.join(line)} failed")
    lasted, expected = time.monotonic() - began, facts(work)
    counts: dict[str, Any] = {"kills": 0, "in time": 0, "results": 0, "differences": []}
    while counts["kills"] < kills:
        anew(work)
        for _ in range(int(rng.integers(1, 5))):
            counts["kills"] += 1
            status = ended([*line, "--out", str(out)], after=float(rng.uniform(0, lasted)))
            if status != -signal.SIGKILL:
                break
            counts["in time"] += 1
        if status == -signal.SIGKILL:
            status = 0 if facts(work) == expected else ended([*line, "--out", str(out)])
        counts["results"] += 1
        wrong = differing(facts(work), expected)
        if status or wrong:
            counts["differences"].append({"status": status, "files": wrong[:5]})
    return counts


if __name__ == "__main__":
    sys.exit(main())
