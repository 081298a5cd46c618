"""Phantom cells: what labels and pictures promise, and the guards."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.simulation.phantom import GAP, WHITE, Microscope, draw_outline, phantom, phantom_image, phantom_labels


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def touching_cells(labels: NDArray[np.int32]) -> set[int]:
    """Ids of the cells that share a pixel side with another cell."""
    found: set[int] = set()
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        border = (one != other) & (one > 0) & (other > 0)
        found |= set(one[border].tolist()) | set(other[border].tolist())
    return found


def disc(radius: float, size: int = 64) -> NDArray[np.int32]:
    y, x = np.mgrid[:size, :size] - size // 2
    inside: NDArray[np.bool_] = np.hypot(y, x) <= radius
    return inside.astype(np.int32)


def test_same_seed_same_phantom_and_another_seed_another() -> None:
    image, labels = phantom(3)
    again_image, again_labels = phantom(3)
    np.testing.assert_array_equal(image, again_image)
    np.testing.assert_array_equal(labels, again_labels)
    other_image, other_labels = phantom(4)
    assert (other_labels != labels).any()
    assert (other_image != image).any()


def test_seed_sequence_is_not_used_up() -> None:
    items = np.random.SeedSequence(7).spawn(2)
    first = phantom(items[0], (64, 64), 4)
    np.testing.assert_array_equal(first[0], phantom(items[0], (64, 64), 4)[0])
    assert (first[0] != phantom(items[1], (64, 64), 4)[0]).any()


def test_default_scene_holds_what_it_should() -> None:
    """Counts, sizes, coverage and touching of the scene that the demo is made of."""
    shares: list[float] = []
    coverages: list[float] = []
    areas: list[int] = []
    for seed in range(6):
        image, labels = phantom(seed)
        assert image.shape == labels.shape == (160, 160)
        assert image.dtype == np.uint16
        assert labels.dtype == np.int32
        assert labels.max() == 30
        shares.append(len(touching_cells(labels)) / 30)
        coverages.append((labels > 0).mean())
        areas.extend(np.bincount(labels.ravel())[1:].tolist())
    assert 0.5 <= np.mean(shares) <= 0.7
    assert min(coverages) >= 0.18
    assert max(coverages) <= 0.4
    diameters = np.sqrt(4 * np.array(areas) / np.pi)
    assert 15 <= np.median(diameters) <= 20
    assert diameters.min() >= 6


@settings(max_examples=25)
@given(
    height=st.integers(5, 140),
    width=st.integers(5, 140),
    cells=st.integers(0, 30),
    touching=st.floats(0, 1),
    diameter=st.floats(6, 30),
    seed=st.integers(0, 2**32),
)
def test_labels_are_consecutive_and_connected(
    height: int, width: int, cells: int, touching: float, diameter: float, seed: int
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        labels = phantom_labels((height, width), cells, rng(seed), diameter=diameter, touching=touching)
    count = labels.max()
    assert labels.shape == (height, width)
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), np.arange(1, count + 1))
    assert all(ndimage.label(labels == cell)[1] == 1 for cell in range(1, count + 1))
    assert (count < cells) == bool(told)
    for shortfall in told:
        assert str(shortfall.message) == f"room for {count} of {cells} cells in {height}x{width} px"


@pytest.mark.parametrize("seed", range(4))
def test_no_cell_touches_when_none_should(seed: int) -> None:
    labels = phantom_labels((160, 160), 20, rng(seed), touching=0.0)
    assert not touching_cells(labels)
    for cell in range(1, 21):
        near = ndimage.binary_dilation(labels == cell, np.ones((3, 3)), iterations=GAP)
        assert set(np.unique(labels[near])) <= {0, cell}


@pytest.mark.parametrize("seed", range(4))
def test_every_cell_touches_when_all_should(seed: int) -> None:
    labels = phantom_labels((192, 192), 24, rng(seed), touching=1.0)
    assert len(touching_cells(labels)) == 24
    assert ndimage.label(labels > 0)[1] <= 12


def test_one_touching_cell_is_none() -> None:
    assert not touching_cells(phantom_labels((100, 100), 3, rng(), touching=0.3))


def test_a_full_dish_ends_and_is_told() -> None:
    with pytest.warns(UserWarning, match=r"room for \d+ of 200 cells in 48x64 px"):
        labels = phantom_labels((48, 64), 200, rng())
    assert 3 < labels.max() < 200


def test_no_cells() -> None:
    image, labels = phantom(0, (40, 33), 0)
    assert labels.max() == 0
    assert image.shape == (40, 33)


def test_rounded_outlines_are_rounder_and_smaller() -> None:
    def roundness(rounded: bool) -> tuple[float, float]:
        masks = [draw_outline(18, rng(seed), rounded) for seed in range(40)]
        areas = np.array([mask.sum() for mask in masks])
        inner = [ndimage.distance_transform_edt(np.pad(mask, 1)).max() for mask in masks]
        return float(np.median(inner / np.sqrt(areas / np.pi))), float(np.median(areas))

    (compact, small), (ragged, large) = roundness(True), roundness(False)
    assert compact > 0.92
    assert ragged < 0.75
    assert small < 0.7 * large


def test_outline_is_centred_in_an_odd_patch() -> None:
    for seed in range(50):
        mask = draw_outline(18, rng(seed))
        assert mask.shape[0] == mask.shape[1]
        assert mask.shape[0] % 2 == 1
        assert mask[mask.shape[0] // 2, mask.shape[1] // 2]
        inner = mask[GAP:-GAP, GAP:-GAP]
        assert inner.sum() == mask.sum()


def test_intensity_of_an_empty_and_of_an_even_field_is_one() -> None:
    """An even delay is invisible: only differences of phase show."""
    for delay in (0.0, 1.3):
        np.testing.assert_allclose(Microscope(defocus=0.4).intensity(np.full((32, 40), delay)), 1, atol=1e-9)


def test_small_phase_shows_dark_as_zernike_says() -> None:
    """A grating finer than the halo and coarser than the blur: (1 - p / ring)^2, here to first order in p."""
    grating = 1e-4 * np.cos(2 * np.pi * np.arange(96) / 8) * np.ones((96, 1))
    image = Microscope(ring=0.5, halo=20, blur=0.01).intensity(grating)
    np.testing.assert_allclose(image - 1, -2 * grating / 0.5, rtol=0, atol=1e-7)


def test_thin_cell_is_dark_with_a_bright_halo_and_rounded_cell_is_bright() -> None:
    microscope = Microscope()
    y, x = np.mgrid[:64, :64] - 32
    radius = np.hypot(y, x)
    thin = microscope.intensity(np.where(radius <= 9, 0.3, 0.0))
    rim, centre = thin[(radius > 6) & (radius < 8)].mean(), thin[radius < 2].mean()
    assert rim < 0.75
    assert rim + 0.1 < centre < 1.05, "shade-off: a wide even cell is darkest at its rim"
    assert thin[(radius > 9.5) & (radius < 12)].mean() > 1.2
    sphere = microscope.intensity(5 * np.sqrt(np.clip(1 - (radius / 6.5) ** 2, 0, None)))
    assert sphere[(radius > 2.5) & (radius < 5)].mean() > 1.8


def test_picture_shows_a_disc_bright_and_a_spindle_dark() -> None:
    clean = Microscope(shade=0, dirt=0, photons=1e6)
    round_cell = disc(6.5)
    spindle = np.zeros((64, 64), np.int32)
    spindle[30:35, 8:56] = 1
    for labels, brighter in ((round_cell, True), (spindle, False)):
        picture = phantom_image(labels, rng(), clean)
        assert (picture[labels > 0].mean() > np.median(picture[labels == 0])) == brighter


def test_light_and_noise_follow_the_conditions() -> None:
    empty = np.zeros((120, 120), np.int32)
    dark, bright = (phantom_image(empty, rng(1), Microscope(exposure=e, dirt=0)) for e in (500, 1500))
    assert bright.mean() == pytest.approx(3 * dark.mean(), rel=0.02)
    grainy, fine = (phantom_image(empty, rng(1), Microscope(photons=p, dirt=0)) for p in (100, 100_000))
    assert np.diff(grainy.astype(float)).std() > 3 * np.diff(fine.astype(float)).std()


def test_camera_saturates_instead_of_wrapping() -> None:
    picture = phantom_image(disc(7), rng(), Microscope(exposure=3500))
    assert picture.max() == WHITE


def test_conditions_differ_between_pictures() -> None:
    labels = phantom_labels((96, 96), 8, rng())
    pictures = [phantom_image(labels, rng(seed)).astype(float) for seed in range(8)]
    means = [picture.mean() for picture in pictures]
    contrasts = [picture[labels > 0].std() / picture.mean() for picture in pictures]
    assert max(means) > 1.3 * min(means)
    assert max(contrasts) > 1.3 * min(contrasts)


def test_labels_with_gaps_and_other_integer_types_are_drawn() -> None:
    sparse = disc(7) * 9
    drawn = phantom_image(sparse.astype(np.uint16), rng(), Microscope())
    np.testing.assert_array_equal(drawn, phantom_image(sparse, rng(), Microscope()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (0, 50)}, r"shape .* got \(0, 50\)"),
        ({"shape": (50, 50, 3)}, "shape"),
        ({"cells": -1}, "cells must be at least 0 .* got -1"),
        ({"diameter": 3.0}, "diameter at least 6 px, got 4 and 3.0"),
        ({"touching": 1.2}, "shares from 0 to 1, got 1.2"),
        ({"rounded": -0.1}, "shares from 0 to 1, got 0.6 and -0.1"),
    ],
)
def test_labels_refuse_values_out_of_range(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"shape": (50, 50), "cells": 4, "generator": rng()} | changes
    with pytest.raises(ValueError, match=message):
        phantom_labels(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels",
    [np.zeros((4, 5)), np.zeros((2, 4, 5), int), np.zeros((0, 5), int), np.full((4, 5), -1)],
    ids=["float", "three axes", "empty", "negative"],
)
def test_picture_refuses_what_is_no_label_image(labels: NDArray[np.int32]) -> None:
    with pytest.raises(ValueError, match="labels must be integers"):
        phantom_image(labels, rng())
