"""Search for files that break a reader, guided by the lines of cytoforge that they reach.

    python tests/fuzz/fuzz.py --seconds 60                 # every reader in turn
    python tests/fuzz/fuzz.py tiff COCO --seconds 600      # readers whose names begin so
    python tests/fuzz/fuzz.py tiff --again tests/fuzz/found/tiff-1a2b3c

A file that breaks a reader is kept in tests/fuzz/found; `--again` reads it once more, with the traceback. `--json`
writes how many files were tried, read and refused. It needs `atheris` (Linux and macOS), from PyPI.
"""

import argparse
import faulthandler
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
FOUND = HERE / "found"
MEMORY = 16 * 2**30  # bytes of addresses
SLOW = 60  # seconds for one file; the timeout of libFuzzer does not end a loop of Python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help="beginnings of names; all without them")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=Path, help="a file that broke the reader")
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from readers import READERS

    chosen = [name for name in READERS if not given.readers or name.startswith(tuple(given.readers))]
    if given.again:
        return again(chosen[0], given.again.read_bytes())
    counts = {}
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            counts[name] = searched(name, Path(folder), given.seconds, given.seed)
        print(f"{name}: {counts[name]}", flush=True)
        if given.json:
            given.json.write_text(json.dumps(counts, indent=1) + "\n")
    return int(any(each["faults"] for each in counts.values()))


def again(name: str, content: bytes) -> int:
    """Read one file, with the traceback of what it does."""
    from readers import READERS, tried

    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "in"
        inside.mkdir()
        READERS[name].contents(inside)
        print(tried(READERS[name], inside, content))
    return 0


def searched(name: str, folder: Path, seconds: int, seed: int) -> dict[str, float]:
    """Search in processes of their own, which a fault ends, until the time is over; return counts."""
    total: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 1:
        log = folder / "counts.json"
        log.unlink(missing_ok=True)
        (folder / "last").unlink(missing_ok=True)
        command = [sys.executable, str(Path(__file__)), name]
        told = {"CYTOFORGE_FUZZ": json.dumps([str(folder), max(int(left), 1), seed + int(total["faults"])])}
        ended = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)
        if not log.exists():
            raise SystemExit(f"{name}: the search did not begin\n{ended.stderr[-3000:]}")
        total.update(json.loads(log.read_text()))
        if (folder / "last").exists():  # it was being read
            total["faults"] += 1
            kept(name, folder / "last", ended.stderr)
    return {key: total[key] for key in ("files", "read", "refused", "faults")}


def kept(name: str, last: Path, said: str) -> None:
    """Keep the file that ended a search, with what was said."""
    FOUND.mkdir(exist_ok=True)
    content = last.read_bytes()
    path = FOUND / f"{name.replace(' ', '-')}-{hashlib.sha256(content).hexdigest()[:8]}"
    path.write_bytes(content)
    print(f"{name}: {path}\n{chr(10).join(said.strip().splitlines()[-12:])}", flush=True)


def child(folder: Path, seconds: int, seed: int) -> None:
    """Search in this process until a file breaks the reader or the time is over."""
    import atheris

    with atheris.instrument_imports(include=["cytoforge"], enable_loader_override=False):
        from readers import READERS, tried

    reader = READERS[sys.argv[1]]
    inside, corpus = folder / f"in-{os.getpid()}" / "in", folder / "corpus"
    inside.mkdir(parents=True)
    corpus.mkdir(exist_ok=True)
    for number, content in enumerate(reader.contents(inside)):
        (corpus / str(number)).write_bytes(content)
    counts: Counter[str] = Counter()
    saved = time.monotonic()

    def one(content: bytes) -> None:
        nonlocal saved
        counts["files"] += 1
        (folder / "last").write_bytes(content)
        if counts["files"] == 1 or time.monotonic() - saved > 0.5:
            (folder / "counts.json").write_text(json.dumps(counts))
            saved = time.monotonic()
        faulthandler.dump_traceback_later(SLOW, exit=True)
        counts[tried(reader, inside, content)] += 1
        faulthandler.cancel_dump_traceback_later()
        (folder / "last").unlink()

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    limits = [f"-max_total_time={seconds}", "-timeout=600", "-rss_limit_mb=0", f"-seed={seed + 1}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *limits, "-max_len=20000", f"-artifact_prefix={folder}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if "CYTOFORGE_FUZZ" in os.environ:
        where, allowed, first = json.loads(os.environ["CYTOFORGE_FUZZ"])
        child(Path(where), allowed, first)
    else:
        sys.exit(main())
