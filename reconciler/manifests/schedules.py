"""When a schedule fires: what is a cron line, what is a time zone."""

from __future__ import annotations

_CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("weekday", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def cron_error(line: str) -> str:
    """Return what is wrong with a cron line, or an empty text."""
    fields = line.lower().split()
    if len(fields) != len(_CRON):
        return f"a cron line has five fields, not {len(fields)}"
    for text, (name, low, high, names) in zip(fields, _CRON, strict=True):
        for part in text.split(","):
            span, slash, step = part.partition("/")
            ends = [low, high] if span == "*" else [_cron_number(one, low, names) for one in span.split("-")]
            if len(ends) > 2 or any(end is None or not low <= end <= high for end in ends):
                return f"the {name} of the cron line is not {low} to {high}"
            if slash and not (step.isdecimal() and 0 < int(step) <= high):
                return f"the step of the {name} of the cron line is no number that fits"
            if len(ends) == 2 and (ends[0] or 0) > (ends[1] or 0):
                return f"the range of the {name} of the cron line ends before it begins"
    return ""


def _cron_number(text: str, low: int, names: tuple[str, ...]) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdecimal() and len(text) < 3 else None


def known_zone(name: str) -> bool:
    """Whether ``name`` looks like an IANA zone and is one."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def is_instant(text: str) -> bool:
    """Whether ``text`` is an RFC 3339 time."""
    import datetime as dt

    try:
        dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return "T" in text or " " in text
