"""How benchmarks measure, and how they keep what they have measured: JSON beside the script, which is printed, too."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def provenance(
    command: str, packages: Sequence[str] = ("torch", "numpy", "scikit-image"), **facts: Any
) -> dict[str, Any]:
    """Where and with what numbers were measured."""
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        **facts,
        "cpu": processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("cytoforge", *packages)},
    }


def processor() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def by_turns(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each function, run by turns so that a change of the machine's speed hits all alike."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):  # the first is not counted
        for name, function in work.items():
            begin = time.process_time()
            function()
            if repeat:
                spent[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in spent.items()}


def peak_of(*command: str) -> tuple[float, float, float]:
    """Run a command; return its largest resident set in GiB, wall seconds, and CPU seconds."""
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 2**30, time.perf_counter() - begin, usage.ru_utime + usage.ru_stime


def keep(script: str, result: dict[str, Any]) -> None:
    """Write a result beside the script `__file__`, and print it."""
    text = json.dumps(result, indent=2)
    Path(script).with_suffix(".json").write_text(text + "\n")
    print(text)


def keep_beside(script: str, told: dict[str, Any], result: dict[str, Any], same: Sequence[str]) -> None:
    """Write a result beside the script, in place of the one whose entries `same` are equal, and print it.

    Others stay; all are in the order of these entries.
    """
    path = Path(script).with_suffix(".json")
    stored = json.loads(path.read_text()) if path.exists() else {"results": []}
    kept = [one for one in stored["results"] if any(one.get(key) != result[key] for key in same)]
    results = sorted([*kept, result], key=lambda one: [one.get(key) for key in same])
    path.write_text(json.dumps({"provenance": told, "results": results}, indent=2) + "\n")
    print(json.dumps(result, indent=2))
