"""Scores of segmentation: drawn cases, published numbers, independent code, properties."""

import re
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from cells import (
    GREEDY_TRAP,
    MERGED,
    NOTHING,
    ONE_MISSED_ONE_INVENTED,
    SPLIT,
    THREE_CELLS,
    TOUCHING,
    TOUCHING_AS_ONE,
    TWO_HALVES,
    draw,
)
from cytoforge.metrics.segmentation import (
    METRICS,
    THRESHOLDS,
    ImageScores,
    match,
    overlap,
    paper_components,
    score_overlap,
    segmentation_scores,
    summarise,
)

GOLDEN = Path(__file__).parent / "golden"
Labels = NDArray[np.int32]
ALL = (1.0,) * 5
ZERO = (0.0,) * 5
UNDEFINED = pytest.approx((nan,) * 5, nan_ok=True)


def label_images(size: int = 8, cells: int = 5) -> st.SearchStrategy[Labels]:
    return hnp.arrays(np.int32, (size, size), elements=st.integers(0, cells))


def disc(centre: tuple[int, int], radius: int, size: int = 40) -> Labels:
    y, x = np.ogrid[:size, :size]
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2).astype(np.int32)


def counts(scores: ImageScores, k: int = 0) -> tuple[int, int, int]:
    return scores.true_positives[k], scores.false_positives[k], scores.false_negatives[k]


# --- drawn cases -----------------------------------------------------------------------------------------------------


def test_a_perfect_segmentation_scores_exactly_one() -> None:
    scores = segmentation_scores(THREE_CELLS, THREE_CELLS)
    for name in METRICS:
        assert getattr(scores, name) == ALL
    assert scores.dice == 1.0
    assert scores.true_positives == (3,) * 5


def test_nothing_found_has_no_precision_and_no_recall() -> None:
    scores = segmentation_scores(THREE_CELLS, NOTHING)
    assert scores.recall == scores.f_score == scores.average_precision == ZERO
    assert scores.precision == UNDEFINED
    assert scores.matched_iou == UNDEFINED
    assert (scores.dice, counts(scores)) == (0.0, (0, 0, 3))


def test_cells_found_where_nothing_is() -> None:
    scores = segmentation_scores(NOTHING, THREE_CELLS)
    assert scores.precision == scores.f_score == scores.average_precision == ZERO
    assert scores.recall == UNDEFINED
    assert (scores.dice, counts(scores)) == (0.0, (0, 3, 0))


def test_empty_against_empty_is_undefined() -> None:
    scores = segmentation_scores(NOTHING, NOTHING)
    for name in METRICS:
        assert getattr(scores, name) == UNDEFINED
    assert isnan(scores.dice)


def test_missed_and_invented_cells() -> None:
    scores = segmentation_scores(THREE_CELLS, ONE_MISSED_ONE_INVENTED)
    assert counts(scores) == (2, 1, 1)
    assert scores.precision[0] == scores.recall[0] == scores.f_score[0] == pytest.approx(2 / 3)
    assert scores.average_precision[0] == 2 / 4
    assert scores.dice == pytest.approx(2 * 20 / (28 + 24))


def test_split_cell_matches_its_larger_part() -> None:
    scores = segmentation_scores(THREE_CELLS, SPLIT)
    assert scores.true_positives == (3, 3, 2, 2, 2)  # 8/12 counts up to 0.6
    assert scores.false_positives == (1, 1, 2, 2, 2)
    assert scores.matched_iou[0] == pytest.approx((1 + 1 + 8 / 12) / 3)
    assert scores.dice == 1.0


def test_merged_cells_match_once_and_a_threshold_met_exactly_counts() -> None:
    scores = segmentation_scores(THREE_CELLS, MERGED)
    assert scores.true_positives == (2, 2, 1, 1, 1)  # 12/20 is exactly 0.6
    assert scores.false_negatives == (1, 1, 2, 2, 2)


def test_touching_cells_stay_two_by_instances_and_become_one_on_paper() -> None:
    assert segmentation_scores(TOUCHING, TOUCHING).truth_cells == 2
    assert segmentation_scores(TOUCHING, TOUCHING, protocol="paper").truth_cells == 1
    assert counts(segmentation_scores(TOUCHING, TOUCHING_AS_ONE)) == (1, 0, 1)
    assert counts(segmentation_scores(TOUCHING, TOUCHING_AS_ONE, protocol="paper")) == (1, 0, 0)


def test_iou_of_exactly_one_half_counts_once() -> None:
    truth, prediction = TWO_HALVES
    assert overlap(truth, prediction).iou().tolist() == [0.5, 0.5]
    assert counts(segmentation_scores(truth, prediction)) == (1, 1, 0)
    assert counts(segmentation_scores(prediction, truth)) == (1, 0, 1)
    assert segmentation_scores(truth, prediction, (0.5 + 1e-9,)).true_positives == (0,)


def test_iou_of_exactly_one_half_fails_on_paper() -> None:
    truth = np.kron(draw("AA\nAA"), np.ones((6, 6), np.int32))
    half = np.where(np.arange(12) < 6, truth, 0)
    assert segmentation_scores(truth, half).true_positives[0] == 1
    assert segmentation_scores(truth, half, protocol="paper").true_positives[0] == 0


def test_matching_is_optimal_where_greedy_is_not() -> None:
    truth, prediction = GREEDY_TRAP
    table = overlap(truth, prediction)
    best = int(table.iou().argmax())
    rivals = (table.pair_truth == table.pair_truth[best]) | (table.pair_prediction == table.pair_prediction[best])
    assert rivals.all()  # taking the best pair first leaves no other
    assert counts(segmentation_scores(truth, prediction, (0.3,))) == (2, 0, 0)
    pairs = match(truth, prediction, 0.3)
    assert dict(zip(pairs.truth_ids.tolist(), pairs.prediction_ids.tolist(), strict=True)) == {1: 3, 2: 4}
    assert sorted(pairs.iou) == [4 / 11, 3 / 8]


def test_of_equally_many_matches_the_best_overlap_is_taken() -> None:
    truth, prediction = draw("AAAAAAAAAA"), draw("BBBCCCCCC.")
    assert match(truth, prediction, 0.3).prediction_ids.tolist() == [3]
    assert match(truth, prediction, 0.7).prediction_ids.tolist() == []


def test_ids_may_be_shifted_huge_or_unsigned() -> None:
    expected = segmentation_scores(THREE_CELLS, SPLIT)
    foreground = THREE_CELLS > 0
    for kind, shift in (
        (np.int64, 10**12),
        (np.int32, 2**31 - 10),
        (np.uint16, 65000),
        (np.uint64, 2**62),
        (np.int8, 9),
    ):
        moved = np.where(foreground, THREE_CELLS.astype(kind) + kind(shift), kind(0))
        assert moved.dtype == kind
        assert segmentation_scores(moved, SPLIT) == expected
    pairs = match(THREE_CELLS.astype(np.int64) * 10**15, THREE_CELLS)
    assert pairs.truth_ids.tolist() == [10**15, 2 * 10**15, 3 * 10**15]


def test_masks_without_ids_and_views_without_order_in_memory() -> None:
    assert segmentation_scores(THREE_CELLS > 0, THREE_CELLS > 0).truth_cells == 1
    assert segmentation_scores(THREE_CELLS.T, np.asfortranarray(SPLIT.T)) == segmentation_scores(THREE_CELLS, SPLIT)
    assert segmentation_scores(THREE_CELLS[::-1] > 0, SPLIT[::-1] > 0).dice == 1.0


def test_an_image_without_background_and_one_without_pixels() -> None:
    full = np.ones((4, 5), np.int32)
    assert segmentation_scores(full, full).f_score == ALL
    assert segmentation_scores(full[:0], full[:0]).f_score == UNDEFINED


def test_overlap_table_of_a_drawing() -> None:
    table = overlap(THREE_CELLS, SPLIT)
    assert table.truth_ids.tolist() == [1, 2, 3]
    assert table.prediction_ids.tolist() == [1, 2, 3, 4]
    assert table.truth_areas.tolist() == [12, 8, 8]
    assert table.prediction_areas.tolist() == [8, 8, 8, 4]
    pairs = zip(table.pair_truth.tolist(), table.pair_prediction.tolist(), table.intersection.tolist(), strict=True)
    assert set(pairs) == {(0, 0, 8), (0, 3, 4), (1, 1, 8), (2, 2, 8)}


# --- the published evaluation ----------------------------------------------------------------------------------------
# Numbers made by running the published code (abzargar/cGAN-Seg, commit ab616ee); it computes in float32.


def test_paper_arithmetic_gives_the_published_numbers() -> None:
    golden = np.load(GOLDEN / "metrics.npz")
    assert tuple(golden["thresholds"]) == THRESHOLDS
    tables = [overlap(truth, prediction) for truth, prediction in zip(golden["true"], golden["pred"], strict=True)]
    scores = {str(i): score_overlap(table, THRESHOLDS, "paper", dice=nan) for i, table in enumerate(tables)}
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f_score", "fscore")):
        rows = np.array([getattr(image, ours) for image in scores.values()])
        np.testing.assert_allclose(rows, golden[theirs], rtol=2e-7, atol=0)
        means = [estimate.value for estimate in summarise(scores, np.random.default_rng(0)).mean[ours]]
        np.testing.assert_allclose(means, golden[f"mean_{theirs}"], rtol=2e-7, atol=0)


@pytest.mark.parametrize("image", [0, 2])
def test_paper_overlap_and_iou_give_the_published_tables(image: int) -> None:
    golden = np.load(GOLDEN / "metrics.npz")
    table = overlap(golden["true"][image], golden["pred"][image])
    iou = np.zeros((len(table.truth_ids), len(table.prediction_ids)))
    iou[table.pair_truth, table.pair_prediction] = table.iou(1e-6)
    np.testing.assert_allclose(iou, golden[f"iou{image}"], rtol=1e-12, atol=0)
    if image == 0:
        pixels = np.zeros(iou.shape, np.int64)
        pixels[table.pair_truth, table.pair_prediction] = table.intersection
        np.testing.assert_array_equal(pixels, golden["overlap0"][1:, 1:])
        np.testing.assert_array_equal(table.truth_areas, golden["overlap0"][1:].sum(axis=1))
        np.testing.assert_array_equal(table.prediction_areas, golden["overlap0"][:, 1:].sum(axis=0))


def test_paper_dice_gives_the_published_numbers() -> None:
    golden = np.load(GOLDEN / "multiclass_dice.npz")
    pairs = zip(golden["true"], golden["pred"], strict=True)
    scores = {str(i): segmentation_scores(*pair, protocol="paper") for i, pair in enumerate(pairs)}
    np.testing.assert_allclose([image.dice for image in scores.values()], golden["dice_per_image"], rtol=2e-7)
    assert summarise(scores, np.random.default_rng(0)).dice.value == pytest.approx(float(golden["dice_fg"]), rel=2e-7)


def test_paper_components_are_those_of_the_published_masks() -> None:
    """The published mask path is nearest resize, 2 x 2 erosion, removal of small components; the last is ours."""
    golden = np.load(GOLDEN / "mask_resize_cgan.npz")
    height, width = golden["mask_out"].shape
    small = np.array(Image.fromarray(golden["mask_in"]).resize((width, height), Image.Resampling.NEAREST))
    eroded = ndimage.minimum_filter(small, size=2, mode="constant", cval=1)
    np.testing.assert_array_equal(paper_components(eroded) > 0, golden["mask_out"])
    assert not golden["mask_out"][:5, :5].any()
    eroded[:3, :4] = 1  # 12 pixels that the published path would have removed
    np.testing.assert_array_equal(paper_components(eroded) > 0, golden["mask_out"])


def test_paper_components_of_fifteen_pixels_stay_and_diagonals_do_not_join() -> None:
    exact = draw("AAAAA...\nAAAAA...\nAAAAA...\n.....BBB\n.....BBB\n.....BBB\n.....BBB\n.....BBB")
    cells = paper_components(np.minimum(exact, 1))
    assert np.unique(cells).tolist() == [0, 1, 2]
    exact[0, 0] = 0
    assert np.unique(paper_components(exact)).tolist() == [0, 2]
    assert paper_components(NOTHING).max() == 0


def test_paper_gives_empty_images_no_credit_but_full_dice() -> None:
    scores = segmentation_scores(NOTHING, NOTHING, protocol="paper")
    assert scores.precision == scores.recall == scores.f_score == ZERO
    assert scores.dice == 1.0
    perfect = segmentation_scores(disc((9, 9), 5), disc((9, 9), 5), protocol="paper")
    assert 0.999998 < perfect.f_score[0] < 1


def test_paper_dice_counts_what_the_component_rule_drops() -> None:
    truth, crumb = disc((9, 9), 5), disc((30, 30), 1)
    scores = segmentation_scores(truth, truth + crumb, protocol="paper")
    assert counts(scores) == (1, 0, 0)
    assert scores.dice == pytest.approx(2 * truth.sum() / (2 * truth.sum() + crumb.sum()))


# --- independent code ------------------------------------------------------------------------------------------------


def dense_counts(truth: Labels, prediction: Labels, threshold: float) -> tuple[int, float]:
    """Matches and their IoU sum from full masks, all pairs and one dense assignment."""
    left = [truth == i for i in np.unique(truth) if i]
    right = [prediction == i for i in np.unique(prediction) if i]
    if not left or not right:
        return 0, 0.0
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in right] for a in left])
    gain = np.where(iou >= threshold, 1000 + iou, 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    taken = iou[rows, columns][iou[rows, columns] >= threshold]
    return len(taken), float(taken.sum())


@given(label_images(), label_images(), st.sampled_from([0.05, 0.1, 0.2, 1 / 3, 0.5, 0.6, 1.0]))
def test_agrees_with_all_pairs_and_a_dense_assignment(truth: Labels, prediction: Labels, threshold: float) -> None:
    pairs = match(truth, prediction, threshold)
    matches, total = dense_counts(truth, prediction, threshold)
    assert len(pairs.iou) == matches
    assert pairs.iou.sum() == pytest.approx(total)
    assert len(set(pairs.truth_ids.tolist())) == len(set(pairs.prediction_ids.tolist())) == matches


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_panoptic_quality_of_monai(seed: int) -> None:
    from monai.metrics.panoptic_quality import compute_panoptic_quality  # takes a second

    generator = np.random.default_rng(seed)
    truth, prediction = np.zeros((2, 40, 40), np.int32)
    for cell in range(1, 13):
        y, x = generator.integers(3, 37, 2).tolist()
        truth[disc((y, x), 5) > 0] = cell
        dy, dx = generator.integers(-2, 3, 2).tolist()
        prediction[disc((y + dy, x + dx), 5) > 0] = 20 - cell
    threshold = 0.5 + 1e-7  # theirs asks for more than the threshold, ours for no less
    theirs = compute_panoptic_quality(
        torch.from_numpy(prediction),
        torch.from_numpy(truth),
        match_iou_threshold=threshold,
        output_confusion_matrix=True,
    )
    ours = segmentation_scores(truth, prediction, (threshold,))
    assert counts(ours) == tuple(theirs[:3].int().tolist())
    assert ours.true_positives[0] > 0
    assert ours.matched_iou[0] * ours.true_positives[0] == pytest.approx(float(theirs[3]), rel=1e-6)


# --- properties ------------------------------------------------------------------------------------------------------


@given(label_images(), label_images(), st.permutations(range(1, 6)), st.sampled_from(["instances", "paper"]))
def test_scores_do_not_depend_on_ids(truth: Labels, prediction: Labels, order: list[int], protocol: str) -> None:
    ids = np.array([0, *order], dtype=np.int64) * 7
    expected = segmentation_scores(truth, prediction, (0.2, 0.5, 0.9), protocol)  # type: ignore[arg-type]
    relabelled = segmentation_scores(ids[truth], ids[prediction], (0.2, 0.5, 0.9), protocol)  # type: ignore[arg-type]
    for name in ("true_positives", "false_positives", "false_negatives", *METRICS):
        assert getattr(relabelled, name) == pytest.approx(getattr(expected, name), nan_ok=True)
    assert relabelled.dice == pytest.approx(expected.dice, nan_ok=True)


@given(label_images(), label_images(), st.sampled_from(["instances", "paper"]))
def test_precision_and_recall_swap_with_the_sides(truth: Labels, prediction: Labels, protocol: str) -> None:
    there = segmentation_scores(truth, prediction, (0.2, 0.5), protocol)  # type: ignore[arg-type]
    back = segmentation_scores(prediction, truth, (0.2, 0.5), protocol)  # type: ignore[arg-type]
    assert there.precision == pytest.approx(back.recall, nan_ok=True)
    for name in ("f_score", "average_precision", "matched_iou", "dice"):
        assert getattr(there, name) == pytest.approx(getattr(back, name), nan_ok=True)


@given(label_images(), label_images())
def test_matches_never_grow_with_the_threshold(truth: Labels, prediction: Labels) -> None:
    matches = segmentation_scores(truth, prediction, (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)).true_positives
    assert list(matches) == sorted(matches, reverse=True)


@given(label_images(), label_images())
def test_counts_add_up_and_scores_stay_in_range(truth: Labels, prediction: Labels) -> None:
    scores = segmentation_scores(truth, prediction)
    for k in range(len(THRESHOLDS)):
        tp, fp, fn = counts(scores, k)
        assert (tp + fp, tp + fn) == (scores.predicted_cells, scores.truth_cells)
        for name in METRICS:
            value = getattr(scores, name)[k]
            assert isnan(value) or 0 <= value <= 1


# --- guards ----------------------------------------------------------------------------------------------------------


def test_guards() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(5, 12\) and \(12, 5\)"):
        segmentation_scores(THREE_CELLS, THREE_CELLS.T)
    with pytest.raises(ValueError, match=r"one shape, got \(5, 12\) and \(5, 11\)"):
        segmentation_scores(THREE_CELLS, THREE_CELLS[:, 1:], protocol="paper")
    with pytest.raises(ValueError, match="prediction must hold integer labels, got float64"):
        overlap(THREE_CELLS, THREE_CELLS.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="truth must hold labels >= 0, got -3"):
        overlap(-THREE_CELLS, THREE_CELLS)
    with pytest.raises(ValueError, match=r"IoU thresholds must lie in \(0, 1\], got \(0.5, 0.0\)"):
        segmentation_scores(THREE_CELLS, SPLIT, (0.5, 0.0))
    with pytest.raises(ValueError, match=r"\(0, 1\], got \(1.1,\)"):
        match(THREE_CELLS, SPLIT, 1.1)
    with pytest.raises(ValueError, match=r"\(0, 1\], got \(\)"):
        segmentation_scores(THREE_CELLS, SPLIT, ())
    with pytest.raises(ValueError, match="protocol must be one of instances, paper, got 'cells'"):
        segmentation_scores(THREE_CELLS, SPLIT, protocol="cells")  # type: ignore[arg-type]


def test_drawings_are_checked() -> None:
    assert draw("""
        .A
        zB
        """).tolist() == [[0, 1], [52, 2]]
    with pytest.raises(ValueError, match="one length"):
        draw("AA\nA")
    with pytest.raises(ValueError, match="and letters can be drawn, got"):
        draw("A1")


def test_the_example_of_the_documentation_runs() -> None:
    text = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    exec(compile(example, "metrics.md", "exec"), {})
