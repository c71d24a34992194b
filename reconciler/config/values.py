"""How single configuration values are read, checked and shown. Pure: text or a YAML value in, a typed value or `ConfigError` out."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from reconciler.model.errors import ConfigError

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_SIZE = re.compile(r"(\d+) ?(B|KiB|MiB|GiB|KB|MB|GB)?", re.ASCII)
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SHA256 = re.compile(r"[0-9a-f]{64}")
ROLES = ("viewer", "operator", "approver")
_LONGEST_S = 10 * 366 * 86_400.0
_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A bearer token of the API, kept as its hash."""

    name: str
    sha256: str
    role: str


@dataclass(frozen=True, slots=True)
class LoginRole:
    """People whose ID token has ``value`` as its ``claim``, or in the list of that claim, get ``role``."""

    claim: str
    value: str
    role: str

    def __str__(self) -> str:
        return f"{{claim: {self.claim}, value: {self.value}, role: {self.role}}}"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Limits of one provider, set by an operator; 0 is no limit."""

    writes_per_minute: int = 0
    writes_per_hour: int = 0
    points_per_minute: int = 0


def camel(name: str) -> str:
    """Return the key of a field: ``public_url`` → ``publicUrl``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


RATE_LIMIT_KEYS: Mapping[str, str] = {camel(field.name): field.name for field in fields(RateLimit)}
_TOKEN_KEYS = {field.name for field in fields(ApiToken)}
_ROLE_KEYS = {field.name for field in fields(LoginRole)}


def parse_duration(text: str) -> float:
    """Return seconds of ``90s``, ``5m``, ``1h30m``, ``7d``; raises `ConfigError`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ConfigError("invalid duration", hint="Write it like 90s, 5m, 1h30m or 7d.")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    if total > _LONGEST_S:
        raise ConfigError("a duration must not be longer than ten years")
    return total


def parse_size(text: str) -> int:
    """Return bytes of ``25MiB``, ``64KiB``, ``1000``; raises `ConfigError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match.group(1)) > 18:
        raise ConfigError("invalid size", hint="Write it like 25MiB or 64KiB.")
    return int(match.group(1)) * _UNITS[match.group(2) or ""]


def duration(value: object) -> float:
    """Return seconds; a bare number is seconds as well."""
    if isinstance(value, str):
        if re.fullmatch(r"\d{1,10}", value.strip(), re.ASCII):  # a bare number, as an environment variable spells it
            return float(value)
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= _LONGEST_S:
        raise ConfigError("must be a duration, like 5m")
    return float(value)


def size(value: object) -> int:
    """Return bytes."""
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ConfigError("must be a size, like 25MiB")
    return value


def text(value: object) -> str:
    """Return a text without control characters."""
    if not isinstance(value, str):
        raise ConfigError("must be text" + ("; put it into quotes" if isinstance(value, int | float) else ""))
    if any(not c.isprintable() for c in value):
        raise ConfigError("must be text without line breaks and control characters")
    return value


def whole(value: object) -> int:
    """Return a whole number of 0 or more."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ConfigError("must be a whole number of 0 or more")
    return value


def percent(value: object) -> int:
    """Return a whole number from 0 to 100."""
    number = whole(value)
    if number > 100:
        raise ConfigError("must be a number from 0 to 100")
    return number


def ratio(value: object) -> float:
    """Return a number from 0 to 1."""
    if isinstance(value, str) and re.fullmatch(r"[01](\.\d{1,9})?", value.strip(), re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError("must be a number from 0 to 1")
    return float(value)


def pairs(value: object) -> tuple[str, ...]:
    """Return a list of ``NAME=VALUE``; a text is split at its commas. A value is never repeated."""
    parts = texts(value)
    for number, part in enumerate(parts, 1):
        name, equals, _ = part.partition("=")
        if not equals or not name.strip() or not part.isprintable():
            raise ConfigError(f"part {number} must be NAME=VALUE")
    return parts


def flag(value: object) -> bool:
    """Return a truth value; text as an environment variable spells it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ConfigError("must be true or false")


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts; a text is split at its commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise ConfigError("must be a list of texts")


def one_of(*words: str) -> Callable[[object], str]:
    """Return a reader that accepts only these words."""

    def check(value: object) -> str:
        if value not in words:
            raise ConfigError(f"must be one of {', '.join(words)}")
        return str(value)

    return check


def mapping(value: object) -> Mapping[str, object]:
    """Return a mapping; an environment variable holds it as JSON."""
    decoded = _decoded(value)
    if not isinstance(decoded, dict):
        raise ConfigError("must be a mapping")
    return decoded


def rate_limits(value: object) -> Mapping[str, RateLimit]:
    """Return `RateLimit` by provider."""
    limits: dict[str, RateLimit] = {}
    known = ", ".join(RATE_LIMIT_KEYS)
    for provider, row in mapping(value).items():
        if not isinstance(row, dict):
            raise ConfigError(f"{provider}: must be a mapping of {known}")
        unknown = sorted(set(row) - set(RATE_LIMIT_KEYS))
        if unknown:
            raise ConfigError(f"{provider}: unknown key {unknown[0]!r}; known: {known}")
        limits[str(provider)] = RateLimit(**{RATE_LIMIT_KEYS[key]: whole(number) for key, number in row.items()})
    return limits


def tokens(value: object) -> tuple[ApiToken, ...]:
    """Return the API's tokens; a token in the place of its hash is refused and not repeated."""
    rows: list[ApiToken] = []
    decoded = _decoded(value)
    for row in decoded if isinstance(decoded, list) else [None]:
        if not isinstance(row, dict) or set(row) != _TOKEN_KEYS or not isinstance(row["name"], str):
            raise ConfigError("must be a list of {name, sha256, role}")
        if not isinstance(row["sha256"], str) or not _SHA256.fullmatch(row["sha256"]):
            raise ConfigError(
                f"token {row['name']!r}: sha256 must be the SHA-256 of the token in 64 lower-case hex digits, not the token",
                hint='printf %s "$TOKEN" | sha256sum',
            )
        rows.append(ApiToken(row["name"], row["sha256"], one_of(*ROLES)(row["role"])))
    if len({row.name for row in rows}) < len(rows):
        raise ConfigError("two tokens have the same name")
    return tuple(rows)


def login_roles(value: object) -> tuple[LoginRole, ...]:
    """Return the roles of people who log in by OIDC; the first one that matches counts."""
    rows: list[LoginRole] = []
    decoded = _decoded(value)
    for row in decoded if isinstance(decoded, list) else [None]:
        if (
            not isinstance(row, dict)
            or set(row) != _ROLE_KEYS
            or not all(isinstance(part, str) and part for part in row.values())
        ):
            raise ConfigError("must be a list of {claim, value, role}")
        rows.append(LoginRole(row["claim"], row["value"], one_of(*ROLES)(row["role"])))
    return tuple(rows)


def show_duration(seconds: float) -> str:
    """Return a duration as a user would write it."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def show_size(size: int) -> str:
    """Return a size in MiB."""
    return f"{size >> 20}MiB"


def show_texts(items: tuple[object, ...]) -> str:
    """Return a list as YAML; empty without an item."""
    return "[" + ", ".join(map(str, items)) + "]" if items else ""


def absolute(base: Path, text: str) -> str:
    """Return an absolute path without following links: a link keeps its name when its target is replaced."""
    return os.path.normpath(base / Path(text).expanduser())


def is_folder(url: str) -> bool:
    """Whether a source's URL is a path: no scheme, and no colon before the first slash (``host:path``, or a Windows drive)."""
    return "://" not in url and ":" not in url.partition("/")[0]


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    import orjson

    try:
        decoded: object = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ConfigError("must be JSON") from None
    return decoded
