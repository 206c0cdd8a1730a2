"""Descriptors, SDDL, extended attributes and reparse points, as bytes from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.fuzz.target import Target, check_place
from windowsfilter.errors import FormatError
from windowsfilter.ntfs import eas, reparse
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.security.complaints import NotExpressible
from windowsfilter.ntfs.security.inheritance import new_descriptor
from windowsfilter.ntfs.security.tp5 import FILE_ACE, add_ace_to_sddl_dacl
from windowsfilter.ntfs.sids import ADMINISTRATORS, SYSTEM, Sid

DOMAIN = Sid.from_text("S-1-5-21-1-2-3")


def security_descriptor(data: bytes) -> None:
    try:
        found = SecurityDescriptor.parse(data)
    except FormatError as error:
        check_place(error, len(data))
        return
    assert found.build() == data
    # Laid out anew it means the same, and is canonical from then on.
    try:
        anew = replace(found).build()
    except FormatError:
        return  # components that share bytes may not fit side by side
    again = SecurityDescriptor.parse(anew)
    assert again.normalised() == found.normalised()  # revisions of ACLs may be raised
    assert replace(again).build() == anew
    tidy = found.normalised().build()
    assert SecurityDescriptor.parse(tidy).normalised().build() == tidy
    print_and_read(found)
    for is_directory in (False, True):
        try:
            child = new_descriptor(
                found, is_directory=is_directory, owner=SYSTEM, group=ADMINISTRATORS
            )
        except FormatError:
            continue
        assert SecurityDescriptor.parse(child.build()) == child


def print_and_read(found: SecurityDescriptor) -> None:
    """What can be printed is read again, and means what was printed."""
    try:
        text = found.to_sddl()
    except NotExpressible:
        return
    again = SecurityDescriptor.from_sddl(text)
    assert again.to_sddl() == text
    if found.sddl_is_exact():
        assert again.normalised().build() == found.normalised().build()


def sddl(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = SecurityDescriptor.from_sddl(text, domain=DOMAIN)
    except FormatError as error:
        check_place(error, len(text))
        return
    built = found.build()
    assert SecurityDescriptor.parse(built) == found
    printed = found.to_sddl()
    again = SecurityDescriptor.from_sddl(printed)
    # Layout aside: Windows leaves slack for rights of "", not for rights of "0".
    assert again.normalised().build() == found.normalised().build()
    assert again.to_sddl() == printed
    printed = found.to_sddl(domain=DOMAIN)
    assert SecurityDescriptor.from_sddl(printed, domain=DOMAIN) == again


def descriptors() -> Iterator[bytes]:
    for words in (
        # Plain ACEs with owner and group, an object ACE, a condition, a claim, NULL and empty.
        (
            "01000480 48000000 58000000 00000000 14000000 02003400 02000000 00001400 ff011f00 01010000"
            "00000005 12000000 00001800 a9001200 01020000 00000005 20000000 21020000 01020000 00000005"
            "20000000 20020000 01010000 00000005 12000000"
        ),
        (
            "01000480 00000000 00000000 00000000 14000000 04004000 01000000 050a3800 00010000 03000000"
            "531a72ab 2f1ed011 981900aa 0040529b ba7a96bf e60dd011 a28500aa 003049e2 01010000 00000005"
            "0a000000"
        ),
        (
            "01000480 00000000 00000000 00000000 14000000 02004800 01000000 09004000 a9001200 01020000"
            "00000005 20000000 21020000 61727478 f81c0000 00570049 004e003a 002f002f 00530059 00530041"
            "00500050 00490044 00870000"
        ),
        (
            "01001080 00000000 00000000 14000000 00000000 02004800 01000000 12024000 00000000 01010000"
            "00000001 00000000 18000000 01000000 02000000 02000000 1c000000 24000000 6e000000 f8ffffff"
            "ffffffff 07000000 00000000"
        ),
        "01000480 00000000 00000000 00000000 00000000",
        "010014b0 00000000 00000000 14000000 1c000000 02000800 00000000 02000800 00000000",
    ):
        yield bytes.fromhex(words)


def tp5_ace(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    added, there = add_ace_to_sddl_dacl(text, FILE_ACE, go=True)
    assert there or added == text
    try:
        added, there = add_ace_to_sddl_dacl(text, FILE_ACE)
    except FormatError as error:
        check_place(error, len(text))
        return
    assert there or added == text
    if there:
        assert add_ace_to_sddl_dacl(added, FILE_ACE) == (added, True)


def sddl_texts() -> Iterator[bytes]:
    for text in (
        "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(D;;0x1200a9;;;S-1-5-21-1-2-3-1001)S:AI(AU;SAFA;GA;;;WD)",
        (
            "D:(OA;CIIO;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;"
            "bf967aba-0de6-11d0-a285-00aa003049e2;PS)"
        ),
        'D:(XA;;FX;;;WD;((@USER.Title == "PM") && (!(Member_of {SID(BA), SID(WD)}))))',
        "D:(XD;;CC;;;WD;(@USER.a%0020b Any_of {1, -0x10, +010, #0a0b, SID(BA)}))",
        'S:(RA;CI;;;;WD;("n",TS,0x2,"a","b"))(ML;OINPIO;NWNR;;;HI)(SP;;;;;S-1-17-1)',
        "D:NO_ACCESS_CONTROLS:ARAI",
    ):
        yield text.encode()


SDDL_WORDS = tuple(
    word.encode()
    for word in (
        *("O:", "G:", "D:", "S:", "P", "AR", "AI", "NO_ACCESS_CONTROL"),
        *("(A;", "(D;", "(AU;", "(OA;", "(XA;", "(ZA;", "(RA;", "(ML;", "(SP;", "(TL;", "(FL;"),
        *("OICI", "NPIOID", "SAFA", "FA", "GA", "KR", "0x1200a9", ";;;", ";WD)", "S-1-5-32-544"),
        *("@USER.", "@DEVICE.", "@RESOURCE.", "Member_of", "Not_Member_of_Any", "Exists"),
        *("Any_of", "Contains", "SID(BA)", "{", "}", "&&", "||", "!", "==", "!=", "<=", '"', "#0a"),
        *(",TI,0x0,", ",TU,", ",TS,", ",TD,", ",TB,", ",TX,", "%0020", "-0x10", "+017", FILE_ACE),
    )
)


def ea_list(data: bytes) -> None:
    for overlapping in (False, True):
        try:
            found = eas.parse_list(data, overlapping=overlapping)
        except FormatError as error:
            check_place(error, len(data))
            continue
        built = eas.build_list(found)
        assert eas.parse_list(built) == found
        assert eas.build_list(eas.parse_list(built)) == built


def ea_lists() -> Iterator[bytes]:
    one = eas.ExtendedAttribute(b"$KERNEL.PURGE.X", b"value", eas.NEED_EA)
    two = eas.ExtendedAttribute(b"B", b"")
    for found in ((), (one,), (one, two), (two, one, two)):
        yield eas.build_list(found)


def reparse_buffer(data: bytes) -> None:
    try:
        point = reparse.ReparsePoint.parse(data)
    except FormatError as error:
        check_place(error, len(data))
        return
    assert point.build() == data
    try:
        target = reparse.link_target(point)
    except FormatError as error:
        check_place(error, len(data))
        return
    assert (target is None) != point.is_link
    if target is None:
        return
    names = reparse.LinkNames.parse(point)
    assert reparse.LinkNames.parse(names.build(point.tag)) == names
    made = reparse.link_point(target, mount_point=point.tag == reparse.ReparseTag.MOUNT_POINT)
    assert reparse.link_target(made) == target


def reparse_buffers() -> Iterator[bytes]:
    for target in ("C:\\Windows", "..\\x", "\\\\server\\share", "\\\\?\\Volume{1}\\"):
        for mount_point in (False, True):
            yield reparse.link_point(target, mount_point=mount_point).build()
    yield reparse.ReparsePoint(reparse.ReparseTag.WOF, b"\1\0\0\0" * 4).build()
    yield reparse.ReparsePoint(0x42, bytes(20)).build()


NTFS_TARGETS = {
    "security-descriptor": Target(run=security_descriptor, seeds=descriptors),
    "sddl": Target(run=sddl, seeds=sddl_texts, words=SDDL_WORDS),
    "tp5-ace": Target(run=tp5_ace, seeds=sddl_texts, words=SDDL_WORDS),
    "ea-list": Target(run=ea_list, seeds=ea_lists),
    "reparse-buffer": Target(
        run=reparse_buffer, seeds=reparse_buffers, words=("\\??\\".encode("utf-16-le"),)
    ),
}
