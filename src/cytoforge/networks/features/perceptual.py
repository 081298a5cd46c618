"""LPIPS, a perceptual distance of images, on SqueezeNet 1.1 and on VGG-16 (Zhang et al. 2018)."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Scaled(nn.Module):
    """The mapping of images (B, 1 or 3, H, W) in [-1, 1] to what both networks of LPIPS see, and their smallest image.

    `smallest` is the side in px that the poolings of the network need.
    """

    smallest: int

    def __init__(self) -> None:
        super().__init__()
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def scaled(self, image: Tensor) -> Tensor:
        """Return (B, 3, H, W); raises ValueError for images that are too small."""
        if min(image.shape[2:]) < self.smallest:
            raise ValueError(f"images must be {self.smallest} px or more, got {tuple(image.shape[2:])}")
        return (image - self.shift) / self.scale


class Fire(nn.Module):
    """SqueezeNet's block: 1 x 1 convolution to few channels, then 1 x 1 and 3 x 3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2 * expand, H, W)."""
        x = F.relu(self.squeeze(x), inplace=True)
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1), inplace=True)


SQUEEZENET_FIRES = {  # index -> channels in, squeezed, expanded (each way)
    3: (64, 16, 64),
    4: (128, 16, 64),
    6: (128, 32, 128),
    7: (256, 32, 128),
    9: (256, 48, 192),
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}
SQUEEZENET_TAPS = (1, 4, 7, 9, 10, 11, 12)
SQUEEZENET_SMALLEST = 17  # px: what the three poolings need


class SqueezeNetFeatures(Scaled):
    """SqueezeNet 1.1 (torchvision's names) as LPIPS uses it: seven maps of 64 to 512 channels."""

    smallest = SQUEEZENET_SMALLEST

    def __init__(self, state: Weights) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"0": nn.Conv2d(3, 64, 3, stride=2)}
        layers |= {str(index): Fire(*sizes) for index, sizes in SQUEEZENET_FIRES.items()}
        self.features = nn.ModuleDict(layers)
        self.load_state_dict({name: tensor for name, tensor in state.items() if name.startswith("features.")})
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps after layers 1, 4, 7, 9, 10, 11 and 12; raises ValueError for images under 17 px."""
        x = F.relu(self.features["0"](self.scaled(image)), inplace=True)
        maps = [x]
        for index in SQUEEZENET_FIRES:
            if index - 1 not in SQUEEZENET_FIRES:
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            x = self.features[str(index)](x)
            if index in SQUEEZENET_TAPS:
                maps.append(x)
        return maps


VGG16_SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # torchvision's indices between two poolings
VGG16_CHANNELS = (64, 128, 256, 512, 512)


class VGG16Features(Scaled):
    """VGG-16 (torchvision's names) as LPIPS uses it: maps after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""

    smallest = 2 ** (len(VGG16_SLICES) - 1)

    def __init__(self, state: Weights) -> None:
        super().__init__()
        self.features, before = nn.ModuleDict(), 3
        for indices, channels in zip(VGG16_SLICES, VGG16_CHANNELS, strict=True):
            for index in indices:
                self.features[str(index)] = nn.Conv2d(before, channels, 3, padding=1)
                before = channels
        self.load_state_dict({name: tensor for name, tensor in state.items() if name.startswith("features.")})
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps, at 1/1 to 1/16 of the size; raises ValueError for images under 16 px."""
        x, maps = self.scaled(image), list[Tensor]()
        for indices in VGG16_SLICES:
            x = F.max_pool2d(maps[-1], 2) if maps else x
            for index in indices:
                x = F.relu(self.features[str(index)](x), inplace=True)
            maps.append(x)
        return maps


def lpips(network: Callable[[Tensor], list[Tensor]], heads: Weights, first: Tensor, second: Tensor) -> Tensor:
    """Return LPIPS (v0.1) of each pair of images (B, 1 or 3, H, W) in [-1, 1]: (B,), 0 for equal images.

    `network` gives a list of maps of an image. `heads` are the linear weights `lin0.model.1.weight` (1, C, 1, 1),
    `lin1` and so on, one for each map. Zhang et al. 2018, Eq. 1.
    """
    distance = torch.zeros(len(first), device=first.device)
    for index, (a, b) in enumerate(zip(network(first), network(second), strict=True)):
        difference = (_unit_length(a) - _unit_length(b)).square()
        distance = distance + F.conv2d(difference, heads[f"lin{index}.model.1.weight"].to(a)).mean((1, 2, 3))
    return distance


class LPIPS(nn.Module):
    """LPIPS with its two sets of weights: those of the network, by which it is named, and the linear heads'.

    Raises KeyError naming a head that is missing.
    """

    def __init__(self, network: SqueezeNetFeatures | VGG16Features, heads: Weights) -> None:
        super().__init__()
        self.network = network
        squeeze = isinstance(network, SqueezeNetFeatures)
        self.name = f"LPIPS ({'squeeze' if squeeze else 'VGG'}, v0.1)"
        count = len(SQUEEZENET_TAPS if squeeze else VGG16_SLICES)
        self.heads = {name: heads[name] for name in (f"lin{index}.model.1.weight" for index in range(count))}

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance of each pair (B,), as `lpips`."""
        return lpips(self.network, self.heads, first, second)


def _unit_length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length + 1e-10)
