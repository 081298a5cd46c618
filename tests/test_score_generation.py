"""`cytoforge score generation`: how images are read, what is scored, refused, said and written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from cytoforge.cli import main
from cytoforge.commands.score_generation import score_generation
from cytoforge.data.dataset import Dataset
from cytoforge.data.files import digest, read_json, write_json
from cytoforge.data.images import read_image, resize_image, write_image
from cytoforge.data.weights import FILES, VARIABLE
from cytoforge.errors import UserError
from cytoforge.evaluation import generation as evaluation
from cytoforge.metrics import two_sample
from cytoforge.metrics.generation import frechet_distance
from cytoforge.settings import ScoreGeneration
from cytoforge.simulation.phantom import phantom


class Patches(nn.Module):
    """A feature network without weights: the means of four patches."""

    name = "patches"
    num_features = 4

    def forward(self, image: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(image.mean(1, keepdim=True), 2).flatten(1)


class Difference(nn.Module):
    name = "difference"

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs().mean((1, 2, 3))


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks in the place of the pretrained ones."""
    monkeypatch.setattr(evaluation, "load_inception", lambda directory: Patches())
    monkeypatch.setattr(evaluation, "load_lpips", lambda directory: Difference())


def pictures(folder: Path, seeds: Any, change: float = 0.0, shape: tuple[int, int] = (48, 56)) -> Path:
    """Phantoms as a folder of 8-bit images p000 ..., with noise of deviation `change` grey levels."""
    for seed in seeds:
        image = phantom(seed, shape, 1)[0].astype(np.float64)
        image = 40 + 160 * (image - image.min()) / (image.max() - image.min())
        image += np.random.default_rng(seed).normal(0, 1, image.shape) * change
        write_image(folder / "images" / f"p{seed:03d}.png", np.clip(image, 0, 255).astype(np.uint8)[None])
    return folder


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return pictures(tmp_path / "real", range(8))


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    return pictures(tmp_path / "noisy", range(8), change=8)


def test_real_images_come_to_the_size_of_the_generated_ones(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, line = tmp_path / "small", ["score", "generation", str(tmp_path / "small"), str(real), "--threads", "1"]
    for item in Dataset.open(real).items:
        resized = resize_image(read_image(item.image).astype(np.float32), (40, 33))
        write_image(small / "images" / f"{item.name}.png", resized.round().astype(np.uint8))
    assert main(line) == 2
    assert "is 40 x 33 px and its real image 48 x 56; give the --scale or --resize at" in capsys.readouterr().err
    assert main([*line, "--resize", "40x33", "--json", str(tmp_path / "s.json")]) == 0
    found = read_json(tmp_path / "s.json")
    assert found["resize"] == [40, 33] and found["pairs"]["pairs"] == 8
    assert found["pairs"]["ssim"]["value"] > 0.98
    assert main([*line, "--resize", "40x33", "--scale", "0.5"]) == 2
    assert "give --scale or --resize, not both" in capsys.readouterr().err


def test_a_classifier_tells_noisy_images_without_any_pretrained_network(
    real: Path, noisy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_sample, "STEPS", 60)
    line = ["score", "generation", str(noisy), str(real), "--threads", "1", "--classifier"]
    assert main([*line, "--json", str(tmp_path / "s.json")]) == 0
    found = read_json(tmp_path / "s.json")["classifier"]
    assert found["accuracy"]["value"] > 0.8 and found["side"] == 48
    assert f"accuracy   {found['accuracy']['value']:.3f} [" in capsys.readouterr().out
    few = pictures(tmp_path / "few", range(3))
    found_few = score_generation(ScoreGeneration(few, real, classifier=True))
    assert found_few.classifier is None and "no classifier: one side has fewer than 4 images" in found_few.notes


@pytest.mark.usefixtures("networks")
class TestScores:
    def test_a_set_with_itself(self, real: Path) -> None:
        results = score_generation(ScoreGeneration(real, real, training=real))
        assert results.sets is not None and results.pairs is not None and results.copying is not None
        assert results.sets.fid == pytest.approx(0, abs=1e-6)
        assert (results.sets.precision, results.sets.recall, results.sets.coverage) == (1, 1, 1)
        assert results.pairs.ssim.value == 1
        assert results.pairs.lpips is not None and results.pairs.lpips.value == 0
        assert results.copying.closer == 1
        assert results.copying.distance == (0,) * 8
        assert results.notes == ()

    def test_every_result_names_its_network(self, noisy: Path, real: Path) -> None:
        results = score_generation(ScoreGeneration(noisy, real, training=real))
        assert results.sets is not None and results.pairs is not None and results.copying is not None
        assert results.sets.network == results.copying.network == "patches"
        assert results.pairs.lpips_network == "difference"

    def test_both_sides_are_mapped_alike_by_the_limits_of_the_real_images(self, noisy: Path, real: Path) -> None:
        """Brightness of single images is kept: those of the dimmed one stay below those of the others."""
        dim = real / "images" / "p000.png"
        write_image(dim, read_image(dim) // 2)
        results = score_generation(ScoreGeneration(noisy, real, json=real / "scores.json"))
        limits = read_json(real / "scores.json")["limits"]
        shown = [read_image(path) for path in sorted((real / "images").iterdir())]
        low, high = (np.array([np.percentile(image, q) for image in shown]) for q in (0.1, 99.9))
        assert limits == [[pytest.approx(low.min()), pytest.approx(high.max())]]

        def mapped(image: np.ndarray) -> Tensor:
            span = limits[0][1] - limits[0][0]
            return torch.from_numpy(((image - limits[0][0]) * 2 / span - 1).clip(-1, 1)).float()

        ours = [read_image(path) for path in sorted((noisy / "images").iterdir())]
        features = [torch.cat([Patches()(mapped(image)[None]) for image in side]) for side in (ours, shown)]
        assert results.sets is not None and results.pairs is not None
        assert results.sets.fid == pytest.approx(frechet_distance(*features), abs=1e-5)
        pairs = zip(map(mapped, ours), map(mapped, shown), strict=True)
        expected = np.mean([peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=2) for a, b in pairs])
        assert results.pairs.psnr.value == pytest.approx(expected, rel=1e-4)

    def test_normalisation_by_image_forgives_other_units(self, real: Path, tmp_path: Path) -> None:
        for path in (real / "images").iterdir():
            write_image(tmp_path / "other" / path.name, read_image(path).astype(np.uint16) * 100 + 1000)
        by_set = score_generation(ScoreGeneration(tmp_path / "other", real))
        by_image = score_generation(ScoreGeneration(tmp_path / "other", real, normalisation="image"))
        assert by_set.sets is not None and by_image.sets is not None
        assert by_set.sets.fid > 1
        assert by_image.sets.fid == pytest.approx(0, abs=1e-5)
        assert len(by_set.notes) == 1
        assert "if these are other units, not other brightness, give --normalisation image" in by_set.notes[0]
        assert by_image.notes == ()

    def test_real_images_are_resized_by_the_scale(self, real: Path, tmp_path: Path) -> None:
        half = pictures(tmp_path / "half", range(8), shape=(24, 28))
        plain = score_generation(ScoreGeneration(half, real, training=real))
        assert plain.pairs is None
        assert any("p000.png is 24 x 28 px and its real image 48 x 56; give the --scale" in n for n in plain.notes)
        assert any("sizes differ (24 x 28 against 48 x 56 px, for one)" in note for note in plain.notes)
        scaled = score_generation(ScoreGeneration(half, real, training=real, scale=0.5))
        assert scaled.pairs is not None and scaled.pairs.pairs == 8
        assert scaled.notes == ()

    def test_pairs_are_all_or_none_and_by_name(self, noisy: Path, real: Path) -> None:
        (real / "images" / "p003.png").unlink()
        results = score_generation(ScoreGeneration(noisy, real))
        assert results.pairs is None
        assert any("1 of 8 generated images have no real one of their name (p003)" in n for n in results.notes)
        other_way = score_generation(ScoreGeneration(real, noisy))  # real images may be left over
        assert other_way.pairs is not None and other_way.pairs.pairs == 7

    def test_two_files_belong_together(self, noisy: Path, real: Path) -> None:
        results = score_generation(ScoreGeneration(noisy / "images" / "p001.png", real / "images" / "p000.png"))
        assert results.pairs is not None and results.pairs.pairs == 1
        assert results.sets is not None and np.isnan(results.sets.fid)

    def test_images_too_small_for_windows_are_no_pairs(self, tmp_path: Path) -> None:
        small = pictures(tmp_path / "small", range(6), shape=(16, 30))
        results = score_generation(ScoreGeneration(small, small))
        assert results.pairs is None
        assert any("p000.png is 16 x 30 px, 17 are needed" in note for note in results.notes)

    def test_few_images_are_remarked_on(self, tmp_path: Path, real: Path) -> None:
        few = pictures(tmp_path / "few", range(3))
        notes = score_generation(ScoreGeneration(few, real)).notes
        assert len(notes) == 1
        assert notes[0].startswith("FID of 3 images is too high, as 4 features want 4 images or more a side")

    def test_table(self, noisy: Path, real: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["score", "generation", str(noisy), str(real), "--training", str(real)]) == 0
        shown = capsys.readouterr().out
        results = score_generation(ScoreGeneration(noisy, real, training=real))
        assert results.sets is not None and results.pairs is not None and results.copying is not None
        kid = results.sets.kid
        assert "sets: 8 generated, 8 real images, features patches" in shown
        assert f"  KID x 1000 {1000 * kid.value:.3f} [{1000 * kid.low:.3f} {1000 * kid.high:.3f}]" in shown
        assert f"  FID        {results.sets.fid:.3f}\n" in shown
        assert "pairs: 8\n" in shown
        assert f"  PSNR       {results.pairs.psnr.value:.1f} dB [" in shown
        assert "]  difference\n" in shown
        assert "copying: nearest of 8 training images, features patches" in shown
        assert f"  closer     {results.copying.closer:.3f}  (0.5" in shown

    def test_variants_of_one_mask_tell_how_much_styles_change(self, real: Path, tmp_path: Path) -> None:
        grey = {"a-v1": 100, "a-v2": 150, "a-v3": 200, "b-v1": 100, "b-v2": 100, "c": 100}
        for name, level in grey.items():
            write_image(tmp_path / "varied" / "images" / f"{name}.png", np.full((1, 48, 56), level, np.uint8))
        files = {name: {"mask": name[0], "variant": 1} for name in grey}
        write_json(tmp_path / "varied" / "dataset.json", {"synthetic": {}, "files": files})
        limits = evaluation._limits(Dataset.open(real))
        found = score_generation(ScoreGeneration(tmp_path / "varied", real, json=tmp_path / "s.json", threads=1)).styles
        low, high = limits[0]
        one, two, three = (float(np.clip(2 * (level - low) / (high - low) - 1, -1, 1)) for level in (100, 150, 200))
        expected = np.mean([two - one, three - one, three - two])
        assert found is not None and (found.masks, found.lpips_network) == (2, "difference")
        assert found.lpips.value == pytest.approx((expected + 0) / 2, rel=1e-5)
        assert read_json(tmp_path / "s.json")["styles"]["masks"] == 2
        assert score_generation(ScoreGeneration(real, real, threads=1)).styles is None

    def test_paintings_are_compared_as_painted_unless_told(self, real: Path, tmp_path: Path) -> None:
        for file in (real / "images").iterdir():
            image = Dataset.open(file).read_image(Dataset.open(file).items[0])
            write_image(tmp_path / "painted" / "images" / file.name, np.round((image + 1) * 32767.5).astype(np.uint16))
        write_json(tmp_path / "painted" / "dataset.json", {"synthetic": {}, "limits": [0, 65535]})
        found = score_generation(ScoreGeneration(tmp_path / "painted", real, threads=1))
        assert found.normalisation == "image"
        assert found.pairs and found.pairs.ssim.value == pytest.approx(1, abs=1e-6)
        told = score_generation(ScoreGeneration(tmp_path / "painted", real, normalisation="set", threads=1))
        assert told.normalisation == "set" and any("other units" in note for note in told.notes)
        assert score_generation(ScoreGeneration(real, real, threads=1)).normalisation == "set"

    def test_table_marks_what_is_undefined(self, real: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one = str(real / "images" / "p000.png")
        assert main(["score", "generation", one, one]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["KID", "x", "1000", "-"] in lines
        assert ["FID", "-"] in lines and ["PSNR", "-"] in lines
        assert ["SSIM", "1.000"] in lines

    def test_json(self, noisy: Path, real: Path, tmp_path: Path) -> None:
        files = [tmp_path / f"{k}.json" for k in range(3)]
        results = score_generation(ScoreGeneration(noisy, real, training=real, json=files[0]))
        stored = json.loads(files[0].read_text())
        assert results.sets is not None and results.copying is not None
        assert (stored["format"], stored["command"], stored["seed"]) == (1, "score generation", 0)
        assert stored["sets"]["fid"] == results.sets.fid
        assert stored["sets"]["network"] == "patches"
        assert stored["pairs"]["lpips_network"] == "difference"
        assert stored["truth"]["items"] == stored["training"]["items"] == 8
        expected = {"training": f"p{results.copying.nearest[2]:03d}", "distance": results.copying.distance[2]}
        assert stored["copying"]["nearest"]["p002"] == expected
        score_generation(ScoreGeneration(noisy, real, training=real, json=files[1]))
        assert files[0].read_bytes() == files[1].read_bytes()
        score_generation(ScoreGeneration(noisy, real, json=files[2], seed=1, normalisation="image"))
        other = json.loads(files[2].read_text())
        assert "training" not in other and "copying" not in other
        assert other["limits"] is None

    def test_existing_json_is_kept_unless_told(self, real: Path, tmp_path: Path) -> None:
        file = tmp_path / "scores.json"
        file.write_text("mine")
        with pytest.raises(UserError, match=r"scores\.json: exists already; .*--overwrite"):
            score_generation(ScoreGeneration(real, real, json=file))
        assert file.read_text() == "mine"
        score_generation(ScoreGeneration(real, real, json=file, overwrite=True))
        assert read_json(file)["command"] == "score generation"

    def test_synthetic_images_are_no_truth(self, noisy: Path, real: Path) -> None:
        write_json(real / "dataset.json", {"synthetic": {"by": "a generator"}})
        for path in (real, real / "images"):
            with pytest.raises(UserError, match=r"synthetic, which is no ground truth; .*--allow-synthetic"):
                score_generation(ScoreGeneration(noisy, path))
        assert score_generation(ScoreGeneration(noisy, real, allow_synthetic=True)).sets
        assert score_generation(ScoreGeneration(real, noisy)).sets

    @pytest.mark.parametrize("where", ["prediction", "truth", "training"])
    def test_images_must_be_grey_or_rgb_and_alike(self, where: str, real: Path, tmp_path: Path) -> None:
        def config(data: Path) -> ScoreGeneration:
            paths: dict[str, Any] = {"prediction": real, "truth": real, "training": real} | {where: data}
            return ScoreGeneration(**paths)

        write_image(tmp_path / "colour" / "a.png", np.eye(3, 400, dtype=np.uint8).reshape(3, 20, 20))
        with pytest.raises(UserError, match="convert one side"):
            score_generation(config(tmp_path / "colour"))
        write_image(tmp_path / "two" / "a.tif", np.zeros((2, 20, 20), np.uint8))
        with pytest.raises(UserError, match=r"two.*\.tif: has 2 channels, scores take grey or RGB images; save one"):
            score_generation(config(tmp_path / "two"))
        (tmp_path / "masks").mkdir()
        with pytest.raises(UserError, match="masks: holds no files"):
            score_generation(config(tmp_path / "masks"))


@pytest.mark.usefixtures("networks")
def test_lpips_of_vgg_stands_beside_that_of_squeezenet(
    noisy: Path, real: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "load_lpips_vgg", lambda directory: Difference())
    assert main(["score", "generation", str(noisy), str(real)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  LPIPS")]
    assert len(rows) == 2 and rows[0] == rows[1]


class TestWithoutWeights:
    def test_pairs_are_scored_and_the_rest_is_absent(
        self, noisy: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "scores.json"
        assert main(["score", "generation", str(noisy), str(real), "--training", str(real), "--json", str(file)]) == 0
        shown = capsys.readouterr().out
        assert "no KID, FID, precision, recall, density, coverage, copying: this needs inception_v3_fid_2048" in shown
        assert "no LPIPS: this needs squeezenet1_1.safetensors and lpips_squeeze_v0.1.safetensors" in shown
        assert shown.count("--weights-dir or CYTOFORGE_WEIGHTS") == 2
        stored = read_json(file)
        assert set(stored["pairs"]) == {"pairs", "ssim", "psnr"}
        assert 0 < stored["pairs"]["ssim"]["value"] < 1
        assert stored["networks"] == {}
        assert not {"sets", "copying"} & set(stored)

    def test_nothing_to_score_is_a_mistake(
        self, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = pictures(tmp_path / "other", range(20, 22))
        assert main(["score", "generation", str(other), str(real)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "nothing can be scored; no LPIPS, SSIM, PSNR: 2 of 2 generated images" in shown.err
        assert "inception_v3_fid_768.safetensors" in shown.err

    def test_damaged_weights(self, real: Path, tmp_path: Path) -> None:
        folder = tmp_path / "weights"
        folder.mkdir()
        save_file({"Mixed_6e.branch_pool.conv.weight": torch.zeros(1)}, folder / FILES["inception"][0])
        with pytest.raises(UserError, match=r"inception_v3_fid_2048\.safetensors: lacks the weights 'Conv2d_1a"):
            score_generation(ScoreGeneration(real, real, weights_dir=folder))
        (folder / FILES["inception"][0]).unlink()
        save_file({"features.12.expand3x3.weight": torch.zeros(1)}, folder / FILES["squeezenet"][0])
        save_file({"lin6.model.1.weight": torch.zeros(1)}, folder / FILES["lpips"][0])
        with pytest.raises(UserError, match=r"squeezenet1_1\.safetensors: is no SqueezeNet"):
            score_generation(ScoreGeneration(real, real, weights_dir=folder))


def test_real_networks(real_weights: Path, tmp_path: Path) -> None:
    real, noisy = pictures(tmp_path / "real", range(3)), pictures(tmp_path / "noisy", range(3), change=8)
    file = tmp_path / "scores.json"
    results = score_generation(
        ScoreGeneration(noisy, real, training=real, weights_dir=real_weights, json=file, threads=1)
    )
    assert results.sets is not None and results.pairs is not None and results.copying is not None
    assert results.sets.network == results.copying.network == "FID-768 (Mixed_6e)"
    assert results.pairs.lpips_network == "LPIPS (squeeze, v0.1)"
    assert results.pairs.lpips is not None and 0.01 < results.pairs.lpips.value < 1
    assert results.sets.fid > 0.1 and results.sets.kid.value > 0
    assert any(note.startswith("FID of 3 images is too high, as 768 features") for note in results.notes)
    stored = read_json(file)
    assert set(stored["networks"]) == {"inception", "squeezenet", "lpips"}
    for network in stored["networks"].values():
        assert network["sha256"] == digest(real_weights / network["file"])


def test_real_images(real_data: Path, real_weights: Path, tmp_path: Path) -> None:
    """Nuclei are nearer to nuclei than to phase contrast, by KID and FID."""
    sides: dict[str, Path] = {}
    for name, part in {"dsb256": "train", "held out": "test", "usiigaci": "train"}.items():
        folder = real_data / ("usiigaci" if name == "usiigaci" else "dsb256") / part / "images"
        for path in sorted(folder.iterdir())[:5]:
            write_image(tmp_path / name / path.name, read_image(path)[:, :256, :256])
        sides[name] = tmp_path / name
    near, far = (
        score_generation(
            ScoreGeneration(sides[name], sides["dsb256"], normalisation="image", weights_dir=real_weights, threads=1)
        ).sets
        for name in ("held out", "usiigaci")
    )
    assert near is not None and far is not None
    assert near.kid.high < far.kid.low
    assert near.fid < far.fid / 2


class TestConstantChannels:
    """Channels of one grey value in all real images, as the blue one of two colours saved as RGB."""

    def sides(self, folder: Path, *sides: Any) -> list[Path]:
        for name, image in zip(("painted", "real"), sides, strict=True):
            write_image(folder / name / "images" / "a.png", image)
        return [folder / "painted", folder / "real"]

    @pytest.mark.parametrize("blank", [(False, False, True), (True,)])
    def test_noise_against_blank_is_what_scikit_image_says(self, blank: tuple[bool, ...], tmp_path: Path) -> None:
        painted = np.random.default_rng(0).integers(0, 256, (len(blank), 48, 48), dtype=np.uint8)
        painted[:, 0, :9], painted[:, 0, 9:18] = 0, 255  # the limits are 0 and 255
        real = np.where(np.array(blank)[:, None, None], 0, painted).astype(np.uint8)
        results = score_generation(ScoreGeneration(*self.sides(tmp_path, painted, real)))
        assert results.pairs is not None
        window = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "channel_axis": 0}
        expected = structural_similarity(painted, real, **window)
        assert results.pairs.ssim.value == pytest.approx(expected, abs=0.002)
        assert expected == pytest.approx(1 - sum(blank) / len(blank), abs=0.002)  # .667 of three channels, not 1
        assert results.pairs.psnr.value == pytest.approx(
            peak_signal_noise_ratio(real, painted, data_range=255), abs=0.01
        )
        assert any(f"channel {len(blank)} of {tmp_path / 'real'} has one grey value" in note for note in results.notes)
        assert not any("if these are other units" in note for note in results.notes)

    def test_equal_blanks_are_equal(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)
        image[2] = 9
        results = score_generation(ScoreGeneration(*self.sides(tmp_path, image, image)))
        assert results.pairs is not None and results.pairs.ssim.value == 1

    @pytest.mark.usefixtures("networks")
    def test_different_blanks_have_no_range_to_be_compared_by(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)
        painted = image.copy()
        painted[1], image[1] = 200, 3
        results = score_generation(ScoreGeneration(*self.sides(tmp_path, painted, image)))
        assert results.pairs is None and results.sets is not None
        said = "no LPIPS, SSIM, PSNR: channel 2 is 200 in all generated images and 3 in all real ones"
        assert said in results.notes

    def test_a_blank_real_image_among_others_keeps_its_grey_value(self, tmp_path: Path) -> None:
        real = np.random.default_rng(0).integers(0, 256, (2, 1, 24, 24), dtype=np.uint8)
        real[1] = 128
        for name, image in zip("ab", real, strict=True):
            write_image(tmp_path / "real" / f"{name}.png", image)
            write_image(tmp_path / "painted" / f"{name}.png", real[0])
        results = score_generation(ScoreGeneration(tmp_path / "painted", tmp_path / "real"))
        assert results.pairs is not None and 0.5 < results.pairs.ssim.value < 0.55
