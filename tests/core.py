"""The commands that need no extra, one after another on phantom images: python tests/core.py FOLDER.

It imports nothing but cytoforge, so it runs wherever that is installed.
"""

import contextlib
import sys
from pathlib import Path

from cytoforge.cli import main
from cytoforge.data.images import write_image, write_labels
from cytoforge.simulation.phantom import phantom

COMMANDS = """\
--help
check cells
segment base cells/images --out first-look
train segmentation cells --out run --preset tiny --start scratch --steps 2 --device cpu
segment run cells/images --out found --device cpu
score segmentation found cells
measure cells/images cells/masks --out cells.csv
export cells --format roi --out rois
simulate masks --like cells --out more --count 1
train generator cells --out painter --preset tiny --steps 1 --device cpu
generate images painter more --out painted --device cpu
"""


def use(folder: Path) -> None:
    """Run every command in a folder; raises SystemExit at the first that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        for seed in range(2):
            image, labels = phantom(seed, (96, 96), 12)
            write_image(Path("cells", "images", f"{seed}.png"), image[None])
            write_labels(Path("cells", "masks", f"{seed}.png"), labels)
        for line in COMMANDS.splitlines():
            print(f"$ cytoforge {line}", flush=True)
            if status := main(line.split()):
                raise SystemExit(f"cytoforge {line}: exit status {status}")


if __name__ == "__main__":
    use(Path(sys.argv[1]))
