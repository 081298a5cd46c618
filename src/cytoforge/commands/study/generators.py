"""The studies of image generators: `ablation`, `versatility` and `extrapolation` (cGAN-Seg, Figures 3, 4 and 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cytoforge.commands.generate import generate
from cytoforge.commands.score_generation import score_generation
from cytoforge.commands.simulate import simulate_masks
from cytoforge.commands.study.folder import LAYOUTS, Study, middle, open_all, open_data, over_seeds, shown, subset
from cytoforge.commands.study.segmenters import alike, base_settings, trained
from cytoforge.commands.train import train_generator, train_segmentation
from cytoforge.data.dataset import Dataset
from cytoforge.data.run import Run
from cytoforge.data.weights import weights_file
from cytoforge.evaluation.generation import GenerationResults
from cytoforge.progress import counted, say
from cytoforge.report import Report, colour_labels, to_rgb
from cytoforge.settings import (
    GenerateImages,
    ScoreGeneration,
    SimulateMasks,
    StudyAblation,
    StudyExtrapolation,
    StudyGenerators,
    StudyVersatility,
    TrainGenerator,
)
from cytoforge.training.tasks.staged import finished

ARMS: Mapping[str, Mapping[str, Any]] = {
    "U-Net, L1": {"network": "unet", "loss": "l1", "background": "painted"},
    "StyleUNet, L1": {"loss": "l1", "background": "painted"},
    "StyleUNet, L1 + VGG-19": {"perceptual": "vgg", "background": "painted"},
    "StyleUNet, textures in the discriminator's features": {"perceptual": "features", "background": "painted"},
    "the same, told of instances": {"perceptual": "features", "background": "painted", "condition": "instances"},
    "StyleUNet, L1 + features, told of instances, on real backgrounds": {
        "perceptual": "features",
        "background": "real",
        "condition": "instances",
    },
}
SHOWN = 3
COLUMNS = ("KID", "FID", "precision", "recall", "density", "coverage", "LPIPS", "SSIM", "PSNR", "faithfulness")


def base_generator(config: StudyGenerators, data: Path, seed: int) -> TrainGenerator:
    """Return what all trainings of generators of a study have in common."""
    shared = base_settings(config, data, seed)
    own = {"network": "style-unet", "loss": "l1+perceptual", "augmentation": "flip", "condition": config.condition}
    return alike(TrainGenerator, shared, **own, limit=config.limit)


def paint_and_score(
    study: Study, name: str, config: StudyGenerators, run: Run, judge: Run, masks: Path, real: Path
) -> dict[str, Any]:
    """Paint on all masks and score against the real images, once: scores by name, None where one was not computed."""

    def measure() -> dict[str, Any]:
        out = painted(study, name, config, run, judge, masks)
        seen = [value for value in Dataset.open(out).info["curation"]["faithfulness"].values() if value is not None]
        faithful = {"faithfulness": float(np.mean(seen)) if seen else None}
        if masks != real and weights_file("inception", config.weights_dir) is None:
            return faithful  # no pairs, and nothing to compare sets with
        results = score_generation(
            ScoreGeneration(
                out,
                real,
                scale=config.scale,
                weights_dir=config.weights_dir,
                device=config.device,
                threads=config.threads,
            )
        )
        return {**_scores(results), **faithful}

    return study.once(name, measure)


def painted(study: Study, name: str, config: StudyGenerators, run: Run, judge: Run, masks: Path) -> Path:
    """Paint on all masks, once; a segmenter looks at every image, none is dropped. Returns the dataset."""
    out = study.place("work", name)
    if not finished(out):
        settings = GenerateImages(
            run.path, masks, out, keep=1.0, segmenter=judge.path, device=config.device, threads=config.threads
        )
        generate(settings)
    return out


def study_ablation(config: StudyAblation) -> Path:
    """Compare generators with and without styles, perceptual loss and instances (cGAN-Seg, Figure 3).

    Raises UserError as training, generating and scoring do.
    """
    (data,) = config.data
    dataset = open_data(data, config)
    study = Study.open("ablation", config)
    has_vgg = weights_file("vgg19", config.weights_dir) is not None
    arms = {number: arm for number, arm in enumerate(ARMS, start=1) if has_vgg or "VGG-19" not in arm}
    records: dict[str, list[dict[str, Any]]] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        pool, test = subset(study, dataset, config, seed, config.limit)
        judge = _judge(study, config, pool, seed)
        for number, arm in arms.items():
            say([f"ablation: {arm}, seed {seed}"])
            out = study.place("runs", f"{number}-{seed}")
            run = trained(replace(base_generator(config, pool, seed), **ARMS[arm], out=out), train_generator)
            record = paint_and_score(study, f"{number}-{seed}", config, run, judge, test, test)
            records.setdefault(arm, []).append(record)
    report = Report("Generator ablation", f"{_limit(config)}, {counted(config.seeds, 'seed')}")
    _add_table(study, report, [({"generator": arm}, found) for arm, found in records.items()])
    pool, test = subset(study, dataset, config, config.seed)
    works = [study.place("work", f"{number}-{config.seed}") for number in arms]
    _add_panel(study, report, "ablation", Dataset.open(test).pairs(), works, list(arms.values()), config.scale)
    return study.finish(report)


def study_versatility(config: StudyVersatility) -> Path:
    """Train a generator on each data set and score what it paints on the masks of its test images (Figure 4)."""
    datasets = open_all(config)
    study = Study.open("versatility", config)
    report = Report("Versatility", f"one generator per data set, {_limit(config)} each")
    rows = []
    for name, dataset in datasets.items():
        records = []
        for seed in range(config.seed, config.seed + config.seeds):
            pool, test = subset(study, dataset, config, seed, config.limit)
            judge = _judge(study, config, pool, seed, f"{name}-")
            settings = replace(base_generator(config, pool, seed), out=study.place("runs", f"{name}-{seed}"))
            run = trained(settings, train_generator)
            records.append(paint_and_score(study, f"{name}-{seed}", config, run, judge, test, test))
        rows.append(({"data": name}, records))
        _, test = subset(study, dataset, config, config.seed)
        work = study.place("work", f"{name}-{config.seed}")
        _add_panel(study, report, name, Dataset.open(test).pairs(), [work], ["synthetic"], config.scale)
    _add_table(study, report, rows)
    return study.finish(report)


def study_extrapolation(config: StudyExtrapolation) -> Path:
    """Let one generator paint masks from sparse to denser than any it has seen (Figure 5)."""
    (data,) = config.data
    dataset = open_data(data, config)
    study = Study.open("extrapolation", config)
    rows: dict[tuple[str, float], list[dict[str, Any]]] = {}
    reached: dict[tuple[str, float], list[float]] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        pool, test = subset(study, dataset, config, seed, config.limit)
        judge = _judge(study, config, pool, seed)
        settings = replace(base_generator(config, pool, seed), out=study.place("runs", f"generator-{seed}"))
        run = trained(settings, train_generator)
        for layout in LAYOUTS:
            for density in config.densities:
                name = f"{layout}-{density:g}-{seed}"
                masks = study.place("data", name)
                if not finished(masks):
                    simulate_masks(
                        SimulateMasks(
                            out=masks,
                            like=pool,
                            count=config.count,
                            density=density,
                            layout=layout,
                            scale=config.scale,
                            seed=seed,
                        )
                    )
                record = paint_and_score(study, name, config, run, judge, masks, test)
                simulated = Dataset.open(masks, holds="masks").info["files"].values()
                reached.setdefault((layout, density), []).extend(file["coverage"] for file in simulated)
                rows.setdefault((layout, density), []).append(record)
    report = Report(
        "Extrapolation over density", f"{counted(config.count, 'mask')} per density, {counted(config.seeds, 'seed')}"
    )
    groups = [
        ({"layout": key[0], "share of cell": key[1], "reached": float(np.mean(reached[key]))}, found)
        for key, found in rows.items()
    ]
    _add_table(study, report, groups)
    report.figure(_densities(rows), "What a segmenter finds of the cells that were to be painted, by coverage.")
    for layout in LAYOUTS:
        works = [study.place("work", f"{layout}-{density:g}-{config.seed}") for density in config.densities]
        pictures = [_first_picture(work) for work in works]
        titles = [f"{density:.0%} cell" for density in config.densities]
        report.image_grid([pictures], titles, [layout], f"Simulated masks, {layout}, painted.")
        study.picture(layout, [pictures])
    return study.finish(report)


def _limit(config: StudyGenerators) -> str:
    return "all annotated images" if config.limit is None else f"{config.limit} annotated images"


def _judge(study: Study, config: StudyGenerators, pool: Path, seed: int, prefix: str = "") -> Run:
    """Return a segmenter trained on the same images: what it finds in a painted image tells how faithful that is."""
    say([f"{study.kind}: the segmenter that judges, seed {seed}"])
    settings = base_settings(config, pool, seed)
    out = study.place("runs", f"{prefix}judge-{seed}")
    return trained(replace(settings, limit=config.limit, out=out), train_segmentation)


def _scores(results: GenerationResults) -> dict[str, Any]:
    sets, pairs = results.sets, results.pairs
    found: dict[str, Any] = {"notes": list(results.notes)}
    if sets is not None:
        found |= {"network": sets.network, "KID": sets.kid.value, "FID": sets.fid}
        found |= {name: getattr(sets, name) for name in ("precision", "recall", "density", "coverage")}
    if pairs is not None:
        found |= {"SSIM": pairs.ssim.value, "PSNR": pairs.psnr.value}
        found |= {} if pairs.lpips is None else {"LPIPS": pairs.lpips.value, "lpips_network": pairs.lpips_network}
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in found.items()}


def _add_table(study: Study, report: Report, groups: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    """Add a table: a row per group of records (one per seed), a column per score that was computed."""
    columns = [c for c in COLUMNS if any(r.get(c) is not None for _, records in groups for r in records)]
    rows = []
    for lead, records in groups:
        row = {**lead, **{column: over_seeds(records, column) for column in columns}}
        study.row(**row)
        rows.append([shown(cell) for cell in row.values()])
    networks = {r[key] for _, records in groups for r in records for key in ("network", "lpips_network") if r.get(key)}
    named = f" Networks: {', '.join(sorted(networks))}." if networks else ""
    caption = (
        f"Means over seeds; intervals resample seeds only.{named} "
        "Faithfulness is the share of the mask's cells that a segmenter finds."
    )
    report.table(list(study.rows[-1]), rows, caption=caption)


def _add_panel(
    study: Study, report: Report, name: str, test: Dataset, works: Sequence[Path], titles: Sequence[str], scale: float
) -> None:
    """Add pictures: mask, real image, and what each generator painted, of the first test images."""
    grid = []
    for item in test.items[:SHOWN]:
        factor = scale / test.scale
        image, labels = test.read_image(item, factor), test.read_labels(item, factor)
        images = [colour_labels(middle(labels)), to_rgb(middle(image))]
        for work in works:
            made = Dataset.open(work)
            (twin,) = (other for other in made.items if other.name == item.name)
            images.append(to_rgb(middle(made.read_image(twin))))
        grid.append(images)
    names = [item.name for item in test.items[:SHOWN]]
    report.image_grid(grid, ["mask", "real image", *titles], names, "Masks and images that no generator has seen.")
    study.picture(name, grid)


def _first_picture(work: Path) -> np.ndarray:
    made = Dataset.open(work)
    return to_rgb(middle(made.read_image(made.items[0])))


def _densities(rows: Mapping[tuple[str, float], list[dict[str, Any]]]) -> Figure:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for layout in dict.fromkeys(layout for layout, _ in rows):
        points = [(d, over_seeds(r, "faithfulness")) for (other, d), r in rows.items() if other == layout]
        known = [(d, e.value) for d, e in points if e is not None]
        axes.plot([d for d, _ in known], [v for _, v in known], marker="o", label=layout)
    axes.set(xlabel="coverage", ylabel="cells found", ylim=(0, 1))
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure
