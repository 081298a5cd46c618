"""Published weights of feature networks to the .safetensors files that `weights` reads, and checks of these files."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from cytoforge.data.feature_files import FEATURE_FILES, FeatureFile, FeatureNetwork
from cytoforge.data.files import digest, in_utf8
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.weights import read_features, read_safetensors
from cytoforge.errors import UserError
from cytoforge.networks.features import (
    I3DFeatures,
    InceptionFeatures,
    SqueezeNetFeatures,
    VGG16Features,
    VGG19Features,
)

BY = "weights"  # who writes, in the list of files of the folder
BUILT: dict[FeatureNetwork, Callable[[dict[str, Tensor]], object]] = {  # what needs all tensors of a network
    "vgg19": VGG19Features,
    "squeezenet": SqueezeNetFeatures,
    "vgg16": VGG16Features,
    "inception": InceptionFeatures,
    "i3d": I3DFeatures,
}


def convert(state: Mapping[str, Tensor], name: str, source: Path, sha256: str, directory: Path) -> Path:
    """Write the tensors of a published state dict that a feature file keeps, in float32, and return the file's path.

    The file tells the SHA-256 of `source`, from which they come, and of the tensors. Raises UserError when the state
    dict is of another network, or when a file is there that was not written in this way.
    """
    recipe = FEATURE_FILES[name]
    kept = {key: tensor.float().contiguous() for key, tensor in sorted(state.items()) if recipe.keeps(key)}
    if problem := misfit(recipe, kept):
        raise UserError(f"{source}: is no {name} ({problem}); give another file or --network")
    told = {"format": "pt", "source": source.name, "source_sha256": sha256, "tensors_sha256": tensors_digest(kept)}
    return OutputFolder(directory, by=BY).write(recipe.file, save(kept, told))


def misfit(recipe: FeatureFile, state: Mapping[str, Tensor]) -> str | None:
    """Return what is wrong with the tensors of a feature file, None if they are those of the network."""
    kept = {key: tensor for key, tensor in state.items() if recipe.keeps(key)}
    numbers = sum(tensor.numel() for tensor in kept.values())
    if (len(kept), numbers) != (recipe.tensors, recipe.numbers):
        return (
            f"{len(kept)} of its tensors have the names of that network, with {numbers:,} numbers, and not "
            f"{recipe.tensors} with {recipe.numbers:,}"
        )
    try:
        if build := BUILT.get(recipe.network):
            build(kept)
    except KeyError as error:
        return f"{error.args[0]} is missing"
    except RuntimeError as error:
        return " ".join(str(error).split())
    return None


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and numbers of tensors, in hexadecimal."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What a check of a feature file found."""

    right: bool
    words: str


def verify(name: str, path: Path) -> Verdict:
    """Check names, shapes, finiteness and, where one is known, the checksum of a feature file."""
    recipe = FEATURE_FILES[name]
    try:
        problem = misfit(recipe, read_features(path, recipe.network))
    except UserError as error:
        return Verdict(False, str(error))
    if problem:
        return Verdict(False, f"{path}: {problem}; fetch it anew")
    if digest(path) == recipe.measured:
        return Verdict(True, "is the file that this project measured with")
    with in_utf8(path) as file, safe_open(file, "pt") as opened:
        told = opened.metadata() or {}
    if "tensors_sha256" not in told:
        return Verdict(True, "has the right tensors; where they come from is not told, so no checksum is compared")
    if told["tensors_sha256"] != tensors_digest(read_safetensors(path)):
        return Verdict(False, f"{path}: its numbers have been changed since it was converted; fetch it anew")
    if recipe.published and told.get("source_sha256", "").startswith(recipe.published.sha256):
        return Verdict(True, f"is as it was converted from the published {recipe.published.name}")
    return Verdict(True, f"is as it was converted from {told.get('source')}, which is not the published file")
