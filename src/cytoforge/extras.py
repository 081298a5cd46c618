"""Packages that only some users need: each comes with an extra, and where it is absent one sentence names that."""

from importlib.util import find_spec

from cytoforge.errors import UserError

EXTRAS = {  # package, as it is imported: extra of pyproject.toml that brings it
    "av": "movies",
    "laptrack": "tracking",
    "geff": "tracking",
    "btrack": "btrack",
    "bioio": "microscopes",
    "bioio_nd2": "microscopes",
    "bioio_czi": "microscopes",
    "bioio_lif": "microscopes",
    "starlette": "studio",
    "uvicorn": "studio",
    "onnx": "export",
    "onnxscript": "export",
    "distributed": "dask",
    "dask_jobqueue": "dask",
    "magicgui": "napari",
    "psygnal": "napari",
    "qtpy": "napari",
}


def lacking(*packages: str) -> str | None:
    """Say which of the packages is not installed, and what brings it; None if all are. Imports none of them."""
    for package in packages:
        if find_spec(package) is None:
            return f'needs the package {package.replace("_", "-")}; run pip install "cytoforge[{EXTRAS[package]}]"'
    return None


def require(what: str, *packages: str, otherwise: str = "") -> None:
    """Raise UserError, one sentence, if `what` (a file or a flag) needs a package that is not installed.

    `otherwise` says how to do without it, such as "take overlap".
    """
    if sentence := lacking(*packages):
        raise UserError(f"{what}: {sentence}{otherwise and f', or {otherwise}'}")
