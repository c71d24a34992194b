"""One redactor, at the sink: logs, status, plans, audit and errors alike pass through it.

It knows the exact values of everything that was loaded, in the forms they may take on the way (base64, URL-encoded, JSON,
hex), and the shapes of common tokens, so that a value it never saw is caught as well.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
MIN_LENGTH = 6
"""Shorter values are not looked for: they would mask half of every text, and are no secrets."""

_PATTERNS = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,64}|AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}"
    r"|dop_v1_[a-f0-9]{64}|NRAK-[A-Z0-9]{27}|xox[abprs]-[A-Za-z0-9-]{10,200}|whsec_[A-Za-z0-9+/=]{24,100}"
    r"|eyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,2000}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]{1,8000}?-----END [A-Z ]{0,40}PRIVATE KEY-----")
_HEADER = re.compile(r"(?i)\b(bearer|token|basic)[ :=]+([A-Za-z0-9._~+/=-]{12,4000})")
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@\"']{1,500}@")


class Redactor:
    """Masks secrets in text and JSON. Thread-safe; values are only ever added."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def add(self, value: str) -> None:
        """Look for ``value`` in all its forms from now on."""
        if len(value) < MIN_LENGTH or value in self._values:
            return
        with self._lock:
            self._values.add(value)
            forms = sorted({form for one in self._values for form in forms_of(one)}, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(form) for form in forms))

    def redact(self, text: str) -> str:
        """Return ``text`` with every known value and every token shape masked."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        text = _PATTERNS.sub(MASK, text)
        text = _HEADER.sub(lambda m: f"{m.group(1)} {MASK}" if _looks_secret(m.group(2)) else m.group(0), text)
        return _USERINFO.sub(lambda m: f"{m.group(1)}{MASK}@", text)

    def redact_json(self, value: Any) -> Any:
        """Return ``value`` with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self.redact(str(key)): self.redact_json(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.redact_json(item) for item in value]
        if isinstance(value, bytes):
            return self.redact(value.decode("utf-8", "replace"))
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.redact(str(value))


def _looks_secret(text: str) -> bool:
    """A long run of letters and digits mixed: words of a sentence after "token" are left alone."""
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text) and len(text) >= 16


def forms_of(value: str) -> set[str]:
    """Return the forms in which ``value`` may appear: itself, URL-encoded, JSON-escaped, hex, base64 at all three alignments."""
    raw = value.encode()
    forms = {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1],
             raw.hex(), raw.hex().upper(), repr(value)[1:-1]}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            text = encode(b"\0" * shift + raw).decode()
            # Only the characters that depend on the value alone: cut what the neighbours mix into.
            start = (0, 2, 3)[shift]
            end = len(text.rstrip("="))
            if (len(raw) + shift) % 3:
                end -= 1
            if end - start >= MIN_LENGTH:
                forms.add(text[start:end])
    return {form for form in forms if len(form) >= MIN_LENGTH}
