"""A linker of whole movies, from a few tracked frames and movies that are simulated after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from cytoforge.errors import UserError
from cytoforge.inference.track_links import linked
from cytoforge.metrics.segmentation import ImageScores, segmentation_scores
from cytoforge.networks.linker import LinkScorer, described
from cytoforge.places import SCRATCH, run_folder
from cytoforge.progress import counted
from cytoforge.tracking.candidates import LINK
from cytoforge.training.course import State, course
from cytoforge.training.data import TrainingData, open_data
from cytoforge.training.hyperparameters import Linker
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes.linking import Linking
from cytoforge.training.recipes.networks import build
from cytoforge.training.samplers.lineages import Example, LineageSampler, Tracked, simulated_like, tracked
from cytoforge.training.specification import Training
from cytoforge.training.tasks.judging import Followed, judge_tracker
from cytoforge.training.tasks.start import Wanted, load_start
from cytoforge.training.tasks.task import Outcome, Plan, Task, drawing_of

LINKER_STEPS = 300
"""steps of a training without a budget of its own: about a minute"""
SCALED = 8
"""stretches by which descriptions are shifted and scaled, where no run to start from has done so"""


@dataclass(frozen=True)
class LinkerTask(Task):
    """Train a linker of whole movies."""

    name: ClassVar[str] = "train tracker"
    parameters: Linker
    start: Path = Path("base")
    """run with the weights to begin with; SCRATCH for random ones"""

    def open(self, training: Training) -> TrainingData:
        """Open tracked movies."""
        return open_data(training.data, training.seed, "tracks")

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Simulate movies after the frames to learn from, and say how stretches are drawn and validated."""
        movies = tracked(data.items, data.read)
        learned = [one.example() for one in movies]
        held = [one.example() for one in tracked(data.held, lambda i: data.validation[i][1:])]
        _refuse_empty(training, learned, held)
        simulated: list[Tracked] = []
        if self.parameters.movies != "real":
            simulated = simulated_like(movies, np.random.default_rng(training.seed))
        drawn = (movies, simulated)
        if self.parameters.movies == "simulated":
            if not simulated:
                raise UserError(f"{training.data.path}: no cell lies whole in a frame, so none are simulated like them")
            drawn = (simulated, [])
        sampler = LineageSampler(*drawn, drawing_of(self.parameters, (1, 1), training, fabric))
        options = {"network": "link-scorer", "width": self.parameters.width}
        scorer: LinkScorer = build(LinkScorer, training.seed, "tracker", options, "torch")
        if self.start == SCRATCH:
            scale(scorer, sampler)
            start = None
        else:
            start = load_start([run_folder(self.start)], [Wanted("tracker", options, scorer)])
        divisions = sum(int(one.truth.divisions.sum()) for one in learned)

        def score(averages: Networks) -> float:
            """Return F of links and divisions together, of all stretches."""
            found = [_scores(one, True, True, _choice(averages["tracker"], one)) for one in held]
            hits = sum(each.true_positives[0] for each in found)
            wrong = sum(each.false_positives[0] + each.false_negatives[0] for each in found)
            return 2 * hits / max(2 * hits + wrong, 1)

        def outcome(networks: Networks, state: State) -> Outcome:
            tracker = networks["tracker"]
            chosen = [_choice(tracker, one) for one in held]
            found = Followed(
                single=[_scores(one, True, False, each) for one, each in zip(held, chosen, strict=True)],
                divisions=[
                    _scores(one, False, True, each)
                    for one, each in zip(held, chosen, strict=True)
                    if one.truth.divisions.any()
                ],
                staying=[_scores(one, True, False, _staying(one)) for one in held],
                training=[_scores(one, True, False, _choice(tracker, one)) for one in learned],
                measure="F of the links between cells",
                over=counted(sum(int(one.truth.links.sum()) for one in held), "link"),
            )
            return Outcome(shown={}, judgement=judge_tracker(found, course(state)))

        lacking = f"{training.data.path}: no cell divides, so divisions are known from simulated cells alone"
        counts = (
            f"{_counted(learned)} to train on, {_counted(held)} for validation, and "
            f"{counted(len(simulated), 'movie')} of simulated cells like these"
        )
        return Plan(
            networks={"tracker": options},
            recipe=Linking(scorer, self.parameters.rate),
            sampler=sampler,
            validation=Validation(score, keep_last=True),
            outcome=outcome,
            stored={"divisions": divisions, "start": None if self.start == SCRATCH else str(self.start)},
            provenance={"started_from": start},
            notes=[counts, *([] if divisions else [lacking])],
            remarks=["the weights of the end are kept, not those that were best on validation"],
        )


def _refuse_empty(training: Training, learned: Sequence[Example], held: Sequence[Example]) -> None:
    """Raise UserError where no cell is seen in two frames in a row."""
    data, remedy = training.data, "give a longer movie, --validation or a larger --limit"
    for examples, where in (
        (learned, f"{data.path}: among the frames for training"),
        (held, f"{data.validation or data.path}: among the frames for validation"),
    ):
        if not any(one.truth.links.any() or one.truth.divisions.any() for one in examples):
            raise UserError(f"{where} no two in a row show the same cell; {remedy}")


def scale(scorer: LinkScorer, sampler: LineageSampler) -> None:
    """Let the network shift and scale descriptions by what the first steps draw."""
    examples = [example for step in range(SCALED) for example in sampler.cut(step, None).examples]
    parts = zip(*(described(one.found) for one in examples), strict=True)
    scorer.fit_scale(*(torch.cat(part) for part in parts))


def _counted(examples: Sequence[Example]) -> str:
    links, divisions = (sum(int(getattr(one.truth, kind).sum()) for one in examples) for kind in ("links", "divisions"))
    return f"{counted(links, 'link')} and {counted(divisions, 'division')}"


Chosen = tuple[np.ndarray, np.ndarray]
"""positions of links and of divisions"""


def _choice(tracker: nn.Module, example: Example) -> Chosen:
    assert isinstance(tracker, LinkScorer)
    choice = linked(tracker, example.found)
    return choice.links, choice.divisions


def _staying(example: Example) -> Chosen:
    """Choose the cell of the next frame that overlaps each most, and that it overlaps most."""
    shared = example.found.of_links[:, LINK.index("IoU")]
    before, after = example.found.links.T
    most = np.zeros((2, int(example.found.counts.sum())))
    for side, cell in zip(most, (before, after), strict=True):
        np.maximum.at(side, cell, shared)
    taken = (shared > 0) & (shared == most[0, before]) & (shared == most[1, after])
    return np.flatnonzero(taken), np.zeros(0, np.int64)


def _scores(example: Example, links: bool, divisions: bool, chosen: Chosen) -> ImageScores:
    """Return how many of the true links, divisions or both are chosen: a line with a pixel for each candidate."""
    true = np.flatnonzero(example.truth.links), np.flatnonzero(example.truth.divisions)
    lines = []
    for taken_links, taken_divisions in (true, chosen):
        line = np.zeros((1, len(example.found.links) + len(example.found.divisions)), np.int32)
        if links:
            line[0, taken_links] = taken_links + 1
        if divisions:
            place = len(example.found.links) + taken_divisions
            line[0, place] = place + 1
        lines.append(line)
    return segmentation_scores(lines[0], lines[1], (0.5,))
