"""Pretrained feature networks on this machine: VGG-19, SqueezeNet with the LPIPS heads, Inception.

They are neither part of the package nor downloaded. They are .safetensors files in a folder that is given by
--weights-dir or by the environment variable CYTOFORGE_WEIGHTS.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cytoforge.data.files import check_readable, digest, in_utf8
from cytoforge.errors import UserError
from cytoforge.networks.features import LPIPS, InceptionFeatures

VARIABLE = "CYTOFORGE_WEIGHTS"
FeatureNetwork = Literal["vgg19", "squeezenet", "lpips", "inception"]
FILES: dict[FeatureNetwork, tuple[str, ...]] = {  # the first existing file is used
    "vgg19": ("vgg19.safetensors", "vgg19_to_relu3_1.safetensors"),
    "squeezenet": ("squeezenet1_1.safetensors",),
    "lpips": ("lpips_squeeze_v0.1.safetensors",),
    "inception": ("inception_v3_fid_768.safetensors",),
}
TELLING: dict[FeatureNetwork, str] = {  # a tensor that every file of the kind holds
    "vgg19": "features.10.weight",
    "squeezenet": "features.12.expand3x3.weight",
    "lpips": "lin6.model.1.weight",
    "inception": "Mixed_6e.branch_pool.conv.weight",
}


def find_weights(directory: Path | None = None) -> Path | None:
    """Return the folder with pretrained weights: `directory`, else that of CYTOFORGE_WEIGHTS, else None.

    Raises UserError when the folder that was named does not exist.
    """
    source = "--weights-dir" if directory is not None else VARIABLE
    if directory is None:
        named = os.environ.get(VARIABLE, "")
        if not named:
            return None
        directory = Path(named)
    if not directory.is_dir():
        known = ", ".join(file for files in FILES.values() for file in files)
        raise UserError(f"{source} {directory}: is no folder; name the one that holds pretrained weights ({known})")
    return directory


def lacking(directory: Path | None, *names: FeatureNetwork) -> str:
    """Return a message on the missing files of these networks, and how to name their folder.

    `directory` is as in `find_weights`.
    """
    files = " and ".join(" or ".join(FILES[name]) for name in names if weights_file(name, directory) is None)
    folder = find_weights(directory)
    if folder is None:
        return f"this needs {files}; name the folder that holds it with --weights-dir or {VARIABLE}"
    return f"this needs {files}, which {folder} does not hold; name another folder with --weights-dir or {VARIABLE}"


def weights_file(name: FeatureNetwork, directory: Path | None = None) -> Path | None:
    """Return the file of a feature network, or None when there is none; `directory` as for `find_weights`."""
    folder = find_weights(directory)
    return next((folder / file for file in FILES[name] if (folder / file).is_file()), None) if folder else None


def load_features(name: FeatureNetwork, directory: Path | None = None) -> dict[str, Tensor] | None:
    """Return the float32 state dict of a feature network on the CPU, or None when there is no file of it.

    `directory` as for `find_weights`. Raises UserError when the file is damaged or holds another network.
    """
    path = weights_file(name, directory)
    if path is None:
        return None
    check_readable(path, "copy it anew")
    try:
        with in_utf8(path) as file:
            state = load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({error}); copy it anew, or remove it to do without") from error
    if TELLING[name] not in state:
        raise UserError(f"{path}: holds no {name} weights ({TELLING[name]} is missing); put the right file there")
    state = {key: tensor.float() for key, tensor in state.items()}
    if lost := next((key for key, tensor in state.items() if not tensor.isfinite().all()), None):
        raise UserError(f"{path}: {lost} holds NaN or infinite numbers; copy it anew, or remove it to do without")
    return state


def load_inception(directory: Path | None = None) -> InceptionFeatures | None:
    """Return the Inception network of FID and similar scores on the CPU, None without file; raises as load_features."""
    state = load_features("inception", directory)
    try:
        return InceptionFeatures(state) if state else None
    except KeyError as error:
        raise UserError(f"{weights_file('inception', directory)}: lacks the weights {error}; copy it anew") from error


def load_lpips(directory: Path | None = None) -> LPIPS | None:
    """Return LPIPS on the CPU, or None without its two files; raises as load_features."""
    squeezenet, heads = load_features("squeezenet", directory), load_features("lpips", directory)
    try:
        return LPIPS(squeezenet, heads) if squeezenet and heads else None
    except RuntimeError as error:
        raise UserError(f"{weights_file('squeezenet', directory)}: is no SqueezeNet 1.1; copy it anew") from error


def used_weights(names: Iterable[FeatureNetwork], directory: Path | None = None) -> dict[str, dict[str, str]]:
    """Return, by network, file name and SHA-256 of the weights that were used, as recorded with results."""
    files = {name: weights_file(name, directory) for name in names}
    return {name: {"file": file.name, "sha256": digest(file)} for name, file in files.items() if file}
