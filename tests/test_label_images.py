"""Which arrays are label images: cells numbered one by one, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.measure import label

from conftest import picture, squares
from cytoforge.cli import main
from cytoforge.data.images import read_labels, write_image, write_labels
from cytoforge.data.label_check import check_label_files
from cytoforge.errors import UserError
from cytoforge.metrics.label_images import judge, traits
from cytoforge.simulation.phantom import phantom

PHANTOMS = [phantom(seed)[1] for seed in range(4)]


def kinds(*images: np.ndarray) -> list[str | None]:
    """The verdicts on a set of images, by kind."""
    return [verdict and verdict.kind for verdict in judge([traits(image.astype(np.int32)) for image in images])]


def kind(image: np.ndarray) -> str | None:
    """The verdict on an image alone."""
    return kinds(image)[0]


def core(labels: np.ndarray) -> np.ndarray:
    """Pixels of cells whose neighbours all are of the same cell."""
    return (labels > 0) & (ndimage.minimum_filter(labels, 3) == labels) & (ndimage.maximum_filter(labels, 3) == labels)


def blank(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """60 x 60 pixels with boxes (id, top, left, height, width)."""
    labels = np.zeros((60, 60), np.int32)
    for number, top, left, height, width in boxes:
        labels[top : top + height, left : left + width] = number
    return labels


OTHER = {
    "one value": (lambda labels: labels > 0, "binary"),
    "black and white": (lambda labels: 255 * (labels > 0), "binary"),
    "inverted": (lambda labels: 255 * (labels == 0), "background"),
    "ilastik": (lambda labels: np.where(labels, 1, 2), "classes"),
    "ilastik, background first": (lambda labels: np.where(labels, 2, 1), "classes"),
    "core and border": (lambda labels: np.where(core(labels), 1, np.where(labels, 2, 0)), "classes"),
    "core, border, background": (lambda labels: np.where(core(labels), 1, np.where(labels, 2, 3)), "classes"),
    "two types of cells": (lambda labels: np.where(labels, 1 + labels % 2, 0), "classes"),
    "background 65535": (lambda labels: np.where(labels, labels, 65535), "background"),
    "background 1": (lambda labels: labels + 1, "background"),
    "no numbers but grey values": (
        lambda labels: 100 + 30 * (labels > 0) + np.random.default_rng(0).integers(0, 20, labels.shape),
        "picture",
    ),
    "smoothed": (lambda labels: np.round(ndimage.gaussian_filter(9.0 * labels, 2)), "interpolated"),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_label_image_is_told(name: str) -> None:
    change, wanted = OTHER[name]
    for labels in PHANTOMS:
        assert kind(np.asarray(change(labels))) == wanted
    assert kinds(*(np.asarray(change(labels)) for labels in PHANTOMS)) == [wanted] * len(PHANTOMS)


def test_one_value_for_several_regions_is_a_binary_mask() -> None:
    labels = np.zeros((30, 30), np.int32)
    assert kind(labels) is None
    labels[2:12, 2:12] = 7
    assert kind(labels) is None  # one cell
    labels[12:22, 12:22] = 7
    assert kind(labels) is None  # its halves touch at a corner
    labels[25, 25] = 7
    assert kind(labels) is None  # a stray pixel is no cell
    labels[23:28, 2:8] = 7
    assert kind(labels) == "binary"
    labels[23:28, 2:8] = 8
    assert kind(labels) is None


def test_torn_cells_are_cells() -> None:
    torn = blank((1, 5, 5, 20, 9), (1, 5, 15, 20, 9), (1, 26, 5, 6, 20))  # three pieces, a pixel apart
    assert kind(torn) is None
    assert kinds(torn, torn.T, torn[::-1]) == [None] * 3  # nor a movie of such a cell
    assert kind(torn + 2 * blank((1, 40, 30, 10, 6), (1, 40, 37, 10, 6))) is None
    assert kind(blank((1, 0, 5, 10, 12), (1, 0, 40, 10, 12))) is None  # its middle lies beyond the edge
    assert kind(blank((1, 5, 5, 12, 12), (1, 40, 40, 12, 12))) == "binary"  # too far from each other
    assert kind(blank((255, 5, 5, 20, 9), (255, 5, 15, 20, 9))) == "binary"  # white: no program's first number


def test_few_cells_are_cells() -> None:
    one, two = blank((1, 10, 10, 20, 20)), blank((1, 5, 5, 12, 12), (2, 40, 40, 12, 12))
    assert kinds(one, two, two[::-1], blank()) == [None] * 4
    assert kind(np.ones((40, 40))) is None  # a cell that fills the image
    assert kind(two + 1) == "background"
    quarters = np.kron([[1, 2], [3, 4]], np.ones((20, 20)))
    assert kind(quarters) is None  # no pixel is background
    assert kind(squares((80, 80), 8, 8)) is None  # tissue: hundreds of cells, and nothing else


def test_a_set_tells_what_an_image_does_not() -> None:
    # pieces that could be those of a torn cell
    near = [blank((1, 5 + k, 5, 12, 12), (1, 5 + k, 20, 12, 12), (1, 40, 5 + k, 12, 12)) for k in range(4)]
    cut = [blank((1, 0, 5 + k, 9, 12), (1, 0, 40 - k, 9, 12)) for k in range(4)]
    assert [kind(image) for image in cut] == [None] * 4
    assert kinds(*cut) == ["binary"] * 4
    assert kinds(*near, *cut) == ["binary"] * 8
    assert kinds(*cut, squares((60, 60))) == [None] * 5  # another image numbers its cells
    classes = [np.where(image, image, 2 * image.T) for image in cut]
    assert [kind(image) for image in classes] == [None] * 4
    assert kinds(*classes) == ["classes"] * 4


def test_wrapped_ids_are_told_by_the_type_of_the_file() -> None:
    labels = squares((256, 256), 4, 8)
    labels[labels > 600] = 0
    wrapped = np.where(labels, (labels - 1) % 255 + 1, 0)
    for stored, wanted in ((np.uint8, "wrapped"), (np.uint16, None)):
        (verdict,) = judge([traits(wrapped, stored)])
        assert (verdict and verdict.kind) == wanted


def test_large_ids_take_no_memory() -> None:
    assert kind(np.where(PHANTOMS[0], 2**31 - 1 - PHANTOMS[0].astype(np.int64), 0)) is None


def test_the_words_name_values_and_the_way_out() -> None:
    (verdict,) = judge([traits(np.where(PHANTOMS[0], 1, 2).astype(np.int32))])
    assert verdict is not None
    assert verdict.what.startswith("its only values (1, 2) stand for ")
    assert "skimage.measure.label(mask == 1) if 1 is their class" in verdict.remedy
    (verdict,) = judge([traits(np.where(PHANTOMS[0], PHANTOMS[0], 65535))])
    assert verdict is not None and "mask[mask == 65535] = 0" in verdict.remedy


@pytest.mark.parametrize("scale", [1, 0.5, 2])
def test_phantoms_are_label_images(scale: float) -> None:
    for labels in PHANTOMS:
        size = [round(side * scale) for side in labels.shape]
        nearest = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size[::-1], Image.Resampling.NEAREST))
        assert kind(nearest) is None
        crops = [nearest[top : top + 40, left : left + 40] for top in (0, 30) for left in (0, 30)]
        assert kinds(*crops) == [None] * 4


COMMANDS = (
    "train segmentation {data} --out {out}",
    "train segmentation {movie} --out {out}",
    "train generator {data} --condition instances --out {out}",
    "train movie {movie} --condition instances --out {out}",
    "train tracker {movie} --out {out}",
    "score segmentation {data} {good}",
    "score segmentation {good} {data}",
    "score tracking {movie} {goodmovie}",
    "score tracking {goodmovie} {movie}",
    "track overlap {movie} --out {out}",
    "import movie {stack} --masks {stack} --out {out}",
    "import tracks {table} --masks {movie} --out {out}",
    "export {movie} --format features --out {out}",
    "simulate masks --like {data} --out {out}",
    "simulate movie --like {movie} --out {out}",
    "study training {data} --out {out}",
    "study tracking {movie} --out {out}",
)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset and a movie whose masks are binary, the same with numbered cells, a stack of the masks, and tracks."""
    top = tmp_path_factory.mktemp("binary")
    places = {name: top / name for name in ("data", "good", "movie", "goodmovie", "stack", "table", "out")}
    places |= {"stack": top / "stack.tif", "table": top / "table.csv"}
    numbered = squares((64, 64), 12, 20)
    pixels = [np.roll(picture(numbered, seed=k), k, axis=2) for k in range(8)]
    for data, movie, labels in (("data", "movie", (numbered > 0) * 255), ("good", "goodmovie", numbered)):
        for k, image in enumerate(pixels):
            mask = np.roll(labels, k, axis=1)
            write_image(places[data] / "images" / f"i{k}.png", image)
            write_labels(places[data] / "masks" / f"i{k}.png", mask)
            write_image(places[movie] / "01" / f"t{k:03d}.tif", image)
            write_labels(places[movie] / "01_GT" / "TRA" / f"man_track{k:03d}.tif", mask)
        rows = [f"{number} 0 7 0\n" for number in np.unique(labels[labels > 0])]
        (places[movie] / "01_GT" / "TRA" / "man_track.txt").write_text("".join(rows))
    frames = np.stack([(numbered > 0).astype(np.uint8) * 255] * 4)
    tifffile.imwrite(places["stack"], frames, photometric="minisblack", metadata={"axes": "TYX"})
    places["table"].write_text("track_id,t,y,x\n1,0,5,5\n1,1,5,5\n")
    return places


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_refuses_what_is_no_label_image(
    line: str, binary: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.format(**binary).split()) == 2
    said = capsys.readouterr().err
    assert "one value (255) for 9 separate regions: a binary mask; number the cells 1, 2, 3" in said
    assert str(binary["stack"] if "stack" in line else binary["movie" if "{movie}" in line else "data"]) in said
    assert not binary["out"].exists()


def test_binary_masks_serve_where_cells_are_not_told_apart(
    binary: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for sides in ("{data} {good}", "{good} {data}"):
        assert main(f"score segmentation {sides} --protocol paper".format(**binary).split()) == 0
        assert "mean over 8 images" in capsys.readouterr().out


def test_long_sets_are_judged_by_a_sample(tmp_path: Path) -> None:
    tmp_path = tmp_path / "found" / "masks"
    for number in range(100):
        labels = squares((48, 48), 6, 9)
        write_labels(tmp_path / f"m{number:03d}.png", np.minimum(labels, 1) if number in (1, 99) else labels)
    files = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"m099\.png: one value \(1\) for 25 separate regions"):
        check_label_files(files)
    check_label_files(files[:-1])  # the second is passed over
    check_label_files([])
    (tmp_path.parent / "segment.json").write_text("{}")  # masks that a network found are numbered, if badly
    check_label_files(files)
    (tmp_path.parent / "segment.json").unlink()
    check_label_files(files[-1:], binary=True)
    write_labels(files[-1], np.where(squares((48, 48), 6, 9), 1, 2))
    with pytest.raises(UserError, match="a map of classes"):
        check_label_files(files, binary=True)


@pytest.mark.parametrize("folder", ["usiigaci/val/masks", "dsb256/val/masks", "u373/02_GT/SEG", "hela/01_ST/SEG"])
def test_real_label_images_are_told_from_what_can_be_made_of_them(real_data: Path, folder: str) -> None:
    files = sorted((real_data / folder).iterdir())[::8]
    labels = [read_labels(file) for file in files if file.suffix in (".png", ".tif")]
    assert kinds(*labels) == [kind(image) for image in labels] == [None] * len(labels)
    for name in ("one value", "ilastik", "core and border", "background 65535"):
        change, _ = OTHER[name]
        assert None not in kinds(*(np.asarray(change(image)) for image in labels))
    assert None not in [kind(np.where(label(image > 0), 1, 2)) for image in labels]
