"""How painted frames are recorded: with the noise of the training movie's camera, in its grey values."""

from collections.abc import Sequence
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

CAMERA = 3  # purpose of the random numbers of noise, apart from those that stages of painting draw


@dataclass(frozen=True)
class Recorder:
    """Records painted frames; their noise is drawn anew for each frame, from seed, sequence and number of the frame."""

    noise: tuple[Noise, ...]
    """of each channel; nothing for frames without noise"""
    limits: tuple[float, float]
    """grey values of -1 and 1"""
    pixels: np.dtype[Any]
    seed: int

    @classmethod
    def of(cls, settings: RunConfig, run: Path, channels: int, *, seed: int, noise: bool) -> "Recorder":
        """Return the recorder of a run that paints so many channels; `noise` says whether to add that of its camera.

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
        return cls(known, limits, pixels, seed)

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
