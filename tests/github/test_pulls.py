"""Pull requests, check runs and comments: the driver over HTTP against the strict simulator."""

import json

import pytest

from reconciler.drivers.github.driver import driver
from reconciler.drivers.github.pulls import GitHubPullRequests
from reconciler.model.errors import PermissionDenied, ValidationFailed
from reconciler.model.events import Delivery
from reconciler.model.reviews import Annotation, CheckReport, CommitState, Conclusion, PullComment
from tests.github.apps import create
from tests.github.test_app import acting

PULLS = GitHubPullRequests()
REPOSITORY = "acme/web"
HEAD = "b" * 40
PERMISSIONS = {"checks": "write", "pull_requests": "write", "statuses": "write", "contents": "read", "metadata": "read"}
MARKER = "<!-- reconciler-review team-a -->"


def app_of(github):
    app = create(github, permissions=PERMISSIONS)
    github.admin.do("open_pull", repository=REPOSITORY, head_sha=HEAD, head_repo="mallory/web", author="mallory")
    return app


def report(conclusion=None, annotations=0, **more):
    notes = tuple(Annotation(f"a{at}.yaml", 1, True, "RC1001", "wrong") for at in range(annotations))
    return CheckReport(REPOSITORY, HEAD, "reconciler/plan", "m", "title", "summary", "text", conclusion, notes, **more)


def rows(github, group):
    state = github.admin.state()
    return state[group].get(str(state["repos"][REPOSITORY]["id"]), [])


async def test_a_fork_is_recognized_also_when_it_is_gone(github):
    app = app_of(github)
    github.admin.do("open_pull", repository=REPOSITORY, head_sha="c" * 40, head_repo=None)
    github.admin.do("open_pull", repository=REPOSITORY, head_sha="d" * 40)
    async with acting(github, app) as api:
        pulls = await PULLS.open_pulls(api, REPOSITORY)
        assert [(pull.number, pull.fork) for pull in pulls] == [(3, False), (2, True), (1, True)]
        github.admin.do("merge_pull", repository=REPOSITORY, number=1, sha="e" * 40, by="ada")
        merged = await PULLS.pull(api, REPOSITORY, 1)
    assert (merged.is_open, merged.merge_commit, merged.merged_by) == (False, "e" * 40, "ada")


async def test_lists_are_read_to_their_last_page(github):
    app = app_of(github)
    github.admin.settings(page_size=2)
    for at in range(5):
        github.admin.do("open_pull", repository=REPOSITORY, head_sha=f"{at}" * 40)
    async with acting(github, app) as api:
        assert len(await PULLS.open_pulls(api, REPOSITORY)) == 6


async def test_a_lost_answer_makes_no_second_check(github):
    app = app_of(github)
    github.admin.fault(method="POST", path="/check-runs$", effect="reset", commit=True, times=1)
    async with acting(github, app) as api:
        with pytest.raises(Exception):  # noqa: B017  whatever the lost answer is reported as
            await PULLS.check(api, report(), "")
        number = await PULLS.check(api, report(Conclusion.SUCCESS), "")
        assert await PULLS.check(api, report(Conclusion.SUCCESS), "999999") == number
    (check,) = rows(github, "checks")
    assert (str(check["id"]), check["conclusion"]) == (number, "success")


async def test_annotations_go_in_pages_and_go_on_after_a_failure(github):
    app = app_of(github)
    github.admin.fault(method="PATCH", path="/check-runs/", status=500, skip=1, times=9)
    async with acting(github, app) as api:
        number = await PULLS.check(api, report(), "")
        with pytest.raises(Exception):  # noqa: B017  whatever the 500 is reported as
            await PULLS.check(api, report(Conclusion.FAILURE, 120), number)
        (check,) = rows(github, "checks")
        assert (check["status"], len(check["annotations"])) == ("in_progress", 50)
        github.admin.clear_faults()
        await PULLS.check(api, report(Conclusion.FAILURE, 120), number)
    (check,) = rows(github, "checks")
    assert (check["conclusion"], len({row["path"] for row in check["annotations"]}), len(check["annotations"])) == (
        "failure",
        120,
        120,
    )


async def test_a_check_of_another_app_with_the_same_name_and_marker_is_left_alone(github):
    other, app = create(github, permissions=PERMISSIONS), app_of(github)
    async with acting(github, other) as api:
        theirs = await PULLS.check(api, report(), "")
    async with acting(github, app) as api:
        ours = await PULLS.check(api, report(Conclusion.NEUTRAL), "")
    assert ours != theirs
    assert sorted(row["conclusion"] or "" for row in rows(github, "checks")) == ["", "neutral"]


async def test_a_comment_of_somebody_else_with_our_marker_is_not_ours(github, api):
    app = app_of(github)
    await api.request("POST", f"/repos/{REPOSITORY}/issues/1/comments", json={"body": f"{MARKER} mine"})
    github.admin.settings(page_size=1)
    comment = PullComment(REPOSITORY, 1, MARKER, f"{MARKER}\nplan")
    async with acting(github, app) as own:
        assert await PULLS.comment(own, comment, "", create=False) == ""
        first = await PULLS.comment(own, comment, "")
        assert await PULLS.comment(own, comment, "") == first
        assert await PULLS.comment(own, PullComment(REPOSITORY, 1, MARKER, f"{MARKER}\nnew"), "999") == first
    assert [row["body"].partition(MARKER)[2].strip() for row in rows(github, "comments")] == ["mine", "new"]


async def test_a_comment_that_is_too_long_is_refused(github):
    app = app_of(github)
    async with acting(github, app) as api:
        with pytest.raises(ValidationFailed):
            await PULLS.comment(api, PullComment(REPOSITORY, 1, MARKER, MARKER + "x" * 65_536), "")


async def test_a_token_writes_no_check_and_the_same_status_only_once(github, api):
    app_of(github)
    assert not PULLS.has_checks(api.connection)
    with pytest.raises(PermissionDenied):
        await PULLS.check(api, report(), "")
    for state in ("pending", "success", "success"):
        await PULLS.status(api, CommitState(REPOSITORY, HEAD, "reconciler/plan", state, "text"))
    assert [row["state"] for row in rows(github, "commit_statuses")] == ["pending", "success"]


async def test_only_people_with_write_access_may_write(github):
    app = app_of(github)
    github.admin.put_state({"users": {"eve": {}}, "repos": {REPOSITORY: {"collaborators": {"ada": "write", "bob": "read"}}}})
    async with acting(github, app) as api:
        assert [await PULLS.may_write(api, REPOSITORY, login) for login in ("ada", "bob", "eve", "nobody", "../x")] == [
            True,
            False,
            False,
            False,
            False,
        ]


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"pull_request": 1}', b'{"action": "opened", "pull_request": {"number": "x"}}', b"\xff", b"[" * 9999],
)
@pytest.mark.parametrize("kind", ["pull_request", "merge_group", "check_run", "check_suite", "push"])
def test_a_payload_of_another_form_says_nothing(payload, kind):
    assert PULLS.read(Delivery("1", kind, payload)) is None


def test_an_event_names_the_pull_request_and_a_press_its_button():
    end = {"sha": HEAD, "ref": "x", "repo": {"id": 2}}
    pull = {
        "number": 7,
        "head": end,
        "base": {**end, "ref": "main", "repo": {"id": 1}},
        "user": {"login": "eve"},
        "title": "t" * 999,
    }
    body = json.dumps({"action": "synchronize", "pull_request": pull, "repository": {"full_name": "Acme/Web"}}).encode()
    event = PULLS.read(Delivery("1", "pull_request", body))
    assert event is not None
    assert event.pull is not None
    assert (event.repository, event.pull.number, event.pull.fork, len(event.pull.title)) == ("acme/web", 7, True, 200)
    press = {
        "action": "requested_action",
        "requested_action": {"identifier": "approve-1"},
        "check_run": {"id": 5, "head_sha": HEAD},
    }
    event = PULLS.read(Delivery("1", "check_run", json.dumps({**press, "sender": {"login": "ada"}}).encode()))
    assert event is not None
    assert event.press is not None
    assert (event.press.check_id, event.press.login, event.press.button) == ("5", "ada", "approve-1")
    assert driver.pulls is not None


def output(**more):
    return {"title": "t", "summary": "s", **more}


def note(**more):
    return output(
        annotations=[{"path": "a", "start_line": 1, "end_line": 1, "annotation_level": "notice", "message": "m", **more}]
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"name": " "}, "name"),
        ({"output": {"summary": "s"}}, "title"),
        ({"output": output(text="x" * 65_536)}, "65535"),
        ({"output": note(end_line=2, start_column=1)}, "column"),
        ({"output": note(message="é" * 40_000)}, "too long"),
        ({"output": {**note(), "annotations": note()["annotations"] * 51}}, "50 items"),
        ({"details_url": "javascript:alert(1)"}, "http"),
        ({"status": "completed"}, "conclusion"),
        ({"conclusion": "stale"}, "possible"),
        ({"conclusion": "success", "completed_at": "yesterday"}, "date-time"),
        ({"actions": [{"label": "a", "description": "b", "identifier": "x" * 21}]}, "20 characters"),
        ({"actions": [{"label": "a", "description": "b", "identifier": "c"}] * 4}, "3 actions"),
        ({"head_sha": "0" * 40}, "No commit found"),
        ({"unknown": 1}, "permitted"),
    ],
)
async def test_the_simulator_refuses_what_github_refuses(github, body, reason):
    app = app_of(github)
    async with acting(github, app) as api:
        with pytest.raises(ValidationFailed, match=reason):
            await api.request("POST", f"/repos/{REPOSITORY}/check-runs", json={"name": "n", "head_sha": HEAD, **body})
    assert rows(github, "checks") == []


async def test_our_check_is_recognized_on_a_later_page(github):
    app = app_of(github)
    async with acting(github, app) as api:
        ours = await PULLS.check(api, report(), "")
        for at in range(3):
            body = {"name": "reconciler/plan", "head_sha": HEAD, "external_id": f"other-{at}"}
            await api.request("POST", f"/repos/{REPOSITORY}/check-runs", json=body)
        github.admin.settings(page_size=1)
        assert await PULLS.check(api, report(Conclusion.SUCCESS), "") == ours


def test_events_that_are_read():
    def read(kind, **payload):
        body = json.dumps({"repository": {"id": 1, "full_name": "Acme/Web"}, "sender": {"login": "ada"}, **payload})
        return PULLS.read(Delivery("1", kind, body.encode()))

    suite = read("check_suite", action="rerequested", check_suite={"id": 5, "head_sha": HEAD})
    assert (suite.repository, suite.press.check_id, suite.press.head, suite.press.login) == ("acme/web", "", HEAD, "ada")
    assert read("check_suite", action="requested", check_suite={"id": 5, "head_sha": HEAD}) is None
    group = {"head_sha": HEAD, "base_sha": "a" * 40, "base_ref": "refs/heads/main", "head_ref": "refs/heads/q/1"}
    assert not read("merge_group", action="checks_requested", merge_group=group).group.is_gone
    assert read("merge_group", action="destroyed", reason="merged", merge_group=group).group.is_gone
    assert read("push", ref="refs/heads/main").pushed == "main"
    assert read("push", ref="refs/tags/main") is None


async def test_a_comment_of_ours_is_recognized_where_the_host_does_not_name_the_app(github):
    app = app_of(github)
    github.admin.settings(leave_out=["performed_via_github_app", "client_id"])
    comment = PullComment(REPOSITORY, 1, MARKER, f"{MARKER}\nplan")
    github.admin.do("write_comment", repository=REPOSITORY, number=1, sender="mallory", body=f"{MARKER} mine")
    async with acting(github, app) as api:
        first = await PULLS.comment(api, comment, "")
        assert await PULLS.comment(api, comment, "") == first
        check = await PULLS.check(api, report(), "")
        assert await PULLS.check(api, report(Conclusion.SUCCESS), "") == check
