"""Images and masks find each other, splits keep what belongs together, sizes agree at every scale."""

import json
import os
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from conftest import squares
from cytoforge.data import dataset as module
from cytoforge.data.dataset import Dataset, Item, parts
from cytoforge.data.files import atomic, read_json, write_json
from cytoforge.data.images import Normalisation, read_image, read_labels, write_image, write_labels
from cytoforge.data.manifest import MANIFEST
from cytoforge.data.writer import DatasetWriter
from cytoforge.errors import UserError


def names(dataset: Dataset) -> list[str]:
    return [item.name for item in dataset.items]


def put(folder: Path, *files: str) -> None:
    """Write a small grey image (or label image, in masks/) under each name."""
    for file in files:
        path = folder / file
        if path.parent.name == "masks":
            write_labels(path, np.eye(8, dtype=np.int32))
        else:
            write_image(path, np.arange(64, dtype=np.uint8).reshape(1, 8, 8))


# opening


def test_dataset_folder(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    assert names(dataset) == [f"cell_{i}" for i in range(6)]
    assert dataset.items[2] == Item(
        "cell_2", tiny_dataset / "images" / "cell_2.png", tiny_dataset / "masks" / "cell_2.png"
    )
    assert dataset.pairs() == dataset
    assert dataset.info == {}


def test_pairs_by_stem_whatever_the_ending(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "images/b.ome.tif", "images/.hidden.png", "masks/a.tif", "masks/b.tif")
    (tmp_path / "images" / "notes.txt").write_text("x")
    zarr.create_array(str(tmp_path / "images" / "c.ome.zarr"), shape=(8, 8), dtype="u1")
    put(tmp_path, "masks/c.PNG")
    assert names(Dataset.open(tmp_path).pairs()) == ["a", "b", "c"]


def test_missing_partners_are_left_out_with_a_note(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "images/b.png", "images/c.png", "masks/b.png", "masks/d.png")
    dataset = Dataset.open(tmp_path)
    assert names(dataset) == ["a", "b", "c", "d"]
    assert names(dataset.images()) == ["a", "b", "c"]
    assert names(dataset.masks()) == ["b", "d"]
    assert names(dataset.pairs()) == ["b"]
    assert dataset.pairs().notes == (
        f"{tmp_path}: 2 images without mask, left out",
        f"{tmp_path}: 1 mask without image, left out",
    )


FIJI = "export them as TIFF, which Fiji does: File > Save As > Tiff"


BESIDE = "PNG, TIFF and zarr beside them are read, or give them as data of their own"


def test_what_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png", "images/plate2/b.png", "images/plate2/c.png", "loose.tif")
    for file in ("b.gif", "c.GIF", "d.gif", "a.jpg", "f.czi", "README", "notes.txt", "g.xyz", "e.gif", MANIFEST):
        (tmp_path / "images" / file).write_bytes(b"x")
    for file in ("a_seg.npy", "b.npy", "c.json"):
        (tmp_path / "masks" / file).write_bytes(b"x")
    (tmp_path / "images" / "empty").mkdir()
    images, masks = tmp_path / "images", tmp_path / "masks"
    assert Dataset.open(tmp_path).notes == Dataset.open(tmp_path).left_out
    assert sorted(Dataset.open(tmp_path).left_out) == sorted([
        f"{images}: left out 4 .gif files (b.gif, c.GIF, d.gif ...); convert them to PNG or TIFF",
        f"{images}: left out 1 .jpg file (a.jpg); {BESIDE}",
        f"{images}: left out 1 .czi file (f.czi); {FIJI}",
        f"{images}: left out 1 .xyz file (g.xyz); PNG, TIFF and zarr are read",
        f"{images}: left out 1 subfolder with 2 images (plate2); move the images up, or give such a folder as data of "
        "its own",
        f"{masks}: left out 1 _seg.npy file (a_seg.npy); cytoforge import dataset reads the masks in them",
        f"{masks}: left out 1 .npy file (b.npy); {BESIDE}",
        f"{masks}: left out 1 .json file (c.json); cytoforge import dataset reads outlines of COCO, LabelMe, QuPath "
        "and ImageJ",
        f"{tmp_path}: left out 1 .tif file (loose.tif); put images into images/ and masks into masks/",
    ])  # fmt: skip
    assert len(Dataset.open(images).left_out) == 5
    assert Dataset.open(images / "a.png").left_out == ()


def test_junk_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png")
    junk = (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "a.png:Zone.Identifier", "a.png.bak", "b.tif.part")
    for part in (".", "images", "masks"):
        for file in (*junk, "a.png~"):
            (tmp_path / part / file).write_bytes(b"x")
    (tmp_path / "images" / "__MACOSX").mkdir()
    (tmp_path / "images" / "__MACOSX" / "a.png").write_bytes(b"x")
    assert Dataset.open(tmp_path).notes == ()
    assert names(Dataset.open(tmp_path).pairs()) == ["a"]


def test_masks_named_as_cellpose_names_them(tmp_path: Path) -> None:
    put(tmp_path / "apart", "images/a.tif", "images/b.png", "images/c.png", "images/c_masks.png")
    put(tmp_path / "apart", "masks/a.tif.png", "masks/b_cp_masks.tif", "masks/c.png", "masks/c_masks.png")
    pairs = {item.name: (item.image, item.mask) for item in Dataset.open(tmp_path / "apart").items}
    assert {name: mask.name for name, (_, mask) in pairs.items() if mask} == {
        "a": "a.tif.png",
        "b": "b_cp_masks.tif",
        "c": "c.png",
        "c_masks": "c_masks.png",
    }
    for file in ("a.png", "a_cp_masks.png", "b.png", "b_masks.tif", "c.png", "c_mask.png", "d.png", "masks.png"):
        put(tmp_path, f"beside/{file}") if "mask" not in file else write_labels(
            tmp_path / "beside" / file, np.eye(8, dtype=np.int32)
        )
    beside = Dataset.open(tmp_path / "beside")
    assert names(beside) == ["a", "b", "c", "d", "masks"]
    assert names(beside.pairs()) == ["a", "b", "c"]
    assert beside.read_labels(beside.items[1]).max() == 1
    assert names(Dataset.open(tmp_path / "beside", holds="masks").masks()) == ["a", "b", "c"]


def test_folders_in_capitals_and_by_other_names(tmp_path: Path) -> None:
    put(tmp_path / "upper", "Images/a.png")
    write_labels(tmp_path / "upper" / "MASKS" / "a.png", np.eye(8, dtype=np.int32))
    assert names(Dataset.open(tmp_path / "upper").pairs()) == ["a"]
    put(tmp_path / "other", "images/a.png", "labels/a.png")
    note = f"{tmp_path / 'other'}: left out 1 subfolder with 1 image (labels); rename it masks, if it holds the masks"
    assert Dataset.open(tmp_path / "other").left_out == (note,)
    with pytest.raises(UserError, match="rename it masks, if it holds the masks"):
        Dataset.open(tmp_path / "other").pairs()
    put(tmp_path / "whole", "images/a.png", "masks/a.png", "old/images/a.png")
    assert parts(tmp_path / "whole") == []
    assert "1 subfolder with 1 image (old)" in Dataset.open(tmp_path / "whole").left_out[0]


def test_what_is_not_read_of_a_movie(tiny_movie: Path) -> None:
    assert Dataset.open(tiny_movie).left_out == ()
    for file in ("01/frame9.tif", "01/t9.tif", "01/t009.png", "01_GT/TRA/mask001.tif", "01_GT/man_seg000.tif"):
        (tiny_movie / file).write_bytes(b"x")
    (tiny_movie / "seq3").mkdir()
    (tiny_movie / "seq3" / "t000.tif").write_bytes(b"x")
    left = [note.removeprefix(f"{tiny_movie}") for note in Dataset.open(tiny_movie).left_out]
    rename = "rename them: files that are read there are named"
    assert sorted(left) == [
        f"/01: left out 1 .png file (t009.png); {rename} t000.tif ...",
        f"/01: left out 2 .tif files (frame9.tif, t9.tif); {rename} t000.tif ...",
        f"/01_GT/TRA: left out 1 .tif file (mask001.tif); {rename} man_track000.tif ...",
        f"/01_GT: left out 1 .tif file (man_seg000.tif); {rename} SEG/man_seg000.tif or TRA/man_track000.tif ...",
        ": left out 1 subfolder with 1 image (seq3); move the images up, or give such a folder as data of its own",
    ]
    assert len(Dataset.open(tiny_movie, ("02",)).left_out) == 1


def test_dataset_json_counts_for_its_parts(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png")
    write_json(tmp_path / "dataset.json", {"limits": [0, 126], "scale": 0.5})
    for path in (tmp_path, tmp_path / "images", tmp_path / "images" / "a.png"):
        data = Dataset.open(path)
        assert data.scale == 0.5
        np.testing.assert_allclose(data.read_image(data.items[0])[0, -1, -1], 0)
        np.testing.assert_array_equal(data.common_limits(), [[0, 126]])


def test_copies_of_an_image_stay_on_one_side(tmp_path: Path) -> None:
    for number in range(8):
        write_image(tmp_path / "images" / f"i{number}.png", np.full((1, 8, 8), number // 2, np.uint8))
        write_labels(tmp_path / "masks" / f"i{number}.png", np.eye(8, dtype=np.int32))
    dataset = Dataset.open(tmp_path)
    for seed in range(6):
        training, held = dataset.split(seed)
        assert len(held.items) == 2
        assert not {int(name[1]) // 2 for name in names(training)} & {int(name[1]) // 2 for name in names(held)}
    assert dataset.split(0)[0].common_image(dataset.split(0)[1]) is None
    for file in (tmp_path / "images").iterdir():
        write_image(file, np.ones((1, 8, 8), np.uint8))
    assert len(Dataset.open(tmp_path).split(0)[1].items) == 2  # all are alike: some are held out all the same


def test_images_alone_masks_alone_and_nothing_in_common(tmp_path: Path) -> None:
    put(tmp_path / "i", "images/a.png")
    put(tmp_path / "m", "masks/a.png")
    put(tmp_path / "x", "images/a.png", "masks/a_mask.png")
    assert names(Dataset.open(tmp_path / "i").images()) == names(Dataset.open(tmp_path / "m").masks()) == ["a"]
    for folder, says in [
        ("i", r"i: holds images but no masks to learn from; put them into .*masks"),
        ("m", r"m: holds masks but no images; put the images into .*images"),
        ("x", r"x: no image and mask have the same name \(a.png against a_mask.png\); rename the masks"),
    ]:
        with pytest.raises(UserError, match=says):
            Dataset.open(tmp_path / folder).pairs()
    put(tmp_path / "f", "02_ST/SEG/man_seg000.tif")
    with pytest.raises(UserError, match=r"f: holds masks but no images; put the images into .*f/02/t000.tif"):
        Dataset.open(tmp_path / "f").pairs()
    with pytest.raises(UserError, match="i: holds no masks; put them into"):
        Dataset.open(tmp_path / "i").masks()
    with pytest.raises(UserError, match="m: holds no images"):
        Dataset.open(tmp_path / "m").images()


def test_bare_folders_and_files(tmp_path: Path, tiny_dataset: Path) -> None:
    put(tmp_path / "plain", "a.png", "b.tif")
    zarr.create_array(str(tmp_path / "z.zarr"), shape=(8, 8), dtype="u1")
    for path, expected in [
        (tmp_path / "plain", ["a", "b"]),
        (tmp_path / "plain" / "b.tif", ["b"]),
        (tmp_path / "z.zarr", ["z"]),
    ]:
        dataset = Dataset.open(path)
        assert names(dataset.images()) == expected
        assert all(item.mask is None for item in dataset.items)
        assert names(Dataset.open(path, holds="masks").masks()) == expected
    assert names(Dataset.open(tiny_dataset / "images").images()) == [f"cell_{i}" for i in range(6)]
    assert all(item.mask and not item.image for item in Dataset.open(tiny_dataset / "masks").items)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "images/a.tif")
    with pytest.raises(UserError, match=r"a.tif: a.png has the same name; remove or rename one"):
        Dataset.open(tmp_path)


def test_nothing_to_open(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="missing: does not exist"):
        Dataset.open(tmp_path / "missing")
    (tmp_path / "gif" / "images").mkdir(parents=True)
    (tmp_path / "gif" / "images" / "a.gif").write_bytes(b"x")
    with pytest.raises(UserError, match=r"gif: holds only .gif files; put PNG, TIFF or zarr images into"):
        Dataset.open(tmp_path / "gif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no files"):
        Dataset.open(tmp_path / "empty")
    with pytest.raises(UserError, match=r": holds several datasets; give one of them: gif, tiny"):
        Dataset.open(tmp_path)
    assert parts(tmp_path) == [tmp_path / "gif", tmp_path / "tiny"]
    for path in (tiny_dataset / "images", tiny_dataset):
        with pytest.raises(UserError, match=r"is no movie folder .* leave out --sequence"):
            Dataset.open(path, ("01",))


def test_movie(tiny_movie: Path) -> None:
    dataset = Dataset.open(tiny_movie)
    assert names(dataset)[:2] == ["01_t000", "01_t001"]
    assert (dataset.items[7].group, dataset.items[7].frame) == ("02", 2)
    assert dataset.notes == ("sequence 01: masks from ST/SEG", "sequence 02: masks from ST/SEG")
    assert len(Dataset.open(tiny_movie, ("02",)).pairs().items) == 5
    assert (dataset.scale, dataset.limits) == (1, None)
    write_json(tiny_movie / "dataset.json", {"scale": 0.5, "limits": [0, 65535]})
    painted = Dataset.open(tiny_movie)
    assert painted.scale == 0.5 and painted.limits is not None and painted.limits.tolist() == [0, 65535]
    (tiny_movie / "02_ST" / "SEG" / "man_seg000.tif").unlink()
    partial = Dataset.open(tiny_movie, ("02",))
    assert partial.notes == ("sequence 02: ST/SEG covers 4 of 5 frames, not used",)
    with pytest.raises(UserError, match=r"no masks to learn from \(sequence 02: ST/SEG covers 4 of 5 frames"):
        partial.pairs()
    for file in (tiny_movie / "02").iterdir():
        file.unlink()
    (tiny_movie / "02_ST" / "SEG").rename(tiny_movie / "02_ST" / "gone")
    with pytest.raises(UserError, match="its sequences hold no frames"):
        Dataset.open(tiny_movie, ("02",))


# selecting


def fake(count: int, group: Any = lambda i: None, frame: Any = lambda i: None) -> Dataset:
    items = (Item(f"{i:03d}", Path("i"), Path("m"), group(i), frame(i)) for i in range(count))
    return Dataset(Path("data"), tuple(items))


@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 50), st.integers(1, 50))
def test_smaller_draws_are_part_of_larger_ones(count: int, seed: int, n: int, m: int) -> None:
    dataset = fake(count)
    small, large = (names(dataset.limited(k, seed)) for k in sorted((n, m)))
    assert set(small) <= set(large)
    assert len(small) == min(n, m, count)
    assert small == sorted(small)


def test_draws_differ_between_seeds() -> None:
    assert len({tuple(names(fake(30).limited(3, seed))) for seed in range(10)}) > 5
    with pytest.raises(ValueError, match="at least 1, got 0"):
        fake(3).limited(0, 0)


@given(st.integers(2, 60), st.integers(0, 5), st.floats(0, 1))
def test_split_by_image(count: int, seed: int, fraction: float) -> None:
    dataset = fake(count)
    training, validation = dataset.split(seed, fraction)
    assert sorted(names(training) + names(validation)) == names(dataset)
    assert len(validation.items) == min(max(1, round(count * fraction)), count - 1)
    assert dataset.split(seed, fraction) == (training, validation)


def test_split_by_group_tears_no_group_apart() -> None:
    dataset = fake(20, group=lambda i: "abcde"[i // 4])
    training, validation = dataset.split(3, 0.4, by="group")
    assert {item.group for item in training.items}.isdisjoint(item.group for item in validation.items)
    assert len(validation.items) == 8
    for without in (fake(5), fake(5, group=lambda i: "a")):
        with pytest.raises(UserError, match=r"has no two groups to split by; name them in dataset\.json"):
            without.split(0, by="group")


@pytest.mark.parametrize("seed", range(6))
def test_split_of_a_movie_is_a_block_of_time(seed: int) -> None:
    movie = fake(30, group=lambda i: "01" if i < 20 else "02", frame=lambda i: i % 20)
    training, validation = movie.split(seed)
    for group, frames in (("01", 20), ("02", 10)):
        held = [item.frame for item in validation.items if item.group == group]
        block = frames // 5
        assert held in (list(range(block)), list(range(frames - block, frames)))
    assert len(training.items) == 24


def test_split_of_a_movie_takes_either_end() -> None:
    movie = fake(10, group=lambda i: "01", frame=lambda i: i)
    assert {movie.split(seed)[1].items[0].frame for seed in range(8)} == {0, 8}


def test_split_of_a_movie_of_single_frames() -> None:
    movie = fake(3, group=str, frame=lambda i: 0)
    assert len(movie.split(0)[1].items) == 1


@pytest.mark.parametrize("seed", range(4))
def test_split_of_one_image_is_a_strip(tiny_dataset: Path, seed: int) -> None:
    dataset = Dataset.open(tiny_dataset).limited(1, 0)
    training, validation = dataset.split(seed)
    (kept,), (held,) = training.items, validation.items
    assert (kept.rows, held.rows) in [((13, 64), (0, 13)), ((0, 51), (51, 64))]
    whole = dataset.read_image(dataset.items[0])
    start, stop = held.rows or (0, 0)
    np.testing.assert_array_equal(validation.read_image(held), whole[:, start:stop])
    np.testing.assert_array_equal(validation.read_labels(held), dataset.read_labels(dataset.items[0])[start:stop])
    again = validation.split(seed)[1].items[0].rows
    assert again is not None
    assert start <= again[0] < again[1] <= stop


@pytest.mark.parametrize("seed", range(4))
def test_split_by_strips_takes_one_of_each_image(tiny_dataset: Path, seed: int) -> None:
    write_image(tiny_dataset / "images" / "cell_2.png", read_image(tiny_dataset / "images" / "cell_4.png"))
    dataset = Dataset.open(tiny_dataset)
    training, validation = dataset.split(seed, by="strip")
    assert names(training) == names(validation) == names(dataset)
    rows = {}
    for learned, held in zip(training.items, validation.items, strict=True):
        assert learned.rows and held.rows
        rows[held.name] = held.rows
        assert sorted([*range(*learned.rows), *range(*held.rows)]) == list(range(64))  # no row in both, none lost
        assert held.rows in [(0, 13), (51, 64)]
    assert rows["cell_2"] == rows["cell_4"]  # equal images, of which one would tell the other
    assert dataset.split(seed, by="strip") == (training, validation)
    np.testing.assert_array_equal(validation.read_labels(validation.items[0]), squares()[slice(*rows["cell_0"])])


def test_strips_lie_at_either_end_of_images_of_any_height(tmp_path: Path) -> None:
    sizes = (20, 31, 64, 5)
    for number, height in enumerate(sizes):
        image = np.random.default_rng(number).integers(0, 255, (1, height, 9), np.uint8)
        write_image(tmp_path / "images" / f"{number}.png", image)
        write_labels(tmp_path / "masks" / f"{number}.png", np.ones((height, 9), np.int32))
    dataset = Dataset.open(tmp_path)
    at_top = set()
    for seed in range(8):
        for item, height in zip(dataset.split(seed, by="strip")[1].items, sizes, strict=True):
            count = round(0.2 * height)
            assert item.rows in [(0, count), (height - count, height)]
            at_top.add(item.rows == (0, count))
    assert at_top == {True, False}


def test_strip_of_one_row(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((1, 1, 9), np.uint8))
    with pytest.raises(UserError, match="one row of pixels cannot be split"):
        Dataset.open(tmp_path).split(0)


@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 3))
def test_folds_hold_out_each_item_once(count: int, k: int, seed: int) -> None:
    dataset = fake(count)
    if count < k:
        with pytest.raises(UserError, match=f"{count} images cannot be cut into {k} folds; ask for fewer"):
            dataset.folds(k, seed)
        return
    folds = dataset.folds(k, seed)
    assert sorted(name for _, validation in folds for name in names(validation)) == names(dataset)
    sizes = [len(validation.items) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    for training, validation in folds:
        assert sorted(names(training) + names(validation)) == names(dataset)


def test_folds_of_groups_and_movies() -> None:
    grouped = fake(12, group=lambda i: "abcdef"[i // 2])
    for training, validation in grouped.folds(3, 0, by="group"):
        assert {item.group for item in training.items}.isdisjoint(item.group for item in validation.items)
    movie = fake(12, group=lambda i: "01", frame=lambda i: i)
    assert [[item.frame for item in v.items] for _, v in movie.folds(3, 0)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    with pytest.raises(ValueError, match="k >= 2, got 1"):
        grouped.folds(1, 0)


def test_groups_of_dataset_json(tiny_dataset: Path) -> None:
    info = tiny_dataset / "dataset.json"
    assert {item.group for item in Dataset.open(tiny_dataset).items} == {None}
    info.write_text(json.dumps({"groups": "prefix", "pixel_size": 0.5}))
    assert {item.group for item in Dataset.open(tiny_dataset).items} == {"cell"}
    assert Dataset.open(tiny_dataset).info["pixel_size"] == 0.5
    info.write_text(json.dumps({"groups": {f"cell_{i}": i % 2 for i in range(4)}}))
    dataset = Dataset.open(tiny_dataset)
    assert [item.group for item in dataset.items] == ["0", "1", "0", "1", None, None]
    assert len(dataset.folds(4, 0, by="group")) == 4  # items without a group stand for themselves
    for content, says in [('{"groups": 3}', "groups must be"), ("{", "cannot be read as JSON")]:
        info.write_text(content)
        with pytest.raises(UserError, match=rf"dataset.json: {says}"):
            Dataset.open(tiny_dataset)


# reading


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.333, 1.7])
def test_image_and_labels_agree_in_size(tmp_path: Path, scale: float) -> None:
    write_image(tmp_path / "images" / "a.tif", np.random.default_rng(0).integers(0, 999, (2, 37, 53), dtype=np.uint16))
    write_labels(tmp_path / "masks" / "a.png", np.arange(37 * 53).reshape(37, 53))
    dataset = Dataset.open(tmp_path)
    image, labels = dataset.read_image(dataset.items[0], scale), dataset.read_labels(dataset.items[0], scale)
    assert (image.dtype, labels.dtype) == (np.float32, np.int32)
    assert image.shape == (2, round(37 * scale), round(53 * scale))
    assert labels.shape == image.shape[1:]


def test_reading_normalises_the_whole_before_resizing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 999, (1, 40, 40), dtype=np.uint16)
    write_image(tmp_path / "a.tif", values)
    dataset = Dataset.open(tmp_path)
    normalisation = Normalisation("min-max")
    image = dataset.read_image(dataset.items[0], normalisation=normalisation)
    np.testing.assert_allclose(image, 2 * (values - values.min()) / np.ptp(values) - 1, atol=1e-6)
    half = dataset.read_image(Item("a", tmp_path / "a.tif", rows=(0, 20)), 0.5, normalisation)
    np.testing.assert_allclose(half[:, 3, 3], image[:, 5:9, 5:9].mean((1, 2)), atol=0.3)
    assert half.shape == (1, 10, 20)


def test_sizes_that_differ_and_parts_that_are_missing(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "images/b.png", "masks/c.png")
    write_labels(tmp_path / "masks" / "a.png", np.zeros((8, 9), int))
    dataset = Dataset.open(tmp_path)
    a, b, c = dataset.items
    with pytest.raises(UserError, match=r"a.png: is 8 x 9 pixels, its image a.png 8 x 8; export both at the same size"):
        dataset.read_labels(a)
    with pytest.raises(UserError, match=r"b.png: has no mask"):
        dataset.read_labels(b)
    with pytest.raises(UserError, match=r"c.png: has no image"):
        dataset.read_image(c)
    assert dataset.read_labels(c).shape == (8, 8)


def test_channels(tiny_dataset: Path) -> None:
    assert Dataset.open(tiny_dataset).channels() == 1
    write_image(tiny_dataset / "images" / "rgb.png", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UserError, match=r"same number of channels, found cell_0.png \(1\) and rgb.png \(3\); convert"):
        Dataset.open(tiny_dataset).channels()


def test_limits_of_a_set_stand_in_for_those_of_the_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.array([[[50, 100], [150, 250]]], np.uint8))
    dataset = Dataset.open(tmp_path)
    read = dataset.read_image(dataset.items[0], limits=np.array([[0.0, 200.0]]))
    assert read.tolist() == [[[-0.5, 0.0], [0.5, 1.0]]]


def test_synthetic_images_are_known_by_the_folder_that_they_lie_in(tiny_dataset: Path) -> None:
    paths = (tiny_dataset, tiny_dataset / "images", tiny_dataset / "masks", tiny_dataset / "images" / "cell_1.png")
    assert not any(Dataset.open(path).synthetic() for path in paths)
    (tiny_dataset / "dataset.json").write_text('{"synthetic": {}}')
    assert all(Dataset.open(path).synthetic() for path in paths)


def test_fingerprint_changes_with_any_file_and_strip(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    told = dataset.fingerprint()
    assert told == Dataset.open(tiny_dataset).fingerprint()
    assert (told["path"], told["items"]) == (str(tiny_dataset), 6)
    write_labels(tiny_dataset / "masks" / "cell_3.png", np.zeros((64, 64), int))
    prints = [dataset.fingerprint()["sha256"], dataset.limited(1, 0).fingerprint()["sha256"]]
    prints += [part.fingerprint()["sha256"] for part in dataset.limited(1, 0).split(0)]
    assert len({told["sha256"], *prints}) == 5


def test_pairing_takes_one_look_at_each_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for i in range(2000):
            (tmp_path / part / f"{i}.png").touch()
    listed: list[Path] = []
    plain = module.image_files
    monkeypatch.setattr(module, "image_files", lambda folder: listed.append(folder) or plain(folder))
    assert len(Dataset.open(tmp_path).pairs().items) == 2000
    assert listed == [tmp_path / "images", tmp_path / "masks"]


# writing

IMAGE, LABELS = np.zeros((1, 8, 8), np.uint16), np.eye(8, dtype=np.int32)


def test_written_dataset_opens(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "out", {"synthetic": {"seed": 3}}, suffix=".tif")
    writer.add("a", IMAGE, LABELS)
    writer.add("b", IMAGE, LABELS)
    writer.finish()
    dataset = Dataset.open(tmp_path / "out")
    assert names(dataset.pairs()) == ["a", "b"]
    assert dataset.info == {"written_by": "cytoforge", "synthetic": {"seed": 3}, "complete": True}
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "images" / "a.tif"), IMAGE)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "masks" / "a.tif"), LABELS)


@pytest.mark.parametrize("name", ["../a", "a/b", "/a", ""])
def test_no_name_leads_out_of_a_dataset(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{name}' is no name of a file; rename the image"):
        DatasetWriter(tmp_path / "out").add(name, labels=LABELS)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["dataset.json", "manifest.jsonl", "out"]


def test_interrupted_writing_goes_on(tmp_path: Path) -> None:
    first = DatasetWriter(tmp_path, {"seed": 1, "size": (8, 8)})
    assert first.done == frozenset()
    first.add("a", IMAGE, LABELS)
    first.add("b", IMAGE, LABELS)
    (tmp_path / "masks" / "b.png").unlink()  # killed between image and mask
    assert DatasetWriter(tmp_path, {"seed": 1, "size": (8, 8)}).done == {"a"}
    masks_only = DatasetWriter(tmp_path / "masks_only", {"seed": 1})
    masks_only.add("a", labels=LABELS)
    assert DatasetWriter(tmp_path / "masks_only", {"seed": 1}).done == {"a"}


def test_results_are_not_replaced_unless_told(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, {"seed": 1})
    writer.add("a", IMAGE, LABELS)
    with pytest.raises(UserError, match=r"unfinished work with another seed; repeat its command to go on .*--over"):
        DatasetWriter(tmp_path, {"seed": 2})
    writer.finish()
    with pytest.raises(UserError, match="holds results already"):
        DatasetWriter(tmp_path, {"seed": 1})
    again = DatasetWriter(tmp_path, {"seed": 1}, overwrite=True)
    assert again.done == frozenset()
    again.add("b", labels=LABELS)
    again.finish()
    assert names(Dataset.open(tmp_path)) == ["b"]


def test_foreign_files_are_never_replaced(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds images or masks that cytoforge did not write; choose another folder"):
        DatasetWriter(tiny_dataset, overwrite=True)
    assert len(Dataset.open(tiny_dataset).items) == 6
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis: holds notes.txt and is no dataset; choose another folder"):
        DatasetWriter(tmp_path / "thesis", overwrite=True)
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["notes.txt"]
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "dataset.json").write_text('{"groups": "prefix"}')
    with pytest.raises(UserError, match=r"info: holds dataset.json and is no dataset"):
        DatasetWriter(tmp_path / "info", overwrite=True)


@pytest.mark.parametrize("other", [{"synthetic": {"by": "b"}}, {"synthetic": True}, {"crops_of": "a"}])
def test_a_command_replaces_its_own_kind_of_dataset_only(other: dict[str, Any], tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, {"synthetic": {"by": "a"}})
    writer.add("a", labels=LABELS)
    writer.finish()
    with pytest.raises(UserError, match="holds a dataset of another kind, by a; choose another folder"):
        DatasetWriter(tmp_path, other, overwrite=True)
    assert names(Dataset.open(tmp_path)) == ["a"]
    DatasetWriter(tmp_path, {"synthetic": {"by": "a"}, "scale": 2}, overwrite=True)


def test_what_differs_is_said_in_words(tmp_path: Path) -> None:
    former = {"synthetic": {"by": "a", "settings": {"like": "x", "seed": 1}, "source": {"sha256": "1"}}, "files": {}}
    DatasetWriter(tmp_path, former).add("a", labels=LABELS)
    wanted = {"synthetic": {"by": "a", "settings": {"like": "y", "seed": 1}, "source": {"sha256": "2"}}}
    with pytest.raises(UserError, match="with another content of like, like, set of masks or variants; repeat"):
        DatasetWriter(tmp_path, wanted)


@pytest.mark.parametrize(
    ("name", "count", "shape"), [("usiigaci", 50, (1, 1022, 1024)), ("dsb256", 334, (1, 256, 256))]
)
def test_real_datasets(real_data: Path, name: str, count: int, shape: tuple[int, ...]) -> None:
    found = [Dataset.open(part).pairs() for part in parts(real_data / name)]
    assert sum(len(dataset.items) for dataset in found) == count
    dataset = found[0]
    assert dataset.channels() == 1
    assert dataset.read_image(dataset.items[0]).shape == shape
    assert dataset.read_labels(dataset.items[0]).shape == shape[1:]
    with pytest.raises(UserError, match="give one of them: test, train, val"):
        Dataset.open(real_data / name)


@pytest.mark.parametrize("limits", [[3], [5, 5], "bright", [0, "a"], [9, 1]])
def test_limits_of_a_dataset_are_two_ascending_numbers(tiny_dataset: Path, limits: Any) -> None:
    (tiny_dataset / "dataset.json").write_text(json.dumps({"limits": limits}))
    dataset = Dataset.open(tiny_dataset)
    with pytest.raises(UserError, match=r"dataset.json: limits must be two ascending numbers"):
        dataset.read_image(dataset.items[0])


def test_limits_of_a_dataset_hold_for_all_its_images(tiny_dataset: Path) -> None:
    (tiny_dataset / "dataset.json").write_text(json.dumps({"limits": [0, 510]}))
    dataset = Dataset.open(tiny_dataset)
    for item in dataset.items:
        assert item.image is not None
        np.testing.assert_allclose(dataset.read_image(item), read_image(item.image) / 255 - 1, atol=1e-6)


def test_a_folder_of_images_is_not_taken_for_masks(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"images: holds images, not masks; give .*tiny or .*masks"):
        Dataset.open(tiny_dataset / "images", holds="masks")


def test_a_dataset_is_not_written_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out: is a file; give a folder"):
        DatasetWriter(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_names_that_look_alike_are_one_name(tmp_path: Path) -> None:
    """Letters with marks are composed in one file system, and decomposed in another."""
    composed, decomposed = (unicodedata.normalize(form, "Zelle_ä") for form in ("NFC", "NFD"))
    assert composed != decomposed
    put(tmp_path, f"images/{decomposed}.png", f"masks/{composed}.png")
    write_json(tmp_path / "dataset.json", {"groups": {decomposed: "well"}})
    (item,) = Dataset.open(tmp_path).pairs().items
    assert (item.name, item.group) == (composed, "well")
    assert item.image and item.image.name == f"{decomposed}.png" and item.image.is_file()
    put(tmp_path, f"images/{composed}.png")
    with pytest.raises(UserError, match="has the same name; remove or rename one"):
        Dataset.open(tmp_path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Bytes of Latin-1, as archives of old leave them, are read, hashed, told in JSON and written like others."""
    name = os.fsdecode(b"caf\xe9")
    put(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    data = Dataset.open(tmp_path)
    assert names(data.pairs()) == [name]
    other = replace(data, items=(replace(data.items[0], name="cafe"),))
    assert data.fingerprint()["sha256"] != other.fingerprint()["sha256"]
    file = tmp_path / f"{name}.json"
    write_json(file, {name: [str(tmp_path / name)]})
    assert "\\udce9" in file.read_bytes().decode("utf-8")
    assert read_json(file) == {name: [str(tmp_path / name)]}


@pytest.mark.parametrize("length", [5, 248, 255])
def test_names_as_long_as_can_be(length: int, tmp_path: Path) -> None:
    file = tmp_path / ("a" * (length - 4) + ".png")
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    write_image(file, image)
    assert np.array_equal(read_image(file), image)
    with atomic(file) as part:
        part.write_bytes(b"new")
    assert file.read_bytes() == b"new"
    assert part.parent == tmp_path and part.name[0] == "." and part.name.endswith(".part")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_limits_of_a_channel_that_is_empty_in_most_images(tmp_path: Path) -> None:
    """The second channel shows something in one image of three only, by which it is mapped; the third never does."""
    images = np.zeros((3, 3, 2, 2), np.uint8)
    images[:, 0] = [[[0, 10], [20, 30]], [[0, 10], [20, 40]], [[0, 10], [20, 50]]]
    images[1, 1, 0, 0], images[:, 2] = 7, 9
    for number, image in enumerate(images):
        write_image(tmp_path / "images" / f"{number}.png", image)
    limits = Dataset.open(tmp_path).common_limits()
    np.testing.assert_allclose(limits, [[0.03, 39.97], [0.0, 6.979], [9, 9]], atol=0.06)


@pytest.mark.parametrize(
    "stored",
    [
        {"scale": True},
        {"scale": 10**400},
        {"scale": "2"},
        {"limits": [True, 3]},
        {"limits": [0, 1e300]},
        {"limits": [0, float("nan")]},
        {"groups": [1]},
        {"files": []},
        {"files": {"a": "b"}},
        {"complete": "yes"},
        {"sequences": 3},
    ],
)
def test_information_edited_wrongly_is_named(stored: dict[str, object], tiny_dataset: Path) -> None:
    (tiny_dataset / "dataset.json").write_text(json.dumps(stored))

    def look() -> tuple[object, ...]:
        dataset = Dataset.open(tiny_dataset)
        return dataset.scale, dataset.limits

    with pytest.raises(UserError, match=r"dataset\.json: .*; mend"):
        look()


def test_masks_of_one_value_are_numbered_by_connected_components(tmp_path: Path) -> None:
    mask = np.zeros((24, 32), np.int32)
    mask[2:10, 3:12], mask[10:18, 12:20], mask[20:23, 1:30] = 255, 255, 255  # the first two touch by a corner
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", np.arange(768, dtype=np.uint16).reshape(1, 24, 32))
        write_labels(tmp_path / "masks" / f"{name}.png", mask)
    dataset = Dataset.open(tmp_path)
    with pytest.raises(UserError, match=r"a\.png: one value \(255\) for .*, or paint them anew$"):
        dataset.numbered(binary=False, otherwise="paint them anew")
    found = dataset.numbered(binary=True)
    assert found.notes == (
        f"{tmp_path}: masks have one value for all cells; each connected component is taken as one cell",
    )
    assert found.binary and not dataset.binary
    expected = np.zeros_like(mask)
    expected[2:10, 3:12], expected[10:18, 12:20], expected[20:23, 1:30] = 1, 2, 3
    np.testing.assert_array_equal(found.read_labels(found.items[0]), expected)
    np.testing.assert_array_equal(found.read_labels(replace(found.items[1], rows=(9, 24)))[:1], expected[9:10])
    training, held = found.split(0)
    assert training.binary and held.binary  # selections are read alike
    np.testing.assert_array_equal(dataset.read_labels(dataset.items[0]), mask)
    for name in ("a", "b"):
        write_labels(tmp_path / "masks" / f"{name}.png", expected)
    numbered = Dataset.open(tmp_path)
    assert numbered.numbered(binary=True) is numbered  # cells that are told apart stay as they are


def test_images_and_masks_of_any_size_come_to_the_size_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 60)), ("b", (90, 30))):
        labels = np.kron(
            np.arange(1, 7, dtype=np.int32).reshape(2, 3), np.ones((shape[0] // 2, shape[1] // 3), np.int32)
        )
        write_image(tmp_path / "images" / f"{name}.png", rng.integers(0, 255, (1, *shape), dtype=np.uint8))
        write_labels(tmp_path / "masks" / f"{name}.png", labels)
    dataset = Dataset.open(tmp_path)
    expected = np.kron(np.arange(1, 7).reshape(2, 3), np.ones((16, 16), int))
    for item in dataset.items:
        image, labels = dataset.read_image(item, (32, 48)), dataset.read_labels(item, (32, 48))
        assert image.shape == (1, 32, 48) and -1 <= image.min() < image.max() <= 1
        np.testing.assert_array_equal(labels, expected)  # whatever the aspect was
    upper, lower = (replace(dataset.items[1], rows=rows) for rows in ((0, 45), (45, 90)))
    whole = dataset.read_labels(dataset.items[1], (32, 48))
    np.testing.assert_array_equal(dataset.read_labels(upper, (32, 48)), whole[:16])  # a strip has its share of the size
    np.testing.assert_array_equal(dataset.read_labels(lower, (32, 48)), whole[16:])
    assert dataset.read_image(lower, (32, 48)).shape == (1, 16, 48)
