"""How painted frames are recorded: with the contrasts, camera noise and grey values of the training movie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.run_config import RunConfig
from cytoforge.errors import UserError
from cytoforge.inference.painting import WHITE
from cytoforge.inference.tiling import Floats
from cytoforge.progress import counted
from cytoforge.simulation.camera import Noise, noisy
from cytoforge.simulation.contrast import QUANTILES, rebalanced

CAMERA, CELLS = 3, 4  # purposes of random numbers, apart from those that stages of painting draw
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Recorder:
    """Records painted frames.

    A cell's contrast is drawn once for all that descend from one cell, from seed, sequence and number of that cell;
    noise is drawn anew for each frame, from seed, sequence and number of the frame.
    """

    noise: tuple[Noise, ...]
    """of each channel; nothing for frames without noise"""
    contrasts: tuple[float, ...]
    """`simulation.contrast.QUANTILES` of the contrasts of cells; nothing for cells that stay as they are painted"""
    limits: tuple[float, float]
    """grey values of -1 and 1"""
    pixels: np.dtype[Any]
    seed: int

    @classmethod
    def of(cls, settings: RunConfig, run: Path, channels: int, *, seed: int, noise: bool, contrast: bool) -> "Recorder":
        """Return the recorder of a run that paints so many channels; `noise` and `contrast` say what it applies.

        Frames of one channel get the grey values and the type of numbers of the first sequence that the run learned
        from; those of several channels, and of runs that do not tell, the whole range of 16 bits. Raises UserError
        where config.json tells the noise of another number of channels.
        """
        known = tuple(Noise(**one.model_dump()) for one in settings.noise) if noise else ()
        if known and len(known) != channels:
            raise UserError(
                f"{run / 'config.json'}: has the noise of {counted(len(known), 'channel')} for frames of {channels}; "
                "restore the file from a copy, or train again"
            )
        limits, pixels = (0.0, float(WHITE)), np.dtype(np.uint16)
        found: Sequence[Sequence[float]] = next(iter(settings.limits.values()), ())
        if settings.pixels is not None and channels == len(found) == 1 and found[0][0] < found[0][1]:
            limits, pixels = (found[0][0], found[0][1]), np.dtype(settings.pixels)
        told = settings.contrasts if contrast and len(settings.contrasts) == len(QUANTILES) else ()
        return cls(known, tuple(told), limits, pixels, seed)

    def cast(
        self, frame: Floats, ground: Floats | None, labels: Labels, sequence: str, founders: Mapping[int, int]
    ) -> Floats:
        """Return a frame (C, H, W) in [-1, 1] on labels (H, W) whose cells have contrasts of the training movie.

        `ground` is what was painted on, None where that is not known: then cells stay as they are. `founders` tells of
        each cell the one that it descends from; others descend from none.
        """
        if ground is None or not self.contrasts:
            return frame
        wanted = {}
        for cell in np.setdiff1d(labels, [0]).tolist():
            place = np.random.default_rng([self.seed, CELLS, founders.get(cell, cell), *sequence.encode()]).random()
            wanted[cell] = float(np.interp(place, QUANTILES, self.contrasts))
        return rebalanced(frame, ground, labels, wanted).clip(-1, 1)

    def exposed(self, frame: Floats, sequence: str, number: int) -> Floats:
        """Return a frame (C, H, W) in [-1, 1] with the noise of the camera, which may go beyond -1 and 1."""
        if not self.noise:
            return frame
        return noisy(frame, self.noise, np.random.default_rng([self.seed, CAMERA, number, *sequence.encode()]))

    def stored(self, frame: Floats) -> NDArray[Any]:
        """Return a frame (C, H, W), in which -1 and 1 are the limits, as grey values of the type `pixels`."""
        low, high = self.limits
        values = (frame.astype(np.float64) + 1) * ((high - low) / 2) + low
        if self.pixels.kind == "f":
            return values.astype(self.pixels)
        return values.round().clip(0, np.iinfo(self.pixels).max).astype(self.pixels)

    def record(self, frame: Floats, sequence: str, number: int) -> NDArray[Any]:
        """Return frame `number` of a sequence, (C, H, W) in [-1, 1], as it is written."""
        return self.stored(self.exposed(frame, sequence, number))
