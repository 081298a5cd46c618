"""Images without masks: how they are opened and drawn, and what a mean teacher learns from them."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from conftest import picture, squares
from cytoforge.cells.augment import apply_diff_augment, draw_diff_augment
from cytoforge.cells.instances import TARGETS
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import write_json
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.losses import cross_entropy_dice
from cytoforge.networks.layers import initialise
from cytoforge.networks.segmentation import UNet
from cytoforge.training import hyperparameters
from cytoforge.training.data import TrainingData, Unlabelled, open_data, open_unlabelled
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.mean_teacher import MeanTeacher, risen
from cytoforge.training.samplers.items import Batch, Drawing
from cytoforge.training.samplers.windows import Windows
from cytoforge.training.specification import Data

LABELLED, UNLABELLED = 0.5, -0.5


# ---- opening


@pytest.fixture
def more(tmp_path: Path, tiny_dataset: Path) -> Path:
    """Two images of their own, of 40 x 56 pixels, and all images of `tiny_dataset` under other names."""
    for seed in (70, 71):
        write_image(tmp_path / "more" / f"new{seed}.png", picture(squares((40, 56)), seed))
    for item in Dataset.open(tiny_dataset).items:
        (tmp_path / "more" / f"copy_of_{item.name}.png").write_bytes(item.image.read_bytes())
    return tmp_path / "more"


def opened(data: Data) -> tuple[TrainingData, Unlabelled | None]:
    training = open_data(data, 0)
    return training, open_unlabelled(data, training)


def test_images_of_validation_are_left_out_and_said(tiny_dataset: Path, more: Path) -> None:
    training, found = opened(Data(path=tiny_dataset, unlabelled=more))
    (held,) = (name for name, _, _ in training.validation)
    assert set(found.names) == {"new70", "new71", *(f"copy_of_{name}" for name in training.names)}
    assert f"copy_of_{held}" not in found.names
    assert found.notes == (
        f"{more}: 1 image of validation left out, as the segmenter would know them before it is measured on them",
    )
    assert (found.fingerprint["path"], found.fingerprint["items"]) == (str(more), 7)
    sizes = dict(zip(found.names, (found.read(i)[0].shape for i in range(7)), strict=True))
    assert sizes["new70"] == (1, 40, 56) and sizes[f"copy_of_{training.names[0]}"] == (1, 64, 64)
    for i in range(7):
        image, labels = found.read(i)
        assert image.dtype == np.float32 and labels.shape == image.shape[1:] and not labels.any()
        assert -1 <= image.min() < -0.5 and 0.5 < image.max() <= 1
    assert opened(Data(path=tiny_dataset))[1] is None


def test_masks_beside_them_are_not_read_and_sizes_are_those_of_the_training(tiny_dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for seed in range(2):
        write_image(other / "images" / f"o{seed}.png", picture(squares((40, 56)), 90 + seed))
        (other / "masks").mkdir(exist_ok=True)
        (other / "masks" / f"o{seed}.png").write_bytes(b"no image")
    write_json(other / "dataset.json", {"scale": 0.5})
    for wanted, shape in (({"scale": 0.25}, (20, 28)), ({"resize": (32, 48)}, (32, 48)), ({}, (80, 112))):
        _, found = opened(Data(path=tiny_dataset, unlabelled=other, **wanted))
        assert found.names == ("o0", "o1") and found.read(1)[0].shape == (1, *shape)
        assert found.notes == ()


def test_images_that_cannot_be_learned_from_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "rgb" / "a.png", np.arange(4800, dtype=np.uint16).reshape(3, 40, 40))
    with pytest.raises(UserError, match=r"rgb: has images of 3 channels, .*tiny of 1; convert them"):
        opened(Data(path=tiny_dataset, unlabelled=tmp_path / "rgb"))
    (held,) = open_data(Data(path=tiny_dataset), 0).held
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "x.png").write_bytes(held.image.read_bytes())
    with pytest.raises(UserError, match="same: holds no other images than those of validation; give others"):
        opened(Data(path=tiny_dataset, unlabelled=tmp_path / "same"))
    write_labels(tmp_path / "none" / "masks" / "a.png", squares())
    with pytest.raises(UserError, match="none: holds no images"):
        opened(Data(path=tiny_dataset, unlabelled=tmp_path / "none"))


# ---- drawing


def drawing(count: int, rank: int = 0, world: int = 1, policy: str = "none") -> Drawing:
    return Drawing(size=(16, 16), count=count, policy=policy, seed=3, ranks=(rank, world))


def windows(count: int, rank: int = 0, world: int = 1, policy: str = "none") -> Windows:
    def source(value: float, noise: int) -> Windows:
        def read(i: int) -> tuple[np.ndarray, np.ndarray]:
            image = value + 0.1 * np.random.default_rng([noise, i]).random((1, 40, 48), np.float32)
            return image.astype(np.float32), np.full((40, 48), (i + 1) * (value == LABELLED), np.int32)

        return read

    whole = drawing(count, rank, world, policy)
    others = Windows(["u0", "u1", "u2"], source(UNLABELLED, 1), whole.following)
    return Windows(["a", "b"], source(LABELLED, 0), whole, unlabelled=others)


def test_further_items_have_places_and_draws_of_their_own() -> None:
    whole = drawing(3)
    assert (whole.places, whole.following.places, whole.following.following.places) == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert replace(whole.following, first=0) == whole
    shared = [drawing(4, rank, 2) for rank in (0, 1)]
    assert [one.places for one in shared] == [(0, 2), (1, 3)]
    assert [one.following.places for one in shared] == [(4, 6), (5, 7)]
    seeds = {
        one.generator(step, place, "augment").initial_seed()
        for one in (whole, whole.following)
        for step in range(4)
        for place in one.places
    }
    assert len(seeds) == 24


def test_a_batch_has_as_many_windows_without_masks() -> None:
    sampler = windows(2)
    names = []
    for step in range(6):
        batch = sampler(step)
        other = batch.unlabelled
        assert batch.items == (0, 1) and other.items == (2, 3) and other.unlabelled is None
        assert (batch.images > 0).all() and (other.images < 0).all()
        assert (batch.labels > 0).all() and not other.labels.any() and other.labels.shape == batch.labels.shape
        assert {*batch.names} == {"a", "b"}
        names += other.names
    assert all(sorted(names[i : i + 3]) == ["u0", "u1", "u2"] for i in range(0, 12, 3))  # each once a pass
    assert not torch.equal(sampler(0).unlabelled.images, sampler(1).unlabelled.images)


def test_windows_without_masks_are_shared_by_processes_and_leave_the_others_as_they_are() -> None:
    whole, parts = windows(4, policy="strong")(5), [windows(4, rank, 2, "strong")(5) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert part.unlabelled.items == whole.unlabelled.items[rank::2]
        assert part.unlabelled.names == whole.unlabelled.names[rank::2]
        assert torch.equal(part.unlabelled.images, whole.unlabelled.images[rank::2])
    alone = windows(4, policy="strong")
    alone.unlabelled = None
    assert alone(5).unlabelled is None and torch.equal(alone(5).images, whole.images)


def test_together_they_are_one_batch() -> None:
    batch = windows(2)(0)
    both, other = batch.together(), batch.unlabelled
    assert both.items == (0, 1, 2, 3) and both.names == (*batch.names, *other.names) and both.unlabelled is None
    assert torch.equal(both.images[:2], batch.images) and torch.equal(both.images[2:], other.images)
    assert torch.equal(both.labels[:2], batch.labels) and torch.equal(both.labels[2:], other.labels)
    seeds = [generator.initial_seed() for generator in both.generators("noise")]
    assert seeds[:2] == [generator.initial_seed() for generator in batch.generators("noise")]
    assert len(set(seeds)) == 4
    alone = replace(batch, unlabelled=None)
    assert alone.together() is alone
    moved = batch.to(torch.device("meta"))
    assert moved.images.is_meta and moved.unlabelled.images.is_meta and moved.unlabelled.labels.is_meta


# ---- learning


def teacher(**options: float) -> MeanTeacher:
    segmenter = UNet(classes=3, width=4, depth=2)
    initialise(segmenter, torch.Generator().manual_seed(0))
    parameters = replace(hyperparameters.MEAN_TEACHER["tiny"], anneal=False, **options)
    return MeanTeacher(segmenter, TARGETS["boundary"], parameters)


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(5)
    labels = torch.zeros(2, 32, 40, dtype=torch.int64)
    labels[0, 4:14, 5:15], labels[0, 14:24, 5:15], labels[1, 10:30, 20:33] = 1, 2, 7
    images = torch.where(labels > 0, 0.4, -0.5).unsqueeze(1) + 0.1 * torch.randn(2, 1, 32, 40, generator=generator)
    other = Batch(
        0.5 * torch.randn(2, 1, 32, 40, generator=generator),
        torch.zeros_like(labels),
        seed=1,
        step=step,
        items=(2, 3),
        names=("u", "v"),
    )
    return Batch(images, labels, seed=1, step=step, items=(0, 1), names=("a", "b"), unlabelled=other)


@pytest.mark.parametrize(("step", "share"), [(0, math.exp(-5)), (20, math.exp(-5 * 0.36)), (50, 1.0), (80, 1.0)])
def test_a_step_is_what_the_formulas_say(step: int, share: float) -> None:
    recipe, data = teacher(consistency=8.0, ramp=50, teacher_decay=0.6), batch(step)
    with torch.no_grad():
        for parameter in recipe.teacher.parameters():  # as if they had parted
            parameter.mul_(1.1)
    student, former = copy.deepcopy(recipe.segmenter), copy.deepcopy(recipe.teacher)
    told: list[tuple[Tensor, tuple[Tensor, ...]]] = []

    def update(name: str, loss: Tensor) -> None:
        assert name == "segmenter"
        told.append((loss.detach(), torch.autograd.grad(loss, list(recipe.segmenter.parameters()))))
        with torch.no_grad():
            for parameter in recipe.segmenter.parameters():
                parameter.add_(1.0)

    losses = recipe.step(data, 0.5, update)

    other = data.unlabelled
    supervised = cross_entropy_dice(student(data.images), TARGETS["boundary"].encode(data.labels))
    draws = draw_diff_augment(other.generators("student"), other.images.shape, 1.0)
    kept = tuple(replace(one, functions=tuple(f for f in one.functions if f != "translation")) for one in draws)
    assert any(one.functions for one in kept)
    noise = torch.stack([torch.randn((1, 32, 40), generator=g) for g in other.generators("noise")])
    seen = student(apply_diff_augment(other.images, kept) + 0.05 * noise).softmax(dim=1)
    consistency = (seen - former(other.images).detach().softmax(dim=1)).square().mean()
    assert consistency > 0
    total = supervised + 8.0 * share * consistency
    assert losses.keys() == {"segmentation", "consistency"}
    torch.testing.assert_close(losses["segmentation"], supervised)
    torch.testing.assert_close(losses["consistency"], consistency)
    ((loss, found),) = told
    torch.testing.assert_close(loss, total.detach())
    for gradient, expected in zip(found, torch.autograd.grad(total, list(student.parameters())), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)

    decay = min(0.6, (1 + step) / (10 + step))
    parts = (former.parameters(), student.parameters(), recipe.teacher.parameters())
    for before, weight, after in zip(*parts, strict=True):
        torch.testing.assert_close(after, decay * before + (1 - decay) * (weight + 1.0))


def test_the_teacher_has_no_gradient_and_no_optimiser_of_its_own() -> None:
    recipe = teacher()
    before = copy.deepcopy(recipe.networks)
    (optimiser,) = recipe.optimisers.values()
    stepped = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert stepped == {id(p) for p in recipe.segmenter.parameters()}
    losses = Trainer(recipe, Fabric(accelerator="cpu", devices=1), decay=0.9).step(batch(0), 0.0)
    assert losses.keys() == {"segmentation", "consistency"} and all(map(math.isfinite, losses.values()))
    assert all(p.grad is None and not p.requires_grad for p in recipe.teacher.parameters())

    def moved(name: str) -> list[bool]:
        pairs = zip(recipe.networks[name].parameters(), before[name].parameters(), strict=True)
        return [not torch.equal(one, other) for one, other in pairs]

    assert recipe.networks.keys() == {"segmenter", "teacher"} and recipe.averaged == ("segmenter",)
    assert sum(moved("segmenter")) > 0.8 * len(moved("segmenter")) and moved("teacher") == moved("segmenter")


def test_without_images_to_be_consistent_on_there_is_no_step() -> None:
    recipe = teacher()
    with pytest.raises(ValueError, match="a mean teacher needs unlabelled windows"):
        recipe.step(replace(batch(0), unlabelled=None), 0.0, lambda name, loss: None)


def test_the_weight_of_consistency_rises() -> None:
    assert [risen(share) for share in (0.0, 0.5, 1.0, 3.0)] == pytest.approx([math.exp(-5), math.exp(-1.25), 1.0, 1.0])


def test_what_is_consistent_costs_nothing() -> None:
    """Without draws that show, and a teacher like the student, all that is left of consistency is that of noise."""
    recipe, data = teacher(consistency=1.0), batch(0)
    data = replace(data, unlabelled=replace(data.unlabelled, images=torch.zeros(2, 1, 32, 40)))
    for network in recipe.networks.values():
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    assert recipe.step(data, 0.0, lambda name, loss: None)["consistency"] == 0


@pytest.mark.parametrize("method", ["cyclegan", "mean-teacher"])
def test_on_the_command_line(method: str, tiny_dataset: Path, more: Path, tmp_path: Path, capsys) -> None:
    run, plain = tmp_path / "run", tmp_path / "plain"
    line = ["train", "segmentation", str(tiny_dataset), "--preset", "tiny", "--threads", "1", "--steps", "3"]
    assert main([*line, "--method", method, "--unlabelled", str(more), "--out", str(run)]) == 0
    assert "1 image of validation left out, as the segmenter would know them" in capsys.readouterr().err
    stored = Run.open(run)
    assert stored.config["method"] == method
    assert stored.config["training"]["data"]["unlabelled"] == str(more)
    fingerprint = stored.provenance["unlabelled_data"]
    assert (fingerprint["path"], fingerprint["items"]) == (str(more), 7)
    columns = stored.metrics()[0].keys()
    assert ("consistency" in columns, "cycle_image" in columns) == (method == "mean-teacher", method == "cyclegan")
    networks = {"segmenter"} | ({"generator"} if method == "cyclegan" else set())
    assert {path.stem for path in (run / "weights").glob("*.safetensors")} == networks
    other = "cyclegan" if method == "cyclegan" else "conventional"
    assert main([*line, "--method", other, "--out", str(plain)]) == 0
    without = Run.open(plain)
    assert without.provenance["unlabelled_data"] is None
    assert without.config["training_images"] == stored.config["training_images"]  # the split is the same
    weights = [one.load_weights("segmenter") for one in (stored, without)]
    assert not all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
