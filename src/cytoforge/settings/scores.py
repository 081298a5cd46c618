"""Settings of scores."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from tyro.conf import Positional, UseAppendAction

from cytoforge.settings.base import Count, NewFile, Present, RunFolder, Size, command
from cytoforge.settings.division import Division


@command
class Score:
    """Settings that all scores share."""

    prediction: Positional[Present]
    """what is scored"""
    truth: Positional[Present]
    """what it is compared with"""
    json: NewFile | None = None
    """write everything to this file"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of the bootstrap"""
    overwrite: bool = False
    """replace an existing file"""
    allow_synthetic: bool = False
    """accept synthetic data as truth"""


@command
class DividedScore(Score, Division):
    """Settings of scores whose items are scored independently of each other."""

    out: Path | None = None
    """write everything to scores.json in this folder, where the parts of divided work meet; --part needs it"""

    @model_validator(mode="after")
    def _meets(self) -> Self:
        if self.part is not None and self.out is None:
            raise ValueError("--part needs --out, the folder in which all parts meet")
        if self.out is not None and self.json is not None:
            raise ValueError("give --json or --out, not both; scores.json in OUT holds the same")
        return self


@command
class ScoreSegmentation(DividedScore):
    """Compare predicted with true masks: precision, recall, F at IoU 0.5 to 0.9, Dice, with 95 % intervals.

    Examples:
      cytoforge score segmentation OUT DATA
      cytoforge score segmentation OUT DATA --protocol paper --json scores.json
      cytoforge score segmentation OUT DATA --allow-missing
      cytoforge score segmentation FOUND DATA --out SCORES --part 3/16
    """

    prediction: Positional[Present]
    """dataset folder, folder of masks, one mask or a movie folder"""
    truth: Positional[Present]
    """the same, with the true masks"""
    protocol: Literal["instances", "paper"] = "instances"
    """instances: true cells, optimally matched; paper: connected components of at least 15 px, as cGAN-Seg scores"""
    allow_missing: bool = False
    """score the masks that both sides have, where some true ones have no prediction; says how many are left out"""


@command
class ScoreTracking(DividedScore):
    """Compare predicted with true tracks: MOTA, IDF1, HOTA, CHOTA; SEG, DET, TRA, LNK; divisions.

    Both are movie folders with masks and tracks; sequences are paired by name. Of a folder with results (01_RES) and
    truth (01_GT) the results are the prediction, so both may be one folder.

    Examples:
      cytoforge score tracking OUT DATA
      cytoforge score tracking OUT DATA --sequence 02 --json scores.json
    """

    prediction: Positional[Present]
    """movie folder with the predicted tracks"""
    truth: Positional[Present]
    """movie folder with the true tracks"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence to score, such as 01 (repeatable); all of TRUTH without it"""


@command
class ScorePaintings(Score):
    """Settings that scores of generated images and movies share."""

    weights_dir: Present | None = None
    """folder with pretrained feature networks; also from CYTOFORGE_WEIGHTS, or where weights fetch put them"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    classifier: bool = False
    """also train a classifier to tell painted from real crops, half a minute: accuracy on unseen ones, 0.5 is best"""


@command
class ScoreGeneration(ScorePaintings):
    """Compare generated with real images: KID and FID, precision and recall, and LPIPS, SSIM, PSNR of pairs.

    What needs a pretrained network is scored where its weights are (--weights-dir). Pairs are scored if every
    generated image has a real one of the same name and size.

    Examples:
      cytoforge score generation OUT DATA
      cytoforge score generation OUT DATA --training TRAINED --json scores.json
      cytoforge score generation OUT DATA --classifier
    """

    prediction: Positional[Present]
    """generated images: dataset folder, folder of images, one image or a movie folder"""
    truth: Positional[Present]
    """the same, with real images"""
    training: Present | None = None
    """images that the generator was trained on: are generated ones copies of these?"""
    scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    """resize real images on reading, to the scale at which the others were generated"""
    resize: Size | None = None
    """resize real images to this height and width instead, as in the training of the generator"""
    normalisation: Literal["set", "image"] | None = None
    """real images between the limits of all (set) or of each (image); without it image for what cytoforge painted"""

    @model_validator(mode="after")
    def _consistent(self) -> "ScoreGeneration":
        if self.resize is not None and self.scale != 1:
            raise ValueError("give --scale or --resize, not both")
        return self


@command
class ScoreMovie(ScorePaintings):
    """Compare a generated movie with a real one: frames, clips, coherence over time, drift, faithfulness to its cells.

    Both are movie folders with tracks. Sequences that were painted on masks of TRUTH, under the same names, are also
    compared frame by frame. The real movie's own values stand beside those of the generated one.

    Examples:
      cytoforge score movie OUT DATA --sequence 02
      cytoforge score movie OUT DATA --segmenter RUN --json scores.json
      cytoforge score movie OUT DATA --classifier
    """

    prediction: Positional[Present]
    """generated movie: movie folder with frames, masks and tracks"""
    truth: Positional[Present]
    """the same, with real frames"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of TRUTH to compare with, such as 02 (repeatable), and of PREDICTION if it has it; all without it"""
    scale: Annotated[float, Field(gt=0, le=8, examples=[0.5])] | None = None
    """resize real frames on reading; without it to the scale that dataset.json tells of PREDICTION"""
    segmenter: RunFolder | None = None
    """run whose segmenter segments all frames of both movies"""
