"""Batches made ahead are bit for bit those made in time, whatever was expected of the progress."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import picture, squares
from cytoforge.data.dataset import Item
from cytoforge.data.images import write_image, write_labels
from cytoforge.training.data import open_data
from cytoforge.training.samplers.clips import Clips, DoublingClips
from cytoforge.training.samplers.items import Batch, Drawing, Sampler
from cytoforge.training.samplers.moves import Moves, MoveSampler
from cytoforge.training.samplers.pairs import Pairs
from cytoforge.training.samplers.prefetch import Prefetched
from cytoforge.training.samplers.synthetic import Synthetic
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Data

SEED, FRAMES = 3, 12


def read(i: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.roll(squares(), i, axis=1)
    return (picture(labels, seed=i) / 127.5 - 1).astype(np.float32), labels


def painted(i: int) -> tuple[np.ndarray, np.ndarray]:
    return read(100 + i)


def drawing(size: int = 32, **options: Any) -> Drawing:
    return Drawing(**{"size": (size, size), "count": 3, "policy": "strong", "seed": SEED, **options})


def frames(count: int, name: str = "01") -> list[Item]:
    return [Item(f"{name}_{t}", group=name, frame=t) for t in range(count)]


def windows(folder: Path) -> Sampler:
    return Windows(["a", "b"], read, drawing(), Synthetic([Item("s0"), Item("s1")], painted, 0.6, "mix"))


def pretraining_windows(folder: Path) -> Sampler:
    return Windows(["a", "b"], read, drawing(), Synthetic([Item("s0")], painted, 0.5, "pretrain"))


def clips(folder: Path) -> Sampler:
    return Clips(frames(FRAMES), read, drawing(policy="flip", count=2), lead=1, longest=4)


def drawn_clips(folder: Path) -> Sampler:
    return Clips(frames(FRAMES), read, drawing(policy="flip", count=2), lead=1, longest=4, draw_length=True)


def doubling_clips(folder: Path) -> Sampler:
    return DoublingClips(frames(FRAMES), read, drawing(policy="flip", count=1), lead=2, first=2)


def moves(folder: Path) -> Sampler:
    """Two cells of a tracked movie, one of which divides; painted frames are those of another one."""
    for name in ("real", "painted"):
        for t in range(6):
            labels = np.zeros((48, 64), np.int32)
            labels[4:16, 4 + t : 20 + t] = 1
            labels[24:40, 6 + t : 18 + t], labels[24:40, 24 + t : 36 + t] = (2, 2) if t < 3 else (3, 4)
            write_image(folder / name / "01" / f"t{t:03d}.tif", picture(labels, seed=t + 50 * (name == "painted")))
            write_labels(folder / name / "01_GT" / "TRA" / f"man_track{t:03d}.tif", labels)
        (folder / name / "01_GT" / "TRA" / "man_track.txt").write_text("1 0 5 0\n2 0 2 0\n3 3 5 2\n4 3 5 2\n")
    real, other = (open_data(Data(path=folder / name, fold=(1, 3)), 0, "tracks") for name in ("real", "painted"))
    return MoveSampler(
        Moves(real.items, real.read), drawing(192, count=2), Synthetic(other.items, other.read, 0.5, "mix")
    )


def pairs(folder: Path) -> Sampler:
    small = np.random.default_rng(0).integers(0, 2**16, (3, 2, 1, 32, 32)).astype(np.uint16)
    return Pairs(["a", "b", "c"], read, list(map(list, small)), 2, drawing(16, policy="flip"))


SAMPLERS = (windows, pretraining_windows, clips, drawn_clips, doubling_clips, moves, pairs)
# the next step's progress is expected to be that of the step before
EXPECTED = [(step, 0.2) for step in range(6)]
WRONG = [(step, progress) for step, progress in enumerate((0.0, 0.3, 0.05, 0.69, 0.71, 1.0, 0.4))]
ELSEWHERE = [(0, 0.1), (1, 0.1), (5, 0.1), (5, 0.1), (2, 0.6), (3, 0.6), (3, 0.9)]  # after a fault: back, or on


def assert_equal(one: Batch, other: Batch) -> None:
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        found, expected = getattr(one, field.name), getattr(other, field.name)
        if isinstance(expected, Tensor):
            assert found.dtype == expected.dtype and torch.equal(found, expected), field.name
        else:
            assert found == expected, field.name


@pytest.mark.parametrize("build", SAMPLERS)
@pytest.mark.parametrize("asked", [EXPECTED, WRONG, ELSEWHERE], ids=["expected", "wrong", "elsewhere"])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_made_ahead_equals_what_is_made_in_time(
    build: Callable[[Path], Sampler], threads: int, asked: Sequence[tuple[int, float]], tmp_path: Path
) -> None:
    plain, ahead = build(tmp_path), Prefetched(build(tmp_path), threads)
    for step, progress in asked:
        assert_equal(ahead(step, progress), plain(step, progress))


class Counting(Sampler):
    """Plans whether the progress is past the half; notes what it is asked to cut, and by which thread."""

    def __init__(self) -> None:
        self.cuts: list[tuple[int, bool]] = []
        self.threads: list[str] = []

    def plan(self, step: int, progress: float) -> bool:
        return progress > 0.5

    def cut(self, step: int, plan: bool) -> Batch:
        self.cuts.append((step, plan))
        self.threads.append(threading.current_thread().name)
        image = torch.full((1, 1, 2, 2), float(step + 100 * plan))
        return Batch(image, image[:, 0].long(), 0, step, (0,), ("a",))


def test_a_right_guess_is_cut_once_and_by_the_other_thread() -> None:
    sampler = Counting()
    ahead = Prefetched(sampler)
    values = [float(ahead(step, 0.2).images.max()) for step in range(4)]
    ahead._pool.shutdown()
    assert values == [0, 1, 2, 3]
    assert sampler.cuts == [(step, False) for step in range(5)]
    assert sampler.threads[0] == "MainThread" and all(name.startswith("prefetch") for name in sampler.threads[1:])


def test_a_wrong_guess_is_cut_anew() -> None:
    sampler = Counting()
    ahead = Prefetched(sampler)
    assert [float(ahead(step, progress).images.max()) for step, progress in ((0, 0.4), (1, 0.6), (2, 0.7))] == [
        0,
        101,
        102,
    ]
    ahead._pool.shutdown()
    assert sorted(sampler.cuts) == [(0, False), (1, False), (1, True), (2, True), (3, True)]


def test_several_batches_are_made_at_once() -> None:
    """The second waits for the third: one thread alone would never end."""
    met = threading.Barrier(2, timeout=20)

    class Meeting(Counting):
        def cut(self, step: int, plan: bool) -> Batch:
            if step in (1, 2):
                met.wait()
            return super().cut(step, plan)

    ahead = Prefetched(Meeting(), threads=2)
    assert [ahead(step, 0.2).step for step in range(3)] == [0, 1, 2]


def test_files_are_read_by_one_thread_at_a_time() -> None:
    busy = threading.Lock()

    def guarded(i: int) -> tuple[np.ndarray, np.ndarray]:
        assert busy.acquire(blocking=False), "two threads read at once"
        pair = read(i)
        busy.release()
        return pair

    ahead = Prefetched(Windows([str(i) for i in range(8)], guarded, drawing()), threads=4)
    assert [ahead(step).step for step in range(4)] == [0, 1, 2, 3]


def test_a_fault_in_the_other_thread_is_told_at_its_step() -> None:
    class Broken(Counting):
        def cut(self, step: int, plan: bool) -> Batch:
            if step == 2:
                raise OSError("the disk is gone")
            return super().cut(step, plan)

    ahead = Prefetched(Broken())
    assert [ahead(step, 0.2).step for step in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(2, 0.2)
    assert ahead(3, 0.2).step == 3  # what was made ahead of another step does not matter
