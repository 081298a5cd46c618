"""The page of the studio in a real browser: every tool, every step from images to masks, mouse, touch and keys."""

import io
import json
import re
import threading
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytoforge.cli import main
from cytoforge.data.dataset import Dataset
from cytoforge.data.images import encode_image, read_labels, write_image, write_labels
from cytoforge.simulation.phantom import phantom
from cytoforge.studio.drafts import Draft
from studio_server import Opened, studio

SIDE = 128  # px of the images
LONG = 240_000  # ms that a piece of work may take on a busy computer


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Four images of phantom cells, of which the first two have masks."""
    folder = tmp_path / "cells"
    for number in range(4):
        image, labels = phantom(number, (SIDE, SIDE), 12)
        write_image(folder / "images" / f"dish{number}.tif", image[None])
        if number < 2:
            write_labels(folder / "masks" / f"dish{number}.tif", labels)
    return folder


class Stage:
    """The image on the page: places are shares of it, 0 to 1, from its top left corner."""

    def __init__(self, page: Any, name: str) -> None:
        self.page = page
        page.locator(f"button.image[title='{name}']").click()
        page.wait_for_function("name => document.querySelector('.image.open strong')?.textContent === name", arg=name)
        page.wait_for_selector(".viewbar")
        page.wait_for_timeout(400)

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator(".viewer").bounding_box()
        side = min(box["width"], box["height"])
        return box["x"] + (box["width"] - side) / 2 + x * side, box["y"] + (box["height"] - side) / 2 + y * side

    def drag(self, *places: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(*place), steps=6)
        self.page.mouse.up()

    def tool(self, key: str, name: str) -> None:
        """Choose a tool by its key, and wait until the page has it: nobody draws as soon as a test does."""
        self.page.keyboard.press(key)
        self.page.get_by_role("toolbar").get_by_role("button", name=name, pressed=True).wait_for()

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.at(x, y))

    def cells(self, count: int) -> None:
        """Wait until the page says that there are so many cells, and all is saved."""
        self.page.wait_for_function(
            "n => document.querySelector('.count strong')?.textContent === String(n)"
            " && document.querySelector('.saving')?.textContent === 'All is saved'",
            arg=count,
        )


def colours(page: Any) -> int:
    """The number of pixels of the image as it is seen that are coloured, so belong to cells."""
    shown = np.asarray(Image.open(io.BytesIO(page.locator(".viewer").screenshot())).convert("RGB")).astype(int)
    return int((np.ptp(shown, axis=2) > 40).sum())


def test_cells_are_drawn_corrected_and_kept(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    running = opened(cells)
    page = page_of(running)
    stage = Stage(page, "dish2")
    stage.cells(0)
    before = colours(page)
    stage.tool("o", "Outline")
    stage.drag((0.2, 0.2), (0.5, 0.2), (0.5, 0.5), (0.2, 0.5), (0.2, 0.22))
    stage.cells(1)
    page.wait_for_timeout(700)
    assert colours(page) > before + 2000
    for corner in ((0.6, 0.6), (0.8, 0.6), (0.8, 0.8), (0.6, 0.6)):  # click by click, and then on the first one
        stage.click(*corner)
    stage.cells(2)
    stage.tool("s", "Split")
    stage.drag((0.1, 0.35), (0.55, 0.35))
    stage.cells(3)
    stage.tool("m", "Merge")
    stage.drag((0.3, 0.3), (0.3, 0.4))
    stage.cells(2)
    stage.tool("e", "Eraser")
    stage.drag((0.35, 0.1), (0.35, 0.6))
    stage.cells(3)
    stage.tool("d", "Delete")
    stage.click(0.25, 0.3)
    stage.cells(2)
    page.keyboard.press("Control+z")
    stage.cells(3)
    page.keyboard.press("Control+Shift+z")
    stage.cells(2)
    stage.tool("b", "Brush")
    stage.drag((0.1, 0.9), (0.3, 0.9))
    stage.cells(3)
    page.reload()
    Stage(page, "dish2").cells(3)
    labels = running.space.draft("dish2").labels
    where = [(0.9, 0.2), (0.66, 0.75), (0.4, 0.42), (0.3, 0.25)]
    assert [bool(labels[int(y * SIDE), int(x * SIDE)]) for y, x in where] == [True, True, True, False]
    page.get_by_role("button", name="This image is right").click()
    page.wait_for_selector("text=This image is finished")
    assert len(np.unique(read_labels(running.space.path / "masks" / "dish2.tif"))) == 4


SAVED = "() => document.querySelector('.saving').textContent === 'All is saved'"


def test_strokes_wait_for_a_slow_server_in_their_order(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = opened(cells)
    page = page_of(running)
    stage = Stage(page, "dish2")
    edit, drawn = Draft.edit, threading.Event()
    monkeypatch.setattr(Draft, "edit", lambda draft, *what: drawn.wait(60) and edit(draft, *what))
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 6})
    keys = {"b": [(0.1, 0.2), (0.3, 0.2)], "o": [(0.5, 0.1), (0.9, 0.1), (0.9, 0.5), (0.5, 0.5)]}
    for key, places in {**keys, "s": [(0.45, 0.3), (0.95, 0.3)], "d": [(0.15, 0.2), (0.2, 0.2)]}.items():
        page.keyboard.press(key)  # and draws before the page is drawn anew
        stage.drag(*places)
        assert not page.evaluate(SAVED)
    page.locator("button.image[title='dish3']").click()
    page.wait_for_selector(".image.open[title='dish3']")
    drawn.set()
    page.wait_for_function(SAVED)
    stage.cells(0)
    assert len(np.unique(running.space.draft("dish2").labels)) == 3


def test_a_stroke_is_kept_on_a_busy_page_that_learns_of_its_tool_late(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened(cells))
    stage = Stage(page, "dish2")
    page.evaluate("() => { const f = setTimeout; window.setTimeout = (what, ms) => f(what, (ms ?? 0) + 1000); }")
    page.keyboard.press("o")
    page.mouse.move(*stage.at(0.2, 0.2))
    page.mouse.down()
    for place in ((0.5, 0.2), (0.5, 0.5), (0.2, 0.5)):
        page.mouse.move(*stage.at(*place), steps=6)
        page.wait_for_timeout(600)
    page.mouse.up()
    stage.cells(1)


def test_strokes_that_are_refused_are_counted_and_those_after_it_are_taken(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = opened(cells)
    page = page_of(running)
    stage = Stage(page, "dish2")
    edit, asked, drawn = Draft.edit, [], threading.Event()

    def changed_elsewhere(draft: Draft, wanted: dict[str, Any], revision: int) -> Any:
        asked.append(wanted)
        if len(asked) == 1:
            drawn.wait(60)
            edit(draft, {"tool": "brush", "points": [[64, 100]], "radius": 5}, revision)
        return edit(draft, wanted, revision)

    monkeypatch.setattr(Draft, "edit", changed_elsewhere)
    stage.tool("b", "Brush")
    for y in (0.2, 0.4, 0.6):
        stage.drag((0.1, y), (0.3, y))
    drawn.set()
    page.wait_for_selector("text=The last 3 strokes were not taken")
    stage.cells(1)
    assert len(asked) == 1
    stage.drag((0.1, 0.2), (0.3, 0.2))
    stage.drag((0.1, 0.4), (0.3, 0.4))
    stage.cells(3)
    page.wait_for_function("() => !document.querySelector('.toast')")  # as strokes are taken again


def test_holes_are_filled_and_the_image_is_looked_at(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    running = opened(cells)
    page = page_of(running)
    stage = Stage(page, "dish3")
    page.keyboard.press("b")
    page.wait_for_timeout(300)  # until the page has the tool
    page.keyboard.press("[")
    stage.drag((0.3, 0.3), (0.6, 0.3), (0.6, 0.6), (0.3, 0.6), (0.3, 0.3))
    stage.cells(1)
    page.keyboard.press("f")
    page.wait_for_timeout(300)  # until the page has the tool
    stage.click(0.3, 0.3)
    page.wait_for_timeout(500)
    stage.cells(1)
    assert running.space.draft("dish3").labels[int(0.45 * SIDE), int(0.45 * SIDE)]
    shown = page.locator(".percent")
    first = shown.inner_text()
    page.keyboard.press("+")
    page.wait_for_function("old => document.querySelector('.percent').textContent !== old", arg=first)
    page.keyboard.press("0")
    page.wait_for_function("old => document.querySelector('.percent').textContent === old", arg=first)
    coloured = colours(page)
    page.keyboard.press("h")
    page.wait_for_timeout(600)
    assert colours(page) < coloured / 10
    page.get_by_role("button", name="Brightness").click()
    white = page.get_by_label("White")
    with page.expect_response(lambda answer: "/tiles/" in answer.url and "channels" in answer.url):
        white.fill(str(int(float(white.input_value()) / 4)))
    page.get_by_label("Dark colours").click()
    page.wait_for_function("() => getComputedStyle(document.body).backgroundColor === 'rgb(18, 25, 26)'")
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.keyboard.press("n")  # the last image has no next one
    page.keyboard.press("p")
    page.wait_for_function("() => document.querySelector('.image.open strong').textContent === 'dish2'")


def test_the_image_may_come_before_the_list_of_images(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened(cells))
    Stage(page, "dish1")
    page.route("**/api/state", lambda route: (page.wait_for_timeout(1500), route.continue_()))
    page.reload()
    page.wait_for_selector(".viewbar")
    page.wait_for_timeout(1500)
    assert colours(page) > 1000
    page.unroute_all(behavior="ignoreErrors")


@pytest.mark.parametrize("width", [1280, 1024, 820])
def test_nothing_is_cut_off_on_a_small_screen_or_a_tablet(
    width: int, cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    page = page_of(opened(cells), viewport={"width": width, "height": 768}, has_touch=width < 1280)
    page.wait_for_selector(".viewbar")
    page.get_by_role("button", name="Simulate").click()
    page.wait_for_selector(".made img")
    for part in (".sheet button", ".sheet input", ".sheet select"):
        for control in page.locator(part).all():
            box = control.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width + 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_label("Close simulated cells").click()
    for button in page.locator(".toolbar button, .viewbar button, .next button").all():
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width + 1 and box["height"] >= 32
    assert page.locator(".viewer").bounding_box()["height"] > 300


def test_fingers_draw_and_two_fingers_zoom(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    running = opened(cells)
    page = page_of(running, viewport={"width": 1024, "height": 768}, has_touch=True)
    stage = Stage(page, "dish2")
    page.get_by_role("toolbar").get_by_role("button", name="Brush").tap()
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(stage.at(*place) for place in places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.3, 0.3))
    for step in range(1, 8):
        touch("touchMove", (0.3 + 0.04 * step, 0.3))
    touch("touchEnd")
    stage.cells(1)
    assert running.space.draft("dish2").labels[int(0.3 * SIDE), int(0.45 * SIDE)]
    before = page.locator(".percent").inner_text()
    touch("touchStart", (0.5, 0.6))
    touch("touchStart", (0.5, 0.6), (0.6, 0.6))
    for step in range(1, 8):
        touch("touchMove", (0.5 - 0.03 * step, 0.6), (0.6 + 0.03 * step, 0.6))
    touch("touchEnd")
    page.wait_for_function(
        "old => parseInt(document.querySelector('.percent').textContent) > parseInt(old)", arg=before
    )
    stage.cells(1)  # what the first of the two fingers had begun is no stroke


def test_two_tabs_see_each_other_and_do_not_overwrite(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    running = opened(cells)
    one, other = page_of(running), page_of(running)
    first, second = Stage(one, "dish2"), Stage(other, "dish2")
    one.keyboard.press("b")
    one.wait_for_timeout(300)  # until the page has the tool
    first.drag((0.2, 0.2), (0.3, 0.2))
    first.cells(1)
    second.cells(1)  # by itself
    other.route("**/api/state", lambda route: route.abort())
    other.wait_for_selector("text=the studio does not answer")
    first.drag((0.2, 0.5), (0.3, 0.5))
    first.cells(2)
    other.keyboard.press("b")
    other.wait_for_timeout(300)  # until the page has the tool
    second.drag((0.6, 0.6), (0.7, 0.6))
    other.wait_for_selector("text=was changed elsewhere")
    other.wait_for_function("() => document.querySelector('.count strong').textContent === '2'")
    other.unroute("**/api/state")
    second.drag((0.6, 0.6), (0.7, 0.6))
    second.cells(3)


def test_strokes_wait_while_the_studio_is_away(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    with ExitStack() as before:
        running = before.enter_context(studio(cells))
        page = page_of(running)
        stage = Stage(page, "dish2")
        page.keyboard.press("b")
        page.wait_for_timeout(300)  # until the page has the tool
        stage.drag((0.2, 0.2), (0.3, 0.2))
        stage.cells(1)
    stage.drag((0.6, 0.6), (0.7, 0.6))
    page.wait_for_selector("text=Not saved yet")
    again = opened(cells, int(running.address.rpartition(":")[2]))
    stage.cells(2)
    assert again.space.draft("dish2").labels[int(0.6 * SIDE), int(0.65 * SIDE)]


def test_images_are_added_and_annotations_of_other_programs_brought_in(
    tmp_path: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    foreign = tmp_path / "foreign"
    image, _ = phantom(1, (SIDE, SIDE), 12)
    write_image(foreign / "b.tif", image[None])
    square = [[10, 10], [40, 10], [40, 40], [10, 40]]
    shape = {"label": "cell", "points": square, "shape_type": "polygon"}
    told = {
        "version": "5.0",
        "flags": {},
        "shapes": [shape],
        "imagePath": "b.tif",
        "imageHeight": SIDE,
        "imageWidth": SIDE,
    }
    (foreign / "b.json").write_text(json.dumps(told))
    running = opened(foreign)
    page = page_of(running)
    page.get_by_role("button", name="Bring them in").click()
    page.locator("button.image", has_text="b").wait_for(timeout=LONG)
    Stage(page, "b").cells(1)
    jpeg = io.BytesIO()
    Image.fromarray((image // 256).astype(np.uint8)).save(jpeg, "JPEG")
    files = [
        {"name": "c.png", "mimeType": "image/png", "buffer": encode_image(Path("c.png"), image[None])},
        {"name": "d.jpg", "mimeType": "image/jpeg", "buffer": jpeg.getvalue()},
        {"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG"},
    ]
    page.locator("input[type=file]").set_input_files(files)
    page.wait_for_selector("text=broken.png: cannot be read")
    Stage(page, "c").cells(0)
    assert running.space.names() == ["b", "c", "d"]


def test_from_images_to_a_model_of_ones_own_and_its_masks(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any], tmp_path: Path
) -> None:
    running = opened(cells)
    page = page_of(running)
    page.route("**/api/jobs", quickly)
    Stage(page, "dish2").cells(0)
    assert page.locator(".next").get_attribute("data-step") == "find"
    page.get_by_role("button", name="Find cells in this image").click()
    page.wait_for_selector(r"text=/found in 1 image. Cells were taken to be \d+ px across/", timeout=LONG)
    page.wait_for_function("() => document.querySelector('.count strong').textContent !== '0'")
    assert page.locator(".next").get_attribute("data-step") == "correct"
    page.get_by_role("button", name="This image is right").click()
    page.wait_for_function("() => document.querySelector('.next').dataset.step === 'train'")
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_selector("[data-step=train] .work")
    page.reload()  # the queue does not mind
    page.locator("[data-step=train] .verdict").wait_for(timeout=LONG)
    assert len(page.locator("[data-step=train] .verdict").inner_text()) > 20

    def poor(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(json={**answer.json(), "judged": {"verdict": "poor"}})

    page.route("**/api/runs/run-1", poor)
    page.reload()
    page.locator("[data-step=train] .verdict.poor", has_text="Poor. ").wait_for()
    colour = "element => getComputedStyle(element).borderLeftColor"
    assert page.locator("[data-step=train] .verdict.poor").evaluate(colour) == "rgb(179, 38, 30)"  # red
    page.unroute("**/api/runs/run-1")
    page.wait_for_selector(".sample img")
    with page.expect_popup() as report:
        page.get_by_role("link", name="Whole report").click()
    assert "Training of run-1" in report.value.title() or report.value.locator("h1").count()
    Stage(page, "dish3").cells(0)
    assert page.get_by_label("With").input_value() == "run-1"
    page.get_by_role("button", name="Find cells in this image").click()
    page.wait_for_selector("text=found in 1 image", timeout=LONG)
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("Download 3 masks")).click()
    download.value.save_as(tmp_path / "masks.zip")
    assert zipfile.ZipFile(tmp_path / "masks.zip").namelist() == [f"masks/dish{k}.tif" for k in range(3)]
    assert [path.name for path in running.space.runs()] == ["run-1"]


@pytest.mark.slow
def test_cells_are_looked_at_in_a_table_and_taken_and_a_model_is_scored(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any], tmp_path: Path
) -> None:
    running = opened(cells)
    page = page_of(running)
    Stage(page, "dish2").cells(0)
    page.get_by_role("button", name="Table of cells").click()
    rows = page.locator(".cells tbody tr")
    rows.first.wait_for(timeout=LONG)
    count = sum(int(running.space.draft(f"dish{k}").labels.max()) for k in range(2))
    page.wait_for_selector(f"text={count} cells measured in 2 images")
    area = page.get_by_role("columnheader", name="area")
    with page.expect_response(lambda answer: "sort=area_px2&down=1" in answer.url):
        area.get_by_role("button").click()
    page.wait_for_selector("th[aria-sort=descending]")
    labels = [running.space.draft(f"dish{k}").labels for k in range(2)]
    largest = max(int(np.bincount(one.ravel())[1:].max()) for one in labels)
    assert rows.first.locator("td").nth(3).inner_text() == str(largest)
    name = rows.first.locator("th").inner_text()
    zoom = page.locator(".percent").inner_text()
    rows.first.click()
    page.wait_for_function("name => document.querySelector('.image.open strong')?.textContent === name", arg=name)
    page.wait_for_function("old => document.querySelector('.percent')?.textContent !== old", arg=zoom)
    assert "chosen" in (rows.first.get_attribute("class") or "")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "cells.csv")
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == count + 1
    page.get_by_role("button", name="Figure").click()
    page.wait_for_function("() => document.querySelector('.chart img').naturalWidth > 300")
    page.locator("[data-step=use] select").select_option("QuPath GeoJSON")
    page.get_by_role("button", name="Make").click()
    with page.expect_download(timeout=LONG) as download:
        page.get_by_role("link", name="QuPath GeoJSON").click(timeout=LONG)
    download.value.save_as(tmp_path / "cells.zip")
    assert zipfile.ZipFile(tmp_path / "cells.zip").namelist() == ["dish0.geojson", "dish1.geojson"]
    page.get_by_role("button", name="Compare with my masks").click()
    rows.first.wait_for(timeout=LONG)
    page.wait_for_selector("text=on 2 images that it has not learned from", timeout=LONG)
    assert page.get_by_role("columnheader").all_inner_texts()[2:4] == ["Your cells", "Model drew"]
    scores = [float(text) for text in page.locator("td.bar").all_inner_texts()]
    assert scores == sorted(scores) and len(scores) == 2
    rows.last.click()
    name = rows.last.locator("th").inner_text()
    page.wait_for_function("name => document.querySelector('.image.open strong')?.textContent === name", arg=name)


@pytest.mark.slow
def test_cells_are_simulated_and_painted_as_the_sliders_say(
    cells: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    running = opened(cells)
    line = ["train", "generator", str(cells), "--out", str(running.space.path / "painter-1"), "--preset", "tiny"]
    assert main([*line, "--steps", "1", "--threads", "1", "--condition", "instances"]) == 0
    page = page_of(running)
    page.get_by_role("button", name="Simulate").click()
    mask, painting = page.locator(".made img").first, page.locator(".made img").last
    page.wait_for_function("() => document.querySelectorAll('.made img').length === 2")
    assert painting.evaluate("image => image.naturalWidth") == SIDE
    assert "What to do: train longer" in page.locator(".made .told").inner_text()
    before = mask.get_attribute("src"), painting.get_attribute("src")
    page.get_by_label("Cells cover").fill("0.5")
    page.wait_for_selector(f"text=/(4[5-9]|5[0-2]) % covered, in {SIDE} × {SIDE} px. Your whole images have/")
    page.wait_for_function(
        "old => [...document.querySelectorAll('.made img')].every((image, k) => image.src !== old[k])", arg=before
    )
    page.get_by_label("How many").select_option("5")
    page.get_by_role("button", name="Write 5 of these").click()
    page.wait_for_selector("text=5 images painted in painted-1", timeout=LONG)
    page.wait_for_selector("text=--with")
    assert Dataset.open(running.space.path / "painted-1").synthetic()
    page.get_by_label("Close simulated cells").click()
    assert page.get_by_label("Also from").locator("option").all_inner_texts() == ["nothing else", "painted-1"]


def quickly(route: Any) -> None:
    """Let a training take a second instead of minutes."""
    wanted = route.request.post_data_json
    if wanted.get("kind") == "train":
        wanted["minutes"] = 0.02
    route.continue_(post_data=json.dumps(wanted))


def test_a_large_image_is_looked_at_by_tiles(
    tmp_path: Path, opened: Callable[..., Opened], page_of: Callable[..., Any]
) -> None:
    large = np.tile(phantom(0, (250, 300), 30)[0], (10, 10))  # 2500 x 3000
    write_image(tmp_path / "slide.tif", large[None])
    page = page_of(opened(tmp_path / "slide.tif"))
    stage = Stage(page, "slide")
    page.keyboard.press("b")
    page.wait_for_timeout(300)  # until the page has the tool
    with page.expect_response(lambda answer: "/tiles/3/" in answer.url):  # its own pixels
        for _ in range(6):
            page.keyboard.press("+")
    stage.drag((0.4, 0.5), (0.6, 0.5))
    stage.cells(1)
