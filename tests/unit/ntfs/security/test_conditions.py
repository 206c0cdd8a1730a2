"""Conditional expressions: bytes, text, and what either cannot say."""

from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.security.complaints import NotExpressible, SddlError
from windowsfilter.ntfs.security.condition_printer import print_condition
from windowsfilter.ntfs.security.condition_reader import read_condition
from windowsfilter.ntfs.security.conditions import (
    MAX_COMPOSITE_DEPTH,
    Attribute,
    AttributeSource,
    Composite,
    Condition,
    Integer,
    Octets,
    Operator,
    SidValue,
    String,
    Token,
)
from windowsfilter.ntfs.security.scanner import Scanner

LOCAL = Attribute(AttributeSource.LOCAL, "a")
USER = Attribute(AttributeSource.USER, "b")
ADMINISTRATORS = SidValue(sids.ADMINISTRATORS)


def read(text: str) -> Condition:
    scanner = Scanner(text)
    condition = read_condition(scanner)
    assert scanner.at_end
    return condition


def condition(*tokens: Token) -> Condition:
    return Condition(tokens)


# text (canonical), tokens, bytes after `artx` and before the padding
VECTORS = {
    "local attribute": ("(a)", condition(LOCAL), "f8020000006100"),
    "user attribute": ("(@USER.b)", condition(USER), "f9020000006200"),
    "device attribute missing": (
        "(Not_Exists @DEVICE.b)",
        condition(Attribute(AttributeSource.DEVICE, "b"), Operator.NOT_EXISTS),
        "fb0200000062008d",
    ),
    "string": (
        '(a == "x")',
        condition(LOCAL, String("x"), Operator.EQUAL),
        "f802000000610010020000007800" + "80",
    ),
    "empty string": (
        '(a != "")',
        condition(LOCAL, String(""), Operator.NOT_EQUAL),
        "f80200000061001000000000" + "81",
    ),
    "number": (
        "(a < 5)",
        condition(LOCAL, Integer(5), Operator.LESS),
        "f802000000610004050000000000000003" + "02" + "82",
    ),
    "octets": (
        "(a Contains #0aff)",
        condition(LOCAL, Octets(b"\x0a\xff"), Operator.CONTAINS),
        "f80200000061001802000000" + "0aff" + "86",
    ),
    "list": (
        '(a Any_of {1, "x", #, SID(BA)})',
        condition(
            LOCAL,
            Composite((Integer(1), String("x"), Octets(b""), ADMINISTRATORS)),
            Operator.ANY_OF,
        ),
        (
            "f8020000006100502c000000040100000000000000030210020000007800180000000051100000000102"
            "000000000005200000002002000088"
        ),
    ),
    "empty list": (
        "(a Not_Any_of {})",
        condition(LOCAL, Composite(()), Operator.NOT_ANY_OF),
        "f80200000061005000000000" + "8f",
    ),
    "member of one SID": (
        "(Member_of SID(BA))",
        condition(ADMINISTRATORS, Operator.MEMBER_OF),
        "51100000000102000000000005200000002002000089",
    ),
    "member of a list of what is no SID": (
        "(Not_Device_Member_of_Any {6723349})",
        condition(Composite((Integer(6723349),)), Operator.NOT_DEVICE_MEMBER_OF_ANY),
        "500b000000041597660000000000030293",
    ),
    "astral and lone surrogates in a name": (
        "(@RESOURCE.%d83d%de00x%dc00)",
        condition(Attribute(AttributeSource.RESOURCE, "\U0001f600x\udc00")),
        "fa08000000" + "3dd800de780000dc",
    ),
    "chain to the left": (
        "((a == @USER.b) == 1)",
        condition(LOCAL, USER, Operator.EQUAL, Integer(1), Operator.EQUAL),
        "f8020000006100f902000000620080" + "0401000000000000000302" + "80",
    ),
    "comparison of a test": (
        "(Exists a == 1)",
        condition(LOCAL, Operator.EXISTS, Integer(1), Operator.EQUAL),
        "f8020000006100870401000000000000000302" + "80",
    ),
    "comparison of a negation": (
        "((!(a)) == 1)",
        condition(LOCAL, Operator.NOT, Integer(1), Operator.EQUAL),
        "f8020000006100a20401000000000000000302" + "80",
    ),
    "negated comparison": (
        "(!(a == 1))",
        condition(LOCAL, Integer(1), Operator.EQUAL, Operator.NOT),
        "f80200000061000401000000000000000302" + "80" + "a2",
    ),
    "and binds more than or": (
        "((a) || ((@USER.b) && (a)))",
        condition(LOCAL, USER, LOCAL, Operator.AND, Operator.OR),
        "f8020000006100f9020000006200f8020000006100a0a1",
    ),
    "or in parentheses": (
        "(((a) || (@USER.b)) && (Exists a))",
        condition(LOCAL, USER, Operator.OR, LOCAL, Operator.EXISTS, Operator.AND),
        "f8020000006100f9020000006200a1f802000000610087a0",
    ),
    "grouped to the right": (
        "((a) && ((a) && (a)))",
        condition(LOCAL, LOCAL, LOCAL, Operator.AND, Operator.AND),
        "f8020000006100f8020000006100f8020000006100a0a0",
    ),
}


@pytest.mark.parametrize(("text", "value", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(text: str, value: Condition, wire: str) -> None:
    data = b"artx" + bytes.fromhex(wire)
    data += bytes(-len(data) % 4)
    assert value.build() == data
    assert Condition.parse(data) == value
    assert read(text) == value
    assert print_condition(value) == text
    start = len(data) - len(data[4:].rstrip(b"\0"))
    for cut in range(start):
        with pytest.raises(FormatError) as caught:
            Condition.parse(data[:cut], at=50)
        assert caught.value.offset is not None
        assert 50 <= caught.value.offset <= 50 + cut


NUMBERS = {
    "0": Integer(0, 3, 2),
    "+0": Integer(0, 1, 2),
    "-0": Integer(0, 2, 2),
    "00": Integer(0, 3, 1),
    "0x0": Integer(0, 3, 3),
    "+010": Integer(8, 1, 1),
    "-010": Integer(-8, 2, 1),
    "-0x10": Integer(-16, 2, 3),
    "0xffffffffffffffff": Integer(-1, 3, 3),
    "01777777777777777777777": Integer(-1, 3, 1),
    "9223372036854775807": Integer(2**63 - 1, 3, 2),
    "-9223372036854775808": Integer(-(2**63), 2, 2),
    "-0x8000000000000000": Integer(-(2**63), 2, 3),
}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_a_number_keeps_how_it_was_written(text: str, value: Integer) -> None:
    compared = condition(LOCAL, value, Operator.EQUAL)
    assert read(f"(a == {text})") == compared
    assert print_condition(compared) == f"(a == {text})"
    assert Condition.parse(compared.build()) == compared


CANONICAL = {
    '(@User.Title=="PM" && (@User.D=="F" || @User.D =="S"))': (
        '((@USER.Title == "PM") && ((@USER.D == "F") || (@USER.D == "S")))'
    ),
    "(Member_of_Any{SID(S-1-1-0)})": "(Member_of_any {SID(WD)})",
    "(mEMBER_oF(sid(bA)))": "(Member_of SID(BA))",
    "(OctetStringType==##1#2#3##)": "(OctetStringType == #01020300)",
    "(a == #123)": "(a == #0123)",
    "(a == (1))": "(a == 1)",
    "(a == ((( 1 ) )))": "(a == 1)",
    "(Member_of ((SID(BA))))": "(Member_of SID(BA))",
    "(a == ( @user.b ))": "(a == @USER.b)",
    "(a && @user.b || a && a)": "(((a) && (@USER.b)) || ((a) && (a)))",
    "(a && a && a)": "(((a) && (a)) && (a))",
    "(a || a || a)": "(((a) || (a)) || (a))",
    "(!@USER.b)": "(!(@USER.b))",
    "(!@USER.b == 1)": "(!(@USER.b == 1))",
    "(!(a) == 1)": "(!(a == 1))",
    "(!(a) && a)": "((!(a)) && (a))",
    "(! (!(a)))": "(!(!(a)))",
    "((((a))))": "(a)",
    "(\t\n\v\f\r a\t==\n{\v1\f,\r2 } )": "(a == {1, 2})",
    "(@USER.a == @USER.b != @USER.c)": "((@USER.a == @USER.b) != @USER.c)",
    "(77 < -06244777767)": "(77 < -06244777767)",
    "(Exists @User.x && exists y)": "((Exists @USER.x) && (Exists y))",
    "(Exists Contains)": "(Exists Contains)",
    "(Contains Contains 1)": "(Contains Contains 1)",
    "(@USER.\u00e4%00e4)": "(@USER.%00e4%00e4)",
    "(@USER.a%0041)": "(@USER.aA)",
    "(@USER.a;[]{}~'`,%0026)": "(@USER.a;[]{}~'`,%0026)",
    '(a == ")(;")': '(a == ")(;")',
    "(WIN://x_y.z:1/2)": "(WIN://x_y.z:1/2)",
    "(Member_of {SID(S- 1- 5-18) , SID( BA )})": "(Member_of {SID(SY), SID(BA)})",
    "(a==-1)": "(a == -1)",
    "(a<=1||a>=2&&a!=3)": "((a <= 1) || ((a >= 2) && (a != 3)))",
}


@pytest.mark.parametrize(("text", "expected"), CANONICAL.items())
def test_what_is_accepted_prints_canonically(text: str, expected: str) -> None:
    assert print_condition(read(text)) == expected
    assert read(expected) == read(text)


REFUSED = {
    "": 0,
    "a": 0,
    "(": 1,
    "()": 1,
    "(a": 2,
    "(a && )": 6,
    "(a b)": 3,
    "(a & b)": 3,
    "(a = 1)": 3,
    "(a == a)": 6,
    "(a == )": 6,
    "(a ==": 5,
    "(a == 1 == 2)": 8,
    "(1 == )": 6,
    "(a == 1a)": 7,
    "(a == 08)": 7,
    "(a == 0x)": 7,
    "(a == +)": 6,
    "(a == --1)": 6,
    "(a == 9223372036854775808)": 6,
    "(a == -9223372036854775809)": 6,
    "(a == +0x8000000000000000)": 6,
    "(@Device.b == 0x10000000000000000)": 14,
    "(a == " + "1" * 100_000 + ")": 6,
    "(a == 0x" + "1" * 100_000 + ")": 6,
    "(! Member_of{SID(BA)})": 3,
    "(!a)": 2,
    "(!!(a))": 2,
    "(@User.T == !(@User.T))": 12,
    "(@User.)": 7,
    "(@User)": 1,
    "(@Token.x)": 1,
    "(@User.a%002)": 8,
    "(@User.a%00zz)": 8,
    "(@User.a\x7f)": 8,
    "(Exists)": 7,
    "(Exists (a))": 8,
    "(Exists 1 2)": 10,
    "(Member_of)": 10,
    "(Member_of a)": 11,
    "(Member_of @User.a)": 11,
    "(Member_of {SID(BA)} == 1)": 21,
    "(Member_of_AnySID(BA))": 17,
    "(Member_of {SID(BA)": 19,
    "(Member_of {SID(BA),})": 20,
    "(Member_of {SID(BA) SID(BA)})": 20,
    "(Member_of {BA})": 12,
    "(Member_of SID(XX))": 15,
    "(Member_of SID BA)": 15,
    "(Member_of SID(BA)": 18,
    "(Member_of SID(DA))": 15,
    "(a == {{1}})": 7,
    "(a == {@User.a})": 7,
    '(a == "x)': 6,
    '(a == "x\0")': 8,
    "(a == (1)": 9,
    "(a == ((1))": 11,
    "(a == (b))": 7,
    "(\0a)": 1,
    "(\udc00)": 1,
}


@pytest.mark.parametrize(
    ("text", "offset"),
    REFUSED.items(),
    ids=[ascii(text[:40]) for text in REFUSED],
)
def test_what_is_no_condition_is_refused_with_its_place(text: str, offset: int) -> None:
    with pytest.raises(SddlError) as caught:
        read(text)
    assert caught.value.offset == offset


def test_parentheses_may_be_as_deep_as_the_text_is_long() -> None:
    depth = 400_000
    assert read("(" * depth + "a" + ")" * depth) == condition(LOCAL)
    with pytest.raises(SddlError) as caught:
        read("(" * depth)
    assert caught.value.offset == depth


def test_operators_may_be_as_deep_as_an_ace_is_long() -> None:
    deep = Condition((LOCAL, *[Operator.NOT] * 65_000))
    text = print_condition(deep)
    assert read(text) == deep
    assert Condition.parse(deep.build()) == deep
    wide = Condition((LOCAL, *(USER, Operator.AND) * 5_000))
    assert read(print_condition(wide)) == wide


BROKEN = {
    "other data": ("61727479", 0),
    "nothing": ("61727478", 4),
    "unknown token": ("61727478f802000000610052000000", 11),
    "operator without an operand": ("6172747887000000", 4),
    "binary operator with one operand": ("61727478f802000000610080", 11),
    "two results": ("61727478f8020000006100f80200000061000000", 18),
    "bytes after the padding": ("61727478f8020000006100000001", 11),
    "length that lies": ("61727478f8ffffffff610000", 5),
    "length cut off": ("61727478f80200", 5),
    "odd text": ("61727478f801000000610000", 9),
    "NUL in a string": ("6172747810020000000000", 9),
    "number cut off": ("617274780400000000", 4),
    "number too large for its token": ("617274780180000000000000000302", 5),
    "number of sign 4": ("617274780400000000000000000402", 13),
    "number of base 0": ("617274780400000000000000000300", 13),
    "SID of 16 subauthorities": ("61727478510800000001100000000000058900", 10),
    "bytes after a SID": ("61727478510c00000001000000000000050000000089", 17),
    "attribute in a list": ("617274785007000000f802000000610089", 9),
    "list that reaches outside": ("61727478500a000000040000000000000000", 5),
    "number of a list cut off by it": ("617274785005000000" + "0400000000" + "89", 9),
}


@pytest.mark.parametrize(("wire", "offset"), BROKEN.values(), ids=BROKEN)
def test_bytes_that_are_no_condition_are_refused_with_their_offset(wire: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        Condition.parse(bytes.fromhex(wire), at=100)
    assert caught.value.offset == 100 + offset


def test_lists_in_lists_are_read_to_a_bounded_depth() -> None:
    value = Composite(())
    for _ in range(MAX_COMPOSITE_DEPTH - 1):
        value = Composite((value,))
    nested = condition(value, Operator.MEMBER_OF)
    assert Condition.parse(nested.build()) == nested
    with pytest.raises(NotExpressible, match="list"):
        print_condition(nested)
    deeper = condition(Composite((value,)), Operator.MEMBER_OF)
    with pytest.raises(FormatError, match="deeper"):
        Condition.parse(deeper.build())


UNSPEAKABLE = {
    "value alone": condition(Integer(1)),
    "value under a logical operator": condition(LOCAL, Integer(1), Operator.AND),
    "value to the left": condition(Integer(1), LOCAL, Operator.EQUAL),
    "local attribute to the right": condition(USER, LOCAL, Operator.EQUAL),
    "condition to the right": condition(USER, LOCAL, Operator.EXISTS, Operator.EQUAL),
    "test for a value": condition(Integer(1), Operator.EXISTS),
    "membership in an attribute": condition(USER, Operator.MEMBER_OF),
    "membership in a condition": condition(USER, Operator.EXISTS, Operator.MEMBER_OF),
    "quotation mark": condition(LOCAL, String('"'), Operator.EQUAL),
    "short number": condition(LOCAL, Integer(1, width=1), Operator.EQUAL),
    "plus a negative number": condition(LOCAL, Integer(-1, sign=1), Operator.EQUAL),
    "minus a positive number": condition(LOCAL, Integer(1, sign=2), Operator.EQUAL),
    "attribute without a name": condition(Attribute(AttributeSource.USER, "")),
    "local attribute of odd letters": condition(Attribute(AttributeSource.LOCAL, "a b")),
    "local attribute without a name": condition(Attribute(AttributeSource.LOCAL, "")),
    "local attribute like an operator": condition(Attribute(AttributeSource.LOCAL, "eXists")),
}


@pytest.mark.parametrize("value", UNSPEAKABLE.values(), ids=UNSPEAKABLE)
def test_what_text_cannot_say_raises_and_keeps_its_bytes(value: Condition) -> None:
    assert Condition.parse(value.build()) == value
    with pytest.raises(NotExpressible):
        print_condition(value)


def test_a_number_that_fits_no_token_is_refused() -> None:
    for number in (Integer(2**63), Integer(1, sign=256), Integer(1, width=256)):
        with pytest.raises(FormatError):
            condition(number).build()


@pytest.mark.parametrize(
    "tokens",
    [(), (Operator.NOT,), (LOCAL, Operator.AND), (LOCAL, LOCAL), (LOCAL, Operator.OR, LOCAL)],
)
def test_tokens_that_are_no_expression_make_none(tokens: tuple[Token, ...]) -> None:
    with pytest.raises(FormatError):
        Condition(tokens)
