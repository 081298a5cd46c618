"""`cytoforge import movie`: stacks become movie folders."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile

from cytoforge.cli import main
from cytoforge.data import formats
from cytoforge.data.images import read_image
from cytoforge.data.movie import Track, read_sequences, read_tracks, tracks_of
from cytoforge.data.stack import open_stack
from cytoforge.errors import UserError


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


def test_stacks_larger_than_the_bound_are_imported_frame_by_frame(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames_file, masks_file, frames, _ = stacks
    monkeypatch.setattr(formats, "MAX_BYTES", 2 * frames[0].nbytes)
    assert main(["import", "movie", str(frames_file), "--masks", str(masks_file), "--out", str(tmp_path / "out")]) == 0
    (sequence,) = read_sequences(tmp_path / "out")
    assert all(np.array_equal(read_image(file)[0], frames[number]) for number, file in sequence.frames.items())


def _folder(path: Path, frames: Iterable[np.ndarray], first: int = 8) -> Path:
    """Images f8.tif, f9.tif, f10.tif ..."""
    path.mkdir()
    for number, frame in enumerate(frames, first):
        tifffile.imwrite(path / f"f{number}.tif", frame)
    return path


def test_folders_of_images_are_movies_in_natural_order(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = _folder(tmp_path / "frames", stacks[2])
    masks = _folder(tmp_path / "masks", [*stacks[3][:4], stacks[3][4].astype(np.uint8)])  # ids in any depth
    (frames / "Thumbs.db").write_bytes(b"x")
    assert main(["import", "movie", str(frames), "--masks", str(masks), "--out", str(tmp_path / "out")]) == 0
    assert "left out as no images: 1 file (Thumbs.db)" in capsys.readouterr().err
    (sequence,) = read_sequences(tmp_path / "out")
    assert all(np.array_equal(read_image(file)[0], stacks[2][number]) for number, file in sequence.frames.items())
    assert read_tracks(sequence.tracks["RES"]) == (Track(3, 0, 1, 0), Track(7, 0, 4, 0), Track(8, 3, 4, 3))
    (frames / "f10.tif").unlink()
    assert open_stack(frames).frames == 4
    assert "numbers are missing in the names, 8 to 12 for 4 images" in capsys.readouterr().err


def test_folders_that_are_no_movie(stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    frames = stacks[2]
    for name, odd, says in (
        ("depth", frames[0].astype(np.uint8), r"f11.tif: has 1 channel of 30 x 40 pixels of uint8, f8.tif"),
        ("size", frames[0][:20], r"f11.tif: has 1 channel of 20 x 40 pixels of uint16, f8.tif .* 30 x 40"),
        ("pages", np.stack([frames[0]] * 2), r"f11.tif: holds 2 frames in a folder of images"),
    ):
        with pytest.raises(UserError, match=says):
            open_stack(_folder(tmp_path / name, [*frames[:3], odd]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no images; give the folder"):
        open_stack(tmp_path / "empty")
    assert main(["import", "movie", str(stacks[0]), "--out", str(tmp_path / "out")]) == 0
    with pytest.raises(UserError, match="out: is a movie folder already"):
        open_stack(tmp_path / "out")


def test_depth_without_time_is_frames_which_is_told(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for axes, told in (("ZYX", True), ("TYX", False)):
        path, out = tmp_path / f"{axes}.tif", tmp_path / axes
        tifffile.imwrite(path, stacks[2], imagej=True, metadata={"axes": axes})
        assert main(["import", "movie", str(path), "--out", str(out)]) == 0
        sentence = f"{path}: has no axis of time; its 5 slices in depth are taken for frames"
        assert (sentence in capsys.readouterr().err) == told and len(list((out / "01").iterdir())) == 5


def test_channels_without_time_are_frames_and_depth_is_told(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = stacks[2]
    tifffile.imwrite(tmp_path / "cyx.tif", frames, imagej=True, metadata={"axes": "CYX"})
    assert main(["import", "movie", str(tmp_path / "cyx.tif"), "--out", str(tmp_path / "out")]) == 0
    assert "cyx.tif: has no axis of time; its 5 channels are taken for frames" in capsys.readouterr().err
    (sequence,) = read_sequences(tmp_path / "out")
    assert all(np.array_equal(read_image(file)[0], frames[number]) for number, file in sequence.frames.items())
    tifffile.imwrite(tmp_path / "tzyx.tif", np.stack([frames] * 3, 1), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(UserError, match=r"its axes are TZYX .* projection over Z \(in ImageJ"):
        open_stack(tmp_path / "tzyx.tif")


def test_ids_beyond_16_bits_are_numbered_anew(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = stacks[3].astype(np.uint32)
    masks[masks == 7] = 2**31 - 1
    tifffile.imwrite(tmp_path / "big.tif", masks, photometric="minisblack")
    line = ["import", "movie", str(stacks[0]), "--masks", str(tmp_path / "big.tif"), "--out", str(tmp_path / "out")]
    assert main(line) == 0
    assert "ids reach 2147483647 and 16 bits hold 65535, so they become 1 to 3 in order" in capsys.readouterr().out
    (sequence,) = read_sequences(tmp_path / "out")
    assert read_tracks(sequence.tracks["RES"]) == (Track(1, 3, 4, 2), Track(2, 0, 1, 0), Track(3, 0, 4, 0))
    for number, labels in sequence.tracked():
        assert np.array_equal(labels == 3, masks[number] == 2**31 - 1)
        assert np.array_equal(labels == (2 if number < 2 else 1), masks[number] == 3)


def test_more_tracks_than_ids_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "frames.tif", np.zeros((2, 257, 256), np.uint8), photometric="minisblack")
    many = np.arange(2 * 257 * 256, dtype=np.uint32).reshape(2, 257, 256)
    tifffile.imwrite(tmp_path / "masks.tif", many, photometric="minisblack")
    line = ["import", "movie", str(tmp_path / "frames.tif"), "--masks", str(tmp_path / "masks.tif")]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_damaged_frame_is_found_before_anything_is_written(
    stacks: tuple[Path, Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.tif"
    tifffile.imwrite(broken, stacks[2], photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(broken) as file:
        last = file.pages[4].dataoffsets[0]
    content = bytearray(broken.read_bytes())
    content[last : last + 40] = bytes(40)
    broken.write_bytes(content)
    assert main(["import", "movie", str(broken), "--out", str(tmp_path / "out")]) == 2
    assert "broken.tif: cannot be read" in capsys.readouterr().err
    assert main(["import", "movie", str(stacks[0]), "--out", str(tmp_path / "out")]) == 0


# films


def _film(path: Path, frames: np.ndarray, codec: str, pixels: str, given: str | None = None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10), options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=given or pixels)))
        container.mux(stream.encode(None))
    return path


def _frames(path: Path) -> np.ndarray:
    return np.stack(list(open_stack(path)))


@pytest.mark.parametrize(("pixels", "bits"), [("gray", 8), ("gray10le", 10), ("gray12le", 12), ("gray16le", 16)])
def test_films_keep_their_depth(tmp_path: Path, pixels: str, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    frames = np.random.default_rng(0).integers(0, 2**bits, (4, 34, 46)).astype(dtype)
    film = _frames(_film(tmp_path / "a.mkv", frames, "ffv1", pixels))
    assert film.dtype == dtype
    np.testing.assert_array_equal(film[:, 0], frames)


def test_coloured_films_of_many_bits(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 2**16, (3, 34, 46, 3)).astype(np.uint16)
    film = _frames(_film(tmp_path / "a.mkv", colours, "ffv1", "gbrp16le", "rgb48le"))
    np.testing.assert_array_equal(film, colours.transpose(0, 3, 1, 2))
    ramp = np.broadcast_to(np.linspace(0, 60000, 48).astype(np.uint16)[:, None], (3, 34, 48, 3))
    grey = _frames(_film(tmp_path / "b.mkv", np.ascontiguousarray(ramp), "ffv1", "yuv420p10le", "rgb48le"))
    assert grey.shape == (3, 1, 34, 48) and grey.dtype == np.uint16
    np.testing.assert_allclose(grey[:, 0].astype(int), ramp[..., 0], atol=257)  # a level of 8 bits


def test_films_that_are_damaged_or_no_masks(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 2**16, (5, 34, 46)).astype(np.uint16)
    content = _film(tmp_path / "a.mkv", frames, "ffv1", "gray16le").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    spoilt = bytearray(content)
    spoilt[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    (tmp_path / "spoilt.mkv").write_bytes(spoilt)
    for name in ("cut.mkv", "spoilt.mkv", "spoilt.mkv"):  # again: the decoder does not say the same twice
        with pytest.raises(UserError, match=rf"{name}: is damaged .* export it anew"):
            open_stack(tmp_path / name)
    with pytest.raises(UserError, match=r"a.mkv: a film changes values, so it holds no masks"):
        open_stack(tmp_path / "a.mkv", labels=True)


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
