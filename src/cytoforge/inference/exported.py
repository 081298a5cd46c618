"""A segmenter as files that other programs run: ONNX or TorchScript, and what is to be done before and after."""

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cytoforge.cells.instances import HEIGHTS, Depth, Target
from cytoforge.data.credits import credits_of_run, stored
from cytoforge.data.files import utf8
from cytoforge.data.run import Run
from cytoforge.extras import require
from cytoforge.inference import standalone
from cytoforge.inference.segmenter import Segmenter
from cytoforge.inference.tiling import default_tile, margin

SCRIPT = "segment_cells.py"
"""name under which `standalone` lies beside a model"""


class _Probabilities(nn.Module):
    """A network with softmax, for images whose sides are multiples of its stride."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        probabilities: Tensor = self.network(image).float().softmax(dim=1)
        return probabilities


class _AnySize(nn.Module):
    """The same for images of any size, whose last row and column are repeated: with padding that torch can script."""

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2], image.shape[3]
        padded = F.pad(image, [0, -width % self.stride, 0, -height % self.stride], mode="replicate")
        return self.network(padded)[:, :, :height, :width]  # type: ignore[no-any-return]


class _AnySizeByIndex(nn.Module):
    """The same with padding by indices, which torch can export without fixing whether a size needs any."""

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        rows, columns = (
            torch.arange((size + self.stride - 1) // self.stride * self.stride).clamp(max=size - 1)
            for size in (height, width)
        )
        return self.network(image[:, :, rows][..., columns])[:, :, :height, :width]  # type: ignore[no-any-return]


def _plain(segmenter: Segmenter) -> tuple[nn.Module, int]:
    """Return the network with softmax on the CPU, and its stride."""
    network = copy.deepcopy(segmenter.network).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    stride: int = segmenter.network.stride  # type: ignore[assignment]
    return _Probabilities(network).eval(), stride


def example(segmenter: Segmenter) -> Tensor:
    """Return two images (2, C, H, W) of an odd size, from which a graph for any number and size is made."""
    return torch.zeros(2, segmenter.channels, 3 * 37, 3 * 29)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch says of its own parts while it follows a network."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def torchscript(segmenter: Segmenter) -> bytes:
    """Return a TorchScript file: images float32 (B, C, H, W) in [-1, 1] to probabilities (B, classes, H, W).

    Images may have any size. The result differs from the network's by rounding only.
    """
    network, stride = _plain(segmenter)
    content = io.BytesIO()
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(network, torch.zeros(1, segmenter.channels, 4 * stride, 6 * stride))
        torch.jit.save(torch.jit.script(_AnySize(traced, stride)), content)
    return content.getvalue()


def onnx(segmenter: Segmenter) -> bytes:
    """Return an ONNX file with the input `image` and the output `probabilities`, as `torchscript`, of any size.

    Raises UserError where the packages of the extra `export` are not installed.
    """
    require("ONNX", "onnx", "onnxscript", otherwise="take torchscript")
    network, stride = _plain(segmenter)
    dynamic = torch.export.Dim.AUTO
    with _quiet():
        program = torch.onnx.export(
            _AnySizeByIndex(network, stride).eval(),
            (example(segmenter),),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
        )
    assert program is not None
    model = program.model_proto
    for value, names in ((model.graph.input[0], "image"), (model.graph.output[0], "probabilities")):
        assert value.name == names
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    content: bytes = model.SerializeToString()
    return content


def described(segmenter: Segmenter) -> dict[str, Any]:
    """Return how images become what the network takes, and probabilities become cells: content of model.json."""
    resize = list(segmenter.scaling) if isinstance(segmenter.scaling, tuple) else None
    return {
        "written_by": f"cytoforge {version('cytoforge')}",
        "fingerprint": segmenter.fingerprint,
        **stored(credits_of_run(segmenter.run)),
        "channels": segmenter.channels,
        "mean_of_channels": segmenter.diameter is not None,
        "normalisation": segmenter.normalisation.to_json(),
        "diameter": segmenter.diameter,
        "scale": segmenter.scale,
        "resize": resize,
        "stride": segmenter.network.stride,
        "views": segmenter.views,
        "target": _target(segmenter.target),
    }


def _target(target: Target) -> dict[str, Any]:
    told = {entry.name: getattr(target, entry.name) for entry in fields(target)}  # type: ignore[arg-type]
    return told | ({"heights": list(HEIGHTS)} if isinstance(target, Depth) else {})


def readme(segmenter: Segmenter, name: str, files: Iterable[str]) -> bytes:
    """Return the text that lies beside a model: what it takes and gives, and how to use it without cytoforge."""
    template = jinja2.Environment(loader=jinja2.PackageLoader("cytoforge"), undefined=jinja2.StrictUndefined)
    settings = described(segmenter)
    text = template.get_template("model.md").render(
        **settings | settings["normalisation"],
        name=name,
        version=version("cytoforge"),
        files=", ".join(sorted(files)),
        classes=segmenter.target.classes,
        margin=margin(segmenter.network),
        tile=segmenter.tile,
        side=default_tile(segmenter.network, segmenter.tile),
        quality=_quality(Run.open(segmenter.run)),
    )
    return utf8(text + "\n")


def _quality(run: Run) -> str:
    """Say how good a training came out, or at least how it ended."""
    if judgement := run.judgement:
        return str(judgement)
    ended = run.provenance.get("verdict")
    return f"Its training ended so: {ended}" if ended else "Nothing is known of its quality."


def beside(segmenter: Segmenter, name: str, files: Iterable[str]) -> dict[str, bytes]:
    """Return what lies beside the `files` of a model, by name: how to use it, for people and programs; a decoder."""
    content = {
        "model.json": utf8(json.dumps(described(segmenter), indent=2) + "\n"),
        SCRIPT: Path(standalone.__file__).read_bytes(),
    }
    return content | {"README.md": readme(segmenter, name, [*files, *content])}
