"""Security descriptors as bytes: what is kept, what is laid out anew, what is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from uuid import UUID

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.security import (
    Ace,
    AceFlag,
    AceType,
    Acl,
    ControlFlag,
    OpaqueAce,
    SecurityDescriptor,
)

OWNER = sids.ADMINISTRATORS.build()
GROUP = sids.SYSTEM.build()
RESET_PASSWORD = UUID("ab721a53-1e2f-11d0-9819-00aa0040529b")
USER_CLASS = UUID("bf967aba-0de6-11d0-a285-00aa003049e2")
ALLOW = Ace(type=AceType.ACCESS_ALLOWED, mask=0x1F01FF, sid=sids.SYSTEM)
OBJECT = Ace(
    type=AceType.ACCESS_ALLOWED_OBJECT,
    flags=AceFlag.CONTAINER_INHERIT | AceFlag.INHERIT_ONLY,
    mask=0x100,
    sid=sids.SELF,
    object_type=RESET_PASSWORD,
    inherited_object_type=USER_CLASS,
)


def header(
    control: int, owner: int = 0, group: int = 0, sacl: int = 0, dacl: int = 0, rm: int = 0
) -> bytes:
    return struct.pack("<BBHIIII", 1, rm, 0x8000 | control, owner, group, sacl, dacl)


def acl_bytes(
    *aces: bytes, revision: int = 2, slack: bytes = b"", count: int | None = None
) -> bytes:
    body = b"".join(aces) + slack
    return (
        struct.pack("<BBHHH", revision, 0, 8 + len(body), len(aces) if count is None else count, 0)
        + body
    )


def with_dacl(acl: bytes) -> bytes:
    return header(ControlFlag.DACL_PRESENT, dacl=20) + acl


VECTORS = {
    "nothing": (SecurityDescriptor(), header(0).hex()),
    "empty DACL": (
        SecurityDescriptor(dacl=Acl()),
        "01000480000000000000000000000000140000000200080000000000",
    ),
    "NULL DACL": (
        SecurityDescriptor(control=ControlFlag.DACL_PRESENT),
        "0100048000000000000000000000000000000000",
    ),
    "empty ACLs, SACL first": (
        SecurityDescriptor(control=ControlFlag.SACL_PROTECTED, dacl=Acl(), sacl=Acl()),
        "010014a00000000000000000140000001c00000002000800000000000200080000000000",
    ),
    "owner, group and two rules": (
        SecurityDescriptor(
            owner=sids.ADMINISTRATORS,
            group=sids.SYSTEM,
            dacl=Acl.of([ALLOW, Ace(type=AceType.ACCESS_ALLOWED, mask=0x1200A9, sid=sids.USERS)]),
        ),
        (
            "0100048048000000580000000000000014000000020034000200000000001400ff011f0001010000000000051200"
            "000000001800a90012000102000000000005200000002102000001020000000000052000000020020000"
            "010100000000000512000000"
        ),
    ),
    "rule about kinds of objects": (
        SecurityDescriptor(dacl=Acl.of([OBJECT])),
        (
            "010004800000000000000000000000001400000004004000"
            "01000000050a38000001000003000000531a72ab2f1ed011981900aa0040529b"
            "ba7a96bfe60dd011a28500aa003049e201010000000000050a000000"
        ),
    ),
    "types without letters": (
        SecurityDescriptor(
            dacl=Acl.of([OpaqueAce(type=4, flags=1, body=b"12345678"), OpaqueAce(type=0x7F)])
        ),
        "0100048000000000000000000000000014000000020018000200000004010c0031323334353637387f000400",
    ),
}


@pytest.mark.parametrize(("descriptor", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(descriptor: SecurityDescriptor, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert descriptor.build() == data
    assert SecurityDescriptor.parse(data) == descriptor
    for cut in range(len(data)):
        with pytest.raises(FormatError) as caught:
            SecurityDescriptor.parse(data[:cut], at=7)
        assert caught.value.offset is not None
        assert 7 <= caught.value.offset <= 7 + cut


KEPT = {
    "owner first, as older systems write": header(4, owner=20, group=36, dacl=48)
    + OWNER
    + GROUP
    + acl_bytes(ALLOW.build()),
    "a gap": header(0, owner=24) + b"gap!" + OWNER,
    "bytes at the end": header(0, owner=20) + OWNER + b"tail!",
    "owner and group share bytes": header(0, owner=20, group=20) + OWNER,
    "both ACLs share bytes": header(0x14, sacl=20, dacl=20) + acl_bytes(),
    "resource manager's byte": header(ControlFlag.RM_CONTROL_VALID, rm=0x5A),
    "slack after the ACEs": with_dacl(acl_bytes(ALLOW.build(), slack=b"slack")),
    "revision 3": with_dacl(acl_bytes(ALLOW.build(), revision=3)),
    "fields that should be zero": with_dacl(struct.pack("<BBHHH", 2, 7, 8, 0, 9)),
    "an ACL of a descriptor that has none": header(0, dacl=20) + acl_bytes(),
    "every control bit": header(0x7FFF),
    "bits of object flags that nobody names": with_dacl(
        acl_bytes(replace(OBJECT, object_flags=0xF0).build(), revision=4)
    ),
    "bytes after a SID": with_dacl(acl_bytes(replace(ALLOW, data=b"more").build())),
}


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT)
def test_what_is_not_changed_keeps_its_bytes(data: bytes) -> None:
    descriptor = SecurityDescriptor.parse(data)
    assert descriptor.build() == data
    again = replace(descriptor, control=descriptor.control)
    assert SecurityDescriptor.parse(again.build()) == descriptor
    assert again.build() == SecurityDescriptor.parse(again.build()).build()


def test_a_change_lays_the_descriptor_out_anew() -> None:
    old = SecurityDescriptor.parse(KEPT["owner first, as older systems write"])
    new = replace(old, owner=sids.SYSTEM)
    acl = acl_bytes(ALLOW.build())
    at = 20 + len(acl)
    assert new.build() == header(4, owner=at, group=at + 12, dacl=20) + acl + GROUP + GROUP


def test_a_change_elsewhere_keeps_slack_and_odd_fields_of_an_acl() -> None:
    acl = struct.pack("<BBHHH", 3, 7, 13, 0, 9) + b"slack"
    old = SecurityDescriptor.parse(with_dacl(acl))
    new = replace(old, owner=sids.SYSTEM)
    assert new.build() == header(4, owner=36, dacl=20) + acl + bytes(3) + GROUP


def test_normalising_drops_slack_and_gaps_and_keeps_the_rest() -> None:
    data = header(4, dacl=24, rm=3) + b"gap!" + acl_bytes(ALLOW.build(), revision=4, slack=b"slck")
    tidy = SecurityDescriptor.parse(data).normalised()
    assert tidy.build() == header(4, dacl=20, rm=3) + acl_bytes(ALLOW.build())


def test_object_rules_raise_the_revision_of_their_acl() -> None:
    assert Acl(aces=(OBJECT,)).build()[0] == 4


def test_data_of_an_ace_is_padded() -> None:
    assert len(replace(ALLOW, data=b"abcde").build()) == 20 + 8


BROKEN = {
    "nothing at all": (b"", 0),
    "revision 2": (b"\x02" + header(0)[1:], 0),
    "not self-relative": (struct.pack("<BBHIIII", 1, 0, 0, 0, 0, 0, 0), 2),
    "owner inside the header": (header(0, owner=16) + OWNER, 4),
    "group off a multiple of four": (header(0, group=21) + OWNER + b"x", 8),
    "owner outside": (header(0, owner=20), 4),
    "owner far outside": (header(0, owner=0xFFFFFFFC) + OWNER, 4),
    "owner cut off": (header(0, owner=20) + OWNER[:12], 32),
    "owner with 16 subauthorities": (header(0, owner=20) + b"\x01\x10" + bytes(70), 21),
    "SACL outside": (header(0x10, sacl=24) + bytes(4), 12),
    "DACL outside": (header(4, dacl=24), 16),
    "ACL header cut off": (header(4, dacl=20) + bytes(7), 27),
    "ACL of revision 1": (with_dacl(acl_bytes(revision=1)), 20),
    "ACL of revision 5": (with_dacl(acl_bytes(revision=5)), 20),
    "ACL that overruns": (with_dacl(struct.pack("<BBHHH", 2, 0, 12, 0, 0)), 22),
    "ACL smaller than its header": (with_dacl(struct.pack("<BBHHH", 2, 0, 7, 0, 0)), 22),
    "more ACEs than can be": (with_dacl(acl_bytes(ALLOW.build(), count=65535)), 24),
    "one ACE too many": (with_dacl(acl_bytes(ALLOW.build(), count=2)), 48),
    "ACE that overruns": (with_dacl(acl_bytes(struct.pack("<BBH", 0, 0, 24) + bytes(16))), 30),
    "ACE size of three": (with_dacl(acl_bytes(struct.pack("<BBH", 0, 0, 3) + bytes(16))), 30),
    "ACE size of zero": (with_dacl(acl_bytes(bytes(4))), 30),
    "ACE size off a multiple of four": (
        with_dacl(acl_bytes(struct.pack("<BBH", 0, 0, 22) + ALLOW.build()[4:] + bytes(2))),
        30,
    ),
    "ACE without room for its SID": (with_dacl(acl_bytes(struct.pack("<BBHI", 0, 0, 8, 0))), 30),
    "SID larger than its ACE": (
        with_dacl(acl_bytes(struct.pack("<BBHI", 0, 0, 16, 0) + OWNER[:8])),
        44,
    ),
    "object ACE without room for its flags": (
        with_dacl(acl_bytes(struct.pack("<BBHI", 5, 0, 8, 0))),
        30,
    ),
    "object ACE that cuts its GUID off": (
        with_dacl(acl_bytes(struct.pack("<BBHII", 5, 0, 20, 0, 1) + bytes(8))),
        40,
    ),
    "object ACE that cuts its SID off": (
        with_dacl(acl_bytes(struct.pack("<BBHII", 5, 0, 16, 0, 0) + bytes(4))),
        44,
    ),
    "more than 64 KiB": (header(0) + bytes(0x10000 - 19), 0x10000),
}


@pytest.mark.parametrize(("data", "offset"), BROKEN.values(), ids=BROKEN)
def test_what_is_malformed_is_refused_with_its_offset(data: bytes, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        SecurityDescriptor.parse(data, at=1000)
    assert caught.value.offset == 1000 + offset


TOO_MUCH = {
    "an ACE of 64 KiB": SecurityDescriptor(dacl=Acl(aces=(replace(ALLOW, data=bytes(65536)),))),
    "an unknown ACE of 64 KiB": SecurityDescriptor(
        dacl=Acl(aces=(OpaqueAce(type=99, body=bytes(65536)),))
    ),
    "an ACL of 64 KiB": SecurityDescriptor(dacl=Acl(aces=(replace(ALLOW, data=bytes(40000)),) * 2)),
    "two ACLs that make 64 KiB": SecurityDescriptor(
        dacl=Acl(slack=bytes(40000)), sacl=Acl(slack=bytes(40000))
    ),
    "a mask of 33 bits": SecurityDescriptor(dacl=Acl(aces=(replace(ALLOW, mask=2**32),))),
    "a flag of 9 bits": SecurityDescriptor(dacl=Acl(aces=(replace(ALLOW, flags=256),))),
    "object flags of 33 bits": SecurityDescriptor(
        dacl=Acl(aces=(replace(OBJECT, object_flags=2**32),))
    ),
    "a GUID in a plain ACE": SecurityDescriptor(
        dacl=Acl(aces=(replace(ALLOW, object_type=USER_CLASS),))
    ),
    "an ACL revision of 5": SecurityDescriptor(dacl=Acl(revision=5)),
    "an ACL field of 9 bits": SecurityDescriptor(dacl=Acl(sbz1=256)),
    "control of 17 bits": SecurityDescriptor(control=0x10000),
}


@pytest.mark.parametrize("descriptor", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_does_not_fit_the_bytes_is_refused(descriptor: SecurityDescriptor) -> None:
    with pytest.raises(FormatError):
        descriptor.build()
