"""Resource attribute claims: bytes and text."""

from __future__ import annotations

import struct

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.security.claim_text import print_claim, read_claim
from windowsfilter.ntfs.security.claims import Claim, ClaimType
from windowsfilter.ntfs.security.complaints import NotExpressible, SddlError
from windowsfilter.ntfs.security.scanner import Scanner


def read(text: str) -> Claim:
    scanner = Scanner(text)
    claim = read_claim(scanner)
    assert scanner.at_end
    return claim


VECTORS = {
    "signed": (
        '("n",TI,0x2,-8,7)',
        Claim("n", ClaimType.INT64, 2, (-8, 7)),
        (
            "180000000100000002000000020000001c000000240000006e000000"
            "f8ffffffffffffff0700000000000000"
        ),
    ),
    "unsigned": (
        '("u",TU,0x20,18446744073709551615)',
        Claim("u", ClaimType.UINT64, 0x20, (2**64 - 1,)),
        "140000000200000020000000010000001800000075000000ffffffffffffffff",
    ),
    "strings": (
        '("colour",TS,0x0,"blue","")',
        Claim("colour", ClaimType.STRING, 0, ("blue", "")),
        (
            "18000000030000000000000002000000260000003000000063006f006c006f007500720000006200"
            "6c007500650000000000"
        ),
    ),
    "SID": (
        '("s",TD,0x10000,BA)',
        Claim("s", ClaimType.SID, 0x10000, (sids.ADMINISTRATORS,)),
        "1400000005000000000001000100000018000000730000001000000001020000000000052000000020020000",
    ),
    "boolean": (
        '("b",TB,0x0,1)',
        Claim("b", ClaimType.BOOLEAN, 0, (1,)),
        "1400000006000000000000000100000018000000620000000100000000000000",
    ),
    "octets, one of them none": (
        '("x",TX,0x0,0077,)',
        Claim("x", ClaimType.OCTETS, 0, (b"\x00\x77", b"")),
        "180000001000000000000000020000001c000000220000007800000002000000007700000000",
    ),
    "no values": (
        '("n",TI,0x0)',
        Claim("n", ClaimType.INT64),
        "100000000100000000000000000000006e000000",
    ),
    "escaped name": (
        '("a%0020%0022%d83d%de00",TI,0x0)',
        Claim('a "\U0001f600', ClaimType.INT64),
        "100000000100000000000000000000006100200022003dd800de0000",
    ),
}


@pytest.mark.parametrize(("text", "claim", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(text: str, claim: Claim, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert claim.build() == data
    assert Claim.parse(data) == claim
    assert Claim.parse(data + bytes(3)) == claim
    assert read(text) == claim
    assert print_claim(claim) == text
    for cut in range(len(data)):
        with pytest.raises(FormatError) as caught:
            Claim.parse(data[:cut], at=9)
        assert caught.value.offset is not None
        assert 9 <= caught.value.offset <= 9 + cut


CANONICAL = {
    '( "n" , ti , 2 , +1 , 0x10 , 010 )': '("n",TI,0x2,1,16,8)',
    '("x",TX,0x0,123,#1#)': '("x",TX,0x0,0123,0010)',
    '("s",TD,0x0,s-1-5-18,ba)': '("s",TD,0x0,SY,BA)',
    '("n",TS,0x0,")(;,")': '("n",TS,0x0,")(;,")',
}


@pytest.mark.parametrize(("text", "expected"), CANONICAL.items())
def test_what_is_accepted_prints_canonically(text: str, expected: str) -> None:
    assert print_claim(read(text)) == expected


REFUSED = {
    "": 0,
    "(": 1,
    "(n": 1,
    '("': 2,
    '("")': 2,
    '("n': 3,
    '("n")': 4,
    '("n",XX,0x0)': 5,
    '("n",TI)': 7,
    '("n",TI,-1)': 8,
    '("n",TI,0x100000000)': 8,
    '("n",TI,0x0,)': 12,
    '("n",TI,0x0,x)': 12,
    '("n",TI,0x0,1': 13,
    '("n",TI,0x0,9223372036854775808)': 12,
    '("n",TI,0x0,-9223372036854775809)': 12,
    '("n",TU,0x0,-1)': 12,
    '("n",TU,0x0,18446744073709551616)': 12,
    '("n",TU,0x0,' + "9" * 100_000 + ")": 12,
    '("n",TB,0x0,2)': 12,
    '("n",TS,0x0,x)': 12,
    '("n",TS,0x0,"x)': 12,
    '("n",TS,0x0,"\0")': 13,
    '("n",TD,0x0,XX)': 12,
    '("n",TX,0x0,zz)': 12,
    '("a b",TI,0x0)': 3,
}


@pytest.mark.parametrize(
    ("text", "offset"),
    REFUSED.items(),
    ids=[ascii(text[:40]) for text in REFUSED],
)
def test_what_is_no_claim_is_refused_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(SddlError) as caught:
        read(text)
    assert caught.value.offset == offset


def header(name: int, kind: int, count: int) -> bytes:
    return struct.pack("<IHHII", name, kind, 0, 0, count)


BROKEN = {
    "type nobody reads": (header(16, 4, 0) + b"n\0\0\0", 4),
    "more values than fit": (header(16, 1, 0xFFFFFFFF) + b"n\0\0\0", 12),
    "name outside": (header(99, 1, 0), 0),
    "name without an end": (header(16, 1, 0) + b"n\0n", 16),
    "value outside": (header(20, 1, 1) + struct.pack("<I", 99) + b"n\0\0\0", 16),
    "value that reaches outside": (header(20, 1, 1) + struct.pack("<I", 20) + b"n\0\0\0", 16),
    "octets that lie": (header(20, 16, 1) + struct.pack("<II", 20, 99), 16),
    "SID with bytes after it": (
        header(20, 5, 1)
        + struct.pack("<III", 24, 0, 12)
        + bytes.fromhex("0100000000000005")
        + bytes(4),
        36,
    ),
}


@pytest.mark.parametrize(("data", "offset"), BROKEN.values(), ids=BROKEN)
def test_bytes_that_are_no_claim_are_refused_with_their_offset(data: bytes, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        Claim.parse(data, at=100)
    assert caught.value.offset == 100 + offset


def test_many_offsets_at_one_long_value_are_refused() -> None:
    count = 8000
    start = 16 + 4 * count
    text = "x".encode("utf-16-le") * 10_000 + b"\0\0"
    data = header(start, ClaimType.STRING, count) + struct.pack("<I", start) * count + text
    with pytest.raises(FormatError, match="overlap"):
        Claim.parse(data)


def test_values_may_stand_anywhere() -> None:
    data = header(28, 1, 1) + struct.pack("<I", 20) + struct.pack("<q", 7) + b"n\0\0\0"
    assert Claim.parse(data) == Claim("n", ClaimType.INT64, 0, (7,))


UNSPEAKABLE = {
    "quotation mark": Claim("n", ClaimType.STRING, 0, ('"',)),
    "boolean of two": Claim("n", ClaimType.BOOLEAN, 0, (2,)),
    "no name": Claim("", ClaimType.INT64),
    "SID without subauthorities": Claim("n", ClaimType.SID, 0, (sids.Sid(5),)),
}


@pytest.mark.parametrize("claim", UNSPEAKABLE.values(), ids=UNSPEAKABLE)
def test_what_text_cannot_say_raises_and_keeps_its_bytes(claim: Claim) -> None:
    assert Claim.parse(claim.build()) == claim
    with pytest.raises(NotExpressible):
        print_claim(claim)


def test_a_type_without_letters_cannot_be_printed() -> None:
    with pytest.raises(NotExpressible, match="FQBN"):
        print_claim(Claim("n", ClaimType.FQBN))


@pytest.mark.parametrize(
    "claim",
    [
        Claim("n", ClaimType.STRING, 0, (1,)),
        Claim("n", ClaimType.INT64, 0, ("1",)),
        Claim("n", ClaimType.SID, 0, (b"",)),
        Claim("n", ClaimType.OCTETS, 0, (sids.SYSTEM,)),
        Claim("n", ClaimType.INT64, 0, (2**63,)),
        Claim("n", ClaimType.UINT64, 0, (-1,)),
        Claim("n", ClaimType.INT64, 2**32),
        Claim("a\0b", ClaimType.INT64),
    ],
)
def test_what_does_not_fit_the_bytes_is_refused(claim: Claim) -> None:
    with pytest.raises(FormatError):
        claim.build()
