"""How a training went: its counters, and what they say about whether the validation score was still rising."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cytoforge.progress import counted

FEW = 50  # steps; with fewer nothing has converged
ASTRAY = 0.1  # a last validation score that is this far below the best tells that training went wrong after it
FEW_VALIDATIONS = 3  # with fewer it is not known how the score went
MIDDLE = 0.4  # share of a training; a validation between it and the last quarter shows what that quarter gained
LEARNED = 0.05  # validation score from which something has been learned


@dataclass
class State:
    """The counters of a training; everything else that is needed to go on is tensors."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    since_best: int = 0
    history: list[list[float]] = field(default_factory=list)
    """progress (0 to 1) and score of each validation"""
    sums: dict[str, list[float]] = field(default_factory=dict)
    """by loss, sum and number of its values since the last row of metrics.csv"""
    skipped: list[int] = field(default_factory=list)
    """steps whose batch gave a value that is not finite"""
    finished: bool = False
    enough: bool = False
    """whether it ended because more steps would learn the data by heart"""


Kind = Literal["unvalidated", "not learned", "start kept", "too short", "astray", "rising", "converged"]


class Course(NamedTuple):
    """How the validation score went, and one sentence that says it."""

    kind: Kind
    words: str

    @property
    def cut_short(self) -> bool:
        """Whether more time would help."""
        return self.kind in ("unvalidated", "not learned", "too short", "rising")


def trained_in(state: State) -> str:
    """Return the number of steps in words, marked where nothing has been learned yet."""
    return counted(state.step, "step") + ("" if state.history and state.best >= LEARNED else ", not enough yet")


def course(state: State) -> Course:
    """Say whether the validation score was still rising when training ended, and why it did if that was before its
    budget was spent.
    """
    if not state.history:
        return Course("unvalidated", "Training ended before the first validation: give it more time.")
    end = state.history[-1][0] or 1.0  # below 1 where the training ended before its budget
    late = [score for progress, score in state.history if progress > 0.75 * end]
    early = [score for progress, score in state.history if progress <= 0.75 * end]
    gain = max(late, default=0.0) - max(early, default=0.0)
    best, wanted = f"best validation score {state.best:.3f} at step {state.best_step} of {state.step}", "minutes"
    stopped = ""
    if end < 1 and state.since_best:
        stopped = f"; it stopped because {counted(state.since_best, 'validation')} brought nothing better"
        best, wanted = best + stopped, "patience"
    if state.best < LEARNED:
        remedy = "far more minutes are needed, or the data are at fault (cytoforge check)"
        return Course("not learned", f"Not learned yet ({best}): {remedy}.")
    if state.enough:
        known = f"validation score {state.history[-1][1]:.3f}"
        words = f"Ended after {counted(state.step, 'step')}: more would learn so few cells by heart ({known})."
        return Course("converged", words)
    if state.best_step == 0:
        score = f"validation score {state.best:.3f}{stopped}"
        words = f"Training did not improve on what it started from ({score}), which was kept."
        return Course("start kept", words)
    measured = any(MIDDLE * end <= progress <= 0.75 * end for progress, _ in state.history)
    if state.step < FEW or len(state.history) < FEW_VALIDATIONS or not measured:
        few = "steps" if state.step < FEW else "validations"
        words = f"Too few {few} to tell ({best}): give it more {wanted}, and look at what it makes."
        return Course("too short", words)
    if (last := state.history[-1][1]) < state.best - ASTRAY:
        remedy = "repeat it with another --seed, and look at what it makes"
        return Course("astray", f"Went astray ({best}, {last:.3f} at the end): {remedy}.")
    if gain > 0.01:
        gained = f"the last quarter still gained {gain:.3f}"
        return Course("rising", f"Not converged yet ({best}; {gained}): more {wanted} would help.")
    return Course("converged", f"Converged ({best}; the last quarter gained {max(gain, 0.0):.3f}).")
