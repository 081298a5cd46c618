"""What `cytoforge check --fix` does: a copy of a dataset in which masks number the cells, each in one piece."""

from dataclasses import dataclass, field
from pathlib import Path

from cytoforge.cells.labels import connected, pieces_apart
from cytoforge.data import movie
from cytoforge.data.dataset import Dataset, parts
from cytoforge.data.formats import read_mark
from cytoforge.data.images import encode_labels, read_header, read_labels
from cytoforge.data.interchange.annotated import told
from cytoforge.data.lock import held
from cytoforge.data.tracks import OWN
from cytoforge.data.writer import DatasetWriter, copied_name, copy_image
from cytoforge.errors import UserError
from cytoforge.metrics.label_images import SPECK, Verdict, judge, traits
from cytoforge.progress import Progress, counted

BY = "cytoforge check --fix"


@dataclass
class Done:
    """What became of the masks of a dataset, by their names."""

    masks: int = 0
    numbered: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    cells: int = 0
    """in the masks that were numbered"""
    split: int = 0
    added: int = 0
    strays: int = 0

    def sentences(self) -> list[str]:
        """Say what was done to how many masks, and name some."""
        alone = f"with one value for all cells, numbered by connected components: {counted(self.cells, 'cell')}"
        became = [f"{counted(self.split, 'id')} became {self.split + self.added} cells"] * bool(self.split)
        became += [f"{counted(self.strays, 'stray piece')} became background"] * bool(self.strays)
        unchanged = self.masks - len(self.numbered) - len(self.apart) - len(self.left)
        return [
            *told("mask", self.numbered, f"{alone}; cells that touch are one"),
            *told("mask", self.apart, f"with cells in pieces: {' and '.join(became)}"),
            *told("mask", self.left, "that cannot be mended so, copied unchanged"),
            *[f"{counted(unchanged, 'mask')} copied unchanged"] * bool(unchanged),
        ]


def mended(path: Path, out: Path, *, overwrite: bool = False) -> list[str]:
    """Write a copy of a dataset, or of a folder of these, to `out`; return what was done, a sentence each.

    Binary masks get a number for each connected component; in label images each piece of an id gets an id of its own,
    and stray pixels become background. Other masks, and images, are copied as they are. Raises UserError for a movie,
    when `out` lies in the data, when there are no masks, and as read_labels and DatasetWriter.
    """
    if out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{out}: lies in {path}, which is left as it is; choose a folder outside of it")
    inside = parts(path) if path.is_dir() and not movie.is_movie(path) else []
    for each in inside or [path]:
        if movie.is_movie(each):
            raise UserError(f"{each}: is a movie, in which tracks name the cells; mend its masks by hand")
    sentences = []
    with held(out):
        for each in inside or [path]:
            copy = out / each.name if inside else out
            told = _mended(Dataset.open(each, holds="masks"), copy, overwrite)
            sentences += [f"{copy}: {sentence}" for sentence in told]
    return sentences


def _mended(data: Dataset, out: Path, overwrite: bool) -> list[str]:
    masks = {item.name: item.mask for item in data.masks().items if item.mask}
    verdicts = judge([traits(read_labels(file), read_header(file)[1]) for file in masks.values()])
    info = {"by": BY, "source": data.path.resolve().name} | {k: v for k, v in data.info.items() if k not in OWN}
    writer = DatasetWriter(out, info, overwrite=overwrite, names=[item.name for item in data.items])
    done, progress = Done(len(masks)), Progress("fix")
    for item in data.items:
        if item.image:
            copy_image(item.image, writer.folder, f"images/{item.name}")
    for count, ((name, file), verdict) in enumerate(zip(masks.items(), verdicts, strict=True), 1):
        _mend(writer, name, file, verdict, done)
        progress(count / len(masks))
    writer.finish()
    return done.sentences()


def _mend(writer: DatasetWriter, name: str, file: Path, verdict: Verdict | None, done: Done) -> None:
    """Write the mended mask of one image, or a copy, and note which."""
    labels = read_labels(file)
    changed = True
    if verdict and verdict.kind == "binary":
        labels = connected(labels)
        done.numbered.append(name)
        done.cells += int(labels.max())
    elif verdict:
        changed = False
        done.left.append(f"{name}: {verdict.what}")
    else:
        labels, split, added, strays = pieces_apart(labels, SPECK)
        changed = added + strays > 0
        done.apart += [name] * changed
        done.split, done.added, done.strays = done.split + split, done.added + added, done.strays + strays
    if not changed:
        copy_image(file, writer.folder, f"masks/{name}")
        return
    target = Path(copied_name(name, file))
    target = target if labels.max() < 2**16 else target.with_suffix(".tif")
    writer.folder.write(f"masks/{target}", encode_labels(target, labels, read_mark(file) or None))
