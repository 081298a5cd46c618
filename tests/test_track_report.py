"""The page of a tracked movie: lineages in order, and what is left out of them."""

import shutil
from pathlib import Path

import numpy as np

from cells import draw
from conftest import write_movie
from cytoforge.cli import main
from cytoforge.data.movie import Track
from cytoforge.inference.track_report import lineages

FAMILY = [Track(1, 0, 3, 0), Track(2, 4, 9, 1), Track(3, 4, 6, 1), Track(4, 7, 9, 3), Track(5, 7, 8, 3)]
LONE = [Track(6, 0, 9, 0), Track(7, 2, 4, 0), Track(8, 5, 9, 99)]  # the parent of 8 is not there


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


def test_each_descent_is_one_joining_line() -> None:
    (axes,) = lineages([*LONE, *FAMILY]).axes
    joining = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_ydata())) == 2]
    assert np.allclose(sorted(joining), [3.6, 3.6, 6.6, 6.6])


def test_a_movie_without_frames_or_cells_has_a_page(tmp_path: Path) -> None:
    full, empty = draw("AA.\nAA.\n..B"), draw("...\n...\n...")
    for name, masks in (("cells", [full, full]), ("empty", [empty, empty])):
        movie = write_movie(tmp_path / name, dict(enumerate(masks)), ())
        shutil.rmtree(movie / "01")
        out = tmp_path / f"tracked-{name}"
        assert main(["track", "overlap", str(movie), "--out", str(out)]) == 0
        page = (out / "report.html").read_text()
        assert ("grey lines join mothers" in page) == (name == "cells")
        assert "2 frames with masks" in page
