"""The hyperparameters of every task, and the presets: `tiny` to try things out, `small` for minutes, `paper`.

`paper` holds the values of the published code of cGAN-Seg and tGAN. docs/decisions.md says in what `tiny` and `small`
differ from it, and why. config.json of a run stores the values that it was trained with.
"""

import ast
import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cytoforge.errors import UserError
from cytoforge.losses import VID2VID_WEIGHTS, CycleWeights, MovieWeights, SuperResolutionWeights, Vid2VidWeights

Condition = Literal["mask", "instances"]
Norm = Literal["batch", "group"]
Perceptual = Literal["vgg", "vgg or features", "features", "statistics", "none"]
MoviePerceptual = Literal["vgg", "vgg or features", "features"]
LinkedMovies = Literal["real", "simulated", "both"]
Policy = Literal["flip", "strong", "wide", "paper"]
Upsampling = Literal["transposed", "nearest"]
Count = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=1, le=8)]
Positive = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]
FINITE = ConfigDict(allow_inf_nan=False)
BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
SMALLEST_WINDOW = 16  # px, of which the discriminators' last maps still have a pixel


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What all trainings have."""

    width: Count
    """channels of the first level of the networks"""
    norm: Norm = "batch"
    """normalisation layers: batch norm (the papers) or group norm"""
    batch: Count = 1
    """windows, clips or cells in a step"""
    augmentation: Policy
    """flip: flips and quarter turns of windows; strong: also rotation, scale, blur and more; paper: as in cGAN-Seg"""
    p_vanilla: Share = 0.2
    """with augmentation paper, probability that a window is augmented"""
    average: Annotated[float, Field(ge=0, lt=1)]
    """decay of the exponential moving average of the weights per step"""


@dataclass(frozen=True, kw_only=True)
class Segmentation(Hyperparameters):
    """Conventional training of a segmenter (cGAN-Seg, Figure 1B and C)."""

    network: Literal["unet", "cellpose", "deepsea"] = "unet"
    """segmentation network"""
    target: Literal["depth", "boundary", "semantic"] = "depth"
    """classes: background, border and three depths or one interior, or the paper's two"""
    depth: Depth = 4
    """number of poolings of the network"""
    augmentation: Policy = "strong"
    crop: tuple[Side, Side]
    """height and width of the windows in pixels"""
    rate: Positive
    """learning rate (Adam)"""
    anneal: bool = True
    """whether learning rates fall along a cosine (the paper keeps them constant)"""


@dataclass(frozen=True, kw_only=True)
class MeanTeacher(Segmentation):
    """Training that also keeps a segmenter consistent on images without masks (Tarvainen and Valpola, 2017)."""

    consistency: Amount = 10.0
    """weight of the squared difference to the teacher's probabilities, once it has risen"""
    ramp: Count = 500
    """steps in which that weight rises"""
    teacher_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """decay per step of the teacher, a moving average of the segmenter's weights"""


@dataclass(frozen=True, kw_only=True)
class Adversarial(Hyperparameters):
    """What all trainings of generators against discriminators have."""

    depth: Depth = 4
    """number of poolings of the generator"""
    condition: Condition = "mask"
    """what the generator is given of the cells: the mask, or also contacts and depth inside cells"""
    generator_rate: Positive
    """learning rate of the generator (Adam)"""
    discriminator_rate: Positive
    """learning rate of the discriminators (Adam)"""
    discriminator_width: Count
    """channels of the discriminators' first layer"""
    heads: Annotated[int, Field(ge=0)]
    """heads of the discriminators' linear attention; 0 for none"""
    head_width: Count
    """channels of an attention head"""
    zero_scores: bool = True
    """whether discriminators begin with scores of 0; those of random weights outweigh all other losses"""
    upsampling: Upsampling = "nearest"
    """how the generator doubles the size of its maps (the paper: transposed convolutions)"""
    noise_gain: Amount = 1.0
    """factor on the weights of the generator's noise at the start: with less, cells take shape before they get grain"""
    perceptual: Perceptual = "features"
    """what compares images besides pixels: VGG-19, features of the discriminator, or their local statistics"""
    p_diff: Share = 0.2
    """probability of the differentiable augmentation before the image discriminator"""
    style_mixing: Share = 0.9
    """probability that two styles are mixed in one generated image"""
    anneal: bool = True
    """whether learning rates fall along a cosine (the paper keeps them constant)"""


@dataclass(frozen=True, kw_only=True)
class CycleGAN(Adversarial):
    """Training of segmenter and generator in a cycle (cGAN-Seg, Figure 1A)."""

    network: Literal["unet", "cellpose", "deepsea"] = "unet"
    """segmentation network"""
    generator: Literal["style-unet", "unet"] = "style-unet"
    """image generator: with styles and noise, or one image per mask (cGAN-Seg, Figure 3)"""
    masks: Literal["own", "simulated"] = "own"
    """what the forward cycle paints on: the masks of the images (the paper), or simulated ones, as dense or denser"""
    target: Literal["depth", "boundary", "semantic"] = "depth"
    """classes: background, border and three depths or one interior, or the paper's two"""
    augmentation: Policy = "strong"
    crop: tuple[Side, Side]
    """height and width of the windows in pixels"""
    rate: Positive
    """learning rate of the segmenter (Adam)"""
    weights: CycleWeights
    """weights of the losses (Eq. 16)"""
    warm_start: Share = 0.0
    """share of the training in which generator and segmenter learn from the annotated pairs alone"""


@dataclass(frozen=True, kw_only=True)
class Generator(Adversarial):
    """Training of an image generator on annotated pairs."""

    network: Literal["style-unet", "unet"] = "style-unet"
    """style-unet: styles and noise vary the images; unet: one image per mask"""
    augmentation: Policy = "flip"
    crop: tuple[Side, Side]
    """height and width of the windows in pixels"""
    background: Literal["real", "painted"] = "real"
    """whether cells are added to real backgrounds, or all is painted (the paper)"""
    weights: CycleWeights
    """weights of the losses, of which adversarial and identity_image count"""


@dataclass(frozen=True, kw_only=True)
class Stage(Adversarial):
    """What both stages of tGAN have."""

    initial: Literal["kaiming", "torch"] = "kaiming"
    """rule by which weights are drawn at first: that of cGAN-Seg, or torch's defaults (tGAN)"""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    """rmsprop: with a momentum of 0.9, as in tGAN"""
    one_cycle: bool = False
    """whether learning rates rise for 30 % of the training and then fall to nothing (tGAN), whatever `anneal` says"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the discriminator's hidden maps that is dropped (tGAN: 0.3)"""


@dataclass(frozen=True, kw_only=True)
class Movie(Stage):
    """Training of tGAN's low-resolution movie generator (tGAN, Figure 1B, Eq. 1 and 3)."""

    augmentation: Policy = "flip"
    condition: Condition = "instances"
    crop: tuple[Side, Side]
    """height and width of the windows in pixels (tGAN: 256 x 384)"""
    window: Count = 2
    """frames whose masks the generator sees, and which the discriminator judges together"""
    perceptual: MoviePerceptual = "features"
    """what compares frames besides pixels: VGG-19, or features of the discriminator"""
    half_resolution: bool = True
    """whether the flow network sees frames at half of their size, which is faster and reaches farther"""
    lag: Count = 1
    """frames from the earlier frame that the generator is given to the frame that it paints"""
    mask_value: Annotated[float, Field(gt=0, le=1)] = 1.0
    """value of cells in what the networks are given of them (tGAN: 0.4)"""
    clip: Count
    """largest number of frames that are painted in a row (tGAN: 10)"""
    grown: Annotated[float, Field(gt=0, le=1)] = 0.5
    """share of the training in which clips grow from one frame to the largest number (tGAN: 0.2)"""
    draw_length: bool = True
    """whether the number of frames of a clip is drawn up to the largest at that time, or always the largest"""
    learn_last: bool = True
    """whether only the last frame of a clip is learned from; those before it are painted as generate movie does"""
    in_use_from: Share = 0.5
    """share of the training after which the generator normalises by its running statistics; 1 for never"""
    contrast_error: Amount = 0.4
    """errors of contrast that are put into earlier frames: standard deviation of their logarithm"""
    max_gradient: Positive | None = 20.0
    """norm to which the generator's gradient is clipped; its spikes reach a hundred times that"""
    residual: bool = True
    """whether the generator adds to the background, or paints all (the paper)"""
    weights: MovieWeights
    """weights of the losses (Eq. 1)"""


@dataclass(frozen=True, kw_only=True)
class Vid2Vid(Hyperparameters):
    """Training of the vid2vid baseline (Wang et al. 2018, Video-to-Video Synthesis)."""

    augmentation: Policy = "flip"
    condition: Condition = "mask"
    """what the generator is given of the cells: the mask, or also contacts and depth inside cells"""
    crop: tuple[Side, Side]
    """height and width of the windows in pixels"""
    depth: Depth = 3
    """halvings of the size inside the generator"""
    upsampling: Upsampling = "transposed"
    """how the generator doubles the size of its maps (the paper: transposed convolutions)"""
    blocks: Count = 9
    """residual blocks of the generator, half of them in its encoders"""
    clip: Count
    """frames that are painted in a row at first; the number doubles every quarter of the training"""
    rate: Positive
    """learning rate of all networks (Adam), which falls in the second half of the training"""
    discriminator_width: Count
    """channels of the discriminators' first layer"""
    perceptual: MoviePerceptual = "features"
    """what compares frames besides the discriminators' features: VGG-19, or nothing"""
    weights: Vid2VidWeights = VID2VID_WEIGHTS
    """weights of the losses"""


@dataclass(frozen=True, kw_only=True)
class SuperResolution(Stage):
    """Training of tGAN's super-resolution generator (tGAN, Figure 1C, Eq. 2 and 3)."""

    augmentation: Policy = "flip"
    crop: tuple[Side, Side]
    """height and width of the small windows in pixels"""
    perceptual: MoviePerceptual = "features"
    """what compares frames besides pixels: VGG-19, or features of the discriminator"""
    factor: Annotated[int, Field(ge=2)] = 2
    """how many times frames are enlarged: a power of two"""
    residual: bool = True
    """whether the generator adds to an interpolation, or paints all (the paper)"""
    weights: SuperResolutionWeights
    """weights of the losses (Eq. 2)"""


@dataclass(frozen=True, kw_only=True)
class Tracker(Hyperparameters):
    """Training of DeepSea's tracker."""

    augmentation: Policy = "strong"
    rate: Positive = 1e-3
    """highest learning rate (Adam) of the one-cycle schedule"""


@dataclass(frozen=True, kw_only=True)
class Linker(Hyperparameters):
    """Training of the linker of whole movies."""

    augmentation: Policy = "flip"
    """of no effect: stretches of movies are varied in ways of their own"""
    rate: Positive = 3e-3
    """highest learning rate (AdamW) of the one-cycle schedule"""
    movies: LinkedMovies = "both"
    """what is learned from: real frames, movies that are simulated after them, or both in turn"""


_TINY: dict[str, Any] = {"width": 8, "average": 0.98}
_SMALL: dict[str, Any] = {"width": 16, "average": 0.99}
_PAPER: dict[str, Any] = {"width": 64, "average": 0.999}
# alpha 0.99, epsilon 1e-8 and weight decay 1e-8 stand in `recipes.tgan`
_PAPER_STAGE: dict[str, Any] = {
    "initial": "torch",
    "optimiser": "rmsprop",
    "one_cycle": True,
    "dropout": 0.3,
    "augmentation": "paper",
}
_TINY_PAINTING: dict[str, Any] = {
    **_TINY,
    "depth": 3,
    "generator_rate": 1e-3,
    "discriminator_width": 8,
    "heads": 2,
    "head_width": 8,
}
_SMALL_PAINTING: dict[str, Any] = {
    **_SMALL,
    "depth": 4,
    "generator_rate": 1e-3,
    "discriminator_width": 16,
    "heads": 2,
    "head_width": 32,
}
_PAPER_PAINTING: dict[str, Any] = {
    **_PAPER,
    "depth": 4,
    "batch": 2,
    "generator_rate": 1e-4,
    "discriminator_rate": 1e-4,
    "discriminator_width": 64,
    "heads": 8,
    "head_width": 64,
    "zero_scores": False,
    "upsampling": "transposed",
    "perceptual": "vgg or features",
    "anneal": False,
}
# at a lower rate the discriminator does not tell flat from real images within minutes
_QUICK: dict[str, Any] = {"discriminator_rate": 2e-3, "noise_gain": 0.3}
_QUICK_CYCLE: dict[str, Any] = {
    "rate": 3e-3,
    "discriminator_rate": 4e-4,
    "weights": CycleWeights(
        adversarial=2.5, cycle_image=12.5, cycle_mask=25.0, identity_image=12.5, identity_mask=50.0
    ),
}
_QUICK_PAIRS: dict[str, Any] = {
    **_QUICK,
    "weights": CycleWeights(adversarial=5.0, cycle_image=0.0, cycle_mask=0.0, identity_image=25.0, identity_mask=0.0),
}
_QUICK_MOVIE: dict[str, Any] = {
    **_QUICK,
    "weights": MovieWeights(adversarial=5.0, flow=2.0, pixels=25.0, perceptual=25.0, temporal=5.0),
}
_QUICK_VID2VID: dict[str, Any] = {  # at a rate of 1e-3 tanh saturates, and paintings stay black
    "depth": 2,
    "blocks": 5,
    "clip": 1,
    "rate": 2e-4,
    "upsampling": "nearest",  # transposed convolutions paint lattices for longer than minutes
    "norm": "group",  # running statistics of short clips are not those of a movie
    "weights": Vid2VidWeights(pixels=10.0),
}
_QUICK_ENLARGING: dict[str, Any] = {
    **_QUICK,
    "weights": SuperResolutionWeights(adversarial=5.0, pixels=25.0, perceptual=25.0),
}

SEGMENTATION = {
    "tiny": Segmentation(**_TINY, depth=3, crop=(64, 64), rate=3e-3),
    "small": Segmentation(**_SMALL, depth=4, crop=(128, 128), rate=3e-3),
    "paper": Segmentation(**_PAPER, depth=4, crop=(512, 768), batch=2, rate=1e-4, anneal=False),
}
MEAN_TEACHER = {name: MeanTeacher(**vars(preset)) for name, preset in SEGMENTATION.items()}
CYCLE_GAN = {
    "tiny": CycleGAN(**_TINY_PAINTING, **_QUICK_CYCLE, crop=(64, 64)),
    "small": CycleGAN(**_SMALL_PAINTING, **_QUICK_CYCLE, crop=(128, 128)),
    "paper": CycleGAN(**_PAPER_PAINTING, crop=(512, 768), rate=1e-4, weights=CycleWeights()),
}
GENERATOR = {
    "tiny": Generator(**_TINY_PAINTING, **_QUICK_PAIRS, crop=(64, 64)),
    "small": Generator(**_SMALL_PAINTING, **_QUICK_PAIRS, crop=(128, 128)),
    "paper": Generator(**_PAPER_PAINTING, crop=(512, 768), background="painted", weights=CycleWeights()),
}
MOVIE = {
    "tiny": Movie(**_TINY_PAINTING, **_QUICK_MOVIE, crop=(64, 64), clip=3),
    "small": Movie(**_SMALL_PAINTING, **_QUICK_MOVIE, crop=(96, 96), clip=6),
    "paper": Movie(
        **_PAPER_PAINTING,
        **_PAPER_STAGE,
        mask_value=0.4,
        grown=0.2,
        condition="mask",
        half_resolution=False,
        crop=(256, 384),
        clip=10,
        draw_length=False,
        learn_last=False,
        in_use_from=1.0,
        contrast_error=0.0,
        max_gradient=None,
        residual=False,
        weights=MovieWeights(),
    ),
}
VID2VID = {
    "tiny": Vid2Vid(**_TINY, **_QUICK_VID2VID, crop=(64, 64), discriminator_width=8),
    "small": Vid2Vid(**_SMALL, **_QUICK_VID2VID, crop=(96, 96), discriminator_width=16),
    "paper": Vid2Vid(
        **{**_PAPER, "width": 128},
        batch=2,
        crop=(256, 384),
        clip=10,
        rate=2e-4,
        discriminator_width=64,
        perceptual="vgg or features",
    ),
}
SUPER_RESOLUTION = {
    "tiny": SuperResolution(**_TINY_PAINTING, **_QUICK_ENLARGING, crop=(64, 64)),
    "small": SuperResolution(**_SMALL_PAINTING, **_QUICK_ENLARGING, crop=(96, 96)),
    "paper": SuperResolution(
        **_PAPER_PAINTING, **_PAPER_STAGE, crop=(256, 384), residual=False, weights=SuperResolutionWeights()
    ),
}
TRACKER = {
    "tiny": Tracker(**_TINY, batch=2),
    "small": Tracker(**_SMALL, batch=4),
    "paper": Tracker(**_PAPER, batch=16),
}
LINKER = {
    "tiny": Linker(width=24, average=0.9, batch=4),
    "small": Linker(width=24, average=0.98, batch=8),
    "paper": Linker(width=24, average=0.98, batch=16),
}

USUAL: tuple[Hyperparameters, ...] = tuple(
    presets["small"]
    for presets in (SEGMENTATION, MEAN_TEACHER, CYCLE_GAN, GENERATOR, MOVIE, VID2VID, SUPER_RESOLUTION, TRACKER, LINKER)
)
"""the hyperparameters of each kind of training in the preset that is taken without --preset"""
WARM_START = 0.7  # share of a training in the cycle, if it starts warm, that learns from the annotated pairs alone
TEXTURES: dict[str, Perceptual] = {  # by preset, the perceptual loss of generators that paint backgrounds, too
    "tiny": "statistics",  # in short trainings features alone pull paintings towards grey
    "small": "statistics",
    "paper": "features",
}

Kind = TypeVar("Kind", bound=Hyperparameters)


def suited(parameters: Kind, preset: str, resize: tuple[int, int] | None, *, until_converged: bool) -> Kind:
    """Return the hyperparameters of a preset, suited to images of one size and to an open end.

    Where all images are resized to `resize` (height, width), windows of preset paper are whole images. Until
    convergence learning rates stay, as their fall would need a known end.
    """
    values = {"crop": resize if preset == "paper" else None, "anneal": False if until_converged else None}
    there = {entry.name for entry in dataclasses.fields(parameters)}
    wanted: dict[str, Any] = {name: value for name, value in values.items() if name in there and value is not None}
    return replace(parameters, **wanted)


def changed(parameters: Kind, assignments: Iterable[str]) -> Kind:
    """Return hyperparameters after assignments such as "rate=1e-3" or "weights.adversarial=2".

    Raises UserError for an unknown name, a value of another type or out of its range, and values that do not go
    together.
    """
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: write NAME=VALUE, such as rate=1e-3")
        parameters = _assigned(parameters, name.strip(), name.strip().split("."), text.strip())
    if problem := _problem(parameters):
        raise UserError(problem)
    return parameters


def altered(parameters: Kind, values: Mapping[str, Any]) -> Kind:
    """Return hyperparameters with other values; raises UserError as `changed`."""
    hints = get_type_hints(type(parameters), include_extras=True)
    if unknown := sorted(values.keys() - hints.keys()):
        raise UserError(f"{', '.join(unknown)}: there is no such hyperparameter; there are {', '.join(hints)}")
    valid = {name: checked(hints[name], value, f"{name}={value!r}") for name, value in values.items()}
    parameters = replace(parameters, **valid)
    if problem := _problem(parameters):
        raise UserError(problem.removeprefix("--set").lstrip(": "))
    return parameters


def _problem(parameters: Hyperparameters) -> str | None:
    """Say what does not go together, if anything."""
    crop, depth, factor = (getattr(parameters, name, None) for name in ("crop", "depth", "factor"))
    least = max(SMALLEST_WINDOW, 2 ** ((depth or 0) + 1))  # batch norm needs more than a pixel of the deepest maps
    if crop is not None and min(crop) < least:
        windows = f"windows of {crop[0]} x {crop[1]} px are too small"
        return f"--set: {windows}{f' for a depth of {depth}' if depth else ''}; give a crop of {least}x{least} or more"
    if factor is not None and (factor & (factor - 1) or factor > parameters.width):
        return f"--set factor={factor}: must be a power of two, and at most the width ({parameters.width})"
    if isinstance(parameters, Generator) and parameters.background == "real":
        if parameters.network == "unet":
            return "--set background=real: belongs to network=style-unet; give background=painted, too"
        if parameters.augmentation != "flip":
            return "--set background=real: other augmentation than flip would part image and background"
    return None


def _assigned(parameters: Any, name: str, path: list[str], text: str) -> Any:
    hints = get_type_hints(type(parameters), include_extras=True)
    if path[0] not in hints or (len(path) > 1) != dataclasses.is_dataclass(getattr(parameters, path[0])):
        known = ", ".join(entry.name for entry in described(parameters))
        raise UserError(f"--set {name}: there is no such hyperparameter; there are {known}")
    if len(path) > 1:
        return replace(parameters, **{path[0]: _assigned(getattr(parameters, path[0]), name, path[1:], text)})
    hint, given = hints[path[0]], f"--set {name}={text}"
    value: Any = text
    if get_origin(hint) is tuple:
        value = text.lower().replace("x", ",").strip("()").split(",")
    elif text.lower() == "none" and type(None) in get_args(hint):
        value = None
    value = checked(hint, value, given)
    try:
        return replace(parameters, **{path[0]: value})
    except ValueError as error:  # from the weights of losses
        raise UserError(f"{given}: {error}") from None


def checked(hint: Any, value: Any, given: str) -> Any:
    """Return a value converted to a type; raises UserError, which begins with `given`, where it does not fit."""
    try:
        return TypeAdapter(hint, config=None if dataclasses.is_dataclass(hint) else FINITE).validate_python(value)
    except ValidationError:
        raise UserError(f"{given}: takes {spoken(hint)}") from None


def spoken(hint: Any) -> str:
    """Say in words which values a type takes."""
    if get_origin(hint) is Annotated:
        kind, *remarks = get_args(hint)
        limits = [limit for remark in remarks for limit in remark.metadata]
        bounds = [
            f"{words} {getattr(limit, bound):g}"
            for limit in limits
            for bound, words in BOUNDS.items()
            if hasattr(limit, bound)
        ]
        return f"{spoken(kind)} {' and '.join(bounds)}"
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        least = spoken(get_args(hint)[0]).removeprefix("a whole number")
        return f"height x width, such as 128x128, each{least}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else spoken(part) for part in get_args(hint))
    if get_origin(hint) is Callable:
        return "a function"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


class Entry(NamedTuple):
    """A hyperparameter in words; of nested ones the name is dotted."""

    name: str
    value: Any
    type: Any
    meaning: str
    """its docstring"""


def described(parameters: Any, prefix: str = "") -> Iterator[Entry]:
    """Yield all hyperparameters, nested ones as well; `prefix` goes before their names."""
    hints, meanings = get_type_hints(type(parameters), include_extras=True), _meanings(parameters.__class__)
    for field in dataclasses.fields(parameters):
        value = getattr(parameters, field.name)
        if dataclasses.is_dataclass(value):
            yield from described(value, f"{prefix}{field.name}.")
        else:
            yield Entry(f"{prefix}{field.name}", value, hints[field.name], meanings[field.name])


@cache
def _meanings(kind: type[Any]) -> dict[str, str]:
    """Return the docstring of each attribute of a class and of its base classes, read from the source."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        (tree,) = ast.parse(inspect.getsource(part)).body
        assert isinstance(tree, ast.ClassDef)
        for line, following in pairwise(tree.body):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                match following:
                    case ast.Expr(ast.Constant(str(text))):
                        found[line.target.id] = " ".join(text.split())
    return found


def written(value: Any) -> str:
    """Return a value as --set takes it."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
