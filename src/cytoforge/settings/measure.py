"""Settings of `cytoforge measure`."""

import re
from pathlib import Path

from pydantic import model_validator
from tyro.conf import Positional, UseAppendAction

from cytoforge.settings.base import Length, Present, command
from cytoforge.settings.reading import Reading


@command
class Measure(Reading):
    """Measure every cell of images: a table of size, shape, grey values, neighbours and density, and a summary.

    IMAGES is a dataset, a folder of images or one file, and MASKS label images of the same names, such as what segment
    wrote. The table cells.csv has a row for each cell, cells-summary.csv beside it one for each group and measure, and
    cells.html and cells-summary.png show both. Lengths are in micrometers where the size of a pixel is known, else in
    pixels.

    Examples:
      cytoforge measure IMAGES MASKS --out cells.csv
      cytoforge measure IMAGES MASKS --out cells.csv --pixel-size 0.65
      cytoforge measure IMAGES MASKS --out cells.csv --groups "(?P<drug>[a-z]+)_(?P<well>[A-H]\\d+)"
    """

    images: Positional[Present]
    """what to measure"""
    masks: Positional[Present]
    """label images of the cells: a dataset, a folder of masks or one file"""
    out: Path
    """table to write, such as cells.csv"""
    pixel_size: Length | None = None
    """micrometers; without it that of dataset.json, else what the files state (ImageJ, OME-TIFF, OME-Zarr)"""
    groups: str | None = None
    """regular expression whose named groups become columns, from the names of the images: "(?P<drug>[a-z]+)_" """
    radius: Length | None = None
    """how far neighbours are, in the unit of the table; five median diameters of the cells without it"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    overwrite: bool = False
    """replace an existing table, its summary and its figures"""

    @model_validator(mode="after")
    def _consistent(self) -> "Measure":
        if self.out.suffix.lower() != ".csv":
            raise ValueError(f"--out {self.out}: is a table; give a name such as {self.out.name or 'cells'}.csv")
        if self.groups is not None:
            try:
                named = re.compile(self.groups).groupindex
            except re.error as error:
                raise ValueError(f"--groups {self.groups}: is no regular expression ({error})") from None
            if not named:
                raise ValueError(f'--groups {self.groups}: names no group; write it like "(?P<drug>[a-z]+)_"')
        return self
