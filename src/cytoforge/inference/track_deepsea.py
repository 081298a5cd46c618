"""Tracking with a trained DeepSea tracker: frame by frame, all cells of a frame at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.load import choose_device, load_network, use_threads
from cytoforge.progress import counted
from cytoforge.tracking.deepsea import COVERAGE, REFRACTORY, Ints, link_movie
from cytoforge.tracking.linking import Announce, Frame, Links, silent

TOGETHER = 32  # crops that go through the network at once, to save memory


@dataclass(frozen=True)
class DeepSeaLinker:
    """Links cells with the tracker of a run; see `deepsea_links`."""

    run: Run
    device: str
    wants_images: ClassVar[bool] = True

    @classmethod
    def open(cls, run: Run, device: str = "auto", threads: int | None = None) -> Self:
        """Return the linker of a run on a device; raises UserError as choose_device and use_threads."""
        use_threads(threads)
        choose_device(device)
        return cls(run, device)

    def __call__(self, frames: Iterator[Frame], announce: Announce = silent) -> Links:
        """Link the cells of a movie, with two frames in memory; raises UserError as `deepsea_links`."""
        given = ((frame.labels, frame.image) for frame in frames if frame.image is not None)
        cells, pairs = deepsea_links(self.run, given, device=choose_device(self.device))
        rule = {"frames between divisions": REFRACTORY} if learned(self.run) else {"divisions": "none were learned"}
        return Links(cells, pairs, {"coverage": COVERAGE, **rule})


def learned(run: Run) -> bool:
    """Tell whether a run's tracker has learned divisions: whether the movie for training had some."""
    return run.settings.divisions > 0


def deepsea_links(
    run: Path | Run,
    frames: Iterable[tuple[NDArray[np.integer[Any]], NDArray[np.float32]]],
    *,
    device: str | torch.device = "cpu",
) -> tuple[Ints, Ints]:
    """Link the cells of a movie with the tracker of a run.

    `frames` gives labels (H, W), numbered 1..N, and image float32 (C, H, W) of each frame, mapped to [-1, 1] as the run
    says (`normalisation`), at any resolution. No cell divides if the tracker has seen no division. Returns cells (T,)
    and links (K, 4) as `tracking.deepsea.link_movie`.
    Raises UserError when the run holds no tracker, or one of images with another number of channels.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    tracker = load_network(run, "tracker", device)
    channels = run.network("tracker").in_channels or 1

    def checked() -> Iterator[tuple[NDArray[np.integer[Any]], NDArray[np.float32]]]:
        for labels, image in frames:
            if len(image) != channels:
                found = f"{counted(channels, 'channel')}, these have {len(image)}"
                raise UserError(f"{run.path}: was trained on images of {found}; convert them")
            yield labels, image

    return link_movie(
        checked(),
        lambda previous, current: predict(tracker, previous, current),
        divisions=learned(run),
        darkest=run.settings.darkest,
    )


def predict(tracker: nn.Module, previous: Tensor, current: Tensor) -> NDArray[np.bool_]:
    """Return where cells went, (N, H, W), from crops (N, C, H, W) of each and of the next frame (see `cells.crops`)."""
    device = next(tracker.parameters()).device
    found = [np.zeros((0, *current.shape[2:]), bool)]
    with torch.inference_mode():
        for one, other in zip(previous.split(TOGETHER), current.split(TOGETHER), strict=True):
            logits = tracker(one.to(device), other.to(device)) if len(one) else torch.zeros(0, 2, *current.shape[2:])
            found.append(logits.argmax(dim=1).bool().cpu().numpy())
    return np.concatenate(found)
