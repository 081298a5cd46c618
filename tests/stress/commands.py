"""What the scripts of this folder disturb: every long command on phantoms, and all that it has written.

Each command runs in a process of its own. What counts in the end is every file, of the output and beside it: that there
are the same ones, and that each is the same byte by byte, but for the values of times. Of manifest.jsonl, whose lines
are in the order of writes, and of pages, which state times, it counts only that they are there and not empty. It needs
an operating system that can fork.
"""

import contextlib
import csv
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import pkgutil
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import cytoforge.commands as all_commands
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
    "found": "segment {segmenter} {many} --threads 1",
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
    "export": "export {many} --format roi",
    "score segmentation": "score segmentation {found} {many} --part 1/1",
}
TIMES = re.compile(r"seconds|started|finished")
"""keys whose values are times; `finished` may also be true or false, which counts"""


def prepared(folder: Path) -> dict[str, Path]:
    """Make images, movies and runs for the commands."""
    preload()
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


def preload() -> None:
    """Import what the commands need, once, so that no process of theirs spends its time on it."""
    for module in pkgutil.iter_modules(all_commands.__path__):
        importlib.import_module(f"{all_commands.__name__}.{module.name}")


def started(line: Sequence[str], said: Path = Path(os.devnull), first: Callable[[], None] = tuple) -> ForkProcess:
    """Start a command line in a process of its own, which does `first` before; `said` gets what it prints."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(list(line), said, first))
    process.start()
    return process


def ended(
    line: Sequence[str],
    after: float | None = None,
    said: Path = Path(os.devnull),
    first: Callable[[], None] = tuple,
) -> int:
    """Run a command line in a process of its own, killed after some seconds; return its exit status."""
    process = started(line, said, first)
    process.join(after)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return int(process.exitcode or 0)


def _run(line: list[str], said: Path, first: Callable[[], None]) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    first()
    status = cytoforge(line)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def named(beginnings: Sequence[str]) -> dict[str, str]:
    """Return the commands whose names begin so; all without any beginning."""
    return {name: line for name, line in COMMANDS.items() if name.startswith(tuple(beginnings) or "")}


def anew(folder: Path) -> None:
    """Make a folder that is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def keep(file: Path | None, counts: Any) -> None:
    """Write counts to a file, if there shall be one."""
    if file:
        file.write_text(json.dumps(counts, indent=1) + "\n")


def differing(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return the names of the files that `facts` tells otherwise, or that are in one of both only."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def facts(folder: Path) -> dict[str, str]:
    """Return what each file below a folder holds, but for times, as a checksum; a folder counts as empty."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(timeless(path) if path.is_file() else b"").hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def timeless(file: Path) -> bytes:
    """Return the content of a file without what differs between two runs of the same command; all if it is damaged."""
    with contextlib.suppress(ValueError, KeyError):
        return _timeless(file)
    return file.read_bytes()


def _timeless(file: Path) -> bytes:
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
