"""`cytoforge import tracks`: put tracks of other tools on the masks of a movie, and write a movie folder."""

from pathlib import Path

from cytoforge.cells.labels import renumbered
from cytoforge.data.formats import read_mark
from cytoforge.data.images import read_image, read_labels
from cytoforge.data.interchange.tables import read_napari
from cytoforge.data.interchange.trackmate import read_trackmate
from cytoforge.data.lock import alone
from cytoforge.data.movie import MovieWriter, left_out, read_sequences
from cytoforge.data.tracks import (
    Calibration,
    Spots,
    movie_info,
    place,
    read_calibration,
    read_masks,
)
from cytoforge.errors import UserError
from cytoforge.extras import require
from cytoforge.progress import counted
from cytoforge.settings import ImportTracks


@alone
def import_tracks(config: ImportTracks) -> Path:
    """Write frames, masks and tracks to OUT/NN and OUT/NN_RES; print which spots and cells have no match; return OUT.

    Everything is read and matched before anything is written. Raises UserError when a file cannot be read or is of no
    known format, when the movie has several sequences and none is named, and as `tracks.place`.
    """
    if config.out.resolve() == config.masks.resolve():
        raise UserError(f"{config.out}: is the movie itself; choose another folder")
    sequences = read_sequences(config.masks, [config.sequence] if config.sequence else [])
    if len(sequences) != 1:
        names = ", ".join(sequence.name for sequence in sequences) or "none"
        raise UserError(f"{config.masks}: has the sequences {names}, tracks belong to one; pick it by --sequence")
    sequence = sequences[0]
    sequence.check_labels()
    calibration = read_calibration(config.masks, config.pixel_size, config.frame_interval)
    placed = place(_read(config.tracks, calibration), read_masks(sequence), config.tracks)
    info = movie_info(config.masks, calibration) | {"source": config.tracks.name}
    sources = [(sequence.name, source) for source in ("frames", "RES")]
    writer = MovieWriter(config.out, info, overwrite=config.overwrite, sources=sources)
    short = writer.announce(sequence.name, [track.label for track in placed.tracks])
    for number, file in sequence.frames.items():
        writer.add_frame(sequence.name, number, read_image(file), read_mark(file) or None)
    for number, file in sequence.masks[sequence.source or ""].items():
        labels = renumbered(read_labels(file), placed.labels.get(number, {}), keep=False)
        writer.add_masks(sequence.name, "RES", number, labels, read_mark(file) or None)
    writer.add_tracks(sequence.name, "RES", placed.tracks)
    writer.finish()
    cells = sum(len(labels) for labels in placed.labels.values())
    said = f"{counted(len(placed.tracks), 'track')} of {counted(cells, 'cell')} on masks of {sequence.source}"
    notes = [*left_out(config.masks, [sequence.name]), *(f"{config.tracks}: {note}" for note in placed.notes)]
    notes += [short] if short else []
    print("\n".join([*notes, f"{config.out}: {said}"]))
    return config.out


def _read(path: Path, calibration: Calibration) -> Spots:
    """Read tracks in the format that the file name indicates."""
    if path.is_dir():
        require(str(path), "geff", otherwise="give TrackMate's .xml or a .csv for napari")
        from cytoforge.data.interchange.geff import read_geff  # takes a second

        return read_geff(path, calibration)
    if path.suffix.lower() == ".xml":
        return read_trackmate(path, calibration)
    if path.suffix.lower() == ".csv":
        return read_napari(path)
    raise UserError(f"{path}: is of no known format; give TrackMate's .xml, a GEFF folder or a .csv for napari")
