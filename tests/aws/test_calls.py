"""Requests of stages that AWS verifies: what arrives is what was signed, whatever URL, headers and body a manifest has."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.drivers.auth import AuthRequest, CalledService
from reconciler.drivers.aws.regions import SigningScope
from reconciler.drivers.aws.signing import AccessKey, sign, spelled
from reconciler.drivers.builtin.driver import WebDriver
from reconciler.drivers.builtin.identity import CallIdentity, check_target, principal_of
from reconciler.drivers.builtin.urls import connection_to
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.drivers.specs import spec_of
from reconciler.model.errors import AddressRefused, AuthFailed, ReconcilerError, ValidationFailed
from reconciler.model.executions import Result, Run, RunIntent, RunReport
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from tests.aws.test_moto import ROLES, Peer, access_key
from tests.support.called import CalledPeer, Received, Signer, aws, botocore_signature, called, signature_problem
from tests.support.driving import session
from tests.support.moto import moto

__all__ = ["session"]
KEY_ID, SECRET, SESSION = "AKIA" + "Q" * 16, "canary-secret-access-key-71", "canary-session-token-" + "t" * 40
STAGE = ResourceId("Stage", "default", "deploy")
CALLER = principal_of(ResourceId("Integration", "default", "aws"), spec_of("aws"))


@pytest.fixture
def peer() -> Iterator[CalledPeer]:
    with called(aws(Signer(KEY_ID, SECRET))) as running:
        yield running


def client(session: HttpSession, url: str, service: str = "lambda", signer: Any = None) -> ApiClient:
    inner = signer or Peer("http://127.0.0.1:1", access_key(), session).authenticator
    identity = CallIdentity(CALLER, inner, CalledService(service=service), url, ("127.0.0.1",))
    web = WebDriver(identity=identity)
    bound = connection_to(url, STAGE)
    budget = Budget(bound.credential_id, UNLIMITED, store=None, clock=time.time)
    return ApiClient(bound, web, identity, session=session, budget=budget, clock=time.time)


async def ran(api: ApiClient, url: str, **spec: Any) -> tuple[Run, RunReport]:
    http = WebDriver().executors["http"]
    intent = RunIntent("e-1", "rcl-1", "http", "", {"url": url, **spec}, 0.0)
    run = await http.start(api, intent)
    assert run is not None
    return run, await http.poll(api, intent, run)


ODD = [
    "/2015-03-31/functions/deploy/invocations",
    "/",
    "?a=b",
    "/a%20b/c%2Fd?x=%2B+%20&time=10:30&u=%C3%BC&lower=%c3%bc%7e",
    "/a:b/(c)/d=e,f;g@h!$&'*+/i",
    "//double//slash/",
    "/%7Etilde/~/%41",
    "/percent%/100%25/%zz",
    "/?k&k=&k==&=v&k=2&k=10&K=1&a=/?:@&&",
    "/?b=2&a=1&a=0&%61=3",
    "/?p=%&q=%zz&r=a b".replace(" ", "+"),
    "/x?q='(*)!;[]{}|^`<>\"",
    "/path/to#fragment",
]


@pytest.mark.parametrize("target", ODD)
@pytest.mark.parametrize("service", ["lambda", "execute-api", "s3"])
async def test_what_arrives_is_what_was_signed(session: HttpSession, target: str, service: str) -> None:
    signer = Signer(KEY_ID, SECRET, service=service)
    with called(aws(signer)) as peer:
        url = peer.url + target
        _, report = await ran(
            client(session, url, service), url, payload={"ü": [1, "é"]}, headers={"X-Team": "a  b   c", "X-E": ""}
        )
        (received,) = peer.seen
    assert (report.result, report.message) == (Result.PASSED, "")
    assert botocore_signature(received, signer) == received.header("authorization").rpartition("Signature=")[2]
    signed = received.header("authorization").partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"content-type", "host", "idempotency-key", "x-team", "x-reconciler-execution"} <= set(signed)
    assert not {"user-agent", "accept", "accept-encoding", "content-length"} & set(signed)


PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\#?"), max_size=30)
QUERIES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\#"), max_size=40)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PATHS, QUERIES, st.sampled_from(["lambda", "s3"]), st.binary(max_size=40), VALUES)
def test_both_verifiers_accept_every_url(path: str, query: str, service: str, body: bytes, value: str) -> None:
    if any(part in {".", ".."} for part in path.replace("%2e", ".").replace("%2E", ".").split("/")):
        return  # the client refuses it
    signer = Signer(KEY_ID, SECRET, SESSION, service, "eu-west-3")
    request = AuthRequest("PUT", f"https://h.example/{path}?{query}", {"x-value": value}, body)
    sign(request, AccessKey(KEY_ID, SecretValue(SECRET), SecretValue(SESSION)), SigningScope(service, "eu-west-3"), 1e9)
    assert request.exact
    assert request.url == spelled(request.url, service)
    headers = tuple({"host": "h.example", **request.headers}.items())
    received = Received("PUT", request.url.removeprefix("https://h.example"), headers, body)
    assert signature_problem(received, signer, now=1e9) == ""
    assert botocore_signature(received, signer) == request.headers["authorization"].rpartition("Signature=")[2]


async def test_a_session_signs_and_every_part_of_the_request_is_covered(session: HttpSession) -> None:
    with moto() as url, called() as peer:
        own = Peer(url, access_key({"arn": ROLES[0]}), session)
        target = f"{peer.url}/run?b=1"
        await ran(client(session, target, signer=own.authenticator), target, payload={"a": 1})
        (key,) = own.tokens.values().values()
    (received,) = peer.seen
    assert isinstance(key, AccessKey)
    assert key.session is not None
    signer = Signer(key.id, key.secret.reveal(), key.session.reveal())
    assert signature_problem(received, signer) == ""
    headers = dict(received.headers)
    changed = (
        {"method": "GET"},
        {"target": "/run?b=2"},
        {"target": "/other?b=1"},
        {"body": b'{"a":2}'},
        *({"headers": tuple({**headers, name: "x"}.items())} for name in ("host", "content-type", "idempotency-key")),
    )
    for change in changed:
        assert "another signature" in signature_problem(dataclasses.replace(received, **change), signer)


async def test_a_dead_key_waits_and_a_missing_permission_fails(session: HttpSession, peer: CalledPeer) -> None:
    other = Peer("http://127.0.0.1:1", access_key(), session)
    other.values["id"] = "AKIA" + "X" * 16
    with pytest.raises(AuthFailed, match="Integration/aws is refused") as caught:
        await ran(client(session, peer.url, signer=other.authenticator), peer.url)
    assert (caught.value.code, len(peer.seen)) == ("RC4404", 1)
    assert caught.value.retry_at == pytest.approx(time.time() + 60, abs=5)
    peer.replies = [(403, {"Message": "no"}, {"x-amzn-errortype": "AccessDeniedException:http://internal.amazon.com/"})]
    run, report = await ran(client(session, peer.url), peer.url)
    assert report.result is Result.FAILED
    assert report.message == "POST / was answered 403, which does not pass: the service does not allow it to Integration/aws"
    assert SECRET not in repr(run)


async def test_a_session_that_ended_is_opened_again_once(session: HttpSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.drivers.aws.sts.RETRY_AFTER_S", 0.0)  # the session is not a new one
    ended = (403, {"__type": "com.amazon#ExpiredTokenException"}, {})
    with moto() as url, called() as peer:
        peer.replies = [ended, (200, {}, {})]
        own = Peer(url, access_key({"arn": ROLES[0]}), session)
        _, report = await ran(client(session, peer.url, signer=own.authenticator), peer.url)
        assert (report.result, len(peer.seen)) == (Result.PASSED, 2)
        assert len({request.header("x-amz-security-token") for request in peer.seen}) == 2
        peer.replies = [ended]
        with pytest.raises(AuthFailed):
            await ran(client(session, peer.url, signer=own.authenticator), peer.url)
        assert len(peer.seen) == 4
        poll = {"url": peer.url + "/state", "successWhen": "true"}
        peer.replies = [(200, {}, {}), ended, (200, {}, {})]
        api, intent = (
            client(session, peer.url, signer=own.authenticator),
            RunIntent("e", "r", "http", "", {"url": peer.url, "poll": poll}, 0),
        )

        async def holds(_condition: str, _answer: Any) -> bool:
            return True

        http = WebDriver(holds).executors["http"]
        run = await http.start(api, intent)
        assert run is not None
        assert (await http.poll(api, intent, run)).result is Result.PASSED
    assert peer.lines[-3:] == ["POST /", "GET /state", "GET /state"]


async def scope(session: HttpSession, url: str, **said: str) -> list[str]:
    """Return region and service of the signature for ``url``."""
    request = AuthRequest("POST", url, {}, called=CalledService(**said))
    await Peer("http://127.0.0.1:1", access_key(), session).authenticator.authorize(request)
    return request.headers["authorization"].partition(",")[0].split("/")[2:4]


@pytest.mark.parametrize(
    ("url", "said", "service", "region"),
    [
        ("https://abc.lambda-url.eu-west-3.on.aws/", {}, "lambda", "eu-west-3"),
        ("https://abc.execute-api.us-east-2.amazonaws.com/prod", {}, "execute-api", "us-east-2"),
        ("https://deploy.example/x", {"service": "execute-api"}, "execute-api", "eu-central-1"),
        ("https://deploy.example/x", {"service": "execute-api", "region": "us-west-2"}, "execute-api", "us-west-2"),
        ("https://sqs.us-east-1.amazonaws.com/1/q", {"region": "eu-west-1"}, "sqs", "eu-west-1"),
        ("https://vpce-1.lambda.eu-west-1.vpce.amazonaws.com/", {"service": "lambda"}, "lambda", "eu-west-1"),
    ],
)
async def test_service_and_region_come_from_the_host_or_from_the_manifest(
    session: HttpSession, url: str, said: dict[str, str], service: str, region: str
) -> None:
    assert await scope(session, url, **said) == [region, service]


async def test_a_host_that_names_no_service_is_not_signed_for_sts(session: HttpSession) -> None:
    with pytest.raises(ValidationFailed, match="does not say for which service") as caught:
        await scope(session, "https://deploy.example/x")
    assert caught.value.code == "RC4405"


@pytest.mark.parametrize(
    "url",
    [
        "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/f/invocations",
        "https://sqs.us-gov-west-1.amazonaws.com/",
        "https://lambda.us-east-1.api.aws/",
        "https://states.cn-north-1.amazonaws.com.cn/",
        "https://s3.eu-west-1.amazonaws.com/bucket",
    ],
)
def test_endpoints_of_aws_itself_need_no_permission_of_the_operator(url: str) -> None:
    check_target(url, CALLER, ())


@pytest.mark.parametrize(
    "url",
    [
        "https://abc.lambda-url.eu-west-3.on.aws/",
        "https://abc.execute-api.eu-west-3.amazonaws.com/",
        "https://evil.s3.eu-west-1.amazonaws.com/",
        "https://evil.s3-eu-west-1.amazonaws.com/",
        "https://ec2-1-2-3-4.eu-west-1.compute.amazonaws.com/",
        "https://evil-1.eu-west-1.elb.amazonaws.com/",
        "https://evil.us-east-1.elasticbeanstalk.com/",
        "https://lambda.eu-central-1.amazonaws.com.evil.example/",
        "https://lambda.eu-central-1.amazonaws.com:8443/",
        "https://evil.example/",
        "https://169.254.169.254/",
    ],
)
def test_a_host_that_a_customer_runs_must_be_allowed(url: str) -> None:
    with pytest.raises(AddressRefused, match="the credential of Integration/aws is not sent to") as caught:
        check_target(url, CALLER, ())
    assert caught.value.code == "RC4401"
    assert "network.allow" in caught.value.hint


@pytest.mark.parametrize("url", ["http://lambda.eu-central-1.amazonaws.com/", "http://10.0.0.7/", "http://evil.example/"])
def test_http_is_for_loopback_only(url: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        check_target(url, CALLER, ("10.0.0.0/8", "evil.example"))
    assert caught.value.code == "RC4402"
    check_target("http://127.0.0.1:9/", CALLER, ("127.0.0.1",))
    with pytest.raises(AddressRefused, match="nor in"):
        check_target("http://127.0.0.1:9/", CALLER, ())


async def test_the_identity_is_bound_to_one_origin_and_owns_its_headers(session: HttpSession) -> None:
    identity: Any = client(session, "http://127.0.0.1:9/a").authenticator
    for url in ("http://127.0.0.1:10/a", "https://127.0.0.1:9/a", "http://localhost:9/a"):
        with pytest.raises(AddressRefused, match="is bound to"):
            await identity.authorize(AuthRequest("GET", url, {}))
    for name in ("authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "date"):
        with pytest.raises(ReconcilerError, match=f"the header {name} is that of the identity"):
            await identity.authorize(AuthRequest("GET", "http://127.0.0.1:9/a", {name: "x"}))


async def test_a_redirect_is_an_answer_and_is_not_followed(session: HttpSession, peer: CalledPeer) -> None:
    with called() as other:
        peer.replies = [(307, {}, {"location": other.url + "/take"})]
        _, report = await ran(client(session, peer.url), peer.url)
        assert (report.result, report.conclusion) == (Result.FAILED, "307")
        assert other.seen == []


async def test_outputs_that_repeat_the_credential_are_left_out(session: HttpSession) -> None:
    with called() as peer:
        own = Peer("http://127.0.0.1:1", access_key(), session)
        api = client(session, peer.url, signer=own.authenticator)

        def echo(request: Any) -> Any:
            return 200, {"outputs": {"said": {"deep": [dict(request.headers)]}}}, {}

        peer.check = echo
        run, report = await ran(api, peer.url)
    assert (report.result, report.outputs) == (Result.PASSED, {})
    assert "repeat the credential" in report.message
    assert "Signature=" not in repr(run)


async def test_a_function_that_failed_fails_the_run_although_lambda_answers_200(session: HttpSession, peer: CalledPeer) -> None:
    peer.replies = [(200, {"errorMessage": "boom"}, {"x-amz-function-error": "Unhandled"})]
    _, report = await ran(client(session, peer.url), peer.url + "/2015-03-31/functions/f/invocations")
    assert (report.result, report.conclusion) == (Result.FAILED, "200")
    assert report.message.endswith("was answered 200, but the function failed (Unhandled)")


async def test_a_header_that_is_given_in_two_spellings_is_sent_and_signed_once(session: HttpSession, peer: CalledPeer) -> None:
    headers = {
        "X-Team": "web",
        "x-team": "shop",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "AWSLambda.Invoke",
    }
    _, report = await ran(client(session, peer.url), peer.url, headers=headers)
    (received,) = peer.seen
    assert report.result is Result.PASSED
    assert [value for name, value in received.headers if name == "x-team"] == ["shop"]
    assert received.header("content-type") == "application/x-amz-json-1.1"
    assert "x-amz-target" in received.header("authorization")


def test_the_verifier_joins_repeated_headers_as_botocore_does() -> None:
    """Our client repeats none; the verifier must read what other clients send."""
    signer = Signer(KEY_ID, SECRET)
    request = AuthRequest("GET", "https://h.example/?a=b", {"x-a": "1,2  3"})
    sign(request, AccessKey(KEY_ID, SecretValue(SECRET)), SigningScope("lambda", "eu-central-1"), 1e9)
    rest = tuple((name, value) for name, value in request.headers.items() if name != "x-a")
    received = Received("GET", "/?a=b", (("host", "h.example"), ("x-a", "1"), ("x-a", " 2   3 "), *rest), b"")
    assert signature_problem(received, signer, now=1e9) == ""


@pytest.mark.parametrize(
    ("written", "service", "sent"),
    [
        ("https://h", "lambda", "https://h/"),
        ("https://h?a=b", "lambda", "https://h/?a=b"),
        ("https://h/a?q=x+y%2Bz&t=10:30&&k", "lambda", "https://h/a?q=x%20y%2Bz&t=10%3A30&k"),
        ("https://h/a:b/%7e/%2f?x=%7e%c3%bc", "lambda", "https://h/a:b/%7e/%2f?x=~%C3%BC"),
        ("https://h/a:b+c/%7e/%2f//d", "s3", "https://h/a%3Ab%2Bc/~/%2F//d"),
        ("https://h/100%", "lambda", "https://h/100%25"),
        ("https://h/a?#f", "lambda", "https://h/a"),
    ],
)
def test_a_url_has_one_spelling_that_keeps_its_meaning(written: str, service: str, sent: str) -> None:
    assert spelled(written, service) == sent
    assert spelled(sent, service) == sent
