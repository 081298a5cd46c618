"""Scores of generated images: distances between sets of images, and between images that belong together.

Sets are compared by features of a pretrained network: each image becomes one row of features (n, d), and only this
row is kept, so that 10,000 images of any size take 31 MB per side (d = 768). Every result names its network. An
undefined score is nan; a score that was not computed is None.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from cytoforge.metrics.copying import BLOCK, distances
from cytoforge.metrics.estimates import RESAMPLES, Estimate, bootstrap_estimate, mean_estimate, resample

NAN = float("nan")
NEIGHBOURS = 5  # k of precision, recall, density and coverage
GREY_RANGE = 2.0  # of images in [-1, 1]
WINDOW = 11  # px, of SSIM


class FeatureNetwork(Protocol):
    """A network that turns images into features, such as `networks.features.InceptionFeatures`."""

    name: str

    def __call__(self, images: Tensor, /) -> Tensor:
        """Return features (B, d) of images (B, C, H, W) in [-1, 1]."""
        ...


class PerceptualDistance(Protocol):
    """A network that compares images, such as `networks.features.LPIPS`."""

    name: str

    def __call__(self, first: Tensor, second: Tensor, /) -> Tensor:
        """Return distances (B,) of images (B, C, H, W) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class SetScores:
    """How far a set of generated images is from a set of real ones, in the features of the named network."""

    network: str
    generated: int  # images
    real: int
    fid: float
    kid: Estimate
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class PairScores:
    """How far generated images are from their real counterparts: means over the pairs.

    PSNR is in dB; pairs of equal images are left out of its mean. LPIPS on either network, and the network's name, are
    None if it was not computed.
    """

    pairs: int
    ssim: Estimate
    psnr: Estimate
    lpips: Estimate | None
    lpips_network: str | None
    lpips_vgg: Estimate | None = None
    lpips_vgg_network: str | None = None


@dataclass(frozen=True)
class StyleScores:
    """The mean LPIPS distance between images painted on the same mask in several styles, averaged over the masks."""

    masks: int
    lpips: Estimate
    lpips_network: str


@torch.inference_mode()
def extract_features(network: FeatureNetwork, images: Iterable[Tensor], batch: int = 8) -> Tensor:
    """Return float32 features (n, d) of images (C, H, W) in [-1, 1]; at most `batch` images are held at a time.

    Raises ValueError if there is no image.
    """
    rows = [network(group).float().cpu() for group in _batches(images, batch)]
    if not rows:
        raise ValueError("need at least one image to take features of, got none")
    return torch.cat(rows)


def _batches(images: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield stacks (B, C, H, W) of up to `size` successive images of equal shape."""
    group: list[Tensor] = []
    for image in images:
        if group and image.shape != group[0].shape:
            yield torch.stack(group)
            group = []
        group.append(image)
        if len(group) == size:
            yield torch.stack(group)
            group = []
    if group:
        yield torch.stack(group)


def set_scores(
    generated: Tensor, real: Tensor, network: str, generator: np.random.Generator, resamples: int = RESAMPLES
) -> SetScores:
    """Return all scores of two sets of features (n, d) and (m, d) from the named network.

    Raises ValueError if the features are not two-dimensional or differ in d.
    """
    precision, recall, density, coverage = precision_recall_density_coverage(generated, real)
    return SetScores(
        network=network,
        generated=len(generated),
        real=len(real),
        fid=frechet_distance(generated, real),
        kid=kernel_distance(generated, real, generator, resamples),
        precision=precision,
        recall=recall,
        density=density,
        coverage=coverage,
    )


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """Return the Frechet distance of Gaussians with the means and covariances of features (n, d) and (m, d).

    It is at least 0, and nan for fewer than two images on a side. Heusel et al. 2017, Eq. 6, in float64: for centred
    features A and B, divided by the roots of n - 1 and m - 1, the trace of the root of the product of the covariances
    is the sum of the singular values of A B^T, which is exact however few the images are. Raises ValueError if the
    features are not two-dimensional or differ in d.
    """
    _check(generated, real)
    if min(len(generated), len(real)) < 2:
        return NAN
    ours, theirs = generated.double(), real.double()
    apart = (ours.mean(0) - theirs.mean(0)).square().sum()
    a, b = ((side - side.mean(0)) / (len(side) - 1) ** 0.5 for side in (ours, theirs))
    # A = Q R with orthonormal columns in Q, so that the triangles R, of at most d rows, have the same singular values.
    left, right = (torch.linalg.qr(side, mode="r").R for side in (a, b))
    shared = torch.linalg.svdvals(left @ right.T).sum()
    distance = apart + a.square().sum() + b.square().sum() - 2 * shared
    return max(float(distance), 0.0)  # -1e-12 for equal sets, by rounding


def kernel_distance(
    generated: Tensor, real: Tensor, generator: np.random.Generator, resamples: int = RESAMPLES
) -> Estimate:
    """Return KID: unbiased squared maximum mean discrepancy of features (n, d), (m, d), kernel (x.y / d + 1)^3.

    Bińkowski et al. 2018, Eq. 4, over all images. For sets of one distribution it is about 0 and may be negative; it is
    nan for fewer than two images on a side. For the interval the images of both sides are resampled, and pairs of an
    image with itself are still left out. Raises ValueError if the features are not two-dimensional or differ in d.
    """
    _check(generated, real)
    images = min(len(generated), len(real))
    if images < 2:
        return Estimate(NAN, NAN, NAN, images)
    ours, theirs = (_weights(len(side), generator, resamples) for side in (generated, real))
    within = sum(_kernel_means(x, x, w, w, itself=True) for x, w in ((generated, ours), (real, theirs)))
    values = (within - 2 * _kernel_means(generated, real, ours, theirs)).numpy()
    return bootstrap_estimate(float(values[0]), values[1:], images)


def _weights(images: int, generator: np.random.Generator, resamples: int) -> Tensor:
    """Return how often each image counts (1 + resamples, images): once each in row 0, as drawn in all other rows."""
    weights = torch.ones(1 + resamples, images)
    weights[1:] = torch.from_numpy(resample(images, generator, resamples))
    return weights


def _kernel_means(first: Tensor, second: Tensor, left: Tensor, right: Tensor, itself: bool = False) -> Tensor:
    """Return the mean kernel value of all pairs, float64 (1 + resamples,), for features (n, d) and (m, d).

    The weights are (1 + resamples, n) and (1 + resamples, m). With `itself`, both sets are the same and pairs of an
    image with itself are left out; the mean is nan if no pair is left.
    """
    total = torch.zeros(len(left), dtype=torch.float64)
    for i in range(0, len(first), BLOCK):
        rows, weight = first[i : i + BLOCK].double(), left[:, i : i + BLOCK].double()
        for j in range(0, len(second), BLOCK):
            kernel = (rows @ second[j : j + BLOCK].double().T / first.shape[1] + 1) ** 3
            if itself and i == j:
                kernel.fill_diagonal_(0)
            total += ((weight @ kernel) * right[:, j : j + BLOCK]).sum(1)
    return total / (left.sum(1) * right.sum(1) - (left.square().sum(1) if itself else 0))


def precision_recall_density_coverage(
    generated: Tensor, real: Tensor, neighbours: int = NEIGHBOURS
) -> tuple[float, float, float, float]:
    """Return precision, recall, density and coverage of generated features (n, d) and real ones (m, d).

    Each image is the centre of a ball that reaches to the `neighbours`-th nearest other image of the same side.
    Precision is the share of generated images in a real ball; recall is the share of real images in a generated ball
    (Kynkäänniemi et al. 2019). Density is the mean number of real balls that a generated image lies in, divided by
    `neighbours` (it may exceed 1); coverage is the share of real balls that hold a generated image (Naeem et al. 2020).
    All are nan if a side has no more than `neighbours` images. Raises ValueError if the features are not
    two-dimensional or differ in d.
    """
    _check(generated, real)
    if min(len(generated), len(real)) <= neighbours:
        return NAN, NAN, NAN, NAN
    reach, real_reach = _reach(generated, neighbours), _reach(real, neighbours)
    inside = memberships = 0
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool)
    for start in range(0, len(generated), BLOCK):
        distance = distances(generated[start : start + BLOCK], real)
        in_real = distance <= real_reach
        inside += int(in_real.any(1).sum())
        memberships += int(in_real.sum())
        covered |= in_real.any(0)
        recalled |= (distance <= reach[start : start + BLOCK, None]).any(0)
    count = len(generated)
    recall, coverage = (float(share.double().mean()) for share in (recalled, covered))
    return inside / count, recall, memberships / (neighbours * count), coverage


def _reach(features: Tensor, neighbours: int) -> Tensor:
    """Return the distance (n,) of each image to its `neighbours`-th nearest other image."""
    reach = torch.empty(len(features), dtype=features.dtype)
    for start in range(0, len(features), BLOCK):
        block = distances(features[start : start + BLOCK], features)
        reach[start : start + BLOCK] = block.kthvalue(neighbours + 1, dim=1).values
    return reach


def _check(generated: Tensor, real: Tensor) -> None:
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(
            f"features are (n, d) and (m, d) of one network, got {tuple(generated.shape)} and {tuple(real.shape)}"
        )


@torch.inference_mode()
def pair_scores(
    pairs: Iterable[tuple[Tensor, Tensor]],
    generator: np.random.Generator,
    lpips: PerceptualDistance | None = None,
    lpips_vgg: PerceptualDistance | None = None,
) -> PairScores:
    """Return scores of pairs of a generated and a real image (C, H, W) in [-1, 1], without rescaling grey values.

    Pairs are taken one by one. SSIM is in [-1, 1]: Wang et al. 2004, mean over all windows inside the image (Gaussian,
    11 px wide, standard deviation 1.5 px). PSNR has the range 2. Intervals come from resampling the pairs. Raises
    ValueError for images of different shapes or under 11 px (LPIPS: 17 px), and if there is no pair.
    """
    perceptual = (lpips, lpips_vgg)
    rows: list[list[float]] = []
    for generated, real in pairs:
        if generated.shape != real.shape or min(real.shape[1:]) < WINDOW:
            raise ValueError(f"pairs need one shape of {WINDOW} px or more, got {generated.shape} and {real.shape}")
        a, b = (image.double().cpu().numpy() for image in (generated, real))
        similarity = structural_similarity(
            a, b, gaussian_weights=True, use_sample_covariance=False, data_range=GREY_RANGE, channel_axis=0
        )
        ratio = NAN if np.array_equal(a, b) else float(peak_signal_noise_ratio(b, a, data_range=GREY_RANGE))
        seen = [NAN if one is None else float(one(generated[None], real[None])) for one in perceptual]
        rows.append([float(similarity), ratio, *seen])
    if not rows:
        raise ValueError("need at least one pair of images, got none")
    draws = resample(len(rows), generator)
    ssim, psnr, *distances_seen = (mean_estimate(values, draws) for values in zip(*rows, strict=True))
    first, second = (
        (score, one.name) if one else (None, None) for score, one in zip(distances_seen, perceptual, strict=True)
    )
    return PairScores(len(rows), ssim, psnr, *first, *second)


@torch.inference_mode()
def diversity(variants: Tensor, distance: PerceptualDistance) -> float:
    """Return the mean distance between all pairs of images (S, C, H, W) in [-1, 1], painted on one mask in S styles.

    It is 0 if the style changes nothing, and nan for fewer than two images. With LPIPS it is the diversity of Zhu et
    al. 2017 (BicycleGAN), Section 5.
    """
    values = [
        float(distance(variants[i : i + 1], variants[j : j + 1])) for i, j in combinations(range(len(variants)), 2)
    ]
    return float(np.mean(values)) if values else NAN
