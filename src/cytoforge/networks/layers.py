"""Blocks that the networks share.

Feature maps are (B, C, H, W). Modules are named as in the published checkpoints, so that these load strictly.
Activations are computed in place after layers whose backward pass does not need their own output.
"""

import math
from collections import OrderedDict
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

Norm = Literal["batch", "group"]
Upsampling = Literal["transposed", "nearest"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation of (B, channels, H, W): batch norm, or group norm of up to 8 groups of 4 channels or more.

    Raises ValueError for any other name.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(math.gcd(channels, min(8, max(1, channels // 4))), channels)
    raise ValueError(f"norm must be 'batch' or 'group', got {norm!r}")


def pad_to(image: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column of (B, C, H, W) up to `height` x `width` pixels; larger sides stay as they are."""
    below, right = max(height - image.shape[2], 0), max(width - image.shape[3], 0)
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (B, C, H, W) until both sides are multiples of `multiple` pixels."""
    height, width = (-(-size // multiple) * multiple for size in image.shape[2:])
    return pad_to(image, height, width)


def unet_radius(depth: int, beyond: int = 0) -> int:
    """Return how many input pixels on each side an output pixel of a U-Net with `depth` poolings can depend on.

    `beyond` upsamplings by 2 follow those that undo the poolings; the output pixel counts as the input pixel in which
    it lies. Exact for two 3 x 3 convolutions per level, 2 x 2 poolings and 2 x 2 transposed convolutions of stride 2.
    The number depends on the pixel's place in the coarsest grid; the result is the largest over all places.
    """
    radius = 0
    for place in range(2 ** (depth + beyond)):
        low = high = place
        pixel = place >> beyond
        for _ in range(depth + beyond):  # expanding half
            low, high = (low - 2) // 2, (high + 2) // 2
        low, high = low - 2, high + 2
        for _ in range(depth):  # contracting half
            low, high = 2 * low - 2, 2 * high + 1 + 2
        radius = max(radius, pixel - low, high - pixel)
    return radius


class Conv3x3(nn.Conv2d):
    """3 x 3 convolution with a bias, padded by zeros: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)


class DoubleConv(nn.Module):
    """Twice: 3 x 3 convolution, normalisation, leaky ReLU of slope 0.01."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Conv3x3(in_channels, out_channels)
        self.bn1 = norm_layer(norm, out_channels)
        self.conv2 = Conv3x3(out_channels, out_channels)
        self.bn2 = norm_layer(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H, W)."""
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.01, inplace=True)
        return F.leaky_relu(self.bn2(self.conv2(x)), 0.01, inplace=True)


def fold_norms(network: nn.Module) -> None:
    """Put batch norms into the convolutions before them, in place: the same function in eval mode, a tenth faster.

    Those that come before a convolution stay, as in CellPose, and so do group norms, which depend on the image.
    """
    for block in network.modules():
        if not isinstance(block, DoubleConv):
            continue
        if isinstance(block.bn1, nn.BatchNorm2d) and isinstance(block.bn2, nn.BatchNorm2d):
            block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), nn.Identity()
            block.conv2, block.bn2 = fuse_conv_bn_eval(block.conv2, block.bn2), nn.Identity()


class UNetEncoder(nn.Module):
    """The contracting half and the bottleneck that UNet and StyleUNet share.

    Level k (0 is the finest) has width * 2**k channels. `stride` is the pooling factor of all levels together,
    `receptive_radius` how many pixels on each side an output pixel of the whole network depends on in eval mode
    (None with group norm, whose statistics are those of the whole input). Raises ValueError for impossible sizes.
    """

    def __init__(self, in_channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        if min(in_channels, width, depth) < 1:
            raise ValueError(f"need in_channels, width and depth of 1 or more, got {in_channels}, {width} and {depth}")
        self.depth = depth
        self.stride = 2**depth
        self.receptive_radius = unet_radius(depth) if norm == "batch" else None
        before = in_channels
        for level in range(depth):
            block = DoubleConv(before, width << level, norm)
            self.add_module(f"e{level + 1}", nn.Sequential(OrderedDict(conv=block)))
            before = width << level
        self.b = DoubleConv(before, 2 * before, norm)

    def encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the maps of all levels, finest first, and the bottleneck; sides must be multiples of `stride`."""
        skips: list[Tensor] = []
        for level in range(self.depth):
            skips.append(self.get_submodule(f"e{level + 1}")(image))
            image = F.max_pool2d(skips[-1], 2)
        return skips, self.b(image)


class ScaledLinear(nn.Module):
    """Linear layer of the style mapping, whose weight and bias are multiplied by 0.1 in use."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, features).uniform_(-1, 1))  # N(0, 1) from `initialise`
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., features)."""
        return F.linear(x, 0.1 * self.weight, 0.1 * self.bias)


class StyleMapping(nn.Module):
    """The mapping network: latents are brought to unit length and go through three linear layers."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*[layer for _ in range(3) for layer in (ScaledLinear(latent), nn.LeakyReLU(0.2))])

    def forward(self, z: Tensor) -> Tensor:
        """Return styles w (..., latent) of latents z (..., latent)."""
        w: Tensor = self.net(F.normalize(z, dim=-1))
        return w


class _Energy(torch.autograd.Function):
    """Sum of squares of each kernel, (out, in, k, k) -> (out, in); its gradient is formed in one pass, not in three."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        energy: Tensor = torch.linalg.vector_norm(weight, dim=(2, 3)).square()
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        slope: Tensor = weight * (2 * grad)[..., None, None]
        return slope


class ModulatedConv(nn.Module):
    """3 x 3 convolution whose kernel is scaled per input channel by each image's style, then set to unit norm.

    The kernel of an image is W' = W (style + 1) / |W (style + 1)|, the norm taken per output channel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor, style: Tensor, bias: Tensor) -> Tensor:
        """Convolve x (B, in, H, W) with style (B, in) and add bias (out,)."""
        gain = style.float() + 1
        energy: Tensor = _Energy.apply(self.weight)  # type: ignore[no-untyped-call]
        demodulation = ((energy * gain.square()[:, None]).sum(2) + 1e-8).rsqrt()
        # W' x is also demodulation * (W (gain * x)): scale whichever has fewer elements, kernels or maps
        if len(x) * self.weight.numel() < x.numel():
            kernels = self.weight * (gain[:, None] * demodulation[:, :, None])[..., None, None]
            pairs = zip(x.split(1), kernels, strict=True)
            return torch.cat([F.conv2d(one, kernel, bias, padding=1) for one, kernel in pairs])
        out = F.conv2d(x * gain[..., None, None].to(x.dtype), self.weight, padding=1)
        return torch.addcmul(bias[:, None, None].to(out.dtype), out, demodulation[..., None, None].to(out.dtype))


class StyleDoubleConv(nn.Module):
    """Twice: modulated convolution, plus the noise map times a learnt factor per channel, leaky ReLU of slope 0.2."""

    def __init__(self, in_channels: int, out_channels: int, latent: int) -> None:
        super().__init__()
        self.to_style1 = nn.Linear(latent, in_channels)
        self.to_noise1 = nn.Linear(1, out_channels)
        self.conv1 = ModulatedConv(in_channels, out_channels)
        self.to_style2 = nn.Linear(latent, out_channels)
        self.to_noise2 = nn.Linear(1, out_channels)
        self.conv2 = ModulatedConv(out_channels, out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """Convolve x (B, C, H, W) with style w (B, latent) and noise (B, 1, H, W)."""
        x = self._layer(x, self.conv1, self.to_style1(style), self.to_noise1, noise)
        return self._layer(x, self.conv2, self.to_style2(style), self.to_noise2, noise)

    @staticmethod
    def _layer(x: Tensor, conv: ModulatedConv, style: Tensor, to_noise: nn.Linear, noise: Tensor) -> Tensor:
        x = conv(x, style, to_noise.bias)
        x = torch.addcmul(x, noise.to(x.dtype), to_noise.weight[:, :, None].to(x.dtype))
        return F.leaky_relu(x, 0.2, inplace=True)


class ChannelNorm(nn.Module):
    """Normalise each pixel over its channels, with a gain and an offset per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        normed = F.layer_norm(x.movedim(1, -1), x.shape[1:2], self.g.flatten(), self.b.flatten())
        return normed.movedim(-1, 1).contiguous()


class LinearAttention(nn.Module):
    """Self-attention whose cost grows with the number of pixels, not with its square.

    Queries are normalised over the channels of a head, keys over all pixels. Values are a 1 x 1 convolution of the
    same map as the keys, so they are never formed: its weights act on the small context matrix instead.
    """

    def __init__(self, channels: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.to_q = nn.Conv2d(channels, inner, 1, bias=False)
        depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, 2 * inner, 1, bias=False)
        self.to_kv = nn.Sequential(OrderedDict(net=nn.Sequential(depthwise, pointwise)))
        self.to_out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        depthwise, pointwise = self.to_kv.net  # type: ignore[misc]
        key_weight, value_weight = pointwise.weight.chunk(2)
        source = depthwise(x)
        q = self.to_q(x).unflatten(1, (self.heads, -1)).flatten(3).softmax(2)
        k = F.conv2d(source, key_weight).flatten(2)
        # half precision cannot represent probabilities over a million pixels
        with torch.autocast(x.device.type, enabled=False):
            k = k.softmax(2, dtype=torch.float32)
            attended = k @ source.flatten(2).transpose(1, 2).float()
            values = value_weight.flatten(1).unflatten(0, (self.heads, -1)).float() * q.shape[2] ** -0.5
            context = values @ attended.unflatten(1, (self.heads, -1)).transpose(2, 3)
        out = F.gelu(context.to(q.dtype) @ q)
        projected: Tensor = self.to_out(out.reshape(len(x), -1, *x.shape[2:]))
        return projected


class NormedAttention(nn.Module):
    """Channel norm, then linear attention."""

    def __init__(self, channels: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.fn = LinearAttention(channels, heads, head_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        attended: Tensor = self.fn(self.norm(x))
        return attended


class ResidualAttention(nn.Module):
    """A map plus the linear attention of the normalised map."""

    def __init__(self, channels: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.fn = NormedAttention(channels, heads, head_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        attended: Tensor = self.fn(x)
        return attended.add_(x)


Start = Literal["kaiming", "torch"]
"""How weights are drawn: `kaiming` as cGAN-Seg draws them, `torch` by torch's defaults, as tGAN does."""


def initialise(network: nn.Module, generator: torch.Generator, start: Start = "kaiming") -> None:
    """Draw all weights of a network from `generator`.

    Both rules: modulated convolutions Kaiming normal (fan in); style mapping N(0, 1), biases 0; transposed convolutions
    uniform within 1 / sqrt(fan in), biases too; normalisations 1 and 0, running statistics reset. Convolutions and
    linear layers are Kaiming normal (fan out, ReLU) and Xavier normal with biases 0 by `kaiming`, and uniform within
    1 / sqrt(fan in), biases too, by `torch`. Raises ValueError for another rule.
    """
    if start not in get_args(Start):
        raise ValueError(f"start must be one of {', '.join(get_args(Start))}, got {start!r}")
    for module in network.modules():
        match module:
            case nn.ConvTranspose2d():
                _draw_uniform(module, generator)
                continue
            case nn.Conv2d() | nn.Linear() if start == "torch":
                _draw_uniform(module, generator)
                continue
            case nn.Conv2d():
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            case ModulatedConv():
                nn.init.kaiming_normal_(module.weight, generator=generator)
            case nn.Linear():
                nn.init.xavier_normal_(module.weight, generator=generator)
            case ScaledLinear():
                nn.init.normal_(module.weight, generator=generator)
            case nn.BatchNorm2d():
                module.reset_running_stats()
                nn.init.ones_(module.weight)
            case nn.GroupNorm():
                nn.init.ones_(module.weight)
            case ChannelNorm():
                nn.init.ones_(module.g)
                nn.init.zeros_(module.b)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _draw_uniform(layer: nn.Module, generator: torch.Generator) -> None:
    """Draw weight and bias of a layer uniformly within 1 / sqrt(fan in), as torch does when it is made.

    Torch takes the second axis of a weight for what comes in, also of transposed convolutions, where it is the first.
    """
    bound = 1 / math.sqrt(cast(Tensor, layer.weight)[0].numel())
    for parameter in layer.parameters(recurse=False):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
