"""Compare predicted with true tracks of movie folders, by sequence and pooled."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_labels
from cytoforge.data.movie import (
    Sequence,
    Track,
    inconsistencies,
    is_movie,
    left_out,
    no_movie,
    read_sequences,
    read_tracks,
    some,
)
from cytoforge.engine import ALONE, Announce, Seat
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import TrackComparison
from cytoforge.evaluation.division import Row, Scoring
from cytoforge.metrics.comparison import compare
from cytoforge.metrics.ctc import ctc_measures, graph_counts, segmentation_counts
from cytoforge.metrics.deepsea import Places, places, script_counts, script_measures
from cytoforge.metrics.estimates import Estimate, Floats, bootstrap_estimate, resample
from cytoforge.metrics.segmentation import Labels, Overlap, overlap
from cytoforge.metrics.tracking import pooled, tracking_counts, tracking_measures

FEWEST = 5
"""fewest sequences for which intervals are given; with fewer they would be too narrow (docs/metrics.md)"""
BLOCKS = {  # prefix of the names of measures: (title, measures)
    "tracking": ("CLEAR-MOT, IDF1, HOTA: masks matched from IoU 0.5 on, HOTA from 0.05 to 0.95", tracking_measures),
    "ctc": ("Cell Tracking Challenge: cells found if more than half is covered", ctc_measures),
    "deepsea_script": ("DeepSea script (centroids within 6 px, misses undercounted)", script_measures),
}


@dataclass(frozen=True)
class SequenceScores:
    """One sequence: the sources of its masks and tracks, its counts and scores, by block and name, and what is said."""

    frames: int
    sources: dict[str, str]
    notes: tuple[str, ...]
    counts: dict[str, dict[str, Floats]]
    measures: dict[str, dict[str, float]]

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """Return the scores that follow from what was counted."""
        counts = {block: {name: np.asarray(n) for name, n in each.items()} for block, each in row["counts"].items()}
        return cls(row["frames"], row["sources"], tuple(row["notes"]), counts, _measures(counts))


@dataclass(frozen=True)
class TrackingResults:
    """Scores by sequence and of all sequences together, by block (tracking, ctc, deepsea_script) and name."""

    sequences: dict[str, SequenceScores]
    pooled: dict[str, dict[str, Estimate]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SequencePair:
    """The predicted and the true version of a sequence, with their tracks."""

    prediction: Sequence
    truth: Sequence
    predicted_tracks: tuple[Track, ...]
    true_tracks: tuple[Track, ...]


def score_tracks(comparison: TrackComparison, pairs: list[SequencePair], notes: Collection[str]) -> TrackingResults:
    """Score every true sequence against the predicted one of the same name.

    Raises UserError when tracks contradict their masks or each other, or sizes differ.
    """
    scoring = scoring_of(comparison, pairs, notes)
    return scoring.joined(scoring.rows(pairs, ALONE))


def scoring_of(
    comparison: TrackComparison, pairs: list[SequencePair], notes: Collection[str]
) -> Scoring[SequencePair, TrackingResults]:
    """Return what `score_tracks` does as work that can be divided."""

    def results(rows: Mapping[str, Row]) -> TrackingResults:
        sequences = {name: SequenceScores.from_row(row) for name, row in rows.items()}
        found = [*notes, *(note for scores in sequences.values() for note in scores.notes)]
        if len(rows) < FEWEST:
            found.append(f"no intervals: they resample sequences, and need {FEWEST} at least")
        return TrackingResults(sequences, _pooled(sequences, np.random.default_rng(comparison.seed)), tuple(found))

    return Scoring(ScoringTracks(), pairs, lambda pair: pair.truth.name, "sequences", results)


@dataclass(frozen=True)
class ScoringTracks:
    """Scores the tracks of a sequence."""

    def start(self, seat: Seat) -> Callable[[SequencePair, Announce], Row]:
        """Return the function that scores a sequence, and gives its counts and what the user should know."""
        return _scored


def open_tracks(comparison: TrackComparison) -> tuple[list[SequencePair], list[str]]:
    """Find the predicted and the true sequences, and return them with notes for the user.

    Raises UserError when a side is no movie folder, lacks tracks, masks, frames or a sequence, or the truth is
    synthetic and that is not allowed.
    """
    for path in (comparison.prediction, comparison.truth):
        if not is_movie(path):
            raise no_movie(path, "01/t000.tif, 01_RES/mask000.tif ...", "give one with tracks")
    truths = read_sequences(comparison.truth, comparison.sequence)
    found = {sequence.name: sequence for sequence in read_sequences(comparison.prediction)}
    if missing := [truth.name for truth in truths if truth.name not in found]:
        raise UserError(
            f"{comparison.prediction}: has no prediction for {some('sequence', missing)}; track these, or pick others "
            "by --sequence"
        )
    names = tuple(truth.name for truth in truths)
    witness = Dataset.open(comparison.truth, names).synthetic()
    if witness and not comparison.allow_synthetic:
        raise UserError(
            f"{witness}: says that this movie is synthetic, which is no ground truth; "
            "score on an annotated movie, or give --allow-synthetic"
        )
    extra = sorted(found.keys() - {truth.name for truth in truths})
    notes = [f"prediction: {some('sequence', extra)} not scored"] if extra and not comparison.sequence else []
    sides = (("truth", comparison.truth), ("prediction", comparison.prediction))
    notes += [f"{side}: {note}" for side, path in sides for note in left_out(path, names)]
    pairs = [_pair(comparison, _as_prediction(found[truth.name]), _as_truth(truth)) for truth in truths]
    for pair in pairs:
        pair.prediction.check_labels()
        pair.truth.check_labels()
    return pairs, notes


def _as_prediction(sequence: Sequence) -> Sequence:
    """Return the sequence without its truth if it has results."""
    if "RES" not in sequence.masks and "RES" not in sequence.tracks:
        return sequence
    tracks = {name: file for name, file in sequence.tracks.items() if name == "RES"}
    masks = {"RES": sequence.masks["RES"]} if "RES" in sequence.masks else sequence.masks
    return replace(sequence, masks=masks, tracks=tracks)


def _as_truth(sequence: Sequence) -> Sequence:
    """Return the sequence without its results if it has true tracks."""
    if sequence.track_source == "RES":
        return sequence
    masks = {name: files for name, files in sequence.masks.items() if name != "RES"}
    return replace(sequence, masks=masks)


def _pair(comparison: TrackComparison, prediction: Sequence, truth: Sequence) -> SequencePair:
    tracks = []
    for path, sequence in ((comparison.prediction, prediction), (comparison.truth, truth)):
        if sequence.track_source is None:
            raise UserError(
                f"{path}: sequence {sequence.name} has no man_track.txt or res_track.txt beside its masks; track its "
                "cells first, or pick others by --sequence"
            )
        if sequence.source is None and sequence.track_source not in sequence.masks:
            raise UserError(f"{path}: sequence {sequence.name} has tracks but no masks for every frame; add them")
        tracks.append(read_tracks(sequence.tracks[sequence.track_source]))
    there, here = (set(sequence.tracked_frames()) for sequence in (prediction, truth))
    for path, lacking in ((comparison.prediction, here - there), (comparison.truth, there - here)):
        if lacking:
            raise UserError(
                f"{path}: sequence {truth.name} has no masks for {some('frame', sorted(lacking))} that the other side "
                "has; both sides need the same frames"
            )
    return SequencePair(prediction, truth, *tracks)


def _scored(pair: SequencePair, progress: Announce) -> Row:
    """Score a sequence frame by frame; only overlaps and centroids of a frame are kept in memory."""
    gold = pair.truth.masks.get("GT/SEG", {})
    masks, markers, segmentation = dict[int, Overlap](), dict[int, Overlap](), list[Overlap]()
    ids = dict[int, list[int]]()
    centres = list[tuple[Places, Places]]()
    numbers = pair.truth.tracked_frames()
    size: tuple[int, ...] = ()
    for k, number in enumerate(numbers):
        truth, found = pair.truth.read_tracked(number), pair.prediction.read_tracked(number)
        size = size or truth.shape
        _agree(_mask_file(pair.truth, number), truth, size)
        _agree(_mask_file(pair.prediction, number), found, size)
        masks[number] = overlap(truth, found)
        marked = _markers(pair.truth, number, truth)
        markers[number] = masks[number] if marked is truth else overlap(marked, found)
        own = _markers(pair.prediction, number, found)
        ids[number] = (masks[number].prediction_ids if own is found else np.setdiff1d(own, [0])).tolist()
        if number in gold:
            drawn = read_labels(gold[number])
            _agree(gold[number], drawn, size)
            segmentation.append(overlap(drawn, found))
        centres.append((places(truth), places(found)))
        progress((k + 1) / len(numbers))
    notes = _check_tracks(pair.truth, pair.true_tracks, {n: table.truth_ids.tolist() for n, table in markers.items()})
    notes += _check_tracks(pair.prediction, pair.predicted_tracks, ids)
    counts = {
        "tracking": tracking_counts(compare(masks, pair.true_tracks, pair.predicted_tracks)),
        "ctc": {
            **graph_counts(compare(markers, pair.true_tracks, pair.predicted_tracks)),
            **segmentation_counts(segmentation if gold else masks.values()),
        },
        "deepsea_script": script_counts(centres, size),
    }
    if not counts["deepsea_script"]["true_cells"]:
        notes.append(
            f"sequence {pair.truth.name}: no scores of the DeepSea script, as no true cell lies where it looks: "
            "16 % or more of the width from the left and right edge, 21 % or more of the height from the upper"
        )
    if _same_files(pair):
        notes.append(f"sequence {pair.truth.name}: truth and prediction are the same files")
    plain = {block: {name: np.asarray(n).tolist() for name, n in each.items()} for block, each in counts.items()}
    return {"frames": len(numbers), "sources": _sources(pair), "counts": plain, "notes": notes}


def _mask_file(sequence: Sequence, number: int) -> Path:
    return sequence.masks[sequence.source or sequence.track_source or ""][number]


def _agree(file: Path, labels: Labels, size: tuple[int, ...]) -> None:
    if labels.shape != size:
        raise UserError(
            f"{file}: is {labels.shape[0]} x {labels.shape[1]} pixels, the first true mask of its sequence "
            f"{size[0]} x {size[1]}; bring all frames to one size"
        )


def _markers(sequence: Sequence, number: int, labels: Labels) -> Labels:
    """Return the labels whose ids the tracks use: their own markers, or the cells of the masks in use."""
    markers = sequence.masks.get(sequence.track_source or "")
    return labels if markers is None or sequence.source == sequence.track_source else read_labels(markers[number])


def _check_tracks(sequence: Sequence, tracks: tuple[Track, ...], cells: Mapping[int, list[int]]) -> list[str]:
    """Raise UserError where tracks contradict the masks or each other; return what is merely unlikely."""
    found = inconsistencies(tracks, cells)
    file = sequence.tracks[sequence.track_source or ""]
    for problem in found:
        if problem.severity == "error":
            raise UserError(f"{file}: {problem.what}; {problem.remedy}")
    return [f"{file}: {problem.what}: {problem.remedy}" for problem in found]


def _sources(pair: SequencePair) -> dict[str, str]:
    """Describe the sources of the masks and tracks of both sides."""
    truth, prediction = pair.truth, pair.prediction
    markers = truth.track_source if truth.track_source in truth.masks else truth.source
    return {
        "truth_masks": truth.source or truth.track_source or "",
        "truth_tracks": truth.track_source or "",
        "truth_markers": markers or "",
        "truth_seg": "GT/SEG" if "GT/SEG" in truth.masks else truth.source or truth.track_source or "",
        "prediction_masks": prediction.source or prediction.track_source or "",
        "prediction_tracks": prediction.track_source or "",
    }


def _same_files(pair: SequencePair) -> bool:
    one, two = (side.tracks[side.track_source or ""] for side in (pair.truth, pair.prediction))
    return one.samefile(two)


def _measures(counts: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, float]]:
    return {
        block: {name: float(value) for name, value in measure(counts[block]).items()}
        for block, (_, measure) in BLOCKS.items()
    }


def _pooled(sequences: Mapping[str, SequenceScores], generator: np.random.Generator) -> dict[str, dict[str, Estimate]]:
    """Return the scores of the pooled counts, with intervals from resampling sequences if there are enough."""
    draws = resample(len(sequences), generator).astype(np.float64)
    result = {}
    for block, (_, measure) in BLOCKS.items():
        parts = [scores.counts[block] for scores in sequences.values()]
        values = measure(pooled(parts))
        spread = measure({n: np.tensordot(draws, np.stack([part[n] for part in parts]), axes=1) for n in parts[0]})
        result[block] = {
            name: bootstrap_estimate(float(value), spread[name], len(parts))
            if len(parts) >= FEWEST
            else Estimate(float(value), float("nan"), float("nan"), len(parts))
            for name, value in values.items()
        }
    return result
