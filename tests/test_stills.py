"""Measures of the cells of still images: by hand, against scikit-image, and as `cytoforge measure` writes them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops

import cytoforge
from cells import THREE_CELLS, draw
from cytoforge.cli import main
from cytoforge.data.images import write_image, write_labels
from cytoforge.data.interchange.tables import harmless
from cytoforge.data.tracks import Calibration
from cytoforge.errors import UserError
from cytoforge.evaluation.cell_groups import GROUPS, POINTS, by_group, figure, page, values
from cytoforge.evaluation.measurement import Measured, Measurement
from cytoforge.metrics.stills import measure_still
from cytoforge.settings import Measure

RNG = np.random.default_rng(0)
PLANE = draw("""
    AA......
    AABB....
    ....C...
    ......D.
    """)


def test_size_edges_and_contacts_by_hand() -> None:
    """A has a side in common with B; C meets B at a corner only, and D no cell; A and D lie at the edge."""
    cells = measure_still(PLANE)
    assert cells["label"].tolist() == [1, 2, 3, 4]
    assert cells["area"].tolist() == [4, 2, 1, 1]
    assert cells["diameter"] == pytest.approx([np.sqrt(16 / np.pi), np.sqrt(8 / np.pi), *[np.sqrt(4 / np.pi)] * 2])
    assert cells["at_edge"].tolist() == [1, 0, 0, 1]
    assert cells["touching"].tolist() == [1, 1, 0, 0]
    assert cells["nearest"] == pytest.approx([np.hypot(0.5, 2), np.hypot(1, 1.5), np.hypot(1, 1.5), np.hypot(1, 2)])


def test_grey_values_by_hand() -> None:
    """Outside of cells every pixel is 10 but for one, so the background is 10; C is a pixel of 7."""
    image = np.full((2, *PLANE.shape), 10.0)
    image[0][PLANE == 1], image[0][PLANE == 3], image[0, 3, 0] = [20, 30, 40, 50], 7, 1000
    cells = measure_still(PLANE, image)
    assert cells["mean_1"].tolist() == [35, 10, 7, 10] and cells["total_1"].tolist() == [140, 20, 7, 10]
    assert cells["min_1"].tolist() == [20, 10, 7, 10] and cells["max_1"].tolist() == [50, 10, 7, 10]
    assert cells["sd_1"] == pytest.approx([np.sqrt(125), 0, 0, 0])
    assert cells["background_1"].tolist() == [10] * 4
    assert cells["corrected_1"].tolist() == [25, 0, -3, 0] and cells["corrected_total_1"].tolist() == [100, 0, -3, 0]
    assert cells["mean_2"].tolist() == [10] * 4 and "mean_3" not in cells


@pytest.mark.parametrize(
    ("picture", "degrees"),
    [("AAAA", 0), ("A A A A", 90), ("...A ..A. .A.. A...", 45), ("A... .A.. ..A. ...A", 135), ("AA AA", np.nan)],
)
def test_orientation_is_the_angle_above_the_x_axis_as_seen(picture: str, degrees: float) -> None:
    assert measure_still(draw(picture))["orientation"] == pytest.approx([degrees], nan_ok=True)


def test_neighbours_and_density_by_hand() -> None:
    """Cells of a pixel at x 20, 30 and 45 of a wide image: within 10 px the first two see each other."""
    labels = np.zeros((101, 101), np.int32)
    labels[50, [20, 30, 45]] = 1, 2, 3
    cells = measure_still(labels, radius=10.0)
    assert cells["neighbours"].tolist() == [1, 1, 0]
    assert cells["nearest"].tolist() == [10, 10, 15]
    assert cells["density"] == pytest.approx(np.array([2, 2, 1]) / (np.pi * 100), rel=1e-3)
    corner, edge = np.zeros((2, 61, 61), np.int32)
    corner[0, 0] = edge[0, 30] = 1
    whole = np.pi * 400
    for labels, inside in ((corner, whole / 4 + 20 + 0.25), (edge, whole / 2 + 20)):  # half a pixel more on each side
        assert 1 / measure_still(labels, radius=20.0)["density"][0] == pytest.approx(inside, rel=2e-3)
    small = np.ones((4, 5), np.int32)
    assert 1 / measure_still(small, radius=1000.0)["density"][0] == pytest.approx(20)


def test_no_cells_and_one_cell() -> None:
    nothing = measure_still(np.zeros((4, 5), np.int32), np.ones((1, 4, 5)))
    assert all(column.shape == (0,) for column in nothing.values())
    alone = measure_still(np.ones((4, 5), np.int32), np.ones((1, 4, 5)))
    assert list(alone) == list(nothing)
    assert np.isnan([alone["nearest"][0], alone["background_1"][0], alone["corrected_1"][0]]).all()
    assert alone["neighbours"].tolist() == [0] and alone["at_edge"].tolist() == [1]


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_measures_are_those_of_scikit_image(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 30, (count, 2))
    y, x = np.mgrid[:28, :33]
    distance = np.hypot(y[..., None] - centres[:, 0], (x[..., None] - centres[:, 1]) * rng.uniform(0.4, 2))
    labels = np.where(distance.min(axis=2) < 6, 7 * distance.argmin(axis=2) + 3, 0).astype(np.int32)
    image = rng.normal(100, 30, (2, *labels.shape))
    cells = measure_still(labels, image)
    regions = regionprops(labels, np.moveaxis(image, 0, -1))
    assert cells["label"].tolist() == [region.label for region in regions]
    for k, region in enumerate(regions):
        assert cells["diameter"][k] == pytest.approx(region.equivalent_diameter_area)
        assert (cells["y"][k], cells["x"][k]) == pytest.approx(region.centroid)
        for ours, theirs in (("area", "area"), ("perimeter", "perimeter"), ("major_axis", "axis_major_length")):
            assert cells[ours][k] == pytest.approx(getattr(region, theirs))
        for channel in (0, 1):
            pixels = image[channel][labels == region.label]
            for ours, theirs in (("min", pixels.min()), ("max", pixels.max()), ("total", pixels.sum())):
                assert cells[f"{ours}_{channel + 1}"][k] == pytest.approx(theirs)
            assert cells[f"mean_{channel + 1}"][k] == pytest.approx(region.intensity_mean[channel])
        if region.axis_major_length > 1.01 * region.axis_minor_length:
            apart = abs(cells["orientation"][k] - (90 + np.rad2deg(region.orientation))) % 180
            assert min(apart, 180 - apart) == pytest.approx(0, abs=1e-6)


def test_arrays_in_python() -> None:
    image = RNG.integers(0, 255, (2, *THREE_CELLS.shape), np.uint8)
    pixels = cytoforge.measure(image, THREE_CELLS)
    micrometers = cytoforge.measure(np.moveaxis(image, 0, -1), THREE_CELLS, pixel_size=0.5, radius=3.0)
    assert micrometers["area_um2"].tolist() == (0.25 * pixels["area_px2"]).tolist()
    assert micrometers["nearest_um"] == pytest.approx(0.5 * pixels["nearest_px"])
    density = measure_still(THREE_CELLS, radius=6.0)["density"]
    assert micrometers["density_per_mm2"] == pytest.approx(4e6 * density)
    assert pixels["label"].tolist() == [1, 2, 3] and "mean_2" in pixels
    assert "mean_1" not in cytoforge.measure(None, THREE_CELLS)
    with pytest.raises(UserError, match="pixel_size=-1: takes a number from 1e-6 to 1e6"):
        cytoforge.measure(None, THREE_CELLS, pixel_size=-1)
    with pytest.raises(UserError, match="no image of 5 x 12 pixels"):
        cytoforge.measure(np.zeros((4, 4)), THREE_CELLS)


def images(folder: Path, *names: str, **metadata: Any) -> Path:
    """A dataset whose images have the grey value 100 in cells and 10 outside."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    for name in names:
        image = np.where(THREE_CELLS, 100, 10).astype(np.uint16)
        if metadata:
            tifffile.imwrite(folder / "images" / f"{name}.tif", image, imagej=True, **metadata)
        else:
            write_image(folder / "images" / f"{name}.png", image[None])
        write_labels(folder / "masks" / f"{name}.png", THREE_CELLS)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_writes_a_table_a_summary_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = images(tmp_path / "data", "drug_A01", "drug_A02", "none_A03"), tmp_path / "cells.csv"
    write_labels(data / "masks" / "drug_A02.png", np.where(THREE_CELLS == 1, 1, 0).astype(np.int32))
    given = ["measure", str(data), str(data / "masks"), "--out", str(out), "--groups", "(?P<drug>[a-z]+)_"]
    assert main([*given, "--pixel-size", "2"]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 7 cells in 3 images, lengths in micrometers; neighbours within" in said
    table = rows(out)
    assert [(row["image"], row["drug"], row["label"]) for row in table] == [
        *(("drug_A01", "drug", str(k)) for k in (1, 2, 3)),
        ("drug_A02", "drug", "1"),
        *(("none_A03", "none", str(k)) for k in (1, 2, 3)),
    ]
    assert [float(row["area_um2"]) for row in table] == [48, 32, 32, 48, 48, 32, 32]
    assert [float(row["corrected_1"]) for row in table][:3] == [90, 90, 90]
    summary = {(row["drug"], row["measure"]): row for row in rows(tmp_path / "cells-summary.csv")}
    drug = summary["drug", "area_um2"]
    assert (drug["images"], drug["cells"], drug["median"], drug["mean"]) == ("2", "4", "40", "40")
    assert float(drug["sd_of_image_medians"]) == pytest.approx(np.std([32, 48], ddof=1), rel=1e-5)
    assert summary["drug", "cells_per_image"]["mean"] == "2" and summary["none", "cells_per_image"]["sd"] == ""
    assert (tmp_path / "cells-summary.png").read_bytes().startswith(b"\x89PNG")
    html = (tmp_path / "cells.html").read_text(encoding="utf-8")
    assert "7 cells in 3 images of 2 groups; lengths in micrometers." in html
    python = cytoforge.measure(cytoforge.read_image(data / "images" / "drug_A01.png"), THREE_CELLS, pixel_size=2)
    assert list(table[0]) == ["image", "drug", *python]
    assert main(given) == 2
    assert "cells.csv: exists already; choose another name or give --overwrite" in capsys.readouterr().err
    assert main([*given, "--overwrite"]) == 0 and "area_px2" in rows(out)[0]


def test_files_state_their_pixel_size_and_what_belongs_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(tmp_path / "data", "a", "b", resolution=(4, 4), metadata={"unit": "um"})
    out = tmp_path / "cells.csv"
    assert main(["measure", str(data / "images"), str(data), "--out", str(out)]) == 0
    assert float(rows(out)[0]["area_um2"]) == 12 / 16
    images(data, "c")
    assert main(["measure", str(data), str(data), "--out", str(out), "--overwrite"]) == 0
    assert "1 image state no pixel size, so lengths are in pixels; give --pixel-size" in capsys.readouterr().out
    assert float(rows(out)[0]["area_px2"]) == 12
    (data / "dataset.json").write_text('{"pixel_size": 0.5, "groups": {"a": "one"}}')
    assert main(["measure", str(data), str(data), "--out", str(out), "--overwrite", "--radius", "3"]) == 0
    assert "neighbours within 3 um" in capsys.readouterr().out
    assert [row["group"] for row in rows(out)][::3] == ["one", "", ""] and float(rows(out)[0]["area_um2"]) == 3
    single = [str(data / "images" / "a.tif"), str(data / "masks" / "b.png")]
    assert main(["measure", *single, "--out", str(out), "--overwrite"]) == 0
    assert len(rows(out)) == 3


def test_what_cannot_be_measured_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(tmp_path / "data", "a", "b")
    given = ["measure", str(data), str(data), "--out", str(tmp_path / "cells.csv")]

    def said(*arguments: str) -> str:
        assert main([*given, *arguments]) == 2
        return capsys.readouterr().err

    assert "is no regular expression" in said("--groups", "(")
    assert "names no group; write it like" in said("--groups", "[a-z]")
    assert "2 images (a, b) without a match for --groups (?P<well>X)" in said("--groups", "(?P<well>X)")
    for taken in ("label", "image", "measure", "images", "cells", "median", "sd_of_image_medians"):
        assert f"{taken} is a column already" in said("--groups", f"(?P<{taken}>[a-z])")
    images(tmp_path / "long", "a" * 36)
    monkeypatch.setattr("cytoforge.evaluation.measurement.LONGEST", 0.2)
    given[1:3] = [str(tmp_path / "long")] * 2
    assert "takes too long on aaaa" in said("--groups", "(?P<g>(a|a)+)$b")
    given[1:3] = [str(data)] * 2
    for flag in ("--pixel-size", "--radius"):
        assert f"{flag} inf: input should be a finite number" in said(flag, "inf")
        assert f"{flag} 1e+308: must be at least 1e-06 and at most 1e+06" in said(flag, "1e308")
        assert "must be at least 1e-06 and at most 1e+06" in said(flag, "1e-320")
    with pytest.raises(UserError, match="pixel_size=1e-320: takes a number from 1e-6 to 1e6 or none"):
        cytoforge.measure(None, THREE_CELLS, pixel_size=1e-320)
    (data / "masks" / "a.png").rename(data / "masks" / "x.png")
    (data / "masks" / "b.png").unlink()
    assert "no mask has the name of an image of" in said()
    write_labels(data / "masks" / "a.png", np.where(THREE_CELLS, 255, 0))
    assert "one value (255) for 2 separate regions: a binary mask" in said()
    with pytest.raises(UserError, match=r"--out cells: is a table; give a name such as cells\.csv"):
        Measure(data, data, Path("cells"))


def test_no_output_replaces_an_image_that_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = images(tmp_path / "data", "a", "a-summary") / "images"
    given = ["measure", str(data), str(data.parent / "masks"), "--out", str(data / "a.csv")]
    for more in ([], ["--overwrite"]):
        assert main([*given, *more]) == 2
        assert "a-summary.png: is one of the images to measure; give another --out" in capsys.readouterr().err
    before = (data / "a.png").read_bytes()
    single = ["measure", str(data / "a.png"), str(data.parent / "masks" / "a.png")]
    assert main([*single, "--out", str(tmp_path / "a.csv")]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a-summary.csv", "a-summary.png", "a.csv", "a.html", "data"
    ]  # fmt: skip
    assert (data / "a.png").read_bytes() == before


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\ta", "\ra"])
def test_no_name_becomes_a_formula(name: str) -> None:
    assert harmless(name) == f"'{name}" and harmless("a=1") == "a=1" and harmless("") == ""


def test_names_that_spreadsheets_would_run(tmp_path: Path) -> None:
    data = images(tmp_path / "data", "=cmd_1", "b_2")
    out = tmp_path / "cells.csv"
    assert main(["measure", str(data), str(data), "--out", str(out), "--groups", "(?P<what>.+)_"]) == 0
    assert [rows(out)[0][name] for name in ("image", "what")] == ["'=cmd_1", "'=cmd"]
    assert rows(tmp_path / "cells-summary.csv")[0]["what"] == "'=cmd"


def test_figures_show_every_image_and_say_how_many(tmp_path: Path) -> None:
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((3, 3), np.int32)).astype(np.int32)
    cells = measure_still(labels, np.ones((1, *labels.shape)))
    measured = [
        Measured(f"{k}", {"well": f"w{k // 2:02d}"}, cells, (60, 60), 1.0, Calibration()) for k in range(2 * GROUPS + 2)
    ]
    whole = Measurement(tuple(measured), 9.0, "px", ("GFP",), ("a note",))
    chart = figure(whole, np.random.default_rng(0))
    titles = [axes.get_title(loc="left") for axes in chart.axes if axes.get_visible()]
    assert titles == ["cells an image", "diameter (px)", "eccentricity", "local density (per megapixel)",
                      "mean less background, GFP"]  # fmt: skip
    ticks = [tick.get_text() for tick in chart.axes[1].get_xticklabels()]
    assert len(ticks) == GROUPS and ticks[0] == "w00\n2 images\n800 cells"
    assert len(chart.axes[1].lines[0].get_xdata()) == POINTS and len(chart.axes[1].lines[1].get_xdata()) == 2
    html = page(whole, chart, "cells.csv").html()
    assert f"The first {GROUPS} of {GROUPS + 1} groups are shown." in html and "a note" in html and "1 GFP" in html
    assert "of cells an image, points are the numbers of images, and bars the medians of these" in html
    assert len(by_group(whole)) == GROUPS + 1
    assert values(measured[:2], "area_px2").images.tolist() == [9, 9]
