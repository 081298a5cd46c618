"""What other layouts, number formats and compilers bring on a processor, in time and in cells found.

    python benchmarks/arithmetic.py --data usiigaci/val --images 5

Segmentation: the base model's network at a window of 288 x 288 pixels, by each way in turn, and F at IoU 0.5 on real
images, whose cells are 63 pixels across, when the whole segmenter uses that way. Training: one bare step of the `small`
preset. Calls of all ways alternate, so that a change of the machine's speed hits all; times are CPU times of one
thread, as ratios to float32 in the order (N, C, H, W). Compiling and quantising are not counted. Writes arithmetic.json
beside this file.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch import Tensor, nn

from cytoforge.data.dataset import Dataset
from cytoforge.inference.exported import onnx as exported
from cytoforge.inference.load import InBfloat16, load_network
from cytoforge.inference.segmenter import Segmenter
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.training.hyperparameters import SEGMENTATION
from cytoforge.training.recipes.networks import build_segmenter, describe_segmenter
from measuring import by_turns, keep, provenance

SIDE, REPEATS, DIAMETER = 288, 5, 63.0


class InOnnxruntime(nn.Module):
    """A network in onnxruntime that gives what softmax makes probabilities of."""

    def __init__(self, path: Path, network: Any) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.receptive_radius, self.stride = network.receptive_radius, network.stride
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        (found,) = self.session.run(None, {"image": np.ascontiguousarray(image.numpy())})
        return torch.from_numpy(found).log()


class Windows(CalibrationDataReader):
    """Windows of images, from which ranges of activations are measured."""

    def __init__(self, windows: list[np.ndarray]) -> None:
        self.rest = iter(windows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        window = next(self.rest, None)
        return None if window is None else {"image": window}


def quantised(segmenter: Segmenter, windows: list[np.ndarray], folder: Path) -> dict[str, nn.Module]:
    """The network in onnxruntime: as it is, with weights of 8 bits, and with activations of 8 bits, too."""
    path = folder / "float32.onnx"
    path.write_bytes(exported(segmenter))
    onnx.checker.check_model(str(path))
    quantize_dynamic(path, folder / "dynamic.onnx")
    quantize_static(path, folder / "static.onnx", Windows(windows), quant_format=QuantFormat.QDQ, per_channel=True)
    names = {"onnxruntime": "float32", "int8, weights": "dynamic", "int8, activations too": "static"}
    return {way: InOnnxruntime(folder / f"{name}.onnx", segmenter.network) for way, name in names.items()}


def compiled(network: nn.Module, image: Tensor) -> nn.Module | None:
    """The network by torch.compile, or None where there is no compiler of C++."""
    try:
        fast = torch.compile(copy.deepcopy(network), dynamic=True)
        with torch.inference_mode():
            fast(image)
    except Exception as error:
        print(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        return None
    return fast


def segmenting(data: Path, count: int, repeats: int, folder: Path) -> dict[str, Any]:
    segmenter = Segmenter.load("base", threads=1, precision="float32")
    images = Dataset.open(data)
    chosen = images.items[:count]
    pairs = [(images.read_image(item), images.read_labels(item)) for item in chosen]
    fitting = segmenter.for_cells(DIAMETER)
    windows = [images.read_image(item, fitting.scaling)[None, :, :SIDE, :SIDE] for item in chosen]
    plain = load_network(segmenter.run)
    image = torch.from_numpy(windows[0])
    ways: dict[str, nn.Module] = {
        "float32": plain,
        "channels last": load_network(segmenter.run).to(memory_format=torch.channels_last),
        "channels last, norms folded": segmenter.network,
        "bfloat16, channels last, norms folded": InBfloat16(segmenter.network),
        **quantised(segmenter, windows, folder),
    }
    started = time.process_time()
    if (fast := compiled(segmenter.network, image)) is not None:
        ways["compiled, channels last, norms folded"] = fast
    spent = time.process_time() - started

    def calling(network: nn.Module) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: network(image))

    times = by_turns({name: calling(network) for name, network in ways.items()}, repeats)
    found = {}
    for name, network in ways.items():
        whole = replace(fitting, network=_with_reach(network, plain))
        scores = [segmentation_scores(labels, whole.segment(image)).f_score[0] for image, labels in pairs]
        found[name] = {"time": round(times[name] / times["float32"], 3), "f": round(float(np.mean(scores)), 4)}
    return {"ways": found, "float32_s": round(times["float32"], 4), "compiling_s": round(spent, 1)}


def _with_reach(network: Any, plain: Any) -> nn.Module:
    """A network whose tiles are cut as those of the plain one."""
    network.receptive_radius, network.stride = plain.receptive_radius, plain.stride
    return network  # type: ignore[no-any-return]


def training(repeats: int) -> dict[str, Any]:
    parameters = SEGMENTATION["small"]
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(parameters.batch, 1, *parameters.crop, generator=draw) * 2 - 1
    classes = torch.randint(0, 5, (parameters.batch, *parameters.crop), generator=draw)

    def step(layout: torch.memory_format, autocast: bool, fast: bool = False) -> Callable[[], None]:
        network = build_segmenter(describe_segmenter(parameters, 1), 0).train().to(memory_format=layout)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        forward = torch.compile(network) if fast else network

        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = F.cross_entropy(forward(image), classes)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        return work

    planes, last = torch.contiguous_format, torch.channels_last
    ways = {
        "float32": step(planes, False),
        "channels last": step(last, False),
        "bfloat16": step(planes, True),
        "bfloat16, channels last": step(last, True),
        "compiled": step(planes, False, True),
    }
    started = time.process_time()
    try:
        ways["compiled"]()
    except Exception as error:
        print(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        del ways["compiled"]
    spent = time.process_time() - started
    times = by_turns(ways, repeats)
    ratios = {name: round(value / times["float32"], 3) for name, value in times.items()}
    return {"ways": ratios, "float32_s": round(times["float32"], 4), "compiling_s": round(spent, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result = {
            "provenance": provenance(f"python benchmarks/arithmetic.py --images {asked.images}"),
            "images": f"{asked.images} of {asked.data.parent.name}/{asked.data.name}",
            "segmentation": segmenting(asked.data, asked.images, asked.repeats, Path(name)),
            "training": training(asked.repeats),
        }
    keep(__file__, result)


if __name__ == "__main__":
    main()
