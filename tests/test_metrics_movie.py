"""Scores of movies: cases by hand that must be 0 or 1, and guards."""

from math import isnan

import numpy as np
import pytest
import torch

from cells import draw
from cytoforge.metrics.clips import FLOOR, NAME, clip_features, texture_features
from cytoforge.metrics.movie import Reference, at_lengths, coherence, drift, faithfulness, frame_scores, movie_distance

BEFORE = draw("""
    ........
    .AAA....
    .AAA....
    ........
    """)
AFTER = np.roll(BEFORE, 1, axis=1)
TEXTURE = np.arange(32.0).reshape(1, 4, 8) / 40 - 0.4


def movie(seed: int, frames: int = 24, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, 1, side, side))


def test_a_static_movie_does_not_change() -> None:
    found = coherence([[(TEXTURE, BEFORE)] * 3])
    assert (found.warping_error, found.flicker, found.background_change) == (0, 0, 0)
    assert (found.cell_steps, found.steps) == (2, 2)


def test_a_cell_that_takes_its_texture_along_by_a_pixel_is_coherent() -> None:
    moved = np.where(AFTER > 0, np.roll(TEXTURE, 1, axis=2), TEXTURE)
    assert coherence([[(TEXTURE, BEFORE), (moved, AFTER)]]).warping_error == 0
    assert coherence([[(TEXTURE, BEFORE), (TEXTURE, AFTER)]]).warping_error == pytest.approx(1 / 40)


def test_a_flashing_cell_and_a_flashing_background() -> None:
    cell = np.where(BEFORE > 0, 0.5, 0.0)[None]
    found = coherence([[(cell, BEFORE), (-cell, BEFORE)]])
    assert (found.warping_error, found.flicker) == (1, 0)
    ground = np.where(BEFORE > 0, 0.0, 0.5)[None]
    found = coherence([[(ground, BEFORE), (-ground, BEFORE)]])
    assert (found.warping_error, found.flicker, found.background_change) == (0, 1, 1)


def test_noise_that_cancels_out_is_change_but_no_flicker() -> None:
    board = np.where(np.indices((4, 8)).sum(0) % 2, 0.5, -0.5)[None]
    empty = np.zeros((4, 8), int)
    found = coherence([[(board, empty), (-board, empty)]])
    assert (found.flicker, found.background_change) == (0, 1)
    assert isnan(found.warping_error) and found.cell_steps == 0


def test_movies_are_not_compared_with_each_other() -> None:
    found = coherence([[(TEXTURE, BEFORE)], [(-TEXTURE, BEFORE)]])
    assert found.steps == 0 and isnan(found.flicker)


def test_frames_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        coherence([[(TEXTURE, BEFORE), (TEXTURE[:, :3], BEFORE[:3])]])


def features(movies: list[np.ndarray]) -> list[np.ndarray]:
    return [clip_features(m) for m in movies]


def test_movie_distance() -> None:
    movies = [movie(0), movie(1)]
    real = features(movies)
    same = movie_distance(NAME, real, real)
    assert same.distance == pytest.approx(0, abs=1e-6)
    assert (same.generated, same.real) == (6, 6) and "not I3D" in same.network
    # brighter by 1 moves the mean of one feature by 1 and no covariance
    assert movie_distance(NAME, features([m + 1 for m in movies]), real).distance == pytest.approx(1, abs=1e-6)
    frozen = features([np.repeat(m[:1], 24, axis=0) for m in movies])
    assert movie_distance(NAME, frozen, real).distance > 10
    assert isnan(movie_distance(NAME, features([movie(0, 8)]), real).distance)


def test_halves_are_of_time_in_each_movie() -> None:
    """Two movies that both rise by 3 from one half to the other; of three rows the middle one is in the later half."""
    first, second = np.array([[0.0], [1], [3], [4]]), torch.tensor([[0.0], [3], [4]], dtype=torch.float64)
    found = movie_distance("rows", [first], [first, second])
    means = np.mean([0, 1, 0]) - np.mean([3, 4, 3, 4])
    deviations = np.std([0, 1, 0], ddof=1) - np.std([3, 4, 3, 4], ddof=1)
    assert found.halves == pytest.approx(means**2 + deviations**2)
    assert (found.features, found.generated, found.real) == (1, 4, 7)
    tiles = np.array([[[0.0], [9]], [[1], [8]], [[5], [5]]])  # three clips of two tiles: the first against the others
    found = movie_distance("tiles", [tiles], [tiles])
    deviations = np.std([0, 9], ddof=1) - np.std([1, 8, 5, 5], ddof=1)
    assert found.halves == pytest.approx((9 / 2 - 19 / 4) ** 2 + deviations**2)
    assert found.real == 6


def test_frames_count_by_movie_and_intervals_need_five() -> None:
    def pairs(difference: float, frames: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.full((1, 20, 20), difference), torch.zeros(1, 20, 20))] * frames

    def psnr(difference: float) -> float:
        return 10 * np.log10(4 / difference**2)

    two = frame_scores([pairs(0.1, 9), pairs(0.2, 1)], np.random.default_rng(0))
    assert two.psnr.value == pytest.approx((psnr(0.1) + psnr(0.2)) / 2, rel=1e-5)
    assert (two.pairs, two.psnr.images, two.lpips) == (10, 2, None)
    assert isnan(two.psnr.low) and isnan(two.ssim.high)
    many = [0.1, 0.2, 0.3, 0.4, 0.5]
    five = frame_scores([pairs(difference, 2) for difference in many], np.random.default_rng(0))
    assert psnr(0.5) < five.psnr.low < five.psnr.value < five.psnr.high < psnr(0.1)
    with_equal = frame_scores([pairs(0.0, 3), *(pairs(difference, 1) for difference in many)], np.random.default_rng(0))
    assert (with_equal.psnr.images, with_equal.psnr.value) == (5, pytest.approx(five.psnr.value))
    with pytest.raises(ValueError, match="at least one movie"):
        frame_scores([], np.random.default_rng(0))


def test_clips() -> None:
    assert clip_features(movie(0, 7)).shape == (0, 1, 52)
    assert clip_features(movie(0, 17, 128)).shape == (2, 4, 52)
    flat = clip_features(np.full((8, 1, 32, 32), 0.25))
    long = movie(0, 17)
    assert clip_features(long, 2).shape == (8, 1, 34)
    assert [clip_features(long, n).shape for n in (3, 4, 16)] == [(5, 1, 52), (4, 1, 52), (1, 1, 52)]
    np.testing.assert_array_equal(clip_features(long, 4)[1], clip_features(long[4:], 4)[0])
    np.testing.assert_array_equal(clip_features(long), clip_features(long, 8))
    assert clip_features(movie(0, 1), 2).shape == (0, 1, 34)
    with pytest.raises(ValueError, match="2 frames or more, got 1"):
        clip_features(long, 1)
    assert flat[0, 0, 0] == 0.25
    np.testing.assert_allclose(flat[0, 0, 1:], np.log(FLOOR), atol=1e-9)


def test_drift_of_a_movie_that_stays_and_of_one_that_fades() -> None:
    black = np.zeros((30, 1, 16, 16))
    reference = Reference(black)
    stays = drift(black, reference)
    np.testing.assert_array_equal(stays[:, 0], np.zeros(30))
    np.testing.assert_allclose(stays[:, 1], 0, atol=1e-12)  # a mean of 30 equal numbers rounds
    fades = drift(black - np.arange(30)[:, None, None, None] / 32, reference)
    np.testing.assert_array_equal(fades[:, 0], np.arange(30) / 32)
    told = at_lengths([drift(black + 1, reference)])
    assert list(told) == [10, 30]
    assert told[10][0] == told[30][0] == 1
    assert at_lengths([fades])[30][0] == np.arange(20, 30).mean() / 32
    assert at_lengths([fades[:9]]) == {}


def test_drift_of_texture_counts_e_folds() -> None:
    frames = 1e6 * movie(3, 1)
    assert drift(np.e * frames, Reference(frames))[0, 1] == pytest.approx(1)
    assert texture_features(frames[0]).shape == (15,)


def test_a_reference_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one real frame"):
        Reference([])


def test_faithfulness() -> None:
    nothing = np.zeros_like(BEFORE)
    assert faithfulness([[(BEFORE, BEFORE)]]).mean == 1
    assert faithfulness([[(BEFORE, nothing)]]).mean == 0
    two = np.where(np.arange(8) == 6, 2, BEFORE)
    found = faithfulness([[(BEFORE, BEFORE), (two, BEFORE)], [(two, nothing)]])
    assert found.instances == ({1: 1.0, 2: 0.0}, {1: 0.0, 2: 0.0})
    assert (found.mean, found.cells) == (1 / 4, 2 / 5)
    assert isnan(faithfulness([[(nothing, BEFORE)]]).mean)
