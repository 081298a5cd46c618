"""Film files: video from cameras and other programs is read, and compressed 8-bit films are written for viewing."""

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytoforge.errors import UserError
from cytoforge.extras import require
from cytoforge.progress import tell_once

if TYPE_CHECKING:
    import av

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
GREY = 3  # of 255 grey levels: largest difference between channels, left by compression, in a film without colours


class Film:
    """Frames (C, H, W) of a film, decoded one at a time in each iteration; C is 1 if all frames are grey, else 3.

    Grey formats keep the stored values. In all other formats the full range is 0 to 255 with 8 bits, and 0 to 65535
    with more. The constructor decodes the film once to count the `frames` and find their `shape` (C, H, W). Raises
    UserError without the extra `movies`, and when the file is no film, is damaged, holds no frame, or holds frames of
    several sizes.
    """

    def __init__(self, path: Path) -> None:
        require(str(path), "av", otherwise="export the film as a TIFF stack")
        self.path, self._grey = path, False
        self.frames, spread, announced = 0, 0.0, 0
        sizes: dict[tuple[int, ...], int] = {}
        with _listening() as said:
            for frame, total in self._decoded():
                pixels = _pixels(frame)
                sizes.setdefault(pixels.shape[-2:], self.frames)
                spread = max(spread, np.ptp(pixels, axis=0).max() / (1 if pixels.dtype == np.uint8 else 257))
                self.frames, announced = self.frames + 1, total
        if said:
            raise UserError(f"{path}: is damaged ({said[0][2].strip()}); export it anew, best as a TIFF stack")
        if not self.frames:
            raise UserError(f"{path}: holds no frame; export it anew, best as a TIFF stack")
        if len(sizes) > 1:
            (first, _), (other, where) = list(sizes.items())[:2]
            raise UserError(f"{path}: frame {where} has another size than those before, {other} and {first}; cut it")
        if announced > self.frames:
            tell_once(f"{path}: says that it holds {announced} frames; {self.frames} could be read")
        self._grey = spread <= GREY
        height, width = next(iter(sizes))
        self.shape = (1 if self._grey else 3, height, width)

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame, _ in self._decoded():
            pixels = _pixels(frame)
            yield pixels[len(pixels) // 2 :][:1] if self._grey else pixels

    def _decoded(self) -> "Iterator[tuple[av.VideoFrame, int]]":
        """Yield each frame with the total number of frames that the file announces, 0 if it announces none."""
        import av

        try:
            with av.open(str(self.path), metadata_errors="replace") as container:
                if not container.streams.video:
                    raise UserError(f"{self.path}: holds no video; give a film or a stack of frames")
                for number, frame in enumerate(container.decode(video=0)):
                    if frame.is_corrupt:
                        raise UserError(f"{self.path}: frame {number} is damaged; export it anew, best as a TIFF stack")
                    yield frame, container.streams.video[0].frames
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(
                f"{self.path}: cannot be read as a film ({error}); export it anew, best as a TIFF stack"
            ) from error


@contextlib.contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the errors that the decoder logs, as it fills gaps and continues instead of raising them."""
    import av.logging

    level, skipping = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=False) as said:
            yield said
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skipping)


def _pixels(frame: "av.VideoFrame") -> np.ndarray:
    """Return a frame as (1, H, W) if its format is grey, else as RGB (3, H, W)."""
    name, bits = frame.format.name, max(component.bits for component in frame.format.components)
    if name.startswith("gray"):
        kind = "f" if name.startswith("grayf") else "u"
        stored = np.dtype(f"{'>' if name.endswith('be') else '<'}{kind}{(bits + 7) // 8}")
        plane = np.frombuffer(memoryview(frame.planes[0]), stored).reshape(frame.height, -1)
        return np.array(plane[None, :, : frame.width], stored.newbyteorder("="))
    colours = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
    return np.ascontiguousarray(colours.transpose(2, 0, 1))


def write_film(path: Path, frames: Iterable[np.ndarray], rate: int = 10) -> None:
    """Write frames uint8 (1 or 3, H, W) of one size as H.264 in mp4, one by one.

    Odd sides lose a pixel, but a side of 1 px gains one. `path` is the temporary file of an `OutputFolder.writing`.
    `rate` is in frames per second. Equal frames give equal files. Needs the extra `movies`. Raises ValueError for no
    frames, OSError when the disk is full.
    """
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a film needs a frame")
    height, width = (max(side // 2 * 2, 2) for side in first.shape[1:])
    with av.open(str(path), "w", format="mp4") as container:
        # instructions that not all processors have would give other bytes, and not always the same
        options = {"threads": "1", "crf": "18", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in chain([first], frames):
            whole = np.pad(frame, [(0, 0), *((0, max(2 - side, 0)) for side in frame.shape[1:])], "edge")
            pixels = np.broadcast_to(whole, (3, *whole.shape[1:]))[:, :height, :width].transpose(1, 2, 0)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
