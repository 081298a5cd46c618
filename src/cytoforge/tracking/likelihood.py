"""How likely the true links of a movie are by scores of all that its cells may become: what linking learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.tracking.candidates import Candidates

LEAST = -1e9
"""a score below all others"""


@dataclass(frozen=True)
class Truth:
    """Which choices are true; each array is bool."""

    links: NDArray[np.bool_]  # (K,)
    divisions: NDArray[np.bool_]  # (M,)
    begins: NDArray[np.bool_]  # (N,)
    ends: NDArray[np.bool_]  # (N,)
    false: NDArray[np.bool_]  # (N,)
    origin_known: NDArray[np.bool_]
    """(N,) whether it is asked where a cell comes from, and the true answer is among the choices"""
    fate_known: NDArray[np.bool_]
    """(N,) the same of what it becomes"""


def truth_of(found: Candidates, successors: Mapping[int, Sequence[int]], false: NDArray[np.bool_]) -> Truth:
    """Return the true choices, given the cells that each becomes, two after a division; `false` (N,) are no cells.

    More than two daughters are no choice that could be made: such a division is left out.
    """
    total = int(found.counts.sum())
    becomes = np.full(total, -1)
    daughters = np.full((total, 2), -1)
    for cell, after in successors.items():
        if len(after) == 1:
            becomes[cell] = after[0]
        elif len(after) == 2:
            daughters[cell] = sorted(after)
    links = becomes[found.links[:, 0]] == found.links[:, 1]
    divisions = (daughters[found.divisions[:, 0]] == np.sort(found.divisions[:, 1:], axis=1)).all(axis=1)
    goes, comes = np.zeros(total, bool), np.zeros(total, bool)
    goes[list(successors)] = True
    comes[[cell for after in successors.values() for cell in after]] = True
    found_origin, found_fate = np.zeros(total, bool), np.zeros(total, bool)
    found_origin[found.links[links, 1]] = True
    found_origin[found.divisions[divisions, 1:]] = True
    found_fate[found.links[links, 0]] = True
    found_fate[found.divisions[divisions, 0]] = True
    return Truth(
        links=links,
        divisions=divisions,
        begins=~comes & ~false,
        ends=~goes & ~false,
        false=false,
        origin_known=(found.frame > 0) & (found_origin | ~comes),
        fate_known=(found.frame < found.counts.size - 1) & (found_fate | ~goes),
    )


def surprise(found: Candidates, scores: Sequence[Tensor], truth: Truth) -> Tensor:
    """Return the mean negative log-likelihood, over cells, of where they come from and of what they become.

    Each cell chooses among what comes into question for it, by a softmax of the `scores`: those of links (K,),
    divisions (M,), and that cells (N,) begin, end, and are none. The sum over all cells, each with both of its sides,
    is a pseudo-likelihood (Besag 1975) of the choice that `optimum.best_choice` finds.
    """
    links, divisions, begins, ends, false = scores
    before, after = torch.from_numpy(found.links).unbind(1)
    mother, one, two = torch.from_numpy(found.divisions).unbind(1)
    true_links, true_divisions = torch.from_numpy(truth.links), torch.from_numpy(truth.divisions)
    every = torch.arange(len(begins))
    none = torch.from_numpy(truth.false)
    losses = []
    for known, choices in (
        (
            truth.origin_known,
            [
                (after, links, true_links),
                (one, divisions, true_divisions),
                (two, divisions, true_divisions),
                (every, begins, torch.from_numpy(truth.begins)),
                (every, false, none),
            ],
        ),
        (
            truth.fate_known,
            [
                (before, links, true_links),
                (mother, divisions, true_divisions),
                (every, ends, torch.from_numpy(truth.ends)),
                (every, false, none),
            ],
        ),
    ):
        cell, score, true = (torch.cat(part) for part in zip(*choices, strict=True))
        asked = torch.from_numpy(known)
        most = torch.full_like(begins, LEAST).scatter_reduce(0, cell, score.detach(), "amax")
        whole = most + torch.zeros_like(begins).scatter_add(0, cell, (score - most[cell]).exp()).log()
        right = torch.zeros_like(begins).scatter_add(0, cell, score * true)
        losses.append(((whole - right) * asked).sum() / asked.sum().clamp(min=1))
    return torch.stack(losses).sum()
