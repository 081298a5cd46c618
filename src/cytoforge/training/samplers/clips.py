"""Clips cut from movies: frames in a row, varied alike, with a background from other frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cytoforge.cells.backgrounds import background_reference
from cytoforge.data.dataset import Item
from cytoforge.errors import UserError
from cytoforge.metrics.sampling import evenly
from cytoforge.progress import counted
from cytoforge.training.samplers.items import Batch, Drawing, Pair, Sampler, cached

OTHERS = 9  # frames that the background of a clip is taken from
COLD = 0.25  # share of the steps whose clips are cold: they begin as a painted movie does, without an earlier frame
LONGEST = 128  # frames that vid2vid paints in a row at most
DOUBLINGS = 4  # lengths of its clips: every quarter of the training (five of twenty epochs) doubles them


@dataclass(frozen=True, kw_only=True)
class ClipBatch(Batch):
    """Clips of one step: images (B, T, C, h, w), labels (B, T, h, w); all but the first `lead` frames are to paint."""

    backgrounds: Tensor
    """(B, C, h, w), from frames that are not in the clip"""
    lead: int
    cold: bool
    """whether the first frame to paint has no earlier one, as in use; the leading frames then repeat it"""

    def to(self, device: torch.device) -> "ClipBatch":
        """Return the batch on a device; the draws stay on the CPU."""
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, backgrounds=self.backgrounds.to(device))


def stretches(items: Sequence[Item]) -> list[range]:
    """Return the stretches of items that follow each other frame by frame in one sequence, as ranges of places."""
    found, start = [], 0
    for place in range(1, len(items) + 1):
        before = items[place - 1]
        if place == len(items) or (items[place].group, items[place].frame) != (before.group, (before.frame or 0) + 1):
            found.append(range(start, place))
            start = place
    return found


class Clips(Sampler):
    """Cuts and varies clips of movies; `read(i)` gives image (C, H, W) and labels (H, W) of item i.

    A clip has `lead` frames and then those to paint: one at first, and more and more until there are `longest` (or all
    that the movie has) from a share `grown` of the training on. With `draw_length` their number is drawn for each step,
    up to this many. The frames of a clip and of its background have one window and one draw of the augmentation, from
    its own seed.
    Raises UserError when no frames follow each other for long enough.
    """

    def __init__(
        self,
        items: Sequence[Item],
        read: Callable[[int], Pair],
        drawing: Drawing,
        *,
        lead: int,
        longest: int,
        grown: float = 0.5,
        draw_length: bool = False,
    ) -> None:
        self.items, self.drawing, self.lead, self.draw_length = items, drawing, lead, draw_length
        self.grown = grown
        self.stretches = stretches(items)
        room = max(map(len, self.stretches)) - lead - 1  # one frame at least is left for the background
        if room < 1:
            raise UserError(
                f"at most {counted(room + lead + 1, 'frame')} in a row for training with images and masks, {lead + 2} "
                "are needed; give a longer movie, or a smaller --window or --lag"
            )
        self.longest = min(longest, room)
        self._read = cached(read)

    def length(self, progress: float) -> int:
        """Return how many frames of a clip are to paint, at most, at `progress` (0 to 1) of the training."""
        return min(1 + int(progress / self.grown * self.longest), self.longest)

    def plan(self, step: int, progress: float) -> int:
        """Return how many frames of the clips of a step are to paint."""
        length = self.length(progress)
        if self.draw_length:
            length = 1 + int(torch.randint(length, (), generator=self.drawing.generator(step, 0, "length")))
        return length

    def cut(self, step: int, plan: int) -> ClipBatch:
        """Return this process's share of the clips of a step."""
        cold = float(torch.rand((), generator=self.drawing.generator(step, 0, "start"))) < COLD
        clips = [self._clip(step, place, self.lead + plan, cold) for place in self.drawing.places]
        images, labels, backgrounds, sources = zip(*clips, strict=True)
        names = tuple(name for clip in sources for name in clip)
        return ClipBatch(
            torch.stack(images),
            torch.stack(labels).long(),
            self.drawing.seed,
            step,
            self.drawing.places,
            names,
            backgrounds=torch.stack(backgrounds),
            lead=self.lead,
            cold=cold,
        )

    def _clip(self, step: int, place: int, total: int, cold: bool) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        draw = np.random.default_rng(self.drawing.generator(step, place, "clip").initial_seed())
        roomy = [stretch for stretch in self.stretches if len(stretch) > total]  # a frame is left for the background
        starts = [(stretch, first) for stretch in roomy for first in range(stretch.start, stretch.stop - total + 1)]
        stretch, start = starts[int(draw.integers(len(starts)))]
        clip = list(range(start, start + total))
        others = [i for i in stretch if i not in clip]
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
            generator = self.drawing.generator(step, place, "augment")
            pairs.append(self.drawing.augment(image, labels, generator))
        return torch.stack([image for image, _ in pairs]), torch.stack([labels for _, labels in pairs])


class DoublingClips(Clips):
    """Clips of `first` frames to paint to begin with; the number doubles every quarter of the training (vid2vid)."""

    def __init__(
        self, items: Sequence[Item], read: Callable[[int], Pair], drawing: Drawing, *, lead: int, first: int
    ) -> None:
        super().__init__(items, read, drawing, lead=lead, longest=LONGEST)
        self.first = first

    def length(self, progress: float) -> int:
        """Return how many frames of a clip are to paint at `progress` (0 to 1) of the training."""
        return min(self.first << min(int(DOUBLINGS * progress), DOUBLINGS - 1), self.longest)


def sequence_backgrounds(items: Sequence[Item], read: Callable[[int], Pair], most: int = 25) -> dict[str, np.ndarray]:
    """Return one background (C, H, W) for each sequence, from `most` of its frames spread over time."""
    found = {}
    for group in dict.fromkeys(item.group for item in items):
        places = [i for i, item in enumerate(items) if item.group == group]
        frames, labels = zip(*(read(places[i]) for i in evenly(len(places), most)), strict=True)
        found[str(group)] = background_reference(np.stack(frames), np.stack(labels))
    return found
