"""Settings of the commands for the files of pretrained feature networks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tyro.conf import Positional

from cytoforge.settings.base import Present, command

FeatureFileName = Literal[
    "vgg19", "vgg19-relu3", "squeezenet", "lpips-squeeze", "vgg16", "lpips-vgg", "inception", "inception-768", "i3d"
]


@command
class WeightsList:
    """List the files of pretrained feature networks: what each is for, its licence, and whether it is here.

    Examples:
      cytoforge weights list
    """

    weights_dir: Path | None = None
    """folder of the files; without it that of CYTOFORGE_WEIGHTS, else one in the user's cache"""


@command
class WeightsFetch:
    """Fetch the published files of feature networks over the internet, check them and convert them.

    This is the only command that uses the network. A published file that already lies in the folder is converted
    without it.

    Examples:
      cytoforge weights fetch inception
      cytoforge weights fetch squeezenet lpips-squeeze --weights-dir weights
    """

    name: Positional[Annotated[tuple[FeatureFileName, ...], Field(min_length=1)]]
    """what to fetch, as weights list names it"""
    weights_dir: Path | None = None
    """folder of the files; without it that of CYTOFORGE_WEIGHTS, else one in the user's cache"""


@command
class WeightsVerify:
    """Check the files of feature networks that are here: names and shapes of their tensors, and checksums.

    Exit status 1 if one of them is wrong.

    Examples:
      cytoforge weights verify
      cytoforge weights verify inception
    """

    name: Positional[tuple[FeatureFileName, ...]] = ()
    """what to check; all that are here without it"""
    weights_dir: Path | None = None
    """folder of the files; without it that of CYTOFORGE_WEIGHTS, else one in the user's cache"""


@command
class WeightsConvert:
    """Convert a published file of a feature network (.pth, .pt or .safetensors) to the file that cytoforge reads.

    Only tensors are read from it.

    Examples:
      cytoforge weights convert vgg19-dcbb9e9d.pth --network vgg19
    """

    file: Positional[Present]
    """the published file"""
    network: FeatureFileName
    """what it holds, as weights list names it"""
    weights_dir: Path | None = None
    """folder of the files; without it that of CYTOFORGE_WEIGHTS, else one in the user's cache"""
