"""Labels to network targets and back: exact where it can be, and known where it cannot."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cells import NOTHING, TOUCHING, TOUCHING_AS_ONE, draw
from cytoforge.cells.instances import (
    CONDITIONS,
    DEEPEST,
    HEIGHTS,
    TARGETS,
    Boundary,
    Depth,
    Semantic,
    Target,
    cell_diameters,
    condition,
    inner_border,
    outer_contour,
    potential,
    relabel,
)
from cytoforge.data.images import read_labels
from cytoforge.simulation.forms import Form, draw_cells

ALL = Boundary(minimum_area=1, minimum_marker=1)
EIGHT = np.ones((3, 3))


def encode(labels: NDArray[np.int32], target: Target = ALL) -> NDArray[np.int64]:
    return target.encode(torch.from_numpy(labels)[None])[0].numpy()


def one_hot(classes: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    return np.eye(count, dtype=np.float32)[classes].transpose(2, 0, 1)


def round_trip(labels: NDArray[np.int32], target: Target = ALL) -> NDArray[np.int32]:
    return target.decode(one_hot(encode(labels, target), target.classes))


def digits(picture: str) -> NDArray[np.int64]:
    return np.array([[".1234".index(symbol) for symbol in row] for row in picture.split()])


def same_cells(one: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    """Equal up to the numbering of the cells."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1])) and (0, 0) in set(
        zip(*pairs.tolist(), strict=True)
    )


def mosaic(seed: int, size: int = 48, cells: int = 14) -> NDArray[np.int32]:
    """Touching cells with straight sides: nearest-centre regions of which a third is background."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, size, (cells, 2))
    y, x = np.mgrid[:size, :size]
    nearest = ((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2).argmin(axis=-1)
    ids = np.where(rng.random(cells) < 1 / 3, 0, np.arange(1, cells + 1))
    return ids[nearest].astype(np.int32)


def brushed(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """What a 3 x 3 brush leaves of each cell, without the cells whose brush centres are not connected."""
    painted = np.zeros_like(labels)
    for cell in np.unique(labels[labels > 0]):
        centres = ndimage.binary_erosion(labels == cell, EIGHT, border_value=1)
        if ndimage.label(centres, EIGHT)[1] == 1:
            painted[ndimage.binary_dilation(centres, EIGHT)] = cell
    return painted


def test_touching_cells_both_get_a_border() -> None:
    expected = digits("""
        ............
        ..22222222..
        ..21122112..
        ..21122112..
        ..21122112..
        """)  # no border along the image's lower edge
    np.testing.assert_array_equal(encode(TOUCHING), expected)
    assert same_cells(round_trip(TOUCHING), TOUCHING)


def test_inner_border_is_of_cells_only() -> None:
    labels = torch.from_numpy(TOUCHING)
    border = inner_border(labels)
    assert border.dtype == torch.bool
    np.testing.assert_array_equal(border.numpy(), encode(TOUCHING) == 2)
    assert not inner_border(torch.ones(5, 7, dtype=torch.int32)).any()  # the image's edge is no border


def test_a_cell_that_fills_the_image_is_all_interior() -> None:
    labels = np.full((6, 5), 9, dtype=np.int32)
    assert (encode(labels) == 1).all()
    assert (round_trip(labels) == 1).all()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("... .A. ...", "... .1. ..."),
        (".... .AA. .AA. ....", ".... .11. .11. ...."),
        ("........ .AAAAAA. ........", "........ .211112. ........"),
        (".......... .AAAAAAAA. .AAAAAAAA. ..........", ".......... .21111112. .21111112. .........."),
    ],
)
def test_thin_cells_keep_their_innermost_pixels(cell: str, expected: str) -> None:
    np.testing.assert_array_equal(encode(draw(cell)), digits(expected))
    assert same_cells(round_trip(draw(cell)), draw(cell))


def test_a_thread_holds_the_interior_together_at_a_neck() -> None:
    labels = draw("""
        .............
        .AAAA...AAAA.
        .AAAAAAAAAAA.
        .AAAA...AAAA.
        .............
        """)
    expected = digits("""
        .............
        .2222...2222.
        .21111111112.
        .2222...2222.
        .............
        """)
    np.testing.assert_array_equal(encode(labels), expected)
    assert same_cells(round_trip(labels), labels)


def test_no_thread_runs_along_another_cell() -> None:
    labels = draw("""
        .............
        .AAAA...AAAA.
        .AAAAAAAAAAA.
        .AAAABBBAAAA.
        .....BBB.....
        .....BBB.....
        """)
    classes = encode(labels)
    assert (classes[2, 4:9] == 2).all()  # so A is found as two cells, rather than joined to B
    assert ndimage.label(classes == 1, EIGHT)[1] == 3
    assert round_trip(labels).max() == 3


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.75))
def test_every_connected_cell_alone_has_one_interior(seed: int, filled: float) -> None:
    """However ragged: cells that touch no other are 8-connected blobs of noise here."""
    noise = np.random.default_rng(seed).random((24, 31)) < filled
    blobs, count = ndimage.label(noise, EIGHT)
    classes = encode(blobs.astype(np.int32))
    interiors, interior_count = ndimage.label(classes == 1, EIGHT)
    assert interior_count == count
    assert set(blobs[interiors > 0]) == set(range(1, count + 1)) - {0}
    assert same_cells(round_trip(blobs.astype(np.int32)), blobs)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_mask_is_interior_or_border_and_no_cell_is_lost(seed: int) -> None:
    labels = mosaic(seed, cells=60)
    classes = encode(labels)
    np.testing.assert_array_equal(classes > 0, labels > 0)
    assert set(labels[classes == 1]) == set(labels[labels > 0])
    plain = (labels > 0) & ~inner_border(torch.from_numpy(labels)).numpy()
    assert (classes[plain] == 1).all()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_brushed_cells_come_back_exactly(seed: int) -> None:
    labels = brushed(mosaic(seed))
    classes = encode(labels)
    np.testing.assert_array_equal(classes == 2, inner_border(torch.from_numpy(labels)).numpy())
    assert same_cells(round_trip(labels), labels)


def test_discs_touching_and_at_the_edge_come_back_exactly() -> None:
    y, x = np.mgrid[:60, :70]
    labels = np.zeros((60, 70), np.int32)
    for cell, (cy, cx, radius) in enumerate([(0, 0, 9), (20, 20, 8), (20, 36, 7), (34, 28, 7), (50, 69, 12)], start=1):
        labels[((y - cy) ** 2 + (x - cx) ** 2 <= radius**2) & (labels == 0)] = cell
    assert same_cells(round_trip(labels, Boundary()), labels)


def test_ids_may_be_any_int32_and_items_do_not_mix() -> None:
    extremes = np.array([0, -(2**31), 2**31 - 1, 2**31 - 2, -1], np.int64)
    labels = mosaic(3) % 5
    wild = extremes[labels].astype(np.int32)
    np.testing.assert_array_equal(encode(wild), encode(labels))
    thin = np.zeros_like(labels)
    thin[5, 5:9] = 1  # the other item's cell 1 has an interior, this one has none
    batch = torch.from_numpy(np.stack([labels, thin, labels]))
    one_by_one = torch.cat([ALL.encode(item[None]) for item in batch])
    assert torch.equal(ALL.encode(batch), one_by_one)
    assert torch.equal(ALL.encode(batch.to(torch.uint8)), one_by_one)
    assert one_by_one.dtype == torch.int64


@pytest.mark.parametrize("target", TARGETS.values())
def test_nothing_stays_nothing(target: Target) -> None:
    assert not encode(NOTHING, target).any()
    found = round_trip(NOTHING, target)
    assert found.dtype == np.int32
    assert not found.any()


def probabilities(picture: str, sure: float = 0.8) -> NDArray[np.float32]:
    """The drawn class with probability `sure`, the others sharing the rest."""
    drawn = one_hot(digits(picture), 3)
    return drawn * sure + (1 - drawn) * (1 - sure) / 2


def test_a_doubtful_speck_of_interior_does_not_split_a_cell() -> None:
    classes = """
        .222222222.
        .211122222.
        .211122112.
        .211122222.
        .222222222.
        """  # each pixel of the speck counts 0.8 - 0.1: 1.4 px together
    assert Boundary(minimum_area=1).decode(probabilities(classes)).max() == 1
    assert Boundary(minimum_area=1, minimum_marker=1.3).decode(probabilities(classes)).max() == 2
    assert Boundary(minimum_area=1).decode(probabilities(classes, sure=1.0)).max() == 2


def test_foreground_without_interior_is_a_cell_if_it_is_no_speck() -> None:
    classes = """
        .........22222.
        .22222...22222.
        .22222...2222..
        .22222.........
        """  # 15 and 14 px
    found = Boundary().decode(probabilities(classes))
    np.testing.assert_array_equal(found == 1, digits(classes) * (np.arange(15) < 8) == 2)
    assert found.max() == 1
    assert Boundary(minimum_area=14).decode(probabilities(classes)).max() == 2


def test_foreground_is_interior_and_border_together() -> None:
    scores = np.zeros((3, 5, 6), np.float32)
    scores[:, :, :3] = np.array([0.45, 0.3, 0.25])[:, None, None]  # background is the likeliest class, yet below half
    scores[:, :, 3:] = np.array([0.5, 0.3, 0.2])[:, None, None]
    found = Boundary().decode(scores)
    assert (found[:, :3] == 1).all()
    assert not found[:, 3:].any()


def test_cells_meet_where_the_border_is_surest() -> None:
    border = np.array([0.1, 0.1, 0.6, 0.7, 0.8, 0.9, 0.7, 0.1, 0.1])  # surest in column 5, halfway is column 4
    scores = np.stack([np.full_like(border, 0.05), 0.95 - border, border])
    found = Boundary().decode(np.repeat(scores[:, None], 8, axis=1).astype(np.float32))
    assert (found[:, :5] == 1).all()
    assert (found[:, 6:] == 2).all()


def test_semantic_cells_are_four_connected_components() -> None:
    assert encode(TOUCHING, Semantic()).max() == 1
    assert same_cells(round_trip(TOUCHING, Semantic()), TOUCHING_AS_ONE)
    diagonal = np.zeros((8, 8), np.int32)
    diagonal[:4, :4] = diagonal[4:, 4:] = 1
    assert round_trip(diagonal, Semantic()).max() == 2


def test_semantic_drops_components_below_15_pixels() -> None:
    labels = np.zeros((5, 12), np.int32)
    labels[:3, :5] = 1  # 15 px
    labels[:2, 5:] = 0
    labels[3:, 6:] = 2
    labels[4, 6:] = 0
    labels[2, 6:12] = 2
    labels[1, 6:8] = 2  # 6 + 6 + 2 = 14 px
    np.testing.assert_array_equal(round_trip(labels, Semantic()), labels == 1)
    assert round_trip(labels, Semantic(minimum_area=14)).max() == 2


def summits(field: NDArray[np.float32]) -> int:
    """Number of places that nothing within two pixels is higher than; a plateau is one."""
    highest = (field == ndimage.maximum_filter(field, 5)) & (field > 0.05)
    return int(ndimage.label(highest, EIGHT)[1])


def potential_of(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    return potential(torch.from_numpy(labels)[None])[0].numpy()


def test_the_potential_by_hand() -> None:
    """A row of three: the ends are a = (b + 1) / 4, the middle b = (2 a + 1) / 4; a square likewise."""
    np.testing.assert_allclose(
        potential_of(draw("..... .AAA. .....")), np.array([[0] * 5, [0, 5 / 6, 1, 5 / 6, 0], [0] * 5]), atol=1e-5
    )
    square = potential_of(draw("..... .AAA. .AAA. .AAA. ....."))[1:4, 1:4]
    np.testing.assert_allclose(
        square, [[11 / 18, 7 / 9, 11 / 18], [7 / 9, 1, 7 / 9], [11 / 18, 7 / 9, 11 / 18]], atol=1e-5
    )


@pytest.mark.parametrize("radius", [5, 8, 11, 16, 24])
def test_the_potential_of_a_disc_is_a_paraboloid(radius: int) -> None:
    """Up to what pixels make of a circle, whose edge lies half a pixel beyond the last centre."""
    y, x = np.mgrid[:70, :70]
    square = (y - 34) ** 2 + (x - 34) ** 2
    disc = square <= radius**2
    found, expected = potential_of(disc.astype(np.int32)), np.where(disc, 1 - square / (radius + 0.5) ** 2, 0)
    np.testing.assert_allclose(found, expected, atol=0.06)
    assert summits(found) == 1


def test_a_waist_has_no_summit_of_its_own() -> None:
    y, x = np.mgrid[:70, :70]
    dumbbell = np.minimum(np.hypot(y - 34, x - 28), np.hypot(y - 34, x - 40)) <= 8
    assert summits(ndimage.distance_transform_edt(dumbbell)) == 2
    assert summits(potential_of(dumbbell.astype(np.int32))) == 1


def test_other_cells_end_the_potential_and_the_edge_of_the_image_does_not() -> None:
    alone = potential_of(draw("..... .AAA. .AAA. ....."))
    beside = potential_of(draw("CCCCC BAAAD BAAAD EEEEE"))
    np.testing.assert_allclose(beside[1:3, 1:4], alone[1:3, 1:4], atol=1e-5)
    whole = np.zeros((24, 24), np.int32)
    whole[4:20, 4:20] = 1
    np.testing.assert_allclose(potential_of(whole[:, :12]), potential_of(whole)[:, :12], atol=1e-3)  # by symmetry
    np.testing.assert_allclose(potential_of(np.ones((6, 7), np.int32)), np.ones((6, 7)))
    assert not potential_of(NOTHING).any()


def test_potentials_of_items_do_not_mix() -> None:
    labels = mosaic(3) % 5
    small = np.zeros_like(labels)
    small[5:8, 5:9] = 1  # the same number as a larger cell of the other items, which has a higher summit
    extremes = np.array([0, -(2**31), 2**31 - 1, 2**31 - 2, -1], np.int64)
    batch = torch.from_numpy(np.stack([labels, small, extremes[labels].astype(np.int32)]))
    found = potential(batch)
    assert torch.equal(found, torch.cat([potential(item[None]) for item in batch]))
    assert torch.equal(found[0], found[2]) and found.dtype == torch.float32
    assert found.min() == 0 and found.amax(dim=(1, 2)).tolist() == [1, 1, 1]


def test_depths_are_roots_of_the_potential_cut_at_one_half_and_four_fifths() -> None:
    """Of a rectangle, whose potential is also solved as a system of linear equations."""
    height, width = 17, 23
    place = np.arange(height * width).reshape(height, width)
    system = 4 * np.eye(place.size)
    for one, other in ((place[:, 1:], place[:, :-1]), (place[1:], place[:-1])):
        system[one, other] = system[other, one] = -1
    level = np.linalg.solve(system, np.ones(place.size)).reshape(height, width)
    depth = np.sqrt(level / level.max())
    labels = np.pad(np.ones((height, width), np.int32), 1)
    np.testing.assert_allclose(potential_of(labels)[1:-1, 1:-1], depth**2, atol=0.02)
    expected = 2 + (depth > 0.5).astype(int) + (depth > 0.8)
    expected[[0, -1]] = expected[:, [0, -1]] = 1
    sure = (np.abs(depth - 0.5) > 0.02) & (np.abs(depth - 0.8) > 0.02)
    np.testing.assert_array_equal(encode(labels, Depth())[1:-1, 1:-1][sure], expected[sure])
    assert np.unique(expected[sure]).tolist() == [1, 2, 3, 4] and sure.mean() > 0.9


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_borders_of_depths_are_those_of_boundary(seed: int) -> None:
    labels = mosaic(seed, cells=60)
    found, known = encode(labels, Depth()), encode(labels)
    np.testing.assert_array_equal(found == 1, known == 2)
    np.testing.assert_array_equal(found > 1, known == 1)


@pytest.mark.parametrize("form", get_args(Form))
def test_drawn_cells_come_back_through_depths(form: Form) -> None:
    """Nine of ten cells of every form, but for the fine processes of some, at an IoU of 0.9 in the median."""
    shares = []
    for seed in range(3):
        labels = draw_cells(form, (128, 128), 22, np.random.default_rng(seed))
        areas = np.bincount(labels.ravel())
        labels = relabel(np.where(areas[labels] >= Depth().minimum_area, labels, 0))
        found = round_trip(labels, Depth())
        overlap = np.histogram2d(
            labels.ravel(), found.ravel(), bins=(np.arange(labels.max() + 2), np.arange(found.max() + 2))
        )[0]
        union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0) - overlap
        shares.extend((overlap / union)[1:, 1:].max(axis=1, initial=0).tolist())
    assert np.median(shares) >= 0.9 and np.mean(np.array(shares) > 0.5) >= 0.9


def test_touching_discs_come_apart() -> None:
    y, x = np.mgrid[:40, :60]
    labels = np.where(x < 30, np.hypot(y - 20, x - 19) <= 11, 2 * (np.hypot(y - 20, x - 40) <= 11)).astype(np.int32)
    assert (labels[:, :-1] * labels[:, 1:] == 2).sum() == 9  # they do touch
    np.testing.assert_array_equal(round_trip(labels, Depth()), labels)


def relief(depth: list[float], rows: int = 8) -> NDArray[np.float32]:
    """Probabilities (5, rows, len(depth)) whose expected depth is the same in all rows."""
    scores = np.zeros((5, rows, len(depth)), np.float32)
    scores[4] = depth
    scores[1] = 1 - scores[4]
    return scores


def test_cells_grow_from_their_deepest_pixels() -> None:
    """Two summits, with a saddle in column 4 between them."""
    scores = relief([0.4, 0.6, 0.8, 0.6, 0.2, 0.55, 0.9, 0.7, 0.4])
    found = Depth(minimum_area=1).decode(scores)
    assert (found[:, :4] == 1).all() and (found[:, 5:] == 2).all()
    assert Depth(minimum_area=1, summit=0.95).decode(scores).max() == 1  # a patch without a summit is one cell
    assert Depth(minimum_area=33).decode(scores).max() == 1
    scores[0], scores[1:] = 0.5, 0.5 * scores[1:]  # background at one half is background
    assert not Depth().decode(scores).any()
    assert len(HEIGHTS) == Depth().classes


@pytest.mark.parametrize(("share", "cells"), [(0.5, 1), (0.51, 2)])
def test_a_saddle_is_measured_by_the_lower_summit(share: float, cells: int) -> None:
    """0.35 between 0.7 and 1 is half of the lower one; from 0.35 to 1 alone it would be less."""
    assert Depth(minimum_area=1, saddle=share).decode(relief([0.7, 0.35, 1.0])).max() == cells


def test_summits_are_joined_over_several_saddles_the_highest_first() -> None:
    """Summits 0.9, 0.7, 0.9: 0.5 joins the low one to the left (0.5 / 0.7 > 0.6), but 0.45 not both (0.45 / 0.9)."""
    found = Depth(minimum_area=1, saddle=0.6).decode(relief([0.9, 0.5, 0.7, 0.45, 0.9]))
    assert found[0, [0, 2]].tolist() == [1, 1] and found[0, 4] == 2
    found = Depth(minimum_area=1, saddle=0.6).decode(relief([0.9, 0.45, 0.7, 0.5, 0.9]))
    assert found[0, 0] == 1 and found[0, [2, 4]].tolist() == [2, 2]


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_joining_follows_the_persistence_of_summits(seed: int) -> None:
    """Against a flooding from the top, pixel by pixel: a summit is a cell if it meets a higher one far enough below."""
    rng = np.random.default_rng(seed)
    depth = ndimage.gaussian_filter(rng.random((24, 24)), 1.5)
    depth = ((depth - depth.min()) / np.ptp(depth)).astype(np.float32)
    scores = np.stack([0 * depth, 1 - depth, 0 * depth, 0 * depth, depth])
    share = float(rng.uniform(0.3, 0.95))
    expected = Depth(minimum_area=1, summit=0.0, saddle=share).decode(scores).max()
    assert expected == surviving(depth, share)


def surviving(depth: NDArray[np.float32], share: float) -> int:
    """Count summits that do not meet a higher one at or above a share of their own height."""
    summit: dict[tuple[int, int], float] = {}
    parent: dict[tuple[int, int], tuple[int, int]] = {}

    def root(pixel: tuple[int, int]) -> tuple[int, int]:
        while parent[pixel] != pixel:
            pixel = parent[pixel]
        return pixel

    count = 0
    for flat in np.argsort(-depth, axis=None, kind="stable"):
        pixel = (int(flat) // depth.shape[1], int(flat) % depth.shape[1])
        height = depth[pixel]
        around = [(pixel[0] + dy, pixel[1] + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        met = sorted({root(near) for near in around if near in parent}, key=summit.__getitem__)
        parent[pixel] = met[-1] if met else pixel
        if not met:
            count, summit[pixel] = count + 1, height
        for low in met[:-1]:
            parent[low] = met[-1]
            count -= bool(height >= np.float32(share) * summit[low])
    return count


def test_targets_by_name() -> None:
    assert {name: (target.name, target.classes, target.protocol) for name, target in TARGETS.items()} == {
        "boundary": ("boundary", 3, "instances"),
        "depth": ("depth", 5, "instances"),
        "semantic": ("semantic", 2, "paper"),
    }


@pytest.mark.parametrize("target", TARGETS.values())
def test_other_shapes_are_refused(target: Target) -> None:
    with pytest.raises(ValueError, match=r"axes \(batch, y, x\), got shape \(4, 5\)"):
        target.encode(torch.zeros(4, 5, dtype=torch.int32))
    with pytest.raises(ValueError, match=rf"\({target.classes} classes, y, x\), got shape \(4, 8, 8\)"):
        target.decode(np.zeros((4, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"got shape \(8, 8\)"):
        target.decode(np.zeros((8, 8), np.float32))


def test_the_outer_contour_has_both_sides_and_leaves_contacts_out() -> None:
    labels = draw("""
        ........
        .AAABBB.
        .AAABBB.
        .AAABBB.
        .AAABBB.
        .AAABBB.
        ........
        ........
        """)
    expected = draw("""
        XXXXXXXX
        XXXXXXXX
        XX....XX
        XX....XX
        XX....XX
        XXXXXXXX
        XXXXXXXX
        ........
        """)
    found = outer_contour(torch.from_numpy(labels)[None])[0]
    assert torch.equal(found, torch.from_numpy(expected != 0))


def test_relabel_keeps_the_order_of_ids() -> None:
    labels = np.array([[0, 700, 3], [3, 0, 65535]], np.uint16)
    found = relabel(labels)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [[0, 2, 1], [1, 0, 3]])
    np.testing.assert_array_equal(relabel(np.array([-5, 0, 2**31 - 1])), [1, 0, 2])
    assert not relabel(NOTHING).any()


def test_cell_diameters_are_those_of_circles_of_equal_area() -> None:
    labels = draw("""
        CCCC.A
        CCCC..
        """)
    np.testing.assert_allclose(cell_diameters(labels), [2 / np.sqrt(np.pi), 2 * np.sqrt(8 / np.pi)])
    assert cell_diameters(NOTHING).shape == (0,)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("dataset", ["usiigaci", "dsb256"])
@pytest.mark.parametrize(("target", "least"), [(Boundary(), 0.99), (Depth(), 0.98)])
def test_real_cells_come_back(real_data: Path, dataset: str, step: int, target: Target, least: float) -> None:
    """Of all true cells that the speck rule leaves, F at IoU 0.5; depths cut a few cells with thin waists."""
    found = matched = 0
    for path in sorted((real_data / dataset / "test" / "masks").iterdir()):
        labels = relabel(read_labels(path)[::step, ::step])
        areas = np.bincount(labels.ravel())
        labels = relabel(np.where(areas[labels] >= Boundary().minimum_area, labels, 0))
        decoded = round_trip(labels, target)
        overlap = np.histogram2d(
            labels.ravel(), decoded.ravel(), bins=(np.arange(labels.max() + 2), np.arange(decoded.max() + 2))
        )[0]
        union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0) - overlap
        matched += int((overlap / union > 0.5)[1:, 1:].sum())
        found += int(labels.max() + decoded.max())
    assert 2 * matched / found > least


def test_a_condition_tells_cell_contact_and_depth() -> None:
    labels = torch.from_numpy(
        draw("""
        .......
        .AAAAA.
        .AAAAA.
        .AAAAA.
        .BBB...
        """)
    )[None]
    mask, contact, depth = condition(labels, "instances")[0]
    assert condition(labels, "mask")[0].equal(mask[None])
    np.testing.assert_array_equal(mask, (labels[0] != 0).float())
    np.testing.assert_array_equal(
        contact.int(),
        digits("""
        .......
        .......
        .......
        .1111..
        .111...
        """),
    )
    np.testing.assert_array_equal(
        (depth * DEEPEST).int(),
        digits("""
        .......
        .11111.
        .12221.
        .11111.
        .111...
        """),
    )


def test_a_condition_grows_to_its_deepest_and_not_beyond() -> None:
    wide = torch.ones((1, 80, 80), dtype=torch.int32)
    wide[:, :, 0] = 0
    depth = condition(wide, "instances")[0, 2]
    np.testing.assert_allclose(depth[40], np.clip(np.arange(80), 0, DEEPEST) / DEEPEST)
    assert not condition(torch.zeros((2, 5, 6), dtype=torch.int64), "instances").any()
    assert {kind: condition(wide, kind).shape[1] for kind in CONDITIONS} == dict(CONDITIONS)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.integers(1, 12))
def test_depth_is_the_chessboard_distance_of_each_cell_alone(seed: int, height: int, width: int, size: int) -> None:
    cells = np.random.default_rng(seed).integers(0, 4, (2, height // size + 1, width // size + 1))
    labels = cells.repeat(size, 1).repeat(size, 2)[:, :height, :width]
    depth = condition(torch.from_numpy(labels), "instances")[:, 2]
    for found, label in zip(depth, labels, strict=True):
        for cell in np.unique(label[label != 0]):
            if (label == cell).all():
                expected = np.full(label.shape, DEEPEST)
            else:
                expected = ndimage.distance_transform_cdt(label == cell, "chessboard").clip(max=DEEPEST)
            np.testing.assert_array_equal((found * DEEPEST)[label == cell], expected[label == cell])


def test_a_condition_refuses_other_kinds_and_shapes() -> None:
    with pytest.raises(ValueError, match="mask, instances, got 'edges'"):
        condition(torch.zeros((1, 4, 4)), "edges")
    with pytest.raises(ValueError, match="batch, y, x"):
        condition(torch.zeros((4, 4)), "mask")
