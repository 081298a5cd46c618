"""Cells go out as outlines and masks of other programs: exact for independent readers, and back through `import`."""

import itertools
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import roifile
import shapely
import shapely.geometry
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import points_in_poly

from cells import FAMILY, FAMILY_TRACKS, draw
from conftest import write_movie
from cytoforge.cells.labels import dense
from cytoforge.cells.outlines import fill, outlined, pieces
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.interchange.coco import CocoFile, decoded, encoded
from cytoforge.data.interchange.imagej import region_set
from cytoforge.data.interchange.numpy_dict import read_dict
from cytoforge.data.interchange.qupath import features
from cytoforge.data.interchange.yolo import segments
from cytoforge.data.ownership import OutputFolder
from cytoforge.errors import UserError

FORMATS = ("roi", "geojson", "coco", "yolo", "seg-npy")
# A touches B and the edge; C has two holes that touch at a corner; D is one pixel, in the corner; E is in three pieces,
# two of which touch at a corner; F has a bay that is closed by a corner, and G lies in it
HARD = draw("""
    AABBB........E
    AABBB...E....E
    AAAB..E......E
    .....E..FFFF..
    CCCCC...F.GF..
    C.CCC...F.F...
    CC.CC...FF....
    CCCCC........D
    """)
PLAIN = draw("""
    AA..BBB
    AA..BBB
    """)
EMPTY = np.zeros((5, 7), np.int32)
Cells = dict[int, np.ndarray]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of three images: hard cells, in whose ids there are gaps; an image without cells; plain cells."""
    for name, labels in (("hard", np.where(HARD > 2, HARD + 40, HARD)), ("none", EMPTY), ("plain", PLAIN)):
        write_image(tmp_path / "data" / "images" / f"{name}.tif", picture(labels))
        write_labels(tmp_path / "data" / "masks" / f"{name}.tif", labels)
    return tmp_path / "data"


def picture(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 999, (1, *labels.shape)).astype(np.uint16)


def exported(data: Path, form: str, out: Path) -> Path:
    assert main(["export", str(data), "--format", form, "--out", str(out)]) == 0
    return out


def inside(rings: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centres lie in an odd number of rings (K, 2) of x, y, by scikit-image."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centres = np.column_stack([x.ravel(), y.ravel()])
    found = [points_in_poly(centres, np.asarray(ring, float)).reshape(shape) for ring in rings]
    return np.logical_xor.reduce([np.zeros(shape, bool), *found])


def masks(labels: np.ndarray) -> Cells:
    return {int(number): labels == number for number in np.unique(labels[labels > 0])}


def same(found: Cells, labels: np.ndarray) -> bool:
    wanted = masks(labels)
    return found.keys() == wanted.keys() and all(np.array_equal(found[number], wanted[number]) for number in wanted)


# by independent readers


def by_roifile(content: bytes, shape: tuple[int, ...], folder: Path) -> Cells:
    file = folder / "x.zip"
    file.write_bytes(content)
    found = {}
    for roi in roifile.roiread(file):
        rings = roi.coordinates(multi=True)
        found[int(roi.name)] = inside(rings, shape)
        # ImageJ fills by the winding rule, for which holes have to turn the other way round
        turning = sum(shapely.Polygon(ring).area * (1 if shapely.LinearRing(ring).is_ccw else -1) for ring in rings)
        assert turning == found[int(roi.name)].sum()
        corners = np.concatenate(rings)
        assert [roi.left, roi.top, roi.right, roi.bottom] == [*corners.min(axis=0), *corners.max(axis=0)]
    return found


def by_shapely(content: bytes, shape: tuple[int, ...], folder: Path) -> Cells:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = {}
    for feature in json.loads(content)["features"]:
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.is_valid, shapely.is_valid_reason(polygon)
        found[int(feature["properties"]["name"])] = shapely.contains_xy(polygon, x, y)
        assert polygon.area == found[int(feature["properties"]["name"])].sum()
    return found


def by_pycocotools(content: bytes, shape: tuple[int, ...], folder: Path) -> Cells:
    found = {}
    for cell in json.loads(content)["annotations"]:
        runs = pycocotools.mask.frPyObjects(cell["segmentation"], *shape)
        runs = pycocotools.mask.merge(runs) if isinstance(runs, list) else runs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools against numpy 2
            mask = pycocotools.mask.decode(runs).astype(bool)
            assert pycocotools.mask.toBbox(runs).tolist() == cell["bbox"]
        assert mask.sum() == cell["area"] and cell["iscrowd"] == 0
        found[cell["instance"]] = mask
    return found


def by_even_odd(content: bytes, shape: tuple[int, ...], folder: Path) -> Cells:
    lines = [np.array(line.split(), float) for line in content.decode().splitlines()]
    assert all(line[0] == 0 and line.min() >= 0 and line.max() <= 1 for line in lines)
    rings = [line[1:].reshape(-1, 2) * shape[::-1] for line in lines]
    return {number: inside([ring], shape) for number, ring in enumerate(rings, 1)}


def coco(labels: np.ndarray, name: str) -> bytes:
    file = CocoFile()
    file.add(name, labels)
    return file.content()


CASES: dict[str, tuple[Callable[[np.ndarray, str], bytes], Callable[[bytes, tuple[int, ...], Path], Cells]]] = {
    "roi": (region_set, by_roifile),
    "geojson": (features, by_shapely),
    "coco": (coco, by_pycocotools),
    "yolo": (lambda labels, name: segments(labels).lines, by_even_odd),
}


@pytest.mark.parametrize("form", CASES)
def test_independent_readers_find_exactly_the_pixels(form: str, tmp_path: Path) -> None:
    write, read = CASES[form]
    for labels in (HARD, HARD.T.copy(), PLAIN, EMPTY):
        assert same(read(write(labels, "x.tif"), labels.shape, tmp_path), labels)


@settings(max_examples=60)
@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
def test_any_labels_are_exact(labels: np.ndarray) -> None:
    for form in ("geojson", "coco", "yolo"):
        write, read = CASES[form]
        assert same(read(write(dense(labels)[1], "x"), labels.shape, Path()), dense(labels)[1])
    for number, parts in outlined(labels):
        region = fill([ring for piece in parts for ring in (piece.shell, *piece.holes)], labels.shape)
        drawn = np.zeros(labels.shape, bool)
        drawn[region.top :, region.left :][: region.mask.shape[0], : region.mask.shape[1]] = region.mask
        assert np.array_equal(drawn, labels == number)
        assert np.array_equal(decoded(encoded(region, labels.shape), labels.shape, ""), drawn)


def test_pieces_by_hand() -> None:
    (piece,) = pieces(draw("AAA\nA.A\nAA.") > 0)  # closed by a corner: the bay is a hole
    assert piece.shell.tolist() == [[0, 0], [0, 3], [2, 3], [2, 2], [3, 2], [3, 0]]
    assert [sorted(hole.tolist()) for hole in piece.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
    assert [part.shell.tolist()[0] for part in pieces(draw("A.\n.A") > 0)] == [[0, 0], [1, 1]]
    assert pieces(np.zeros((2, 2), bool)) == []


@pytest.mark.parametrize("form", FORMATS)
def test_there_and_back(form: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported(data, form, tmp_path / "out")
    told = capsys.readouterr().out
    assert told.endswith(f"{out}: 3 images, 9 cells, as {told.rpartition(' as ')[2]}")
    assert ("3 cells with holes or in pieces: YOLO has one outline a cell" in told) == (form == "yolo")
    assert main(["import", "dataset", str(out), "--out", str(tmp_path / "back")]) == 0
    assert "left out" not in capsys.readouterr().out
    back, given = Dataset.open(tmp_path / "back"), Dataset.open(data)
    assert [item.name for item in back.items] == ["hard", "none", "plain"]
    for one, other in zip(back.items, given.items, strict=True):
        assert np.array_equal(read_labels(one.mask), dense(read_labels(other.mask))[1])  # type: ignore[arg-type]
        assert np.array_equal(read_image(one.image), read_image(other.image))  # type: ignore[arg-type]


def test_equal_cells_make_equal_files(data: Path, tmp_path: Path) -> None:
    for form in FORMATS:
        one, other = (exported(data, form, tmp_path / f"{form}{k}") for k in (1, 2))
        files = sorted(file for file in one.rglob("*") if file.is_file())
        assert len(files) >= 4
        assert all(file.read_bytes() == (other / file.relative_to(one)).read_bytes() for file in files)


def test_uuids_tell_images_and_cells_apart() -> None:
    found = [json.loads(features(HARD, name))["features"] for name in ("a.tif", "b.tif")]
    assert len({feature["id"] for each in found for feature in each}) == 14
    assert {feature["properties"]["objectType"] for feature in found[0]} == {"detection"}


def test_cellpose_finds_what_its_window_needs(data: Path, tmp_path: Path) -> None:
    out = exported(data, "seg-npy", tmp_path / "out")
    content = np.load(out / "hard_seg.npy", allow_pickle=True).item()
    assert np.array_equal(content["masks"], HARD) and content["masks"].dtype == np.uint16
    assert content["outlines"].dtype == np.uint16 and content["outlines"].max() == 7
    assert content["outlines"][1].tolist() == [0, 1, 2, 0, 2, *[0] * 3, 5, *[0] * 4, 5]  # edges of the image are none
    assert content["colors"].shape == (7, 3) and len(np.unique(content["colors"], axis=0)) == 7
    assert content["filename"] == "hard.tif" and (out / "hard.tif").is_file()
    assert content["ismanual"].tolist() == [False] * 7 and content["chan_choose"] == [0, 0]
    assert len(content["flows"]) == 5 and content["manual_changes"] == []
    assert np.array_equal(read_dict(out / "hard_seg.npy")["masks"], HARD)  # without unpickling


def test_yolo_describes_its_folder(data: Path, tmp_path: Path) -> None:
    out = exported(data, "yolo", tmp_path / "out")
    assert (out / "data.yaml").read_text().startswith("train: images\nval: images")
    assert sorted(file.name for file in (out / "labels").iterdir()) == ["hard.txt", "none.txt", "plain.txt"]


@pytest.mark.parametrize("form", FORMATS)
def test_masks_alone_and_frames_of_a_movie(
    form: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(data / "masks", form, tmp_path / "alone")
    assert "3 masks without image: cells alone are written; " in capsys.readouterr().out
    assert not list(out.rglob("*.tif"))
    movie = write_movie(tmp_path / "movie", dict(enumerate(FAMILY)), FAMILY_TRACKS)
    assert (
        main(["import", "dataset", str(exported(movie, form, tmp_path / "frames")), "--out", str(tmp_path / "b")]) == 0
    )
    frames = Dataset.open(tmp_path / "b").items
    assert [item.name for item in frames] == [f"01_t{number:03d}" for number in range(len(FAMILY))]
    for item, labels in zip(frames, FAMILY, strict=True):
        assert np.array_equal(read_labels(item.mask), dense(labels)[1])  # type: ignore[arg-type]


def test_what_belongs_to_the_user_stays(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["export", str(data), "--format", "roi", "--out", str(tmp_path / "out")]
    for out, what in ((data, "lies in the data"), (data / "masks" / "x", "lies in the data")):
        assert main([*line[:-1], str(out)]) == 2
        assert what in capsys.readouterr().err
    assert main(line) == 0
    assert main(line) == 2
    assert "exists already; choose another name or give --overwrite" in capsys.readouterr().err
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (data / "masks" / "none.tif").unlink()
    assert main([*line, "--overwrite"]) == 0
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "none_RoiSet.zip").exists()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main([*line, "--overwrite"]) == 2
    assert "holds files that export did not write" in capsys.readouterr().err


def test_a_killed_export_goes_on_with_the_same_command_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["export", str(data), "--out", str(tmp_path / "out"), "--format"]
    assert main([*line, "geojson"]) == 0
    whole = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    shutil.rmtree(tmp_path / "out")
    written = OutputFolder.writing
    for kill in itertools.count():  # at every write in turn
        steps = iter(range(kill))

        def killed(folder: OutputFolder, name: str, steps: Iterator[int] = steps) -> object:
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return written(folder, name)

        monkeypatch.setattr(OutputFolder, "writing", killed)
        if (status := main([*line, "geojson"])) == 0:
            break
        assert status == 130
        monkeypatch.setattr(OutputFolder, "writing", written)
        if kill > 1:
            assert main([*line, "roi"]) == 2
            assert "exists already; choose another name or give --overwrite" in capsys.readouterr().err
    assert kill > 3
    assert {file.name for file in (tmp_path / "out").iterdir()} == whole.keys()
    assert all((tmp_path / "out" / name).read_bytes() == whole[name] for name in whole if name != "manifest.jsonl")
    monkeypatch.undo()
    assert main([*line, "geojson"]) == 2  # it is finished


def test_binary_masks_and_needless_flags_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = np.zeros((30, 30), np.int32)
    for y, x in ((1, 1), (1, 20), (20, 1), (20, 20), (10, 10)):
        binary[y : y + 5, x : x + 5] = 255
    write_labels(tmp_path / "data" / "masks" / "a.tif", binary)
    line = ["export", str(tmp_path / "data"), "--format", "coco", "--out", str(tmp_path / "out")]
    assert main(line) == 2
    assert "a binary mask" in (told := capsys.readouterr().err) and "--fix COPY" in told
    assert main([*line, "--pixel-size", "2"]) == 2
    assert "coco is in pixels; leave them out" in capsys.readouterr().err
    with pytest.raises(UserError, match="ImageJ's regions end at 60535 pixels"):
        region_set(np.zeros((1, 60_536), np.int32), "wide.tif")
