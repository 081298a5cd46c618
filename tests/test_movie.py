"""Movie folders are read tolerantly, the source of masks is chosen by coverage, and mistakes are named."""

from pathlib import Path

import numpy as np
import pytest

from cytoforge.data.dataset import Dataset
from cytoforge.data.images import write_labels
from cytoforge.data.movie import Track, is_movie, read_sequences, read_tracks
from cytoforge.errors import UserError


def masks(folder: Path, stem: str, numbers: range, digits: int = 3) -> None:
    for number in numbers:
        write_labels(folder / f"{stem}{number:0{digits}d}.tif", np.eye(4, dtype=np.int32))


def test_sequences_frames_and_sources(tiny_movie: Path) -> None:
    first, second = read_sequences(tiny_movie)
    assert (first.name, second.name) == ("01", "02")
    assert list(first.frames) == [0, 1, 2, 3, 4]
    assert first.frames[3].name == "t003.tif"
    assert list(first.masks) == ["ST/SEG", "GT/TRA"]
    assert (first.source, second.source) == ("ST/SEG", "ST/SEG")
    assert first.tracks == {"GT/TRA": tiny_movie / "01_GT" / "TRA" / "man_track.txt"}
    assert second.tracks == {}


def test_some_sequences_only(tiny_movie: Path) -> None:
    assert [sequence.name for sequence in read_sequences(tiny_movie, ("02",))] == ["02"]
    with pytest.raises(UserError, match=r"movie: has no sequence 03, 1; there is 01, 02"):
        read_sequences(tiny_movie, ("03", "1"))


def test_most_trusted_source_that_covers_every_frame(tiny_movie: Path) -> None:
    masks(tiny_movie / "01_GT" / "SEG", "man_seg", range(4))
    assert read_sequences(tiny_movie)[0].source == "ST/SEG"  # gold lacks frame 4
    masks(tiny_movie / "01_GT" / "SEG", "man_seg", range(6))
    assert read_sequences(tiny_movie)[0].source == "GT/SEG"  # more masks than frames do no harm
    for file in (tiny_movie / "02_ST" / "SEG").glob("*3.tif"):
        file.unlink()
    assert read_sequences(tiny_movie)[1].source is None
    masks(tiny_movie / "02_RES", "mask", range(5))
    assert read_sequences(tiny_movie)[1].source == "RES"


def test_four_digits_capitals_and_strangers(tmp_path: Path) -> None:
    masks(tmp_path / "01", "t", range(2), digits=4)
    masks(tmp_path / "01_ST" / "SEG", "man_seg", range(2))
    (tmp_path / "01" / "t0002.TIF").write_bytes((tmp_path / "01" / "t0001.tif").read_bytes())
    (tmp_path / "01_ST" / "SEG" / "MAN_SEG002.TIFF").write_bytes(b"x")
    (tmp_path / "01" / "t02.tif").write_bytes(b"x")
    (tmp_path / "01" / "notes.txt").write_text("x")
    (tmp_path / "readme").mkdir()
    (sequence,) = read_sequences(tmp_path)
    assert list(sequence.frames) == [0, 1, 2]
    assert sequence.source == "ST/SEG"


def test_numbers_count_not_names(tmp_path: Path) -> None:
    masks(tmp_path / "01", "t", range(998, 1002))
    assert list(read_sequences(tmp_path)[0].frames) == [998, 999, 1000, 1001]


def test_one_frame_in_two_files(tmp_path: Path) -> None:
    masks(tmp_path / "01", "t", range(2))
    masks(tmp_path / "01", "t", range(2), digits=4)
    with pytest.raises(UserError, match=r"t0000.tif: frame 0 is also in t000.tif; remove one"):
        read_sequences(tmp_path)


def test_what_is_a_movie(tiny_movie: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    assert is_movie(tiny_movie)
    assert not is_movie(tiny_dataset)
    assert not is_movie(tiny_movie / "01" / "t000.tif")
    (tmp_path / "plates" / "01").mkdir(parents=True)
    assert not is_movie(tmp_path / "plates")


def test_masks_without_frames_are_a_movie(tmp_path: Path) -> None:
    masks(tmp_path / "01_RES", "mask", range(3))
    dataset = Dataset.open(tmp_path)
    assert [item.name for item in dataset.items] == ["01_t000", "01_t001", "01_t002"]
    assert all(item.image is None and item.mask for item in dataset.items)


def test_tracks_between_tabs_and_spaces(tmp_path: Path) -> None:
    file = tmp_path / "man_track.txt"
    file.write_bytes("\ufeff1 0 4 0\r\n2\t5\t 9  1\n\n 30 5 5 1 \n".encode())
    assert read_tracks(file) == (Track(1, 0, 4, 0), Track(2, 5, 9, 1), Track(30, 5, 5, 1))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1 0 4", "line 1: '1 0 4' is not four whole numbers"),
        ("1 0 4 0\n2 0 4 0 7", "line 2: .* is not four whole numbers"),
        ("1 0 x 0", "line 1: '1 0 x 0' is not four"),
        ("1 4 0 0", "line 1: track 1 ends before it begins"),
        ("1 0 4 0\n1 5 6 0", "line 2: track 1 is given twice"),
    ],
)
def test_tracks_with_mistakes(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "res_track.txt").write_text(content)
    with pytest.raises(UserError, match=rf"res_track.txt, {says}.*mend it"):
        read_tracks(tmp_path / "res_track.txt")


def test_tracks_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"res_track.txt: cannot be read .*restore the file"):
        read_tracks(tmp_path / "res_track.txt")
    (tmp_path / "res_track.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_tracks(tmp_path / "res_track.txt")


@pytest.mark.parametrize(
    ("name", "frames", "sources", "tracks"),
    [
        ("u373", [115, 115], ["ST/SEG", "ST/SEG"], [8, 12]),
        ("hela", [46], ["ST/SEG"], [173]),
        ("usiigaci_movie", [37], ["RES"], [131]),
    ],
)
def test_real_movies(real_data: Path, name: str, frames: list[int], sources: list[str], tracks: list[int]) -> None:
    sequences = read_sequences(real_data / name)
    assert [len(sequence.frames) for sequence in sequences] == frames
    assert [sequence.source for sequence in sequences] == sources
    assert [len(read_tracks(file)) for sequence in sequences for file in sequence.tracks.values()] == tracks
    dataset = Dataset.open(real_data / name).pairs()
    assert len(dataset.items) == sum(frames)
    image = dataset.read_image(dataset.items[-1], 0.5)
    labels = dataset.read_labels(dataset.items[-1], 0.5)
    assert image.shape[1:] == labels.shape
    assert -1 <= image.min() < image.max() <= 1
    assert labels.max() > 0
