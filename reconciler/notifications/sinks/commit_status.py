"""The state of a revision on its commit, through the code host of an Integration: pending, then success or failure.

A status with one context replaces the former one, so it can be written again at any time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.drivers.base import Reporter
from reconciler.drivers.connection import Api
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import ReportKind, StatusReport
from reconciler.model.incidents import NoticePhase, shown
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import Target

DESCRIPTION = 140
_COMMIT = re.compile(r"@sha(?:1:([0-9a-f]{40})|256:([0-9a-f]{64}))\Z")
_PATH = re.compile(r"(?:^[a-z+]+://[^/]+/|^[^/@]+@[^/:]+:)(.+?)(?:\.git)?/?\Z")


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """Implements `Sink`. ``repository``: ``owner/name`` of the manifests."""

    reporter: Reporter
    api: Api
    repository: str
    context: str
    name: str
    phases = frozenset({NoticePhase.START, NoticePhase.UPDATE, NoticePhase.TEST})
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        if message.phase is NoticePhase.TEST:
            raise ReconcilerError(
                f"{self.name} has no test message: it would be read as the result of a sync",
                code="RC8108",
                hint=f"The next commit gets its status; see `reconciler status {shown(message.incident.notification)}`.",
            )
        incident = message.incident
        marker = incident.id[-12:]
        text = f"{message.headline}"
        room = DESCRIPTION - len(marker) - 3
        text = text if len(text) <= room else text[: room - 1] + "…"
        report = StatusReport(
            kind=ReportKind.COMMIT,
            repository=self.repository,
            target=commit_of(incident.message),
            state=incident.reason,
            description=f"{text} ({marker})",
            marker=marker,
            context=self.context,
        )
        await self.reporter.report(self.api, report)
        return {}


def commit_of(revision: str) -> str:
    """Return the commit of a revision; empty for a folder."""
    match = _COMMIT.search(revision) if not revision.startswith("dir@") else None
    return (match[1] or match[2]) if match is not None else ""


def repository_of(url: str) -> str:
    """Return ``owner/name`` of the source's URL. Raises `ReconcilerError` for a local folder."""
    match = _PATH.search(url)
    parts = match[1].split("/") if match is not None else []
    if len(parts) < 2 or url.startswith("file:"):
        raise ReconcilerError(
            "the source of the manifests is not a repository at a code host",
            code="RC8106",
            hint="This sink needs `source.url` to be the URL of a repository.",
        )
    return "/".join(parts)


__all__ = ["CommitStatus", "commit_of", "repository_of"]
