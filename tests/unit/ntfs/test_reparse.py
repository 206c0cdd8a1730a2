"""Reparse points, and the names in those that are links."""

from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.reparse import (
    MAX_BUFFER,
    RELATIVE,
    LinkNames,
    ReparsePoint,
    ReparseTag,
    is_name_surrogate,
    link_names,
    link_point,
    link_target,
    tag_name,
)

TARGETS = {
    "x": ("x", RELATIVE),
    "..\\a b": ("..\\a b", RELATIVE),
    "": ("", RELATIVE),
    "\\rooted": ("\\rooted", RELATIVE),
    "C:\\foo": ("\\??\\C:\\foo", 0),
    "c:foo": ("\\??\\c:foo", 0),
    "1:\\x": ("1:\\x", RELATIVE),
    "\\\\srv\\share": ("\\??\\UNC\\srv\\share", 0),
    "\\\\?\\C:\\x": ("\\??\\C:\\x", 0),
    "\\\\?\\Volume{x}\\": ("\\??\\Volume{x}\\", 0),
    "\ud800x": ("\ud800x", RELATIVE),
}
SYMLINK = (
    "0c0000a0 3000 0000 0000 1400 1600 0c00 00000000"
    "5c003f003f005c0043003a005c0066006f006f00 0000 43003a005c0066006f006f00 0000"
)
# The substitute name behind the print name and no NULs, as CreateSymbolicLinkW lays them out.
WINDOWS_ORDER = "0c0000a0 1000 0000 0200 0200 0000 0200 01000000 78007900"
VOLUME = "030000a0 1a00 0000 0000 0e00 1000 0000" + "5c003f003f005c00430043005c00" + "0000" + "0000"


@pytest.mark.parametrize(("target", "expected"), TARGETS.items())
def test_a_target_becomes_the_names_of_the_reference(
    target: str, expected: tuple[str, int]
) -> None:
    substitute, flags = expected
    assert link_names(target) == LinkNames(
        substitute_name=substitute, print_name=target, flags=flags
    )
    point = link_point(target)
    assert LinkNames.parse(point) == link_names(target)
    assert ReparsePoint.parse(point.build()) == point
    assert link_target(point) == target


@pytest.mark.parametrize("target", TARGETS)
def test_a_mount_point_has_no_flags(target: str) -> None:
    point = link_point(target, mount_point=True)
    assert point.tag == ReparseTag.MOUNT_POINT
    assert len(point.data) == len(link_point(target).data) - 4
    assert LinkNames.parse(point).flags == 0
    assert link_target(point) == target


def test_bytes_of_a_symlink() -> None:
    assert link_point("C:\\foo").build() == bytes.fromhex(SYMLINK)


def test_names_may_lie_in_any_order() -> None:
    names = LinkNames.parse(ReparsePoint.parse(bytes.fromhex(WINDOWS_ORDER)))
    assert (names.substitute_name, names.print_name, names.flags) == ("y", "x", RELATIVE)


@pytest.mark.parametrize(
    ("substitute", "shown"),
    [
        ("\\??\\C:\\x", "C:\\x"),
        ("\\??\\UNC\\srv\\s", "\\\\srv\\s"),
        ("\\??\\Volume{1}\\", "\\\\?\\Volume{1}\\"),
        ("\\??\\GLOBALROOT\\d", "\\\\?\\GLOBALROOT\\d"),
        ("..\\x", "..\\x"),
    ],
)
def test_without_a_print_name_the_substitute_name_is_the_target(
    substitute: str, shown: str
) -> None:
    point = LinkNames(substitute_name=substitute, print_name="").build(ReparseTag.MOUNT_POINT)
    assert link_target(point) == shown


@pytest.mark.parametrize("tag", [ReparseTag.WOF, ReparseTag.WCI_1, 0x8000DEAD])
def test_other_tags_are_carried_as_they_are(tag: int) -> None:
    buffer = tag.to_bytes(4, "little") + bytes.fromhex("0300 0700 616263")
    point = ReparsePoint.parse(buffer)
    assert (point.data, point.reserved, point.build()) == (b"abc", 7, buffer)
    assert link_target(point) is None
    with pytest.raises(FormatError, match="no link target"):
        LinkNames.parse(point)


def test_tags_of_others_than_microsoft_have_a_guid() -> None:
    buffer = bytes.fromhex("2a000000 0100 0000") + bytes(range(16)) + b"x"
    point = ReparsePoint.parse(buffer)
    assert (point.data[16:], point.build()) == (b"x", buffer)
    with pytest.raises(FormatError):
        ReparsePoint(42, b"no guid").build()


@pytest.mark.parametrize(
    ("wire", "offset"),
    {
        "no header": ("616263", 100),
        "longer than it says": ("0c0000a00400 0000 6162636465", 104),
        "shorter than it says": ("0c0000a0ffff 0000 616263", 104),
    }.values(),
)
def test_buffers_of_a_length_that_lies_are_refused(wire: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        ReparsePoint.parse(bytes.fromhex(wire), at=100)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("data", "offset"),
    {
        "too short for its fields": ("0000" * 4, 108),
        "name of odd length": ("0000 0300 0000 0000 00000000 610062006300", 108),
        "name past the end": ("0000 0000 6400 6400 00000000", 112),
    }.values(),
)
def test_names_outside_of_the_data_are_refused(data: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        LinkNames.parse(ReparsePoint(ReparseTag.SYMLINK, bytes.fromhex(data)), at=100)
    assert caught.value.offset == offset


def test_buffers_beyond_what_windows_takes_are_refused() -> None:
    point = ReparsePoint(ReparseTag.WOF, bytes(MAX_BUFFER - 8))
    assert ReparsePoint.parse(point.build()) == point
    with pytest.raises(FormatError, match="16385 bytes"):
        ReparsePoint.parse(ReparsePoint(ReparseTag.WOF, bytes(MAX_BUFFER - 7)).build())
    with pytest.raises(FormatError, match="too long"):
        link_point("x" * 16_400)


def test_tags_have_names() -> None:
    assert tag_name(ReparseTag.MOUNT_POINT) == "mount point"
    assert tag_name(0x80001234) == "0x80001234"
    assert is_name_surrogate(ReparseTag.SYMLINK)
    assert not is_name_surrogate(ReparseTag.WOF)
