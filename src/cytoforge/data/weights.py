"""Pretrained feature networks on this machine: VGG-19, the networks and heads of LPIPS, Inception, I3D.

They are no part of the package. They are .safetensors files in a folder that is given by --weights-dir or by the
environment variable CYTOFORGE_WEIGHTS; without either it is the user's cache, where `weights fetch` puts them.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cytoforge.data.feature_files import FEATURE_FILES, FeatureNetwork
from cytoforge.data.files import check_readable, digest, in_utf8
from cytoforge.errors import UserError
from cytoforge.networks.features import LPIPS, I3DFeatures, InceptionFeatures, SqueezeNetFeatures, VGG16Features

Network = TypeVar("Network")
VARIABLE = "CYTOFORGE_WEIGHTS"
FILES: dict[FeatureNetwork, tuple[str, ...]] = {  # the first existing file is used
    each.network: tuple(other.file for other in FEATURE_FILES.values() if other.network == each.network)
    for each in FEATURE_FILES.values()
}
TELLING: dict[FeatureNetwork, str] = {  # a tensor that every file of the kind holds
    "vgg19": "features.10.weight",
    "squeezenet": "features.12.expand3x3.weight",
    "lpips": "lin6.model.1.weight",
    "vgg16": "features.17.weight",
    "lpips-vgg": "lin4.model.1.weight",
    "inception": "Mixed_6e.branch_pool.conv.weight",
    "i3d": "logits.conv3d.weight",
}


def default_folder() -> Path:
    """Return the folder for weights in the user's cache, whether it exists or not."""
    return user_cache_path("cytoforge", appauthor=False) / "weights"


def find_weights(directory: Path | None = None) -> Path | None:
    """Return the folder with weights: `directory`, else that of CYTOFORGE_WEIGHTS, else that in the user's cache.

    It is None if nothing is named and there is none in the cache. Raises UserError when the folder that was named does
    not exist.
    """
    source = "--weights-dir" if directory is not None else VARIABLE
    if directory is None:
        named = os.environ.get(VARIABLE, "")
        if not named:
            return default_folder() if default_folder().is_dir() else None
        directory = Path(named)
    if not directory.is_dir():
        known = ", ".join(file for files in FILES.values() for file in files)
        raise UserError(f"{source} {directory}: is no folder; name the one that holds pretrained weights ({known})")
    return directory


def target_folder(directory: Path | None = None) -> Path:
    """Return the folder in which weights are to be put, by the same rule as `find_weights`; it need not exist."""
    return directory or Path(os.environ.get(VARIABLE) or default_folder())


def lacking(directory: Path | None, *names: FeatureNetwork) -> str:
    """Return a message on the missing files of these networks, and how to get them or name their folder.

    `directory` is as in `find_weights`.
    """
    lost = [name for name in names if weights_file(name, directory) is None]
    files = " and ".join(" or ".join(FILES[name]) for name in lost)
    wanted = (next(key for key, each in FEATURE_FILES.items() if each.network == name) for name in lost)
    fetched = f"; get it by cytoforge weights fetch {' '.join(wanted)}, or "
    folder = find_weights(directory)
    if folder is None:
        return f"this needs {files}{fetched}name the folder that holds it with --weights-dir or {VARIABLE}"
    return (
        f"this needs {files}, which {folder} does not hold{fetched}name another folder with --weights-dir or {VARIABLE}"
    )


def weights_file(name: FeatureNetwork, directory: Path | None = None) -> Path | None:
    """Return the file of a feature network, or None when there is none; `directory` as for `find_weights`."""
    folder = find_weights(directory)
    return next((folder / file for file in FILES[name] if (folder / file).is_file()), None) if folder else None


def load_features(name: FeatureNetwork, directory: Path | None = None) -> dict[str, Tensor] | None:
    """Return the float32 state dict of a feature network on the CPU, or None when there is no file of it.

    `directory` as for `find_weights`. Raises UserError when the file is damaged or holds another network.
    """
    path = weights_file(name, directory)
    return None if path is None else read_features(path, name)


def read_features(path: Path, network: FeatureNetwork) -> dict[str, Tensor]:
    """Return the float32 state dict in a file of a feature network; raises UserError as `load_features`."""
    check_readable(path, "copy it anew")
    state = read_safetensors(path)
    if TELLING[network] not in state:
        raise UserError(f"{path}: holds no {network} weights ({TELLING[network]} is missing); put the right file there")
    state = {key: tensor.float() for key, tensor in state.items()}
    if lost := next((key for key, tensor in state.items() if not tensor.isfinite().all()), None):
        raise UserError(f"{path}: {lost} holds NaN or infinite numbers; copy it anew, or remove it to do without")
    return state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file as they are stored; raises UserError when it is damaged."""
    try:
        with in_utf8(path) as file:
            return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({error}); copy it anew, or remove it to do without") from error


def load_inception(directory: Path | None = None) -> InceptionFeatures | None:
    """Return the Inception network of FID and similar scores on the CPU, None without file; raises as load_features."""
    return _built("inception", InceptionFeatures, directory)


def load_i3d(directory: Path | None = None) -> I3DFeatures | None:
    """Return the network of FVD on the CPU, or None without its file; raises as load_features."""
    return _built("i3d", I3DFeatures, directory)


def _built(name: FeatureNetwork, build: Callable[[dict[str, Tensor]], Network], where: Path | None) -> Network | None:
    state = load_features(name, where)
    try:
        return build(state) if state else None
    except KeyError as error:
        raise UserError(f"{weights_file(name, where)}: lacks the weights {error}; copy it anew") from error


def load_lpips(directory: Path | None = None) -> LPIPS | None:
    """Return LPIPS (squeeze) on the CPU, or None without its two files; raises as load_features."""
    network, heads = load_features("squeezenet", directory), load_features("lpips", directory)
    try:
        return LPIPS(SqueezeNetFeatures(network), heads) if network and heads else None
    except RuntimeError as error:
        raise UserError(f"{weights_file('squeezenet', directory)}: is no SqueezeNet 1.1; copy it anew") from error


def load_lpips_vgg(directory: Path | None = None) -> LPIPS | None:
    """Return LPIPS (VGG) on the CPU, or None without its two files; raises as load_features."""
    network, heads = load_features("vgg16", directory), load_features("lpips-vgg", directory)
    try:
        return LPIPS(VGG16Features(network), heads) if network and heads else None
    except RuntimeError as error:
        raise UserError(f"{weights_file('vgg16', directory)}: is no VGG-16; copy it anew") from error


def used_weights(names: Iterable[FeatureNetwork], directory: Path | None = None) -> dict[str, dict[str, str]]:
    """Return, by network, file name and SHA-256 of the weights that were used, as recorded with results."""
    files = {name: weights_file(name, directory) for name in names}
    return {name: {"file": file.name, "sha256": digest(file)} for name, file in files.items() if file}
