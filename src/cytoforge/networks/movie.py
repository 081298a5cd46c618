"""The generators of tGAN: low-resolution movies from masks (Figures 1B and S2), then frames enlarged (1C and S3).

The discriminators are PatchGANs: of `discriminator_input` for movies, of single frames for enlarged ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cytoforge.networks.layers import Norm, UNetEncoder, Upsampling, pad_to_multiple
from cytoforge.networks.style_unet import StyleGenerator

BRIGHTEST = 0.98  # largest absolute value of a background in a residual sum, so that tanh has a gradient there
SATURATED = 3.0  # beyond it the gradient of tanh is kept constant, so that a generator can recover from black or white


class SourceAttention(nn.Module):
    """Weighted mean of the maps of several sources; the weights of each pixel are computed from all maps there."""

    def __init__(self, channels: int, sources: int = 3) -> None:
        super().__init__()
        hidden = max(channels // 8, 1)
        self.attention = nn.Sequential(
            nn.Conv2d(sources * channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, sources, 1, bias=False),
            nn.Softmax(dim=1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return (B, channels, H, W) of as many maps (B, channels, H, W) as there are sources."""
        weights = self.attention(torch.cat(list(maps), dim=1)).to(maps[0].dtype)
        mean: Tensor = (torch.stack(list(maps), dim=1) * weights[:, :, None]).sum(dim=1)
        return mean


class MovieGenerator(StyleGenerator):
    """Paint the next frame of a movie on its masks, given the previous frame and a background image.

    Masks, previous frame and background have one encoder each. Their maps are fused by attention at the bottleneck and
    at all levels except the finest, which uses only the masks' map. The decoder takes styles and noise as that of
    StyleUNet does.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        width: int = 64,
        depth: int = 4,
        latent: int = 128,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
        residual: bool = False,
    ) -> None:
        """`in_channels` are those of the window of masks: the frames in it times the channels of each.

        With `residual` the decoder's output is added to the background before tanh; otherwise it is the whole frame,
        as in the paper.
        """
        super().__init__(in_channels, out_channels, width, depth, latent, norm, upsampling)
        self.residual = residual
        self.previous = UNetEncoder(out_channels, width, depth, norm)
        self.background = UNetEncoder(out_channels, width, depth, norm)
        for block in range(depth):
            self.add_module(f"attention{block + 1}", SourceAttention(width << (depth - block)))

    def forward(
        self,
        masks: Tensor,
        previous: Tensor,
        background: Tensor,
        styles: Tensor,
        noise: Tensor | Sequence[Tensor],
    ) -> Tensor:
        """Paint frames (B, out, H, W) within [-1, 1], for any size.

        `masks` (B, in, H, W) are those of the last frames, oldest first and the frame to paint last; `previous` and
        `background` (B, out, H, W) are in [-1, 1]. Styles and noise as in `decode`. Raises ValueError when these
        are too few or too small, or the sizes differ.
        """
        given = (masks, previous, background)
        if len({tuple(source.shape[2:]) for source in given}) > 1:
            sizes = ", ".join(f"{source.shape[2]} x {source.shape[3]}" for source in given)
            raise ValueError(f"masks, previous frame and background must have one size, got {sizes}")
        encoders: tuple[UNetEncoder, ...] = (self, self.previous, self.background)
        encoded = [
            encoder.encode(pad_to_multiple(source, self.stride))
            for encoder, source in zip(encoders, given, strict=True)
        ]
        levels = zip(*(skips for skips, _ in encoded), strict=True)
        finest = next(levels)[0]
        coarser = [
            self.get_submodule(f"attention{self.depth + 1 - level}")(maps) for level, maps in enumerate(levels, start=1)
        ]
        bottleneck = self.get_submodule("attention1")([bottom for _, bottom in encoded])
        painted = self.decode([finest, *coarser], bottleneck, styles, noise, *masks.shape[2:])
        return _on_ground(painted, background) if self.residual else painted.tanh()


class SuperResolution(StyleGenerator):
    """Enlarge images by a power of two: a StyleUNet with one more decoder block, without a skip, for each doubling."""

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        depth: int = 4,
        latent: int = 128,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
        factor: int = 2,
        residual: bool = False,
    ) -> None:
        """With `residual` the decoder's output is added to the interpolated image before tanh.

        Otherwise it is the whole image. Raises ValueError for a factor that is not a power of two of 2 or more, or
        that does not divide `width`.
        """
        if factor == 1:
            raise ValueError("an image is enlarged by a factor of 2 or more, got 1")
        super().__init__(in_channels, out_channels, width, depth, latent, norm, upsampling, factor)
        self.residual = residual

    def forward(self, image: Tensor, styles: Tensor, noise: Tensor | Sequence[Tensor]) -> Tensor:
        """Return images (B, out, factor * H, factor * W) within [-1, 1] of images (B, in, H, W) in [-1, 1].

        Styles and noise as in `decode`, noise at the size of the result.
        """
        skips, x = self.encode(pad_to_multiple(image, self.stride))
        height, width = (self.factor * side for side in image.shape[2:])
        enlarged = self.decode(skips, x, styles, noise, height, width)
        if not self.residual:
            return enlarged.tanh()
        return _on_ground(enlarged, F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False))


def _on_ground(added: Tensor, ground: Tensor) -> Tensor:
    """Add a decoder's output to a background in [-1, 1] before tanh, and return images within [-1, 1].

    Beyond +-SATURATED the value and the gradient of tanh stay as they are at this limit.
    """
    total = added + ground.clamp(-BRIGHTEST, BRIGHTEST).atanh()
    return (total + (total.clamp(-SATURATED, SATURATED) - total).detach()).tanh()


def discriminator_input(masks: Tensor, frames: Tensor) -> Tensor:
    """Put the last n frames (B, n, C, H, W) behind their masks (B, n, K, H, W) as channels: (B, n K + n C, H, W).

    The movie discriminator thus sees successive frames and the places of their cells. Raises ValueError unless there
    are as many masks as frames.
    """
    if masks.shape[:2] != frames.shape[:2]:
        raise ValueError(f"each frame goes with its mask, got {tuple(masks.shape)} masks and {tuple(frames.shape)}")
    return torch.cat([masks.flatten(1, 2), frames.flatten(1, 2)], dim=1)


def shrink(images: Tensor, factor: int) -> Tensor:
    """Reduce images (B, C, H, W) to (B, C, H / factor, W / factor), by the kernel of `data.images.resize_image`."""
    return F.interpolate(images, scale_factor=1 / factor, mode="bilinear", antialias=True)
