"""Times of tar entries as FILETIME and back, rightly or as the reference computes them.

The reference counts nanoseconds since 1970 in 64 bits, so what is before 1677 or after 2262 comes
out as some other time, and a missing time is Go's zero time, of the year 1, computed that way.
Source: FileInfoFromHeader and BasicInfoHeader of go-winio's backuptar; Go's time.UnixNano.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from windowsfilter.ntfs.filetime import UNIX_EPOCH, to_unix_ns
from windowsfilter.wire.tar import ZERO_TIME_NS

_U64 = (1 << 64) - 1
_SIGN = 1 << 63


def _wrapped(number: int) -> int:
    """A number as Go's int64 holds it."""
    number &= _U64
    return number - (1 << 64) if number & _SIGN else number


def go_filetime(ns: int | None) -> int:
    """The FILETIME that the reference makes of nanoseconds since 1970; None is no time at all."""
    ns = _wrapped(ZERO_TIME_NS if ns is None else ns)
    ticks = ns // 100 if ns >= 0 else -(-ns // 100)
    return (ticks + UNIX_EPOCH) & _U64


def go_unix_ns(filetime: int) -> int:
    """The nanoseconds since 1970 that the reference makes of a FILETIME."""
    return _wrapped(_wrapped(to_unix_ns(_wrapped(filetime))))


@dataclass(frozen=True, slots=True)
class Clock:
    """How an exporter and an importer of one mode tell the time."""

    unix_ns: Callable[[int], int]
    filetime: Callable[[int], int]
    """Its inverse, as far as FILETIME goes."""
    missing: int | None
    """The FILETIME of a time that a tar does not have; None: the write time."""


def nearest_filetime(ns: int) -> tuple[int, bool]:
    """The FILETIME nearest to a time, and whether that is another time."""
    ticks = ns // 100 if ns >= 0 else -(-ns // 100)
    filetime = ticks + UNIX_EPOCH
    nearest = min(max(filetime, 0), _U64)
    return nearest, nearest != filetime


CORRECT_CLOCK = Clock(to_unix_ns, lambda ns: nearest_filetime(ns)[0], None)
GO_CLOCK = Clock(go_unix_ns, go_filetime, go_filetime(None))
