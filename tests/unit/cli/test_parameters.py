from __future__ import annotations

import os

import click
import pytest

from windowsfilter.cli.parameters import PATH, SIZE


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("12B", 12),
        ("64K", 65_536),
        ("64k", 65_536),
        ("64KiB", 65_536),
        ("64 Ki", 65_536),
        ("64kB", 64_000),
        ("1.5G", 3 * 2**29),
        ("1.5GB", 1_500_000_000),
        ("0.25MiB", 262_144),
        ("2T", 2**41),
    ],
)
def test_sizes_are_binary_unless_they_end_in_b(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1.K", "1X", "1KK", "1,5G", "0x10", "1iB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        SIZE.convert(text, None, None)


def test_defaults_pass_unchanged() -> None:
    assert SIZE.convert(5, None, None) == 5


def test_paths_may_be_typed_as_our_output_spells_them() -> None:
    typed = os.fsdecode(b"Files/\xed\xa0\x80lone")
    assert PATH.convert(typed, None, None) == "Files/\ud800lone"
    assert PATH.convert("zoë", None, None) == "zoë"


def test_bytes_that_are_no_text_name_nothing_but_do_no_harm() -> None:
    assert PATH.convert(os.fsdecode(b"a\xff"), None, None) == "a\ufffd"
