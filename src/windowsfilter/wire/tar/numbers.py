"""The ways tar writes a number: octal text, base 256, decimal text, decimal time.

Bytes in, exact integers out; anything that is not exactly such a number is a FormatError.
Python's own `int` is too kind for input from outside (underscores, signs, `0o`, spaces in
the middle, thousands of digits), so digits are checked first. Source: POSIX pax, GNU tar's
manual ("Basic Tar Format"), Go's archive/tar (strconv.go) for what is tolerated.
"""

from __future__ import annotations

from typing import Final

from windowsfilter.errors import FormatError

NS: Final = 1_000_000_000
INT64_MAX: Final = (1 << 63) - 1
_MAX_DIGITS = 20  # enough for 64 bits; bounds the work that int() does
# Factor that makes nanoseconds of a number whose fraction has this many digits.
_SCALE: Final[tuple[int, ...]] = tuple(10 ** (9 - digits) for digits in range(10))


def parse_field(field: bytes, what: str, at: int) -> int:
    """A numeric header field: octal text, or base 256 (two's complement) if bit 7 is set.

    An empty field is 0. Leading spaces, and spaces and NULs at the end, are historic and
    fine. Beyond 64 bits is an error, and so is a negative number in the caller's hands.
    """
    if field[0] & 0x80:
        # Bit 6 is the sign; bit 7 only marks the format.
        value = int.from_bytes(field, "big") & (1 << (8 * len(field) - 1)) - 1
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if not -INT64_MAX - 1 <= value <= INT64_MAX:
            raise FormatError(f"{what} beyond 64 bits", offset=at)
        return value
    # Like the reference: trim both ends of spaces and NULs, then stop at the first NUL.
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise FormatError(f"{what} is not a number: {field!r}", offset=at)


def parse_decimal(text: bytes, what: str, at: int) -> int:
    """An unsigned decimal of at most 63 bits, as PAX records have it."""
    if not text.isdigit():
        raise FormatError(f"{what} is not a number: {text[:40]!r}", offset=at)
    value = _digits(text)
    if value > INT64_MAX:
        raise FormatError(f"{what} beyond 64 bits", offset=at)
    return value


def parse_signed(text: bytes, what: str, at: int) -> int:
    """A decimal of 64 bits with or without a sign, as the reference takes it for an unsigned one."""
    digits = text[text[:1] in (b"-", b"+") :]
    value = _digits(digits) if digits.isdigit() else INT64_MAX + 2
    if text.startswith(b"-"):
        value = -value
    if not -INT64_MAX - 1 <= value <= INT64_MAX:
        raise FormatError(f"{what} is not a number of 64 bits: {text[:40]!r}", offset=at)
    return value


def _digits(text: bytes) -> int:
    """The number that digits make; of very many, only that it is far too large."""
    digits = text.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _MAX_DIGITS else 1 << 64


def parse_time(text: bytes, what: str, at: int) -> int:
    """A PAX time, `[+-]digits[.digits]`, as nanoseconds since 1970.

    The first nine digits of the fraction count, the others are cut. For a leading `-` the
    fraction is subtracted too: `-1.5` is 1.5 s before 1970. Seconds must fit 64 bits.
    """
    whole, _, fraction = text.partition(b".")
    digits = whole + fraction
    if whole and len(fraction) <= 9 and len(digits) < 19 and digits.isdigit():
        return int(digits) * _SCALE[len(fraction)]  # nearly every time there is
    negative = text.startswith(b"-")
    whole, _, fraction = text[text[:1] in (b"-", b"+") :].partition(b".")
    seconds = _digits(whole) if whole.isdigit() else INT64_MAX + 2
    if seconds > INT64_MAX + negative or (fraction and not fraction.isdigit()):
        raise FormatError(f"{what} is not a time: {text[:40]!r}", offset=at)
    ns = seconds * NS + int(fraction[:9].ljust(9, b"0"))
    return -ns if negative else ns


def format_time(ns: int) -> bytes:
    """A PAX time: seconds, and if there is a fraction `.` and its digits without final zeros.

    Negative times are sign and magnitude: -1.5 s is `-1.5`, -100 ns is `-0.0000001`.
    """
    seconds, fraction = divmod(abs(ns), NS)
    sign = b"-" if ns < 0 else b""
    if not fraction:
        return b"%s%d" % (sign, seconds)
    return b"%s%d.%s" % (sign, seconds, (b"%09d" % fraction).rstrip(b"0"))
