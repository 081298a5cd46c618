"""The two-stage method: a generator first, which paints simulated cells; then a segmenter on real and painted images.

All that comes before the segmenter lies in RUN/stages: generator/ and judge/ (runs), masks/ and synthetic/ (datasets).
"""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cytoforge.config import GenerateImages, TrainGenerator, Training, TrainSegmentation
from cytoforge.data.files import read_json
from cytoforge.data.run import STAGES, Run
from cytoforge.data.writer import INFO, DatasetWriter, read_info
from cytoforge.errors import UserError
from cytoforge.inference.curation import IOU
from cytoforge.inference.generate import generate
from cytoforge.inference.load import load_network
from cytoforge.inference.segment import segment_array
from cytoforge.instances import TARGETS
from cytoforge.metrics.segmentation import segmentation_scores
from cytoforge.progress import say
from cytoforge.simulation.masks import shapes_of, simulate_labels
from cytoforge.training import generator
from cytoforge.training.prepare import DEFAULT_MINUTES, open_data

GENERATOR, JUDGE = 0.45, 0.15  # shares of the budget; the segmenter gets the rest
MASKS, VARIANTS = 24, 2  # simulated masks, and images painted on each
KEPT = 0.75  # share of the painted images in which the judge finds most of the cells
TRUSTED = 0.5  # of the judge's recall on real images, which it must reach on the painted ones for them to be used
DENSER, DENSEST = 2.0, 0.6  # up to so many times the coverage of the annotated images, and no more than this
LONGEST = 512  # px, side of a simulated mask

NAMES = ("generator", "judge", "masks", "synthetic")  # of the stages, in their order

Train = Callable[[TrainSegmentation], Run]


def train_two_stage(config: TrainSegmentation, train: Train) -> Run:
    """Go through the stages, or on with them, and train the segmenter with `train` on what came of them.

    Raises UserError as all training does, and Interrupted after a signal, with everything saved.
    """
    stages = config.out / STAGES
    open_stages(config, stages)
    first, judge, masks, synthetic = (Run.stage(config.out, name) for name in NAMES)
    if not finished(first):
        say(["1 of 5: the generator"])
        generator.train(_generator(config, first))
    if not finished(judge):
        say(["2 of 5: a first segmenter, to judge the generator's images"])
        train(_segmenter(config, judge, JUDGE))
    if not finished(masks):
        say(["3 of 5: simulated cells"])
        simulate(config, masks)
    if not finished(synthetic):
        say(["4 of 5: painting, and dropping what the judge does not recognise"])
        generate(
            GenerateImages(
                run=first,
                masks=masks,
                out=synthetic,
                variants=VARIANTS,
                keep=KEPT,
                segmenter=judge,
                seed=config.seed,
                style_mixing=config.style_mixing,
                device=config.device,
                threads=config.threads,
            )
        )
    say(["5 of 5: the segmenter"])
    painted, real = recognised(synthetic), judge_recall(config, judge)
    last = _segmenter(config, config.out, 1 - GENERATOR - JUDGE)
    if real > 0 and painted >= TRUSTED * real:
        return train(replace(last, synthetic=synthetic))
    reason = (
        f"the first segmenter finds {painted:.0%} of the painted cells and {real:.0%} of the real ones of validation: "
        "the painted images were left out; give more minutes"
    )
    say([reason])
    run = train(replace(last, start=judge))
    run.note(reason)
    return run


def recognised(synthetic: Path) -> float:
    """Return the mean share of the mask's cells that the judge found in the images that were kept, 0 without any."""
    curation = read_info(synthetic).get("curation", {})
    try:
        kept = [s for name, s in curation["faithfulness"].items() if name not in curation["dropped"]]
        shares = [float(s) for s in kept if s is not None]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{synthetic / INFO}: its curation cannot be read; remove the folder {synthetic} and repeat the command"
        ) from error
    return float(np.mean(shares)) if shares else 0.0


def judge_recall(config: TrainSegmentation, judge: Path) -> float:
    """Return the mean share of the cells of the validation images that the judge finds, at the same IoU."""
    run, target = Run.open(judge), TARGETS[config.target]
    network = load_network(run)
    found = [
        segmentation_scores(labels, segment_array(network, image, target, run.settings.tile), thresholds=(IOU,))
        for _, image, labels in open_data(config).validation
    ]
    recalls = [scores.recall[0] for scores in found if scores.truth_cells]
    return float(np.mean(recalls)) if recalls else 0.0


def open_stages(config: Training, stages: Path) -> None:
    """Make the folder of the stages, or go on with those that the same command has begun.

    Raises UserError when the run folder holds another or a finished run (unless told to overwrite), or anything else.
    """
    record = stages / "settings.json"
    settings = {
        key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config).items()
        if key not in ("out", "overwrite", "weights_dir")
    }
    folder = Run(config.out).folder
    if stages.exists() and not record.exists() and not folder.known:
        raise UserError(f"{stages}: was there before; choose another --out")
    if config.overwrite or not record.exists():
        Run.clear(config.out, overwrite=config.overwrite, stages=True)
        folder.write_json(f"{STAGES}/{record.name}", settings)
    folder.require()
    former = read_json(record)
    if different := sorted(key for key in settings if former.get(key) != settings[key]):
        raise UserError(
            f"{config.out}: holds a run with another {', '.join(different)}; "
            "repeat its command to go on with it, choose another folder, or give --overwrite"
        )
    if finished(config.out):
        raise UserError(f"{config.out}: holds this run, finished; choose another folder or give --overwrite")


def finished(path: Path) -> bool:
    """Tell whether a stage, a run or a dataset, is done."""
    if (path / "config.json").is_file():
        return Run.open(path).finished
    return (path / INFO).is_file() and bool(read_info(path).get("complete"))


def simulate(config: TrainSegmentation, out: Path) -> None:
    """Write masks of simulated cells: the shapes of the training images' cells, as dense as there and denser.

    Shapes are taken at full resolution where the images are; mask k depends on the seed and k only. No cell of a
    validation image serves.
    """
    data = open_data(replace(config, scale=1.0))
    annotated = [labels for _, labels in map(data.read, range(len(data.names)))]
    shapes = [shape for labels in annotated for shape in shapes_of(labels)]
    if not shapes:
        raise UserError(f"{config.data}: every cell is cut by the edge of its image, or tiny; give larger images")
    info: dict[str, Any] = {"by": "cytoforge train segmentation --method two-stage", "seed": config.seed}
    writer = DatasetWriter(out, {"synthetic": info, "scale": config.scale})
    for number in range(MASKS):
        if (name := f"simulated{number:04d}") in writer.done:
            continue
        draw = np.random.default_rng([config.seed, number])
        like = annotated[draw.integers(len(annotated))]
        size = [min(round(side * config.scale), LONGEST) for side in like.shape]
        coverage = np.count_nonzero(like) / like.size
        density = min(coverage * draw.uniform(1, DENSER), max(coverage, DENSEST))
        simulated = simulate_labels(shapes, (size[0], size[1]), draw, density=density, magnification=config.scale)
        writer.add(name, labels=simulated.labels)
    writer.finish()


def _generator(config: TrainSegmentation, out: Path) -> TrainGenerator:
    """Return the settings of the generator's training: what all trainings have in common, as for the whole."""
    common = {entry.name: getattr(config, entry.name) for entry in fields(Training)}
    told = config.condition or "instances"
    return TrainGenerator(
        **{**common, "out": out, "overwrite": False, "condition": told, **share_of(config, GENERATOR)}
    )


def _segmenter(config: TrainSegmentation, out: Path, share: float) -> TrainSegmentation:
    """Return the settings of a segmenter's training on annotated images with this share of the budget."""
    budget = share_of(config, share)
    return replace(config, out=out, method="conventional", condition=None, overwrite=False, **budget)


def share_of(config: Training, share: float) -> dict[str, Any]:
    """Return the settings of a share of the budget, in steps or minutes."""
    if config.steps is not None:
        return {"steps": max(round(share * config.steps), 1)}
    return {"minutes": share * (DEFAULT_MINUTES if config.minutes is None else config.minutes)}
