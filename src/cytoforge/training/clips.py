"""Clips cut from movies: frames in a row, varied alike, with a background from other frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cytoforge.augment import Policy, augment
from cytoforge.backgrounds import background_reference
from cytoforge.data.dataset import Item
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.training.batches import Batch, Pair, cached, item_generator

OTHERS = 9  # frames that the background of a clip is taken from
COLD = 0.25  # share of the steps whose clips begin as a painted movie does, without an earlier frame
GROWN = 0.5  # share of the training after which clips are as long as they get


@dataclass(frozen=True, kw_only=True)
class ClipBatch(Batch):
    """Clips of one step: images (B, T, C, h, w), labels (B, T, h, w); all but the first `lead` frames are to paint."""

    backgrounds: Tensor
    """(B, C, h, w), from frames that are not in the clip"""
    lead: int
    cold: bool
    """there is no earlier frame: the frames that lead repeat the first to paint"""

    def to(self, device: torch.device) -> "ClipBatch":
        """Return the batch on a device; the draws stay on the CPU."""
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, backgrounds=self.backgrounds.to(device))


def takes(items: Sequence[Item]) -> list[range]:
    """Return the stretches of items that follow each other frame by frame in one sequence, as ranges of places."""
    found, start = [], 0
    for place in range(1, len(items) + 1):
        before = items[place - 1]
        if place == len(items) or (items[place].group, items[place].frame) != (before.group, (before.frame or 0) + 1):
            found.append(range(start, place))
            start = place
    return found


class Clips:
    """Cuts and varies clips of movies; `read(i)` gives image (C, H, W) and labels (H, W) of item i.

    A clip has `lead` frames and those to paint: one at first, `longest` from half of the training on, as far as the
    movie goes; if `drawn`, a number drawn for each step, these at most. Each clip, its background included, has one
    window and one draw of the augmentation, from its own seed.
    Raises UserError when no frames follow each other for long enough.
    """

    def __init__(
        self,
        items: Sequence[Item],
        read: Callable[[int], Pair],
        *,
        lead: int,
        longest: int,
        size: tuple[int, int],
        count: int,
        policy: Policy,
        seed: int,
        ranks: tuple[int, int] = (0, 1),
        drawn: bool = False,
    ) -> None:
        self.drawn = drawn
        self.items, self.lead, self.size, self.count, self.policy = items, lead, size, count, policy
        self.seed, self.ranks = seed, ranks
        self.takes = takes(items)
        room = max(map(len, self.takes)) - lead - 1  # one frame at least is left for the background
        if room < 1:
            raise UserError(
                f"at most {counted(room + lead + 1, 'frame')} in a row for training with images and masks, {lead + 2} "
                "are needed; give a longer movie, or a smaller --window or --lag"
            )
        self.longest = min(longest, room)
        self._read = cached(read)

    def length(self, progress: float) -> int:
        """Return how many frames of a clip are to paint, at most, at `progress` (0 to 1) of the training."""
        return min(1 + int(progress / GROWN * self.longest), self.longest)

    def __call__(self, step: int, progress: float = 0.0) -> ClipBatch:
        """Return this process's share of the clips of a step."""
        rank, world = self.ranks
        places = tuple(range(rank, self.count * world, world))
        cold = float(torch.rand((), generator=item_generator(self.seed, step, 0, "start"))) < COLD
        length = self.length(progress)
        if self.drawn:
            length = 1 + int(torch.randint(length, (), generator=item_generator(self.seed, step, 0, "length")))
        total = self.lead + length
        clips = [self._clip(step, place, total, cold) for place in places]
        images, labels, backgrounds, sources = zip(*clips, strict=True)
        names = tuple(name for clip in sources for name in clip)
        return ClipBatch(
            torch.stack(images),
            torch.stack(labels).long(),
            self.seed,
            step,
            places,
            names,
            backgrounds=torch.stack(backgrounds),
            lead=self.lead,
            cold=cold,
        )

    def _clip(self, step: int, place: int, total: int, cold: bool) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        draw = np.random.default_rng(item_generator(self.seed, step, place, "clip").initial_seed())
        roomy = [take for take in self.takes if len(take) > total]  # a frame is left for the background
        starts = [(take, start) for take in roomy for start in range(take.start, take.stop - total + 1)]
        take, start = starts[int(draw.integers(len(starts)))]
        clip = list(range(start, start + total))
        others = [i for i in take if i not in clip]
        others = draw.permutation(others)[:OTHERS].tolist()
        if cold:
            clip[: self.lead] = [clip[self.lead]] * self.lead
        images, labels = self._windows(step, place, clip)
        around, cells = self._windows(step, place, others)
        background = torch.from_numpy(background_reference(around.numpy(), cells.numpy()))
        return images, labels, background, [self.items[i].name for i in clip]

    def _windows(self, step: int, place: int, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Cut the same window out of several frames and vary them alike, each from a generator of the same seed."""
        pairs = []
        for i in indices:
            image, labels = map(torch.from_numpy, self._read(i))
            generator = item_generator(self.seed, step, place, "augment")
            pairs.append(augment(image, labels, self.size, self.policy, generator))
        return torch.stack([image for image, _ in pairs]), torch.stack([labels for _, labels in pairs])


def sequence_backgrounds(items: Sequence[Item], read: Callable[[int], Pair], most: int = 25) -> dict[str, np.ndarray]:
    """Return one background (C, H, W) for each sequence, from `most` of its frames spread over time."""
    found = {}
    for group in dict.fromkeys(item.group for item in items):
        places = [i for i, item in enumerate(items) if item.group == group]
        spread = np.unique(np.linspace(0, len(places) - 1, most).round().astype(int))
        frames, labels = zip(*(read(places[i]) for i in spread), strict=True)
        found[str(group)] = background_reference(np.stack(frames), np.stack(labels))
    return found
