"""Golden networks: weights that are a pure function of name and shape, and what the published networks make of them.

The `cgan_*`, `tgan_*` and `vgg_loss` files of golden/ were computed with the published networks of cGAN-Seg and tGAN
filled in this way (torch 2.13 CPU, float32). Their float32 results differ from float64 by 4e-6 at most (CellPose 4e-4
at outputs up to 315); the tolerance of `assert_equal_to_golden` leaves room for another order of summation and for
nothing else.

`feature_networks.npz` was computed by `golden/feature_networks.py` with independent code for the feature networks.
"""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cytoforge.networks.features import VGG_CONVS

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = {
    **dict.fromkeys(["style-unet", "unet", "cellpose", "deepsea", "patchgan-image", "patchgan-mask"], "cgan_seg"),
    **dict.fromkeys(["movie", "super-resolution", "flow", "patchgan-movie", "patchgan-super-resolution"], "tgan"),
}


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """Weights of a tensor, drawn from a generator seeded with its name, without prefix and the same for both twins."""
    name = name.removeprefix("module.")
    name = f"model.{name.removeprefix('layers.')}" if name.startswith("layers.") else name
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if leaf in {"running_mean", "running_var"}:
        return torch.full(shape, float(leaf == "running_var"))
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(size=shape)
    if leaf == "g" or (leaf == "weight" and len(shape) == 1):
        z = 1 + 0.05 * z
    elif leaf in {"b", "bias"}:
        z = 0.05 * z
    elif "StyleNet.net" not in name:
        z = z * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(z.astype(np.float32))


def filled_state(shapes: dict[str, Any]) -> dict[str, Tensor]:
    """State dict of given names and shapes."""
    return {name: fill(name, tuple(shape)) for name, shape in shapes.items()}


def filled(kind: Callable[..., nn.Module], **sizes: Any) -> Any:
    """A network in eval mode with the weights of `fill`."""
    with torch.device("meta"):
        network = kind(**sizes)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(filled_state(shapes), assign=True)
    return network.eval()


def feature_state(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """State dict of a pretrained feature network: as `fill`, with statistics of batch norms and heads that count."""
    state = filled_state(shapes)
    for name in state:
        draw = np.random.RandomState(zlib.crc32(name.encode()))
        if name.endswith("running_mean"):
            state[name] = torch.from_numpy(0.1 * draw.standard_normal(shapes[name]).astype(np.float32))
        elif name.endswith("running_var"):
            state[name] = torch.from_numpy(np.exp(0.2 * draw.standard_normal(shapes[name])).astype(np.float32))
        elif name.startswith("lin"):
            state[name] = state[name].abs()
    return state


def feature_shapes(network: str) -> dict[str, list[int]]:
    """Names and shapes of the tensors of a pretrained feature network."""
    shapes: dict[str, list[int]] = json.loads((GOLDEN / "feature_networks_shapes.json").read_text())[network]
    return shapes


def feature_input(name: str, shape: tuple[int, ...]) -> Tensor:
    """Images or clips in [-1, 1], drawn from a generator seeded with a name."""
    values = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    return torch.from_numpy(values.astype(np.float32))


def published_shapes(name: str) -> dict[str, list[int]]:
    """Names and shapes of a published checkpoint: those of PUBLISHED."""
    shapes: dict[str, list[int]] = json.loads((GOLDEN / f"{PUBLISHED[name]}_shapes.json").read_text())[name]
    return shapes


def vgg_state(last: int = 28) -> dict[str, Tensor]:
    """Golden weights under torchvision's names, up to one convolution."""
    widths = (64, 64, 128, 128, *[256] * 4, *[512] * 5)
    state = {}
    for index, before, after in zip(VGG_CONVS, (3, *widths), widths, strict=False):
        if index <= last:
            state[f"features.{index}.weight"] = fill(f"features.{index}.weight", (after, before, 3, 3))
            state[f"features.{index}.bias"] = fill(f"features.{index}.bias", (after,))
    return state


def golden(name: str) -> dict[str, Tensor]:
    """Tensors of one golden file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def golden_styles(case: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Styles (B, L, 128) and noise (B, 1, H, W) of a golden file of the generator; it stores each style once."""
    layers = [z for z, count in zip(case["style_z"], case["style_counts"], strict=True) for _ in range(int(count))]
    return torch.stack(layers, dim=1), case["noise"].movedim(-1, 1)


def assert_equal_to_golden(found: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    """Equal but for rounding, relative to each value and to the largest one."""
    torch.testing.assert_close(found, expected, rtol=relative, atol=relative * float(expected.abs().max()))
