"""What pages show: the answers of the API's read operations, the status document, and the logs of changes; everything redacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from reconciler.credentials.redact import Redactor
from reconciler.engine.current import Current
from reconciler.model.plan import Disposition, Plan
from reconciler.model.records import AuditEntry, JournalEntry
from reconciler.model.resources import ResourceId
from reconciler.model.status_document import StatusDocument
from reconciler.model.times import iso
from reconciler.planning.render.json_document import change_document
from reconciler.server.api.handlers import Backend
from reconciler.server.api.operations import HTTP_OPERATIONS

JOURNAL_ROWS = 40
PLAN_ROWS = 200
"""Changes of one integration on the page, the blocked ones first."""
_READS = {operation.name: operation for operation in HTTP_OPERATIONS if operation.method == "GET"}
_decode = msgspec.json.Decoder(StatusDocument).decode


class Reader:
    """Reads for one request after another; it keeps nothing."""

    def __init__(self, backend: Backend, current: Current, redactor: Redactor) -> None:
        self._backend = backend
        self.current = current
        self._redactor = redactor

    async def ask(self, operation: str, **values: object) -> dict[str, Any]:
        """Return the answer of a read operation of the API. Raises what its handler raises."""
        answer = await _READS[operation].handler(self._backend, values, "")
        if not isinstance(answer, Mapping):
            raise TypeError(f"{operation} answers with bytes")
        return self._redactor.redact_fields(answer)

    async def status(self) -> StatusDocument:
        """Return the status document, which is redacted already."""
        return _decode(await self._backend.status.document())

    async def journal(self, resource: ResourceId) -> list[dict[str, Any]]:
        """Return the newest journal entries of a resource, newest first."""
        entries = await self.current.context.store.journal_of(resource, JOURNAL_ROWS)
        return [self._redactor.redact_fields(_journal_row(entry)) for entry in entries]

    async def audit(self, *, limit: int, resource: str | None = None, before: int = 0) -> list[dict[str, Any]]:
        """Return rows of the audit log, newest first."""
        rows = await self.current.context.store.audit_tail(limit, resource=resource, before=before)
        return [self._redactor.redact_fields(_audit_row(number, entry)) for number, entry in rows]

    def plans(self) -> list[dict[str, Any]]:
        """Return the newest plan of each integration that has a change, with old and new values; secrets are not among them."""
        results = self.current.view.results
        plans = [plan for key in sorted(results) if (plan := results[key].plan) is not None and plan.changes]
        return [self._redactor.redact_fields(_plan_row(plan)) for plan in plans]

    def changes_of(self, resource: ResourceId) -> list[dict[str, Any]]:
        """Return the planned changes of one resource."""
        results = self.current.view.results.values()
        changes = [c for r in results if r.plan is not None for c in r.plan.changes if c.resource == resource]
        return [self._redactor.redact_fields(_as_dict(change_document(change))) for change in changes]


def _plan_row(plan: Plan) -> dict[str, Any]:
    changes = sorted(plan.changes, key=lambda change: change.disposition is not Disposition.BLOCKED)
    return {
        "integration": plan.integration.path,
        "sha256": plan.sha256,
        "blocked": plan.blocked_sha256 or "",
        "blocked_total": len(plan.blocked),
        "notes": list(plan.notes),
        "total": len(plan.changes),
        "more": max(0, len(plan.changes) - PLAN_ROWS),
        "changes": [change_document(change) for change in changes[:PLAN_ROWS]],
    }


def _as_dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a change is a mapping")
    return value


def _journal_row(entry: JournalEntry) -> dict[str, Any]:
    detail = {name: value for name, value in entry.detail.items() if value not in ("", None, [], ())}
    if entry.event == "next_try" and isinstance(detail.get("at"), int | float):
        detail = {"at": iso(float(str(detail["at"])))}
    return {"at": iso(entry.at), "event": entry.event, "revision": entry.revision, "detail": detail}


def _audit_row(number: int, entry: AuditEntry) -> dict[str, Any]:
    return {
        "seq": number,
        "at": iso(entry.at),
        "actor": entry.actor,
        "verb": entry.verb,
        "outcome": entry.outcome,
        "object": entry.address or entry.resource,
        "resource": entry.resource,
        "revision": entry.revision,
        "detail": {name: value for name, value in entry.detail.items() if value not in ("", None, [], ())},
    }
