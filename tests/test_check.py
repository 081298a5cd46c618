"""Each kind of mistake is made once and must be found; good data must be left in peace."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import picture, squares
from cytoforge.cli import main
from cytoforge.commands.check import Finding, check, check_command, report, survey
from cytoforge.data.dataset import Dataset, parts
from cytoforge.data.images import read_labels, write_image, write_labels
from cytoforge.data.movie import MovieWriter
from cytoforge.errors import UserError
from cytoforge.metrics.label_images import INTERPOLATED, interpolated_share, traits
from cytoforge.settings import Check
from cytoforge.simulation.phantom import phantom


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def discs(shape: tuple[int, int], radius: int, pitch: int) -> np.ndarray:
    """Labels of discs in rows, ids 3, 6, 9 ... so that ramps between ids have room."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = (y % pitch - pitch // 2) ** 2 + (x % pitch - pitch // 2) ** 2 <= radius**2
    return np.where(inside, 3 * (1 + y // pitch * math.ceil(shape[1] / pitch) + x // pitch), 0).astype(np.int32)


# facts


def test_good_data_are_left_in_peace(tiny_dataset: Path, tiny_movie: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command(Check(tiny_dataset)) == 0
    assert capsys.readouterr().out == (
        f"{tiny_dataset}: 6 pairs of image and mask (6 images, 6 masks)\n"
        "    images: 64 x 64 px, uint8, 1 channel\n"
        "    masks: uint16, 16 to 16 cells an image (median 16), 13.5 px across (median)\n"
        "0 errors, 0 warnings\n"
    )
    assert check(Check(tiny_movie)) == []
    assert survey(Check(tiny_movie, ("02",))).facts[0].pairs == 5


def test_facts_as_json(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tiny_dataset / "images" / "lone.png", picture(squares((40, 50)), 9))
    assert check_command(Check(tiny_dataset, json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    facts = told["datasets"][0]
    assert (facts["images"], facts["masks"], facts["pairs"]) == (7, 6, 6)
    assert facts["sizes"] == {"64 x 64": 6, "40 x 50": 1}
    assert (facts["cells"], facts["channels"], facts["diameter"]) == ([16] * 6, {"1": 7}, 13.5)
    assert told["scale"] is None
    assert told["findings"][0]["what"] == "has no mask"


@pytest.mark.parametrize(("side", "scale"), [(19, None), (20, 0.71), (45, 0.32)])
def test_scale_is_proposed_for_large_cells_only(tmp_path: Path, side: int, scale: float | None) -> None:
    # a square of 19 pixels has the area of a circle 21.4 across, within 1.4 times 16
    write_labels(tmp_path / "masks" / "a.png", squares((100, 100), side, 50))
    found = survey(Check(tmp_path))
    assert found.scale == scale
    assert found.facts[0].diameter == round(2 * side / math.sqrt(math.pi), 1)
    assert any("--scale" in line for line in report(found)) == (scale is not None)


def test_datasets_in_one_folder_are_looked_through_together(tmp_path: Path, tiny_dataset: Path) -> None:
    copy = tmp_path / "val" / "images" / "copy.png"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((tiny_dataset / "images" / "cell_4.png").read_bytes())
    finding = only(check(Check(tmp_path)))
    assert finding.file == str(copy)
    assert finding.what.endswith("cell_4.png")


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing: does not exist"):
        check(Check(tmp_path / "missing"))
    with pytest.raises(UserError, match="holds no files"):
        check(Check(tmp_path))


# images


def test_unreadable_files(tiny_dataset: Path) -> None:
    (tiny_dataset / "images" / "cell_0.png").write_bytes(b"")
    (tiny_dataset / "masks" / "cell_1.png").write_bytes(b"text")
    first, second = check(Check(tiny_dataset))
    assert first == Finding(
        "error", str(tiny_dataset / "images" / "cell_0.png"), "the file is empty", "export it again"
    )
    assert second.file.endswith("cell_1.png")
    assert second.severity == "error"


def test_no_sizes_are_told_where_no_image_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: 0 pairs of image and mask (1 image, 0 masks)",
        f"error: {tmp_path / 'images' / 'a.png'}: the file is empty",
        "    export it again",
        "1 error, 0 warnings",
    ]


def test_blank_and_nan_images(tiny_dataset: Path) -> None:
    for name in ("cell_0", "cell_1"):
        write_image(tiny_dataset / "images" / f"{name}.png", np.zeros((1, 64, 64), np.uint8))
    (tiny_dataset / "images" / "cell_2.png").unlink()
    values = picture(squares(), 77).astype(np.float32)
    values[0, :2, 0] = np.nan
    write_image(tiny_dataset / "images" / "cell_2.tif", values)
    findings = check(Check(tiny_dataset))
    assert {finding.severity for finding in findings} == {"warning"}
    blank = "one grey value all over"
    assert [finding.what for finding in findings] == [blank, blank, "2 pixels are NaN or infinite"]


def test_the_same_picture_in_another_file_format(tiny_dataset: Path) -> None:
    write_image(tiny_dataset / "images" / "again.tif", picture(squares(), 3))
    write_labels(tiny_dataset / "masks" / "again.tif", squares())
    finding = only(check(Check(tiny_dataset)))
    assert finding.severity == "warning"
    assert finding.what == f"the same picture as {tiny_dataset / 'images' / 'again.tif'}"


def test_mixed_channels(tiny_dataset: Path) -> None:
    (tiny_dataset / "images" / "cell_0.png").unlink()
    write_image(tiny_dataset / "images" / "cell_0.tif", np.repeat(picture(squares(), 0), 2, axis=0))
    assert only(check(Check(tiny_dataset))).what == "images have different numbers of channels (5 of 1 and 1 of 2)"


def test_grey_and_rgb_images_go_together(tiny_dataset: Path) -> None:
    write_image(tiny_dataset / "images" / "cell_0.png", np.repeat(picture(squares(), 0), 3, axis=0))
    assert check(Check(tiny_dataset)) == []


# pairs


def test_sizes_and_partners(tiny_dataset: Path) -> None:
    write_labels(tiny_dataset / "masks" / "cell_0.png", squares((64, 60)))
    (tiny_dataset / "masks" / "cell_1.png").unlink()
    (tiny_dataset / "images" / "cell_2.png").unlink()
    told = [(finding.severity, Path(finding.file).name, finding.what) for finding in check(Check(tiny_dataset))]
    assert told == [
        ("error", "cell_0.png", "is 64 x 60 pixels, its image 64 x 64"),
        ("warning", "cell_1.png", "has no mask"),
        ("warning", "cell_2.png", "has no image"),
    ]


def test_no_pair_at_all(tiny_dataset: Path) -> None:
    for file in (tiny_dataset / "masks").iterdir():
        file.rename(file.with_name("mask_" + file.name))
    findings = [finding for finding in check(Check(tiny_dataset)) if finding.severity == "error"]
    assert only(findings).what == "no image and mask have the same name"


def test_images_or_masks_alone_miss_nothing(tiny_dataset: Path) -> None:
    assert check(Check(tiny_dataset / "images")) == []
    assert check(Check(tiny_dataset / "masks")) == []


# masks


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks(tmp_path: Path, value: int) -> None:
    write_labels(tmp_path / "masks" / "a.png", (squares() > 0) * value)
    finding = only(check(Check(tmp_path)))
    assert finding.severity == "error"
    assert finding.what == f"one value ({value}) for 16 separate regions: a binary mask"
    assert finding.remedy == (
        "number the cells 1, 2, 3 ...: skimage.measure.label does it where cells do not touch (by connected "
        "components; cytoforge check DATA --fix COPY does it), or learn from the masks as they are with train "
        "segmentation --target semantic, for which cells that touch are one"
    )
    assert check_command(Check(tmp_path)) == 1


def test_one_cell_is_no_binary_mask(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[10:40, 10:40] = 1
    write_labels(tmp_path / "masks" / "a.png", labels)
    assert check(Check(tmp_path)) == []
    labels[50:53, 50:53] = 1  # a stray of a hundredth of the cell
    write_labels(tmp_path / "masks" / "a.png", labels)
    assert only(check(Check(tmp_path))).what == "1 id (1) in several pieces, of 1 cell"


@pytest.mark.parametrize("factor", [0.4, 0.75, 1.5, 3])
@pytest.mark.parametrize("method", ["BILINEAR", "BICUBIC", "LANCZOS"])
def test_interpolated_masks(tmp_path: Path, factor: float, method: str) -> None:
    labels = discs((120, 120), radius=11, pitch=30)
    size = (round(120 * factor), round(120 * factor))
    smooth = Image.fromarray(labels.astype(np.float32)).resize(size, Image.Resampling[method])
    write_labels(tmp_path / "masks" / "smooth.png", np.clip(np.round(smooth), 0, None).astype(int))
    nearest = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    write_labels(tmp_path / "masks" / "nearest.png", np.asarray(nearest))
    finding = only(check(Check(tmp_path)))
    assert finding.severity == "error"
    assert finding.file.endswith("smooth.png")
    assert "with interpolation" in finding.what


def test_smoothed_binary_masks_are_interpolated(tmp_path: Path) -> None:
    cells = Image.fromarray(((squares() > 0) * 255).astype(np.uint8)).resize((200, 200), Image.Resampling.BILINEAR)
    write_labels(tmp_path / "masks" / "a.png", np.asarray(cells).astype(int))
    assert "with interpolation" in only(check(Check(tmp_path))).what


@given(st.integers(1, 12), st.integers(0, 3))
def test_label_images_of_any_cell_size_are_not_interpolated(side: int, gap: int) -> None:
    labels = squares((80, 80), side + 1, side + 1 + gap)
    assert interpolated_share(labels) <= INTERPOLATED


def test_interpolated_share_by_hand() -> None:
    assert interpolated_share(np.zeros((5, 5), np.int32)) == 0
    assert interpolated_share(np.array([[0, 4, 8, 8, 8, 2, 0]], np.int32)) == 1 / 2  # ramps 4, 2; borders also 8, 8


def test_fragments(tmp_path: Path) -> None:
    labels = squares()
    labels[2:14, 2:14] = 0
    labels[4, 4] = labels[9, 9] = labels[10, 10] = 1  # the last two touch at a corner: one piece
    write_labels(tmp_path / "masks" / "a.png", labels)
    finding = only(check(Check(tmp_path)))
    assert (finding.severity, finding.what) == ("warning", "1 id (1) in several pieces, of 16 cells")
    assert finding.remedy.endswith(": cytoforge check DATA --fix COPY does that")


def test_ids_that_fill_their_type(tmp_path: Path) -> None:
    labels = squares((256, 256), side=4, pitch=8)
    assert labels.max() >= 600
    wrapped = np.where(labels > 0, (labels - 1) % 255 + 1, 0)
    full = np.where(labels <= 255, labels, 0)
    for name, ids in (("wrapped", wrapped), ("full", full)):
        write_image(tmp_path / "masks" / f"{name}.png", ids.astype(np.uint8)[None])
    write_labels(tmp_path / "masks" / "fine.png", full)
    full_one, wrapped_one = check(Check(tmp_path))
    assert (full_one.severity, full_one.what) == ("warning", "uses all 255 ids that uint8 holds")
    assert wrapped_one.severity == "error"
    assert "ids beyond 255 have wrapped round" in wrapped_one.what


def test_empty_masks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_labels(tmp_path / "masks" / f"{name}.png", np.zeros((8, 8), int))
    findings = check(Check(tmp_path))
    assert [(finding.severity, finding.what) for finding in findings] == [
        ("warning", "holds no cells"),
        ("warning", "holds no cells"),
        ("error", "no mask holds a cell"),
    ]


def test_regions_by_hand() -> None:
    labels = np.array([[7, 7, 0, 2], [0, 0, 7, 2], [5, 0, 0, 0], [0, 0, 7, 7]], np.int32)
    regions = traits(labels).regions
    np.testing.assert_array_equal(regions.ids, [2, 5, 7])
    np.testing.assert_array_equal(regions.areas, [2, 1, 5])
    np.testing.assert_array_equal(regions.pieces, [1, 1, 2])
    assert sorted(regions.sizes) == [1, 2, 2, 3]
    assert traits(np.zeros((3, 3), np.int32)).regions.ids.size == 0


# movies


def test_missing_masks_of_a_movie(tiny_movie: Path) -> None:
    for number in (1, 3):
        (tiny_movie / "02_ST" / "SEG" / f"man_seg{number:03d}.tif").unlink()
    finding = only(check(Check(tiny_movie)))
    assert finding.severity == "error"
    assert finding.file == str(tiny_movie / "02")
    assert finding.what == "masks of ST/SEG are missing for 2 frames (1, 3)"


def test_warns_when_a_hole_makes_a_less_trusted_source_be_used(tiny_movie: Path) -> None:
    shutil.copytree(tiny_movie / "02_ST" / "SEG", tiny_movie / "02_RES")
    for file in (tiny_movie / "02_RES").glob("*.tif"):
        file.rename(file.with_name(file.name.replace("man_seg", "mask")))
    assert check(Check(tiny_movie)) == []
    (tiny_movie / "02_ST" / "SEG" / "man_seg003.tif").unlink()
    finding = only(check(Check(tiny_movie)))
    assert finding.severity == "warning"
    assert finding.what == "masks of ST/SEG are missing for 1 frame (3), so that RES is used"
    for number in (0, 1, 2):  # a few frames only are no oversight
        (tiny_movie / "02_ST" / "SEG" / f"man_seg{number:03d}.tif").unlink()
    assert check(Check(tiny_movie)) == []


def test_tracks_without_masks_and_masks_without_tracks(tiny_movie: Path) -> None:
    file = tiny_movie / "01_GT" / "TRA" / "man_track.txt"
    file.write_text("1 0 3 0\n9 4 4 1\n")
    without_mask, without_track = check(Check(tiny_movie))
    assert {without_mask.file, without_track.file} == {str(file)}
    assert without_mask.what == "2 cells (1 in frame 3, 9 in frame 4) in the track file without a mask"
    assert without_track.what == "2 cells (2 in frame 3, 2 in frame 4) in the masks without a track"
    file.write_text("1 0 3\n")
    finding = only(check(Check(tiny_movie)))
    assert finding.what == "line 1: '1 0 3' is not four whole numbers L B E P"
    assert finding.remedy == "mend it"


def test_missing_frames_gaps_and_parents(tiny_movie: Path) -> None:
    for part in ("02/t002", "02_ST/SEG/man_seg002"):
        (tiny_movie / f"{part}.tif").unlink()
    lacking = check(Check(tiny_movie, ("02",)))
    assert [finding.what for finding in lacking] == [
        "1 frame (2) missing from the numbers of frames",
        "1 frame (2) missing from the numbers of ST/SEG",
    ]
    assert all("number what follows a gap as another sequence" in finding.remedy for finding in lacking)
    tra = tiny_movie / "01_GT" / "TRA"
    (tra / "man_track.txt").write_text("1 0 2 7\n2 3 4 2\n")
    write_labels(tra / "man_track001.tif", np.zeros((48, 56), np.int32))
    said = {finding.what: finding for finding in check(Check(tiny_movie, ("01",))) if finding.severity == "error"}
    assert set(said) == {
        "1 cell (1 in frame 1) missing inside a track",
        "1 track (1 of 7) whose parent has no track",
        "1 track (2 of 2) that do not begin after their parent's end",
    }
    assert all(finding.remedy and finding.file == str(tra / "man_track.txt") for finding in said.values())


def test_frames_of_another_size_and_a_part_of_a_movie(tiny_movie: Path) -> None:
    write_image(tiny_movie / "02" / "t003.tif", np.zeros((1, 48, 40), np.uint8))
    said = [finding for finding in check(Check(tiny_movie, ("02",))) if finding.file == str(tiny_movie / "02")]
    assert [finding.what for finding in said] == ["1 frame (3) of another size than the 48 x 56 px of the rest"]
    for part in ("01", "01_ST"):
        with pytest.raises(UserError, match=rf"{part}: is a part of the movie .*movie; give that folder"):
            check(Check(tiny_movie / part))


def test_tracks_without_own_masks_number_the_masks_in_use(tiny_movie: Path) -> None:
    (tiny_movie / "02_RES").mkdir()
    rows = "".join(f"{cell} 0 4 0\n" for cell in range(1, squares((48, 48)).max() + 1))
    (tiny_movie / "02_RES" / "res_track.txt").write_text(rows)
    assert check(Check(tiny_movie)) == []
    (tiny_movie / "02_RES" / "res_track.txt").write_text(rows + "99 0 0 0\n")
    assert only(check(Check(tiny_movie))).what == "1 cell (99 in frame 0) in the track file without a mask"


# text


def test_findings_of_one_kind_are_printed_together(tmp_path: Path) -> None:
    for i in range(5):
        write_labels(tmp_path / "masks" / f"{i}.png", (squares() > 0).astype(int))
    write_labels(tmp_path / "masks" / "9.png", np.zeros((8, 8), int))
    lines = list(report(survey(Check(tmp_path))))
    errors = [line for line in lines if line.startswith("error: ")]
    assert [
        line.rpartition(": ")[0].endswith(f"{i}.png: one value (1) for 16 separate regions")
        for i, line in enumerate(errors[:3])
    ] == [True] * 3
    assert errors[3] == "error: ... and 2 more like these"
    assert lines[-1] == "6 errors, 1 warning"
    assert lines.index(errors[3]) + 1 == lines.index(
        "    number the cells 1, 2, 3 ...: skimage.measure.label does it where cells do not touch (by connected "
        "components; cytoforge check DATA --fix COPY does it), or learn from the masks as they are with train "
        "segmentation --target semantic, for which cells that touch are one"
    )


# real data


@pytest.mark.parametrize(
    ("name", "pairs", "scale"),
    [("usiigaci/val", 5, 0.24), ("dsb256/val", 34, None), ("hela", 46, 0.62)],
)
def test_real_data_are_clean(real_data: Path, name: str, pairs: int, scale: float | None) -> None:
    found = survey(Check(real_data / name))
    assert [finding for finding in found.findings if finding.severity == "error"] == []
    assert (found.facts[0].pairs, found.scale) == (pairs, scale)


def test_real_masks_once_interpolated_are_found(real_data: Path) -> None:
    for name in ("usiigaci", "dsb256"):
        dataset = Dataset.open(parts(real_data / name)[2])
        for item in dataset.items[:5]:
            assert item.mask
            labels = read_labels(item.mask)
            assert interpolated_share(labels) < INTERPOLATED / 5
            half = Image.fromarray(labels.astype(np.float32)).reduce(2)
            assert interpolated_share(np.round(np.asarray(half)).astype(np.int32)) > 2 * INTERPOLATED


def test_tracks_and_divisions_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[5:10, 5:10] = 1
    writer = MovieWriter(tmp_path / "movie")
    writer.add_masks("01", "RES", 0, labels)
    check_command(Check(tmp_path / "movie"))
    assert "sequence 01: no tracks (cytoforge track makes them)" in capsys.readouterr().out
    rows = "1 0 0 0\n2 1 1 1\n3 1 1 1\n"
    (tmp_path / "movie" / "01_RES" / "res_track.txt").write_text(rows)
    check_command(Check(tmp_path / "movie"))
    assert "sequence 01: 3 tracks with 1 division (RES)" in capsys.readouterr().out


def test_a_dataset_whose_writing_was_interrupted_is_not_taken_as_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = phantom(0, (64, 64), 5)
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", image[None])
        write_labels(tmp_path / "masks" / f"{name}.png", labels)
    (tmp_path / "dataset.json").write_text('{"complete": false}')
    assert main(["check", str(tmp_path)]) == 1
    assert "is not finished" in capsys.readouterr().out
    line = ["train", "segmentation", str(tmp_path), "--out", str(tmp_path.with_name("run")), "--steps", "1"]
    assert main(line) == 2
    assert f"{tmp_path}: is not finished; repeat the command that began to write it" in capsys.readouterr().err


# mending


def test_fix_numbers_and_splits_in_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    pieces = squares()
    pieces[2:14, 2:14] = 0
    pieces[2:8, 2:8] = pieces[10:12, 10:14] = 1  # 36 and 8 pixels: two cells
    pieces[13, 2] = 1  # a stray
    smooth = Image.fromarray((discs((120, 120), 11, 30)).astype(np.float32)).resize((90, 90), Image.Resampling.BILINEAR)
    masks = {"binary": (squares() > 0) * 255, "good": squares(), "pieces": pieces}
    masks |= {"smooth": np.round(smooth).astype(int)}
    for name, labels in masks.items():
        write_labels(data / "masks" / f"{name}.png", labels)
    write_image(data / "images" / "good.tif", picture(squares()))
    (data / "dataset.json").write_text('{"pixel_size": 0.5}')
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    line = ["check", str(data), "--fix", str(copy)]
    assert main(line) == 1  # a mask is left that is to be exported anew
    told = capsys.readouterr().out
    assert told.endswith(
        f"{copy}: 1 mask with one value for all cells, numbered by connected components: 16 cells; cells that "
        f"touch are one (binary)\n"
        f"{copy}: 1 mask with cells in pieces: 1 id became 2 cells and 1 stray piece became background (pieces)\n"
        f"{copy}: 1 mask that cannot be mended so, copied unchanged (smooth: {told.rpartition('smooth: ')[2]}"
    )
    assert told.endswith(f"{copy}: 1 mask copied unchanged\n")
    assert {file: file.read_bytes() for file in data.rglob("*") if file.is_file()} == before
    assert np.array_equal(read_labels(copy / "masks" / "binary.png"), squares())
    mended = read_labels(copy / "masks" / "pieces.png")
    expected = pieces.copy()
    expected[10:12, 10:14], expected[13, 2] = 17, 0
    assert np.array_equal(mended, expected)
    for name in ("masks/good.png", "masks/smooth.png", "images/good.tif"):
        assert (copy / name).read_bytes() == (data / name).read_bytes()
    assert json.loads((copy / "dataset.json").read_text())["pixel_size"] == 0.5
    assert main(line) == 2
    assert "holds results already" in capsys.readouterr().err
    (data / "masks" / "smooth.png").unlink()
    assert main([*line, "--overwrite", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["fixed"]) == 3
    assert {finding.what for finding in check(Check(copy))} == {"has no image"}


def test_fix_takes_folders_of_datasets_and_refuses_movies(
    tmp_path: Path, tiny_dataset: Path, tiny_movie: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "val"):
        write_labels(tmp_path / "both" / part / "masks" / "a.png", (squares() > 0).astype(int))
    assert main(["check", str(tmp_path / "both"), "--fix", str(tmp_path / "copy")]) == 0
    assert "0 masks" not in capsys.readouterr().out
    for part in ("train", "val"):
        assert np.array_equal(read_labels(tmp_path / "copy" / part / "masks" / "a.png"), squares())
    capsys.readouterr()
    assert main(["check", str(tiny_movie), "--fix", str(tmp_path / "m")]) == 2
    assert "is a movie, in which tracks name the cells" in capsys.readouterr().err
    assert main(["check", str(tiny_dataset), "--fix", str(tiny_dataset / "m")]) == 2
    assert "lies in" in capsys.readouterr().err and not (tiny_dataset / "m").exists()
