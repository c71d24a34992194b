"""The redactor: logs, status, plans, audit records and errors pass through it before they are written.

It masks every loaded value in the forms that it can take (base64, URL-encoded, JSON, HTML, hex), and text with the form of a common
token, so that it also finds values that were never loaded.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from reconciler.drivers.specs import TOKEN_PATTERNS
from reconciler.model.json import Json
from reconciler.model.secrets import OTHER_TOKENS

MASK = "***"
MIN_LENGTH = 6
"""Shorter values are not masked: they would mask half of every text, and are not secrets."""
MAX_PASSING = 256
_LINE = 16
"""A secret with several lines (a private key) is also masked line by line, from this length of a line on."""

_PATTERNS = re.compile(
    "|".join((*TOKEN_PATTERNS, *OTHER_TOKENS))
    # A match starts at a boundary only. Otherwise a hostile text "eyJeyJeyJ…" would be read again from every position.
    + r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,4000}\.[A-Za-z0-9_-]{2,8000}\.[A-Za-z0-9_-]{0,2000}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]|-(?!----)){0,16000}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
)
_HEADER = re.compile(r"(?i)\b(bearer|token|basic)([ :=]{1,3}[\"']?)([A-Za-z0-9._~+/=-]{12,4000})")
_NAMED = re.compile(
    r"(?i)\b((?:proxy-)?authorization|private-token|x-api-key|api-key|x-vault-token|x-auth-token)"
    r"(\\?[\"']?\s?[:=]\s?\\?[\"']?)(?:(bearer|token|basic|apitoken)\s)?([^\s\"'\\,;*]{1,8000})"
)
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)([^\s/?#\"'<>]{1,500})@")
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


class Redactor:
    """Masks secrets in text and JSON. Thread-safe; values of Secrets are only added.

    It looks up the first six characters of a form in a dictionary, so that the time hardly depends on the number of secrets: an
    alternation of some thousand forms takes a hundred times as long.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._grams: Mapping[str, tuple[tuple[str, bool], ...]] = {}
        self._lock = threading.Lock()
        self._passing: deque[str] = deque()
        self.generation = 0
        """Incremented by every new value: text that was redacted before may contain it."""

    def add(self, value: str) -> None:
        """Mask ``value`` in all its forms from now on."""
        if len(value) < MIN_LENGTH or value in self._values:
            return
        parts = {value, value.strip()} | {line.strip() for line in value.splitlines() if len(line.strip()) >= _LINE}
        with self._lock:
            grams = dict(self._grams)
            for part in parts:
                if len(part) < MIN_LENGTH or part in self._values or part.startswith("-----"):
                    continue
                self._values.add(part)
                for form, is_base64 in _forms(part):
                    known = grams.get(form[:MIN_LENGTH], ())
                    grams[form[:MIN_LENGTH]] = tuple(sorted({*known, (form, is_base64)}, key=lambda entry: -len(entry[0])))
            self._values.add(value)
            self._grams = grams  # replaced whole: readers need no lock
            self.generation += 1  # last: a reader of the new number sees the new value too

    def add_passing(self, value: str) -> None:
        """Look for a short-lived token. Only the newest `MAX_PASSING` are remembered, since a daemon gets new ones for years.

        One whose shape is known is masked by its shape, and not remembered.
        """
        if len(value) < MIN_LENGTH or value in self._values or _PATTERNS.fullmatch(value):
            return
        self.add(value)
        with self._lock:
            self._passing.append(value)
            if len(self._passing) > MAX_PASSING:
                self._forget(self._passing.popleft())

    def _forget(self, value: str) -> None:
        grams = dict(self._grams)
        for form, is_base64 in _forms(value):
            left = tuple(known for known in grams.get(form[:MIN_LENGTH], ()) if known != (form, is_base64))
            if left:
                grams[form[:MIN_LENGTH]] = left
            else:
                grams.pop(form[:MIN_LENGTH], None)
        self._values.discard(value)
        self._grams = grams

    def redact(self, text: str) -> str:
        """Return ``text`` with every known value and every token shape masked."""
        if len(text) < MIN_LENGTH:
            return text
        text = self._known(text)
        text = _PATTERNS.sub(MASK, text)
        text = _NAMED.sub(lambda m: f"{m[1]}{m[2]}{m[3] + ' ' if m[3] else ''}{MASK}", text)
        text = _HEADER.sub(lambda m: f"{m[1]}{m[2]}{MASK}" if _looks_secret(m[1], m[3]) else m[0], text)
        return _USERINFO.sub(_userinfo, text)

    def redact_json(self, value: object) -> Json:
        """Return ``value`` with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self.redact(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return self.redact_fields(value)
        if isinstance(value, list | tuple | set | frozenset):
            items: Iterable[object] = value
            return [self.redact_json(item) for item in items]
        if isinstance(value, bytes | bytearray):
            return self.redact(value.decode("utf-8", "replace"))
        return self.redact(str(value))

    def redact_fields(self, fields: Mapping[str, object]) -> dict[str, Json]:
        """Return ``fields`` with every text in it redacted, keys too."""
        return {self.redact(str(key)): self.redact_json(item) for key, item in fields.items()}

    def _known(self, text: str) -> str:
        grams = self._grams
        if not grams:
            return text
        hits = [i for i in range(len(text) - MIN_LENGTH + 1) if text[i : i + MIN_LENGTH] in grams]
        if not hits:
            return text
        pieces: list[str] = []
        done = 0  # up to here the text is in `pieces`
        for start, end in _merged(span for at in hits for span in _spans(text, at, grams[text[at : at + MIN_LENGTH]])):
            pieces += (text[done:start], MASK)
            done = end
        return "".join(pieces) + text[done:]


def _spans(text: str, at: int, forms: tuple[tuple[str, bool], ...]) -> Iterator[tuple[int, int]]:
    """Yield start and end of the longest form at ``at``, with the base64 characters that it shares with its neighbours."""
    for form, is_base64 in forms:
        if text.startswith(form, at):
            start, end = at, at + len(form)
            if is_base64:
                while start > max(0, at - 2) and text[start - 1] in _BASE64:
                    start -= 1
                while end < min(len(text), at + len(form) + 3) and text[end] in _BASE64:
                    end += 1
            yield start, end
            return


def _merged(spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join spans that overlap or touch, so that no part of two secrets that share characters remains."""
    current: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if current is None or start > current[1]:
            if current is not None:
                yield current
            current = (start, end)
        else:
            current = (current[0], max(current[1], end))
    if current is not None:
        yield current


def _looks_secret(scheme: str, text: str) -> bool:
    """Whether ``text`` mixes letters and digits, unlike a word after "token"; after "basic" it must be the base64 of a pair."""
    if scheme.lower() == "basic":
        try:
            return b":" in base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            return False
    return len(text) >= 16 and any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


def _userinfo(match: re.Match[str]) -> str:
    """A user name alone is not a secret over ssh; elsewhere it may be a token."""
    if match[1].lower() in {"ssh://", "git+ssh://"} and ":" not in match[2]:
        return match[0]
    return f"{match[1]}{MASK}@"


def _forms(value: str) -> Iterator[tuple[str, bool]]:
    """Yield the forms in which ``value`` may appear (itself, for a URL, JSON, HTML, hex, base64), and whether it is base64."""
    raw = value.encode("utf-8", "surrogatepass")
    hexed = raw.hex()
    plain = {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        html.escape(value),
        hexed,
        hexed.upper(),
    }
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw), quote(raw, safe="!*'()")):
        plain |= {quoted, re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), quoted)}
    plain |= {json.dumps(form)[1:-1] for form in tuple(plain)}  # JSON in JSON: a body inside a log line
    yield from ((form, False) for form in plain if len(form) >= MIN_LENGTH)
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).decode().rstrip("=")
            # Only the characters that depend on the value alone, without those that mix with its neighbours.
            form = text[(0, 2, 3)[shift] : len(text) - ((len(raw) + shift) % 3 > 0)]
            if len(form) >= MIN_LENGTH:
                yield form, True


def forms_of(value: str) -> set[str]:
    """Return the forms in which ``value`` may appear."""
    return {form for form, _ in _forms(value)}
