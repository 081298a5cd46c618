"""Images larger than memory: panels without seams, label images by chunks, and readers and scores by rows."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v04.image_label import ImageLabelAttrs as ImageLabel04
from ome_zarr_models.v05.image_label import ImageLabelAttrs as ImageLabel05

from cytoforge.cells.instances import TARGETS
from cytoforge.cells.labels import pieces_apart
from cytoforge.commands.score import score_segmentation
from cytoforge.commands.segment import segment
from cytoforge.data import label_files
from cytoforge.data.images import LabelReader, Normalisation, RowReader, read_labels, write_image, write_labels
from cytoforge.data.label_files import write_label_tiff, write_label_zarr
from cytoforge.data.metadata import read_metadata
from cytoforge.data.ownership import OutputFolder
from cytoforge.errors import UserError
from cytoforge.inference import numbering, strips
from cytoforge.inference import panels as panels_module
from cytoforge.inference import segment_work as segment_module
from cytoforge.inference import segmenter as segmenter_module
from cytoforge.inference.panels import panels
from cytoforge.inference.row_files import RowFile
from cytoforge.inference.segmenter import InMemory, Segmenter
from cytoforge.metrics.segmentation import merged, overlap
from cytoforge.processors import ahead
from cytoforge.settings import ScoreSegmentation, Segment
from test_segment import Toy, discs, painted, write_run

LIMITS = np.array([[-1.0, 1.0]])


@dataclass
class Rows:
    """Labels in memory as `label_files.LabelRows`."""

    labels: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.labels.dtype

    def rows(self, top: int, bottom: int) -> np.ndarray:
        return self.labels[top:bottom]


def cells(shape: tuple[int, int], seed: int = 0, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return discs(shape, [(*rng.uniform(0, 1, 2), rng.uniform(3, 25)) for _ in range(count)])


def found(segmenter: Segmenter, image: np.ndarray, folder: Path) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    labels, count = segmenter.segment_rows(InMemory(image), LIMITS, folder)
    with labels:
        array = labels.rows(0, labels.height)
    ids, first = np.unique(array, return_index=True)
    assert np.array_equal(ids[ids > 0], np.arange(1, count + 1))
    assert (np.diff(first[ids > 0]) > 0).all()  # as rows of pixels meet them
    assert not any(pieces_apart(array, 0)[1:])
    return array


# ---- panels


@given(width=st.integers(1, 2000), edge=st.integers(0, 120), stride=st.sampled_from([1, 8, 16]))
def test_panels_decide_every_column_once_and_see_enough(width: int, edge: int, stride: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels_module, "PANEL", 300)
        cut = panels(width, edge, stride)
    assert [column for p in cut for column in range(*p.decided)] == list(range(width))
    assert max(stop - start for start, stop in (p.decided for p in cut)) <= 300
    for panel in cut:
        (start, stop), (left, right), (first, last) = panel
        assert (left, right) == (max(start - 64, 0), min(stop + 64, width))
        assert first % stride == 0 and 0 <= first <= max(left - edge, 0) and last == min(right + edge, width)


@given(
    shape=st.tuples(st.integers(70, 330), st.integers(150, 420)),
    blobs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(2, 60)), min_size=1, max_size=40),
    reach=st.integers(0, 2),
    panel=st.integers(130, 260),
    strip=st.integers(70, 200),
    tile=st.integers(40, 200),
    scale=st.sampled_from([1.0, 0.7, 1.3]),
    target=st.sampled_from(["boundary", "semantic"]),
)
@settings(max_examples=40)
def test_panels_strips_and_tiles_give_what_the_whole_image_gives(
    shape: tuple[int, int],
    blobs: list[tuple[float, float, float]],
    reach: int,
    panel: int,
    strip: int,
    tile: int,
    scale: float,
    target: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """To the number of each cell."""
    folder = tmp_path_factory.mktemp("rows")
    network = Toy(reach) if target == "boundary" else TwoClasses(reach)
    run = Segmenter(folder, network, TARGETS[target], Normalisation(), scale, 4000, 1, "")
    image = painted(discs(shape, blobs))
    whole = found(run, image, folder / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels_module, "PANEL", panel)
        patch.setattr(strips, "STRIP_PIXELS", 1)
        patch.setattr(strips, "LEAST_STRIP", strip)
        patch.setattr(panels_module, "STRIP_PIXELS", 50 * shape[1])
        patch.setattr(numbering, "STRIP_PIXELS", 30 * shape[1])
        patch.setattr(segmenter_module, "READ", 20 * shape[1])
        patch.setattr(torch, "get_num_threads", lambda: 3)  # with threads that read and decode
        small = Segmenter(folder, network, TARGETS[target], Normalisation(), scale, tile, 1, "")
        np.testing.assert_array_equal(found(small, image, folder / "parts"), whole)


class TwoClasses(Toy):
    """`Toy` for the target of two classes."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image)[:, :2]


def test_cells_are_numbered_as_rows_meet_them(tmp_path: Path) -> None:
    labels = np.zeros((200, 300), np.int32)
    labels[20:40, 200:230], labels[30:60, 20:40], labels[20:50, 100:130], labels[150:180, 100:200] = 1, 2, 3, 4
    run = Segmenter(tmp_path, Toy(), TARGETS["boundary"], Normalisation(), 1.0, 400, 1, "")
    array = found(run, painted(labels), tmp_path / "rows")
    assert [array[y, x] for y, x in ((25, 110), (25, 210), (35, 30), (160, 150))] == [1, 2, 3, 4]


def test_arms_that_meet_in_a_distant_panel_are_one_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((110, 700), np.int32)
    for top in (10, 40, 70):  # a comb of three teeth, open to the left
        labels[top : top + 20, 10:690] = 1
    labels[10:90, 670:690] = 1
    run = Segmenter(tmp_path, Toy(), TARGETS["boundary"], Normalisation(), 1.0, 200, 1, "")
    monkeypatch.setattr(panels_module, "PANEL", 150)
    np.testing.assert_array_equal(found(run, painted(labels), tmp_path / "rows"), labels)


def test_rows_on_disk_come_back(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 9, (57, 13))
    with RowFile(tmp_path / "rows", 13, np.int32) as rows:
        for top in range(0, 57, 10):
            rows.append(array[top : top + 10])
        for top, bottom in ((0, 57), (0, 1), (9, 11), (56, 57), (30, 40), (5, 45)):
            np.testing.assert_array_equal(rows.rows(top, bottom), array[top:bottom])
        assert rows.shape == (57, 13)


def test_work_ahead_keeps_its_order_and_its_errors() -> None:
    assert list(ahead(lambda n: n * n, range(9), 3)) == list(ahead(lambda n: n * n, range(9), 0))
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(9):
            taken.append(n)
            yield n

    results = ahead(lambda n: 1 // (n - 4), items(), 2)
    assert next(results) == (0, -1)
    assert taken == [0, 1, 2]  # no more than may be in work
    with pytest.raises(ZeroDivisionError):
        list(results)


# ---- label images by chunks


@pytest.mark.parametrize("version", [2, 3])
def test_other_readers_open_label_zarrs(version: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_files, "CHUNK", 48)
    labels = cells((201, 130)).astype(np.uint16)
    write_label_zarr(
        tmp_path / "a.zarr", Rows(labels), zarr_format=version, pixel_size=0.5, image="../big.zarr", name="a"
    )
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    attributes = group.attrs.asdict()
    described = (
        ImageLabel04.model_validate(attributes) if version == 2 else ImageLabel05.model_validate(attributes["ome"])
    )
    assert described.image_label is not None and described.image_label.source.image == "../big.zarr"
    (multiscale,) = described.multiscales
    assert [(axis.name, axis.unit) for axis in multiscale.axes] == [("y", "micrometer"), ("x", "micrometer")]
    levels = [(level.path, level.coordinateTransformations[0].scale) for level in multiscale.datasets]
    assert levels == [(str(n), [0.5 * 2**n] * 2) for n in range(4)]
    assert [group[path].shape for path, _ in levels] == [(201, 130), (101, 65), (51, 33), (26, 17)]
    for number, (path, _) in enumerate(levels):
        np.testing.assert_array_equal(group[path][:], labels[:: 2**number, :: 2**number])
    stated = attributes["ome"]["version"] if version == 3 else multiscale.version
    assert stated == ("0.5" if version == 3 else "0.4")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.zarr"), labels)
    assert read_metadata(tmp_path / "a.zarr").pixel_size == 0.5
    array = zarr.open_array(str(tmp_path / "a.zarr" / "0"), mode="r")
    assert (array.dtype, array.chunks, array.metadata.zarr_format) == (np.uint32, (48, 48), version)


@pytest.mark.parametrize("classic", [2**32, 1000])
def test_large_tiffs_are_written_in_tiles(classic: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_files, "TILE", 64)
    monkeypatch.setattr(label_files, "CLASSIC", classic)
    labels = cells((201, 130)).astype(np.uint32)
    write_label_tiff(tmp_path / "a.tif", Rows(labels))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.is_bigtiff, file.pages.first.chunks) == (classic == 1000, (64, 64))
        np.testing.assert_array_equal(file.asarray(), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)


STORED = ("plain.tif", "tiled.tif", "strips.tif", "rgb.tif", "a.png", "a.npy", "two.zarr", "three.zarr")


@pytest.mark.parametrize("name", STORED)
def test_columns_are_those_of_the_whole(name: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 999, (90, 75), np.uint16)
    path = tmp_path / name
    if name.endswith(".zarr"):
        array = zarr.create_array(
            path, shape=image.shape, chunks=(31, 17), dtype=image.dtype, zarr_format=2 if name[1] == "w" else 3
        )
        array[:] = image
    elif name == "a.npy":
        np.save(path, image)
    elif name == "a.png":
        write_image(path, image[None])
    else:
        layout: dict[str, dict[str, Any]] = {
            "tiled.tif": {"tile": (32, 16), "compression": "zlib"},
            "strips.tif": {"rowsperstrip": 7, "compression": "zlib"},
        }
        tifffile.imwrite(path, np.stack([image] * 3, axis=-1) if name == "rgb.tif" else image, **layout.get(name, {}))
    with RowReader(path) as reader:
        for rows, columns in (((10, 50), (5, 60)), ((0, 90), (30, 31)), ((89, 90), (0, 75)), ((0, 90), (0, 75))):
            part = reader.rows(*rows, columns)
            assert part.shape == (reader.shape[0], rows[1] - rows[0], columns[1] - columns[0])
            assert (part == image[slice(*rows), slice(*columns)]).all()
        with pytest.raises(ValueError, match=r"columns 70\.\.80 are not in an image of 75 columns"):
            reader._pixels.read(0, 9, columns=(70, 80))


# ---- the command


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    network = Toy()
    monkeypatch.setattr("cytoforge.inference.load.load_network", lambda run, name, device: network)
    return network


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


LABELS = cells((260, 330), seed=3)


def ome_zarr(path: Path, version: Any, chunks: tuple[int, int] = (37, 101), labels: np.ndarray = LABELS) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.25, 0.25]}]}]
    multiscale: dict[str, Any] = {"axes": axes, "datasets": datasets}
    if version == 2:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    array = group.create_array("0", shape=labels.shape, chunks=chunks, dtype=np.float32)
    array[:] = painted(labels)[0]
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_images_give_label_zarrs(
    version: int, toy: Toy, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ome_zarr(tmp_path / "big.zarr", version)
    write_image(tmp_path / "same.tif", painted(LABELS))
    segment(Segment(run, tmp_path / "same.tif", tmp_path / "tiff", threads=1))
    monkeypatch.setattr(panels_module, "PANEL", 140)
    monkeypatch.setattr(label_files, "CHUNK", 100)
    segment(Segment(run, image, tmp_path / "out", threads=1, tile=64))
    mask = tmp_path / "out" / "masks" / "big.zarr"
    np.testing.assert_array_equal(read_labels(mask), read_labels(tmp_path / "tiff" / "masks" / "same.tif"))
    array = zarr.open_array(str(mask / "0"), mode="r")
    assert (array.metadata.zarr_format, array.chunks) == (version, (100, 100))
    assert read_metadata(mask).pixel_size == 0.25
    attributes = zarr.open_group(str(mask), mode="r").attrs.asdict()
    described = attributes.get("ome", attributes)
    assert (mask / described["image-label"]["source"]["image"]).resolve() == image.resolve()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.jsonl", "masks", "segment.json"]
    record = json.loads((tmp_path / "out" / "segment.json").read_text())
    assert record["masks"]["big"]["file"] == "big.zarr"
    # scored in parts
    monkeypatch.setattr("cytoforge.evaluation.segmentation.STRIP", 5000)
    write_labels(tmp_path / "true" / "big.tif", read_labels(mask))
    for name, prediction in (("file", mask), ("folder", tmp_path / "out")):
        results = tmp_path / f"{name}.json"
        score_segmentation(ScoreSegmentation(prediction, tmp_path / "true", json=results))
        scores = json.loads(results.read_text())["images"]["big"]
        assert scores["truth_cells"] == scores["true_positives"][-1] == record["masks"]["big"]["cells"]


def test_label_zarrs_are_kept_replaced_and_never_lost(
    toy: Toy, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = ome_zarr(tmp_path / "big.zarr", 2), tmp_path / "out"
    mask = out / "masks" / "big.zarr"

    def stop(*_: object, **__: object) -> None:
        (out / ".unfinished" / "mask.zarr" / "0").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segment_module, "write_label_zarr", stop)
        with pytest.raises(KeyboardInterrupt):
            segment(Segment(run, image, out, threads=1))
    assert not mask.exists() and not (out / ".unfinished").exists()
    segment(Segment(run, image, out, threads=1))
    calls, before = toy.calls, read_labels(mask)
    segment(Segment(run, image, out, threads=1))
    assert toy.calls == calls  # kept
    segment(Segment(run, image, out, threads=1, overwrite=True))
    assert toy.calls > calls
    np.testing.assert_array_equal(read_labels(mask), before)
    (mask / "0" / "0" / "0").write_bytes(b"edited")
    with pytest.raises(UserError, match=r"big.zarr: has been changed since this command wrote it|has been changed"):
        segment(Segment(run, image, out, threads=1, overwrite=True))
    assert (mask / "0" / "0" / "0").read_bytes() == b"edited"
    shutil.copytree(image, tmp_path / "new" / "masks" / "big.zarr")
    with pytest.raises(UserError, match=r"big.zarr: exists already; give another --out"):
        segment(Segment(run, image, tmp_path / "new", threads=1))


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_parts_give_the_label_zarrs_of_one_call(toy: Toy, run: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        ome_zarr(tmp_path / "images" / f"{name}.zarr", 2)
    segment(Segment(run, tmp_path / "images", tmp_path / "one", threads=1))
    for part in ("2/2", "1/2"):
        segment(Segment(run, tmp_path / "images", tmp_path / "two", threads=1, part=part))
    assert files(tmp_path / "two") == files(tmp_path / "one")
    chunk = tmp_path / "two" / "masks" / "b.zarr" / "0" / "0" / "0"
    chunk.write_bytes(b"edited")
    again = Segment(run, tmp_path / "images", tmp_path / "two", threads=1, overwrite=True)
    with pytest.raises(UserError, match=r"masks/b\.zarr.*has been changed since"):
        segment(again)
    assert chunk.read_bytes() == b"edited"


def test_folders_of_one_writer_are_replaced_by_others(tmp_path: Path) -> None:
    (tmp_path / "masks" / "mine.zarr").mkdir(parents=True)
    OutputFolder(tmp_path, "segment").write("segment.json", b"{}")
    for number, writer in enumerate(("first", "second")):
        folder = OutputFolder(tmp_path, "segment", writer)
        with folder.writing_folder("masks/a.zarr", folder.make_scratch() / "part") as part:
            (part / f"{number}").write_text(writer)
    whole = OutputFolder(tmp_path, "segment")
    assert whole.lists("masks/a.zarr") and whole.owns("masks/a.zarr") and not whole.owns("masks/mine.zarr")
    whole.settle()
    assert files(tmp_path).keys() == {"manifest.jsonl", "segment.json", "masks/a.zarr/1"}
    assert whole.owns("masks/a.zarr") and whole.intact("masks/a.zarr")
    (tmp_path / "masks" / "a.zarr" / "1").write_text("edited")
    assert not whole.owns("masks/a.zarr") and not whole.intact("masks/a.zarr")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
def test_folders_are_not_written_through_links(tmp_path: Path) -> None:
    for name in ("masks", ".unfinished"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        folder = OutputFolder(tmp_path / name / "out", "segment")
        folder.write("a", b"")
        (folder.path / name).symlink_to(tmp_path / "elsewhere" / name)
        with (
            pytest.raises(UserError, match=rf"{name}: is a link to another folder, where nothing is written"),
            folder.writing_folder("masks/a.zarr", folder.make_scratch() / "part") as part,
        ):
            (part / "file").write_text("")
    assert not files(tmp_path / "elsewhere")


def test_a_full_disk_leaves_no_half_label_zarr(
    toy: Toy, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment_module, "write_label_zarr", full)
    with pytest.raises(UserError, match=r"big.zarr: the disk is full; make room or write to another disk"):
        segment(Segment(run, ome_zarr(tmp_path / "big.zarr", 2), tmp_path / "out", threads=1))
    assert not (tmp_path / "out" / "masks").exists() and not (tmp_path / "out" / ".unfinished").exists()


def test_large_images_of_other_formats_give_tiled_tiffs(
    toy: Toy, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.tif", painted(LABELS))
    segment(Segment(run, tmp_path / "a.tif", tmp_path / "small", threads=1))
    monkeypatch.setattr(segment_module, "LARGE", LABELS.size - 1)
    segment(Segment(run, tmp_path / "a.tif", tmp_path / "large", threads=1))
    small, large = (tmp_path / name / "masks" / "a.tif" for name in ("small", "large"))
    np.testing.assert_array_equal(read_labels(small), read_labels(large))
    with tifffile.TiffFile(large) as file:
        assert file.pages.first.is_tiled


def test_a_blank_zarr_has_no_cells(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter_module, "EMPTY", 30)
    zarr.create_array(tmp_path / "flat.zarr", shape=(70, 40), chunks=(20, 40), dtype=np.uint8, fill_value=7)
    segment(Segment(run, tmp_path / "flat.zarr", tmp_path / "out", threads=1))
    labels = read_labels(tmp_path / "out" / "masks" / "flat.zarr")
    assert labels.shape == (70, 40) and not labels.any()


# ---- scores by rows


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 8)),
    seed=st.integers(0, 99),
    ids=st.integers(1, 5),
    step=st.integers(1, 13),
)
def test_tables_of_rows_merge_to_that_of_the_image(size: tuple[int, int], seed: int, ids: int, step: int) -> None:
    truth, prediction = np.random.default_rng(seed).integers(0, ids, (2, *size)) * 1000
    parts = [overlap(truth[top : top + step], prediction[top : top + step]) for top in range(0, size[0], step)]
    whole, table = overlap(truth, prediction), merged(parts)
    for name in whole.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(table, name), getattr(whole, name), name)


def test_labels_are_checked_row_by_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tables to merge"):
        merged([])
    for name, array, said in (
        ("half.tif", np.full((9, 9), 0.5, np.float32), "holds fractions"),
        ("five.tif", np.zeros((5, 9, 9), np.uint16), "has one channel of cell ids, this has 5"),
    ):
        tifffile.imwrite(tmp_path / name, array, metadata={"axes": "CYX"[-array.ndim :]})
        with pytest.raises(UserError, match=said), LabelReader(tmp_path / name) as reader:
            reader.labels(0, 4)
