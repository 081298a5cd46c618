"""Two processes on one output folder: the second is turned away with a sentence, and nothing is left of it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cytoforge.cli import main
from cytoforge.data.lock import held
from cytoforge.data.ownership import OutputFolder
from cytoforge.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such locks")
HOLD = """
import sys
from pathlib import Path
from cytoforge.data.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold a folder until the block ends, or it is killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes) as process:
        process.stdout.readline()
        yield process


def test_one_process_may_hold_a_folder_twice_and_others_not_at_all(tmp_path: Path) -> None:
    with held(tmp_path):
        with held(tmp_path):
            pass
        with held_by_another(tmp_path) as other:
            said = other.stderr.read()
        assert said.splitlines()[-1].endswith(
            f"{tmp_path}: another process writes into it; wait until that has ended, or choose another folder"
        )
        with (
            held_by_another(tmp_path / "other"),
            pytest.raises(UserError, match="other: another process"),
            held(tmp_path / "other"),
        ):
            pass


def test_the_system_releases_what_a_killed_process_held(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as other:
        with pytest.raises(UserError, match="another process writes into it; wait"), held(tmp_path):
            pass
        other.kill()
        other.wait()
        with held(tmp_path):
            pass


def test_a_folder_is_made_and_is_gone_where_nothing_was_written(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b").exists()
    with held(tmp_path / "c"):
        (tmp_path / "c" / "file").touch()
    assert (tmp_path / "c" / "file").exists()
    with held(tmp_path / "c" / "file"):  # what is no folder is refused by the command
        pass
    assert (tmp_path / "c" / "file").exists()


def moved(out: Path, away: Path, again: bool) -> None:
    with held(out):
        out.rename(away)
        if again:  # what is written later makes a folder of the same name
            out.mkdir()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_is_moved_away_is_missed_at_the_end(again: bool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out: was moved or removed while it was written to; put it back, and repeat"):
        moved(tmp_path / "out", tmp_path / "away", again)


def test_nothing_is_written_once_a_folder_was_moved_away(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    with contextlib.suppress(UserError), held(tmp_path / "out"):
        folder.write("a", b"a")
        (tmp_path / "out").rename(tmp_path / "away")
        with pytest.raises(UserError, match=r"out: was moved or removed while it was written to; put it back"):
            folder.write("b", b"b")
    assert not (tmp_path / "out").exists() and (tmp_path / "away" / "a").exists()
    (tmp_path / "away").rename(tmp_path / "out")
    with held(tmp_path / "out"):
        folder.write("b", b"b")


def test_commands_hold_their_folders(tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    lines = [f"import movie {tiny_dataset}/images", f"export {tiny_dataset} --format roi"]
    lines += [f"train segmentation {tiny_dataset} --method two-stage --steps 1 --start scratch"]
    with held_by_another(out):
        for line in lines:
            assert main([*line.split(), "--out", str(out)]) == 2
            assert f"{out}: another process writes into it" in capsys.readouterr().err
    assert not out.exists()
