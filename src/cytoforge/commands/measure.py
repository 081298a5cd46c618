"""`cytoforge measure`: the cells of still images as a table, with a summary and figures by group."""

from pathlib import Path

import numpy as np

from cytoforge.commands.narrowed import view_of
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import utf8, write_bytes
from cytoforge.data.interchange.tables import write_cells, write_rows
from cytoforge.errors import UserError
from cytoforge.evaluation.cell_groups import figure, page, png, summary
from cytoforge.evaluation.measurement import IMAGE, measure_stills, open_stills
from cytoforge.progress import counted
from cytoforge.settings import Measure


def measure(settings: Measure) -> Path:
    """Write the table, its summary and its figures, print what they hold, and return the table's path.

    Raises UserError when one of the files is there already or is an input, and as `open_stills` and `measure_stills`.
    """
    out = settings.out
    table, chart = (out.with_name(f"{out.stem}-summary{suffix}") for suffix in (".csv", ".png"))
    report = out.with_suffix(".html")
    images = Dataset.open(settings.images, settings.sequence, view=view_of(settings)).images()
    masks = Dataset.open(settings.masks, settings.sequence, holds="masks").masks()
    inputs = {file.resolve() for item in (*images.items, *masks.items) for file in (item.image, item.mask) if file}
    for file in (out, table, chart, report):
        if file.resolve() in inputs:
            raise UserError(f"{file}: is one of the images to measure; give another --out")
        if file.exists() and not settings.overwrite:
            raise UserError(f"{file}: exists already; choose another name or give --overwrite")
    found = measure_stills(open_stills(images, masks), settings.pixel_size, settings.groups, settings.radius)
    write_cells(out, (({IMAGE: one.name, **one.groups}, one.cells, one.calibration) for one in found.images))
    write_rows(table, list(summary(found)))
    drawn = figure(found, np.random.default_rng(0))
    write_bytes(chart, png(drawn))
    write_bytes(report, utf8(page(found, drawn, out.name).html()))
    print("".join(f"{note}\n" for note in found.notes), end="")
    length = "micrometers" if found.unit == "um" else "pixels (--pixel-size for micrometers)"
    told = f"{counted(found.count, 'cell')} in {counted(len(found.images), 'image')}, lengths in {length}"
    print(f"{out}: {told}; neighbours within {found.radius:g} {found.unit}")
    print(f"{table}: medians and spread; {report} and {chart.name}: figures")
    return out
