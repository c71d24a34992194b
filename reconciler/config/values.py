"""How single configuration values are read and checked. Pure: text or a YAML value in, a typed value out, or `ConfigError`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.model.errors import ConfigError

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_SIZE = re.compile(r"(\d+) ?(B|KiB|MiB|GiB|KB|MB|GB)?", re.ASCII)
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SHA256 = re.compile(r"[0-9a-f]{64}")
ROLES = ("viewer", "operator", "approver")
PACE_KEYS = {"writesPerMinute": "writes_per_minute", "writesPerHour": "writes_per_hour", "pointsPerMinute": "points_per_minute"}
_LONGEST_S = 10 * 366 * 86_400.0
_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A bearer token of the API, kept as its hash."""

    name: str
    sha256: str
    role: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of one provider as an operator sets them; 0 is "none"."""

    writes_per_minute: int = 0
    writes_per_hour: int = 0
    points_per_minute: int = 0


def parse_duration(text: str) -> float:
    """Return seconds of ``90s``, ``5m``, ``1h30m``, ``7d``; raises `ConfigError`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ConfigError("this is no duration", hint="Write it like 90s, 5m, 1h30m or 7d.")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    if total > _LONGEST_S:
        raise ConfigError("ten years are the longest duration")
    return total


def parse_size(text: str) -> int:
    """Return bytes of ``25MiB``, ``64KiB``, ``1000``; raises `ConfigError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match.group(1)) > 18:
        raise ConfigError("this is no size", hint="Write it like 25MiB or 64KiB.")
    return int(match.group(1)) * _UNITS[match.group(2) or ""]


def duration(value: Any) -> float:
    """Return seconds; a bare number is seconds as well."""
    if isinstance(value, str):
        if re.fullmatch(r"\d{1,10}", value.strip(), re.ASCII):  # a bare number, as an environment variable spells it
            return float(value)
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= _LONGEST_S:
        raise ConfigError("a duration is wanted, like 5m")
    return float(value)


def size(value: Any) -> int:
    """Return bytes."""
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ConfigError("a size is wanted, like 25MiB")
    return value


def text(value: Any) -> str:
    """Return a text without control characters."""
    if not isinstance(value, str):
        raise ConfigError("text is wanted" + ("; put it into quotes" if isinstance(value, int | float) else ""))
    if any(not c.isprintable() for c in value):
        raise ConfigError("text without line breaks and control characters is wanted")
    return value


def whole(value: Any) -> int:
    """Return a whole number of 0 or more."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,15}", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ConfigError("a whole number of 0 or more is wanted")
    return value


def percent(value: Any) -> int:
    """Return a whole number from 0 to 100."""
    number = whole(value)
    if number > 100:
        raise ConfigError("a number from 0 to 100 is wanted")
    return number


def flag(value: Any) -> bool:
    """Return a truth value; text as an environment variable spells it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ConfigError("true or false is wanted")


def texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts; one text is parted at its commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise ConfigError("a list of texts is wanted")


def one_of(*words: str) -> Callable[[Any], str]:
    """Return a reader that takes only these words."""

    def check(value: Any) -> str:
        if value not in words:
            raise ConfigError(f"one of {', '.join(words)} is wanted")
        return str(value)

    return check


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; from the environment it comes as JSON."""
    found = _decoded(value)
    if not isinstance(found, dict):
        raise ConfigError("a mapping is wanted")
    return found


def paces(value: Any) -> Mapping[str, Pace]:
    """Return `Pace` by provider."""
    found: dict[str, Pace] = {}
    for provider, row in mapping(value).items():
        if not isinstance(row, dict):
            raise ConfigError(f"{provider}: a mapping of {', '.join(PACE_KEYS)} is wanted")
        unknown = sorted(set(row) - set(PACE_KEYS))
        if unknown:
            raise ConfigError(f"{provider}: unknown key {unknown[0]!r}; known: {', '.join(PACE_KEYS)}")
        found[str(provider)] = Pace(**{PACE_KEYS[key]: whole(number) for key, number in row.items()})
    return found


def tokens(value: Any) -> tuple[ApiToken, ...]:
    """Return the API's tokens; a token itself in the place of its hash is refused and not repeated."""
    rows: list[ApiToken] = []
    found = _decoded(value)
    for row in found if isinstance(found, list) else [None]:
        if not isinstance(row, dict) or set(row) != {"name", "sha256", "role"} or not isinstance(row["name"], str):
            raise ConfigError("a list of {name, sha256, role} is wanted")
        if not isinstance(row["sha256"], str) or not _SHA256.fullmatch(row["sha256"]):
            raise ConfigError(
                f"token {row['name']!r}: sha256 is the SHA-256 of the token in 64 lower-case hex digits, not the token",
                hint='printf %s "$TOKEN" | sha256sum',
            )
        rows.append(ApiToken(row["name"], row["sha256"], one_of(*ROLES)(row["role"])))
    if len({row.name for row in rows}) < len(rows):
        raise ConfigError("two tokens have the same name")
    return tuple(rows)


def absolute(base: Path, text: str) -> str:
    """Return an absolute path without following links: what a link points to may be replaced, its own name stays."""
    return os.path.normpath(base / Path(text).expanduser())


def is_folder(url: str) -> bool:
    """Whether a source's URL is a path: no scheme, and no colon before the first slash (``host:path``, or a drive of Windows)."""
    return "://" not in url and ":" not in url.partition("/")[0]


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    import orjson

    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ConfigError("JSON is wanted") from None


__all__ = [
    "PACE_KEYS",
    "ROLES",
    "ApiToken",
    "Pace",
    "absolute",
    "duration",
    "flag",
    "is_folder",
    "mapping",
    "one_of",
    "paces",
    "parse_duration",
    "parse_size",
    "percent",
    "size",
    "text",
    "texts",
    "tokens",
    "whole",
]
