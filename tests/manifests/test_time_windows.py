"""When a stage's time window is open, and when it opens next."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifests.kinds import TimeWindowSpec
from reconciler.manifests.schedules import in_window, next_opening, slots
from reconciler.model.codec import from_json

WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia")


def window(start: str, end: str, *days: str, zone: str | None = "UTC") -> TimeWindowSpec:
    block = {"start": start, "end": end, "weekDays": list(days or WEEK), "timeZone": zone}
    return from_json(TimeWindowSpec, {name: value for name, value in block.items() if value is not None})


def epoch(text: str, zone: str = "UTC", *, fold: int = 0) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


OFFICE = window("09:00", "17:00", "Monday", "Tuesday")
NIGHT = window("22:00", "06:00", "Friday")
WHOLE = window("00:00", "00:00", "Wednesday")
LATE_DAY = window("18:00", "18:00", "Friday")


@pytest.mark.parametrize(
    ("one", "at", "is_open"),
    [  # 1 June 2026 is a Monday
        (OFFICE, "2026-06-01T08:59:59", False),
        (OFFICE, "2026-06-01T09:00:00", True),  # the start belongs to it
        (OFFICE, "2026-06-01T16:59:59", True),
        (OFFICE, "2026-06-01T17:00:00", False),  # the end does not
        (OFFICE, "2026-06-03T12:00:00", False),
        (NIGHT, "2026-06-05T21:59:59", False),
        (NIGHT, "2026-06-05T22:00:00", True),
        (NIGHT, "2026-06-06T05:59:59", True),  # Saturday, and only Friday is listed
        (NIGHT, "2026-06-06T06:00:00", False),
        (NIGHT, "2026-06-06T22:00:00", False),
        (NIGHT, "2026-06-05T03:00:00", False),  # Thursday's night is not Friday's
        (WHOLE, "2026-06-02T23:59:59", False),
        (WHOLE, "2026-06-03T00:00:00", True),
        (WHOLE, "2026-06-03T23:59:59", True),
        (WHOLE, "2026-06-04T00:00:00", False),
        (LATE_DAY, "2026-06-05T17:59:59", False),
        (LATE_DAY, "2026-06-05T18:00:00", True),
        (LATE_DAY, "2026-06-06T17:59:59", True),
        (LATE_DAY, "2026-06-06T18:00:00", False),
    ],
)
def test_the_start_is_inside_the_end_is_not_and_a_night_belongs_to_its_evening(one: Any, at: str, is_open: bool) -> None:
    assert in_window(one, epoch(at)) is is_open


def test_the_zone_is_the_windows_own_and_utc_without_one() -> None:
    berlin = window("09:00", "17:00", zone="Europe/Berlin")
    assert in_window(berlin, epoch("2026-06-01T07:00"))
    assert in_window(berlin, epoch("2026-12-01T08:00"))
    assert not in_window(berlin, epoch("2026-12-01T07:59"))
    plain = window("09:00", "17:00", zone=None)
    assert not in_window(plain, epoch("2026-06-01T07:00"))


@pytest.mark.parametrize(
    ("one", "at", "opens"),
    [
        (OFFICE, "2026-06-01T08:00", "2026-06-01T09:00"),
        (OFFICE, "2026-06-01T12:00", "2026-06-01T12:00"),  # open: now
        (OFFICE, "2026-06-01T17:00", "2026-06-02T09:00"),
        (OFFICE, "2026-06-02T17:00", "2026-06-08T09:00"),
        (NIGHT, "2026-06-06T06:00", "2026-06-12T22:00"),
        (WHOLE, "2026-06-04T00:00", "2026-06-10T00:00"),
    ],
)
def test_the_next_opening_is_now_or_the_next_start(one: Any, at: str, opens: str) -> None:
    assert next_opening(one, epoch(at)) == epoch(opens)


def test_f1_a_window_whose_start_is_skipped_opens_after_the_gap() -> None:
    one = window("02:15", "04:00", zone="Europe/Berlin")
    opens = epoch("2026-03-29T03:00", "Europe/Berlin")
    assert next_opening(one, epoch("2026-03-29T01:00", "Europe/Berlin")) == opens
    assert not in_window(one, opens - 1)
    assert in_window(one, opens)


def test_f1_a_window_that_is_skipped_whole_does_not_open_that_day() -> None:
    one = window("02:00", "02:30", "Sunday", zone="Europe/Berlin")
    start = epoch("2026-03-29T00:00", "Europe/Berlin")
    assert next_opening(one, start) == epoch("2026-04-05T02:00", "Europe/Berlin")
    assert not any(in_window(one, start + second) for second in range(0, 86_400, 60))


def test_f1_a_window_in_an_hour_that_comes_twice_opens_once() -> None:
    one = window("02:00", "02:30", zone="Europe/Berlin")
    assert in_window(one, epoch("2026-10-25T02:10", "Europe/Berlin", fold=0))
    assert not in_window(one, epoch("2026-10-25T02:10", "Europe/Berlin", fold=1))
    around = window("01:00", "04:00", zone="Europe/Berlin")
    assert all(in_window(around, epoch("2026-10-25T02:30", "Europe/Berlin", fold=fold)) for fold in (0, 1))


TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))


@given(
    TIMES, TIMES, st.sets(st.sampled_from(WEEK), min_size=1), st.sampled_from(ZONES), st.integers(1_200_000_000, 1_900_000_000)
)
@settings(max_examples=300, deadline=None)
def test_f1_a_window_opens_and_closes_when_schedules_of_its_times_fire(
    start: str, end: str, days: set[str], zone: str, at: int
) -> None:
    one = window(start, end, *sorted(days), zone=zone)
    opens = next_opening(one, at)
    assert opens >= at
    assert in_window(one, opens)
    if opens == at:
        return
    assert not in_window(one, at)
    assert not in_window(one, opens - 1)
    starts = [s for day in days for s in slots(weekly(day, start, zone), opens - 1, opens, 1)]
    assert starts == [opens]


def weekly(day: str, time: str, zone: str) -> dict[str, Any]:
    return {"type": "weekly", "weekly": {"weekDay": day, "time": time}, "timeZone": zone}
