"""A segmenter as a package of bioimage.io: weights, a test image, and a description that programs read."""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytoforge.data.files import utf8
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import margin
from cytoforge.simulation.phantom import phantom_image, phantom_labels

FORMAT = "0.5.4"
"""of the description; later versions read it, too"""
SIDE = 256  # px, of the test image; more where tiles need a wide margin
CELLS = 24
EPOCH = (1980, 1, 1, 0, 0, 0)  # of the entries of the package
CLASSES: Mapping[str, list[str]] = {
    "semantic": ["background", "cell"],
    "boundary": ["background", "interior", "border"],
    "depth": ["background", "border", "shallow", "middle", "deep"],
}


def package(
    segmenter: Segmenter, name: str, licence: str | None, weights: Mapping[str, bytes], beside: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the files of a package by name: `bioimageio.yaml`, the test image, `weights` and what is `beside` them.

    `weights` are model.onnx and model.pt; `beside` are those of `exported.beside`. The test image is of simulated
    cells, and its probabilities are the network's own.
    """
    image = _test_image(segmenter)
    probabilities = _probabilities(segmenter, image)
    files = {"test_input.npy": _npy(image), "test_output.npy": _npy(probabilities), **weights, **beside}
    description = _description(segmenter, name, licence, beside, _opset(weights["model.onnx"]))
    return {"bioimageio.yaml": utf8(json.dumps(description, indent=2) + "\n"), **files}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return files as a zip archive: equal files make equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in files.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), part, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _halo(segmenter: Segmenter) -> tuple[int, int, int]:
    """Return the margin of a tile that is dropped, the least side of a tile and the step of sides, in pixels."""
    stride: int = segmenter.network.stride  # type: ignore[assignment]
    edge = margin(segmenter.network)
    halo = -(-segmenter.tile // 8 // stride) * stride if edge is None else edge
    return halo, -(-max(2 * halo + 1, 64) // stride) * stride, stride


def _test_image(segmenter: Segmenter) -> NDArray[np.float32]:
    """Return grey values (1, C, H, W) of simulated cells."""
    _, least, stride = _halo(segmenter)
    side = -(-max(SIDE, least) // stride) * stride
    generator = np.random.default_rng(0)
    channels = 1 if segmenter.diameter is not None else segmenter.channels
    labels = phantom_labels((side, side), CELLS, generator, diameter=segmenter.diameter or 18.0)
    return np.stack([phantom_image(labels, generator) for _ in range(channels)])[None].astype(np.float32)


def _probabilities(segmenter: Segmenter, image: NDArray[np.float32]) -> NDArray[np.float32]:
    limits = segmenter.normalisation.measure(image[0])
    pixels = torch.from_numpy(segmenter.normalisation.apply(image[0], limits))[None]
    with torch.inference_mode():
        return np.asarray(segmenter.network.cpu()(pixels).float().softmax(dim=1))


def _npy(array: NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _opset(model: bytes) -> int:
    import onnx

    opset: int = max(entry.version for entry in onnx.load_from_string(model).opset_import if entry.domain == "")
    return opset


def _description(
    segmenter: Segmenter, name: str, licence: str | None, beside: Mapping[str, bytes], opset: int
) -> dict[str, Any]:
    halo, least, step = _halo(segmenter)
    sides = ("y", "x")
    channels = 1 if segmenter.diameter is not None else segmenter.channels
    low, high = segmenter.normalisation.low, segmenter.normalisation.high
    percentiles = (low, high) if segmenter.normalisation.kind == "percentile" else (0, 100)
    scaling = {"axes": list(sides), "min_percentile": percentiles[0], "max_percentile": percentiles[1]}
    image = {
        "id": "image",
        "description": "grey values as they come from the microscope, at the scale of the network (README.md)",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [f"channel{k + 1}" for k in range(channels)]},
            *({"type": "space", "id": side, "size": {"min": least, "step": step}} for side in sides),
        ],
        "data": {"type": "float32"},
        "test_tensor": {"source": "test_input.npy"},
        "preprocessing": [
            {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
            {"id": "scale_range", "kwargs": scaling},
            {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}},
            {"id": "clip", "kwargs": {"min": -1.0, "max": 1.0}},
        ],
    }
    probabilities = {
        "id": "probabilities",
        "description": f"of the classes of the target {segmenter.target.name}; segment_cells.py makes cells of them",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": CLASSES[segmenter.target.name]},
            *(
                {"type": "space", "id": side, "halo": halo, "size": {"tensor_id": "image", "axis_id": side}}
                for side in sides
            ),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": {"source": "test_output.npy"},
    }
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": re.sub(r"[^\w +-]", "_", name),
        "description": "Outlines cells in microscopy images: class probabilities, from which a decoder makes cells.",
        "authors": [{"name": "The cytoforge developers"}],
        "cite": [{"text": "Zargari et al., iScience 27, 109740 (2024)", "doi": "10.1016/j.isci.2024.109740"}],
        **({"license": licence} if licence else {}),
        "tags": ["segmentation", "cells", "2d", "cytoforge"],
        "documentation": "README.md",
        "attachments": [{"source": file} for file in beside if file != "README.md"],
        "inputs": [image],
        "outputs": [probabilities],
        "weights": {
            "onnx": {"source": "model.onnx", "opset_version": opset, "parent": "torchscript"},
            "torchscript": {"source": "model.pt", "pytorch_version": torch.__version__.partition("+")[0]},
        },
        "config": {"cytoforge": json.loads(beside["model.json"])},
    }
