"""The movie generator of a run: masks of a movie in, frames out.

A run with both stages of tGAN paints on reduced masks and then enlarges (tGAN, Figure 1A).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.cells.backgrounds import fitted
from cytoforge.cells.instances import CONDITIONS
from cytoforge.data.files import digest
from cytoforge.data.images import (
    Normalisation,
    Scaling,
    before_enlarging,
    channels_first,
    factor_of,
    label_array,
    read_image,
    resize_image,
    scaled_shape,
)
from cytoforge.data.run import BACKGROUNDS, TEXTURES
from cytoforge.data.run_config import RunConfig
from cytoforge.errors import UserError
from cytoforge.inference.enlarge import Enlarger
from cytoforge.inference.frames import FramePainter, SequencePainter, Vid2VidPainter, reduced, shrunk
from cytoforge.inference.image_generator import check_mixing, item_draw
from cytoforge.inference.load import Loaded, load_backgrounds, load_network, load_textures, open_network
from cytoforge.inference.painting import from_grey
from cytoforge.inference.recording import Recorder
from cytoforge.inference.tiling import Floats
from cytoforge.networks import movie as networks
from cytoforge.networks.vid2vid import Vid2Vid
from cytoforge.progress import counted
from cytoforge.simulation.texture import Textures


@dataclass(frozen=True, eq=False, repr=False)
class MovieGenerator(Loaded):
    """A trained movie generator, with its settings and backgrounds."""

    run: Path
    network: networks.MovieGenerator | Vid2Vid
    enlarging: networks.SuperResolution | None
    """the second stage, where there is one"""
    settings: RunConfig
    backgrounds: dict[str, Floats]
    textures: Textures | None
    """of real cells; None where there are none, and where a second stage enlarges what they would be put on"""
    fingerprint: str
    """SHA-256 over weights and settings: the same movies come from the same fingerprint, masks and seed"""

    @classmethod
    def load(cls, run: Path | str, *, device: str = "auto", threads: int | None = None) -> Self:
        """Load the movie generator of a run folder; raises UserError when run or device do not serve."""
        opened, network = open_network(Path(run), "low-resolution", device, threads)
        stored, enlarging = opened.settings, None
        if "super-resolution" in stored.networks:
            second = load_network(opened, "super-resolution", next(network.parameters()).device)
            enlarging = second if isinstance(second, networks.SuperResolution) else None
        channels = stored.networks["low-resolution"].in_channels or 2
        if not isinstance(network, networks.MovieGenerator | Vid2Vid) or channels % CONDITIONS[stored.condition]:
            raise UserError(f"{opened.path / 'config.json'}: holds no movie generator; give a run of train movie")
        file = opened.path / "weights" / f"{BACKGROUNDS}.safetensors"
        painting = isinstance(network, networks.MovieGenerator) and (file.exists() or file.is_symlink())
        bank = load_backgrounds(opened, network.outputs.out_channels) if painting else {}
        worn = opened.path / "weights" / f"{TEXTURES}.safetensors"
        dressing = painting and enlarging is None and (worn.exists() or worn.is_symlink())
        textures = load_textures(opened, network.outputs.out_channels) if dressing else None
        settings = ["condition", "scale", "resize", "lag", "mask_value", "limits"]
        settings += [key for key in ("noise", "pixels", "contrasts") if key in opened.config]
        fingerprints = [opened.fingerprint("low-resolution", settings)]
        fingerprints += [digest(kept) for kept, used in ((file, bank), (worn, textures)) if used]
        fingerprints += [opened.fingerprint("super-resolution", ("scale", "resize"))] if enlarging else []
        return cls(opened.path, network, enlarging, stored, bank, textures, "-".join(fingerprints))

    def film(
        self,
        masks: Iterable[NDArray[np.integer[Any]]],
        background: NDArray[Any] | None = None,
        *,
        seed: int = 0,
        style_mixing: float = 0.9,
        noise: bool = True,
        contrast: bool = True,
        texture: bool = False,
    ) -> NDArray[Any]:
        """Paint a movie on labels (T, H, W), 0 background: (T, C, H, W) in the grey values of the training movie.

        Each frame has the noise of that movie's camera, drawn anew, unless `noise` is False, and each cell has a
        contrast of that movie's cells, drawn once, unless `contrast` is False; with `texture` it has that of a real
        cell of that movie, and its contrast. Frames of several channels, and of runs that do not tell the grey values,
        have the whole range of 16 bits. A cell has one number in all frames. Labels have the scale of the original
        frames; they are painted at the scale of the run, and the frames are resized to their size. `background` is an
        image without cells, (H, W), (H, W, C) or (C, H, W), in the grey values of the training movie; without it one of
        the run's own is taken. The same masks and seed give the same movie. Raises UserError where masks, background,
        seed or style_mixing do not serve, and where textures are asked for and the run keeps none.
        """
        self.check_background(given=background is not None)
        check_mixing(style_mixing)
        if seed < 0:
            raise UserError(f"seed={seed}: give 0 or more")
        given = [label_array(labels, f"mask {number}") for number, labels in enumerate(masks)]
        if not given:
            raise UserError("there are no masks; give one for each frame")
        size = given[0].shape
        painter: SequencePainter | None = None
        enlarger: Enlarger | None = None
        recorder = self.recorder(seed, noise=noise, contrast=contrast, texture=texture)
        cells = recorder.cells(((n, shrunk(labels, self.scaling)) for n, labels in enumerate(given)), {}, "")
        frames = []
        for number, original in enumerate(given):
            if original.shape != size:
                raise UserError(f"mask {number}: is {original.shape}, those before it {size}; give masks of one size")
            if original.min() > 0:
                raise UserError(f"mask {number}: has no background; give 0 to the pixels outside of the cells")
            labels = shrunk(original, self.scaling)
            small = reduced(labels, self.factor)
            if painter is None:
                reference = self._background(background, seed, small.shape)
                painter = self.painter(reference, item_draw(seed, "", 1), style_mixing)
                enlarger = self.enlarger((labels.shape[0], labels.shape[1]), item_draw(seed, "", 2), style_mixing)
                ground = self.ground(reference, labels.shape)
            image = painter.paint(small)
            image = image if enlarger is None else enlarger.enlarge(from_grey(image))
            frame = recorder.shown(from_grey(image), ground, labels, cells, "", number)
            frames.append(recorder.stored(frame if labels.shape == size else resize_image(frame, size)))
        return np.stack(frames)

    def _background(self, given: NDArray[Any] | None, seed: int, size: tuple[int, ...]) -> Floats:
        """Return the background (C, h, w) in [-1, 1] of frames of a size (h, w): the given one, or one of the run's."""
        if given is None:
            return self.drawn_background(seed, "", (size[0], size[1]))
        assert isinstance(self.network, networks.MovieGenerator)
        pixels = channels_first(given, channels=self.network.outputs.out_channels)
        return self.given_background(pixels, "the background", seed, "", (size[0], size[1]))

    @property
    def scaling(self) -> Scaling:
        """How masks are resized to the size of the frames to be written."""
        return self.settings.scaling

    @property
    def scale(self) -> float:
        """Factor by which masks are resized; 1 where all are resized to one size."""
        return factor_of(self.scaling)

    @property
    def factor(self) -> int:
        """Factor by which frames are enlarged after they were painted; 1 without a second stage."""
        return 1 if self.enlarging is None else self.enlarging.factor

    @property
    def memory(self) -> int:
        """Number of the last frames from which the next one follows."""
        return self.network.past if isinstance(self.network, Vid2Vid) else self.settings.lag

    def check_background(self, *, given: bool) -> None:
        """Raise UserError where a background is given to a network that takes none, or one is needed and missing."""
        if isinstance(self.network, Vid2Vid) and given:
            raise UserError(f"{self.run}: was trained by vid2vid, which knows no background; give none")
        if isinstance(self.network, networks.MovieGenerator) and not self.backgrounds and not given:
            raise UserError(f"{self.run}: has no backgrounds of its own; give a background, an image without cells")

    def drawn_background(self, seed: int, sequence: str, size: tuple[int, int]) -> Floats:
        """Draw a background of the run for a sequence, (C, h, w) in [-1, 1]; grey for vid2vid, which knows none."""
        if isinstance(self.network, Vid2Vid) or not self.backgrounds:
            return np.zeros((1, *size), np.float32)
        draw = np.random.default_rng([seed, *sequence.encode()])
        name = sorted(self.backgrounds)[int(draw.integers(len(self.backgrounds)))]
        return fitted(self.backgrounds[name], size, draw)

    def read_background(self, path: Path, seed: int, sequence: str, size: tuple[int, int]) -> Floats:
        """Read a background from a file, as `given_background`."""
        return self.given_background(read_image(path), path, seed, sequence, size)

    def given_background(
        self, image: NDArray[Any], name: Path | str, seed: int, sequence: str, size: tuple[int, int]
    ) -> Floats:
        """Fit an image (C, H, W) without cells to a sequence: (C, h, w) in [-1, 1]; UserError if it is useless."""
        assert isinstance(self.network, networks.MovieGenerator)
        channels, limits = self.network.outputs.out_channels, list(self.settings.limits.values())
        if len(image) != channels:
            found = counted(len(image), "channel")
            raise UserError(f"{name}: has {found}, the run paints {channels}; convert it")
        if limits and len(limits[0]) != channels:
            raise UserError(
                f"{self.run / 'config.json'}: has limits of {counted(len(limits[0]), 'channel')} for frames of "
                f"{channels}; restore the file from a copy, or train again"
            )
        between = np.array(limits[0]) if limits else Normalisation().measure(image)
        image = Normalisation().apply(image, between)
        if np.mean(np.abs(image) == 1) > 0.5:
            raise UserError(
                f"{name}: most of its grey values lie beyond {between.tolist()}, those of the training movie; give an "
                "image of the same microscope and bit depth"
            )
        draw = np.random.default_rng([seed, *sequence.encode()])
        return fitted(resize_image(image, self._small(image.shape)), size, draw)

    def _small(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the size (h, w) at which an image of a shape is painted, before it is enlarged."""
        return scaled_shape(shape, before_enlarging(self.scaling, self.factor))

    def painter(self, background: Floats, draw: torch.Generator, mixing: float) -> SequencePainter:
        """Return the painter of a sequence, of frames of the background's size; arguments as of FramePainter."""
        condition = self.settings.condition
        options: dict[str, Any] = {
            "condition": condition,
            "window": (self.settings.networks["low-resolution"].in_channels or 2) // CONDITIONS[condition],
            "mask_value": self.settings.mask_value,
            "tile": self.settings.tile,
        }
        if isinstance(self.network, Vid2Vid):
            return Vid2VidPainter(self.network, background.shape[1:], **options)
        return FramePainter(self.network, background, draw, lag=self.settings.lag, mixing=mixing, **options)

    def ground(self, background: Floats, size: tuple[int, ...]) -> Floats | None:
        """Return a background (C, h, w) at the size (H, W) of whole frames; None for vid2vid, which has none."""
        if isinstance(self.network, Vid2Vid):
            return None
        height, width = background.shape[1:]
        whole = resize_image(background, (height * self.factor, width * self.factor))
        return np.asarray(whole[:, : size[0], : size[1]], np.float32)

    def recorder(self, seed: int, *, noise: bool, contrast: bool, texture: bool = False) -> Recorder:
        """Return what turns painted frames into grey values, with noise, contrasts and textures or without."""
        outputs = self.network.out_channels if isinstance(self.network, Vid2Vid) else self.network.outputs.out_channels
        if texture and self.textures is None:
            raise UserError(
                f"{self.run}: keeps no textures of cells, as imported runs, those of two stages, of vid2vid and older "
                "ones; leave out --texture, or train again in one stage"
            )
        textures = self.textures if texture else None
        return Recorder.of(self.settings, self.run, outputs, textures, seed=seed, noise=noise, contrast=contrast)

    def enlarger(self, size: tuple[int, int], draw: torch.Generator, mixing: float) -> Enlarger | None:
        """Return what enlarges the frames of a sequence to `size` (H, W); None without a second stage."""
        if self.enlarging is None:
            return None
        return Enlarger(self.enlarging, size, draw, mixing=mixing, tile=self.settings.tile)
