"""`--start` of generators and movies: each network goes on from the run that holds it; what does not fit is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cytoforge.cli import main
from cytoforge.data.images import read_image
from cytoforge.data.run import Run
from cytoforge.networks.flow import FlowNet
from cytoforge.networks.layers import initialise
from cytoforge.networks.movie import MovieGenerator, SuperResolution
from cytoforge.networks.patchgan import PatchGAN
from cytoforge.networks.style_unet import StyleUNet
from cytoforge.training.recipes.paired_gan import PairedGAN
from cytoforge.training.recipes.super_resolution import SuperResolutionGAN
from cytoforge.training.recipes.tgan import MovieGAN
from cytoforge.training.tasks.start import start_differences

NARROW = ("width=4", "depth=2", "discriminator_width=4", "heads=1", "head_width=64")
PAPER = ("--preset", "paper", "--threads", "1", "--steps", "1", *(part for s in NARROW for part in ("--set", s)))


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Import a network with weights of its own, as the authors' programs save it."""

    def make(name: str, network: nn.Module, folder: str | None = None) -> Path:
        initialise(network, torch.Generator().manual_seed(7))
        state = network.state_dict()
        if name == "movie":
            state = {published(key): tensor for key, tensor in state.items() if not key.startswith("background.e")}
        file, run = tmp_path / f"{folder or name}.pth", tmp_path / f"imported-{folder or name}"
        torch.save(state, file)
        assert main(["import", str(file), "--network", name, "--out", str(run)]) == 0
        capsys.readouterr()
        return run

    return make


def published(key: str) -> str:
    """The published name of a tensor of the movie generator."""
    part, _, rest = key.partition(".")
    if part in ("previous", "background"):
        return f"{part[0]}b.{rest[2:]}" if rest.startswith("b.") else f"p{rest}"
    return f"e{key}" if part == "b" else key


def first_weights(recipe: type, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, torch.Tensor]]:
    """Filled with the weights of all networks of a recipe as its first step finds them."""
    step, found = recipe.step, dict[str, dict[str, torch.Tensor]]()

    def watched(self: Any, *arguments: Any) -> Any:
        for name, network in self.networks.items():
            found.setdefault(name, {key: tensor.clone() for key, tensor in network.state_dict().items()})
        return step(self, *arguments)

    monkeypatch.setattr(recipe, "step", watched)
    return found


def equal(found: dict[str, torch.Tensor], run: Path, role: str) -> bool:
    weights = Run.open(run).load_weights(role)
    return found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in weights)


def test_an_image_generator_goes_on_from_imported_networks(
    imported, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    generator = imported("style-unet", StyleUNet(width=4, depth=2))
    judge = imported("patchgan", PatchGAN(width=4, heads=1))
    found = first_weights(PairedGAN, monkeypatch)
    line = ["train", "generator", str(tiny_dataset), *PAPER, "--resize", "48x64", "--start", str(generator)]
    assert main([*line, "--start", str(judge), "--out", str(tmp_path / "run")]) == 0
    assert equal(found["generator"], generator, "generator")
    assert equal(found["image_discriminator"], judge, "discriminator")
    said = capsys.readouterr().err
    assert (
        f"{generator}: was trained at --resize 512x768, and goes on at --resize 48x64: cells had another size" in said
    )
    run = Run.open(tmp_path / "run")
    fingerprints = {
        "generator": Run.open(generator).fingerprint("generator", ("condition", "scale", "resize", "normalisation")),
        "discriminator": Run.open(judge).fingerprint("discriminator", ("scale", "resize", "normalisation")),
    }
    assert run.provenance["started_from"] == fingerprints and run.config["start"] == [str(generator), str(judge)]
    assert run.metrics()[0]["step"] == 0  # what it started from is validated, too
    plain = first_weights(PairedGAN, monkeypatch)
    assert main([*line[:-2], "--out", str(tmp_path / "plain")]) == 0
    assert not equal(plain["generator"], generator, "generator")
    assert Run.open(tmp_path / "plain").provenance["started_from"] is None


def test_a_movie_generator_goes_on_from_imported_networks(
    imported, tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = imported("movie", MovieGenerator(width=4, depth=2))
    flow = imported("flow", FlowNet(width=4))
    judge = imported("patchgan", PatchGAN(in_channels=4, width=4, heads=1, dropout=0.3))
    assert [Run.open(run).config["resize"] for run in (generator, flow, judge)] == [[256, 384]] * 3
    found = first_weights(MovieGAN, monkeypatch)
    line = ["train", "movie", str(tiny_movie), *PAPER, "--resize", "48x64", "--out", str(tmp_path / "run")]
    assert main([*line, *(part for run in (generator, flow, judge) for part in ("--start", str(run)))]) == 0
    for name, run, role in (
        ("low-resolution", generator, "low-resolution"),
        ("flow", flow, "flow"),
        ("discriminator", judge, "discriminator"),
    ):
        assert equal(found[name], run, role), name
    run = Run.open(tmp_path / "run")
    assert run.provenance["started_from"].keys() == {"low-resolution", "flow", "discriminator"}
    assert run.config["mask_value"] == 0.4 and run.metrics()[0]["step"] == 0


def test_both_stages_go_on_from_the_runs_that_hold_their_networks(
    imported, tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    runs = [
        imported("movie", MovieGenerator(width=4, depth=2)),
        imported("patchgan", PatchGAN(in_channels=4, width=4, heads=1, dropout=0.3), "judge-of-movies"),
        imported("super-resolution", SuperResolution(width=4, depth=2)),
        imported("patchgan", PatchGAN(width=4, heads=1, dropout=0.3), "judge-of-frames"),
    ]
    starts = [part for run in runs for part in ("--start", str(run))]
    first, second = first_weights(MovieGAN, monkeypatch), first_weights(SuperResolutionGAN, monkeypatch)
    # --set is for the first stage alone, so each stage is trained by itself
    low = tmp_path / "low"
    common = ["train", "movie", str(tiny_movie), *PAPER]
    assert main([*common, "--resize", "32x48", *starts[:4], "--out", str(low)]) == 0
    alone = [*common, "--stage", "super-resolution", "--resize", "64x96", "--start", str(low), *starts[4:]]
    assert main([*alone, "--out", str(tmp_path / "high")]) == 0
    assert equal(first["low-resolution"], runs[0], "low-resolution")
    assert equal(first["discriminator"], runs[1], "discriminator")
    assert equal(second["super-resolution"], runs[2], "super-resolution")
    assert equal(second["discriminator"], runs[3], "discriminator")
    assert main([*alone, "--start", str(runs[0]), "--out", str(tmp_path / "x")]) == 2
    assert f"{runs[0]}: holds a movie generator, as {low} does; give only one of them" in capsys.readouterr().err
    masks = ["generate", "movie", str(tmp_path / "high"), str(tiny_movie), "--out", str(tmp_path / "out")]
    assert main([*masks, "--threads", "1", "--sequence", "01"]) == 0
    assert read_image(tmp_path / "out" / "01" / "t000.tif").shape == (1, 64, 96)
    assert read_image(tmp_path / "out" / "01_LOW" / "t000.tif").shape == (1, 32, 48)


@pytest.mark.parametrize(
    ("network", "flags", "sentence"),
    [
        (
            StyleUNet(width=8, depth=2),
            (),
            "needs a generator of the same kind; width 8 there, 4 here: use --preset tiny",
        ),
        (StyleUNet(2, width=4, depth=2), (), "channels of images 2 there, 1 here: convert the images"),
        (StyleUNet(width=4, depth=2), ("--condition", "instances"), "mask there, instances here: use --condition mask"),
        (StyleUNet(width=4, depth=2), ("--set", "upsampling=nearest"), "use --set upsampling=transposed"),
        (StyleUNet(width=4, depth=2), ("--background", "real"), "residual False there, True here: use --background"),
        (StyleUNet(width=4, depth=3), (), "depth 3 there, 2 here: no flag changes that"),
        (StyleUNet(width=4, depth=2), ("--network", "unet"), "use --network style-unet"),
    ],
)
def test_a_generator_of_another_kind_is_named_with_the_remedy(
    network: nn.Module, flags: tuple[str, ...], sentence: str, imported, tiny_dataset: Path, tmp_path: Path, capsys
) -> None:
    run = imported("style-unet", network)
    line = [
        "train",
        "generator",
        str(tiny_dataset),
        *PAPER,
        "--start",
        str(run),
        "--out",
        str(tmp_path / "out"),
        *flags,
    ]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"cytoforge: {run}: --start needs a generator of the same kind; ")
    assert sentence in said and not (tmp_path / "out").exists()


def test_runs_that_hold_nothing_of_use_are_refused(imported, tiny_dataset, tiny_movie, tmp_path: Path, capsys) -> None:
    generator = imported("style-unet", StyleUNet(width=4, depth=2))
    again = imported("style-unet", StyleUNet(width=4, depth=2), "again")
    movie = imported("movie", MovieGenerator(width=4, depth=2))
    images, film = (
        ["train", kind, str(data), *PAPER] for kind, data in (("generator", tiny_dataset), ("movie", tiny_movie))
    )
    for line, sentence in (
        (
            [*images, "--start", str(movie)],
            f"{movie}: --start needs a generator or discriminator, and this run has none; name a run that holds one",
        ),
        (
            [*images, "--start", str(generator), "--start", str(again)],
            f"{again}: holds a generator, as {generator} does",
        ),
        (
            [*film, "--start", str(generator)],
            f"{generator}: --start needs a movie generator or flow network or discriminator, and this run has none",
        ),
        ([*film, "--stage", "both", "--start", str(generator)], "needs a network of either stage"),
        (
            [*film, "--start", str(movie), "--set", "mask_value=1"],
            "mask_value 0.4 there, 1.0 here: use --set mask_value=0.4",
        ),
        ([*film, "--start", str(movie), "--window", "3"], "channels of masks 2 there, 3 here: use --window 2"),
        ([*film, "--start", str(movie), "--lag", "2"], "lag 1 there, 2 here: use --lag 1"),
        ([*film, "--start", str(movie), "--method", "vid2vid"], "--start belongs to --method tgan"),
        ([*images, "--start", str(tmp_path)], "is no run folder"),
    ):
        assert main([*line, "--out", str(tmp_path / "x")]) == 2, sentence
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
    assert main([*images, "--start", str(generator), "--out", str(generator)]) == 2
    assert "--out would replace the run given with --start" in capsys.readouterr().err


def test_options_that_are_not_stored_count_as_their_defaults() -> None:
    there = {"network": "style-unet", "in_channels": 1, "width": 64, "condition": "mask"}
    here = {**there, "out_channels": 1, "depth": 4, "norm": "batch", "upsampling": "transposed"}
    assert start_differences(there, here) == []
    assert start_differences(there, {**here, "norm": "group"}) == ["norm batch there, group here: use --norm batch"]


def test_an_imported_generator_paints_at_the_size_it_was_trained_at(
    imported, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = imported("style-unet", StyleUNet(width=4, depth=2))
    assert Run.open(run).config["resize"] == [512, 768]
    out = tmp_path / "painted"
    assert main(["generate", "images", str(run), str(tiny_dataset), "--out", str(out), "--threads", "1"]) == 0
    image = read_image(next(iter(sorted((out / "images").iterdir()))))
    assert image.shape == (1, 512, 768) and np.ptp(image) > 0
