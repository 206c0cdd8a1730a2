"""Conditional expressions: when a callback ACE applies.

In bytes: `artx`, then tokens in postfix order, operands before their operator, then zeros up to a multiple
of 4. `Condition.tokens` is the same, token by token: the tree written flat, so that no expression, however
deep, makes anything recurse.
Not in scope: the text (condition_reader.py, condition_printer.py); evaluating one, which takes a token.
Source: MS-DTYP 2.4.4.17.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.sids import Sid

MAGIC = b"artx"
MAX_COMPOSITE_DEPTH = 16
"""Lists in lists: nobody writes them, the format allows them."""

_INTEGER = struct.Struct("<qBB")  # value, sign, base
_LENGTH = struct.Struct("<I")
_STRING, _OCTETS, _COMPOSITE, _SID = 0x10, 0x18, 0x50, 0x51
_INT64 = 4
_INTEGER_BITS = {1: 8, 2: 16, 3: 32, _INT64: 64}


class Operator(IntEnum):
    """Operators, by their byte."""

    EQUAL = 0x80
    NOT_EQUAL = 0x81
    LESS = 0x82
    LESS_OR_EQUAL = 0x83
    GREATER = 0x84
    GREATER_OR_EQUAL = 0x85
    CONTAINS = 0x86
    EXISTS = 0x87
    ANY_OF = 0x88
    MEMBER_OF = 0x89
    DEVICE_MEMBER_OF = 0x8A
    MEMBER_OF_ANY = 0x8B
    DEVICE_MEMBER_OF_ANY = 0x8C
    NOT_EXISTS = 0x8D
    NOT_CONTAINS = 0x8E
    NOT_ANY_OF = 0x8F
    NOT_MEMBER_OF = 0x90
    NOT_DEVICE_MEMBER_OF = 0x91
    NOT_MEMBER_OF_ANY = 0x92
    NOT_DEVICE_MEMBER_OF_ANY = 0x93
    AND = 0xA0
    OR = 0xA1
    NOT = 0xA2


EXISTENCE = frozenset({Operator.EXISTS, Operator.NOT_EXISTS})
MEMBERSHIP = frozenset(
    {
        Operator.MEMBER_OF,
        Operator.DEVICE_MEMBER_OF,
        Operator.MEMBER_OF_ANY,
        Operator.DEVICE_MEMBER_OF_ANY,
        Operator.NOT_MEMBER_OF,
        Operator.NOT_DEVICE_MEMBER_OF,
        Operator.NOT_MEMBER_OF_ANY,
        Operator.NOT_DEVICE_MEMBER_OF_ANY,
    }
)
LOGICAL = frozenset({Operator.AND, Operator.OR})
UNARY = EXISTENCE | MEMBERSHIP | {Operator.NOT}
COMPARISON = frozenset(Operator) - UNARY - LOGICAL


class AttributeSource(IntEnum):
    """Whose attribute: the bytes of the four tokens."""

    LOCAL = 0xF8
    USER = 0xF9
    RESOURCE = 0xFA
    DEVICE = 0xFB


@dataclass(frozen=True, slots=True)
class Attribute:
    """A claim's name; `name` holds any 16-bit units, lone surrogates too."""

    source: AttributeSource
    name: str


@dataclass(frozen=True, slots=True)
class Integer:
    """A signed number and how it was written. `width` is its token: 1, 2, 3, 4 for 8 to 64 bits."""

    value: int
    sign: int = 3  # 1 plus, 2 minus, 3 none
    base: int = 2  # 1 octal, 2 decimal, 3 hexadecimal
    width: int = _INT64


@dataclass(frozen=True, slots=True)
class String:
    """A string of any 16-bit units but NUL."""

    text: str


@dataclass(frozen=True, slots=True)
class Octets:
    """Bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SidValue:
    """A SID as a value."""

    sid: Sid


@dataclass(frozen=True, slots=True)
class Composite:
    """A list of values."""

    members: tuple[Literal, ...]


Literal = Integer | String | Octets | SidValue | Composite
Token = Operator | Attribute | Literal


@dataclass(frozen=True, slots=True)
class Condition:
    """A conditional expression, its tokens in postfix order.

    Raises FormatError for operators without operands, and unless one result is left.
    """

    tokens: tuple[Token, ...]

    def __post_init__(self) -> None:
        depth = 0
        for token in self.tokens:
            depth = _results_after(token, depth)
        if depth != 1:
            raise FormatError(f"conditional expression leaves {depth} results")

    @classmethod
    def parse(cls, data: bytes, *, at: int = 0) -> Condition:
        """The expression that `data`, of a callback ACE, is; padding may follow it.

        `at` is where `data` starts; errors report it. Raises FormatError for data that is no
        expression, unknown tokens, lengths that lie, and operators without operands.
        """
        if data[:4] != MAGIC:
            raise FormatError("data of an ACE is no conditional expression", offset=at)
        tokens: list[Token] = []
        place, end = 4, len(data)
        depth = 0
        while place < end and data[place] != 0:
            start = place
            token, place = _parse_token(data, place, end, at)
            depth = _results_after(token, depth, at=at + start)
            tokens.append(token)
        if data.count(0, place) != end - place:
            raise FormatError("bytes after the end of a conditional expression", offset=at + place)
        if depth != 1:
            raise FormatError(f"conditional expression leaves {depth} results", offset=at + place)
        return cls(tuple(tokens))

    def build(self) -> bytes:
        """The bytes, padded with zeros to a multiple of 4.

        Raises FormatError for a token that does not fit its bytes.
        """
        out = bytearray(MAGIC)
        for token in self.tokens:
            _build_token(token, out)
        out += bytes(-len(out) % 4)
        return bytes(out)


def _results_after(token: Token, results: int, *, at: int | None = None) -> int:
    """How many results there are after a token."""
    if not isinstance(token, Operator):
        return results + 1
    if token not in UNARY:
        results -= 1
    if results < 1:
        raise FormatError(f"operator {token:#x} lacks an operand", offset=at)
    return results


def _parse_token(data: bytes, place: int, end: int, at: int) -> tuple[Token, int]:
    byte = data[place]
    if byte in _OPERATORS:
        return _OPERATORS[byte], place + 1
    if byte in _SOURCES:
        body, after = _counted(data, place + 1, end, at)
        return Attribute(_SOURCES[byte], _units(body, at + place + 5)), after
    return _parse_literal(data, place, end, at, depth=0)


def _parse_literal(data: bytes, place: int, end: int, at: int, depth: int) -> tuple[Literal, int]:
    byte = data[place]
    if byte in _INTEGER_BITS:
        return _parse_integer(data, place, end, at)
    if byte not in (_STRING, _OCTETS, _COMPOSITE, _SID):
        raise FormatError(
            f"unknown token {byte:#04x} in a conditional expression", offset=at + place
        )
    start = place + 5
    body, after = _counted(data, place + 1, end, at)
    if byte == _OCTETS:
        return Octets(body), after
    if byte == _STRING:
        text = _units(body, at + start)
        if "\0" in text:
            raise FormatError("NUL in a string of a conditional expression", offset=at + start)
        return String(text), after
    if byte == _SID:
        sid, size = Sid.parse(body, at=at + start)
        if size != len(body):
            raise FormatError("bytes after a SID", offset=at + start + size)
        return SidValue(sid), after
    if depth == MAX_COMPOSITE_DEPTH:
        raise FormatError(f"lists deeper than {MAX_COMPOSITE_DEPTH}", offset=at + place)
    members = []
    while start < after:
        member, start = _parse_literal(data, start, after, at, depth + 1)
        members.append(member)
    return Composite(tuple(members)), after


def _parse_integer(data: bytes, place: int, end: int, at: int) -> tuple[Integer, int]:
    after = place + 1 + _INTEGER.size
    if after > end:
        raise FormatError("number cut off", offset=at + place)
    width = data[place]
    value, sign, base = _INTEGER.unpack_from(data, place + 1)
    limit = 1 << (_INTEGER_BITS[width] - 1)
    if not -limit <= value < limit:
        raise FormatError(f"number {value} does not fit its token", offset=at + place + 1)
    if not (1 <= sign <= 3 and 1 <= base <= 3):
        raise FormatError(f"number of sign {sign} and base {base}", offset=at + place + 9)
    return Integer(value, sign, base, width), after


def _counted(data: bytes, place: int, end: int, at: int) -> tuple[bytes, int]:
    """The bytes behind a 32-bit length, and where they end."""
    start = place + _LENGTH.size
    if start > end:
        raise FormatError("length cut off", offset=at + place)
    (length,) = _LENGTH.unpack_from(data, place)
    if length > end - start:
        raise FormatError(f"token of {length} bytes reaches outside", offset=at + place)
    return data[start : start + length], start + length


def _units(body: bytes, at: int) -> str:
    if len(body) % 2:
        raise FormatError(f"text of {len(body)} bytes, not 16-bit units", offset=at)
    return body.decode("utf-16-le", "surrogatepass")


def _build_token(token: Token, out: bytearray) -> None:
    match token:
        case Operator():
            out.append(token)
        case Attribute(source, name):
            _append(out, source, name.encode("utf-16-le", "surrogatepass"))
        case Integer(value, sign, base, width):
            try:
                out += bytes((width,)) + _INTEGER.pack(value, sign, base)
            except (struct.error, ValueError) as error:
                raise FormatError(f"number {value} does not fit: {error}") from error
        case String(text):
            _append(out, _STRING, text.encode("utf-16-le", "surrogatepass"))
        case Octets(data):
            _append(out, _OCTETS, data)
        case SidValue(sid):
            _append(out, _SID, sid.build())
        case Composite(members):
            inner = bytearray()
            for member in members:
                _build_token(member, inner)
            _append(out, _COMPOSITE, inner)


def _append(out: bytearray, byte: int, body: bytes | bytearray) -> None:
    out.append(byte)
    out += _LENGTH.pack(len(body))
    out += body


_OPERATORS = {int(operator): operator for operator in Operator}
_SOURCES = {int(source): source for source in AttributeSource}
