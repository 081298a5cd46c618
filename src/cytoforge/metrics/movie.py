"""Scores of movies: whether cells and background keep their appearance from frame to frame and over many frames.

A movie is a sequence of frames (C, H, W) in [-1, 1], all with the same mapping of grey values, and of labels (H, W)
whose ids stay with their cells over time. Frames are taken one by one, so movies may have any length. An undefined
score is nan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cytoforge.cells.labels import Box, boxes
from cytoforge.metrics.clips import Image, texture_features
from cytoforge.metrics.estimates import Estimate, mean_estimate, resample
from cytoforge.metrics.generation import PairScores, PerceptualDistance, frechet_distance, pair_scores
from cytoforge.metrics.segmentation import match

Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Features = Floats | Tensor

NAN = float("nan")
LENGTHS = (10, 30, 100, 300)  # numbers of frames at which drift is reported
WINDOW = 10  # number of last frames before such a length over which the drift is averaged
RESAMPLED = 5  # least number of movies for which resampling them gives an interval
GREY_LEVELS = 512  # steps from -1 to 1 by which grey values are counted


@dataclass(frozen=True)
class Coherence:
    """How much movies change from frame to frame where they should not; grey values from -1 to 1, 0 is no change."""

    warping_error: float
    """absolute change of the pixels of a cell that move with it: mean over the steps of all cells"""
    cell_steps: int
    """number of steps of cells from a frame to the next that are compared"""
    flicker: float
    """absolute change of the mean of the background: mean over the steps"""
    background_change: float
    """absolute change of each pixel of the background, noise included: mean over the steps"""
    steps: int
    """number of steps from a frame to the next in which some pixels are background in both"""


@dataclass(frozen=True)
class MovieDistance:
    """Frechet distance of the features of generated and real frames or clips, from the named extractor."""

    network: str
    features: int
    """number of features of a frame or of a tile of a clip"""
    generated: int
    """number of frames, or of tiles of clips"""
    real: int
    distance: float
    halves: float
    """distance between the earlier and the later halves of the real movies: the effect of time alone"""


@dataclass(frozen=True)
class Faithfulness:
    """Which cells of a movie a segmenter finds, at IoU 0.5."""

    instances: tuple[dict[int, float], ...]
    """for each movie, by id, the share of a cell's frames in which it is found"""
    mean: float
    """mean of these shares over all cells of all movies"""
    cells: float
    """share of the cell masks of all frames that are found"""


def coherence(movies: Iterable[Iterable[tuple[Image, Labels]]]) -> Coherence:
    """Measure frames (C, H, W) with labels (H, W) of one or more movies; two frames are held at a time.

    The warping error is that of Lai et al. 2018 (Learning blind video temporal consistency, Eq. 6, here of absolute
    values) with the true motion: a cell's pixels move as its centroid does (bilinear between pixels), and those that
    were in the cell before are compared. Raises ValueError if sizes differ or an image is not (C, H, W).
    """
    errors: list[float] = []
    jumps: list[float] = []
    changes: list[float] = []
    for movie in movies:
        before: tuple[Image, Labels] | None = None
        for image, labels in movie:
            if image.ndim != 3 or image.shape[1:] != labels.shape or (before and before[0].shape != image.shape):
                raise ValueError(f"frames are (C, H, W) of one size with labels (H, W), got {image.shape} and more")
            if before is not None:
                errors += _warping_errors(before, (image, labels))
                ground = (labels == 0) & (before[1] == 0)
                if ground.any():
                    difference = np.subtract(image, before[0], dtype=np.float64)[:, ground]
                    jumps.append(float(np.abs(difference.mean(axis=1)).mean()))
                    changes.append(float(np.abs(difference).mean()))
            before = image, labels
    return Coherence(_mean(errors), len(errors), _mean(jumps), _mean(changes), len(jumps))


def _warping_errors(before: tuple[Image, Labels], after: tuple[Image, Labels]) -> list[float]:
    """Return the mean absolute difference of each cell in two frames after it is moved from the first to the second."""
    new_boxes = boxes(after[1])
    errors = []
    for cell, old in boxes(before[1]).items():
        if cell not in new_boxes:
            continue
        pixels, former = _pixels(after[1], new_boxes[cell], cell), _pixels(before[1], old, cell)
        source = pixels - (pixels.mean(axis=1) - former.mean(axis=1))[:, None]
        inside = ndimage.map_coordinates(before[1] == cell, source, order=0, mode="constant")
        if not inside.any():
            continue
        source, (y, x) = source[:, inside], pixels[:, inside].astype(int)
        for_channels = [
            ndimage.map_coordinates(c.astype(np.float64), source, order=1, mode="nearest") for c in before[0]
        ]
        errors.append(float(np.abs(after[0][:, y, x] - np.stack(for_channels)).mean()))
    return errors


def _pixels(labels: Labels, box: Box, cell: int) -> Floats:
    """Return the positions (2, n) of the pixels of a cell, y and x in the frame."""
    corner = np.array([[side.start] for side in box], dtype=np.float64)
    places: Floats = np.stack(np.nonzero(labels[box] == cell)) + corner
    return places


def movie_distance(network: str, generated: Sequence[Features], real: Sequence[Features]) -> MovieDistance:
    """Compare features (T, d) of the frames, or (T, tiles, d) of the clips, of generated and of real movies.

    `network` names the extractor. A distance is nan if a side has fewer than two rows. Raises ValueError if d differs.
    """
    ours, theirs = ([torch.as_tensor(features) for features in side] for side in (generated, real))
    earlier, later = [each[: len(each) // 2] for each in theirs], [each[len(each) // 2 :] for each in theirs]
    all_ours, all_theirs, first, second = (
        torch.cat([each.flatten(0, -2) for each in side]) for side in (ours, theirs, earlier, later)
    )
    distance, halves = frechet_distance(all_ours, all_theirs), frechet_distance(first, second)
    return MovieDistance(network, all_theirs.shape[1], len(all_ours), len(all_theirs), distance, halves)


def frame_scores(
    movies: Iterable[Iterable[tuple[Tensor, Tensor]]],
    generator: np.random.Generator,
    lpips: PerceptualDistance | None = None,
    lpips_vgg: PerceptualDistance | None = None,
) -> PairScores:
    """Return `metrics.generation.pair_scores` of movies of pairs (C, H, W), averaged over frames, then over movies.

    Intervals come from resampling movies, because frames of one movie are alike; they are nan for fewer than RESAMPLED
    movies. `images` of an estimate is the number of movies. Raises ValueError as `pair_scores` does, and if there is
    no movie.
    """
    scores = [pair_scores(movie, generator, lpips, lpips_vgg) for movie in movies]
    if not scores:
        raise ValueError("need at least one movie, got none")
    draws = resample(len(scores), generator)

    def joint(estimates: Iterable[Estimate | None]) -> Estimate | None:
        values = [each.value for each in estimates if each is not None]
        if not values:
            return None
        estimate = mean_estimate(values, draws)
        return estimate if estimate.images >= RESAMPLED else replace(estimate, low=NAN, high=NAN)

    ssim, psnr = joint(score.ssim for score in scores), joint(score.psnr for score in scores)
    assert ssim is not None and psnr is not None
    return PairScores(
        sum(score.pairs for score in scores),
        ssim,
        psnr,
        joint(score.lpips for score in scores),
        scores[0].lpips_network,
        joint(score.lpips_vgg for score in scores),
        scores[0].lpips_vgg_network,
    )


class Reference:
    """The appearance of real frames, for `drift`: their mean distribution of grey values and their mean texture."""

    def __init__(self, frames: Iterable[Image]) -> None:
        """Measure `frames` (C, H, W) of any number of movies; raises ValueError if there is no frame."""
        seen = [(_grey_shares(frame), texture_features(frame)) for frame in frames]
        if not seen:
            raise ValueError("need at least one real frame, got none")
        self.grey: Floats = np.mean([grey for grey, _ in seen], axis=0)
        self.texture: Floats = np.mean([texture for _, texture in seen], axis=0)


def drift(frames: Iterable[Image], reference: Reference) -> Floats:
    """Return how far each frame (C, H, W) of a movie is from the real ones (T, 2): in grey values and in texture.

    Column 0 is the Wasserstein distance of the frame's grey values to those of all real frames, in [0, 2]: how much
    values differ on average, wherever they lie. Column 1 is the root mean square difference of
    `metrics.clips.texture_features` to their mean over the real frames: 0.1 means edges about 10 % stronger or weaker.
    """
    rows = [
        (
            float(np.abs(np.cumsum(_grey_shares(frame) - reference.grey, axis=1)).sum(axis=1).mean() * 2 / GREY_LEVELS),
            float(np.sqrt(np.square(texture_features(frame) - reference.texture).mean())),
        )
        for frame in frames
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def at_lengths(curves: Sequence[Floats]) -> dict[int, Floats]:
    """Return the mean (2,) of `drift` curves (T, 2) over the last WINDOW frames before each of LENGTHS.

    For each length, only curves that reach it are used; a length that no curve reaches is left out.
    """
    found = {}
    for length in LENGTHS:
        reaching = [curve[length - WINDOW : length] for curve in curves if len(curve) >= length]
        if reaching:
            found[length] = np.concatenate(reaching).mean(axis=0)
    return found


def _grey_shares(frame: Image) -> Floats:
    """Return the share of the pixels of each channel at each grey level (C, GREY_LEVELS + 1)."""
    level = np.rint((np.clip(frame, -1, 1) + 1) * (GREY_LEVELS / 2)).astype(np.intp)
    counts = [np.bincount(channel.ravel(), minlength=GREY_LEVELS + 1) for channel in level]
    shares: Floats = np.stack(counts) / level[0].size
    return shares


def faithfulness(movies: Iterable[Iterable[tuple[Labels, Labels]]]) -> Faithfulness:
    """Compare the labels (H, W) that movies were painted on with what a segmenter finds in their frames.

    Movies are iterables of pairs of labels (H, W), painted and found. Raises ValueError if sizes differ.
    """
    instances, hits = list[dict[int, float]](), list[bool]()
    for movie in movies:
        seen: dict[int, list[bool]] = {}
        for truth, found in movie:
            matched = set(match(truth, found).truth_ids.tolist())
            for cell in np.unique(truth[truth > 0]).tolist():
                seen.setdefault(cell, []).append(cell in matched)
        instances.append({cell: _mean(times) for cell, times in sorted(seen.items())})
        hits += [hit for times in seen.values() for hit in times]
    shares = [share for cells in instances for share in cells.values()]
    return Faithfulness(tuple(instances), _mean(shares), _mean(hits))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else NAN
