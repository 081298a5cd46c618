"""Settings of studies."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from tyro.conf import Positional, UseAppendAction

from cytoforge.settings.base import Count, Fraction, Present, Size, command
from cytoforge.settings.division import Division
from cytoforge.settings.training import Augmentation, Clock, Condition, Network, Scale, TargetName

Way = Literal["conventional", "cyclegan", "cyclegan-simulated", "cyclegan-unlabelled", "mean-teacher", "all"]
LabelMethod = Literal[
    "paper",
    "scratch",
    "two-stage",
    "base",
    "base-two-stage",
    "base-cyclegan",
    "base-cyclegan-unlabelled",
    "base-mean-teacher",
]


@command
class Study:
    """Settings that all studies share."""

    data: Positional[tuple[Present, ...]]
    """annotated images: dataset or movie folder"""
    out: Path
    """folder to write"""
    test: Present | None = None
    """annotated images to test on; without it every seed draws its own from DATA"""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """share of DATA's images that are for testing, without --test"""
    seeds: Count = 3
    """number of repetitions, each with its own draw of images and weights"""
    seed: Annotated[int, Field(ge=0)] = 0
    """the first seed"""
    preset: Literal["tiny", "small", "paper"] = "small"
    """size of networks, windows and batches"""
    minutes: Annotated[float, Field(gt=0)] = 10.0
    """time of each training"""
    epochs: Count | None = None
    """passes of each training over its images, instead of a time"""
    steps: Count | None = None
    """steps of each training, instead of a time"""
    until_converged: bool = False
    """stop each training when its validation score has not risen for a quarter of its steps"""
    clock: Clock = "wall"
    """what minutes are, as in train segmentation"""
    resize: Size | None = None
    """resize all images to this height and width, whatever their aspect"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to train on, such as 01 (repeatable); without it all but those tested on"""
    test_sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder DATA, or of --test, to test on (repeatable)"""
    network: Network = "unet"
    """network of segmenters"""
    target: TargetName = "depth"
    """target of segmenters, as in train segmentation"""
    augmentation: Augmentation = "strong"
    """augmentation of segmenters, as in train segmentation"""
    protocol: Annotated[tuple[Literal["instances", "paper"], ...], Field(min_length=1)] = ("instances", "paper")
    """how segmentations are scored, as in score segmentation; charts and differences are by the first"""
    weights_dir: Present | None = None
    """folder with pretrained feature networks; also from CYTOFORGE_WEIGHTS"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    overwrite: bool = False
    """replace an existing study"""

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        if problems := self._problems():
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """Return one sentence for each contradiction between settings."""
        problems = [] if self.data else ["name a dataset"]
        if self.epochs is not None and self.steps is not None:
            problems.append("give --epochs or --steps, not both")
        if self.test is not None and len(self.data) > 1:
            problems.append("--test belongs to a single DATA")
        named = [path.resolve().parts[-2:] for path in self.data]
        if len(set(named)) < len(named):
            problems.append("several DATA have one name and lie in folders of one name; rename one")
        return problems + self._named_twice()

    def _named_twice(self) -> list[str]:
        """Return one sentence for each list with repeated entries, which would be trained once but counted twice."""
        lists = {name: given for name, given in vars(self).items() if isinstance(given, tuple) and name != "data"}
        return [
            f"--{name.replace('_', '-')}: {value} is named twice; name each once"
            for name, given in lists.items()
            for value in dict.fromkeys(given)
            if given.count(value) > 1
        ]

    def _single(self) -> list[str]:
        return ["give a single DATA"] if len(self.data) > 1 else []


@command
class UniformStudy(Study):
    """Settings of studies whose trainings all see as many images at one scale."""

    scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    """resize images on reading"""
    images: Annotated[int, Field(ge=2)] | None = None
    """use only this many annotated images, training and validation together"""

    def _problems(self) -> list[str]:
        both = self.resize is not None and self.scale != 1
        return [*super()._problems(), *(["give --scale or --resize, not both"] if both else [])]


@command
class DividedStudy(Study, Division):
    """Settings of studies whose measurements can be divided."""


@command
class StudyTraining(UniformStudy, DividedStudy):
    """Compare training on few images, conventional and cyclegan, with conventional training on all (cGAN-Seg, Fig. 2).

    Writes OUT/report.html and OUT/results.json; interrupted, it goes on when the same command is given again.

    Examples:
      cytoforge study training DATA --out OUT --images 20 --minutes 10
      cytoforge study training DATA --out OUT --target semantic --augmentation paper --steps 20000 --until-converged
      cytoforge study training DATA1 DATA2 --out OUT --networks unet cellpose
      cytoforge study training DATA --out OUT --ways conventional cyclegan-unlabelled mean-teacher
      cytoforge study training DATA --out OUT --steps 2000 --part 3/16
    """

    images: Annotated[int, Field(ge=2)] = 20
    """number of the few annotated images to train on, including those for validation"""
    seeds: Count = 5
    """number of random subsets"""
    networks: Annotated[tuple[Network, ...], Field(min_length=1)] = ("unet", "cellpose", "deepsea")
    """segmentation networks to compare"""
    ways: Annotated[tuple[Way, ...], Field(min_length=1)] = ("conventional", "cyclegan", "all")
    """ways of training; cyclegan-unlabelled and mean-teacher see the images that are left over, too, without masks"""
    warm_start: bool = True
    """cyclegan: learn from the pairs first"""

    def _problems(self) -> list[str]:
        single = ["--network: this study compares those of --networks; give that"] if self.network != "unet" else []
        return [*super()._problems(), *single]


@command
class StudyDense(UniformStudy, DividedStudy):
    """Compare training on real images with and without dense synthetic ones, on easy and hard images (Table 2).

    Examples:
      cytoforge study dense DATA --out OUT --images 5 --minutes 10
      cytoforge study dense DATA --out OUT --images 200 --synthetic-images 700 --network deepsea --target semantic
    """

    synthetic_images: Count = 36
    """number of dense synthetic images"""
    condition: Condition | None = "instances"
    """what the generator is given of the cells"""

    def _problems(self) -> list[str]:
        return [*super()._problems(), *self._single()]


@command
class StudyLimitedData(DividedStudy):
    """Measure learning curves: scores by number of labels, from scratch and from the base model, and label efficiency.

    Label efficiency is how many times as many labels training from scratch needs for the same score. All trainings have
    equal budgets. Writes OUT/report.html and OUT/results.json; interrupted, it goes on when the same command is given
    again.

    Examples:
      cytoforge study limited-data DATA --out OUT --minutes 6 --clock processor
      cytoforge study limited-data DATA --out OUT --methods scratch base --images 1 2 5
      cytoforge study limited-data DATA --out OUT --steps 2000 --cluster slurm:16
      cytoforge study limited-data DATA --out OUT --crops 1 2 4 8 --crop 176 --images --methods scratch two-stage
    """

    images: tuple[Count, ...] = (1, 2, 5, 10, 25)
    """numbers of annotated images, training and validation together; more than there are are left out"""
    crops: tuple[Count, ...] = (1,)
    """numbers of labelled crops, which lie before the images on the curves"""
    crop: Annotated[int, Field(ge=32)] = 176
    """side of a crop in pixels, at --scale"""
    methods: Annotated[tuple[LabelMethod, ...], Field(min_length=1)] = (
        "paper",
        "scratch",
        "base",
        "base-two-stage",
        "base-mean-teacher",
    )
    """trainings to compare; paper: from scratch with two classes and the published augmentation, for --augmentation"""
    unlabelled: Present | None = None
    """images without masks, for base-cyclegan-unlabelled and base-mean-teacher; without it those of DATA left over"""
    scale: Scale = "auto"
    """resize images on reading; auto: each training so that its annotated cells get the size that suits the networks"""
    synthetic_images: Count = 36
    """two-stage: number of synthetic images"""
    condition: Condition | None = "instances"
    """what the generator is given of the cells"""

    def _problems(self) -> list[str]:
        problems = [*super()._problems(), *self._single()]
        if not self.images and not self.crops:
            problems.append("give numbers of --images or --crops")
        if self.resize is not None and self.scale != "auto":
            problems.append("give --scale or --resize, not both")
        if self.unlabelled is not None and not {"base-cyclegan-unlabelled", "base-mean-teacher"} & set(self.methods):
            problems.append("--unlabelled belongs to base-cyclegan-unlabelled and base-mean-teacher of --methods")
        return problems


@command
class StudyGenerators(UniformStudy, DividedStudy):
    """Settings that studies of generators share."""

    condition: Condition | None = "instances"
    """what generators are given of the cells"""


@command
class StudyAblation(StudyGenerators):
    """Compare generators with and without styles, perceptual loss and instances (cGAN-Seg, Figure 3).

    Examples:
      cytoforge study ablation DATA --out OUT --images 5 --minutes 10
      cytoforge study ablation DATA --out OUT --cycle --network deepsea --target semantic --resize 512x768
    """

    cycle: bool = False
    """train generators in cGAN-Seg's cycle, with a segmenter of --network, instead of on pairs alone"""

    condition: Condition | None = "mask"
    """what generators are given of the cells, except generators that are given instances"""

    def _problems(self) -> list[str]:
        return [*super()._problems(), *self._single()]


@command
class StudyVersatility(StudyGenerators):
    """Train a generator on each of several data sets and score what it paints (cGAN-Seg, Figure 4).

    Examples:
      cytoforge study versatility DATA1 DATA2 DATA3 --out OUT --minutes 10
    """


@command
class StudyExtrapolation(StudyGenerators):
    """Let a generator paint cells denser than any it has seen, scattered and in colonies (cGAN-Seg, Figure 5).

    Examples:
      cytoforge study extrapolation DATA --out OUT --minutes 10
    """

    densities: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    """shares of the image that are cell"""
    count: Count = 8
    """masks of each density and layout"""

    def _problems(self) -> list[str]:
        too_dense = ["--densities go from 0.01 to 0.7"] if not all(0.01 <= d <= 0.7 for d in self.densities) else []
        return [*super()._problems(), *self._single(), *too_dense]


@command
class StudyMovies(UniformStudy, DividedStudy):
    """Settings that studies of movies share."""

    test_sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of DATA, or of --test, to test on (repeatable); without it the last not trained on, or all of --test"""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.35
    """share of the frames that are for testing, the last ones, where DATA has no other sequence to test on"""
    condition: Condition | None = None
    """what tGAN is given of the cells; without it as in train movie"""

    def _problems(self) -> list[str]:
        return [*super()._problems(), *self._single()]


@command
class StudyMovie(StudyMovies):
    """Compare movies painted by tGAN and vid2vid: quality, length, density, background (tGAN, Table 1, Fig. 3 to 5).

    DATA is a movie folder with tracks. Writes OUT/report.html and OUT/results.json; interrupted, it goes on when the
    same command is given again.

    Examples:
      cytoforge study movie DATA --out OUT --minutes 10
      cytoforge study movie DATA --out OUT --sequence 01 --test-sequence 02 --scale 0.5
    """

    methods: Annotated[tuple[Literal["tgan", "vid2vid"], ...], Field(min_length=1)] = ("tgan", "vid2vid")
    """generators to compare; dense movies are painted by the first, other backgrounds by tgan"""
    frames: Annotated[int, Field(ge=10)] = 100
    """frames of the simulated movie that shows how paintings drift"""
    densities: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.3, 0.5)
    """shares of the image that are cell, of dense movies"""
    backgrounds: tuple[Present, ...] = ()
    """images without cells to paint before; without any the mirrored background of DATA"""
    max_steps: Count | None = 2000
    """train each also until validation has not risen for a quarter of so many steps, the most; None: only --minutes"""
    stage: Literal["low-resolution", "both"] = "low-resolution"
    """both: also paint with tgan at half of the size and enlarge, by super-resolution and by interpolation (Fig. 1C)"""

    def _problems(self) -> list[str]:
        too_dense = ["--densities go from 0.01 to 0.7"] if not all(0.01 <= d <= 0.7 for d in self.densities) else []
        unheeded = self.backgrounds and "tgan" not in self.methods
        unknown = ["--backgrounds belong to tgan, which --methods leave out"] if unheeded else []
        idle = self.stage == "both" and "tgan" not in self.methods
        alone = ["--stage both belongs to tgan, which --methods leave out"] if idle else []
        return [*super()._problems(), *too_dense, *unknown, *alone]


@command
class StudyTracking(StudyMovies):
    """Compare trackers on real and painted movies (tGAN, Tables 2 and 3), and train them on real and simulated frames.

    Frames are segmented by a segmenter trained on DATA for the first part; the second links the true masks, and such
    as are wrong on purpose. Writes OUT/report.html and OUT/results.json; interrupted, it goes on when the same command
    is given again.

    Examples:
      cytoforge study tracking DATA --out OUT --minutes 10
      cytoforge study tracking DATA --out OUT --sequence 01 --test-sequence 02 --scale 0.5 --frames 10 30
      cytoforge study tracking DATA --out OUT --minutes 1 --learners global --methods
    """

    methods: tuple[Literal["tgan", "vid2vid"], ...] = ("tgan", "vid2vid")
    """generators whose movies are tracked; the first paints what deepsea learns from; without a name none paints"""
    trackers: Annotated[
        tuple[Literal["base", "overlap", "laptrack", "btrack", "deepsea"], ...], Field(min_length=1)
    ] = (
        "base",
        "overlap",
        "laptrack",
        "btrack",
        "deepsea",
    )
    """trackers to compare; those that are not installed are named and left out"""
    learners: Annotated[tuple[Literal["global", "deepsea"], ...], Field(min_length=1)] = ("global", "deepsea")
    """trackers that learn from few real frames, from movies simulated after these (painted for deepsea), and both"""
    frames: tuple[Annotated[int, Field(ge=5)], ...] = (10, 30, 100)
    """numbers of real frames that trackers and the generator learn from; more than there are are left out"""
    tune: bool = False
    """choose the distance of laptrack and btrack by the tracks of the frames for training, before they are compared"""

    def _problems(self) -> list[str]:
        idle = self.tune and not {"laptrack", "btrack"} & set(self.trackers)
        bare = "deepsea" in self.learners and not self.methods
        return [
            *super()._problems(),
            *(["deepsea learns from what --methods paint; name one, or give --learners global"] if bare else []),
            *(["--tune is for laptrack and btrack, which --trackers leave out"] if idle else []),
        ]
