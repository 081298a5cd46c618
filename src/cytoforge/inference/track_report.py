"""The page that `track` leaves for people: tracked cells over the frames, and their lineages as trees."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cytoforge.data import movie
from cytoforge.data.images import Normalisation, read_image, read_labels
from cytoforge.data.ownership import OutputFolder
from cytoforge.report import Panel, Report, colour_labels, id_colours, panel

REPORTED_FRAMES = 4  # frames of each sequence
TREES = 40  # lineages drawn: those with the most divisions, then the longest


def write_report(
    folder: OutputFolder, given: Path, texts: Mapping[str, str], warnings: Mapping[str, Sequence[str]]
) -> Path:
    """Write report.html about the sequences of a tracked movie into its folder: `texts` says of each what was found,
    and `warnings` what of that is hardly so.

    Frames are those of the movie that was tracked; where it has none, cells are shown alone.
    """
    report = Report(f"Tracks of {given.name}", "a colour is a cell, here and in the trees")
    originals = {sequence.name: sequence for sequence in movie.read_sequences(given, list(texts))}
    for sequence in movie.read_sequences(folder.path, list(texts)):
        masks, frames = sequence.masks["RES"], originals[sequence.name].frames
        numbers = sorted(masks)
        shown = [
            numbers[round(place)] for place in np.linspace(0, len(numbers) - 1, min(REPORTED_FRAMES, len(numbers)))
        ]
        tracks = movie.read_tracks(sequence.tracks["RES"])
        report.heading(f"Sequence {sequence.name}")
        report.text(texts[sequence.name])
        if doubts := warnings[sequence.name]:
            report.verdict("These tracks look doubtful.", "poor", doubts)
        row = [_picture(masks[number], frames.get(number)) for number in shown]
        report.image_grid(
            [row], [f"frame {number}" for number in shown], ["tracks"], "Cells with the colours of tracks."
        )
        if tracks:
            report.figure(courses(tracks), "Cells in each frame, and in how many frames a track is seen.")
            report.figure(lineages(tracks), _caption(tracks))
    return report.write(folder)


def _picture(mask: Path, frame: Path | None) -> np.ndarray | Panel:
    labels = read_labels(mask)
    if frame is None:
        return colour_labels(labels)
    image, normalisation = read_image(frame), Normalisation()
    return panel(normalisation.apply(image, normalisation.measure(image)), labels)


def courses(tracks: Sequence[movie.Track]) -> Figure:
    """Chart the number of cells in each frame, counting tracks across gaps, and how many frames tracks last."""
    begin, end = (np.array([getattr(track, name) for track in tracks]) for name in ("begin", "end"))
    numbers = np.arange(begin.min(), end.max() + 1)
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    count, length = figure.subplots(1, 2)
    count.plot(numbers, ((begin <= numbers[:, None]) & (numbers[:, None] <= end)).sum(axis=1), color="#1f6fb5")
    count.set(xlabel="frame", ylabel="cells", ylim=(0, None))
    length.hist(end - begin + 1, bins=min(20, len(numbers)), color="#1f6fb5")
    length.set(xlabel="frames that a track lasts", ylabel="tracks")
    for axes in (count, length):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def lineages(tracks: Sequence[movie.Track], most: int = TREES) -> Figure:
    """Draw lineages as trees: a line from the first to the last frame of each track, joined where one descends, with
    the number of the track at its begin.

    Of more than `most` lineages those with the most divisions are drawn, then the longest.
    """
    children: dict[int, list[movie.Track]] = {}
    for track in tracks:
        children.setdefault(track.parent, []).append(track)
    known = {track.label for track in tracks}
    roots = [track for track in tracks if track.parent not in known]
    families = sorted((_family(root, children) for root in roots), key=_weight, reverse=True)[:most]
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
    axes.set(xlabel="frame", yticks=[], ylabel="tracks")
    axes.invert_yaxis()
    return figure


def _family(track: movie.Track, children: Mapping[int, Sequence[movie.Track]]) -> list[movie.Track]:
    """Return a track and all that descend from it, each before its daughters."""
    found, waiting = [], [track]
    while waiting:
        found.append(waiting.pop())
        waiting += sorted(children.get(found[-1].label, ()), reverse=True)
    return found


def _weight(family: Sequence[movie.Track]) -> tuple[int, int]:
    return len(family), max(track.end for track in family) - family[0].begin


def _caption(tracks: Sequence[movie.Track]) -> str:
    known = {track.label for track in tracks}
    total = sum(track.parent not in known for track in tracks)
    chosen = (
        "" if total <= TREES else f" Shown are {TREES} of {total}: those with the most divisions, then the longest."
    )
    return f"A line is a track; grey lines join mothers with daughters, or a cell with itself after a gap.{chosen}"
