import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.filetime import UNIX_EPOCH

# (FILETIME, PAX text), both directions.
TIMES = {
    "1970": (UNIX_EPOCH, b"0"),
    "100 ns digit": (UNIX_EPOCH + 14760000001234568, b"1476000000.1234568"),
    "1601": (0, b"-11644473600"),
    "one tick after 1601": (1, b"-11644473599.9999999"),
    "a tick before 1970": (UNIX_EPOCH - 1, b"-0.0000001"),
    "1.5 s before 1970": (UNIX_EPOCH - 15_000_000, b"-1.5"),
    "1900": (94354848000000000, b"-2208988800"),
    "2300, beyond Go's nanoseconds": (220582656000000000, b"10413792000"),
    "last": (filetime.MAX, b"910692730085.4775807"),
}


@pytest.mark.parametrize(("ticks", "text"), TIMES.values(), ids=TIMES)
def test_times_go_through_pax_exactly(ticks, text):
    assert filetime.format_pax_time(ticks) == text
    assert filetime.from_unix_ns(filetime.parse_pax_time(text)) == ticks


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"+1", 10**9),
        (b"1.", 10**9),
        (b"-0.5", -(10**9) // 2),
        (b"0.1234567899", 123456789),
        (b"-1.25", -1_250_000_000),
        (b"007", 7 * 10**9),
    ],
)
def test_pax_times_may_be_spelled_otherwise(text, ns):
    assert filetime.parse_pax_time(text) == ns


@pytest.mark.parametrize(
    "text",
    [b"", b"-", b".5", b"1.x", b"1e3", b" 1", b"1\n", b"1,5", b"9223372036854775808", b"1" * 5000],
)
def test_other_pax_times_are_refused(text):
    with pytest.raises(FormatError):
        filetime.parse_pax_time(text)


@pytest.mark.parametrize("ns", [-(10**9) * 11644473601, 100 * (2**63 - UNIX_EPOCH)])
def test_times_without_filetime_are_refused(ns):
    with pytest.raises(FormatError, match="no FILETIME"):
        filetime.from_unix_ns(ns)


def test_nanoseconds_are_cut_toward_1970():
    assert filetime.from_unix_ns(199) == UNIX_EPOCH + 1
    assert filetime.from_unix_ns(-199) == UNIX_EPOCH - 1
