"""Summary of an event for people: sender, author of the commit, first line of the message. Pure.

All texts are untrusted, short, and one line. Approvers see them; no decision depends on them.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, urlsplit

from reconciler.drivers.capabilities import Path
from reconciler.drivers.specs import SPECS, spec_of
from reconciler.model.json import Json
from reconciler.model.values import JsonObject
from reconciler.stages.provenance import text_at

MAX_SHOWN = 200
_MESSAGES = tuple(path for spec in SPECS.values() for path in spec.payload.message)
_AUTHORS = tuple(path for spec in SPECS.values() for path in spec.payload.author)
_SENDERS = tuple(path for spec in SPECS.values() for path in spec.payload.sender)


def summary_of(source: str, event_type: str, payload: Json, origin: JsonObject, *, web: str = "", by: str = "") -> dict[str, str]:
    """Return the known ones of ``source``, ``type``, ``sender``, ``author``, ``message`` and ``url`` of an event from outside.

    ``origin``: the result of `origin_of`. ``web``: the URL of the Integration at its provider, from which links are built; links
    in a payload are not used. ``by``: the person who triggered the event.
    """
    summary = {
        "source": source,
        "type": one_line(event_type),
        "sender": one_line(by) or _first(payload, _SENDERS),
        "author": _first(payload, _AUTHORS),
        "message": _first(payload, _MESSAGES),
        "url": commit_url(web, origin),
    }
    return {name: value for name, value in summary.items() if value}


def commit_url(web: str, origin: JsonObject) -> str:
    """Return the URL of the commit's page; empty without a commit, a repository, or a provider with such pages."""
    try:
        parts = urlsplit(web)
    except ValueError:
        return ""
    page = spec_of(text_at(origin, ("provider",))).commit_page
    repository, sha = text_at(origin, ("repository",)), text_at(origin, ("sha",))
    if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc or not (page and repository and sha):
        return ""
    return f"{parts.scheme}://{parts.netloc}{page.format(repository=quote(repository, safe='/'), sha=sha)}"


def one_line(text: str) -> str:
    """Return the first line of ``text`` without control and invisible characters, at most `MAX_SHOWN` characters."""
    line = text[: 4 * MAX_SHOWN].strip().partition("\n")[0]
    kept = "".join(char for char in line if unicodedata.category(char)[0] != "C").strip()
    return kept if len(kept) <= MAX_SHOWN else kept[: MAX_SHOWN - 1] + "…"


def _first(payload: Json, paths: tuple[Path, ...]) -> str:
    texts = (one_line(text_at(payload, path)) for path in paths)
    return next((text for text in texts if text), "")
