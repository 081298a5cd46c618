"""Channels, stacks in depth and further kinds of files: each is read exactly, or refused with a remedy."""

import sys
from collections import namedtuple
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.formats import image_files
from cytoforge.data.images import RowReader, channels_first, read_header, read_image, read_labels, write_image
from cytoforge.data.metadata import Metadata, read_metadata
from cytoforge.data.stack import open_stack
from cytoforge.data.view import View
from cytoforge.errors import UserError
from cytoforge.settings import Check, ImportMovie, Segment
from cytoforge.simulation.phantom import phantom

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4000, (3, 5, 2, 9, 8), np.uint16)  # T, Z, C, Y, X


def stack(path: Path, array: np.ndarray, axes: str, names: list[str] | None = None) -> Path:
    metadata: dict[str, Any] = {"axes": axes}
    if names:
        metadata["Channel"] = {"Name": names}
    tifffile.imwrite(path, array, ome=True, metadata=metadata)
    return path


def test_channels_by_name_and_number(tmp_path: Path) -> None:
    file = stack(tmp_path / "a.ome.tif", DEEP[0, 0], "CYX", ["DAPI", "GFP"])
    assert read_metadata(file).channels == ("DAPI", "GFP")
    for wanted, places in ((("GFP",), [1]), (("gfp", "1"), [1, 0]), (("1",), [0]), (("2", "dapi"), [1, 0])):
        view = View(wanted)
        np.testing.assert_array_equal(read_image(file, view), DEEP[0, 0][places])
        assert read_header(file, view)[0] == (len(places), 9, 8)
        with RowReader(file, view) as reader:
            np.testing.assert_array_equal(reader.rows(2, 7), DEEP[0, 0][places, 2:7])
    for wanted in ("RFP", "3", "0", "-1"):
        with pytest.raises(
            UserError, match=rf"has 2 channels \(DAPI, GFP\), so '{wanted}' is none; give a name or a num"
        ):
            read_image(file, View((wanted,)))


def test_channels_of_colour_pictures_are_red_green_and_blue(tmp_path: Path) -> None:
    colours = RNG.integers(0, 255, (3, 6, 5), np.uint8)
    write_image(tmp_path / "a.png", colours)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", View(("green",))), colours[1:2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", View(("3", "red"))), colours[[2, 0]])


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ("max", DEEP[0].max(axis=0)),
        ("mean", np.rint(DEEP[0].astype(float).mean(axis=0)).astype(np.uint16)),
        ("1", DEEP[0, 0]),
        ("5", DEEP[0, 4]),
    ],
)
def test_a_stack_in_depth_becomes_one_plane(project: str, expected: np.ndarray, tmp_path: Path) -> None:
    file = stack(tmp_path / "a.ome.tif", DEEP[0], "ZCYX")
    np.testing.assert_array_equal(read_image(file, View(project=project)), expected)
    np.testing.assert_array_equal(read_image(file, View(("2",), project)), expected[1:])
    with RowReader(file, View(project=project)) as reader:
        np.testing.assert_array_equal(reader.rows(3, 5), expected[:, 3:5])
    pages = tmp_path / "pages.tif"
    tifffile.imwrite(pages, DEEP[0, :, 0], photometric="minisblack")
    np.testing.assert_array_equal(read_image(pages, View(project=project)), expected[:1])


def test_a_stack_without_a_choice_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = stack(tmp_path / "a.ome.tif", DEEP[0, :, 0], "ZYX")
    with pytest.raises(UserError, match="of a stack in depth --project max makes one plane"):
        read_image(file)
    with pytest.raises(UserError, match="has 5 slices, so --project 6 is none; slices begin at 1"):
        read_image(file, View(project="6"))
    both = stack(tmp_path / "b.ome.tif", DEEP, "TZCYX")
    with pytest.raises(UserError, match="Z Project\\), or give --project max"):
        read_image(both)
    write_image(tmp_path / "flat.png", DEEP[0, 0, :1])
    np.testing.assert_array_equal(read_image(tmp_path / "flat.png", View(project="mean")), DEEP[0, 0, :1])


def test_a_film_in_depth_becomes_a_movie_of_one_channel(tmp_path: Path) -> None:
    file = stack(tmp_path / "a.ome.tif", DEEP, "TZCYX", ["phase", "GFP"])
    frames = np.stack(list(open_stack(file, view=View(("GFP",), "max"))))
    np.testing.assert_array_equal(frames, DEEP.max(axis=1)[:, 1:])
    flags = ["--channel", "GFP", "--project", "max", "--out", str(tmp_path / "movie")]
    assert main(["import", "movie", str(file), *flags]) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "movie" / "01" / "t002.tif"), DEEP[2].max(axis=0)[1:])


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".webp"])
def test_pictures_are_read_as_pillow_decodes_them(suffix: str, tmp_path: Path) -> None:
    for mode in ("L", "RGB"):
        noise = RNG.integers(0, 255, (16, 24, 3)[: 2 + (mode == "RGB")], np.uint8)
        Image.fromarray(noise, mode).save(tmp_path / f"a{suffix}")
        with Image.open(tmp_path / f"a{suffix}") as image:
            decoded = np.asarray(image)
        expected = decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), expected)
        with RowReader(tmp_path / f"a{suffix}") as reader:
            np.testing.assert_array_equal(reader.rows(4, 9), expected[:, 4:9])
    if suffix != ".bmp":
        with pytest.raises(UserError, match="JPEG and WebP change values, so they hold no cell ids; save masks as PNG"):
            read_labels(tmp_path / f"a{suffix}")


def test_arrays_are_read_by_their_shape(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    for shape, expected in (
        ((9, 8), (1, 9, 8)),
        ((2, 9, 8), (2, 9, 8)),
        ((9, 8, 3), (3, 9, 8)),
        ((6, 9, 8), (6, 9, 8)),
    ):
        array = RNG.normal(size=shape).astype(np.float32)
        np.save(file, array)
        image = read_image(file)
        assert image.shape == expected and image.dtype == np.float32
        np.testing.assert_array_equal(image, np.moveaxis(array, -1, 0) if shape[-1] == 3 else array.reshape(expected))
    np.save(file, DEEP[:, 0, 0])
    assert np.stack(list(open_stack(file))).shape == (3, 1, 9, 8)
    np.save(file, np.repeat(DEEP[:, 0, 0], 5, axis=0))
    with pytest.raises(UserError, match="holds 15 pages"):
        read_image(file)
    ids = np.array([[0, 70000], [3, 0]], np.int64)
    np.save(file, ids)
    np.testing.assert_array_equal(read_labels(file), ids)
    np.save(file, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_image(file)
    np.save(file, np.zeros(5))
    with pytest.raises(UserError, match=r"its array is \(5,\), no image"):
        read_image(file)


def test_copies_beside_images_are_left_out(tmp_path: Path) -> None:
    for name in ("a.tif", "a.jpg", "b.jpg", "c.npy", "d_seg.npy", "e.czi"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in image_files(tmp_path)] == ["a.tif", "b.jpg"]
    for name in ("a.tif", "a.jpg", "b.jpg"):
        (tmp_path / name).unlink()
    assert [file.name for file in image_files(tmp_path)] == ["c.npy", "e.czi"]


def installed(name: str) -> ModuleType:
    """A module that is there, as far as Python can see."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


@pytest.mark.parametrize("suffix", ["nd2", "czi", "lif"])
def test_files_of_microscopes_name_the_package_that_reads_them(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"x")
    for package, absent in (("bioio", "bioio"), (f"bioio_{suffix}", f"bioio-{suffix}")):
        for name in ("bioio", f"bioio_{suffix}"):
            monkeypatch.setitem(sys.modules, name, installed(name))
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=f"needs the package {absent}; .*, or export the file as TIFF"):
            read_image(tmp_path / f"a.{suffix}")
    assert main(["segment", "base", str(tmp_path), "--out", str(tmp_path / "out")]) == 2


def test_files_of_microscopes_are_read_through_bioio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = namedtuple("sizes", "Z Y X")

    class FakeImage:  # what bioio.BioImage tells of an image, as its documentation describes it
        def __init__(self, path: Path, reader: object) -> None:
            assert reader == "reader of nd2"
            self.scenes = ("one", "two") if path.stem == "several" else ("one",)
            self.dims = SimpleNamespace(order="TCZYX", Y=9, X=8)
            self.dask_data = DEEP.transpose(0, 2, 1, 3, 4)[:1]
            self.shape, self.dtype = self.dask_data.shape, self.dask_data.dtype
            self.channel_names = ["DAPI", "GFP"]
            self.physical_pixel_sizes, self.time_interval = sizes(2.0, 0.65, 0.65), 30.0

    bioio, reader = installed("bioio"), installed("bioio_nd2")
    bioio.BioImage, reader.Reader = FakeImage, "reader of nd2"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bioio", bioio)
    monkeypatch.setitem(sys.modules, "bioio_nd2", reader)
    for name in ("a.nd2", "several.nd2"):
        (tmp_path / name).write_bytes(b"x")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nd2", View(("GFP",), "max")), DEEP[0].max(axis=0)[1:])
    assert read_metadata(tmp_path / "a.nd2") == Metadata(0.65, 0.5, ("DAPI", "GFP"))
    with pytest.raises(UserError, match="holds 2 scenes"):
        read_image(tmp_path / "several.nd2")


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (1, 20, 24), np.uint8)


def test_rgb_files_of_equal_channels_are_grey_and_mixed_ones_are_colours(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", grey(0))
    write_image(tmp_path / "b.png", np.repeat(grey(1), 3, axis=0))
    data = Dataset.open(tmp_path).alike()
    assert data.channels() == 1
    np.testing.assert_array_equal(data.pixels(data.items[1]), grey(1))
    write_image(tmp_path / "c.png", np.concatenate([grey(1), grey(2), grey(3)]))
    data = Dataset.open(tmp_path).alike()
    assert data.channels() == 3
    np.testing.assert_array_equal(data.pixels(data.items[0]), np.repeat(grey(0), 3, axis=0))
    with pytest.raises(UserError, match="same number of channels"):
        Dataset.open(tmp_path).channels()
    wanted = Dataset.open(tmp_path / "a.png").alike(3)
    assert wanted.channels() == 3 and wanted.alike().channels() == 1
    write_image(tmp_path / "d.tif", np.repeat(grey(1), 2, axis=0))
    with pytest.raises(UserError, match="same number of channels"):
        Dataset.open(tmp_path).alike().channels()


def test_masks_of_three_equal_channels_are_label_images(tmp_path: Path) -> None:
    ids = np.zeros((3, 6, 7), np.uint8)
    ids[:, 1:3, 1:3], ids[:, 4:, 4:] = 1, 2
    write_image(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids[0])
    ids[1, 0, 0] = 9
    write_image(tmp_path / "a.png", ids)
    with pytest.raises(UserError, match="a colour picture of the labels"):
        read_labels(tmp_path / "a.png")


def test_the_base_model_segments_grey_and_rgb_images_of_a_folder(tmp_path: Path) -> None:
    image, _ = phantom(np.random.default_rng(0), (96, 96), 9)
    pixels = np.rint(np.interp(image, (image.min(), image.max()), (0, 255))).astype(np.uint8).reshape(1, 96, 96)
    colours = np.concatenate([pixels, pixels, pixels // 2])
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "grey.png", pixels)
    write_image(tmp_path / "images" / "colours.png", colours)
    flags = ["--diameter", "16", "--threads", "1", "--precision", "float32"]
    assert main(["segment", "base", str(tmp_path / "images"), "--out", str(tmp_path / "both"), *flags]) == 0
    alone = [str(tmp_path / "images" / "grey.png"), "--out", str(tmp_path / "alone")]
    assert main(["segment", "base", *alone, *flags]) == 0
    both = read_labels(tmp_path / "both" / "masks" / "grey.png")
    np.testing.assert_array_equal(both > 0, read_labels(tmp_path / "alone" / "masks" / "grey.png") > 0)
    again = ["segment", "base", str(tmp_path / "images"), "--out", str(tmp_path / "both"), *flags, "--channel", "1"]
    assert main(again) == 2  # other channels are other masks


def test_arrays_of_three_equal_channels_are_one_where_one_is_wanted() -> None:
    one = grey(0)
    for array in (np.repeat(one, 3, axis=0), np.repeat(one, 3, axis=0).transpose(1, 2, 0)):
        np.testing.assert_array_equal(channels_first(array, channels=1), one)
        assert channels_first(array, channels=3).shape == (3, 20, 24)
    with pytest.raises(UserError, match="is no image of 1 channel"):
        channels_first(np.concatenate([one, one, one // 2]), channels=1)
    assert channels_first(np.zeros((1, 5, 3)), channels=1).shape == (1, 5, 3)


def test_a_movie_is_segmented_in_one_channel_and_tracked(tmp_path: Path) -> None:
    labels = np.zeros((3, 96, 96), np.uint16)
    for t in range(3):
        labels[t, 30:50, 20 + 3 * t : 44 + 3 * t] = 1
    dark = np.full_like(labels, 100)
    dark[:, 0, 0] = 120
    for t in range(3):
        write_image(tmp_path / "movie" / "01" / f"t{t:03d}.tif", np.stack([dark[t], 100 + 900 * labels[t]]))
    flags = ["--segment", "base", "--threads", "1", "--out", str(tmp_path / "out")]
    assert main(["track", "overlap", str(tmp_path / "movie"), *flags, "--channel", "2"]) == 0
    assert (tmp_path / "out" / "01_RES" / "res_track.txt").read_text() == "1 0 2 0\n"
    again = ["track", "overlap", str(tmp_path / "movie"), *flags, "--channel", "1", "--overwrite"]
    assert main(again) == 0
    assert (tmp_path / "out" / "01_RES" / "res_track.txt").read_text() == ""


def test_flags_that_choose(tmp_path: Path) -> None:
    for values in ({"channel": "1", "channels": "1,2"}, {"project": "sum"}, {"project": "0"}, {"channels": " "}):
        with pytest.raises(UserError, match=r"--channel|--project"):
            Check(tmp_path, **values)  # type: ignore[arg-type]
    assert Segment(tmp_path, tmp_path, tmp_path, channels="DAPI, 3").channels == "DAPI, 3"
    assert ImportMovie(tmp_path, tmp_path, project="12").project == "12"
