"""Trackers on real movies: none of their frames annotated, 5 or 30, with true masks and with wrong ones.

    python benchmarks/trackers.py
    python benchmarks/results.py          # writes docs/results.md from the JSON

A tracker that is trained (`train tracker`, 300 steps) gets the first frames of a movie, of which 2 or a fifth are for
validation, and links the masks of its last frames, or of another sequence. Wrong masks are the true ones with 3 % of
the cells missed, 2 % invented, 5 % of touching pairs merged and 2 % split, drawn anew with each seed. Data are found
through CYTOFORGE_DATA (default ../shared/data). Every measurement is kept in benchmarks/trackers.json as soon as it
ends, so that an interrupted call goes on.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cytoforge.data.files import read_json, write_json
from cytoforge.data.images import read_labels
from cytoforge.data.movie import read_sequences, read_tracks
from cytoforge.inference.tracker import Tracker
from cytoforge.metrics.comparison import compare
from cytoforge.metrics.ctc import ctc_measures, graph_counts
from cytoforge.metrics.segmentation import overlap
from cytoforge.metrics.tracking import tracking_counts, tracking_measures
from cytoforge.simulation.faults import Faults
from cytoforge.studies.frames import Part, copy_movie
from cytoforge.training.hyperparameters import LINKER
from cytoforge.training.samplers.lineages import Tracked
from cytoforge.training.specification import Budget, Compute, Data, Output, Training
from cytoforge.training.tasks.linker import LINKER_STEPS, LinkerTask
from cytoforge.training.tasks.task import run_task
from measuring import provenance

HERE = Path(__file__).parent
DATA = Path(os.environ.get("CYTOFORGE_DATA", HERE.parent.parent / "shared" / "data")).resolve()
JSON = Path(__file__).with_suffix(".json")
SEEDS = 3


class Movie(NamedTuple):
    """A movie: what may be learned from, and what is tested on."""

    folder: str
    learned: str
    """sequence"""
    tested: str
    first: int
    """frame from which on the tested sequence is tested on"""
    frames: tuple[int, ...]
    """numbers of frames that are learned from"""


MOVIES = {
    "hela": Movie("hela", "01", "01", 30, (5, 30)),
    "u373": Movie("u373", "01", "02", 0, (5, 30)),
    "usiigaci_movie": Movie("usiigaci_movie", "01", "01", 19, (5,)),
    "yeast": Movie("pretrain/yeastvision_phc_movie", "", "", 0, ()),
}
NAMED = ("overlap", "laptrack", "base")
KINDS = ("true masks", "wrong masks")
MEASURES = ("idf1", "mota", "switches", "lnk", "division_f_0")


def tested(movie: Movie) -> Tracked:
    """Return the frames that are tested on, with their tracks."""
    folder = DATA / movie.folder
    if not movie.tested:  # a data set whose ids are those of tracks
        return Tracked.of([read_labels(file) for file in sorted((folder / "masks").iterdir())], {})
    (sequence,) = read_sequences(folder, (movie.tested,))
    labels = [frame for _, frame in sequence.tracked()]
    rows = read_tracks(sequence.tracks[sequence.track_source or ""])
    return Tracked.of(labels[movie.first :], {row.label: row.parent for row in rows})


def trained(movie: Movie, frames: int, seed: int, place: Path) -> Tracker:
    """Train a tracker on the first frames of a movie."""
    (sequence,) = read_sequences(DATA / movie.folder, (movie.learned,))
    share = frames / len([number for number in sequence.tracked_frames() if number in sequence.frames])
    few = copy_movie(Part(DATA / movie.folder, [movie.learned], (0.0, share)), place / "few")
    training = Training(
        data=Data(path=few),
        output=Output(path=place / "run"),
        budget=Budget(steps=LINKER_STEPS),
        compute=Compute(device="cpu", threads=1),
        seed=seed,
    )
    return Tracker.load(run_task(LinkerTask(LINKER["small"]), training).run.path)


def measured(tracker: Tracker, truth: Tracked, masks: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Link masks, and score the tracks against the true ones."""
    begin = time.process_time()
    found = tracker.track(masks)
    seconds = time.process_time() - begin
    tables = {k: overlap(one, other) for k, (one, other) in enumerate(zip(truth.labels, found.labels, strict=True))}
    comparison = compare(tables, truth.tracks, [tuple(map(int, row)) for row in found.tracks])
    segmented = {"seg_iou": np.asarray(0.0), "seg_cells": np.asarray(0.0)}
    every = {
        **tracking_measures(tracking_counts(comparison)),
        **ctc_measures({**graph_counts(comparison), **segmented}),
    }
    values = {name: float(every[name]) for name in MEASURES}
    rounded = {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}
    return {**rounded, "seconds": round(seconds, 2)}


def main() -> None:
    found: dict[str, Any] = read_json(JSON) if JSON.exists() else {"results": {}}
    found["provenance"] = provenance("python benchmarks/trackers.py", ("torch", "numpy", "scipy", "laptrack"))

    for name, movie in MOVIES.items():
        truth = tested(movie)
        for seed in range(SEEDS):
            draw = np.random.default_rng([seed, 1])
            wrong = [Faults()(labels, draw) for labels in truth.labels]
            for tracker, frames in (*((each, 0) for each in NAMED), *(("trained", each) for each in movie.frames)):
                kinds = {f"{name}, {kind}, {tracker}, {frames} frames, seed {seed}": kind for kind in KINDS}
                if not frames and seed:  # nothing but the faults is drawn
                    kinds = {each: kind for each, kind in kinds.items() if kind == "wrong masks"}
                if all(each in found["results"] for each in kinds):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    opened = trained(movie, frames, seed, Path(folder)) if frames else Tracker.load(tracker)
                    for each, kind in kinds.items():
                        masks = wrong if kind == "wrong masks" else truth.labels
                        found["results"][each] = measured(opened, truth, masks)
                        print(each, found["results"][each], flush=True)
                write_json(JSON, found)


if __name__ == "__main__":
    main()
