"""Movie folders are read tolerantly, the source of masks is chosen by coverage, and mistakes are named."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cells import draw
from cytoforge.cells.labels import unused
from cytoforge.commands.check import check
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_header, read_labels, write_labels
from cytoforge.data.movie import (
    MovieWriter,
    Track,
    encode_gif,
    inconsistencies,
    is_movie,
    read_sequences,
    read_tracks,
    relabelled,
)
from cytoforge.errors import UserError
from cytoforge.settings import Check


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
        ("0 0 4 0", "line 1: '0 0 4 0' has a label below 1"),
        ("1 -1 4 0", "line 1: .*, or a frame or parent below 0"),
        ("1 0 4 -2", "line 1: .*, or a frame or parent below 0"),
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


# Tracked masks


def test_cells_get_the_ids_of_their_markers() -> None:
    labels = draw("""
        AAAA..BBBB..
        AAAA..BBBB..
        AAAA..BBBB..
        ............
        CCC...DDDD..
        CCC...DDDD..
        """)
    markers = draw("""
        ............
        .GG...HH.I..
        .GG...HH....
        ............
        ......E....Z
        ...........Z
        """)
    expected = draw("""
        GGGG..HHHH..
        GGGG..HHHH..
        GGGG..HHHH..
        ............
        ......EEEE.Z
        ......EEEE.Z
        """)
    # I lies in H's cell, C has no marker, Z no cell
    assert np.array_equal(relabelled(labels, markers), expected)
    split = draw("AA.BBB")
    assert np.array_equal(relabelled(split, draw("KKKKKK")), draw("...KKK"))
    assert not relabelled(np.zeros((3, 3), np.int32), np.zeros((3, 3), np.int32)).any()
    with pytest.raises(ValueError, match="must have one shape"):
        relabelled(labels, markers[:3])


def test_masks_and_markers_of_different_sizes_are_refused(tiny_movie: Path) -> None:
    (first, _) = read_sequences(tiny_movie)
    assert set(np.unique(first.read_tracked(0)).tolist()) == {0, 1}
    write_labels(tiny_movie / "01_ST" / "SEG" / "man_seg002.tif", np.zeros((40, 56), np.int32))
    with pytest.raises(UserError, match=r"man_track002\.tif: has another size than .*man_seg002\.tif; export both"):
        first.read_tracked(2)


def test_frames_numbered_as_in_the_track_file(tiny_movie: Path) -> None:
    first, second = read_sequences(tiny_movie)
    assert first.track_source == "GT/TRA" and first.source == "ST/SEG"
    for frame, labels in first.tracked():
        silver = read_labels(first.masks["ST/SEG"][frame])
        marker = read_labels(first.masks["GT/TRA"][frame])
        (label,) = np.unique(marker[marker > 0]).tolist()
        assert label == (1 if frame < 3 else 2)
        under = np.bincount(silver[(marker > 0) & (silver > 0)]).argmax()
        assert np.array_equal(labels == label, silver == under)
    with pytest.raises(UserError, match=r"sequence 02: has no man_track.txt or res_track.txt"):
        list(second.tracked())
    (tiny_movie / "03_RES").mkdir()
    (tiny_movie / "03_RES" / "res_track.txt").write_text("1 0 0 0\n")
    with pytest.raises(UserError, match="sequence 03: has tracks but no masks"):
        list(read_sequences(tiny_movie, ("03",))[0].tracked())


# Consistency


def two_tracks(*rows: Track) -> dict[int, list[int]]:
    return {frame: [row.label for row in rows if row.begin <= frame <= row.end] for frame in range(10)}


@pytest.mark.parametrize(
    ("rows", "severity", "says"),
    [
        ([Track(2, 3, 5, 9)], "error", "1 track (2 of 9) whose parent has no track"),
        (
            [Track(1, 0, 4, 0), Track(2, 4, 5, 1)],
            "error",
            "1 track (2 of 1) that do not begin after their parent's end",
        ),
        ([Track(2, 3, 5, 2)], "error", "1 track (2 of 2) that do not begin after"),
        (
            [Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(3, 2, 3, 1), Track(4, 2, 3, 1)],
            "warning",
            "1 track (1) with more than two daughters",
        ),
        (
            [Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(3, 4, 5, 1)],
            "warning",
            "1 mother (1) whose daughters begin later",
        ),
    ],
)
def test_unlikely_parents(rows: list[Track], severity: str, says: str) -> None:
    (problem,) = inconsistencies(rows, two_tracks(*rows))
    assert problem.severity == severity
    assert problem.what.startswith(says)
    assert problem.remedy


def test_good_tracks_and_reappearances_are_left_in_peace() -> None:
    rows = [Track(1, 0, 2, 0), Track(2, 3, 4, 1), Track(3, 3, 4, 1), Track(4, 0, 1, 0), Track(5, 6, 9, 4)]
    assert inconsistencies(rows, two_tracks(*rows)) == []


def test_a_gap_is_told_from_an_end() -> None:
    rows = [Track(1, 0, 9, 0)]
    cells = two_tracks(*rows)
    cells[4], cells[9] = [], [7]
    gap, end, strange = inconsistencies(rows, cells)
    assert gap.what == "1 cell (1 in frame 4) missing inside a track"
    assert end.what == "1 cell (1 in frame 9) in the track file without a mask"
    assert strange.what == "1 cell (7 in frame 9) in the masks without a track"


# Writing


def write(path: Path, frames: int = 4, **settings: object) -> MovieWriter:
    writer = MovieWriter(path, {"seed": 1}, **settings)  # type: ignore[arg-type]
    for frame in range(frames):
        labels = np.zeros((20, 24), np.int32)
        labels[3:9, 3 + frame : 9 + frame] = 1 if frame < 2 else 300
        writer.add_frame("01", frame, np.full((1, 20, 24), 100 + frame, np.uint16))
        writer.add_masks("01", "RES", frame, labels)
    return writer


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    writer = write(tmp_path / "out")
    tracks = (Track(1, 0, 1, 0), Track(300, 2, 3, 1))
    writer.add_tracks("01", "RES", reversed(tracks))
    assert (tmp_path / "out" / "01_RES" / "res_track.txt").read_bytes() == b"1 0 1 0\n300 2 3 1\n"
    assert writer.finish({"found": 2}) == tmp_path / "out"
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert info == {"written_by": "cytoforge", "seed": 1, "found": 2, "complete": True}
    (sequence,) = read_sequences(tmp_path / "out")
    assert read_tracks(sequence.tracks["RES"]) == tracks
    assert read_header(sequence.masks["RES"][0])[1] == np.uint16
    assert [int(labels.max()) for _, labels in sequence.tracked()] == [1, 1, 300, 300]
    assert check(Check(tmp_path / "out")) != []  # frames of one grey value are found, tracks are good
    assert all("one grey value" in finding.what for finding in check(Check(tmp_path / "out")))


def test_interrupted_writing_goes_on_and_nothing_is_replaced_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, frames=3)
    again = MovieWriter(out, {"seed": 1})
    assert again.has("01", "RES", 2) and again.has("01", "frames", 2) and not again.has("01", "RES", 3)
    assert not again.has_tracks("01", "RES")
    again.add_tracks("01", "RES", [Track(1, 0, 1, 0), Track(300, 2, 2, 0)])  # masks of before are looked at
    assert MovieWriter(out, {"seed": 1}).has_tracks("01", "RES")
    with pytest.raises(UserError, match=r"holds unfinished work with another seed; .*--overwrite"):
        MovieWriter(out, {"seed": 2})
    again.finish()
    with pytest.raises(UserError, match="holds results already"):
        MovieWriter(out, {"seed": 1})
    (out / "01_RES" / "notes.txt").write_text("mine")
    MovieWriter(out, {"seed": 2}, overwrite=True)
    files = [file.name for file in sorted(out.rglob("*")) if file.is_file()]
    assert files == ["notes.txt", "dataset.json", "manifest.jsonl"]


def test_a_movie_of_the_user_is_never_replaced(tiny_movie: Path) -> None:
    before = sorted(tiny_movie.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds a movie that cytoforge did not write"):
            MovieWriter(tiny_movie, overwrite=overwrite)
    assert sorted(tiny_movie.rglob("*")) == before
    with pytest.raises(UserError, match="is a file"):
        MovieWriter(tiny_movie / "01" / "t000.tif")


def test_the_writer_is_strict(tmp_path: Path) -> None:
    writer = write(tmp_path / "out")
    with pytest.raises(ValueError, match=r"contradict the masks .*300 in frame 2"):
        writer.add_tracks("01", "RES", [Track(1, 0, 1, 0)])
    with pytest.raises(ValueError, match=r"1 in frame 2, 1 in frame 3"):
        writer.add_tracks("01", "RES", [Track(1, 0, 3, 0), Track(300, 2, 3, 0)])
    with pytest.raises(ValueError, match="a label twice"):
        writer.add_tracks("01", "RES", [Track(1, 0, 1, 0), Track(1, 0, 1, 0), Track(300, 2, 3, 0)])
    assert not writer.has_tracks("01", "RES")
    with pytest.raises(ValueError, match=r"frames of \(20, 24\) pixels, got \(20, 25\)"):
        writer.add_masks("01", "RES", 4, np.zeros((20, 25), np.int32))
    with pytest.raises(UserError, match="ids up to 65535, these reach 65536"):
        writer.add_masks("01", "RES", 4, np.full((20, 24), 65536, np.int32))
    with pytest.raises(ValueError, match="tracks belong to GT/TRA or RES, not to ST/SEG"):
        writer.add_tracks("01", "ST/SEG", [])


def test_a_film_shows_its_frames(tmp_path: Path) -> None:
    colours = np.zeros((256, 3), np.uint8)
    colours[1], colours[2] = (250, 10, 10), (10, 10, 250)
    frames = [np.full((6, 9), number, np.uint8) for number in (1, 2, 1)]
    (tmp_path / "film.gif").write_bytes(encode_gif(frames, colours))
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size) == (3, (9, 6))  # type: ignore[attr-defined]
        for index, number in enumerate((1, 2, 1)):
            film.seek(index)
            assert film.convert("RGB").getpixel((4, 3)) == tuple(colours[number].tolist())


HUGE = 2**31 - 1


def test_ids_beyond_16_bits_are_renumbered_where_they_are_announced(tmp_path: Path) -> None:
    masks = [np.array([[0, 70000, HUGE]]), np.array([[5, 0, HUGE]])]
    writer = MovieWriter(tmp_path / "out")
    assert writer.announce("02", [0, 65535]) is None
    assert writer.announce("01", [HUGE, 5, 70000]) == (
        f"{tmp_path / 'out'}: sequence 01: ids reach {HUGE} and 16 bits hold 65535, so they become 1 to 3 in order"
    )
    for number, labels in enumerate(masks):
        writer.add_masks("01", "RES", number, labels)
    writer.add_tracks("01", "RES", [Track(5, 1, 1, 70000), Track(70000, 0, 0, 0), Track(HUGE, 0, 1, 0)])
    (sequence,) = read_sequences(writer.finish())
    assert [labels.tolist() for _, labels in sequence.tracked()] == [[[0, 2, 3]], [[1, 0, 3]]]
    assert read_tracks(sequence.tracks["RES"]) == (Track(1, 1, 1, 2), Track(2, 0, 0, 0), Track(3, 0, 1, 0))
    with pytest.raises(UserError, match=r"sequence 03: has 65536 cells or tracks, a movie holds 65535; cut it"):
        writer.announce("03", range(1, 65537))


def test_labels_that_are_free() -> None:
    assert list(itertools.islice(unused([3, 1]), 2)) == [4, 5]
    assert list(itertools.islice(unused({HUGE - 1, 1}), 3)) == [HUGE, 2, 3]
    assert next(unused([])) == 1


def test_markers_of_any_id() -> None:
    labels, markers = np.array([[9, 9, HUGE, 0]]), np.array([[HUGE, 0, 3, 4]])
    assert relabelled(labels, markers).tolist() == [[HUGE, HUGE, 3, 4]]


def test_a_track_without_end_is_told_at_once() -> None:
    tracks = [Track(1, 0, 2 * 10**9, 0), Track(2, 10**9, 2 * 10**9 - 1, 0)]
    (found,) = inconsistencies(tracks, {0: [1], 1: [1]})
    assert found.what == (
        "2999999999 cells (1 in frame 2, 1 in frame 3, 1 in frame 4 ...) in the track file without a mask"
    )
