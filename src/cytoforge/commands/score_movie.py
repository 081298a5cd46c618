"""`cytoforge score movie`: a generated movie against a real one, as a table and as JSON."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from math import isnan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cytoforge.commands.movie_sides import Sides, TrackedMovie, shown
from cytoforge.data.files import write_json
from cytoforge.data.images import resize_labels
from cytoforge.data.weights import FeatureNetwork, lacking, load_inception, load_lpips, used_weights
from cytoforge.errors import UserError
from cytoforge.inference.frames import Labels
from cytoforge.inference.load import choose_device
from cytoforge.inference.segmenter import Segmenter, segment_array
from cytoforge.metrics.clips import FRAMES, NAME, TILE, clip_features
from cytoforge.metrics.estimates import Estimate, to_json
from cytoforge.metrics.generation import PairScores, PerceptualDistance, extract_features
from cytoforge.metrics.movie import (
    LENGTHS,
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
from cytoforge.networks.features import InceptionFeatures
from cytoforge.places import ABSENT
from cytoforge.progress import Progress, counted
from cytoforge.settings import ScoreMovie

FEW = 30  # steps of cells, below which the warping error is remarked on


@dataclass(frozen=True)
class Drift:
    """Distance of the last frames before some length from the real ones, as `metrics.movie.drift` measures it."""

    grey: float
    texture: float


@dataclass(frozen=True)
class SideScores:
    """What is told of all sequences of one side together."""

    sequences: tuple[str, ...]
    frames: int
    coherence: Coherence
    drift: dict[int, Drift]
    """by number of frames"""
    faithfulness: Faithfulness | None
    """None without a segmenter"""


@dataclass(frozen=True)
class MovieResults:
    """What could be scored (the rest is None), and what to say about it."""

    generated: SideScores
    real: SideScores
    paired: tuple[str, ...]
    """sequences that were painted on the real ones' masks"""
    pairs: PairScores | None
    """of their frames and the real ones; `images` of estimates are sequences"""
    neighbours: PairScores | None
    """the same of each real frame and the next one"""
    frames: MovieDistance | None
    clips: MovieDistance | None
    notes: tuple[str, ...]


def score_movie_command(config: ScoreMovie) -> None:
    """Score and print the table."""
    results = score_movie(config)
    print("\n".join([*results.notes, *_table(results)]))


def score_movie(config: ScoreMovie) -> MovieResults:
    """Score a generated against a real movie in all ways that sequences and weights allow; write `config.json`.

    Raises:
        UserError: a path is no movie with tracks, its frames are fewer than two, not in a row, of several sizes or
            neither grey nor RGB, the truth is synthetic and that is not allowed, weights or segmenter are of no use, or
            the JSON file exists already.
    """
    if config.json is not None:
        ABSENT.check(config.json, overwrite=config.overwrite)
    device = choose_device(config.device)
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    sides = Sides.open(config)
    segmenter = _open_segmenter(config, sides)
    inception, lpips = load_inception(config.weights_dir), load_lpips(config.weights_dir)
    notes = list(sides.notes)
    notes += [] if inception else [f"no distance frame by frame: {lacking(config.weights_dir, 'inception')}"]
    notes += [f"no LPIPS: {lacking(config.weights_dir, 'squeezenet', 'lpips')}"] if sides.pairs and not lpips else []
    network, generator = lpips.to(device) if lpips else None, np.random.default_rng(config.seed)
    pairs, neighbours = _pair_scores(sides, network, device, generator) if sides.pairs else (None, None)
    reference = Reference(frame for real in sides.real for frame in real.frames())
    results = MovieResults(
        _side_scores(sides.generated, reference, segmenter),
        _side_scores(sides.real, reference, segmenter),
        tuple(ours.name for ours, _ in sides.pairs),
        pairs,
        neighbours,
        _frame_distance(sides, inception.to(device), device) if inception else None,
        _clip_distance(sides),
        tuple(notes),
    )
    results = replace(results, notes=(*notes, *_remarks(sides, results)))
    if config.json is not None:
        write_json(config.json, _record(sides, config, results))
    return results


def _open_segmenter(config: ScoreMovie, sides: Sides) -> Segmenter | None:
    if config.segmenter is None:
        return None
    segmenter = Segmenter.load(config.segmenter, device=config.device, threads=config.threads)
    if (channels := sides.real[0].data.channels()) != segmenter.channels:
        raise UserError(
            f"{config.segmenter}: was trained on {counted(segmenter.channels, 'channel')}, the movies have {channels}; "
            "give another --segmenter"
        )
    return segmenter


def _pair_scores(
    sides: Sides, lpips: PerceptualDistance | None, device: str, generator: np.random.Generator
) -> tuple[PairScores, PairScores]:
    """Scores of generated frames and the real ones, and of real frames and those after them."""

    def both(ours: TrackedMovie, theirs: TrackedMovie) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(ours.tensors(device, "pairs"), theirs.tensors(device), strict=True)

    return (
        frame_scores((both(ours, theirs) for ours, theirs in sides.pairs), generator, lpips),
        frame_scores((pairwise(theirs.tensors(device, "neighbours")) for _, theirs in sides.pairs), generator, lpips),
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


def _side_scores(side: Sequence[TrackedMovie], reference: Reference, segmenter: Segmenter | None) -> SideScores:
    drifted = at_lengths([drift(each.frames(), reference) for each in side])
    return SideScores(
        tuple(each.name for each in side),
        sum(len(each.items) for each in side),
        coherence(each.labelled() for each in side),
        {length: Drift(float(grey), float(texture)) for length, (grey, texture) in drifted.items()},
        faithfulness(_seen(each, segmenter) for each in side) if segmenter else None,
    )


def _seen(each: TrackedMovie, segmenter: Segmenter) -> Iterator[tuple[Labels, Labels]]:
    """Labels of each frame, and what the segmenter finds there, at the scale of the segmenter."""
    progress = Progress(f"cells of {each.data.path} {each.name}")
    for done, (number, item) in enumerate(each.items.items(), 1):
        image = each.data.read_image(item, segmenter.scale / each.data.scale, segmenter.normalisation)
        labels = resize_labels(each.sequence.read_tracked(number), (image.shape[1], image.shape[2]))
        yield labels, segment_array(segmenter.network, image, segmenter.target, segmenter.tile)
        progress(done / len(each.items))


def _remarks(sides: Sides, results: MovieResults) -> Iterator[str]:
    """What makes the scores hard to read: frames of other sizes, and few of what the scores rest on."""
    if results.pairs and len(results.paired) < RESAMPLED:
        yield f"no intervals: frames of one movie are alike, so sequences are resampled, if {RESAMPLED} are paired"
    sizes = [{each.size for each in side} for side in (sides.generated, sides.real)]
    if sizes[0] != sizes[1]:
        yield (
            f"sizes differ ({' against '.join(shown(min(size)) for size in sizes)} px, for one): distances compare "
            "larger with smaller fields of view then, or cells of another size; cut both to one size, or give --scale"
        )
    for score, kind in ((results.frames, "frame"), (results.clips, "clip tile")):
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


def _record(sides: Sides, config: ScoreMovie, results: MovieResults) -> dict[str, Any]:
    """What the JSON file holds: where the numbers come from, then the numbers that were computed."""
    ours, theirs = sides.generated[0], sides.real[0]
    used: list[FeatureNetwork] = ["inception"] if results.frames else []
    used += ["squeezenet", "lpips"] if results.pairs and results.pairs.lpips else []
    names = ("pairs", "neighbours", "frames", "clips", "generated", "real")
    scores = {name: to_json(score) for name in names if (score := getattr(results, name)) is not None}
    for side in (scores["generated"], scores["real"]):
        if side["faithfulness"]:
            by_sequence = zip(side["sequences"], side["faithfulness"]["instances"], strict=True)
            side["faithfulness"]["instances"] = dict(by_sequence)
    return {
        "format": 1,
        "command": "score movie",
        "version": version("cytoforge"),
        "seed": config.seed,
        "scale": theirs.scale,
        "limits": {"prediction": ours.limits.tolist(), "truth": theirs.limits.tolist()},
        "prediction": ours.data.fingerprint(),
        "truth": theirs.data.fingerprint(),
        "networks": used_weights(used, config.weights_dir),
        **({"segmenter": str(config.segmenter)} if config.segmenter else {}),
        "paired": list(results.paired),
        "notes": list(results.notes),
        **{name: {key: value for key, value in score.items() if value is not None} for name, score in scores.items()},
    }


def _table(results: MovieResults) -> Iterator[str]:
    ours, real = results.generated, results.real
    yield f"{_names(ours)} generated, {_names(real)} real; - where undefined"
    yield _line("", "generated", "real")
    if (pairs := results.pairs) and (steps := results.neighbours):
        yield f"frame by frame, {counted(pairs.pairs, 'pair')}; real: each frame against the next one"
        yield _row("SSIM", pairs.ssim, steps.ssim)
        yield _row("PSNR, dB", pairs.psnr, steps.psnr, digits=1)
        if pairs.lpips and steps.lpips:
            yield _row("LPIPS", pairs.lpips, steps.lpips, remark=str(pairs.lpips_network))
    if results.frames or results.clips:
        yield "Frechet distance of generated from real; real: of their earlier from their later half"
    for title, score in (("of frames", results.frames), ("of clips", results.clips)):
        if score:
            size = f"{score.generated} against {score.real}, {score.network}"
            yield _row(title, score.distance, score.halves, remark=size)
    yield "change from frame to frame, of grey values from -1 to 1"
    yield _row("warping error", ours.coherence.warping_error, real.coherence.warping_error, digits=4)
    yield _row("background flicker", ours.coherence.flicker, real.coherence.flicker, digits=4)
    yield _row("background change", ours.coherence.background_change, real.coherence.background_change, digits=4)
    lengths = sorted({*ours.drift, *real.drift})
    for name in ("grey", "texture") if lengths else ():
        yield f"drift of {name} from the mean of the real frames"
        for length in lengths:
            a, b = (getattr(side.drift[length], name) if length in side.drift else np.nan for side in (ours, real))
            yield _row(f"{length} frames", a, b)
    if ours.faithfulness and real.faithfulness:
        yield "cells that the segmenter finds, at IoU 0.5"
        yield _row("mean over tracks", ours.faithfulness.mean, real.faithfulness.mean)
        yield _row("of all cells", ours.faithfulness.cells, real.faithfulness.cells)


def _names(side: SideScores) -> str:
    return f"sequence {', '.join(side.sequences)} ({counted(side.frames, 'frame')})"


def _row(title: str, ours: Estimate | float, real: Estimate | float, digits: int = 3, remark: str = "") -> str:
    if isinstance(ours, Estimate) and not isnan(ours.low):
        remark = f"[{ours.low:.{digits}f} {ours.high:.{digits}f}] {remark}"
    values = (score.value if isinstance(score, Estimate) else score for score in (ours, real))
    generated, true = ("-" if isnan(value) else f"{value:.{digits}f}" for value in values)
    return _line(title, generated, true, remark)


def _line(title: str, ours: str, real: str, remark: str = "") -> str:
    return f"  {title:<20}{ours:>10}{real:>10}  {remark}".rstrip()
