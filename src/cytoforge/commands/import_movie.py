"""`cytoforge import movie`: frames and tracked masks, each a stack, a folder of images or a film, to a movie folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cytoforge.config import ImportMovie
from cytoforge.data.movie import MovieWriter, Track, tracks_of
from cytoforge.data.stack import Stack, open_stack
from cytoforge.errors import UserError

SEQUENCE = "01"
IDS = np.iinfo(np.uint16).max


def import_movie(config: ImportMovie) -> Path:
    """Write OUT/01 and, with masks, OUT/01_RES and its tracks; return OUT. Holds a frame at a time.

    Raises UserError, before anything is written, when frames or masks cannot be read, when there is a single frame, or
    when masks and frames differ in number or size.
    """
    frames = open_stack(config.stack)
    if frames.frames < 2:
        raise UserError(
            f"{config.stack}: is one image, no movie; give a folder with an image per frame, or a file with a page per "
            "frame (in tifffile: photometric='minisblack', metadata={'axes': 'TYX'})"
        )
    masks = open_stack(config.masks, labels=True) if config.masks else None
    if masks is not None and (masks.frames, *masks.shape[1:]) != (frames.frames, *frames.shape[1:]):
        stacks = [f"{one.frames} of {one.shape[1]} x {one.shape[2]} pixels" for one in (masks, frames)]
        raise UserError(f"{config.masks}: has {stacks[0]}, {config.stack.name} {stacks[1]}; export both alike")
    tracks, label_of = _tracked(masks) if masks is not None else ((), None)
    for _ in frames:
        pass  # a frame that cannot be read is found before others are written
    info = {"source": config.stack.name, "frames": frames.frames}
    writer = MovieWriter(config.out, info, overwrite=config.overwrite)
    for number, frame in enumerate(frames):
        writer.add_frame(SEQUENCE, number, frame)
    said = f"{config.out}: {frames.frames} frames"
    if masks is not None and label_of is not None:
        for number, ids in enumerate(masks):
            cells, places = np.unique(ids, return_inverse=True)
            named = [label_of(number, int(cell)) if cell else 0 for cell in cells]
            writer.add_masks(SEQUENCE, "RES", number, np.array(named, np.int32)[places].reshape(ids.shape))
        writer.add_tracks(SEQUENCE, "RES", tracks)
        said += f", {len(tracks)} tracks"
    writer.finish()
    print(said)
    return config.out


def _tracked(masks: Stack) -> tuple[tuple[Track, ...], Callable[[int, int], int]]:
    """Return the tracks of label images, and the label of a cell by frame and id; ids beyond 16 bits are renumbered.

    Raises UserError where there are more tracks than ids.
    """
    tracks, renamed = tracks_of({number: np.setdiff1d(one, [0]) for number, one in enumerate(masks)})
    if len(tracks) > IDS:
        raise UserError(f"{masks.path}: has {len(tracks)} tracks, and a movie holds {IDS}; cut it into parts")
    label = {track.label: track.label for track in tracks}
    if max(label, default=0) > IDS:
        print(f"{masks.path}: its tracks have ids up to {max(label)}, a movie up to {IDS}; they are numbered from 1")
        label = {old: new for new, old in enumerate(sorted(label), 1)}
    tracks = tuple(Track(label[t.label], t.begin, t.end, label[t.parent] if t.parent else 0) for t in tracks)
    return tracks, lambda frame, cell: label[renamed.get((frame, cell), cell)]
