"""Masks of a movie folder to a synthetic movie folder, frame by frame; interrupted work goes on with the next frame."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import dense
from cytoforge.data import movie
from cytoforge.data.credits import credits_of, credits_of_run, merged, stored
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest
from cytoforge.data.film import write_film
from cytoforge.data.images import read_image, read_labels
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.engine import ALONE, Announce, Engine, Seat
from cytoforge.errors import UserError
from cytoforge.extras import lacking
from cytoforge.inference.enlarge import Enlarger
from cytoforge.inference.frames import Labels, SequencePainter, reduced, shrunk
from cytoforge.inference.image_generator import item_draw
from cytoforge.inference.movie_generator import MovieGenerator
from cytoforge.inference.painting import from_grey
from cytoforge.inference.recording import Recorder
from cytoforge.inference.tiling import Floats
from cytoforge.progress import tell_once
from cytoforge.tracking.lineage import mothers

BY = "cytoforge generate movie"
FILM = 768  # longest side of a film in pixels


@dataclass(frozen=True)
class Look:
    """How movies are painted, besides their masks and the generator."""

    background: Path | None = None
    """image without cells to paint before; without it one of the generator's own"""
    seed: int = 0
    """of style, noise and background"""
    style_mixing: float = 0.9
    """probability that two styles are mixed in a movie"""
    noise: bool = True
    """whether frames get the noise of the training movie's camera, drawn anew"""
    contrast: bool = True
    """whether each family of cells has a contrast of its own, drawn from those of the training movie"""
    texture: bool = False
    """whether each cell has texture and contrast of a real cell of the training movie"""

    def background_of(self, generator: MovieGenerator, sequence: str, size: tuple[int, int]) -> Floats:
        """Return the background of a sequence, (C, h, w) in [-1, 1]."""
        if self.background is None:
            return generator.drawn_background(self.seed, sequence, size)
        return generator.read_background(self.background, self.seed, sequence, size)


LOOK = Look()


@dataclass(frozen=True)
class Filmed:
    """How many frames were painted, and what the user should know."""

    frames: int
    notes: list[str]
    missing: int = 0
    """sequences of other parts that are not painted yet"""


def maskful(masks: Path, names: Sequence[str], out: Path) -> list[movie.Sequence]:
    """Return the sequences of a movie folder that have masks to paint on.

    Raises UserError when there are none, or OUT is the folder itself.
    """
    if not movie.is_movie(masks):
        raise movie.no_movie(masks, "01_GT/TRA/man_track000.tif ...", "give one with masks")
    sequences = [sequence for sequence in movie.read_sequences(masks, names) if sequence.masks]
    if not sequences:
        raise UserError(f"{masks}: holds no masks to paint on; give a movie folder with 01_GT/TRA or 01_ST/SEG")
    if out.resolve() == masks.resolve():
        raise UserError(f"{out}: holds the masks to paint on; give another --out")
    return sequences


def film_masks(
    generator: MovieGenerator,
    masks: Path,
    sequences: Sequence[movie.Sequence],
    out: Path,
    look: Look = LOOK,
    *,
    overwrite: bool = False,
    engine: Engine = ALONE,
) -> Filmed:
    """Write OUT/01/t000.tif, OUT/01_GT/TRA/man_track000.tif ... and OUT/dataset.json for sequences of `masks`.

    With a second stage OUT/01_LOW has the frames before they were enlarged; OUT/01.mp4 is for looking at, and left out
    without the extra `movies`. Frames have the grey values of the training movie, and where `look` says so the noise of
    its camera. What is painted next follows from frames without it; in one stage the last of these are in OUT/01_LOW
    meanwhile. One frame is in memory at a time. `engine` says which part of the sequences is painted, and where; the
    last part completes OUT. Raises UserError when masks or background do not serve, or OUT holds anything but an
    unfinished result of the same work.
    """
    generator.check_background(given=look.background is not None)
    for sequence in sequences:
        sequence.check_labels(binary=generator.settings.condition == "mask")
    mark = {
        "by": BY,
        "version": version("cytoforge"),
        "run": generator.run.resolve().name,
        "fingerprint": generator.fingerprint,
        "seed": look.seed,
        "style_mixing": look.style_mixing,
        "noise": look.noise,
        "contrast": look.contrast,
        "texture": look.texture,
        "background": None if look.background is None else digest(look.background),
        "masks": {sequence.name: _fingerprint(sequence) for sequence in sequences},
    }
    recorder = generator.recorder(look.seed, noise=look.noise, contrast=look.contrast, texture=look.texture)
    info = {"synthetic": mark, "scale": generator.scale, "limits": list(recorder.limits)}
    info |= stored(merged(credits_of_run(generator.run), credits_of(masks)))
    painted = [movie.FRAMES[0], movie.FIRST_STAGE[0]]
    names = [sequence.name for sequence in sequences]
    with at_work(out, engine.part):
        with in_turn(out):
            writer = movie.MovieWriter(
                out,
                info,
                overwrite=overwrite,
                sources=[(one.name, source) for one in sequences for source in (*painted, _masks_as(one))],
                beside=[movie.film(out, name).name for name in names],
            )
        if sentence := lacking("av"):
            tell_once(f"{out}: films to look at are left out; writing them {sentence}")
        work = Filming(generator, masks, writer, look, recorder, {**mark, "synthetic": True})
        frames, notes = 0, list[str]()
        if look.noise and not recorder.noise:
            notes.append(f"{generator.run}: does not tell the noise of its camera, so frames have none; train again")
        for _, told in engine.run(work, engine.share(sequences), "generate movie", lambda sequence: sequence.name):
            frames += told.frames
            notes += told.notes
        with in_turn(out):
            missing = writer.awaited(names)
            if not missing:
                writer.finish()
    return Filmed(frames, notes, missing)


@dataclass(frozen=True)
class Filming:
    """Paints the frames of a sequence, or what is missing of them, and writes the movie."""

    generator: MovieGenerator
    masks: Path
    writer: movie.MovieWriter
    look: Look
    recorder: Recorder
    mark: dict[str, Any]
    """what a file says of its origin"""

    def start(self, seat: Seat) -> Callable[[movie.Sequence, Announce], Filmed]:
        """Return the function that paints a sequence."""
        work = replace(self, generator=self.generator.seated(seat), writer=self.writer.seated(seat.writer))
        writer = work.writer

        def film(sequence: movie.Sequence, announce: Announce) -> Filmed:
            notes, total = [], len(numbers(sequence))
            cells = {cell for _, labels in _masks(sequence) for cell in dense(labels)[0].tolist()} - {0}
            if not cells:
                notes.append(
                    f"{self.masks}: no mask of sequence {sequence.name} holds a cell; its frames are painted without"
                )
            kin = {label for row in _tracks(sequence) for label in (row.label, row.parent)}
            if short := writer.announce(sequence.name, cells | kin):
                notes.append(short)
            for done, _ in enumerate(_paint_sequence(work, sequence), 1):
                announce(done / total)
            if sequence.track_source is not None:
                _write_tracks(self.masks, sequence, writer)
            if not lacking("av") and not (file := movie.film(writer.path, sequence.name)).exists():
                with writer.folder.writing(file.name) as temporary:
                    write_film(temporary, _filmed(writer, sequence, self.recorder))
            writer.folder.note(sequence.name, total)
            return Filmed(total, notes)

        return film


def _fingerprint(sequence: movie.Sequence) -> list[str]:
    files = [file for masks in sequence.masks.values() for file in masks.values()]
    return [digest(file) for file in (*files, *sequence.tracks.values())]


def numbers(sequence: movie.Sequence) -> list[int]:
    """Return the numbers of the frames that have a mask to paint on, in order."""
    source = sequence.source or sequence.track_source
    if source is None or source not in sequence.masks:
        raise UserError(f"sequence {sequence.name}: has no masks of every frame; add them, or leave the sequence out")
    markers = sequence.masks.get(sequence.track_source or source, {})
    return [number for number in sequence.masks[source] if number in markers or not markers]


def _masks(sequence: movie.Sequence) -> Iterator[tuple[int, Labels]]:
    """Yield number and labels of each frame, with the ids of the tracks where there are some."""
    if sequence.track_source is not None:
        yield from sequence.tracked()
    else:
        yield from ((n, read_labels(sequence.masks[str(sequence.source)][n])) for n in numbers(sequence))


def _paint_sequence(work: Filming, sequence: movie.Sequence) -> Iterator[int]:
    """Paint and write a sequence, or what is missing of it; yields each frame's number."""
    generator, writer, look, recorder = work.generator, work.writer, work.look, work.recorder
    name, mark = sequence.name, work.mark
    painter: SequencePainter | None = None
    enlarger: Enlarger | None = None
    size: tuple[int, ...] = ()
    frames_as, painted_as, masks_as = movie.FRAMES[0], movie.FIRST_STAGE[0], _masks_as(sequence)
    every, remembered = numbers(sequence), _remembered(generator, sequence, writer)
    scaling = generator.scaling
    if not isinstance(scaling, tuple):
        scaling /= Dataset.open(work.masks).scale  # simulated masks may be at the run's scale already
    small_masks = ((number, shrunk(labels, scaling)) for number, labels in _masks(sequence))
    cells = recorder.cells(small_masks, mothers(_tracks(sequence)), name)
    for place, (number, original) in enumerate(_masks(sequence)):
        labels = shrunk(original, scaling)
        if labels.min() > 0:
            raise UserError(f"sequence {name}, frame {number}: has no background; give masks, 0 outside cells")
        small = reduced(labels, generator.factor)
        if painter is None:
            size = labels.shape
            background = look.background_of(generator, name, (small.shape[0], small.shape[1]))
            painter = generator.painter(background, item_draw(look.seed, name, 1), look.style_mixing)
            enlarger = generator.enlarger((size[0], size[1]), item_draw(look.seed, name, 2), look.style_mixing)
            ground = generator.ground(background, size)
        if labels.shape != size:
            raise UserError(f"sequence {name}, frame {number}: masks differ in size; export them alike")
        image = None
        if writer.has(name, painted_as, number):
            image = read_image(writer.file(name, painted_as, number))
            painter.recall(small, image)
        elif place < remembered:
            painter.recall(small, None)
        else:
            image = painter.paint(small)
            writer.add_frame(name, number, image, mark, painted_as)
        if image is not None and not writer.has(name, frames_as, number):
            frame = from_grey(image if enlarger is None else enlarger.enlarge(from_grey(image)))
            frame = recorder.shown(frame, ground, labels, cells, name, number)
            writer.add_frame(name, number, recorder.stored(frame), mark)
        if not writer.has(name, masks_as, number):
            writer.add_masks(name, masks_as, number, labels, mark)
        if generator.enlarging is None:
            _forget(writer, name, every[max(place - generator.memory, 0) : max(place + 1 - generator.memory, 0)])
        yield number
    if generator.enlarging is None:
        _forget(writer, name, every)


def _remembered(generator: MovieGenerator, sequence: movie.Sequence, writer: movie.MovieWriter) -> int:
    """Return how many frames of a sequence are written, and need not be painted again to go on after them.

    In one stage, frames without noise are kept only as long as others follow from them.
    """

    def lost(source: str, frames: Iterable[int]) -> list[int]:
        return [number for number in frames if not writer.has(sequence.name, source, number)]

    if generator.enlarging is not None:
        return 0
    every = numbers(sequence)
    if not (missing := lost(movie.FRAMES[0], every)):
        return len(every)
    written = every.index(missing[0])
    return 0 if lost(movie.FIRST_STAGE[0], every[max(written - generator.memory, 0) : written]) else written


def _forget(writer: movie.MovieWriter, sequence: str, frames: Sequence[int]) -> None:
    """Remove frames of the first stage that no further frame follows from."""
    for number in frames:
        if writer.has(sequence, movie.FIRST_STAGE[0], number):
            writer.remove_frame(sequence, number, movie.FIRST_STAGE[0])


def _masks_as(sequence: movie.Sequence) -> str:
    return "GT/SEG" if sequence.track_source is None else "GT/TRA"


def _filmed(writer: movie.MovieWriter, sequence: movie.Sequence, recorder: Recorder) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames written of a sequence as a film shows them, grey or RGB."""
    low, high = recorder.limits
    for number in numbers(sequence):
        image = read_image(writer.file(sequence.name, "frames", number))
        every = -(-max(image.shape[1:]) // FILM)
        shown = image[: 3 if len(image) == 3 else 1, ::every, ::every].astype(np.float32)
        yield ((shown - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def _tracks(sequence: movie.Sequence) -> tuple[movie.Track, ...]:
    return movie.read_tracks(sequence.tracks[sequence.track_source]) if sequence.track_source else ()


def _write_tracks(masks: Path, sequence: movie.Sequence, writer: movie.MovieWriter) -> None:
    assert sequence.track_source is not None
    try:
        writer.add_tracks(sequence.name, "GT/TRA", _tracks(sequence))
    except ValueError as error:
        file = sequence.tracks[sequence.track_source]
        raise UserError(f"{file}: does not agree with its masks; run cytoforge check {masks}") from error
