"""Summary of an event for people: its sender, the author of its commit, the first line of its message. Pure.

All of it is untrusted text, short and in one line. Approvers see it; it decides nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

Path = tuple[str, ...]
MAX_SHOWN = 200
_HEAD = ("head_commit",)
_RUN = ("workflow_run", "head_commit")
_MESSAGES: tuple[Path, ...] = (
    (*_HEAD, "message"),
    ("merge_group", "head_commit", "message"),
    ("pull_request", "title"),
    (*_RUN, "message"),
    ("workflow_run", "display_title"),
    ("check_suite", "head_commit", "message"),
    ("commit", "commit", "message"),
    ("release", "name"),
    ("deployment", "description"),
    ("issue", "title"),
    ("discussion", "title"),
    ("revision", "commit_message"),
    ("execution", "to_revision", "message"),
    ("execution", "comment"),
)
_AUTHORS: tuple[Path, ...] = (
    (*_HEAD, "author", "username"),
    (*_HEAD, "author", "name"),
    ("merge_group", "head_commit", "author", "name"),
    ("pull_request", "user", "login"),
    (*_RUN, "author", "name"),
    ("check_suite", "head_commit", "author", "name"),
    ("commit", "author", "login"),
    ("commit", "commit", "author", "name"),
    ("release", "author", "login"),
    ("deployment", "creator", "login"),
    ("issue", "user", "login"),
    ("comment", "user", "login"),
    ("execution", "to_revision", "author", "name"),
    ("execution", "creator", "name"),
)
_SENDERS: tuple[Path, ...] = (
    ("sender", "login"),
    ("pusher", "name"),
    ("invoker", "name"),
    ("revision", "sender", "login"),
)


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
    """Return the page of the commit; empty without a commit, a repository or a web address of the provider."""
    try:
        parts = urlsplit(web)
    except ValueError:
        return ""
    repository, sha = origin.get("repository"), origin.get("sha")
    if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc or not repository or not sha:
        return ""
    return f"{parts.scheme}://{parts.netloc}/{quote(str(repository), safe='/')}/commit/{sha}"


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
