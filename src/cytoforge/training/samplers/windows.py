"""Windows cut from annotated images and varied."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cytoforge.training.samplers.items import Batch, Drawing, Pair, Sampler, cached
from cytoforge.training.samplers.simulated import SimulatedMasks
from cytoforge.training.samplers.synthetic import Synthetic

Plan = tuple[int | None, ...]
"""for each window its source among the synthetic images, or None for a real image"""


class Windows(Sampler):
    """Cuts and augments windows of annotated images, and of synthetic and of unlabelled ones where there are some.

    `read(i)` gives image float32 (C, H, W) and labels int32 (H, W) of source i. Every pass visits all sources once, in
    an order of its own; a synthetic window takes the turn of a source. `unlabelled` cuts as many windows of images
    without masks, and `simulated` draws as many label images. Raises ValueError without sources.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Pair],
        drawing: Drawing,
        synthetic: Synthetic | None = None,
        unlabelled: "Windows | None" = None,
        simulated: SimulatedMasks | None = None,
    ) -> None:
        if not names:
            raise ValueError("no images to train on")
        self.unlabelled, self.simulated = unlabelled, simulated
        self.names, self.drawing, self._read = names, drawing, cached(read)
        self.synthetic = None if synthetic is None else replace(synthetic, read=cached(synthetic.read))

    def plan(self, step: int, progress: float) -> Plan:
        """Return which windows of a step are synthetic."""
        if self.synthetic is None:
            return (None,) * len(self.drawing.places)
        return tuple(
            self.synthetic.draw(progress, self.drawing.generator(step, place, "synthetic"))
            for place in self.drawing.places
        )

    def cut(self, step: int, plan: Plan) -> Batch:
        """Return this process's share of the windows of a step."""
        places = self.drawing.places
        windows, names = [], []
        for place, drawn in zip(places, plan, strict=True):
            if self.synthetic is not None and drawn is not None:
                pair, name = self.synthetic.read(drawn), self.synthetic.items[drawn].name
            else:
                source = self._source(step * self.drawing.count + place - self.drawing.first)
                pair, name = self._read(source), self.names[source]
            image, labels = map(torch.from_numpy, pair)
            generator = self.drawing.generator(step, place, "augment")
            windows.append(self.drawing.augment(image, labels, generator))
            names.append(name)
        images, labels_ = (torch.stack(part) for part in zip(*windows, strict=True))
        synthetic = tuple(drawn is not None for drawn in plan)
        return Batch(
            images,
            labels_.long(),
            self.drawing.seed,
            step,
            places,
            tuple(names),
            synthetic,
            simulated=self._simulated(step),
            unlabelled=None if self.unlabelled is None else self.unlabelled.cut(step, (None,) * len(places)),
        )

    def _simulated(self, step: int) -> Tensor | None:
        if self.simulated is None:
            return None
        draws = (self.drawing.generator(step, place, "simulated") for place in self.drawing.places)
        return torch.stack([self.simulated.draw(self.drawing.size, draw) for draw in draws])

    def _source(self, position: int) -> int:
        epoch, place = divmod(position, len(self.names))
        order = np.random.default_rng([self.drawing.seed, epoch, crc32(b"order")]).permutation(len(self.names))
        return int(order[place])
