"""Types of measurements: the scores in a file `results/NAME.json`, and all measurements of a study.

Scores are checked when they are read back, because people may have edited the files. None stands for what is undefined
or could not be computed; scores that were not requested are not in the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from cytoforge.studies.specification import (
    AblationStudy,
    DenseStudy,
    ExtrapolationStudy,
    GeneratorStudy,
    LabelMethod,
    LimitedDataStudy,
    MovieStudy,
    TrackingStudy,
    TrainingStudy,
)

Score = Annotated[float, Field(allow_inf_nan=False)] | None
Scores = TypeVar("Scores", bound="Stored")
THRESHOLDS = 5  # number of thresholds of F, precision and recall: IoU 0.5, 0.6 ... 0.9


class Stored(BaseModel):
    """Scores of one measurement: frozen; numbers are numbers, not text."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds: only what was set, by the names there."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class ImageScores(Stored):
    """How well a test image was segmented."""

    f_score: Annotated[list[Score], Field(min_length=THRESHOLDS, max_length=THRESHOLDS)]
    precision: Annotated[list[Score], Field(min_length=THRESHOLDS, max_length=THRESHOLDS)]
    recall: Annotated[list[Score], Field(min_length=THRESHOLDS, max_length=THRESHOLDS)]
    dice: Score = None


class SegmenterScores(Stored):
    """A training of a segmenter, and how well it segments the test images."""

    steps: Annotated[int, Field(ge=0)]
    """training steps of the segmenter in all its stages"""
    seconds: float = 0.0
    """duration of the last training"""
    verdict: str = ""
    trained_on: list[str] = []
    """names of the images for training and validation"""
    images: dict[str, ImageScores] = {}
    """by name of the test image, by the protocol `instances`"""
    paper: dict[str, ImageScores] = {}
    """the same by the protocol `paper`"""


class PaintingScores(Stored):
    """How well a generator paints."""

    notes: list[str] = []
    network: str | None = None
    """network whose features KID, FID, precision, recall, density and coverage compare"""
    kid: Score = Field(default=None, alias="KID")
    fid: Score = Field(default=None, alias="FID")
    precision: Score = None
    recall: Score = None
    density: Score = None
    coverage: Score = None
    ssim: Score = Field(default=None, alias="SSIM")
    psnr: Score = Field(default=None, alias="PSNR")
    lpips: Score = Field(default=None, alias="LPIPS")
    lpips_network: str | None = None
    faithfulness: Score
    """share of the masks' cells that the reference segmenter finds"""


class SideScores(Stored):
    """Scores of one movie; the real one compares each frame with the next, and its first half with the second."""

    ssim: Score = Field(default=None, alias="SSIM")
    psnr: Score = Field(default=None, alias="PSNR")
    lpips: Score = Field(default=None, alias="LPIPS")
    lpips_network: str | None = None
    frames: Score = None
    """Frechet distance of frames"""
    clips: Score = None
    """Frechet distance of clips"""
    warping_error: Score = Field(default=None, alias="warping error")
    flicker: Score = None
    drift: dict[str, Annotated[list[Score], Field(min_length=2, max_length=2)]] = {}
    """drift of grey values and of textures, by number of frames"""
    by_length: dict[str, Score] = {}
    """Frechet distance of clips, by their number of frames"""
    faithfulness: Score = None


class MovieScores(SideScores):
    """How well a movie is painted, beside the real one."""

    notes: list[str] = []
    steps: int | None = None
    """training steps of the generator, of both stages where it has two; None before the study kept them"""
    seconds: float | None = None
    """time of its training, likewise"""
    frames_network: str | None = None
    clips_network: str | None = None
    real: SideScores


class TrackingScores(Stored):
    """How well a movie is tracked; further scores, which no table shows, are kept as well."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Score]

    mota: Score
    mostly_tracked: Score
    mostly_lost: Score
    precision: Score
    recall: Score
    idf1: Score
    hota: Score
    switches: Score
    lnk: Score
    division_f_1: Score
    script_mota: Score = None
    """MOTA as the published script computes it (`metrics.deepsea`)"""


Arms = Mapping[str, Sequence[SegmenterScores]]
"""By way of training, a measurement for each seed."""


@dataclass(frozen=True, kw_only=True)
class MeasuredTraining:
    """What `study training` measures."""

    study: TrainingStudy
    datasets: Mapping[str, Mapping[tuple[str, str], Sequence[SegmenterScores]]]
    """by data set; by network and way of training; a measurement for each seed"""


@dataclass(frozen=True, kw_only=True)
class MeasuredDense:
    """What `study dense` measures."""

    study: DenseStudy
    arms: Arms
    touching: Mapping[str, float]
    """share of the cells of each test image that touch others"""


@dataclass(frozen=True)
class Amount:
    """An amount of labels, mean over seeds."""

    images: float
    """in whole images; crops count by their cells, of which a whole image has so many on average"""
    cells: float
    """annotated cells"""


@dataclass(frozen=True, kw_only=True)
class MeasuredLimitedData:
    """What `study limited-data` measures."""

    study: LimitedDataStudy
    curves: Mapping[str, Mapping[LabelMethod, Sequence[SegmenterScores]]]
    """by amount of labels, such as `1 crop` or `5 images`, few first, and method; a measurement for each seed"""
    amounts: Mapping[str, Amount]
    zero: Sequence[SegmenterScores]
    """the base model as it is, on the test images of each seed"""
    touching: Mapping[str, float]
    """share of the cells of each test image that touch others"""
    left_out: Sequence[str] = ()
    """what was not measured, and why"""


@dataclass(frozen=True)
class Paintings:
    """Test images and what generators painted on their masks, as datasets."""

    name: str
    test: Path
    painted: Mapping[str, Path]
    """by title"""


@dataclass(frozen=True, kw_only=True)
class MeasuredAblation:
    """What `study ablation` measures."""

    study: AblationStudy
    generators: Mapping[str, Sequence[PaintingScores]]
    left_out: Mapping[str, str]
    """generators that could not be trained, and why"""
    paintings: Paintings


@dataclass(frozen=True, kw_only=True)
class MeasuredVersatility:
    """What `study versatility` measures."""

    study: GeneratorStudy
    datasets: Mapping[str, Sequence[PaintingScores]]
    paintings: Sequence[Paintings]


@dataclass(frozen=True)
class DensePaintings:
    """Simulated masks of one layout and density, painted."""

    scores: Sequence[PaintingScores]
    reached: float
    """mean coverage of the masks, 0 to 1"""
    painted: Path
    """dataset of the first seed"""


@dataclass(frozen=True, kw_only=True)
class MeasuredExtrapolation:
    """What `study extrapolation` measures, by layout and density."""

    study: ExtrapolationStudy
    densities: Mapping[tuple[str, float], DensePaintings]


@dataclass(frozen=True)
class DenseMovie:
    """A simulated movie of one layout and density, painted."""

    scores: Sequence[MovieScores]
    painted: Path
    """movie of the first seed"""


@dataclass(frozen=True)
class OnBackground:
    """A movie painted on a background."""

    title: str
    painted: Path
    deviation: float | None
    """standard deviation over time of pixels that never hold a cell, in grey values from -1 to 1"""


@dataclass(frozen=True, kw_only=True)
class MeasuredMovies:
    """What `study movie` measures, by method."""

    study: MovieStudy
    test: Path
    """test movie"""
    scores: Mapping[str, Sequence[MovieScores]]
    painted: Mapping[str, Path]
    """movie of the first seed on the masks of the test"""
    long: Mapping[str, Sequence[MovieScores]]
    """scores of long simulated movies, by method"""
    dense: Mapping[tuple[str, float], DenseMovie]
    """by layout and density, of the first method"""
    segmenters: Arms
    """by training data: real, painted, both"""
    backgrounds: Sequence[OnBackground]
    """movies of tGAN; empty if tGAN is not compared"""


@dataclass(frozen=True)
class TriedDistance:
    """A distance in pixels that a tracker was tried with on the frames for training."""

    tracker: str
    distance: float
    idf1: float
    best: bool


class Taught(NamedTuple):
    """What a tracker has learned from, and which masks it links."""

    tracker: str
    """global, deepsea, or the name of one that learns nothing"""
    frames: int
    """real frames"""
    source: str
    """real, painted or simulated, both; or nothing"""
    masks: str
    """true or wrong"""


@dataclass(frozen=True, kw_only=True)
class MeasuredTracking:
    """What `study tracking` measures."""

    study: TrackingStudy
    absent: Mapping[str, str]
    """by tracker that could not run, why"""
    tried: Sequence[TriedDistance]
    compared: Mapping[tuple[str, str], Sequence[TrackingScores]]
    """by tracker and movie: real, or the method that painted it"""
    trained: Mapping[Taught, Sequence[TrackingScores]]
    """of links between masks that are given"""
