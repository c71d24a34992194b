"""What a person does: who may, by which form, what is written down, and every way in which a form is not ours."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.cli.parser import build_parser
from reconciler.model.errors import StateError
from reconciler.server.api.access import FAILURES, Access
from reconciler.server.dashboard.actions import ACTIONS
from reconciler.server.dashboard.submissions import TWICE_S, Submissions
from tests.cli.staged import waiting
from tests.dashboard.watched import PEOPLE, Watched, form_of

SOURCE = {"kind": "EventSource", "name": "one"}


def test_a_login_is_a_new_cookie_that_scripts_and_other_sites_cannot_use(watched: Watched) -> None:
    with watched.browser_of() as client:
        before = {cookie.value for cookie in client.cookies.jar}
        page = client.get("/login")
        given = page.headers["set-cookie"]
        answer = client.post("/login", data={"form": form_of(page.text), "token": PEOPLE["viewer"]})
        cookie = next(text for text in answer.headers.get_list("set-cookie") if "Max-Age=43200" in text)
        for part in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert part in cookie
            assert part in given
        assert cookie.split("=", 1)[1].split(";")[0] not in before
        assert PEOPLE["viewer"] not in cookie
        again = client.post("/login", data={"form": form_of(page.text), "token": PEOPLE["viewer"]})
        assert again.status_code == 403  # the form was used


def test_a_session_that_somebody_else_chose_is_not_taken_over(watched: Watched) -> None:
    with watched.browser_of() as client:
        client.cookies.set(_cookie_of(watched), "chosen-by-somebody-else", domain="127.0.0.1")
        assert client.get("/").status_code == 303
        form = form_of(client.get("/login").text)
        assert client.post("/login", data={"form": form, "token": PEOPLE["viewer"]}).status_code == 303
        assert "chosen-by-somebody-else" not in {
            cookie.value for cookie in client.cookies.jar if cookie.value and len(cookie.value) > 50
        }


def _cookie_of(watched: Watched) -> str:
    with watched.browser_of("viewer") as client:
        return next(cookie.name for cookie in client.cookies.jar)


def test_after_logout_the_cookie_and_its_copies_are_worth_nothing(watched: Watched) -> None:
    with watched.browser_of("viewer") as client, watched.browser_of() as thief:
        for cookie in client.cookies.jar:
            thief.cookies.set(cookie.name, cookie.value or "", domain="127.0.0.1")
        assert thief.get("/").status_code == 200
        assert client.post("/logout", data={"form": form_of(client.get("/").text)}).status_code == 303
        assert client.get("/").status_code == 303
        assert thief.get("/").status_code == 303


def test_wrong_tokens_are_refused_and_after_twenty_of_them_slowly(watched: Watched) -> None:
    with watched.browser_of() as client:
        codes = []
        for number in range(FAILURES + 2):
            form = form_of(client.get("/login").text)
            codes.append(client.post("/login", data={"form": form, "token": f"canary-wrong-{number}"}).status_code)
        assert codes[0] == 401
        assert codes[-1] == 429
    with watched.browser_of("viewer") as client:  # the right one works still
        assert client.get("/").status_code == 200
    assert "canary-" not in watched.log()


@pytest.mark.parametrize("role", list(PEOPLE))
def test_a_role_can_press_what_the_api_lets_it_do_and_nothing_else(watched: Watched, role: str) -> None:
    with watched.browser_of(role) as client:
        for name, action in ACTIONS.items():
            answer = watched.act(client, name)
            allowed = action.operation.access in {
                Access.VIEWER,
                {"operator": Access.OPERATOR, "approver": Access.APPROVER}.get(role),
            }
            if allowed:
                assert answer.status_code in {303, 422}, (name, answer.text[-800:])  # the fields are missing, the role is not
            else:
                assert answer.status_code == 403, name
                assert "needs the role" in answer.text
        page = client.get("/resources/EventSource/default/one").text
        assert ('action="/actions/suspend"' in page) is (role == "operator")


def test_an_approval_is_bound_to_what_was_seen_and_stored_with_the_person(watched: Watched) -> None:
    item = waiting(watched)
    with watched.browser_of("approver") as client:
        page = client.get(f"/executions/{item['id']}").text
        assert item["digest"] in page
        other = watched.act(client, "approve", id=item["id"], digest="sha256:" + "0" * 64)
        assert other.status_code in {409, 422, 503}
        assert "not what was reviewed" in other.text
        done = watched.act(client, "approve", f"/executions/{item['id']}", id=item["id"], digest=item["digest"])
        assert done.status_code == 303, done.text
        assert "Your approval is stored." in client.get(done.headers["location"]).text
        watched.act(client, "approve", id=item["id"], digest=item["digest"])
    rows = [row for row in watched.rows() if row["verb"] == "approve" and item["id"] in json.dumps(row)]
    assert [row["actor"] for row in rows] == ["the-approver"]


def test_a_form_that_is_sent_twice_at_once_runs_once(watched: Watched) -> None:
    ended = waiting(watched)
    with watched.browser_of("operator") as client:
        assert watched.act(client, "cancel", id=ended["id"]).status_code == 303
        fields = {"form": form_of(client.get("/").text), "back": "/", "id": ended["id"]}
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: client.post("/actions/rerun", data=fields).status_code, range(4)))
    assert answers == [303] * 4
    assert len([row for row in watched.rows() if row["verb"] == "rerun" and ended["id"] in json.dumps(row)]) == 1


async def test_a_form_runs_again_after_an_error_or_when_it_is_meant() -> None:
    now, runs = [0.0], []

    async def run() -> None:
        runs.append(now[0])
        if len(runs) == 1:
            raise StateError("locked")

    submissions = Submissions(clock=lambda: now[0])
    with pytest.raises(StateError):
        await submissions.once("ada", "rerun", {"id": "1"}, run)
    assert await submissions.once("ada", "rerun", {"id": "1"}, run)
    assert not await submissions.once("ada", "rerun", {"id": "1"}, run)
    assert await submissions.once("bob", "rerun", {"id": "1"}, run)
    assert await submissions.once("ada", "rerun", {"id": "2"}, run)
    now[0] = TWICE_S + 1
    assert await submissions.once("ada", "rerun", {"id": "1"}, run)


def _audited(watched: Watched, verb: str, text: str) -> dict[str, str]:
    return next(row for row in watched.rows() if row["verb"] == verb and text in json.dumps(row))


def test_suspend_resume_reconcile_replay_rerun_and_cancel_work_and_are_audited(watched: Watched) -> None:
    item = waiting(watched)
    with watched.browser_of("operator") as client:
        place = "/resources/EventSource/default/one"
        done = watched.act(client, "suspend", place, **SOURCE, canvas="default", reason="moving hosts", until="2h")
        assert done.status_code == 303, done.text
        watched.wait(lambda: "suspended" in client.get(place).text, "the page shows it")
        assert "moving hosts (by the-operator)" in client.get(place).text
        assert watched.act(client, "resume", place, **SOURCE, canvas="default").status_code == 303
        assert watched.act(client, "reconcile", place, **SOURCE).status_code == 303
        assert watched.act(client, "cancel", id=item["id"]).status_code == 303
        assert watched.act(client, "rerun", id=item["id"]).status_code == 303
        event = watched.wait(lambda: _done_event(watched), "an event that is done")
        assert watched.act(client, "replay", "/events", id=event).status_code == 303
        refused = watched.act(client, "suspend", place, **SOURCE, reason="x", until="yesterday")
        assert refused.status_code == 422
        assert f'href="{place}"' in refused.text  # the way back
    for verb in ("suspend", "resume", "reconcile", "discard", "rerun", "replay"):
        assert _audited(watched, verb, "the-operator")["actor"] == "the-operator", verb


def _done_event(watched: Watched) -> str | None:
    rows = watched.api_of("/events?state=processed")["events"]
    return rows[0]["id"] if rows else None


def test_forms_that_are_not_ours_do_nothing(watched: Watched) -> None:
    with watched.browser_of("operator") as client, watched.browser_of("operator") as other:
        token, foreign = form_of(client.get("/").text), form_of(other.get("/").text)
        place, fields = "/actions/suspend", {**SOURCE, "reason": "by another site"}
        bad: list[tuple[dict[str, str], dict[str, str]]] = [
            ({}, {}),
            ({"form": ""}, {}),
            ({"form": foreign}, {}),
            ({"form": token}, {"origin": "https://evil.example"}),
            ({"form": token}, {"origin": "null"}),
            ({"form": token}, {"sec-fetch-site": "cross-site"}),
        ]
        for more, headers in bad:
            answer = client.post(place, data={**fields, **more}, headers=headers)
            assert answer.status_code == 403, (more, headers)
            assert "RC8303" in answer.text
        assert client.post(place, json={**fields, "form": token}).status_code == 415
        assert client.post(place, data={**fields, "form": token, "reason": "x" * 40_000}).status_code == 413
        assert client.post(place, content=b"form=" + token.encode() + b"&form=2", headers=_KIND).status_code == 400
        assert client.post(place, content=b"form=%ff", headers=_KIND).status_code == 400
        assert client.get(place).status_code in {404, 405}
        assert client.post("/actions/forget", data={"form": token}).status_code == 404  # not offered here
        assert client.post("/actions/suspend", data={"form": token, **fields, "extra": "1"}).status_code == 422
    with watched.browser_of() as nobody:
        assert nobody.post(place, data=fields).status_code == 401
    assert "by another site" not in watched.cli("history", "-o", "json", "--limit", "200").stdout


_KIND = {"content-type": "application/x-www-form-urlencoded"}


def test_a_form_goes_back_to_its_page_and_never_to_another_site(watched: Watched) -> None:
    with watched.browser_of("operator") as client:
        token = form_of(client.get("/").text)
        for back, place in (
            ("//evil.example/x", "/?done=reconcile"),
            ("https://evil.example", "/?done=reconcile"),
            ("/events?state=x&done=approve", "/events?state=x&done=reconcile"),
        ):
            answer = client.post("/actions/reconcile", data={"form": token, "back": back, **SOURCE})
            assert (answer.status_code, answer.headers["location"]) == (303, place)


def test_what_a_page_says_was_done_cannot_be_chosen_by_a_link(watched: Watched) -> None:
    with watched.browser_of("viewer") as client:
        assert 'class="done"' not in client.get("/?done=<b>anything</b>").text


def test_commands_beside_buttons_are_commands_of_the_program() -> None:
    fields = {"id": "itm-1", "digest": "sha256:" + "0" * 64, "source": "EventSource/one", **SOURCE, "canvas": "prod"}
    for name, action in ACTIONS.items():
        command = action.command_of(fields)
        assert not re.search(r"[{}]", command), name
        arguments = command.split()
        assert arguments[0] == "reconciler"
        build_parser().parse_args(arguments[1:])


def test_a_redirect_of_a_login_stays_here(watched: Watched) -> None:
    with watched.browser_of() as client:
        form = form_of(client.get("/login?back=//evil.example").text)
        answer = client.post("/login", data={"form": form, "token": PEOPLE["viewer"]})
        assert answer.headers["location"] == "/"
