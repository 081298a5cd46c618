"""Dictionaries of arrays that NumPy saved as .npy, read without unpickling: nothing in the file can run.

Such a file is a NumPy header and a pickle: a program for a small stack machine, whose instructions can call any
function. This reader knows the few instructions that build dictionaries, lists, numbers, texts and arrays, takes the
names of functions for mere words, and of these knows how NumPy puts an array together. It refuses everything else.
"""

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from cytoforge.data.files import check_readable
from cytoforge.data.formats import MAX_BYTES
from cytoforge.errors import UserError

MOST = 2_000_000  # instructions of a file
TYPE = re.compile(r"[biuf][1-8]|O8?")  # what an array may hold
ARRAYS = tuple(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
SCALARS = tuple(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
VALUES = {  # instructions that put their argument on the stack
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


@dataclass(frozen=True)
class _Name:
    """The name of a function or class, which is never looked up."""

    name: str


@dataclass
class _Type:
    """A type of values that is being put together."""

    code: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.code}")


@dataclass
class _Array:
    """An array that is being put together; several places may hold the same one."""

    value: Any = None


@dataclass
class _Machine:
    """The stack, and what was put aside for later."""

    stack: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)

    def above_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        place = len(self.stack) - 1 - next(k for k, value in enumerate(reversed(self.stack)) if value is MARK)
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def do(self, name: str, argument: Any) -> None:
        """Follow one instruction; raises ValueError for one that is not known or does not fit."""
        stack = self.stack
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name]())
        elif name in TUPLES:
            taken = stack[-TUPLES[name] :]
            del stack[-TUPLES[name] :]
            stack.append(tuple(taken))
        elif name == "MARK":
            stack.append(MARK)
        elif name == "TUPLE":
            stack.append(tuple(self.above_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self.above_mark()
            _of(list, stack[-1]).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self.above_mark()
            _of(dict, stack[-1]).update(zip(map(_key, pairs[::2]), pairs[1::2], strict=True))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memory[len(self.memory) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif name == "GLOBAL":
            stack.append(_Name(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            word, module = _of(str, stack.pop()), _of(str, stack.pop())
            stack.append(_Name(f"{module}.{word}"))
        elif name == "REDUCE":
            arguments, function = _of(tuple, stack.pop()), _of(_Name, stack.pop())
            stack.append(_begun(function.name, arguments))
        elif name == "BUILD":
            state = _of(tuple, stack.pop())
            _completed(stack[-1], state)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the instruction {name}")


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _key(value: Any) -> Any:
    if type(value) not in (str, int, float, bool):
        raise ValueError(f"a key that is a {type(value).__name__}")
    return value


def _begun(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call stands for, of those by which NumPy puts arrays, types and single numbers together."""
    if name in ARRAYS and arguments[:1] == (_Name("numpy.ndarray"),):
        return _Array()
    if name == "numpy.dtype" and arguments and type(arguments[0]) is str and TYPE.fullmatch(arguments[0]):
        return _Type(arguments[0])
    if name in SCALARS and len(arguments) == 2 and type(arguments[0]) is _Type and type(arguments[1]) is bytes:
        return _numbers(arguments[0].dtype(), (), arguments[1])[()].item()
    raise ValueError(f"a call of {name:.60}")


def _completed(value: Any, state: tuple[Any, ...]) -> None:
    if type(value) is _Type and len(state) >= 2 and state[1] in ("<", ">", "|", "="):
        if any(part is not None for part in state[2:5]):
            raise ValueError("a type of several fields")
        value.order = state[1]
    elif type(value) is _Array and len(state) == 5 and type(state[1]) is tuple and type(state[2]) is _Type:
        _, shape, kind, fortran, content = state
        if not all(type(side) is int and 0 <= side <= MAX_BYTES for side in shape):
            raise ValueError("an array of no valid size")
        if kind.dtype().kind != "O":
            value.value = _numbers(kind.dtype(), shape[::-1] if fortran else shape, content)
            value.value = value.value.T if fortran else value.value
        elif shape == ():
            (value.value,) = _of(list, content)
        else:
            value.value = _of(list, content)  # of arrays of different sizes: not looked into
    else:
        raise ValueError(f"the state of a {type(value).__name__}")


def _numbers(kind: np.dtype[Any], shape: tuple[int, ...], content: Any) -> np.ndarray:
    """Return bytes as an array, without copying; raises ValueError unless there are as many as the shape needs."""
    if kind.kind == "O":
        raise ValueError("a single object")
    return np.frombuffer(_of(bytes, content), kind).reshape(shape)


def read_dict(path: Path) -> dict[Any, Any]:
    """Read the dictionary in a .npy file: texts, numbers, lists, tuples, dictionaries, and arrays of numbers.

    Raises UserError for a file that holds anything else, is damaged, or is larger than 4 GiB.
    """
    check_readable(path, "give the file that Cellpose saved")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: is larger than {MAX_BYTES / 2**30:.0f} GiB; crop the image into parts")
    try:
        return _dictionary(path.read_bytes())
    except UserError:
        raise
    except Exception as error:  # of damaged bytes: ValueError, IndexError, KeyError, StopIteration ...
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise UserError(
            f"{path}: holds something else than arrays, numbers and texts, or is damaged ({reason:.100}), and is not "
            "opened, as it could run programs; save the masks as PNG or TIFF in Cellpose"
        ) from error


def _dictionary(content: bytes) -> dict[Any, Any]:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = header(stream)
    if kind.kind != "O" or shape != ():
        raise ValueError(f"an array {kind} {shape}")
    machine, count = _Machine(), 0
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MOST:
            raise ValueError(f"more than {MOST} instructions")
        machine.do(instruction.name, argument)
    (result,) = machine.stack
    return {name: _plain(value) for name, value in _of(dict, _plain(result)).items()}


def _plain(value: Any) -> Any:
    return value.value if type(value) is _Array else value
