"""StyleUNET: the generator that paints an image on a mask, in a style and with noise (cGAN-Seg, Figure 1A)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cytoforge.networks.layers import (
    Norm,
    StyleDoubleConv,
    StyleMapping,
    UNetEncoder,
    Upsampling,
    pad_to,
    pad_to_multiple,
    unet_radius,
)
from cytoforge.networks.segmentation import UNet


def draw_styles(count: int, layers: int, generator: torch.Generator, latent: int = 128, mixing: float = 0.9) -> Tensor:
    """Draw latents z ~ N(0, 1) for `count` images: (count, layers, latent), entry k for decoder block k.

    With probability `mixing` an image has two styles, one up to a random layer and the other after it; the layer is
    drawn per image and leaves at least one layer to each style. Raises ValueError for values out of range.
    """
    if count < 1 or layers < 1 or not 0 <= mixing <= 1:
        raise ValueError(f"need count, layers >= 1 and mixing in [0, 1], got {count}, {layers} and {mixing}")
    device = generator.device
    first, second = torch.randn(2, count, 1, latent, generator=generator, device=device)
    mixed = torch.rand(count, generator=generator, device=device) < mixing
    crossover = torch.randint(1, max(layers, 2), (count,), generator=generator, device=device)
    later = torch.arange(layers, device=device) >= crossover[:, None]
    return torch.where((mixed[:, None] & later)[..., None], second, first)


class StyleUp(nn.Module):
    """Decoder block: upsampling, concatenation with the encoder's map, style double convolution.

    `transposed` convolutions, as in cGAN-Seg, have separate weights for each pixel of a 2 x 2 block and so tend to
    paint checkerboards. `nearest` halves the channels and then repeats pixels, which avoids them (Odena et al. 2016,
    Deconvolution and checkerboard artifacts); the receptive field is the same. Raises ValueError for any other name.
    """

    def __init__(
        self, channels: int, latent: int, upsampling: Upsampling = "transposed", *, with_skip: bool = True
    ) -> None:
        """`channels` come in, half of them go out; `with_skip` says whether the encoder has a map of this size."""
        super().__init__()
        if upsampling == "transposed":
            self.up: nn.Module = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        elif upsampling == "nearest":
            self.up = nn.Sequential(nn.Conv2d(channels, channels // 2, 1), nn.Upsample(scale_factor=2))
        else:
            raise ValueError(f"upsampling must be 'transposed' or 'nearest', got {upsampling!r}")
        self.conv = StyleDoubleConv(channels if with_skip else channels // 2, channels // 2, latent)

    def forward(self, x: Tensor, skip: Tensor | None, style: Tensor, noise: Tensor) -> Tensor:
        """Return (B, channels / 2, 2 h, 2 w) of x (B, channels, h, w), skip and noise of the new size, and style."""
        x = self.up(x)
        out: Tensor = self.conv(x if skip is None else torch.cat([x, skip], dim=1), style, noise)
        return out


class StyleGenerator(UNetEncoder):
    """What generators with styles have in common: an encoder, and a decoder whose blocks take style and noise.

    `depth` poolings; `blocks` decoder blocks, with `upsampling` as in StyleUp: one for each pooling, then one for each
    doubling of the input's size up to `factor` times, which has no skip. Level k has width * 2**k channels, down to
    width / factor at the end. Raises ValueError unless the factor is a power of two that leaves channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        depth: int,
        latent: int,
        norm: Norm,
        upsampling: Upsampling,
        factor: int = 1,
    ) -> None:
        super().__init__(in_channels, width, depth, norm)
        if factor < 1 or factor & (factor - 1) or width % factor:
            raise ValueError(f"factor must be a power of two that divides the width of {width}, got {factor}")
        beyond = factor.bit_length() - 1
        if self.receptive_radius is not None:
            self.receptive_radius = unet_radius(depth, beyond)
        self.latent, self.factor, self.blocks = latent, factor, depth + beyond
        self.StyleNet = StyleMapping(latent)
        for block in range(self.blocks):
            channels = (width << depth) >> block
            self.add_module(f"d{block + 1}", StyleUp(channels, latent, upsampling, with_skip=block < depth))
        self.outputs = nn.Conv2d(width // factor, out_channels, 1)

    def decode(
        self,
        skips: Sequence[Tensor],
        x: Tensor,
        styles: Tensor,
        noise: Tensor | Sequence[Tensor],
        height: int,
        width: int,
    ) -> Tensor:
        """Return images (B, out, height, width) of the maps of all levels, finest first, and of the bottleneck x.

        `styles` (B, L, latent) are latents z before the mapping network; decoder block k takes entry k, entries from
        `blocks` on are ignored. `noise` (B, 1, height, width) is used at full size by the last block and cropped to
        the top left corner for coarser ones; or a sequence of one map per block, coarsest first, each at least as
        large as its level (`noise_shapes`). Raises ValueError when styles or noise are too few or too small.
        """
        if styles.dim() != 3 or styles.shape[1] < self.blocks:
            raise ValueError(f"styles must be (B, L >= {self.blocks}, latent), got {tuple(styles.shape)}")
        w = self.StyleNet(styles[:, : self.blocks])
        maps = self._noise_maps(noise, height, width)
        for block in range(self.blocks):
            rows, columns = 2 * x.shape[2], 2 * x.shape[3]
            level = pad_to(maps[block], rows, columns)[..., :rows, :columns]
            skip = skips[self.depth - 1 - block] if block < self.depth else None
            x = self.get_submodule(f"d{block + 1}")(x, skip, w[:, block], level)
        out: Tensor = self.outputs(x)
        return out[..., :height, :width]

    def noise_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the least (h, w) of the noise maps of all decoder blocks, coarsest first, for an H x W output."""
        factors = [2**level for level in reversed(range(self.blocks))]
        return [(-(-height // factor), -(-width // factor)) for factor in factors]

    def _noise_maps(self, noise: Tensor | Sequence[Tensor], height: int, width: int) -> Sequence[Tensor]:
        shapes = self.noise_shapes(height, width)
        if isinstance(noise, Tensor):
            # a single map has the size of the finest level; coarser levels use its top left corner
            noise, shapes = [noise] * self.blocks, shapes[-1:] * self.blocks
        fits = (
            n.shape[1] == 1 and n.shape[2] >= h and n.shape[3] >= w for n, (h, w) in zip(noise, shapes, strict=False)
        )
        if len(noise) != self.blocks or not all(fits):
            given = [tuple(n.shape) for n in noise]
            raise ValueError(f"noise must be (B, 1, h, w) with h, w of at least {shapes}, got {given}")
        return noise


class StyleUNet(StyleGenerator):
    """U-shaped generator whose decoder blocks take a style each and a common noise map; no output activation.

    `depth` poolings and as many decoder blocks, with `upsampling` as in StyleUp; width * 2**depth channels at the
    bottleneck. `residual`: the last `out_channels` of the condition are a background to which the decoder's output is
    added; else that is the whole image, as in the paper.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        depth: int = 4,
        latent: int = 128,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
        residual: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth, latent, norm, upsampling)
        self.residual = residual

    def forward(self, condition: Tensor, styles: Tensor, noise: Tensor | Sequence[Tensor]) -> Tensor:
        """Paint images (B, out, H, W), about [-1, 1] but not bounded, on a condition (B, in, H, W) of any size.

        Styles and noise as in `decode`.
        """
        skips, x = self.encode(pad_to_multiple(condition, self.stride))
        painted = self.decode(skips, x, styles, noise, *condition.shape[2:])
        return painted + condition[:, -painted.shape[1] :] if self.residual else painted


class UNetGenerator(UNet):
    """U-Net that paints: the generator without styles and noise of cGAN-Seg, Figure 3."""

    latent = 128  # so that the same styles can be handed to either generator
    residual = False

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, width: int = 64, depth: int = 4, norm: Norm = "batch"
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth, norm)

    def forward(
        self, condition: Tensor, styles: Tensor | None = None, noise: Tensor | Sequence[Tensor] | None = None
    ) -> Tensor:
        """Paint images (B, out, H, W) on a condition (B, in, H, W), whatever the styles and the noise."""
        return super().forward(condition)


ImageGenerator = StyleUNet | UNetGenerator
