"""Files of microscopes that only other packages read: Nikon's .nd2, Zeiss's .czi and Leica's .lif, through bioio."""

import importlib
from pathlib import Path
from typing import Any

from cytoforge.errors import UserError

PACKAGES = {".nd2": "bioio-nd2", ".czi": "bioio-czi", ".lif": "bioio-lif"}


def open_microscope(path: Path) -> Any:
    """Open a file of a microscope as a bioio.BioImage; raises UserError without the packages, and for several scenes.

    Its arrays have the axes of `dims.order`, T, C, Z, Y, X and S for the samples of colours.
    """
    package = PACKAGES[path.suffix.lower()]
    try:
        reader = importlib.import_module(package.replace("-", "_")).Reader
        bioio = importlib.import_module("bioio")
    except ImportError as error:
        raise UserError(
            f"{path}: is read by the packages bioio and {package}, which are not installed; run pip install bioio "
            f"{package}, or export the file as TIFF (in Fiji: File > Save As > Tiff)"
        ) from error
    image = bioio.BioImage(path, reader=reader)
    if len(image.scenes) > 1:
        raise UserError(
            f"{path}: holds {len(image.scenes)} scenes, and no order in time is known of them; save each as a file of "
            "its own"
        )
    return image
