"""Masking of foreign objects: of a URL, only scheme and host are shown and stored, with a keyed digest that distinguishes two URLs.

The path of a URL may be a credential (a Discord or Slack hook), and so may the text of a message. Declared values, values that we wrote, and URLs with
our own marker are not masked. A masked value is read again before it must be written back (`lifecycle.ignore`). Pure.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject
from reconciler.model.values import JsonObject, JsonValue, texts_of

_PRIVATE = frozenset(
    {"url", "endpoint", "target_url", "host_url", "webhook_address", "message", "content", "subject", "channels", "cc", "bcc"}
)
"""Fields whose whole text is masked, whether it is a URL or not."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]*")
_HIDDEN = re.compile(r"\(hidden:[0-9a-f]{16}\)")
Hide = Callable[[str], str]
"""Returns the replacement for a masked text."""


class Mask:
    """Masks foreign values. ``own``: texts that are ours; ``owner``: the owner in our markers."""

    def __init__(self, hide: Hide, *, owner: str = "", own: frozenset[str] = frozenset()) -> None:
        self._hide = hide
        self._own = own
        self._marker = f"/hooks/{owner}/" if owner else ""

    def over(self, observed: ObservedObject) -> ObservedObject:
        """Return ``observed`` with foreign values masked; the same object if there are none."""
        attributes: JsonObject = self.value(observed.attributes)
        key = self._text(observed.natural_key)
        if attributes is observed.attributes and key == observed.natural_key:
            return observed
        return dataclasses.replace(observed, attributes=attributes, natural_key=key)

    def value(self, value: JsonValue, *, private: bool = False) -> JsonValue:
        """Return ``value`` with foreign texts masked; the same object if there are none."""
        if isinstance(value, str):
            return self._whole(value) if private else self._text(value)
        if isinstance(value, Mapping):
            shown = {key: self.value(item, private=private or key in _PRIVATE) for key, item in value.items()}
            return shown if any(shown[key] is not value[key] for key in shown) else value
        if isinstance(value, list | tuple):
            items = [self.value(item, private=private) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def _text(self, text: str) -> str:
        if "://" not in text or self._is_ours(text):
            return text
        return _URL.sub(lambda match: self._whole(match.group()), text)

    def _whole(self, text: str) -> str:
        if not text or self._is_ours(text) or _HIDDEN.search(text):
            return text
        origin, bare = origin_of(text)
        return text if bare else f"{origin}{'/' if origin else ''}{self._hide(text)}".rstrip("/")

    def _is_ours(self, text: str) -> bool:
        return text in self._own or (self._marker != "" and self._marker in text.partition("?")[0])


def origin_of(text: str) -> tuple[str, bool]:
    """Return scheme, host and port of a URL (empty for other texts), and whether the URL has no other part."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "", False
    if not parts.scheme or not host:
        return "", False
    host = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    return origin, text.removesuffix("/").lower() == origin


def hidden_by(digest: Callable[[str], str]) -> Hide:
    """Return the function that replaces a masked text with a keyed digest; ``digest`` returns hexadecimal digits."""
    return lambda text: f"(hidden:{digest(text)[:16]})"


def is_hidden(value: JsonValue) -> bool:
    """Whether a part of ``value`` is masked, so that it must never be written to a provider."""
    return any(_HIDDEN.search(text) for text in texts_of(value))


def own_texts(ours: Iterable[ManagedObject | RecordedObject]) -> frozenset[str]:
    """Return every text that we declare or wrote."""
    return frozenset(text for item in ours for text in (item.natural_key, *texts_of(item.attributes)))
