"""Which files of a folder are images and masks, and which of them belong together."""

import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytoforge.data import movie
from cytoforge.data.formats import SUFFIXES
from cytoforge.data.writer import INFO, PARTS, read_info
from cytoforge.errors import UserError

# what may follow the image's name in the name of its mask: an ending of cellpose, or the suffix of the image file
MASK_ENDINGS = ("_cp_masks", "_masks", *SUFFIXES, *(suffix.upper() for suffix in SUFFIXES))
BESIDE = ("_cp_masks", "_masks", "_mask")  # the same, in a folder where masks lie beside images


@dataclass(frozen=True)
class Item:
    """One image, its mask, or both. `rows` limits it to a range of the file's rows (a held-out strip)."""

    name: str
    image: Path | None = None
    mask: Path | None = None
    group: str | None = None
    """what must stay together when training and validation are split, such as a sequence or a well"""
    frame: int | None = None
    """frame number in a movie"""
    rows: tuple[int, int] | None = None
    markers: Path | None = None
    """label image with the track ids, where the ids of the mask are not those of the tracks"""
    tracks: Path | None = None
    """track file (man_track.txt or res_track.txt) that lists the ids of the labels"""


def parts(path: Path) -> list[Path]:
    """Return the datasets and movies directly inside a folder, such as train, val and test; empty for a dataset."""
    if is_dataset(path):
        return []
    return [p for p in sorted(path.iterdir()) if p.is_dir() and (is_dataset(p) or movie.is_movie(p))]


def is_dataset(path: Path) -> bool:
    """Tell whether a folder holds images/ or masks/."""
    return path.is_dir() and any(folder_of(path, part).is_dir() for part in PARTS)


def folder_of(path: Path, name: str) -> Path:
    """Return the images or masks folder of a dataset, whether its name is in upper or lower case."""
    exact = path / name
    if exact.is_dir():
        return exact
    return next((other for other in sorted(path.iterdir()) if other.name.lower() == name and other.is_dir()), exact)


def info_of(path: Path) -> dict[str, Any]:
    """Read the dataset.json of a folder, or of the dataset whose images/ or masks/ it is; {} without one."""
    owner = path.parent if path.name.lower() in PARTS else path
    return read_info(owner)


def paired(
    images: Mapping[str, Path], masks: Mapping[str, Path], endings: tuple[str, ...] = MASK_ENDINGS
) -> list[Item]:
    """Pair images and masks of the same name, or whose names differ by an ending; the items are in order of name."""
    named = dict(masks)
    for mask in masks.keys() - images.keys():
        image = image_of(mask, images, endings)
        if image and image not in named:
            named[image] = named.pop(mask)
    return [Item(name, images.get(name), named.get(name)) for name in sorted(images.keys() | named.keys())]


def image_of(mask: str, images: Collection[str], endings: tuple[str, ...]) -> str | None:
    """Return the name of the image whose name, followed by one of `endings`, is that of the mask; None without one."""
    return next((name for ending in endings if (name := mask.removesuffix(ending)) != mask and name in images), None)


def grouping(path: Path, info: dict[str, Any]) -> Callable[[str], str | None]:
    """Return a function from names to the groups of dataset.json; raises UserError where these are not as described."""
    groups = info.get("groups", {})
    if groups == "prefix":
        return lambda name: name.rpartition("_")[0] or None
    if not isinstance(groups, dict):
        raise UserError(f'{path / INFO}: groups must be {{"NAME": "GROUP"}} or "prefix", not {groups!r:.60}; mend it')
    composed = {unicodedata.normalize("NFC", name): str(group) for name, group in groups.items()}  # as `by_stem`
    return composed.get
