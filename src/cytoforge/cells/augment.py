"""Augmentation: of labelled images on their way into a batch, and of what a discriminator is shown.

`augment` cuts one random window out of an image with its labels and varies it by a policy. `draw_diff_augment` and
`apply_diff_augment` are cGAN-Seg's differentiable augmentation. All random
numbers of an item are drawn from that item's generator alone.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from kornia.enhance import (
    adjust_brightness,
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_gamma,
    equalize_clahe,
    sharpness,
)
from kornia.filters import gaussian_blur2d
from torch import Generator, Tensor
from torch.nn import functional as F

Policy = Literal["strong", "wide", "paper", "flip", "none"]
Pair = tuple[Tensor, Tensor]

SMALLEST_WINDOW = 4
"""smallest side of a window in px, required by the filters and the 3 x 3 tiles of the equalisation"""

P_PLAIN = 0.1
"""strong: share of items that are only flipped and turned by quarters, so that images as they are stay in training"""
P_ROTATION, P_SCALE, P_ELASTIC = 0.7, 0.7, 0.4
SCALE = (0.7, 1.4)
ELASTIC_SPACING = 32
"""px of the window between the points that are displaced at random"""
ELASTIC_SIGMA = (0.5, 3.0)
"""px, standard deviation of these displacements; at a tenth of the spacing nothing folds over"""
P_INTENSITY = 0.5
"""strong: probability of gamma, contrast and brightness each"""
GAMMA, CONTRAST, BRIGHTNESS = (0.67, 1.5), (0.67, 1.5), (-0.15, 0.15)
P_BLUR, BLUR_SIGMA = 0.2, (0.3, 1.2)
P_NOISE, NOISE_SIGMA = 0.3, (0.0, 0.04)
"""brightness and noise: shares of the intensity range; blur: px"""

WIDE_SCALE = (0.6, 1.6)
WIDE_GAMMA, WIDE_CONTRAST, WIDE_BRIGHTNESS = (0.4, 2.5), (0.3, 1.5), (-0.25, 0.25)
P_INVERSION = 0.2
P_SHADE, SHADE = 0.3, 0.5
"""wide: uneven light, as a slope and a bowl of up to this share of the intensity range"""
P_WIDE_BLUR, WIDE_BLUR_SIGMA = 0.3, (0.3, 2.0)
P_COARSE, COARSE = 0.2, (0.35, 0.8)
"""wide: the window is reduced by this factor and enlarged again, as from a weaker objective"""
P_WIDE_NOISE, WIDE_NOISE_SIGMA = 0.5, (0.0, 0.12)

P_FUNCTION = 0.5
"""paper and differentiable: probability of each function once the item is augmented"""


def augment(
    image: Tensor,
    labels: Tensor,
    size: tuple[int, int],
    policy: Policy,
    generator: Generator,
    p_vanilla: float = 0.2,
) -> Pair:
    """Cut a random window of `size` (h, w) and vary it.

    image: (C,H,W) float32 in [-1, 1]; labels: (H,W) integer. Returns (C,h,w) and (h,w) of the same kinds. An image
    smaller than the window is continued by reflection.

    `none` only cuts. `paper` is cGAN-Seg's conventional augmentation (its section "Augmentation functions"): with
    probability `p_vanilla` each of ten functions with probability one half, in random order. `strong` rotates, flips,
    scales and deforms, all in one resampling of the source, and varies gamma, contrast, brightness, blur and noise.
    `wide` does all this more widely, and also inverts grey values, adds uneven light and takes resolution away: for a
    segmenter of every microscope.
    `flip` only flips and turns by quarters.

    Raises ValueError for another policy, for shapes that do not fit together and for windows under 4 px.
    """
    if policy not in get_args(Policy):
        raise ValueError(f"policy must be one of {', '.join(get_args(Policy))}, got {policy!r}")
    if image.ndim != 3 or image.shape[1:] != labels.shape:
        raise ValueError(f"image (C,H,W) and labels (H,W) must fit, got {tuple(image.shape)} and {tuple(labels.shape)}")
    if min(size) < SMALLEST_WINDOW:
        raise ValueError(f"a window must be at least {SMALLEST_WINDOW} px high and wide, got {size}")
    if policy in ("strong", "wide"):
        return _strong(image, labels, size, generator, wide=policy == "wide")
    if policy == "flip":
        return _sample(image, labels, *_strong_grid(labels.shape, size, SCALE, True, generator))
    image, labels = _cut(image, labels, size, generator)
    if policy == "paper" and _chance(p_vanilla, generator):
        image, labels = _vanilla(image, labels, generator)
    return image, labels


def augment_pair(
    large: Tensor, small: Tensor, labels: Tensor, generator: Generator, p_vanilla: float = 0.2, *, degrade: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Vary an image and the same image, small, by policy `paper` of `augment`, as the super-resolution of tGAN does.

    large: (C,H,W) with labels (H,W), small: (C,h,w), H and W the same multiple of h and w; returns the three of the
    same shapes. Both are varied alike, but only `small` is blurred, equalised and made noisy, and only if `degrade`.
    """
    if not _chance(p_vanilla, generator):
        return large, small, labels
    large, small, nowhere = _to_unit(large), _to_unit(small), torch.zeros(small.shape[1:], dtype=labels.dtype)
    factor, names = large.shape[-1] // small.shape[-1], tuple(VANILLA)
    for i in torch.randperm(len(names), generator=generator).tolist():
        chosen, seed = _chance(P_FUNCTION, generator), _integer(0, 2**31 - 1, generator)
        if not chosen:
            continue
        draws = [Generator().manual_seed(seed) for _ in range(2)]
        if names[i] == "crop":
            part, corner = _draw_part(small.shape[1:], draws[0])
            small, _ = _magnify(small, nowhere, part, corner)
            whole = [(factor * y, factor * x) for y, x in (part, corner)]
            large, labels = _magnify(large, labels, *whole)
        elif names[i] not in DEGRADING:
            large, labels = VANILLA[names[i]](large, labels, draws[0])
            small, _ = VANILLA[names[i]](small, nowhere, draws[1])
        elif degrade:
            small, _ = VANILLA[names[i]](small, nowhere, draws[1])
    return _from_unit(large), _from_unit(small), labels


@dataclass(frozen=True)
class DiffAugment:
    """What differentiable augmentation does to one item: `functions`, keys of `DIFFERENTIABLE`, in this order."""

    functions: tuple[str, ...]
    brightness: float
    """added, U[-0.5, 0.5]"""
    saturation: float
    """factor about the mean of the channels, U[0, 2]; nothing happens to a single channel"""
    contrast: float
    """factor about the mean of the image, U[0.5, 1.5]"""
    shift: tuple[int, int]
    """px down and to the right, up to an eighth of the size; what moves in is 0"""
    cutout: tuple[slice, slice]
    """rows and columns set to 0: half the height and width, about a random pixel"""


def draw_diff_augment(generators: Sequence[Generator], shape: Sequence[int], p: float) -> tuple[DiffAugment, ...]:
    """Draw an augmentation for each item of a batch from the item's own generator.

    shape: of the batch, (..., H, W). With probability `p` (p_diff) an item is augmented: by each of the five functions
    with probability one half, in random order (cGAN-Seg, section "Augmentation functions"). The draw is a value to be
    applied to the real and to the generated batch alike.
    """
    return tuple(_draw_item(generator, shape[-2], shape[-1], p) for generator in generators)


def apply_diff_augment(images: Tensor, draw: Sequence[DiffAugment]) -> Tensor:
    """Images (B,C,H,W) augmented as drawn, differentiable with respect to them; ValueError unless B draws are given."""
    if len(draw) != len(images):
        raise ValueError(f"got {len(draw)} draws for {len(images)} images")
    augmented = []
    for image, item in zip(images, draw, strict=True):
        for function in item.functions:
            image = DIFFERENTIABLE[function](image, item)
        augmented.append(image)
    return torch.stack(augmented)


def only(draw: Sequence[DiffAugment], functions: Collection[str]) -> tuple[DiffAugment, ...]:
    """Return a draw with these functions alone, such as PLACES for masks beside images."""
    return tuple(replace(item, functions=tuple(f for f in item.functions if f in functions)) for item in draw)


def _draw_item(generator: Generator, height: int, width: int, p: float) -> DiffAugment:
    augmented = _chance(p, generator)
    names = tuple(DIFFERENTIABLE)
    order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
    functions = tuple(name for name in order if _chance(P_FUNCTION, generator) and augmented)
    reach_y, reach_x = int(0.125 * height + 0.5), int(0.125 * width + 0.5)
    return DiffAugment(
        functions=functions,
        brightness=_uniform(-0.5, 0.5, generator),
        saturation=_uniform(0.0, 2.0, generator),
        contrast=_uniform(0.5, 1.5, generator),
        shift=(_integer(-reach_y, reach_y, generator), _integer(-reach_x, reach_x, generator)),
        cutout=(_half(height, generator), _half(width, generator)),
    )


def _half(length: int, generator: Generator) -> slice:
    """Half of an axis about a uniform pixel, as far as it lies inside."""
    extent = int(0.5 * length + 0.5)
    start = _integer(0, length - 1, generator) - extent // 2
    return slice(max(start, 0), start + extent)


def _translate(image: Tensor, shift: tuple[int, int]) -> Tensor:
    down, right = shift
    return F.pad(image, (right, -right, down, -down))


def _cut_out(image: Tensor, box: tuple[slice, slice]) -> Tensor:
    image = image.clone()
    image[:, box[0], box[1]] = 0
    return image


def _stretch(image: Tensor, factor: float, about: Tensor) -> Tensor:
    return (image - about) * factor + about


def _saturate(image: Tensor, factor: float) -> Tensor:
    """Stretch about the mean of the channels, which takes any number of them; a single one stays as it is."""
    return _stretch(image, factor, image.mean(dim=0, keepdim=True))


DIFFERENTIABLE: dict[str, Callable[[Tensor, DiffAugment], Tensor]] = {
    "brightness": lambda image, draw: image + draw.brightness,
    "saturation": lambda image, draw: _saturate(image, draw.saturation),
    "contrast": lambda image, draw: _stretch(image, draw.contrast, image.mean()),
    "translation": lambda image, draw: _translate(image, draw.shift),
    "cutout": lambda image, draw: _cut_out(image, draw.cutout),
}
PLACES = ("translation", "cutout")
"""functions that move or remove pixels"""
NOT_MOVING = ("brightness", "saturation", "contrast", "cutout")


def _cut(image: Tensor, labels: Tensor, size: tuple[int, int], generator: Generator) -> Pair:
    top, left = _corner(labels.shape, size, generator)
    rows = _reflect(torch.arange(top, top + size[0]), labels.shape[0])[:, None]
    columns = _reflect(torch.arange(left, left + size[1]), labels.shape[1])
    return image[:, rows, columns], labels[rows, columns]


def _corner(shape: Sequence[int], size: tuple[int, int], generator: Generator) -> tuple[int, int]:
    """Uniform top left corner of a window of `size` in an image; in a smaller image, where all of it is in view."""
    spare = [length - extent for length, extent in zip(shape, size, strict=True)]
    top, left = (_integer(min(0, room), max(0, room), generator) for room in spare)
    return top, left


def _sample(image: Tensor, labels: Tensor, y: Tensor, x: Tensor) -> Pair:
    """Image, bilinearly, and labels, nearest, at the coordinates y and x (h,w) in px; reflected at the edges."""
    height, width = labels.shape
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    warped = F.grid_sample(image[None], grid[None], padding_mode="reflection", align_corners=False)[0]
    return warped, labels[_reflect(y.round().long(), height), _reflect(x.round().long(), width)]


def _reflect(index: Tensor, length: int) -> Tensor:
    """Indices of any size mirrored into 0..length-1, the outermost pixel repeated, as in `grid_sample`."""
    index = index % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def _strong(image: Tensor, labels: Tensor, size: tuple[int, int], generator: Generator, *, wide: bool) -> Pair:
    plain = _chance(P_PLAIN, generator)
    scales = WIDE_SCALE if wide else SCALE
    image, labels = _sample(image, labels, *_strong_grid(labels.shape, size, scales, plain, generator))
    vary = _wide_intensity if wide else _strong_intensity
    return image if plain else vary(image, generator), labels


def _strong_grid(
    shape: Sequence[int], size: tuple[int, int], scales: tuple[float, float], plain: bool, generator: Generator
) -> Pair:
    """Source coordinates y and x (h,w) of a window that is flipped, turned, scaled and deformed about its centre."""
    top, left = _corner(shape, size, generator)
    angle = _integer(0, 3, generator) * math.pi / 2
    flip = -1.0 if _chance(0.5, generator) else 1.0  # with all rotations, one axis gives all flips
    scale = 1.0
    y, x = torch.meshgrid(*(torch.arange(extent) - (extent - 1) / 2 for extent in size), indexing="ij")
    if not plain:
        if _chance(P_ROTATION, generator):
            angle = _uniform(0.0, 2 * math.pi, generator)
        if _chance(P_SCALE, generator):
            scale = _factor(scales, generator)
        if _chance(P_ELASTIC, generator):
            dy, dx = _displacement(size, generator)
            y, x = y + dy, x + dx
    sine, cosine = math.sin(angle) / scale, math.cos(angle) / scale
    source_y = cosine * y - flip * sine * x + top + (size[0] - 1) / 2
    source_x = sine * y + flip * cosine * x + left + (size[1] - 1) / 2
    return source_y, source_x


def _displacement(size: tuple[int, int], generator: Generator) -> Tensor:
    """Smooth random displacements (2,h,w) in px: those of a coarse grid of points, interpolated bicubically."""
    sigma = _uniform(*ELASTIC_SIGMA, generator)
    points = [extent // ELASTIC_SPACING + 2 for extent in size]
    coarse = sigma * torch.randn((1, 2, *points), generator=generator)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=True)[0]


def _strong_intensity(image: Tensor, generator: Generator) -> Tensor:
    image = _to_unit(image)
    if _chance(P_INTENSITY, generator):
        image = adjust_gamma(image, _factor(GAMMA, generator))
    if _chance(P_INTENSITY, generator):
        image = adjust_contrast_with_mean_subtraction(image, _uniform(*CONTRAST, generator))
    if _chance(P_INTENSITY, generator):
        image = adjust_brightness(image, _uniform(*BRIGHTNESS, generator))
    if _chance(P_BLUR, generator):
        image = _blur(image, BLUR_SIGMA, generator)
    if _chance(P_NOISE, generator):
        image = _noise(image, NOISE_SIGMA, generator)
    return _from_unit(image)


def _wide_intensity(image: Tensor, generator: Generator) -> Tensor:
    image = _to_unit(image)
    if _chance(P_INVERSION, generator):
        image = 1 - image
    if _chance(P_COARSE, generator):
        image = _coarse(image, _uniform(*COARSE, generator))
    if _chance(P_INTENSITY, generator):
        image = image ** _factor(WIDE_GAMMA, generator)
    if _chance(P_INTENSITY, generator):
        image = _stretch(image, _factor(WIDE_CONTRAST, generator), image.mean())
    if _chance(P_SHADE, generator):
        image = image + SHADE * _uniform(0, 1, generator) * _unevenness(image.shape[-2:], generator)
    if _chance(P_INTENSITY, generator):
        image = image + _uniform(*WIDE_BRIGHTNESS, generator)
    if _chance(P_WIDE_BLUR, generator):
        image = _blur(image, WIDE_BLUR_SIGMA, generator)
    image = image.clamp(0, 1)
    if _chance(P_WIDE_NOISE, generator):
        image = _noise(image, WIDE_NOISE_SIGMA, generator)
    return _from_unit(image)


def _coarse(image: Tensor, factor: float) -> Tensor:
    """Reduce (C,h,w) by a factor below 1, and bring it back to its size."""
    size = tuple(image.shape[-2:])
    reduced = [max(round(factor * length), 2) for length in size]
    small = F.interpolate(image[None], reduced, mode="bilinear", antialias=True)
    return F.interpolate(small, size, mode="bilinear")[0]


def _unevenness(size: Sequence[int], generator: Generator) -> Tensor:
    """Draw uneven light (h,w) from -1 to 1: a slope in any direction, and a bright or dark bowl about any point."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, length) for length in size), indexing="ij")
    angle = _uniform(0.0, 2 * math.pi, generator)
    top, left = _uniform(-1.0, 1.0, generator), _uniform(-1.0, 1.0, generator)
    slope = y * math.sin(angle) + x * math.cos(angle)
    bowl = (y - top) ** 2 + (x - left) ** 2 - 1
    return (slope + _uniform(-1.0, 1.0, generator) * bowl).clamp(-1, 1)


def _vanilla(image: Tensor, labels: Tensor, generator: Generator) -> Pair:
    """Apply each of the paper's ten functions with probability one half, in random order, to a window in [-1, 1]."""
    image = _to_unit(image)
    functions = tuple(VANILLA.values())
    for i in torch.randperm(len(functions), generator=generator).tolist():
        if _chance(P_FUNCTION, generator):
            image, labels = functions[i](image, labels, generator)
    return _from_unit(image), labels


def _crop_and_resize(image: Tensor, labels: Tensor, generator: Generator) -> Pair:
    """Magnify a uniformly placed part of 0.85 of the height and width to the whole size."""
    return _magnify(image, labels, *_draw_part(labels.shape, generator))


def _draw_part(size: Sequence[int], generator: Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """Draw height and width, and the top left corner, of the part of an image of a size that is cut out."""
    part = (int(0.85 * size[0]), int(0.85 * size[1]))
    return part, _corner(size, part, generator)


def _magnify(image: Tensor, labels: Tensor, part: tuple[int, int], corner: tuple[int, int]) -> Pair:
    size = tuple(labels.shape)
    y, x = ((torch.arange(n) + 0.5) * m / n - 0.5 + start for n, m, start in zip(size, part, corner, strict=True))
    return _sample(image, labels, *torch.meshgrid(y, x, indexing="ij"))


def _jitter(generator: Generator) -> float:
    return _uniform(0.67, 1.33, generator)


VANILLA: dict[str, Callable[[Tensor, Tensor, Generator], Pair]] = {
    "equalisation": lambda image, labels, g: (equalize_clahe(image, 1.0, (3, 3)), labels),  # has 256 grey levels
    "crop": _crop_and_resize,
    "sharpness": lambda image, labels, g: (sharpness(image, 2.0), labels),
    "brightness": lambda image, labels, g: (adjust_brightness_accumulative(image, _jitter(g)), labels),
    "contrast": lambda image, labels, g: (adjust_contrast_with_mean_subtraction(image, _jitter(g)), labels),
    "saturation": lambda image, labels, g: (_saturate(image, _jitter(g)).clamp(0, 1), labels),
    "horizontal flip": lambda image, labels, g: (image.flip(-1), labels.flip(-1)),
    "vertical flip": lambda image, labels, g: (image.flip(-2), labels.flip(-2)),
    "noise": lambda image, labels, g: (_noise(image, (0.005, 0.01), g), labels),
    "blur": lambda image, labels, g: (_blur(image, (0.1, 1.0), g), labels),
}

DEGRADING = ("equalisation", "noise", "blur")


def _blur(image: Tensor, sigmas: tuple[float, float], generator: Generator) -> Tensor:
    sigma = _uniform(*sigmas, generator)
    return gaussian_blur2d(image[None], (5, 5), (sigma, sigma))[0]


def _noise(image: Tensor, sigmas: tuple[float, float], generator: Generator) -> Tensor:
    """Add white noise and clip, so that dark pixels stay dark."""
    sigma = _uniform(*sigmas, generator)
    return (image + sigma * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def _to_unit(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], where the operators want it; resampling may have overshot by a rounding error."""
    return ((image + 1) / 2).clamp(0, 1)


def _from_unit(image: Tensor) -> Tensor:
    return (image * 2 - 1).clamp(-1, 1)


def _chance(p: float, generator: Generator) -> bool:
    return bool(torch.rand((), generator=generator) < p)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _factor(between: tuple[float, float], generator: Generator) -> float:
    """Draw a factor whose logarithm is uniform."""
    return math.exp(_uniform(math.log(between[0]), math.log(between[1]), generator))


def _integer(low: int, high: int, generator: Generator) -> int:
    """Uniform integer, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
