"""The page that `track` leaves for people: trails of cells over the film, tracked cells, and lineages as trees."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cytoforge.data import movie
from cytoforge.data.film import write_film
from cytoforge.data.images import Normalisation, read_image, read_labels, resize_image, resize_labels
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.tracks import read_calibration
from cytoforge.extras import lacking
from cytoforge.inference.trails import Trails, trails
from cytoforge.metrics.sampling import evenly
from cytoforge.progress import tell_once
from cytoforge.report import Panel, Report, colour_labels, id_colours, overlay, panel
from cytoforge.tracking.lineage import divisions

REPORTED_FRAMES = 4  # frames of each sequence
TREES = 40  # lineages drawn: those with the most divisions, then the longest
PICTURE, FILM = 1400, 640  # longest side in pixels of pictures and of the film; small ones are enlarged to FILM
FILM_FRAMES = 200  # longer films leave frames out
TAIL = 15  # frames that trails of the film reach back


def write_report(
    folder: OutputFolder, given: Path, texts: Mapping[str, str], warnings: Mapping[str, Sequence[str]]
) -> Path:
    """Write report.html about the sequences of a tracked movie into its folder, and a film of each, such as 01.mp4:
    `texts` says of each what was found, and `warnings` what of that is hardly so.

    Frames are those of the movie that was tracked; where it has none, cells are shown alone, and there is no film.
    Nor is there one without the package av.
    """
    report = Report(
        f"Tracks of {given.name}",
        "a number and a colour are a track: in pictures, film and trees",
        "Outlines and trajectories",
    )
    originals = {sequence.name: sequence for sequence in movie.read_sequences(given, list(texts))}
    micrometres = read_calibration(given, None, None).pixel_size
    if absent := lacking("av"):
        tell_once(f"{folder.path}: the page has no films; writing them {absent}")
    for sequence in movie.read_sequences(folder.path, list(texts)):
        pictures = Pictures(sequence.masks["RES"], originals[sequence.name].frames)
        tracks = movie.read_tracks(sequence.tracks["RES"])
        report.heading(f"Sequence {sequence.name}")
        report.text(texts[sequence.name])
        if doubts := warnings[sequence.name]:
            report.verdict("These tracks look doubtful.", "poor", doubts)
        ways = trails(((number, read_labels(mask)) for number, mask in pictures.masks.items()), tracks)
        width = micrometres and micrometres * ways.shape[1]
        last = pictures.numbers[-1]
        report.image_grid(
            [[pictures.with_trails(last, ways)]],
            [f"frame {last}, and the trajectories of all cells up to it"],
            [""],
            "Trajectories of the middles of cells. Those of daughters begin where the mother was last; a dot with the "
            "number of its track is a cell in this frame. A click opens the picture.",
            [width],
        )
        if pictures.frames and not absent:
            film, step = movie.film(folder.path, sequence.name), pictures.step
            if not film.exists():
                with folder.writing(film.name) as file:
                    write_film(file, pictures.film(ways))
            every = f", every {step}th frame" if step > 1 else ""
            report.film(
                film.read_bytes(),
                f"The film, which is {film.name}, too{every}; trajectories reach {TAIL} frames back.",
            )
        shown = pictures.shown
        report.image_grid(
            [[pictures.outlined(number) for number in shown]],
            [f"frame {number}" for number in shown],
            [""],
            "Cells in the colours of their tracks.",
            [width],
        )
        if tracks:
            report.figure(courses(tracks), "Cells in each frame, and in how many frames a track is seen.")
            report.figure(lineages(tracks), _caption(tracks))
            report.folded("All lineages", *lineage_table(tracks))
    return report.write(folder)


class Pictures:
    """Pictures of a sequence: frames, by number, below the cells of its masks. All have the same brightness."""

    def __init__(self, masks: Mapping[int, Path], frames: Mapping[int, Path]) -> None:
        self.masks = masks
        self.numbers = sorted(masks)
        self.shown = [self.numbers[place] for place in evenly(len(masks), REPORTED_FRAMES)]
        """numbers of a few frames, spread over the movie"""
        self.frames = frames if all(number in frames for number in masks) else {}
        self.step = -(-len(masks) // FILM_FRAMES)
        """of so many frames the film shows one"""
        if self.frames:
            limits = [Normalisation().measure(read_image(self.frames[number])) for number in self.shown]
            self._limits = np.stack([np.min(limits, axis=0)[:, 0], np.max(limits, axis=0)[:, 1]], axis=1)

    def outlined(self, number: int) -> np.ndarray | Panel:
        """Return a frame with outlined cells."""
        image, labels = self._read(number, PICTURE)
        return colour_labels(labels) if image is None else panel(image, labels)

    def with_trails(self, number: int, ways: Trails) -> Panel:
        """Return a frame with the ways of all cells up to it, and the numbers of those that are in it."""
        image, labels = self._read(number, PICTURE)
        height, width = labels.shape
        times = max(1, FILM // max(height, width))
        lines = ways.drawn((times * height, times * width), number, named=True)
        return Panel(colour_labels(labels) // 3, lines) if image is None else Panel(panel(image, labels).picture, lines)

    def film(self, ways: Trails) -> Iterator[np.ndarray]:
        """Yield pictures uint8 (3, height, width): frames with outlined cells and the ways just behind them."""
        for number in self.numbers[:: self.step]:
            image, labels = self._read(number, FILM)
            assert image is not None, "a film has frames"
            times = max(1, FILM // max(labels.shape))
            picture = overlay(image, labels, times)
            lines = ways.drawn(picture.shape[:2], number, TAIL)
            opacity = lines[..., 3:] / 255
            yield np.rint(picture * (1 - opacity) + lines[..., :3] * opacity).astype(np.uint8).transpose(2, 0, 1)

    def _read(self, number: int, longest: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return a frame (C, H, W) in [-1, 1], None without, and its labels (H, W), made no longer than `longest`."""
        labels = read_labels(self.masks[number])
        scale = min(1.0, longest / max(labels.shape))
        height, width = (max(1, round(side * scale)) for side in labels.shape)
        labels = resize_labels(labels, (height, width))
        if not self.frames:
            return None, labels
        image = Normalisation().apply(read_image(self.frames[number]), self._limits)
        return resize_image(image, (height, width)), labels


def courses(tracks: Sequence[movie.Track]) -> Figure:
    """Chart the number of cells in each frame, counting tracks across gaps, and how many frames tracks last."""
    begin, end = (np.array([getattr(track, name) for track in tracks]) for name in ("begin", "end"))
    numbers = np.arange(begin.min(), end.max() + 1)
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    count, length = figure.subplots(1, 2)
    count.plot(numbers, ((begin <= numbers[:, None]) & (numbers[:, None] <= end)).sum(axis=1), color="#1f6fb5")
    count.set(xlabel="frame", ylabel="cells", ylim=(0, None))
    step = -(-len(numbers) // 20)
    length.hist(end - begin + 1, bins=np.arange(0.5, len(numbers) + step + 0.5, step).tolist(), color="#1f6fb5")
    length.set(xlabel="frames that a track lasts", ylabel="tracks")
    for axes in (count, length):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def lineages(tracks: Sequence[movie.Track], most: int = TREES) -> Figure:
    """Draw lineages as trees: a line from the first to the last frame of each track, joined where one descends, with
    the number of the track at its begin.

    Of more than `most` lineages those with the most divisions are drawn, then the longest.
    """
    families = _families(tracks)[:most]
    height = {track.label: row for row, track in enumerate(track for family in families for track in family)}
    figure = Figure(figsize=(8, 0.6 + 0.11 * max(len(height), 8)), layout="constrained")
    axes = figure.subplots()
    for family in families:
        for track in family:
            colour = id_colours(np.array([track.label]))[0] / 255 * 0.8  # they stand on white
            axes.plot([track.begin - 0.4, track.end + 0.4], [height[track.label]] * 2, color=colour, linewidth=2)
            axes.text(
                track.begin - 0.5,
                height[track.label],
                str(track.label),
                ha="right",
                va="center",
                fontsize=6,
                color="0.3",
            )
            if track.parent in height:
                axes.plot(
                    [track.begin - 0.4] * 2, [height[track.parent], height[track.label]], color="0.6", linewidth=1
                )
    axes.set(xlabel="frame", yticks=[], ylabel="tracks", ylim=(len(height) - 0.3, -0.7))
    return figure


def lineage_table(tracks: Sequence[movie.Track]) -> tuple[list[str], list[list[str | int]]]:
    """Return header and rows of a table of lineages, in the order of `lineages`; each is named by its first track."""
    rows: list[list[str | int]] = []
    for family in _families(tracks):
        end = max(track.end for track in family)
        left = sum(track.end == end for track in family)
        rows.append([str(family[0].label), family[0].begin, end, len(family), divisions(family), left])
    return ["lineage", "first frame", "last frame", "tracks", "divisions", "cells at its end"], rows


def _families(tracks: Sequence[movie.Track]) -> list[list[movie.Track]]:
    """Return the tracks of each lineage, mothers before daughters: first the lineages with the most divisions, then
    the longest.
    """
    children: dict[int, list[movie.Track]] = {}
    for track in tracks:
        children.setdefault(track.parent, []).append(track)
    known = {track.label for track in tracks}
    roots = [track for track in tracks if track.parent not in known]
    return sorted((_family(root, children) for root in roots), key=_weight, reverse=True)


def _family(track: movie.Track, children: Mapping[int, Sequence[movie.Track]]) -> list[movie.Track]:
    """Return a track and all that descend from it, each before its daughters."""
    found, waiting = [], [track]
    while waiting:
        found.append(waiting.pop())
        waiting += sorted(children.get(found[-1].label, ()), reverse=True)
    return found


def _weight(family: Sequence[movie.Track]) -> tuple[int, int]:
    return divisions(family), max(track.end for track in family) - family[0].begin


def _caption(tracks: Sequence[movie.Track]) -> str:
    known = {track.label for track in tracks}
    total = sum(track.parent not in known for track in tracks)
    chosen = (
        "" if total <= TREES else f" Shown are {TREES} of {total}: those with the most divisions, then the longest."
    )
    return f"A line is a track; grey lines join mothers with daughters, or a cell with itself after a gap.{chosen}"
