"""Crops around cells: by hand, against Pillow's crop and resize, and at every edge."""

import numpy as np
import pytest
import torch
from PIL import Image

from cells import draw
from cytoforge.cells.crops import BACKGROUND, DARKEST, SIDE, crop_images, crop_labels, windows_around


def field(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A random image (2, H, W) in [-1, 1], all of it cells: 1 above, 2 below."""
    image = np.random.default_rng(seed).uniform(-1, 1, (2, height, width)).astype(np.float32)
    labels = np.ones((height, width), np.int32)
    labels[height // 2 :] = 2
    return image, labels


def test_windows_by_hand() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[5:9, 6:8] = 7  # 4 x 2 px: extent 3, side 18, centroid (6.5, 6.5)
    labels[0, 19] = 3  # a single pixel: extent 0 counts as 1
    assert windows_around(labels, [7, 3]).tolist() == [[-2, -2, 18], [-2, 17, 6]]
    assert windows_around(labels, []).shape == (0, 3)


@pytest.mark.parametrize("cell", [0, 2, 9])
def test_a_cell_that_is_not_there_has_no_window(cell: int) -> None:
    with pytest.raises(ValueError, match="not all of the cells"):
        windows_around(draw("A.C"), [1, cell])


def test_a_pixel_by_hand() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[0, 19] = 3
    image = np.where(labels > 0, 1.0, 0.5).astype(np.float32)[None]  # ground is not shown
    crop = crop_images(image, labels, windows_around(labels, [3]), [3])
    rows = (np.arange(SIDE) + 0.5) * 6 / SIDE - 0.5  # in px of the window, whose pixel (2, 2) is the cell
    tent = np.maximum(1 - np.abs(rows - 2), 0)
    np.testing.assert_allclose(crop[0, 0].numpy(), 2 * np.outer(tent, tent) - 1, atol=1e-5)


@pytest.mark.parametrize("window", [(3, 4, 12), (-5, -3, 40), (20, 30, 64), (-100, -90, 300), (2, 2, 6)])
def test_crops_equal_those_of_pillow(window: tuple[int, int, int]) -> None:
    image, labels = field(45, 60)
    top, left, side = window
    box, windows = (left, top, left + side, top + side), np.array([window])
    found = crop_images(image, labels, windows)[0].numpy()
    for channel, crop in zip(image, found, strict=True):
        cut = Image.fromarray((channel + 1) / 2 - BACKGROUND).crop(box)  # cells from 0 to 1, outside is 0
        expected = np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) + BACKGROUND
        np.testing.assert_allclose(crop, expected, atol=1e-4)
    cut = Image.fromarray(labels).crop(box).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(crop_labels(labels, windows)[0], np.asarray(cut))


def test_only_the_cell_itself_or_all_cells_are_shown() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[10:15, 10:15], labels[10:15, 15:20] = 1, 2  # they touch
    image = np.full((1, 30, 30), 0.5, np.float32)
    windows = windows_around(labels, [1, 2])
    alone, together = crop_images(image, labels, windows, [1, 2]), crop_images(image, labels, windows)
    shares = [(crops > BACKGROUND).float().mean((1, 2, 3)) for crops in (alone, together)]
    assert (shares[1] > 1.8 * shares[0]).all()
    assert together.min() == BACKGROUND and together.max() == pytest.approx(0.75)
    assert set(np.unique(crop_labels(labels, windows))) == {0, 1, 2}


def test_a_cell_as_dark_as_its_ground_is_seen() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[10:15, 10:15] = 1
    crop = crop_images(np.full((1, 30, 30), -1, np.float32), labels, windows_around(labels, [1]), [1])
    assert crop.max() == DARKEST > crop.min() == BACKGROUND


def test_cells_of_a_frame_come_together_as_each_alone() -> None:
    image, labels = field(50, 40)
    labels[20:, 30:] = 3
    cells = [1, 2, 3]
    windows = windows_around(labels, cells)
    together = crop_images(image, labels, windows, cells)
    assert together.shape == (3, 2, SIDE, SIDE) and together.dtype == torch.float32
    for number, cell in enumerate(cells):
        alone = windows_around(labels, [cell])
        assert torch.equal(crop_images(image, labels, alone, [cell])[0], together[number])
        np.testing.assert_array_equal(crop_labels(labels, alone)[0], crop_labels(labels, windows)[number])


def test_no_cells_no_crops() -> None:
    image, labels = field(8, 8)
    windows = windows_around(labels, [])
    assert crop_images(image, labels, windows).shape == (0, 2, SIDE, SIDE)
    assert crop_labels(labels, windows).shape == (0, SIDE, SIDE)
