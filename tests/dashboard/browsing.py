"""Debian's Chromium, driven by Playwright: it downloads nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.dashboard.watched import PEOPLE, Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser. A test without it fails: it is never skipped."""
    from playwright.sync_api import sync_playwright

    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.fail("chromium is missing: run tests/setup-debian.sh as root", pytrace=False)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Browser, watched: Watched, role: str = "", **options: Any) -> Iterator[Page]:
    """Open a page of a person with ``role``. Errors of the page, and requests to another host, fail the test."""
    root = options.setdefault("base_url", watched.url)
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(15_000)
    faults: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("request", lambda asked: None if asked.url.startswith(root) else faults.append(asked.url))
        if role:
            page.goto("/login")
            page.get_by_label("Token").fill(PEOPLE[role])
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(lambda url: "/login" not in url)
        yield page
        assert faults == []
    finally:
        context.close()
