"""FILETIME, and the decimal times of PAX records.

A FILETIME is an int: 100 ns since 1601-01-01 UTC. Nothing goes through floating point, which would
lose the last digits. Sources: MS-DTYP 2.3.3; POSIX pax "extended header keywords"; the rules of
Go's archive/tar (parsePAXTime, formatPAXTime), which writes the layers of the world.
"""

from __future__ import annotations

import re

from windowsfilter.errors import FormatError

UNIX_EPOCH = 116_444_736_000_000_000
"""1970-01-01 as FILETIME."""
MAX = 2**63 - 1
"""The last FILETIME that Windows takes: year 30828."""

_NS = 1_000_000_000
_PAX_TIME = re.compile(rb"([+-]?)([0-9]+)(?:\.([0-9]*))?\Z")
_MAX_DIGITS = 400  # no writer needs more; int() of endless digits would take quadratic time
_INT64 = 2**63


def from_unix_ns(ns: int) -> int:
    """FILETIME of nanoseconds since 1970, cut toward 1970 as the reference importer does.

    Raises FormatError before 1601 and after year 30828.
    """
    ticks = ns // 100 if ns >= 0 else -(-ns // 100)
    filetime = ticks + UNIX_EPOCH
    if not 0 <= filetime <= MAX:
        raise FormatError(f"time {format_pax_ns(ns).decode()} has no FILETIME")
    return filetime


def to_unix_ns(filetime: int) -> int:
    """Nanoseconds since 1970, exact."""
    return (filetime - UNIX_EPOCH) * 100


def parse_pax_time(text: bytes) -> int:
    """Nanoseconds since 1970 of a PAX time; digits after the ninth of the fraction are cut.

    Raises FormatError for anything but `[+-]digits[.digits]` with 64-bit seconds.
    """
    found = _PAX_TIME.match(text) if len(text) <= _MAX_DIGITS else None
    if found is None:
        raise FormatError(f"not a PAX time: {text[:40]!r}")
    sign, whole, fraction = found.groups()
    seconds = int(whole)
    if seconds >= _INT64:
        raise FormatError(f"PAX time out of range: {text[:40]!r}")
    ns = seconds * _NS
    if fraction:
        ns += int(fraction[:9].ljust(9, b"0"))
    return -ns if sign == b"-" else ns


def format_pax_time(filetime: int) -> bytes:
    """The PAX time of a FILETIME, as short as it is exact: `1476000000.1234568`, `-11644473600`."""
    return format_pax_ns(to_unix_ns(filetime))


def format_pax_ns(ns: int) -> bytes:
    """The PAX time of nanoseconds since 1970. Before 1970: a sign and the magnitude."""
    sign = "-" if ns < 0 else ""
    seconds, fraction = divmod(abs(ns), _NS)
    if not fraction:
        return f"{sign}{seconds}".encode()
    return f"{sign}{seconds}.{fraction:09}".rstrip("0").encode()
