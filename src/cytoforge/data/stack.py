"""Frames of a movie, one at a time: the pages of a file, the images of a folder, or a film."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.data.film import SUFFIXES as FILMS
from cytoforge.data.film import Film
from cytoforge.data.formats import image_files, open_pixels
from cytoforge.data.images import frame_labels, read_image, read_labels
from cytoforge.data.movie import is_movie, some
from cytoforge.data.ngff import is_zarr
from cytoforge.data.view import ALL, View
from cytoforge.errors import UserError
from cytoforge.progress import counted, tell_once


@dataclass(frozen=True)
class Stack:
    """Frames of one size, images (C, H, W) or label images int32 (H, W), read again in each iteration."""

    path: Path
    frames: int
    shape: tuple[int, int, int]
    """channels, height, width"""
    read: Callable[[], Iterator[np.ndarray]]
    files: tuple[Path, ...]
    """where the frames come from"""

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.read()


def open_stack(path: Path, *, labels: bool = False, view: View = ALL) -> Stack:
    """Open the frames of a movie, or its label images: one image file, a folder of images, or a film.

    The images of a folder are in the natural order of their names, f2 before f10. Channels of a file without an axis
    of time are taken for frames, and the user is told. `view` chooses channels, and makes one plane of each stack in
    depth. Raises UserError for anything else, and for images of different sizes, channels or types; iteration raises as
    read_image and read_labels.
    """
    if path.suffix.lower() in FILMS and path.is_file():
        if labels:
            raise UserError(f"{path}: a film changes values, so it holds no masks; give a TIFF stack or a folder")
        film = Film(path)
        return Stack(path, film.frames, film.shape, film.__iter__, (path,))
    if path.is_dir() and not is_zarr(path):
        return _folder(path, labels, view)
    with open_pixels(path, labels=labels, movie=True, view=view) as pixels:
        frames, shape = pixels.frames, pixels.shape[1:]

    def read() -> Iterator[np.ndarray]:
        with open_pixels(path, labels=labels, movie=True, view=view) as pixels:
            for frame in range(frames):
                yield frame_labels(pixels, frame) if labels else pixels.read(frame=frame)[0]

    return Stack(path, frames, shape, read, (path,))


def _folder(path: Path, labels: bool, view: View) -> Stack:
    if is_movie(path):
        raise UserError(f"{path}: is a movie folder already; use it as it is")
    files = sorted(image_files(path), key=lambda file: natural(file.stem))
    if not files:
        raise UserError(f"{path}: holds no images; give the folder with an image per frame")
    others = sorted(f.name for f in path.iterdir() if f not in files and not f.name.startswith("."))
    if others:
        tell_once(f"{path}: left out as no images: {some('file', others)}")
    known: dict[tuple[tuple[int, int, int], np.dtype[Any] | None], Path] = {}
    for file in files:
        with open_pixels(file, labels=labels, view=view) as pixels:
            if pixels.frames > 1:
                raise UserError(
                    f"{file}: holds {pixels.frames} frames in a folder of images; give that file by itself, or save "
                    "each frame as a file"
                )
            kind = (pixels.shape[1:], None if labels else pixels.dtype)
        if kind not in known and known:
            (shape, dtype), first = next(iter(known.items()))
            (here, stored) = kind
            raise UserError(
                f"{file}: has {_told(here)} of {stored or 'ids'}, {first.name} has {_told(shape)} of {dtype or 'ids'}; "
                "export all frames alike"
            )
        known.setdefault(kind, file)
    _tell_gaps(path, files)
    (shape, _), _ = next(iter(known.items()))

    def read() -> Iterator[np.ndarray]:
        return (read_labels(file) if labels else read_image(file, view) for file in files)

    return Stack(path, len(files), shape, read, tuple(files))


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them: f2 before f10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _told(shape: tuple[int, ...]) -> str:
    return f"{counted(shape[0], 'channel')} of {shape[1]} x {shape[2]} pixels"


def _tell_gaps(path: Path, files: list[Path]) -> None:
    """Warn about missing numbers, if the file names differ in one number only."""
    keys = [natural(file.stem) for file in files]
    if len({len(key) for key in keys}) > 1:
        return
    differing = [column for column in zip(*keys, strict=True) if len(set(column)) > 1]
    if len(differing) == 1 and all(text == "" for _, text in differing[0]):
        numbers = [number for number, _ in differing[0]]
        steps = {after - before for before, after in pairwise(numbers)}
        if len(steps) > 1:
            tell_once(
                f"{path}: numbers are missing in the names, {numbers[0]} to {numbers[-1]} for {len(files)} images; "
                "they follow each other as frames 0, 1, 2 ..."
            )
