"""The best choice of links and divisions in a whole movie, by scores of each: all frames are decided at once.

Every cell either comes from an earlier one, from a mother, or begins; it becomes a later one, two daughters, or ends;
or it is no cell at all. A choice is worth the sum of the scores of both sides of each cell, where a link is chosen by
two cells and a division by three. The choice of the largest worth is an integer linear programme, solved by HiGHS
(Huangfu and Hall 2018) in scipy. Links that are in it for certain are taken out beforehand, which leaves some per cent.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from cytoforge.tracking.candidates import Candidates, Floats, Ints

ROUNDS = 3
"""passes that look for certain links; later ones find little"""


class Scores(NamedTuple):
    """How likely each choice is to a cell, as logarithms up to a constant that its choices of one side share."""

    links: Floats  # (K,)
    divisions: Floats  # (M,)
    begins: Floats  # (N,) that a cell of a later frame than the first comes from none
    ends: Floats  # (N,) that a cell of an earlier frame than the last becomes none
    false: Floats  # (N,) that it is no cell


class Choice(NamedTuple):
    """What was chosen."""

    links: Ints
    """positions of links"""
    divisions: Ints
    """positions of divisions"""
    false: Ints
    """cells that are none"""
    worth: float
    """sum of the scores"""


def best_choice(found: Candidates, scores: Scores) -> Choice:
    """Return the choice of the largest worth; of equal ones the solver's.

    Raises RuntimeError if the solver gives up.
    """
    total = int(found.counts.sum())
    first = found.frame == 0
    last = found.frame == found.counts.size - 1
    begins, ends = np.where(first, 0.0, scores.begins), np.where(last, 0.0, scores.ends)
    false = ((~first).astype(int) + ~last) * scores.false  # of the sides that are asked
    before, after = found.links.T
    mother, one, two = found.divisions.T
    link, division = 2 * scores.links, 3 * scores.divisions
    # an end and a beginning in place of what is worth less are worth more
    links = np.flatnonzero(link > ends[before] + begins[after])
    divisions = np.flatnonzero(division > ends[mother] + begins[one] + begins[two])
    certain = np.zeros(link.size, bool)
    comes, goes = np.zeros(total, bool), np.zeros(total, bool)  # by a certain link
    every = np.arange(total)
    for _ in range(ROUNDS):
        # what each choice of a side is worth beyond what the other cells of the choice have without it
        before_, after_, mother_, one_, two_ = (
            before[links],
            after[links],
            mother[divisions],
            one[divisions],
            two[divisions],
        )
        later = _Best.of(
            np.concatenate([before_, mother_, every, every]),
            np.concatenate(
                [
                    link[links] - begins[after_],
                    division[divisions] - begins[one_] - begins[two_],
                    ends,
                    np.where(comes, -np.inf, false - begins),
                ]
            ),
            total,
        )
        earlier = _Best.of(
            np.concatenate([after_, one_, two_, every, every]),
            np.concatenate(
                [
                    link[links] - ends[before_],
                    division[divisions] - ends[mother_] - begins[two_],
                    division[divisions] - ends[mother_] - begins[one_],
                    begins,
                    np.where(goes, -np.inf, false - ends),
                ]
            ),
            total,
        )
        place = np.arange(links.size)
        new = links[link[links] > later.others(before_, place) + earlier.others(after_, place)]
        if not new.size:
            break
        certain[new], goes[before[new]], comes[after[new]] = True, True, True
        links = links[~goes[before_] & ~comes[after_]]
        divisions = divisions[~goes[mother_] & ~comes[one_] & ~comes[two_]]
    worth = [link, division, begins, ends, false]
    left = [
        links,
        divisions,
        np.flatnonzero(~comes),
        np.flatnonzero(~goes),
        np.flatnonzero(~comes & ~goes & ~(first & last)),
    ]
    sides = [
        [after[links], total + before[links]],
        [one[divisions], two[divisions], total + mother[divisions]],
        [left[2]],
        [total + left[3]],
        [left[4], total + left[4]],
    ]
    chosen = _solved([value[some] for value, some in zip(worth, left, strict=True)], sides)
    kept = [some[taken] for some, taken in zip(left, chosen, strict=True)]
    kept[0] = np.sort(np.concatenate([np.flatnonzero(certain), kept[0]]))
    total_worth = sum(float(value[some].sum()) for value, some in zip(worth, kept, strict=True))
    return Choice(kept[0], kept[1], kept[4], total_worth)


class _Best(NamedTuple):
    """The best of the choices of each cell."""

    best: Floats
    second: Floats
    which: Ints
    """position of the best"""

    @classmethod
    def of(cls, cell: Ints, value: Floats, total: int) -> "_Best":
        """Look through the choices, each of a cell and worth a value."""
        order = np.lexsort((-value, cell))
        cells, values = cell[order], value[order]
        begins = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])) if cells.size else order
        several = np.append(cells[1:] == cells[:-1], False)[begins]
        best, second = np.full(total, -np.inf), np.full(total, -np.inf)
        which = np.full(total, -1)
        best[cells[begins]], which[cells[begins]] = values[begins], order[begins]
        second[cells[begins[several]]] = values[begins[several] + 1]
        return cls(best, second, which)

    def others(self, cell: Ints, place: Ints) -> Floats:
        """Return the best of a cell's choices besides that at a position."""
        return np.where(self.which[cell] == place, self.second[cell], self.best[cell])


def _solved(worth: list[Floats], sides: list[list[Ints]]) -> list[NDArray[np.bool_]]:
    """Choose so that each side that occurs is in exactly one choice, and the sum of `worth` is largest.

    `sides` holds, for each kind of choice, the sides that it takes up.
    """
    gain = np.concatenate(worth)
    stops = np.cumsum([part.size for part in worth])
    if not gain.size:
        return [np.zeros(0, bool) for _ in worth]
    columns = [np.arange(stop - part.size, stop) for part, stop in zip(worth, stops, strict=True)]
    taken = np.concatenate([side for kind in sides for side in kind])
    by = np.concatenate([column for column, kind in zip(columns, sides, strict=True) for _ in kind])
    names, row = np.unique(taken, return_inverse=True)
    matrix = sparse.csr_array((np.ones(row.size), (row, by)), shape=(names.size, gain.size))
    found = milp(
        -gain,
        constraints=LinearConstraint(matrix, 1, 1),
        bounds=Bounds(0, 1),
        integrality=np.ones(gain.size),
        options={"mip_rel_gap": 0},
    )
    if found.x is None:
        raise RuntimeError(f"no best links were found: {found.message}")
    return np.split(found.x > 0.5, stops[:-1])
