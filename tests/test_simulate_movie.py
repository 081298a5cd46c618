"""`cytoforge simulate movie`: folders in, folders out, what is said, resumed and refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import write_movie
from cytoforge.cli import main
from cytoforge.commands.check import check
from cytoforge.commands.simulate import simulate_movie
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_labels, write_labels
from cytoforge.data.movie import MovieWriter, read_sequences, read_tracks
from cytoforge.errors import UserError
from cytoforge.settings import Check, SimulateMovie
from cytoforge.simulated import movie as module
from cytoforge.simulated.movie import least_reach
from cytoforge.simulation.dynamics import Dynamics


@pytest.fixture(scope="session")
def phantom_movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated sequences of 12 frames that serve as the user's movie."""
    out = tmp_path_factory.mktemp("phantom") / "movie"
    settings = {"count": 2, "frames": 12, "density": 16, "size": "120x140", "division_rate": 0.02, "seed": 9}
    return simulate_movie(SimulateMovie(out=out, **settings))  # type: ignore[arg-type]


def run(out: Path, **settings: object) -> dict[str, np.ndarray]:
    assert simulate_movie(SimulateMovie(out=out, **settings)) == out  # type: ignore[arg-type]
    return written(out)


def written(out: Path) -> dict[str, np.ndarray]:
    return {one.name: np.stack([labels for _, labels in one.tracked()]) for one in read_sequences(out)}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_single_frame_has_no_motion_to_draw(tmp_path: Path) -> None:
    (labels,) = run(tmp_path / "out", frames=1, size="64x64", density=5).values()
    assert labels.shape == (1, 64, 64)
    assert (tmp_path / "out" / "report.html").exists()


def test_from_a_movie_to_masks_tracks_statistics_and_report(
    phantom_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["simulate", "movie", "--like", str(phantom_movie), "--out", str(out), "--count", "2", "--frames", "10"]
    assert main(line) == 0
    assert check(Check(out)) == []
    sequences = read_sequences(out)
    assert [list(one.masks) for one in sequences] == [["GT/SEG", "GT/TRA"]] * 2
    rows = [read_tracks(one.tracks["GT/TRA"]) for one in sequences]
    kin = [len({row.parent for row in some if row.parent}) for some in rows]
    said = capsys.readouterr().out
    tracks, divisions = sum(map(len, rows)), sum(kin)
    assert re.search(rf"out: 2 sequences with {tracks} tracks and {divisions} divisions?\n", said)
    for one in sequences:
        assert list(one.masks["GT/SEG"]) == list(range(10))
        for frame, labels in one.tracked():
            assert labels.shape == (120, 140)
            assert np.array_equal(labels, read_labels(one.masks["GT/TRA"][frame]))

    assert {path.name for path in out.iterdir()} == {
        "01_GT", "02_GT", "01.gif", "02.gif", "dataset.json", "manifest.jsonl", "statistics.json", "report.html"
    }  # fmt: skip
    info = json.loads((out / "dataset.json").read_text())
    assert info["complete"] and info["synthetic"]["settings"]["count"] == 2
    assert info["synthetic"]["source"]["items"] == 24 and set(info["synthetic"]["source"]["tracks"]) == {"01", "02"}
    assert info["sequences"]["02"]["seed"] == [0, 1] and info["sequences"]["02"]["frames"] == 10
    assert info["sequences"]["01"]["model"] in ("01", "02")
    stored = json.loads((out / "statistics.json").read_text())
    assert stored["dynamics"]["division_rate"] == stored["real"]["division_rate"]["value"]
    assert stored["simulated"]["division_rate"]["events"] == divisions
    assert 0 <= stored["distance"]["speed"] < 0.4
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1 + 4 * 4
    for part in ("Kolmogorov-Smirnov", "its model", "divisions by cell and frame", "turning angle"):
        assert part in page, part
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page)


def test_synthetic_movies_say_so(phantom_movie: Path) -> None:
    assert Dataset.open(phantom_movie).synthetic() == phantom_movie / "dataset.json"
    alone = Dataset.open(phantom_movie / "01_GT" / "SEG", holds="masks")
    assert alone.synthetic() == phantom_movie / "dataset.json"
    copied = phantom_movie.parent / "copied.tif"
    copied.write_bytes((phantom_movie / "01_GT" / "SEG" / "man_seg000.tif").read_bytes())
    assert Dataset.open(copied, holds="masks").synthetic() == copied


def test_sequence_k_depends_on_the_seed_and_k_only(phantom_movie: Path, tmp_path: Path) -> None:
    one = run(tmp_path / "one", like=phantom_movie, count=1, frames=2, seed=4)
    two = run(tmp_path / "two", like=phantom_movie, count=2, frames=2, seed=4)
    other = run(tmp_path / "other", like=phantom_movie, count=1, frames=2, seed=5)
    assert np.array_equal(one["01"], two["01"])
    assert not np.array_equal(two["01"], two["02"])
    assert not np.array_equal(one["01"], other["01"])


def test_without_data(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (labels,) = run(out, frames=5, density=20, diameter=18, size="90x150", layout="colony").values()
    assert labels.shape == (5, 90, 150)
    assert 12 <= np.unique(labels[0]).size - 1 <= 28
    stored = json.loads((out / "statistics.json").read_text())
    assert stored["real"] is None and stored["distance"] is None
    assert stored["dynamics"] == vars(Dynamics())
    assert json.loads((out / "dataset.json").read_text())["synthetic"]["source"] is None


def test_scale_and_division_rate(phantom_movie: Path, tmp_path: Path) -> None:
    half = run(tmp_path / "half", like=phantom_movie, scale=0.5, frames=3, division_rate=0.0)
    assert half["01"].shape == (3, 60, 70)
    stored = json.loads((tmp_path / "half" / "statistics.json").read_text())
    assert stored["dynamics"]["division_rate"] == 0 and stored["simulated"]["division_rate"]["events"] == 0
    assert json.loads((tmp_path / "half" / "dataset.json").read_text())["scale"] == 0.5
    assert stored["simulated"]["area"]["median"] == pytest.approx(stored["real"]["area"]["median"], rel=0.4)


def test_interrupted_work_goes_on(phantom_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", like=phantom_movie, count=2, frames=4)
    out = tmp_path / "out"
    simulated, made = module.simulate_lineage, []

    def stops(*arguments: object, **settings: object) -> object:
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return simulated(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "simulate_lineage", stops)
    line = ["simulate", "movie", "--like", str(phantom_movie), "--out", str(out), "--count", "2", "--frames", "4"]
    assert main(line) == 130
    assert [one.name for one in read_sequences(out)] == ["01"]
    assert same(whole, run(out, like=phantom_movie, count=2, frames=4))
    assert len(made) == 3
    for name in ("statistics.json", "dataset.json", "01.gif"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_nothing_is_replaced_unless_told(phantom_movie: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(out, frames=3, density=5)
    with pytest.raises(UserError, match=r"holds results already; .*--overwrite"):
        run(out, frames=2, density=5)
    assert same(first, written(out))
    assert run(out, frames=2, density=5, overwrite=True)["01"].shape[0] == 2
    with pytest.raises(UserError, match="which --like takes as a model; give another --out"):
        run(phantom_movie / "new", like=phantom_movie)


def test_too_many_cells_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labels,) = run(tmp_path / "out", frames=2, density=3000, size="64x64").values()
    count = np.unique(labels[0]).size - 1
    assert f"01: its first frame has only {count} cells" in capsys.readouterr().out


def test_what_motion_rests_on_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 10:20], labels[25:35, 22:34] = 1, 2
    movie = write_movie(tmp_path / "movie", {0: labels, 2: labels}, ((1, 0, 0, 0), (2, 0, 0, 0)))
    run(tmp_path / "out", like=movie, frames=2)
    shown = capsys.readouterr().out
    assert "sequence 01: lacks 1 frame (1); motion across the gap does not count" in shown
    assert "no cell is there in two frames in a row; speed and growth are those of the model" in shown
    write_labels(movie / "01_GT" / "TRA" / "man_track002.tif", labels[:30])
    with pytest.raises(UserError, match=r"man_track002.tif: is of 30 x 40 pixels, others are of 40 x 40"):
        run(tmp_path / "none", like=movie)


def test_sequences_without_tracks_are_left_out(
    tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "out", like=tiny_movie, frames=2)
    assert "sequence 02: has no tracks, left out" in capsys.readouterr().out
    with pytest.raises(UserError, match="to learn motion from; track its cells first"):
        run(tmp_path / "none", like=tiny_movie, sequence=("02",))
    with pytest.raises(UserError, match="is a part of the movie"):
        run(tmp_path / "none", like=tiny_movie / "01")
    with pytest.raises(UserError, match="is no movie folder"):
        run(tmp_path / "none", like=tmp_path / "out" / "01_GT" / "TRA")
    with pytest.raises(UserError, match="has no sequence 07"):
        run(tmp_path / "none", like=tiny_movie, sequence=("07",))
    cut = tmp_path / "cut"
    write_labels(cut / "01_RES" / "mask000.tif", np.ones((30, 30), np.int32))
    (cut / "01_RES" / "res_track.txt").write_text("1 0 0 0\n")
    with pytest.raises(UserError, match="no cell lies whole in its frame"):
        run(tmp_path / "none", like=cut)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--density 0.8", "--density 0.8: below 1 it is the share of the image that cells cover, at most 0.7"),
        ("--frames 0", "--frames 0"),
        ("--division-rate 0.5", "--division-rate 0.5"),
        ("--size 512", "--size 512: must be written like 512x768"),
        ("--like x --diameter 20", "--diameter is for cells without --like"),
        ("--scale 0.5", "--scale resizes the masks of --like, which is not given"),
        ("--like no/such/folder", "no/such/folder: does not exist"),
    ],
)
def test_mistakes_are_one_sentence(
    line: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "movie", "--out", str(tmp_path / "out"), *line.split()]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "scale", "count"), [("hela", 1.0, 1), ("u373", 0.5, 3)])
def test_like_real_movies(real_data: Path, tmp_path: Path, name: str, scale: float, count: int) -> None:
    """Motion is that of the data; so are divisions where there are some. A movie of u373 has six cells: too few."""
    out = tmp_path / "out"
    run(out, like=real_data / name, scale=scale, sequence=("01",), frames=40, count=count)
    assert [finding for finding in check(Check(out)) if finding.severity == "error"] == []
    stored = json.loads((out / "statistics.json").read_text())
    assert stored["distance"]["speed"] < 0.25
    assert stored["distance"]["turning"] < 0.2
    assert stored["distance"]["growth"] < 0.25
    rates = [stored[kind]["division_rate"]["value"] for kind in ("simulated", "real")]
    assert rates[0] == pytest.approx(rates[1], rel=0.5)
    if name == "hela":
        assert stored["distance"]["area"] < 0.25
        sisters = [stored[kind]["sister_distance"]["median"] for kind in ("simulated", "real")]
        assert sisters[0] == pytest.approx(sisters[1], rel=0.1)


def test_how_far_cells_reach_into_the_frame() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[8:12, 3:6] = 4  # the last of its columns is the sixth from the edge
    labels[8:12, 12:18] = 2
    assert least_reach(labels) == 6
    assert least_reach(np.zeros((5, 5), np.int32)) == np.inf


def test_a_movie_of_another_command_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    painted = MovieWriter(tmp_path / "out", {"synthetic": {"by": "cytoforge generate movie"}})
    painted.add_frame("01", 0, np.full((1, 64, 64), 7, np.uint16))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert main(["simulate", "movie", "--out", str(tmp_path / "out"), "--frames", "2", "--overwrite"]) == 2
    assert "holds a dataset of another kind, by cytoforge generate movie" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
