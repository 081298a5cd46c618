"""Generated images against the nearest training images."""

from math import isnan

import pytest
import torch

from cytoforge.metrics import copying as module
from cytoforge.metrics.copying import copying, distances, nearest_distances


def points(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


class TestNearness:
    def test_distances_are_exact(self) -> None:
        features = torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) + 100
        table = distances(features, features)
        assert (table.diagonal() == 0).all() and torch.equal(table, table.T)

    @pytest.mark.parametrize("block", [2, 1024])
    def test_nearest(self, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "BLOCK", block)
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
