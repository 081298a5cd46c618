"""Equations 6 to 17 of cGAN-Seg and 1 to 3 of tGAN, by hand and against the published code's numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cytoforge.losses import (
    IGNORED,
    CycleWeights,
    MovieWeights,
    SuperResolutionWeights,
    adversarial,
    cross_entropy_dice,
    dice_loss,
    discriminator_loss,
    flow_loss,
    foreground_probability,
    image_loss,
    mean_difference,
    movie_generator_loss,
    perceptual,
    straight_through_mask,
    super_resolution_loss,
    temporal_loss,
    texture_loss,
    total_generator_loss,
)
from cytoforge.networks.flow import FlowNet, warp
from cytoforge.networks.layers import initialise
from cytoforge.networks.movie import MovieGenerator

GOLDEN = Path(__file__).parent / "golden" / "combined_loss.npz"


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """Logits (1,K,1,N) of N pixels given as rows of K probabilities."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


def test_cross_entropy_dice_equals_the_published_code() -> None:
    golden = np.load(GOLDEN)
    logits = torch.from_numpy(golden["logits"]).requires_grad_()
    target = torch.from_numpy(golden["target"])
    loss = cross_entropy_dice(logits, target)
    loss.backward()
    dice = dice_loss(logits, target)
    torch.testing.assert_close(loss.item(), golden["loss"].item(), rtol=1e-6, atol=0)
    torch.testing.assert_close(dice.item(), golden["dice"].item(), rtol=1e-6, atol=0)
    torch.testing.assert_close((loss - dice).item(), golden["ce"].item(), rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad, torch.from_numpy(golden["grad_logits"]), rtol=1e-5, atol=1e-9)
    empty = cross_entropy_dice(logits, torch.zeros_like(target))
    torch.testing.assert_close(empty.item(), golden["loss_empty_target"].item(), rtol=1e-6, atol=0)


def test_three_classes_by_hand() -> None:
    logits = logits_of([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1]])
    target = torch.tensor([[[0, 1, 2, 1]]])
    cross_entropy = -np.log([0.5, 0.7, 0.6, 0.3]).mean()
    interior = 1 - 2 * (0.7 + 0.3) / ((0.3 + 0.7 + 0.2 + 0.3) + 2)
    border = 1 - 2 * 0.6 / ((0.2 + 0.2 + 0.6 + 0.1) + 1)
    assert dice_loss(logits, target).item() == pytest.approx((interior + border) / 2, rel=1e-5)
    assert cross_entropy_dice(logits, target).item() == pytest.approx(cross_entropy + (interior + border) / 2, rel=1e-5)


def test_ignored_pixels_count_neither_for_cross_entropy_nor_for_dice() -> None:
    """The pixel in the middle is left out: both terms are those of the other two, whatever was predicted there."""
    target = torch.tensor([[[0, IGNORED, 1]]])
    expected = -np.log([0.5, 0.7]).mean() + 1 - 2 * 0.7 / (0.5 + 0.7 + 1)
    for guess in (0.01, 0.99):
        logits = logits_of([[0.5, 0.5], [1 - guess, guess], [0.3, 0.7]]).requires_grad_()
        loss = cross_entropy_dice(logits, target)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        loss.backward()
        assert logits.grad is not None
        assert logits.grad[..., 1].abs().max() == 0 and logits.grad[..., 0].abs().min() > 0


def test_dice_is_taken_over_the_whole_batch() -> None:
    logits = torch.cat([logits_of([[0.5, 0.5], [0.2, 0.8]]), logits_of([[0.9, 0.1], [0.7, 0.3]])])
    target = torch.tensor([[[0, 1]], [[0, 0]]])
    assert dice_loss(logits, target).item() == pytest.approx(1 - 2 * 0.8 / (1.7 + 1), rel=1e-5)


def test_perfect_and_hopeless_predictions() -> None:
    target = torch.tensor([[[0, 1], [2, 1]]])
    perfect = 200.0 * F.one_hot(target, 3).movedim(-1, 1)
    assert cross_entropy_dice(perfect, target).item() == pytest.approx(0, abs=1e-5)
    assert dice_loss(-perfect, target).item() == pytest.approx(1, abs=1e-5)
    assert cross_entropy_dice(perfect * 1e4, 2 - target).isfinite()


@pytest.mark.parametrize(("target", "expected"), [(1.0, (0.25 + 1 + 4) / 3), (0.0, (0.25 + 0 + 9) / 3)])
def test_adversarial_is_the_squared_distance_to_a_constant(target: float, expected: float) -> None:
    prediction = torch.tensor([[[[0.5, 0.0, 3.0]]]])
    assert adversarial(prediction, target).item() == pytest.approx(expected)


def test_discriminator_loss_is_half_of_each_side() -> None:
    real, fake = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.5 * 0.5 + 0.5 * 2)
    assert discriminator_loss(torch.ones(1), torch.zeros(1)).item() == 0


def test_perceptual_weighs_layers_and_leaves_the_target_alone() -> None:
    features = [torch.zeros(1, 2, 2, 2, requires_grad=True), torch.ones(1, 1, 1, 1)]
    targets = [torch.full((1, 2, 2, 2), 3.0, requires_grad=True), torch.full((1, 1, 1, 1), -1.0)]
    loss = perceptual(features, targets, (0.5, 0.25))
    assert loss.item() == pytest.approx(0.5 * 3 + 0.25 * 2)
    loss.backward()
    assert targets[0].grad is None
    torch.testing.assert_close(features[0].grad, torch.full((1, 2, 2, 2), -0.5 / 8))
    with pytest.raises(ValueError, match="got 2 features, 2 targets and 1 weights"):
        perceptual(features, targets, (1.0,))


def test_texture_counts_wherever_it_lies() -> None:
    checks = torch.ones(1, 1, 16, 16)
    checks[..., ::2] = -1
    moved, flat = -checks, torch.zeros_like(checks)
    assert texture_loss([moved], [checks], [4])[...] < 0.1 < (moved - checks).abs().mean()
    inner = [part[..., 2:-2, 2:-2] for part in (flat, checks)]  # window of 4: mean 0, deviation 1
    assert texture_loss([inner[0]], [inner[1]], [4]) > 0.9
    assert texture_loss([flat + 0.5], [flat], [4]) == pytest.approx(0.5)
    painted = checks.clone().requires_grad_()
    target = moved.clone().requires_grad_()
    texture_loss([painted], [target], [3]).backward()
    assert painted.grad is not None and painted.grad.isfinite().all() and target.grad is None
    with pytest.raises(ValueError, match="2 maps, 1 targets and 1 windows"):
        texture_loss([flat, flat], [flat], [4])


def test_image_loss_adds_the_perceptual_term() -> None:
    image, target = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, -1.0], [0.0, 2.0]]]])
    assert image_loss(image, target, torch.tensor(0.3)).item() == pytest.approx(1.0 + 0.3)


def test_total_generator_loss_has_the_papers_weights() -> None:
    terms = [torch.tensor(10.0**-k, dtype=torch.float64) for k in range(6)]
    paper = sum(weight * term.item() for weight, term in zip((1, 1, 100, 100, 50, 50), terms, strict=True))
    assert total_generator_loss(*terms).item() == pytest.approx(paper)
    own = CycleWeights(adversarial=2, cycle_image=3, cycle_mask=5, identity_image=7, identity_mask=11)
    expected = sum(weight * term.item() for weight, term in zip((2, 2, 3, 5, 7, 11), terms, strict=True))
    assert total_generator_loss(*terms, weights=own).item() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_weights_may_not_be_negative(weight: float) -> None:
    with pytest.raises(ValueError, match=f"cycle_mask must be 0 or more, got {weight}"):
        CycleWeights(cycle_mask=weight)
    with pytest.raises(ValueError, match=f"flow must be 0 or more, got {weight}"):
        MovieWeights(flow=weight)
    with pytest.raises(ValueError, match=f"pixels must be 0 or more, got {weight}"):
        SuperResolutionWeights(pixels=weight)


def test_foreground_is_everything_but_background() -> None:
    two = foreground_probability(logits_of([[0.3, 0.7], [0.9, 0.1]]))
    torch.testing.assert_close(two, torch.tensor([[[[0.7, 0.1]]]]))
    three = foreground_probability(logits_of([[0.3, 0.5, 0.2], [0.9, 0.02, 0.08]]))
    torch.testing.assert_close(three, torch.tensor([[[[0.7, 0.1]]]]))


@pytest.mark.parametrize("classes", [2, 3])
def test_straight_through_mask_is_hard_with_a_soft_gradient(classes: int) -> None:
    logits = torch.randn(2, classes, 8, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = straight_through_mask(logits)
    assert torch.equal(mask, (logits.argmax(dim=1, keepdim=True) != 0).float())
    towards = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1))
    (hard,) = torch.autograd.grad((mask * towards).sum(), logits)
    (soft,) = torch.autograd.grad((foreground_probability(logits) * towards).sum(), logits)
    torch.testing.assert_close(hard, soft)
    assert hard.abs().min() > 0


def plain_argmax(logits: Tensor) -> Tensor:
    return (logits.argmax(dim=1, keepdim=True) != 0).float()


@pytest.mark.parametrize("objective", ["adversarial, Eq. 7", "cycle, Eq. 8"])
@pytest.mark.parametrize(("to_mask", "reaches"), [(straight_through_mask, True), (plain_argmax, False)])
def test_mask_domain_losses_reach_the_segmenter_only_through_the_estimator(
    to_mask: Callable[[Tensor], Tensor], reaches: bool, objective: str
) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 12, 12) * 2 - 1
    segmenter, network = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
    logits = segmenter(image)
    logits.retain_grad()
    output = network(to_mask(logits))
    loss = adversarial(output, 1.0) if "adversarial" in objective else image_loss(output, image, torch.tensor(0.0))
    loss.backward()  # the network behind the mask has parameters, so this runs either way
    assert (logits.grad is not None and bool(logits.grad.abs().sum() > 0)) == reaches
    assert (segmenter.weight.grad is not None) == reaches


def test_loss_of_the_movie_generator_weighs_its_terms() -> None:
    terms = [torch.tensor(10.0**-k, dtype=torch.float64) for k in range(5)]
    assert movie_generator_loss(*terms).item() == pytest.approx(1 + 100 * 0.1 + 50 * 0.01 + 100 * 1e-3 + 50 * 1e-4)
    own = MovieWeights(adversarial=2, flow=3, pixels=5, perceptual=7, temporal=11)
    assert movie_generator_loss(*terms, weights=own).item() == pytest.approx(2 + 0.3 + 0.05 + 0.007 + 0.0011)


def test_loss_of_the_super_resolution_weighs_its_terms() -> None:
    terms = [torch.tensor(10.0**-k, dtype=torch.float64) for k in range(3)]
    assert super_resolution_loss(*terms).item() == pytest.approx(1 + 25 * 0.1 + 50 * 0.01)
    own = SuperResolutionWeights(adversarial=2, pixels=3, perceptual=5)
    assert super_resolution_loss(*terms, weights=own).item() == pytest.approx(2 + 0.3 + 0.05)


def test_flow_loss_by_hand() -> None:
    flow = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).requires_grad_()
    real_flow = torch.tensor([1.5, 1.0]).view(1, 2, 1, 1).requires_grad_()
    loss = flow_loss(flow, real_flow)
    assert loss.item() == pytest.approx((0.5 + 3) / 2)
    loss.backward()
    assert flow.grad is not None and flow.grad.flatten().tolist() == [-0.5, -0.5]
    assert real_flow.grad is None


def test_temporal_loss_follows_what_moves() -> None:
    """A bright pixel goes one to the right; where it came from and where it is are told by the flow or are wrong."""
    earlier, later = torch.zeros(2, 1, 1, 3, 6)
    earlier[..., 1, 2] = later[..., 1, 3] = 4.0
    still, right = torch.zeros(1, 2, 3, 6), torch.zeros(1, 2, 3, 6)
    right[:, 0] = -1
    assert temporal_loss(later, earlier, right) == 0
    assert temporal_loss(later, earlier, still).item() == pytest.approx(8 / 18)
    assert temporal_loss(earlier, earlier, still) == 0


def movie_gradients(term: str) -> tuple[bool, bool]:
    """Whether a term reaches the movie generator and the flow network; `published` is that of the published code."""
    generator, flows = MovieGenerator(width=8, depth=2), FlowNet(width=4)
    draw = torch.Generator().manual_seed(0)
    for network in (generator, flows):
        initialise(network, draw)
    masks, real = torch.rand(1, 2, 16, 24, generator=draw), torch.rand(2, 1, 1, 16, 24, generator=draw) * 2 - 1
    background, styles = torch.zeros(1, 1, 16, 24), torch.randn(1, 2, 128, generator=draw)
    painted = generator(masks, real[0], background, styles, torch.rand(1, 1, 16, 24, generator=draw))
    real_flow = flows(*real)
    loss = {
        "flow": lambda: flow_loss(flows(real[0], painted), real_flow),
        "temporal": lambda: temporal_loss(painted, real[0], real_flow.detach()),
        "training of the flow network": lambda: temporal_loss(real[1], real[0], real_flow),
        "published": lambda: mean_difference(real[1], warp(real[0], real_flow)),
    }[term]()
    loss.backward()
    reached = [[p.grad is not None and bool(p.grad.any()) for p in n.parameters()] for n in (generator, flows)]
    return any(reached[0]), any(reached[1])


@pytest.mark.parametrize(
    ("term", "to_generator", "to_flows"),
    [
        ("flow", True, True),
        ("temporal", True, False),
        ("training of the flow network", False, True),
        ("published", False, True),
    ],
)
def test_losses_of_motion_reach_whom_they_are_for(term: str, to_generator: bool, to_flows: bool) -> None:
    """The published temporal term holds no painted frame, and its flow network is in no optimiser."""
    assert movie_gradients(term) == (to_generator, to_flows)


def test_temporal_loss_reaches_back_in_time() -> None:
    frames = torch.rand(2, 1, 1, 6, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    temporal_loss(frames[1], frames[0], torch.full((1, 2, 6, 7), 0.3)).backward()
    assert frames.grad is not None and frames.grad[0].any() and frames.grad[1].any()


def test_losses_are_float32_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, 16, 16, generator=generator)
    target = torch.randint(0, 3, (1, 16, 16), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.conv2d(image, torch.randn(3, 1, 3, 3, generator=generator), padding=1)
        assert logits.dtype == torch.bfloat16
        under = _every_loss(logits, target)
    for found, exact in zip(under, _every_loss(logits.float(), target), strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, exact)


def _every_loss(logits: Tensor, target: Tensor) -> list[Tensor]:
    return [
        adversarial(logits, 1.0),
        discriminator_loss(logits, logits),
        cross_entropy_dice(logits, target),
        perceptual([logits], [torch.zeros_like(logits)], [1.0]),
        image_loss(logits, torch.zeros_like(logits), torch.tensor(0.0)),
        foreground_probability(logits),
        straight_through_mask(logits),
        flow_loss(logits[:, :2], torch.zeros_like(logits[:, :2])),
        temporal_loss(logits, logits.flip(3), logits[:, :2]),
        mean_difference(logits, torch.zeros_like(logits)),
    ]
