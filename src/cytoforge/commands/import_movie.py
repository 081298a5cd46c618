"""`cytoforge import movie`: a stack or film of frames, and a stack of tracked masks, to a movie folder."""

from pathlib import Path

import numpy as np

from cytoforge.config import ImportMovie
from cytoforge.data.film import SUFFIXES, read_film
from cytoforge.data.images import read_label_stack, read_stack
from cytoforge.data.label_check import check_label_stack
from cytoforge.data.movie import MovieWriter, tracks_of
from cytoforge.errors import UserError

SEQUENCE = "01"


def import_movie(config: ImportMovie) -> Path:
    """Write OUT/01 and, with masks, OUT/01_RES and its tracks; return OUT.

    Raises UserError when a stack cannot be read or has a single frame, or when masks and frames differ in number or
    size, or masks do not number cells.
    """
    frames = read_film(config.stack) if config.stack.suffix.lower() in SUFFIXES else read_stack(config.stack)
    labels = read_label_stack(config.masks) if config.masks else None
    if len(frames) < 2:
        raise UserError(f"{config.stack}: is one image, no movie; give a file with a page per frame")
    if labels is not None and labels.shape != (frames.shape[0], *frames.shape[2:]):
        stacks = [f"{len(one)} of {one.shape[-2]} x {one.shape[-1]} pixels" for one in (labels, frames)]
        raise UserError(f"{config.masks}: has {stacks[0]}, {config.stack.name} {stacks[1]}; export both alike")
    if labels is not None and config.masks is not None:
        check_label_stack(config.masks, labels)
    writer = MovieWriter(config.out, {"source": config.stack.name}, overwrite=config.overwrite)
    for number, frame in enumerate(frames):
        writer.add_frame(SEQUENCE, number, frame)
    said = f"{config.out}: {len(frames)} frames"
    if labels is not None:
        tracks, renamed = tracks_of({number: np.setdiff1d(one, [0]) for number, one in enumerate(labels)})
        for number, one in enumerate(labels):
            kept = one.copy()
            for (frame, cell), label in renamed.items():
                if frame == number:
                    kept[one == cell] = label
            writer.add_masks(SEQUENCE, "RES", number, kept)
        writer.add_tracks(SEQUENCE, "RES", tracks)
        said += f", {len(tracks)} tracks"
    writer.finish()
    print(said)
    return config.out
