"""Datasets to label images on disk: what is segmented already is kept, and no annotation is ever replaced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field

from cytoforge.data.dataset import Dataset, Item
from cytoforge.data.files import digest, read_json
from cytoforge.data.formats import SUFFIXES
from cytoforge.data.images import scaled_shape
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.run_config import Settings, parse
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.data.tracks import calibration_of
from cytoforge.engine import ALONE, Engine
from cytoforge.errors import UserError
from cytoforge.inference.segment_work import (
    OWNER,
    DecodingPanels,
    PanelOf,
    Segmenting,
    image_of,
    panels_among,
    sweep_all,
)
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import Floats, margin
from cytoforge.progress import counted, say

FORMAT = 1  # of segment.json
RECORD = "segment.json"
SAME = ("fingerprint", "tile", "views", "precision", "limits", "scale", "own_sizes", "channels", "project")
"""entries in which masks of one record agree"""
EXAMINED = 4  # images from which the size of the cells is estimated
LABELS = {*SUFFIXES, ".npy", ".npz", ".jpg", ".jpeg", ".bmp", ".gif", ".h5", ".hdf5", ".mat"}  # that hold annotations
One = TypeVar("One")


@dataclass(frozen=True)
class Segmented:
    """How many images have masks, how many of them had them already, and how many cells all masks hold."""

    images: int
    kept: int
    cells: int
    diameter: float | None = None
    """pixels across that cells were taken to have, by the base model"""
    diameters: tuple[float, float] | None = None
    """the least and the most of those by image"""
    missing: int = 0
    """images of other parts that have no mask yet"""


def fitted(segmenter: Segmenter, images: Dataset, diameter: float | None = None) -> Segmenter:
    """Return a segmenter for images whose cells are `diameter` pixels across; without it that is estimated.

    The estimate is one for all images, from the middles of a few of them. A segmenter that resizes all images alike
    does so less what dataset.json says was done already; cells are measured as they are. Raises UserError for a
    diameter out of range, or that such a segmenter has no use for.
    """
    if segmenter.diameter is None and diameter is None:
        return segmenter.at(images.scale)
    segmenter = segmenter.for_channels(images.channels())
    if diameter is None:
        diameter = estimated(segmenter, images.items, lambda item: _middle(segmenter, images, item))
    return segmenter.for_cells(diameter)


def estimated(segmenter: Segmenter, images: Sequence[One], middle_of: Callable[[One], Floats]) -> float:
    """Estimate the diameter in pixels of the cells of images, from the middles of a few that are spread over all.

    `middle_of` gives the middle of one of `images`, as `Segmenter.middle` does.
    """
    chosen = images[:: max(len(images) // EXAMINED, 1)][:EXAMINED]
    return segmenter.estimate_diameter([middle_of(image) for image in chosen])


def _middle(segmenter: Segmenter, images: Dataset, item: Item) -> Floats:
    with images.reader(item) as reader:
        segmenter.check_channels(image_of(item), reader.shape[0])
        return segmenter.middle(reader, images.limits_of(segmenter.normalisation.measure(reader)))


def segment_dataset(
    segmenter: Segmenter,
    images: Dataset,
    out: Path,
    *,
    overwrite: bool = False,
    diameter: float | None = None,
    one_size: bool = False,
    engine: Engine = ALONE,
) -> Segmented:
    """Write OUT/masks/NAME.tif (.png for a PNG, .zarr for a zarr) for every image, and OUT/segment.json about them.

    The base model brings images to the size that it knows, from the `diameter` of their cells in pixels or, without it,
    an estimate (`fitted`). Each of several images then gets the scale that suits its own cells, but for those so large
    that they are in work by panels; with `one_size`, as for the frames of a movie, all have the same.

    Masks that the same segmenter made of the same images are kept, so interrupted work goes on. `engine` says which
    part of the images is segmented, and where; segment.json is finished with the last part. Raises UserError when
    images do not suit the segmenter, or masks of another origin would be replaced.
    """
    if out.is_file():
        raise UserError(f"{out}: is a file; give a folder to write masks/ into")
    images = images.images().alike(segmenter.fixed_channels)
    items, known = images.items, segmenter.diameter
    segmenter = fitted(segmenter, images, diameter)
    own = known if diameter is None and not one_size and len(items) > 1 else None
    cells_across = None if known is None else known / segmenter.scale
    with at_work(out, engine.part):
        with in_turn(out):
            record = Record.open(out, images, segmenter, overwrite, own_sizes=own is not None)
            waiting = record.waiting(items, overwrite)
            record.save()
        todo = {item.name for item in waiting}
        bare = replace(images, items=())
        large = panels_among(segmenter, images, todo) if engine.part is not None or engine.cluster is not None else {}
        noted = record.folder.notes
        panels = [panel for some in large.values() for panel in some if panel.name not in noted]
        panels = [panel for panel in panels if engine.takes(panel.place + panel.number)]
        for _ in engine.run(DecodingPanels(segmenter, bare, out), panels, "decode", lambda panel: panel.name):
            pass
        mine = [item for item in engine.share(items) if item.name in todo]
        if engine.part is not None:
            mine = [item for item in mine if item.name not in large] + record.decoded(waiting, large)
        tiled = _first_tiled(segmenter, images) if mine else None
        work = Segmenting(segmenter, bare, out, tiled, own)
        for item, facts in engine.run(work, mine, "segment", lambda one: one.name):
            record.take(item.name, facts)
        with in_turn(out):
            missing = record.missing(items)
            if not missing:
                sweep_all(out)
                record.finish(items)
    made = [item for item in items if item.name in record.masks]
    cells = sum(record.masks[item.name]["cells"] for item in made)
    sizes = [own / record.masks[item.name].get("scale", segmenter.scale) for item in made] if own is not None else []
    among = (min(sizes), max(sizes)) if sizes else None
    return Segmented(len(made), len(made) - len(mine), cells, cells_across, among, len(missing))


def _first_tiled(segmenter: Segmenter, images: Dataset) -> str | None:
    """Return the first image that takes several tiles, whose borders show with this network; None without."""
    if margin(segmenter.network) is not None:
        return None
    sizes = ((item.name, scaled_shape(images.shape(item), segmenter.scaling)) for item in images.items)
    return next((name for name, size in sizes if max(size) > segmenter.tile), None)


class Listed(Settings):
    """What segment.json says of a mask."""

    file: Annotated[str, Field(min_length=1)]
    image: str
    cells: Annotated[int, Field(ge=0)]
    scale: Annotated[float, Field(gt=0)] | None = None


class Stored(Settings):
    """What segment.json says, to check it by."""

    fingerprint: str
    tile: int
    finished: bool
    masks: dict[str, Listed]
    tile_disagreement: dict[str, float] | None = None


@dataclass
class Record:
    """OUT/segment.json: which run made which mask of which image."""

    out: Path
    head: dict[str, Any]
    """what made the masks: run, its fingerprint, tile, limits of dataset.json"""
    masks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by image name: file, SHA-256 of the image, cells"""
    disagreement: dict[str, float] | None = None
    finished: bool = False
    anew: bool = False
    """whether OUT holds masks of another run, or of a finished call, that are to be replaced"""

    @classmethod
    def open(cls, out: Path, images: Dataset, segmenter: Segmenter, overwrite: bool, *, own_sizes: bool) -> Self:
        """Go on with the record in OUT, or begin one.

        Raises UserError when OUT holds masks of another run, tile or limits, unless told to overwrite.
        """
        for part in ("images", "masks"):
            if out.resolve().is_relative_to((images.path / part).resolve()):
                raise UserError(f"{out}: lies among the {part} of {images.path}; give another --out")
        path = out / RECORD
        head: dict[str, Any] = {"run": str(segmenter.run), "fingerprint": segmenter.fingerprint, "tile": segmenter.tile}
        head |= {"views": segmenter.views, "precision": segmenter.precision}
        head |= {"channels": list(images.view.channels), "project": images.view.project}
        head["limits"] = None if images.limits is None else images.limits.tolist()
        head["scale"] = list(segmenter.scaling) if isinstance(segmenter.scaling, tuple) else segmenter.scaling
        files = [item.image for item in images.items if item.image]
        head["own_sizes"] = own_sizes
        head["pixel_size"] = calibration_of(images.path, images.info, files).pixel_size
        folder = OutputFolder(out, OWNER)
        if not path.exists():
            return cls(out, head)
        stored = read_json(path)
        if stored.get("format") != FORMAT or not {"fingerprint", "tile", "finished", "masks"} <= stored.keys():
            raise UserError(f"{path}: is not a record of this version of segment; give another --out")
        parse(Stored, stored, path, "restore the file, or give another --out")
        folder.require()
        folder.refuse_foreign([RECORD])
        # what former versions did not note
        earlier = {"scale": head["scale"], "views": 1, "precision": "float32", "own_sizes": False}
        earlier |= {"channels": [], "project": None}
        stored = {**earlier, **stored}
        same = all(stored.get(key) == head[key] for key in SAME)
        if overwrite and (stored["finished"] or not same):
            return cls(out, head, anew=True)
        if not same:
            raise UserError(
                f"{path}: another run, other flags or other limits of dataset.json made these masks; give another "
                "--out, or --overwrite"
            )
        record = cls(out, head, stored["masks"], stored.get("tile_disagreement"))
        record._take_notes()
        return record

    @cached_property
    def folder(self) -> OutputFolder:
        """OUT as it is written to, which knows what of it is this command's own."""
        return OutputFolder(self.out, OWNER)

    def take(self, name: str, facts: Mapping[str, Any]) -> None:
        """List a mask that was made."""
        disagreement = facts.get("tile_disagreement")
        self.disagreement = disagreement or self.disagreement
        self.masks[name] = {key: value for key, value in facts.items() if key != "tile_disagreement"}

    def _take_notes(self) -> None:
        """List the masks that were made, by whatever process, since segment.json was written."""
        for name, facts in self.folder.notes.items():
            if isinstance(facts, dict):
                parse(Listed, facts, self.folder.manifest, "remove its line")
                self.take(name, facts)

    def missing(self, items: Sequence[Item]) -> list[Item]:
        """Return the images that have no mask by now."""
        self.folder.reread()
        self._take_notes()
        return [item for item in items if not self._has(item.name)]

    def decoded(self, items: Sequence[Item], panels: Mapping[str, Sequence[PanelOf]]) -> list[Item]:
        """Return the large images that have no mask by now, and of which all panels are decoded."""
        missing = {item.name for item in self.missing(items)}
        noted = self.folder.notes
        return [
            item
            for item in items
            if item.name in missing & panels.keys() and all(panel.name in noted for panel in panels[item.name])
        ]

    def _has(self, name: str) -> bool:
        return name in self.masks and (self.out / "masks" / self.masks[name]["file"]).exists()

    def waiting(self, items: Sequence[Item], overwrite: bool) -> list[Item]:
        """Return the images that have no mask of this run yet; masks of another run go, if told to overwrite.

        Raises UserError, before anything is removed, when an image is not the one that its mask was made of, or a mask
        is in the way that this command did not write or that was changed since: such annotations are never replaced.
        """
        todo = []
        for item in items:
            if not self._has(item.name):
                todo.append(item)
            elif self.masks[item.name]["image"] != digest(image_of(item)):
                if not overwrite:
                    raise UserError(f"{item.image}: has changed since its mask was made; give --overwrite")
                todo.append(item)
        anew = {item.name for item in todo}
        kept = [mask["file"] for item in items if item.name not in anew and (mask := self.masks.get(item.name))]
        if changed := [file for file in kept if not self.folder.intact(f"masks/{file}")]:
            what = f"kept {counted(len(changed), 'mask')} that were changed since segment wrote them"
            say([f"{self.out / 'masks'}: {what}: {', '.join(changed[:3])}{' ...' * (len(changed) > 3)}"])
        self._spare_annotations(todo)
        if self.anew:
            sweep_all(self.out)
            self.folder.clear(self.folder.survey())
        for item in todo:
            if self._has(item.name):  # the new one may get another name
                self.folder.remove(f"masks/{self.masks[item.name]['file']}")
        return todo

    def _spare_annotations(self, todo: Sequence[Item]) -> None:
        place, folder = self.out / "masks", self.folder
        there = sorted(file for file in place.iterdir() if file.name[0] != ".") if todo and place.is_dir() else []
        foreign = [file for file in there if not folder.lists(f"masks/{file.name}")]
        images = {image.resolve() for image in (self.out, self.out / "images")}
        by_name: dict[str, list[Path]] = {}
        wanted = {item.name for item in todo}
        for file in there:
            names = {file.stem.removesuffix(".ome"), file.name}
            if names & wanted and (file in foreign or not folder.owns(f"masks/{file.name}")):
                for name in names:
                    by_name.setdefault(name, []).append(file)
        for item in todo:
            among = image_of(item).parent.resolve() in images  # the masks in OUT are those of these images
            others = [file for file in foreign if among and file.suffix.lower() in LABELS]
            for file in (*by_name.get(item.name, ()), *others[:1]):
                if file not in foreign:
                    what = "has been changed since segment wrote it, and is not replaced"
                elif item.mask is not None and file.resolve() == item.mask.resolve():
                    what = f"is the annotation of {item.image}, not a result"
                else:
                    what = "exists already; give another --out, as segment replaces no mask that it did not write"
                    raise UserError(f"{file}: {what}")
                raise UserError(f"{file}: {what}; give another --out")

    def finish(self, items: Sequence[Item]) -> None:
        """Note that all images have been done, in their order."""
        self.folder.refuse_unsettled()
        names = dict.fromkeys((*(item.name for item in items), *self.masks))
        self.finished, self.masks = True, {name: self.masks[name] for name in names}
        self.save()
        self.folder.settle()

    def save(self) -> None:
        """Write segment.json."""
        content = {"format": FORMAT, "command": "segment", "version": version("cytoforge"), **self.head}
        content |= {"tile_disagreement": self.disagreement, "finished": self.finished, "masks": self.masks}
        self.folder.write_json(RECORD, content)
