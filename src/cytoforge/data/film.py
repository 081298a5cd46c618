"""Films: compressed video of 8 bits, as cameras and other programs write it, and as cytoforge does for looking at."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from cytoforge.errors import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
GREY = 3  # grey levels that the channels of a film without colours differ by at most, as compression leaves them


def read_film(path: Path) -> np.ndarray:
    """Read all frames as uint8 (T, C, H, W): C is 1 where all are grey, or else 3.

    Raises UserError when the file is no film, is damaged or holds no frame.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: holds no video; give a film or a stack of frames")
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a film ({error}); export it anew, best as a TIFF stack") from error
    if not frames:
        raise UserError(f"{path}: holds no frame; export it anew, best as a TIFF stack")
    film = np.stack(frames).transpose(0, 3, 1, 2)
    spread = max(int(np.ptp(frame, axis=0).max()) for frame in film)
    return film[:, 1:2] if spread <= GREY else film


def write_film(path: Path, frames: Iterable[np.ndarray], rate: int = 10) -> None:
    """Write frames uint8 (1 or 3, H, W) of one size as H.264 in mp4, as they come; odd sides lose a pixel.

    `path` is the temporary file of an `OutputFolder.writing`. `rate` is in frames a second. Equal frames give equal
    files. Raises ValueError for no frames, OSError when the disk is full.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a film needs a frame")
    height, width = (side // 2 * 2 for side in first.shape[1:])
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"threads": "1", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in chain([first], frames):
            pixels = np.broadcast_to(frame, (3, *frame.shape[1:]))[:, :height, :width].transpose(1, 2, 0)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
