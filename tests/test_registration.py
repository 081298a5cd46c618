"""Steps of the whole field between frames, and links across them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoforge.inference.tracker import Tracker
from cytoforge.tracking.candidates import LINK, candidates
from cytoforge.tracking.registration import field_step

DIAMETER = 10.0


def scattered(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 20 * DIAMETER, (count, 2))


@given(st.integers(0, 99), st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 8))
@settings(max_examples=60)
def test_the_step_is_found_where_cells_also_go_their_own_ways(seed: int, y: float, x: float, new: int) -> None:
    before, draw = scattered(40, seed), np.random.default_rng([seed, 1])
    moved = before[new:] + np.array([y, x]) * DIAMETER + draw.normal(0, 1, (40 - new, 2))
    after = draw.permutation(np.concatenate([moved, scattered(new, seed + 1000)]))
    found = field_step(before, after, DIAMETER)
    if np.hypot(y, x) > 0.2:
        assert found == pytest.approx(np.array([y, x]) * DIAMETER, abs=1.5)
    assert found.dtype == np.int64


def test_no_step_is_taken_where_it_is_not_clear() -> None:
    cells = scattered(40, 0)
    moved = cells + np.array([8, -15])
    assert field_step(cells, moved, DIAMETER).tolist() == [8, -15]
    assert not field_step(cells[:5], moved[:5], DIAMETER).any()  # too few cells
    assert not field_step(cells, cells + 0.6, DIAMETER).any()  # no farther than cells go themselves
    assert not field_step(cells, cells + np.array([40, 0]), DIAMETER).any()  # too far
    some = np.where(np.arange(40)[:, None] < 12, moved, scattered(40, 9))
    assert not field_step(cells, some, DIAMETER).any()  # too few agree
    assert not field_step(cells, cells[:0], DIAMETER).any()


def field() -> np.ndarray:
    """A field of 400 x 400 pixels with 60 cells of 8 x 8 pixels that keep apart."""
    labels, draw = np.zeros((400, 400), np.int32), np.random.default_rng(4)
    places = draw.permutation([(y, x) for y in range(100, 300, 20) for x in range(100, 300, 20)])[:60]
    for number, (y, x) in enumerate(places + draw.integers(0, 9, (60, 2)), 1):
        labels[y : y + 8, x : x + 8] = number
    return labels


def test_overlaps_are_those_in_a_field_that_stands_still() -> None:
    labels = field()
    found = candidates([labels, np.roll(labels, (14, -9), axis=(0, 1)), np.roll(labels, (0, 5), axis=(0, 1))], gap=1)
    own = found.links[:, 0] % 60 == found.links[:, 1] % 60
    assert own.sum() == 3 * 60
    for name, value in (("IoU", 1), ("distance", 0), ("distance beyond drift", 0)):
        assert found.of_links[own, LINK.index(name)] == pytest.approx(value, abs=1e-9)


def test_a_field_that_jumps_out_of_sight_shares_nothing() -> None:
    strip = field()[100:116]
    strip = np.unique(strip, return_inverse=True)[1].reshape(strip.shape).astype(np.int32)
    assert strip.max() >= 6
    found = candidates([strip, np.roll(strip, 9, axis=1), np.roll(strip, 18, axis=1)], gap=1)
    assert found.counts.tolist() == [strip.max()] * 3


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of one size, got \(400, 400\) and \(410, 400\)"):
        candidates([field(), np.pad(field(), ((0, 10), (0, 0)))], gap=1)


def test_base_tracks_through_jumps_of_the_stage() -> None:
    labels = field()
    jumps = [(0, 0), (12, 7), (-6, 9), (9, -11), (3, 12), (-13, 0)]
    frames = [np.roll(labels, jump, axis=(0, 1)) for jump in jumps]
    found = Tracker.load().track(frames)
    assert len(found.tracks) == 60
    assert all(
        (one == np.roll(found.labels[0], jump, axis=(0, 1))).all()
        for one, jump in zip(found.labels, jumps, strict=True)
    )
