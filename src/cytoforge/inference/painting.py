"""Painting on masks in memory, of any size: styles and noise are drawn once, tiles have no seams."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.cells import instances
from cytoforge.cells.backgrounds import fitted
from cytoforge.cells.instances import DEEPEST
from cytoforge.data.run_config import TILE
from cytoforge.inference.tiling import Floats, default_tile, tiled_rows
from cytoforge.networks import style_unet

WHITE = int(np.iinfo(np.uint16).max)  # grey value of 1; that of -1 is 0


def paint(
    network: nn.Module,
    labels: NDArray[np.integer[Any]],
    condition: str,
    draw: torch.Generator,
    *,
    bank: Sequence[Floats] = (),
    mixing: float = 0.9,
    tile: int = TILE,
) -> Floats:
    """Paint an image float32 (C, H, W) in [-1, 1] on labels (H, W), in a style and with noise from `draw` (CPU).

    The network is given the `condition` of all labels (a name in `instances.CONDITIONS`), styles of `draw_styles`, and
    noise U[0, 1) of the size of the labels (cGAN-Seg, Figure 1A). A generator that adds cells to a background is given
    a window of one image of `bank`, each (C, h, w) in [-1, 1] of any size. Large images are painted in tiles that share
    the style and are cut from the same noise; a larger tile than `tile` is used where the result does not depend on it.
    With group norm, tiles fade into each other. Raises ValueError for another network, for one that is not in eval
    mode, and for one that needs a bank and gets none.
    """
    if not isinstance(network, style_unet.ImageGenerator):
        raise ValueError(f"an image generator paints, not a {type(network).__name__}")
    device = next(network.parameters()).device
    height, width = labels.shape
    styles = style_unet.draw_styles(1, network.depth, draw, network.latent, mixing).to(device)
    noise = torch.rand((1, 1, height, width), generator=draw).to(device)
    if network.residual and not bank:
        raise ValueError("this generator adds cells to a background, and there is none")
    background = background_of(bank, (height, width), draw) if network.residual else np.empty((0, height, width))

    def rows(top: int, bottom: int) -> Floats:
        above, below = (
            max(top - DEEPEST, 0),
            min(bottom + DEEPEST, height),
        )  # cells farther away do not change these rows
        around = instances.condition(torch.from_numpy(labels[above:below])[None], condition)[0]
        cells = around[:, top - above : bottom - above].numpy()
        return np.concatenate([cells, background[:, top:bottom]], dtype=np.float32)

    def evaluate(tiles: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
        maps = noise_maps(network.depth, network.stride, noise, tiles.shape[2:], corners)
        return network(tiles, styles.expand(len(tiles), -1, -1), maps).clamp(-1, 1)  # type: ignore[no-any-return]

    blocks = tiled_rows(network, evaluate, rows, (height, width), default_tile(network, tile))
    return np.concatenate(list(blocks), axis=1)


def background_of(bank: Sequence[Floats], size: tuple[int, int], draw: torch.Generator) -> Floats:
    """Draw one of the backgrounds and a window of `size` (h, w) in it, flipped at random: (C, h, w)."""
    generator = np.random.default_rng(int(torch.randint(2**62, (), generator=draw)))
    window = fitted(bank[int(generator.integers(len(bank)))], size, generator)
    return window[:, :: generator.choice([1, -1]), :: generator.choice([1, -1])]


def noise_maps(
    blocks: int, stride: int, noise: Tensor, shape: Sequence[int], corners: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Cut the noise of tiles (h, w) at their corners, one map for each of the decoder's blocks, coarsest first.

    The coarser blocks use the noise itself, from its top left corner on, not a smaller picture of it: a tile at
    (y, x) takes it there from (y, x) / 2**level on.
    """
    height, width = (-(-side // stride) * stride for side in shape)
    return [
        torch.cat([noise[..., y // f : (y + height) // f, x // f : (x + width) // f] for y, x in corners])
        for f in (2**level for level in reversed(range(blocks)))
    ]


def grey(image: Floats) -> NDArray[np.uint16]:
    """Map an image in [-1, 1], of any shape, to grey values over the whole range of 16 bits."""
    return np.asarray(np.round((image + 1) * (WHITE / 2)), dtype=np.uint16)


def from_grey(image: NDArray[Any]) -> Floats:
    """Map grey values over the whole range of 16 bits, of any shape, to [-1, 1]; undoes `grey`."""
    return np.asarray(image, np.float32) * np.float32(2 / WHITE) - 1
