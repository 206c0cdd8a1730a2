"""Lists of extended attributes."""

from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.ntfs.eas import NEED_EA, ExtendedAttribute, build_list, parse_list

EA = ExtendedAttribute
VECTORS = {
    "none": ((), ""),
    "one": ((EA(b"FOO", b"bar"),), "0000000000030300464f4f0062617200"),
    "two, from go-winio's documentation": (
        (EA(b"foo", b"bar"), EA(b"fizz", b"buzz")),
        "1000000000030300666f6f00626172000000000000040400" + "66697a7a0062757a7a000000",
    ),
    "a flag and an empty value": ((EA(b"A", b"", NEED_EA),), "00000000800100004100" + "0000"),
    "no name": ((EA(b"", b"v"),), "00000000000001000076" + "0000"),
}


@pytest.mark.parametrize(("attributes", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(attributes: tuple[EA, ...], wire: str) -> None:
    data = bytes.fromhex(wire)
    assert build_list(attributes) == data
    assert parse_list(data) == attributes


@pytest.mark.parametrize(("attributes", "wire"), VECTORS.values(), ids=VECTORS)
def test_what_follows_the_last_entry_is_ignored_and_its_padding_optional(
    attributes: tuple[EA, ...], wire: str
) -> None:
    data = bytes.fromhex(wire)
    if attributes:
        assert parse_list(data + b"rest") == attributes
        size = 9 + len(attributes[-1].name) + len(attributes[-1].value)
        assert parse_list(data[: len(data) - (-size & 3)]) == attributes


@pytest.mark.parametrize(
    ("wire", "offset"),
    {
        "cut header": ("00000000000000", 40),
        "value past the end": ("0000000000010900410078", 40),
        "next entry past the end": ("e703000000010100410078", 40),
        "next entry inside this one": ("0400000000010100410078" + "00" * 20, 40),
        "cut second entry": ("0c00000000010100410078" + "00" + "000000", 52),
    }.values(),
)
def test_sizes_that_lie_are_refused_with_the_entrys_offset(wire: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_list(bytes.fromhex(wire), at=40)
    assert caught.value.offset == offset


def test_overlapping_entries_are_taken_on_request_but_not_without_end() -> None:
    inside = bytes.fromhex("04000000" + "00" * 14)
    with pytest.raises(FormatError, match="4 bytes on"):
        parse_list(inside)
    assert len(parse_list(inside, overlapping=True)) == 2
    # Each entry covers 64 KiB of what follows, and the next begins 8 bytes on.
    hostile = bytes.fromhex("080000000000ffff") * 20_000
    with pytest.raises(LimitExceeded, match="overlap too often"):
        parse_list(hostile, overlapping=True)


@pytest.mark.parametrize("attribute", [EA(bytes(256), b""), EA(b"N", bytes(65_536))])
def test_what_no_list_can_hold_is_not_built(attribute: EA) -> None:
    with pytest.raises(FormatError, match="extended attribute"):
        build_list([attribute])
    longest = EA(attribute.name[:255], attribute.value[:65_535])
    assert parse_list(build_list([longest])) == (longest,)
