"""The networks: equal to the published ones in names, shapes and numbers, and usable at any size."""

import copy
import json
import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cytoforge.networks.layers import (
    LinearAttention,
    ModulatedConv,
    ScaledLinear,
    UNetEncoder,
    fold_norms,
    initialise,
    norm_layer,
    pad_to_multiple,
    unet_radius,
)
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.registry import NETWORKS, SEGMENTERS
from cytoforge.networks.segmentation import CellPose, DeepSea, UNet
from cytoforge.networks.style_unet import StyleUNet, StyleUp, UNetGenerator, draw_styles
from parity import GOLDEN, assert_equal_to_golden, filled, golden, golden_styles, published_shapes

KINDS: dict[str, Any] = {name: NETWORKS[name].load() for name in (*SEGMENTERS, "style-unet", "patchgan")}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(kind: Any, **sizes: Any) -> Any:
    network = kind(**sizes)
    initialise(network, seeded())
    return network


def apply(network: Any, image: Tensor) -> Tensor:
    """Any network on an image alone: the generator gets fixed styles and noise."""
    if not isinstance(network, StyleUNet):
        return network(image)
    noise = torch.rand((len(image), 1, *image.shape[2:]), generator=seeded(1))
    return network(image, draw_styles(len(image), network.depth, seeded(2)), noise)


@pytest.fixture(scope="module")
def generator() -> StyleUNet:
    """The published generator with golden weights."""
    return filled(StyleUNet)


class TestPublishedNetworks:
    """At the paper's sizes all equals the published code."""

    @pytest.mark.parametrize("name", ["style-unet", "unet", "cellpose", "deepsea", "patchgan-image", "patchgan-mask"])
    def test_names_and_shapes(self, name: str) -> None:
        with torch.device("meta"):
            network = KINDS[name.removesuffix("-image").removesuffix("-mask")]()
        assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == published_shapes(name)

    @pytest.mark.parametrize("name", SEGMENTERS)
    def test_segmenters(self, name: str) -> None:
        case = golden(f"cgan_seg_{name}")
        with torch.no_grad():
            assert_equal_to_golden(filled(KINDS[name])(case["image"]), case["output"])

    @pytest.mark.parametrize("domain", ["image", "mask"])
    def test_discriminator(self, domain: str) -> None:
        case, network = golden(f"cgan_disc_{domain}"), filled(PatchGAN)
        with torch.no_grad():
            assert_equal_to_golden(network.model[:3](case["input"]), case["after_attention"])
            assert_equal_to_golden(network(case["input"]), case["output"])

    def test_generator_with_its_gradients(self, generator: StyleUNet) -> None:
        case = golden("cgan_gen")
        styles, noise = golden_styles(case)
        with torch.no_grad():
            assert_equal_to_golden(generator.StyleNet(case["style_z"]), case["w"])
            assert_equal_to_golden(generator.encode(case["mask"])[1], case["bottleneck"])
        output = generator(case["mask"], styles, noise)
        assert_equal_to_golden(output.detach(), case["output"])
        generator.zero_grad()
        (output * case["grad_R"]).sum().backward()
        norms = json.loads((GOLDEN / "cgan_gen_gradnorms.json").read_text())
        found = {name: float(p.grad.norm()) for name, p in generator.named_parameters() if p.grad is not None}
        assert found.keys() == norms.keys()
        assert found == pytest.approx(norms, rel=1e-4)

    def test_generator_of_two_images(self, generator: StyleUNet) -> None:
        case = golden("cgan_gen_batch2")
        styles, noise = golden_styles(case)
        with torch.no_grad():
            assert_equal_to_golden(generator(case["mask"], styles, noise), case["output"])
            training = copy.deepcopy(generator).train()
            assert_equal_to_golden(training(case["mask"], styles, noise), case["output_train_mode"])
        statistics = training.get_submodule("e1.conv.bn1")
        assert_equal_to_golden(statistics.running_mean, case["e1_bn1_running_mean_after"])
        assert_equal_to_golden(statistics.running_var, case["e1_bn1_running_var_after"])

    def test_a_wrong_style_would_be_noticed(self, generator: StyleUNet) -> None:
        case = golden("cgan_gen")
        styles, noise = golden_styles(case)
        with torch.no_grad(), pytest.raises(AssertionError):
            assert_equal_to_golden(generator(case["mask"], styles.flip(1), noise), case["output"])


class TestAnySize:
    @pytest.mark.parametrize("norm", ["batch", "group"])
    @pytest.mark.parametrize("depth", [2, 3, 4])
    @pytest.mark.parametrize("name", SEGMENTERS)
    def test_segmenters_keep_the_size(self, name: str, depth: int, norm: str) -> None:
        network = built(KINDS[name], in_channels=3, classes=3, width=8, depth=depth, norm=norm).eval()
        with torch.no_grad():
            for height, width in [(1, 1), (33, 17), (16, 40)]:
                logits = network(torch.rand(2, 3, height, width))
                assert logits.shape == (2, 3, height, width)
                assert logits.isfinite().all()

    @pytest.mark.parametrize("norm", ["batch", "group"])
    @pytest.mark.parametrize("depth", [2, 4])
    def test_generator_keeps_the_size(self, depth: int, norm: str) -> None:
        network = built(StyleUNet, in_channels=1, out_channels=3, width=8, depth=depth, norm=norm).eval()
        with torch.no_grad():
            for height, width in [(1, 1), (33, 17), (16, 40)]:
                assert apply(network, torch.rand(2, 1, height, width)).shape == (2, 3, height, width)

    @pytest.mark.parametrize("heads", [0, 2])
    def test_discriminator_takes_any_size(self, heads: int) -> None:
        network = built(PatchGAN, in_channels=3, width=8, heads=heads, head_width=16, norm="group").eval()
        with torch.no_grad():
            assert network(torch.rand(2, 3, 1, 50)).shape == (2, 1, 1, 4)
            assert network(torch.rand(2, 3, 33, 24)).shape == (2, 1, 2, 1)

    def test_padding_repeats_the_edge_and_leaves_fitting_images_alone(self) -> None:
        image = torch.rand(1, 1, 5, 8)
        padded = pad_to_multiple(image, 4)
        assert torch.equal(padded[..., :5, :], image)
        assert torch.equal(padded[..., 5:, :], image[..., 4:, :].expand(1, 1, 3, 8))
        assert pad_to_multiple(padded, 4) is padded

    @pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 1), (8, 2), (12, 3), (64, 8), (256, 8)])
    def test_group_norm_has_four_channels_or_more_per_group(self, channels: int, groups: int) -> None:
        layer = norm_layer("group", channels)
        assert isinstance(layer, nn.GroupNorm)
        assert layer.num_groups == groups

    @pytest.mark.parametrize("name", KINDS)
    def test_impossible_sizes_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="got"):
            KINDS[name](width=0)
        with pytest.raises(ValueError, match="norm must be 'batch' or 'group', got 'layer'"):
            KINDS[name](norm="layer")


class TestTraining:
    @pytest.mark.parametrize("norm", ["batch", "group"])
    @pytest.mark.parametrize("name", KINDS)
    def test_every_parameter_learns(self, name: str, norm: str) -> None:
        network = built(KINDS[name], width=8, norm=norm)
        image = torch.rand(2, 1, 32, 48, requires_grad=True)
        (apply(network, image) * torch.randn(1, generator=seeded())).square().mean().backward()
        assert image.grad is not None
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    @pytest.mark.parametrize("name", KINDS)
    def test_half_precision_agrees_with_float32(self, name: str) -> None:
        network = built(KINDS[name], width=8).eval()
        image = torch.rand(2, 1, 32, 32, generator=seeded(3)).mul(2).sub(1).requires_grad_()
        with torch.no_grad():
            full = apply(network, image)
        with torch.autocast("cpu", torch.bfloat16):
            half = apply(network, image)
        half.float().square().mean().backward()
        half = half.detach()
        assert half.dtype == torch.bfloat16
        assert image.grad is not None
        assert image.grad.isfinite().all()
        assert float((half.float() - full).norm() / full.norm()) < 0.05

    def test_activations_of_the_discriminator(self) -> None:
        network = built(PatchGAN, width=8, heads=1, head_width=8).eval()
        image = torch.rand(1, 1, 64, 96)
        maps = network.activations(image)
        assert [tuple(m.shape[1:]) for m in maps] == [(8, 32, 48), (16, 16, 24), (32, 8, 12), (64, 7, 11)]
        assert torch.equal(network.model[-1](maps[-1]), network(image))


class TestReach:
    """receptive_radius is exact, and None where no number is enough."""

    @pytest.mark.parametrize("kind", [UNet, StyleUNet, partial(StyleUNet, upsampling="nearest")])
    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_reaches_as_far_as_it_says_and_no_farther(self, kind: Any, depth: int) -> None:
        """All weights positive: an impulse travels wherever the network can carry it."""
        network = kind(width=1, depth=depth).double().eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.5 if parameter.dim() > 1 else 0.0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        stride, radius = network.stride, network.receptive_radius
        middle = -(-(radius + 1) // stride) * stride
        side = 2 * middle + stride
        quiet, farthest = torch.ones(1, 1, side, side, dtype=torch.float64), 0

        def respond(image: Tensor) -> Tensor:
            if kind is UNet:
                return network(image)
            return network(image, torch.ones(1, depth, 128).double(), torch.zeros_like(image))

        with torch.no_grad():
            expected = respond(quiet)
            for place in range(middle, middle + stride):
                loud = quiet.clone()
                loud[..., place, place] = 1e9
                changed = ((respond(loud) / expected - 1).abs() > 1e-12).nonzero()[:, 2:]
                farthest = max(farthest, int((changed - place).abs().max()))
        assert farthest == radius

    def test_paper_size(self) -> None:
        assert unet_radius(4) == 107

    @pytest.mark.parametrize(
        "network",
        [
            pytest.param(built(UNet, width=8, depth=2, norm="group"), id="group norm"),
            pytest.param(built(CellPose, width=8, depth=2), id="cellpose"),
        ],
    )
    def test_without_a_radius_the_farthest_pixel_counts(self, network: Any) -> None:
        image = torch.rand(1, 1, 128, 128)
        loud = image.clone()
        loud[..., -1, -1] = 1000
        with torch.no_grad():
            assert not torch.equal(network.eval()(image)[..., 0, 0], network(loud)[..., 0, 0])
        assert network.receptive_radius is None

    def test_deepsea_depends_on_the_size_of_the_tile(self) -> None:
        network, image = built(DeepSea, width=8, depth=2).eval(), torch.rand(1, 1, 128, 128)
        with torch.no_grad():
            change = (network(image) - F.pad(network(image[..., :124]), (0, 4)))[..., :64, :64].abs().max()
        assert change > 1e-3
        assert network.receptive_radius is None

    @pytest.mark.parametrize(("offset", "same"), [((16, 24), True), ((16, 25), False)])
    def test_tiles_on_the_grid_agree_with_the_whole(self, offset: tuple[int, int], same: bool) -> None:
        network = built(UNet, width=8, depth=3).eval()
        y, x = offset
        image, radius = torch.rand(1, 1, 200, 184, generator=seeded()), network.receptive_radius
        with torch.no_grad():
            whole = network(image)[..., y + radius : y + 150 - radius, x + radius : x + 140 - radius]
            tile = network(image[..., y : y + 150, x : x + 140])[..., radius : 150 - radius, radius : 140 - radius]
        assert whole.numel() > 1000
        assert torch.allclose(whole, tile, rtol=1e-4, atol=1e-5 * float(whole.abs().max())) == same


def modulated_by_definition(x: Tensor, style: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One kernel per image, written out."""
    kernels = weight * (style[:, None, :, None, None] + 1)
    kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return torch.cat([F.conv2d(x[i : i + 1], kernels[i], bias, padding=1) for i in range(len(x))])


class TestBlocks:
    @pytest.mark.parametrize("side", [3, 40], ids=["scaled maps", "scaled kernels"])
    @pytest.mark.parametrize("count", [1, 3])
    def test_modulated_convolution(self, side: int, count: int) -> None:
        conv = ModulatedConv(5, 7).double()
        x = torch.randn(count, 5, side, side, generator=seeded()).double().requires_grad_()
        style, bias = torch.randn(count, 5).double().requires_grad_(), torch.randn(7).double().requires_grad_()
        fast, plain = conv(x, style, bias), modulated_by_definition(x, style, conv.weight, bias)
        torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-6)  # the style's gain is computed in float32
        pull = torch.randn(fast.shape, generator=seeded(1)).double()
        inputs = (x, style, bias, conv.weight)
        for found, expected in zip(
            torch.autograd.grad(fast, inputs, pull), torch.autograd.grad(plain, inputs, pull), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    def test_linear_attention(self) -> None:
        """Against queries, keys and values written out pixel by pixel."""
        layer = built(LinearAttention, channels=6, heads=2, head_width=4)
        x = torch.randn(2, 6, 5, 7, generator=seeded())
        depthwise, pointwise = layer.to_kv.net
        q, (k, v) = layer.to_q(x), pointwise(depthwise(x)).chunk(2, 1)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            queries, keys, values = (t[:, h].flatten(2) for t in (q, k, v))
            context = torch.einsum("bkn,bvn->bkv", keys.softmax(2), values)
            heads.append(torch.einsum("bkv,bkn->bvn", context, queries.softmax(1) * 4**-0.5))
        expected = layer.to_out(F.gelu(torch.cat(heads, 1)).view(2, 8, 5, 7))
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-6)

    def test_attention_over_very_many_pixels_in_half_precision(self) -> None:
        """With equal keys the context is the mean of the values, however many pixels share it."""
        layer = built(LinearAttention, channels=2, heads=1, head_width=2)
        x = torch.ones(1, 2, 300, 400)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            attended = layer(x)
        torch.testing.assert_close(attended[..., 150, 200].float(), layer(x)[..., 150, 200], rtol=0.02, atol=0.02)


class TestStylesAndNoise:
    @settings(max_examples=50)
    @given(count=st.integers(1, 6), layers=st.integers(2, 6), seed=st.integers(0, 2**31))
    def test_a_mixed_draw_has_two_styles_in_one_piece_each(self, count: int, layers: int, seed: int) -> None:
        styles = draw_styles(count, layers, seeded(seed), latent=4, mixing=1.0)
        assert styles.shape == (count, layers, 4)
        for item in styles:
            changes = [k for k in range(1, layers) if not torch.equal(item[k], item[k - 1])]
            assert len(changes) == 1

    def test_each_image_has_its_own_crossover(self) -> None:
        styles = draw_styles(200, 4, seeded(), latent=2, mixing=1.0)
        changed = (styles[:, 1:] != styles[:, :-1]).any(2)
        assert changed.sum(1).eq(1).all()
        assert (changed.sum(0) > 40).all()  # a third of 200 each, were there no chance

    def test_share_of_mixed_draws(self) -> None:
        def mixed(mixing: float) -> float:
            styles = draw_styles(1000, 3, seeded(), latent=2, mixing=mixing)
            return float((styles[:, 0] != styles[:, -1]).any(1).float().mean())

        assert mixed(0.0) == 0
        assert 0.87 < mixed(0.9) < 0.93
        assert mixed(1.0) == 1

    def test_one_layer_cannot_be_mixed(self) -> None:
        assert torch.equal(draw_styles(3, 1, seeded(), mixing=1.0), draw_styles(3, 1, seeded(), mixing=0.0))

    @pytest.mark.parametrize(("count", "layers", "mixing"), [(0, 4, 0.5), (1, 0, 0.5), (1, 4, 1.5)])
    def test_impossible_draws_are_refused(self, count: int, layers: int, mixing: float) -> None:
        with pytest.raises(ValueError, match="mixing in"):
            draw_styles(count, layers, seeded(), mixing=mixing)

    def test_blocks_take_their_own_style_and_ignore_the_rest(self) -> None:
        network = built(StyleUNet, width=8, depth=2).eval()
        image, noise, styles = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16), draw_styles(1, 3, seeded())
        with torch.no_grad():
            painted = network(image, styles, noise)
            assert torch.equal(network(image, styles[:, :2], noise), painted)
            for block in (0, 1):
                other = styles.clone()
                other[:, block] = torch.randn(128, generator=seeded(5))
                assert not torch.equal(network(image, other, noise), painted)

    @pytest.mark.parametrize(("upsampling", "even"), [("transposed", False), ("nearest", True)])
    def test_only_transposed_convolutions_paint_a_checkerboard(self, upsampling: str, even: bool) -> None:
        block = StyleUp(8, 128, upsampling)
        initialise(block, seeded())
        with torch.no_grad():
            out = block(
                torch.ones(1, 8, 8, 8), torch.ones(1, 4, 16, 16), torch.zeros(1, 128), torch.zeros(1, 1, 16, 16)
            )
        inside = out[..., 2:-2, 2:-2]  # zeros are beyond the edges
        assert torch.allclose(inside, inside[..., :1, :1], atol=1e-6) is even

    def test_another_upsampling_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'transposed' or 'nearest', got 'cubic'"):
            StyleUNet(width=8, depth=2, upsampling="cubic")

    def test_the_plain_generator_ignores_styles_and_noise(self) -> None:
        network = built(UNetGenerator, in_channels=3, out_channels=2, width=4, depth=2).eval()
        image = torch.rand(1, 3, 17, 20)
        with torch.no_grad():
            painted = network(image, draw_styles(1, 2, seeded()), torch.rand(1, 1, 17, 20))
            assert torch.equal(painted, network(image))
        assert painted.shape == (1, 2, 17, 20)

    def test_one_noise_map_is_cropped_for_coarser_blocks(self) -> None:
        network = built(StyleUNet, width=8, depth=3).eval()
        image, noise, styles = torch.rand(1, 1, 24, 40), torch.rand(1, 1, 24, 40), draw_styles(1, 3, seeded())
        assert network.noise_shapes(24, 40) == [(6, 10), (12, 20), (24, 40)]
        assert network.noise_shapes(23, 38) == [(6, 10), (12, 19), (23, 38)]
        maps = [noise[..., :h, :w] for h, w in network.noise_shapes(24, 40)]
        with torch.no_grad():
            painted = network(image, styles, noise)
            assert torch.equal(network(image, styles, maps), painted)
            for level in range(3):
                other = [m + 1 if k == level else m for k, m in enumerate(maps)]
                assert not torch.equal(network(image, styles, other), painted)

    @pytest.mark.parametrize(
        ("styles", "noise"),
        [
            (torch.zeros(1, 1, 128), torch.zeros(1, 1, 16, 16)),
            (torch.zeros(1, 128), torch.zeros(1, 1, 16, 16)),
            (torch.zeros(1, 2, 128), torch.zeros(1, 1, 16, 15)),
            (torch.zeros(1, 2, 128), torch.zeros(1, 16, 16, 1)),
            (torch.zeros(1, 2, 128), [torch.zeros(1, 1, 16, 16)]),
            (torch.zeros(1, 2, 128), [torch.zeros(1, 1, 7, 8), torch.zeros(1, 1, 16, 16)]),
        ],
        ids=["few styles", "flat styles", "small noise", "channels last", "one map", "small map"],
    )
    def test_too_little_of_either_is_refused(self, styles: Tensor, noise: Any) -> None:
        with pytest.raises(ValueError, match=r"must be .* got"):
            built(StyleUNet, width=8, depth=2)(torch.zeros(1, 1, 16, 16), styles, noise)


class TestInitialise:
    @pytest.mark.parametrize("name", KINDS)
    def test_depends_on_the_generator_alone(self, name: str) -> None:
        def draw(seed: int) -> Tensor:
            network = KINDS[name](width=8)
            before = torch.get_rng_state()
            initialise(network, seeded(seed))
            assert torch.equal(torch.get_rng_state(), before)
            return torch.cat([p.detach().flatten() for p in network.parameters()])

        assert torch.equal(draw(1), draw(1))
        assert not torch.equal(draw(1), draw(2))

    def test_distributions(self) -> None:
        network = StyleUNet(width=32, depth=3)
        for parameter in network.parameters():
            nn.init.constant_(parameter, 9.0)
        network.train()(torch.rand(2, 1, 16, 16), torch.randn(2, 3, 128), torch.rand(2, 1, 16, 16))
        initialise(network, seeded())
        spread = {name: float(p.detach().std()) for name, p in network.named_parameters() if p.numel() > 1}
        assert spread["b.conv2.weight"] == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)  # fan out, ReLU
        assert spread["d1.conv.conv1.weight"] == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)  # fan in
        assert spread["d1.conv.to_style1.weight"] == pytest.approx(math.sqrt(2 / (128 + 256)), rel=0.02)
        assert spread["StyleNet.net.0.weight"] == pytest.approx(1, rel=0.02)
        assert spread["d1.up.weight"] == pytest.approx(1 / math.sqrt(3 * 4 * 128), rel=0.02)  # uniform, fan in 4 * 128
        assert spread["d1.up.bias"] == pytest.approx(1 / math.sqrt(3 * 4 * 128), rel=0.2)
        zero = {name for name, p in network.named_parameters() if not p.any()}
        biases = {name for name, _ in network.named_parameters() if name.endswith("bias")}
        assert zero == {name for name in biases if ".up." not in name}
        for module in network.modules():
            assert not isinstance(module, ScaledLinear) or module.weight.shape == (128, 128)
            if isinstance(module, nn.BatchNorm2d):
                assert (module.weight == 1).all()
                assert not module.running_mean.any()
                assert module.num_batches_tracked == 0

    @pytest.mark.parametrize("name", ["unet", "style-unet", "patchgan"])
    def test_the_rule_of_torch_is_what_torch_draws_itself(self, name: str) -> None:
        """Layers drawn anew are spread as layers that were just made, and other modules as by the other rule."""
        torch.manual_seed(0)
        made, drawn, other = (KINDS[name](width=32) for _ in range(3))
        for network in (drawn, other):
            for parameter in network.parameters():
                nn.init.constant_(parameter, 9.0)
        initialise(drawn, seeded(), "torch")
        initialise(other, seeded())
        layers = 0
        for one, fresh, kaiming in zip(drawn.modules(), made.modules(), other.modules(), strict=True):
            like = fresh if isinstance(one, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) else kaiming
            for key, tensor in one.named_parameters(recurse=False):
                tensor, expected = tensor.detach(), like.get_parameter(key).detach()
                if tensor.numel() >= 1000:
                    assert float(tensor.std()) == pytest.approx(float(expected.std()), rel=0.1), type(one)
                    layers += like is fresh
                if like is kaiming and tensor.ndim == 1:
                    assert torch.equal(tensor, expected)
                if like is fresh and key == "bias" and tensor.numel() > 16:
                    assert float(tensor.abs().max()) == pytest.approx(float(expected.abs().max()), rel=0.4)
        assert layers > 3

    def test_there_is_no_third_rule(self) -> None:
        with pytest.raises(ValueError, match="start must be one of kaiming, torch, got 'zeros'"):
            initialise(nn.Linear(1, 1), seeded(), "zeros")  # type: ignore[arg-type]

    def test_norms_of_groups_and_channels_start_neutral(self) -> None:
        network = PatchGAN(width=8, heads=1, head_width=8, norm="group")
        for parameter in network.parameters():
            nn.init.constant_(parameter, 9.0)
        initialise(network, seeded())
        attention: Any = network.model[2]
        assert (attention.fn.norm.g == 1).all()
        assert not attention.fn.norm.b.any()
        assert all((m.weight == 1).all() and not m.bias.any() for m in network.modules() if isinstance(m, nn.GroupNorm))


def test_encoders_tell_their_depth_and_stride() -> None:
    network = UNetEncoder(1, 4, 3, "batch")
    assert (network.depth, network.stride) == (3, 8)
    skips, bottom = network.encode(torch.rand(1, 1, 16, 24))
    assert [tuple(skip.shape[1:]) for skip in skips] == [(4, 16, 24), (8, 8, 12), (16, 4, 6)]
    assert bottom.shape == (1, 32, 2, 3)


@pytest.mark.parametrize(("kind", "norm", "left"), [(UNet, "batch", 0), (UNet, "group", 0), (CellPose, "batch", 1)])
def test_folded_norms_leave_the_function_as_it_is(kind: Any, norm: str, left: int) -> None:
    network = built(kind, in_channels=2, classes=3, width=4, depth=2, norm=norm)
    with torch.no_grad():
        for step in range(3):  # statistics of its own
            network(torch.rand(2, 2, 32, 32, generator=seeded(step)) + step)
    network.eval()
    folded = copy.deepcopy(network)
    fold_norms(folded)
    assert any(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == bool(left)
    assert folded.state_dict().keys() <= network.state_dict().keys()
    image = torch.rand(1, 2, 19, 24, generator=seeded(1))
    torch.testing.assert_close(folded(image), network(image), rtol=1e-4, atol=1e-5)
