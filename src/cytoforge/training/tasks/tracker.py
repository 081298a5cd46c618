"""A tracker from tracked movies (DeepSea)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy import ndimage
from torch import Tensor, nn

from cytoforge.cells.crops import BACKGROUND, SIDE
from cytoforge.errors import UserError
from cytoforge.inference.track_deepsea import predict
from cytoforge.metrics.sampling import evenly
from cytoforge.metrics.segmentation import ImageScores, segmentation_scores
from cytoforge.networks import tracker
from cytoforge.progress import counted
from cytoforge.report import outcome_overlay
from cytoforge.tracking.deepsea import without_spots
from cytoforge.training.course import State, course
from cytoforge.training.data import TrainingData, open_data, open_synthetic
from cytoforge.training.hyperparameters import Tracker
from cytoforge.training.loop import Networks, Validation
from cytoforge.training.recipes.networks import build
from cytoforge.training.recipes.tracking import Tracking
from cytoforge.training.samplers.moves import Moves, MoveSampler
from cytoforge.training.specification import Training
from cytoforge.training.tasks.judging import Followed, judge_tracker
from cytoforge.training.tasks.task import Outcome, Plan, Task, drawing_of, stored_tile

VALIDATED = 64  # moves looked at in a validation
PICTURED = 4  # of these in pictures


@dataclass(frozen=True)
class TrackerTask(Task):
    """Train a tracker."""

    name: ClassVar[str] = "train tracker"
    parameters: Tracker

    def open(self, training: Training) -> TrainingData:
        """Open tracked movies."""
        return open_data(training.data, training.seed, "tracks")

    def plan(self, training: Training, data: TrainingData, fabric: Fabric) -> Plan:
        """Build the network and say how moves are drawn and validated."""
        synthetic, fingerprint = open_synthetic(training.data, data.channels, tracked=True)
        drawing = drawing_of(self.parameters, (SIDE, SIDE), training, fabric)
        sampler = MoveSampler(Moves(data.items, data.read), drawing, synthetic)
        held = Moves(data.held, lambda i: data.validation[i][1:])
        _refuse_empty(training, sampler, held)
        options = {"in_channels": data.channels, "width": self.parameters.width, "norm": self.parameters.norm}
        described = {"network": "tracker", **options}
        recipe = Tracking(build(tracker.Tracker, training.seed, "tracker", described), self.parameters.rate)
        drawn = [moves for moves in (sampler.moves, sampler.painted) if moves is not None]
        divisions = sum(len(moves.divisions) for moves in drawn)
        examples = Examples(held)

        def score(averages: Networks) -> float:
            """Return the AP, mean of that of moves without and with division where there are both."""
            return float(np.mean(list(examples.scores(averages["tracker"]).values())))

        def outcome(networks: Networks, state: State) -> Outcome:
            tracker, learned = networks["tracker"], Examples(sampler.moves)
            kinds = examples.by_kind(tracker)
            single = kinds.get("single", [])
            found = Followed(
                single=single,
                over=counted(len(single), "move"),
                divisions=kinds.get("mitosis", []),
                staying=examples.staying(),
                training=learned.by_kind(tracker).get("single", []),
            )
            return Outcome(
                shown={"samples": examples.samples(tracker)},
                judgement=judge_tracker(found, course(state)),
                facts={"average_precision": examples.scores(tracker)},
            )

        counts = f"{_counted(sampler.moves)} to train on, {_counted(held)} for validation"
        lacking = f"{training.data.path}: no cell divides, so the tracker will find no divisions"
        keep_last = synthetic is not None
        kept = "with synthetic frames the weights of the end are kept, not those that were best on validation"
        return Plan(
            networks={"tracker": described},
            recipe=recipe,
            sampler=sampler,
            validation=Validation(score, lambda averages: examples.picture(averages["tracker"]), keep_last=keep_last),
            outcome=outcome,
            stored={"divisions": divisions, "tile": stored_tile((SIDE, SIDE))},
            provenance={"synthetic_data": fingerprint},
            notes=[counts, *([] if divisions else [lacking])],
            remarks=[kept] if keep_last else [],
        )


def _refuse_empty(training: Training, sampler: MoveSampler, held: Moves) -> None:
    """Raise UserError where no cell is seen in two frames in a row."""
    data, longer = training.data, "give a longer movie, --validation or a larger --limit"
    sources = [
        (sampler.moves, f"{data.path}: among the frames for training", longer),
        (held, f"{data.validation or data.path}: among the frames for validation", longer),
    ]
    if sampler.painted is not None and data.synthetic is not None:
        sources.append((sampler.painted, f"{data.synthetic.path}:", "give movies with tracks"))
    for moves, where, remedy in sources:
        if not moves.single + moves.divisions:
            raise UserError(f"{where} no two in a row show the same cell; {remedy}")


def _counted(moves: Moves) -> str:
    return f"{counted(len(moves.single), 'move')} and {counted(len(moves.divisions), 'division')}"


class Examples:
    """Moves by which a tracker is validated, and which the report shows; they are not augmented."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves.spread(VALIDATED)
        self.names = [f"{moves.items[move.place].name}, cell {move.cell}" for move in self.moves]
        crops, targets = zip(*map(moves.crops, self.moves), strict=True)
        self.previous, self.current = torch.stack(crops).chunk(2, dim=1)
        self.truth = _pieces(torch.stack(targets).numpy() > 0)

    def scores(self, tracker: nn.Module) -> dict[str, float]:
        """Return AP at IoU 0.5 of the regions in all crops, for cells that stay "single" or divide ("mitosis")."""
        precision = {}
        for kind, scores in self.by_kind(tracker).items():
            found, false, missed = (
                sum(getattr(one, name)[0] for one in scores)
                for name in ("true_positives", "false_positives", "false_negatives")
            )
            precision[kind] = found / max(found + false + missed, 1)
        return precision

    def by_kind(self, tracker: nn.Module) -> dict[str, list[ImageScores]]:
        """Return the scores of the regions at IoU 0.5 for each move, of cells that stay "single" or divide."""
        found = _found(tracker, self.previous, self.current)
        kinds: dict[str, list[ImageScores]] = {}
        for move, truth, region in zip(self.moves, self.truth, found, strict=True):
            kind = "mitosis" if len(move.after) > 1 else "single"
            kinds.setdefault(kind, []).append(segmentation_scores(truth, region, (0.5,)))
        return dict(sorted(kinds.items()))

    def staying(self) -> list[ImageScores]:
        """Return such scores if each cell that does not divide stayed where it is."""
        places = _pieces((self.previous[:, 0] > BACKGROUND).numpy())
        moves = zip(self.moves, self.truth, places, strict=True)
        return [segmentation_scores(truth, place, (0.5,)) for move, truth, place in moves if len(move.after) == 1]

    def samples(self, tracker: nn.Module) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Return names, crops of cell and next frame side by side (C, h, 2 w), true and found regions (h, 2 w)."""
        shown = evenly(len(self.moves), PICTURED)
        previous, current = self.previous[shown], self.current[shown]
        beside = ((0, 0), (0, 0), (previous.shape[3], 0))
        truth, found = (np.pad(part, beside) for part in (self.truth[shown], _found(tracker, previous, current)))
        crops = torch.cat([previous, current], dim=3).numpy()
        return list(zip([self.names[i] for i in shown], crops, truth, found, strict=True))

    def picture(self, tracker: nn.Module) -> np.ndarray:
        """Return a picture uint8 (H, W, 3) of the samples above each other, with outlines as in the report."""
        rows = [outcome_overlay(crops, truth, found) for _, crops, truth, found in self.samples(tracker)]
        return np.concatenate(rows)


def _found(tracker: nn.Module, previous: Tensor, current: Tensor) -> np.ndarray:
    return _pieces(predict(tracker, previous, current))


def _pieces(places: np.ndarray) -> np.ndarray:
    """Number the regions of each mask of (N, h, w); regions that are too small are left out."""
    return np.stack([ndimage.label(place)[0] for place in without_spots(places)])
