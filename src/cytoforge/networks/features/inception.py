"""Inception-v3 as the Frechet inception distance uses it (Szegedy et al. 2016; Heusel et al. 2017)."""

from collections.abc import Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Mapping[str, Tensor]

# A branch is a sequence of convolutions; a tuple in it are two side by side. "average" (padding not counted) and
# "largest" pool over 3 x 3 before a convolution; "max" halves the size instead of convolutions.
Step = str | tuple[str, str]
Branch = tuple[Step, ...]
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
INCEPTION_D: tuple[Branch, ...] = (
    ("branch3x3_1", "branch3x3_2"),
    ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"),
    ("max",),
)
INCEPTION_E: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
    ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
)
INCEPTION_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "max", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "max")
INCEPTION_BLOCKS: dict[str, tuple[Branch, ...]] = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), INCEPTION_A),
    "Mixed_6a": INCEPTION_B,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), INCEPTION_C),
}
INCEPTION_LAST_BLOCKS: dict[str, tuple[Branch, ...]] = {
    "Mixed_7a": INCEPTION_D,
    "Mixed_7b": (*INCEPTION_E, ("average", "branch_pool")),
    "Mixed_7c": (*INCEPTION_E, ("largest", "branch_pool")),
}
INCEPTION_STRIDE_2 = {
    "Conv2d_1a_3x3",
    "Mixed_6a.branch3x3",
    "Mixed_6a.branch3x3dbl_3",
    "Mixed_7a.branch3x3_2",
    "Mixed_7a.branch7x7x3_4",
}
INCEPTION_UNPADDED = INCEPTION_STRIDE_2 | {"Conv2d_2a_3x3", "Conv2d_4a_3x3"}
INCEPTION_SIDE = 299  # px
POOLS = {"max", "average", "largest"}


class InceptionFeatures(nn.Module):
    """FID's Inception-v3, pooled: the usual 2048 numbers per image, or 768 where the weights end at Mixed_6e.

    `name` tells which ("FID-2048 (Mixed_7c)", "FID-768 (Mixed_6e)"), `num_features` how many. Names of weights are
    torchvision's; batch norm (eps 0.001) is folded into the convolutions. In contrast to torchvision's network, average
    pooling does not count the padding, and Mixed_7c pools by the maximum. Raises KeyError naming a weight that is
    missing.
    """

    def __init__(self, state: Weights) -> None:
        super().__init__()
        whole = any(name.startswith("Mixed_7") for name in state)
        self.blocks = {**INCEPTION_BLOCKS, **(INCEPTION_LAST_BLOCKS if whole else {})}
        for name in (*INCEPTION_STEM, *(f"{block}.{conv}" for block in self.blocks for conv in convolutions(block))):
            if name not in POOLS:
                self.add_module(name.replace(".", "_"), _folded(state, name))
        last = next(reversed(self.blocks))
        self.num_features = sum(
            len(state[f"{last}.{conv}.conv.weight"])
            for row in self.blocks[last]
            for conv in ((row[-1],) if isinstance(row[-1], str) else row[-1])
        )
        self.name = f"FID-{self.num_features} ({last})"
        self.requires_grad_(False)

    def stem(self, image: Tensor) -> Tensor:
        """Return the map (B, 192, 35, 35) before the first mixed block, of images (B, 3, 299, 299)."""
        return reduce(lambda x, name: self._layer(name, x), INCEPTION_STEM, image)

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, num_features) of images (B, 1 or 3, H, W) in [-1, 1] of any size.

        They are resized to 299 x 299 (bilinear, no antialiasing).
        """
        size = (INCEPTION_SIDE, INCEPTION_SIDE)
        x = self.stem(F.interpolate(image.expand(-1, 3, -1, -1), size, mode="bilinear", align_corners=False))
        for name in self.blocks:
            x = self.block(name, x)
        return x.mean((2, 3))

    def block(self, name: str, x: Tensor) -> Tensor:
        """Return the map after one mixed block: its branches side by side."""
        return torch.cat([reduce(lambda x, step: self._step(name, step, x), row, x) for row in self.blocks[name]], 1)

    def _step(self, block: str, step: Step, x: Tensor) -> Tensor:
        if isinstance(step, tuple):
            return torch.cat([self._layer(f"{block}.{conv}", x) for conv in step], dim=1)
        return self._layer(f"{block}.{step}", x)

    def _layer(self, name: str, x: Tensor) -> Tensor:
        match name.rsplit(".")[-1]:
            case "max":
                return F.max_pool2d(x, 3, stride=2)
            case "largest":
                return F.max_pool2d(x, 3, stride=1, padding=1)
            case "average":
                return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return F.relu(self.get_submodule(name.replace(".", "_"))(x), inplace=True)


def convolutions(block: str) -> list[str]:
    """Return the names of the convolutions in a mixed block, such as branch1x1."""
    rows = (INCEPTION_BLOCKS | INCEPTION_LAST_BLOCKS)[block]
    steps = [conv for row in rows for step in row for conv in ((step,) if isinstance(step, str) else step)]
    return [step for step in steps if step not in POOLS]


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
