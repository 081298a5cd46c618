"""The generator of vid2vid (Wang et al. 2018, Video-to-Video Synthesis): movies from masks and earlier frames.

The generator paints a new frame and predicts how the last frame moves; a mask blends the two at each pixel. This
version is compact: it has one resolution and no foreground model. Flows are as in `networks.flow`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cytoforge.networks.flow import warp
from cytoforge.networks.layers import Conv3x3, Norm, Upsampling, norm_layer, pad_to_multiple

LONGEST_FLOW = 20.0
"""px that a flow of 1 in the network's own units stands for."""


class Sketch(NamedTuple):
    """The parts from which a frame is composed."""

    raw: Tensor
    """(B, C, H, W) in [-1, 1], painted anew"""
    flow: Tensor
    """(B, 2, H, W) in px, from each pixel to where it was in the previous frame"""
    mask: Tensor
    """(B, 1, H, W) in [0, 1]: 1 shows what was painted anew, 0 the previous frame moved along the flow"""


def compose(sketch: Sketch, previous: Tensor) -> Tensor:
    """Return the frame (B, C, H, W) of a sketch and the previous frame: raw * mask + warped * (1 - mask), float32."""
    return torch.lerp(warp(previous, sketch.flow.float()), sketch.raw.float(), sketch.mask.float())


class ResidualBlock(nn.Module):
    """A map plus the output of two 3 x 3 convolutions with normalisation."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.norm1 = Conv3x3(channels, channels), norm_layer(norm, channels)
        self.conv2, self.norm2 = Conv3x3(channels, channels), norm_layer(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, H, W)."""
        change: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu_()))
        return change.add_(x)


class Vid2Vid(nn.Module):
    """Sketch the next frame of a movie from its masks and the frames before it.

    The maps of one encoder of masks and one of past frames are added and go to a branch for the image and one for flow
    and mask. Of `blocks` residual blocks at 1 / 2**depth of the size, each encoder has half, rounded up, and each
    branch the others. `transposed` convolutions, as in vid2vid, paint lattices that only long trainings lose; `nearest`
    repeats pixels before a convolution (Odena et al. 2016). `stride` and `receptive_radius` are as in
    `networks.layers.UNetEncoder`; they apply to the sketch only, since pixels moved along a flow may come from any
    place. Raises ValueError for impossible sizes and any other upsampling.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 32,
        past: int = 2,
        depth: int = 3,
        blocks: int = 9,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
    ) -> None:
        """`in_channels` are those of the window of masks, `past` is the number of earlier frames."""
        super().__init__()
        if min(in_channels, out_channels, width, past, depth, blocks) < 1:
            sizes = (in_channels, out_channels, width, past, depth, blocks)
            raise ValueError(f"need channels, width, past, depth and blocks of 1 or more, got {sizes}")
        if upsampling not in ("transposed", "nearest"):
            raise ValueError(f"upsampling must be 'transposed' or 'nearest', got {upsampling!r}")
        self.out_channels, self.past = out_channels, past
        self.stride = 2**depth
        early = -(-blocks // 2)
        self.receptive_radius = _radius(depth, blocks, upsampling) if norm == "batch" else None
        self.mask_encoder = _encoder(in_channels, width, depth, early, norm)
        self.past_encoder = _encoder(past * out_channels, width, depth, early, norm)
        self.image_branch = _branch(width, depth, blocks - early, norm, upsampling)
        self.flow_branch = _branch(width, depth, blocks - early, norm, upsampling)
        self.outputs, self.motion = _conv7x7(width, out_channels), _conv7x7(width, 3)

    def forward(self, masks: Tensor, past: Tensor) -> Sketch:
        """Sketch frames for any size.

        `masks` (B, in, H, W) are those of the last frames, that of the frame to paint last; `past` (B, past * out, H,
        W) the frames before it in [-1, 1], the latest last, or zeros where there is none. Raises ValueError when the
        sizes differ.
        """
        height, width = masks.shape[2:]
        if past.shape[2:] != masks.shape[2:]:
            raise ValueError(f"masks and past frames must have one size, got {tuple(masks.shape)}, {tuple(past.shape)}")
        x = self.mask_encoder(pad_to_multiple(masks, self.stride))
        x = x + self.past_encoder(pad_to_multiple(past, self.stride))
        raw = self.outputs(self.image_branch(x))[..., :height, :width].tanh()
        motion = self.motion(self.flow_branch(x))[..., :height, :width]
        return Sketch(raw, LONGEST_FLOW * motion[:, :2], motion[:, 2:].sigmoid())


def _conv7x7(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 7, padding=3, padding_mode="reflect")


def _encoder(channels: int, width: int, depth: int, blocks: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = [_conv7x7(channels, width), norm_layer(norm, width), nn.ReLU(inplace=True)]
    for level in range(depth):
        before, after = width << level, width << (level + 1)
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), norm_layer(norm, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *(ResidualBlock(width << depth, norm) for _ in range(blocks)))


def _branch(width: int, depth: int, blocks: int, norm: Norm, upsampling: Upsampling) -> nn.Sequential:
    layers: list[nn.Module] = [ResidualBlock(width << depth, norm) for _ in range(blocks)]
    for level in reversed(range(depth)):
        before, after = width << (level + 1), width << level
        if upsampling == "transposed":
            layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1))
        else:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")]
        layers += [norm_layer(norm, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _radius(depth: int, blocks: int, upsampling: Upsampling) -> int:
    """Return the input pixels on each side of an output pixel that a sketch can depend on, the largest over places."""
    radius = 0
    for place in range(2**depth):
        low, high = place - 3, place + 3
        for _ in range(depth):
            low, high = (low // 2, (high + 1) // 2) if upsampling == "transposed" else ((low - 1) // 2, (high + 1) // 2)
        low, high = low - 2 * blocks, high + 2 * blocks
        for _ in range(depth):
            low, high = 2 * low - 1, 2 * high + 1
        radius = max(radius, place - low + 3, high + 3 - place)
    return radius
