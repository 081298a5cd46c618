"""Settings of the commands that neither train, score nor study."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from tyro.conf import Positional, UseAppendAction

from cytoforge.settings.base import Count, Fraction, Interval, Length, Present, ResultFolder, RunFolder, command
from cytoforge.settings.division import Division
from cytoforge.settings.reading import Reading


@command
class Segment(Reading, Division):
    """Segment images with the base model or a trained run: label images of the original size in OUT/masks.

    IMAGES is a dataset, a folder of images, one file or a movie folder, of any size. Masks of zarr images are OME-Zarr
    label images with smaller copies, those of PNG images are PNG, all others TIFF.

    Examples:
      cytoforge segment base IMAGES --out OUT
      cytoforge segment base IMAGES --out OUT --diameter 30
      cytoforge segment RUN IMAGES --out OUT
      cytoforge segment base IMAGES --out OUT --channel DAPI --project max
      cytoforge segment base IMAGES --out OUT --diameter 30 --part 3/16
      cytoforge segment base IMAGES --out OUT --cluster local:4
      cytoforge segment base SLIDE.zarr --out OUT
    """

    run: Positional[RunFolder]
    """base, the model that comes with cytoforge, or the run folder of train segmentation or import"""
    images: Positional[Present]
    """what to segment"""
    out: Path
    """folder to write masks/ into"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    diameter: Annotated[float, Field(gt=0, examples=[30])] | None = None
    """base: median diameter of the cells in pixels; without it it is estimated from the images"""
    tile: Annotated[int, Field(ge=32, examples=[256])] | None = None
    """tile side in pixels at the run's scale; without it the size stored with the run"""
    views: Literal[1, 2, 4] | None = None
    """average over so many mirror images of each image, for better cells in so many times the time; without it 4"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of products: bfloat16 is over twice as fast where the processor has it, and changes some pixels in a thousand"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    overwrite: bool = False
    """replace existing masks"""


@command
class Suggest(Reading):
    """Find out which images to label next: crops of those about which a run contradicts itself most, in OUT.

    IMAGES is a dataset, a folder of images, one file or a movie folder, of any size; images with a mask are passed
    over. Each image is segmented as it is and turned and mirrored, eight times in all, and crops of some 25 cells are
    ranked by how much the cells differ, one crop an image first. Writes a dataset: OUT/images, OUT/masks with the cells
    that the run finds, to be corrected, OUT/suggestions.csv, and all as a page, OUT/report.html. Interrupted work goes
    on when the same command is given again.

    Examples:
      cytoforge suggest RUN IMAGES --out OUT --count 5
      cytoforge suggest base IMAGES --out OUT
    """

    run: Positional[RunFolder]
    """base, or the run folder of train segmentation or import"""
    images: Positional[Present]
    """where to look for what to label"""
    out: ResultFolder
    """dataset folder to write"""
    count: Count = 10
    """number of crops, at most"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    overwrite: bool = False
    """replace former suggestions; masks that were corrected are never replaced"""


@command
class GenerateImages(Division):
    """Paint images on masks with a trained generator: an annotated synthetic dataset in OUT.

    MASKS is a dataset, a folder of masks or one mask, of any size; its own images, if any, are not looked at. Masks
    are brought to the run's scale, as images are for segment. The same masks, run and seed give the same images.

    Examples:
      cytoforge generate images RUN MASKS --out OUT
      cytoforge generate images RUN MASKS --out OUT --variants 3 --keep 0.9
      cytoforge generate images RUN MASKS --out OUT --cluster local:4
    """

    run: Positional[RunFolder]
    """run folder with a generator: train segmentation --method cyclegan, train generator or import"""
    masks: Positional[Present]
    """what to paint on"""
    out: ResultFolder
    """dataset folder to write"""
    variants: Count = 1
    """images per mask, each in a style of its own; NAME-v1, NAME-v2 ... from 2 on"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of styles and noise; an image depends on it, the name of its mask and its variant only"""
    style_mixing: Fraction = 0.9
    """probability that two styles are mixed in an image"""
    keep: Annotated[float, Field(gt=0, le=1, examples=[0.75])] | None = None
    """share of images to keep: near-duplicates go first, then where a segmenter misses most; 1: only measure"""
    segmenter: RunFolder | None = None
    """with --keep: run whose segmenter checks the images, instead of the generator's own run"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    overwrite: bool = False
    """replace an existing synthetic dataset"""

    @model_validator(mode="after")
    def _consistent(self) -> "GenerateImages":
        if self.segmenter is not None and self.keep is None:
            raise ValueError("--segmenter belongs to --keep")
        return self


@command
class GenerateMovie(Division):
    """Paint a movie on masks with a trained movie generator: a movie folder with frames, masks and tracks in OUT.

    MASKS is a movie folder with masks, and tracks if there are any, of any size and length; its own frames are not
    looked at. Frames have the size of the masks at the run's scale, and contrast, grey values and noise of the movie
    that RUN was trained on; OUT/01.mp4 is to look at. The same masks, run and seed give the same movie. Interrupted
    work goes on when the same command is given again.

    Examples:
      cytoforge generate movie RUN MASKS --out OUT
      cytoforge generate movie RUN MASKS --out OUT --sequence 02 --background empty.tif
      cytoforge generate movie RUN MASKS --out OUT --no-noise
    """

    run: Positional[RunFolder]
    """run folder of train movie, or of an imported movie generator"""
    masks: Positional[Present]
    """movie folder to paint on"""
    out: ResultFolder
    """movie folder to write"""
    background: Present | None = None
    """image without cells that becomes the background of the movie; without it one of the run's own"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of MASKS to paint, such as 01 (repeatable); all without it"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of style, noise and background; a movie depends on it and the name of its sequence only"""
    style_mixing: Fraction = 0.9
    """probability that two styles are mixed in a movie"""
    noise: bool = True
    """add the noise of the training movie's camera to each frame, drawn anew"""
    contrast: bool = True
    """give each cell and its descendants a contrast to the background drawn from those of the training movie"""
    texture: bool = False
    """give each cell texture and contrast of a real cell of the training movie, stretched to its outline"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    overwrite: bool = False
    """replace an existing synthetic movie"""


TRACKERS = ("overlap", "laptrack", "btrack")


@command
class Track(Reading, Division):
    """Track the cells of a movie: masks with an id for each track, and who descends from whom, in OUT/01_RES.

    MOVIE is a movie folder with masks, or with frames that --segment has segmented first. The numbers of the cells in
    the masks do not matter. TRACKER is base where it is left out (learned from simulated cells; the whole movie is
    decided at once), or the run folder of a training, overlap (cells that overlap from frame to frame), laptrack
    (nearest cells; extra tracking), or btrack (nearest to where a cell should be by its speed; extra btrack).
    OUT/report.html shows the trajectories over the frames, a film of them (OUT/01.mp4) and the lineages. Interrupted
    work goes on when the same command is given again.

    Examples:
      cytoforge track MOVIE --out OUT
      cytoforge track MOVIE --out OUT --segment base
      cytoforge track RUN MOVIE --out OUT
      cytoforge track overlap MOVIE --out OUT --segment RUN
    """

    tracker: Positional[str] = field(default="base", kw_only=True)
    """base, run folder of train tracker, overlap, laptrack or btrack"""
    movie: Positional[Present]
    """movie folder to track"""
    out: ResultFolder
    """movie folder to write"""
    segment: RunFolder | None = None
    """run folder of train segmentation or import, to segment the frames with; without it MOVIE's masks are taken"""
    diameter: Annotated[float, Field(gt=0, examples=[30])] | None = None
    """--segment base: median diameter of the cells in pixels; without it it is estimated from the frames"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of MOVIE to track, such as 01 (repeatable); all without it"""
    gap: Annotated[int, Field(ge=0, le=10)] | None = None
    """frames for which a cell may be missing and keep its track; 1 without it"""
    distance: Annotated[float, Field(gt=0, examples=[30])] | None = None
    """laptrack, btrack: pixels that a cell may move from frame to frame; without it by the cells' median diameter"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """where to compute"""
    threads: Count | None = None
    """threads of a CPU; without it OMP_NUM_THREADS, or all cores that this process may use"""
    overwrite: bool = False
    """replace an existing result of track"""

    @model_validator(mode="after")
    def _consistent(self) -> "Track":
        if str(self.movie) in ("base", *TRACKERS) and not self.movie.exists():
            raise ValueError(f"{self.movie}: is a tracker, and no movie is given; name the movie after it")
        if self.distance is not None and self.tracker not in ("laptrack", "btrack"):
            raise ValueError(f"--distance: belongs to laptrack and btrack, not to {self.tracker}; leave it out")
        if self.gap is not None and self.tracker not in TRACKERS:
            raise ValueError(f"--gap: belongs to {', '.join(TRACKERS)}; leave it out")
        if self.diameter is not None and self.segment is None:
            raise ValueError("--diameter: is that of the cells that --segment base is to find; add --segment base")
        return self


@command
class Check(Reading):
    """Look through a dataset or movie folder for what would spoil training, and say what to do about it.

    Exit status 1 if there are errors, with --fix only if they are in the copy, too.

    Examples:
      cytoforge check DATA
      cytoforge check DATA --fix COPY
    """

    data: Positional[Present]
    """dataset or movie folder"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to look at, such as 01 (repeatable); all without it"""
    fix: ResultFolder | None = None
    """write a copy in which binary masks are numbered and cells in pieces split; DATA stays as it is"""
    overwrite: bool = False
    """with --fix: replace an existing copy"""
    json: bool = False
    """print findings as JSON"""


@command
class ImportCheckpoint:
    """Turn a published checkpoint of cGAN-Seg, tGAN or DeepSea's tracker into a run folder.

    Data of other programs are turned into folders by cytoforge import dataset, import movie and import tracks.

    Examples:
      cytoforge import Seg.pth --network unet --out RUN
      cytoforge import low_res_Gen.pth --network movie --out RUN
      cytoforge import tracker.pth --network deepsea-tracker --out RUN
    """

    checkpoint: Positional[Present]
    """the .pth file; only tensors are read from it"""
    network: Literal[
        "style-unet", "unet", "cellpose", "deepsea", "patchgan", "movie", "super-resolution", "flow", "deepsea-tracker"
    ]
    """what the file holds"""
    out: Path
    """run folder to write"""
    overwrite: bool = False
    """replace an existing run folder"""


@command
class ImportDataset:
    """Turn annotated images of other programs into a dataset folder, tracked ones into a movie folder.

    DATA is a folder, or one file of annotations with the images around it: COCO JSON (LIVECell), Cellpose (NAME_masks,
    NAME_cp_masks, NAME_seg.npy), DeepSea, a mask file for each cell (DSB 2018), ImageJ regions (.roi, RoiSet.zip),
    QuPath GeoJSON, LabelMe or YOLO segments. Of cells that overlap, the smaller one has the pixels of both.

    Examples:
      cytoforge import dataset FOLDER --out OUT
      cytoforge import dataset annotations.json --images FOLDER --out OUT
    """

    data: Positional[Present]
    """folder or file of annotations"""
    out: ResultFolder
    """folder to write"""
    images: Present | None = None
    """folder of the images that COCO or LabelMe name, where they do not lie around DATA"""
    overwrite: bool = False
    """replace an imported dataset"""


@command
class ImportMovie(Reading):
    """Turn a stack, a folder of images or a film into a movie folder, and tracked masks, too, if there are any.

    A stack is one file with a page per frame; images of a folder are put in the order of their names, f2 before f10.
    Cells of the masks must keep their ids from frame to frame; then OUT/01_RES/res_track.txt has their tracks.

    Examples:
      cytoforge import movie FRAMES.tif --out OUT
      cytoforge import movie FRAMES.tif --masks TRACKED.tif --out OUT
      cytoforge import movie FILM.mp4 --out OUT
      cytoforge import movie FRAMES.ome.tif --out OUT --channel 2 --project max
    """

    stack: Positional[Present]
    """TIFF or zarr of frames, a folder with an image per frame, or a film such as mp4"""
    out: Path
    """movie folder to write"""
    masks: Present | None = None
    """TIFF or zarr of label images, or a folder with one per frame; as many as frames"""
    pixel_size: Length | None = None
    """micrometers; without it what the files state (ImageJ, OME-TIFF, OME-Zarr)"""
    frame_interval: Interval | None = None
    """minutes from a frame to the next; without it what the files state"""
    overwrite: bool = False
    """replace an imported movie"""


@command
class ImportTracks:
    """Put tracks of other tools on the masks of a movie: a movie folder with frames, masks and tracks in OUT.

    TRACKS is a TrackMate file (.xml), a GEFF (a zarr folder) or a table of tracks for napari (.csv: track_id, t, y, x,
    and parent_track_id if there are divisions). Each spot gives its track to the cell of the masks in which it lies.

    Examples:
      cytoforge import tracks TRACKS.xml --masks MOVIE --out OUT
      cytoforge import tracks TRACKS.geff --masks MOVIE --out OUT --sequence 02
    """

    tracks: Positional[Present]
    """TrackMate file, GEFF or CSV"""
    masks: Present
    """movie folder that the tracks belong to, with masks of every frame; its own tracks are not looked at"""
    out: ResultFolder
    """movie folder to write"""
    sequence: Annotated[str, Field(pattern=r"^\d{2,}$", examples=["01"])] | None = None
    """sequence of the movie folder, such as 01; not needed where there is one only"""
    pixel_size: Length | None = None
    """micrometers, where TRACKS is in these and tells no pixel size; without it that of the movie's dataset.json"""
    frame_interval: Interval | None = None
    """minutes, where TRACKS is in units of time; without it that of the movie's dataset.json"""
    overwrite: bool = False
    """replace imported tracks in OUT"""


ANNOTATIONS = ("roi", "geojson", "coco", "yolo", "seg-npy")
"""Formats of `export` that hold the cells of images, of a dataset or of the frames of a movie."""


@command
class Export:
    """Write cells in a format that other tools read: those of a dataset's masks, or the tracks of a movie.

    Of a dataset, a folder of masks or a movie, a folder with a copy of the images and the cells in each: roi: a set of
    ImageJ regions for each image. geojson: QuPath's objects. coco: one COCO JSON. yolo: YOLO segments. seg-npy: files
    that Cellpose's window opens. Outlines run along the edges of pixels, so that nothing of a cell is lost.

    Of a movie with tracks: trackmate: XML with spots, outlines and links, and the frames as a stack beside it. geff: a
    zarr folder with the graph of cells, their features and masks. napari: a table for a Tracks layer. features: a table
    of size, shape, grey values, motion and descent of every cell in every frame. ctc: a movie folder in the strict
    layout of the Cell Tracking Challenge, with frames and masks. All but ctc hold one sequence a file.

    Examples:
      cytoforge export DATA --format roi --out regions
      cytoforge export MOVIE --format features --out cells.csv --pixel-size 0.65 --frame-interval 15
      cytoforge export MOVIE --format trackmate --out tracks.xml --sequence 01
    """

    data: Positional[Present]
    """dataset or folder of masks; movie folder with masks and tracks"""
    format: Literal["roi", "geojson", "coco", "yolo", "seg-npy", "trackmate", "geff", "napari", "features", "ctc"]
    """what to write"""
    out: Path
    """folder to write; a file such as tracks.xml for trackmate, cells.csv for napari and features"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie to export, such as 01; repeatable for folders but geff; not needed where there is one only"""
    pixel_size: Length | None = None
    """tracks: micrometers; without it that of dataset.json, else lengths are in pixels, as always for napari"""
    frame_interval: Interval | None = None
    """tracks: minutes from a frame to the next; without it that of dataset.json, else times are in frames"""
    overwrite: bool = False
    """replace an existing export"""

    @model_validator(mode="after")
    def _consistent(self) -> "Export":
        endings = {"trackmate": ".xml", "napari": ".csv", "features": ".csv"}
        ending = self.out.suffix.lower()
        if ending in endings.values() and ending != (own := endings.get(self.format)):
            writes = "a folder" if own is None else f"a file such as {self.out.stem}{own}"
            others = " or ".join(name for name, value in endings.items() if value == ending)
            raise ValueError(
                f"--out {self.out}: --format {self.format} writes {writes}; give another name, or --format {others}"
            )
        if self.format in ANNOTATIONS and (self.pixel_size, self.frame_interval) != (None, None):
            raise ValueError(f"--pixel-size, --frame-interval: {self.format} is in pixels; leave them out")
        return self


@command
class ExportModel:
    """Write a trained segmenter for other programs: ONNX, TorchScript, or a package of bioimage.io.

    The model takes images of any size and number and gives class probabilities. Beside it lie model.json and README.md,
    which say how images are normalised, resized and cut into tiles, and segment_cells.py, which makes the cells that
    `segment` finds with numpy and scipy, without cytoforge. ONNX and bioimage.io need pip install "cytoforge[export]".

    Examples:
      cytoforge export-model RUN --format onnx --out OUT
      cytoforge export-model base --format bioimageio --out OUT
    """

    run: Positional[RunFolder]
    """base, or the run folder of train segmentation or import"""
    format: Literal["onnx", "torchscript", "bioimageio"]
    """what to write"""
    out: Path
    """folder to write"""
    licence: Annotated[str, Field(min_length=1, examples=["CC-BY-4.0"])] | None = None
    """bioimageio: under which licence the run is given away, by its name in SPDX; base has its own"""
    overwrite: bool = False
    """replace a former model"""


@command
class Simulation(Division):
    """Settings that all simulations of cells share."""

    out: ResultFolder
    """folder to write"""
    like: Present | None = None
    """annotated masks, of a movie with tracks, whose cells are taken as a model"""
    density: Annotated[float, Field(gt=0, examples=["0.3 for coverage or 150 for cells"])] | None = None
    """below 1 coverage, up to 0.7; from 1 on cells an image (first frame); without it as DATA's (0.2 without DATA)"""
    layout: Literal["scattered", "colony", "mixed"] = "mixed"
    """scattered: single cells; colony: packed colonies that hold together; mixed: groups and single cells"""
    magnification: Annotated[float, Field(gt=0, le=8)] = 1.0
    """enlarge the cells, not the image"""
    size: (
        Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$", examples=["512x768, height x width in pixels"])]
        | None
    ) = None
    """height x width in pixels, such as 512x768; without it that of DATA's images at --scale (256x256 without DATA)"""
    scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    """resize DATA's masks on reading, as in the training that the simulated ones are for"""
    diameter: Annotated[float, Field(ge=4, le=1000, examples=[24])] | None = None
    """median diameter of the model's cells in pixels, without --like; 16 if not given"""
    sequence: UseAppendAction[tuple[str, ...]] = ()
    """sequence of a movie folder to use, such as 01 (repeatable); all without it"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of everything random; mask or sequence number k depends on the seed and k only"""
    overwrite: bool = False
    """replace what was simulated in OUT before"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Raise ValueError where density is out of range, or a flag does not go with --like or without it."""
        problems = []
        if self.density is not None and 0.7 < self.density < 1:
            problems.append(
                f"--density {self.density:g}: below 1 it is the share of the image that cells cover, at most 0.7, such "
                "as 0.5; from 1 on the number of cells an image, such as 150"
            )
        if self.density is not None and self.density > 1 and self.density != int(self.density):
            problems.append(f"--density {self.density:g}: from 1 on it is a whole number of cells, such as 150")
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
class SimulateMasks(Simulation):
    """Make label images of simulated cells: shapes of your own cells turned, stretched, bent and put together anew.

    DATA of --like is a dataset, a folder of masks or a movie folder. Without it cells have shapes of a model. Writes
    OUT/masks, statistics of simulated against real cells in OUT/statistics.json, and both as a page, OUT/report.html.
    Interrupted work goes on when the same command is given again.

    Examples:
      cytoforge simulate masks --like DATA --out OUT --count 20
      cytoforge simulate masks --like DATA --out OUT --density 0.5 --layout colony --scale 0.333
      cytoforge simulate masks --out OUT --size 512x768 --density 150 --diameter 24
    """

    count: Count = 10
    """number of masks"""
    gap: Annotated[int, Field(ge=0, le=100)] = 0
    """background pixels, at least, between cells; 0 lets cells touch"""
    touching: Fraction | None = None
    """share of the cells that touch others, in the layout mixed; without it as DATA's (0.5 without DATA)"""
    variation: Annotated[float, Field(ge=0, le=2)] = 1.0
    """factor on how much shapes are stretched and bent; 0 keeps them as they are in DATA"""


@command
class SimulateMovie(Simulation):
    """Make movies of simulated cells that move, grow and divide like yours: masks, tracks and divisions, all exact.

    DATA of --like is a movie folder with tracks; without it shapes and motion are those of a model. Writes a movie
    folder, OUT/01_GT/TRA with man_track.txt and OUT/01_GT/SEG, films to look at, statistics of simulated against real
    motion in OUT/statistics.json, and both as a page, OUT/report.html. Interrupted work goes on when the same command
    is given again.

    Examples:
      cytoforge simulate movie --like DATA --out OUT --count 4
      cytoforge simulate movie --like DATA --out OUT --density 0.5 --layout colony --frames 50
      cytoforge simulate movie --out OUT --size 512x768 --density 200 --diameter 24
    """

    count: Count = 1
    """number of sequences"""
    frames: Annotated[int, Field(ge=1, le=10000)] | None = None
    """frames of a sequence; without it as many as DATA's (50 without DATA)"""
    division_rate: Annotated[float, Field(ge=0, le=0.1)] | None = None
    """divisions by cell and frame; without it that of DATA (0.01 without DATA)"""


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


@command
class Cite:
    """Say how to cite cytoforge and the papers whose methods it implements.

    Examples:
      cytoforge cite
      cytoforge cite --format bibtex
    """

    format: Literal["text", "bibtex"] = "text"
    """as a list of references, or for BibTeX"""


@command
class Studio:
    """Open the local page: look at images, correct the cells that are found, train on them, and go on; play movies,
    follow their cells and correct the links.

    FOLDER is a dataset, a folder of images, an image, a movie folder, or a folder with annotations of another program;
    nothing is written into it. Work is kept beside it in FOLDER-studio, a dataset that every other command reads. The
    page is for one person: it is reached from this computer only, by the address that is printed.

    Examples:
      cytoforge studio IMAGES
      cytoforge studio MOVIE
      cytoforge studio IMAGES --port 9000 --no-browser
    """

    folder: Positional[Path] = Path("cells-studio")
    """what to open; a folder that does not exist yet is made, and images are dropped on the page"""
    host: str = "127.0.0.1"
    """address to listen on; any other than this lets other computers in that know the printed address"""
    port: Annotated[int, Field(ge=0, le=65535, examples=[9000])] = 8765
    """port to listen on; the next free one is taken where it is in use, and any free one for 0"""
    browser: bool = True
    """open the page in the browser"""
