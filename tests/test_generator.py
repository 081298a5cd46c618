"""`train generator`: its step does what Eq. 6, 10, 12 and 14 say, and the command makes a run that paints."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scipy import ndimage
from torch import Tensor, nn

from cytoforge.cells.augment import apply_diff_augment, draw_diff_augment
from cytoforge.cells.backgrounds import MARGIN
from cytoforge.cells.instances import CONDITIONS, condition
from cytoforge.cli import main
from cytoforge.commands.train import generator_parameters, specified
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import UserError
from cytoforge.inference.load import load_network
from cytoforge.inference.painting import paint
from cytoforge.losses import CycleWeights, texture_loss
from cytoforge.networks.features import VGG19Features
from cytoforge.networks.layers import initialise
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.style_unet import StyleUNet, UNetGenerator, draw_styles
from cytoforge.settings import TrainGenerator
from cytoforge.simulation.phantom import phantom
from cytoforge.training import hyperparameters
from cytoforge.training.data import open_data
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.networks import build_generator, describe_generator
from cytoforge.training.recipes.painting import (
    TEXTURE_WINDOWS,
    FeatureComparison,
    Painting,
    comparison,
    discriminator_features,
)
from cytoforge.training.recipes.paired_gan import PairedGAN
from cytoforge.training.samplers.items import Batch
from cytoforge.training.tasks import generator as module
from cytoforge.training.tasks.generator import backgrounds, on_background
from cytoforge.training.tasks.task import feature_network

WEIGHTS = CycleWeights(adversarial=1, identity_image=3)


def features(image: Tensor) -> list[Tensor]:
    return [image, nn.functional.avg_pool2d(image, 2)]


def recipe(kind: str = "mask", compare: str = "features", **options) -> PairedGAN:
    """A small one; `compare` as `perceptual`, or "halves" for the image and half of it."""
    generator = StyleUNet(CONDITIONS[kind], width=4, depth=2, upsampling="nearest")
    discriminator = PatchGAN(width=4, heads=2, head_width=4)
    for seed, network in enumerate((generator, discriminator)):
        initialise(network, torch.Generator().manual_seed(seed))
    parameters = replace(
        hyperparameters.GENERATOR["tiny"],
        weights=WEIGHTS,
        generator_rate=1e-3,
        discriminator_rate=1e-3,
        condition=kind,
        anneal=False,
        **options,
    )
    halves = FeatureComparison(features, (0.5, 0.25), "the image, and half of it")
    compared = halves if compare == "halves" else comparison(compare, discriminator, None)
    return PairedGAN(Painting(generator, kind), discriminator, compared, parameters)


def batch() -> Batch:
    labels = torch.zeros(2, 32, 40, dtype=torch.int64)
    labels[0, 4:14, 5:15], labels[0, 14:24, 5:15], labels[1, 10:30, 20:33] = 1, 2, 7
    images = torch.where(labels > 0, 0.4, -0.5).unsqueeze(1)
    images = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(5))
    return Batch(images, labels, seed=1, step=0, items=(0, 1), names=("a", "b"))


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("p_diff", [0.0, 1.0])
def test_gradients_equal_those_of_the_equations_written_out(kind: str, p_diff: float) -> None:
    gan, data = recipe(kind, "halves", p_diff=p_diff), batch()
    found: dict[str, list[Tensor]] = {}

    def record(name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = ()) -> None:
        parameters = [p for group in gan.optimisers[name].param_groups for p in group["params"]]
        roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
        found[name] = list(torch.autograd.grad(roots, parameters, seeds))

    losses = gan.step(data, 1.0, record)
    generator, discriminator = gan.paint.generator, gan.discriminator
    drawn = data.generators("forward")
    styles = torch.cat([draw_styles(1, 2, g) for g in drawn])
    noise = torch.stack([torch.rand((1, 32, 40), generator=g) for g in drawn])
    painted = generator(condition(data.labels, kind), styles, noise)
    shift = draw_diff_augment(data.generators("diff"), data.images.shape, p_diff)
    adversarial = (discriminator(apply_diff_augment(painted, shift)) - 1).square().mean()
    pairs = zip(features(painted), features(data.images), (0.5, 0.25), strict=True)
    distance = (painted - data.images).abs().mean() + sum(w * (a - b).abs().mean() for a, b, w in pairs)
    real = discriminator(apply_diff_augment(data.images, shift))
    fake = discriminator(apply_diff_augment(painted.detach(), shift))
    against = 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()
    expected = {"adversarial_image": adversarial, "identity_image": distance, "discriminator_image": against}
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
    plain = {
        "generator": torch.autograd.grad(adversarial + 3 * distance, list(generator.parameters())),
        "image discriminator": torch.autograd.grad(against, list(discriminator.parameters())),
    }
    for name, gradients in plain.items():
        for one, other in zip(found[name], gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_cells_are_added_to_the_background_that_comes_with_the_image() -> None:
    gan, data = recipe(), batch()
    gan.paint = Painting(StyleUNet(2, width=4, depth=2, upsampling="nearest", residual=True))
    nn.init.zeros_(gan.paint.generator.outputs.weight)
    nn.init.zeros_(gan.paint.generator.outputs.bias)
    background = torch.rand(data.images.shape, generator=torch.Generator().manual_seed(6))
    losses = gan.step(replace(data, images=torch.cat([data.images, background], 1)), 1.0, lambda *a, **k: None)
    expected = gan.compare(data.images)(background)  # nothing is added yet
    torch.testing.assert_close(losses["identity_image"], expected)


def test_l1_alone_compares_pixels_alone() -> None:
    gan = recipe(compare="none")
    image = batch().images
    assert gan.perceptual is None
    assert gan.compare(image)(image + 0.25).item() == pytest.approx(0.25, rel=1e-5)
    assert recipe().compare(image)(image + 0.25).item() > 0.25
    assert recipe().perceptual == "features of the image discriminator"


def test_a_step_changes_both_networks_style_and_noise_included() -> None:
    gan = recipe()
    before = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in gan.networks.items()}
    Trainer(gan, Fabric(accelerator="cpu", devices=1), decay=0.9).step(batch(), 0.5)
    for name, network in gan.networks.items():
        same = [key for key, value in network.named_parameters() if torch.equal(value, before[name][key])]
        assert same == [], name


def test_short_trainings_start_with_less_noise_and_the_papers_as_drawn() -> None:
    gain = {}
    for preset in ("small", "paper"):
        parameters = replace(hyperparameters.GENERATOR[preset], perceptual="none")
        described = describe_generator(parameters, 1)
        drawn = build_generator(described, 0).state_dict()
        built = PairedGAN.build(parameters, described, 0).paint.generator
        for name, value in built.state_dict().items():
            if "to_noise" in name and name.endswith("weight"):
                torch.testing.assert_close(value, drawn[name] * {"small": 0.3, "paper": 1}[preset])
                gain[name] = value
            else:
                assert torch.equal(value, drawn[name]), name
    assert len(gain) == 8  # two layers of four blocks


@pytest.fixture
def trained(tiny_dataset: Path, tmp_path: Path):
    def train(*flags: str) -> Path:
        out = tmp_path / "run"
        line = ["train", "generator", str(tiny_dataset), "--out", str(out), "--preset", "tiny", "--threads", "1"]
        assert main([*line, "--steps", "3", *flags]) == 0
        return out

    return train


def test_the_run_tells_how_to_paint(trained, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.delenv("CYTOFORGE_WEIGHTS", raising=False)
    out = trained("--condition", "instances")
    shown = capsys.readouterr()
    assert "generator trained in 3 steps, not enough yet; cytoforge generate images " in shown.out
    assert "VGG" not in shown.err  # not asked for, so not missed
    described = json.loads((out / "config.json").read_text())
    assert described["command"] == "train generator"
    assert described["condition"] == "instances"
    assert list(described["networks"]) == ["generator"]
    assert described["networks"]["generator"]["in_channels"] == 4  # instances, and a grey background
    assert described["networks"]["generator"]["residual"] is True
    assert described["networks"]["generator"]["upsampling"] == "nearest"
    assert {path.stem for path in (out / "weights").iterdir()} == {"generator", "backgrounds"}
    labels = np.zeros((40, 56), np.int32)
    labels[5:20, 5:20], labels[5:20, 20:35] = 1, 2
    generator = load_network(out)
    bank = [image.numpy() for image in Run.open(out).load_weights("backgrounds").values()]
    one, other = (
        paint(generator, labels, "instances", torch.Generator().manual_seed(seed), bank=bank) for seed in (0, 1)
    )
    assert one.shape == (1, 40, 56) and not np.array_equal(one, other)
    assert "Painted images" in (out / "report.html").read_text()
    assert len(Run.open(out).metrics()) == 3
    assert all(0 <= row["validation"] <= 1 for row in Run.open(out).metrics())


def test_backgrounds_are_painted_on_request_and_as_in_the_paper(trained) -> None:
    out = trained("--background", "painted")
    assert json.loads((out / "config.json").read_text())["networks"]["generator"]["in_channels"] == 1
    assert {path.stem for path in (out / "weights").iterdir()} == {"generator"}
    default = TrainGenerator(data=Path("x"), out=Path("y"))

    def background(**options: Any) -> str:
        return generator_parameters(replace(default, **options)).background

    assert background() == background(preset="paper", background="real") == "real"
    for other in ({"preset": "paper"}, {"network": "unet"}, {"augmentation": "strong"}, {"background": "painted"}):
        assert background(**other) == "painted"


def test_the_emptiest_images_are_kept_as_backgrounds(tmp_path: Path, monkeypatch) -> None:
    for seed, cells in enumerate((5, 9, 2, 7)):
        image, labels = phantom(seed, (96, 96), cells)
        write_image(tmp_path / "data" / "images" / f"{seed}.tif", image[None])
        write_labels(tmp_path / "data" / "masks" / f"{seed}.tif", labels)
    data = open_data(specified(TrainGenerator(data=tmp_path / "data", out=tmp_path / "run")).data, seed=0)
    monkeypatch.setattr(module, "KEPT_BACKGROUNDS", 2)
    kept = backgrounds(data, 0)
    covered = [np.count_nonzero(data.read(i)[1]) for i in range(len(data.names))]
    for image, i in zip(kept, np.argsort(covered)[:2], strict=True):
        whole, labels = data.read(int(i))
        both, same = on_background(data, 0)(int(i))
        np.testing.assert_array_equal(both, np.concatenate([whole, image]))
        np.testing.assert_array_equal(same, labels)
        gone, near = np.abs(image - whole)[0], ndimage.maximum_filter(labels > 0, 2 * MARGIN + 1, mode="constant")
        assert gone[labels > 0].mean() > 0.1 and not gone[~near].any()


def test_the_ablation_trains(trained) -> None:
    out = trained("--network", "unet", "--loss", "l1")
    described = json.loads((out / "config.json").read_text())
    assert described["perceptual"] is None
    assert isinstance(load_network(out), UNetGenerator)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--minutes 1 --steps 2", "give one of --minutes, --steps and --epochs"),
        ("--network deepsea", "invalid choice"),
        ("--fold 3/2", "names no part"),
        ("--background real --network unet", "--background real belongs to --network style-unet"),
        ("--background real --augmentation strong", "other augmentation than flip would part image and background"),
    ],
)
def test_contradictions_are_refused(
    flags: str, sentence: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["train", "generator", str(tiny_dataset), "--out", str(tmp_path / "run"), *flags.split()])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_textures_are_compared_instead_of_pixels_in_short_trainings(tmp_path: Path) -> None:
    config = TrainGenerator(data=tmp_path, out=tmp_path, preset="tiny", background="painted")

    def built(**options: Any) -> PairedGAN:
        parameters = generator_parameters(replace(config, **options))
        return PairedGAN.build(parameters, describe_generator(parameters, 1), seed=0)

    short = built()
    assert short.perceptual == "local statistics of the image discriminator's features"
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    painted = image.flip(3)
    found = short.compare(image)(painted)
    matched = discriminator_features(short.discriminator)
    maps = [[one, *matched(one)] for one in (painted, image)]
    torch.testing.assert_close(found, texture_loss(*maps, TEXTURE_WINDOWS))
    assert built(loss="l1").perceptual is None
    on_real = built(background="real")  # which need not be invented
    assert on_real.perceptual == "features of the image discriminator"


def test_vgg_is_for_long_trainings_and_for_who_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_weights: Path
) -> None:
    def network(weights: Path | None, **options: Any) -> VGG19Features | None:
        config = TrainGenerator(data=tmp_path, out=tmp_path, weights_dir=weights, **options)
        return feature_network(generator_parameters(config), specified(config).compute.weights_dir)

    monkeypatch.delenv("CYTOFORGE_WEIGHTS", raising=False)
    assert network(real_weights) is network(None, preset="paper") is None
    assert network(real_weights, preset="paper", perceptual="features") is None
    for asked in ({"preset": "paper"}, {"perceptual": "vgg"}):
        assert isinstance(network(real_weights, **asked), VGG19Features)
    with pytest.raises(UserError, match=r"--perceptual vgg: this needs vgg19.*fetch vgg19, or name the folder"):
        network(None, perceptual="vgg")
    with pytest.raises(UserError, match=f"which {tmp_path} does not hold; .* or name another folder"):
        network(tmp_path, perceptual="vgg")


def test_what_cannot_be_scored_later_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        image, labels = phantom(seed, (64, 64), 6)
        write_image(tmp_path / "two" / "images" / f"{seed}.tif", np.stack([image, image[::-1]]))
        write_labels(tmp_path / "two" / "masks" / f"{seed}.tif", labels)
    flags = ["--preset", "tiny", "--steps", "1", "--threads", "1"]
    assert main(["train", "generator", str(tmp_path / "two"), "--out", str(tmp_path / "run"), *flags]) == 0
    assert "two: images have 2 channels; score generation takes only grey or RGB images" in capsys.readouterr().err


def test_a_missing_vgg_is_missed(trained, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.delenv("CYTOFORGE_WEIGHTS", raising=False)
    trained("--set", "perceptual=vgg or features")
    assert "falls back to matching the discriminator's features" in capsys.readouterr().err
