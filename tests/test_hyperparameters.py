"""Hyperparameters: what `changed` takes and refuses, what presets hold, and that a run keeps its own."""

import dataclasses
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cytoforge.cli import main
from cytoforge.commands.train import cycle_parameters, specified
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.losses import CycleWeights, MovieWeights, SuperResolutionWeights, Vid2VidWeights
from cytoforge.settings import TrainSegmentation, of_recipe
from cytoforge.training import hyperparameters
from cytoforge.training.hyperparameters import (
    CYCLE_GAN,
    GENERATOR,
    LINKER,
    MEAN_TEACHER,
    MOVIE,
    SEGMENTATION,
    SUPER_RESOLUTION,
    TRACKER,
    VID2VID,
    altered,
    changed,
    described,
    spoken,
    written,
)
from cytoforge.training.specification import Budget, Data, Output, Training

pytestmark = pytest.mark.usefixtures("short_trainings")

TASKS = {
    "segmentation": SEGMENTATION,
    "mean-teacher": MEAN_TEACHER,
    "cyclegan": CYCLE_GAN,
    "generator": GENERATOR,
    "movie": MOVIE,
    "vid2vid": VID2VID,
    "super-resolution": SUPER_RESOLUTION,
    "tracker": TRACKER,
}
CGAN_SEG = {"target": "semantic", "augmentation": "paper"}  # what its recipe changes in the paper's presets
PAINTERS = ("cyclegan", "generator", "movie", "super-resolution")


class TestChanged:
    @pytest.mark.parametrize(
        ("parameters", "assignment", "name", "value"),
        [
            (SEGMENTATION["tiny"], "rate=1e-4", "rate", 1e-4),
            (SEGMENTATION["tiny"], " rate = 2 ", "rate", 2.0),
            (SEGMENTATION["tiny"], "depth=2", "depth", 2),
            (SEGMENTATION["tiny"], "anneal=false", "anneal", False),
            (SEGMENTATION["tiny"], "norm=group", "norm", "group"),
            (SEGMENTATION["tiny"], "crop=96x128", "crop", (96, 128)),
            (SEGMENTATION["tiny"], "crop=96,128", "crop", (96, 128)),
            (SEGMENTATION["tiny"], "crop=(96, 128)", "crop", (96, 128)),
            (GENERATOR["tiny"], "perceptual=vgg or features", "perceptual", "vgg or features"),
            (GENERATOR["tiny"], "perceptual=none", "perceptual", "none"),  # a word of its own
            (GENERATOR["tiny"], "p_diff=0", "p_diff", 0.0),
            (MOVIE["tiny"], "max_gradient=none", "max_gradient", None),
            (MOVIE["paper"], "max_gradient=5", "max_gradient", 5.0),
            (TRACKER["paper"], "batch=3", "batch", 3),
        ],
    )
    def test_one_value_is_replaced_and_no_other(
        self, parameters: Any, assignment: str, name: str, value: object
    ) -> None:
        found = changed(parameters, [assignment])
        assert type(found) is type(parameters)
        assert getattr(found, name) == value and type(getattr(found, name)) is type(value)
        assert replace(found, **{name: getattr(parameters, name)}) == parameters

    def test_a_nested_weight_is_replaced_and_no_other(self) -> None:
        found = changed(CYCLE_GAN["tiny"], ["weights.adversarial=2", "weights.cycle_mask=0"])
        assert found.weights == replace(CYCLE_GAN["tiny"].weights, adversarial=2.0, cycle_mask=0.0)
        assert replace(found, weights=CYCLE_GAN["tiny"].weights) == CYCLE_GAN["tiny"]

    def test_the_last_of_two_counts_and_none_changes_nothing(self) -> None:
        assert changed(SEGMENTATION["small"], ["rate=1", "rate=3"]).rate == 3
        assert changed(SEGMENTATION["small"], []) is SEGMENTATION["small"]

    @pytest.mark.parametrize(
        ("parameters", "assignment", "sentence"),
        [
            (SEGMENTATION["tiny"], "rate", "--set rate: write NAME=VALUE, such as rate=1e-3"),
            (SEGMENTATION["tiny"], "speed=1", "--set speed: there is no such hyperparameter; there are width, norm, "),
            (SEGMENTATION["tiny"], "weights.flow=1", "--set weights.flow: there is no such hyperparameter"),
            (SEGMENTATION["tiny"], "rate.x=1", "--set rate.x: there is no such hyperparameter"),
            (GENERATOR["tiny"], "weights=1", "weights.adversarial, weights.cycle_image"),
            (GENERATOR["tiny"], "weights.flow=1", "--set weights.flow: there is no such hyperparameter"),
            (SEGMENTATION["tiny"], "=1", "--set : there is no such hyperparameter"),
            (SEGMENTATION["tiny"], "rate=fast", "--set rate=fast: takes a number"),
            (SEGMENTATION["tiny"], "rate=none", "--set rate=none: takes a number"),
            (SEGMENTATION["tiny"], "rate=nan", "--set rate=nan: takes a number"),
            (SEGMENTATION["tiny"], "rate=inf", "--set rate=inf: takes a number"),
            (SEGMENTATION["tiny"], "depth=2.5", "--set depth=2.5: takes a whole number"),
            (SEGMENTATION["tiny"], "anneal=maybe", "--set anneal=maybe: takes true or false"),
            (SEGMENTATION["tiny"], "norm=layer", "--set norm=layer: takes batch, group"),
            (SEGMENTATION["tiny"], "crop=64", "--set crop=64: takes height x width, such as 128x128"),
            (SEGMENTATION["tiny"], "crop=64x64x64", "--set crop=64x64x64: takes height x width"),
            (MOVIE["tiny"], "max_gradient=much", "--set max_gradient=much: takes a number above 0 or none"),
            (
                CYCLE_GAN["tiny"],
                "weights.adversarial=-1",
                "--set weights.adversarial=-1: adversarial must be 0 or more",
            ),
            (SEGMENTATION["tiny"], "width=0", "--set width=0: takes a whole number of at least 1"),
            (SEGMENTATION["tiny"], "batch=0", "--set batch=0: takes a whole number of at least 1"),
            (SEGMENTATION["tiny"], "depth=0", "--set depth=0: takes a whole number of at least 1"),
            (SEGMENTATION["tiny"], "rate=0", "--set rate=0: takes a number above 0"),
            (SEGMENTATION["tiny"], "average=1", "--set average=1: takes a number of at least 0 and below 1"),
            (SEGMENTATION["tiny"], "crop=0x64", "--set crop=0x64: takes height x width"),
            (GENERATOR["tiny"], "p_diff=1.5", "--set p_diff=1.5: takes a number of at least 0 and of at most 1"),
            (GENERATOR["tiny"], "heads=-1", "--set heads=-1: takes a whole number of at least 0"),
            (MOVIE["tiny"], "max_gradient=0", "--set max_gradient=0: takes a number above 0 or none"),
            (SUPER_RESOLUTION["tiny"], "factor=3", "--set factor=3: must be a power of two, and at most the width (8)"),
            (
                SUPER_RESOLUTION["tiny"],
                "factor=16",
                "--set factor=16: must be a power of two, and at most the width (8)",
            ),
            (SUPER_RESOLUTION["tiny"], "factor=1", "--set factor=1: takes a whole number of at least 2"),
            (
                SEGMENTATION["tiny"],
                "crop=64x8",
                "--set: windows of 64 x 8 px are too small for a depth of 3; give a crop ",
            ),
            (SEGMENTATION["small"], "crop=16x16", "for a depth of 4; give a crop of 32x32 or more"),
            (
                SEGMENTATION["tiny"],
                "depth=6",
                "windows of 64 x 64 px are too small for a depth of 6; give a crop of 128x",
            ),
            (MOVIE["tiny"], "perceptual=none", "--set perceptual=none: takes vgg, vgg or features, features"),
            (VID2VID["tiny"], "perceptual=statistics", "takes vgg, vgg or features, features"),
            (SUPER_RESOLUTION["tiny"], "perceptual=none", "takes vgg, vgg or features, features"),
            (GENERATOR["tiny"], "network=unet", "--set background=real: belongs to network=style-unet"),
            (GENERATOR["tiny"], "augmentation=strong", "other augmentation than flip would part image and background"),
            (
                VID2VID["tiny"],
                "crop=8x64",
                "--set: windows of 8 x 64 px are too small for a depth of 2; give a crop of 16x16 or more",
            ),
        ],
    )
    def test_what_is_refused_and_how(self, parameters: Any, assignment: str, sentence: str) -> None:
        with pytest.raises(UserError) as caught:
            changed(parameters, [assignment])
        assert sentence in str(caught.value) and "\n" not in str(caught.value)

    def test_what_goes_together_may_be_given_in_any_order(self) -> None:
        assert changed(GENERATOR["tiny"], ["network=unet", "background=painted"]).network == "unet"
        assert changed(GENERATOR["paper"], ["augmentation=strong"]).augmentation == "strong"
        for order in (["crop=16x16", "depth=2"], ["depth=2", "crop=16x16"]):
            found = changed(SEGMENTATION["small"], order)
            assert (found.crop, found.depth) == ((16, 16), 2)

    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
    def test_every_value_that_is_told_can_be_given(self, task: str, preset: str) -> None:
        parameters = TASKS[task][preset]
        told = {entry.name: entry.value for entry in described(parameters)}
        assert len(told) >= len(dataclasses.fields(parameters))
        written = [
            f"{name}={'x'.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in told.items()
        ]
        assert changed(parameters, written) == parameters


class TestPresets:
    """Values as docs/decisions.md and the published code have them; a preset is edited with its decision."""

    @pytest.mark.parametrize("task", TASKS)
    def test_there_are_three_and_they_grow(self, task: str) -> None:
        presets = TASKS[task]
        assert list(presets) == ["tiny", "small", "paper"]
        assert [presets[name].average for name in presets] == [0.98, 0.99, 0.999]
        largest = 128 if task == "vid2vid" else 64
        assert [presets[name].width for name in presets] == [8, 16, largest]
        quick = "group" if task == "vid2vid" else "batch"
        assert [presets[name].norm for name in presets] == [quick, quick, "batch"]

    def test_short_trainings_of_segmenters_take_one_window_and_a_high_rate(self) -> None:
        for presets in (SEGMENTATION, CYCLE_GAN):
            for name, batch, rate, anneal in (("tiny", 1, 3e-3, True), ("small", 1, 3e-3, True), ("paper", 2, 1e-4, 0)):
                preset = presets[name]
                assert (preset.batch, preset.rate, preset.anneal) == (batch, rate, anneal)
        assert SEGMENTATION["paper"].crop == CYCLE_GAN["paper"].crop == GENERATOR["paper"].crop == (512, 768)

    @pytest.mark.parametrize("task", PAINTERS)
    def test_the_papers_are_as_published(self, task: str) -> None:
        preset = TASKS[task]["paper"]
        assert (preset.generator_rate, preset.discriminator_rate) == (1e-4, 1e-4)
        assert (preset.discriminator_width, preset.heads, preset.head_width) == (64, 8, 64)
        assert (preset.zero_scores, preset.upsampling, preset.noise_gain) == (False, "transposed", 1.0)
        assert (preset.perceptual, preset.anneal, preset.batch) == ("vgg or features", False, 2)
        assert (preset.p_diff, preset.style_mixing, preset.condition) == (0.2, 0.9, "mask")

    @pytest.mark.parametrize("task", PAINTERS)
    @pytest.mark.parametrize("name", ["tiny", "small"])
    def test_short_trainings_of_painters(self, task: str, name: str) -> None:
        preset = TASKS[task][name]
        cycle = task == "cyclegan"
        assert (preset.generator_rate, preset.discriminator_rate) == (1e-3, 4e-4 if cycle else 2e-3)
        assert (preset.zero_scores, preset.upsampling) == (True, "nearest")
        assert preset.noise_gain == (1.0 if cycle else 0.3)
        assert (preset.perceptual, preset.anneal, preset.batch) == ("features", True, 1)

    def test_weights_of_losses(self) -> None:
        assert CYCLE_GAN["paper"].weights == GENERATOR["paper"].weights == CycleWeights(1, 100, 100, 50, 50)
        assert MOVIE["paper"].weights == MovieWeights(1, 100, 50, 100, 50)
        assert SUPER_RESOLUTION["paper"].weights == SuperResolutionWeights(1, 25, 50)
        for name in ("tiny", "small"):
            assert CYCLE_GAN[name].weights == CycleWeights(2.5, 12.5, 25, 12.5, 50)
            assert (GENERATOR[name].weights.adversarial, GENERATOR[name].weights.identity_image) == (5, 25)
            assert MOVIE[name].weights == MovieWeights(5, 2, 25, 25, 5)
            assert SUPER_RESOLUTION[name].weights == SuperResolutionWeights(5, 25, 25)
        quick, paper = Vid2VidWeights(pixels=10.0), Vid2VidWeights(1, 10, 10, 0, 10, 10, 10, 10)
        assert [VID2VID[name].weights for name in VID2VID] == [quick, quick, paper]

    def test_movies(self) -> None:
        assert [(MOVIE[name].crop, MOVIE[name].clip) for name in MOVIE] == [
            ((64, 64), 3),
            ((96, 96), 6),
            ((256, 384), 10),
        ]
        for name in ("tiny", "small"):
            quick = MOVIE[name]
            assert (quick.condition, quick.draw_length, quick.learn_last, quick.residual) == ("instances", *[True] * 3)
            assert (quick.in_use_from, quick.contrast_error, quick.max_gradient) == (0.5, 0.4, 20)
        paper = MOVIE["paper"]
        assert (paper.condition, paper.draw_length, paper.learn_last, paper.residual) == ("mask", *[False] * 3)
        assert (paper.in_use_from, paper.contrast_error, paper.max_gradient) == (1, 0, None)
        assert {(preset.window, preset.lag) for preset in MOVIE.values()} == {(2, 1)}
        assert [VID2VID[name].rate for name in VID2VID] == [2e-4] * 3
        assert [VID2VID[name].clip for name in VID2VID] == [1, 1, 10]
        assert [(VID2VID[name].width, VID2VID[name].depth, VID2VID[name].blocks) for name in VID2VID] == [
            (8, 2, 5),
            (16, 2, 5),
            (128, 3, 9),
        ]
        assert [SUPER_RESOLUTION[name].residual for name in SUPER_RESOLUTION] == [True, True, False]

    def test_backgrounds_and_trackers(self) -> None:
        assert [GENERATOR[name].background for name in GENERATOR] == ["real", "real", "painted"]
        assert [(TRACKER[name].batch, TRACKER[name].rate) for name in TRACKER] == [(2, 1e-3), (4, 1e-3), (16, 1e-3)]

    @pytest.mark.parametrize("task", TASKS)
    def test_what_is_taken_by_default_is_no_secret(self, task: str) -> None:
        """No preset leaves a value open: all are plain data, which config.json holds."""
        for preset in TASKS[task].values():
            assert json.loads(json.dumps(asdict(preset))).keys() == {f.name for f in dataclasses.fields(preset)}


TINY = ["--preset", "tiny", "--threads", "1", "--steps", "4"]


def line(data: Path, out: Path, *flags: str) -> list[str]:
    return ["train", "segmentation", str(data), "--out", str(out), *TINY, *flags]


def unfinished(run: Path) -> None:
    """Let a finished run be one that was stopped at its last step."""
    opened = Run.open(run)
    tensors, meta = opened.load_state()
    meta["counters"]["finished"] = False
    opened.save_state(tensors, meta)
    opened.folder.write_json("provenance.json", {k: v for k, v in opened.provenance.items() if k != "finished"})


def test_resolved_values_are_stored_and_those_that_were_given(tiny_dataset: Path, tmp_path: Path) -> None:
    flags = ["--set", "rate=1e-4", "--set", "crop=48x32", "--norm", "group"]
    assert main(line(tiny_dataset, tmp_path / "run", *flags)) == 0
    stored = Run.open(tmp_path / "run").config
    expected = asdict(replace(SEGMENTATION["tiny"], rate=1e-4, crop=(48, 32), norm="group"))
    assert stored["parameters"] == json.loads(json.dumps(expected))
    assert stored["method"] == "conventional"
    assert stored["networks"]["segmenter"]["norm"] == "group"
    assert stored["training"]["budget"] == {
        "steps": 4,
        "epochs": None,
        "seconds": None,
        "clock": "wall",
        "patience": None,
        "until_converged": False,
    }
    assert stored["training"]["data"]["path"] == str(tiny_dataset)
    assert stored["training"]["compute"]["threads"] == 1 and stored["training"]["seed"] == 0
    assert "config" not in stored


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("speed=1", "--set speed: there is no such hyperparameter; there are width, norm"),
        ("rate", "--set rate: write NAME=VALUE"),
        ("rate=fast", "--set rate=fast: takes a number"),
        ("weights.adversarial=2", "--set weights.adversarial: there is no such hyperparameter"),  # of the cycle only
    ],
)
def test_what_cannot_be_set_is_one_sentence(
    flag: str, sentence: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(tiny_dataset, tmp_path / "run", "--set", flag)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("cytoforge: ") and sentence in said
    assert not (tmp_path / "run").exists()


def told(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, tuple[str, str, str]]]:
    """Return the first line that --help-settings prints, and by name value, type and meaning of each hyperparameter."""
    capsys.readouterr()
    assert main(["train", *line.split(), "--help-settings"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    first, _, rest = printed.out.partition("\n\n")
    entries = re.findall(r"^(\S+?)=(.*)  \((.*)\)\n    (\S.*)$", rest, re.MULTILINE)
    assert 2 * len(entries) == len(rest.splitlines())
    return first, {name: (value, type_, meaning) for name, value, type_, meaning in entries}


@pytest.mark.parametrize(
    ("line", "parameters", "changed"),
    [
        ("segmentation", SEGMENTATION["small"], {}),
        ("segmentation --preset paper --norm group", SEGMENTATION["paper"], {"norm": "group"}),
        ("segmentation --method cyclegan --preset tiny", CYCLE_GAN["tiny"], {}),
        (
            "segmentation --set rate=1e-4 --set crop=64x80",
            SEGMENTATION["small"],
            {"rate": 1e-4, "crop": (64, 80)},
        ),
        ("segmentation --method mean-teacher --unlabelled .", MEAN_TEACHER["small"], {}),
        ("segmentation --preset paper --resize 256x384", SEGMENTATION["paper"], {"crop": (256, 384)}),
        (
            "segmentation --preset small --resize 256x384 --augmentation paper --p-vanilla 0.6",
            SEGMENTATION["small"],
            {"augmentation": "paper", "p_vanilla": 0.6},
        ),
        ("segmentation --preset small --until-converged", SEGMENTATION["small"], {"anneal": False}),
        ("segmentation --recipe cgan-seg", CYCLE_GAN["paper"], CGAN_SEG),
        ("segmentation --recipe=cgan-seg --network deepsea", CYCLE_GAN["paper"], {**CGAN_SEG, "network": "deepsea"}),
        ("segmentation --recipe cgan-seg --preset small", CYCLE_GAN["small"], CGAN_SEG),
        (
            "segmentation --recipe cgan-seg --resize 96x128 --target boundary --p-vanilla 0.5",
            CYCLE_GAN["paper"],
            {"target": "boundary", "crop": (96, 128), "augmentation": "paper", "p_vanilla": 0.5},
        ),
        (
            "segmentation --recipe cgan-seg --target boundary --augmentation strong",
            CYCLE_GAN["paper"],
            {"target": "boundary", "crop": (512, 768)},
        ),
        ("segmentation --recipe cgan-seg --method conventional", SEGMENTATION["paper"], CGAN_SEG),
        ("generator --condition instances", GENERATOR["small"], {"condition": "instances"}),
        ("movie --preset paper", MOVIE["paper"], {}),
        ("movie --method vid2vid", VID2VID["small"], {}),
        ("movie --stage super-resolution --factor 4", SUPER_RESOLUTION["small"], {"factor": 4}),
        ("tracker", LINKER["small"], {}),
        ("tracker --method deepsea", TRACKER["small"], {}),
    ],
)
def test_help_tells_every_hyperparameter_of_the_training_that_the_flags_select(
    line: str, parameters: Any, changed: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    first, shown = told(line, capsys)
    assert first == "--set NAME=VALUE changes these hyperparameters:"
    expected = {entry.name: written(entry.value) for entry in described(replace(parameters, **changed))}
    assert {name: value for name, (value, _, _) in shown.items()} == expected


def test_help_says_what_is_taken_and_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, shown = told("movie", capsys)
    assert shown["max_gradient"] == (
        "20.0",
        "a number above 0 or none",
        "norm to which the generator's gradient is clipped; its spikes reach a hundred times that",
    )
    assert shown["crop"][:2] == ("96x96", "height x width, such as 128x128, each of at least 1")
    assert shown["residual"][:2] == ("true", "true or false")
    assert shown["condition"][:2] == ("instances", "mask, instances")
    assert shown["weights.pixels"] == ("25.0", "a number", "w2, L1.")


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("segmentation --method two-stage", "of both segmenters and not of the generator"),
        ("movie --stage both", "of the low-resolution stage and not of super-resolution"),
    ],
)
def test_help_says_to_which_stage_values_apply(line: str, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(line, capsys)[0] == f"--set NAME=VALUE changes these hyperparameters, {stage}:"


def test_help_refuses_what_training_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for line, sentence in (
        ("segmentation --set speed=1", "--set speed: there is no such hyperparameter"),
        ("segmentation --warm-start", "--warm-start belongs to --method cyclegan"),
        ("movie --limit 3", "--limit: is no option of cytoforge train movie"),
    ):
        assert main(["train", *line.split(), "--help-settings"]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_every_hyperparameter_is_described(task: str) -> None:
    entries = list(described(TASKS[task]["small"]))
    assert [entry.name for entry in entries if len(entry.meaning) < 5] == []
    assert {entry.type for entry in entries} - {Any} and all("typing" not in spoken(entry.type) for entry in entries)


def test_super_resolution_alone_takes_its_own_hyperparameters(
    tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    short = ["--preset", "tiny", "--threads", "1", "--steps", "1"]
    assert main(["train", "movie", str(tiny_movie), "--out", str(first), "--scale", "0.5", *short]) == 0
    more = ["--stage", "super-resolution", "--start", str(first), "--set", "weights.perceptual=3", "--set", "factor=2"]
    assert main(["train", "movie", str(tiny_movie), "--out", str(second), *more, *short]) == 0
    assert Run.open(second).config["parameters"]["weights"]["perceptual"] == 3


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"speed": 1}, "speed: there is no such hyperparameter; there are width, norm"),
        ({"rate": "fast"}, "rate='fast': takes a number above 0"),
        ({"target": "colours"}, "target='colours': takes depth, boundary, semantic"),
        ({"crop": (8, 64)}, "windows of 8 x 64 px are too small for a depth of 3; give a crop of 16x16 or more"),
        ({"width": 0}, "width=0: takes a whole number of at least 1"),
    ],
)
def test_values_from_python_are_checked_as_those_of_flags(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        altered(SEGMENTATION["tiny"], values)
    assert str(caught.value).startswith(sentence)
    assert altered(SEGMENTATION["tiny"], {"rate": 1, "crop": [32, 48]}) == replace(
        SEGMENTATION["tiny"], rate=1.0, crop=(32, 48)
    )
    weights = replace(CYCLE_GAN["tiny"].weights, adversarial=0.0)
    assert altered(CYCLE_GAN["tiny"], {"weights": weights}).weights == weights


def test_every_kind_of_training_takes_them(
    tiny_dataset: Path, tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, data in (
        ("segmentation --method cyclegan", tiny_dataset),
        ("segmentation --method two-stage", tiny_dataset),
        ("generator", tiny_dataset),
        ("movie", tiny_movie),
        ("movie --method vid2vid", tiny_movie),
        ("movie --stage both", tiny_movie),
        ("tracker", tiny_movie),
    ):
        task, *flags = words.split()
        assert main(["train", task, str(data), "--out", str(tmp_path / "run"), *TINY, *flags, "--set", "speed=1"]) == 2
        assert "--set speed: there is no such hyperparameter; there are width" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_edited_preset_does_not_change_how_a_run_goes_on(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(line(tiny_dataset, run)) == 0
    unfinished(run)
    weights = (run / "weights" / "segmenter.safetensors").read_bytes()
    stored = Run.open(run).config
    edited = {**SEGMENTATION, "tiny": replace(SEGMENTATION["tiny"], rate=0.5)}
    monkeypatch.setattr(hyperparameters, "SEGMENTATION", edited)
    capsys.readouterr()
    assert main(line(tiny_dataset, run)) == 2
    assert "holds a run with another rate; repeat its command" in capsys.readouterr().err
    assert Run.open(run).config == stored and (run / "weights" / "segmenter.safetensors").read_bytes() == weights
    rate = stored["parameters"]["rate"]
    assert main(line(tiny_dataset, run, "--set", f"rate={rate}")) == 0  # goes on with what it was begun with
    assert Run.open(run).config == stored and Run.open(run).finished


def published(data: Path, **flags: Any) -> TrainSegmentation:
    """The settings that `--recipe cgan-seg` and other flags give."""
    kind = of_recipe(TrainSegmentation, "cgan-seg", flags)
    return kind(data=data, out=data / "run", **flags)


def test_the_recipe_of_the_paper_is_its_data_and_budget_too(tmp_path: Path) -> None:
    given = published(tmp_path)
    assert isinstance(given, TrainSegmentation) and given.recipe == "cgan-seg"
    assert specified(given) == Training(
        data=Data(path=tmp_path, resize=(512, 768)),
        output=Output(path=tmp_path / "run"),
        budget=Budget(epochs=2500, patience=4),
    )
    parameters = cycle_parameters(given)
    assert parameters == replace(CYCLE_GAN["paper"], **CGAN_SEG) and parameters.crop == (512, 768)
    assert (
        parameters.network == "unet" and cycle_parameters(published(tmp_path, network="cellpose")).network == "cellpose"
    )


@pytest.mark.parametrize(
    ("flags", "data", "budget"),
    [
        ({"minutes": 3.0}, {}, Budget(seconds=180.0, patience=4)),
        ({"steps": 7}, {}, Budget(steps=7, patience=4)),
        ({"epochs": 7, "patience": 9}, {}, Budget(epochs=7, patience=9)),
        ({"until_converged": True}, {}, Budget(epochs=2500, until_converged=True)),
        ({"scale": 0.5}, {"scale": 0.5, "resize": None}, None),
        ({"scale": 1.0}, {"resize": None}, None),  # its default, and yet given
        ({"scale": 1.0, "minutes": 10.0}, {"resize": None}, Budget(seconds=600.0, patience=4)),
        ({"resize": "96x64"}, {"resize": (96, 64)}, None),
        ({"preset": "small", "limit": 5}, {"limit": 5}, None),
    ],
)
def test_flags_go_before_the_recipe(
    flags: dict[str, Any], data: dict[str, Any], budget: Budget | None, tmp_path: Path
) -> None:
    training = specified(published(tmp_path, **flags))
    assert training.data == replace(Data(path=tmp_path, resize=(512, 768)), **data)
    assert training.budget == (budget or Budget(epochs=2500, patience=4))


def test_of_the_paper_whole_images_are_learned(tmp_path: Path) -> None:
    """Windows have the size that all images are resized to, in preset paper alone."""
    for flags, crop in (
        ({"resize": "96x64"}, (96, 64)),
        ({"preset": "small", "resize": "96x64"}, CYCLE_GAN["small"].crop),
        ({"scale": 0.5}, CYCLE_GAN["paper"].crop),
    ):
        assert cycle_parameters(published(tmp_path, **flags)).crop == crop


def test_a_recipe_is_chosen_before_settings_are_made(tmp_path: Path) -> None:
    assert of_recipe(TrainSegmentation, "own") is of_recipe(TrainSegmentation, "tgan") is TrainSegmentation
    with pytest.raises(UserError, match="--recipe cgan-seg: its settings are made by of_recipe"):
        TrainSegmentation(data=tmp_path, out=tmp_path / "run", recipe="cgan-seg")
    for flags, sentence in (
        ({"minutes": 1.0, "steps": 3}, "give one of --minutes, --steps and --epochs"),
        ({"scale": 0.5, "resize": "96x64"}, "give --scale or --resize, not both"),
        ({"scale": 0.5, "resize": "512x768"}, "give --scale or --resize, not both"),  # as the recipe has them
        ({"minutes": 1.0, "epochs": 2500}, "give one of --minutes, --steps and --epochs"),
        ({"until_converged": True, "patience": 4}, "give --patience or --until-converged, not both"),
        ({"method": "two-stage", "warm_start": True}, "--warm-start belongs to --method cyclegan"),
    ):
        with pytest.raises(UserError, match=sentence):
            published(tmp_path, **flags)
