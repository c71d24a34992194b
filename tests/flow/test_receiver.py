"""The receiver of the real daemon: who is believed, what is bounded, and what is found again when nobody listened."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import gzip
import hashlib
import hmac
import http.client
import json
import random
import socket
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.events.endpoints import OVERLAP_S, Endpoint, Rotation, numbers_for
from reconciler.model.events import EventState
from reconciler.model.resources import Location, Resource, ResourceId
from tests.engine.world import OWNER
from tests.flow.inside import Inside, inside
from tests.flow.stage_world import StageWorld, signed

pytestmark = pytest.mark.fault


def uid(name: str) -> str:
    return str(ResourceId("EventSource", "default", name).uid(OWNER))


def github_headers(key: str, body: bytes, guid: str = "guid-1", event: str = "push") -> dict[str, str]:
    return {"x-github-event": event, "x-github-delivery": guid, **signed(key, body, "x-hub-signature-256")}


def standard(key: str, body: bytes, name: str = "msg_1", at: float | None = None) -> dict[str, str]:
    moment = str(int(time.time() if at is None else at))
    raw = base64.b64decode(key.removeprefix("whsec_"))
    proof = base64.b64encode(hmac.new(raw, f"{name}.{moment}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": name, "webhook-timestamp": moment, "webhook-signature": f"v1,{proof}"}


def raw(world: StageWorld, head: str, body: bytes = b"", seconds: float = 10) -> bytes:
    """Send bytes as they are and return what is answered."""
    with socket.create_connection(("127.0.0.1", world.port), seconds) as sock:
        sock.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        with contextlib.suppress(TimeoutError, ConnectionError):
            return sock.recv(65_536)
    return b""


def rss(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) << 10


def metrics_of(world: StageWorld) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


SOURCES = {
    "semaphore": "kind: EventSource\nmetadata: {name: sem}\nspec: {integration: {name: semaphore}, resource: {type: project, name: web}}",
    "buddy": "kind: EventSource\nmetadata: {name: bud}\nspec:\n  integration: {name: buddy}\n  resource: {type: workspace, name: acme}\n"
    "  events: [{type: EXECUTION_FINISHED}]",
}


def test_e1_e3_e6_e9_the_receiver_believes_whom_it_should_and_tells_nobody_else_anything(wide: StageWorld) -> None:
    world = wide
    world.source("web")
    world.webhook("own")
    world.webhook("std", "standard-webhooks")
    for name, text in SOURCES.items():
        world.write(f"source-{name}.yaml", text)
    for name in ("web", "own", "std"):
        world.stage(f"of-{name}", after=f"{{type: event-source, name: {name}}}")
    world.ready()
    world.wait(lambda: world.condition("EventSource", "web", "Delivering")["status"] == "True", "GitHub's ping was heard")

    # E1: no, wrong, short, non-ASCII, SHA-1, a stranger's key, a changed body: one answer, also where there is no such source
    body = b'{"ref": "refs/heads/main", "after": "a"}'
    answers: set[tuple[int, bytes]] = set()
    for name, header in (
        ("web", "x-hub-signature-256"),
        ("own", "x-signature-256"),
        ("sem", "x-semaphore-signature-256"),
        ("bud", "x-none"),
        ("std", "webhook-signature"),
    ):
        path, key, _ = world.place(name)
        good = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        sha1 = hmac.new(key.encode(), body, hashlib.sha1).hexdigest()
        for value in (
            "",
            "sha256=",
            "sha256=" + "0" * 64,
            good[:10],
            f"sha256={good[:-1]}",
            f"sha1={sha1}",
            "sha256=\xe9\xff",
            "v1,AAAA",
        ):
            headers = {header: value} if value else {}
            more = {"webhook-id": "a", "webhook-timestamp": str(int(time.time()))} if name == "std" else {}
            answers.add(world.post(path, body, {"x-github-event": "push", **more, **headers}))
            answers.add(world.post(path.replace(uid(name), "nobody"), body, {"x-github-event": "push", **headers}))
            answers.add(world.post(path.replace(OWNER, "other"), body, {"x-github-event": "push", **headers}))
        answers.add(world.post(path, body + b" ", {header: f"sha256={good}"}))
        answers.add(world.post(path.replace(uid(name), uid("nobody")), body, {header: f"sha256={good}"}))
    answers.add(world.post("/hooks/", body, {}))
    answers.add(world.post("/hooks/a/b/c/../d", body, {}))
    answers.add(world.post(world.place("bud")[0], b'{"secret_key": "wrong"}', {}))
    answers.add(world.post(world.place("bud")[0], b"[" * 10_000, {}))
    path, _, key = world.place("std")
    answers.add(world.post(path, body, standard(key, body, at=time.time() - 3600)))
    assert answers == {(401, b"")}

    # E3: the same id twice is one event; with another body it is refused; a body under an invented id has no second effect
    path, key, _ = world.place("web")
    other = b'{"ref": "refs/heads/main", "after": "b"}'
    assert world.post(path, body, github_headers(key, body))[0] == 202
    assert world.post(path, body, github_headers(key, body))[0] == 202
    assert world.post(path, other, github_headers(key, other))[0] == 409
    assert world.post(path, body, github_headers(key, body, "guid-2"))[0] == 202
    world.wait(lambda: any(one["reason"] == "duplicate" for one in world.events(source="EventSource/web")), "it is the same")
    assert world.send("own", {"n": 1}, delivery="x") == 202
    assert world.send("own", {"n": 1}, delivery="x") == 202
    assert world.send("own", {"n": 2}, delivery="x") == 409
    assert world.send("own", {"n": 3, "id": 3}) == 202
    assert world.send("own", {"n": 3, "id": 3}) == 202
    path, _, key = world.place("std")
    assert world.post(path, b"{}", standard(key, b"{}"))[0] == 202
    assert world.post(path, b"{}", standard(key, b"{}"))[0] == 202
    assert world.post(path, b'{"a": 1}', standard(key, b'{"a": 1}'))[0] == 409

    # E9: events nobody knows, pings, and bodies that cannot be read
    path, key, _ = world.place("web")
    odd = [("surprise", b"{}"), ("ping", b'{"zen": ""}'), ("push", b"[]"), ("push", b"\xff{"), ("meta", b"null")]
    for number, (event, content) in enumerate(odd):
        assert world.post(path, content, github_headers(key, content, f"odd-{number}", event))[0] == 202
    assert world.send("own", b"not json", delivery="odd") == 202

    # E6: what is too large is refused before it is read, and what is not plain is refused at all
    pid = world.processes[-1].pid
    before = rss(pid)
    line = f"POST {path} HTTP/1.1\nhost: x\n"
    assert b" 413 " in raw(world, line + "content-length: 5000000000")
    assert b" 413 " in raw(world, line + f"content-length: {(25 << 20) + 1}")
    assert raw(world, line + "content-length: 9999999999999999999999")[9:12] in (b"400", b"413")
    assert raw(world, line + "content-length: -1")[9:12] in (b"400", b"411", b"413")
    assert raw(world, line + "content-length: ten")[9:12] == b"400"
    assert b" 411 " in raw(world, line + "x: y")
    assert b" 411 " in raw(world, line + "transfer-encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n")
    assert raw(world, line + "transfer-encoding: chunked\ncontent-length: 2", b"{}")[9:12] in (b"400", b"411")
    packed = gzip.compress(b" " * (1 << 20))
    assert world.post(path, packed, {"content-encoding": "gzip", **github_headers(key, packed, "packed")})[0] == 415
    assert b" 405 " in raw(world, f"GET {path} HTTP/1.1\nhost: x")
    assert rss(pid) - before < 5 << 20

    world.finished("of-own", 2)  # what is queued is neither an open event nor an execution yet
    world.wait(world.quiet, "everything was looked at")
    assert len(world.executions("of-web")) == 1
    assert len(world.executions("of-own")) == 2
    assert len(world.executions("of-std")) == 1
    assert world.processes[-1].poll() is None
    assert "Traceback" not in world.log()
    assert world.condition("EventSource", "web", "Delivering")["status"] == "True"


def test_e7_connections_that_drip_do_not_keep_an_honest_call_waiting(world: StageWorld) -> None:
    world.webhook("own")
    world.ready()
    path = world.place("own")[0]
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", world.port), 15)) for _ in range(60)]
        for number, sock in enumerate(socks):
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n".encode()
            sock.sendall(head + (b"\r\n{" if number % 2 else b"x-dri"))  # half of them hold back their body, half their head
        time.sleep(0.3)
        durations = []
        for number in range(20):
            began = time.monotonic()
            assert world.send("own", {"n": number}) == 202
            durations.append(time.monotonic() - began)
        assert statistics.median(durations) < 0.2, durations
        ends = []
        for sock in socks[1::2]:
            with contextlib.suppress(OSError):
                ends.append(sock.recv(100)[9:12])
        assert set(ends) <= {b"408", b""}  # ended after ten seconds, however long they would have dripped
        assert len(ends) == 30


def test_e8_of_a_burst_nothing_that_was_accepted_is_lost_over_a_kill(world: StageWorld) -> None:
    world.webhook("own")
    world.stage("noop", "concurrency: 64", "executor: {type: noop}", after="{type: event-source, name: own}")
    world.ready()
    path, key, _ = world.place("own")
    accepted: set[str] = set()

    def sender(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
        with contextlib.suppress(OSError, http.client.HTTPException):
            for n in range(1000):
                name, body = f"{number}-{n}", orjson.dumps({"n": n})
                connection.request("POST", path, body=body, headers={**signed(key, body), "x-delivery-id": name})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 202:
                    accepted.add(name)
                elif answer.status != 503:
                    raise AssertionError(answer.status)
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        senders = [pool.submit(sender, number) for number in range(8)]
        world.wait(lambda: len(accepted) >= 300, "three hundred are accepted")
        world.kill()
        for one in senders:
            one.result()
    world.daemon()
    world.wait(world.listens, "the receiver listens")

    def kept() -> dict[str, str]:
        found: dict[str, str] = {}
        before = ""
        while True:
            page = world.ask("events", source="EventSource/own", limit=1000, before=before)
            found |= {one["deliveryId"]: one["state"] for one in page["events"]}
            before = page["next"]
            if not before:
                return found

    world.wait(lambda: world.all_ready() and set(kept().values()) == {"processed"}, "everything was handed on", 90)
    assert accepted <= set(kept())
    assert len(set(kept()) - accepted) <= 8  # stored, but the answer was lost with the process


def aged(world: StageWorld, seconds: float = 60) -> int:
    """Let every failed delivery at GitHub have happened a while ago; returns how many there are."""
    rows = world.github.state()["deliveries"]
    failed = 0
    if any(one["status"] == "pending" for some in rows.values() for one in some):
        return 0  # on its way: written back now, it would never get its outcome
    for one in (one for some in rows.values() for one in some):
        if not 200 <= one["status_code"] < 400 and one["event"] != "ping":
            failed += 1
            one["delivered_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))
    world.github.put_state({"deliveries": rows})
    return failed


def test_e11_e12_what_was_missed_is_sent_again_or_read_and_a_broken_hook_is_repaired(world: StageWorld) -> None:
    world.source("web")
    world.stage("noop", after="{type: event-source, name: web}")
    world.ready()
    world.push()
    world.finished("noop")
    world.ask("redeliver")  # a sweep: from now on this source is not new any more
    world.stop()
    world.push()
    world.push()
    world.wait(lambda: aged(world) == 2, "both failed")
    world.daemon()
    world.up()
    world.finished("noop", 3)
    assert {one["origin"] for one in world.events(source="EventSource/web")} == {"delivered"}

    # sending again does not help where deliveries never get through: then they are read from the list
    world.github.settings(drop_deliveries=["push"])
    world.push()
    assert aged(world) >= 1
    world.finished("noop", 4)
    world.wait(lambda: [one["origin"] for one in world.events(source="EventSource/web")][-1] == "recovered", "it was read")
    world.github.settings(drop_deliveries=0)
    time.sleep(2.5)
    assert len(world.executions("noop")) == 4

    # E12: switched off, then deleted at GitHub
    hook = world.hooks("web")[0]
    world.set_hooks("web", [{**hook, "active": False}])
    world.wait(lambda: [one["active"] for one in world.hooks("web")] == [True], "it is active again")
    world.push()
    world.finished("noop", 5)
    world.set_hooks("web", [])
    world.wait(lambda: len(world.hooks("web")) == 1, "it was made again")
    world.wait(world.all_ready, "ready")
    world.push()
    world.finished("noop", 6)
    assert len(world.executions("noop")) == 6


def test_e11_d22_semaphore_and_buddy_are_polled_and_what_comes_both_ways_has_one_effect(tmp_path: Path) -> None:
    world = StageWorld(tmp_path, ("semaphore", "buddy"))
    try:
        for name, text in SOURCES.items():
            world.write(f"source-{name}.yaml", text)
        world.stage("of-sem", after="{type: event-source, name: sem}")
        world.stage("of-bud", after="{type: event-source, name: bud}")
        world.ready()
        world.ask("redeliver")
        world.semaphore.do("run_pipeline", project="web", duration_s=0)
        world.buddy.do("run_pipeline", project="web", pipeline="deploy", duration_s=0)
        world.finished("of-sem")
        world.finished("of-bud")
        for admin in (world.semaphore, world.buddy):
            admin.settings(drop_deliveries=1.0)
        world.semaphore.do("run_pipeline", project="web", duration_s=0)
        world.buddy.do("run_pipeline", project="web", pipeline="deploy", duration_s=0)
        time.sleep(1.5)
        since = 600
        world.wait(lambda: _swept(world, since) and len(world.executions("of-sem")) >= 2, "Semaphore was polled")
        world.wait(lambda: _swept(world, since) and len(world.executions("of-bud")) >= 2, "Buddy was polled")
        world.wait(world.quiet, "everything was looked at")
        _swept(world, since)
        world.wait(world.quiet, "everything was looked at")
        assert [len(world.executions(one)) for one in ("of-sem", "of-bud")] == [2, 2]
        origins = {one["origin"] for one in world.events() if one["state"] == "processed" and one["origin"] != "internal"}
        assert origins == {"delivered", "polled"}
    finally:
        world.close()


def _swept(world: StageWorld, since: float) -> bool:
    found = world.ask("redeliver", since=since)["sources"]
    assert [one["error"] for one in found] == ["", ""], found
    return True


def test_e13_while_a_key_is_rotated_the_old_one_is_taken_and_nobody_honest_is_refused(world: StageWorld) -> None:
    world.source("web")
    world.webhook("own")
    world.stage("noop", after="{type: event-source, name: web}")
    world.ready()
    world.push()
    world.finished("noop")
    world.source("web", more="  keyRotation: 1")
    world.webhook("own", more="  keyRotation: 1")
    new = world.place("web", 1)[1]
    world.wait(lambda: world.hooks("web")[0]["config"].get("secret") == new, "the new key is written at GitHub")
    world.wait(world.all_ready, "ready")
    world.push()
    world.finished("noop", 2)
    for number in (0, 1):
        path, key, _ = world.place("web", number)
        body = orjson.dumps({"ref": "refs/heads/main", "after": str(number)})
        assert world.post(path, body, github_headers(key, body, f"by-{number}"))[0] == 202
        path, key, _ = world.place("own", number)
        assert world.post(path, body, signed(key, body))[0] == 202
    path, key, _ = world.place("web", 2)
    assert world.post(path, b"{}", github_headers(key, b"{}", "by-2"))[0] == 401
    world.finished("noop", 4)


@pytest.mark.parametrize(
    ("number", "rotation", "expected"),
    [
        (0, None, (0,)),
        (1, None, (1, 0)),  # not known yet whether it is written everywhere
        (1, Rotation(1, 0.0), (1, 0)),
        (1, Rotation(1, 1000.0), (1, 0)),
        (1, Rotation(1, 1.0), (1,)),
        (2, Rotation(1, 1.0), (2, 1)),  # of an older rotation
    ],
)
def test_e13_the_old_key_ends_a_day_after_the_new_one_is_in_force(
    number: int, rotation: Rotation | None, expected: tuple[int, ...]
) -> None:
    spec = {"type": "webhook", "keyRotation": number} if number else {"type": "webhook"}
    source = Resource(ResourceId("EventSource", "default", "own"), spec, Location("own.yaml"))
    endpoint = Endpoint(source, uid("x"), None, False, "")  # type: ignore[arg-type]
    assert numbers_for(endpoint, rotation, 1.0 + OVERLAP_S) == expected


# in this process


async def delivered(here: Inside, name: str, body: bytes, headers: Mapping[str, str] | None = None, rotation: int = 0) -> int:
    """Send a signed delivery to a source of type webhook."""
    _, key, _ = here.world.place(name, rotation)
    return await here.working.intake.receive(OWNER, uid(name), "", {**signed(key, body), **(headers or {})}, body)


async def test_e9_until_a_revision_was_read_everybody_is_told_to_come_again(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook("own")
        assert await delivered(here, "own", b"{}") == 503
        assert await here.working.intake.receive(OWNER, "nobody", "", {}, b"") == 503
        await here.sync()
        assert await delivered(here, "own", b"{}") == 202
        assert await here.working.intake.receive(OWNER, "nobody", "", {}, b"") == 401


async def test_e13_the_end_of_the_overlap_survives_a_restart(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook("own", more="  keyRotation: 1")
        await here.sync()
        await here.working.intake.load()
        assert await delivered(here, "own", b"{}", rotation=0) == 202
        await here.working.intake.save()
        here.later(OVERLAP_S - 60)
        here.restarted()
        await here.working.intake.load()
        assert await delivered(here, "own", b"[1]", rotation=0) == 202
        here.later(120)
        assert await delivered(here, "own", b"[2]", rotation=0) == 401
        assert await delivered(here, "own", b"[2]", rotation=1) == 202


@pytest.mark.parametrize("fresh", [True, False])
async def test_e4_an_event_older_than_the_inbox_remembers_has_no_effect(tmp_path: Path, fresh: bool) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("own", after="{type: event-source, name: own}")
        await here.sync()
        age = here.deps.config.retention.inbox + (-3600 if fresh else 3600)
        assert await delivered(here, "own", orjson.dumps({"timestamp": here.now - age})) == 202
        await here.turn()
        assert len(await here.executions("own")) == fresh
        event = (await here.deps.store.events(source="EventSource/default/own"))[0]
        assert (event.state, event.reason) == ((EventState.PROCESSED, "") if fresh else (EventState.REJECTED, "stale"))


async def test_e5_in_whatever_order_events_come_each_has_its_effect_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("own", "concurrency: 9", "executor: {type: noop}", after="{type: event-source, name: own}")
        await here.sync()
        dealer = random.Random(5)
        for round_ in range(10):
            bodies = [orjson.dumps({"round": round_, "n": n, "timestamp": here.now - 60 + n}) for n in range(6)]
            for body in dealer.sample(bodies * 2, 12):
                assert await delivered(here, "own", body) == 202
            await here.turn(1)
        await here.turn()
        assert len(await here.executions("own")) == 60


async def test_e3_the_same_thing_under_another_id_is_kept_as_a_duplicate_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("own", after="{type: event-source, name: own}")
        await here.sync()
        for number in range(3):
            assert await delivered(here, "own", b'{"n": 1, "id": 1}', {"x-request-id": str(number)}) == 202
        await here.turn()
        assert await delivered(here, "own", b'{"n": 2}') == 202
        await here.turn()
        assert len(await here.executions("own")) == 2
        found = await here.deps.store.events(source="EventSource/default/own")
        assert sorted(one.reason for one in found) == ["", "", "duplicate", "duplicate"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["repository", "ref", "after", "sender", "full_name", "type", "timestamp", "deployment", "id"])
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


async def test_e10_bodies_of_any_shape_are_taken_or_kept_as_dead_letters_and_never_raise(tmp_path: Path) -> None:
    import asyncio

    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage(
            "own",
            "inputs: [{name: who}]",
            "inputMappings: [{values: [{name: who, valueFrom: {eventData: {connection: own, expression: $.repository.full_name}}}]}]",
            "executor: {type: noop, name: '${{ event.ref }}'}",
            after="{type: event-source, name: own, filters: [{type: payload, payload: {ref: main}}]}",
        )
        here.world.stage("all", after="{type: event-source, name: own}")
        await here.sync()
        bodies: list[bytes] = []

        @settings(max_examples=300, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
        def collect(body: bytes) -> None:
            bodies.append(body)

        await asyncio.to_thread(collect)
        for number, body in enumerate(bodies):
            assert await delivered(here, "own", body, {"x-delivery-id": str(number)}) == 202
        await here.turn(2 + len(bodies) // 200)
        states = {one.state for one in await here.deps.store.events(source="EventSource/default/own", limit=1000)}
        assert states <= {EventState.PROCESSED, EventState.REJECTED}
        reasons = {one.reason for one in await here.deps.store.events(source="EventSource/default/own", limit=1000)}
        assert reasons <= {"", "malformed", "stale"}
