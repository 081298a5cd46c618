"""Images to numbered cells with an exported model: normalise, resize, run the network, separate the cells, resize back.

`cytoforge export-model` writes this file beside the model. It needs numpy and scipy, and onnxruntime for model.onnx or
PyTorch for model.pt; it needs nothing of cytoforge. On the command line:

    python segment_cells.py IMAGE.npy LABELS.npy --diameter 30
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]
Settings = dict[str, Any]
"""Content of model.json"""
Network = Callable[[Floats], Floats]
"""Image (C, H, W) in [-1, 1] to class probabilities (classes, H, W)"""

SIDES = ndimage.generate_binary_structure(2, 1)
CORNERS = ndimage.generate_binary_structure(2, 2)
MIRRORED = ((), (-1,), (-2, -1), (-2,))  # axes along which an image is mirrored for its first, second ... view
SAMPLE = 2**22  # pixels on which percentiles are measured


class Model:
    """An exported model: its network and how its images are read."""

    def __init__(self, folder: Path | str) -> None:
        """Load model.json and model.onnx, or model.pt, of a folder; raises FileNotFoundError without them."""
        self.settings: Settings = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        self.network = load(Path(folder))

    def segment(self, image: NDArray[Any], diameter: float | None = None) -> Labels:
        """Segment an image (H, W) or (C, H, W): int32 (H, W), 0 background, cells 1..N; see `segment`."""
        return segment(image, self.settings, self.network, diameter)


def load(folder: Path) -> Network:
    """Load the network of a folder."""
    onnx, script = folder / "model.onnx", folder / "model.pt"
    if onnx.exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        return lambda image: np.asarray(session.run(None, {"image": image[None]})[0][0])
    if script.exists():
        import torch

        network = torch.jit.load(str(script))

        def run(image: Floats) -> Floats:
            with torch.inference_mode():
                return np.asarray(network(torch.from_numpy(image[None]))[0])

        return run
    raise FileNotFoundError(f"{folder}: holds neither model.onnx nor model.pt")


def segment(image: NDArray[Any], settings: Settings, network: Network, diameter: float | None = None) -> Labels:
    """Segment an image (H, W) or (C, H, W) of any type of numbers: int32 (H, W), 0 background, cells 1..N.

    The whole image goes through the network at once, and so do its mirror images where model.json has several `views`.
    `diameter` is that of the median cell in pixels, for a model that knows cells of one size (`diameter` in
    model.json). Raises ValueError without it where it is needed, with it where it is not, and for another number of
    channels.
    """
    image = image[None] if image.ndim == 2 else image
    limits = measured(image, **settings["normalisation"])
    shape = image.shape[1:]
    if not (limits[:, 1] > limits[:, 0]).any():
        return np.zeros(shape, np.int32)
    pixels = normalised(image, limits)
    if settings["mean_of_channels"]:
        pixels = pixels.mean(axis=0, keepdims=True, dtype=np.float32)
    if len(pixels) != settings["channels"]:
        raise ValueError(f"the model takes {settings['channels']} channels, the image has {len(pixels)}")
    scaled = scaled_shape((shape[0], shape[1]), settings, diameter)
    probabilities = averaged(network, resized(pixels, scaled), settings["views"], settings["stride"])
    labels = decode(probabilities, settings)
    if scaled != shape:
        labels = restored(labels, probabilities[1:].sum(axis=0), (shape[0], shape[1]))
    return in_one_piece(labels, settings["target"]["minimum_area"] * math.prod(shape) / math.prod(scaled))


def scaled_shape(shape: tuple[int, int], settings: Settings, diameter: float | None) -> tuple[int, int]:
    """Return the height and width to which an image is brought for the network."""
    known = settings["diameter"]
    if (known is None) != (diameter is None):
        raise ValueError("give the diameter of the cells in pixels" if known else "the model takes no diameter")
    if settings["resize"]:
        return settings["resize"][0], settings["resize"][1]
    factor = settings["scale"] if known is None or diameter is None else known / diameter
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def averaged(network: Network, image: Floats, views: int, stride: int) -> Floats:
    """Return the mean class probabilities (classes, H, W) over so many mirror images of an image, itself among them."""
    height, width = image.shape[1:]
    whole = np.pad(image, ((0, 0), (0, -height % stride), (0, -width % stride)), mode="edge")
    seen = (np.flip(network(np.ascontiguousarray(np.flip(whole, axes))), axes) for axes in MIRRORED[:views])
    mean = np.asarray(sum(seen) / np.float32(views), np.float32)
    return mean[:, :height, :width]


# grey values


def measured(image: NDArray[Any], kind: str, low: float, high: float) -> NDArray[np.float64]:
    """Return the grey values (C, 2) that become -1 and 1 in an image (C, H, W).

    For the kind percentile these are percentiles of every channel, of every n-th pixel of large images. They are the
    extremes where the percentiles are equal, and for the kind min-max.
    """
    stride = max(1, math.ceil(math.sqrt(image[0].size / SAMPLE)))
    limits = np.zeros((len(image), 2))
    for channel, own in zip(image, limits, strict=True):
        finite = channel[np.isfinite(channel)]
        if not finite.size:
            continue
        own[:] = finite.min(), finite.max()
        sample = channel[::stride, ::stride]
        sample = sample[np.isfinite(sample)]
        if kind == "percentile" and sample.size:
            below, above = np.percentile(sample, (low, high))
            if above > below:
                own[:] = below, above
    return limits


def normalised(image: NDArray[Any], limits: NDArray[np.float64]) -> Floats:
    """Map an image (C, H, W) between limits (C, 2) to [-1, 1]; values beyond are clipped, NaN becomes -1."""
    exact = image.dtype.itemsize <= 2 or image.dtype == np.float32
    result = np.full(image.shape, -1, np.float32)
    for channel, (low, high), out in zip(image, limits, result, strict=True):
        if high > low:
            values = channel.astype(np.float32 if exact else np.float64)
            values -= low
            values *= 2 / (high - low)
            values -= 1
            np.clip(values, -1, 1, out=out)
            out[np.isnan(out)] = -1
    return result


# sizes


def resized(image: Floats, shape: tuple[int, int]) -> Floats:
    """Resize (C, H, W) to a height and width: linear interpolation, with averaging where the image shrinks."""
    if image.shape[1:] == shape:
        return image
    down, across = (_weights(*sizes) for sizes in zip(image.shape[1:], shape, strict=True))
    return np.stack([(across @ (down @ channel).T).T for channel in image]).astype(np.float32)


def _weights(source: int, target: int) -> sparse.csr_matrix:
    """Return the matrix (target, source) that resizes one axis by a triangle, cut and renormalised at the ends."""
    scale = source / target
    reach = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    columns = np.floor(centre - reach)[:, None] + np.arange(math.ceil(2 * reach) + 2)
    weights = np.maximum(0, 1 - np.abs(columns + 0.5 - centre[:, None]) / reach)
    weights[(columns < 0) | (columns >= source)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows, places = np.nonzero(weights)
    entries = weights[rows, places].astype(np.float32)
    return sparse.csr_matrix((entries, (rows, columns[rows, places].astype(int))), shape=(target, source))


def restored(labels: Labels, foreground: Floats, shape: tuple[int, int]) -> Labels:
    """Bring labels (h, w) to a height and width: the probability of a cell, interpolated, decides what is cell.

    Of the four labels around a pixel of a cell, the one with most weight decides whose it is.
    """
    y, down = _between(labels.shape[0], shape[0])
    x, right = _between(labels.shape[1], shape[1])
    y1, x1 = np.minimum(y + 1, labels.shape[0] - 1), np.minimum(x + 1, labels.shape[1] - 1)
    foreground = foreground[y] + down[:, None] * (foreground[y1] - foreground[y])
    inside = foreground[:, x] + right * (foreground[:, x1] - foreground[:, x]) > 0.5
    corners = np.stack([labels[i][:, j] for i in (y, y1) for j in (x, x1)])
    result = np.where(inside, corners[0], 0)
    contested = inside & (corners != corners[0]).any(axis=0)
    at_y, at_x = np.nonzero(contested)
    weights = np.stack([v * h for v in (1 - down[at_y], down[at_y]) for h in (1 - right[at_x], right[at_x])])
    votes = corners[:, contested]
    score = np.stack([((votes == own) * weights).sum(axis=0) * (own > 0) for own in votes])
    result[contested] = np.take_along_axis(votes, score.argmax(axis=0)[None], axis=0)[0]
    return result.astype(np.int32)


def _between(source: int, target: int) -> tuple[NDArray[np.int64], Floats]:
    """Return for each pixel of a resized axis the pixel before it, and how far (0 to 1) it lies to the next."""
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    before = place.astype(np.int64)
    return before, (place - before).astype(np.float32)


# probabilities to cells


def decode(probabilities: Floats, settings: Settings) -> Labels:
    """Turn class probabilities (classes, H, W) into labels int32 (H, W) by the target of model.json.

    semantic: pixels that are more cell than not, connected by their sides. boundary: background, interior, border;
    depth: background, border, and depths inside. Cells begin in the surest interiors, or where depth is largest, and
    grow through the foreground; a patch of foreground in which none begins is a cell, too.
    """
    target = settings["target"]
    least = target["minimum_area"]
    if target["name"] == "semantic":
        components = ndimage.label(probabilities[1] > 0.5, SIDES)[0]
        return kept(components, np.bincount(components.ravel()) >= least)
    if target["name"] == "boundary":
        _, interior, border = probabilities
        foreground = interior + border > 0.5
        seeds, count = ndimage.label(foreground & (interior > border), CORNERS)
        size = np.bincount(seeds.ravel(), weights=(interior - border).ravel(), minlength=count + 1)
        cells = flooded(border - interior, kept(seeds, size >= target["minimum_marker"]), foreground)
    else:
        foreground = probabilities[0] < 0.5
        depth = np.tensordot(np.asarray(target["heights"], probabilities.dtype), probabilities, 1)
        summits = foreground & (depth > target["summit"]) & (depth == ndimage.maximum_filter(depth, 3))
        cells = joined(flooded(-depth, ndimage.label(summits, CORNERS)[0], foreground), depth, target["saddle"])
    patches = ndimage.label(foreground & (cells == 0), CORNERS)[0]
    cells = np.where(patches > 0, patches + cells.max(initial=0), cells)
    return kept(cells, np.bincount(cells.ravel()) >= least)


def kept(labels: NDArray[Any], keep: NDArray[np.bool_]) -> Labels:
    """Return labels whose entry in `keep` is true, numbered 1..N in order; the rest becomes background."""
    keep[0] = False
    table = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    found: Labels = table[labels]
    return found


def in_one_piece(labels: Labels, least: float) -> Labels:
    """Number the cells of labels (H, W) 1..N from the top, each in one piece, whose pixels touch by sides or corners.

    The largest piece of a cell stays, another becomes a cell of its own if it has at least `least` pixels.
    """
    pieces, keep = np.zeros(labels.shape, np.int32), [False]
    for cell, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        own, count = ndimage.label(labels[box] == cell, CORNERS)
        areas = np.bincount(own.ravel())[1:]
        pieces[box][own > 0] = own[own > 0] + len(keep) - 1
        keep.extend((areas >= least) | (np.arange(count) == areas.argmax()))
    pieces = kept(pieces, np.array(keep))
    ids, first = np.unique(pieces, return_index=True)
    number = np.zeros(len(keep), np.int32)
    by_place = ids[np.argsort(first)]
    by_place = by_place[by_place > 0]
    number[by_place] = np.arange(1, len(by_place) + 1)
    return number[pieces]


def joined(basins: Labels, depth: Floats, share: float) -> Labels:
    """Join basins (H, W) whose saddle is at least a share of the lower of their summits, the highest saddles first."""
    saddles: dict[tuple[int, int], float] = {}
    summits = np.zeros(basins.max(initial=0) + 1, depth.dtype)
    np.maximum.at(summits, basins, depth)
    height, width = basins.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        one, other, way = basins[here], basins[there], np.minimum(depth[here], depth[there])
        meet = (one != other) & (one > 0) & (other > 0)
        for pair in zip(one[meet].tolist(), other[meet].tolist(), way[meet], strict=True):
            both = min(pair[:2]), max(pair[:2])
            saddles[both] = max(saddles.get(both, pair[2]), pair[2])
    cell = list(range(len(summits)))
    for both, saddle in sorted(saddles.items(), key=lambda item: (-item[1], item[0])):
        low, high = sorted((_root(cell, basin) for basin in both), key=summits.__getitem__)
        if saddle >= share * summits[low]:
            cell[low] = high
    return np.array([_root(cell, basin) for basin in range(len(cell))], np.int32)[basins]


def _root(cell: list[int], basin: int) -> int:
    while cell[basin] != basin:
        basin = cell[basin]
    return basin


def flooded(relief: Floats, seeds: Labels, foreground: NDArray[np.bool_]) -> Labels:
    """Grow seeds (H, W) through the foreground, the lowest relief first, to neighbours by sides and corners.

    Exactly the watershed of scikit-image (connectivity 2): of pixels of equal relief the one that was reached first
    comes first, and equal seeds come in the order that a binary heap gives them.
    """
    width = relief.shape[1] + 2
    height_of = np.pad(relief, 1).ravel().tolist()
    cells = np.pad(np.where(foreground, seeds, 0), 1).ravel()
    free = (np.pad(foreground, 1).ravel() & (cells == 0)).tolist()
    heap = _Heap()
    for place in np.flatnonzero(cells).tolist():
        heap.push((height_of[place], 0), place)
    owner = cells.tolist()
    age = 1
    around = (-width, -1, 1, width, -width - 1, -width + 1, width - 1, width + 1)
    while heap.places:
        key, place = heap.pop()
        for step in around:
            neighbour = place + step
            if free[neighbour]:
                free[neighbour] = False
                owner[neighbour] = owner[place]
                age += 1
                heap.push((max(height_of[neighbour], key[0]), age), neighbour)
    return np.array(owner, np.int32).reshape(-1, width)[1:-1, 1:-1]


class _Heap:
    """A binary heap of places by their keys, which leaves equal keys where they are."""

    def __init__(self) -> None:
        self.keys: list[tuple[float, int]] = []
        self.places: list[int] = []

    def push(self, key: tuple[float, int], place: int) -> None:
        keys, places, child = self.keys, self.places, len(self.keys)
        keys.append(key)
        places.append(place)
        while child and key < keys[parent := (child - 1) // 2]:
            keys[child], places[child] = keys[parent], places[parent]
            keys[parent], places[parent] = key, place
            child = parent

    def pop(self) -> tuple[tuple[float, int], int]:
        keys, places = self.keys, self.places
        first = keys[0], places[0]
        key, place = keys.pop(), places.pop()
        count, at = len(keys), 0
        while count and (child := 2 * at + 1) < count:
            if child + 1 < count and keys[child + 1] < keys[child]:
                child += 1
            if not keys[child] < key:
                break
            keys[at], places[at] = keys[child], places[child]
            at = child
        if count:
            keys[at], places[at] = key, place
        return first


def main() -> None:
    """Segment the image of a .npy file with the model beside this file."""
    parser = argparse.ArgumentParser(description="Images to numbered cells with the model in the folder of this file.")
    parser.add_argument("image", help=".npy of (H, W) or (C, H, W)")
    parser.add_argument("labels", help=".npy to write: int32 (H, W)")
    parser.add_argument("--diameter", type=float, help="median diameter of the cells in pixels, if the model needs it")
    given = parser.parse_args()
    if not given.image.lower().endswith(".npy"):
        name = Path(given.image).name
        parser.error(f"image: give a .npy; numpy.save('image.npy', skimage.io.imread({name!r})) makes one")
    labels = Model(Path(__file__).parent).segment(np.load(given.image), given.diameter)
    np.save(given.labels, labels)
    print(f"{given.labels}: {labels.max()} cells")


if __name__ == "__main__":
    main()
