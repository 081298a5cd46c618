"""What is read of image files: which channels, how a stack of planes becomes one plane, and as how many channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.errors import UserError
from cytoforge.progress import counted

COLOURS = ("red", "green", "blue")  # names of the channels of a colour picture


@dataclass(frozen=True)
class View:
    """A choice of channels and planes of image files; by default all channels of files that hold one plane."""

    channels: tuple[str, ...] = ()
    """names, whatever their case, or numbers from 1, in the order in which they are wanted; all if empty"""
    project: str | None = None
    """how a stack in depth becomes one plane: its max, its mean, or the number of a slice from 1"""
    count: int | None = None
    """1: three equal channels are read as one; 3: one channel is read as three equal ones; None: as stored"""

    @property
    def told(self) -> dict[str, Any]:
        """What was chosen, as it is stored in JSON; empty if nothing was."""
        chosen: dict[str, Any] = {"channels": list(self.channels), "project": self.project}
        return {name: value for name, value in chosen.items() if value}

    @property
    def reduces(self) -> bool:
        """Tell whether all planes of a stack are read for one."""
        return self.project in ("max", "mean")

    def slice_of(self, path: Path, depth: int) -> int | None:
        """Return the index of the chosen plane among `depth`; None for a projection, or without a choice.

        Raises UserError where there is no such plane.
        """
        if self.project is None or self.reduces:
            return None
        number = int(self.project)
        if not 1 <= number <= depth:
            raise UserError(f"{path}: has {counted(depth, 'slice')}, so --project {number} is none; slices begin at 1")
        return number - 1

    def projected(self, stack: np.ndarray, axis: int) -> np.ndarray:
        """Return the max or mean of a stack along an axis, which keeps length 1; whole numbers stay whole (rounded)."""
        if self.project == "max":
            return np.asarray(stack.max(axis=axis, keepdims=True))
        mean = stack.mean(axis=axis, keepdims=True, dtype=np.float64)
        plane: np.ndarray = (np.rint(mean) if stack.dtype.kind in "iu" else mean).astype(stack.dtype)
        return plane

    def places(self, path: Path, names: Sequence[str], count: int) -> list[int]:
        """Return the indices of the chosen channels among `count`, of which some or none have names.

        Raises UserError where there is no such channel, naming those that there are.
        """
        known = [name.casefold() for name in names]
        found = []
        for wanted in self.channels:
            if wanted.casefold() in known:
                found.append(known.index(wanted.casefold()))
            elif wanted.isdecimal() and 1 <= int(wanted) <= count:
                found.append(int(wanted) - 1)
            else:
                named = ", ".join(name for name in names if name)
                there = f"{counted(count, 'channel')}" + (f" ({named})" if named else "")
                raise UserError(f"{path}: has {there}, so {wanted!r} is none; give a name or a number from 1")
        return found

    def counted(self, channels: np.ndarray, axis: int) -> np.ndarray:
        """Return an array with `count` channels along an axis; raises ValueError unless it has 1 or 3."""
        have = channels.shape[axis]
        if self.count in (None, have):
            return channels
        if self.count == 3 and have == 1:
            return np.repeat(channels, 3, axis)
        if self.count == 1 and have == 3:
            return channels.take([0], axis)
        raise ValueError(f"{have} channels cannot be read as {self.count}")


ALL = View()


def is_grey(image: np.ndarray[Any, Any], axis: int = 0) -> bool:
    """Tell whether an image has one channel, or three equal ones, along an axis."""
    first = image.take([0], axis)
    return image.shape[axis] == 1 or (image.shape[axis] == 3 and bool((image == first).all()))
