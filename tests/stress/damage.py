"""Damage each file that a command has written, finished or killed, and see whether that is noticed.

    python tests/stress/damage.py --json benchmarks/faults/damage.json
    python tests/stress/damage.py "train segmentation" segment --most 10    # damages, drawn at random

A byte in the middle of a file is changed, or the file is cut to half. Work that was killed before its end is then gone
on with, and runs that are finished are used. That must give what undamaged files give, byte by byte, or end with exit
status 2 and one sentence with the name of a file, or say on standard error which file has changed.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from commands import anew, differing, ended, facts, keep, named, prepared

USES = {  # what is done with a run, by the command that made it
    "train segmentation": "segment {run} {cells} --threads 1",
    "train segmentation, cycle": "generate images {run} {cells} --threads 1",
    "train generator": "generate images {run} {cells} --threads 1",
    "train movie": "generate movie {run} {films} --threads 1",
    "train movie, both stages": "generate movie {run} {films} --threads 1",
    "train tracker": "track {run} {movie} --threads 1",
}
SHOWN = ("report.html", "samples/step-*.png", "*.mp4")  # what is looked at only


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--most", type=int, help="damages of each result, drawn at random; all without it")
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    counts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        places = prepared(Path(name))
        for command, line in named(given.commands).items():
            words = line.format(**places).split()
            counts[f"{command}, killed"] = killed(words, Path(name) / "work", given.most)
            print(f"{command}, killed: {counts[f'{command}, killed']}", flush=True)
            if command in USES:
                use = USES[command].format(**places, run=Path(name) / "whole" / "out").split()
                counts[f"{command}, used"] = used(words, use, Path(name), given.most)
                print(f"{command}, used: {counts[f'{command}, used']}", flush=True)
            keep(given.json, counts)
    return int(any(each["unnoticed"] for each in counts.values()))


def killed(line: list[str], work: Path, most: int | None) -> dict[str, Any]:
    """Damage each file of what a command left that was killed late, and go on with it."""
    anew(work)
    out = work / "out"
    if ended([*line, "--out", str(out)]) != 0:
        raise SystemExit(f"{' '.join(line)} failed")
    expected = facts(work)
    left = work.with_name("left")
    shutil.rmtree(left, ignore_errors=True)
    anew(work)
    ended([*line, "--out", str(out)], first=killing)
    shutil.copytree(work, left)
    return tried(damages(left, most), left, work, [*line, "--out", str(out)], work, expected)


def killing() -> None:
    """Let this process be killed when its work is to be marked as finished."""
    from cytoforge.data.ownership import OutputFolder

    write = OutputFolder.write_json

    def last(folder: OutputFolder, name: str, value: Any) -> Path:
        if isinstance(value, dict) and (value.get("complete") or value.get("finished")):
            os.kill(os.getpid(), signal.SIGKILL)
        return write(folder, name, value)

    remove = OutputFolder.remove

    def done(folder: OutputFolder, name: str) -> None:
        if name == ".begun.json":
            os.kill(os.getpid(), signal.SIGKILL)
        remove(folder, name)

    OutputFolder.write_json, OutputFolder.remove = last, done  # type: ignore[method-assign]


def used(line: list[str], use: list[str], folder: Path, most: int | None) -> dict[str, Any]:
    """Damage each file of a finished run, and use it."""
    whole, work = folder / "whole", folder / "work"
    anew(whole)
    if ended([*line, "--out", str(whole / "out")]) != 0:
        raise SystemExit(f"{' '.join(line)} failed")
    anew(work)
    use = [*use, "--out", str(work / "out")]
    if ended(use) != 0:
        raise SystemExit(f"{' '.join(use)} failed")
    kept = folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(whole, kept)
    return tried(damages(kept, most), kept, whole, use, work, facts(work))


def tried(
    damaged: Sequence[tuple[str, str]], source: Path, place: Path, line: list[str], work: Path, expected: dict[str, str]
) -> dict[str, Any]:
    """Bring a copy of `source` to `place` for each damage, run a command, and compare what it writes to `work`."""
    counts: Counter[str] = Counter()
    unnoticed = []
    for name, how in damaged:
        anew(work)
        anew(place)
        shutil.copytree(source, place, dirs_exist_ok=True)
        (place / name).write_bytes(DAMAGES[how]((source / name).read_bytes()))
        said = work.with_name("said")
        status = ended(line, said=said)
        told = said.read_text()
        wrong = [key for key in differing(facts(work), expected) if "damaged" not in key]
        last = told.strip().splitlines()[-1] if told.strip() else ""
        if status == 2 and last.startswith("cytoforge: ") and "/" in last:
            counts["refused"] += 1
        elif status == 0 and not wrong:
            counts["mended"] += 1
        elif status == 0 and Path(name).name in told:
            counts["told"] += 1
        else:
            short = last.replace(f"{work}/", "")  # places of this machine are of no interest to others
            unnoticed.append({"file": name, "damage": how, "status": status, "differs": wrong[:5], "said": short})
    return {"tries": sum(counts.values()) + len(unnoticed), **counts, "unnoticed": unnoticed}


def damages(folder: Path, most: int | None) -> list[tuple[str, str]]:
    """Return each file below a folder, but for what is only looked at, with each damage; at most so many, at random."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    every = [
        (file.relative_to(folder).as_posix(), how)
        for file in files
        if not any(file.match(shown) for shown in SHOWN)
        for how in DAMAGES
    ]
    return every if most is None else sorted(random.Random(0).sample(every, min(most, len(every))))


def changed(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def cut(content: bytes) -> bytes:
    """Leave the first half."""
    return content[: len(content) // 2]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {"changed": changed, "cut": cut}


if __name__ == "__main__":
    sys.exit(main())
