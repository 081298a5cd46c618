"""From what a specimen does to light to what a camera records: phase contrast, DIC, brightfield, dark field, noise.

A specimen is a wave (H, W), complex: 1 where it does nothing, of angle p where it delays the light by p radians, of
modulus below 1 where it absorbs. Every intensity (H, W) is relative to light that has met nothing, except in dark
field, where such light does not arrive. Images are periodic, so give specimens a margin.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]
Wave = NDArray[np.complex128]


def square_frequency(shape: tuple[int, ...]) -> Field:
    """Return the squared spatial frequency, in cycles per pixel, of each term (H, W) of a Fourier transform."""
    fy, fx = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    square: Field = fy**2 + fx**2
    return square


def through(wave: Wave, pupil: Field | Wave) -> Field:
    """Return the intensity of a wave whose Fourier terms a pupil (H, W) has multiplied (Abbe)."""
    intensity: Field = np.abs(np.fft.ifft2(np.fft.fft2(wave) * pupil)) ** 2
    return intensity


def phase_contrast(wave: Wave, ring: float, halo: float, defocus: float, blur: float) -> Field:
    """Return the image of a wave behind a phase ring (Zernike, Physica 9, 1942).

    The ring attenuates the light near the centre of the pupil and shifts it by a quarter wave, so that a small delay p
    shows as (1 - p / ring) ** 2: dark, as in positive phase contrast.

    Args:
        wave: the specimen (H, W).
        ring: amplitude transmission of the phase ring, 0 to 1; negative for negative phase contrast.
        halo: standard deviation, in pixels, of the blur that separates the light which the ring acts on.
        defocus: distance from focus, in units in which 1 is one wave at half the sampling frequency.
        blur: standard deviation of the point spread function in pixels.
    """
    square = square_frequency(wave.shape)
    aperture = np.exp(-2 * (np.pi * blur) ** 2 * square + 8j * np.pi * defocus * square)
    centre = np.exp(-2 * (np.pi * halo) ** 2 * square)
    pupil = aperture * (1 - centre) - 1j * ring * centre
    return through(wave, pupil) / ring**2


def interference_contrast(phase: Field, shear: tuple[float, float], bias: float, blur: float) -> Field:
    """Return the image of a phase map (H, W) by differential interference contrast (Nomarski).

    Two copies of the wave, shifted against each other by less than can be resolved, interfere: the intensity is
    sin((bias + d) / 2) ** 2 of the difference d of their phases, divided by that of the ground.

    Args:
        phase: delays in radians.
        shear: shift (y, x) of the copies in pixels.
        bias: phase between the copies in radians, between 0 and pi.
        blur: standard deviation of the point spread function in pixels.
    """
    slopes = (ndimage.gaussian_filter(phase, blur, order=order, truncate=3) for order in ((1, 0), (0, 1)))
    difference = sum(length * slope for length, slope in zip(shear, slopes, strict=True))
    intensity: Field = np.sin((bias + difference) / 2) ** 2 / np.sin(bias / 2) ** 2
    return intensity


def brightfield(wave: Wave, defocus: float, blur: float) -> Field:
    """Return the image of a wave at some distance from focus (Fresnel), where a phase shows as dark and bright rims.

    Args:
        wave: the specimen (H, W).
        defocus: wavelength times distance, in square pixels; its root is the width of the rims. Positive: the plane
            that is seen lies behind the specimen, where what delays the light has gathered it as a lens does.
        blur: standard deviation of the point spread function in pixels.
    """
    square = square_frequency(wave.shape)
    return through(wave, np.exp(-2 * (np.pi * blur) ** 2 * square - 1j * np.pi * defocus * square))


def dark_field(wave: Wave, stop: float, blur: float) -> Field:
    """Return the light that a wave scatters past a stop at the pupil's centre.

    Args:
        wave: the specimen (H, W).
        stop: standard deviation, in pixels, of the blur that separates the light which the stop takes.
        blur: standard deviation of the point spread function in pixels.
    """
    square = square_frequency(wave.shape)
    return through(wave, np.exp(-2 * (np.pi * blur) ** 2 * square) * (1 - np.exp(-2 * (np.pi * stop) ** 2 * square)))


def smooth(image: Field, sigma: float) -> Field:
    """Return an image (H, W), taken as periodic, blurred by a Gaussian of `sigma` pixels; its sum stays."""
    fy, fx = np.fft.fftfreq(image.shape[0]), np.fft.rfftfreq(image.shape[1])
    down, across = (np.exp(-2 * (np.pi * sigma * f) ** 2) for f in (fy, fx))
    smoothed: Field = np.fft.irfft2(np.fft.rfft2(image) * down[:, None] * across, s=image.shape)
    return smoothed


def noise(shape: tuple[int, ...], sigma: float, generator: np.random.Generator) -> Field:
    """Return periodic noise (H, W), blurred by `sigma` pixels (0.3 or more), of mean 0 and standard deviation 1."""
    field = smooth(generator.standard_normal(shape), sigma)
    field -= field.mean()
    field /= max(float(field.std()), 1e-9)
    return field


def illumination(shape: tuple[int, ...], shade: float, generator: np.random.Generator) -> Field:
    """Return the light (H, W), near 1, that differs by `shade` over the field: a slope and a bright or dark centre."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    slope = generator.uniform(0, 2 * np.pi)
    centre = generator.uniform(-0.5, 0.5, 2)
    tilt = y * np.sin(slope) + x * np.cos(slope)
    bowl = generator.uniform(-1, 1) * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 - 0.7)
    light: Field = 1 + shade * np.clip(0.5 * tilt + 0.5 * bowl, -1, 1)
    return light
