"""The kinds of networks that a run can hold: their names, their roles, and how to read the sizes of published ones.

A network class is imported only by `Kind.load`, so this table can be read without torch.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]
Sizes = dict[str, Any]
HEAD_WIDTH = 64  # channels per attention head of the published discriminator; shapes only give heads * head width
DROPOUT = 0.3  # dropout of the discriminators of tGAN; no tensor holds it


def _first_conv(state: State, name: str) -> Sizes:
    """Read the channels that go into a network and out of its first convolution, and the kind of normalisation."""
    shape = state[name].shape
    if len(shape) != 4:
        raise ValueError(f"{name} has shape {list(shape)}, not that of a convolution")
    norm = "batch" if any(other.endswith("running_mean") for other in state) else "group"
    return {"in_channels": shape[1], "width": shape[0], "norm": norm}


def _count(state: State, pattern: str) -> int:
    """Count the tensors whose whole name matches a pattern."""
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _unet_sizes(state: State) -> Sizes:
    depth = _count(state, r"e\d+\.conv\.conv1\.weight")
    return {**_first_conv(state, "e1.conv.conv1.weight"), "depth": depth, "classes": len(state["outputs.bias"])}


def _style_unet_sizes(state: State) -> Sizes:
    sizes = _unet_sizes(state)
    out_channels = sizes.pop("classes")
    return {**sizes, "out_channels": out_channels, "latent": len(state["StyleNet.net.0.bias"])}


def _super_resolution_sizes(state: State) -> Sizes:
    sizes = _style_unet_sizes(state)
    return {**sizes, "factor": 2 ** (_count(state, r"d\d+\.conv\.conv1\.weight") - sizes["depth"])}


def _flow_sizes(state: State) -> Sizes:
    sizes = _first_conv(state, "conv1.weight")
    return {"channels": sizes.pop("in_channels") // 2, **sizes}


def _cellpose_sizes(state: State) -> Sizes:
    first = _first_conv(state, "downsample.down.res_down_0.conv.conv_0.2.weight")
    depth = _count(state, r"downsample\.down\.res_down_\d+\.conv\.conv_0\.2\.weight")
    return {**first, "depth": depth, "classes": len(state["output.2.bias"])}


def _deepsea_sizes(state: State) -> Sizes:
    depth = _count(state, r"res\d+\.conv1d\.weight") // 2
    return {**_first_conv(state, "res1.double_conv.0.weight"), "depth": depth, "classes": len(state["conv3.bias"])}


def _tracker_sizes(state: State) -> Sizes:
    return _first_conv(state, "previous.double_conv.0.weight")


def _patchgan_sizes(state: State) -> Sizes:
    dropout = DROPOUT if "model.16.weight" in state else 0.0  # layers without tensors in between shift the numbers
    query = state.get(f"model.{3 if dropout else 2}.fn.fn.to_q.weight")
    heads = 0 if query is None else len(query) // HEAD_WIDTH
    return {**_first_conv(state, "model.0.weight"), "heads": heads, "head_width": HEAD_WIDTH, "dropout": dropout}


ROLES: Mapping[str, str] = MappingProxyType(
    {
        # name of a network in a run: its name in messages; the first one present defines what the run is for
        "segmenter": "segmenter",
        "generator": "generator",
        "low-resolution": "movie generator",
        "super-resolution": "super-resolution generator",
        "tracker": "tracker",
    }
)
"""Roles of the networks of a run; the further roles `discriminator` and `flow` are used only in training."""


@dataclass(frozen=True)
class Kind:
    """A kind of network, identified by the value of `network` in config.json."""

    where: str
    """module:class below `cytoforge.networks`"""
    role: str
    """name of such a network in a run: one of ROLES, `discriminator` or `flow`"""
    sizes: Callable[[State], Sizes] | None = None
    """reads the options of a network from its state dict, in the names that it has here; None where none is published.
    Raises KeyError for a tensor that is missing, ValueError for one of another shape"""

    def load(self) -> "type[nn.Module]":
        """Import the class, whose keyword arguments are the options in config.json."""
        module, name = self.where.split(":")
        kind: type[nn.Module] = getattr(importlib.import_module(f"cytoforge.networks.{module}"), name)
        return kind


NETWORKS: Mapping[str, Kind] = MappingProxyType(
    {
        "style-unet": Kind("style_unet:StyleUNet", "generator", _style_unet_sizes),
        "unet-generator": Kind("style_unet:UNetGenerator", "generator"),
        "unet": Kind("segmentation:UNet", "segmenter", _unet_sizes),
        "cellpose": Kind("segmentation:CellPose", "segmenter", _cellpose_sizes),
        "deepsea": Kind("segmentation:DeepSea", "segmenter", _deepsea_sizes),
        "patchgan": Kind("patchgan:PatchGAN", "discriminator", _patchgan_sizes),
        "movie": Kind("movie:MovieGenerator", "low-resolution", _style_unet_sizes),
        "vid2vid": Kind("vid2vid:Vid2Vid", "low-resolution"),
        "super-resolution": Kind("movie:SuperResolution", "super-resolution", _super_resolution_sizes),
        "flow": Kind("flow:FlowNet", "flow", _flow_sizes),
        "tracker": Kind("tracker:Tracker", "tracker", _tracker_sizes),
        "link-scorer": Kind("linker:LinkScorer", "tracker"),
    }
)
SEGMENTERS = tuple(name for name, kind in NETWORKS.items() if kind.role == "segmenter")
"""kinds whose options are in_channels, classes, width, depth and norm"""
PUBLISHED: Mapping[str, Callable[[State], Sizes]] = MappingProxyType(
    {name: kind.sizes for name, kind in NETWORKS.items() if kind.sizes}
)
"""for each kind with published checkpoints, the function that reads its sizes"""
IMPORTED: Mapping[str, str] = MappingProxyType(
    {f"deepsea-{name}" if name == "tracker" else name: name for name in PUBLISHED}
)
"""names by which `import` knows published checkpoints, and their kinds"""
