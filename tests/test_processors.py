"""The number of threads: what the user, the scheduler and the container allow."""

import os
from pathlib import Path

import pytest
import torch

from cytoforge import processors
from cytoforge.errors import UserError
from cytoforge.inference.load import choose_device
from cytoforge.processors import container_processors, usable_threads


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "container_processors", lambda: None)


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("16", 16), ("2,1", 2), ("", 8), ("0", 8), ("many", 8)])
def test_omp_num_threads_is_obeyed(asked: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert usable_threads() == threads


@pytest.mark.parametrize(("processes", "threads"), [(1, 8), (2, 4), (3, 2), (9, 1)])
def test_processes_share_the_cores(processes: int, threads: int) -> None:
    assert usable_threads(processes) == threads


@pytest.mark.parametrize(("granted", "threads"), [(1.5, 2), (0.5, 1), (64.0, 8)])
def test_a_container_grants_less(granted: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "container_processors", lambda: granted)
    assert usable_threads() == threads


def test_systems_without_affinity_use_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_threads() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_threads() == 1


def files(folder: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("own", "content", "granted"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/job/step", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2.0),
        ("0::/job/step", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "50000 100000"}, 0.5),
        (
            "5:memory:/\n4:cpu,cpuacct:/docker/1",
            {
                "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
            },
            3.0,
        ),
        ("4:cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "40000", "cpu/cpu.cfs_period_us": "100000"}, 0.4),
        ("", {}, None),
        ("nonsense", {"cpu.max": "a b"}, None),
    ],
)
def test_control_groups_of_both_versions(
    own: str, content: dict[str, str], granted: float | None, tmp_path: Path
) -> None:
    groups = files(tmp_path / "groups", content)
    (tmp_path / "own").write_text(own)
    assert container_processors(groups, tmp_path / "own") == granted


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert container_processors(tmp_path / "none", tmp_path / "own") is None


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, False, "cuda")],
)
def test_auto_takes_the_graphics_unit_that_is_there(
    cuda: bool, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == chosen and choose_device("cpu") == "cpu"
    for device, there in (("cuda", cuda), ("mps", mps)):
        if there:
            assert choose_device(device) == device
        else:
            with pytest.raises(UserError, match=f"--device {device}: there is no usable GPU here"):
                choose_device(device)
    with pytest.raises(UserError, match="takes auto, cpu, cuda, mps"):
        choose_device("tpu")
