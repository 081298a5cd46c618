"""Several processes, and several parts of a batch, learn what one does from the whole."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from conftest import picture, squares
from cytoforge.cells.crops import SIDE
from cytoforge.data.dataset import Item
from cytoforge.errors import Interrupted, UserError
from cytoforge.networks.linker import LinkScorer
from cytoforge.networks.tracker import Tracker
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes import vid2vid
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.cycle_gan import CycleGAN
from cytoforge.training.recipes.linking import Linking
from cytoforge.training.recipes.mean_teacher import MeanTeacher
from cytoforge.training.recipes.networks import build, describe_generator, describe_segmenter
from cytoforge.training.recipes.paired_gan import PairedGAN
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.recipes.super_resolution import SuperResolutionGAN
from cytoforge.training.recipes.tgan import MovieGAN
from cytoforge.training.recipes.tracking import Tracking
from cytoforge.training.recipes.vid2vid import Vid2VidGAN
from cytoforge.training.samplers.clips import Clips, DoublingClips
from cytoforge.training.samplers.items import Batch, Drawing, Pair, Sampler
from cytoforge.training.samplers.lineages import LineageSampler, tracked
from cytoforge.training.samplers.moves import Moves, MoveSampler
from cytoforge.training.samplers.pairs import Pairs
from cytoforge.training.samplers.simulated import SimulatedMasks
from cytoforge.training.samplers.synthetic import Synthetic
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Budget, Compute, Data, Output, Training
from cytoforge.training.tasks import movie, super_resolution
from cytoforge.training.tasks.processes import check_devices, found, together
from cytoforge.training.tasks.segmentation import SegmentationTask
from cytoforge.training.tasks.task import run_task

FRAMES, STEPS = 6, 4
TINY = {"width": 4, "batch": 4, "average": 0.9}
PAINTING = {**TINY, "depth": 2, "discriminator_width": 4, "heads": 1, "head_width": 4, "zero_scores": False}
TINY_TWO = Compute(device="cpu", devices=2, threads=1, precision="float32")


def read(i: int) -> Pair:
    """Frame i of a movie of squares, of which the first few have no cell to the right."""
    labels = np.roll(squares((48, 48)), i, axis=1)
    labels[:, 8 * (i % 4) + 16 :] = 0
    return (picture(labels, seed=i) / np.float32(127.5) - 1).astype(np.float32), labels


def items() -> list[Item]:
    return [Item(f"01_{t}", group="01", frame=t) for t in range(FRAMES)]


@dataclass(frozen=True)
class Case:
    """A recipe, and what it learns from."""

    recipe: Callable[[str], Recipe]
    """by the norm of its networks"""
    sampler: Callable[[Drawing], Sampler]
    size: tuple[int, int] = (32, 32)
    policy: str = "strong"


def windows(drawing: Drawing, *, unlabelled: bool = False, simulated: bool = False, painted: bool = False) -> Windows:
    more = Windows(["x", "y", "z"], read, drawing.following) if unlabelled else None
    shapes = SimulatedMasks.like([read(i)[1] for i in range(FRAMES)]) if simulated else None
    synthetic = Synthetic(items(), read, 0.5, "mix") if painted else None
    return Windows([item.name for item in items()], read, drawing, synthetic, more, shapes)


def conventional(norm: str, network: str = "unet") -> Recipe:
    parameters = replace(hyperparameters.SEGMENTATION["tiny"], **TINY, depth=2, norm=norm, network=network)
    return Conventional.build(parameters, describe_segmenter(parameters, 1), 0)


def mean_teacher(norm: str) -> Recipe:
    parameters = replace(hyperparameters.MEAN_TEACHER["tiny"], **TINY, depth=2, norm=norm, ramp=5)
    return MeanTeacher.build(parameters, describe_segmenter(parameters, 1), 0)


def paired_gan(norm: str) -> Recipe:
    parameters = replace(
        hyperparameters.GENERATOR["tiny"], **PAINTING, norm=norm, perceptual="statistics", background="painted"
    )
    return PairedGAN.build(parameters, describe_generator(parameters, 1), 0)


def cycle_gan(norm: str) -> Recipe:
    parameters = replace(hyperparameters.CYCLE_GAN["tiny"], **PAINTING, norm=norm, condition="instances")
    described = {"segmenter": describe_segmenter(parameters, 1), "generator": describe_generator(parameters, 1)}
    return CycleGAN.build(parameters, described, 0)


def tgan(norm: str) -> Recipe:
    dropout = 0.3 if norm == "batch" else 0.0
    parameters = replace(hyperparameters.MOVIE["tiny"], **PAINTING, norm=norm, dropout=dropout, learn_last=False)
    return MovieGAN.build(parameters, movie.describe(parameters, 1), 0)


def enlarging(norm: str) -> Recipe:
    parameters = replace(hyperparameters.SUPER_RESOLUTION["tiny"], **PAINTING, norm=norm)
    return SuperResolutionGAN.build(parameters, super_resolution.describe(parameters, 1), 0)


def baseline(norm: str) -> Recipe:
    parameters = replace(hyperparameters.VID2VID["tiny"], **TINY, depth=1, blocks=2, discriminator_width=4, norm=norm)
    return Vid2VidGAN.build(parameters, vid2vid.describe(parameters, 1), 0)


def tracking(norm: str) -> Recipe:
    tracker = build(Tracker, 0, "tracker", {"in_channels": 1, "width": 2, "norm": norm})
    for layer in tracker.modules():
        if isinstance(layer, nn.Dropout) and norm == "group":
            layer.p = 0.0
    return Tracking(tracker, hyperparameters.TRACKER["tiny"].rate)


def linking(norm: str) -> Recipe:
    return Linking(build(LinkScorer, 0, "tracker", {"width": 4}, "torch"), hyperparameters.LINKER["tiny"].rate)


def lineages(drawing: Drawing) -> LineageSampler:
    return LineageSampler(tracked(items(), read), [], drawing)


def pairs(drawing: Drawing) -> Pairs:
    painted = [[np.random.default_rng(i).integers(0, 2**16, (1, 24, 24)).astype(np.uint16)] for i in range(FRAMES)]
    return Pairs([item.name for item in items()], read, painted, 2, drawing)


CASES = {
    "conventional": Case(conventional, partial(windows, painted=True)),
    "conventional, with dropout": Case(partial(conventional, network="deepsea"), windows),
    "mean_teacher": Case(mean_teacher, partial(windows, unlabelled=True)),
    "paired_gan": Case(paired_gan, windows, policy="flip"),
    "cycle_gan": Case(cycle_gan, partial(windows, unlabelled=True, simulated=True)),
    "tgan": Case(tgan, lambda drawing: Clips(items(), read, drawing, lead=1, longest=2), policy="flip"),
    "super_resolution": Case(enlarging, pairs, size=(16, 16), policy="flip"),
    "vid2vid": Case(baseline, lambda drawing: DoublingClips(items(), read, drawing, lead=2, first=1), policy="flip"),
    "tracking": Case(tracking, lambda drawing: MoveSampler(Moves(items(), read), drawing), (SIDE, SIDE), "flip"),
    "linking": Case(linking, lineages),
}


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Compute in double precision, so that rounding does not hide what differs."""
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(Tensor, "float", Tensor.double), patch.object(torch, "float32", torch.float64):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def doubled(batch: Batch) -> Batch:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    changed: dict[str, Any] = {
        name: value.double()
        for name, value in values.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    if batch.unlabelled is not None:
        changed["unlabelled"] = doubled(batch.unlabelled)
    return replace(batch, **changed)


def losses(
    name: str, fabric: Fabric, norm: str = "batch", parts: int = 1, steps: int = STEPS
) -> list[dict[str, float]]:
    """Losses of some steps, of which the last tell of all weights before."""
    case, told = CASES[name], []
    drawing = Drawing(
        size=case.size, count=4, policy=case.policy, seed=3, ranks=(fabric.global_rank, fabric.world_size)
    )
    sampler = case.sampler(drawing)
    with exactly():
        trainer = Trainer(case.recipe(norm), fabric, decay=0.9, parts=parts)
    for step in range(steps):
        batch = doubled(sampler(step, step / steps))
        with exactly():
            torch.manual_seed(step)  # of dropout
            told.append(trainer.step(batch, step / steps))
    return told


def all_together() -> dict[str, list[dict[str, float]]]:
    with together(TINY_TWO, all_together) as fabric:
        return {name: losses(name, fabric) for name in CASES}


def alone() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def shared() -> dict[str, list[dict[str, float]]]:
    return all_together()


def close(found: list[dict[str, float]], expected: list[dict[str, float]], tolerance: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_does(name: str, shared: dict[str, list[dict[str, float]]]) -> None:
    expected = losses(name, alone())
    close(shared[name], expected)
    assert expected[-1] != pytest.approx(expected[0], rel=1e-3)  # something is learned


@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name and name != "linking"])
def test_a_batch_in_parts_teaches_what_the_whole_does(name: str) -> None:
    """And no layer sees more than a part of it."""
    whole, seen = losses(name, alone(), "group", steps=3), list[int]()

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Conv2d):
            seen.append(len(given[0]))

    with register_module_forward_pre_hook(look):
        close(losses(name, alone(), "group", parts=2, steps=3), whole)
    assert max(seen) == (4 if name == "cycle_gan" else 2)  # which paints on unlabelled windows, too


def test_parts_need_the_memory_of_one() -> None:
    """What the graph of a batch keeps are its inputs, until gradients pass; layers see one part at a time."""
    batch, kept, seen = windows(Drawing(size=(32, 32), count=4, policy="flip", seed=0))(0), [0, 0], set[int]()
    for place, parts in enumerate((1, 4)):
        recipe = conventional("group")
        trainer = Trainer(recipe, alone(), decay=0.9, parts=parts)

        def keep(tensor: Tensor, place: int = place) -> Tensor:
            kept[place] += tensor.nbytes
            return tensor

        if parts > 1:
            recipe.networks["segmenter"].outputs.register_forward_pre_hook(lambda layer, given: seen.add(len(given[0])))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = recipe.networks["segmenter"](batch.images)
        trainer.update("segmenter", logits.square().mean())
    assert kept[1] < 0.1 * kept[0] and seen == {1}


def training(out: Path, devices: int, data: Path, steps: int = 8) -> Training:
    return Training(
        data=Data(path=data, split_by="image"),
        output=Output(path=out),
        budget=Budget(steps=steps),
        compute=replace(TINY_TWO, devices=devices),
    )


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(tiny_dataset: Path, tmp_path: Path) -> None:
    """It is stopped when one computes, killed when two do, and goes on alone: rounding is all that differs."""
    task = SegmentationTask(replace(hyperparameters.SEGMENTATION["tiny"], **TINY, depth=2, crop=(32, 32), rate=1e-4))

    def stop(share: float, note: str) -> None:
        if note == "step 2":
            raise Interrupted("enough")

    def kill(share: float, note: str) -> None:
        if note == "step 5":
            (child,) = multiprocessing.active_children()
            child.kill()

    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="stopped at step 2"):
        run_task(task, training(out, 1, tiny_dataset), stop)
    with pytest.raises(UserError, match="process 2 of 2 was ended by signal 9; the same command goes on"):
        run_task(task, training(out, 2, tiny_dataset), kill)
    assert multiprocessing.active_children() == []
    run = run_task(task, training(out, 1, tiny_dataset)).run
    assert run.provenance["processes"] == 1 and "RANK" not in os.environ
    whole = run_task(task, training(tmp_path / "whole", 1, tiny_dataset)).run
    one, other = ([row["segmentation"] for row in found.metrics()] for found in (whole, run))
    assert len(one) == 8 and other == pytest.approx(one, abs=1e-5)
    assert other[5:] != one[5:]  # two have computed some of the steps


def test_a_batch_that_does_not_divide_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    task = SegmentationTask(replace(hyperparameters.SEGMENTATION["tiny"], batch=4))
    with pytest.raises(UserError, match="a batch of 4 does not divide among 3 processes; give --set batch=6"):
        run_task(task, training(tmp_path / "run", 3, tiny_dataset))


TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "gpu1", "MASTER_PORT": "29400"}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[1-2]",
    "SLURM_JOB_ID": "1234567",
}


@pytest.mark.parametrize(
    ("devices", "nodes", "variables", "expected"),
    [
        (2, 1, {}, None),
        (4, 2, {**TORCHRUN, "HOME": "/"}, TORCHRUN),
        (4, 2, SLURM, {**TORCHRUN, "MASTER_PORT": "19567"}),
        (
            4,
            2,
            {**SLURM, "MASTER_ADDR": "other", "MASTER_PORT": "1"},
            {**TORCHRUN, "MASTER_ADDR": "other", "MASTER_PORT": "1"},
        ),
        (4, 2, {**SLURM, **TORCHRUN}, TORCHRUN),  # torchrun inside of a job
        (2, 1, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),  # a plain command in a job starts its processes itself
        (1, 1, SLURM, None),  # eight trainings that have nothing to do with each other
        (4, 2, {}, "--nodes 2: start a process for each device by torchrun or srun"),
        (1, 1, TORCHRUN, "--devices 1 --nodes 1 are 1 processes, and 8 were started"),
        (2, 1, SLURM, "--devices 2 --nodes 1 are 2 processes, and 8 were started"),
        (1, 8, TORCHRUN, "start one for each device"),
    ],
)
def test_processes_are_found_where_others_have_started_them(
    devices: int, nodes: int, variables: dict[str, str], expected: dict[str, str] | str | None
) -> None:
    compute = Compute(device="cpu", devices=devices, nodes=nodes)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            found(compute, variables)
    else:
        assert found(compute, variables) == expected


def test_gpus_that_are_not_there_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices("cuda", 2)
    check_devices("cpu", 64)
    for device, count, have in (("cuda", 4, 2), ("mps", 2, 1)):
        with pytest.raises(UserError, match=f"--devices {count}: there are fewer .* give --devices {have}"):
            check_devices(device, count)
