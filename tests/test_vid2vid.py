"""vid2vid, the baseline of movie generators: its network by hand, what reaches whom in a step, a movie end to end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from conftest import content
from cytoforge import load_network
from cytoforge.cli import main
from cytoforge.data import movie
from cytoforge.data.dataset import Item
from cytoforge.data.images import read_image, write_image
from cytoforge.data.run import Run
from cytoforge.inference import tiling
from cytoforge.inference.frames import Vid2VidPainter
from cytoforge.inference.painting import from_grey
from cytoforge.losses import VID2VID_WEIGHTS, Vid2VidWeights, confidence, confident_difference, vid2vid_loss
from cytoforge.networks.flow import reference_flow, warp
from cytoforge.networks.layers import initialise
from cytoforge.networks.patchgan import MultiscalePatchGAN, PatchGAN
from cytoforge.networks.vid2vid import Sketch, Vid2Vid, compose
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes import vid2vid
from cytoforge.training.recipes.recipe import falling
from cytoforge.training.recipes.vid2vid import LEAD, Fakes, Vid2VidGAN, describe
from cytoforge.training.samplers.clips import ClipBatch, DoublingClips
from cytoforge.training.samplers.items import Drawing

SMALL = {"width": 4, "depth": 2, "blocks": 3}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(kind: Any, **sizes: Any) -> Any:
    network = kind(**sizes)
    initialise(network, seeded())
    return network


def flow_of(x: float, y: float, height: int, width: int) -> Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, height, width)


def blobs(shift: tuple[int, int] = (0, 0)) -> Tensor:
    """A smooth picture (1, 1, 32, 40), moved by whole pixels down and to the right."""
    draw = torch.randn(1, 1, 6, 7, generator=seeded(4))
    wide = nn.functional.interpolate(draw, (48, 56), mode="bicubic")
    return wide[..., 8 - shift[0] : 40 - shift[0], 8 - shift[1] : 48 - shift[1]] / 3


class TestCompose:
    RAW = torch.full((1, 1, 2, 3), 0.5)
    BEFORE = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])

    def frame(self, mask: Tensor) -> list[Any]:
        """The previous frame moved to the left by 1 px, and a grey one."""
        frame: list[Any] = compose(Sketch(self.RAW, flow_of(1, 0, 2, 3), mask), self.BEFORE)[0, 0].tolist()
        return frame

    def test_mask_1_is_what_was_painted_anew(self) -> None:
        assert self.frame(torch.ones(1, 1, 2, 3)) == [[0.5] * 3] * 2

    def test_mask_0_is_the_previous_frame_moved(self) -> None:
        assert self.frame(torch.zeros(1, 1, 2, 3)) == [[2, 3, 3], [5, 6, 6]]

    def test_between_and_pixel_by_pixel(self) -> None:
        mask = torch.tensor([[[[0.0, 1.0, 0.25], [0.5, 0.0, 1.0]]]])
        assert self.frame(mask) == [[2, 0.5, 0.75 * 3 + 0.25 * 0.5], [0.5 * 5 + 0.5 * 0.5, 6, 0.5]]


class TestVid2Vid:
    @pytest.mark.parametrize("norm", ["batch", "group"])
    def test_any_size_and_its_ranges(self, norm: str) -> None:
        network = built(Vid2Vid, **SMALL, in_channels=6, out_channels=2, norm=norm).eval()
        with torch.no_grad():
            for height, width in [(1, 1), (33, 17), (16, 40)]:
                masks, past = torch.rand(2, 6, height, width), torch.rand(2, 4, height, width)
                raw, flow, mask = network(masks, past)
                assert raw.shape == (2, 2, height, width) and raw.abs().max() <= 1
                assert flow.shape == (2, 2, height, width) and flow.isfinite().all()
                assert mask.shape == (2, 1, height, width) and mask.min() >= 0 and mask.max() <= 1

    def test_every_parameter_and_every_source_learns(self) -> None:
        network = built(Vid2Vid, **SMALL)
        masks, past = torch.rand(2, 3, 16, 24, requires_grad=True), torch.rand(2, 2, 16, 24, requires_grad=True)
        compose(network(masks, past), past[:, 1:]).square().mean().backward()
        still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == []
        assert masks.grad.any() and past.grad[:, 0].any() and past.grad[:, 1].any()

    @pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
    @pytest.mark.parametrize(("depth", "blocks"), [(1, 1), (2, 3)])
    def test_reaches_as_far_as_it_says_and_no_farther(self, depth: int, blocks: int, upsampling: Any) -> None:
        """All weights positive: a loud pixel travels wherever the network can carry it."""
        network = Vid2Vid(width=2, depth=depth, blocks=blocks, upsampling=upsampling).double().eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.5 if parameter.dim() > 1 else 0.0)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.ones_(layer.weight)
        heard: list[Tensor] = []
        for head in (network.outputs, network.motion):
            head.register_forward_hook(lambda layer, given, out: heard.append(out.detach()))
        radius, stride = network.receptive_radius, network.stride
        middle = -(-(radius + 4) // stride) * stride
        side = 2 * middle + stride
        farthest = 0
        with torch.no_grad():
            quiet = torch.ones(1, 1, side, side, dtype=torch.float64)
            network(quiet.expand(1, 3, -1, -1), quiet.expand(1, 2, -1, -1))
            for place in range(middle, middle + stride):
                loud = quiet.clone()
                loud[..., place, place] = 1e9
                network(loud.expand(1, 3, -1, -1), loud.expand(1, 2, -1, -1))
                for head in (-2, -1):
                    changed = ((heard[head] / heard[2 + head] - 1).abs() > 1e-12).nonzero()[:, 2:]
                    farthest = max(farthest, int((changed - place).abs().max()))
        assert farthest == radius
        assert Vid2Vid(**SMALL, norm="group").receptive_radius is None

    def test_mistakes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one size"):
            Vid2Vid(**SMALL)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, 8, 9))
        with pytest.raises(ValueError, match="of 1 or more, got"):
            Vid2Vid(blocks=0)
        with pytest.raises(ValueError, match="'transposed' or 'nearest', got 'cubic'"):
            Vid2Vid(upsampling="cubic")

    @pytest.mark.parametrize(("upsampling", "even"), [("transposed", False), ("nearest", True)])
    def test_only_transposed_convolutions_paint_a_lattice(self, upsampling: Any, even: bool) -> None:
        network = built(Vid2Vid, **SMALL, upsampling=upsampling).eval()
        with torch.no_grad():
            raw = network(torch.ones(1, 3, 96, 96), torch.zeros(1, 2, 96, 96)).raw
        inside = raw[..., 40:56, 40:56]  # the zeros beyond the edges are far
        assert torch.allclose(inside, inside[..., :1, :1], atol=1e-6) is even


def test_each_scale_of_a_discriminator_sees_half() -> None:
    network = built(MultiscalePatchGAN, in_channels=2, width=4, heads=0).eval()
    image = torch.rand(1, 2, 64, 96)
    one, two = network(image)
    assert [tuple(m.shape[1:]) for m in one] == [(4, 32, 48), (8, 16, 24), (16, 8, 12), (32, 7, 11), (1, 6, 10)]
    assert [tuple(m.shape[2:]) for m in two] == [(16, 24), (8, 12), (4, 6), (3, 5), (2, 4)]
    alone = PatchGAN(2, 4, heads=0).eval()
    alone.load_state_dict(network.scales[0].state_dict())
    assert torch.equal(alone(image), one[-1])
    flat = network(torch.full((1, 2, 64, 96), 0.3))  # nothing darkens towards the edge of the smaller image
    alone.load_state_dict(network.scales[1].state_dict())
    torch.testing.assert_close(alone(torch.full((1, 2, 32, 48), 0.3)), flat[1][-1])


class TestReferenceFlow:
    def test_says_where_pixels_come_from(self) -> None:
        before = torch.cat([blobs(), blobs()])
        after = torch.cat([blobs((0, 2)), blobs((1, 0))])  # to the right, down
        flow = reference_flow(before, after)
        assert flow.shape == (2, 2, 32, 40)
        inside = flow[..., 6:-6, 6:-6].flatten(2).median(dim=2).values
        torch.testing.assert_close(inside, torch.tensor([[-2.0, 0.0], [0.0, -1.0]]), atol=0.15, rtol=0)
        assert (warp(before, flow) - after).abs().mean() < 0.2 * (before - after).abs().mean()

    def test_of_a_frame_to_itself_is_nothing(self) -> None:
        assert reference_flow(blobs().expand(1, 3, -1, -1), blobs().expand(1, 3, -1, -1)).abs().max() < 1e-3


class TestLosses:
    def test_confidence_by_hand(self) -> None:
        """Squared differences over channels of 0.02 and 0.0162, the second after moving by one pixel."""
        frame = torch.tensor([0.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
        before = torch.tensor([[0.1, 0.09], [0.1, 0.09]]).view(1, 2, 1, 2)
        assert confidence(frame, before, torch.zeros(1, 2, 1, 2))[0, 0].tolist() == [[0, 1]]
        assert confidence(frame, before, flow_of(1, 0, 1, 2))[0, 0].tolist() == [[1, 1]]

    def test_confident_difference_counts_the_rest_as_0(self) -> None:
        one, sure = torch.tensor([[[[1.0, 2.0], [3.0, 9.0]]]]), torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
        assert float(confident_difference(one, torch.zeros_like(one), sure)) == 6 / 4

    def test_weighted_sum(self) -> None:
        terms = {"flow": torch.tensor(2.0), "mask": torch.tensor(0.5)}
        assert float(vid2vid_loss(terms, Vid2VidWeights(flow=3.0))) == 2 * 3 + 0.5 * 10
        for wrong in ({}, {"speed": torch.tensor(1.0)}):
            with pytest.raises(ValueError, match="no terms of vid2vid"):
                vid2vid_loss(wrong)

    def test_matching_is_a_mean_over_scales_and_scores_are_summed(self) -> None:
        """A discriminator of two scales whose map and score are its input, and half of it."""

        class Discriminator(nn.Module):
            def forward(self, image: Tensor) -> list[list[Tensor]]:
                return [[image, image], [image / 2, image / 2]]

        fake = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
        fakes = Fakes(Discriminator(), torch.ones(1, 1, 2, 2), [fake])
        assert float(fakes.adversarial.detach()) == 0.5**2 + 0.75**2
        assert float(fakes.matching.detach()) == (0.5 + 0.25) / 2
        assert float(fakes.loss().detach()) == (0.5 * 0.5**2) + (0.5 * 0.5**2 + 0.5 * 0.25**2)
        ((same, pull),) = fakes.pulls(1.0, 10.0)
        slope = (2 * -0.5 + 2 * -0.75 / 2 + 10 * (-1 - 0.5) / 2) / 4
        assert same is fake
        torch.testing.assert_close(pull, torch.full_like(pull, slope))


FRAMES = 24


def read(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame i of a movie: textured ground, and a bright cell that moves to the right."""
    labels = np.zeros((40, 96), np.int32)
    labels[10:20, 3 * i : 3 * i + 10] = 5
    ground = 0.3 * np.sin(np.add.outer(np.arange(40) / 3, np.arange(96) / 4))
    return np.where(labels > 0, 0.9, ground).astype(np.float32)[None], labels


def sequences(first: int = 2) -> DoublingClips:
    items = [Item(f"01_{t}", group="01", frame=t) for t in range(FRAMES)]
    return DoublingClips(items, read, Drawing(size=(32, 32), count=1, policy="flip", seed=3), lead=LEAD, first=first)


def batch(*, cold: bool, progress: float = 0.0) -> ClipBatch:
    """A clip with a cell in its first frame to paint: of an empty one, batch norm makes nothing but zeros."""
    clips = (sequences()(step, progress) for step in range(200))
    return next(clip for clip in clips if clip.cold == cold and clip.labels[:, LEAD].any())


def recipe(**weights: float) -> Vid2VidGAN:
    parameters = hyperparameters.VID2VID["tiny"]
    if weights:
        none = dict.fromkeys(VID2VID_WEIGHTS.__dataclass_fields__, 0.0)
        parameters = replace(parameters, weights=Vid2VidWeights(**{**none, **weights}))
    gan = Vid2VidGAN.build(parameters, describe(parameters, 1), seed=0)
    nn.init.normal_(gan.generator.motion.weight, std=0.01, generator=seeded())
    for discriminator in (gan.image_discriminator, *gan.temporal_discriminators):
        for patchgan in discriminator.scales:
            nn.init.normal_(patchgan.model[-1].weight, std=0.1, generator=seeded())
    return gan


def reached(gan: Vid2VidGAN, given: ClipBatch) -> dict[str, set[str]]:
    """The parts of each network that a step's last update gives a gradient to."""
    found: dict[str, set[str]] = {}

    def record(name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = ()) -> None:
        network = gan.networks["low-resolution" if name == "generator" else name.replace(" ", "_")]
        named = dict(network.named_parameters())
        roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
        slopes = torch.autograd.grad(roots, list(named.values()), seeds, allow_unused=True, retain_graph=True)
        pairs = zip(named, slopes, strict=True)
        found[name] = {key.split(".")[0] for key, slope in pairs if slope is not None and slope.any()}

    gan.step(given, 0.0, record)
    return found


ENCODERS = {"mask_encoder", "past_encoder"}
IMAGE, FLOW = {"image_branch", "outputs"}, {"flow_branch", "motion"}


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("adversarial", ENCODERS | IMAGE | FLOW),
        ("matching", ENCODERS | IMAGE | FLOW),
        ("perceptual", ENCODERS | IMAGE | FLOW),
        ("pixels", ENCODERS | IMAGE | FLOW),
        ("consistency", ENCODERS | IMAGE | FLOW),
        ("flow", ENCODERS | FLOW),
        ("warp", ENCODERS | FLOW),
        ("mask", ENCODERS | FLOW),
    ],
)
def test_each_loss_alone_reaches_the_branches_it_is_about(term: str, parts: set[str]) -> None:
    gan = recipe(**{term: 1.0})

    class Itself:
        weights = (1.0,)

        def __call__(self, image: Tensor) -> list[Tensor]:
            return [image]

    gan.vgg = Itself()  # type: ignore[assignment]
    assert reached(gan, batch(cold=False))["generator"] == parts


def test_pixels_are_compared_in_the_frame_and_in_what_is_painted_anew() -> None:
    gan, found = recipe(pixels=1.0), list[float]()
    sketches: list[Sketch] = []
    gan.generator.register_forward_hook(lambda network, args, out: sketches.append(out))
    given = batch(cold=False)

    def record(name: str, loss: Tensor, **options: Any) -> None:
        if name == "generator":
            found.append(float(loss.detach()))

    gan.step(given, 0.0, record)
    real, sketch = given.images[:, LEAD], sketches[0]
    both = compose(sketch, given.images[:, LEAD - 1]), sketch.raw
    assert found[0] == pytest.approx(sum(float((frame - real).abs().mean().detach()) for frame in both))


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_the_first_step_of_a_quick_training_does_not_tear_frames_apart(preset: str) -> None:
    """A step of Adam turns all weights of the last layer of flows at once, whose maps are many and flows 20 px long."""
    parameters, flows = hyperparameters.VID2VID[preset], list[float]()
    gan = Vid2VidGAN.build(parameters, describe(parameters, 1), seed=0)
    gan.generator.register_forward_hook(lambda network, args, out: flows.append(float(out.flow.detach().abs().max())))
    trainer = Trainer(gan, Fabric(accelerator="cpu", devices=1), decay=0.9)
    warm = [clip for step in range(9) if not (clip := sequences(first=1)(step, 0.0)).cold]
    for clip in warm[:3]:
        trainer.step(clip, 0.0)
    assert flows[0] == 0 and 0 < max(flows) < 5


def test_weights_are_drawn_small_and_by_the_seed() -> None:
    parameters = hyperparameters.VID2VID["small"]
    one, same, other = (Vid2VidGAN.build(parameters, describe(parameters, 1), seed=seed) for seed in (0, 0, 1))
    for name, network in one.networks.items():
        convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        large = [layer for layer in convolutions if layer.weight.numel() > 2000 and layer.weight.any()]
        assert large and all(float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.06) for layer in large)
        assert not any(layer.bias.any() for layer in convolutions if layer.bias is not None)
        assert all(map(torch.equal, network.parameters(), same.networks[name].parameters()))
        assert not all(map(torch.equal, network.parameters(), other.networks[name].parameters()))


def test_each_discriminator_learns_by_itself() -> None:
    found = reached(recipe(), batch(cold=False))
    assert found.keys() == {"generator", "image discriminator", "temporal discriminators"}
    assert found["image discriminator"] == {"scales"}
    assert found["temporal discriminators"] == {"0"}  # three frames in steps of three need seven
    assert reached(recipe(), batch(cold=False, progress=0.6))["temporal discriminators"] == {"0", "1"}


def test_all_networks_change_and_rates_fall_in_the_second_half() -> None:
    gan = recipe()
    before = {name: {k: v.clone() for k, v in net.named_parameters()} for name, net in gan.networks.items()}
    trainer = Trainer(gan, Fabric(accelerator="cpu", devices=1), decay=0.9)
    losses = trainer.step(batch(cold=False, progress=0.6), 0.6)
    assert all(np.isfinite(value) for value in losses.values())
    for name, network in gan.networks.items():
        still = [k for k, v in network.named_parameters() if torch.equal(v, before[name][k])]
        assert not [k for k in still if not k.endswith("bias")], name  # a bias before batch norm has no gradient
    rate, rates = hyperparameters.VID2VID["tiny"].rate, []
    for progress in (0.0, 0.5, 0.75, 0.9):
        trainer.step(batch(cold=True), progress)
        rates.append({group["lr"] / rate for o in gan.optimisers.values() for group in o.param_groups})
    assert [round(factor, 6) for (factor,) in rates] == [1, 1, 0.5, 0.2] and gan.course is falling


def test_a_cold_clip_begins_with_what_is_painted_anew_and_frames_are_given_without_their_past() -> None:
    gan, given = recipe(), list[Tensor]()
    gan.generator.register_forward_pre_hook(lambda network, args: given.append(args[1]))
    cold = batch(cold=True)
    found: list[set[str]] = []
    sketches: list[Sketch] = []
    gan.generator.register_forward_hook(lambda network, args, out: sketches.append(out))

    def record(name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = ()) -> None:
        if name == "generator":
            named = dict(gan.generator.named_parameters())
            roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
            slopes = torch.autograd.grad(roots, list(named.values()), seeds, allow_unused=True, retain_graph=True)
            found.append({key.split(".")[0] for key, s in zip(named, slopes, strict=True) if s is not None and s.any()})

    losses = gan.step(cold, 0.0, record)
    assert found == [ENCODERS | IMAGE, ENCODERS | IMAGE | FLOW]
    assert not given[0].any()
    assert torch.equal(given[1], torch.cat([torch.zeros(1, 1, 32, 32), sketches[0].raw.detach()], 1))
    assert not any(past.requires_grad for past in given)
    assert "temporal_discriminator" not in losses


def test_the_flow_of_a_real_pair_is_computed_once_and_masked_by_its_confidence() -> None:
    gan, clip = recipe(), batch(cold=False, progress=0.6)
    seen_pairs: list[tuple[bytes, bytes]] = []

    def reference(earlier: Tensor, later: Tensor) -> Tensor:
        seen_pairs.append((earlier.numpy().tobytes(), later.numpy().tobytes()))
        return torch.zeros(1, 2, 32, 32)

    gan.reference = reference
    gan.step(clip, 0.6, lambda *args, **options: None)
    lead, frames = 2, clip.images.shape[1]
    assert frames - lead == 8
    # one by one, and in steps of three as soon as six frames went before
    assert len(seen_pairs) == len(set(seen_pairs)) == (frames - 1) + (frames - 3)


def test_sequences_double_every_quarter_as_far_as_the_movie_goes() -> None:
    assert [sequences().length(p) for p in (0, 0.24, 0.25, 0.5, 0.74, 0.75, 1)] == [2, 2, 4, 8, 8, 16, 16]
    assert [sequences(first=5).length(p) for p in (0, 0.5, 1)] == [5, 20, 21]  # one of 24 is left, two lead
    one, again = sequences()(7, 0.5), sequences()(7, 0.5)
    assert torch.equal(one.images, again.images) and one.images.shape == (1, 10, 1, 32, 32) and one.lead == 2


def test_tiles_change_nothing_even_where_cells_move_across_their_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    network = built(Vid2Vid, width=4, depth=1, blocks=2).eval()
    nn.init.normal_(network.outputs.weight, std=0.01, generator=seeded(1))
    nn.init.normal_(network.motion.weight, std=0.02, generator=seeded(2))
    labels = [np.roll(read(0)[1], 3 * t, axis=1) for t in range(4)]
    given: list[torch.Size] = []
    network.register_forward_pre_hook(lambda network, args: given.append(args[0].shape[2:]))

    def painted(tile: int) -> list[np.ndarray]:
        monkeypatch.setattr(tiling, "EXACT_TILE", tile)
        painter = Vid2VidPainter(network, (40, 96), condition="mask", window=3, tile=tile)
        return [painter.paint(frame).astype(np.int64) for frame in labels]

    whole, cut = painted(128), painted(0)
    assert set(given[:4]) == {(40, 96)} and (40, 96) not in given[4:]
    for one, other in zip(whole, cut, strict=True):
        assert np.abs(one - other).max() <= 1
    assert np.abs(whole[0] - whole[3]).max() > 100
    with pytest.raises(ValueError, match="must have one size"):
        Vid2VidPainter(network, (40, 95), condition="mask", window=3).paint(labels[0])


def test_the_painter_shows_the_first_frame_anew_and_moves_the_next() -> None:
    class Still(nn.Module):
        """Paints the brightness of the newest mask, and says that everything stays."""

        receptive_radius, stride, out_channels, past = 0, 1, 1, 2

        def __init__(self) -> None:
            super().__init__()
            self.given: list[Tensor] = []

        def forward(self, masks: Tensor, past: Tensor) -> Sketch:
            self.given.append(past)
            raw = masks[:, 2:]
            return Sketch(raw, torch.zeros(1, 2, *raw.shape[2:]), torch.zeros_like(raw))

    network = Still().eval()
    painter = Vid2VidPainter(network, (40, 96), condition="mask", window=3)  # type: ignore[arg-type]
    frames = [from_grey(painter.paint(read(t)[1])) for t in range(3)]
    np.testing.assert_allclose(frames[0][0], read(0)[1] > 0, atol=1e-4)
    assert np.array_equal(frames[1], frames[0]) and np.array_equal(frames[2], frames[0])
    assert not network.given[0].any()
    assert not network.given[1][:, 0].any() and np.array_equal(network.given[1][0, 1].numpy(), frames[0][0])


LINE = ["--method", "vid2vid", "--preset", "tiny", "--threads", "1", "--steps", "2"]


@pytest.fixture
def run(tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two steps teach little: weights are drawn larger, so that frames differ by more than a grey value."""
    monkeypatch.setattr(vid2vid, "WEIGHTS", 0.3)
    assert main(["train", "movie", str(tiny_movie), "--out", str(tmp_path / "run"), *LINE]) == 0
    return tmp_path / "run"


def test_from_a_movie_to_a_movie_and_on_after_every_frame(
    run: Path, tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Run.open(run).config
    assert stored["networks"]["low-resolution"]["network"] == "vid2vid"
    assert stored["perceptual"] == "features of the discriminators"
    assert isinstance(load_network(run), Vid2Vid)
    assert "Painted images" in (run / "report.html").read_text() and list((run / "samples").iterdir())
    assert {"flow", "warp", "consistency", "mask", "matching"} <= set(Run.open(run).metrics()[-1])

    def generate(out: Path, *flags: str) -> int:
        return main(["generate", "movie", str(run), str(tiny_movie), "--out", str(out), "--threads", "1", *flags])

    assert generate(tmp_path / "out", "--sequence", "01") == 0
    assert "5 frames painted in 1 sequence" in capsys.readouterr().out
    (sequence,) = movie.read_sequences(tmp_path / "out")
    images = [read_image(file) for file in sequence.frames.values()]
    assert images[0].shape == (1, 48, 56) and not np.array_equal(images[0], images[1])
    whole, paint = content(tmp_path / "out"), Vid2VidPainter.paint
    for cut in range(3):
        left = iter(range(cut))

        def stopped(self: Vid2VidPainter, labels: np.ndarray, left: Any = left) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return paint(self, labels)

        monkeypatch.setattr(Vid2VidPainter, "paint", stopped)
        assert generate(tmp_path / f"cut{cut}", "--sequence", "01") == 130
        monkeypatch.setattr(Vid2VidPainter, "paint", paint)
        assert generate(tmp_path / f"cut{cut}", "--sequence", "01") == 0
        assert content(tmp_path / f"cut{cut}") == whole
    write_image(tmp_path / "empty.tif", np.full((1, 48, 56), 60, np.uint8))
    assert generate(tmp_path / "b", "--background", str(tmp_path / "empty.tif")) == 2
    assert "was trained by vid2vid, which knows no background; give none" in capsys.readouterr().err


def test_a_training_that_was_stopped_ends_as_if_it_had_not(
    run: Path, tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Vid2VidGAN.step

    def stopped(self: Vid2VidGAN, batch: ClipBatch, progress: float, update: Any) -> Any:
        if batch.step == 1:
            raise KeyboardInterrupt
        return step(self, batch, progress, update)

    line = ["train", "movie", str(tiny_movie), "--out", str(tmp_path / "again"), *LINE]
    monkeypatch.setattr(Vid2VidGAN, "step", stopped)
    assert main(line) == 130
    monkeypatch.setattr(Vid2VidGAN, "step", step)
    assert main(line) == 0
    for file in (run / "weights").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / "weights" / file.name).read_bytes(), file.name


def test_what_belongs_to_the_other_method_is_refused(tmp_path: Path, tiny_movie: Path, capsys: Any) -> None:
    assert main(["train", "movie", str(tiny_movie), "--out", str(tmp_path / "x"), *LINE, "--lag", "2"]) == 2
    assert "--window and --lag belong to --method tgan" in capsys.readouterr().err
