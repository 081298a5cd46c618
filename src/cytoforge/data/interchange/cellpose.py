"""Cellpose: NAME_img with NAME_masks, NAME with NAME_cp_masks, and NAME_seg.npy beside NAME."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytoforge.cells.labels import Labels, dense
from cytoforge.data.images import label_array
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    label_image,
    stem,
    told,
)
from cytoforge.data.interchange.numpy_dict import read_dict
from cytoforge.errors import UserError

SEG = "_seg.npy"
MASKS = ("_cp_masks", "_masks")
OTHERS = (*MASKS, "_flows", "_cp_flows", "_cp_outlines", "_outlines", "_dP", "_cellprob")
"""Endings of images that are results, not what they were made of"""


def _recognised(source: Source) -> bool:
    return bool(source.having(SEG)) or any(_image_of(source, mask) for mask in source.images if _base(mask))


def _base(file: Path) -> str | None:
    """Return NAME of NAME_masks or NAME_seg.npy, None for another file."""
    if file.name.endswith(SEG):
        return file.name.removesuffix(SEG)
    name = stem(file.name)
    return next((name.removesuffix(ending) for ending in MASKS if name.endswith(ending)), None)


def _image_of(source: Source, file: Path) -> Path | None:
    base = _base(file)
    return source.beside(file, f"{base}_img", base) if base else None


def _open(source: Source) -> Found:
    """Find images with masks; NAME_seg.npy, which Cellpose's window corrects, goes before image files of masks."""
    outlined = source.having(SEG)
    masks = [] if source.single else [image for image in source.images if _base(image)]
    items: dict[Path, Annotated] = {}
    lone: list[str] = []
    twice: list[str] = []
    for file in [*outlined, *masks]:
        image, name = _image_of(source, file), source.relative(file.with_name(_base(file) or ""))
        if image in items:
            twice.append(source.relative(file))
        elif image:
            draw = partial(_draw_dict, file) if file in outlined else partial(label_image, file)
            items[image] = Annotated(name, draw, image)
        elif file in outlined:
            items[file] = Annotated(name, partial(_draw_dict, file), partial(_pixels, file))
        else:
            lone.append(source.relative(file))
    notes = list(told("further mask", twice, "of the same images, left out"))
    notes += told("mask", lone, "without image, left out")
    notes += source.unannotated({*masks, *items, *(i for i in source.images if stem(i.name).endswith(OTHERS))})
    return Found(tuple(items.values()), tuple(notes))


def _draw_dict(file: Path, size: Size | None) -> Drawn:
    masks = read_dict(file).get("masks")
    if not isinstance(masks, np.ndarray) or masks.ndim != 2:
        raise UserError(f"{file}: holds no masks of one image (height, width); save it anew in Cellpose")
    labels = label_array(masks, str(file))
    agreed(file, "this mask", (labels.shape[0], labels.shape[1]), size)
    return Drawn(labels)


def _pixels(file: Path) -> NDArray[Any]:
    """Return the image (C, H, W) that older versions keep in the file; raises UserError where there is none."""
    image = read_dict(file).get("img")
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or image.dtype.kind not in "uif":
        raise UserError(f"{file}: its image is not there; put {file.name.removesuffix(SEG)} with its ending beside it")
    channels_last = image.ndim == 3 and image.shape[2] <= image.shape[0]
    return np.atleast_3d(image).transpose(2, 0, 1) if image.ndim == 2 or channels_last else image


CELLPOSE = Format("Cellpose", _recognised, _open)


def segmentation(labels: Labels, image: str, colours: NDArray[np.uint8]) -> bytes:
    """Return the cells of labels (H, W) as NAME_seg.npy, which Cellpose's window opens beside the file `image`.

    Cells are numbered 1..N in the order of their ids, as the window needs it; `colours` (N, 3) are theirs.
    """
    from skimage.segmentation import find_boundaries

    ids, numbers = dense(labels)
    count = len(ids) - 1
    masks = numbers.astype(np.uint16 if count < np.iinfo(np.uint16).max else np.uint32)
    content = {
        "outlines": masks * find_boundaries(masks, mode="inner"),
        "colors": colours,
        "masks": masks,
        "chan_choose": [0, 0],
        "filename": image,
        "flows": [[], [], [], [], [[]]],
        "ismanual": np.zeros(count, bool),
        "manual_changes": [],
        "model_path": 0,
    }
    file = io.BytesIO()
    np.save(file, np.array(content, object), allow_pickle=True)
    return file.getvalue()
