"""`cytoforge import`: convert a published checkpoint of cGAN-Seg, tGAN or DeepSea to a run folder."""

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from cytoforge.cells.instances import TARGETS
from cytoforge.data.files import check_readable, digest
from cytoforge.data.images import Normalisation
from cytoforge.data.lock import alone
from cytoforge.data.run import Run
from cytoforge.data.run_config import NetworkSettings, problems
from cytoforge.errors import UserError, explain
from cytoforge.inference import load
from cytoforge.networks.registry import IMPORTED, NETWORKS, PUBLISHED
from cytoforge.settings import ImportCheckpoint

State = dict[str, Tensor]
IMAGE, FRAME = (512, 768), (256, 384)  # px: sizes that the published programs resize images and small frames to
SIZES = {"movie": FRAME, "flow": FRAME, "patchgan": IMAGE, "tracker": None}  # of the others IMAGE
TILE = 512  # px: the height of the images that the published networks were trained on
MASK_VALUE = 0.4  # of cells in the masks that the published movie generator was trained on
SHARED = 4  # how often a file may hold the same numbers, as discriminators of tGAN do twice
SAVE = "save it with torch.save(network.state_dict(), path)"
DARKEST = -1.0  # of cells in the crops that the published tracker was trained on
BLOCKS = {  # of DeepSea's tracker: published name, own name
    "res1": "previous",
    "res2": "current",
    "res3": "down",
    "res4": "bottom",
    "res5": "up",
    "res6": "last",
    "conv3": "outputs",
}
BOTTLENECKS = {"eb": "b", "pb": "previous.b", "bb": "background.b"}  # of the movie generator: published name, own name


@alone
def import_checkpoint(config: ImportCheckpoint) -> Path:
    """Write a run folder with the network of a .pth checkpoint, and return its path.

    Sizes are read from the shapes of the tensors. Segmenters become runs for `segment`: two classes, each image
    stretched from its minimum to its maximum, and resized to the size of the published training (`resize`). Movie
    generators were trained on masks of `mask_value` in config.json, not 1, and DeepSea's tracker on crops whose cells
    are `darkest` -1. Raises UserError when the file cannot be read safely, when it holds something other than the
    named network (then it says what, if known), or when the run folder exists.
    """
    state = read_checkpoint(config.checkpoint)
    kind = IMPORTED[config.network]
    problem = misfit(kind, state)
    if problem is not None:
        others = [name for name, other in IMPORTED.items() if misfit(other, state) is None]
        remedy = f"it fits --network {' or '.join(others)}" if others else "it fits no other network either"
        raise UserError(f"{config.checkpoint}: is no {config.network} ({problem}); {remedy}")
    state = own_names(kind, state)
    sizes, role = PUBLISHED[kind](state), NETWORKS[kind].role
    target = TARGETS["semantic"]
    if role == "segmenter" and sizes["classes"] != target.classes:
        raise UserError(
            f"{config.checkpoint}: tells {sizes['classes']} classes apart; "
            f"only segmenters of {target.classes} classes (background, cell) can be imported"
        )
    content = {
        "command": "import",
        "config": {"checkpoint": config.checkpoint.name, "network": config.network},
        "networks": {role: {"network": kind, **sizes}},
        "target": target.name,
        "scale": 1.0,
        "resize": trained_at(kind, sizes),
        "normalisation": Normalisation(kind="min-max").to_json(),
        "tile": TILE,
    }
    if kind == "movie":
        content["mask_value"] = MASK_VALUE
    if kind == "tracker":
        content["darkest"] = DARKEST
    run = Run.start(config.out, content, overwrite=config.overwrite)
    expected = _expected(kind, sizes)
    run.save_weights(role, {name: tensor.to(expected[name].dtype) for name, tensor in state.items()})
    run.finish({"checkpoint_sha256": digest(config.checkpoint)})
    print(f"{config.out}: {config.network} of {sum(map(torch.numel, state.values())):,} numbers imported as {role}")
    return config.out


def trained_at(network: str, sizes: dict[str, Any]) -> tuple[int, int] | None:
    """Return height and width of the images that a published network was trained on; None for crops of any size.

    Discriminators of more than one channel and with dropout judge small frames with their masks.
    """
    if network == "patchgan" and sizes["dropout"] and sizes["in_channels"] > 1:
        return FRAME
    return SIZES.get(network, IMAGE)


def read_checkpoint(path: Path) -> State:
    """Read names and tensors of a .pth file without running code from it, names without DataParallel's `module.`.

    Raises UserError when the file is missing, damaged, needs code to be read, or holds no plain dict of tensors.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the .pth file of a checkpoint")
    check_readable(path, "give the .pth file of a checkpoint")
    size = path.stat().st_size
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > size:  # torch.save writes archives without compression
                raise UserError(f"{path}: packs {unpacked:,} bytes into {size:,}; {SAVE}")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # The unpickler can raise any exception on damaged bytes.
        if explain(error) and not isinstance(error, OSError):
            raise
        raise UserError(
            f"{path}: cannot be read as a checkpoint of tensors alone ({type(error).__name__}); "
            f"fetch it anew, or {SAVE}"
        ) from error
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise UserError(f"{path}: holds no state dict; {SAVE}")
    total = 0
    for name, tensor in loaded.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise UserError(f"{path}: {name!s:.60} is no plain tensor of real numbers; {SAVE}")
        total += tensor.numel() * tensor.element_size()
        if total > SHARED * size:  # The stored shape of a view can be arbitrarily large.
            raise UserError(f"{path}: {name!s:.60} claims more numbers than the file can hold; {SAVE}")
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise UserError(f"{path}: {name!s:.60} holds NaN or infinite numbers; fetch the checkpoint anew")
    return {
        re.sub(r"^(module\.)+", "", str(name)): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in loaded.items()
    }


def misfit(network: str, state: State) -> str | None:
    """Return the first difference between a state dict and a network of the same sizes, or None if it fits."""
    state = own_names(network, state)
    try:
        sizes = PUBLISHED[network](state)
        NetworkSettings.model_validate({"network": network, **sizes})
        expected = _expected(network, sizes)
    except KeyError as error:
        return f"{error.args[0]} is missing"
    except ValidationError as error:
        return problems(error)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        return " ".join(str(error).split())
    return load.misfit(expected, state)


def _expected(network: str, sizes: dict[str, Any]) -> State:
    """Return names, shapes and types of a network's tensors, without their values."""
    with torch.device("meta"):
        state: State = NETWORKS[network].load()(**sizes).state_dict()
    return state


def own_names(network: str, state: State) -> State:
    """Give the tensors of a published state dict the names that they have here; other names stay as they are.

    Discriminators of tGAN hold every tensor twice, as `model.` and as `layers.`. Its movie generator encodes the
    background with the encoder of the previous frame and leaves the background's own, `be1` and so on, untrained: here
    the background's encoder gets the weights that were used in its place, and so computes what was published.
    """
    if network == "patchgan":
        twins = {name.replace("model.", "layers.", 1) for name in state if name.startswith("model.")}
        return {name: tensor for name, tensor in state.items() if name not in twins}
    if network == "tracker":
        parts = {name: name.partition(".") for name in state}
        return {f"{BLOCKS.get(part, part)}{dot}{rest}": state[name] for name, (part, dot, rest) in parts.items()}
    if network != "movie":
        return state
    own: State = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if re.fullmatch(r"pe\d+", part):
            own |= {f"{encoder}.{part[1:]}.{rest}": tensor for encoder in ("previous", "background")}
        elif part in BOTTLENECKS:
            own[f"{BOTTLENECKS[part]}.{rest}"] = tensor
        elif not re.fullmatch(r"be\d+", part):
            own[name] = tensor
    return own
