"""`cytoforge score tracking`: compare predicted with true tracks, by sequence and pooled; print a table, write JSON."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

from cytoforge.commands.divided_score import scored, still_to_come
from cytoforge.commands.narrowed import narrowed
from cytoforge.data.files import digest, utf8
from cytoforge.data.movie import (
    Sequence,
)
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import TrackComparison
from cytoforge.evaluation.tracking import (
    BLOCKS,
    SequencePair,
    SequenceScores,
    TrackingResults,
    open_tracks,
    scoring_of,
)
from cytoforge.metrics.ctc import TOLERANCES
from cytoforge.metrics.estimates import Estimate, to_json
from cytoforge.progress import counted
from cytoforge.settings import ScoreTracking

LISTED_SEQUENCES = 4
"""number of sequences that fit into the table"""


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


def score_tracking_command(settings: ScoreTracking) -> None:
    """Score and print the table, or how much of the work other parts have to do yet."""
    results = _scored(settings)
    if isinstance(results, int):
        print(still_to_come(settings, results, "sequence"))
    else:
        print("\n".join(table(results)))


def score_tracking(settings: ScoreTracking) -> TrackingResults:
    """Score every true sequence against the predicted one of the same name; write JSON if asked to.

    Raises:
        UserError: a side is no movie folder, lacks tracks, masks, frames or a sequence, its tracks contradict its
            masks or each other, sizes differ, the truth is synthetic and that is not allowed, the JSON file exists, or
            other parts have not scored their sequences yet.
    """
    results = _scored(settings)
    if isinstance(results, int):
        raise UserError(still_to_come(settings, results, "sequence"))
    return results


def _scored(settings: ScoreTracking) -> TrackingResults | int:
    comparison = narrowed(TrackComparison, settings)
    pairs, notes = open_tracks(comparison)
    return scored(settings, scoring_of(comparison, pairs, notes), lambda: _head(settings, pairs), _content)


def _head(settings: ScoreTracking, pairs: list[SequencePair]) -> dict[str, Any]:
    """Return the beginning of the JSON file: what the scores depend on."""
    return {
        "format": 1,
        "command": "score tracking",
        "version": version("cytoforge"),
        "seed": settings.seed,
        "prediction": _fingerprint(settings.prediction, [pair.prediction for pair in pairs]),
        "truth": _fingerprint(settings.truth, [pair.truth for pair in pairs]),
    }


def _content(results: TrackingResults) -> dict[str, Any]:
    """Return what follows in the JSON file: the scores."""
    return {
        "notes": list(results.notes),
        "pooled": {block: {n: _estimate(e) for n, e in scores.items()} for block, scores in results.pooled.items()},
        "sequences": {
            name: {
                "frames": scores.frames,
                "sources": scores.sources,
                "notes": list(scores.notes),
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
    """Return the path, the number of sequences, and the SHA-256 of all masks and track files used, with names."""
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
    """Yield lines of text: the sources of masks and tracks, then the scores by sequence and pooled."""
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
    """Yield the sources of a sequence's masks and tracks, with a remark that a program made the tracks of RES."""
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
