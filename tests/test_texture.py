"""The texture distance is 0 for equal textures and grows with faults of paintings, but not with what is where."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.metrics.texture import texture_distance

Image = NDArray[np.float64]


def texture(seed: int, size: int = 160) -> Image:
    """Smooth grain of standard deviation 0.2, (1, size, size)."""
    grain = ndimage.gaussian_filter(
        np.random.default_rng(seed).standard_normal((1, size, size)), (0, 2, 2), mode="wrap"
    )
    return 0.2 * grain / grain.std()


def distance(real: Image, painted: Image, seed: int = 0) -> float:
    return texture_distance([real], [painted], np.random.default_rng(seed))


def test_equal_images_are_at_distance_0() -> None:
    assert distance(texture(0), texture(0)) == 0


def test_one_grey_value_is_as_far_as_real_contrast() -> None:
    """Projections of real patches are normal: the mean of |z| is sqrt(2 / pi) standard deviations."""
    assert distance(texture(0), np.zeros((1, 160, 160))) == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)


def test_other_places_of_the_same_texture_are_near() -> None:
    assert distance(texture(0), np.roll(texture(0), (50, 70), (1, 2))) < 0.15
    assert distance(texture(0), texture(1)) < 0.3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda image: ndimage.gaussian_filter(image, (0, 2, 2)),
        lambda image: 0.5 * image,
        lambda image: image + 0.2,
        lambda image: image + 0.2 * (-1.0) ** np.add.outer(np.arange(160), np.arange(160)),
        lambda image: image + 0.2 * np.random.default_rng(5).standard_normal(image.shape),
    ],
    ids=["blurred", "pale", "lighter", "checkerboard", "noisy"],
)
def test_faults_of_paintings_are_far(spoil) -> None:
    real = texture(0)
    assert distance(real, spoil(texture(1))) > 1.5 * distance(real, texture(1))


def test_several_images_and_channels() -> None:
    real = [np.concatenate([texture(k), texture(k + 5)]) for k in range(2)]
    shift = np.array([0.3, 0.0])[:, None, None]
    swapped = [image[::-1] + shift for image in real]
    assert texture_distance(real, real, np.random.default_rng(0)) == 0
    assert texture_distance(real, swapped, np.random.default_rng(0)) > 0.2


def test_the_draw_is_that_of_the_generator() -> None:
    assert distance(texture(0), texture(1), seed=3) == distance(texture(0), texture(1), seed=3)
    assert distance(texture(0), texture(1), seed=3) != distance(texture(0), texture(1), seed=4)


def test_what_does_not_fit_is_refused() -> None:
    generator = np.random.default_rng(0)
    for real, painted in (([texture(0)], []), ([texture(0)], [texture(0)[:, 1:]])):
        with pytest.raises(ValueError, match="pairs of equal shape"):
            texture_distance(real, painted, generator)
    for images in ([], [np.zeros((1, 6, 40))]):
        with pytest.raises(ValueError, match="at least 7 px"):
            texture_distance(images, images, generator)
