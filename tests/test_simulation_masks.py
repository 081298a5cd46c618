"""Simulated label images: what shapes keep, what labels promise, and the guards."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from cells import draw
from cytoforge.metrics.morphology import morphology
from cytoforge.simulation.masks import (
    LEAST,
    MODEL_DIAMETER,
    SMALLEST,
    Layout,
    Shape,
    lacks,
    parametric_shapes,
    shapes_of,
    simulate_labels,
)
from cytoforge.simulation.phantom import largest_piece

LAYOUTS: tuple[Layout, ...] = ("scattered", "colony", "mixed")
MAGNIFICATION = 14 / MODEL_DIAMETER


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@lru_cache
def bank() -> tuple[Shape, ...]:
    return parametric_shapes(rng())


def ellipses() -> tuple[Shape, ...]:
    return bank()[::4]


def disc(radius: float, size: int = 41) -> NDArray[np.bool_]:
    y, x = np.mgrid[:size, :size] - size // 2
    inside: NDArray[np.bool_] = np.hypot(y, x) <= radius
    return inside


def nearest_gap(labels: NDArray[np.int32]) -> int:
    """Fewest background pixels between two cells, along rows, columns and diagonals (brute force)."""
    points = [np.argwhere(labels == cell) for cell in range(1, labels.max() + 1)]
    apart = [
        np.abs(one[:, None] - other).max(axis=2).min() - 1 for k, one in enumerate(points) for other in points[k + 1 :]
    ]
    return int(min(apart, default=10**6))


# Shapes


@pytest.mark.parametrize("radius", [2.3, 5.0, 9.4])
def test_a_shape_encloses_the_area_of_its_mask(radius: float) -> None:
    mask = disc(radius)
    field = Shape.of(mask).field
    assert np.count_nonzero(field > 0) == np.count_nonzero(mask)
    assert field.shape == tuple(length + 8 for length in mask.shape)


def test_shapes_are_of_whole_cells_without_holes_in_one_piece() -> None:
    labels = draw("""
        AAAAA..............CC
        AAAAA.BBBBBB...D...CC
        ......B....B.......CC
        ......B....B.......CC
        ......BBBBBB.EEEEE.CC
        .............EEEEE...
        ..E..........EEEEE...
        .....................
        """).astype(np.int64)
    labels *= 400_000_000  # ids may be large and have gaps
    areas = [np.count_nonzero(shape.field > 0) for shape in shapes_of(labels)]
    assert areas == [24, 15]  # B filled and the larger piece of E; A and C are cut by the edge, D is tiny
    assert SMALLEST == 15
    assert shapes_of(np.zeros((5, 5), np.int32)) == ()


def test_magnified_outlines_are_smooth() -> None:
    """An enlarged, turned disc has nearly no dents; one enlarged pixel by pixel has its steps."""
    mask = disc(6, 17)
    (steps,) = regionprops(ndimage.rotate(mask.repeat(5, 0).repeat(5, 1).astype(np.int32), 20, order=0))
    assert steps.solidity < 0.96
    for seed in range(10):
        (drawn,) = regionprops((Shape.of(mask).draw(5.0, rng(seed)) > 0).astype(np.int32))
        assert drawn.solidity > 0.965
        assert drawn.euler_number == 1


def test_drawn_shapes_differ_and_keep_their_area_on_average() -> None:
    shape = bank()[1]
    drawn = [shape.draw(0.5, rng(seed)) > 0 for seed in range(60)]
    areas = [np.count_nonzero(mask) for mask in drawn]
    assert np.mean(areas) == pytest.approx(0.25 * np.count_nonzero(shape.field > 0), rel=0.06)
    assert 0.7 * np.mean(areas) > min(areas)
    assert len({mask.shape for mask in drawn}) > 20
    for mask in drawn:
        assert mask.any(axis=1).all() or mask.any(axis=0).all()
        assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()


def test_variation_says_how_much_shapes_differ() -> None:
    shape = bank()[1]

    def areas(variation: float) -> np.ndarray:
        return np.array([np.count_nonzero(shape.draw(1.0, rng(seed), variation) > 0) for seed in range(40)])

    none, usual, much = (areas(variation) for variation in (0.0, 1.0, 2.0))
    assert np.ptp(none) < 0.04 * np.mean(none) and np.mean(none) == pytest.approx(
        np.count_nonzero(shape.field > 0), 0.02
    )
    assert 3 * np.std(none) < np.std(usual) < 0.7 * np.std(much)
    assert np.array_equal(shape.draw(1.0, rng(3)), shape.draw(1.0, rng(3), 1.0))
    with pytest.raises(ValueError, match=r"variation=2\.1"):
        simulate_labels([shape], (64, 64), rng(), density=1, variation=2.1)


def test_turned_by_all_angles_and_mirrored() -> None:
    """The tip of a wedge points everywhere, and the wedge turns both ways round."""
    y, x = np.mgrid[:31, :41]
    comma = (x > 4) & (x < 36) & (y > 12) & (y < 12 + (x - 4) / 4)
    angles, hands = [], []
    for seed in range(80):
        mask = Shape.of(comma).draw(1.0, rng(seed)) > 0
        points = np.argwhere(mask) - np.argwhere(mask).mean(axis=0)
        axis = np.linalg.svd(points, full_matrices=False)[2][0]
        along = points @ axis
        axis = axis * np.sign((along**3).sum())
        across = points @ np.array([-axis[1], axis[0]])
        angles.append(np.arctan2(*axis))
        hands.append(np.sign((across * along**2 * np.sign(along)).sum()))
    assert np.histogram(angles, 8, (-np.pi, np.pi))[0].min() >= 2
    assert 20 <= np.count_nonzero(np.array(hands) > 0) <= 60


def test_a_tiny_shape_may_vanish() -> None:
    assert Shape.of(disc(3, 9)).draw(0.01, rng()).size in (0, 1)
    gone = simulate_labels([Shape.of(disc(3, 9))], (32, 32), rng(), density=4, magnification=0.001)
    assert gone.cells <= 4


def test_the_model_has_cells_of_four_kinds() -> None:
    shapes = bank()
    masks = [(shape.field > 0).astype(np.int32) for shape in shapes]
    diameters = [2 * np.sqrt(mask.sum() / np.pi) for mask in masks]
    assert np.median(diameters) == pytest.approx(MODEL_DIAMETER, rel=0.1)
    assert all(largest_piece(mask > 0).sum() > 0.95 * mask.sum() for mask in masks)  # a thin arm may come off
    eccentricity, solidity = (
        [np.median([getattr(regionprops(mask)[0], name) for mask in masks[kind::4]]) for kind in range(4)]
        for name in ("eccentricity", "solidity")
    )
    ellipse, spread, elongated, star = range(4)
    assert solidity[ellipse] > 0.96 > solidity[spread] > solidity[star]
    assert eccentricity[elongated] > 0.85 > eccentricity[ellipse]


# Labels


@settings(max_examples=40)
@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    density=st.one_of(st.integers(1, 40).map(float), st.floats(0.01, 0.7)),
    layout=st.sampled_from(LAYOUTS),
    gap=st.integers(0, 4),
    magnification=st.floats(0.1, 0.6),
    touching=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_cells_are_connected_numbered_and_apart(
    height: int, width: int, density: float, layout: Layout, gap: int, magnification: float, touching: float, seed: int
) -> None:
    def simulate() -> NDArray[np.int32]:
        simulation = simulate_labels(
            bank(),
            (height, width),
            rng(seed),
            density=density,
            layout=layout,
            gap=gap,
            magnification=magnification,
            touching=touching,
        )
        labels = simulation.labels
        assert simulation.cells == labels.max()
        assert simulation.coverage == pytest.approx((labels > 0).mean())
        assert density < 1 or simulation.cells <= density
        return labels

    labels = simulate()
    assert labels.dtype == np.int32
    assert labels.shape == (height, width)
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), np.arange(1, labels.max() + 1))
    assert all(ndimage.label(labels == cell)[1] == 1 for cell in range(1, labels.max() + 1))
    assert nearest_gap(labels) >= gap
    np.testing.assert_array_equal(simulate(), labels)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("density", [0.05, 0.3, 0.7])
def test_coverage_is_reached(layout: Layout, density: float) -> None:
    """To within a cell of mean size."""
    for seed in range(2):
        simulation = simulate_labels(
            ellipses(), (160, 200), rng(seed), density=density, layout=layout, magnification=MAGNIFICATION
        )
        assert simulation.coverage == pytest.approx(density, abs=simulation.coverage / simulation.cells)
        assert not lacks(density, simulation.cells, simulation.coverage)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_number_of_cells_is_reached(layout: Layout) -> None:
    for cells in (1, 2, 25):
        simulation = simulate_labels(
            bank(), (128, 128), rng(cells), density=cells, layout=layout, magnification=MAGNIFICATION
        )
        assert simulation.cells == simulation.labels.max() == cells


@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_image_ends(layout: Layout, gap: int) -> None:
    full = simulate_labels(bank(), (60, 70), rng(), density=1000, layout=layout, gap=gap, magnification=MAGNIFICATION)
    assert 5 < full.cells < 100
    assert lacks(1000, full.cells, full.coverage)
    huge = simulate_labels(bank(), (20, 20), rng(), density=0.3, layout=layout, gap=gap, magnification=4.0)
    assert huge.cells >= 1
    none_left = simulate_labels(ellipses(), (20, 20), rng(), density=5, layout=layout, gap=gap, magnification=4.0)
    assert 1 <= none_left.cells < 5


def test_density_is_lacked_until_no_cell_of_mean_size_would_come_nearer() -> None:
    assert lacks(3, 2, 0.9) and not lacks(3, 3, 0.0)
    assert lacks(0.2, 0, 0.0)
    assert lacks(0.2, 4, 0.17) and not lacks(0.2, 4, 0.18)  # with a fifth cell 0.2125 and 0.225


@pytest.mark.parametrize("seed", range(3))
def test_cells_of_a_colony_touch_and_stay_cells(seed: int) -> None:
    labels = simulate_labels(
        bank(), (200, 200), rng(seed), density=60, layout="colony", magnification=MAGNIFICATION
    ).labels
    assert labels.max() == 60
    assert morphology(labels).touching > 0.95
    assert ndimage.label(labels > 0)[1] <= 6  # four colonies at most, and what the frame parts


@pytest.mark.parametrize("seed", range(3))
def test_a_colony_with_a_gap_lies_at_that_gap(seed: int) -> None:
    labels = simulate_labels(
        ellipses(), (160, 160), rng(seed), density=30, layout="colony", gap=3, magnification=MAGNIFICATION
    ).labels
    near = ndimage.maximum_filter(labels, 9)  # any cell has another within 4 pixels: 3 of background between
    lonely = [
        cell
        for cell in range(1, labels.max() + 1)
        if not ((ndimage.maximum_filter(labels == cell, 9)) & (labels > 0) & (labels != cell)).any()
    ]
    assert near.max() == 30
    assert nearest_gap(labels) == 3
    assert len(lonely) <= 4


def test_scattered_cells_lie_apart_and_mixed_ones_touch_as_told() -> None:
    def touching(layout: Layout, share: float) -> float:
        return float(
            np.mean(
                [
                    morphology(
                        simulate_labels(
                            bank(),
                            (256, 256),
                            rng(seed),
                            density=60,
                            layout=layout,
                            magnification=MAGNIFICATION,
                            touching=share,
                        ).labels
                    ).touching
                    for seed in range(4)
                ]
            )
        )

    assert touching("scattered", 1.0) < 0.15
    for share in (0.3, 0.6, 0.9):
        assert touching("mixed", share) == pytest.approx(share, abs=0.07)


def test_no_cell_lies_inside_another() -> None:
    for seed in range(4):
        labels = simulate_labels(bank(), (160, 160), rng(seed), density=0.5, magnification=MAGNIFICATION).labels
        for cell in range(1, labels.max() + 1):
            inside = ndimage.binary_fill_holes(labels == cell) & (labels != cell)
            assert not (inside & (labels > 0)).any()


def test_cells_give_way_but_little() -> None:
    """Of 0.7 coverage, too, cells have nearly the areas of their shapes."""
    sparse, dense = (
        morphology(simulate_labels(ellipses(), (256, 256), rng(1), density=density, magnification=MAGNIFICATION).labels)
        for density in (0.1, 0.7)
    )
    assert LEAST < np.median(dense.area) / np.median(sparse.area) <= 1.1


def test_magnification_enlarges_cells() -> None:
    areas = [
        np.median(
            morphology(
                simulate_labels(
                    ellipses(), (300, 300), rng(), density=40, magnification=size, layout="scattered"
                ).labels
            ).area
        )
        for size in (0.2, 0.4)
    ]
    assert areas[1] == pytest.approx(4 * areas[0], rel=0.25)


def test_frames_cut_cells() -> None:
    cut = 0
    for seed in range(6):
        labels = simulate_labels(ellipses(), (100, 100), rng(seed), density=15, magnification=MAGNIFICATION).labels
        cut += len({*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]} - {0})
    assert 3 < cut < 60


def test_seeds_differ() -> None:
    first, second = (simulate_labels(bank(), (64, 64), rng(s), density=5, magnification=0.2).labels for s in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": ()}, "at least one shape"),
        ({"size": (0, 5)}, "two positive lengths"),
        ({"size": (5, 5, 5)}, "two positive lengths"),
        ({"density": -1}, "density=-1"),
        ({"gap": -1}, "gap=-1"),
        ({"magnification": 0.0}, r"magnification=0\.0"),
        ({"touching": 1.5}, r"touching=1\.5"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"shapes": bank(), "size": (20, 20), "generator": rng(), "density": 2} | changes
    with pytest.raises(ValueError, match=message):
        simulate_labels(**arguments)  # type: ignore[arg-type]
