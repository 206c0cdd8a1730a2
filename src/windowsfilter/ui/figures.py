"""Sizes and times for people.

Sizes are binary (1 KiB = 1024 bytes). Times are shown in UTC, like Windows stores them, because what
a layer says must not depend on who looks.
"""

from __future__ import annotations

from windowsfilter.ntfs import calendar, filetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
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
    return calendar.to_text(ticks).partition(".")[0]


def exact_time(ticks: int) -> str:
    """A FILETIME with all seven digits: `2021-05-07 10:00:00.1234567 UTC`; `-` for 0."""
    if ticks <= 0:
        return NO_TIME
    return f"{calendar.to_text(ticks)} UTC"


def unix_time(ns: int) -> str:
    """Nanoseconds since 1970 like `time`."""
    return time(ns // 100 + filetime.UNIX_EPOCH)
