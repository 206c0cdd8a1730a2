"""Access control entries: one rule of an ACL, as bytes and as a value.

An ACE is a type, flags, a size (a multiple of 4), and by type: mask and SID, or mask, object flags, up to
two GUIDs and SID. What follows the SID is data: a conditional expression (conditions.py), a
claim (claims.py), or an application's own; it is carried as it is.
Types that cannot be taken apart so (compound ACEs and those nobody named yet) are carried whole.
Sources: MS-DTYP 2.4.4; which sizes Windows refuses: RtlValidAcl as documented by its callers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.flags import OBJECT_ACE_TYPES, AceType
from windowsfilter.ntfs.sids import Sid

if TYPE_CHECKING:
    # Few descriptors hold a GUID, and the module takes milliseconds to import.
    from uuid import UUID

MAX_ACE_BYTES = 0xFFFC
"""AceSize is a 16-bit multiple of 4."""

_HEADER = struct.Struct("<BBH")  # type, flags, size
_PLAIN = struct.Struct("<BBHI")  # and mask
_OBJECT = struct.Struct("<BBHII")  # and mask, object flags
_OBJECT_TYPE_PRESENT = 1
_INHERITED_OBJECT_TYPE_PRESENT = 2
_GUIDS_PRESENT = _OBJECT_TYPE_PRESENT | _INHERITED_OBJECT_TYPE_PRESENT

# By number: what parse makes of a type. None: it is carried whole.
_TYPES: tuple[AceType | None, ...] = tuple(
    None if number == AceType.ACCESS_ALLOWED_COMPOUND else AceType(number)
    for number in range(max(AceType) + 1)
)
_IS_OBJECT = tuple(number in OBJECT_ACE_TYPES for number in range(max(AceType) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ace:
    """An ACE with a mask and a SID: every type that Windows names but the compound one.

    `flags` are AceFlag bits, `mask` AccessRight bits. `object_flags` holds the bits beside the two
    that tell which GUIDs are there. `data` is what follows the SID, padding included.
    """

    type: AceType
    flags: int = 0
    mask: int = 0
    sid: Sid
    object_type: UUID | None = None
    inherited_object_type: UUID | None = None
    object_flags: int = 0
    data: bytes = b""

    def build(self) -> bytes:
        """The bytes; data is padded with zeros to a multiple of 4.

        Raises FormatError for a number that does not fit and for more than 65,532 bytes.
        """
        guids = b"".join(
            guid.bytes_le
            for guid in (self.object_type, self.inherited_object_type)
            if guid is not None
        )
        is_object = self.type in OBJECT_ACE_TYPES
        if self.type == AceType.ACCESS_ALLOWED_COMPOUND or (guids and not is_object):
            raise FormatError(f"an ACE of type {self.type:#x} cannot hold what is asked")
        rest = guids + self.sid.build() + self.data
        rest += bytes(-len(rest) % 4)
        size = len(rest) + (_OBJECT.size if is_object else _PLAIN.size)
        if size > MAX_ACE_BYTES:
            raise FormatError(f"ACE of {size} bytes, {MAX_ACE_BYTES} fit")
        try:
            if not is_object:
                return _PLAIN.pack(self.type, self.flags, size, self.mask) + rest
            object_flags = self.object_flags & ~_GUIDS_PRESENT
            if self.object_type is not None:
                object_flags |= _OBJECT_TYPE_PRESENT
            if self.inherited_object_type is not None:
                object_flags |= _INHERITED_OBJECT_TYPE_PRESENT
            return _OBJECT.pack(self.type, self.flags, size, self.mask, object_flags) + rest
        except struct.error as error:
            raise FormatError(f"ACE with a number that does not fit: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueAce:
    """An ACE whose body we cannot take apart: carried, never dropped."""

    type: int
    flags: int = 0
    body: bytes = b""

    def build(self) -> bytes:
        """The bytes; the body is padded with zeros to a multiple of 4. Raises FormatError."""
        body = self.body + bytes(-len(self.body) % 4)
        size = _HEADER.size + len(body)
        if size > MAX_ACE_BYTES or not 0 <= self.type <= 0xFF or not 0 <= self.flags <= 0xFF:
            raise FormatError(f"ACE of type {self.type:#x} and {size} bytes does not fit")
        return _HEADER.pack(self.type, self.flags, size) + body


def parse_ace(data: bytes, start: int, end: int, *, at: int = 0) -> tuple[Ace | OpaqueAce, int]:
    """The ACE at `start` of `data`, which may reach to `end`, and where the next one starts.

    `at` is where `data` starts; errors report it. Raises FormatError for an ACE that reaches
    over `end`, a size that is no multiple of 4, and one that is smaller than its parts.
    """
    if end - start < _HEADER.size:
        raise FormatError("ACE header outside its ACL", offset=at + start)
    number, flags, size = _HEADER.unpack_from(data, start)
    stop = start + size
    if size < _HEADER.size or size % 4:
        raise FormatError(f"ACE size {size} is impossible", offset=at + start + 2)
    if stop > end:
        raise FormatError(f"ACE of {size} bytes reaches outside its ACL", offset=at + start + 2)
    kind = _TYPES[number] if number < len(_TYPES) else None
    if kind is None:
        body = data[start + _HEADER.size : stop]
        return OpaqueAce(type=number, flags=flags, body=body), stop
    if _IS_OBJECT[number]:
        return _parse_object(kind, data, start, stop, at), stop
    if size < _PLAIN.size + 8:
        raise FormatError(f"ACE of {size} bytes has no room for its SID", offset=at + start + 2)
    mask = int.from_bytes(data[start + 4 : start + 8], "little")
    place = start + 8
    sid, taken = Sid.parse(data[place:stop], at=at + place)
    return Ace(type=kind, flags=flags, mask=mask, sid=sid, data=data[place + taken : stop]), stop


def _parse_object(kind: AceType, data: bytes, start: int, stop: int, at: int) -> Ace:
    """An object ACE: GUIDs that its object flags promise, then the SID."""
    from uuid import UUID

    place = start + _OBJECT.size
    if place > stop:
        raise FormatError("object ACE has no room for its flags", offset=at + start + 2)
    _, flags, size, mask, object_flags = _OBJECT.unpack_from(data, start)
    guids: list[UUID | None] = []
    for bit in (_OBJECT_TYPE_PRESENT, _INHERITED_OBJECT_TYPE_PRESENT):
        if not object_flags & bit:
            guids.append(None)
            continue
        if place + 16 > stop:
            raise FormatError(f"ACE of {size} bytes cuts its GUID off", offset=at + place)
        guids.append(UUID(bytes_le=data[place : place + 16]))
        place += 16
    sid, taken = Sid.parse(data[place:stop], at=at + place)
    return Ace(
        type=kind,
        flags=flags,
        mask=mask,
        sid=sid,
        object_type=guids[0],
        inherited_object_type=guids[1],
        object_flags=object_flags & ~_GUIDS_PRESENT,
        data=data[place + taken : stop],
    )
