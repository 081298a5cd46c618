"""The plugin for napari without napari: its manifest, folders as layers and back, and the work of its panels."""

import itertools
import json
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cytoforge
import cytoforge.napari
from conftest import ROOT, picture, squares, write_movie
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import encode_labels, read_image, read_labels, write_image, write_labels
from cytoforge.data.movie import Track, read_sequences, read_tracks
from cytoforge.errors import Interrupted, UserError
from cytoforge.napari import reader, samples, work, writer
from cytoforge.napari.layers import Planes, frames_of, label_planes, rows_of, spots_of, tracks_layer
from cytoforge.simulation.phantom import phantom

MANIFEST = Path(cytoforge.napari.__file__).with_name("napari.yaml")
Layers = list[Any]


@pytest.fixture(scope="module")
def manifest() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # npe2 uses what pydantic has deprecated
        npe2 = pytest.importorskip("npe2", reason="needs the package npe2")
        return npe2.PluginManifest.from_file(MANIFEST)


@pytest.fixture(scope="module")
def stack() -> NDArray[np.uint16]:
    return np.stack([phantom(seed, (96, 96), 12)[0] for seed in range(2)])


@pytest.fixture(scope="module")
def masks() -> NDArray[np.int32]:
    return np.stack([phantom(seed, (96, 96), 12)[1] for seed in range(2)])


def of_type(layers: Layers, kind: str) -> Layers:
    return [(data, attributes) for data, attributes, type_ in layers if type_ == kind]


def opened(folder: Path) -> Layers:
    read = reader.reader_of(str(folder))
    assert read is not None
    return read(str(folder))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their names in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def full_at(count: int) -> Any:
    """Return an encoder of labels for a disk that is full at this file."""
    calls = itertools.count(1)

    def encode(path: Path, labels: Any, mark: Any = None) -> bytes:
        if next(calls) == count:
            raise UserError(f"{path}: the disk is full")
        return encode_labels(path, labels, mark)

    return encode


class TestManifest:
    def test_all_that_it_names_is_there(self, manifest: Any) -> None:
        pytest.importorskip("magicgui", reason="needs the package magicgui")
        manifest.validate_imports()
        named = {command.id for command in manifest.contributions.commands}
        offered = manifest.contributions
        kinds = (offered.readers, offered.writers, offered.widgets, offered.sample_data)
        assert {one.command for kind in kinds for one in kind} == named

    def test_the_package_leads_to_it(self, manifest: Any) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        module, _, file = project["entry-points"]["napari.manifest"]["cytoforge"].partition(":")
        assert module == "cytoforge.napari" and file == MANIFEST.name and manifest.name == project["name"]

    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            (["image", "labels"], ["dataset", "movie with tracks"]),
            (["labels", "labels"], ["dataset"]),
            (["image", "labels", "tracks"], ["movie with tracks"]),
            (["image"], []),
        ],
    )
    def test_writers_take_the_layers_that_they_can(self, manifest: Any, layers: list[str], expected: list[str]) -> None:
        def takes(one: Any) -> bool:
            bounds = {limit.layer_type.value: limit.bounds for limit in one.layer_type_constraints()}
            return all(low <= layers.count(kind) < high for kind, (low, high) in bounds.items())

        assert [one.display_name for one in manifest.contributions.writers if takes(one)] == expected


class TestReader:
    def test_only_folders_of_cytoforge_are_read(self, tiny_dataset: Path, tiny_movie: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        file = tiny_dataset / "images" / "cell_0.png"
        for other in (tmp_path / "empty", file, tiny_dataset / "images", tmp_path / "absent"):
            assert reader.reader_of(str(other)) is None
        assert reader.reader_of([str(tiny_dataset), str(tiny_movie)]) is None
        assert reader.reader_of([str(tiny_movie)]) is not None

    def test_images_of_a_dataset_are_planes(self, tiny_dataset: Path) -> None:
        (tiny_dataset / "dataset.json").write_text(json.dumps({"pixel_size": 0.5}))
        (tiny_dataset / "masks" / "cell_5.png").unlink()
        (image, labels) = opened(tiny_dataset)
        assert image[2] == "image" and image[0].shape == (6, 64, 64) and image[0].dtype == np.uint8
        assert labels[2] == "labels" and labels[0].dtype == np.int32
        assert image[1]["name"] == "tiny" and labels[1]["name"] == "tiny masks"
        assert image[1]["scale"] == labels[1]["scale"] == (1, 0.5, 0.5)
        assert np.array_equal(image[0][2], read_image(tiny_dataset / "images" / "cell_2.png")[0])
        assert np.array_equal(labels[0][2], squares()) and not labels[0][5].any()
        assert image[1]["metadata"]["cytoforge"]["names"] == [f"cell_{k}" for k in range(6)]

    def test_images_of_another_size_get_layers_of_their_own(self, tiny_dataset: Path) -> None:
        write_image(tiny_dataset / "images" / "wide.png", picture(squares((64, 90))))
        found = [(data.shape, how["name"]) for data, how in of_type(opened(tiny_dataset), "image")]
        assert found == [((6, 64, 64), "tiny 64 x 64"), ((1, 64, 90), "tiny 64 x 90")]

    def test_colours_stay_together_and_channels_become_layers(self, tmp_path: Path) -> None:
        rgb = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
        write_image(tmp_path / "rgb" / "images" / "a.png", rgb)
        ((data, how),) = of_type(opened(tmp_path / "rgb"), "image")
        assert how["rgb"] and np.array_equal(data[0], rgb.transpose(1, 2, 0))
        two = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
        write_image(tmp_path / "two" / "images" / "a.tif", two)
        layers = of_type(opened(tmp_path / "two"), "image")
        assert [how["name"] for _, how in layers] == ["two channel 1", "two channel 2"]
        assert np.array_equal(np.stack([data[0] for data, _ in layers]), two)

    def test_masks_alone_are_labels(self, tmp_path: Path) -> None:
        write_labels(tmp_path / "found" / "masks" / "a.png", squares())
        ((data, _, kind),) = opened(tmp_path / "found")
        assert kind == "labels" and np.array_equal(data, squares()[None])

    def test_a_movie_has_time_tracks_and_divisions(self, tmp_path: Path) -> None:
        """Cell 1 divides into 2 and 3 after two frames."""
        masks = {t: np.zeros((20, 24), np.int32) for t in range(3)}
        for t in (0, 1):
            masks[t][4:9, 6:11] = 1
        masks[2][2:5, 6:9], masks[2][10:15, 6:11] = 2, 3
        path = write_movie(tmp_path / "film", masks, ((1, 0, 1, 0), (2, 2, 2, 1), (3, 2, 2, 1)))
        image, labels, tracks = opened(path)
        assert [layer[1]["name"] for layer in (image, labels, tracks)] == ["film 01", "film 01 cells", "film 01 tracks"]
        assert image[0].shape == (3, 20, 24) and np.array_equal(labels[0], np.stack(list(masks.values())))
        assert tracks[0].tolist() == [[1, 0, 6, 8], [1, 1, 6, 8], [2, 2, 3, 7], [3, 2, 12, 8]]
        assert tracks[1]["graph"] == {2: [1], 3: [1]}

    def test_a_movie_without_tracks_has_labels(self, tiny_movie: Path) -> None:
        names = [(how["name"], kind) for _, how, kind in opened(tiny_movie)]
        assert names == [
            ("movie 01", "image"),
            ("movie 01 cells", "labels"),
            ("movie 01 tracks", "tracks"),
            ("movie 02", "image"),
            ("movie 02 cells", "labels"),
        ]


class TestDatasetWriter:
    def test_what_is_written_is_read_again(self, tmp_path: Path) -> None:
        image, labels = samples.dataset()
        assert writer.write_dataset(str(tmp_path / "a"), [image, labels]) == [str(tmp_path / "a")]
        (again, masks) = opened(tmp_path / "a")
        assert np.array_equal(again[0], image[0]) and np.array_equal(masks[0], labels[0])
        assert again[1]["metadata"]["cytoforge"]["names"][3] == "phantom cells 0003"
        assert len(Dataset.open(tmp_path / "a").pairs().items) == samples.ANNOTATED  # others are not annotated

    def test_planes_keep_their_names_and_what_was_said_of_them(self, tiny_dataset: Path, tmp_path: Path) -> None:
        info = {"pixel_size": 0.5, "synthetic": {"by": "cytoforge generate images", "seed": 1}}
        (tiny_dataset / "dataset.json").write_text(json.dumps(info))
        writer.write_dataset(str(tmp_path / "b"), opened(tiny_dataset))
        assert sorted(file.stem for file in (tmp_path / "b" / "masks").iterdir()) == [f"cell_{k}" for k in range(6)]
        stored = json.loads((tmp_path / "b" / "dataset.json").read_text())
        assert stored["pixel_size"] == 0.5 and stored["synthetic"] == {"by": "napari dataset", "seed": 1}
        assert Dataset.open(tmp_path / "b").synthetic() is not None

    def test_its_own_folder_is_replaced_and_no_other(self, tiny_dataset: Path, tmp_path: Path) -> None:
        layers = opened(tiny_dataset)
        writer.write_dataset(str(tmp_path / "c"), layers)
        layers[1][0][0][:2, :2] = 99
        writer.write_dataset(str(tmp_path / "c"), layers)
        assert read_labels(tmp_path / "c" / "masks" / "cell_0.tif")[0, 0] == 99
        with pytest.raises(UserError, match="cytoforge did not write"):
            writer.write_dataset(str(tiny_dataset), layers)
        write_labels(tmp_path / "c" / "masks" / "cell_1.tif", np.roll(squares(), 1))  # somebody corrects a mask there
        before = (tmp_path / "c" / "masks" / "cell_1.tif").read_bytes()
        with pytest.raises(UserError, match="changed"):
            writer.write_dataset(str(tmp_path / "c"), layers)
        assert (tmp_path / "c" / "masks" / "cell_1.tif").read_bytes() == before

    def test_what_cannot_be_saved_leaves_the_earlier_save(
        self, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layers, path = opened(tiny_dataset), tmp_path / "c"
        writer.write_dataset(str(path), layers)
        (path / "notes.txt").write_text("mine")
        before = contents(path)
        for dtype in (object, complex):
            with pytest.raises(
                UserError, match=f"tiny: an image holds integers or numbers of up to 64 bits, not {dtype.__name__}"
            ):
                writer.write_dataset(str(path), [(layers[0][0].astype(dtype), *layers[0][1:]), layers[1]])
        for target in (path, tmp_path / "new"):
            with monkeypatch.context() as patched:
                patched.setattr("cytoforge.data.writer.encode_labels", full_at(3))
                with pytest.raises(UserError, match="the disk is full"):
                    writer.write_dataset(str(target), layers)
        assert contents(path) == before and not (tmp_path / "new").exists()
        short = [(data[:2] + 1, {"name": "other"}, kind) for data, _, kind in layers]
        writer.write_dataset(str(path), short)
        files = [f"{part}/other {k:04d}.tif" for part in ("images", "masks") for k in range(2)]
        assert sorted(contents(path)) == ["dataset.json", *files[:2], "manifest.jsonl", *files[2:], "notes.txt"]
        writer.write_dataset(str(path), layers)  # all is listed as its own
        assert {name: contents(path)[name] for name in before if name != "manifest.jsonl"} == {
            name: content for name, content in before.items() if name != "manifest.jsonl"
        }

    def test_one_labels_layer_belongs_to_all_channels(self, tmp_path: Path) -> None:
        layers = [(picture(squares(), seed)[0], {"name": f"c{seed}"}, "image") for seed in range(2)]
        writer.write_dataset(str(tmp_path / "d"), [*layers, (squares(), {"name": "cells: 1"}, "labels")])
        image = read_image(tmp_path / "d" / "images" / "c0.tif")
        assert np.array_equal(image, np.stack([data for data, *_ in layers]))

    def test_pyramids_are_saved_at_full_size(self, tmp_path: Path) -> None:
        pixels, cells = picture(squares())[0], squares()
        image = ([pixels, pixels[::2, ::2]], {"name": "a", "multiscale": True}, "image")
        labels = ([cells, cells[::2, ::2]], {"name": "b", "multiscale": True}, "labels")
        for k, layers in enumerate(([image, labels], [image, (cells, {"multiscale": False}, "labels")])):
            writer.write_dataset(str(tmp_path / str(k)), layers)
            assert np.array_equal(read_labels(tmp_path / str(k) / "masks" / "a.tif"), cells)
            assert np.array_equal(read_image(tmp_path / str(k) / "images" / "a.tif")[0], pixels)
        stack = ([cells[None], cells[None, ::2, ::2]], {"name": "b", "multiscale": True}, "labels")
        writer.write_movie(str(tmp_path / "movie"), [stack])
        assert np.array_equal(read_labels(tmp_path / "movie" / "01_RES" / "mask000.tif"), cells)

    def test_colours_lose_their_transparency(self, tmp_path: Path) -> None:
        rgba = np.random.default_rng(0).integers(0, 255, (64, 64, 4)).astype(np.uint8)
        writer.write_dataset(
            str(tmp_path / "e"), [(rgba, {"name": "a/b", "rgb": True}, "image"), (squares(), {}, "labels")]
        )
        assert np.array_equal(read_image(tmp_path / "e" / "images" / "a-b.tif"), rgba[..., :3].transpose(2, 0, 1))

    def test_several_pairs_and_masks_alone(self, tmp_path: Path) -> None:
        images = [(picture(squares(), seed)[0], {"name": f"i{seed}"}, "image") for seed in range(2)]
        masks = [(np.roll(squares(), k, 0), {"name": f"m{k}"}, "labels") for k in range(2)]
        writer.write_dataset(str(tmp_path / "f"), [*images, *masks])
        assert np.array_equal(read_labels(tmp_path / "f" / "masks" / "i1.tif"), masks[1][0])
        writer.write_dataset(str(tmp_path / "g"), masks)
        assert sorted(file.name for file in (tmp_path / "g" / "masks").iterdir()) == ["m0.tif", "m1.tif"]
        assert not (tmp_path / "g" / "images").exists()

    @pytest.mark.parametrize(
        ("shapes", "kinds", "told"),
        [
            ([(8, 8), (8, 8), (8, 8), (8, 8), (8, 8)], "iiill", "3 image layers and 2 labels layers cannot be paired"),
            ([(8, 8), (8, 9)], "il", r"labels of \(8, 9\) do not belong to images of \(8, 8\)"),
            ([(8, 8), (8, 8)], "il", "the labels layers are empty; draw some cells first"),
        ],
    )
    def test_what_does_not_belong_together_is_told(self, shapes: Any, kinds: str, told: str, tmp_path: Path) -> None:
        layers = [
            (np.zeros(shape, np.uint8), {"name": f"{k}"}, {"i": "image", "l": "labels"}[kind])
            for k, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
        ]
        with pytest.raises(UserError, match=told):
            writer.write_dataset(str(tmp_path / "h"), layers)
        assert not (tmp_path / "h").exists()

    @pytest.mark.parametrize(("name", "file"), [("../../../evil", "-..-..-evil"), ("a/b", "a-b"), ("a (1)+", "a (1)+")])
    def test_names_of_planes_stay_in_the_folder(self, name: str, file: str, tmp_path: Path) -> None:
        how = {"metadata": {"cytoforge": {"names": [name]}}}
        writer.write_dataset(str(tmp_path / "k" / "l"), [(squares(), {}, "image"), (squares(), how, "labels")])
        expected = ["dataset.json", f"images/{file}.tif", "manifest.jsonl", f"masks/{file}.tif"]
        assert sorted(contents(tmp_path)) == [f"k/l/{one}" for one in expected]

    def test_sequences_become_one_dataset(self, tiny_movie: Path, tmp_path: Path) -> None:
        layers = [layer for layer in opened(tiny_movie) if layer[2] != "tracks"]
        writer.write_dataset(str(tmp_path / "m"), layers)
        names = sorted(file.stem for file in (tmp_path / "m" / "images").iterdir())
        numbers = [str(int(name)) for name in layers[0][1]["metadata"]["cytoforge"]["names"]]
        assert names == sorted([*numbers, *(f"movie 02 {number}" for number in numbers)])

    @pytest.mark.parametrize(
        "metadata",
        [
            None,
            [1],
            {"cytoforge": None},
            {"cytoforge": [1]},
            {"cytoforge": {"names": 3, "info": [1]}},
            {"cytoforge": {"names": ["b", "b"], "info": {"synthetic": 3, "pixel_size": "x", "scale": 0}}},
            {"cytoforge": {"names": "bc", "info": {"limits": [3, 2], "complete": 3, "files": 1}}},
        ],
    )
    def test_metadata_of_others_is_left_alone(self, metadata: Any, tmp_path: Path) -> None:
        labels = np.stack([squares(), squares()])
        writer.write_dataset(str(tmp_path / "n"), [(labels, {"name": "a", "metadata": metadata}, "labels")])
        assert [file.name for file in sorted((tmp_path / "n" / "masks").iterdir())] == ["a 0000.tif", "a 0001.tif"]
        stored = json.loads((tmp_path / "n" / "dataset.json").read_text())
        assert stored == {"written_by": "cytoforge", "by": "napari dataset", "complete": True}

    @pytest.mark.parametrize("name", ["", ".."])
    def test_a_plane_without_a_name_gets_that_of_its_layer(self, name: str, tmp_path: Path) -> None:
        how = {"name": "a", "metadata": {"cytoforge": {"names": [name]}}}
        writer.write_dataset(str(tmp_path / "n"), [(squares(), how, "labels")])
        assert (tmp_path / "n" / "masks" / "a.tif").exists()

    def test_two_planes_of_one_name_are_refused(self, tmp_path: Path) -> None:
        layers = [(squares(), {"name": "a"}, "labels"), (squares(), {"name": "a"}, "labels")]
        with pytest.raises(UserError, match="two planes have the name a"):
            writer.write_dataset(str(tmp_path / "h"), layers)


class TestMovieWriter:
    @pytest.fixture
    def film(self) -> Layers:
        """Cell 4 divides into 7 and 9 after two of four frames; 7 is seen once."""
        labels = np.zeros((4, 20, 24), np.int32)
        labels[:2, 4:9, 6:11] = 4
        labels[2, 2:5, 6:9] = 7
        labels[2:, 10:15, 6:11] = 9
        data, graph = tracks_layer(enumerate(labels), [(4, 0, 1, 0), (7, 2, 2, 4), (9, 2, 3, 4)])
        images = np.arange(4 * 20 * 24, dtype=np.uint16).reshape(4, 20, 24)
        return [
            (images, {"name": "film"}, "image"),
            (labels, {"name": "cells"}, "labels"),
            (data, {"name": "tracks", "graph": graph}, "tracks"),
        ]

    def rows(self, path: Path) -> list[tuple[int, ...]]:
        return [tuple(row) for row in read_tracks(path / "01_RES" / "res_track.txt")]

    def test_what_is_written_is_read_again(self, film: Layers, tmp_path: Path) -> None:
        assert writer.write_movie(str(tmp_path / "a"), film) == [str(tmp_path / "a")]
        assert self.rows(tmp_path / "a") == [(4, 0, 1, 0), (7, 2, 2, 4), (9, 2, 3, 4)]
        for one, other in zip(opened(tmp_path / "a"), film, strict=True):
            assert np.array_equal(one[0], other[0])
        assert opened(tmp_path / "a")[2][1]["graph"] == film[2][1]["graph"]

    def test_labels_say_which_cells_there_are(self, film: Layers, tmp_path: Path) -> None:
        """Who corrects labels after tracking need not touch the tracks layer."""
        labels = film[1][0]
        labels[3, 2:5, 6:9] = 7  # the cell that was lost
        labels[:, 17:, 20:] = 30  # and one that nobody had seen
        writer.write_movie(str(tmp_path / "b"), film)
        assert self.rows(tmp_path / "b") == [(4, 0, 1, 0), (7, 2, 3, 4), (9, 2, 3, 4), (30, 0, 3, 0)]
        assert np.array_equal(np.stack([m for _, m in read_sequences(tmp_path / "b")[0].tracked()]), labels)

    def test_tracks_of_other_numbers_are_put_on_the_cells(self, film: Layers, tmp_path: Path) -> None:
        """As from other trackers: the labels are those of a segmentation, different in each frame."""
        own = {0: {4: 11}, 1: {4: 3}, 2: {7: 5, 9: 6}, 3: {9: 2}}
        labels = film[1][0]
        film[1] = (
            np.stack([np.vectorize(lambda c, t=t: own[t].get(c, 0))(labels[t]) for t in range(4)]).astype(np.int32),
            *film[1][1:],
        )
        writer.write_movie(str(tmp_path / "c"), film)
        rows = self.rows(tmp_path / "c")
        assert sorted((begin, end) for _, begin, end, _ in rows) == [(0, 1), (2, 2), (2, 3)]
        mother = next(label for label, begin, *_ in rows if begin == 0)
        assert [parent for *_, parent in rows].count(mother) == 2

    def test_tracks_that_count_from_0_keep_their_descent(self, film: Layers, tmp_path: Path) -> None:
        film[2][0][film[2][0][:, 0] == 4, 0] = 0
        film[2][1]["graph"] = {7: [0], 9: [0]}
        writer.write_movie(str(tmp_path / "c"), film)
        assert self.rows(tmp_path / "c") == [(4, 0, 1, 0), (7, 2, 2, 4), (9, 2, 3, 4)]

    def test_without_tracks_cells_go_by_their_ids(self, film: Layers, tmp_path: Path) -> None:
        film[1][0][1] = 0  # cell 4 ends after its first frame
        film[1][0][3][film[1][0][0] == 4] = 4  # and comes back
        writer.write_movie(str(tmp_path / "d"), film[1:2])
        assert self.rows(tmp_path / "d") == [(4, 0, 0, 0), (7, 2, 2, 0), (9, 2, 3, 0), (10, 3, 3, 4)]
        assert not (tmp_path / "d" / "01").exists()

    @pytest.mark.parametrize(
        ("graph", "told"),
        [({9: [4, 7]}, "never merge here|time goes forward"), ({9: [5]}, "track 9 of 5, of which one has no points")],
    )
    def test_impossible_descent_is_told(self, film: Layers, graph: Any, told: str, tmp_path: Path) -> None:
        film[2][1]["graph"] = graph
        with pytest.raises(UserError, match=told):
            writer.write_movie(str(tmp_path / "e"), film)
        assert not (tmp_path / "e").exists()

    def test_no_dataset_is_replaced(self, film: Layers, tmp_path: Path) -> None:
        writer.write_dataset(str(tmp_path / "g"), film[:2])
        with pytest.raises(UserError, match="a dataset of another kind, by napari dataset"):
            writer.write_movie(str(tmp_path / "g"), film)
        assert len(list((tmp_path / "g" / "masks").iterdir())) == 4
        writer.write_movie(str(tmp_path / "h"), film)
        with pytest.raises(UserError, match="another kind, by napari movie"):
            writer.write_dataset(str(tmp_path / "h"), film[:2])

    def test_what_cannot_be_saved_leaves_the_earlier_save(
        self, film: Layers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "i"
        writer.write_movie(str(path), film)
        before = contents(path)
        many = np.arange(2 * 200 * 200, dtype=np.int32).reshape(2, 200, 200)
        with pytest.raises(UserError, match="has 79999 cells or tracks, a movie holds 65535"):
            writer.write_movie(str(path), [(many, {}, "labels")])
        with monkeypatch.context() as patched:
            patched.setattr("cytoforge.data.movie.encode_labels", full_at(3))
            with pytest.raises(UserError, match="the disk is full"):
                writer.write_movie(str(path), film)
        assert contents(path) == before
        writer.write_movie(str(path), [(film[1][0][:2], {}, "labels")])
        assert self.rows(path) == [(4, 0, 1, 0)]
        assert sorted(contents(path)) == [
            "01_RES/mask000.tif",
            "01_RES/mask001.tif",
            "01_RES/res_track.txt",
            "dataset.json",
            "manifest.jsonl",
        ]

    def test_new_ids_are_told(self, film: Layers, tmp_path: Path) -> None:
        labels = film[1][0]
        labels[labels == 9] = 70000
        with pytest.warns(UserWarning, match="ids reach 70000 and 16 bits hold 65535, so they become 1 to 3 in order"):
            writer.write_movie(str(tmp_path / "j"), film[1:2])
        assert self.rows(tmp_path / "j") == [(1, 0, 1, 0), (2, 2, 2, 0), (3, 2, 3, 0)]

    def test_other_axes_are_told(self, film: Layers, tmp_path: Path) -> None:
        film[1] = (film[1][0][0], *film[1][1:])
        with pytest.raises(UserError, match="cells: has 2 axes; choose labels with three"):
            writer.write_movie(str(tmp_path / "f"), film)


class TestLayers:
    def test_planes_of_channels_colours_and_further_axes(self) -> None:
        array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
        planes = Planes.of([(array, False), (-array, False)])
        assert (planes.lead, planes.size, len(planes)) == ((2, 3), (4, 5), 6)
        assert np.array_equal(planes[1, 2], np.stack([array[1, 2], -array[1, 2]]))
        assert [one.shape for one in planes] == [(2, 4, 5)] * 6
        single = Planes.of([(np.zeros((4, 5, 4), np.uint8), True)])
        assert (single.shape, len(single), single[()].shape) == ((4, 5), 1, (3, 4, 5))

    @pytest.mark.parametrize(
        ("layers", "told"),
        [
            ([], "choose an image layer"),
            ([(np.zeros((4, 5)), False), (np.zeros((4, 6)), False)], "are no channels of one image"),
            ([(np.zeros((4, 5, 3)), True)] * 2, "all its channels in one layer"),
            ([(np.zeros(5), False)], "shows no image"),
        ],
    )
    def test_layers_that_are_no_image_are_told(self, layers: Any, told: str) -> None:
        with pytest.raises(UserError, match=told):
            Planes.of(layers)

    def test_labels_need_whole_numbers_and_axes(self) -> None:
        assert [plane.shape for plane in label_planes(np.zeros((2, 3, 4, 5), np.uint8))] == [(4, 5)] * 6
        with pytest.raises(UserError, match="cell ids run from -1"):
            label_planes(-np.ones((4, 5), np.int32))
        with pytest.raises(UserError, match="height and width"):
            label_planes(np.zeros(5, np.int32))
        with pytest.raises(UserError, match="time, height, width"):
            frames_of(np.zeros((2, 2, 4, 5), np.int32))

    @pytest.mark.parametrize("seed", range(2))
    def test_tracks_of_a_simulated_movie_come_back(self, seed: int) -> None:
        movie = cytoforge.simulate_movie(frames=8, size=(80, 80), density=0.25, diameter=14, seed=seed)
        spots = spots_of(*tracks_layer(enumerate(movie.labels), movie.tracks))
        assert sorted(rows_of(spots)) == sorted(Track(*row) for row in movie.tracks)

    def test_points_of_concave_cells_lie_in_them(self) -> None:
        ring = np.zeros((1, 9, 9), np.int32)
        ring[0, 1:8, 1:8], ring[0, 2:7, 2:7] = 5, 0
        ((label, time, y, x),) = tracks_layer(enumerate(ring), [])[0].tolist()
        assert (label, time) == (5, 0) and ring[0, int(y), int(x)] == 5

    @pytest.mark.parametrize(
        ("column", "value", "told"),
        [
            (0, np.nan, "row 1 has the track nan and the time 1, which must be whole numbers from 0; mend the layer"),
            (0, -4, "row 1 has the track -4"),
            (0, np.inf, "row 1 has the track inf"),
            (1, 0.5, "and the time 0.5"),
            (1, np.nan, "and the time nan"),
            (1, -1, "and the time -1"),
        ],
    )
    def test_tracks_need_whole_ids_and_times(self, column: int, value: float, told: str) -> None:
        data = np.array([[4.0, 0, 6, 8], [4, 1, 6, 8]])
        data[1, column] = value
        with pytest.raises(UserError, match=f"^tracks: .*{told}"):
            spots_of(data, {})

    def test_tracks_in_depth_are_told(self) -> None:
        with pytest.raises(UserError, match="give tracks of planes"):
            spots_of(np.zeros((3, 5)), {})


class TestWork:
    def test_planes_are_segmented_as_images_of_one_diameter(self, stack: Any) -> None:
        told: list[float] = []
        found = work.segment(Planes.of([(stack, False)]), report=lambda share, note: told.append(share))
        base = cytoforge.Segmenter.load("base")
        expected = [base.segment(image, diameter=found.diameter) for image in stack]
        assert np.array_equal(found.labels, np.stack(expected))
        assert found.cells == sum(int(one.max()) for one in expected) > 10 and told == [0, 0, 0.5]
        flat = work.segment(Planes.of([(stack[0], False)]), diameter=18)
        assert flat.diameter == 18 and np.array_equal(flat.labels, base.segment(stack[0], diameter=18))

    def test_the_diameter_is_estimated_from_the_middles_of_four(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        monkeypatch.setattr(cytoforge.Segmenter, "estimate_diameter", lambda self, images: seen.extend(images) or 20.0)
        planes = np.zeros((9, 64, 2100), np.uint8)
        planes[:, :, 26:-26] = 7  # of each the middle is all bright
        planes[:, 0, 0] = np.arange(10, 100, 10)
        monkeypatch.setattr(cytoforge.Segmenter, "segment", lambda self, image, *given, **how: image[0] * 0)
        assert work.segment(Planes.of([(planes, False)])).diameter == 20
        assert [one.shape for one in seen] == [(1, 64, 2048)] * 4 and all(np.ptp(one) == 0 for one in seen)

    def test_work_stops_at_its_next_report(self, stack: Any) -> None:
        job = work.Job()
        job.stop()
        with pytest.raises(Interrupted, match="stopped"):
            job.do(lambda report: work.segment(Planes.of([(stack, False)]), report=report))
        assert job.note == "loads the model"

    def test_errors_are_sentences_or_faults(self) -> None:
        def failing(error: Exception) -> Any:
            def fail(report: Any) -> None:
                raise error

            return fail

        with pytest.raises(UserError, match="not enough memory"):
            work.Job().do(failing(MemoryError()))
        with pytest.raises(UserError, match="choose labels with three"):
            work.Job().do(lambda report: work.track(None, np.zeros((4, 4)), report=report))
        with pytest.raises(RuntimeError, match="a fault"):
            work.Job().do(failing(RuntimeError("a fault of the program")))

    def test_training_takes_annotated_planes_stops_and_goes_on(self, stack: Any, masks: Any, tmp_path: Path) -> None:
        tiny: dict[str, Any] = {"preset": "tiny", "threads": 1, "start": "scratch"}
        planes = Planes.of([(np.concatenate([stack, stack[:1]]), False)])
        labels = np.concatenate([masks, np.zeros_like(masks[:1])])

        def stop(share: float, note: str) -> None:
            if note.startswith("step"):
                raise Interrupted("stopped")

        with pytest.raises(Interrupted, match="stopped at step 1, all is saved"):
            work.train(planes, labels, tmp_path / "run", 0.02, stop, **tiny)
        segmenter = work.train(planes, labels, tmp_path / "run", 0.02, **tiny)
        assert segmenter.run == tmp_path / "run" and segmenter.judgement is not None
        found = work.segment(planes, segmenter.run)
        assert found.labels.shape == labels.shape and found.diameter is None

    @pytest.mark.parametrize(
        ("labels", "told"),
        [(np.zeros((2, 96, 96), np.int32), "is empty"), (np.ones((96, 96), np.int32), "do not belong")],
    )
    def test_what_cannot_be_learned_from_is_told(self, labels: Any, told: str, stack: Any, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=told):
            work.train(Planes.of([(stack, False)]), labels, tmp_path / "run", 1)

    def test_masks_are_those_of_the_simulation(self, masks: Any) -> None:
        found = work.simulate(masks, 2, size=(64, 80), density=0.2, seed=5)
        expected = [cytoforge.simulate_masks(list(masks), size=(64, 80), density=0.2, seed=s)[0] for s in (5, 6)]
        assert np.array_equal(found.labels, np.stack(expected)) and found.images is None
        with pytest.raises(UserError, match="choose one with cells"):
            work.simulate(np.zeros((2, 64, 64), np.int32), 1, size=(64, 64))
        assert work.simulate(None, 1, size=(64, 64)).labels.any()

    def test_masks_are_painted(self, stack: Any, masks: Any, tmp_path: Path) -> None:
        run = tmp_path / "painter"
        painter = cytoforge.train_image_generator(list(stack), list(masks), steps=1, out=run, preset="tiny", threads=1)
        found = work.simulate(masks, 2, size=(64, 64), generator=run, seed=3)
        assert found.images is not None and found.images.shape == (2, 1, 64, 64)
        assert np.array_equal(found.images[1], painter.paint(found.labels[1], seed=4)[0])

    def test_cells_are_tracked(self) -> None:
        movie = cytoforge.simulate_movie(frames=6, size=(64, 72), density=0.2, diameter=14, seed=1)
        told: list[float] = []
        found = work.track(None, movie.labels, "overlap", lambda share, note: told.append(share))
        tracked = cytoforge.Tracker.load("overlap").track(movie.labels)
        assert np.array_equal(found.labels, tracked.labels) and told[-1] == 5 / 6
        assert found.graph == {row[0]: [row[3]] for row in tracked.tracks.tolist() if row[3]}
        assert len(found.tracks) == sum(np.unique(frame[frame > 0]).size for frame in found.labels)
        with pytest.raises(UserError, match="do not belong"):
            work.track(Planes.of([(movie.labels[:2], False)]), movie.labels)


class TestSamples:
    def test_they_are_phantoms_with_something_to_do(self) -> None:
        image, labels = samples.dataset()
        assert image[0].shape == labels[0].shape and labels[0][0].max() > 20 and not labels[0][-1].any()
        frames, cells, tracks = samples.movie()
        assert frames[0].shape == cells[0].shape and len(tracks[1]["graph"]) >= 4
        assert {int(label) for label in tracks[0][:, 0]} == {int(label) for label in np.unique(cells[0][cells[0] > 0])}
