"""Corrections of a table of tracks: by hand, and against links between cells, which a correction plainly changes."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cytoforge.data.movie import inconsistencies
from cytoforge.tracking.lineage import (
    Cell,
    Correction,
    Renamed,
    Table,
    Track,
    cut,
    divide,
    divisions,
    join,
    mothers,
    swap,
    table,
)

#   1: 0 1 2 ┬ 3: 3 4 5      2: 0 1 2 3 4 5      5: 0 1 . 6: 3 4
#            └ 4: 3 4
FAMILY = table(
    [
        Track(1, 0, 2, 0),
        Track(2, 0, 5, 0),
        Track(3, 3, 5, 1),
        Track(4, 3, 4, 1),
        Track(5, 0, 1, 0),
        Track(6, 3, 4, 5),
    ]
)


def test_mothers_of_earlier_tracks_come_first() -> None:
    tracks = [Track(4, 6, 9, 2), Track(1, 0, 2, 0), Track(2, 3, 5, 1), Track(9, 1, 9, 1)]
    assert list(mothers(tracks).items()) == [(9, 1), (2, 1), (4, 2)]


def test_divisions_are_mothers_of_several() -> None:
    assert divisions(FAMILY.values()) == 1  # 6 goes on with 5 after a gap
    assert divisions([(1, 0, 0, 0), *((label, 1, 1, 1) for label in (2, 3, 4)), (5, 3, 3, 4), (6, 3, 3, 4)]) == 2
    assert divisions([]) == 0


def after(found: Correction) -> dict[int, tuple[int, int, int]]:
    return {label: (track.begin, track.end, track.parent) for label, track in found.tracks.items()}


def test_a_track_is_cut_in_two() -> None:
    found = cut(FAMILY, Cell(2, 3), before=True)
    assert after(found)[2] == (0, 2, 0) and after(found)[7] == (3, 5, 0)
    assert found.renamed == (Renamed(2, 3, 5, 7),)
    assert cut(FAMILY, Cell(2, 2), before=False) == found


def test_a_false_division_becomes_one_track_when_one_daughter_is_cut_off() -> None:
    found = cut(FAMILY, Cell(4, 3), before=True)
    assert after(found)[1] == (0, 5, 0) and after(found)[4] == (3, 4, 0) and 3 not in found.tracks
    assert found.renamed == (Renamed(3, 3, 5, 1),)


def test_both_daughters_are_cut_off_their_mother() -> None:
    found = cut(FAMILY, Cell(1, 2), before=False)
    assert after(found)[1] == (0, 2, 0) and after(found)[3] == (3, 5, 0) and after(found)[4] == (3, 4, 0)
    assert found.renamed == ()


def test_a_mother_that_is_cut_leaves_her_daughters_to_the_later_part() -> None:
    found = cut(FAMILY, Cell(1, 1), before=True)
    assert after(found)[1] == (0, 0, 0) and after(found)[7] == (1, 2, 0)
    assert found.tracks[3].parent == found.tracks[4].parent == 7


def test_a_cell_is_joined_with_one_of_the_next_frame() -> None:
    found = join(FAMILY, Cell(4, 4), Cell(2, 5))  # which ends in frame 4; the rest of 2 goes with it
    assert after(found)[4] == (3, 5, 1) and after(found)[2] == (0, 4, 0)
    assert found.renamed == (Renamed(2, 5, 5, 4),)


def test_what_followed_a_joined_cell_begins_anew() -> None:
    found = join(FAMILY, Cell(2, 1), Cell(1, 2))
    assert after(found) == {
        1: (0, 1, 0),
        2: (0, 2, 0),
        3: (3, 5, 2),
        4: (3, 4, 2),
        5: (0, 1, 0),
        6: (3, 4, 5),
        7: (2, 5, 0),
    }
    assert found.renamed == (Renamed(1, 2, 2, 2), Renamed(2, 2, 5, 7))


def test_a_mother_is_joined_with_one_of_her_daughters() -> None:
    found = join(FAMILY, Cell(1, 2), Cell(4, 3))
    assert after(found)[1] == (0, 4, 0) and after(found)[3] == (3, 5, 0) and 4 not in found.tracks


def test_a_cell_is_joined_over_a_gap_only_where_that_is_allowed() -> None:
    with pytest.raises(ValueError, match="1 frames lie between; allow gaps"):
        join(FAMILY, Cell(2, 1), Cell(3, 3))
    found = join(FAMILY, Cell(2, 1), Cell(3, 3), gap=True)
    assert after(found)[3] == (3, 5, 2) and after(found)[7] == (2, 5, 0)
    assert after(found)[1] == (0, 4, 0)  # went on as daughter 4, who is alone now


def test_a_cell_divides() -> None:
    found = divide(FAMILY, Cell(2, 2), (Cell(2, 3), Cell(6, 3)))
    assert after(found)[2] == (0, 2, 0) and after(found)[7] == (3, 5, 2) and after(found)[6] == (3, 4, 2)
    assert found.renamed == (Renamed(2, 3, 5, 7),)


def test_identities_are_swapped_from_a_frame_on() -> None:
    found = swap(FAMILY, Cell(1, 1), Cell(2, 1))
    assert after(found)[1] == (0, 5, 0) and after(found)[2] == (0, 2, 0)
    assert found.tracks[3].parent == found.tracks[4].parent == 2
    assert found.renamed == (Renamed(1, 1, 2, 2), Renamed(2, 1, 5, 1))


def test_a_daughter_is_swapped_with_another_cell_in_her_first_frame() -> None:
    found = swap(FAMILY, Cell(3, 3), Cell(2, 3))
    assert after(found)[3] == (3, 5, 1) and after(found)[2] == (0, 5, 0)
    assert found.renamed == (Renamed(2, 3, 5, 3), Renamed(3, 3, 5, 2))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: join(FAMILY, Cell(2, 3), Cell(2, 3)), "later frame"),
        (lambda: join(FAMILY, Cell(2, 3), Cell(2, 4)), "one cell already"),
        (lambda: join(FAMILY, Cell(5, 1), Cell(6, 3), gap=True), "one cell already"),
        (lambda: join(FAMILY, Cell(9, 1), Cell(6, 3)), "no cell 9 in frame 1"),
        (lambda: join(FAMILY, Cell(5, 2), Cell(6, 3)), "no cell 5 in frame 2"),
        (lambda: cut(FAMILY, Cell(2, 0), before=True), "nothing leads"),
        (lambda: cut(FAMILY, Cell(4, 4), before=False), "nothing follows"),
        (lambda: divide(FAMILY, Cell(2, 1), (Cell(2, 2), Cell(6, 3))), "frame after"),
        (lambda: divide(FAMILY, Cell(2, 1), (Cell(2, 2), Cell(2, 2))), "two different"),
        (lambda: divide(FAMILY, Cell(1, 2), (Cell(4, 3), Cell(3, 3))), "already"),
        (lambda: swap(FAMILY, Cell(1, 1), Cell(2, 2)), "one frame"),
        (lambda: swap(FAMILY, Cell(1, 1), Cell(1, 1)), "different"),
        (lambda: swap(FAMILY, Cell(1, 0), Cell(2, 0)), "nothing to swap"),
        (lambda: swap(FAMILY, Cell(3, 3), Cell(4, 3)), "nothing to swap"),
    ],
)
def test_what_makes_no_lineage_is_refused(act: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        act()


# ---- properties: a correction does to the links between cells what it says, and nothing else

Before = dict[Cell, Cell | None]


def links(tracks: Table) -> Before:
    """What leads to each cell."""
    found: Before = {}
    for track in tracks.values():
        for frame in range(track.begin, track.end + 1):
            found[Cell(track.label, frame)] = Cell(track.label, frame - 1)
        found[Cell(track.label, track.begin)] = Cell(track.parent, tracks[track.parent].end) if track.parent else None
    return found


def in_new_names(before: Before, renamed: tuple[Renamed, ...]) -> Before:
    def name(cell: Cell) -> Cell:
        news = [one.new for one in renamed if one.label == cell.label and one.begin <= cell.frame <= one.end]
        assert len(news) < 2
        return Cell(news[0] if news else cell.label, cell.frame)

    return {name(cell): other and name(other) for cell, other in before.items()}


@st.composite
def lineages(draw: st.DrawFn) -> dict[int, Track]:
    tracks: dict[int, Track] = {}
    for number in draw(st.lists(st.integers(1, 12), min_size=1, max_size=7, unique=True)):
        begin = draw(st.integers(0, 5))
        mothers = [track for track in tracks.values() if track.end < begin]
        kin = [track.parent for track in tracks.values()]
        free = [track.label for track in mothers if kin.count(track.label) < 2]
        parent = draw(st.sampled_from([0, *free]))
        tracks[number] = Track(number, begin, begin + draw(st.integers(0, 3)), parent)
    return table(tracks.values())


def chosen(cells: Iterable[Cell]) -> st.SearchStrategy[Cell]:
    return st.sampled_from(sorted(cells))


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(lineages(), st.data())
def test_corrections_are_changes_of_links(tracks: dict[int, Track], data: st.DataObject) -> None:
    wanted = links(tracks)
    what, cell = data.draw(st.sampled_from(["join", "before", "after", "divide", "swap"])), data.draw(chosen(wanted))
    there = {"join": range(cell.frame + 1, 9), "divide": [cell.frame + 1], "swap": [cell.frame]}.get(what, range(9))
    near = [one for one in wanted if one.frame in there]
    assume(near)
    other, third, gap = data.draw(chosen(near)), data.draw(chosen(near)), data.draw(st.booleans())
    try:
        if what == "join":
            found = join(tracks, cell, other, gap=gap)
            wanted.update({one: None for one, former in wanted.items() if former == cell})
            wanted[other] = cell
        elif what == "divide":
            found = divide(tracks, cell, (other, third))
            wanted.update({one: None for one, former in wanted.items() if former == cell})
            wanted[other] = wanted[third] = cell
        elif what == "swap":
            found = swap(tracks, cell, other)
            wanted[cell], wanted[other] = wanted[other], wanted[cell]
        else:
            found = cut(tracks, cell, before=what == "before")
            ends = [cell] if what == "before" else [one for one, former in wanted.items() if former == cell]
            wanted.update(dict.fromkeys(ends))
    except ValueError:
        assume(False)
    assert links(found.tracks) == in_new_names(wanted, found.renamed)
    seen: dict[int, list[int]] = {}
    for label, frame in links(found.tracks):
        seen.setdefault(frame, []).append(label)
    assert [one for one in inconsistencies(found.tracks.values(), seen) if one.severity == "error"] == []
    assert all(one.label != one.new for one in found.renamed)
