"""The page of a movie in a real browser: played, followed, one link corrected, kept, and taken by other commands."""

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cytoforge import cli
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.movie import read_sequences, read_tracks
from cytoforge.simulation.phantom import phantom_image
from studio_server import Opened

SIDE = 128  # px of the frames
FRAMES = 6
LONG = 240_000  # ms that a piece of work may take on a busy computer
# by label: first frame, x and y there, pixels to the right from frame to frame, radius
CELLS = {
    1: (0, 20, 24, 3, 9),
    2: (0, 100, 30, 0, 9),
    3: (0, 60, 90, 0, 10),
    4: (3, 54, 90, -1, 6),
    5: (3, 67, 90, 1, 6),
}
TRACKS = "1 0 5 0\n2 0 5 0\n3 0 2 0\n4 3 5 3\n5 3 5 3\n"


def labels_of(frame: int) -> NDArray[np.int32]:
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.int32)
    for label, (first, left, top, step, radius) in CELLS.items():
        if first <= frame and not (label == 3 and frame > 2):
            labels[(x - left - step * (frame - first)) ** 2 + (y - top) ** 2 < radius**2] = label
    return labels


@pytest.fixture
def dish(tmp_path: Path) -> Path:
    """A phantom movie with masks and no tracks, in which cell 3 divides."""
    for frame in range(FRAMES):
        labels = labels_of(frame)
        image = phantom_image(labels, np.random.default_rng(0))
        write_image(tmp_path / "dish" / "01" / f"t{frame:03d}.tif", image[None])
        write_labels(tmp_path / "dish" / "01_GT" / "SEG" / f"man_seg{frame:03d}.tif", labels)
    return tmp_path / "dish"


@pytest.fixture
def tracked(dish: Path) -> Path:
    for frame in range(FRAMES):
        write_labels(dish / "01_GT" / "TRA" / f"man_track{frame:03d}.tif", labels_of(frame))
    (dish / "01_GT" / "TRA" / "man_track.txt").write_text(TRACKS)
    return dish


class Player:
    """The page of a movie; places are in pixels of the frame, which fills the height or the width of the viewer."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.viewer = page.locator(".movie .viewer")

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.viewer.bounding_box()
        side = min(box["width"], box["height"])
        return box["width"] / 2 + (x / SIDE - 0.5) * side, box["height"] / 2 + (y / SIDE - 0.5) * side

    def click(self, x: float, y: float) -> None:
        left, top = self.at(x, y)
        self.viewer.click(position={"x": left, "y": top})

    def colour(self, x: float, y: float) -> list[int]:
        """What is drawn above a pixel of the frame."""
        return list(
            self.page.evaluate(
                """([x, y]) => [...document.querySelector(".movie canvas.strokes").getContext("2d")
                    .getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data]""",
                list(self.at(x, y)),
            )
        )

    def shows(self, frame: int) -> None:
        self.page.wait_for_function(
            "n => document.querySelector('.moviebar .count strong').textContent === String(n)", arg=frame
        )
        self.page.wait_for_function(  # the outlines of its cells
            """([x, y]) => document.querySelector(".movie canvas.strokes").getContext("2d")
                .getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data[3] > 0""",
            arg=list(self.at(100, 25)),
        )

    def tracks(self, words: str) -> None:
        self.page.get_by_text(words, exact=True).wait_for()
        self.page.wait_for_selector("text=All is saved")


def test_a_movie_is_played_and_its_lineage_looked_at(
    tracked: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened(tracked))
    player = Player(page)
    player.tracks("5 tracks, 1 division")
    player.shows(0)
    first, other = player.colour(20, 19), player.colour(100, 25)
    assert first[3] > 0 and first != other and player.colour(64, 64)[3] == 0
    page.get_by_label("Speed").select_option("20")
    page.get_by_label("Play", exact=True).click()
    page.wait_for_function("() => Number(document.querySelector('.moviebar .count strong').textContent) > 2")
    page.get_by_label("Pause").click()
    page.keyboard.press("Home")
    player.shows(0)
    page.keyboard.press("End")
    player.shows(5)
    page.keyboard.press("ArrowLeft")
    player.shows(4)
    assert player.colour(32, 19) == first and player.colour(100, 25) == other  # a cell keeps its colour
    assert player.colour(21, 24.5)[3] > 0  # where it was, its trail is
    page.keyboard.press("t")
    page.wait_for_timeout(300)
    assert player.colour(21, 24.5)[3] == 0
    page.get_by_role("button", name="List").click()
    assert page.locator(".kin tbody tr").all_inner_texts()[2] == "3\t0–2\t\t4, 5"
    page.locator(".kin button.link", has_text="5").click()  # to where it begins
    player.shows(3)
    page.get_by_text("Cell 5, frames 3 to 5, from 3").wait_for()
    page.get_by_label("Which tracks").select_option("divisions")
    assert page.locator(".kin tbody tr").count() == 3
    page.get_by_role("button", name="Tree").click()
    assert page.locator(".tree .branch").count() == 3
    page.get_by_role("button", name="Correct shapes here").click()
    page.wait_for_function("() => document.querySelector('.image.open strong')?.textContent === '01_t003'")
    page.wait_for_selector(".viewbar .count")
    page.get_by_role("button", name="Movie").click()
    player.tracks("5 tracks, 1 division")


def test_cells_are_followed_a_link_corrected_and_the_tracks_taken(
    dish: Path, opened: Callable[..., Opened], page_of: Callable[..., Any], tmp_path: Path
) -> None:
    running = opened(dish)
    page = page_of(running)
    player = Player(page)
    page.get_by_role("button", name="Follow the cells").click()
    page.get_by_text("5 tracks, 1 division", exact=True).wait_for(timeout=LONG)
    player.shows(0)
    page.keyboard.press("ArrowRight")
    player.shows(1)
    player.click(100, 25)
    page.get_by_role("button", name="Cut after").click()
    player.tracks("6 tracks, 1 division")
    page.keyboard.press("Control+z")
    player.tracks("5 tracks, 1 division")
    page.keyboard.press("Control+Shift+z")
    player.tracks("6 tracks, 1 division")
    page.keyboard.press("j")  # joined again, but with the wrong cell
    player.shows(2)
    player.click(60, 86)
    page.get_by_text("2 corrections", exact=True).wait_for()
    assert [2, 0, 2, 0] in [row[:4] for row in running.client.get("/api/movies/01").json()["tracks"]]
    page.keyboard.press("Control+z")
    page.get_by_text("1 correction", exact=True).wait_for()
    player.tracks("6 tracks, 1 division")
    page.reload()
    player.tracks("6 tracks, 1 division")
    page.get_by_text("1 correction", exact=True).wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download tracks").click()
    download.value.save_as(tmp_path / "tracks.zip")
    rows = zipfile.ZipFile(tmp_path / "tracks.zip").read("01_RES/res_track.txt").decode().splitlines()
    assert [row for row in rows if re.match(r"\d+ (0 1|2 5) 0$", row)] == ["2 0 1 0", "6 2 5 0"]
    out = tmp_path / "exported"
    assert cli.main(["export", str(running.space.path / "tracked"), "--format", "ctc", "--out", str(out)]) == 0
    (sequence,) = read_sequences(out)
    tracks = {track.label: track for track in read_tracks(next(iter(sequence.tracks.values())))}
    assert (tracks[2].end, tracks[6].begin, tracks[6].parent) == (1, 2, 0)
    assert [int(labels[25, 100]) for _, labels in sequence.tracked()] == [2, 2, 6, 6, 6, 6]


@pytest.mark.slow
def test_numbered_images_become_a_movie_whose_cells_have_the_size_that_is_given(
    dish: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened((dish / "01").rename(dish.parent / "frames")))
    page.get_by_role("button", name="Open as a movie").click()
    page.locator("main.movie").get_by_label("Size of a cell").fill("30")
    page.get_by_role("button", name="Follow the cells").click()
    page.get_by_text("Cells were taken to be 30 px across.").wait_for(timeout=LONG)
    page.get_by_text(re.compile(r"\d tracks, \d division")).first.wait_for()
    page.get_by_role("button", name="Frames", exact=True).click()
    page.locator("button.image", has_text="t005").wait_for()
    assert page.get_by_role("button", name="Open as a movie").count() == 0


def test_what_goes_wrong_on_the_way_is_made_good(
    tracked: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    failed: list[str] = []

    def outlines(route: Any) -> None:
        if route.request.url in failed:
            route.continue_()
        else:
            failed.append(route.request.url)
            route.abort()

    held: list[Any] = []
    page = page_of(opened(tracked))
    page.route("**/outlines/*", outlines)
    page.reload()
    player = Player(page)
    player.tracks("5 tracks, 1 division")
    page.wait_for_function("() => document.querySelector('.moviebar .count strong').textContent === '0'")
    page.wait_for_timeout(300)
    page.get_by_label("Frame", exact=True).focus()  # after which keys have to work
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    page.keyboard.press("Home")
    player.shows(0)
    page.keyboard.press("t")
    assert not page.get_by_label("Trails", exact=True).is_checked()
    player.click(100, 25)
    page.get_by_text("Cell 2, frames 0 to 5").wait_for()
    warned = """() => {
        const leaving = new Event("beforeunload", {cancelable: true});
        dispatchEvent(leaving);
        return leaving.defaultPrevented;
    }"""
    assert not page.evaluate(warned)
    page.route("**/corrections", lambda route: held.append(route))
    with page.expect_request("**/corrections"):
        page.keyboard.press("c")
    page.wait_for_selector("text=Saving…")
    assert page.evaluate(warned)
    held[0].continue_()
    player.tracks("6 tracks, 1 division")
    assert not page.evaluate(warned)
    for _ in range(4):
        page.keyboard.press("+")
    page.get_by_role("button", name="List").click()
    page.locator(".kin button.link", has_text="5").click()  # which is out of sight
    page.wait_for_function(
        """() => { const canvas = document.querySelector(".movie canvas.strokes");
            return canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[3] > 0; }"""
    )


def test_an_answer_for_another_movie_comes_too_late(
    tracked: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    shutil.copytree(tracked / "01", tracked / "02")
    page = page_of(opened(tracked))
    Player(page).tracks("5 tracks, 1 division")
    held: list[Any] = []
    page.route("**/api/movies/01/places", lambda route: held.append(route))
    with page.expect_request("**/api/movies/01/places"):
        page.reload()
    page.get_by_label("Sequence").select_option("02")
    page.get_by_text("Here the tracks of the cells will be").wait_for()
    held[0].continue_()
    page.wait_for_timeout(500)
    assert page.get_by_text("Here the tracks of the cells will be").is_visible()


def test_other_tracks_begin_without_a_chosen_cell_and_a_large_family_is_shown_in_part(
    tracked: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened(tracked))
    player = Player(page)
    player.tracks("5 tracks, 1 division")
    player.shows(0)
    player.click(100, 25)
    page.get_by_text("Cell 2, frames 0 to 5").wait_for()
    # tracks 1 to 3 are one cell with gaps, and 4 has 500 daughters
    lines = [(1, 0, 0, 0), (2, 2, 2, 1), (3, 4, 5, 2), (4, 0, 0, 0), *((k, 1, 5, 4) for k in range(5, 505))]

    def followed_anew(route: Any) -> None:
        movie = route.fetch().json()
        wanted = {"tracked": 7, "revision": movie["revision"] + 1, "tracks": [[*line, "#ff8800"] for line in lines]}
        route.fulfill(json={**movie, **wanted})

    def state(route: Any) -> None:
        told = route.fetch().json()
        told["movies"][0]["revision"] += 1
        route.fulfill(json=told)

    page.route("**/api/movies/01", followed_anew)
    page.route("**/api/state", state)
    page.get_by_text("504 tracks, 1 division").wait_for()
    page.get_by_text("Play the movie. Where a colour jumps").wait_for()
    page.get_by_text("The first 400 of 504").wait_for()
    assert page.locator(".kin tbody tr").count() == 400
    page.get_by_label("Which tracks").select_option("divisions")
    page.get_by_text("The first 400 of 501").wait_for()
    page.get_by_role("button", name="Tree").click()
    assert page.locator(".tree .branch").count() == 400
    page.unroute_all(behavior="wait")


@pytest.mark.parametrize("width", [1280, 1024, 820])
def test_nothing_of_a_movie_is_cut_off_on_a_small_screen_or_a_tablet(
    width: int, tracked: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened(tracked), viewport={"width": width, "height": 768}, has_touch=width < 1280)
    player = Player(page)
    player.tracks("5 tracks, 1 division")
    player.shows(0)
    player.click(100, 25)
    page.get_by_text("Cell 2, frames 0 to 5").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    parts = page.locator(".movie button:visible, .movie select:visible, .moviebar input").all()
    assert len(parts) > 15
    for part in parts:
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width + 1
    assert player.viewer.bounding_box()["height"] > 300
