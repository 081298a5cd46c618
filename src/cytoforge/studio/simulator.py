"""A simulated mask as the page's sliders say, shown at once, and what a generator paints on it.

Both are what `cytoforge simulate masks` and `generate images` write as their first mask and image with the same
settings, except that of large images a window is shown.
"""

import base64
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.instances import relabel
from cytoforge.data.images import encode_image, factor_of
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.image_generator import ImageGenerator, item_draw
from cytoforge.inference.painting import grey
from cytoforge.report import colour_labels
from cytoforge.simulated.masks import Annotated, mask_name, simulated_mask
from cytoforge.simulated.specification import MaskSimulation
from cytoforge.simulation.masks import VARIATION, Layout
from cytoforge.studio.answers import numeric
from cytoforge.studio.results import told_of_training
from cytoforge.studio.workspace import Workspace, natural

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
MOST = 500  # masks that are simulated at once
WINDOW = 384  # px, greatest side that is shown
RANGES = {"density": (0.01, 0.7), "magnification": (0.25, 4.0), "touching": (0.0, 1.0), "variation": (0.0, VARIATION)}
"""What sliders go from and to"""
GAP = 20  # px, greatest gap between cells
SEEDS = 10**6


@dataclass(frozen=True)
class Chosen:
    """What the sliders say, in the words of `cytoforge simulate masks`; `scale` is that of the generator."""

    density: float
    magnification: float
    touching: float
    variation: float
    layout: Layout
    gap: int
    seed: int
    scale: float = 1.0

    @classmethod
    def of(cls, wanted: dict[str, Any], scale: float) -> Self:
        """Take what the page sends; raises ValueError for what no slider gives."""
        given = {name: float(numeric(wanted.get(name))) for name in RANGES}
        for name, (low, high) in RANGES.items():
            if not low <= given[name] <= high:
                raise ValueError(f"{name} goes from {low:g} to {high:g}, not {given[name]:g}")
        layout: Layout | None = next((one for one in LAYOUTS if one == wanted.get("layout")), None)
        if layout is None:
            raise ValueError(f"there is no layout {wanted.get('layout')!r:.40}")
        gap, seed = (int(numeric(wanted.get(name))) for name in ("gap", "seed"))
        if not 0 <= gap <= GAP or not 0 <= seed < SEEDS:
            raise ValueError(f"gap goes from 0 to {GAP} and seed from 0 to {SEEDS}, not {gap} and {seed}")
        return cls(**given, layout=layout, gap=gap, seed=seed, scale=scale)

    def flags(self) -> list[str]:
        """Return the flags of `cytoforge simulate masks`."""
        numbers = ("density", "magnification", "touching", "variation", "gap", "seed", "scale")
        found = ["--layout", self.layout]
        for name in numbers:
            found += [f"--{name}", f"{getattr(self, name):g}"]
        return found


class Simulator:
    """Shows simulated masks and paintings for one workspace. Thread-safe; one mask and one painting at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._simulating, self._painting = threading.Lock(), threading.Lock()
        self._annotated: tuple[object, Annotated] | None = None
        self._painter: tuple[object, ImageGenerator] | None = None

    def facts(self) -> dict[str, Any]:
        """Return the generators that can paint, where the sliders begin, and how far they go."""
        with self._simulating:
            measures = [one for one in self._masks(1.0).measures if one.count]
        coverage, touching = (
            float(np.median([getattr(one, name) for one in measures])) for name in ("coverage", "touching")
        )
        low, high = RANGES["density"]
        begin = {"density": min(max(coverage, low), high), "touching": touching, "magnification": 1, "variation": 1}
        counts = sorted(one.count for one in measures)
        yours = {"masks": len(measures), "cells": [counts[0], counts[-1]], "coverage": coverage}
        painters = [_described(path) for path in painters_of(self.workspace)]
        return {"begin": begin, "ranges": RANGES, "gap": GAP, "yours": yours, "painters": painters}

    def mask(self, chosen: Chosen) -> dict[str, Any]:
        """Return a simulated mask as a picture, with its size, and the number and share of its cells."""
        labels = self._simulated(chosen)
        picture = encode_image(Path("mask.png"), colour_labels(labels).transpose(2, 0, 1))
        height, width = labels.shape
        cells, coverage = int(labels.max()), np.count_nonzero(labels) / labels.size
        return {"picture": _uri(picture), "width": width, "height": height, "cells": cells, "coverage": coverage}

    def painting(self, chosen: Chosen, painter: str) -> dict[str, Any]:
        """Return what a generator paints on the mask, as a picture."""
        run = painter_of(self.workspace, painter)
        labels = relabel(self._simulated(chosen))
        with self._painting:
            generator = self._loaded(run)
            image = grey(generator.paint_drawn(labels, item_draw(chosen.seed, mask_name(0), 1)))
        shown = image if len(image) == 3 else image[:1]
        picture = encode_image(Path("painting.png"), (shown >> 8).astype(np.uint8))
        return {"picture": _uri(picture), "width": labels.shape[1], "height": labels.shape[0]}

    def _simulated(self, chosen: Chosen) -> NDArray[np.int32]:
        wanted = MaskSimulation(out=self.workspace.hidden, like=self.workspace.path, **asdict(chosen))
        with self._simulating:
            data = self._masks(chosen.scale)
            height, width = data.model(np.random.default_rng([chosen.seed, 0])).size
            if max(height, width) > WINDOW:
                wanted = replace(wanted, size=f"{min(height, WINDOW)}x{min(width, WINDOW)}")
            return simulated_mask(wanted, data, 0)

    def _masks(self, scale: float) -> Annotated:
        """Return the finished masks at a scale; they are measured anew when one has changed."""
        self.workspace.save()
        files = sorted((self.workspace.path / "masks").iterdir())
        if not self.workspace.done():
            raise UserError("no image is finished yet; cells are simulated after those of finished images")
        state = scale, [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        if self._annotated is None or self._annotated[0] != state:
            self._annotated = state, Annotated(self.workspace.path, (), scale)
        return self._annotated[1]

    def _loaded(self, run: Path) -> ImageGenerator:
        state = run, (run / "provenance.json").stat().st_mtime_ns
        if self._painter is None or self._painter[0] != state:
            self._painter = state, ImageGenerator.load(run)
        return self._painter[1]


def painters_of(workspace: Workspace) -> Iterator[Path]:
    """Yield the runs in the folder that hold a finished image generator, the newest first."""
    for path in sorted(workspace.path.glob("*/config.json"), key=lambda file: natural(file.parent.name), reverse=True):
        try:
            run = Run.open(path.parent)
            if run.finished and "generator" in run.settings.networks:
                yield run.path
        except UserError:
            continue


def painter_of(workspace: Workspace, name: str) -> Path:
    """Return the run of a generator; raises UserError when there is none of this name."""
    run = next((path for path in painters_of(workspace) if path.name == name), None)
    if run is None:
        raise UserError(f"there is no image generator {name!r:.60}; train one")
    return run


def scale_of(workspace: Workspace, painter: str | None) -> float:
    """Return the scale at which masks are simulated that a generator is to paint on; 1 without one."""
    return 1.0 if painter is None else factor_of(Run.open(painter_of(workspace, painter)).settings.scaling)


def _described(path: Path) -> dict[str, Any]:
    run = Run.open(path)
    return {"name": path.name, "told": told_of_training(run), "judged": run.provenance.get("judgement") or {}}


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
