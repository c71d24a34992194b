"""The simulator framework: state, faults, the log of requests, over real connections."""

import http.client
import json
import socket
import subprocess
import sys
import time

import pytest

from reconciler.sandbox.app import Call, Reply, Route, Simulator
from reconciler.sandbox.server import SandboxServer


class Shelf(Simulator):
    """A provider with one list."""

    provider = "shelf"
    defaults = {"colour": "red"}

    def seed(self):
        return {"items": []}

    def routes(self) -> list[Route]:
        return [
            ("GET", "/items", self.list),
            ("POST", "/items", self.add),
            ("GET", "/items/{item_id}", self.get),
            ("GET", "/deep/{rest+}", self.deep),
        ]

    def list(self, call: Call) -> Reply:
        return Reply(200, self.lagged("items", self.state["items"]))

    def add(self, call: Call) -> Reply:
        with self.changing("items", self.state["items"]) as items:
            items.append({"id": self.next_id(), **call.json()})
        return Reply(201, self.state["items"][-1])

    def get(self, call: Call, item_id: str) -> Reply:
        return Reply(200, {"id": item_id})

    def deep(self, call: Call, rest: str) -> Reply:
        return Reply(200, {"rest": rest})


@pytest.fixture
def server():
    with SandboxServer(Shelf()) as running:
        yield running


def send(server, method, path, body=None, timeout=5.0, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_routes_match_one_segment_or_the_rest_and_anything_else_is_404(server):
    assert send(server, "GET", "/items/7") == (200, b'{"id":"7"}')
    assert send(server, "GET", "/deep/a/b") == (200, b'{"rest":"a/b"}')
    assert send(server, "GET", "/items/7/")[0] == 404
    assert send(server, "DELETE", "/items/7")[0] == 404


def test_state_is_dumped_merged_replaced_and_reset(server):
    send(server, "POST", "/items", {"name": "a"})
    assert [item["name"] for item in server.admin.state()["items"]] == ["a"]
    server.admin.put_state({"extra": {"x": 1}})
    server.admin.put_state({"extra": {"y": 2}})
    assert server.admin.state()["extra"] == {"x": 1, "y": 2}
    server.admin.put_state({"items": []}, replace=True)
    assert "extra" not in server.admin.state()
    server.admin.settings(colour="blue")
    server.admin.reset()
    assert server.admin.state() == {"items": []}
    assert server.admin.settings()["colour"] == "red"


def test_an_unknown_setting_or_effect_is_refused_and_names_the_known_ones(server):
    with pytest.raises(RuntimeError, match="colour"):
        server.admin.settings(color="blue")
    with pytest.raises(RuntimeError, match="truncate"):
        server.admin.fault(effect="explode")


def test_a_fault_strikes_only_what_matches_so_often_and_after_what_it_skips(server):
    server.admin.fault(
        method="GET", path="^/items/", status=503, headers={"retry-after": "9"}, body={"down": True}, times=2, skip=1
    )
    statuses = [send(server, "GET", "/items/1")[0] for _ in range(5)]
    assert statuses == [200, 503, 503, 200, 200]
    assert send(server, "GET", "/items")[0] == 200


@pytest.mark.parametrize(("commit", "left"), [(False, 0), (True, 1)])
def test_a_reset_loses_the_answer_before_or_after_the_change_was_made(server, commit, left):
    server.admin.fault(method="POST", effect="reset", commit=commit)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        send(server, "POST", "/items", {"name": "a"})
    assert len(server.admin.state()["items"]) == left


def test_a_5xx_may_hide_a_change_that_was_made(server):
    server.admin.fault(method="POST", status=502, body="<html>", commit=True)
    assert send(server, "POST", "/items", {"name": "a"}) == (502, b"<html>")
    assert len(server.admin.state()["items"]) == 1


def test_a_mute_request_is_never_answered(server):
    server.admin.fault(effect="mute")
    with pytest.raises(TimeoutError):
        send(server, "GET", "/items", timeout=0.3)
    assert send(server, "GET", "/items")[0] == 200


def test_an_answer_can_end_in_the_middle_or_be_broken_json(server):
    server.admin.fault(effect="truncate")
    with pytest.raises(http.client.IncompleteRead):
        send(server, "GET", "/items/12345")
    server.admin.fault(effect="malformed")
    status, body = send(server, "GET", "/items/1")
    assert status == 200
    with pytest.raises(ValueError):
        json.loads(body)


def test_a_delay_and_a_latency_make_answers_late(server):
    server.admin.settings(latency_s=0.1)
    server.admin.fault(delay_s=0.2)
    started = time.monotonic()
    assert send(server, "GET", "/items")[0] == 200
    assert time.monotonic() - started >= 0.3


def test_requests_are_logged_with_their_bodies_and_no_credential_can_be_read(server):
    send(server, "POST", "/items", {"name": "a"}, authorization="Bearer very-secret")
    send(server, "GET", "/items", authorization="Bearer other")
    rows = server.admin.requests()
    assert [(row["method"], row["path"], row["status"]) for row in rows] == [("POST", "/items", 201), ("GET", "/items", 200)]
    assert rows[0]["body"] == {"name": "a"}
    assert "very-secret" not in json.dumps(rows)
    assert rows[0]["headers"]["authorization"] != rows[1]["headers"]["authorization"]
    assert len(server.admin.requests(path="^/items$", method="GET")) == 1
    server.admin.clear_requests()
    assert server.admin.requests() == []


def test_a_lagging_list_shows_the_past_and_then_the_present(server):
    server.admin.settings(list_lag_s=0.4)
    send(server, "POST", "/items", {"name": "a"})
    assert json.loads(send(server, "GET", "/items")[1]) == []
    time.sleep(0.5)
    assert len(json.loads(send(server, "GET", "/items")[1])) == 1


def test_a_stopped_server_refuses_connections_and_frees_its_port():
    with SandboxServer(Shelf()) as first:
        port = first.port
        assert send(first, "GET", "/items")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    with SandboxServer(Shelf(), port) as second:
        assert second.port == port
        assert send(second, "GET", "/items")[0] == 200


def test_concurrent_clients_on_kept_connections_are_all_answered(server):
    program = (
        "import http.client, sys\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {server.port})\n"
        "for _ in range(500):\n"
        "    c.request('GET', '/items/1'); assert c.getresponse().read()\n"
    )
    clients = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [client.wait() for client in clients] == [0, 0]
    assert server.app.received == 1000
