"""Formats of other programs, one module for each."""

from pathlib import Path

from cytoforge.data.ngff import is_zarr


def other_format(path: Path) -> str | None:
    """Say which program's annotations a folder holds and which command imports them; None where it holds none."""
    from cytoforge.data.interchange.foreign import hint  # reads movies, too, which takes a while to load

    return hint(path) if path.is_dir() and not is_zarr(path) else None
