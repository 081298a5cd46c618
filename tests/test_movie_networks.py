"""The networks of tGAN: equal to the published ones in numbers, usable at any size, and a warp that is one."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cytoforge.commands.import_checkpoint import own_names
from cytoforge.networks import registry
from cytoforge.networks.flow import FlowNet, warp
from cytoforge.networks.layers import initialise, unet_radius
from cytoforge.networks.movie import MovieGenerator, SourceAttention, SuperResolution, discriminator_input
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.style_unet import draw_styles
from parity import GOLDEN, assert_equal_to_golden, filled_state, golden, golden_styles, published_shapes

PUBLISHED: dict[str, Callable[[], nn.Module]] = {
    "movie": MovieGenerator,
    "super-resolution": SuperResolution,
    "flow": FlowNet,
    "patchgan-movie": partial(PatchGAN, in_channels=4, dropout=0.3),
    "patchgan-super-resolution": partial(PatchGAN, dropout=0.3),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(kind: Any, **sizes: Any) -> Any:
    network = kind(**sizes)
    initialise(network, seeded())
    return network


def own_state(name: str) -> dict[str, Tensor]:
    """The golden weights of a published checkpoint under our names."""
    state = {key.removeprefix("module."): tensor for key, tensor in filled_state(published_shapes(name)).items()}
    return own_names(name.split("-")[0] if name.startswith("patchgan") else name, state)


def published(name: str) -> Any:
    """A published network with golden weights; it loads strictly, so names and shapes are equal."""
    with torch.device("meta"):
        network = PUBLISHED[name]()
    network.load_state_dict(own_state(name), assign=True)
    return network.eval()


def listen(network: nn.Module, part: str) -> list[Tensor]:
    """A list that will hold the outputs of a part of a network."""
    heard: list[Tensor] = []
    network.get_submodule(part).register_forward_hook(lambda module, given, out: heard.append(out.detach()))
    return heard


def above_the_kink(module: nn.Module, given: Any, out: Tensor) -> Tensor:
    """Two values of the golden case are 1e-7 from the kink of an activation; the published run rounded them upwards."""
    on_it = out.detach().abs() < 1e-6
    assert on_it.sum() == 1
    return out + (1e-6 - out.detach()) * on_it


def arguments(network: Any, height: int, width: int, count: int = 1) -> list[Tensor]:
    """All that a movie generator or super-resolution takes, for an output of height x width and count items."""
    noise = torch.rand(count, 1, height, width, generator=seeded(1))
    styles = draw_styles(count, network.blocks, seeded(2), network.latent)
    if isinstance(network, SuperResolution):
        side = height // network.factor, width // network.factor
        return [torch.rand(count, 1, *side, generator=seeded(3)) * 2 - 1, styles, noise]
    sources = torch.rand(count, 4, height, width, generator=seeded(3)) * 2 - 1
    return [(sources[:, :2] > 0).float(), sources[:, 2:3], sources[:, 3:], styles, noise]


class TestPublishedNetworks:
    def test_movie_generator_with_its_gradients(self) -> None:
        case, network = golden("tgan_lowres_gen"), published("movie")
        styles, noise = golden_styles(case)
        raw, weights = listen(network, "outputs"), listen(network, "attention4.attention")
        for part in ("background.e2.conv.bn1", "background.e2.conv.bn2"):
            network.get_submodule(part).register_forward_hook(above_the_kink)
        output = network(case["masks"], case["prev"], case["background"], styles, noise)
        assert_equal_to_golden(network.StyleNet(case["style_z"]).detach(), case["w"])
        assert_equal_to_golden(weights[0], case["attention4_weights"])
        assert_equal_to_golden(raw[0], case["pre_tanh"])
        assert_equal_to_golden(output.detach(), case["output"])
        (output * case["grad_R"]).sum().backward()
        norms = json.loads((GOLDEN / "tgan_lowres_gen_gradnorms.json").read_text())
        dead = {name for name, norm in norms.items() if norm is None}
        assert dead == {name for name in norms if name.startswith("be")}
        # published, one encoder serves previous frame and background: its gradient is the sum of those of our two
        slopes = {name: parameter.grad for name, parameter in network.named_parameters()}
        for name in [name for name in slopes if name.startswith("background.e")]:
            slopes[name.replace("background", "previous")] += slopes.pop(name)
        names = own_names("movie", {name: name for name in norms if name not in dead})
        expected = {own: norms[name] for own, name in names.items() if not own.startswith("background.e")}
        assert {name: float(slope.norm()) for name, slope in slopes.items()} == pytest.approx(expected, rel=1e-4)

    def test_a_wrong_source_would_be_noticed(self) -> None:
        case, network = golden("tgan_lowres_gen"), published("movie")
        with torch.no_grad():
            swapped = network(case["masks"], case["background"], case["prev"], *golden_styles(case))
        with pytest.raises(AssertionError):
            assert_equal_to_golden(swapped, case["output"])

    def test_super_resolution(self) -> None:
        case, network = golden("tgan_supres_gen"), published("super-resolution")
        raw = listen(network, "outputs")
        with torch.no_grad():
            assert_equal_to_golden(network(case["input"], *golden_styles(case)), case["output"])
        assert_equal_to_golden(raw[0], case["pre_tanh"])

    @pytest.mark.parametrize(
        ("name", "file"), [("patchgan-movie", "tgan_lowres_disc"), ("patchgan-super-resolution", "tgan_supres_disc")]
    )
    def test_discriminators(self, name: str, file: str) -> None:
        case = golden(file)
        with torch.no_grad():
            assert_equal_to_golden(published(name)(case["input"]), case["output"])

    def test_flow(self) -> None:
        case = golden("tgan_flownet")
        with torch.no_grad():
            assert_equal_to_golden(published("flow")(case["frame1"], case["frame2"]), case["output"])

    @pytest.mark.parametrize(
        ("name", "count"),
        [
            ("movie", 69_685_009),
            ("super-resolution", 31_496_513),
            ("flow", 759_458),
            ("patchgan-movie", 2_898_497),
            ("patchgan-super-resolution", 2_895_425),
        ],
    )
    def test_number_of_parameters(self, name: str, count: int) -> None:
        with torch.device("meta"):
            assert sum(p.numel() for p in PUBLISHED[name]().parameters()) == count


class TestWarp:
    @settings(max_examples=30)
    @given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**31))
    def test_no_flow_changes_nothing(self, height: int, width: int, seed: int) -> None:
        image = torch.randn(2, 3, height, width, generator=seeded(seed)) * 1e3
        assert torch.equal(warp(image, torch.zeros(2, 2, height, width)), image)

    def test_pixels_come_from_where_the_flow_points(self) -> None:
        image = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
        moved = {
            (1, 0): [[2.0, 3, 3], [5, 6, 6], [8, 9, 9]],  # x + 1: from the right
            (-1, 0): [[1.0, 1, 2], [4, 4, 5], [7, 7, 8]],
            (0, 1): [[4.0, 5, 6], [7, 8, 9], [7, 8, 9]],  # y + 1: from below
            (0, -1): [[1.0, 2, 3], [1, 2, 3], [4, 5, 6]],
            (-9, 9): [[7.0, 7, 7], [7, 7, 7], [7, 7, 7]],
        }
        for (x, y), expected in moved.items():
            flow = torch.tensor([float(x), float(y)]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
            assert warp(image, flow)[0, 0].tolist() == expected

    def test_between_pixels_by_hand(self) -> None:
        image = torch.tensor([[[[0.0, 10.0], [100.0, 110.0]]]])
        flow = torch.zeros(1, 2, 2, 2)
        flow[:, :, 0, 0] = torch.tensor([0.25, 0.5])
        assert warp(image, flow)[0, 0].tolist() == [[52.5, 10.0], [100.0, 110.0]]

    def test_a_cell_that_moved_is_brought_back(self) -> None:
        """Of each pixel of the later frame the flow says where it was before."""
        earlier, later = torch.zeros(2, 1, 1, 9, 11)
        earlier[..., 2:5, 3:6] = torch.arange(9.0).view(3, 3)
        later[..., 3:6, 5:8] = torch.arange(9.0).view(3, 3)
        flow = torch.zeros(1, 2, 9, 11)
        flow[:, 0], flow[:, 1] = -2, -1
        assert torch.equal(warp(earlier, flow), later)

    def test_agrees_with_grid_sample_in_double_precision(self) -> None:
        image = torch.randn(2, 3, 13, 20, generator=seeded()).double()
        flow = 4 * torch.randn(2, 2, 13, 20, generator=seeded(1)).double()
        x = (torch.arange(20) + flow[:, 0]) * 2 / 19 - 1
        y = (torch.arange(13)[:, None] + flow[:, 1]) * 2 / 12 - 1
        grid = torch.stack([x, y], dim=-1)
        expected = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
        torch.testing.assert_close(warp(image, flow), expected)

    def test_gradients(self) -> None:
        image = torch.randn(1, 2, 5, 6, generator=seeded()).double().requires_grad_()
        flow = (3 * torch.rand(1, 2, 5, 6, generator=seeded(1)) - 1.5).double().requires_grad_()
        assert torch.autograd.gradcheck(warp, (image, flow))

    def test_the_published_warp_is_none(self) -> None:
        """It hands pixels to a function that expects -1 to 1; repeating that gives its numbers exactly."""
        case = golden("tgan_warp")
        image, flow = case["image"], case["flow"]
        x, y = torch.arange(72.0) + flow[:, 0] / 71, torch.arange(48.0)[:, None] + flow[:, 1] / 47
        wrong = F.grid_sample(image, torch.stack([x, y], -1), padding_mode="reflection", align_corners=False)
        assert torch.equal(wrong, case["output"])
        still = case["output_zero_flow"]
        assert float((still - image).abs().max()) == pytest.approx(1.91, abs=0.01)
        assert abs(float(torch.corrcoef(torch.stack([still.flatten(), image.flatten()]))[0, 1])) < 0.01
        assert torch.equal(warp(image, torch.zeros_like(flow)), image)

    def test_half_precision_keeps_its_place(self) -> None:
        """Coordinates beyond 256 have no halves in bfloat16."""
        image = torch.arange(600.0).expand(1, 1, 2, 600)
        moved = warp(image, torch.full((1, 2, 2, 600), 0.5, dtype=torch.bfloat16))
        assert torch.equal(moved[..., :-1], image[..., :-1] + 0.5)

    def test_what_is_no_number_stays_none(self) -> None:
        flow = torch.zeros(1, 2, 3, 3)
        flow[0, 0, 1, 1] = torch.nan
        moved = warp(torch.ones(1, 1, 3, 3), flow)
        assert moved.isnan().sum() == 1 and moved[0, 0, 1, 1].isnan()

    @pytest.mark.parametrize("shape", [(1, 2, 4, 5), (2, 2, 5, 4), (2, 1, 4, 5)])
    def test_flows_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="flow must be"):
            warp(torch.zeros(2, 1, 4, 5), torch.zeros(shape))


class TestFlowNet:
    @pytest.mark.parametrize("norm", ["batch", "group"])
    @pytest.mark.parametrize("half", [False, True])
    def test_any_size(self, half: bool, norm: str) -> None:
        network = built(FlowNet, channels=3, width=8, norm=norm, half_resolution=half).eval()
        with torch.no_grad():
            for height, width in [(1, 1), (33, 17), (16, 40)]:
                flow = network(*torch.rand(2, 2, 3, height, width))
                assert flow.shape == (2, 2, height, width)
                assert flow.isfinite().all()

    def test_half_resolution_scales_place_and_length(self) -> None:
        """A network that says the frame's grey value is a displacement, of frames that are ramps."""
        network = FlowNet(width=8, half_resolution=True)
        network._estimate = lambda x: x  # type: ignore[method-assign]
        ramp = torch.arange(12.0).expand(1, 1, 10, 12)
        flow = network(ramp, -ramp)
        torch.testing.assert_close(flow[0, 0, :, 1:-1], 2 * ramp[0, 0, :, 1:-1])
        torch.testing.assert_close(flow[0, 1, :, 1:-1], -2 * ramp[0, 0, :, 1:-1])

    @pytest.mark.parametrize(("half", "reach"), [(False, 7), (True, 16)])
    def test_reach(self, half: bool, reach: int) -> None:
        network = built(FlowNet, width=2, half_resolution=half).eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.1 if parameter.dim() > 1 else 1.0)
        quiet = torch.zeros(1, 1, 48, 48)
        loud = quiet.clone()
        loud[..., 24, 24] = 1e4
        with torch.no_grad():
            changed = (network(quiet, loud) != network(quiet, quiet)).nonzero()[:, 2:]
        assert int((changed - 24).abs().max()) == reach

    @pytest.mark.parametrize("sizes", [{"channels": 0}, {"width": 1}])
    def test_impossible_sizes_are_refused(self, sizes: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="got"):
            FlowNet(**sizes)


class TestGenerators:
    @pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
    @pytest.mark.parametrize("norm", ["batch", "group"])
    @pytest.mark.parametrize("depth", [1, 3])
    def test_movie_generator_takes_any_size(self, depth: int, norm: str, upsampling: str) -> None:
        sizes = {"in_channels": 6, "out_channels": 3, "width": 8, "depth": depth}
        network = built(MovieGenerator, **sizes, norm=norm, upsampling=upsampling).eval()
        styles = draw_styles(2, depth + 1, seeded())
        with torch.no_grad():
            for height, width in [(1, 1), (33, 17), (16, 40)]:
                masks, frames = torch.rand(2, 6, height, width), torch.rand(2, 2, 3, height, width)
                frame = network(masks, *frames, styles, torch.rand(2, 1, height, width))
                assert frame.shape == (2, 3, height, width)
                assert frame.abs().max() <= 1

    @pytest.mark.parametrize("factor", [2, 4, 8])
    @pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
    def test_super_resolution_of_any_size_and_power_of_two(self, upsampling: str, factor: int) -> None:
        network = built(SuperResolution, out_channels=2, width=8, depth=2, factor=factor, upsampling=upsampling).eval()
        styles = draw_styles(2, network.blocks, seeded())
        with torch.no_grad():
            for height, width in [(1, 1), (17, 9), (8, 12)]:
                noise = torch.rand(2, 1, factor * height, factor * width)
                image = network(torch.rand(2, 1, height, width), styles, noise)
                assert image.shape == (2, 2, factor * height, factor * width)
                assert image.abs().max() <= 1

    @pytest.mark.parametrize("factor", [0, 1, 3, 16])
    def test_other_factors_are_refused(self, factor: int) -> None:
        with pytest.raises(ValueError, match=f"factor .*got {factor}"):
            SuperResolution(width=8, factor=factor)

    @pytest.mark.parametrize(
        ("kind", "sizes"), [(MovieGenerator, {}), (SuperResolution, {"factor": 2}), (SuperResolution, {"factor": 4})]
    )
    def test_noise_by_level_and_styles_by_block(self, kind: Any, sizes: dict[str, int]) -> None:
        network = built(kind, width=8, depth=2, **sizes).eval()
        *given, styles, noise = arguments(network, 32, 48)
        maps = [noise[..., :h, :w] for h, w in network.noise_shapes(32, 48)]
        assert maps[-1].shape == noise.shape and len(maps) == network.blocks
        with torch.no_grad():
            painted = network(*given, styles, noise)
            assert torch.equal(network(*given, styles, maps), painted)
            for block in range(network.blocks):
                other = [level + 1 if k == block else level for k, level in enumerate(maps)]
                assert not torch.equal(network(*given, styles, other), painted)
                another = styles.clone()
                another[:, block] = torch.randn(128, generator=seeded(5))
                assert not torch.equal(network(*given, another, noise), painted)
            with pytest.raises(ValueError, match="styles must be"):
                network(*given, styles[:, :-1], noise)
            with pytest.raises(ValueError, match="noise must be"):
                network(*given, styles, noise[..., :-1])

    def test_sources_of_different_sizes_are_refused(self) -> None:
        network = built(MovieGenerator, width=8, depth=2)
        masks, previous, background, styles, noise = arguments(network, 16, 24)
        with pytest.raises(ValueError, match="one size, got 16 x 24, 16 x 23, 16 x 24"):
            network(masks, previous[..., :-1], background, styles, noise)

    @pytest.mark.parametrize("kind", [MovieGenerator, SuperResolution])
    @pytest.mark.parametrize("norm", ["batch", "group"])
    def test_every_parameter_and_every_source_learns(self, kind: Any, norm: str) -> None:
        network = built(kind, width=8, depth=2, norm=norm)
        given = [part.requires_grad_() for part in arguments(network, 32, 48, count=2)]
        network(*given).square().mean().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
        still = [name for name, p in network.named_parameters() if not p.grad.any()]
        assert still == []
        assert all(part.grad is not None and bool(part.grad.any()) for part in given)

    @pytest.mark.parametrize("kind", [MovieGenerator, SuperResolution, FlowNet])
    def test_half_precision_agrees_with_float32(self, kind: Any) -> None:
        network = built(kind, width=8).eval()
        frames = torch.rand(2, 2, 1, 32, 48, generator=seeded()) * 2 - 1
        given = list(frames) if kind is FlowNet else arguments(network, 32, 48, count=2)
        with torch.no_grad():
            full = network(*given)
            with torch.autocast("cpu", torch.bfloat16):
                half = network(*given)
        assert half.dtype == torch.bfloat16
        assert float((half.float() - full).norm() / full.norm()) < 0.05

    def test_attention_is_a_weighted_mean_of_each_pixel(self) -> None:
        fusion = built(SourceAttention, channels=4)
        maps = [torch.full((2, 4, 3, 5), value) for value in (1.0, 2.0, 7.0)]
        nn.init.zeros_(fusion.attention[2].weight)
        torch.testing.assert_close(fusion(maps), torch.full((2, 4, 3, 5), 10 / 3))
        fusion.attention[0].weight.data[:] = 1.0
        fusion.attention[2].weight.data[2] = 9.0
        torch.testing.assert_close(fusion(maps), maps[2])
        maps[0][:, :, 1, 1] = -100.0  # hidden maps are 0 there: no source is preferred
        torch.testing.assert_close(fusion(maps)[0, :, 1, 1], torch.full((4,), -91 / 3))


class TestReach:
    @pytest.mark.parametrize("depth", [1, 2])
    @pytest.mark.parametrize(("kind", "factor"), [(MovieGenerator, 1), (SuperResolution, 2), (SuperResolution, 4)])
    def test_reaches_as_far_as_it_says_and_no_farther(self, kind: Any, factor: int, depth: int) -> None:
        """All weights positive: a loud pixel travels wherever the network can carry it."""
        network = kind(width=4, depth=depth, **({"factor": factor} if factor > 1 else {})).double().eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.5 if parameter.dim() > 1 else 0.0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        raw = listen(network, "outputs")
        radius = network.receptive_radius
        middle = -(-(radius + 1) // network.stride) * network.stride
        side = 2 * middle + network.stride
        quiet, farthest = torch.ones(1, 1, side, side, dtype=torch.float64), 0
        styles = torch.ones(1, network.blocks, 128).double()
        noise = torch.zeros(1, 1, factor * side, factor * side).double()

        def respond(image: Tensor) -> Tensor:
            sources = [image] if kind is SuperResolution else [image.expand(1, 2, -1, -1), quiet, image]
            network(*sources, styles, noise)
            return raw.pop()

        with torch.no_grad():
            expected = respond(quiet)
            for place in range(middle, middle + network.stride):
                loud = quiet.clone()
                loud[..., place, place] = 1e9
                changed = ((respond(loud) / expected - 1).abs() > 1e-12).nonzero()[:, 2:]
                farthest = max(farthest, int((changed // factor - place).abs().max()))
        assert farthest == radius

    def test_group_norm_looks_everywhere(self) -> None:
        assert SuperResolution(width=8, norm="group").receptive_radius is None
        assert SuperResolution(width=8).receptive_radius == unet_radius(4, 1) == 108


class TestMovieDiscriminator:
    def test_masks_come_first_oldest_first(self) -> None:
        masks = torch.arange(2.0).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 5)
        frames = torch.arange(10.0, 14.0).view(1, 2, 2, 1, 1).expand(1, 2, 2, 4, 5)
        joined = discriminator_input(masks, frames)
        assert joined[0, :, 0, 0].tolist() == [0, 1, 10, 11, 12, 13]
        with pytest.raises(ValueError, match="each frame goes with its mask"):
            discriminator_input(masks[:, :1], frames)

    def test_dropout_acts_in_training_only(self) -> None:
        network = built(PatchGAN, in_channels=4, width=8, heads=1, head_width=8, dropout=0.3)
        clip = torch.rand(1, 4, 40, 33)
        with torch.no_grad():
            assert not torch.equal(network(clip), network(clip))
            assert torch.equal(network.eval()(clip), network(clip))
            maps = network.activations(clip)
            assert torch.equal(network.model[-1](maps[-1]), network(clip))
        assert [m.shape[1] for m in maps] == [8, 16, 32, 64]
        with pytest.raises(ValueError, match="dropout"):
            PatchGAN(dropout=1.5)


def test_every_published_network_can_be_imported() -> None:
    assert {name.split("-")[0] if "patchgan" in name else name for name in PUBLISHED} <= registry.PUBLISHED.keys()


def test_a_residual_enlarger_that_adds_nothing_interpolates() -> None:
    network = built(SuperResolution, width=8, depth=2, factor=2, residual=True).eval()
    nn.init.zeros_(network.outputs.weight)
    nn.init.zeros_(network.outputs.bias)
    ramp = torch.linspace(-0.5, 0.5, 17).expand(1, 1, 9, 17)
    with torch.inference_mode():
        enlarged = network(ramp, torch.zeros(1, network.blocks, 128), torch.zeros(1, 1, 18, 34))
    steps = enlarged[0, 0].diff(dim=1)
    assert enlarged.shape == (1, 1, 18, 34)
    torch.testing.assert_close(steps[:, 1:-1], torch.full_like(steps[:, 1:-1], 1 / 32), rtol=1e-4, atol=1e-5)


def test_a_residual_generator_that_adds_nothing_paints_its_background() -> None:
    network = built(MovieGenerator, width=8, depth=2, residual=True).eval()
    given = arguments(network, 32, 48)
    nn.init.zeros_(network.outputs.weight)
    nn.init.zeros_(network.outputs.bias)
    background = given[2].clamp(-0.98, 0.98)
    torch.testing.assert_close(network(*given), background)
    white = [*given[:2], torch.ones_like(background), *given[3:]]
    assert torch.isfinite(network(*white)).all()
