"""Summary of an event for people: its sender, the author of its commit, the first line of its message. Pure.

All of it is untrusted text, short and in one line. Approvers see it; it decides nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler.drivers.capabilities import Path
from reconciler.drivers.specs import SPECS, spec_of

MAX_SHOWN = 200
_MESSAGES = tuple(path for spec in SPECS.values() for path in spec.payload.message)
_AUTHORS = tuple(path for spec in SPECS.values() for path in spec.payload.author)
_SENDERS = tuple(path for spec in SPECS.values() for path in spec.payload.sender)


def summary_of(
    source: str, event_type: str, payload: Any, origin: Mapping[str, Any], *, web: str = "", by: str = ""
) -> dict[str, Any]:
    """Return ``source``, ``type``, ``sender``, ``author``, ``message`` and ``url`` of an event from outside, as far as known.

    ``origin``: what `origin_of` found. ``web``: the address of the Integration at its provider, which is what links begin with;
    a payload's own links are not used. ``by``: the person who made the event.
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


def commit_url(web: str, origin: Mapping[str, Any]) -> str:
    """Return the page of the commit; empty without a commit, a repository, or a web address of a provider that has such pages."""
    try:
        parts = urlsplit(web)
    except ValueError:
        return ""
    page = spec_of(str(origin.get("provider", ""))).commit_page
    repository, sha = origin.get("repository"), origin.get("sha")
    if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc or not (page and repository and sha):
        return ""
    return f"{parts.scheme}://{parts.netloc}{page.format(repository=quote(str(repository), safe='/'), sha=sha)}"


def one_line(text: Any) -> str:
    """Return the first line of ``text`` without control and invisible characters, `MAX_SHOWN` long at most; empty for no text."""
    if not isinstance(text, str):
        return ""
    line = text[: 4 * MAX_SHOWN].strip().partition("\n")[0]
    kept = "".join(char for char in line if unicodedata.category(char)[0] != "C").strip()
    return kept if len(kept) <= MAX_SHOWN else kept[: MAX_SHOWN - 1] + "…"


def _first(payload: Any, paths: tuple[Path, ...]) -> str:
    for path in paths:
        value = payload
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if text := one_line(value):
            return text
    return ""
