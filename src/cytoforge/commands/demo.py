"""`cytoforge demo`: compare trainings on four annotated images of phantom cells, in a few minutes."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cytoforge.commands.segment import segment
from cytoforge.commands.train import specified, train_segmentation
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import read_json
from cytoforge.data.lock import alone
from cytoforge.data.ownership import OutputFolder
from cytoforge.data.run import Run
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError
from cytoforge.inference.baseline import otsu_watershed
from cytoforge.inference.load import load_network
from cytoforge.inference.painting import paint
from cytoforge.inference.segmenter import Segmenter
from cytoforge.metrics.segmentation import SegmentationResults, segmentation_scores, summarise
from cytoforge.places import SCRATCH
from cytoforge.progress import clock, say
from cytoforge.report import PAGE, Report, panel, to_rgb
from cytoforge.settings import Demo, Segment, TrainSegmentation
from cytoforge.simulation.phantom import phantom
from cytoforge.training.data import open_data
from cytoforge.training.tasks.staged import finished

ANNOTATED, TEST, REPORTED = 4, 12, 4
MINUTES = {"tiny": 0.1, "small": 1.4}  # per training
SHAPE, CELLS, DIAMETER = (192, 192), 40, 18.0
Pair = tuple[np.ndarray, np.ndarray]
BASELINE, ZERO = "Otsu + watershed", "base model, no annotation"


@dataclass(frozen=True)
class Result:
    """What one method reached: scores on the test images, on the validation image, and the time it took."""

    method: str
    test: SegmentationResults
    validation: float
    seconds: float
    predictions: dict[str, np.ndarray]


@alone
def demo(config: Demo) -> Path:
    """Make phantoms, train on four of them in three ways, score on twelve others, and write OUT/report.html.

    Beside the trainings stand two ways without any: a threshold, and the base model as it is.

    An interrupted demo continues where it stopped. Raises UserError when OUT may not be written to.
    """
    folder = open_folder(config)
    started = time.monotonic()
    annotated, test = folder.inside("data/annotated"), folder.inside("data/test")
    write_phantoms(annotated, ANNOTATED, first=config.seed)
    write_phantoms(test, TEST, first=config.seed + ANNOTATED)
    plain = TrainSegmentation(
        data=annotated, out=config.out, preset=config.preset, minutes=MINUTES[config.preset], seed=config.seed
    )
    say([f"{ANNOTATED} annotated phantom images; three trainings of {clock(60 * MINUTES[config.preset])} each"])
    start = "the base model" if config.preset == "small" else "scratch"  # which networks of that size fit
    ways = {
        "from scratch, paper's augmentation and classes": replace(
            plain, augmentation="paper", target="semantic", start=SCRATCH
        ),
        f"from {start}, cytoforge's defaults": plain,
        f"from {start}, cyclegan, warm start": replace(plain, method="cyclegan", warm_start=True),
    }
    held = held_out(plain)
    results = [baseline(test, held), zero_labels(test, held, folder.inside("runs/base-test"))]
    for number, (method, way) in enumerate(ways.items(), start=1):
        say([f"{number} of {len(ways)}: {method}"])
        way = replace(way, out=folder.inside(f"runs/{number}"))
        results.append(run_way(method, way, test, held, folder.inside(f"runs/{number}-test")))
    best = max(results, key=lambda result: result.validation)
    report = write_report(folder, results, best, time.monotonic() - started)
    for result in results:
        mark = "  <- best on validation: use this one" if result is best else ""
        score = result.test.mean["f_score"][0]
        print(f"F {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] at IoU 0.5  {result.method}{mark}")
    print(f"{report}: the whole story, in {clock(time.monotonic() - started)}")
    return report


def open_folder(config: Demo) -> OutputFolder:
    """Make OUT, or continue the same demo in it; return the folder, opened for writing.

    Raises UserError when OUT holds a finished or another demo (unless told to overwrite), or anything else.
    """
    record = config.out / "demo.json"
    settings = {"preset": config.preset, "seed": config.seed}
    folder = OutputFolder(config.out, "demo")
    if not record.exists() and config.out.exists() and any(config.out.iterdir()) and not folder.known:
        raise UserError(f"{config.out}: holds something else; give another --out")
    if record.exists() and not config.overwrite and (read_json(record) != settings or (config.out / PAGE).exists()):
        raise UserError(f"{config.out}: holds a demo already; give --overwrite or another --out")
    if record.exists():
        folder.require()
    folder.refuse_foreign([record.name, PAGE])
    if config.overwrite:
        folder.clear(folder.survey())
    folder.write_json(record.name, settings)
    return folder


def write_phantoms(folder: Path, count: int, first: int) -> None:
    """Write a dataset folder of `count` phantoms with the seeds `first`, `first` + 1 and so on."""
    if folder.exists() and Dataset.open(folder).info.get("complete"):
        return
    writer = DatasetWriter(folder, {"synthetic": {"by": "cytoforge phantoms", "seeds": [first, first + count - 1]}})
    for seed in range(first, first + count):
        image, labels = phantom(seed, SHAPE, CELLS)
        writer.add(f"phantom{seed:03d}", image[None], labels)
    writer.finish()


def baseline(test: Path, held: list[Pair]) -> Result:
    """Score Otsu's threshold with watershed, a method without training."""
    started = time.monotonic()
    dataset = Dataset.open(test)
    predictions = {item.name: otsu_watershed(dataset.read_image(item)) for item in dataset.items}
    validation = mean_score([(labels, otsu_watershed(image)) for image, labels in held])
    return Result(BASELINE, score(test, predictions), validation, time.monotonic() - started, predictions)


def zero_labels(test: Path, held: list[Pair], out: Path) -> Result:
    """Score the base model, which has seen none of the images."""
    started = time.monotonic()
    written = Dataset.open(segment(Segment(run=Path("base"), images=test, out=out, diameter=DIAMETER)))
    predictions = {item.name: written.read_labels(item) for item in written.items}
    base = Segmenter.load("base")
    validation = mean_score([(labels, base.segment(image, diameter=DIAMETER)) for image, labels in held])
    return Result(ZERO, score(test, predictions), validation, time.monotonic() - started, predictions)


def held_out(plain: TrainSegmentation) -> list[Pair]:
    """Return images and labels that trainings do not learn from, at their own size."""
    data = specified(replace(plain, scale=1.0)).data
    return [(image, labels) for _, image, labels in open_data(data, plain.seed).validation]


def mean_score(pairs: list[Pair]) -> float:
    """Return F of predictions, each beside its truth, mean over IoU 0.5 to 0.9 and over the images."""
    return float(np.mean([segmentation_scores(truth, predicted).f_score for truth, predicted in pairs]))


def run_way(method: str, way: TrainSegmentation, test: Path, held: list[Pair], out: Path) -> Result:
    """Train with one method, segment the test images into OUT and score them.

    Validation is scored anew, as that of the training follows the protocol of what is learned.
    """
    run = Run.open(way.out) if finished(way.out) else train_segmentation(way)
    segment(Segment(run=way.out, images=test, out=out))
    written = Dataset.open(out)
    predictions = {item.name: written.read_labels(item) for item in written.items}
    trained = Segmenter.load(way.out)
    validation = mean_score([(labels, trained.segment(image)) for image, labels in held])
    return Result(method, score(test, predictions), validation, float(run.metrics()[-1]["seconds"]), predictions)


def score(test: Path, predictions: dict[str, np.ndarray]) -> SegmentationResults:
    """Score predicted labels of every test image."""
    dataset = Dataset.open(test)
    images = {
        item.name: segmentation_scores(dataset.read_labels(item), predictions[item.name]) for item in dataset.items
    }
    return summarise(images, np.random.default_rng(0))


def write_report(folder: OutputFolder, results: list[Result], best: Result, seconds: float) -> Path:
    """Write OUT/report.html with the scores of all methods, pictures of their segmentations, and synthetic images."""
    report = Report(
        "cytoforge demo",
        f"{ANNOTATED} annotated phantom images (a strip of each for validation), {TEST} unseen ones to test on",
    )
    report.verdict(
        f"Best on validation, and so the one to use: {best.method}.",
        details=[
            f"All trainings had the same time; everything took {clock(seconds)}.",
            "The cells are simulated: on your images the order may differ.",
        ],
    )
    thresholds = (0, 2)
    header = ["method", "validation F", *(f"test F at IoU {0.5 + 0.1 * k:.1f}" for k in thresholds), "Dice", "training"]
    rows = []
    for result in results:
        estimates = [result.test.mean["f_score"][k] for k in thresholds]
        cells = [f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in estimates]
        dice = f"{result.test.dice.value:.3f}"
        trained = "none" if result.method in (BASELINE, ZERO) else clock(result.seconds)
        rows.append([result.method, f"{result.validation:.3f}", *cells, dice, trained])
    report.table(header, rows, best=results.index(best))
    report.text(
        "Validation F is the mean over IoU 0.5 to 0.9 on a strip of each annotated image. Test values are means over "
        f"{TEST} images with 95 % bootstrap intervals over the images; one training seed each, so differences between "
        "trained models smaller than about 0.05 mean little."
    )
    dataset = Dataset.open(folder.path / "data" / "test")
    shown = dataset.items[:REPORTED]
    grid = []
    for item in shown:
        image = dataset.read_image(item)
        truth = dataset.read_labels(item)
        predicted = [panel(image, result.predictions[item.name]) for result in results]
        grid.append([panel(image, truth), *predicted])
    titles = ["truth", *(result.method for result in results)]
    report.image_grid(grid, titles, [item.name for item in shown], "Unseen test images and what each method finds.")
    generator = load_network(Run.open(folder.path / "runs" / "3"), "generator")
    paintings = []
    for item in shown:
        truth = dataset.read_labels(item)
        painted = [to_rgb(paint(generator, truth, "mask", torch.Generator().manual_seed(seed))) for seed in range(3)]
        paintings.append([to_rgb(np.where(truth > 0, 1.0, -1.0)[None]), to_rgb(dataset.read_image(item)), *painted])
    report.image_grid(
        paintings,
        ["mask", "real image", "synthetic, style 1", "style 2", "style 3"],
        [item.name for item in shown],
        "What the generator of the cyclegan training paints from masks it has not seen.",
    )
    return report.write(folder)
