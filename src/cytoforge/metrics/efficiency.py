"""Label efficiency: how many labels one training needs for the score that another reaches with fewer.

The learning curve of the reference is its score by the logarithm of the number of labels, made monotone and
interpolated. It is not extrapolated: a score above it needs more labels than were measured, one below it fewer.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from cytoforge.metrics.estimates import RESAMPLES, Floats, nested_means, resample, tails


@dataclass(frozen=True)
class Labels:
    """A number of labels, or a ratio of two, with its 95 % bootstrap interval, nan where undefined.

    inf stands for more than `most`, 0 for fewer than `fewest`, which are the ends of the curve that was measured.
    """

    value: float
    low: float
    high: float
    fewest: float
    most: float
    images: int
    """test images that it rests on"""

    def per(self, labels: float) -> Self:
        """Return the ratio of these labels to a number of others, above 0."""
        return type(self)(
            value=self.value / labels,
            low=self.low / labels,
            high=self.high / labels,
            fewest=self.fewest / labels,
            most=self.most / labels,
            images=self.images,
        )

    def bounded(self, number: float) -> float | str | None:
        """Return one of the numbers as it can be written: beyond the curve as `> 25` or `< 1`, nan as None."""
        if np.isnan(number):
            return None
        if np.isinf(number):
            return f"> {self.most:.3g}"
        return number if number > 0 else f"< {self.fewest:.3g}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON: numbers, or text as `bounded` has it."""
        ends = {name: self.bounded(getattr(self, name)) for name in ("value", "low", "high")}
        return {**ends, "images": self.images}


def monotone(scores: ArrayLike) -> Floats:
    """Return the nearest curves (..., points) by least squares that never fall; all points weigh the same.

    This is isotonic regression by its min-max formula (Robertson, Wright and Dykstra 1988, Order Restricted Statistical
    Inference, 1.4): at a point the largest, over all beginnings before it, of the smallest mean up to any later end.
    """
    curves = np.asarray(scores, dtype=np.float64)
    points = range(curves.shape[-1])
    means = {(a, b): curves[..., a : b + 1].mean(axis=-1) for a in points for b in points if a <= b}
    return np.stack(
        [
            np.max([np.min([means[a, b] for b in points if b >= i], axis=0) for a in points if a <= i], axis=0)
            for i in points
        ],
        axis=-1,
    )


def labels_needed(labels: ArrayLike, scores: ArrayLike, wanted: ArrayLike) -> Floats:
    """Return the numbers of labels at which monotone curves reach the scores wanted.

    Args:
        labels: (points,) numbers of labels of the curves, above 0 and rising.
        scores: (..., points) scores of the curves, as measured.
        wanted: (...) a score for each curve.

    Returns:
        (...) by interpolation over the logarithm of the labels; inf where a curve ends below the score, 0 where it
        begins above it, nan where the score, or a score of the curve, is nan.

    Raises:
        ValueError: when the labels do not rise or are not above 0.
    """
    numbers = np.asarray(labels, dtype=np.float64)
    if numbers.ndim != 1 or not (numbers > 0).all() or not (np.diff(numbers) > 0).all():
        raise ValueError(f"labels of a curve are above 0 and rise, got {numbers.tolist()}")
    curves, scores_wanted = monotone(scores), np.asarray(wanted, dtype=np.float64)
    reached = curves >= scores_wanted[..., None]
    after = reached.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    high, low = (np.take_along_axis(curves, place[..., None], axis=-1)[..., 0] for place in (after, before))
    share = np.divide(scores_wanted - low, high - low, out=np.ones_like(high), where=high > low)
    logs = np.log(numbers)
    needed = np.where(share == 1, numbers[after], np.exp(logs[before] + share * (logs[after] - logs[before])))
    needed = np.where((after == 0) & (scores_wanted < curves[..., 0]), 0.0, needed)
    needed = np.where(reached.any(axis=-1), needed, np.inf)
    defined = np.isfinite(scores_wanted) & np.isfinite(curves).all(axis=-1)
    return np.where(defined, needed, np.nan)


def labels_worth(
    labels: ArrayLike,
    reference: ArrayLike,
    other: ArrayLike,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Labels:
    """Return how many labels a reference needs for the mean score that another training reaches.

    For the interval, seeds and test images are resampled at once, the same for all trainings, each image in all seeds
    (as `metrics.estimates.nested_estimate`). There is none for fewer than two images. With one seed it does not show
    the variation between seeds.

    Args:
        labels: (points,) numbers of labels of the reference's curve, above 0 and rising.
        reference: (points, seeds, images) its scores; nan where undefined.
        other: (seeds, images) scores of the other training, on the same images and seeds.
        generator: of the resampling.
        resamples: number of resamples.

    Raises:
        ValueError: when the shapes do not agree, or as `labels_needed`.
    """
    curves, own = np.asarray(reference, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if curves.shape != (len(np.asarray(labels)), *own.shape):
        raise ValueError(f"scores are (points, seeds, images) and (seeds, images), got {curves.shape} and {own.shape}")
    numbers = np.asarray(labels, dtype=np.float64)
    draws = [resample(count, generator, resamples) for count in own.shape]
    whole = [np.ones((1, count), np.int64) for count in own.shape]

    def needed(seeds: np.ndarray, images: np.ndarray) -> Floats:
        points = np.stack([nested_means(point, seeds, images) for point in curves], axis=-1)
        return labels_needed(numbers, points, nested_means(own, seeds, images))

    (value,), spread = needed(*whole), needed(*draws)
    images = int((np.isfinite(own) & np.isfinite(curves).all(axis=0)).any(axis=0).sum())
    spread = spread[~np.isnan(spread)]
    low = high = float("nan")
    if images > 1 and spread.size:
        # an order statistic: between a number and inf nothing can be interpolated
        low, high = (float(end) for end in np.quantile(spread, tails(images), method="inverted_cdf"))
    return Labels(float(value), low, high, float(numbers[0]), float(numbers[-1]), images)
