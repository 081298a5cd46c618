"""Tracks as a table, and its corrections by hand: join, cut, divide, swap.

A table follows the rules of the Cell Tracking Challenge: a track has one cell in each of its frames, at most one
mother, and begins after its mother has ended. So the cells of all frames follow from the table, and a correction is a
new table and the cells that got another label by it. Every cell keeps at most one predecessor, and no track has a gap:
a cell that is not seen for some frames is a new track, of which the one before the gap is the mother.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Track(NamedTuple):
    """One row of man_track.txt or res_track.txt: label L lives in frames B to E, with parent P (0: none)."""

    label: int
    begin: int
    end: int
    parent: int


class Cell(NamedTuple):
    """The cell of a track in one of its frames."""

    label: int
    frame: int


class Renamed(NamedTuple):
    """The cells `label` of frames `begin` to `end` have the label `new` now."""

    label: int
    begin: int
    end: int
    new: int


Table = Mapping[int, Track]


@dataclass(frozen=True)
class Correction:
    """The table after a correction, by label, and the cells whose label it has changed, all at the same time."""

    tracks: dict[int, Track]
    renamed: tuple[Renamed, ...]


def table(tracks: Iterable[Track]) -> dict[int, Track]:
    """Return tracks by label, in ascending order."""
    return {track.label: track for track in sorted(tracks)}


def mothers(tracks: Iterable[Track]) -> dict[int, int]:
    """Return of tracks with a parent that parent, tracks that begin earlier first."""
    return {track.label: track.parent for track in sorted(tracks, key=lambda track: track.begin) if track.parent}


def divisions(tracks: Iterable[tuple[int, int, int, int]]) -> int:
    """Return how many tracks have several daughters; a track with a single one is the same cell after a gap."""
    daughters = Counter(parent for *_, parent in tracks if parent)
    return sum(count > 1 for count in daughters.values())


def join(tracks: Table, cell: Cell, later: Cell, *, gap: bool = False) -> Correction:
    """Say that `later` is the same cell as `cell`, in the next frame, or after a gap if `gap` allows that.

    What followed `cell` before begins anew without a mother, and so does what led to `later`; the joined track has
    the label of `cell`. Raises ValueError, with a sentence for people, where that is impossible or so already.
    """
    work = _Tables(tracks)
    work.expect(cell, later)
    if later.frame <= cell.frame:
        raise ValueError("a cell can only go on in a later frame")
    if later.frame > cell.frame + 1 and not gap:
        raise ValueError(f"{later.frame - cell.frame - 1} frames lie between; allow gaps to join over them")
    if work.followers(cell) == [later]:
        raise ValueError("these are one cell already")
    work.cut_after(cell)
    work.cut_before(later)
    work.append(work.now(cell), work.now(later))
    return work.done()


def cut(tracks: Table, cell: Cell, *, before: bool) -> Correction:
    """Cut the link that leads to a cell (`before`), or all those that lead on from it.

    What follows is a track of its own, or several ones, without a mother. A mother with one daughter left is one
    track with her, as that is no division. Raises ValueError where there is no such link.
    """
    work = _Tables(tracks)
    work.expect(cell)
    if before and work.predecessor(cell) is None:
        raise ValueError("nothing leads to this cell: its track begins here")
    if not before and not work.followers(cell):
        raise ValueError("nothing follows this cell: its track ends here")
    if before:
        work.cut_before(cell)
    else:
        work.cut_after(cell)
    return work.done()


def divide(tracks: Table, mother: Cell, daughters: tuple[Cell, Cell]) -> Correction:
    """Say that a cell divides into two cells of the next frame.

    Other links that led on from the mother, or to the daughters, are cut. Raises ValueError for daughters that are not
    two cells of the next frame, and where it is so already.
    """
    work = _Tables(tracks)
    work.expect(mother, *daughters)
    if any(daughter.frame != mother.frame + 1 for daughter in daughters):
        raise ValueError("daughters are seen in the frame after their mother")
    if daughters[0] == daughters[1]:
        raise ValueError("a cell divides into two different cells")
    if sorted(work.followers(mother)) == sorted(daughters):
        raise ValueError("it divides into these already")
    for daughter in daughters:
        work.cut_before(daughter)
    work.cut_after(mother)
    for daughter in daughters:
        work.adopt(work.now(mother), work.now(daughter))
    return work.done()


def swap(tracks: Table, one: Cell, other: Cell) -> Correction:
    """Swap the identities of two cells of a frame, from there on: what led to one leads to the other.

    Raises ValueError for cells of different frames, and where nothing, or one mother, leads to both.
    """
    work = _Tables(tracks)
    work.expect(one, other)
    if one.frame != other.frame or one == other:
        raise ValueError("two different cells of one frame are swapped")
    if work.predecessor(one) == work.predecessor(other):
        raise ValueError("both come from the same, so there is nothing to swap")
    work.exchange(one, other)
    return work.done()


class _Piece(NamedTuple):
    """Frames of a track of the table before, which are now in some other one."""

    label: int
    begin: int
    end: int


@dataclass
class _Tables:
    """A table in work. `pieces` holds of each track that has changed the former tracks that it consists of."""

    given: Table
    tracks: dict[int, Track] = field(init=False)
    pieces: dict[int, list[_Piece]] = field(init=False, default_factory=dict)
    left: set[int] = field(init=False, default_factory=set)
    """labels of mothers that have lost a daughter"""

    def __post_init__(self) -> None:
        self.tracks = dict(self.given)

    def expect(self, *cells: Cell) -> None:
        for cell in cells:
            track = self.given.get(cell.label)
            if track is None or not track.begin <= cell.frame <= track.end:
                raise ValueError(f"there is no cell {cell.label} in frame {cell.frame}")

    def predecessor(self, cell: Cell) -> Cell | None:
        """Return the cell that leads to a cell of the table before."""
        track = self.given[cell.label]
        if cell.frame > track.begin:
            return Cell(cell.label, cell.frame - 1)
        return Cell(track.parent, self.given[track.parent].end) if track.parent else None

    def followers(self, cell: Cell) -> list[Cell]:
        """Return the cells to which a cell of the table before leads."""
        if cell.frame < self.given[cell.label].end:
            return [Cell(cell.label, cell.frame + 1)]
        return [Cell(one.label, one.begin) for one in self.given.values() if one.parent == cell.label]

    def now(self, cell: Cell) -> int:
        """Return the label that a cell of the table before has now."""
        for label, pieces in self.pieces.items():
            if any(piece.label == cell.label and piece.begin <= cell.frame <= piece.end for piece in pieces):
                return label
        return cell.label

    def daughters(self, label: int) -> list[Track]:
        return [track for track in self.tracks.values() if track.parent == label]

    def adopt(self, parent: int, label: int) -> None:
        self.tracks[label] = self.tracks[label]._replace(parent=parent)

    def cut_before(self, cell: Cell) -> None:
        label = self.now(cell)
        track = self.tracks[label]
        if cell.frame > track.begin:
            self._split(label, cell.frame)
        elif track.parent:
            self.left.add(track.parent)
            self.adopt(0, label)

    def cut_after(self, cell: Cell) -> None:
        label = self.now(cell)
        if cell.frame < self.tracks[label].end:
            self._split(label, cell.frame + 1)
            return
        for daughter in self.daughters(label):
            self.left.add(label)
            self.adopt(0, daughter.label)

    def append(self, label: int, later: int) -> None:
        """Let a track without daughters go on with one without a mother: as one track, or after a gap as its mother."""
        track, rest = self.tracks[label], self.tracks[later]
        if rest.begin > track.end + 1:
            self.adopt(label, later)
            return
        for daughter in self.daughters(later):
            self.adopt(label, daughter.label)
        self.pieces[label] = self._pieces(label) + self._pieces(later)
        self.pieces.pop(later)
        self.tracks.pop(later)
        self.tracks[label] = track._replace(end=rest.end)

    def exchange(self, one: Cell, other: Cell) -> None:
        """Exchange what two tracks are from a frame on, their daughters included."""
        frame, first, second = one.frame, self.tracks[one.label], self.tracks[other.label]
        kin = self.daughters(one.label), self.daughters(other.label)
        for family, mother in zip(kin, (other.label, one.label), strict=True):
            for daughter in family:
                self.adopt(mother, daughter.label)
        for track, tail in ((first, second), (second, first)):
            self.tracks[track.label] = self.tracks[track.label]._replace(end=tail.end)
            head = [_Piece(track.label, track.begin, frame - 1)] if track.begin < frame else []
            self.pieces[track.label] = [*head, _Piece(tail.label, frame, tail.end)]

    def done(self) -> Correction:
        """Return the result: a mother who is left with one daughter, in the next frame, goes on as her."""
        for mother in sorted(self.left & self.tracks.keys()):
            family = self.daughters(mother)
            if len(family) == 1 and family[0].begin == self.tracks[mother].end + 1:
                self.append(mother, family[0].label)
        renamed = [
            Renamed(piece.label, piece.begin, piece.end, label)
            for label, pieces in self.pieces.items()
            for piece in pieces
            if piece.label != label
        ]
        return Correction(table(self.tracks.values()), tuple(sorted(renamed)))

    def _pieces(self, label: int) -> list[_Piece]:
        if label not in self.pieces:
            track = self.tracks[label]
            self.pieces[label] = [_Piece(label, track.begin, track.end)]
        return self.pieces[label]

    def _split(self, label: int, frame: int) -> None:
        """Let the frames of a track from `frame` on be a track of its own, with its daughters and without a mother."""
        track, pieces = self.tracks[label], self._pieces(label)
        new = next(number for number in range(1, len(self.tracks) + 2) if number not in self.tracks)
        for daughter in self.daughters(label):
            self.adopt(new, daughter.label)
        self.tracks[label] = track._replace(end=frame - 1)
        self.tracks[new] = Track(new, frame, track.end, 0)
        self.pieces[label] = [piece._replace(end=min(piece.end, frame - 1)) for piece in pieces if piece.begin < frame]
        self.pieces[new] = [piece._replace(begin=max(piece.begin, frame)) for piece in pieces if piece.end >= frame]
