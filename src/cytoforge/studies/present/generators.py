"""Tables and pictures of the studies `ablation`, `versatility` and `extrapolation` (cGAN-Seg, Figures 3, 4 and 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cytoforge.data.dataset import Dataset
from cytoforge.data.images import remaining
from cytoforge.progress import counted
from cytoforge.report import Pixels, colour_labels, to_rgb
from cytoforge.report import Report as Page
from cytoforge.studies.measurements import (
    DensePaintings,
    MeasuredAblation,
    MeasuredExtrapolation,
    MeasuredVersatility,
    Paintings,
    PaintingScores,
)
from cytoforge.studies.present.presentation import Cell, Presentation, middle, over_seeds
from cytoforge.studies.specification import GeneratorStudy

PICTURED_IMAGES = 3  # number of test images in pictures
COLUMNS = {  # title: score
    "KID": "kid",
    "FID": "fid",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "LPIPS": "lpips",
    "SSIM": "ssim",
    "PSNR": "psnr",
    "faithfulness": "faithfulness",
}


def present_ablation(measured: MeasuredAblation) -> Presentation:
    """Show generators with and without styles, perceptual loss and instances."""
    study = measured.study
    told = f"{_images(study)}, {counted(len(study.seeds), 'seed')}"
    if study.cycle:
        told += f"; trained in the cycle with a segmenter ({study.network}, target {study.target})"
    presentation = Presentation(Page("Generator ablation", told))
    _add_table(presentation, [({"generator": arm}, found) for arm, found in measured.generators.items()])
    for arm, reason in measured.left_out.items():
        presentation.row(generator=arm, note=f"not trained: {reason}")
        presentation.report.text(f"{arm}: not trained; {reason}.")
    _add_paintings(presentation, measured.paintings, study)
    return presentation


def present_versatility(measured: MeasuredVersatility) -> Presentation:
    """Show the generator of each data set by its paintings on the masks of the test images."""
    study = measured.study
    presentation = Presentation(Page("Versatility", f"one generator per data set, {_images(study)} each"))
    for paintings in measured.paintings:
        _add_paintings(presentation, paintings, study)
    _add_table(presentation, [({"data": name}, found) for name, found in measured.datasets.items()])
    return presentation


def present_extrapolation(measured: MeasuredExtrapolation) -> Presentation:
    """Show what one generator paints on masks from sparse to denser than any it was trained on."""
    study, densities = measured.study, measured.densities
    told = f"{counted(study.count, 'mask')} per density, {counted(len(study.seeds), 'seed')}"
    presentation = Presentation(Page("Extrapolation over density", told))
    groups: list[tuple[dict[str, Cell], Sequence[PaintingScores]]] = [
        ({"layout": layout, "share of cell": density, "reached": dense.reached}, dense.scores)
        for (layout, density), dense in densities.items()
    ]
    _add_table(presentation, groups)
    caption = "What a segmenter finds of the cells that were to be painted, by coverage."
    presentation.report.figure(_found_by_density(densities), caption)
    for layout in dict.fromkeys(layout for layout, _ in densities):
        pictures = [_first_picture(dense.painted) for (other, _), dense in densities.items() if other == layout]
        titles = [f"{density:.0%} cell" for density in study.densities]
        presentation.report.image_grid([pictures], titles, [layout], f"Simulated masks, {layout}, painted.")
        presentation.picture(layout, [pictures])
    return presentation


def _images(study: GeneratorStudy) -> str:
    return "all annotated images" if study.images is None else f"{study.images} annotated images"


def _add_table(presentation: Presentation, groups: Sequence[tuple[dict[str, Cell], Sequence[PaintingScores]]]) -> None:
    """Add a table: a row per group of scores (one per seed), a column per score that was computed."""
    every = [scores for _, found in groups for scores in found]
    columns = {
        title: score for title, score in COLUMNS.items() if any(getattr(one, score) is not None for one in every)
    }
    rows = [
        {**lead, **{title: over_seeds(getattr(one, score) for one in found) for title, score in columns.items()}}
        for lead, found in groups
    ]
    networks = {name for one in every for name in (one.network, one.lpips_network) if name}
    named = f" Networks: {', '.join(sorted(networks))}." if networks else ""
    presentation.table(
        rows,
        f"Means over seeds; intervals resample seeds only.{named} "
        "Faithfulness is the share of the mask's cells that a segmenter finds.",
    )


def _add_paintings(presentation: Presentation, paintings: Paintings, study: GeneratorStudy) -> None:
    """Add pictures: mask, real image, and what each generator painted, of the first test images."""
    test = Dataset.open(paintings.test).pairs()
    grid = []
    for item in test.items[:PICTURED_IMAGES]:
        scaling = remaining(study.resize or study.scale, test.scale)
        image, labels = test.read_image(item, scaling), test.read_labels(item, scaling)
        images = [colour_labels(middle(labels)), to_rgb(middle(image))]
        for painted in map(Dataset.open, paintings.painted.values()):
            (twin,) = (other for other in painted.items if other.name == item.name)
            images.append(to_rgb(middle(painted.read_image(twin))))
        grid.append(images)
    names = [item.name for item in test.items[:PICTURED_IMAGES]]
    titles = ["mask", "real image", *paintings.painted]
    presentation.report.image_grid(grid, titles, names, "Masks and images that no generator has seen.")
    presentation.picture(paintings.name, grid)


def _first_picture(path: Path) -> Pixels:
    painted = Dataset.open(path)
    return to_rgb(middle(painted.read_image(painted.items[0])))


def _found_by_density(densities: Mapping[tuple[str, float], DensePaintings]) -> Figure:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for layout in dict.fromkeys(layout for layout, _ in densities):
        points = [
            (density, over_seeds(one.faithfulness for one in dense.scores))
            for (other, density), dense in densities.items()
            if other == layout
        ]
        known = [(density, mean.value) for density, mean in points if mean is not None]
        axes.plot([density for density, _ in known], [value for _, value in known], marker="o", label=layout)
    axes.set(xlabel="coverage", ylabel="cells found", ylim=(0, 1))
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure
