"""`cytoforge train tracker`: from a tracked movie to a run folder with a tracker in it (DeepSea)."""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cytoforge.config import TrainTracker
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.load import load_network
from cytoforge.inference.track_deepsea import predict
from cytoforge.linking_deepsea import without_spots
from cytoforge.losses import cross_entropy_dice
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.networks.tracker import Tracker
from cytoforge.progress import counted, say
from cytoforge.report import outcome_overlay
from cytoforge.training.batches import Batch
from cytoforge.training.fit import Update, trained_in, verdict
from cytoforge.training.moves import MoveBatches, Moves
from cytoforge.training.prepare import (
    build,
    launch,
    open_data,
    open_run,
    open_synthetic,
    report_training,
    sizes,
    train_recipe,
)

RATE = 1e-3
WARM_UP, START, END = 0.3, 1 / 25, 1 / 25e4  # of torch's OneCycleLR
VALIDATED = 64  # moves looked at in a validation
SHOWN = 4  # of these in pictures


class Following:
    """The recipe of the tracker: cross entropy and Dice of both classes on drawn moves (DeepSea)."""

    averaged: tuple[str, ...] = ("tracker",)
    perceptual: str | None = None

    def __init__(self, tracker: nn.Module) -> None:
        self.tracker = tracker
        self.networks: dict[str, nn.Module] = {"tracker": tracker}
        self.optimisers: dict[str, Optimizer] = {"tracker": Adam(tracker.parameters(), lr=RATE, fused=True)}

    def step(self, batch: Batch, progress: float, update: Update) -> dict[str, Tensor]:
        """Update the tracker from crops (B, 2 C, h, w), of the cell and of the next frame, and 0 or 1 (B, h, w)."""
        loss = cross_entropy_dice(self.tracker(*batch.images.chunk(2, dim=1)), batch.labels, background=True)
        update("tracker", loss)
        return {"tracking": loss}


def one_cycle(progress: float) -> float:
    """Factor of the learning rate: up along a cosine in the first WARM_UP of the training, then down to nothing."""
    if progress < WARM_UP:
        return _between(START, 1.0, progress / WARM_UP)
    return _between(1.0, END, (progress - WARM_UP) / (1 - WARM_UP))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def train(config: TrainTracker) -> Run:
    """Train a tracker and write its run folder; go on with it if an earlier call was interrupted.

    Raises UserError on unusable data or settings and Interrupted after a signal, with everything saved.
    """
    fabric = launch(config)
    data = open_data(config, tracked=True)
    synthetic, fingerprint = open_synthetic(config, data.channels, tracked=True)
    batches = MoveBatches(
        Moves(data.items, data.read),
        count=sizes(config).tracker_batch,
        policy=config.augmentation,
        seed=config.seed,
        ranks=(fabric.global_rank, fabric.world_size),
        synthetic=synthetic,
    )
    held = Moves(data.held, lambda i: data.validation[i][1:])
    longer = "give a longer movie, --validation or a larger --limit"
    _refuse_empty(batches.moves, f"{config.data}: among the frames for training", longer)
    _refuse_empty(held, f"{config.validation or config.data}: among the frames for validation", longer)
    if batches.painted is not None:
        _refuse_empty(batches.painted, f"{config.synthetic}:", "give movies with tracks")
    described = {"network": "tracker", "in_channels": data.channels, "width": sizes(config).width, "norm": config.norm}
    recipe = Following(build(Tracker, config.seed, "tracker", described))
    drawn = [moves for moves in (batches.moves, batches.painted) if moves is not None]
    divisions = sum(len(moves.divisions) for moves in drawn)
    content = {"command": "train tracker", "networks": {"tracker": described}, "divisions": divisions}
    run = open_run(config, fabric, data, content, synthetic_data=fingerprint)
    examples = Examples(held)

    def validate(averages: dict[str, nn.Module]) -> float:
        """Mean of the AP of moves without and with division, as far as there are both."""
        return float(np.mean(list(examples.scores(averages["tracker"]).values())))

    def picture(averages: dict[str, nn.Module], step: int) -> None:
        """Write samples/step-N.png, side by side: the cell, the next frame, where it went and where it is expected."""
        run.save_sample(step, examples.picture(averages["tracker"]))

    if fabric.global_rank == 0:
        say([f"{_counted(batches.moves)} to train on, {_counted(held)} for validation"])
        if not divisions:
            say([f"{config.data}: no cell divides, so the tracker will find no divisions"])
    state = train_recipe(
        config,
        fabric,
        recipe,
        data,
        batches,
        run,
        words="train tracker",
        validate=validate,
        picture=picture,
        keep_last=synthetic is not None,
        schedule=one_cycle,
    )
    if fabric.global_rank == 0:
        if synthetic is not None:
            run.note("with synthetic frames the weights of the end are kept, not those that were best on validation")
        tracker = load_network(run, "tracker")
        run.record(average_precision=examples.scores(tracker))
        report_training(
            run,
            verdict(state),
            samples=examples.samples(tracker),
        )
        steps, proceed = trained_in(state), f"cytoforge track {config.out} MOVIE --out OUT"
        print(f"{config.out}: tracker trained in {steps}; {proceed}")
    return run


def _refuse_empty(moves: Moves, where: str, remedy: str) -> None:
    if not moves.single + moves.divisions:
        raise UserError(f"{where} no two in a row show the same cell; {remedy}")


def _counted(moves: Moves) -> str:
    return f"{counted(len(moves.single), 'move')} and {counted(len(moves.divisions), 'division')}"


class Examples:
    """Moves that a tracker is validated and shown on, as they are."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves.spread(VALIDATED)
        self.names = [f"{moves.items[move.place].name}, cell {move.cell}" for move in self.moves]
        crops, targets = zip(*map(moves.crops, self.moves), strict=True)
        self.previous, self.current = torch.stack(crops).chunk(2, dim=1)
        self.truth = _pieces(torch.stack(targets).numpy() > 0)

    def scores(self, tracker: nn.Module) -> dict[str, float]:
        """AP at IoU 0.5 of the regions of all crops, of cells that stay single and of those that divide ("mitosis")."""
        counts: dict[str, list[tuple[int, int, int]]] = {}
        for move, truth, found in zip(
            self.moves, self.truth, _found(tracker, self.previous, self.current), strict=True
        ):
            score = segmentation_scores(truth, found, (0.5,))
            parts = score.true_positives[0], score.false_positives[0], score.false_negatives[0]
            counts.setdefault("mitosis" if len(move.after) > 1 else "single", []).append(parts)
        sums = {kind: np.sum(parts, axis=0) for kind, parts in sorted(counts.items())}
        return {kind: float(found / max(found + false + missed, 1)) for kind, (found, false, missed) in sums.items()}

    def samples(self, tracker: nn.Module) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Name, crop of the cell and of the next frame side by side (C, h, 2 w), true and found regions (h, 2 w)."""
        shown = np.unique(np.linspace(0, len(self.moves) - 1, SHOWN).round().astype(int))
        previous, current = self.previous[shown], self.current[shown]
        beside = ((0, 0), (0, 0), (previous.shape[3], 0))
        truth, found = (np.pad(part, beside) for part in (self.truth[shown], _found(tracker, previous, current)))
        crops = torch.cat([previous, current], dim=3).numpy()
        return list(zip([self.names[i] for i in shown], crops, truth, found, strict=True))

    def picture(self, tracker: nn.Module) -> np.ndarray:
        """Picture uint8 (rows, columns, 3) of the samples, above each other, with outlines as in the report."""
        rows = [outcome_overlay(crops, truth, found) for _, crops, truth, found in self.samples(tracker)]
        return np.concatenate(rows)


def _found(tracker: nn.Module, previous: Tensor, current: Tensor) -> np.ndarray:
    return _pieces(predict(tracker, previous, current))


def _pieces(places: np.ndarray) -> np.ndarray:
    """Number the regions of each of (N, h, w), those that are too small left out."""
    return np.stack([ndimage.label(place)[0] for place in without_spots(places)])
