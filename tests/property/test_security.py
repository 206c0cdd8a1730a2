"""Security descriptors of every shape: nothing is lost between bytes, values and text."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security import (
    Ace,
    AceType,
    Acl,
    NotExpressible,
    OpaqueAce,
    SddlError,
    SecurityDescriptor,
)
from windowsfilter.ntfs.security.claims import Claim, ClaimType
from windowsfilter.ntfs.security.condition_printer import print_condition
from windowsfilter.ntfs.security.condition_reader import read_condition
from windowsfilter.ntfs.security.conditions import (
    COMPARISON,
    EXISTENCE,
    LOGICAL,
    MEMBERSHIP,
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
from windowsfilter.ntfs.security.flags import CALLBACK_ACE_TYPES, OBJECT_ACE_TYPES, SACL_ACE_TYPES
from windowsfilter.ntfs.security.scanner import Scanner
from windowsfilter.ntfs.security.sddl_letters import ACE_TYPE_LETTERS
from windowsfilter.ntfs.sids import EVERYONE, Sid, alias_of, alias_sid

WORDS = st.integers(0, 2**32 - 1)
UNITS = st.text(st.characters(exclude_characters="\0"), max_size=6)  # lone surrogates included
ALIASED = st.sampled_from(["BA", "SY", "WD", "CO", "AU", "HI", "UD"]).map(
    lambda alias: alias_sid(alias) or EVERYONE
)
SIDS = ALIASED | st.builds(Sid, st.integers(0, 2**48 - 1), st.lists(WORDS, max_size=15).map(tuple))
NAMED_SIDS = SIDS.filter(lambda sid: bool(sid.subauthorities))

# ---- conditions -------------------------------------------------------------------------------

INTEGERS = st.builds(
    lambda magnitude, sign, base: Integer(-magnitude if sign == 2 else magnitude, sign, base),
    st.integers(0, 2**63 - 1),
    st.integers(1, 3),
    st.integers(1, 3),
)
SINGLES = (
    INTEGERS
    | st.builds(String, UNITS.filter(lambda text: '"' not in text))
    | st.builds(Octets, st.binary(max_size=5))
    | st.builds(SidValue, NAMED_SIDS)
)
LITERALS = SINGLES | st.builds(Composite, st.lists(SINGLES, max_size=3).map(tuple))
REMOTE = st.builds(
    Attribute,
    st.sampled_from([AttributeSource.USER, AttributeSource.RESOURCE, AttributeSource.DEVICE]),
    st.text(min_size=1, max_size=6),
)
LOCAL = st.builds(
    Attribute, st.just(AttributeSource.LOCAL), st.from_regex(r"[a-c0-9:./_]{1,4}", fullmatch=True)
)
ATTRIBUTES = LOCAL | REMOTE

Program = tuple[Token, ...]


def expressible(programs: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
    """Programs over others that have a text."""
    compared = st.tuples(programs, (LITERALS | REMOTE), st.sampled_from(sorted(COMPARISON)))
    joined = st.tuples(programs, programs, st.sampled_from(sorted(LOGICAL)))
    return (
        compared.map(lambda parts: (*parts[0], parts[1], parts[2]))
        | joined.map(lambda parts: (*parts[0], *parts[1], parts[2]))
        | programs.map(lambda program: (*program, Operator.NOT))
    )


CONDITIONS = st.recursive(
    ATTRIBUTES.map(lambda attribute: (attribute,))
    | st.tuples(ATTRIBUTES, st.sampled_from(sorted(EXISTENCE)))
    | st.tuples(LITERALS, st.sampled_from(sorted(MEMBERSHIP))),
    expressible,
    max_leaves=8,
).map(Condition)

ANY_TOKENS = st.lists(
    st.sampled_from(Operator)
    | LITERALS
    | st.builds(Attribute, st.sampled_from(AttributeSource), st.text(max_size=4)),
    max_size=8,
)


def check_place(error: FormatError, length: int) -> None:
    """Every complaint about what came from outside says where, and that place exists."""
    assert error.offset is not None
    assert 0 <= error.offset <= length


def as_read(condition: Condition) -> Condition:
    """The condition as its bytes have it: two halves of a surrogate pair in a row are one character."""
    return Condition.parse(condition.build())


def read(text: str) -> Condition:
    scanner = Scanner(text)
    condition = read_condition(scanner)
    assert scanner.at_end
    return condition


@given(CONDITIONS)
def test_a_condition_survives_bytes_and_text(condition: Condition) -> None:
    condition = as_read(condition)
    assert as_read(condition) == condition
    text = print_condition(condition)
    assert as_read(read(text)) == condition
    assert print_condition(read(text)) == text


@given(ANY_TOKENS)
def test_any_program_is_refused_or_has_a_text_that_means_the_same(tokens: list[Token]) -> None:
    try:
        condition = as_read(Condition(tuple(tokens)))
    except FormatError:
        return
    try:
        text = print_condition(condition)
    except NotExpressible:
        return
    assert as_read(read(text)) == condition


@given(st.binary(max_size=60))
def test_any_bytes_are_a_condition_or_our_error(data: bytes) -> None:
    data = b"artx" + data
    try:
        condition = Condition.parse(data)
    except FormatError as error:
        check_place(error, len(data))
        return
    built = condition.build()
    assert built.rstrip(b"\0") == data.rstrip(b"\0")
    assert Condition.parse(built) == condition


# ---- claims -----------------------------------------------------------------------------------

CLAIM_VALUES = {
    ClaimType.INT64: st.integers(-(2**63), 2**63 - 1),
    ClaimType.UINT64: st.integers(0, 2**64 - 1),
    ClaimType.STRING: UNITS.filter(lambda text: '"' not in text),
    ClaimType.SID: NAMED_SIDS,
    ClaimType.BOOLEAN: st.integers(0, 1),
    ClaimType.OCTETS: st.binary(max_size=5),
}
CLAIMS = st.sampled_from(sorted(CLAIM_VALUES)).flatmap(
    lambda kind: st.builds(
        Claim,
        UNITS.filter(bool),
        st.just(kind),
        WORDS,
        st.lists(CLAIM_VALUES[kind], max_size=3).map(tuple),
    )
)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_claim_or_our_error(data: bytes) -> None:
    try:
        claim = Claim.parse(data)
    except FormatError as error:
        check_place(error, len(data))
        return
    assert Claim.parse(claim.build()) == claim


# ---- descriptors ------------------------------------------------------------------------------

BYTE = st.integers(0, 255)
GUIDS = st.none() | st.uuids(allow_nil=True)
TYPED = [kind for kind in AceType if kind != AceType.ACCESS_ALLOWED_COMPOUND]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


@st.composite
def aces(draw: st.DrawFn, *, kinds: Sequence[AceType], any_data: bool) -> Ace:
    """An ACE of one of `kinds`: with any data, or with data that has a text."""
    kind = draw(st.sampled_from(kinds))
    is_object = kind in OBJECT_ACE_TYPES
    sid = draw(SIDS if any_data else NAMED_SIDS)
    data = padded(draw(st.binary(max_size=12))) if any_data else b""
    if kind in CALLBACK_ACE_TYPES and not (any_data and draw(st.booleans())):
        data = draw(CONDITIONS).build()
    elif kind == AceType.RESOURCE_ATTRIBUTE and not (any_data and draw(st.booleans())):
        data, sid = padded(draw(CLAIMS).build()), EVERYONE
    return Ace(
        type=kind,
        flags=draw(BYTE),
        mask=draw(WORDS | st.sampled_from([0, 0x1F01FF, 0x1200A9, 0x20019, 7])),
        sid=sid,
        object_type=draw(GUIDS) if is_object else None,
        inherited_object_type=draw(GUIDS) if is_object else None,
        object_flags=draw(WORDS) & ~3 if is_object and any_data else 0,
        data=data,
    )


OPAQUE = st.builds(
    OpaqueAce,
    type=st.just(4) | st.integers(0x16, 0xFF),
    flags=BYTE,
    body=st.binary(max_size=12).map(padded),
)
ANY_ACLS = st.builds(
    Acl,
    revision=st.just(4),
    aces=st.lists(aces(kinds=TYPED, any_data=True) | OPAQUE, max_size=4).map(tuple),
    sbz1=BYTE,
    sbz2=st.integers(0, 0xFFFF),
    slack=st.binary(max_size=9),
)
ANY_DESCRIPTORS = st.builds(
    SecurityDescriptor,
    control=st.integers(0, 0xFFFF),
    owner=st.none() | SIDS,
    group=st.none() | SIDS,
    dacl=st.none() | ANY_ACLS,
    sacl=st.none() | ANY_ACLS,
    rm_control=BYTE,
)


def speakable_acls(*, is_sacl: bool) -> st.SearchStrategy[Acl | None]:
    kinds = [kind for kind in ACE_TYPE_LETTERS if (kind in SACL_ACE_TYPES) == is_sacl]
    return st.none() | st.lists(aces(kinds=kinds, any_data=False), max_size=4).map(Acl.of)


SPEAKABLE = st.builds(
    SecurityDescriptor,
    control=st.integers(0, 0xFFFF),
    owner=st.none() | NAMED_SIDS,
    group=st.none() | NAMED_SIDS,
    dacl=speakable_acls(is_sacl=False),
    sacl=speakable_acls(is_sacl=True),
)


@given(SIDS)
def test_a_sid_survives_bytes_text_and_alias(sid: Sid) -> None:
    assert Sid.parse(sid.build()) == (sid, sid.size)
    if sid.subauthorities:
        assert Sid.from_text(str(sid)) == sid
    alias = alias_of(sid)
    assert alias is None or alias_sid(alias) == sid


@given(ANY_DESCRIPTORS, st.binary(max_size=9))
def test_a_descriptor_survives_its_bytes(descriptor: SecurityDescriptor, tail: bytes) -> None:
    data = descriptor.build()
    parsed = SecurityDescriptor.parse(data + tail)
    assert parsed == descriptor
    assert parsed.build() == data + tail
    assert replace(parsed, owner=parsed.owner).build() == data
    assert parsed.normalised() == SecurityDescriptor.parse(parsed.normalised().build())


@given(ANY_DESCRIPTORS)
def test_a_text_means_the_same_from_the_first_normalisation_on(
    descriptor: SecurityDescriptor,
) -> None:
    try:
        text = descriptor.to_sddl()
    except NotExpressible:
        return
    compiled = SecurityDescriptor.from_sddl(text)
    assert compiled.to_sddl() == text
    again = SecurityDescriptor.from_sddl(compiled.to_sddl())
    assert again.build() == compiled.build()


@given(SPEAKABLE)
def test_what_sddl_can_say_loses_nothing(descriptor: SecurityDescriptor) -> None:
    text = descriptor.to_sddl()
    compiled = SecurityDescriptor.from_sddl(text)
    assert compiled.to_sddl() == text
    assert compiled.owner == descriptor.owner
    assert compiled.group == descriptor.group
    for mine, theirs in ((compiled.dacl, descriptor.dacl), (compiled.sacl, descriptor.sacl)):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            # As bytes: two halves of a surrogate pair in a row are one character.
            assert [ace.build() for ace in mine.aces] == [ace.build() for ace in theirs.aces]


def check_bytes(data: bytes) -> None:
    try:
        descriptor = SecurityDescriptor.parse(data)
    except FormatError as error:
        check_place(error, len(data))
        return
    assert descriptor.build() == data
    assert SecurityDescriptor.parse(replace(descriptor).build()) == descriptor


@given(st.binary(max_size=120))
def test_any_bytes_are_a_descriptor_or_our_error(data: bytes) -> None:
    check_bytes(data)


@given(ANY_DESCRIPTORS, st.data())
def test_a_damaged_descriptor_is_a_descriptor_or_our_error(
    descriptor: SecurityDescriptor, data: st.DataObject
) -> None:
    raw = bytearray(descriptor.build())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(BYTE)
    check_bytes(bytes(raw))
    try:
        SecurityDescriptor.parse(bytes(raw)).to_sddl()
    except FormatError:
        return


FRAGMENTS = st.sampled_from(
    [
        "O:",
        "G:",
        "D:",
        "S:",
        "P",
        "AI",
        "AR",
        "NO_ACCESS_CONTROL",
        "(",
        ")",
        ";",
        "A",
        "D",
        "AU",
        "XA",
        "RA",
        "OICI",
        "FA",
        "GA",
        "0x1200a9",
        "BA",
        "WD",
        "S-1-5-18",
        "@User.",
        "a",
        "==",
        "&&",
        "||",
        "!",
        "Exists",
        "Member_of",
        "{",
        "}",
        ",",
        '"',
        "#",
        "1",
        "-1",
        "0x",
        "SID(",
        '"n"',
        "TI",
        "TS",
        "TX",
        "TD",
        " ",
        "\t",
        "\x00",
        "�",
        str(uuid.UUID(int=1)),
    ]
)


def check_text(text: str) -> None:
    try:
        descriptor = SecurityDescriptor.from_sddl(text)
    except SddlError as error:
        check_place(error, len(text))
        return
    printed = descriptor.to_sddl()
    assert SecurityDescriptor.from_sddl(printed).build() == descriptor.build()


@given(st.lists(FRAGMENTS, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_a_descriptor_or_our_error(text: str) -> None:
    check_text(text)


@given(SPEAKABLE, st.data())
def test_a_damaged_text_is_a_descriptor_or_our_error(
    descriptor: SecurityDescriptor, data: st.DataObject
) -> None:
    text = descriptor.to_sddl()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        kept = data.draw(st.integers(place, min(place + 4, len(text))))
        text = text[:place] + data.draw(FRAGMENTS | st.just("")) + text[kept:]
    check_text(text)
