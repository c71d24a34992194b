"""When schedules fire: against a walk over every minute, and by hand on the days on which clocks are changed."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.manifests.schedules import HORIZON_S, cron_error, next_slot, slots
from tests.support.counting import calls_of

DAY_S = 86_400
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def epoch(text: str, zone: str = "UTC") -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def fired(spec: dict[str, Any], after: str, until: str, limit: int = 1_000) -> list[str]:
    """Slots between two local times, as clocks show them, with the offset."""
    zone = spec.get("timeZone", "UTC")
    found = slots(spec, epoch(after, zone), epoch(until, zone), limit)
    return [f"{dt.datetime.fromtimestamp(at, ZoneInfo(zone)):%m-%d %H:%M%z}" for at in found]


def cron(line: str, zone: str = "UTC") -> dict[str, Any]:
    return {"cron": line, "timeZone": zone}


# ---- the walker: an independent reading of the rules, one minute after the other


def allowed(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> set[int]:
    found = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        ends = [names.index(one) + low if one in names else int(one) for one in span.split("-")] if span != "*" else [low, high]
        last = ends[-1] if len(ends) == 2 or not step else high
        found |= {number for number in range(ends[0], last + 1) if (number - ends[0]) % int(step or 1) == 0}
    return found


class Walker:
    def __init__(self, line: str) -> None:
        minute, hour, dom, month, dow = line.lower().split()
        self.minutes, self.hours = allowed(minute, 0, 59), allowed(hour, 0, 23)
        self.days, self.months = allowed(dom, 1, 31), allowed(month, 1, 12, MONTHS)
        self.weekdays = {number % 7 for number in allowed(dow, 0, 7, DAYS)}
        self.either = dom[0] != "*" and dow[0] != "*"
        self.every_hour = hour[0] == "*" or len(self.hours) == 24

    def matches(self, wall: dt.datetime) -> bool:
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        named = (day or weekday) if self.either else (day and weekday)
        return named and wall.minute in self.minutes and wall.hour in self.hours and wall.month in self.months

    def slots(self, zone: str, after: float, until: float) -> Iterator[float]:
        tz, at = ZoneInfo(zone), after // 60 * 60
        shown = dt.datetime.fromtimestamp(at, tz)
        while (at := at + 60) <= until:
            before, shown = shown, dt.datetime.fromtimestamp(at, tz)
            wall = shown.replace(tzinfo=None, fold=0)
            fires = self.matches(wall) and (self.every_hour or shown.fold == 0)
            if not self.every_hour:
                skipped = before.replace(tzinfo=None, fold=0) + dt.timedelta(minutes=1)
                while skipped < wall:
                    fires = fires or self.matches(skipped)
                    skipped += dt.timedelta(minutes=1)
            if fires:
                yield at


def number(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(str)


def column(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    one = number(low, high) | st.sampled_from(names) if names else number(low, high)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda ends: f"{min(ends)}-{max(ends)}")
    part = st.one_of(
        one,
        span,
        st.builds("{}/{}".format, st.one_of(st.just("*"), span, number(low, high)), st.integers(1, high)),
    )
    return st.just("*") | st.lists(part, min_size=1, max_size=3).map(",".join)


LINES = st.builds("{} {} {} {} {}".format, column(0, 59), column(0, 23), column(1, 31), column(1, 12, MONTHS), column(0, 7, DAYS))
CHANGES = [
    ("Europe/Berlin", "2026-03-29T00:00"),
    ("Europe/Berlin", "2026-10-25T00:00"),
    ("America/New_York", "2026-03-08T00:00"),
    ("America/New_York", "2026-11-01T00:00"),
    ("Australia/Lord_Howe", "2026-04-05T00:00"),
    ("Australia/Lord_Howe", "2026-10-04T00:00"),
    ("America/St_Johns", "2010-03-14T00:00"),  # at 00:01
    ("America/St_Johns", "2010-11-07T00:00"),  # at 00:01, back into the day before
    ("America/Sao_Paulo", "2018-11-04T00:00"),  # midnight does not exist
    ("America/Sao_Paulo", "2018-02-18T00:00"),
    ("Antarctica/Troll", "2026-03-29T00:00"),  # two hours
    ("Antarctica/Troll", "2026-10-25T00:00"),
    ("Pacific/Apia", "2011-12-30T00:00"),  # a day that never was
    ("Pacific/Kwajalein", "1993-08-21T00:00"),
    ("Africa/Casablanca", "2026-02-15T00:00"),
    ("Asia/Kolkata", "2026-02-28T00:00"),
    ("UTC", "2028-02-28T12:34"),
]


@given(LINES, st.sampled_from(CHANGES), st.integers(0, 2 * DAY_S))
@example("0 2,3 * * *", CHANGES[0], 0)
@example("*/7 * * * *", CHANGES[7], 0)
@example("15 0-23 * * *", CHANGES[3], 0)
@example("59 23 * * *", CHANGES[7], 0)
@settings(max_examples=400, deadline=None)
def test_f1_schedules_fire_as_a_walk_over_every_minute_says(line: str, change: tuple[str, str], back: int) -> None:
    zone, day = change
    assert cron_error(line) == ""
    after = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp() - back
    until = after + 4 * DAY_S
    expected = list(Walker(line).slots(zone, after, until))
    assert slots(cron(line, zone), after, until, 10_000) == expected
    assert slots(cron(line, zone), after, until, 3) == expected[:3]
    if expected:
        assert next_slot(cron(line, zone), after) == expected[0]


@given(LINES, st.floats(0, 4e9), st.lists(st.integers(60, 3 * DAY_S), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_f1_slots_of_adjoining_spans_are_those_of_the_whole_so_none_fires_twice(
    line: str, start: float, steps: list[int]
) -> None:
    spec = cron(line, "America/New_York")
    bounds = list(itertools.accumulate(steps, initial=start))
    parts = [at for low, high in itertools.pairwise(bounds) for at in slots(spec, low, high, 20_000)]
    assert parts == slots(spec, bounds[0], bounds[-1], 20_000)
    assert parts == sorted(set(parts))


# ---- days on which clocks are changed


BERLIN = "Europe/Berlin"
DST = [
    # Berlin, 29 March: 02:00 +01:00 → 03:00 +02:00
    (cron("30 2 * * *", BERLIN), "2026-03-28", "2026-03-31", ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]),
    (cron("0,30 2 * * *", BERLIN), "2026-03-29", "2026-03-30", ["03-29 03:00+0200"]),
    (cron("0 2,3 * * *", BERLIN), "2026-03-29", "2026-03-30", ["03-29 03:00+0200"]),
    (
        cron("30 * * * *", BERLIN),
        "2026-03-29",
        "2026-03-29T05:00",
        ["03-29 00:30+0100", "03-29 01:30+0100", "03-29 03:30+0200", "03-29 04:30+0200"],
    ),
    (cron("0 */2 * * *", BERLIN), "2026-03-29", "2026-03-29T05:00", ["03-29 04:00+0200"]),
    # Berlin, 25 October: 03:00 +02:00 → 02:00 +01:00
    (cron("30 2 * * *", BERLIN), "2026-10-24", "2026-10-27", ["10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100"]),
    (cron("0 3 * * *", BERLIN), "2026-10-25", "2026-10-26", ["10-25 03:00+0100"]),
    (
        cron("30 * * * *", BERLIN),
        "2026-10-25T01:00",
        "2026-10-25T04:00",
        ["10-25 01:30+0200", "10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"],
    ),
    ({"type": "daily", "daily": {"time": "02:30"}, "timeZone": BERLIN}, "2026-10-25", "2026-10-26", ["10-25 02:30+0200"]),
    (
        {"type": "hourly", "hourly": {"minute": 15}, "timeZone": BERLIN},
        "2026-10-25T02:00",
        "2026-10-25T04:00",
        ["10-25 02:15+0200", "10-25 02:15+0100", "10-25 03:15+0100"],
    ),
    (
        {"type": "weekly", "weekly": {"weekDay": "Sunday", "time": "02:15"}, "timeZone": BERLIN},
        "2026-03-22T12:00",
        "2026-04-06",
        ["03-29 03:00+0200", "04-05 02:15+0200"],
    ),
    # New York, 8 March: 02:00 -05:00 → 03:00 -04:00; 1 November: 02:00 -04:00 → 01:00 -05:00
    (cron("15 2 * * *", "America/New_York"), "2026-03-08", "2026-03-09", ["03-08 03:00-0400"]),
    (cron("30 1 * * *", "America/New_York"), "2026-11-01", "2026-11-02", ["11-01 01:30-0400"]),
    (
        cron("0 * * * *", "America/New_York"),
        "2026-11-01",
        "2026-11-01T03:00",
        ["11-01 01:00-0400", "11-01 01:00-0500", "11-01 02:00-0500", "11-01 03:00-0500"],
    ),
    # Lord Howe: half an hour. 4 October: 02:00 +10:30 → 02:30 +11:00; 5 April: 02:00 +11:00 → 01:30 +10:30
    (cron("10 2 * * *", "Australia/Lord_Howe"), "2026-10-04", "2026-10-05", ["10-04 02:30+1100"]),
    (cron("45 2 * * *", "Australia/Lord_Howe"), "2026-10-04", "2026-10-05", ["10-04 02:45+1100"]),
    (
        cron("*/15 * * * *", "Australia/Lord_Howe"),
        "2026-10-04T01:30",
        "2026-10-04T03:00",
        ["10-04 01:45+1030", "10-04 02:30+1100", "10-04 02:45+1100", "10-04 03:00+1100"],
    ),
    (cron("45 1 * * *", "Australia/Lord_Howe"), "2026-04-05", "2026-04-06", ["04-05 01:45+1100"]),
    (
        cron("*/15 * * * *", "Australia/Lord_Howe"),
        "2026-04-05T01:00",
        "2026-04-05T02:00",
        [f"04-05 {at}" for at in ("01:15+1100", "01:30+1100", "01:45+1100", "01:30+1030", "01:45+1030", "02:00+1030")],
    ),
    # Kolkata: half an hour off, and never changed
    (cron("30 2 * * *", "Asia/Kolkata"), "2026-03-28", "2026-03-30", ["03-28 02:30+0530", "03-29 02:30+0530"]),
    (
        cron("0 */8 * * *", "Asia/Kolkata"),
        "2026-10-25",
        "2026-10-26",
        ["10-25 08:00+0530", "10-25 16:00+0530", "10-26 00:00+0530"],
    ),
    # Samoa left out 30 December 2011
    (cron("0 9 * * *", "Pacific/Apia"), "2011-12-29", "2012-01-01", ["12-29 09:00-1000", "12-31 00:00+1400", "12-31 09:00+1400"]),
]


@pytest.mark.parametrize(("spec", "after", "until", "expected"), DST)
def test_f1_a_time_that_clocks_skip_or_show_twice_fires_as_documented(
    spec: dict[str, Any], after: str, until: str, expected: list[str]
) -> None:
    assert fired(spec, after, until) == expected


# ---- what a line means


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 9 * * 1-5", ["06-01", "06-02", "06-03", "06-04", "06-05", "06-08"]),
        ("0 9 * * mon,WED", ["06-01", "06-03", "06-08", "06-10", "06-15", "06-17"]),
        ("0 9 * * 7", ["06-07", "06-14", "06-21", "06-28", "07-05", "07-12"]),
        ("0 9 * * 0", ["06-07", "06-14", "06-21", "06-28", "07-05", "07-12"]),
        ("0 9 * * 5-7", ["06-05", "06-06", "06-07", "06-12", "06-13", "06-14"]),
        ("0 9 13 * 5", ["06-05", "06-12", "06-13", "06-19", "06-26", "07-03"]),  # either
        ("0 9 */10 * 1", ["06-01", "08-31", "09-21", "12-21", "01-11", "02-01"]),  # both
        ("0 9 1,15 jul-aug *", ["07-01", "07-15", "08-01", "08-15", "07-01", "07-15"]),
        ("0 9 31 * *", ["07-31", "08-31", "10-31", "12-31", "01-31", "03-31"]),
        ("0 9 25/3 6 *", ["06-25", "06-28", "06-25", "06-28", "06-25", "06-28"]),
        ("0 9 29 2 *", ["02-29"] * 6),
        ("0 9 1 1 *", ["01-01"] * 6),
    ],
)
def test_a_line_fires_on_the_days_that_it_names(line: str, expected: list[str]) -> None:
    found = slots(cron(line), epoch("2026-06-01"), epoch("2060-01-01"), 6)
    assert [f"{dt.datetime.fromtimestamp(at, dt.UTC):%m-%d}" for at in found] == expected
    assert all(at % DAY_S == 9 * 3600 for at in found)


def test_the_span_begins_after_its_start_and_includes_its_end() -> None:
    spec, noon = cron("0 12 * * *"), epoch("2026-06-01T12:00")
    assert slots(spec, noon - 1, noon, 10) == [noon]
    assert slots(spec, noon, noon + DAY_S, 10) == [noon + DAY_S]
    assert slots(spec, noon, noon + DAY_S - 1, 10) == []
    assert slots(spec, noon, noon - 5, 10) == slots(spec, noon - 1, noon, 0) == []
    assert next_slot(spec, noon) == noon + DAY_S


def test_superplanes_forms_are_cron_lines() -> None:
    for spec, line in (
        ({"type": "hourly", "hourly": {"minute": 7}}, "7 * * * *"),
        ({"type": "daily", "daily": {"time": "09:05"}}, "5 9 * * *"),
        ({"type": "weekly", "weekly": {"weekDay": "Sunday", "time": "23:59"}}, "59 23 * * 0"),
        ({"type": "weekly", "weekly": {"weekDay": "Saturday", "time": "00:00"}}, "0 0 * * sat"),
    ):
        assert slots(spec, 1.7e9, 1.71e9, 500) == slots({"cron": line}, 1.7e9, 1.71e9, 500) != []


def test_a_day_that_never_comes_has_no_slot_and_the_rarest_one_has() -> None:
    assert next_slot(cron("0 0 31 2 *"), 1.8e9) is None
    assert next_slot(cron("0 0 30 2 *", BERLIN), 1.8e9) is None
    assert next_slot(cron("0 0 31 4,6,9,11 *"), 1.8e9) is None
    leap = epoch("2096-02-29")
    assert next_slot(cron("0 0 29 2 *"), leap) == epoch("2104-02-29") <= leap + HORIZON_S


def test_a_wrong_line_is_refused_with_its_fault_and_never_walked() -> None:
    assert cron_error("* * * *") == "a cron line has five fields, not 4"
    assert cron_error("60 * * * *") == "the minute of the cron line is not 0 to 59"
    assert cron_error("0 0 0 * *") == "the day of the cron line is not 1 to 31"
    assert cron_error("0 0 1-2-3 * *") == "the day of the cron line is not 1 to 31"
    assert cron_error("0 0 , * *") == "the day of the cron line is not 1 to 31"
    assert cron_error("*/0 * * * *") == "the step of the minute of the cron line is not 1 to 59"
    assert cron_error("0 0 * * fri-mon") == "the range of the weekday of the cron line ends before it begins"
    with pytest.raises(ValueError, match="five fields"):
        next_slot(cron("@daily"), 0.0)


def test_looking_years_ahead_walks_days_and_not_minutes() -> None:
    for line in ("0 0 31 2 *", "0 0 29 2 *", "* * 31 2 *", "* * * * *"):
        assert calls_of(lambda line=line: next_slot(cron(line, BERLIN), 4.1e9)) < 50_000, line  # type: ignore[misc]
