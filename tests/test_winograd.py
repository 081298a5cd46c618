"""The fast 3 x 3 convolution computes what the direct one does, forward and backward, wherever it is used."""

from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytoforge.networks import winograd
from cytoforge.networks.winograd import conv3x3

Convolution = Callable[[Tensor, Tensor, Tensor | None], Tensor]
WINOGRAD = {"WORTH": 1e9, "WORTH_FOR_KERNELS": 1e9}  # every pass the fast way
SMALL = {"WORTH": 0.0, "WORTH_FOR_KERNELS": 0.0}  # the direct way, but for the kernels of small maps
HEAVY = {**SMALL, "LARGE_KERNELS": 1}  # every pass as one product over shifted copies


def direct(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(batch: int, inputs: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    weight = draw(outputs, inputs, 3, 3, seed=1) / (9 * inputs) ** 0.5
    return draw(batch, inputs, height, width), weight, draw(outputs, seed=2)


def passes(convolve: Convolution, arguments: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Output and the gradients of x, weight and bias, for one drawn gradient of the output."""
    leaves = [t.detach().to(dtype).requires_grad_() for t in arguments]
    out = convolve(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, draw(*out.shape, seed=3).to(dtype))]


def assert_like_double(arguments: tuple[Tensor, Tensor, Tensor]) -> None:
    expected = passes(direct, arguments, torch.float64)
    for found, exact in zip(passes(conv3x3, arguments, torch.float32), expected, strict=True):
        assert found.shape == exact.shape
        assert found.is_contiguous()
        assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


def use(monkeypatch: pytest.MonkeyPatch, bounds: Mapping[str, float]) -> None:
    for name, value in bounds.items():
        monkeypatch.setattr(winograd, name, value)


@pytest.mark.parametrize("bounds", [WINOGRAD, SMALL, HEAVY], ids=["winograd", "small map", "many kernels"])
@pytest.mark.parametrize(
    "shape",
    [(1, 3, 5, 8, 12), (2, 4, 3, 4, 4), (3, 2, 4, 7, 9), (1, 1, 1, 1, 1), (2, 5, 1, 13, 2), (1, 64, 32, 18, 23)],
    ids=str,
)
def test_all_passes_equal_the_direct_ones(
    monkeypatch: pytest.MonkeyPatch, bounds: dict[str, float], shape: tuple[int, int, int, int, int]
) -> None:
    use(monkeypatch, bounds)
    assert_like_double(layer(*shape))


@pytest.mark.parametrize("shape", [(1, 128, 128, 32, 48), (2, 64, 64, 30, 41), (1, 256, 128, 16, 24)], ids=str)
def test_the_way_chosen_for_a_training_layer_is_exact_enough(shape: tuple[int, int, int, int, int]) -> None:
    assert_like_double(layer(*shape))


@pytest.mark.parametrize("sizes", [{"PIECE": 1}, {"PRODUCT": 1}, {"PRODUCT": 12}], ids=["strips", "items", "pairs"])
def test_the_pieces_of_a_batch_do_not_matter(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int]) -> None:
    use(monkeypatch, {**WINOGRAD, "PRODUCT": 1, **sizes})
    assert_like_double(layer(3, 4, 5, 7, 10))


def test_the_bottleneck_of_the_paper_takes_no_direct_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("the direct way copies 38 MB of kernels")

    layer_ = layer(1, 1024, 1024, 2, 3)
    expected = passes(direct, layer_, torch.float32)
    monkeypatch.setattr(winograd.F, "conv2d", forbidden)
    monkeypatch.setattr(winograd, "_direct_backward", forbidden)
    for found, wanted in zip(passes(conv3x3, layer_, torch.float32), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_impulse_gives_the_kernel_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, WINOGRAD)
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 3, 4] = 1  # where two tiles meet
    weight = torch.arange(1.0, 10).view(1, 1, 3, 3)
    expected = torch.zeros(6, 6)
    expected[2:5, 3:6] = torch.tensor([[9.0, 8, 7], [6, 5, 4], [3, 2, 1]])
    torch.testing.assert_close(conv3x3(x, weight, torch.ones(1))[0, 0], expected + 1, rtol=0, atol=1e-5)


def test_only_wanted_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, WINOGRAD)
    x, weight, bias = layer(1, 4, 4, 8, 8)
    conv3x3(x, weight.requires_grad_(), bias).sum().backward()
    assert weight.grad is not None
    weight.grad = None
    conv3x3(x.requires_grad_(), weight.detach(), None).sum().backward()
    assert x.grad is not None
    assert bias.grad is weight.grad is None


def test_an_activation_in_place_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    def activated(convolve: Convolution) -> Convolution:
        return lambda x, weight, bias: F.relu_(convolve(x, weight, bias))

    use(monkeypatch, WINOGRAD)
    arguments = layer(1, 4, 4, 6, 8)
    found, exact = (passes(activated(c), arguments, torch.float32) for c in (conv3x3, direct))
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "forward", "kernels"),
    [
        ((1, 128, 128, 64, 96), True, True),
        ((1, 256, 256, 32, 48), True, True),
        ((1, 64, 64, 128, 192), False, True),  # transforms of few channels cost what they save
        ((1, 1, 64, 128, 192), False, False),
        ((1, 512, 512, 16, 24), False, False),  # and so do those of large kernels over few tiles
    ],
    ids=str,
)
def test_it_is_used_where_it_pays(shape: tuple[int, int, int, int, int], forward: bool, kernels: bool) -> None:
    batch, inputs, outputs, height, width = shape
    x = torch.empty(batch, inputs, height, width, device="meta")
    assert winograd._pays(x, outputs, winograd.WORTH) is forward
    assert winograd._pays(x, outputs, winograd.WORTH_FOR_KERNELS) is kernels


def test_other_precisions_and_export_take_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, WINOGRAD)
    monkeypatch.setattr(winograd, "_Conv3x3", None)  # using it would fail
    x, weight, bias = layer(1, 3, 4, 8, 8)
    assert torch.equal(
        conv3x3(x.double(), weight.double(), bias.double()), direct(x.double(), weight.double(), bias.double())
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3(x, weight, bias).dtype == torch.bfloat16
    assert conv3x3(x.to("meta"), weight.to("meta"), bias.to("meta")).shape == (1, 4, 8, 8)

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return conv3x3(x, weight, bias)

    exported = torch.export.export(Layer(), (x,)).module()
    torch.testing.assert_close(exported(x), direct(x, weight, bias))
    with pytest.warns(DeprecationWarning, match="trace"):
        traced = torch.jit.trace(Layer(), x, check_trace=False)
    assert "aten::_convolution" in str(traced.graph)
