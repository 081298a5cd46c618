"""What people see while work goes on: a bar in a terminal, a line for each tenth elsewhere."""

import io
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from cytoforge.progress import Progress, clock, counted, say


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        """What stands on the screen, line by line, after all returns to the line's begin and erasures."""
        lines = []
        for written in re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue()).split("\n"):
            *_, last = re.split(r"\r(?:\x1b\[2K)?", written)
            lines.append(last)
        return lines


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Clock:
    now = Clock()
    monkeypatch.setattr("cytoforge.progress.time.monotonic", now)
    return now


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """Gives the standard error stream to a terminal of some columns."""

    def give(columns: int) -> Terminal:
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("cytoforge.progress.Progress.unfinished", False)
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr  # type: ignore[return-value]

    return give


def test_a_log_file_gets_a_line_for_each_tenth(watch: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("segment")
    for done in range(1, 1001):
        watch.now += 1
        progress(done / 1000, f"image {done}")
    lines = capsys.readouterr().err.splitlines()
    assert [line[:12] for line in lines] == [f"segment {10 * tenth:3d}%" for tenth in range(1, 11)]
    assert lines[4] == "segment  50%, 8:20 min left  image 500"
    assert lines[-1] == "segment 100%  image 1000"


def test_a_log_file_of_few_items_gets_a_line_for_each(watch: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for count in (1, 3):
        progress = Progress("check")
        for done in range(1, count + 1):
            progress(done / count)
    shares = re.findall(r"(\d+)%", capsys.readouterr().err)
    assert shares == ["100", "67", "100"]


def test_time_that_an_earlier_command_spent_does_not_count(watch: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("training")
    for share in (0.8, 0.85, 0.9):  # 10 s for a tenth
        progress(share)
        watch.now += 5
    assert capsys.readouterr().err == "training  90%, 10 s left\n"


def test_a_terminal_shows_one_line_that_changes(watch: Clock, screen: Callable[[int], Terminal]) -> None:
    terminal, progress = screen(80), Progress("segment")
    for done in range(1, 41):
        watch.now += 1
        progress(done / 40, f"cell{done}.tif")
        if done == 10:
            assert terminal.seen() == ["segment ━━━━━━╺━━━━━━━━━━━━━━━━━  25%, 30 s left  cell10.tif"]
    assert terminal.seen() == [f"segment {'━' * 24} 100%  cell40.tif", ""]
    assert terminal.getvalue().count("\n") == 1


def test_a_terminal_is_not_drawn_on_more_often_than_can_be_seen(
    watch: Clock, screen: Callable[[int], Terminal]
) -> None:
    terminal, progress = screen(80), Progress("segment")
    for done in range(1, 1001):
        watch.now += 0.01
        progress(done / 1000)
    assert 40 <= terminal.getvalue().count("\r") <= 52  # in 10 s, not more than 5 a second


@pytest.mark.parametrize("columns", [20, 40, 79, 80])
def test_a_line_never_wraps(watch: Clock, screen: Callable[[int], Terminal], columns: int) -> None:
    terminal, progress = screen(columns), Progress("features of a/long/folder/of/images [red]")
    progress(0.2, "an image with a name that is longer than any terminal is wide.tif")
    assert all(len(line) < columns for line in terminal.seen())
    assert "feat" in terminal.seen()[0]


def test_names_are_no_markup(watch: Clock, screen: Callable[[int], Terminal]) -> None:
    terminal, progress = screen(100), Progress("[bold]")
    progress(0.2, "[/x].tif")
    assert terminal.seen()[0].startswith("[bold] ") and terminal.seen()[0].endswith("[/x].tif")


def test_the_end_is_told_once(
    watch: Clock, screen: Callable[[int], Terminal], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress("log")
    for share in (0.5, 1.0, 1.0, 1.2):
        progress(share)
    assert capsys.readouterr().err.count("100%") == 1
    terminal, progress = screen(80), Progress("terminal")
    for share in (0.5, 1.0, 1.0, 1.2):
        progress(share)
    assert terminal.getvalue().count("100%") == 1


def test_sentences_begin_a_line_of_their_own(watch: Clock, screen: Callable[[int], Terminal]) -> None:
    terminal, progress = screen(80), Progress("training")
    say(["before"])
    progress(0.5)
    say(["cytoforge: stopped", "all is saved"])
    before, bar, *after = terminal.seen()
    assert before == "before" and bar.startswith("training ━") and after == ["cytoforge: stopped", "all is saved", ""]
    watch.now += 1
    progress(1.0)
    say(["done"])
    *_, bar, done, rest = terminal.seen()
    assert bar.startswith("training ━") and "100%" in bar and (done, rest) == ("done", "")


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TTY_INTERACTIVE", "0")])
def test_a_terminal_that_cannot_overwrite_is_a_log_file(
    watch: Clock,
    screen: Callable[[int], Terminal],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    terminal = screen(80)
    monkeypatch.setenv(name, value)
    Progress("segment")(1.0)
    assert terminal.getvalue() == "segment 100%\n"


def test_a_log_file_has_no_control_characters_though_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    Progress("segment")(1.0, "a.tif")
    assert capsys.readouterr().err == "segment 100%  a.tif\n"


def test_a_log_file_waits_for_no_rich() -> None:
    code = "import sys; from cytoforge.progress import Progress; Progress('x')(1.0); print('rich' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == ("False\n", "x 100%\n")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (45, "45 s"), (200, "3:20 min"), (7500, "2:05 h"), (119.6, "2:00 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_counts_in_words() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
