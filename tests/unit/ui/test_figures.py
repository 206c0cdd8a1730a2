from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.ntfs import filetime
from windowsfilter.ui import figures

EPOCH = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
LAST_OF_PYTHON = (dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC) - EPOCH) // dt.timedelta(
    seconds=1
)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1_264_000_000, "1.2 GiB"),
        (-2048, "-2.0 KiB"),
        (2**63, "8.0 EiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert figures.size(count) == shown


def test_counts_agree_with_their_nouns() -> None:
    assert figures.count(1, "layer") == "1 layer"
    assert figures.count(2, "layer") == "2 layers"
    assert figures.count(1234, "entry", "entries") == "1,234 entries"


@given(st.integers(1, LAST_OF_PYTHON * 10**7))
def test_times_are_those_of_the_calendar(ticks: int) -> None:
    expected = EPOCH + dt.timedelta(seconds=ticks // 10**7)
    assert figures.time(ticks) == expected.replace(tzinfo=None).isoformat(" ")


@pytest.mark.parametrize(
    ("ticks", "shown"),
    [
        (0, "-"),
        (1, "1601-01-01 00:00:00.0000001 UTC"),
        (filetime.UNIX_EPOCH, "1970-01-01 00:00:00.0000000 UTC"),
        (filetime.UNIX_EPOCH + 9_517_824_001_234_567, "2000-02-29 00:00:00.1234567 UTC"),
        (filetime.MAX, "30828-09-14 02:48:05.4775807 UTC"),
    ],
)
def test_exact_times_keep_all_digits_up_to_the_last_filetime(ticks: int, shown: str) -> None:
    assert figures.exact_time(ticks) == shown


def test_times_of_the_store_are_shown_like_those_of_files() -> None:
    assert figures.unix_time(1_620_381_600 * 10**9 + 999) == "2021-05-07 10:00:00"
