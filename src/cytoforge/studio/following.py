"""The work of following cells through a movie, as a command of the queue, and what becomes of its tracks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytoforge.data.files import read_json
from cytoforge.data.images import read_labels, write_labels
from cytoforge.data.movie import read_sequences
from cytoforge.data.writer import INFO
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.studio.movies import Movies
from cytoforge.studio.queue import Job, Queue
from cytoforge.studio.workspace import link

TRACKERS = ("base", "overlap", "laptrack")


def follow(movies: Movies, queue: Queue, name: str, tracker: str, model: Path | None, flags: Sequence[str] = ()) -> Job:
    """Follow the cells of a movie, as `cytoforge track` does: those drawn in its frames, or those that `model` finds.

    `flags` say how it finds them. Raises KeyError when there is no such movie, and UserError when there is no such
    tracker, or cells are not drawn in every frame.
    """
    frames = movies.movie(name).frames
    if tracker not in TRACKERS:
        raise UserError(f"there is no tracker {tracker!r:.40}; take one of {', '.join(TRACKERS)}")
    if model is None and (lacking := [frame for frame in frames if not _has_cells(movies, name, frame)]):
        raise UserError(
            f"{counted(len(lacking), 'frame')} of movie {name} (the first is {lacking[0]}) have no cells yet; find "
            "them first, or let a model find them now"
        )

    def command(folder: Path) -> list[str]:
        for frame, file in frames.items():
            link(file, folder / "in" / name / f"t{frame:03d}.tif")
            if model is None:
                mask = movies.workspace.mask(movies.picture(name, frame))
                write_labels(folder / "in" / f"{name}_ST" / "SEG" / f"man_seg{frame:03d}.tif", read_labels(mask))
        found = [] if model is None else ["--segment", str(model), *flags]
        return ["track", tracker, str(folder / "in"), "--out", str(folder / "out"), *found]

    movies.workspace.save()
    asked = {"movie": name, "tracker": tracker, "model": None if model is None else model.name}
    return queue.add("track", command, asked)


def followed(movies: Movies, job: Job, folder: Path) -> str:
    """Show the tracks that were found, and the cells in frames without some; return a sentence for the user."""
    name = job.asked["movie"]
    (sequence,) = read_sequences(folder / "out", (name,))
    notes = movies.movie(name).take(sequence, job.number)
    if job.asked["model"] is not None:
        for frame in sequence.tracked_frames():
            mask = sequence.masks["RES"][frame]
            movies.workspace.propose(movies.picture(name, frame), mask, replace=False)
    facts: dict[str, Any] = read_json(folder / "out" / INFO)["sequences"][name]
    found = ", ".join(counted(facts[f"{noun}s"], noun) for noun in ("cell", "track", "division"))
    taken_to_be = [f"cells were taken to be {facts['diameter']:.0f} px across"] if "diameter" in facts else []
    told = (f"{one[0].upper()}{one[1:]}." for one in (*taken_to_be, *facts["warnings"], *notes))
    return " ".join([f"{found} in {counted(facts['frames'], 'frame')}.", *told])


def is_drawn(movies: Movies, name: str) -> bool:
    """Tell whether there are cells in every frame of a movie, whoever has drawn them."""
    return all(_has_cells(movies, name, frame) for frame in movies.sequences[name].frames)


def _has_cells(movies: Movies, name: str, frame: int) -> bool:
    return movies.workspace.status(movies.picture(name, frame)) != "empty"
