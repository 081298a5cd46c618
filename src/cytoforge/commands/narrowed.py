"""Convert the settings of a command to the specification that a lower layer takes."""

import dataclasses
from typing import Any, TypeVar

from cytoforge.data.view import View
from cytoforge.engine import Engine, Part
from cytoforge.settings import Division, Reading

Specification = TypeVar("Specification")


def view_of(settings: Reading) -> View:
    """Return what is read of image files."""
    given = settings.channels.split(",") if settings.channels else [settings.channel] if settings.channel else []
    return View(tuple(name.strip() for name in given if name.strip()), settings.project)


def engine_of(settings: Division) -> Engine:
    """Return how the work of a command is divided, and on what it computes."""
    part = None if settings.part is None else Part.parse(settings.part)
    device, threads = (getattr(settings, name, None) for name in ("device", "threads"))
    return Engine(part, settings.cluster, device or "auto", threads)


def size(written: str | None) -> tuple[int, int] | None:
    """Return the height and width that are written like 512x768."""
    if written is None:
        return None
    height, width = map(int, written.split("x"))
    return height, width


def narrowed(kind: type[Specification], settings: Any, **own: Any) -> Specification:
    """Return a specification (a dataclass): fields in `own` take these values, others those in `settings`."""
    names = [entry.name for entry in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(settings, name) for name in names if hasattr(settings, name)} | own)
