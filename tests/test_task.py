"""`run_task`: what it asks of a task and when, what it writes, and how it goes on after an interruption."""

import json
import os
import signal
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from cytoforge.data.judgement import Judgement, Measured
from cytoforge.data.run import Run
from cytoforge.errors import Interrupted, UserError
from cytoforge.training.course import State
from cytoforge.training.data import TrainingData, open_data
from cytoforge.training.hyperparameters import SEGMENTATION, Segmentation
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.networks import describe_segmenter
from cytoforge.training.recipes.recipe import Update
from cytoforge.training.samplers.items import Batch, Drawing
from cytoforge.training.samplers.prefetch import Prefetched
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Budget, Compute, Data, Output, Training
from cytoforge.training.tasks import task as module
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import Outcome, Plan, Task, Trained, run_task, stored_tile

STEPS = 4
JUDGED = Judgement(verdict="usable", measure="F", over="1 image", score=Measured(value=0.5))
PARAMETERS = replace(SEGMENTATION["tiny"], width=4, depth=2, crop=(32, 32))


class Telling(Conventional):
    """Notes each step."""

    events: list[str]
    interrupt_at: int | None = None

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        self.events.append(f"step {batch.step}")
        if batch.step == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(batch, progress, update)


@dataclass(frozen=True)
class ToyTask(Task):
    """A small segmenter whose validation score is the number of validations; it notes what is asked of it."""

    name: ClassVar[str] = "train toy"
    parameters: Segmentation
    interrupt_at: int | None = None
    events: list[str] = field(default_factory=list)

    def open(self, training: Training) -> TrainingData:
        self.events.append("open")
        return open_data(training.data, training.seed)

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        self.events.append("plan")
        described = describe_segmenter(self.parameters, data.channels)
        recipe = Telling.build(self.parameters, described, training.seed)
        assert isinstance(recipe, Telling)
        recipe.events, recipe.interrupt_at = self.events, self.interrupt_at

        def score(networks: Networks) -> float:
            self.events.append("validate")
            return 0.5

        def outcome(networks: Networks, state: State) -> Outcome:
            self.events.append(f"look at {'trained' if not networks['segmenter'].training else 'training'}")
            return Outcome(shown={}, judgement=JUDGED, facts={"cells_found": state.step})

        drawing = Drawing(size=self.parameters.crop, count=1, policy="flip", seed=training.seed)
        return Plan(
            networks={"segmenter": described},
            recipe=recipe,
            sampler=Windows(data.names, data.read, drawing),
            validation=Validation(score),
            outcome=outcome,
            stored={"target": "boundary", "tile": stored_tile(self.parameters.crop)},
            provenance={"origin": "here"},
            weights={"extra": {"one": torch.ones(2)}},
            notes=["a note for the terminal"],
            remarks=["a remark for the record"],
        )


def training(data: Path, out: Path, **options: Any) -> Training:
    return replace(
        Training(
            data=Data(path=data),
            output=Output(path=out),
            budget=Budget(steps=STEPS),
            compute=Compute(device="cpu", threads=1, precision="float32"),
        ),
        **options,
    )


def test_what_is_asked_of_a_task_and_in_which_order(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ToyTask(PARAMETERS)
    done = run_task(task, training(tiny_dataset, tmp_path / "run"))
    steps = [f"step {number}" for number in range(STEPS)]
    assert task.events[:2] == ["open", "plan"]
    assert [event for event in task.events if event.startswith("step")] == steps
    assert task.events[2:-1] == [event for step in steps for event in (step, "validate")]
    assert task.events[-1] == "look at trained"
    assert isinstance(done, Trained) and done.main and done.state.finished and done.state.step == STEPS
    said = capsys.readouterr().err
    assert "a note for the terminal" in said and "to train on, 1 for validation" in said
    assert "a remark for the record" not in said
    last, course = said.splitlines()[-2:]
    assert last == JUDGED.headline and course.startswith("Too few steps to tell")


def test_what_a_run_tells_of_its_training(tiny_dataset: Path, tmp_path: Path) -> None:
    given = training(tiny_dataset, tmp_path / "run", seed=5)
    run = run_task(ToyTask(PARAMETERS), given).run
    stored, facts = run.config, run.provenance
    assert stored["command"] == "train toy" and stored["tile"] == 256
    assert stored["parameters"] == json.loads(json.dumps(asdict(PARAMETERS)))
    assert stored["training"] == {
        "data": {k: v for k, v in json.loads(json.dumps(asdict(given.data), default=str)).items() if k != "arrays"},
        "budget": asdict(given.budget),
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},  # no place of weights, no processes
        "seed": 5,
    }
    assert set(stored["training_images"]).isdisjoint(stored["validation_images"])
    assert facts["origin"] == "here" and facts["cells_found"] == STEPS and facts["steps"] == STEPS
    assert run.judgement == JUDGED and facts["judgement"]["verdict"] == "usable"
    assert facts["verdict"].startswith("Too few steps to tell")
    assert facts["notes"] == ["a remark for the record"]
    assert torch.equal(run.load_weights("extra")["one"], torch.ones(2))
    assert (run.path / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("stop", [0, 2])
def test_it_goes_on_after_an_interruption(stop: int, tiny_dataset: Path, tmp_path: Path) -> None:
    whole = run_task(ToyTask(PARAMETERS), training(tiny_dataset, tmp_path / "whole")).run
    with pytest.raises(Interrupted, match=f"stopped at step {stop + 1}, all is saved"):
        run_task(ToyTask(PARAMETERS, interrupt_at=stop), training(tiny_dataset, tmp_path / "parts"))
    parts = Run.open(tmp_path / "parts")
    assert not parts.finished and "notes" not in parts.provenance and not (parts.path / "report.html").exists()
    again = ToyTask(PARAMETERS)
    run_task(again, training(tiny_dataset, tmp_path / "parts"))
    assert again.events[:2] == ["open", "plan"]  # before anything of the run is read
    assert [event for event in again.events if event.startswith("step")] == [
        f"step {number}" for number in range(stop + 1, STEPS)
    ]
    one, other = whole.load_weights("segmenter"), parts.load_weights("segmenter")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert [row["segmentation"] for row in parts.metrics()] == [row["segmentation"] for row in whole.metrics()]
    assert parts.provenance["notes"] == ["a remark for the record"] and parts.finished


def test_another_training_does_not_go_on_and_loses_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    given = training(tiny_dataset, tmp_path / "run")
    with pytest.raises(Interrupted):
        run_task(ToyTask(PARAMETERS, interrupt_at=1), given)
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*")}
    for task, other, name in (
        (ToyTask(replace(PARAMETERS, rate=1.0)), given, "rate"),
        (ToyTask(PARAMETERS), replace(given, budget=Budget(steps=9)), "steps"),
        (ToyTask(PARAMETERS), replace(given, compute=replace(given.compute, precision="auto")), "precision"),
        (ToyTask(PARAMETERS), replace(given, data=replace(given.data, scale=0.9)), "scale"),
    ):
        with pytest.raises(UserError, match=f"holds a run with another {name}; repeat its command"):
            run_task(task, other)
    elsewhere = replace(given.compute, weights_dir=tmp_path)  # says where something lies, not what is done
    assert before == {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*")}
    assert run_task(ToyTask(PARAMETERS), replace(given, compute=elsewhere)).state.finished
    with pytest.raises(UserError, match="holds this run, finished"):
        run_task(ToyTask(PARAMETERS), given)
    assert run_task(ToyTask(PARAMETERS), replace(given, output=replace(given.output, overwrite=True))).state.finished


def test_data_that_do_not_serve_leave_no_folder(tiny_dataset: Path, tmp_path: Path) -> None:
    class Refusing(ToyTask):
        def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
            raise UserError("no")

    for task in (Refusing(PARAMETERS), ToyTask(PARAMETERS)):
        data = tiny_dataset if isinstance(task, Refusing) else tmp_path / "nowhere"
        with pytest.raises(UserError):
            run_task(task, training(data, tmp_path / "run"))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("device", "kind"), [("cpu", Windows), ("cuda", Prefetched)])
def test_a_gpu_gets_its_batches_made_ahead_and_a_cpu_in_time(
    device: str, kind: type, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread beside that which computes would only be in the way of a CPU."""

    def fit(trainer: Any, sampler: Any, *arguments: Any, **options: Any) -> Any:
        assert type(sampler) is kind
        raise Interrupted("before anything is computed")

    fabric = SimpleNamespace(
        device=torch.device(device),
        global_rank=0,
        world_size=1,
        barrier=lambda: None,
        _precision=SimpleNamespace(precision="32-true"),
    )
    monkeypatch.setattr(module, "together", lambda compute, work: nullcontext(fabric))
    monkeypatch.setattr(module, "Trainer", lambda *arguments, **options: None)
    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(Interrupted, match="before anything is computed"):
        run_task(ToyTask(PARAMETERS), training(tiny_dataset, tmp_path / "run"))


def test_batches_made_ahead_train_the_same_weights(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = module.fit

    def ahead(trainer: Any, sampler: Any, *arguments: Any, **options: Any) -> Any:
        return fit(trainer, Prefetched(sampler), *arguments, **options)

    parameters = replace(PARAMETERS, augmentation="strong")
    plain = run_task(SegmentationTask(parameters), training(tiny_dataset, tmp_path / "plain")).run
    monkeypatch.setattr(module, "fit", ahead)
    other = run_task(SegmentationTask(parameters), training(tiny_dataset, tmp_path / "ahead")).run
    one, two = plain.load_weights("segmenter"), other.load_weights("segmenter")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert one and np.isfinite([row["segmentation"] for row in other.metrics()]).all()
