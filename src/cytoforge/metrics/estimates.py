"""Values with bootstrap intervals, and their form in JSON, for use by all scores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval and the number of images that it rests on.

    The interval is nan for fewer than two images.
    """

    value: float
    low: float
    high: float
    images: int


def resample(images: int, generator: np.random.Generator, resamples: int = RESAMPLES) -> Ints:
    """Return how often each image is taken (resamples, images) when as many images are drawn with replacement."""
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples)


def mean_estimate(values: ArrayLike, draws: Ints) -> Estimate:
    """Return the mean of the finite values (images,) and its interval from the draws of `resample`."""
    scores = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(scores)
    filled = np.where(defined, scores, 0.0)
    return bootstrap_estimate(
        float(ratio(filled.sum(), defined.sum())), ratio(draws @ filled, draws @ defined), int(defined.sum())
    )


def nested_estimate(values: ArrayLike, generator: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Return the mean of the finite values (repetitions, images), both at least 1; nan where an image has no score.

    For the interval, repetitions and images are resampled, each image in all repetitions at once, since a hard image
    is hard in all of them (Owen 2007, the pigeonhole bootstrap). With one repetition the interval does not show the
    variation between repetitions; with three it is narrow.
    """
    scores = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(scores)
    filled = np.where(defined, scores, 0.0)
    repetitions, images = (resample(count, generator, resamples) for count in scores.shape)
    spread = nested_means(scores, repetitions, images)
    return bootstrap_estimate(float(ratio(filled.sum(), defined.sum())), spread, int(defined.any(axis=0).sum()))


def nested_means(scores: Floats, repetitions: Ints, images: Ints) -> Floats:
    """Return the means (resamples,) of the finite scores (repetitions, images) of each resample; nan without any.

    `repetitions` (resamples, repetitions) and `images` (resamples, images) say how often each was drawn.
    """
    defined = np.isfinite(scores)
    filled = np.where(defined, scores, 0.0)
    sums, counts = (((repetitions @ part) * images).sum(axis=1) for part in (filled, defined))
    return ratio(sums, counts)


def bootstrap_estimate(value: float, spread: Floats, images: int) -> Estimate:
    """Return a value with the interval of its bootstrap replicates (resamples,); replicates that are nan are left out.

    This is the expanded percentile interval (Hesterberg 2015), because the plain one is too narrow for few images.
    """
    spread = spread[np.isfinite(spread)]
    if images < 2 or not spread.size:
        return Estimate(float(value), float("nan"), float("nan"), images)
    low, high = np.quantile(spread, tails(images))
    return Estimate(float(value), float(low), float(high), images)


def tails(images: int) -> tuple[float, float]:
    """Return the shares of bootstrap replicates below the lower and the upper end of the interval (Hesterberg 2015).

    These are wider than 2.5 and 97.5 % for few images; there are two at least.
    """
    student = special.stdtrit(images - 1, (1 + CONFIDENCE) / 2)
    tail = float(special.ndtr(-np.sqrt(images / (images - 1)) * student))
    return tail, 1 - tail


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Return the quotients; 0/0 is nan."""
    with np.errstate(invalid="ignore"):
        return np.divide(numerator, denominator, dtype=np.float64)


def to_json(record: Any) -> dict[str, Any]:
    """Return a dataclass as plain values for JSON, with None for nan, which JSON does not have."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, tuple):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and np.isnan(value) else value

    return {key: plain(entry) for key, entry in asdict(record).items()}


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of the record of numbers, texts and tuples of these that `to_json` made plain."""

    def entry(value: Any) -> Any:
        return tuple(map(entry, value)) if isinstance(value, list) else float("nan") if value is None else value

    return {key: entry(value) for key, value in values.items()}
