"""What a training is given besides its hyperparameters: data, computer, budget and output; small and frozen."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cytoforge.data.dataset import By
from cytoforge.data.images import Scaling
from cytoforge.data.view import View
from cytoforge.progress import counted

Schedule = Literal["mix", "pretrain"]
DEFAULT_MINUTES = 10.0
FILES = (  # as arrays are written, and what they are to whom they belong
    (r"{path}/images/0*(\d+)\.tif", r"image \1"),
    (r"{path}/masks/0*(\d+)\.tif", r"mask \1"),
    (r"{path}/01/t0*(\d+)\.tif", r"frame \1"),
    (r"{path}/01_GT/TRA/man_track0*(\d+)\.tif", r"mask \1"),
    ("run cytoforge check {path}", "look at images and masks"),
    ("{path}", "the arrays"),
    (r"\b0*(\d+)\.tif", r"image \1"),
)


def resizing(scaling: Scaling) -> str:
    """Return the flag that resizes images so."""
    return f"--resize {scaling[0]}x{scaling[1]}" if isinstance(scaling, tuple) else f"--scale {scaling:g}"


@dataclass(frozen=True, kw_only=True)
class SyntheticData:
    """Synthetic annotated images to learn from beside the real ones."""

    path: Path
    schedule: Schedule = "mix"
    """mix: synthetic windows at random among the real ones; pretrain: synthetic windows first"""
    share: float = 0.5
    """share of synthetic windows in the first 70 % of the training, 0 to 1; the rest sees real ones only"""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which annotated images a training learns from, and which of them validate it."""

    path: Path
    """dataset or movie folder"""
    arrays: str | None = None
    """SHA-256 of arrays that were written to `path` for this training only; None for a folder of the user's"""
    sequences: tuple[str, ...] = ()
    """sequences of a movie folder to use; all if empty"""
    validation: Path | None = None
    """annotated images for validation; without it a fifth of `path`, drawn by the seed"""
    limit: int | None = None
    """number of annotated images to use, training and validation together"""
    split_by: By | Literal["auto"] = "auto"
    """auto: a strip of each image where there are few, else whole images"""
    fold: tuple[int, int] | None = None
    """(2, 5) holds out the second of five parts"""
    scale: float = 1.0
    """factor by which images are resized on reading"""
    resize: tuple[int, int] | None = None
    """height and width in pixels to which every image is resized instead, whatever its aspect"""
    synthetic: SyntheticData | None = None
    unlabelled: Path | None = None
    """images without masks to learn from, too"""
    channels: tuple[str, ...] = ()
    """channels of the images to use, by name or number from 1; all if empty"""
    project: str | None = None
    """how a stack in depth becomes one plane: max, mean or the number of a slice"""

    @property
    def view(self) -> View:
        """What is read of the images."""
        return View(self.channels, self.project)

    @property
    def scaling(self) -> Scaling:
        """How images are resized on reading."""
        return self.resize or self.scale

    def told(self, sentence: str) -> str:
        """Return a sentence that names files of `path`; of arrays with images, masks and frames instead."""
        if self.arrays is not None:
            for file, name in FILES:
                sentence = re.sub(file.replace("{path}", re.escape(str(self.path))), name, sentence)
        return sentence


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What a training computes on."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """number of GPUs of each computer, or of processes on its CPU, that share every batch"""
    nodes: int = 1
    """number of computers"""
    accumulate: int = 1
    """number of parts in which each of them computes its share of a batch, to need less memory"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    weights_dir: Path | None = None
    """folder with pretrained feature networks; without it that of CYTOFORGE_WEIGHTS"""

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self.devices * self.nodes


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a training takes: a number of steps, epochs or seconds; the first of these that is given counts.

    Raises ValueError without any.
    """

    steps: int | None = None
    epochs: int | None = None
    """passes over the training images"""
    seconds: float | None = None
    clock: Literal["wall", "processor"] = "wall"
    """seconds of wall-clock time, or of processor time, which other work on the computer does not cut short"""
    patience: int | None = None
    """number of validations without improvement after which the training ends"""
    until_converged: bool = False
    """whether it ends, too, when the validation score has not risen for a quarter of the steps so far"""

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None and self.seconds is None:
            raise ValueError("a budget has steps, epochs or seconds")

    def in_steps(self, images: int, batch: int) -> "Budget":
        """Return this budget with epochs of so many images counted in steps of `batch` images."""
        if self.steps is not None or self.epochs is None:
            return self
        return replace(self, steps=self.epochs * math.ceil(images / batch))

    @property
    def timed(self) -> bool:
        """Whether time alone ends it."""
        return self.steps is None and self.epochs is None and not self.until_converged

    @property
    def told(self) -> str:
        """The budget in words, such as `10 min`, or `300 steps or until converged`."""
        words = f"{(self.seconds or 0) / 60:g} min"
        if self.steps is not None or self.epochs is not None:
            words = counted(self.epochs or 0, "epoch") if self.steps is None else counted(self.steps, "step")
        return f"{words} or until converged" if self.until_converged else words

    @property
    def validations(self) -> int:
        """Number of validations, evenly spread over the budget."""
        return 100 if self.until_converged else 20

    def progress(self, step: int, seconds: float) -> float:
        """Return the share (0 to 1) of the budget that is spent after so many steps and seconds."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        return min(seconds / (self.seconds or 1.0), 1.0)

    @property
    def now(self) -> Callable[[], float]:
        """A function that reads the clock, in seconds."""
        return time.process_time if self.clock == "processor" else time.monotonic

    def share(self, part: float) -> "Budget":
        """Return a share (0 to 1) of this budget."""
        if self.steps is not None:
            return replace(self, steps=max(round(part * self.steps), 1))
        if self.epochs is not None:
            return replace(self, epochs=max(round(part * self.epochs), 1))
        return replace(self, seconds=None if self.seconds is None else part * self.seconds)


@dataclass(frozen=True)
class Bounded(Budget):
    """A budget in time that ends after so many steps, too."""

    most: int = field(kw_only=True)

    def progress(self, step: int, seconds: float) -> float:
        """Return the share (0 to 1) that is spent of what ends first."""
        return max(super().progress(step, seconds), min(step / self.most, 1.0))


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a training writes its run folder."""

    path: Path
    overwrite: bool = False
    """replace an existing run"""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every task is given for one training."""

    data: Data
    output: Output
    budget: Budget = field(default_factory=lambda: Budget(seconds=60 * DEFAULT_MINUTES))
    compute: Compute = field(default_factory=Compute)
    seed: int = 0
