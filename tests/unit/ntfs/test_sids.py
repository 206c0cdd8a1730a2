"""SIDs: bytes, text, aliases."""

from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.sids import Sid, alias_of, alias_sid

VECTORS = {
    "SYSTEM": (sids.SYSTEM, "S-1-5-18", "010100000000000512000000"),
    "Administrators": (sids.ADMINISTRATORS, "S-1-5-32-544", "01020000000000052000000020020000"),
    "widest decimal authority": (
        Sid(0xFFFFFFFF, (3,)),
        "S-1-4294967295-3",
        "01010000ffffffff03000000",
    ),
    "authority beyond 32 bits": (
        Sid(0x12A05F200, (30, 40)),
        "S-1-0x12A05F200-30-40",
        "0102" + "00012a05f200" + "1e000000" + "28000000",
    ),
    "fifteen subauthorities": (
        Sid(1, tuple(range(15))),
        "S-1-1-0-1-2-3-4-5-6-7-8-9-10-11-12-13-14",
        "010f000000000001" + "".join(f"{n:02x}000000" for n in range(15)),
    ),
}


@pytest.mark.parametrize(("sid", "text", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(sid: Sid, text: str, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert sid.build() == data
    assert sid.size == len(data)
    assert Sid.parse(data + b"next") == (sid, len(data))
    assert str(sid) == text
    assert Sid.from_text(text) == sid
    for cut in range(len(data)):
        with pytest.raises(FormatError) as caught:
            Sid.parse(data[:cut], at=100)
        assert caught.value.offset == 100 + cut


def test_a_sid_without_subauthorities_has_bytes_and_can_be_shown() -> None:
    data = bytes.fromhex("0100000000000005")
    assert Sid.parse(data) == (Sid(5), 8)
    assert Sid(5).build() == data
    assert str(Sid(5)) == "S-1-5"


@pytest.mark.parametrize(
    ("wire", "offset"),
    [
        ("020100000000000512000000", 10),
        ("0110000000000005" + "00000000" * 16, 11),
        ("01ff000000000005" + "00000000" * 255, 11),
    ],
    ids=["revision 2", "16 subauthorities", "255 subauthorities"],
)
def test_a_malformed_sid_is_refused_with_its_offset(wire: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        Sid.parse(bytes.fromhex(wire), at=10)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S",
        "S-1",
        "S-1-",
        "S-1-5",
        "S-2-5-18",
        "S-1-5-",
        "S-1-5--1",
        "S-1-5-4294967296",
        "S-1-0x1000000000000-1",
        "S-1-5-\u0661",
        "S-1-5-1 ",
        "S-1-5-1\n",
        "S-1-5-" + "1" * 100_000,
        "S-1-5" + "-1" * 16,
        "S-0x1-5-18",
        "BA",
        "S-1-5-\udc00",
        "S-1-5-1\0",
    ],
)
def test_text_that_is_no_sid_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Sid.from_text(text)


def test_a_sid_that_no_bytes_can_hold_is_refused() -> None:
    for authority, subauthorities in ((-1, ()), (2**48, ()), (5, (2**32,)), (5, (1,) * 16)):
        with pytest.raises(FormatError):
            Sid(authority, subauthorities)


def test_numbers_may_be_hexadecimal() -> None:
    assert Sid.from_text("s-1-0x5-0X20-544") == sids.ADMINISTRATORS


def test_aliases_are_understood_in_either_case_and_printed_in_capitals() -> None:
    assert alias_sid("BA") == alias_sid("ba") == sids.ADMINISTRATORS
    assert alias_of(sids.ADMINISTRATORS) == "BA"
    assert alias_of(sids.TRUSTED_INSTALLER) is None
    assert alias_sid("XX") is None


def test_an_alias_below_a_domain_needs_the_domain() -> None:
    domain = Sid.from_text("S-1-5-21-1-2-3")
    assert alias_sid("DA", domain=domain) == Sid.from_text("S-1-5-21-1-2-3-512")
    with pytest.raises(FormatError, match="DA"):
        alias_sid("DA")


def test_an_alias_below_a_domain_is_printed_only_where_the_domain_is_given() -> None:
    domain = Sid.from_text("S-1-5-21-1-2-3")
    admins = domain.child(512)
    assert alias_of(admins) is None
    assert alias_of(admins, domain=domain) == "DA"
    assert alias_of(Sid.from_text("S-1-5-21-1-2-4-512"), domain=domain) is None
    assert alias_of(domain.child(1001), domain=domain) is None


def test_an_alias_only_the_newest_windows_knows_is_understood_and_not_printed() -> None:
    operators = alias_sid("HO")
    assert str(operators) == "S-1-5-32-584"
    assert operators is not None
    assert alias_of(operators) is None


def test_every_alias_names_a_sid_of_its_own() -> None:
    domain = Sid.from_text("S-1-5-21-1-2-3")
    aliases = set(sids._FIXED) | set(sids.RELATIVE_ALIASES)
    assert len({alias_sid(alias, domain=domain) for alias in aliases}) == len(aliases)
