"""LabelMe: a JSON file for each image, with shapes."""

import base64
import binascii
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytoforge.cells.outlines import NOTHING, Region, cropped, ellipse, united
from cytoforge.data.files import load_json
from cytoforge.data.formats import reading
from cytoforge.data.interchange.annotated import (
    Annotated,
    Drawn,
    Format,
    Found,
    Size,
    Source,
    agreed,
    checked_size,
    drawn,
    filled,
    ring_of,
    some,
    told,
)
from cytoforge.data.interchange.coco import mentions
from cytoforge.errors import UserError


def _files(source: Source) -> list[Path]:
    return [file for file in source.having(".json") if mentions(file, b'"shapes"', b'"imagePath"')]


def _open(source: Source) -> Found:
    """Find the image of each file: the one that it names, or one of its own name, or the one inside of it."""
    items, lone, words = [], [], dict[str, None]()
    seen: dict[Path, Path] = {}
    files = _files(source)
    for file in files:
        content = _read(file)
        words |= dict.fromkeys(str(shape.get("label")) for shape in content["shapes"])
        image = source.image(f"{source.relative(file.parent)}/{content.get('imagePath')}")
        image = image or source.beside(file, file.stem)
        if image in seen:
            raise UserError(f"{file}: annotates {image}, as {seen[image].name} does; remove one of them")
        if image:
            seen[image] = file
        inside = partial(_inside, file) if content.get("imageData") else None
        if not (image or inside):
            lone.append(source.relative(file))
            continue
        items.append(Annotated(source.relative(file.with_suffix("")), partial(_draw, file), image or inside))
    notes = [
        *told("annotation", lone, "without image, left out"),
        *source.unannotated(seen),
        *source.unread(files, ".json"),
    ]
    if len(words) > 1:
        notes.append(f"{len(words)} kinds of labels are all taken for cells ({some(list(words))})")
    return Found(tuple(items), tuple(notes))


def _read(file: Path) -> dict[str, Any]:
    content = load_json(file)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise UserError(f"{file}: holds no list of shapes; save it anew in LabelMe")
    return content  # type: ignore[no-any-return]


def _inside(file: Path) -> NDArray[Any]:
    """Return the image (C, H, W) that is stored in a file."""
    return _picture(file, _read(file).get("imageData"))


def _picture(file: Path, text: object) -> NDArray[Any]:
    """Decode a PNG or JPEG in base64; raises UserError when it is damaged or too large."""
    try:
        content = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{file}: an image in it is damaged; save it anew in LabelMe") from None
    with reading(file), Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
        checked_size(file, image.height, image.width)
        pixels = np.asarray(image if image.mode in ("1", "L", "RGB", "I;16") else image.convert("RGB"))
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _draw(file: Path, size: Size | None) -> Drawn:
    content = _read(file)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    own = checked_size(file, height, width) if height is not None and width is not None else None
    size = agreed(file, "its image", own, size)
    return drawn(_cells(file, content["shapes"], size), size)


def _cells(file: Path, shapes: list[dict[str, Any]], size: Size) -> Iterator[Region]:
    """Yield the cells; shapes of one label and group are parts of one cell."""
    groups: dict[object, list[dict[str, Any]]] = {}
    for number, shape in enumerate(shapes):
        group = shape.get("group_id")
        groups.setdefault(number if group is None else (str(shape.get("label")), str(group)), []).append(shape)
    for parts in groups.values():
        yield united([_region(file, shape, size) for shape in parts])


def _region(file: Path, shape: dict[str, Any], size: Size) -> Region:
    kind, points = shape.get("shape_type", "polygon"), ring_of(shape.get("points"), file)
    if kind == "polygon":
        return filled([points], size, file)
    if kind == "rectangle" and len(points) in (2, 4):
        (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
        return filled([np.array([(top, left), (top, right), (bottom, right), (bottom, left)])], size, file)
    if kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        return filled([ellipse(points[0], radius)], size, file)
    if kind == "mask" and len(points) == 2:
        return _placed(file, _picture(file, shape.get("mask"))[0], points, size)
    return NOTHING


def _placed(file: Path, mask: NDArray[Any], points: NDArray[np.float64], size: Size) -> Region:
    """Return a mask whose first pixel lies at the first of its points."""
    top, left = (int(value) for value in np.clip(np.round(points.min(axis=0)), 0, 2**31))
    if top + mask.shape[0] > size[0] or left + mask.shape[1] > size[1]:
        raise UserError(f"{file}: a mask reaches beyond the image; save it anew in LabelMe")
    inner = cropped(mask)
    return Region(inner.top + top, inner.left + left, inner.mask)


LABELME = Format("LabelMe", lambda source: bool(_files(source)), _open)
