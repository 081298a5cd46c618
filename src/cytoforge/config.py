"""One frozen, validated dataclass per command: default, type, help, flag and check are defined here once."""

from collections.abc import Callable
from dataclasses import field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from tyro.conf import Positional, UseAppendAction, arg

from cytoforge.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Method = Literal["conventional", "cyclegan", "two-stage"]
Condition = Literal["mask", "instances"]
Network = Literal["unet", "cellpose", "deepsea"]
TargetName = Literal["boundary", "semantic"]
Augmentation = Literal["strong", "paper"]
Schedule = Literal["mix", "pretrain"]
Norm = Literal["batch", "group"]


FITTING_DIAMETER = 16.0  # px: cells of this size fill a window of the small preset with some twenty neighbours


def fitting_scale(diameter: float) -> float | None:
    """Return the --scale that brings cells of `diameter` px to FITTING_DIAMETER; None when they nearly have it."""
    ratio = FITTING_DIAMETER / diameter
    return None if 1 / 1.4 < ratio < 1.4 else float(f"{ratio:.2g}")


@dataclass_transform(frozen_default=True)
def command(kind: type) -> Any:
    """Make a frozen, validated dataclass whose errors are one sentence in the names of the flags.

    Raises UserError with all problems at once when it is built from wrong values.
    """
    checked = dataclass(frozen=True, config=ConfigDict(extra="forbid"))(kind)
    build: Callable[..., None] = checked.__init__

    @wraps(build)
    def __init__(self: object, *args: object, **values: object) -> None:
        try:
            build(self, *args, **values)
        except ValidationError as error:
            raise UserError("; ".join(map(_problem, error.errors()))) from None

    checked.__init__ = __init__  # type: ignore[method-assign]
    return checked


def _problem(details: Any) -> str:
    sentence = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return str(sentence)
    return f"--{str(details['loc'][0]).replace('_', '-')} {details['input']}: {sentence[0].lower()}{sentence[1:]}"


@dataclass(frozen=True)
class Preset:
    """Sizes and rates of a training; `paper` holds the values of cGAN-Seg's published code."""

    width: int
    """channels of the first level of generator and segmenter"""
    depth: int
    """number of poolings of the U-shaped networks (the CellPose and DeepSea networks use at most 3)"""
    crop: tuple[int, int]
    """window cut from an image, height x width in pixels"""
    batch: int
    """windows per step of the conventional recipe"""
    cycle_batch: int
    """windows per step of the cyclegan recipe"""
    rate: float
    """learning rate of the segmenter (Adam)"""
    generator_rate: float
    """learning rate of the generator (Adam)"""
    discriminator_rate: float
    """learning rate of the discriminators (Adam)"""
    discriminator_width: int
    """channels of the discriminators' first layer"""
    heads: int
    """heads of the discriminators' linear attention (0: none)"""
    head_width: int
    """channels of one attention head"""
    average: float
    """decay of the exponential moving average of the weights per step"""
    upsampling: Literal["transposed", "nearest"]
    """how the generator doubles the size of its maps (the paper: transposed convolutions)"""
    anneal: bool
    """let the learning rates fall along a cosine (the paper keeps them constant)"""
    paper_weights: bool
    """loss weights of cGAN-Seg Eq. 16 instead of those found for minutes-long training"""


PRESETS: dict[str, Preset] = {
    "tiny": Preset(8, 3, (64, 64), 1, 1, 3e-3, 1e-3, 4e-4, 8, 2, 8, 0.98, "nearest", True, False),
    "small": Preset(16, 4, (128, 128), 1, 1, 3e-3, 1e-3, 4e-4, 16, 2, 32, 0.99, "nearest", True, False),
    "paper": Preset(64, 4, (512, 768), 2, 2, 1e-4, 1e-4, 1e-4, 64, 8, 64, 0.999, "transposed", False, True),
}


@command
class Training:
    """What every training on annotated images asks for."""

    data: Positional[Path]
    """dataset or movie folder"""
    out: Path
    """run folder to write"""
    preset: Literal["tiny", "small", "paper"] = "small"
    """size of networks, windows and batches"""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """training time in minutes; 10 if neither this nor --steps is given"""
    steps: Count | None = None
    """number of training steps, instead of a time"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of everything random"""
    limit: Annotated[int, Field(ge=1)] | None = None
    """use only this many annotated images, training and validation together; smaller sets are part of larger ones"""
    validation: Path | None = None
    """annotated images for choosing the best weights (of DATA itself: other sequences), or else a seeded fifth"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    split_by: Literal["image", "group"] = "image"
    """hold out single images, or whole groups (wells, sequences) as dataset.json names them"""
    fold: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] | None = None
    """k-fold validation: 2/5 holds out the second of five parts"""
    scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    """resize images on reading; stored with the run, segment returns masks of the original size"""
    condition: Condition = "mask"
    """what a generator is told of cells: mask, as in cGAN-Seg; instances: also where they touch, and their depth"""
    norm: Norm = "batch"
    """normalisation layers: the paper's batch norm, or group norm"""
    attention: bool = True
    """linear attention in the discriminators"""
    style_mixing: Fraction = 0.9
    """probability that two styles are mixed in one generated image"""
    p_diff: Fraction = 0.2
    """probability of the differentiable augmentation before the image discriminator"""
    patience: Count | None = None
    """stop after this many validations (of about 20 in a run) without improvement"""
    weights_dir: Path | None = None
    """folder with pretrained VGG-19 for the perceptual loss; also from CYTOFORGE_WEIGHTS"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to compute"""
    devices: Count = 1
    """number of GPUs, or of processes on a CPU"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor computes in it, float32 otherwise"""
    threads: Count | None = None
    """threads of a CPU; all cores without it"""
    overwrite: bool = False
    """replace an existing run folder"""

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if problems := self._problems():
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """Return what contradicts itself, a sentence each."""
        problems = []
        if self.minutes is not None and self.steps is not None:
            problems.append("give --minutes or --steps, not both")
        if self.fold is not None:
            part, parts = map(int, self.fold.split("/"))
            if part > parts or parts < 2:
                problems.append(f"--fold {self.fold} names no part: write 2/5 for the second of five")
            if self.validation is not None:
                problems.append("give --fold or --validation, not both")
        if self.limit == 1 and self.validation is not None:
            problems.append("--limit 1 with --validation leaves no image to train on")
        return problems


@command
class TrainSegmentation(Training):
    """Train a segmenter on annotated images.

    DATA holds images/ and masks/ (label images: 0 background, 1..N cells) paired by file name, or is a movie folder.
    The run folder receives weights, metrics.csv, sample pictures and report.html. Interrupted training goes on
    when the same command is given again.

    Examples:
      cytoforge train segmentation DATA --out RUN
      cytoforge train segmentation DATA --out RUN --limit 5 --minutes 4 --scale 0.333
      cytoforge train segmentation DATA --out RUN --with SYNTHETIC
      cytoforge train segmentation DATA --out RUN --method cyclegan --warm-start
    """

    method: Method = "conventional"
    """conventional: pairs alone; cyclegan: as in cGAN-Seg, Fig. 1A; two-stage: a generator, then --with its pictures"""
    network: Network = "unet"
    """segmentation network"""
    target: TargetName = "boundary"
    """boundary: background, interior, border (touching cells stay apart); semantic: the paper's two classes"""
    augmentation: Augmentation = "strong"
    """strong: rotation, scale, elastic, contrast, noise, blur; paper: cGAN-Seg's conventional list"""
    warm_start: bool = False
    """cyclegan: generator and segmenter learn from the pairs first, the cycle and the adversaries join later"""
    synthetic: Annotated[Path | None, arg(name="with")] = None
    """synthetic annotated images to learn from beside DATA; never validated on"""
    schedule: Schedule = "mix"
    """mix: synthetic windows at random among the real ones; pretrain: synthetic windows first, as many in all"""
    synthetic_share: Fraction = 0.5
    """share of synthetic windows in the first 70 % of the training; its end sees real ones only"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.warm_start and self.method != "cyclegan":
            problems.append("--warm-start belongs to --method cyclegan")
        if self.condition != "mask" and self.method == "conventional":
            problems.append("--condition belongs to --method cyclegan or two-stage")
        if self.synthetic is not None and self.method != "conventional":
            problems.append(f"--with belongs to --method conventional, not {self.method}")
        if self.method == "two-stage" and self.devices > 1:
            problems.append("--method two-stage trains on one device; leave --devices out")
        return problems


@command
class TrainGenerator(Training):
    """Train an image generator on annotated images: it learns to paint a microscopy image on a mask.

    DATA as for train segmentation. The generator is trained against a discriminator and by comparison with the real
    image of each mask. Interrupted training goes on when the same command is given again.

    Examples:
      cytoforge train generator DATA --out RUN
      cytoforge train generator DATA --out RUN --condition instances --minutes 20
    """

    network: Literal["style-unet", "unet"] = "style-unet"
    """style-unet: styles and noise vary the pictures; unet: one picture per mask (cGAN-Seg, Fig. 3)"""
    loss: Literal["l1", "l1+perceptual"] = "l1+perceptual"
    """comparison with the real image: pixel by pixel, or also as a pretrained network sees it"""
    augmentation: Literal["flip", "strong", "paper"] = "flip"
    """flip: flips and quarter turns, which keep texture and grey values; else as in train segmentation"""


@command
class Segment:
    """Segment images with a trained run: label images of the original size in OUT/masks.

    IMAGES is a dataset, a folder of images, one file or a movie folder, of any size.

    Examples:
      cytoforge segment RUN IMAGES --out OUT
    """

    run: Positional[Path]
    """run folder of train segmentation or import"""
    images: Positional[Path]
    """what to segment"""
    out: Path
    """folder to write masks/ into"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    tile: Annotated[int, Field(ge=32)] | None = None
    """tile side in pixels at the run's scale; without it the size stored with the run"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; all cores without it"""
    overwrite: bool = False
    """replace existing masks"""


@command
class GenerateImages:
    """Paint images on masks with a trained generator: an annotated synthetic dataset in OUT.

    MASKS is a dataset, a folder of masks or one mask, of any size; its own images, if any, are not looked at. Masks
    are brought to the run's scale, as images are for segment. The same masks, run and seed give the same images.

    Examples:
      cytoforge generate images RUN MASKS --out OUT
      cytoforge generate images RUN MASKS --out OUT --variants 3 --keep 0.9
    """

    run: Positional[Path]
    """run folder with a generator: train segmentation --method cyclegan, train generator or import"""
    masks: Positional[Path]
    """what to paint on"""
    out: Path
    """dataset folder to write"""
    variants: Count = 1
    """images per mask, each in a style of its own; NAME-v1, NAME-v2 ... from 2 on"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of styles and noise; an image depends on it, the name of its mask and its variant only"""
    style_mixing: Fraction = 0.9
    """probability that two styles are mixed in an image"""
    keep: Annotated[float, Field(gt=0, le=1)] | None = None
    """keep this share of the images: near-duplicates go first, then those in which a segmenter finds fewest cells of
    the mask; 1 keeps all and only measures"""
    segmenter: Path | None = None
    """with --keep: run whose segmenter looks at the images, instead of the generator's own run"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; all cores without it"""
    overwrite: bool = False
    """replace an existing synthetic dataset"""

    @model_validator(mode="after")
    def _consistent(self) -> "GenerateImages":
        if self.segmenter is not None and self.keep is None:
            raise ValueError("--segmenter belongs to --keep")
        return self


@command
class ScoreSegmentation:
    """Compare predicted with true masks: precision, recall, F at IoU 0.5 to 0.9, Dice, with 95 % intervals.

    Examples:
      cytoforge score segmentation OUT DATA
      cytoforge score segmentation OUT DATA --protocol paper --json scores.json
    """

    prediction: Positional[Path]
    """dataset folder, folder of masks, one mask or a movie folder"""
    truth: Positional[Path]
    """the same, with the true masks"""
    protocol: Literal["instances", "paper"] = "instances"
    """instances: true cells, optimally matched; paper: connected components of at least 15 px, as cGAN-Seg scores"""
    json: Path | None = None
    """write everything, image by image, to this file"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of the bootstrap"""
    overwrite: bool = False
    """replace an existing file"""
    allow_synthetic: bool = False
    """accept synthetic images as truth"""


@command
class ScoreGeneration:
    """Compare generated with real images: KID and FID, precision and recall, and LPIPS, SSIM, PSNR of pairs.

    What needs a pretrained network is scored where its weights are (--weights-dir). Pairs are scored if every
    generated image has a real one of the same name and size.

    Examples:
      cytoforge score generation OUT DATA
      cytoforge score generation OUT DATA --training TRAINED --json scores.json
    """

    prediction: Positional[Path]
    """generated images: dataset folder, folder of images, one image or a movie folder"""
    truth: Positional[Path]
    """the same, with real images"""
    training: Path | None = None
    """images that the generator was trained on: are generated ones copies of these?"""
    scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    """resize real images on reading, to the scale at which the others were generated"""
    normalisation: Literal["set", "image"] = "set"
    """set: all images between the limits of the real ones together; image: each between its own, as in training"""
    weights_dir: Path | None = None
    """folder with pretrained Inception, SqueezeNet and LPIPS weights; also from CYTOFORGE_WEIGHTS"""
    json: Path | None = None
    """write everything to this file"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of the bootstrap"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; all cores without it"""
    overwrite: bool = False
    """replace an existing file"""
    allow_synthetic: bool = False
    """accept synthetic images as truth"""


@command
class Check:
    """Look through a dataset or movie folder for what would spoil training, and say what to do about it.

    Exit status 1 if there are errors.

    Examples:
      cytoforge check DATA
    """

    data: Positional[Path]
    """dataset or movie folder"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to look at, such as 01 (repeatable); all without it"""
    json: bool = False
    """print findings as JSON"""


@command
class ImportCheckpoint:
    """Turn a published cGAN-Seg checkpoint into a run folder.

    Examples:
      cytoforge import Seg.pth --network unet --out RUN
    """

    checkpoint: Positional[Path]
    """the .pth file; only tensors are read from it"""
    network: Literal["style-unet", "unet", "cellpose", "deepsea", "patchgan"]
    """what the file holds"""
    out: Path
    """run folder to write"""
    overwrite: bool = False
    """replace an existing run folder"""


@command
class SimulateMasks:
    """Make label images of simulated cells: shapes of your own cells turned, stretched, bent and put together anew.

    DATA of --like is a dataset, a folder of masks or a movie folder. Without it cells have shapes of a model. Writes
    OUT/masks, statistics of simulated against real cells in OUT/statistics.json, and both as a page, OUT/report.html.
    Interrupted work goes on when the same command is given again.

    Examples:
      cytoforge simulate masks --like DATA --out OUT --count 20
      cytoforge simulate masks --like DATA --out OUT --density 0.5 --layout colony --scale 0.333
      cytoforge simulate masks --out OUT --size 512x768 --density 150 --diameter 24
    """

    out: Path
    """folder to write"""
    like: Path | None = None
    """annotated masks whose cells, density and share of touching cells are taken as a model"""
    count: Count = 10
    """number of masks"""
    density: Annotated[float, Field(gt=0)] | None = None
    """below 1 coverage, up to 0.7; from 1 on cells an image; without it that of DATA's images (0.2 without DATA)"""
    layout: Literal["scattered", "colony", "mixed"] = "mixed"
    """scattered: single cells; colony: packed colonies; mixed: groups and single cells, as many touching as in DATA"""
    gap: Annotated[int, Field(ge=0, le=100)] = 0
    """background pixels, at least, between cells; 0 lets cells touch"""
    magnification: Annotated[float, Field(gt=0, le=8)] = 1.0
    """enlarge the cells, not the image"""
    size: Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")] | None = None
    """height x width in pixels, such as 512x768; without it that of DATA's images at --scale (256x256 without DATA)"""
    scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    """resize DATA's masks on reading, as in the training that the simulated masks are for"""
    diameter: Annotated[float, Field(ge=4, le=1000)] | None = None
    """median diameter of the model's cells in pixels, without --like; 16 if not given"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of everything random; mask number k depends on the seed and k only"""
    overwrite: bool = False
    """replace simulated masks in OUT"""

    @model_validator(mode="after")
    def _consistent(self) -> "SimulateMasks":
        problems = []
        if self.density is not None and 0.7 < self.density < 1:
            problems.append(f"--density {self.density}: coverage goes up to 0.7")
        if self.density is not None and self.density > 1 and self.density != int(self.density):
            problems.append(f"--density {self.density}: from 1 on it is a whole number of cells")
        if self.like is not None and self.diameter is not None:
            problems.append("--diameter is for cells without --like; --magnification enlarges those of DATA")
        if self.like is None and self.scale != 1:
            problems.append(
                "--scale resizes the masks of --like, which is not given; --diameter sets the size of cells"
            )
        if self.like is None and self.sequence:
            problems.append("--sequence picks from the movie folder of --like, which is not given")
        if problems:
            raise ValueError("; ".join(problems))
        return self


@command
class Demo:
    """Train on four annotated phantom images in several ways, score it on unseen ones, show all in one page.

    Examples:
      cytoforge demo
    """

    out: Path = field(default_factory=lambda: Path("demo"))
    """folder to write"""
    preset: Literal["tiny", "small"] = "small"
    """tiny takes under a minute and shows that everything runs; small shows what the methods do"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of phantoms and training"""
    overwrite: bool = False
    """replace an existing folder"""
