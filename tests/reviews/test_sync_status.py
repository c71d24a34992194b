"""The commit status of a revision, for everything that may become of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.model.errors import Problem, ReconcilerError
from reconciler.model.resources import Location, ResourceId
from reconciler.model.status import ConditionType
from reconciler.reviews.sync_status import SyncState, SyncStatus

OLD, NEW = "main@sha1:" + "1" * 40, "main@sha1:" + "2" * 40
ERROR = ReconcilerError("@all the signature is missing", code="RC2001")
PROBLEM = Problem(Location("a.yaml", 1), "RC1101", "wrong")


def row(name: str, *conditions: ConditionType) -> tuple[ResourceId, Any]:
    known = {condition: object() for condition in conditions}
    return ResourceId("Stage", "default", name), SimpleNamespace(ready=not conditions, condition=known.get)


def computed(*rows: tuple[ResourceId, Any], fetched: str = NEW, active: str = NEW, applied: str = NEW, **more: Any) -> SyncState:
    source = SimpleNamespace(
        fetched=SimpleNamespace(id=fetched, commit=fetched.partition(":")[2]), error=more.get("error"), applied=applied
    )
    revision = SimpleNamespace(
        revision=active, empty=False, problems=more.get("problems", ()), resources={identity: object() for identity, _ in rows}
    )
    current = SimpleNamespace(source=source, active=revision, view=SimpleNamespace(statuses=dict(rows)))
    state = SyncStatus(current).compute()  # type: ignore[arg-type]
    assert state is not None
    assert state.commit == fetched.partition(":")[2]
    return state


@pytest.mark.parametrize(
    ("state", "description", "status"),
    [
        ("success", "applied: 1 of 1 resources ready", computed(row("a"))),
        ("success", "applied: 1 of 1 resources ready", computed(row("a"), error=ERROR)),  # a later fetch failed
        ("failure", "refused: @all the signature is missing", computed(row("a"), active=OLD, error=ERROR)),
        ("pending", "reading the manifests", computed(row("a"), active=OLD)),
        ("pending", "1 of 1 resources ready", computed(row("a"), applied=OLD)),
        ("failure", "1 error in the manifests; 1 of 1 resources ready", computed(row("a"), problems=(PROBLEM,))),
        ("failure", "1 stalled; 1 of 2 resources ready", computed(row("a"), row("b", ConditionType.STALLED))),
        (
            "pending",
            "1 blocked: an approval is needed; 1 of 2 resources ready",
            computed(row("a"), row("b", ConditionType.PLAN_BLOCKED)),
        ),
        ("failure", "1 stalled; 0 of 2 resources ready", computed(row("a", ConditionType.STALLED), row("b", ConditionType.PLAN_BLOCKED))),
    ],
)  # fmt: skip
def test_each_revision_has_the_state_of_what_became_of_it(state: str, description: str, status: SyncState) -> None:
    assert (status.state, status.description) == (state, description)


class Remote:
    """A target and a store that several processes share."""

    dialect = "postgresql"

    def __init__(self) -> None:
        self.cursor: Any = None
        self.sent: list[tuple[str, str, str]] = []
        self.now = 100.0
        self.target: Any = SimpleNamespace(repository="acme/a", pulls=SimpleNamespace(status=self.status))

    async def status(self, api: object, state: Any) -> None:
        self.sent.append((state.head[:1], state.state, state.description))

    async def get_cursor(self, key: str) -> Any:
        return self.cursor

    async def set_cursors(self, values: dict[str, Any]) -> None:
        self.cursor = dict(next(iter(values.values())))

    def process(self) -> Process:
        return Process(self)


class Process:
    """One of them, with what it knows."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.source = SimpleNamespace(fetched=None, fetched_at=0.0, error=None, applied="")
        self.active = SimpleNamespace(revision="", empty=False, problems=(), resources={})
        self.view = SimpleNamespace(statuses={})
        config = SimpleNamespace(server=SimpleNamespace(public_url=""))
        context = SimpleNamespace(
            store=remote, clock=lambda: remote.now, config=config, redactor=SimpleNamespace(redact=lambda text: text)
        )
        self._sync = SyncStatus(
            SimpleNamespace(source=self.source, active=self.active, view=self.view, context=context)  # type: ignore[arg-type]
        )

    def knows(self, *rows: tuple[ResourceId, Any], fetched: str = NEW, applied: str = NEW) -> Process:
        self.source.fetched, self.source.fetched_at = (
            SimpleNamespace(id=fetched, commit=fetched.partition(":")[2]),
            self._remote.now,
        )
        self.source.applied, self.active.revision = applied, fetched
        self.active.resources, self.view.statuses = {identity: object() for identity, _ in rows}, dict(rows)
        return self

    async def turn(self) -> None:
        self._remote.now += 1
        if await self._sync.pending():
            await self._sync.write(self._remote.target, None)  # type: ignore[arg-type]


async def test_a_process_that_is_behind_takes_back_nothing_of_its_peer() -> None:
    remote = Remote()
    ahead, behind = remote.process(), remote.process()
    behind.knows(row("a"), fetched=OLD, applied=OLD)
    await behind.turn()
    await ahead.knows(row("a"), applied=OLD).turn()
    await behind.turn()
    await ahead.knows(row("a")).turn()
    assert remote.sent == [
        ("1", "success", "applied: 1 of 1 resources ready"),
        ("2", "pending", "1 of 1 resources ready"),
        ("2", "success", "applied: 1 of 1 resources ready"),
    ]
    await behind.turn()
    await behind.knows(row("a"), applied=OLD).turn()
    await behind.knows(row("a")).turn()
    assert len(remote.sent) == 3
    await behind.knows(row("a", ConditionType.PLAN_BLOCKED)).turn()
    assert remote.sent[3:] == [("2", "pending", "1 blocked: an approval is needed; 0 of 1 resources ready")]


async def test_peers_that_see_different_things_do_not_take_turns() -> None:
    remote = Remote()
    first, second = remote.process().knows(row("a"), row("b")), remote.process().knows(row("a"), row("b", ConditionType.STALLED))
    for _ in range(4):
        await first.turn()
        await second.turn()
    assert [state for _, state, _ in remote.sent] == ["success", "failure"]
    await second.knows(row("a"), row("b")).turn()
    assert [state for _, state, _ in remote.sent] == ["success", "failure", "success"]


async def test_a_revision_that_is_pushed_again_is_written_again() -> None:
    remote = Remote()
    process = remote.process()
    for fetched in (OLD, NEW, OLD):
        await process.knows(row("a"), fetched=fetched, applied=fetched).turn()
    assert [commit for commit, _, _ in remote.sent] == ["1", "2", "1"]
