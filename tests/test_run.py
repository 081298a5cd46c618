"""A run folder gives back exactly what was put in, and refuses what is damaged, foreign or of another format."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cytoforge.data import run as run_module
from cytoforge.data.run import Run, flatten_state, unflatten_state
from cytoforge.errors import UserError

CONFIG = {"command": "train segmentation", "config": {"seed": 1, "data": "cells", "crop": (8, 8)}, "tile": 256}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", CONFIG)


# config, provenance, format


def test_create_and_open(run: Run) -> None:
    assert Run.open(run.path).config == {"format": 1, **CONFIG, "config": {"seed": 1, "data": "cells", "crop": [8, 8]}}
    assert run.provenance.keys() == {"cytoforge", "commit", "torch", "started"}
    run.record(seed=3, device="cpu")
    run.note("first")
    run.note("second")
    run.finish({"steps": 7})
    told = Run.open(run.path).provenance
    assert (told["seed"], told["device"], told["steps"], told["notes"]) == (3, "cpu", 7, ["first", "second"])
    assert told["finished"] >= told["started"]


def test_commit_is_that_of_the_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr(run_module, "__file__", str(tmp_path / "src" / "cytoforge" / "data" / "run.py"))
    assert Run.create(tmp_path / "one", CONFIG).provenance["commit"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "pyproject.toml").write_text("")
    assert Run.create(tmp_path / "two", CONFIG).provenance["commit"] is None  # no commit yet
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    commit = Run.create(tmp_path / "three", CONFIG).provenance["commit"]
    assert len(commit) == 40


def test_create_refuses_to_replace(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run: holds a run already; .* --overwrite"):
        Run.create(run.path, CONFIG)
    run.save_weights("segmenter", {"a": torch.zeros(1)})
    (run.path / ".metrics.csv.part").write_text("half")
    Run.create(run.path, {"command": "other"}, overwrite=True)
    assert run.config["command"] == "other"
    assert not (run.path / "weights").exists()


def test_create_never_deletes_what_is_not_a_run(run: Run, tmp_path: Path) -> None:
    (run.path / "thesis.doc").write_text("x")
    (tmp_path / "home" / "weights").mkdir(parents=True)
    for path, name in ((run.path, "thesis.doc"), (tmp_path / "home", "weights")):
        with pytest.raises(UserError, match=f"holds {name} and is no run folder; choose another"):
            Run.create(path, CONFIG, overwrite=True)
        assert (path / name).exists()


def test_start_goes_on_with_the_same_command_only(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = Run.start(path, CONFIG)
    run.append_metrics({"step": 1})
    assert Run.start(path, CONFIG).metrics() == [{"step": 1}]
    with pytest.raises(UserError, match=r"holds a run with another seed; repeat its command"):
        Run.start(path, {**CONFIG, "config": {**CONFIG["config"], "seed": 2}})
    with pytest.raises(UserError, match=r"another command, tile;"):
        Run.start(path, {**CONFIG, "command": "train tracker", "tile": 1})
    run.finish()
    with pytest.raises(UserError, match=r"holds this run, finished"):
        Run.start(path, CONFIG)
    assert Run.start(path, CONFIG, overwrite=True).metrics() == []


def test_what_was_asked_for_is_named_and_not_what_follows_from_it(tmp_path: Path) -> None:
    asked = {"training": {"budget": {"steps": 3}}, "parameters": {"width": 8, "weights": {"flow": 1.0}}, "start": None}
    config = {"method": "tgan", **asked, "networks": {"a": {"width": 8}}, "training_images": ["a"]}
    Run.start(tmp_path / "run", config)
    follows = {"networks": {"a": {"width": 9}}, "training_images": ["b"]}
    for change, names in (
        ({"method": "vid2vid", "parameters": {"rate": 1}}, "method"),
        ({"parameters": {"width": 9, "weights": {"flow": 1.0}}}, "width"),
        ({"parameters": {"width": 8, "weights": {"flow": 2.0}}}, "flow"),
        ({"training": {"budget": {"steps": 4}}, "start": "there"}, "start, steps"),
        ({}, "training_images, width"),  # nothing else says why
    ):
        with pytest.raises(UserError, match=f"holds a run with another {names}; repeat"):
            Run.start(tmp_path / "run", {**config, **change, **follows})


def test_start_after_a_kill_during_creation(tmp_path: Path) -> None:
    path = tmp_path / "run"
    Run.create(path, CONFIG)
    (path / "config.json").rename(path / ".config.json.part")
    assert Run.start(path, CONFIG).config["tile"] == 256


def test_open_refuses(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match=r"nothing: is no run folder \(config.json is missing\)"):
        Run.open(tmp_path / "nothing")
    (run.path / "config.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(UserError, match="is a run of format 2, this version reads format 1"):
        Run.open(run.path)
    (run.path / "config.json").write_text('{"format": 1')
    with pytest.raises(UserError, match=r"config.json: cannot be read as JSON"):
        Run.open(run.path)


def test_samples_folder(run: Run) -> None:
    assert run.samples.is_dir()
    assert run.samples == run.path / "samples"


# weights


def test_weights_round_trip_with_names_types_and_shared_storage(run: Run) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    weights = {
        "w": base,
        "tied": base,
        "transposed": base.T,
        "half": base.to(torch.bfloat16),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 2),
    }
    run.save_weights("segmenter", weights)
    loaded = Run.open(run.path).load_weights("segmenter")
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_missing_and_damaged_weights(run: Run) -> None:
    with pytest.raises(UserError, match=r"segmenter.safetensors: is missing \(there is none\)"):
        run.load_weights("segmenter")
    run.save_weights("segmenter", {"a": torch.zeros(100)})
    with pytest.raises(UserError, match=r"generator.safetensors: is missing \(there is segmenter\)"):
        run.load_weights("generator")
    file = run.path / "weights" / "segmenter.safetensors"
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\xff" * 100):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"segmenter.safetensors: is damaged .*train again"):
            run.load_weights("segmenter")


# state


def test_state_round_trip(run: Run) -> None:
    assert not run.has_state
    with pytest.raises(UserError, match="has no state to go on from"):
        run.load_state()
    parameter = torch.nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0)))
    optimiser = torch.optim.Adam([parameter], betas=(0.5, 0.9))
    parameter.grad = torch.ones(3)
    optimiser.step()
    tree = {"optimiser": optimiser.state_dict(), "random": torch.Generator().manual_seed(3).get_state(), "step": 1}
    tensors, structure = flatten_state(tree)
    run.save_state(tensors, {"structure": structure, "best": -math.inf})
    assert run.has_state
    loaded, meta = run.load_state()
    back = unflatten_state(loaded, meta["structure"])
    assert meta["best"] == -math.inf
    assert _equal(back, tree)
    other = torch.optim.Adam([torch.nn.Parameter(parameter.detach().clone())])
    other.load_state_dict(back["optimiser"])
    assert _equal(other.state_dict(), optimiser.state_dict())
    assert not (run.path / "state" / ".state.safetensors.part").exists()


def test_damaged_state(run: Run) -> None:
    run.save_state({"a": torch.zeros(100)}, {})
    file = run.path / "state" / "state.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"state.safetensors: is damaged .*--overwrite"):
        run.load_state()
    run.save_weights("stray", {"a": torch.zeros(1)})
    (run.path / "weights" / "stray.safetensors").replace(file)
    with pytest.raises(UserError, match=r"state.safetensors: lacks its header"):
        run.load_state()


def test_a_full_disk_keeps_the_former_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_state({"a": torch.zeros(3)}, {"step": 1})

    def fail(tensors: dict[str, torch.Tensor], file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(b"half")
        raise run_module.SafetensorError(f"I/O error: No space left on device (os error {errno.ENOSPC})")

    monkeypatch.setattr(run_module, "save_file", fail)
    with pytest.raises(UserError, match="the disk is full"):
        run.save_state({"a": torch.ones(3)}, {"step": 2})
    assert run.load_state()[1] == {"step": 1}
    assert [file.name for file in (run.path / "state").iterdir()] == ["state.safetensors"]


TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]
TENSORS = st.builds(
    lambda shape, kind: (torch.arange(math.prod(shape)) % 2).reshape(shape).to(kind),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(TYPES),
)
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    NUMBERS | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def _equal(a: Any, b: Any) -> bool:
    """Equality of types, keys, order and bits."""
    if type(a) is not type(b) and not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b) or (a != a and b != b)


@given(TREES)
def test_any_state_survives_json(tree: Any) -> None:
    tensors, structure = flatten_state(tree)
    assert _equal(unflatten_state(tensors, json.loads(json.dumps(structure))), tree)


@given(st.dictionaries(st.text(max_size=4) | st.integers(), TREES, max_size=3))
def test_any_state_survives_the_file(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    run = Run(tmp_path_factory.mktemp("run"))
    tensors, structure = flatten_state(tree)
    run.save_state(tensors, {"structure": structure})
    loaded, meta = run.load_state()
    assert _equal(unflatten_state(loaded, meta["structure"]), tree)


@pytest.mark.parametrize("wrong", [{1.5: 0}, {None: 0}, {"a": object()}, [{True: 1}], {1, 2}])
def test_what_is_no_state(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"a state (has|is)"):
        flatten_state(wrong)


@pytest.mark.parametrize("structure", [{"tensor": "7"}, {"array": []}, {"dict": 3}, {}])
def test_structure_of_another_state(structure: Any) -> None:
    with pytest.raises(ValueError, match="the structure of the state does not fit"):
        unflatten_state({}, structure)


# metrics


def test_metrics_gain_columns_and_lose_rows(run: Run) -> None:
    assert run.metrics() == []
    run.truncate_metrics(3)
    run.append_metrics({"step": 1, "loss": 0.5})
    run.append_metrics({"step": 2, "loss": 0.25, "score": 1e-7})
    run.append_metrics({"step": 3, "score": -math.inf})
    assert (run.path / "metrics.csv").read_text() == "step,loss,score\n1,0.5,\n2,0.25,1e-07\n3,,-inf\n"
    assert run.metrics()[2] == {"step": 3, "score": -math.inf}
    run.truncate_metrics(2)
    assert run.metrics() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "score": 1e-7}]
    run.append_metrics({"step": 3, "loss": math.nan})
    assert math.isnan(run.metrics()[2]["loss"])


@pytest.mark.parametrize(
    "content", ["step,loss\n1,abc\n", "loss\n1\n", "step,loss\n1,2,3\n", 'step\n"1\n', "step,loss\n1\n"]
)
def test_damaged_metrics(run: Run, content: str) -> None:
    (run.path / "metrics.csv").write_text(content)
    with pytest.raises(UserError, match=r"metrics.csv: .* restore or remove the file"):
        run.metrics()
