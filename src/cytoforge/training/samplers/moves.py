"""What cells of a tracked movie become from one frame to the next, as pairs of crops to train a tracker with."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cytoforge.cells.crops import crop_images, crop_labels, windows_around
from cytoforge.data.dataset import Item
from cytoforge.data.movie import read_tracks
from cytoforge.metrics.sampling import evenly
from cytoforge.training.samplers.clips import stretches
from cytoforge.training.samplers.items import Batch, Drawing, Pair, Sampler, cached
from cytoforge.training.samplers.synthetic import Synthetic

DIVISION_WEIGHT = 50
"""how many times as often a division is drawn as another move (DeepSea copies them as often)"""


class Move(NamedTuple):
    """A cell of a frame and what becomes of it in the next."""

    place: int
    """of the frame among the items; the next item is the next frame"""
    cell: int
    after: tuple[int, ...]
    """its id in the next frame, or those of its daughters"""
    window: tuple[int, ...]
    """first row, first column, side, as of `crops.windows_around`"""


class Moves:
    """All moves that items, frames of movies with tracks, show; `read(i)` gives image (C, H, W) and labels (H, W).

    Both frames of a move are among the items, so moves for training and for validation have no frame in common. A cell
    that is not in the next frame, and has no daughters there, makes no move.
    """

    def __init__(self, items: Sequence[Item], read: Callable[[int], Pair]) -> None:
        self.items, self._read = items, cached(read)
        moves = [move for stretch in stretches(items) for place in stretch[:-1] for move in self._find(place)]
        self.single = [move for move in moves if len(move.after) == 1]
        self.divisions = [move for move in moves if len(move.after) > 1]

    def _find(self, place: int) -> list[Move]:
        item, labels = self.items[place], self._read(place)[1]
        later = set(np.setdiff1d(self._read(place + 1)[1], [0]).tolist())
        daughters: dict[int, list[int]] = {}
        for track in read_tracks(item.tracks) if item.tracks else ():
            if track.label in later and track.begin - 1 == item.frame:
                daughters.setdefault(track.parent, []).append(track.label)
        cells = np.setdiff1d(labels, [0])
        return [
            Move(place, cell, after, tuple(window))
            for cell, window in zip(cells.tolist(), windows_around(labels, cells).tolist(), strict=True)
            if (after := (cell,) if cell in later else tuple(daughters.get(cell, ())))
        ]

    def draw(self, generator: torch.Generator) -> Move:
        """Draw a move; each division is DIVISION_WEIGHT times as likely as another move."""
        weight = DIVISION_WEIGHT * len(self.divisions)
        share = weight / (weight + len(self.single))
        drawn = self.divisions if float(torch.rand((), generator=generator)) < share else self.single
        return drawn[int(torch.randint(len(drawn), (), generator=generator))]

    def spread(self, count: int) -> list[Move]:
        """Return up to `count` moves, spread over time; divisions come first and are at most half of them."""
        divisions = _spread(self.divisions, count // 2)
        return divisions + _spread(self.single, count - len(divisions))

    def crops(self, move: Move) -> tuple[Tensor, Tensor]:
        """Return crops (2 C, SIDE, SIDE), of the cell and of the next frame, and where it went, 0 or 1 (SIDE, SIDE)."""
        image, labels = self._read(move.place)
        next_image, next_labels = self._read(move.place + 1)
        windows = np.array([move.window])
        shown = crop_images(image, labels, windows, [move.cell]), crop_images(next_image, next_labels, windows)
        target = np.isin(crop_labels(next_labels, windows)[0], move.after)
        return torch.cat(shown, dim=1)[0], torch.from_numpy(target.astype(np.int64))


class MoveSampler(Sampler):
    """Batches of drawn moves, their crops varied alike, each from its own seed.

    Images (B, 2 C, SIDE, SIDE) and labels (B, SIDE, SIDE) are those of `Moves.crops`. `synthetic` says when a move of a
    painted movie takes the place of a real one.
    """

    def __init__(self, moves: Moves, drawing: Drawing, synthetic: Synthetic | None = None) -> None:
        self.moves, self.drawing, self.synthetic = moves, drawing, synthetic
        self.painted = None if synthetic is None else Moves(synthetic.items, synthetic.read)

    def plan(self, step: int, progress: float) -> tuple[bool, ...]:
        """Return which moves of a step are synthetic."""
        return tuple(
            self.synthetic is not None
            and self.synthetic.due(progress, self.drawing.generator(step, place, "synthetic"))
            for place in self.drawing.places
        )

    def cut(self, step: int, plan: tuple[bool, ...]) -> Batch:
        """Return this process's share of the moves of a step."""
        images, targets, names = [], [], []
        for place, synthetic in zip(self.drawing.places, plan, strict=True):
            moves = self.painted if self.painted and synthetic else self.moves
            move = moves.draw(self.drawing.generator(step, place, "move"))
            image, target = self._varied(*moves.crops(move), step, place)
            images.append(image)
            targets.append(target)
            names.append(moves.items[move.place].name)
        return Batch(
            torch.stack(images),
            torch.stack(targets),
            self.drawing.seed,
            step,
            self.drawing.places,
            tuple(names),
            plan,
        )

    def _varied(self, crops: Tensor, target: Tensor, step: int, place: int) -> tuple[Tensor, Tensor]:
        """Vary both crops alike, each from a generator of the same seed."""
        varied = [
            self.drawing.augment(crop, target, self.drawing.generator(step, place, "augment"))
            for crop in crops.chunk(2)
        ]
        return torch.cat([crop for crop, _ in varied]), varied[0][1]


def _spread(moves: list[Move], count: int) -> list[Move]:
    return [moves[place] for place in evenly(len(moves), count)]
