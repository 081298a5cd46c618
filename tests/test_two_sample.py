"""The classifier two-sample test: what can be told, what cannot, how images are held out, and its guards."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.metrics import two_sample
from cytoforge.metrics.sampling import evenly
from cytoforge.metrics.two_sample import CROPS, IMAGES, cut_crops, tell_apart

SIDE = 24


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "STEPS", 40)


def crops(seed: int, count: int = 8, blur: float = 0.0) -> NDArray[np.float32]:
    """Crops of images of smooth blobs with noise, which may be blurred away."""
    draw = np.random.default_rng(seed)
    images = ndimage.gaussian_filter(draw.standard_normal((count, 1, 48, 48)), (0, 0, 3, 3)) * 3
    images += 0.1 * draw.standard_normal(images.shape)
    return cut_crops(((ndimage.gaussian_filter(image, (0, blur, blur)), None) for image in images), draw, SIDE)


def test_what_is_drawn_alike_cannot_be_told() -> None:
    found = tell_apart(crops(0), crops(1), np.random.default_rng(0))
    assert found.accuracy.low < 0.5 < found.accuracy.high and 0.35 < found.accuracy.value < 0.65
    assert found.accuracy.value == pytest.approx((found.real + found.painted) / 2)
    assert (found.side, found.crops) == (SIDE, (8 * CROPS, 8 * CROPS))


def test_images_without_their_noise_are_told() -> None:
    found = tell_apart(crops(0), crops(1, blur=1.0), np.random.default_rng(0))
    assert found.accuracy.value > 0.95 and found.accuracy.low > 0.8


def test_an_image_shows_itself_to_one_side_only() -> None:
    """Each image has a grey value of its own and sides do not differ: who had seen it would know its side."""
    levels = np.random.default_rng(0).permutation(16) / 8 - 1
    flat = np.broadcast_to(levels[:, None, None, None, None], (16, CROPS, 1, SIDE, SIDE)).astype(np.float32)
    found = tell_apart(flat[:8], flat[8:], np.random.default_rng(0))
    assert found.accuracy.value < 0.8


def test_the_same_seed_finds_the_same() -> None:
    one, two, other = (tell_apart(crops(0), crops(1, blur=0.4), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one == two != other


def test_crops_lie_at_cells_and_within_the_image() -> None:
    labels = np.zeros((48, 60), int)
    labels[40:, 50:] = 7
    image = np.stack([np.indices(labels.shape)[0] / 100, 2 * (labels > 0)])
    (found,) = cut_crops([(image, labels)], np.random.default_rng(0), SIDE)
    assert found.shape == (CROPS, 2, SIDE, SIDE) and found.dtype == np.float32
    assert found[:, 1, -8:, -10:].min() == 1 == found.max()  # all hold the cell in the corner; 2 is beyond the range
    assert np.allclose(found[:, 0, :, 0], np.arange(24, 48) / 100)
    anywhere = cut_crops([(image, None), (image, 0 * labels)], np.random.default_rng(0), SIDE)
    assert len(np.unique(anywhere[:, :, 0, 0, 0])) > 6


def test_images_are_spread_evenly() -> None:
    assert evenly(5, IMAGES) == [0, 1, 2, 3, 4]
    assert len(evenly(1000, IMAGES)) == IMAGES and (evenly(1000, IMAGES)[0], evenly(1000, IMAGES)[-1]) == (0, 999)


def test_guards() -> None:
    draw, one = np.random.default_rng(0), crops(0)
    with pytest.raises(ValueError, match="4 images a side, got 8 and 3"):
        tell_apart(one, one[:3], draw)
    with pytest.raises(ValueError, match="one size"):
        tell_apart(one, one[..., :8], draw)
    with pytest.raises(ValueError, match="none"):
        cut_crops([], draw)
    with pytest.raises(ValueError, match="64 px need images"):
        cut_crops([(np.zeros((1, 80, 63)), None)], draw)
    with pytest.raises(ValueError, match="with labels"):
        cut_crops([(np.zeros((1, 80, 80)), np.zeros((80, 79), int))], draw)
