"""`cytoforge generate movie`: masks of a movie to its frames, painted one after the other, each seen by the next.

A run with both stages of tGAN paints on reduced masks and then enlarges (Figure 1A).
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cytoforge.backgrounds import fitted
from cytoforge.config import GenerateMovie
from cytoforge.data import movie
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest
from cytoforge.data.film import write_film
from cytoforge.data.images import (
    Normalisation,
    read_image,
    read_labels,
    resize_image,
    resize_labels,
    scaled_shape,
)
from cytoforge.data.run import BACKGROUNDS
from cytoforge.data.run_config import TILE, RunConfig
from cytoforge.data.writer import check_target
from cytoforge.errors import UserError
from cytoforge.inference.enlarge import Enlarger, padded
from cytoforge.inference.generate import WHITE, grey, item_draw, noise_maps
from cytoforge.inference.load import load_backgrounds, load_network, open_network
from cytoforge.inference.tiling import Evaluate, Floats, default_tile, tiled_rows
from cytoforge.instances import CONDITIONS, condition
from cytoforge.labels import dense
from cytoforge.networks.movie import MovieGenerator, SuperResolution
from cytoforge.networks.style_unet import draw_styles
from cytoforge.networks.vid2vid import Sketch, Vid2Vid, compose
from cytoforge.progress import Progress, counted

BY = "cytoforge generate movie"
FILM = 768  # longest side of a film in pixels
SETTLING = 6  # paintings of a first frame that are thrown away
Labels = NDArray[np.integer[Any]]


class SequencePainter(ABC):
    """Paints the frames of one sequence in order; holds no more than the last ones.

    The first mask stands for those before it. Large frames are painted in tiles as in `generate.paint`. The next frame
    is given what was written of the earlier ones: 16 bits.
    """

    def __init__(
        self,
        network: nn.Module,
        size: tuple[int, ...],
        *,
        kind: str,
        window: int,
        past: Sequence[Floats],
        mask_value: float = 1.0,
        tile: int = TILE,
    ) -> None:
        """`size` (H, W) of a frame; `past` frames (C, H, W) are held, at first these."""
        self.network, self.size, self.kind, self.tile = network, size, kind, tile
        self.mask_value = mask_value
        self.told: deque[Floats] = deque(maxlen=window)
        self.painted: deque[Floats] = deque(past, maxlen=len(past))

    def paint(self, labels: Labels) -> NDArray[np.uint16]:
        """Paint the next frame on labels (H, W): grey values (C, H, W), 0 for -1 and 65535 for 1.

        Raises ValueError when the size is another, or the network is not in eval mode.
        """
        if labels.shape != self.size:
            raise ValueError(f"labels {labels.shape} and frames {self.size} must have one size")
        self._look(labels)
        image = grey(self._frame().clip(-1, 1))
        self._keep(image)
        return image

    def recall(self, labels: Labels, image: NDArray[np.uint16]) -> None:
        """Take a frame as painted that was painted before."""
        self._look(labels)
        self._keep(image)

    @abstractmethod
    def _frame(self) -> Floats:
        """Return the next frame (C, H, W), of what was told and painted."""

    def _keep(self, image: NDArray[np.uint16]) -> None:
        self.painted.append(seen(image))

    def _look(self, labels: Labels) -> None:
        cells = torch.from_numpy(labels.astype(np.int64))[None]
        told = condition(cells, self.kind)[0].numpy() * np.float32(self.mask_value)
        self.told.extend([told] if self.told else [told] * (self.told.maxlen or 1))

    def _tiled(self, given: Floats, evaluate: Evaluate) -> Floats:
        """Run a function of tiles over what the network is given (K, H, W)."""
        size = (given.shape[1], given.shape[2])
        side = default_tile(self.network, self.tile)
        rows = tiled_rows(self.network, evaluate, lambda top, bottom: given[:, top:bottom], size, side)
        return np.concatenate(list(rows), axis=1)


class FramePainter(SequencePainter):
    """Paints with tGAN's generator, in one style and with one noise, which `draw` (CPU) gives.

    `background` (C, H, W) in [-1, 1] is what the generator is given; before the first frame it is also the earlier
    frame. Where the generator adds to it, the first frame is painted SETTLING times before it counts, each time after
    the last one: cells that come from nowhere are paler than those that were there before.
    """

    network: MovieGenerator

    def __init__(
        self,
        network: MovieGenerator,
        background: Floats,
        draw: torch.Generator,
        *,
        kind: str,
        window: int,
        lag: int,
        mask_value: float = 1.0,
        mixing: float = 0.9,
        tile: int = TILE,
    ) -> None:
        size, past = background.shape[1:], [background] * lag
        super().__init__(network, size, kind=kind, window=window, past=past, mask_value=mask_value, tile=tile)
        self.background = background
        device = next(network.parameters()).device
        self.styles = draw_styles(1, network.blocks, draw, network.latent, mixing).to(device)
        self.noise = torch.rand((1, 1, *background.shape[1:]), generator=draw).to(device)

    def paint(self, labels: Labels) -> NDArray[np.uint16]:
        """Paint the next frame, as `SequencePainter.paint`."""
        if not self.told and self.network.residual:
            for _ in range(SETTLING):
                super().paint(labels)
        return super().paint(labels)

    def _frame(self) -> Floats:
        given = np.concatenate([*self.told, self.painted[0], self.background])
        masks, channels = len(given) - 2 * len(self.background), len(self.background)

        def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
            noise = noise_maps(self.network.blocks, self.network.stride, self.noise, tiles.shape[2:], corners)
            sources = tiles.split([masks, channels, channels], dim=1)
            frames: Tensor = self.network(*sources, self.styles.expand(len(tiles), -1, -1), noise)
            return frames

        return self._tiled(given, evaluate)


class Vid2VidPainter(SequencePainter):
    """Paints with vid2vid's generator, which knows neither style nor noise nor background.

    The first frame is what is painted anew alone; earlier frames that are not there are zeros.
    """

    network: Vid2Vid

    def __init__(
        self,
        network: Vid2Vid,
        size: tuple[int, ...],
        *,
        kind: str,
        window: int,
        mask_value: float = 1.0,
        tile: int = TILE,
    ) -> None:
        past = [np.zeros((network.out_channels, *size), np.float32)] * network.past
        super().__init__(network, size, kind=kind, window=window, past=past, mask_value=mask_value, tile=tile)
        self.first = True

    def _keep(self, image: NDArray[np.uint16]) -> None:
        super()._keep(image)
        self.first = False

    def _frame(self) -> Floats:
        given = np.concatenate([*self.told, *self.painted])
        masks, channels = sum(map(len, self.told)), self.network.out_channels

        def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
            return torch.cat(self.network(tiles[:, :masks], tiles[:, masks:]), dim=1)

        maps = torch.from_numpy(self._tiled(given, evaluate))[None]
        sketch = Sketch(*maps.split([channels, 2, 1], dim=1))
        # cells move from tile to tile: the last frame is moved as a whole
        frame = sketch.raw if self.first else compose(sketch, torch.from_numpy(self.painted[-1])[None])
        return np.asarray(frame[0].numpy(), np.float32)


@dataclass(frozen=True)
class Studio:
    """A run's movie generator, and all that its frames follow from; `enlarging` is its second stage, if it has one."""

    network: MovieGenerator | Vid2Vid
    enlarging: SuperResolution | None
    stored: RunConfig
    backgrounds: dict[str, Floats]
    fingerprint: str

    @classmethod
    def open(cls, config: GenerateMovie) -> Self:
        """Load what the configuration names; raises UserError when run or device do not serve."""
        run, network = open_network(config, "low-resolution")
        stored, enlarging = run.settings, None
        if "super-resolution" in stored.networks:
            second = load_network(run, "super-resolution", next(network.parameters()).device)
            enlarging = second if isinstance(second, SuperResolution) else None
        told = stored.networks["low-resolution"].in_channels or 2
        if not isinstance(network, MovieGenerator | Vid2Vid) or told % CONDITIONS[stored.condition]:
            raise UserError(f"{run.path / 'config.json'}: holds no movie generator; give a run of train movie")
        file = run.path / "weights" / f"{BACKGROUNDS}.safetensors"
        painting = isinstance(network, MovieGenerator) and (file.exists() or file.is_symlink())
        bank = load_backgrounds(run, network.outputs.out_channels) if painting else {}
        if isinstance(network, Vid2Vid) and config.background is not None:
            raise UserError(f"{run.path}: was trained by vid2vid, which knows no background; leave --background out")
        if isinstance(network, MovieGenerator) and not bank and config.background is None:
            raise UserError(f"{run.path}: has no backgrounds of its own; give an image without cells with --background")
        settings = ("condition", "scale", "lag", "mask_value", "limits")
        fingerprints = [run.fingerprint("low-resolution", settings), *([digest(file)] if bank else [])]
        fingerprints += [run.fingerprint("super-resolution", ("scale",))] if enlarging else []
        return cls(network, enlarging, stored, bank, "-".join(fingerprints))

    @property
    def scale(self) -> float:
        """Factor by which masks are resized to the size of the frames to be written."""
        return self.stored.scale

    @property
    def factor(self) -> int:
        """Factor by which frames are enlarged after they were painted; 1 without a second stage."""
        return 1 if self.enlarging is None else self.enlarging.factor

    def reference(self, config: GenerateMovie, sequence: str, size: tuple[int, int]) -> Floats:
        """Return the background of a sequence, (C, h, w) in [-1, 1]; grey for vid2vid, which knows none.

        Raises UserError when --background is no use.
        """
        if isinstance(self.network, Vid2Vid):
            return np.zeros((1, *size), np.float32)
        channels = self.network.outputs.out_channels
        draw = np.random.default_rng([config.seed, *sequence.encode()])
        if config.background is None:
            name = sorted(self.backgrounds)[int(draw.integers(len(self.backgrounds)))]
            return fitted(self.backgrounds[name], size, draw)
        image, limits = read_image(config.background), list(self.stored.limits.values())
        if len(image) != channels:
            found = counted(len(image), "channel")
            raise UserError(f"{config.background}: has {found}, the run paints {channels}; convert it")
        if limits and len(limits[0]) != channels:
            raise UserError(
                f"{config.run / 'config.json'}: has limits of {counted(len(limits[0]), 'channel')} for frames of "
                f"{channels}; restore the file from a copy, or train again"
            )
        between = np.array(limits[0]) if limits else Normalisation().measure(image)
        image = Normalisation().apply(image, between)
        if np.mean(np.abs(image) == 1) > 0.5:
            raise UserError(
                f"{config.background}: most of its grey values lie beyond {between.tolist()}, those of the training "
                "movie; give an image of the same microscope and bit depth"
            )
        return fitted(resize_image(image, scaled_shape(image.shape, self.scale / self.factor)), size, draw)

    def painter(self, background: Floats, draw: torch.Generator, mixing: float) -> SequencePainter:
        """Return what paints a sequence of frames of the size of the background; arguments as of FramePainter."""
        kind = self.stored.condition
        told: dict[str, Any] = {
            "kind": kind,
            "window": (self.stored.networks["low-resolution"].in_channels or 2) // CONDITIONS[kind],
            "mask_value": self.stored.mask_value,
            "tile": self.stored.tile,
        }
        if isinstance(self.network, Vid2Vid):
            return Vid2VidPainter(self.network, background.shape[1:], **told)
        return FramePainter(
            self.network,
            background,
            draw,
            lag=self.stored.lag,
            mixing=mixing,
            **told,
        )


def generate_movie(config: GenerateMovie) -> Path:
    """Write OUT/01/t000.tif, OUT/01_GT/TRA/man_track000.tif ... and OUT/dataset.json for every sequence. Returns OUT.

    With a second stage OUT/01_LOW has the frames before they were enlarged; OUT/01.mp4 is for looking at. One frame is
    in memory at a time. An interrupted command goes on with the next frame. Raises UserError when the run
    has no movie generator, MASKS no masks, OUT holds anything but an unfinished result of the same command, or the
    background does not serve.
    """
    sequences = [sequence for sequence in _sequences(config) if sequence.masks]
    if not sequences:
        raise UserError(f"{config.masks}: holds no masks to paint on; give a movie folder with 01_GT/TRA or 01_ST/SEG")
    if config.out.resolve() == config.masks.resolve():
        raise UserError(f"{config.out}: holds the masks to paint on; give another --out")
    check_target(config.out, BY, overwrite=config.overwrite)
    studio = Studio.open(config)
    binary = studio.stored.condition == "mask"
    for sequence in sequences:
        sequence.check_labels(binary=binary)
    print("".join(f"{note}\n" for note in movie.left_out(config.masks, config.sequence)), end="")
    mark = {
        "by": BY,
        "version": version("cytoforge"),
        "run": config.run.resolve().name,
        "fingerprint": studio.fingerprint,
        "seed": config.seed,
        "style_mixing": config.style_mixing,
        "background": None if config.background is None else digest(config.background),
        "masks": {sequence.name: _fingerprint(sequence) for sequence in sequences},
    }
    info = {"synthetic": mark, "scale": studio.scale, "limits": [0, WHITE]}
    painted = [layout[0] for layout in (movie.FRAMES, *([movie.FIRST_STAGE] if studio.enlarging else []))]
    writer = movie.MovieWriter(
        config.out,
        info,
        overwrite=config.overwrite,
        sources=[(one.name, source) for one in sequences for source in (*painted, _masks_as(one))],
        beside=[movie.film(config.out, one.name).name for one in sequences],
    )
    total, done, progress = sum(len(numbers(s)) for s in sequences), 0, Progress("generate movie")
    for sequence in sequences:
        cells = {cell for _, labels in _masks(sequence) for cell in dense(labels)[0].tolist()} - {0}
        if not cells:
            print(f"{config.masks}: no mask of sequence {sequence.name} holds a cell; its frames are painted without")
        kin = {label for row in _tracks(sequence) for label in (row.label, row.parent)}
        if short := writer.announce(sequence.name, cells | kin):
            print(short)
        for number in _paint_sequence(config, studio, sequence, writer, {**mark, "synthetic": True}):
            done += 1
            progress(done / total, f"{sequence.name} frame {number}")
        if sequence.track_source is not None:
            _write_tracks(config, sequence, writer)
        if not (film := movie.film(config.out, sequence.name)).exists():
            with writer.folder.writing(film.name) as file:
                write_film(file, _filmed(writer, sequence))
    writer.finish()
    print(f"{config.out}: {counted(total, 'frame')} painted in {counted(len(sequences), 'sequence')}")
    return config.out


def _sequences(config: GenerateMovie) -> tuple[movie.Sequence, ...]:
    if not movie.is_movie(config.masks):
        raise movie.no_movie(config.masks, "01_GT/TRA/man_track000.tif ...", "give one with masks")
    return movie.read_sequences(config.masks, config.sequence)


def _fingerprint(sequence: movie.Sequence) -> list[str]:
    files = [file for masks in sequence.masks.values() for file in masks.values()]
    return [digest(file) for file in (*files, *sequence.tracks.values())]


def numbers(sequence: movie.Sequence) -> list[int]:
    """Return the numbers of the frames that have a mask to paint on, in order."""
    source = sequence.source or sequence.track_source
    if source is None or source not in sequence.masks:
        raise UserError(f"sequence {sequence.name}: has no masks of every frame; add them, or leave the sequence out")
    markers = sequence.masks.get(sequence.track_source or source, {})
    return [number for number in sequence.masks[source] if number in markers or not markers]


def _masks(sequence: movie.Sequence) -> Iterator[tuple[int, Labels]]:
    """Yield number and labels of each frame, with the ids of the tracks where there are some."""
    if sequence.track_source is not None:
        yield from sequence.tracked()
    else:
        yield from ((n, read_labels(sequence.masks[str(sequence.source)][n])) for n in numbers(sequence))


def _paint_sequence(
    config: GenerateMovie,
    studio: Studio,
    sequence: movie.Sequence,
    writer: movie.MovieWriter,
    mark: dict[str, Any],
) -> Iterator[int]:
    """Paint and write a sequence, or what is missing of it; yields each frame's number."""
    name, second = sequence.name, studio.enlarging
    painter: SequencePainter | None = None
    enlarger: Enlarger | None = None
    size: tuple[int, ...] = ()
    painted_as, masks_as = movie.FRAMES[0] if second is None else movie.FIRST_STAGE[0], _masks_as(sequence)
    scale = studio.scale / Dataset.open(config.masks).scale  # simulated masks may be at the run's scale already
    for number, original in _masks(sequence):
        labels = shrunk(original, scale)
        if labels.min() > 0:
            raise UserError(f"sequence {name}, frame {number}: has no background; give masks, 0 outside cells")
        told = reduced(labels, studio.factor)
        if painter is None:
            size = labels.shape
            background = studio.reference(config, name, (told.shape[0], told.shape[1]))
            painter = studio.painter(background, item_draw(config.seed, name, 1), config.style_mixing)
            if second is not None:
                draw, tile = item_draw(config.seed, name, 2), studio.stored.tile
                enlarger = Enlarger(second, (size[0], size[1]), draw, mixing=config.style_mixing, tile=tile)
        if labels.shape != size:
            raise UserError(f"sequence {name}, frame {number}: masks differ in size; export them alike")
        if writer.has(name, painted_as, number):
            image = read_image(writer.file(name, painted_as, number))
            painter.recall(told, image)
        else:
            image = painter.paint(told)
            writer.add_frame(name, number, image, mark, painted_as)
        if enlarger is not None and not writer.has(name, "frames", number):
            writer.add_frame(name, number, enlarger.enlarge(seen(image)), mark)
        if not writer.has(name, masks_as, number):
            writer.add_masks(name, masks_as, number, labels, mark)
        yield number


def _masks_as(sequence: movie.Sequence) -> str:
    return "GT/SEG" if sequence.track_source is None else "GT/TRA"


def _filmed(writer: movie.MovieWriter, sequence: movie.Sequence) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames written of a sequence as a film shows them, grey or RGB."""
    for number in numbers(sequence):
        image = read_image(writer.file(sequence.name, "frames", number))
        every = -(-max(image.shape[1:]) // FILM)
        yield (image[: 3 if len(image) == 3 else 1, ::every, ::every] >> 8).astype(np.uint8)


def _tracks(sequence: movie.Sequence) -> tuple[movie.Track, ...]:
    return movie.read_tracks(sequence.tracks[sequence.track_source]) if sequence.track_source else ()


def _write_tracks(config: GenerateMovie, sequence: movie.Sequence, writer: movie.MovieWriter) -> None:
    assert sequence.track_source is not None
    try:
        writer.add_tracks(sequence.name, "GT/TRA", _tracks(sequence))
    except ValueError as error:
        file = sequence.tracks[sequence.track_source]
        raise UserError(f"{file}: does not agree with its masks; run cytoforge check {config.masks}") from error


def shrunk(labels: Labels, scale: float) -> Labels:
    """Resize labels (H, W); a cell too small to be left keeps the pixel at its middle, for its track."""
    small = resize_labels(labels, scaled_shape(labels.shape, scale))
    for lost in np.setdiff1d(labels, small):
        middle = ndimage.center_of_mass(labels == lost)
        y, x = (min(int((m + 0.5) * n / o), n - 1) for m, n, o in zip(middle, small.shape, labels.shape, strict=True))
        small[y, x] = lost
    return small


def reduced(labels: Labels, factor: int) -> Labels:
    """Reduce labels (H, W) to those that a first stage paints on, (H / factor, W / factor) rounded up; as `shrunk`."""
    return shrunk(padded(labels, factor), 1 / factor)


def seen(image: NDArray[np.uint16]) -> Floats:
    """Return grey values as the generator is given them, in [-1, 1]."""
    return np.asarray(image, np.float32) * np.float32(2 / WHITE) - 1
