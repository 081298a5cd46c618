"""Links of a whole movie at once: what comes into question, the best choice by scores, and learning these."""

import itertools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import draw
from cytoforge.__main__ import main
from cytoforge.data.movie import read_sequences, read_tracks
from cytoforge.inference.tracker import Tracker
from cytoforge.metrics.comparison import compare
from cytoforge.metrics.segmentation import overlap
from cytoforge.metrics.tracking import tracking_counts, tracking_measures
from cytoforge.networks.linker import LinkScorer
from cytoforge.simulation.dynamics import Dynamics
from cytoforge.simulation.faults import Faults, shrunk, unsteady
from cytoforge.simulation.lineage import simulate_lineage
from cytoforge.simulation.masks import parametric_shapes
from cytoforge.tracking.candidates import CELL, DIVISION, LINK, Candidates, candidates
from cytoforge.tracking.likelihood import surprise, truth_of
from cytoforge.tracking.linking import Frame, OverlapLinker, assemble, numbered
from cytoforge.tracking.optimum import Scores, best_choice
from cytoforge.training.samplers.items import Drawing
from cytoforge.training.samplers.lineages import Example, ExampleBatch, LineageSampler, Tracked, simulated_like
from cytoforge.training.tasks.linker import _scores
from test_train_tracker import film

# A and B go one to the right; C divides into C and D
BEFORE = draw("""
    AA......
    AA......
    ..BB.CC.
    ..BB.CC.
    """)
AFTER = draw("""
    .AA.....
    .AA.CC..
    ...BB...
    ...BBDD.
    """)


def column(found: Candidates, name: str) -> np.ndarray:
    return found.of_links[:, LINK.index(name)]


def parting(by: int) -> np.ndarray:
    """Three groups of 25 cells of 8 x 8 pixels: the first has gone down by so many, the last one up."""
    labels = np.zeros((240, 640), np.int32)
    for number, (group, y, x) in enumerate(itertools.product(range(3), range(5), range(5)), 1):
        top, left = 60 + 36 * y + by * (1 - group), 20 + 230 * group + 36 * x
        labels[top : top + 8, left : left + 8] = number
    return labels


class TestCandidates:
    def test_links_by_hand(self) -> None:
        found = candidates([BEFORE, AFTER], gap=1)
        assert found.counts.tolist() == [3, 4]
        assert found.of_links.shape[1] == len(LINK)
        assert found.of_cells.shape == (7, len(CELL))
        own = [found.links.tolist().index([0, 3]), found.links.tolist().index([1, 4])]
        assert column(found, "IoU")[own] == pytest.approx([2 / 6, 2 / 6])
        # 4 pixels are the median area: a diameter is 2 sqrt(4 / pi), and a step of a pixel is 1 / that
        diameter = 2 * np.sqrt(4 / np.pi)
        assert column(found, "distance")[own] == pytest.approx([1 / diameter] * 2)
        assert column(found, "difference of areas")[own] == pytest.approx([0, 0])
        assert (column(found, "frames missed") == 0).all()

    def test_a_division_by_hand(self) -> None:
        found = candidates([BEFORE, AFTER], gap=1)
        (place,) = (k for k, row in enumerate(found.divisions.tolist()) if row[0] == 2 and sorted(row[1:]) == [5, 6])
        values = dict(zip(DIVISION, found.of_divisions[place], strict=True))
        # mother and daughters are 2 x 2, 2 x 1 and 2 x 1 pixels
        assert values["growth"] == pytest.approx(0)
        assert values["difference of the daughters' areas"] == pytest.approx(0)
        diameter = 2 * np.sqrt(4 / np.pi)
        assert values["distance of daughters"] == pytest.approx(np.hypot(2, 1) / diameter)
        assert values["lesser IoU"] == 0

    def test_a_gap_is_a_link_of_two_frames(self) -> None:
        empty = np.zeros_like(BEFORE)
        found = candidates([BEFORE, empty, BEFORE], gap=1)
        assert [0, 3] in found.links.tolist()
        assert (column(found, "frames missed") == 1).all()
        assert candidates([BEFORE, empty, BEFORE], gap=0).links.size == 0

    def test_descriptions_do_not_depend_on_the_size_of_pixels(self) -> None:
        def large(labels: np.ndarray, by: int) -> np.ndarray:
            return np.kron(labels, np.ones((by, by), np.int32))

        one, other = (candidates([large(BEFORE, by), large(AFTER, by)], gap=0) for by in (6, 12))
        assert one.links.tolist() == other.links.tolist()
        for name in ("distance", "distance beyond drift", "IoU", "growth", "lead on other successors"):
            assert column(one, name) == pytest.approx(column(other, name), abs=1e-6)

    def test_drift_is_that_of_the_cells_around(self) -> None:
        found = candidates([parting(0), parting(7)], gap=0)
        own = np.flatnonzero(found.links[:, 1] - found.links[:, 0] == 75)
        assert own.size == 75
        assert column(found, "distance beyond drift")[own] == pytest.approx(0, abs=1e-9)
        assert np.count_nonzero(column(found, "distance")[own] > 0.7) == 50

    def test_a_cell_that_is_missing_in_a_frame_is_looked_for_where_drift_has_taken_it(self) -> None:
        frames = [parting(0), parting(12), parting(25)]
        frames[1] = numbered(np.where(frames[1] == 13, 0, frames[1]))
        found = candidates(frames, gap=1)
        diameter = 2 * 8 / np.sqrt(np.pi)
        assert 25 / diameter > 2.5  # beyond reach without drift
        (place,) = np.flatnonzero((found.links == [12, 75 + 74 + 12]).all(axis=1))
        assert column(found, "distance beyond drift")[place] == pytest.approx(0, abs=1e-9)
        assert column(found, "frames missed")[place] == 1

    def test_frames_without_cells(self) -> None:
        nothing = np.zeros((5, 6), np.int32)
        found = candidates([nothing, nothing], gap=1)
        choice = best_choice(found, Scores(*(np.zeros(0) for _ in range(5))))
        assert found.pairs(choice.links, choice.divisions).shape == (0, 4)
        assert candidates([], gap=1).counts.size == 0


def graph(counts: list[int], links: list[tuple[int, int]], divisions: list[tuple[int, int, int]]) -> Candidates:
    return Candidates(
        counts=np.array(counts, np.int64),
        links=np.array(links, np.int64).reshape(-1, 2),
        divisions=np.array(divisions, np.int64).reshape(-1, 3),
        of_cells=np.zeros((sum(counts), len(CELL))),
        of_links=np.zeros((len(links), len(LINK))),
        of_divisions=np.zeros((len(divisions), len(DIVISION))),
    )


def tried_out(found: Candidates, scores: Scores) -> float:
    """The largest worth, of all choices."""
    total, frame, last = int(found.counts.sum()), found.frame, found.counts.size - 1
    best = -np.inf
    options = [((a,), (b,), 2 * s) for (a, b), s in zip(found.links.tolist(), scores.links, strict=True)]
    options += [((m,), (a, b), 3 * s) for (m, a, b), s in zip(found.divisions.tolist(), scores.divisions, strict=True)]
    for taken in itertools.product((False, True), repeat=len(options)):
        chosen = [option for option, yes in zip(options, taken, strict=True) if yes]
        before, after = [c for o in chosen for c in o[0]], [c for o in chosen for c in o[1]]
        if len(set(before)) < len(before) or len(set(after)) < len(after):
            continue
        worth = sum(option[2] for option in chosen)
        for cell in range(total):
            comes, goes = cell in after, cell in before
            origin = 0.0 if frame[cell] == 0 else scores.begins[cell]
            fate = 0.0 if frame[cell] == last else scores.ends[cell]
            alone = (0 if comes else origin) + (0 if goes else fate)
            none = scores.false[cell] * (int(frame[cell] > 0) + int(frame[cell] < last))
            worth += alone if comes or goes else max(alone, none)
        best = max(best, worth)
    return best


@st.composite
def problems(drawn: st.DrawFn) -> tuple[Candidates, Scores]:
    counts = drawn(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    frame = np.repeat(np.arange(len(counts)), counts)
    pairs = [(a, b) for a in range(frame.size) for b in range(frame.size) if 1 <= frame[b] - frame[a] <= 2]
    triples = [
        (m, a, b)
        for m in range(frame.size)
        for a, b in itertools.combinations(range(frame.size), 2)
        if frame[a] == frame[b] == frame[m] + 1
    ]
    links = drawn(st.lists(st.sampled_from(pairs), unique=True, max_size=7)) if pairs else []
    divisions = drawn(st.lists(st.sampled_from(triples), unique=True, max_size=3)) if triples else []
    score = st.floats(-8, 8, width=16)

    def values(number: int) -> np.ndarray:
        return np.array(drawn(st.lists(score, min_size=number, max_size=number)), np.float64)

    sizes = (len(links), len(divisions), frame.size, frame.size, frame.size)
    return graph(counts, links, divisions), Scores(*map(values, sizes))


class TestBestChoice:
    @given(problems())
    @settings(max_examples=150)
    def test_none_is_worth_more(self, problem: tuple[Candidates, Scores]) -> None:
        found, scores = problem
        choice = best_choice(found, scores)
        assert choice.worth == pytest.approx(tried_out(found, scores), abs=1e-6)
        before = [*found.links[choice.links, 0], *found.divisions[choice.divisions, 0]]
        after = [*found.links[choice.links, 1], *found.divisions[choice.divisions, 1:].ravel()]
        assert len(set(before)) == len(before)
        assert len(set(after)) == len(after)
        assert not set(choice.false.tolist()) & {*before, *after}

    def test_the_whole_movie_decides(self) -> None:
        # cell 1 fits 0 a little better than 2 does, but then 3 has nobody to become
        found = graph([2, 2], [(0, 2), (1, 2), (0, 3)], [])
        scores = Scores(np.array([-0.1, -0.2, -0.3]), np.zeros(0), *(np.full(4, -9.0) for _ in range(3)))
        choice = best_choice(found, scores)
        assert found.links[choice.links].tolist() == [[1, 2], [0, 3]]

    def test_pairs_are_those_of_links(self) -> None:
        found = graph([1, 2, 3], [(0, 1), (2, 5)], [(1, 3, 4)])
        assert found.pairs(np.array([0, 1]), np.array([0])).tolist() == [
            [0, 1, 1, 1],
            [1, 2, 2, 3],
            [1, 1, 2, 1],
            [1, 1, 2, 2],
        ]


def test_the_network_has_as_many_parameters_as_is_told() -> None:
    assert sum(parameter.numel() for parameter in LinkScorer().parameters()) == 2957


class TestLikelihood:
    def test_surprise_by_hand(self) -> None:
        # one cell, two that it may be: its fate is asked, their origins, each a softmax of three or four
        found = graph([1, 2], [(0, 1), (0, 2)], [])
        truth = truth_of(found, {0: (1,)}, np.zeros(3, bool))
        scores = [torch.tensor(values) for values in ([1.0, 0.5], [], [0.0, -1.0, -2.0], [-3.0, 0.0, 0.0], [-4.0] * 3)]
        fate = np.log(np.exp(1) + np.exp(0.5) + np.exp(-3) + np.exp(-4)) - 1
        first = np.log(np.exp(1) + np.exp(-1) + np.exp(-4)) - 1
        second = np.log(np.exp(0.5) + np.exp(-2) + np.exp(-4)) + 2
        assert float(surprise(found, scores, truth)) == pytest.approx(fate + (first + second) / 2, rel=1e-5)

    def test_what_is_true(self) -> None:
        found = graph([2, 3], [(0, 2), (1, 3), (1, 4)], [(1, 3, 4)])
        truth = truth_of(found, {1: (4, 3)}, np.array([True, False, False, False, False]))
        assert truth.links.tolist() == [False] * 3
        assert truth.divisions.tolist() == [True]
        assert truth.begins.tolist() == [False, True, True, False, False]
        assert truth.ends.tolist() == [False, False, True, True, True]
        assert truth.fate_known.tolist() == [True, True, False, False, False]

    def test_a_link_that_is_no_candidate_is_not_asked_for(self) -> None:
        found = graph([1, 1], [], [])
        truth = truth_of(found, {0: (1,)}, np.zeros(2, bool))
        assert not truth.fate_known.any()
        assert not truth.origin_known.any()

    def test_descent_lowers_it(self) -> None:
        example = Tracked.of([BEFORE, AFTER], {3: 3}).example()
        scorer = LinkScorer(8)
        optimiser = torch.optim.Adam(scorer.parameters(), 0.05)
        losses = []
        for _ in range(30):
            loss = surprise(example.found, scorer.scores(example.found), example.truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0] / 4


def disc_movie() -> np.ndarray:
    labels = np.zeros((60, 60), np.int32)
    y, x = np.mgrid[:60, :60]
    for number, middle in enumerate(((15, 15), (15, 44), (44, 15), (44, 44)), 1):
        labels[np.hypot(y - middle[0], x - middle[1]) < 9] = number
    return labels


class TestFaults:
    def test_without_shares_nothing_changes(self) -> None:
        labels = disc_movie()
        faults = Faults(missed=0, invented=0, merged=0, split=0)
        assert (faults(labels, np.random.default_rng(0)) == labels).all()

    def test_each_kind(self) -> None:
        labels, draw = disc_movie(), np.random.default_rng(0)
        none = {"missed": 0.0, "invented": 0.0, "merged": 0.0, "split": 0.0}
        assert not Faults(**{**none, "missed": 1.0})(labels, draw).any()
        split = Faults(**{**none, "split": 1.0})(labels, draw)
        assert np.unique(split).size == 9
        assert ((split > 0) == (labels > 0)).all()
        for cell in range(1, 5):  # the larger piece keeps the id
            assert np.count_nonzero(split == cell) >= np.count_nonzero(labels == cell) / 2
        invented = Faults(**{**none, "invented": 1.0})(labels, draw)
        assert (invented[labels > 0] == labels[labels > 0]).all()
        assert np.unique(invented).size > 5
        touching = np.where(labels == 2, 0, labels)
        touching[:, 20:][touching[:, 20:] == 0] = 7
        merged = Faults(**{**none, "merged": 1.0})(touching, draw)
        assert np.unique(merged).size < np.unique(touching).size

    def test_cells_tremble_by_as_much_as_they_shall(self) -> None:
        labels = disc_movie()
        assert (unsteady(labels, 0.0, np.random.default_rng(0)) == labels).all()
        moved = unsteady(labels, 0.1, np.random.default_rng(0))
        steps = [np.argwhere(moved == cell).mean(0) - np.argwhere(labels == cell).mean(0) for cell in range(1, 5)]
        assert 0 < np.abs(steps).max() <= 18
        assert (unsteady(labels, 0.1, np.random.default_rng(0)) == moved).all()

    def test_a_cell_shrinks_about_its_middle(self) -> None:
        labels = disc_movie()
        small = shrunk(labels, 1, 0.5)
        area = np.count_nonzero(labels == 1)
        assert np.count_nonzero(small == 1) == pytest.approx(area / 2, rel=0.05)
        assert np.argwhere(small == 1).mean(axis=0) == pytest.approx([15, 15], abs=0.3)
        assert (small[labels != 1] == labels[labels != 1]).all()
        thin = np.argwhere(shrunk(labels, 1, 0.5, np.array([0.0, 2.0])) == 1)
        assert np.ptp(thin, axis=0)[1] < np.ptp(thin, axis=0)[0] / 1.5


class TestExamples:
    def test_division_and_gap_of_a_movie(self) -> None:
        frames = [BEFORE, AFTER, np.where(AFTER == 1, 0, AFTER), AFTER]
        movie = Tracked.of([np.where(BEFORE == 3, 9, BEFORE), *frames[1:]], {3: 9, 4: 9})
        example = movie.example()
        true = example.found.divisions[example.truth.divisions]
        assert [row[0] for row in true.tolist()] == [2]
        gaps = example.found.links[example.truth.links & (column(example.found, "frames missed") == 1)]
        assert gaps.tolist() == [[3, 10]]  # A is missing in the third frame
        assert not example.truth.false.any()

    def test_every_second_frame_bridges_tracks_that_are_left_out(self) -> None:
        first, second, third = (np.where(AFTER == 1, label, 0).astype(np.int32) for label in (5, 6, 7))
        movie = Tracked.of([first, second, third], {6: 5, 7: 6})
        assert movie.part(0, 2, 2, np.s_[:, :]).tracks == ((5, 0, 0, 0), (7, 1, 1, 5))
        assert movie.part(0, 3, 1, np.s_[2:, 3:]).tracks == ()

    def test_daughters_that_are_not_both_seen_next_are_not_asked_for(self) -> None:
        late = np.where(AFTER == 4, 0, AFTER)
        movie = Tracked.of([np.where(BEFORE == 3, 9, BEFORE), late, AFTER], {3: 9, 4: 9})
        truth = movie.example().truth
        assert not truth.divisions.any()
        assert not truth.fate_known[2]
        assert not truth.origin_known[[4, 9]].any()
        assert truth.origin_known[[3, 5]].all()

    def test_cells_that_masks_invent_are_none(self) -> None:
        wrong = [np.where(BEFORE == 0, 0, BEFORE), np.where(AFTER == 2, 0, AFTER)]
        wrong[1][0, 6:] = 9
        example = Tracked.of([BEFORE, AFTER], {}).example(wrong)
        assert int(example.truth.false.sum()) == 1

    def test_draws_depend_on_their_place_alone(self) -> None:
        labels = disc_movie()
        movie = Tracked.of([labels] * 5, {})

        def drawn(rank: int, world: int) -> list[list[list[float]]]:
            drawing = Drawing(size=(1, 1), count=4, policy="flip", seed=3, ranks=(rank, world))
            return [one.found.of_links.tolist() for one in LineageSampler([movie], [], drawing)(2).examples]

        whole = drawn(0, 1)
        assert drawn(0, 2) + drawn(1, 2) == [whole[0], whole[2], whole[1], whole[3]]

    def test_simulated_cells_are_like_those_of_the_movie(self) -> None:
        movie = Tracked.of([disc_movie()] * 3, {})
        like = simulated_like([movie], np.random.default_rng(0))
        assert len(like) == 4
        # though no cell of the movie divides
        assert any(
            row[3]
            for seed in range(6)
            for one in simulated_like([movie], np.random.default_rng(seed))
            for row in one.tracks
        )
        area = np.median(np.unique(like[0].labels[0], return_counts=True)[1][1:])
        assert area == pytest.approx(np.count_nonzero(disc_movie() == 1), rel=0.2)


def identity(truth: list[np.ndarray], rows: list[tuple[int, int, int, int]], found: list[np.ndarray], tracks) -> float:
    tables = {time: overlap(one, other) for time, (one, other) in enumerate(zip(truth, found, strict=True))}
    comparison = compare(tables, rows, [tuple(map(int, row)) for row in tracks])
    return float(tracking_measures(tracking_counts(comparison))["idf1"])


class TestTrackers:
    def test_the_base_tracker_bears_wrong_masks_of_a_culture_it_has_not_seen(self) -> None:
        draw = np.random.default_rng(123456)
        dynamics = Dynamics(speed=0.3, spread=0.5, division_rate=0.02)
        lineage = simulate_lineage(
            parametric_shapes(draw), (220, 220), 10, draw, density=0.3, dynamics=dynamics, layout="mixed"
        )
        truth = list(lineage.labels)
        faults = Faults(missed=0.05, invented=0.03, merged=0.05, split=0.02)
        masks = [numbered(faults(labels, draw)) for labels in truth]
        found = Tracker.load("base").track(masks)
        simple = assemble(OverlapLinker()(Frame(labels) for labels in masks))
        theirs = [simple.relabelled(time, labels) for time, labels in enumerate(masks)]
        ours = identity(truth, list(lineage.tracks), list(found.labels), found.tracks)
        assert ours > identity(truth, list(lineage.tracks), theirs, simple.tracks) + 0.02
        assert ours > 0.8

    def test_train_and_track(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        movie, run = film(tmp_path / "movie", frames=8), tmp_path / "run"
        line = ["train", "tracker", str(movie), "--out", str(run), "--steps", "4", "--preset", "tiny", "--threads", "1"]
        assert main(line) == 0
        assert "of simulated cells like these" in capsys.readouterr().err
        assert json.loads((run / "config.json").read_text())["networks"]["tracker"]["network"] == "link-scorer"
        assert main(["track", str(run), str(movie), "--out", str(tmp_path / "out")]) == 0
        rows = read_tracks(read_sequences(tmp_path / "out")[0].tracks["RES"])
        assert len([row for row in rows if row.parent]) == 2  # A has divided
        assert "false cells, kept as tracks of a frame" in capsys.readouterr().out

    def test_a_training_goes_on_bit_by_bit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        movie, cut = film(tmp_path / "movie", frames=6), LineageSampler.cut

        def train(name: str) -> int:
            line = ["train", "tracker", str(movie), "--out", str(tmp_path / name), "--preset", "tiny", "--threads", "1"]
            return main([*line, "--start", "scratch", "--steps", "4"])

        def interrupted(sampler: LineageSampler, step: int, plan: None) -> ExampleBatch:
            if step == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return cut(sampler, step, plan)

        assert train("whole") == 0
        with monkeypatch.context() as patch:
            patch.setattr(LineageSampler, "cut", interrupted)
            assert train("parts") == 130
        assert train("parts") == 0
        one, other = (tmp_path / name / "weights" / "tracker.safetensors" for name in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes()

    def test_wrong_links_count_as_wrong(self) -> None:
        found = graph([2, 2], [(0, 2), (1, 3), (0, 3), (1, 2)], [])
        example = Example(found, truth_of(found, {0: (2,), 1: (3,)}, np.zeros(4, bool)))
        none = np.zeros(0, np.int64)
        assert _scores(example, True, True, (np.array([0, 1]), none)).f_score == (1.0,)
        assert _scores(example, True, True, (np.array([2, 3]), none)).f_score == (0.0,)
        assert _scores(example, True, True, (np.array([0]), none)).f_score == (pytest.approx(2 / 3),)

    @pytest.mark.parametrize(
        ("flags", "problem"),
        [
            ("--with masks", "--with belongs to --method deepsea"),
            ("--method deepsea --start base", "--start belongs to --method global"),
            ("--accumulate 2", "--accumulate belongs to --method deepsea"),
            ("--norm group", "--norm belongs to --method deepsea"),
        ],
    )
    def test_what_does_not_fit(
        self, flags: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        movie = film(tmp_path / "movie", frames=4)
        flags = flags.replace("masks", str(movie))
        assert main(["train", "tracker", str(movie), "--out", str(tmp_path / "x"), *flags.split()]) == 2
        assert problem in capsys.readouterr().err
