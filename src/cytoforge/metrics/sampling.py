"""Which of many are measured, where all would take too long."""

import numpy as np


def evenly(length: int, count: int) -> list[int]:
    """Return at most `count` of `length` places, from 0, evenly spread from the first to the last, in order."""
    places: list[int] = np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int)).tolist()
    return places
