"""Declaration and checking of settings: dataclasses whose error messages name flags, and early checks of paths."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass, rebuild_dataclass
from pydantic.fields import FieldInfo
from tyro.conf import Positional, Suppress, arg

from cytoforge.errors import UserError
from cytoforge.places import ABSENT, PRESENT, RUN, START, UNFINISHED, Place

Fraction = Annotated[float, Field(ge=0, le=1, examples=[0.5])]
Count = Annotated[int, Field(ge=1)]
Length = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False, examples=[0.65])]
"""micrometers of a pixel, or how far neighbours are"""
Interval = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False, examples=[15])]
"""minutes"""
Size = Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$", examples=["512x768"])]
RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_pattern_mismatch")
BOUNDS = {"gt": "above", "ge": "at least", "le": "at most", "lt": "below"}


Present = Annotated[Path, PRESENT]
RunFolder = Annotated[Path, RUN]
StartFolder = Annotated[Path, START]
ResultFolder = Annotated[Path, UNFINISHED]
NewFile = Annotated[Path, ABSENT]
Kind = TypeVar("Kind")


def completed(kind: Any, arguments: list[str]) -> list[str]:
    """Return the arguments of a command; where only the words after the first are given, its default comes before them.

    Flags of a command whose first word has a default take one value, or none if they are bool.
    """
    hints = get_type_hints(kind, include_extras=True)
    first, *others = [name for name in kind.__dataclass_fields__ if Positional in get_args(hints[name])] or [""]
    if not others or kind.__dataclass_fields__[first].default is dataclasses.MISSING:
        return arguments
    valued = {f"--{name}" for name, hint in hints.items() if hint is not bool}
    words = [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if not argument.startswith("-") and before.replace("_", "-") not in valued
    ]
    return [kind.__dataclass_fields__[first].default, *arguments] if len(words) == len(others) else arguments


def check_places(settings: Any) -> None:
    """Check the paths of a command's settings, without reading data; raises UserError when one is wrong."""
    overwrite = getattr(settings, "overwrite", False)
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        given = getattr(settings, name)
        for place in _declared(hint, Place):
            for path in given if isinstance(given, tuple) else () if given is None else (given,):
                place.check(path, overwrite=overwrite)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def command(kind: type) -> Any:
    """Make a frozen, validated dataclass whose errors are one sentence in the names of the flags.

    Raises UserError with all problems at once when it is built from wrong values.
    """
    for field, hint in kind.__annotations__.items():
        if Positional in get_args(hint):  # The usage line then shows the name, RUN, instead of the type, PATH.
            name = field.upper()
            several = get_origin(get_args(hint)[0]) is tuple
            kind.__annotations__[field] = Annotated[hint, arg(metavar=f"{name} [{name} ...]" if several else name)]
        elif (value := _optional(hint)) is not None:  # Help then shows --steps INT instead of {None}|INT.
            kind.__annotations__[field] = Annotated[hint, arg(metavar=value, help_behavior_hint=_default)]
    checked = dataclass(frozen=True, config=ConfigDict(extra="forbid", defer_build=True))(kind)
    # Help tells fields in this order: words, and a command's own flags, then those that it shares (by keyword only).
    shared = {
        name
        for name, one in checked.__dataclass_fields__.items()
        if one.kw_only and Positional not in get_args(one.type)
    }
    checked.__dataclass_fields__ = dict(
        sorted(checked.__dataclass_fields__.items(), key=lambda item: item[0] in shared)
    )
    build: Callable[..., None] = checked.__init__

    @wraps(build)
    def __init__(self: object, *args: object, **values: object) -> None:
        if rebuild_dataclass(checked):  # at the first use: of all commands' settings a process uses one
            checked.__init__ = __init__  # type: ignore[method-assign]  # which the former has replaced
        try:
            build(self, *args, **values)
        except ValidationError as error:
            raise UserError("; ".join(_problem(checked, details) for details in error.errors())) from None

    checked.__init__ = __init__  # type: ignore[method-assign]
    return checked


def _optional(hint: Any) -> str | None:
    """Return how help names the values of a type that also allows None, such as INT or {a,b}; None for other types."""
    kinds = get_args(_bare(hint))
    others = [_bare(kind) for kind in kinds if kind is not NoneType]
    if len(others) != 1 or NoneType not in kinds:
        return None
    choices = ",".join(map(str, get_args(others[0])))
    return f"{{{choices}}}" if get_origin(others[0]) is Literal else others[0].__name__.upper()


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _default(value: str) -> str:
    return "" if value == "None" else f"(default: {value})"


BASIC = {"data", "out", "minutes", "method", "start", "validation", "limit", "seed", "overwrite", "device"}
"""flags that --help shows of a command with many; --help-all shows the others, too"""
MANY = 20
RARE = {"part", "cluster", "tile", "views", "precision", "threads"}
"""flags that --help shows of no command"""


def brief(kind: Any) -> tuple[Any, int]:
    """Return the settings of a command with all but its basic flags hidden from help, and how many are hidden.

    A command with few flags hides only the rare ones.
    """
    fields = kind.__dataclass_fields__
    hidden = [name for name in fields if (name not in BASIC if len(fields) >= MANY else name in RARE)]
    if not hidden:
        return kind, 0
    hints = get_type_hints(kind, include_extras=True)
    given = [name for name in hidden if fields[name].default is not dataclasses.MISSING]
    content: dict[str, Any] = {
        name: dataclasses.field(default=fields[name].default, kw_only=fields[name].kw_only) for name in given
    }
    content["__annotations__"] = {name: Annotated[hints[name], Suppress] for name in hidden}
    return command(type(kind.__name__, (kind,), {"__doc__": kind.__doc__, **content})), len(hidden)


def flags(kind: Any) -> list[str]:
    """Return the flags of a command's settings."""
    found = ["--help", "--help-all"]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in kind.__dataclass_fields__ or Positional in get_args(hint):
            continue
        renamed = [remark.name for remark in get_args(hint) if isinstance(getattr(remark, "name", None), str)]
        flag = (*renamed, name)[0].replace("_", "-")
        found += [f"--{flag}", *([f"--no-{flag}"] if hint is bool else [])]
    return found


def _problem(kind: type, details: Any) -> str:
    """Describe in plain words the problem that pydantic found in a value."""
    sentence = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return str(sentence)
    name = str(details["loc"][0])
    if details["type"] == "too_short":
        return f"--{name.replace('_', '-')}: name at least one"
    sentence = _wanted(kind, name) if details["type"] in RANGES else f"{sentence[0].lower()}{sentence[1:]}"
    return f"--{name.replace('_', '-')} {_shown(details['input'])}: {sentence}"


def _wanted(kind: Any, name: str) -> str:
    """Say which values a field with declared bounds or a declared pattern takes, with an example."""
    declared = list(_declared(get_type_hints(kind, include_extras=True)[name], FieldInfo))
    bounds = [
        f"{words} {getattr(limit, bound):g}"
        for field in declared
        for limit in field.metadata
        for bound, words in BOUNDS.items()
        if hasattr(limit, bound)
    ]
    default = kind.__dataclass_fields__[name].default
    examples = [_shown(example) for field in declared for example in field.examples or []]
    if isinstance(default, int | float):
        examples.insert(0, _shown(default))
    if not bounds:
        return f"must be written like {examples[0]}"
    example = f", such as {examples[0]}" if examples else ""
    return f"must be {' and '.join(bounds)}{example}"


def _declared(hint: Any, kind: type[Kind]) -> Iterator[Kind]:
    """Yield all annotations of type `kind` from any depth of a type hint."""
    for part in get_args(hint):
        if isinstance(part, kind):
            yield part
        else:
            yield from _declared(part, kind)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
