"""A network over an image of any size: tiles in, consecutive rows of class probabilities or of a painting out.

Tiles start at multiples of the network's pooling factor. Where its reach is known (`receptive_radius`), tiles have a
margin of that width, and only their centres are kept: the result is that of one pass over the whole image. Networks
that look at the whole tile (group norm, CellPose's style) have no exact tiling; their tiles overlap by a quarter and
fade into each other, and `tile_disagreement` measures what that changes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.networks.layers import pad_to_multiple
from cytoforge.processors import ahead

EXACT_TILE = 1024  # px: the paper's U-Net, with margins of 112 px, takes 1.6 times the work of one pass, and 2.1 GiB
BATCH_PIXELS = EXACT_TILE**2  # smaller tiles go through the network together
MIRRORED = ((), (-1,), (-2, -1), (-2,))
"""axes along which a tile is mirrored for its first, second ... view"""

Floats = NDArray[np.float32]
Rows = Callable[[int, int], Floats]
"""`rows(top, bottom)` gives these rows of an image as float32 (C, bottom - top, W) in [-1, 1]"""
Evaluate = Callable[[Tensor, Sequence[tuple[int, int]]], Tensor]
"""`evaluate(tiles, corners)` gives maps (B, K, f h, f w) of tiles (B, C, h, w), whose top left pixels lie at (y, x);
f is the factor by which the network enlarges, 1 for most"""


@dataclass(frozen=True)
class Tile:
    """A stretch of one axis and the weight of each of its pixels; at each pixel the weights of all tiles sum to 1."""

    start: int
    stop: int
    weight: Floats


class Disagreement(NamedTuple):
    """How the result of tiles differs from that of one pass over the same image."""

    probability: float
    """mean absolute difference of the foreground probability"""
    changed: float
    """share of pixels that fall to another class"""


def margin(network: nn.Module) -> int | None:
    """Return the width in pixels of a tile's margin, which is not kept; None where no width makes tiles exact."""
    radius, stride = _reach(network)
    return None if radius is None else -(-radius // stride) * stride


def smallest_tile(network: nn.Module) -> int:
    """Return the smallest tile side in pixels that leaves a centre between the margins."""
    edge = margin(network)
    return 32 if edge is None else 2 * edge + _reach(network)[1]


def default_tile(network: nn.Module, stored: int) -> int:
    """Return the tile side in pixels to use: the stored one, or a larger one where only speed depends on it."""
    return stored if margin(network) is None else max(stored, EXACT_TILE, smallest_tile(network))


def axis_tiles(network: nn.Module, length: int, side: int) -> list[Tile]:
    """Cut an axis of `length` pixels into tiles of `side` pixels, one alone if it fits.

    Raises ValueError when `side` is smaller than `smallest_tile`.
    """
    if side < smallest_tile(network):
        raise ValueError(f"tiles of {side} px are too small: this network needs {smallest_tile(network)} px or more")
    if length <= side:
        return [Tile(0, length, np.ones(length, np.float32))]
    edge, stride = margin(network), _reach(network)[1]
    if edge is None:
        return _blended_tiles(length, side, stride)
    return _exact_tiles(length, side // stride * stride, edge)


def probability_rows(
    network: nn.Module, rows: Rows, shape: tuple[int, int], side: int, views: int = 1, first: int = 0
) -> Iterator[Floats]:
    """Run a segmentation network over an image of `shape` (H, W) in tiles of `side` pixels.

    Yields float32 (classes, h, W) in [0, 1], from top to bottom, each row from `first` on once: the mean over `views`
    mirror images of each tile, 1, 2 or 4, itself among them. Memory grows with the width only. Raises ValueError for
    other views, and when the network is not in eval mode (its statistics would be those of the tile).
    """
    if views not in (1, 2, 4):
        raise ValueError(f"an image has 1, 2 or 4 views, got {views}")
    return tiled_rows(network, lambda tiles, _: _mean_of_views(network, tiles, views), rows, shape, side, first)


def probabilities(network: nn.Module, image: Floats, side: int, views: int = 1) -> Floats:
    """Run a segmentation network over an image (C, H, W) in memory, as `probability_rows` does: (classes, H, W)."""
    shape = (image.shape[1], image.shape[2])
    rows = probability_rows(network, lambda top, bottom: image[:, top:bottom], shape, side, views)
    return np.concatenate(list(rows), axis=1)


def tiled_rows(
    network: nn.Module, evaluate: Evaluate, rows: Rows, shape: tuple[int, int], side: int, first: int = 0
) -> Iterator[Floats]:
    """Run any function of tiles that calls the network, as `probability_rows` runs the network itself.

    Yields float32 (K, f h, f W), f being the factor by which the network enlarges; rows above `first` are left out,
    which changes none below. Where there are threads to spare, `rows` is called in another one, a band ahead of the
    network. Raises ValueError as `probability_rows`.
    """
    if network.training:
        raise ValueError("the network is in training mode: call eval() first")
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    factor: int = getattr(network, "factor", 1)
    horizontal = axis_tiles(network, shape[1], side)
    bands = [band for band in axis_tiles(network, shape[0], side) if band.stop > first]
    above = (first - bands[0].start) * factor
    pending: Floats | None = None
    spare = min(torch.get_num_threads() - 1, 1)
    read = ahead(lambda band: rows(band.start, band.stop), bands, spare)
    for (band, image), following in zip(read, [*bands[1:], None], strict=True):
        strip = _run_band(lambda t, c: evaluate(t.to(device), c), image, band.start, horizontal, factor)
        strip *= band.weight.repeat(factor)[:, None]
        if pending is not None:
            strip[:, : pending.shape[1]] += pending
        done = ((band.stop if following is None else following.start) - band.start) * factor
        pending = strip[:, done:].copy()
        if done > above:
            yield strip[:, above:done]
        above = max(above - done, 0)
        del strip  # before the next one is made


def tile_disagreement(network: nn.Module, image: Floats, side: int) -> Disagreement:
    """Compare tiles of `side` pixels with one pass over an image (C, H, W) in [-1, 1]: 0 and 0 where exact."""
    whole_side = max(*image.shape[1:], smallest_tile(network))
    tiled, whole = (probabilities(network, image, s) for s in (side, whole_side))
    changed = np.mean(tiled.argmax(axis=0) != whole.argmax(axis=0))
    return Disagreement(float(np.abs(tiled[0] - whole[0]).mean()), float(changed))


def _mean_of_views(network: nn.Module, tiles: Tensor, views: int) -> Tensor:
    """Return class probabilities (B, classes, h, w) of tiles (B, C, h, w), averaged over mirror images."""
    height, width = tiles.shape[2:]
    whole = pad_to_multiple(tiles, _reach(network)[1])  # so that the mirrored network's coarse pixels are the same
    seen = (
        network(whole.flip(axes)).float().contiguous().softmax(dim=1).flip(axes)  # softmax over a last axis is slow
        for axes in MIRRORED[:views]
    )
    mean: Tensor = sum(seen) / views
    return mean[:, :, :height, :width]


def _reach(network: Any) -> tuple[int | None, int]:
    return network.receptive_radius, network.stride


def _exact_tiles(length: int, side: int, edge: int) -> list[Tile]:
    """Return tiles of which the centre counts, and at the ends of the axis also the margin; the last may be shorter."""
    tiles: list[Tile] = []
    start, stop = 0, side
    while True:
        weight = np.zeros(stop - start, np.float32)
        weight[edge if start else 0 : side - edge if stop < length else None] = 1
        tiles.append(Tile(start, stop, weight))
        if stop == length:
            return tiles
        start += side - 2 * edge
        stop = min(start + side, length)


def _blended_tiles(length: int, side: int, stride: int) -> list[Tile]:
    """Return tiles that overlap by a quarter or more and fade into each other; the last is up to `stride` px longer."""
    step = max(side * 3 // 4 // stride, 1) * stride
    count = -(-(length - side) // step) + 1
    starts = [int(start) // stride * stride for start in np.linspace(0, length - side, count)]
    bounds = list(zip(starts, [*(start + side for start in starts[:-1]), length], strict=True))
    windows = [np.sin(np.pi * (np.arange(stop - start) + 0.5) / (stop - start)) ** 2 for start, stop in bounds]
    total = np.zeros(length)
    for (start, stop), window in zip(bounds, windows, strict=True):
        total[start:stop] += window
    return [
        Tile(a, b, (window / total[a:b]).astype(np.float32)) for (a, b), window in zip(bounds, windows, strict=True)
    ]


@torch.inference_mode()
def _run_band(evaluate: Evaluate, image: Floats, top: int, tiles: list[Tile], factor: int) -> Floats:
    """Return maps (K, f h, f W) of image rows (C, h, W), the first of which is row `top`.

    Tiles are weighted along the width; `factor` is the f of `evaluate`.
    """
    strip: Floats | None = None
    for width, group in groupby(tiles, key=lambda tile: tile.stop - tile.start):
        equal = list(group)
        count = max(BATCH_PIXELS // (width * image.shape[1] * factor**2), 1)
        for first in range(0, len(equal), count):
            batch = equal[first : first + count]
            stack = torch.from_numpy(np.stack([image[:, :, t.start : t.stop] for t in batch]))
            maps = evaluate(stack, [(top, t.start) for t in batch]).float().cpu().numpy()
            if strip is None:
                strip = np.zeros((maps.shape[1], factor * image.shape[1], factor * image.shape[2]), np.float32)
            for tile, part in zip(batch, maps, strict=True):
                strip[:, :, factor * tile.start : factor * tile.stop] += part * tile.weight.repeat(factor)
    assert strip is not None
    return strip
