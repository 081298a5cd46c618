"""Pretrained feature networks, built from state dicts: VGG-19 for training, SqueezeNet and Inception for scores.

All take images (B, 1 or 3, H, W) in [-1, 1], treat grey ones as three equal channels, and are frozen: gradients reach
the images only. The package contains no weights.
"""

from collections.abc import Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.networks.layers import Conv3x3

Weights = Mapping[str, Tensor]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

VGG_CONVS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)  # torchvision's indices, up to conv5_1
VGG_AFTER_POOL = {5, 10, 19, 28}
VGG_SLICE_ENDS = (0, 5, 10, 19, 28)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
VGG_SLICE_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class VGG19Features(nn.Module):
    """The perceptual network of cGAN-Seg: maps of VGG-19 after relu1_1 to relu5_1, as far as the weights reach.

    `weights` of an instance are the paper's weights of the slices it returns (1/32, 1/16, 1/8, 1/4, 1). Names are
    torchvision's (`features.0.weight`). Torchvision's own weights see the image in [-1, 1] as it is, with zero
    padding, as in the paper. The rescaled original weights that end at relu3_1 expect ImageNet's mean and deviation
    and padding by reflection; `rescaled` says which ones these are (None: the rescaled ones if they end at relu3_1).
    Raises ValueError when the first convolution is missing.
    """

    def __init__(self, state: Weights, rescaled: bool | None = None) -> None:
        super().__init__()
        reach = [f"features.{index}.weight" in state for index in VGG_CONVS]
        held = VGG_CONVS[: (*reach, False).index(False)]
        if not held:
            raise ValueError(f"no VGG-19 weights: 'features.0.weight' is not among {sorted(state)[:3]}")
        self.rescaled = held[-1] == 10 if rescaled is None else rescaled
        self.weights = VGG_SLICE_WEIGHTS[: sum(end in held for end in VGG_SLICE_ENDS)]
        self.last = VGG_SLICE_ENDS[len(self.weights) - 1]
        self.features = nn.ModuleDict()
        for index in held[: held.index(self.last) + 1]:
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            if self.rescaled and index == 0:
                weight, bias = _take_plain_images(weight, bias)
            shape = (weight.shape[1], len(weight))
            conv = nn.Conv2d(*shape, 3, padding=1, padding_mode="reflect") if self.rescaled else Conv3x3(*shape)
            conv.load_state_dict({"weight": weight, "bias": bias})
            self.features[str(index)] = conv
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one map per slice, at 1/1, 1/2, 1/4, 1/8, 1/16 of the size.

        Raises ValueError for images too small to be pooled that often.
        """
        depth = len(self.weights) - 1
        if min(image.shape[2:]) < 2 ** (depth + self.rescaled):
            raise ValueError(f"images must be {2 ** (depth + self.rescaled)} px or more, got {tuple(image.shape[2:])}")
        x, maps = image.expand(-1, 3, -1, -1), list[Tensor]()
        for name, conv in self.features.items():
            if int(name) in VGG_AFTER_POOL:
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(x), inplace=True)
            if int(name) in VGG_SLICE_ENDS:
                maps.append(x)
        return maps


def _take_plain_images(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Let a convolution of ImageNet-normalised [0, 1] images take [-1, 1]; exact where padding reflects the image."""
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    return weight / (2 * std), bias + (weight * (0.5 - mean) / std).sum((1, 2, 3))


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
LPIPS_SHIFT, LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet 1.1 (torchvision's names) as LPIPS uses it: seven maps of 64 to 512 channels."""

    def __init__(self, state: Weights) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"0": nn.Conv2d(3, 64, 3, stride=2)}
        layers |= {str(index): Fire(*sizes) for index, sizes in SQUEEZENET_FIRES.items()}
        self.features = nn.ModuleDict(layers)
        self.load_state_dict({name: tensor for name, tensor in state.items() if name.startswith("features.")})
        self.requires_grad_(False)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(LPIPS_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(LPIPS_SCALE)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps after layers 1, 4, 7, 9, 10, 11 and 12; raises ValueError for images under 17 px."""
        if min(image.shape[2:]) < SQUEEZENET_SMALLEST:
            raise ValueError(f"images must be {SQUEEZENET_SMALLEST} px or more, got {tuple(image.shape[2:])}")
        x = F.relu(self.features["0"]((image - self.shift) / self.scale), inplace=True)
        maps = [x]
        for index in SQUEEZENET_FIRES:
            if index - 1 not in SQUEEZENET_FIRES:
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            x = self.features[str(index)](x)
            if index in SQUEEZENET_TAPS:
                maps.append(x)
        return maps


def lpips(network: SqueezeNetFeatures, heads: Weights, first: Tensor, second: Tensor) -> Tensor:
    """Return LPIPS (squeeze, v0.1) of each pair of images (B, 1 or 3, H, W) in [-1, 1]: (B,), 0 for equal images.

    `heads` are the linear weights `lin0.model.1.weight` (1, C, 1, 1) to `lin6`. Zhang et al. 2018, Eq. 1.
    """
    distance = torch.zeros(len(first), device=first.device)
    for index, (a, b) in enumerate(zip(network(first), network(second), strict=True)):
        difference = (_unit_length(a) - _unit_length(b)).square()
        distance = distance + F.conv2d(difference, heads[f"lin{index}.model.1.weight"].to(a)).mean((1, 2, 3))
    return distance


class LPIPS(nn.Module):
    """LPIPS with its two sets of weights: SqueezeNet's and the linear heads'."""

    name = "LPIPS (squeeze, v0.1)"

    def __init__(self, squeezenet: Weights, heads: Weights) -> None:
        super().__init__()
        self.network = SqueezeNetFeatures(squeezenet)
        self.heads = dict(heads)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance of each pair (B,), as `lpips`."""
        return lpips(self.network, self.heads, first, second)


def _unit_length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length + 1e-10)


# A branch is a sequence of convolutions; "average" pools before them and "max" instead of them.
Branch = tuple[str, ...]
INCEPTION_A: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch5x5_1", "branch5x5_2"),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
    ("average", "branch_pool"),
)
INCEPTION_B: tuple[Branch, ...] = (
    ("branch3x3",),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
    ("max",),
)
INCEPTION_C: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
    ("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
    ("average", "branch_pool"),
)
INCEPTION_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "max", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "max")
INCEPTION_BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), INCEPTION_A),
    "Mixed_6a": INCEPTION_B,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), INCEPTION_C),
}
INCEPTION_STRIDE_2 = {"Conv2d_1a_3x3", "Mixed_6a.branch3x3", "Mixed_6a.branch3x3dbl_3"}
INCEPTION_UNPADDED = INCEPTION_STRIDE_2 | {"Conv2d_2a_3x3", "Conv2d_4a_3x3"}
INCEPTION_SIDE = 299  # px


class InceptionFeatures(nn.Module):
    """FID's Inception-v3 up to Mixed_6e, pooled: 768 numbers per image ("FID-768 (Mixed_6e)", not the usual FID).

    Names are torchvision's; batch norm (eps 0.001) is folded into the convolutions. Raises KeyError naming a weight
    that is missing.
    """

    name = "FID-768 (Mixed_6e)"
    num_features = 768

    def __init__(self, state: Weights) -> None:
        super().__init__()
        blocks = [f"{block}.{conv}" for block, rows in INCEPTION_BLOCKS.items() for row in rows for conv in row]
        for name in (*INCEPTION_STEM, *blocks):
            if name.rsplit(".")[-1] not in {"max", "average"}:
                self.add_module(name.replace(".", "_"), _folded(state, name))
        self.requires_grad_(False)

    def stem(self, image: Tensor) -> Tensor:
        """Return the map (B, 192, 35, 35) before the first mixed block, of images (B, 3, 299, 299)."""
        return reduce(lambda x, name: self._layer(name, x), INCEPTION_STEM, image)

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 768) features of images of any size, resized to 299 x 299 (bilinear, no antialiasing)."""
        size = (INCEPTION_SIDE, INCEPTION_SIDE)
        x = self.stem(F.interpolate(image.expand(-1, 3, -1, -1), size, mode="bilinear", align_corners=False))
        for name, rows in INCEPTION_BLOCKS.items():
            x = self.block(name, rows, x)
        return x.mean((2, 3))

    def block(self, name: str, rows: tuple[Branch, ...], x: Tensor) -> Tensor:
        """Return the map after one mixed block: its branches side by side."""
        return torch.cat([reduce(lambda x, conv: self._layer(f"{name}.{conv}", x), row, x) for row in rows], dim=1)

    def _layer(self, name: str, x: Tensor) -> Tensor:
        if name.endswith("max"):
            return F.max_pool2d(x, 3, stride=2)
        if name.endswith("average"):
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return F.relu(self.get_submodule(name.replace(".", "_"))(x), inplace=True)


def _folded(state: Weights, name: str) -> nn.Conv2d:
    """Return a convolution and the batch norm that follows it as one convolution."""
    weight, mean, variance, gain, offset = (
        state[f"{name}.{part}"].float()
        for part in ("conv.weight", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias")
    )
    out_channels, in_channels, *kernel = weight.shape
    padding = (0, 0) if name in INCEPTION_UNPADDED else (kernel[0] // 2, kernel[1] // 2)
    stride = 2 if name in INCEPTION_STRIDE_2 else 1
    conv = nn.Conv2d(in_channels, out_channels, (kernel[0], kernel[1]), stride, padding)
    factor = gain * (variance + 0.001).rsqrt()
    conv.load_state_dict({"weight": weight * factor[:, None, None, None], "bias": offset - mean * factor})
    return conv
