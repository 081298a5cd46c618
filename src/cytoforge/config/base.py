"""How settings are declared and checked: dataclasses whose errors speak of flags."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Annotated, Any, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from cytoforge.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1, examples=[0.5])]
Count = Annotated[int, Field(ge=1)]
RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_pattern_mismatch")
BOUNDS = {"gt": "above", "ge": "at least", "le": "at most", "lt": "below"}


@dataclass_transform(frozen_default=True)
def command(kind: type) -> Any:
    """Make a frozen, validated dataclass whose errors are one sentence in the names of the flags.

    Raises UserError with all problems at once when it is built from wrong values.
    """
    checked = dataclass(frozen=True, config=ConfigDict(extra="forbid"))(kind)
    build: Callable[..., None] = checked.__init__

    @wraps(build)
    def __init__(self: object, *args: object, **values: object) -> None:
        try:
            build(self, *args, **values)
        except ValidationError as error:
            raise UserError("; ".join(_problem(checked, details) for details in error.errors())) from None

    checked.__init__ = __init__  # type: ignore[method-assign]
    return checked


def _problem(kind: type, details: Any) -> str:
    """Say in a user's words what is wrong with a value, by what pydantic tells of it."""
    sentence = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return str(sentence)
    name = str(details["loc"][0])
    if details["type"] == "too_short":
        return f"--{name.replace('_', '-')}: name at least one"
    sentence = _wanted(kind, name) if details["type"] in RANGES else f"{sentence[0].lower()}{sentence[1:]}"
    return f"--{name.replace('_', '-')} {_shown(details['input'])}: {sentence}"


def _wanted(kind: Any, name: str) -> str:
    """Say what values a field takes that declares bounds or a pattern, with an example."""
    declared = list(_declared(get_type_hints(kind, include_extras=True)[name]))
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


def _declared(hint: Any) -> Iterator[FieldInfo]:
    """Yield what Field() says anywhere in a type hint."""
    for part in get_args(hint):
        if isinstance(part, FieldInfo):
            yield part
        else:
            yield from _declared(part)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
