"""Textures of cells: how cells lie, what is cut from them, who wears it, and what is seen of it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cytoforge.cells.labels import boxes
from cytoforge.simulation.texture import (
    ANGLES,
    FRAMES,
    RIM,
    Body,
    Life,
    Stretch,
    Textures,
    Worn,
    lives_of,
    lying,
)

SIZE = (64, 80)


def ellipse(middle: tuple[float, float], long: float, wide: float, turn: float = 0.0) -> np.ndarray:
    """Return where an ellipse lies, its long half axis `turn` radians from the x axis."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] - np.reshape(middle, (2, 1, 1))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    inside: np.ndarray = (along / long) ** 2 + (across / wide) ** 2 <= 1
    return inside


def marked(cells: dict[int, np.ndarray]) -> np.ndarray:
    labels = np.zeros(SIZE, np.int32)
    for cell, inside in cells.items():
        labels[inside] = cell
    return labels


def grain(seed: int) -> np.ndarray:
    """A smooth random picture (1, H, W), which interpolation hardly changes."""
    draw = np.random.default_rng(seed).normal(size=(1, *SIZE))
    return ndimage.gaussian_filter(draw, (0, 2.5, 2.5)).astype(np.float32)


GROUND = np.full((1, *SIZE), 0.25, np.float32)


def cut(*frames: tuple[np.ndarray, np.ndarray], mothers: dict[int, int] | None = None, most: int = 10**7) -> Textures:
    return Textures.cut([Stretch(frames, GROUND, mothers or {})], most)


def life(labels: np.ndarray, cell: int = 1, **changes: Any) -> Life:
    return lives_of([(0, labels)], {})[cell]._replace(**changes)


class TestLying:
    @pytest.mark.parametrize("turn", [0.0, 0.7, 1.5, 2.6])
    def test_an_ellipse_becomes_a_circle_of_its_area(self, turn: float) -> None:
        labels = marked({7: ellipse((31, 40), 20, 8, turn)})
        body = lying(labels, 7, boxes(labels)[7])
        assert body.middle == (31, 40)
        assert np.linalg.det(body.matrix) == pytest.approx(1, abs=1e-4) or np.linalg.det(body.matrix) == pytest.approx(
            -1
        )
        assert body.outline == pytest.approx(np.full(ANGLES, np.sqrt(160)), rel=0.08)

    def test_what_lies_along_is_measured_second(self) -> None:
        labels = marked({1: ellipse((31, 40), 20, 8)})
        across, along = lying(labels, 1, boxes(labels)[1]).matrix @ [0, 20]
        assert abs(across) < 0.2 and abs(along) == pytest.approx(np.sqrt(160), rel=0.05)

    @pytest.mark.parametrize("pixels", [[(5, 5)], [(5, x) for x in range(4, 60)]])
    def test_dots_and_lines_have_an_outline(self, pixels: list[tuple[int, int]]) -> None:
        labels = np.zeros(SIZE, np.int32)
        labels[tuple(zip(*pixels, strict=True))] = 1
        body = lying(labels, 1, boxes(labels)[1])
        assert np.isfinite(body.matrix).all() and body.outline.min() >= 1


class TestDressed:
    REAL = marked({1: ellipse((31, 40), 18, 9, 0.5)})
    IMAGE = GROUND + np.where(REAL > 0, grain(0), 0)
    FLAT = GROUND + np.where(REAL > 0, np.float32(0.9), 0)

    def test_a_cell_in_its_own_texture_is_the_real_one(self) -> None:
        found = cut((self.IMAGE, self.REAL)).dressed(self.FLAT, GROUND, self.REAL, {1: Worn(0, 0, 0)}, 0)
        inside = ndimage.binary_erosion(self.REAL > 0)
        assert found[0][inside] == pytest.approx(self.IMAGE[0][inside], abs=2e-3)

    def test_grain_moves_and_turns_with_the_cell(self) -> None:
        turned = np.rot90(self.REAL[:, 8:72], -1)
        turned = np.pad(turned, ((0, 0), (16, 0)))
        image = np.pad(np.rot90(self.IMAGE[:, :, 8:72], -1, (1, 2)), ((0, 0), (0, 0), (16, 0)))
        textures = cut((self.IMAGE, self.REAL))
        worn = textures.worn({1: life(turned)}, (0,))
        found = textures.dressed(np.zeros_like(GROUND), GROUND, turned, worn, 0)
        inside = ndimage.binary_erosion(turned > 0, iterations=2)
        either = [
            np.corrcoef(found[0][inside], side[0][inside])[0, 1] for side in (image, self._half_turned(image, turned))
        ]
        assert max(either) > 0.97  # an ellipse may lie either way round

    @staticmethod
    def _half_turned(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        y, x = (round(float(value)) for value in np.argwhere(labels).mean(axis=0))
        rows, columns = (2 * y - np.arange(SIZE[0])) % SIZE[0], (2 * x - np.arange(SIZE[1])) % SIZE[1]
        return image[:, rows][:, :, columns]

    def test_brightness_is_above_what_lies_around(self) -> None:
        """A real cell 0.5 above its surroundings, which are not at the reference, is 0.5 above those of the painted."""
        image = GROUND + 0.3 + np.where(self.REAL > 0, np.float32(0.5), 0)
        found = cut((image, self.REAL)).dressed(self.FLAT - 0.1, GROUND, self.REAL, {1: Worn(0, 0, 0)}, 0)
        assert np.median(found[0][self.REAL > 0]) == pytest.approx(0.25 - 0.1 + 0.5, abs=1e-2)

    def test_other_cells_and_far_ground_stay(self) -> None:
        labels = marked({1: self.REAL > 0, 2: ellipse((10, 12), 6, 6)})
        image = grain(3)
        found = cut((self.IMAGE, self.REAL)).dressed(image, GROUND, labels, {1: Worn(0, 0, 0)}, 0)
        far = ndimage.distance_transform_edt(labels != 1) > RIM
        assert np.array_equal(found[:, far], image[:, far]) and not np.array_equal(found, image)

    def test_what_is_not_known_of_a_texture_stays(self) -> None:
        """The real cell has a neighbour; the painted one has none, and keeps its own rim there."""
        neighbour = ellipse((31, 64), 6, 20)
        crowded = marked({1: (self.REAL > 0) & ~neighbour, 2: neighbour})
        textures = cut((GROUND + np.where(crowded == 1, np.float32(1), 0), crowded))
        alone = marked({1: crowded == 1})
        place = int(textures.tracks[0, 0])
        assert not textures.known[place].all()
        found = textures.dressed(np.full_like(GROUND, -0.5), np.full_like(GROUND, -0.5), alone, {1: Worn(0, 0, 0)}, 0)
        assert (found[0][ndimage.binary_erosion(neighbour)] == -0.5).all() and found[0][31, 40] > 0

    def test_several_channels(self) -> None:
        image = np.concatenate([self.IMAGE, 2 * GROUND])
        textures = Textures.cut([Stretch([(image, self.REAL)], np.concatenate([GROUND, GROUND]), {})], 10**6)
        found = textures.dressed(np.zeros_like(image), image, self.REAL, {1: Worn(0, 0, 0)}, 0)
        assert textures.patches.shape[1] == 2 and found.shape == image.shape

    def test_frames_without_cells(self) -> None:
        empty = np.zeros(SIZE, np.int32)
        textures = cut((self.IMAGE, empty))
        assert len(textures.tracks) == 0 and textures.worn(lives_of([(0, self.REAL)], {}), (0,)) == {}
        assert np.array_equal(cut((self.IMAGE, self.REAL)).dressed(self.IMAGE, GROUND, empty, {}, 0), self.IMAGE)


class TestCut:
    def test_cells_at_the_edge_specks_and_giants_are_left_out(self) -> None:
        labels = marked({1: ellipse((31, 40), 10, 9), 2: ellipse((2, 10), 6, 6), 3: ellipse((10, 60), 1, 1)})
        assert len(cut((GROUND, labels)).tracks) == 1
        wide = marked({1: ellipse((31, 40), 38, 20)})
        assert len(cut((GROUND, wide)).tracks) == 1
        large = np.zeros((120, 120), np.int32)
        large[10:110, 10:110] = 1
        stretch = Stretch([(np.zeros((1, 120, 120)), large)], np.zeros((1, 120, 120)), {})
        assert len(Textures.cut([stretch], 10**6).tracks) == 0

    def test_frames_in_a_row_and_those_before_a_division(self) -> None:
        inside, other = ellipse((31, 20), 8, 8), ellipse((31, 60), 8, 8)
        frames = [
            (GROUND + 0.01 * t, marked({1: inside, 2: other} if t != 5 else {2: other})) for t in range(FRAMES + 4)
        ]
        frames.append((GROUND, marked({3: other})))
        found = cut(*frames, mothers={3: 2})
        assert found.tracks.tolist() == [[0, 5, -1, 0], [5, FRAMES, -1, 1], [5 + FRAMES, 1, 1, 0]]

    def test_the_longest_are_kept(self) -> None:
        inside, other = ellipse((31, 20), 8, 8), ellipse((31, 60), 8, 8)
        frames = [(GROUND, marked({1: other})), (GROUND, marked({2: inside})), (GROUND, marked({2: inside}))]
        side = cut(*frames).known.shape[-1]
        assert [row[1] for row in cut(*frames, most=2 * side**2).tracks.tolist()] == [2]
        assert [row[1] for row in cut(*frames, most=3 * side**2).tracks.tolist()] == [1, 2]
        assert len(cut(*frames, most=1).tracks) == 1  # one is always kept

    def test_sequences_do_not_mix(self) -> None:
        labels = marked({1: ellipse((31, 40), 10, 9)})
        one = Stretch([(GROUND, labels)], GROUND, {})
        assert Textures.cut([one, one], 10**7).tracks[:, 1].tolist() == [1, 1]

    def test_what_is_stored_comes_back_and_mistakes_are_refused(self) -> None:
        textures = cut((GROUND, marked({1: ellipse((31, 40), 10, 9)})))
        stored = textures.stored()
        again = Textures.of(stored, 1).stored()
        assert all(
            np.array_equal(again[name], stored[name]) and again[name].dtype == stored[name].dtype for name in stored
        )
        wrong = {
            "without": {name: array for name, array in stored.items() if name != "known"},
            "shapes": {**stored, "contrasts": stored["contrasts"][:0]},
            "cannot be": {**stored, "tracks": stored["tracks"] + [[0, 1, 0, 0]]},
        }
        for message, arrays in wrong.items():
            with pytest.raises(ValueError, match=message):
                Textures.of(arrays, 1)
        with pytest.raises(ValueError, match="shapes"):
            Textures.of(stored, 2)


def textures(*tracks: tuple[int, int, int], contrasts: list[float] | None = None) -> Textures:
    """Round cells: for each its number of frames, mother and whether it divides."""
    count = sum(track[0] for track in tracks)
    firsts = np.cumsum([0, *(track[0] for track in tracks)])[:-1]
    return Textures(
        np.zeros((count, 1, 8, 8), np.float16),
        np.ones((count, 8, 8), np.bool_),
        np.tile(np.eye(2, dtype=np.float32), (count, 1, 1)),
        np.full((count, ANGLES), 3, np.float32),
        np.array(contrasts or [0.0] * count, np.float32),
        np.array([(first, *track) for first, track in zip(firsts, tracks, strict=True)], np.int64),
    )


ROUND = Body((0, 0), np.eye(2, dtype=np.float32), np.full(ANGLES, 3, np.float32))


class TestWorn:
    def test_a_cell_goes_back_and_forth(self) -> None:
        found = textures((2, -1, 0), (3, -1, 0), (1, -1, 0))
        assert [found.place(Worn(1, 10, 0), frame) for frame in range(8, 17)] == [4, 3, 2, 3, 4, 3, 2, 3, 4]
        assert [found.place(Worn(0, 0, 0), frame) for frame in range(4)] == [0, 1, 0, 1]
        assert {found.place(Worn(2, 0, 0), frame) for frame in range(5)} == {5}

    @given(st.integers(1, 9), st.integers(-50, 50), st.integers(-50, 50))
    def test_neighbouring_frames_have_neighbouring_patches(self, count: int, begin: int, frame: int) -> None:
        found = textures((2, -1, 0), (count, -1, 0))
        here, then = (found.place(Worn(1, begin, 0), at) - 2 for at in (frame, frame + 1))
        assert 0 <= here < count and 0 <= then < count and abs(here - then) == (count > 1)

    def test_divisions_fall_together_and_daughters_wear_daughters(self) -> None:
        found = textures((4, -1, 0), (5, -1, 1), (3, 1, 0), (6, 1, 0))
        lives = {
            10: Life(2, 12, 0, True, ROUND),
            11: Life(13, 20, 10, False, ROUND),
            12: Life(13, 15, 10, False, ROUND),
            13: Life(0, 9, 0, False, ROUND),
        }
        worn = found.worn(lives, (0,))
        assert worn[10].track == 1 and found.place(worn[10], 12) == 4 + 4  # the last frame of the cell that divides
        assert (worn[11].track, worn[12].track) == (2, 3)
        assert found.place(worn[11], 13) == 9 and found.place(worn[12], 14) == 13
        assert worn[13].track == 0  # the only one that neither divides nor comes from a division

    def test_the_shape_decides_and_then_the_mother(self) -> None:
        found = textures((1, -1, 1), *[(1, 0, 0)] * 2, *[(1, -1, 0)] * 6, contrasts=[0.5, *[0.9] * 2, 0.5, *[0.9] * 5])
        found.outlines[4] = 30
        many = {cell: Life(0, 0, 0, False, ROUND) for cell in range(1, 60)}
        assert {one.track for one in found.worn(many, (0,)).values()} <= {3, 5, 6, 7, 8}
        assert len({one.track for one in found.worn(many, (0,)).values()}) > 1
        assert found.worn(many, (0,)) != found.worn(many, (1,))

    def test_a_third_daughter_is_like_her_mother(self) -> None:
        found = textures((1, -1, 1), *[(1, -1, 0)] * 30, contrasts=[0.5, *np.linspace(0.51, 0.9, 30).tolist()])
        lives = {1: Life(0, 3, 0, True, ROUND), **{cell: Life(4, 9, 1, False, ROUND) for cell in range(2, 30)}}
        worn = found.worn(lives, (0,))
        assert {worn[cell].track for cell in range(2, 30)} <= {1, 2, 3, 4, 5}

    def test_it_lies_as_it_fits(self) -> None:
        """A pear that is thick at one end lies the same way round as the one it dresses."""
        pear = ellipse((31, 34), 12, 10) | ellipse((31, 48), 12, 5)
        textures = cut((GROUND + np.where(pear, grain(1), 0), marked({1: pear})))
        for shape in (pear, np.roll(pear[:, ::-1], 3, axis=1), pear[::-1]):
            worn = textures.worn({1: life(marked({1: shape}))}, (0,))[1]
            body = life(marked({1: shape})).body
            fits = [np.square(textures.outlines[0] - body.outline[order]).sum() for order in _orders()]
            assert worn.mirrored in np.flatnonzero(np.isclose(fits, min(fits), rtol=0.05))


def _orders() -> list[np.ndarray]:
    """In which order directions of a body are met by those of another, for the four ways to lie."""
    forward = np.arange(ANGLES)
    back = -forward % ANGLES
    half = ANGLES // 2
    return [forward, (forward + half) % ANGLES, back, (back + half) % ANGLES]


def test_lives() -> None:
    one, two = marked({1: ellipse((31, 20), 8, 8)}), marked({2: ellipse((31, 20), 5, 5), 3: ellipse((31, 50), 5, 5)})
    found = lives_of([(4, one), (5, one), (6, two)], {2: 1, 3: 1})
    assert {cell: life[:4] for cell, life in found.items()} == {
        1: (4, 5, 0, True),
        2: (6, 6, 1, False),
        3: (6, 6, 1, False),
    }
    assert found[2].body.outline == pytest.approx(np.full(ANGLES, 5), rel=0.15)
