"""The losses of cGAN-Seg, Equations 6 to 17, of tGAN, Equations 1 to 3, and of vid2vid, as functions of tensors.

All compute in float32 whatever precision the networks ran in, and return a scalar. In cGAN-Seg "image" stands for the
image domain (generator and D1), "mask" for the mask domain (segmenter and D2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from cytoforge.networks.flow import warp

DICE_SMOOTHING = 1e-6
IGNORED = -100
"""Class of pixels that the segmentation losses leave out."""
Total = Callable[[Tensor], Tensor]
"""Makes sums over the items that are here into sums over the whole batch, of which other processes hold a part."""


@dataclass(frozen=True)
class _Weights:
    """Weights of the terms of a loss; none may be negative."""

    def __post_init__(self) -> None:
        for weight in fields(self):
            if not getattr(self, weight.name) >= 0:
                raise ValueError(f"{weight.name} must be 0 or more, got {getattr(self, weight.name)}")


@dataclass(frozen=True)
class CycleWeights(_Weights):
    """Weights of the terms of the generator's and segmenter's loss (cGAN-Seg, Eq. 16); none may be negative."""

    adversarial: float = 1.0
    """D1_G and D2_S, Eq. 6 and 7."""
    cycle_image: float = 100.0
    """Rec_G, Eq. 8."""
    cycle_mask: float = 100.0
    """Rec_S, Eq. 9."""
    identity_image: float = 50.0
    """Id_G, Eq. 10."""
    identity_mask: float = 50.0
    """Id_S, Eq. 11."""


PAPER_WEIGHTS = CycleWeights()


@dataclass(frozen=True)
class MovieWeights(_Weights):
    """Weights of the terms of the movie generator's loss (tGAN, Eq. 1); none may be negative.

    The paper gives no numbers. These are those of its published code, except `pixels`, which the code sets to 0: here
    its ratio to `perceptual` is that of the published super-resolution.
    """

    adversarial: float = 1.0
    """D_MSE."""
    flow: float = 100.0
    """w1, `flow_loss`."""
    pixels: float = 50.0
    """w2, L1."""
    perceptual: float = 100.0
    """w3, VGG."""
    temporal: float = 50.0
    """`temporal_loss`, which the text calls temporal consistency and Eq. 1 leaves out."""


@dataclass(frozen=True)
class SuperResolutionWeights(_Weights):
    """Weights of the terms of the super-resolution generator's loss (tGAN, Eq. 2); numbers of its published code."""

    adversarial: float = 1.0
    """D_Fake_MSE."""
    pixels: float = 25.0
    """w2, L1."""
    perceptual: float = 50.0
    """w3, VGG."""


@dataclass(frozen=True)
class Vid2VidWeights(_Weights):
    """Weights of the terms of vid2vid's generator (Wang et al. 2018); none may be negative."""

    adversarial: float = 1.0
    """least squares, summed over discriminators and their scales."""
    matching: float = 10.0
    """features of the discriminators, averaged over their scales."""
    perceptual: float = 10.0
    """VGG, of the composed frame and of the newly painted one."""
    pixels: float = 0.0
    """L1 of the same two frames; vid2vid has no such term."""
    flow: float = 10.0
    """flow against the reference."""
    warp: float = 10.0
    """previous real frame, moved along the generator's flow, against the real frame."""
    consistency: float = 10.0
    """previous generated frame, moved along the reference, against the generated frame."""
    mask: float = 10.0
    """share of newly painted pixels where the previous frame could be moved instead."""


MOVIE_WEIGHTS = MovieWeights()
VID2VID_WEIGHTS = Vid2VidWeights()
SUPER_RESOLUTION_WEIGHTS = SuperResolutionWeights()


def adversarial(prediction: Tensor, target: float) -> Tensor:
    """Mean squared distance of a discriminator's patches to 1 (real) or 0 (fake).

    cGAN-Seg, Eq. 6, 7, 12 to 15; the terms D_MSE of tGAN, Eq. 1 to 3.
    """
    return (prediction.float() - target).square().mean()


def perceptual(features: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum over layers of the mean absolute difference of features.

    The VGG term of cGAN-Seg, Eq. 8 and 10, and of tGAN, Eq. 1 and 2.
    Features and targets are of equal shapes, layer by layer. No gradient flows into `targets`. ValueError unless there
    are as many targets and weights as features.
    """
    if not len(features) == len(targets) == len(weights):
        raise ValueError(f"got {len(features)} features, {len(targets)} targets and {len(weights)} weights")
    layers = zip(features, targets, weights, strict=True)
    return torch.stack([weight * mean_difference(one, other.detach()) for one, other, weight in layers]).sum()


def texture_loss(maps: Sequence[Tensor], targets: Sequence[Tensor], windows: Sequence[int]) -> Tensor:
    """Sum over layers of the mean absolute differences of local means and of local standard deviations.

    Maps and targets are (B,C,H,W), layer by layer; `windows` are the window sides in elements, and windows are taken at
    every second place. Unlike `perceptual` and L1, this loss does not require texture at the same places as in the
    target. No gradient flows into `targets`. ValueError unless there are as many targets and windows as maps.
    """
    if not len(maps) == len(targets) == len(windows):
        raise ValueError(f"got {len(maps)} maps, {len(targets)} targets and {len(windows)} windows")
    terms = []
    for one, other, window in zip(maps, targets, windows, strict=True):
        pairs = zip(_local_statistics(one, window), _local_statistics(other.detach(), window), strict=True)
        terms += [mean_difference(a, b) for a, b in pairs]
    return torch.stack(terms).sum()


def _local_statistics(maps: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of (B,C,H,W) in windows, at every second place."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values.float(), window, 2, window // 2, count_include_pad=False)

    average = mean(maps)
    variance = mean(maps.float().square()) - average.square()
    return average, (variance.clamp(min=0) + 1e-6).sqrt()


def image_loss(image: Tensor, target: Tensor, perceptual_term: Tensor) -> Tensor:
    """Mean absolute difference plus the `perceptual` term of the same pair (cGAN-Seg, Eq. 8 and 10).

    Eq. 8 with image = Gen(Seg(real image)), Eq. 10 with image = Gen(real mask); the target is the real image, both
    (B,C,H,W).
    """
    return mean_difference(image, target) + perceptual_term


def of_all(sums: Tensor) -> Tensor:
    """Return sums over a batch that is here as a whole, unchanged."""
    return sums


def cross_entropy_dice(logits: Tensor, target: Tensor, *, background: bool = False, total: Total = of_all) -> Tensor:
    """Mean cross entropy over all classes plus `dice_loss` (cGAN-Seg, Eq. 9 and 11).

    Eq. 9 with logits = Seg(Gen(real mask)), Eq. 11 with logits = Seg(real image). Logits (B,K,H,W), target (B,H,W)
    int64 classes, or IGNORED.
    """
    entropy = F.cross_entropy(logits.float(), target, ignore_index=IGNORED, reduction="sum")
    entropy, known = total(torch.stack([entropy, (target != IGNORED).sum().to(entropy.dtype)])).unbind()
    return entropy / known + dice_loss(logits, target, background=background, total=total)


def dice_loss(logits: Tensor, target: Tensor, *, background: bool = False, total: Total = of_all) -> Tensor:
    """One minus the soft Dice score, averaged over all classes except background (cGAN-Seg, Eq. 9 and 11).

    With `background` that class is included, as in DeepSea.

    Logits (B,K,H,W), target (B,H,W) int64 classes, or IGNORED. The sums run over the whole batch, so that an image
    without cells does not weigh as much as one full of them.
    """
    first, known = 0 if background else 1, (target != IGNORED)[:, None]
    probabilities = logits.float().softmax(dim=1)[:, first:] * known
    truth = (F.one_hot(target.clamp(min=0), logits.shape[1]).movedim(-1, 1)[:, first:] * known).to(probabilities.dtype)
    areas = probabilities.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    overlap, areas = total(torch.stack([(probabilities * truth).sum(dim=(0, 2, 3)), areas])).unbind()
    return (1 - (2 * overlap + DICE_SMOOTHING) / (areas + DICE_SMOOTHING)).mean()


def foreground_probability(logits: Tensor) -> Tensor:
    """Probability of cell, the sum over all classes except background: logits (B,K,H,W) -> (B,1,H,W) in [0, 1]."""
    return logits.float().softmax(dim=1)[:, 1:].sum(dim=1, keepdim=True)


def straight_through_mask(logits: Tensor) -> Tensor:
    """The predicted 0/1 mask with the gradient of `foreground_probability`: logits (B,K,H,W) -> (B,1,H,W).

    Eq. 7 and 8 of cGAN-Seg hand Seg(real image) to D2 and to the generator, and both are meant to train the
    segmenter. An argmax has no gradient, and the bare probability would let D2 tell soft masks from the 0/1 of real
    ones; so the value is that of the argmax and the gradient that of the probability (straight-through estimator,
    Bengio et al. 2013, arXiv:1308.3432).
    """
    probability = foreground_probability(logits)
    mask = (logits.argmax(dim=1, keepdim=True) != 0).to(probability.dtype)
    return mask + (probability - probability.detach())


def total_generator_loss(
    adversarial_image: Tensor,
    adversarial_mask: Tensor,
    cycle_image: Tensor,
    cycle_mask: Tensor,
    identity_image: Tensor,
    identity_mask: Tensor,
    weights: CycleWeights = PAPER_WEIGHTS,
) -> Tensor:
    """Weighted sum of the terms of Eq. 6 to 11, in this order: the generator's and segmenter's (cGAN-Seg, Eq. 16)."""
    return (
        weights.adversarial * (adversarial_image + adversarial_mask)
        + weights.cycle_image * cycle_image
        + weights.cycle_mask * cycle_mask
        + weights.identity_image * identity_image
        + weights.identity_mask * identity_mask
    )


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half of `adversarial` on each side, for one discriminator (tGAN, Eq. 3; cGAN-Seg, Eq. 17: D1's plus D2's).

    `real` and `fake` are patches predicted for real and for generated (and detached) input.
    """
    return 0.5 * adversarial(real, 1.0) + 0.5 * adversarial(fake, 0.0)


def flow_loss(flow: Tensor, real_flow: Tensor) -> Tensor:
    """Mean absolute difference in px between the flow into a painted frame and that into the real one (tGAN, Eq. 1).

    Both are (B,2,H,W), from the same flow network and the same earlier frame. The generator learns through `flow`; the
    flow network learns from neither if its parameters are frozen. No gradient flows into `real_flow`.
    """
    return mean_difference(flow, real_flow.detach())


def temporal_loss(frame: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
    """Mean absolute difference between a frame and the previous one moved along the flow (tGAN, temporal consistency).

    Frames are (B,C,H,W), the flow is (B,2,H,W) as in `networks.flow`. With real frames it trains the flow network,
    since moving objects keep their brightness. With painted frames and the detached flow of real ones, it trains the
    generator to move texture along with the cells.
    """
    return mean_difference(frame, warp(previous, flow))


def movie_generator_loss(
    adversarial: Tensor,
    flow: Tensor,
    pixels: Tensor,
    perceptual: Tensor,
    temporal: Tensor,
    weights: MovieWeights = MOVIE_WEIGHTS,
) -> Tensor:
    """Weighted sum of `adversarial`, `flow_loss`, `mean_difference`, `perceptual` and `temporal_loss` (tGAN, Eq. 1)."""
    return (
        weights.adversarial * adversarial
        + weights.flow * flow
        + weights.pixels * pixels
        + weights.perceptual * perceptual
        + weights.temporal * temporal
    )


def super_resolution_loss(
    adversarial: Tensor,
    pixels: Tensor,
    perceptual: Tensor,
    weights: SuperResolutionWeights = SUPER_RESOLUTION_WEIGHTS,
) -> Tensor:
    """Weighted sum of `adversarial`, `mean_difference` and `perceptual` (tGAN, Eq. 2)."""
    return weights.adversarial * adversarial + weights.pixels * pixels + weights.perceptual * perceptual


def vid2vid_loss(terms: Mapping[str, Tensor], weights: Vid2VidWeights = VID2VID_WEIGHTS) -> Tensor:
    """Weighted sum of terms by the names of Vid2VidWeights; ValueError if there is none or one has another name."""
    if not terms or terms.keys() - {weight.name for weight in fields(weights)}:
        raise ValueError(f"no terms of vid2vid: {list(terms)}")
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def confidence(frame: Tensor, previous: Tensor, flow: Tensor, tolerance: float = 0.02) -> Tensor:
    """Return where a flow is reliable, (B,1,H,W) of 0 and 1: where the moved previous frame resembles the frame.

    There the squared difference, summed over the channels of frames (B,C,H,W) in [-1, 1], is below the tolerance.
    """
    error = (frame.float() - warp(previous, flow)).square().sum(dim=1, keepdim=True)
    return (error < tolerance).to(error.dtype)


def confident_difference(one: Tensor, other: Tensor, confidence: Tensor) -> Tensor:
    """Mean over all places of the absolute difference where the confidence (B,1,H,W) is 1; elsewhere it counts as 0."""
    return mean_difference(one.float() * confidence, other.float() * confidence)


def mean_difference(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape: the L1 term of tGAN, Eq. 1 and 2."""
    return F.l1_loss(one.float(), other.float())
