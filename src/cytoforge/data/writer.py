"""Writing a dataset folder, file by file: images/, masks/ and the dataset.json that describes them."""

import contextlib
import copy
import dataclasses
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field

from cytoforge.data.files import make_folder, read_json
from cytoforge.data.formats import image_files, read_mark
from cytoforge.data.images import Mark, encode_image, encode_labels, read_image
from cytoforge.data.manifest import MANIFEST
from cytoforge.data.ngff import is_zarr
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.resume import differences, refuse_other
from cytoforge.data.run_config import Settings, parse
from cytoforge.errors import UserError

INFO = "dataset.json"
PARTS = ("images", "masks")
PART = ".cytoforge.part"
"""Folder, inside of one that is being replaced, with what has been written so far"""
WORDS = {  # entries of dataset.json that are compared as a whole, and their names in messages
    "files": "set of masks or variants",
    "source": "content of like",
    "source_images": "set of images",
    "curation": "keep or segmenter",
    "fingerprint": "content of run",
    "version": "version of cytoforge",
}


class ReplacingWriter:
    """What the writers of datasets and movies share: the replacement of a whole folder at once."""

    path: Path
    folder: OutputFolder
    _info: dict[str, Any]

    def seated(self, writer: str | None) -> Self:
        """Return this writer in a process that writes at the same time as others."""
        other = copy.copy(self)
        other.folder = OutputFolder(self.path, self.folder.by, writer)
        return other

    def _begin(self, *, whole: bool, goes: bool, corrected: bool = False) -> None:
        """Make room, unless unfinished work goes on or the folder is replaced as a `whole` later.

        Files that have changed would be taken as done, and are refused unless they may be `corrected`.
        """
        if whole or (goes and not corrected):
            self.folder.refuse_foreign(self.folder.survey().changed)
        elif not goes:
            self.folder.clear(self.folder.survey())
        if not whole:
            self.folder.write_json(INFO, {**self._info, "complete": False})

    def awaited(self, names: Collection[str]) -> int:
        """Return how many of the sequences or items `names` no process has noted yet; 0 where the work is complete."""
        return 0 if self.complete else len({*names} - {*self.noted()})

    def noted(self) -> dict[str, Any]:
        """Return what is noted by now of the sequences or items that are done, whichever process wrote them."""
        self.folder.reread()
        return self.folder.notes

    @property
    def complete(self) -> bool:
        """Whether the work is complete by now, as another process may have ended it."""
        return bool(read_info(self.path).get("complete"))

    def finish(self, facts: Mapping[str, Any] | None = None) -> Path:
        """Mark the work as complete, with final entries `facts` in dataset.json; return the folder."""
        self.folder.refuse_unsettled()
        self.folder.write_json(INFO, {**self._info, **(facts or {}), "complete": True})
        self.folder.settle()
        return self.path

    @contextlib.contextmanager
    def replacing(self) -> Iterator[Self]:
        """Replace the folder of a writer made with `whole` when the block, which writes all anew, ends without error.

        Until then all is written to a hidden folder inside, and the results of an earlier run stay as they are. Raises
        UserError, leaving these, as OutputFolder.writing, and where one of them was changed in the meantime.
        """
        folder = self.folder
        there, part = folder.path.is_dir(), folder.path / PART
        shutil.rmtree(part, ignore_errors=True)  # left by a killed run
        self.folder = OutputFolder(part, folder.by)
        try:
            yield self
            _exchange(folder, self.folder, {**self._info, "complete": False})
        finally:
            self.folder = folder
            shutil.rmtree(part, ignore_errors=True)
            if not there:
                with contextlib.suppress(OSError):  # not empty: all went well
                    folder.path.rmdir()


def _exchange(folder: OutputFolder, new: OutputFolder, unfinished: Mapping[str, Any]) -> None:
    """Move the files of `new`, a folder inside of `folder`, to it, and remove its own ones that are not replaced.

    Only names are changed, which needs hardly any room. dataset.json is `unfinished` until all files are there.
    """
    found = folder.survey(beside=new.path.name)
    names = sorted(new.survey().own, key=lambda name: name == INFO)
    own, new_names = set(found.own), set(names)
    folder.refuse_foreign([*found.changed, *(name for name in names if name not in own)])
    folder.refuse_unwritable(own | new_names)
    folder.write_json(INFO, unfinished)
    (new.path / MANIFEST).unlink()  # the list of `folder` takes its room
    for name in names:
        with folder.writing(name) as file:
            (new.path / name).replace(file)
    stale = tuple(name for name in found.own if name not in new_names)
    folder.clear(dataclasses.replace(found, own=stale), beside=new.path.name)


class DatasetWriter(ReplacingWriter):
    """Writer of a dataset folder, file by file; an interrupted run with the same content is continued.

    `info` is written to dataset.json and describes the content (run, seed ...). `done` has the names of the items that
    an unfinished earlier run with the same `info` left; they need not be added again. `overwrite` replaces only files
    that the same command wrote, which are listed in `folder`; `whole` leaves them until `replacing` has all new ones.
    Raises UserError, before anything is removed, when `path` holds results of another command or of unknown origin,
    files that were changed since they were written, or a file of the user under a name that is to be written.
    """

    def __init__(
        self,
        path: Path,
        info: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        whole: bool = False,
        corrected: bool = False,
        suffix: str = ".png",
        names: Collection[str] = (),
        parts: Collection[str] = PARTS,
        beside: Collection[str] = (),
    ) -> None:
        """`suffix`: .png or .tif, the format of all files.

        Where unfinished work goes on, files that have changed are refused, or kept if they may be `corrected` by hand.
        The files to be written, as far as known, are the items `names` in the folders `parts`, and the files `beside`.
        """
        self.path, self.suffix = path, suffix
        self._info = json.loads(json.dumps({"written_by": "cytoforge", **(info or {})}))
        self.done: frozenset[str] = frozenset()
        former = check_target(path, made_by(self._info), overwrite=overwrite)
        self.folder = output_folder(path, self._info)
        files, own = self._files()
        goes = goes_on(path, former, {**self._info, "complete": False}, begun=any(own.values()), overwrite=overwrite)
        taken = [name for part in parts for name in files[part] if _stem(name) in {*names} and name not in own[part]]
        self.folder.refuse_unlisted([*taken, *beside, INFO])
        if goes and not whole:
            self.done = self.made(parts)
        self._begin(whole=whole, goes=goes, corrected=corrected)

    def _files(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return by part the files that are there, and those of them that are listed."""
        files = {part: [f"{part}/{file.name}" for file in image_files(self.path / part)] for part in PARTS}
        return files, {part: [name for name in files[part] if self.folder.lists(name)] for part in PARTS}

    def made(self, parts: Collection[str] = PARTS) -> frozenset[str]:
        """Return the names of the items that are there by now, whichever process wrote them."""
        self.folder.reread()
        files, own = self._files()
        begun = [part for part in parts if own[part] or ((self.path / part).is_dir() and not files[part])]
        started = [frozenset(map(_stem, own[part])) for part in begun]
        return frozenset.intersection(*started) if started else frozenset()

    def add(
        self, name: str, image: np.ndarray | None = None, labels: np.ndarray | None = None, mark: Mark | None = None
    ) -> None:
        """Write an image (C, H, W), labels (H, W), or both, as NAME; raises as encode_image, encode_labels and
        OutputFolder.writing, and UserError for a NAME that would lead to another folder.

        `mark` is stored in each file.
        """
        if not name or Path(name).name != name:
            raise UserError(f"{self.path}: {name!r} is no name of a file; rename the image")
        for part, array in zip(PARTS, (image, labels), strict=True):
            if array is not None:
                make_folder(self.folder.path / part)  # both folders before either file, as `done` compares them
        if image is not None:
            self.folder.write(f"images/{name}{self.suffix}", encode_image(Path(name + self.suffix), image, mark))
        if labels is not None:
            path = self.path / "masks" / f"{name}{self.suffix}"
            self.folder.write(f"masks/{path.name}", encode_labels(path, labels, mark))

    def remove(self, name: str) -> None:
        """Delete the image and mask NAME; raises UserError when a file was changed since it was written."""
        for part in PARTS:
            self.folder.remove(f"{part}/{name}{self.suffix}")


def copied_name(name: str, file: Path) -> str:
    """Return the name of a file's copy: NAME with the ending of the file, .tif for zarr."""
    return f"{name}.tif" if is_zarr(file) else f"{name}{file.suffix}"


def copy_image(file: Path, folder: OutputFolder, name: str) -> None:
    """Copy an image or mask byte by byte, so that its record of origin stays, to `copied_name`; zarr becomes TIFF.

    Raises UserError as OutputFolder.writing, and for zarr as read_image.
    """
    name = copied_name(name, file)
    if is_zarr(file):
        folder.write(name, encode_image(Path(name), read_image(file), read_mark(file) or None))
    else:
        with folder.writing(name) as copy:
            shutil.copyfile(file, copy)


def check_target(path: Path, by: str | None, *, overwrite: bool) -> dict[str, Any]:
    """Return dataset.json of a folder to which the command `by` may write a dataset, empty if there is none yet.

    Raises UserError when the folder holds anything that cytoforge did not write, a dataset of another command, one
    without a list of its files, or a complete one (unless told to overwrite).
    """
    if path.is_file():
        raise UserError(f"{path}: is a file; give a folder to write into")
    former = read_info(path)
    if former.get("written_by") != "cytoforge":
        if not former and OutputFolder(path, by or "cytoforge").known:
            return {}  # killed during a replacement, after the old files were removed
        if any(image_files(path / part) for part in PARTS):
            raise UserError(f"{path}: holds images or masks that cytoforge did not write; choose another folder")
        found = sorted(entry.name for entry in path.iterdir() if entry.name[0] != ".") if path.is_dir() else []
        if found and found != [MANIFEST]:
            raise UserError(f"{path}: holds {', '.join(found[:3])} and is no dataset; choose another folder")
        return {}
    if made_by(former) != by:
        raise UserError(
            f"{path}: holds a dataset of another kind, by {made_by(former) or 'another command'}; choose another folder"
        )
    OutputFolder(path, by or "cytoforge").require()
    if former.get("complete") and not overwrite:
        raise UserError(f"{path}: holds results already; choose another folder or give --overwrite")
    return former


def output_folder(path: Path, info: Mapping[str, Any]) -> OutputFolder:
    """Return the folder of a dataset or movie, which knows the files written by the command that `info` names."""
    return OutputFolder(path, made_by(info) or "cytoforge")


def _stem(name: str) -> str:
    return Path(name).stem.removesuffix(".ome")


def goes_on(path: Path, former: Mapping[str, Any], wanted: Mapping[str, Any], *, begun: bool, overwrite: bool) -> bool:
    """Tell whether an interrupted run continues: its dataset.json `former` has the settings `wanted`, no `overwrite`.

    Raises UserError when work with other settings was `begun` (there are files) and `overwrite` is False.
    """
    different = [word.replace("_", "-") for word in differences(former, wanted, WORDS)]
    if begun and not overwrite:
        refuse_other(path, "unfinished work", different)
    return not different and not overwrite


class Info(Settings):
    """The checked entries of dataset.json; other entries are not checked and are kept."""

    complete: bool = True
    licence: str | None = None
    learned_from: list[str] = Field(default_factory=list)
    files: dict[str, dict[str, Any]] = Field(default_factory=dict)
    sequences: dict[str, dict[str, Any]] = Field(default_factory=dict)


def read_info(folder: Path) -> dict[str, Any]:
    """Return dataset.json of a folder, empty without it; raises UserError when it is damaged or edited wrongly."""
    path = folder / INFO
    if not path.exists():
        return {}
    info = read_json(path)
    parse(Info, info, path, "mend the file")
    return info


def made_by(info: Mapping[str, Any]) -> str | None:
    """Return the command that made a dataset, according to its dataset.json, or None."""
    origin = info.get("synthetic")
    return origin.get("by") if isinstance(origin, dict) else info.get("by")
