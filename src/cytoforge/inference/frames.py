"""Painting a movie on masks in memory: one frame after the other, each given to the next."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cytoforge.cells import instances
from cytoforge.data.images import Scaling, resize_labels, scaled_shape
from cytoforge.data.run_config import TILE
from cytoforge.inference.enlarge import padded
from cytoforge.inference.painting import from_grey, grey, noise_maps
from cytoforge.inference.tiling import Evaluate, Floats, default_tile, tiled_rows
from cytoforge.networks import movie as networks
from cytoforge.networks.style_unet import draw_styles
from cytoforge.networks.vid2vid import Sketch, Vid2Vid, compose

SETTLING = 6  # paintings of a first frame that are thrown away
Labels = NDArray[np.integer[Any]]


class SequencePainter(ABC):
    """Paints the frames of one sequence in order; only the last ones are in memory.

    The first mask stands for those before it. Large frames are painted in tiles as in `painting.paint`. Earlier frames
    are given to the generator as they are written, with 16 bits.
    """

    def __init__(
        self,
        network: nn.Module,
        size: tuple[int, ...],
        *,
        condition: str,
        window: int,
        past: Sequence[Floats],
        mask_value: float = 1.0,
        tile: int = TILE,
    ) -> None:
        """`size` is (H, W) of a frame, `past` the frames (C, H, W) in [-1, 1] that stand before the first one."""
        self.network, self.size, self.condition, self.tile = network, size, condition, tile
        self.mask_value = mask_value
        self.conditions: deque[Floats] = deque(maxlen=window)
        self.painted: deque[Floats] = deque(past, maxlen=len(past))

    def paint(self, labels: Labels) -> NDArray[np.uint16]:
        """Paint the next frame on labels (H, W): grey values (C, H, W), 0 for -1 and 65535 for 1.

        Raises ValueError when the size is another, or the network is not in eval mode.
        """
        if labels.shape != self.size:
            raise ValueError(f"labels {labels.shape} and frames {self.size} must have one size")
        self._take_in(labels)
        image = grey(self._frame().clip(-1, 1))
        self._keep(image)
        return image

    def recall(self, labels: Labels, image: NDArray[np.uint16] | None) -> None:
        """Take a frame (C, H, W) on labels (H, W) that an earlier call has painted as the next one.

        It may be None where as many frames as the next one depends on are taken before that is painted.
        """
        self._take_in(labels)
        if image is not None:
            self._keep(image)

    @abstractmethod
    def _frame(self) -> Floats:
        """Return the next frame (C, H, W), of the conditions given and the frames painted."""

    def _keep(self, image: NDArray[np.uint16]) -> None:
        self.painted.append(from_grey(image))

    def _take_in(self, labels: Labels) -> None:
        cells = torch.from_numpy(labels.astype(np.int64))[None]
        given = instances.condition(cells, self.condition)[0].numpy() * np.float32(self.mask_value)
        self.conditions.extend([given] if self.conditions else [given] * (self.conditions.maxlen or 1))

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

    network: networks.MovieGenerator

    def __init__(
        self,
        network: networks.MovieGenerator,
        background: Floats,
        draw: torch.Generator,
        *,
        condition: str,
        window: int,
        lag: int,
        mask_value: float = 1.0,
        mixing: float = 0.9,
        tile: int = TILE,
    ) -> None:
        size, past = background.shape[1:], [background] * lag
        super().__init__(network, size, condition=condition, window=window, past=past, mask_value=mask_value, tile=tile)
        self.background = background
        device = next(network.parameters()).device
        self.styles = draw_styles(1, network.blocks, draw, network.latent, mixing).to(device)
        self.noise = torch.rand((1, 1, *background.shape[1:]), generator=draw).to(device)

    def paint(self, labels: Labels) -> NDArray[np.uint16]:
        """Paint the next frame, as `SequencePainter.paint`."""
        if not self.conditions and self.network.residual:
            for _ in range(SETTLING):
                super().paint(labels)
        return super().paint(labels)

    def _frame(self) -> Floats:
        given = np.concatenate([*self.conditions, self.painted[0], self.background])
        masks, channels = len(given) - 2 * len(self.background), len(self.background)

        def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
            noise = noise_maps(self.network.blocks, self.network.stride, self.noise, tiles.shape[2:], corners)
            sources = tiles.split([masks, channels, channels], dim=1)
            frames: Tensor = self.network(*sources, self.styles.expand(len(tiles), -1, -1), noise)
            return frames

        return self._tiled(given, evaluate)


class Vid2VidPainter(SequencePainter):
    """Paints with vid2vid's generator, which knows neither style nor noise nor background.

    Before the first frame there are zeros, so nothing is moved into it: all of it is painted anew.
    """

    network: Vid2Vid

    def __init__(
        self,
        network: Vid2Vid,
        size: tuple[int, ...],
        *,
        condition: str,
        window: int,
        mask_value: float = 1.0,
        tile: int = TILE,
    ) -> None:
        past = [np.zeros((network.out_channels, *size), np.float32)] * network.past
        super().__init__(network, size, condition=condition, window=window, past=past, mask_value=mask_value, tile=tile)
        self.first = True

    def _keep(self, image: NDArray[np.uint16]) -> None:
        super()._keep(image)
        self.first = False

    def _frame(self) -> Floats:
        given = np.concatenate([*self.conditions, *self.painted])
        masks, channels = sum(map(len, self.conditions)), self.network.out_channels

        def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
            return torch.cat(self.network(tiles[:, :masks], tiles[:, masks:]), dim=1)

        maps = torch.from_numpy(self._tiled(given, evaluate))[None]
        sketch = Sketch(*maps.split([channels, 2, 1], dim=1))
        # cells move from tile to tile, so the last frame is moved as a whole
        frame = sketch.raw if self.first else compose(sketch, torch.from_numpy(self.painted[-1])[None])
        return np.asarray(frame[0].numpy(), np.float32)


def shrunk(labels: Labels, scaling: Scaling) -> Labels:
    """Resize labels (H, W); a cell that would vanish keeps the pixel at its middle, so that its track goes on."""
    small = resize_labels(labels, scaled_shape(labels.shape, scaling))
    for lost in np.setdiff1d(labels, small):
        middle = ndimage.center_of_mass(labels == lost)
        y, x = (min(int((m + 0.5) * n / o), n - 1) for m, n, o in zip(middle, small.shape, labels.shape, strict=True))
        small[y, x] = lost
    return small


def reduced(labels: Labels, factor: int) -> Labels:
    """Reduce labels (H, W) for a first stage to (H / factor, W / factor), rounded up, as `shrunk` does."""
    return shrunk(padded(labels, factor), 1 / factor)
