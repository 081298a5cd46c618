"""Several processes, and several parts of a batch, learn what one does from the whole."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import picture, squares
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from cytoforge.cells.crops import SIDE
from cytoforge.data.dataset import Item
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.processes import together
from cytoforge.training.recipes import vid2vid
from cytoforge.training.recipes.conventional import Conventional
from cytoforge.training.recipes.cycle_gan import CycleGAN
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
from cytoforge.training.samplers.moves import Moves, MoveSampler
from cytoforge.training.samplers.pairs import Pairs
from cytoforge.training.samplers.simulated import SimulatedMasks
from cytoforge.training.samplers.synthetic import Synthetic
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Compute
from cytoforge.training.tasks import movie, super_resolution
from cytoforge.networks.tracker import Tracker

FRAMES, STEPS = 8, 10
TINY = {"width": 4, "batch": 4, "average": 0.9}
PAINTING = {**TINY, "depth": 2, "discriminator_width": 4, "heads": 1, "head_width": 4, "zero_scores": False}
TINY_TWO = Compute(device="cpu", devices=2, threads=1)


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
    case, found = CASES[name], []
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
            found.append(trainer.step(batch, step / steps))
    return found


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


@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name])
def test_a_batch_in_parts_teaches_what_the_whole_does(name: str) -> None:
    """And no layer sees more than a part of it."""
    whole, seen = losses(name, alone(), "group", steps=4), list[int]()

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Conv2d):
            seen.append(len(given[0]))

    with register_module_forward_pre_hook(look):
        close(losses(name, alone(), "group", parts=2, steps=4), whole)
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
