"""What every training needs around its loop: device, data, validation images and the run folder."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from cytoforge.config import (
    FITTING_DIAMETER,
    PRESETS,
    PainterTraining,
    Preset,
    TrainGenerator,
    Training,
    TrainMovie,
    TrainSegmentation,
    WithSynthetic,
    fitting_scale,
)
from cytoforge.data.dataset import INFO, Dataset, Item
from cytoforge.data.images import Normalisation, is_blank
from cytoforge.data.movie import gaps, read_sequences, some
from cytoforge.data.run import STAGES, Run
from cytoforge.data.tracks import check_sizes
from cytoforge.data.weights import lacking
from cytoforge.errors import UserError
from cytoforge.inference.load import choose_device
from cytoforge.instances import cell_diameters
from cytoforge.networks.layers import initialise
from cytoforge.progress import Progress, counted, say
from cytoforge.report import run_report
from cytoforge.training.batches import Batch, Batches, Synthetic, item_generator
from cytoforge.training.fit import Budget, Recipe, State, Trainer, fit, verdict

SMALLEST = 16  # px
DEFAULT_MINUTES = 10.0
Example = tuple[str, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Annotated images, ready to cut windows from; images float32 (C, H, W), labels int32 (H, W)."""

    names: tuple[str, ...]
    read: Callable[[int], tuple[np.ndarray, np.ndarray]]
    """image and labels of training source i"""
    validation: tuple[Example, ...]
    channels: int
    cells: int
    """annotated cells in training and validation images together"""
    coverage: tuple[float, ...]
    """share of each training image that is cell"""
    notes: tuple[str, ...]
    """what the user should know, a sentence each"""
    fingerprints: tuple[dict[str, Any], ...]
    """path, size and hash of the training and the validation data, for provenance.json"""
    items: tuple[Item, ...]
    """the training sources"""
    held: tuple[Item, ...]
    """those of validation"""
    limits: dict[str, list[list[float]]]
    """grey values (C, 2) of -1 and 1 by sequence, where the frames of each share them"""


def open_data(config: Training, *, movie: bool = False, tracked: bool = False) -> Data:
    """Read, split and measure the annotated images that a configuration names.

    Of a `movie` all frames of a sequence share the limits of their grey values, so that brightness does not flicker.
    `tracked` wants movies with tracks, whose ids the labels have; files are then read as they are, at any scale.
    Raises UserError when there are no pairs, no cells, masks that do not number them, images that are in --validation,
    too, or nothing is left for training or validation.
    """
    dataset = _open(config.data, config.sequence, tracked)
    check_labels(config, dataset, tracked)
    notes = [*dataset.notes, *(_sequences(dataset) if movie or tracked else ())]
    if dataset.synthetic():
        notes.append(f"{config.data}: these images are synthetic; the validation score says little about real ones")

    training, held = _split(config, dataset, tracked)
    if config.validation is not None:
        check_labels(config, held, tracked)
        notes += held.left_out
    limits = {**common_limits(held), **common_limits(training)} if movie else {}

    def load(source: Dataset, item: Item) -> Example:
        scale = source.scale if tracked else config.scale
        return item.name, *_read(source, item, scale, limits.get(str(item.group)))

    validation = tuple(load(held, item) for item in held.items)
    kept, diameters, coverage = [], [], []
    for item in training.items:
        _, image, labels = load(training, item)
        if min(image.shape[1:]) < SMALLEST:
            height, width = image.shape[1:]
            raise UserError(f"{item.image}: has {height} x {width} px at --scale {config.scale:g}; give a larger scale")
        if is_blank(image):
            notes.append(f"{item.image}: one grey value or NaN all over, left out of training")
            continue
        kept.append(item)
        diameters.append(cell_diameters(labels))
        coverage.append(np.count_nonzero(labels) / labels.size)
    sizes = np.concatenate([*diameters, *(cell_diameters(labels) for _, _, labels in validation), np.empty(0)])
    if training.items[0].rows is not None:
        notes.append(f"{config.data}: holds a single image; one strip of it is for training, the other for validation")
    if not kept:
        raise UserError(f"{config.data}: no image is left to train on; run cytoforge check {config.data}")
    if sizes.size == 0:
        raise UserError(f"{config.data}: the masks hold no cells; run cytoforge check {config.data}")
    if not tracked:
        notes += _proposed_scale(config, float(np.median(sizes)))
    return Data(
        names=tuple(item.name for item in kept),
        read=lambda i: load(training, kept[i])[1:],
        validation=validation,
        channels=training.channels(),
        cells=int(sizes.size),
        coverage=tuple(coverage),
        notes=tuple(notes),
        fingerprints=(training.fingerprint(), held.fingerprint()),
        items=tuple(kept),
        held=held.items,
        limits={group: between.tolist() for group, between in limits.items()},
    )


def check_labels(config: Training, dataset: Dataset, tracked: bool) -> None:
    """Raise UserError when masks do not number cells; binary ones serve where a training tells no cells apart."""
    otherwise = ""
    if isinstance(config, TrainSegmentation):
        plain = config.method == "conventional"
        binary = config.target == "semantic" and (plain or config.told == "mask")
        otherwise = "give --target semantic, for which cells that touch are one" if plain else ""
    else:
        binary = isinstance(config, PainterTraining) and config.told == "mask"
    dataset.check_labels(binary=binary and not tracked, otherwise=otherwise)


def _proposed_scale(config: Training, diameter: float) -> list[str]:
    """Say which --scale would suit cells of a diameter in pixels better, if another would."""
    scale = config.scale
    if isinstance(config, TrainMovie) and config.out.parent.name == STAGES:  # of --stage both: --scale is of the second
        diameter, scale = diameter * config.factor, scale * config.factor
    factor = fitting_scale(diameter)
    if factor is None:
        return []
    return [
        f"cells are {diameter:.0f} px across (median) at scale {scale:g}: --scale {float(f'{scale * factor:.2g}'):g} "
        f"would bring them to {FITTING_DIAMETER:.0f} px, which trains faster and often better"
    ]


def common_limits(dataset: Dataset) -> dict[str, np.ndarray]:
    """Return the grey values (C, 2) that become -1 and 1 in each sequence: medians of the limits of its frames."""
    groups: dict[str, list[Item]] = {}
    for item in dataset.items:
        groups.setdefault(str(item.group), []).append(item)
    return {group: replace(dataset, items=tuple(each)).common_limits() for group, each in groups.items()}


def _open(path: Path, sequences: tuple[str, ...], tracked: bool) -> Dataset:
    found = Dataset.open(path, sequences)
    return found.tracked() if tracked else found.pairs()


def _sequences(dataset: Dataset) -> list[str]:
    """Refuse sequences whose frames differ in size; tell of frames that are missing among theirs."""
    notes = []
    groups = dict.fromkeys(str(item.group) for item in dataset.items)
    for sequence in read_sequences(dataset.path, groups):
        check_sizes(sequence)
        numbers = {item.frame for item in dataset.items if item.group == sequence.name and item.frame is not None}
        if lost := gaps(numbers):
            where = f"{dataset.path}: sequence {sequence.name} lacks {some('frame', lost)}"
            notes.append(f"{where}; what happens meanwhile is not learned")
    return notes


def open_synthetic(
    config: WithSynthetic, channels: int, *, tracked: bool = False
) -> tuple[Synthetic | None, dict[str, Any] | None]:
    """Find the synthetic images that a configuration names, if any: what Batches wants, and their fingerprint.

    `tracked` as in open_data. Raises UserError when there are no pairs, they have not so many channels, or the folder
    is unfinished or not marked as synthetic: real images could be those of validation.
    """
    if config.synthetic is None:
        return None, None
    dataset = _open(config.synthetic, (), tracked)
    if not dataset.synthetic():
        raise UserError(
            f'{config.synthetic / INFO}: does not say that these images are synthetic; write {{"synthetic": true}} '
            "into it if they are, and give annotated real images as DATA"
        )
    if not dataset.info.get("complete", True):
        raise UserError(f"{config.synthetic}: is not finished; repeat the command that began to write it")
    if (found := dataset.channels()) != channels:
        raise UserError(
            f"{config.synthetic}: has images of {counted(found, 'channel')}, {config.data} of {channels}; convert them"
        )
    check_labels(config, dataset, tracked)
    scale = dataset.scale if tracked else config.scale
    synthetic = Synthetic(
        dataset.items, lambda i: _read(dataset, dataset.items[i], scale), config.synthetic_share, config.schedule
    )
    return synthetic, dataset.fingerprint()


def _read(source: Dataset, item: Item, scale: float, limits: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read image and labels at `scale` of the original images, of which the files may be resized copies already."""
    scale /= source.scale
    return source.read_image(item, scale, Normalisation(), limits), source.read_labels(item, scale)


def _split(config: Training, dataset: Dataset, tracked: bool) -> tuple[Dataset, Dataset]:
    """Return training and validation part; --limit counts both together. Tracked frames stay in a row, two at least."""
    least = 2 if tracked else 1

    def limited(part: Dataset, n: int) -> Dataset:
        return part.in_a_row(n, config.seed) if tracked else part.limited(n, config.seed)

    if config.validation is not None:
        others: tuple[str, ...] = ()
        if config.sequence and config.validation.resolve() == config.data.resolve():
            others = tuple(sorted({str(item.group) for item in Dataset.open(config.data).items} - set(config.sequence)))
        held = _open(config.validation, others, tracked)
        if witness := held.synthetic():
            raise UserError(
                f"{witness}: says that these images are synthetic, which is no measure of a "
                "segmenter; give annotated images to --validation"
            )
        if same := dataset.common_image(held):
            raise UserError(
                f"{same[1]}: is the same image as {same[0]}, and would be learned by heart before it is measured on; "
                "give other images to --validation, or leave it out"
            )
        if config.limit is None:
            return dataset, held
        part = min(max(least, round(0.2 * config.limit)), config.limit - 1)
        return limited(dataset, config.limit - part), limited(held, part)
    if config.limit is not None:
        dataset = limited(dataset, config.limit)
    if config.fold is not None:
        part, parts = map(int, config.fold.split("/"))
        return dataset.folds(parts, config.seed, by=config.split_by)[part - 1]
    return dataset.split(config.seed, by=config.split_by, least=least)


def launch(config: Training) -> Fabric:
    """Start the processes that train together and return this one's handle on device and precision.

    The precision is chosen from what the processor states of itself, never by timing, so that a resumed run repeats.
    """
    device = choose_device(config.device)
    on_gpu = device == "cuda"
    if not on_gpu:
        torch.set_num_threads(config.threads or max((os.cpu_count() or 1) // config.devices, 1))
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if (torch.cuda.is_bf16_supported() if on_gpu else _computes_bfloat16()) else "float32"
    fabric = Fabric(
        accelerator=device,
        devices=config.devices,
        strategy="ddp" if config.devices > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto",
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
    )
    fabric.launch()
    return fabric


def _computes_bfloat16() -> bool:
    """Tell whether the CPU has instructions for bfloat16 products; without them it is slower than float32."""
    asks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in asks if ask is not None)


def sizes(config: Training) -> Preset:
    """Return the preset of a configuration."""
    return PRESETS[config.preset]


def open_run(config: Training, fabric: Fabric, data: Data, content: dict[str, Any], **provenance: Any) -> Run:
    """Create the run folder, or open it to go on where the same command stopped.

    `content` is what config.json holds beside what all trainings have in common, `provenance` the same of
    provenance.json. Raises UserError when the folder holds a finished run or one of another configuration, unless told
    to overwrite.
    """
    described = asdict(config)
    for loose in ("overwrite", "weights_dir"):
        described.pop(loose, None)
    described = {key: str(value) if isinstance(value, Path) else value for key, value in described.items()}
    content = {
        **content,
        "config": described,
        "scale": config.scale,
        "normalisation": Normalisation().to_json(),
        **({"condition": config.told} if isinstance(config, PainterTraining) else {}),
        "tile": max(2 * max(sizes(config).crop), 256),
        "precision": fabric._precision.precision,
        "threads": torch.get_num_threads(),
        "training_images": list(data.names),
        "validation_images": [name for name, _, _ in data.validation],
    }
    if fabric.global_rank == 0:
        run = Run.start(config.out, content, overwrite=config.overwrite)
        training, held = data.fingerprints
        device = str(fabric.device)
        run.record(training_data=training, validation_data=held, data_notes=list(data.notes), **provenance)
        run.record(device=device, processes=fabric.world_size)
    fabric.barrier()
    return Run.open(config.out)


def build(kind: Callable[..., nn.Module], seed: int, purpose: str, described: dict[str, Any]) -> Any:
    """Build a network as config.json describes it, its weights drawn from the seed for this purpose."""
    network = kind(**{key: value for key, value in described.items() if key != "network"})
    initialise(network, item_generator(seed, 0, 0, purpose))
    return network


def cut_batches(
    config: TrainSegmentation | TrainGenerator,
    fabric: Fabric,
    data: Data,
    count: int,
    synthetic: Synthetic | None = None,
) -> Batches:
    """Return this process's share of batches of `count` windows, cut and augmented as a configuration says."""
    return Batches(
        data.names,
        data.read,
        size=sizes(config).crop,
        count=count,
        policy=config.augmentation,
        seed=config.seed,
        ranks=(fabric.global_rank, fabric.world_size),
        synthetic=synthetic,
    )


def train_recipe(
    config: Training,
    fabric: Fabric,
    recipe: Recipe,
    data: Data,
    batches: Callable[[int, float], Batch],
    run: Run,
    *,
    words: str,
    validate: Callable[[dict[str, nn.Module]], float],
    picture: Callable[[dict[str, nn.Module], int], None],
    validate_start: bool = False,
    keep_last: bool = False,
    schedule: Callable[[float], float] | None = None,
) -> State:
    """Run the loop with a configuration's budget; say how it goes and record how it ended. See `fit.fit`."""
    preset, main = sizes(config), fabric.global_rank == 0
    if main:
        counts = f"{counted(len(data.names), 'image')} to train on, {len(data.validation)} for validation"
        say([*data.notes, *_notices(config, recipe), f"{counts}, {counted(data.cells, 'cell')}"])
    progress = Progress(words)
    state = fit(
        Trainer(recipe, fabric, decay=preset.average, anneal=preset.anneal, schedule=schedule),
        batches,
        validate,
        run,
        _budget(config),
        seed=config.seed,
        patience=config.patience,
        validate_start=validate_start,
        keep_last=keep_last,
        now=time.process_time if config.clock == "processor" else time.monotonic,
        announce=lambda share, state: progress(share, f"step {state.step}") if main else None,
        picture=picture,
    )
    if main:
        run.finish({"steps": state.step, "seconds": state.seconds, "verdict": verdict(state)})
        say([verdict(state)])
    return state


def _budget(config: Training) -> Budget:
    if config.steps is not None:
        return Budget(steps=config.steps)
    return Budget(seconds=60 * (DEFAULT_MINUTES if config.minutes is None else config.minutes))


def prefers_vgg(config: PainterTraining) -> bool:
    """Tell whether paintings shall be compared as VGG-19 sees them, if its weights are there."""
    return config.perceptual == "vgg" or (config.perceptual == "auto" and sizes(config).paper_weights)


def _notices(config: Training, recipe: Recipe) -> list[str]:
    """Return what the user should know of a recipe before it starts."""
    if not isinstance(config, PainterTraining) or recipe.perceptual in (None, "VGG-19") or not prefers_vgg(config):
        return []
    return [
        "the perceptual loss falls back to matching the discriminator's features: "
        f"{lacking(config.weights_dir, 'vgg19')}"
    ]


def report_training(run: Run, sentence: str, **shown: Any) -> None:
    """Write report.html of a run: what all trainings tell, and what `run_report` takes besides."""
    report = run_report(
        title=f"Training of {run.path.name}",
        config=run.settings.config,
        provenance=run.provenance,
        metrics=run.metrics(),
        verdict=sentence,
        **shown,
    )
    report.write(run.folder)
