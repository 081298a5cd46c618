"""What `cytoforge demo` takes and shows, as a whole process: time, peak memory, scores.

    python benchmarks/demo.py

Writes demo.json beside this file.
"""

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

LINE = re.compile(
    r"^F ([\d.]+) \[([\d.]+), ([\d.]+)\] at IoU 0\.5  (.+?)(  <- best on validation: use this one)?$", re.M
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cytoforge", "demo", "--out", str(Path(folder) / "demo")]
        started = time.perf_counter()
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = LINE.findall(shown)
    result = {
        "command": "python benchmarks/demo.py",
        "cytoforge": version("cytoforge"),
        "torch": version("torch"),
        "seconds": round(seconds, 1),
        "goal_s": 360,
        "goal_gib": 4,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
        "f_at_iou_0.5": {method: [float(value), float(low), float(high)] for value, low, high, method, _ in found},
        "best_on_validation": next(method for *_, method, best in found if best),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
