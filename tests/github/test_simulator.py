"""The simulator's own quirks: what GitHub does, and naive emulators do not."""

import hashlib
import hmac
import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.github.conftest import TOKEN, put_hooks, stored

HOOK = {"config": {"url": "https://x.example/h", "content_type": "json", "secret": "s3cret"}, "events": ["push"]}


@pytest.fixture
def send(github):
    def run(method, path, body=None, token=TOKEN, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", github.port, timeout=10)
        sent = {"user-agent": "test", **{key.replace("_", "-"): value for key, value in headers.items()}}
        if token:
            sent["authorization"] = f"Bearer {token}"
        try:
            connection.request(
                method, path, body=None if body is None else json.dumps(body), headers={k: v for k, v in sent.items() if v}
            )
            answer = connection.getresponse()
            text = answer.read()
            return (
                answer.status,
                {key.lower(): value for key, value in answer.getheaders()},
                json.loads(text) if text[:1] in b"[{" and text else text,
            )
        finally:
            connection.close()

    return run


def make(send, **hook):
    status, _, body = send("POST", "/repos/acme/payments/hooks", {**HOOK, **hook})
    assert status == 201, body
    return body


def test_a_request_without_a_user_agent_is_forbidden(send):
    status, headers, _ = send("GET", "/user", user_agent="")
    assert (status, headers["content-type"]) == (403, "application/octet-stream")


def test_an_unknown_api_version_is_a_400_and_a_trailing_slash_a_404(send):
    assert send("GET", "/user", x_github_api_version="1999-01-01")[0] == 400
    assert send("GET", "/repos/acme/payments/hooks/")[0] == 404


def test_an_error_has_a_documentation_url_and_its_status_as_a_string(send):
    status, _, body = send("GET", "/user", token="nobody")
    assert (status, body["message"], body["status"]) == (401, "Bad credentials", "401")
    assert body["documentation_url"]


def test_the_default_content_type_is_form_and_the_default_event_push(send):
    body = send("POST", "/repos/acme/payments/hooks", {"config": {"url": "https://x.example/h"}})[2]
    assert (body["config"]["content_type"], body["events"], body["config"]["insecure_ssl"]) == ("form", ["push"], "0")
    assert "secret" not in body["config"]


def test_a_secret_is_stars_and_a_config_that_leaves_it_out_removes_it(send, github):
    hook = make(send)
    assert hook["config"]["secret"] == "********"
    send("PATCH", f"/repos/acme/payments/hooks/{hook['id']}", {"config": {"url": "https://x.example/h", "content_type": "json"}})
    assert "secret" not in stored(github)[0]["config"]


def test_the_config_path_changes_single_keys_and_keeps_the_secret(send, github):
    hook = make(send)
    status, _, body = send("PATCH", f"/repos/acme/payments/hooks/{hook['id']}/config", {"url": "https://y.example/h"})
    assert (status, body["url"], body["secret"]) == (200, "https://y.example/h", "********")
    assert stored(github)[0]["config"]["secret"] == "s3cret"


def test_events_are_replaced_added_and_removed(send):
    path = f"/repos/acme/payments/hooks/{make(send)['id']}"
    assert send("PATCH", path, {"add_events": ["create"]})[2]["events"] == ["push", "create"]
    assert send("PATCH", path, {"remove_events": ["push"]})[2]["events"] == ["create"]
    assert send("PATCH", path, {"events": ["release"]})[2]["events"] == ["release"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({**HOOK, "name": "email"}, 422, "invalid"),
        ({**HOOK, "config": {"url": "ftp://x"}}, 422, "not valid"),
        ({**HOOK, "config": {"url": "not a url"}}, 422, "not valid"),
        ({**HOOK, "extra": 1}, 422, "permitted"),
        ({"events": ["push"]}, 422, "config"),
        ({**HOOK, "active": "yes"}, 422, "boolean"),
        ([], 400, "object"),
    ],
)
def test_values_that_github_refuses_are_refused_and_nothing_is_made(send, github, body, status, words):
    answer = send("POST", "/repos/acme/payments/hooks", body)
    assert answer[0] == status
    assert words in json.dumps(answer[2])
    assert stored(github) == []


def test_a_double_is_refused_on_create_and_on_change_unless_the_setting_accepts_it(send, github):
    make(send)
    other = make(send, events=["create"])
    status, _, body = send("POST", "/repos/acme/payments/hooks", HOOK)
    assert (status, body["errors"][0]["message"]) == (422, "Hook already exists on this repository")
    assert send("PATCH", f"/repos/acme/payments/hooks/{other['id']}", {"events": ["push"]})[0] == 422
    github.admin.settings(accept_duplicates=True)
    assert send("POST", "/repos/acme/payments/hooks", HOOK)[0] == 201


def test_a_page_has_30_entries_unless_asked_and_100_at_most(send, github):
    put_hooks(github, [{"id": n, "events": [f"e{n % 20}"], "config": {"url": f"https://x.example/{n}"}} for n in range(1, 251)])
    _, headers, body = send("GET", "/repos/acme/payments/hooks")
    assert len(body) == 30
    assert 'rel="next"' in headers["link"]
    assert "/repositories/" in headers["link"]
    assert len(send("GET", "/repos/acme/payments/hooks?per_page=1000")[2]) == 100
    _, headers, body = send("GET", "/repos/acme/payments/hooks?per_page=100&page=3")
    assert len(body) == 50
    assert 'rel="next"' not in headers["link"]


def test_an_etag_holds_for_one_token_and_a_304_is_not_counted(send, github):
    github.admin.put_state({"tokens": {"second": {"scopes": ["repo"]}}})
    github.admin.settings(rate_limits=True)
    tag = send("GET", "/repos/acme/payments/hooks")[1]["etag"]
    status, headers, body = send("GET", "/repos/acme/payments/hooks", if_none_match=tag)
    assert (status, body) == (304, b"")
    assert headers["x-ratelimit-used"] == "1"
    assert send("GET", "/repos/acme/payments/hooks", token="second", if_none_match=tag)[0] == 200


def test_who_may_not_see_a_private_repository_gets_404_also_through_its_old_name(send, github):
    github.admin.put_state({"tokens": {"blind": {"scopes": ["repo"], "repos": ["acme/web"]}}})
    github.admin.do("rename", **{"from": "acme/payments", "to": "acme/billing"})
    assert send("GET", "/repos/acme/payments", token="blind")[0] == 404
    assert send("GET", "/repos/acme/billing/hooks", token="blind")[0] == 404
    assert send("GET", "/repos/acme/payments")[0] == 301
    assert send("POST", "/repos/acme/payments/hooks", HOOK)[0] == 307


def test_secondary_limits_refuse_the_81st_creating_call_of_a_minute(send, github):
    github.admin.settings(rate_limits=True, accept_duplicates=True)
    path = f"/repos/acme/payments/hooks/{make(send)['id']}"
    statuses = [send("PATCH", path, {"active": True})[0] for _ in range(80)]
    assert statuses == [200] * 79 + [403]
    status, headers, body = send("PATCH", path, {"active": True})
    assert status == 403
    assert "secondary rate limit" in body["message"]
    assert 0 < int(headers["retry-after"]) <= 61
    assert send("GET", "/user")[0] == 200


def test_points_count_reads_once_and_writes_five_times(send, github):
    github.admin.settings(rate_limits=True, points_per_minute=11)
    make(send)
    assert [send("GET", "/user")[0] for _ in range(7)] == [200] * 6 + [403]


def test_a_creation_leaves_a_ping_that_can_be_listed_read_and_sent_again(send):
    hook = make(send)
    path = f"/repos/acme/payments/hooks/{hook['id']}"
    [delivery] = send("GET", f"{path}/deliveries")[2]
    assert (delivery["event"], delivery["redelivery"]) == ("ping", False)
    whole = send("GET", f"{path}/deliveries/{delivery['id']}")[2]
    assert whole["request"]["payload"]["hook_id"] == hook["id"]
    assert "s3cret" not in json.dumps(whole)
    assert send("POST", f"{path}/deliveries/{delivery['id']}/attempts")[0] == 202
    again = send("GET", f"{path}/deliveries")[2][0]
    assert (again["guid"], again["redelivery"]) == (delivery["guid"], True)


def test_deliveries_are_paged_by_a_cursor(send):
    path = f"/repos/acme/payments/hooks/{make(send)['id']}"
    for _ in range(4):
        send("POST", f"{path}/pings")
    seen, following = [], f"{path}/deliveries?per_page=2"
    while following:
        _, headers, body = send("GET", following)
        seen += [row["id"] for row in body]
        following = headers["link"].partition(">")[0].partition("127.0.0.1:")[2].partition("/")[2] if "link" in headers else ""
        following = f"/{following}" if following else ""
    assert len(seen) == len(set(seen)) == 5


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.got, server.status = [], 204
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def eventually(probe):
    for _ in range(200):
        if probe():
            return
        time.sleep(0.02)
    raise AssertionError("it never happened")


def test_with_deliver_on_events_arrive_signed_as_json_or_as_a_form(send, github, receiver):
    github.admin.settings(deliver=True)
    target = f"http://127.0.0.1:{receiver.server_port}/in?key=k"
    for kind in ("json", "form"):
        make(send, config={"url": f"{target}&{kind}", "content_type": kind, "secret": "s3cret"})
        eventually(lambda: receiver.got)
        path, headers, body = receiver.got.pop()
        assert path.endswith(kind)
        assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        payload = json.loads(body if kind == "json" else parse_qs(body.decode())["payload"][0])
        assert payload["zen"]
    github.admin.do("emit", repository="acme/payments", event="push", payload={"ref": "refs/heads/main"})
    eventually(lambda: len(receiver.got) == 2)
    assert {headers["X-GitHub-Event"] for _, headers, _ in receiver.got} == {"push"}


def test_a_delivery_that_fails_shows_in_the_hook_and_a_hook_without_a_secret_is_not_signed(send, github, receiver):
    receiver.status = 500
    github.admin.settings(deliver=True)
    hook = make(send, config={"url": f"http://127.0.0.1:{receiver.server_port}/in"})
    path = f"/repos/acme/payments/hooks/{hook['id']}"
    eventually(lambda: send("GET", path)[2]["last_response"]["code"] == 500)
    assert send("GET", f"{path}/deliveries")[2][0]["status_code"] == 500
    assert not any("Signature" in name for name in receiver.got[0][1])


def test_switched_off_hooks_get_no_events(send, github):
    make(send, active=False)
    assert github.admin.do("emit", repository="acme/payments", event="push") == {"deliveries": []}


def test_repositories_can_be_made_in_bulk(send, github):
    github.admin.put_state({"repos": {f"acme/svc-{n:04}": {} for n in range(1000)}})
    assert send("GET", "/repos/acme/svc-0999")[2]["full_name"] == "acme/svc-0999"
    ids = [repo["id"] for repo in github.admin.state()["repos"].values()]
    assert len(ids) == len(set(ids)) == 1002


def test_the_page_of_the_sandbox_names_every_setting_and_every_action(github):
    page = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
    assert [name for name in github.admin.settings() if f"\n| `{name}` |" not in page] == []
    assert [name for name in github.app.actions() if f"\n| `{name}` |" not in page] == []
