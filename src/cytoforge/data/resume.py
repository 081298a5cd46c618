"""When unfinished work goes on: only under the settings it was begun with."""

from collections.abc import Mapping
from typing import Any


def differences(former: Any, wanted: Any, name: str = "") -> list[str]:
    """Name the settings that differ between two JSON-able structures, innermost names alone, in alphabetical order."""
    if isinstance(former, Mapping) and isinstance(wanted, Mapping):
        keys = former.keys() | wanted.keys()
        return sorted({found for key in keys for found in differences(former.get(key), wanted.get(key), str(key))})
    plain = [list(value) if isinstance(value, tuple) else value for value in (former, wanted)]
    return [] if plain[0] == plain[1] else [name]
