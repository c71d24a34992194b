"""What is shown and kept of objects that are not ours: of a URL its scheme and host, and a keyed digest to tell two apart.

The path of a URL may be a credential by itself (a Discord or Slack hook), and so may be what somebody writes into a message. What
we declared, what we wrote, and what bears our own marker is shown as it is. The hidden part is read again where it has to be
written back (`lifecycle.ignore`). Pure.
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
"""Fields whose text is hidden whole, whether it looks like a URL or not."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]*")
_HIDDEN = re.compile(r"\(hidden:[0-9a-f]{16}\)")
Hide = Callable[[str], str]
"""Text → what stands for the part of it that is hidden."""


class Veil:
    """Hides what is not ours. ``own`` are texts that are, ``owner`` is whose markers are."""

    def __init__(self, hide: Hide, *, owner: str = "", own: frozenset[str] = frozenset()) -> None:
        self._hide = hide
        self._own = own
        self._marker = f"/hooks/{owner}/" if owner else ""

    def over(self, one: ObservedObject) -> ObservedObject:
        """Return ``one`` with everything hidden that is not ours; where that is nothing, ``one`` itself."""
        attributes: JsonObject = self.value(one.attributes)
        key = self._text(one.natural_key)
        if attributes is one.attributes and key == one.natural_key:
            return one
        return dataclasses.replace(one, attributes=attributes, natural_key=key)

    def value(self, value: JsonValue, *, private: bool = False) -> JsonValue:
        """Return ``value`` with its texts hidden; the same object where nothing is."""
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
        return _URL.sub(lambda found: self._whole(found.group()), text)

    def _whole(self, text: str) -> str:
        if not text or self._is_ours(text) or _HIDDEN.search(text):
            return text
        origin, bare = origin_of(text)
        return text if bare else f"{origin}{'/' if origin else ''}{self._hide(text)}".rstrip("/")

    def _is_ours(self, text: str) -> bool:
        return text in self._own or (self._marker != "" and self._marker in text.partition("?")[0])


def origin_of(text: str) -> tuple[str, bool]:
    """Return scheme, host and port of a URL (empty for what is none), and whether there is nothing else in it."""
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
    """Return what writes a keyed digest in place of what is hidden; ``digest`` gives hexadecimal digits."""
    return lambda text: f"(hidden:{digest(text)[:16]})"


def is_hidden(value: JsonValue) -> bool:
    """Whether a part of ``value`` is hidden, so that it must never be written anywhere."""
    return any(_HIDDEN.search(text) for text in texts_of(value))


def own_texts(ours: Iterable[ManagedObject | RecordedObject]) -> frozenset[str]:
    """Return every text that we declare or wrote."""
    return frozenset(text for one in ours for text in (one.natural_key, *texts_of(one.attributes)))
