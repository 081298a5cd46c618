"""Trackers: cells of label images to tracks and divisions, by geometry or by the network of a run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.images import Normalisation, channels_first, label_array
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.extras import require
from cytoforge.inference.load import Loaded
from cytoforge.places import BASE, run_folder
from cytoforge.progress import counted
from cytoforge.tracking.linking import (
    BTrackLinker,
    Frame,
    LapTrackLinker,
    Linker,
    OverlapLinker,
    assemble,
    btrack_engine,
    numbered,
)

LINKERS: dict[str, Callable[..., Linker]] = {
    "overlap": OverlapLinker,
    "laptrack": LapTrackLinker,
    "btrack": BTrackLinker,
}


class Tracked(NamedTuple):
    """A tracked movie in memory."""

    labels: NDArray[np.int32]
    """(T, H, W), 0 background, each cell with the number of its track"""
    tracks: NDArray[np.int64]
    """(N, 4): label, first frame, last frame, label of the parent or 0"""


@dataclass(frozen=True, eq=False, repr=False)
class Tracker(Loaded):
    """A tracker: its linker, and the settings on which its links depend."""

    name: str
    """overlap, laptrack, btrack, base, or the path of a run folder"""
    linker: Linker
    origin: dict[str, Any]
    """settings and the checksum of the run's weights, as dataset.json tells them"""
    run: Path | None = None  # type: ignore[assignment]
    """run folder of a trained tracker"""

    @classmethod
    def load(
        cls,
        tracker: Path | str = "base",
        *,
        gap: int | None = None,
        distance: float | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> Self:
        """Open a tracker: base, overlap, laptrack, btrack, or the run folder of `train tracker`.

        `gap`: frames that a cell may be missing; `distance`: pixels it may go in a frame; as of `cytoforge track`.
        Raises UserError where the tracker is not installed, or the run folder holds none, and for a gap or a distance
        that makes no sense or that the tracker does not know.
        """
        _check(str(tracker), gap, distance)
        origin = {"tracker": str(tracker), "gap": gap, "distance": distance, "run": None}
        if str(tracker) in LINKERS:
            options = {name: value for name, value in (("gap", gap), ("distance", distance)) if value is not None}
            linker = LINKERS[str(tracker)](**options)
            _check_installed(str(tracker))
            return cls(str(tracker), linker, origin)
        folder = run_folder(Path(tracker))
        if not folder.is_dir():
            raise UserError(
                f"{tracker}: is neither a tracker nor a folder; take base, {', '.join(LINKERS)}, or the run folder of "
                "train tracker"
            )
        run = Run.open(folder)
        networks = run.settings.networks
        if "tracker" not in networks:
            raise UserError(
                f"{run.path}: holds no tracker but {', '.join(networks) or 'nothing'}; take base, "
                f"{', '.join(LINKERS)}, or a run of train tracker"
            )
        name = "base" if run.path == BASE else run.path.resolve().name
        origin |= {"tracker": name, "run": run.fingerprint("tracker", ("divisions", "darkest"))}
        if run.network("tracker").network == "link-scorer":
            from cytoforge.inference.track_links import GlobalLinker

            return cls(str(tracker), GlobalLinker.open(run, threads), origin, run.path)
        from cytoforge.inference.track_deepsea import DeepSeaLinker

        return cls(str(tracker), DeepSeaLinker.open(run, device, threads), origin, run.path)

    def track(self, masks: Iterable[NDArray[np.integer[Any]]], images: Iterable[NDArray[Any]] | None = None) -> Tracked:
        """Track cells of labels (T, H, W), 0 background; numbers of cells in the labels do not matter.

        `images`, frames (H, W), (H, W, C) or (C, H, W) in their own grey values, are needed by trackers that look at
        them. Raises UserError where these are missing, or masks and images do not belong together.
        """
        labels = [numbered(label_array(frame, f"mask {number}")) for number, frame in enumerate(masks)]
        if not labels:
            raise UserError("there are no masks; give one for each frame")
        for number, frame in enumerate(labels):
            if frame.shape != labels[0].shape:
                raise UserError(
                    f"mask {number}: is {frame.shape}, those before it {labels[0].shape}; give masks of one size"
                )
        given: list[NDArray[np.float32] | None] = [None] * len(labels)
        if self.linker.wants_images:
            if images is None:
                raise UserError(f"{self.name}: this tracker looks at the frames; give images")
            given = [_normalised(image, labels[0].shape) for image in images]
        if len(given) != len(labels):
            raise UserError(f"{counted(len(given), 'image')} and {counted(len(labels), 'mask')}: give one for each")
        links = self.linker(Frame(one, image) for one, image in zip(labels, given, strict=True))
        tracking = assemble(links)
        found = [tracking.relabelled(index, frame) for index, frame in enumerate(labels)]
        return Tracked(np.stack(found).astype(np.int32), np.asarray(tracking.tracks, np.int64))

    def save(self, path: Path | str) -> Path:
        """Copy the run folder, as every model; raises UserError also for trackers that have none."""
        if self.run is None:
            raise UserError(f"{self.name}: was not trained, so there is nothing to save; load it by its name")
        return super().save(path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _normalised(image: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    pixels = channels_first(image, size=size)
    return Normalisation().apply(pixels, Normalisation().measure(pixels))


def _check(tracker: str, gap: int | None, distance: float | None) -> None:
    for name, value, kind, knowing in (
        ("gap", gap, int, tuple(LINKERS)),
        ("distance", distance, float, ("laptrack", "btrack")),
    ):
        if value is None:
            continue
        if tracker not in knowing:
            raise UserError(f"{name}={value!r}: belongs to {', '.join(knowing)}, not to {tracker}; leave it out")
        if kind is int and not (isinstance(value, int | np.integer) and value >= 0):
            raise UserError(f"gap={value!r}: takes a whole number of at least 0 or none")
        if kind is float and not (isinstance(value, int | float | np.number) and 0 < value < np.inf):
            raise UserError(f"distance={value!r}: takes a number above 0 or none")


def _check_installed(tracker: str) -> None:
    if tracker == "overlap":
        return
    require(tracker, tracker, otherwise="take overlap")
    if tracker != "btrack":
        return
    try:
        btrack_engine()
    except ImportError as error:
        raise UserError(
            "btrack: its engine does not run with this system's libstdc++; compile it as docs/walkthrough.md says, or "
            "take laptrack"
        ) from error
