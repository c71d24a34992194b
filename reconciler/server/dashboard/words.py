"""How values are written on a page: states with their tone, ages, short revisions, links that cannot run anything. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from reconciler.model.printable import plain, plain_lines
from reconciler.model.resources import ResourceId
from reconciler.model.status import ConditionStatus, ConditionType
from reconciler.model.status_document import ConditionRow, ResourceRow
from reconciler.model.times import epoch_of

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
MAX_TEXT = 20_000
"""Characters of one foreign text on a page."""


@dataclass(frozen=True, slots=True, order=True)
class State:
    """What a state is called, and how it looks. ``rank``: the worst is 0 and comes first. ``tone``: class of the style sheet."""

    rank: int
    word: str
    tone: str


STALLED = State(0, "stalled", "bad")
BLOCKED = State(1, "blocked", "bad")
DRIFTED = State(2, "drifted", "warn")
NOT_READY = State(3, "not ready", "warn")
DELETING = State(4, "deleting", "busy")
UNKNOWN = State(5, "unknown", "idle")
PROGRESSING = State(6, "progressing", "busy")
SUSPENDED = State(7, "suspended", "idle")
READY = State(8, "ready", "good")
STATES = (STALLED, BLOCKED, DRIFTED, NOT_READY, DELETING, UNKNOWN, PROGRESSING, SUSPENDED, READY)
_BY_CONDITION = (
    (ConditionType.STALLED, STALLED),
    (ConditionType.PLAN_BLOCKED, BLOCKED),
    (ConditionType.SUSPENDED, SUSPENDED),
    (ConditionType.DRIFTED, DRIFTED),
    (ConditionType.RECONCILING, PROGRESSING),
)
_TONES = {
    **dict.fromkeys(("failed", "quarantined", "error", "no"), "bad"),
    **dict.fromkeys(("rejected", "cancelled", "blocked", "over"), "warn"),
    **dict.fromkeys(("running", "starting", "pending", "queued", "cancelling"), "busy"),
    **dict.fromkeys(("passed", "processed", "done", "yes", "written", "settled"), "good"),
}
_STEPS = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"), (1, "s"))


def state_of(row: ResourceRow) -> State:
    """Return the state of a resource: the worst of its conditions."""
    present = {condition.type for condition in row.conditions}
    state = next((state for kind, state in _BY_CONDITION if kind.value in present), None)
    if state is not None:
        return state
    if row.deleting:
        return DELETING
    if row.ready.status == ConditionStatus.TRUE.value:
        return READY
    return NOT_READY if row.ready.status == ConditionStatus.FALSE.value else UNKNOWN


def cause_of(row: ResourceRow) -> ConditionRow:
    """Return the condition that explains the state best: the first exception, else Ready."""
    for kind, _ in _BY_CONDITION:
        for condition in row.conditions:
            if condition.type == kind.value and condition.message:
                return condition
    return row.ready


def tone(word: str) -> str:
    """Return the tone of the state of an event, an item or an execution."""
    return _TONES.get(word, "idle")


def identity(text: str) -> ResourceId | None:
    """Return the resource that ``kind/canvas/name`` or ``KIND/NAME[@CANVAS]`` names; None for another text."""
    parts = text.split("/")
    if len(parts) == 3:
        return ResourceId(*parts)
    if len(parts) != 2:
        return None
    name, _, canvas = parts[1].partition("@")
    return ResourceId(parts[0], canvas or "default", name)


def name_of(text: str) -> str:
    """Return ``KIND/NAME[@CANVAS]``; a text of another form stays the same."""
    known = identity(text)
    return str(known) if known is not None else text


def place_of(resource: ResourceId) -> str:
    """Return the path of a resource's page."""
    return "/resources/" + "/".join(quote(part, safe="") for part in (resource.kind, resource.canvas, resource.name))


def event_place(event_id: str) -> str:
    """Return the path of an event's page; an id may contain anything."""
    return "/events/" + quote(event_id, safe="")


def short(revision: str) -> str:
    """Return ``main@01234567`` for ``main@sha1:0123…``, and eight characters of ``sha256:…``; another text stays the same."""
    source, separator, digest = revision.partition(":")
    if not separator or len(digest) < 12:
        return revision
    branch = source.rpartition("@")[0]
    return f"{branch}@{digest[:8]}" if branch else f"{source}:{digest[:8]}"


def age(text: str, now: float) -> str:
    """Return how long ago (or until when) the RFC 3339 time ``text`` is, in the largest unit: ``3m ago``, ``in 2h``."""
    try:
        seconds = now - epoch_of(text)
    except ValueError:
        return text
    length = abs(seconds)
    if length < 1:
        return "now"
    size, unit = next((step for step in _STEPS if length >= step[0]), _STEPS[-1])
    return f"{int(length // size)}{unit} ago" if seconds > 0 else f"in {int(length // size)}{unit}"


def took(begin: str, end: str) -> str:
    """Return the time between two RFC 3339 times; empty if one is missing."""
    try:
        seconds = int(epoch_of(end) - epoch_of(begin))
    except ValueError:
        return ""
    if seconds < _MINUTE:
        return f"{max(0, seconds)}s"
    return (
        f"{seconds // _MINUTE}m {seconds % _MINUTE}s" if seconds < _HOUR else f"{seconds // _HOUR}h {seconds % _HOUR // _MINUTE}m"
    )


def safe_url(url: str) -> str:
    """Return ``url`` if it is a web address, else an empty text: a link must not run a script, nor show another name than it leads to."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in {"http", "https"} and parts.netloc and "@" not in parts.netloc and url.isprintable() else ""


def shown(value: object) -> str:
    """Return a foreign value as one line, with everything invisible escaped; not a text: as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return plain(_cut(text))


def block(value: object) -> str:
    """Return a foreign value as lines, with everything invisible escaped; not a text: as indented JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return plain_lines(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT} more characters)"


def counted(number: int, word: str) -> str:
    """Return ``1 change``, ``2 changes``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def by_rank(rows: Sequence[ResourceRow]) -> list[ResourceRow]:
    """Return resources with the broken ones first, then by name."""
    return sorted(rows, key=lambda row: (state_of(row).rank, row.kind, row.canvas, row.name))
