"""`cytoforge score tracking`: predicted against true tracks, by sequence and pooled, as a table and as JSON."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest, utf8, write_json
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
from cytoforge.errors import UserError
from cytoforge.metrics.comparison import compare
from cytoforge.metrics.ctc import TOLERANCES, ctc_measures, graph_counts, segmentation_counts
from cytoforge.metrics.deepsea import Places, places, script_counts, script_measures
from cytoforge.metrics.estimates import Estimate, Floats, bootstrap_estimate, resample, to_json
from cytoforge.metrics.segmentation import Labels, Overlap, overlap
from cytoforge.metrics.tracking import pooled, tracking_counts, tracking_measures
from cytoforge.places import ABSENT
from cytoforge.progress import Progress, counted
from cytoforge.settings import ScoreTracking

FEWEST = 5
"""sequences from which intervals are told; with fewer they do not hold what they say (docs/metrics.md)"""
LISTED_SEQUENCES = 4
"""sequences that fit into the table"""
BLOCKS = {  # prefix of the names of measures: (title, measures)
    "tracking": ("CLEAR-MOT, IDF1, HOTA: masks matched from IoU 0.5 on, HOTA from 0.05 to 0.95", tracking_measures),
    "ctc": ("Cell Tracking Challenge: cells found if more than half is covered", ctc_measures),
    "deepsea_script": ("DeepSea script (centroids within 6 px, misses undercounted)", script_measures),
}
TITLES = {
    "tracking": {
        "mota": "MOTA",
        "precision": "precision",
        "recall": "recall",
        "switches": "ID switches",
        "fragmentations": "fragmentations",
        "mostly_tracked": "MT",
        "mostly_lost": "ML",
        "idf1": "IDF1",
        "hota": "HOTA",
        "chota": "CHOTA",
    },
    "ctc": {
        "seg": "SEG",
        "det": "DET",
        "tra": "TRA",
        "lnk": "LNK",
        **{f"division_f_{frames}": f"divisions F, +-{counted(frames, 'frame')}" for frames in TOLERANCES},
    },
    "deepsea_script": {
        "mota": "MOTA",
        "precision": "precision",
        "recall": "recall",
        "mostly_tracked": "MT",
        "mostly_lost": "ML",
    },
}


@dataclass(frozen=True)
class SequenceScores:
    """One sequence: where its masks and tracks are from, what was counted, and its scores, by block and name."""

    frames: int
    sources: dict[str, str]
    counts: dict[str, dict[str, Floats]]
    measures: dict[str, dict[str, float]]


@dataclass(frozen=True)
class TrackingResults:
    """Scores by sequence and of all sequences together, by block (tracking, ctc, deepsea_script) and name."""

    sequences: dict[str, SequenceScores]
    pooled: dict[str, dict[str, Estimate]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    """A sequence of both sides."""

    prediction: Sequence
    truth: Sequence
    predicted_tracks: tuple[Track, ...]
    true_tracks: tuple[Track, ...]


def score_tracking_command(config: ScoreTracking) -> None:
    """Score and print the table."""
    print("\n".join(table(score_tracking(config))))


def score_tracking(config: ScoreTracking) -> TrackingResults:
    """Score every true sequence against the predicted one of the same name; write `config.json` if asked to.

    Raises:
        UserError: a side is no movie folder, lacks tracks, masks, frames or a sequence, its tracks contradict its
            masks or each other, sizes differ, the truth is synthetic and that is not allowed, or the JSON file exists.
    """
    if config.json is not None:
        ABSENT.check(config.json, overwrite=config.overwrite)
    pairs, notes = _open(config)
    progress = Progress("score")
    sequences = {}
    for k, pair in enumerate(pairs):

        def report(share: float, done: int = k) -> None:
            progress((done + share) / len(pairs))

        scores, remarks = _scored(pair, report)
        sequences[pair.truth.name] = scores
        notes += remarks
    if len(sequences) < FEWEST:
        notes.append(f"no intervals: they resample sequences, and need {FEWEST} at least")
    results = TrackingResults(sequences, _pooled(sequences, np.random.default_rng(config.seed)), tuple(notes))
    if config.json is not None:
        write_json(config.json, _record(config, pairs, results))
    return results


def _open(config: ScoreTracking) -> tuple[list[_Pair], list[str]]:
    for path in (config.prediction, config.truth):
        if not is_movie(path):
            raise no_movie(path, "01/t000.tif, 01_RES/mask000.tif ...", "give one with tracks")
    truths = read_sequences(config.truth, config.sequence)
    found = {sequence.name: sequence for sequence in read_sequences(config.prediction)}
    if missing := [truth.name for truth in truths if truth.name not in found]:
        raise UserError(
            f"{config.prediction}: has no prediction for {some('sequence', missing)}; track these, or pick others by "
            "--sequence"
        )
    names = tuple(truth.name for truth in truths)
    witness = Dataset.open(config.truth, names).synthetic()
    if witness and not config.allow_synthetic:
        raise UserError(
            f"{witness}: says that this movie is synthetic, which is no ground truth; "
            "score on an annotated movie, or give --allow-synthetic"
        )
    extra = sorted(found.keys() - {truth.name for truth in truths})
    notes = [f"prediction: {some('sequence', extra)} not scored"] if extra and not config.sequence else []
    sides = (("truth", config.truth), ("prediction", config.prediction))
    notes += [f"{side}: {note}" for side, path in sides for note in left_out(path, names)]
    pairs = [_pair(config, _as_prediction(found[truth.name]), _as_truth(truth)) for truth in truths]
    for pair in pairs:
        pair.prediction.check_labels()
        pair.truth.check_labels()
    return pairs, notes


def _as_prediction(sequence: Sequence) -> Sequence:
    """A sequence without its truth, if it has results."""
    if "RES" not in sequence.masks and "RES" not in sequence.tracks:
        return sequence
    tracks = {name: file for name, file in sequence.tracks.items() if name == "RES"}
    masks = {"RES": sequence.masks["RES"]} if "RES" in sequence.masks else sequence.masks
    return replace(sequence, masks=masks, tracks=tracks)


def _as_truth(sequence: Sequence) -> Sequence:
    """A sequence without its results, if it has true tracks."""
    if sequence.track_source == "RES":
        return sequence
    masks = {name: files for name, files in sequence.masks.items() if name != "RES"}
    return replace(sequence, masks=masks)


def _pair(config: ScoreTracking, prediction: Sequence, truth: Sequence) -> _Pair:
    tracks = []
    for path, sequence in ((config.prediction, prediction), (config.truth, truth)):
        if sequence.track_source is None:
            raise UserError(
                f"{path}: sequence {sequence.name} has no man_track.txt or res_track.txt beside its masks; track its "
                "cells first, or pick others by --sequence"
            )
        if sequence.source is None and sequence.track_source not in sequence.masks:
            raise UserError(f"{path}: sequence {sequence.name} has tracks but no masks for every frame; add them")
        tracks.append(read_tracks(sequence.tracks[sequence.track_source]))
    there, here = (set(sequence.tracked_frames()) for sequence in (prediction, truth))
    for path, lacking in ((config.prediction, here - there), (config.truth, there - here)):
        if lacking:
            raise UserError(
                f"{path}: sequence {truth.name} has no masks for {some('frame', sorted(lacking))} that the other side "
                "has; both sides need the same frames"
            )
    return _Pair(prediction, truth, *tracks)


def _scored(pair: _Pair, progress: Callable[[float], None]) -> tuple[SequenceScores, list[str]]:
    """Score a sequence frame by frame; what is kept of a frame are its overlaps and centroids."""
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
    return SequenceScores(len(numbers), _sources(pair), counts, _measures(counts)), notes


def _mask_file(sequence: Sequence, number: int) -> Path:
    return sequence.masks[sequence.source or sequence.track_source or ""][number]


def _agree(file: Path, labels: Labels, size: tuple[int, ...]) -> None:
    if labels.shape != size:
        raise UserError(
            f"{file}: is {labels.shape[0]} x {labels.shape[1]} pixels, the first true mask of its sequence "
            f"{size[0]} x {size[1]}; bring all frames to one size"
        )


def _markers(sequence: Sequence, number: int, labels: Labels) -> Labels:
    """What the tracks number: markers of their own, or the cells of the masks in use."""
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


def _sources(pair: _Pair) -> dict[str, str]:
    """Where masks and tracks of both sides are from, in words."""
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


def _same_files(pair: _Pair) -> bool:
    one, two = (side.tracks[side.track_source or ""] for side in (pair.truth, pair.prediction))
    return one.samefile(two)


def _measures(counts: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, float]]:
    return {
        block: {name: float(value) for name, value in measure(counts[block]).items()}
        for block, (_, measure) in BLOCKS.items()
    }


def _pooled(sequences: Mapping[str, SequenceScores], generator: np.random.Generator) -> dict[str, dict[str, Estimate]]:
    """Scores of the counts of all sequences, with intervals from resampling these where there are enough."""
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


def _record(config: ScoreTracking, pairs: list[_Pair], results: TrackingResults) -> dict[str, Any]:
    """What the JSON file holds: where the numbers come from, then the numbers."""
    return {
        "format": 1,
        "command": "score tracking",
        "version": version("cytoforge"),
        "seed": config.seed,
        "prediction": _fingerprint(config.prediction, [pair.prediction for pair in pairs]),
        "truth": _fingerprint(config.truth, [pair.truth for pair in pairs]),
        "notes": list(results.notes),
        "pooled": {block: {n: _estimate(e) for n, e in scores.items()} for block, scores in results.pooled.items()},
        "sequences": {
            name: {
                "frames": scores.frames,
                "sources": scores.sources,
                "counts": {b: {n: c.tolist() for n, c in counts.items()} for b, counts in scores.counts.items()},
                "measures": {
                    b: {n: None if isnan(v) else v for n, v in values.items()} for b, values in scores.measures.items()
                },
            }
            for name, scores in results.sequences.items()
        },
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    values = to_json(estimate)
    return {**{key: values[key] for key in ("value", "low", "high")}, "sequences": values["images"]}


def _fingerprint(path: Path, sequences: list[Sequence]) -> dict[str, Any]:
    """Path, number of sequences, and SHA-256 over names and contents of all masks and track files in use."""
    lines = []
    for sequence in sequences:
        used = {sequence.source, sequence.track_source, "GT/SEG"} & sequence.masks.keys()
        files = [
            sequence.masks[name or ""][number]
            for name in sorted(used, key=str)
            for number in sequence.masks[name or ""]
        ]
        files.append(sequence.tracks[sequence.track_source or ""])
        lines += [f"{sequence.name} {file.name} {digest(file)}" for file in files]
    return {
        "path": str(path),
        "sequences": len(sequences),
        "sha256": hashlib.sha256(utf8("\n".join(lines))).hexdigest(),
    }


def table(results: TrackingResults) -> Iterator[str]:
    """Lines of text: where the masks and tracks are from, then the scores of the sequences and of all together."""
    for name, scores in results.sequences.items():
        yield from _said_sources(name, scores)
    yield from results.notes
    several = len(results.sequences) > 1
    shown = results.sequences if len(results.sequences) <= LISTED_SEQUENCES else {}
    if not shown:
        yield f"{len(results.sequences)} sequences, each of them in --json"
    if several:
        yield "pooled: counts of all sequences added up, then divided"
    if any(not isnan(e.low) for scores in results.pooled.values() for e in scores.values()):
        yield "[95 % interval, sequences resampled]"
    yield "- where undefined"
    head = [*shown, *(["pooled"] if several else [])]
    for block, (title, _) in BLOCKS.items():
        yield from ("", title, f"  {'':<24}" + "".join(f"{name:>9}" for name in head))
        for name, words in TITLES[block].items():
            values = [f"{_number(name, scores.measures[block][name]):>9}" for scores in shown.values()]
            values += [_with_interval(name, results.pooled[block][name])] if several else []
            yield f"  {words:<24}" + "".join(values)


def _said_sources(name: str, scores: SequenceScores) -> Iterator[str]:
    """The sources of a sequence, and that tracks of RES are a program's."""
    sources = scores.sources
    solution = " (a tracker's solution)" if sources["truth_tracks"] == "RES" else ""
    yield f"sequence {name}: {counted(scores.frames, 'frame')}"
    yield f"  truth: tracks from {sources['truth_tracks']}{solution}, masks from {sources['truth_masks']}"
    yield f"  truth of SEG: {sources['truth_seg']}; of DET, TRA, LNK and divisions: {sources['truth_markers']}"
    yield f"  prediction: tracks from {sources['prediction_tracks']}, masks from {sources['prediction_masks']}"


def _number(name: str, value: float) -> str:
    if isnan(value):
        return "-"
    return f"{value:.0f}" if name in ("switches", "fragmentations") else f"{value:.3f}"


def _with_interval(name: str, estimate: Estimate) -> str:
    text = f"{_number(name, estimate.value):>9}"
    if isnan(estimate.low):
        return text
    return f"{text} [{_number(name, estimate.low)} {_number(name, estimate.high)}]"
