"""The queue of the studio: work in processes of its own, stopped, gone on with, and taken up again after a restart."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoforge.data.files import locked
from cytoforge.data.images import write_image
from cytoforge.errors import UserError
from cytoforge.studio import queue as queues
from cytoforge.studio.queue import Job, Queue
from cytoforge.studio.worker import ended_with

# Stands for the process of a command: the word it is given says how that goes. It notes each start, ends like a worker.
PRETENDED = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
word = json.loads((folder / "job.json").read_text())["command"][0]
with (folder / "starts").open("a") as starts:
    starts.write("x")
print("segment  10%, 3 s left\\nsegment  40%", file=sys.stderr, flush=True)
if word == "long":
    sys.stdin.buffer.read()
    sys.exit(130)
if word == "wrong":
    print("cytoforge: a.tif: is no image; convert it", file=sys.stderr)
    sys.exit(2)
if word == "crash":
    sys.exit(-9)
(folder / "status").write_text("0")
"""
Opening = Callable[[], Queue]


@pytest.fixture
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    """Open the queue of one folder, again and again; `finished` of the folder lists what has come to a good end."""
    script = tmp_path / "pretended.py"
    script.write_text(PRETENDED)
    monkeypatch.setattr(queues, "WORKER", (sys.executable, str(script)))

    def finish(job: Job, folder: Path) -> str:
        if job.asked.get("fault"):
            raise RuntimeError("out of order")
        return f"{job.kind} {job.number} has ended"

    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Queue(tmp_path / "jobs", finish)))


def add(queue: Queue, word: str, kind: Any = "segment", **asked: Any) -> int:
    return queue.add(kind, lambda folder: [word], asked).number


def until(queue: Queue, number: int, *states: str) -> dict[str, Any]:
    """Wait until a piece of work has one of these states, and return it."""
    while (job := next(j for j in queue.jobs() if j["number"] == number))["state"] not in states:
        time.sleep(0.01)
    return job


def starts(queue: Queue, number: int) -> int:
    path = queue.folder(number) / "starts"
    return len(path.read_text()) if path.exists() else 0


def test_work_is_done_one_after_another_and_says_how_it_ended(opening: Opening) -> None:
    queue = opening()
    first, second = add(queue, "short"), add(queue, "wrong")
    assert until(queue, first, "done", "failed")["message"] == "segment 1 has ended"
    failed = until(queue, second, "done", "failed")
    assert (failed["state"], failed["message"]) == ("failed", "a.tif: is no image; convert it")
    assert [job["number"] for job in queue.jobs()] == [2, 1]
    assert "ended unexpectedly" in until(queue, add(queue, "crash"), "failed")["message"]
    assert until(queue, add(queue, "short", fault=True), "failed")["message"] == "out of order"
    assert until(queue, add(queue, "short"), "done")["share"] == 1.0  # the queue goes on


def test_a_training_does_not_keep_other_work_waiting(opening: Opening) -> None:
    queue = opening()
    training = add(queue, "long", "train", minutes=1e-9)
    while until(queue, training, "running")["share"] != 0.5:  # 40 % are told, and far more time is over
        time.sleep(0.01)
    until(queue, add(queue, "short"), "done")
    waiting = add(queue, "long", "train", minutes=1)
    assert until(queue, training, "running") and until(queue, waiting, "waiting")
    queue.stop(waiting)
    assert until(queue, waiting, "stopped") and starts(queue, waiting) == 0


def test_what_is_stopped_goes_on(opening: Opening) -> None:
    queue = opening()
    number = add(queue, "long")
    until(queue, number, "running")
    while starts(queue, number) < 1:
        time.sleep(0.01)
    while until(queue, number, "running")["share"] != 0.4:
        time.sleep(0.01)
    queue.stop(number)
    assert "everything so far is kept" in until(queue, number, "stopped")["message"]
    queue.go_on(number)
    while starts(queue, number) < 2:
        time.sleep(0.01)
    queue.stop(number)
    until(queue, number, "stopped")


def test_what_was_running_or_waiting_goes_on_after_a_restart(opening: Opening) -> None:
    queue = opening()
    running, waiting = add(queue, "long"), add(queue, "short")
    while starts(queue, running) < 1:
        time.sleep(0.01)
    queue.close()
    stored = [json.loads((queue.folder(n) / "job.json").read_text())["state"] for n in (running, waiting)]
    assert stored == ["waiting", "waiting"]
    again = opening()
    while starts(again, running) < 2:
        time.sleep(0.01)
    again.stop(running)
    until(again, running, "stopped")
    until(again, waiting, "done")
    assert until(opening(), waiting, "done")  # what is done stays done


def test_work_that_ended_when_the_studio_was_killed_is_taken_into_the_folder(opening: Opening) -> None:
    queue = opening()
    number = add(queue, "short")
    until(queue, number, "done")
    queue.close()
    path = queue.folder(number) / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running", "message": ""}))
    assert until(opening(), number, "done")["message"] == "segment 1 has ended"


def test_the_queue_goes_on_after_a_failed_write(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, write = opening(), queues.write_json
    full = {"running", "done"}

    def writes(path: Path, value: dict[str, Any]) -> None:
        if value["state"] in full:
            full.remove(value["state"])
            raise UserError(f"{path}: the disk is full; make room")
        write(path, value)

    monkeypatch.setattr(queues, "write_json", writes)
    for _ in range(2):
        assert "the disk is full" in until(queue, add(queue, "short"), "failed")["message"]
    until(queue, add(queue, "short"), "done")


def test_a_status_that_is_no_number_counts_as_none(opening: Opening) -> None:
    queue = opening()
    numbers = [add(queue, "wrong") for _ in range(2)]
    for number in numbers:
        (queue.folder(number) / "status").write_text("")
    assert until(queue, numbers[1], "failed")["message"] == "a.tif: is no image; convert it"
    assert ended_with(queue.folder(numbers[0])) is None


@pytest.mark.parametrize(
    "change",
    [
        {"command": None},
        {"command": "check"},
        {"kind": "rm"},
        {"state": []},
        {"asked": 1},
        {"asked": {"minutes": "1"}},
        {"seconds": "1"},
        {"message": None},
    ],
)
def test_damaged_work_is_put_aside_and_told(change: dict[str, Any], opening: Opening) -> None:
    queue = opening()
    first, second, third = add(queue, "short"), add(queue, "short"), add(queue, "short")
    until(queue, third, "done")
    queue.close()
    paths = [queue.folder(number) / "job.json" for number in (first, second, third)]
    stored = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps({**stored, **change}))
    paths[1].write_bytes(paths[1].read_bytes()[:20])
    paths[2].write_text(json.dumps({**stored, "number": None, "new": 1}))
    again = opening()
    assert [job["number"] for job in again.jobs()] == [third] and len(again.notes) == 2
    assert paths[0].with_name("job.json.damaged").is_file() and not paths[0].exists()


def test_no_folder_of_damaged_work_is_used_again(opening: Opening) -> None:
    queue = opening()
    until(queue, add(queue, "short"), "done")
    queue.close()
    (queue.folder(1) / "job.json").write_bytes(b"")
    assert add(opening(), "short") == 2


def test_the_queue_is_bounded(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MOST", 2)
    queue = opening()
    numbers = [add(queue, "long"), add(queue, "long")]
    with pytest.raises(UserError, match="waiting already"):
        add(queue, "short")
    for number in reversed(numbers):
        queue.stop(number)
        until(queue, number, "stopped")


def test_what_does_not_stop_is_killed(opening: Opening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(queues, "PATIENCE", 0.01)
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text("import time\nwhile True:\n    time.sleep(1)\n")
    monkeypatch.setattr(queues, "WORKER", (sys.executable, str(stubborn)))
    queue = opening()
    number = add(queue, "x")
    until(queue, number, "running")
    queue.stop(number)
    until(queue, number, "stopped")


# the process itself


def worker(folder: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps({"command": command}))
    program = [sys.executable, "-m", "cytoforge.studio.worker", str(folder)]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def said(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process, whose standard input stays open, and return what it has said."""
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait()
    return text


def test_the_process_runs_the_command_line_and_notes_how_it_ended(tmp_path: Path) -> None:
    with worker(tmp_path / "job", "--version") as process:
        assert re.match(r"\d+\.\d+", said(process)) and process.returncode == 0
    assert (tmp_path / "job" / "status").read_text() == "0"
    with worker(tmp_path / "job", "nonsense") as process:  # it has ended before
        said(process)
        assert process.returncode == 0
    with worker(tmp_path / "other", "check", str(tmp_path / "absent"), stderr=subprocess.DEVNULL) as process:
        said(process)
    assert (tmp_path / "other" / "status").read_text() == "2"


def test_the_studio_closes_with_its_standard_input_and_is_open_once_only(tmp_path: Path) -> None:
    """A studio is itself a command that lasts, so it shows that a command ends when its input does."""
    write_image(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8))
    with worker(tmp_path / "job", "studio", str(tmp_path / "a.tif"), "--no-browser", "--port", "0") as process:
        assert process.stdout is not None and process.stdin is not None
        assert re.search(r"http://127\.0\.0\.1:\d+/\?token=\S{20,}", process.stdout.readline())
        with worker(tmp_path / "second", "studio", str(tmp_path / "a.tif"), stderr=subprocess.STDOUT) as second:
            assert "is open in another studio; close that one first" in said(second)
            assert second.returncode == 2
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.skipif(os.name == "nt", reason="on Windows no lock is held")
def test_a_lock_is_held_by_one_process_only(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
        pass
    with locked(tmp_path / "lock", wait=False):
        pass
