"""The report in a real browser: pictures that open, outlines that go, and nothing wider than the window."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytoforge.data.judgement import Judgement, Measured
from cytoforge.data.ownership import OutputFolder
from cytoforge.report import run_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    if BROWSER is None:
        pytest.skip("needs the browser chromium (Debian's package chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.zeros((64, 96), np.int32)
    labels[8:24, 8:24], labels[30:50, 40:70] = 1, 2
    image = np.random.default_rng(0).uniform(-1, 1, (1, 64, 96)).astype(np.float32)
    judgement = Judgement(verdict="poor", measure="F at IoU 0.5", over="1 image", score=Measured(value=0.07))
    page = run_report(
        title="Training of a-run-with-a-rather-long-name",
        settings={"training": {"data": {"path": "/a/rather/long/path/to/the/folder/that/was/learned/from"}}},
        provenance={"seed": 3},
        metrics=[{"step": 5, "validation": 0.25, "loss": 1.0}],
        samples=[("first", image, labels, np.where(labels == 1, 1, 0))],
        verdict="Converged.",
        judgement=judgement,
        micrometres=0.5,
    )
    return page.write(OutputFolder(tmp_path_factory.mktemp("report")))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_pictures_open_and_outlines_go(width: int, scheme: str, browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".verdict.poor").is_visible() and not page.locator("details table").first.is_visible()
    outlines, view = page.locator("main .outlines").first, page.locator("dialog")
    assert outlines.is_visible() and not view.is_visible() and page.locator("main .bar").first.inner_text() == "10 µm"

    page.locator("main .panel").nth(1).click()
    shown = view.locator(".panel")
    whole = shown.bounding_box()
    assert view.is_visible() and view.locator(".title").inner_text().startswith("first: F 0.67")
    assert whole["width"] == pytest.approx(min(width, 752 * 1.5), abs=2)  # as large as the window lets it be
    shown.click()
    assert shown.bounding_box()["width"] == pytest.approx(3 * whole["width"], rel=0.02)
    view.locator(".switch").click()
    assert not view.locator(".outlines").is_visible()
    page.keyboard.press("Escape")
    assert not view.is_visible() and not outlines.is_visible()
    page.locator("main .switch").first.click()
    page.locator("summary").first.click()
    assert outlines.is_visible() and page.locator("details table").first.is_visible()
    assert faults == []
    context.close()
