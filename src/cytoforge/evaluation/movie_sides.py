"""The two sides of `score movie`: frames with tracked cells, one mapping of grey values per side, and pairs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cytoforge.data import movie
from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.images import read_header, scaled_shape, units_agree, widened
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import MovieComparison
from cytoforge.evaluation.generation import constant_remarks, unlike_constants
from cytoforge.inference.frames import Labels, shrunk
from cytoforge.inference.tiling import Floats
from cytoforge.networks.features import SQUEEZENET_SMALLEST
from cytoforge.progress import Progress, counted
from cytoforge.tracking.linking import numbered


@dataclass(frozen=True)
class TrackedMovie:
    """One sequence of one side: its frames with tracked cells, and how they are read."""

    data: Dataset
    """dataset of the whole side"""
    sequence: movie.Sequence
    items: Mapping[int, Item]
    """by frame number, in the order of time"""
    shape: tuple[int, int]
    """height and width of the files"""
    scale: float
    limits: np.ndarray
    """(C, 2), lower and upper grey value per channel, common to the whole side"""

    @property
    def name(self) -> str:
        """Return the name of the sequence."""
        return self.sequence.name

    @property
    def where(self) -> str:
        """Return folder and sequence, for messages."""
        return f"{self.data.path}, sequence {self.name}"

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the frames as they are read."""
        return scaled_shape(self.shape, self.scale)

    def frames(self, task: str | None = None) -> Iterator[Floats]:
        """Yield frames (C, H, W) in [-1, 1], with a progress bar if `task` is given."""
        progress = Progress(f"{task} of {self.data.path} {self.name}")
        for done, item in enumerate(self.items.values(), 1):
            yield self.data.read_image(item, self.scale, limits=self.limits)
            if task:
                progress(done / len(self.items))

    def tensors(self, device: str, task: str | None = None) -> Iterator[Tensor]:
        """Yield the same as tensors on a device."""
        return (torch.from_numpy(frame).to(device) for frame in self.frames(task))

    def labels(self, number: int) -> Labels:
        """Return labels (H, W) of a frame with the ids of tracks; raises UserError when their size differs."""
        labels = self.sequence.read_tracked(number)
        if labels.shape != self.shape:
            raise UserError(
                f"{self.items[number].image}: is {shown(self.shape)} pixels, its mask {shown(labels.shape)}; export "
                "both at the same size"
            )
        return shrunk(labels, self.scale)

    def example(self, number: int) -> tuple[Floats, Labels]:
        """Return a frame (C, H, W) in [-1, 1] with its labels (H, W)."""
        return self.data.read_image(self.items[number], self.scale, limits=self.limits), self.labels(number)

    def labelled(self) -> Iterator[tuple[Floats, Labels]]:
        """Yield frames with their labels."""
        return zip(self.frames(), map(self.labels, self.items), strict=True)

    def like(self, other: "TrackedMovie") -> "TrackedMovie":
        """Return this sequence with only those frames that `other` has."""
        return replace(self, items={number: self.items[number] for number in other.items})


@dataclass(frozen=True)
class Sides:
    """Generated and real sequences, the pairs among them, and notes for the user."""

    generated: tuple[TrackedMovie, ...]
    real: tuple[TrackedMovie, ...]
    pairs: tuple[tuple[TrackedMovie, TrackedMovie], ...]
    """painted and real frames of the same masks"""
    notes: tuple[str, ...]

    @classmethod
    def open(cls, comparison: MovieComparison) -> Self:
        """Find the sequences of both sides. Where all generated ones have a real partner, only partners are compared.

        Grey values of a side are mapped as its dataset.json says, else between the common limits of the truth.
        Raises UserError when a side is no movie with tracks, or its frames cannot be compared.
        """
        truth, theirs = _open_side(comparison.truth, comparison.sequence)
        if not comparison.allow_synthetic and (witness := truth.synthetic()):
            raise UserError(
                f"{witness}: says that these images are synthetic, which is no ground truth; "
                "score against a real movie, or give --allow-synthetic"
            )
        present = {sequence.name for sequence in movie.read_sequences(comparison.prediction)}
        data, ours = _open_side(comparison.prediction, tuple(name for name in comparison.sequence if name in present))
        for side in (truth, data):
            side.check_looks(truth)
        limits, scale = _limits(truth), comparison.scale or data.scale / truth.scale
        notes, incomparable = list[str](), None
        if data.limits is None:
            ours_alone = _limits(data)
            notes = [*_unit_remarks(data, truth, ours_alone, limits), *constant_remarks(truth.path, limits)]
            incomparable = unlike_constants(ours_alone, limits)
            limits = our_limits = widened(limits, ours_alone)
        else:
            our_limits = _limits(data)
        generated = tuple(TrackedMovie(data, *found, 1.0, our_limits) for found in ours)
        real = tuple(TrackedMovie(truth, *found, scale, limits) for found in theirs)
        notes += [note for side in (truth, data) for note in side.left_out]
        for each in (*generated, *real):
            if min(each.size) < SQUEEZENET_SMALLEST:
                raise UserError(f"{each.where}: frames are {shown(each.size)} px, {SQUEEZENET_SMALLEST} are needed")
            notes += _gaps(each)
        pairs, unpaired = _pairs(generated, real, incomparable)
        if len(pairs) == len(generated):
            real = tuple(theirs for _, theirs in pairs)
        return cls(generated, real, pairs, (*notes, *unpaired))


_Found = tuple[movie.Sequence, dict[int, Item], tuple[int, int]]  # frames by number, and their size


def _open_side(path: Path, names: tuple[str, ...]) -> tuple[Dataset, list[_Found]]:
    """Return the frames of a movie folder that can be scored, all together and by sequence."""
    if not movie.is_movie(path):
        raise movie.no_movie(path, "01/t000.tif, 01_GT/TRA/man_track000.tif ...")
    data = Dataset.open(path, names).alike()
    found = [_scored(data, sequence) for sequence in movie.read_sequences(path, names)]
    return replace(data, items=tuple(item for _, items, _ in found for item in items.values())), found


def _scored(data: Dataset, sequence: movie.Sequence) -> _Found:
    """Return the frames of a sequence whose cells are tracked: at least two, consecutive, of one size."""
    where = f"{data.path}, sequence {sequence.name}"
    try:
        numbers = sequence.tracked_frames()
    except UserError as error:
        raise UserError(f"{data.path}: {error}") from error
    items = {item.frame: item for item in data.items if item.group == sequence.name and item.image}
    found = {number: items[number] for number in numbers if number in items}
    if len(found) < 2:
        raise UserError(f"{where}: has {counted(len(found), 'frame')} with tracked cells, two are needed; add frames")
    lost = sorted(set(range(min(found), max(found))) - set(found))
    if lost:
        raise UserError(f"{where}: lacks {movie.some('frame', lost)}, or their masks; add them, or cut the movie there")
    sizes = {number: read_header(item.image)[0][1:] for number, item in found.items() if item.image}
    first = sizes[min(sizes)]
    for number, size in sizes.items():
        if size != first:
            raise UserError(
                f"{found[number].image}: is {shown(size)} pixels, the first frame of the movie {shown(first)}; export "
                "all frames at one size"
            )
    return sequence, found, first


def _limits(data: Dataset) -> np.ndarray:
    """Return the grey values (C, 2) that are mapped to -1 and 1 in all frames of a side."""
    return data.common_limits() if data.limits is None else np.tile(data.limits, (data.channels(), 1))


def _unit_remarks(data: Dataset, truth: Dataset, found: np.ndarray, limits: np.ndarray) -> Iterator[str]:
    """Yield a warning if the ranges of grey values overlap by less than half."""
    if not units_agree(found, limits):
        (low, high), (real_low, real_high) = (f"{side.min():g} {side.max():g}".split() for side in (found, limits))
        yield (
            f"grey values run from {low} to {high} in {data.path} and from {real_low} to {real_high} in {truth.path}: "
            f'if these are other units, not other brightness, write {{"limits": [LOW, HIGH]}}, what stands for the '
            f"least and greatest of the real ones, into {data.path / 'dataset.json'}"
        )


def _gaps(each: TrackedMovie) -> Iterator[str]:
    """Yield notes on what the scores of a movie leave out: frames without masks, without cells, without background."""
    masked = [each.labels(number) for number in each.items]
    for count, lacked, scores in (
        (len(each.sequence.frames) - len(each.items), "masks of tracked cells", "all scores"),
        (sum(not labels.any() for labels in masked), "cells", "the warping error and faithfulness"),
        (sum(bool(labels.all()) for labels in masked), "background", "flicker and background change"),
    ):
        if count:
            total = counted(len(each.sequence.frames), "frame")
            yield f"{each.where}: {count} of {total} without {lacked}, left out of {scores}"


def _pairs(
    generated: Sequence[TrackedMovie], real: Sequence[TrackedMovie], incomparable: str | None
) -> tuple[tuple[tuple[TrackedMovie, TrackedMovie], ...], list[str]]:
    """Pair generated sequences with the real ones on whose masks they were painted; note why others have no pair."""
    named = {theirs.name: theirs for theirs in real}
    pairs, notes = [], []
    for ours in generated:
        theirs = named.get(ours.name)
        if theirs is None:
            reason = f"{real[0].data.path} has no sequence {ours.name}, only {', '.join(named)}"
        elif theirs.size != ours.size:
            reason = (
                f"frames are {shown(ours.size)} px, the real ones {shown(theirs.size)} as they are read; give the "
                "--scale at which they were generated"
            )
        elif incomparable:
            reason = incomparable
        elif not _same_labels(ours, theirs):
            reason = f"its masks are not those of {theirs.where}"
        else:
            pairs.append((ours, theirs.like(ours)))
            continue
        notes.append(f"no SSIM, PSNR, LPIPS of {ours.where}: {reason}")
    return tuple(pairs), notes


def _same_labels(ours: TrackedMovie, theirs: TrackedMovie) -> bool:
    """Return whether all frames hold the same cells; their ids may differ."""
    return ours.items.keys() <= theirs.items.keys() and all(
        np.array_equal(numbered(ours.labels(number)), numbered(theirs.labels(number))) for number in ours.items
    )


def shown(size: Sequence[int]) -> str:
    """Return height and width as text."""
    return f"{size[0]} x {size[1]}"
