"""Camera noise: what is drawn is found again, what moves is not taken for it, and guards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cytoforge.metrics.texture import noise_power
from cytoforge.simulation.camera import Noise, measure_noise, noisy

NONE = Noise(0.0, 0.0, 0.0, 0.0)
CELLS = np.zeros((96, 128), int)
CELLS[20:60, 20:60], CELLS[20:60, 80:110] = 1, 2
STILL = (np.where(CELLS > 0, 0.4, -0.6) + 0.02 * np.sin(np.arange(128) / 5))[None]
Frames = list[tuple[NDArray[np.floating], NDArray[np.integer]]]


def movie(noise: Noise, frames: int = 12, still: NDArray[np.floating] = STILL) -> Frames:
    draw = np.random.default_rng(0)
    return [(noisy(still, [noise] * len(still), draw), CELLS) for _ in range(frames)]


@pytest.mark.parametrize("noise", [Noise(4e-4, 0, 0, 0), Noise(0, 1e-3, 0.6, 0.01), Noise(2e-4, 1e-3, 0.9, 0)])
def test_what_is_drawn_is_found_again(noise: Noise) -> None:
    (found,) = measure_noise([movie(noise, 24)])
    for grey in (-0.6, 0.4):
        assert found.variance(grey) == pytest.approx(noise.variance(grey), rel=0.15)
    assert found.blur == pytest.approx(noise.blur, abs=0.05)
    assert found.flicker == pytest.approx(noise.flicker, rel=0.4, abs=1e-3)


def test_variance_by_hand() -> None:
    noise = Noise(0.01, 0.02, 0, 0)
    assert noise.variance(np.array([-2.0, -1, 0, 1, 3])) == pytest.approx([0.01, 0.01, 0.03, 0.05, 0.05])


def test_cells_that_move_and_a_drift_are_no_noise() -> None:
    frames = []
    for t, (image, cells) in enumerate(movie(Noise(1e-4, 0, 0, 0))):
        speck = np.zeros_like(image)
        speck[0, 70:90, 2 * t : 2 * t + 20] = 0.9  # an unlabelled cell that crosses the background
        frames.append((image + speck + 0.005 * t, cells))
    (found,) = measure_noise([frames])
    assert found.variance(-0.6) == pytest.approx(1e-4, rel=0.25)
    assert found.flicker < 5e-4


def test_channels_and_movies_are_measured_apart() -> None:
    still = np.concatenate([STILL, 0.5 * STILL])
    loud = [(np.concatenate([image, 0.5 * STILL]), cells) for image, cells in movie(Noise(9e-4, 0, 0, 0))]
    first, second = measure_noise([loud])
    assert first.variance(-0.6) == pytest.approx(9e-4, rel=0.1) and second == NONE
    jump = [(still, CELLS)] * 3, [(still + 0.3, CELLS)] * 3
    assert measure_noise(jump) == (NONE, NONE)  # a movie does not follow from the one before


def test_without_background_or_a_second_frame_there_is_no_noise() -> None:
    full = [(image, CELLS + 1) for image, _ in movie(Noise(1e-3, 0, 0, 0))]
    assert measure_noise([full]) == (NONE,) == measure_noise([movie(Noise(1e-3, 0, 0, 0), 1)])
    cut_off = [(np.full((1, 96, 128), -1.0), CELLS)] * 3
    assert measure_noise([cut_off]) == (NONE,)


@settings(max_examples=20)
@given(st.floats(0, 1e-2), st.floats(0, 1e-2), st.sampled_from([0, 0.5, 2]), st.integers(0, 2**32))
def test_noise_follows_from_its_generator_and_leaves_the_mean(read: float, gain: float, blur: float, seed: int) -> None:
    noise = [Noise(read, gain, blur, 0)]
    one, two = (noisy(STILL, noise, np.random.default_rng(seed)) for _ in range(2))
    assert one.tobytes() == two.tobytes() and one.dtype == np.float32
    spread = float(np.sqrt(read + 2 * gain))
    assert abs(float((one - STILL).mean())) < 0.1 * spread + 1e-6


def test_noise_power_of_white_noise_and_of_a_slope() -> None:
    draw = np.random.default_rng(0)
    assert noise_power(draw.normal(0, 0.1, (1, 200, 200))) == pytest.approx(0.01, rel=0.03)
    slope = np.indices((20, 20)).sum(0)[None] / 40
    assert noise_power(slope) == pytest.approx(0, abs=1e-12)
    assert noise_power(np.concatenate([slope, slope + draw.normal(0, 0.1, slope.shape)])) > 0.003
    with pytest.raises(ValueError, match="3 px"):
        noise_power(np.zeros((1, 2, 9)))


def test_guards() -> None:
    with pytest.raises(ValueError, match="2 channels needs as many noises, got 1"):
        noisy(np.zeros((2, 4, 4)), [NONE], np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one frame"):
        measure_noise([[]])
    with pytest.raises(ValueError, match="of one size with labels"):
        measure_noise([[(STILL, CELLS[1:])]])
    with pytest.raises(ValueError, match="of one size with labels"):
        measure_noise([[(STILL, CELLS), (STILL[:, 1:], CELLS[1:])]])
