"""Super-resolution of frames of any size, in one style and with one noise for a movie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.data.run_config import TILE
from cytoforge.inference.painting import grey, noise_maps
from cytoforge.inference.tiling import Floats, default_tile, smallest_tile, tiled_rows
from cytoforge.networks.movie import SuperResolution
from cytoforge.networks.style_unet import draw_styles


class Enlarger:
    """Enlarges the frames of one sequence to `size` (H, W); what it draws is drawn once, so that nothing flickers.

    `draw` (CPU) gives style and noise. Large frames are enlarged in tiles, as `painting.paint` paints them.
    """

    def __init__(
        self,
        network: SuperResolution,
        size: tuple[int, int],
        draw: torch.Generator,
        *,
        mixing: float = 0.9,
        tile: int = TILE,
    ) -> None:
        self.network, self.size = network, size
        device = next(network.parameters()).device
        self.styles = draw_styles(1, network.blocks, draw, network.latent, mixing).to(device)
        height, width = (-(-side // network.factor) * network.factor for side in size)
        self.noise = torch.rand((1, 1, height, width), generator=draw).to(device)
        # a tile takes as much memory as its enlarged result needs
        self.tile = max(default_tile(network, tile) // network.factor, smallest_tile(network))

    def enlarge(self, image: Floats) -> NDArray[np.uint16]:
        """Enlarge a frame (C, h, w) in [-1, 1]: grey values (C, H, W), 0 for -1 and 65535 for 1, cut to `size`.

        Raises ValueError unless h and w are a factor-th of H and W, rounded up, or when the network is not in eval
        mode.
        """
        factor = self.network.factor
        height, width = image.shape[1:]
        if (height * factor, width * factor) != tuple(self.noise.shape[2:]):
            raise ValueError(f"{height} x {width} px, enlarged {factor} times, do not fill {self.size}")

        def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
            shape, places = [factor * side for side in tiles.shape[2:]], [(factor * y, factor * x) for y, x in corners]
            noise = noise_maps(self.network.blocks, factor * self.network.stride, self.noise, shape, places)
            enlarged: Tensor = self.network(tiles, self.styles.expand(len(tiles), -1, -1), noise)
            return enlarged

        rows = tiled_rows(self.network, evaluate, lambda top, bottom: image[:, top:bottom], (height, width), self.tile)
        return grey(np.concatenate(list(rows), axis=1)[:, : self.size[0], : self.size[1]].clip(-1, 1))


def padded(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat the last rows and columns of (..., H, W) until both sides are multiples of the factor."""
    spread = [(0, 0)] * (array.ndim - 2) + [(0, -side % factor) for side in array.shape[-2:]]
    return np.pad(array, spread, mode="edge")
