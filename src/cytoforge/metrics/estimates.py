"""Values with bootstrap intervals, and their form in JSON: what all scores share."""

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
    """Bootstrap draws (resamples, images): how often each image is taken when as many are drawn with replacement."""
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples)


def mean_estimate(values: ArrayLike, draws: Ints) -> Estimate:
    """Mean of the defined values (images,) and its interval from the draws of `resample`; nan values are left out."""
    scores = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(scores)
    filled = np.where(defined, scores, 0.0)
    return bootstrap_estimate(
        float(ratio(filled.sum(), defined.sum())), ratio(draws @ filled, draws @ defined), int(defined.sum())
    )


def nested_estimate(values: ArrayLike, generator: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Mean of the defined values (repetitions, images), both at least one; nan where an image was not scored.

    The interval resamples repetitions and images, an image in all repetitions at once since a hard one is hard in all
    (Owen 2007, the pigeonhole bootstrap). With one repetition it says nothing about others, with three it is narrow.
    """
    scores = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(scores)
    filled = np.where(defined, scores, 0.0)
    repetitions, images = (resample(count, generator, resamples) for count in scores.shape)
    sums, counts = (((repetitions @ part) * images).sum(axis=1) for part in (filled, defined))
    return bootstrap_estimate(
        float(ratio(filled.sum(), defined.sum())), ratio(sums, counts), int(defined.any(axis=0).sum())
    )


def bootstrap_estimate(value: float, spread: Floats, images: int) -> Estimate:
    """A value with the interval that its bootstrap replicates (resamples,) span; replicates that are nan do not count.

    Expanded percentile interval (Hesterberg 2015): the plain one is too narrow for a handful of images.
    """
    spread = spread[np.isfinite(spread)]
    if images < 2 or not spread.size:
        return Estimate(float(value), float("nan"), float("nan"), images)
    student = special.stdtrit(images - 1, (1 + CONFIDENCE) / 2)
    tail = special.ndtr(-np.sqrt(images / (images - 1)) * student)
    low, high = np.quantile(spread, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high), images)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Quotients; 0/0 is nan."""
    with np.errstate(invalid="ignore"):
        return np.divide(numerator, denominator, dtype=np.float64)


def to_json(record: Any) -> dict[str, Any]:
    """A dataclass as plain values; nan is no JSON, so None stands for it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, tuple):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and np.isnan(value) else value

    return {key: plain(entry) for key, entry in asdict(record).items()}
