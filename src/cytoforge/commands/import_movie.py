"""`cytoforge import movie`: frames and tracked masks, each a stack, a folder of images or a film, to a movie folder."""

from pathlib import Path

import numpy as np

from cytoforge.commands.narrowed import view_of
from cytoforge.data.label_check import check_label_stack
from cytoforge.data.lock import alone
from cytoforge.data.movie import GREATEST, MovieWriter, tracks_of
from cytoforge.data.stack import open_stack
from cytoforge.data.tracks import calibration_of
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.settings import ImportMovie

SEQUENCE = "01"


@alone
def import_movie(config: ImportMovie) -> Path:
    """Write OUT/01 and, with masks, OUT/01_RES and its tracks; return OUT. Only one frame is in memory at a time.

    Raises UserError, before anything is written, when frames or masks cannot be read, when there is a single frame,
    when masks and frames differ in number or size, or when masks do not number cells.
    """
    frames = open_stack(config.stack, view=view_of(config))
    if frames.frames < 2:
        raise UserError(
            f"{config.stack}: is one image, no movie; give a folder with an image per frame, or a file with a page per "
            "frame (in tifffile: photometric='minisblack', metadata={'axes': 'TYX'})"
        )
    masks = open_stack(config.masks, labels=True) if config.masks else None
    if masks is not None and (masks.frames, *masks.shape[1:]) != (frames.frames, *frames.shape[1:]):
        stacks = [f"{one.frames} of {one.shape[1]} x {one.shape[2]} pixels" for one in (masks, frames)]
        raise UserError(f"{config.masks}: has {stacks[0]}, {config.stack.name} {stacks[1]}; export both alike")
    if masks is not None and config.masks is not None:
        check_label_stack(config.masks, masks, masks.frames)
    tracks, renamed = tracks_of({number: np.setdiff1d(one, [0]) for number, one in enumerate(masks or ())})
    if len(tracks) > GREATEST:
        raise UserError(f"{config.masks}: has {len(tracks)} tracks, and a movie holds {GREATEST}; cut it into parts")
    for _ in frames:
        pass  # Find a frame that cannot be read before others are written.
    calibration = calibration_of(config.out, {}, frames.files, config.pixel_size, config.frame_interval)
    info = {"source": config.stack.name, "frames": frames.frames, **view_of(config).told, **calibration.info}
    sources = [(SEQUENCE, source) for source in ("frames", *(["RES"] if config.masks else []))]
    writer = MovieWriter(config.out, info, overwrite=config.overwrite, sources=sources)
    for number, frame in enumerate(frames):
        writer.add_frame(SEQUENCE, number, frame)
    said = ", ".join(filter(None, [f"{config.out}: {counted(frames.frames, 'frame')}", calibration.said]))
    if masks is not None:
        if short := writer.announce(SEQUENCE, [track.label for track in tracks]):
            print(short)
        for number, ids in enumerate(masks):
            cells, places = np.unique(ids, return_inverse=True)
            named = [renamed.get((number, int(cell)), cell) for cell in cells]
            writer.add_masks(SEQUENCE, "RES", number, np.array(named, np.int64)[places].reshape(ids.shape))
        writer.add_tracks(SEQUENCE, "RES", tracks)
        said += f", {counted(len(tracks), 'track')}"
    writer.finish()
    print(said)
    return config.out
