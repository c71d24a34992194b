"""The dashboard in a real browser: accessible in both themes and at every width, by keyboard, without JavaScript, and live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cli.staged import payload, waiting
from tests.dashboard.browsing import chromium, visiting
from tests.dashboard.test_pages import places
from tests.dashboard.watched import Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TABS = 60
"""Keys that a person presses at most to get to something."""


@pytest.fixture(scope="module")
def browser(watched: Watched) -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.timeout(400)  # twenty pages on a machine that may be busy; the first one also starts the daemon
@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(browser: Browser, watched: Watched, theme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    found: dict[str, object] = {}
    with visiting(browser, watched, "operator", color_scheme=theme, viewport={"width": width, "height": 900}) as page:
        for place in ("/login", *places(watched), "/nope"):
            page.goto(place)
            result = axe.run(page).response
            broken = [(row["id"], [node["html"][:200] for node in row["nodes"][:3]]) for row in result["violations"]]
            if broken:
                found[place] = broken
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found[f"{place} is wider than {width}"] = page.evaluate(_WIDEST)
    assert found == {}


_WIDEST = """() => [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth)
  .slice(0, 3).map((e) => e.outerHTML.slice(0, 160))"""


def _tab_to(page: Page, text: str) -> None:
    """Press Tab until the element with this text has the focus."""
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.textContent || '').trim()") == text:
            return
    raise AssertionError(f"no {text!r} within {TABS} tabs")


def test_a_person_logs_in_approves_and_logs_out_with_the_keyboard_alone(browser: Browser, watched: Watched) -> None:
    from tests.dashboard.watched import PEOPLE

    item = waiting(watched)
    with visiting(browser, watched) as page:
        page.goto(f"/executions/{item['id']}")
        page.keyboard.type(PEOPLE["approver"])  # the field has the focus
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/executions/{item['id']}")
        _tab_to(page, "Approve")
        page.keyboard.press("Enter")
        page.get_by_text("Your approval is stored.").wait_for()
        page.goto("/")
        _tab_to(page, "Skip to the content")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto("/")
        _tab_to(page, "Log out")
        page.keyboard.press("Enter")
        page.wait_for_url("**/login")


def test_an_operator_suspends_resumes_cancels_and_runs_again_with_the_keyboard_alone(browser: Browser, watched: Watched) -> None:
    item = waiting(watched)
    with visiting(browser, watched, "operator") as page:
        page.goto("/resources/EventSource/default/one")
        _tab_to(page, "Reconcile now")
        page.keyboard.press("Tab")
        page.keyboard.type("moving hosts")
        page.keyboard.press("Enter")
        page.get_by_text("Writes are suspended.").wait_for()
        page.get_by_role("button", name="Resume").wait_for()  # it comes by itself
        page.reload()
        _tab_to(page, "Resume")
        page.keyboard.press("Enter")
        page.get_by_text("Writes are allowed again.").wait_for()
        page.goto(f"/executions/{item['id']}")
        _tab_to(page, "Cancel")
        page.keyboard.press("Enter")
        page.get_by_text("The cancellation is requested.").wait_for()
        page.goto(f"/executions/{item['id']}")
        _tab_to(page, "Run again")
        page.keyboard.press("Enter")
        page.get_by_text("It is queued again.").wait_for()


def test_everything_reads_and_acts_without_javascript(browser: Browser, watched: Watched) -> None:
    item = waiting(watched)
    with visiting(browser, watched, "approver", java_script_enabled=False) as page:
        for place in places(watched):
            page.goto(place)
            assert page.locator("h1").inner_text()
        page.goto(f"/executions/{item['id']}")
        page.get_by_role("button", name="Approve").click()
        assert page.get_by_text("Your approval is stored.").is_visible()


def test_a_change_is_seen_without_reloading_and_typed_text_stays(browser: Browser, watched: Watched) -> None:
    with visiting(browser, watched, "operator") as page:
        page.goto("/events")
        page.get_by_text("live", exact=True).wait_for()
        before = page.locator("tbody tr").first.get_attribute("id")
        began = time.monotonic()
        watched.cli("trigger", "hand", "--payload", payload("quick"))
        page.wait_for_function("(id) => document.querySelector('tbody tr').id !== id", arg=before)
        print(f"trigger to pixel, with the start of the command: {time.monotonic() - began:.2f} s")
        page.goto("/resources/EventSource/default/one")
        page.get_by_text("live", exact=True).wait_for()
        page.get_by_label("Reason").fill("half a sentence")
        watched.cli("reconcile", "EventSource/one", "--wait")
        page.wait_for_timeout(1_500)
        assert page.get_by_label("Reason").input_value() == "half a sentence"
        assert page.evaluate("document.activeElement.name") == "reason"


def test_a_stream_that_is_cut_connects_again(browser: Browser, watched: Watched) -> None:
    with visiting(browser, watched, "viewer") as page:
        page.goto("/events")
        page.get_by_text("live", exact=True).wait_for()
        page.context.set_offline(True)
        page.evaluate("dispatchEvent(new Event('pagehide'))")  # closes the stream, as a laptop that sleeps
        before = page.locator("tbody tr").first.get_attribute("id")
        watched.cli("trigger", "hand", "--payload", payload("quick"))
        page.context.set_offline(False)
        page.evaluate("dispatchEvent(new Event('pageshow'))")
        page.wait_for_function("(id) => document.querySelector('tbody tr').id !== id", arg=before)
