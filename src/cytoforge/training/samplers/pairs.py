"""Windows of frames beside windows of the same frames, small: what super-resolution learns from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.cells.augment import augment_pair
from cytoforge.inference.enlarge import padded
from cytoforge.inference.painting import from_grey
from cytoforge.networks.movie import shrink
from cytoforge.training.samplers.items import Batch, Drawing, Pair, Sampler, cached

PAINTED = 0.5  # share of the windows that the first stage painted; the others are real frames, reduced
Frame = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Windows (B, C, f h, f w) of one step, and the small ones to enlarge; `synthetic` where these were painted."""

    small: Tensor
    """(B, C, h, w) in [-1, 1]"""

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device; the draws stay on the CPU."""
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, small=self.small.to(device))


class Pairs(Sampler):
    """Cuts windows out of frames and out of the same frames, small: reduced, or painted on the same masks.

    `read(i)` gives image (C, H, W) and labels (H, W) of frame i, `painted[i]` its paintings (C, h, w) as grey values,
    h and w a `factor`-th of H and W, rounded up. The size of `drawing` is that of the small windows; smaller frames are
    continued by reflection. Windows are only flipped, and turned by quarters where they are square: whatever resamples
    a frame softens the detail that is to be learned. With policy `paper` they are varied by `augment_pair` instead.
    Painted windows are not degraded, because they are what their enlargements are compared with.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Pair],
        painted: Sequence[Sequence[Frame]],
        factor: int,
        drawing: Drawing,
    ) -> None:
        self.names, self.painted, self.factor, self.drawing = names, painted, factor, drawing

        def whole(i: int) -> Pair:
            image, labels = read(i)
            return padded(image, factor), padded(labels, factor)

        self._read = cached(whole)

    def plan(self, step: int, progress: float) -> None:
        """Return nothing: the windows of a step depend on it alone."""

    def cut(self, step: int, plan: None) -> PairBatch:
        """Return this process's share of the windows of a step."""
        places = self.drawing.places
        images, labels, small, names, painted = zip(*(self._window(step, place) for place in places), strict=True)
        stacked = torch.stack(labels).long()
        return PairBatch(
            torch.stack(images),
            stacked,
            self.drawing.seed,
            step,
            places,
            names,
            painted,
            small=torch.stack(small),
        )

    def _window(self, step: int, place: int) -> tuple[Tensor, Tensor, Tensor, str, bool]:
        draw = np.random.default_rng(self.drawing.generator(step, place, "window").initial_seed())
        i, factor = int(draw.integers(len(self.names))), self.factor
        image, labels = self._read(i)
        painted, style = bool(draw.random() < PAINTED), int(draw.integers(len(self.painted[i])))
        room = [max(have // factor - want, 0) for have, want in zip(labels.shape, self.drawing.size, strict=True)]
        top, left = (int(draw.integers(most + 1)) for most in room)
        paper = self.drawing.policy == "paper"
        turns = (draw.random(3) < 0.5) & (not paper)

        def cut(array: np.ndarray, factor: int) -> np.ndarray:
            """Cut the window, continue it by reflection where the frame is smaller, and turn it."""
            height, width = (factor * side for side in self.drawing.size)
            window = array[..., factor * top : factor * top + height, factor * left : factor * left + width]
            lacking = [(0, height - window.shape[-2]), (0, width - window.shape[-1])]
            window = np.pad(window, [(0, 0)] * (window.ndim - 2) + lacking, mode="symmetric")
            window = window[..., :: 1 - 2 * int(turns[0]), :: 1 - 2 * int(turns[1])]
            turned = window.swapaxes(-1, -2) if turns[2] and height == width else window
            return np.ascontiguousarray(turned)

        whole = torch.from_numpy(cut(image, factor))
        small = shrink(whole[None], factor)[0]
        if painted:
            small = torch.from_numpy(cut(from_grey(self.painted[i][style]), 1))
        cells = torch.from_numpy(cut(labels, factor))
        if paper:
            generator, p_vanilla = self.drawing.generator(step, place, "augment"), self.drawing.p_vanilla
            whole, small, cells = augment_pair(whole, small, cells, generator, p_vanilla, degrade=not painted)
        return whole, cells, small, self.names[i], painted
