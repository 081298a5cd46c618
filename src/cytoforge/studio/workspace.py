"""The folder of a studio: a dataset of images and finished masks, with drafts, runs and the queue beside them.

FOLDER-studio/
  dataset.json  images/  masks/       what is trained on: masks that somebody has said are right
  run-1/ run-2/ ...                   trained runs
  .studio/drafts/  .studio/jobs/      masks in work, the queue
  .studio/found/                      what a model has found, as a hash of the labels of each image
Nothing is ever written into the folder that the studio was opened on.
"""

import filecmp
import hashlib
import os
import re
import shutil
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.dataset import Dataset
from cytoforge.data.files import atomic, is_too_long, make_folder, read_json, write_bytes, write_json
from cytoforge.data.formats import PICTURES, PRIMARY, SUFFIXES, image_files, image_name
from cytoforge.data.images import read_header, read_image, read_labels, write_image, write_labels
from cytoforge.data.interchange import other_format
from cytoforge.data.label_check import check_label_files
from cytoforge.data.left_out import left_out
from cytoforge.data.metadata import common, read_metadata
from cytoforge.data.pairing import BESIDE
from cytoforge.data.writer import INFO, made_by, read_info
from cytoforge.errors import UserError
from cytoforge.progress import counted
from cytoforge.studio.contents import Contents
from cytoforge.studio.drafts import Draft
from cytoforge.studio.journal import DAMAGED, call_all
from cytoforge.studio.pictures import Pyramid

BY = "cytoforge studio"
ENDING = "-studio"
HIDDEN = ".studio"
PROPOSALS = {"cytoforge suggest", "segment"}  # that wrote masks to be corrected
STATED = {"pixel_size": "pixels of {:g} micrometers", "frame_interval": "frames {:g} minutes apart"}
TAKEN = (*STATED, "limits", "channels", "licence", "learned_from")  # entries of a dataset.json that hold in a studio
OPEN = 4  # drafts that are kept in memory
LOOKED_AT = 8  # images that are kept in memory, so that the next frames of a movie are there before they are shown
MAX_IMAGES = 5000
UNSAFE = re.compile(r"[^\w .()\[\]+-]+")
ENDED = re.compile(r"(\.ome|[ ._])+$")  # what no name of an image ends in, so that its file gives the same name
Status = Literal["empty", "draft", "done"]


@dataclass(frozen=True)
class Picture:
    """An image of a studio: its file, and its size as channels, height, width."""

    name: str
    path: Path
    shape: tuple[int, int, int]


class Workspace:
    """A folder that a studio works in. Thread-safe.

    `source` is what it was opened on: a dataset, a folder of images, an image, a movie, a studio folder itself, or
    nothing yet. Images are linked from there, or copied where the disk knows no links, and so are masks; those that
    cytoforge found, or that are no label images, become drafts. Raises UserError when files cannot be read.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.path = studio_of(source)
        self.hidden = self.path / HIDDEN
        self.notes: list[str] = []
        self.foreign: str | None = None
        self._lock = threading.RLock()
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._pyramids: OrderedDict[str, Pyramid] = OrderedDict()
        self._drafts: OrderedDict[str, Draft] = OrderedDict()
        self._cells: dict[str, int] = {}
        for part in (self.path / "images", self.path / "masks", self.drafts):
            make_folder(part)
        if not (self.path / INFO).exists():
            write_json(self.path / INFO, {"written_by": "cytoforge", "by": BY, "source": source.resolve().name})
        files = image_files(self.path / "images")
        self.notes += left_out(self.path / "images", files)
        for file in files:
            self._list(image_name(file), file)
        if source != self.path and source.exists():
            self.take(source)

    @property
    def drafts(self) -> Path:
        """Folder of the masks in work."""
        return self.hidden / "drafts"

    # images

    def names(self) -> list[str]:
        """Return the names of all images, in order."""
        with self._lock:
            return sorted(self._pictures, key=natural)

    def picture(self, name: str) -> Picture:
        """Return an image; raises KeyError when there is none of this name."""
        with self._lock:
            return self._pictures[name]

    def pyramid(self, name: str) -> Pyramid:
        """Return an image as tiles; the last few stay in memory. Raises KeyError, and UserError as `Pyramid`."""
        with self._lock:
            picture = self._pictures[name]
            if name not in self._pyramids:
                self._pyramids[name] = Pyramid(picture.path)
                while len(self._pyramids) > LOOKED_AT:
                    self._pyramids.popitem(last=False)
            self._pyramids.move_to_end(name)
            return self._pyramids[name]

    def add(self, file: Path, name: str, known: Collection[str] = ()) -> Picture:
        """Link or copy an image into the studio under a name made of `name`, or convert it to TIFF; return it.

        What it states of its pixels and of time is noted, except what is `known` better: keys of STATED.
        What a folder of images does not list beside PNG and TIFF is converted. Raises UserError when it is no image.
        """
        with self._lock:
            if len(self._pictures) >= MAX_IMAGES:
                raise UserError(f"{self.path}: holds {MAX_IMAGES} images already; open another studio for more")
            shape, _ = read_header(file)
            stem = safe_name(name)
            if stem in self._pictures:
                raise UserError(f"{name}: there is an image of this name already; rename it")
            suffix = file.suffix.lower()
            target = self.path / "images" / f"{stem}{suffix}"
            if suffix in (*PRIMARY, *PICTURES):
                link(file, target)
            else:
                target = target.with_suffix(".tif")
                write_image(target, read_image(file))
            self._pictures[stem] = Picture(stem, target, shape)
            self._keep_stated(stem, file, known)
            return self._pictures[stem]

    def _keep_stated(self, name: str, file: Path, known: Collection[str]) -> None:
        """Note in dataset.json what an image states, which holds for all; null where others state otherwise."""
        found, info = read_metadata(file), read_info(self.path)
        for key, what in STATED.items():
            value, before = getattr(found, key), info.get(key)
            if value is None or key in known or (key in info and before is None):
                continue
            info[key] = value if before is None else common([before, value])
            if info[key] is None:
                self.notes.append(f"{name}: states {what.format(value)}, other images {what.format(before)}")
            if info[key] != before:
                write_json(self.path / INFO, info)

    def add_mask(self, file: Path, name: str) -> Picture:
        """Take a mask for the image of the same name, finished, or to correct where it is no label image.

        Raises UserError when there is no such image, it has a mask already, or the mask does not fit.
        """
        with self._lock:
            stem = safe_name(name)
            picture = next((self._pictures[n] for n in (stem, *_without(stem)) if n in self._pictures), None)
            if picture is None:
                raise UserError(f"{name}: there is no image of this name; bring in the image first")
            if self.status(picture.name) != "empty":
                raise UserError(f"{name}: its image has cells already, which are kept")
            before = len(self.notes)
            self._take_mask(picture, file, not _numbers_cells(file))
            if len(self.notes) > before:
                raise UserError(self.notes.pop())
            return picture

    def take(self, data: Path) -> int:
        """Add the images of a dataset, movie, folder or file that are not here yet, with their masks; return how many.

        What cannot be read is left out and said in `notes`, as is a format of another program in `foreign`.
        """
        try:
            dataset = Dataset.open(data)
        except UserError as error:
            self.foreign = other_format(data)
            self.notes += [] if self.foreign else [str(error)]
            return 0
        if not any(item.image and item.mask for item in dataset.items) and (told := other_format(data)):
            self.foreign = told
            return 0
        self.notes += dataset.left_out
        info = {key: value for key, value in dataset.info.items() if key in TAKEN}
        if info:
            write_json(self.path / INFO, {**info, **read_info(self.path)})
        found = _is_found(dataset)
        proposed, note = _proposed(dataset)
        self.notes += [note] if note else []
        listed = {safe_name(item.name) for item in dataset.items}
        gone = Contents({name: one.path for name, one in self._pictures.items() if name not in listed})
        added, renamed = 0, []
        for item in dataset.items:
            name = safe_name(item.name)
            if item.image is None or name in self._pictures:
                continue
            if former := gone.pop(item.image):
                renamed.append(f"{name}, which was {former}")
                continue
            try:
                picture = self.add(item.image, name, info)
            except UserError as error:
                self.notes.append(str(error))
                continue
            added += 1
            if item.mask is not None:
                self._take_mask(picture, item.mask, proposed, found=found)
        if renamed:
            some = "; ".join(renamed[:3]) + ("; ..." if len(renamed) > 3 else "")
            what = f"{counted(len(renamed), 'image')} had another name before ({some})"
            self.notes.append(f"{data}: {what}; here images and masks keep the names under which they came")
        return added

    def _take_mask(self, picture: Picture, mask: Path, proposed: bool, *, found: bool = False) -> None:
        try:
            labels = read_labels(mask)
            if labels.shape != picture.shape[1:]:
                size, wanted = (f"{h} x {w}" for h, w in (labels.shape, picture.shape[1:]))
                raise UserError(f"{mask}: is {size} pixels, its image {wanted}; export both at the same size")
        except UserError as error:
            self.notes.append(f"{error} (the image is here without it)")
            return
        if found:
            self._found(picture.name, labels)
        folder = self.drafts if proposed else self.path / "masks"
        if mask.suffix.lower() in (".png", ".tif", ".tiff"):
            link(mask, folder / f"{picture.name}{mask.suffix.lower()}")
        else:
            write_labels(folder / f"{picture.name}.tif", labels)

    def _list(self, name: str, file: Path) -> None:
        if name in self._pictures:
            self.notes.append(f"{file}: left out, as {self._pictures[name].path.name} has the same name; rename it")
            return
        try:
            self._pictures[name] = Picture(name, file, read_header(file)[0])
        except UserError as error:
            self.notes.append(str(error))

    # masks

    def status(self, name: str) -> Status:
        """Tell whether the mask of an image is finished, in work, or not begun."""
        if self._mask_file(self.path / "masks", name):
            return "done"
        begun = self._mask_file(self.drafts, name) or self._journal(name).exists()
        return "draft" if begun else "empty"

    def mask(self, name: str) -> Path:
        """Return the mask file of an image, finished or in work; raises KeyError when there is none."""
        found = self._mask_of(name)
        if found is None:
            raise KeyError(name)
        return found

    def draft(self, name: str) -> Draft:
        """Return the mask of an image to work on; raises KeyError, and UserError as `Draft`."""
        with self._lock:
            if name not in self._drafts:
                self._drafts[name] = self._opened(name)
                for other in list(self._drafts)[:-OPEN]:
                    self._put_away(other, self._drafts.pop(other))
            self._drafts.move_to_end(name)
            return self._drafts[name]

    def _opened(self, name: str) -> Draft:
        """Return the mask of an image, read anew."""
        shape = self._pictures[name].shape[1:]
        draft = Draft(self._mask_of(name) or self.drafts / f"{name}.tif", self._journal(name), shape)
        self.notes += [draft.note] if draft.note else []
        return draft

    def _put_away(self, name: str, draft: Draft) -> None:
        self._cells[name] = draft.cells
        draft.close()

    def known(self, name: str) -> tuple[int | None, int | None]:
        """Return number of cells and revision of a mask, None where it has not been looked at of late."""
        draft = self._drafts.get(name)
        return (draft.cells, draft.revision) if draft else (self._cells.get(name), None)

    def mark(self, name: str, *, done: bool) -> None:
        """Say that the mask of an image is right, so that it is trained on, or that it is in work; raises KeyError."""
        with self._lock:
            draft = self.draft(name)
            folder = self.path / "masks" if done else self.drafts
            if draft.path.parent != folder:
                draft.move(folder / f"{name}.tif")

    def propose(self, name: str, mask: Path, *, replace: bool) -> bool:
        """Put a found mask in the place of an image's; tell whether that was done.

        Without `replace` only an image without a cell gets it. Taking it back is one step in the draft. Drafts that are
        open stay so, with all that can be taken back in them, however many images cells are found in.
        """
        with self._lock:
            draft = self._drafts.get(name) or self._opened(name)
            taken = self.status(name) != "done" and (replace or not draft.cells)
            if taken:
                labels = read_labels(mask)
                draft.replace(labels)
                self._found(name, labels)
            if taken and len(self._drafts) < OPEN:
                self._drafts.setdefault(name, draft)
            elif name not in self._drafts:
                self._put_away(name, draft)
            return taken

    def _found(self, name: str, labels: NDArray[np.int32]) -> None:
        """Note that a model has found these labels of an image."""
        write_bytes(self._found_file(name), _hash(labels).encode())

    def _found_file(self, name: str) -> Path:
        return self.hidden / "found" / name

    def as_found(self, names: list[str]) -> int:
        """Return how many of these images have a finished mask that is just as a model has found it."""
        self.save()
        masks = ((name, self._mask_file(self.path / "masks", name)) for name in names)
        return sum(self.is_as_found(name, mask) for name, mask in masks if mask)

    def is_as_found(self, name: str, mask: Path) -> bool:
        """Tell whether a mask of an image is just as a model has found it."""
        file = self._found_file(name)
        return file.exists() and file.read_text() == _hash(read_labels(mask))

    def save(self) -> None:
        """Write all drafts; raises UserError, after all others are written, where one cannot be."""
        with self._lock:
            call_all([draft.save for draft in self._drafts.values()])

    def troubles(self) -> list[str]:
        """Return what could not be written, one sentence each, until it is."""
        return [draft.trouble for draft in list(self._drafts.values()) if draft.trouble]

    def done(self) -> list[str]:
        """Return the names of the images whose masks are finished."""
        return [name for name in self.names() if self.status(name) == "done"]

    def with_cells(self) -> list[str]:
        """Return the names of the images with a mask, finished or in work."""
        return [name for name in self.names() if self.status(name) != "empty"]

    def snapshot(self, folder: Path, names: list[str]) -> None:
        """Link images and their masks into a dataset folder that later edits do not change."""
        self.save()
        for name in names:
            picture = self.picture(name)
            link(picture.path, folder / "images" / picture.path.name)
            if file := self._mask_of(name):
                link(file, folder / "masks" / file.name)
        kept = {key: value for key, value in read_info(self.path).items() if key in (*STATED, "limits")}
        if kept:
            write_json(folder / INFO, kept)

    def is_unchanged(self, folder: Path) -> bool:
        """Tell whether the masks that a snapshot holds are those of their images now."""
        self.save()
        files = ((file, self._mask_of(image_name(file))) for file in image_files(folder / "masks"))
        return all(now is not None and filecmp.cmp(file, now) for file, now in files)

    def cell(self, name: str, number: int) -> tuple[int, int, int, int]:
        """Return the box of a cell of an image in pixels: left, top, width, height.

        Raises KeyError where there is no such image, and UserError where it has no such cell any more.
        """
        draft = self.draft(name)
        with draft.lock:
            rows, columns = (np.flatnonzero((draft.labels == number).any(axis)) for axis in (1, 0))
        if not number or not rows.size:
            raise UserError(f"{name}: has no cell {number} any more, as its mask was changed; make the table anew")
        top, left = int(rows[0]), int(columns[0])
        return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top

    def _mask_of(self, name: str) -> Path | None:
        return self._mask_file(self.path / "masks", name) or self._mask_file(self.drafts, name)

    def _journal(self, name: str) -> Path:
        return self.drafts / f"{name}.journal"

    def _mask_file(self, folder: Path, name: str) -> Path | None:
        endings = (".tif", *SUFFIXES)  # a PNG beside a TIFF is what a kill left of before
        return next((path for suffix in endings if (path := folder / f"{name}{suffix}").exists()), None)

    # runs

    def runs(self) -> Iterator[Path]:
        """Yield the run folders of segmenters, the newest first."""
        return self._numbered("run", "config.json")

    def painted(self) -> Iterator[Path]:
        """Yield the folders of painted images that are complete, the newest first."""
        return (path for path in self._numbered("painted", INFO) if read_info(path).get("complete"))

    def next_folder(self, kind: str) -> Path:
        """Return the next folder of a kind, such as run-3."""
        ends = [path.name.removeprefix(f"{kind}-") for path in self.path.glob(f"{kind}-*")]
        return self.path / f"{kind}-{max((int(end) for end in ends if end.isdigit()), default=0) + 1}"

    def _numbered(self, kind: str, file: str) -> Iterator[Path]:
        found = (path for path in self.path.glob(f"{kind}-*") if (path / file).is_file())
        yield from sorted(found, key=_natural_path, reverse=True)


def studio_of(source: Path) -> Path:
    """Return the folder in which a studio works that is opened on `source`: beside it, or `source` if it is one."""
    if (source / INFO).is_file() and made_by(read_info(source)) == BY:
        return source
    whole = source.resolve()
    if not source.exists() or (source.is_dir() and not any(source.iterdir())):
        return source
    return whole.with_name(whole.name + ENDING)


def safe_name(name: str) -> str:
    """Return a file name without ending made of any text: no folders, nothing hidden, no .ome at its end, not too long.

    Raises UserError when nothing is left of it.
    """
    text = unicodedata.normalize("NFC", name.replace("/", "_").replace("\\", "_"))
    kept = ENDED.sub("", UNSAFE.sub("_", text).lstrip(" ._"))
    if not kept or is_too_long(f"{kept}.journal{DAMAGED}"):
        raise UserError(f"{name[:60]!r}: cannot be the name of an image; rename it")
    return kept


def link(source: Path, target: Path) -> None:
    """Give a file or zarr folder another name, as a hard link, or as a copy where the disk knows none.

    Links are followed. Raises UserError when that fails.
    """
    make_folder(target.parent)
    if os.path.lexists(target):
        return
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: Any, target: Any) -> None:
    source = os.path.realpath(source)
    try:
        os.link(source, target)
    except OSError:
        with atomic(Path(target)) as temporary:
            shutil.copyfile(source, temporary)


def _hash(labels: NDArray[np.int32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels, np.int32).tobytes()).hexdigest()


def _is_found(dataset: Dataset) -> bool:
    """Tell whether cytoforge has found the masks of a dataset."""
    record = dataset.path / "segment.json"
    found = record.is_file() and read_json(record).get("command") in PROPOSALS
    return found or made_by(dataset.info) in PROPOSALS


def _proposed(dataset: Dataset) -> tuple[bool, str]:
    """Tell whether the masks of a dataset are proposals to correct, and why they are none to learn from, if so."""
    masks = [item.mask for item in dataset.items if item.mask]
    folder = dataset.path
    if _is_found(dataset):
        return True, f"{folder}: {counted(len(masks), 'mask')} were found by cytoforge; look at them before training"
    try:
        check_label_files(masks)
    except UserError as error:
        return True, f"{error}; here they are drafts to correct"
    return False, ""


def _numbers_cells(mask: Path) -> bool:
    try:
        check_label_files([mask])
    except UserError:
        return False
    return True


def _without(name: str) -> list[str]:
    """Return the names of the image that a mask of this name may belong to."""
    return [name.removesuffix(ending) for ending in BESIDE if name.endswith(ending)]


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts f2 before f10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _natural_path(path: Path) -> list[tuple[int, str]]:
    return natural(path.name)
