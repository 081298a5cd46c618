"""`import cytoforge`: what a person with arrays can do, and that it does what the commands do."""

import asyncio
import gc
import inspect
import json
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

import cytoforge
from conftest import picture, squares
from cytoforge.api import DEFAULTS, _settled
from cytoforge.cells.instances import relabel
from cytoforge.cli import main
from cytoforge.data.images import read_image, read_labels, resize_image, write_image, write_labels
from cytoforge.data.run import Run
from cytoforge.errors import Interrupted, UserError
from cytoforge.inference.image_generator import item_draw
from cytoforge.inference.painting import grey
from cytoforge.inference.recording import Recorder
from cytoforge.simulation.phantom import phantom
from cytoforge.training import hyperparameters

pytestmark = pytest.mark.usefixtures("short_trainings")

TINY: dict[str, Any] = {"preset": "tiny", "threads": 1}
Array = NDArray[Any]
Pairs = tuple[list[Array], list[Array]]


@pytest.fixture(scope="module")
def phantoms() -> Pairs:
    """Four phantom images uint16 (80, 96) and their labels."""
    images, masks = zip(*(phantom(seed, (80, 96), 10) for seed in range(4)), strict=True)
    return list(images), list(masks)


@pytest.fixture(scope="module")
def film() -> tuple[list[Array], cytoforge.api.Lineage]:  # type: ignore[name-defined]
    """Six frames uint8 (64, 72) of a simulated movie of cells that move and divide."""
    movie = cytoforge.simulate_movie(frames=6, size=(64, 72), density=0.25, diameter=14, seed=1)
    return [picture(labels, seed)[0] for seed, labels in enumerate(movie.labels)], movie


@pytest.fixture(scope="module")
def segmenter(phantoms: Pairs) -> cytoforge.Segmenter:
    """Learned enough to find something."""
    return cytoforge.train_segmenter(*phantoms, steps=60, **TINY)


@pytest.fixture(scope="module")
def painter(phantoms: Pairs) -> cytoforge.ImageGenerator:
    return cytoforge.train_image_generator(*phantoms, steps=2, **TINY)


@pytest.fixture(scope="module")
def filmer(film: Any) -> cytoforge.MovieGenerator:
    return cytoforge.train_movie_generator(film[0], film[1].labels, steps=2, **TINY)


@pytest.fixture(scope="module")
def tracker(film: Any) -> cytoforge.Tracker:
    return cytoforge.train_tracker(film[0], film[1].labels, film[1].tracks, method="deepsea", steps=2, **TINY)


def weights(run: Path, name: str = "segmenter") -> bytes:
    return (run / "weights" / f"{name}.safetensors").read_bytes()


def segmented(run: Path, image: Array, folder: Path, **how: Any) -> Array:
    """Return what `cytoforge segment` writes for an array that was saved as a file."""
    (folder / "images").mkdir(parents=True)
    tifffile.imwrite(folder / "images" / "a.tif", image, photometric=how.pop("photometric", "minisblack"), **how)
    line = ["segment", str(run), str(folder / "images"), "--out", str(folder / "out"), "--threads", "1"]
    assert main(line) == 0
    return read_labels(folder / "out" / "masks" / "a.tif")


class TestNames:
    def test_all_of_them_are_there_and_told_about(self) -> None:
        assert cytoforge.__version__.count(".") == 2
        for name in cytoforge.__all__:
            thing = getattr(cytoforge, name)
            assert name == "__version__" or inspect.getdoc(thing)
        assert set(cytoforge.__all__) <= set(dir(cytoforge))
        with pytest.raises(AttributeError, match="has no attribute 'train_everything'"):
            _ = cytoforge.train_everything  # type: ignore[attr-defined]

    def test_files_are_read_by_their_names(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", picture(squares()))
        write_labels(tmp_path / "b.png", squares())
        assert cytoforge.read_image(str(tmp_path / "a.png")).shape == (1, 64, 64)
        assert np.array_equal(cytoforge.read_labels(str(tmp_path / "b.png")), squares())

    def test_a_network_is_loaded(self, segmenter: cytoforge.Segmenter) -> None:
        with torch.inference_mode():
            assert cytoforge.load_network(segmenter.run)(torch.zeros(1, 1, 64, 64)).shape == (1, 5, 64, 64)


class TestSegmenting:
    @pytest.mark.parametrize(
        "kind",
        [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64],
        ids=lambda kind: kind.__name__,
    )
    def test_gives_what_the_command_writes_whatever_the_type(
        self, kind: type, segmenter: cytoforge.Segmenter, phantoms: Pairs, tmp_path: Path
    ) -> None:
        image = phantoms[0][3][:77, :91]
        image = (image / 16).astype(kind) if kind is np.uint8 else image.astype(kind)
        found = segmenter.segment(image)
        assert found.dtype == np.int32 and found.shape == (77, 91) and found.max() > 2
        assert np.array_equal(found, segmented(segmenter.run, image, tmp_path))

    def test_nan_and_infinite_pixels(self, segmenter: cytoforge.Segmenter, phantoms: Pairs, tmp_path: Path) -> None:
        image = phantoms[0][0].astype(np.float32)
        image[3:9, 5:20], image[40, 40], image[41, 41] = np.nan, np.inf, -np.inf
        found = segmenter.segment(image)
        assert found.max() > 2 and np.array_equal(found, segmented(segmenter.run, image, tmp_path))
        assert segmenter.segment(np.full((40, 40), np.nan)).max() == 0

    def test_what_a_file_cannot_hold(self, segmenter: cytoforge.Segmenter, phantoms: Pairs) -> None:
        image = phantoms[0][0]
        expected = segmenter.segment(image)
        for same in (image.astype(np.int64), image[::-1][::-1], image.tolist(), image[None], image[..., None]):
            assert np.array_equal(segmenter.segment(same), expected)
        before = image.copy()
        segmenter.segment(image)
        assert np.array_equal(image, before)
        assert segmenter.segment(image > image.mean()).shape == image.shape

    @pytest.mark.parametrize("scale", [0.5, 1.5])
    def test_at_the_scale_of_the_run(self, scale: float, phantoms: Pairs, tmp_path: Path) -> None:
        model = cytoforge.train_segmenter(*phantoms, steps=30, scale=scale, **TINY)
        assert model.scale == scale
        found = model.segment(phantoms[0][1])
        assert found.shape == (80, 96)
        assert np.array_equal(found, segmented(model.run, phantoms[0][1], tmp_path))

    def test_colours_with_channels_first_and_last(self, phantoms: Pairs, tmp_path: Path) -> None:
        images = [np.stack([image, image // 2, 4000 - image]) for image in phantoms[0]]  # C, H, W
        last = [image.transpose(1, 2, 0) for image in images]
        model = cytoforge.train_segmenter(images, phantoms[1], steps=30, **TINY)
        other = cytoforge.train_segmenter(last, phantoms[1], steps=30, **TINY)
        assert weights(model.run) == weights(other.run)
        found = model.segment(images[0])
        assert found.max() > 0
        assert np.array_equal(found, model.segment(last[0])) and np.array_equal(found, model.segment(last[0], "YXC"))
        assert np.array_equal(found, model.segment(images[0].transpose(2, 0, 1), axes="xcy"))
        assert np.array_equal(found, segmented(model.run, last[0], tmp_path, photometric="rgb"))
        assert model.segment(np.zeros((3, 40, 3), np.uint8), "YXC").shape == (3, 40)
        for image, axes, sentence in (
            (np.zeros((3, 40, 3)), None, "may be CYX or YXC; name the axes, such as axes='YXC'"),
            (images[0], "YXC", "is no image of 3 channels; convert it"),
            (images[0], "ZYX", "has no axes ZYX; they are YX, YXC or CYX"),
            (images[0], "YX", "has no axes YX"),
            (phantoms[0][0], None, "(80, 96) is no image of 3 channels"),
            (np.zeros((40, 40, 4)), None, "(40, 40, 4) is no image of 3 channels"),
        ):
            with pytest.raises(UserError) as caught:
                model.segment(image, axes)
            assert sentence in str(caught.value) and "--" not in str(caught.value)

    @pytest.mark.parametrize(
        ("image", "sentence"),
        [
            (np.zeros((2, 3, 4, 5)), "an array (2, 3, 4, 5) has no axes YX"),
            (np.zeros(7), "an array (7,) has no axes YX"),
            (np.zeros((0, 5)), "an image holds integers or real numbers, this is float64 (0, 5)"),
            (np.zeros((5, 5), complex), "this is complex128 (5, 5)"),
            (np.array([["a"]]), "this is <U1 (1, 1)"),
        ],
    )
    def test_what_is_no_image(self, image: Array, sentence: str, segmenter: cytoforge.Segmenter) -> None:
        with pytest.raises(UserError) as caught:
            segmenter.segment(image)
        assert sentence in str(caught.value)


class TestPainting:
    def test_gives_what_the_command_writes_but_for_its_draw(
        self, painter: cytoforge.ImageGenerator, phantoms: Pairs, tmp_path: Path
    ) -> None:
        labels = phantoms[1][0]
        found = painter.paint(labels, 2, seed=5)
        assert found.shape == (2, 1, 80, 96) and found.dtype == np.uint16
        assert not np.array_equal(found[0], found[1])
        assert np.array_equal(found, painter.paint(labels.astype(np.uint8), 2, seed=5))
        assert np.array_equal(found[:1], painter.paint(labels, seed=5))
        assert not np.array_equal(found[:1], painter.paint(labels, seed=6))
        write_labels(tmp_path / "masks" / "a.png", labels)
        line = ["generate", "images", str(painter.run), str(tmp_path), "--out", str(tmp_path / "out"), "--seed", "5"]
        assert main([*line, "--threads", "1"]) == 0
        drawn = grey(painter.paint_drawn(relabel(labels), item_draw(5, "a", 1)))
        assert np.array_equal(read_image(tmp_path / "out" / "images" / "a.png"), drawn)

    def test_other_masks_have_other_styles(self, painter: cytoforge.ImageGenerator) -> None:
        """Masks painted in a loop with one seed would else all look alike."""
        empty, one = np.zeros((2, 64, 64), np.int32)
        one[0, 0] = 1  # far from the corner the two are painted on the same
        assert not np.array_equal(painter.paint(empty)[..., 40:, 40:], painter.paint(one)[..., 40:, 40:])

    def test_masks_are_of_the_size_of_the_original_images(self, phantoms: Pairs) -> None:
        model = cytoforge.train_image_generator(*phantoms, steps=1, scale=0.5, **TINY)
        labels = phantoms[1][0]
        found = model.paint(labels)
        assert found.shape == (1, 1, 80, 96)
        small = np.asarray(grey(resize_image((found[0] / 32767.5 - 1).astype(np.float32), (40, 48))), float)
        assert small.std() > 0 and model.scale == 0.5

    @pytest.mark.parametrize(
        ("labels", "n", "sentence"),
        [
            (np.ones((64, 64), int), 1, "labels: have no background; give 0 to the pixels outside of the cells"),
            (np.zeros((2, 64, 64), int), 1, "labels: must be whole numbers (H, W), 0 for background, not int64 (2, 64"),
            (np.full((64, 64), 0.5), 1, "labels: holds fractions or NaN, not cell ids; give the integer labels"),
            (np.full((64, 64), -1), 1, "labels: cell ids run from -1 to -1; number the cells 1, 2, 3 ..."),
            (np.zeros((64, 64), int), 0, "n=0: give 1 or more"),
        ],
    )
    def test_what_cannot_be_painted(
        self, labels: Array, n: int, sentence: str, painter: cytoforge.ImageGenerator
    ) -> None:
        with pytest.raises(UserError) as caught:
            painter.paint(labels, n)
        assert sentence in str(caught.value)


class TestFilming:
    def test_gives_what_the_command_writes_but_for_its_draw(
        self, filmer: cytoforge.MovieGenerator, film: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        masks = film[1].labels[:3]
        for number, labels in enumerate(masks):
            write_labels(tmp_path / "m" / "01_GT" / "TRA" / f"man_track{number:03d}.tif", labels)
        background = np.arange(64 * 72, dtype=np.uint8).reshape(64, 72) % 50 + 60
        write_image(tmp_path / "empty.tif", background[None])
        line = ["generate", "movie", str(filmer.run), str(tmp_path / "m"), "--threads", "1"]
        assert main([*line, "--out", str(tmp_path / "own")]) == 0
        assert main([*line, "--out", str(tmp_path / "given"), "--background", str(tmp_path / "empty.tif")]) == 0
        monkeypatch.setattr("cytoforge.inference.movie_generator.item_draw", lambda s, _, v: item_draw(s, "01", v))
        drawn = type(filmer).drawn_background
        monkeypatch.setattr(type(filmer), "drawn_background", lambda self, s, _, size: drawn(self, s, "01", size))
        given = type(filmer).given_background
        monkeypatch.setattr(
            type(filmer), "given_background", lambda self, i, n, s, _, size: given(self, i, n, s, "01", size)
        )
        cells, shown = Recorder.cells, Recorder.shown
        monkeypatch.setattr(Recorder, "cells", lambda self, frames, mothers, _: cells(self, frames, mothers, "01"))
        monkeypatch.setattr(
            Recorder, "shown", lambda self, f, ground, labels, of, _, n: shown(self, f, ground, labels, of, "01", n)
        )
        for name, frames in {"own": filmer.film(masks), "given": filmer.film(masks, background)}.items():
            assert frames.shape == (3, 1, 64, 72) and frames.dtype == film[0][0].dtype
            written = [read_image(tmp_path / name / "01" / f"t{number:03d}.tif") for number in range(3)]
            assert np.array_equal(frames, written), name

    def test_the_same_seed_gives_the_same_movie_and_another_another(
        self, filmer: cytoforge.MovieGenerator, film: Any
    ) -> None:
        masks = list(film[1].labels[:2])
        found = filmer.film(iter(masks), seed=2)
        assert np.array_equal(found, filmer.film(masks, seed=2))
        assert not np.array_equal(found, filmer.film(masks, seed=3))

    def test_masks_are_of_the_size_of_the_original_frames(self, film: Any) -> None:
        model = cytoforge.train_movie_generator(film[0], film[1].labels, steps=1, scale=0.75, **TINY)
        assert model.film(film[1].labels[:2]).shape == (2, 1, 64, 72)

    def test_what_cannot_be_filmed(self, filmer: cytoforge.MovieGenerator, film: Any) -> None:
        masks = list(film[1].labels[:2])
        for given, background, sentence in (
            ([], None, "there are no masks; give one for each frame"),
            ([masks[0], masks[1][:50]], None, "mask 1: is (50, 72), those before it (64, 72); give masks of one size"),
            ([masks[0], masks[1] + 1], None, "mask 1: has no background"),
            (masks, np.arange(3 * 64 * 72).reshape(64, 72, 3), "an array (64, 72, 3) is no image of 1 channel"),
            (masks, np.full((64, 72), 60000, np.uint16), "the background: most of its grey values lie beyond"),
        ):
            with pytest.raises(UserError) as caught:
                filmer.film(given, background)
            assert sentence in str(caught.value) and "--" not in str(caught.value)


class TestTracking:
    def test_gives_what_the_command_writes(self, tracker: cytoforge.Tracker, film: Any, tmp_path: Path) -> None:
        for number, (image, labels) in enumerate(zip(film[0], film[1].labels, strict=True)):
            write_image(tmp_path / "m" / "01" / f"t{number:03d}.tif", image[None])
            write_labels(tmp_path / "m" / "01_ST" / "SEG" / f"man_seg{number:03d}.tif", labels)
        for model, name in ((tracker, str(tracker.run)), (cytoforge.Tracker.load(), "base")):
            out = tmp_path / f"out-{len(name)}"
            assert main(["track", name, str(tmp_path / "m"), "--out", str(out), "--threads", "1"]) == 0
            found = model.track(film[1].labels, film[0])
            assert found.labels.dtype == np.int32 and found.labels.shape == (6, 64, 72)
            written = [read_labels(out / "01_RES" / f"mask{number:03d}.tif") for number in range(6)]
            assert np.array_equal(found.labels, written)
            assert np.array_equal(found.tracks, np.loadtxt(out / "01_RES" / "res_track.txt", int, ndmin=2))

    def test_what_it_gives_can_be_learned_from(self, film: Any) -> None:
        found = cytoforge.Tracker.load("overlap").track(film[1].labels)
        model = cytoforge.train_tracker(film[0], found.labels, found.tracks, steps=1, **TINY)
        assert repr(model) == f"<Tracker {model.run}>"

    def test_frames_in_colour_with_channels_last(self, film: Any) -> None:
        frames = [np.stack([image, image, image], axis=-1) for image in film[0]]
        model = cytoforge.train_tracker(frames, film[1].labels, film[1].tracks, steps=1, **TINY)
        found = model.track(film[1].labels, frames)
        first = [frame.transpose(2, 0, 1) for frame in frames]
        assert np.array_equal(found.labels, model.track(film[1].labels, first).labels)

    def test_what_cannot_be_tracked(self, tracker: cytoforge.Tracker, film: Any, tmp_path: Path) -> None:
        masks, images = list(film[1].labels), film[0]
        for given, frames, sentence in (
            (masks, None, "this tracker looks at the frames; give images"),
            (masks, images[:4], "4 images and 6 masks: give one for each"),
            (masks[:4], images, "6 images and 4 masks: give one for each"),
            ([], [], "there are no masks"),
            ([masks[0], masks[1][:50]], images[:2], "mask 1: is (50, 72), those before it (64, 72)"),
            (masks, [image[:50] for image in images], "an array (50, 72) is no image of 64 x 72 pixels"),
        ):
            with pytest.raises(UserError) as caught:
                tracker.track(given, frames)
            assert sentence in str(caught.value) and "--" not in str(caught.value)
        with pytest.raises(UserError, match="laptrack: was not trained, so there is nothing to save"):
            cytoforge.Tracker.load("laptrack").save(tmp_path / "x")


class TestTraining:
    def test_arrays_and_a_folder_give_the_same_weights(self, phantoms: Pairs, tmp_path: Path) -> None:
        for number, (image, labels) in enumerate(zip(*phantoms, strict=True)):
            write_image(tmp_path / "data" / "images" / f"dish{number}.png", image[None])
            write_labels(tmp_path / "data" / "masks" / f"dish{number}.png", labels)
        arrays = cytoforge.train_segmenter(*phantoms, steps=3, **TINY)
        folder = cytoforge.train_segmenter(tmp_path / "data", steps=3, **TINY)
        named = cytoforge.train_segmenter(str(tmp_path / "data"), steps=3, **TINY)
        stacked = cytoforge.train_segmenter(np.stack(phantoms[0]), np.stack(phantoms[1]), steps=3, **TINY)
        line = f"train segmentation {tmp_path / 'data'} --out {tmp_path / 'run'} --preset tiny --steps 3 --threads 1"
        assert main(line.split()) == 0
        expected = weights(tmp_path / "run")
        assert [weights(model.run) for model in (arrays, folder, named, stacked)] == [expected] * 4
        other = cytoforge.train_segmenter(*phantoms, steps=3, seed=1, **TINY)
        assert weights(other.run) != expected

    def test_a_movie_of_arrays_and_its_folder_give_the_same_weights(
        self, tracker: cytoforge.Tracker, filmer: cytoforge.MovieGenerator, film: Any, tmp_path: Path
    ) -> None:
        for number, (image, labels) in enumerate(zip(film[0], film[1].labels, strict=True)):
            write_image(tmp_path / "01" / f"t{number:03d}.tif", image[None])
            write_labels(tmp_path / "01_GT" / "TRA" / f"man_track{number:03d}.tif", labels)
        rows = "".join(f"{' '.join(map(str, row))}\n" for row in film[1].tracks)
        (tmp_path / "01_GT" / "TRA" / "man_track.txt").write_text(rows)
        assert any(row[3] for row in film[1].tracks), "a division is part of it"
        other = cytoforge.train_tracker(tmp_path, method="deepsea", steps=2, **TINY)
        assert weights(other.run, "tracker") == weights(tracker.run, "tracker")
        filming = cytoforge.train_movie_generator(tmp_path, steps=2, **TINY)
        assert weights(filming.run, "low-resolution") == weights(filmer.run, "low-resolution")

    def test_options_are_the_flags_of_the_command(self, phantoms: Pairs, tmp_path: Path) -> None:
        def dataset(name: str, first: int, last: int, info: dict[str, Any] | None = None) -> Path:
            for number in range(first, last):
                write_image(tmp_path / name / "images" / f"dish{number}.png", phantoms[0][number][None])
                write_labels(tmp_path / name / "masks" / f"dish{number}.png", phantoms[1][number])
            (tmp_path / name / "dataset.json").write_text(json.dumps(info or {}))
            return tmp_path / name

        learned, held = dataset("learned", 0, 3), dataset("held", 3, 4)
        painted = dataset("painted", 0, 2, {"synthetic": True})
        common: dict[str, Any] = {"resize": (64, 72), "validation": str(held), "limit": 3, "until_converged": True}
        for flags, values in (
            (f"--epochs 2 --with {painted}", {"epochs": 2, "synthetic": painted}),
            (f"--steps 2 --method mean-teacher --unlabelled {painted}", {"steps": 2, "unlabelled": painted}),
        ):
            out, method = tmp_path / str(len(flags)), "mean-teacher" if "unlabelled" in values else "conventional"
            line = f"train segmentation {learned} --out {out} --resize 64x72 --validation {held} --limit 3 "
            assert main(f"{line} --until-converged --preset tiny --threads 1 {flags}".split()) == 0
            model = cytoforge.train_segmenter(learned, method=method, **common, **values, **TINY)  # type: ignore[arg-type]
            run, told = Run.open(model.run), Run.open(out)
            assert run.config["training"] == told.config["training"] and run.config["resize"] == [64, 72]
            assert run.config["parameters"] == told.config["parameters"] and not run.config["parameters"]["anneal"]
            assert weights(model.run) == weights(out)

    def test_the_cycle_learns_from_arrays(self, phantoms: Pairs, tmp_path: Path) -> None:
        write_image(tmp_path / "images" / "more.png", phantoms[0][0][None])
        model = cytoforge.train_segmenter(
            phantoms[0][1:], phantoms[1][1:], method="cyclegan", steps=1, unlabelled=tmp_path, **TINY
        )
        assert Run.open(model.run).config["method"] == "cyclegan"
        assert Run.open(model.run).config["unlabelled_images"] == ["more"]
        assert model.segment(phantoms[0][0]).shape == (80, 96)

    def test_options_that_a_training_lacks_are_refused(self, phantoms: Pairs, film: Any, tmp_path: Path) -> None:
        trainings: list[tuple[Callable[..., Any], Any, tuple[str, ...]]] = [
            (cytoforge.train_image_generator, phantoms, ("synthetic", "unlabelled")),
            (cytoforge.train_movie_generator, (film[0], film[1].labels), ("limit", "synthetic", "unlabelled")),
            (cytoforge.train_tracker, (film[0], film[1].labels), ("resize", "unlabelled")),
        ]
        given = {"limit": 3, "resize": (64, 64), "synthetic": tmp_path, "unlabelled": tmp_path}
        for train, arrays, names in trainings:
            for name in names:
                with pytest.raises(UserError, match=f"{name}: this training has no such option; leave it out"):
                    train(*arrays, **{name: given[name]}, steps=1, **TINY)

    def test_windows_of_preset_paper_are_images_of_one_size(self) -> None:
        for preset, resize, crop in (("paper", (48, 64), (48, 64)), ("paper", None, (512, 768))):
            options = cytoforge.Options(preset=preset, resize=resize)  # type: ignore[arg-type]
            assert _settled(hyperparameters.CYCLE_GAN, options, {})[1].crop == crop
        small = cytoforge.Options(resize=(48, 64))
        assert _settled(hyperparameters.CYCLE_GAN, small, {})[1].crop == (128, 128)

    def test_one_image_needs_no_list(self, phantoms: Pairs) -> None:
        model = cytoforge.train_segmenter(phantoms[0][0], phantoms[1][0], steps=1, **TINY)
        assert model.segment(phantoms[0][0]).shape == (80, 96)

    def test_options_and_hyperparameters_are_taken(self, phantoms: Pairs) -> None:
        options = cytoforge.Options(steps=1, preset="tiny", threads=1)
        model = cytoforge.train_segmenter(*phantoms, options=options, seed=4, target="semantic", rate=1e-4)
        stored = Run.open(model.run).config
        assert (stored["training"]["seed"], stored["training"]["budget"]["steps"]) == (4, 1)
        assert (stored["parameters"]["target"], stored["parameters"]["rate"]) == ("semantic", 1e-4)
        assert DEFAULTS.budget.seconds == 600 and cytoforge.Options(minutes=0.5).budget.seconds == 30

    def test_minutes(self, phantoms: Pairs) -> None:
        told: list[float] = []
        model = cytoforge.train_segmenter(
            *phantoms, minutes=0.02, progress=lambda share, note: told.append(share), **TINY
        )
        assert Run.open(model.run).config["training"]["budget"] == {
            "steps": None,
            "epochs": None,
            "seconds": pytest.approx(1.2),
            "clock": "wall",
            "patience": None,
            "until_converged": False,
        }
        assert told[-1] == 1 and told == sorted(told) and 0 < told[0] < 1

    def test_progress_is_told_from_0_to_1(self, phantoms: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
        told: list[tuple[float, str]] = []
        cytoforge.train_image_generator(*phantoms, steps=4, progress=lambda *now: told.append(now), **TINY)
        assert [share for share, _ in told][:4] == [0.25, 0.5, 0.75, 1.0]
        assert {share for share, _ in told[4:]} <= {1.0} and told[0][1] == "step 1"
        printed = capsys.readouterr()
        assert printed.out == "" and "%" not in printed.err

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"minutes": 1, "steps": 2}, "give one of minutes, steps and epochs"),
            ({"epochs": 1, "steps": 2}, "give one of minutes, steps and epochs"),
            ({"epochs": 0}, "epochs=0: takes a whole number of at least 1"),
            ({"patience": 2, "until_converged": True}, "give patience or until_converged, not both"),
            ({"resize": (64, 64), "scale": 0.5}, "give scale or resize, not both"),
            ({"resize": 64}, "resize=64: takes height x width, such as 128x128, each of at least 1 or none"),
            ({"limit": 1, "validation": "."}, "limit=1 with validation leaves no image to train on"),
            ({"validation": "no/where"}, "no/where: does not exist; check the name"),
            ({"validation": [np.ones((9, 9))]}, "validation: takes the path of a folder (docs/formats.md), no arrays"),
            ({"unlabelled": "."}, "unlabelled: this training has no such option; leave it out"),
            ({"synthetic": ".", "method": "cyclegan"}, "synthetic: this training has no such option; leave it out"),
            ({"method": "mean-teacher"}, "method='mean-teacher' needs unlabelled, a folder of images"),
            ({"method": "two-stage"}, "method='two-stage': takes conventional, cyclegan, mean-teacher"),
            ({"minutes": 0}, "minutes=0: takes a number above 0"),
            ({"steps": 0}, "steps=0: takes a whole number of at least 1"),
            ({"preset": "huge"}, "preset='huge': takes tiny, small, paper"),
            ({"scale": 0}, "scale=0: takes a number above 0 and of at most 8"),
            ({"device": "gpu"}, "device='gpu': takes auto, cpu, cuda"),
            ({"threads": 0}, "threads=0: takes a whole number of at least 1"),
            ({"seed": -1}, "seed=-1: takes a whole number of at least 0"),
            ({"minutes": "many"}, "minutes='many': takes a number above 0"),
            ({"progress": 3}, "progress=3: takes a function"),
            (
                {"minute": 3},
                "minute: there is no such option or hyperparameter; there are device, epochs, limit, minutes, out",
            ),
            ({"rate": "fast"}, "rate='fast': takes a number above 0"),
            ({"target": "colours"}, "target='colours': takes depth, boundary, semantic"),
            ({"heads": 2}, "heads: there is no such option or hyperparameter"),
        ],
    )
    def test_values_that_are_refused(self, values: dict[str, Any], sentence: str, phantoms: Pairs) -> None:
        with pytest.raises(UserError) as caught:
            cytoforge.train_segmenter(*phantoms, **values)
        assert sentence in str(caught.value) and "--" not in str(caught.value)

    def test_arrays_that_are_refused(self, phantoms: Pairs, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
        (images, masks), binary = phantoms, [(labels > 0).astype(int) for labels in phantoms[1]]
        small = [np.pad(np.ones((2, 2), int), 3)] * 2
        cases: list[tuple[Any, Any, str]] = [
            (images, None, "arrays of images need their masks; give both, or a folder"),
            (images, masks[:3], "4 images and 3 masks: give at least one, and a mask for each"),
            ([], [], "0 images and 0 masks: give at least one"),
            (images, [*masks[:3], masks[3][:40]], "image 3: an array (80, 96) is no image of 40 x 96 pixels"),
            ([*images[:3], images[3][None, None]], masks, "image 3: an array (1, 1, 80, 96) has no axes YX"),
            ([np.zeros((80, 80, 80))], [np.zeros((80, 80), int)], "image 0: an array (80, 80, 80) may be CYX or YXC"),
            (images, [labels + 0.5 for labels in masks], "mask 0: holds fractions or NaN"),
            (images, [-labels for labels in masks], "mask 0: cell ids run from -"),
            (images, binary, "a binary mask"),
            (images, [0 * labels for labels in masks], "the arrays: the masks hold no cells"),
            ([np.zeros((8, 8), np.uint8)] * 2, small, ": has 8 x 8 px"),
            ([images[0], np.stack([images[1]] * 2)], masks[:2], "found image 0 (1) and image 1 (2); convert them"),
            ([0 * image for image in images], masks, "no image is left to train on; look at images and masks"),
            (tmp_path, masks, "a folder has its own masks and tracks; give no others with it"),
            (tmp_path / "nowhere", None, "nowhere: does not exist; check the name"),
        ]
        for given, others, sentence in cases:
            with pytest.raises(UserError) as caught:
                cytoforge.train_segmenter(given, others, steps=1, scale=1, **TINY)
            assert sentence in str(caught.value) and "cytoforge-" not in str(caught.value)
        gc.collect()
        assert not recwarn.list

    def test_notes_call_arrays_what_they_are(
        self, phantoms: Pairs, film: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        images, masks = phantoms
        pale = [0 * image for image in images[:2]]
        model = cytoforge.train_segmenter([*pale, *images[2:]], masks, steps=1, **TINY)
        cytoforge.train_segmenter(images[0], masks[0], steps=1, **TINY)
        still = [film[1].labels[0]] * 6
        tracker = cytoforge.train_tracker(film[0], still, steps=1, **TINY)
        told = capsys.readouterr().err
        assert re.search("image [01]: one grey value or NaN all over, left out of training", told)
        assert "the arrays: holds a single image" in told and "the arrays: no cell divides" in told
        assert "cytoforge-" not in told
        for run in (model.run, tracker.run):
            assert run is not None and not any(
                "cytoforge-" in note for note in Run.open(run).provenance.get("notes", [])
            )

    def test_segmenters_start_from_the_base_model_at_a_scale_of_their_own(
        self, phantoms: Pairs, capsys: pytest.CaptureFixture[str]
    ) -> None:
        images, masks = phantoms
        shortest: dict[str, Any] = {"steps": 1, "threads": 1, "batch": 1}
        found = cytoforge.train_segmenter(images, masks, **shortest)
        assert "starts from the base model" in capsys.readouterr().err
        assert found.scale > 1.1 and found.diameter is None  # cells are some 16 px across
        plain = cytoforge.train_segmenter(images, masks, start="scratch", scale=1, **shortest)
        assert "starts from" not in capsys.readouterr().err and plain.scale == 1
        fixed = cytoforge.train_segmenter(images, masks, start="base", resize=(96, 112), **shortest)
        assert fixed.scaling == (96, 112)
        with pytest.raises(UserError, match="give base, scratch, or the folder that a training wrote"):
            cytoforge.train_segmenter(images, masks, start="nowhere", **shortest)
        with pytest.raises(UserError, match="give scale or resize, not both"):
            cytoforge.train_segmenter(images, masks, scale=2, resize=(96, 112), **shortest)

    def test_long_numbers_are_images(self, phantoms: Pairs, segmenter: cytoforge.Segmenter) -> None:
        long = [image.astype(np.longdouble) for image in phantoms[0]]
        cytoforge.train_segmenter(long, phantoms[1], steps=1, **TINY)
        assert np.array_equal(segmenter.segment(long[0]), segmenter.segment(phantoms[0][0]))

    def test_movies_that_are_refused(self, film: Any) -> None:
        frames, masks, tracks = film[0], film[1].labels, film[1].tracks
        cut = [*frames[:5], frames[5][:60]], [*masks[:5], masks[5][:60]]
        for given, others, rows, sentence in (
            (frames, masks[:5], tracks, "6 frames and 5 masks: give at least one, and a mask for each"),
            (*cut, None, "the frames are of (1, 60, 72) and (1, 64, 72); give frames of one size"),
            (frames, masks, [(1, 0, 5)], "tracks: are whole numbers (N, 4), label, first and last frame, parent or 0"),
            (frames, masks, [(1, 0, 5, 0)], "tracks contradict the masks or each other"),
            (frames, None, None, "arrays of frames need their masks"),
        ):
            with pytest.raises(UserError) as caught:
                cytoforge.train_tracker(given, others, rows, steps=1, **TINY)
            assert sentence in str(caught.value) and "/" not in str(caught.value)


class TestRuns:
    def test_a_temporary_run_lives_as_long_as_its_model(self, phantoms: Pairs) -> None:
        model = cytoforge.train_segmenter(*phantoms, steps=1, **TINY)
        run = model.run
        assert (run / "report.html").exists() and model.judgement is not None
        assert repr(model) == f"<Segmenter of {run}: {model.judgement.headline}>"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del model
            gc.collect()
        assert not run.exists() and not run.parent.exists()

    def test_a_copy_stays_and_is_the_same(
        self, segmenter: cytoforge.Segmenter, phantoms: Pairs, tmp_path: Path
    ) -> None:
        saved = segmenter.save(tmp_path / "deep" / "run")
        again = cytoforge.Segmenter.load(str(saved))
        assert again.fingerprint == segmenter.fingerprint and again.run != segmenter.run
        assert np.array_equal(again.segment(phantoms[0][0]), segmenter.segment(phantoms[0][0]))
        assert [path.name for path in saved.parent.iterdir()] == ["run"]
        with pytest.raises(UserError, match="exists already; choose another folder"):
            segmenter.save(saved)

    def test_a_copy_spares_what_lies_beside_it(self, segmenter: cytoforge.Segmenter, tmp_path: Path) -> None:
        own = tmp_path / "run.part" / "notes.txt"
        own.parent.mkdir()
        own.write_text("mine")
        segmenter.save(tmp_path / "run")
        assert own.read_text() == "mine" and len(list(tmp_path.iterdir())) == 2

    def test_copies_that_are_refused(self, segmenter: cytoforge.Segmenter, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for place, sentence in (
            (tmp_path / "file" / "run", "file: exists already; choose another name"),
            (tmp_path / "link", "exists already; choose another folder"),
            (segmenter.run / "copy", "lies in the run folder that is to be copied; choose another folder"),
        ):
            with pytest.raises(UserError, match=sentence):
                segmenter.save(place)
        copied = cytoforge.Segmenter.load(segmenter.save(tmp_path / "run"), threads=1)
        copied.run.rename(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="is gone, so it cannot be copied"):
            copied.save(tmp_path / "again")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "file", "link"]

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"threads": -1}, "threads=-1: takes a whole number of at least 1 or none"),
            ({"threads": "2"}, "threads='2': takes a whole number"),
            ({"device": "gpu"}, "device='gpu': takes auto, cpu, cuda"),
        ],
    )
    def test_computers_that_are_refused(
        self, values: dict[str, Any], sentence: str, segmenter: cytoforge.Segmenter, tracker: cytoforge.Tracker
    ) -> None:
        for model in (segmenter, tracker):
            assert model.run is not None
            with pytest.raises(UserError, match=sentence):
                model.load(model.run, **values)

    @pytest.mark.parametrize(
        ("name", "values", "sentence"),
        [
            ("laptrack", {"gap": -1}, "gap=-1: takes a whole number of at least 0 or none"),
            ("overlap", {"gap": 1.5}, "gap=1.5: takes a whole number"),
            ("laptrack", {"distance": float("nan")}, "distance=nan: takes a number above 0 or none"),
            ("laptrack", {"distance": "far"}, "distance='far': takes a number above 0 or none"),
            ("overlap", {"distance": 3}, "distance=3: belongs to laptrack, btrack, not to overlap; leave it out"),
            ("a-run", {"gap": 1}, "gap=1: belongs to overlap, laptrack, btrack, not to a-run; leave it out"),
        ],
    )
    def test_settings_of_trackers_that_are_refused(self, name: str, values: dict[str, Any], sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            cytoforge.Tracker.load(name, **values)

    def test_draws_that_are_refused(
        self, painter: cytoforge.ImageGenerator, filmer: cytoforge.MovieGenerator, film: Any
    ) -> None:
        masks = film[1].labels
        with pytest.raises(UserError, match="style_mixing=2: give a number from 0 to 1"):
            painter.paint(masks[0], style_mixing=2)
        with pytest.raises(UserError, match="style_mixing=-1: give a number from 0 to 1"):
            filmer.film(masks[:1], style_mixing=-1)
        with pytest.raises(UserError, match="seed=-1: give 0 or more"):
            filmer.film(masks[:1], seed=-1)

    def test_every_model_is_saved_and_loaded(
        self,
        painter: cytoforge.ImageGenerator,
        filmer: cytoforge.MovieGenerator,
        tracker: cytoforge.Tracker,
        film: Any,
        tmp_path: Path,
    ) -> None:
        masks = film[1].labels
        paint = cytoforge.ImageGenerator.load(painter.save(tmp_path / "painter")).paint(masks[0])
        assert np.array_equal(paint, painter.paint(masks[0]))
        frames = cytoforge.MovieGenerator.load(filmer.save(tmp_path / "filmer")).film(masks[:2])
        assert np.array_equal(frames, filmer.film(masks[:2]))
        found = cytoforge.Tracker.load(tracker.save(tmp_path / "tracker")).track(masks, film[0])
        assert np.array_equal(found.labels, tracker.track(masks, film[0]).labels)
        assert len({painter, filmer, tracker}) == 3  # models can be kept in sets and compared
        with pytest.raises(UserError, match="holds no segmenter, only"):
            cytoforge.Segmenter.load(tmp_path / "painter")

    def test_a_run_with_a_place_is_kept_and_not_replaced_unasked(self, phantoms: Pairs, tmp_path: Path) -> None:
        out = tmp_path / "run"
        first = cytoforge.train_segmenter(*phantoms, steps=1, out=str(out), **TINY)
        assert first.run == out
        del first
        gc.collect()
        stored = json.loads((out / "config.json").read_text())["training"]["data"]
        assert "path" not in stored and len(stored["arrays"]) == 64
        with pytest.raises(UserError, match="holds this run, finished"):
            cytoforge.train_segmenter(*phantoms, steps=1, out=out, **TINY)
        cytoforge.train_segmenter(*phantoms, steps=2, out=out, overwrite=True, **TINY)
        assert Run.open(out).provenance["steps"] == 2

    @pytest.mark.parametrize("stopped", [KeyboardInterrupt, Interrupted])
    def test_an_interrupted_run_goes_on_with_the_same_call(
        self, stopped: type[BaseException], phantoms: Pairs, tmp_path: Path
    ) -> None:
        def stop(share: float, note: str) -> None:
            if share >= 0.5:
                raise stopped("stopped")

        with pytest.raises(stopped):
            cytoforge.train_segmenter(*phantoms, steps=6, out=tmp_path / "run", progress=stop, **TINY)
        assert not Run.open(tmp_path / "run").finished
        with pytest.raises(UserError, match="holds a run with another data;"):
            cytoforge.train_segmenter(phantoms[0][::-1], phantoms[1][::-1], steps=6, out=tmp_path / "run", **TINY)
        told: list[float] = []
        model = cytoforge.train_segmenter(
            *phantoms, steps=6, out=tmp_path / "run", progress=lambda share, note: told.append(share), **TINY
        )
        whole = cytoforge.train_segmenter(*phantoms, steps=6, **TINY)
        assert told[0] > (0.5 if stopped is Interrupted else 1 / 6)  # no step is lost, or those since the last save
        assert weights(model.run) == weights(whole.run)

    @pytest.mark.parametrize("stopped", [KeyboardInterrupt, Interrupted])
    def test_without_a_place_nothing_is_left(
        self, stopped: type[BaseException], phantoms: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        def stop(share: float, note: str) -> None:
            assert list(tmp_path.iterdir())
            raise stopped("all is saved")

        with pytest.raises(stopped) as caught:
            cytoforge.train_segmenter(*phantoms, steps=6, progress=stop, **TINY)
        assert list(tmp_path.iterdir()) == []
        if stopped is Interrupted:
            assert str(caught.value) == "stopped, nothing is kept; give out= a folder to go on another time"


class TestPlaces:
    """Notebooks and servers: other threads, running event loops, nothing printed, nobody thrown out."""

    def elsewhere(self, work: Callable[[], Any]) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(work()))
        thread.start()
        thread.join()
        return found[0]

    def test_in_another_thread(self, phantoms: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
        def work() -> tuple[bytes, Array]:
            model = cytoforge.train_segmenter(*phantoms, steps=3, **TINY)
            return weights(model.run), model.segment(phantoms[0][0])

        learned, found = self.elsewhere(work)
        here = cytoforge.train_segmenter(*phantoms, steps=3, **TINY)
        assert learned == weights(here.run) and np.array_equal(found, here.segment(phantoms[0][0]))
        assert capsys.readouterr().out == ""

    def test_under_a_running_event_loop(self, phantoms: Pairs) -> None:
        async def cell() -> Array:
            await asyncio.sleep(0)
            return cytoforge.train_segmenter(*phantoms, steps=1, **TINY).segment(phantoms[0][0])

        assert asyncio.run(cell()).shape == (80, 96)

    def test_nothing_is_printed(self, film: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model = cytoforge.train_movie_generator(film[0], film[1].labels, steps=1, **TINY)
        model.film(film[1].labels[:1])
        tracker = cytoforge.train_tracker(film[0], film[1].labels, steps=1, **TINY)
        tracker.track(film[1].labels, film[0])
        tracker.save(tmp_path / "saved")
        cytoforge.score_segmentation(film[1].labels, film[1].labels)
        cytoforge.simulate_masks(count=1, size=(64, 64))
        printed = capsys.readouterr()
        assert printed.out == "" and "train movie 100%" in printed.err


class TestSeeds:
    def test_masks_to_be_like_may_come_one_by_one(self, phantoms: Pairs) -> None:
        given, once = phantoms[1], iter(phantoms[1])
        expected = cytoforge.simulate_masks(given, 2, size=(48, 48))
        assert np.array_equal(cytoforge.simulate_masks(once, 2, size=(48, 48)), expected)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "work",
        [
            lambda seed: cytoforge.simulate_masks(size=(48, 48), seed=seed),
            lambda seed: cytoforge.simulate_movie(frames=2, size=(48, 48), seed=seed),
            lambda seed: cytoforge.score_segmentation(squares(), squares(), seed=seed),
        ],
    )
    @pytest.mark.parametrize("seed", [-1, 1.5, "one", None])
    def test_seeds_that_are_refused(self, work: Callable[[Any], Any], seed: Any) -> None:
        with pytest.raises(UserError, match="takes a whole number of at least 0"):
            work(seed)

    def test_counts_that_are_refused(self) -> None:
        for count in (-1, 1.5, "two"):
            with pytest.raises(UserError, match=r"count=.*: takes a whole number of at least 0"):
                cytoforge.simulate_masks(count=count)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"frames=1.5: takes a whole number"):
            cytoforge.simulate_movie(frames=1.5)  # type: ignore[arg-type]


class TestScoring:
    def test_a_perfect_and_an_empty_prediction(self) -> None:
        true = [squares(), squares(side=8)]
        perfect = cytoforge.score_segmentation(true, true)
        assert perfect.mean["f_score"][0].value == 1 and perfect.dice.value == 1
        nothing = cytoforge.score_segmentation(np.zeros_like(true[0]), true[0])
        assert nothing.mean["f_score"][0].value == 0 and nothing.truth_cells == 16
        half = cytoforge.score_segmentation(np.stack([true[0], 0 * true[1]]), np.stack(true))
        assert half.mean["recall"][0].value == pytest.approx(0.5) and list(half.images) == ["0000", "0001"]

    @pytest.mark.parametrize(
        ("predicted", "true", "sentence"),
        [
            ([squares()], [squares(), squares()], "1 predicted and 2 true masks: give one for each"),
            ([], [], "0 predicted and 0 true masks"),
            (squares(), squares((32, 32)), "mask 0: is predicted (64, 64) and truly (32, 32); give masks of one size"),
            (squares() * 0.3, squares(), "predicted mask 0: holds fractions or NaN"),
            (squares(), -squares(), "true mask 0: cell ids run from -16 to 0"),
            (
                [squares(), squares()],
                [squares(), 255 * (squares() > 0)],
                "true mask 1: one value (255) for 16 separate regions: a binary mask; number the cells 1, 2, 3 ...: "
                'skimage.measure.label does it where cells do not touch, or protocol="paper", which scores connected '
                "components",
            ),
            (squares() > 0, squares(), "predicted mask 0: one value (1) for 16 separate regions: a binary mask"),
            (squares(), 1 + squares() % 2, "true mask 0: "),
            (squares(), squares(), "protocol='pixels': takes instances, paper"),
        ],
    )
    def test_what_cannot_be_scored(self, predicted: Any, true: Any, sentence: str) -> None:
        protocol: Any = "pixels" if sentence.startswith("protocol") else "instances"
        with pytest.raises(UserError) as caught:
            cytoforge.score_segmentation(predicted, true, protocol=protocol)
        assert sentence in str(caught.value)

    def test_binary_masks_are_scored_by_connected_components_as_the_command_does(self, tmp_path: Path) -> None:
        true = [255 * (labels > 0).astype(np.uint8) for labels in (squares(), squares(side=8))]
        found = [true[0], np.where(squares(side=8) > 8, 255, 0)]
        for side, masks in (("truth", true), ("found", found)):
            for number, mask in enumerate(masks):
                write_labels(tmp_path / side / "masks" / f"{number}.png", mask)
        result = tmp_path / "result.json"
        line = f"score segmentation {tmp_path / 'found'} {tmp_path / 'truth'} --protocol paper --json {result}"
        assert main(line.split()) == 0
        scores = cytoforge.score_segmentation(found, true, protocol="paper")
        assert (scores.truth_cells, scores.predicted_cells) == (32, 24)
        assert json.loads(result.read_text())["mean"]["f_score"][0]["value"] == scores.mean["f_score"][0].value

    def test_what_a_short_training_finds_is_scored_however_it_looks(self) -> None:
        everywhere = np.where(squares() == 1, 2, 1)  # a cell in place of the background
        assert cytoforge.score_segmentation(everywhere, squares()).predicted_cells == 2
        with pytest.raises(UserError, match="true mask 0: the value 1 takes the place of the background"):
            cytoforge.score_segmentation(squares(), everywhere)


class TestSimulating:
    def test_masks_like_others_and_of_a_model(self, phantoms: Pairs) -> None:
        found = cytoforge.simulate_masks(phantoms[1], 3, size=(70, 90), density=6.0, seed=2)
        assert [labels.shape for labels in found] == [(70, 90)] * 3 and found[0].dtype == np.int32
        assert not np.array_equal(found[0], found[1])
        assert np.array_equal(found[1], cytoforge.simulate_masks(phantoms[1], 2, size=(70, 90), density=6, seed=2)[1])
        (single,) = cytoforge.simulate_masks(phantoms[1][0], size=(70, 90), density=6)
        assert 1 <= single.max() <= 6
        (model,) = cytoforge.simulate_masks(size=(128, 128), density=0.1, diameter=20)
        areas = np.bincount(model.ravel())[1:]
        assert 10 < 2 * np.sqrt(np.median(areas) / np.pi) < 30
        assert cytoforge.simulate_masks(count=0) == []

    def test_a_movie_agrees_with_its_tracks(self, film: Any) -> None:
        movie = film[1]
        for label, begin, end, _ in movie.tracks:
            there = [frame for frame, labels in enumerate(movie.labels) if (labels == label).any()]
            assert (there[0], there[-1]) == (begin, end)
        again = cytoforge.simulate_movie(frames=6, size=(64, 72), density=0.25, diameter=14, seed=1)
        assert np.array_equal(again.labels, movie.labels)

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"density": 0}, "density"),
            ({"density": -1}, "density"),
            ({"layout": "circle"}, "layout"),
            ({"size": (0, 64)}, "size"),
            ({"like": np.ones((32, 32), int)}, "every cell of the masks is cut by the edge of its image, or tiny"),
            ({"like": [np.full((32, 32), 0.5)]}, "mask 0: holds fractions"),
            ({"diameter": 0}, "diameter=0: takes a number above 0"),
        ],
    )
    @pytest.mark.parametrize("what", ["simulate_masks", "simulate_movie"])
    def test_what_cannot_be_simulated(self, what: str, values: dict[str, Any], sentence: str) -> None:
        with pytest.raises(UserError) as caught:
            getattr(cytoforge, what)(**values)
        assert sentence in str(caught.value)
