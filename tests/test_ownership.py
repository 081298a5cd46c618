"""Only what a command wrote, and nobody changed since, is ever replaced or removed."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.cli import main
from cytoforge.commands.demo import open_folder
from cytoforge.commands.segment import segment
from cytoforge.commands.study import open_folder as open_study
from cytoforge.commands.train import segmentation_parameters, specified, stage_generator
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_labels, write_image, write_labels
from cytoforge.data.manifest import MANIFEST
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.settings import Demo, Segment, StudyTraining, TrainSegmentation
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measurements import SegmenterScores
from cytoforge.training.tasks.staged import open_stages
from test_segment import CELLS, Toy, images, run, toy, write_run  # noqa: F401

pytestmark = pytest.mark.usefixtures("short_trainings")

MINE = b"mine, and nobody else's"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / MANIFEST).read_text().splitlines()]


def files(path: Path) -> dict[str, bytes]:
    """The content of all files but the manifests."""
    found = (file for file in path.rglob("*") if file.is_file() and file.name != MANIFEST)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


def put(path: Path, *names: str) -> dict[str, bytes]:
    """Let the user write files into a folder."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(MINE)
    return dict.fromkeys(names, MINE)


def replace(path: Path) -> None:
    folder = OutputFolder(path)
    folder.clear(folder.survey())


# the list


def test_a_write_is_listed_with_size_and_checksum(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out", "paint")
    assert not folder.known
    folder.write("masks/a.png", b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of abc, FIPS 180
    assert lines(tmp_path / "out") == [
        {"manifest": "cytoforge", "format": 1},
        {"name": "masks/a.png", "by": "paint"},
        {"name": "masks/a.png", "size": 3, "sha256": digest, "by": "paint"},
    ]
    again = OutputFolder(tmp_path / "out", "paint")
    assert again.known and again.owns("masks/a.png") and again.lists("masks/a.png")
    other = OutputFolder(tmp_path / "out", "draw")
    assert not other.known and not other.owns("masks/a.png")
    with pytest.raises(UserError, match=r"masks/a.png: is there already, and this command did not write it; move it"):
        other.write("masks/a.png", b"drawn")


def test_the_list_is_kept_short(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    for number in range(40):
        folder.write("metrics.csv", bytes([number]))
    folder.write("once", b"x")
    assert len(lines(tmp_path)) > 40
    again = OutputFolder(tmp_path)
    assert again.owns("metrics.csv") and again.owns("once")
    again.write("metrics.csv", b"more")  # the first write shortens the list
    assert [line.get("name") for line in lines(tmp_path)][:3] == [None, "metrics.csv", "once"]
    assert len(lines(tmp_path)) < 6


@pytest.mark.parametrize("cut", [False, True])
def test_who_reads_a_list_while_another_writes_it_leaves_it_alone(tmp_path: Path, cut: bool) -> None:
    writer = OutputFolder(tmp_path, "train")
    for number in range(40):  # so many lines of one name that the next writer would shorten the list
        writer.write("state", b"%d" % number)
    if cut:
        with (tmp_path / MANIFEST).open("ab") as stream:  # a line of which the rest is yet to come
            stream.write(b'{"name": "state", "size": 2')
    before = (tmp_path / MANIFEST).read_bytes()
    reader = OutputFolder(tmp_path, "train")
    assert reader.known and reader.owns("state") and reader.intact("state")
    assert (tmp_path / MANIFEST).read_bytes() == before
    writer.write("state", b"new")
    assert writer.intact("state") and OutputFolder(tmp_path, "train").intact("state")
    OutputFolder(tmp_path, "train").write("more", b"1")
    assert len(lines(tmp_path)) < 10 and OutputFolder(tmp_path, "train").intact("state")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"image": "a.png", "label": 3}\n', "is not a list that cytoforge wrote"),
        (b"", "is not a list that cytoforge wrote"),
        (b'{"manifest": "cytoforge", "format": 2}\n', "is of another version of cytoforge"),
    ],
)
def test_a_manifest_of_the_users_is_left_alone(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        OutputFolder(tmp_path).write("a", b"x")
    assert (tmp_path / MANIFEST).read_bytes() == content and not (tmp_path / "a").exists()


def test_lines_that_cannot_be_relied_on_own_nothing(tmp_path: Path) -> None:
    (tmp_path / "beside").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    out = tmp_path / "out"
    put(out, "b", "c")
    OutputFolder(out).write("a", b"a")
    with (out / MANIFEST).open("a") as file:
        for name in ("../beside", str(tmp_path / "beside")):
            file.write(json.dumps({"name": name, "size": 3, "sha256": digest, "by": "cytoforge"}) + "\n")
        file.write('["b"]\n{"name": "b", "size": "23", "sha256": 5, "by": "cytoforge"}\n{"name": "c", "si')  # cut off
    replace(out)
    assert files(tmp_path) == {"beside": b"abc", "out/b": MINE, "out/c": MINE}
    OutputFolder(out).write("a", b"again")
    assert OutputFolder(out).owns("a")


# what may be written


def test_nothing_of_the_users_is_written_over(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    mine = put(tmp_path, "a", "masks/.b.part")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    for name in ("a", "masks/b", "link", "dangling", "folder"):
        with pytest.raises(UserError, match=r"is there already, and this command did not write it; move it away"):
            folder.write(name, b"ours")
    assert files(tmp_path) == {**mine, "link": MINE}
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_comes_while_another_is_made_is_not_written_over(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)

    def film() -> None:
        with folder.writing("film.mp4") as file:
            file.write_bytes(b"ours")
            put(tmp_path, "film.mp4")

    with pytest.raises(UserError, match=r"film.mp4: is there already"):
        film()
    assert files(tmp_path) == {"film.mp4": MINE}


def test_a_changed_or_protected_file_is_not_written_over(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    for name in ("same size", "link", "protected", "gone"):
        folder.write(name, b"ours")
    (tmp_path / "same size").write_bytes(b"mine")
    (tmp_path / "link").rename(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "protected").chmod(0o444)
    (tmp_path / "gone").unlink()
    for name in ("same size", "link"):
        with pytest.raises(UserError, match=f"{name}: has been changed since this command wrote it; move it away"):
            folder.write(name, b"anew")
    with pytest.raises(UserError, match="protected: is write-protected"):
        folder.write("protected", b"anew")
    folder.write("gone", b"anew")
    with pytest.raises(UserError, match="same size: has been changed"):
        folder.remove("same size")
    folder.remove("gone")
    put(tmp_path, "gone")  # the name is free again
    with pytest.raises(UserError, match="gone: is there already"):
        folder.write("gone", b"ours")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    folder.write("a", b"first")

    def fail() -> None:
        with folder.writing("a") as file:
            file.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert files(tmp_path) == {"a": b"first"} and folder.owns("a")


# replacing


def test_what_is_unchanged_goes_and_the_rest_is_kept_and_told(tmp_path: Path, capsys: Any) -> None:
    folder = OutputFolder(tmp_path)
    for name in ("a", "masks/b", "deep/er/c"):
        folder.write(name, b"ours")
    mine = put(tmp_path, "notes/n", "masks/mine.tif", ".hidden", "deep/.c.part")
    (tmp_path / "empty").mkdir()
    replace(tmp_path)
    assert files(tmp_path) == mine
    assert (tmp_path / "empty").is_dir() and not (tmp_path / "deep" / "er").exists()
    assert capsys.readouterr().err == (
        f"{tmp_path}: kept 4 files that this command did not write: .hidden, deep/.c.part, masks/mine.tif ...\n"
    )
    assert OutputFolder(tmp_path).known  # so that a kill before the first new file costs nothing


def test_a_file_corrected_by_hand_stops_it_before_anything_goes(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    for name in ("a", "b", "c"):
        folder.write(name, b"ours")
    (tmp_path / "c").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"c: has been changed since this command wrote it; move it away, or choose"):
        replace(tmp_path)
    (tmp_path / "b").chmod(0o444)
    with pytest.raises(UserError, match=r"b: is write-protected, .* \(and 1 file more likewise\)"):
        replace(tmp_path)
    assert files(tmp_path) == {"a": b"ours", "b": b"ours", "c": b"mine"}


def test_a_folder_that_may_not_be_written_to_stops_it_before_anything_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = OutputFolder(tmp_path)
    folder.write("a", b"ours")
    folder.write("masks/b", b"ours")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "masks")
    with pytest.raises(UserError, match=r"masks: may not be written to; change its permissions"):
        replace(tmp_path)
    assert set(files(tmp_path)) == {"a", "masks/b"}


def test_links_are_not_followed(tmp_path: Path) -> None:
    out, disk = tmp_path / "out", tmp_path / "disk"
    mine = put(disk, "precious.png")
    out.mkdir()
    (out / "samples").symlink_to(disk)
    folder = OutputFolder(out)
    folder.write("a", b"ours")
    with pytest.raises(UserError, match=r"out/samples: is a link to another folder, where nothing is written; remove"):
        folder.write("samples/step-1.png", b"ours")
    replace(out)
    assert files(disk) == mine
    assert sorted(entry.name for entry in out.iterdir()) == [MANIFEST, "samples"]
    # OUT may itself be a link
    (tmp_path / "link").symlink_to(out)
    OutputFolder(tmp_path / "link").write("b", b"ours")
    replace(tmp_path / "link")
    assert not (out / "b").exists() and files(disk) == mine


def test_folders_of_other_commands_go_only_where_they_were_ordered(tmp_path: Path, capsys: Any) -> None:
    study = OutputFolder(tmp_path, "study")
    for name in ("runs/one", "runs/two"):
        OutputFolder(study.inside(name), "train").write("weights/w", b"ours")
    OutputFolder(tmp_path / "runs" / "own", "train").write("weights/w", b"trained by the user, with a list of its own")
    OutputFolder(tmp_path, "segment").write("masks/a.png", b"of another command in the same folder")
    mine = put(tmp_path, "runs/two/notes.txt")
    found = study.survey()
    assert found.own == ("runs/one/weights/w", f"runs/one/{MANIFEST}", "runs/two/weights/w")
    study.clear(found)
    kept = {*mine, "runs/own/weights/w", "masks/a.png"}
    assert set(files(tmp_path)) == kept and not (tmp_path / "runs" / "one").exists()
    assert OutputFolder(tmp_path, "segment").owns("masks/a.png")
    assert "kept 4 files" in capsys.readouterr().err  # the list of the user's own run is one of them
    OutputFolder(study.inside("runs/two"), "train").write("weights/w", b"anew")
    (tmp_path / "runs" / "two" / "weights" / "w").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"runs/two/weights/w: has been changed since"):
        study.clear(study.survey())


def test_a_folder_that_is_done_with_goes_but_for_the_users_files(tmp_path: Path, capsys: Any) -> None:
    folder = OutputFolder(tmp_path, "track")
    part = OutputFolder(folder.inside("segmentation/01"), "segment")
    for name in ("masks/a", "masks/b"):
        part.write(name, b"ours")
    (tmp_path / "segmentation/01/masks/b").write_bytes(b"corrected")
    mine = put(tmp_path, "segmentation/mine.tif", "other/masks/a")
    folder.discard("other")  # was never ordered
    folder.discard("segmentation/01")
    assert files(tmp_path) == {**mine, "segmentation/01/masks/b": b"corrected"}
    assert "kept 1 file that this command did not write: masks/b" in capsys.readouterr().err


def test_results_without_a_list_are_not_replaced(tmp_path: Path) -> None:
    put(tmp_path, "masks/a.png")
    with pytest.raises(
        UserError, match=r"without a list of the files that were written \(manifest.jsonl\), as earlier"
    ):
        OutputFolder(tmp_path).require()


# random histories

NAMES = ("a", "b/c", "b/d", "e/f/g.tif", ".hidden")
CONTENTS = st.binary(max_size=3)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["write", "edit", "remove"]), st.sampled_from(NAMES), CONTENTS),
    st.tuples(st.sampled_from(["replace", "reopen", "die"]), st.just(""), st.just(b"")),
)


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=25))
def test_no_byte_of_the_users_is_ever_lost(steps: list[tuple[str, str, bytes]]) -> None:
    """The user's contents begin with u, the command's with o: they are told apart by nothing else here."""
    mine: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        folder = OutputFolder(out)
        for step, name, content in steps:
            if step == "edit":
                with contextlib.suppress(OSError):  # a file is where a folder would have to be
                    (out / name).parent.mkdir(parents=True, exist_ok=True)
                    (out / name).write_bytes(b"u" + content)
                    mine[name] = b"u" + content
            elif step == "reopen":
                folder = OutputFolder(out)
            else:
                with contextlib.suppress(UserError):
                    if step == "write":
                        folder.write(name, b"o" + content)
                        assert (out / name).read_bytes() == b"o" + content
                    elif step == "remove":
                        folder.remove(name)
                    elif step == "die" and (out / MANIFEST).exists():
                        with (out / MANIFEST).open("ab") as file:
                            file.write(b'{"name": "a", "si')
                    elif step == "replace":
                        replace(out)
                        assert {name: (out / name).read_bytes() for name in mine} == files(out)
            for file, wanted in mine.items():
                assert (out / file).read_bytes() == wanted


# kills


class Killed(BaseException):
    """The process is gone: nothing that it would do after this has an effect."""


@contextlib.contextmanager
def killed_at(last: int) -> Iterator[list[str]]:
    """Let the process die before its step number `last` on the disk, or in the middle of it if it writes a file."""
    done: list[str] = []
    steps = ("write_bytes", "replace", "unlink", "rmdir", "open")
    originals = {name: getattr(Path, name) for name in steps}

    def dying(name: str) -> Callable[..., Any]:
        def step(self: Path, *given: Any, **told: Any) -> Any:
            if name == "open" and given[:1] != ("ab",):
                return originals[name](self, *given, **told)
            if len(done) >= last:
                if name == "write_bytes" and len(done) == last:
                    originals[name](self, given[0][: len(given[0]) // 2])
                done.append("dead")
                raise Killed
            done.append(f"{name} {self.name}")
            return originals[name](self, *given, **told)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in steps:
            patch.setattr(Path, name, dying(name))
        yield done


def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing_unexplained(tmp_path: Path) -> None:
    def work(out: Path) -> None:
        folder = OutputFolder(out)
        folder.write("a", b"first")
        folder.write("a", b"second, longer")
        folder.write("masks/b", b"ours")
        folder.remove("masks/b")
        folder.write("masks/c", b"ours")
        replace(out)
        OutputFolder(out).write("a", b"third")

    for last in range(100):
        out = tmp_path / str(last)
        mine = put(out, "notes/n", "masks/mine.tif")
        with killed_at(last) as done, contextlib.suppress(Killed):
            work(out)
        assert files(out).items() >= mine.items()
        found = OutputFolder(out).survey()
        assert not found.changed
        assert set(found.kept) - {f".{MANIFEST}.part"} == mine.keys()
        work(out)  # it goes on, whatever is there
        assert files(out) == {**mine, "a": b"third"}
        replace(out)
        assert files(out) == mine
        if "dead" not in done:
            break
    assert 20 < last < 99


# the commands


@pytest.fixture
def tracked(tiny_movie: Path) -> Path:
    """The tracked sequence 01 of the tiny movie, with masks of its own."""
    for folder in ("02", "02_ST", "01_ST"):
        shutil.rmtree(tiny_movie / folder)
    return tiny_movie


@pytest.fixture
def commands(tracked: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Command lines without --out, and as a last word a file that they write."""
    stack, masks = tmp_path / "stack.tif", tmp_path / "labels.tif"
    import tifffile

    frames = np.random.default_rng(0).integers(0, 200, (5, 48, 56)).astype(np.uint8)
    tifffile.imwrite(stack, frames, metadata={"axes": "TYX"}, photometric="minisblack")
    labels = [read_labels(tracked / "01_GT" / "TRA" / f"man_track{t:03d}.tif").astype(np.uint16) for t in range(5)]
    tifffile.imwrite(masks, np.stack(labels), metadata={"axes": "TYX"}, photometric="minisblack")
    assert main(["export", str(tracked), "--format", "napari", "--out", str(tmp_path / "tracks.csv")]) == 0
    return {
        "track": ["track", "overlap", str(tracked), "01_RES/mask001.tif"],
        "import movie": ["import", "movie", str(stack), "--masks", str(masks), "01/t001.tif"],
        "import tracks": [
            "import",
            "tracks",
            str(tmp_path / "tracks.csv"),
            "--masks",
            str(tracked),
            "01_RES/mask001.tif",
        ],
        "export": ["export", str(tracked), "--format", "ctc", "01_GT/TRA/man_track001.tif"],
        "simulate masks": ["simulate", "masks", "--count", "2", "--size", "64x64", "masks/simulated0001.png"],
        "simulate movie": ["simulate", "movie", "--frames", "2", "--size", "64x64", "01_GT/TRA/man_track001.tif"],
    }


COMMANDS = ["track", "import movie", "import tracks", "export", "simulate masks", "simulate movie"]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_user_put_into_results_outlives_overwrite(
    name: str, commands: dict[str, list[str]], tmp_path: Path, capsys: Any
) -> None:
    *line, written = commands[name]
    out, disk = tmp_path / "out", tmp_path / "disk"
    line += ["--out", str(out)]
    assert main(line) == 0
    mine = put(
        out,
        "notes/n",
        "segmentation/hand-corrected.tif",
        "01_ST/SEG/man_seg000.tif",
        "07/t000.tif",
        "07_GT/TRA/man_track000.tif",
        "09.mp4",
        "masks/mine.tif",
        "images/simulated0000.png",
        ".DS_Store",
        "dataset (copy).json",
    )
    put(disk, "precious.png")
    (out / "links").symlink_to(disk)
    capsys.readouterr()
    assert main([*line, "--overwrite"]) == 0
    assert "kept 11 files that this command did not write: " in capsys.readouterr().err
    assert files(out).items() >= mine.items() and files(disk) == {"precious.png": MINE}
    assert (out / written).is_file() and (out / "links").is_symlink()
    # a result corrected by hand: nothing at all is replaced
    before = files(out)
    (out / written).write_bytes(MINE)
    assert main([*line, "--overwrite"]) == 2
    assert f"{out / written}: has been changed since this command wrote it" in capsys.readouterr().err
    assert files(out) == {**before, written: MINE}
    # the remedy works
    (out / written).rename(tmp_path / "away")
    assert main([*line, "--overwrite"]) == 0
    # a page or a record that was edited
    (out / "dataset.json").write_text((out / "dataset.json").read_text().replace("{", '{"licence": "mine",', 1))
    assert main([*line, "--overwrite"]) == 2
    assert "dataset.json: has been changed" in capsys.readouterr().err
    assert '"licence": "mine"' in (out / "dataset.json").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_files_of_the_users_in_the_way_are_told_before_the_work(
    name: str, commands: dict[str, list[str]], tmp_path: Path, capsys: Any
) -> None:
    """The names are those that the command writes, or would be read as such."""
    *line, written = commands[name]
    out = tmp_path / "out"
    line += ["--out", str(out)]
    assert main(line) == 0
    mine = Path(written)
    taken = mine.with_suffix(".tif") if mine.suffix == ".png" else mine.with_name(mine.name.replace("001", "099"))
    put(out, taken.as_posix())
    before = files(out)
    capsys.readouterr()
    assert main([*line, "--overwrite"]) == 2
    assert f"{out / taken}: is there already, and this command did not write it" in capsys.readouterr().err
    assert files(out) == before
    (out / taken).rename(tmp_path / "away")
    assert main([*line, "--overwrite"]) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_results_of_earlier_versions_are_not_replaced(
    name: str, commands: dict[str, list[str]], tmp_path: Path, capsys: Any
) -> None:
    *line, _ = commands[name]
    out = tmp_path / "out"
    line += ["--out", str(out)]
    assert main(line) == 0
    (out / MANIFEST).unlink()
    info = json.loads((out / "dataset.json").read_text())
    for complete in (True, False):  # finished, and to be gone on with
        (out / "dataset.json").write_text(json.dumps({**info, "complete": complete}))
        before = files(out)
        for flags in (["--overwrite"], []):
            capsys.readouterr()
            assert main([*line, *flags]) == 2
            if flags or not complete:
                assert "without a list of the files that were written" in capsys.readouterr().err
            assert files(out) == before


def test_a_graph_of_the_users_is_not_replaced(tracked: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "cells.geff"
    line = ["export", str(tracked), "--format", "geff", "--out", str(out)]
    assert main(line) == 0
    assert main([*line, "--overwrite"]) == 0
    assert len(lines(out)) == len(files(out)) + 1
    put(out, "nodes/props/mine")
    assert main([*line, "--overwrite"]) == 2
    assert "holds nodes/props/mine, which export did not write; choose another name" in capsys.readouterr().err
    (out / "nodes" / "props" / "mine").unlink()
    put(out, next(name for name in ("nodes/ids/0", "nodes/ids/c/0") if (out / name).exists()))
    assert main([*line, "--overwrite"]) == 2
    (out / MANIFEST).unlink()
    assert main([*line, "--overwrite"]) == 2
    assert "without a list" in capsys.readouterr().err


# runs, studies, the demo

CONFIG = {"command": "train segmentation", "networks": {}}


def test_the_users_files_in_a_run_outlive_overwrite(tmp_path: Path, capsys: Any) -> None:
    import torch

    path, disk = tmp_path / "run", tmp_path / "disk"
    run = Run.create(path, CONFIG)  # noqa: F811
    run.save_weights("segmenter", {"a": torch.zeros(2)})
    run.save_state({"a": torch.zeros(2)}, {})
    run.append_metrics({"step": 1})
    run.save_sample(1, np.zeros((4, 4, 3), np.uint8))
    mine = put(path, "weights/mine.txt", "samples/mine.png")
    Run.create(path, CONFIG, overwrite=True)
    assert files(path).keys() == {*mine, "config.json", "provenance.json"}
    assert "kept 2 files that this command did not write: samples/mine.png, weights/mine.txt" in capsys.readouterr().err
    shutil.rmtree(path / "samples")
    put(disk, "precious.png")
    (path / "samples").symlink_to(disk)
    with pytest.raises(UserError, match=r"run/samples: is a link to another folder, where nothing is written"):
        Run.create(path, CONFIG, overwrite=True).save_sample(1, np.zeros((4, 4, 3), np.uint8))
    assert files(disk).keys() == {"precious.png"}
    # in the way of what a training writes: told before it begins
    for name in ("samples/step-000002.png", "weights/segmenter.safetensors", "report.html"):
        put(path, name)
        with pytest.raises(UserError, match=f"{name}: is there already"):
            Run.create(path, CONFIG, overwrite=True)
        (path / name).unlink()
    (path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json: has been changed"):
        Run.create(path, CONFIG, overwrite=True)


def test_a_kill_in_replacing_a_run_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "run"
    Run.create(path, CONFIG)
    mine = put(path, "samples/mine.png")
    for last in range(30):
        with killed_at(last) as done, contextlib.suppress(Killed):
            Run.create(path, CONFIG, overwrite=True)
        Run.create(path, CONFIG, overwrite=True)
        assert files(path).items() >= mine.items()
        if "dead" not in done:
            break
    assert 5 < last < 29


def test_a_run_of_an_earlier_version_is_not_replaced_nor_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "run"
    Run.create(path, CONFIG)
    (path / MANIFEST).unlink()
    before = files(path)
    for overwrite in (True, False):
        with pytest.raises(UserError, match="without a list of the files that were written"):
            Run.start(path, CONFIG, overwrite=overwrite)
    assert files(path) == before


def test_stages_that_the_user_added_to_outlive_overwrite(tmp_path: Path) -> None:
    config = TrainSegmentation(data=tmp_path, out=tmp_path / "run", method="two-stage", scale=1.0)
    parameters = (segmentation_parameters(config), stage_generator(config))
    open_stages(specified(config), parameters)
    OutputFolder(Run.stage(config.out, "masks")).write("masks/a.png", b"ours")
    Run.create(config.out, CONFIG)
    mine = put(config.out, "stages/notes.txt", "stages/masks/masks/mine.png")
    again = TrainSegmentation(data=tmp_path, out=tmp_path / "run", method="two-stage", scale=1.0, overwrite=True)
    open_stages(specified(again), parameters)
    assert files(config.out).keys() == {*mine, "stages/settings.json"}
    open_stages(specified(config), parameters)  # and goes on
    Run.create(config.out, CONFIG)
    Run.create(config.out, CONFIG, overwrite=True)  # another training leaves the stages
    assert files(config.out).keys() == {*mine, "stages/settings.json", "config.json", "provenance.json"}


def test_what_the_user_put_into_a_study_outlives_overwrite(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"

    def opened(**flags: Any) -> StudyFolder:
        return open_study("training", StudyTraining(data=(tiny_dataset,), out=out, **flags))

    study = opened()
    study.once("unet-0", SegmenterScores, lambda: SegmenterScores(steps=1, images={}))
    OutputFolder(study.place("runs", "unet-0"), "train").write("config.json", b"ours")
    mine = put(out, "runs/own/config.json", "runs/unet-0/notes.txt", "pictures/mine.png")
    opened(overwrite=True)
    assert files(out).keys() == {*mine, "study.json"}
    put(out, "report.html")
    for flags in ({}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"report.html: is there already"):
            opened(**flags)
    (out / "report.html").unlink()
    (out / MANIFEST).unlink()
    with pytest.raises(UserError, match="without a list"):
        opened(overwrite=True)
    assert files(out).keys() == {*mine, "study.json"}


def test_what_the_user_put_into_a_demo_outlives_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    folder = open_folder(Demo(out=out))
    OutputFolder(folder.inside("runs/1"), "train").write("config.json", b"ours")
    mine = put(out, "runs/1/notes.txt", "data/mine/images/a.png", "thesis.txt")
    open_folder(Demo(out=out, overwrite=True))
    assert files(out).keys() == {*mine, "demo.json"}
    (out / "demo.json").write_text("{}")
    with pytest.raises(UserError, match=r"demo.json: has been changed"):
        open_folder(Demo(out=out, overwrite=True))


# segment


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name",
    ["a.tif", "a.tiff", "a.TIF", "a.png", "a.ome.tif", "a.npy", "a.json", "a.zarr/zarr.json", "a/x", "c.png"],
)
def test_annotations_of_any_ending_are_never_replaced(
    name: str,
    overwrite: bool,
    toy: Toy,  # noqa: F811
    run: Path,  # noqa: F811
    images: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    mine = put(out, f"masks/{name}")
    with pytest.raises(UserError, match=r"masks/(a|c)\S*: exists already; give another --out, as segment replaces no"):
        segment(Segment(run, images, out, threads=1, overwrite=overwrite))
    assert toy.calls == 0 and files(out) == mine
    segment(Segment(run, images, tmp_path / "other", threads=1, overwrite=overwrite))  # the remedy


def test_a_mask_corrected_by_hand_is_an_annotation(
    toy: Toy,  # noqa: F811
    run: Path,  # noqa: F811
    images: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    config = Segment(run, images, out, threads=1)
    segment(config)
    write_labels(out / "masks" / "a.png", CELLS[::-1])
    corrected, calls = (out / "masks" / "a.png").read_bytes(), toy.calls
    segment(config)  # it is kept
    for network in (run, write_run(tmp_path / "another")):
        with pytest.raises(
            UserError, match=r"a.png: has been changed since segment wrote it, and is not replaced; giv"
        ):
            segment(Segment(network, images, out, threads=1, overwrite=True))
    write_image(images / "a.png", np.zeros((1, 90, 75), np.uint8))
    with pytest.raises(UserError, match=r"a.png: has been changed since segment wrote it"):
        segment(Segment(run, images, out, threads=1, overwrite=True))
    assert (out / "masks" / "a.png").read_bytes() == corrected and toy.calls == calls
    assert (out / "masks" / "b.png").exists()


def test_masks_of_some_images_of_a_dataset_forbid_results_among_them(
    toy: Toy,  # noqa: F811
    run: Path,  # noqa: F811
    tiny_dataset: Path,
) -> None:
    for number in range(1, 6):
        (tiny_dataset / "masks" / f"cell_{number}.png").unlink()
    before = files(tiny_dataset)
    for data in (tiny_dataset / "images", tiny_dataset, tiny_dataset / "images" / "cell_3.png"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=r"cell_0.png: (exists already|is the annotation of .*); give another"):
                segment(Segment(run, data, tiny_dataset, threads=1, overwrite=overwrite))
    assert files(tiny_dataset) == before and toy.calls == 0


def test_masks_of_another_command_are_no_results(toy: Toy, run: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "simulated"
    assert main(["simulate", "masks", "--out", str(out), "--count", "1", "--size", "64x64"]) == 0
    write_image(tmp_path / "images" / "simulated0000.png", np.eye(64, dtype=np.uint8)[None])
    before = files(out)
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"simulated0000.png: exists already"):
            segment(Segment(run, tmp_path / "images", out, threads=1, overwrite=overwrite))
    assert files(out) == before


def test_a_folder_of_images_can_be_its_own_out(
    toy: Toy,  # noqa: F811
    run: Path,  # noqa: F811
    images: Path,  # noqa: F811
) -> None:
    before = files(images)
    config = Segment(run, images, images, threads=1, views=1)
    segment(config)
    assert toy.calls == 3
    segment(config)
    assert toy.calls == 3  # it goes on, with nothing to do
    write_image(images / "d.png", (np.random.default_rng(0).random((1, 60, 60)) * 200).astype(np.uint8))
    segment(config)
    assert toy.calls == 4
    segment(Segment(run, images, images, threads=1, views=1, overwrite=True))
    assert toy.calls == 8
    assert files(images).items() >= before.items()
    # to other commands: a dataset whose images lie directly in it
    assert [item.name for item in Dataset.open(images).pairs().items] == ["a", "b", "c", "d"]
    assert len(Dataset.open(images, holds="masks").masks().items) == 4


def test_the_users_files_beside_masks_outlive_overwrite(
    toy: Toy,  # noqa: F811
    run: Path,  # noqa: F811
    images: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    segment(Segment(run, images, out, threads=1, views=1))
    mine = put(out, "notes.txt", "masks/drawn.tif", "masks/old/a.png", ".unfinished/notes", "images/z.png")
    segment(Segment(write_run(tmp_path / "other"), images, out, threads=1, views=1, overwrite=True))
    assert files(out).items() >= mine.items() and toy.calls == 6
    (out / MANIFEST).unlink()
    before = files(out)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="without a list of the files that were written"):
            segment(Segment(run, images, out, threads=1, views=1, overwrite=overwrite))
    assert files(out) == before
