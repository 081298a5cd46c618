"""Optical flow between two frames of a movie, and the warping of frames along it (tGAN, Figure S5).

A flow (B, 2, H, W) belongs to the pixels of the later frame and points to where each of them came from in the earlier
one: channel 0 is the displacement in x (to the right), channel 1 in y (down), both in pixels.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_tvl1
from torch import Tensor, nn

from cytoforge.networks.layers import Conv3x3, Norm, norm_layer, pad_to_multiple


class FlowNet(nn.Module):
    """Seven 3 x 3 convolutions at full resolution, all but the last with normalisation and ReLU.

    An output pixel depends on input pixels up to 7 px away. With `half_resolution` frames are reduced to half size
    first and the flow is scaled up in size and in length: this reaches 16 px at a quarter of the cost. Raises
    ValueError for impossible sizes.
    """

    def __init__(
        self, channels: int = 1, width: int = 64, norm: Norm = "batch", *, half_resolution: bool = False
    ) -> None:
        """`channels` is the number in one frame; the widest layer has 4 * `width` channels."""
        super().__init__()
        if channels < 1 or width < 2:
            raise ValueError(f"need channels of 1 or more and width of 2 or more, got {channels} and {width}")
        self.half_resolution = half_resolution
        widths = [2 * channels, width, 2 * width, 4 * width, 2 * width, width, width // 2]
        for layer, (before, after) in enumerate(pairwise(widths), start=1):
            self.add_module(f"conv{layer}", Conv3x3(before, after))
            self.add_module(f"bn{layer}", norm_layer(norm, after))
        self.conv7 = Conv3x3(width // 2, 2)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        """Return the flow (B, 2, H, W) in pixels that brings `previous` to `current`, both (B, channels, H, W)."""
        x = torch.cat([previous, current], dim=1)
        if not self.half_resolution:
            return self._estimate(x)
        half = F.avg_pool2d(pad_to_multiple(x, 2), 2)
        flow = F.interpolate(2 * self._estimate(half), scale_factor=2, mode="bilinear", align_corners=False)
        return flow[..., : x.shape[2], : x.shape[3]]

    def _estimate(self, x: Tensor) -> Tensor:
        for layer in range(1, 7):
            x = self.get_submodule(f"conv{layer}")(x)
            x = F.relu(self.get_submodule(f"bn{layer}")(x), inplace=True)
        flow: Tensor = self.conv7(x)
        return flow


def reference_flow(previous: Tensor, current: Tensor) -> Tensor:
    """Estimate the flow (B, 2, H, W) in px between frames (B, C, H, W) by TV-L1 on the mean of the channels.

    Zach, Pock and Bischof 2007. scikit-image computes it on the CPU, with fewer iterations than its defaults, which
    give the same flow. The result is on the frames' device.
    """
    pairs = zip(current.mean(1).float().cpu().numpy(), previous.mean(1).float().cpu().numpy(), strict=True)
    found = [optical_flow_tvl1(after, before, num_warp=3, num_iter=5) for after, before in pairs]
    return torch.from_numpy(np.stack(found)[:, ::-1].copy()).to(current.device)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Move an image (B, C, H, W) along a flow (B, 2, H, W): out(x, y) = image(x + flow_x, y + flow_y), as float32.

    Values are bilinear between pixels, and the edge is repeated beyond the image. A flow of whole pixels, such as
    zero, copies values exactly; torch's grid_sample does not, because it rounds coordinates scaled to [-1, 1]. The
    result is differentiable in both arguments. Raises ValueError if the shape of the flow does not fit the image.
    """
    batch, channels, height, width = image.shape
    if flow.shape != (batch, 2, height, width):
        raise ValueError(f"flow must be {(batch, 2, height, width)} for images {tuple(image.shape)}, got {flow.shape}")
    x = (torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0]).clamp(0, width - 1)
    y = (torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1]).clamp(0, height - 1)
    left, top = (where.detach().floor() for where in (x, y))
    right_part, lower_part = (x - left)[:, None], (y - top)[:, None]
    # Non-finite flow must not become an index; it still reaches the loss, which handles it, through the weights below.
    column, row = (where.nan_to_num().long() for where in (left, top))
    pixels = image.to(x.dtype).flatten(2)

    def take(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows * width + columns).flatten(1)[:, None].expand(-1, channels, -1)
        return pixels.gather(2, index).view(image.shape)

    next_column, next_row = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    upper = torch.lerp(take(row, column), take(row, next_column), right_part)
    lower = torch.lerp(take(next_row, column), take(next_row, next_column), right_part)
    return torch.lerp(upper, lower, lower_part)
