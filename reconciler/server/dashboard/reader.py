"""What pages show: the answers of the API's read operations, the status document, and the logs of changes; everything redacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from reconciler.credentials.redact import Redactor
from reconciler.engine.current import Current
from reconciler.engine.plan_document import behaviour_of
from reconciler.model.incidents import Incident
from reconciler.model.records import AuditEntry, JournalEntry
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status_document import StatusDocument
from reconciler.model.times import iso
from reconciler.planning.behaviour import Fact
from reconciler.server.api.handlers import Backend
from reconciler.server.api.operations import HTTP_OPERATIONS
from reconciler.server.dashboard.notices import incident_rows, involving, message_row, sink_rows, waiting_rows
from reconciler.server.dashboard.plans import PlanInputs, PlanPage, ShownEntry, entries_of, plan_page
from reconciler.server.dashboard.review_rows import review_row

JOURNAL_ROWS = 40
_NAMES = {"cls": "class", "address": "object", "external_id": "id", "duration_ms": "ms"}
INCIDENTS = 200
MICROSECONDS = 1_000_000
REVIEWS = 100
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
        return _folded([self._redactor.redact_fields(_journal_row(entry)) for entry in entries])

    async def audit(self, *, limit: int, resource: str | None = None, before: int = 0) -> list[dict[str, Any]]:
        """Return rows of the audit log, newest first."""
        rows = await self.current.context.store.audit_tail(limit, resource=resource, before=before)
        return [self._redactor.redact_fields(_audit_row(number, entry)) for number, entry in rows]

    def plan(self, number: int) -> PlanPage:
        """Return a page of the newest plans of all integrations, with old and new values; secrets are not among them."""
        return plan_page(self._plan_inputs(), number, self._redactor.redact)

    def planned(self, resource: ResourceId) -> tuple[tuple[ShownEntry, ...], int]:
        """Return what is planned for one resource, and how many entries there are."""
        return entries_of(resource, self._plan_inputs(), self._redactor.redact)

    def behaviour(self, resource: ResourceId) -> list[Fact]:
        """Return what a resource does: what runs, when, and on whose behalf."""
        facts = behaviour_of(resource, self.current.active.resources, now=self.current.context.clock())
        return [Fact(fact.name, self._redactor.redact(fact.text)) for fact in facts]

    async def incidents(self) -> list[Incident]:
        """Return the incidents that last, the gravest first."""
        return await self.current.context.store.open_incidents(INCIDENTS)

    async def notifications(self, *, before: int, limit: int) -> dict[str, Any]:
        """Return incidents, sinks, the messages that wait, and those that were done ``before`` (microseconds; 0: the newest)."""
        store, resources = self.current.context.store, self.current.active.resources
        incidents = await store.open_incidents(INCIDENTS)
        records, counts = await store.sink_records(), await store.waiting_notices()
        waiting = await store.waiting_messages(limit)
        done = await store.done_messages(limit + 1, before=before / MICROSECONDS)
        suspended = {
            identity.path: reason
            for identity, resource in resources.items()
            if identity.kind == Kind.NOTIFICATION.value and (reason := self.current.suspended(resource))
        }
        sinks = sink_rows(resources, records, counts, suspended)
        places = {row["path"]: f"{row['sink']} {row['place']}" for row in sinks}
        return self._redactor.redact_fields(
            {
                "incidents": incident_rows(incidents),
                "sinks": sinks,
                "waiting": waiting_rows(waiting, places, suspended),
                "waiting_total": sum(each.count for each in counts.values()),
                "messages": [message_row(row, places, suspended) for row in done[:limit]],
                "next": int(done[limit - 1].done_at * MICROSECONDS) if len(done) > limit else 0,
            }
        )

    async def incidents_of(self, resource: ResourceId) -> list[dict[str, Any]]:
        """Return the open incidents that a resource is part of, or that a Notification reports."""
        rows = incident_rows(involving(await self.incidents(), resource.path))
        return [self._redactor.redact_fields(row) for row in rows]

    async def reviews(self) -> list[dict[str, Any]]:
        """Return the reviews of open pull requests, newest first."""
        return [self._redactor.redact_fields(review_row(row)) for row in await self.current.context.store.newest_reviews(REVIEWS)]

    @property
    def has_reviews(self) -> bool:
        """Whether pull requests are reviewed."""
        return bool(self.current.context.config.review.integration)

    def _plan_inputs(self) -> PlanInputs:
        current = self.current
        return PlanInputs(current.active, current.former, dict(current.view.results), current.context.clock())


def _folded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for equal entries in a row, newest first, with the number of them and the time of the oldest."""
    folded: list[dict[str, Any]] = []
    for row in rows:
        newer = folded[-1] if folded else None
        if newer is not None and all(newer[name] == row[name] for name in ("event", "revision", "detail")):
            newer["times"] += 1
            newer["since"] = row["at"]
        else:
            folded.append({**row, "times": 1, "since": row["at"]})
    return folded


def _journal_row(entry: JournalEntry) -> dict[str, Any]:
    """Return an entry without what its page says already: the resource, the digest of the plan, the ordinary disposition."""
    detail = {
        _NAMES.get(name, name): value
        for name, value in entry.detail.items()
        if value not in ("", None, [], ()) and name != "plan" and (name, value) != ("disposition", "execute")
    }
    if "object" in detail:
        detail["object"] = str(detail["object"]).partition("#")[2] or detail["object"]
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
        "object": entry.address or entry.resource or entry.integration,
        "resource": entry.resource or entry.integration,
        "revision": entry.revision,
        "detail": {name: value for name, value in entry.detail.items() if value not in ("", None, [], ())},
    }
