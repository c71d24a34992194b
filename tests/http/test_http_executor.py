"""Stages that send a request, or run nothing: over real HTTP, with the real client."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from typing import Any

import pytest

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.builtin import WebDriver, connection_to
from reconciler.drivers.builtin.urls import require_written_out
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.registry import DRIVERS, driver_for
from reconciler.manifests.cel import ExpressionError, compile_filter
from reconciler.manifests.load import SourceFile, load
from reconciler.model.errors import (
    AddressRefused,
    Ambiguous,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    ValidationFailed,
)
from reconciler.model.executions import LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.resources import ResourceId
from reconciler.model.values import canonical_json
from tests.http.test_client import answering
from tests.http.world import Fixture, serve
from tests.support.authentication import auth_context
from tests.support.driving import resource

STAGE = ResourceId("Stage", "default", "deploy")
CORRELATION = "rcl-0123456789abcdef0123456789ab"
CANARY = "canary-7f3a9c"


async def holds(condition: str, answer: Any) -> bool:
    try:
        return bool(compile_filter(condition).evaluate(answer))
    except ExpressionError as error:
        raise ValueError(error.message) from None


WEB = WebDriver(holds)
HTTP, NOOP = WEB.executors["http"], WEB.executors["noop"]


def client(http: Fixture, url: str) -> ApiClient:
    bound = connection_to(url, STAGE)
    budget = Budget(bound.credential_id, UNLIMITED, store=None, clock=time.time)
    nothing = WEB.authenticator(bound, auth_context(lambda ref: pytest.fail(f"{ref} was read")))
    return ApiClient(bound, WEB, nothing, session=http.session, budget=budget, clock=time.time)


def intent(url: str, **spec: Any) -> RunIntent:
    return RunIntent("e-1", CORRELATION, "http", "", {"url": url, **spec}, 0.0)


async def ran(http: Fixture, url: str, **spec: Any) -> tuple[Run, RunReport]:
    api, expected = client(http, url), intent(url, **spec)
    run = await HTTP.start(api, expected)
    assert run is not None
    return run, await HTTP.poll(api, expected, run)


# ---- the request


async def test_a_request_is_a_post_with_the_payload_and_the_executions_id(http):
    async with serve(answering((200, {}, {}))) as server:
        run, report = await ran(
            http, server.url + "/deploy/now?token=x&y=%20z", payload={"version": "1.2", "n": 3}, headers={"X-Team": "web"}
        )
    sent = server.seen[0]
    assert (sent.method, sent.target) == ("POST", "/deploy/now?token=x&y=%20z")
    assert json.loads(sent.body) == {"version": "1.2", "n": 3}
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["x-team"] == "web"
    assert sent.headers["idempotency-key"] == sent.headers["x-reconciler-execution"] == CORRELATION
    assert (run.external_id, run.url) == (CORRELATION, f"{server.url}/deploy/now")
    assert (report.status, report.result, report.conclusion, report.message) == (RunStatus.FINISHED, Result.PASSED, "200", "")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("written", "url", "fine"),
    [
        ("https://deploy.example/jobs", "https://deploy.example/jobs", True),
        ("https://deploy.example/${{ event.id }}", "https://deploy.example/7", True),
        ("https://Deploy.example:443/${{ event.id }}", "https://deploy.example/7", True),
        ("https://deploy.example/${{ event.id }}", "https://deploy.example//inside.example/", True),
        ("https://deploy.example?id=${{ event.id }}", "https://deploy.example?id=7", True),
        ("https://${{ event.host }}/jobs", "https://inside.example/jobs", False),
        ("https://deploy.example${{ event.path }}", "https://deploy.example.evil.example/", False),
        ("https://deploy.example${{ event.path }}", "https://deploy.example/jobs", False),
        ("https://deploy.example:${{ event.port }}/", "https://deploy.example:6379/", False),
        ("${{ event.url }}", "https://inside.example/jobs", False),
        ("https://deploy.example/${{ event.id }}", "https://inside.example/7", False),
    ],
)
def test_n14_a_host_is_the_one_that_the_manifest_names(written, url, fine):
    """Also of a manifest that an older version accepted."""
    with contextlib.nullcontext() if fine else pytest.raises(ValidationFailed):
        require_written_out(written, url)


@pytest.mark.parametrize(
    ("method", "given", "body"),
    [
        ("POST", {}, b"{}"),
        ("PUT", {}, b"{}"),
        ("PATCH", {}, b"{}"),
        ("GET", {}, b""),
        ("DELETE", {}, b""),
        ("DELETE", {"payload": {"a": 1}}, b'{"a":1}'),
        ("GET", {"payload": {"a": 1}}, b'{"a":1}'),
        ("PUT", {"payload": {"a": 1}}, b'{"a":1}'),
    ],
)
async def test_get_and_delete_have_a_body_only_if_one_is_given(http, method, given, body):
    async with serve(answering((204, b"", {}))) as server:
        _, report = await ran(http, server.url, method=method, **given)
    assert (server.seen[0].method, server.seen[0].target, server.seen[0].body) == (method, "/", body)
    assert report.result is Result.PASSED


async def test_headers_of_ours_and_of_the_framing_cannot_be_set(http):
    forged = ["Idempotency-Key", "X-RECONCILER-Execution", "Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect"]
    async with serve(answering((200, {}, {}))) as server:
        url = server.url + "/"
        _, report = await ran(http, url, headers={**dict.fromkeys(forged, CANARY), "Accept-Encoding": "br", "User-Agent": "mine"})
    sent = server.seen[0].headers
    assert CANARY not in sent.values()
    assert sent["idempotency-key"] == sent["x-reconciler-execution"] == CORRELATION
    assert sent["host"] == server.url.partition("://")[2]
    assert (sent["accept-encoding"], sent["user-agent"]) == ("gzip", "mine")
    assert report.result is Result.PASSED


async def test_the_specs_own_credential_is_sent_and_may_come_out_of_templates_of_any_scalar(http):
    async with serve(answering((200, {}, {}))) as server:
        headers = {"Authorization": f"Bearer {CANARY}", "X-N": 7, "X-Yes": True, "X-Nothing": None, "Content-Type": "text/json"}
        run, _ = await ran(http, server.url, headers=headers)
    sent = server.seen[0].headers
    assert sent["authorization"] == f"Bearer {CANARY}"
    assert (sent["x-n"], sent["x-yes"], sent["x-nothing"], sent["content-type"]) == ("7", "true", "", "text/json")
    assert CANARY not in json.dumps(run.detail)


@pytest.mark.parametrize(
    "spec",
    [
        {"headers": {"X-A": f"{CANARY}\r\nX-B: 1"}},
        {"headers": {"X-A": f"{CANARY}ü"}},
        {"headers": {"X A": "1"}},
        {"headers": {"": "1"}},
        {"headers": {"X-A": {"a": f"{CANARY}ü"}}},
        {"poll": {"url": "/status", "successWhen": "true"}},
        {"poll": {"url": "https://elsewhere.example/status", "successWhen": "true"}},
    ],
)
async def test_f12_what_cannot_be_sent_as_it_stands_is_not_sent_at_all(http, spec):
    async with serve(answering((200, {}, {}))) as server:
        with pytest.raises(ValidationFailed) as error:
            await ran(http, server.url, **spec)
    assert server.seen == []
    assert CANARY not in str(error.value)


@pytest.mark.parametrize("path", ["/a/../b", "/a/%2e%2e/b", "/./"])
async def test_f12_a_value_cannot_climb_out_of_the_path_that_it_was_put_into(http, path):
    async with serve(answering((200, {}, {}))) as server:
        with pytest.raises(ValidationFailed):
            await ran(http, server.url + path)
    assert server.seen == []


# ---- where it may go


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Deploy.Example.com/a/b?c=d#e", "https://deploy.example.com"),
        ("https://deploy.example.com:443", "https://deploy.example.com"),
        ("HTTP://deploy.example.com:80/", "http://deploy.example.com"),
        ("http://deploy.example.com:443/", "http://deploy.example.com:443"),
        ("https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_connection_is_to_the_origin_of_the_url_and_has_no_credential(url, origin):
    created = connection_to(url, STAGE)
    assert (created.api_url, created.url, created.provider, created.integration) == (origin, origin, "http", STAGE)
    assert (created.auth, created.secrets) == ({"use": "none"}, {})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/path",
        "deploy.example.com/a",
        "ftp://deploy.example.com/a",
        "file:///etc/passwd",
        "https://",
        f"https://{CANARY}@deploy.example.com/",
        f"https://user:{CANARY}@deploy.example.com/",
        f"https://deploy.example.com\\@{CANARY}/",
        f"https://deploy.example.com/{CANARY} x",
        f"https://deploy.example.com/{CANARY}\n",
        f"https://deploy.example.com/{CANARY}ü",
        f"https://deploy.example.com:{CANARY}/",
        "https://deploy.example.com:0/",
        "https://[::1/",
    ],
)
def test_f11_what_is_no_plain_url_is_refused_and_not_repeated(url):
    with pytest.raises(ValidationFailed) as error:
        connection_to(url, STAGE)
    assert CANARY not in str(error.value)


@pytest.mark.parametrize("url", ["https://deploy.example.com", "https://169.254.169.254", "http://localhost", "https://127.1"])
async def test_f11_only_hosts_that_the_configuration_allows_can_be_called(http, url):
    with pytest.raises(AddressRefused):
        client(http, url)


# ---- what an answer means


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_passes_where_no_policy_is_given(http, status):
    async with serve(answering((status, b"", {}))) as server:
        _, report = await ran(http, server.url)
    assert (report.result, report.conclusion) == (Result.PASSED, str(status))


@pytest.mark.parametrize("status", [302, 304, 400, 401, 403, 404, 409, 422, 500, 502, 504])
async def test_any_other_answer_is_a_run_that_failed_and_is_not_sent_again(http, status):
    body = b"" if status == 304 else {"error": CANARY}
    async with serve(answering((status, body, {"Retry-After": "1", "Location": "https://elsewhere.example/"}))) as server:
        run, report = await ran(http, server.url + "/a?b=c")
    assert (report.status, report.result, report.conclusion) == (RunStatus.FINISHED, Result.FAILED, str(status))
    assert report.message == f"POST /a was answered {status}, which does not pass"
    assert run.detail["done"] is True
    assert CANARY not in json.dumps(run.detail)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_n48_an_answer_that_asks_to_come_back_later_is_no_end_until_it_came_often(http, status):
    async with serve(answering((status, {}, {"Retry-After": "7"}))) as server:
        api, expected = client(http, server.url), intent(server.url)
        with pytest.raises(RateLimited if status == 429 else ProviderUnavailable) as caught:
            await HTTP.start(api, expected)
        assert 5 < caught.value.retry_at - time.time() < 9
        last = await HTTP.start(api, dataclasses.replace(expected, tries=5))
        assert (await HTTP.poll(api, expected, last)).conclusion == str(status)
        assert (await ran(http, server.url, responsePolicy={"statusCodes": [status]}))[1].result is Result.PASSED


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_n48_what_may_be_sent_twice_is_sent_again_after_a_failure_and_nothing_else_is(http, status, method):
    async with serve(answering((status, {}, {}))) as server:
        api, expected = client(http, server.url), intent(server.url, method=method)
        if method in ("POST", "PATCH"):
            assert (await HTTP.start(api, expected)).detail["done"] is True
        else:
            with pytest.raises(ProviderError):
                await HTTP.start(api, expected)


async def test_a_policy_names_what_passes_and_nothing_else_does(http):
    async with serve(answering((404, b"", {}), (200, b"", {}))) as server:
        policy = {"statusCodes": [404, 503]}
        assert (await ran(http, server.url, responsePolicy=policy))[1].result is Result.PASSED
        assert (await ran(http, server.url, responsePolicy=policy))[1].result is Result.FAILED


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ({"outputs": {"url": "https://x", "n": 1}}, {"url": "https://x", "n": 1}),
        ({"outputs": [1]}, {}),
        ({"other": 1}, {}),
        ([{"outputs": {"a": 1}}], {}),
        (b"<html>", {}),
        (b"\xff\xfe", {}),
        (b"", {}),
    ],
)
async def test_outputs_are_those_of_a_json_answer_that_has_some(http, body, outputs):
    async with serve(answering((200, body, {}))) as server:
        run, report = await ran(http, server.url)
    assert (report.result, report.outputs, report.message) == (Result.PASSED, outputs, "")
    assert canonical_json(run.detail)


async def test_outputs_above_the_bound_are_left_out_and_that_is_said(http):
    fits = {"a": "x" * ((64 << 10) - len('{"a":""}'))}
    async with serve(answering((200, {"outputs": fits}, {}), (200, {"outputs": {"a": fits["a"] + "x"}}, {}))) as server:
        assert (await ran(http, server.url))[1].outputs == fits
        _, report = await ran(http, server.url)
    assert (report.result, report.outputs) == (Result.PASSED, {})
    assert report.message == "the outputs were left out: they are larger than 64 KiB"


# ---- starts in doubt


async def test_a_request_that_surely_was_not_sent_raises_what_hindered_it(http):
    async with serve(answering((200, {}, {}))) as server:
        url = server.url
    with pytest.raises(ProviderUnavailable) as error:
        await ran(http, url)
    assert not isinstance(error.value, OutcomeUnknown)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_d12_a_post_whose_answer_is_lost_is_sent_once_and_can_not_be_told_afterwards(http, method):
    async def cut(request):
        request.cut(reset=True)

    async with serve(cut) as server:
        api, expected = client(http, server.url), intent(server.url, method=method)
        with pytest.raises(OutcomeUnknown):
            await HTTP.start(api, expected)
        with pytest.raises(Ambiguous, match=f"the {method} request may have been received"):
            await HTTP.find(api, expected)
    assert len(server.seen) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_d12_a_method_that_may_be_repeated_may_be_started_again_under_the_same_id(http, method):
    first = True

    async def once_cut(request):
        nonlocal first
        if first and method != "GET":  # the client itself repeats a read
            first = False
            request.cut(reset=True)
        else:
            await request.reply(200)

    async with serve(once_cut) as server:
        api, expected = client(http, server.url), intent(server.url, method=method)
        if method != "GET":
            with pytest.raises(OutcomeUnknown):
                await HTTP.start(api, expected)
        assert await HTTP.find(api, expected) is None
        assert await HTTP.start(api, expected) is not None
    assert {request.headers["idempotency-key"] for request in server.seen} == {CORRELATION}


async def test_the_method_of_a_spec_without_one_is_found_as_post(http):
    async with serve(answering((200, {}, {}))) as server:
        with pytest.raises(Ambiguous):
            await HTTP.find(client(http, server.url), intent(server.url))
    assert server.seen == []


# ---- work that goes on after the answer


def polled(server: Any, **poll: Any) -> dict[str, Any]:
    return {"poll": {"url": server.url + "/status?id=7", "successWhen": "$.state == 'done'", **poll}}


async def follow(http: Fixture, *answers: Any, **poll: Any) -> tuple[list[RunReport], list[Any]]:
    """Start with a 202, then ask once for each of ``answers``."""
    replies = [(202, {"outputs": {"job": "7", "url": "first"}}, {}), *((200, row, {}) for row in answers)]
    async with serve(answering(*replies)) as server:
        api, expected = client(http, server.url), intent(server.url + "/start", headers={"X-Key": "k"}, **polled(server, **poll))
        run = await HTTP.start(api, expected)
        reports = []
        for _ in answers:
            reports.append(await HTTP.poll(api, expected, run))
            run = reports[-1].run
        return reports, server.seen


async def test_a_run_goes_on_until_the_condition_holds_and_then_hands_on_both_answers_outputs(http):
    (going, ended), seen = await follow(http, {"state": "busy"}, {"state": "done", "outputs": {"url": "last"}}, interval=30.0)
    assert (going.status, going.result, going.message) == (RunStatus.RUNNING, None, "")
    assert going.run.detail["poll_s"] == 30.0
    assert (ended.status, ended.result, ended.conclusion) == (RunStatus.FINISHED, Result.PASSED, "successWhen")
    assert ended.outputs == {"job": "7", "url": "last"}
    assert ended.run.detail["done"] is True
    assert [f"{request.method} {request.target}" for request in seen] == ["POST /start", *["GET /status?id=7"] * 2]
    assert [request.headers["x-key"] for request in seen] == ["k"] * 3
    assert [request.headers["x-reconciler-execution"] for request in seen] == [CORRELATION] * 3
    assert [request.body for request in seen[1:]] == [b"", b""]


async def test_a_run_that_has_ended_is_not_asked_about_again(http):
    async with serve(answering((202, {}, {}), (200, {"state": "done"}, {}))) as server:
        api, expected = client(http, server.url), intent(server.url, **polled(server))
        run = await HTTP.start(api, expected)
        ended = await HTTP.poll(api, expected, run)
        again = await HTTP.poll(api, expected, ended.run)
    assert again == ended
    assert len(server.seen) == 2


async def test_a_failure_condition_fails_the_run_even_if_the_other_holds_too(http):
    (going, ended), _ = await follow(http, {"state": "busy", "bad": False}, {"state": "done", "bad": True}, failureWhen="$.bad")
    assert going.status is RunStatus.RUNNING
    assert (ended.result, ended.conclusion, ended.message) == (Result.FAILED, "failureWhen", "`failureWhen` holds")


async def test_a_field_that_is_not_there_yet_is_no_answer_and_no_error(http):
    (going, odd, ended), _ = await follow(http, {}, [1, 2], {"state": "done"}, failureWhen="$.error.code > 0")
    assert going.status is odd.status is RunStatus.RUNNING
    assert going.message.startswith("`successWhen` cannot be evaluated on the answer: ")
    assert ended.result is Result.PASSED


async def test_an_answer_that_does_not_pass_ends_a_run_before_anything_is_asked(http):
    async with serve(answering((500, {}, {}))) as server:
        api, expected = client(http, server.url), intent(server.url, **polled(server))
        run = await HTTP.start(api, expected)
        report = await HTTP.poll(api, expected, run)
    assert report.result is Result.FAILED
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [((404, {}), NotFound), ((503, {}), ProviderUnavailable), ((200, b"<html>login</html>"), ProviderProtocolError)],
)
async def test_a_question_without_a_good_answer_raises_and_decides_nothing(http, answer, error):
    async with serve(answering((202, {}, {}), (*answer, {}))) as server:
        api, expected = client(http, server.url), intent(server.url, **polled(server))
        run = await HTTP.start(api, expected)
        with pytest.raises(error):
            await HTTP.poll(api, expected, run)


@pytest.mark.parametrize("elsewhere", ["http://127.0.0.1:1/status", "https://127.0.0.1/status", "http://localhost/status"])
async def test_f11_the_place_that_is_asked_is_on_the_origin_of_the_request(http, elsewhere):
    async with serve(answering((202, {}, {}))) as server:
        with pytest.raises(ValidationFailed, match=r"`poll\.url`"):
            await ran(http, server.url, poll={"url": elsewhere, "successWhen": "true"})
    assert server.seen == []


async def test_without_a_way_to_evaluate_conditions_nothing_is_started_that_needs_one(http):
    plain = driver_for("http").executors["http"]
    async with serve(answering((202, {}, {}))) as server:
        api = client(http, server.url)
        with pytest.raises(ReconcilerError) as error:
            await plain.start(api, intent(server.url, **polled(server)))
        assert server.seen == []
        assert await plain.start(api, intent(server.url)) is not None
    assert error.value.code == "RC9001"


# ---- logs, cancelling, and what there is not


async def test_logs_show_request_status_and_duration_and_no_query_no_body_no_header(http):
    async with serve(answering((200, {"secret": CANARY}, {}))) as server:
        api, expected = client(http, server.url), intent(f"{server.url}/a?token={CANARY}", headers={"X-A": CANARY})
        run = await HTTP.start(api, expected)
        assert await HTTP.cancel(api, expected, run) is None
        outcome = await HTTP.logs(api, expected, run, "")
    assert outcome.lines[0] == f"POST {server.url}/a"
    assert outcome.lines[1] == f"200 after {run.detail['duration_ms']} ms"
    assert outcome.complete
    assert CANARY not in repr(outcome) + repr(run)
    assert await HTTP.logs(api, expected, run, outcome.cursor) == LogLines((), outcome.cursor, complete=True)
    assert len(server.seen) == 1


async def test_a_noop_passes_at_once_and_talks_to_nobody():
    expected = RunIntent("e-1", CORRELATION, "noop", "", {}, 0.0)
    run = await NOOP.start(None, expected)
    assert run == await NOOP.find(None, expected)
    assert (run.external_id, run.detail["done"]) == (CORRELATION, True)
    report = await NOOP.poll(None, expected, run)
    assert (report.status, report.result, report.outputs) == (RunStatus.FINISHED, Result.PASSED, {})
    assert await NOOP.logs(None, expected, run, "") == LogLines((), "", complete=True)
    assert await NOOP.cancel(None, expected, run) is None


@pytest.mark.parametrize("executor", [HTTP, NOOP])
def test_no_event_no_token_and_no_permission_belongs_to_such_a_run(executor):
    assert executor.needs_integration is False
    assert executor.permissions({"type": executor.type}) == {}
    assert executor.run_id_of("push", {"id": CORRELATION}) == ""
    assert executor.matches_job_token({"sub": CORRELATION}, Run(CORRELATION)) is False
    assert executor.issuer(None) == ""


# ---- the driver


def test_the_catalog_has_the_driver_but_no_integration_may_have_its_type():
    assert driver_for("http") is DRIVERS["http"]
    assert sorted(DRIVERS["http"].executors) == ["http", "noop"]
    document = b"kind: Integration\nmetadata: {name: web}\nspec: {type: http, url: https://x.example, auth: {use: none}}\n"
    desired = load([SourceFile("web.yaml", "b", document)], revision="r")
    assert desired.resources == ()
    assert any(problem.pointer == "/spec/type" for problem in desired.problems)


async def test_no_integration_connects_to_it_and_nothing_is_declared_with_it():
    web, integration = WebDriver(), resource("Integration", "web", {"type": "http"})
    assert (web.hosts, web.types, web.receiver, web.reporter) == ((), {}, None, None)
    for ask in (lambda: web.connect(integration, {}), lambda: web.compile(integration, None)):
        with pytest.raises(ReconcilerError):
            ask()
    assert (web.needs(integration), web.offline_facts(integration), await web.resolve(None, integration)) == ({}, {}, {})
    nothing = web.authenticator(connection_to("https://x.example", STAGE), auth_context(lambda ref: pytest.fail("read")))
    headers: dict[str, str] = {}
    await nothing.authorize(AuthRequest("GET", "https://x.example", headers))
    assert (headers, await nothing.refresh()) == ({}, False)
