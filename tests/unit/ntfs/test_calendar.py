"""Times as text: what `stat` prints is what `touch` reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import calendar, filetime

EPOCH = datetime(1601, 1, 1, tzinfo=UTC)

TEXTS = {
    "1601-01-01 00:00:00.0000001": 1,
    "1970-01-01 00:00:00.0000000": filetime.UNIX_EPOCH,
    "2021-05-07 10:00:00.1234567": 132_648_552_001_234_567,
    "30828-09-14 02:48:05.4775807": filetime.MAX,
}


@pytest.mark.parametrize(("text", "time"), TEXTS.items())
def test_text_and_time_are_one(text: str, time: int) -> None:
    assert calendar.to_text(time) == text
    assert calendar.from_text(text) == time


@given(st.integers(1, filetime.MAX))
def test_any_time_comes_back(time: int) -> None:
    assert calendar.from_text(calendar.to_text(time)) == time
    assert calendar.from_text(calendar.to_text(time) + " UTC") == time


@given(st.datetimes(datetime(1601, 1, 2), datetime(9999, 12, 30)))  # noqa: DTZ001  # hypothesis wants it
def test_days_are_those_of_the_gregorian_calendar(moment: datetime) -> None:
    ticks = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) * 10
    assert calendar.from_text(moment.isoformat(sep=" ")) == ticks


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("2021-05-07", "2021-05-07 00:00:00.0000000"),
        ("2021-05-07 10:00", "2021-05-07 10:00:00.0000000"),
        ("2021-05-07T10:00:00Z", "2021-05-07 10:00:00.0000000"),
        ("2021-05-07 10:00:00.12 utc", "2021-05-07 10:00:00.1200000"),
        ("2021-05-07 01:30+02:00", "2021-05-06 23:30:00.0000000"),
        ("2021-05-07 23:30 -0130", "2021-05-08 01:00:00.0000000"),
        (" 2020-02-29 ", "2020-02-29 00:00:00.0000000"),
    ],
)
def test_shorter_forms_and_zones_are_understood(text: str, full: str) -> None:
    assert calendar.to_text(calendar.from_text(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2021", "2021-5-7", "2021-13-01", "2021-02-29", "2021-05-07 24:00", "2021-05-07 10:60",
        "2021-05-07 10:00:60", "2021-05-07 10:00:00.12345678", "2021-05-07x", "1601-01-01", "1600-12-31",
        "30828-09-15", "99999-01-01", "٢٠٢١-05-07", "2021-05-07 10:00+2", "2021-05-07+02:00", "1" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        calendar.from_text(text)
