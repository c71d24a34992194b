"""What is written back to GitHub: each status once, a Deployment once, whatever happened in between."""

import dataclasses
import json

import pytest

from reconciler.drivers.github.driver import driver
from reconciler.drivers.github.reports import ends_with, fitting
from reconciler.model.errors import (
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    ProviderUnavailable,
    ValidationFailed,
)
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport
from tests.github.running import check_requests
from tests.github.simulator import Hands
from tests.support.sandbox import client

WEB = "/repos/acme/web"
MARKER = "itm-" + "a" * 24
reporter = driver.reporter


@pytest.fixture
def hands(github):
    with Hands(github) as opened:
        yield opened
    check_requests(github)


@pytest.fixture
def sha(hands):
    return hands.get(f"{WEB}/commits/main")["sha"]


def request(**changes):
    expected = DeploymentRequest(repository="acme/web", ref="main", environment="live", marker=MARKER, description="Deploy web")
    return dataclasses.replace(expected, **changes)


def on_deployment(target, state="in_progress", **changes):
    text = f"web 1.2: {state} ({MARKER})"
    status = StatusReport(ReportKind.DEPLOYMENT, "acme/web", target, state, text, MARKER, log_url="https://ci.example.org/1")
    return dataclasses.replace(status, **changes)


def on_commit(target, state="success", **changes):
    text = f"web 1.2: {state} ({MARKER})"
    status = StatusReport(ReportKind.COMMIT, "acme/web", target, state, text, MARKER, context="deploy/live")
    return dataclasses.replace(status, **changes)


def posts(hands):
    return [row["body"] for row in hands.github.admin.requests() if row["method"] == "POST"]


def statuses(hands, number):
    return hands.get(f"{WEB}/deployments/{number}/statuses?per_page=100")


def on(hands, sha):
    return hands.get(f"{WEB}/commits/{sha}/statuses?per_page=100")


# deployments


async def test_a_deployment_is_made_as_it_was_asked_for_and_merges_nothing(api, hands, sha):
    number = await reporter.deployment(api, request(task="deploy:web", transient=True, production=False, through=("Stage/a/b",)))
    [shown] = hands.get(f"{WEB}/deployments")
    assert (str(shown["id"]), shown["sha"], shown["task"], shown["environment"]) == (number, sha, "deploy:web", "live")
    assert (shown["payload"], shown["transient_environment"], shown["production_environment"]) == (
        {"reconciler": MARKER, "stages": ["Stage/a/b"]},
        True,
        False,
    )
    [body] = posts(hands)
    assert (body["auto_merge"], body["required_contexts"]) == (False, [])
    await reporter.deployment(api, request(marker="itm-other", environment="production"))
    assert "production_environment" not in posts(hands)[1]


async def test_a7_a_deployment_is_found_among_many_on_all_pages_and_as_text(api, hands):
    number = await reporter.deployment(api, request())
    for index in range(130):
        await reporter.deployment(api, request(marker=f"itm-{index}"))
    state = hands.github.admin.state()["deployments"]
    for rows in state.values():
        rows[0]["payload"] = json.dumps(rows[0]["payload"])  # as servers show it that were given text
        rows[1]["payload"] = "no JSON"
        rows[2]["payload"] = '["reconciler"]'
    hands.github.admin.put_state({"deployments": state})
    assert await reporter.deployment(api, request()) == number
    assert len(posts(hands)) == 131
    assert await reporter.deployment(api, request(environment="staging")) != number


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 202, "body": {"message": "Auto-merged main into x on deployment."}}, ValidationFailed),
        ({"status": 409, "body": {"message": "Conflict merging main into x."}}, Conflict),
        ({"status": 422, "body": {"message": "No ref found for: x"}}, ValidationFailed),
        ({"status": 201, "body": {"id": None}}, OutcomeUnknown),
        ({"status": 201, "body": []}, OutcomeUnknown),
        ({"status": 201, "body": "<html>"}, OutcomeUnknown),
    ],
)
async def test_a_deployment_that_is_not_made_is_an_error_of_its_kind(api, hands, fault, error):
    hands.github.admin.fault(method="POST", path="/deployments$", **fault)
    with pytest.raises(error):
        await reporter.deployment(api, request(ref="x"))


async def test_a_deployment_is_made_whatever_other_statuses_say(api, hands, sha):
    hands.post(f"{WEB}/statuses/{sha}", {"state": "failure", "context": "ci"})
    assert await reporter.deployment(api, request()) != ""


# statuses of a deployment


async def test_each_state_of_a_deployment_is_written_once_in_order(api, hands):
    number = await reporter.deployment(api, request())
    states = ["queued", "in_progress", "success"]
    assert [await reporter.report(api, on_deployment(number, state)) for state in states] == [True, True, True]
    assert [await reporter.report(api, on_deployment(number, state)) for state in states] == [False, False, False]
    shown = statuses(hands, number)[::-1]
    assert [(entry["state"], entry["description"], entry["log_url"]) for entry in shown] == [
        (state, f"web 1.2: {state} ({MARKER})", "https://ci.example.org/1") for state in states
    ]


async def test_what_a_status_links_to_is_told_where_there_is_something(api, hands):
    number = await reporter.deployment(api, request())
    await reporter.report(api, on_deployment(number, environment_url="https://web.example.org"))
    await reporter.report(api, on_deployment(number, "success", log_url=""))
    [second, first] = statuses(hands, number)
    assert first["environment_url"] == "https://web.example.org"
    assert (second["environment_url"], second["log_url"]) == ("", "")
    assert posts(hands)[-1].keys() == {"state", "description", "auto_inactive"}
    assert all(body["auto_inactive"] is True for body in posts(hands)[1:])


@pytest.mark.parametrize("target", ["", "x", "1/../2", "1?", "-1", "1" * 21])
async def test_a_target_that_is_none_is_refused_before_anything_is_asked(api, hands, target):
    for status in (on_deployment(target), on_commit(target), on_commit("main"), on_commit("g" * 40)):
        with pytest.raises(ValidationFailed):
            await reporter.report(api, status)
    assert hands.github.admin.requests() == []


async def test_a_deployment_or_a_commit_that_is_gone_is_told(api, hands):
    with pytest.raises(NotFound):
        await reporter.report(api, on_deployment("999"))
    assert posts(hands) == []
    hands.github.admin.fault(method="POST", path="/statuses/", status=422, body={"message": "No commit found for SHA: b"})
    with pytest.raises(ValidationFailed, match="No commit found"):
        await reporter.report(api, on_commit("b" * 40))


# statuses of a commit


async def test_each_state_of_a_commit_is_written_once_a_context(api, hands, sha):
    assert await reporter.report(api, on_commit(sha, "pending", log_url="https://ci.example.org/1")) is True
    assert await reporter.report(api, on_commit(sha, "pending", context="Deploy/Live")) is False  # one context, in any case
    assert await reporter.report(api, on_commit(sha, "pending", context="deploy/other")) is True
    assert await reporter.report(api, on_commit(sha)) is True
    assert await reporter.report(api, on_commit(sha)) is False
    shown = [(entry["context"], entry["state"], entry["target_url"]) for entry in on(hands, sha)]
    assert shown == [
        ("deploy/live", "success", None),
        ("deploy/other", "pending", None),
        ("deploy/live", "pending", "https://ci.example.org/1"),
    ]
    assert await reporter.report(api, on_commit(sha, context="")) is True
    assert await reporter.report(api, on_commit(sha, context="")) is False
    assert on(hands, sha)[0]["context"] == "default"


async def test_more_statuses_than_github_takes_are_refused(api, hands, sha):
    state = hands.github.admin.state()
    number = str(state["repos"]["acme/web"]["id"])
    row = {"sha": sha, "context": "deploy/live", "state": "pending", "target_url": None, "description": None}
    rows = [{**row, "id": 5000 + n, "creator": "x", "created_at": "2026-01-01T00:00:00Z"} for n in range(1000)]
    hands.github.admin.put_state({"commit_statuses": {number: rows}})
    with pytest.raises(ValidationFailed, match="maximum number of statuses"):
        await reporter.report(api, on_commit(sha))


# both


async def test_a_renamed_repository_is_followed(api, hands, sha):
    hands.github.admin.do("rename", **{"from": "acme/web", "to": "acme/site"})
    number = await reporter.deployment(api, request())
    assert [await reporter.report(api, entry) for entry in (on_deployment(number), on_commit(sha))] == [True, True]
    assert [await reporter.report(api, entry) for entry in (on_deployment(number), on_commit(sha))] == [False, False]
    assert await reporter.deployment(api, request()) == number


async def test_a_right_that_is_missing_is_named(github, connection):
    github.admin.put_state({"tokens": {"ro": {"kind": "fine", "permissions": {"deployments": "read", "contents": "read"}}}})
    async with client(driver, connection, "ro") as api:
        with pytest.raises(PermissionDenied) as caught:
            await reporter.deployment(api, request())
    assert "deployments: write" in caught.value.hint


@pytest.mark.parametrize("body", [{}, [1], [{"id": "1"}], [{"id": True}], [{}]])
async def test_d15_a_list_of_another_shape_is_an_error_and_nothing_is_written(api, hands, body):
    hands.github.admin.fault(method="GET", times=0, path="/(deployments|statuses)$", status=200, body=body)
    for work in (
        reporter.deployment(api, request()),
        reporter.report(api, on_deployment("7")),
        reporter.report(api, on_commit("a" * 40)),
    ):
        with pytest.raises(ProviderProtocolError):
            await work
    assert posts(hands) == []


async def test_a_list_that_cannot_be_read_to_its_end_proves_nothing(api, hands):
    number = await reporter.deployment(api, request())
    for index in range(120):
        hands.post(f"{WEB}/deployments/{number}/statuses", {"state": "queued", "description": str(index)})
    before = len(posts(hands))
    hands.github.admin.fault(method="GET", path="/statuses$", skip=1, times=0, status=503)
    with pytest.raises(ProviderUnavailable):
        await reporter.report(api, on_deployment(number))
    assert len(posts(hands)) == before


@pytest.mark.parametrize(
    ("description", "result"),
    [
        (f"done ({MARKER})", True),
        (MARKER, True),
        (f"done {MARKER}.", True),
        (f"{MARKER} done", False),
        (f"x{MARKER}", False),
        (f"x-{MARKER}", False),
        (f"done ({MARKER}-2)", False),
        (f"done ({MARKER[:-1]})", False),
        ("", False),
    ],
)
def test_a_marker_counts_only_as_the_last_word(description, result):
    assert ends_with(description, MARKER) is result
    assert not ends_with(description, "")


@pytest.mark.parametrize("text", ["", "short", "x" * 109, "x" * 110, "x" * 140, "x" * 500, "ü" * 200, "a (b) " * 60])
@pytest.mark.parametrize("form", ["{text} ({marker})", "{text} {marker}", "{text}"])
def test_a_description_is_cut_but_never_its_marker(text, form):
    cut = fitting(form.format(text=text, marker=MARKER), MARKER)
    assert len(cut) <= 140
    assert ends_with(cut, MARKER)
    assert cut.count(MARKER) == 1
    assert fitting(cut, MARKER) == cut
