"""`train movie` and `generate movie`: what reaches whom in a step, what a clip holds, and a movie from end to end."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from conftest import content
from cytoforge.cells.backgrounds import background_reference, fitted
from cytoforge.cells.instances import CONDITIONS
from cytoforge.cli import main
from cytoforge.commands import train as commands
from cytoforge.commands.train import enlarging_parameters, movie_parameters
from cytoforge.data import movie
from cytoforge.data.dataset import Item
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.frames import SETTLING, FramePainter, shrunk
from cytoforge.inference.painting import from_grey
from cytoforge.losses import MovieWeights
from cytoforge.networks.movie import MovieGenerator
from cytoforge.settings import TrainMovie
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes import tgan
from cytoforge.training.recipes.tgan import MovieGAN
from cytoforge.training.samplers.clips import ClipBatch, Clips, stretches
from cytoforge.training.samplers.items import Drawing
from cytoforge.training.tasks.movie import describe, held_out

FRAMES = 12


def read(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame i of a movie: ground of grey value i / 100, and a cell of 0.9 that moves to the right."""
    labels = np.zeros((40, 48), np.int32)
    labels[10:20, 2 * i : 2 * i + 10] = 5
    return np.where(labels > 0, np.float32(0.9), np.float32(i / 100))[None], labels


def items(*runs: range) -> list[Item]:
    return [Item(f"01_{t}", group="01", frame=t) for run in runs for t in run]


def clips(**options) -> Clips:
    drawing = Drawing(size=(32, 32), count=options.pop("count", 2), policy="flip", seed=3)
    return Clips(items(range(FRAMES)), read, drawing, lead=1, longest=4, **options)


def built(parameters: hyperparameters.Movie, seed: int = 0) -> MovieGAN:
    return MovieGAN.build(parameters, describe(parameters, 1), seed)


def recipe(**weights: float) -> MovieGAN:
    parameters = replace(hyperparameters.MOVIE["tiny"], p_diff=0.0, anneal=False)
    if weights:
        none = dict.fromkeys(("adversarial", "flow", "pixels", "perceptual", "temporal"), 0.0)
        parameters = replace(parameters, weights=MovieWeights(**{**none, **weights}))
    return built(parameters)


def as_published(gan: MovieGAN) -> None:
    """From here on every frame of a clip is learned from, in training mode, and no gradient is clipped."""
    gan.parameters = replace(gan.parameters, learn_last=False, in_use_from=1.0, max_gradient=None)


def gradients(gan: MovieGAN, batch: ClipBatch) -> dict[str, list[Tensor | None]]:
    """Gradients of a step, of the last frame of the batch, for each optimiser."""
    found: dict[str, list[Tensor | None]] = {}

    def record(
        name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = (), max_norm: float | None = None
    ) -> None:
        parameters = [p for group in gan.optimisers[name].param_groups for p in group["params"]]
        roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
        found[name] = list(torch.autograd.grad(roots, parameters, seeds, allow_unused=True, retain_graph=True))

    gan.step(batch, 0.5, record)
    return found


def warm(progress: float = 0.0) -> ClipBatch:
    return next(batch for step in range(50) if not (batch := clips()(step, progress)).cold)


def published(width: int = 8, **other) -> hyperparameters.Movie:
    """Preset paper with narrow networks."""
    return replace(hyperparameters.MOVIE["paper"], width=width, discriminator_width=width, crop=(32, 32), **other)


@pytest.mark.parametrize("seed", range(3))
def test_a_published_training_begins_with_losses_of_one_size(seed: int) -> None:
    """By the rule of cGAN-Seg the first adversarial loss is 15 to 55 at this width, and 700 at the published one."""
    torch.manual_seed(seed)  # of dropout
    gan, batch = built(published(), seed), warm()
    losses = gan.step(batch, 0.0, lambda name, loss, given=(), max_norm=None: None)
    assert 0.5 < losses["adversarial"] < 2 and 0.2 < losses["discriminator"] < 1.2
    torch.manual_seed(seed)
    kaiming = built(published(initial="kaiming"), seed).step(batch, 0.0, lambda *arguments, **options: None)
    assert kaiming["adversarial"] > 10 and kaiming["discriminator"] > 10


def test_a_published_training_has_the_published_optimisers_networks_and_masks() -> None:
    gan = built(published())
    for optimiser in gan.optimisers.values():
        assert isinstance(optimiser, torch.optim.RMSprop)
        (group,) = optimiser.param_groups
        stated = {"lr": 1e-4, "alpha": 0.99, "eps": 1e-8, "momentum": 0.9, "weight_decay": 1e-8}
        assert group.items() >= stated.items()
    assert gan.optimisers.keys() == {"generator", "discriminator", "flow"}
    assert [gan.course(p) for p in (0.0, 0.3, 1.0)] == pytest.approx([1 / 25, 1.0, 1 / 25e4])
    assert not gan.flow.half_resolution and recipe().flow.half_resolution
    assert [layer.p for layer in gan.discriminator.model if isinstance(layer, torch.nn.Dropout)] == [0.3] * 4
    shown: list[Tensor] = []
    gan.generator.register_forward_pre_hook(lambda net, args: shown.append(args[0]))
    gan.discriminator.register_forward_pre_hook(lambda net, args: shown.append(args[0][:, :2]))
    gradients(gan, warm())
    assert len(shown) >= 3 and all(set(masks.unique().tolist()) <= {0.0, np.float32(0.4)} for masks in shown)
    assert any((masks > 0).any() for masks in shown)


def test_features_of_a_discriminator_with_dropout_tell_equal_frames_to_be_equal() -> None:
    gan = built(published())
    frames = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    one, other = (gan.discriminator.train().activations(frames) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(gan.discriminator(frames), gan.discriminator(frames))


def test_the_published_augmentation_is_one_coin_for_all_frames_of_a_clip() -> None:
    """A clip of one grey value each: either no frame is varied or all are, and these all by one draw."""

    def grey(i: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.full((1, 40, 48), -0.5, np.float32)
        image[:, :, 24:] = 0.5
        return image, np.pad(np.ones((30, 38), np.int32), 5)

    def varied(p_vanilla: float) -> list[bool]:
        drawing = Drawing(size=(40, 48), count=1, policy="paper", p_vanilla=p_vanilla, seed=0)
        sampler = Clips(items(range(FRAMES)), grey, drawing, lead=1, longest=4)
        found = []
        for step in range(60):
            frames = sampler(step, 1.0).images[0]
            assert all(torch.equal(frame, frames[0]) for frame in frames)
            found.append(not torch.equal(frames[0], torch.from_numpy(grey(0)[0])))
        return found

    assert not any(varied(0.0)) and sum(varied(1.0)) > 50
    assert 5 <= sum(varied(0.2)) <= 20


def test_clips_of_a_published_training_grow_every_fifty_epochs_of_2500() -> None:
    sampler = Clips(items(range(30)), read, clips().drawing, lead=1, longest=10, grown=0.2)
    lengths = [sampler.length(epoch / 2500) for epoch in (0, 49, 51, 99, 101, 451, 2499)]
    assert lengths == [1, 1, 2, 2, 3, 10, 10]


@pytest.mark.parametrize("seed", range(3))
def test_the_first_painting_is_grey_and_not_where_tanh_has_no_gradient(seed: int) -> None:
    parameters = hyperparameters.MOVIE["small"]
    generator = built(parameters, seed).generator
    channels = parameters.window * CONDITIONS[parameters.condition]
    masks = (torch.rand(1, channels, 64, 64, generator=torch.Generator().manual_seed(seed)) > 0.5).float()
    frame, noise = torch.zeros(1, 1, 64, 64), torch.full((1, 1, 64, 64), 0.5)
    painted = generator(masks, frame, frame, torch.ones(1, generator.blocks, 128), noise)
    assert painted.abs().max() < 0.9


@pytest.mark.parametrize("term", ["flow", "temporal", "pixels", "perceptual", "adversarial"])
def test_each_loss_alone_trains_the_generator(term: str) -> None:
    gan = recipe(**{term: 1.0})
    torch.nn.init.normal_(gan.discriminator.model[-1].weight, generator=torch.Generator().manual_seed(0))
    found = gradients(gan, warm())
    assert sum(float(g.abs().sum()) for g in found["generator"] if g is not None) > 0


def test_the_flow_network_learns_from_real_frames_and_all_networks_change() -> None:
    gan = recipe()
    before = {name: {k: v.clone() for k, v in net.named_parameters()} for name, net in gan.networks.items()}
    trainer = Trainer(gan, Fabric(accelerator="cpu", devices=1), decay=0.9)
    for _ in range(2):  # the discriminator's scores start at 0, so that only their layer learns at first
        losses = trainer.step(warm(), 0.5)
    assert losses["flow_network"] > 0
    for name, network in gan.networks.items():
        still = [k for k, v in network.named_parameters() if torch.equal(v, before[name][k])]
        assert not [k for k in still if not k.endswith("bias")], name  # a bias before batch norm has no gradient


def test_a_cold_clip_is_given_the_background_and_no_motion() -> None:
    batch = next(b for step in range(50) if (b := clips()(step, 1.0)).cold)
    assert torch.equal(batch.images[:, 0], batch.images[:, 1])
    gan = recipe()
    given: list[Tensor] = []
    gan.generator.register_forward_pre_hook(lambda net, args: given.append(args[1]))
    gradients(gan, batch)
    assert (given[0] - batch.backgrounds).abs().max() < 0.7  # the background, with noise on it, and no other contrast
    assert (given[0] - batch.images[:, 0]).abs().max() > 0.7


def test_of_a_clip_the_last_frame_is_learned_from_after_frames_painted_as_in_use() -> None:
    gan, batch = recipe(), warm(1.0)
    states: list[tuple[bool, bool]] = []
    gan.generator.register_forward_hook(lambda net, args, out: states.append((net.training, out.requires_grad)))
    updates: list[str] = []
    before = {k: v.clone() for k, v in gan.generator.named_buffers()}
    losses = gan.step(batch, 0.4, lambda name, loss, given=(), max_norm=None: updates.append(name))
    assert states == [(False, False)] * 3 + [(True, True)] and gan.generator.training
    assert updates == ["generator", "discriminator", "flow"]
    assert losses["pixels"] > 0
    assert any(not torch.equal(v, before[k]) for k, v in gan.generator.named_buffers())  # the learned one counts
    states.clear()
    before = {k: v.clone() for k, v in gan.generator.named_buffers()}
    gan.step(batch, gan.parameters.in_use_from, lambda name, loss, given=(), max_norm=None: updates.append(name))
    assert states == [(False, False)] * 3 + [(False, True)]  # late in a training that, too, is painted as in use
    assert all(torch.equal(v, before[k]) for k, v in gan.generator.named_buffers())
    as_published(gan)
    states.clear()
    updates.clear()
    gan.step(batch, 0.5, lambda name, loss, given=(), max_norm=None: updates.append(name))
    assert states == [(True, True)] * 4 and len(updates) == 12


def test_a_generator_that_paints_black_has_a_gradient_which_is_clipped() -> None:
    gan, batch = recipe(pixels=1.0), warm()
    torch.nn.init.constant_(gan.generator.outputs.bias, -8.0)  # tanh: its slope there is 4e-7
    names = [name for name, _ in gan.generator.named_parameters()]
    pull = gradients(gan, batch)["generator"][names.index("outputs.bias")]
    assert pull is not None and pull.item() < -1e-3
    norms: dict[str, float | None] = {}
    gan.step(batch, 0.0, lambda name, loss, given=(), max_norm=None: norms.update({name: max_norm}))
    assert norms == {"generator": 20.0, "discriminator": None, "flow": None}
    as_published(gan)
    gan.step(batch, 0.0, lambda name, loss, given=(), max_norm=None: norms.update({name: max_norm}))
    assert norms["generator"] is None


def test_validation_looks_at_a_window_around_the_cells() -> None:
    labels = np.zeros((300, 600), np.int32)
    labels[290:299, 400:420], labels[10:20, 5:8] = 1, 2  # their middle is bare
    image = np.arange(labels.size, dtype=np.float32).reshape(1, *labels.shape)
    data = SimpleNamespace(held=items(range(2)), validation=[("a", image, labels), ("b", image, labels)])
    ((images, masks, background),) = held_out(data, {"01": image})
    assert all(mask.shape == (256, 256) and (mask > 0).sum() == 180 for mask in masks)
    assert np.array_equal(background, images[0])
    data.validation = [("a", image[:, :40], labels[:40])] * 2  # no cell, and lower than a window
    ((images, _, background),) = held_out(data, {"01": image})
    assert images[0].shape == background.shape == (1, 40, 256)


def test_an_earlier_frame_is_given_with_noise_and_another_contrast() -> None:
    background = torch.full((2, 1, 64, 96), -0.5)
    frame = background.clone()
    frame[:, :, 20:60, 20:70] = -0.3
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    paper = tgan._imperfect(frame, background, generators, 0.0) - frame
    assert 0 < paper.std() < tgan.MEMORY_NOISE and abs(float(paper.mean())) < 0.005
    again = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    found = tgan._imperfect(frame, background, again, 0.4)
    torch.testing.assert_close((found - frame)[..., :20], paper[..., :20])  # what equals its background, stays
    contrast = (found - paper - background)[..., 20:60, 20:70] / 0.2
    assert (contrast > 0).all() and (contrast[0] - contrast[1]).abs().max() > 0.05
    assert contrast[0].max() > 1.2 * contrast[0].min()  # it changes over the frame ...
    assert contrast[0].diff(dim=2).abs().max() < 0.1  # ... and smoothly


def test_what_a_movie_generator_is_given_without_asking() -> None:
    def given(**options) -> str:
        return movie_parameters(TrainMovie(data=Path("x"), out=Path("y"), **options)).condition

    assert (given(), given(condition="mask")) == ("instances", "mask")
    assert given(preset="paper") == given(method="vid2vid") == "mask"  # as published

    def varied(**options) -> tuple[str, str]:
        settings = TrainMovie(data=Path("x"), out=Path("y"), **options)
        return movie_parameters(settings).augmentation, enlarging_parameters(settings).augmentation

    assert varied() == ("flip", "flip") and varied(preset="paper") == ("paper", "paper")
    assert varied(preset="paper", augmentation="strong") == ("strong", "strong")


def test_one_switch_sets_all_terms_of_the_paper(
    tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple] = []
    monkeypatch.setattr(commands, "train_both_stages", lambda *arguments: given.append(arguments) or exit(0))
    line = ["train", "movie", str(tiny_movie), "--out", str(tmp_path / "run"), "--recipe", "tgan"]
    with pytest.raises(SystemExit):
        main(line)
    ((first, second, training, start),) = given
    assert (training.data.resize, training.data.scale) == ((512, 768), 1.0)
    assert (training.budget.epochs, training.budget.steps, training.budget.seconds) == (2500, None, None)
    for stage in (first, second):
        terms = (stage.width, stage.depth, stage.discriminator_width, stage.heads, stage.batch, stage.crop)
        assert terms == (64, 4, 64, 8, 2, (256, 384))
        varied = (stage.augmentation, stage.p_vanilla, stage.p_diff, stage.style_mixing, stage.upsampling)
        assert varied == ("paper", 0.2, 0.2, 0.9, "transposed")
        course = (stage.optimiser, stage.one_cycle, stage.generator_rate, stage.discriminator_rate, stage.dropout)
        assert course == ("rmsprop", True, 1e-4, 1e-4, 0.3)
        assert not stage.residual and stage.perceptual == "vgg or features" and start == ()
    assert (first.clip, first.grown, first.window, first.lag) == (10, 0.2, 2, 1)
    assert (first.condition, first.mask_value, first.half_resolution) == ("mask", 0.4, False)
    assert not first.draw_length and not first.learn_last
    assert (first.weights.flow, first.weights.perceptual, first.weights.temporal) == (100, 100, 50)
    assert (second.factor, second.weights.pixels, second.weights.perceptual) == (2, 25, 50)
    with pytest.raises(SystemExit):
        main([*line, "--stage", "both", "--resize", "64x96", "--steps", "7", "--p-vanilla", "0.5"])
    first, second, training, _ = given[1]
    assert (training.data.resize, training.budget.steps, training.budget.epochs) == ((64, 96), 7, None)
    assert first.crop == second.crop == (32, 48) and first.p_vanilla == second.p_vanilla == 0.5
    capsys.readouterr()
    assert main([*line, "--scale", "0.5", "--resize", "64x96"]) == 2
    assert "--scale or --resize" in capsys.readouterr().err


def test_both_stages_of_the_paper_in_epochs_of_each(
    tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the switch to a movie: frames of one size whatever that of the files, and epochs of both stages."""
    narrow = {"width": 4, "depth": 2, "discriminator_width": 4, "heads": 0}
    for name in ("MOVIE", "SUPER_RESOLUTION"):
        monkeypatch.setitem(
            getattr(hyperparameters, name), "paper", replace(getattr(hyperparameters, name)["paper"], **narrow)
        )
    out = tmp_path / "run"
    line = ["train", "movie", str(tiny_movie), "--out", str(out), "--recipe", "tgan", "--threads", "1"]
    assert main([*line, "--resize", "64x96", "--epochs", "1", "--no-attention"]) == 0
    low, both = Run.open(out / "stages" / "low-resolution"), Run.open(out)
    assert (low.config["resize"], both.config["resize"]) == ([32, 48], [64, 96])
    images = [len(run.config["training_images"]) for run in (low, both)]
    assert [run.metrics()[-1]["step"] for run in (low, both)] == [-(-count // 2) for count in images]
    assert both.config["mask_value"] == 0.4
    assert generate(out, tiny_movie, tmp_path / "out", "--sequence", "01") == 0
    assert read_image(tmp_path / "out" / "01" / "t000.tif").shape == (1, 64, 96)


def test_lengths_are_drawn_once_for_all_items_of_a_step() -> None:
    drawn = clips(draw_length=True)
    lengths = [drawn(step, 1.0).images.shape[1] - 1 for step in range(60)]
    assert set(lengths) == {1, 2, 3, 4} and lengths == [drawn(step, 1.0).images.shape[1] - 1 for step in range(60)]
    assert all(5 < lengths.count(length) < 28 for length in set(lengths))
    assert {drawn(step, 0.1).images.shape[1] - 1 for step in range(10)} == {1}
    assert torch.equal(clips(draw_length=True, count=1)(9, 1.0).images[0], drawn(9, 1.0).images[0])


def test_clips_grow_repeat_and_are_varied_alike() -> None:
    assert [clips().length(p) for p in (0, 0.12, 0.13, 0.5, 1)] == [1, 1, 2, 4, 4]
    one, again = clips()(7, 0.5), clips()(7, 0.5)
    assert torch.equal(one.images, again.images) and torch.equal(one.backgrounds, again.backgrounds)
    assert one.images.shape == (2, 5, 1, 32, 32) and one.labels.shape == (2, 5, 32, 32)
    alone = clips(count=1)(7, 0.5)
    assert torch.equal(alone.images[0], one.images[0])  # an item knows nothing of the others
    corner = torch.where(one.labels > 0, torch.nan, one.images[:, :, 0]).flatten(2).nanmean(2)
    steps = corner.diff(dim=1)[:, 1:]
    torch.testing.assert_close(steps, torch.full_like(steps, 0.01), atol=1e-4, rtol=0)  # in a row, nothing stretched


def test_the_background_never_comes_from_the_clip_nor_holds_a_cell() -> None:
    for step in range(30):
        batch = clips()(step, 1.0)
        assert batch.backgrounds.max() < 0.2  # cells are 0.9
        for background, frames in zip(batch.backgrounds, batch.images, strict=True):
            inside = {round(100 * float(frame.min())) for frame in frames}
            values = {round(100 * float(v)) for v in background.unique()}
            assert not inside & values


def test_stretches_are_torn_where_frames_are_missing() -> None:
    assert stretches(items(range(3), range(5, 7))) == [range(3), range(3, 5)]
    drawing = Drawing(size=(32, 32), count=1, policy="flip", seed=0)
    with pytest.raises(UserError, match=r"at most 2 frames in a row .* 3 are needed; give a longer movie"):
        Clips(items(range(2), range(5, 7)), read, drawing, lead=1, longest=3)


def test_a_reference_of_the_background_by_hand() -> None:
    frames = np.array([[0.1, 0.2, 9], [0.3, 9, 9], [0.5, 0.4, 9]], np.float32)[:, None, None]
    labels = np.array([[0, 0, 1], [0, 2, 2], [0, 0, 3]])[:, None]
    reference = background_reference(frames, labels, margin=0)
    np.testing.assert_allclose(reference[0, 0], [0.3, 0.2, 0.25], rtol=1e-5)  # the last is the light of the others
    np.testing.assert_allclose(background_reference(frames, np.ones_like(labels)), np.full((1, 1, 3), 0.5), rtol=1e-6)
    with pytest.raises(ValueError, match="must fit"):
        background_reference(frames, labels[:2])


@pytest.mark.parametrize("size", [(3, 9), (5, 2), (8, 8)])
def test_a_background_is_cut_or_mirrored(size: tuple[int, int]) -> None:
    reference = np.arange(20, dtype=np.float32).reshape(1, 5, 4)
    cut = fitted(reference, size, np.random.default_rng(0))
    assert cut.shape == (1, *size)
    assert set(cut.ravel()) <= set(reference.ravel())


@pytest.mark.parametrize("residual", [True, False])
def test_the_first_frame_is_painted_until_it_has_settled(residual: bool) -> None:
    network = MovieGenerator(width=4, depth=2, residual=residual).eval()
    passes: list[Tensor] = []
    network.register_forward_pre_hook(lambda net, args: passes.append(args[1]))
    cells = np.eye(16, dtype=np.int32)

    def painter() -> FramePainter:
        ground = np.full((1, 16, 16), 0.25, np.float32)
        return FramePainter(network, ground, torch.Generator().manual_seed(0), condition="mask", window=2, lag=1)

    one = painter()
    first = one.paint(cells)
    assert len(passes) == (1 + SETTLING if residual else 1)
    assert (passes[0] == 0.25).all() and all((earlier != 0.25).any() for earlier in passes[1:])
    passes.clear()
    one.paint(cells)
    assert len(passes) == 1 and torch.equal(passes[0][0], torch.from_numpy(from_grey(first)))
    again = painter()
    again.recall(cells, first)
    again.paint(cells)
    assert len(passes) == 2 and torch.equal(passes[1], passes[0])


def test_small_cells_keep_a_pixel() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[21, 30], labels[0:10, 0:10] = 7, 3
    small = shrunk(labels, 0.2)
    assert set(np.unique(small)) == {0, 3, 7} and small[4, 6] == 7


@pytest.fixture
def run(tiny_movie: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    line = ["train", "movie", str(tiny_movie), "--out", str(out), "--preset", "tiny", "--threads", "1", "--steps", "3"]
    assert main(line) == 0
    return out


def generate(run: Path, masks: Path, out: Path, *flags: str) -> int:
    return main(["generate", "movie", str(run), str(masks), "--out", str(out), "--threads", "1", *flags])


def test_from_a_movie_to_a_movie(
    run: Path, tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = Run.open(run).config
    assert described["command"] == "train movie" and described["condition"] == "instances"
    assert described["networks"]["low-resolution"]["in_channels"] == 2 * CONDITIONS["instances"]
    assert all(0 <= row["validation"] <= 1 for row in Run.open(run).metrics())
    assert "Painted images" in (run / "report.html").read_text() and list((run / "samples").iterdir())
    assert generate(run, tiny_movie, tmp_path / "out", "--sequence", "01") == 0
    assert "5 frames painted in 1 sequence" in capsys.readouterr().out
    (sequence,) = movie.read_sequences(tmp_path / "out")
    assert sequence.track_source == "GT/TRA" and len(sequence.frames) == 5
    assert movie.read_tracks(sequence.tracks["GT/TRA"]) == ((1, 0, 2, 0), (2, 3, 4, 1))
    images = [read_image(file) for file in sequence.frames.values()]
    assert images[0].shape == (1, 48, 56) and images[0].dtype == np.uint8  # as the movie that was learned from
    assert not np.array_equal(images[0], images[1])
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert info["synthetic"]["by"] == "cytoforge generate movie" and info["complete"]
    capsys.readouterr()
    assert main(["check", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "5 pairs of image and mask" in said and "2 tracks" in said and "0 errors, 0 warnings" in said
    assert generate(run, tiny_movie, tmp_path / "out", "--sequence", "01") == 2  # finished
    whole, paint = content(tmp_path / "out"), FramePainter.paint
    for cut in range(5):
        left = iter(range(cut))

        def stopped(self, labels, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return paint(self, labels)

        out = tmp_path / f"cut{cut}"
        monkeypatch.setattr(FramePainter, "paint", stopped)
        assert generate(run, tiny_movie, out, "--sequence", "01") == 130
        monkeypatch.setattr(FramePainter, "paint", paint)
        assert generate(run, tiny_movie, out, "--sequence", "01") == 0
        assert content(out) == whole
    assert generate(run, tiny_movie, tmp_path / "other", "--sequence", "01", "--seed", "1") == 0
    assert not np.array_equal(read_image(tmp_path / "other" / "01" / "t000.tif"), images[0])


@pytest.mark.parametrize("published", [False, True])
def test_a_training_that_was_stopped_ends_as_if_it_had_not(
    published: bool, tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published one has RMSprop, one cycle and dropout."""
    sizes = ("width=4", "depth=2", "discriminator_width=4", "heads=0", "crop=32x32")
    flags = ["--preset", "paper", *(word for size in sizes for word in ("--set", size))]
    line = ["train", "movie", str(tiny_movie), "--threads", "1", "--steps", "3"]
    line += flags if published else ["--preset", "tiny"]
    step = MovieGAN.step

    def stopped(self, batch, progress, update):
        if batch.step == 2:
            raise KeyboardInterrupt
        return step(self, batch, progress, update)

    assert main([*line, "--out", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(MovieGAN, "step", stopped)
    assert main([*line, "--out", str(tmp_path / "again")]) == 130
    monkeypatch.setattr(MovieGAN, "step", step)
    assert main([*line, "--out", str(tmp_path / "again")]) == 0
    for file in (tmp_path / "whole" / "weights").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / "weights" / file.name).read_bytes(), file.name


def test_that_a_training_is_not_finished_is_said(run: Path, tiny_movie: Path, tmp_path: Path, capsys) -> None:
    assert generate(run, tiny_movie, tmp_path / "done", "--sequence", "02") == 0
    assert "not finished" not in capsys.readouterr().err
    provenance = json.loads((run / "provenance.json").read_text())
    del provenance["finished"]
    (run / "provenance.json").write_text(json.dumps(provenance))
    assert generate(run, tiny_movie, tmp_path / "early", "--sequence", "02") == 0
    assert f"{run}: its training is not finished, what it has learned so far is used" in capsys.readouterr().err


def test_a_background_of_ones_own(run: Path, tiny_movie: Path, tmp_path: Path, capsys) -> None:
    write_image(tmp_path / "empty.tif", np.full((1, 48, 56), 60, np.uint8))
    write_image(tmp_path / "wrong.tif", np.full((1, 48, 56), 60000, np.uint16))
    write_image(tmp_path / "rgb.tif", np.full((3, 48, 56), 60, np.uint8))
    assert generate(run, tiny_movie, tmp_path / "a", "--sequence", "02") == 0
    assert (
        generate(run, tiny_movie, tmp_path / "b", "--sequence", "02", "--background", str(tmp_path / "empty.tif")) == 0
    )
    one, other = (read_image(tmp_path / name / "02" / "t000.tif") for name in "ab")
    assert not np.array_equal(one, other)
    assert read_labels(tmp_path / "a" / "02_GT" / "SEG" / "man_seg000.tif").max() > 1  # no tracks: masks alone
    capsys.readouterr()
    for name, sentence in (("wrong", "most of its grey values lie beyond"), ("rgb", "has 3 channels")):
        file = tmp_path / f"{name}.tif"
        assert generate(run, tiny_movie, tmp_path / name, "--background", str(file)) == 2
        assert sentence in capsys.readouterr().err
    shutil.rmtree(run / "weights")
    assert generate(run, tiny_movie, tmp_path / "c") == 2


def test_that_no_mask_holds_a_cell_is_said(run: Path, tiny_movie: Path, tmp_path: Path, capsys) -> None:
    for file in tiny_movie.glob("02*/SEG/*.tif"):
        write_labels(file, np.zeros_like(read_labels(file)))
    assert generate(run, tiny_movie, tmp_path / "out") == 0
    said = f"{tiny_movie}: no mask of sequence 02 holds a cell; its frames are painted without"
    assert [line for line in capsys.readouterr().out.splitlines() if "no mask" in line] == [said]


def test_masks_at_the_scale_of_the_run_are_not_shrunk_again(run: Path, tiny_movie: Path, tmp_path: Path) -> None:
    described = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**described, "scale": 0.5}))
    for scale, size in ((1.0, (24, 28)), (0.5, (48, 56))):
        (tiny_movie / "dataset.json").write_text(json.dumps({"scale": scale}))
        out = tmp_path / f"{scale}"
        assert generate(run, tiny_movie, out, "--sequence", "01") == 0
        assert read_image(out / "01" / "t000.tif").shape[1:] == size
        assert json.loads((out / "dataset.json").read_text())["scale"] == 0.5


def test_what_is_no_movie_is_refused(run: Path, tiny_dataset: Path, tiny_movie: Path, tmp_path: Path, capsys) -> None:
    for line, sentence in (
        (f"train movie {tiny_dataset} --out {tmp_path / 'x'}", "is no movie folder"),
        (
            f"train movie {tiny_movie} --out {tmp_path / 'x'} --limit 3",
            "--limit: is no option of cytoforge train movie",
        ),
        (f"train movie {tiny_movie} --out {tmp_path / 'x'} --lag 4 --preset tiny", "6 are needed"),
        (f"generate movie {run} {tiny_dataset} --out {tmp_path / 'x'}", "is no movie folder"),
        (f"generate movie {run} {tiny_movie} --out {tiny_movie}", "holds the masks to paint on"),
    ):
        capsys.readouterr()
        assert main(line.split()) == 2
        assert sentence in capsys.readouterr().err


def test_ids_of_any_size_are_trained_on_and_painted(
    tiny_movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paintings of cells 1 and 2 are those of the same under ids of ten digits, which the movie holds as 1 and 2."""
    huge = tmp_path / "huge"
    shutil.copytree(tiny_movie, huge)
    for file in (huge / "01_GT" / "TRA").glob("*.tif"):
        labels = read_labels(file)
        write_labels(file, np.where(labels > 0, labels + 2_000_000_000, 0))
    (huge / "01_GT" / "TRA" / "man_track.txt").write_text("2000000001 0 2 0\n2000000002 3 4 2000000001\n")
    for masks in (tiny_movie, huge):
        line = ["train", "movie", str(masks), "--out", str(tmp_path / f"{masks.name}-run"), "--sequence", "01"]
        assert main([*line, "--preset", "tiny", "--threads", "1", "--steps", "1"]) == 0
        assert generate(tmp_path / "movie-run", masks, tmp_path / f"{masks.name}-out", "--sequence", "01") == 0
    assert "ids reach 2000000002 and 16 bits hold 65535, so they become 1 to 2 in order" in capsys.readouterr().out
    (plain,), (other,) = (movie.read_sequences(tmp_path / f"{name}-out") for name in ("movie", "huge"))
    assert movie.read_tracks(other.tracks["GT/TRA"]) == movie.read_tracks(plain.tracks["GT/TRA"])
    for number, labels in plain.tracked():
        assert np.array_equal(labels, other.read_tracked(number))
        assert np.array_equal(read_image(plain.frames[number]), read_image(other.frames[number]))
    weights = [Run.open(tmp_path / f"{name}-run").load_weights("low-resolution") for name in ("movie", "huge")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
