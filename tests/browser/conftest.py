"""The system's Chromium, driven by Playwright. `make browser` installs it where it may."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]
LIMIT_MS = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies here needs a browser: `make browser` runs it, `make test` does not."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("there is no Chromium here: `make browser` installs it where it may")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


Open = Callable[..., Page]


@pytest.fixture
def window(browser: Browser) -> Iterator[Open]:
    """Opens a window; at the end of the test no page in it has complained, asked for the
    network, or shown a dialog.
    """
    complaints: list[str] = []
    contexts = []

    def opened(
        width: int = 1200, scheme: str = "light", *, strict: bool = True, offline: bool = True
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            offline=offline,
        )
        context.set_default_timeout(LIMIT_MS)
        contexts.append(context)
        page = context.new_page()
        if strict:
            page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
            page.on(
                "request",
                lambda r: (
                    None if r.url.startswith(("file:", "data:")) else complaints.append(r.url)
                ),
            )
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def pictures() -> Path | None:
    """Where pictures of what was seen are kept, if somebody wants to look: $PICTURES."""
    folder = os.environ.get("PICTURES")
    return Path(folder) if folder else None
