"""Drawn images: what all modalities promise, where the edges of cells are seen, and the guards."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cytoforge.simulation.forms import draw_cells
from cytoforge.simulation.microscopy import Labels, Modality, draw_image
from cytoforge.simulation.phantom import phantom_labels

MODALITIES: tuple[Modality, ...] = get_args(Modality)
LINES = {"membrane fluorescence", "dark field"}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def discs(radius: int, pitch: int, count: int = 3) -> Labels:
    """Discs on a square grid, `count` x `count`."""
    y, x = np.mgrid[:pitch, :pitch] - pitch // 2
    one = np.hypot(y, x) <= radius
    labels = np.kron(np.arange(1, count**2 + 1).reshape(count, count), np.ones((pitch, pitch), int))
    return np.where(np.tile(one, (count, count)), labels, 0).astype(np.int32)


def signed_distance(labels: Labels) -> NDArray[np.float64]:
    """Distance in px from the outline of discs that do not touch, negative inside."""
    return np.where(
        labels > 0, 0.5 - ndimage.distance_transform_edt(labels > 0), ndimage.distance_transform_edt(labels == 0) - 0.5
    )


def slopes(image: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(ndimage.gaussian_gradient_magnitude(image.astype(float), 0.7))


@pytest.mark.parametrize("modality", MODALITIES)
def test_counts_are_finite_not_negative_and_fixed_by_the_seed(modality: Modality) -> None:
    labels = phantom_labels((70, 90), 8, rng())
    before = labels.copy()
    image = draw_image(labels, modality, 18, rng(3))
    assert image.shape == labels.shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.std() > 0
    np.testing.assert_array_equal(image, draw_image(labels, modality, 18, rng(3)))
    np.testing.assert_array_equal(labels, before)
    assert (image != draw_image(labels, modality, 18, rng(4))).any()


@settings(max_examples=40)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    diameter=st.floats(4, 120),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    modality=st.sampled_from(MODALITIES),
    seed=st.integers(0, 2**32),
)
def test_any_labels_give_an_image(
    height: int, width: int, diameter: float, share: float, modality: Modality, seed: int
) -> None:
    """Single pixels, cells in many pieces, a single cell that fills the frame, frames smaller than a cell."""
    generator = rng(seed)
    labels = (generator.integers(1, 5, (height, width)) * (generator.random((height, width)) < share)).astype(np.int32)
    for scene in (labels, np.full_like(labels, 7)):
        image = draw_image(scene, modality, diameter, generator)
        assert image.shape == (height, width)
        assert np.isfinite(image).all() and image.min() >= 0


@pytest.mark.parametrize("modality", MODALITIES)
def test_without_cells_there_is_a_noisy_ground(modality: Modality) -> None:
    def variation(labels: Labels) -> float:
        images = [draw_image(labels, modality, 20, rng(seed)) for seed in range(9)]
        assert min(image.std() for image in images) > 0
        return float(np.median([image.std() / image.mean() for image in images]))

    assert variation(np.zeros((78, 78), np.int32)) < variation(discs(9, 26))


@pytest.mark.parametrize("modality", MODALITIES)
def test_ids_do_not_matter_but_their_order(modality: Modality) -> None:
    labels = discs(8, 24, 2)
    sparse = np.array([0, 3, 70, 71, 2**31 - 1])[labels]
    np.testing.assert_array_equal(
        draw_image(labels, modality, 16, rng(1)), draw_image(sparse.astype(np.int32), modality, 16, rng(1))
    )


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("diameter", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_edges_of_cells_stand_out(modality: Modality, diameter: int) -> None:
    """In the median image, slopes at the outlines are steeper than elsewhere; in nine of ten they are not flatter."""
    ratios: list[float] = []
    for seed in range(30):
        labels = phantom_labels((128, 128), 128**2 // (4 * diameter**2), rng(seed), diameter=diameter, touching=0.3)
        steep = slopes(draw_image(labels, modality, diameter, rng(seed)))
        near = ndimage.distance_transform_edt(
            (ndimage.maximum_filter(labels, 3) == labels) & (ndimage.minimum_filter(labels, 3) == labels)
        )
        ratios.append(float(np.median(steep[near <= 1]) / np.median(steep[near > 2])))
    assert np.median(ratios) > 1.25
    assert np.quantile(ratios, 0.1) > 0.95


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("radius", [7, pytest.param(22, marks=pytest.mark.slow)])
def test_edges_are_seen_where_the_labels_have_them(modality: Modality, radius: int) -> None:
    """The steepest slope across the outline is at the outline, over many images; of lines it is the brightest place."""
    labels = discs(radius, 3 * radius, 2)
    rings = np.floor(signed_distance(labels)).astype(int)
    places = np.arange(1 - radius, radius - 1)
    profile = np.zeros(len(places))
    for seed in range(30):
        image = draw_image(labels, modality, 2 * radius, rng(seed))
        along = ndimage.median(image if modality in LINES else slopes(image), rings, places)
        profile += (along - along.min()) / np.ptp(along)
    if modality == "dark field":  # insides may be brighter, and the edge is a line: where that ends outside
        peak, tolerance = places[profile > profile.max() / 2].max() + 0.5, max(1.0, 0.07 * 2 * radius)
    else:
        peak, tolerance = places[np.argmax(profile)] + 0.5, max(1.0, 0.05 * 2 * radius)
    assert abs(peak) <= tolerance


@pytest.mark.parametrize("modality", ["nuclear fluorescence", "cytoplasm fluorescence"])
def test_filled_cells_are_bright_and_differ_in_brightness(modality: Modality) -> None:
    labels = discs(9, 30)
    spreads: list[float] = []
    for seed in range(20):
        image = draw_image(labels, modality, 19, rng(seed))
        ground = float(np.median(image[labels == 0]))
        means = ndimage.mean(image, labels, range(1, 10)) - ground
        assert means.max() > 0
        spreads.append(means.max() / max(means.min(), 1e-3))
    assert min(spreads) < 2
    assert max(spreads) > 4


def test_membranes_are_brighter_than_what_they_enclose() -> None:
    labels = discs(12, 36)
    away = signed_distance(labels)
    brighter = [
        image[np.abs(away) < 1].mean() > image[away < -4].mean()
        for image in (draw_image(labels, "membrane fluorescence", 25, rng(seed)) for seed in range(20))
    ]
    assert np.mean(brighter) > 0.9


def test_phase_contrast_is_mostly_positive() -> None:
    """Spread cells are dark against a bright halo in most images, and the reverse in some."""
    labels = phantom_labels((128, 128), 12, rng(2), diameter=24, touching=0.2, rounded=0)
    away = signed_distance(labels)
    darker = [
        image[(away < 0) & (away > -3)].mean() < image[(away > 0) & (away < 3)].mean()
        for image in (draw_image(labels, "phase contrast", 24, rng(seed)) for seed in range(60))
    ]
    assert 0.6 < np.mean(darker) < 0.97


def test_lengths_follow_the_diameter() -> None:
    """Cells drawn twice as large have coarser textures: neighbouring pixels are more alike."""

    def likeness(scale: int) -> float:
        labels = discs(8 * scale, 24 * scale)
        images = [draw_image(labels, "cytoplasm fluorescence", 16 * scale, rng(seed)) for seed in range(16)]
        inside = labels > 0
        return float(np.median([slopes(image)[inside].mean() / image[inside].std() for image in images]))

    assert likeness(3) < 0.8 * likeness(1)


def test_light_does_not_ring_below_zero() -> None:
    generator = np.random.default_rng(936)  # a blur of a quarter of a pixel left -0.002 beside a bright edge
    labels = draw_cells("adherent", (64, 64), 16, generator)
    assert draw_image(labels, "brightfield", 16, generator).min() >= 0


@pytest.mark.parametrize(
    "labels",
    [np.zeros((4, 5)), np.zeros((2, 4, 5), int), np.zeros((0, 5), int), np.full((4, 5), -1)],
    ids=["float", "three axes", "empty", "negative"],
)
def test_what_is_no_label_image_is_refused(labels: Labels) -> None:
    with pytest.raises(ValueError, match="labels must be integers"):
        draw_image(labels, "dic", 20, rng())


def test_other_modalities_and_sizes_are_refused() -> None:
    labels = discs(5, 16)
    with pytest.raises(ValueError, match=r"modality must be one of phase contrast, .* got 'x-ray'"):
        draw_image(labels, "x-ray", 20, rng())  # type: ignore[arg-type]
    for diameter in (3.9, 121.0, float("nan")):
        with pytest.raises(ValueError, match=f"diameter must be 4 to 120 px, got {diameter}"):
            draw_image(labels, "dic", diameter, rng())
