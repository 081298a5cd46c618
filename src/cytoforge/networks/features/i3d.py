"""I3D, the inflated Inception-v1 for movies, as the Frechet video distance uses it.

Carreira and Zisserman 2017 (Quo vadis, action recognition?); Unterthiner et al. 2018 (Towards accurate generative
models of video: FVD).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weights = Mapping[str, Tensor]
Triple = tuple[int, int, int]

# The layers in order: a convolution with its stride, a maximum with its window and stride, or a mixed block (None).
LAYERS: dict[str, tuple[Triple, Triple] | int | None] = {
    "Conv3d_1a_7x7": 2,
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2b_1x1": 1,
    "Conv3d_2c_3x3": 1,
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": None,
    "Mixed_3c": None,
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4b": None,
    "Mixed_4c": None,
    "Mixed_4d": None,
    "Mixed_4e": None,
    "Mixed_4f": None,
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
    "Mixed_5b": None,
    "Mixed_5c": None,
}
BRANCHES = (("b0",), ("b1a", "b1b"), ("b2a", "b2b"), ("largest", "b3b"))  # of a mixed block, side by side
LAST = (2, 7, 7)  # window of the mean before the logits: frames, height, width, at 1/8, 1/32 and 1/32 of the size
SIDE = 224  # px
CLIP_FRAMES = 16  # of a clip, as is usual for FVD
FEWEST = 9  # frames of which the poolings leave two


class I3DFeatures(nn.Module):
    """I3D of RGB, trained on Kinetics: 400 numbers per clip, its logits averaged over time, as FVD is defined.

    `pooled` gives the 1024 numbers from which the logits follow linearly. Names of weights are those of the converted
    weights that are published (`Mixed_3b.b1a.conv3d.weight`); batch norm (eps 0.001) is folded into the convolutions.
    Windows are padded as TensorFlow does: the odd pixel goes behind. Raises KeyError naming a weight that is missing.
    """

    name = "FVD (I3D)"

    def __init__(self, state: Weights) -> None:
        super().__init__()
        for layer, how in LAYERS.items():
            if isinstance(how, int):
                self.add_module(layer, _folded(state, layer, how))
            elif how is None:
                for name in (f"{layer}.{conv}" for row in BRANCHES for conv in row if conv != "largest"):
                    self.add_module(name.replace(".", "_"), _folded(state, name, stride=1))
        weight, bias = state["logits.conv3d.weight"], state["logits.conv3d.bias"]
        self.logits = nn.Linear(weight.shape[1], len(weight))
        self.logits.load_state_dict({"weight": weight.flatten(1).float(), "bias": bias.float()})
        self.num_features = len(weight)
        self.requires_grad_(False)

    def forward(self, clip: Tensor) -> Tensor:
        """Return (B, 400), the mean logits of clips as `pooled` takes them."""
        logits: Tensor = self.logits(self.pooled(clip))
        return logits

    def pooled(self, clip: Tensor) -> Tensor:
        """Return (B, 1024) features of clips (B, 1 or 3, T, H, W) in [-1, 1], resized to 224 x 224 (bilinear).

        Raises ValueError for clips of fewer than 9 frames.
        """
        if clip.shape[2] < FEWEST:
            raise ValueError(f"clips must have {FEWEST} frames or more, got {tuple(clip.shape)}")
        frames = clip.expand(-1, 3, -1, -1, -1).transpose(1, 2)
        small = F.interpolate(frames.flatten(0, 1), (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = small.unflatten(0, frames.shape[:2]).transpose(1, 2)
        for layer, how in LAYERS.items():
            if isinstance(how, tuple):
                x = _maximum(x, *how)
            else:
                x = self._block(layer, x) if how is None else self._convolved(layer, x)
        return F.avg_pool3d(x, LAST, stride=1).mean((2, 3, 4))

    def _block(self, name: str, x: Tensor) -> Tensor:
        branches = []
        for row in BRANCHES:
            y = x
            for conv in row:
                y = _maximum(y, (3, 3, 3), (1, 1, 1)) if conv == "largest" else self._convolved(f"{name}.{conv}", y)
            branches.append(y)
        return torch.cat(branches, dim=1)

    def _convolved(self, name: str, x: Tensor) -> Tensor:
        conv = self.get_submodule(name.replace(".", "_"))
        assert isinstance(conv, nn.Conv3d)
        return F.relu(conv(_padded(x, conv.kernel_size, conv.stride)), inplace=True)


def _padded(x: Tensor, window: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad (B, C, T, H, W) with zeros, so that a window moved by `stride` gives size / stride values, rounded up."""
    sides: list[int] = []
    for size, width, step in zip(x.shape[2:], window, stride, strict=True):
        lacking = max((-(-size // step) - 1) * step + width - size, 0)
        sides = [lacking // 2, lacking - lacking // 2, *sides]  # F.pad begins with the last axis
    return F.pad(x, sides)


def _maximum(x: Tensor, window: Triple, stride: Triple) -> Tensor:
    """Return the maxima; zeros as padding do not change those of values that are not negative."""
    return F.max_pool3d(_padded(x, window, stride), window, stride)


def _folded(state: Weights, name: str, stride: int) -> nn.Conv3d:
    """Return a convolution and the batch norm that follows it as one convolution without padding."""
    weight, mean, variance, gain, offset = (
        state[f"{name}.{part}"].float()
        for part in ("conv3d.weight", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias")
    )
    conv = nn.Conv3d(weight.shape[1], len(weight), (weight.shape[2], weight.shape[3], weight.shape[4]), stride)
    factor = gain * (variance + 0.001).rsqrt()
    conv.load_state_dict({"weight": weight * factor[:, None, None, None, None], "bias": offset - mean * factor})
    return conv
