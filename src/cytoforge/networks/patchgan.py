"""PatchGAN: the discriminator that judges images or pieces of movies patch by patch (cGAN-Seg, Figure 1A; tGAN)."""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.networks.layers import Norm, ResidualAttention, norm_layer, pad_to

SMALLEST = 24  # px: what one output patch needs


class PatchGAN(nn.Module):
    """Four 4 x 4 convolutions and a fifth for the scores, with linear attention at half resolution (`heads` 0: none).

    Takes (B, in_channels, H, W) and returns one unbounded score per patch, (B, 1, H // 8 - 2, W // 8 - 2); smaller
    images than 24 px are padded by repeating their edge. A least-squares discriminator: 1 is real, 0 is fake. With
    `dropout` (0.3 in tGAN, none in cGAN-Seg) that share of each hidden map is dropped in training.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 64,
        heads: int = 8,
        head_width: int = 64,
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(in_channels, width, head_width) < 1 or heads < 0:
            raise ValueError(f"need channels of 1 or more, got {in_channels}, {width}, {heads} heads of {head_width}")
        dropped = [nn.Dropout(dropout)] if dropout else []  # without parameters: one module can stand in several places
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *dropped,
            ResidualAttention(width, heads, head_width) if heads else nn.Identity(),
        ]
        for (before, after), stride in zip(pairwise([width, 2 * width, 4 * width, 8 * width]), (2, 2, 1), strict=True):
            layers += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                norm_layer(norm, after),
                nn.LeakyReLU(0.2, inplace=True),
                *dropped,
            ]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of all patches."""
        scores: Tensor = self.model(pad_to(image, SMALLEST, SMALLEST))
        return scores

    def activations(self, image: Tensor) -> list[Tensor]:
        """Return the four hidden maps, at 1/2, 1/4, 1/8 and again about 1/8 of the size, for feature matching.

        Nothing is dropped in them, so that equal images have equal maps.
        """
        x, maps = pad_to(image, SMALLEST, SMALLEST), list[Tensor]()
        for layer in list(self.model)[:-1]:
            x = x if isinstance(layer, nn.Dropout) else layer(x)
            if isinstance(layer, nn.LeakyReLU):
                maps.append(x)
        return maps


class MultiscalePatchGAN(nn.Module):
    """Several PatchGANs, each of which sees the image at half the size of the one before it (vid2vid)."""

    def __init__(self, scales: int = 2, **options: Any) -> None:
        """`options` are those of each PatchGAN."""
        super().__init__()
        self.scales = nn.ModuleList(PatchGAN(**options) for _ in range(scales))

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """Return, for each scale from full size on, the hidden maps followed by the scores of all patches."""
        found = []
        for scale, patchgan in enumerate(self.scales):
            if scale:
                image = F.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
            maps = patchgan.activations(image)  # type: ignore[operator]
            found.append([*maps, patchgan.model[-1](maps[-1])])  # type: ignore[operator, index]
        return found
