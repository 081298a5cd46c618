"""Specifications of studies: frozen dataclasses of data, seeds, budget and so on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cytoforge.training.hyperparameters import Condition
from cytoforge.training.specification import DEFAULT_MINUTES, Budget, Compute

MovieMethod = Literal["tgan", "vid2vid"]
Protocol = Literal["instances", "paper"]
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
SegmenterNetwork = Literal["unet", "cellpose", "deepsea"]
LAYOUTS: tuple[Literal["scattered", "colony"], ...] = ("scattered", "colony")  # of simulated dense cells
CONVERGED = "converged"  # what a generator is called that was trained until its validation no longer rose
CLIP_LENGTHS = (2, 4, 8, 16, 32)  # frames of the clips whose distances are measured
SHORT_MOVIE = 10  # frames of a dense movie, and of one on another background
SIMULATED_SEQUENCES = 2  # of painted movies that a tracker is trained on


@dataclass(frozen=True, kw_only=True)
class Study:
    """Specification that all studies share."""

    data: tuple[Path, ...]
    """annotated images: dataset or movie folders"""
    test: Path | None = None
    """annotated images to test on; if None, every seed draws its own from `data`"""
    test_share: float = 0.15
    """share of the images that is drawn to test on"""
    seeds: tuple[int, ...] = (0,)
    """one seed per repetition, each with its own draw of images and weights"""
    preset: Literal["tiny", "small", "paper"] = "small"
    """size of networks, windows and batches"""
    budget: Budget = field(default_factory=lambda: Budget(seconds=60 * DEFAULT_MINUTES))
    """budget of each training"""
    scale: float = 1.0
    """factor by which images are resized on reading"""
    resize: tuple[int, int] | None = None
    """height and width in pixels to which every image is resized instead"""
    images: int | None = None
    """number of annotated images to use, training and validation together; all without it"""
    sequence: tuple[str, ...] = ()
    """sequences of a movie folder to train on; all but those tested on without any"""
    test_sequence: tuple[str, ...] = ()
    """sequences of a movie folder to test on"""
    network: SegmenterNetwork = "unet"
    """network of segmenters"""
    target: Literal["depth", "boundary", "semantic"] = "depth"
    augmentation: Literal["strong", "paper"] = "strong"
    """augmentation of segmenters"""
    protocols: tuple[Protocol, ...] = ("instances", "paper")
    """protocols by which segmentations are scored; the first is that of differences and charts"""
    compute: Compute = field(default_factory=Compute)


@dataclass(frozen=True, kw_only=True)
class TrainingStudy(Study):
    """Training on few images, conventional and cyclegan, against conventional training on all."""

    images: int
    """number of the few images, training and validation together"""
    networks: tuple[SegmenterNetwork, ...]
    ways: tuple[Way, ...] = ("conventional", "cyclegan", "all")
    """ways of training; those called unlabelled, and mean-teacher, see all other images without their masks"""
    warm_start: bool = True
    """whether cyclegan learns from the pairs first"""


@dataclass(frozen=True, kw_only=True)
class DenseStudy(Study):
    """Training on real images with and without dense synthetic ones."""

    synthetic_images: int = 36
    condition: Condition | None = "instances"
    """what the generator is given of the cells"""


@dataclass(frozen=True, kw_only=True)
class LimitedDataStudy(Study):
    """Learning curves: scores by number of labelled crops and images."""

    crops: tuple[int, ...]
    """numbers of crops"""
    crop: int
    """side of a crop in pixels, at `scale`"""
    counts: tuple[int, ...]
    """numbers of whole images; more than there are are left out"""
    methods: tuple[LabelMethod, ...]
    """trainings to compare"""
    unlabelled: Path | None = None
    """images without masks for the methods that learn from such, too; None for those of `data` that are left over"""
    fitted: bool = False
    """whether each training finds its scale from its own masks, and a crop that of its pixels from those of `data`"""
    synthetic_images: int = 36
    condition: Condition | None = "instances"
    """what the generator is given of the cells"""


@dataclass(frozen=True, kw_only=True)
class GeneratorStudy(Study):
    """Studies of image generators: `ablation` and `versatility`."""

    condition: Condition | None = "instances"
    """what generators are given of the cells"""


@dataclass(frozen=True, kw_only=True)
class AblationStudy(GeneratorStudy):
    """Parts of the generator, one by one."""

    cycle: bool = False
    """whether generators learn in cGAN-Seg's cycle, with a segmenter (cGAN-Seg, Figure 3), or from pairs alone"""


@dataclass(frozen=True, kw_only=True)
class ExtrapolationStudy(GeneratorStudy):
    """Cells denser than any that the generator has seen."""

    densities: tuple[float, ...]
    """coverages: shares of the image that are cell"""
    count: int
    """masks of each density and layout"""


@dataclass(frozen=True, kw_only=True)
class SequenceStudy(Study):
    """Studies of movies: which sequences are trained on and which tested on."""

    test_share: float = 0.35
    """share of the frames, the last ones, to test on where there is no other sequence for that"""
    methods: tuple[MovieMethod, ...] = ("tgan", "vid2vid")
    condition: Condition | None = None
    """what tGAN is given of the cells; None for that of its preset"""


@dataclass(frozen=True, kw_only=True)
class MovieStudy(SequenceStudy):
    """Movies of tGAN and vid2vid: quality, length, density, background."""

    frames: int
    """number of frames of the simulated movie that shows how paintings drift"""
    densities: tuple[float, ...]
    """coverages: shares of the image that are cell, of dense movies"""
    backgrounds: tuple[Path, ...] = ()
    """images without cells to paint on; if empty, the mirrored background of `data`"""
    max_steps: int | None = None
    """most steps of a training that goes on until it has converged, beside those of equal time; None for none"""
    stage: Literal["low-resolution", "both"] = "low-resolution"
    """both: tGAN's two stages, too, which paint at half of the size and enlarge"""


@dataclass(frozen=True, kw_only=True)
class TrackingStudy(SequenceStudy):
    """Trackers on real and painted movies, and trained on either."""

    trackers: tuple[Literal["base", "overlap", "laptrack", "btrack", "deepsea"], ...]
    learners: tuple[Literal["global", "deepsea"], ...]
    """trackers that learn from few frames"""
    frames: tuple[int, ...]
    """numbers of real frames that trackers and the generator learn from"""
    tune: bool = False
    """whether the distance of laptrack and btrack is tuned on the frames for training"""
