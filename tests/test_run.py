"""A run folder gives back exactly what was put in, and refuses what is damaged, foreign or of another format."""

import errno
import json
import math
import multiprocessing
import os
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cytoforge.data import run as run_module
from cytoforge.data.images import read_image
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


def test_a_kill_in_the_middle_of_a_file_leaves_nothing_beside_it(run: Run) -> None:
    """The child is killed by the system when a file exceeds its limit; then the same file is written whole."""
    weights = {"a": torch.zeros(10_000)}

    def write() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        run.save_weights("segmenter", weights)

    child = multiprocessing.get_context("fork").Process(target=write)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGXFSZ
    Run.open(run.path).save_weights("segmenter", weights)
    assert [file.name for file in (run.path / "weights").iterdir()] == ["segmenter.safetensors"]


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
    config = {"method": "tgan", **asked, "networks": {"a": {"network": "flow", "width": 8}}}
    config |= {"scale": 1.0, "training_images": ["a"]}
    Run.start(tmp_path / "run", config)
    follows = {"networks": {"a": {"network": "flow", "width": 9}}, "training_images": ["b"]}
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
    run.save_sample(50, np.full((4, 5, 3), 7, np.uint8))
    assert [file.name for file in (run.path / "samples").iterdir()] == ["step-000050.png"]
    assert np.array_equal(read_image(run.path / "samples" / "step-000050.png"), np.full((3, 4, 5), 7))


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
    file.unlink()
    run.save_weights("stray", {"a": torch.zeros(1)})
    run.folder.write("state/state.safetensors", (run.path / "weights" / "stray.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"state.safetensors: lacks its header"):
        run.load_state()


@pytest.mark.parametrize("flip", [0, 20, -1])
def test_a_damaged_state_is_left_for_the_one_before(flip: int, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(3):
        run.save_state({"a": torch.full((9,), step)}, {"step": step})
    file, earlier = (run.path / "state" / f"{name}.safetensors" for name in ("state", "earlier"))
    damaged = bytearray(file.read_bytes())
    damaged[flip] ^= 1
    file.write_bytes(damaged)
    tensors, meta = run.load_state()
    assert (tensors["a"].tolist(), meta) == ([1] * 9, {"step": 1})
    assert f"{file}: is damaged; training goes on from the state before" in capsys.readouterr().err
    run.save_state({"a": torch.full((9,), 5)}, {"step": 5})
    assert run.load_state()[1] == {"step": 5}
    assert (run.path / "state" / "damaged.safetensors").read_bytes() == damaged
    file.unlink()
    assert run.load_state()[1] == {"step": 1}
    earlier.write_bytes(b"")
    with pytest.raises(UserError, match=r"earlier\.safetensors: is damaged .*; remove it, and start again with"):
        run.load_state()


def test_one_state_is_left_of_a_finished_run(run: Run) -> None:
    for step in range(2):
        run.save_state({"a": torch.zeros(3)}, {"step": step})
    assert len([*(run.path / "state").iterdir()]) == 2
    run.finish()
    assert [file.name for file in (run.path / "state").iterdir()] == ["state.safetensors"]


def test_damaged_weights_do_not_become_those_of_a_finished_run(run: Run) -> None:
    run.save_weights("segmenter", {"a": torch.zeros(3)})
    file = run.path / "weights" / "segmenter.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"segmenter\.safetensors: is damaged \(its checksum is not that in .*manifest"):
        run.finish()
    with pytest.raises(UserError, match=r"segmenter\.safetensors: is damaged .*; move it away, and start again with"):
        Run.start(run.path, {key: value for key, value in run.config.items() if key != "format"})


def test_a_changed_table_is_named_before_work_goes_on(run: Run) -> None:
    run.append_metrics({"step": 1, "validation": 0.5})
    (run.path / "metrics.csv").write_text("step,validation\n1,0.7\n")
    with pytest.raises(UserError, match=r"metrics\.csv: has been changed since this command wrote it; move it away"):
        Run.start(run.path, {key: value for key, value in run.config.items() if key != "format"})


def test_a_changed_description_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Run.open(run.path)
    assert not capsys.readouterr().err
    path = run.path / "provenance.json"
    path.write_text(path.read_text().replace(" ", ""))
    Run.open(run.path)
    assert f"{path}: has been changed since it was written; restore it" in capsys.readouterr().err
    (run.path / "manifest.jsonl").write_text("")
    Run.open(run.path)  # whoever reads a run needs no list


def test_a_full_disk_keeps_the_former_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_state({"a": torch.zeros(3)}, {"step": 1})

    def fail(file: Path, content: bytes) -> None:
        with file.open("wb") as begun:
            begun.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(Path, "write_bytes", fail)
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


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    run = Run.create(tmp_path / os.fsdecode(b"caf\xe9"), CONFIG)
    run.save_weights("one", {"a": torch.arange(3)})
    run.save_state({"b": torch.ones(2)}, {"path": str(run.path)})
    again = Run.open(run.path)
    assert torch.equal(again.load_weights("one")["a"], torch.arange(3))
    assert again.load_state()[1] == {"path": str(run.path)}


# what people edit, and what disks damage


NORMALISATION = {"kind": "percentile", "low": 0.1, "high": 99.9}
TRAINED = {
    "command": "train segmentation",
    "config": {"seed": 1},
    "perceptual": None,
    "scale": 1.0,
    "normalisation": NORMALISATION,
    "tile": 256,
    "precision": "32-true",
    "threads": 2,
    "training_images": ["a"],
    "validation_images": ["b"],
}
SEGMENTER = {"network": "unet", "in_channels": 1, "classes": 3, "width": 4, "depth": 2, "norm": "batch"}
PAINTER = {"in_channels": 2, "out_channels": 1, "width": 4, "depth": 2, "norm": "batch", "upsampling": "nearest"}
MOVIE = {"network": "movie", **PAINTER, "residual": True}
KINDS: dict[str, dict[str, Any]] = {
    "segmenter": {**TRAINED, "target": "boundary", "networks": {"segmenter": SEGMENTER}},
    "generator": {**TRAINED, "condition": "instances", "networks": {"generator": {"network": "style-unet", **PAINTER}}},
    "movie": {
        **TRAINED,
        "condition": "mask",
        "lag": 1,
        "mask_value": 0.4,
        "limits": {"01": [[0.0, 255.0]]},
        "networks": {"low-resolution": MOVIE},
    },
    "tracker": {
        **TRAINED,
        "divisions": 3,
        "networks": {"tracker": {"network": "tracker", "in_channels": 1, "width": 4}},
    },
    "two stages": {
        **TRAINED,
        "first_stage": "0" * 64,
        "networks": {
            "low-resolution": MOVIE,
            "super-resolution": {"network": "super-resolution", **PAINTER, "in_channels": 1, "factor": 2},
        },
    },
}
DELETED = object()
DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
WRONG = [DELETED, None, "x", "", [], {}, [1], {"a": 1}, -1, 0, True, math.nan, math.inf, 1e300, 10**400, 0.5, DEEP]


def places(node: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The way to every key of nested dicts."""
    found = [(*above, key) for key in node] if isinstance(node, dict) else []
    return [place for key in found for place in (key, *places(node[key[-1]], key))]


@pytest.mark.parametrize("kind", KINDS)
def test_no_edit_of_the_settings_is_a_traceback(kind: str, tmp_path: Path) -> None:
    """Every key of every kind of run, deleted or replaced by 16 values: it opens with sane values, or is refused."""
    run = Run.create(tmp_path / "run", KINDS[kind])
    file, whole = run.path / "config.json", run.config
    refused: dict[tuple[str, ...], str] = {}
    for place in places(whole):
        for value in WRONG:
            stored = json.loads(json.dumps(whole))
            inner = stored
            for key in place[:-1]:
                inner = inner[key]
            if value is DELETED:
                del inner[place[-1]]
            else:
                inner[place[-1]] = value
            file.write_text(json.dumps(stored))
            try:
                settings = Run.open(run.path).settings
            except UserError as error:
                refused[place] = str(error)
                continue
            assert 0.001 <= settings.scale <= 8 and 32 <= settings.tile <= 2**15
            sizes = [
                getattr(network, size) or 1
                for network in settings.networks.values()
                for size in ("width", "depth", "in_channels")
            ]
            assert all(1 <= size <= 1024 for size in sizes)
    assert all(said.startswith(str(run.path)) and "; " in said and "\n" not in said for said in refused.values())
    free = {place for place in places(whole) if place[0] == "first_stage" or place[:-1] == ("config",)}  # not read
    assert refused.keys() == set(places(whole)) - free


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scale": 0}, r"scale is 0, but should be greater than or equal to 0.001; restore the file"),
        ({"tile": "256"}, r"tile is '256', but should be a valid integer"),
        ({"target": "edges"}, "target is 'edges', but should be 'boundary', 'depth' or 'semantic'"),
        ({"normalisation": {**NORMALISATION, "low": 99.95}}, "low must be below high, not 99.95 and 99.9"),
        (
            {"networks": {"segmenter": {**SEGMENTER, "depth": 60}}},
            r"no valid segmenter \(depth is 60, but should be less",
        ),
        ({"networks": {"../x": SEGMENTER}}, "'../x' is no name of a network"),
        ({"resize": [8, 48]}, r"resize.0 is 8, but should be greater than or equal to 16"),
        ({"resize": [48]}, "resize is .*48.*, but list should have at least 2 items"),
        ({"resize": [48, 64, 3]}, "resize is .*, but list should have at most 2 items"),
        ({"resize": "48x64"}, "resize is '48x64', but should be a valid list"),
        ({"resize": [48.5, 64]}, "resize.0 is 48.5, but should be a valid integer"),
        ({"limits": {"01": [[2, 1]]}}, "limits of 01 must be two ascending numbers for each channel"),
    ],
)
def test_settings_edited_wrongly_are_named(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {**KINDS["segmenter"], **change})
    with pytest.raises(UserError, match=rf"run/config\.json: .*{sentence}"):
        Run.open(run.path)
    missing = {key: value for key, value in KINDS["segmenter"].items() if key not in ("scale", "target")}
    run = Run.create(tmp_path / "run", missing, overwrite=True)
    with pytest.raises(UserError, match="scale and target are missing"):
        Run.open(run.path)


def test_settings_of_a_later_version_open(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {**KINDS["segmenter"], "mood": "good"})
    assert Run.open(run.path).settings.target == "boundary"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_as_windows_saves_it(run: Run, encoding: str) -> None:
    file = run.path / "config.json"
    file.write_bytes(file.read_text().encode(encoding))
    assert Run.open(run.path).settings.tile == 256


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a":' * 100_000, "cannot be read as JSON .*recursion"),
        ('{"tile": ' + "9" * 5000 + "}", "cannot be read as JSON .*digits"),
        ("[]", "must hold a JSON object, not list"),
        ("\0" * 50, "cannot be read as JSON"),
    ],
)
def test_json_that_cannot_be_read(run: Run, content: str, sentence: str) -> None:
    (run.path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"config.json: {sentence}"):
        Run.open(run.path)


@pytest.mark.parametrize("stored", [[], {"notes": "one"}, {"weights": []}, {"weights": {"a": 7}}, {"finished": 3}])
def test_provenance_edited_wrongly(run: Run, stored: Any) -> None:
    (run.path / "provenance.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"provenance\.json: .*mend the file"):
        Run.open(run.path)
    (run.path / "provenance.json").unlink()
    assert not Run.open(run.path).finished


def test_weights_are_those_that_the_run_was_finished_with(run: Run) -> None:
    run.save_weights("segmenter", {"a": torch.zeros(3)})
    run.finish()
    assert run.load_weights("segmenter").keys() == {"a"}
    run.save_weights("segmenter", {"a": torch.ones(3)})
    with pytest.raises(UserError, match=r"segmenter\.safetensors: is not the file that the run was finished with"):
        run.load_weights("segmenter")
    stored = {key: value for key, value in run.provenance.items() if key != "weights"}  # as older versions wrote
    (run.path / "provenance.json").write_text(json.dumps(stored))
    assert torch.equal(run.load_weights("segmenter")["a"], torch.ones(3))


def test_weights_that_are_no_file_of_numbers(run: Run, tmp_path: Path) -> None:
    file = run.path / "weights" / "segmenter.safetensors"
    for wrong in (math.nan, math.inf):
        run.save_weights("segmenter", {"a": torch.zeros(3), "b": torch.full((2,), wrong)})
        with pytest.raises(UserError, match=r"segmenter\.safetensors: b holds NaN or infinite numbers; restore"):
            run.load_weights("segmenter")
    for target, sentence in (("/dev/zero", "is no regular file"), ("nowhere", "is a link to nothing")):
        file.unlink()
        file.symlink_to(target)
        with pytest.raises(UserError, match=f"{sentence}; restore it"):
            run.load_weights("segmenter")
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match="is a folder, no file; restore it"):
        run.load_weights("segmenter")


def test_weights_that_may_not_be_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_weights("segmenter", {"a": torch.zeros(3)})

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"safetensors: cannot be read \(Permission denied\); change its permissions"):
        run.load_weights("segmenter")
