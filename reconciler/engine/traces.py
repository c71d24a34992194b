"""Spans of reconciliations: one for each of an integration, with its plan and its apply below."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol

from reconciler.engine.connections import ClientPool
from reconciler.engine.context import Context
from reconciler.engine.reconcile import ReconcileContext, ReconcileRequest, ReconcileResult, execute, prepare
from reconciler.model.errors import ReconcilerError
from reconciler.model.plan import Plan
from reconciler.model.resources import ResourceId
from reconciler.model.traces import Attribute, AttributeValue
from reconciler.tracing import LiveSpan, error_word, span

P = ParamSpec("P")


class _HasContext(Protocol):
    deps: Context


_Work = Callable[Concatenate[Any, ResourceId, P], Awaitable[ReconcileResult]]


def traced_reconcile(work: _Work[P]) -> _Work[P]:
    """Record each call of a method that reconciles the integration that it is given."""

    @functools.wraps(work)
    async def call(self: _HasContext, integration: ResourceId, /, *args: P.args, **kwargs: P.kwargs) -> ReconcileResult:
        tracer = self.deps.tracer
        if not tracer.on:
            return await work(self, integration, *args, **kwargs)
        names: dict[str, AttributeValue] = {Attribute.INTEGRATION: integration.name, Attribute.CANVAS: integration.canvas}
        with span(tracer, f"reconcile {integration.name}", names) as live:
            result = await work(self, integration, *args, **kwargs)
            _tell(live, result.plan, result.error)
            live.attributes[Attribute.REVISION] = result.revision
            if result.error is None and result.report.failed:
                live.error = "change-failed"
            return result

    return call


async def traced_slice(order: ReconcileRequest, setting: ReconcileContext, links: ClientPool, deps: Context) -> ReconcileResult:
    """Reconcile one integration. Errors of the provider or the repository are in the result, never raised."""
    with span(deps.tracer, "plan", {}) as live:
        prepared = await prepare(order, setting, links, deps)
        _tell(live, prepared.plan, prepared.error)
    with span(deps.tracer, "apply", {}) as live:
        result = await execute(prepared, deps)
        failed = len(result.report.failed)
        live.attributes |= {Attribute.CHANGES: len(result.report.steps), Attribute.OUTCOME: "failed" if failed else "done"}
        live.attributes |= _digest(result.plan)
        if failed:
            live.error = "change-failed"
    return result


def _tell(live: LiveSpan, plan: Plan | None, error: ReconcilerError | None) -> None:
    live.attributes |= _digest(plan)
    if plan is not None:
        live.attributes[Attribute.CHANGES] = len(plan.changes)
    if error is not None:
        live.error = error_word(error)


def _digest(plan: Plan | None) -> dict[str, AttributeValue]:
    return {Attribute.DIGEST: plan.sha256} if plan is not None else {}


__all__ = ["traced_reconcile", "traced_slice"]
