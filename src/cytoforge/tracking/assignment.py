"""One-to-one assignment of candidate pairs, for all matching and linking of cells.

K candidates are given sparsely: pair k joins `row[k]` and `column[k]`, integers of 0 or more that need not be
consecutive, and no pair is given twice. The result is a bool mask (K,) of the chosen pairs, among which every row and
every column occurs at most once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Numbers = NDArray[np.integer[Any]]
Chosen = NDArray[np.bool_]


def maximum_weight(row: Numbers, column: Numbers, weight: NDArray[np.float64]) -> Chosen:
    """Choose the pairs with the largest sum of `weight` (K,), each above 0; memory grows only with K."""
    if not row.size:
        return np.zeros(0, bool)
    rows, row = np.unique(row, return_inverse=True)
    columns, column = np.unique(column, return_inverse=True)
    alone = np.arange(rows.size)  # the solver needs a partner for every row: each row has its own column of gain 0
    weights = 1 + np.concatenate([weight, np.zeros(rows.size)])  # the solver treats a weight of 0 as no pair, hence + 1
    places = (np.concatenate([row, alone]), np.concatenate([column, columns.size + alone]))
    graph = sparse.coo_array((weights, places), shape=(rows.size, columns.size + rows.size)).tocsr()
    _, partner = sparse.csgraph.min_weight_full_bipartite_matching(graph, maximize=True)
    chosen: Chosen = partner[row] == column
    return chosen


def maximum_cardinality(row: Numbers, column: Numbers, preference: NDArray[np.float64]) -> Chosen:
    """Choose as many pairs as possible and, of those choices, the one with the largest sum of `preference`.

    `preference` is (K,) in [0, 1].
    """
    chosen: Chosen = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    if not chosen.all():
        rivals = np.flatnonzero(~chosen)
        most = min(np.unique(side[rivals]).size for side in (row, column))
        # The preferences of all chosen pairs add less than one half, so the number of pairs always decides first.
        weight = 1 + preference[rivals] / (2 * most + 1)
        chosen[rivals] = maximum_weight(row[rivals], column[rivals], weight)
    return chosen


def first_come(row: Numbers, column: Numbers) -> Chosen:
    """Choose each pair, in the order given, whose row and column are both still free."""
    chosen = np.zeros(row.size, bool)
    rows, columns = set(), set()
    for position, (one, other) in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
        if one not in rows and other not in columns:
            chosen[position] = True
            rows.add(one)
            columns.add(other)
    return chosen
