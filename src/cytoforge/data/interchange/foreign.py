"""The formats of annotated images that `import dataset` reads, and the recognition of such data."""

import shlex
from pathlib import Path

from cytoforge.data.interchange.annotated import Format, Source
from cytoforge.data.interchange.cell_files import CELL_FILES
from cytoforge.data.interchange.cellpose import CELLPOSE
from cytoforge.data.interchange.coco import COCO
from cytoforge.data.interchange.deepsea import DEEPSEA
from cytoforge.data.interchange.imagej import IMAGEJ
from cytoforge.data.interchange.labelme import LABELME
from cytoforge.data.interchange.qupath import QUPATH
from cytoforge.data.interchange.yolo import YOLO

FORMATS = (DEEPSEA, CELLPOSE, CELL_FILES, COCO, LABELME, QUPATH, YOLO, IMAGEJ)
FIRST = 10_000  # files that recognition looks at


def recognised(source: Source) -> list[Format]:
    """Return the formats that a source looks like, the surest first."""
    return [form for form in FORMATS if form.recognised(source)]


def hint(path: Path) -> str | None:
    """Return the name of the format of a folder or file and the command that imports it; None for no such format."""
    found = recognised(Source(path, first=FIRST))
    command = f"cytoforge import dataset {shlex.quote(str(path))} --out DATA"
    return f"holds {found[0].name}; give {command}, and then DATA" if found else None
