"""SDDL both ways: bytes as Windows compiles them, text as it prints them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.security import (
    Ace,
    AceType,
    Acl,
    ControlFlag,
    NotExpressible,
    OpaqueAce,
    SddlError,
    SecurityDescriptor,
)
from windowsfilter.ntfs.security.scanner import MAX_SDDL_CHARACTERS

ALLOW = Ace(type=AceType.ACCESS_ALLOWED, mask=0x1F01FF, sid=sids.SYSTEM)

# Layout: header, SACL, DACL, owner, group. Compared with outputs of Windows and Samba where those
# programs know the type; `security-descriptors.md` says which.
VECTORS = {
    "empty DACL": (
        "D:",
        "01000480000000000000000000000000140000000200080000000000",
    ),
    "NULL DACL": (
        "D:NO_ACCESS_CONTROL",
        "0100048000000000000000000000000000000000",
    ),
    "both ACLs empty, both protected": (
        "D:PS:P",
        "010014b00000000000000000140000001c00000002000800000000000200080000000000",
    ),
    "owner and ACL flags": (
        "O:ISD:ARAIS:PAR",
        (
            "010014a72400000000000000140000001c000000020008000000000002000800000000000102000000000005"
            "2000000038020000"
        ),
    ),
    "owner, group and two rules": (
        "O:BAG:SYD:(A;;FA;;;SY)(A;;0x1200a9;;;BU)",
        (
            "0100048048000000580000000000000014000000020034000200000000001400ff011f000101000000000005"
            "1200000000001800a90012000102000000000005200000002102000001020000000000052000000020020000"
            "010100000000000512000000"
        ),
    ),
    "inherited by all below only": (
        "D:PAI(A;OICIIO;GA;;;CO)",
        (
            "010004940000000000000000000000001400000002001c0001000000000b1400000000100101000000000003"
            "00000000"
        ),
    ),
    "denied generic rights": (
        "D:(D;;SDGXGWGR;;;AN)",
        (
            "010004800000000000000000000000001400000002001c000100000001001400000001e00101000000000005"
            "07000000"
        ),
    ),
    "all rights of a key": (
        "D:(A;;KA;;;BA)",
        (
            "01000480000000000000000000000000140000000200200001000000000018003f000f000102000000000005"
            "2000000020020000"
        ),
    ),
    "authority beyond 32 bits": (
        "D:(A;;GA;;;S-1-0x12A05F200-30-40)",
        (
            "010004800000000000000000000000001400000002002000010000000000180000000010010200012a05f200"
            "1e00000028000000"
        ),
    ),
    "audit of success and failure": (
        "S:ARAI(AU;OICISAFA;GA;;;WD)",
        (
            "0100108a0000000000000000140000000000000002001c000100000002c31400000000100101000000000001"
            "00000000"
        ),
    ),
    "rule about kinds of objects": (
        "D:(OA;CIIO;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;bf967aba-0de6-11d0-a285-00aa003049e2;PS)",
        (
            "01000480000000000000000000000000140000000400400001000000050a38000001000003000000531a72ab"
            "2f1ed011981900aa0040529bba7a96bfe60dd011a28500aa003049e201010000000000050a000000"
        ),
    ),
    "low label": (
        "S:(ML;;NW;;;LW)",
        (
            "010010800000000000000000140000000000000002001c000100000011001400010000000101000000000010"
            "00100000"
        ),
    ),
    "high label, inherited": (
        "S:(ML;OINPIO;NW;;;HI)",
        (
            "010010800000000000000000140000000000000002001c0001000000110d1400010000000101000000000010"
            "00300000"
        ),
    ),
    "trust label": (
        "S:P(TL;;0x1200a9;;;S-1-19-512-1536)",
        (
            "010010a000000000000000001400000000000000020020000100000014001800a90012000102000000000013"
            "0002000000060000"
        ),
    ),
    "central policy": (
        "S:(SP;;;;;S-1-17-1)",
        (
            "010010800000000000000000140000000000000002001c000100000013001400000000000101000000000011"
            "01000000"
        ),
    ),
    "condition on a string": (
        'D:(XA;;FX;;;WD;(@USER.Title == "PM"))',
        (
            "010004800000000000000000000000001400000002003c000100000009003400a00012000101000000000001"
            "0000000061727478f90a0000005400690074006c006500100400000050004d0080000000"
        ),
    ),
    "condition on a local attribute": (
        "D:(XA;;0x1200a9;;;BU;(Exists WIN://SYSAPPID))",
        (
            "0100048000000000000000000000000014000000020048000100000009004000a90012000102000000000005"
            "200000002102000061727478f81c000000570049004e003a002f002f00530059005300410050005000490044"
            "00870000"
        ),
    ),
    "negative hexadecimal number": (
        "D:(XA;;CC;;;WD;(@DEVICE.n == -0x10))",
        (
            "0100048000000000000000000000000014000000020034000100000009002c00010000000101000000000001"
            "0000000061727478fb020000006e0004f0ffffffffffffff02038000"
        ),
    ),
    "list of numbers in three notations": (
        "D:(XA;;CC;;;WD;(@USER.n == {1, +010}))",
        (
            "0100048000000000000000000000000014000000020044000100000009003c00010000000101000000000001"
            "0000000061727478f9020000006e005016000000040100000000000000030204080000000000000001018000"
        ),
    ),
    "octets": (
        "D:(XA;;CC;;;WD;(@USER.b == #01020300))",
        (
            "0100048000000000000000000000000014000000020034000100000009002c00010000000101000000000001"
            "0000000061727478f902000000620018040000000102030080000000"
        ),
    ),
    "escaped name, resource attribute to the right": (
        "D:(XD;;CC;;;WD;(@USER.a%0020b Any_of @RESOURCE.p))",
        (
            "010004800000000000000000000000001400000002003400010000000a002c00010000000101000000000001"
            "0000000061727478f906000000610020006200fa0200000070008800"
        ),
    ),
    "not not member": (
        "D:(XA;;CCDCLCSWRP;;;AA;(!(!(Member_of {SID(AA)}))))",
        (
            "0100048000000000000000000000000014000000020044000100000009003c001f0000000102000000000005"
            "200000004302000061727478501500000051100000000102000000000005200000004302000089a2a2000000"
        ),
    ),
    "two memberships": (
        "D:(XA;;CCDCLCSWRP;;;AA;((Device_Member_of {SID(AA)}) && (Member_of {SID(WD)})))",
        (
            "01000480000000000000000000000000140000000200580001000000090050001f0000000102000000000005"
            "20000000430200006172747850150000005110000000010200000000000520000000430200008a5011000000"
            "510c00000001010000000000010000000089a000"
        ),
    ),
    "or of and": (
        "D:(XA;;CC;;;WD;((@USER.A) || ((@DEVICE.B) && (@USER.C))))",
        (
            "0100048000000000000000000000000014000000020038000100000009003000010000000101000000000001"
            "0000000061727478f9020000004100fb020000004200f9020000004300a0a100"
        ),
    ),
    "audited where an attribute is missing": (
        "S:(XU;SA;FX;;;WD;(Not_Exists @USER.x))",
        (
            "010010800000000000000000140000000000000002002800010000000d402000a00012000101000000000001"
            "0000000061727478f90200000078008d"
        ),
    ),
    "condition about a kind of object": (
        "D:(ZA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD;(a))",
        (
            "010004800000000000000000000000001400000004003c00010000000b0034000001000001000000531a72ab"
            "2f1ed011981900aa0040529b01010000000000010000000061727478f802000000610000"
        ),
    ),
    "claim of strings": (
        'S:(RA;;;;;WD;("colour",TS,0x0,"blue","red"))',
        (
            "0100108000000000000000001400000000000000020054000100000012004c00000000000101000000000001"
            "0000000018000000030000000000000002000000260000003000000063006f006c006f007500720000006200"
            "6c007500650000007200650064000000"
        ),
    ),
    "claim of signed numbers": (
        'S:(RA;CI;;;;WD;("n",TI,0x2,-8,7))',
        (
            "0100108000000000000000001400000000000000020048000100000012024000000000000101000000000001"
            "00000000180000000100000002000000020000001c000000240000006e000000f8ffffffffffffff07000000"
            "00000000"
        ),
    ),
    "claim of an unsigned number": (
        'S:(RA;;;;;WD;("u",TU,0x20,3))',
        (
            "010010800000000000000000140000000000000002003c000100000012003400000000000101000000000001"
            "000000001400000002000000200000000100000018000000750000000300000000000000"
        ),
    ),
    "boolean claim": (
        'S:(RA;;;;;WD;("b",TB,0x0,1))',
        (
            "010010800000000000000000140000000000000002003c000100000012003400000000000101000000000001"
            "000000001400000006000000000000000100000018000000620000000100000000000000"
        ),
    ),
    "claim of octets": (
        'S:(RA;;;;;WD;("x",TX,0x0,0077,00))',
        (
            "0100108000000000000000001400000000000000020044000100000012003c00000000000101000000000001"
            "00000000180000001000000000000000020000001c0000002200000078000000020000000077010000000000"
        ),
    ),
}


def canonical(text: str, **options: str) -> str:
    return SecurityDescriptor.from_sddl(text, **options).to_sddl()


@pytest.mark.parametrize(("text", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(text: str, wire: str) -> None:
    data = bytes.fromhex(wire)
    compiled = SecurityDescriptor.from_sddl(text)
    assert compiled.build() == data
    parsed = SecurityDescriptor.parse(data)
    assert parsed == compiled
    assert parsed.to_sddl() == text
    assert parsed.sddl_is_exact()


CANONICAL = {
    "": "",
    "S:D:P": "D:PS:",
    "S:D:": "D:S:",
    "D:AIPAR(A;;GA;;;SY)": "D:PARAI(A;;GA;;;SY)",
    "D:ppPAiar(A;;GA;;;SY)": "D:PARAI(A;;GA;;;SY)",
    "G:SYO:BA": "O:BAG:SY",
    # rights
    "D:(A;;01234567;;;SY)": "D:(A;;0x53977;;;SY)",
    "D:(A;;123456789;;;SY)": "D:(A;;0x75bcd15;;;SY)",
    "D:(A;;17;;;SY)": "D:(A;;CCRP;;;SY)",
    "D:(A;;0xff;;;SY)": "D:(A;;CCDCLCSWRPWPDTLO;;;SY)",
    "D:(A;;0xFFFFFFFF;;;SY)": "D:(A;;0xffffffff;;;SY)",
    "D:(A;;037777777777;;;SY)": "D:(A;;0xffffffff;;;SY)",
    "D:(A;;000000000000000000000000001;;;SY)": "D:(A;;CC;;;SY)",
    "D:(A;;0;;;SY)": "D:(A;;;;;SY)",
    "D:(A;;0x0;;;SY)": "D:(A;;;;;SY)",
    "D:(A;;GRGWGXGA;;;SY)": "D:(A;;GAGXGWGR;;;SY)",
    "D:(A;;KRKWKXKA;;;SY)": "D:(A;;KA;;;SY)",
    "D:(A;;KX;;;SY)": "D:(A;;KR;;;SY)",
    "D:(A;;FRFWFXSDRCWDWO;;;SY)": "D:(A;;0x1f01bf;;;SY)",
    "D:(A;;FRFWFX;;;S-1-5-83-0)": "D:(A;;0x1201bf;;;S-1-5-83-0)",
    "D:(A;;CCCC;;;SY)": "D:(A;;CC;;;SY)",
    "S:(ML;;NXNW;;;ME)": "S:(ML;;NWNX;;;ME)",
    "S:(ML;;0x9;;;ME)": "S:(ML;;CCSW;;;ME)",
    # either case, but for the letters of sections
    "D:ai(a;oici;ga;;;sy)": "D:AI(A;OICI;GA;;;SY)",
    "D:no_access_control": "D:NO_ACCESS_CONTROL",
    "O:s-1-5-18": "O:SY",
    "S:(ou;sa;cr;AB721A53-1E2F-11D0-9819-00AA0040529B;;wd)": (
        "S:(OU;SA;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)"
    ),
    # SIDs
    "O:S-1-2-0x200D:": "O:S-1-2-512D:",
    "O:S-1-2-512D:": "O:S-1-2-512D:",
    "O:S-1-2-0xdS:": "O:S-1-2-13S:",
    "D:(A;;GA;;;S-1-3-0xffffffff-3-4)": "D:(A;;GA;;;S-1-3-4294967295-3-4)",
    "D:(A;;GA;;;S-1-5000000000-30-40)": "D:(A;;GA;;;S-1-0x12A05F200-30-40)",
    "O:S-1-5-32-544": "O:BA",
    "O:S-1-5-0000000000000000032-544": "O:BA",
    "O:HOG:SH": "O:S-1-5-32-584G:S-1-5-32-585",
    "O:S-1-16-0": "O:S-1-16-0",
    # blanks
    " O:AA G:WD ": "O:AAG:WD",
    "\t\n\v\f\rO:\t\n\v\f\rAA\t\n\v\f\r": "O:AA",
    "D: S:": "D:S:",
    "D: P (A;;GA;;;SY) (A;;GX;;;AA) ": "D:P(A;;GA;;;SY)(A;;GX;;;AA)",
    "D: P AI S:": "D:PAIS:",
    "D:(A; ;GA;;;SY)": "D:(A;;GA;;;SY)",
    "D:( A; OI; GA; ; ; SY )": "D:(A;OI;GA;;;SY)",
    "D:(A;;GA;;; S-1-333-4)": "D:(A;;GA;;;S-1-333-4)",
    "O:S- 1- 2-3": "O:S-1-2-3",
    "D:AI(A;CI;RP LCLO  RC;;;AU)": "D:AI(A;CI;LCRPLORC;;;AU)",
    # in an access filter, the bit of "audit success" is "trust protected"
    "S:(FL;TP;FX;;;WD)": "S:(FL;TP;FX;;;WD)",
    "S:(FL;SACR;FX;;;WD;(@User.x))": "S:(FL;CRTP;FX;;;WD;(@USER.x))",
    "D:(A;IDIONPCIOI;GA;;;SY)": "D:(A;OICINPIOID;GA;;;SY)",
    "S:(AL;FA;GA;;;SY)": "S:(AL;FA;GA;;;SY)",
    "S:(OL;;GR;;;S-1-5-75-552)": "S:(OL;;GR;;;S-1-5-75-552)",
}


@pytest.mark.parametrize(("text", "expected"), CANONICAL.items())
def test_what_is_accepted_prints_canonically(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert canonical(expected) == expected
    compiled = SecurityDescriptor.from_sddl(text)
    assert SecurityDescriptor.from_sddl(expected).build() == compiled.build()


REFUSED = {
    "d:(A;;GA;;;SY)": 0,
    "D:P:S:": 3,
    "D:((A;;GA;;;SY))": 3,
    "D:(A;;GA;;)": 10,
    "D:(A;;GA ;;;SY)": 9,
    "D:(A;;RP LCLOR C;;;AU)": 13,
    "D:(A;;RP\tLC;;;AU)": 8,
    "O:S-1-": 2,
    "O:XX": 2,
    "O:": 2,
    "O:S": 2,
    "O:S-": 2,
    "O:S-1": 2,
    "O:S-10": 2,
    "O:S-1-5": 2,
    "O:S-2-5-18": 2,
    "O:S-0x1-5-18": 2,
    "O:S-1-0xD:": 2,
    "O:S-1-5-4294967296": 2,
    "O:S-1-0x1000000000000-1": 2,
    "O:S-1-5" + "-1" * 16: 2,
    "O:S-1-5-" + "9" * 100_000: 2,
    "O:BA-": 4,
    "O:BAO:BA": 4,
    "G:BAG:BA": 4,
    "D:D:": 2,
    "S:S:": 2,
    "D:S:D:": 4,
    "D :S:": 0,
    "D": 0,
    "X:1": 0,
    "D:X": 2,
    "D:NO_ACCESS_CONTROL(A;;GA;;;SY)": 19,
    "D:(": 3,
    "D:(A": 4,
    "D:(A;": 5,
    "D:(A;;GA;;;SY": 13,
    "D:(A;;GA;;;SY;": 13,
    "D:(A;;GA;;;SY)(": 15,
    "D:(A;;GA;;;SY))": 14,
    "D:(A;;GA;;;SY;(a))": 13,
    "D:(AU;SA;GA;;;SY)": 3,
    "S:(A;;GA;;;SY)": 3,
    "D:(Antlers;;GA;;;SY)": 3,
    "D:(\u0100;;GA;;;SY)": 3,
    "D:(;;GA;;;SY)": 3,
    "S:(\ufb02;;GA;;;SY)": 3,  # a ligature: FL to str.upper
    "D:(A;;\u017fD;;;SY)": 6,  # a long s
    "S:(AU;\u017fA;GA;;;SY)": 6,
    "D:NO_ACCE\u017f\u017f_CONTROL": 2,
    "D:(A;;GA;;;\u017fY)": 11,
    "D:(XA;;GA;;;SY;(Exi\u017fts a))": 19,
    "D:(A;XX;GA;;;SY)": 5,
    "D:(A;O;GA;;;SY)": 5,
    "S:(AU;SA;CROOO;;;WD)": 11,
    "D:(A;;08;;;SY)": 6,
    "D:(A;;0x;;;SY)": 6,
    "D:(A;;0x 1;;;SY)": 6,
    "D:(A;;1 ;;;SY)": 6,
    "D:(A;;-1;;;SY)": 6,
    "D:(A;;0x100000000;;;SY)": 6,
    "D:(A;;4294967296;;;SY)": 6,
    "D:(A;;" + "1" * 100_000 + ";;;SY)": 6,
    "D:(A;;\u0661;;;SY)": 6,
    "D:(A;;NW;;;SY)": 6,
    "D:(A;;GA;;;S-1-3-4 )": 18,
    "D:(A;;GA;a;;SY)": 9,
    "D:(A;;GA;ab721a53-1e2f-11d0-9819-00aa0040529b;;SY)": 9,
    "D:(OA;;GA; ab721a53-1e2f-11d0-9819-00aa0040529b;;SY)": 10,
    "D:(OA;;GA;ab721a53-1e2f-11d0-9819-00aa0040529b ;;SY)": 10,
    "D:(OA;;GA;{ab721a53-1e2f-11d0-9819-00aa0040529b};;SY)": 10,
    "D:(OA;;GA;ab721a531e2f11d0981900aa0040529b;;SY)": 10,
    "D:(XA;;GA;;;SY)": 14,
    "S:(RA;;;;;WD)": 12,
    'S:(RA;;;;;SY;("n",TI,0x0,1))': 10,
    'S:(RA;;;;;WD;("a%0000b",TI,0x0,1))': 13,
    "O:BA\0": 4,
    "O:\udc00": 2,
    "\ud800": 0,
    "O:DA": 2,
    "D:(A;;GA;;;LG)": 11,
}


@pytest.mark.parametrize(
    ("text", "offset"),
    REFUSED.items(),
    ids=[ascii(text[:40]) for text in REFUSED],
)
def test_what_is_no_sddl_is_refused_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(SddlError) as caught:
        SecurityDescriptor.from_sddl(text)
    assert caught.value.offset == offset
    assert f"(at character {offset})" in str(caught.value)


def test_aliases_below_a_domain_need_the_domain() -> None:
    domain = "S-1-5-21-1-2-3"
    descriptor = SecurityDescriptor.from_sddl("O:DAG:LGD:(A;;GA;;;EA)", domain=domain)
    assert descriptor.to_sddl() == f"O:{domain}-512G:{domain}-501D:(A;;GA;;;{domain}-519)"
    assert descriptor.to_sddl(domain=domain) == "O:DAG:LGD:(A;;GA;;;EA)"
    assert SecurityDescriptor.from_sddl(
        "O:DA", domain=sids.Sid.from_text(domain)
    ) == SecurityDescriptor.from_sddl(f"O:{domain}-512")


def test_a_domain_is_used_inside_conditions_and_claims_too() -> None:
    text = 'D:(XA;;GA;;;WD;(Member_of {SID(DA)}))S:(RA;;;;;WD;("n",TD,0x0,DA,BA))'
    descriptor = SecurityDescriptor.from_sddl(text, domain="S-1-5-21-1-2-3")
    assert descriptor.to_sddl(domain="S-1-5-21-1-2-3") == text
    assert "SID(S-1-5-21-1-2-3-512)" in descriptor.to_sddl()


def dacl(*aces: Ace | OpaqueAce) -> SecurityDescriptor:
    return SecurityDescriptor(dacl=Acl.of(aces))


def sacl(*aces: Ace | OpaqueAce) -> SecurityDescriptor:
    return SecurityDescriptor(sacl=Acl.of(aces))


WITHOUT_LETTERS = {
    "compound": (dacl(ALLOW, OpaqueAce(type=4, body=bytes(20))), "ACE 1 of D: .*0x4"),
    "of a type nobody named": (dacl(OpaqueAce(type=0x77)), "0x77"),
    "denied callback about kinds of objects": (
        dacl(replace(ALLOW, type=AceType.ACCESS_DENIED_CALLBACK_OBJECT)),
        "0xc",
    ),
    "alarm callback": (sacl(replace(ALLOW, type=AceType.SYSTEM_ALARM_CALLBACK)), "0xe"),
    "audit callback about kinds of objects": (
        sacl(replace(ALLOW, type=AceType.SYSTEM_AUDIT_CALLBACK_OBJECT)),
        "0xf",
    ),
    "alarm callback about kinds of objects": (
        sacl(replace(ALLOW, type=AceType.SYSTEM_ALARM_CALLBACK_OBJECT)),
        "0x10",
    ),
    "audit in a DACL": (dacl(replace(ALLOW, type=AceType.SYSTEM_AUDIT)), "AU in a DACL"),
    "permission in an SACL": (sacl(ALLOW), "A in an SACL"),
    "callback with data of an application": (
        dacl(replace(ALLOW, type=AceType.ACCESS_ALLOWED_CALLBACK, data=b"mine")),
        "no conditional expression",
    ),
    "callback without data": (
        dacl(replace(ALLOW, type=AceType.ACCESS_ALLOWED_CALLBACK)),
        "no conditional expression",
    ),
    "broken claim": (
        sacl(replace(ALLOW, type=AceType.RESOURCE_ATTRIBUTE, sid=sids.EVERYONE, data=b"claim")),
        "claim cut off",
    ),
    "SID without subauthorities": (dacl(replace(ALLOW, sid=sids.Sid(5))), "S-1-5"),
    "claim for somebody": (sacl(replace(ALLOW, type=AceType.RESOURCE_ATTRIBUTE)), "S-1-5-18"),
}


@pytest.mark.parametrize(("descriptor", "message"), WITHOUT_LETTERS.values(), ids=WITHOUT_LETTERS)
def test_an_ace_that_sddl_cannot_say_is_named_and_its_bytes_stay(
    descriptor: SecurityDescriptor, message: str
) -> None:
    data = descriptor.build()
    parsed = SecurityDescriptor.parse(data)
    with pytest.raises(NotExpressible, match=message):
        parsed.to_sddl()
    assert not parsed.sddl_is_exact()
    assert parsed.build() == data


INEXACT = {
    "defaulted owner": SecurityDescriptor(control=ControlFlag.OWNER_DEFAULTED),
    "byte of the resource manager": SecurityDescriptor(rm_control=1),
    "protected, without a DACL": SecurityDescriptor(control=ControlFlag.DACL_PROTECTED),
    "bytes after a SID": dacl(replace(ALLOW, data=b"more")),
    "unnamed object flags": dacl(
        replace(ALLOW, type=AceType.ACCESS_ALLOWED_OBJECT, object_flags=4)
    ),
}


@pytest.mark.parametrize("descriptor", INEXACT.values(), ids=INEXACT)
def test_text_that_does_not_say_all_is_known_to_be_inexact(
    descriptor: SecurityDescriptor,
) -> None:
    descriptor.to_sddl()
    assert not descriptor.sddl_is_exact()


def test_layout_does_not_make_a_text_inexact() -> None:
    odd = SecurityDescriptor(dacl=Acl(revision=3, aces=(ALLOW,), slack=b"slack", sbz1=1, sbz2=2))
    assert odd.sddl_is_exact()
    assert SecurityDescriptor.from_sddl(odd.to_sddl()).build() == odd.normalised().build()


def test_text_is_bounded_before_it_is_read() -> None:
    with pytest.raises(SddlError) as caught:
        SecurityDescriptor.from_sddl("(" * (MAX_SDDL_CHARACTERS + 1))
    assert caught.value.offset == MAX_SDDL_CHARACTERS


def test_text_that_compiles_to_too_much_is_refused() -> None:
    for text in (
        "D:" + "(A;;GA;;;SY)" * 4000,
        "D:" + "(A;;GA;;;SY)" * 3000 + "S:" + "(AU;;GA;;;SY)" * 3000,
    ):
        with pytest.raises(SddlError, match="bytes"):
            SecurityDescriptor.from_sddl(text)


def test_the_longest_canonical_text_stays_below_the_limit() -> None:
    # Seven bytes for 35 characters: the most text of the fewest bytes that we know.
    condition = " && ".join(["Not_Device_Member_of_Any {}"] * 9300)
    descriptor = SecurityDescriptor.from_sddl(f"D:(XA;;GA;;;WD;({condition}))")
    assert len(descriptor.build()) > 65_000
    text = descriptor.to_sddl()
    assert 300_000 < len(text) < 400_000 < MAX_SDDL_CHARACTERS
    assert SecurityDescriptor.from_sddl(text).build() == descriptor.build()


def test_errors_of_text_are_format_errors() -> None:
    with pytest.raises(FormatError):
        SecurityDescriptor.from_sddl("?")
