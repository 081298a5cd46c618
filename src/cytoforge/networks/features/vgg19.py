"""VGG-19, the perceptual network of cGAN-Seg and tGAN."""

from collections.abc import Mapping

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
