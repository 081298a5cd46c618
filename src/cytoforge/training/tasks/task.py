"""One function for every task: launch, open the data, build, train, validate, report."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from cytoforge.data import credits
from cytoforge.data.images import Normalisation
from cytoforge.data.judgement import Judgement
from cytoforge.data.lock import held
from cytoforge.data.pairing import Item
from cytoforge.data.run import Run
from cytoforge.data.tracks import calibration_of
from cytoforge.data.weights import lacking, load_features
from cytoforge.data.writer import read_info
from cytoforge.errors import UserError
from cytoforge.inference.load import load_network
from cytoforge.networks.features import VGG19Features
from cytoforge.processors import usable_threads
from cytoforge.progress import Progress, counted, say
from cytoforge.report import run_report
from cytoforge.training.course import State, course
from cytoforge.training.data import TrainingData
from cytoforge.training.hyperparameters import USUAL, Adversarial, Hyperparameters, Vid2Vid
from cytoforge.training.loop import Networks, Trainer, Validation, fit
from cytoforge.training.recipes.networks import Described
from cytoforge.training.recipes.painting import VGG
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.samplers.items import Drawing, Sampler
from cytoforge.training.samplers.prefetch import Prefetched
from cytoforge.training.specification import Bounded, Compute, Data, Training
from cytoforge.training.tasks.processes import together

PICTURE = 256  # px, side of pictures of validation
REPORTED = 4  # validation images in the report
AHEAD = 8  # batches made ahead at most
FREE = ("weights_dir", "devices", "nodes", "accumulate")  # may be others when a training goes on


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a training, by the networks whose weights were kept."""

    shown: Mapping[str, Any]
    """what `run_report` shows besides settings and curves"""
    judgement: Judgement | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what is added to provenance.json"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a task trains, once it has seen the data."""

    networks: dict[str, Described]
    """kind and options of the networks of the run, by name"""
    recipe: Recipe
    sampler: Sampler
    validation: Validation
    outcome: Callable[[Networks, State], Outcome]
    """looks at the networks whose weights were kept"""
    stored: Mapping[str, Any] = field(default_factory=dict)
    """what config.json holds besides the keys that all trainings have"""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """what provenance.json holds besides the keys that all trainings have"""
    weights: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """further weights of the run, such as backgrounds to paint on, by name"""
    most_steps: int | None = None
    """steps after which a training by time ends, too"""
    notes: Sequence[str] = ()
    """what the user should know, a sentence each"""
    remarks: Sequence[str] = ()
    """sentences that go into provenance.json when the training is over"""


class Task(ABC):
    """A kind of training: it opens the data, and plans what is trained and how that is validated."""

    name: ClassVar[str]
    """the words of its command"""
    parameters: Hyperparameters

    @abstractmethod
    def open(self, training: Training) -> TrainingData:
        """Open the data; raises UserError when they do not serve."""

    @abstractmethod
    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build networks, recipe, sampler and validation; raises UserError when data or values do not serve."""


Report = Callable[[float, str], None]
"""What is called with the share of a training that is done, 0 to 1, and a short note."""


@dataclass(frozen=True)
class Trained:
    """A run folder and how its training went."""

    run: Run
    state: State
    main: bool = True
    """whether this is the process that writes and prints for all that have trained together"""


def run_task(task: Task, training: Training, report: Report | None = None) -> Trained:
    """Train and write the run folder; go on with it if an earlier call was interrupted.

    `report(share, note)` is called after every step; without it a progress bar is shown.
    Raises UserError on unusable data or settings and Interrupted after a signal, with everything saved.
    """
    _check_batch(task.parameters.batch, training.compute.processes)
    data = task.open(training)
    with together(training.compute, partial(run_task, task, training)) as fabric, contextlib.ExitStack() as stack:
        if fabric.global_rank == 0:
            stack.enter_context(held(training.output.path))
        return _run(task, training, data, fabric, report)


def _check_batch(batch: int, processes: int) -> None:
    """Raise UserError unless every process gets as many items of a batch."""
    if batch % processes:
        more = math.ceil(batch / processes) * processes
        raise UserError(f"a batch of {batch} does not divide among {processes} processes; give --set batch={more}")


def _run(task: Task, training: Training, data: TrainingData, fabric: Fabric, report: Report | None) -> Trained:
    main, parameters = fabric.global_rank == 0, task.parameters
    plan = task.plan(training, data, fabric)
    micrometres = _micrometres(training.data, data.items)
    run = _open_run(task, training, data, plan, fabric)
    if main:
        counts = f"{counted(len(data.names), 'image')} to train on, {len(data.validation)} for validation"
        notes = [training.data.told(note) for note in (*data.notes, *plan.notes)]
        say([*notes, f"{counts}, {counted(data.cells, 'cell')}"])
    progress = report or Progress(task.name)
    budget = training.budget.in_steps(len(data.names), parameters.batch)
    state = fit(
        Trainer(plan.recipe, fabric, decay=parameters.average, parts=training.compute.accumulate),
        _ahead(plan.sampler, training.compute) if fabric.device.type == "cuda" else plan.sampler,
        plan.validation,
        run,
        budget if plan.most_steps is None else Bounded(**asdict(budget), most=plan.most_steps),
        seed=training.seed,
        announce=lambda share, state: progress(share, f"step {state.step}") if main else None,
    )
    if main:
        for remark in map(training.data.told, plan.remarks):
            if remark not in run.provenance.get("notes", []):
                run.note(remark)
        progress(1.0, f"step {state.step}")  # the last validation may have taken what was left of the time
        kept = {name: load_network(run, name, fabric.device) for name in plan.recipe.averaged}
        outcome = plan.outcome(kept, state)
        _finish(run, task, training, state, outcome, micrometres)
    return Trained(run, state, main)


def _ahead(sampler: Sampler, compute: Compute) -> Prefetched:
    """Return a sampler that keeps a GPU busy, by as many processors as this process may use, if need be."""
    return Prefetched(sampler, min(usable_threads(compute.devices), AHEAD))


def _open_run(task: Task, training: Training, data: TrainingData, plan: Plan, fabric: Fabric) -> Run:
    """Create the run folder, or open it to go on where the same training stopped.

    Raises UserError when the folder holds a finished run or one of other settings, unless told to overwrite.
    """
    content = {
        "command": task.name,
        "networks": plan.networks,
        "perceptual": plan.recipe.perceptual,
        **plan.stored,
        "parameters": asdict(task.parameters),
        "training": described(training),
        "scale": training.data.scale,
        "resize": training.data.resize,
        "normalisation": Normalisation().to_json(),
        "precision": fabric._precision.precision,
        "threads": torch.get_num_threads(),
        "training_images": list(data.names),
        "validation_images": [name for name, _, _ in data.validation],
    }
    if fabric.global_rank == 0:
        run = Run.start(training.output.path, content, overwrite=training.output.overwrite)
        learned, validated = data.fingerprints
        run.record(training_data=learned, validation_data=validated, data_notes=list(data.notes), **plan.provenance)
        compute = training.compute
        run.record(device=str(fabric.device), processes=compute.processes, accumulate=compute.accumulate)
        run.record(**credits.stored(_credits(training, plan)))
        for name, tensors in plan.weights.items():
            run.save_weights(name, tensors)
    fabric.barrier()
    return Run.open(training.output.path)


def _credits(training: Training, plan: Plan) -> list[str]:
    """Return the credits of all that is learned from: images, synthetic ones, and runs to start from."""
    data, start = training.data, plan.stored.get("start") or []
    synthetic = data.synthetic.path if data.synthetic else None
    folders = [None if data.arrays else data.path, synthetic, data.unlabelled]
    runs = [start] if isinstance(start, str) else start
    return credits.merged(
        *(credits.credits_of(folder) for folder in folders if folder is not None),
        *(credits.credits_of_run(Path(run)) for run in runs),
    )


def described(training: Training) -> dict[str, Any]:
    """Return what config.json says of a training: all that its result follows from, in plain values."""
    data = asdict(training.data)
    del data[
        "arrays" if training.data.arrays is None else "path"
    ]  # the temporary folder of arrays is another each time
    compute = {key: value for key, value in asdict(training.compute).items() if key not in FREE}
    parts = {"data": data, "budget": asdict(training.budget), "compute": compute, "seed": training.seed}
    plain: dict[str, Any] = _plain(parts)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, Path) else value


def drawing_of(parameters: Hyperparameters, size: tuple[int, int], training: Training, fabric: Fabric) -> Drawing:
    """Return how a process draws its share of windows (or clips, or crops) of a size in pixels, height and width."""
    return Drawing(
        size=size,
        count=parameters.batch,
        policy=parameters.augmentation,
        p_vanilla=parameters.p_vanilla,
        seed=training.seed,
        ranks=(fabric.global_rank, fabric.world_size),
    )


def stored_tile(crop: tuple[int, int]) -> int:
    """Return the side in pixels of the tiles for using a network that was trained on windows of this size."""
    return max(2 * max(crop), 256)


def feature_network(parameters: Adversarial | Vid2Vid, weights_dir: Path | None) -> VGG19Features | None:
    """Return VGG-19 where hyperparameters want it and its weights are there, else None.

    Raises UserError when the weights are missing and the hyperparameters allow nothing else.
    """
    if parameters.perceptual not in ("vgg", "vgg or features"):
        return None
    weights = load_features("vgg19", weights_dir)
    if weights is None and parameters.perceptual == "vgg":
        raise UserError(f"--perceptual vgg: {lacking(weights_dir, 'vgg19')}")
    return None if weights is None else VGG19Features(weights)


def perceptual_notes(parameters: Adversarial | Vid2Vid, recipe: Recipe, weights_dir: Path | None) -> list[str]:
    """Return a note if features of the discriminator replace those of VGG-19, whose weights are missing."""
    if parameters.perceptual != "vgg or features" or recipe.perceptual == VGG:
        return []
    return [f"the perceptual loss falls back to matching the discriminator's features: {lacking(weights_dir, 'vgg19')}"]


def _finish(
    run: Run, task: Task, training: Training, state: State, outcome: Outcome, micrometres: float | None
) -> None:
    """Record how a training ended and what came of it, say it, and write report.html, which a finished run has."""
    judgement, how = outcome.judgement, course(state).words
    stored = None if judgement is None else judgement.to_json()
    facts = {"steps": state.step, "seconds": state.seconds, "verdict": how, "judgement": stored, **outcome.facts}
    run.record(**facts)
    if judgement is not None:
        say([judgement.headline], judgement.verdict)
        say(judgement.details)
    say([how])
    parameters = task.parameters
    usual = next((asdict(preset) for preset in USUAL if type(preset) is type(parameters)), {})
    settings = {
        "training": _unusual(described(training), described(Training(data=Data(path=Path()), output=training.output))),
        "parameters": _unusual(asdict(parameters), usual),
    }
    report = run_report(
        title=f"Training of {run.path.name}",
        settings={part: changed for part, changed in settings.items() if changed},
        provenance={name: fact for name, fact in run.provenance.items() if name not in ("verdict", "judgement")},
        metrics=run.metrics(),
        verdict=how,
        judgement=judgement,
        micrometres=micrometres,
        **outcome.shown,
    )
    report.write(run.folder)
    run.finish()


def _unusual(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, also of nested mappings, that differ from the usual ones."""
    found = {}
    for name, value in values.items():
        other = usual.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            value, other = _unusual(value, other), {}
        if value != other:
            found[name] = value
    return found


def _micrometres(data: Data, items: Sequence[Item]) -> float | None:
    """Return the side in micrometres of a pixel as the networks see it; None where it is not known or not one for all.

    It is that of dataset.json, else what the images state; raises UserError where dataset.json holds no number.
    """
    info = read_info(data.path)
    size = calibration_of(data.path, info, [item.image for item in items if item.image]).pixel_size
    if data.resize is not None or size is None:
        return None
    return size * float(info.get("scale", 1.0)) / data.scale


def side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Join pictures uint8 (H, W, 3) of one height from left to right."""
    return np.concatenate(panels, axis=1)
