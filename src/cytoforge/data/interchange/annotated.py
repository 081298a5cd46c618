"""Annotated images of other programs, in one shape: each image has a name, its pixels, and cells to be drawn.

Nothing here or in the formats writes a file. Files are only ever looked for below the folder that the user gave: a name
in an annotation is compared with the names that are there, and never opened as a path.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoforge.cells.labels import connected
from cytoforge.cells.outlines import Region, fill, paint
from cytoforge.data.files import is_number
from cytoforge.data.formats import MAX_BYTES, MAX_SIDE, PICTURES, PRIMARY, TURNED, reading
from cytoforge.data.images import read_header, read_image, read_labels
from cytoforge.data.left_out import is_junk
from cytoforge.errors import UserError
from cytoforge.metrics.label_images import judge, traits
from cytoforge.progress import counted

ENDINGS = tuple(suffix for suffix in PRIMARY if suffix != ".zarr") + PICTURES
MOST = 2_000_000  # files below a folder
NAMED = 3  # number of things that a message names
NAME = 120  # greatest number of letters of a name that is written
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]+')  # on any common system
Size = tuple[int, int]


class Drawn(NamedTuple):
    """The cells of an image, and what became of its annotations."""

    labels: NDArray[np.int32]
    """(H, W): 0 background, and a number for each cell"""
    lost: int = 0
    """number of annotations of which no pixel is seen: points, lines, boxes, specks, hidden beneath others"""
    shared: int = 0
    """number of pixels that belong to several cells; the smallest of them has it"""
    components: bool = False
    """whether the mask had one value for all cells, so that its connected components were numbered"""


@dataclass(frozen=True)
class Annotated:
    """One image and its cells."""

    name: str
    """path in the data set, with slashes and without ending; becomes a file name by `file_names`"""
    draw: Callable[[Size | None], Drawn]
    """Return the cells as labels of the size (height, width) of the image; of their own size where there is no image.
    Raises UserError when they do not fit to that size, or no size is known."""
    image: Path | Callable[[], NDArray[Any]] | None = None
    """file, or a function that returns the pixels (C, H, W)"""
    group: str | None = None
    """part of the data set, such as train, val or test"""


@dataclass(frozen=True)
class Found:
    """The annotated images of a data set; files are read when they are drawn."""

    items: tuple[Annotated, ...]
    notes: tuple[str, ...] = ()
    """what the user should know: what is left out, and how something was read; a sentence each"""


class Format(NamedTuple):
    """A format of annotated images."""

    name: str
    recognised: Callable[["Source"], bool]
    """whether a folder or file looks like this; reads little and raises nothing for damaged files"""
    open: Callable[["Source"], Found]
    """find the images and what is annotated; raises UserError"""


class Source:
    """What the user gave: a folder with all files below it, or one file of annotations and the files around it.

    Hidden files, and what systems and editors leave, are passed over; links to folders are not followed. `leave` is a
    folder that is not looked into: that of the result. `images` is the folder of the images where it is another one.
    Raises UserError for more than MOST files; with `first`, only about that many files are looked at instead.
    """

    def __init__(
        self, path: Path, leave: Path | None = None, *, images: Path | None = None, first: int | None = None
    ) -> None:
        self.path = path
        self.single = not path.is_dir()
        self.root = path.parent if self.single else path
        self.pictures = images or self.root
        """folder below which images are looked for"""
        leave = leave.resolve() if leave else None
        self.files = _below(self.root, leave, first)
        self._others = _below(images, leave, first) if images else self.files

    def having(self, *endings: str) -> list[Path]:
        """Return the files of annotations whose names end so: of those below the folder, or the one given."""
        files = [self.path] if self.single else self.files
        return [file for file in files if file.name.lower().endswith(endings)]

    @cached_property
    def images(self) -> list[Path]:
        """All images."""
        return [file for file in self._others if file.suffix.lower() in ENDINGS]

    def unannotated(self, annotated: Container[object]) -> Iterator[str]:
        """Yield a sentence that counts the images which are not among the annotated ones, if the folder was given."""
        others = [] if self.single else [self.relative(image) for image in self.images if image not in annotated]
        return told("image", others, "without annotation, left out")

    def unread(self, read: Container[Path], *endings: str) -> Iterator[str]:
        """Yield a sentence that counts files whose names end so and which are no annotations of the format."""
        others = [self.relative(file) for file in self.having(*endings) if file not in read]
        return told("file", others, "in which the format was not recognised, left out")

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        named: dict[str, list[Path]] = {}
        for file in self.images:
            named.setdefault(composed(file.name), []).append(file)
        return named

    def relative(self, file: Path) -> str:
        """Return the path of a file below its folder, with slashes."""
        return file.relative_to(self.root if file.is_relative_to(self.root) else self.pictures).as_posix()

    def image(self, name: str) -> Path | None:
        """Return the image whose path ends like the name in an annotation, or None; steps such as ".." are ignored.

        Raises UserError when several images fit equally well.
        """
        wanted = [part for part in composed(name).replace("\\", "/").split("/") if part not in ("", ".", "..")]
        fitting: dict[int, list[Path]] = {}
        for file in self._named.get(wanted[-1], []) if wanted else []:
            pairs = zip(reversed(wanted), reversed(composed(self.relative(file)).split("/")), strict=False)
            fitting.setdefault(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), []).append(file)
        best = fitting[max(fitting)] if fitting else []
        if len(best) > 1:
            one, other = map(self.relative, best[:2])
            raise UserError(f"{self.pictures}: {name!r:.80} may be {one} or {other}; remove or rename one")
        return best[0] if best else None

    def beside(self, file: Path, *names: str) -> Path | None:
        """Return the image in the folder of a file that has one of the names, without ending; the first that is there.

        Raises UserError when two images have that name.
        """
        for name in names:
            fitting = [image for image in self.images_in(file.parent) if stem(image.name) == composed(name)]
            if len(fitting) > 1:
                raise UserError(f"{fitting[1]}: {fitting[0].name} has the same name; remove or rename one")
            if fitting:
                return fitting[0]
        return None

    def images_in(self, folder: Path) -> list[Path]:
        """Return the images directly in a folder."""
        return self._held.get(folder, [])

    @cached_property
    def _held(self) -> dict[Path, list[Path]]:
        held: dict[Path, list[Path]] = {}
        for image in self.images:
            held.setdefault(image.parent, []).append(image)
        return held


def _below(root: Path, leave: Path | None, first: int | None) -> list[Path]:
    found: list[Path] = []
    for folder, inner, files in os.walk(root):
        place = Path(folder)
        kept = (place / name for name in sorted(inner))
        inner[:] = [one.name for one in kept if not is_junk(one) and (leave is None or one.resolve() != leave)]
        found += [place / name for name in sorted(files) if not is_junk(place / name)]
        if first is not None and len(found) >= first:
            break
        if len(found) > MOST:
            raise UserError(f"{root}: holds more than {MOST} files; give the folder of the data set itself")
    return found


def composed(name: str) -> str:
    """Return a name as Unicode composes it, since file systems differ in this."""
    return unicodedata.normalize("NFC", name)


def stem(name: str) -> str:
    """Return a file name without ending; .ome.tif counts as one."""
    return composed(Path(name).stem).removesuffix(".ome")


def read_picture(path: Path) -> NDArray[Any]:
    """Read an image (C, H, W) in its own type; raises UserError as picture_size and read_image."""
    picture_size(path)
    return read_image(path)


def picture_size(path: Path) -> Size:
    """Return height and width of an image without decoding it; raises UserError where it is stored turned."""
    if path.suffix.lower() in PICTURES:
        with reading(path), Image.open(path, formats=("JPEG", "BMP", "WEBP")) as image:
            if image.getexif().get(TURNED, 1) != 1:
                raise UserError(f"{path}: is stored turned, and the outlines may be of either view; save it upright")
            checked_size(path, image.height, image.width)
    (_, height, width), _ = read_header(path)
    return height, width


def checked_size(path: Path, height: object, width: object) -> Size:
    """Return a size that a file states; raises UserError unless it is that of an image that fits into memory."""
    if type(height) is not int or type(width) is not int or not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise UserError(f"{path}: an image has {height!r:.20} x {width!r:.20} pixels; mend the file")
    if height * width * 8 > MAX_BYTES:
        raise UserError(f"{path}: an image of {height} x {width} pixels is too large; crop it into parts")
    return height, width


def agreed(path: Path, what: str, own: Size | None, size: Size | None) -> Size:
    """Return the size of the image, or that which the annotation states where there is no image.

    Raises UserError when they differ or neither is known.
    """
    if own and size and own != size:
        raise UserError(
            f"{path}: {what} is annotated at {own[0]} x {own[1]} pixels, but the image has {size[0]} x {size[1]}; "
            "export both at the same size"
        )
    if not (known := size or own):
        raise UserError(f"{path}: {what} has no image, and no size is stated; put the image beside it")
    return known


def ring_of(values: object, path: Path) -> NDArray[np.float64]:
    """Return points [[x, y], ...] of a JSON file as a ring (K, 2) of y, x; raises UserError for anything else."""
    points = values if isinstance(values, list) else None
    if points is None or not all(
        isinstance(p, list) and len(p) > 1 and is_number(p[0]) and is_number(p[1]) for p in points
    ):
        raise UserError(f"{path}: the points {values!r:.60} of an outline are no pairs of numbers; mend the file")
    return np.array([(p[1], p[0]) for p in points], np.float64).reshape(-1, 2)


def filled(rings: Sequence[NDArray[np.float64]], size: Size, path: Path) -> Region:
    """Fill rings as `outlines.fill`; raises UserError, naming the file, for an outline that cannot be."""
    try:
        return fill(rings, size)
    except ValueError as error:
        raise UserError(f"{path}: {error}; mend the file") from None


def drawn(regions: Iterable[Region], size: Size) -> Drawn:
    """Draw regions into an image of a size, as `outlines.paint`."""
    return Drawn(*paint(regions, size))


def label_image(path: Path, size: Size | None) -> Drawn:
    """Read a label image; of a binary mask the connected components are numbered.

    Raises UserError when its size is not that of the image, and when it is neither; see `label_images.judge`.
    """
    labels = read_labels(path)
    agreed(path, "this mask", (labels.shape[0], labels.shape[1]), size)
    (verdict,) = judge([traits(labels, read_header(path)[1])])
    if verdict is None:
        return Drawn(labels)
    if verdict.kind != "binary":
        raise UserError(f"{path}: {verdict.what}; {verdict.remedy}")
    return Drawn(connected(labels), components=True)


def file_names(items: Iterable[Annotated]) -> list[str]:
    """Return a file name without ending for each item: the last part of its name, or all parts where that is not alone.

    Letters that some system does not allow become "_". Names differ by more than capitals.
    """
    names = [[clean(part) for part in item.name.split("/") if part.strip(" .")] or ["_"] for item in items]
    counts: dict[str, int] = {}
    for parts in names:
        counts[parts[-1].casefold()] = counts.get(parts[-1].casefold(), 0) + 1
    taken: set[str] = set()
    result = []
    for parts in names:
        name = parts[-1] if counts[parts[-1].casefold()] == 1 else "_".join(parts)[-NAME:].lstrip(".")
        numbered = (f"{name}-{k}" for k in range(2, len(names) + 2))
        while name.casefold() in taken:
            name = next(numbered)
        taken.add(name.casefold())
        result.append(name)
    return result


def clean(name: str) -> str:
    """Return a part of a path as a file name that any system takes, which is not hidden and has no ending of OME."""
    kept = FORBIDDEN.sub("_", composed(name)).strip(" .").removesuffix(".ome")
    return kept[:NAME].strip(" .") or "_"


def subfolder(source: Source, file: Path, *ignored: str) -> str | None:
    """Return the folder of a file below the source, without the parts `ignored`, as a group; None if none is left."""
    parts = [part for part in Path(source.relative(file)).parts[:-1] if part.lower() not in ignored]
    return "/".join(parts) or None


def told(noun: str, things: Sequence[str], what: str) -> Iterator[str]:
    """Yield a sentence that counts things and names the first of them, or nothing where there are none."""
    if things:
        yield f"{counted(len(things), noun)} {what} ({some(things)})"


def some(things: Sequence[str]) -> str:
    """Name the first of some things."""
    return ", ".join(things[:NAMED]) + (" ..." if len(things) > NAMED else "")
