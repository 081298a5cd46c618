"""Kill every long command at random moments, go on with it, and compare what it wrote with an undisturbed run.

    python tests/stress/kills.py --kills 200 --json benchmarks/kills.json
    python tests/stress/kills.py segment "train movie" --kills 20

Each command runs in a process of its own on phantoms and is ended by SIGKILL at a moment drawn from the time that it
takes undisturbed; the same command then goes on, and may be killed again. What counts in the end is every file, of the
output and beside it: that there are the same ones, and that each is the same byte by byte, but for the values of times.
Of manifest.jsonl, whose lines are in the order of writes, and of pages, which state times, it counts only that they are
there and not empty. It needs an operating system that can fork.
"""

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import squares, write_movie
from cytoforge.cli import main as cytoforge
from cytoforge.data.images import write_image, write_labels
from cytoforge.simulation.phantom import phantom
from test_import_dataset import WRITERS, blobs

TINY = "--preset tiny --threads 1"
PREPARED = {  # what other commands need, in order
    "segmenter": f"train segmentation {{cells}} --steps 3 --start scratch {TINY}",
    "painter": f"train generator {{cells}} --steps 3 {TINY}",
    "filmer": f"train movie {{movie}} --steps 3 {TINY}",
    "tracker": f"train tracker {{movie}} --steps 3 {TINY}",
    "films": "simulate movie --size 48x48 --frames 4 --count 2",
}
COMMANDS = {
    "train segmentation": f"train segmentation {{cells}} --steps 60 --start scratch {TINY}",
    "train segmentation, cycle": f"train segmentation {{cells}} --steps 30 --method cyclegan {TINY}",
    "train segmentation, two stages": f"train segmentation {{cells}} --steps 20 --method two-stage {TINY}",
    "train generator": f"train generator {{cells}} --steps 30 --condition instances {TINY}",
    "train movie": f"train movie {{movie}} --steps 20 {TINY}",
    "train movie, both stages": f"train movie {{movie}} --steps 16 --stage both {TINY}",
    "train tracker": f"train tracker {{movie}} --steps 40 {TINY}",
    "segment": "segment {segmenter} {many} --threads 1",
    "generate images": "generate images {painter} {many} --threads 1",
    "generate movie": "generate movie {filmer} {films} --threads 1",
    "simulate masks": "simulate masks --like {cells} --count 12",
    "simulate movie": "simulate movie --size 64x64 --frames 12 --count 3",
    "track": "track {tracker} {movie} --threads 1",
    "import dataset": "import dataset {coco}",
    "import movie": "import movie {frames}",
    "export": "export {many} --format roi --overwrite",  # it begins anew
}
TIMES = re.compile(r"seconds|started|finished")
"""keys whose values are times; `finished` may also be true or false, which counts"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    chosen = [name for name in COMMANDS if not given.commands or name.startswith(tuple(given.commands))]
    counts = {}
    with tempfile.TemporaryDirectory() as name:
        places = prepared(Path(name))
        for number, command in enumerate(chosen):
            share = given.kills * (number + 1) // len(chosen) - given.kills * number // len(chosen)
            rng = np.random.default_rng([given.seed, number])
            counts[command] = stressed(COMMANDS[command].format(**places).split(), Path(name) / "work", share, rng)
            print(f"{command}: {counts[command]}", flush=True)
            if given.json:
                given.json.write_text(json.dumps(counts, indent=1) + "\n")
    return int(any(each["differences"] for each in counts.values()))


def prepared(folder: Path) -> dict[str, Path]:
    """Make images, movies and runs for the commands."""
    for name, count in (("cells", 4), ("many", 12)):
        for seed in range(count):
            image, labels = phantom(seed, (96, 96), 12)[:2]
            write_image(folder / name / "images" / f"c{seed}.png", image[None])
            write_labels(folder / name / "masks" / f"c{seed}.png", labels)
    masks = {t: np.roll(np.pad(squares((48, 48)), ((0, 0), (0, 8))), t, axis=1) for t in range(8)}
    ids = np.unique(masks[0][masks[0] > 0])
    write_movie(folder / "movie", masks, tuple((int(cell), 0, 7, 0) for cell in ids))
    (folder / "coco").mkdir()
    WRITERS["coco"][1](folder / "coco", {f"a{seed}": blobs(seed, (200, 240)) for seed in range(6)})
    for t in range(30):
        write_image(folder / "frames" / f"f{t}.tif", np.full((1, 64, 64), t, np.uint8))
    places = {name: folder / name for name in ("cells", "many", "movie", "coco", "frames", *PREPARED)}
    for name, line in PREPARED.items():
        if ended([*line.format(**places).split(), "--out", str(places[name])]) != 0:
            raise SystemExit(f"{name}: {line} failed")
    return places


def stressed(line: list[str], work: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a command so many times in all, each result until it is whole, and compare it; return counts."""
    out = work / "out"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    began = time.monotonic()
    if ended([*line, "--out", str(out)]) != 0:
        raise SystemExit(f"{' '.join(line)} failed")
    lasted, expected = time.monotonic() - began, facts(work)
    counts: dict[str, Any] = {"kills": 0, "in time": 0, "results": 0, "differences": []}
    while counts["kills"] < kills:
        shutil.rmtree(work)
        work.mkdir()
        for _ in range(int(rng.integers(1, 5))):
            counts["kills"] += 1
            status = ended([*line, "--out", str(out)], after=float(rng.uniform(0, lasted)))
            if status != -signal.SIGKILL:
                break
            counts["in time"] += 1
        if status == -signal.SIGKILL:
            status = 0 if facts(work) == expected else ended([*line, "--out", str(out)])
        counts["results"] += 1
        found = facts(work)
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if status or wrong:
            counts["differences"].append({"status": status, "files": wrong[:5]})
    return counts


def ended(line: Sequence[str], after: float | None = None) -> int:
    """Run a command line in a process of its own, killed after some seconds; return its exit status."""
    process = multiprocessing.get_context("fork").Process(target=quietly, args=(list(line),))
    process.start()
    process.join(after)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return int(process.exitcode or 0)


def quietly(line: list[str]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os._exit(cytoforge(line))


def facts(folder: Path) -> dict[str, str]:
    """Return what each file below a folder holds, but for times, as a checksum; a folder counts as empty."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(timeless(path) if path.is_file() else b"").hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def timeless(file: Path) -> bytes:
    """Return the content of a file without what differs between two runs of the same command."""
    if file.name == "manifest.jsonl" or file.suffix == ".html":  # order of writes; pages that state the time
        return b"written" if file.stat().st_size else b""
    if file.suffix == ".json":
        return json.dumps(without_times(json.loads(file.read_text())), sort_keys=True).encode()
    if file.name == "metrics.csv":
        rows = csv.DictReader(io.StringIO(file.read_text()))
        return json.dumps([without_times(row) for row in rows]).encode()
    content = file.read_bytes()
    if file.name == "state.safetensors":
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        header["__metadata__"]["meta"] = without_times(json.loads(header["__metadata__"]["meta"]))
        return json.dumps(header, sort_keys=True).encode() + content[end:]
    return content


def without_times(value: Any) -> Any:
    """Return a value of JSON with None for each time."""
    if isinstance(value, dict):
        return {
            key: None if TIMES.fullmatch(key) and not isinstance(inner, bool) else without_times(inner)
            for key, inner in value.items()
        }
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
