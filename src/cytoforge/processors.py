"""How many threads a computation may use, what the user, the scheduler and the container allow, and work done ahead."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_threads(processes: int = 1) -> int:
    """Return the number of threads for each of several processes, at least 1.

    That is OMP_NUM_THREADS where it is set; else an equal share of the processors that this process may run on (its
    affinity, as of taskset and Slurm) and that its container is granted (cgroup v1 and v2).
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    granted = container_processors()
    return max(min(cores, cores if granted is None else math.ceil(granted)) // processes, 1)


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of `work`, in order, while `threads` threads work on those that follow.

    Items are taken in the thread of the caller, at most one more than `threads` before their results are. With 0
    threads all is done one after another.
    """
    if not threads:
        yield from ((item, work(item)) for item in items)
        return
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > threads:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            pool.shutdown(cancel_futures=True)


def container_processors(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> float | None:
    """Return the processors that the control groups of this process are granted, such as 1.5; None without a limit."""
    places = {groups, groups / "cpu", groups / "cpu,cpuacct"}
    for line in _read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            start = groups / controllers
            inner = start / path.lstrip("/")
            places |= {inner, *(folder for folder in inner.parents if start in (folder, *folder.parents))}
    limits = [limit for place in places if (limit := _limit(place)) is not None]
    return min(limits, default=None)


def _limit(group: Path) -> float | None:
    """Return the processors that a control group is granted: its quota of time, by the period of that."""
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")  # version 2
    if not quota:
        quota, period = (_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))  # version 1
    if not quota.isdecimal() or not period.isdecimal() or not int(period):  # "max" and -1 are no limit
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
