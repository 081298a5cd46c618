"""`cytoforge score movie`: how movies are read and paired, what is scored, refused, said and written."""

import json
import shutil
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from cytoforge.cli import main
from cytoforge.commands.score_movie import score_movie
from cytoforge.data.files import digest, read_json, write_json
from cytoforge.data.images import Normalisation, read_image, read_labels, write_image, write_labels
from cytoforge.data.movie import MovieWriter, Track, read_sequences, read_tracks, tracks_of
from cytoforge.data.run import Run
from cytoforge.data.weights import FILES, VARIABLE
from cytoforge.errors import UserError
from cytoforge.evaluation import movie as evaluation
from cytoforge.evaluation.movie import MovieResults
from cytoforge.inference.frames import shrunk
from cytoforge.metrics import two_sample
from cytoforge.metrics.estimates import to_json
from cytoforge.networks.segmentation import UNet
from cytoforge.settings import ScoreMovie
from cytoforge.simulation.phantom import phantom
from test_generate import Seer
from test_score_generation import Difference, Patches

FRAMES = 16
Change = Callable[[np.ndarray, int], np.ndarray]


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks in the place of the pretrained ones."""
    monkeypatch.setattr(evaluation, "load_inception", lambda directory: Patches())
    monkeypatch.setattr(evaluation, "load_lpips", lambda directory: Difference())


def same(image: np.ndarray, t: int) -> np.ndarray:
    return image


def blurred(image: np.ndarray, t: int) -> np.ndarray:
    return ndimage.gaussian_filter(image, (0, 2, 2))


def film(
    path: Path,
    sequences: tuple[str, ...] = ("01",),
    change: Change = same,
    frames: int = FRAMES,
    empty: tuple[int, ...] = (),
    info: dict[str, Any] | None = None,
    moved: int = 0,
) -> Path:
    """A movie of 8 bits, 48 x 80: a phantom that moves a pixel each frame, with noise of its own; `empty`: no cells.

    Sequences differ by their number, as do movies that are `moved` by some pixels.
    """
    writer = MovieWriter(path, info)
    for sequence in sequences:
        still, cells = phantom(int(sequence), (48, 80), 5)
        still = 60 + 120 * (still.astype(float) - still.min()) / np.ptp(still)
        cells[np.isin(cells, cells[:, -FRAMES - 8 :])] = 0  # the others come round to the edge and would be torn
        labels = [np.roll(cells, t + moved, axis=1) * (t not in empty) for t in range(frames)]
        tracks, renamed = tracks_of({t: np.setdiff1d(mask, [0]).tolist() for t, mask in enumerate(labels)})
        for (t, cell), label in renamed.items():
            labels[t][labels[t] == cell] = label
        for t, mask in enumerate(labels):
            noise = np.random.default_rng(100 * int(sequence) + t).normal(0, 4, still.shape)
            image = change((np.roll(still, t + moved, axis=1) + noise)[None], t)
            writer.add_frame(sequence, t, np.clip(np.round(image), 0, 255).astype(np.uint8))
            writer.add_masks(sequence, "GT/TRA", t, mask)
        writer.add_tracks(sequence, "GT/TRA", tracks)
    writer.finish()
    return path


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return film(tmp_path / "real")


def score(prediction: Path, truth: Path, **options: Any) -> MovieResults:
    return score_movie(ScoreMovie(prediction, truth, threads=1, **options))


@pytest.mark.usefixtures("networks")
class TestScores:
    def test_a_movie_against_itself(self, real: Path) -> None:
        results = score(real, real)
        pairs, steps = results.pairs, results.neighbours
        assert pairs and steps and pairs.lpips and steps.lpips and results.frames and results.clips
        assert (pairs.ssim.value, pairs.lpips.value, pairs.pairs) == (1, 0, FRAMES)
        assert isnan(pairs.psnr.value)
        assert steps.ssim.value < 1 and steps.lpips.value > 0 and steps.pairs == FRAMES - 1
        assert results.frames.distance == pytest.approx(0, abs=1e-6)
        assert results.clips.distance == pytest.approx(0, abs=1e-6)
        assert results.frames.halves > 1e-5
        assert (results.frames.generated, results.clips.real) == (FRAMES, 2)
        assert results.generated == results.real
        assert set(results.real.drift) == {10}
        assert results.paired == ("01",)

    def test_blur_is_coherent_and_the_real_value_tells(self, real: Path, tmp_path: Path) -> None:
        results = score(film(tmp_path / "blurred", change=blurred), real)
        assert results.generated.coherence.warping_error < results.real.coherence.warping_error / 2
        assert results.generated.drift[10].texture > 3 * results.real.drift[10].texture
        assert results.pairs and results.pairs.ssim.value < 0.95
        assert results.clips and results.clips.distance > 10

    def test_a_blank_real_movie_does_not_hide_what_was_painted(self, real: Path, tmp_path: Path) -> None:
        blank = film(tmp_path / "blank", change=lambda image, t: 0 * image)
        results = score(real, blank)
        assert results.pairs and results.pairs.ssim.value < 0.05 and results.pairs.psnr.value < 15
        assert isnan(results.ratios["noise_power"]) and results.generated.coherence.background_change > 0.01
        assert results.real.coherence.background_change == 0
        assert any(f"channel 1 of {blank} has one grey value in all images" in note for note in results.notes)
        assert not any("other units" in note for note in results.notes)
        black, white = score(blank, blank), score(film(tmp_path / "white", change=lambda i, t: 0 * i + 255), blank)
        assert black.pairs and black.pairs.ssim.value == 1
        assert white.pairs is None
        said = "channel 1 is 255 in all generated images and 0 in all real ones"
        assert any(f"no SSIM, PSNR, LPIPS of {tmp_path / 'white'}, sequence 01: {said}" in note for note in white.notes)

    def test_the_same_cells_under_other_ids_are_the_same(self, real: Path, tmp_path: Path) -> None:
        """As `generate movie` writes them where ids pass 16 bits."""
        shutil.copytree(real, tmp_path / "other")
        (sequence,) = read_sequences(tmp_path / "other")
        for file in sequence.masks["GT/TRA"].values():
            labels = read_labels(file)
            write_labels(file, np.where(labels > 0, 2_000_000_000 - labels, 0))
        rows = [
            (2_000_000_000 - row.label, row.begin, row.end, row.parent)
            for row in read_tracks(sequence.tracks["GT/TRA"])
        ]
        sequence.tracks["GT/TRA"].write_text("".join("{} {} {} {}\n".format(*row) for row in rows))
        results, plain = score(real, tmp_path / "other"), score(real, real)
        assert results.paired == ("01",) and results.real.coherence.cell_steps == plain.real.coherence.cell_steps
        assert results.real.coherence.warping_error == pytest.approx(plain.real.coherence.warping_error, rel=1e-12)

    def test_one_mapping_for_all_frames_keeps_flicker_and_brightness(self, real: Path, tmp_path: Path) -> None:
        """Every other frame is darker by 20 grey levels: no stretch of single frames may hide it."""
        dark = film(tmp_path / "dark", change=lambda image, t: image - 20 * (t % 2))
        results = score(dark, real, json=tmp_path / "s.json")
        stored = read_json(tmp_path / "s.json")
        shown = [read_image(file) for file in sorted((real / "01").iterdir())]
        low, high = np.median([np.percentile(image, (0.1, 99.9)) for image in shown], axis=0)
        assert stored["limits"] == {
            side: [[pytest.approx(low), pytest.approx(high)]] for side in ("prediction", "truth")
        }
        step = 20 * 2 / (high - low)
        assert results.generated.coherence.flicker == pytest.approx(step, rel=0.1)
        assert results.real.coherence.flicker < step / 10
        a, b = (
            Normalisation().apply(read_image(side / "01" / "t001.tif"), np.array([[low, high]]))
            for side in (dark, real)
        )
        one = film(tmp_path / "one", change=lambda image, t: image - 20 * (t == 1))
        found = score(one, real).pairs
        assert found and found.psnr.value == pytest.approx(10 * np.log10(4 / np.square(a - b).mean()), rel=1e-4)

    def test_paintings_are_read_as_painted_at_their_scale(self, real: Path, tmp_path: Path) -> None:
        """A movie as `generate movie` leaves it at half the size: 16 bits, its own limits, reduced masks."""
        (sequence,) = read_sequences(real)
        shown = [read_image(file) for file in sequence.frames.values()]
        limits = np.median([Normalisation().measure(image) for image in shown], axis=0)
        info = {"synthetic": {}, "scale": 0.5, "limits": [0, 65535]}
        writer = MovieWriter(tmp_path / "painted", info)
        for t, labels in sequence.tracked():
            image = Normalisation().apply(shown[t], limits).reshape(1, 24, 2, 40, 2).mean(axis=(2, 4))
            writer.add_frame("01", t, np.round((image + 1) * 32767.5).astype(np.uint16))
            writer.add_masks("01", "GT/TRA", t, shrunk(labels, 0.5))
        writer.add_tracks("01", "GT/TRA", read_tracks(sequence.tracks["GT/TRA"]))
        writer.finish()
        results = score(tmp_path / "painted", real, json=tmp_path / "s.json")
        assert results.pairs and results.pairs.ssim.value > 0.95
        assert read_json(tmp_path / "s.json")["scale"] == 0.5
        assert read_json(tmp_path / "s.json")["limits"]["prediction"] == [[0, 65535]]
        assert not any("other units" in note for note in results.notes)
        large = score(tmp_path / "painted", real, scale=1)
        assert large.pairs is None
        assert any(
            "frames are 24 x 40 px, the real ones 48 x 80 as they are read; give the --scale" in n for n in large.notes
        )
        assert any(note.startswith("sizes differ (24 x 40 against 48 x 80 px") for note in large.notes)
        write_json(tmp_path / "painted" / "dataset.json", {"scale": 0.5})
        notes = score(tmp_path / "painted", real).notes
        assert any("if these are other units, not other brightness, write" in note for note in notes)

    def test_other_masks_make_no_pairs(self, real: Path, tmp_path: Path) -> None:
        results = score(film(tmp_path / "moved", moved=3), real)
        assert (results.pairs, results.neighbours, results.paired) == (None, None, ())
        assert results.frames and results.clips and results.generated.drift
        masks = f"its masks are not those of {real}, sequence 01"
        assert f"no SSIM, PSNR, LPIPS of {tmp_path / 'moved'}, sequence 01: {masks}" in results.notes

    def test_sequences(self, tmp_path: Path) -> None:
        real = film(tmp_path / "real", ("01", "02"))
        ours = film(tmp_path / "ours", ("02",), blurred, frames=9)
        only = score(ours, real)
        assert only.paired == only.generated.sequences == only.real.sequences == ("02",)
        assert (only.generated.frames, only.real.frames) == (9, 9)  # the same frames of the same cells
        assert score(real, real, sequence=("02",)).real.sequences == ("02",)
        apart = score(ours, real, sequence=("01",))
        assert apart.pairs is None
        assert (apart.generated.sequences, apart.real.sequences) == (("02",), ("01",))
        assert any(f"sequence 02: {real} has no sequence 02, only 01" in note for note in apart.notes)
        some = score(film(tmp_path / "more", ("02", "03")), real)
        assert (some.paired, some.real.sequences) == (("02",), ("01", "02"))
        with pytest.raises(UserError, match="real: has no sequence 07; there is 01, 02"):
            score(ours, real, sequence=("07",))

    def test_five_sequences_have_intervals(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        names = ("01", "02", "03", "04", "05")
        real, ours = film(tmp_path / "real", names, frames=3), film(tmp_path / "ours", names, blurred, 3)
        assert main(["score", "movie", str(ours), str(real), "--threads", "1"]) == 0
        printed = capsys.readouterr().out
        pairs = score(ours, real).pairs
        assert pairs and pairs.ssim.low < pairs.ssim.value < pairs.ssim.high
        assert f"[{pairs.ssim.low:.3f} {pairs.ssim.high:.3f}]" in printed
        assert "no intervals" not in printed

    def test_frames_without_cells_are_left_out_and_said(self, tmp_path: Path) -> None:
        real = film(tmp_path / "real", empty=(5, 6))
        results = score(film(tmp_path / "ours", change=blurred, empty=(5, 6)), real)
        numbers = {**to_json(results.generated.coherence), **to_json(results.pairs), **to_json(results.frames)}
        lost = {name for name, value in numbers.items() if value is None}
        assert lost == {"lpips_vgg", "lpips_vgg_network"} and results.pairs and results.pairs.pairs == FRAMES
        whole = score(film(tmp_path / "whole"), film(tmp_path / "whole2"))
        assert results.real.coherence.cell_steps == whole.real.coherence.cell_steps * (FRAMES - 4) / (FRAMES - 1)
        said = f"{real}, sequence 01: 2 of 16 frames without cells, left out of the warping error and faithfulness"
        assert said in results.notes

    def test_frames_without_masks_or_background_are_left_out_and_said(self, real: Path, tmp_path: Path) -> None:
        masks = sorted((real / "01_GT" / "TRA").glob("*.tif"))
        masks[-1].unlink()
        write_labels(masks[3], np.ones((48, 80), np.int32))
        results = score(real, real)
        assert results.real.frames == FRAMES - 1
        assert results.real.coherence.steps == FRAMES - 2 - 2
        where = f"{real}, sequence 01"
        assert f"{where}: 1 of 16 frames without masks of tracked cells, left out of all scores" in results.notes
        assert f"{where}: 1 of 16 frames without background, left out of flicker and background change" in results.notes

    def test_few_frames_are_remarked_on(self, tmp_path: Path) -> None:
        short = film(tmp_path / "short", frames=3)
        results = score(short, short)
        assert results.clips is None and results.real.drift == {}
        steps = results.real.coherence.cell_steps
        assert results.notes == (
            "no intervals: frames of one movie are alike, so sequences are resampled, if 5 are paired",
            "the distance of 3 frames is too high, as 4 features want as many a side: compare it between movies of "
            "these lengths only",
            "no distance of clips: one side has fewer than two, of 8 frames and about 64 px each way",
            f"the generated warping error rests on {steps} steps of a cell to the next frame only",
            "no generated drift: 10 frames are needed",
            f"the real warping error rests on {steps} steps of a cell to the next frame only",
            "no real drift: 10 frames are needed",
        )

    def test_table(self, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        ours = film(tmp_path / "ours", change=blurred)
        assert main(["score", "movie", str(ours), str(real), "--threads", "1"]) == 0
        lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        results = score(ours, real)
        pairs, steps, frames, clips = results.pairs, results.neighbours, results.frames, results.clips
        assert pairs and steps and pairs.lpips and steps.lpips and frames and clips
        a, b = results.generated, results.real
        told = {name: f"{ratio:.2f} of the real one" for name, ratio in results.ratios.items()}
        assert results.ratios["noise_power"] == a.noise_power / b.noise_power < 0.1  # blur takes the noise away
        for line in (
            "sequence 01 (16 frames) generated, sequence 01 (16 frames) real; - where undefined",
            f"SSIM {pairs.ssim.value:.3f} {steps.ssim.value:.3f}",
            f"PSNR, dB {pairs.psnr.value:.1f} {steps.psnr.value:.1f}",
            f"LPIPS {pairs.lpips.value:.3f} {steps.lpips.value:.3f} difference",
            f"of frames {frames.distance:.3f} {frames.halves:.3f} 16 against 16, patches",
            f"of clips {clips.distance:.3f} - 2 against 2, {clips.network}",  # two are needed for the earlier half
            f"warping error {a.coherence.warping_error:.4f} {b.coherence.warping_error:.4f}",
            f"background flicker {a.coherence.flicker:.4f} {b.coherence.flicker:.4f} {told['flicker']}",
            f"background change {a.coherence.background_change:.4f} {b.coherence.background_change:.4f} "
            + told["background_change"],
            f"noise power, x 1000 {1000 * a.noise_power:.4f} {1000 * b.noise_power:.4f} {told['noise_power']}",
            f"10 frames {a.drift[10].grey:.3f} {b.drift[10].grey:.3f}",
            f"10 frames {a.drift[10].texture:.3f} {b.drift[10].texture:.3f}",
        ):
            assert line in lines

    def test_a_classifier_tells_blurred_frames(
        self, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(two_sample, "STEPS", 60)
        ours, file = film(tmp_path / "ours", change=blurred), tmp_path / "s.json"
        line = ["score", "movie", str(ours), str(real), "--threads", "1", "--classifier", "--json", str(file)]
        assert main(line) == 0
        found = read_json(file)["classifier"]
        assert found["accuracy"]["value"] > 0.8 and found["side"] == 48 and found["accuracy"]["images"] == FRAMES
        rows = [" ".join(row.split()) for row in capsys.readouterr().out.splitlines()]
        assert any(row.startswith(f"of both, 0.5 is best {found['accuracy']['value']:.3f} - [") for row in rows)
        assert f"of each {found['painted']:.3f} {found['real']:.3f}" in rows

    def test_a_classifier_needs_frames(self, tmp_path: Path) -> None:
        few = film(tmp_path / "few", frames=3)
        results = score(few, few, classifier=True)
        assert results.classifier is None and "no classifier: one side has fewer than 4 frames" in results.notes

    def test_lengths_that_one_side_lacks_are_marked(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        long, short = film(tmp_path / "long", frames=30), film(tmp_path / "short", frames=12, moved=1)
        assert main(["score", "movie", str(short), str(long), "--threads", "1"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert sum(line[:3] == ["30", "frames", "-"] and line[3] != "-" for line in lines) == 2

    def test_json(self, real: Path, tmp_path: Path) -> None:
        files = [tmp_path / "a.json", tmp_path / "b.json"]
        ours = film(tmp_path / "ours", change=blurred)
        results = score(ours, real, json=files[0])
        score(ours, real, json=files[1])
        assert files[0].read_bytes() == files[1].read_bytes()
        stored = json.loads(files[0].read_text())
        assert (stored["format"], stored["command"], stored["seed"], stored["scale"]) == (1, "score movie", 0, 1)
        assert stored["prediction"]["items"] == stored["truth"]["items"] == FRAMES
        assert stored["ratios"] == results.ratios and "classifier" not in stored
        assert stored["paired"] == ["01"] and stored["notes"] == list(results.notes)
        assert results.pairs and stored["pairs"]["ssim"]["value"] == results.pairs.ssim.value
        assert stored["pairs"]["ssim"]["low"] is None
        assert stored["generated"]["drift"]["10"]["grey"] == results.generated.drift[10].grey
        assert stored["clips"]["network"].endswith("not I3D)") and stored["frames"]["network"] == "patches"
        assert "faithfulness" not in stored["real"] and "segmenter" not in stored
        with pytest.raises(UserError, match=r"a\.json: exists already; .*--overwrite"):
            score(ours, real, json=files[0])
        score(ours, real, json=files[0], overwrite=True)


def without_tracks(movie: Path) -> None:
    (movie / "01_GT" / "TRA" / "man_track.txt").unlink()


def one_frame(movie: Path) -> None:
    for file in (*(movie / "01").iterdir(), *(movie / "01_GT" / "TRA").glob("*.tif")):
        if not file.stem.endswith("000"):
            file.unlink()


def torn(movie: Path) -> None:
    (movie / "01" / "t002.tif").unlink()


def other_frame(movie: Path) -> None:
    write_image(movie / "01" / "t004.tif", np.zeros((1, 48, 60), np.uint8))


def other_mask(movie: Path) -> None:
    write_labels(movie / "01_GT" / "TRA" / "man_track004.tif", np.zeros((48, 60), np.int32))


def small(movie: Path) -> None:
    for file in (movie / "01").iterdir():
        write_image(file, read_image(file)[:, :16])
    for file in (movie / "01_GT" / "TRA").glob("*.tif"):
        write_labels(file, read_labels(file)[:16])


def colour(movie: Path) -> None:
    for file in (movie / "01").iterdir():
        write_image(file, np.repeat(read_image(file), 2, axis=0))


def no_movie(movie: Path) -> None:
    (movie / "01").rename(movie / "images")
    (movie / "01_GT").rename(movie / "masks")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_tracks, r": sequence 01: has no man_track\.txt or res_track\.txt; track its cells first"),
        (one_frame, ", sequence 01: has 1 frame with tracked cells, two are needed; add frames"),
        (torn, r", sequence 01: lacks 1 frame \(2\), or their masks; add them, or cut the movie there"),
        (other_frame, r"t004\.tif: is 48 x 60 pixels, the first frame of the movie 48 x 80; export all frames at one"),
        (other_mask, r"t004\.tif: is 48 x 80 pixels, its mask 48 x 60; export both at the same size"),
        (small, ", sequence 01: frames are 16 x 80 px, 17 are needed"),
        (colour, "has 2 channels, scores take grey or RGB images"),
        (no_movie, r": is no movie folder \(01/t000"),
    ],
)
@pytest.mark.parametrize("side", ["prediction", "truth"])
def test_what_cannot_be_scored_is_refused(
    spoil: Callable[[Path], None], sentence: str, side: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movies = {name: film(tmp_path / name, frames=5) for name in ("prediction", "truth")}
    spoil(movies[side])
    with pytest.raises(UserError, match=sentence):
        score(movies["prediction"], movies["truth"])
    assert main(["score", "movie", *map(str, movies.values())]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_synthetic_movies_are_no_truth(tmp_path: Path) -> None:
    painted = film(tmp_path / "painted", frames=3, info={"synthetic": {"by": "a generator"}})
    with pytest.raises(UserError, match=r"synthetic, which is no ground truth; .*--allow-synthetic"):
        score(painted, painted)
    assert score(painted, painted, allow_synthetic=True).paired == ("01",)


def test_without_weights(tmp_path: Path) -> None:
    movie = film(tmp_path / "movie", frames=3)
    results = score(movie, movie, json=tmp_path / "s.json")
    assert results.frames is None and results.pairs and results.pairs.lpips is None
    files = "inception_v3_fid_2048.safetensors or inception_v3_fid_768.safetensors"
    assert any(note.startswith(f"no distance frame by frame: this needs {files}; get it by") for note in results.notes)
    assert any(note.startswith("no LPIPS: this needs squeezenet1_1.safetensors and") for note in results.notes)
    assert any("cytoforge weights fetch squeezenet lpips-squeeze, or name the folder" in note for note in results.notes)
    assert results.video is None and not any("FVD" in note for note in results.notes)
    stored = read_json(tmp_path / "s.json")
    assert stored["networks"] == {} and "frames" not in stored and "lpips" not in stored["pairs"]


class Doubled(Difference):
    name = "doubled"

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return 2 * super().forward(first, second)


class Films:
    """A network of clips without weights: their mean, and that of their change."""

    name = "films"
    num_features = 2

    def to(self, device: str) -> "Films":
        return self

    def __call__(self, clip: Tensor) -> Tensor:
        assert clip.shape == (1, 1, 16, 48, 80) and clip.min() >= -1.001
        return torch.stack([clip.mean((1, 2, 3, 4)), clip.diff(dim=2).abs().mean((1, 2, 3, 4))], dim=1)


@pytest.mark.usefixtures("networks")
class TestFurtherNetworks:
    def test_lpips_of_vgg_stands_beside_that_of_squeezenet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(evaluation, "load_lpips_vgg", lambda directory: Doubled())
        real, ours = film(tmp_path / "real", frames=4), film(tmp_path / "ours", change=blurred, frames=4)
        file = tmp_path / "s.json"
        assert main(["score", "movie", str(ours), str(real), "--threads", "1", "--json", str(file)]) == 0
        pairs = read_json(file)["pairs"]
        assert pairs["lpips_vgg"]["value"] == pytest.approx(2 * pairs["lpips"]["value"]) and pairs["lpips"]["value"] > 0
        assert (pairs["lpips_network"], pairs["lpips_vgg_network"]) == ("difference", "doubled")
        rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  LPIPS")]
        assert [row[-1] for row in rows] == ["difference", "doubled"]
        assert float(rows[1][1]) == pytest.approx(2 * float(rows[0][1]), abs=0.002)

    def test_lpips_of_vgg_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluation, "load_lpips_vgg", lambda directory: Doubled())
        monkeypatch.setattr(evaluation, "load_lpips", lambda directory: None)
        movie = film(tmp_path / "movie", frames=4)
        results = score(movie, movie)
        assert results.pairs and results.pairs.lpips is None and results.pairs.lpips_vgg
        assert not any("no LPIPS" in note for note in results.notes)

    def test_clips_of_16_frames_are_compared_by_i3d(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(evaluation, "load_i3d", lambda directory: Films())
        real, ours = film(tmp_path / "real", frames=35), film(tmp_path / "ours", change=blurred, frames=35)
        file = tmp_path / "s.json"
        assert main(["score", "movie", str(ours), str(real), "--threads", "1", "--json", str(file)]) == 0
        video = read_json(file)["video"]
        assert (video["network"], video["features"], video["generated"], video["real"]) == ("films", 2, 2, 2)
        assert video["distance"] > 0 and "halves" not in video  # one clip in each half
        assert read_json(file)["clips"]["features"] == 52
        rows = [line.split()[2:4] for line in capsys.readouterr().out.splitlines() if line.endswith("films")]
        assert rows == [[f"{video['distance']:.3f}", "-"]]

    def test_too_few_clips_for_i3d_are_remarked_on(self, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluation, "load_i3d", lambda directory: Films())
        results = score(real, real)
        assert results.video is None
        assert "no FVD (I3D): one side has fewer than two clips of 16 frames" in results.notes


class TestSegmenter:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        described = {"network": "unet", "in_channels": 1, "classes": 2, "width": 4, "depth": 2}
        normalisation = Normalisation("min-max").to_json()
        config = {"scale": 1.0, "normalisation": normalisation, "target": "semantic", "tile": 64}
        run = Run.create(tmp_path / "run", {**config, "networks": {"segmenter": described}})
        run.save_weights("segmenter", UNet(1, 2, 4, 2).state_dict())
        return run.path

    def test_faithfulness_by_track(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of two cells the generator leaves out the second in half of the frames."""
        monkeypatch.setattr("cytoforge.inference.load.load_network", lambda run, name, device: Seer().eval())
        for name in ("real", "ours"):
            writer = MovieWriter(tmp_path / name)
            for t in range(4):
                labels = np.zeros((32, 40), np.int32)
                labels[4:12, 4:12], labels[20:28, 20:28] = 3, 7
                seen = labels if name == "real" or t < 2 else labels * (labels == 3)
                writer.add_frame("01", t, np.where(seen > 0, 200, 20).astype(np.uint8)[None])
                writer.add_masks("01", "GT/TRA", t, labels)
            writer.add_tracks("01", "GT/TRA", [Track(3, 0, 3, 0), Track(7, 0, 3, 0)])
            writer.finish()
        file = tmp_path / "s.json"
        results = score(tmp_path / "ours", tmp_path / "real", segmenter=run, json=file)
        ours, real = results.generated.faithfulness, results.real.faithfulness
        assert ours and real
        assert (ours.instances, ours.mean, ours.cells) == (({3: 1.0, 7: 0.5},), 0.75, 0.75)
        assert (real.mean, real.cells) == (1, 1)
        stored = read_json(file)
        assert stored["generated"]["faithfulness"]["instances"] == {"01": {"3": 1.0, "7": 0.5}}
        assert stored["segmenter"] == str(run)
        arguments = ["score", "movie", str(tmp_path / "ours"), str(tmp_path / "real"), "--segmenter", str(run)]
        assert main([*arguments, "--threads", "1"]) == 0
        shown = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["mean", "over", "tracks", "0.750", "1.000"] in shown

    def test_it_must_suit_the_movies(self, run: Path, tmp_path: Path) -> None:
        movie = film(tmp_path / "movie", change=lambda image, t: np.concatenate([image, image // 2, image]), frames=3)
        with pytest.raises(UserError, match="run: was trained on 1 channel, the movies have 3; give another"):
            score(movie, movie, segmenter=run)


def test_real_networks_on_a_real_movie(real_data: Path, real_weights: Path, tmp_path: Path) -> None:
    """Glioblastoma cells against themselves and blurred: every score says so but coherence, which prefers the blur."""
    (sequence,) = read_sequences(real_data / "u373", ("02",))
    window = (slice(150, 246), slice(200, 296))
    movies = {name: MovieWriter(tmp_path / name) for name in ("real", "blurred")}
    labels = {t: sequence.read_tracked(t)[window] for t in range(10)}
    for name, writer in movies.items():
        for t, cells in labels.items():
            image = read_image(sequence.frames[t])[:, *window]
            writer.add_frame("02", t, blurred(image, t) if name == "blurred" else image)
            writer.add_masks("02", "GT/TRA", t, cells)
        tracks, renamed = tracks_of({t: np.setdiff1d(cells, [0]).tolist() for t, cells in labels.items()})
        assert not renamed
        writer.add_tracks("02", "GT/TRA", tracks)
        writer.finish()
    file, perceptual = tmp_path / "s.json", tmp_path / "weights"
    perceptual.mkdir()
    for kind in ("squeezenet", "lpips"):
        (perceptual / FILES[kind][0]).symlink_to(real_weights / FILES[kind][0])
    itself = score(tmp_path / "real", tmp_path / "real", weights_dir=real_weights, json=file)
    blur = score(tmp_path / "blurred", tmp_path / "real", weights_dir=perceptual)
    assert itself.frames and blur.frames is None
    for results in (itself, blur):
        assert results.pairs and results.pairs.lpips and results.clips
    assert (itself.pairs.ssim.value, itself.pairs.lpips.value) == (1, pytest.approx(0, abs=1e-6))
    assert itself.frames.distance == pytest.approx(0, abs=1e-5)
    assert itself.clips.distance == pytest.approx(0, abs=1e-5)
    assert itself.frames.network == "FID-768 (Mixed_6e)" and itself.pairs.lpips_network == "LPIPS (squeeze, v0.1)"
    assert blur.pairs.ssim.value < 0.9 and blur.pairs.lpips.value > 0.1
    assert blur.clips.distance > 1
    assert blur.generated.coherence.warping_error < blur.real.coherence.warping_error
    assert blur.generated.drift[10].texture > 2 * blur.real.drift[10].texture
    networks = read_json(file)["networks"]
    assert {name: network["sha256"] for name, network in networks.items()} == {
        name: digest(real_weights / network["file"]) for name, network in networks.items()
    }
    assert set(networks) == {"inception", "squeezenet", "lpips"}
