"""`study movie` and `study tracking`, at their smallest: frames on either side, what is measured, what is refused."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cells import draw
from conftest import picture, write_movie
from cytoforge.cli import main
from cytoforge.commands.study import specified, study_tracking
from cytoforge.data.files import digest, read_json
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.movie import read_sequences, read_tracks
from cytoforge.data.writer import read_info
from cytoforge.errors import UserError
from cytoforge.evaluation.comparison import TrackComparison
from cytoforge.evaluation.tracking import open_tracks, score_tracks
from cytoforge.inference import track
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.inference.painting import from_grey
from cytoforge.inference.recording import Recorder
from cytoforge.inference.tracker import Tracker
from cytoforge.metrics.estimates import Estimate
from cytoforge.settings import StudyMovie, StudyTracking
from cytoforge.simulation.faults import Faults
from cytoforge.studies import specification as studies
from cytoforge.studies.frames import Part, copy_movie, interpolate_movie, split_movies
from cytoforge.studies.measure import movies, trackers, trainings
from cytoforge.studies.measurements import TrackingScores
from cytoforge.studies.present.movies import drift_figure
from cytoforge.tracking.linking import numbered
from cytoforge.training import specification
from cytoforge.training.hyperparameters import Vid2Vid
from cytoforge.training.tasks import staged

pytestmark = pytest.mark.usefixtures("short_trainings")

TINY = "--preset tiny --minutes 0.002 --threads 1 --seeds 1"
FLAGS = {
    "movie": "--frames 10 --densities 0.2 --scale 0.75 --max-steps 4 --stage both",
    "tracking": "--methods tgan --trackers overlap deepsea --frames 100",
}
FRAMES = {"01": 10, "02": 6}
ARMS = ("real", "painted", "both")
WAYS = {  # to paint the test movie: folder of the painted movie
    "tgan": "tgan",
    "vid2vid": "vid2vid",
    "tgan, converged": "tgan-converged",
    "vid2vid, converged": "vid2vid-converged",
    "tgan, super-resolution": "super-resolution",
    "tgan, interpolated": "interpolated",
}
Run = Callable[[str], Path]


def film(path: Path, frames: dict[str, int] = FRAMES, seed: int = 0) -> Path:
    """A movie folder: cells 1 and 2 move right; 2 divides into 3 and 4 at frame 2; every frame is another."""
    for sequence, count in frames.items():
        for t in range(count):
            labels = np.zeros((64, 64), np.int32)
            labels[8:22, 4 + 2 * t : 18 + 2 * t] = 1
            if t < 2:
                labels[34:50, 6 + t : 30 + t] = 2
            else:
                labels[34:50, 4 + t : 16 + t], labels[34:50, 20 + t : 32 + t] = 3, 4
            write_image(path / sequence / f"t{t:03d}.tif", picture(labels, seed=seed + 100 * int(sequence) + t))
            write_labels(path / f"{sequence}_GT" / "TRA" / f"man_track{t:03d}.tif", labels)
        rows = f"1 0 {count - 1} 0\n2 0 1 0\n3 2 {count - 1} 2\n4 2 {count - 1} 2\n"
        (path / f"{sequence}_GT" / "TRA" / "man_track.txt").write_text(rows)
    return path


def study(kind: str, data: Path, out: Path, *flags: str) -> int:
    return main(["study", kind, str(data), "--out", str(out), *TINY.split(), *FLAGS[kind].split(), *flags])


@pytest.mark.parametrize(
    ("method", "options", "given"),
    [
        ("tgan", {}, "instances"),
        ("tgan", {"condition": "mask"}, "mask"),
        ("tgan", {"preset": "paper"}, "mask"),
        ("tgan", {"preset": "paper", "condition": "instances"}, "instances"),
        ("vid2vid", {"condition": "instances"}, "mask"),
    ],
)
def test_what_generators_are_given_of_cells(
    method: Any, options: dict[str, Any], given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(trainings, "trained", lambda task, training: asked.append((task, training)))
    wanted = specified(studies.MovieStudy, StudyMovie(data=(tmp_path,), out=tmp_path / "out", **options))
    folder: Any = SimpleNamespace(kind="movie", place=lambda *parts: tmp_path.joinpath(*parts))
    movies.generator_run(folder, wanted, method, tmp_path, seed=3)
    ((task, training),) = asked
    assert (isinstance(task.parameters, Vid2Vid), training.seed) == (method == "vid2vid", 3)
    assert task.parameters.condition == given


def digests(path: Path) -> set[str]:
    return {digest(file) for sequence in read_sequences(path) for file in sequence.frames.values()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "film")


@pytest.fixture(scope="module", autouse=True)
def no_weights() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CYTOFORGE_WEIGHTS", raising=False)
        yield


@pytest.fixture(scope="module")
def asked() -> dict[str, list[specification.Training]]:
    """The trainings, by kind of study, that were asked for while `run` ran it."""
    return {}


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory, asked: dict[str, list[specification.Training]]) -> Run:
    """Return the folder of a study of a kind that was interrupted, then finished; it runs for the first to ask."""
    done: dict[str, Path] = {}
    train = trainings.run_task

    def finished(kind: str) -> Path:
        def record(task: Any, training: specification.Training) -> Any:
            asked.setdefault(kind, []).append(training)
            return train(task, training)

        if kind not in done:
            out = tmp_path_factory.mktemp(kind) / "study"
            weights = out.parent / "weights"
            weights.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                stop = {"movie": (movies, "score_sides"), "tracking": (trackers, "score_tracks")}[kind]
                patch.setattr(*stop, interrupt)
                patch.setattr(trainings, "run_task", record)
                assert study(kind, data, out, "--weights-dir", str(weights)) == 130
            files = [file for file in (out / "runs").rglob("*.*") if file.name != "manifest.jsonl"]  # may be shortened
            before = {file: file.stat().st_mtime_ns for file in files}
            assert before and not (out / "results").exists()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trainings, "run_task", record)
                patch.setattr(staged, "run_task", record)
                patch.setattr(track, "write_report", lambda folder, *given: folder.path)  # pages and films take long
                assert study(kind, data, out, "--weights-dir", str(weights)) == 0
            assert all(file.stat().st_mtime_ns == time for file, time in before.items())  # not trained again
            done[kind] = out
        return done[kind]

    return finished


def interrupt(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


def forbid(patch: pytest.MonkeyPatch) -> None:
    """From here on nothing can be trained, simulated, painted, tracked or scored."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("this was done before")

    for place, name in (
        (trainings, "run_task"),
        (trainings, "segment_dataset"),
        (movies, "simulate_movie"),
        (movies, "film_masks"),
        (movies, "score_sides"),
        (trackers, "simulate_movie"),
        (trackers, "track_movie"),
        (trackers, "score_tracks"),
    ):
        patch.setattr(place, name, refuse)


@pytest.mark.parametrize("kind", FLAGS)
def test_a_study_is_written_once_and_the_same_command_measures_nothing(
    kind: str, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run(kind)
    forbid(monkeypatch)
    results, page = read_json(out / "results.json"), (out / "report.html").read_text()
    assert "NaN" not in (out / "results.json").read_text()
    for cell in (cell for row in results["rows"] for cell in row.values()):
        assert isinstance(cell, str | int | float | None) or list(cell) == ["value", "low", "high", "images"]
    assert "data:image/png;base64," in page
    (out / "report.html").unlink()
    assert study(kind, data, out) == 0
    assert read_json(out / "results.json") == results
    assert (out / "report.html").read_text() == page


@pytest.mark.parametrize("kind", FLAGS)
def test_flags_reach_every_training(kind: str, run: Run, asked: dict[str, list[specification.Training]]) -> None:
    out = run(kind)
    assert asked[kind]
    budgets: dict[str, list[float | None]] = {}
    for training in asked[kind]:
        assert (training.compute.weights_dir, training.compute.threads) == (out.parent / "weights", 1)
        assert training.seed == 0
        given, name = training.budget, training.output.path.relative_to(out / "runs").as_posix()
        budgets[name] = [given.seconds, given.steps, given.patience]
    for name, budget in budgets.items():
        share = {"stages-0/stages/low-resolution": 0.6, "stages-0": 0.4}.get(name, 1.0)
        wanted = [None, 4, 5] if "converged" in name else [pytest.approx(0.12 * share), None, None]
        assert budget == wanted, name
    assert ("stages-0" in budgets) == ("tgan-converged-0" in budgets) == (kind == "movie")


def sources(config: dict[str, Any]) -> tuple[str, str | None]:
    """Of config.json, the folder with annotated frames and that with painted ones."""
    data = config["training"]["data"]
    return data["path"], data["synthetic"] and data["synthetic"]["path"]


@pytest.mark.parametrize("kind", FLAGS)
def test_the_last_sequence_is_tested_on_and_none_of_it_trained_on(kind: str, run: Run) -> None:
    out = run(kind)
    train, test = out / "data" / "train", out / "data" / "test"
    assert [(one.name, len(one.frames)) for one in read_sequences(train)] == [("01", 10)]
    assert [(one.name, len(one.frames)) for one in read_sequences(test)] == [("02", 6)]
    assert not digests(train) & digests(test)
    side = {"movie": 48, "tracking": 64}[kind]
    assert read_image(test / "02" / "t000.tif").shape == (1, side, side)
    for config in map(read_json, (out / "runs").rglob("config.json")):
        used = {*config["training_images"], *config["validation_images"]}
        real = (
            Path(config["training"]["data"]["path"]).parent == out / "data"
        )  # else painted on masks like those of the real
        assert used and (not real or all(name.startswith("01") for name in used))
        first_stage = config["training"]["data"]["scale"] == 0.5
        assert first_stage or config["training"]["data"]["scale"] == 1  # the frames are resized already


def test_a_movie_is_painted_by_each_method_and_compared_with_the_real_one(run: Run) -> None:
    out = run("movie")
    rows = read_json(out / "results.json")["rows"]
    table = {row["movie"]: row for row in rows if "SSIM" in row}
    assert list(table) == [*WAYS, "real movie"]
    assert all(row["SSIM"]["images"] == 1 and row["flicker"]["value"] >= 0 for row in table.values())
    assert len({row["SSIM"]["value"] for row in table.values()}) == len(table)
    for way, name in WAYS.items():
        (painted,) = read_sequences(out / "work" / f"{name}-0")
        (real,) = read_sequences(out / "data" / "test")
        for number in real.frames:
            np.testing.assert_array_equal(painted.read_tracked(number), real.read_tracked(number))
        record = read_json(out / "results" / f"{name}-0.json")
        assert record["SSIM"] == table[way]["SSIM"]["value"]
        assert record["real"]["SSIM"] == table["real movie"]["SSIM"]["value"]
        assert record["faithfulness"] is not None
    for method in ("tgan", "vid2vid"):
        for run_name in (f"{method}-train-0", f"{method}-converged-0"):
            assert read_json(out / "runs" / run_name / "config.json")["method"] == method


def test_steps_and_seconds_are_those_of_the_trainings(run: Run) -> None:
    out = run("movie")
    table = {row["movie"]: row for row in read_json(out / "results.json")["rows"] if "SSIM" in row}
    spent = {
        name: (facts["steps"], facts["seconds"])
        for name in ("tgan-train-0", "vid2vid-converged-0", "stages-0", "stages-0/stages/low-resolution")
        for facts in [read_json(out / "runs" / name / "provenance.json")]
    }
    assert spent["vid2vid-converged-0"][0] == 4
    both = spent["stages-0"], spent["stages-0/stages/low-resolution"]
    wanted = {
        "tgan": spent["tgan-train-0"],
        "vid2vid, converged": spent["vid2vid-converged-0"],
        "tgan, super-resolution": (both[0][0] + both[1][0], both[0][1] + both[1][1]),
        "tgan, interpolated": both[1],
        "real movie": (None, None),
    }
    for name, (steps, seconds) in wanted.items():
        assert (table[name]["steps"], table[name]["seconds"]) == (steps, None if seconds is None else round(seconds))


def test_frames_of_the_first_stage_are_interpolated_beside_super_resolution(run: Run) -> None:
    out = run("movie")
    enlarged, between = (out / "work" / name for name in ("super-resolution-0", "interpolated-0"))
    (sequence,) = read_sequences(between)
    assert len(sequence.frames) == 6
    recorder = MovieGenerator.load(out / "runs" / "stages-0").recorder(0, noise=True, contrast=False)
    for number, file in sequence.frames.items():
        small = torch.from_numpy(read_image(enlarged / "02_LOW" / f"t{number:03d}.tif").astype(np.float32))[None]
        assert small.shape == (1, 1, 24, 24)
        wanted = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")[0].numpy()
        wanted = recorder.record(from_grey(wanted), sequence.name, number)
        np.testing.assert_allclose(read_image(file).astype(float), wanted, atol=1)
        assert not np.array_equal(read_image(file), read_image(enlarged / "02" / f"t{number:03d}.tif"))
    assert read_json(between / "dataset.json")["synthetic"]["by"] == "cytoforge generate movie"
    assert rows_of(between) == rows_of(out / "data" / "test")


def test_odd_frames_are_interpolated_and_cut(tmp_path: Path) -> None:
    labels = {number: np.zeros((5, 7), np.int32) for number in range(2)}
    for frame in labels.values():
        frame[1:3, 1:3] = 1
    source = write_movie(tmp_path / "movie", labels, ((1, 0, 1, 0),))
    small = np.arange(12, dtype=np.uint16).reshape(1, 3, 4) * 100
    for number in labels:
        write_image(source / "01_LOW" / f"t{number:03d}.tif", small)
    out = interpolate_movie(source, tmp_path / "out", Recorder((), (), (0, 65535), np.dtype(np.uint16), 0))
    frame = read_image(read_sequences(out)[0].frames[1])[0]
    assert frame.shape == (5, 7)
    assert frame[0].tolist() == [0, 25, 75, 125, 175, 225, 275]  # a quarter and three quarters between two pixels
    assert frame[:, 0].tolist() == [0, 100, 300, 500, 700]


def test_distances_of_clips_are_told_by_their_length_above_the_real_halves(run: Run) -> None:
    out = run("movie")
    rows = [row for row in read_json(out / "results.json")["rows"] if "frames of a clip" in row]
    # six frames: three clips of two frames, and one of four, which is too few
    assert [(row["movie"], row["frames of a clip"]) for row in rows] == [(name, 2) for name in (*WAYS, "real halves")]
    for row in rows[:-1]:
        record = read_json(out / "results" / f"{WAYS[row['movie']]}-0.json")
        assert record["by_length"] == {"2": row["distance of clips"]["value"]}
        assert row["distance of clips"]["value"] > 0
    assert "Frechet distance of clips by their number of frames" in (out / "report.html").read_text()


def test_a_movie_study_tells_of_length_density_and_background(run: Run) -> None:
    out = run("movie")
    rows = read_json(out / "results.json")["rows"]
    drifts = [row for row in rows if "drift of grey" in row]
    assert [(row["movie"], row["frames"]) for row in drifts] == [("tgan", 10), ("vid2vid", 10)]
    dense = [row for row in rows if "layout" in row]
    assert [(row["layout"], row["share of cell"]) for row in dense] == [("scattered", 0.2), ("colony", 0.2)]
    backgrounds = [row for row in rows if "background" in row]
    assert [row["background"] for row in backgrounds] == ["its own", "its own, mirrored"]
    assert all(row["movie"] == "tgan" and row["deviation over time"] >= 0 for row in backgrounds)
    mirrored = read_image(out / "work" / "mirrored.tif")
    assert mirrored.shape == (1, 48, 48) and 40 < np.median(mirrored) < 80  # the ground of `picture` is 60
    sizes = {file.stem: read_image(file).shape[1:] for file in (out / "pictures").iterdir()}
    assert sizes == {
        "movie": (8 * 48, 4 * 48),  # masks, real and all ways; four frames
        "dense-scattered": (3 * 48, 48),
        "dense-colony": (3 * 48, 48),
        "backgrounds": (2 * 48, 3 * 48),
    }


def test_a_painted_movie_trains_segmenters_that_are_tested_on_real_frames(run: Run) -> None:
    out = run("movie")
    rows = [row for row in read_json(out / "results.json")["rows"] if "segmenter trained on" in row]
    assert [row["segmenter trained on"] for row in rows] == ["real", "painted", "both"]
    assert all(0 <= row["F at IoU 0.7"]["value"] <= row["F at IoU 0.5"]["value"] <= 1 for row in rows)
    films, learned = str(out / "work" / "long-tgan-0"), []
    for name in ("reference-segmenter-0", "segmenter-painted-0", "segmenter-both-0"):
        learned.append(sources(read_json(out / "runs" / name / "config.json")))
        images = read_json(out / "results" / f"{name}.json")["images"]
        assert set(images) == {f"02_t{number:03d}" for number in range(6)}  # the frames that are tested on
    real = str(out / "data" / "train")
    assert learned == [(real, None), (films, None), (real, films)]


def test_trackers_are_compared_on_real_and_painted_movies(run: Run) -> None:
    out = run("tracking")
    rows = read_json(out / "results.json")["rows"]
    compared = [row for row in rows if row["frames"] == "all"]
    assert [(row["tracker"], row["movie"]) for row in compared] == [
        (name, kind) for name in ("overlap", "deepsea") for kind in ("real", "tgan")
    ]
    for row in compared:
        assert ("|MOTA - real|" in row) == (row["movie"] != "real")
    pair = {kind: read_json(out / "results" / f"overlap-{kind}-0.json")["mota"] for kind in ("real", "tgan")}
    assert compared[0]["MOTA"]["value"] == pair["real"]
    comparison = TrackComparison(
        prediction=out / "work" / "tracks-overlap-tgan-0",
        truth=out / "work" / "tgan-0",
        allow_synthetic=True,
    )
    script = score_tracks(comparison, *open_tracks(comparison)).pooled["deepsea_script"]["mota"].value
    assert compared[1]["script's MOTA"]["value"] == pytest.approx(script)
    assert compared[1]["script's MOTA"]["value"] != compared[1]["MOTA"]["value"]
    assert compared[1]["|MOTA - real|"]["value"] == pytest.approx(abs(pair["real"] - pair["tgan"]))


def test_trackers_are_trained_on_real_and_simulated_frames_and_both(run: Run) -> None:
    out = run("tracking")
    rows = [row for row in read_json(out / "results.json")["rows"] if row["frames"] != "all"]
    assert [(row["tracker"], row["frames"], row["masks"]) for row in rows] == [
        ("overlap, trained on nothing", 0, "true"),
        ("overlap, trained on nothing", 0, "wrong"),
        *(
            (f"{tracker}, trained on {arm}", 10, masks)  # of 100 there are but 10
            for tracker, arms in (("global", ("real", "simulated", "both")), ("deepsea", ARMS))
            for arm in arms
            for masks in ("true", "wrong")
        ),
    ]
    assert all(0 <= row["IDF1"]["value"] <= 1 for row in rows)
    configs = {arm: read_json(out / "runs" / f"tracker-{arm}-train-0" / "config.json") for arm in ARMS}
    few, films = str(out / "data" / "train"), str(out / "work" / "films-10-0")  # all frames: no copy of these
    assert {arm: sources(config) for arm, config in configs.items()} == {
        "real": (few, None),
        "painted": (films, None),
        "both": (few, films),
    }
    assert len(read_sequences(Path(films))) == studies.SIMULATED_SEQUENCES


def test_masks_that_are_wrong_on_purpose_are_scored_against_the_true_ones(run: Run) -> None:
    out = run("tracking")
    (test,), (wrong,) = (read_sequences(out / "data" / name) for name in ("test", "wrong-0"))
    assert wrong.source == "ST/SEG" and not wrong.tracks
    draw = np.random.default_rng([0, 0])
    for (_, true), file in zip(test.tracked(), wrong.masks["ST/SEG"].values(), strict=True):
        assert (read_labels(file) == numbered(Faults()(true, draw))).all()
    assert read_info(out / "work" / "tracks-wrong-overlap-nothing-0-0")["sequences"]["02"]["source"] == "ST/SEG"


def test_the_linker_of_whole_movies_learns_from_what_is_told(run: Run) -> None:
    for source in ("real", "simulated", "both"):
        config = read_json(run("tracking") / "runs" / f"linker-{source}-train-0" / "config.json")
        assert config["parameters"]["movies"] == source


def test_without_a_generator_nothing_is_painted(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[str, str]]()

    def linker_run(folder: Any, study: Any, movies: str, few: Path, seed: int) -> Any:
        asked.append((movies, few.name))
        return SimpleNamespace(path="base")

    scores = TrackingScores.model_validate(dict.fromkeys(TrackingScores.model_fields, 0.5))
    monkeypatch.setattr(trackers, "linker_run", linker_run)
    monkeypatch.setattr(trackers, "reference_run", lambda *given: None)
    monkeypatch.setattr(trackers, "tracking_scores", lambda *given, **truth: scores)
    flags = f"{TINY} --trackers base --learners global --frames 5 --methods"
    assert main(["study", "tracking", str(data), "--out", str(tmp_path / "out"), *flags.split()]) == 0
    assert asked == [(source, few) for few in ("real-5", "train") for source in ("real", "simulated", "both")]
    assert not (tmp_path / "out" / "runs").exists()


def test_the_distance_is_chosen_on_the_frames_for_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "measure_trainings", lambda *arguments: {})
    monkeypatch.setattr(trackers, "reference_run", lambda *arguments: None)
    monkeypatch.setattr(trackers, "generator_run", lambda *arguments: None)
    monkeypatch.setattr(trackers, "painted", lambda *arguments: tmp_path / "out" / "data" / "test")
    given = StudyTracking((data,), tmp_path / "out", seeds=1, methods=("tgan",), trackers=("laptrack",), tune=True)
    with monkeypatch.context() as patch:
        patch.setattr(trackers, "TRIED_FACTORS", (0.1, 1.0))  # cells move by 2 px, and are 16 px wide
        study_tracking(given)
    tried = [row for row in read_json(tmp_path / "out" / "results.json")["rows"] if row["movie"] == "for training"]
    (short, idf1), (own, best) = ((row["distance"], row["IDF1"]) for row in tried)
    assert short == pytest.approx(0.1 * own) and idf1 < best == 1
    used = {
        read_json(path)["distance"] for path in (tmp_path / "out" / "work").glob("tracks-laptrack-*-0/dataset.json")
    }
    assert used == {own}


def test_fewer_frames_are_the_first_ones_and_come_in_order(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, list[int]] = {}

    def trained(folder: Any, study: Any, name: str, data: Path, seed: int, more: Path | None = None) -> Any:
        given[f"{name}-{seed}"] = [len(one.frames) for one in read_sequences(data)]
        return SimpleNamespace(path=tmp_path)

    def painted(folder: Any, study: Any, few: Path, count: int, seed: int) -> Path:
        assert digests(few) <= digests(data)
        return few

    scores = TrackingScores.model_validate(dict.fromkeys(TrackingScores.model_fields, 0.5))
    monkeypatch.setattr(trackers, "measure_trackers", lambda *arguments: {})
    monkeypatch.setattr(trackers, "painted_films", painted)
    monkeypatch.setattr(trackers, "tracker_run", trained)
    monkeypatch.setattr(trackers, "tracking_scores", lambda *arguments, **truth: scores)
    wanted: dict[str, Any] = {"frames": (8, 5, 10, 30), "trackers": ("deepsea",), "learners": ("deepsea",)}
    study_tracking(StudyTracking((data,), tmp_path / "out", **wanted, seeds=2, seed=3))
    counts = [row["frames"] for row in read_json(tmp_path / "out" / "results.json")["rows"]]
    assert counts == [5] * 6 + [8] * 6 + [10] * 6  # three arms, of true and wrong masks
    names = {"real-5": 5, "real-8": 8, "train": 10}
    assert given == {f"{arm}-{name}-{seed}": [n] for name, n in names.items() for seed in (3, 4) for arm in ARMS}
    for number in range(5):
        copied, real = (folder / "01" / f"t{number:03d}.tif" for folder in (tmp_path / "out/data/real-5", data))
        np.testing.assert_array_equal(read_image(copied), read_image(real))


GAP = {
    3: draw("AA..\n..B."),
    4: draw("AA..\n...."),
    5: draw("AA..\n..B."),
    6: draw("CC..\n..B."),
    7: draw("..DD\n..B."),
}


def gap(path: Path) -> Path:
    """A movie with frames 3 to 7: 1 becomes 3, then 4 comes of 9, which is not there; 2 is missing in frame 4."""
    large = {number: np.kron(labels, np.ones((4, 4), np.int32)) for number, labels in GAP.items()}
    return write_movie(path, large, ((1, 3, 5, 0), (2, 3, 7, 0), (3, 6, 6, 1), (4, 7, 7, 9), (9, 0, 2, 0)))


def rows_of(path: Path) -> tuple[tuple[int, ...], ...]:
    (sequence,) = read_sequences(path)
    return tuple(tuple(row) for row in read_tracks(sequence.tracks["GT/TRA"]))


def test_a_copy_is_renumbered_and_a_gap_parts_a_track(tmp_path: Path) -> None:
    source = gap(tmp_path / "gap")
    out = copy_movie(Part(source, ["01"]), tmp_path / "copy")
    (sequence,) = read_sequences(out)
    assert list(sequence.frames) == [0, 1, 2, 3, 4] == list(sequence.tracked_frames())
    # 5 is what follows the gap of 2; the parent of 3 is kept, that of 4 dropped
    assert rows_of(out) == ((1, 0, 2, 0), (2, 0, 0, 0), (3, 3, 3, 1), (4, 4, 4, 0), (5, 2, 4, 2))
    np.testing.assert_array_equal(read_image(sequence.frames[1]), read_image(source / "01" / "t004.tif"))
    second = np.kron(draw("AA..\n..E."), np.ones((4, 4), np.int32))
    np.testing.assert_array_equal(sequence.read_tracked(2), second)
    assert main(["check", str(out)]) == 0
    stamp = (out / "01" / "t000.tif").stat().st_mtime_ns
    assert copy_movie(Part(source, ["01"]), out) == out
    assert (out / "01" / "t000.tif").stat().st_mtime_ns == stamp


def test_the_number_after_a_gap_is_no_parent_that_the_file_tells(tmp_path: Path) -> None:
    source = gap(tmp_path / "gap")
    table = source / "01_GT" / "TRA" / "man_track.txt"
    table.write_text(table.read_text().replace("4 7 7 9", "4 7 7 5").replace("9 0 2 0", "5 0 2 0"))
    assert (4, 4, 4, 0) in rows_of(copy_movie(Part(source, ["01"]), tmp_path / "copy"))


def test_a_daughter_of_a_cell_with_a_gap_descends_from_its_last_track(tmp_path: Path) -> None:
    masks = {number: np.kron(draw(text), np.ones((4, 4), np.int32)) for number, text in enumerate("A.AB")}
    source = write_movie(tmp_path / "movie", masks, ((1, 0, 2, 0), (2, 3, 3, 1)))
    assert rows_of(copy_movie(Part(source, ["01"]), tmp_path / "copy")) == ((1, 0, 0, 0), (2, 3, 3, 3), (3, 2, 2, 1))


def test_a_copy_of_a_share_is_resized_and_drops_the_parent_before_it(tmp_path: Path) -> None:
    source = gap(tmp_path / "gap")
    out = copy_movie(Part(source, ["01"], (0.6, 1.0)), tmp_path / "copy", 0.5)
    assert rows_of(out) == ((2, 0, 1, 0), (3, 0, 0, 0), (4, 1, 1, 0))
    image = read_image(out / "01" / "t000.tif")
    assert image.shape == (1, 4, 8) and image.dtype == np.uint8
    assert image[0, 0].tolist()[1:-1] == [2, 4, 6, 8, 10, 12]  # of columns 0 to 15, between two of them
    np.testing.assert_array_equal(
        read_labels(out / "01_GT" / "TRA" / "man_track001.tif"), np.kron(draw("..DD\n..B."), np.ones((2, 2), int))
    )
    info = json.loads((out / "dataset.json").read_text())
    assert (info["resized"], info["span"], info["from"]) == (0.5, [0.6, 1.0], "gap")


def test_cells_that_vanish_at_scale_have_no_track(tmp_path: Path) -> None:
    labels = np.zeros((8, 8), np.int32)
    labels[1, 1], labels[2, 1] = 1, 2  # both have their middle in one pixel of the small mask
    source = write_movie(tmp_path / "movie", {0: labels, 1: labels}, ((1, 0, 1, 0), (2, 0, 1, 0)))
    assert len(rows_of(copy_movie(Part(source, ["01"]), tmp_path / "copy", 0.125))) == 1


@pytest.mark.parametrize(
    ("options", "train", "test"),
    [
        ({}, (["01", "02"], (0, 1)), (["03"], (0, 1))),
        ({"sequence": ("03",)}, (["03"], (0, 1)), (["02"], (0, 1))),
        ({"test_sequence": ("01",)}, (["02", "03"], (0, 1)), (["01"], (0, 1))),
        ({"sequence": ("02",), "test_sequence": ("03", "01")}, (["02"], (0, 1)), (["01", "03"], (0, 1))),
        ({"sequence": ("02",), "test_sequence": ("02",)}, (["02"], (0, 0.65)), (["02"], (0.65, 1))),
        ({"sequence": ("01", "02", "03")}, (["01", "02"], (0, 1)), (["03"], (0, 1))),
        ({"test": "film"}, (["01", "02"], (0, 1)), (["03"], (0, 1))),
        ({"test": "others"}, (["01", "02", "03"], (0, 1)), (["01", "02"], (0, 1))),
        ({"test": "others", "test_sequence": ("02",)}, (["01", "02", "03"], (0, 1)), (["02"], (0, 1))),
    ],
)
def test_which_sequences_are_trained_and_tested_on(
    tmp_path: Path, options: dict[str, Any], train: tuple[Any, Any], test: tuple[Any, Any]
) -> None:
    source = film(tmp_path / "film", {"01": 8, "02": 8, "03": 8})
    film(tmp_path / "others", {"01": 2, "02": 2}, seed=1000)
    given = {**options, "test": tmp_path / options["test"] if "test" in options else None}
    parts = split_movies(studies.SequenceStudy(data=(source,), **given))
    assert [(part.names, part.span) for part in parts] == [train, test]
    assert parts[1].path == given["test"] or given["test"] is None
    sides = [{(one.name, n) for one, numbers in part.frames() for n in numbers} for part in parts]
    assert sides[0] and sides[1] and (parts[0].path != parts[1].path or not sides[0] & sides[1])


@pytest.mark.parametrize("share", [0.05, 0.35, 0.5, 0.77])
def test_of_a_single_sequence_the_last_frames_are_tested_on(tmp_path: Path, share: float) -> None:
    source = film(tmp_path / "film", {"01": 23})
    parts = split_movies(studies.SequenceStudy(data=(source,), test_share=max(share, 0.08)))
    early, late = (numbers for part in parts for _, numbers in part.frames())
    assert early + late == list(range(23))
    assert len(late) == pytest.approx(23 * max(share, 0.08), abs=0.51)


def test_nan_is_none_in_scores() -> None:
    nan = float("nan")
    given = {"a": nan, "b": Estimate(nan, nan, nan, 1), "c": Estimate(0.5, 0, 1, 2), "d": {"10": [nan, 0.25]}, "e": "x"}
    assert movies.plain(given) == {"a": None, "b": None, "c": 0.5, "d": {"10": [None, 0.25]}, "e": "x"}
    figure = drift_figure({"tgan": [{"10": [None, 0.25], "50": [0.5, 0.5]}]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [nan, 0.5])


def without_tracks(path: Path) -> None:
    (path / "02_GT" / "TRA" / "man_track.txt").unlink()


def synthetic(path: Path) -> None:
    (path / "dataset.json").write_text(json.dumps({"synthetic": {"by": "x"}}))


def short(path: Path) -> None:
    shutil.rmtree(path / "01")
    shutil.rmtree(path / "01_GT")
    film(path, {"01": 4})


def torn(path: Path) -> None:
    (path / "02" / "t003.tif").unlink()


def copied(path: Path) -> None:
    shutil.copy(path / "01" / "t001.tif", path / "02" / "t001.tif")


def no_movie(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize(
    ("spoil", "flags", "sentence"),
    [
        (without_tracks, "", "sequence 02: has no man_track.txt or res_track.txt; track its cells first"),
        (synthetic, "", "says that this movie is synthetic; a study wants a real one"),
        (short, "", "sequence 01 has 4 frames with masks to train on, 5 are needed; give a longer movie"),
        (torn, "", "sequence 02 lacks frame or mask 3; add it, or cut the movie"),
        (copied, "", "1 frame to test on would be trained on, too; give another movie"),
        (no_movie, "", "is no movie folder"),
        (None, "--test {copy}", "to test on would be trained on, too; give another movie"),
        (None, "--sequence 01 --sequence 02 --test-sequence 02", "--sequence and --test-sequence share 02"),
        (None, "--sequence 07", "has no sequence 07"),
        (None, "--test-sequence 07", "has no sequence 07"),
    ],
)
def test_what_cannot_be_studied_is_refused_and_nothing_written(
    kind: str,
    spoil: Callable[[Path], None] | None,
    flags: str,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = film(tmp_path / "film")
    if spoil:
        spoil(path)
    shutil.copytree(path, tmp_path / "copy")
    assert study(kind, path, tmp_path / "out", *flags.format(copy=tmp_path / "copy").split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "flags", "sentence"),
    [
        ("movie", "--densities 0.3 0.9", "--densities go from 0.01 to 0.7"),
        ("movie", "--methods vid2vid --backgrounds {data}", "--backgrounds belong to tgan"),
        ("movie", "--frames 9", "--frames"),
        ("movie", "--methods vid2vid --stage both", "--stage both belongs to tgan, which --methods leave out"),
        ("movie", "--methods tgan tgan", "--methods: tgan is named twice; name each once"),
        ("tracking", "--trackers laptrack overlap laptrack", "--trackers: laptrack is named twice; name each once"),
        ("tracking", "--test-sequence 02 --test-sequence 02", "--test-sequence: 02 is named twice; name each once"),
        ("tracking", "--frames 4", "--frames"),
        ("tracking", "--methods", "deepsea learns from what --methods paint; name one, or give --learners global"),
        ("tracking", "--tune --trackers overlap", "--tune is for laptrack and btrack, which --trackers leave out"),
    ],
)
def test_settings_are_refused(
    kind: str, flags: str, sentence: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(kind, data, tmp_path / "out", *flags.format(data=data).split()) == 2
    assert sentence in capsys.readouterr().err


def test_several_data_are_refused(data: Path, tmp_path: Path) -> None:
    for config in (StudyMovie, StudyTracking):
        with pytest.raises(UserError, match="give a single DATA"):
            config((data, tmp_path), tmp_path / "out")


def test_a_tracker_that_is_not_installed_is_named_with_the_reason_and_left_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, compared = Tracker.load, list[Any]()

    def absent(name: str, **options: Any) -> Tracker:
        if name == "btrack":
            raise UserError("btrack: is not installed")
        return load(name, **options)

    monkeypatch.setattr(Tracker, "load", absent)
    monkeypatch.setattr(trackers, "measure_trackers", lambda folder, study, *given: compared.append(study) or {})
    monkeypatch.setattr(trackers, "measure_trainings", lambda *given: {})
    assert "btrack" in StudyTracking((data,), tmp_path / "out").trackers  # asked for without any flag
    study_tracking(StudyTracking((data,), tmp_path / "out"))
    assert compared[0].trackers == ("base", "overlap", "laptrack", "deepsea")
    rows = read_json(tmp_path / "out" / "results.json")["rows"]
    assert rows == [{"tracker": "btrack", "movie": "btrack: is not installed", "frames": "none"}]
    assert "btrack: is not installed" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(UserError, match=re.escape("btrack: is not installed")):
        study_tracking(StudyTracking((data,), tmp_path / "alone", trackers=("btrack",)))
    assert not (tmp_path / "alone").exists()
