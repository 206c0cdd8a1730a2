"""Resource attribute claims: what a resource says about itself, for conditions to ask.

CLAIM_SECURITY_ATTRIBUTE_RELATIVE_V1: a header, the offsets of the values, then name and values wherever the
offsets point. Laid out here as the converter of Windows does it: the name first, the values in order,
nothing aligned.
Not in scope: the text (claim_text.py).
Source: MS-DTYP 2.4.10.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.sids import Sid

_HEADER = struct.Struct("<IHHII")  # name offset, type, reserved, flags, value count
_OFFSET = struct.Struct("<I")
_SIZES = {"q": struct.Struct("<q"), "Q": struct.Struct("<Q")}


class ClaimType(IntEnum):
    """CLAIM_SECURITY_ATTRIBUTE_TYPE_*."""

    INT64 = 1
    UINT64 = 2
    STRING = 3
    FQBN = 4  # a binary's name and version: no letters in SDDL, never met in a descriptor
    SID = 5
    BOOLEAN = 6
    OCTETS = 0x10


ClaimValue = int | str | Sid | bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """A named attribute with values of one type: int, str (any 16-bit units but NUL), Sid or bytes."""

    name: str
    type: ClaimType
    flags: int = 0
    values: tuple[ClaimValue, ...] = ()

    @classmethod
    def parse(cls, data: bytes, *, at: int = 0) -> Claim:
        """The claim that `data`, of a resource attribute ACE, is; padding may follow it.

        `at` is where `data` starts; errors report it. Raises FormatError for types that cannot be
        read, offsets outside, and values that overlap to more than there is.
        """
        if len(data) < _HEADER.size:
            raise FormatError("claim cut off", offset=at + len(data))
        name_at, number, _, flags, count = _HEADER.unpack_from(data)
        if number not in _TYPES:
            raise FormatError(f"claim of type {number:#x}", offset=at + 4)
        if count > (len(data) - _HEADER.size) // _OFFSET.size:
            raise FormatError(f"claim with {count} values does not fit", offset=at + 12)
        kind = ClaimType(number)
        name, total = _string(data, name_at, at, at)
        values: list[ClaimValue] = []
        for index in range(count):
            field_at = _HEADER.size + index * _OFFSET.size
            (start,) = _OFFSET.unpack_from(data, field_at)
            value, size = _value(kind, data, start, at + field_at, at)
            # Many offsets may point at one long value: without a bound, kilobytes become gigabytes.
            total += size
            if total > len(data):
                raise FormatError("values of a claim overlap", offset=at + field_at)
            values.append(value)
        return cls(name, kind, flags, tuple(values))

    def build(self) -> bytes:
        """The bytes, not padded. Raises FormatError for values that do not fit the type."""
        body = bytearray(_units(self.name))
        start = _HEADER.size + _OFFSET.size * len(self.values)
        offsets = bytearray()
        for value in self.values:
            offsets += _OFFSET.pack(start + len(body))
            body += _built(self.type, value)
        if not 0 <= self.flags < 2**32:
            raise FormatError(f"claim flags {self.flags:#x} do not fit 32 bits")
        head = _HEADER.pack(start, self.type, 0, self.flags, len(self.values))
        return head + bytes(offsets + body)


def _value(
    kind: ClaimType, data: bytes, start: int, field_at: int, at: int
) -> tuple[ClaimValue, int]:
    """The value at `start`, and the bytes it takes."""
    if kind == ClaimType.STRING:
        return _string(data, start, field_at, at)
    if kind in (ClaimType.SID, ClaimType.OCTETS):
        (size,) = _OFFSET.unpack(_slice(data, start, 4, field_at))
        body = _slice(data, start + 4, size, field_at)
        if kind == ClaimType.OCTETS:
            return body, 4 + size
        sid, taken = Sid.parse(body, at=at + start + 4)
        if taken != size:
            raise FormatError("bytes after the SID of a claim", offset=at + start + 4 + taken)
        return sid, 4 + size
    raw = _slice(data, start, 8, field_at)
    return int.from_bytes(raw, "little", signed=kind == ClaimType.INT64), 8


def _slice(data: bytes, start: int, size: int, field_at: int) -> bytes:
    if start > len(data) or size > len(data) - start:
        raise FormatError(f"claim with a value of {size} bytes outside", offset=field_at)
    return data[start : start + size]


def _string(data: bytes, start: int, field_at: int, at: int) -> tuple[str, int]:
    """16-bit units up to a NUL, and the bytes they take with it."""
    if start > len(data):
        raise FormatError("claim with a text outside", offset=field_at)
    end = data.find(b"\0\0", start)
    while end >= 0 and (end - start) % 2:
        end = data.find(b"\0\0", end + 1)
    if end < 0:
        raise FormatError("text of a claim without an end", offset=at + start)
    return data[start:end].decode("utf-16-le", "surrogatepass"), end + 2 - start


def _built(kind: ClaimType, value: ClaimValue) -> bytes:
    match value:
        case int():
            letter = "q" if kind == ClaimType.INT64 else "Q"
            if kind in (ClaimType.INT64, ClaimType.UINT64, ClaimType.BOOLEAN):
                try:
                    return _SIZES[letter].pack(value)
                except struct.error as error:
                    raise FormatError(f"claim value {value} does not fit 64 bits") from error
        case str() if kind == ClaimType.STRING:
            return _units(value)
        case Sid() if kind == ClaimType.SID:
            return _OFFSET.pack(value.size) + value.build()
        case bytes() if kind == ClaimType.OCTETS:
            return _OFFSET.pack(len(value)) + value
        case _:
            pass
    raise FormatError(f"claim of type {kind.name} cannot hold {value!a:.40}")


def _units(text: str) -> bytes:
    if "\0" in text:
        raise FormatError("NUL in a text of a claim")
    return f"{text}\0".encode("utf-16-le", "surrogatepass")


_TYPES = frozenset(set(ClaimType) - {ClaimType.FQBN})
