"""How long `cytoforge --help` takes, and a first `cytoforge segment base IMAGE`, as whole processes.

    python benchmarks/start.py

The image is of phantom cells, 512 x 512 pixels; the size of its cells is estimated. Starting and importing torch takes
most of the time, so a process that does nothing else stands beside it. Writes start.json beside this file.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from cytoforge.data.images import write_image
from cytoforge.simulation.phantom import phantom
from measuring import keep


def seconds(command: list[str], repeats: int = 11) -> float:
    """Median wall time of a command; the first run, which fills the disk cache, is dropped."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return round(statistics.median(times[1:]), 3)


if __name__ == "__main__":
    cytoforge = [sys.executable, "-m", "cytoforge"]
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image.tif")
        write_image(image, phantom(0, (512, 512), 300)[0][None])
        segment = ["segment", "base", str(image), "--out", str(Path(folder, "out")), "--threads", "1", "--overwrite"]
        result = {
            "command": "python benchmarks/start.py",
            "cytoforge": version("cytoforge"),
            "help_s": seconds([*cytoforge, "--help"]),
            "goal_help_s": 0.7,
            "train_help_s": seconds([*cytoforge, "train", "segmentation", "--help"]),
            "segment_s": seconds([*cytoforge, *segment]),
            "goal_segment_s": 2.0,
            "import_torch_s": seconds([sys.executable, "-c", "import torch"]),
            "bare_python_s": seconds([sys.executable, "-c", "pass"]),
        }
    keep(__file__, result)
