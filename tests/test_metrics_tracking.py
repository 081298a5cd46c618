"""CLEAR-MOT, IDF1, HOTA and CHOTA by hand, and the published script's variant by its known numbers."""

from collections.abc import Sequence
from math import isnan, sqrt

import numpy as np
import pytest

import cells
from cells import Labels, draw_movie, tracks
from cytoforge.metrics.comparison import Comparison, compare
from cytoforge.metrics.deepsea import Places, places, script_counts, script_measures
from cytoforge.metrics.segmentation import overlap
from cytoforge.metrics.tracking import pooled, tracking_counts, tracking_measures


def compared(
    truth: Sequence[Labels], prediction: Sequence[Labels], true_parents: str = "", parents: str = ""
) -> Comparison:
    tables = {t: overlap(a, b) for t, (a, b) in enumerate(zip(truth, prediction, strict=True))}
    return compare(tables, tracks(tuple(truth), true_parents), tracks(tuple(prediction), parents))


def scores(
    truth: Sequence[Labels], prediction: Sequence[Labels], true_parents: str = "", parents: str = ""
) -> dict[str, float]:
    measures = tracking_measures(tracking_counts(compared(truth, prediction, true_parents, parents)))
    return {name: float(value) for name, value in measures.items()}


def test_perfect() -> None:
    found = scores(cells.STILL, cells.STILL)
    ones = ("mota", "precision", "recall", "mostly_tracked", "idf1", "hota", "hota_50", "detection_accuracy", "chota")
    zeros = ("switches", "fragmentations", "mostly_lost")
    assert found == {**dict.fromkeys(ones, 1.0), **dict.fromkeys(zeros, 0.0)}


# Each movie has 10 true cells. IoU is 1 or 0 where not said otherwise, so HOTA is the same at all thresholds; a pair of
# cells with n of n1 and n2 masks in common has the association n / (n1 + n2 - n).
# MISS: 9 found. HOTA: A 5 x 5/5, B 4 x 4/5; 8.2 of 10. IDF1 18 of 10 + 9. B is tracked in 4 of 5 frames: mostly.
# FALSE_ALARM: 10 found, 11 predicted. HOTA 10 of 11.
# SWITCH: IDF1 3 + 3 of each 10. HOTA: twice 3 x 3/7 + 2 x 2/8; 25/7 of 10.
# SPLIT_ONCE: as one false alarm up to IoU 4/6, that is 13 thresholds. At the other 6 a miss as well: A 5, B 4 x 4/6;
#   23/3 of 9 + 1 + 2.
# MERGE_ONCE: at IoU 6/12 the cell before goes on: B; A is missed once. As MISS with A up to 0.5, that is 10 thresholds.
#   At the other 9 both are missed, one invented: A 4 x 4/5, B 4 x 4/6; 88/15 of 8 + 2 + 1.
# NEVER_FOUND: HOTA 5 of 10.
@pytest.mark.parametrize(
    ("prediction", "parents", "expected"),
    [
        (
            cells.MISS,
            "CB",
            {"mota": 0.9, "recall": 0.9, "precision": 1, "switches": 0, "fragmentations": 1, "mostly_tracked": 1}
            | {"idf1": 18 / 19, "hota": sqrt(0.82), "chota": sqrt(0.82)},
        ),
        (
            cells.FALSE_ALARM,
            "",
            {"mota": 0.9, "recall": 1, "precision": 10 / 11, "switches": 0, "idf1": 20 / 21, "hota": sqrt(10 / 11)},
        ),
        (
            cells.SWITCH,
            "",
            {"mota": 0.8, "recall": 1, "precision": 1, "switches": 2, "fragmentations": 0, "idf1": 0.6}
            | {"hota": sqrt(5 / 14), "detection_accuracy": 1},
        ),
        (
            cells.SPLIT_ONCE,
            "",
            {"mota": 0.9, "recall": 1, "precision": 10 / 11, "switches": 0, "hota_50": sqrt(10 / 11)}
            | {"hota": (13 * sqrt(10 / 11) + 6 * sqrt(23 / 36)) / 19},
        ),
        (
            cells.MERGE_ONCE,
            "CA",
            {"mota": 0.9, "recall": 0.9, "precision": 1, "switches": 0, "fragmentations": 1, "idf1": 18 / 19}
            | {"hota": (10 * sqrt(0.82) + 9 * sqrt(88 / 15 / 11)) / 19},
        ),
        (
            cells.NEVER_FOUND,
            "",
            {"mota": 0.5, "recall": 0.5, "precision": 1, "mostly_tracked": 0.5, "mostly_lost": 0.5, "switches": 0}
            | {"fragmentations": 0, "idf1": 2 / 3, "hota": sqrt(0.5)},
        ),
    ],
    ids=["miss", "false alarm", "switch", "split", "merge", "never found"],
)
def test_by_hand(prediction: tuple[Labels, ...], parents: str, expected: dict[str, float]) -> None:
    found = scores(cells.STILL, prediction, parents=parents)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_switch_across_a_gap_counts() -> None:
    """As MISS, but C is a cell of its own: 9 found, a switch. IDF1: A 5, B 2. HOTA: A 5, B 2 x 2/5 and 2 x 2/5."""
    expected = {"mota": 0.8, "switches": 1, "fragmentations": 1, "idf1": 14 / 19, "hota": sqrt(0.66)}
    found = scores(cells.STILL, cells.MISS)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_gap_of_the_truth_is_neither_a_switch_nor_a_fragmentation() -> None:
    """B is out of sight in the third frame, and found again as C: nothing, if C follows B on both sides; else one."""
    assert scores(cells.MISS, cells.MISS, "CB", "CB")["mota"] == 1
    found = scores(cells.MISS, cells.MISS, "CB", "")
    assert (found["switches"], found["fragmentations"]) == (1, 0)
    assert found["mota"] == pytest.approx(1 - 1 / 9)
    assert scores(cells.MISS, cells.MISS)["switches"] == 0  # two cells on both sides


def test_carried_over_from_the_frame_before() -> None:
    """P covers A and B by half each: in the frame after A-P it is A's, after B-P it is B's."""
    truth = draw_movie("AABB  AABB")
    assert scores(truth, draw_movie("PP..  PPPP"))["switches"] == 0
    assert scores(truth, draw_movie("..PP  PPPP"))["switches"] == 0
    for first in ("PP..", "..PP"):  # matched once in each frame
        counts = tracking_counts(compared(truth, draw_movie(f"{first}  PPPP")))
        assert (counts["matches"], counts["fragmentations"], counts["mostly_tracked"]) == (2, 0, 1)


def test_as_many_pairs_as_possible_then_those_that_stay_together() -> None:
    """GREEDY_TRAP at low thresholds: both cells can be matched, by B-D and A-C, though A-D overlaps best.

    IoU: A-C 3/8, A-D 5/12, B-D 4/11. Two pairs to 0.35; at 0.4 A-D, B and C alone: TP 1, FN 1, FP 1. Then none.
    """
    truth, prediction = cells.GREEDY_TRAP
    assert scores([truth], [prediction])["hota"] == pytest.approx((7 + 1 * sqrt(1 / 3)) / 19)


def test_division_is_seen_by_chota_alone() -> None:
    """All masks are right, and the daughters have no mother.

    Lineages of truth: A with B and C, 8 masks; B and C with A, 5 each. Predicted: 2, 3, 3. Association: A 2/8, B and C
    3/5; 2 x 0.25 + 6 x 0.6 = 4.1 of 8.
    """
    whole = scores(cells.DIVISION, cells.DIVISION, "BA CA", "BA CA")
    assert (whole["chota"], whole["hota"]) == (1, 1)
    found = scores(cells.DIVISION, cells.DIVISION, "BA CA", "")
    assert (found["mota"], found["idf1"], found["hota"]) == (1, 1, 1)
    assert found["chota"] == pytest.approx(sqrt(4.1 / 8))


def test_sisters_are_no_lineage() -> None:
    """A has B and C, B has D, F, G and C has E, H, I; predicted with D and E exchanged. Each is one mask.

    Lineages of true and predicted masks: A with all, 9; B, C with A and three each, 5, of them 4 in common; D, E with
    mother and A, 3, of them 2 in common; the others 3, all in common. 1 + 2 x 4/6 + 2 x 2/4 + 4 = 22/3 of 9.
    """
    movie = draw_movie("AAAAAA  BBBCCC  DFGEHI")
    true, false = "BA CA DB FB GB EC HC IC", "BA CA EB FB GB DC HC IC"
    assert scores(movie, movie, true, true)["chota"] == 1
    assert scores(movie, movie, true, false)["chota"] == pytest.approx(sqrt(22 / 3 / 9))


def test_nothing_there_is_undefined() -> None:
    empty = draw_movie("....  ....")
    found = scores(empty, empty)
    assert all(isnan(value) for name, value in found.items() if name not in ("switches", "fragmentations"))
    invented = scores(empty, draw_movie("AA..  AA.."))
    assert isnan(invented["mota"]) and isnan(invented["recall"])
    assert (invented["precision"], invented["idf1"], invented["hota"]) == (0, 0, 0)
    missed = scores(draw_movie("AA..  AA.."), empty)
    assert (missed["mota"], missed["recall"], missed["mostly_lost"], missed["hota"]) == (0, 0, 1, 0)
    assert isnan(missed["precision"])


def test_sequences_are_pooled_by_their_counts() -> None:
    """SWITCH (2 errors of 10 cells) and one frame with its only cell missed (1 of 1)."""
    parts = [
        tracking_counts(compared(cells.STILL, cells.SWITCH)),
        tracking_counts(compared(draw_movie("AA.."), draw_movie("...."))),
    ]
    both = tracking_measures(pooled(parts))
    assert both["mota"] == pytest.approx(1 - 3 / 11)
    assert both["mostly_lost"] == pytest.approx(1 / 3)
    assert both["hota"] == pytest.approx(sqrt(25 / 7 / 11))
    stacked = tracking_measures({name: np.stack([part[name] for part in parts]) for name in parts[0]})
    assert stacked["mota"] == pytest.approx([0.8, 0])
    with pytest.raises(ValueError, match="at least one sequence"):
        pooled([])


def test_parents_that_do_not_end_before() -> None:
    with pytest.raises(ValueError, match=r"begin after their parent's end, got \(2, 1, 3, 1\)"):
        compare({}, [(1, 0, 1, 0), (2, 1, 3, 1)], [])


# The published script. A frame of 383 x 512 needs no scaling; places are inside its border.


def at(*points: tuple[float, float], labels: Sequence[int] = ()) -> Places:
    return Places(np.array(labels or range(1, len(points) + 1), np.int64), np.array(points, np.float64).reshape(-1, 2))


def script(frames: list[tuple[Places, Places]], size: tuple[int, int] = (383, 512)) -> dict[str, float]:
    return {name: float(value) for name, value in script_measures(script_counts(frames, size)).items()}


ROW = [(200.0, 100.0 + 50 * k) for k in range(5)]


def test_script_gives_the_published_numbers() -> None:
    """Five cells in four frames, three placed right and two far off: what the authors' program printed when run."""
    placed = at(*ROW[:3], *((300.0, x) for _, x in ROW[3:]))
    found = script([(at(*ROW), placed)] * 4)
    assert (found["recall"], found["mota"], found["precision"]) == pytest.approx((1.0, 0.6, 0.6))
    far = at(*((300.0, x) for _, x in ROW))
    assert script([(at(*ROW), far)] * 4)["mota"] == 0
    # by the definition, misses count: 8 of 20 as well as 8 inventions
    frame, other = np.zeros((6, 60), np.int32), np.zeros((6, 60), np.int32)
    for k in range(5):
        frame[:2, 10 * k : 10 * k + 4] = k + 1
        other[:2, 10 * k + 6 * (k > 2) : 10 * k + 6 * (k > 2) + 4] = k + 1
    right = scores([frame] * 4, [other] * 4)
    assert (right["recall"], right["mota"]) == pytest.approx((0.6, 0.2))


def test_script_forgets_switches_over_gaps() -> None:
    cell, near, none = at((200, 200)), at((200, 203), labels=[7]), at()
    assert script([(cell, at((200, 200))), (cell, near)])["switches"] == 1
    assert script([(cell, at((200, 200))), (cell, none), (cell, near)])["switches"] == 0
    found = script([(cell, at((200, 200))), (cell, none), (cell, near)])
    assert found["recall"] == pytest.approx(2 / 3)  # fewer predicted than true: that surplus alone is missed


def test_script_matches_below_six_pixels_and_cuts_the_border() -> None:
    assert script([(at((200, 200)), at((200, 205.9)))])["precision"] == 1
    assert script([(at((200, 200)), at((200, 206)))])["precision"] == 0
    # scaled from twice the size, and from other proportions
    assert script([(at((400, 400)), at((400, 411)))], (766, 1024))["precision"] == 1
    for y, x, counts in ((80, 80, 1), (79, 200, 0), (200, 79, 0), (200, 433, 0), (382, 432, 1)):
        assert script_counts([(at((y, x)), at())], (383, 512))["true_cells"] == counts


def test_script_wants_more_than_four_fifths() -> None:
    cell, none = at((200, 200)), at()
    frames = [(cell, cell)] * 4 + [(cell, none)]
    assert script(frames)["mostly_tracked"] == 0
    assert script([*frames, (cell, cell)])["mostly_tracked"] == 1
    assert script([(cell, none)] * 5)["mostly_lost"] == 1
    assert script([(cell, none)] * 4 + [(cell, cell)])["mostly_lost"] == 0


def test_script_without_cells_is_undefined() -> None:
    found = script([(at(), at())])
    assert all(isnan(value) for name, value in found.items() if name != "switches")
    assert isnan(script([(at(), at((200, 200)))])["mota"])


def test_places_are_centroids() -> None:
    labels = cells.draw("""
        AA..BB
        AA..BA
        ..CC..
        """)
    found = places(labels)
    assert found.labels.tolist() == [1, 2, 3]
    assert found.centroids == pytest.approx(np.array([[0.6, 1.4], [1 / 3, 13 / 3], [2, 2.5]]))
    assert places(np.zeros((3, 4), np.int32)).labels.size == 0
