"""Studies, at their smallest: what they measure, on what, once only; and what they refuse."""

import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from cytoforge.cli import FAULT, main
from cytoforge.commands import study as study_commands
from cytoforge.commands.study import open_folder, study_dense
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import read_json, write_json
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.ownership import OutputFolder
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import morphology
from cytoforge.networks.features import VGG19Features
from cytoforge.settings import StudyDense, StudyTraining, StudyVersatility
from cytoforge.simulation.phantom import phantom
from cytoforge.studies.datasets import open_all, split_test, subset, write_crops
from cytoforge.studies.division import Measuring
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measure import generators, segmenters, trainings
from cytoforge.studies.measurements import ImageScores, SegmenterScores
from cytoforge.studies.present.generators import PICTURED_IMAGES
from cytoforge.studies.specification import AblationStudy, DenseStudy, Study
from cytoforge.training import specification
from cytoforge.training.hyperparameters import CYCLE_GAN, SEGMENTATION
from cytoforge.training.tasks import staged
from cytoforge.training.tasks.generator import GeneratorTask
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import feature_network
from parity import vgg_state

pytestmark = pytest.mark.usefixtures("short_trainings")

TINY = "--preset tiny --minutes 0.002 --threads 1 --test-share 0.34"
FLAGS = {
    "training": "--seeds 2 --images 2 --networks unet --clock processor",
    "dense": "--seeds 2 --images 3 --synthetic-images 3",
    "limited-data": "--seeds 1 --scale 1 --crops 1 2 --crop 80 --images 2 --methods paper scratch two-stage "
    "--synthetic-images 3",
    "ablation": "--seeds 1 --images 3",
    "versatility": "--seeds 1",
    "extrapolation": "--seeds 1 --densities 0.1 0.3 --count 2",
}
Run = Callable[[str], Path]
Asked = dict[str, list[tuple[Any, specification.Training]]]


def write_phantoms(folder: Path, seeds: range) -> Path:
    for seed in seeds:
        image, labels = phantom(seed, (96, 96), 6 + 3 * (seed % 3))
        write_image(folder / "images" / f"p{seed}.png", image[None])
        write_labels(folder / "masks" / f"p{seed}.png", labels)
    return folder


def study(kind: str, data: Path, out: Path, *flags: str) -> int:
    given = [*TINY.split(), *FLAGS[kind].split(), *flags]
    more = [str(data.with_name("others"))] if kind == "versatility" else []
    return main(["study", kind, str(data), *more, "--out", str(out), *given])


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantoms(folder / "others", range(10, 14))
    return write_phantoms(folder / "phantoms", range(6))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CYTOFORGE_WEIGHTS", raising=False)
        yield


@pytest.fixture(scope="module")
def asked() -> Asked:
    """The trainings, by kind of study, that were asked for while `run` ran it."""
    return {}


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory, asked: Asked) -> Run:
    """Return the folder of a finished study of a kind; it runs for the first test that asks for it."""
    done: dict[str, Path] = {}
    train = trainings.run_task

    def finished(kind: str) -> Path:
        def record(task: Any, training: specification.Training) -> Any:
            asked.setdefault(kind, []).append((task, training))
            return train(task, training)

        if kind not in done:
            out = tmp_path_factory.mktemp(kind) / "study"
            (out.parent / "weights").mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(trainings, "run_task", record)
                patch.setattr(staged, "run_task", record)
                assert study(kind, phantoms, out, "--weights-dir", str(out.parent / "weights"), "--seed", "0") == 0
            done[kind] = out
        return done[kind]

    return finished


def forbid(patch: pytest.MonkeyPatch) -> None:
    """From here on nothing can be trained, segmented, painted or scored."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("this was measured before")

    for place, name in (
        (trainings, "run_task"),
        (trainings, "train_two_stage"),
        (trainings, "segment_dataset"),
        (segmenters, "score_masks"),
        (generators, "generate_images"),
        (generators, "simulate_masks"),
        (generators, "score_images"),
    ):
        patch.setattr(place, name, refuse)


def configs(folder: Path) -> dict[str, dict[str, Any]]:
    """config.json of all runs of a study, those of stages too, by their place."""
    found = sorted((folder / "runs").rglob("config.json"))
    return {file.parent.relative_to(folder / "runs").as_posix(): read_json(file) for file in found}


def names(folder: Path) -> set[str]:
    return {item.name for item in Dataset.open(folder).items}


@pytest.mark.parametrize("kind", FLAGS)
def test_a_study_is_written_once_and_the_same_command_measures_nothing(
    kind: str, run: Run, phantoms: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(kind)
    forbid(monkeypatch)
    results, page = read_json(out / "results.json"), (out / "report.html").read_text()
    assert (results["study"], results["settings"]["minutes"]) == (kind, 0.002)
    for cell in (cell for row in results["rows"] for cell in row.values()):
        assert isinstance(cell, str | int | float | None) or list(cell) == ["value", "low", "high", "images"]
    assert "data:image/png;base64," in page
    (out / "report.html").unlink()
    capsys.readouterr()
    assert study(kind, phantoms, out) == 0
    assert read_json(out / "results.json") == results
    assert (out / "report.html").read_text() == page
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"{out / 'report.html'}: tables, figures and pictures"
    starts = [found.start() for found in re.finditer(r"(?<=  )\S", header)]  # columns are aligned
    assert len(lines) == len(results["rows"])
    assert all(line[start - 2 : start].strip() == "" for line in lines for start in starts)


@pytest.mark.parametrize("kind", FLAGS)
def test_what_is_divided_is_all_that_is_measured(
    kind: str, run: Run, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of what the parts of a study measure are those of the study, and their names those of the last."""
    out, found = run(kind), list[str]()
    once, share = StudyFolder.once, study_commands.measure_share

    def recorded(self: StudyFolder, name: str, *arguments: Any) -> Any:
        found.append(name)
        return once(self, name, *arguments)

    def measured(measuring: Measuring[Any, Any], opened: Any, engine: Any) -> Any:
        for name, measure in measuring.plan(measuring.study, opened, measuring.folder).items():
            measure()
            assert found[-1] == name
        assert sorted(found) == sorted(file.stem for file in (out / "results").iterdir())
        return share(measuring, opened, engine)

    forbid(monkeypatch)
    monkeypatch.setattr(StudyFolder, "once", recorded)
    monkeypatch.setattr(study_commands, "measure_share", measured)
    assert study(kind, phantoms, out, "--part", "2/2") == 0
    assert found


@pytest.mark.parametrize("kind", FLAGS)
def test_nothing_is_trained_on_test_images(kind: str, run: Run) -> None:
    out = run(kind)
    trained = 0
    for data in sorted((out / "data").glob("*-[01]")):
        if not (data / "test").is_dir():
            continue  # crops and simulated masks
        dataset, _, seed = data.name.rpartition("-")
        test = names(data / "test")
        assert len(test) >= 1 and not test & names(data / "train")
        for place, config in configs(out).items():
            own = dataset in place.split("/")[0] or kind != "versatility"
            if own and place.split("/")[0].endswith(f"-{seed}"):
                used = {*config["training_images"], *config["validation_images"]}
                assert used and not test & used, place
                trained += 1
    assert trained == len(configs(out))


def test_seeds_draw_other_images(run: Run) -> None:
    data = run("training") / "data"
    assert names(data / "phantoms-0" / "test") != names(data / "phantoms-1" / "test")
    records = {file.stem: read_json(file) for file in (run("training") / "results").glob("*.json")}
    assert len(records) == 6
    few = [set(records[f"phantoms-unet-conventional-2-images-{seed}"]["trained_on"]) for seed in (0, 1)]
    assert few[0] != few[1]
    for seed in (0, 1):
        same = records[f"phantoms-unet-cyclegan-2-images-{seed}"]
        assert set(same["trained_on"]) == few[seed] and len(few[seed]) == 2
        whole = records[f"phantoms-unet-conventional-all-images-{seed}"]
        assert set(whole["trained_on"]) == names(data / f"phantoms-{seed}" / "train")
        assert same["images"].keys() == whole["images"].keys() == names(data / f"phantoms-{seed}" / "test")


def test_ways_of_training_are_those_of_the_table(run: Run) -> None:
    found = configs(run("training"))
    assert found["phantoms-unet-cyclegan-2-images-0"]["method"] == "cyclegan"
    assert found["phantoms-unet-cyclegan-2-images-0"]["parameters"]["warm_start"] == 0.7
    assert {config["training"]["budget"]["clock"] for config in found.values()} == {"processor"}
    out = run("dense")
    found = configs(out)
    # a first segmenter of so short a training recognises no painted cell: the last has its weights and real images
    assert found["two-stage-0"]["start"] == str(out / "runs/two-stage-0/stages/first-segmenter")
    assert found["two-stage-0"]["training"]["data"]["synthetic"] is None
    assert (out / "runs/two-stage-0/stages/synthetic/dataset.json").exists()
    assert found["two-stage-0/stages/generator"]["condition"] == "instances"
    assert found["conventional-0"]["training"]["data"]["synthetic"] is None
    for seed in (0, 1):
        control, two = (read_json(out / "results" / f"{way}-{seed}.json") for way in ("control", "two-stage"))
        assert found[f"control-{seed}"]["training"]["budget"]["steps"] == control["steps"] == two["steps"]
        assert control["trained_on"] == two["trained_on"]


TERMS = (
    "--network deepsea --target semantic --augmentation paper --protocol paper instances --epochs 1 --until-converged "
    "--resize 48x64"
)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("ablation", "versatility"))) for kind in FLAGS]
)
def test_terms_reach_every_training(kind: str, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, specification.Training]] = []
    train = trainings.run_task

    def record(task: Any, training: specification.Training) -> Any:
        asked.append((task, training))
        return train(task, training)

    monkeypatch.setattr(trainings, "run_task", record)
    monkeypatch.setattr(staged, "run_task", record)
    own = {
        "training": "--networks deepsea --images 3",
        "dense": "--images 3 --synthetic-images 3",
        "limited-data": "--crops 1 --crop 80 --images --methods paper two-stage --synthetic-images 3",
        "ablation": "--images 3",
        "versatility": "--images 3",
        "extrapolation": "--images 3 --densities 0.2 --count 1",
    }[kind]
    given = TERMS if kind != "training" else TERMS.removeprefix("--network deepsea ")
    others = [str(phantoms.with_name("others"))] if kind == "versatility" else []
    line = ["study", kind, str(phantoms), *others, "--out", str(tmp_path / "out"), "--seeds", "1", *given.split()]
    assert main([*line, *own.split(), "--preset", "tiny", "--threads", "1", "--test-share", "0.34"]) == 0
    assert {type(task) for task, _ in asked} == (
        {SegmentationTask} if kind == "training" else {SegmentationTask, GeneratorTask}
    )
    crops = kind == "limited-data"
    for task, training in asked:
        place, config = training.output.path, read_json(training.output.path / "config.json")
        assert (training.data.resize, config["resize"]) == ((48, 64), [48, 64])
        control = place.name.startswith("control")
        expected = specification.Budget(steps=training.budget.steps) if control else specification.Budget(
            epochs=1, until_converged=True)  # fmt: skip
        assert training.budget == expected and not task.parameters.anneal
        every = kind == "training" and "all-images" in place.name
        assert training.data.limit == (None if crops or every else 3)
        if isinstance(task, SegmentationTask):
            values = task.parameters
            assert (values.network, values.target, values.augmentation) == ("deepsea", "semantic", "paper")
            assert config["networks"]["segmenter"]["network"] == "deepsea" and config["target"] == "semantic"
        steps = read_json(place / "provenance.json")["steps"]
        assert steps == (training.budget.steps if control else len(config["training_images"]))
    if kind in ("training", "dense", "limited-data"):
        rows = read_json(tmp_path / "out" / "results.json")["rows"]
        half = [row["protocol"] for row in rows[: 3 if kind != "training" else len(rows)]]
        assert {row["protocol"] for row in rows} == {"paper", "instances"} and half[0] == "paper"
        for record_ in (read_json(file) for file in (tmp_path / "out" / "results").glob("*.json")):
            assert record_["images"].keys() == record_["paper"].keys() != set()


def test_of_the_paper_generators_see_whole_images_and_keep_their_rates(phantoms: Path, tmp_path: Path) -> None:
    given = {"data": (phantoms,), "preset": "paper", "resize": (256, 384)}
    for until in (False, True):
        wanted = DenseStudy(**given, budget=specification.Budget(steps=9, until_converged=until))
        for parameters in (
            generators.base_parameters(wanted),
            trainings.on_terms(SEGMENTATION["paper"], wanted),
            trainings.on_terms(CYCLE_GAN["paper"], wanted, "cellpose"),
        ):
            assert parameters.crop == (256, 384) and not parameters.anneal
        assert trainings.on_terms(CYCLE_GAN["paper"], wanted, "cellpose").network == "cellpose"
        small = replace(wanted, preset="small")
        for parameters in (generators.base_parameters(small), trainings.on_terms(SEGMENTATION["small"], small)):
            assert parameters.crop == (128, 128) and parameters.anneal is not until


@pytest.mark.parametrize("kind", FLAGS)
def test_flags_reach_every_training(kind: str, run: Run, asked: Asked) -> None:
    out = run(kind)
    assert asked[kind]
    for _, training in asked[kind]:
        assert (training.compute.weights_dir, training.compute.threads) == (out.parent / "weights", 1)
        stage = training.output.path.parent.name == "stages"
        seconds = training.budget.seconds
        assert seconds is None or (0 < seconds < 0.12 if stage else seconds <= 0.12)
        assert training.budget.clock == ("processor" if kind == "training" else "wall")


def test_weights_reach_the_generator_of_the_dense_study(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, specification.Training]] = []

    def record(task: Any, training: specification.Training) -> None:
        asked.append((task, training))
        raise KeyboardInterrupt

    def scores(folder: Any, study: Any, method: Any, training: specification.Training, test: Path) -> SegmenterScores:
        if training.output.path.name == "two-stage-0":
            method(training)
        return SegmenterScores(steps=1, images={})

    weights = tmp_path / "weights"
    weights.mkdir()
    save_file(vgg_state(10), weights / "vgg19_to_relu3_1.safetensors")
    monkeypatch.setattr(segmenters, "segmenter_scores", scores)
    monkeypatch.setattr(staged, "run_task", record)
    flags = ("--preset", "paper", "--weights-dir", str(weights), "--condition", "mask")
    assert study("dense", phantoms, tmp_path / "out", *flags) == 130
    ((task, training),) = asked
    assert isinstance(task, GeneratorTask) and training.compute.weights_dir == weights
    assert task.parameters.condition == "mask"
    assert isinstance(feature_network(task.parameters, training.compute.weights_dir), VGG19Features)


def test_hard_images_are_the_half_that_touches_more(run: Run) -> None:
    out = run("dense")
    results = read_json(out / "results.json")
    touching = results["touching"]
    tests = {
        name: out / "data" / f"phantoms-{seed}" / "test"
        for seed in (0, 1)
        for name in read_json(out / "data" / f"phantoms-{seed}" / "test" / "study-items.json")["items"]
    }
    assert touching.keys() == tests.keys()
    for name, folder in tests.items():
        assert touching[name] == morphology(read_labels(folder / "masks" / f"{name}.png")).touching
    counts = {row["test images"]: row["images"] for row in results["rows"]}
    assert counts == {"all": len(tests), "easy": len(tests) // 2, "hard": len(tests) - len(tests) // 2}
    hard = sorted(tests, key=lambda name: (touching[name], name))[len(tests) // 2 :]
    records = [read_json(out / "results" / f"conventional-{seed}.json") for seed in (0, 1)]
    scores = [r["images"][name]["dice"] for r in records for name in hard if name in r["images"]]
    assert len(scores) >= len(hard)  # an image may be drawn by both seeds
    row = next(row for row in results["rows"] if (row["test images"], row["training"]) == ("hard", "conventional"))
    assert row["F at IoU 0.5"]["images"] == len(hard)


def test_a_single_test_image_is_hard(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ImageScores(f_score=[0.5] * 5, precision=[1.0] * 5, recall=[0.5] * 5, dice=0.5)
    scores = SegmenterScores(steps=1, images={"p10": image}, paper={"p10": image})
    monkeypatch.setattr(segmenters, "segmenter_scores", lambda *arguments: scores)
    shutil.copytree(write_phantoms(tmp_path / "one", range(10, 11)), tmp_path / "test")
    study_dense(StudyDense((phantoms,), tmp_path / "out", test=tmp_path / "test"))
    rows = read_json(tmp_path / "out" / "results.json")["rows"]
    assert [row["test images"] for row in rows] == ["all"] * 6 + ["hard"] * 6
    assert [row["protocol"] for row in rows[:6]] == ["instances"] * 3 + ["paper"] * 3
    assert rows[0]["F at IoU 0.5"] == {"value": 0.5, "low": None, "high": None, "images": 1}


def test_crops_are_nested_and_hold_cells(run: Run, phantoms: Path, tmp_path: Path) -> None:
    data = run("limited-data") / "data"
    one, two = data / "crops-1-0", data / "crops-2-0"
    assert (len(names(one)), len(names(two))) == (1, 2)
    for file in one.glob("*/*.tif"):
        assert file.read_bytes() == (two / file.parent.name / file.name).read_bytes()
    for item in Dataset.open(two).items:
        image, labels = read_image(item.image), read_labels(item.mask)
        assert image.shape[1:] == labels.shape == (80, 80) and labels.any()
        whole = read_image(phantoms / "images" / f"{item.name}.png")[0]
        windows = np.lib.stride_tricks.sliding_window_view(whole, (80, 80))
        assert (windows == image[0]).all(axis=(2, 3)).any()
    drawn = {tuple(names(write_crops(Dataset.open(phantoms), tmp_path / f"{seed}", 1, 80, seed))) for seed in range(5)}
    assert len(drawn) > 1


def test_crops_pass_over_images_without_cells_and_count_pixels_at_scale(tmp_path: Path) -> None:
    data = write_phantoms(tmp_path / "data", range(2))
    for number in range(6):
        write_image(data / "images" / f"empty{number}.png", read_image(data / "images" / "p0.png"))
        write_labels(data / "masks" / f"empty{number}.png", np.zeros((96, 96), np.int32))
    crops = write_crops(Dataset.open(data), tmp_path / "crops", 2, 48, 0)
    assert names(crops) == {"p0", "p1"}
    assert {read_labels(file).shape for file in (crops / "masks").iterdir()} == {(48, 48)}
    line = ["study", "limited-data", str(data), "--out", str(tmp_path / "out"), "--crops", "2", "3", "--crop", "32"]
    assert (
        main([*line, "--scale", "0.5", "--seeds", "1", "--test", str(write_phantoms(tmp_path / "test", range(5, 6)))])
        == 2
    )
    at_scale = tmp_path / "out" / "data" / "crops-2-0" / "masks"
    assert {read_labels(file).shape for file in at_scale.iterdir()} == {(64, 64)}
    assert not (tmp_path / "out" / "runs").exists()  # before any training


def test_the_ablation_trains_what_it_says(run: Run) -> None:
    out = run("ablation")
    found = configs(out)
    unet, style = found["1-0"], found["2-0"]
    assert (unet["parameters"]["network"], unet["parameters"]["perceptual"]) == ("unet", "none")
    assert (style["parameters"]["network"], style["parameters"]["perceptual"]) == ("style-unet", "none")
    assert unet["perceptual"] is style["perceptual"] is None
    shown = read_json(out / "results.json")["rows"]
    rows, lacking = [row for row in shown if "note" not in row], [row for row in shown if "note" in row]
    (left,) = lacking  # its weights are not there
    assert left["generator"] == "StyleUNet, L1 + VGG-19"
    assert left["note"] == f"not trained: {generators.left_out_arms(AblationStudy(data=()))[left['generator']]}"
    assert "weights fetch vgg19" in left["note"] and left["note"] in (out / "report.html").read_text().replace(
        f"{left['generator']}: not trained; ", "not trained: ")  # fmt: skip
    numbers = {row["generator"]: list(generators.ARMS).index(row["generator"]) + 1 for row in rows}
    assert set(numbers.values()) == {1, 2, 4, 5, 6}
    assert {f"{number}-0" for number in numbers.values()} | {"reference-segmenter-0"} == found.keys()
    for number in set(numbers.values()) - {1, 2}:
        assert found[f"{number}-0"]["parameters"]["network"] == "style-unet"
        assert found[f"{number}-0"]["parameters"]["perceptual"] != "none"
        assert found[f"{number}-0"]["perceptual"]
    arms = [found[f"{number}-0"] for number in sorted(numbers.values())]
    assert [arm["condition"] for arm in arms] == ["mask"] * (len(arms) - 2) + ["instances"] * 2
    residual = [arm["networks"]["generator"].get("residual", False) for arm in arms]
    assert residual == [False] * (len(arms) - 1) + [True]  # on real backgrounds
    for config in found.values():
        assert len(config["training_images"] + config["validation_images"]) == 3
    columns = set(rows[0])
    assert {"SSIM", "PSNR", "faithfulness"} <= columns and not columns & {"KID", "FID", "LPIPS"}  # no weights here
    made = names(out / "data" / "phantoms-0" / "test")
    assert all(names(out / "work" / f"{number}-0") == made for number in numbers.values())


def test_versatility_has_a_generator_for_each_data_set(run: Run) -> None:
    out = run("versatility")
    assert configs(out).keys() == {
        f"{name}{kind}-0" for name in ("phantoms", "others") for kind in ("", "-reference-segmenter")
    }
    assert [row["data"] for row in read_json(out / "results.json")["rows"]] == ["phantoms", "others"]
    assert names(out / "work" / "others-0") == names(out / "data" / "others-0" / "test")


def test_data_of_one_name_are_told_apart_by_the_folder_above(phantoms: Path, tmp_path: Path) -> None:
    for name in ("cells", "nuclei"):
        write_phantoms(tmp_path / name / "train", range(3))
    data = (tmp_path / "cells" / "train", tmp_path / "nuclei" / "train", phantoms)
    wanted = Study(data=data)
    datasets = open_all(wanted)
    assert list(datasets) == ["cells-train", "nuclei-train", "phantoms"]
    folder = StudyFolder.open("versatility", tmp_path / "study", {})
    for name, dataset in datasets.items():
        for part in subset(folder, wanted, name, dataset, seed=0):
            assert part.parent == tmp_path / "study" / "data" / f"{name}-0"
    with pytest.raises(UserError, match="several DATA have one name and lie in folders of one name; rename one"):
        StudyVersatility(data=(data[0], data[0]), out=tmp_path)


def test_extrapolation_tells_faithfulness_without_weights(run: Run) -> None:
    out = run("extrapolation")
    rows = read_json(out / "results.json")["rows"]
    assert [(row["layout"], row["share of cell"]) for row in rows] == [
        (layout, share) for layout in ("scattered", "colony") for share in (0.1, 0.3)
    ]
    for row in rows:
        assert row.keys() == {"layout", "share of cell", "reached", "faithfulness"}
        assert 0 <= row["faithfulness"]["value"] <= 1
        masks = [
            read_labels(file) for file in (out / "data").glob(f"{row['layout']}-{row['share of cell']:g}-0/masks/*")
        ]
        assert row["reached"] == pytest.approx(np.mean([labels > 0 for labels in masks]))
        assert row["reached"] == pytest.approx(row["share of cell"], abs=0.05)
    assert {file.stem for file in (out / "pictures").iterdir()} == {"scattered", "colony"}


@pytest.mark.parametrize("kind", ["ablation", "versatility"])
def test_pictures_show_mask_image_and_paintings(kind: str, run: Run) -> None:
    out = run(kind)
    paintings = sum("note" not in row for row in read_json(out / "results.json")["rows"]) if kind == "ablation" else 1
    pictures = sorted((out / "pictures").iterdir())
    assert [file.stem for file in pictures] == {"ablation": ["ablation"], "versatility": ["others", "phantoms"]}[kind]
    for file in pictures:
        folder = "phantoms-0" if kind == "ablation" else f"{file.stem}-0"
        count = len(names(out / "data" / folder / "test"))
        assert read_image(file).shape == (3, 96 * min(count, PICTURED_IMAGES), 96 * (2 + paintings))


def test_an_interrupted_study_goes_on(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    out, trained = tmp_path / "study", []

    def stop_at_the_third(train: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*arguments: Any) -> Any:
            (training,) = (one for one in arguments if isinstance(one, specification.Training))
            place = training.output.path
            trained.append(place.name)
            if len(trained) == 3:
                OutputFolder(place, "train").write_json("provenance.json", {})  # what a kill before config.json leaves
                raise KeyboardInterrupt
            return train(*arguments)

        return begin

    with monkeypatch.context() as patch:
        for name in ("run_task", "train_two_stage"):
            patch.setattr(trainings, name, stop_at_the_third(getattr(trainings, name)))
        assert study("dense", phantoms, out, "--seeds", "1") == 130
    assert trained == ["conventional-0", "two-stage-0", "control-0"]
    (out / "results" / "two-stage-0.json").unlink()  # as if stopped after the training, before the scores
    shutil.rmtree(out / "work" / "two-stage-0")
    OutputFolder(out, "study")._append({"name": "results.json"})
    (out / ".results.json.part").write_text("{")  # what a kill in the middle of a write leaves
    before = {name: (out / "runs" / name / "provenance.json").read_text() for name in trained[:2]}
    assert study("dense", phantoms, out, "--seeds", "1") == 0
    assert before == {name: (out / "runs" / name / "provenance.json").read_text() for name in trained[:2]}
    rows, others = (read_json(folder / "results.json")["rows"] for folder in (out, run("dense")))
    assert [row["training"] for row in rows] == [row["training"] for row in others]


def test_painting_goes_on_where_it_was_interrupted(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    out, flags = tmp_path / "study", ("--densities", "0.1", "--count", "1")
    for name in ("simulate_masks", "generate_images", "score_images"):
        with monkeypatch.context() as patch:
            patch.setattr(generators, name, stop)
            patch.setattr(generators, "weights_file", lambda *wanted: Path("weights"))  # as if sets could be scored
            assert study("extrapolation", phantoms, out, *flags) == 130
    before = {file: file.stat().st_mtime_ns for part in ("runs", "data") for file in (out / part).rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "run_task", stop)
        assert study("extrapolation", phantoms, out, *flags) == 0
    assert len(list((out / "results").iterdir())) == 2
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())


def test_other_settings_and_other_folders_are_refused(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    out = tmp_path / "study"
    shutil.copytree(run("training"), out)
    forbid(monkeypatch)

    def refusal(kind: str, *flags: str, data: Path = phantoms, folder: Path = out) -> str:
        capsys.readouterr()
        assert study(kind, data, folder, *flags) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert refusal("training", "--minutes", "1", "--seed", "3") == (
        f"cytoforge: {out}: holds a study with another minutes, seed; repeat its command to go on with it, "
        "give another --out, or --overwrite"
    )
    assert "another question (training)" in refusal("dense")
    (out / "thesis.txt").write_text("mine")
    for flags in ((), ("--overwrite",)):
        assert "holds something else than a study" in refusal("training", *flags)
    assert (out / "results.json").exists()
    (out / "thesis.txt").unlink()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results").mkdir()
    assert "holds something else than a study" in refusal("training", "--overwrite", folder=tmp_path / "mine")
    assert (tmp_path / "mine" / "results").is_dir()
    assert study("training", phantoms, out, "--threads", "2") == 0  # where it computes may differ
    capsys.readouterr()
    assert study("training", phantoms, out, "--minutes", "1", "--overwrite") == FAULT  # it would measure again
    assert "measured before" in capsys.readouterr().err
    assert read_json(out / "study.json")["settings"]["minutes"] == 1
    assert not (out / "results").exists() and not (out / "report.html").exists()


@pytest.mark.parametrize(
    ("kind", "flags", "sentence"),
    [
        ("training", "--images 5", "leaves 4 images to train on, 6 are needed"),
        ("dense", "--images 5", "leaves 4 images to train on, 5 are needed"),
        ("limited-data", "--crops 1 5", "leaves 4 images to train on, 5 are needed"),
        ("limited-data", "--crops --images 5 9", "leaves 4 images to train on; ask for fewer --images"),
        ("limited-data", "--crops --images", "give numbers of --images or --crops"),
        (
            "limited-data",
            "--methods scratch base --target boundary",
            "--methods: the base model is of another kind",
        ),
        ("limited-data", "--unlabelled TEST", "--unlabelled belongs to base-cyclegan-unlabelled and base-mean-teacher"),
        ("limited-data", "--scale 0.5 --resize 48x64", "give --scale or --resize, not both"),
        ("ablation", "--images 5", "leaves 4 images to train on, 5 are needed"),
        ("extrapolation", "--densities 0.9", "--densities go from 0.01 to 0.7"),
        ("training", "--networks unet cellpose unet", "--networks: unet is named twice; name each once"),
        ("limited-data", "--crops 2 4 2", "--crops: 2 is named twice"),
        ("training", "--network deepsea", "--network: this study compares those of --networks; give that"),
        ("dense", "--sequence 01", "is no movie folder (01/t000.tif ...), so leave out --sequence"),
        ("versatility", "--test TEST", "--test belongs to a single DATA"),
        ("dense", "--test SAME", "p0.png: is in"),
        ("dense", "--test MASKS", "p20.png: has no image to test on"),
        ("dense", "--test SYNTHETIC", "a study wants annotated real ones"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    kind: str, flags: str, sentence: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("TEST", "MASKS", "SYNTHETIC"):
        write_phantoms(tmp_path / name, range(20, 22))
    (tmp_path / "MASKS" / "images" / "p20.png").unlink()
    write_json(tmp_path / "SYNTHETIC" / "dataset.json", {"synthetic": True})
    shutil.copytree(write_phantoms(tmp_path / "SAME", range(20, 21)), tmp_path / "copy")
    shutil.copy(phantoms / "images" / "p0.png", tmp_path / "SAME" / "images")
    shutil.copy(phantoms / "masks" / "p0.png", tmp_path / "SAME" / "masks")
    words = [str(tmp_path / word) if word.isupper() else word for word in flags.split()]
    assert study(kind, phantoms, tmp_path / "out", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out" / "runs").exists()


def test_a_movie_wants_another_one_to_test_on(tiny_movie: Path, tmp_path: Path, capsys) -> None:
    assert study("dense", tiny_movie, tmp_path / "out") == 2
    assert "is a movie, whose frames are too alike" in capsys.readouterr().err


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A movie folder with two sequences of four frames of phantoms, whose masks are silver."""
    for sequence in ("01", "02"):
        for t in range(4):
            image, labels = phantom(10 * int(sequence) + t, (80, 96), 8)
            write_image(tmp_path / "film" / sequence / f"t{t:03d}.tif", image[None])
            write_labels(tmp_path / "film" / f"{sequence}_ST" / "SEG" / f"man_seg{t:03d}.tif", labels)
    return tmp_path / "film"


def test_one_sequence_is_trained_on_and_another_tested(film: Path, tmp_path: Path) -> None:
    line = ["study", "dense", str(film), "--preset", "tiny", "--threads", "1", "--seeds", "1", "--steps", "2"]
    line += ["--synthetic-images", "2"]
    for number, flags in enumerate(("--sequence 01 --test-sequence 02", "--test-sequence 02")):
        out = tmp_path / f"{number}"
        assert main([*line, "--out", str(out), *flags.split()]) == 0
        for config in configs(out).values():
            assert {name[:2] for name in config["training_images"] + config["validation_images"]} == {"01"}
        record = read_json(out / "results" / "conventional-0.json")
        assert record["images"].keys() == record["paper"].keys() == {f"02_t{t:03d}" for t in range(4)}
        if number:  # both name the same frames
            others = read_json(tmp_path / "0" / "results" / "conventional-0.json")
            assert others["images"] == record["images"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--sequence 01 --test-sequence 01", "--sequence and --test-sequence share 01; name others"),
        ("--test-sequence 01 --test-sequence 02", "film: --test-sequence leaves none to train on; name fewer"),
        (
            "--sequence 01",
            "film: is a movie, whose frames are too alike to test on some; give --test MOVIE or --test-s",
        ),
        ("--test-sequence 03", "03"),
        ("--sequence 01 --sequence 01 --test-sequence 02", "--sequence: 01 is named twice; name each once"),
    ],
)
def test_sequences_that_cannot_be_studied_are_refused(
    flags: str, sentence: str, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["study", "dense", str(film), "--out", str(tmp_path / "out"), "--preset", "tiny"]
    assert main([*line, *flags.split()]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said and not (tmp_path / "out").exists()


def test_binary_masks_are_studied_on_the_papers_terms(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "binary"
    shutil.copytree(phantoms / "images", data / "images")
    for item in Dataset.open(phantoms).items:
        write_labels(data / "masks" / f"{item.name}.png", 255 * (read_labels(item.mask) > 0))
    line = ["study", "training", str(data), "--out", str(tmp_path / "out"), "--preset", "tiny", "--threads", "1"]
    line += ["--seeds", "1", "--images", "2", "--networks", "unet", "--steps", "2", "--test-share", "0.34"]
    for flags in ("", "--target semantic", "--protocol paper", "--target semantic --protocol paper instances"):
        assert main([*line, *flags.split()]) == 2
        assert "or --target semantic --protocol paper, for which cells that touch are one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*line, "--target", "semantic", "--protocol", "paper"]) == 0
    assert (
        "masks have one value for all cells; each connected component is taken as one cell" in capsys.readouterr().err
    )
    rows = read_json(tmp_path / "out" / "results.json")["rows"]
    assert [row["protocol"] for row in rows] == ["paper"] * 3
    for file in (tmp_path / "out" / "results").iterdir():
        record = read_json(file)
        assert len(record["paper"]) == 2 and "images" not in record


def test_so_many_synthetic_images_as_asked_for(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the paintings is dropped, and what is left is the number that was given."""
    monkeypatch.setattr(staged, "recognised", lambda *_: 1.0)
    monkeypatch.setattr(staged, "recall", lambda *_: 1.0)
    flags = ("--seeds", "1", "--steps", "2", "--synthetic-images", "5")
    assert study("dense", phantoms, tmp_path / "out", *flags) == 0
    run = tmp_path / "out" / "runs" / "two-stage-0"
    assert len(names(run / "stages" / "synthetic")) == 5
    config = read_json(run / "config.json")
    assert config["training"]["data"]["synthetic"]["path"] == str(run / "stages" / "synthetic")
    assert read_json(run / "provenance.json")["synthetic_data"]["items"] == 5


@pytest.mark.slow
def test_the_ablation_in_the_cycle(phantoms: Path, tmp_path: Path) -> None:
    flags = "--cycle --steps 2 --network cellpose --target semantic --augmentation paper --images 3 --seeds 1"
    line = ["study", "ablation", str(phantoms), "--out", str(tmp_path / "out"), "--preset", "tiny", "--threads", "1"]
    assert main([*line, *flags.split(), "--test-share", "0.34"]) == 0
    found = configs(tmp_path / "out")
    assert found.keys() == {"reference-segmenter-0", "1-0", "2-0", "4-0", "5-0"}
    assert found.pop("reference-segmenter-0")["method"] == "conventional"
    kinds = {place: config["networks"]["generator"]["network"] for place, config in found.items()}
    assert kinds == {"1-0": "unet-generator", "2-0": "style-unet", "4-0": "style-unet", "5-0": "style-unet"}
    assert [found[place]["condition"] for place in sorted(found)] == ["mask"] * 3 + ["instances"]
    wanted = ["none", "none", "statistics", "statistics"]
    assert [found[place]["parameters"]["perceptual"] for place in sorted(found)] == wanted
    for config in found.values():
        assert config["command"] == "train segmentation" and config["method"] == "cyclegan"
        assert config["networks"]["segmenter"]["network"] == "cellpose" and config["target"] == "semantic"
        assert config["parameters"]["augmentation"] == "paper"
    rows = read_json(tmp_path / "out" / "results.json")["rows"]
    notes = {row["generator"]: row["note"] for row in rows if "note" in row}
    assert len(rows) == 6 and len(notes) == 2
    real = "StyleUNet, L1 + features, told of instances, on real backgrounds"
    assert notes[real] == "not trained: in the cycle a generator paints all"
    assert "VGG-19" in notes["StyleUNet, L1 + VGG-19"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "trained in the cycle with a segmenter (cellpose, target semantic)" in page
    assert f"{real}: not trained; in the cycle a generator paints all." in page
    for row in rows:
        assert "note" in row or 0 <= row["faithfulness"]["value"] <= 1


def test_a_test_is_never_nothing_and_never_all(phantoms: Path) -> None:
    dataset = Dataset.open(phantoms)
    for share, count in ((0.01, 1), (0.5, 3), (0.99, 5)):
        pool, test = split_test(dataset, share, 0)
        assert len(test) == count
        assert {*pool, *test} == {*dataset.items} and not {*pool} & {*test}


def test_copies_keep_scale_and_groups(phantoms: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    write_json(data / "dataset.json", {"scale": 0.5, "groups": "prefix", "licence": "none"})
    folder = StudyFolder.open("dense", tmp_path / "out", {})
    pool, test = subset(folder, DenseStudy(data=(data,)), "data", Dataset.open(data), 0)
    for folder in (pool, test):
        assert read_json(folder / "dataset.json") == {"scale": 0.5, "groups": "prefix"}


def test_minutes_of_the_processor_are_its_own(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock takes a second: three steps, three validations, and two saves between them."""
    ticks = itertools.count()
    monkeypatch.setattr(specification.time, "process_time", lambda: float(next(ticks)))
    line = [
        "train",
        "segmentation",
        str(phantoms),
        "--out",
        str(tmp_path / "run"),
        "--preset",
        "tiny",
        "--threads",
        "1",
    ]
    assert main([*line, "--minutes", "0.1", "--clock", "processor"]) == 0
    facts = read_json(tmp_path / "run" / "provenance.json")
    assert (facts["steps"], facts["seconds"]) == (3, 8)
    seen = next(ticks)
    assert main([*line[:4], str(tmp_path / "wall"), *line[5:], "--minutes", "0.001"]) == 0
    assert next(ticks) == seen + 1  # nobody looked


def test_a_flag_that_could_only_be_refused_is_gone(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("training", phantoms, tmp_path / "out", "--condition", "mask") == 2
    assert "--condition: is no option of cytoforge study training" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_study_begun_when_there_was_another_flag_goes_on(tmp_path: Path) -> None:
    given = StudyTraining((tmp_path,), tmp_path / "out")
    open_folder("training", given)
    record = tmp_path / "out" / "study.json"
    stored = read_json(record)
    assert "condition" not in stored["settings"] and stored["settings"]["networks"] == ["unet", "cellpose", "deepsea"]
    OutputFolder(tmp_path / "out", "study").write_json(
        "study.json", {**stored, "settings": {**stored["settings"], "condition": "instances"}}
    )
    assert open_folder("training", given).kind == "training"


@pytest.mark.parametrize(
    ("name", "path", "value", "sentence"),
    [
        ("conventional-0", ("steps",), "12", "steps is '12', but should be a valid integer"),
        ("conventional-0", ("images", "p0", "f_score"), [0.5], "should have at least 5 items after validation"),
        ("conventional-0", ("images",), None, "images is None, but should be a valid dictionary"),
        ("conventional-0", ("images", "p0"), [], "images.p0 is [], but should be a valid dictionary"),
    ],
)
def test_an_edited_result_is_one_sentence(
    name: str,
    path: tuple[str, ...],
    value: Any,
    sentence: str,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "study"
    image = {"f_score": [0.5] * 5, "precision": [None] * 5, "recall": [0.5] * 5, "dice": 0.5}
    record: dict[str, Any] = {"steps": 12, "seconds": 1.0, "verdict": "v", "trained_on": [], "images": {"p0": image}}
    folder = open_folder("dense", StudyDense((phantoms,), out))
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    folder.folder.write_json(f"results/{name}.json", record)
    shutil.rmtree(out / "data", ignore_errors=True)
    forbid(monkeypatch)
    assert main(["study", "dense", str(phantoms), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out / 'results' / name}.json: " in line and sentence in line and "remove it to measure again" in line


@pytest.mark.parametrize("content", ['{"study": "dense"}', '{"study": 1, "settings": {}}', '{"settings": []}'])
def test_an_edited_record_is_one_sentence(content: str, tmp_path: Path) -> None:
    given = StudyDense((tmp_path,), tmp_path / "out")
    open_folder("dense", given).folder.write("study.json", content.encode())
    with pytest.raises(UserError, match=r"study\.json: .*; restore the file, or give --overwrite"):
        open_folder("dense", given)


def test_ways_with_simulated_masks_and_with_unlabelled_images(phantoms: Path, tmp_path: Path) -> None:
    ways = ["conventional", "cyclegan-simulated", "cyclegan-unlabelled", "mean-teacher"]
    flags = ["--seeds", "1", "--steps", "2", "--ways", *ways, "--no-warm-start"]
    assert study("training", phantoms, tmp_path / "out", *flags) == 0
    found = configs(tmp_path / "out")
    pool = tmp_path / "out" / "data" / "phantoms-0" / "train"
    told = {
        place.removeprefix("phantoms-unet-").removesuffix("-2-images-0"): (
            config["method"],
            config["parameters"].get("masks"),
            config["training"]["data"]["unlabelled"],
        )
        for place, config in found.items()
    }
    assert told == {
        "conventional": ("conventional", None, None),
        "cyclegan-on-simulated-masks": ("cyclegan", "simulated", None),
        "cyclegan-with-unlabelled-images": ("cyclegan", "own", str(pool)),
        "mean-teacher-with-unlabelled-images": ("mean-teacher", None, str(pool)),
    }
    for place in found:
        provenance = read_json(tmp_path / "out" / "runs" / place / "provenance.json")
        if provenance["unlabelled_data"] is not None:  # the image of validation is none of them
            assert provenance["unlabelled_data"]["items"] == len(names(pool)) - 1
    assert len(read_json(tmp_path / "out" / "results.json")["rows"]) == 2 * len(ways)
