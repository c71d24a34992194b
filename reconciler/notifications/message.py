"""A message about an incident in plain text, the same for all sinks. Pure.

Every text in it may come from outside: each sink escapes it for its own format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.model.incidents import TEXT, Incident, IncidentSeverity, Notice, NoticePhase, Topic, shown
from reconciler.model.printable import plain
from reconciler.model.resources import ResourceId
from reconciler.model.times import iso

INSTANT = frozenset({Topic.REPAIRED, Topic.STAGE_FINISHED})
"""Topics whose incidents end as they start: their first message is the only one that people read."""
_URL = re.compile(r"https?://[!#-;=?-~]{1,2000}")
"""What every sink takes as a link: no blank, no quote, no angle bracket."""
_RELEASED = "Not reported here any more: "
_PREFIX = {NoticePhase.END: "Over: ", NoticePhase.FLAPPING: "Flapping: ", NoticePhase.TEST: "Test: "}


@dataclass(frozen=True, slots=True)
class Message:
    """What to say. ``lines``: (label, value)."""

    phase: NoticePhase
    incident: Incident
    headline: str
    lines: tuple[tuple[str, str], ...]
    text: str
    url: str
    id: str
    """Equal for every attempt to send this message, and for no other message."""
    refresh: bool = False
    attempted_at: float = 0.0
    """When an earlier attempt may have sent it; 0 if none did."""

    @property
    def severity(self) -> IncidentSeverity:
        """How grave the incident is."""
        return self.incident.severity

    @property
    def instant(self) -> bool:
        """Whether the incident ended as it started."""
        return self.incident.topic in INSTANT

    @property
    def plain_text(self) -> str:
        """The whole message as lines."""
        parts = [
            self.headline,
            "",
            *([self.text, ""] if self.text else []),
            *(f"{label}: {value}" for label, value in self.lines),
        ]
        return "\n".join([*parts, *([self.url] if self.url else [])])


def message_of(notice: Notice) -> Message:
    """Return the message of a row of the outbox."""
    incident, phase = notice.incident, notice.phase
    headline = _PREFIX.get(phase, "") + incident.title
    text = incident.message
    if phase is NoticePhase.RELEASE:  # sinks know it as an end
        phase = NoticePhase.END
        headline = (_RELEASED if incident.released else _PREFIX[phase]) + incident.title
        text = f"It may last, but is not reported here any more: {incident.released}. {text}" if incident.released else text
    if phase is NoticePhase.FLAPPING:
        text = f"It started and ended several times within ten minutes. Further changes are reported when it is stable. {text}"
    version = f".{notice.version}" if phase is NoticePhase.UPDATE else ""
    return Message(
        phase=phase,
        incident=incident,
        headline=plain(headline),
        lines=tuple((label, plain(value)) for label, value in _lines(incident, phase)),
        text=plain(text)[: TEXT + 200],
        url=incident.url if _URL.fullmatch(incident.url) else "",
        id=f"{incident.id}.{notice.phase.value}.{notice.seq}{version}",
        refresh=notice.refresh,
        attempted_at=notice.attempted_at,
    )


def _lines(incident: Incident, phase: NoticePhase) -> list[tuple[str, str]]:
    lines = [("Severity", incident.severity.value), ("Topic", incident.topic.value)]
    if incident.members:
        names = ", ".join(shown(path) for path in incident.members)
        more = incident.count - len(incident.members)
        lines.append(("Resources" if incident.count > 1 else "Resource", names + (f" and {more} more" if more > 0 else "")))
    if incident.reason and incident.reason != incident.topic.value:
        lines.append(("Reason", incident.reason))
    lines.append(("Since" if phase is not NoticePhase.END else "From", iso(incident.opened_at)))
    if phase is NoticePhase.END and incident.closed_at:
        lines.append(("To", iso(incident.closed_at)))
    return lines


def test_notice(notification: ResourceId, by: str, now: float) -> Notice:
    """Return a test message of a Notification, requested by ``by``."""
    incident = Incident(
        id=f"test-{notification.uid('test')[:12]}-{int(now * 1000)}",
        notification=notification.path,
        key="test",
        topic=Topic.SYNC_FAILED,
        severity=IncidentSeverity.INFO,
        title=f"{notification} reaches you",
        reason="Test",
        message=f"Requested by {by}. Nothing happened.",
        count=0,
        opened_at=now,
        closed_at=now,
        changed_at=now,
    )
    return Notice(0, NoticePhase.TEST, incident)


__all__ = ["INSTANT", "Message", "message_of", "test_notice"]
