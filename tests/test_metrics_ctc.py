"""The measures of the Cell Tracking Challenge by hand, and against traccuracy and py-ctcmetrics on random movies."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import networkx
import numpy as np
import pytest
from ctc_metrics.scripts.evaluate import calculate_metrics

import cells
from cells import Labels, draw_movie, tracks
from cytoforge.data.movie import tracks_of
from cytoforge.metrics.comparison import Comparison, compare
from cytoforge.metrics.ctc import ctc_measures, graph_counts, segmentation_counts
from cytoforge.metrics.motion import Row
from cytoforge.metrics.segmentation import Overlap, overlap
from cytoforge.metrics.tracking import tracking_counts, tracking_measures

Movie = tuple[tuple[Labels, ...], tuple[Row, ...]]


def tables(truth: Sequence[Labels], prediction: Sequence[Labels]) -> dict[int, Overlap]:
    return {t: overlap(a, b) for t, (a, b) in enumerate(zip(truth, prediction, strict=True))}


def compared(truth: Movie, prediction: Movie) -> Comparison:
    return compare(tables(truth[0], prediction[0]), truth[1], prediction[1])


def scores(truth: Movie, prediction: Movie) -> dict[str, float]:
    counts = {
        **graph_counts(compared(truth, prediction)),
        **segmentation_counts(tables(truth[0], prediction[0]).values()),
    }
    return {name: float(value) for name, value in ctc_measures(counts).items()}


def drawn(frames: tuple[Labels, ...], parents: str = "") -> Movie:
    return frames, tracks(frames, parents)


# Truth: 10 cells, 8 links; drawing it costs 10 x 10 for the cells and 8 x 1.5 for the links, together 112.
# MISS: a miss (10), two links missing (3), and with C as child of B a link over the gap that is not there (1).
# FALSE_ALARM: 1. SWITCH: two links wrong, that is two too many and two missing (5).
# SPLIT_ONCE: B is found by its larger part, 4 of 6 pixels (SEG: 9 + 4/6), the other is an invention (1).
# MERGE_ONCE: one cell to be split (5). It finds two cells, so that all four links of A and B there are missing (6), and
#   the link over it is one too many (1). SEG: 8 + 2 x 6/12.
# NEVER_FOUND: 5 misses (50), 4 links (6).
@pytest.mark.parametrize(
    ("prediction", "parents", "cost", "links", "seg"),
    [
        (cells.STILL, "", 0, 0, 1),
        (cells.MISS, "CB", 10, 4, 0.9),
        (cells.MISS, "", 10, 3, 0.9),
        (cells.FALSE_ALARM, "", 1, 0, 1),
        (cells.SWITCH, "", 0, 5, 1),
        (cells.SPLIT_ONCE, "", 1, 0, (9 + 4 / 6) / 10),
        (cells.MERGE_ONCE, "CA", 5, 7, 0.9),
        (cells.NEVER_FOUND, "", 50, 6, 0.5),
    ],
    ids=["perfect", "miss", "miss without link", "false alarm", "switch", "split", "merge", "never found"],
)
def test_by_hand(prediction: tuple[Labels, ...], parents: str, cost: int, links: int, seg: float) -> None:
    found = scores(drawn(cells.STILL), drawn(prediction, parents))
    expected = {
        "seg": seg,
        "det": 1 - cost / 100,
        "lnk": 1 - links / 12,
        "tra": 1 - (cost + links) / 112,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert isnan(found["division_f_0"])


# DIVISION: mother A in two frames, daughters B and C in three: 8 cells, 1 + 2 + 2 + 2 links.
@pytest.mark.parametrize(
    ("prediction", "parents", "found"),
    [
        (cells.DIVISION, "BA CA", (1, 1, 1)),
        (cells.LATE_DIVISION, "BA CA", (0, 1, 1)),
        (cells.EARLY_DIVISION, "BA CA", (0, 1, 1)),
        (cells.LATER_DIVISION, "BA CA", (0, 0, 1)),
        (cells.DIVISION, "BA", (0, 0, 0)),
        (cells.DIVISION, "", (0, 0, 0)),
        (cells.NEVER_FOUND, "", (0, 0, 0)),
    ],
    ids=["exact", "late", "early", "two late", "one daughter", "no parent", "never"],
)
def test_divisions_within_tolerance(
    prediction: tuple[Labels, ...], parents: str, found: tuple[float, float, float]
) -> None:
    prediction = tuple(frame[:, :5] for frame in prediction)
    measures = scores(drawn(cells.DIVISION, "BA CA"), drawn(prediction, parents))
    assert tuple(measures[f"division_f_{k}"] for k in range(3)) == found


def test_daughters_of_another_mother_are_no_division() -> None:
    """Two mothers divide at once, and their daughters are exchanged; F of an invented division beside a true one."""
    movie = draw_movie("AAABBB  AAABBB  C.DE.F")
    assert scores(drawn(movie, "CA DA EB FB"), drawn(movie, "CA EA DB FB"))["division_f_2"] == 0
    assert scores(drawn(movie, "CA DA"), drawn(movie, "CA DA EB FB"))["division_f_0"] == pytest.approx(2 / 3)
    assert scores(drawn(movie, ""), drawn(movie, "EB FB"))["division_f_0"] == 0


def test_links_know_parents_from_the_same_cell() -> None:
    """B goes on as C without a gap: the link is there, as one of parent and child (1 of 12)."""
    movie = draw_movie("AAABBB  AAABBB  AAABBB  AAACCC  AAACCC")
    truth = draw_movie("AAABBB  AAABBB  AAABBB  AAABBB  AAABBB")
    assert scores(drawn(truth), drawn(movie, "CB"))["lnk"] == pytest.approx(1 - 1 / 12)
    assert scores(drawn(movie, "CB"), drawn(truth))["lnk"] == pytest.approx(1 - 1 / 12)
    assert scores(drawn(movie, "CB"), drawn(movie, "CB"))["lnk"] == 1


def test_costs_end_at_nothing_and_half_a_cell_is_not_found() -> None:
    truth = draw_movie("AA......  AA......")
    assert scores(drawn(truth), drawn(draw_movie("..BCDEFG  ..BCDEFG")))["det"] == 0
    crowd = draw_movie("AAAA" + "." * 30), draw_movie("...." + "BCDEFGHIJKLMNOPQRSTUVWXYZabcde")
    assert scores(drawn(crowd[0]), drawn(crowd[1]))["det"] == 0  # 10 + 30 inventions, at most 10
    assert scores(drawn(draw_movie("AAAA")), drawn(draw_movie("AA..")))["det"] == 0
    assert scores(drawn(draw_movie("AAAA")), drawn(draw_movie("AAA.")))["det"] == 1


def test_nothing_there_and_a_single_frame_are_undefined() -> None:
    empty = draw_movie("....  ....")
    assert all(isnan(value) for value in scores(drawn(empty), drawn(empty)).values())
    single = draw_movie("AA..")
    found = scores(drawn(single), drawn(single))
    assert (found["seg"], found["det"], found["tra"]) == (1, 1, 1)
    assert isnan(found["lnk"])


# Random movies: cells of 2 x 2 pixels in the fields of a grid, which appear, die, divide, and get new labels.

FRAMES, ROWS, COLUMNS = 6, 4, 5


def with_rows(frames: list[Labels], parents: dict[int, int]) -> Movie:
    """Cut ids at gaps; parents that are not gone before their children are none."""
    rows, renamed = tracks_of({t: np.unique(frame[frame > 0]).tolist() for t, frame in enumerate(frames)})
    for (t, cell), label in renamed.items():
        frames[t][frames[t] == cell] = label
    ends = {row.label: row.end for row in rows}
    kept = []
    for row in rows:
        parent = row.parent or parents.get(row.label, 0)
        kept.append((row.label, row.begin, row.end, parent if parent in ends and ends[parent] < row.begin else 0))
    return tuple(frames), tuple(kept)


def random_truth(generator: np.random.Generator) -> Movie:
    frames = [np.zeros((2 * ROWS, 2 * COLUMNS), np.int32) for _ in range(FRAMES)]
    where: dict[int, int] = {}
    parents: dict[int, int] = {}
    free = 1
    for t, frame in enumerate(frames):
        now: dict[int, int] = {}
        fields = [field for field in generator.permutation(ROWS * COLUMNS).tolist() if field not in where.values()]
        for cell, field in where.items():
            fate = generator.random()
            if fate < 0.1:
                continue
            if fate < 0.25:  # divides
                for place in (field, fields.pop()):
                    now[free], parents[free] = place, cell
                    free += 1
            elif fate < 0.3:  # goes on as its only child
                now[free], parents[free] = field, cell
                free += 1
            else:
                now[cell] = field
        for _ in range(3 if t == 0 else int(generator.random() < 0.3)):
            now[free] = fields.pop()
            free += 1
        for cell, field in now.items():
            y, x = divmod(field, COLUMNS)
            frame[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = cell
        where = dict(list(now.items())[:8])
    return with_rows(frames, parents)


def random_prediction(generator: np.random.Generator, truth: Movie, *, clean: bool) -> Movie:
    """Misses, switches and forgotten parents; unless `clean`, masks that reach over others or lie where nothing is."""
    mothers = {row[0]: row[3] for row in truth[1]}
    frames, parents = [], dict[int, int]()
    name: dict[int, int] = {}
    free = 1
    for labels in truth[0]:
        frame = np.zeros_like(labels)
        found = [cell for cell in np.unique(labels[labels > 0]).tolist() if generator.random() < 0.9]
        for cell in found:
            if cell not in name or generator.random() < 0.1:
                former = name.get(cell, name.get(mothers[cell], 0))
                name[cell], parents[free] = free, former if generator.random() < 0.8 else 0
                free += 1
        if len(found) > 1 and generator.random() < 0.2:
            one, two = generator.choice(found, 2, replace=False).tolist()
            name[one], name[two] = name[two], name[one]
        for cell in found:
            frame[labels == cell] = name[cell]
        if not clean and found and generator.random() < 0.5:
            y, x, height, width = generator.integers(0, (2 * ROWS - 2, 2 * COLUMNS - 2, 4, 6)).tolist()
            frame[y : y + 1 + height, x : x + 1 + width] = frame.max() if generator.random() < 0.7 else free
            free += 1
        frames.append(frame)
    return with_rows(frames, parents)


def challenge(truth: Movie, prediction: Movie) -> dict[str, Any]:
    """What py-ctcmetrics says; its matching reads files, so masks are matched here."""
    found: dict[str, list[list[Any]]] = {key: [] for key in ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp")}
    ious = []
    for ours, theirs in zip(truth[0], prediction[0], strict=True):
        here, there = (np.unique(side[side > 0]).tolist() for side in (ours, theirs))
        pairs = [(i, j) for i in here for j in there if 2 * ((ours == i) & (theirs == j)).sum() > (ours == i).sum()]
        found["labels_ref"].append(here)
        found["labels_comp"].append(there)
        found["mapped_ref"].append([i for i, _ in pairs])
        found["mapped_comp"].append([j for _, j in pairs])
        ious.append([((ours == i) & (theirs == j)).sum() / ((ours == i) | (theirs == j)).sum() for i, j in pairs])
    wanted = ["SEG", "DET", "TRA", "LNK", "BC", "HOTA", "CHOTA", "IDF1", "MOTA", "MTML"]
    rows = (np.array(side[1]) for side in (prediction, truth))
    result: dict[str, Any] = calculate_metrics(
        *rows, found, {"labels_ref": found["labels_ref"], "ious": ious}, wanted, True
    )
    return result


def usable(truth: Movie, prediction: Movie) -> bool:
    """py-ctcmetrics fails on a frame in which nothing is matched."""
    return all((overlap(a, b).intersection > 2).any() for a, b in zip(truth[0], prediction[0], strict=True))


def random_pairs(count: int, *, clean: bool) -> list[tuple[Movie, Movie]]:
    pairs = []
    seed = 0
    while len(pairs) < count:
        generator = np.random.default_rng(seed)
        truth = random_truth(generator)
        prediction = random_prediction(generator, truth, clean=clean)
        pairs += [(truth, prediction)] if usable(truth, prediction) else []
        seed += 1
    return pairs


def test_random_movies_as_py_ctcmetrics() -> None:
    seen = set()
    for truth, prediction in random_pairs(30, clean=False):
        ours, theirs = scores(truth, prediction), challenge(truth, prediction)
        for name in ("SEG", "DET", "TRA", "LNK"):
            assert ours[name.lower()] == pytest.approx(theirs[name], abs=1e-12), name
        for k in range(3):
            if theirs[f"BC({k})"] is not None:  # undefined for them without a true division, for us without any
                assert ours[f"division_f_{k}"] == pytest.approx(theirs[f"BC({k})"], abs=1e-12)
        seen |= {name for name, value in graph_counts(compared(truth, prediction)).items() if np.any(value > 0)}
    assert {"splits", "misses", "inventions", "extra_links", "missing_links", "wrong_links", "divisions_found"} <= seen


def test_random_movies_of_whole_cells_as_py_ctcmetrics() -> None:
    """Where its one-sided matching is one to one, its HOTA is ours at IoU 0.5; MT and ML it counts wrongly."""
    for truth, prediction in random_pairs(30, clean=True):
        measures = tracking_measures(tracking_counts(compared(truth, prediction)))
        theirs = challenge(truth, prediction)
        for ours, name in {
            "mota": "MOTA", "precision": "Precision", "recall": "Recall", "switches": "IDSW",
            "idf1": "IDF1", "hota_50": "HOTA", "chota": "CHOTA",
        }.items():  # fmt: skip
            assert float(measures[ours]) == pytest.approx(theirs[name], abs=1e-12), name
        # masks are equal or absent, so that nothing depends on the threshold
        assert float(measures["hota"]) == pytest.approx(float(measures["hota_50"]), abs=1e-12)


def test_py_ctcmetrics_takes_a_cell_never_found_for_a_tracked_one() -> None:
    truth, prediction = drawn(cells.STILL), drawn(cells.NEVER_FOUND)
    theirs = challenge(truth, prediction)
    measures = tracking_measures(tracking_counts(compared(truth, prediction)))
    assert (theirs["MT"], theirs["ML"]) == (1, 0)
    assert (measures["mostly_tracked"], measures["mostly_lost"]) == (0.5, 0.5)


def by_traccuracy(truth: Movie, prediction: Movie, *names: str) -> list[dict[str, Any]]:
    """What its metrics of these names find."""
    import traccuracy.matchers  # takes seconds
    import traccuracy.metrics

    graphs = [traccuracy.TrackingGraph(*graph(movie), location_keys=("y", "x")) for movie in (truth, prediction)]
    metrics = [getattr(traccuracy.metrics, name)() for name in names]
    results, _ = traccuracy.run_metrics(*graphs, traccuracy.matchers.CTCMatcher(), metrics)
    return [result["results"] for result in results]


def graph(movie: Movie) -> tuple[networkx.DiGraph, np.ndarray]:
    """Nodes and edges of a movie as traccuracy takes them, and its frames."""
    frames, rows = movie
    nodes = networkx.DiGraph()
    ends = {row[0]: row[2] for row in rows}
    for label, begin, end, parent in rows:
        for t in range(begin, end + 1):
            y, x = np.nonzero(frames[t] == label)
            box = [y.min(), x.min(), y.max() + 1, x.max() + 1]
            nodes.add_node(1000 * label + t, t=t, y=y.mean(), x=x.mean(), segmentation_id=label, bbox=box)
            if t > begin:
                nodes.add_edge(1000 * label + t - 1, 1000 * label + t)
        if parent:
            nodes.add_edge(1000 * parent + ends[parent], 1000 * label + begin)
    return nodes, np.stack(frames)


def without_only_children(movie: Movie) -> Movie:
    parents = [row[3] for row in movie[1]]
    return movie[0], tuple((*row[:3], row[3] if parents.count(row[3]) > 1 else 0) for row in movie[1])


@pytest.mark.filterwarnings("ignore:Node errors already calculated", "ignore:Edge errors already calculated")
def test_random_movies_as_traccuracy() -> None:
    """It takes a parent's only child for the same track, so no track has one here."""
    for pair in random_pairs(20, clean=True):
        truth, prediction = map(without_only_children, pair)
        measures = {
            **scores(truth, prediction),
            **tracking_measures(tracking_counts(compared(truth, prediction))),
        }
        ctc, chota, divisions = by_traccuracy(truth, prediction, "CTCMetrics", "CHOTAMetric", "DivisionMetrics")
        for name in ("DET", "TRA", "LNK"):
            assert measures[name.lower()] == pytest.approx(ctc[name], abs=1e-12), name
        assert float(measures["chota"]) == pytest.approx(chota["CHOTA"], abs=1e-12)
        if not isnan(f_score := divisions["Frame Buffer 0"]["Division F1"]):  # nan without any on either side
            assert measures["division_f_0"] == pytest.approx(f_score, abs=1e-12)


def test_three_cells_found_by_one_need_two_splits() -> None:
    """Of three cells costing 30 two splits cost 10; traccuracy counts one cell to be split."""
    truth, prediction = drawn(draw_movie("AABBCC  AABBCC")), drawn(draw_movie("DDDDDD  AABBCC"))
    assert scores(truth, prediction)["det"] == pytest.approx(1 - 10 / 60)
    assert challenge(truth, prediction)["DET"] == pytest.approx(1 - 10 / 60)
    (theirs,) = by_traccuracy(truth, prediction, "CTCMetrics")
    assert theirs["DET"] == pytest.approx(1 - 5 / 60)


def test_an_only_child_is_a_child_in_the_graph() -> None:
    """B goes on as C in the truth, in the prediction as B: one link of 12 is of the wrong kind, not for traccuracy."""
    truth = drawn(draw_movie("AAABBB  AAABBB  AAABBB  AAACCC  AAACCC"), "CB")
    prediction = drawn(draw_movie("AAABBB  AAABBB  AAABBB  AAABBB  AAABBB"))
    assert scores(truth, prediction)["lnk"] == pytest.approx(1 - 1 / 12)
    assert challenge(truth, prediction)["LNK"] == pytest.approx(1 - 1 / 12)
    (theirs,) = by_traccuracy(truth, prediction, "CTCMetrics")
    assert theirs["LNK"] == 1
