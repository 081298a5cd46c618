"""`cytoforge import dataset`: annotated images of other programs to a dataset folder, or to a movie folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import renumbered
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Source,
    file_names,
    picture_size,
    read_picture,
    told,
)
from cytoforge.data.interchange.deepsea import DEEPSEA, Recording, components, recordings, tracked
from cytoforge.data.interchange.foreign import FORMATS, recognised
from cytoforge.data.lock import alone
from cytoforge.data.metadata import stated
from cytoforge.data.movie import MovieWriter
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.progress import Progress, counted
from cytoforge.settings import ImportDataset

BY = "cytoforge import dataset"
NUMBERED = "with one value for all cells: connected components were numbered, so cells that touch are one"


@alone
def import_dataset(config: ImportDataset) -> Path:
    """Write OUT/images and OUT/masks, or OUT/01 ... of tracked data; print what is left out, and why; return OUT.

    The annotations and the sizes of all images are read before anything is written. Raises UserError when the format
    is not known, when OUT lies in the data, when files are damaged or do not fit together, and as DatasetWriter.
    """
    _refuse_inside(config)
    source = Source(config.data, config.out, images=config.images)
    forms = recognised(source)
    if not forms:
        names = ", ".join(form.name for form in FORMATS)
        raise UserError(f"{config.data}: is of no format that is known here ({names}); see docs/formats.md")
    form, *others = forms
    notes = [f"also holds {other.name}, left out; give its file or folder to import it" for other in others]
    info = {"by": BY, "source": config.data.resolve().name, "format": form.name}
    if form is DEEPSEA and (found := recordings(source))[0]:
        said = _write_movie(config, found[0], info, [*found[1], *notes])
    else:
        data = form.open(source)
        if not data.items:
            raise UserError(f"{config.data}: {'; '.join(data.notes) or 'nothing is annotated'}; put both together")
        said = _write_dataset(config, data.items, info, [*data.notes, *notes])
    print(f"{config.out}: {said}, from {form.name}")
    return config.out


def _refuse_inside(config: ImportDataset) -> None:
    """Raise UserError when the result would lie in the data, or be the folder of its file."""
    out = config.out.resolve()
    for data in (config.data, config.images):
        folder = data is not None and data.is_dir()
        if data and (out.is_relative_to(data.resolve()) if folder else out == data.resolve().parent):
            raise UserError(f"{config.out}: lies in {data}, the data to import; choose a folder outside of it")


def _sized(items: tuple[Annotated, ...]) -> Iterator[tuple[int, int] | None]:
    for item in items:
        yield picture_size(item.image) if isinstance(item.image, Path) else None


def _write_dataset(config: ImportDataset, items: tuple[Annotated, ...], info: dict[str, Any], notes: list[str]) -> str:
    names = file_names(items)
    sizes = list(_sized(items))  # find an image that cannot be read before others are written
    groups = {name: item.group for name, item in zip(names, items, strict=True) if item.group}
    info |= {"groups": groups} if len(set(groups.values())) > 1 else {}
    if size_of_pixel := stated(item.image for item in items if isinstance(item.image, Path)).pixel_size:
        info["pixel_size"] = size_of_pixel
    drawn: list[Drawn] = []
    counts: list[int] = []
    parts = ("images", "masks") if any(item.image for item in items) else ("masks",)
    writer = DatasetWriter(config.out, info, overwrite=config.overwrite, suffix=".tif", names=names, parts=parts)
    progress = Progress("import")
    for done, (name, item, size) in enumerate(zip(names, items, sizes, strict=True), 1):
        image = _pixels(item)
        size = (image.shape[1], image.shape[2]) if image is not None else size
        cells = item.draw(size)
        writer.add(name, image, cells.labels)
        counts.append(np.setdiff1d(cells.labels, [0]).size)
        drawn.append(cells._replace(labels=cells.labels[:0]))
        progress(done / len(items))
    for name in writer.done - {*names}:
        writer.remove(name)
    notes += _told(names, drawn, counts)
    writer.finish()
    print("".join(f"{note}\n" for note in notes), end="")
    return f"{counted(len(items), 'image' if len(parts) > 1 else 'mask')}, {counted(sum(counts), 'cell')}"


def _pixels(item: Annotated) -> NDArray[Any] | None:
    return read_picture(item.image) if isinstance(item.image, Path) else item.image() if item.image else None


def _told(names: list[str], drawn: list[Drawn], counts: list[int]) -> list[str]:
    """Say what became of the annotations: shared pixels, annotations without a pixel, images without cells."""
    of = list(zip(names, drawn, strict=True))
    notes: list[str] = []
    if shared := sum(cells.shared for cells in drawn):
        where = [name for name, cells in of if cells.shared]
        notes += told("image", where, f"with cells that overlap: the smaller one has the {counted(shared, 'pixel')}")
    if lost := sum(cells.lost for cells in drawn):
        where = [name for name, cells in of if cells.lost]
        what = f"with {counted(lost, 'annotation')} that became no pixel (points, lines, boxes, specks or hidden cells)"
        notes += told("image", where, what)
    notes += told("image", [name for name, count in zip(names, counts, strict=True) if not count], "without a cell")
    notes += told("mask", [name for name, cells in of if cells.components], NUMBERED)
    return notes


def _write_movie(config: ImportDataset, movies: list[Recording], info: dict[str, Any], notes: list[str]) -> str:
    """Write all components to GT/SEG, and those that have a label, with the numbers of their tracks, to GT/TRA."""
    placed = [tracked(movie) for movie in movies]
    for movie in movies:
        sizes = {
            picture_size(file): file for number in movie.masks for file in (movie.images[number], movie.masks[number])
        }
        if len(sizes) > 1:
            one, other = list(sizes.items())[:2]
            raise UserError(f"{other[1]}: has {other[0]} pixels, {one[1].name} {one[0]}; bring all frames to one size")
    names = [f"{number:02d}" for number in range(1, len(movies) + 1)]
    info |= {"sequences": {name: {"source": movie.name} for name, movie in zip(names, movies, strict=True)}}
    kinds = ("frames", "GT/SEG", "GT/TRA")
    sources = [(name, kind) for name in names for kind in kinds]
    writer = MovieWriter(config.out, info, overwrite=config.overwrite, sources=sources)
    total, done, progress = sum(len(movie.masks) for movie in movies), 0, Progress("import")
    for name, movie, (cells, _) in zip(names, movies, placed, strict=True):
        for number in sorted(movie.masks):
            labels = components(movie.masks[number])
            writer.add_frame(name, number, read_picture(movie.images[number]))
            writer.add_masks(name, "GT/SEG", number, labels)
            writer.add_masks(name, "GT/TRA", number, renumbered(labels, cells.labels.get(number, {}), keep=False))
            done += 1
            progress(done / total)
        writer.add_tracks(name, "GT/TRA", cells.tracks)
        notes += [f"sequence {name} ({movie.name}): {note}" for note in cells.notes]
    writer.finish()
    notes.append(f"{counted(total, 'mask')} {NUMBERED}")
    print("".join(f"{note}\n" for note in notes), end="")
    tracks, divisions = sum(len(cells.tracks) for cells, _ in placed), sum(count for _, count in placed)
    return (
        f"a movie of {counted(len(movies), 'sequence')}, {counted(total, 'frame')}, {counted(tracks, 'track')} with "
        f"{counted(divisions, 'division')}"
    )
