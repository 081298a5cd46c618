"""`cytoforge import`: a published cGAN-Seg checkpoint becomes a run folder that the other commands understand."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cytoforge.config import ImportCheckpoint
from cytoforge.data.files import digest
from cytoforge.data.images import Normalisation
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.instances import TARGETS
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.segmentation import SEGMENTERS
from cytoforge.networks.style_unet import StyleUNet

State = dict[str, Tensor]
Sizes = dict[str, Any]
TILE = 512  # px: the height of the images that the published networks were trained on
HEAD_WIDTH = 64  # channels of an attention head of the published discriminator; shapes tell the product only


def import_checkpoint(config: ImportCheckpoint) -> Path:
    """Write a run folder with the network of a .pth checkpoint, and return its path.

    Sizes are read from the shapes of the tensors. Segmenters become runs for `segment`: two classes, each image
    stretched from its minimum to its maximum, no resizing. Raises UserError when the file cannot be read safely, when
    it holds something else than the named network (then it says what, if known), or when the run folder exists.
    """
    state = read_checkpoint(config.checkpoint)
    problem = misfit(config.network, state)
    if problem is not None:
        others = [name for name in SIZES if misfit(name, state) is None]
        remedy = f"it fits --network {' or '.join(others)}" if others else "it fits no other network either"
        raise UserError(f"{config.checkpoint}: is no {config.network} ({problem}); {remedy}")
    sizes = SIZES[config.network](state)
    role = {"style-unet": "generator", "patchgan": "discriminator"}.get(config.network, "segmenter")
    target = TARGETS["semantic"]
    if role == "segmenter" and sizes["classes"] != target.classes:
        raise UserError(
            f"{config.checkpoint}: tells {sizes['classes']} classes apart; "
            f"only segmenters of {target.classes} classes (background, cell) can be imported"
        )
    content = {
        "command": "import",
        "config": {"checkpoint": config.checkpoint.name, "network": config.network},
        "networks": {role: {"network": config.network, **sizes}},
        "target": target.name,
        "scale": 1.0,
        "normalisation": Normalisation(kind="min-max").to_json(),
        "tile": TILE,
    }
    run = Run.create(config.out, content, overwrite=config.overwrite)
    run.save_weights(role, state)
    run.finish({"checkpoint_sha256": digest(config.checkpoint)})
    print(f"{config.out}: {config.network} of {sum(map(torch.numel, state.values())):,} numbers imported as {role}")
    return config.out


def read_checkpoint(path: Path) -> State:
    """Read names and tensors of a .pth file without running code from it, names without DataParallel's `module.`.

    Raises UserError when the file is missing, damaged, needs code to be read, or holds no plain dict of tensors.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the .pth file of a checkpoint")
    if not path.is_file():
        raise UserError(f"{path}: does not exist; give the .pth file of a checkpoint")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes fail in any way the unpickler knows
        raise UserError(
            f"{path}: cannot be read as a checkpoint of tensors alone ({type(error).__name__}); "
            "fetch it anew, or save it with torch.save(network.state_dict(), path)"
        ) from error
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise UserError(f"{path}: holds no state dict; save it with torch.save(network.state_dict(), path)")
    return {
        re.sub(r"^(module\.)+", "", str(name)): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in loaded.items()
    }


def misfit(network: str, state: State) -> str | None:
    """Return the first thing in which a state dict differs from a network of its own sizes, or None if it fits."""
    try:
        sizes = SIZES[network](state)
        with torch.device("meta"):
            expected = NETWORKS[network](**sizes).state_dict()
    except KeyError as error:
        return f"{error.args[0]} is missing"
    except ValueError as error:
        return str(error)
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not part of it"
        if expected[name].shape != state[name].shape:
            return f"{name} has shape {list(state[name].shape)}, not {list(expected[name].shape)}"
    return None


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


def _cellpose_sizes(state: State) -> Sizes:
    first = _first_conv(state, "downsample.down.res_down_0.conv.conv_0.2.weight")
    depth = _count(state, r"downsample\.down\.res_down_\d+\.conv\.conv_0\.2\.weight")
    return {**first, "depth": depth, "classes": len(state["output.2.bias"])}


def _deepsea_sizes(state: State) -> Sizes:
    depth = _count(state, r"res\d+\.conv1d\.weight") // 2
    return {**_first_conv(state, "res1.double_conv.0.weight"), "depth": depth, "classes": len(state["conv3.bias"])}


def _patchgan_sizes(state: State) -> Sizes:
    query = state.get("model.2.fn.fn.to_q.weight")
    heads = 0 if query is None else len(query) // HEAD_WIDTH
    return {**_first_conv(state, "model.0.weight"), "heads": heads, "head_width": HEAD_WIDTH}


NETWORKS: dict[str, type[nn.Module]] = {**SEGMENTERS, "style-unet": StyleUNet, "patchgan": PatchGAN}
SIZES: dict[str, Callable[[State], Sizes]] = {
    "style-unet": _style_unet_sizes,
    "unet": _unet_sizes,
    "cellpose": _cellpose_sizes,
    "deepsea": _deepsea_sizes,
    "patchgan": _patchgan_sizes,
}
