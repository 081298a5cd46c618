"""How long `cytoforge --help` takes, as a whole process.

    python benchmarks/start.py

Writes start.json beside this file.
"""

import json
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path


def seconds(command: list[str], repeats: int = 11) -> float:
    """Median wall time of a command; the first run, which fills the disk cache, is dropped."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return round(statistics.median(times[1:]), 3)


if __name__ == "__main__":
    result = {
        "command": "python benchmarks/start.py",
        "cytoforge": version("cytoforge"),
        "help_s": seconds([sys.executable, "-m", "cytoforge", "--help"]),
        "goal_help_s": 0.7,
        "train_help_s": seconds([sys.executable, "-m", "cytoforge", "train", "segmentation", "--help"]),
        "bare_python_s": seconds([sys.executable, "-c", "pass"]),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
