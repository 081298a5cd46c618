"""Segmentation networks: image (B, C, H, W) in [-1, 1] to logits (B, classes, H, W), at any size from 1 px.

Inside, images are padded at the bottom and on the right, by repeating their edge, to a multiple of `stride`; so tiles
whose offset is a multiple of `stride` see the same grid. `receptive_radius` is the number of pixels on each side that
an output pixel can depend on in eval mode, or None where it depends on the whole input.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.networks.layers import Conv3x3, DoubleConv, Norm, UNetEncoder, norm_layer, pad_to_multiple


class Up(nn.Module):
    """Decoder block: transposed convolution, concatenation with the encoder's map, double convolution."""

    def __init__(self, channels: int, norm: Norm) -> None:
        """`channels` come in, half of them go out."""
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = DoubleConv(channels, channels // 2, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, channels / 2, 2 h, 2 w) of x (B, channels, h, w) and skip (B, channels / 2, 2 h, 2 w)."""
        out: Tensor = self.conv(torch.cat([self.up(x), skip], dim=1))
        return out


class UNet(UNetEncoder):
    """U-Net with batch norm (Ronneberger et al. 2015, as in cGAN-Seg): `depth` poolings, width * 2**depth channels."""

    def __init__(
        self, in_channels: int = 1, classes: int = 2, width: int = 64, depth: int = 4, norm: Norm = "batch"
    ) -> None:
        super().__init__(in_channels, width, depth, norm)
        for block in range(depth):
            self.add_module(f"d{block + 1}", Up(width << (depth - block), norm))
        self.outputs = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes, H, W)."""
        height, width = image.shape[2:]
        skips, x = self.encode(pad_to_multiple(image, self.stride))
        for block in range(self.depth):
            x = self.get_submodule(f"d{block + 1}")(x, skips.pop())
        logits: Tensor = self.outputs(x)
        return logits[..., :height, :width]


def _norm_relu_conv(in_channels: int, out_channels: int, norm: Norm, kernel: int = 3) -> nn.Sequential:
    conv = Conv3x3(in_channels, out_channels) if kernel == 3 else nn.Conv2d(in_channels, out_channels, kernel)
    return nn.Sequential(norm_layer(norm, in_channels), nn.ReLU(inplace=True), conv)


def _projection(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(norm_layer(norm, in_channels), nn.Conv2d(in_channels, out_channels, 1))


class CellPoseDown(nn.Module):
    """Two residual pairs of convolutions, normalised before they are applied."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        convs = {f"conv_{k}": _norm_relu_conv(out_channels if k else in_channels, out_channels, norm) for k in range(4)}
        self.conv = nn.ModuleDict(convs)
        self.proj = _projection(in_channels, out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H, W)."""
        # a convolution's own output is not kept for its backward pass: adding to it in place is safe
        x = self.conv["conv_1"](self.conv["conv_0"](x)).add_(self.proj(x))
        out: Tensor = self.conv["conv_3"](self.conv["conv_2"](x)).add_(x)
        return out


class StyledConv(nn.Module):
    """Normalised convolution of a map to which the style adds a constant per channel."""

    def __init__(self, channels: int, style_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = _norm_relu_conv(channels, channels, norm)
        self.full = nn.Linear(style_channels, channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Return (B, channels, H, W) of x and style (B, style_channels)."""
        out: Tensor = self.conv(x + self.full(style)[..., None, None])
        return out


class CellPoseUp(nn.Module):
    """Two residual pairs of convolutions, to which the encoder's map and the image's style are added."""

    def __init__(self, in_channels: int, out_channels: int, style_channels: int, norm: Norm) -> None:
        super().__init__()
        first = {"conv_0": _norm_relu_conv(in_channels, out_channels, norm)}
        styled = {f"conv_{k}": StyledConv(out_channels, style_channels, norm) for k in (1, 2, 3)}
        self.conv = nn.ModuleDict({**first, **styled})
        self.proj = _projection(in_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        """Return (B, out_channels, H, W) of x (B, in_channels, H, W), skip (B, out_channels, H, W) and style."""
        x = self.conv["conv_1"](self.conv["conv_0"](x).add_(skip), style).add_(self.proj(x))
        out: Tensor = self.conv["conv_3"](self.conv["conv_2"](x, style), style).add_(x)
        return out


class CellPose(nn.Module):
    """Cellpose's residual U-Net without its flow outputs (Stringer et al. 2021, in the sizes of cGAN-Seg).

    `depth` counts resolutions, one more than poolings. The style, the mean of the coarsest map, depends on the whole
    input, so there is no `receptive_radius`.
    """

    receptive_radius: int | None = None

    def __init__(
        self, in_channels: int = 1, classes: int = 2, width: int = 64, depth: int = 3, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        if min(in_channels, classes, width, depth) < 1:
            raise ValueError(f"sizes must be 1 or more, got {in_channels}, {classes}, {width} and {depth}")
        self.stride = 2 ** (depth - 1)
        channels = [in_channels, *(width << level for level in range(depth))]
        top = channels[-1]
        down = {f"res_down_{n}": CellPoseDown(channels[n], channels[n + 1], norm) for n in range(depth)}
        coming = [*channels[2:], top]
        up = {f"res_up_{n}": CellPoseUp(coming[n], channels[n + 1], top, norm) for n in range(depth)}
        self.downsample = nn.ModuleDict({"down": nn.ModuleDict(down)})
        self.upsample = nn.ModuleDict({"up": nn.ModuleDict(up)})
        self.output = _norm_relu_conv(width, classes, norm, kernel=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes, H, W)."""
        height, width = image.shape[2:]
        x, skips = pad_to_multiple(image, self.stride), list[Tensor]()
        for block in self.downsample["down"].children():
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        style = F.normalize(x.mean((2, 3)))
        for n, block in reversed(list(enumerate(self.upsample["up"].children()))):
            x = block(x, skips[n], style)
            x = F.interpolate(x, scale_factor=2.0) if n else x
        logits: Tensor = self.output(x)
        return logits[..., :height, :width]


class DeepSeaBlock(nn.Module):
    """Residual block: two convolutions with dropout between them, beside a 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            Conv3x3(in_channels, out_channels),
            norm_layer(norm, out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            Conv3x3(out_channels, out_channels),
        )
        self.conv1d = nn.Conv2d(in_channels, out_channels, 1)
        self.bn = norm_layer(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H, W)."""
        return F.relu(self.bn(self.double_conv(x).add_(self.conv1d(x))), inplace=True)


class DeepSea(nn.Module):
    """Residual U-Net with bilinear upsampling (Zargari et al. 2023, in the sizes of cGAN-Seg); `depth` poolings.

    Its upsampling aligns the corners of the map, so every output pixel depends on the size of the input and there is
    no `receptive_radius`. Dropout draws from torch's global generator, as layers of torch do.
    """

    receptive_radius: int | None = None

    def __init__(
        self, in_channels: int = 1, classes: int = 2, width: int = 64, depth: int = 3, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        if min(in_channels, classes, width, depth) < 1:
            raise ValueError(f"sizes must be 1 or more, got {in_channels}, {classes}, {width} and {depth}")
        self.depth = depth
        self.stride = 2**depth
        widths = [width << level for level in range(depth + 1)]
        sizes = list(zip([in_channels, *widths], widths, strict=False))
        sizes += [(widths[n] + widths[n + 1], widths[n]) for n in reversed(range(depth))]
        for number, (before, after) in enumerate(sizes, start=1):
            self.add_module(f"res{number}", DeepSeaBlock(before, after, norm))
        self.conv3 = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes, H, W)."""
        height, width = image.shape[2:]
        blocks = [self.get_submodule(f"res{number}") for number in range(1, 2 * self.depth + 2)]
        skips: list[Tensor] = []
        x = pad_to_multiple(image, self.stride)
        for block in blocks[: self.depth]:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = blocks[self.depth](x)
        for block in blocks[self.depth + 1 :]:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = block(torch.cat([skips.pop(), x], dim=1))
        logits: Tensor = self.conv3(x)
        return logits[..., :height, :width]
