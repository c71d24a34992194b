"""The dashboard in a real browser: accessible in both themes and at every width, by keyboard, without JavaScript, and live."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from reconciler.server.dashboard.actions import ACTIONS
from tests.cli.staged import payload, waiting
from tests.dashboard.browsing import chromium, visiting
from tests.dashboard.cutting import CuttingProxy
from tests.dashboard.test_pages import places
from tests.dashboard.watched import PEOPLE, Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

TABS = 60
"""Keys that a person presses at most to get to something."""


@pytest.fixture(scope="module")
def browser(watched: Watched) -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.timeout(400)  # thirty pages on a machine that may be busy; it may also start the daemon
def test_every_page_is_accessible_and_fits_in_both_themes_and_widths(browser: Browser, watched: Watched) -> None:
    from axe_playwright_python.base import AXE_SCRIPT

    found: dict[str, object] = {}
    with visiting(browser, watched, "operator") as page:
        for place in ("/login", *places(watched), "/nope"):
            page.goto(place)
            assert page.title().endswith(" · reconciler"), place
            page.evaluate(AXE_SCRIPT)
            for theme, width in itertools.product(("light", "dark"), (320, 1280)):
                page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # no color on its way to another
                page.set_viewport_size({"width": width, "height": 900})
                if broken := page.evaluate(_AXE, None if theme == "light" else ["color-contrast", "link-in-text-block"]):
                    found[f"{place}, {theme}, {width}"] = broken
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    found[f"{place} is wider than {width}"] = page.evaluate(_WIDEST)
    assert found == {}


# A theme changes colors alone, so that in the dark one only the rules about colors can find more.
_AXE = """(rules) => axe.run({resultTypes: ['violations'], ...(rules && {runOnly: rules})}).then((result) =>
  result.violations.map((rule) => [rule.id, rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]))"""
_WIDEST = """() => [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth)
  .slice(0, 3).map((e) => e.outerHTML.slice(0, 160))"""


def _tab_to(page: Page, text: str) -> None:
    """Press Tab until the element with this text has the focus."""
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.textContent || '').trim()") == text:
            return
    raise AssertionError(f"no {text!r} within {TABS} tabs")


def test_a_person_logs_in_and_out_with_the_keyboard_alone(browser: Browser, watched: Watched) -> None:
    with visiting(browser, watched) as page:
        page.goto("/executions?state=finished")
        page.keyboard.type(PEOPLE["viewer"])  # the field has the focus
        page.keyboard.press("Enter")
        page.wait_for_url("**/executions?state=finished")
        page.goto("/")
        _tab_to(page, "Skip to the content")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto("/")
        _tab_to(page, "Log out")
        page.keyboard.press("Enter")
        page.wait_for_url("**/login")
        page.go_back()  # the page of before is not shown again
        page.get_by_label("Token").wait_for()
        assert page.get_by_role("button", name="Log out").count() == 0


@dataclass(frozen=True, slots=True)
class Press:
    """A button of an action: who presses it, where, what the page says afterwards, and the verb in the audit log."""

    action: str
    role: str
    place: str
    verb: str
    typed: str = ""
    """Text that a person types into the field before the button."""


def _presses(watched: Watched) -> list[Press]:
    first, second, event = waiting(watched), waiting(watched), watched.api_of("/events?state=processed")["events"][0]["id"]
    source = "/resources/EventSource/default/one"
    return [
        Press("reconcile", "operator", source, "reconcile"),
        Press("suspend", "operator", source, "suspend", typed="moving hosts"),
        Press("resume", "operator", source, "resume"),
        Press("redeliver", "operator", source, "redeliver"),
        Press("replay", "operator", f"/events/{event}", "replay"),
        Press("cancel", "operator", f"/executions/{first['id']}", "discard"),
        Press("rerun", "operator", f"/executions/{first['id']}", "rerun"),
        Press("approve", "approver", f"/executions/{second['id']}", "approve"),
        Press("approve_plan", "approver", "/plan", "approve"),
    ]


def _by_keyboard(page: Page, press: Press) -> None:
    if press.typed:
        page.wait_for_function("document.querySelector('input[name=reason]')")
        for _ in range(TABS):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.name") == "reason":
                break
        page.keyboard.type(press.typed)
    else:
        _tab_to(page, ACTIONS[press.action].label)
    page.keyboard.press("Enter")


def _without_script(page: Page, press: Press) -> None:
    if press.typed:
        page.get_by_label("Reason").fill(press.typed)
    page.get_by_role("button", name=ACTIONS[press.action].label, exact=True).first.click()


@pytest.mark.parametrize("script", [True, False], ids=["by keyboard alone", "without JavaScript"])
def test_every_action_works_and_is_audited_with_the_person(browser: Browser, watched: Watched, script: bool) -> None:
    watched.block("kept")
    presses = _presses(watched)
    assert {press.action for press in presses} == set(ACTIONS)
    last = watched.rows()[0]["seq"]
    for role in ("operator", "approver"):
        with visiting(browser, watched, role, java_script_enabled=script) as page:
            for press in (each for each in presses if each.role == role):
                button = page.get_by_role("button", name=ACTIONS[press.action].label, exact=True).first
                _open(page, press.place, button)
                (_by_keyboard if script else _without_script)(page, press)
                page.get_by_text(ACTIONS[press.action].done).wait_for()
    acts = {(row["verb"], row["actor"]) for row in watched.rows() if row["seq"] > last}
    assert {(press.verb, f"the-{press.role}") for press in presses} <= acts


def _open(page: Page, place: str, button: Locator) -> None:
    """Open a page; load it again until the button of the action before it is gone."""
    for _ in range(100):
        page.goto(place)
        if button.count():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"no such button on {place}")


def test_every_page_reads_without_javascript(browser: Browser, watched: Watched) -> None:
    with visiting(browser, watched, "viewer", java_script_enabled=False) as page:
        for place in places(watched):
            page.goto(place)
            assert page.locator("h1").inner_text(), place
            assert page.locator("main").inner_text().strip(), place


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


def test_a_stream_that_is_cut_in_the_middle_connects_again_and_shows_the_present_state(
    browser: Browser, watched: Watched
) -> None:
    with CuttingProxy(watched.port) as proxy, visiting(browser, watched, "viewer", base_url=proxy.url) as page:
        page.goto("/events")
        page.get_by_text("live", exact=True).wait_for()
        before = page.locator("tbody tr").first.get_attribute("id")
        proxy.cut_at = b"event: cha"
        watched.cli("trigger", "hand", "--payload", payload("quick"))
        page.wait_for_function("(id) => document.querySelector('tbody tr').id !== id", arg=before)
        assert proxy.cuts >= 1
        page.get_by_text("live", exact=True).wait_for()
