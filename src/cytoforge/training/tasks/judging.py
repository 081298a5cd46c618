"""The rules by which a trained model is poor, usable or good, and what to do about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cytoforge.data.judgement import Judgement, Measured, Winner
from cytoforge.metrics.estimates import RESAMPLES, Floats, bootstrap_estimate
from cytoforge.metrics.morphology import SEGMENTED_DIAMETER, fitting_scale
from cytoforge.metrics.segmentation import SEVERAL, ImageScores, f_replicates
from cytoforge.progress import Verdict, counted
from cytoforge.training.course import Course, State

GOOD, POOR = 0.8, 0.5
"""F at IoU 0.5 from which a segmenter is good, and below which it is poor"""
SURE = 0.1
"""how far below GOOD the interval of a good segmenter may reach"""
MARGIN = 0.03
"""difference in F that means nothing"""
GAP = 0.15
"""how much better a model that has overfitted does on what it learned from"""
UNLEARNED = 0.7
"""F on images that a model learned from, below which it has not learned these"""
WIDE = 0.25
"""width of an interval that says too little"""
UNEVEN = 0.3
"""how far F of the worst image lies below the mean where images differ in kind"""
MIXED = 2.5
"""factor between median diameters of cells in two images from which they are of different kinds"""
LIKE, UNLIKE = 0.7, 0.4
"""agreement of the grain of painted cells with that of real ones from which it is good, and below which it is poor"""
PALE, FAINT = 0.5, 0.2
"""share of the contrast of real cells by which that of painted ones may differ; differences of grey values from -1 to 1
that mean nothing"""
SHOWN = 0.75
"""share of the cells that are found in real images that is to be found in painted ones, too"""
SEEN = 0.3
"""share of real cells that the base model must find to be a judge of painted ones"""
LINKED, LOST = 0.9, 0.7
"""F of the places where cells go from which a tracker is good, and below which it is poor"""
DIVIDED = 0.5
"""the same of divisions, below which a tracker is not good"""
MORE = "label more images (cytoforge suggest says which)"
RESAMPLED = 500
"""cells at most that are resampled"""


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """What was found with a trained segmenter, and with others, on annotated images."""

    names: Sequence[str]
    """validation images"""
    validation: Sequence[ImageScores]
    baseline: Sequence[ImageScores]
    """of Otsu's threshold with a watershed on the same images"""
    training: Sequence[ImageScores]
    """on images that the segmenter learned from"""
    rivals: Mapping[str, Sequence[ImageScores]] = field(default_factory=dict)
    """of other segmenters on the validation images, by name"""
    diameters: Sequence[float] = ()
    """median diameter of the cells of each image in pixels as the network sees them"""


def judge_segmenter(found: Segmented, course: Course, state: State) -> Judgement:
    """Judge a segmenter by F at IoU 0.5 on validation, against a threshold and against the images it learned from.

    It is poor below POOR, or where a threshold does better and F is below GOOD; good from GOOD on where the interval
    reaches less than SURE below that.
    """
    (score, over), (baseline, _), (training, _) = map(f_of_images, (found.validation, found.baseline, found.training))
    beaten = score is not None and baseline is not None and baseline.value > score.value + MARGIN
    verdict: Verdict = "usable"
    if score is None or score.value < POOR or (beaten and score.value < GOOD):
        verdict = "poor"
    elif not beaten and score.value >= GOOD and (score.low or 0.0) >= GOOD - SURE:
        verdict = "good"
    winners = [_winner(found.validation, name, other) for name, other in found.rivals.items()]
    if course.kind == "start kept":
        winners.append(_start_kept(state))
    reasons: list[str] = []
    remedies: list[str] = []
    for winner in winners:
        if winner.sure and winner.name in found.rivals:
            reasons.append(f"{winner.name} does better")
            remedies.append("use that one")
    if verdict != "good":
        for reason, remedy in _faults(found, score, training, beaten, course):
            reasons.append(reason)
            remedies += [remedy] * (remedy not in remedies and bool(remedy))
        remedies = remedies or [MORE]
    return Judgement(
        verdict=verdict,
        measure="F at IoU 0.5",
        over=over,
        score=score,
        baseline=baseline,
        baseline_name="Otsu's threshold with a watershed",
        training=training,
        winners=winners,
        reasons=reasons,
        remedies=remedies,
    )


def f_of_images(scores: Sequence[ImageScores]) -> tuple[Measured | None, str]:
    """Return F at the first threshold, mean over the images, with its interval, and over what that is."""
    values, replicates, number = f_replicates(scores, np.random.default_rng(0))
    if not number:
        return None, "no cells"
    images = number if len(scores) >= SEVERAL else len(scores)
    over = counted(images, "image") if number == images else f"{counted(number, 'cell')} of {counted(images, 'image')}"
    return Measured.of(bootstrap_estimate(values[0], replicates[:, 0], number)), over


def _faults(
    found: Segmented, score: Measured | None, training: Measured | None, beaten: bool, course: Course
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a segmenter, each with its remedy or ""."""
    longer = "train longer (--minutes)"
    check = "look whether the masks are right and complete (cytoforge check)"
    if score is None:
        yield "the validation images hold no cells", "keep images with cells for validation (--validation)"
        return
    hit, false, missed = (
        sum(getattr(one, name)[0] for one in found.validation)
        for name in ("true_positives", "false_positives", "false_negatives")
    )
    yield _counts(hit, false, missed), ""
    if training is not None and max(training.value, score.value) < UNLEARNED:
        yield (
            "it does not find the cells either that it learned from (underfitting)",
            longer if course.cut_short else check,
        )
        if fitting_scale(float(np.median(found.diameters or [SEGMENTED_DIAMETER])), SEGMENTED_DIAMETER) is not None:
            yield "its cells have a size that does not suit the network", "leave --scale out, or give --scale auto"
    elif training is not None and training.value > score.value + GAP:
        yield "it does well only on what it learned from (overfitting)", MORE
    elif course.kind == "rising":
        yield "it was still learning", longer
    elif course.cut_short:
        yield "training was too short to tell whether it was still learning", longer
    if beaten:
        yield "a threshold, which learns nothing, does better", "" if course.cut_short else check
    if score.low is None or score.high is None or score.high - score.low > WIDE:
        yield (
            "there is too little validation to tell (its interval is wide)",
            "label more images, or keep some for validation (--validation)",
        )
    known = [(one.f_score[0], name) for one, name in zip(found.validation, found.names, strict=True) if one.truth_cells]
    if len(known) >= SEVERAL and min(known)[0] < score.value - UNEVEN:
        value, name = min(known)
        yield f"it does worst on {name} (F {value:.2f})", f"label more images like {name}"
    sizes = np.array([size for size in found.diameters if np.isfinite(size)])
    if sizes.size and sizes.max() > MIXED * sizes.min():
        yield (
            f"cells are {sizes.max() / sizes.min():.1f} times as large in one image as in another",
            "train on images of one kind at a time, or label several of each",
        )


def _counts(hit: int, false: int, missed: int) -> str:
    if not hit + false:
        return f"it finds none of {counted(missed, 'cell')}"
    extra = f"{false} of the {hit + false} that it finds match none" if false else "none that is not there"
    return f"it finds {hit} of {counted(hit + missed, 'cell')}, and {extra}"


def _winner(trained: Sequence[ImageScores], name: str, rival: Sequence[ImageScores]) -> Winner:
    """Compare a trained segmenter with another on the same images, by F over all thresholds."""
    ours = "the trained segmenter"
    pairs = [
        (a, b)
        for a, b in zip(trained, rival, strict=True)
        if a.truth_cells + a.predicted_cells and b.truth_cells + b.predicted_cells
    ]
    alike = len(pairs) >= SEVERAL  # both sides take the same draws of images
    (a, spread_a, number), (b, spread_b, _) = (
        f_replicates([pair[side] for pair in pairs], np.random.default_rng(0 if alike else side)) for side in (0, 1)
    )
    if not number:
        return Winner(name=ours, other=name, score=0.0, other_score=0.0, difference=Measured(value=0.0))
    one, other = float(a.mean()), float(b.mean())
    sign = 1 if one >= other else -1
    estimate = bootstrap_estimate(abs(one - other), sign * (spread_a - spread_b).mean(axis=1), number)
    names, scores = (ours, name)[::sign], (one, other)[::sign]
    difference = Measured.of(estimate)
    assert difference is not None
    return Winner(name=names[0], other=names[1], score=scores[0], other_score=scores[1], difference=difference)


def _start_kept(state: State) -> Winner:
    """Compare what a training started from, which was kept, with the best that came of it."""
    later = max((score for progress, score in state.history[1:]), default=state.best)
    return Winner(
        name="what the training started from, which was kept,",
        other="what training made of it",
        score=state.best,
        other_score=later,
        difference=Measured(value=state.best - later),
    )


@dataclass(frozen=True, kw_only=True)
class Painted:
    """What real cells and those painted on the same masks look like."""

    real: Floats
    """`metrics.texture.grain` (N, 2) of all cells of validation"""
    painted: Floats
    """of the same cells as they are painted"""
    contrast: Floats
    """`metrics.texture.contrast` (N,) of all cells of validation"""
    contrast_painted: Floats
    """of the same cells as they are painted"""
    found: float
    """share of the cells that the base model finds in real images, 0 to 1; nan without cells"""
    found_painted: float
    """the same in painted images"""


def judge_painter(seen: Painted, course: Course) -> Judgement:
    """Judge a generator by the grain inside its cells and their contrast against those of real ones, and by whether its
    cells are found.

    The score is the agreement of the medians, the smaller over the larger, of all variation or of the fine grain,
    whichever agrees less: 1 is equal. It is poor below UNLIKE, where cells are much paler or stronger against the
    background than real ones, or where far fewer cells are found than in real images.
    """
    known = np.isfinite(seen.real).all(axis=1) & np.isfinite(seen.painted).all(axis=1) & (seen.real > 0).all(axis=1)
    real, painted = (side[known][:RESAMPLED] for side in (seen.real, seen.painted))
    score, ratios = None, (1.0, 1.0)
    if len(real):
        score, ratios = _agreement(real, painted)
    able = bool(seen.found >= SEEN)  # False for nan, too
    unseen = able and seen.found_painted < SHOWN * seen.found
    against = np.isfinite(seen.contrast) & np.isfinite(seen.contrast_painted)
    true, drawn = (
        float(np.median(side[against])) if against.any() else 0.0 for side in (seen.contrast, seen.contrast_painted)
    )
    strange = abs(drawn - true) > max(PALE * abs(true), FAINT)
    verdict: Verdict = "usable"
    if score is None or score.value < UNLIKE or strange or unseen:
        verdict = "poor"
    elif score.value >= LIKE:
        verdict = "good"
    reasons: list[str] = []
    remedies: list[str] = []
    if score is None:
        reasons.append("no cell of validation is large enough to compare its inside")
        remedies.append("give --validation with larger cells, or a larger --scale")
    elif score.value < LIKE:
        which = int(np.argmin([min(ratio, 1 / max(ratio, 1e-6)) for ratio in ratios]))
        ratio, varies = round(ratios[which], 2), ("grey values vary", "fine grain varies")[which]
        inside = "flat" if ratio < 1 else "too grainy"
        reasons.append(f"insides of painted cells are {inside}: {varies} {ratio:.2f} times as much as in real ones")
    if strange:
        reasons.append(
            f"painted cells differ from the background by {drawn / 2:+.2f} of the range of grey values, real ones by "
            f"{true / 2:+.2f}"
        )
    if unseen:
        reasons.append("painted cells are not where their masks say, or look like none")
    if verdict != "good" and score is not None:
        remedies.append(
            "train longer (--minutes)"
            if course.cut_short
            else "train a larger network (--preset paper), or label more images"
        )
        remedies.append("before you learn from its images, look at them, and compare a training with and without")
    shares = {"cells that the base model finds in painted images": seen.found_painted, "in real ones": seen.found}
    return Judgement(
        verdict=verdict,
        measure="agreement of the grain inside painted and real cells",
        over=counted(len(real), "cell"),
        score=score,
        further={name: Measured(value=share) for name, share in shares.items() if able},
        reasons=reasons,
        remedies=remedies,
    )


def _agreement(real: Floats, painted: Floats) -> tuple[Measured | None, tuple[float, float]]:
    """Return the agreement of medians with its interval over cells, and the ratios of painted to real medians."""

    def agreeing(ratios: Floats) -> Floats:
        smaller: Floats = np.minimum(ratios, 1 / np.maximum(ratios, 1e-6)).min(axis=-1)
        return smaller

    draws = np.random.default_rng(0).integers(len(real), size=(RESAMPLES, len(real)))
    spread = np.median(painted[draws], axis=1) / np.median(real[draws], axis=1)
    ratios = np.median(painted, axis=0) / np.median(real, axis=0)
    estimate = bootstrap_estimate(float(agreeing(ratios)), agreeing(spread), len(real))
    return Measured.of(estimate), (float(ratios[0]), float(ratios[1]))


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What a tracker says of where cells go, a score for each move."""

    single: Sequence[ImageScores]
    """of validation, cells that do not divide"""
    divisions: Sequence[ImageScores]
    staying: Sequence[ImageScores]
    """of those that do not divide, if each were taken to stay where it is"""
    training: Sequence[ImageScores]
    """of moves that the tracker learned from, without divisions"""
    over: str
    """how many moves, or links, validation has"""
    measure: str = "F at IoU 0.5 of the places where cells go"


def judge_tracker(found: Followed, course: Course) -> Judgement:
    """Judge a tracker by F of the places where it takes cells to go, and to divide.

    It is poor below LOST, and where taking each cell to stay in its place does better; good from LINKED on, if it finds
    divisions where there are some to validate on.
    """
    (score, _), (staying, _), (training, _) = map(f_of_images, (found.single, found.staying, found.training))
    divided, _ = f_of_images(found.divisions)
    beaten = score is not None and staying is not None and staying.value > score.value + MARGIN
    blind = divided is not None and divided.value < DIVIDED
    verdict: Verdict = "usable"
    if score is None or score.value < LOST or (beaten and score.value < LINKED):
        verdict = "poor"
    elif score.value >= LINKED and not blind and not beaten:
        verdict = "good"
    remedy = "train longer (--minutes)" if course.cut_short else "annotate more frames"
    faults = [
        (score is None, "no cell is seen in two frames in a row that does not divide"),
        (score is not None and score.value < LINKED, "it loses cells from one frame to the next"),
        (beaten, "taking each cell to stay where it is does better"),
        (blind, "it misses divisions, or sees some where there are none"),
    ]
    reasons = [reason for true, reason in faults if true]
    return Judgement(
        verdict=verdict,
        measure=found.measure,
        over=found.over,
        score=score,
        baseline=staying,
        baseline_name="cells that stay where they are",
        training=training,
        further={} if divided is None else {"divisions": divided},
        reasons=reasons + ["no division is among the validation frames"] * (divided is None),
        remedies=[remedy] * bool(reasons) + ["annotate frames with divisions"] * (blind or divided is None),
    )
