"""Datasets: annotated images, images alone or masks alone, found in a folder, a file or a movie; split and read."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytoforge.cells.labels import connected
from cytoforge.data import movie
from cytoforge.data.files import digest, is_number, utf8
from cytoforge.data.formats import by_stem, image_files, read_mark
from cytoforge.data.images import (
    Normalisation,
    RowReader,
    Scaling,
    is_blank,
    is_constant,
    read_header,
    read_image,
    read_labels,
    resize_image,
    resize_labels,
    scaled_shape,
    strips,
)
from cytoforge.data.interchange import other_format
from cytoforge.data.label_check import check_label_files
from cytoforge.data.left_out import is_junk, left_out
from cytoforge.data.manifest import MANIFEST
from cytoforge.data.ngff import is_zarr
from cytoforge.data.pairing import BESIDE, Item, folder_of, grouping, image_of, info_of, is_dataset, paired, parts
from cytoforge.data.view import ALL, View, is_grey
from cytoforge.data.writer import INFO, PARTS, read_info
from cytoforge.errors import UserError
from cytoforge.places import PRESENT
from cytoforge.progress import counted

__all__ = ["INFO", "PARTS", "By", "Dataset", "Item", "parts"]

By = Literal["image", "group", "strip"]


@dataclass(frozen=True)
class Dataset:
    """The items found at a path, in the order of their names. Immutable: selections are new datasets."""

    path: Path
    items: tuple[Item, ...]
    info: Mapping[str, Any] = field(default_factory=dict)
    """content of dataset.json, empty without that file"""
    notes: tuple[str, ...] = ()
    """what the user should know about how the folder was read, one sentence each; the first ones are `left_out`"""
    left_out: tuple[str, ...] = ()
    """files and folders that are there but not read, one sentence for each kind"""
    binary: bool = False
    """masks have one value for all cells, and are numbered by connected components when they are read"""
    view: View = ALL
    """which channels and planes of the images are read"""

    @classmethod
    def open(
        cls,
        path: Path,
        sequences: tuple[str, ...] = (),
        *,
        holds: Literal["images", "masks"] = "images",
        view: View = ALL,
    ) -> "Dataset":
        """Find the images and masks at `path` without decoding any; images are read as `view` says.

        A folder with images/ or masks/ is a dataset. A folder with 01/t000.tif ... is a movie, of which `sequences`
        selects some sequences. Otherwise a single file or the files of a folder are images, or masks if the folder is
        named masks or `holds` says so. A folder with images directly in it and a masks/ folder is a dataset, too;
        `segment` makes one when it writes into the folder of its images. The name of a mask may be that of its image
        followed by one of MASK_ENDINGS; in a folder of files, masks with an ending of BESIDE lie beside their images.

        dataset.json may give groups: {"groups": {NAME: GROUP}}, or {"groups": "prefix"} for the part of the name before
        its last "_". It is also read when `path` is the images/ or masks/ folder of a dataset. Raises UserError when
        `path` does not exist, nothing is found, a name occurs twice, or `sequences` are given for what is no movie.
        """
        return replace(cls._find(path, sequences, holds), view=view)

    @classmethod
    def _find(cls, path: Path, sequences: tuple[str, ...], holds: Literal["images", "masks"]) -> "Dataset":
        PRESENT.check(path)
        if holds == "masks" and path.is_dir() and path.name == "images" and not (path / "masks").is_dir():
            raise UserError(f"{path}: holds images, not masks; give {path.parent} or {path.with_name('masks')}")
        if not sequences and is_dataset(path):
            return _open_folder(path)
        if movie.is_movie(path):
            return _open_movie(path, sequences)
        if sequences:
            raise UserError(f"{path}: is no movie folder (01/t000.tif ...), so leave out --sequence")
        single = path.is_file() or is_zarr(path)
        files = [path] if single else image_files(path)
        if not files:
            raise UserError(_nothing_in(path))
        found, info = by_stem(files), info_of(path.parent if single else path)
        left = () if single else tuple(left_out(path, files))
        if path.name == "masks":
            items = [Item(name, None, file) for name, file in found.items()]
        elif beside := {mask: file for mask, file in found.items() if image_of(mask, found, BESIDE)}:
            items = paired({name: file for name, file in found.items() if name not in beside}, beside, BESIDE)
        else:
            items = [Item(name, None, file) if holds == "masks" else Item(name, file) for name, file in found.items()]
        return cls(path, tuple(items), info, left, left)

    def pairs(self) -> "Dataset":
        """Keep the items with image and mask, and note how many lack one; raises UserError when no item has both."""
        whole = [item for item in self.items if item.image and item.mask]
        if not whole:
            raise UserError(self._no_pairs())
        notes = [
            f"{self.path}: {counted(count, kind)} without {other}, left out"
            for kind, other, count in (
                ("image", "mask", sum(item.mask is None for item in self.items)),
                ("mask", "image", sum(item.image is None for item in self.items)),
            )
            if count
        ]
        return replace(self, items=tuple(whole), notes=(*self.notes, *notes))

    def tracked(self) -> "Dataset":
        """Keep the movie frames that have an image and tracks; their labels are then read with the track ids.

        Raises UserError when this is no movie, or none of its sequences has tracks, masks and images.
        """
        if not self._is_movie():
            if told := other_format(self.path):
                raise UserError(f"{self.path}: {told}")
            raise movie.no_movie(self.path, "01/t000.tif, 01_GT/TRA/man_track.txt ...")
        kept, notes, groups = [], list(self.notes), self._groups()
        for sequence in movie.read_sequences(self.path, groups):
            source = sequence.track_source
            if source is None:
                notes.append(f"sequence {sequence.name}: has no tracks (man_track.txt or res_track.txt), left out")
                continue
            markers, numbers = sequence.masks.get(source, {}), set(sequence.tracked_frames())
            for item in groups[sequence.name]:
                if item.image and item.frame in numbers:
                    marker = markers.get(item.frame)
                    mask = item.mask or marker
                    tracks = sequence.tracks[source]
                    kept.append(replace(item, mask=mask, markers=None if marker == mask else marker, tracks=tracks))
        if not kept:
            raise UserError(
                f"{self.path}: holds no tracked frames, which are images with masks and man_track.txt or "
                "res_track.txt; add images where they are missing, or track its cells first"
            )
        return replace(self, items=tuple(kept), notes=tuple(notes))

    def images(self) -> "Dataset":
        """Keep the items with an image; raises UserError when there is none."""
        return self._having("image")

    def masks(self) -> "Dataset":
        """Keep the items with a mask; raises UserError when there is none."""
        return self._having("mask")

    def _having(self, part: Literal["image", "mask"]) -> "Dataset":
        kept = tuple(item for item in self.items if getattr(item, part))
        if not kept:
            raise UserError(f"{self.path}: holds no {part}s; put them into {self._place(part)}")
        return replace(self, items=kept)

    def _no_pairs(self) -> str:
        if told := other_format(self.path):
            return f"{self.path}: {told}"
        image = next((item.image for item in self.items if item.image), None)
        mask = next((item.mask for item in self.items if item.mask), None)
        if image and mask:
            return (
                f"{self.path}: no image and mask have the same name ({image.name} against {mask.name}); "
                "rename the masks like their images"
            )
        if self.path.is_file():
            return f"{self.path}: is a single file; give the folder that holds images/ and masks/"
        if mask:
            return f"{self.path}: holds masks but no images; put the images into {self._place('image')}"
        notes = "".join(f" ({note})" for note in self.notes)
        return f"{self.path}: holds images but no masks to learn from{notes}; put them into {self._place('mask')}"

    def _place(self, part: Literal["image", "mask"]) -> Path:
        """Return where images or masks are looked for."""
        if not movie.is_movie(self.path):
            return self.path / f"{part}s"
        sequence = next((item.group for item in self.items), "01")
        return self.path / (f"{sequence}/t000.tif" if part == "image" else f"{sequence}_ST/SEG/man_seg000.tif")

    def limited(self, n: int, seed: int) -> "Dataset":
        """Draw n items at random, or all if there are fewer; with the same seed, a larger draw contains a smaller one.

        Raises ValueError when n is below 1.
        """
        if n < 1:
            raise ValueError(f"a limit is at least 1, got {n}")
        drawn = np.random.default_rng(seed).permutation(len(self.items))[:n]
        return replace(self, items=tuple(self.items[i] for i in sorted(drawn)))

    def in_a_row(self, n: int, seed: int) -> "Dataset":
        """Draw n consecutive movie frames; when one sequence has too few, the rest comes from further sequences.

        With the same seed, a larger draw contains a smaller one.
        """
        rng = np.random.default_rng(seed)
        groups = list(self._groups().values())
        kept: set[str] = set()
        for place in rng.permutation(len(groups)):
            frames = groups[place]
            count = min(n - len(kept), len(frames))
            start = min(max(int(rng.integers(len(frames))) - count // 2, 0), len(frames) - count)
            kept |= {item.name for item in frames[start : start + count]}
        return replace(self, items=tuple(item for item in self.items if item.name in kept))

    def split(self, seed: int, fraction: float = 0.2, by: By = "image", least: int = 1) -> tuple["Dataset", "Dataset"]:
        """Return (training, validation): a `fraction` (0 to 1) of the items is held out, at least one item.

        In a movie, the first or the last frames of each sequence are held out, at least `least` of them: one block of
        time has only one border at which training and validation frames are neighbours. by="group" holds out whole
        groups. by="strip" holds out a strip of rows at the top or bottom of each image, as is done of a single one.
        Raises UserError when by="group" finds fewer than two groups.
        """
        rng = np.random.default_rng(seed)
        if by == "strip" or (len(self.items) == 1 and by == "image"):
            return self._without_strips(rng, fraction)
        held: set[str] = set()
        if by == "image" and self._is_movie():
            for frames in self._groups().values():
                if len(frames) > 1:
                    count = _share(len(frames), fraction, least)
                    held |= {item.name for item in (frames[:count] if rng.random() < 0.5 else frames[-count:])}
        if not held:
            units = self._units(by)
            order = rng.permutation(len(units))[: _share(len(units), fraction)]
            held = {item.name for i in order for item in units[i]}
        return self._divided(held)

    def folds(self, k: int, seed: int, by: By = "image") -> list[tuple["Dataset", "Dataset"]]:
        """Return k pairs (training, validation); each item is in exactly one validation part.

        In a movie, each validation part is a block of time of every sequence. Raises UserError when there are fewer
        than k units to divide, ValueError when k is below 2.
        """
        if k < 2:
            raise ValueError(f"k-fold validation needs k >= 2, got {k}")
        if by == "image" and self._is_movie():
            blocks = [[[item] for item in frames] for frames in self._groups().values()]
        else:
            units = self._units(by)
            blocks = [[units[i] for i in np.random.default_rng(seed).permutation(len(units))]]
        count = max(map(len, blocks))
        if count < k:
            raise UserError(f"{self.path}: {counted(count, by)} cannot be cut into {k} folds; ask for fewer")
        parts: list[set[str]] = [set() for _ in range(k)]
        for block in blocks:
            borders = np.linspace(0, len(block), k + 1).round().astype(int)
            for part, start, stop in zip(parts, borders, borders[1:], strict=False):
                part |= {item.name for unit in block[start:stop] for item in unit}
        return [self._divided(part) for part in parts]

    def _is_movie(self) -> bool:
        return all(item.frame is not None for item in self.items)

    def _groups(self) -> dict[str, list[Item]]:
        groups: dict[str, list[Item]] = {}
        for item in self.items:
            groups.setdefault(item.group if item.group is not None else item.name, []).append(item)
        return groups

    def _units(self, by: By) -> list[list[Item]]:
        """Return the lists of items that a split must keep together; raises UserError as `split`."""
        if by != "group":
            return self._equal_images()
        groups = list(self._groups().values())
        if len(groups) < 2 or all(item.group is None for item in self.items):
            raise UserError(
                f"{self.path}: has no two groups to split by; name them in {INFO} "
                '({"groups": {"NAME": "GROUP"}} or {"groups": "prefix"}), or split by image'
            )
        return groups

    def _equal_images(self) -> list[list[Item]]:
        """Return lists of items whose image files are identical; each item alone if all images are identical."""
        sizes = Counter(item.image.stat().st_size for item in self.items if item.image and item.image.is_file())
        units: dict[str, list[Item]] = {}
        for item in self.items:
            alike = item.image and item.image.is_file() and sizes[item.image.stat().st_size] > 1
            units.setdefault(digest(item.image) if item.image and alike else f"={item.name}", []).append(item)
        return list(units.values()) if len(units) > 1 else [[item] for item in self.items]

    def _divided(self, held: set[str]) -> tuple["Dataset", "Dataset"]:
        training = tuple(item for item in self.items if item.name not in held)
        return replace(self, items=training), replace(self, items=tuple(i for i in self.items if i.name in held))

    def _without_strips(self, rng: np.random.Generator, fraction: float) -> tuple["Dataset", "Dataset"]:
        """Return the images without a strip of each, and these strips; equal images lose the same strip."""
        at_top: dict[str, bool] = {}
        for unit in self._equal_images():
            at_top |= dict.fromkeys((item.name for item in unit), rng.random() < 0.5)
        learned, held = [], []
        for item in self.items:
            height = self.shape(item)[1] if item.image else read_header(item.mask or self.path)[0][1]
            if height < 2:
                raise UserError(f"{item.image}: one row of pixels cannot be split; give more images")
            first, last = item.rows or (0, height)
            count = _share(last - first, fraction)
            border = first + count if at_top[item.name] else last - count
            parts = (first, border), (border, last)
            strip, rest = parts if at_top[item.name] else parts[::-1]
            learned.append(replace(item, rows=rest))
            held.append(replace(item, rows=strip))
        return replace(self, items=tuple(learned)), replace(self, items=tuple(held))

    @property
    def scale(self) -> float:
        """Factor by which the files were resized from the original images: `scale` of dataset.json, 1 without it.

        Raises UserError when it is not a positive number.
        """
        scale = self.info.get("scale", 1.0)
        if not is_number(scale) or not scale > 0:
            raise UserError(f"{self.path / INFO}: scale must be a number above 0, not {scale!r:.60}; mend it")
        return float(scale)

    @property
    def limits(self) -> np.ndarray | None:
        """Grey values, float64 (2,), that stand for -1 and 1 in all images: `limits` of dataset.json, None without it.

        Raises UserError when they are not two ascending numbers.
        """
        limits = self.info.get("limits")
        if limits is None:
            return None
        numbers = isinstance(limits, list) and len(limits) == 2 and all(map(is_number, limits))
        if not numbers or not limits[0] < limits[1]:
            raise UserError(f"{self.path / INFO}: limits must be two ascending numbers, not {limits!r:.60}; mend it")
        return np.array(limits, dtype=np.float64)

    def limits_of(self, measured: np.ndarray) -> np.ndarray:
        """Return the grey values (C, 2) that stand for -1 and 1 in an image whose own limits are `measured`."""
        return measured if self.limits is None else np.tile(self.limits, (len(measured), 1))

    def synthetic(self) -> Path | None:
        """Return the first file that marks the data as synthetic (dataset.json, an image or a mask), or None.

        dataset.json is looked for in the three folders above each file, as `path` may be only a part of a dataset.
        """
        files = [file for item in self.items for file in (item.image, item.mask) if file]
        folders = {folder for file in files for folder in file.absolute().parents[:3]}
        for info in sorted(folder / INFO for folder in folders):
            if info.is_file() and "synthetic" in read_info(info.parent):
                return info
        return next((file for file in files if read_mark(file).get("synthetic")), None)

    def shape(self, item: Item) -> tuple[int, int, int]:
        """Return channels, height and width of an item's image without decoding it; raises as `images.read_header`."""
        return read_header(self._image(item), self.view)[0]

    def pixels(self, item: Item) -> np.ndarray:
        """Read an item's image (C, H, W) with the grey values of its file; raises as `images.read_image`."""
        return read_image(self._image(item), self.view)

    def reader(self, item: Item) -> RowReader:
        """Open an item's image to be read by rows, with the grey values of its file; raises as `images.RowReader`."""
        return RowReader(self._image(item), self.view)

    def _image(self, item: Item) -> Path:
        if item.image is None:
            raise UserError(f"{item.mask}: has no image; put it into {self.path / 'images'}")
        return item.image

    def alike(self, channels: int | None = None) -> "Dataset":
        """Return this dataset with one number of channels in all images, if grey and RGB images are all there is.

        Where the three channels of every RGB image are equal, all images are grey, with one channel; else, and where
        `channels` asks for 3, grey images have three equal ones. Images with other numbers of channels stay as they
        are. Raises UserError as `images.read_image`.
        """
        stored = replace(self, view=replace(self.view, count=None))
        found: dict[int, list[Item]] = {}
        for item in stored.items:
            if item.image:
                found.setdefault(stored.shape(item)[0], []).append(item)
        if not found or not found.keys() <= {1, 3}:
            return stored
        count = 3 if channels == 3 or not all(stored._is_grey(item) for item in found.get(3, ())) else 1
        return replace(self, view=replace(self.view, count=count))

    def _is_grey(self, item: Item) -> bool:
        """Tell whether the channels of an image are equal; reads it until they differ."""
        with self.reader(item) as reader:
            return all(is_grey(rows) for _, rows in strips(reader))

    def read_image(
        self,
        item: Item,
        scaling: Scaling = 1.0,
        normalisation: Normalisation | None = None,
        limits: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read an item's image as float32 (C, H, W) in [-1, 1], resized.

        The limits (C, 2), the grey values that become -1 and 1, are `limits` if given, else those of dataset.json,
        else those that `normalisation` (percentiles 0.1 and 99.9 by default) measures on the whole file, even when the
        item is a strip of it. Synthetic images have limits in dataset.json: they are generated in [-1, 1], and their
        contrast must not be stretched when bright debris is absent.
        Raises UserError when the item has no image or it cannot be read.
        """
        normalisation = normalisation or Normalisation()
        image = self.pixels(item)
        if limits is None:
            limits = self.limits_of(normalisation.measure(image))
        start, stop = item.rows or (0, image.shape[1])
        strip = normalisation.apply(image[:, start:stop], limits)
        return resize_image(strip, scaled_shape(strip.shape, scaling, image.shape))

    def read_labels(self, item: Item, scaling: Scaling = 1.0) -> np.ndarray:
        """Read an item's labels as int32 (H, W), resized to the size that read_image gives.

        In a tracked item the cells have the ids of their tracks, and cells without a track are left out.
        Raises UserError when the item has no mask, the mask cannot be read, or its size is not that of the image.
        """
        if item.mask is None:
            raise UserError(f"{item.image}: has no mask; put it into {self.path / 'masks'}")
        labels = read_labels(item.mask)
        if self.binary:
            labels = connected(labels)
        if item.markers is not None:
            labels = movie.relabelled(labels, read_labels(item.markers))
        if item.image is not None:
            size = self.shape(item)[1:]
            if labels.shape != size:
                raise UserError(
                    f"{item.mask}: is {labels.shape[0]} x {labels.shape[1]} pixels, its image {item.image.name} "
                    f"{size[0]} x {size[1]}; export both at the same size"
                )
        start, stop = item.rows or (0, labels.shape[0])
        strip = labels[start:stop]
        return resize_labels(strip, scaled_shape(strip.shape, scaling, labels.shape))

    def check_labels(self, *, binary: bool = False, otherwise: str = "") -> bool:
        """Tell whether masks have one value for all cells; see check_label_files.

        Raises UserError when masks or markers do not number cells one by one.
        """
        files = ([file for item in self.items if (file := getattr(item, part))] for part in ("mask", "markers"))
        found = [check_label_files(part, binary=binary, otherwise=otherwise) for part in files]
        return any(found)

    def numbered(self, *, binary: bool, otherwise: str = "") -> "Dataset":
        """Check masks as check_labels; where they have one value for all cells, number the connected components.

        The note that says so is the last one.
        """
        if not self.check_labels(binary=binary, otherwise=otherwise):
            return self
        note = f"{self.path}: masks have one value for all cells; each connected component is taken as one cell"
        return replace(self, binary=True, notes=(*self.notes, note))

    def common_image(self, other: "Dataset") -> tuple[Path, Path] | None:
        """Return a file of this dataset and one of `other` that hold the same image, whatever their names, or None.

        Files are compared byte by byte first, then by pixels, size and type. Blank images are ignored.
        """
        ours, theirs = ([item.image for item in data.items if item.image] for data in (self, other))
        views = dict.fromkeys(ours, self.view) | dict.fromkeys(theirs, other.view)
        keys: tuple[Callable[[Path], str], ...] = (digest, lambda image: _pixels(image, views[image]))
        for key in keys:
            known = {key(image): image for image in ours}
            for image in theirs:
                if (value := key(image)) in known and not is_blank(read_image(image, views[image])):
                    return known[value], image
        return None

    def channels(self) -> int:
        """Return the number of channels of all images; raises UserError when they differ."""
        found = {self.shape(item)[0]: item.image for item in reversed(self.items) if item.image}  # the first of each
        if len(found) != 1:
            different = " and ".join(f"{path.name} ({count})" for count, path in sorted(found.items()))
            raise UserError(f"{self.path}: images need the same number of channels, found {different}; convert them")
        return next(iter(found))

    def check_looks(self, others: "Dataset") -> None:
        """Raise UserError unless all images are grey or RGB, as feature networks need, and `others` match."""
        count, wanted = self.channels(), others.channels()
        if count not in (1, 3):
            raise UserError(
                f"{self.items[0].image}: has {count} channels, scores take grey or RGB images; save one channel of "
                "every image as a file, and train, generate and score with these"
            )
        if count != wanted:
            raise UserError(
                f"{self.path}: images have {counted(count, 'channel')}, those of {others.path} {wanted}; "
                "convert one side to the other's"
            )

    def common_limits(self) -> np.ndarray:
        """Return grey values (C, 2) for -1 and 1 in all images: `limits`, or medians of the images' own limits.

        In a channel that is constant in most images, the medians are taken over the images where it is not constant.
        """
        if self.limits is not None:
            return np.tile(self.limits, (self.channels(), 1))
        limits = np.stack([Normalisation().measure(self.pixels(item)) for item in self.items if item.image])
        for channel in limits.transpose(1, 0, 2):
            varied = ~is_constant(channel)
            if is_constant(np.median(channel, axis=0)[None])[0] and varied.any():
                channel[:] = np.median(channel[varied], axis=0)
        return np.asarray(np.median(limits, axis=0))

    def fingerprint(self) -> dict[str, Any]:
        """Return the entry for provenance.json: path, number of items, and the SHA-256 over the names and all files."""
        lines = []
        for item in self.items:
            parts = [digest(part) if part else "-" for part in (item.image, item.mask)]
            parts += [digest(part) for part in (item.markers, item.tracks) if part]
            lines.append(" ".join([item.name, *parts, str(item.rows)]))
        sha256 = hashlib.sha256(utf8("\n".join(lines))).hexdigest()
        return {"path": str(self.path), "items": len(self.items), "sha256": sha256}


def _share(count: int, fraction: float, least: int = 1) -> int:
    """Return how many of `count` units are held out: at least `least`, but not all, unless there is only one."""
    return min(max(least, round(count * fraction)), count - 1) if count > 1 else 1


def _pixels(path: Path, view: View) -> str:
    image = read_image(path, view)
    return f"{image.shape} {image.dtype} {hashlib.sha256(image.tobytes()).hexdigest()}"


def _nothing_in(path: Path) -> str:
    if told := other_format(path):
        return f"{path}: {told}"
    if inside := parts(path):
        return f"{path}: holds several datasets; give one of them: {', '.join(part.name for part in inside)}"
    files = (f for f in path.rglob("*") if f.is_file() and f.name != MANIFEST and not is_junk(f))
    endings = sorted({f.suffix for f in files if f.suffix})
    found = f"only {', '.join(endings[:5])} files" if endings else "no files"
    return f"{path}: holds {found}; put PNG, TIFF or zarr images into {path / 'images'} and label images into masks/"


def _open_folder(path: Path) -> Dataset:
    info = info_of(path)
    images_folder, masks_folder = (folder_of(path, part) for part in PARTS)
    if not images_folder.is_dir():  # images lie directly in the folder
        images_folder = path
    listed = [image_files(folder) for folder in (images_folder, masks_folder)]
    images, masks = map(by_stem, listed)
    left: tuple[str, ...] = ()
    if images_folder != path or images:
        left += tuple(left_out(images_folder, [*listed[0], masks_folder]))
    left += tuple(left_out(masks_folder, listed[1]))
    if images_folder != path:
        folders = [folder for folder in (images_folder, masks_folder) if folder.is_dir()]
        left += tuple(left_out(path, folders, parts=True))
    if not images and not masks:
        raise UserError(_nothing_in(path))
    group = grouping(path, info)
    items = tuple(replace(item, group=group(item.name)) for item in paired(images, masks))
    return Dataset(path, items, info, left, left)


def _open_movie(path: Path, sequences: tuple[str, ...]) -> Dataset:
    items, notes = [], []
    for sequence in movie.read_sequences(path, sequences):
        source = sequence.source
        masks = sequence.masks[source] if source else {}
        for number in sequence.frames or masks:
            frame = sequence.frames.get(number)
            name = f"{sequence.name}_{frame.stem if frame else f't{number:03d}'}"
            items.append(Item(name, frame, masks.get(number), sequence.name, number))
        if source:
            notes.append(f"sequence {sequence.name}: masks from {source}")
        for name, partial in {} if source else sequence.masks.items():
            covered, all_of_them = len(partial.keys() & sequence.frames.keys()), counted(len(sequence.frames), "frame")
            notes.append(f"sequence {sequence.name}: {name} covers {covered} of {all_of_them}, not used")
    if not items:
        raise UserError(f"{path}: its sequences hold no frames; frames are named t000.tif, t001.tif ...")
    left = tuple(movie.left_out(path, sequences))
    return Dataset(path, tuple(items), info_of(path), (*left, *notes), left)
