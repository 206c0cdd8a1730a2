"""What the PAX records of Windows layers say, and the records made for it."""

from __future__ import annotations

import base64

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.eas import NEED_EA, ExtendedAttribute, build_list
from windowsfilter.ntfs.reparse import ReparsePoint, ReparseTag, link_point
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.wire.backuptar.names import as_reference, name_bytes, name_text, refusal
from windowsfilter.wire.backuptar.records import (
    attributes_of,
    descriptor_of,
    descriptor_records,
    eas_of,
    eas_records,
    has_eas,
    link_text,
    reparse_of,
    reparse_records,
)

EA = ExtendedAttribute
SDDL = "O:BAG:SYD:(A;;FA;;;SY)"
DESCRIPTOR = SecurityDescriptor.from_sddl(SDDL).build()


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"0", 0), (b"32", 32), (b"0000000000000032", 32), (b"4294967295", 2**32 - 1)],
)
def test_attributes(text: bytes, number: int) -> None:
    assert attributes_of({b"MSWINDOWS.fileattr": text}) == number


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"+1",
        b"-1",
        b"0x20",
        b"1_0",
        b" 1",
        b"1 ",
        b"\xef\xbc\x93\xef\xbc\x92",
        b"4294967296",
        b"1" * 99,
    ],
)
def test_attributes_that_are_no_number_of_32_bits_are_refused(text: bytes) -> None:
    with pytest.raises(FormatError, match="fileattr"):
        attributes_of({b"MSWINDOWS.fileattr": text})


def test_what_is_not_there_is_none() -> None:
    assert attributes_of({}) is None
    assert descriptor_of({}) is None
    assert eas_of({}) == ()
    assert reparse_of({}, b"", is_link=False) is None
    assert not has_eas({b"MSWINDOWS.fileattr": b"1"})


def test_a_binary_descriptor_counts_before_a_textual_one_even_if_it_is_empty() -> None:
    raw = descriptor_records(DESCRIPTOR)
    assert descriptor_of(raw) == DESCRIPTOR
    assert descriptor_of({b"MSWINDOWS.sd": SDDL.encode()}) == DESCRIPTOR
    assert descriptor_of({**raw, b"MSWINDOWS.sd": b"nonsense"}) == DESCRIPTOR
    assert descriptor_of({b"MSWINDOWS.rawsd": b"", b"MSWINDOWS.sd": SDDL.encode()}) is None
    assert descriptor_records(None) == {}


def test_line_ends_in_base64_are_ignored() -> None:
    text = base64.encodebytes(DESCRIPTOR).replace(b"\n", b"\r\n")
    assert descriptor_of({b"MSWINDOWS.rawsd": text}) == DESCRIPTOR


LISTS = {
    "none": (),
    "one": (EA(b"A", b"1"),),
    "flags": (EA(b"B", b"1", NEED_EA), EA(b"A", b"")),
    "no name": (EA(b"", b"1"),),
    "a name with '='": (EA(b"A=", b"1"), EA(b"B", b"2")),
    "a name twice": (EA(b"A", b"1"), EA(b"A", b"1")),
}


@pytest.mark.parametrize("found", LISTS.values(), ids=LISTS)
def test_attributes_come_back_from_their_records(found: tuple[EA, ...]) -> None:
    records = eas_records(found)
    assert eas_of(records) == found
    assert has_eas(records) == bool(found)


@pytest.mark.parametrize(("name", "size"), [(b"N" * 256, 1), (b"N", 65_536)])
def test_attributes_that_no_list_can_hold_are_refused(name: bytes, size: int) -> None:
    with pytest.raises(FormatError, match="extended attribute"):
        eas_of({b"MSWINDOWS.xattr." + name: base64.b64encode(bytes(size))})


def test_lists_that_contradict_the_records_known_readers_see_are_refused() -> None:
    records = eas_records((EA(b"A", b"1", NEED_EA),))
    for changed in (
        {**records, b"MSWINDOWS.xattr.A": b"Mg=="},
        {**records, b"MSWINDOWS.xattr.B": b"MQ=="},
        {key: value for key, value in records.items() if key != b"MSWINDOWS.xattr.A"},
    ):
        with pytest.raises(FormatError, match="contradicts"):
            eas_of(changed)
    too_long = base64.b64encode(build_list([EA(b"A", bytes(65535))] * 3))
    with pytest.raises(FormatError, match="a list of"):
        eas_of({b"MSWINDOWS.eas": too_long})


def test_reparse_buffers_that_contradict_what_known_readers_see_are_refused() -> None:
    def raw(point: ReparsePoint) -> dict[bytes, bytes]:
        return {b"MSWINDOWS.reparse": base64.b64encode(point.build())}

    other = ReparsePoint(ReparseTag.WOF, b"data")
    link, junction = link_point("C:\\x"), link_point("C:\\x", mount_point=True)
    assert reparse_of(raw(other), b"", is_link=False) == other
    assert reparse_of(raw(link), b"C:/x", is_link=True) == link
    for records, target, is_link in (
        (raw(link), b"C:\\x", False),
        (raw(link), b"C:\\y", True),
        (raw(junction), b"C:\\x", True),
        ({**raw(link), b"MSWINDOWS.mountpoint": b"1"}, b"C:\\x", True),
        (raw(other), b"C:\\x", True),
    ):
        with pytest.raises(FormatError, match="contradicts"):
            reparse_of(records, target, is_link=is_link)


def test_a_link_target_that_no_buffer_can_hold_is_refused() -> None:
    with pytest.raises(FormatError, match="too long"):
        reparse_of({}, b"x" * 5000, is_link=True)


def test_slashes_of_link_targets_become_backslashes() -> None:
    assert link_text(b"../a/b") == "..\\a\\b"
    target, records = reparse_records(link_point("..\\a\\b"))
    assert (target, records) == (b"..\\a\\b", {})


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("é漢🎉", "é漢🎉".encode()),
        ("\ud83c", b"\xed\xa0\xbc"),
        ("\ud83c\udf89", "🎉".encode()),
    ],
)
def test_names_have_any_16_bit_units(text: str, wire: bytes) -> None:
    assert name_bytes(text) == wire
    assert name_bytes(name_text(wire)) == wire


def test_halves_of_a_pair_in_a_row_are_one_character() -> None:
    assert name_text(b"\xed\xa0\xbc\xed\xbe\x89") == "🎉"


def test_the_reference_replaces_each_byte_that_is_no_text() -> None:
    assert as_reference(b"a\xffb\xe2\x82") == "a\ufffdb\ufffd\ufffd"


@pytest.mark.parametrize("name", [b"Files/a", b"aa:s", b"Files\\a", "Files/é".encode(), b"..a/b.."])
def test_names_inside_the_layer_are_taken(name: bytes) -> None:
    assert refusal(name) is None
