"""Webhooks of Semaphore: what proves one, what one becomes, and how missed ones are found among the pipelines."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.semaphore.api import epoch_of, iso_of
from reconciler.drivers.semaphore.driver import driver
from reconciler.drivers.semaphore.receiver import repository_of
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.runs import Runs
from tests.support.driving import World, resource

KEY, OTHER = SecretValue("secret"), SecretValue("another")
VECTOR = "dc46983557fea127b43af721467eb9b3fde2338fe3e14f51952aa8478c13d355"  # key `secret`, body `body`: the sender's own test
WEBHOOK_ID = "6f1c9d4e-6f0e-4c56-9d0a-0f2a6a0e8f11"
receiver = driver.receiver
assert receiver is not None


def payload(**pipeline: Any) -> dict[str, Any]:
    shown = {"id": "p-1", "state": "done", "result": "passed", "done_at": "2026-01-02T03:04:05Z", **pipeline}
    return {"version": "1.0.0", "project": {"name": "web", "id": "j"}, "workflow": {"id": "w-1"}, "pipeline": shown}


def body_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def sign(body: bytes, key: SecretValue = KEY) -> str:
    return hmac.new(key.reveal().encode(), body, hashlib.sha256).hexdigest()


def verify(body: Any, signature: str | None = None, *, keys: Any = (KEY,), **headers: str) -> Delivery | Rejection:
    raw = body_of(body)
    sent = {"x-semaphore-signature-256": sign(raw) if signature is None else signature}
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    return receiver.verify(sent, raw, keys, now=0.0)


def delivered(*args: Any, **options: Any) -> Delivery:
    result = verify(*args, **options)
    assert isinstance(result, Delivery), result
    return result


# ---- proof


@pytest.mark.parametrize("signature", [VECTOR, f"sha256={VECTOR}", f" {VECTOR} "])
def test_the_senders_own_test_vector_is_a_proof_with_and_without_a_prefix(signature: str) -> None:
    result = delivered(b"body", signature)
    assert result.problem == "the payload is not JSON"


def test_E1_a_missing_signature_differs_from_a_wrong_one() -> None:
    assert verify(payload(), "") == verify(payload(), "   ")
    for result in (verify(payload(), ""), receiver.verify({}, body_of(payload()), [KEY], now=0.0)):
        assert isinstance(result, Rejection)
        assert result.reason is Refusal.UNSIGNED


@pytest.mark.parametrize(
    "signature",
    [
        "0" * 64,
        VECTOR[:-1],
        VECTOR[:8],
        VECTOR.upper(),
        f"sha1={VECTOR}",
        f"sha256=sha256={VECTOR}",
        f"{VECTOR}, {VECTOR}",  # two headers, joined
        f"{VECTOR},{'0' * 64}",
        "ключ",
        VECTOR[:-1] + "é",
        "\udcff" + VECTOR,
        "sha256=",
        "a18991ff7e4513a1c2d2ee51e3a8e99ca891d9cd",  # HMAC-SHA1
        hashlib.sha256(b"body").hexdigest(),  # no key at all
    ],
)
def test_E1_a_signature_that_is_not_quite_right_is_wrong_and_no_error(signature: str) -> None:
    assert verify(b"body", signature) == Rejection(Refusal.WRONG)


def test_E1_a_changed_or_reformatted_body_is_not_the_signed_one() -> None:
    raw = body_of(payload())
    signature = sign(raw)
    assert isinstance(verify(raw, signature), Delivery)
    for changed in (raw.replace(b"passed", b"failed"), raw + b" ", json.dumps(json.loads(raw), indent=1).encode(), b""):
        assert verify(changed, signature) == Rejection(Refusal.WRONG)


# ---- what it becomes


def test_a_delivery_has_the_senders_id_and_the_pipeline_as_its_identity() -> None:
    raw = body_of(payload())
    result = delivered(raw, x_semaphore_webhook_id=WEBHOOK_ID, user_agent="Semaphore-Webhook", authorization="Bearer x")
    assert (result.id, result.identity, result.type, result.body) == (WEBHOOK_ID, "pipeline:p-1", "pipeline_done", raw)
    assert result.occurred_at == 1_767_323_045.0
    assert result.headers == {"user-agent": "Semaphore-Webhook", "x-semaphore-webhook-id": WEBHOOK_ID}


def test_E3_a_captured_body_under_an_invented_id_has_the_same_identity() -> None:
    raw = body_of(payload())
    first, replayed = (delivered(raw, x_semaphore_webhook_id=row) for row in (WEBHOOK_ID, "invented"))
    assert first.id != replayed.id
    assert first.identity == replayed.identity


@pytest.mark.parametrize("sent", [None, "", "x" * 101, "a b", "é", "a,b"])
def test_without_a_usable_id_of_the_sender_the_pipeline_is_the_id(sent: str | None) -> None:
    headers = {} if sent is None else {"x_semaphore_webhook_id": sent}
    assert delivered(payload(), **headers).id == "pipeline:p-1"


@pytest.mark.parametrize("never", ["1970-01-01T00:00:00Z", None, "", "soon", 7.5e300, True])
def test_a_time_that_never_was_is_none(never: Any) -> None:
    assert delivered(payload(done_at=never)).occurred_at is None


@pytest.mark.parametrize(
    "body",
    [b"", b"body", b"\xff\xfe", b"[1]", b"null", b"7", b"{}", b'{"pipeline": []}', b'{"pipeline": {}}', b"[" * 100_000]
    + [body_of(payload(id=one)) for one in (None, 7, "", "x" * 101, {"a": 1}, "a\nb")],
)
def test_E10_a_signed_body_of_another_shape_is_a_delivery_with_a_problem(body: bytes) -> None:
    result = delivered(body)
    assert result.problem
    assert result.id == result.identity == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert result.body == body


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=80), st.text(max_size=40), st.booleans())
def test_E10_nothing_that_a_sender_can_send_raises(body: bytes, signature: str, sent: str, honest: bool) -> None:
    headers = {"x-semaphore-signature-256": sign(body) if honest else signature, "x-semaphore-webhook-id": sent}
    result = receiver.verify(headers, body, [KEY], now=0.0)
    if isinstance(result, Delivery):
        assert 0 < len(result.id) <= 200


# ---- small parts


@pytest.mark.parametrize(
    ("value", "epoch"),
    [
        ("1571083003", 1_571_083_003.0),
        ({"seconds": 1_571_083_003, "nanos": 500_000_000}, 1_571_083_003.5),
        ("2019-10-14 19:56:43.500000Z", 1_571_083_003.5),
        ("2019-10-14T19:56:43Z", 1_571_083_003.0),
        ("2019-10-14 19:56:43", 1_571_083_003.0),
        ("1970-01-01 00:00:00.000000Z", None),
        ({"seconds": 0, "nanos": 0}, None),
        ({"seconds": "x"}, None),
        ([], None),
    ],
)
def test_all_four_forms_of_a_time_are_read(value: Any, epoch: float | None) -> None:
    assert epoch_of(value) == epoch


def test_a_time_is_written_as_webhooks_write_it() -> None:
    assert iso_of({"seconds": 1_571_083_003, "nanos": 9}) == "2019-10-14T19:56:43Z"
    assert iso_of("1970-01-01 00:00:00.000000Z") == "1970-01-01T00:00:00Z"
    assert iso_of(None) is iso_of(1e300) is None


@pytest.mark.parametrize(
    ("url", "web"),
    [
        ("git@github.com:acme/web.git", "https://github.com/acme/web"),
        ("https://github.com/acme/web.git", "https://github.com/acme/web"),
        ("ssh://git@git.acme.test/acme/web", "https://git.acme.test/acme/web"),
        ("", None),
    ],
)
def test_the_web_address_of_a_repository_follows_from_its_git_address(url: str, web: str | None) -> None:
    assert repository_of({"repository": {"url": url, "owner": "acme", "name": "web"}}) == {"slug": "acme/web", "url": web}


@pytest.mark.parametrize("spec", [None, {}, {"repository": 7}, {"repository": {"url": 7, "owner": "acme", "name": "web"}}])
def test_a_project_that_shows_no_repository_has_none(spec: Any) -> None:
    assert repository_of(spec) == {"slug": None, "url": None}


# ---- missed ones, over HTTP


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Runs()) as running:
        yield running


@pytest.fixture
def app(server: SandboxServer) -> Runs:
    return server.app


def source_of(**target: Any) -> Resource:
    return resource("EventSource", "pipelines", {"resource": {"type": "project", **target}})


async def test_E11_every_pipeline_that_was_done_meanwhile_is_found_on_all_pages_oldest_first(world: World, app: Runs) -> None:
    since = 1_767_000_000.5
    for n in range(7):
        app.finish(app.start(at=since - 50 + n)["initial_ppl_id"], "failed", at=since + 100 - n)
    promotion = app.pipeline(app.workflows[0], promotion_of=app.pipelines[0]["ppl_id"])
    app.finish(promotion["ppl_id"], at=since + 0.25)
    app.finish(app.start()["initial_ppl_id"], at=since - 0.25)  # too old
    app.start()  # still running
    app.finish(app.start("web")["initial_ppl_id"], at=since + 9)  # not ours

    result = await receiver.missed(world.api, source_of(name="payments"), (), since)
    ids = [promotion["ppl_id"], *(app.workflows[n]["initial_ppl_id"] for n in reversed(range(7)))]
    assert [row.ref for row in result] == ids
    assert [row.id for row in result] == [f"pipeline:{row}" for row in ids]
    assert {(row.type, row.arrived) for row in result} == {("pipeline_done", False)}


async def test_several_projects_and_patterns_are_looked_through(world: World, app: Runs) -> None:
    for project in ("payments", "web"):
        app.finish(app.start(project)["initial_ppl_id"])
    both = await receiver.missed(world.api, source_of(names=["web", "payments"]), (), 0.0)
    assert len(both) == len(await receiver.missed(world.api, source_of(match="*"), (), 0.0)) == 2
    (web,) = await receiver.missed(world.api, source_of(match="w*"), (), 0.0)
    assert web.detail["project"]["name"] == "web"
    assert len(await receiver.missed(world.api, source_of(names=["web", "hidden"]), (), 0.0)) == 1
    with pytest.raises(NotFound, match=r"sees no project 'hidden'"):
        await receiver.missed(world.api, source_of(name="hidden"), (), 0.0)


async def test_D22_an_event_that_was_polled_is_the_one_that_was_delivered(world: World, app: Runs) -> None:
    workflow = app.start(at=1_767_322_000.0)
    number = workflow["initial_ppl_id"]
    job = {"job_id": "j-1", "name": "rspec", "index": 0, "status": "FINISHED", "result": "PASSED"}
    app.pipelines[0]["blocks"] = [{"name": "Test", "state": "done", "result": "passed", "result_reason": "test", "jobs": [job]}]
    app.finish(number, at=1_767_323_045.678)
    (past,) = await receiver.missed(world.api, source_of(name="payments"), (), 0.0)
    assert past.at == pytest.approx(1_767_323_045.678)
    event = await receiver.fetch(world.api, None, past)

    assert (event.id, event.type) == (past.id, "pipeline_done")
    assert event.identity == delivered(payload(id=number)).identity
    assert event.occurred_at == pytest.approx(1_767_323_045.678)
    body = json.loads(event.body)
    assert body["pipeline"] == {
        "id": number, "name": "Build", "yaml_file_name": "semaphore.yml", "working_directory": ".semaphore", "state": "done",
        "result": "passed", "result_reason": "test", "error_description": "", "created_at": "2026-01-02T02:46:40Z",
        "pending_at": "1970-01-01T00:00:00Z", "queuing_at": "1970-01-01T00:00:00Z", "running_at": "1970-01-01T00:00:00Z",
        "stopping_at": "1970-01-01T00:00:00Z", "done_at": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    assert body["workflow"] == {"id": workflow["wf_id"], "initial_pipeline_id": number, "created_at": "2026-01-02T02:46:40Z"}
    assert body["organization"] == app.state["organization"]
    assert body["project"] == {"name": "payments", "id": app.project()}
    assert (body["version"], set(body["repository"])) == ("1.0.0", {"slug", "url"})
    assert body["blocks"][0]["jobs"] == [{"id": "j-1", "name": "rspec", "index": 0, "status": "finished", "result": "passed"}]
    assert body["revision"]["branch"] == {"name": "main", "commit_range": None}
    assert (body["revision"]["reference"], body["revision"]["commit_sha"]) == ("refs/heads/main", "c0ffee")
    assert body["revision"]["sender"] == {"login": None, "email": None, "avatar_url": None}


@pytest.mark.parametrize(
    ("branch", "kind", "reference"),
    [("main", "branch", "refs/heads/main"), ("refs/tags/v1", "tag", "refs/tags/v1"), ("pull-request-12", "pull_request", None)],
)
async def test_the_revision_of_a_polled_event_tells_what_kind_it_is(
    world: World, app: Runs, branch: str, kind: str, reference: str | None
) -> None:
    app.finish(app.start(branch_name=branch)["initial_ppl_id"])
    (past,) = await receiver.missed(world.api, source_of(name="payments"), (), 0.0)
    revision = json.loads((await receiver.fetch(world.api, None, past)).body)["revision"]
    assert (revision["reference_type"], revision["reference"]) == (kind, reference)
    assert [key for key in ("branch", "tag", "pull_request") if revision[key] is not None] == [kind]


@pytest.mark.parametrize("body", [{}, [7], [{"ppl_id": 7}], [{"ppl_id": "p", "state": "DONE", "done_at": "soon"}]])
async def test_D15_a_list_of_another_shape_is_an_error_and_not_nothing_missed(
    world: World, server: SandboxServer, body: Any
) -> None:
    server.admin.fault(path="pipelines", status=200, body=body)
    with pytest.raises(ProviderProtocolError):
        await receiver.missed(world.api, source_of(name="payments"), (), 0.0)
