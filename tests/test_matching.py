"""Matching one to one: drawn cases, and every choice tried on small ones."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cytoforge.tracking.assignment import first_come, maximum_cardinality, maximum_weight

Table = NDArray[np.float64]


def candidates(table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64], Table]:
    """What is above 0 in a dense table, as sparse pairs; numbers have gaps, as ids of cells may have."""
    row, column = np.nonzero(table)
    return 3 * row, 5 * column + 2, table[row, column]


def choices(table: Table) -> Iterator[list[float]]:
    """The values of every choice of at most one entry above 0 in each row and column."""
    if not table.size:
        yield []
        return
    yield from choices(table[1:])
    for column in np.flatnonzero(table[0]):
        for rest in choices(np.delete(table[1:], column, axis=1) if table.shape[1] > 1 else np.zeros((0, 0))):
            yield [float(table[0, column]), *rest]


def assert_one_to_one(table: Table, chosen: NDArray[np.bool_]) -> None:
    row, column, _ = candidates(table)
    assert chosen.shape == row.shape and chosen.dtype == bool
    assert np.unique(row[chosen]).size == np.unique(column[chosen]).size == chosen.sum()


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to 4 x 4 values of one digit, so that there are ties and zeros."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return (
        np.array(draw(st.lists(st.integers(0, 10), min_size=rows * columns, max_size=rows * columns))).reshape(
            rows, columns
        )
        / 10
    )


def test_the_largest_sum_may_need_fewer_pairs_than_possible() -> None:
    row, column, weight = candidates(np.array([[0.9, 0.3], [0.4, 0.0]]))
    assert maximum_weight(row, column, weight).tolist() == [True, False, False]  # 0.9 is more than 0.3 + 0.4
    assert maximum_cardinality(row, column, weight).tolist() == [False, True, True]  # two are more than one


def test_the_best_pair_first_is_not_the_best_sum() -> None:
    row, column, weight = candidates(np.array([[0.8, 0.7], [0.6, 0.0]]))
    assert maximum_weight(row, column, weight).tolist() == [False, True, True]
    assert first_come(row, column).tolist() == [True, False, False]


def test_preference_decides_among_choices_of_as_many() -> None:
    row, column, preference = candidates(np.array([[0.5, 0.8], [0.7, 0.9]]))
    assert maximum_cardinality(row, column, preference).tolist() == [False, True, True, False]  # 1.5 against 1.4


def test_preferences_of_many_pairs_never_outweigh_a_pair() -> None:
    one, other = np.arange(100), np.arange(1, 101)  # a chain: r0-c0, r0-c1, r1-c1, ... r99-c100, r100-c100
    row, column = np.concatenate([one, one, [100]]), np.concatenate([one, other, [100]])
    preference = np.concatenate([np.zeros(100), np.ones(100), [0.0]])
    assert maximum_cardinality(row, column, preference).sum() == 101  # only without any pair of preference 1
    assert maximum_cardinality(row[:-1], column[:-1], preference[:-1])[100:].all()


def test_a_low_weight_is_better_than_none() -> None:
    assert maximum_weight(np.array([7]), np.array([9]), np.array([1e-9])).tolist() == [True]


def test_first_come_keeps_to_the_order() -> None:
    row, column = np.array([4, 4, 2, 2, 9]), np.array([1, 3, 1, 3, 8])
    assert first_come(row, column).tolist() == [True, False, False, True, True]
    assert first_come(row[::-1], column[::-1]).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("way", [maximum_weight, maximum_cardinality, lambda row, column, _: first_come(row, column)])
def test_no_candidates_no_choice(way) -> None:  # type: ignore[no-untyped-def]
    nothing = np.zeros(0, np.int64)
    assert way(nothing, nothing, np.zeros(0)).tolist() == []


@given(tables())
def test_no_choice_has_a_larger_sum(table: Table) -> None:
    chosen = maximum_weight(*candidates(table))
    assert_one_to_one(table, chosen)
    assert candidates(table)[2][chosen].sum() == pytest.approx(max(map(sum, choices(table))))


@given(tables())
def test_no_choice_has_more_pairs_nor_as_many_of_a_larger_sum(table: Table) -> None:
    chosen = maximum_cardinality(*candidates(table))
    assert_one_to_one(table, chosen)
    most = max(map(len, choices(table)))
    assert chosen.sum() == most
    best = max(sum(choice) for choice in choices(table) if len(choice) == most)
    assert candidates(table)[2][chosen].sum() == pytest.approx(best)


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(table: Table, random) -> None:  # type: ignore[no-untyped-def]
    row, column, weight = candidates(table + np.arange(table.size).reshape(table.shape) * 1e-3 * (table > 0))
    order = np.array(random.sample(range(row.size), row.size), np.int64)
    for way in (maximum_weight, maximum_cardinality):
        total = weight[way(row, column, weight)].sum()
        assert weight[order][way(row[order], column[order], weight[order])].sum() == pytest.approx(total)


@given(tables())
def test_first_come_leaves_no_free_pair(table: Table) -> None:
    row, column, _ = candidates(table)
    chosen = first_come(row, column)
    assert_one_to_one(table, chosen)
    assert (np.isin(row, row[chosen]) | np.isin(column, column[chosen])).all()
