"""Scores of generated images: toy cases by hand, independent code, and what must not matter."""

from collections.abc import Callable, Iterator
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.kid import poly_mmd

from cytoforge.data.weights import load_features
from cytoforge.metrics import generation
from cytoforge.metrics.generation import (
    diversity,
    extract_features,
    frechet_distance,
    kernel_distance,
    pair_scores,
    precision_recall_density_coverage,
    set_scores,
)
from cytoforge.networks.features import LPIPS, InceptionFeatures, SqueezeNetFeatures


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.from_numpy(seeded(seed).normal(shift, 1, (n, d))).float()


class Means:
    """A feature network of two features: mean and deviation of the image. Notes the batches that it gets."""

    name = "means"

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor, /) -> Tensor:
        self.batches.append(tuple(images.shape))
        return torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], dim=1)


class MeanDifference:
    name = "mean difference"

    def __call__(self, first: Tensor, second: Tensor, /) -> Tensor:
        return (first - second).abs().mean((1, 2, 3))


def images(count: int, shape: tuple[int, ...] = (1, 20, 24), seed: int = 0) -> list[Tensor]:
    return [torch.from_numpy(seeded(seed + i).uniform(-1, 1, shape)).float() for i in range(count)]


class TestFeatures:
    def test_images_are_taken_one_by_one_and_once(self) -> None:
        alive = 0

        def stream() -> Iterator[Tensor]:
            nonlocal alive
            for image in images(10):
                alive += 1
                assert alive - sum(shape[0] for shape in network.batches) <= 4
                yield image

        network = Means()
        source = stream()
        assert extract_features(network, source, batch=4).shape == (10, 2)
        assert next(source, None) is None
        assert [shape[0] for shape in network.batches] == [4, 4, 2]

    def test_neither_batch_nor_order_matter(self) -> None:
        pictures = images(3) + images(2, (1, 16, 16)) + images(2)
        features = extract_features(Means(), pictures, batch=1)
        for batch in (2, 3, 50):
            torch.testing.assert_close(extract_features(Means(), pictures, batch), features)
        order = [4, 2, 0, 6, 1, 3, 5]
        torch.testing.assert_close(extract_features(Means(), [pictures[i] for i in order]), features[order])

    def test_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one image"):
            extract_features(Means(), [])

    def test_real_network(self, real_weights: Path) -> None:
        state = load_features("inception", real_weights)
        assert state is not None
        network, pictures = InceptionFeatures(state), images(3, (1, 64, 64))
        features = extract_features(network, pictures, batch=2)
        assert features.shape == (3, network.num_features)
        torch.testing.assert_close(extract_features(network, pictures[::-1], batch=3), features.flip(0))
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-5)


class TestFrechet:
    def test_by_hand(self) -> None:
        """Means 0 and 3, variances 2 and 8: 9 + 2 + 8 - 2 sqrt(16) = 11."""
        ours, real = torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [5.0]])
        assert frechet_distance(ours, real) == pytest.approx(11)
        assert frechet_distance(ours + 2, ours) == pytest.approx(4)

    @pytest.mark.parametrize(("n", "m"), [(200, 150), (40, 60)])
    def test_against_scipy(self, n: int, m: int) -> None:
        a, b = normal(n, 12, 1) * torch.arange(1, 13), normal(m, 12, 2, 0.5) @ normal(12, 12, 3)
        x, y = a.double().numpy(), b.double().numpy()
        s, t = np.cov(x.T), np.cov(y.T)
        expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("n", [2, 30, 300])
    def test_of_a_set_with_itself_is_0(self, n: int) -> None:
        features = normal(n, 64, 4) + 3
        assert 0 <= frechet_distance(features, features.clone()) < 1e-5

    def test_one_image_has_no_covariance(self) -> None:
        assert isnan(frechet_distance(normal(1, 4, 0), normal(5, 4, 1)))
        assert isnan(frechet_distance(normal(5, 4, 0), normal(1, 4, 1)))


def plain_kid(a: np.ndarray, b: np.ndarray) -> float:
    """Binkowski et al. 2018, Eq. 4, term by term."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(a), len(b)
    within = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    other = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    between = sum(k(x, y) for x in a for y in b) / (n * m)
    return within + other - 2 * between


class TestKID:
    def test_by_hand(self) -> None:
        """Kernel (xy + 1)^3 of 0, 0 and 1, 1: 1 + 8 - 2 * 1."""
        estimate = kernel_distance(torch.zeros(2, 1), torch.ones(2, 1), seeded())
        assert estimate.value == 7
        assert estimate.images == 2

    def test_against_loops_and_torchmetrics(self, monkeypatch: pytest.MonkeyPatch) -> None:
        a, b = normal(9, 5, 1), normal(13, 5, 2, 0.4)
        expected = plain_kid(a.double().numpy(), b.double().numpy())
        assert kernel_distance(a, b, seeded(), 10).value == pytest.approx(expected)
        monkeypatch.setattr(generation, "BLOCK", 4)
        assert kernel_distance(a, b, seeded(), 10).value == pytest.approx(expected)
        same_size = kernel_distance(a, b[:9], seeded(), 10).value
        assert same_size == pytest.approx(poly_mmd(a.double(), b[:9].double()).item())

    def test_replicates_are_the_estimate_of_what_was_drawn(self) -> None:
        """By the definition, over the drawn images, without the pairs of an image with itself."""
        a, b = normal(4, 3, 1), normal(5, 3, 2)
        w, v = torch.tensor([[2.0, 1, 0, 1]]), torch.tensor([[1.0, 0, 0, 3, 1]])
        drawn, other = [0, 0, 1, 3], [0, 3, 3, 3, 4]

        def mean(x: Tensor, y: Tensor, left: list[int], right: list[int], itself: bool) -> float:
            pairs = [(i, j) for i in left for j in right if not (itself and i == j)]
            return float(np.mean([(float(x[i] @ y[j]) / 3 + 1) ** 3 for i, j in pairs]))

        means = generation._kernel_means
        assert means(a, a, w, w, itself=True).item() == pytest.approx(mean(a, a, drawn, drawn, True), rel=1e-6)
        assert means(a, b, w, v).item() == pytest.approx(mean(a, b, drawn, other, False), rel=1e-6)

    def test_of_a_set_with_itself_is_just_below_0(self) -> None:
        """The pairs of an image with itself are in one of the three means only."""
        a = normal(30, 6, 3)
        estimate = kernel_distance(a, a, seeded())
        assert estimate.value == kernel_distance(a, a.clone(), seeded()).value
        assert estimate.value == pytest.approx(plain_kid(a.double().numpy(), a.double().numpy()))
        assert estimate.value < 0

    def test_intervals_hold_0_for_one_distribution_and_not_for_two(self) -> None:
        """Of 100 intervals of 95 %, at least 88 (3 standard errors) should hold 0; they are on the wide side."""
        same = [kernel_distance(normal(20, 4, 2 * i), normal(20, 4, 2 * i + 1), seeded(i), 200) for i in range(100)]
        assert sum(e.low <= 0 <= e.high for e in same) >= 88
        assert 20 < sum(e.value < 0 for e in same) < 80  # unbiased
        assert kernel_distance(normal(40, 4, 0), normal(40, 4, 1, 1.0), seeded()).low > 0

    def test_one_image_is_undefined(self) -> None:
        estimate = kernel_distance(normal(1, 4, 0), normal(5, 4, 1), seeded())
        assert isnan(estimate.value) and isnan(estimate.low) and estimate.images == 1

    @settings(max_examples=25)
    @given(seed=st.integers(0, 1000), n=st.integers(2, 12), m=st.integers(2, 12))
    def test_order_does_not_matter_and_sides_are_alike(self, seed: int, n: int, m: int) -> None:
        a, b = normal(n, 3, seed), normal(m, 3, seed + 1)
        value = kernel_distance(a, b, seeded(), 2).value
        assert kernel_distance(a.flip(0), b, seeded(), 2).value == pytest.approx(value, abs=1e-9)
        assert kernel_distance(b, a, seeded(), 2).value == pytest.approx(value, abs=1e-9)


def plain_prdc(ours: np.ndarray, real: np.ndarray, k: int) -> tuple[float, ...]:
    """The definitions of Kynkäänniemi et al. 2019 and Naeem et al. 2020, point by point."""

    def ball(points: np.ndarray, i: int) -> float:
        return float(np.sort([np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i])[k - 1])

    def inside(x: np.ndarray, points: np.ndarray) -> list[bool]:
        return [bool(np.linalg.norm(x - p) <= ball(points, i)) for i, p in enumerate(points)]

    hits = np.array([inside(x, real) for x in ours])
    recall = np.mean([any(inside(x, ours)) for x in real])
    return hits.any(1).mean(), recall, hits.sum() / (k * len(ours)), hits.any(0).mean()


class TestPRDC:
    def test_by_hand(self) -> None:
        """Real 0, 1, 3 with k = 1: balls to 1, 1, 2. Of 0.5 and 9 the first is in two; the balls round them are 8.5."""
        ours, real = torch.tensor([[0.5], [9.0]]), torch.tensor([[0.0], [1.0], [3.0]])
        assert precision_recall_density_coverage(ours, real, neighbours=1) == pytest.approx((1 / 2, 1, 2 / 2, 2 / 3))

    @pytest.mark.parametrize("block", [4, 1024])
    def test_against_brute_force(self, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(generation, "BLOCK", block)
        for seed, shift, n, m in ((0, 0.0, 14, 17), (10, 1.5, 20, 9), (20, 9.0, 8, 8)):
            ours, real = normal(n, 3, seed, shift).double(), normal(m, 3, seed + 1).double()
            expected = plain_prdc(ours.numpy(), real.numpy(), 3)
            assert precision_recall_density_coverage(ours, real, neighbours=3) == pytest.approx(expected)

    def test_of_a_set_with_itself(self) -> None:
        """Each point is in its own ball and in those of which it is among the k nearest: k + 1 balls on average."""
        features = normal(40, 4, 5)
        assert precision_recall_density_coverage(features, features) == pytest.approx((1, 1, 6 / 5, 1))

    def test_sets_far_apart_have_nothing_in_common(self) -> None:
        assert precision_recall_density_coverage(normal(20, 4, 0), normal(20, 4, 1) + 100) == (0, 0, 0, 0)

    def test_too_few_images_are_undefined(self) -> None:
        assert all(map(isnan, precision_recall_density_coverage(normal(5, 4, 0), normal(20, 4, 1))))
        assert all(map(isnan, precision_recall_density_coverage(normal(20, 4, 0), normal(5, 4, 1))))
        assert not any(map(isnan, precision_recall_density_coverage(normal(6, 4, 0), normal(6, 4, 1))))


def test_set_scores_put_all_together_and_name_their_network() -> None:
    ours, real = normal(20, 4, 0), normal(25, 4, 1, 0.5)
    scores = set_scores(ours, real, "a network", seeded(3))
    assert (scores.network, scores.generated, scores.real) == ("a network", 20, 25)
    assert scores.fid == frechet_distance(ours, real)
    assert scores.kid == kernel_distance(ours, real, seeded(3))
    prdc = (scores.precision, scores.recall, scores.density, scores.coverage)
    assert prdc == precision_recall_density_coverage(ours, real)


SETS: list[Callable[[Tensor, Tensor], Any]] = [
    frechet_distance,
    lambda a, b: kernel_distance(a, b, seeded()),
    precision_recall_density_coverage,
]


@pytest.mark.parametrize("score", SETS)
def test_features_must_fit_together(score: Callable[[Tensor, Tensor], Any]) -> None:
    with pytest.raises(ValueError, match=r"got \(9, 4\) and \(9, 5\)"):
        score(torch.zeros(9, 4), torch.zeros(9, 5))
    with pytest.raises(ValueError, match=r"got \(9,\)"):
        score(torch.zeros(9), torch.zeros(9, 5))


class TestPairs:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_against_torchmetrics(self, channels: int) -> None:
        """Its windows reach over the border; without these, 5 px from there, it must be the same."""
        sides = (images(4, (channels, 20, 24), seed) for seed in (0, 50))
        pairs = [(a, (0.7 * a + 0.2 * b).clamp(-1, 1)) for a, b in zip(*sides, strict=True)]
        expected = []
        for a, b in pairs:
            both = a[None].double(), b[None].double()
            _, similarity = structural_similarity_index_measure(*both, data_range=2.0, return_full_image=True)
            ratio = peak_signal_noise_ratio(*both, data_range=2.0)
            expected.append((similarity[:, :, 5:-5, 5:-5].mean().item(), ratio.item()))
        scores = pair_scores(iter(pairs), seeded())
        assert scores.ssim.value == pytest.approx(np.mean([s for s, _ in expected]), rel=1e-6)
        assert scores.psnr.value == pytest.approx(np.mean([p for _, p in expected]), rel=1e-6)
        assert scores.ssim.low < scores.ssim.value < scores.ssim.high
        assert (scores.pairs, scores.lpips, scores.lpips_network) == (4, None, None)

    def test_by_hand(self) -> None:
        """A shift of 0.2 in a range of 2: 10 log10(4 / 0.04) = 20 dB, wherever in the range."""
        a = torch.zeros(1, 16, 16)
        for start in (-1.0, 0.0, 0.5):
            assert pair_scores([(a + start + 0.2, a + start)], seeded()).psnr.value == pytest.approx(20, abs=1e-4)

    def test_equal_images(self) -> None:
        pictures = images(3)
        scores = pair_scores([(a, a.clone()) for a in pictures], seeded(), MeanDifference())
        assert scores.ssim.value == 1
        assert isnan(scores.psnr.value) and scores.psnr.images == 0
        assert scores.lpips is not None and scores.lpips.value == 0
        mixed = pair_scores([(pictures[0], pictures[0]), (pictures[0], pictures[1])], seeded())
        alone = pair_scores([(pictures[0], pictures[1])], seeded())
        assert (mixed.psnr.value, mixed.psnr.images) == (alone.psnr.value, 1)

    def test_the_distance_is_named(self) -> None:
        a, b = images(2)
        scores = pair_scores([(a, b)], seeded(), MeanDifference())
        assert scores.lpips is not None
        assert scores.lpips.value == pytest.approx((a - b).abs().mean().item())
        assert scores.lpips_network == "mean difference"
        assert isnan(scores.lpips.low)  # one pair has no interval

    def test_sizes_may_differ_between_pairs_but_not_within(self) -> None:
        a, b = images(1, (1, 11, 30))[0], images(1, (3, 16, 12))[0]
        assert pair_scores([(a, -a), (b, -b)], seeded()).pairs == 2
        with pytest.raises(ValueError, match="one shape of 11 px or more"):
            pair_scores([(a, b)], seeded())
        with pytest.raises(ValueError, match="one shape of 11 px or more"):
            pair_scores([(a[:, :10], a[:, :10])], seeded())
        with pytest.raises(ValueError, match="at least one pair"):
            pair_scores([], seeded())

    def test_lpips_is_that_of_the_published_weights(self, real_weights: Path) -> None:
        """What torchmetrics documents: 0.1005 for ten pairs of noise drawn with the seed 42."""
        squeezenet, heads = load_features("squeezenet", real_weights), load_features("lpips", real_weights)
        assert squeezenet is not None and heads is not None
        network = LPIPS(SqueezeNetFeatures(squeezenet), heads)
        draws = torch.Generator().manual_seed(42)
        first, second = (torch.rand(10, 3, 100, 100, generator=draws) * 2 - 1 for _ in range(2))
        scores = pair_scores(zip(first, second, strict=True), seeded(), network)
        assert scores.lpips is not None
        assert scores.lpips.value == pytest.approx(0.1005, abs=5e-5)
        assert scores.lpips_network == "LPIPS (squeeze, v0.1)"
        assert diversity(first[:1].repeat(3, 1, 1, 1), network) == 0


def test_diversity_is_the_mean_over_pairs() -> None:
    levels = torch.tensor([0.0, 0.1, 0.4])[:, None, None, None].expand(3, 1, 16, 16)
    assert diversity(levels, MeanDifference()) == pytest.approx((0.1 + 0.4 + 0.3) / 3)
    assert isnan(diversity(levels[:1], MeanDifference()))
