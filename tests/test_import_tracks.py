"""`cytoforge import tracks`: spots find their cells; files that hold no tracks are refused in one sentence."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from geff import GeffMetadata
from geff.core_io import write_arrays

from cells import FAMILY, FAMILY_TRACKS
from conftest import write_movie
from cytoforge.cli import main
from cytoforge.data.images import read_labels, write_image, write_labels
from cytoforge.data.interchange.tables import read_napari
from cytoforge.data.movie import Track, read_sequences, read_tracks
from cytoforge.data.tracks import Spots, linked, place
from cytoforge.errors import UserError

HEADER = "track_id,t,y,x,parent_track_id\n"


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return write_movie(tmp_path / "movie", dict(enumerate(FAMILY)), FAMILY_TRACKS)


def spots(*places: tuple[int, float, float], links: tuple[tuple[int, int], ...] = ()) -> Spots:
    frame, y, x = np.array(places, float).reshape(-1, 3).T
    return linked(Path("f"), frame.astype(int), np.stack([y, x], 1), np.array(links, int).reshape(-1, 2))


def test_what_finds_no_partner_is_counted(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Track 7 goes from A over background to B, where 8 is too; C, D and E have no spot, nor has B in the end."""
    file, out = tmp_path / "tracks.csv", tmp_path / "out"
    file.write_text("t,track_id,x,y,note\n0,7,2,1.2,a\n1.0,7,9,5,b\n2,7,1,0,c\n2,8,2,1,d\n")
    assert main(["import", "tracks", str(file), "--masks", str(movie), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: 1 spot on no cell of their frame, left out",
        f"{file}: 1 spot on a cell that has one already, left out",
        f"{file}: 6 cells without a spot, left out",
        f"{out}: 2 tracks of 2 cells on masks of GT/TRA",
    ]
    (sequence,) = read_sequences(out)
    assert read_tracks(sequence.tracks["RES"]) == (Track(1, 0, 0, 0), Track(2, 2, 2, 1))
    assert np.array_equal(read_labels(sequence.masks["RES"][2]), np.where(FAMILY[2] == 2, 2, 0))
    assert not read_labels(sequence.masks["RES"][3]).any()


def test_masks_lend_their_ids_once() -> None:
    """Ids of masks that mean nothing from frame to frame: the first track that begins at an id has it."""
    masks = [(0, np.array([[1, 2]])), (1, np.array([[2, 1]])), (2, np.array([[2, 1]]))]
    found = place(spots((0, 0, 0), (1, 0, 0), (1, 0, 1), (2, 0, 1), links=((0, 1), (2, 3))), masks, Path("f"))
    assert found.tracks == (Track(1, 0, 1, 0), Track(3, 1, 2, 0))
    assert found.labels == {0: {1: 1}, 1: {2: 1, 1: 3}, 2: {1: 3}}


def test_a_mother_without_a_cell_passes_her_daughters_on() -> None:
    masks = [(0, np.array([[1, 0, 0]])), (1, np.array([[0, 0, 0]])), (2, np.array([[2, 0, 3]]))]
    family = spots((0, 0, 0), (1, 0, 1), (2, 0, 0), (2, 0, 2), links=((0, 1), (1, 2), (1, 3)))
    assert place(family, masks, Path("f")).tracks == (Track(1, 0, 0, 0), Track(2, 2, 2, 1), Track(3, 2, 2, 1))


def test_spots_outside_are_refused() -> None:
    masks = [(0, np.ones((3, 4), int))]
    with pytest.raises(UserError, match=r"f: 1 spot of frame 0 lie outside of its 3 x 4 pixels \(y 1.0, x 3.5\)"):
        place(spots((0, 1, 1), (0, 1, 3.5)), masks, Path("f"))
    with pytest.raises(UserError, match=r"f: has spots in frame 1, of which the movie has no mask"):
        place(spots((1, 0, 0)), masks, Path("f"))
    with pytest.raises(UserError, match=r"f: none of its spots lies on a cell"):
        place(spots((0, 0, 0)), [(0, np.zeros((3, 4), int))], Path("f"))


TRACKMATE = """<?xml version="1.0"?>
<TrackMate version="7.11.1"><Model spatialunits="micron" timeunits="min"><AllSpots nspots="3">
<SpotsInFrame frame="0"><Spot ID="5" name="a" POSITION_X="1.0" POSITION_Y="0.75" POSITION_Z="0.0" /></SpotsInFrame>
<SpotsInFrame frame="1"><Spot ID="6" FRAME="1" POSITION_X="1.0" POSITION_Y="1.25" VISIBILITY="1" />
<Spot ID="7" FRAME="1" POSITION_X="900" POSITION_Y="1.25" VISIBILITY="0" /></SpotsInFrame>
<SpotsInFrame frame="2"><Spot ID="8" POSITION_X="2.75" POSITION_Y="2.25" /><Spot ID="1" POSITION_X="0.75"
POSITION_Y="0.25" /></SpotsInFrame><SpotsInFrame frame="3"><Spot ID="9" POSITION_X="2.75" POSITION_Y="2.5" />
</SpotsInFrame></AllSpots><AllTracks><Track TRACK_ID="3"><Edge SPOT_SOURCE_ID="6" SPOT_TARGET_ID="5" /></Track>
<Track TRACK_ID="4"><Edge SPOT_SOURCE_ID="8" SPOT_TARGET_ID="9" /></Track></AllTracks>
<FilteredTracks><TrackID TRACK_ID="3" /></FilteredTracks></Model>
<Settings><ImageData pixelwidth="0.5" pixelheight="0.5" /></Settings></TrackMate>
"""


def test_trackmate_of_others(movie: Path, tmp_path: Path) -> None:
    """Hidden spots and tracks do not count, links go either way, frames come from the element around."""
    file, out = tmp_path / "tracks.xml", tmp_path / "out"
    file.write_text(TRACKMATE)
    line = ["import", "tracks", str(file), "--masks", str(movie), "--out", str(out)]
    assert main(line) == 0
    (sequence,) = read_sequences(out)
    assert read_tracks(sequence.tracks["RES"]) == (Track(1, 0, 1, 0), Track(2, 2, 2, 0))
    file.write_text(TRACKMATE.replace('<TrackID TRACK_ID="3" />', '<TrackID TRACK_ID="3" /><TrackID TRACK_ID="4" />'))
    assert main([*line, "--overwrite"]) == 0
    assert read_tracks(sequence.tracks["RES"]) == (Track(1, 0, 1, 0), Track(2, 2, 2, 0), Track(5, 2, 3, 0))


BOTH = TRACKMATE.replace('<TrackID TRACK_ID="3" />', '<TrackID TRACK_ID="3" /><TrackID TRACK_ID="4" />')
EXPORT = (
    '<Tracks nTracks="1" spaceUnits="micron" frameInterval="1.0" timeUnits="frame"><particle nSpots="2">'
    '<detection t="0" x="1.0" y="0.75" z="0.0" /><detection t="1" x="1.0" y="1.25" z="0.0" /></particle></Tracks>'
)
ALONE = Track(1, 0, 1, 0)
EVERY = (ALONE, Track(2, 2, 2, 0), Track(5, 2, 3, 0))


@pytest.mark.parametrize(
    ("text", "tracks", "note"),
    [
        (  # of a track that is shown, spots that are hidden are part, as in TrackMate's own exports
            BOTH.replace('ID="8"', 'ID="8" VISIBILITY="0"').replace('ID="1"', 'ID="1" VISIBILITY="0"'),
            (ALONE, Track(5, 2, 3, 0)),
            "1 spot that TrackMate hides, but has in a track that it shows, taken along",
        ),
        (
            TRACKMATE.replace('<FilteredTracks><TrackID TRACK_ID="3" /></FilteredTracks>', ""),
            EVERY,
            "tells of no filters of tracks, all were taken",
        ),
        (
            BOTH.replace('X="2.75"', 'X="2,75"').replace('width="0.5"', 'width="0,5"'),
            EVERY,
            "2 spots with a decimal comma in its position, read as a decimal point",
        ),
        (BOTH.replace(" POSITION_X", ' POSITION_Z="3.0" POSITION_X').replace(' POSITION_Z="0.0"', ""), EVERY, ""),
        (EXPORT, (ALONE,), "6 cells without a spot, left out"),
    ],
)
def test_what_trackmate_writes_is_read_as_it_means_it(
    text: str, tracks: tuple[Track, ...], note: str, movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "tracks.xml", tmp_path / "out"
    file.write_text(text)
    line = ["import", "tracks", str(file), "--masks", str(movie), "--out", str(out), "--pixel-size", "0.5"]
    assert main(line) == 0
    assert note in capsys.readouterr().out
    assert read_tracks(read_sequences(out)[0].tracks["RES"]) == tracks


def bad_geff(path: Path, edges: list[list[int]], t: list[float], y: list[float] | None = None) -> Path:
    axes = [{"name": "t", "type": "time"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    metadata = GeffMetadata(directed=True, axes=axes, node_props_metadata={}, edge_props_metadata={})
    columns = {"t": np.array(t), "y": np.array(y or [1.0] * len(t)), "x": np.full(len(t), 2.0)}
    values = {name: {"values": column, "missing": None} for name, column in columns.items()}
    pairs = np.array(edges, np.uint64).reshape(-1, 2)
    write_arrays(path, np.arange(len(t), dtype=np.uint64), values, pairs, {}, metadata)
    return path


def mistakes(folder: Path) -> dict[str, str]:
    """Write files that hold no tracks; what is said of each, by its name."""
    texts = {
        "cut.xml": (TRACKMATE[:600], "is no whole XML"),
        "encoding.xml": (TRACKMATE.replace("?>", ' encoding="UTF-2"?>', 1), "read (unknown encoding: UTF-2)"),
        "bomb.xml": ('<!DOCTYPE a [<!ENTITY b "c">]><TrackMate>&b;</TrackMate>', "has a DOCTYPE"),
        "other.xml": ("<html></html>", "is XML of html, not of TrackMate"),
        "empty.xml": ("<TrackMate><ImageData pixelwidth='1' pixelheight='1'/></TrackMate>", "holds no spots"),
        "nowhere.xml": (TRACKMATE.replace(' POSITION_Y="1.25" V', " V"), "line 4: lacks or mistells 'POSITION_Y'"),
        "word.xml": (TRACKMATE.replace('"0.75"', '"here"', 1), "line 3: POSITION_Y is 'here', no number"),
        "deep.xml": (TRACKMATE.replace('Z="0.0"', 'Z="2.0"', 1), "several depths"),
        "lost.xml": (TRACKMATE.replace('ID="5" name', 'ID="19" name'), "a link leads to spot 5, which is not there"),
        "same.xml": (
            TRACKMATE.replace('FRAME="1" POSITION_X="1.0"', 'FRAME="0" POSITION_X="1.0"'),
            "time goes forward",
        ),
        "units.xml": (TRACKMATE.replace("<ImageData", "<Image"), "is in micron; give --pixel-size, in micrometers"),
        "parsec.xml": (
            TRACKMATE.replace("<ImageData", "<Image").replace("micron", "parsec"),
            "is in parsec, a unit that is not known here",
        ),
        "huge.xml": (TRACKMATE.replace('FRAME="1"', 'FRAME="1e300"', 1), "line 4: the frame of a spot is '1e300'"),
        "size.xml": (TRACKMATE.replace('width="0.5"', 'width="0"'), "is in micron; give --pixel-size, in micrometers"),
        "filtered.xml": (
            TRACKMATE.replace('<TrackID TRACK_ID="3" />', ""),
            "none of its 2 tracks passed the filters of TrackMate; widen the filters",
        ),
        "bytes.xml": (
            TRACKMATE.replace('name="a"', f'name="{"a" * 2**21}"'),
            "has a tag or comment of more than 1 MiB",
        ),
        "digits.xml": (TRACKMATE.replace('ID="5"', f'ID="{"9" * 5000}"', 1), "no whole number of at most 40 digits"),
        "double.xml": (TRACKMATE.replace('ID="6"', 'ID="5"', 1), "line 4: two spots have the ID 5"),
        "label.xml": (TRACKMATE.replace('ID="5"', 'ID="5" TRACK_LABEL="1e300"', 1), "TRACK_LABEL is '1e300'"),
        "edge.xml": (
            TRACKMATE.replace('<Track TRACK_ID="3">', "<A>").replace("</Track>\n", "</A>", 1),
            "is outside of",
        ),
        "divides.xml": (EXPORT.replace('t="1"', 't="0"'), "a track is in frame 0 twice (do cells divide?)"),
        "table.csv": (
            "LABEL,ID,TRACK_ID,POSITION_X\nID0,0,0,1\n",
            "is a table of TrackMate, which does not tell where",
        ),
        "column.csv": ("track_id,t,y\n1,0,1\n", "has no column x; tracks for napari have track_id, t, y, x"),
        "features.csv": ("frame,track,generation,area_px2\n0,1,0,8\n", "is a table of features, which tells no tracks"),
        "nothing.csv": ("", "has no column track_id, t, y, x"),
        "rows.csv": (HEADER, "holds no spots"),
        "word.csv": (HEADER + "1,0,here,2,0\n", "line 2: needs whole numbers as track_id and t"),
        "half.csv": (HEADER + "1,0.5,1,2,0\n", "line 2: needs whole numbers as track_id and t"),
        "huge.csv": (HEADER + "1,1e300,1,2,0\n", "line 2: needs whole numbers as track_id and t"),
        "short.csv": (HEADER + "1,0\n", "line 2: needs whole numbers as track_id and t"),
        "nan.csv": (HEADER + "1,0,nan,2,0\n", "a position in frame 0 is no number"),
        "twice.csv": (HEADER + "1,0,1,2,0\n1,0,1,3,0\n", "line 3: track 1 is in frame 0 twice"),
        "merge.csv": (HEADER + "1,0,1,2,0\n2,0,4,6,0\n3,1,2,2,1\n3,2,0,1,2\n", "line 5: track 3 has parents 1 and 2"),
        "orphan.csv": (HEADER + "1,0,1,2,9\n", "the parent 9 of track 1 is not in the table"),
        "cycle.csv": (HEADER + "1,0,1,2,2\n2,2,0,1,1\n", "leads from frame 2 to frame 0, but time goes forward"),
        "outside.csv": (
            HEADER + "1,0,1,200,0\n",
            "1 spot of frame 0 lie outside of its 6 x 10 pixels (y 1.0, x 200.0)",
        ),
        "frame.csv": (HEADER + "1,0,1,2,0\n1,4,1,2,0\n", "has spots in frame 4, of which the movie has no mask"),
        "miss.csv": (HEADER + "1,0,0,9,0\n", "none of its spots lies on a cell"),
        "tracks.txt": ("1 0 1 0\n", "is of no known format"),
    }
    for name, (text, _) in texts.items():
        (folder / name).write_text(text)
    (folder / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    (folder / "plain").mkdir()
    zarr.open_group(folder / "group.zarr", mode="w")
    bad_geff(folder / "cycle.geff", [[0, 1], [1, 0]], [0, 1])
    bad_geff(folder / "merge.geff", [[0, 2], [1, 2]], [0, 0, 1], [1.0, 4.0, 2.0])
    bad_geff(folder / "between.geff", [], [0, 0.5])
    bad_geff(folder / "huge.geff", [], [0, 1e300])
    bad_geff(folder / "dangling.geff", [[0, 7]], [0, 1])
    bad_geff(folder / "cut.geff", [[0, 1]], [0, 1])
    shutil.rmtree(folder / "cut.geff" / "nodes" / "ids")
    bad_geff(folder / "axes.geff", [[0, 1]], [0, 1])
    attributes = folder / "axes.geff" / ".zattrs"
    stored = json.loads(attributes.read_text())
    stored["geff"]["axes"] = stored["geff"]["axes"][:2]
    attributes.write_text(json.dumps(stored))
    return {name: says for name, (_, says) in texts.items()} | {
        "bytes.csv": "cannot be read as CSV",
        "plain": "is no GEFF",
        "group.zarr": "is no GEFF",
        "cycle.geff": "leads from frame 1 to frame 0, but time goes forward",
        "merge.geff": "two tracks merge in frame 1 at y 2.0, x 2.0 px",
        "huge.geff": "has times between frames",
        "between.geff": "has times between frames",
        "dangling.geff": "an edge to a node that is not there",
        "cut.geff": "cannot be read",
        "axes.geff": "its axes are t, y, but tracks have one of time, y and x",
        "missing.xml": "does not exist",
    }


def test_files_that_hold_no_tracks(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    for name, sentence in mistakes(tmp_path).items():
        assert main(["import", "tracks", str(tmp_path / name), "--masks", str(movie), "--out", str(out)]) == 2, name
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1, (name, said)
        assert not out.exists()


def test_movies_that_tracks_cannot_lie_on(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "tracks.csv", tmp_path / "out"
    file.write_text(HEADER + "1,0,1,2,0\n")
    shutil.copytree(movie / "01_GT", movie / "02_GT")
    (tmp_path / "no-movie").mkdir()
    shutil.copytree(movie, tmp_path / "sparse")
    (tmp_path / "sparse" / "01_GT" / "TRA" / "man_track001.tif").unlink()
    shutil.copytree(movie, tmp_path / "sizes")
    write_labels(tmp_path / "sizes" / "02_GT" / "TRA" / "man_track001.tif", FAMILY[1][:, :8])
    shutil.copytree(movie, tmp_path / "frames")
    shutil.copy(movie / "01" / "t000.tif", tmp_path / "frames" / "01" / "t004.tif")
    (tmp_path / "frames" / "01_GT" / "TRA" / "man_track004.tif").write_bytes(
        (tmp_path / "sizes" / "02_GT" / "TRA" / "man_track001.tif").read_bytes()
    )
    (tmp_path / "sparse" / "dataset.json").write_text('{"pixel_size": "0.5"}')
    for line, sentence in (
        ([str(movie)], "has the sequences 01, 02, tracks belong to one; pick it by --sequence"),
        ([str(tmp_path / "no-movie")], "has the sequences none"),
        ([str(movie), "--sequence", "03"], "has no sequence 03"),
        ([str(movie), "--sequence", "1"], "--sequence 1: must be written like 01"),
        ([str(movie), "--pixel-size", "0"], "--pixel-size 0: must be at least 1e-06 and at most 1e+06, such as 0.65"),
        ([str(tmp_path / "sparse"), "--sequence", "01"], "pixel_size is '0.5' and must be a number from 1e-6 to 1e6"),
        ([str(movie), "--frame-interval", "inf"], "--frame-interval inf: input should be a finite number"),
        ([str(tmp_path / "sparse"), "--sequence", "01", "--pixel-size", "1"], "has no masks for every frame"),
        ([str(tmp_path / "sizes"), "--sequence", "02"], "man_track001.tif: is of 6 x 8 pixels, others are of 6 x 10"),
        ([str(tmp_path / "frames"), "--sequence", "01"], "man_track004.tif: is of 6 x 8 pixels, others are of 6 x 10"),
    ):
        assert main(["import", "tracks", str(file), "--masks", *line, "--out", str(out)]) == 2, line
        said = capsys.readouterr().err
        assert sentence in said, (line, said)
        assert not out.exists()
    assert main(["import", "tracks", str(file), "--masks", str(movie), "--sequence", "02", "--out", str(movie)]) == 2
    assert "is the movie itself" in capsys.readouterr().err


def test_what_cannot_be_exported(movie: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    shutil.copytree(movie, tmp_path / "two")
    shutil.copytree(movie / "01_GT", tmp_path / "two" / "02_GT")
    shutil.copytree(movie, tmp_path / "untracked")
    (tmp_path / "untracked" / "01_GT" / "TRA" / "man_track.txt").unlink()
    write_movie(tmp_path / "void", {0: np.zeros((4, 4), int)}, ())
    shutil.copytree(movie, tmp_path / "sizes")
    write_labels(tmp_path / "sizes" / "01_GT" / "TRA" / "man_track003.tif", FAMILY[3][:4])
    shutil.copytree(movie, tmp_path / "colours")
    write_image(tmp_path / "colours" / "01" / "t003.tif", np.zeros((2, 6, 10), np.uint8))
    (tmp_path / "no-movie").mkdir()
    (tmp_path / "mine").mkdir()
    for folder, kind, target, sentence in (
        ("two", "features", out, "has the sequences 01, 02, a file holds one; pick it by --sequence"),
        ("untracked", "napari", out, "has no man_track.txt or res_track.txt"),
        ("void", "trackmate", out, "its masks hold no cells with tracks"),
        ("sizes", "features", out, "man_track003.tif: is of 4 x 10 pixels, others are of 6 x 10"),
        ("colours", "ctc", out, "t003.tif: is of 2 x 6 x 10 pixels, others are of 1 x 6 x 10"),
        ("no-movie", "geff", out, "is no movie folder"),
        ("movie", "geff", tmp_path / "mine", "exists already"),
    ):
        assert main(["export", str(tmp_path / folder), "--format", kind, "--out", str(target)]) == 2, folder
        assert sentence in capsys.readouterr().err
        assert not out.exists()
    assert main(["export", str(movie), "--format", "geff", "--out", str(tmp_path / "mine"), "--overwrite"]) == 2
    assert "is there and no mere GEFF" in capsys.readouterr().err
    assert not [entry for entry in tmp_path.iterdir() if entry.name.endswith(".part")]
    geff = ["export", str(movie), "--format", "geff", "--out", str(out)]
    assert main(geff) == 0
    (out / "notes.txt").write_text("mine")
    assert main([*geff, "--overwrite"]) == 2
    assert (out / "notes.txt").exists()
    shutil.rmtree(out)
    line = ["export", str(tmp_path / "two"), "--format", "napari", "--out", str(out), "--sequence", "02"]
    assert main(line) == 0


@pytest.mark.parametrize(
    ("text", "before", "track"),
    [
        (HEADER + "0,0,1,1,-1\n1,1,1,1,0\n2,1,2,2,0\n", [-1, 0, 0], [0, 1, 2]),  # 0 is the mother, as -1 is none
        (HEADER + "0,0,1,1,\n1,1,1,1,0\n", [-1, 0], [0, 1]),
        (HEADER + "0,0,1,1,0\n1,0,1,1,0\n2,1,2,2,1\n", [-1, -1, 1], [0, 1, 2]),  # 0 is none, or 1 began too early
        (HEADER + "5,0,1,1,0\n6,1,1,1,0\n", [-1, -1], [5, 6]),
        ("ID,T,Y,X,Parent\n1,0,1,1,1\n2,1,1,1,1\n", [-1, 0], [1, 2]),  # its own parent is none
        ("track_id,t,z,y,x,parent_track_id\n1.0,0.0,7,1,1,nan\n2.0,1.0,7.0,1,1,1.0\n", [-1, 0], [1, 2]),
        ("id,track_id,t,z,y,x,parent_track_id,parent_id\n9,1,0,,1,1,-1,-1\n8,2,1,,1,1,1,9\n", [-1, 0], [1, 2]),
        (HEADER + "1,0,1,1,\n2,1,1,1,1\n2,2,1,1,\n", [-1, 0, 1], [1, 2, 2]),  # told once
    ],
)
def test_tables_of_other_programs(text: str, before: list[int], track: list[int], tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text(text)
    found = read_napari(tmp_path / "tracks.csv")
    assert found.before.tolist() == before and found.track is not None and found.track.tolist() == track


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            HEADER + "0,0,1,1,0\n1,1,1,1,0\n",
            "parent 0 may be track 0 or none; leave the parent empty where there is none",
        ),
        (
            "track_id,t,z,y,x\n1,0,0,1,1\n1,1,3,1,1\n",
            "line 3: lies at depth 3, spots before it at 0, but masks are flat",
        ),
        ("track_id,t,z,y,x\n1,0,up,1,1\n", "line 2: needs whole numbers"),
        ("track_id,t,y,x,parent_id\n1,0,1,1,\n", "has a column parent_id; call it parent_track_id if it holds tracks"),
    ],
)
def test_tables_that_could_be_misread(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(says)):
        read_napari(tmp_path / "tracks.csv")
