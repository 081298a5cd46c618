"""The report: one escaped, self-contained page, and pictures whose pixels are what they should be."""

import base64
import io
import math
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cytoforge.data.judgement import Judgement, Measured
from cytoforge.data.ownership import OutputFolder
from cytoforge.errors import UserError
from cytoforge.report import (
    FALSE,
    FOUND,
    MISSED,
    WINDOW,
    Cell,
    Report,
    colour_labels,
    label_colours,
    outcome_overlay,
    overlay,
    panel,
    run_report,
    to_rgb,
    training_curves,
)

EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Reads a page, checks that its tags are nested, and collects tags, text, images and table rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.images: list[NDArray[np.uint8]] = []
        self.addresses: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.classes: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "img":
            kind, data = (values["src"] or "").split(",")
            assert kind == "data:image/png;base64"
            self.images.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
        if tag == "tr":
            self.rows.append([])
            self.classes.append(values.get("class") or "")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data.strip()


def grey(value: float, height: int = 8, width: int = 8) -> NDArray[np.float32]:
    return np.full((1, height, width), value, np.float32)


def square(top: int, left: int, side: int = 4, cell: int = 1) -> NDArray[np.int32]:
    labels = np.zeros((16, 16), np.int32)
    labels[top : top + side, left : left + side] = cell
    return labels


def everything(path: Path) -> str:
    """A page with a block of every kind, all texts hostile."""
    report = Report(EVIL, EVIL)
    report.heading(EVIL)
    report.text(EVIL)
    report.verdict(EVIL)
    report.table([EVIL, "F"], [[EVIL, 0.5], ["plain", EVIL]], best=0, caption=EVIL)
    report.figure(training_curves([{"step": 1, "validation": 0.5}]), EVIL)
    report.image_grid([[np.zeros((8, 8, 3), np.uint8)]], [EVIL], [EVIL], EVIL)
    return report.write(OutputFolder(path.parent)).read_text(encoding="utf-8")


def test_all_text_is_escaped(tmp_path: Path) -> None:
    html = everything(tmp_path / "report.html")
    assert html.count("<script") == 1
    page = Page(html)
    assert page.tags["script"] == 1  # that of the template
    assert page.text.count(EVIL) == 15


def test_page_is_whole_and_asks_for_nothing_outside(tmp_path: Path) -> None:
    html = everything(tmp_path / "report.html")
    assert html.startswith("<!doctype html>")
    page = Page(html)
    assert [page.tags[tag] for tag in ("html", "head", "body", "title", "style", "h1")] == [1] * 6
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"https?:|//[\w.]+\.\w+/|@import|url\(", re.sub(r"base64,[\w+/=]+", "", html))
    assert len(page.images) == 2


def test_sections_come_in_order_and_figures_are_numbered_through() -> None:
    report = Report("Title", "Subtitle")
    picture = np.zeros((8, 8), np.uint8)
    report.text("first")
    report.image_grid([[picture]], ["a"], [""], "one")
    report.table(["a"], [["x"]], caption="data")
    report.table(["a"], [["x"]])
    report.figure(Figure(), "two")
    report.table(["a"], [["x"]], caption="more data")
    text = Page(report.html()).text
    places = [text.index(part) for part in ("Subtitle", "first", "Figure 1. one", "Table 1. data", "Figure 2. two")]
    assert places == sorted(places)
    assert "Table 2. more data" in text


def test_table_shows_numbers_alike_and_marks_the_best() -> None:
    report = Report("t")
    rows: list[list[Cell]] = [
        ["a", 0.5, 3, "0.4 to 0.6", 240.0, None, "x"],
        ["b", math.nan, 14, "−1.0", 7.25, -0.25, "1"],
    ]
    report.table(["method", "F", "n", "interval", "seconds", "gain", "note"], rows, best=1)
    page = Page(report.html())
    assert page.rows[1] == ["a", "0.500", "3", "0.4 to 0.6", "240.0", "–", "x"]
    assert page.rows[2] == ["b", "–", "14", "−1.0", "7.2", "−0.250", "1"]
    assert page.classes == ["", "", "best"]
    assert 'b<span class="tag">best</span>' in report.html().replace("\n", "")
    numeric = re.findall(r'<th scope="col"( class="number")?>', report.html())
    assert [bool(n) for n in numeric] == [False, True, True, True, True, True, False]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.81234, "0.812"), (1.0, "1.000"), (23.456, "23.46"), (0.00031, "0.000310"), (12345.6, "12346")],
)
def test_decimals_follow_the_size_of_numbers(value: float, shown: str) -> None:
    report = Report("t")
    report.table(["name", "value"], [["a", value]])
    assert Page(report.html()).rows[1][1] == shown


def test_lines_break_before_an_interval_and_not_in_it() -> None:
    report = Report("t")
    report.table(["name", "value"], [["a", "0.50 [0.40, 0.60]"]])
    assert Page(report.html()).rows[1][1] == "0.50 [0.40,\u00a00.60]"


def test_table_of_no_rows_is_a_header() -> None:
    report = Report("t")
    report.table(["a", "b"], [])
    assert Page(report.html()).rows == [["a", "b"]]


def test_table_refuses_ragged_rows_and_an_absent_best_row() -> None:
    report = Report("t")
    with pytest.raises(ValueError, match="a row has 1 cells, the header 2"):
        report.table(["a", "b"], [["x"]])
    for best in (-1, 1):
        with pytest.raises(ValueError, match=f"one of 1 rows, got {best}"):
            report.table(["a"], [["x"]], best=best)


def test_small_images_are_enlarged_by_repeating_pixels_and_large_ones_kept() -> None:
    generator = np.random.default_rng(0)
    small = generator.integers(0, 255, (50, 100, 3), dtype=np.uint8)
    large = generator.integers(0, 255, (30, 900), dtype=np.uint8)
    report = Report("t")
    report.image_grid([[small, large]], ["a", "b"], ["row"], "caption")
    shown_small, shown_large = Page(report.html()).images
    np.testing.assert_array_equal(shown_small, small.repeat(5, axis=0).repeat(5, axis=1))
    np.testing.assert_array_equal(shown_large, large)


def test_image_grid_refuses_what_does_not_fit() -> None:
    report, picture = Report("t"), np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match=r"1 rows and 2 columns, but rows of \[1\] images"):
        report.image_grid([[picture]], ["a", "b"], ["r"], "")
    with pytest.raises(ValueError, match="titles for 0 rows"):
        report.image_grid([[picture]], ["a"], [], "")
    for wrong in (picture.astype(float), np.zeros((8, 8, 4), np.uint8)):
        with pytest.raises(ValueError, match="must be uint8"):
            report.image_grid([[wrong]], ["a"], ["r"], "")


def test_to_rgb_maps_the_range_and_the_channels() -> None:
    values = np.array([[[-1, 0, 1, 2, -5, np.nan]]], np.float32)
    np.testing.assert_array_equal(to_rgb(values)[0, :, 0], [0, 128, 255, 255, 0, 128])
    one, two, three = np.stack([grey(-1)[0], grey(0)[0], grey(1)[0]]), np.stack([grey(1)[0], grey(-1)[0]]), grey(1)
    assert to_rgb(one)[0, 0].tolist() == [0, 128, 255]
    assert to_rgb(two)[0, 0].tolist() == [255, 0, 255]
    assert to_rgb(three)[0, 0].tolist() == [255, 255, 255]
    assert to_rgb(np.zeros((5, 2, 3), np.float32)).shape == (2, 3, 3)
    for wrong in (np.zeros((4, 4)), np.zeros((0, 4, 4))):
        with pytest.raises(ValueError, match=r"\(C, H, W\)"):
            to_rgb(wrong)


def test_label_colours_are_light_and_unlike_those_of_the_next_ids() -> None:
    colours = label_colours(300).astype(int)
    assert colours.shape == (301, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert len(np.unique(colours[1:25], axis=0)) == 24
    assert (colours[1:].max(axis=1) == 255).all()
    for step in (1, 2, 3):
        assert np.abs(colours[1 + step :] - colours[1:-step]).sum(axis=1).min() > 80


def test_colour_labels_fills_cells() -> None:
    labels = square(2, 2) + square(9, 9, cell=2)
    picture = colour_labels(labels)
    assert picture.shape == (16, 16, 3)
    assert (picture[labels == 0] == 0).all()
    assert (picture[labels == 2] == label_colours(2)[2]).all()
    assert colour_labels(np.zeros((3, 4), np.int32)).shape == (3, 4, 3)


def test_overlay_outlines_just_inside_the_cell() -> None:
    labels = square(5, 6, side=5)
    picture = overlay(grey(0, 16, 16), labels)
    changed = (picture != 128).any(axis=-1)
    ring = labels > 0
    ring[6:9, 7:10] = False
    np.testing.assert_array_equal(changed, ring)
    assert (picture[ring] == label_colours(1)[1]).all()


def test_overlay_parts_touching_cells_and_leaves_the_frame_open() -> None:
    labels = np.ones((8, 8), np.int32)
    labels[:, 4:] = 2
    changed = (overlay(grey(0), labels) != 128).any(axis=-1)
    np.testing.assert_array_equal(changed, np.tile([0, 0, 0, 1, 1, 0, 0, 0], (8, 1)).astype(bool))


def test_enlarged_outlines_are_finer_than_an_image_pixel() -> None:
    labels = np.ones((8, 8), np.int32)
    labels[:, 4:] = 2
    picture = overlay(grey(0), labels, scale=4)
    assert picture.shape == (32, 32, 3)
    changed = (picture != 128).any(axis=-1)
    assert np.flatnonzero(changed[0]).tolist() == [14, 15, 16, 17]


def test_overlay_refuses_another_size() -> None:
    with pytest.raises(ValueError, match=r"labels \(16, 16\) and image \(8, 8\) differ"):
        overlay(grey(0), square(2, 2))


def test_outcomes_are_found_missed_and_false() -> None:
    truth = square(1, 1) + square(1, 9, cell=5)
    prediction = square(1, 1, cell=7) + square(10, 10, cell=3)
    picture = outcome_overlay(grey(0, 16, 16), truth, prediction)
    assert tuple(picture[1, 1]) == FOUND
    assert tuple(picture[1, 9]) == MISSED
    assert tuple(picture[10, 10]) == FALSE
    assert tuple(picture[7, 7]) == (128, 128, 128)


def test_outcomes_of_empty_labels() -> None:
    empty = np.zeros((16, 16), np.int32)
    assert (outcome_overlay(grey(0, 16, 16), empty, empty) == 128).all()
    assert tuple(outcome_overlay(grey(0, 16, 16), square(1, 1), empty)[1, 1]) == MISSED
    assert tuple(outcome_overlay(grey(0, 16, 16), empty, square(1, 1))[1, 1]) == FALSE


def test_curves_mark_the_best_validation_and_name_the_losses() -> None:
    rows: list[dict[str, Any]] = [
        {"step": "10", "seconds": "1.5", "validation": "0.4", "segmenter": "2.0", "adversarial": ""},
        {"step": "20", "seconds": "3.0", "validation": "0.7", "segmenter": "0.05", "adversarial": "0.5"},
        {"step": "30", "seconds": "4.5", "validation": "0.6", "segmenter": "nan", "adversarial": "0.4"},
    ]
    scores, losses = training_curves(rows).axes
    assert [text.get_text() for text in scores.texts] == ["best 0.700 at step 20"]
    assert np.asarray(scores.lines[0].get_xydata()).tolist() == [[10, 0.4], [20, 0.7], [30, 0.6]]
    assert np.asarray(scores.lines[1].get_xydata()).tolist() == [[20, 0.7]]
    assert [line.get_label() for line in losses.lines] == ["segmenter", "adversarial"]
    assert np.asarray(losses.lines[0].get_xydata()).tolist() == [[10, 2.0], [20, 0.05]]
    assert losses.get_yscale() == "log"


def test_curves_of_losses_alone_near_zero_are_linear() -> None:
    (losses,) = training_curves([{"step": 1, "loss": -0.5}, {"step": 2, "loss": 3.0}]).axes
    assert losses.get_yscale() == "linear"


def test_curves_of_nothing() -> None:
    with pytest.raises(ValueError, match="no rows"):
        training_curves([])
    assert len(training_curves([{"step": 1, "validation": math.nan}]).axes) == 1


def test_run_report_holds_all_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    truth, prediction = square(1, 1) + square(8, 8, cell=2), square(1, 1)
    report = run_report(
        title=f"run {EVIL}",
        settings={"network": {"name": "unet", EVIL: 16}, "limit": None, "resume": True, "tiles": [1, 2], "extra": {}},
        provenance={"seed": 3},
        metrics=[{"step": 5, "validation": 0.25, "loss": 1.0}],
        samples=[("first", grey(0, 16, 16), truth, prediction), (EVIL, grey(0, 16, 16), truth * 0, truth * 0)],
        verdict="It learned.",
    )
    assert report.write(OutputFolder(path.parent)) == path
    html = path.read_text(encoding="utf-8")
    assert html.count("<script") == 1
    page = Page(html)
    assert "It learned." in page.text
    assert "first: F 0.67, 1 of 2 cells found, 1 missed, 0 false" in page.text
    assert f"{EVIL}: 0 of 0 cells found, 0 missed, 0 false" in page.text
    for row in (["network.name", "unet"], [f"network.{EVIL}", "16"], ["limit", "none"], ["resume", "yes"]):
        assert row in page.rows
    assert ["tiles", "1, 2"] in page.rows
    assert ["seed", "3"] in page.rows
    assert len(page.images) == 1 + 2 * 2 * 2
    assert sorted(p.name for p in path.parent.iterdir()) == ["manifest.jsonl", "report.html"]


def test_run_report_of_a_run_without_anything_yet() -> None:
    page = Page(
        run_report(title="t", settings={}, provenance={}, metrics=[], samples=[], verdict="Nothing yet.").html()
    )
    assert page.images == []
    assert page.tags["h2"] == 0


@pytest.mark.parametrize(("styles", "headers"), [(1, ["Generated"]), (3, ["Style 1", "Style 2", "Style 3"])])
def test_paintings_are_named_by_style_where_there_are_several(styles: int, headers: list[str]) -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)] * (2 + styles)
    shown = {"title": "t", "settings": {}, "provenance": {}, "metrics": [], "verdict": "v"}
    page = Page(run_report(paintings=[("a", pictures)], **shown).html())
    places = [page.text.index(header) for header in ("Image", "Annotated cells", *headers)]
    assert places == sorted(places)
    assert ("Generated" in page.text, "in several styles" in page.text) == (styles == 1, styles > 1)


def test_of_large_images_the_middle_is_shown_and_all_is_counted() -> None:
    shape = (WINDOW + 40, WINDOW + 101)
    labels = np.zeros(shape, np.int32)
    labels[:5, :5] = 1
    labels[100:120, 200:220] = 2
    sample = ("large", np.zeros((1, *shape), np.float32), labels, labels)
    page = Page(run_report(title="t", settings={}, provenance={}, metrics=[], samples=[sample], verdict="v").html())
    assert [image.shape[:2] for image in page.images] == [(WINDOW, WINDOW)] * 4
    assert "F 1.00, 2 of 2 cells found" in page.text
    assert tuple(page.images[3][100 - 20, 200 - 50]) == (*FOUND, 255)
    assert not page.images[3][0, 0, 3]  # the cell in the corner is cut off


def test_a_panel_keeps_its_outlines_apart() -> None:
    labels = square(2, 2)
    shown = panel(grey(0, 16, 16), labels)
    assert shown.picture.shape == (16, 16) and np.ptp(shown.picture) == 0
    assert shown.outlines.shape == (16 * 30, 16 * 30, 4)  # finer than the pixels, which are enlarged to 480 px
    corner, inside, outside = (shown.outlines[at, at, 3] for at in (2 * 30 + 1, 4 * 30, 9 * 30))
    assert (corner, inside, outside) == (255, 0, 0)
    report = Report("t")
    report.image_grid([[shown, shown.picture]], ["a", "b"], ["row"], "caption")
    page = Page(report.html())
    assert [image.shape[2:] for image in page.images] == [(), (4,), ()] and page.tags["input"] == 2
    plain = Report("t")
    plain.image_grid([[shown.picture]], ["a"], ["row"], "caption")
    assert Page(plain.html()).tags["input"] == 1  # only that of the enlarged view, which hides it


@pytest.mark.parametrize(
    ("width", "bar"),
    [
        (100.0, ("20.000%", "20 µm")),
        (166.4, ("12.019%", "20 µm")),
        (240.0, ("20.833%", "50 µm")),
        (3.0, ("16.667%", "0.5 µm")),
        (4000.0, ("25.000%", "1000 µm")),
        (None, None),
        (0.0, None),
    ],
)
def test_a_scale_bar_is_a_round_length(width: float | None, bar: tuple[str, str] | None) -> None:
    report = Report("t")
    report.image_grid([[np.zeros((8, 8), np.uint8)]], ["a"], ["row"], "caption", [width])
    found = re.findall(r'class="bar" style="--share: ([^"]*)">([^<]*)<', report.html())
    assert found == ([] if bar is None else [bar])


def test_a_judgement_has_its_colour_and_says_why() -> None:
    judgement = Judgement(
        verdict="poor",
        measure="F",
        over="3 images",
        score=Measured(value=0.07, low=0.03, high=0.12),
        reasons=["it finds few cells"],
        remedies=["train longer"],
    )
    run = run_report(title="t", settings={"a": 1}, provenance={}, metrics=[], verdict="Converged.", judgement=judgement)
    html = run.html()
    text = Page(html).text
    assert '<div class="verdict poor">' in html
    parts = ("Poor: F is 0.07 [0.03, 0.12] on validation (3 images).", "Why: it finds", "What to do:", "Converged.")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "<details><summary>Settings" in html


def test_failed_writing_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        Report("t").write(OutputFolder(tmp_path / "taken"))
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_page_names_files_that_are_no_text(tmp_path: Path) -> None:
    report = Report(f"Masks of {os.fsdecode(b'caf' + bytes([0xE9]))} <img src=x> \U0001f9eb")
    page = report.write(OutputFolder(tmp_path / "page")).read_text(encoding="utf-8")
    assert "Masks of caf\\udce9 &lt;img src=x&gt; \U0001f9eb" in page and "<img src=x" not in page
