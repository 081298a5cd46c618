"""How painted frames are recorded: grey values, the camera's noise, and what an interrupted movie goes on from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from conftest import content
from cytoforge.cli import main
from cytoforge.data.files import digest, read_json, write_json
from cytoforge.data.images import read_image
from cytoforge.data.run_config import RunConfig
from cytoforge.errors import UserError
from cytoforge.inference.frames import FramePainter
from cytoforge.inference.recording import Cells, Recorder
from cytoforge.simulation.contrast import contrasts
from test_engine import files

LOUD = [{"read": 4e-3, "gain": 1e-3, "blur": 0.6, "flicker": 0.01}]
FRAME = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)


def recorder(channels: int = 1, noisy: bool = True, **told: Any) -> Recorder:
    settings = RunConfig.model_validate({"format": 1, **told})
    return Recorder.of(settings, Path("run"), channels, seed=0, noise=noisy, contrast=True)


@pytest.mark.parametrize(
    ("pixels", "limits", "written"),
    [
        ("uint8", [10.0, 210.0], [10, 60, 110, 210]),
        ("uint16", [33000.0, 33400.0], [33000, 33100, 33200, 33400]),
        ("float32", [-0.5, 1.5], [-0.5, 0, 0.5, 1.5]),
    ],
)
def test_grey_values_are_those_of_the_training_movie(pixels: str, limits: list[float], written: list[float]) -> None:
    found = recorder(pixels=pixels, limits={"01": [limits], "02": [[0.0, 1.0]]})
    frame = found.record(np.array([[[-1, -0.5, 0, 1]]], np.float32), "01", 0)
    assert frame.dtype == pixels and frame.tolist() == [[written]] and found.limits == tuple(limits)


def test_grey_values_end_where_their_type_does() -> None:
    frame = recorder(pixels="uint8", limits={"01": [[10.0, 250.0]]}).stored(np.array([[[-1.5, 1.5]]], np.float32))
    assert frame.tolist() == [[[0, 255]]]


@pytest.mark.parametrize("told", [{}, {"pixels": "uint8"}, {"limits": {"01": [[3.0, 9.0]]}}])
def test_runs_that_do_not_tell_have_all_of_16_bits(told: dict[str, Any]) -> None:
    frame = recorder(**told).record(np.array([[[-1, 1]]], np.float32), "01", 0)
    assert frame.dtype == np.uint16 and frame.tolist() == [[[0, 65535]]]


def test_so_have_several_channels_and_a_movie_of_one_grey_value() -> None:
    two = recorder(2, pixels="uint8", limits={"01": [[3.0, 9.0], [0.0, 5.0]]})
    flat = recorder(pixels="uint8", limits={"01": [[3.0, 3.0]]})
    assert two.limits == flat.limits == (0, 65535)


def test_noise_follows_from_seed_sequence_and_frame_alone() -> None:
    loud = recorder(noise=LOUD)
    one = loud.exposed(FRAME, "01", 3)
    assert one.tobytes() == loud.exposed(FRAME, "01", 3).tobytes()
    others = [loud.exposed(FRAME, "02", 3), loud.exposed(FRAME, "01", 4)]
    others.append(Recorder(loud.noise, (), loud.limits, loud.pixels, 1).exposed(FRAME, "01", 3))
    for other in others:
        assert abs(np.corrcoef((one - FRAME).ravel(), (other - FRAME).ravel())[0, 1]) < 0.1
    # at grey values of 0 on average, 4e-3 + 1e-3 x 1
    assert np.var(one - FRAME) == pytest.approx(5e-3, rel=0.1)
    assert recorder(noisy=False, noise=LOUD).exposed(FRAME, "01", 3) is FRAME


def test_noise_of_other_channels_is_refused() -> None:
    with pytest.raises(UserError, match="has the noise of 1 channel for frames of 2"):
        recorder(2, noise=LOUD)


def test_a_cell_and_its_descendants_have_one_contrast_of_the_training_movie() -> None:
    drawn = recorder(contrasts=np.linspace(0.2, 0.6, 21).tolist())
    labels = np.zeros((64, 64), int)
    for cell, corner in enumerate(range(2, 60, 12), 1):
        labels[corner : corner + 8, 20:40] = cell
    ground = np.full((1, 64, 64), -0.5, np.float32)
    painted = ground + np.float32(0.4) * (labels > 0)

    def seen(sequence: str, founders: dict[int, int]) -> list[float]:
        cells = Cells(founders, {})
        return list(contrasts(drawn.cast(painted, ground, labels, cells, sequence, 0), ground, labels).values())

    one = seen("01", {})
    assert one == seen("01", {}) != seen("02", {})
    assert 0.15 < min(one) < max(one) < 0.61 and len({round(value, 3) for value in one}) == 5
    family = seen("01", {1: 1, 2: 1, 3: 3, 4: 3, 5: 3})
    assert family[0] == pytest.approx(family[1], rel=0.1) and family[2] == pytest.approx(family[4], rel=0.1)
    assert family[0] != pytest.approx(family[2], rel=0.1)
    alone = Cells({}, {})
    assert drawn.cast(painted, None, labels, alone, "01", 0) is painted
    assert recorder(contrasts=[0.3]).cast(painted, ground, labels, alone, "01", 0) is painted  # no quantiles


def test_founders_are_the_first_of_their_family() -> None:
    assert recorder().cells([], {2: 1, 3: 1, 4: 2, 9: 4, 7: 5}, "01") == Cells({2: 1, 3: 1, 4: 1, 9: 1, 7: 5}, {})


@pytest.fixture
def run(tiny_movie: Path, tmp_path: Path) -> Path:
    """A run whose camera is louder than what it was trained on."""
    out = tmp_path / "run"
    line = ["train", "movie", str(tiny_movie), "--out", str(out), "--preset", "tiny", "--threads", "1", "--steps", "1"]
    assert main(line) == 0
    told = read_json(out / "config.json")
    assert told["pixels"] == "uint8" and set(told["noise"][0]) == set(LOUD[0])
    assert len(told["contrasts"]) in (0, 21)
    write_json(out / "config.json", told | {"noise": LOUD, "contrasts": np.linspace(0.1, 1, 21).tolist()})
    return out


def generate(run: Path, masks: Path, out: Path, *flags: str) -> int:
    return main(["generate", "movie", str(run), str(masks), "--out", str(out), "--threads", "1", *flags])


def frames(out: Path) -> np.ndarray:
    info = read_json(out / "dataset.json")
    low, high = info["limits"]
    images = [read_image(file).astype(float) for file in sorted((out / "01").iterdir())]
    return (np.stack(images) - low) / (high - low) * 2 - 1


def test_noise_is_on_what_is_written_and_not_on_what_is_painted(run: Path, tiny_movie: Path, tmp_path: Path) -> None:
    assert generate(run, tiny_movie, tmp_path / "loud") == 0
    assert generate(run, tiny_movie, tmp_path / "quiet", "--no-noise") == 0
    noise = frames(tmp_path / "loud") - frames(tmp_path / "quiet")
    assert noise.std() == pytest.approx(np.sqrt(4.5e-3), rel=0.2)  # cut off at 0, rounded, and not fed back
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    assert noise[-1].std() == pytest.approx(noise[0].std(), rel=0.1)
    assert not (tmp_path / "loud" / "01_LOW").exists()
    assert "generate movie" in read_json(tmp_path / "loud" / "dataset.json")["synthetic"]["by"]
    assert generate(run, tiny_movie, tmp_path / "loud", "--no-noise") == 2
    for name, flag in {"worn": "--texture", "plain": "--no-contrast"}.items():
        assert generate(run, tiny_movie, tmp_path / name, "--no-noise", flag) == 0
    quiet, worn, plain = (frames(tmp_path / name) for name in ("quiet", "worn", "plain"))
    assert not np.array_equal(worn, quiet) and not np.array_equal(plain, quiet)


def test_textures_that_do_not_serve_are_refused(run: Path, tiny_movie: Path, tmp_path: Path, capsys: Any) -> None:
    file = run / "weights" / "textures.safetensors"
    stored = load_file(file)
    assert len(stored["tracks"]) and stored["patches"].shape[1] == 1
    save_file({**stored, "outlines": stored["outlines"][:, :3].contiguous()}, file)
    provenance = read_json(run / "provenance.json")
    provenance["weights"]["textures"] = digest(file)
    write_json(run / "provenance.json", provenance)
    capsys.readouterr()
    assert generate(run, tiny_movie, tmp_path / "out") == 2
    assert "its textures do not serve" in capsys.readouterr().err and not (tmp_path / "out").exists()
    file.unlink()
    assert generate(run, tiny_movie, tmp_path / "out", "--texture") == 2
    assert f"{run}: keeps no textures of cells" in capsys.readouterr().err
    assert generate(run, tiny_movie, tmp_path / "out") == 0


def test_a_run_without_a_camera_says_so(run: Path, tiny_movie: Path, tmp_path: Path, capsys) -> None:
    told = read_json(run / "config.json")
    write_json(run / "config.json", {key: value for key, value in told.items() if key not in ("noise", "pixels")})
    capsys.readouterr()
    assert generate(run, tiny_movie, tmp_path / "out") == 0
    assert f"{run}: does not tell the noise of its camera, so frames have none; train again" in capsys.readouterr().out
    assert read_image(tmp_path / "out" / "01" / "t000.tif").dtype == np.uint16
    assert read_json(tmp_path / "out" / "dataset.json")["limits"] == [0, 65535]


def test_parts_give_what_one_call_gives(run: Path, tiny_movie: Path, tmp_path: Path) -> None:
    assert generate(run, tiny_movie, tmp_path / "one", "--texture") == 0
    for part in ("2/2", "1/2"):
        assert generate(run, tiny_movie, tmp_path / "parts", "--texture", "--part", part) == 0
    one, parts = files(tmp_path / "one"), files(tmp_path / "parts")
    assert parts == one


def test_an_interrupted_movie_goes_on_without_painting_again(
    run: Path, tiny_movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("--sequence", "01", "--texture")
    assert generate(run, tiny_movie, tmp_path / "whole", *line) == 0
    paint, painted = FramePainter.paint, list[int]()

    def counted(self: FramePainter, labels: np.ndarray) -> np.ndarray:
        painted.append(1)
        if len(painted) == stop:
            raise KeyboardInterrupt
        return paint(self, labels)

    monkeypatch.setattr(FramePainter, "paint", counted)
    out, stop = tmp_path / "cut", 4
    assert generate(run, tiny_movie, out, *line) == 130
    assert [file.name for file in (out / "01_LOW").iterdir()] == ["t002.tif"]  # what the fourth frame follows from
    painted.clear()
    stop = 0
    assert generate(run, tiny_movie, out, *line) == 0
    assert len(painted) == 2 and content(out) == content(tmp_path / "whole")
    lost, stop = tmp_path / "lost", 4
    painted.clear()
    assert generate(run, tiny_movie, lost, *line) == 130
    for file in ("01/t001.tif", "01_LOW/t002.tif"):
        (lost / file).unlink()
    painted.clear()
    stop = 0
    assert generate(run, tiny_movie, lost, *line) == 0  # all is painted again, what is there stays
    assert len(painted) == 5 and content(lost) == content(tmp_path / "whole")
