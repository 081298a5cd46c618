"""How settings are declared and checked: dataclasses whose errors speak of flags."""

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from cytoforge.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


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
            raise UserError("; ".join(map(_problem, error.errors()))) from None

    checked.__init__ = __init__  # type: ignore[method-assign]
    return checked


def _problem(details: Any) -> str:
    sentence = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return str(sentence)
    return f"--{str(details['loc'][0]).replace('_', '-')} {details['input']}: {sentence[0].lower()}{sentence[1:]}"
