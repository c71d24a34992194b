"""Texts as GitHub takes them in statuses and Deployments: one line, no character above U+FFFF, of bounded length. Pure.

Facts: GitHub's OpenAPI description of deployments and statuses (a description has 140 characters at most), and its answers: 422
for a longer environment or context than 255 characters, for a character above U+FFFF, and for a link that is not http(s).
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

MAX_DESCRIPTION = 140
MAX_NAME = 255
MAX_LINK = 2_000
_SPACES = re.compile(r"\s+")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_ABOVE = re.compile("[\U00010000-\U0010ffff]+")


def plain(text: str) -> str:
    """Return ``text`` in one line: white space as single spaces, nothing invisible, `?` for what GitHub does not store."""
    return _ABOVE.sub("?", _UNSEEN.sub("", _SPACES.sub(" ", text))).strip()


def description_of(text: str) -> str:
    """Return a description as GitHub takes it."""
    kept = plain(text)
    return kept if len(kept) <= MAX_DESCRIPTION else kept[: MAX_DESCRIPTION - 1] + "…"


def name_of(text: str) -> str:
    """Return the name of an environment or a context as GitHub takes it: one that has to change ends in a digest of what it was.

    Two names that differ stay two names, and the same name is found again.
    """
    kept = plain(text)
    if kept == text and len(kept) <= MAX_NAME:
        return text
    mark = "-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return kept[: MAX_NAME - len(mark)] + mark


def link_of(text: str) -> str:
    """Return a link as GitHub takes it; empty for one that it would refuse."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    fits = parts.scheme in ("http", "https") and parts.netloc and len(text) <= MAX_LINK
    return text if fits and plain(text) == text and " " not in text else ""


def ends_with(description: str, marker: str) -> bool:
    """Whether ``marker`` is the last word of ``description``, brackets and stops aside."""
    return bool(marker) and re.search(rf"(?<![\w-]){re.escape(marker)}\W*\Z", description) is not None


def fitting(description: str, marker: str) -> str:
    """Return ``description`` as GitHub takes it, the marker whole at its end."""
    description = plain(description)
    if not ends_with(description, marker):
        description = f"{description} ({marker})".lstrip()
    if len(description) <= MAX_DESCRIPTION:
        return description
    begin = description.rindex(marker)
    tail = description[max(0, begin - 2) :] if description[:begin].endswith(" (") else description[begin:]
    return description[: MAX_DESCRIPTION - len(tail) - 1] + "…" + tail
