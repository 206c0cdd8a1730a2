"""Sizes and times for people.

Sizes are binary (1 KiB = 1024 bytes). Times are shown in UTC, like Windows stores them, because what
a layer says must not depend on who looks. FILETIME reaches the year 30828, which `datetime` does
not, so the calendar is computed here.
"""

from __future__ import annotations

from windowsfilter.ntfs import filetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_TICKS_PER_S = 10_000_000
_S_PER_DAY = 86_400
_DAYS_0000_TO_1601 = 584_694  # from 0000-03-01, where the calendar of `_civil` begins
_DAYS_PER_ERA = 146_097  # 400 years
NO_TIME = "-"


def size(count: int) -> str:
    """`999 B`, `1.5 KiB`, `12 MiB`: three digits at most, then the next unit."""
    if abs(count) < 1000:
        return f"{count} B"
    value, power = count / 1024, 0
    while abs(value) >= 999.5:
        value, power = value / 1024, power + 1
    digits = 1 if abs(value) < 9.95 else 0
    return f"{value:.{digits}f} {_UNITS[power]}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `2 layers`, `1,234 entries`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def time(ticks: int) -> str:
    """A FILETIME to the second, UTC: `2021-05-07 10:00:00`; `-` for 0, which means "not known"."""
    if ticks <= 0:
        return NO_TIME
    seconds = ticks // _TICKS_PER_S
    days, second = divmod(seconds, _S_PER_DAY)
    year, month, day = _civil(days)
    return (
        f"{year:04}-{month:02}-{day:02} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    )


def exact_time(ticks: int) -> str:
    """A FILETIME with all seven digits: `2021-05-07 10:00:00.1234567 UTC`; `-` for 0."""
    if ticks <= 0:
        return NO_TIME
    return f"{time(ticks)}.{ticks % _TICKS_PER_S:07} UTC"


def unix_time(ns: int) -> str:
    """Nanoseconds since 1970 like `time`."""
    return time(ns // 100 + filetime.UNIX_EPOCH)


def _civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a number of days since 1601-01-01 in the Gregorian calendar.

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
