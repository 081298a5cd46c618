"""The engine: a function mapped over items, here or by the workers of a dask cluster, and parts of the items.

Results come as items are done, and never depend on who does them: an item draws from a seed of its own. This is the
only module that imports dask, which sends the work to its workers by pickle.
"""

import contextlib
import os
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from logging import CRITICAL, ERROR, getLogger
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self, TypeVar

from cytoforge.errors import UserError
from cytoforge.extras import require
from cytoforge.processors import usable_threads
from cytoforge.progress import Progress, say

Item = TypeVar("Item")
Result = TypeVar("Result")
ItemIn = TypeVar("ItemIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)
Announce = Callable[[float], None]
"""is called with the share of an item that is done, 0 to 1"""
AHEAD = 2  # items for each worker that are with the cluster, where they are short: one in work, one that waits
SHORT = 5.0  # seconds that a short item takes; a longer one waits here for the worker that is free first
LOOK = 2.0  # seconds after which it is looked for new workers
PATIENCE = 15.0  # seconds after which it is said that there is no worker yet
ALLOCATION = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
"""lets workers that are started here take memory as other processes do: as dask has it, networks took twice as long"""
DEATHS = 10  # workers that may die over one item, as where a queue ends them early, before it is given up


@dataclass(frozen=True)
class Part:
    """One of several parts of the items, which may be worked on by different machines or at different times."""

    number: int
    """from 1"""
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the part written like 3/16; raises ValueError for anything else."""
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"--part {text}: takes a number and how many parts there are, from 1/16 to 16/16")
        return cls(int(number), int(count))

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this part: every so many, as those that lie side by side often take alike long."""
        return items[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"


@dataclass(frozen=True)
class Seat:
    """Where items are worked on: in this process, or in one of a cluster."""

    writer: str | None = None
    """name of the process among those that write into one folder; None where it is alone"""
    away: bool = False
    """whether the work has come from another process"""
    device: str = "auto"
    threads: int | None = None


class Work(Protocol[ItemIn, ResultOut]):
    """What is done to items; can be pickled."""

    def start(self, seat: Seat) -> Callable[[ItemIn, Announce], ResultOut]:
        """Make ready to work in a process, once, and return the function of an item."""


@dataclass(frozen=True)
class Engine:
    """How a command works on its items: all or a part of them, here or on a cluster."""

    part: Part | None = None
    cluster: str | None = None
    """local, local:N, tcp://SCHEDULER:PORT, slurm or slurm:N"""
    device: str = "auto"
    threads: int | None = None

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this call: those of its part, or all."""
        return items if self.part is None else self.part.of(items)

    def takes(self, place: int) -> bool:
        """Tell whether the item at a place, from 0, is in the share of this call."""
        return self.part is None or place % self.part.count == self.part.number - 1

    def run(
        self, work: Work[Item, Result], items: Sequence[Item], title: str, named: Callable[[Item], str] = str
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item and its result, in the order in which they are done, and show the progress.

        Raises what the work raises, and UserError where the cluster cannot be reached or gives an item up.
        """
        if self.cluster is None or not items:
            seat = Seat(None if self.part is None else str(self.part), False, self.device, self.threads)
            return _here(work, items, seat, Progress(title), named)
        return _away(self, work, items, Progress(title), named)


ALONE = Engine()
"""all items, one after the other, in this process"""


def _here(
    work: Work[Item, Result], items: Sequence[Item], seat: Seat, progress: Progress, named: Callable[[Item], str]
) -> Iterator[tuple[Item, Result]]:
    if not items:
        return
    do = work.start(seat)
    for position, item in enumerate(items):

        def announce(share: float, done: int = position, name: str = named(item)) -> None:
            progress((done + share) / len(items), name)

        result = do(item, announce)
        announce(1.0)
        yield item, result


def _away(
    engine: Engine, work: Work[Item, Result], items: Sequence[Item], progress: Progress, named: Callable[[Item], str]
) -> Iterator[tuple[Item, Result]]:
    with _client(engine) as (client, threads):
        from distributed import CancelledError, KilledWorker, wait

        run = secrets.token_hex(6)
        seat = Seat(None, True, engine.device, threads)
        # the scheduler keeps the work, and gives it to workers that come later, too
        sent = client.submit(_Sent, work, run, seat, str(Path.cwd()), key=f"cytoforge-{run}", pure=False)
        running: dict[Any, tuple[Item, str]] = {}  # by future, the item and the worker that it was given to
        todo, done, began = deque(items), 0, time.monotonic()

        def submit() -> None:
            workers = client.nthreads()
            short = done and (time.monotonic() - began) * len(workers) / done < SHORT
            while todo and len(running) < (AHEAD if short else 1) * len(workers):
                # by itself the scheduler prefers the worker that has the work, though all others are idle
                given = Counter(worker for _, worker in running.values())
                worker = min(workers, key=lambda address: given[address])
                key, options = f"cytoforge-{run}-{secrets.token_hex(6)}", {"allow_other_workers": True, "pure": False}
                item = todo.popleft()
                running[client.submit(_do, sent, item, key=key, workers=[worker], **options)] = item, worker

        while todo or running:
            submit()
            if not running:
                time.sleep(LOOK)
                continue
            try:
                finished = wait(list(running), timeout=LOOK, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue  # there may be more workers by now
            except CancelledError as error:
                raise UserError(
                    f"--cluster {engine.cluster}: the scheduler is gone; start it again, and repeat the command, which "
                    "goes on where it stopped"
                ) from error
            for future in finished:
                item, _ = running.pop(future)
                try:
                    result = future.result()
                except KilledWorker as error:
                    raise UserError(
                        f"{named(item)}: {DEATHS} workers died while they were at it; see their logs, and give them "
                        "more memory"
                    ) from error
                done += 1
                submit()
                progress(done / len(items), named(item))
                yield item, result


@dataclass(frozen=True)
class _Sent:
    """Work as it comes to a worker."""

    work: Any
    run: str
    seat: Seat
    folder: str
    """the client's working directory, from which paths start"""


@dataclass
class _Place:
    """What a worker process is at: one item at a time, even where it has several threads."""

    run: str = ""
    do: Callable[[Any, Announce], Any] | None = None
    lock: Lock = field(default_factory=Lock)


_place = _Place()


def _do(sent: _Sent, item: Any) -> Any:
    """Work on an item in a worker, which starts with its first one."""
    with _place.lock:
        if _place.run != sent.run or _place.do is None:
            if not Path(sent.folder).is_dir():
                raise UserError(f"{sent.folder}: cannot be seen by a worker; start in a folder that all machines share")
            os.chdir(sent.folder)
            writer = f"worker-{secrets.token_hex(6)}"
            seat = Seat(writer, True, sent.seat.device, sent.seat.threads)
            _place.do, _place.run = sent.work.start(seat), sent.run
        return _place.do(item, lambda share: None)


@contextlib.contextmanager
def _client(engine: Engine) -> Iterator[tuple[Any, int | None]]:
    """Connect to a cluster, started here unless it is a running one; gives the client and the threads of a worker."""
    kind, _, rest = str(engine.cluster).partition(":")
    require(f"--cluster {engine.cluster}", *(("distributed", "dask_jobqueue") if kind == "slurm" else ("distributed",)))
    import dask
    from distributed import Client, LocalCluster

    getLogger("distributed.client").setLevel(CRITICAL)  # a sentence says what goes wrong
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.admin.large-graph-warning-threshold": "1GB",
        **ALLOCATION,
    }
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        threads, address = engine.threads, engine.cluster
        if kind == "local":
            count = int(rest or usable_threads())
            threads = threads or usable_threads(count)
            # workers are not ended for the memory that they take, which bounds of images would not fit
            options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
            address = stack.enter_context(LocalCluster(n_workers=count, silence_logs=ERROR, **options))
        elif kind == "slurm":
            address = stack.enter_context(_slurm(int(rest or 1)))
        try:
            client = stack.enter_context(Client(address))
        except (OSError, ValueError) as error:
            raise UserError(
                f"--cluster {engine.cluster}: no scheduler answers there ({error}); start one with dask scheduler"
            ) from error
        _await_workers(client, str(engine.cluster))
        yield client, threads


def _slurm(jobs: int) -> Any:
    from dask_jobqueue.slurm import SLURMCluster

    try:
        cluster = SLURMCluster(scheduler_options={"dashboard_address": ":0"})
    except ValueError as error:
        raise UserError(
            "--cluster slurm: nothing says how many cores and how much memory a job has; describe it in "
            "~/.config/dask/jobqueue.yaml, as the documentation of dask-jobqueue says"
        ) from error
    cluster.scale(jobs=jobs)
    return cluster


def _await_workers(client: Any, cluster: str) -> None:
    """Wait for the first worker, and say so where there is none yet."""
    began, told = time.monotonic(), False
    while not client.nthreads():
        if not told and time.monotonic() - began > PATIENCE:
            say([f"--cluster {cluster}: there is no worker yet; waiting for one"])
            told = True
        time.sleep(0.1)
