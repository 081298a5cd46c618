"""The cyclegan step does what Eq. 6-17 say, by comparison with the plain way of computing them."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from conftest import squares
from cytoforge.cells.instances import CONDITIONS, TARGETS, condition
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import write_labels
from cytoforge.data.run import Run
from cytoforge.losses import CycleWeights, adversarial, cross_entropy_dice, discriminator_loss, straight_through_mask
from cytoforge.networks.layers import initialise
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.segmentation import UNet
from cytoforge.networks.style_unet import StyleUNet, UNetGenerator
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.cycle_gan import CycleGAN
from cytoforge.training.recipes.networks import describe_generator, describe_segmenter
from cytoforge.training.recipes.painting import (
    FeatureComparison,
    Painting,
    comparison,
    frozen_statistics,
    score_fakes,
)
from cytoforge.training.samplers.items import Batch, Drawing
from cytoforge.training.samplers.simulated import SimulatedMasks, denser
from cytoforge.training.samplers.windows import Windows


def recipe(target: str = "boundary", features: bool = True, kind: str = "mask", **options: float) -> CycleGAN:
    classes = TARGETS[target].classes
    networks = (
        StyleUNet(CONDITIONS[kind], width=4, depth=2),
        UNet(classes=classes, width=4, depth=2),
        PatchGAN(width=4, heads=2, head_width=4),
        PatchGAN(width=4, heads=2, head_width=4),
    )
    for seed, network in enumerate(networks):
        initialise(network, torch.Generator().manual_seed(seed))
    generator, segmenter, image_discriminator, mask_discriminator = networks
    parameters = replace(
        hyperparameters.CYCLE_GAN["tiny"],
        target=target,
        condition=kind,
        weights=CycleWeights(),
        rate=1e-3,
        generator_rate=1e-3,
        discriminator_rate=1e-3,
        anneal=False,
        **options,
    )
    compare = comparison("features", image_discriminator, None)
    if features:
        compare = FeatureComparison(
            lambda image: [image, nn.functional.avg_pool2d(image, 2)], (0.5, 0.25), "the image, and half of it"
        )
    return CycleGAN(
        Painting(generator, kind),
        segmenter,
        (image_discriminator, mask_discriminator),
        TARGETS[target],
        compare,
        parameters,
    )


def batch(step: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(5)
    labels = torch.zeros(2, 32, 40, dtype=torch.int64)
    labels[0, 4:14, 5:15], labels[0, 14:24, 5:15], labels[1, 10:30, 20:33] = 1, 2, 7
    images = torch.where(labels > 0, 0.4, -0.5).unsqueeze(1) + 0.1 * torch.randn(2, 1, 32, 40, generator=generator)
    return Batch(images, labels, seed=1, step=step, items=(0, 1), names=("a", "b"))


def with_unlabelled(step: int = 0) -> Batch:
    """The batch beside two windows without masks."""
    images = 0.5 * torch.randn(2, 1, 32, 40, generator=torch.Generator().manual_seed(6))
    labels = torch.zeros(2, 32, 40, dtype=torch.int64)
    more = Batch(images, labels, seed=1, step=step, items=(2, 3), names=("u", "v"))
    return replace(batch(step), unlabelled=more)


def with_simulated(step: int = 0) -> Batch:
    """The batch beside two label images that belong to no image."""
    labels = torch.zeros(2, 32, 40, dtype=torch.int64)
    labels[0, 2:20, 8:30], labels[1, 3:12, 3:14], labels[1, 12:22, 3:14] = 4, 1, 2
    return replace(with_unlabelled(step), simulated=labels)


def trainer(cycle: CycleGAN) -> Trainer:
    return Trainer(cycle, Fabric(accelerator="cpu", devices=1), decay=0.9)


def test_scoring_fakes_equals_two_passes() -> None:
    discriminator = PatchGAN(width=4, heads=2, head_width=4).eval()
    fake = torch.randn(2, 1, 32, 40, requires_grad=True)
    loss, pull, scores = score_fakes(discriminator, fake)
    plain = adversarial(discriminator(fake), 1.0)
    (expected,) = torch.autograd.grad(plain, fake)
    torch.testing.assert_close(loss, plain.detach())
    torch.testing.assert_close(pull, expected)
    adversarial(scores, 0.0).backward()
    shared = [p.grad.clone() for p in discriminator.parameters() if p.grad is not None]
    assert fake.grad is None
    discriminator.zero_grad()
    adversarial(discriminator(fake.detach()), 0.0).backward()
    plain_gradients = [p.grad for p in discriminator.parameters() if p.grad is not None]
    assert len(shared) == len(plain_gradients) > 0
    for a, b in zip(shared, plain_gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("target", ["boundary", "semantic"])
@pytest.mark.parametrize("p_diff", [0.0, 1.0])
@pytest.mark.parametrize(
    "data", [batch(), with_unlabelled(), with_simulated()], ids=["labelled", "unlabelled, too", "simulated, too"]
)
def test_gradients_equal_those_of_the_summed_loss(target: str, p_diff: float, data: Batch) -> None:
    """The step hands over adversarial gradients and shares passes; Eq. 16 and 17 written out give the same."""
    cycle = recipe(target, p_diff=p_diff)
    plain = copy.deepcopy(cycle.networks)
    found: dict[str, dict[str, Tensor]] = {}

    def record(name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = ()) -> None:
        parameters = [p for group in cycle.optimisers[name].param_groups for p in group["params"]]
        roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
        gradients = torch.autograd.grad(roots, parameters, seeds, allow_unused=True)
        found[name] = {str(i): g for i, g in enumerate(gradients) if g is not None}

    losses = cycle.step(data, 1.0, record)
    cycle.networks = plain  # written out with the same weights, as the step must have left its own untouched
    expected = written_out(cycle, plain, data)
    assert losses.keys() == expected["losses"].keys()
    for name, value in expected["losses"].items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
    for name in found:
        assert found[name].keys() == expected[name].keys()
        for key in found[name]:
            torch.testing.assert_close(found[name][key], expected[name][key], rtol=1e-3, atol=1e-4)


def written_out(cycle: CycleGAN, networks: dict[str, nn.Module], data: Batch) -> dict[str, dict[str, Tensor]]:
    """Eq. 6-17 in the plainest way: every pass run where the paper names it."""
    from cytoforge.cells.augment import apply_diff_augment, draw_diff_augment

    g, s = networks["generator"], networks["segmenter"]
    d1, d2 = networks["image_discriminator"], networks["mask_discriminator"]
    cycle.paint = Painting(g)
    compare = cycle.compare
    assert isinstance(compare, FeatureComparison)
    image, mask = data.images, (data.labels > 0).float().unsqueeze(1)
    target, count = cycle.target.encode(data.labels), len(image)
    every, items = image, data.items  # all images, and the places that their draws follow from
    if (more := data.unlabelled) is not None:
        every, items = torch.cat([image, more.images]), (*items, *more.items)
    places = replace(data, items=items, unlabelled=None)
    own_image, logits = cycle.paint(mask, data, "forward"), s(every)
    fake_image, fake_target = own_image, target
    if data.simulated is not None:
        fake_image = cycle.paint((data.simulated > 0).float().unsqueeze(1), data, "simulated")
        fake_target = cycle.target.encode(data.simulated)
    fake_mask = straight_through_mask(logits)
    fake_logits, cycle_image = s(fake_image), cycle.paint(fake_mask, places, "backward")
    draw = draw_diff_augment(places.generators("diff"), image.shape, cycle.p_diff)

    def distance(x: Tensor, real: Tensor) -> Tensor:
        pairs = zip(compare.features(x), compare.features(real), compare.weights, strict=True)
        return (x - real).abs().mean() + sum(w * (a - b).abs().mean() for a, b, w in pairs)

    losses = {
        "adversarial_image": (1 - d1(apply_diff_augment(fake_image, draw[:count]))).square().mean(),
        "adversarial_mask": (1 - d2(fake_mask)).square().mean(),
        "cycle_image": distance(cycle_image, every),
        "cycle_mask": cross_entropy_dice(fake_logits, fake_target),
        "identity_image": distance(own_image, image),
        "identity_mask": cross_entropy_dice(logits[:count], target),
    }
    w = (1, 1, 100, 100, 50, 50)
    total = sum(weight * loss for weight, loss in zip(w, losses.values(), strict=True))
    both = [*g.parameters(), *s.parameters()]
    losses["discriminator_image"] = discriminator_loss(
        d1(apply_diff_augment(every, draw)), d1(apply_diff_augment(fake_image.detach(), draw[:count]))
    )
    losses["discriminator_mask"] = discriminator_loss(d2(mask), d2(fake_mask.detach()))

    def gradients(loss: Tensor, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return {str(i): gradient for i, gradient in enumerate(found) if gradient is not None}

    return {
        "losses": losses,
        "generator and segmenter": gradients(total, both),
        "image discriminator": gradients(losses["discriminator_image"], list(d1.parameters())),
        "mask discriminator": gradients(losses["discriminator_mask"], list(d2.parameters())),
    }


@pytest.mark.parametrize("term", ["cycle_image", "adversarial"])
def test_images_without_masks_train_the_segmenter_by_the_backward_cycle_and_its_discriminator(term: str) -> None:
    """In eval mode windows do not share statistics: what another unlabelled image changes is its own doing."""
    losses: list[dict[str, Tensor]] = []
    gradients: list[Tensor] = []
    data = with_unlabelled()
    for images in (None, data.unlabelled.images, data.unlabelled.images.flip(-1)):
        cycle = recipe()
        cycle.weights = CycleWeights(**{name: float(name == term) for name in vars(CycleWeights())})
        for network in cycle.networks.values():
            network.eval()

        def record(
            name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = (), cycle: CycleGAN = cycle
        ) -> None:
            if name == "generator and segmenter":
                roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
                weights = list(cycle.segmenter.parameters())
                found = torch.autograd.grad(roots, weights, seeds, allow_unused=True)
                gradients.append(torch.cat([g.flatten() for g in found if g is not None]))

        more = None if images is None else replace(data.unlabelled, images=images)
        losses.append(cycle.step(replace(data, unlabelled=more), 1.0, record))
    for name in ("identity_mask", "cycle_mask", "identity_image", "adversarial_image"):  # those of labelled windows
        for other in losses[1:]:
            torch.testing.assert_close(other[name], losses[0][name])
    for name in ("cycle_image", "adversarial_mask", "discriminator_image", "discriminator_mask"):
        assert len({float(one[name].detach()) for one in losses}) == 3, name
    alone, one, other = gradients
    own = 2 * one - alone  # the mean over four windows, two of which are those of `alone`
    scale = float(alone.abs().max())
    assert scale > 0 and float(own.abs().max()) > 0.01 * scale and float((one - other).abs().max()) > 0.01 * scale


def test_simulated_masks_belong_to_items_and_are_as_dense_as_images_or_denser() -> None:
    image = np.zeros((1, 64, 64), np.float32)
    few, many = np.zeros((64, 64), np.int32), squares((64, 64))
    few[4:16, 4:16], few[30:42, 20:32] = 1, 2
    masks = SimulatedMasks.like([few])
    assert masks.coverage == [288 / 4096] and len(masks.shapes) == 2

    def windows(count: int, rank: int = 0, world: int = 1, simulated: SimulatedMasks | None = masks) -> Windows:
        drawing = Drawing(size=(48, 64), count=count, policy="none", seed=3, ranks=(rank, world))
        return Windows(["a"], lambda i: (image, few), drawing, simulated=simulated)

    whole = windows(4)
    drawn = torch.cat([whole(step).simulated for step in range(20)])
    assert drawn.shape == (80, 48, 64) and drawn.dtype == torch.int64
    coverage = (drawn > 0).float().mean(dim=(1, 2))
    assert 288 / 4096 < coverage.mean() < 2 * 288 / 4096 and coverage.std() > 0
    assert len({one.numpy().tobytes() for one in drawn}) == 80
    for rank in (0, 1):
        part = windows(4, rank, 2)(7)
        assert torch.equal(part.simulated, whole(7).simulated[rank::2])
    assert (
        torch.equal(whole(7).images, windows(4, simulated=None)(7).images)
        and windows(4, simulated=None)(7).simulated is None
    )
    assert whole(0).to(torch.device("meta")).simulated.is_meta
    rng = np.random.default_rng(0)
    dense = [denser(0.2, rng) for _ in range(200)]
    assert 0.2 <= min(dense) < 0.22 and 0.38 < max(dense) <= 0.4
    assert {denser(0.7, rng) for _ in range(9)} == {0.7} and max(denser(0.5, rng) for _ in range(99)) == 0.6
    assert SimulatedMasks.like([many]).coverage == [0.5625]
    assert SimulatedMasks.like([np.ones((8, 8), np.int32)]) is None  # no cell lies wholly inside


def test_the_forward_cycle_on_simulated_masks_on_the_command_line(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "segmentation", str(tiny_dataset), "--preset", "tiny", "--threads", "1", "--steps", "2"]
    rows = []
    for masks in ("own", "simulated"):
        out = tmp_path / masks
        assert main([*line, "--method", "cyclegan", "--masks", masks, "--out", str(out)]) == 0
        assert Run.open(out).config["parameters"]["masks"] == masks
        rows.append(Run.open(out).metrics()[0])
    assert rows[0]["identity_mask"] == pytest.approx(rows[1]["identity_mask"])
    assert rows[0]["identity_image"] == pytest.approx(rows[1]["identity_image"])
    assert rows[0]["cycle_mask"] != pytest.approx(rows[1]["cycle_mask"], rel=1e-3)
    assert main([*line, "--masks", "simulated", "--out", str(tmp_path / "no")]) == 2
    assert "--masks belongs to --method cyclegan" in capsys.readouterr().err
    for item in Dataset.open(tiny_dataset).items:
        write_labels(item.mask, np.repeat(np.arange(4, dtype=np.int32), 16)[None].repeat(64, 0))  # from edge to edge
    assert main([*line, "--method", "cyclegan", "--masks", "simulated", "--out", str(tmp_path / "no")]) == 2
    assert "every cell is cut by the edge of its image, or tiny; use --masks own" in capsys.readouterr().err


def test_during_the_warm_start_unlabelled_windows_rest() -> None:
    cycle, other = recipe(warm_start=0.5), recipe(warm_start=0.5)
    found, expected = trainer(cycle).step(with_unlabelled(), 0.4), trainer(other).step(batch(), 0.4)
    assert found == expected
    pairs = zip(cycle.segmenter.parameters(), other.segmenter.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_the_mask_side_trains_the_segmenter() -> None:
    """With the adversarial mask term alone, and with the backward cycle alone, the segmenter still gets gradient."""
    cycle = recipe()
    data = batch()
    logits = cycle.segmenter(data.images)
    fake_mask = straight_through_mask(logits)
    _, pull, _ = score_fakes(cycle.mask_discriminator, fake_mask)
    weight = cycle.segmenter.parameters().__next__()
    (through_discriminator,) = torch.autograd.grad(fake_mask, weight, pull, retain_graph=True)
    (through_cycle,) = torch.autograd.grad(cycle.paint(fake_mask, data, "backward").mean(), weight)
    assert through_discriminator.abs().sum() > 0
    assert through_cycle.abs().sum() > 0
    hard = logits.argmax(1, keepdim=True).float()
    assert not hard.requires_grad  # what the published code hands on


def test_told_of_instances_the_segmenter_still_learns_through_the_mask_alone() -> None:
    cycle = recipe(kind="instances")
    data = batch()
    logits = torch.full((2, 3, 32, 40), -9.0)
    logits.scatter_(1, cycle.target.encode(data.labels)[:, None], 9.0)
    logits.requires_grad_()
    mask = straight_through_mask(logits)
    told = cycle._predicted_condition(mask, logits)
    torch.testing.assert_close(told, condition(data.labels, "instances"))  # a perfect prediction tells the truth
    assert told[:, 1].sum() > 0 and told[:, 2].max() > 0.2
    (through_mask,) = torch.autograd.grad(told[:, 0].sum(), logits, retain_graph=True)
    assert through_mask.abs().sum() > 0
    painted = cycle.paint(told, data, "backward").mean()
    (through_all,) = torch.autograd.grad(painted, logits, retain_graph=True)
    (pull,) = torch.autograd.grad(painted, mask)
    (by_hand,) = torch.autograd.grad(mask, logits, pull)
    assert through_all.abs().sum() > 0
    torch.testing.assert_close(through_all, by_hand)


def test_told_of_the_mask_nothing_is_added() -> None:
    cycle = recipe()
    mask = straight_through_mask(torch.randn(1, 3, 16, 16))
    assert cycle._predicted_condition(mask, torch.randn(1, 3, 16, 16)) is mask


def test_a_step_told_of_instances_updates_every_network() -> None:
    cycle = recipe(kind="instances")
    before = copy.deepcopy({name: network.state_dict() for name, network in cycle.networks.items()})
    losses = trainer(cycle).step(batch(), 0.5)
    assert len(losses) == 8 and all(map(torch.isfinite, map(torch.tensor, losses.values())))
    for name, network in cycle.networks.items():
        assert any(not torch.equal(value, before[name][key]) for key, value in network.named_parameters()), name


def test_every_network_is_updated_and_by_its_own_optimiser() -> None:
    cycle = recipe()
    work = trainer(cycle)
    before = copy.deepcopy({name: network.state_dict() for name, network in cycle.networks.items()})
    losses = work.step(batch(), 0.5)
    assert all(map(torch.isfinite, map(torch.tensor, losses.values())))
    assert len(losses) == 8
    for name, network in cycle.networks.items():
        changed = [key for key, value in network.named_parameters() if not torch.equal(value, before[name][key])]
        assert len(changed) > 0.8 * len(list(network.parameters())), name


def test_the_generator_of_the_cycle_may_be_a_unet_without_styles_and_noise() -> None:
    """cGAN-Seg, Figure 3: all networks learn in one step, and one image is painted per mask."""
    parameters = replace(
        hyperparameters.CYCLE_GAN["tiny"], generator="unet", width=4, depth=2, anneal=False, zero_scores=False
    )
    described = {"segmenter": describe_segmenter(parameters, 1), "generator": describe_generator(parameters, 1)}
    assert described["generator"]["network"] == "unet-generator" and "upsampling" not in described["generator"]
    cycle = CycleGAN.build(parameters, described, seed=0)
    assert isinstance(cycle.paint.generator, UNetGenerator)
    before = {name: [p.clone() for p in network.parameters()] for name, network in cycle.networks.items()}
    losses = trainer(cycle).step(batch(), 0.5)
    assert losses["cycle_image"] > 0 and losses["identity_image"] > 0
    for name, network in cycle.networks.items():
        assert any(not torch.equal(p, q) for p, q in zip(network.parameters(), before[name], strict=True)), name
    mask = (batch().labels > 0).float()[:, None]
    one, other = (cycle.paint(mask, batch(step), "forward") for step in (0, 1))
    assert torch.equal(one, other) and one.shape == mask.shape


def test_during_the_warm_start_the_discriminators_rest() -> None:
    cycle = recipe(warm_start=0.5)
    work = trainer(cycle)
    before = copy.deepcopy(cycle.image_discriminator.state_dict())
    assert work.step(batch(), 0.4).keys() == {"identity_image", "identity_mask"}
    assert work.step(batch(1), 0.4).keys() == {"identity_mask"}  # the generator learns on every third step
    assert all(torch.equal(v, before[k]) for k, v in cycle.image_discriminator.state_dict().items())
    assert "adversarial_image" in work.step(batch(2), 0.5)
    assert not all(torch.equal(v, before[k]) for k, v in cycle.image_discriminator.state_dict().items())


def test_without_a_perceptual_network_features_of_the_discriminator_are_matched() -> None:
    losses = trainer(recipe(features=False)).step(batch(), 1.0)
    assert losses["identity_image"] > 0


def test_synthetic_images_leave_the_running_statistics_alone() -> None:
    network = UNet(width=4, depth=2)
    before = copy.deepcopy(network.state_dict())
    with frozen_statistics(network):
        network(torch.randn(2, 1, 16, 16))
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in after if "running" in key)
    network(torch.randn(2, 1, 16, 16))
    assert any(not torch.equal(network.state_dict()[key], before[key]) for key in after if "running" in key)


def test_the_draws_of_a_window_do_not_depend_on_the_batch() -> None:
    generator = recipe().paint.generator
    whole, cut = batch(), batch()
    alone = Batch(cut.images[1:], cut.labels[1:], cut.seed, cut.step, items=(1,), names=("b",))
    net = recipe()
    net.paint = Painting(generator.eval())
    mask = (whole.labels > 0).float().unsqueeze(1)
    together = net.paint(mask, whole, "forward")
    torch.testing.assert_close(together[1:], net.paint(mask[1:], alone, "forward"))


def test_noise_may_start_quieter() -> None:
    def noise(gain: float) -> list[Tensor]:
        parameters = replace(hyperparameters.CYCLE_GAN["tiny"], noise_gain=gain)
        described = {
            "segmenter": describe_segmenter(parameters, 1),
            "generator": describe_generator(parameters, 1),
        }
        generator = CycleGAN.build(parameters, described, seed=0).paint.generator
        return [p for name, p in generator.named_parameters() if "to_noise" in name and name.endswith("weight")]

    loud, quiet = noise(1.0), noise(0.25)
    assert loud and all(map(torch.allclose, quiet, [0.25 * p for p in loud]))
