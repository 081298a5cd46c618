"""Simulated movies: what bodies, masks, tracks and displacements promise, whatever the settings."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cytoforge.metrics.motion import motion
from cytoforge.simulation.bodies import DISC, RADIUS, Body, Form, Pose, displacement, pushes, share_pixels
from cytoforge.simulation.culture import Culture
from cytoforge.simulation.dynamics import Dynamics, persistence
from cytoforge.simulation.lineage import Lineage, simulate_lineage
from cytoforge.simulation.masks import MODEL_DIAMETER, Layout, Shape, parametric_shapes

LAYOUTS: tuple[Layout, ...] = ("scattered", "colony", "mixed")
DIAMETER = 14


@lru_cache
def bank() -> tuple[Shape, ...]:
    return parametric_shapes(np.random.default_rng(0))


def film(seed: int = 0, size: tuple[int, int] = (96, 112), frames: int = 12, **settings: object) -> Lineage:
    given = {"density": 0.2, "magnification": DIAMETER / MODEL_DIAMETER, "layout": "mixed", **settings}
    return simulate_lineage(bank(), size, frames, np.random.default_rng(seed), **given)  # type: ignore[arg-type]


def body(y: float, x: float, diameter: float = 20.0, angle: float = 0.0) -> Body:
    return Body(DISC, DISC, 0.0, 0.0, Pose(np.array([y, x]), angle, diameter / 2 / RADIUS))


# Bodies


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.5, -1.2])
def test_a_form_lies_where_it_was_taken(angle: float) -> None:
    """An ellipse is taken up, and drawn again at its pose covers the same pixels; turned round, the same area."""
    y, x = np.mgrid[:90, :100] - np.array([41.3, 55.6])[:, None, None]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    mask = (along / 30) ** 2 + (across / 12) ** 2 <= 1
    form, pose = Form.of(Shape.of(mask).field)
    assert pose.centre == pytest.approx([45.3, 59.6], abs=0.3)  # Shape.of adds four pixels
    assert np.cos(2 * (pose.angle - angle)) == pytest.approx(1, abs=1e-3)
    assert form.axes == pytest.approx((30 / pose.length, 12 / pose.length), rel=0.06)
    again, counts = share_pixels([Body(form, form, 0, 0, Pose(pose.centre - 4, pose.angle, pose.length))], mask.shape)
    assert np.count_nonzero((again > 0) & mask) / np.count_nonzero((again > 0) | mask) > 0.96
    assert counts[0, 0] == counts[0, 1] == pytest.approx(mask.sum(), rel=0.02)


def test_places_and_their_way_back() -> None:
    pose = Pose(np.array([3.0, -2.0]), 0.7, 12.0, 1.3)
    points = np.random.default_rng(0).normal(size=(7, 2))
    assert pose.back(pose.place(points)) == pytest.approx(points)
    assert np.linalg.det(pose.matrix) == pytest.approx(144)  # stretched at constant area
    tip = pose.place(np.array([0.0, 1.0])) - pose.centre  # one length along the long axis
    assert np.arctan2(*tip) == pytest.approx(0.7) and np.hypot(*tip) == pytest.approx(12 * 1.3)


def test_a_form_needs_pixels() -> None:
    with pytest.raises(ValueError, match="at least one positive pixel"):
        Form.of(np.zeros((5, 5)))


def test_a_border_lies_halfway_and_a_body_outside_has_nothing() -> None:
    labels, counts = share_pixels([body(20, 20), body(20, 34), body(200, 200)], (40, 60))
    assert (labels[20, 11:27] == 1).all() and (labels[20, 28:44] == 2).all()
    assert counts[2].tolist() == [0, 0]
    assert (counts[:2, 1] < counts[:2, 0]).all()
    swapped, _ = share_pixels([body(20, 34), body(20, 20)], (40, 60))
    assert np.array_equal(swapped > 0, labels > 0)


def test_displacement_of_a_turned_and_moved_body_by_hand() -> None:
    one, two = Pose(np.array([20.0, 20.0]), 0.0, 16.0), Pose(np.array([22.0, 25.0]), np.pi / 2, 16.0)
    (before, _), (after, _) = (share_pixels([Body(DISC, DISC, 0, 0, pose)], (50, 50)) for pose in (one, two))
    flow = displacement(before, after, {1: one}, {1: two}, {})
    assert flow[:, 20, 20] == pytest.approx([2, 5])
    assert flow[:, 20, 25] == pytest.approx([2 + 5, 5 - 5])  # five to the right becomes five down
    assert (flow[:, before == 0] == 0).all()
    assert np.isnan(displacement(before, np.zeros_like(before), {1: one}, {}, {})[:, 20, 20]).all()


def test_pushes_by_hand() -> None:
    """Discs of radius 5 whose centres are 8 apart overlap by 2; one off the middle of the other cell turns it."""
    centres = np.array([[10.0, 10.0], [10.0, 18.0], [50.0, 50.0]])
    moves, turns = pushes(centres, np.zeros((1, 3, 2)), np.full(3, 5.0))
    assert moves == pytest.approx(np.array([[0, -2], [0, 2], [0, 0]]))
    assert turns == pytest.approx([0, 0, 0])
    # the first cell is two discs at columns 0 and 20 of row 10; the second presses on the right one from above
    offsets = np.array([[[0.0, -10.0], [0.0, 0.0]], [[0.0, 10.0], [90.0, 90.0]]])
    moves, turns = pushes(np.array([[10.0, 10.0], [2.0, 20.0]]), offsets, np.full(2, 5.0))
    assert moves == pytest.approx(np.array([[2, 0], [-2, 0]]))
    assert turns == pytest.approx([20, 0])  # the right end goes down: towards the rows


# Movies


def check_movie(lineage: Lineage) -> None:
    """All that holds for every movie."""
    labels = lineage.labels
    rows = {row[0]: row for row in lineage.tracks}
    present = {(label, frame) for frame in range(len(labels)) for label in np.unique(labels[frame]).tolist() if label}
    told = {(label, frame) for label, begin, end, _ in lineage.tracks for frame in range(begin, end + 1)}
    assert present == told
    for frame in labels:
        for label, box in enumerate(ndimage.find_objects(frame), 1):
            assert box is None or ndimage.label(frame[box] == label)[1] == 1
    kin: dict[int, list[int]] = {}
    for label, begin, _, parent in lineage.tracks:
        if parent:
            assert begin == rows[parent][2] + 1
            kin.setdefault(parent, []).append(label)
    assert all(len(daughters) == 2 for daughters in kin.values())
    assert {mother: tuple(two) for mother, two in kin.items()} == lineage.divisions()


def check_flow(lineage: Lineage, frame: int) -> None:
    """Each pixel that stays in the frame comes to lie in the next mask of its cell, or of a daughter."""
    before, after = lineage.labels[frame], lineage.labels[frame + 1]
    flow = lineage.flow(frame)
    assert flow.dtype == np.float32 and flow.shape == (2, *before.shape)
    assert (flow[:, before == 0] == 0).all()
    heirs = {int(label): {int(label)} for label in np.unique(before)}
    for mother, daughters in lineage.divisions().items():
        if mother in heirs and mother not in after:
            heirs[mother] = set(daughters)
    for label in np.unique(before[before > 0]).tolist():
        pixels = np.argwhere(before == label)
        moved = pixels + flow[:, before == label].T
        if not heirs[label] & set(np.unique(after).tolist()):
            assert np.isnan(moved).all()
            continue
        places = np.rint(moved).astype(int)
        inside = ((places >= 0) & (places < after.shape)).all(axis=1)
        assert set(after[tuple(places[inside].T)].tolist()) <= heirs[label]


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(LAYOUTS),
    density=st.sampled_from([0.05, 0.3, 0.6, 3, 40]),
    rate=st.sampled_from([0.0, 0.02, 0.1]),
    size=st.sampled_from([(33, 80), (70, 51)]),
)
def test_every_movie_keeps_its_promises(
    seed: int, layout: Layout, density: float, rate: float, size: tuple[int, int]
) -> None:
    dynamics = Dynamics(division_rate=rate, speed=0.2, death_rate=0.01)
    lineage = film(seed, size, 8, density=density, layout=layout, dynamics=dynamics)
    assert lineage.labels.shape == (8, *size) and lineage.labels.dtype == np.int32
    check_movie(lineage)
    for frame in range(7):
        check_flow(lineage, frame)


def test_a_pixel_that_is_carried_by_half_a_pixel_lies_in_its_mask() -> None:
    dynamics = Dynamics(division_rate=0.1, speed=0.2, death_rate=0.01)
    check_flow(film(3680, (70, 51), 8, density=0.3, layout="scattered", dynamics=dynamics), 5)  # 44 + 0.5, rounded


def test_the_same_seed_gives_the_same_movie() -> None:
    one, same, other = film(3), film(3), film(4)
    assert np.array_equal(one.labels, same.labels) and one.tracks == same.tracks
    assert not np.array_equal(one.labels, other.labels)
    shorter = film(3, frames=5)
    assert np.array_equal(shorter.labels, one.labels[:5])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_too_dense_is_said_and_comes_to_an_end(layout: Layout) -> None:
    lineage = film(size=(48, 48), frames=6, density=5000, layout=layout, dynamics=Dynamics(division_rate=0.1))
    assert lineage.lacking
    assert 0.3 < lineage.coverage <= 1
    check_movie(lineage)
    assert not film(density=10).lacking


def test_daughters_lie_on_opposite_sides_and_part() -> None:
    lineage = film(1, (160, 160), 40, density=12, layout="scattered", dynamics=Dynamics(division_rate=0.02, speed=0.05))
    rows = {row[0]: row for row in lineage.tracks}
    opposed, first, later = [], [], []
    for mother, (one, two) in lineage.divisions().items():
        end = rows[mother][2]
        places = [ndimage.center_of_mass(lineage.labels[end + 1] == label) for label in (one, two)]
        middle = np.array(ndimage.center_of_mass(lineage.labels[end] == mother))
        towards = [(place - middle) / np.linalg.norm(place - middle) for place in map(np.array, places)]
        opposed.append(towards[0] @ towards[1])
        if min(rows[one][2], rows[two][2]) >= end + 5:
            first.append(np.hypot(*np.subtract(*places)))
            after = [ndimage.center_of_mass(lineage.labels[end + 5] == label) for label in (one, two)]
            later.append(np.hypot(*np.subtract(*after)))
        round_up = lineage.labels[end] == mother
        reach = ndimage.distance_transform_edt(np.pad(round_up, 1)).max()
        if not (round_up[0].any() or round_up[-1].any() or round_up[:, 0].any() or round_up[:, -1].any()):
            assert reach / np.sqrt(round_up.sum() / np.pi) > 0.7  # inscribed by equal-area radius
    assert len(opposed) >= 8 and len(first) >= 5
    assert np.median(opposed) < -0.95
    assert np.median(np.array(later) / first) > 1.15
    assert np.mean(np.array(later) > first) > 0.8


def test_cells_do_not_jump() -> None:
    """Cells that are still keep most of their pixels from frame to frame, and outlines have no steps."""
    lineage = film(2, (120, 120), 10, dynamics=Dynamics(speed=0.0, division_rate=0, death_rate=0, fluctuation=0))
    measured = motion(enumerate(lineage.labels), lineage.tracks)
    assert np.quantile(measured.speed, 0.9) < 2
    assert np.quantile(measured.deformation, 0.9) < 0.35


def test_colonies_hold_together_and_scattered_cells_keep_apart() -> None:
    touching = {}
    for layout in LAYOUTS:
        lineage = film(5, (128, 128), 15, density=25, layout=layout, dynamics=Dynamics(division_rate=0))
        last = lineage.labels[-1]
        borders = [
            (one != two) & (one > 0) & (two > 0) for one, two in ((last[1:], last[:-1]), (last.T[1:], last.T[:-1]))
        ]
        touching[layout] = sum(int(border.sum()) for border in borders)
    assert touching["scattered"] < 0.2 * touching["colony"]
    assert touching["scattered"] <= touching["mixed"] < touching["colony"]


def test_without_divisions_deaths_and_speed() -> None:
    lineage = film(6, dynamics=Dynamics(division_rate=0, death_rate=0))
    assert not lineage.divisions()
    still = film(6, frames=1)
    assert len(still.labels) == 1 and all(row[1:] == (0, 0, 0) for row in still.tracks)


def test_cells_enter_and_leave_at_the_edges() -> None:
    lineage = film(7, (100, 100), 60, dynamics=Dynamics(speed=0.3, division_rate=0, death_rate=0))
    later = [(label, begin) for label, begin, _, _ in lineage.tracks if begin]
    assert later
    for label, begin in later:
        y, x = np.nonzero(lineage.labels[begin] == label)
        assert min(y.min(), x.min(), 99 - y.max(), 99 - x.max()) < 1.5 * DIAMETER


def test_cells_wholly_within_the_inset_have_no_label() -> None:
    lineage = film(7, (100, 100), 20, density=30, inset=20, dynamics=Dynamics(speed=0.3, division_rate=0, death_rate=0))
    reached = 0
    for labels in lineage.labels:
        assert set(np.unique(labels)) == set(np.unique(labels[20:-20, 20:-20])) | {0}
        reached += np.count_nonzero(labels) - np.count_nonzero(labels[20:-20, 20:-20])
    assert reached  # those that reach farther are whole
    with pytest.raises(ValueError, match="leaves something of the frame"):
        film(size=(40, 60), inset=20)


def test_the_first_frame_is_near_the_density_whatever_the_inset_and_no_cell_begins_cut() -> None:
    for inset in (0, 20):
        for seed in range(3):
            first = film(seed, (128, 128), 1, density=0.15, layout="scattered", inset=inset)
            assert first.coverage == pytest.approx(0.15, rel=0.11)
    square = [Shape.of(np.ones((20, 20), bool))]
    dynamics = Dynamics(speed=0.0, division_rate=0, death_rate=0)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        culture = Culture(square, (80, 80), rng, 0.2, dynamics, "scattered", 1.0, 0.5, 0)
        assert min(cell.area for cell in culture.cells) > 0.5 * 400  # stretched by 0.75 to 1.25 along two axes


def test_a_cell_keeps_its_area_between_two_forms() -> None:
    cross = np.zeros((61, 61), bool)
    cross[25:36], cross[:, 25:36] = True, True
    one, two = (Form.of(Shape.of(mask).field)[0] for mask in (cross, np.ones((12, 80), bool)))
    drawn = [Body(one, two, mixture, 0, Pose(np.array([60.0, 60.0]), 0.3, 30.0)) for mixture in (0.3, 0.5, 0.7)]
    areas = [share_pixels([one], (120, 120))[1][0, 1] for one in drawn]
    assert areas == pytest.approx([900] * 3, rel=0.03)


# What is asked for is found again


def test_dynamics_are_found_again_in_the_movie() -> None:
    asked = Dynamics(
        speed=0.25, spread=0.3, persistence=0.6, growth=0.015, division_rate=0.015, death_rate=0.004, deformation=0.1
    )
    movies = [film(seed, (320, 320), 50, density=60, layout="scattered", dynamics=asked) for seed in range(2)]
    found = Dynamics.like([motion(enumerate(movie.labels), movie.tracks) for movie in movies])
    assert found.speed == pytest.approx(asked.speed, rel=0.2)
    assert found.persistence == pytest.approx(asked.persistence, abs=0.08)
    assert found.division_rate == pytest.approx(asked.division_rate, rel=0.2)
    assert found.death_rate == pytest.approx(asked.death_rate, rel=0.45)  # some forty deaths
    assert found.growth == pytest.approx(asked.growth, abs=0.005)
    assert found.sister_distance == pytest.approx(asked.sister_distance, rel=0.06)
    assert found.deformation == pytest.approx(asked.deformation, abs=0.035)  # masks of whole pixels hide a part
    assert found.spread == pytest.approx(asked.spread, abs=0.06)
    slow = film(0, (320, 320), 30, density=60, layout="scattered", dynamics=Dynamics(speed=0.06))
    assert Dynamics.like([motion(enumerate(slow.labels), slow.tracks)]).speed < 0.5 * found.speed


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.9])
def test_persistence_from_turning_angles(correlation: float) -> None:
    rng = np.random.default_rng(0)
    one, noise = rng.normal(size=(2, 200_000, 2)) @ [1, 1j]
    two = correlation * one + np.sqrt(1 - correlation**2) * noise
    straightness = float(np.cos(np.angle(two / one)).mean())
    assert persistence(straightness) == pytest.approx(correlation, abs=0.01)
    assert persistence(-0.3) == 0


def test_few_cells_leave_the_defaults() -> None:
    assert Dynamics.like([]) == Dynamics()
    frames = np.zeros((3, 20, 20), np.int32)
    assert Dynamics.like([motion(enumerate(frames), [])]) == Dynamics()
    for frame in range(3):
        frames[frame, 5:10, 5 + frame : 10 + frame] = 1
    assert Dynamics.like([motion(enumerate(frames), [(1, 0, 2, 0)])]) == Dynamics()


@pytest.mark.parametrize(
    "wrong",
    [{"speed": -1.0}, {"persistence": 1.0}, {"sister_distance": 0.0}, {"deformation": 1.0}, {"division_rate": -0.1}],
)
def test_dynamics_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got Dynamics"):
        Dynamics(**wrong)


def test_guards() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        film(frames=0)
    with pytest.raises(ValueError, match="frames 0 to 1 have a next one, got 2"):
        film(frames=3).flow(2)
    with pytest.raises(ValueError, match="at least one shape"):
        simulate_lineage([], (32, 32), 2, np.random.default_rng(0), density=3)
