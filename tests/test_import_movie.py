"""`cytoforge import movie`: stacks become movie folders."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytoforge.cli import main
from cytoforge.data.images import read_image
from cytoforge.data.movie import Track, read_sequences, read_tracks, tracks_of


@pytest.fixture
def stacks(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Five frames with cell 7 throughout, and cell 3 in all but frame 2."""
    frames = np.random.default_rng(0).integers(0, 4000, (5, 30, 40)).astype(np.uint16)
    masks = np.zeros((5, 30, 40), np.uint16)
    for frame in range(5):
        masks[frame, 4:10, 4 + frame : 10 + frame] = 7
        if frame != 2:
            masks[frame, 20:26, 20:26] = 3
    tifffile.imwrite(tmp_path / "frames.tif", frames, photometric="minisblack", metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "masks.tif", masks, photometric="minisblack", metadata={"axes": "TYX"})
    return tmp_path / "frames.tif", tmp_path / "masks.tif", frames, masks


def test_frames_masks_and_tracks(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames_file, masks_file, frames, masks = stacks
    out = tmp_path / "out"
    line = ["import", "movie", str(frames_file), "--masks", str(masks_file), "--out", str(out)]
    assert main(line) == 0
    assert capsys.readouterr().out == f"{out}: 5 frames, 3 tracks\n"
    (sequence,) = read_sequences(out)
    assert all(np.array_equal(read_image(file)[0], frames[number]) for number, file in sequence.frames.items())
    assert read_tracks(sequence.tracks["RES"]) == (Track(3, 0, 1, 0), Track(7, 0, 4, 0), Track(8, 3, 4, 3))
    for number, labels in sequence.tracked():
        assert np.array_equal(labels == 7, masks[number] == 7)
        assert np.array_equal(labels == (3 if number < 2 else 8), masks[number] == 3)
    assert main(["check", str(out)]) == 0
    assert main(line) == 2
    assert "holds results already" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0


def test_frames_alone(stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    assert main(["import", "movie", str(stacks[0]), "--out", str(tmp_path / "out")]) == 0
    (sequence,) = read_sequences(tmp_path / "out")
    assert list(sequence.frames) == [0, 1, 2, 3, 4] and not sequence.masks


def test_mistakes(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, _, pixels, masks = stacks
    tifffile.imwrite(tmp_path / "four.tif", masks[:4], photometric="minisblack", metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "one.tif", pixels[0])
    tifffile.imwrite(
        tmp_path / "smooth.tif", masks.astype(np.float32) / 3, photometric="minisblack", metadata={"axes": "TYX"}
    )
    for line, sentence in (
        ([str(frames), "--masks", str(tmp_path / "four.tif")], "has 4 of 30 x 40 pixels, frames.tif 5 of 30 x 40"),
        ([str(tmp_path / "one.tif")], "is one image, no movie"),
        ([str(frames), "--masks", str(tmp_path / "smooth.tif")], "holds fractions or NaN"),
        ([str(tmp_path / "film.mp4")], "film.mp4"),
    ):
        assert main(["import", "movie", *line, "--out", str(tmp_path / "out")]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_tracks_of_nothing_and_of_several_gaps() -> None:
    assert tracks_of({0: [], 1: []}) == ((), {})
    tracks, renamed = tracks_of({0: [2], 2: [2], 3: [], 4: [2], 5: [2]})
    assert tracks == (Track(2, 0, 0, 0), Track(3, 2, 2, 2), Track(4, 4, 5, 3))
    assert renamed == {(2, 2): 3, (4, 2): 4, (5, 2): 4}


def test_ids_beyond_16_bits(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells 3 and 7 as 2^31 - 1 and 2e9: what follows the gap of the first takes the least free id, before all."""
    frames_file, masks_file, _, masks = stacks
    names = np.array([0, 0, 0, 2**31 - 1, 0, 0, 0, 2_000_000_000], np.uint32)
    tifffile.imwrite(masks_file, names[masks], photometric="minisblack", metadata={"axes": "TYX"})
    out = tmp_path / "out"
    assert main(["import", "movie", str(frames_file), "--masks", str(masks_file), "--out", str(out)]) == 0
    assert "ids reach 2147483647 and 16 bits hold 65535, so they become 1 to 3 in order" in capsys.readouterr().out
    (sequence,) = read_sequences(out)
    assert read_tracks(sequence.tracks["RES"]) == (Track(1, 3, 4, 3), Track(2, 0, 4, 0), Track(3, 0, 1, 0))
    for number, labels in sequence.tracked():
        assert np.array_equal(labels == 2, masks[number] == 7)
        assert np.array_equal(labels == (3 if number < 2 else 1), masks[number] == 3)
