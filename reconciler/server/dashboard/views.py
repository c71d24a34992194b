"""The pages: which facts each one shows. A view returns the name of its template and the values that it writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.engine.credentials import end_of
from reconciler.model.errors import ReconcilerError
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status_document import CredentialRow, ResourceRow, StatusDocument
from reconciler.model.times import epoch_of
from reconciler.server.dashboard.graph import graph_of
from reconciler.server.dashboard.reader import Reader
from reconciler.server.dashboard.words import READY, STATES, SUSPENDED, by_rank, state_of

PAGE_ROWS = 50
BROKEN_ROWS = 20
RECENT_ROWS = 8
QUEUE_ROWS = 200
"""Queued items among which those that wait for people are searched."""
LOG_PIECES = 20
"""Pieces of a log that are read for one page; the rest comes by the stream, or by the next page."""
LOG_LINES = 2_000
SOON_S = 30 * 86_400
_ATTENTION = frozenset({"bad", "warn"})
Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PageContent:
    """A template with its values. ``is_live``: whether the page replaces itself when something changed."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    is_live: bool = True


class NoPage(ReconcilerError):
    """There is nothing at this address."""

    code = "RC8305"


class Views:
    """One method for each page."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def overview(self, path: Query, query: Query) -> PageContent:
        """Show what is wrong, what waits for people, and what happened last."""
        document, incidents, reviews, queue, runs, events = await asyncio.gather(
            self._reader.status(),
            self._reader.incidents(),
            self._reader.reviews(),
            self._reader.ask("executions", state="queued", limit=QUEUE_ROWS),
            self._reader.ask("executions", limit=RECENT_ROWS),
            self._reader.ask("events", limit=PAGE_ROWS),
        )
        broken = [row for row in by_rank(document.resources) if state_of(row).tone in _ATTENTION]
        values = {
            "document": document,
            "counts": _counts(document.resources),
            "broken": broken[:BROKEN_ROWS],
            "broken_count": len(broken),
            "blocked": [plan for plan in document.plans if plan.blocked is not None],
            "waiting": [item for item in queue["queued"] if item["reason"] == "approval"][:BROKEN_ROWS],
            "credentials": [row for row in document.credentials if _needs_attention(row, document)],
            "executions": runs["executions"],
            "events": [event for event in events["events"] if event["source"].startswith(f"{Kind.EVENT_SOURCE}/")][:RECENT_ROWS],
            "incidents": len({incident.key for incident in incidents if incident.open}),
            "reviews": reviews,
        }
        return PageContent("overview.html", _headline(document, len(broken)), values)

    async def resources(self, path: Query, query: Query) -> PageContent:
        """List resources, the broken ones first."""
        document = await self._reader.status()
        words = {word: query.get(word, "").strip()[:200] for word in ("kind", "state", "q")}
        rows = [row for row in by_rank(document.resources) if _matches(row, words)]
        pages = max(1, -(-len(rows) // PAGE_ROWS))
        page = max(1, min(_number(query.get("page", "")), pages))
        values = {
            "rows": rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
            "total": len(rows),
            "page": page,
            "pages": pages,
            "filters": words,
            "kinds": sorted({row.kind for row in document.resources}),
            "states": [state.word for state in STATES],
        }
        return PageContent("resources.html", "Resources", values)

    async def resource(self, path: Query, query: Query) -> PageContent:
        """Show one resource: why it is as it is, what is planned, what it owns, what was done."""
        identity = ResourceId(path["kind"], path["canvas"], path["name"])
        document, journal, audit, incidents = await asyncio.gather(
            self._reader.status(),
            self._reader.journal(identity),
            self._reader.audit(limit=20, resource=identity.path),
            self._reader.incidents_of(identity),
        )
        row = next((row for row in document.resources if ResourceId(row.kind, row.canvas, row.name) == identity), None)
        if row is None and not journal and not audit:
            raise NoPage(f"there is no resource {identity}", hint="It was renamed or deleted, or it never was declared.")
        planned, total = self._reader.planned(identity)
        values = {
            "identity": identity,
            "row": row,
            "planned": planned,
            "planned_total": total,
            "facts": self._reader.behaviour(identity),
            "incidents": incidents,
            "journal": journal,
            "audit": audit,
            **await self._traffic(identity),
        }
        return PageContent("resource.html", str(identity), values)

    async def _traffic(self, identity: ResourceId) -> dict[str, Any]:
        """Return the newest events of a source, or the queue and the newest executions of a stage."""
        none: dict[str, Any] = {"events": [], "queued": [], "executions": []}
        if identity not in self._reader.current.active.resources:
            return none
        name = f"{identity.kind}/{identity.name}@{identity.canvas}"
        if identity.kind == Kind.EVENT_SOURCE.value:
            return {**none, "events": (await self._reader.ask("events", source=name, limit=RECENT_ROWS))["events"]}
        if identity.kind == Kind.STAGE.value:
            runs = await self._reader.ask("executions", stage=name, limit=RECENT_ROWS)
            return {**none, "queued": runs["queued"], "executions": runs["executions"]}
        return none

    async def graph(self, path: Query, query: Query) -> PageContent:
        """Draw what leads to what."""
        document = await self._reader.status()
        active = self._reader.current.active
        canvases = sorted({identity.canvas for identity in active.resources})
        canvas = query.get("canvas", "")
        graph = graph_of(active, document.resources, canvas=canvas if canvas in canvases else "")
        values = {"graph": graph, "rows": graph.rows[:200], "canvases": canvases, "canvas": canvas}
        return PageContent("graph.html", "Graph", values)

    async def plan(self, path: Query, query: Query) -> PageContent:
        """Show what would be changed, and what waits for an approval of its digest."""
        return PageContent("plan.html", "Plan", {"plan": self._reader.plan(_number(query.get("page", "")))})

    async def executions(self, path: Query, query: Query) -> PageContent:
        """List what waits and why, what runs, and what ended."""
        stage, state, before = (query.get(word, "")[:300] for word in ("stage", "state", "before"))
        runs, document = await asyncio.gather(
            self._reader.ask("executions", stage=stage, state=state, before=before, limit=PAGE_ROWS), self._reader.status()
        )
        values = {**runs, "stages": document.stages, "stage": stage, "state": state, "schedules": document.schedules}
        return PageContent("executions.html", "Executions", values)

    async def execution(self, path: Query, query: Query) -> PageContent:
        """Show an item with its executions."""
        detail = await self._reader.ask("execution", id=path["id"])
        runs = detail["executions"]
        newest = detail.get("execution") or (runs[-1] if runs else None)
        is_open = detail["item"]["state"] == "queued" or any(run["state"] != "finished" for run in runs)
        return PageContent("execution.html", path["id"], {**detail, "newest": newest, "is_open": is_open})

    async def log(self, path: Query, query: Query) -> PageContent:
        """Show the log of a run as far as it is there; the script goes on from its cursor."""
        cursor, lines, complete = "", [], False
        for _ in range(LOG_PIECES):
            piece = await self._reader.ask("logs", id=path["id"], cursor=cursor)
            lines += piece["lines"]
            complete = piece["complete"]
            is_end = complete or piece["cursor"] == cursor or len(lines) > LOG_LINES
            cursor = piece["cursor"]
            if is_end:
                break
        values = {"id": path["id"], "lines": lines[-LOG_LINES:], "cut": max(0, len(lines) - LOG_LINES)}
        content = {**values, "cursor": cursor, "complete": complete}
        return PageContent("log.html", f"Log of {path['id']}", content, is_live=False)

    async def events(self, path: Query, query: Query) -> PageContent:
        """List what came in, what came of it, and why not."""
        source, state, before = (query.get(word, "")[:300] for word in ("source", "state", "before"))
        answer, document = await asyncio.gather(
            self._reader.ask("events", source=source, state=state, before=before, limit=PAGE_ROWS), self._reader.status()
        )
        sources = [row for row in document.resources if row.kind == Kind.EVENT_SOURCE.value]
        values = {**answer, "sources": sources, "source": source, "state": state, "counts": document.events}
        return PageContent("events.html", "Events", values)

    async def event(self, path: Query, query: Query) -> PageContent:
        """Show an event with its payload and what it led to."""
        detail = await self._reader.ask("event", id=path["id"])
        return PageContent("event.html", f"Event {path['id']}", {"event": detail})

    async def credentials(self, path: Query, query: Query) -> PageContent:
        """Show the five answers for each credential, and what stops when."""
        document = await self._reader.status()
        rows = sorted(document.credentials, key=lambda row: (row.valid is True, row.valid is None, row.name))
        ends = sorted((row for row in rows if end_of(row.expires_at) is not None), key=lambda row: row.expires_at)
        return PageContent("credentials.html", "Credentials", {"rows": rows, "calendar": ends})

    async def notifications(self, path: Query, query: Query) -> PageContent:
        """Show what is reported, where to, and which messages wait or fail."""
        before = _number(query.get("before", ""))
        values = await self._reader.notifications(before=before, limit=PAGE_ROWS)
        return PageContent("notifications.html", "Notifications", {**values, "before": before})

    async def reviews(self, path: Query, query: Query) -> PageContent:
        """List the reviews of open pull requests."""
        rows = await self._reader.reviews()
        return PageContent("reviews.html", "Reviews", {"rows": rows, "is_on": self._reader.has_reviews})

    async def audit(self, path: Query, query: Query) -> PageContent:
        """Show who or what changed something, newest first."""
        before = _number(query.get("before", ""))
        rows = await self._reader.audit(limit=PAGE_ROWS + 1, before=before)
        following = rows[PAGE_ROWS - 1]["seq"] if len(rows) > PAGE_ROWS else 0
        return PageContent("audit.html", "Audit", {"rows": rows[:PAGE_ROWS], "next": following, "before": before})


def _headline(document: StatusDocument, broken: int) -> str:
    if document.source.error is not None:
        return "The source cannot be read"
    total = len(document.resources)
    if not total:
        return "No manifests yet"
    if broken:
        return f"{broken} of {total:,} resources {'needs' if broken == 1 else 'need'} attention"
    waits = sum(1 for row in document.resources if state_of(row) not in (READY, SUSPENDED))
    return f"{waits} of {total:,} resources in progress" if waits else f"All {total:,} resources are ready"


def _counts(rows: Sequence[ResourceRow]) -> list[tuple[Any, int]]:
    """Return the states that occur with their numbers, the worst first."""
    return sorted(Counter(map(state_of, rows)).items())


def _matches(row: ResourceRow, words: Mapping[str, str]) -> bool:
    text = f"{row.kind}/{row.name}@{row.canvas} {row.file}".lower()
    return words["kind"] in ("", row.kind) and words["state"] in ("", state_of(row).word) and words["q"].lower() in text


def _needs_attention(row: CredentialRow, document: StatusDocument) -> bool:
    end = end_of(row.expires_at)
    now = epoch_of(document.daemon.heartbeat_at)
    return row.valid is False or bool(row.missing) or (end is not None and end - now < SOON_S)


def _number(text: str) -> int:
    """Return a number from a query, 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 else 0


__all__ = ["NoPage", "PageContent", "Views"]
