"""Split of a movie's frames into training and test frames, copies of both at one scale, and reading of frames."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest
from cytoforge.data.images import read_image, resize_image, scaled_shape
from cytoforge.data.movie import (
    MovieWriter,
    Track,
    first_stage,
    gaps,
    is_movie,
    left_out,
    no_movie,
    read_sequences,
    read_tracks,
    tracks_of,
)
from cytoforge.data.movie import Sequence as Filmed
from cytoforge.data.writer import read_info
from cytoforge.errors import UserError
from cytoforge.inference.frames import shrunk
from cytoforge.inference.painting import from_grey
from cytoforge.inference.recording import Recorder
from cytoforge.progress import counted, say
from cytoforge.simulation.faults import Faults
from cytoforge.studies.specification import SequenceStudy
from cytoforge.tracking.linking import numbered
from cytoforge.training.tasks.staged import finished

FEWEST_TRAINED, FEWEST_TESTED = 5, 2  # fewest frames of a sequence, of which training keeps one for validation


class Part(NamedTuple):
    """The frames with masks of some sequences of a movie folder, in a share of their time."""

    path: Path
    names: Sequence[str]
    span: tuple[float, float] = (0.0, 1.0)

    def frames(self) -> list[tuple[Filmed, list[int]]]:
        """Return each sequence with the numbers of its frames; raises UserError where it has no tracks."""
        found = []
        for sequence in read_sequences(self.path, self.names):
            numbers = [number for number in sequence.tracked_frames() if number in sequence.frames]
            start, stop = (round(share * len(numbers)) for share in self.span)
            found.append((sequence, numbers[start:stop]))
        return found


def split_movies(study: SequenceStudy) -> tuple[Part, Part]:
    """Return the frames to train on and those to test on.

    To test on are the sequences of --test or --test-sequence, or else the last sequence of DATA that --sequence does
    not name. If that leaves none to train on, its last frames are tested on, a share of `test_share`. Raises UserError
    where a movie has no tracks, too few frames or missing ones, is synthetic, or would be tested on frames to train on.
    """
    (data,) = study.data
    test = study.test or data
    for path in dict.fromkeys((data, test)):
        if not is_movie(path):
            raise no_movie(path, "01/t000.tif, 01_GT/TRA/man_track000.tif ...")
        if witness := Dataset.open(path).synthetic():
            raise UserError(f"{witness}: says that this movie is synthetic; a study wants a real one")
        for sequence in read_sequences(path):
            sequence.check_labels()
        say(left_out(path))
    named, tested = _names(data, study.sequence), _names(test, study.test_sequence)
    span = 1.0
    if test.resolve() == data.resolve():
        if not study.test_sequence:
            tested = ([name for name in tested if name not in named] or named)[-1:]
        others = [name for name in named if name not in tested]
        if study.sequence and study.test_sequence and others != named and named != tested:
            shared = ", ".join(name for name in named if name in tested)
            raise UserError(f"--sequence and --test-sequence share {shared}; name others, or the same in both")
        span = 1.0 if others else 1 - study.test_share
        named = others or tested
    parts = Part(data, named, (0.0, span)), Part(test, tested, (span % 1.0, 1.0))
    if shared_frames := _checked(parts[0], "train", FEWEST_TRAINED) & _checked(parts[1], "test", FEWEST_TESTED):
        raise UserError(
            f"{test}: {counted(len(shared_frames), 'frame')} to test on would be trained on, too; give another movie "
            "with --test, or other sequences"
        )
    return parts


def _names(path: Path, given: Sequence[str]) -> list[str]:
    return [sequence.name for sequence in read_sequences(path, given)]


def _checked(part: Part, purpose: str, least: int) -> set[str]:
    """Return digests of the frames; raises UserError where these are too few or not in a row."""
    digests = set()
    for sequence, numbers in part.frames():
        if len(numbers) < least:
            raise UserError(
                f"{part.path}: sequence {sequence.name} has {counted(len(numbers), 'frame')} with masks to {purpose} "
                f"on, {least} are needed; give a longer movie"
            )
        if missing := gaps(numbers):
            raise UserError(
                f"{part.path}: sequence {sequence.name} lacks frame or mask {missing[0]}; add it, or cut the movie"
            )
        digests |= {digest(sequence.frames[number]) for number in numbers}
    return digests


def copy_movie(part: Part, out: Path, scale: float = 1.0) -> Path:
    """Copy frames with their masks and tracks to a movie folder, unless this was done before; return the folder.

    Frames are numbered from 0 and resized by `scale`, so that real and painted movies have one size. A track is the
    frames in a row in which the masks show the cell; after a gap a new track begins.
    """
    if finished(out):
        return out
    facts = {"from": part.path.name, "from_sequences": list(part.names), "span": list(part.span), "resized": scale}
    writer = MovieWriter(out, facts)
    for sequence, numbers in part.frames():

        def labels_of(number: int, sequence: Filmed = sequence) -> np.ndarray:
            return shrunk(sequence.read_tracked(number), scale)

        cells = {place: np.setdiff1d(labels_of(number), [0]).tolist() for place, number in enumerate(numbers)}
        tracks, renamed = tracks_of(cells)
        if short := writer.announce(sequence.name, [track.label for track in tracks]):
            say([short])
        for place, number in enumerate(numbers):
            labels = labels_of(number)
            for (frame, cell), label in renamed.items():
                if frame == place:
                    labels[labels == cell] = label
            writer.add_frame(sequence.name, place, _resized(read_image(sequence.frames[number]), scale))
            writer.add_masks(sequence.name, "GT/TRA", place, labels)
        known = read_tracks(sequence.tracks[str(sequence.track_source)])
        writer.add_tracks(sequence.name, "GT/TRA", _with_parents(tracks, known, renamed))
    return writer.finish()


def spoil_movie(movie: Path, out: Path, seed: int) -> Path:
    """Copy a movie with masks that are wrong on purpose, unless this was done before; return the folder.

    Cells are missed, invented, merged and split as by the defaults of `Faults`, anew with each seed.
    """
    if finished(out):
        return out
    writer, faults = MovieWriter(out, {"from": movie.name, "seed": seed}), Faults()
    for place, sequence in enumerate(read_sequences(movie)):
        generator = np.random.default_rng([seed, place])
        for number, labels in sequence.tracked():
            writer.add_frame(sequence.name, number, read_image(sequence.frames[number]))
            writer.add_masks(sequence.name, "ST/SEG", number, numbered(faults(labels, generator)))
    return writer.finish()


def interpolate_movie(painted: Path, out: Path, recorder: Recorder) -> Path:
    """Enlarge the first stage's frames of a movie painted in two stages linearly, unless this was done before.

    They are recorded as the movie's own frames; masks and tracks are those of the movie. Returns the folder.
    """
    if finished(out):
        return out
    info = {key: value for key, value in read_info(painted).items() if key in ("synthetic", "scale", "limits")}
    writer = MovieWriter(out, {**info, "enlarged": "linear interpolation"})
    for sequence in read_sequences(painted):
        small_frames = first_stage(painted, sequence.name)
        for number, labels in sequence.tracked():
            small = read_image(small_frames[number])
            factor = math.ceil(labels.shape[0] / small.shape[1])
            large = resize_image(small.astype(np.float32), (factor * small.shape[1], factor * small.shape[2]))
            frame = from_grey(large[:, : labels.shape[0], : labels.shape[1]])
            writer.add_frame(sequence.name, number, recorder.record(frame, sequence.name, number))
            writer.add_masks(sequence.name, "GT/TRA", number, labels)
        writer.add_tracks(sequence.name, "GT/TRA", read_tracks(sequence.tracks[str(sequence.track_source)]))
    return writer.finish()


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize an image (C, H, W) and keep its type."""
    if scale == 1:
        return image
    small = resize_image(image.astype(np.float32), scaled_shape(image.shape, scale))
    return (small.round() if np.issubdtype(image.dtype, np.integer) else small).astype(image.dtype)


def _with_parents(
    tracks: Sequence[Track], known: Sequence[Track], renamed: Mapping[tuple[int, int], int]
) -> list[Track]:
    """Give tracks the parents of a track file, as far as these are among the tracks and end before them."""
    parents = {track.label: track.parent for track in known}
    by_label = {track.label: track for track in tracks}
    last = {label: track for label, track in by_label.items() if label not in renamed.values()}
    for (_, cell), label in renamed.items():  # For a cell with gaps, this is the track after the last gap.
        last[cell] = max(last[cell], by_label[label], key=lambda track: track.end)
    found = []
    for track in tracks:
        mother = last.get(parents.get(track.label, 0))
        born = track.parent == 0 and mother is not None and mother.end < track.begin
        found.append(track._replace(parent=mother.label) if mother is not None and born else track)
    return found


def read_frames(path: Path, sequence: str, places: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Read all or some frames of a sequence, float32 (C, H, W) in [-1, 1], all by the same limits of grey values.

    `places` count from 0 in the order of time; a place beyond the last frame gives the last frame.
    """
    data = Dataset.open(path, (sequence,))
    limits, last = data.common_limits() if data.limits is None else None, len(data.items) - 1
    wanted = range(last + 1) if places is None else [min(place, last) for place in places]
    return (data.read_image(data.items[place], limits=limits) for place in wanted)
