import asyncio
import contextlib
import email.utils
import logging
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.drivers.http.client import USER_AGENT
from reconciler.drivers.http.errors import Response, limited_until, retry_after, shared_error
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    Declined,
    Moved,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    ValidationFailed,
)
from tests.http.world import TOKEN, Provider, Token, serve


def answering(*replies):
    """Return a handler that gives one reply after the other, the last one for ever: (status, body, headers)."""
    left = list(replies)

    async def handler(request):
        status, body, headers = left.pop(0) if len(left) > 1 else left[0]
        await request.reply(status, body, **headers)

    return handler


async def test_a_request_carries_the_credential_the_agent_and_the_body_and_gives_the_answer(http):
    async with serve(answering((201, {"id": 7}, {"ETag": '"x"'}))) as server:
        answer = await http.api(server.url + "/api/v3").request(
            "POST", "/repos/a/b/hooks", params={"page": 1, "q": "a b&c"}, json={"a": [1]}, headers={"Accept": "application/vnd.x"}
        )
    sent = server.seen[0]
    assert (sent.method, sent.target, sent.body) == ("POST", "/api/v3/repos/a/b/hooks?page=1&q=a+b%26c", b'{"a":[1]}')
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["user-agent"] == USER_AGENT
    assert sent.headers["accept"] == "application/vnd.x"
    assert sent.headers["content-type"] == "application/json"
    assert "cookie" not in sent.headers
    assert (answer.status, answer.json(), answer.headers["etag"], answer.request) == (
        201,
        {"id": 7},
        '"x"',
        "POST /repos/a/b/hooks",
    )


async def test_a14_a_write_is_asked_about_last_of_all_and_not_sent_when_the_answer_is_no(http):
    async def lost():
        asked.append(len(server.seen))
        raise ReconcilerError("another process has it")

    async with serve(answering((200, {}, {}))) as server:
        asked: list[int] = []
        api = http.api(server.url)
        guarded = api.guarded(lost)
        with pytest.raises(ReconcilerError, match="another process"):
            await guarded.request("POST", "/a", json={})
        assert (asked, server.seen) == ([0], [])
        await guarded.request("GET", "/a")
        await api.request("POST", "/a", json={})
        assert len(asked) == 1
        assert len(server.seen) == 2


async def test_304_and_the_statuses_a_driver_names_are_answers_and_no_errors(http):
    async with serve(answering((304, b"", {}), (404, b"gone", {}))) as server:
        api = http.api(server.url)
        assert (await api.request("GET", "/a")).status == 304
        assert (await api.request("DELETE", "/a", ok=frozenset({404}))).text == "gone"


async def test_parameters_are_added_to_a_query_that_is_there(http):
    async with serve(answering((200, {}, {}))) as server:
        await http.api(server.url).request("GET", "/a%2Fb?cursor=x%2By%26", params={"per_page": 100})
    assert server.lines == ["GET /a%2Fb?cursor=x%2By%26&per_page=100"]


async def test_cookies_of_a_provider_are_not_kept(http):
    async with serve(answering((200, {}, {"Set_Cookie": "session=1; Path=/"}))) as server:
        api = http.api(server.url)
        await api.request("GET", "/a")
        await api.request("GET", "/b")
    assert "cookie" not in server.seen[1].headers


MEANINGS = [
    (400, ValidationFailed),
    (403, PermissionDenied),
    (404, NotFound),
    (409, Conflict),
    (412, Conflict),
    (422, ValidationFailed),
    (429, RateLimited),
    (451, Declined),
    (301, Moved),
    (308, Moved),
    (303, ProviderProtocolError),
]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(("status", "meaning"), MEANINGS)
async def test_d2_d9_d11_a_refusal_has_its_typed_error_and_is_asked_once(http, status, meaning, method):
    async with serve(answering((status, {"message": "no"}, {"Location": "/elsewhere"}))) as server:
        with pytest.raises(ProviderError) as caught:
            await http.api(server.url).request(method, "/repos/a?token=hush", params={"x": "hush"}, json={"a": "hush"})
    assert type(caught.value) is meaning
    assert (caught.value.status, caught.value.request) == (status, f"{method} /repos/a")
    assert "hush" not in str(caught.value)
    assert not caught.value.unknown_outcome
    assert len(server.seen) == 1


async def test_a_redirect_on_the_own_host_names_its_target_and_is_not_followed(http):
    async with serve(answering((301, {}, {"Location": "/repositories/17/hooks"}))) as server:
        with pytest.raises(Moved) as caught:
            await http.api(server.url).request("GET", "/repos/a/hooks")
    assert caught.value.target == "/repositories/17/hooks"
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/steal",
        "//127.0.0.1:{port}/steal",
        "https://127.0.0.1:{own}/",
        "http://[::1",
        "http://127.0.0.1:x/",
    ],
)
async def test_d20_a_redirect_to_another_host_is_refused_and_carries_no_credential_there(http, status, location):
    async with serve(answering((200, {}, {}))) as other:
        headers = {}
        async with serve(answering((status, {}, headers))) as server:
            headers["Location"] = location.format(port=other.port, own=server.port)
            with pytest.raises(ProviderProtocolError):
                await http.api(server.url).request("GET", "/repos/a", headers={"x-api-key": "hush"})
        assert other.connections == 0


async def test_d1_after_a_401_the_credential_is_refreshed_once_and_the_request_repeated(http):
    async with serve(answering((401, {}, {}), (201, {"id": 1}, {}))) as server:
        token = Token(next_values=["second"])
        assert (await http.api(server.url, token=token).request("POST", "/a", json={})).status == 201
    assert [request.headers["authorization"] for request in server.seen] == [f"Bearer {TOKEN}", "Bearer second"]


@pytest.mark.parametrize(("fresh", "calls"), [([], 1), (["second", "third"], 2)])
async def test_d1_a_credential_that_stays_refused_is_tried_at_most_twice(http, fresh, calls):
    async with serve(answering((401, {}, {}))) as server:
        with pytest.raises(AuthFailed):
            await http.api(server.url, token=Token(next_values=fresh)).request("GET", "/a")
    assert len(server.seen) == calls


@pytest.mark.parametrize("value", ["line\nbreak", "tab\tbed", "ümlaut-canary", "nul\0"])
async def test_f5_a_credential_that_no_header_can_hold_is_refused_without_showing_it(http, value):
    async with serve(answering((200, {}, {}))) as server:
        with pytest.raises(AuthFailed) as caught:
            await http.api(server.url, token=Token(value)).request("GET", "/a")
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any(value in repr(row) or value in str(getattr(row, "args", "")) for row in chain)
    assert server.seen == []


async def test_a_read_is_tried_three_times_on_5xx_and_a_write_once(http):
    async with serve(answering((502, b"<html>", {}))) as server:
        api = http.api(server.url)
        with pytest.raises(ProviderUnavailable):
            await api.request("GET", "/a")
        assert len(server.seen) == 3
        with pytest.raises(OutcomeUnknown) as caught:
            await api.request("POST", "/a", json={})
        assert caught.value.unknown_outcome
        assert len(server.seen) == 4


async def test_a_read_that_succeeds_at_the_second_try_is_an_answer(http):
    async with serve(answering((503, {}, {}), (200, [1], {}))) as server:
        assert (await http.api(server.url).request("GET", "/a")).json() == [1]
    assert len(server.seen) == 2


async def test_a_503_that_says_when_to_come_back_is_not_tried_before(http):
    async with serve(answering((503, {}, {"Retry_After": "120"}))) as server:
        with pytest.raises(ProviderUnavailable) as caught:
            await http.api(server.url, clock=lambda: 1_000.0).request("GET", "/a")
    assert caught.value.retry_at == 1_120.0
    assert len(server.seen) == 1


async def test_a_driver_knows_better_than_the_shared_table(http):
    class Own(Provider):
        def classify(self, status, headers, body, request, *, now):
            return Conflict(f"{request}: {body['message']}", status=status) if status == 403 else None

    async with serve(answering((403, {"message": "not active"}, {}))) as server:
        with pytest.raises(Conflict, match="PUT /a: not active") as caught:
            await http.api(server.url, provider=Own()).request("PUT", "/a")
    assert caught.value.body == {"message": "not active"}


async def test_a_plan_cannot_write(http):
    async with serve(answering((200, {}, {}))) as server:
        api = http.api(server.url, read_only=True)
        await api.request("GET", "/a")
        for method in ("POST", "PUT", "PATCH", "DELETE", "put"):
            with pytest.raises(ReconcilerError, match="read-only"):
                await api.request(method, "/a")
    assert server.lines == ["GET /a"]


@pytest.mark.parametrize("path", ["/repos/../user", "/repos/%2e%2E/user", "/repos/.", "/repos/acme/%2E/x"])
async def test_a_name_cannot_climb_to_another_resource(http, path):
    async with serve(answering((200, {}, {}))) as server:
        with pytest.raises(ValidationFailed):
            await http.api(server.url).request("GET", path)
    assert server.seen == []


@pytest.mark.parametrize("path", ["@evil.example/x", ".evil.example/x", "repos", ":80/x", "?x"])
async def test_a_path_cannot_change_the_host(http, path):
    async with serve(answering((200, {}, {}))) as server:
        with pytest.raises(ReconcilerError):
            await http.api(server.url).request("GET", path)
    assert server.seen == []


async def test_an_absolute_link_is_followed_on_the_own_host_only(http):
    async with serve(answering((200, {}, {}))) as server:
        api = http.api(server.url)
        await api.request("GET", f"{server.url}/repositories/1?page=2")
        with pytest.raises(ProviderProtocolError):
            await api.request("GET", "https://evil.example/repositories/1?page=2")
    assert server.lines == ["GET /repositories/1?page=2"]


async def test_a_line_break_in_a_name_stays_in_the_path(http):
    async with serve(answering((200, {}, {}))) as server:
        answer = await http.api(server.url).request("GET", "/repos/a\r\nx-evil: 1/ü")
    assert answer.request == "GET /repos/a%0D%0Ax-evil:%201/%C3%BC"
    assert "x-evil" not in server.seen[0].headers


async def test_f7_a_request_leaves_nothing_in_the_logs_of_the_libraries(http, caplog):
    caplog.set_level(logging.DEBUG)
    async with serve(answering((200, {}, {"Set_Cookie": "bad cookie; ==; expires=hush"}), (500, {}, {}))) as server:
        api = http.api(server.url)
        await api.request("GET", "/a?token=hush")
        with pytest.raises(OutcomeUnknown):
            await api.request("POST", "/a?token=hush", json={"secret": "hush"})
    assert "hush" not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!doctype html><p>hush", "an HTML page"),
        (b"", "not JSON"),
        (b"{hush", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"NaN", "not JSON"),
    ],
)
async def test_d15_an_answer_that_is_no_json_is_a_protocol_error_that_shows_none_of_it(http, body, what):
    async with serve(answering((200, body, {}))) as server:
        api = http.api(server.url)
        with pytest.raises(ProviderProtocolError, match=what) as caught:
            (await api.request("GET", "/a")).json()
        assert "hush" not in str(caught.value)
        with pytest.raises(OutcomeUnknown):
            (await api.request("POST", "/a")).json()


async def test_d15_the_body_of_a_failure_may_be_anything(http):
    for body in (b"[" * 200_000, b"", b"\xff", b"<html>", b'"text"', b"null", b"7"):
        async with serve(answering((422, body, {}))) as server:
            with pytest.raises(ValidationFailed):
                await http.api(server.url).request("GET", "/a")


@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    status=st.integers(100, 599),
    method=st.sampled_from(["GET", "POST"]),
    body=st.binary(max_size=200),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-limit", "location"]),
        st.text(st.characters(max_codepoint=255), max_size=40),
    ),
)
def test_d15_whatever_a_provider_answers_becomes_a_typed_error(status, method, body, headers):
    response = Response(status, headers, body, f"{method} /a")
    assert isinstance(shared_error(response, 1_000.0), ProviderError)
    response.body()
    with contextlib.suppress(ProviderProtocolError, OutcomeUnknown):
        response.json()


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("120", 1_120.0),
        ("0", 1_000.0),
        (" 5 ", 1_005.0),
        (email.utils.formatdate(4_600, usegmt=True), 4_600.0),
        ("Thu, 01 Jan 1970 01:16:40 +0000", 4_600.0),
        ("Thursday, 01-Jan-70 01:16:40 GMT", 4_600.0),
        ("Thu Jan  1 01:16:40 1970", 4_600.0),
        ("999999999", 1_000.0 + 86_400),
        ("²", None),
        ("-5", None),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("Thu, 99 Jan 1970 01:16:40 GMT", None),
        (email.utils.formatdate(4_000_000_000, usegmt=True), 87_400.0),
        ("9" * 5_000, None),
    ],
)
def test_d3_retry_after_is_seconds_or_a_date_and_never_more_than_a_day(text, until):
    assert retry_after({"retry-after": text}, 1_000.0) == until


def test_d5_a_spent_rate_tells_when_it_is_filled_again():
    assert limited_until({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2000"}, 1_000.0) == 2_000.0
    assert limited_until({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "2000"}, 1_000.0) == 2_000.0
    assert limited_until({"x-ratelimit-remaining": "9", "x-ratelimit-reset": "2000"}, 1_000.0) is None
    assert limited_until({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "900"}, 1_000.0) is None
    assert limited_until({"retry-after": "5", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "2000"}, 1_000.0) == 1_005.0


@pytest.mark.parametrize(
    "headers", [{"Retry_After": "60"}, {"X_RateLimit_Remaining": "0", "X_RateLimit_Limit": "60", "X_RateLimit_Reset": "{reset}"}]
)
async def test_d3_a_403_with_signs_of_a_limit_is_a_limit_and_stops_the_next_call_before_it_is_sent(http, headers):
    reset = int(time.time()) + 60
    async with serve(answering((403, {}, {k: v.format(reset=reset) for k, v in headers.items()}))) as server:
        api = http.api(server.url)
        for _ in range(3):
            with pytest.raises(RateLimited) as caught:
                await api.request("GET", "/a")
            assert caught.value.retry_at == pytest.approx(reset, abs=2)
    assert len(server.seen) == 1


async def test_a_hundred_requests_at_once_use_a_hundred_connections_and_use_them_again(http):
    async def handler(request):
        await asyncio.sleep(0.05)
        await request.reply()

    async with serve(handler, backlog=200) as server:
        api = http.api(server.url)
        for _ in range(2):
            await asyncio.gather(*(api.request("GET", f"/{n}") for n in range(100)))
        assert server.connections <= 100
        assert len(server.seen) == 200
