"""The API of a running daemon: each operation does what it says, and every refusal has its status, its code and the next step."""

import json
import re
import threading

import httpx
import pytest

from reconciler.server.health import SECURITY_HEADERS
from tests.server.asked import Asked


def test_an_event_is_made_once_for_one_key_and_is_found_with_what_it_led_to(asked: Asked) -> None:
    body = {"source": "hand", "payload": {"for": "quick", "version": "7"}, "key": "once", "type": "released"}
    first, again = (asked.api("operator", "POST", "/events", json=body) for _ in range(2))
    assert (first.status_code, first.json()["new"], again.json()["new"]) == (202, True, False)
    assert first.json()["event"] == again.json()["event"]
    event = asked.wait(
        lambda: next(iter([e for e in [asked.api("viewer", "GET", "/events/once").json()] if e["state"] == "processed"]), None)
    )
    assert (event["type"], event["payload"]["version"]) == ("released", "7")
    assert {one["target"] for one in event["rejectedBy"]} == {"Stage/asked", "Stage/deploy"}
    assert [one["stage"] for one in event["items"]] == ["Stage/quick"]


def test_lists_are_paged_without_a_gap_and_without_a_double(asked: Asked) -> None:
    for _ in range(3):
        asked.item("quick", state="done")
    for path, rows in (("/events", "events"), ("/executions", "executions")):
        query: dict[str, str] = {"limit": "2"} | ({"source": "hand"} if rows == "events" else {"stage": "quick"})
        seen: list[str] = []
        while True:
            page = asked.api("viewer", "GET", path, params=query).json()
            seen += [one["id"] for one in page[rows]]
            if not page["next"]:
                break
            query["before"] = page["next"]
        query.pop("before", None)
        whole = asked.api("viewer", "GET", path, params={**query, "limit": "1000"})
        assert seen == [one["id"] for one in whole.json()[rows]]
        assert len(seen) == len(set(seen)) >= 3


def test_approvals_count_by_the_name_of_the_token_and_never_twice(asked: Asked) -> None:
    item = asked.item("asked", reason="approval")
    path = f"/executions/{item['id']}/approve"
    wrong = asked.api("approver", "POST", path, json={"digest": "sha256:" + "0" * 64})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "RC6032")
    done = asked.api("approver", "POST", path, json={"digest": item["digest"]})
    assert (done.status_code, done.json()["approvals"]) == (200, ["the-approver"])
    again = asked.api("approver", "POST", path)
    assert (again.status_code, again.json()["code"][:4]) == (409, "RC60")
    detail = asked.wait(
        lambda: next(
            iter([d for d in [asked.api("viewer", "GET", f"/executions/{item['id']}").json()] if d["item"]["state"] == "done"]),
            None,
        )
    )
    assert [one["by"] for one in detail["item"]["approvals"]] == ["the-approver"]
    assert detail["executions"][0]["result"] == "passed"
    assert re.search(r"Stage/asked +approve +the-approver ", asked.cli("history", "Stage/asked").stdout)


def test_cancel_and_rerun_tell_what_is_too_late_and_what_is_not_there(asked: Asked) -> None:
    item = asked.item("asked", reason="approval")
    early = asked.api("operator", "POST", f"/executions/{item['id']}/rerun")
    assert (early.status_code, early.json()["code"]) == (409, "RC6031")
    assert asked.api("operator", "POST", f"/executions/{item['id']}/cancel").json() == {"item": item["id"], "state": "discarded"}
    assert asked.api("operator", "POST", f"/executions/{item['id']}/cancel").status_code == 409
    assert asked.api("operator", "POST", f"/executions/{item['id']}/rerun").status_code == 202
    gone = asked.api("operator", "POST", "/executions/itm-nosuch/rerun")
    assert (gone.status_code, gone.json()["code"]) == (404, "RC6030")
    assert gone.json()["message"]


def test_a_log_is_read_piece_by_piece_or_followed_to_its_end(asked: Asked) -> None:
    item = asked.item("deploy")
    streamed: list[str] = []

    def follow() -> None:
        with asked.client("viewer") as client:
            while client.get(f"/executions/{item['id']}/logs").status_code == 404:  # it has not begun
                continue
            with client.stream("GET", f"/executions/{item['id']}/logs", params={"follow": "1"}) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                streamed.extend(answer.iter_lines())

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    names = [line.removeprefix("event: ") for line in streamed if line.startswith("event: ")]
    assert (names[-1], set(names)) == ("end", {"log", "end"})
    pieces = [json.loads(line.removeprefix("data: ")) for line in streamed if line.startswith("data: ")]
    lines = [line for piece in pieces for line in piece.get("lines", ())]
    assert any("building 1.2.3" in line for line in lines)
    piece = asked.api("viewer", "GET", f"/executions/{item['id']}/logs").json()
    assert (piece["lines"], piece["complete"]) == (lines, True)
    after = asked.api("viewer", "GET", f"/executions/{item['id']}/logs", params={"cursor": piece["cursor"]}).json()
    assert after["lines"] == []


def test_resources_are_shown_suspended_and_resumed_under_the_token_s_name(asked: Asked) -> None:
    path = "/resources/EventSource/one"
    assert asked.api("viewer", "GET", path).json()["name"] == "one"
    done = asked.api("operator", "POST", f"{path}/suspend", json={"reason": "moving", "until": "2h"})
    assert (done.status_code, done.json()["resource"]) == (200, "EventSource/default/one")
    asked.wait(lambda: (asked.condition("EventSource", "one", "Suspended") or {}).get("message"), "it is suspended")
    assert "the-operator" in json.dumps(asked.api("viewer", "GET", path).json()["conditions"])
    assert asked.api("operator", "POST", f"{path}/resume").status_code == 200
    again = asked.api("operator", "POST", f"{path}/resume")
    assert (again.status_code, again.json()["code"]) == (409, "RC6021")
    for until in ("yesterday", "2001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        bad = asked.api("operator", "POST", f"{path}/suspend", json={"reason": "x", "until": until})
        assert (bad.status_code, until) == (422, until)
    assert asked.api("operator", "POST", f"{path}/reconcile").status_code == 202
    assert asked.api("operator", "POST", "/resources/EventSource/nosuch/reconcile").status_code == 404
    assert asked.api("viewer", "GET", "/resources/EventSource/one", params={"canvas": "nosuch"}).status_code == 404
    assert asked.api("approver", "POST", "/plans/approve", json={"digest": "sha256:" + "0" * 64}).status_code == 404


def test_the_status_and_a_sweep_can_be_had(asked: Asked) -> None:
    status = asked.api("viewer", "GET", "/status").json()
    assert status["kind"] == "StatusReport"
    assert {one["name"] for one in status["stages"]} == {"quick", "asked", "deploy"}
    swept = asked.api("operator", "POST", "/redeliver", json={"source": "one", "since": 3600})
    assert (swept.status_code, [one["source"] for one in swept.json()["sources"]]) == (200, ["EventSource/one"])
    assert asked.api("operator", "POST", "/redeliver", json={"source": "nosuch"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status", "pointer"),
    [
        (b'{"source": "hand", "nonsense": 1}', {}, 422, "/body"),
        (b'{"source": 7}', {}, 422, "/body/source"),
        (b'{"source": "hand", "payload": []}', {}, 422, "/body/payload"),
        (b"{", {}, 400, None),
        (b"[]", {}, 422, "/body"),
        (b'{"source": "hand"}', {"content-type": "text/plain"}, 415, None),
        (b'{"source": "hand"}', {"content-type": ""}, 415, None),
        (b'{"source": "hand"}', {"content-encoding": "gzip"}, 415, None),
        (b'{"source": "' + b"x" * (1 << 20) + b'"}', {}, 413, None),
    ],
)
def test_a_body_that_is_not_as_the_document_says_is_refused_with_its_place(
    asked: Asked, body: bytes, headers: dict[str, str], status: int, pointer: str | None
) -> None:
    refused = asked.api("operator", "POST", "/events", content=body, headers={"content-type": "application/json", **headers})
    assert (refused.status_code, refused.json()["code"], refused.json().get("pointer")) == (status, "RC8006", pointer)
    assert refused.json()["hint"]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/events?limit=0", "/query/limit"),
        ("/events?limit=1001", "/query/limit"),
        ("/events?limit=ten", "/query/limit"),
        ("/events?nonsense=1", "/query"),
        ("/events?limit=1&limit=2", "/query/limit"),
        ("/events?state=odd", "/query/state"),
        ("/executions?state=pending", "/query/state"),
        ("/resources/Nonsense/one", "/path/kind"),
        ("/resources/EventSource/ONE", "/path/name"),
        ("/executions/a%00b", "/path/id"),
        ("/executions/a%0A", "/path/id"),
    ],
)
def test_parameters_are_checked_strictly(asked: Asked, path: str, pointer: str) -> None:
    refused = asked.api("viewer", "GET", path)
    assert (refused.status_code, refused.json()["code"], refused.json()["pointer"]) == (422, "RC8006", pointer)


def test_every_answer_has_the_security_headers_and_no_cors(asked: Asked) -> None:
    origin = {"origin": "https://evil.example"}
    answers = [
        asked.api("viewer", "GET", "/events", headers=origin),
        asked.api("", "GET", "/openapi.json", headers=origin),
        asked.api("viewer", "GET", "/nosuch", headers=origin),
        asked.api("viewer", "DELETE", "/events", headers=origin),
        asked.api("viewer", "OPTIONS", "/events", headers=origin),
    ]
    assert [one.status_code for one in answers] == [200, 200, 404, 405, 405]
    assert answers[3].headers["allow"] == "GET, HEAD, POST"
    for one in answers:
        assert {name: one.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert not [name for name in one.headers if name.startswith("access-control")]
        assert "server" not in one.headers


def test_outputs_need_the_job_s_own_token(asked: Asked) -> None:
    item = asked.item("quick", state="done")
    execution = asked.api("viewer", "GET", f"/executions/{item['id']}").json()["executions"][0]["id"]
    body = {"execution_id": execution, "outputs": {"image": "x"}}
    for role in ("", "operator"):
        refused = asked.api(role, "POST", "/outputs", json=body)
        assert refused.status_code in (401, 429)
        assert refused.json()["code"] in ("RC8007", "RC8005")
    headers = {"authorization": "Bearer a.b.c"}
    many = {"execution_id": execution, "outputs": {f"n{n}": 1 for n in range(65)}}
    assert asked.api("", "POST", "/outputs", json=many, headers=headers).status_code == 413
    large = {"execution_id": execution, "outputs": {"n": "x" * (64 << 10)}}
    assert asked.api("", "POST", "/outputs", json=large, headers=headers).status_code == 413
    for bad in ({"execution_id": execution}, {"execution_id": 1, "outputs": {}}, {**body, "more": 1}):
        assert asked.api("", "POST", "/outputs", json=bad, headers=headers).status_code == 400


def test_what_is_no_http_body_at_all_does_not_disturb_the_next_request(asked: Asked) -> None:
    with asked.client("operator") as client:
        with pytest.raises(httpx.HTTPError):
            client.post("/events", content=_dying(), headers={"content-type": "application/json"})
        assert client.get("/events").status_code == 200


def _dying():
    yield b"{"
    raise httpx.WriteError("the sender dies")


def test_a_suspension_is_until_a_time_that_is_one_and_still_to_come(asked: Asked) -> None:
    for until, said in (("2031-13-01T00:00:00Z", "is neither a time nor a duration"), ("2001-01-01T00:00:00Z", "is in the past")):
        path = "/resources/EventSource/hand/suspend"
        refused = asked.api("operator", "POST", path, json={"reason": "why", "until": until})
        assert (refused.status_code, said in refused.json()["message"], bool(refused.json()["hint"])) == (422, True, True)
