"""`cytoforge track`: find tracks and lineages from the masks of a movie, or from its frames."""

from pathlib import Path

from cytoforge.commands.narrowed import engine_of, view_of
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.track import check_movie, track_movie
from cytoforge.inference.tracker import Tracker
from cytoforge.progress import counted
from cytoforge.settings import Track


def track(settings: Track) -> Path:
    """Track a movie folder into OUT and print what was found; returns OUT. Raises as `track_movie`."""
    check_movie(settings.movie, settings.out, overwrite=settings.overwrite)  # before networks are loaded
    tracker = open_tracker(settings)
    segmenter = None
    if settings.segment is not None:
        segmenter = Segmenter.load(settings.segment, device=settings.device, threads=settings.threads)
    result = track_movie(
        tracker,
        settings.movie,
        settings.out,
        sequences=settings.sequence,
        segmenter=segmenter,
        diameter=settings.diameter,
        view=view_of(settings),
        overwrite=settings.overwrite,
        engine=engine_of(settings),
    )
    for note in result.notes:
        print(note)
    for name, text in result.found.items():
        print(f"{settings.out / name}_RES: " + text.replace("\n", "\n    "))
    if result.page is None:
        print(f"{settings.out}: {counted(result.missing, 'sequence')} of other parts still to come")
        return settings.out
    print(
        f"{result.page}: tracks over the frames, and lineages; cytoforge score tracking {settings.out} TRUTH, or "
        f"cytoforge export {settings.out} --format trackmate --out FILE"
    )
    return settings.out


def open_tracker(settings: Track) -> Tracker:
    """Open the tracker that the flags name; raises as `Tracker.load`."""
    return Tracker.load(
        settings.tracker,
        gap=settings.gap,
        distance=settings.distance,
        device=settings.device,
        threads=settings.threads,
    )
