"""Source and licence of data travel into weights, from there into painted images, and into what learns from these."""

import json
from pathlib import Path

import pytest
import safetensors
import torch

from cytoforge.cli import main
from cytoforge.data.credits import credits_of, merged
from cytoforge.data.files import read_json, write_json
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.places import BASE
from test_segment import write_run

TINY = "--preset tiny --steps 1 --threads 1"


def described(folder: Path, **info: object) -> Path:
    write_json(folder / "dataset.json", info)
    return folder


def test_credits_of_data(tmp_path: Path) -> None:
    assert credits_of(tmp_path) == []
    assert credits_of(described(tmp_path / "cells", licence="CC0")) == ["cells (CC0)"]
    made = described(tmp_path / "made", source="BBBC038", licence="MIT", learned_from=["cells (CC0)", "BBBC038 (MIT)"])
    assert credits_of(made) == ["BBBC038 (MIT)", "cells (CC0)"]
    assert credits_of(made / "masks" / "a.png") == ["BBBC038 (MIT)", "cells (CC0)"]
    assert merged("ab", "bca") == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"dataset\.json: licence"):
        credits_of(described(tmp_path / "wrong", licence=["CC0"]))


def test_they_travel_from_data_to_weights_to_painted_images_and_on(tiny_dataset: Path, tmp_path: Path) -> None:
    described(tiny_dataset, source="BBBC038", licence="CC0")
    painter, painted, simulated = (tmp_path / name for name in ("painter", "painted", "simulated"))
    assert main(f"train generator {tiny_dataset} --out {painter} {TINY}".split()) == 0
    assert main(f"simulate masks --like {tiny_dataset} --count 1 --out {simulated}".split()) == 0
    assert main(f"generate images {painter} {simulated} --out {painted} --threads 1".split()) == 0
    real = ["BBBC038 (CC0)"]
    assert all(read_json(folder / "dataset.json")["learned_from"] == real for folder in (simulated, painted))

    other = tiny_dataset.rename(tmp_path / "own")
    described(other)  # the user's own data have no licence
    run = tmp_path / "run"
    assert (
        main(f"train segmentation {other} --with {painted} --out {run} --start base --steps 1 --threads 1".split()) == 0
    )
    base = read_json(BASE / "provenance.json")["learned_from"]
    assert read_json(run / "provenance.json")["learned_from"] == [*real, *base]
    with safetensors.safe_open(run / "weights" / "segmenter.safetensors", "np") as weights:
        assert json.loads(weights.metadata()["learned_from"]) == [*real, *base]


def test_weights_with_credits_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    run = Run.open(write_run(tmp_path / "run"))
    run.record(learned_from=["BBBC038 (CC0)"])
    tensors, written = {"a": torch.zeros(2), "b": torch.ones(3)}, set()
    for _ in range(12):
        run.save_weights("segmenter", tensors)
        written.add((run.path / "weights" / "segmenter.safetensors").read_bytes())
    assert len(written) == 1
