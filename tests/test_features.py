"""Feature networks: VGG-19 as the paper's perceptual network, LPIPS and Inception against published numbers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor

from cytoforge.data.weights import FILES, VARIABLE, find_weights, load_features, load_inception, used_weights
from cytoforge.errors import UserError
from cytoforge.metrics.generation import extract_features, frechet_distance
from cytoforge.networks.features import (
    LPIPS,
    I3DFeatures,
    InceptionFeatures,
    SqueezeNetFeatures,
    VGG16Features,
    VGG19Features,
    lpips,
)
from cytoforge.networks.features.inception import INCEPTION_BLOCKS, INCEPTION_STEM
from cytoforge.networks.features.vgg19 import IMAGENET_MEAN, IMAGENET_STD
from parity import (
    assert_equal_to_golden,
    feature_input,
    feature_shapes,
    feature_state,
    fill,
    golden,
    vgg_state,
)


def weights(name: Any, folder: Path) -> dict[str, Tensor]:
    state = load_features(name, folder)
    assert state is not None
    return state


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(name: str) -> Tensor:
    """A photograph (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 127.5 - 1


class TestVGG19:
    def test_perceptual_loss_of_the_paper(self) -> None:
        case, network = golden("vgg_loss"), VGG19Features(vgg_state())
        x = case["x"].requires_grad_()
        maps, targets = network(x), network(case["y"])
        assert [list(m.shape) for m in maps] == case["feat_shapes"].tolist()
        assert network.weights == tuple(case["weights"].tolist())
        assert_equal_to_golden(maps[-1].detach(), case["relu5_1_x"])
        distances = torch.stack([(a - b).abs().mean() for a, b in zip(maps, targets, strict=True)])
        assert_equal_to_golden(distances.detach().double(), case["per_slice_l1"])
        loss = (distances * torch.tensor(network.weights)).sum()
        assert_equal_to_golden(loss.detach(), case["loss"])
        # Where a ReLU, a maximum or |a - b| switches within rounding, the gradient jumps: float64 differs from the
        # golden gradient at a sixth of the pixels, by 1e-3 of its length; leaving out the lightest slice by 1e-2.
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        error = (gradient - case["grad_x"]).abs()
        assert (error <= 1e-4 * case["grad_x"].abs().max()).float().mean() > 0.85
        assert error.norm() < 2e-3 * case["grad_x"].norm()
        (without,) = torch.autograd.grad(loss - distances[0] * network.weights[0], x)
        assert (without - case["grad_x"]).norm() > 1e-2 * case["grad_x"].norm()

    @pytest.mark.parametrize(("last", "slices"), [(0, 1), (2, 1), (5, 2), (10, 3), (16, 3), (19, 4), (28, 5)])
    def test_goes_as_far_as_the_weights(self, last: int, slices: int) -> None:
        network = VGG19Features(vgg_state(last), rescaled=False)
        assert len(network(torch.rand(1, 1, 32, 32))) == len(network.weights) == slices

    def test_rescaled_weights_see_normalised_images_with_reflected_borders(self) -> None:
        state = vgg_state(10)
        image = torch.rand(2, 3, 20, 24, generator=seeded(0)) * 2 - 1
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        x = F.pad(((image + 1) / 2 - mean) / std, (1, 1, 1, 1), mode="reflect")
        expected = F.conv2d(x, state["features.0.weight"], state["features.0.bias"]).relu()
        network = VGG19Features(state)
        assert network.rescaled
        torch.testing.assert_close(network(image)[0], expected, rtol=1e-5, atol=1e-5)
        assert not VGG19Features(vgg_state()).rescaled

    def test_grey_images_are_three_equal_channels(self) -> None:
        network, grey = VGG19Features(vgg_state(10)), torch.rand(1, 1, 16, 16)
        assert all(torch.equal(a, b) for a, b in zip(network(grey), network(grey.repeat(1, 3, 1, 1)), strict=True))

    def test_weights_are_frozen(self) -> None:
        assert not any(p.requires_grad for p in VGG19Features(vgg_state(10)).parameters())

    def test_what_cannot_work_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no VGG-19 weights"):
            VGG19Features({"features.3.weight": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"16 px or more, got \(15, 40\)"):
            VGG19Features(vgg_state())(torch.zeros(1, 1, 15, 40))
        with pytest.raises(ValueError, match=r"8 px or more, got \(9, 7\)"):
            VGG19Features(vgg_state(10))(torch.zeros(1, 1, 9, 7))
        VGG19Features(vgg_state(10))(torch.zeros(1, 1, 8, 8))

    def test_real_weights_have_mean_activations_about_one(self, real_weights: Path) -> None:
        """The scale that these weights were brought to; a wrong input range or order of channels misses it."""
        network = VGG19Features(weights("vgg19", real_weights))
        photos = [photo(name)[..., ::2, ::2] for name in ("astronaut", "chelsea", "coffee", "rocket")]
        means = torch.tensor([[float(m.mean()) for m in network(p)] for p in photos]).mean(0)
        torch.testing.assert_close(means, torch.ones(3), rtol=0, atol=0.15)


def squeezenet() -> tuple[SqueezeNetFeatures, dict[str, Tensor]]:
    """SqueezeNet of random weights and LPIPS heads of positive ones."""
    sizes = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)}
    sizes |= {9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
    shapes = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,), "classifier.1.bias": (10,)}
    for index, (channels, squeeze, expand) in sizes.items():
        for part, shape in (
            ("squeeze", (squeeze, channels, 1, 1)),
            ("expand1x1", (expand, squeeze, 1, 1)),
            ("expand3x3", (expand, squeeze, 3, 3)),
        ):
            shapes[f"features.{index}.{part}.weight"] = shape
            shapes[f"features.{index}.{part}.bias"] = shape[:1]
    channels = (64, 128, 256, 384, 384, 512, 512)
    heads = {f"lin{k}.model.1.weight": fill(f"lin{k}", (1, c, 1, 1)).abs() for k, c in enumerate(channels)}
    return SqueezeNetFeatures({name: fill(name, shape) for name, shape in shapes.items()}), heads


class TestLPIPS:
    def test_maps(self) -> None:
        maps = squeezenet()[0](torch.rand(2, 1, 64, 48))
        assert [m.shape[1] for m in maps] == [64, 128, 256, 384, 384, 512, 512]
        assert [tuple(m.shape[2:]) for m in maps] == [(31, 23), (15, 11), (7, 5), *[(3, 2)] * 4]

    def test_distance(self) -> None:
        network, heads = squeezenet()
        first, second = torch.rand(2, 3, 3, 32, 32, generator=seeded(0))
        distance = lpips(network, heads, first, second)
        assert distance.shape == (3,)
        assert (distance > 0).all()
        torch.testing.assert_close(distance, lpips(network, heads, second, first))
        torch.testing.assert_close(distance[1:2], lpips(network, heads, first[1:2], second[1:2]))
        assert torch.equal(lpips(network, heads, first, first), torch.zeros(3))

    def test_can_be_trained_with_even_where_features_vanish(self) -> None:
        network, heads = squeezenet()
        image = torch.zeros(1, 1, 32, 32, requires_grad=True)
        with torch.no_grad():
            network.features["0"].weight.zero_()
            network.features["0"].bias.fill_(-1)
        lpips(network, heads, image, torch.rand(1, 1, 32, 32)).sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()

    def test_small_images_are_refused(self) -> None:
        network, _ = squeezenet()
        network(torch.zeros(1, 1, 17, 17))
        with pytest.raises(ValueError, match=r"17 px or more, got \(16, 30\)"):
            network(torch.zeros(1, 1, 16, 30))

    @pytest.mark.parametrize(("seed", "expected"), [(42, 0.1005), (123, 0.1008)])
    def test_documented_means_of_torchmetrics(self, seed: int, expected: float, real_weights: Path) -> None:
        """torchmetrics, LearnedPerceptualImagePatchSimilarity, `net_type='squeeze'`."""
        assert round(float(self.documented(seed, 10, real_weights).mean()), 4) == expected

    def test_documented_pair_of_torchmetrics(self, real_weights: Path) -> None:
        """torchmetrics, learned_perceptual_image_patch_similarity with `reduction=None`."""
        assert [round(float(d), 4) for d in self.documented(42, 2, real_weights)] == [0.1024, 0.0938]

    @staticmethod
    def documented(seed: int, count: int, folder: Path) -> Tensor:
        draw = seeded(seed)
        first, second = (torch.rand(count, 3, 100, 100, generator=draw) * 2 - 1 for _ in range(2))
        return lpips(SqueezeNetFeatures(weights("squeezenet", folder)), weights("lpips", folder), first, second)

    def test_grows_with_the_noise_and_is_zero_without(self, real_weights: Path) -> None:
        network, heads = SqueezeNetFeatures(weights("squeezenet", real_weights)), weights("lpips", real_weights)
        image = photo("astronaut")
        noise = torch.randn(image.shape, generator=seeded(0))
        noisy = torch.cat([(image + level * noise).clamp(-1, 1) for level in (0, 0.02, 0.1, 0.3)])
        distances = lpips(network, heads, image.expand(4, -1, -1, -1), noisy)
        assert distances[0] == 0
        torch.testing.assert_close(distances[1:], torch.tensor([0.021, 0.261, 0.554]), rtol=0, atol=0.01)

    @pytest.mark.parametrize(
        ("kind", "net", "network"), [(VGG16Features, "vgg", "vgg16"), (SqueezeNetFeatures, "squeeze", "squeezenet")]
    )
    def test_distance_of_the_authors(self, kind: Any, net: str, network: str) -> None:
        measure = LPIPS(kind(feature_state(feature_shapes(network))), feature_state(feature_shapes(f"lpips-{net}")))
        first, second = (feature_input(f"lpips {side}", (2, 3, 40, 36)) for side in ("first", "second"))
        assert_equal_to_golden(measure(first, second), golden("feature_networks")[f"lpips_{net}"])
        assert measure.name == {"vgg": "LPIPS (VGG, v0.1)", "squeeze": "LPIPS (squeeze, v0.1)"}[net]

    def test_heads_of_the_other_network_are_refused(self) -> None:
        network, heads = squeezenet()
        del heads["lin6.model.1.weight"]
        with pytest.raises(KeyError, match=r"lin6\.model\.1\.weight"):
            LPIPS(network, heads)

    def test_small_images_are_refused_by_vgg(self) -> None:
        network = VGG16Features(feature_state(feature_shapes("vgg16")))
        assert [tuple(m.shape[1:]) for m in network(torch.zeros(1, 1, 16, 16))][-1] == (512, 1, 1)
        with pytest.raises(ValueError, match=r"16 px or more, got \(15, 30\)"):
            network(torch.zeros(1, 1, 15, 30))


def narrowed(network: str, last: str = "") -> dict[str, Tensor]:
    """Weights of a feature network, an eighth as wide; without those whose names begin with `last`."""
    shapes = {
        name: [side // 8 if axis < 2 and side > 3 else side for axis, side in enumerate(shape)]
        for name, shape in feature_shapes(network).items()
        if not (last and name.startswith(last)) and not name.startswith(("fc.", "AuxLogits"))
    }
    return feature_state(shapes)


def inception_state() -> dict[str, Tensor]:
    """Narrow weights that end at Mixed_6e."""
    return narrowed("inception", "Mixed_7")


class TestInception:
    def test_features_of_any_size(self) -> None:
        network = InceptionFeatures(inception_state())
        assert network(torch.rand(2, 1, 40, 33)).shape == (2, 96)
        assert not any(p.requires_grad for p in network.parameters())

    def test_images_do_not_influence_each_other(self) -> None:
        network, images = InceptionFeatures(inception_state()), torch.rand(2, 3, 64, 64, generator=seeded(0))
        torch.testing.assert_close(network(images)[1:], network(images[1:]), rtol=1e-4, atol=1e-5)

    def test_batch_norm_is_folded(self) -> None:
        state = inception_state()
        gen = seeded(1)
        mean, variance = torch.randn(4, generator=gen), torch.rand(4, generator=gen)
        state["Conv2d_1a_3x3.bn.running_mean"], state["Conv2d_1a_3x3.bn.running_var"] = mean, variance
        image = torch.rand(1, 3, 299, 299, generator=gen)
        plain = F.conv2d(image, state["Conv2d_1a_3x3.conv.weight"], stride=2)
        gain, offset = state["Conv2d_1a_3x3.bn.weight"], state["Conv2d_1a_3x3.bn.bias"]
        expected = F.batch_norm(plain, mean, variance, gain, offset, eps=0.001)
        found = InceptionFeatures(state).get_submodule("Conv2d_1a_3x3")(image)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_strides_and_pools_bring_299_px_to_17(self) -> None:
        network = InceptionFeatures(inception_state())
        x = network.stem(torch.zeros(1, 3, 299, 299))
        assert x.shape == (1, 24, 35, 35)
        assert [(x := network.block(block, x)).shape[2] for block in INCEPTION_BLOCKS] == [35] * 3 + [17] * 5

    def test_features_are_those_of_pytorch_fid(self) -> None:
        state, images = feature_state(feature_shapes("inception")), feature_input("inception", (2, 3, 120, 90))
        whole, expected = InceptionFeatures(state), golden("feature_networks")
        assert (whole.name, whole.num_features) == ("FID-2048 (Mixed_7c)", 2048)
        assert_equal_to_golden(whole(images), expected["inception_2048"])
        part = InceptionFeatures({name: t for name, t in state.items() if not name.startswith("Mixed_7")})
        assert (part.name, part.num_features) == ("FID-768 (Mixed_6e)", 768)
        assert_equal_to_golden(part(images), expected["inception_768"])

    @pytest.mark.filterwarnings("ignore:Metric `FrechetInceptionDistance` will save:UserWarning")
    @pytest.mark.parametrize("count", [5, 300])
    def test_torchmetrics_computes_the_same_with_this_network(self, count: int) -> None:
        """With fewer and with more images than features; float64 so that nothing but the method differs."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        class Network(torch.nn.Module):
            """Inception in the first case, which is slow; features that are given in the second."""

            num_features = 256

            def __init__(self) -> None:
                super().__init__()
                self.inception = InceptionFeatures(narrowed("inception"))

            def forward(self, images: Tensor) -> Tensor:
                return self.inception(images) if count == 5 else images[:, 0, 0]

        network, images = Network(), torch.rand(2 * count, 3, 32, 256, generator=seeded(0)) * 2 - 1
        metric = FrechetInceptionDistance(feature=network)
        metric.update(images[:count], real=True)
        metric.update(images[count:], real=False)
        network.name = "network"
        ours, real = extract_features(network, images[count:]), extract_features(network, images[:count])
        assert ours.shape == (count, 256)
        assert frechet_distance(ours, real) == pytest.approx(float(metric.compute()), rel=1e-4)

    def test_a_weight_of_the_last_blocks_is_named(self) -> None:
        state = narrowed("inception", "Mixed_7b.branch3x3_2b")
        with pytest.raises(KeyError, match=r"Mixed_7b\.branch3x3_2b\.conv\.weight"):
            InceptionFeatures(state)

    def test_a_missing_weight_is_named(self) -> None:
        state = inception_state()
        del state["Mixed_6c.branch7x7_2.conv.weight"]
        with pytest.raises(KeyError, match=r"Mixed_6c\.branch7x7_2\.conv\.weight"):
            InceptionFeatures(state)

    def test_activations_of_the_published_network(self, real_weights: Path) -> None:
        """Standard deviations after each layer, from an independent implementation, on two photographs."""
        stem = {"1a": 1.23, "2a": 1.21, "2b": 1.11, "3b": 1.14, "4a": 1.35}
        blocks = {"5b": 1.38, "5c": 1.15, "5d": 0.66, "6a": 0.81, "6b": 0.55, "6c": 0.57, "6d": 0.47, "6e": 0.22}
        network, found = InceptionFeatures(weights("inception", real_weights)), dict[str, float]()
        image = torch.cat(
            [F.interpolate(photo(name), (299, 299), mode="bilinear") for name in ("astronaut", "chelsea")]
        )
        x = image
        for name in INCEPTION_STEM:
            x = network._layer(name, x)
            found[name[7:9]] = float(x.std())
        for block in INCEPTION_BLOCKS:
            x = network.block(block, x)
            found[block[6:]] = float(x.std())
        found.pop("")
        assert found == pytest.approx({**stem, **blocks}, abs=0.015)
        torch.testing.assert_close(network(image), x.mean((2, 3)))


class TestI3D:
    def test_features_and_logits_of_other_code(self) -> None:
        """Of clips with an odd number of frames, so that TensorFlow's padding is not the same on both sides."""
        network, clip = I3DFeatures(feature_state(feature_shapes("i3d"))), feature_input("i3d", (1, 3, 17, 60, 80))
        expected = golden("feature_networks")
        assert_equal_to_golden(network.pooled(clip), expected["i3d_pooled"])
        assert_equal_to_golden(network(clip), expected["i3d_logits"])
        assert (network.name, network.num_features) == ("FVD (I3D)", 400)

    def test_grey_clips_of_any_length_from_nine_frames_on(self) -> None:
        network = I3DFeatures(narrowed("i3d"))
        clips = torch.rand(2, 1, 9, 20, 24, generator=seeded(0))
        assert network(clips).shape == (2, 50)
        torch.testing.assert_close(network(clips)[1:], network(clips[1:].repeat(1, 3, 1, 1, 1)), rtol=1e-4, atol=1e-5)
        assert not any(p.requires_grad for p in network.parameters())
        with pytest.raises(ValueError, match=r"9 frames or more, got \(2, 1, 8, 20, 24\)"):
            network(clips[:, :, :8])

    def test_a_missing_weight_is_named(self) -> None:
        with pytest.raises(KeyError, match=r"Mixed_4d\.b2b\.conv3d\.weight"):
            I3DFeatures(narrowed("i3d", "Mixed_4d.b2b"))


class TestFindingWeights:
    @pytest.fixture(autouse=True)
    def _no_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE, raising=False)

    def test_nowhere(self, tmp_path: Path) -> None:
        assert find_weights() is None
        assert load_features("vgg19") is None
        assert load_features("vgg19", tmp_path) is None

    def test_the_flag_goes_before_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a").mkdir()
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        assert find_weights() == tmp_path
        assert find_weights(tmp_path / "a") == tmp_path / "a"

    def test_without_both_the_cache_is_looked_into(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cytoforge.data.weights.default_folder", lambda: tmp_path / "cache")
        assert find_weights() is None
        (tmp_path / "cache").mkdir()
        assert find_weights() == tmp_path / "cache"
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        assert find_weights() == tmp_path

    def test_the_usual_features_go_before_those_of_an_earlier_layer(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        save_file(inception_state(), tmp_path / "inception_v3_fid_768.safetensors")
        network = load_inception(tmp_path)
        assert network is not None and network.name == "FID-96 (Mixed_6e)"
        save_file(narrowed("inception"), tmp_path / "inception_v3_fid_2048.safetensors")
        network = load_inception(tmp_path)
        assert network is not None and network.name == "FID-256 (Mixed_7c)"
        assert used_weights(["inception"], tmp_path)["inception"]["file"] == "inception_v3_fid_2048.safetensors"

    def test_a_folder_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UserError, match=r"--weights-dir .*nothing: is no folder; .*, inception_v3_\S+, .*\)"):
            load_features("lpips", tmp_path / "nothing")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
        with pytest.raises(UserError, match=f"{VARIABLE} .*nothing: is no folder"):
            find_weights()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        from safetensors.torch import save_file

        save_file({k: v.half() for k, v in vgg_state(10).items()}, tmp_path / FILES["vgg19"][1])
        return tmp_path

    def test_half_precision_becomes_float32(self, folder: Path) -> None:
        state = load_features("vgg19", folder)
        assert state is not None
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}
        assert len(VGG19Features(state).weights) == 3

    def test_damaged_file(self, folder: Path) -> None:
        path = folder / FILES["vgg19"][1]
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b"", b"not safetensors at all"):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match=f"{path.name}: is damaged .* copy it anew"):
                load_features("vgg19", folder)

    def test_file_of_another_network(self, folder: Path) -> None:
        shutil.move(folder / FILES["vgg19"][1], folder / FILES["inception"][0])
        with pytest.raises(UserError, match="holds no inception weights"):
            load_features("inception", folder)
