"""The network that scores what cells of a movie may become, by the descriptions of `tracking.candidates`."""

import torch
from torch import Tensor, nn

from cytoforge.tracking.candidates import CELL, DIVISION, LINK, Candidates

LIMIT = 5.0
"""standard deviations from the mean beyond which a value of a description does not count"""


class LinkScorer(nn.Module):
    """A small perceptron for each kind of choice: links, divisions, and what a cell is by itself.

    Descriptions are shifted and scaled by buffers, which `fit_scale` sets. 2,957 parameters at width 24.
    """

    def __init__(self, width: int = 24) -> None:
        """`width` of the hidden layers; raises ValueError below 1."""
        super().__init__()
        if width < 1:
            raise ValueError(f"a width must be 1 or more, got {width}")
        self.links, self.divisions, self.cells = (
            nn.Sequential(
                _Standard(inputs),
                nn.Linear(inputs, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, outputs),
            )
            for inputs, outputs in ((len(LINK), 1), (len(DIVISION), 1), (len(CELL), 3))
        )

    def forward(self, links: Tensor, divisions: Tensor, cells: Tensor) -> tuple[Tensor, ...]:
        """Return scores of links (K,) and divisions (M,), and that cells (N,) begin, end, and are none."""
        return self.links(links)[:, 0], self.divisions(divisions)[:, 0], *self.cells(cells).unbind(1)

    def scores(self, found: Candidates) -> list[Tensor]:
        """Return these scores of all that the cells of a movie may become, on the CPU."""
        weight = next(self.parameters())
        links, divisions, cells = (part.to(weight) for part in described(found))
        return [score.cpu() for score in self(links, divisions, cells)]

    def fit_scale(self, links: Tensor, divisions: Tensor, cells: Tensor) -> None:
        """Shift and scale descriptions so that these, (K, .), (M, .) and (N, .), have mean 0 and variance 1."""
        for part, values in ((self.links, links), (self.divisions, divisions), (self.cells, cells)):
            if len(values) > 1:
                standard = part[0]
                assert isinstance(standard, _Standard)
                standard.mean.copy_(values.mean(dim=0))
                standard.deviation.copy_(values.std(dim=0) + 1e-3)


class _Standard(nn.Module):
    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)


def described(found: Candidates) -> tuple[Tensor, Tensor, Tensor]:
    """Return the descriptions float32 of links, divisions and cells, as `LinkScorer` takes them."""
    links, divisions, cells = (
        torch.from_numpy(part).float() for part in (found.of_links, found.of_divisions, found.of_cells)
    )
    return links, divisions, cells
