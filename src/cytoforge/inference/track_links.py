"""Tracking with a trained linker: all links of a movie are decided at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch

from cytoforge.data.run import Run
from cytoforge.inference.load import load_network, use_threads
from cytoforge.networks.linker import LinkScorer
from cytoforge.tracking.candidates import GAP, Candidates, candidates
from cytoforge.tracking.linking import Announce, Frame, Links, silent
from cytoforge.tracking.optimum import Choice, Scores, best_choice


@dataclass(frozen=True)
class GlobalLinker:
    """Links cells by the scores of a small network and the best choice of them in the whole movie."""

    scorer: LinkScorer
    wants_images: ClassVar[bool] = False

    @classmethod
    def open(cls, run: Run, threads: int | None = None) -> Self:
        """Return the linker of a run, which computes on the CPU; raises UserError as load_network and use_threads."""
        use_threads(threads)
        scorer = load_network(run, "tracker")
        assert isinstance(scorer, LinkScorer)
        return cls(scorer)

    def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
        """Link the cells of a movie; the descriptions of all its cells are held, and the labels of GAP + 2 frames."""
        found = candidates((frame.labels for frame in frames), GAP)
        announce(0.0, "decide all links")
        choice = linked(self.scorer, found)
        settings = {"gap in frames": GAP, "false cells, kept as tracks of a frame": len(choice.false)}
        return Links(found.counts, found.pairs(choice.links, choice.divisions), settings)


def linked(scorer: LinkScorer, found: Candidates) -> Choice:
    """Return the best choice by the scores of a network."""
    with torch.inference_mode():
        scores = scorer.scores(found)
    return best_choice(found, Scores(*(score.numpy().astype(np.float64) for score in scores)))
