"""The times of schedules and time windows: cron lines, time zones, and days on which clocks change. Pure.

A cron line has the meaning of the manual page crontab(5): five fields; lists, ranges, steps (``8/5`` is ``8-59/5``), names, 7 for
Sunday. If day of month and day of week are both restricted, either is enough; a field that begins with ``*`` restricts nothing in
this sense, so that ``*/2`` in one of them and a weekday in the other must both hold.

When clocks change, there are two kinds of schedule, as in Vixie cron:

* of certain hours (``30 2 * * *``, daily, weekly): each of its times comes once a day. One that clocks skip fires at the first
  instant after the gap, together with all others of that gap; one that clocks show twice fires the first time only.
* of every hour (the hour field begins with ``*`` or names all 24; hourly): it goes by elapsed time and fires whenever clocks show
  one of its times. What is skipped does not fire, and what clocks show twice fires twice.

A time window opens and closes when a schedule of certain hours would fire.

docs/architecture.md explains why this is not a library.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from reconciler.manifests.kinds import ScheduleSpec, TimeWindowSpec
from reconciler.model.codec import from_json
from reconciler.model.values import JsonObject

DAY_S = 86_400
HORIZON_S = 8 * 366 * DAY_S
"""How far ahead `next_slot` looks. Eight years are the longest way between two 29ths of February."""
_MINUTE, _HOUR, _DOM, _MONTH, _DOW = range(5)
_CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("weekday", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_WEEK_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class _Cron:
    """A parsed cron line."""

    minutes: tuple[int, ...]
    """The times of a day on which it fires, in minutes since midnight, in order."""
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Sunday is 0."""
    either: bool
    """Whether day of month or day of week is enough."""
    every_hour: bool

    def on(self, day: dt.date) -> bool:
        """Whether it fires on ``day``."""
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_day or by_weekday if self.either else by_day and by_weekday)


def cron_error(line: str) -> str:
    """Return the problem of a cron line, or an empty text."""
    try:
        _cron(line)
    except ValueError as error:
        return str(error)
    return ""


_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of the months, in a leap year."""


def never_fires(line: str) -> bool:
    """Whether a valid cron line names only days that no year has, such as the 31st of February."""
    try:
        cron = _cron(line)
    except ValueError:
        return False
    # Every date falls on every day of the week in some year, so weekdays do not matter.
    return not cron.either and not any(min(cron.days) <= _LONGEST[month - 1] for month in cron.months)


@lru_cache(4_096)
def _cron(line: str) -> _Cron:
    """Parse a cron line. Raises `ValueError` with the problem."""
    fields = line.lower().split()
    if len(fields) != len(_CRON):
        raise ValueError(f"a cron line has five fields, not {len(fields)}")
    values = [_numbers(text, *column) for text, column in zip(fields, _CRON, strict=True)]
    return _Cron(
        minutes=tuple(sorted(hour * 60 + minute for hour in values[_HOUR] for minute in values[_MINUTE])),
        days=values[_DOM],
        months=values[_MONTH],
        weekdays=frozenset(number % 7 for number in values[_DOW]),
        either=not fields[_DOM].startswith("*") and not fields[_DOW].startswith("*"),
        every_hour=fields[_HOUR].startswith("*") or len(values[_HOUR]) == 24,
    )


def _numbers(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    numbers: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        given = [low, high] if span == "*" else [_number(end, low, names) for end in span.split("-")]
        ends = [end for end in given if end is not None and low <= end <= high]
        if len(ends) != len(given) or len(ends) > 2:
            raise ValueError(f"the {name} of the cron line is not {low} to {high}")
        if slash and not (step.isdecimal() and 0 < int(step) <= high):
            raise ValueError(f"the step of the {name} of the cron line is not 1 to {high}")
        first, last = ends[0], ends[1] if len(ends) == 2 else high if slash else ends[0]
        if first > last:
            raise ValueError(f"the range of the {name} of the cron line ends before it begins")
        numbers.update(range(first, last + 1, int(step) if slash else 1))
    return frozenset(numbers)


def _number(text: str, low: int, names: tuple[str, ...]) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdecimal() and len(text) < 3 else None


def slots(spec: JsonObject, after: float, until: float, limit: int) -> list[float]:
    """Return the first ``limit`` instants in (``after``, ``until``] at which a schedule fires, in order (epoch seconds).

    ``spec`` is a valid ``schedule`` block in canonical form. The work grows with the days between ``after`` and the last slot.
    """
    schedule = from_json(ScheduleSpec, spec)
    return list(islice(_slots(_line(schedule), _zone(schedule.time_zone), after, until), max(limit, 0)))


def next_slot(spec: JsonObject, after: float) -> float | None:
    """Return the first instant later than ``after`` at which a schedule fires; None for one that does not within eight years."""
    return next(iter(slots(spec, after, after + HORIZON_S, 1)), None)


def _line(spec: ScheduleSpec) -> _Cron:
    if spec.cron is not None:
        return _cron(spec.cron)
    if spec.type == "hourly" and spec.hourly is not None:
        return _cron(f"{spec.hourly.minute} * * * *")
    if spec.type == "weekly" and spec.weekly is not None:
        time, weekday = spec.weekly.time, str((_WEEK_DAYS.index(spec.weekly.week_day) + 1) % 7)
    elif spec.daily is not None:
        time, weekday = spec.daily.time, "*"
    else:
        raise ValueError("a schedule has a cron line, or a block of its type")  # its schema requires one
    hour, _, minute = time.partition(":")
    return _cron(f"{minute} {hour} * * {weekday}")


def _slots(cron: _Cron, zone: dt.tzinfo, after: float, until: float) -> Iterator[float]:
    """Yield slots in order, each once.

    A local day lies within a day of the day in UTC that has its name, and what falls into a gap fires after it, within another
    day: so it is known from where to look, how far, and which slots no later day can precede.
    """
    day, last = _utc_day(after) - dt.timedelta(days=2), _utc_day(until) + dt.timedelta(days=1)
    held: set[float] = set()
    while day <= last:
        if day.month not in cron.months:
            day = (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
            continue
        if cron.on(day):
            held.update(at for at in _instants(day, cron, zone) if after < at <= until)
        if held:
            settled = sorted(at for at in held if at < _utc_midnight(day))
            held.difference_update(settled)
            yield from settled
        day += dt.timedelta(days=1)
    yield from sorted(held)


def _instants(day: dt.date, cron: _Cron, zone: dt.tzinfo) -> list[float]:
    """Return when the times of one local day come; some twice, or in another order, on a day on which clocks are changed."""
    midnight = dt.datetime.combine(day, dt.time(), zone)
    offset = midnight.utcoffset()
    if offset is not None and offset == (midnight + dt.timedelta(days=1)).replace(fold=1).utcoffset():
        base = _utc_midnight(day) - offset.total_seconds()
        return [base + minute * 60 for minute in cron.minutes]
    walls = [midnight + dt.timedelta(minutes=minute) for minute in cron.minutes]
    if cron.every_hour:
        return [at for wall in walls for at in _shown(wall)]
    return [_first(wall) for wall in walls]


def _shown(wall: dt.datetime) -> tuple[float, ...]:
    """Return the instants at which clocks show ``wall``: none if they skip it, two if they show it twice (PEP 495)."""
    first, second = wall.replace(fold=0).timestamp(), wall.replace(fold=1).timestamp()
    if first == second:
        return (first,)
    return (first, second) if first < second else ()


def _first(wall: dt.datetime) -> float:
    """Return when clocks first show ``wall``; if they skip it, the first instant after the gap."""
    shown = _shown(wall)
    if shown:
        return shown[0]
    before, at = wall.replace(fold=1).timestamp(), wall.replace(fold=0).timestamp()
    offset = wall.replace(fold=1).utcoffset()
    while at - before > 1:  # clocks were changed in (before, at], at a whole second
        middle = (before + at) // 2
        if dt.datetime.fromtimestamp(middle, wall.tzinfo).utcoffset() == offset:
            at = middle
        else:
            before = middle
    return at


def in_window(window: TimeWindowSpec, at: float) -> bool:
    """Whether a time window is open at ``at`` (epoch seconds): its start belongs to it, its end does not.

    A window belongs to the day on which it opens: one whose end is not
    later than its start closes on the next day, whatever day that is; with both equal it is open for a whole day.
    """
    return any(opens <= at < closes for opens, closes in _openings(window, at, days=3))


def next_opening(window: TimeWindowSpec, at: float) -> float:
    """Return from when on a time window is open (epoch seconds): ``at`` itself, or when it opens next."""
    return next(max(opens, at) for opens, closes in _openings(window, at, days=60) if at < closes)


def _openings(window: TimeWindowSpec, at: float, *, days: int) -> Iterator[tuple[float, float]]:
    """Yield (opens, closes) for ``days`` local days, from two days before ``at``; none for one that falls into a gap whole."""
    zone = _zone(window.time_zone)
    start, end = _minutes(window.start), _minutes(window.end)
    length = (end - start) % (24 * 60) or 24 * 60
    first = dt.datetime.fromtimestamp(at, zone).date() - dt.timedelta(days=2)
    for day in (first + dt.timedelta(days=number) for number in range(days + 1)):
        if _WEEK_DAYS[day.weekday()] in window.week_days:
            wall = dt.datetime.combine(day, dt.time(), zone) + dt.timedelta(minutes=start)
            opens, closes = _first(wall), _first(wall + dt.timedelta(minutes=length))
            if opens < closes:
                yield opens, closes


def _minutes(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def _zone(name: str) -> dt.tzinfo:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _utc_day(at: float) -> dt.date:
    return _EPOCH + dt.timedelta(days=at // DAY_S)


def _utc_midnight(day: dt.date) -> float:
    return float((day - _EPOCH).days * DAY_S)


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
    try:
        dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return "T" in text or " " in text
