"""The studio's server: what it keeps, whom it answers, what it refuses, and that no edit is lost."""

import errno
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import picture, squares
from cytoforge.commands import studio as commands
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import encode_image, encode_labels, read_image, read_labels, write_image, write_labels
from cytoforge.data.judgement import Judgement, Measured
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.settings import Studio
from cytoforge.studio import answers, drafts, journal, pictures, results, server, tasks, workspace
from cytoforge.studio.drafts import Draft, edited
from cytoforge.studio.guard import hosts_of, token_of
from cytoforge.studio.journal import Outdated
from cytoforge.studio.pictures import Channel, Pyramid, label_tile
from cytoforge.studio.workspace import Workspace, safe_name, studio_of
from studio_server import TOKEN, Opened, wait


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A dataset of three images, of which the first has a mask."""
    folder = tmp_path / "cells"
    for number in range(3):
        write_image(folder / "images" / f"a{number}.tif", picture(squares(), number))
    write_labels(folder / "masks" / "a0.tif", squares())
    return folder


def brush(client: httpx.Client, name: str, revision: int, *points: list[float]) -> Any:
    wanted = {"tool": "brush", "points": list(points), "radius": 2, "revision": revision}
    return client.post(f"/api/images/{name}/edits", json=wanted)


# the folder


def test_work_is_kept_beside_the_folder_in_a_dataset(cells: Path) -> None:
    before = {file: file.read_bytes() for file in cells.rglob("*") if file.is_file()}
    space = Workspace(cells)
    assert space.path == cells.parent / "cells-studio"
    assert [space.status(name) for name in space.names()] == ["done", "empty", "empty"]
    space.draft("a0").edit({"tool": "delete", "points": [[5, 5]]}, space.draft("a0").revision)
    space.save()
    assert {file: file.read_bytes() for file in cells.rglob("*") if file.is_file()} == before
    pairs = Dataset.open(space.path).pairs()
    assert [item.name for item in pairs.items] == ["a0"] and not pairs.left_out
    assert np.unique(read_labels(pairs.items[0].mask or cells)).size == np.unique(squares()).size - 1
    assert studio_of(space.path) == space.path
    assert Workspace(space.path).names() == ["a0", "a1", "a2"]


def test_new_images_of_the_folder_are_added_when_it_is_opened_again(cells: Path) -> None:
    space = Workspace(cells)
    space.mark("a1", done=True)
    write_image(cells / "images" / "a10.tif", picture(squares(), 10))
    write_labels(cells / "masks" / "a1.tif", squares())
    again = Workspace(cells)
    assert again.names() == ["a0", "a1", "a2", "a10"]
    assert read_labels(again.path / "masks" / "a1.tif").max() == 0  # what somebody has said is right stays


@pytest.mark.parametrize("kind", ["image", "folder", "nothing"])
def test_an_image_a_folder_of_images_and_nothing_yet_can_be_opened(kind: str, cells: Path, tmp_path: Path) -> None:
    source = {"image": cells / "images" / "a1.tif", "folder": cells / "images", "nothing": tmp_path / "new"}[kind]
    space = Workspace(source)
    assert space.names() == {"image": ["a1"], "folder": ["a0", "a1", "a2"], "nothing": []}[kind]
    assert (space.path == source) is (kind == "nothing")


def test_masks_that_do_not_number_cells_are_drafts(cells: Path) -> None:
    write_labels(cells / "masks" / "a0.tif", 255 * (squares() > 0))
    write_labels(cells / "masks" / "a1.tif", squares((32, 32)))
    space = Workspace(cells)
    assert space.status("a0") == "draft" and space.done() == []
    assert any("drafts to correct" in note for note in space.notes)
    assert any("is 32 x 32 pixels" in note for note in space.notes)


def test_annotations_of_another_program_are_named_and_brought_in(
    cells: Path, tmp_path: Path, opened: Callable[[Path], Opened]
) -> None:
    foreign = tmp_path / "foreign"
    write_image(foreign / "b.tif", picture(squares()))
    square = [[10, 10], [30, 10], [30, 30], [10, 30]]
    shape = {"label": "cell", "points": square, "shape_type": "polygon"}
    told = {"version": "5.0", "flags": {}, "shapes": [shape], "imagePath": "b.tif", "imageHeight": 64, "imageWidth": 64}
    (foreign / "b.json").write_text(json.dumps(told))
    client, space, *_ = opened(foreign)
    state = client.get("/api/state").json()
    assert state["images"] == [] and "LabelMe" in state["foreign"]
    assert client.post("/api/jobs", json={"kind": "import"}).status_code == 200
    assert wait(client)["state"] == "done"
    state = client.get("/api/state").json()
    assert [image["status"] for image in state["images"]] == ["done"] and state["foreign"] is None
    assert (read_labels(space.path / "masks" / "b.tif") > 0).sum() == 400


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.b c", "a.b c"),
        ("../../etc/passwd", "etc_passwd"),
        ("C:\\Windows\\x", "C__Windows_x"),
        (".hidden", "hidden"),
        ("a\0b\n<script>", "a_b_script"),
        ("Zelle ä", "Zelle ä"),
        ("a.ome", "a"),
    ],
)
def test_names_of_files_hold_nothing_but_a_name(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["", "..", "///", "x" * 300])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="rename it"):
        safe_name(name)


# edits


def test_an_edit_is_on_disk_before_it_is_confirmed_and_survives_a_kill(cells: Path) -> None:
    space = Workspace(cells)
    draft = space.draft("a1")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    draft.edit({"tool": "brush", "points": [[50, 30]], "radius": 3}, draft.revision)
    wanted = draft.labels.copy()
    assert wanted.max() == 2
    again = Draft(draft.path, draft.journal, (64, 64))  # nothing was saved in between
    assert np.array_equal(again.labels, wanted)
    assert np.array_equal(read_labels(draft.path), wanted) and not draft.journal.exists()
    draft.save()


def test_a_line_of_the_journal_that_a_kill_cut_off_is_left_out(cells: Path) -> None:
    draft = Workspace(cells).draft("a1")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    wanted = draft.labels.copy()
    draft.edit({"tool": "brush", "points": [[50, 30]], "radius": 3}, draft.revision)
    whole = draft.journal.read_bytes()
    draft.journal.write_bytes(whole[:-20])
    again = Draft(draft.path, draft.journal, (64, 64))
    assert np.array_equal(again.labels, wanted)
    again.edit({"tool": "brush", "points": [[50, 30]], "radius": 3}, again.revision)
    assert np.array_equal(Draft(draft.path, draft.journal, (64, 64)).labels, draft.labels)
    draft.save()
    again.save()


def test_edits_after_one_that_the_disk_had_no_room_for_are_kept(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Workspace(cells).draft("a1")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    before = draft.journal.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fsync", full)
        with pytest.raises(UserError, match="the disk is full"):
            draft.edit({"tool": "brush", "points": [[50, 30]], "radius": 3}, draft.revision)
    assert draft.journal.read_bytes() == before and draft.cells == 1
    draft.journal.write_bytes(before + b'{"top": 1, "left"')  # as where not even that can be taken back
    draft.edit({"tool": "brush", "points": [[20, 50]], "radius": 3}, draft.revision)
    again = Draft(draft.path, draft.journal, (64, 64))
    assert np.array_equal(again.labels, draft.labels)
    draft.save()


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"top": 0}',
        b'{"top": 0, "left": 0, "shape": [4], "labels": "eJxjZGBgYETCAAA4AAU="}',
        b'{"top": 0.5, "left": 0, "shape": [1, 1], "labels": "eJxjZGBgAAAACAAC"}',
        b'{"top": 0, "left": 64, "shape": [1, 1], "labels": "eJxjZGBgAAAACAAC"}',
        b'{"top": 0, "left": 0, "shape": [1, 1], "labels": "eJz7////fwAJ+gP9"}',
        b'{"top": 0, "left": 0, "shape": [1, 1], "labels": "eJz7"}',
    ],
)
def test_lines_of_a_journal_that_are_no_edits_are_put_aside_and_told(line: bytes, cells: Path) -> None:
    space = Workspace(cells)
    draft = space.draft("a1")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    damaged = line + b"\n" + draft.journal.read_bytes()
    draft.journal.write_bytes(damaged)
    again = Workspace(space.path)
    assert np.array_equal(again.draft("a1").labels, draft.labels)
    assert (space.drafts / "a1.journal.damaged").read_bytes() == damaged and not draft.journal.exists()
    assert ["1 line could not be read" in note for note in again.notes] == [True]
    draft.save()


def test_a_folder_in_the_place_of_a_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.journal").mkdir()
    with pytest.raises(UserError, match=r"a\.journal: is a folder, no file; move it elsewhere"):
        Draft(tmp_path / "a.tif", tmp_path / "a.journal", (9, 9))


def test_edits_are_written_to_the_mask_file_a_moment_later(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WAIT", 0.01)
    draft = Workspace(cells).draft("a1")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    timer = draft._soon.timer
    assert timer is not None
    timer.join()
    assert np.array_equal(read_labels(draft.path), draft.labels) and not draft.journal.exists()


def test_edits_are_taken_back_and_repeated(cells: Path) -> None:
    draft = Workspace(cells).draft("a0")
    first = draft.labels.copy()
    draft.edit({"tool": "delete", "points": [[5, 5]]}, draft.revision)
    second = draft.labels.copy()
    draft.undo(draft.revision)
    assert np.array_equal(draft.labels, first) and draft.undoable == (False, True)
    draft.redo(draft.revision)
    assert np.array_equal(draft.labels, second) and draft.undoable == (True, False)
    assert draft.cells == np.count_nonzero(np.unique(draft.labels)) == np.unique(first).size - 2
    assert draft.redo(draft.revision) is None
    draft.save()
    assert np.array_equal(Draft(draft.path, draft.journal, (64, 64)).labels, second)


def test_the_oldest_edits_are_forgotten_first(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "KEPT", 1000)
    draft = Workspace(cells).draft("a1")
    for x in (10, 30, 50):
        draft.edit({"tool": "brush", "points": [[x, 30]], "radius": 4}, draft.revision)
    while draft.undo(draft.revision):
        pass
    assert np.unique(draft.labels).tolist() == [0, 1, 2]
    draft.save()


def test_two_pages_do_not_overwrite_each_other(cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, space, *_ = opened(cells)
    seen = client.get("/api/images/a1").json()["revision"]
    first = brush(client, "a1", seen, [20, 20])
    assert first.status_code == 200 and first.json()["cells"] == 1
    late = brush(client, "a1", seen, [50, 50])
    assert late.status_code == 409 and "changed since" in late.json()["error"]
    assert brush(client, "a1", first.json()["revision"], [50, 50]).json()["cells"] == 2
    client, *_ = opened(space.path)  # as after a restart
    assert brush(client, "a1", seen, [20, 20]).status_code == 409


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"tool": "brush", "points": []},
        {"tool": "brush", "points": [[1, 2, 3]]},
        {"tool": "brush", "points": [[1, float("inf")]]},
        {"tool": "brush", "points": [["a", "b"]]},
        {"tool": "brush", "points": [[1, 1]], "radius": 1e9},
        {"tool": "brush", "points": [[1, 1]], "radius": "x"},
        {"tool": "brush", "points": [[0, 0]] * 20_001},
        {"tool": "rm -rf", "points": [[1, 1]]},
        {"tool": {}, "points": [[1, 1]]},
        {"tool": "brush", "points": [[1, {}]]},
        {"tool": "brush", "points": [[1, 10**400]]},
    ],
)
def test_what_is_no_edit_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        edited(np.zeros((9, 9), np.int32), wanted)


def test_strokes_outside_of_the_image_change_nothing() -> None:
    for tool in ("brush", "eraser", "outline", "split", "merge", "delete", "fill"):
        assert edited(np.zeros((9, 9), np.int32), {"tool": tool, "points": [[-50, -50], [-40, -40]]}) is None


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", squares())
    with pytest.raises(UserError, match="64 x 64 pixels, its image 9 x 9"):
        Draft(tmp_path / "a.tif", tmp_path / "journal", (9, 9))


def test_a_stale_draft_raises_before_anything_changes(cells: Path) -> None:
    draft = Workspace(cells).draft("a0")
    for change in (draft.undo, draft.redo):
        with pytest.raises(Outdated):
            change(draft.revision - 1)


def test_a_mask_that_was_put_away_takes_no_edits(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "OPEN", 1)
    space = Workspace(cells)
    first = space.draft("a1")
    first.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, first.revision)
    space.draft("a2")
    with pytest.raises(Outdated):
        first.edit({"tool": "brush", "points": [[50, 30]], "radius": 3}, first.revision)
    assert np.array_equal(space.draft("a1").labels, first.labels) and space.draft("a1") is not first


def test_a_png_mask_whose_numbers_grow_too_large_becomes_a_tiff(cells: Path) -> None:
    mask = cells / "masks" / "a0.png"
    (cells / "masks" / "a0.tif").unlink()
    write_labels(mask, np.where(squares() == 1, 2**16 - 1, squares()))
    space = Workspace(cells)
    draft = space.draft("a0")
    wanted = draft.edit({"tool": "outline", "points": [[61, 61], [64, 61], [64, 64], [61, 64]]}, draft.revision)
    assert wanted is not None
    space.save()
    assert [file.name for file in (space.path / "masks").iterdir()] == ["a0.tif"]
    (space.path / "masks" / "a0.png").write_bytes(mask.read_bytes())  # as after a kill between the two
    again = Workspace(space.path).draft("a0")
    assert again.labels.max() == 2**16 and np.array_equal(again.labels, draft.labels)


# what is right is trained on


def test_a_finished_mask_is_trained_on_and_can_be_taken_back(cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, space, *_ = opened(cells)
    revision = client.get("/api/images/a1").json()["revision"]
    brush(client, "a1", revision, [20, 20])
    assert space.done() == ["a0"]
    assert client.post("/api/images/a1/mark", json={"done": True}).json()["status"] == "done"
    assert read_labels(space.path / "masks" / "a1.tif").max() == 1
    assert client.post("/api/images/a1/mark", json={"done": False}).json()["status"] == "draft"
    assert space.done() == ["a0"] and not (space.path / "masks" / "a1.tif").exists()
    names = zipfile.ZipFile(io.BytesIO(client.get("/api/masks.zip").content)).namelist()
    assert names == ["masks/a0.tif"]


def test_found_cells_are_a_proposal_that_spares_what_was_drawn(cells: Path) -> None:
    space = Workspace(cells)
    found = cells.parent / "found.tif"
    write_labels(found, squares(side=8))
    assert not space.propose("a0", found, replace=True)  # finished
    assert space.propose("a1", found, replace=False)
    draft = space.draft("a1")
    assert np.array_equal(draft.labels, squares(side=8)) and space.status("a1") == "draft"
    write_labels(found, squares(side=10))
    assert not space.propose("a1", found, replace=False)
    assert space.propose("a1", found, replace=True)
    draft.undo(draft.revision)
    assert np.array_equal(draft.labels, squares(side=8))
    space.save()


def test_finding_cells_in_all_images_leaves_open_masks_and_their_history_alone(
    cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "OPEN", 2)
    space = Workspace(cells)
    found = cells.parent / "found.tif"
    write_labels(found, squares(side=8))
    for number in range(3, 6):
        space.add(cells / "images" / "a1.tif", f"a{number}")
    draft = space.draft("a1")
    draft.edit({"tool": "brush", "points": [[20, 30]], "radius": 3}, draft.revision)
    before = draft.revision
    names = space.names()
    assert [space.propose(name, found, replace=False) for name in names] == [False, False, True, True, True, True]
    assert space.draft("a1") is draft and draft.revision == before and draft.undoable == (True, False)
    counts = [16, 1, *[squares(side=8).max()] * 4]
    assert [space.known(name)[0] for name in names] == counts
    for name in names:
        space.draft(name)
    assert [space.known(name)[0] for name in names] == counts


def test_masks_that_are_as_a_model_found_them_are_told_beside_the_verdict(
    cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Workspace(cells)
    found = cells.parent / "found.tif"
    write_labels(found, squares(side=8))
    for name in ("a1", "a2"):
        space.propose(name, found, replace=False)
        space.mark(name, done=True)
    assert space.as_found(["a0", "a1", "a2"]) == 2
    assert tasks._repeated(2, 3).startswith(" The cells of 2 of 3 finished images are as a model found them; ")
    draft = space.draft("a1")
    draft.edit({"tool": "delete", "points": [[5, 5]]}, draft.revision)
    assert space.as_found(["a0", "a1", "a2"]) == 1 and tasks._repeated(1, 3) == ""
    space.mark("a1", done=False)
    work = tasks.Tasks(space)
    monkeypatch.setattr(work.queue, "_start", None)  # nothing is trained here
    try:
        assert work.train(1, "base").asked["as_found"] == 1
    finally:
        work.queue.close()


def test_what_a_training_came_to_is_told_with_reasons_and_remedies_but_no_flags(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"command": "train segmentation"})
    run.record(verdict="Converged (0.071)")
    assert results.told_of_training(run) == "Converged (0.071)"
    judgement = Judgement(
        verdict="poor",
        measure="F at IoU 0.5",
        over="3 images",
        score=Measured(value=0.09),
        reasons=["it finds none of 12 cells"],
        remedies=["train longer (--minutes)", "look whether the masks are right and complete (cytoforge check)"],
    )
    run.record(judgement=judgement.to_json())
    assert results.told_of_training(run) == (
        "F at IoU 0.5 is 0.09 on validation (3 images). Why: it finds none of 12 cells. What to do: train longer; look "
        "whether the masks are right and complete."
    )


def test_masks_that_cytoforge_found_before_count_as_found(cells: Path) -> None:
    (cells / "segment.json").write_text(json.dumps({"command": "segment"}))
    space = Workspace(cells)
    space.mark("a0", done=True)
    assert space.as_found(["a0"]) == 1


# whom it answers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil"])
def test_only_its_own_address_is_answered(host: str, cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, *_ = opened(cells)
    assert client.get("/api/state", headers={"host": host}).status_code == 421


def test_only_those_who_know_the_printed_address_are_answered(cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, _, _, name = opened(cells)
    client.cookies.clear()
    for path in ("/", "/api/state", "/page/studio.js", "/?token=wrong", "/api/state?token=secret"):
        assert client.get(path).status_code == 403
    answer = client.get("/?token=secret", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    client.cookies.set(name, TOKEN)
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"cookie": f"x=[; {name}"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": origin} for origin in ("http://evil.example", "http://[bad", "null", "")] + [{"x-cytoforge": ""}],
)
def test_only_its_own_page_changes_anything(
    headers: dict[str, str], cells: Path, opened: Callable[[Path], Opened]
) -> None:
    client, space, *_ = opened(cells)
    answer = client.post("/api/images/a1/mark", json={"done": True}, headers=headers)
    assert answer.status_code == 403 and space.status("a1") == "empty"


def test_the_page_may_load_nothing_from_elsewhere(cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, *_ = opened(cells)
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Path(server.PAGE)
    assert (page / "studio.js").is_file() and (page / "studio.css").is_file()
    assert "http" not in answer.text and "//" not in answer.text.replace("<!", "")


def test_the_secret_is_the_same_after_a_restart_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = token_of(path)
    assert token_of(path) == token and len(token) > 30
    assert path.stat().st_mode & 0o077 == 0


def test_hosts_of_addresses() -> None:
    assert hosts_of("127.0.0.1", 8765) == {"127.0.0.1:8765", "localhost:8765", "[::1]:8765"}
    assert hosts_of("10.0.0.7", 9) == {"10.0.0.7:9"}
    assert "[fe80::1]:9" in hosts_of("fe80::1", 9)


# what it refuses


@pytest.mark.parametrize(
    "path",
    [
        "/api/images/..%2f..%2fetc%2fpasswd",
        "/api/images/nothing",
        "/api/images/a0/tiles/9/0/0",
        "/api/images/a0/tiles/0/7/0",
        "/api/images/a0/secrets/0/0/0",
        "/api/images/nothing/tiles/0/0/0",
        "/api/runs/..",
        "/api/runs/.studio",
        "/api/runs/run-1/samples/..%2fconfig.json",
        "/api/jobs/77",
        "/page/..%2f..%2fguard.py",
        "/page/%2e%2e/guard.py",
    ],
)
def test_nothing_outside_of_what_is_shown_can_be_read(path: str, cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, *_ = opened(cells)
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("channels", ["0:0:255:mauve", "x", "0:a:b:grey", "0:0"])
def test_channels_that_make_no_sense_are_refused(channels: str, cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, *_ = opened(cells)
    assert client.get("/api/images/a0/tiles/0/0/0", params={"channels": channels}).status_code == 400


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"kind": "rm"}, 400),
        ({"kind": "segment", "images": "a1"}, 400),
        ({"kind": "segment", "images": ["nothing"]}, 404),
        ({"kind": "segment", "images": ["a0"]}, 422),
        ({"kind": "segment", "images": ["a1"], "model": "../../run"}, 422),
        ({"kind": "segment", "images": ["a1"], "diameter": "30; rm"}, 400),
        ({"kind": "segment", "images": ["a1"], "diameter": 10**400}, 400),
        ({"kind": "train", "minutes": 0}, 422),
        ({"kind": "train", "minutes": 1e9}, 422),
        ({"kind": "train"}, 400),
        ({"kind": "import"}, 422),
    ],
)
def test_work_that_makes_no_sense_is_refused(
    wanted: dict[str, Any], status: int, cells: Path, opened: Callable[[Path], Opened]
) -> None:
    client, *_ = opened(cells)
    assert client.post("/api/jobs", json=wanted).status_code == status
    assert client.get("/api/state").json()["jobs"] == []


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_requests_that_are_no_json_objects_are_refused(
    content: bytes, cells: Path, opened: Callable[[Path], Opened]
) -> None:
    client, *_ = opened(cells)
    assert client.post("/api/images/a1/edits", content=content).status_code == 400


def test_requests_are_bounded(cells: Path, opened: Callable[[Path], Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    client, space, *_ = opened(cells)
    assert client.post("/api/images/a1/edits", content=b" " * (answers.LONGEST + 1)).status_code == 413
    monkeypatch.setattr(server, "LARGEST", 1000)
    answer = client.post("/api/images?name=b.tif", content=b"x" * 5000)
    assert answer.status_code == 413 and space.names() == ["a0", "a1", "a2"]
    assert list((space.hidden / "incoming").iterdir()) == []
    monkeypatch.setattr(server, "LARGEST", 10**6)
    monkeypatch.setattr(workspace, "MAX_IMAGES", 3)
    image = encode_image(Path("b.tif"), picture(squares()))
    assert "open another studio" in client.post("/api/images?name=b.tif", content=image).json()["error"]


def test_images_are_brought_in_and_looked_at_first(cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, space, *_ = opened(cells)
    image, mask = encode_image(Path("b.png"), picture(squares())), encode_labels(Path("b.png"), squares())
    assert client.post("/api/images?name=../../b.png", content=image).json() == {"name": "b"}
    assert (space.path / "images" / "b.png").read_bytes() == image
    assert "already" in client.post("/api/images?name=b.png", content=image).json()["error"]
    assert client.post("/api/images?name=c.exe", content=image).status_code == 415
    damaged = client.post("/api/images?name=c.png", content=image[:40])
    assert damaged.status_code == 422 and damaged.json()["error"].startswith("c.png: ")
    assert client.post("/api/images?part=masks&name=b_cp_masks.png", content=mask).json() == {"name": "b"}
    assert space.status("b") == "done"
    assert "kept" in client.post("/api/images?part=masks&name=b.png", content=mask).json()["error"]
    assert "no image of this name" in client.post("/api/images?part=masks&name=z.png", content=mask).json()["error"]


def test_images_of_all_kinds_keep_their_names_and_masks_when_the_studio_is_opened_again(
    cells: Path, opened: Callable[[Path], Opened]
) -> None:
    client, space, *_ = opened(cells)
    array = io.BytesIO()
    np.save(array, picture(squares())[0])
    content = {".tif": encode_image(Path("b.tif"), picture(squares())), ".npy": array.getvalue()}
    for name in ("x.ome.tif", "v.npy"):
        assert client.post(f"/api/images?name={name}", content=content[Path(name).suffix]).status_code == 200
    assert "already" in client.post("/api/images?name=x.tif", content=content[".tif"]).json()["error"]
    assert client.post("/api/images?part=masks&name=v.npy", content=content[".npy"]).json() == {"name": "v"}
    for name in ("x", "v"):
        brush(client, name, client.get(f"/api/images/{name}").json()["revision"], [20, 20])
        client.post(f"/api/images/{name}/mark", json={"done": True})
    again = Workspace(space.path)
    assert again.names() == ["a0", "a1", "a2", "v", "x"] and again.done() == ["a0", "v", "x"] and again.notes == []
    assert np.array_equal(read_image(again.picture("v").path), picture(squares()))
    assert [item.name for item in Dataset.open(space.path).pairs().items] == ["a0", "v", "x"]


def test_images_that_cannot_be_listed_are_told(cells: Path) -> None:
    folder = Workspace(cells).path / "images"
    write_image(folder / "a1.ome.tif", picture(squares()))
    np.save(folder / "v.npy", picture(squares())[0])
    again = Workspace(folder.parent)
    assert again.names() == ["a0", "a1", "a2"] and len(again.notes) == 2
    assert "v.npy" in again.notes[0] and "a1.tif: left out, as a1.ome.tif has the same name" in again.notes[1]


def test_a_file_that_was_cut_off_is_refused(cells: Path, opened: Callable[[Path], Opened]) -> None:
    client, space, *_ = opened(cells)
    noise = np.random.default_rng(0).integers(0, 255, (2000, 300), np.uint8)
    stored = io.BytesIO()
    tifffile.imwrite(stored, noise, rowsperstrip=50, compression="zlib")
    answer = client.post("/api/images?name=c.tif", content=stored.getvalue()[: noise.size // 2])
    assert answer.status_code == 422 and space.names() == ["a0", "a1", "a2"]


# what images state


def stated(folder: Path) -> dict[str, Any]:
    info = json.loads((folder / "dataset.json").read_text())
    return {key: info[key] for key in ("pixel_size", "frame_interval") if key in info}


def imagej(size: float, **metadata: float) -> bytes:
    """A TIFF of ImageJ with pixels of `size` micrometers."""
    content, said = io.BytesIO(), {"unit": "um", **metadata}
    tifffile.imwrite(content, picture(squares())[0], imagej=True, resolution=(1 / size, 1 / size), metadata=said)
    return content.getvalue()


def test_what_dropped_images_state_is_kept_and_used(
    cells: Path, opened: Callable[[Path], Opened], tmp_path: Path
) -> None:
    client, space, *_ = opened(cells)
    assert stated(space.path) == {}
    for name, content in {"b": imagej(0.5, finterval=90), "c": imagej(0.5, finterval=120), "d": imagej(0.25)}.items():
        assert client.post(f"/api/images?name={name}.tif", content=content).status_code == 200
        if name == "b":
            assert stated(space.path) == {"pixel_size": 0.5, "frame_interval": 1.5}
            space.snapshot(tmp_path / "taken", ["a0", "b"])
            assert stated(tmp_path / "taken") == {"pixel_size": 0.5, "frame_interval": 1.5}
    assert stated(space.path) == {"pixel_size": None, "frame_interval": None}
    assert client.get("/api/state").json()["notes"] == [
        "c: states frames 2 minutes apart, other images frames 1.5 minutes apart",
        "d: states pixels of 0.25 micrometers, other images pixels of 0.5 micrometers",
    ]
    assert stated(Workspace(cells).path) == {"pixel_size": None, "frame_interval": None}


def test_what_a_dataset_says_of_its_images_counts_more_than_what_they_state(cells: Path) -> None:
    (cells / "images" / "b.tif").write_bytes(imagej(0.5))
    (cells / "dataset.json").write_text(json.dumps({"pixel_size": 0.65}))
    space = Workspace(cells)
    assert stated(space.path) == {"pixel_size": 0.65} and space.notes == []


def test_images_that_were_renamed_are_there_once_with_their_masks(cells: Path, tmp_path: Path) -> None:
    space = Workspace(cells)
    space.mark("a1", done=True)
    (cells / "images" / "a1.tif").rename(cells / "images" / "b1.tif")
    copied = (cells / "images" / "a2.tif").read_bytes()
    (cells / "images" / "a2.tif").unlink()
    (cells / "images" / "b2.tif").write_bytes(copied)  # as from another disk
    (cells / "images" / "b3.tif").write_bytes(copied)  # a second one of the same is another image
    again = Workspace(cells)
    assert again.names() == ["a0", "a1", "a2", "b3"] and again.done() == ["a0", "a1"]
    assert "2 images had another name before (b1, which was a1; b2, which was a2)" in again.notes[-1]


# pictures


def test_tiles_of_a_large_image_are_its_pixels_and_their_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "HELD", 1000)  # so that it lies on disk
    monkeypatch.setattr(pictures, "ROWS", 64)
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 255, (1, 33, 40)), np.ones((20, 20), int)).astype(np.uint16)[:, :651, :777]
    write_image(tmp_path / "a.tif", image)
    pyramid = Pyramid(tmp_path / "a.tif")
    assert [level.shape[1:] for level in pyramid.levels] == [(326, 389), (651, 777)]
    assert np.array_equal(pyramid.levels[1], image)
    assert pyramid.levels[0][0, 100, 100] == int(image[0, 200:202, 200:202].mean())
    shown = np.asarray(Image.open(io.BytesIO(pyramid.tile(1, 1, 1, [Channel(0, 0, 255, "grey")]))))
    assert shown.shape == (139, 265, 3)
    assert np.abs(shown[::4, ::4, 0].astype(int) - image[0, 512::4, 512::4]).mean() < 4


def test_channels_are_mixed_by_their_colours_and_colour_pictures_shown_as_they_are(tmp_path: Path) -> None:
    image = np.zeros((2, 16, 16), np.uint16)
    image[0, :, :8], image[1, :, 8:] = 1000, 500
    write_image(tmp_path / "a.tif", image)
    shown = [Channel(0, 0, 1000, "red"), Channel(1, 0, 500, "blue")]
    tile = np.asarray(Image.open(io.BytesIO(Pyramid(tmp_path / "a.tif").tile(0, 0, 0, shown))))
    assert np.abs(tile[8, 2].astype(int) - pictures.COLOURS["red"]).max() < 6
    assert np.abs(tile[8, 13].astype(int) - pictures.COLOURS["blue"]).max() < 6
    colour = np.full((3, 16, 16), 0, np.uint8)
    colour[0], colour[1], colour[2] = 200, 100, 30
    write_image(tmp_path / "b.png", colour)
    pyramid = Pyramid(tmp_path / "b.png")
    tile = np.asarray(Image.open(io.BytesIO(pyramid.tile(0, 0, 0, pyramid.defaults()))))
    assert np.abs(tile[8, 8].astype(int) - [200, 100, 30]).max() < 4


def test_outlines_do_not_break_at_the_borders_of_tiles() -> None:
    labels = np.zeros((600, 600), np.int32)
    labels[500:530, 500:530] = 5
    tiles = [
        [np.asarray(Image.open(io.BytesIO(label_tile(labels, 2, 1, x, y, filled=False))))[..., 3] for x in (0, 1)]
        for y in (0, 1)
    ]
    whole = np.block(tiles) > 0
    expected = np.zeros_like(whole)
    expected[500:530, 500:530] = True
    expected[501:529, 501:529] = False
    assert np.array_equal(whole, expected)
    filled = np.asarray(Image.open(io.BytesIO(label_tile(labels, 2, 0, 0, 0, filled=True))))
    assert (filled[..., 3] > 0).sum() == 15 * 15


# the command


@pytest.mark.parametrize("absent", ["starlette", "uvicorn"])
def test_an_extra_that_is_not_installed_is_named(absent: str, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(
        UserError, match=rf'^the studio: needs the package {absent}; run pip install "cytoforge\[studio\]"$'
    ):
        commands.studio(Studio(folder=cells))
    assert not (cells.parent / "cells-studio").exists()


def test_the_next_free_port_is_taken_and_a_host_that_is_none_refused() -> None:
    with commands._listening("127.0.0.1", 0) as one:
        port = one.getsockname()[1]
        with commands._listening("127.0.0.1", port) as other:
            assert port < other.getsockname()[1] < port + commands.ATTEMPTS
    with pytest.raises(UserError, match=r"--host 203\.0\.113\.9|--port 8765"):
        commands._listening("203.0.113.9", 8765)
    with pytest.raises(UserError, match="--host no host: is no address"):
        commands._listening("no host", 8765)
