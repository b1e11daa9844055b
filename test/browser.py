"""A Chromium as tests drive it. No Python package brings one: `make tools` installs Debian's."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@cache
def chromium() -> str:
    """The path of a Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "Chromium is missing: make tools, or apt-get install chromium-headless-shell"
    return found


@contextmanager
def open_browser() -> Generator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        yield browser
        browser.close()
