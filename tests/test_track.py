"""`cytoforge track`: movie folders in, tracks by the rules of the Cell Tracking Challenge out."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cells import draw
from cytoforge.cli import main
from cytoforge.commands.segment import segment
from cytoforge.commands.simulate import simulate_movie
from cytoforge.commands.track import track
from cytoforge.data import movie
from cytoforge.data.images import read_labels, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.data.writer import read_info
from cytoforge.errors import UserError
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.track_deepsea import DeepSeaLinker
from cytoforge.settings import Segment, SimulateMovie, Track
from cytoforge.tracking.linking import Announce, Frame, Links, OverlapLinker, silent
from test_segment import Toy, painted, write_run

FIRST = draw("""
    AA......
    AA..BB..
    ....BB..
    """)
THEN = draw("""
    .BB.....
    .BB.AA..
    ....AA..
    """)


def write_movie(path: Path, *pictures: np.ndarray, source: str = "01_ST/SEG") -> Path:
    for number, labels in enumerate(pictures):
        write_image(path / "01" / f"t{number:03d}.tif", (100 * (labels > 0)).astype(np.uint8)[None])
        write_labels(path / source / f"man_seg{number:03d}.tif", labels)
    return path


def result(out: Path, name: str = "01") -> movie.Sequence:
    return movie.read_sequences(out, [name])[0]


def tracks(out: Path, name: str = "01") -> list[tuple[int, ...]]:
    return [tuple(row) for row in movie.read_tracks(result(out, name).tracks["RES"])]


def contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.suffix in {".tif", ".txt"}}


@pytest.mark.parametrize(
    "line",
    [
        "MOVIE --sequence 02 --out OUT --overwrite",
        "--sequence=02 MOVIE --no-overwrite --out OUT",
        "base --overwrite MOVIE --sequence 02 --out OUT",
    ],
)
def test_base_is_the_tracker_where_none_is_given(line: str, tiny_movie: Path, tmp_path: Path) -> None:
    words = line.replace("MOVIE", str(tiny_movie)).replace("OUT", str(tmp_path / "out")).split()
    assert main(["track", *words]) == 0
    assert read_info(tmp_path / "out")["tracker"] == "base"
    assert len(tracks(tmp_path / "out", "02")) == 9


def test_a_movie_may_be_called_as_a_tracker_is(
    tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_movie, tmp_path / "overlap")
    monkeypatch.chdir(tmp_path)
    assert main(["track", "overlap", "--out", "out", "--sequence", "01"]) == 0
    assert read_info(tmp_path / "out")["tracker"] == "base"


@pytest.mark.parametrize("tracker", ["overlap", "laptrack"])
def test_a_movie_with_masks(tracker: str, tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["track", tracker, str(tiny_movie), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{out / '01_RES'}: 5 frames with masks from ST/SEG: 45 cells, 9 tracks, 0 divisions, 0 gaps" in printed
    assert re.search(rf"\n    linked by {tracker}: .*, gap in frames = 1\n", printed)
    assert f"and lineages; cytoforge score tracking {out} TRUTH, or cytoforge export {out} " in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "01.mp4",
        "01_RES",
        "02.mp4",
        "02_RES",
        "dataset.json",
        "manifest.jsonl",
        "report.html",
    ]
    assert tracks(out) == [(label, 0, 4, 0) for label in range(1, 10)]
    for number, labels in result(out).tracked():
        given = read_labels(tiny_movie / "01_ST" / "SEG" / f"man_seg{number:03d}.tif")
        assert np.array_equal(labels, given)  # squares are numbered as they are read, and keep their numbers
    facts = json.loads((out / "dataset.json").read_text())["sequences"]["01"]
    assert facts["source"] == "ST/SEG" and facts["tracks"] == 9 and facts["settings"]["gap in frames"] == 1
    assert main(["check", str(out)]) == 0
    assert main(["track", tracker, str(tiny_movie), "--out", str(out)]) == 2
    assert "holds results already" in capsys.readouterr().err
    line = ["track", tracker, str(tiny_movie), "--out", str(out), "--overwrite", "--sequence", "02"]
    assert main(line) == 0
    assert not (out / "01_RES" / "mask000.tif").exists() and len(tracks(out, "02")) == 9


def test_frames_may_be_empty_or_one_and_begin_anywhere(tmp_path: Path) -> None:
    nothing = np.zeros_like(FIRST)
    path = write_movie(tmp_path / "movie", FIRST, nothing, nothing, THEN)
    track(Track(path, tmp_path / "out", tracker="overlap"))
    assert tracks(tmp_path / "out") == [(1, 0, 0, 0), (2, 0, 0, 0), (3, 3, 3, 0), (4, 3, 3, 0)]
    track(Track(write_movie(tmp_path / "one", FIRST), tmp_path / "single", tracker="overlap"))
    assert tracks(tmp_path / "single") == [(1, 0, 0, 0), (2, 0, 0, 0)]
    for number in (1, 2, 0):
        (path / "01" / f"t{number:03d}.tif").unlink()
        (path / "01_ST" / "SEG" / f"man_seg{number:03d}.tif").unlink()
    track(Track(path, tmp_path / "late", tracker="overlap"))
    assert tracks(tmp_path / "late") == [(1, 3, 3, 0), (2, 3, 3, 0)]


def test_lineages_of_simulated_cells(tmp_path: Path) -> None:
    """Cells that do not divide are all found again from beginning to end; of those that do, daughters in the frame."""
    settings = {"size": "96x96", "density": 12, "frames": 8, "layout": "scattered"}
    for kind, rate in (("simulate", 0.0), ("with", 0.05)):
        simulate_movie(SimulateMovie(tmp_path / kind, **{**settings, "division_rate": rate}))  # type: ignore[arg-type]
    track(Track(tmp_path / "simulate", tmp_path / "out", tracker="overlap"))
    truth = movie.read_sequences(tmp_path / "simulate")[0]
    known = {(row.begin, row.end) for row in movie.read_tracks(truth.tracks["GT/TRA"])}
    assert {(begin, end) for _, begin, end, _ in tracks(tmp_path / "out")} == known
    pairs = {
        (int(one), int(other))
        for (_, true), (_, found) in zip(truth.tracked(), result(tmp_path / "out").tracked(), strict=True)
        for one, other in np.unique(np.stack([true, found]).reshape(2, -1), axis=1).T
    }
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
    track(Track(tmp_path / "with", tmp_path / "divided", tracker="laptrack"))
    truth, found = movie.read_sequences(tmp_path / "with")[0], result(tmp_path / "divided")
    masks = {number: (labels, found.read_tracked(number)) for number, labels in truth.tracked()}

    def tracked(number: int, label: int) -> tuple[int, bool]:
        """Label that a true cell was given, and whether it lies off the edge of the frame."""
        true, given = masks[number]
        edge = np.concatenate([true[0], true[-1], true[:, 0], true[:, -1]])
        return int(given[true == label][0]), label not in edge

    mothers = {label: parent for label, _, _, parent in tracks(tmp_path / "divided")}
    inside = 0
    for row in movie.read_tracks(truth.tracks["GT/TRA"]):
        if row.parent:
            (mother, whole), (daughter, also) = tracked(row.begin - 1, row.parent), tracked(row.begin, row.label)
            inside += whole and also
            assert not (whole and also) or mothers[daughter] == mother
    assert inside >= 4


def test_frames_are_segmented_first(tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = write_run(tmp_path / "run"), tmp_path / "out"
    monkeypatch.setattr("cytoforge.inference.load.load_network", lambda run, name, device: Toy())
    for number, file in movie.read_sequences(tiny_movie)[0].frames.items():
        write_image(file, painted(read_labels(tiny_movie / "01_ST" / "SEG" / f"man_seg{number:03d}.tif")))
    shutil.rmtree(tiny_movie / "01_ST")
    config = Track(tiny_movie, out, segment=run, sequence=("01",), threads=1, tracker="overlap")
    calls = []

    def stopped(*values: Any) -> Links:
        calls.append(values)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OverlapLinker, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            track(config)
    assert calls and len(list((out / "segmentation" / "01" / "masks").iterdir())) == 5
    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment_rows", stopped)  # nothing is segmented again
        track(config)
    assert not (out / "segmentation").exists()
    segment(Segment(run, tiny_movie, tmp_path / "masks", sequence=("01",), threads=1))
    for number, labels in result(out).tracked():
        plain = read_labels(tmp_path / "masks" / "masks" / f"01_t{number:03d}.tif")
        partners = np.unique(np.stack([plain, labels]).reshape(2, -1), axis=1)
        assert partners.shape[1] == np.unique(plain).size == np.unique(labels).size == 10
    assert tracks(out) == [(label, 0, 4, 0) for label in range(1, 10)]
    assert "run" in json.loads((out / "dataset.json").read_text())["sequences"]["01"]["source"]


def test_cells_that_the_base_model_finds_have_the_size_that_is_given(
    tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def facts(name: str, **flags: Any) -> dict[str, Any]:
        out = tmp_path / name
        track(Track(tiny_movie, out, segment=Path("base"), sequence=("01",), threads=1, tracker="overlap", **flags))
        return json.loads((out / "dataset.json").read_text())["sequences"]["01"]

    own = facts("own")
    assert f"cells seem to be {own['diameter']:.0f} px across; if not, give --diameter" in capsys.readouterr().out
    given = facts("given", diameter=3 * own["diameter"])
    assert given["diameter"] == 3 * own["diameter"] and given["cells"] != own["cells"]
    assert "across" not in capsys.readouterr().out


def test_an_interrupted_call_goes_on(tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track(Track(tiny_movie, tmp_path / "whole", tracker="overlap"))
    config, add = Track(tiny_movie, tmp_path / "out", tracker="overlap"), movie.MovieWriter.add_masks
    written: list[tuple[Any, ...]] = []

    def some(writer: movie.MovieWriter, *values: Any) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(values)
        add(writer, *values)

    monkeypatch.setattr(movie.MovieWriter, "add_masks", some)
    with pytest.raises(KeyboardInterrupt):
        track(config)
    with pytest.raises(UserError, match="holds unfinished work with another gap"):
        track(Track(tiny_movie, tmp_path / "out", gap=2, tracker="overlap"))
    written.clear()
    track(config)
    assert [values[2] for values in written] == [2, 3, 4]  # 01 and two frames of 02 were there
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_run_with_a_tracker_is_handed_the_images(
    tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extremes: set[tuple[float, float]] = set()

    class Looking:
        wants_images = True

        def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
            seen = list(frames)
            assert all(image is not None and image.shape == (1, *labels.shape) for labels, image in seen)
            extremes.update((float(image.min()), float(image.max())) for _, image in seen if image is not None)
            return Links(np.array([labels.max() for labels, _ in seen]), np.zeros((0, 4), np.int64))

    run = write_run(tmp_path / "run", networks={"tracker": {"network": "tracker", "in_channels": 1}})
    (run / "weights").mkdir(exist_ok=True)
    (run / "weights" / "tracker.safetensors").write_bytes(b"")
    monkeypatch.setattr(DeepSeaLinker, "open", lambda run, device, threads: Looking())
    track(Track(tiny_movie, tmp_path / "out", sequence=("01",), tracker=str(run)))
    assert len(tracks(tmp_path / "out")) == 45
    assert extremes == {(-1, 1)}
    (tiny_movie / "dataset.json").write_text('{"limits": [-1000, 1000]}')
    track(Track(tiny_movie, tmp_path / "limited", sequence=("01",), tracker=str(run)))
    assert all(-0.1 < low < high < 0.3 for low, high in extremes - {(-1, 1)}) and len(extremes) > 1
    for frame in (tiny_movie / "02").iterdir():
        frame.unlink()
    with pytest.raises(UserError, match=r"02_ST.*man_seg000.tif: has no frame, which this tracker looks at"):
        track(Track(tiny_movie, tmp_path / "other", sequence=("02",), tracker=str(run)))


def test_btrack_that_does_not_run_is_explained(
    tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def engine() -> None:
        raise ImportError("engine")

    monkeypatch.setattr("cytoforge.inference.tracker.btrack_engine", engine)
    monkeypatch.setattr("cytoforge.inference.tracker.require", lambda *args, **others: None)
    assert main(["track", "btrack", str(tiny_movie), "--out", str(tmp_path / "out")]) == 2
    assert "btrack: its engine does not run with this system's libstdc++; compile it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mistakes(tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holed = shutil.copytree(tiny_movie, tmp_path / "holed")
    (holed / "02_ST" / "SEG" / "man_seg003.tif").unlink()
    bare = shutil.copytree(tiny_movie, tmp_path / "bare", ignore=shutil.ignore_patterns("*_ST", "*_GT"))
    uneven = shutil.copytree(tiny_movie, tmp_path / "uneven")
    write_labels(uneven / "02_ST" / "SEG" / "man_seg002.tif", np.ones((48, 50), np.int32))
    shifted = write_movie(tmp_path / "shifted", FIRST, THEN)
    write_labels(shifted / "01_ST" / "SEG" / "man_seg000.tif", FIRST[:, 1:])
    skipping = write_movie(tmp_path / "skipping", FIRST, THEN, FIRST)
    (skipping / "01" / "t001.tif").unlink()
    (skipping / "01_ST" / "SEG" / "man_seg001.tif").unlink()
    only_masks = shutil.copytree(tiny_movie, tmp_path / "masks", ignore=shutil.ignore_patterns("t0*.tif"))
    run, linking = write_run(tmp_path / "run"), write_run(tmp_path / "linking", name="tracker")
    for line, sentence in (
        (
            ["laptrack"],
            "laptrack: is a tracker, and no movie is given; name the movie after it",
        ),
        (["lapttrack"], "lapttrack: does not exist; check the name"),
        (
            ["magic", tiny_movie],
            "magic: is neither a tracker nor a folder; take base, overlap, laptrack, btrack, or the",
        ),
        (
            [run, tiny_movie],
            "holds no tracker but segmenter; take base, overlap, laptrack, btrack, or a run of train tracker",
        ),
        ([tmp_path / "bare", tiny_movie], "is no run folder"),
        (["overlap", tmp_path], "is no movie folder"),
        (["overlap", holed], "sequence 02 has no mask of 1 frame (3) in ST/SEG; add masks, segment the frames with"),
        (["overlap", bare], "sequence 01 has no masks; add masks, segment the frames with --segment base"),
        (["overlap", uneven], "man_seg002.tif: is of 48 x 50 pixels"),
        (["overlap", shifted], "man_seg000.tif: is of 3 x 7 pixels"),
        (["overlap", skipping], "sequence 01 lacks 1 frame (1); number frames without gaps"),
        (["overlap", only_masks, "--segment", run], "sequence 01 has no frames for --segment; leave the flag out"),
        (
            ["overlap", tiny_movie, "--segment", linking],
            "holds no segmenter, only tracker; give a run that was trained",
        ),
        (["overlap", tiny_movie, "--distance", "4"], "--distance: belongs to laptrack and btrack, not to overlap"),
        (["overlap", tiny_movie, "--diameter", "9"], "--diameter: is that of the cells that --segment base is to find"),
        (["overlap", tiny_movie, "--segment", run, "--diameter", "9"], "all resized alike, as in its training; leave"),
        ([run, tiny_movie, "--gap", "2"], "--gap: belongs to overlap, laptrack, btrack; leave it out"),
        (["overlap", tiny_movie, "--gap", "11"], "--gap 11: must be at least 0 and at most 10"),
        (["overlap", tiny_movie, "--sequence", "07"], "has no sequence 07"),
    ):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert main(["track", *map(str, line), "--out", str(tmp_path / "out")]) == 2, line
        printed = capsys.readouterr().err
        assert sentence in printed and "Traceback" not in printed
    assert main(["track", "overlap", str(tiny_movie), "--out", str(tiny_movie), "--overwrite"]) == 2
    assert "holds the movie to track" in capsys.readouterr().err
    assert Run.open(run).config["networks"]  # nothing was touched


def test_movies_of_others_are_not_replaced(
    tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(tiny_movie, tmp_path / "other")
    assert main(["track", "overlap", str(tiny_movie), "--out", str(other), "--overwrite"]) == 2
    (other / "dataset.json").write_text('{"written_by": "cytoforge", "source": "stack.tif", "complete": true}')
    assert main(["track", "overlap", str(tiny_movie), "--out", str(other), "--overwrite"]) == 2
    assert "holds a dataset of another kind" in capsys.readouterr().err
    assert len(list((other / "01").iterdir())) == 5


@pytest.mark.parametrize(("name", "sequence", "cells"), [("u373", "02", 692), ("hela", "01", 3069)])
def test_real_movies(name: str, sequence: str, cells: int, real_data: Path, tmp_path: Path) -> None:
    """All cells of silver masks are in tracks that CTC's rules allow; u373 has no divisions, hela many."""
    out = track(Track(real_data / name, tmp_path / "out", sequence=(sequence,), tracker="laptrack"))
    facts = json.loads((out / "dataset.json").read_text())["sequences"][sequence]
    assert facts["cells"] == cells == sum(end - begin + 1 for _, begin, end, _ in tracks(out, sequence))
    assert facts["divisions"] == 0 if name == "u373" else facts["divisions"] > 40
    assert main(["check", str(out)]) == 0


def test_frames_that_a_better_source_lacks_and_empty_masks_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = np.zeros((20, 20), np.int32)
    cell[5:10, 5:10] = 1
    path = write_movie(tmp_path / "holed", cell, cell, cell)
    write_movie(path, cell, cell, cell, source="01_GT/SEG")
    (path / "01_GT/SEG/man_seg001.tif").unlink()
    assert main(["track", "overlap", str(path), "--out", str(tmp_path / "one")]) == 0
    assert "sequence 01 has no mask of 1 frame (1) in GT/SEG, so masks of ST/SEG are tracked" in capsys.readouterr().out
    empty = write_movie(tmp_path / "empty", 0 * cell, 0 * cell)
    assert main(["track", "overlap", str(empty), "--out", str(tmp_path / "two")]) == 0
    assert "no mask of sequence 01 holds a cell" in capsys.readouterr().out
