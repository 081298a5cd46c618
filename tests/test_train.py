"""From a folder of annotated phantoms to masks and scores, through the command line."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from cytoforge.cells.augment import augment
from cytoforge.cells.labels import connected
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.load import load_network
from cytoforge.inference.segment import segment_dataset
from cytoforge.inference.segmenter import Segmenter
from cytoforge.networks.registry import NETWORKS
from cytoforge.simulation.phantom import phantom
from cytoforge.training import loop
from cytoforge.training.data import Masks, _proposed_scale, open_data
from cytoforge.training.hyperparameters import WARM_START
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.networks import build_generator, build_segmenter
from cytoforge.training.samplers import items
from cytoforge.training.specification import Data
from cytoforge.training.tasks import task
from cytoforge.training.tasks.start import start_differences

READ = {"images": read_image, "masks": read_labels}
TINY = ["--preset", "tiny", "--threads", "1"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    for seed in range(4):
        image, labels = phantom(seed, (96, 96), 12)
        write_image(folder / "images" / f"p{seed}.png", image[None])
        write_labels(folder / "masks" / f"p{seed}.png", labels)
    return folder


def train(data: Path, out: Path, *flags: str) -> int:
    return main(["train", "segmentation", str(data), "--out", str(out), *TINY, *flags])


def rows_without_time(run: Path) -> list[str]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    time_column = rows[0].index("seconds")
    return [",".join(cell for i, cell in enumerate(row) if i != time_column) for row in rows]


def test_four_commands_from_images_to_scores(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(phantoms)]) == 0
    assert train(phantoms, tmp_path / "run", "--steps", "300") == 0
    assert main(["segment", str(tmp_path / "run"), str(phantoms), "--out", str(tmp_path / "out")]) == 0
    scores = tmp_path / "scores.json"
    assert main(["score", "segmentation", str(tmp_path / "out"), str(phantoms), "--json", str(scores)]) == 0
    shown = capsys.readouterr()
    assert "3 images to train on, 1 for validation" in shown.err
    assert "onverged" in shown.err
    found = json.loads(scores.read_text())
    assert len(found["images"]) == 4
    assert found["mean"]["f_score"][0]["value"] > 0.3  # it has learned something
    run = tmp_path / "run"
    assert (run / "report.html").stat().st_size > 1000
    assert len(list((run / "samples").glob("step-*.png"))) == 20
    described = json.loads((run / "config.json").read_text())
    assert described["networks"]["segmenter"]["classes"] == 5 and described["target"] == "depth"
    assert (
        "images are resized by" in shown.err and described["scale"] > 1.1
    )  # cells are smaller than SEGMENTED_DIAMETER
    assert set(described["training_images"]).isdisjoint(described["validation_images"])


def moved(run: Path) -> dict[str, float]:
    """Return by network the share of its tensors of weights that differ from those that the seed 0 begins with."""
    config = Run.open(run).config
    begun = {"segmenter": build_segmenter, "generator": build_generator}
    shares = {}
    for name, described in config["networks"].items():
        first = dict(begun[name](described, 0).named_parameters())
        weights = Run.open(run).load_weights(name)
        assert all(torch.isfinite(value).all() for value in weights.values())
        different = [not torch.equal(weights[key], value) for key, value in first.items()]
        shares[name] = sum(different) / len(different)
    return shares


@pytest.mark.parametrize("network", ["unet", "cellpose", "deepsea"])
@pytest.mark.parametrize("way", ["conventional", "cyclegan", "warm"])
def test_every_recipe_trains_every_network(network: str, way: str, phantoms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = {"conventional": [], "cyclegan": ["--method", "cyclegan"], "warm": ["--method", "cyclegan", "--warm-start"]}
    assert train(phantoms, run, "--steps", "4", "--network", network, *flags[way]) == 0
    names = {path.stem for path in (run / "weights").glob("*.safetensors")}
    assert names == ({"segmenter"} if way == "conventional" else {"segmenter", "generator"})
    config = Run.open(run).config
    assert config["networks"].keys() == names and config["networks"]["segmenter"]["network"] == network
    assert config["method"] == ("conventional" if way == "conventional" else "cyclegan")
    assert config["parameters"].get("warm_start", 0.0) == (WARM_START if way == "warm" else 0.0)
    assert all(share > 0.8 for share in moved(run).values()), moved(run)
    rows = Run.open(run).metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    cycles = {"conventional": [], "cyclegan": [1, 2, 3, 4], "warm": [4]}[way]  # 70 % of a warm start are pairs alone
    assert [row["step"] for row in rows if not np.isnan(row.get("cycle_image", np.nan))] == cycles
    with torch.inference_mode():
        logits = load_network(run, "segmenter")(torch.zeros(1, 1, 64, 80))
    assert logits.shape == (1, 5, 64, 80) and logits.std() > 0


@pytest.mark.parametrize(
    ("flags", "parameters", "channels"),
    [
        (
            ["--augmentation", "paper", "--target", "semantic", "--condition", "instances", "--p-vanilla", "0.6"],
            {
                "augmentation": "paper",
                "target": "semantic",
                "condition": "instances",
                "p_vanilla": 0.6,
                "norm": "batch",
            },
            {"in_channels": 3, "classes": 2},
        ),
        (
            ["--norm", "group", "--generator", "unet", "--no-attention"],
            {"norm": "group", "generator": "unet", "heads": 0, "condition": "mask", "target": "depth"},
            {"in_channels": 1, "classes": 5},
        ),
    ],
)
def test_other_choices_train(
    flags: list[str], parameters: dict[str, Any], channels: dict[str, int], phantoms: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(phantoms, run, "--steps", "2", "--method", "cyclegan", *flags) == 0
    stored = Run.open(run)
    assert {name: stored.config["parameters"][name] for name in parameters} == parameters
    segmenter, generator = (stored.config["networks"][name] for name in ("segmenter", "generator"))
    assert {"in_channels": generator["in_channels"], "classes": segmenter["classes"]} == channels
    assert segmenter["norm"] == generator["norm"] == parameters["norm"]
    kind = "unet-generator" if "unet" in flags else "style-unet"
    assert generator["network"] == kind and type(load_network(run, "generator")) is NETWORKS[kind].load()
    assert all(share > 0.8 for share in moved(run).values()), moved(run)
    assert all(np.isfinite(value) for row in stored.metrics() for value in row.values())
    with torch.inference_mode():
        assert load_network(run, "segmenter")(torch.zeros(1, 1, 32, 48)).shape == (1, channels["classes"], 32, 48)


@pytest.mark.parametrize(
    "words", ["segmentation", "segmentation --method cyclegan", "generator", "tracker --method deepsea"]
)
def test_the_share_of_windows_that_are_varied_reaches_every_training(
    words: str, phantoms: Path, tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, float]] = []

    def record(
        image: torch.Tensor, labels: torch.Tensor, size: tuple[int, int], policy: str, draw: torch.Generator, p: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((policy, p))
        return augment(image, labels, size, policy, draw, p)

    monkeypatch.setattr(items, "augment", record)
    kind, *flags = words.split()
    data = tiny_movie if kind == "tracker" else phantoms
    line = ["train", kind, str(data), "--out", str(tmp_path / "run"), *TINY, *flags, "--steps", "2"]
    assert main([*line, "--augmentation", "paper", "--p-vanilla", "0.7"]) == 0
    assert set(seen) == {("paper", 0.7)}
    assert Run.open(tmp_path / "run").config["parameters"]["p_vanilla"] == 0.7


def test_an_epoch_is_a_pass_over_the_training_images(phantoms: Path, tmp_path: Path) -> None:
    for number, (flags, steps) in enumerate(((("--epochs", "2"), 6), (("--epochs", "2", "--set", "batch=2"), 4))):
        run = tmp_path / f"{number}"
        assert train(phantoms, run, *flags) == 0
        stored = Run.open(run)
        assert stored.provenance["steps"] == steps and len(stored.config["training_images"]) == 3
        assert stored.config["training"]["budget"]["epochs"] == 2
        assert stored.config["training"]["budget"]["steps"] is stored.config["training"]["budget"]["seconds"] is None


def assert_equal_runs(one: Path, other: Path) -> None:
    assert rows_without_time(one) == rows_without_time(other)
    names = {path.stem for path in (one / "weights").iterdir()}
    assert names == {path.stem for path in (other / "weights").iterdir()} != set()
    for name in names:
        whole, parts = (Run.open(run).load_weights(name) for run in (one, other))
        assert all(torch.equal(whole[key], parts[key]) for key in whole)


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize(
    "words",
    [
        "segmentation --network deepsea --method cyclegan",
        "segmentation --network deepsea --method cyclegan --condition instances",
        "segmentation --method cyclegan --unlabelled {more} --masks simulated",
        "segmentation --method mean-teacher --unlabelled {more}",
        "generator --condition instances",
    ],
)
def test_a_run_cut_short_and_continued_equals_the_uninterrupted_one(
    words: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at the worst moment: the row and the weights of a validation are written, the state is not."""
    for seed in (20, 21):
        write_image(tmp_path / "more" / f"u{seed}.png", phantom(seed, (96, 96), 12)[0][None])
    kind, *flags = words.format(more=tmp_path / "more").split()
    line = ["train", kind, str(phantoms), *TINY, *flags, "--steps", "6", "--out"]
    assert main([*line, str(tmp_path / "whole")]) == 0

    def save(trainer: loop.Trainer, run: Run, state: loop.State) -> None:
        if state.step == 4:
            raise Killed
        save_state(trainer, run, state)

    save_state = loop._save
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", save)
        with pytest.raises(Killed):
            main([*line, str(tmp_path / "parts")])
    assert (tmp_path / "parts" / "metrics.csv").read_text().count("\n") == 5
    assert main([*line, str(tmp_path / "parts")]) == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_run_continued_equals_the_uninterrupted_one(phantoms: Path, tmp_path: Path) -> None:
    line = ["train", "segmentation", str(phantoms), *TINY, "--network", "deepsea", "--steps", "12", "--out"]
    assert main([*line, str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-m", "cytoforge", *line, str(tmp_path / "parts")]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "parts" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 4) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert main([*line, str(tmp_path / "parts")]) == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


def test_a_run_that_was_interrupted_before_its_report_goes_on(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(**parts: object) -> None:
        raise KeyboardInterrupt

    line = ["train", "generator", str(phantoms), *TINY, "--steps", "2", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(task, "run_report", interrupt)
        assert main(line) == 130
    assert not (tmp_path / "run" / "report.html").exists()
    assert main(line) == 0 and (tmp_path / "run" / "report.html").exists()
    assert main(line) == 2  # now it is finished


@pytest.mark.parametrize(("info", "bar"), [({}, "10 µm"), ({"pixel_size": 5}, "100 µm")])
def test_pictures_of_images_that_state_their_size_have_a_scale_bar(
    phantoms: Path, tmp_path: Path, info: dict[str, float], bar: str
) -> None:
    data, size = tmp_path / "data", {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    (data / "images").mkdir(parents=True)
    shutil.copytree(phantoms / "masks", data / "masks")
    for path in sorted((phantoms / "images").iterdir()):
        tifffile.imwrite(data / "images" / f"{path.stem}.ome.tif", read_image(path)[0], metadata={"axes": "YX", **size})
    (data / "dataset.json").write_text(json.dumps(info))
    assert train(data, tmp_path / "run", "--steps", "1", "--start", "scratch", "--scale", "1") == 0
    assert f"{bar}</span>" in (tmp_path / "run" / "report.html").read_text()
    (data / "dataset.json").write_text('{"pixel_size": "small"}')
    assert train(data, tmp_path / "other", "--steps", "1") == 2 and not (tmp_path / "other").exists()


def test_a_signal_saves_and_the_same_command_goes_on(phantoms: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cytoforge", "train", "segmentation", str(phantoms), "--out"]
    flags = [*TINY, "--steps", "400"]
    child = subprocess.Popen([*command, str(tmp_path / "run"), *flags], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "metrics.csv").exists() and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "all is saved; the same command goes on from there" in said
    assert "Traceback" not in said


def test_a_finished_run_is_not_overwritten_unless_told(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(phantoms, tmp_path / "run", "--steps", "1") == 0
    before = (tmp_path / "run" / "weights" / "segmenter.safetensors").read_bytes()
    assert train(phantoms, tmp_path / "run", "--steps", "1") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert train(phantoms, tmp_path / "run", "--steps", "2") == 2
    assert (tmp_path / "run" / "weights" / "segmenter.safetensors").read_bytes() == before
    assert train(phantoms, tmp_path / "run", "--steps", "2", "--overwrite") == 0


def test_another_command_on_an_unfinished_run_is_refused(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("--steps", "3", "--scale", "1")
    assert train(phantoms, tmp_path / "run", *line) == 0
    run = Run.open(tmp_path / "run")
    tensors, meta = run.load_state()
    meta["counters"]["finished"] = False
    run.save_state(tensors, meta)
    run.folder.write_json("provenance.json", {k: v for k, v in run.provenance.items() if k != "finished"})
    assert train(phantoms, tmp_path / "run", *line, "--seed", "1") == 2
    assert "holds a run with another seed; repeat its command to go on with it" in capsys.readouterr().err
    for flags, name in (
        (("--method", "cyclegan"), "method"),
        (("--norm", "group"), "norm"),  # and the network with it
        (("--start", str(tmp_path / "run")), "start"),
        (("--scale", "0.5"), "scale"),
        (("--limit", "3"), "limit"),
    ):
        assert train(phantoms, tmp_path / "run", *line, *flags) == 2
        assert f"holds a run with another {name}; repeat its command" in capsys.readouterr().err


def test_a_black_image_is_left_out_with_a_warning(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for item in Dataset.open(phantoms).items:
        for part, source in (("images", item.image), ("masks", item.mask)):
            (data / part).mkdir(parents=True, exist_ok=True)
            (data / part / source.name).write_bytes(source.read_bytes())
        write_image(data / "images" / item.image.name, read_image(item.image) + 1)  # none of those of validation
    write_image(data / "images" / "black.png", np.zeros((1, 96, 96), np.uint8))
    write_labels(data / "masks" / "black.png", np.zeros((96, 96), np.int32))
    assert train(data, tmp_path / "run", "--steps", "1", "--validation", str(phantoms)) == 0
    assert "black.png: one grey value or NaN all over, left out of training" in capsys.readouterr().err
    assert "black" not in Run.open(tmp_path / "run").config["training_images"]


def test_a_fitting_scale_is_proposed(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(phantoms, tmp_path / "run", "--steps", "1", "--scale", "3") == 0
    assert "px across (median) at scale 3: --scale" in capsys.readouterr().err


def test_a_scale_is_proposed_in_terms_of_that_which_was_given() -> None:
    """With --stage both the first stage sees cells of half the size, at half of --scale."""
    (note,) = _proposed_scale(0.25, 20, 2)
    assert note.startswith("cells are 40 px across (median) at scale 0.5: --scale 0.2 would")
    assert _proposed_scale(0.25, 20, 2) == _proposed_scale(0.5, 40, 1) and _proposed_scale(0.25, 8, 2) == []


def test_the_first_of_two_stages_proposes_a_scale_for_both(
    tmp_path: Path, tiny_movie: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "movie", str(tiny_movie), "--out", str(tmp_path / "run"), *TINY, "--steps", "2"]
    assert main([*line, "--stage", "both", "--scale", "2"]) == 0
    said = [text for text in capsys.readouterr().err.splitlines() if "px across" in text]
    assert len(said) == 2 and said[0] == said[1] and "(median) at scale 2: --scale" in said[0]


@pytest.mark.slow
def test_processes_that_torchrun_has_started_train_as_one(phantoms: Path, tmp_path: Path) -> None:
    flags = [*TINY, "--precision", "float32", "--device", "cpu", "--steps", "3", "--set", "batch=2"]
    started = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "cytoforge",
        "train",
        "segmentation",
    ]
    done = subprocess.run(
        [sys.executable, *started, str(phantoms), "--out", str(tmp_path / "two"), *flags, "--devices", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("segmenter trained in 3 steps") == 1
    assert train(phantoms, tmp_path / "one", *flags) == 0
    one, two = (Run.open(tmp_path / name) for name in ("one", "two"))
    assert two.provenance["processes"] == 2
    losses = [[row["segmentation"] for row in run.metrics()] for run in (one, two)]
    assert len(losses[0]) == 3 and losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-6)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train segmentation {data} --out {file}", "is a file; give a folder to write the run into"),
        ("train segmentation {image} --out run", "is a single file; give the folder that holds images/ and masks/"),
        ("train segmentation {data} --out run --scale 0.01 --steps 1", "at --scale 0.01; give a larger scale"),
        ("segment {run} {data} --out {data}/masks", "lies among the masks of"),
        ("segment {run} {data} --out {file}", "is a file; give a folder to write masks/ into"),
        ("import {data} --network unet --out run", "is a folder; give the .pth file"),
    ],
)
def test_a_folder_in_the_wrong_place_is_refused(
    line: str,
    sentence: str,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert train(phantoms, tmp_path / "trained", "--steps", "1") == 0
    capsys.readouterr()
    places = {"data": phantoms, "file": "file", "image": phantoms / "images" / "p0.png", "run": "trained"}
    assert main(line.format(**places).split()) == 2
    assert sentence in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in (phantoms / "masks").iterdir()) == [f"p{seed}.png" for seed in range(4)]


def rewritten(phantoms: Path, out: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of a dataset with other masks."""
    shutil.copytree(phantoms / "images", out / "images")
    for item in Dataset.open(phantoms).items:
        write_labels(out / "masks" / f"{item.name}.png", change(Dataset.open(phantoms).read_labels(item)))
    return out


def test_masks_that_number_no_cells_are_refused(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rewritten(phantoms, tmp_path / "data", lambda labels: 255 * (labels > 0))
    classes = rewritten(phantoms, tmp_path / "classes", lambda labels: np.where(labels, 1, 2))
    for flags in ([], ["--target", "semantic", "--method", "cyclegan", "--condition", "instances"]):
        assert train(data, tmp_path / "run", "--steps", "1", *flags) == 2
        assert f"cytoforge: {data / 'masks' / 'p0.png'}: one value (255) for" in capsys.readouterr().err
    assert (
        main(["train", "generator", str(data), "--out", str(tmp_path / "run"), *TINY, "--condition", "instances"]) == 2
    )
    for target in ("boundary", "semantic"):
        assert train(classes, tmp_path / "run", "--steps", "1", "--target", target) == 2
        assert "its only values (1, 2)" in capsys.readouterr().err
    shutil.copy(phantoms / "masks" / "p0.png", data / "masks" / "p0.png")  # one that is right does not help the others
    assert train(data, tmp_path / "run", "--steps", "1") == 2
    assert f"{data / 'masks' / 'p1.png'}: one value (255)" in capsys.readouterr().err
    assert train(data, tmp_path / "run", "--steps", "1", "--target", "semantic") == 0
    other = tmp_path / "other"
    write_image(other / "images" / "q.png", 7 + read_image(phantoms / "images" / "p0.png"))
    write_labels(other / "masks" / "q.png", np.minimum(read_labels(phantoms / "masks" / "p0.png"), 1))
    assert train(phantoms, tmp_path / "run2", "--steps", "1", "--validation", str(other)) == 2
    assert f"{other / 'masks' / 'q.png'}: one value (1)" in capsys.readouterr().err


def test_images_to_train_on_are_none_for_validation(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same, recoded = tmp_path / "same", tmp_path / "recoded"
    for folder, name, file in ((same, "x.png", "p1"), (recoded, "y.tif", "p2")):
        image, labels = (read(phantoms / part / f"{file}.png") for part, read in READ.items())
        write_image(folder / "images" / name, image)
        write_labels(folder / "masks" / name, labels)
        assert train(phantoms, tmp_path / "run", "--steps", "1", "--validation", str(folder)) == 2
        said = capsys.readouterr().err
        assert f"{folder / 'images' / name}: is the same image as {phantoms / 'images' / f'{file}.png'}" in said
        assert not (tmp_path / "run").exists()
        write_image(folder / "images" / name, image + 1)
        assert train(phantoms, tmp_path / folder.name / "run", "--steps", "1", "--validation", str(folder)) == 0
    assert train(phantoms, tmp_path / "run", "--steps", "1", "--validation", str(phantoms)) == 2


def test_what_segment_finds_is_what_validation_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Limits of dataset.json count in both, from whichever folder of the dataset images are given."""
    for part, seeds in (("train", range(3)), ("val", range(50, 52))):
        for seed in seeds:
            image, labels = phantom(seed, (96, 96), 12)
            write_image(tmp_path / part / "images" / f"c{seed}.png", image[None])
            write_labels(tmp_path / part / "masks" / f"c{seed}.png", labels)
        write_json(tmp_path / part / "dataset.json", {"limits": [1500, 5000]})
    val, flags = tmp_path / "val", ["--steps", "150", "--scale", "1", "--precision", "float32"]
    assert train(tmp_path / "train", tmp_path / "run", *flags, "--validation", str(val)) == 0
    rows = csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    best = max(float(row["validation"]) for row in rows)
    assert best > 0.02
    for number, images in enumerate((val, val / "images")):
        out, scores = tmp_path / f"out{number}", tmp_path / f"{number}.json"
        same = ["--views", "1", "--precision", "float32"]  # as the training validates
        assert main(["segment", str(tmp_path / "run"), str(images), "--out", str(out), *same]) == 0
        assert main(["score", "segmentation", str(out), str(val), "--json", str(scores)]) == 0
        found = json.loads(scores.read_text())["mean"]["f_score"]
        assert np.mean([one["value"] for one in found]) == pytest.approx(best)
    write_json(val / "dataset.json", {"limits": [0, 60000]})
    assert main(["segment", str(tmp_path / "run"), str(val), "--out", str(tmp_path / "out0")]) == 2
    assert "other limits of dataset.json made these masks" in capsys.readouterr().err


def write_phantoms(folder: Path, seeds: range, *, binary: bool = True) -> Path:
    """Phantoms whose masks number the cells, or are 255 in all of them."""
    for seed in seeds:
        image, labels = phantom(seed, (96, 96), 12)
        write_image(folder / "images" / f"c{seed}.png", image[None])
        write_labels(folder / "masks" / f"c{seed}.png", 255 * (labels > 0) if binary else labels)
    return folder


CONNECTED = "masks have one value for all cells; each connected component is taken as one cell"


@pytest.mark.parametrize("binary", [True, False])
def test_two_classes_are_validated_by_the_papers_protocol(
    binary: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells that touch are one, in binary masks and in those that number them: here some do."""
    data, val = tmp_path / "train", tmp_path / "val"
    for folder, seeds in ((data, range(3)), (val, range(50, 52))):
        write_phantoms(folder, seeds, binary=binary)
    run, out, scores = tmp_path / "run", tmp_path / "out", tmp_path / "scores.json"
    flags = ["--target", "semantic", "--steps", "300", "--scale", "1", "--validation", str(val)]
    assert train(data, run, *flags, "--precision", "float32") == 0
    said = capsys.readouterr().err
    assert said.count(CONNECTED) == binary and "Not learned yet" not in said
    best = max(row["validation"] for row in Run.open(run).metrics())
    assert best > 0.2
    assert main(["segment", str(run), str(val), "--out", str(out), "--threads", "1"]) == 0

    def mean(protocol: str) -> float:
        line = ["score", "segmentation", str(out), str(val), "--protocol", protocol, "--json", str(scores)]
        assert main([*line, "--overwrite"]) == 0
        return float(np.mean([one["value"] for one in json.loads(scores.read_text())["mean"]["f_score"]]))

    assert mean("paper") == pytest.approx(best)
    if not binary:
        assert mean("instances") < 0.95 * best


def test_binary_masks_of_validation_alone_are_said_too(phantoms: Path, tmp_path: Path) -> None:
    val = write_phantoms(tmp_path / "val", range(50, 52))
    data = open_data(Data(path=phantoms, validation=val), 0, masks=Masks(binary=True))
    assert data.notes.count(f"{val}: {CONNECTED}") == 1 and not any(str(phantoms) in note for note in data.notes)
    for (_, _, labels), seed in zip(data.validation, (50, 51), strict=True):
        np.testing.assert_array_equal(labels, connected(phantom(seed, (96, 96), 12)[1]))
    both = open_data(Data(path=val), 0, masks=Masks(binary=True))
    np.testing.assert_array_equal(both.read(0)[1] > 0, phantom(int(both.names[0][1:]), (96, 96), 12)[1] > 0)
    assert both.read(0)[1].max() > 2 and both.notes.count(f"{val}: {CONNECTED}") == 1
    with pytest.raises(UserError, match=r"c50\.png: one value \(255\) for .*, or take another target$"):
        open_data(Data(path=val), 0, masks=Masks(otherwise="take another target"))


def test_a_run_of_one_size_segments_and_paints_at_any_size(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, found, painted = tmp_path / "run", tmp_path / "found", tmp_path / "painted"
    seen: list[tuple[int, ...]] = []
    flags = ("--method", "cyclegan", "--resize", "48x80", "--steps", "2", "--set", "crop=32x64")
    assert train(phantoms, run, *flags) == 0
    assert "--scale" not in capsys.readouterr().err  # no other scale is proposed
    stored = Run.open(run)
    assert stored.config["resize"] == [48, 80] == stored.config["training"]["data"]["resize"]
    assert stored.settings.scaling == (48, 80)
    data = open_data(Data(path=phantoms, resize=(48, 80)), 0)
    assert {image.shape for image, _ in map(data.read, range(3))} | {i.shape for _, i, _ in data.validation} == {
        (1, 48, 80)
    }
    for name, shape in (("wide", (60, 150)), ("high", (200, 70))):
        image, labels = phantom(7, shape, 12)
        write_image(tmp_path / "new" / "images" / f"{name}.png", image[None])
        write_labels(tmp_path / "new" / "masks" / f"{name}.png", labels)
    segmenter, network = Segmenter.load(run, threads=1), Segmenter.load(run, threads=1).network
    network.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[2:])))
    dataset = Dataset.open(tmp_path / "new").images()
    segment_dataset(dataclasses.replace(segmenter, network=network), dataset, found)
    assert set(seen) == {(48, 80)}
    sizes = {path.stem: read_labels(path).shape for path in (found / "masks").iterdir()}
    assert sizes == {"wide": (60, 150), "high": (200, 70)}
    line = ["generate", "images", str(run), str(tmp_path / "new"), "--out", str(painted), "--threads", "1"]
    assert main([*line, "--keep", "1"]) == 0
    for part, read in READ.items():
        assert {read(path).shape[-2:] for path in (painted / part).iterdir()} == {(48, 80)}
    array = ImageGenerator.load(run, threads=1).paint(read_labels(tmp_path / "new" / "masks" / "wide.png"))
    assert array.shape == (1, 1, 60, 150)  # in Python at the size of the mask, as with a scale
    capsys.readouterr()
    assert train(phantoms, tmp_path / "both", "--resize", "48x80", "--scale", "0.5", "--steps", "1") == 2
    assert "give --scale or --resize, not both" in capsys.readouterr().err
    assert train(phantoms, tmp_path / "small", "--resize", "12x80", "--steps", "1") == 2
    assert "has 12 x 80 px at this --resize; give more pixels" in capsys.readouterr().err
    assert train(phantoms, tmp_path / "words", "--resize", "48", "--steps", "1") == 2
    assert "--resize 48: must be written like 512x768" in capsys.readouterr().err


def test_a_training_starts_from_another_run(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(phantoms, first, "--steps", "3", "--scale", "1") == 0
    seen: list[bool] = []
    step = Conventional.step

    def watched(self: Conventional, *arguments: Any) -> Any:
        weights = Run.open(first).load_weights("segmenter")
        seen.append(all(torch.equal(weights[name], value) for name, value in self.segmenter.state_dict().items()))
        return step(self, *arguments)

    monkeypatch.setattr(Conventional, "step", watched)
    assert train(phantoms, second, "--steps", "2", "--start", str(first)) == 0
    assert seen == [True, False]  # the first step begins with the other run's weights
    fingerprint = Run.open(first).fingerprint("segmenter", ("target", "scale", "resize", "normalisation"))
    assert Run.open(second).provenance["started_from"] == {"segmenter": fingerprint}
    assert Run.open(first).provenance["started_from"] is None
    capsys.readouterr()
    for flag, words in (
        ("--target=semantic", "target depth there, semantic here: use --target depth"),
        ("--network=deepsea", "network unet there, deepsea here: use --network unet"),
        ("--preset=small", "width 8 there, 16 here: use --preset tiny"),
        ("--norm=group", "norm batch there, group here: use --norm batch"),
    ):
        assert train(phantoms, tmp_path / "third", "--steps", "1", "--scale", "1", "--start", str(first), flag) == 2
        said = capsys.readouterr().err
        assert said == f"cytoforge: {first}: --start needs a segmenter of the same kind; {words}\n"
    assert train(phantoms, tmp_path / "third", "--steps", "1", "--start", str(phantoms)) == 2
    assert not (tmp_path / "third").exists()


def test_a_start_at_another_scale_is_said_and_noted_once(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(phantoms, first, "--steps", "1", "--scale", "1") == 0
    note = f"{first}: was trained at --scale 1, and goes on at --scale 0.5: cells had another size in pixels there"
    flags = ("--steps", "2", "--start", str(first), "--scale", "0.5")
    assert train(phantoms, second, *flags) == 0
    assert note in capsys.readouterr().err
    run = Run.open(second)
    provenance = {key: value for key, value in run.provenance.items() if key != "finished"}
    run.folder.write_json("provenance.json", provenance)
    assert train(phantoms, second, *flags) == 0  # goes on
    assert sum(text.startswith(note) for text in run.provenance["notes"]) == 1
    capsys.readouterr()
    assert train(phantoms, tmp_path / "same", "--steps", "1", "--scale", "1", "--start", str(first)) == 0
    assert "was trained at" not in capsys.readouterr().err
    assert "notes" not in Run.open(tmp_path / "same").provenance


def test_what_no_flag_changes_is_said_when_starting() -> None:
    here = {
        "network": "unet",
        "in_channels": 1,
        "classes": 3,
        "width": 8,
        "depth": 3,
        "norm": "batch",
        "target": "boundary",
    }
    assert start_differences(here, here) == []
    assert start_differences({**here, "depth": 2}, here) == [
        "depth 2 there, 3 here: no flag changes that, train another one to start from"
    ]
    assert start_differences({**here, "in_channels": 3, "width": 9}, here) == [
        "width 9 there, 8 here: no preset has that, train another one to start from",
        "channels of images 3 there, 1 here: convert the images",
    ]


def test_a_training_starts_from_no_generator(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run.create(tmp_path / "painter", {"scale": 1.0, "networks": {"generator": {"network": "style-unet"}}})
    assert train(phantoms, tmp_path / "run", "--steps", "1", "--start", str(tmp_path / "painter")) == 2
    assert "--start needs a segmenter, and this run has none" in capsys.readouterr().err


def test_other_unlabelled_images_are_another_training(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    for seed in (11, 12):
        write_image(more / f"u{seed}.png", phantom(seed, (96, 96), 12)[0][None])
    flags = ["--method", "mean-teacher", "--unlabelled", str(more), "--steps", "2"]
    monkeypatch.setattr(Run, "finish", lambda run: None)  # as if it had been interrupted before its end
    assert train(phantoms, tmp_path / "run", *flags) == 0
    (more / "u12.png").unlink()
    capsys.readouterr()
    assert train(phantoms, tmp_path / "run", *flags) == 2
    assert "another unlabelled_images" in capsys.readouterr().err
