"""Optics: small phases and plain waves, worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from cytoforge.simulation.optics import (
    Field,
    brightfield,
    dark_field,
    illumination,
    interference_contrast,
    noise,
    phase_contrast,
    smooth,
)


def grating(strength: float, period: int, size: int = 96) -> Field:
    return strength * np.cos(2 * np.pi * np.arange(size) / period) * np.ones((size, 1))


def disc(radius: float, size: int = 96) -> Field:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)


def test_phase_contrast_shows_small_delays_as_zernike_says() -> None:
    """Positive contrast darkens by 2 p / ring, negative contrast brightens by as much."""
    for ring in (0.5, -0.5):
        image = phase_contrast(np.exp(1j * grating(1e-4, 8)), ring=ring, halo=20, defocus=0, blur=0.01)
        np.testing.assert_allclose(image - 1, -2 * grating(1e-4, 8) / ring, rtol=0, atol=1e-7)


def test_weak_disc_is_dark_with_a_bright_halo_in_positive_contrast_and_the_reverse_in_negative() -> None:
    radius = np.hypot(*(np.mgrid[:96, :96] - 48))
    for ring in (0.5, -0.5):
        image = phase_contrast(np.exp(0.1j * disc(10)), ring, halo=6, defocus=0, blur=0.5)
        inside, halo = image[radius < 9].mean() - 1, image[(radius > 11) & (radius < 14)].mean() - 1
        assert np.sign([inside, halo]).tolist() == [-np.sign(ring), np.sign(ring)]


def test_a_thin_halo_shades_off_where_a_wide_one_does_not() -> None:
    thin, wide = (phase_contrast(np.exp(0.1j * disc(20)), 0.5, halo, 0, 0.5)[48, 48] for halo in (3, 40))
    assert abs(thin - 1) < 0.01
    assert wide < 0.75


def test_interference_contrast_of_a_ramp_is_flat_and_turns_with_the_shear() -> None:
    """A delay of .02 rad per px, sheared by 2 px, is a difference of .04: sin^2((b + .04) / 2) / sin^2(b / 2)."""
    ramp = 0.02 * np.arange(64) * np.ones((48, 1))
    inside = (slice(8, -8), slice(8, -8))
    for shear, difference in (((0, 2), 0.04), ((0, -2), -0.04), ((3, 0), 0), ((3, 1), 0.02)):
        image = interference_contrast(ramp, shear, bias=1.0, blur=1.0)[inside]
        expected = np.sin((1 + difference) / 2) ** 2 / np.sin(0.5) ** 2
        np.testing.assert_allclose(image, expected, rtol=1e-3)
        assert image.std() < 1e-9


def test_brightfield_shows_no_phase_in_focus_and_its_curvature_out_of_focus() -> None:
    """To first order the contrast of a grating is 2 p sin(pi z f^2), of opposite sign on both sides of focus."""
    wave = np.exp(1j * grating(1e-4, 8))
    np.testing.assert_allclose(brightfield(wave, 0, 0.01), 1, atol=1e-6)
    for defocus in (5.0, -5.0):
        expected = 2 * grating(1e-4, 8) * np.sin(np.pi * defocus / 64)
        np.testing.assert_allclose(brightfield(wave, defocus, 0.001) - 1, expected, rtol=0, atol=1e-7)


def test_brightfield_of_an_absorber_is_the_light_it_lets_through() -> None:
    image = brightfield(np.exp(-0.5 * np.log(4) * disc(12)).astype(complex), 0, 0.3)
    assert image[48, 48] == pytest.approx(0.25, rel=1e-3)
    assert image[2, 2] == pytest.approx(1, rel=1e-3)


def test_dark_field_is_black_where_nothing_scatters_and_shows_edges() -> None:
    np.testing.assert_allclose(dark_field(np.full((40, 32), np.exp(0.7j)), 3, 0.5), 0, atol=1e-12)
    radius = np.hypot(*(np.mgrid[:96, :96] - 48))
    image = dark_field(np.exp(0.3j * disc(20)), stop=3, blur=0.5)
    assert image[np.abs(radius - 20) < 2].mean() > 20 * image[radius < 10].mean()
    np.testing.assert_allclose(image, dark_field(np.exp(-0.3j * disc(20)), 3, 0.5), atol=1e-9)


def test_smoothing_keeps_the_light_and_is_a_gaussian() -> None:
    image = disc(9)
    assert smooth(image, 2.5).sum() == pytest.approx(image.sum())
    np.testing.assert_allclose(smooth(image, 2.5), ndimage.gaussian_filter(image, 2.5, mode="wrap"), atol=1e-3)


def test_noise_and_illumination_have_the_stated_size() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = (noise((64, 80), sigma, rng) for sigma in (1, 6))
    for field in (fine, coarse):
        assert (field.mean(), field.std()) == pytest.approx((0, 1), abs=1e-9)
    assert np.diff(coarse).std() < np.diff(fine).std() / 3
    light = illumination((50, 60), 0.2, rng)
    assert np.abs(light - 1).max() <= 0.2 + 1e-12
    np.testing.assert_array_equal(illumination((5, 6), 0, rng), 1)
