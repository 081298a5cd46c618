"""The tracker network of DeepSea: two crops to the place of one cell (Zargari et al., Cell Rep. Methods 3, 100500)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.networks.layers import Norm
from cytoforge.networks.segmentation import DeepSeaBlock

STRIDE = 4


class Tracker(nn.Module):
    """Residual U-Net of two poolings with a separate first block for each crop; 2,148,546 parameters at width 64.

    `previous` shows one cell in its frame, `current` all cells of the next frame in the same window (`crops`). Its
    upsampling aligns the corners of the map, as that of `networks.segmentation.DeepSea`. Dropout draws from torch's
    global generator.
    """

    def __init__(self, in_channels: int = 1, width: int = 64, norm: Norm = "batch") -> None:
        """`in_channels` of each crop, `width` channels of the first maps. Raises ValueError for either below 1."""
        super().__init__()
        if min(in_channels, width) < 1:
            raise ValueError(f"sizes must be 1 or more, got {in_channels} and {width}")
        self.previous = DeepSeaBlock(in_channels, width, norm)
        self.current = DeepSeaBlock(in_channels, width, norm)
        self.down = DeepSeaBlock(2 * width, 2 * width, norm)
        self.bottom = DeepSeaBlock(2 * width, 4 * width, norm)
        self.up = DeepSeaBlock(6 * width, 2 * width, norm)
        self.last = DeepSeaBlock(4 * width, width, norm)
        self.outputs = nn.Conv2d(width, 2, 1)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        """Return logits (B, 2, H, W), elsewhere and here, of crops (B, C, H, W) in [-1, 1].

        Raises ValueError unless both crops have one shape whose sides are multiples of STRIDE.
        """
        if previous.shape != current.shape or any(side % STRIDE for side in previous.shape[2:]):
            raise ValueError(
                f"crops must have one shape with sides that are multiples of {STRIDE}, "
                f"got {tuple(previous.shape)} and {tuple(current.shape)}"
            )
        fine = torch.cat([self.previous(previous), self.current(current)], dim=1)
        coarse = self.down(F.max_pool2d(fine, 2))
        x = self.up(_beside(coarse, self.bottom(F.max_pool2d(coarse, 2))))
        logits: Tensor = self.outputs(self.last(_beside(fine, x)))
        return logits


def _beside(skip: Tensor, x: Tensor) -> Tensor:
    return torch.cat([skip, F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)], dim=1)
