"""Files of microscopes that only other packages read: Nikon's .nd2, Zeiss's .czi and Leica's .lif, through bioio."""

import importlib
from pathlib import Path
from typing import Any

from cytoforge.errors import UserError
from cytoforge.extras import require

READERS = {".nd2": "bioio_nd2", ".czi": "bioio_czi", ".lif": "bioio_lif"}


def open_microscope(path: Path) -> Any:
    """Open a file of a microscope as a bioio.BioImage.

    Its arrays have the axes of `dims.order`, T, C, Z, Y, X and S for the samples of colours. Raises UserError without
    the packages of the extra `microscopes` that read it, and for several scenes.
    """
    package = READERS[path.suffix.lower()]
    require(str(path), "bioio", package, otherwise="export the file as TIFF (in Fiji: File > Save As > Tiff)")
    reader = importlib.import_module(package).Reader
    bioio = importlib.import_module("bioio")
    image = bioio.BioImage(path, reader=reader)
    if len(image.scenes) > 1:
        raise UserError(
            f"{path}: holds {len(image.scenes)} scenes, and no order in time is known of them; save each as a file of "
            "its own"
        )
    return image
