from __future__ import annotations

import pytest

from tests.support.tar_blocks import base256
from windowsfilter.errors import FormatError
from windowsfilter.wire.tar.numbers import format_time, parse_decimal, parse_field, parse_time

# PAX text, nanoseconds since 1970; both directions. Go's archive/tar wrote these.
TIMES = {
    "0": 0,
    "1476000000.1234568": 1_476_000_000_123_456_800,
    "-2208988800": -2_208_988_800_000_000_000,
    "-1.5": -1_500_000_000,
    "-0.0000001": -100,
    "0.000000001": 1,
    "-11644473600": -11_644_473_600_000_000_000,
    "1833029933770.9551615": 1_833_029_933_770_955_161_500,
}


@pytest.mark.parametrize(("text", "ns"), TIMES.items(), ids=TIMES)
def test_times(text: str, ns: int) -> None:
    assert parse_time(text.encode(), "mtime", 0) == ns
    assert format_time(ns) == text.encode()


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"1.", 1_000_000_000),
        (b"+1.5", 1_500_000_000),
        (b"1.500000000", 1_500_000_000),
        (b"1.1234567899999", 1_123_456_789),
        (b"-0", 0),
        (b"-62135596800", -62_135_596_800_000_000_000),
        (b"9223372036854775807", 9_223_372_036_854_775_807_000_000_000),
        (b"000000000000000001", 1_000_000_000),
    ],
)
def test_times_that_others_write(text: bytes, ns: int) -> None:
    assert parse_time(text, "mtime", 0) == ns


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b".", b".5", b"-", b"1,5", b"1.-5", b"1_0", b" 1", b"1 ", b"1e3", b"--1", b"+-1"),
        *(b"9223372036854775808", b"1" * 100, b"\xd9\xa1"),
    ],
)
def test_texts_that_are_no_times(text: bytes) -> None:
    with pytest.raises(FormatError, match="mtime is not a time") as caught:
        parse_time(text, "mtime", 77)
    assert caught.value.offset == 77


@pytest.mark.parametrize("width", [8, 12])
def test_base_256_is_twos_complement_with_the_highest_bit_set(width: int) -> None:
    for value in (0, 1, 255, 1 << 40, -1, -256, -(1 << 40)):
        assert parse_field(base256(value, width), "size", 0) == value


def test_base_256_beyond_64_bits_is_refused() -> None:
    for value in (1 << 63, -(1 << 63) - 1, (1 << 90), -(1 << 90)):
        with pytest.raises(FormatError, match="64 bits"):
            parse_field(base256(value), "size", 0)


@pytest.mark.parametrize("text", [b"", b"+1", b"-1", b"1.0", b"0x1", b"1" * 21, b"1" * 5000])
def test_texts_that_are_no_decimals(text: bytes) -> None:
    with pytest.raises(FormatError, match="not a number|beyond 64 bits"):
        parse_decimal(text, "size", 0)


def test_decimals_end_at_63_bits() -> None:
    assert parse_decimal(b"9223372036854775807", "size", 0) == (1 << 63) - 1
    with pytest.raises(FormatError, match="64 bits"):
        parse_decimal(b"9223372036854775808", "size", 0)
