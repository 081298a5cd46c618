"""A real browser, the pages of studios in it, and what every page has to keep to."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from studio_server import TOKEN, Opened

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if BROWSER is None:
        pytest.skip("no Chromium: on Debian, apt install chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        with playwright.chromium.launch(executable_path=BROWSER, args=arguments) as launched:
            yield launched


@pytest.fixture
def page_of(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page of a studio; at the end no page may have met an error, or asked anybody else for anything."""
    wrong: list[str] = []
    contexts = []

    def opening(running: Opened, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith((running.address, "blob:", "data:")) else wrong.append(asked.url)
            ),
        )
        page.goto(f"{running.address}/?token={TOKEN}")
        page.wait_for_selector("main:not([hidden])")
        return page

    yield opening
    for context in contexts:
        context.close()
    assert wrong == []
