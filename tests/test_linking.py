"""Linking: hand-drawn movies whose lineages are known, an exhaustive oracle, and numbers that must not matter."""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laptrack import LapTrack
from numpy.typing import NDArray

from cells import Labels, draw
from cytoforge.data import movie
from cytoforge.tracking.linking import (
    BTrackLinker,
    Frame,
    LapTrackLinker,
    Linker,
    Links,
    OverlapLinker,
    assemble,
    btrack_engine,
    numbered,
)


def missing_btrack() -> str:
    try:
        btrack_engine()
    except ImportError as error:
        return str(error)
    return ""


NO_BTRACK = missing_btrack()
BTRACK = pytest.param(BTrackLinker, marks=pytest.mark.skipif(bool(NO_BTRACK), reason=f"btrack: {NO_BTRACK}"))
EVERY = pytest.mark.parametrize("kind", [OverlapLinker, LapTrackLinker, BTRACK])
OWN = pytest.mark.parametrize("kind", [OverlapLinker, LapTrackLinker])
Kind = Callable[..., Linker]


def frames(*pictures: Labels) -> Iterator[Frame]:
    return iter([Frame(numbered(picture)) for picture in pictures])


def pairs(links: Links) -> list[tuple[int, ...]]:
    return sorted(map(tuple, links.pairs.tolist()))


def rows(links: Links) -> list[tuple[int, ...]]:
    return [tuple(row) for row in assemble(links).tracks.tolist()]


MOVING = [
    draw("""
    AAAA............
    AAAA............
    AAAA............
    ................
    .........BBBB...
    .........BBBB...
    .........BBBB...
    """),
    draw("""
    ..AAAA..........
    ..AAAA..........
    ..AAAA..........
    ................
    .......BBBB.....
    .......BBBB.....
    .......BBBB.....
    """),
    draw("""
    ....AAAA........
    ....AAAA........
    ....AAAA........
    ................
    .....BBBB.......
    .....BBBB.......
    .....BBBB.......
    """),
]
RENUMBERED = [
    MOVING[0],
    draw("""
    ..BBBB..........
    ..BBBB..........
    ..BBBB..........
    ................
    .......AAAA.....
    .......AAAA.....
    .......AAAA.....
    """),
    MOVING[2],
]
DIVIDING = [
    draw("""
    .AA.............
    .AA....BBBBBB...
    .......BBBBBB...
    .......BBBBBB...
    .......BBBBBB...
    ................
    """),
    draw("""
    .AA.............
    .AA....CCCBBB...
    .......CCCBBB...
    ......CCC..BBB..
    ......CCC..BBB..
    ................
    """),
    draw("""
    .AA.............
    .AA...CCC..BBB..
    ......CCC..BBB..
    .....CCC....BBB.
    .....CCC....BBB.
    ................
    """),
]
COMING_AND_GOING = [
    draw("""
    AAAA............
    AAAA............
    AAAA............
    ................
    """),
    draw("""
    AAAA............
    AAAA............
    AAAA............
    ............BBBB
    """),
    draw("""
    ................
    ............BBBB
    ............BBBB
    ............BBBB
    """),
]
HERE = draw("""
    .AAA.......BBB..
    .AAA.......BBB..
    .AAA.......BBB..
    """)
HALF_GONE = draw("""
    .AAA............
    .AAA............
    .AAA............
    """)
NOTHING = np.zeros_like(HERE)
TOUCHING = [
    draw("""
    AAAABBBBCCCC....
    AAAABBBBCCCC....
    AAAABBBBCCCC....
    """),
    draw("""
    .AAAABBBBCCCC...
    .AAAABBBBCCCC...
    .AAAABBBBCCCC...
    """),
]


def test_cells_are_numbered_as_they_are_read() -> None:
    picture = draw("""
    ...Z..B.
    .CCZ..B.
    .CC.....
    A.......
    """)
    wanted = draw("""
    ...A..B.
    .CCA..B.
    .CC.....
    D.......
    """)
    assert np.array_equal(numbered(picture), wanted)
    assert np.array_equal(numbered(picture.astype(np.uint16) * 1000), wanted)
    assert numbered(picture).dtype == np.int32
    assert not numbered(NOTHING).any()
    with pytest.raises(ValueError, match="negative"):
        numbered(picture - 1)
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        numbered(picture[0])


@OWN
def test_cells_that_move_keep_their_track(kind: Kind) -> None:
    links = kind()(frames(*MOVING))
    assert pairs(links) == [(0, 1, 1, 1), (0, 2, 1, 2), (1, 1, 2, 1), (1, 2, 2, 2)]
    assert rows(links) == [(1, 0, 2, 0), (2, 0, 2, 0)]
    assert links.settings["gap in frames"] == 1


@OWN
def test_numbers_that_are_swapped_swap_no_cells(kind: Kind) -> None:
    tracking = assemble(kind()(frames(*RENUMBERED)))
    for frame, picture in enumerate(RENUMBERED):
        assert np.array_equal(tracking.relabelled(frame, numbered(picture)), MOVING[frame])


@EVERY
def test_small_steps(kind: Kind) -> None:
    """btrack as published takes cells for lost that move by more than a third of their diameter."""
    large = np.pad(MOVING[0].repeat(4, 0).repeat(4, 1), ((0, 0), (0, 16)))
    walk = [np.roll(large, 3 * step, axis=1) for step in range(5)]
    assert rows(kind()(frames(*walk))) == [(1, 0, 4, 0), (2, 0, 4, 0)]


@OWN
def test_a_mother_ends_where_her_daughters_begin(kind: Kind) -> None:
    links = kind()(frames(*DIVIDING))
    assert rows(links) == [(1, 0, 2, 0), (2, 0, 0, 0), (3, 1, 2, 2), (4, 1, 2, 2)]
    shown = assemble(links).relabelled(2, numbered(DIVIDING[2]))
    assert [shown[0, 1], shown[1, 6], shown[1, 11]] == [1, 3, 4]


def test_an_overlap_below_the_least_is_no_link() -> None:
    one, other = np.zeros((2, 8, 12), np.int32)
    one[:3, :4], other[2:5, 3:7] = 1, 1  # 1 pixel of 12 + 12: IoU 1 / 23
    assert pairs(OverlapLinker(least=1 / 23)(frames(one, other))) == [(0, 1, 1, 1)]
    assert pairs(OverlapLinker(least=1 / 22)(frames(one, other))) == []


def test_what_lies_beside_a_cell_that_keeps_its_size_is_no_daughter() -> None:
    beside = draw("""
    .AA.............
    .AA....BBBBBB...
    .......BBBBBB...
    .......BBBBBB...
    .......CCCCCC...
    .......CCCCCC...
    """)  # B has 18 of its mother's 24 pixels, C lies on her with half of its 12: she has shrunk to 0.75 < 0.8
    assert rows(OverlapLinker()(frames(DIVIDING[0], beside)))[1:] == [(2, 0, 0, 0), (3, 1, 1, 2), (4, 1, 1, 2)]
    assert rows(OverlapLinker(size=0.75)(frames(DIVIDING[0], beside)))[1:] == [(2, 0, 1, 0), (3, 1, 1, 0)]
    assert rows(OverlapLinker(daughter=0.51)(frames(DIVIDING[0], beside)))[1:] == [(2, 0, 1, 0), (3, 1, 1, 0)]


@OWN
def test_cells_come_and_go(kind: Kind) -> None:
    assert rows(kind()(frames(*COMING_AND_GOING))) == [(1, 0, 1, 0), (2, 1, 2, 0)]


@OWN
def test_a_gap_makes_a_new_track_of_the_same_cell(kind: Kind) -> None:
    links = kind()(frames(HERE, HALF_GONE, HERE))
    assert pairs(links) == [(0, 1, 1, 1), (0, 2, 2, 2), (1, 1, 2, 1)]
    assert rows(links) == [(1, 0, 2, 0), (2, 0, 0, 0), (3, 2, 2, 2)]
    longer = [HERE, HALF_GONE, HALF_GONE, HERE]
    assert rows(kind()(frames(*longer)))[-1] == (3, 3, 3, 0)
    assert rows(kind(gap=2)(frames(*longer)))[-1] == (3, 3, 3, 2)
    assert rows(kind(gap=0)(frames(HERE, HALF_GONE, HERE)))[-1] == (3, 2, 2, 0)


@EVERY
def test_empty_frames_and_movies(kind: Kind) -> None:
    assert rows(kind()(frames())) == []
    assert rows(kind()(frames(NOTHING, NOTHING))) == []
    assert rows(kind()(frames(HERE))) == [(1, 0, 0, 0), (2, 0, 0, 0)]
    assert kind()(frames(HERE)).pairs.shape == kind()(frames(NOTHING, HERE)).pairs.shape == (0, 4)
    assert rows(kind(gap=0)(frames(NOTHING, HERE, NOTHING, HERE))) == [
        (1, 1, 1, 0),
        (2, 1, 1, 0),
        (3, 3, 3, 0),
        (4, 3, 3, 0),
    ]


@EVERY
def test_cells_that_touch(kind: Kind) -> None:
    assert rows(kind()(frames(*TOUCHING))) == [(1, 0, 1, 0), (2, 0, 1, 0), (3, 0, 1, 0)]


def test_the_best_pair_does_not_spoil_the_rest() -> None:
    before = draw("""
    ...AAAAAAAA.
    BBBBBB......
    """)
    after = draw("""
    ...CCCDDDDD.
    .DDDD.......
    """)  # A-D is the best pair (5/12), but A-C and B-D (3/8 + 4/11) are more together
    links = OverlapLinker(size=0.1)(frames(before, after))
    assert pairs(links) == [(0, 1, 1, 1), (0, 2, 1, 2)]


def test_long_movies_are_linked_in_parts_that_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    movie = []
    for _ in range(23):
        labels = np.zeros((60, 60), np.int32)
        for number, (y, x) in enumerate(rng.permutation(np.argwhere(np.ones((14, 14))))[:60], 1):
            labels[4 * y : 4 * y + 3, 4 * x : 4 * x + 3] = number
        movie.append(labels)
    told: list[tuple[float, str]] = []
    whole = LapTrackLinker(distance=6)(frames(*movie))
    monkeypatch.setattr(LapTrackLinker, "BLOCK", 5)
    parts = LapTrackLinker(distance=6)(frames(*movie), lambda share, what: told.append((round(share, 3), what)))
    assert pairs(parts) == pairs(whole) and len(whole.pairs) > 500
    assert [what for _, what in told[::2]] == [
        "linking frame 0 of 23 to the next",
        "linking frame 10 of 23 to the next",
        "linking frame 20 of 23 to the next",
    ]
    assert told[-1] == (0.6, "closing gaps and looking for divisions")
    assert [share for share, _ in told] == sorted(share for share, _ in told)


def test_distances_scale_with_the_cells() -> None:
    small, large = (LapTrackLinker()(frames(*[p.repeat(k, 0).repeat(k, 1) for p in MOVING])) for k in (1, 3))
    assert pairs(small) == pairs(large)
    ratio = large.settings["largest distance in pixels"] / small.settings["largest distance in pixels"]
    assert ratio == pytest.approx(3, rel=0.02)  # settings are rounded for reading
    still = LapTrackLinker(distance=1.9)(frames(*MOVING))  # they move by 2
    assert not still.pairs.size


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), gap=st.integers(0, 2), distance=st.sampled_from([1.5, 2.5, 4.0]))
def test_laptrack_in_two_steps_is_laptrack_at_once(seed: int, gap: int, distance: float) -> None:
    """Cells of one pixel at random places: many ties, gaps and divisions."""
    generator = np.random.default_rng(seed)
    side = int(generator.integers(4, 20))
    places = [np.argwhere(generator.random((side, side)) < generator.uniform(0, 0.2)) for _ in range(6)]
    pictures = [np.zeros((side, side), np.int32) for _ in places]
    for picture, cells in zip(pictures, places, strict=True):
        picture[tuple(cells.T)] = np.arange(1, len(cells) + 1)
    at_once = LapTrack(
        cutoff=distance**2,
        gap_closing_cutoff=distance**2 if gap else False,
        gap_closing_max_frame_count=gap + 1,
        splitting_cutoff=distance**2,
    ).predict(places)
    expected = sorted((then, one + 1, now, two + 1) for (then, one), (now, two) in at_once.edges())
    assert pairs(LapTrackLinker(gap, distance)(frames(*pictures))) == expected


def test_frames_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        OverlapLinker()(frames(HERE, HERE[:, :-1]))


def test_btrack_that_is_not_there_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "btrack", None)
    with pytest.raises(ModuleNotFoundError):
        btrack_engine()

    class Broken:
        @staticmethod
        def BayesianTracker() -> None:
            raise Exception

    monkeypatch.setitem(sys.modules, "btrack", Broken)
    with pytest.raises(ImportError, match="engine"):
        btrack_engine()


# ---- tracks from links


def linked(cells: list[int], *links: tuple[int, int, int, int]) -> Links:
    return Links(np.array(cells), np.array(links, np.int64).reshape(-1, 4))


def test_tracks_by_hand() -> None:
    tracking = assemble(linked([2, 3, 0, 2], (0, 1, 1, 2), (0, 1, 1, 1), (0, 2, 1, 3), (1, 3, 3, 1), (1, 2, 3, 2)))
    assert tracking.tracks.tolist() == [
        [1, 0, 0, 0],  # divides
        [2, 0, 1, 0],
        [3, 1, 1, 1],
        [4, 1, 1, 1],
        [5, 3, 3, 2],  # after a gap
        [6, 3, 3, 4],
    ]
    assert [ids.tolist() for ids in tracking.ids] == [[0, 1, 2], [0, 3, 4, 2], [0], [0, 5, 6]]


@pytest.mark.parametrize(
    "link", [(0, 1, 0, 2), (1, 1, 0, 1), (0, 3, 1, 1), (0, 1, 1, 3), (0, 0, 1, 1), (0, 1, 2, 1), (-1, 1, 1, 1)]
)
def test_links_that_cannot_be_are_refused(link: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="later frame"):
        assemble(linked([2, 2], link))


def test_two_mothers_are_refused() -> None:
    with pytest.raises(ValueError, match="two predecessors"):
        assemble(linked([2, 2], (0, 1, 1, 1), (0, 2, 1, 1)))


@st.composite
def any_links(draw: st.DrawFn) -> Links:
    cells = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    found = []
    for later, count in enumerate(cells):
        for successor in range(1, count + 1):
            choices = [(frame, cell) for frame in range(later) for cell in range(1, cells[frame] + 1)]
            chosen = draw(st.none() | st.sampled_from(choices)) if choices else None
            found += [(*chosen, later, successor)] if chosen else []
    return linked(cells, *found)


@given(any_links())
def test_tracks_never_contradict_their_masks(links: Links) -> None:
    tracking = assemble(links)
    tracks = [movie.Track(*row) for row in tracking.tracks.tolist()]
    seen = {frame: ids[1:].tolist() for frame, ids in enumerate(tracking.ids)}
    assert [found for found in movie.inconsistencies(tracks, seen) if found.severity == "error"] == []
    assert sum(map(len, seen.values())) == links.cells.sum() == sum(end - begin + 1 for _, begin, end, _ in tracks)
    told = {(tracking.ids[a][i], tracking.ids[b][j]) for a, i, b, j in links.pairs}
    assert told == {(one, one) for one, begin, end, _ in tracks if end > begin} | {
        (parent, one) for one, _, _, parent in tracks if parent
    }


# ---- properties


@st.composite
def movies(draw: st.DrawFn) -> list[Labels]:
    """Boxes that walk a little, and may vanish or overlap."""
    length, boxes = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    places = rng.integers(0, 16, (boxes, 2))
    made = []
    for _ in range(length):
        picture = np.zeros((20, 20), np.int32)
        places = np.clip(places + rng.integers(-2, 3, places.shape), 0, 15)
        for cell, (y, x) in enumerate(places, 1):
            if rng.random() < 0.8:
                picture[y : y + 4, x : x + 5] = cell
        made.append(picture)
    return made


@OWN
@settings(max_examples=40)
@given(made=movies(), seed=st.integers(0, 10_000))
def test_numbers_of_cells_never_matter(kind: Kind, made: list[Labels], seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = [np.concatenate([[0], rng.choice(np.arange(1, 300), 9, replace=False)])[picture] for picture in made]
    one, two = kind()(frames(*made)), kind()(frames(*other))
    assert np.array_equal(one.pairs, two.pairs) and np.array_equal(one.cells, two.cells)


@OWN
@settings(max_examples=40)
@given(made=movies())
def test_every_pixel_keeps_its_cell(kind: Kind, made: list[Labels]) -> None:
    tracking = assemble(kind()(frames(*made)))
    for frame, picture in enumerate(made):
        shown = tracking.relabelled(frame, numbered(picture))
        assert np.array_equal(shown > 0, picture > 0)
        partners: NDArray[np.int64] = np.unique(np.stack([picture, shown]).reshape(2, -1), axis=1)
        assert partners.shape[1] == np.unique(picture).size == np.unique(shown).size
