"""When a revision counts as applied: not before every integration was reconciled with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.engine.apply import Report
from reconciler.engine.controller import Controller
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.errors import ReconcilerError
from reconciler.model.resources import ResourceId

A, B = (ResourceId("Integration", "default", name) for name in "ab")
OLD, NEW = "main@sha1:" + "1" * 40, "main@sha1:" + "2" * 40


def result(integration: ResourceId, revision: str = NEW, **more: Any) -> ReconcileResult:
    return ReconcileResult(integration, revision=revision, **more)


async def nothing(*_: object, **__: object) -> None:
    """Stand in for a part of a pass that does not matter here."""


def applied(known: Iterable[ResourceId], *results: ReconcileResult, holder: str = "") -> str:
    """Return the applied revision after a pass with ``results``; before it was `OLD`."""
    written: dict[str, str] = {}

    async def set_meta(key: str, value: str) -> None:
        written[key] = value

    async def integrations() -> tuple[ResourceId, ...]:
        return tuple(known)

    source = SimpleNamespace(applied=OLD)
    engine: Any = Controller.__new__(Controller)
    engine.holder, engine.on_change, engine._read_only, engine.seen_by_peers = holder, None, False, set()
    engine.current = SimpleNamespace(
        view=SimpleNamespace(results={each.integration: each for each in results}),
        active=SimpleNamespace(revision=NEW, resources={A: object()}),
        source=source,
    )
    engine.deps = SimpleNamespace(store=SimpleNamespace(set_meta=set_meta))
    engine._statuses = SimpleNamespace(check_secrets=nothing, compute=nothing, save=nothing)
    engine.integrations, engine.refresh_outside, engine._catch_up = integrations, nothing, nothing
    asyncio.run(engine.finish_pass())
    assert written == ({} if source.applied == OLD else {"revision.applied": NEW})
    return str(source.applied)


@pytest.mark.parametrize(
    ("revision", "after"),
    [
        (OLD, applied((A,))),  # the first pass has not come to it
        (OLD, applied((A, B), result(A))),
        (OLD, applied((A, B), result(A), result(B, OLD))),  # still the result of the former revision
        (OLD, applied((A,), result(A, error=ReconcilerError("no connection", code="RC5019")))),
        (OLD, applied((A,), result(A, report=Report(interrupted=True)))),
        (OLD, applied((A, B), holder="one")),
        (OLD, applied((A, B), result(A, OLD), holder="one")),
        (NEW, applied((A, B), result(A), result(B))),
        (NEW, applied((A, B), result(A), holder="one")),  # a peer has the result of the other
        (NEW, applied(())),  # nothing but stages
    ],
)
def test_a_revision_is_applied_when_every_integration_was_reconciled_with_it(revision: str, after: str) -> None:
    assert after == revision
