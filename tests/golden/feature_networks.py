"""Compute feature_networks.npz and feature_networks_shapes.json with other people's code for the same networks.

Run it in an environment of its own, with torch 2.13, torchvision 0.28, pytorch-fid 0.3.0, lpips 0.1.4, and
pytorch_i3d.py of piergiaj/pytorch-i3d (commit 05783d1) on the path; nobody's weights are needed. Weights follow from
names and shapes, and inputs from names (`parity.feature_state`, `parity.feature_input`).
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lpips
import numpy as np
import pytorch_fid.inception
import torch
import torch.nn.functional as F
import torchvision
from pytorch_i3d import InceptionI3d
from torch import nn

GOLDEN = Path(__file__).parent
sys.path.insert(0, str(GOLDEN.parent))
from parity import feature_input, feature_state  # noqa: E402


def filled(network: nn.Module) -> nn.Module:
    network.load_state_dict(feature_state(shapes(network)))
    return network.eval()


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def perceptual(net: str, backbone: nn.Module) -> tuple[dict[str, list[int]], dict[str, list[int]], np.ndarray]:
    with patch.object(torchvision.models, {"vgg": "vgg16", "squeeze": "squeezenet1_1"}[net], lambda **_: backbone):
        network = lpips.LPIPS(net=net, pretrained=False, verbose=False).eval()
    heads = {name: list(t.shape) for name, t in network.state_dict().items() if name.startswith("lin")}
    heads = {name: shape for name, shape in heads.items() if not name.startswith("lins")}
    network.load_state_dict(feature_state(heads), strict=False)
    first, second = (feature_input(f"lpips {side}", (2, 3, 40, 36)) for side in ("first", "second"))
    kept = {name: shape for name, shape in shapes(backbone).items() if name.startswith("features.")}
    return kept, heads, network(first, second).flatten().numpy()


@torch.inference_mode()
def main() -> None:
    names: dict[str, Any] = {}
    found: dict[str, np.ndarray] = {}
    for key, net, backbone in (
        ("vgg16", "vgg", torchvision.models.vgg16()),
        ("squeezenet", "squeeze", torchvision.models.squeezenet1_1()),
    ):
        names[key], names[f"lpips-{net}"], found[f"lpips_{net}"] = perceptual(net, filled(backbone))

    def state_of_fid(*_: object, **__: object) -> dict[str, torch.Tensor]:
        plain = torchvision.models.inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        names["inception"] = shapes(plain)
        return feature_state(names["inception"])

    with patch.object(pytorch_fid.inception, "load_state_dict_from_url", state_of_fid):
        network = pytorch_fid.inception.InceptionV3([2, 3]).eval()
    images = feature_input("inception", (2, 3, 120, 90)) / 2 + 0.5  # it takes images in [0, 1]
    middle, last = network(images)
    found["inception_768"], found["inception_2048"] = middle.mean((2, 3)).numpy(), last.flatten(1).numpy()

    i3d = InceptionI3d(400, in_channels=3)
    filled(i3d)
    names["i3d"] = {name: shape for name, shape in shapes(i3d).items() if not name.endswith("num_batches_tracked")}
    frames = feature_input("i3d", (1, 3, 17, 60, 80))[0].transpose(0, 1)
    clip = F.interpolate(frames, (224, 224), mode="bilinear", align_corners=False).transpose(0, 1)[None]
    found["i3d_pooled"] = i3d.extract_features(clip).mean((2, 3, 4)).numpy()
    found["i3d_logits"] = i3d(clip).mean(2).numpy()

    np.savez_compressed(GOLDEN / "feature_networks.npz", **found)
    (GOLDEN / "feature_networks_shapes.json").write_text(json.dumps(names, separators=(",", ":")) + "\n")
    for name, value in found.items():
        print(name, value.shape, value.mean(), value.std())


if __name__ == "__main__":
    main()
