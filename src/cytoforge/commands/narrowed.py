"""Convert the settings of a command to the specification that a lower layer takes."""

import dataclasses
from typing import Any, TypeVar

Specification = TypeVar("Specification")


def narrowed(kind: type[Specification], settings: Any, **own: Any) -> Specification:
    """Return a specification (a dataclass): fields in `own` take these values, others those in `settings`."""
    names = [entry.name for entry in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(settings, name) for name in names if hasattr(settings, name)} | own)
