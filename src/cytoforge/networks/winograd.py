"""3 x 3 convolution with fewer multiplications, for training on a CPU.

Winograd's minimal filtering algorithm F(4x4, 3x3) (Lavin and Gray, "Fast algorithms for convolutional neural
networks", CVPR 2016, section 4.3): a map is cut into tiles of 6 x 6 that overlap by 2, and with g a kernel
and d a tile, 4 x 4 outputs are A^T [(G g G^T) * (B^T d B)] A. Summed over input channels, the product in the middle
is one matrix product for each of 36 points: 36 multiplications for 16 outputs instead of 144. All three passes of
training use it: with dy the gradient of a tile's outputs, that of the kernels is G^T [(A dy A^T) * (B^T d B)] G, and
that of the tile B [(G g G^T) * (A dy A^T)] B^T, added up where tiles overlap. Rounding errors are a few 1e-6 of the
largest output, those of the direct way about 1e-6.

Transforms cost memory traffic, so each pass uses it only where the matrices are large enough for it to pay; small
maps instead take the gradient of their kernels, and the other passes if there are many kernels, as one matrix product
over all shifted copies of the map.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 4  # px of output on each side of a tile
POINTS = (TILE + 2) ** 2
# Measured on an AVX2 core: with fewer channels or tiles than these bounds the direct way is as fast.
# The harmonic sum is that of the passes over the inputs, the outputs and the kernels, per multiplication saved.
WORTH, WORTH_FOR_KERNELS = 1 / 40, 1 / 28
SMALL_MAP = 400  # px of a batch
# Channels in times out: 38 MB of kernels. The direct way copies them to another layout on every call, into memory that
# the system, beyond 32 MB, hands out page by page; on small maps that takes longer than the products.
LARGE_KERNELS = 2**20
PRODUCT = 400  # tiles that make a matrix product worth while: smaller maps are taken together
PIECE = 50_000  # tiles times channels taken at once, 7 MB: memory stays small and in the cache

# The interpolation points 0, 1, -1, 2, -1/2 and infinity; they round a third as much as the usual 0, 1, -1, 2, -2
_A = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -0.5, 0], [0, 1, 1, 4, 0.25, 0], [0, 1, -1, 8, -0.125, 1]])
_B = torch.tensor(
    [
        [2, 3, -4, -3, 2, 0],
        [0, -2, -5, -1, 2, 0],
        [0, 2, 1, -5, 2, 0],
        [0, -1, -2, 1, 2, 0],
        [0, 4, -2, -4, 2, 0],
        [0, 2, 3, -4, -3, 2],
    ]
).div(2)
_G = torch.tensor([[15, 0, 0], [-5, -5, -5], [5, -5, 5], [1, 2, 4], [-16, 8, -4], [0, 0, 15]]).div(15)


def _both_axes(matrix: Tensor) -> Tensor:
    """Return the transform (points, 1, k, k) of both axes at once, from that of one axis (6, k)."""
    return torch.einsum("pi,qj->pqij", matrix, matrix).reshape(POINTS, 1, *2 * matrix.shape[1:])


MAP_TRANSFORM = _both_axes(_B)  # 6 x 6 inputs -> points
OUTPUT_TRANSFORM = _both_axes(_A.T)  # points -> 4 x 4 outputs, and back for their gradient
KERNEL_TRANSFORM = _both_axes(_G).flatten(1)  # 3 x 3 kernel -> points
CENTRE = 7  # a point whose value all 16 outputs of a tile receive, as they do the bias


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x (B, in, H, W) with weight (out, in, 3, 3), padded by zeros, like `F.conv2d(..., padding=1)`.

    Takes the fast way on CPU in float32 where it pays, the direct one elsewhere (other devices, autocast, export).
    """
    plain = x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32 or torch.is_autocast_enabled("cpu")
    exported = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if plain or exported or not (_is_small(x) or _pays(x, len(weight), WORTH_FOR_KERNELS)):
        return F.conv2d(x, weight, bias, padding=1)
    convolved: Tensor = _Conv3x3.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return convolved


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # kept for the way back, where they serve once more
        kernels = _kernel_points(weight) if _pays(x, len(weight), WORTH) else None
        ctx.save_for_backward(x, weight, kernels)
        if kernels is not None:
            return _convolve(x, kernels, bias)
        if _is_heavy(x, weight):
            return _small_convolve(x, weight, bias)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight, kernels = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        fast_x = for_x and kernels is not None
        fast_weight = for_weight and _pays(x, len(weight), WORTH_FOR_KERNELS)
        grad_x = grad_weight = None
        if fast_x or fast_weight:
            grad_x, grad_weight = _gradients(x, kernels if fast_x else None, grad, fast_weight)
        if for_x and not fast_x:
            heavy = _is_heavy(x, weight)
            grad_x = _small_map_gradient(grad, weight) if heavy else _direct_map_gradient(x, weight, grad)
        if for_weight and not fast_weight:
            small = _is_small(x)
            grad_weight = _small_kernel_gradient(x, grad) if small else _direct_kernel_gradient(x, weight, grad)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if for_bias else None


def _tiles(x: Tensor) -> tuple[int, int]:
    return -(-x.shape[2] // TILE), -(-x.shape[3] // TILE)


def _is_small(x: Tensor) -> bool:
    return len(x) * x.shape[2] * x.shape[3] <= SMALL_MAP


def _is_heavy(x: Tensor, weight: Tensor) -> bool:
    return _is_small(x) and len(weight) * x.shape[1] >= LARGE_KERNELS


def _pays(x: Tensor, out_channels: int, bound: float) -> bool:
    rows, columns = _tiles(x)
    return 1 / x.shape[1] + 1 / out_channels + 1 / (len(x) * rows * columns) < bound


def _pieces(x: Tensor, channels: int) -> Iterator[tuple[slice, int, int]]:
    """Cut a batch into (items, first row of tiles, last + 1): several small maps at once, large ones in strips."""
    rows, columns = _tiles(x)
    items = max(1, PRODUCT // (rows * columns))
    height = max(1, PIECE // (channels * columns)) if items == 1 else rows
    for item in range(0, len(x), items):
        for first in range(0, rows, height):
            yield slice(item, item + items), first, min(first + height, rows)


def _points(maps: Tensor, first: int, last: int, transform: Tensor) -> Tensor:
    """Transform rows of tiles of maps (B, C, H, W) to (points, C, B * tiles); zeros surround the maps."""
    margin = (transform.shape[-1] - TILE) // 2
    start, end = TILE * first - margin, TILE * last + margin
    top, bottom = max(start, 0), min(end, maps.shape[2])
    strip = F.pad(maps[:, :, top:bottom], (margin, margin - maps.shape[3] % -TILE, top - start, end - bottom))
    points = F.conv2d(strip.flatten(0, 1).unsqueeze(1), transform, stride=TILE)  # each channel by itself
    return points.view(*maps.shape[:2], POINTS, -1).permute(2, 1, 0, 3).flatten(2)


def _kernel_points(weight: Tensor) -> Tensor:
    return torch.mm(KERNEL_TRANSFORM, weight.reshape(-1, 9).t()).view(POINTS, *weight.shape[:2])


def _convolve(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    (rows, columns), height, width = _tiles(x), *x.shape[2:]
    out = x.new_empty(len(x), kernels.shape[1], rows * TILE, columns * TILE)
    for items, first, last in _pieces(x, max(kernels.shape[1:])):
        product = torch.bmm(kernels, _points(x[items], first, last, MAP_TRANSFORM))
        if bias is not None:
            product[CENTRE] += bias[:, None]
        tiles = torch.mm(OUTPUT_TRANSFORM.flatten(1).t(), product.flatten(1))
        target = _by_tile(out[items, :, TILE * first : TILE * last])
        target.copy_(tiles.view(TILE, TILE, -1, len(target), last - first, columns).permute(3, 2, 4, 0, 5, 1))
    return _cut(out, 0, height, width)


def _gradients(
    x: Tensor, kernels: Tensor | None, grad: Tensor, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of x, if the points of the kernels are given, and of weight, if it is wanted."""
    (rows, columns), inputs, outputs = _tiles(x), x.shape[1], grad.shape[1]
    # tiles reach one pixel beyond the map; each adds to its own 4 x 4 pixels and to the two next in both directions
    spread = None if kernels is None else x.new_zeros(len(x), inputs, (rows + 1) * TILE, (columns + 1) * TILE)
    products = x.new_empty(POINTS, outputs, inputs) if for_weight else None
    for number, (items, first, last) in enumerate(_pieces(x, max(outputs, inputs))):
        slopes = _points(grad[items], first, last, OUTPUT_TRANSFORM)
        if products is not None:
            maps = _points(x[items], first, last, MAP_TRANSFORM)
            products.baddbmm_(slopes, maps.transpose(1, 2), beta=min(number, 1))
        if kernels is not None and spread is not None:
            tiles = torch.mm(MAP_TRANSFORM.flatten(1).t(), torch.bmm(kernels.transpose(1, 2), slopes).flatten(1))
            tiles = tiles.view(TILE + 2, TILE + 2, inputs, -1, last - first, columns).permute(3, 2, 4, 0, 5, 1)
            target = _by_tile(spread[items, :, TILE * first : TILE * (last + 1)])
            for own_rows, place_rows, part_rows in _OVERLAPS:
                for own_columns, place_columns, part_columns in _OVERLAPS:
                    place = target[:, :, own_rows, place_rows, own_columns, place_columns]
                    place += tiles[:, :, :, part_rows, :, part_columns]
    grad_x = None if spread is None else _cut(spread, 1, *x.shape[2:])
    return grad_x, None if products is None else _kernel_gradient(products)


_OVERLAPS = (  # tiles of the target, pixels in them, pixels of the 6 of a tile
    (slice(None, -1), slice(None), slice(None, TILE)),
    (slice(1, None), slice(None, 2), slice(TILE, None)),
)


def _by_tile(maps: Tensor) -> Tensor:
    """View maps (B, C, H, W) as (B, C, rows, 4, columns, 4)."""
    rows, columns = _tiles(maps)
    return maps.view(*maps.shape[:2], rows, TILE, columns, TILE)


def _cut(maps: Tensor, margin: int, height: int, width: int) -> Tensor:
    if maps.shape[2:] == (height, width):  # no view: the layers that follow compute in place
        return maps
    return maps[..., margin : margin + height, margin : margin + width].contiguous()


def _kernel_gradient(products: Tensor) -> Tensor:
    gradient = products.new_empty(*products.shape[1:], 3, 3)
    # copied into place: autograd adds up the gradients of several passes in place if none is a view
    gradient.view(-1, 9).copy_(torch.mm(KERNEL_TRANSFORM.t(), products.flatten(1)).t())
    return gradient


def _shifted(x: Tensor) -> Tensor:
    """All shifted copies of maps (B, C, H, W) as (C * 9, B * H * W)."""
    return F.unfold(x, 3, padding=1).transpose(0, 1).flatten(1)


def _small_convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = torch.mm(weight.flatten(1), _shifted(x))
    if bias is not None:
        out += bias[:, None]
    return out.view(len(weight), len(x), *x.shape[2:]).transpose(0, 1).contiguous()


def _small_map_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    shifted = torch.mm(weight.flatten(1).t(), grad.transpose(0, 1).flatten(1))
    return F.fold(shifted.unflatten(1, (len(grad), -1)).transpose(0, 1), grad.shape[2:], 3, padding=1)


def _small_kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    gradient = x.new_empty(grad.shape[1], x.shape[1], 3, 3)
    torch.mm(grad.transpose(0, 1).flatten(1), _shifted(x).t(), out=gradient.view(len(gradient), -1))
    return gradient


def _direct_map_gradient(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    return _direct_backward(x, weight, grad, (True, False, False))[0]


def _direct_kernel_gradient(x: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    return _direct_backward(x, weight, grad, (False, True, False))[1]


def _direct_backward(
    x: Tensor, weight: Tensor, grad: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, wanted
    )
    return gradients
