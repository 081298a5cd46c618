"""Scores of a generated movie against a real movie."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import isnan

import numpy as np
import torch
from torch import Tensor

from cytoforge.data.images import resize_labels
from cytoforge.data.weights import lacking, load_i3d, load_inception, load_lpips, load_lpips_vgg
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import MovieComparison
from cytoforge.evaluation.movie_sides import Sides, TrackedMovie, shown
from cytoforge.inference.frames import Labels
from cytoforge.inference.load import choose_device
from cytoforge.inference.segment import fitted
from cytoforge.inference.segmenter import Segmenter, segment_array
from cytoforge.metrics.clips import FRAMES, NAME, TILE, clip_features, clips
from cytoforge.metrics.estimates import ratio
from cytoforge.metrics.generation import PairScores, PerceptualDistance, extract_features
from cytoforge.metrics.movie import (
    LENGTHS,
    NAN,
    RESAMPLED,
    Coherence,
    Faithfulness,
    MovieDistance,
    Reference,
    at_lengths,
    coherence,
    drift,
    faithfulness,
    frame_scores,
    movie_distance,
)
from cytoforge.metrics.texture import noise_power
from cytoforge.metrics.two_sample import FEWEST, TwoSample, compare
from cytoforge.networks.features import CLIP_FRAMES, I3DFeatures, InceptionFeatures
from cytoforge.processors import usable_threads
from cytoforge.progress import Progress, counted

FEW = 30  # steps of cells between frames; with fewer, a note warns about the warping error


@dataclass(frozen=True)
class Drift:
    """Distance between the last frames up to some length and real frames, as `metrics.movie.drift` measures it."""

    grey: float
    texture: float


@dataclass(frozen=True)
class SideScores:
    """Scores of all sequences of one movie together, the generated or the real one."""

    sequences: tuple[str, ...]
    frames: int
    coherence: Coherence
    noise_power: float
    """of the finest grain of a frame, noise and texture: `metrics.texture.noise_power`, mean over the frames"""
    drift: dict[int, Drift]
    """by number of frames"""
    faithfulness: Faithfulness | None
    """None without a segmenter"""


@dataclass(frozen=True)
class MovieResults:
    """Scores, None where they could not be computed, and notes for the user."""

    generated: SideScores
    real: SideScores
    paired: tuple[str, ...]
    """sequences that were painted on the real ones' masks"""
    pairs: PairScores | None
    """scores of generated against real frames; `images` of estimates counts sequences"""
    neighbours: PairScores | None
    """the same scores of each real frame against the next one"""
    frames: MovieDistance | None
    clips: MovieDistance | None
    """in fixed features, which need no weights"""
    video: MovieDistance | None
    """in those of I3D"""
    classifier: TwoSample | None
    """None unless asked for"""
    notes: tuple[str, ...]

    @property
    def ratios(self) -> dict[str, float]:
        """Flicker, background change and noise power of the generated movie, each by that of the real one."""
        ours, real = (
            {"flicker": side.coherence.flicker, "background_change": side.coherence.background_change}
            | {"noise_power": side.noise_power}
            for side in (self.generated, self.real)
        )
        return {name: float(ratio(ours[name], real[name])) if real[name] else NAN for name in ours}


def score_sides(comparison: MovieComparison, sides: Sides) -> MovieResults:
    """Compute all scores of a generated movie that the sequences and the available weights allow.

    Raises UserError when weights or segmenter cannot be used.
    """
    device = choose_device(comparison.device)
    torch.set_num_threads(comparison.threads or usable_threads())
    segmenter = _open_segmenter(comparison, sides)
    where = comparison.weights_dir
    inception, i3d, lpips, vgg = load_inception(where), load_i3d(where), load_lpips(where), load_lpips_vgg(where)
    notes = list(sides.notes)
    notes += [] if inception else [f"no distance frame by frame: {lacking(where, 'inception')}"]
    notes += [f"no LPIPS: {lacking(where, 'squeezenet', 'lpips')}"] if sides.pairs and not (lpips or vgg) else []
    generator = np.random.default_rng(comparison.seed)
    perceptual = (lpips.to(device) if lpips else None, vgg.to(device) if vgg else None)
    pairs, neighbours = _pair_scores(sides, perceptual, device, generator) if sides.pairs else (None, None)
    video = _video_distance(sides, i3d.to(device), device) if i3d else None
    few = f"no {I3DFeatures.name}: one side has fewer than two clips of {CLIP_FRAMES} frames"
    notes += [few] if i3d and video is None else []
    telling = _telling(sides, comparison.seed) if comparison.classifier else None
    notes += (
        [f"no classifier: one side has fewer than {FEWEST} frames"] if comparison.classifier and not telling else []
    )
    reference = Reference(frame for real in sides.real for frame in real.frames())
    results = MovieResults(
        _side_scores(sides.generated, reference, segmenter),
        _side_scores(sides.real, reference, segmenter),
        tuple(ours.name for ours, _ in sides.pairs),
        pairs,
        neighbours,
        _frame_distance(sides, inception.to(device), device) if inception else None,
        _clip_distance(sides),
        video,
        telling,
        tuple(notes),
    )
    return replace(results, notes=(*notes, *_remarks(sides, results)))


def _open_segmenter(comparison: MovieComparison, sides: Sides) -> Segmenter | None:
    if comparison.segmenter is None:
        return None
    segmenter = Segmenter.load(comparison.segmenter, device=comparison.device, threads=comparison.threads)
    if (channels := sides.real[0].data.channels()) != segmenter.channels:
        raise UserError(
            f"{comparison.segmenter}: was trained on {counted(segmenter.channels, 'channel')}, the movies have "
            f"{channels}; give another --segmenter"
        )
    return segmenter


def _pair_scores(
    sides: Sides,
    perceptual: tuple[PerceptualDistance | None, PerceptualDistance | None],
    device: str,
    generator: np.random.Generator,
) -> tuple[PairScores, PairScores]:
    """Return the scores of generated against real frames, and of each real frame against the next one."""

    def both(ours: TrackedMovie, theirs: TrackedMovie) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(ours.tensors(device, "pairs"), theirs.tensors(device), strict=True)

    return (
        frame_scores((both(ours, theirs) for ours, theirs in sides.pairs), generator, *perceptual),
        frame_scores(
            (pairwise(theirs.tensors(device, "neighbours")) for _, theirs in sides.pairs), generator, *perceptual
        ),
    )


def _frame_distance(sides: Sides, network: InceptionFeatures, device: str) -> MovieDistance:
    ours, theirs = (
        [extract_features(network, each.tensors(device, "features")) for each in side]
        for side in (sides.generated, sides.real)
    )
    return movie_distance(network.name, ours, theirs)


def _clip_distance(sides: Sides) -> MovieDistance | None:
    ours, theirs = ([clip_features(each.frames("clips")) for each in side] for side in (sides.generated, sides.real))
    score = movie_distance(NAME, ours, theirs)
    return None if isnan(score.distance) else score


def _telling(sides: Sides, seed: int) -> TwoSample | None:
    """Train a classifier to tell generated from real frames; None where a side has too few."""
    shortest = min(length for each in (*sides.generated, *sides.real) for length in each.size)
    real, generated = (
        [partial(each.example, number) for each in side for number in each.items]
        for side in (sides.real, sides.generated)
    )
    return compare(real, generated, shortest, seed)


@torch.inference_mode()
def _video_distance(sides: Sides, network: I3DFeatures, device: str) -> MovieDistance | None:
    def features(each: TrackedMovie) -> Tensor:
        frames = each.tensors(device, "I3D features")
        rows = [network(torch.stack(clip, dim=1)[None]).cpu() for clip in clips(frames, CLIP_FRAMES)]
        return torch.cat([torch.empty(0, network.num_features), *rows])

    ours, theirs = ([features(each) for each in side] for side in (sides.generated, sides.real))
    score = movie_distance(network.name, ours, theirs)
    return None if isnan(score.distance) else score


def distances_by_length(sides: Sides, lengths: Sequence[int]) -> dict[int, MovieDistance]:
    """Return the Frechet distance of clips of each number of frames (tGAN, Figure 4).

    Lengths of which a side has fewer than two tiles of clips are left out. Longer clips are fewer, and fewer clips are
    farther apart: compare movies at one length, and each with the real halves there.
    """
    found = {}
    for length in lengths:
        ours, theirs = (
            [clip_features(each.frames(), length) for each in side] for side in (sides.generated, sides.real)
        )
        distance = movie_distance(NAME, ours, theirs)
        if not isnan(distance.distance):
            found[length] = distance
    return found


def _side_scores(side: Sequence[TrackedMovie], reference: Reference, segmenter: Segmenter | None) -> SideScores:
    drifted = at_lengths([drift(each.frames(), reference) for each in side])
    return SideScores(
        tuple(each.name for each in side),
        sum(len(each.items) for each in side),
        coherence(each.labelled() for each in side),
        float(np.mean([noise_power(frame) for each in side for frame in each.frames()])),
        {length: Drift(float(grey), float(texture)) for length, (grey, texture) in drifted.items()},
        faithfulness(_seen(each, segmenter) for each in side) if segmenter else None,
    )


def _seen(each: TrackedMovie, segmenter: Segmenter) -> Iterator[tuple[Labels, Labels]]:
    """Yield the labels of each frame and the labels that the segmenter predicts, at the segmenter's scale."""
    segmenter = fitted(segmenter, each.data.images())
    progress = Progress(f"cells of {each.data.path} {each.name}")
    for done, (number, item) in enumerate(each.items.items(), 1):
        image = each.data.read_image(item, segmenter.scaling, segmenter.normalisation)
        labels = resize_labels(each.sequence.read_tracked(number), (image.shape[1], image.shape[2]))
        yield labels, segment_array(segmenter.network, image, segmenter.target, segmenter.tile)
        progress(done / len(each.items))


def _remarks(sides: Sides, results: MovieResults) -> Iterator[str]:
    """Yield notes on what makes the scores hard to interpret: different frame sizes, and few frames, clips or cells."""
    if results.pairs and len(results.paired) < RESAMPLED:
        yield f"no intervals: frames of one movie are alike, so sequences are resampled, if {RESAMPLED} are paired"
    sizes = [{each.size for each in side} for side in (sides.generated, sides.real)]
    if sizes[0] != sizes[1]:
        yield (
            f"sizes differ ({' against '.join(shown(min(size)) for size in sizes)} px, for one): distances compare "
            "larger with smaller fields of view then, or cells of another size; cut both to one size, or give --scale"
        )
    for score, kind in ((results.frames, "frame"), (results.clips, "clip tile"), (results.video, "clip")):
        if score and (fewest := min(score.generated, score.real)) < score.features:
            yield (
                f"the distance of {counted(fewest, kind)} is too high, as {score.features} features want as many a "
                "side: compare it between movies of these lengths only"
            )
    if results.clips is None:
        yield f"no distance of clips: one side has fewer than two, of {FRAMES} frames and about {TILE} px each way"
    for name, side in (("generated", results.generated), ("real", results.real)):
        if (steps := side.coherence.cell_steps) < FEW:
            yield f"the {name} warping error rests on {counted(steps, 'step')} of a cell to the next frame only"
        if not side.drift:
            yield f"no {name} drift: {LENGTHS[0]} frames are needed"
