"""`cytoforge score movie`: compare a generated movie with a real one; print a table and write JSON."""

from collections.abc import Iterator
from importlib.metadata import version
from math import isnan
from typing import Any

import numpy as np

from cytoforge.commands.narrowed import narrowed
from cytoforge.data.feature_files import FeatureNetwork
from cytoforge.data.files import write_json
from cytoforge.data.weights import used_weights
from cytoforge.evaluation.comparison import MovieComparison
from cytoforge.evaluation.movie import MovieResults, SideScores, score_sides
from cytoforge.evaluation.movie_sides import Sides
from cytoforge.metrics.estimates import Estimate, to_json
from cytoforge.metrics.movie import NAN
from cytoforge.places import ABSENT
from cytoforge.progress import counted
from cytoforge.settings import ScoreMovie


def score_movie_command(settings: ScoreMovie) -> None:
    """Score and print the table."""
    results = score_movie(settings)
    print("\n".join([*results.notes, *_table(results)]))


def score_movie(settings: ScoreMovie) -> MovieResults:
    """Compute all scores that sequences and weights allow; write `settings.json` if given.

    Raises:
        UserError: a path is no movie with tracks, its frames are fewer than two, not in a row, of several sizes or
            neither grey nor RGB, the truth is synthetic and that is not allowed, weights or segmenter cannot be used,
            or the JSON file exists already.
    """
    if settings.json is not None:
        ABSENT.check(settings.json, overwrite=settings.overwrite)
    comparison = narrowed(MovieComparison, settings)
    sides = Sides.open(comparison)
    results = score_sides(comparison, sides)
    if settings.json is not None:
        write_json(settings.json, _record(sides, settings, results))
    return results


def _record(sides: Sides, settings: ScoreMovie, results: MovieResults) -> dict[str, Any]:
    """Return the content of the JSON file: the origin of the scores, then the computed scores."""
    ours, theirs = sides.generated[0], sides.real[0]
    used: list[FeatureNetwork] = ["inception"] if results.frames else []
    used += ["squeezenet", "lpips"] if results.pairs and results.pairs.lpips else []
    used += ["vgg16", "lpips-vgg"] if results.pairs and results.pairs.lpips_vgg else []
    used += ["i3d"] if results.video else []
    names = ("pairs", "neighbours", "frames", "clips", "video", "classifier", "generated", "real")
    scores = {name: to_json(score) for name in names if (score := getattr(results, name)) is not None}
    for side in (scores["generated"], scores["real"]):
        if side["faithfulness"]:
            by_sequence = zip(side["sequences"], side["faithfulness"]["instances"], strict=True)
            side["faithfulness"]["instances"] = dict(by_sequence)
    return {
        "format": 1,
        "command": "score movie",
        "version": version("cytoforge"),
        "seed": settings.seed,
        "scale": theirs.scale,
        "limits": {"prediction": ours.limits.tolist(), "truth": theirs.limits.tolist()},
        "prediction": ours.data.fingerprint(),
        "truth": theirs.data.fingerprint(),
        "networks": used_weights(used, settings.weights_dir),
        **({"segmenter": str(settings.segmenter)} if settings.segmenter else {}),
        "paired": list(results.paired),
        "ratios": {name: None if isnan(ratio) else ratio for name, ratio in results.ratios.items()},
        "notes": list(results.notes),
        **{name: {key: value for key, value in score.items() if value is not None} for name, score in scores.items()},
    }


def _table(results: MovieResults) -> Iterator[str]:
    ours, real = results.generated, results.real
    yield f"{_names(ours)} generated, {_names(real)} real; - where undefined"
    yield _line("", "generated", "real")
    if (pairs := results.pairs) and (steps := results.neighbours):
        yield f"frame by frame, {counted(pairs.pairs, 'pair')}; real: each frame against the next one"
        yield _row("SSIM", pairs.ssim, steps.ssim)
        yield _row("PSNR, dB", pairs.psnr, steps.psnr, digits=1)
        if pairs.lpips and steps.lpips:
            yield _row("LPIPS", pairs.lpips, steps.lpips, remark=str(pairs.lpips_network))
        if pairs.lpips_vgg and steps.lpips_vgg:
            yield _row("LPIPS", pairs.lpips_vgg, steps.lpips_vgg, remark=str(pairs.lpips_vgg_network))
    if results.frames or results.clips or results.video:
        yield "Frechet distance of generated from real; real: of their earlier from their later half"
    for title, score in (("of frames", results.frames), ("of clips", results.clips), ("of clips", results.video)):
        if score:
            size = f"{score.generated} against {score.real}, {score.network}"
            yield _row(title, score.distance, score.halves, remark=size)
    if told := results.classifier:
        yield f"share of crops of {told.side} px, of frames that it has not seen, that a classifier tells rightly"
        yield _row("of both, 0.5 is best", told.accuracy, NAN)
        yield _row("of each", told.painted, told.real)
    yield "change from frame to frame, of grey values from -1 to 1"
    yield _row("warping error", ours.coherence.warping_error, real.coherence.warping_error, digits=4)
    ratios = {name: "" if isnan(ratio) else f"{ratio:.2f} of the real one" for name, ratio in results.ratios.items()}
    change = "background_change"
    yield _row("background flicker", ours.coherence.flicker, real.coherence.flicker, 4, ratios["flicker"])
    yield _row(
        "background change", ours.coherence.background_change, real.coherence.background_change, 4, ratios[change]
    )
    yield _row("noise power, x 1000", 1000 * ours.noise_power, 1000 * real.noise_power, 4, ratios["noise_power"])
    lengths = sorted({*ours.drift, *real.drift})
    for name in ("grey", "texture") if lengths else ():
        yield f"drift of {name} from the mean of the real frames"
        for length in lengths:
            a, b = (getattr(side.drift[length], name) if length in side.drift else np.nan for side in (ours, real))
            yield _row(f"{length} frames", a, b)
    if ours.faithfulness and real.faithfulness:
        yield "cells that the segmenter finds, at IoU 0.5"
        yield _row("mean over tracks", ours.faithfulness.mean, real.faithfulness.mean)
        yield _row("of all cells", ours.faithfulness.cells, real.faithfulness.cells)


def _names(side: SideScores) -> str:
    return f"sequence {', '.join(side.sequences)} ({counted(side.frames, 'frame')})"


def _row(title: str, ours: Estimate | float, real: Estimate | float, digits: int = 3, remark: str = "") -> str:
    if isinstance(ours, Estimate) and not isnan(ours.low):
        remark = f"[{ours.low:.{digits}f} {ours.high:.{digits}f}] {remark}"
    values = (score.value if isinstance(score, Estimate) else score for score in (ours, real))
    generated, true = ("-" if isnan(value) else f"{value:.{digits}f}" for value in values)
    return _line(title, generated, true, remark)


def _line(title: str, ours: str, real: str, remark: str = "") -> str:
    return f"  {title:<20}{ours:>10}{real:>10}  {remark}".rstrip()
