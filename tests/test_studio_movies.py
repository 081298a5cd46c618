"""Movies in the studio: their tracks, followed and given, corrections that survive, and what other commands get."""

import contextlib
import io
import json
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cytoforge import cli
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.movie import inconsistencies, read_sequences, read_tracks
from cytoforge.errors import UserError
from cytoforge.studio import drafts, journal, tracked
from cytoforge.studio.frames import in_sequence
from cytoforge.studio.movies import Movie, Movies
from cytoforge.studio.tasks import Tasks
from cytoforge.studio.workspace import Workspace
from studio_server import Opened, studio, wait

# rows of pixels, a frame each: cell 1 divides into 2 and 3, and cell 4 stays
ROWS = ("111...44", "111...44", "2.3...44", "2.33..44")
TRACKS = "1 0 1 0\n2 2 3 1\n3 2 3 1\n4 0 3 0\n"


def labels_of(row: str) -> np.ndarray:
    line = np.array([0 if letter == "." else int(letter) for letter in row], np.int32)
    return np.kron(np.tile(line, (4, 1)), np.ones((8, 8), np.int32))


@pytest.fixture
def dish(tmp_path: Path) -> Path:
    folder = tmp_path / "dish"
    for number, row in enumerate(ROWS):
        labels = labels_of(row)
        write_image(folder / "01" / f"t{number:03d}.tif", (100 * (labels > 0) + 20).astype(np.uint8)[None])
        write_labels(folder / "01_GT" / "TRA" / f"man_track{number:03d}.tif", labels)
    (folder / "01_GT" / "TRA" / "man_track.txt").write_text(TRACKS)
    return folder


def written(space: Path) -> tuple[str, list[str]]:
    """The track file of the corrected movie, and the labels in the first row of each mask."""
    (sequence,) = read_sequences(space / "tracked")
    rows = ["".join(map(str, read_labels(mask)[0, ::8])).replace("0", ".") for mask in sequence.masks["RES"].values()]
    return sequence.tracks["RES"].read_text(), rows


def movie_of(dish: Path) -> Movie:
    return Movies(Workspace(dish)).movie("01")


def correction(*cells: tuple[int, int], tool: str = "join") -> dict[str, Any]:
    return {"tool": tool, "cells": [list(cell) for cell in cells]}


def test_the_tracks_of_a_movie_are_shown_and_written_beside_it(dish: Path) -> None:
    before = {path: path.read_bytes() for path in dish.rglob("*") if path.is_file()}
    movie = movie_of(dish)
    assert [tuple(track) for track in movie.tracks.values()] == [(1, 0, 1, 0), (2, 2, 3, 1), (3, 2, 3, 1), (4, 0, 3, 0)]
    movie.save()
    assert written(dish.with_name("dish-studio")) == (TRACKS, list(ROWS))
    assert {path: path.read_bytes() for path in dish.rglob("*") if path.is_file()} == before
    places = json.loads(movie.places().read_text())
    assert places["0"] == {"1": [12.0, 16.0], "4": [56.0, 16.0]}
    outlines = dict(movie.outlines(2))
    x, y = np.array(outlines[3]).reshape(-1, 2).T
    assert (x.min(), x.max(), y.min(), y.max()) == (16.0, 24.0, 0.0, 32.0)


def test_a_correction_is_on_disk_before_it_is_confirmed_and_survives_a_kill(dish: Path) -> None:
    movie = movie_of(dish)
    movie.save()
    movie.correct(correction((2, 2), tool="before"), movie.revision)
    movie._soon.stop()  # killed before the masks are written
    again = movie_of(dish)
    assert again.tracks[1].end == 3 and 3 not in again.tracks
    again.save()
    corrected = "1 0 3 0\n2 2 3 0\n4 0 3 0\n"
    assert written(dish.with_name("dish-studio")) == (corrected, ["111...44", "111...44", "2.1...44", "2.11..44"])
    again.correct({"tool": "undo"}, again.revision)
    again.save()
    assert written(dish.with_name("dish-studio")) == (TRACKS, list(ROWS))
    last = movie_of(dish)
    assert last.undoable == (False, True)
    last.correct({"tool": "redo"}, last.revision)
    last.save()
    assert written(dish.with_name("dish-studio"))[0] == corrected and last.corrections == 1


def test_a_kill_while_masks_are_written_leaves_no_tracks_that_contradict_them(
    dish: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = movie_of(dish)
    movie.save()
    movie.correct(correction((1, 1), (4, 1), tool="swap"), movie.revision)
    real = tracked.encode_labels

    def killed(path: Path, labels: np.ndarray) -> bytes:
        if path.name == "mask002.tif":
            raise KeyboardInterrupt
        return real(path, labels)

    monkeypatch.setattr(tracked, "encode_labels", killed)
    with pytest.raises(KeyboardInterrupt):
        movie.save()
    (sequence,) = read_sequences(dish.with_name("dish-studio") / "tracked")
    assert sequence.tracks == {}
    monkeypatch.setattr(tracked, "encode_labels", real)
    movie_of(dish).save()
    assert written(dish.with_name("dish-studio")) == (
        "1 0 3 0\n2 2 3 4\n3 2 3 4\n4 0 1 0\n",
        ["111...44", "444...11", "2.3...11", "2.33..11"],
    )


def kept(space: Path, changed: dict[Path, bytes]) -> list[str]:
    """Make a correction; return what is told, if files that the user has put there or changed are as they were."""
    for path, content in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    movies = Movies(Workspace(space.with_name("dish")))
    movie = movies.movie("01")
    movie.correct(correction((4, 2), tool="before"), movie.revision)
    with contextlib.suppress(UserError):
        movie.save()
    assert all(path.read_bytes() == content for path, content in changed.items())
    again = movie_of(space.with_name("dish"))
    assert again.corrections == 1
    for one in (movie, again):
        one._soon.stop()
    return movies.notes


@pytest.mark.parametrize("name", ["mask003.tif", "res_track.txt"])
def test_no_file_that_the_user_has_changed_is_replaced_and_the_page_is_told(name: str, dish: Path) -> None:
    movie_of(dish).save()
    space = dish.with_name("dish-studio")
    results = space / "tracked" / "01_RES"
    mine, others = results / name, {path: path.read_bytes() for path in results.iterdir() if path.name != name}
    (note,) = kept(space, {mine: b"mine"})
    assert note.startswith(f"{mine}: is not as the studio wrote it") and note.endswith("move it away")
    assert all(path.read_bytes() == content for path, content in others.items())
    mine.rename(dish / name)
    again = Movies(Workspace(dish))
    again.movie("01").save()
    assert again.notes == [] and written(space)[0] == TRACKS.replace("4 0 3 0", "4 0 1 0\n5 2 3 0")


def test_files_of_the_user_beside_the_tracks_are_left_there(dish: Path) -> None:
    movie_of(dish).save()
    space = dish.with_name("dish-studio")
    results = space / "tracked" / "01_RES"
    beside = {results / name: b"mine" for name in ("mask_notes.tif", "mask000_mine.tif", "notes.txt")}
    assert kept(space, beside) == [] and "5 2 3 0" in written(space)[0]


@pytest.mark.parametrize("linked", [False, True])
def test_nothing_is_written_into_a_folder_of_the_user_that_is_in_the_place_of_the_tracks(
    linked: bool, dish: Path, tmp_path: Path
) -> None:
    space = dish.with_name("dish-studio")
    mine = tmp_path / "mine" if linked else space / "tracked"
    if linked:
        space.mkdir()
        (space / "tracked").symlink_to(mine)
    names = ("mask000.tif", "res_track.txt", "maskA.tif")
    (note,) = kept(space, {mine / "01_RES" / name: b"mine" for name in names})
    assert note.startswith(f"{space / 'tracked'}: was not made by the studio") and note.endswith("move it away")
    assert sorted(path.name for path in mine.rglob("*") if path.is_file()) == sorted(names)
    (space / "tracked").rename(tmp_path / "away")
    movie_of(dish).save()
    assert "5 2 3 0" in written(space)[0] and written(space)[1][0] == ROWS[0]


@pytest.mark.parametrize("lost", ["mask001.tif", "res_track.txt", "", ".."])
def test_what_is_missing_of_the_tracks_is_written_again(lost: str, dish: Path) -> None:
    movie = movie_of(dish)
    movie.save()
    space = dish.with_name("dish-studio")
    path = space / "tracked" / "01_RES" / lost
    shutil.rmtree(path.resolve()) if path.is_dir() else path.unlink()
    movie.save()
    assert written(space) == (TRACKS, list(ROWS)) and len(read_sequences(space / "tracked")[0].frames) == len(ROWS)
    path = space / "tracked" / "01_RES" / lost
    shutil.rmtree(path.resolve()) if path.is_dir() else path.unlink()
    movie_of(dish).save()
    assert written(space) == (TRACKS, list(ROWS))


def test_tracks_of_a_journal_that_was_cut_and_went_on_are_written(dish: Path) -> None:
    movie = movie_of(dish)
    for cell in ((2, 2), (4, 2), (4, 1)):
        movie.correct(correction(cell, tool="before"), movie.revision)
    movie.save()
    lines = movie.version / "corrections.jsonl"
    first, _, third = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(first + b"{nonsense}\n" + third)
    again = movie_of(dish)
    again.correct({"tool": "undo"}, again.revision)
    again.correct({"tool": "redo"}, again.revision)
    again._soon.stop()
    movie_of(dish).save()
    assert written(dish.with_name("dish-studio"))[0] == "1 0 3 0\n2 2 3 0\n4 0 3 0\n"


def test_frames_that_are_relative_links_are_followed(dish: Path) -> None:
    (dish.parent / "raw").mkdir()
    for frame in sorted((dish / "01").iterdir()):
        frame.rename(dish.parent / "raw" / frame.name)
        frame.symlink_to(f"../../raw/{frame.name}")
    space = Workspace(dish)
    movies = Movies(space)
    files = [space.path / "images" / "01_t000.tif", *movies.sequences["01"].frames.values()]
    assert space.notes == [] and not any(file.is_symlink() for file in files)
    assert space.pyramid("01_t000").shape == (1, 32, 64)


def test_a_link_of_the_user_to_nothing_is_not_written_through(dish: Path, tmp_path: Path) -> None:
    (tmp_path / "dish-studio" / "images").mkdir(parents=True)
    (tmp_path / "dish-studio" / "images" / "01_t000.tif").symlink_to(tmp_path / "nothing.tif")
    Workspace(dish)
    assert not (tmp_path / "nothing.tif").exists()


def test_frames_that_were_renamed_in_the_movie_are_known_by_their_numbers(dish: Path) -> None:
    movie_of(dish).save()
    for frame in sorted((dish / "01").iterdir()):
        frame.rename(frame.with_name(frame.name.replace("t", "t0", 1)))
    movie = movie_of(dish)
    movie.correct(correction((4, 2), tool="before"), movie.revision)
    movie.save()
    assert list(movie.frames) == [0, 1, 2, 3] and "5 2 3 0" in written(dish.with_name("dish-studio"))[0]


def full(path: Path, labels: np.ndarray) -> bytes:
    raise UserError(f"{path}: the disk is full; make room or write to another disk")


def notes_until(client: httpx.Client, wanted: bool) -> list[str]:
    """The notes of the page, as soon as there are some, or none any more."""
    for _ in range(100):
        notes: list[str] = client.get("/api/state").json()["notes"]
        if bool(notes) == wanted:
            break
        time.sleep(0.1)
    return notes


@pytest.mark.parametrize("part", ["tracks", "mask"])
def test_what_cannot_be_written_is_told_and_tried_again(
    part: str, dish: Path, opened: Callable[[Path], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "AGAIN", 0.3)
    running = opened(dish)
    with monkeypatch.context() as patched:
        patched.setattr(tracked, "encode_labels", full)
        patched.setattr(drafts, "write_labels", full)
        if part == "tracks":
            running.client.get("/api/movies/01")
        else:
            draft = running.space.draft("01_t000")
            draft.replace(labels_of("55......"))
        (note,) = notes_until(running.client, True)
        assert "the disk is full" in note
    assert notes_until(running.client, False) == []
    if part == "tracks":
        assert written(running.space.path) == (TRACKS, list(ROWS))
    else:
        assert 5 in read_labels(draft.path) and not draft.journal.exists()


def test_what_cannot_be_written_at_the_end_keeps_nothing_else_from_it(
    dish: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with studio(dish) as running:
        running.client.get("/api/movies/01")
        draft = running.space.draft("01_t000")
        draft.replace(labels_of("55......"))
        monkeypatch.setattr(drafts, "write_labels", full)
    said = capfd.readouterr().err
    assert "the disk is full" in said and "written at the next opening" in said and "Traceback" not in said
    assert written(running.space.path) == (TRACKS, list(ROWS)) and draft.journal.exists()
    with pytest.raises(UserError, match="the disk is full"):
        draft.close()
    monkeypatch.undo()
    assert 5 in Workspace(dish).draft("01_t000").labels


def test_what_was_mended_in_the_tracks_of_a_movie_is_told(dish: Path) -> None:
    (dish / "01_GT" / "TRA" / "man_track.txt").write_text("1 0 9 0\n2 2 3 8\n4 0 2 0\n")
    space = Workspace(dish)
    Movies(space).movie("01").save()
    assert space.notes and all("man_track.txt: mended: " in note for note in space.notes)
    assert any("in the masks without a track" in note for note in space.notes)


def test_tracks_that_have_changed_in_the_movie_since_are_told(dish: Path) -> None:
    movie_of(dish).save()
    space = Workspace(dish)
    Movies(space).movie("01").save()
    assert space.notes == []
    (dish / "01_GT" / "TRA" / "man_track.txt").write_text(TRACKS.replace(" 1\n", " 0\n"))
    space = Workspace(dish)
    movie = Movies(space).movie("01")
    movie.save()
    (note,) = space.notes
    assert "have changed since they were taken" in note and f"move {movie.folder} away" in note
    shutil.rmtree(movie.folder)
    movie_of(dish).save()
    assert written(space.path)[0] == "1 0 1 0\n2 2 3 0\n3 2 3 0\n4 0 3 0\n"


def test_the_tracks_that_were_taken_last_are_shown(dish: Path) -> None:
    (given,) = read_sequences(dish)
    movie = movie_of(dish)
    for number in (7, 5):
        movie.take(given, number)
        movie.save()
        assert movie.number == number == movie_of(dish).number


@pytest.mark.parametrize(
    "file", ["0000/places.json", "0000/source.json", "0000/mask000 copy.tif", "written.json", "shown.json"]
)
@pytest.mark.parametrize("content", [None, b"x", b'{"number": [1], "lines": 0}'])
def test_strange_files_of_a_movie_are_made_anew_or_left(file: str, content: bytes | None, dish: Path) -> None:
    movie = movie_of(dish)
    movie.save()
    places = movie.places().read_text()
    path = movie.folder / file
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    movie = movie_of(dish)
    movie.correct(correction((4, 2), tool="before"), movie.revision)
    movie.save()
    assert "5 2 3 0" in written(dish.with_name("dish-studio"))[0]
    assert movie.places().read_text() == places


def test_a_mask_that_a_movie_has_lost_is_named(dish: Path) -> None:
    movie = movie_of(dish)
    movie.save()
    (movie.version / "mask001.tif").unlink()
    with pytest.raises(UserError, match="has no mask of frame 1 any more; restore it, or move"):
        movie_of(dish)


def test_lines_of_the_journal_that_are_no_corrections_are_put_aside_and_told(dish: Path) -> None:
    movie = movie_of(dish)
    movie.correct(correction((2, 2), tool="before"), movie.revision)
    movie.correct(correction((4, 2), tool="before"), movie.revision)
    movie.save()
    lines = movie.version / "corrections.jsonl"
    first, second = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(first + b"{nonsense}\n" + second)
    space = Workspace(dish)
    again = Movies(space).movie("01")
    assert again.corrections == 1 and again.tracks[4].end == 3
    assert "2 lines could not be read; look at the tracks" in space.notes[-1] and lines.read_bytes() == first
    again.save()
    assert "4 0 3 0" in written(space.path)[0]


def test_corrections_after_a_line_that_a_power_cut_left_unfinished_are_kept(dish: Path) -> None:
    movie = movie_of(dish)
    movie.correct(correction((2, 2), tool="before"), movie.revision)
    lines = movie.version / "corrections.jsonl"
    lines.write_bytes(lines.read_bytes() + b'{"tool": "joi')
    again = movie_of(dish)
    again.correct(correction((4, 2), tool="before"), again.revision)
    last = movie_of(dish)
    assert last.corrections == 2 and last.notes == []
    for one in (movie, again, last):
        one._soon.stop()


def test_corrections_over_http(dish: Path, opened: Callable[[Path], Opened]) -> None:
    client = opened(dish).client
    assert client.get("/api/state").json()["movies"] == [{"name": "01", "frames": 4, "revision": None}]
    movie = client.get("/api/movies/01").json()
    assert [frame["image"] for frame in movie["frames"]] == [f"01_t{k:03d}" for k in range(4)]
    assert client.get(f"/api/images/{movie['frames'][0]['image']}").status_code == 200
    assert [row[:4] for row in movie["tracks"]][1] == [2, 2, 3, 1] and movie["tracks"][0][4].startswith("#")
    assert len(client.get("/api/movies/01/outlines/2").json()) == 3
    assert client.get("/api/movies/01/places").json()["3"]["4"] == [56.0, 16.0]

    def correct(**wanted: Any) -> httpx.Response:
        return client.post("/api/movies/01/corrections", json={"revision": movie["revision"], **wanted})

    refused = correct(tool="join", cells=[[1, 0], [4, 2]])
    assert refused.status_code == 400 and "frames lie between" in refused.json()["error"]
    done = correct(tool="join", cells=[[1, 0], [4, 2]], gap=True).json()
    assert [row[:4] for row in done["tracks"]] == [
        [1, 0, 0, 0],
        [2, 2, 3, 5],
        [3, 2, 3, 5],
        [4, 0, 1, 0],
        [5, 1, 1, 0],
        [6, 2, 3, 1],
    ]
    assert done["renamed"] == {"1": {"1": 5}, "2": {"4": 6}, "3": {"4": 6}} and done["undo"] and not done["redo"]
    assert correct(tool="undo").status_code == 409  # on tracks that it has not seen
    packed = zipfile.ZipFile(io.BytesIO(client.get("/api/movies/01/tracks.zip").content))
    assert packed.read("01_RES/res_track.txt").decode().splitlines()[-1] == "6 2 3 1"
    assert client.get("/api/state").json()["movies"][0]["revision"] == done["revision"]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"tool": "join"},
        {"tool": "join", "cells": [[1, 0]]},
        {"tool": "join", "cells": [[1, "0"], [4, 1]]},
        {"tool": "join", "cells": [[1, 0, 0], [4, 1]]},
        {"tool": "join", "cells": 3},
        {"tool": "nothing", "cells": [[1, 0]]},
        {"tool": "undo"},
        {"tool": "redo"},
        {"tool": ["join"], "cells": [[1, 0], [4, 1]]},
    ],
)
def test_what_is_no_correction_is_refused_and_not_kept(wanted: dict[str, Any], dish: Path) -> None:
    movie = movie_of(dish)
    with pytest.raises(ValueError, match=r"\w"):
        movie.correct(wanted, movie.revision)
    assert not (movie.version / "corrections.jsonl").exists()


@pytest.mark.parametrize("path", ["02", "01/outlines/9", "02/places", "..%2f01", "02/tracks.zip"])
def test_what_is_no_movie_is_not_there(path: str, dish: Path, opened: Callable[[Path], Opened]) -> None:
    assert opened(dish).client.get(f"/api/movies/{path}").status_code == 404


def test_images_are_no_movie(tmp_path: Path, opened: Callable[[Path], Opened]) -> None:
    write_image(tmp_path / "cells" / "t000.tif", np.zeros((1, 9, 9), np.uint8))
    running = opened(tmp_path / "cells")
    assert running.client.get("/api/state").json()["movies"] == []
    assert not (running.space.path / "tracked").exists()


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of images that are numbered one after another: the frames of a movie, as PNG."""
    for number, image in enumerate(np.random.default_rng(1).integers(0, 255, (4, 1, 20, 30), np.uint8)):
        write_image(tmp_path / "flat" / f"dish_{number + 3}.png", image)
    return tmp_path / "flat"


def test_numbered_images_are_opened_as_a_movie_and_go_on_as_one(
    frames: Path, opened: Callable[[Path], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = opened(frames)
    client, tracked = running.client, running.space.path / "tracked"
    state = client.get("/api/state").json()
    assert state["frames"] == 4 and state["movies"] == [] and not tracked.exists()
    assert client.post("/api/movies", json={}).json() == [{"name": "01", "frames": 4, "revision": None}]
    state = client.get("/api/state").json()
    assert state["frames"] == 0 and state["movies"][0]["frames"] == 4
    assert "not of one size and numbered" in client.post("/api/movies", json={}).json()["error"]
    images = [frame["image"] for frame in client.get("/api/movies/01").json()["frames"]]
    assert images == ["dish_3", "dish_4", "dish_5", "dish_6"]
    for number, name in enumerate(images):
        assert np.array_equal(
            read_image(tracked / "01" / f"t{number:03d}.tif"), read_image(running.space.picture(name).path)
        )
        labels = np.zeros((20, 30), np.int32)
        labels[5:12, 3 + number : 11 + number] = 1
        write_labels(frames.parent / "m.tif", labels)
        assert running.space.propose(name, frames.parent / "m.tif", replace=False)
    asked = {"kind": "track", "movie": "01", "tracker": "overlap", "cells": "drawn"}
    job = wait(client, client.post("/api/jobs", json=asked).json()["number"])
    assert job["message"].startswith("4 cells, 1 track, 0 divisions in 4 frames.")
    write_image(frames / "dish_7.png", np.zeros((1, 20, 30), np.uint8))  # the movie goes on
    longer = Movies(Workspace(frames))
    assert len(longer.movie("01").frames) == 4 and longer.offered() == [*images, "dish_7"]
    longer.open_images()
    assert list(longer.movie("01").frames) == [0, 1, 2, 3, 4] and longer.picture("01", 4) == "dish_7"
    assert [row.end for row in longer.movie("01").tracks.values()] == [3] and longer.offered() == []


@pytest.mark.parametrize(
    ("names", "are"),
    [
        (["t000", "t001", "t002"], True),
        (["a 9 of 3", "a 10 of 3"], False),  # the last number is that of a frame
        (["f9", "f10", "f11"], True),
        (["f9", "f11"], False),
        (["f1x", "f2y"], False),
        (["f1"], False),
        (["a", "b"], False),
        ([], False),
    ],
)
def test_names_of_frames(names: list[str], are: bool) -> None:
    assert in_sequence(names) == are


def test_images_of_several_sizes_are_no_frames(frames: Path) -> None:
    write_image(frames / "dish_7.png", np.zeros((1, 9, 9), np.uint8))
    assert Movies(Workspace(frames)).offered() == []


def test_frames_that_were_renamed_are_there_once(dish: Path) -> None:
    movie_of(dish).save()
    for frame in sorted((dish / "01").iterdir()):
        frame.rename(frame.with_name(frame.name.replace("t0", "t00")))
    again = Workspace(dish)
    assert again.names() == ["01_t000", "01_t001", "01_t002", "01_t003"]
    assert "4 images had another name before (01_t0000, which was 01_t000; " in again.notes[-1]


def test_the_size_of_cells_is_given_to_the_base_model_alone(dish: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Tasks(Workspace(dish))
    monkeypatch.setattr(tasks.queue, "add", lambda kind, command, asked: command(dish.parent / "job"))
    assert tasks.track("01", "overlap", "base", 24)[-4:] == ["--segment", "base", "--diameter", "24"]
    assert tasks.track("01", "overlap", "base")[-2:] == ["--segment", "base"]
    assert "--diameter" not in tasks.track("01", "overlap", None, 24)


def test_drawn_cells_are_followed_and_their_tracks_corrected_and_exported(
    dish: Path, opened: Callable[[Path], Opened], tmp_path: Path
) -> None:
    shutil.move(dish / "01_GT" / "TRA", dish / "01_GT" / "SEG")
    for mask in list((dish / "01_GT" / "SEG").glob("*.tif")):
        mask.rename(mask.with_name(mask.name.replace("man_track", "man_seg")))
    (dish / "01_GT" / "SEG" / "man_track.txt").unlink()
    running = opened(dish)
    client = running.client
    movie = client.get("/api/movies/01").json()
    assert movie["tracks"] == [] and movie["tracked"] is None and movie["drawn"]
    assert client.get("/api/movies/01/places").status_code == 404
    told = client.post("/api/jobs", json={"kind": "track", "movie": "01", "tracker": "none", "cells": "drawn"})
    assert told.status_code == 422 and "take one of base, overlap" in told.json()["error"]
    asked = {"kind": "track", "movie": "01", "tracker": "overlap", "cells": "drawn"}
    job = wait(client, client.post("/api/jobs", json=asked).json()["number"])
    assert job["state"] == "done" and job["message"].startswith("10 cells, 4 tracks, 1 division in 4 frames.")
    movie = client.get("/api/movies/01").json()
    rows = [row[:4] for row in movie["tracks"]]
    assert rows == [[1, 0, 1, 0], [2, 0, 3, 0], [3, 2, 3, 1], [4, 2, 3, 1]]
    wanted = {"tool": "before", "cells": [[3, 2]], "revision": movie["revision"]}
    assert client.post("/api/movies/01/corrections", json=wanted).status_code == 200
    client.get("/api/movies/01/tracks.zip")
    corrected = running.space.path / "tracked"
    assert cli.main(["export", str(corrected), "--format", "ctc", "--out", str(tmp_path / "out")]) == 0
    (sequence,) = read_sequences(tmp_path / "out")
    tracks = read_tracks(next(iter(sequence.tracks.values())))
    assert [tuple(track) for track in tracks] == [(1, 0, 3, 0), (2, 0, 3, 0), (3, 2, 3, 0)]
    seen = {number: np.setdiff1d(labels, [0]) for number, labels in sequence.tracked()}
    assert inconsistencies(tracks, seen) == []


def test_cells_that_are_not_in_every_frame_are_named(dish: Path, opened: Callable[[Path], Opened]) -> None:
    shutil.rmtree(dish / "01_GT")
    client = opened(dish).client
    assert not client.get("/api/movies/01").json()["drawn"]
    asked = {"kind": "track", "movie": "01", "tracker": "overlap", "cells": "drawn"}
    told = client.post("/api/jobs", json=asked)
    assert told.status_code == 422 and "4 frames of movie 01 (the first is 0) have no cells yet" in told.json()["error"]
