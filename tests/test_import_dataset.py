"""`cytoforge import dataset`: annotations of other programs become label images, against independent code."""

import base64
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import roifile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import find_contours, label

from conftest import content, squares
from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import read_image, read_labels, write_image, write_labels
from cytoforge.data.interchange import annotated, numpy_dict
from cytoforge.data.interchange.annotated import Annotated, Drawn, Source, clean, file_names
from cytoforge.data.interchange.coco import decompressed
from cytoforge.data.interchange.deepsea import read_points
from cytoforge.data.movie import Track, read_sequences, read_tracks
from cytoforge.errors import UserError

Rings = list[np.ndarray]


def blobs(seed: int, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Labels int32 of well separated ellipses."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    places = [(row, column) for row in range(10, shape[0] - 8, 20) for column in range(10, shape[1] - 8, 20)]
    for number, (row, column) in enumerate(places, 1):
        height, width, turn = rng.uniform(2, 8), rng.uniform(2, 8), rng.uniform(0, np.pi)
        down, across = y - row, x - column
        along, aside = down * np.cos(turn) + across * np.sin(turn), across * np.cos(turn) - down * np.sin(turn)
        labels[(along / height) ** 2 + (aside / width) ** 2 < 1] = number
    return labels


def picture(labels: np.ndarray, seed: int = 0, dtype: type = np.uint16) -> np.ndarray:
    top = np.iinfo(dtype).max // 4
    return (np.random.default_rng(seed).integers(0, top, (1, *labels.shape)) + top * (labels > 0)).astype(dtype)


def rings(cell: np.ndarray) -> Rings:
    """Outlines of a mask (H, W) as (K, 2) x, y from the image's corner, holes too, by marching squares."""
    return [ring[:-1, ::-1] - 0.5 for ring in find_contours(np.pad(cell, 1).astype(float), 0.5)]


def outline(cell: np.ndarray) -> np.ndarray:
    """The longest of the rings of a mask."""
    return max(rings(cell), key=len)


def cells_of(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == number for number in np.unique(labels[labels > 0])]


def same_cells(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label images hold the same cells, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T
    return one.shape == other.shape and len(pairs) == len(np.unique(one)) == len(np.unique(other))


def imported(source: Path, out: Path, *more: str) -> Dataset:
    assert main(["import", "dataset", str(source), "--out", str(out), *more]) == 0
    return Dataset.open(out)


def refused(source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["import", "dataset", str(source), "--out", str(out)]) == 2
    return capsys.readouterr().err


# writers, one for each format: a folder from images and their labels


def coco_json(labels: dict[str, np.ndarray], segment: Callable[[np.ndarray], Any], **entries: Any) -> dict[str, Any]:
    """A COCO file of images by file name; `entries` are added to each annotation."""
    images = [
        {"id": 100 + k, "file_name": name, "height": one.shape[0], "width": one.shape[1]}
        for k, (name, one) in enumerate(labels.items())
    ]
    cells = [(100 + k, cell) for k, one in enumerate(labels.values()) for cell in cells_of(one)]
    annotations = [
        {"id": number, "image_id": image, "category_id": 1, "segmentation": segment(cell), "iscrowd": 0, **entries}
        for number, (image, cell) in enumerate(cells)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}


def polygon(cell: np.ndarray) -> list[list[float]]:
    return [outline(cell).ravel().tolist()]


def compressed(cell: np.ndarray) -> dict[str, Any]:
    packed = pycocotools.mask.encode(np.asfortranarray(cell.astype(np.uint8)))
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def uncompressed(cell: np.ndarray) -> dict[str, Any]:
    row = cell.ravel(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate([[False], row]).astype(int)))
    return {"size": list(cell.shape), "counts": np.diff([0, *changes, row.size]).tolist()}


def write_coco(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / "images" / f"{name}.tif", picture(one))
    content = coco_json({f"{name}.tif": one for name, one in labels.items()}, polygon)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def write_rle(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    write_coco(folder, labels)
    content = coco_json({f"{name}.tif": one for name, one in labels.items()}, compressed)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def write_runs(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    write_coco(folder, labels)
    content = coco_json({f"{name}.tif": one for name, one in labels.items()}, uncompressed)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def write_cellpose(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / f"{name}_img.png", picture(one))
        write_labels(folder / f"{name}_masks.png", one)
    return folder


def seg_dict(labels: np.ndarray, file: str = "a.tif") -> dict[str, Any]:
    """What Cellpose's window saves, with all kinds of values."""
    return {
        "outlines": (labels > 0).astype(np.uint16),
        "masks": labels.astype(np.uint16),
        "chan_choose": [0, 0],
        "ismanual": np.zeros(labels.max(), bool),
        "filename": f"/data/{file}",
        "flows": [np.zeros((3, 4, 3), np.uint8), np.asfortranarray(np.ones((3, 4), np.float32)), None, []],
        "diameter": np.float64(12.5),
        "est_diam": 30.0,
        "normalize_params": {"lowhigh": None, "percentile": [1.0, 99.0], "normalize": True, "sharpen_radius": 0},
        "colors": np.zeros((3, 3), np.uint8),
        "model_path": 0,
        "zdraw": [None, (1, 2, 3, 4)],
    }


def write_seg(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / f"{name}.tif", picture(one))
        np.save(folder / f"{name}_seg.npy", seg_dict(one))  # type: ignore[arg-type]
    return folder


def write_cell_files(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / name / "images" / f"{name}.png", picture(one))
        for number, cell in enumerate(cells_of(one)):
            write_image(folder / name / "masks" / f"{number:08x}.png", 255 * cell[None].astype(np.uint8))
    return folder


def write_deepsea(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / "images" / f"{name}.png", picture(one))
        write_image(folder / "masks" / f"{name}_cell_area_masked.png", (255 * (one > 0))[None].astype(np.uint8))
    return folder


def write_roi(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / f"{name}.tif", picture(one))
        with zipfile.ZipFile(folder / f"{name}_RoiSet.zip", "w") as packed:
            for number, cell in enumerate(cells_of(one)):
                packed.writestr(f"{number:04d}.roi", roifile.ImagejRoi.frompoints(outline(cell)).tobytes())
    return folder


def geojson(labels: np.ndarray, kind: str = "detection") -> dict[str, Any]:
    features = []
    for cell in cells_of(labels):
        closed = [[*ring.tolist(), ring[0].tolist()] for ring in sorted(rings(cell), key=len, reverse=True)]
        geometry = {"type": "Polygon", "coordinates": closed}
        features.append({"type": "Feature", "id": "a", "geometry": geometry, "properties": {"objectType": kind}})
    return {"type": "FeatureCollection", "features": features}


def write_qupath(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / f"{name}.tif", picture(one))
        (folder / f"{name}.geojson").write_text(json.dumps(geojson(one)))
    return folder


def labelme_json(labels: np.ndarray, file: str, **entries: Any) -> dict[str, Any]:
    shapes = [
        {"label": "cell", "points": outline(cell).tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
        for cell in cells_of(labels)
    ]
    size = {"imageHeight": labels.shape[0], "imageWidth": labels.shape[1]}
    return {"version": "5.4.1", "shapes": shapes, "imagePath": file, "imageData": None, **size, **entries}


def write_labelme(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / "pictures" / f"{name}.tif", picture(one))
        (folder / "json").mkdir(exist_ok=True)
        (folder / "json" / f"{name}.json").write_text(json.dumps(labelme_json(one, f"..\\pictures\\{name}.tif")))
    return folder


def yolo_lines(labels: np.ndarray) -> str:
    size = np.array(labels.shape[::-1])
    return "".join(f"0 {' '.join(map(str, (outline(cell) / size).ravel()))}\n" for cell in cells_of(labels))


def write_yolo(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    for name, one in labels.items():
        write_image(folder / "images" / "train" / f"{name}.tif", picture(one))
        (folder / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (folder / "labels" / "train" / f"{name}.txt").write_text(yolo_lines(one))
    return folder


WRITERS: dict[str, tuple[str, Callable[[Path, dict[str, np.ndarray]], Path]]] = {
    "coco": ("COCO JSON", write_coco),
    "rle": ("COCO JSON", write_rle),
    "runs": ("COCO JSON", write_runs),
    "cellpose": ("Cellpose", write_cellpose),
    "seg": ("Cellpose", write_seg),
    "cell files": ("a mask file for each cell", write_cell_files),
    "deepsea": ("DeepSea", write_deepsea),
    "imagej": ("ImageJ regions", write_roi),
    "qupath": ("QuPath GeoJSON", write_qupath),
    "labelme": ("LabelMe", write_labelme),
    "yolo": ("YOLO segments", write_yolo),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_images_and_cells_come_back(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, write = WRITERS[kind]
    labels = {"a": blobs(1), "b b": blobs(2, (50, 70))}
    source = write(tmp_path / "source", labels)
    before = content(source)
    data = imported(source, tmp_path / "out")
    said = capsys.readouterr().out
    assert said.endswith(f"out: 2 images, {labels['a'].max() + labels['b b'].max()} cells, from {name}\n")
    assert [item.name for item in data.items] == ["a", "b b"] and not data.left_out
    for item in data.items:
        assert item.image and item.mask
        np.testing.assert_array_equal(read_image(item.image), picture(labels[item.name]))  # 16 bits
        assert same_cells(read_labels(item.mask), labels[item.name])
    assert data.info["format"] == name and data.info["by"] == "cytoforge import dataset"
    assert data.info["source"] == "source" and data.info["complete"]
    assert content(source) == before
    assert main(["check", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("kind", WRITERS)
def test_check_and_train_name_the_command(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, write = WRITERS[kind]
    source = write(tmp_path / "its data", {"a": blobs(1), "c": blobs(3)})
    command = f"give cytoforge import dataset '{source}' --out DATA, and then DATA"
    assert main(["check", str(source)]) in (1, 2)
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert f"holds {name}" in said and command in said
    for line in (["train", "segmentation", str(source)], ["train", "tracker", str(source)]):
        assert main([*line, "--out", str(tmp_path / "run"), "--minutes", "1"]) == 2
        assert f"{source}: holds {name}; {command}\n" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_datasets_and_movies_are_no_foreign_format(tiny_dataset: Path, tiny_movie: Path, tmp_path: Path) -> None:
    """The hint is for what cannot be read as it is; folders of datasets, plain ones and movies stay as they were."""
    for folder in (tiny_dataset, tiny_dataset.parent, tiny_movie):
        assert main(["check", str(folder)]) == 0
    (tiny_dataset / "notes.json").write_text('{"images": [], "annotations": [], "segmentation": 1}')
    assert main(["check", str(tiny_dataset)]) == 0
    write_image(tmp_path / "plain" / "a.png", picture(blobs(1)))
    (tmp_path / "plain" / "a.txt").write_text("scale 0.5\n")
    assert main(["check", str(tmp_path / "plain")]) == 0


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(WRITERS)))
def test_separate_cells_survive_every_format(tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str) -> None:
    folder = tmp_path_factory.mktemp("property")
    labels = blobs(seed, (40, 60))
    data = imported(WRITERS[kind][1](folder / "source", {"a": labels}), folder / "out")
    (item,) = data.items
    assert item.mask and same_cells(read_labels(item.mask), labels)


# COCO


def test_livecell_as_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images in nested folders, a file for each split, annotations as an object, an image that is not there."""
    folder = tmp_path / "LIVECell"
    names = {"train": ["A172_1.tif", "BT474_1.tif"], "val": ["A172_2.tif"], "test": ["SkBr3_1.tif"]}
    truth = {}
    for split, files in names.items():
        truth |= {file.removesuffix(".tif"): blobs(len(file) + len(split)) for file in files}
        for file in files:
            place = "livecell_test_images" if split == "test" else "livecell_train_val_images"
            one = truth[file.removesuffix(".tif")]
            write_image(folder / "images" / place / file.partition("_")[0] / file, picture(one, dtype=np.uint8))
        whole = coco_json({file: truth[file.removesuffix(".tif")] for file in files}, polygon)
        whole["annotations"] = {str(entry["id"]): entry for entry in whole["annotations"]}
        if split == "val":
            whole["images"].append({"id": 7, "file_name": "Huh7_9.tif", "height": 60, "width": 80})
        (folder / f"livecell_coco_{split}.json").write_text(json.dumps(whole))
    write_image(folder / "images" / "more" / "other.tif", picture(blobs(5)))
    data = imported(folder, tmp_path / "out")
    said = capsys.readouterr().out
    assert "1 annotated image left out, as no such image is there (Huh7_9)" in said
    assert "1 image without annotation, left out (images/more/other.tif)" in said
    assert "3 files of annotations became the groups of dataset.json: livecell_coco_test, livecell_coco_train" in said
    assert {item.name: item.group for item in data.items} == {
        file.removesuffix(".tif"): f"livecell_coco_{split}" for split, files in names.items() for file in files
    }
    assert all(item.mask and same_cells(read_labels(item.mask), truth[item.name]) for item in data.items)
    training, held = data.split(0, by="group")
    assert {item.group for item in training.items}.isdisjoint({item.group for item in held.items})


def test_polygons_of_several_parts_and_of_a_crowd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two parts are one cell, a hole within one polygon of run lengths stays, crowds and boxes are left out."""
    write_image(tmp_path / "source" / "a.png", picture(np.zeros((20, 30))))
    ring = np.zeros((20, 30), bool)
    ring[10:18, 10:18] = True
    ring[12:16, 12:16] = False
    parts = [[1, 1, 5, 1, 5, 5, 1, 5], [7, 1, 9, 1, 9, 3, 7, 3]]
    annotations = [
        {"image_id": 1, "segmentation": parts, "iscrowd": 0},
        {"image_id": 1, "segmentation": compressed(ring)},
        {"image_id": 1, "segmentation": uncompressed(np.ones((20, 30), bool)), "iscrowd": 1},
        {"image_id": 1, "bbox": [0, 0, 3, 3], "segmentation": []},
        {"image_id": 2, "segmentation": parts},
    ]
    kinds = [{"id": 1, "name": "nucleus"}, {"id": 2, "name": "cell"}]
    whole = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations, "categories": kinds}
    (tmp_path / "source" / "c.json").write_text(json.dumps(whole))
    (item,) = imported(tmp_path / "source", tmp_path / "out").items
    expected = ring * 2
    expected[1:5, 1:5] = expected[1:3, 7:9] = 1
    assert item.mask
    np.testing.assert_array_equal(read_labels(item.mask), expected)
    said = capsys.readouterr().out
    assert "c.json: 1 crowd of cells (iscrowd), left out" in said
    assert "c.json: 1 annotation of no image of the file, left out" in said
    assert "c.json: its 2 categories are all taken for cells (nucleus, cell)" in said
    assert "with 1 annotation that became no pixel" in said
    for entry in annotations:
        entry["iscrowd"] = 1  # as programs write single cells in run lengths
    (tmp_path / "source" / "c.json").write_text(json.dumps(whole))
    (item,) = imported(tmp_path / "source", tmp_path / "out", "--overwrite").items
    assert item.mask and read_labels(item.mask).max() == 3


def test_overlapping_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "source" / "a.png", picture(np.zeros((20, 30))))
    boxes = [
        [0, 0, 10, 0, 10, 10, 0, 10],
        [8, 8, 12, 8, 12, 12, 8, 12],
        [2, 2, 4, 2, 4, 4, 2, 4],
        [2, 2, 4, 2, 4, 4, 2, 4],
    ]
    annotations = [{"image_id": 1, "segmentation": [box]} for box in boxes]
    whole = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations}
    (tmp_path / "source" / "c.json").write_text(json.dumps(whole))
    (item,) = imported(tmp_path / "source", tmp_path / "out").items
    assert item.mask
    assert np.bincount(read_labels(item.mask).ravel()).tolist() == [600 - 100 - 12, 100 - 4 - 4, 16, 4]
    said = capsys.readouterr().out
    assert "1 image with cells that overlap: the smaller one has the 8 pixels (a)" in said
    assert "with 1 annotation that became no pixel (points, lines, boxes, specks or hidden cells) (a)" in said


def test_a_file_alone_gives_masks_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").write_text(json.dumps(coco_json({"x/a.jpg": blobs(1), "x/b.jpg": blobs(2)}, polygon)))
    data = imported(tmp_path / "c.json", tmp_path / "out")
    assert "none of its images is there, so OUT holds masks alone (x/a ...)" in capsys.readouterr().out
    assert [item.image for item in data.items] == [None, None]
    assert all(item.mask and same_cells(read_labels(item.mask), blobs(k)) for k, item in enumerate(data.items, 1))
    # again, with the result beside the file: its masks are no images of the source
    imported(tmp_path / "c.json", tmp_path / "out", "--overwrite")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"file_name": 7}, "has no file_name"),
        ({"file_name": ".."}, "has no file_name"),
        ({"id": None}, "id is None, no number or name"),
        ({"height": 61}, r"a.tif is annotated at 61 x 80 pixels, but the image has 60 x 80"),
        ({"height": -1}, "an image has -1 x 80 pixels"),
        ({"height": 10**6, "width": 10**6}, "an image of 1000000 x 1000000 pixels is too large"),
        ({"height": "60"}, "an image has '60' x 80 pixels"),
    ],
)
def test_damaged_entries_of_images(
    change: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_coco(tmp_path / "source", {"a": blobs(1)})
    whole = json.loads((source / "annotations.json").read_text())
    whole["images"][0] |= change
    (source / "annotations.json").write_text(json.dumps(whole))
    said = refused(source, tmp_path / "out", capsys)
    assert says in said and "annotations.json" in said


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1, 2, 3]], "is no list of x, y"),
        ([["a", "b"]], "is no list of x, y"),
        ([[1, 1, float("nan"), 1, 5, 5]], "no finite number"),
        ([[1, 1, 1e308, 1, -1e308, 5]], "a coordinate of an outline is 1e+308 pixels away, far beyond any image; mend"),
        ([[[1, 1], [2, 2]]], "is no list of x, y"),
        ({"size": [60, 80], "counts": [5, 5]}, "has runs of 10 pixels, the image has 4800"),
        ({"size": [60, 80], "counts": [-5, 4805]}, "has no valid run lengths"),
        ({"size": [60, 80], "counts": "\u00ff"}, "has no valid run lengths"),
        ({"size": [60, 80], "counts": "o" * 40}, "has no valid run lengths"),
        ({"size": [60, 80], "counts": "0" * 50}, "has runs of 0 pixels"),
        ({"size": [10**5, 10**5], "counts": [10**10]}, "has [100000, 100000] pixels, the image [60, 80]"),
        ({"counts": None}, "has None pixels"),
    ],
)
def test_damaged_outlines(segmentation: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_coco(tmp_path / "source", {"a": blobs(1)})
    whole = json.loads((source / "annotations.json").read_text())
    whole["annotations"][0]["segmentation"] = segmentation
    (source / "annotations.json").write_text(json.dumps(whole))
    said = refused(source, tmp_path / "out", capsys)
    assert says in said and "annotations.json" in said


@pytest.mark.parametrize("nothing", ["[]", "{ }", "[\n  ]"])
def test_a_file_without_annotations_says_so(nothing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "images" / "a.tif", picture(blobs(1)))
    file = tmp_path / "images" / "c.json"
    file.write_text(f'{{"images": [{{"id": 1, "file_name": "a.tif"}}], "annotations" : {nothing}, "categories": []}}')
    for source in (file, file.parent):
        said = refused(source, tmp_path / "out", capsys)
        assert f"{file}: holds no annotations of its 1 image; outline cells and export it again" in said


def test_images_of_a_file_without_annotations_have_no_cells_beside_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_coco(tmp_path / "source", {"a": blobs(1)})
    write_image(source / "images" / "b.tif", picture(blobs(2)))
    (source / "empty.json").write_text('{"images": [{"id": 1, "file_name": "b.tif"}], "annotations": []}')
    items = {item.name: item for item in imported(source, tmp_path / "out").items}
    assert "1 image without a cell (b)" in capsys.readouterr().out
    assert items["b"].mask and not read_labels(items["b"].mask).any()
    assert items["a"].mask and read_labels(items["a"].mask).any()


def test_images_in_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_coco(tmp_path / "source", {"a": blobs(1)})
    (tmp_path / "annotations").mkdir()
    file = (source / "annotations.json").rename(tmp_path / "annotations" / "train.json")
    (item,) = imported(file, tmp_path / "out", "--images", str(source)).items
    assert item.image and item.mask and same_cells(read_labels(item.mask), blobs(1))
    line = ["import", "dataset", str(file), "--images", str(source), "--out", str(source / "out")]
    assert main(line) == 2 and f"lies in {source}" in capsys.readouterr().err


def test_an_image_that_is_annotated_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_coco(tmp_path / "source", {"a": blobs(1)})
    (source / "b.json").write_text((source / "annotations.json").read_text())
    assert "a.tif is annotated in annotations.json and in b.json" in refused(source, tmp_path / "out", capsys)
    data = imported(source / "b.json", tmp_path / "out")  # one of the files is named
    assert [item.name for item in data.items] == ["a"]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_compressed_runs_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 90), rng.integers(1, 90))) < rng.random()
    if rng.random() < 0.5:
        mask = np.repeat(mask, 40, axis=0)  # long runs take several letters
    assert decompressed(compressed(mask)["counts"]) == uncompressed(mask)["counts"]


# Cellpose


def test_cp_masks_beside_images_and_what_lacks_a_partner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_cellpose(tmp_path / "source", {"000": blobs(1)})
    write_image(source / "more" / "x.tif", np.repeat(picture(blobs(2), dtype=np.uint8), 3, axis=0))  # RGB
    write_labels(source / "more" / "x_cp_masks.png", blobs(2))
    write_labels(source / "more" / "lone_cp_masks.png", blobs(2))
    write_image(source / "more" / "x_flows.tif", picture(blobs(2)))
    write_image(source / "more" / "y.tif", picture(blobs(2)))
    data = imported(source, tmp_path / "out")
    said = capsys.readouterr().out
    assert "1 mask without image, left out (more/lone_cp_masks.png)" in said
    assert "1 image without annotation, left out (more/y.tif)" in said
    assert [item.name for item in data.items] == ["000", "x"]
    assert data.items[1].image and read_image(data.items[1].image).shape == (3, 60, 80)


def test_binary_masks_are_numbered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_cellpose(tmp_path / "source", {"a": (squares() > 0).astype(int)})
    (item,) = imported(source, tmp_path / "out").items
    assert item.mask and same_cells(read_labels(item.mask), label(squares() > 0))
    assert "1 mask with one value for all cells: connected components were numbered" in capsys.readouterr().out
    write_labels(source / "a_masks.png", 1 + (np.arange(4800).reshape(60, 80) // 7 % 2))
    write_image(source / "a_img.png", picture(np.zeros((60, 80))))
    assert main(["import", "dataset", str(source), "--out", str(tmp_path / "two")]) == 2


def test_seg_holds_the_image_and_goes_before_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = blobs(1)
    source = write_seg(tmp_path / "source", {"a": labels})
    write_labels(source / "a_cp_masks.png", squares((60, 80)))
    older = seg_dict(labels) | {"img": picture(labels)[0]}
    np.save(source / "old_seg.npy", older)  # type: ignore[arg-type]
    one, other = imported(source, tmp_path / "out").items
    assert "1 further mask of the same images, left out (a_cp_masks.png)" in capsys.readouterr().out
    assert one.mask and same_cells(read_labels(one.mask), labels)
    assert other.image and other.mask and same_cells(read_labels(other.mask), labels)
    np.testing.assert_array_equal(read_image(other.image), picture(labels))
    del older["img"]
    np.save(source / "old_seg.npy", older)  # type: ignore[arg-type]
    assert "its image is not there; put old with its ending beside it" in refused(source, tmp_path / "b", capsys)


def test_seg_is_read_like_numpy_reads_it(tmp_path: Path) -> None:
    """All protocols in which NumPy has written such files; both byte orders; both names of NumPy's core."""
    given = seg_dict(blobs(1)) | {"big": np.arange(5, dtype=">u4"), "one": np.zeros((), np.float32), "long": 2**40}
    np.save(tmp_path / "a_seg.npy", given)  # type: ignore[arg-type]
    whole = (tmp_path / "a_seg.npy").read_bytes()
    start = whole[: whole.index(b"\n") + 1]
    array = np.array(given, object)
    for protocol in (3, 4):
        for core in (b"_core", b"core"):
            pickled = pickle.dumps(array, protocol=protocol)
            if core == b"core" and protocol == 3:
                pickled = pickled.replace(b"numpy._core.", b"numpy.core.")
            (tmp_path / "b_seg.npy").write_bytes(start + pickled)
            found = numpy_dict.read_dict(tmp_path / "b_seg.npy")
            assert found.keys() == given.keys()
            for name, value in given.items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(found[name], value)
                    assert found[name].dtype == value.dtype
                elif name != "flows":
                    assert found[name] == value


class Harm:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def hostile(tmp_path: Path) -> Iterable[tuple[str, bytes]]:
    np.save(tmp_path / "a.npy", {"masks": blobs(1)})  # type: ignore[arg-type]
    good = (tmp_path / "a.npy").read_bytes()
    start = good[: good.index(b"\n") + 1]
    yield "a call", start + pickle.dumps(np.array({"masks": Harm(tmp_path / "made")}, object), protocol=4)
    yield "a call instead of the array", start + pickle.dumps(Harm(tmp_path / "made"), protocol=2)
    yield "cut off", good[: len(good) * 2 // 3]
    yield "a call by text", start + b"cos\nsystem\n(S'touch made'\ntR."
    yield "an object", start + b"(icollections\nOrderedDict\n."
    yield "a persistent id", start + b"Pid\n."
    yield "too few bytes", good.replace(pickle.dumps(60, 4)[2:4], pickle.dumps(61, 4)[2:4], 1)
    yield "an extension", start + b"\x80\x04\x82\x01."
    yield "an array by itself", good.replace(b"|O", b"<f8")
    yield "no array", b"PK\x03\x04" + bytes(100)
    yield "nothing", b""
    yield (
        "structured",
        start + pickle.dumps(np.array({"m": np.zeros(2, [("a", "u1"), ("b", "u2")])}, object), protocol=4),
    )
    yield "a set", start + pickle.dumps(np.array({"m": {1}}, object), protocol=4)
    yield "a path", start + pickle.dumps(np.array({"m": Path("x")}, object), protocol=4)


def test_seg_runs_nothing_and_refuses_everything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(np, "load", None)
    for name, bad in hostile(tmp_path):
        source = tmp_path / name
        write_image(source / "a.tif", picture(blobs(1)))
        (source / "a_seg.npy").write_bytes(bad)
        said = refused(source, tmp_path / "out" / name, capsys)
        assert f"{source / 'a_seg.npy'}: holds something else than arrays, numbers and texts" in said, name
        assert said.count("\n") == 1
    assert not (tmp_path / "made").exists() and not Path("made").exists()


def test_bounds_of_seg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a_seg.npy", seg_dict(blobs(1)))  # type: ignore[arg-type]
    numpy_dict.read_dict(tmp_path / "a_seg.npy")
    monkeypatch.setattr(numpy_dict, "MOST", 20)
    with pytest.raises(UserError, match="more than 20 instructions"):
        numpy_dict.read_dict(tmp_path / "a_seg.npy")
    monkeypatch.setattr(numpy_dict, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="is larger than"):
        numpy_dict.read_dict(tmp_path / "a_seg.npy")


# a mask file for each cell


def test_dsb_as_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RGBA images, masks that overlap by a pixel, and a test part without masks."""
    folder = tmp_path / "dsb"
    write_cell_files(folder / "stage1_train", {"ab12": blobs(1)})
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "stage1_train" / "ab12" / "images" / "ab12.png")
    cell = np.zeros((1, 60, 80), np.uint8)
    cell[0, :4, :4] = 255
    write_image(folder / "stage1_train" / "ab12" / "masks" / "x.png", cell)
    write_image(folder / "stage1_train" / "ab12" / "masks" / "y.png", np.roll(cell, 3, axis=2))
    write_image(folder / "stage1_test" / "cd34" / "images" / "cd34.png", picture(blobs(2)))
    (item,) = imported(folder, tmp_path / "out").items
    said = capsys.readouterr().out
    assert "1 image without a mask, left out (stage1_test/cd34/images/cd34.png)" in said
    assert "1 image with cells that overlap: the smaller one has the 4 pixels (ab12)" in said
    assert item.image and item.mask and item.name == "ab12"
    np.testing.assert_array_equal(read_image(item.image), pixels[..., :3].transpose(2, 0, 1))
    assert read_labels(item.mask).max() == blobs(1).max() + 2
    write_image(folder / "stage1_train" / "ab12" / "masks" / "z.png", np.zeros((1, 50, 80), np.uint8))
    assert "z.png: this mask is annotated at 50 x 80 pixels, but the image has 60 x 80" in refused(
        folder, tmp_path / "two", capsys
    )


# ImageJ


def test_regions_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "source" / "a.tif", picture(np.zeros((60, 80))))
    kinds = roifile.ROI_TYPE
    oval = roifile.ImagejRoi(roitype=kinds.OVAL, top=2, left=3, bottom=12, right=23)
    rectangle = roifile.ImagejRoi(roitype=kinds.RECT, top=20, left=30, bottom=25, right=33)
    freehand = roifile.ImagejRoi.frompoints([[50, 40], [55, 40], [55, 45], [50, 45]])
    freehand.roitype = kinds.FREEHAND
    path = [0, 60, 10, 1, 70, 10, 1, 70, 20, 1, 60, 20, 4, 0, 62, 12, 1, 68, 12, 1, 68, 18, 1, 62, 18, 4]
    composite = roifile.ImagejRoi(roitype=kinds.RECT, top=10, left=60, bottom=20, right=70)
    composite.multi_coordinates, composite.shape_roi_size = np.array(path, np.float32), len(path)
    line = roifile.ImagejRoi.frompoints([[1, 1], [40, 40]])
    line.roitype = kinds.POLYLINE
    for number, roi in enumerate((oval, rectangle, freehand, composite, line)):
        (tmp_path / "source" / f"{number}.roi").write_bytes(roi.tobytes())
    (item,) = imported(tmp_path / "source", tmp_path / "out").items
    assert item.mask
    labels = read_labels(item.mask)
    y, x = np.mgrid[:60, :80] + 0.5
    assert (labels == 1).sum() == (((y - 7) / 5) ** 2 + ((x - 13) / 10) ** 2 < 1).sum()
    assert (labels[20:25, 30:33] == 2).all() and (labels == 2).sum() == 15
    assert (labels[40:45, 50:55] == 3).all() and (labels == 3).sum() == 25
    assert (labels == 4).sum() == 100 - 36 and not labels[12:18, 62:68].any()
    assert "with 1 annotation that became no pixel" in capsys.readouterr().out


def test_sets_of_regions_find_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_roi(tmp_path / "source", {"a": blobs(1), "b": blobs(2)})
    (source / "RoiSet.zip").write_bytes((source / "a_RoiSet.zip").read_bytes())
    write_image(source / "c.tif", picture(blobs(1)))
    data = imported(source, tmp_path / "out")
    said = capsys.readouterr().out
    assert "1 file of regions without an image of that name, left out (RoiSet.zip)" in said
    assert "1 image without annotation, left out (c.tif)" in said and len(data.items) == 2
    later = bytearray((source / "a_RoiSet.zip").read_bytes())
    later[later.index(b"PK\x01\x02") + 6] = 84  # needs version 8.4 of zip
    (tmp_path / "later_RoiSet.zip").write_bytes(later)
    assert "is of no format that is known here" in refused(tmp_path / "later_RoiSet.zip", tmp_path / "none", capsys)
    (item,) = imported(source / "b_RoiSet.zip", tmp_path / "one").items
    assert item.name == "b"


def test_damaged_and_hostile_sets_of_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in" / "source"
    write_image(source / "a.tif", picture(blobs(1)))
    good = roifile.ImagejRoi.frompoints(outline(cells_of(blobs(1))[0])).tobytes()
    with zipfile.ZipFile(source / "RoiSet.zip", "w") as packed:
        packed.writestr("../../../outside.roi", good)
        packed.writestr("/outside.roi", good)
    before = sorted(tmp_path.rglob("*"))
    imported(source, tmp_path / "out")
    assert [p for p in sorted(tmp_path.rglob("*")) if tmp_path / "out" not in (p, *p.parents)] == before
    with zipfile.ZipFile(source / "RoiSet.zip", "w") as packed:
        packed.writestr("1.roi", good[:70])
    assert "RoiSet.zip: cannot be read" in refused(source, tmp_path / "two", capsys)
    later = roifile.ImagejRoi.frombytes(good)
    with zipfile.ZipFile(source / "RoiSet.zip", "w") as packed:
        for later.position in (1, 2):
            packed.writestr(f"{later.position}.roi", later.tobytes())
    assert "has regions of 2 slices, the image has one" in refused(source, tmp_path / "three", capsys)


def test_a_zip_that_unpacks_to_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cytoforge.data.interchange import imagej

    write_image(tmp_path / "source" / "a.tif", picture(blobs(1)))
    with zipfile.ZipFile(tmp_path / "source" / "RoiSet.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(2):
            packed.writestr(f"{number}.roi", b"Iout" + bytes(10**6))
    monkeypatch.setattr(imagej, "LARGEST", 10**5)
    assert "a region has 1 MiB, which none has" in refused(tmp_path / "source", tmp_path / "out", capsys)
    monkeypatch.setattr(imagej, "MAX_BYTES", 10**6)
    assert "RoiSet.zip: unpacks to more than" in refused(tmp_path / "source", tmp_path / "out2", capsys)


# QuPath


def test_annotations_around_detections_are_no_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_qupath(tmp_path / "source", {"a": blobs(1)})
    whole = json.loads((source / "a.geojson").read_text())
    square = [[0, 0], [70, 0], [70, 50], [0, 50], [0, 0]]
    whole["features"] += [
        {"geometry": {"type": "Polygon", "coordinates": [square]}, "properties": {"objectType": "annotation"}},
        {"geometry": {"type": "Point", "coordinates": [3, 3]}, "properties": {"objectType": "detection"}},
    ]
    (source / "a.geojson").write_text(json.dumps(whole))
    (item,) = imported(source, tmp_path / "out").items
    said = capsys.readouterr().out
    assert "a.geojson: 1 annotation around detections, left out" in said
    assert "with 1 annotation that became no pixel" in said
    assert item.mask and same_cells(read_labels(item.mask), blobs(1))


def test_features_of_other_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list of features, annotations alone, several polygons with a hole, old names of kinds."""
    hole = [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], [[3, 3], [6, 3], [6, 6], [3, 6], [3, 3]]]
    geometry = {"type": "MultiPolygon", "coordinates": [hole, [[[20, 0], [22, 0], [22, 2], [20, 2], [20, 0]]]]}
    write_image(tmp_path / "source" / "s.png", picture(np.zeros((30, 40))))
    feature = {"type": "Feature", "id": "PathAnnotationObject", "geometry": geometry, "properties": {}}
    (tmp_path / "source" / "export.json").write_text(json.dumps([feature]))
    (item,) = imported(tmp_path / "source", tmp_path / "out").items
    expected = np.zeros((30, 40), int)
    expected[:9, :9] = expected[:2, 20:22] = 1
    expected[3:6, 3:6] = 0
    assert item.mask
    np.testing.assert_array_equal(read_labels(item.mask), expected)
    feature["geometry"] = {"type": "Polygon", "coordinates": [[[0, 0], "x"]]}
    (tmp_path / "source" / "export.json").write_text(json.dumps([feature]))
    assert "of an outline are no pairs of numbers" in refused(tmp_path / "source", tmp_path / "two", capsys)


# LabelMe


def test_shapes_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Boxes, circles, masks, two parts of a group, a point; the image is inside of the file."""
    cell = np.zeros((6, 5), np.uint8)
    cell[1:5, 1:3] = 1
    packed, inside = io.BytesIO(), io.BytesIO()
    Image.fromarray(cell.astype(bool)).save(packed, "PNG")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(inside, "PNG")
    part = {"label": "cell", "group_id": 3, "shape_type": "rectangle"}
    shapes = [
        {"label": "cell", "points": [[2, 1], [6, 4]], "shape_type": "rectangle"},
        {"label": "cell", "points": [[30, 20], [34, 23]], "shape_type": "circle"},
        {
            **{"label": "cell", "points": [[10, 30], [14, 35]], "shape_type": "mask"},
            "mask": base64.b64encode(packed.getvalue()).decode(),
        },
        {**part, "points": [[50, 0], [52, 2]]},
        {**part, "points": [[54, 0], [56, 2]]},
        {"label": "dust", "points": [[3, 3]], "shape_type": "point"},
    ]
    whole = labelme_json(np.zeros((40, 60), int), "gone.png", shapes=shapes)
    whole["imageData"] = base64.b64encode(inside.getvalue()).decode()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "s.json").write_text(json.dumps(whole))
    (item,) = imported(tmp_path / "source", tmp_path / "out").items
    assert item.image and item.mask
    np.testing.assert_array_equal(read_image(item.image), pixels.transpose(2, 0, 1))
    labels = read_labels(item.mask)
    y, x = np.mgrid[:40, :60] + 0.5
    expected = np.zeros((40, 60), int)
    expected[1:4, 2:6] = 1
    expected[(y - 20) ** 2 + (x - 30) ** 2 < 25] = 2
    expected[31:35, 11:13] = 3
    expected[:2, 50:52] = expected[:2, 54:56] = 4
    np.testing.assert_array_equal(labels, expected)
    said = capsys.readouterr().out
    assert "2 kinds of labels are all taken for cells (cell, dust)" in said and "1 annotation that became" in said
    whole["imageData"] = "%%%"
    (tmp_path / "source" / "s.json").write_text(json.dumps(whole))
    assert "s.json: an image in it is damaged" in refused(tmp_path / "source", tmp_path / "two", capsys)


# YOLO


def test_yolo_beside_images_with_groups_and_empty_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    for group in ("train", "val"):
        for name in ("a", "b"):
            pixels = picture(blobs(1), dtype=np.uint8)[0]
            (source / group / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(source / group / "images" / f"{name}.jpg", quality=95)
        (source / group / "labels").mkdir()
        (source / group / "labels" / "a.txt").write_text(yolo_lines(blobs(1)))
        (source / group / "labels" / "gone.txt").write_text(yolo_lines(blobs(1)))
    (source / "val" / "labels" / "b.txt").write_text("")
    (source / "classes.txt").write_text("cell\n")
    data = imported(source, tmp_path / "out")
    said = capsys.readouterr().out
    assert "2 annotations without image, left out (train/labels/gone.txt, val/labels/gone.txt)" in said
    assert "1 image without annotation, left out (train/images/b.jpg)" in said
    assert "1 image without a cell (b)" in said
    assert {item.name: item.group for item in data.items} == {
        "b": "val",
        "train_images_a": "train",
        "val_images_a": "val",
    }
    stored = data.items[1].image
    assert stored is not None
    np.testing.assert_array_equal(read_image(stored)[0], np.asarray(Image.open(source / "train" / "images" / "a.jpg")))


def test_lines_that_are_no_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_yolo(tmp_path / "source", {"a": blobs(1)})
    file = source / "labels" / "train" / "a.txt"
    for text, says in (
        ("0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1\n", "holds boxes, no outlines"),
        (yolo_lines(blobs(1)) + "0 0.1 0.1 0.2\n", "line 13: is no class followed by pairs of numbers"),
        (yolo_lines(blobs(1)) + "0 0.1 0.1 nan 0.2 0.3 0.3\n", "line 13: is no class"),
    ):
        file.write_text(text)
        assert says in refused(source, tmp_path / "out", capsys)


# DeepSea


def write_tracking(folder: Path, frames: list[dict[str, tuple[int, int, int]]], extra: bool = False) -> Path:
    """A sequence of 40 x 60 pixels: in each frame squares by label, as top, left and side."""
    for number, cells in enumerate(frames, 1):
        mask = np.zeros((40, 60), np.uint8)
        lines = ["label\tx\ty"]
        for name, (top, left, side) in cells.items():
            mask[top : top + side, left : left + side] = 255
            lines.append(f"{name}\t{left + side // 2}\t{top + side // 2}")
        if extra:
            mask[35:38, 50:55] = 255
        write_image(folder / "images" / f"f{number}.png", picture(mask > 0, number))
        write_image(folder / "masks" / f"f{number}_cell_area_masked.png", mask[None])
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"f{number}_cell_pos_labels.txt").write_text("\n".join(lines))
    return folder


FRAMES = [
    {"1": (5, 5, 6), "2": (20, 20, 8)},
    {"1": (6, 6, 6), "2": (20, 22, 8)},
    {"1": (6, 8, 6), "2_1": (18, 20, 5), "2_2": (25, 27, 5)},
    *[{"1": (6, 8 + k, 6), "2_1": (17, 20, 5), "2_2": (26, 28, 5)} for k in range(9)],
]


def test_deepsea_tracking_becomes_a_movie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Identities and the division by hand; f10 follows f9; a cell without a label is in the masks, but has no track."""
    source = write_tracking(tmp_path / "source", FRAMES, extra=True)
    assert main(["import", "dataset", str(source), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.endswith("out: a movie of 1 sequence, 12 frames, 4 tracks with 1 division, from DeepSea\n")
    assert "sequence 01 (.): 12 cells without a spot, left out" in said
    assert "12 masks with one value for all cells: connected components were numbered" in said
    (sequence,) = read_sequences(tmp_path / "out")
    tracks = read_tracks(sequence.tracks["GT/TRA"])
    one, mother, first, second = (track.label for track in sorted(tracks, key=lambda track: (track.begin, track.label)))
    assert set(tracks) == {
        Track(one, 0, 11, 0),
        Track(mother, 0, 1, 0),
        Track(first, 2, 11, mother),
        Track(second, 2, 11, mother),
    }
    for number, labels in sequence.tracked():
        mask = read_image(source / "masks" / f"f{number + 1}_cell_area_masked.png")[0]
        mask[35:38, 50:55] = 0
        np.testing.assert_array_equal(labels > 0, mask > 0)
        top, left, side = FRAMES[number]["1"]
        assert (labels[top : top + side, left : left + side] == one).all() and (labels == one).sum() == side * side
        assert read_labels(sequence.masks["GT/SEG"][number]).max() == len(FRAMES[number]) + 1
        np.testing.assert_array_equal(
            read_image(sequence.frames[number]), read_image(source / "images" / f"f{number + 1}.png")
        )
    assert main(["check", str(tmp_path / "out")]) == 0


def test_several_sequences_gaps_and_labels_beside_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    write_tracking(source / "setB", FRAMES[:2])
    write_tracking(source / "setA", FRAMES[:3])
    (source / "setA" / "masks" / "f2_cell_area_masked.png").unlink()
    near = source / "setB" / "labels" / "f1_cell_pos_labels.txt"
    near.write_text("label\tx\ty\n1\t4\t7\n2\t50\t30\n9\t7\t7")  # beside the cell, on none, on one that has a label
    assert main(["import", "dataset", str(source), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 image without a mask, left out (setA/images/f2.png)" in said
    assert "1 file of labels" not in said
    assert "sequence 02 (setB): 1 spot on no cell of their frame, left out" in said
    assert "sequence 02 (setB): 1 spot on a cell that has one already, left out" in said
    one, two = read_sequences(tmp_path / "out")
    assert list(one.frames) == [0, 2] and list(two.frames) == [0, 1]
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert info["sequences"] == {"01": {"source": "setA"}, "02": {"source": "setB"}}


@pytest.mark.parametrize(
    ("write", "damaged", "content"),
    [
        ("write_coco", "val.json", '{"images": ['),
        ("write_labelme", "b.json", '{"shapes"'),
        ("write_qupath", "b.geojson", '{"type'),
        ("write_roi", "b.zip", "no archive"),
        ("write_yolo", "labels/b.txt", "0 a b c d e f"),
    ],
)
def test_damaged_annotations_beside_others_are_named(
    write: str, damaged: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = globals()[write](tmp_path / "source", {"a": blobs(1)})
    (source / damaged).parent.mkdir(exist_ok=True)
    (source / damaged).write_text(content)
    assert len(imported(source, tmp_path / "out").items) == 1
    assert f"1 file in which the format was not recognised, left out ({damaged})" in capsys.readouterr().out


def test_deepsea_labels_without_a_line_of_titles(tmp_path: Path) -> None:
    source = write_tracking(tmp_path / "source" / "a", FRAMES[:2]).parent
    for file in (source / "a" / "labels").iterdir():
        titled = read_points(file)
        file.write_text("\n".join(file.read_text().splitlines()[1:]))
        assert read_points(file) == titled != []


def test_deepsea_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tracking(tmp_path / "source" / "a", FRAMES[:2]).parent
    file = source / "a" / "labels" / "f1_cell_pos_labels.txt"
    for text, says in (
        ("label\tx\ty\n1\t4", "line 2: '1\\t4' is not `label x y`"),
        ("label\tx\ty\n1\t4\t4\n1\t5\t5", "line 3: '1\\t5\\t5' is no place, or a label twice"),
        ("label\tx\ty\n1\t4\tinf", "line 2: '1\\t4\\tinf' is no place"),
    ):
        file.write_text(text)
        assert says in refused(source, tmp_path / "out", capsys)
    file.write_text("label\tx\ty\n1\t8\t8")
    write_deepsea(source / "b", {"x": blobs(1)})
    assert "b: has no labels, a has some; import the two by themselves" in refused(source, tmp_path / "out", capsys)
    write_image(source / "a" / "images" / "f2.png", picture(np.zeros((30, 60))))
    assert "bring all frames to one size" in refused(source / "a", tmp_path / "out", capsys)
    assert not (tmp_path / "out").exists()


# what all formats have in common


def test_nothing_is_written_outside_of_out(tmp_path: Path) -> None:
    """Names in annotations lead nowhere: neither out of OUT nor to images outside of the source."""
    home = tmp_path / "home"
    write_image(home / "secret.tif", picture(blobs(2)))
    source = home / "source"
    write_image(source / "x.tif", picture(blobs(1)))
    names = {"../../../x.tif": blobs(1), "../secret.tif": blobs(1), str(home / "secret.tif"): blobs(1)}
    (source / "c.json").write_text(json.dumps(coco_json(names, polygon)))
    before = content(home)
    data = imported(source, tmp_path / "deep" / "out")
    assert [item.name for item in data.items] == ["x"] and content(home) == before
    assert sorted(tmp_path.iterdir()) == [tmp_path / "deep", home]
    (source / "x.tif").unlink()
    imported(source, tmp_path / "deep" / "masks")
    names = sorted(file.name for file in (tmp_path / "deep" / "masks" / "masks").iterdir())
    assert names[0] == "secret.tif" and names[1].endswith("home_secret.tif") and names[2:] == ["x.tif"]
    assert content(home).keys() == before.keys() - {"source/x.tif"}


def test_links_are_not_followed_and_the_result_is_not_read(tmp_path: Path) -> None:
    source = write_qupath(tmp_path / "source", {"a": blobs(1)})
    (source / "loop").symlink_to(source, target_is_directory=True)
    (source / "out").symlink_to(tmp_path, target_is_directory=True)
    assert len(imported(source, tmp_path / "out").items) == 1
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "images").symlink_to(source, target_is_directory=True)
    assert main(["import", "dataset", str(source), "--out", str(linked)]) == 2


@pytest.mark.parametrize("inside", ["source", "source/out", "source/../source/x/y"])
def test_out_inside_of_the_source_is_refused(inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_qupath(tmp_path / "source", {"a": blobs(1)})
    before = content(source)
    assert "the data to import; choose a folder outside of it" in refused(source, tmp_path / inside, capsys)
    assert content(source) == before


def test_what_is_no_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "source" / "a.png", picture(blobs(1)))
    assert "is of no format that is known here (DeepSea, Cellpose" in refused(
        tmp_path / "source", tmp_path / "o", capsys
    )
    (tmp_path / "source" / "c.json").write_text('{"images": [], "annotations": [1]}')
    assert "is of no format" in refused(tmp_path / "source" / "c.json", tmp_path / "o", capsys)
    (tmp_path / "source" / "c.json").write_text('{"images": [], "annotations": [{"segmentation": 1}')
    assert "c.json: cannot be read as JSON" in refused(tmp_path / "source" / "c.json", tmp_path / "o", capsys)
    (tmp_path / "source" / "c.json").write_text('{"images": [], "annotations": [{"image_id": 1, "segmentation": []}]}')
    said = refused(tmp_path / "source", tmp_path / "o", capsys)
    assert "c.json: 1 annotation of no image of the file" in said


def test_two_formats_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_qupath(tmp_path / "source", {"a": blobs(1)})
    (source / "c.json").write_text(json.dumps(coco_json({"a.tif": blobs(1)}, polygon)))
    imported(source, tmp_path / "out")
    assert "also holds QuPath GeoJSON, left out; give its file or folder" in capsys.readouterr().out
    imported(source / "a.geojson", tmp_path / "two")
    assert "from QuPath GeoJSON" in capsys.readouterr().out


def test_results_are_replaced_only_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_labelme(tmp_path / "source", {"a": blobs(1)})
    out = tmp_path / "out"
    imported(source, out)
    assert "holds results already" in refused(source, out, capsys)
    (out / "notes.txt").write_text("mine")
    imported(source, out, "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"


def test_interrupted_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cytoforge.commands import import_dataset

    source = write_labelme(tmp_path / "source", {"a": blobs(1), "b": blobs(2)})
    imported(source, tmp_path / "whole")
    read = import_dataset.read_picture

    def failing(path: Path) -> np.ndarray:
        if path.stem == "b":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(import_dataset, "read_picture", failing)
    assert main(["import", "dataset", str(source), "--out", str(tmp_path / "out")]) == 130
    assert (tmp_path / "out" / "masks" / "a.tif").exists()
    monkeypatch.undo()
    imported(source, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_names_that_any_system_takes() -> None:
    def named(*names: str) -> list[str]:
        return file_names([Annotated(name, lambda _: Drawn(np.zeros((1, 1), np.int32))) for name in names])

    assert named("x/a", "x/b") == ["a", "b"]
    assert named("x/a", "y/a", "y/A", "c") == ["x_a", "y_a", "y_A-2", "c"]
    assert named("../../a", "/etc/../a", "..") == ["a", "etc_a", "_"]
    assert clean("..") == clean("") == clean(" . ") == "_"
    assert clean('a<b>:"c"|d?*\\e\x00f\n') == "a_b_c_d_e_f_"
    assert clean("a.ome") == "a" and clean("." * 9 + "hid.den ") == "hid.den"
    assert clean("e\u0301") == "\u00e9" and len(clean("x" * 999)) == 120


def test_images_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    for place in ("one/a.tif", "two/a.tif", "two/b.tif", "three/c.tif"):
        write_image(tmp_path / place, picture(blobs(1)))
    source = Source(tmp_path)
    assert source.image("data/two/a.tif") == tmp_path / "two" / "a.tif"
    assert source.image("C:\\x\\three\\c.tif") == tmp_path / "three" / "c.tif"
    assert source.image("four/b.tif") == tmp_path / "two" / "b.tif"
    assert source.image("d.tif") is None and source.image("..") is None
    with pytest.raises(UserError, match=r"'a.tif' may be one/a.tif or two/a.tif; remove or rename one"):
        source.image("a.tif")


def test_sources_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(5):
        (tmp_path / str(k)).mkdir()
        (tmp_path / str(k) / "a.txt").touch()
    (tmp_path / "0" / ".hidden").touch()
    assert len(Source(tmp_path).files) == 5 and len(Source(tmp_path, first=2).files) == 2
    monkeypatch.setattr(annotated, "MOST", 3)
    with pytest.raises(UserError, match="holds more than 3 files"):
        Source(tmp_path)


def test_turned_and_damaged_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    turned = Image.new("L", (80, 60))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(source / "a.jpg", exif=exif)
    (source / "a.txt").write_text(yolo_lines(blobs(1)))
    assert "a.jpg: is stored turned" in refused(source, tmp_path / "out", capsys)
    (source / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    assert "a.jpg: cannot be read" in refused(source, tmp_path / "out", capsys)
    tifffile.imwrite(
        source / "a.tif", np.zeros((3, 60, 80), np.uint8), photometric="minisblack", metadata={"axes": "TYX"}
    )
    (source / "a.jpg").unlink()
    assert "holds 3 pages" in refused(source, tmp_path / "out", capsys)
    assert not (tmp_path / "out").exists()


def test_colours_depth_and_many_cells_are_kept(tmp_path: Path) -> None:
    """RGB, float with several channels, and more cells than 16 bits hold."""
    source = tmp_path / "source"
    rng = np.random.default_rng(0)
    images = {
        "rgb": rng.integers(0, 255, (3, 60, 80)).astype(np.uint8),
        "float": rng.normal(size=(4, 60, 80)).astype(np.float32),
        "many": rng.integers(0, 255, (1, 600, 600)).astype(np.uint8),
    }
    many = np.zeros((600, 600), np.uint32)
    many[::2, ::2] = 1 + np.arange(90_000).reshape(300, 300)
    for name, image in images.items():
        write_image(source / f"{name}.tif", image)
        write_labels(source / f"{name}_cp_masks.tif", blobs(1) if name != "many" else many)
    data = imported(source, tmp_path / "out")
    for item in data.items:
        assert item.image and item.mask
        stored = read_image(item.image)
        np.testing.assert_array_equal(stored, images[item.name])
        assert stored.dtype == images[item.name].dtype
    assert data.items[1].mask and read_labels(data.items[1].mask).max() == 90_000


def spoilt(value: Any, rng: np.random.Generator) -> Any:
    """A copy of a JSON value in which something, at any depth, is another thing."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[rng.integers(len(keys))]
        copy: Any = value.copy()
        copy[key] = spoilt(value[key], rng)
        return copy
    others = [
        None,
        True,
        -1,
        0,
        1.5,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../..",
        [],
        [[]],
        [None],
        {},
        {"a": 1},
    ]
    return others[rng.integers(len(others))]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["coco", "rle", "labelme", "qupath"]))
def test_spoilt_json_is_no_fault(tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str) -> None:
    folder = tmp_path_factory.mktemp("spoilt")
    source = WRITERS[kind][1](folder / "source", {"a": blobs(1, (30, 40))})
    (file,) = (source / "json" if kind == "labelme" else source).glob("*json")
    file.write_text(json.dumps(spoilt(json.loads(file.read_text()), np.random.default_rng(seed))))
    assert main(["import", "dataset", str(source), "--out", str(folder / "out")]) in (0, 2)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["seg", "imagej"]))
def test_spoilt_bytes_are_no_fault(tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str) -> None:
    folder = tmp_path_factory.mktemp("spoilt")
    source = WRITERS[kind][1](folder / "source", {"a": blobs(1, (30, 40))})
    (file,) = [*source.glob("*.npy"), *source.glob("*.zip")]
    rng = np.random.default_rng(seed)
    if kind == "imagej":
        with zipfile.ZipFile(file) as packed:
            content = bytearray(packed.read(packed.namelist()[0]))
    else:
        content = bytearray(file.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[rng.integers(len(content))] = rng.integers(256)
    if kind == "imagej":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("0.roi", bytes(content))
    else:
        file.write_bytes(content)
    assert main(["import", "dataset", str(source), "--out", str(folder / "out")]) in (0, 2)
