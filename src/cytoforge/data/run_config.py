"""The settings of a run folder, `config.json` and `provenance.json`, parsed into types with every value checked.

Invalid values, such as after editing by hand, raise a UserError that names the file, the field and the remedy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cytoforge.data.images import Scaling
from cytoforge.data.judgement import Judgement
from cytoforge.errors import UserError
from cytoforge.networks.registry import NETWORKS

FORMAT = 1
TILE = 256  # px, side of a tile where config.json has none
Channels = Annotated[int, Field(ge=1, le=1024)]
Side = Annotated[int, Field(ge=16, le=2**15)]
Width = Annotated[int, Field(ge=1, le=1024)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Base of the settings: frozen; text and booleans are no numbers; keys that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class NetworkSettings(Settings):
    """Kind of a network, and the arguments of its class as far as they were stored; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    network: str
    in_channels: Channels | None = None
    out_channels: Channels | None = None
    channels: Channels | None = None
    classes: Annotated[int, Field(ge=1, le=256)] | None = None
    width: Width | None = None
    depth: Annotated[int, Field(ge=1, le=10)] | None = None
    norm: Literal["batch", "group"] | None = None
    latent: Annotated[int, Field(ge=1, le=4096)] | None = None
    upsampling: Literal["transposed", "nearest"] | None = None
    residual: bool | None = None
    factor: Annotated[int, Field(ge=2, le=16)] | None = None
    past: Annotated[int, Field(ge=1, le=16)] | None = None
    blocks: Annotated[int, Field(ge=1, le=64)] | None = None
    heads: Annotated[int, Field(ge=0, le=64)] | None = None
    head_width: Width | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    half_resolution: bool | None = None

    @field_validator("network")
    @classmethod
    def _known(cls, network: str) -> str:
        if network not in NETWORKS:
            raise ValueError("is no kind of network")
        return network

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of the network's class."""
        return self.model_dump(exclude={"network"}, exclude_unset=True)


class NormalisationSettings(Settings):
    """How grey values are mapped to [-1, 1]; see `data.images.Normalisation`."""

    kind: Literal["percentile", "min-max"]
    low: Annotated[float, Field(ge=0, le=100)]
    high: Annotated[float, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {self.low:g} and {self.high:g}")
        return self


class NoiseSettings(Settings):
    """Noise of a channel of a movie; see `simulation.camera.Noise`."""

    read: Annotated[float, Field(ge=0, le=1)]
    gain: Annotated[float, Field(ge=0, le=1)]
    blur: Annotated[float, Field(ge=0, le=100)]
    flicker: Annotated[float, Field(ge=0, le=1)]


class RunConfig(Settings):
    """Content of `config.json`; `docs/formats.md` explains each key."""

    format: Literal[1]
    command: str = ""
    config: dict[str, Any] = {}
    networks: dict[str, NetworkSettings] = {}
    target: Literal["boundary", "depth", "semantic"] = "boundary"
    scale: Annotated[float, Field(ge=0.001, le=8)] = 1.0
    resize: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    diameter: Annotated[float, Field(ge=4, le=1000)] | None = None
    normalisation: NormalisationSettings | None = None
    tile: Annotated[int, Field(ge=32, le=2**15)] = TILE
    condition: Literal["mask", "instances"] = "mask"
    lag: Annotated[int, Field(ge=1, le=8)] = 1
    mask_value: Annotated[float, Field(gt=0, le=1)] = 1.0
    darkest: Annotated[float, Field(ge=-1, lt=1)] = 0.0  # cells.crops.DARKEST
    limits: dict[str, list[Annotated[list[Finite], Field(min_length=2, max_length=2)]]] = {}
    noise: list[NoiseSettings] = []
    contrasts: Annotated[list[Annotated[float, Field(gt=0, le=4)]], Field(max_length=1000)] = []
    pixels: Literal["uint8", "uint16", "float32"] | None = None
    divisions: Annotated[int, Field(ge=0)] = 1
    perceptual: str | None = None
    precision: str = ""
    threads: Annotated[int, Field(ge=1)] = 1
    training_images: list[str] = []
    unlabelled_images: list[str] = []
    validation_images: list[str] = []

    @field_validator("networks")
    @classmethod
    def _named(cls, networks: dict[str, NetworkSettings]) -> dict[str, NetworkSettings]:
        for name in networks:
            if not name or set(name) & set("/\\\0") or name.startswith("."):
                raise ValueError(f"{name!a} is no name of a network")
        return networks

    @field_validator("limits")
    @classmethod
    def _channels(cls, limits: dict[str, list[list[float]]]) -> dict[str, list[list[float]]]:
        for name, channels in limits.items():
            if not channels or not all(low <= high for low, high in channels):
                raise ValueError(f"limits of {name} must be two ascending numbers for each channel")
        return limits

    @property
    def scaling(self) -> Scaling:
        """How images are resized for the networks: `scale`, or `resize` where the run has it."""
        return (self.resize[0], self.resize[1]) if self.resize else self.scale

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse files without the keys that every training and import writes, as a default could be wrong."""
        needed = {"scale"} if self.networks else set()
        if "segmenter" in self.networks:
            needed |= {"target", "normalisation", "tile"}
        if missing := sorted(needed - self.model_fields_set):
            raise ValueError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        return self


class Provenance(Settings):
    """Checked content of `provenance.json`: notes, end and judgement of the training, SHA-256 of each weights file."""

    notes: list[str] = []
    finished: str | None = None
    judgement: Judgement | None = None
    weights: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}
    learned_from: list[str] = []


def problems(error: ValidationError) -> str:
    """Return a message on the first three invalid fields."""
    return "; ".join(_problem(details) for details in error.errors()[:3])


def parse(kind: type[Model], stored: Mapping[str, Any], path: Path, remedy: str) -> Model:
    """Parse the content of a file; raises UserError that names the file, the fields, what is wrong, and the remedy."""
    try:
        return kind.model_validate(dict(stored))
    except ValidationError as error:
        raise UserError(f"{path}: {problems(error)}; {remedy}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply; {remedy}") from None


def _problem(details: Any) -> str:
    """Return the message for an error of pydantic, in words for the user."""
    place = [str(part) for part in details["loc"]]
    if place[:1] == ["networks"] and len(place) > 2:
        name, field = place[1], ".".join(place[2:])
        if details["type"] == "value_error" and field == "network":
            return f"{name} is of the unknown kind {details['input']!a:.60}; there are {', '.join(NETWORKS)}"
        return f"describes no valid {name} ({_told(details, field)})"
    return _told(details, ".".join(place))


def _told(details: Any, field: str) -> str:
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input ").partition(" or instance of ")[0]
    if details["type"] == "missing":
        return f"{field} is missing"
    if details["type"] == "extra_forbidden":
        return f"{field} is unknown here"
    if not field or details["type"] == "value_error":
        return f"{message[0].lower()}{message[1:]}"
    return f"{field} is {details['input']!a:.60}, but {message[0].lower()}{message[1:]}"
