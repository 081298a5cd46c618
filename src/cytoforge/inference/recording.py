"""How painted frames are recorded: with the contrasts, camera noise and grey values of the training movie."""

from collections.abc import Iterable, Mapping, Sequence
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
from cytoforge.simulation.texture import Textures, Worn, lives_of

CAMERA, CELLS, CLOTHES = 3, 4, 5  # purposes of random numbers, apart from those that stages of painting draw
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Cells:
    """What is drawn for the cells of a sequence before it is painted."""

    founders: Mapping[int, int]
    """of cells with a mother, the cell without one that they descend from"""
    worn: Mapping[int, Worn]
    """whose texture cells have"""


@dataclass(frozen=True)
class Recorder:
    """Records painted frames.

    Cells have textures of real ones, as `Textures.worn` draws them. The contrast of others is drawn once for all that
    descend from one cell, from seed, sequence and number of that cell; noise is drawn anew for each frame, from seed,
    sequence and number of the frame.
    """

    noise: tuple[Noise, ...]
    """of each channel; nothing for frames without noise"""
    contrasts: tuple[float, ...]
    """`simulation.contrast.QUANTILES` of the contrasts of cells; nothing for cells that stay as they are painted"""
    limits: tuple[float, float]
    """grey values of -1 and 1"""
    pixels: np.dtype[Any]
    seed: int
    textures: Textures | None = None
    """of real cells; None for cells that stay as they are painted"""

    @classmethod
    def of(
        cls,
        settings: RunConfig,
        run: Path,
        channels: int,
        textures: Textures | None = None,
        *,
        seed: int,
        noise: bool,
        contrast: bool,
    ) -> "Recorder":
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
        return cls(known, tuple(told), limits, pixels, seed, textures)

    def cells(self, frames: Iterable[tuple[int, Labels]], mothers: Mapping[int, int], sequence: str) -> Cells:
        """Return what is drawn for the cells of a sequence.

        Of its frames (number, labels (H, W)) nothing is read where textures are not needed; `mothers` names the cells
        that cells come from, elder ones first.
        """
        founders: dict[int, int] = {}
        for cell, mother in mothers.items():
            founders[cell] = founders.get(mother, mother)
        if self.textures is None:
            return Cells(founders, {})
        draw = (self.seed, CLOTHES, *sequence.encode())
        return Cells(founders, self.textures.worn(lives_of(frames, mothers), draw))

    def shown(
        self, frame: Floats, ground: Floats | None, labels: Labels, cells: Cells, sequence: str, number: int
    ) -> Floats:
        """Return frame `number` of a sequence, (C, H, W) in [-1, 1], as the camera shows its cells on labels (H, W).

        `ground` is what was painted on, None where that is not known: then cells stay as they are.
        """
        frame = self.exposed(self.cast(frame, ground, labels, cells, sequence, number), sequence, number)
        if ground is None or self.textures is None:
            return frame
        return self.textures.dressed(frame, ground, labels, cells.worn, number)

    def cast(
        self, frame: Floats, ground: Floats | None, labels: Labels, cells: Cells, sequence: str, number: int
    ) -> Floats:
        """Return a frame as `shown` whose cells have contrasts of the training movie.

        Those with a texture have its contrast, so that what they shed on the ground around fits.
        """
        if ground is None:
            return frame
        wanted = {}
        for cell in np.setdiff1d(labels, [0]).tolist():
            if self.textures is not None and cell in cells.worn:
                wanted[cell] = float(self.textures.contrasts[self.textures.place(cells.worn[cell], number)])
            elif self.contrasts:
                founder = cells.founders.get(cell, cell)
                place = np.random.default_rng([self.seed, CELLS, founder, *sequence.encode()]).random()
                wanted[cell] = float(np.interp(place, QUANTILES, self.contrasts))
        return rebalanced(frame, ground, labels, wanted).clip(-1, 1) if wanted else frame

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
