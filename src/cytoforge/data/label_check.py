"""The check that masks are label images, in which every cell has an id of its own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytoforge.data.files import read_json
from cytoforge.data.images import LabelReader, read_header
from cytoforge.errors import UserError
from cytoforge.metrics.label_images import Labels, Traits, judge, traits
from cytoforge.metrics.sampling import evenly

JUDGED = 32  # greatest number of masks of a set that are examined, evenly spread from the first to the last
PIXELS = 2**27  # greatest number of pixels of all these together, though at least FEWEST masks are examined
FEWEST = 3
WINDOW = 2048  # px, longest side of the central part of a mask that is examined


def check_label_files(files: Sequence[Path], *, binary: bool = False, otherwise: str = "") -> bool:
    """Raise UserError, naming the first such file, when masks of one set do not give every cell an id of its own.

    At most JUDGED files are read, fewer if they are large. With `binary`, masks with one value for all cells pass, and
    it is returned whether there are any; without it, the message proposes `otherwise` for these. Masks that `segment`
    and `track` wrote are not checked, as they are label images even if they look unusual after a short training.
    Raises UserError also as read_labels.
    """
    if not files or _found_by_cytoforge(files[0]):
        return False
    (_, height, width), _ = read_header(files[0])
    count = min(len(files), max(FEWEST, min(JUDGED, PIXELS // (height * width))))
    chosen = [files[k] for k in evenly(len(files), count)]
    return _refuse(chosen, [traits(_middle_of(file), read_header(file)[1]) for file in chosen], binary, otherwise)


def _middle_of(file: Path) -> Labels:
    """Return the `middle` of a label image, without reading the rest."""
    with LabelReader(file) as reader:
        (top, bottom), columns = (
            (max(0, (side - WINDOW) // 2), min(side, max(0, (side - WINDOW) // 2) + WINDOW))
            for side in reader.shape[1:]
        )
        return reader.labels(top, bottom, columns)


def _found_by_cytoforge(file: Path) -> bool:
    folder = file.absolute().parent.parent
    info = folder / "dataset.json"
    return (folder / "segment.json").is_file() or (info.is_file() and read_json(info).get("by") == "cytoforge track")


def check_label_stack(path: Path, stack: Iterable[NDArray[np.int32]], count: int) -> None:
    """Raise UserError as check_label_files for the `count` label images (H, W) of a stack."""
    chosen = evenly(count, JUDGED)
    found = [traits(middle(labels)) for number, labels in enumerate(stack) if number in chosen]
    _refuse([path] * len(found), found, False, "")


def check_label_arrays(
    name: str, arrays: Sequence[Labels], *, binary: bool, otherwise: str, segmented: bool = False
) -> None:
    """Raise UserError as check_label_files for label images (H, W), each called `name` and its number.

    Those that were `segmented` may look unusual, so of them only masks with one value for all cells are refused.
    """
    chosen = evenly(len(arrays), JUDGED)
    images = [traits(middle(arrays[k])) for k in chosen]
    _refuse([f"{name} {k}" for k in chosen], images, binary, otherwise, segmented)


def middle(labels: Labels) -> Labels:
    """Return the central part of labels (H, W), with no side longer than WINDOW."""
    top, left = (max(0, (side - WINDOW) // 2) for side in labels.shape)
    return labels[top : top + WINDOW, left : left + WINDOW]


def _refuse(
    names: Sequence[Path | str], images: Sequence[Traits], binary: bool, otherwise: str, segmented: bool = False
) -> bool:
    found = False
    for name, verdict in zip(names, judge(images), strict=True):
        if verdict and verdict.kind == "binary":
            found = True
            if not binary:
                raise UserError(f"{name}: {verdict.what}; {verdict.remedy}{otherwise and ', or ' + otherwise}")
        elif verdict and not segmented:
            raise UserError(f"{name}: {verdict.what}; {verdict.remedy}")
    return found
