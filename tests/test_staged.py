"""One command goes from annotated images over a generator and painted cells to a segmenter, and on where it stopped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cytoforge.cli import main
from cytoforge.commands.train import specified
from cytoforge.data.dataset import INFO, Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.settings import TrainSegmentation
from cytoforge.simulation.phantom import phantom
from cytoforge.training.data import open_data
from cytoforge.training.hyperparameters import GENERATOR, SEGMENTATION
from cytoforge.training.recipes.networks import build_generator, build_segmenter
from cytoforge.training.tasks import staged
from cytoforge.training.tasks.staged import finished, simulate
from parity import vgg_state

pytestmark = pytest.mark.usefixtures("short_trainings")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    for seed in range(4):
        image, labels = phantom(seed, (96, 96), 12)
        write_image(folder / "images" / f"p{seed}.png", image[None])
        write_labels(folder / "masks" / f"p{seed}.png", labels)
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CYTOFORGE_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def begun(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was stopped before its last stage."""
    out = tmp_path_factory.mktemp("begun") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staged, "recognised", stop)
        assert train(phantoms, out) == 130
    return out


@pytest.fixture
def run_folder(begun: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(begun, tmp_path / "run")


def stop(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


def train(data: Path, out: Path, *flags: str) -> int:
    line = ["train", "segmentation", str(data), "--out", str(out), "--method", "two-stage"]
    return main([*line, "--preset", "tiny", "--threads", "1", "--steps", "10", "--synthetic-images", "6", *flags])


def trust(patch: pytest.MonkeyPatch, painted: float, real: float) -> None:
    """Let the first segmenter find these shares of the cells: after ten steps it finds none."""
    patch.setattr(staged, "recognised", lambda *_: painted)
    patch.setattr(staged, "recall", lambda *_: real)


def test_the_stages_share_one_budget_and_one_split(
    phantoms: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, 0.2, 0.4)
    assert train(phantoms, run_folder) == 0
    run, stages = Run.open(run_folder), run_folder / "stages"
    generator, first = Run.open(stages / "generator"), Run.open(stages / "first-segmenter")
    assert [stage.provenance["steps"] for stage in (generator, first, run)] == [4, 2, 4]  # 45, 15 and 40 % of ten
    assert generator.config["condition"] == "instances"
    for stage in (generator, first):
        assert stage.config["validation_images"] == run.config["validation_images"]
    painted = Dataset.open(stages / "synthetic").pairs()
    assert len(painted.items) == 6
    assert run.provenance["synthetic_data"] == painted.fingerprint()
    assert run.provenance["started_from"] is None
    assert run.config["training"]["data"]["synthetic"]["path"] == str(stages / "synthetic")
    assert first.config["training"]["data"]["synthetic"] is None
    assert first.config["training_images"] == run.config["training_images"] and len(run.config["training_images"]) == 3
    assert generator.config["training_images"] == run.config["training_images"]
    assert len(Dataset.open(stages / "masks", holds="masks").masks().items) == 4  # of 8 paintings 6 are kept
    kept = [stage.load_weights("segmenter") for stage in (first, run)]
    described = run.config["networks"]["segmenter"]
    for weights in kept:
        begun = build_segmenter(described, seed=0).state_dict()
        moved = [not torch.equal(weights[name], begun[name]) for name in weights if name.endswith("weight")]
        assert all(moved) and moved  # both have learned from the weights of the seed
    assert not any(torch.equal(kept[0][name], kept[1][name]) for name in kept[0] if name.endswith("weight"))
    begun = build_generator(generator.config["networks"]["generator"], seed=0).state_dict()
    weights = generator.load_weights("generator")
    assert not all(torch.equal(weights[name], begun[name]) for name in begun)
    assert set(run.config["networks"]) == {"segmenter"}
    settings = json.loads((stages / "settings.json").read_text())
    assert settings["budget"]["steps"] == 10 and settings["data"]["path"] == str(phantoms)
    assert settings["Segmentation"] == run.config["parameters"]
    assert settings["Generator"] == generator.config["parameters"]
    assert settings["Segmentation"]["crop"] == list(SEGMENTATION["tiny"].crop)
    assert settings["Generator"]["background"] == GENERATOR["tiny"].background == "real"


def test_paintings_that_the_first_segmenter_does_not_recognise_are_left_out(
    phantoms: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trust(monkeypatch, 0.19, 0.4)
    assert train(phantoms, run_folder) == 0
    run = Run.open(run_folder)
    first = Run.open(run_folder / "stages" / "first-segmenter")
    assert run.provenance["synthetic_data"] is None
    fingerprint = first.fingerprint("segmenter", ("target", "scale", "resize", "normalisation"))
    assert run.provenance["started_from"] == {"segmenter": fingerprint}
    sentence = "finds 19% of the painted cells and 40% of the real ones of validation: the painted images were left out"
    assert sentence in capsys.readouterr().err
    assert sentence in run.provenance["notes"][-1]


def test_a_first_segmenter_that_finds_nothing_vouches_for_nothing(
    phantoms: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(phantoms, run_folder) == 0
    assert Run.open(run_folder).provenance["synthetic_data"] is None
    training = specified(TrainSegmentation(data=phantoms, out=run_folder, preset="tiny"))
    first = run_folder / "stages" / "first-segmenter"
    assert staged.recall(training, first) == 0
    truth = {image.tobytes(): labels for _, image, labels in open_data(training.data, training.seed).validation}
    monkeypatch.setattr(staged, "segment_array", lambda network, image, target, tile: truth[image.tobytes()])
    assert staged.recall(training, first) == 1


def test_recognition_is_the_mean_over_the_images_that_were_kept(tmp_path: Path) -> None:
    def written(faithfulness: dict[str, float | None]) -> float:
        write_json(tmp_path / INFO, {"curation": {"faithfulness": faithfulness, "dropped": ["c"]}})
        return staged.recognised(tmp_path)

    assert written({"a": 0.2, "b": 0.6, "c": 0.0, "empty": None}) == pytest.approx(0.4)
    assert written({"c": 0.5, "empty": None}) == 0


def test_it_goes_on_stage_by_stage(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    out = tmp_path / "run"
    for name, done in (("simulate", "first-segmenter"), ("generate_images", "masks")):
        with monkeypatch.context() as patch:
            patch.setattr(staged, name, stop)
            assert train(phantoms, out) == 130
        assert finished(out / "stages" / done)
    weights = (out / "stages" / "generator" / "weights" / "generator.safetensors").stat().st_mtime_ns
    assert train(phantoms, out, "--seed", "1") == 2
    assert "holds a run with another seed" in capsys.readouterr().err
    assert train(phantoms, out) == 0
    assert (out / "stages" / "generator" / "weights" / "generator.safetensors").stat().st_mtime_ns == weights
    assert train(phantoms, out) == 2
    assert "holds results already" in capsys.readouterr().err
    assert train(phantoms, out, "--overwrite") == 0
    assert (out / "stages" / "generator" / "weights" / "generator.safetensors").stat().st_mtime_ns != weights


def test_a_folder_with_something_else_is_refused_before_any_work(phantoms: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert train(phantoms, tmp_path) == 2
    assert "holds notes.txt and is no run folder" in capsys.readouterr().err
    assert not (tmp_path / "stages").exists()
    (tmp_path / "mine" / "stages").mkdir(parents=True)
    assert train(phantoms, tmp_path / "mine", "--overwrite") == 2
    assert "was there before; choose another --out" in capsys.readouterr().err
    assert train(phantoms, tmp_path / "run", "--devices", "2") == 2
    assert "trains on one device" in capsys.readouterr().err


def test_simulated_cells_are_those_of_training_images_and_denser(phantoms: Path, tmp_path: Path) -> None:
    training = specified(TrainSegmentation(data=phantoms, out=tmp_path / "run", method="two-stage", scale=0.5))
    simulate(training, tmp_path / "masks", 4)
    masks = Dataset.open(tmp_path / "masks", holds="masks").masks()
    labels = [masks.read_labels(item) for item in masks.items]
    assert [one.shape for one in labels] == [(48, 48)] * 4
    real = np.mean([phantom(seed, (96, 96), 12)[1] > 0 for seed in range(4)])
    assert 0.8 * real < np.mean([one > 0 for one in labels]) < 2.2 * real
    sizes = np.concatenate([np.unique(one, return_counts=True)[1][1:] for one in labels])
    whole = np.concatenate([np.unique(phantom(s, (96, 96), 12)[1], return_counts=True)[1][1:] for s in range(4)])
    assert np.median(sizes) == pytest.approx(np.median(whole) / 4, rel=0.4)  # half as long and wide
    simulate(training, tmp_path / "again", 4)
    for name in ("simulated0000", "simulated0003"):
        assert (tmp_path / "again/masks" / f"{name}.png").read_bytes() == (
            tmp_path / "masks/masks" / f"{name}.png"
        ).read_bytes()


def test_simulated_cells_have_the_size_that_all_images_are_resized_to(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "LONGEST", 32)  # bounds the sides of masks at a scale, not those that are asked for
    training = specified(TrainSegmentation(data=phantoms, out=tmp_path / "run", method="two-stage", resize="48x80"))
    simulate(training, tmp_path / "masks", 3)
    masks = Dataset.open(tmp_path / "masks", holds="masks").masks()
    assert [masks.read_labels(item).shape for item in masks.items] == [(48, 80)] * 3
    whole = np.concatenate([np.unique(phantom(s, (96, 96), 12)[1], return_counts=True)[1][1:] for s in range(4)])
    sizes = np.concatenate([np.unique(masks.read_labels(item), return_counts=True)[1][1:] for item in masks.items])
    assert 0.4 < np.median(sizes) / (np.median(whole) * 48 * 80 / 96**2) < 1.4  # some are cut by the edge


def test_what_is_asked_of_paintings_reaches_the_generator(phantoms: Path, tmp_path: Path) -> None:
    """Flags of painting are the generator's: of both segmenters none of them is a hyperparameter."""
    flags = ("--perceptual", "vgg", "--p-diff", "0.9", "--style-mixing", "0.4", "--no-attention", "--norm", "group")
    weights = tmp_path / "weights"
    weights.mkdir()
    save_file(vgg_state(10), weights / "vgg19_to_relu3_1.safetensors")
    assert train(phantoms, tmp_path / "run", *flags, "--weights-dir", str(weights), "--condition", "mask") == 0
    generator = Run.open(tmp_path / "run" / "stages" / "generator").config
    asked = {"perceptual": "vgg", "p_diff": 0.9, "style_mixing": 0.4, "heads": 0, "norm": "group", "condition": "mask"}
    assert {name: generator["parameters"][name] for name in asked} == asked
    assert generator["perceptual"] == "VGG-19"  # which was found in the folder
    assert generator["condition"] == "mask"


def test_weights_that_are_not_there_are_missed_by_the_first_stage(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(phantoms, tmp_path / "run", "--perceptual", "vgg", "--weights-dir", str(tmp_path)) == 2
    assert f"which {tmp_path} does not hold" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "name"), [(["--p-diff", "0.3"], "p_diff"), (["--set", "rate=1e-3"], "rate")])
def test_stages_go_on_with_the_same_hyperparameters_alone(
    flag: list[str], name: str, phantoms: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert train(phantoms, run_folder, *flag) == 2
    assert f"holds a run with another {name}; repeat its command" in capsys.readouterr().err
