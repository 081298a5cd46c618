"""What makes a generated image unfit: unfaithful to its mask, copied from the training, there twice."""

from math import isnan, nan

import numpy as np
import pytest
import torch

from cells import MERGED, NOTHING, ONE_MISSED_ONE_INVENTED, SPLIT, THREE_CELLS
from cytoforge.metrics import curation
from cytoforge.metrics.curation import copying, curate, distances, faithfulness, near_duplicates, nearest_distances


def points(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


class TestFaithfulness:
    def test_a_cell_missed_and_one_invented(self) -> None:
        found = faithfulness(THREE_CELLS, ONE_MISSED_ONE_INVENTED)
        assert (found.cells, found.matched, found.invented) == (3, 2, 1)
        assert found.share == pytest.approx(2 / 3)
        assert found.matched_iou == 1
        assert found.cell_iou.tolist() == [1, 1, 0]

    def test_outlines_that_fit_partly(self) -> None:
        found = faithfulness(THREE_CELLS, SPLIT)  # A matches with 8 of 12 pixels
        assert found.cell_iou == pytest.approx([8 / 12, 1, 1])
        assert (found.share, found.invented) == (1, 1)
        assert found.matched_iou == pytest.approx((8 / 12 + 2) / 3)
        assert faithfulness(THREE_CELLS, SPLIT, threshold=0.7).cell_iou == pytest.approx([0, 1, 1])

    def test_ids_need_not_be_consecutive(self) -> None:
        ids = np.array([0, 900, 7, 40])  # of background, A, B, C: the order is now B, C, A
        found = faithfulness(ids[THREE_CELLS], MERGED)
        assert found.cell_iou == pytest.approx([1, 0, 12 / 20])

    def test_nothing_asked_for_is_undefined_and_nothing_seen_is_0(self) -> None:
        empty = faithfulness(NOTHING, THREE_CELLS)
        assert isnan(empty.share) and isnan(empty.matched_iou)
        assert (empty.cells, empty.invented, empty.cell_iou.shape) == (0, 3, (0,))
        blank = faithfulness(THREE_CELLS, NOTHING)
        assert blank.share == 0 and isnan(blank.matched_iou)

    def test_sizes_must_agree(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            faithfulness(THREE_CELLS, THREE_CELLS[1:])


class TestNearness:
    def test_distances_are_exact(self) -> None:
        features = torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) + 100
        table = distances(features, features)
        assert (table.diagonal() == 0).all() and torch.equal(table, table.T)

    @pytest.mark.parametrize("block", [2, 1024])
    def test_nearest(self, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(curation, "BLOCK", block)
        distance, index = nearest_distances(points(0, 5, 7), points(1, 9, 4))
        assert distance.tolist() == [1, 1, 2]
        assert index.tolist() == [0, 2, 1]
        distance, index = nearest_distances(points(0, 5, 7, 3.5))
        assert distance.tolist() == [3.5, 1.5, 2, 1.5]
        assert index.tolist() == [3, 3, 1, 1]

    def test_nothing_to_be_near_to(self) -> None:
        with pytest.raises(ValueError, match="got 2 and 0"):
            nearest_distances(points(1, 2), torch.zeros(0, 1))
        with pytest.raises(ValueError, match="got 1 and 1"):
            nearest_distances(points(1))
        with pytest.raises(ValueError, match="got 0 and 2"):
            nearest_distances(torch.zeros(0, 1), points(1, 2))

    @pytest.mark.parametrize("block", [2, 1024])
    def test_duplicates_are_those_of_an_earlier_image_that_stays(
        self, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(curation, "BLOCK", block)
        assert near_duplicates(points(0, 1, 2, 3, 9), 1).tolist() == [False, True, False, True, False]
        assert near_duplicates(points(0, 0, 1), 0).tolist() == [False, True, False]


class TestCopying:
    training = points(0, 1, 3, 6)  # own nearest distances: 1, 1, 2, 3

    def test_by_hand(self) -> None:
        found = copying(points(0, 4.5, 30), self.training, "a network")
        assert found.distance == (0, 1.5, 24)
        assert found.nearest == (0, 2, 3)
        assert (found.network, found.training, found.median, found.training_median) == ("a network", 4, 1.5, 1.5)
        assert found.closer == pytest.approx((1 + 2 / 4 + 0) / 3)

    def test_copies_strangers_and_ties(self) -> None:
        assert copying(self.training, self.training, "").closer == 1
        assert copying(self.training + 1000, self.training, "").closer == 0
        assert copying(points(-1, -2), self.training, "").closer == pytest.approx((3 / 4 + 1.5 / 4) / 2)

    def test_images_of_one_kind_are_a_half(self) -> None:
        ours, theirs = torch.randn(2, 400, 3, generator=torch.Generator().manual_seed(1))
        assert copying(ours, theirs, "").closer == pytest.approx(0.5, abs=0.06)

    def test_a_single_training_image(self) -> None:
        found = copying(points(1, 2), points(4), "")
        assert isnan(found.training_median) and isnan(found.closer)
        assert found.distance == (3, 2)


class TestCurate:
    def test_duplicates_go_first_then_the_least_faithful(self) -> None:
        score, twice = [0.9, 0.2, 1.0, 0.5, 0.7], [False, False, True, False, False]
        kept = {keep: np.flatnonzero(curate(score, twice, keep)).tolist() for keep in (1, 0.8, 0.6, 0.21, 0.2)}
        assert kept == {1: [0, 1, 2, 3, 4], 0.8: [0, 1, 3, 4], 0.6: [0, 3, 4], 0.21: [0, 4], 0.2: [0]}

    def test_of_equals_the_earlier_stay_and_empty_masks_are_no_fault(self) -> None:
        assert curate([0.5, 0.5, 0.5], [False] * 3, 0.5).tolist() == [True, True, False]
        assert curate([0.5, nan], [False] * 2, 0.5).tolist() == [False, True]

    def test_shares_are_whole_images(self) -> None:
        assert curate(np.ones(10), np.zeros(10), 0.9).sum() == 9
        assert curate(np.ones(30), np.zeros(30), 0.1).sum() == 3
        assert curate(np.ones(3), np.zeros(3), 0.01).sum() == 1

    def test_what_makes_no_sense(self) -> None:
        for keep in (0, 1.1, -1):
            with pytest.raises(ValueError, match="keep lies in"):
                curate([1.0], [False], keep)
        with pytest.raises(ValueError, match="lengths are equal"):
            curate([1.0, 0.5], [False], 0.5)
