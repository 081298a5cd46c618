"""The page of a tracked movie: lineages in order, what is left out of them, trajectories and the film."""

import base64
import shutil
from pathlib import Path

import numpy as np

from cells import draw
from conftest import write_movie
from cytoforge.cli import main
from cytoforge.data.film import Film
from cytoforge.data.movie import Track
from cytoforge.inference.track_report import lineage_table, lineages
from cytoforge.inference.trails import trails
from cytoforge.report import id_colours

FAMILY = [Track(1, 0, 3, 0), Track(2, 4, 9, 1), Track(3, 4, 6, 1), Track(4, 7, 9, 3), Track(5, 7, 8, 3)]
LONE = [Track(6, 0, 9, 0), Track(7, 2, 4, 0), Track(8, 5, 9, 99)]  # the parent of 8 is not there
SIZE = (1280, 1280)


def spans(tracks: list[Track], most: int = 40) -> list[tuple[int, int]]:
    """First and last frame of the lines of tracks, from the top of the picture."""
    (axes,) = lineages(tracks, most).axes
    lines = [line.get_data() for line in axes.lines if len(set(line.get_ydata())) == 1]
    return [(round(x[0] + 0.4), round(x[1] - 0.4)) for x, y in sorted(lines, key=lambda line: line[1][0])]


def test_daughters_follow_their_mothers_and_large_families_come_first() -> None:
    # mother, her first daughter, her second daughter and the daughters of that one; then single tracks by length
    family = [(0, 3), (4, 9), (4, 6), (7, 9), (7, 8)]
    assert spans([*LONE, *FAMILY]) == [*family, (0, 9), (5, 9), (2, 4)]
    assert spans([*LONE, *FAMILY], most=2) == [*family, (0, 9)]
    torn = [Track(label, 2 * label, 2 * label, label - 1 if label > 20 else 0) for label in range(20, 27)]
    assert spans([*torn, *FAMILY], most=1) == family  # gaps are no divisions


def test_each_descent_is_one_joining_line() -> None:
    (axes,) = lineages([*LONE, *FAMILY]).axes
    joining = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_ydata())) == 2]
    assert np.allclose(sorted(joining), [3.6, 3.6, 6.6, 6.6])


def test_lineages_are_counted_by_hand() -> None:
    header, rows = lineage_table([*LONE, *FAMILY, Track(9, 11, 12, 6)])  # 6 is seen again after a gap, as 9
    assert header == ["lineage", "first frame", "last frame", "tracks", "divisions", "cells at its end"]
    assert rows == [["1", 0, 9, 5, 2, 2], ["6", 0, 12, 2, 0, 1], ["8", 5, 9, 1, 0, 1], ["7", 2, 4, 1, 0, 1]]


def moving() -> list[tuple[int, np.ndarray]]:
    """Cell 1 is at x 2 and then 6, where it divides into 2, above, and 3, below it."""
    masks = np.zeros((3, 20, 20), int)
    masks[0, 9:12, 1:4] = masks[1, 9:12, 5:8] = 1
    masks[2, 3:6, 5:8], masks[2, 15:18, 5:8] = 2, 3
    return list(enumerate(masks, 4))


def test_trajectories_of_daughters_begin_at_their_mother() -> None:
    ways = trails(moving(), [Track(1, 4, 5, 0), Track(2, 6, 6, 1), Track(3, 6, 6, 1)])
    assert ways.shape == (20, 20) and ways.begins == {1: 4, 2: 6, 3: 6}
    assert {label: points.tolist() for label, points in ways.points.items()} == {
        1: [[4, 10, 2], [5, 10, 6]],
        2: [[5, 10, 6], [6, 4, 6]],
        3: [[5, 10, 6], [6, 16, 6]],
    }


def test_trajectories_are_drawn_where_the_cells_were_and_no_further_back_than_the_tail() -> None:
    ways = trails(moving(), [Track(1, 4, 5, 0), Track(2, 6, 6, 1), Track(3, 6, 6, 1)])

    def at(lines: np.ndarray, y: float, x: float) -> list[int]:
        """Colour and opacity at a place, where pictures are 64 times as large."""
        red, green, blue, opacity = lines[round(64 * (y + 0.5)), round(64 * (x + 0.5))].tolist()
        return [red, green, blue, opacity] if opacity else []

    colours = [[*colour, 255] for colour in id_colours(np.array([1, 2, 3])).tolist()]
    lines = ways.drawn(SIZE, 6)
    assert lines.shape == (*SIZE, 4) and lines.dtype == np.uint8
    assert [at(lines, *place) for place in ((10, 4), (7, 6), (13, 6), (4, 6), (16, 6), (2, 2))] == [
        *colours, *colours[1:], []
    ]  # fmt: skip
    short = ways.drawn(SIZE, 6, tail=1)
    assert at(short, 10, 4) == [] and at(short, 7, 6) == colours[1]
    early = ways.drawn(SIZE, 5, named=True)
    assert at(early, 10, 4) == colours[0] == at(early, 10, 6) and at(early, 7, 6) == []
    number = np.argwhere((early != ways.drawn(SIZE, 5)).any(axis=-1)).mean(axis=0)
    assert np.all(np.abs(number - (64 * 10.5 - 20, 64 * 6.5 + 20)) < 20)  # above the dot, to its right


def test_the_film_is_beside_the_page_and_in_it(tmp_path: Path) -> None:
    masks = dict(enumerate(labels for _, labels in moving()))
    movie = write_movie(tmp_path / "movie", masks, (), pixel_size=0.5)
    out = tmp_path / "tracked"
    assert main(["track", "overlap", str(movie), "--out", str(out)]) == 0
    film = (out / "01.mp4").read_bytes()
    page = (out / "report.html").read_text()
    assert base64.b64encode(film).decode() in page
    assert page.count(">2 µm<") == 4  # a bar in each picture of 20 pixels, 10 micrometers
    assert "frame 2, and the trajectories of all cells up to it" in page and "All lineages" in page
    frames = list(Film(out / "01.mp4"))
    assert [frame.shape for frame in frames] == [(3, 640, 640)] * 3
    assert '"01.mp4"' in (out / "manifest.jsonl").read_text()


def test_a_movie_without_frames_or_cells_has_a_page(tmp_path: Path) -> None:
    full, empty = draw("AA.\nAA.\n..B"), draw("...\n...\n...")
    for name, masks in (("cells", [full, full]), ("empty", [empty, empty])):
        movie = write_movie(tmp_path / name, dict(enumerate(masks)), ())
        shutil.rmtree(movie / "01")
        out = tmp_path / f"tracked-{name}"
        assert main(["track", "overlap", str(movie), "--out", str(out)]) == 0
        page = (out / "report.html").read_text()
        assert ("grey lines join mothers" in page) == (name == "cells")
        assert "2 frames with masks" in page and not (out / "01.mp4").exists()
