"""The straightforward cGAN-Seg training step: the yardstick of the speed of `cytoforge.training.recipes.cycle_gan`.

Everything is written in the plainest way that the method's description allows: one pass of every network where the
losses name one, plain modules, one plain Adam for each of the three updates, fp32. It shares no code with the package.
Its tensors are named as the package's (the published checkpoints' names), so that both can start from equal weights.

    python benchmarks/cyclegan_baseline.py --height 128 --width 192 --steps 3

prints CPU seconds, FLOPs and losses of a step at the paper's widths, one thread. Images (B, 1, H, W) in [-1, 1], masks
(B, 1, H, W) in {0, 1}.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

STYLE = 128
WIDTHS = (64, 128, 256, 512, 1024)
# torchvision's indices of the convolutions up to relu1_1, 2_1, 3_1, 4_1, 5_1; -1 is a max pool
VGG19_SLICES = ((0,), (2, -1, 5), (7, -1, 10), (12, 14, 16, -1, 19), (21, 23, 25, -1, 28))
VGG19_CHANNELS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 19: (256, 512)}
VGG19_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


class DoubleConv(nn.Module):
    """(B, in, H, W) -> (B, out, H, W): twice conv 3x3, batch norm, leaky ReLU 0.01."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.01)
        return F.leaky_relu(self.bn2(self.conv2(x)), 0.01)


class EncoderBlock(nn.Module):
    """(B, in, H, W) -> skip (B, out, H, W) and its 2x2 maximum."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.conv(x)
        return skip, F.max_pool2d(skip, 2)


def _encoder() -> tuple[EncoderBlock, ...]:
    return tuple(EncoderBlock(i, o) for i, o in zip((1, *WIDTHS), WIDTHS[:4], strict=False))


class DecoderBlock(nn.Module):
    """(B, in, H, W) and skip (B, out, 2H, 2W) -> (B, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv = DoubleConv(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return cast(Tensor, self.conv(torch.cat([self.up(x), skip], dim=1)))


class UNet(nn.Module):
    """Segmenter: image (B, 1, H, W) -> logits (B, 2, H, W), H and W multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.e1, self.e2, self.e3, self.e4 = _encoder()
        self.b = DoubleConv(WIDTHS[3], WIDTHS[4])
        self.d4, self.d3, self.d2, self.d1 = (DecoderBlock(2 * o, o) for o in WIDTHS[:4])
        self.outputs = nn.Conv2d(WIDTHS[0], 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        s1, x = self.e1(image)
        s2, x = self.e2(x)
        s3, x = self.e3(x)
        s4, x = self.e4(x)
        x = self.d2(self.d1(self.b(x), s4), s3)
        return cast(Tensor, self.outputs(self.d4(self.d3(x, s2), s1)))


class MappingLayer(nn.Linear):
    """Linear layer of the mapping network, weight and bias scaled by 0.1."""

    def __init__(self) -> None:
        super().__init__(STYLE, STYLE)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.1, self.bias * 0.1)


class StyleNet(nn.Module):
    """Latents z (B, 128) -> styles w (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (MappingLayer(), nn.LeakyReLU(0.2))]
        self.net = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        return cast(Tensor, self.net(F.normalize(latent, dim=1)))


class ModulatedConv(nn.Module):
    """Conv 3x3 whose weight is scaled by a style (B, in) and normalised for each item: a grouped convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, a=0, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        weight = self.weight[None] * (style[:, None, :, None, None] + 1)
        weight = weight * torch.rsqrt((weight**2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, batch * channels, height, width)
        x = F.conv2d(x, weight.reshape(-1, channels, 3, 3), padding=1, groups=batch)
        return x.reshape(batch, -1, height, width)


class StyleDoubleConv(nn.Module):
    """Twice modulated conv, noise, leaky ReLU 0.2; styles w (B, 128), noise (B, H', W', 1) cropped to the top left."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.to_style1 = nn.Linear(STYLE, in_channels)
        self.to_noise1 = nn.Linear(1, out_channels)
        self.conv1 = ModulatedConv(in_channels, out_channels)
        self.to_style2 = nn.Linear(STYLE, out_channels)
        self.to_noise2 = nn.Linear(1, out_channels)
        self.conv2 = ModulatedConv(out_channels, out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        noise = noise[:, : x.shape[2], : x.shape[3]]
        noise1 = self.to_noise1(noise).permute(0, 3, 1, 2)
        noise2 = self.to_noise2(noise).permute(0, 3, 1, 2)
        x = F.leaky_relu(self.conv1(x, self.to_style1(style)) + noise1, 0.2)
        return F.leaky_relu(self.conv2(x, self.to_style2(style)) + noise2, 0.2)


class StyleDecoderBlock(nn.Module):
    """(B, in, H, W) and skip (B, out, 2H, 2W) -> (B, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv = StyleDoubleConv(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        return cast(Tensor, self.conv(torch.cat([self.up(x), skip], dim=1), style, noise))


class StyleUNet(nn.Module):
    """Generator: mask (B, 1, H, W), latents (B, L >= 4, 128), noise (B, 1, H, W) -> image (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.StyleNet = StyleNet()
        self.e1, self.e2, self.e3, self.e4 = _encoder()
        self.b = DoubleConv(WIDTHS[3], WIDTHS[4])
        self.d4, self.d3, self.d2, self.d1 = (StyleDecoderBlock(2 * o, o) for o in WIDTHS[:4])
        self.outputs = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, mask: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
        styles = [self.StyleNet(latent) for latent in latents.unbind(1)]
        noise = noise.permute(0, 2, 3, 1)
        s1, x = self.e1(mask)
        s2, x = self.e2(x)
        s3, x = self.e3(x)
        s4, x = self.e4(x)
        x = self.d1(self.b(x), s4, styles[0], noise)
        x = self.d2(x, s3, styles[1], noise)
        x = self.d3(x, s2, styles[2], noise)
        return cast(Tensor, self.outputs(self.d4(x, s1, styles[3], noise)))


class DepthwiseSeparable(nn.Module):
    """Depthwise conv 3x3, then conv 1x1, no biases."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net(x))


class LinearAttention(nn.Module):
    """Attention over all pixels of (B, C, H, W), linear in their number: 8 heads of 64 channels."""

    def __init__(self, channels: int, heads: int = 8, head_width: int = 64) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_width**-0.5
        self.to_q = nn.Conv2d(channels, heads * head_width, 1, bias=False)
        self.to_kv = DepthwiseSeparable(channels, 2 * heads * head_width)
        self.to_out = nn.Conv2d(heads * head_width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        q, k, v = (
            t.reshape(batch, self.heads, -1, height * width).transpose(2, 3)
            for t in (self.to_q(x), *self.to_kv(x).chunk(2, dim=1))
        )
        context = k.softmax(dim=2).transpose(2, 3) @ v
        out = (q.softmax(dim=3) * self.scale) @ context
        return cast(Tensor, self.to_out(F.gelu(out.transpose(2, 3).reshape(batch, -1, height, width))))


class ChannelNorm(nn.Module):
    """Each pixel's channels to mean 0 and standard deviation 1, then a gain and a bias for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.g + self.b


class PreNorm(nn.Module):
    """Channel norm before a module."""

    def __init__(self, channels: int, module: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = ChannelNorm(channels), module

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fn(self.norm(x)))


class Residual(nn.Module):
    """A module's output plus its input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.fn = module

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fn(x) + x)


class PatchGAN(nn.Module):
    """Discriminator: (B, 1, H, W) -> realness (B, 1, H/8 - 2, W/8 - 2)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers.append(Residual(PreNorm(64, LinearAttention(64))))
        for in_channels, out_channels, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
            layers.append(nn.Conv2d(in_channels, out_channels, 4, stride, 1, bias=False))
            layers += [nn.BatchNorm2d(out_channels), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x))


class VGG19(nn.Module):
    """VGG-19 (B, 3, H, W) -> relu1_1, relu2_1, relu3_1, relu4_1, relu5_1; its weights get no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        channels = 3
        for index in (i for i in chain(*VGG19_SLICES) if i >= 0):
            channels, out_channels = VGG19_CHANNELS.get(index, (channels, channels))
            self.features[str(index)] = nn.Conv2d(channels, out_channels, 3, padding=1)
            channels = out_channels
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for slice_ in VGG19_SLICES:
            for index in slice_:
                x = F.max_pool2d(x, 2) if index < 0 else F.relu(self.features[str(index)](x))
            outputs.append(x)
        return outputs


@dataclass
class Baseline:
    """The five networks of a step and the three optimisers."""

    generator: StyleUNet
    segmenter: UNet
    image_discriminator: PatchGAN
    mask_discriminator: PatchGAN
    features: VGG19
    optimisers: tuple[torch.optim.Adam, torch.optim.Adam, torch.optim.Adam]

    @classmethod
    def build(cls, weights: Mapping[str, Mapping[str, Tensor]] | None = None) -> Baseline:
        """Build the networks at the paper's widths; `weights` maps this class's network names to state dicts."""
        networks = (StyleUNet(), UNet(), PatchGAN(), PatchGAN(), VGG19())
        names = ("generator", "segmenter", "image_discriminator", "mask_discriminator", "features")
        for name, network in zip(names, networks, strict=True):
            if weights is not None:
                network.load_state_dict(weights[name], strict=True)
        generator, segmenter, image_discriminator, mask_discriminator, features = networks
        optimisers = (
            _adam(chain(generator.parameters(), segmenter.parameters())),
            _adam(image_discriminator.parameters()),
            _adam(mask_discriminator.parameters()),
        )
        return cls(generator, segmenter, image_discriminator, mask_discriminator, features, optimisers)


@dataclass(frozen=True)
class Draws:
    """A step's random numbers: latents (B, L, 128) and noise (B, 1, H, W) of the two passes of the generator."""

    forward_latents: Tensor
    forward_noise: Tensor
    backward_latents: Tensor
    backward_noise: Tensor

    @classmethod
    def random(cls, shape: torch.Size, generator: torch.Generator) -> Draws:
        """Draws for images of `shape` (B, 1, H, W)."""
        latents = [torch.randn(shape[0], layers, STYLE, generator=generator) for layers in (5, 4)]
        noise = [torch.rand(shape, generator=generator) for _ in range(2)]
        return cls(latents[0], noise[0], latents[1], noise[1])


def _adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.999))


def _keep(x: Tensor) -> Tensor:
    return x


def _adversarial(prediction: Tensor, target: float) -> Tensor:
    return F.mse_loss(prediction, torch.full_like(prediction, target))


def _segmentation(logits: Tensor, mask: Tensor) -> Tensor:
    probability = logits.softmax(dim=1)[:, 1]
    truth = mask[:, 0]
    overlap = 2 * (probability * truth).sum() + 1e-6
    return F.cross_entropy(logits, truth.long()) + 1 - overlap / (probability.sum() + truth.sum() + 1e-6)


def _perceptual(features: VGG19, image: Tensor, target: Tensor) -> Tensor:
    terms = zip(VGG19_WEIGHTS, features(image.repeat(1, 3, 1, 1)), features(target.repeat(1, 3, 1, 1)), strict=True)
    return torch.stack([weight * F.l1_loss(x, y.detach()) for weight, x, y in terms]).sum()


def baseline_step(
    baseline: Baseline, image: Tensor, mask: Tensor, draws: Draws, augment: Callable[[Tensor], Tensor] = _keep
) -> dict[str, float]:
    """One batch: update generator and segmenter, then the image and the mask discriminator.

    `augment` is the differentiable augmentation before the image discriminator. Returns the unweighted losses.
    """
    generator, segmenter = baseline.generator, baseline.segmenter
    d1, d2 = baseline.image_discriminator, baseline.mask_discriminator
    first, second, third = baseline.optimisers

    d1.requires_grad_(False)
    d2.requires_grad_(False)
    fake_image = generator(mask, draws.forward_latents, draws.forward_noise)
    recovered_logits = segmenter(fake_image)
    fake_logits = segmenter(image)
    fake_mask = fake_logits.softmax(dim=1).argmax(dim=1, keepdim=True).float()
    recovered_image = generator(fake_mask, draws.backward_latents, draws.backward_noise)
    losses = {
        "adversarial_image": _adversarial(d1(augment(fake_image)), 1.0),
        "adversarial_mask": _adversarial(d2(fake_mask), 1.0),
        "segmentation_recovered": _segmentation(recovered_logits, mask),
        "segmentation_real": _segmentation(fake_logits, mask),
        "l1_recovered": F.l1_loss(recovered_image, image),
        "perceptual_recovered": _perceptual(baseline.features, recovered_image, image),
        "l1_fake": F.l1_loss(fake_image, image),
        "perceptual_fake": _perceptual(baseline.features, fake_image, image),
    }
    weights = (1, 1, 100, 50, 50, 100, 25, 50)
    _update(first, torch.stack([w * loss for w, loss in zip(weights, losses.values(), strict=True)]).sum())

    d1.requires_grad_(True)
    d2.requires_grad_(True)
    real, fake = d1(augment(image)), d1(augment(fake_image.detach()))
    losses["discriminator_image"] = 0.5 * (_adversarial(real, 1.0) + _adversarial(fake, 0.0))
    _update(second, losses["discriminator_image"])
    losses["discriminator_mask"] = 0.5 * (_adversarial(d2(mask), 1.0) + _adversarial(d2(fake_mask), 0.0))
    _update(third, losses["discriminator_mask"])
    return {name: loss.item() for name, loss in losses.items()}


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def random_batch(batch: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random image and a random mask of square cells of 16 px, (batch, 1, height, width)."""
    image = 2 * torch.rand(batch, 1, height, width, generator=generator) - 1
    cells = (torch.rand(batch, 1, height // 16, width // 16, generator=generator) > 0.5).float()
    return image, cells.repeat_interleave(16, 2).repeat_interleave(16, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 1), ("height", 128), ("width", 192), ("steps", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    baseline = Baseline.build()
    image, mask = random_batch(arguments.batch, arguments.height, arguments.width, generator)
    with FlopCounterMode(display=False) as counter:  # also the warm-up
        baseline_step(baseline, image, mask, Draws.random(image.shape, generator))
    seconds = []
    for _ in range(arguments.steps):
        start = time.process_time()
        losses = baseline_step(baseline, image, mask, Draws.random(image.shape, generator))
        seconds.append(round(time.process_time() - start, 3))
    print(
        json.dumps({"cpu_seconds": seconds, "teraflop": counter.get_total_flops() / 1e12, "losses": losses}, indent=1)
    )


if __name__ == "__main__":
    main()
