"""`cytoforge score generation`: compare generated with real images; print a table and write JSON."""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from math import isnan
from typing import Any

from cytoforge.commands.narrowed import narrowed, size
from cytoforge.data.feature_files import FeatureNetwork
from cytoforge.data.files import write_json
from cytoforge.data.weights import used_weights
from cytoforge.evaluation.comparison import ImageComparison
from cytoforge.evaluation.generation import GenerationResults, ImageSides, open_images, score_images
from cytoforge.metrics.copying import Copying
from cytoforge.metrics.estimates import Estimate, to_json
from cytoforge.places import ABSENT
from cytoforge.progress import counted
from cytoforge.settings import ScoreGeneration

MAPPINGS = {
    "set": "all images between the limits of the real ones together",
    "image": "each real image between its own limits, paintings as painted: brightness is hardly compared",
}


def score_generation_command(settings: ScoreGeneration) -> None:
    """Score and print the table."""
    results = score_generation(settings)
    print("\n".join([*results.notes, *_table(results, settings)]))


def score_generation(settings: ScoreGeneration) -> GenerationResults:
    """Compute all scores that the images and available weights allow; write `settings.json` if it is given.

    Raises:
        UserError: a path holds no images, images are neither grey nor RGB or differ in that, the truth is synthetic
            and that is not allowed, weights are damaged, nothing can be scored, or the JSON file exists already.
    """
    if settings.json is not None:
        ABSENT.check(settings.json, overwrite=settings.overwrite)
    comparison = narrowed(ImageComparison, settings, resize=size(settings.resize))
    sides = open_images(comparison)
    results = score_images(comparison, sides)
    if settings.json is not None:
        write_json(settings.json, _record(sides, comparison, settings, results))
    return results


def _record(
    sides: ImageSides, comparison: ImageComparison, settings: ScoreGeneration, results: GenerationResults
) -> dict[str, Any]:
    """Return the content of the JSON file: the origin of the scores, then the scores that were computed."""
    looked = results.styles is not None or (results.pairs is not None and results.pairs.lpips is not None)
    used: list[FeatureNetwork] = ["inception"] if results.sets is not None else []
    used += ["squeezenet", "lpips"] if looked else []
    used += ["vgg16", "lpips-vgg"] if results.pairs is not None and results.pairs.lpips_vgg is not None else []
    scores = {
        "sets": results.sets and to_json(results.sets),
        "pairs": results.pairs and _present(to_json(results.pairs)),
        "copying": results.copying and _named(results.copying, sides),
        "styles": results.styles and to_json(results.styles),
        "classifier": results.classifier and to_json(results.classifier),
    }
    return {
        "format": 1,
        "command": "score generation",
        "version": version("cytoforge"),
        "seed": settings.seed,
        "scale": settings.scale,
        **({"resize": list(comparison.resize)} if comparison.resize else {}),
        "normalisation": sides.normalisation,
        "limits": None if sides.real.limits is None else sides.real.limits.tolist(),
        "prediction": sides.generated.data.fingerprint(),
        "truth": sides.real.data.fingerprint(),
        **({"training": sides.training.data.fingerprint()} if sides.training else {}),
        "networks": used_weights(used, settings.weights_dir),
        "notes": list(results.notes),
        **_present(scores),
    }


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _named(copies: Copying, sides: ImageSides) -> dict[str, Any]:
    """Return the result of the copying check with image names instead of indices."""
    assert sides.training is not None
    theirs = [sides.training.data.items[place].name for place in copies.nearest]
    names = [item.name for item in sides.generated.data.items]
    nearest = {
        name: {"training": other, "distance": distance}
        for name, other, distance in zip(names, theirs, copies.distance, strict=True)
    }
    values = to_json(copies)
    del values["distance"]
    return {**values, "nearest": nearest}


def _table(results: GenerationResults, settings: ScoreGeneration) -> Iterator[str]:
    yield f"grey values: {MAPPINGS[results.normalisation]}"
    yield "[95 % interval, images resampled]; - where undefined"
    if sets := results.sets:
        yield from (
            "",
            f"sets: {sets.generated} generated, {counted(sets.real, 'real image')}, features {sets.network}",
        )
        kid = sets.kid
        yield _row("KID x 1000", Estimate(1000 * kid.value, 1000 * kid.low, 1000 * kid.high, kid.images))
        for title in ("FID", "precision", "recall", "density", "coverage"):
            yield _row(title, getattr(sets, title.lower()))
    if pairs := results.pairs:
        yield from ("", f"pairs: {pairs.pairs}")
        if pairs.lpips:
            yield f"{_row('LPIPS', pairs.lpips)}  {pairs.lpips_network}"
        if pairs.lpips_vgg:
            yield f"{_row('LPIPS', pairs.lpips_vgg)}  {pairs.lpips_vgg_network}"
        yield _row("SSIM", pairs.ssim)
        yield _row("PSNR", pairs.psnr, unit=" dB", digits=1)
    if styles := results.styles:
        yield from ("", f"styles: {counted(styles.masks, 'mask')} with several images")
        yield f"{_row('diversity', styles.lpips)}  {styles.lpips_network}"
    if told := results.classifier:
        yield from ("", f"classifier: crops of {told.side} px of images that it has not seen")
        yield _row("accuracy", told.accuracy) + "  (of painted against real; 0.5: none can be told)"
    if copies := results.copying:
        yield from ("", f"copying: nearest of {counted(copies.training, 'training image')}, features {copies.network}")
        yield _row("distance", copies.median) + "  (median)"
        yield _row("theirs", copies.training_median) + "  (median, from training image to training image)"
        yield _row("closer", copies.closer) + "  (0.5: as training images to each other; towards 1: copies)"


def _row(title: str, value: Estimate | float, unit: str = "", digits: int = 3) -> str:
    shown = partial("{:.{}f}".format)
    estimate = value if isinstance(value, Estimate) else Estimate(value, float("nan"), float("nan"), 0)
    if isnan(estimate.value):
        return f"  {title:<11}-"
    text = f"  {title:<11}{shown(estimate.value, digits)}{unit}"
    if isnan(estimate.low):
        return text
    return f"{text} [{shown(estimate.low, digits)} {shown(estimate.high, digits)}]"
