"""How many frames a second the linkers of `track` take, of 1,000 cells a frame.

    python benchmarks/linking.py

Where all cells stay, laptrack has no gaps or divisions to look for; the movie with holes is there for these. Writes
linking.json beside this file. Time is that of the processor, so that other programs do not count.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from cytoforge.inference.tracker import Tracker
from cytoforge.tracking.linking import Frame, Labels, LapTrackLinker, Linker, OverlapLinker, assemble, numbered
from matching import discs
from measuring import keep, provenance

SIDE, CELLS, FRAMES, REPEATS, GOAL = 1024, 1000, 10, 6, 20.0
MISSING = 50
STEP = 2.0
"""pixels by which a cell strays from its place, normal, in each direction"""


def pictures() -> list[Labels]:
    """Label images of cells that tremble about their places, 28 px wide."""
    generator = np.random.default_rng(0)
    return [discs(SIDE, SIDE, CELLS, STEP, generator) for _ in range(FRAMES)]


def with_holes(movie: list[Labels]) -> list[Labels]:
    """The movie without one in MISSING cells of each frame: tracks end, begin, and look like divisions."""
    generator = np.random.default_rng(1)
    kept = [np.arange(labels.max() + 1) * (generator.random(labels.max() + 1) >= 1 / MISSING) for labels in movie]
    return [keep.astype(np.int32)[labels] for keep, labels in zip(kept, movie, strict=True)]


def measure(name: str, linker: Linker, movie: list[Labels], goal: float | None = GOAL) -> dict[str, Any]:
    """Frames a second of processor time for numbering, linking and assembling; the median of some repeats."""

    def frames() -> Iterator[Frame]:
        return (Frame(numbered(labels)) for labels in movie)

    spent = []
    for _ in range(REPEATS + 1):
        begin = time.process_time()
        links = linker(frames())
        tracking = assemble(links)
        spent.append(time.process_time() - begin)
    rate = FRAMES / float(np.median(spent[1:]))
    return {
        "linker": name,
        "frames_per_second": round(rate, 1),
        "tracks": len(tracking.tracks),
        "links": len(links.pairs),
        "goal_frames_per_second": goal,
        "goals_met": goal is None or rate >= goal,
    }


def main() -> int:
    movie = pictures()
    results = [
        measure("overlap", OverlapLinker(), movie),
        measure("laptrack, no gaps", LapTrackLinker(gap=0), movie),
        measure("laptrack", LapTrackLinker(), movie),
        measure("laptrack, of each frame 2 % of the cells missing", LapTrackLinker(), with_holes(movie), None),
        measure(
            "base, of each frame 2 % of the cells missing",
            Tracker.load("base", threads=1).linker,
            with_holes(movie),
            10,
        ),
    ]
    told = provenance("python benchmarks/linking.py", ("numpy", "scipy", "laptrack"), cores=os.cpu_count())
    setting = {"height": SIDE, "width": SIDE, "cells": CELLS, "frames": FRAMES, "repeats": REPEATS}
    keep(__file__, {"provenance": told, "setting": setting, "results": results})
    return 0 if all(result["goals_met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
