# SPDX-License-Identifier: GPL-3.0-or-later
"""One Chromium for a file of tests; skips with a reason where there is no Chromium or no playwright.

Playwright's event loop occupies its thread, so that no browser outlives the file that asked for it.
"""

import shutil
from collections.abc import Iterator

import pytest

from tests.browser.viewer import FOLDER, OPTIONS, Viewer, served

try:
    from playwright.sync_api import Browser, sync_playwright
except ImportError:  # pragma: no cover
    pytest.skip("playwright is not installed: run `make setup`", allow_module_level=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        pytest.skip("there is no Chromium on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def viewer(chromium: Browser) -> Iterator[Viewer]:
    """A fresh page from disk. At the end: nothing was written to the console, and nobody else was asked."""
    made = Viewer(chromium.new_context())
    made.open((FOLDER / "index.html").as_uri())
    yield made
    made.close()


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """The page behind a plain web server on this machine."""
    with served(FOLDER) as url:
        yield url
