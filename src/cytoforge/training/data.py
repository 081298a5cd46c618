"""The annotated images of a training: read, split for validation, measured; and synthetic ones beside them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytoforge.cells.instances import cell_diameters
from cytoforge.data.dataset import INFO, Dataset, Item
from cytoforge.data.files import digest
from cytoforge.data.images import Normalisation, Scaling, is_blank, read_header, remaining, scaled_shape
from cytoforge.data.movie import gaps, read_sequences, some
from cytoforge.data.tracks import check_sizes
from cytoforge.data.view import ALL, View
from cytoforge.errors import UserError
from cytoforge.metrics.morphology import FITTING_DIAMETER, fitting_scale
from cytoforge.progress import counted
from cytoforge.training.samplers.synthetic import Synthetic
from cytoforge.training.specification import Data, SyntheticData

SMALLEST = 16  # px
FEW_IMAGES = 10
"""images of which none is held out as a whole, but a strip of each, so that all of them are learned from"""
LEAST_STRIP = 32  # px
MEASURED = 20
"""images on whose masks the size of the cells is measured, to find a scale"""
SAME, LARGEST_SCALE = 0.1, 8.0
"""relative difference up to which images keep their size, and the largest scale"""
Example = tuple[str, np.ndarray, np.ndarray]
"""name, image float32 (C, H, W) and labels int32 (H, W)"""
Use = Literal["images", "movie", "tracks"]
"""What is learned from the data: images, movies whose frames share the limits of their grey values, or tracks."""


@dataclass(frozen=True)
class Masks:
    """Which masks a training takes besides label images."""

    binary: bool = False
    """masks with one value for all cells, too"""
    otherwise: str = ""
    """what the message that refuses binary masks proposes instead"""


NUMBERED = Masks()


@dataclass(frozen=True)
class TrainingData:
    """Annotated images, ready to cut windows from; images float32 (C, H, W), labels int32 (H, W)."""

    names: tuple[str, ...]
    read: Callable[[int], tuple[np.ndarray, np.ndarray]]
    """image and labels of training source i"""
    validation: tuple[Example, ...]
    channels: int
    cells: int
    """annotated cells in training and validation images together"""
    coverage: tuple[float, ...]
    """share of each training image that is cell"""
    notes: tuple[str, ...]
    """what the user should know, a sentence each"""
    fingerprints: tuple[dict[str, Any], ...]
    """path, size and hash of the training and the validation data, for provenance.json"""
    items: tuple[Item, ...]
    """the training sources"""
    held: tuple[Item, ...]
    """the validation sources"""
    limits: dict[str, list[list[float]]]
    """of movies, by sequence, the grey values (C, 2) that become -1 and 1 in all of its frames"""
    pixels: str
    """type of the numbers in the image files: uint8, uint16 or float32, the first of these that holds them"""


def open_data(
    data: Data,
    seed: int,
    use: Use = "images",
    *,
    masks: Masks = NUMBERED,
    enlarged: int = 1,
    fitting: float = FITTING_DIAMETER,
) -> TrainingData:
    """Read, split and measure annotated images.

    With `use` "movie" all frames of a sequence share the limits of their grey values, so that brightness does not
    flicker. With "tracks" labels hold the numbers of tracks, and images are read at the size of their files, whatever
    the scale. `enlarged` is the factor by which a second stage enlarges painted frames, and `fitting` the diameter in
    pixels that suits the networks, to propose a scale by.
    Raises UserError when there are no pairs or no cells, when masks do not serve, when images for training are among
    those of --validation, too, and when nothing is left for training or validation.
    """
    tracked = use == "tracks"
    dataset = _open(data.path, data.sequences, tracked, data.view)
    dataset = dataset.numbered(binary=masks.binary, otherwise=masks.otherwise)
    notes = [*dataset.notes, *(_sequences(dataset) if use != "images" else ())]
    if dataset.synthetic():
        notes.append(f"{data.path}: these images are synthetic; the validation score says little about real ones")

    training, held = _split(data, seed, dataset, tracked)
    together = replace(training, items=(*training.items, *held.items))
    together = together if data.arrays else together.alike()  # arrays have the channels that later ones will have
    channels, view = together.channels(), together.view
    training, held = replace(training, view=view), replace(held, view=view)
    if data.validation is not None:
        held = held.numbered(binary=masks.binary, otherwise=masks.otherwise)
        notes += [*held.left_out, *(held.notes[-1:] if held.binary and not dataset.binary else ())]
    limits = {**common_limits(held), **common_limits(training)} if use == "movie" else {}

    def load(source: Dataset, item: Item) -> Example:
        scaling = source.scale if tracked else data.scaling
        return item.name, *_read(source, item, scaling, limits.get(str(item.group)))

    validation = tuple(load(held, item) for item in held.items)
    kept, diameters, coverage = [], [], []
    for item in training.items:
        _, image, labels = load(training, item)
        if min(image.shape[1:]) < SMALLEST:
            height, width = image.shape[1:]
            flag, remedy = f"--scale {data.scale:g}", "a larger scale"
            if data.resize is not None:
                flag, remedy = "this --resize", "more pixels"
            raise UserError(f"{item.image}: has {height} x {width} px at {flag}; give {remedy}")
        if is_blank(image):
            notes.append(f"{item.image}: one grey value or NaN all over, left out of training")
            continue
        kept.append(item)
        diameters.append(cell_diameters(labels))
        coverage.append(np.count_nonzero(labels) / labels.size)
    sizes = np.concatenate([*diameters, *(cell_diameters(labels) for _, _, labels in validation), np.empty(0)])
    if training.items[0].rows is not None:
        images = "a single image, of which" if len(kept) == 1 else "few images, of each of which"
        notes.append(f"{data.path}: holds {images} a strip is for validation, and the rest for training")
    if not kept:
        raise UserError(f"{data.path}: no image is left to train on; run cytoforge check {data.path}")
    if sizes.size == 0:
        raise UserError(f"{data.path}: the masks hold no cells; run cytoforge check {data.path}")
    if not tracked and data.resize is None:
        notes += _proposed_scale(data.scale, float(np.median(sizes)), enlarged, fitting)
    return TrainingData(
        names=tuple(item.name for item in kept),
        read=lambda i: load(training, kept[i])[1:],
        validation=validation,
        channels=channels,
        cells=int(sizes.size),
        coverage=tuple(coverage),
        notes=tuple(notes),
        fingerprints=(training.fingerprint(), held.fingerprint()),
        items=tuple(kept),
        held=held.items,
        limits={group: between.tolist() for group, between in limits.items()},
        pixels=_pixel_type(training),
    )


def _pixel_type(dataset: Dataset) -> str:
    """Return the smallest type of uint8, uint16 and float32 that holds the numbers of a dataset's first image."""
    stored = read_header(dataset.items[0].image, dataset.view)[1] if dataset.items[0].image else np.dtype(np.float32)
    return next((kind for kind in ("uint8", "uint16") if np.can_cast(stored, kind)), "float32")


def with_scale(data: Data, diameter: float, seed: int) -> tuple[Data, list[str]]:
    """Return data whose scale brings the median annotated cell to a diameter in pixels, and a note on it.

    The scale has two digits, and is 1 near 1, where it would only blur. Data whose images are brought to one size are
    returned as they are. Raises UserError as open_data.
    """
    if data.resize is not None:
        return data, []
    dataset = _open(data.path, data.sequences, tracked=False, view=data.view).numbered(binary=True)
    dataset = dataset if data.limit is None else dataset.limited(data.limit, seed)
    items = dataset.items[:: max(len(dataset.items) // MEASURED, 1)]
    sizes = np.concatenate([cell_diameters(dataset.read_labels(item)) for item in items])
    if sizes.size == 0:
        return data, []
    across = float(np.median(sizes))
    factor = min(diameter / across, LARGEST_SCALE)
    factor = 1.0 if abs(factor - 1) < SAME else float(f"{factor:.2g}")
    note = f"cells are {across:.0f} px across (median): images are resized by {factor:g}"
    return replace(data, scale=factor * dataset.scale), [note] if factor != 1 else []


def _proposed_scale(scale: float, diameter: float, enlarged: int, fitting: float = FITTING_DIAMETER) -> list[str]:
    """Say which --scale would suit cells of a diameter in pixels better, if another would."""
    scale, diameter = scale * enlarged, diameter * enlarged  # --scale is that of the enlarged frames
    factor = fitting_scale(diameter, fitting)
    if factor is None:
        return []
    return [
        f"cells are {diameter:.0f} px across (median) at scale {scale:g}: --scale {float(f'{scale * factor:.2g}'):g} "
        f"would bring them to {fitting:.0f} px, which trains faster and often better"
    ]


def common_limits(dataset: Dataset) -> dict[str, np.ndarray]:
    """Return the grey values (C, 2) that become -1 and 1 in each sequence: medians of the limits of its frames."""
    groups: dict[str, list[Item]] = {}
    for item in dataset.items:
        groups.setdefault(str(item.group), []).append(item)
    return {group: replace(dataset, items=tuple(each)).common_limits() for group, each in groups.items()}


def _open(path: Path, sequences: tuple[str, ...], tracked: bool, view: View = ALL) -> Dataset:
    found = Dataset.open(path, sequences, view=view)
    if not found.info.get("complete", True):
        raise UserError(f"{path}: is not finished; repeat the command that began to write it")
    return found.tracked() if tracked else found.pairs()


def _sequences(dataset: Dataset) -> list[str]:
    """Return notes about missing frames; raises UserError for sequences whose frames differ in size."""
    notes = []
    groups = dict.fromkeys(str(item.group) for item in dataset.items)
    for sequence in read_sequences(dataset.path, groups):
        check_sizes(sequence)
        numbers = {item.frame for item in dataset.items if item.group == sequence.name and item.frame is not None}
        if lost := gaps(numbers):
            where = f"{dataset.path}: sequence {sequence.name} lacks {some('frame', lost)}"
            notes.append(f"{where}; what happens meanwhile is not learned")
    return notes


def open_synthetic(
    data: Data, channels: int, *, masks: Masks = NUMBERED, tracked: bool = False
) -> tuple[Synthetic | None, dict[str, Any] | None]:
    """Open the synthetic images that are learned from beside the real ones; return them and their fingerprint, or None.

    `tracked` reads them as open_data does for "tracks". Raises UserError when there are no pairs, when they have
    another number of channels, and when the folder is unfinished or not marked as synthetic: its images could be those
    of validation.
    """
    if data.synthetic is None:
        return None, None
    source: SyntheticData = data.synthetic
    dataset = _open(source.path, (), tracked).alike(channels)
    if not dataset.synthetic():
        raise UserError(
            f'{source.path / INFO}: does not say that these images are synthetic; write {{"synthetic": true}} '
            "into it if they are, and give annotated real images as DATA"
        )
    _check_channels(dataset, data, channels)
    dataset = dataset.numbered(binary=masks.binary, otherwise=masks.otherwise)
    scaling = dataset.scale if tracked else data.scaling
    synthetic = Synthetic(
        dataset.items, lambda i: _read(dataset, dataset.items[i], scaling), source.share, source.schedule
    )
    return synthetic, dataset.fingerprint()


def _check_channels(dataset: Dataset, data: Data, channels: int) -> None:
    """Raise UserError unless images to learn from beside those of `data` have as many channels."""
    if (found := dataset.channels()) != channels:
        raise UserError(
            f"{dataset.path}: has images of {counted(found, 'channel')}, {data.path} of {channels}; convert them"
        )


@dataclass(frozen=True)
class Unlabelled:
    """Images without masks; `read(i)` gives image float32 (C, H, W) and labels int32 (H, W) that are 0."""

    names: tuple[str, ...]
    read: Callable[[int], tuple[np.ndarray, np.ndarray]]
    notes: tuple[str, ...]
    fingerprint: dict[str, Any]


def open_unlabelled(data: Data, training: TrainingData) -> Unlabelled | None:
    """Open the images without masks that are learned from, too; None where there shall be none.

    Masks that lie beside them are not read. Images that are among those of validation are left out, and said. Raises
    UserError when none is left, and when they have another number of channels.
    """
    if data.unlabelled is None:
        return None
    dataset = Dataset.open(data.unlabelled, view=data.view).images().alike(training.channels)
    held = {digest(item.image) for item in training.held if item.image is not None}
    kept = tuple(item for item in dataset.items if item.image is not None and digest(item.image) not in held)
    notes = list(dataset.left_out)
    if len(kept) < len(dataset.items):
        notes.append(
            f"{data.unlabelled}: {counted(len(dataset.items) - len(kept), 'image')} of validation left out, as the "
            "segmenter would know them before it is measured on them"
        )
    if not kept:
        raise UserError(f"{data.unlabelled}: holds no other images than those of validation; give others")
    dataset = replace(dataset, items=kept)
    _check_channels(dataset, data, training.channels)
    scaling = remaining(data.scaling, dataset.scale)

    def read(i: int) -> tuple[np.ndarray, np.ndarray]:
        image = dataset.read_image(kept[i], scaling)
        return image, np.zeros(image.shape[1:], np.int32)

    return Unlabelled(tuple(item.name for item in kept), read, tuple(notes), dataset.fingerprint())


def _read(
    source: Dataset, item: Item, scaling: Scaling, limits: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read image and labels, resized as original images are; the files may be resized copies of these."""
    scaling = remaining(scaling, source.scale)
    return source.read_image(item, scaling, Normalisation(), limits), source.read_labels(item, scaling)


def _split(data: Data, seed: int, dataset: Dataset, tracked: bool) -> tuple[Dataset, Dataset]:
    """Return the parts for training and validation; --limit counts both together.

    Tracked frames stay in a row, two at least.
    """
    least = 2 if tracked else 1

    def limited(part: Dataset, n: int) -> Dataset:
        return part.in_a_row(n, seed) if tracked else part.limited(n, seed)

    if data.validation is not None:
        others: tuple[str, ...] = ()
        if data.sequences and data.validation.resolve() == data.path.resolve():
            others = tuple(sorted({str(item.group) for item in Dataset.open(data.path).items} - set(data.sequences)))
        held = _open(data.validation, others, tracked, data.view)
        if witness := held.synthetic():
            raise UserError(
                f"{witness}: says that these images are synthetic, which is no measure of a "
                "segmenter; give annotated images to --validation"
            )
        if same := dataset.common_image(held):
            raise UserError(
                f"{same[1]}: is the same image as {same[0]}, and would be learned by heart before it is measured on; "
                "give other images to --validation, or leave it out"
            )
        if data.limit is None:
            return dataset, held
        part = min(max(least, round(0.2 * data.limit)), data.limit - 1)
        return limited(dataset, data.limit - part), limited(held, part)
    if data.limit is not None:
        dataset = limited(dataset, data.limit)
    by = data.split_by
    if by == "auto":
        by = "strip" if data.fold is None and not tracked and _few(dataset, data.scaling) else "image"
    if data.fold is not None:
        part, parts = data.fold
        return dataset.folds(parts, seed, by=by)[part - 1]
    return dataset.split(seed, by=by, least=least)


def _few(dataset: Dataset, scaling: Scaling) -> bool:
    """Tell whether a whole image is too much to be held out, and strips of all are high enough for the network."""
    if len(dataset.items) > FEW_IMAGES or any(item.frame is not None for item in dataset.items):
        return False
    shapes = [dataset.shape(item) for item in dataset.items if item.image is not None]
    lowest = min(scaled_shape(shape, remaining(scaling, dataset.scale))[0] for shape in shapes)
    return lowest * 0.2 >= LEAST_STRIP
