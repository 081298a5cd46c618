"""Budgets: how much of one is spent, what a share of it is, by which clock."""

import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from cytoforge.commands.train import (
    cycle_parameters,
    enlarging_parameters,
    generator_parameters,
    movie_parameters,
    segmentation_parameters,
    specified,
    stage_generator,
    teacher_parameters,
)
from cytoforge.settings import TrainGenerator, TrainMovie, TrainSegmentation
from cytoforge.training.specification import Budget, Compute, Data, Output, SyntheticData, Training


@pytest.mark.parametrize(
    ("budget", "step", "seconds", "spent"),
    [
        (Budget(steps=10), 0, 99.0, 0.0),
        (Budget(steps=10), 4, 0.0, 0.4),
        (Budget(steps=10), 10, 0.0, 1.0),
        (Budget(steps=10), 12, 0.0, 1.0),
        (Budget(seconds=8.0), 99, 0.0, 0.0),
        (Budget(seconds=8.0), 0, 2.0, 0.25),
        (Budget(seconds=8.0), 0, 8.0, 1.0),
        (Budget(seconds=8.0), 0, 9.0, 1.0),
        (Budget(steps=10, seconds=8.0), 5, 8.0, 0.5),  # steps go first
        (Budget(epochs=3).in_steps(5, 2), 3, 99.0, 1 / 3),
    ],
)
def test_how_much_is_spent(budget: Budget, step: int, seconds: float, spent: float) -> None:
    assert budget.progress(step, seconds) == spent


@pytest.mark.parametrize(
    ("budget", "part", "expected"),
    [
        (Budget(steps=10), 0.45, Budget(steps=4)),
        (Budget(steps=10), 0.15, Budget(steps=2)),
        (Budget(steps=2), 0.15, Budget(steps=1)),  # never none
        (Budget(seconds=600.0), 0.25, Budget(seconds=150.0)),
        (Budget(seconds=60.0, clock="processor", patience=3), 0.5, Budget(seconds=30.0, clock="processor", patience=3)),
        (Budget(steps=10, clock="processor", patience=3), 0.5, Budget(steps=5, clock="processor", patience=3)),
        (Budget(epochs=10), 0.45, Budget(epochs=4)),
        (Budget(epochs=2, until_converged=True), 0.15, Budget(epochs=1, until_converged=True)),
        (Budget(steps=10, epochs=9), 0.5, Budget(steps=5, epochs=9)),  # steps go first
    ],
)
def test_a_share_is_of_the_same_kind(budget: Budget, part: float, expected: Budget) -> None:
    assert budget.share(part) == expected


@pytest.mark.parametrize(
    ("budget", "images", "batch", "expected"),
    [
        (Budget(epochs=3), 5, 1, 15),
        (Budget(epochs=3), 5, 2, 9),  # the last step of a pass is a whole one
        (Budget(epochs=3), 4, 2, 6),
        (Budget(epochs=3), 1, 8, 3),
        (Budget(steps=7), 5, 2, 7),
        (Budget(steps=7, epochs=3), 5, 2, 7),
        (Budget(epochs=2, seconds=1.0), 5, 1, 10),
        (Budget(seconds=1.0), 5, 2, None),
    ],
)
def test_epochs_are_passes_over_the_images(budget: Budget, images: int, batch: int, expected: int | None) -> None:
    counted = budget.in_steps(images, batch)
    assert counted == replace(budget, steps=expected)
    assert replace(counted, steps=budget.steps) == budget


def test_a_budget_in_words() -> None:
    assert (Budget(seconds=90.0).told, Budget(steps=1).told, Budget(epochs=20).told) == (
        "1.5 min",
        "1 step",
        "20 epochs",
    )
    assert Budget(steps=300, until_converged=True).told == "300 steps or until converged"


def test_convergence_is_looked_for_five_times_as_often() -> None:
    assert Budget(steps=9, patience=2).validations == Budget(seconds=9.0).validations == 20
    assert Budget(steps=9, until_converged=True).validations == 100


@pytest.mark.parametrize("budget", [Budget(steps=100), Budget(seconds=600.0), Budget(epochs=100)])
def test_shares_add_up(budget: Budget) -> None:
    parts = [budget.share(part) for part in (0.45, 0.15, 0.4)]
    assert sum(part.epochs or 0 for part in parts) == (budget.epochs or 0)
    assert sum(part.steps or 0 for part in parts) == (budget.steps or 0)
    assert sum(part.seconds or 0 for part in parts) == pytest.approx(budget.seconds or 0)


def test_the_clock_is_that_of_the_wall_or_of_the_processor() -> None:
    assert Budget(seconds=1.0).now is time.monotonic
    assert Budget(seconds=1.0, clock="processor").now is time.process_time


def test_specifications_are_frozen() -> None:
    training = Training(data=Data(path=Path("d")), output=Output(path=Path("o")))
    for part, name in ((training, "seed"), (training.data, "path"), (training.budget, "steps"), (Compute(), "device")):
        with pytest.raises(FrozenInstanceError):
            setattr(part, name, None)
    with pytest.raises(FrozenInstanceError):
        SyntheticData(path=Path("s")).share = 1.0  # type: ignore[misc]
    assert training.budget == Budget(seconds=600.0)  # ten minutes, as flags have them


def test_flags_become_specifications(tmp_path: Path) -> None:
    settings = TrainSegmentation(
        data=tmp_path,
        out=tmp_path / "run",
        minutes=3.0,
        clock="processor",
        patience=4,
        fold="2/5",
        split_by="group",
        sequence=("01",),
        limit=7,
        scale=0.5,
        seed=9,
        threads=2,
        device="cpu",
        precision="float32",
        weights_dir=tmp_path,
        synthetic=tmp_path / "painted",
        schedule="pretrain",
        synthetic_share=0.25,
        overwrite=True,
    )
    painted = SyntheticData(path=tmp_path / "painted", schedule="pretrain", share=0.25)
    assert specified(settings) == Training(
        data=Data(
            path=tmp_path,
            sequences=("01",),
            limit=7,
            split_by="group",
            fold=(2, 5),
            scale=0.5,
            synthetic=painted,
        ),
        output=Output(path=tmp_path / "run", overwrite=True),
        budget=Budget(seconds=180.0, clock="processor", patience=4),
        compute=Compute(device="cpu", precision="float32", threads=2, weights_dir=tmp_path),
        seed=9,
    )


def test_without_time_and_steps_a_training_takes_ten_minutes(tmp_path: Path) -> None:
    given = {"data": tmp_path, "out": tmp_path / "run"}
    assert specified(TrainGenerator(**given)) == Training(data=Data(path=tmp_path), output=Output(path=given["out"]))
    assert specified(TrainGenerator(**given, steps=5)).budget == Budget(steps=5)
    assert specified(TrainGenerator(**given, epochs=5)).budget == Budget(epochs=5)
    converged = specified(TrainGenerator(**given, until_converged=True)).budget
    assert converged == Budget(seconds=600.0, until_converged=True)
    assert specified(TrainGenerator(**given, validation=tmp_path)).data.validation == tmp_path


def test_until_convergence_rates_are_constant(tmp_path: Path) -> None:
    """A fall of the rates would need a known end, and makes any training look as if it had converged."""
    given = {"data": tmp_path, "out": tmp_path / "run", "steps": 9}
    for kind, parameters in (
        (TrainSegmentation, segmentation_parameters),
        (TrainSegmentation, cycle_parameters),
        (TrainSegmentation, teacher_parameters),
        (TrainSegmentation, stage_generator),
        (TrainGenerator, generator_parameters),
        (TrainMovie, movie_parameters),
        (TrainMovie, enlarging_parameters),
    ):
        plain, converged = (parameters(kind(**given, until_converged=until)) for until in (False, True))
        assert plain.anneal and not converged.anneal
        assert replace(converged, anneal=True) == plain
        assert not parameters(kind(**given, preset="paper")).anneal


def test_the_size_of_images_is_that_of_the_flag(tmp_path: Path) -> None:
    given = {"data": tmp_path, "out": tmp_path / "run"}
    for kind in (TrainSegmentation, TrainGenerator, TrainMovie):
        data = specified(kind(**given, resize="48x64")).data
        assert (data.resize, data.scale, data.scaling) == ((48, 64), 1.0, (48, 64))
        assert specified(kind(**given, scale=0.5)).data.scaling == 0.5
    more = TrainSegmentation(**given, scale=1.0, unlabelled=tmp_path, method="cyclegan")
    assert specified(more).data.unlabelled == tmp_path


def test_a_budget_is_of_steps_epochs_or_seconds() -> None:
    with pytest.raises(ValueError, match="has steps, epochs or seconds"):
        Budget(patience=3)
