"""`train movie --stage both`, and `generate movie` with two stages: pairs, losses, runs, frames of full size."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from conftest import content
from cytoforge.cli import main
from cytoforge.data import movie
from cytoforge.data.film import Film, write_film
from cytoforge.data.images import read_image, read_labels, resize_image, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.inference.enlarge import Enlarger, padded
from cytoforge.inference.frames import reduced
from cytoforge.inference.load import load_network
from cytoforge.inference.painting import from_grey, grey
from cytoforge.losses import SuperResolutionWeights
from cytoforge.networks.movie import SuperResolution, shrink
from cytoforge.training import hyperparameters
from cytoforge.training.loop import Trainer
from cytoforge.training.recipes.super_resolution import SuperResolutionGAN
from cytoforge.training.recipes.tgan import MovieGAN
from cytoforge.training.samplers.items import Batch, Drawing
from cytoforge.training.samplers.pairs import PairBatch, Pairs
from cytoforge.training.tasks.super_resolution import describe


def read(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame i of 45 x 39 pixels: a number of its own in each, and the same as labels."""
    labels = (np.arange(45 * 39, dtype=np.int32) + 1).reshape(45, 39)
    return (labels / 2000 + i / 10)[None].astype(np.float32), labels


def pairs(factor: int = 2, size: tuple[int, int] = (8, 8), count: int = 4) -> Pairs:
    small = np.arange((-(-45 // factor)) * (-(-39 // factor))).reshape(1, -(-45 // factor), -(-39 // factor))
    painted = [[(small + 10000 * style).astype(np.uint16) for style in range(2)] for _ in range(3)]
    drawing = Drawing(size=size, count=count, policy="flip", seed=3)
    return Pairs(["a", "b", "c"], read, painted, factor, drawing)


def recipe(factor: int = 2, **weights: float) -> SuperResolutionGAN:
    parameters = replace(hyperparameters.SUPER_RESOLUTION["tiny"], factor=factor, p_diff=0.0, anneal=False)
    if weights:
        none = dict.fromkeys(("adversarial", "pixels", "perceptual"), 0.0)
        parameters = replace(parameters, weights=SuperResolutionWeights(**{**none, **weights}))
    return SuperResolutionGAN.build(parameters, describe(parameters, 1), seed=0)


@pytest.mark.parametrize("factor", [2, 4])
def test_small_windows_lie_where_the_large_ones_do(factor: int) -> None:
    columns = -(-39 // factor)
    seen_kinds, styles = set(), set()
    for step in range(12):
        batch = pairs(factor)(step)
        assert batch.images.shape == (4, 1, 8 * factor, 8 * factor) and batch.small.shape == (4, 1, 8, 8)
        for image, labels, small, painted in zip(batch.images, batch.labels, batch.small, batch.synthetic, strict=True):
            seen_kinds.add(painted)
            if not painted:
                torch.testing.assert_close(small, shrink(image[None], factor)[0])
                continue
            numbers = np.round((small[0].numpy() + 1) * 65535 / 2).astype(int)
            styles.update((numbers // 10000).ravel().tolist())
            numbers %= 10000
            place = (labels[factor // 2 :: factor, factor // 2 :: factor] - 1).numpy()
            # the pixel in the middle of a block says where the block is, but where the last rows are repeated
            inside = (numbers // columns < 45 // factor) & (numbers % columns < 39 // factor)
            assert inside.any()
            np.testing.assert_array_equal((place // 39 // factor)[inside], (numbers // columns)[inside])
            np.testing.assert_array_equal((place % 39 // factor)[inside], (numbers % columns)[inside])
    assert seen_kinds == {True, False} and styles == {0, 1}


def test_a_window_depends_on_its_own_seed_only_and_is_continued_by_reflection() -> None:
    one, again, alone = pairs()(5), pairs()(5), pairs(count=1)(5)
    assert torch.equal(one.images, again.images) and torch.equal(one.small, again.small)
    assert torch.equal(one.images[0], alone.images[0]) and one.synthetic[0] == alone.synthetic[0]
    assert not torch.equal(one.images, pairs()(6).images)
    large = pairs(size=(50, 44), count=1)(5)  # the whole frame, 46 x 40 with repeated edges, and its reflection
    image = large.images[0, 0]
    assert image.shape == (100, 88) and large.small.shape == (1, 1, 50, 44)
    assert torch.equal(image[:46], image[46:92].flip(0)) or torch.equal(image[-46:], image[-92:-46].flip(0))


def test_reducing_is_that_of_files() -> None:
    image = np.random.default_rng(0).random((2, 24, 32)).astype(np.float32)
    for factor in (2, 4):
        expected = resize_image(image, (24 // factor, 32 // factor))
        np.testing.assert_allclose(shrink(torch.from_numpy(image)[None], factor)[0], expected, atol=1e-6)


def test_labels_are_reduced_on_the_grid_of_the_enlarged_frame() -> None:
    labels = np.zeros((5, 7), np.int32)
    labels[4, 6], labels[0:2, 0:2] = 3, 9
    np.testing.assert_array_equal(reduced(labels, 2), [[9, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3]])
    np.testing.assert_array_equal(reduced(labels, 1), labels)
    assert padded(labels, 4).shape == (8, 8) and padded(labels, 4)[7, 7] == 3


@pytest.mark.parametrize("term", ["pixels", "perceptual", "adversarial"])
@pytest.mark.parametrize("painted", [True, False])
def test_each_loss_alone_trains_the_generator(term: str, painted: bool) -> None:
    gan = recipe(**{term: 1.0})
    torch.nn.init.normal_(gan.discriminator.model[-1].weight, generator=torch.Generator().manual_seed(0))
    batch = next(b for step in range(50) if (b := pairs(size=(16, 16), count=1)(step)).synthetic == (painted,))
    found: dict[str, float] = {}

    def record(name: str, loss: Tensor, *, given: tuple[tuple[Tensor, Tensor], ...] = ()) -> None:
        parameters = [p for group in gan.optimisers[name].param_groups for p in group["params"]]
        roots, seeds = [loss, *(t for t, _ in given)], [None, *(g for _, g in given)]
        grads = torch.autograd.grad(roots, parameters, seeds, allow_unused=True, retain_graph=True)
        found[name] = sum(float(g.abs().sum()) for g in grads if g is not None)

    gan.step(batch, 0.5, record)
    assert found["generator"] > 0 and found["discriminator"] > 0


@pytest.mark.parametrize("factor", [2, 4])
def test_the_losses_are_those_of_equation_2(factor: int) -> None:
    gan = recipe(factor)
    real, small = torch.rand(2, 1, 16 * factor, 16 * factor), torch.rand(2, 1, 16, 16)
    labels = torch.zeros(2, 16 * factor, 16 * factor, dtype=torch.long)
    batch = PairBatch(real, labels, 0, 0, (0, 1), ("a", "b"), (True, False), small=small)
    kept: list[Tensor] = []
    gan.generator.register_forward_hook(lambda net, args, out: kept.append(out))
    losses = gan.step(batch, 0.5, lambda *args, **options: None)
    blocks = torch.nn.functional.interpolate(kept[0][:1], scale_factor=1 / factor, mode="bilinear", antialias=True)
    expected = ((blocks - small[:1]).abs().mean() + (kept[0][1:] - real[1:]).abs().mean()) / 2
    torch.testing.assert_close(losses["pixels"], expected)
    assert losses["adversarial"] == 1 and losses["discriminator"] == 0.5  # the scores start at 0
    same = PairBatch(kept[0].detach(), labels, 0, 0, (0, 1), ("a", "b"), (False, False), small=small)
    gan = recipe(factor)
    assert gan.step(same, 0.5, lambda *args, **options: None)["perceptual"] < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_a_published_training_begins_with_an_adversarial_loss_of_about_one(seed: int) -> None:
    """By the rule of cGAN-Seg it was 700 to 830 at the published width."""
    parameters = replace(hyperparameters.SUPER_RESOLUTION["paper"], width=16, discriminator_width=16)
    gan = SuperResolutionGAN.build(parameters, describe(parameters, 1), seed)
    torch.manual_seed(seed)  # of dropout
    losses = gan.step(pairs(size=(16, 16), count=2)(seed), 0.0, lambda *arguments, **options: None)
    assert 0.3 < losses["adversarial"] < 3 and 0.2 < losses["discriminator"] < 2


def test_windows_of_a_published_training_are_varied_in_pairs() -> None:
    """A pair that is not degraded stays a pair: what is painted, enlarged and reduced, is compared with itself."""
    plain = pairs(size=(16, 16), count=4)
    drawing = replace(plain.drawing, policy="paper", p_vanilla=1.0)
    varied = Pairs(plain.names, read, plain.painted, 2, drawing)
    unvaried = Pairs(plain.names, read, plain.painted, 2, replace(drawing, p_vanilla=0.0))
    changed = 0
    for step in range(6):
        batch, before = varied(step), unvaried(step)
        assert batch.synthetic == before.synthetic and batch.small.shape == before.small.shape
        assert torch.equal(batch.images, varied(step).images)
        for k, painted in enumerate(batch.synthetic):
            if not painted:
                torch.testing.assert_close(before.small[k], shrink(before.images[k : k + 1], 2)[0])
            changed += not torch.equal(batch.images[k], before.images[k])
    assert changed > 18


def test_both_networks_change_and_learn() -> None:
    gan = recipe(pixels=1.0)
    trainer = Trainer(gan, Fabric(accelerator="cpu", devices=1), decay=0.9)
    batch = pairs(size=(16, 16), count=1)(0)
    losses = [trainer.step(batch, 0.5) for _ in range(30)]
    assert losses[-1]["pixels"] < 0.5 * losses[0]["pixels"]
    images = torch.zeros(1, 1, 16, 16)
    with pytest.raises(TypeError, match="on pairs"):
        gan.step(Batch(images, images[:, 0].long(), 0, 0, (0,), ("a",)), 0.5, lambda *args, **options: None)


@pytest.mark.parametrize(("factor", "norm"), [(2, "batch"), (4, "batch"), (2, "group")])
def test_tiles_equal_one_pass_and_any_size_fits(factor: int, norm: str) -> None:
    network = SuperResolution(width=8, depth=2, factor=factor, norm=norm, upsampling="nearest")
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.eval()
    size = (factor * 150 - 1, factor * 61 - (factor - 1))
    image = np.random.default_rng(0).uniform(-1, 1, (1, 150, 61)).astype(np.float32)
    enlargers = [Enlarger(network, size, torch.Generator().manual_seed(1)) for _ in range(2)]
    whole = enlargers[0].enlarge(image)
    assert whole.shape == (1, *size)
    with torch.no_grad():
        direct = network(torch.from_numpy(image)[None], enlargers[0].styles, enlargers[0].noise)[0].numpy()
    np.testing.assert_allclose(whole.astype(int), grey(direct).astype(int)[:, : size[0], : size[1]], atol=8, rtol=0)
    enlargers[1].tile = 96
    tiled = enlargers[1].enlarge(image)
    difference = np.abs(from_grey(tiled) - from_grey(whole))
    assert difference.max() < 1e-4 if norm == "batch" else difference.mean() < 0.05
    assert whole.std() > 100
    for wrong in ((1, 149, 61), (1, 150, 62)):
        with pytest.raises(ValueError, match="do not fill"):
            enlargers[0].enlarge(np.zeros(wrong, np.float32))


def test_equal_frames_give_equal_films(tmp_path: Path) -> None:
    """Also where memory held other things before: of noisy frames of 56 px, x264 made five films with AVX-512."""
    draw = np.random.default_rng(0)
    frames = [(60 + draw.normal(0, 60, (1, 48, 56))).clip(0, 255).astype(np.uint8) for _ in range(5)]
    films = set()
    for number in range(12):
        _ = [draw.integers(0, 255, int(size), dtype=np.uint8) for size in draw.integers(100, 60_000, 30)]
        write_film(tmp_path / f"{number}.mp4", frames)
        films.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(films) == 1


def test_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y, x = np.mgrid[:31, :44]
    frames = [(3 * y + 2 * x + 5 * t).astype(np.uint8)[None] for t in range(4)]
    write_film(tmp_path / "grey.mp4", iter(frames))
    film = np.stack(list(Film(tmp_path / "grey.mp4")))
    assert film.shape == (4, 1, 30, 44)
    assert np.abs(film.astype(int) - np.stack(frames)[:, :, :30].astype(int)).mean() < 3
    colours = [np.concatenate([frame, frame // 2, 255 - frame]) for frame in frames]
    write_film(tmp_path / "rgb.mp4", colours)
    film = np.stack(list(Film(tmp_path / "rgb.mp4")))
    assert film.shape == (4, 3, 30, 44) and np.abs(film - np.stack(colours)[:, :, :30].astype(float)).mean() < 6
    write_film(tmp_path / "flat.mp4", [np.full((1, 1, 45), 99, np.uint8)])
    assert Film(tmp_path / "flat.mp4").shape == (1, 2, 44)
    with pytest.raises(ValueError, match="needs a frame"):
        write_film(tmp_path / "none.mp4", [])
    content = (tmp_path / "rgb.mp4").read_bytes()
    (tmp_path / "brand.mp4").write_bytes(content.replace(b"iso2", b"is\xb02", 1))  # no UTF-8
    assert np.array_equal(np.stack(list(Film(tmp_path / "brand.mp4"))), film) and b"iso2" in content
    assert main(["import", "movie", str(tmp_path / "grey.mp4"), "--out", str(tmp_path / "movie")]) == 0
    (sequence,) = movie.read_sequences(tmp_path / "movie")
    assert len(sequence.frames) == 4 and read_image(sequence.frames[0]).shape == (1, 30, 44)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "rgb.mp4").read_bytes()[:200])
    assert main(["import", "movie", str(tmp_path / "broken.mp4"), "--out", str(tmp_path / "other")]) == 2
    assert "broken.mp4: cannot be read as a film" in capsys.readouterr().err


STEPS = ("--preset", "tiny", "--threads", "1", "--steps", "5", "--factor", "2")


@pytest.fixture(scope="session")
def movie_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequence 01 of 5 frames of 45 x 51 pixels: one cell that moves, tracked."""
    path = tmp_path_factory.mktemp("odd") / "movie"
    for t in range(5):
        labels = np.zeros((45, 51), np.int32)
        labels[10:26, 5 + 4 * t : 25 + 4 * t] = 4
        noise = np.random.default_rng(t).normal(0, 8, labels.shape)
        write_image(
            path / "01" / f"t{t:03d}.tif", np.clip(60 + 120 * (labels > 0) + noise, 0, 255).astype(np.uint8)[None]
        )
        write_labels(path / "01_GT" / "TRA" / f"man_track{t:03d}.tif", labels)
    (path / "01_GT" / "TRA" / "man_track.txt").write_text("4 0 4 0\n")
    return path


@pytest.fixture(scope="session")
def run(movie_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("both") / "run"
    assert main(["train", "movie", str(movie_folder), "--out", str(out), "--stage", "both", *STEPS]) == 0
    return out


def generate(run: Path, masks: Path, out: Path, *flags: str) -> int:
    return main(["generate", "movie", str(run), str(masks), "--out", str(out), "--threads", "1", *flags])


def test_a_run_of_both_stages_holds_both_networks(run: Path, movie_folder: Path, capsys) -> None:
    first, second = Run.open(run / "stages" / "low-resolution"), Run.open(run)
    assert first.provenance["steps"] == 3 and second.provenance["steps"] == 2  # 60 and 40 % of 5
    assert first.config["scale"] == 0.5 and second.config["scale"] == 1
    assert load_network(run).state_dict().keys() == load_network(first).state_dict().keys()
    network = load_network(run, "super_resolution")
    image, styles, noise = torch.zeros(1, 1, 20, 24), torch.zeros(1, 6, 128), torch.zeros(1, 1, 40, 48)
    assert network(image, styles, noise).shape == (1, 1, 40, 48)
    assert (run / "weights" / "low-resolution.safetensors").exists()
    assert "Enlarged" in (run / "report.html").read_text() and list((run / "samples").iterdir())
    assert main(["train", "movie", str(movie_folder), "--out", str(run), "--stage", "both", *STEPS]) == 2
    assert "holds results already" in capsys.readouterr().err


def test_frames_of_full_size_and_resume(
    run: Path, movie_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = tmp_path / "whole"
    assert generate(run, movie_folder, out) == 0
    (sequence,) = movie.read_sequences(out)
    assert len(sequence.frames) == 5 and sequence.track_source == "GT/TRA"
    assert read_image(sequence.frames[3]).shape == (1, 45, 51)
    np.testing.assert_array_equal(
        read_labels(sequence.masks["GT/TRA"][3]), read_labels(movie_folder / "01_GT" / "TRA" / "man_track003.tif")
    )
    assert read_image(out / "01_LOW" / "t003.tif").shape == (1, 23, 26)
    assert np.stack(list(Film(out / "01.mp4"))).shape == (5, 1, 44, 50)
    capsys.readouterr()
    assert main(["check", str(out)]) == 0
    assert "01_LOW" not in (said := capsys.readouterr().out) and "mp4" not in said
    assert "5 pairs of image and mask" in said and "1 track" in said and "0 errors, 0 warnings" in said
    whole, enlarge = content(out), Enlarger.enlarge
    for cut in (0, 2):
        left = iter(range(cut))

        def stopped(self, image, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return enlarge(self, image)

        out = tmp_path / f"cut{cut}"
        monkeypatch.setattr(Enlarger, "enlarge", stopped)
        assert generate(run, movie_folder, out) == 130
        monkeypatch.setattr(Enlarger, "enlarge", enlarge)
        kept = {name: (out / name).stat().st_ino for name in content(out) if "LOW" in name}
        assert len(kept) == cut + 1 and generate(run, movie_folder, out) == 0
        assert content(out) == whole
        assert all((out / name).stat().st_ino == node for name, node in kept.items())  # not painted again
    assert generate(run, movie_folder, out, "--seed", "1") == 2
    assert generate(run, movie_folder, out, "--seed", "1", "--overwrite") == 0
    changed = content(out)
    assert all(changed[name] != whole[name] for name in ("01.mp4", "01/t002.tif", "01_LOW/t002.tif"))


def test_films_to_look_at_are_left_out_without_the_package(
    run: Path, movie_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert generate(run, movie_folder, tmp_path / "whole") == 0
    monkeypatch.setitem(sys.modules, "av", None)
    capsys.readouterr()
    assert generate(run, movie_folder, tmp_path / "lean") == 0
    said = capsys.readouterr().err
    assert 'lean: films to look at are left out; writing them needs the package av; run pip install "cytoforge[' in said
    whole = content(tmp_path / "whole")
    assert whole.pop("01.mp4") and content(tmp_path / "lean") == whole


@pytest.mark.parametrize("recipe", [MovieGAN, SuperResolutionGAN])
def test_a_training_stopped_in_either_stage_ends_as_if_it_had_not(
    run: Path, movie_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: type
) -> None:
    step, out = recipe.step, tmp_path / "again"

    def stopped(self, batch, progress, update):
        if batch.step == 1:
            raise KeyboardInterrupt
        return step(self, batch, progress, update)

    line = ["train", "movie", str(movie_folder), "--out", str(out), "--stage", "both", *STEPS]
    monkeypatch.setattr(recipe, "step", stopped)
    assert main(line) == 130
    monkeypatch.setattr(recipe, "step", step)
    assert main(line) == 0
    for folder in (Path("weights"), Path("stages/low-resolution/weights")):
        for file in (run / folder).iterdir():
            assert file.read_bytes() == (out / folder / file.name).read_bytes(), file


def test_the_second_stage_alone_and_what_is_refused(run: Path, movie_folder: Path, tmp_path: Path, capsys) -> None:
    first = run / "stages" / "low-resolution"
    common = ["train", "movie", str(movie_folder), "--preset", "tiny", "--threads", "1", "--steps", "1"]
    alone = [*common, "--stage", "super-resolution", "--start", str(first), "--out"]
    given = ["--factor", "4", "--scale", "2", "--set", "residual=false", "--set", "weights.pixels=7"]
    assert main([*alone, str(tmp_path / "four"), *given]) == 0
    stored = Run.open(tmp_path / "four").config["parameters"]
    assert (stored["residual"], stored["factor"], stored["weights"]["pixels"]) == (False, 4, 7)
    assert "flow" not in stored["weights"]
    assert main([*alone, str(tmp_path / "six"), "--scale", "1", "--set", "lag=2"]) == 2  # of the first stage alone
    assert "--set lag: there is no such hyperparameter" in capsys.readouterr().err
    assert main([*alone, str(tmp_path / "five"), "--scale", "1", "--set", "heads=0"]) == 0
    assert main([*alone, str(tmp_path / "four"), *given]) == 2  # finished
    assert main([*alone, str(tmp_path / "three"), "--set", "factor=4", "--scale", "2"]) == 0
    assert Run.open(tmp_path / "three").config["parameters"]["factor"] == 4
    assert generate(tmp_path / "four", movie_folder, tmp_path / "large") == 0
    assert read_image(tmp_path / "large" / "01" / "t000.tif").shape == (1, 90, 102)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(first, unfinished)
    facts = (unfinished / "provenance.json").read_text().replace('"finished"', '"ended"')
    (unfinished / "provenance.json").write_text(facts)
    x = str(tmp_path / "x")
    for line, sentence in (
        ([*alone, x, "--scale", "2"], "give that, or another --factor"),
        ([*alone, str(first)], "choose another folder"),
        ([*common, "--stage", "super-resolution", "--out", x], "needs the run of the first stage"),
        ([*alone, x, "--resize", "90x102"], "have --scale 1, not --resize 90x102: give that, or another --factor"),
        ([*common, "--stage", "both", "--out", x, "--factor", "3"], "--factor 3 is no power of two"),
        ([*common, "--stage", "both", "--out", x, "--factor", "16"], "too large for --preset tiny: give 8 or less"),
        ([*common, "--stage", "both", "--out", x, "--devices", "2"], "trains on one device"),
        ([*common, "--stage", "super-resolution", "--start", str(unfinished), "--out", x], "is not finished"),
        ([*common, "--stage", "super-resolution", "--start", str(tmp_path), "--out", x], "is no run folder"),
    ):
        assert main(line) == 2, line
        assert sentence in capsys.readouterr().err
        assert not Path(x).exists()
