"""The training loop: one function for every recipe, read from top to bottom."""

import contextlib
import copy
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cytoforge.data.run import Run, flatten_state, unflatten_state
from cytoforge.errors import Interrupted, UserError
from cytoforge.training.course import LEARNED, State
from cytoforge.training.recipes.parts import compute_in_parts
from cytoforge.training.recipes.recipe import Recipe
from cytoforge.training.recipes.shared import share
from cytoforge.training.samplers.items import Batch, item_generator
from cytoforge.training.specification import Bounded, Budget

PATIENCE_WITH_FAULTS = 5  # times that a training goes back to its last state before it gives up
SAVE_EVERY = 60.0  # seconds
CONVERGED = 0.25  # share of the steps so far without a better validation score that tells that there will be none
SETTLED = 40  # least number of validations before a training is taken as converged


class NotFinite(Exception):
    """A loss or gradient is NaN or infinite; the message names it."""


class Trainer:
    """A recipe with the moving average of its weights and everything that must be saved to go on exactly."""

    def __init__(self, recipe: Recipe, fabric: Fabric, *, decay: float, parts: int = 1) -> None:
        """`decay` of the moving average per step; networks compute a batch in so many `parts`."""
        self.recipe, self.fabric, self.decay = recipe, fabric, decay
        for network in recipe.networks.values():
            network.to(fabric.device)
        self.rates = {name: [group["lr"] for group in o.param_groups] for name, o in recipe.optimisers.items()}
        self.average = {name: copy.deepcopy(recipe.networks[name]).requires_grad_(False) for name in recipe.averaged}
        for network in recipe.networks.values():
            if fabric.world_size > 1:
                share(network)
            if parts > 1:
                compute_in_parts(network, parts)

    def update(
        self, name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = (), max_norm: float | None = None
    ) -> None:
        """Step the named optimiser down the gradient of `loss`; only its own parameters receive gradients.

        `given` are pairs (tensor, gradient), of further losses whose backward pass has already reached the tensor.
        Gradients are averaged over processes, then clipped, as one vector, to a norm of `max_norm`. Raises NotFinite,
        in all processes, before any weight is touched.
        """
        optimiser = self.recipe.optimisers[name]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        optimiser.zero_grad(set_to_none=True)
        roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
        with torch.autocast(self.fabric.device.type, enabled=False):
            torch.autograd.backward(roots, seeds, inputs=parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        mean = loss.detach().clone()
        self._mean_over_processes([mean, *gradients])
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm + mean):
            what = "loss" if not torch.isfinite(mean) else "gradient"
            raise NotFinite(f"the {what} of the {name} is not a finite number")
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        optimiser.step()

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Run the recipe on one batch and update the moving average of its weights; return the losses by name.

        `progress` runs from 0 to 1. Raises NotFinite as `update`.
        """
        for name, optimiser in self.recipe.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * self.recipe.course(progress)
        for network in self.recipe.networks.values():
            network.train()
        batch = replace(batch, processes=self.fabric.world_size)
        with self.fabric.autocast():
            losses = self.recipe.step(batch, progress, self.update)
        decay = min(self.decay, (1 + batch.step) / (10 + batch.step))
        for name, average in self.average.items():
            _follow(average, self.recipe.networks[name], decay)
        means = {name: loss.detach().clone() for name, loss in losses.items()}
        self._mean_over_processes(list(means.values()))
        return {name: float(mean) for name, mean in means.items()}

    def agree(self, progress: float, stop: bool = False) -> tuple[float, bool]:
        """Return the progress that the first process gives, and whether any process is to stop."""
        if self.fabric.world_size == 1:
            return progress, stop
        said = progress if self.fabric.global_rank == 0 else 0.0
        device = self.fabric.device
        found = self.fabric.all_reduce(torch.tensor([said, stop], dtype=torch.float64, device=device), reduce_op="max")
        share, stopping = cast(Tensor, found).tolist()
        return share, bool(stopping)

    def names(self, batch: Batch) -> list[str]:
        """Return the source images of a step's whole batch."""
        if self.fabric.world_size == 1:
            return list(batch.names)
        found: list[tuple[str, ...]] = [()] * self.fabric.world_size
        torch.distributed.all_gather_object(found, batch.names)
        return [name for names in found for name in names]

    def _mean_over_processes(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        if self.fabric.world_size == 1 or not tensors:
            return
        mean = self.fabric.all_reduce(torch.cat([t.flatten() for t in tensors]), reduce_op="mean")
        for t, part in zip(tensors, cast(Tensor, mean).split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view_as(t))

    def tree(self) -> dict[str, Any]:
        """Return all weights and optimiser states as one nested structure."""
        return {
            "networks": {name: network.state_dict() for name, network in self.recipe.networks.items()},
            "average": {name: network.state_dict() for name, network in self.average.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.recipe.optimisers.items()},
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Restore what `tree` returned; raises KeyError, ValueError or RuntimeError if it is of other networks."""
        for kind, owners in (("networks", self.recipe.networks), ("average", self.average)):
            for name, network in owners.items():
                network.load_state_dict(tree[kind][name])
        for name, optimiser in self.recipe.optimisers.items():
            optimiser.load_state_dict(tree["optimisers"][name])


Networks = dict[str, nn.Module]
"""Networks of a run, by name."""


@dataclass(frozen=True)
class Validation:
    """How a training is validated, by the moving averages of its networks."""

    score: Callable[[Networks], float]
    """larger is better"""
    picture: Callable[[Networks], np.ndarray] | None = None
    """what a validation looks like: uint8 (H, W, 3)"""
    at_start: bool = False
    """validate before the first step, too, so that the weights of the start are kept if none are better"""
    keep_last: bool = False
    """keep the weights of the last validation, whatever its score"""


def fit(
    trainer: Trainer,
    batches: Callable[[int, float], Batch],
    validation: Validation,
    run: Run,
    budget: Budget,
    *,
    seed: int,
    announce: Callable[[float, State], None] = lambda progress, state: None,
) -> State:
    """Train until the budget is spent, from where `run` stands.

    Writes metrics.csv, the weights (moving averages) that were best on validation, a picture of each validation, and
    the whole state. So a run that was killed at any step and started again ends bit for bit as one that was not, if the
    budget is in steps and it computes on a CPU. After a loss or gradient that is not finite the training goes back to
    the last saved state and leaves that batch out.

    `batches(step, progress)` gives the batch of a step; `seed` is that of dropout; `announce(progress, state)` is
    called after every step, and may raise Interrupted, which acts as a signal does.
    Several processes call this together, each with its share of the batches: the first validates and writes.
    Raises Interrupted after SIGINT or SIGTERM to any of them, with everything saved, and UserError when training keeps
    failing.
    """
    main = trainer.fabric.global_rank == 0
    state = _restore(trainer, run)
    trainer.fabric.barrier()  # all have read the state that the first is about to write
    fresh = trainer.fabric.broadcast(not run.has_state)
    if main:
        run.truncate_metrics(-1 if fresh else state.step)
    if fresh:
        if validation.at_start:
            _evaluate(trainer, validation, run, state, 0.0, budget)
        if main:
            _save(trainer, run, state)
    now = budget.now
    saved = clock = now()
    next_validation = _next_validation(state.history, budget)
    progress, _ = trainer.agree(budget.progress(state.step, state.seconds))
    with _signals() as received:
        while progress < 1 and not state.finished:
            if state.step not in state.skipped:
                batch = batches(state.step, progress).to(trainer.fabric.device)
                torch.manual_seed(item_generator(seed, state.step, 0, "dropout").initial_seed())
                try:
                    losses = trainer.step(batch, progress)
                except NotFinite as fault:
                    state = _roll_back(trainer, run, state, fault, batch)
                    next_validation = _next_validation(state.history, budget)
                    progress, _ = trainer.agree(budget.progress(state.step, state.seconds))
                    continue
                for name, value in losses.items():
                    total, number = state.sums.get(name, (0.0, 0))
                    state.sums[name] = [total + value, number + 1]
            state.step += 1
            state.seconds, clock = state.seconds + now() - clock, now()
            progress = budget.progress(state.step, state.seconds)
            try:
                announce(progress, state)
            except Interrupted:
                received.append(signal.SIGINT)
            progress, interrupted = trainer.agree(progress, bool(received))
            if validated := progress >= next_validation:
                begun = progress
                _evaluate(trainer, validation, run, state, progress, budget)
                if main and validation.picture is not None:
                    run.save_sample(state.step, validation.picture(trainer.average))
                spent = now() - clock
                state.seconds, clock = state.seconds + spent, now()
                # the time of a validation counts, and may end the training
                progress, _ = trainer.agree(budget.progress(state.step, state.seconds))
                state.history[-1][0] = progress
                next_validation = _next_validation(state.history, budget)
                if budget.steps is None and budget.seconds is not None:
                    next_validation = min(max(next_validation, begun + wait(spent / budget.seconds)), 1.0)
            if main and (interrupted or state.finished or validated or clock - saved > SAVE_EVERY):
                _save(trainer, run, state)
                saved = now()
            if interrupted:
                raise Interrupted(f"stopped at step {state.step}, all is saved; the same command goes on from there")
    state.finished = True
    state.enough = isinstance(budget, Bounded) and state.step >= budget.most
    if main:
        _save(trainer, run, state)
    return state


def _evaluate(
    trainer: Trainer, validation: Validation, run: Run, state: State, progress: float, budget: Budget
) -> None:
    main = trainer.fabric.global_rank == 0
    for network in trainer.average.values():
        network.eval()
    score = trainer.fabric.broadcast(validation.score(trainer.average) if main else 0.0)
    state.history.append([progress, score])
    state.since_best += 1
    if score > state.best:
        state.best, state.best_step, state.since_best = score, state.step, 0
    if main and (validation.keep_last or state.since_best == 0):
        for name, network in trainer.average.items():
            run.save_weights(name, network.state_dict())
    means = {name: total / number for name, (total, number) in state.sums.items()}
    if main:
        run.append_metrics({"step": state.step, "seconds": round(state.seconds, 2), "validation": score, **means})
    state.sums = {}
    state.finished = state.best >= LEARNED and _settled(state, budget)


def _settled(state: State, budget: Budget) -> bool:
    """Tell whether the score has not risen for as long as the budget has patience."""
    if budget.until_converged:
        return len(state.history) >= SETTLED and state.step - state.best_step > CONVERGED * state.step
    return budget.patience is not None and state.since_best >= budget.patience


def _next_validation(history: list[list[float]], budget: Budget) -> float:
    """Return the progress at which the next of the budget's validations is due."""
    passed = math.floor((history[-1][0] if history else 0.0) * budget.validations + 1e-9)
    return min((passed + 1) / budget.validations - 1e-9, 1.0)


def wait(share: float) -> float:
    """Return the progress (0 to 1) from the start of a validation that took such a share of the time to the next.

    A tenth of the time goes into validation, or more for one in each fifth of it, but never more than a half.
    """
    return max(min(10 * share, 0.2), 2 * share)


def _save(trainer: Trainer, run: Run, state: State) -> None:
    tensors, structure = flatten_state(trainer.tree())
    run.save_state(tensors, {"counters": asdict(state), "structure": structure})


def _restore(trainer: Trainer, run: Run) -> State:
    if not run.has_state:
        return State()
    tensors, meta = run.load_state()
    try:
        TypeAdapter(State).validate_python(meta["counters"])
        state = State(**meta["counters"])
        trainer.load(unflatten_state(tensors, meta["structure"]))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise run.foreign_state(error) from error
    return state


def _roll_back(trainer: Trainer, run: Run, state: State, fault: NotFinite, batch: Batch) -> State:
    skipped, names = [*state.skipped, state.step], ", ".join(trainer.names(batch))
    if len(skipped) > PATIENCE_WITH_FAULTS:
        raise UserError(
            f"{run.path}: training failed {len(skipped)} times, last at step {state.step}: {fault} "
            f"(images {names}); run cytoforge check on the data"
        )
    seconds, step = state.seconds, state.step
    state = _restore(trainer, run)
    trainer.fabric.barrier()
    state.skipped, state.seconds = skipped, seconds
    if trainer.fabric.global_rank == 0:
        run.note(f"step {step}: {fault}; went back to step {state.step} and left out {names}")
        run.truncate_metrics(state.step)
        _save(trainer, run, state)
    return state


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that no step is cut in half; the second signal of a kind acts at once."""
    received: list[int] = []
    try:
        former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def receive(number: int, frame: object) -> None:
            received.append(number)
            signal.signal(number, former[signal.Signals(number)])

        for number in former:
            signal.signal(number, receive)
    except ValueError:  # only the main thread may handle signals
        former = {}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Update the moving average of weights and running statistics; counters are copied."""
    pairs: list[tuple[Tensor, Tensor]] = [*zip(average.parameters(), network.parameters(), strict=True)]
    buffers = [*zip(average.buffers(), network.buffers(), strict=True)]
    counters = [pair for pair in buffers if not pair[0].is_floating_point()]
    pairs += [pair for pair in buffers if pair[0].is_floating_point()]
    get_ema_multi_avg_fn(decay)([a for a, _ in pairs], [n for _, n in pairs], None)
    for a, n in counters:
        a.copy_(n)
