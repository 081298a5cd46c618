"""Trainings of image generators, whose paintings are scored: `ablation`, `versatility` and `extrapolation`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from cytoforge.data.dataset import INFO, Dataset
from cytoforge.data.run import Run
from cytoforge.data.run_config import Settings, parse
from cytoforge.data.weights import weights_file
from cytoforge.evaluation.comparison import ImageComparison
from cytoforge.evaluation.generation import GenerationResults, open_images, score_images
from cytoforge.inference.generate import Keeping, generate_images
from cytoforge.inference.image_generator import ImageGenerator
from cytoforge.inference.segmenter import Segmenter
from cytoforge.progress import say
from cytoforge.simulated.masks import simulate_masks
from cytoforge.simulated.specification import MaskSimulation
from cytoforge.studies.datasets import subset
from cytoforge.studies.folder import StudyFolder
from cytoforge.studies.measure.trainings import (
    generator_in_cycle,
    image_generator,
    reference_segmenter,
    training_of,
    windows_on_terms,
)
from cytoforge.studies.measurements import (
    DensePaintings,
    MeasuredAblation,
    MeasuredExtrapolation,
    MeasuredVersatility,
    Paintings,
    PaintingScores,
)
from cytoforge.studies.specification import LAYOUTS, AblationStudy, ExtrapolationStudy, GeneratorStudy
from cytoforge.training.hyperparameters import GENERATOR, Generator
from cytoforge.training.tasks.staged import finished

ARMS: Mapping[str, Mapping[str, Any]] = {
    "U-Net, L1": {"network": "unet", "perceptual": "none", "background": "painted"},
    "StyleUNet, L1": {"perceptual": "none", "background": "painted"},
    "StyleUNet, L1 + VGG-19": {"perceptual": "vgg", "background": "painted"},
    "StyleUNet, textures in the discriminator's features": {"perceptual": "statistics", "background": "painted"},
    "the same, told of instances": {"perceptual": "statistics", "background": "painted", "condition": "instances"},
    "StyleUNet, L1 + features, told of instances, on real backgrounds": {
        "perceptual": "features",
        "background": "real",
        "condition": "instances",
    },
}


class Curated(Settings):
    """What dataset.json says of painted images: the share of each mask's cells that a segmenter finds."""

    faithfulness: dict[str, float | None]


class Painted(Settings):
    """The part of a painted dataset's dataset.json that is read."""

    curation: Curated


class Covered(Settings):
    """What dataset.json says of a simulated mask."""

    coverage: float


class Simulated(Settings):
    """The part of dataset.json of simulated masks that is read."""

    files: dict[str, Covered] = Field(min_length=1)


def measure_ablation(study: AblationStudy, datasets: Mapping[str, Dataset], folder: StudyFolder) -> MeasuredAblation:
    """Measure generators with and without styles, perceptual loss and instances.

    Raises UserError as training, generating and scoring do.
    """
    ((data, dataset),) = datasets.items()
    left_out, arms = left_out_arms(study), _arms(study)
    found: dict[str, list[PaintingScores]] = {}
    for seed in study.seeds:
        for arm, scores in _ablated(study, datasets, folder, seed).items():
            found.setdefault(arm, []).append(scores)
    _, test = subset(folder, study, data, dataset, study.seeds[0])
    works = {arm: folder.place("work", f"{number}-{study.seeds[0]}") for number, arm in arms.items()}
    paintings = Paintings("ablation", test, works)
    return MeasuredAblation(study=study, generators=found, left_out=left_out, paintings=paintings)


def ablation_measurements(
    study: AblationStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what `measure_ablation` measures, each seed by itself, by name of its last result."""
    last = max(_arms(study))
    return {f"{last}-{seed}": partial(_ablated, study, datasets, folder, seed) for seed in study.seeds}


def _arms(study: AblationStudy) -> dict[int, str]:
    """Return the generators that can be trained, by their number."""
    left_out = left_out_arms(study)
    return {number: arm for number, arm in enumerate(ARMS, start=1) if arm not in left_out}


def _ablated(
    study: AblationStudy, datasets: Mapping[str, Dataset], folder: StudyFolder, seed: int
) -> dict[str, PaintingScores]:
    ((data, dataset),) = datasets.items()
    pool, test = subset(folder, study, data, dataset, seed, study.images)
    reference = _reference(folder, study, pool, seed)
    found = {}
    for number, arm in _arms(study).items():
        say([f"ablation: {arm}, seed {seed}"])
        parameters = arm_parameters(study, arm)
        run = _generator(folder, study, parameters, pool, f"{number}-{seed}", seed, cycle=study.cycle)
        found[arm] = painting_scores(folder, f"{number}-{seed}", study, run, reference, test, test)
    return found


def left_out_arms(study: AblationStudy) -> dict[str, str]:
    """Return the generators of the ablation that cannot be trained, and why."""
    weights = study.compute.weights_dir
    found = {}
    for arm, values in ARMS.items():
        if values["perceptual"] == "vgg" and weights_file("vgg19", weights) is None:
            found[arm] = "it needs the weights of VGG-19, which are not there (cytoforge weights fetch vgg19)"
        elif study.cycle and values["background"] == "real":
            found[arm] = "in the cycle a generator paints all"
    return found


def measure_versatility(
    study: GeneratorStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> MeasuredVersatility:
    """Measure the generator of each data set by its paintings on the masks of the test images."""
    found: dict[str, list[PaintingScores]] = {}
    paintings = []
    for name, dataset in datasets.items():
        found[name] = [_painted_like(study, datasets, folder, name, seed) for seed in study.seeds]
        _, test = subset(folder, study, name, dataset, study.seeds[0])
        paintings.append(Paintings(name, test, {"synthetic": folder.place("work", f"{name}-{study.seeds[0]}")}))
    return MeasuredVersatility(study=study, datasets=found, paintings=paintings)


def versatility_measurements(
    study: GeneratorStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what `measure_versatility` measures, each data set and seed by itself, by name of its result."""
    return {
        f"{name}-{seed}": partial(_painted_like, study, datasets, folder, name, seed)
        for name, seed in product(datasets, study.seeds)
    }


def _painted_like(
    study: GeneratorStudy, datasets: Mapping[str, Dataset], folder: StudyFolder, name: str, seed: int
) -> PaintingScores:
    pool, test = subset(folder, study, name, datasets[name], seed, study.images)
    reference = _reference(folder, study, pool, seed, f"{name}-")
    run = _generator(folder, study, base_parameters(study), pool, f"{name}-{seed}", seed)
    return painting_scores(folder, f"{name}-{seed}", study, run, reference, test, test)


def measure_extrapolation(
    study: ExtrapolationStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> MeasuredExtrapolation:
    """Measure what one generator paints on masks from sparse to denser than any it was trained on."""
    scores: dict[tuple[str, float], list[PaintingScores]] = {}
    reached: dict[tuple[str, float], list[float]] = {}
    for seed in study.seeds:
        for dense, (found, coverage) in _extrapolated(study, datasets, folder, seed).items():
            reached.setdefault(dense, []).extend(coverage)
            scores.setdefault(dense, []).append(found)
    return MeasuredExtrapolation(
        study=study,
        densities={
            (layout, density): DensePaintings(
                found,
                float(np.mean(reached[layout, density])),
                folder.place("work", f"{_dense_name(layout, density)}-{study.seeds[0]}"),
            )
            for (layout, density), found in scores.items()
        },
    )


def extrapolation_measurements(
    study: ExtrapolationStudy, datasets: Mapping[str, Dataset], folder: StudyFolder
) -> Mapping[str, Callable[[], object]]:
    """Return what `measure_extrapolation` measures, each seed by itself, by name of its last result."""
    last = _dense_name(LAYOUTS[-1], study.densities[-1])
    return {f"{last}-{seed}": partial(_extrapolated, study, datasets, folder, seed) for seed in study.seeds}


def _dense_name(layout: str, density: float) -> str:
    return f"{layout}-{density:g}"


def _extrapolated(
    study: ExtrapolationStudy, datasets: Mapping[str, Dataset], folder: StudyFolder, seed: int
) -> dict[tuple[str, float], tuple[PaintingScores, list[float]]]:
    """Return scores, and the coverage of each mask, by layout and density."""
    ((data, dataset),) = datasets.items()
    pool, test = subset(folder, study, data, dataset, seed, study.images)
    reference = _reference(folder, study, pool, seed)
    run = _generator(folder, study, base_parameters(study), pool, f"generator-{seed}", seed)
    measured: dict[tuple[str, float], tuple[PaintingScores, list[float]]] = {}
    for layout, density in product(LAYOUTS, study.densities):
        name = f"{_dense_name(layout, density)}-{seed}"
        masks = folder.place("data", name)
        if not finished(masks):
            wanted = MaskSimulation(
                out=masks, like=pool, count=study.count, density=density, layout=layout, scale=study.scale, seed=seed
            )
            say(simulate_masks(wanted))
        found = painting_scores(folder, name, study, run, reference, masks, test)
        info = Dataset.open(masks, holds="masks").info
        simulated = parse(Simulated, info, masks / INFO, f"remove the folder {masks} and repeat the command")
        measured[layout, density] = found, [file.coverage for file in simulated.files.values()]
    return measured


def base_parameters(study: GeneratorStudy) -> Generator:
    """Return the hyperparameters that all generators of a study have in common."""
    return replace(windows_on_terms(GENERATOR[study.preset], study), condition=study.condition or "mask")


def arm_parameters(study: GeneratorStudy, arm: str) -> Generator:
    """Return the hyperparameters of a generator of the ablation."""
    return replace(base_parameters(study), **ARMS[arm])


def _generator(
    folder: StudyFolder,
    study: GeneratorStudy,
    parameters: Generator,
    data: Path,
    name: str,
    seed: int,
    cycle: bool = False,
) -> Run:
    training = training_of(study, data, folder.place("runs", name), seed, images=study.images)
    return generator_in_cycle(study, parameters, training) if cycle else image_generator(parameters, training)


def _reference(folder: StudyFolder, study: GeneratorStudy, data: Path, seed: int, prefix: str = "") -> Run:
    out = folder.place("runs", f"{prefix}reference-segmenter-{seed}")
    return reference_segmenter(study, training_of(study, data, out, seed, images=study.images))


def painting_scores(
    folder: StudyFolder, name: str, study: GeneratorStudy, run: Run, reference: Run, masks: Path, real: Path
) -> PaintingScores:
    """Paint on all masks and score against the real images, once."""

    def measure() -> PaintingScores:
        out = painted(folder, name, study, run, reference, masks)
        stored = parse(Painted, Dataset.open(out).info, out / INFO, f"remove the folder {out} and repeat the command")
        shares = [value for value in stored.curation.faithfulness.values() if value is not None]
        faithful = float(np.mean(shares)) if shares else None
        weights = study.compute.weights_dir
        if masks != real and weights_file("inception", weights) is None:
            return PaintingScores(faithfulness=faithful)  # no pairs; sets need weights
        comparison = ImageComparison(
            prediction=out,
            truth=real,
            scale=study.scale,
            resize=study.resize,
            weights_dir=weights,
            device=study.compute.device,
            threads=study.compute.threads,
        )
        return _scores(score_images(comparison, open_images(comparison)), faithful)

    return folder.once(name, PaintingScores, measure)


def painted(folder: StudyFolder, name: str, study: GeneratorStudy, run: Run, reference: Run, masks: Path) -> Path:
    """Paint on all masks, once; the reference segmenter judges every image, none is dropped. Returns the dataset."""
    out, compute = folder.place("work", name), study.compute
    if not finished(out):
        generator = ImageGenerator.load(run.path, device=compute.device, threads=compute.threads)
        segmenter = Segmenter.load(reference.path, device=compute.device, threads=compute.threads)
        given = Dataset.open(masks, holds="masks").masks()
        generate_images(generator, given, out, keeping=Keeping(1.0, segmenter))
    return out


def _scores(results: GenerationResults, faithfulness: float | None) -> PaintingScores:
    """Return the scores that could be computed, None where undefined."""
    sets, pairs = results.sets, results.pairs
    found: dict[str, Any] = {"notes": list(results.notes)}
    if sets is not None:
        found |= {"network": sets.network, "kid": sets.kid.value, "fid": sets.fid}
        found |= {name: getattr(sets, name) for name in ("precision", "recall", "density", "coverage")}
    if pairs is not None:
        found |= {"ssim": pairs.ssim.value, "psnr": pairs.psnr.value}
        found |= {} if pairs.lpips is None else {"lpips": pairs.lpips.value, "lpips_network": pairs.lpips_network}
    defined = {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in found.items()}
    return PaintingScores.model_validate({**defined, "faithfulness": faithfulness})
