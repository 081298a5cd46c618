"""Masks to synthetic datasets: annotated images that say that they are synthetic."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cytoforge.cells.instances import relabel
from cytoforge.data.credits import credits_of, credits_of_run, merged, stored
from cytoforge.data.dataset import PARTS, Dataset, Item
from cytoforge.data.files import digest, is_too_long
from cytoforge.data.images import remaining
from cytoforge.data.sharing import at_work, in_turn
from cytoforge.data.writer import DatasetWriter
from cytoforge.engine import ALONE, Announce, Engine, Seat
from cytoforge.errors import UserError
from cytoforge.inference.curation import curate
from cytoforge.inference.image_generator import ImageGenerator, item_draw
from cytoforge.inference.painting import WHITE, grey
from cytoforge.inference.segmenter import Segmenter

BY = "cytoforge generate images"


@dataclass(frozen=True)
class Keeping:
    """How synthetic images are curated."""

    share: float
    """of the images that is kept; near-duplicates are dropped first, then those of which the segmenter misses most"""
    segmenter: Segmenter


@dataclass(frozen=True)
class Generated:
    """How many images were asked for, were made before, and were dropped (None without curation)."""

    images: int
    kept: int
    dropped: int | None
    missing: int = 0
    """images of other parts that are not painted yet"""


@dataclass(frozen=True)
class Painting:
    """An image to paint: its name, its mask, and what its files say of its origin."""

    name: str
    item: Item
    variant: int
    mark: dict[str, Any]


def refuse_own_masks(masks: Dataset, out: Path) -> None:
    """Raise UserError when masks to paint on lie where the result is to be written."""
    for item in masks.items:
        if item.mask and item.mask.parent.resolve() in {(out / part).resolve() for part in PARTS}:
            raise UserError(f"{out}: holds the masks to paint on; give another --out")


def generate_images(
    generator: ImageGenerator,
    masks: Dataset,
    out: Path,
    *,
    seed: int = 0,
    variants: int = 1,
    style_mixing: float = 0.9,
    keeping: Keeping | None = None,
    overwrite: bool = False,
    engine: Engine = ALONE,
) -> Generated:
    """Write OUT/images/NAME.png and OUT/masks/NAME.png for every mask and variant, and OUT/dataset.json.

    Interrupted work goes on. `engine` says which part of the images is painted, and where; the last part completes OUT.
    Raises UserError when the masks do not serve, or OUT holds anything but an unfinished result of the same work.
    """
    refuse_own_masks(masks, out)
    masks = masks.numbered(binary=generator.condition == "mask")
    paintings, info = _plan(generator, masks, seed, variants, style_mixing, keeping)
    # what PNG cannot hold goes into TIFF
    suffix = ".png" if generator.channels in (1, 3) else ".tif"
    names = [painting.name for painting in paintings]
    with at_work(out, engine.part):
        with in_turn(out):
            writer = DatasetWriter(out, info, overwrite=overwrite, suffix=suffix, names=names)
        mine = [painting for painting in engine.share(paintings) if painting.name not in writer.done]
        work = Paint(generator, replace(masks, items=()), writer, seed, style_mixing)
        for _ in engine.run(work, mine, "generate", lambda painting: painting.name):
            pass
        with in_turn(out):
            missing = set() if writer.complete else {*names} - writer.made()
            before = len(names) - len(missing) - len(mine)
            if missing:
                return Generated(len(names), before, None, len(missing))
            if writer.complete or keeping is None:
                writer.finish()
                return Generated(len(names), before, None)
            written = Dataset.open(out)
            own = tuple(item for item in written.items if item.name in names)  # the user may have others there
            curation = curate(replace(written, items=own), keeping.segmenter, keeping.share)
            for name in curation.dropped:
                writer.remove(name)
            writer.finish({"curation": {**info["curation"], **asdict(curation)}})
            return Generated(len(names), before, len(curation.dropped))


@dataclass(frozen=True)
class Paint:
    """Paints an image on a mask, and writes both."""

    generator: ImageGenerator
    masks: Dataset
    """as they are read, without the items"""
    writer: DatasetWriter
    seed: int
    style_mixing: float

    def start(self, seat: Seat) -> Callable[[Painting, Announce], None]:
        """Return the function that paints and writes an image."""
        generator, writer = self.generator.seated(seat), self.writer.seated(seat.writer)

        def paint(painting: Painting, announce: Announce) -> None:
            mask = replace(painting.item, image=None)
            labels = relabel(self.masks.read_labels(mask, remaining(generator.scaling, self.masks.scale)))
            if labels.min() > 0:
                raise UserError(f"{mask.mask}: has no background; is it an image? give masks, 0 outside the cells")
            draw = item_draw(self.seed, painting.item.name, painting.variant)
            image = generator.paint_drawn(labels, draw, self.style_mixing)
            writer.add(painting.name, grey(image), labels, painting.mark)

        return paint


def _plan(
    generator: ImageGenerator,
    masks: Dataset,
    seed: int,
    variants: int,
    style_mixing: float,
    keeping: Keeping | None,
) -> tuple[list[Painting], dict[str, Any]]:
    """Return the images to be made, in order, and what dataset.json says of them; equal for equal work."""
    origin = {
        "by": BY,
        "version": version("cytoforge"),
        "run": generator.run.resolve().name,
        "fingerprint": generator.fingerprint,
        "seed": seed,
        "style_mixing": style_mixing,
    }
    paintings, files = [], {}
    for item in masks.items:
        if item.mask is None:
            raise ValueError(f"{item.name} has no mask")
        source = {"mask": item.name, "mask_sha256": digest(item.mask)}
        for variant in range(1, variants + 1):
            name = item.name if variants == 1 else f"{item.name}-v{variant}"
            if is_too_long(f"{name}.png"):
                raise UserError(f"{item.mask}: its name is too long to add -v{variant} to it; shorten it")
            files[name] = {**source, "variant": variant}
            paintings.append(Painting(name, item, variant, {"synthetic": True, **origin, **files[name]}))
    info = {"synthetic": origin, "scale": generator.scale, "limits": [0, WHITE], "files": files}
    info |= stored(merged(credits_of_run(generator.run), credits_of(masks.path)))
    if keeping is not None:
        segmenter = keeping.segmenter
        run = segmenter.run.resolve().name
        info["curation"] = {"keep": keeping.share, "segmenter": run, "fingerprint": segmenter.fingerprint}
    return paintings, info
