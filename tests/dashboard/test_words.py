"""How values are written: nothing foreign becomes a link that runs, or a line that lies."""

import pytest

from reconciler.model.incidents import NoticePhase
from reconciler.model.status_document import ConditionRow, ResourceRow
from reconciler.server.dashboard import words
from reconciler.server.dashboard.login import local_path
from reconciler.server.dashboard.notices import PHASES
from reconciler.server.dashboard.words import age, block, event_place, identity, name_of, place_of, safe_url, short, shown, took


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "/path",
        "http://",
        "https://bank.example@evil.example/",
        "https://[::1",
        "https://a.example/\u202e",
        "ftp://a.example",
        "",
    ],
)
def test_no_link_to(url: str) -> None:
    assert safe_url(url) == ""


def test_links_to_web_pages_stay() -> None:
    assert safe_url("https://github.example/acme/one/settings/hooks/7?a=b#c")


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "///evil.example", "/\\evil.example", "https://evil.example", "evil", "/a\nb", "", "/" * 2_000, "/\\/x"],
)
def test_nobody_is_sent_elsewhere(path: str) -> None:
    assert local_path(path) == "/"


def test_the_page_somebody_came_from_stays() -> None:
    assert local_path("/events?source=a%2Fb&state=x") == "/events?source=a%2Fb&state=x"


@pytest.mark.parametrize(
    ("text", "words"),
    [("2026-01-01T00:00:00Z", "1m ago"), ("2026-01-01T02:01:30Z", "in 2h"), ("2025-12-29T00:01:00Z", "3d ago"), ("junk", "junk")],
)
def test_ages(text: str, words: str) -> None:
    assert age(text, 1_767_225_660.0) == words


def test_an_age_of_no_time_is_now() -> None:
    assert age("2026-01-01T00:00:00Z", 1_767_225_600.2) == "now"


def test_durations() -> None:
    assert took("2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z") == "5s"
    assert took("2026-01-01T00:00:00Z", "2026-01-01T00:02:05Z") == "2m 5s"
    assert took("2026-01-01T00:00:00Z", "2026-01-01T03:02:05Z") == "3h 2m"
    assert took("2026-01-01T00:00:00Z", "") == ""


def test_revisions_and_digests_are_short() -> None:
    assert short("main@sha1:0123456789abcdef") == "main@01234567"
    assert short("sha256:0123456789abcdef") == "sha256:01234567"
    assert short("main") == "main"


def test_identities_are_spelled_as_on_the_command_line() -> None:
    assert name_of("EventSource/default/payments") == "EventSource/payments"
    assert name_of("EventSource/payments@prod") == "EventSource/payments@prod"
    assert name_of("anything") == "anything"
    known = identity("EventSource/payments@prod")
    assert known is not None
    assert place_of(known) == "/resources/EventSource/prod/payments"
    assert event_place("a/b?c#d") == "/events/a%2Fb%3Fc%23d"


def test_invisible_characters_are_shown_and_long_texts_are_cut() -> None:
    assert shown("a\u202eb\nc\x1b") == "a\\u202eb\\nc\\x1b"
    assert block("a\nb\x1b") == "a\nb\\x1b"
    assert shown({"a": [1, None]}) == '{"a": [1, null]}'
    assert len(shown("x" * 100_000)) < 20_100


def test_every_phase_of_a_message_has_words() -> None:
    assert set(PHASES) == set(NoticePhase)


def test_the_cause_is_the_condition_that_made_the_state() -> None:
    conditions = (
        ConditionRow("Ready", "False", "Deleting", "being deleted", "2026-01-01T00:00:00Z", 1),
        ConditionRow("Reconciling", "True", "Deleting", "being deleted", "2026-01-01T00:00:00Z", 1),
        ConditionRow("PlanBlocked", "True", "DeletePercent", "4 deletes wait", "2026-01-01T00:00:00Z", 1),
    )
    row = ResourceRow("EventSource", "default", "x", "x.yaml", 1, 1, 1, False, (), (), "", "", 0, (), conditions)
    assert (words.state_of(row), words.cause_of(row).reason) == (words.BLOCKED, "DeletePercent")
