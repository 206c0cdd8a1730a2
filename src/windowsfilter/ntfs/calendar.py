"""FILETIME as people write it: `2021-05-07 10:00:00.1234567 UTC`, exact, both ways.

FILETIME reaches the year 30828, which `datetime` does not, so the calendar is computed here. It is the
Gregorian one, without leap seconds, as Windows has it.
"""

from __future__ import annotations

import re

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import filetime

_TICKS_PER_S = 10_000_000
_S_PER_DAY = 86_400
_DAYS_0000_TO_1601 = 584_694  # from 0000-03-01, where the calendar of `_civil` begins
_DAYS_PER_ERA = 146_097  # 400 years

_TEXT = re.compile(
    r"(\d{4,5})-(\d\d)-(\d\d)"
    r"(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?(?: ?(UTC|Z|[+-]\d\d:?\d\d))?)?\Z",
    re.ASCII | re.IGNORECASE,
)


def to_text(time: int) -> str:
    """`2021-05-07 10:00:00.1234567`: the time of a FILETIME in UTC, all seven digits."""
    seconds, fraction = divmod(time, _TICKS_PER_S)
    days, second = divmod(seconds, _S_PER_DAY)
    year, month, day = _civil(days)
    return (
        f"{year:04}-{month:02}-{day:02} "
        f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{fraction:07}"
    )


def from_text(text: str) -> int:
    """The FILETIME of a time as `to_text` writes it, or shorter, or ISO 8601: UTC unless it says so.

    Missing digits are zeros. Raises FormatError for anything else, for days that do not exist, and for
    times before 1601 or after year 30828.
    """
    found = _TEXT.match(text.strip())
    if found is None:
        raise FormatError(f"no time: {text[:60]!r}; write 2021-05-07 10:00:00.1234567")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        raise FormatError(f"no time of any day: {text[:60]!r}")
    days = _days(year, month, day)
    if _civil(days) != (year, month, day):
        raise FormatError(f"no day of any month: {text[:60]!r}")
    seconds = days * _S_PER_DAY + hour * 3600 + minute * 60 + second - _offset_s(found[8])
    time = seconds * _TICKS_PER_S + int((found[7] or "").ljust(7, "0"))
    if not 0 < time <= filetime.MAX:
        raise FormatError(f"a time that Windows cannot hold: {text[:60]!r}")
    return time


def _offset_s(zone: str | None) -> int:
    if zone is None or zone.upper() in ("UTC", "Z"):
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return minutes * 60 if zone[0] == "+" else -minutes * 60


def _civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a number of days since 1601-01-01.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    """
    era, day_of_era = divmod(days + _DAYS_0000_TO_1601, _DAYS_PER_ERA)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def _days(year: int, month: int, day: int) -> int:
    """Days since 1601-01-01; undoes `_civil`. Source: the same, days_from_civil."""
    if month <= 2:
        year -= 1
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_PER_ERA + day_of_era - _DAYS_0000_TO_1601
