"""Tracks go out to other tools' formats and come back as they were; what cannot be tracks is refused."""

import csv
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import geff.core_io
import numpy as np
import pytest
import tifffile
import zarr
from geff.convert import from_trackmate_xml_to_geff
from geff.validate.data import ValidationConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from cells import FAMILY, FAMILY_TRACKS
from conftest import write_movie
from cytoforge.cells.labels import renumbered
from cytoforge.cli import main
from cytoforge.data.images import read_image, read_labels, write_image
from cytoforge.data.interchange.geff import read_geff, write_geff
from cytoforge.data.interchange.hyperstack import fits, write_hyperstack
from cytoforge.data.interchange.tables import read_napari, write_napari
from cytoforge.data.interchange.trackmate import read_trackmate, write_trackmate
from cytoforge.data.movie import Track, read_sequences, read_tracks
from cytoforge.data.tracks import Calibration, Spots, mended, place
from cytoforge.errors import UserError
from cytoforge.metrics.cells import follow, gathered, outline

Masks = dict[int, np.ndarray]
FORMATS = {"trackmate": "tracks.xml", "geff": "tracks.geff", "napari": "tracks.csv"}


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return write_movie(tmp_path / "movie", dict(enumerate(FAMILY)), FAMILY_TRACKS)


def contents(folder: Path) -> tuple[tuple[Track, ...], list[list[list[int]]]]:
    (sequence,) = read_sequences(folder)
    return read_tracks(sequence.tracks["RES"]), [read_labels(file).tolist() for file in sequence.masks["RES"].values()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_features_in_pixels(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cells.csv"
    assert main(["export", str(movie), "--format", "features", "--out", str(out)]) == 0
    assert capsys.readouterr().out == (
        f"{out}: 8 cells in 4 frames, 5 tracks with 1 division; "
        "lengths in pixels (--pixel-size for micrometers), times in frames (--frame-interval for minutes)\n"
    )
    rows = table(out)
    assert [(row["frame"], row["track"]) for row in rows] == [
        *(("0", "1"), ("0", "3"), ("1", "1"), ("2", "2"), ("2", "4"), ("2", "5"), ("3", "2"), ("3", "5"))
    ]
    assert rows[6] == {
        **{"frame": "3", "track": "2", "cell": "2", "parent": "1", "root": "1", "generation": "1", "age_frames": "1"},
        **{"y_px": "3.5", "x_px": "5.5", "area_px2": "4", "perimeter_px": "4", "major_axis_px": "2"},
        **{"minor_axis_px": "2", "eccentricity": "0", "solidity": "1", "mean_1": "5.5", "sd_1": "0.5"},
        "speed_px_per_frame": "5",
    }
    assert [row["speed_px_per_frame"] for row in rows] == ["", "", "1", "", "", "0.5", "5", "0.5"]


def test_features_in_micrometers_and_minutes(movie: Path, tmp_path: Path) -> None:
    out = tmp_path / "cells.csv"
    (movie / "dataset.json").write_text('{"pixel_size": 0.5, "frame_interval": 3}')
    assert main(["export", str(movie), "--format", "features", "--out", str(out), "--frame-interval", "10"]) == 0
    row = table(out)[6]
    assert (row["time_min"], row["age_min"], row["y_um"], row["x_um"]) == ("30", "10", "1.75", "2.75")
    assert (row["area_um2"], row["perimeter_um"], row["major_axis_um"], row["minor_axis_um"]) == ("1", "2", "1", "1")
    assert row["speed_um_per_min"] == "0.25" and row["mean_1"] == "5.5"


def test_features_without_frames_have_no_grey_values(
    movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (movie / "01" / "t002.tif").unlink()
    assert main(["export", str(movie), "--format", "features", "--out", str(tmp_path / "cells.csv")]) == 0
    rows = table(tmp_path / "cells.csv")
    assert len(rows) == 8 and "mean_1" not in rows[0] and rows[6]["area_px2"] == "4"
    assert "1 frame (2) missing, so no grey values are written; put them beside" in capsys.readouterr().out
    shutil.rmtree(movie / "01")
    assert main(["export", str(movie), "--format", "ctc", "--out", str(tmp_path / "copy")]) == 0
    assert "there are no frames, so OUT holds masks without them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("geff", "h.csv", "--format geff writes a folder; give another name, or --format napari or features"),
        ("ctc", "h.XML", "--format ctc writes a folder; give another name, or --format trackmate"),
        ("trackmate", "h.csv", "--format trackmate writes a file such as h.xml; give another name, or --format nap"),
    ],
)
def test_a_name_that_ends_like_another_format_is_refused(
    kind: str, name: str, sentence: str, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(movie), "--format", kind, "--out", str(tmp_path / name)]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / name).exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_there_and_back(kind: str, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, back = tmp_path / FORMATS[kind], tmp_path / "back"
    line = ["export", str(movie), "--format", kind, "--out", str(file), "--pixel-size", "0.645"]
    assert main(line) == 0
    assert main(["import", "tracks", str(file), "--masks", str(movie), "--out", str(back)]) == 0
    assert capsys.readouterr().out.endswith(f"{back}: 5 tracks of 8 cells on masks of GT/TRA\n")
    assert contents(back) == (tuple(Track(*row) for row in FAMILY_TRACKS), [mask.tolist() for mask in FAMILY])
    (sequence,) = read_sequences(back)
    assert np.array_equal(read_image(sequence.frames[3]), read_image(movie / "01" / "t003.tif"))
    assert main(["check", str(back)]) == 0
    assert main(line) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0
    assert main(["import", "tracks", str(file), "--masks", str(movie), "--out", str(back)]) == 2


def test_geff_is_read_by_others(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tracks.geff"
    assert main(["export", str(movie), "--format", "geff", "--out", str(out), "--pixel-size", "0.5"]) == 0
    units = "in pixels of 0.5 micrometers and frames (--frame-interval for their distance)\n"
    assert capsys.readouterr().out.endswith(units)
    everything = ValidationConfig(graph=True, sphere=True, tracklet=True, lineage=True)
    graph = geff.core_io.read_to_memory(out, data_validation=everything)
    axes = {axis.name: (axis.unit, axis.scale, axis.scaled_unit) for axis in graph["metadata"].axes}
    assert axes == {"t": ("frame", None, None), "y": ("pixel", 0.5, "micrometer"), "x": ("pixel", 0.5, "micrometer")}
    assert graph["metadata"].directed and graph["metadata"].geff_version.startswith("1.")
    values = {name: prop["values"].tolist() for name, prop in graph["node_props"].items()}
    assert values["t"] == [0, 0, 1, 2, 2, 2, 3, 3] and values["track_label"] == [1, 3, 1, 2, 4, 5, 2, 5]
    assert values["tracklet"] == [1, 3, 1, 2, 4, 3, 2, 3] and values["lineage"] == [1, 3, 1, 1, 1, 3, 1, 3]
    assert values["area"] == [8, 4, 8, 4, 4, 4, 4, 2] and values["y"][0] == 1.5 and values["x"][0] == 2.5
    missing = graph["node_props"]["speed"]["missing"]
    assert missing is not None and missing.tolist() == [True, True, False, True, True, False, False, False]
    assert sorted(map(tuple, graph["edge_ids"].tolist())) == [(0, 2), (1, 5), (2, 3), (2, 4), (3, 6), (5, 7)]
    (masks,) = graph["metadata"].related_objects
    assert (masks.type, masks.path, masks.node_prop) == ("labels", "masks", "track_label")
    assert np.array_equal(zarr.open_array(out / masks.path, mode="r")[:], np.stack(FAMILY))
    seen = pytest.importorskip("traccuracy.loaders").load_geff_data(str(out))
    assert seen.graph.number_of_nodes() == 8 and seen.graph.number_of_edges() == 6
    assert [node for node in seen.graph if seen.graph.out_degree(node) == 2] == [2]


def test_trackmate_is_read_by_others(movie: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "tracks.xml", tmp_path / "from-trackmate.geff"
    line = ["export", str(movie), "--format", "trackmate", "--out", str(file), "--pixel-size", "0.5"]
    assert main([*line, "--frame-interval", "10"]) == 0
    text = file.read_text()
    assert '<Model spatialunits="micron" timeunits="min">' in text and '<AllSpots nspots="8">' in text
    assert 'nframes="4" pixelwidth="0.5" pixelheight="0.5" voxeldepth="1.0" timeinterval="10.0"' in text
    assert '<ImageData filename="tracks.tif" folder="" width=' in text
    with warnings.catch_warnings(action="ignore"):  # there are no colours, as it says
        from_trackmate_xml_to_geff(file, out)
        graph = geff.core_io.read_to_memory(out)
    props = {name: prop["values"] for name, prop in graph["node_props"].items()}
    assert sorted(props["TRACK_LABEL"].tolist()) == [1, 1, 2, 2, 3, 4, 5, 5]
    mother = np.flatnonzero((props["TRACK_LABEL"] == 1) & (props["FRAME"] == 1))[0]
    assert (props["POSITION_X"][mother], props["POSITION_Y"][mother], props["POSITION_T"][mother]) == (1.25, 1.25, 10)
    assert props["AREA"][mother] == 2 and props["PERIMETER"][mother] == 4 and props["SOLIDITY"][mother] == 1
    assert props["MEAN_INTENSITY_CH1"][mother] == 2.5
    assert props["RADIUS"][mother] == pytest.approx(np.sqrt(8 / np.pi) / 2, rel=1e-5)
    assert len(graph["edge_ids"]) == 6 and np.ptp(props["TRACK_ID"]) == 1  # two families
    spot = text.partition(f'ID="{graph["node_ids"][mother]}"')[2]
    around = np.array(spot.partition(">")[2].partition("<")[0].split(), float)
    assert around.reshape(-1, 2).max(axis=0).tolist() == [1, 0.5]  # 4 x 2 px, in micrometers from the middle
    spots = read_geff(out, Calibration(0.5, 10))  # axes in micrometers and minutes, x before y, and z
    assert sorted(spots.frame.tolist()) == [0, 0, 1, 2, 2, 2, 3, 3]
    assert place(spots, enumerate(FAMILY), out).tracks == tuple(Track(*row) for row in FAMILY_TRACKS)
    with pytest.raises(UserError, match=r"is in min; give --frame-interval, in minutes"):
        read_geff(out, Calibration(0.5))
    with pytest.raises(UserError, match=r"has times between frames, in min; is the interval right"):
        read_geff(out, Calibration(0.5, 7))


def test_trackmate_finds_the_frames_beside(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (movie / "01" / "t002.tif").unlink()
    line = ["export", str(movie), "--format", "trackmate", "--out", str(tmp_path / "x.xml"), "--pixel-size", "0.5"]
    assert main([*line, "--frame-interval", "2"]) == 0
    assert f"{tmp_path / 'x.tif'}: the frames as a stack, which TrackMate opens with x.xml" in capsys.readouterr().out
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        stack, told = file.series[0].asarray(), file.imagej_metadata or {}
        assert file.pages[0].tags["XResolution"].value == (2, 1)  # type: ignore[union-attr]
    assert (told["frames"], told["unit"], told["finterval"]) == (4, "micron", 120)
    for number in (0, 1, 3):
        assert np.array_equal(stack[number], read_image(movie / "01" / f"t{number:03d}.tif")[0])
    assert not stack[2].any()
    (tmp_path / "x.xml").unlink()
    assert main(line) == 2 and "x.tif: is there already" in capsys.readouterr().err  # of other settings
    assert main([*line, "--frame-interval", "2", "--overwrite"]) == 0
    (tmp_path / "x.xml").unlink()
    assert main([*line, "--frame-interval", "2"]) == 0  # as after a kill between both files
    tifffile.imwrite(tmp_path / "x.tif", stack, imagej=True)  # a stack of the user's
    (tmp_path / "x.xml").unlink()
    for more in ([], ["--overwrite"]):
        assert main([*line, *more]) == 2
        assert "x.tif: is there already" in capsys.readouterr().err
    shutil.rmtree(movie / "01")
    assert main(line) == 0 and 'filename="" folder=""' in (tmp_path / "x.xml").read_text()
    assert "no stack beside x.xml, as it has no frames" in capsys.readouterr().out


def test_frames_of_other_types_and_sizes(tmp_path: Path) -> None:
    frames = {number: tmp_path / f"{number}.tif" for number in (1, 2)}
    for number, file in frames.items():
        write_image(file, np.full((2, 4, 5), number / 4, np.float64))
    write_hyperstack(tmp_path / "x.tif", frames, Calibration(), overwrite=False)
    stack = tifffile.imread(tmp_path / "x.tif")
    assert stack.shape == (3, 2, 4, 5) and stack.dtype == np.float32 and stack[:, 1, 3, 4].tolist() == [0, 0.25, 0.5]
    write_image(frames[1], np.zeros((1, 4, 5), np.float64))
    with pytest.raises(UserError, match=r"1\.tif: has another size or other channels"):
        write_hyperstack(tmp_path / "y.tif", frames, Calibration(), overwrite=False)
    assert fits(frames) and not fits({2**30: frames[2]})


def test_napari_has_rows_by_track_and_the_parents(movie: Path, tmp_path: Path) -> None:
    assert main(["export", str(movie), "--format", "napari", "--out", str(tmp_path / "tracks.csv")]) == 0
    assert (tmp_path / "tracks.csv").read_text().splitlines() == [
        "track_id,t,y,x,parent_track_id",
        *("1,0,1.5,2.5,0", "1,1,2.5,2.5,0", "2,2,0.5,1.5,1", "2,3,3.5,5.5,1", "3,0,4.5,6.5,0", "4,2,0.5,6.5,1"),
        *("5,2,4.5,5.5,3", "5,3,5.0,5.5,3"),
    ]


def test_ctc_is_strict_and_keeps_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cell 1 has a gap, 2 has no row, 3 is said to be in frames where it is not, and its mother ends too late."""
    masks = {number: np.zeros((8, 8), np.int32) for number in range(4)}
    for number in (0, 1, 3):
        masks[number][:2, :2] = 1
    masks[2][4:6, 4:6] = 2
    masks[3][4:6, 4:6] = 3
    told = {"synthetic": {"by": "somebody"}, "licence": "CC0", "complete": True}
    movie = write_movie(tmp_path / "movie", masks, ((1, 0, 3, 0), (3, 2, 3, 1)), **told)
    out = tmp_path / "out"
    line = ["export", str(movie), "--format", "ctc", "--out", str(out), "--pixel-size", "0.5"]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "sequence 01: mended: 1 cell (1 in frame 2) missing inside a track" in shown
    assert "sequence 01: mended: 1 cell (2 in frame 2) in the masks without a track" in shown
    (sequence,) = read_sequences(out)
    rows = (Track(1, 0, 1, 0), Track(2, 2, 2, 0), Track(3, 3, 3, 1), Track(4, 3, 3, 1))
    assert read_tracks(sequence.tracks["GT/TRA"]) == rows
    assert read_labels(sequence.masks["GT/TRA"][3])[0, 0] == 4 and read_labels(sequence.masks["GT/TRA"][1])[0, 0] == 1
    info = json.loads((out / "dataset.json").read_text())
    assert info["pixel_size"] == 0.5 and info["synthetic"] == {"by": "somebody"} and info["licence"] == "CC0"
    assert main(line) == 2
    assert main([*line, "--overwrite"]) == 0
    assert main(["export", str(out), "--format", "ctc", "--out", str(out), "--overwrite"]) == 2
    assert "is the movie itself" in capsys.readouterr().err
    assert main(["export", str(out), "--format", "ctc", "--out", str(tmp_path / "again")]) == 0
    assert "mended" not in capsys.readouterr().out


def test_mended_tracks_follow_the_masks() -> None:
    tracks = (Track(1, 0, 9, 0), Track(2, 1, 1, 1), Track(3, 3, 3, 1), Track(4, 4, 4, 8))
    cells = {0: [1], 1: [2], 2: [1], 3: [3], 4: [4]}
    found, renamed = mended(tracks, {number: np.array(ids) for number, ids in cells.items()})
    assert found == (Track(1, 0, 0, 0), Track(5, 2, 2, 1), Track(2, 1, 1, 1), Track(3, 3, 3, 5), Track(4, 4, 4, 0))
    assert renamed == {2: {1: 5}}
    assert renumbered(np.array([[1, 7, 0]]), {1: 5}, keep=True).tolist() == [[5, 7, 0]]
    assert renumbered(np.array([[1, 7, 2**31 - 1]]), {1: 7, 7: 1}, keep=False).tolist() == [[7, 1, 0]]


@st.composite
def lineages(draw: st.DrawFn) -> tuple[Masks, tuple[Track, ...]]:
    """A movie of up to 8 tracks, each any set of pixels in a 3 x 3 square of its own, gaps, 0 to 7 daughters."""
    frames = draw(st.integers(1, 6))
    names = draw(st.permutations(range(1, 40)))
    tracks: list[Track] = []
    for label in names[: draw(st.integers(1, 8))]:
        begin = draw(st.integers(0, frames - 1))
        mothers = [0, *(track.label for track in tracks if track.end < begin)]
        tracks.append(Track(label, begin, draw(st.integers(begin, frames - 1)), draw(st.sampled_from(mothers))))
    masks = {number: np.zeros((3, 3 * len(tracks)), np.int32) for number in range(frames)}
    for k, track in enumerate(tracks):
        for number in range(track.begin, track.end + 1):
            pixels = draw(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
            for y, x in pixels:
                masks[number][y, 3 * k + x] = track.label
    return masks, tuple(sorted(tracks))


def test_real_cells(real_data: Path, tmp_path: Path) -> None:
    """The first frames of hela: areas and centroids as counted otherwise, and the way to TrackMate and back."""
    movie, out, file = tmp_path / "hela", tmp_path / "cells.csv", tmp_path / "tracks.xml"
    for number in range(2):
        for name in (f"01/t{number:03d}.tif", f"01_RES/mask{number:03d}.tif"):
            (movie / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_data / "hela" / name, movie / name)
    rows = [line.split() for line in (real_data / "hela" / "01_RES" / "res_track.txt").read_text().splitlines()]
    kept = [(*row[:2], str(min(int(row[2]), 1)), row[3]) for row in rows if int(row[1]) < 2]
    (movie / "01_RES" / "res_track.txt").write_text("".join(f"{' '.join(row)}\n" for row in kept))
    assert main(["export", str(movie), "--format", "features", "--out", str(out)]) == 0
    cells = iter(table(out))
    for number in range(2):
        labels = read_labels(movie / "01_RES" / f"mask{number:03d}.tif")
        for label in np.unique(labels[labels > 0]):
            row = next(cells)
            assert (row["frame"], row["track"], row["area_px2"]) == (
                str(number),
                str(label),
                str((labels == label).sum()),
            )
            assert [float(row["y_px"]), float(row["x_px"])] == pytest.approx(center_of_mass(labels == label), rel=1e-5)
    assert next(cells, None) is None
    assert main(["export", str(movie), "--format", "trackmate", "--out", str(file), "--pixel-size", "0.645"]) == 0
    assert main(["import", "tracks", str(file), "--masks", str(movie), "--out", str(tmp_path / "back")]) == 0
    assert contents(tmp_path / "back") == contents(movie)


Way = Callable[[Path, Masks, tuple[Track, ...], Calibration], Spots]


def through_trackmate(path: Path, masks: Masks, tracks: tuple[Track, ...], calibration: Calibration) -> Spots:
    frames = [
        (cells, {label: outline(labels == label) for label in cells["label"].tolist()})
        for _, labels, cells in follow(((n, labels, None) for n, labels in masks.items()), tracks)
    ]
    write_trackmate(path / "x.xml", frames, 0, (len(masks), *masks[0].shape), calibration)
    return read_trackmate(path / "x.xml", Calibration())


def through_geff(path: Path, masks: Masks, tracks: tuple[Track, ...], calibration: Calibration) -> Spots:
    needed = {"frame", "label", "cell", "root", "area", "point_y", "point_x", "spot", "before"}
    frames = (
        (number, labels, {name: column for name, column in cells.items() if name in needed})
        for number, labels, cells in follow(((n, labels, None) for n, labels in masks.items()), tracks)
    )
    write_geff(path / "x.geff", frames, (len(masks), *masks[0].shape), calibration)
    return read_geff(path / "x.geff", Calibration())


def through_napari(path: Path, masks: Masks, tracks: tuple[Track, ...], calibration: Calibration) -> Spots:
    write_napari(path / "x.csv", cells_of(masks, tracks), tracks)
    return read_napari(path / "x.csv")


def cells_of(masks: Masks, tracks: tuple[Track, ...]) -> dict[str, np.ndarray]:
    return gathered(cells for _, _, cells in follow(((n, labels, None) for n, labels in masks.items()), tracks))


@pytest.mark.parametrize("way", [through_trackmate, through_napari])
@settings(max_examples=40)
@given(movie=lineages(), size=st.sampled_from([None, 0.645, 1 / 3, 12.7]))
def test_any_lineage_comes_back(
    way: Way, tmp_path_factory: pytest.TempPathFactory, movie: tuple[Masks, tuple[Track, ...]], size: float | None
) -> None:
    comes_back(way, tmp_path_factory.mktemp("way"), *movie, size)


@settings(max_examples=6)
@given(movie=lineages())
def test_any_lineage_comes_back_from_geff(
    tmp_path_factory: pytest.TempPathFactory, movie: tuple[Masks, tuple[Track, ...]]
) -> None:
    comes_back(through_geff, tmp_path_factory.mktemp("way"), *movie, 0.645)


def comes_back(way: Way, path: Path, masks: Masks, tracks: tuple[Track, ...], size: float | None) -> None:
    placed = place(way(path, masks, tracks, Calibration(size, 7.0)), masks.items(), path)
    assert placed.tracks == tracks and placed.notes == ()
    for number, labels in masks.items():
        assert np.array_equal(renumbered(labels, placed.labels.get(number, {}), keep=False), labels)
    shutil.rmtree(path)


@pytest.mark.parametrize("kind", ["ctc", *FORMATS])
def test_ids_of_any_size_go_out_and_come_back(
    kind: str, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the family under ids of ten digits the movie folder holds the numbers of these, other formats themselves."""
    names = np.array([0, *(2_000_000_000 + 7 * np.arange(1, 6))])
    rows = tuple((int(names[row[0]]), row[1], row[2], int(names[row[3]])) for row in FAMILY_TRACKS)
    huge = write_movie(tmp_path / "huge", {t: names[labels] for t, labels in enumerate(FAMILY)}, rows)
    out, back = tmp_path / FORMATS.get(kind, "ctc"), tmp_path / "back"
    assert main(["export", str(huge), "--format", kind, "--out", str(out)]) == 0
    if kind == "napari":
        assert {row["track_id"] for row in table(out)} == {str(name) for name in names[1:]}
    if kind == "ctc":
        (sequence,) = read_sequences(out)
        assert read_tracks(sequence.tracks["GT/TRA"]) == FAMILY_TRACKS
        assert all(np.array_equal(labels, FAMILY[number]) for number, labels in sequence.tracked())
    else:
        assert main(["import", "tracks", str(out), "--masks", str(huge), "--out", str(back)]) == 0
        assert contents(back) == (FAMILY_TRACKS, [labels.tolist() for labels in FAMILY])
    assert "ids reach 2000000035 and 16 bits hold 65535, so they become 1 to 5 in order" in capsys.readouterr().out
