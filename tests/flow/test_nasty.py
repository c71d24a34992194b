"""What a hostile peer, sender, provider or payload may do, and what of it must not matter."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import http.client
import socket
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from reconciler.events.requests import EventRequest, TriggerRequest
from reconciler.model.errors import StateError, UsageError
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.resources import ResourceId
from reconciler.model.values import DEEPEST, too_deep
from reconciler.state import Store
from reconciler.state.async_store import AsyncStore
from reconciler.state.inbox import Arrival, new_event_id
from tests.flow.inside import Inside, inside
from tests.flow.stage_world import StageWorld
from tests.flow.test_receiver import SOURCES, delivered, github_headers, rss, uid
from tests.support.postgres import Postgres

pytestmark = pytest.mark.fault

MIB = 1 << 20


def connected(world: StageWorld) -> socket.socket:
    return socket.create_connection(("127.0.0.1", world.port), 20)


def told(sock: socket.socket) -> bytes:
    """Return what is answered until the other side ends the connection."""
    found = b""
    with contextlib.suppress(OSError):
        while part := sock.recv(65_536):
            found += part
    return found


def test_e6_e7_connections_heads_and_bodies_of_strangers_are_bounded(world: StageWorld) -> None:
    world.webhook("own")
    world.ready()
    path, pid = world.place("own")[0], world.processes[-1].pid
    assert world.send("own", {"n": 0}) == 202
    before = rss(pid)

    # a head without an end
    with connected(world) as sock:
        line = b"x-a: " + b"a" * 60_000 + b"\r\n"
        with contextlib.suppress(OSError):
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
            for _ in range(2_000):
                sock.sendall(line)
    with connected(world) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * (70 << 10))
        assert b" 431 " in told(sock)
    assert rss(pid) - before < 10 * MIB

    # more connections than there are places, and nothing said on any of them
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(world)) for _ in range(450)]
        for number in range(5):
            assert world.send("own", {"n": number}) == 202
        assert told(idle[-1]) == b""

    # bodies that nobody has proved anything of yet
    with contextlib.ExitStack() as stack:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {20 * MIB + 1}\r\n\r\n".encode()
        refused = 0
        for _ in range(10):
            sock = stack.enter_context(connected(world))
            try:
                sock.sendall(head + b"x" * (20 * MIB))
            except OSError:
                refused += 1
        assert refused >= 3
        assert rss(pid) - before < 260 * MIB
        assert world.send("own", {"n": "small"}) == 202

    # a body that drips on after it was refused
    with connected(world) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-encoding: br\r\ncontent-length: 1000\r\n\r\n".encode())
        assert b" 415 " in sock.recv(1000)
        with pytest.raises(OSError, match=r"."):  # the connection is closed long before the declared body is there
            for _ in range(1_000):
                sock.sendall(b"x")
                time.sleep(0.1)
    assert world.processes[-1].poll() is None
    assert "Traceback" not in world.log()


# events that nobody should have to bear


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


async def states(here: Inside) -> list[tuple[str, str]]:
    """State and reason of every delivered event, oldest first."""
    found = await here.deps.store.events(source="EventSource/default/own", limit=1000)
    return [(one.state.value, one.reason) for one in reversed(found)]


ECHO = (
    "inputs: [{name: a}]",
    "inputMappings: [{values: [{name: a, value: '${{ event.m }}'}]}]",
    "executor: {type: noop, name: '${{ event.m }}'}",
)
OWN = "{type: event-source, name: own}"


@pytest.mark.parametrize("depth", [DEEPEST + 1, 200, 251, 254, 300, 890])
async def test_a17_e10_what_is_nested_too_deep_is_refused_alone_and_can_be_looked_at(tmp_path: Path, depth: int) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("echo", *ECHO, after=OWN)
        here.world.stage("found", after="{type: event-source, name: own, filters: [{type: payload, payload: {m: x}}]}")
        group = "connections: [{type: event-source, name: own}]\n  groupBy: {fields: [{name: m, expression: $.m}]}"
        here.world.write("group.yaml", f"kind: ConnectionGroup\nmetadata: {{name: both}}\nspec:\n  {group}")
        await here.sync()
        assert await delivered(here, "own", b'{"m": ' + nested(depth) + b"}", {"x-delivery-id": "deep"}) == 202
        assert await delivered(here, "own", b'{"m": "x"}', {"x-delivery-id": "plain"}) == 202
        await here.turn()
        assert [one.inputs for one in await here.items("echo")] == [{"a": "x"}]
        assert len(await here.executions("echo")) == len(await here.executions("found")) == 1
        assert await states(here) == [("failed", "error"), ("processed", "")]
        event = await here.working.commands.event(EventRequest(id="deep"))
        assert {one["target"] for one in event["rejectedBy"]} == {"Stage/echo", "Stage/found", "ConnectionGroup/both"}
        assert orjson.dumps(event)
        with pytest.raises(UsageError):
            await here.working.commands.trigger(TriggerRequest(source="own", payload={"m": orjson.loads(nested(depth))}), "ada")


@pytest.mark.parametrize(
    ("value", "wanted"), [(1, False), ([], False), ([[{"a": 1}]], True), ({"a": [1]}, False), ([[[]]], True)]
)
def test_depth_is_counted_in_levels(value: Any, wanted: bool) -> None:
    assert too_deep(value, 2) is wanted


@pytest.mark.parametrize("error", [TypeError("x"), StateError("the database refused: DataError")])
async def test_a17_an_event_whose_effects_cannot_be_stored_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("all", after=OWN)
        await here.sync()
        for number in range(3):
            assert await delivered(here, "own", orjson.dumps({"n": number}), {"x-delivery-id": str(number)}) == 202
        poison = (await here.deps.store.event("1"))[0].id
        settle = here.store.settle_events

        def refuse(routings: Any, spans_of: Any) -> Any:
            if any(routing.event_id == poison and routing.items for routing in routings):
                raise error
            return settle(routings, spans_of)

        monkeypatch.setattr(here.store, "settle_events", refuse)
        await here.turn()
        assert await states(here) == [("processed", ""), ("failed", "error"), ("processed", "")]
        assert len(await here.executions("all")) == 2


async def test_a17_while_the_database_is_away_no_event_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        await here.sync()
        assert await delivered(here, "own", b"{}") == 202

        def away(*_: Any) -> int:
            raise StateError("the database does not answer", code="RC7007")

        with monkeypatch.context() as patch:
            patch.setattr(here.store, "settle_events", away)
            with pytest.raises(StateError):
                await here.turn()
        assert await states(here) == [("pending", "")]
        await here.turn()
        assert await states(here) == [("processed", "")]


async def test_many_large_events_are_not_held_in_memory_at_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("all", "concurrency: 9", "executor: {type: noop}", after=OWN)
        await here.sync()
        for number in range(4):
            body = orjson.dumps({"n": number, "text": "x" * (MIB // 4)})
            assert await delivered(here, "own", body) == 202
        found = await here.deps.store.pending_events(200, MIB // 2)
        assert len(found) == 1  # two would be a little more
        assert len(await here.deps.store.pending_events(200, MIB)) == 3
        assert len(await here.deps.store.pending_events(200, 1)) == 1
        await here.turn()
        assert len(await here.executions("all")) == 4


def arrival(name: str) -> Arrival:
    source, now = ResourceId("EventSource", "default", "own"), time.time()
    event = Event(new_event_id(now), source, name, "x", Origin.DELIVERED, EventState.PENDING, now)
    return Arrival(event, b'{"a": "\\u0000"}')


async def test_what_postgresql_cannot_hold_is_refused_alone(tmp_path: Path, postgres: Postgres) -> None:
    """A NUL is no character of a PostgreSQL text; in a payload it may stand."""
    store = Store.open(postgres.database(), state_dir=tmp_path, create=True)
    (tmp_path / "world").mkdir()
    async with inside(tmp_path / "world") as here:
        deps = dataclasses.replace(here.deps, store=AsyncStore(store, here.deps.store.thread))
        from reconciler.events.group_commit import Writer

        writer = Writer(deps)
        found = await asyncio.gather(*(writer.store(arrival(name)) for name in ("a", "b\0", "c")), return_exceptions=True)
        assert [isinstance(one, StateError) for one in found] == [False, True, False]
        assert sorted(event.delivery_id for event, _ in store.pending_events(10)) == ["a", "c"]
    store.close()


# words of a stranger

FORGED = {
    "integration": "Integration/default/github",
    "repository": "acme/secret",
    "sha": "a" * 40,
    "deployment": "1",
    "through": [],
}
REPORTED = (
    "executor: {type: noop}",
    "report: {deploymentStatus: true, commitStatus: {context: ci}, deployment: {create: true, environment: live}}",
)


@pytest.mark.parametrize("kind", ["execution_finished", "field_set_completed"])
async def test_a_sender_cannot_say_where_results_are_written(tmp_path: Path, kind: str) -> None:
    """What ends with the type of an event of ours is none of ours: it came in from outside."""
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.manual()
        both = "{type: event-source, name: own}, {type: event-source, name: hand}"
        here.world.stage("s", *REPORTED, after=both)
        fields = "groupBy: {fields: [{name: all, expression: '\"x\"'}]}"
        here.world.write("group.yaml", f"kind: ConnectionGroup\nmetadata: {{name: g}}\nspec:\n  connections: [{OWN}]\n  {fields}")
        here.world.stage("behind", *REPORTED, after="{type: connection-group, name: g}")
        await here.sync()
        payload = {"type": kind, "origin": FORGED, "events": {"a": {"type": "execution_finished", "origin": FORGED}}}
        assert await delivered(here, "own", orjson.dumps(payload)) == 202
        assert await delivered(here, "own", orjson.dumps({"origin": FORGED}), {"x-event-type": kind}) == 202
        await here.working.commands.trigger(TriggerRequest(source="hand", type=kind, payload=payload), "ada")
        await here.turn(6)
        assert len(await here.executions("s")) == 3
        assert len(await here.executions("behind")) == 2
        for name in ("s", "behind"):
            for item in await here.items(name):
                assert set(item.origin) <= {"about"}  # what people are shown
                assert await here.deps.store.reports_of(item.id) == []


async def test_the_origin_of_a_group_is_that_of_its_parts(tmp_path: Path) -> None:
    from reconciler.state.routing import Join, Routing

    group = ResourceId("ConnectionGroup", "default", "g")
    parts = {"a": {"through": ["Stage/default/x"]}, "b": {**FORGED, "through": ["Stage/default/y"]}}
    async with inside(tmp_path) as here:
        here.world.webhook()
        await here.sync()
        for name, origin in parts.items():
            assert await delivered(here, "own", orjson.dumps({"n": name})) == 202
            event = (await here.deps.store.pending_events(1))[0][0]
            join = Join(group, "k", {}, name, ("a", "b"), 0.0, origin, emit=False, drop=False)
            await here.deps.store.settle_events([Routing(event.id, joins=(join,))])
        made, body = (await here.deps.store.pending_events(1))[0]
        assert made.source == group
        assert orjson.loads(body)["origin"] == {**FORGED, "through": ["Stage/default/x", "Stage/default/y"]}


@pytest.mark.parametrize("buddy", [False, True])
async def test_n32_e2_every_refusal_is_the_same_work_over_the_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buddy: bool
) -> None:
    """Counted, not timed: how often, and over how many bytes, a body is hashed with a key, and how often it is parsed."""
    work: list[tuple[str, int]] = []
    new, loads = hmac.new, orjson.loads

    def hashing(key: bytes, msg: bytes | None = None, digestmod: Any = "") -> Any:
        work.append(("hash", len(msg or b"") // 1000))  # the few bytes that one scheme puts before the body do not count
        return new(key, msg, digestmod)

    def parsing(text: bytes) -> Any:
        work.append(("parse", len(text) // 1000))
        return loads(text)

    async with inside(tmp_path) as here:
        here.world.webhook("own")
        here.world.webhook("std", "standard-webhooks")
        here.world.webhook("turned", more="  keyRotation: 3\n")
        if buddy:
            here.world.write(
                "buddy.yaml",
                "kind: Secret\nmetadata: {name: b}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_BUDDY}}}\n---\n"
                "kind: Integration\nmetadata: {name: buddy}\nspec:\n  type: buddy\n  url: https://app.buddy.works/acme\n"
                "  auth: {use: token, token: {valueFrom: {secret: {name: b, key: token}}}}\n---\n" + SOURCES["buddy"],
            )
        await here.sync()
        intake, owner = here.working.intake, here.deps.owner
        body = b'{"secret_key": "x", "a": "' + b"x" * 100_000 + b'"}'
        signed = {"x-signature-256": "sha256=" + "0" * 64}
        odd = {"webhook-id": "a.b", "webhook-timestamp": "x", "webhook-signature": "v1,AAAA"}
        late = {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        names = ["nobody", "own", "std", "turned", *(["bud"] if buddy else [])]
        for name in names:  # so that the keys of all are known
            await intake.receive(owner, str(uid(name)), "", signed, body)
        monkeypatch.setattr(hmac, "new", hashing)
        monkeypatch.setattr(orjson, "loads", parsing)
        done = {}
        for name in names:
            for headers in ({}, signed, odd, late):
                work.clear()
                assert await intake.receive(owner, str(uid(name)), "", headers, body) == 401
                done[name, str(headers)] = sorted(work)
    expected = [("hash", 100)] * 2 + [("parse", 100)] * buddy
    assert done == dict.fromkeys(done, expected)


# against the daemon, on both databases


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nul_surrogates_and_huge_numbers_go_through_or_are_refused(tmp_path: Path, request: Any, database: str) -> None:
    world = StageWorld(tmp_path, ("github",))
    token = "t" * 40
    try:
        digest = hashlib.sha256(token.encode()).hexdigest()
        listen = f'listen: "127.0.0.1:{world.port}", publicUrl: "http://127.0.0.1:{world.port}"'
        more = {"server": f"{{{listen}, tokens: [{{name: ops, sha256: {digest}, role: operator}}]}}"}
        if database == "postgresql":
            more["state"] = f'{{url: "{request.getfixturevalue("postgres").database()}"}}'
        world.configure(**more)
        world.source("web")
        world.webhook("own")
        world.stage("echo", *ECHO, after=OWN)
        filters = "filters: [{type: data, data: {expression: '$.labels[$.m] == \"x\"'}}]"
        world.stage("keyed", after=f"{{type: event-source, name: own, {filters}}}")
        world.stage("pushed", "executor: {type: noop, name: '${{ event.ref }}'}", after="{type: event-source, name: web}")
        world.ready()

        odd = [
            rb'{"m": "a\u0000b", "labels": {"a\u0000b": "x"}}',
            rb'{"m": 18446744073709551615}',
            rb'{"m": -9223372036854775809}',
            rb'{"m": 123456789012345678901234567890123456789012345678901234567890}',
            rb'{"m": 1e308, "m": "twice"}',
            rb'{"m": "\ud83e\udd80 \u202e \u2028"}',
            rb'{"m": "\u0000"}',
        ]
        for number, body in enumerate(odd):
            assert world.send("own", body, delivery=f"odd-{number}") == 202
        unreadable = [rb'{"m": "\ud800"}', b"\xef\xbb\xbf{}", b'{"m": NaN}', b'{"m": 1e999}', b'{"m": "\xff"}', b"", b"\0" * 100]
        for number, body in enumerate(unreadable):
            assert world.send("own", body, delivery=f"bad-{number}") == 202
        assert world.send("own", rb'{"m": "last"}', delivery="last") == 202
        path, key, _ = world.place("web")
        for number, body in enumerate(
            (rb'{"ref": "refs/heads/a\u0000b", "after": "a"}', rb'{"ref": "refs/heads/main", "after": "b"}')
        ):
            assert world.post(path, body, github_headers(key, body, f"git-{number}"))[0] == 202
        world.wait(world.quiet, "everything was looked at")
        found = {one["deliveryId"]: (one["state"], one["reason"]) for one in world.events(source="EventSource/own")}
        assert {found[f"bad-{number}"] for number in range(len(unreadable))} == {("rejected", "malformed")}
        assert {state for name, (state, _) in found.items() if not name.startswith("bad")} == {"processed"}
        assert len(world.finished("echo", len(odd) + 1)) == len(odd) + 1
        assert "twice" in {one["label"] for one in world.executions("echo")}
        world.finished("pushed")

        def api(method: str, where: str, body: bytes | None = None) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=15)
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            connection.request(method, f"/api/v1{where}", body=body, headers=headers)
            answer = connection.getresponse()
            orjson.loads(answer.read())
            connection.close()
            return answer.status

        for name in ("odd-0", "odd-3", "odd-5", "bad-0", "bad-6"):
            assert api("GET", f"/events/{name}") == 200
        assert api("GET", "/executions") == 200
        asked = [
            api("GET", "/events/%00"),
            api("GET", "/events?before=%00"),
            api("GET", "/executions/a%00b"),
            api("POST", "/outputs", rb'{"execution_id": "a\u0000", "outputs": {}}'),
            api("POST", "/events", rb'{"source": "own", "key": "a\u0000"}'),
            api("POST", "/events", b'{"source": "own", "payload": {"m": ' + nested(500) + b"}}"),
            api("POST", "/events", nested(890)),
            api("POST", "/outputs", b'{"execution_id": "rcl-x", "outputs": {"m": ' + nested(500) + b"}}"),
            api("POST", "/resources/EventSource/own/suspend", rb'{"reason": "a\u0000"}'),
        ]
        assert set(asked) <= {400, 401, 404, 422}, asked
        assert api("POST", "/events", rb'{"source": "own", "payload": {"m": "a\u0000"}}') == 202
        world.wait(world.quiet, "everything was looked at")
        assert world.processes[-1].poll() is None
        assert "Traceback" not in world.log()
        assert "RC9001" not in world.log()
    finally:
        world.close()


def test_the_admin_socket_answers_whatever_it_is_told(world: StageWorld) -> None:
    world.manual()
    world.ready()

    def told(line: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(world.folder / "state" / "admin.sock"))
            sock.sendall(line + b"\n")
            return dict(orjson.loads(sock.makefile("rb").readline()))

    lines = [
        rb'{"verb": "trigger", "source": "hand", "payload": {"m": "\ud800"}}',
        rb'{"verb": "trigger", "source": "hand", "key": "a\u0000b"}',
        b'{"verb": "trigger", "source": "hand", "payload": ' + b'{"m":' * 300 + b"1" + b"}" * 301,
        b"[" * 100_000,
        b'{"verb": "events", "limit": "many"}',
        b'{"verb": "execution"}',
        b'{"verb": 5}',
        b"\xff",
    ]
    for line in lines:
        answer = told(line)
        assert (answer["ok"], bool(answer["code"])) == (False, True), line[:60]
    assert told(b'{"verb": "events"}')["ok"]
