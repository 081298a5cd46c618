"""The queue of a studio: each piece of work is a command in a process of its own, and a folder that says how it goes.

.studio/jobs/0001/job.json holds what is asked for and its state; in/ and out/ are what the command reads and writes,
log.txt and output.txt what it says. One training and one other piece of work run at a time. What was running when the
studio ended goes on when it is opened again, as every command goes on where it stopped.
"""

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from cytoforge.data.files import is_number, make_folder, read_json, write_json
from cytoforge.errors import UserError
from cytoforge.studio.worker import STATUS, ended_with

State = Literal["waiting", "running", "done", "failed", "stopped"]
Kind = Literal[
    "segment",
    "train",
    "suggest",
    "import",
    "check",
    "measure",
    "export",
    "score",
    "train-painter",
    "simulate",
    "paint",
    "track",
]
TRAININGS = ("train", "train-painter")
WORKER = (sys.executable, "-m", "cytoforge.studio.worker")
DAMAGED = ".damaged"  # ending of a job.json that could not be read
MOST = 200  # pieces of work that wait at most
PERCENT = re.compile(r"^[a-z ]+ (\d+)%", re.MULTILINE)  # as `progress.Progress` writes it, for each tenth
TAIL = 4000  # bytes of the end of a log that are read
PATIENCE = 20.0  # s after which a process that was asked to stop is killed


@dataclass(frozen=True)
class Job:
    """A piece of work: its command and how far it is."""

    number: int
    kind: Kind
    command: tuple[str, ...]
    state: State = "waiting"
    asked: dict[str, Any] = field(default_factory=dict)
    """what the page asked for"""
    seconds: float = 0.0
    """that it has run so far, before it was started last"""
    message: str = ""
    """one sentence on how it ended"""


class Queue:
    """The pieces of work of a studio, in the folder `path`. Thread-safe.

    `finish(job, folder)` is called when a command has ended well, and returns a sentence for the user; it may be called
    again after a kill.
    """

    def __init__(self, path: Path, finish: Callable[[Job, Path], str]) -> None:
        self.path = path
        self._finish = finish
        self._changed = threading.Condition()
        self._jobs: dict[int, Job] = {}
        self._started: dict[int, float] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._stopping: set[int] = set()
        self._closed = False
        self.notes: list[str] = []
        """one sentence for each piece of work that could not be read"""
        make_folder(path)
        folders = [folder for folder in sorted(path.iterdir()) if folder.name.isdecimal()]
        self._last = max((int(folder.name) for folder in folders), default=0)
        for folder in folders:
            if (folder / "job.json").exists():
                self._list(folder)
        self._threads = [threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in (True, False)]
        for thread in self._threads:
            thread.start()

    def _list(self, folder: Path) -> None:
        """Take up a piece of work of before; what cannot be read is put aside."""
        file = folder / "job.json"
        try:
            job = _job(int(folder.name), read_json(file))
        except (UserError, ValueError, LookupError, TypeError) as error:
            kept = file.with_name(f"{file.name}{DAMAGED}")
            with contextlib.suppress(OSError):
                file.replace(kept)
            self.notes.append(f"{file}: is damaged and left out ({error}); ask for this work anew")
            return
        self._jobs[job.number] = replace(job, state="waiting") if job.state == "running" else job

    def folder(self, number: int) -> Path:
        """Return the folder of a piece of work."""
        return self.path / f"{number:04d}"

    def add(self, kind: Kind, command: Callable[[Path], list[str]], asked: dict[str, Any]) -> Job:
        """Queue a piece of work; `command` returns the command for its folder, which it may fill first.

        Raises UserError when too much is waiting.
        """
        with self._changed:
            if sum(job.state in ("waiting", "running") for job in self._jobs.values()) >= MOST:
                raise UserError(f"{MOST} pieces of work are waiting already; let them end first")
            number = self._last + 1
            folder = self.folder(number)
            make_folder(folder)
            self._last = number
            job = Job(number, kind, tuple(command(folder)), asked=asked)
            self._set(job)
            return job

    def jobs(self) -> list[dict[str, Any]]:
        """Return all pieces of work, the newest first, with the share done (0 to 1) and the seconds so far."""
        with self._changed:
            return [self._told(job) for _, job in sorted(self._jobs.items(), reverse=True)]

    def get(self, number: int) -> Job:
        """Return a piece of work; raises KeyError."""
        with self._changed:
            return self._jobs[number]

    def stop(self, number: int) -> None:
        """Stop a piece of work, with all saved; it can go on later. Raises KeyError."""
        with self._changed:
            job = self._jobs[number]
            if job.state == "waiting":
                self._set(replace(job, state="stopped"))
            elif job.state == "running":
                self._stopping.add(number)
                self._ask_to_stop(number)

    def go_on(self, number: int) -> None:
        """Let a piece of work that was stopped or has failed go on. Raises KeyError."""
        with self._changed:
            job = self._jobs[number]
            if job.state in ("stopped", "failed"):
                (self.folder(number) / STATUS).unlink(missing_ok=True)
                self._set(replace(job, state="waiting", message=""))

    def close(self) -> None:
        """Stop all processes, with all saved; what was running goes on when the queue is opened again."""
        with self._changed:
            self._closed = True
            for number in self._processes:
                self._ask_to_stop(number)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _ask_to_stop(self, number: int) -> None:
        process = self._processes.get(number)
        if process is not None:
            _close(process)
            threading.Thread(target=_kill_later, args=(process,), daemon=True).start()

    def _set(self, job: Job) -> None:
        with self._changed:
            self._jobs[job.number] = job
            write_json(self.folder(job.number) / "job.json", asdict(job))
            self._changed.notify_all()

    def _run(self, trains: bool) -> None:
        """Run waiting pieces of work one after another: trainings, or all others."""
        while True:
            with self._changed:
                while not self._closed and self._next(trains) is None:
                    self._changed.wait()
                job = self._next(trains)
                if self._closed or job is None:
                    return
            try:
                self._work(job)
            except Exception as error:  # whatever it is, the queue goes on and the user is told
                self._fail(self._jobs[job.number], error)

    def _work(self, job: Job) -> None:
        """Run a piece of work to its end."""
        with self._changed:
            if self._jobs[job.number].state != "waiting":
                return
            self._set(replace(job, state="running"))
            process = self._start(job)
        process.wait()
        _close(process)
        with self._changed:
            self._processes.pop(job.number)
            job = replace(job, seconds=job.seconds + time.monotonic() - self._started.pop(job.number))
            stopped = job.number in self._stopping
            self._stopping.discard(job.number)
            status = ended_with(self.folder(job.number))
            if self._closed and status is None:
                self._set(replace(job, state="waiting"))
                return
        self._set(self._ended(job, process.returncode if status is None else status, stopped))

    def _fail(self, job: Job, error: Exception) -> None:
        """Say that a piece of work has failed, on disk where that is possible."""
        with contextlib.suppress(UserError, OSError):
            self._set(replace(job, state="failed", message=str(error) or type(error).__name__))

    def _next(self, trains: bool) -> Job | None:
        waiting = (job for _, job in sorted(self._jobs.items()) if job.state == "waiting")
        return next((job for job in waiting if (job.kind in TRAININGS) == trains), None)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        folder = self.folder(job.number)
        with (folder / "log.txt").open("ab") as log, (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [*WORKER, str(folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=log,
            )
        self._processes[job.number] = process
        self._started[job.number] = time.monotonic()
        return process

    def _ended(self, job: Job, status: int, stopped: bool) -> Job:
        """Return a piece of work as it is after its process has ended."""
        if status == 0 or (status == 1 and job.kind == "check"):
            try:
                return replace(job, state="done", message=self._finish(job, self.folder(job.number)))
            except Exception as error:  # whatever it is, the queue goes on and the user is told
                return replace(job, state="failed", message=str(error) or type(error).__name__)
        if stopped:
            return replace(job, state="stopped", message="Stopped; everything so far is kept.")
        lines = [line for line in self._log(job).splitlines() if line.startswith("cytoforge: ")]
        why = lines[-1].removeprefix("cytoforge: ") if lines else f"it ended unexpectedly (status {status})"
        return replace(job, state="failed", message=why)

    def _told(self, job: Job) -> dict[str, Any]:
        running = self._started.get(job.number)
        seconds = job.seconds + (time.monotonic() - running if running else 0.0)
        found = PERCENT.findall(self._log(job))
        share = min(int(found[-1]) / 100, 1.0) if found else 0.0
        if job.state == "done":
            share = 1.0
        elif job.kind in TRAININGS and job.asked.get("minutes"):  # between two tenths by the clock
            share = min(max(share, seconds / (60 * float(job.asked["minutes"]))), share + 0.1, 0.99)
        told = {key: value for key, value in asdict(job).items() if key != "command"}
        return {**told, "seconds": round(seconds, 1), "share": share}

    def _log(self, job: Job) -> str:
        path = self.folder(job.number) / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL, 0))
            return file.read().decode("utf-8", "replace")


def _job(number: int, stored: dict[str, Any]) -> Job:
    """Return the piece of work that a job.json holds; raises ValueError, LookupError or TypeError if none."""
    command, asked, seconds, message = (stored[key] for key in ("command", "asked", "seconds", "message"))
    if stored["kind"] not in get_args(Kind) or stored["state"] not in get_args(State):
        raise ValueError("it is of no known kind or state")
    if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
        raise ValueError("its command is none")
    if not isinstance(asked, dict) or not is_number(asked.get("minutes", 0)):
        raise ValueError("it does not say what was asked for")
    if not is_number(seconds) or not isinstance(message, str):
        raise ValueError("it does not say how far it is")
    return Job(number, stored["kind"], tuple(command), stored["state"], asked, seconds, message)


def _close(process: subprocess.Popen[bytes]) -> None:
    """End the standard input of a process, which asks it to stop."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()


def _kill_later(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that does not stop by itself."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
