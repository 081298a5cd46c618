"""Settings of trainings: the flags of `cytoforge train ...`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from pydantic import Field, model_validator
from tyro.conf import Positional, UseAppendAction, arg

from cytoforge.settings.base import Count, Fraction, Present, ResultFolder, RunFolder, Size, StartFolder, command
from cytoforge.settings.reading import Reading

Method = Literal["conventional", "cyclegan", "two-stage", "mean-teacher"]
Condition = Literal["mask", "instances"]
Network = Literal["unet", "cellpose", "deepsea"]
TargetName = Literal["depth", "boundary", "semantic"]
Augmentation = Literal["strong", "paper"]
Schedule = Literal["mix", "pretrain"]
Perceptual = Literal["auto", "vgg", "features"]
Clock = Literal["wall", "processor"]
Norm = Literal["batch", "group"]
Scale = Annotated[float, Field(gt=0, le=8)] | Literal["auto"]
WIDTHS = {"tiny": 8, "small": 16, "paper": 64}  # of the generators, which bound --factor


@command
class Training(Reading):
    """The flags of every training."""

    data: Positional[Present]
    """dataset or movie folder"""
    out: ResultFolder
    """run folder to write"""
    preset: Literal["tiny", "small", "paper"] = "small"
    """size of networks, windows and batches"""
    minutes: Annotated[float, Field(gt=0, examples=[10])] | None = None
    """training time in minutes; 10 if neither this nor --steps nor --epochs is given"""
    steps: Count | None = None
    """number of training steps, instead of a time"""
    epochs: Count | None = None
    """number of passes over the training images, instead of a time"""
    until_converged: bool = False
    """stop when the validation score has not risen for a quarter of the steps so far, at the latest after the budget"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of everything random"""
    validation: Present | None = None
    """annotated images for choosing the best weights (of DATA itself: other sequences), or else a seeded fifth"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    split_by: Literal["auto", "image", "strip", "group"] = "auto"
    """hold out single images, a strip of each (auto, where there are few), or groups (wells) as dataset.json says"""
    fold: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$", examples=["2/5 for the second of five"])] | None = None
    """k-fold validation: 2/5 holds out the second of five parts"""
    norm: Norm = "batch"
    """normalisation layers: the papers' batch norm, or group norm"""
    patience: Count | None = None
    """stop after this many validations (of about 20 in a run) without improvement"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    devices: Count = 1
    """number of GPUs, or of processes on a CPU, that share each batch; with --nodes on each computer"""
    nodes: Count = 1
    """number of computers that train together, started by torchrun or srun"""
    accumulate: Count = 1
    """compute each batch in so many parts, one after the other, which needs less memory and a third more time"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor computes in it, float32 otherwise"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    clock: Clock = "wall"
    """whether --minutes are wall-clock time, or processor time, which other work on the computer does not cut short"""
    p_vanilla: Fraction = 0.2
    """with --augmentation paper, probability that a window is augmented"""
    set: UseAppendAction[tuple[str, ...]] = ()
    """a hyperparameter, such as rate=1e-3 (repeatable); --help-settings lists them"""
    help_settings: bool = False
    """list the hyperparameters of this training with values and meaning; needs neither DATA nor --out"""
    overwrite: bool = False
    """replace an existing run folder"""

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if problems := self._problems():
            raise ValueError("; ".join(problems))
        return self

    def given(self, name: str) -> bool:
        """Tell whether a setting differs from its default, which may be that of a recipe."""
        return bool(getattr(self, name) != type(self).__dataclass_fields__[name].default)

    def _problems(self) -> list[str]:
        """Return a sentence for each contradiction between flags."""
        problems = []
        if sum(budget is not None for budget in (self.minutes, self.steps, self.epochs)) > 1:
            problems.append("give one of --minutes, --steps and --epochs")
        if self.given("p_vanilla") and getattr(self, "augmentation", "") != "paper":
            problems.append("--p-vanilla belongs to --augmentation paper")
        if self.until_converged and self.patience is not None:
            problems.append("give --patience or --until-converged, not both")
        if self.fold is not None:
            part, parts = map(int, self.fold.split("/"))
            if part > parts or parts < 2:
                problems.append(f"--fold {self.fold} names no part: write 2/5 for the second of five")
            if self.validation is not None:
                problems.append("give --fold or --validation, not both")
        return problems


@command
class Limited(Training):
    """The flags of trainings that can use a part of the annotated images."""

    limit: Annotated[int, Field(ge=1, examples=[5])] | None = None
    """use only this many annotated images, training and validation together; smaller sets are part of larger ones"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.limit == 1 and self.validation is not None:
            problems.append("--limit 1 with --validation leaves no image to train on")
        return problems


@command
class Scaled(Training):
    """The flags of trainings whose networks see resized images."""

    scale: Scale = 1.0
    """resize images on reading, by a factor or so that cells suit the networks (auto); stored with the run"""
    resize: Size | None = None
    """resize all images to this height and width instead, whatever their aspect; stored with the run likewise"""

    def _problems(self) -> list[str]:
        both = self.resize is not None and self.given("scale")
        return [*super()._problems(), *(["give --scale or --resize, not both"] if both else [])]


@command
class PainterTraining(Training):
    """The flags of trainings with a generator and discriminators."""

    condition: Condition | None = None
    """what a generator is given: mask, as published; instances: also contacts, depth (default of two-stage, movies)"""
    perceptual: Perceptual = "auto"
    """compare paintings as VGG-19 or the discriminator (features) sees them, too; auto: vgg for preset paper"""
    attention: bool = True
    """linear attention in the discriminators"""
    style_mixing: Fraction = 0.9
    """probability that two styles are mixed in one generated image"""
    p_diff: Fraction = 0.2
    """probability of the differentiable augmentation before the image discriminator"""
    weights_dir: Present | None = None
    """folder with pretrained VGG-19 for the perceptual loss; also from CYTOFORGE_WEIGHTS"""


@command
class WithSynthetic(Training):
    """The flags of trainings that can learn from synthetic data, too."""

    synthetic: Annotated[Present | None, arg(name="with")] = None
    """synthetic annotated images to learn from beside DATA; never validated on"""
    schedule: Schedule = "mix"
    """mix: synthetic windows at random among the real ones; pretrain: synthetic windows first, as many in all"""
    synthetic_share: Fraction = 0.5
    """share of synthetic windows in the first 70 % of the training; its end sees real ones only"""


@command
class TrainSegmentation(Limited, Scaled, WithSynthetic, PainterTraining):
    """Train a segmenter on annotated images.

    DATA holds images/ and masks/ (label images: 0 background, 1..N cells) paired by file name, or is a movie folder.
    The run folder receives weights, metrics.csv, sample pictures and report.html. Interrupted training goes on
    when the same command is given again.

    Examples:
      cytoforge train segmentation DATA --out RUN
      cytoforge train segmentation DATA --out RUN --limit 5 --minutes 4 --scale 0.333
      cytoforge train segmentation DATA --out RUN --with SYNTHETIC
      cytoforge train segmentation DATA --out RUN --devices 4 --set batch=8
      cytoforge train segmentation DATA --out RUN --method cyclegan --warm-start
      cytoforge train segmentation DATA --out RUN --method cyclegan --unlabelled IMAGES
      cytoforge train segmentation DATA --out RUN --recipe cgan-seg --preset small --minutes 60
    """

    scale: Scale = "auto"
    """resize images on reading; auto: so that the annotated cells get the size that suits the networks best"""
    recipe: Literal["own", "cgan-seg"] = "own"
    """cgan-seg: all settings as published, 2500 epochs; other flags change single ones"""
    method: Method = "conventional"
    """conventional: pairs; cyclegan: cGAN-Seg, Fig. 1A; two-stage: generator first; mean-teacher: with --unlabelled"""
    unlabelled: Present | None = None
    """cyclegan and mean-teacher: images without masks to learn from, too; masks beside them are not read"""
    network: Network = "unet"
    """segmentation network"""
    target: TargetName = "depth"
    """depth: background, border and three depths inside cells; boundary: one; semantic: the paper's two classes"""
    augmentation: Augmentation = "strong"
    """strong: rotation, scale, elastic, contrast, noise, blur; paper: cGAN-Seg's conventional list"""
    generator: Literal["style-unet", "unet"] = "style-unet"
    """cyclegan: image generator, as --network of train generator"""
    masks: Literal["own", "simulated"] = "own"
    """cyclegan: what the forward cycle paints on, the masks of the images (the paper) or simulated ones"""
    start: StartFolder | None = None
    """base (the default where it fits, not of two-stage), scratch, or the run to go on from, your own or imported"""
    synthetic_images: Count = 36
    """two-stage: number of synthetic images to learn from"""
    warm_start: bool = False
    """cyclegan: generator and segmenter learn from the pairs first, the cycle and the adversaries join later"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.given("recipe"):
            problems.append(f"--recipe {self.recipe}: its settings are made by of_recipe")
        if self.warm_start and self.method != "cyclegan":
            problems.append("--warm-start belongs to --method cyclegan")
        if self.generator != "style-unet" and self.method != "cyclegan":
            problems.append("--generator belongs to --method cyclegan")
        if self.masks != "own" and self.method != "cyclegan":
            problems.append("--masks belongs to --method cyclegan")
        if self.condition is not None and self.method not in ("cyclegan", "two-stage"):
            problems.append("--condition belongs to --method cyclegan or two-stage")
        if self.synthetic is not None and self.method != "conventional":
            problems.append(f"--with belongs to --method conventional, not {self.method}")
        if self.unlabelled is not None and self.method not in ("cyclegan", "mean-teacher"):
            problems.append("--unlabelled belongs to --method cyclegan or mean-teacher")
        if self.unlabelled is None and self.method == "mean-teacher" and not self.help_settings:
            problems.append("--method mean-teacher needs --unlabelled IMAGES")
        if self.method == "two-stage" and self.devices * self.nodes > 1:
            problems.append("--method two-stage trains on one device; leave --devices and --nodes out")
        return problems


@command
class TrainGenerator(Limited, Scaled, PainterTraining):
    """Train an image generator on annotated images: it learns to paint a microscopy image on a mask.

    DATA as for train segmentation. The generator is trained against a discriminator and by comparison with the real
    image of each mask. Interrupted training goes on when the same command is given again.

    Examples:
      cytoforge train generator DATA --out RUN
      cytoforge train generator DATA --out RUN --condition instances --minutes 20
      cytoforge train generator DATA --out RUN --preset paper --start IMPORTED
    """

    network: Literal["style-unet", "unet"] = "style-unet"
    """style-unet: styles and noise vary the pictures; unet: one picture per mask (cGAN-Seg, Fig. 3)"""
    loss: Literal["l1", "l1+perceptual"] = "l1+perceptual"
    """comparison with the real image: pixel by pixel, or also by --perceptual"""
    background: Literal["auto", "real", "painted"] = "auto"
    """real: cells are added to DATA's images without their cells; painted: as in cGAN-Seg, default of preset paper"""
    augmentation: Literal["flip", "strong", "paper"] = "flip"
    """flip: flips and quarter turns, which keep texture and grey values; else as in train segmentation"""
    start: UseAppendAction[tuple[RunFolder, ...]] = ()
    """run whose generator or discriminator to go on from, your own or an imported one (repeatable)"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.background == "real" and self.network == "unet":
            problems.append("--background real belongs to --network style-unet")
        problems += _replaced(self.start, self.out)
        if self.background == "real" and self.augmentation != "flip":
            problems.append("--background real: other augmentation than flip would part image and background")
        return problems


@command
class TrainMovie(Scaled, PainterTraining):
    """Train a movie generator: it learns to paint the next frame on the masks of a movie, and to enlarge frames.

    DATA is a movie folder with masks of every frame. The generator sees the masks of the last frames, an earlier frame
    of its own and a background without cells; it is trained against a discriminator of frames in a row, with a network
    of optical flow beside it (tGAN). With --stage both it paints on reduced masks, and a super-resolution generator,
    trained after it against a discriminator of its own, enlarges its frames to --scale. The baseline vid2vid instead
    moves the last frame and paints anew where that does not do; it knows neither background nor styles. Interrupted
    training goes on when the same command is given again.

    Examples:
      cytoforge train movie DATA --out RUN --scale 0.5
      cytoforge train movie DATA --out RUN --sequence 01 --minutes 30
      cytoforge train movie DATA --out RUN --stage both --minutes 60
      cytoforge train movie DATA --out RUN --stage super-resolution --start FIRST --factor 2
      cytoforge train movie DATA --out RUN --preset paper --start GENERATOR --start FLOW
      cytoforge train movie DATA --out RUN --method vid2vid
      cytoforge train movie DATA --out RUN --recipe tgan
    """

    recipe: Literal["own", "tgan"] = "own"
    """tgan: all settings as published, 2500 epochs in each stage; other flags change single ones"""
    method: Literal["tgan", "vid2vid"] = "tgan"
    """tgan: as in tGAN, Fig. 1B; vid2vid: the baseline that it is compared with, three masks and two earlier frames"""
    stage: Literal["low-resolution", "super-resolution", "both"] = "low-resolution"
    """low-resolution: paint at --scale; both: paint smaller by --factor, and enlarge; super-resolution: only enlarge"""
    factor: Annotated[int, Field(ge=2, examples=[2])] = 2
    """how many times the super-resolution stage enlarges, a power of two"""
    start: UseAppendAction[tuple[RunFolder, ...]] = ()
    """run whose networks to go on from (repeatable); with super-resolution also that of the first stage, to enlarge"""
    window: Annotated[int, Field(ge=1, le=8)] = 2
    """tgan: frames whose masks the generator sees, and which the discriminator judges together"""
    lag: Annotated[int, Field(ge=1, le=8)] = 1
    """tgan: frames from the earlier frame that the generator is given to the frame that it paints"""
    augmentation: Literal["flip", "strong", "paper"] | None = None
    """as in train generator, all frames of a clip alike; flip by default, and paper in preset paper"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.given("recipe"):
            problems.append(f"--recipe {self.recipe}: its settings are made by of_recipe")
        if self.method == "vid2vid" and (self.window, self.lag) != (2, 1):
            problems.append("--window and --lag belong to --method tgan")
        if self.method == "vid2vid" and self.stage != "low-resolution":
            problems.append("--stage: vid2vid has one stage; leave it out, or take --method tgan")
        if self.factor & (self.factor - 1):
            problems.append(f"--factor {self.factor} is no power of two: give 2, 4 or 8")
        if self.stage != "low-resolution" and self.factor > (most := WIDTHS[self.preset]):
            problems.append(f"--factor {self.factor} is too large for --preset {self.preset}: give {most} or less")
        if self.stage == "super-resolution" and not self.start and not self.help_settings:
            problems.append(
                "--stage super-resolution needs the run of the first stage: give it with --start, or --stage both"
            )
        if self.start and self.method == "vid2vid":
            problems.append("--start belongs to --method tgan")
        problems += _replaced(self.start, self.out)
        if self.stage == "both" and self.devices * self.nodes > 1:
            problems.append("--stage both trains on one device; leave --devices out, or train the stages one by one")
        return problems


def _replaced(start: tuple[Path, ...], out: Path) -> list[str]:
    """Return a sentence if a run to start from would be replaced."""
    replaced = any(path.resolve() == out.resolve() for path in start)
    return ["--out would replace the run given with --start; choose another folder"] if replaced else []


@command
class TrainTracker(Limited, WithSynthetic):
    """Train a tracker on a tracked movie: it learns what cells become in later frames, and when they divide.

    DATA is a movie folder with masks and man_track.txt or res_track.txt; some 5 frames are enough to begin with. By
    --method global it learns from masks, real ones and simulated ones like these, to decide all links of a movie at
    once; training takes about a minute. By --method deepsea a network sees a window about every cell, in its frame and
    in the next, at one size whatever that of the cell. Interrupted training goes on when the same command is given
    again.

    Examples:
      cytoforge train tracker DATA --out RUN
      cytoforge train tracker DATA --out RUN --sequence 01 --validation DATA
      cytoforge train tracker DATA --out RUN --method deepsea --limit 20 --with SYNTHETIC
    """

    data: Positional[Present]
    """movie folder with tracks"""
    method: Literal["global", "deepsea"] = "global"
    """global: the whole movie is decided at once, by places and forms; deepsea: from frame to frame, by images"""
    start: StartFolder | None = None
    """global: base, the default, a run of that method to go on from, or scratch for random weights"""
    augmentation: Augmentation | Literal["flip"] = "strong"
    """deepsea: as in train segmentation and train generator; both windows of a cell are varied alike"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.method == "global" and self.synthetic is not None:
            problems.append("--with belongs to --method deepsea; global learns from simulated cells anyway")
        if self.method == "global" and self.accumulate > 1:
            problems.append("--accumulate belongs to --method deepsea; batches of global need little memory")
        if self.method == "global":
            idle = [f"--{name}".replace("_", "-") for name in ("norm", "augmentation", "p_vanilla") if self.given(name)]
            problems += [f"{flag} belongs to --method deepsea" for flag in idle]
        if self.method == "deepsea" and self.start is not None:
            problems.append("--start belongs to --method global")
        return problems


RECIPES: dict[str, dict[str, dict[str, object]]] = {  # by command and name, the flags that a recipe sets
    "TrainSegmentation": {
        "cgan-seg": {  # Zargari et al. 2024; docs/papers.md
            "method": "cyclegan",
            "preset": "paper",
            "target": "semantic",
            "augmentation": "paper",
            "resize": "512x768",
            "epochs": 2500,
            "patience": 4,  # of 20 validations: 500 epochs
        },
    },
    "TrainMovie": {
        "tgan": {"stage": "both", "preset": "paper", "augmentation": "paper", "resize": "512x768", "epochs": 2500},
    },
}


INSTEAD = {"scale": "resize", "minutes": "epochs", "steps": "epochs", "until_converged": "patience"}
"""flags, and those of a recipe that they stand in for"""


def of_recipe(kind: type[Training], name: str, given: Iterable[str] = ()) -> type[Training]:
    """Return the settings of a training with the defaults of a recipe; `kind` itself where there is no such recipe.

    `given` are the settings that the user gives, whatever their values; the recipe does not set what they stand in for.
    """
    values = RECIPES.get(kind.__name__, {}).get(name)
    if values is None:
        return kind
    hints = get_type_hints(kind, include_extras=True)
    left_out = {INSTEAD[flag] for flag in given if flag in INSTEAD}
    kept = {flag: value for flag, value in values.items() if flag not in left_out}
    return _derived(kind, {flag: (hints[flag], value) for flag, value in {"recipe": name, **kept}.items()})


def _derived(kind: type[Training], fields: Mapping[str, tuple[object, object]]) -> type[Training]:
    """Return settings with other types and defaults of some fields."""
    hints = {name: hint for name, (hint, _) in fields.items()}
    content: dict[str, object] = {"__annotations__": hints, "__doc__": kind.__doc__}
    derived: type[Training] = command(
        type(kind.__name__, (kind,), content | {name: value for name, (_, value) in fields.items()})
    )
    return derived


def without_paths(kind: type[Training]) -> type[Training]:
    """Return the settings of a training without the need for DATA and --out, as for --help-settings."""
    return _derived(kind, {"data": (Positional[Path], Path()), "out": (Path, Path())})
